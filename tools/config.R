# Writes src/Makevars from src/Makevars.in. The one signal: a src/rust/vendor.tar.xz, which only a
# source tarball has (tools/dist.sh), makes the build offline, private and cleaned up afterwards.
# Without it, crates come from the user's own cargo cache and src/rust/target is kept.

source("tools/msrv.R")

offline <- file.exists("src/rust/vendor.tar.xz")
checking <- nzchar(Sys.getenv("_R_CHECK_PACKAGE_NAME_"))

values <- c(
  OFFLINE = if (offline) "yes" else "no",
  # CRAN allows two cores.
  JOBS = if (offline || checking) "-j 2" else "",
  # -S: without debug symbols. On Linux, also without the code nobody calls, and with SQLite's
  # symbols hidden, so that another SQLite in the process is never called instead of ours.
  LINK = if (Sys.info()[["sysname"]] == "Linux") {
    "-Wl,-S -Wl,--gc-sections -Wl,--exclude-libs,ALL"
  } else {
    "-Wl,-S"
  }
)

lines <- readLines("src/Makevars.in")
for (name in names(values)) {
  lines <- gsub(paste0("@", name, "@"), values[[name]], lines, fixed = TRUE)
}
writeLines(lines, "src/Makevars")
message("Crates: ", if (offline) "from src/rust/vendor.tar.xz" else "from the cargo cache or crates.io")
