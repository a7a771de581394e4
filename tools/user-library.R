# Makes the user's own R library where the system's is not writable: R CMD INSTALL does not.

if (file.access(.libPaths()[[1]], 2) != 0) {
  own <- strsplit(Sys.getenv("R_LIBS_USER"), .Platform$path.sep, fixed = TRUE)[[1]][1]
  message("Making your own R library: ", own)
  dir.create(own, recursive = TRUE, showWarnings = FALSE)
}
