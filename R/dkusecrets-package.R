# The package's help page and the state of the session.

#' @section Where to begin:
#' `vignette("dkusecrets")` takes ten minutes. [dkuSetSecret()] stores a secret, [dkuGetAuthInfo()] reads
#' all of them as DSS code does, [dkuGetSecret()] reads one, and [dkuVaultInfo()] says where and how the
#' vault is.
#'
#' @section Settings:
#' * The environment variable `DKUSECRETS_HOME`: an absolute path (or one that begins with `~/`) of a directory that exists, for the
#'   vault to lie in. See [dkuVaultInfo()].
#' * Environment variables that choose a server instead, `DKUSECRETS_SOCKET` and others: see [dkuSetRemoteDSS()], also for
#'   the options `dkusecrets.timeout` and `dkusecrets.curl`.
#' * The option `dkusecrets.expired`: `"error"` makes it an error to read an expired secret, `"warning"`
#'   (the default) a warning. See [dkuGetSecret()].
#' * The option `askpass`: a function that asks for a value or a passphrase, as of the askpass package.
#'
#' @keywords internal
"_PACKAGE"

# What is kept for the life of the R process, and nowhere else.
the <- new.env(parent = emptyenv())
# What dkuSetRemoteDSS() chose, NULL for nothing: see R/source.R.
the$remote <- NULL
# The version of each server that was asked, NA for a DSS: see R/remote.R.
the$servers <- character()
# The curl handle of each process, its own and those before it that forked: see R/connection.R.
the$handles <- list()
# When the request that is under way began, in seconds.
the$asked <- 0
# Expired secrets that dkuGetAuthInfo() has warned of: see R/expiry.R.
the$warned <- character()

# Versions of the Rust side, for bug reports.
about <- function() {
  unwrap(rust_about())
}
