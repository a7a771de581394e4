# Checks that NAMESPACE and man/ are what roxygen2 makes of the R files, working on a copy. Needs
# the package installed. With a file name as argument writes one line per file there for
# tools/count.py; R/extendr-wrappers.R has its test in src/rust/bindings.

results <- commandArgs(trailingOnly = TRUE)

noted <- read.dcf("DESCRIPTION", "RoxygenNote")[[1]]
found <- as.character(utils::packageVersion("roxygen2"))

copy <- file.path(tempdir(), "generated")
dir.create(copy)
invisible(file.copy(c("DESCRIPTION", "NAMESPACE", "R", "man"), copy, recursive = TRUE))

lines <- if (found != noted) {
  sprintf("skipped\tNAMESPACE and man/\tmade by roxygen2 %s, this is %s", noted, found)
} else {
  suppressMessages(invisible(capture.output(
    roxygen2::roxygenise(copy, load_code = "installed")
  )))
  pages <- union(dir("man", "[.]Rd$"), dir(file.path(copy, "man"), "[.]Rd$"))
  files <- c("NAMESPACE", file.path("man", sort(pages)))
  text <- function(path) if (file.exists(path)) readLines(path) else ""
  vapply(files, FUN.VALUE = "", function(file) {
    if (identical(text(file), text(file.path(copy, file)))) {
      paste0("passed\t", file, "\t")
    } else {
      paste0("failed\t", file, "\tstale: run `make document`")
    }
  })
}

if (length(results)) {
  writeLines(lines, results)
}
bad <- grep("^failed", lines, value = TRUE)
writeLines(gsub("\t", " ", bad))
quit(status = as.integer(length(bad) > 0))
