# One secret at a time: reading, storing, describing, renaming; and the list of all.

#' Read one secret
#'
#' Reads the current value of a secret of the person who runs the code. No value is remembered and nothing
#' is open between calls (the vault's keys are remembered, see [dkuLock()]); a read takes about a tenth of a millisecond, however many secrets there are.
#'
#' @param name The secret's name: one string of 1 to 255 characters without control characters.
#'   Names are compared after Unicode normalisation (NFC, UAX #15), with upper and lower case apart.
#' @returns The value: one string in UTF-8, of 0 to 1,048,576 bytes (1 MiB), exactly as it was stored.
#' @section Expired secrets:
#' The value of an expired secret is still returned, with a warning of class
#' `dkusecrets_warning_expired` (fields `name` and `expires`). With
#' `options(dkusecrets.expired = "error")` it is an error of class `dkusecrets_error_expired` instead; any other value of
#' that option but `"warning"` is refused when it would matter.
#' @section Errors:
#' * `dkusecrets_error_not_found`: no such secret. Its field `close` holds up to three similar names,
#'   `removed` says whether [dkuRestoreSecret()] can bring it back.
#' * `dkusecrets_error_invalid_name`: a name that no secret can have.
#' * Those of every function that opens a vault: see [dkusecrets-errors].
#' @seealso [dkuGetAuthInfo()] for all secrets at once, as DSS gives them.
#' @example man/roxygen/scratch-begin.R
#' @examples
#' dkuSetSecret("api-key", "s3cret")
#' key <- dkuGetSecret("api-key")
#'
#' # A handler for a secret that may be missing
#' tryCatch(
#'   dkuGetSecret("api-kex"),
#'   dkusecrets_error_not_found = function(cnd) cnd$close
#' )
#' @example man/roxygen/scratch-end.R
#' @export
dkuGetSecret <- function(name) {
  # An ASCII name in an embedded vault needs no help from R: it is checked and read in one call, and NULL means look
  # closer.
  found <- if (!missing(name) && is.null(the$remote) && is_bare_string(name)) rust_get_ascii(name)
  if (is.character(found)) {
    return(found)
  }
  if (is.null(found)) {
    name <- check_name(name)
    found <- perform("get", name = name)
  } else {
    # Here and not around the call, which takes a microsecond less: no failure is a string.
    found <- if (is_busy(found)) unwrap(rust_get_ascii(name)) else unwrap(found)
  }
  if (is.character(found)) {
    return(found)
  }
  # Of an expired one: the value, and the last day it was good.
  warn_expired(name, found$expired)
  found$value
}

