# A server in another process, over HTTP: as much of our own and of a DSS as the tests of the client need. Both keep the
# same secrets, and what was asked of them is read with asked().

# Runs in that process, alone: it knows nothing of this file.
serve <- function(ours_port, dss_port, socket) {
  secrets <- list()
  asked <- list()
  busy <- 0
  answer <- function(body, status = 200L, headers = list()) {
    text <- if (is.list(body)) jsonlite::toJSON(body, auto_unbox = TRUE, null = "null", digits = NA) else body
    list(status = status, headers = c(list("Content-Type" = "application/json"), headers), body = charToRaw(enc2utf8(text)))
  }
  failed <- function(status, kind, message, ...) {
    answer(list(errorType = "E", message = message, detailedMessage = message, kind = kind, ...), status)
  }
  info <- function(login, query) {
    found <- list(authSource = "PERSONAL_API_KEY", via = list(), authIdentifier = login, groups = list("readers"))
    if (grepl("withSecrets=true", query)) {
      found$secrets <- unname(Map(function(name, s) list(key = name, value = s$value), names(secrets), secrets))
    }
    answer(found)
  }
  v1 <- function(what, body) {
    name <- body$name
    there <- secrets[[name %||% ""]]
    if (what == "set") {
      at <- if (is.null(there)) 0 else there$version
      if (!is.null(body$if_version) && body$if_version != at) {
        return(failed(409L, "conflict", "somebody was faster", name = name, expected = body$if_version, found = at))
      }
      secrets[[name]] <<- c(body[c("value", "description", "expires")], version = at + 1)
      return(answer(list(version = at + 1)))
    }
    if (is.null(there)) {
      return(failed(404L, "not_found", paste("there is no secret named", name), name = name, close = as.list(names(secrets)), removed = FALSE))
    }
    switch(what,
      get = answer(list(
        name = name, value = there$value, version = there$version, expires = there$expires,
        expired = !is.null(there$expires) && there$expires < "2026-01-01"
      )),
      versions = answer(list(versions = list(
        list(version = there$version, created = 1764000000123, expires = there$expires, current = TRUE)
      ))),
      restore = answer(list(version = 7)),
      purge = answer(list(purged = 3)),
      answer("{}")
    )
  }
  `%||%` <- function(x, y) if (is.null(x)) y else x
  route <- function(req, ours) {
    path <- req$PATH_INFO
    body <- req$rook.input$read()
    if (path == "/asked") {
      return(answer(asked))
    }
    asked[[length(asked) + 1]] <<- list(
      ours = ours, method = req$REQUEST_METHOD, path = paste0(path, req$QUERY_STRING), ticket = req$HTTP_X_DKU_APITICKET,
      authorization = req$HTTP_AUTHORIZATION, cookie = req$HTTP_COOKIE, type = req$HTTP_CONTENT_TYPE %||% req$CONTENT_TYPE,
      port = req$REMOTE_PORT, body = rawToChar(body)
    )
    body <- if (length(body)) jsonlite::parse_json(rawToChar(body))
    if (startsWith(path, "/busy")) {
      busy <<- busy + 1
      return(if (busy %% 3 > 0) answer("{}", 503L, list("Retry-After" = "0")) else info("ada", ""))
    }
    if (startsWith(path, "/cookie")) {
      found <- info("ada", "")
      found$headers[["Set-Cookie"]] <- "session=1"
      return(found)
    }
    if (startsWith(path, "/elsewhere")) {
      return(answer("", 302L, list(Location = "https://other.example.org/login?token=1")))
    }
    if (startsWith(path, "/page")) {
      return(list(status = 200L, headers = list("Content-Type" = "text/html"), body = "<html>"))
    }
    if (identical(req$HTTP_AUTHORIZATION, "Basic d3Jvbmc6")) {
      return(failed(401L, NULL, "Unknown API Key"))
    }
    ours_only <- ours && startsWith(path, "/dkusecrets/v1/")
    if (path == "/dip/publicapi/auth/info") {
      info(req$HTTP_X_DKU_APITICKET %||% "ada", req$QUERY_STRING)
    } else if (path == "/dip/publicapi/auth/info-from-browser-headers") {
      info(body$cookie %||% "", req$QUERY_STRING)
    } else if (path == "/dip/publicapi/auth/ticket-from-browser-headers") {
      answer(list(msg = body$cookie))
    } else if (ours_only && path == "/dkusecrets/v1/secrets") {
      answer(list(secrets = unname(Map(function(name, s) list(
        name = name, description = s$description, version = s$version, created = 1764000000123,
        updated = 1764000000999, expires = s$expires, removed = if (name == "gone") 1764000000500
      ), names(secrets), secrets))))
    } else if (ours_only && path == "/dkusecrets/v1/info") {
      answer(list(version = "0.2.0", login = "ada", store = "0123"))
    } else if (ours_only && path == "/dkusecrets/v1/audit") {
      answer(list(events = list(
        list(seq = 5000000000, time = 1764000000123, who = "ada", behalf = NULL, from = "unix", action = "get",
             names = list("a", "b"), outcome = "ok", claims = list(project = "P")),
        list(seq = 2, time = 1764000000000, who = "ada", behalf = "bob", from = "unix", action = "list",
             names = list(), outcome = "ok", claims = structure(list(), names = character()))
      )))
    } else if (ours_only && startsWith(path, "/dkusecrets/v1/secrets/")) {
      v1(basename(path), body)
    } else {
      list(status = 404L, headers = list("Content-Type" = "text/html"), body = "<html>")
    }
  }
  app <- function(ours) {
    list(call = function(req) {
      found <- route(req, ours)
      if (ours) found$headers[["Dkusecrets-Version"]] <- "0.2.0"
      found
    })
  }
  httpuv::startServer("127.0.0.1", ours_port, app(TRUE), quiet = TRUE)
  httpuv::startServer("127.0.0.1", dss_port, app(FALSE), quiet = TRUE)
  httpuv::startPipeServer(socket, 0077, app(TRUE), quiet = TRUE)
  repeat httpuv::service(1000)
}

