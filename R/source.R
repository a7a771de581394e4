# Which source answers, and why: a server that somebody configured, or the embedded vault. The order is in
# dkuSetRemoteDSS()'s help. Whether there is anything but the vault is asked in Rust (elsewhere.rs), since a
# read of the vault may not pay for it; what it is, here. What is configured and fails is an error.

#' Use the secrets of a server
#'
#' `dkuSetRemoteDSS()` makes every function of this session work with the secrets that a server keeps: a
#' server of this project's, or a Dataiku DSS. Of a DSS, secrets can be read ([dkuGetAuthInfo()],
#' [dkuGetSecret()]); what would change them ends in `dkusecrets_error_unsupported`, as its users edit them in
#' their profile. `dkuSetRemoteDSS(NULL)` undoes it. Nothing is sent by the call itself.
#'
#' @section Which source answers:
#' The first of these that is configured. If it fails, that is an error: there is never another one in its place.
#' [dkuVaultInfo()] says which one it is, and why.
#'
#' 1. `dkuSetRemoteDSS()`.
#' 2. The environment variable `DKU_API_TICKET`, which a server gives to what it runs, with
#'    `DKU_BACKEND_HOST`, `DKU_BACKEND_PORT` and `DKU_BACKEND_PROTOCOL` (`http` or `https`; if unset, `http`).
#' 3. `DKU_DSS_URL` with `DKU_API_KEY`, and `DKU_NO_CHECK_CERTIFICATE` (`true` or `false`).
#' 4. `DKUSECRETS_SOCKET`, the path of a server's Unix socket, or `DKUSECRETS_HOME`, the directory of an
#'    embedded vault. Both at once are an error of class `dkusecrets_error_two_places`.
#' 5. The file `~/.dataiku/config.json` of Dataiku's clients, which must be its owner's alone (mode 0600):
#'    `{"dss_instances": {"default": {"url": ..., "api_key": ..., "no_check_certificate": false}}, "default_instance": "default"}`
#' 6. The socket `/run/dkusecrets/dkusecrets.sock`, if there is one. Where there is an embedded vault too, that is an error of
#'    class `dkusecrets_error_two_places`, which says how to choose. On a socket the operating system says who asks.
#' 7. The embedded vault: see [dkuVaultInfo()].
#'
#' An empty variable counts as unset. A socket must belong to root, to whoever runs the code, or to the account that root gave the
#' directory it lies in, as for a service: that directory is the account's, everything above it root's, and nobody else can write there.
#'
#' @section The connection:
#' It is made by libcurl and takes what users of curl set: the environment variables `http_proxy`, `https_proxy` and `no_proxy`,
#' `CURL_CA_BUNDLE` (a file of certificates to trust), and `options(dkusecrets.curl = list(...))` for any other of
#' [curl::curl_options()], as `sslcert` and `sslkey`. A server on this machine, at `localhost`, `127.0.0.1` or `[::1]` or over a
#' socket, is asked without the environment's proxies, which would be sent keys and values; at such an address
#' `options(dkusecrets.curl = list(proxy = "http://..."))` takes one all the same. `options(dkusecrets.timeout = 30)` is how many seconds a
#' request may take; connecting may take 10 of them. Requests that only read are tried up to three
#' times if the server can't be reached or asks for it; others once. Redirects are not followed.
#'
#' @param url The server's address, one string: `"https://dss.example.org"`, with its port and path if it has them; or
#'   `NULL`.
#' @param api_key A personal API key of that server, one string.
#' @param no_check_certificate `TRUE` or `FALSE`: whether to accept any certificate. With `TRUE`, whoever can get
#'   between here and the server can read along.
#' @param ... Nothing: a misspelt argument ends here, and not in an error of R's own that would show its value.
#' @returns `NULL`, invisibly.
#' @section Keys:
#' Read a key from somewhere, as from an environment variable: what stands in a script or a console's history is not a secret any
#' more. This package shows it in no message; R's own `traceback()` shows the arguments of calls. Over `http://` keys
#' and values can be read on the way, of which [dkuVaultInfo()] warns.
#' @section Errors:
#' * `dkusecrets_error_invalid_argument`: an argument that cannot be. The message never holds the key.
#'
#' Errors of a server that is asked later are among [dkusecrets-errors].
#' @example man/roxygen/scratch-begin.R
#' @examples
#' dkuSetRemoteDSS("http://127.0.0.1:1", "dkuaps-0123456789")
#' tryCatch(dkuGetSecret("api-key"), dkusecrets_error_unavailable = function(cnd) cnd$server)
#'
#' dkuSetRemoteDSS(NULL)
#' dkuSetSecret("api-key", "s3cret")
#' @example man/roxygen/scratch-end.R
#' @export
dkuSetRemoteDSS <- function(url, api_key, no_check_certificate = FALSE, ...) {
  check_no_more(...)
  check_flag(no_check_certificate, "no_check_certificate")
  if (!missing(url) && is.null(url)) {
    choose(NULL)
    return(invisible())
  }
  url <- check_url(check_string(if (!missing(url)) url, "url"), "`url`", "invalid_argument")
  api_key <- check_key(check_string(if (!missing(api_key)) api_key, "api_key"), "`api_key`", "invalid_argument")
  choose(server_at(url, "dkuSetRemoteDSS() was called", key = api_key, no_check = no_check_certificate))
  invisible()
}