#' Store a secret
#'
#' Stores a value under a name, encrypted. The first call creates the vault. Storing under a name
#' that is taken makes a new version; [dkuRestoreSecret()] brings an older one back. The name of a removed
#' secret begins anew, without the old description; its versions are counted on and can still be restored.
#'
#' Without `value` it asks, without showing what is typed: in a terminal, in RStudio and in a Jupyter
#' notebook. That is the safest way: what stands in a script or a console's history is not a secret any
#' more. In scripts, read the value from somewhere:
#'
#' ```r
#' dkuSetSecret("api-key", readLines("stdin", 1))                             # one line of standard input
#' dkuSetSecret("ssh-key", paste0(readLines("id_ed25519"), "\n", collapse = "")) # a file
#' ```
#'
#' Errors never show the value, and their calls show no arguments. R's own `traceback()` does show
#' the arguments of a call: another reason not to write a value there.
#'
#' @inheritParams dkuGetSecret
#' @param value The value: one string of at most 1,048,576 bytes (1 MiB) in UTF-8, kept byte for byte;
#'   an empty string is a value too. Latin-1 text is converted to UTF-8. Asked for if missing; what is
#'   typed must not be empty.
#' @param description What it is for: one string of at most 1,000 characters, encrypted as well.
#'   `NULL` keeps the description there is, `""` removes it.
#' @param expires The last day the value is good (UTC): a `Date`, or a string such as `"2031-12-31"`.
#'   With `NULL` or `NA` the new value does not expire, whatever the one before did.
#' @param if_version The version, one whole number, that the secret must be at, so that nobody's
#'   change in between is overwritten; 0 for a secret that must not exist yet.
#' @param ... Nothing: a misspelt argument ends here, and not in an error of R's own that would show its value.
#' @returns The number of the new version, counted from 1, invisibly.
#' @section Errors:
#' * `dkusecrets_error_invalid_name`, `dkusecrets_error_invalid_value`,
#'   `dkusecrets_error_invalid_argument`: an argument that cannot be; the message never holds the value.
#' * `dkusecrets_error_conflict`: the secret is not at `if_version`. Fields `expected` and `found`.
#' * `dkusecrets_error_no_prompt`: `value` is missing and nobody can be asked.
#' * `dkusecrets_error_cancelled`: nothing was typed.
#' * Those of every function that opens a vault: see [dkusecrets-errors].
#'
#' After any of them the vault is as it was.
#' @seealso [dkuDescribeSecret()] changes description and expiry without the value.
#' @example man/roxygen/scratch-begin.R
#' @examples
#' dkuSetSecret("api-key", "s3cret", description = "Weather service", expires = Sys.Date() + 90)
#'
#' # Replace it, unless someone else was faster
#' version <- dkuListSecrets()$version[[1]]
#' dkuSetSecret("api-key", "n3w", if_version = version)
#' dkuListSecrets()
#' @example man/roxygen/scratch-end.R
#' @export
dkuSetSecret <- function(name, value, description = NULL, expires = NULL, if_version = NULL, ...) {
  check_no_more(...)
  # As in dkuGetSecret(): a name and a value of ASCII for an embedded vault, and nothing else, go to Rust as they are, which
  # saves a twentieth of a write; NULL means look closer.
  bare <- !missing(name) && !missing(value) && is.null(description) && is.null(expires) && is.null(if_version)
  if (bare && is.null(the$remote) && is_bare_string(name) && is_bare_string(value)) {
    version <- unwrap(rust_set_ascii(name, value))
    if (!is.null(version)) {
      return(invisible(version))
    }
  }
  name <- check_name(name)
  description <- or_null(description, check_string, "description")
  expires <- or_null(expires, check_date, "expires")
  if_version <- or_null(if_version, check_count, "if_version")
  value <- check_value(if (missing(value)) ask_value(name, call = sys.call()) else value)
  version <- perform(
    "set", name = name, value = value, description = description, expires = expires, if_version = if_version
  )
  invisible(version)
}

ask_value <- function(name, call) {
  otherwise <- sprintf(
    c(
      "dkuSetSecret(%s, readLines(\"stdin\", 1)) takes a line of standard input",
      "dkuSetSecret(%s, paste(readLines(\"<file>\"), collapse = \"\\n\")) takes a file"
    ),
    quoted(name)
  )
  ask(sprintf("Value of the secret %s: ", quoted(name)), otherwise, call)
}

#' List secrets
#'
#' Lists secrets with everything about them but their values. No value is decrypted for it.
#'
#' @param removed `TRUE` or `FALSE`: whether to list secrets too that were removed and can still be
#'   brought back by [dkuRestoreSecret()].
#' @returns A data frame with a row for each secret, sorted by name:
#' * `name`, `description`: strings; an empty description for none.
#' * `version`: the number of the current version, counted from 1.
#' * `created`, `updated`: when the secret was first stored, and when anything about it last changed:
#'   `POSIXct` in UTC, to the millisecond.
#' * `expires`: `Date`, the last day (UTC) its value is good; `NA` for no such day.
#' * `removed`: with `removed = TRUE` only: `POSIXct` in UTC, when it was removed; `NA` for a secret
#'   that is there.
#'
#' Without secrets it has no rows and the same columns. Printed, a date that is over says so.
#' @section Errors:
#' Those of every function that opens a vault: see [dkusecrets-errors].
#' @seealso [dkuSecretVersions()] for the history of one.
#' @example man/roxygen/scratch-begin.R
#' @examples
#' dkuListSecrets()
#' dkuSetSecret("api-key", "s3cret", description = "Weather service", expires = "2031-12-31")
#' dkuListSecrets()
#' @example man/roxygen/scratch-end.R
#' @export
dkuListSecrets <- function(removed = FALSE) {
  check_flag(removed, "removed")
  all <- perform("list")
  if (!removed) {
    all <- lapply(all, `[`, is.na(all$removed))
    all$removed <- NULL
  }
  times <- intersect(c("created", "updated", "removed"), names(all))
  all[times] <- lapply(all[times], utc)
  all$expires <- structure(all$expires, class = "Date")
  data_frame(all, class = "dkusecrets_list")
}

