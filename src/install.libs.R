# What is installed from here: the shared library, as R would do by itself, and the program `dkusecrets`, into bin.

install <- function(files, folder) {
  target <- file.path(R_PACKAGE_DIR, folder)
  dir.create(target, recursive = TRUE, showWarnings = FALSE)
  if (!all(file.copy(files, target, overwrite = TRUE))) {
    stop("cannot copy ", paste(files, collapse = ", "), " to ", target)
  }
}

install(Sys.glob(paste0("*", SHLIB_EXT)), if (nzchar(R_ARCH)) paste0("libs", R_ARCH) else "libs")

# An offline build keeps nothing else of what cargo made.
program <- Filter(file.exists, c("program/dkusecrets", "rust/target/release/dkusecrets"))
install(program[[1]], "bin")
Sys.chmod(file.path(R_PACKAGE_DIR, "bin", "dkusecrets"), "0755", use_umask = FALSE)
