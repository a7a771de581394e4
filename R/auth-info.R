# dkuGetAuthInfo(): who runs this code, and his secrets, in the shape that DSS gives them.

#' Who runs this code, with their secrets
#'
#' The documented way to read a secret in DSS code. A recipe, a notebook or a plugin recipe that
#' reads secrets with the snippet of the DSS documentation runs unchanged:
#'
#' ```r
#' auth_info = dkuGetAuthInfo(with_secrets = TRUE)
#'
#' # Find the correct secret
#' secret <- auth_info$secrets[lapply(auth_info$secrets, function(d) { d$key == "credential-for-my-api"}) == TRUE]
#' secret_value <- secret[[1]]$value
#' ```
#'
#' [dkuGetSecret()] does the same in one call.
#'
#' @section What is shown:
#' A value is shown only after it was taken out with `$value` (or `[["value"]]`): it is a plain
#' string then. Printing, formatting, `str()`, `summary()`, `as.character()`, `toString()`,
#' `unlist()` and the output of notebooks show names in place of values, for the whole, for parts of
#' it, and for these in lists and data frames. `[`, `[[`, `$`, `length()`, `lapply()` and its family
#' work as on plain lists.
#'
#' Functions that look at how an object is built still find the values: `dput()`, `deparse()`,
#' `unclass()`, `saveRDS()`, `save()`, `do.call(rbind.data.frame, secrets)`; and of a plain list *around* secrets `as.character()`, `paste()`,
#' `toString()` and `unlist()`, and `format()` if the list lies in another list. What goes through the
#' fields of a secret finds its value, as it should: `lapply(secret, identity)`, `rapply()`, `sapply()`.
#'
#' @section Expired secrets:
#' An expired secret is still among them. Each one gives a warning of class
#' `dkusecrets_warning_expired`, once per session for the same name and date, since this function
#' reads secrets the code may not be about. With `options(dkusecrets.expired = "error")` the first
#' one ends in an error of class `dkusecrets_error_expired` instead, each time.
#'
#' @param with_secrets `TRUE` or `FALSE`: whether to read the secrets too.
#' @returns A list of class `dkusecrets_auth_info`:
#' * `authIdentifier`: the login, one string. It belongs to the effective user id of the process, as
#'   the operating system knows it; environment variables such as `USER` are not looked at. A user id
#'   without an account gives `"uid-<number>"`.
#' * `authSource`: `"OS_USER"`, as the operating system vouches for the identity. DSS has other
#'   sources, such as `"PERSONAL_API_KEY"`.
#' * `associatedDSSUser`: the same login; in DSS, the user that an API key belongs to.
#' * `groups`: an empty list. Groups are DSS's; a vault of one person has none.
#' * From a server, these as it gives them, and others it may add: see [dkuSetRemoteDSS()].
#' * `secrets`: only with `with_secrets = TRUE`. A list, empty if there are none, with one list for
#'   each secret, sorted by name: `key`, the name, and `value`, one string in UTF-8 of at most 1 MiB.
#' @section Errors:
#' Taking a secret out of an empty selection, as the snippet does for a name that is not there, ends
#' in `dkusecrets_error_not_found`. Otherwise see [dkusecrets-errors].
#' @seealso [dkuGetSecret()], [dkuListSecrets()] for everything but the values.
#' @example man/roxygen/scratch-begin.R
#' @examples
#' dkuSetSecret("credential-for-my-api", "s3cret")
#'
#' auth_info <- dkuGetAuthInfo(with_secrets = TRUE)
#' auth_info
#'
#' secret <- auth_info$secrets[lapply(auth_info$secrets, function(d) {
#'   d$key == "credential-for-my-api"
#' }) == TRUE]
#' secret_value <- secret[[1]]$value
#' nchar(secret_value)
#' @example man/roxygen/scratch-end.R
#' @export
dkuGetAuthInfo <- function(with_secrets = FALSE) {
  check_flag(with_secrets, "with_secrets")
  from <- source_now()
  if (!is.null(from)) {
    return(auth_info_of_server(from, with_secrets, sys.call()))
  }
  login <- os_login()
  info <- list(authIdentifier = login, authSource = "OS_USER", associatedDSSUser = login, groups = list())
  if (with_secrets) {
    all <- unwrap(rust_get_all())
    for (i in seq_along(all$expired)) {
      warn_expired(all$expired[[i]], all$expires[[i]], once = TRUE)
    }
    info$secrets <- all$secrets
  }
  structure(info, class = c("dkusecrets_auth_info", "dkusecrets_redacted"))
}