# Another R, which is killed at the end. What that leaves of it is in the temporary directory of this one.
in_background <- function(fun, args) {
  callr::r_bg(fun, args, supervise = TRUE, env = c(callr::rcmd_safe_env(), TMPDIR = tempdir()))
}

# The server: its addresses, for as long as `env` lives.
start_server <- function(env) {
  skip_if_not_installed("callr")
  skip_if_not_installed("httpuv")
  ports <- c(httpuv::randomPort(), httpuv::randomPort())
  socket <- tempfile("s", fileext = ".sock")
  process <- in_background(serve, list(ports[[1]], ports[[2]], socket))
  withr::defer(process$kill(), env)
  url <- sprintf("http://127.0.0.1:%d", ports)
  for (i in 1:100) {
    up <- file.exists(socket) && !inherits(try(asked(url[[1]]), silent = TRUE), "try-error")
    if (up) break
    if (!process$is_alive()) stop("the server of the tests ended: ", process$read_error())
    Sys.sleep(0.1)
  }
  list(ours = url[[1]], dss = url[[2]], socket = socket)
}

# What the server was asked so far.
asked <- function(url) {
  jsonlite::parse_json(rawToChar(curl::curl_fetch_memory(paste0(url, "/asked"))$content))
}

last_asked <- function(url, field) {
  all <- asked(url)
  all[[length(all)]][[field]]
}

# For one test: `url` answers.
local_remote <- function(url, key = "dkuaps-0123", env = parent.frame()) {
  withr::defer(dkuSetRemoteDSS(NULL), env)
  the$warned <- character()
  dkuSetRemoteDSS(url, key)
}

# For one test: a home without configuration, nothing chosen, and a vault that is not there yet.
local_nothing <- function(env = parent.frame()) {
  home <- normalizePath(withr::local_tempdir(.local_envir = env))
  Sys.chmod(home, "0700")
  withr::local_envvar(
    HOME = home, DKUSECRETS_HOME = NA, R_USER_DATA_DIR = NA, R_USER_CONFIG_DIR = NA, XDG_DATA_HOME = NA, XDG_CONFIG_HOME = NA,
    .local_envir = env
  )
  home
}
