# Runs the R tests against the installed package and writes one line a test for tools/count.py:
#   Rscript tools/test.R <file>
# A test that warns fails: a warning nobody expected, or a snapshot that is not checked in.

results <- testthat::test_dir(
  "tests/testthat",
  package = "dkusecrets", load_package = "installed", stop_on_failure = FALSE
)

line <- function(test) {
  is <- function(what) {
    Filter(function(r) inherits(r, paste0("expectation_", what)), test$results)
  }
  bad <- c(is("failure"), is("error"), is("warning"))
  skipped <- is("skip")
  found <- c(bad, skipped)
  reason <- if (length(found)) gsub("[[:space:]]+", " ", conditionMessage(found[[1]])) else ""
  status <- if (length(bad)) "failed" else if (length(skipped)) "skipped" else "passed"
  paste(status, paste0(test$file, ": ", test$test), reason, sep = "\t")
}

lines <- vapply(results, line, "")
writeLines(lines, commandArgs(trailingOnly = TRUE)[[1]])
quit(status = as.integer(any(startsWith(lines, "failed"))))
