# Looks for cargo and rustc and compares rustc's version with DESCRIPTION's SystemRequirements.

local({
  # Where rustup installs them; R started from a desktop has not read the shell's profile.
  path <- paste(Sys.getenv("PATH"), path.expand("~/.cargo/bin"), sep = ":")
  Sys.setenv(PATH = path)

  needed <- read.dcf("DESCRIPTION", "SystemRequirements")[[1]]
  needed <- sub(".*rustc *>= *([0-9.]+).*", "\\1", needed)

  version <- function(program) {
    if (!nzchar(Sys.which(program))) {
      stop(
        program, " was not found.\n",
        "dkusecrets needs Rust ", needed, " or newer: https://www.rust-lang.org/tools/install",
        call. = FALSE
      )
    }
    system2(program, "--version", stdout = TRUE)
  }
  cargo <- version("cargo")
  rustc <- version("rustc")
  found <- sub("^rustc ([0-9.]+).*", "\\1", rustc)
  if (utils::compareVersion(found, needed) < 0) {
    stop(
      "rustc ", found, " is too old.\n",
      "dkusecrets needs Rust ", needed, " or newer: `rustup update stable` brings it.",
      call. = FALSE
    )
  }
  # CRAN wants both in the installation's log.
  message("Using ", cargo, "\nUsing ", rustc)
})
