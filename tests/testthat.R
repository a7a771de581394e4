# Runs the tests under R CMD check; `make test` runs them and the other suites.
library(testthat)
library(dkusecrets)

test_check("dkusecrets")