#' @export
print.dkusecrets_list <- function(x, ...) {
  if (nrow(x) == 0) {
    cat("<no secrets in this list; dkuSetSecret() stores one>\n")
  } else {
    shown <- structure(x, class = "data.frame")
    times <- vapply(shown, inherits, NA, "POSIXct")
    shown[times] <- lapply(shown[times], format, "%Y-%m-%d %H:%M")
    if (inherits(shown$expires, "Date")) {
      expired <- !is.na(shown$expires) & shown$expires < as.Date(utc(as.double(Sys.time())))
      shown$expires <- ifelse(is.na(shown$expires), "", paste0(format(shown$expires), ifelse(expired, " (expired)", "")))
    }
    texts <- vapply(shown, is.character, NA)
    shown[texts] <- lapply(shown[texts], undirected)
    print(shown, ..., row.names = FALSE, right = FALSE, na.print = "")
  }
  invisible(x)
}

#' Describe or rename a secret
#'
#' Changes what is known about a secret. Its value is not decrypted for it and no new version is made.
#'
#' @inheritParams dkuSetSecret
#' @param description What it is for: one string of at most 1,000 characters. Left out, it stays;
#'   `NULL`, `NA` or `""` removes it.
#' @param expires The last day the current value is good (UTC): a `Date`, or a string such as
#'   `"2031-12-31"`. Left out, it stays; with `NULL` or `NA` the value does not expire.
#' @returns `NULL`, invisibly.
#' @section Errors:
#' * `dkusecrets_error_not_found`: no such secret.
#' * `dkusecrets_error_exists`: the new name is taken, by another secret or, with the field `removed`
#'   being `TRUE`, by a removed one that can still be brought back.
#' * `dkusecrets_error_invalid_name`, `dkusecrets_error_invalid_argument`: an argument that cannot be.
#' * Those of every function that opens a vault: see [dkusecrets-errors].
#' @example man/roxygen/scratch-begin.R
#' @examples
#' dkuSetSecret("api-key", "s3cret")
#' dkuDescribeSecret("api-key", description = "Weather service", expires = Sys.Date() + 90)
#' dkuDescribeSecret("api-key", expires = NULL)
#' dkuRenameSecret("api-key", "weather-key")
#' dkuListSecrets()
#' @example man/roxygen/scratch-end.R
#' @export
dkuDescribeSecret <- function(name, description, expires) {
  name <- check_name(name)
  description <- if (!missing(description)) {
    if (is.null(description) || is_na(description)) "" else check_string(description, "description")
  }
  expires <- if (!missing(expires)) check_date(expires %||% NA, "expires")
  perform("describe", name = name, description = description, expires = expires)
  invisible()
}

#' @rdname dkuDescribeSecret
#' @param new_name The name it gets, as for `name`. Its versions and its history go with it. Code that
#'   asks for the old name no longer finds it.
#' @export
dkuRenameSecret <- function(name, new_name) {
  name <- check_name(name)
  new_name <- check_name(new_name)
  perform("rename", name = name, new_name = new_name)
  invisible()
}

# Seconds since 1970 as a time.
utc <- function(seconds) {
  structure(seconds, class = c("POSIXct", "POSIXt"), tzone = "UTC")
}

# data.frame() of columns that need no checks.
data_frame <- function(columns, class = NULL) {
  structure(columns, row.names = .set_row_names(length(columns[[1]])), class = c(class, "data.frame"))
}
