# A package named `dataiku`, for code that begins with library(dataiku).

#' Make `library(dataiku)` work
#'
#' DSS code in R begins with `library(dataiku)`. Where Dataiku's own package of that name is not installed, this function installs
#' a tiny one, which passes these functions on and holds nothing else: [dkuGetAuthInfo()],
#' [dkuGetAuthInfoFromBrowserHeaders()], [dkuGetAuthInfoFromRookRequest()], [dkuGetTicketFromBrowserHeaders()],
#' [dkuImpersonateShinyCalls()], [dkuSetRemoteDSS()].
#'
#' It can be installed again, over itself, and `remove.packages("dataiku", lib)` removes it.
#'
#' @param lib The library to install it in: one string, the path of a directory that exists, such as `.libPaths()[1]`.
#' @returns The path it was installed at, invisibly. A message says what was done.
#' @section Errors:
#' * `dkusecrets_error_exists`: another package named `dataiku` is in that library; it was left alone.
#' * `dkusecrets_error_path`: there is no such directory.
#' * `dkusecrets_error_io`: R could not install it; the message holds R's own.
#' @examples
#' lib <- tempfile()
#' dir.create(lib)
#' dkuInstallShim(lib)
#'
#' \dontrun{
#' library(dataiku, lib.loc = lib)
#' }
#' @export
dkuInstallShim <- function(lib) {
  lib <- check_string(if (!missing(lib)) lib, "lib")
  if (!dir.exists(lib)) {
    abort_dku("path", paste(lib, "is not a directory: `lib` must be a library of R packages"))
  }
  there <- file.path(normalizePath(lib), "dataiku")
  if (file.exists(there) && !is_shim(there)) {
    abort_dku("exists", paste0("another package named dataiku is at ", there, "\n  it was left alone: library(dataiku) loads it"))
  }
  hides <- Filter(function(path) path != there && !is_shim(path), find_package("dataiku"))
  install_source(shim_source(), dirname(there))
  message(
    "Installed at ", there, ": a package named dataiku that passes calls on to dkusecrets",
    if (length(hides)) paste("\nAnother package of that name is at", paste(hides, collapse = ", ")),
    "\nremove.packages(\"dataiku\", \"", dirname(there), "\") removes it"
  )
  invisible(there)
}

# What the shim passes on: DSS's own names.
shim_exports <- c(
  "dkuGetAuthInfo", "dkuGetAuthInfoFromBrowserHeaders", "dkuGetAuthInfoFromRookRequest",
  "dkuGetTicketFromBrowserHeaders", "dkuImpersonateShinyCalls", "dkuSetRemoteDSS"
)

is_shim <- function(path) {
  description <- file.path(path, "DESCRIPTION")
  file.exists(description) && "Config/dkusecrets/shim" %in% colnames(read.dcf(description))
}

find_package <- function(name) {
  paths <- file.path(.libPaths(), name)
  paths[file.exists(paths)]
}

# The directory of the shim's source.
shim_source <- function() {
  source <- file.path(tempfile("shim"), "dataiku")
  dir.create(source, recursive = TRUE)
  version <- getNamespaceVersion("dkusecrets")
  writeLines(c(
    "Package: dataiku",
    "Title: Passes Calls of 'Dataiku DSS' Code on to 'dkusecrets'",
    paste("Version:", version),
    "Author: dkusecrets authors",
    "Maintainer: dkusecrets authors <dkusecrets@example.org>",
    "Description: Written by dkusecrets::dkuInstallShim(). It is not Dataiku's package of",
    "    that name and holds no code of theirs.",
    "License: MIT",
    paste0("Imports: dkusecrets (>= ", version, ")"),
    "Config/dkusecrets/shim: yes"
  ), file.path(source, "DESCRIPTION"))
  names <- paste(shim_exports, collapse = ", ")
  writeLines(c(
    sprintf("importFrom(dkusecrets, %s)", names),
    sprintf("export(%s)", names)
  ), file.path(source, "NAMESPACE"))
  source
}

install_source <- function(source, lib, call = sys.call(-1)) {
  on.exit(unlink(dirname(source), recursive = TRUE))
  # The R that installs must find this package where it was loaded from.
  own <- dirname(getNamespaceInfo("dkusecrets", "path"))
  paths <- paste(unique(c(own, .libPaths())), collapse = .Platform$path.sep)
  said <- suppressWarnings(system2(
    file.path(R.home("bin"), "R"),
    c("CMD", "INSTALL", "--no-docs", paste0("--library=", shQuote(lib)), shQuote(source)),
    stdout = TRUE, stderr = TRUE, env = paste0("R_LIBS=", shQuote(paths))
  ))
  if (!is.null(attr(said, "status"))) {
    abort_dku("io", paste(c(paste("R could not install it in", lib), said), collapse = "\n  "), call = call)
  }
}
