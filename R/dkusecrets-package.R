# The package's help page and the state of the session.

#' @keywords internal
"_PACKAGE"

# What is kept for the life of the R process, and nowhere else.
the <- new.env(parent = emptyenv())
# Expired secrets that dkuGetAuthInfo() has warned of: see R/expiry.R.
the$warned <- character()

# Versions of the Rust side, for bug reports.
about <- function() {
  unwrap(rust_about())
}