# Nothing of a key or ticket that is used no more stays in a handle.
choose <- function(server) {
  if (!identical(the$remote, server)) drop_handle()
  the$remote <- server
}

# Does `what` where the secrets are. `...` are its arguments by name, checked; the answer has one shape, whoever gives it.
perform <- function(what, ..., call = sys.call(-1)) {
  from <- source_now(call)
  if (is.null(from)) embedded(what, list(...), call) else remote(from, what, list(...), call)
}

embedded <- function(what, a, call) {
  switch(what,
    get = unwrap(rust_get(a$name), call),
    list = unwrap(rust_list(), call),
    versions = unwrap(rust_versions(a$name), call),
    set = unwrap(rust_set(a$name, a$value, a$description, a$expires, a$if_version), call),
    describe = unwrap(rust_describe(a$name, a$description, a$expires), call),
    remove = unwrap(rust_remove(a$name, a$if_version), call),
    restore = unwrap(rust_restore(a$name, a$version), call),
    rename = unwrap(rust_rename(a$name, a$new_name), call),
    purge = {
      purged <- unwrap(rust_purge(a$name), call)
      unwrap(rust_tidy(), call)
      purged
    }
  )
}

# The server that answers, or NULL for the embedded vault.
source_now <- function(call = sys.call(-1)) {
  if (!is.null(the$remote)) {
    return(the$remote)
  }
  found <- unwrap(rust_elsewhere(), call)
  if (is.null(found)) {
    return(NULL)
  }
  switch(found$kind,
    ticket = server_of_ticket(call),
    key = server_of_environment(call),
    config = server_of_config(found$path, call),
    socket = server_of_socket(found$path, found$chosen, call)
  )
}

# For what only the embedded vault has.
check_embedded <- function(call = sys.call(-1)) {
  from <- source_now(call)
  if (!is.null(from)) {
    unwrap(server_failure(from, "unsupported", "this looks after an embedded vault, and a server keeps the secrets here"), call)
  }
}

# And for what only a server has.
check_server <- function(call = sys.call(-1)) {
  source_now(call) %||% abort_dku(
    "unsupported",
    "this is something that a server knows, and here an embedded vault keeps the secrets\n  dkuSetRemoteDSS() chooses a server",
    call = call
  )
}

# `where` names it in messages, `why` says how it came to be asked.
server_at <- function(url, why, key = NULL, ticket = NULL, no_check = FALSE, socket = NULL) {
  list(
    url = url, socket = socket, where = socket %||% url, why = why, no_check = no_check,
    headers = list(
      Authorization = if (!is.null(key)) paste("Basic", base64(paste0(key, ":"))),
      `X-DKU-APITicket` = ticket
    )
  )
}

server_of_ticket <- function(call) {
  protocol <- variable("DKU_BACKEND_PROTOCOL") %||% "http"
  host <- variable("DKU_BACKEND_HOST") %||% half_set("DKU_API_TICKET", "DKU_BACKEND_HOST", call)
  port <- variable("DKU_BACKEND_PORT") %||% half_set("DKU_API_TICKET", "DKU_BACKEND_PORT", call)
  if (!protocol %in% c("http", "https")) {
    abort_dku("config", "DKU_BACKEND_PROTOCOL must be \"http\" or \"https\"", call = call)
  }
  if (!grepl("^[0-9]{1,5}$", port)) {
    abort_dku("config", "DKU_BACKEND_PORT must be a number", call = call)
  }
  url <- check_url(sprintf("%s://%s:%s", protocol, host, port), "DKU_BACKEND_HOST", "config", call)
  ticket <- check_key(variable("DKU_API_TICKET"), "DKU_API_TICKET", "config", call)
  server_at(url, "DKU_API_TICKET is set", ticket = ticket, no_check = variable_flag("DKU_NO_CHECK_CERTIFICATE", call))
}

server_of_environment <- function(call) {
  url <- variable("DKU_DSS_URL") %||% half_set("DKU_API_KEY", "DKU_DSS_URL", call)
  key <- variable("DKU_API_KEY") %||% half_set("DKU_DSS_URL", "DKU_API_KEY", call)
  server_at(
    check_url(url, "DKU_DSS_URL", "config", call), "DKU_DSS_URL and DKU_API_KEY are set",
    key = check_key(key, "DKU_API_KEY", "config", call), no_check = variable_flag("DKU_NO_CHECK_CERTIFICATE", call)
  )
}

