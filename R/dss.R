# What web applications ask a server about their viewers: the rest of DSS's family. An embedded vault has no viewers.

#' The viewer of a web application, with their secrets
#'
#' In a web application that a server runs, the viewer's browser sends its session cookie with each request. With the
#' headers of that request, the server says who the viewer is and what the viewer's secrets are, if its owner allows the
#' application that: with a dkusecrets server, by `dkusecrets rule allow-headers` and the login that the application runs as, or the
#' id of its API key. Each use is in the viewer's log ([dkuAuditLog()]). Browsers send the session to what is under the same host name
#' as the server's page, at any port.
#'
#' * `dkuGetAuthInfoFromBrowserHeaders()` takes the headers, `dkuGetAuthInfoFromRookRequest()` a request as Shiny has it in
#'   `session$request`.
#' * `dkuGetTicketFromBrowserHeaders()` gets a ticket, with which calls are made as the viewer for a while.
#' * `dkuImpersonateShinyCalls()` evaluates an expression with such a ticket: every function of this package is the viewer's
#'   in it. What the expression leaves for later, such as a promise, is the application's again; and an expression
#'   that lets other sessions run meanwhile, as `later::run_now()` does, lets them run as this viewer.
#'
#' @param headers_dict The headers of the viewer's request: a named list of strings, or a named character vector.
#' @param with_secrets `TRUE` or `FALSE`: whether to read the viewer's secrets too.
#' @param request A Rook request: an environment or a list in which `HTTP_X_FOO` is the header `x-foo`.
#' @param expr An expression, evaluated where it stands.
#' @returns
#' * `dkuGetAuthInfoFromBrowserHeaders()`, `dkuGetAuthInfoFromRookRequest()`: a list as [dkuGetAuthInfo()] gives it, of the viewer.
#' * `dkuGetTicketFromBrowserHeaders()`: one string. Whoever has it can act as the viewer.
#' * `dkuImpersonateShinyCalls()`: the value of `expr`.
#' @section Errors:
#' * `dkusecrets_error_unsupported`: an embedded vault keeps the secrets, which knows no viewers.
#' * `dkusecrets_error_not_authenticated`: nobody is logged in with those headers.
#' * `dkusecrets_error_not_allowed`: the application may not ask that.
#' * `dkusecrets_error_invalid_argument`: headers or a request that cannot be. The message never holds them.
#' * Those of a server: see [dkusecrets-errors].
#' @seealso [dkuSetRemoteDSS()] about which server is asked.
#' @example man/roxygen/scratch-begin.R
#' @examples
#' # Without a server there are no viewers
#' tryCatch(
#'   dkuGetAuthInfoFromBrowserHeaders(list(Cookie = "session=1"), with_secrets = TRUE),
#'   dkusecrets_error_unsupported = function(cnd) "only with a server"
#' )
#'
#' \dontrun{
#' server <- function(input, output, session) {
#'   viewer <- dkuGetAuthInfoFromRookRequest(session$request)$authIdentifier
#'   key <- dkuImpersonateShinyCalls(session$request, dkuGetSecret("api-key"))
#' }
#' }
#' @example man/roxygen/scratch-end.R
#' @export
dkuGetAuthInfoFromBrowserHeaders <- function(headers_dict, with_secrets = FALSE) {
  headers <- check_headers(headers_dict)
  check_flag(with_secrets, "with_secrets")
  viewer_info(headers, with_secrets)
}

#' @rdname dkuGetAuthInfoFromBrowserHeaders
#' @export
dkuGetAuthInfoFromRookRequest <- function(request, with_secrets = FALSE) {
  headers <- rook_headers(request)
  check_flag(with_secrets, "with_secrets")
  viewer_info(headers, with_secrets)
}

#' @rdname dkuGetAuthInfoFromBrowserHeaders
#' @export
dkuGetTicketFromBrowserHeaders <- function(headers_dict) {
  headers <- check_headers(headers_dict)
  viewer_ticket(headers)
}

#' @rdname dkuGetAuthInfoFromBrowserHeaders
#' @export
dkuImpersonateShinyCalls <- function(request, expr) {
  headers <- rook_headers(request)
  ticket <- viewer_ticket(headers)
  before <- the$remote
  on.exit(choose(before))
  choose(as_viewer(check_server(), ticket))
  expr
}

viewer_info <- function(headers, with_secrets, call = sys.call(-1)) {
  from <- application(call)
  path <- paste0("/dip/publicapi/auth/info-from-browser-headers?withSecrets=", tolower(with_secrets))
  auth_info(from, request(from, "POST", path, headers, call), with_secrets, call)
}

viewer_ticket <- function(headers, call = sys.call(-1)) {
  from <- application(call)
  ticket <- request(from, "POST", "/dip/publicapi/auth/ticket-from-browser-headers", headers, call)[["msg"]]
  if (!is_string(ticket)) {
    unwrap(server_failure(from, "remote", "the server's answer holds no ticket"), call)
  }
  check_key(ticket, "the server's ticket", "remote", call)
}

# The server, asked with what it knows the application by, also within a viewer's calls.
application <- function(call) {
  from <- check_server(call)
  from$application %||% from
}

as_viewer <- function(from, ticket) {
  application <- from$application %||% from
  viewer <- application
  viewer$headers <- list(`X-DKU-APITicket` = ticket)
  viewer$why <- "dkuImpersonateShinyCalls() asks for a viewer"
  viewer$application <- application
  viewer
}

# Headers as a list of strings in UTF-8. They hold cookies: no message shows any.
check_headers <- function(x, call = sys.call(-1)) {
  named <- !is.null(names(x)) && all(nzchar(names(x))) && !anyNA(names(x))
  if (!(is.list(x) || is.character(x)) || is.object(x) || !named) {
    abort_argument("headers_dict", "a named list of strings, the headers of a request", x, call)
  }
  headers <- lapply(as.list(x), function(value) if (is_string(value)) as_utf8(value))
  if (any(vapply(headers, is.null, NA))) {
    abort_dku("invalid_argument", "each header in `headers_dict` must be one string", call = call)
  }
  headers
}

# HTTP_X_FOO of a Rook request is the header x-foo.
rook_headers <- function(request, call = sys.call(-1)) {
  if (!is.environment(request) && !is.list(request)) {
    abort_argument("request", "a Rook request, as session$request in Shiny", request, call)
  }
  fields <- grep("^HTTP_.", sort(names(request)), value = TRUE)
  if (length(fields) == 0) {
    abort_dku("invalid_argument", "`request` holds no headers: none of its names begins with HTTP_", call = call)
  }
  headers <- lapply(fields, function(field) request[[field]])
  names(headers) <- gsub("_", "-", tolower(substring(fields, nchar("HTTP_") + 1)), fixed = TRUE)
  check_headers(headers, call)
}
