# What a server wrote down about the use of secrets.

#' Who used your secrets
#'
#' What the server wrote down about the use of your secrets, in the order the server gives. It
#' holds names, never values.
#'
#' @param limit How many events to get at most: one whole number, 1 or more.
#' @returns A data frame with a row for each event:
#' * `seq`: its number; `time`: `POSIXct` in UTC, to the millisecond.
#' * `who`: the login that asked; `behalf`: the login it asked for, `NA` for itself; `from`: from where.
#' * `action`, `outcome`: what was asked, and how it ended, one word each.
#' * `names`: a list of character vectors, the secrets it was about.
#' * `claims`: a list of lists, what is only known because the caller said so, such as the name of a project.
#' @section Errors:
#' * `dkusecrets_error_unsupported`: an embedded vault keeps the secrets, which writes nothing down, or a Dataiku DSS, which
#'   keeps that for its administrators.
#' * Those of a server: see [dkusecrets-errors].
#' @example man/roxygen/scratch-begin.R
#' @examples
#' tryCatch(
#'   dkuAuditLog(limit = 10),
#'   dkusecrets_error_unsupported = function(cnd) "only with a server"
#' )
#' @example man/roxygen/scratch-end.R
#' @export
dkuAuditLog <- function(limit = 1000) {
  limit <- check_count(limit, "limit", min = 1)
  from <- check_server()
  if (is.na(server_version(from, sys.call()))) {
    unwrap(dss_failure(from))
  }
  answer <- request(from, "GET", sprintf("/dkusecrets/v1/audit?limit=%.0f", limit))
  data_frame(understood(from, answer, events_table, sys.call()))
}