server_of_config <- function(path, call) {
  wrong <- function(...) {
    abort_dku("config", paste0(path, ..., "\n  DKUSECRETS_HOME chooses an embedded vault instead"), call = call)
  }
  text <- tryCatch(
    suppressWarnings(rawToChar(readBin(path, "raw", file.size(path)))),
    error = function(cnd) wrong(" cannot be read")
  )
  # The parser's own messages quote what it read, and that may be a key.
  Encoding(text) <- "UTF-8"
  valid <- validUTF8(text) && (checked <- jsonlite::validate(text))
  if (!valid) {
    wrong(", line ", if (validUTF8(text)) line_of(text, attr(checked, "offset")) else "unknown", ": this is not JSON")
  }
  config <- jsonlite::parse_json(text)
  field <- function(x, name) if (is.list(x)) x[[name]]
  name <- field(config, "default_instance") %||% "default"
  instance <- if (is_string(name)) field(field(config, "dss_instances"), name)
  if (!is.list(instance)) {
    wrong(": there is no instance in \"dss_instances\" of the name that \"default_instance\" gives")
  }
  if (!is_string(instance[["url"]]) || !is_string(instance[["api_key"]])) {
    wrong(": the instance ", quoted(name), " needs a \"url\" and an \"api_key\", strings both")
  }
  no_check <- instance[["no_check_certificate"]] %||% FALSE
  if (!isTRUE(no_check) && !isFALSE(no_check)) {
    wrong(": \"no_check_certificate\" of the instance ", quoted(name), " must be true or false")
  }
  server_at(
    check_url(instance[["url"]], paste0(path, ": \"url\""), "config", call),
    paste(path, "names it"),
    key = check_key(instance[["api_key"]], paste0(path, ": \"api_key\""), "config", call),
    no_check = no_check
  )
}

# The line of a byte of `text`, which the parser found wrong.
line_of <- function(text, offset) {
  before <- utils::head(charToRaw(text), max(offset - 1, 0))
  sum(before == as.raw(10)) + 1
}

server_of_socket <- function(path, chosen, call) {
  if (!chosen) {
    vault <- unwrap(rust_info(), call)
    # A database that is not there though its key is may lie on a disk that is not mounted: it counts.
    if (vault$exists || "vault_missing" %in% vault$problem_kinds) {
      abort_dku("two_places", two_places(path, vault), server = path, call = call)
    }
  }
  why <- if (chosen) "DKUSECRETS_SOCKET names it" else "it is there, and there is no embedded vault"
  # The host is only what HTTP asks for: the socket is the way.
  server_at("http://localhost", why, socket = path)
}

two_places <- function(socket, vault) {
  paste0(
    "there are two places for your secrets: the server at ", socket, " and the embedded vault ", vault$database,
    "\n  DKUSECRETS_SOCKET=", socket, " in the environment chooses the server",
    # It names one directory for both, which the vault does not lie in yet.
    "\n  DKUSECRETS_HOME=<directory> chooses an embedded vault; to keep this one, move ", dirname(vault$database),
    " to <directory>/data and ", vault$config, " to <directory>/config"
  )
}

variable <- function(name) {
  value <- Sys.getenv(name)
  if (nzchar(value)) value
}

variable_flag <- function(name, call) {
  value <- tolower(variable(name) %||% "false")
  if (!value %in% c("true", "false")) {
    abort_dku("config", paste(name, "must be true or false"), call = call)
  }
  value == "true"
}

half_set <- function(set, missing, call) {
  abort_dku("config", sprintf("%s is set and %s is not: set both, or none", set, missing), call = call)
}

# An address without what it should not hold: messages show it. Without its last slashes.
check_url <- function(url, what, kind, call = sys.call(-1)) {
  if (grepl("^https?://[^/]*@", url, ignore.case = TRUE)) {
    abort_dku(kind, paste(what, "holds a user name or password: the API key goes apart from it"), call = call)
  }
  # A host is a name, an IPv4 address, or an IPv6 address in brackets (RFC 3986, section 3.2.2).
  if (!grepl("^https?://([A-Za-z0-9._~-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?(/[A-Za-z0-9._~%/-]*)?$", url)) {
    abort_dku(kind, paste(what, "must be an address such as https://dss.example.org:11200, without ? and #"), call = call)
  }
  sub("/+$", "", url)
}

# A key or ticket becomes part of a header: a line break in it would begin another one.
check_key <- function(key, what, kind, call = sys.call(-1)) {
  if (!grepl("^[!-~]+$", key, perl = TRUE)) {
    abort_dku(kind, paste(what, "must be of letters, digits and signs of ASCII, without spaces"), call = call)
  }
  key
}

base64 <- function(text) {
  gsub("\n", "", jsonlite::base64_enc(charToRaw(text)), fixed = TRUE)
}