# Of a server. Which secrets are expired only our own knows, and DSS's answer has no room for it.
auth_info_of_server <- function(from, with_secrets, call) {
  info <- remote_auth_info(from, with_secrets, call)
  if (with_secrets && !is.na(server_version(from, call))) {
    all <- remote(from, "list", list(), call)
    today <- as.double(Sys.time()) %/% 86400
    for (i in which(is.na(all$removed) & all$expires < today)) {
      warn_expired(all$name[[i]], all$expires[[i]], once = TRUE, call = call)
    }
  }
  info
}

# The login of the effective user id. `account` is what the system's list of accounts says.
os_login <- function(account = Sys.info()[["effective_user"]]) {
  if (account == "unknown") paste0("uid-", unwrap(rust_effective_user())) else account
}

#' @export
`[.dkusecrets_auth_info` <- function(x, i) {
  structure(NextMethod(), class = class(x))
}

#' @export
`[.dkusecrets_secret` <- function(x, i) {
  structure(NextMethod(), class = class(x))
}

# An empty selection knows the names it was made from, for what `[[` has to say about it.
#' @export
`[.dkusecrets_secrets` <- function(x, i) {
  selected <- NextMethod()
  class(selected) <- class(x)
  if (length(selected) == 0) {
    attr(selected, "all_keys") <- all_keys(x)
  }
  selected
}

# What is not there ends in an error that says so: beyond the end, by a name (the secrets have none, it is a
# mistake for `$key`), or by nothing, as in `[[which(...)]]`.
#' @export
`[[.dkusecrets_secrets` <- function(x, i, exact = TRUE) {
  absent <- length(i) == 0 || (length(i) == 1 && !is.na(i) &&
    if (is.character(i)) !i %in% names(x) else is.numeric(i) && i > length(x))
  if (absent && is.character(i) && i %in% all_keys(x)) {
    message <- sprintf("secrets are not found by name here: they are a list without names\n  dkuGetSecret(%s) reads it", quoted(i))
    abort_dku("not_found", message, call = NULL)
  }
  if (absent) {
    selected <- if (is.numeric(i) && length(i) == 1) length(x) else 0
    abort_dku("not_found", no_such_secret(selected, all_keys(x)), call = NULL)
  }
  NextMethod()
}

# Without the class lapply() need not come back to `[[` for each secret.
#' @export
as.list.dkusecrets_secrets <- function(x, ...) {
  x <- unclass(x)
  attr(x, "all_keys") <- NULL
  x
}

all_keys <- function(x) {
  attr(x, "all_keys", exact = TRUE) %||%
    vapply(as.list(x), function(secret) secret[["key"]] %||% "", "")
}

no_such_secret <- function(found, keys, show = 10) {
  if (found > 0) {
    return(sprintf(if (found == 1) "there is only %d secret here" else "there are only %d secrets here", found))
  }
  if (length(keys) == 0) {
    return("no secret matched: the vault holds none yet\n  dkuSetSecret(\"<name>\") stores one")
  }
  more <- if (length(keys) > show) sprintf(" and %d more", length(keys) - show) else ""
  paste0(
    "no secret matched; there are: ", paste(quoted(utils::head(keys, show)), collapse = ", "), more,
    "\n  dkuSetSecret(\"<name>\") stores the one that is missing"
  )
}
