# A server's answers in the shape of the vault's. Requests go through curl (connection.R) and JSON through jsonlite, which
# are loaded only here: a read of the embedded vault does without. Both a server of this project's and a Dataiku DSS are asked for
# `/dip/publicapi`; what is under `/dkusecrets/v1` only ours has, and says so by a header in each answer.

remote <- function(from, what, a, call) {
  if (is.na(server_version(from, call))) {
    return(if (what == "get") get_from_dss(from, a$name, call) else unwrap(dss_failure(from), call))
  }
  ask_v1 <- function(...) v1(from, what, list(...), call)
  switch(what,
    get = remote_value(from, v1(from, "get", list(name = a$name), call, parse_secret), call),
    list = secrets_table(v1(from, "", call = call)),
    versions = versions_table(ask_v1(name = a$name)),
    set = answered_number(from, ask_v1(
      name = a$name, value = a$value, description = a$description, expires = day_out(a$expires),
      if_version = a$if_version
    ), "version", call),
    describe = ask_v1(name = a$name, description = a$description, expires = day_out(a$expires)),
    remove = ask_v1(name = a$name, if_version = a$if_version),
    restore = answered_number(from, ask_v1(name = a$name, version = a$version), "version", call),
    rename = ask_v1(name = a$name, new_name = a$new_name),
    purge = answered_number(from, ask_v1(name = a$name), "purged", call)
  )
}

# --- The answers of our server ------------------------------------------------------------------------------------

# What /secrets and what is below it answers: `what` with a body, or without any the list of all.
v1 <- function(from, what, body = NULL, call, parse = parse_answer) {
  path <- paste0("/dkusecrets/v1/secrets", if (nzchar(what)) "/", what)
  if (is.null(body)) request(from, "GET", path, call = call) else request(from, "POST", path, body, call, parse)
}

remote_value <- function(from, answer, call) {
  if (!is_string(answer$value)) {
    unwrap(server_failure(from, "remote", "the server's answer has no value"), call)
  }
  if (isTRUE(answer$expired)) list(value = answer$value, expired = day_in(answer$expires)) else answer$value
}

answered_number <- function(from, answer, field, call) {
  if (!is.numeric(answer[[field]])) {
    unwrap(server_failure(from, "remote", paste0("the server's answer has no \"", field, "\"")), call)
  }
  as.double(answer[[field]])
}

secrets_table <- function(answer) {
  rows <- answer$secrets
  list(
    name = column(rows, "name", as.character),
    description = column(rows, "description", as.character, ""),
    version = column(rows, "version", as.double),
    created = column(rows, "created", as.double) / 1000,
    updated = column(rows, "updated", as.double) / 1000,
    expires = column(rows, "expires", day_in),
    removed = column(rows, "removed", as.double) / 1000
  )
}

versions_table <- function(answer) {
  rows <- answer$versions
  list(
    version = column(rows, "version", as.double),
    created = column(rows, "created", as.double) / 1000,
    expires = column(rows, "expires", day_in),
    current = column(rows, "current", as.logical)
  )
}

# One field of each row; `absent` where it is null or not there.
column <- function(rows, field, as, absent = NA) {
  vapply(rows, function(row) as(row[[field]] %||% absent), as(NA))
}

# A day, counted from 1970-01-01, as JSON has it; NA for none; NULL leaves it. And back.
day_out <- function(day) {
  if (is.null(day) || is.na(day)) {
    return(day)
  }
  # Not format(), which writes years before 1000 with fewer digits.
  at <- as.POSIXlt(structure(day, class = "Date"))
  sprintf("%04.0f-%02.0f-%02.0f", at$year + 1900, at$mon + 1, at$mday)
}

day_in <- function(text) {
  if (is.null(text) || is.na(text)) NA_real_ else as.double(as.Date(text, "%Y-%m-%d"))
}

# The version of our server, or NA for a DSS. What both answer is asked, before any value is sent.
server_version <- function(from, call) {
  if (!from$where %in% names(the$servers)) {
    request(from, "GET", "/dip/publicapi/auth/info?withSecrets=false", call = call)
  }
  the$servers[[from$where]]
}

# --- The answers of both -----------------------------------------------------------------------------------------

# A DSS gives all secrets or none.
get_from_dss <- function(from, name, call) {
  secrets <- as.list(remote_auth_info(from, TRUE, call)$secrets)
  keys <- vapply(secrets, function(secret) secret$key, "")
  if (!name %in% keys) {
    close <- close_to(name, keys)
    message <- paste0(
      "there is no secret named ", quoted(name),
      if (length(close)) paste0("; close to it: ", paste(quoted(close), collapse = ", "))
    )
    unwrap(server_failure(from, "not_found", message, name = name, close = close, removed = FALSE, dss = TRUE), call)
  }
  secrets[[match(name, keys)]]$value
}

close_to <- function(name, keys, most = 3) {
  away <- utils::adist(name, keys, ignore.case = TRUE)[1, ]
  utils::head(keys[order(away)][sort(away) <= max(1, nchar(name) %/% 4)], most)
}

# Who asks, with his secrets; a DSS and our server give the same.
remote_auth_info <- function(from, with_secrets, call) {
  path <- paste0("/dip/publicapi/auth/info?withSecrets=", tolower(with_secrets))
  auth_info(from, request(from, "GET", path, call = call), with_secrets, call)
}

auth_info <- function(from, info, with_secrets, call) {
  if (!with_secrets) {
    info$secrets <- NULL
  } else {
    secrets <- unname(info$secrets)
    right <- vapply(secrets, function(s) is.list(s) && is_string(s$key) && is_string(s$value), NA)
    if (!all(right)) {
      unwrap(server_failure(from, "remote", "the server's answer holds secrets that are not strings"), call)
    }
    one <- c("dkusecrets_secret", "dkusecrets_redacted")
    info$secrets <- structure(lapply(secrets, structure, class = one), class = c("dkusecrets_secrets", "dkusecrets_redacted"))
  }
  structure(info, class = c("dkusecrets_auth_info", "dkusecrets_redacted"))
}

# --- One request -------------------------------------------------------------------------------------------------

# What is asked with a body, and changes nothing: it may be asked again.
reading <- c("/dkusecrets/v1/secrets/get", "/dkusecrets/v1/secrets/versions", "/dip/publicapi/auth/info-from-browser-headers")

# The answer to a request, a list, or an error. `body` is a list of strings and numbers, NULL ones left out.
request <- function(from, method, path, body = NULL, call = sys.call(-1), parse = parse_answer) {
  reads <- method == "GET" || path %in% reading || sub("[?].*", "", path) %in% reading
  for (attempt in 1:3) {
    answer <- exchange(from, path, body, reads, call)
    wait <- if (reads && attempt < 3) wait_before_next(answer, attempt)
    if (is.null(wait)) break
    Sys.sleep(wait)
  }
  if (!is.null(answer$failed)) {
    unwrap(connection_failure(from, answer$failed, changes = !reads), call)
  }
  ours_only <- startsWith(path, "/dkusecrets/")
  # What has nothing to tell may say nothing.
  parsed <- if (ours_only && identical(answer$text, "")) list() else parse(answer$text)
  good <- answer$status %/% 100 == 2 && is.list(parsed)
  # What only ours answers well says nothing new of who it is.
  if (good && ours_only) {
    return(parsed)
  }
  version <- header(answer, "dkusecrets-version")
  if (!is.null(version)) {
    the$servers[[from$where]] <- version
  } else if (good && startsWith(path, "/dip/publicapi/auth/info?") || answer$status == 404 && ours_only) {
    the$servers[[from$where]] <- NA_character_
  }
  if (!good) {
    ours <- !is.null(version)
    unwrap(answer_failure(from, answer$status, parsed, path, ours, header(answer, "location")), call)
  }
  parsed
}

# How many seconds to wait before the same is asked again; NULL for not to ask again.
wait_before_next <- function(answer, attempt) {
  if (!is.null(answer$failed)) {
    return(if (!grepl("certificate|SSL|timed out|Timeout", answer$failed)) 0.2 * attempt^2)
  }
  # It may be a date too; whoever asks for more than some seconds means that it will be down.
  if (answer$status == 503 && !is.null(after <- header(answer, "retry-after")) && grepl("^[0-9]$", after)) as.double(after)
}

# --- JSON --------------------------------------------------------------------------------------------------------

# A flat object as bytes; NA is null, NULL is left out.
json_object <- function(x) {
  x <- compact(x)
  fields <- vapply(names(x), json_string, "")
  values <- vapply(x, function(value) {
    if (is.na(value)) "null" else if (is.character(value)) json_string(value) else sprintf("%.0f", value)
  }, "")
  charToRaw(paste0("{", paste0(fields, ":", values, collapse = ","), "}"))
}

json_string <- function(text) {
  # Most names, and what jsonlite would take a while for.
  if (grepl("^[A-Za-z0-9 _.:/-]*$", text)) {
    return(paste0("\"", text, "\""))
  }
  # Text without a declared encoding was checked to be UTF-8; in a C locale jsonlite would take it for something else.
  Encoding(text) <- "UTF-8"
  as.character(jsonlite::toJSON(text, auto_unbox = TRUE))
}

# Bytes as text in UTF-8, or NULL if they are none.
as_text <- function(bytes) {
  if (any(bytes == as.raw(0))) {
    return(NULL)
  }
  text <- rawToChar(bytes)
  Encoding(text) <- "UTF-8"
  if (validUTF8(text)) text
}

# An object as a list, or NULL for anything else. Errors of the parser quote the text: they end here.
parse_answer <- function(text) {
  # R's strings end at a NUL: what holds one would come out shorter than it is.
  if (is.null(text) || holds_nul(text)) {
    return(NULL)
  }
  found <- tryCatch(jsonlite::parse_json(text), error = function(cnd) NULL)
  if (is.list(found) && (length(found) == 0 || !is.null(names(found)))) found
}

# The same for an answer with a secret. Most have nothing to unescape and no end, and jsonlite takes a while for them.
parse_secret <- function(text) {
  value <- if (!is.null(text)) sub(secret_as_it_is, "\\1", text, perl = TRUE)
  if (identical(value, text)) parse_answer(text) else list(value = value)
}

secret_as_it_is <- paste0(
  '^\\{"name":"[^"\\\\[:cntrl:]]*+","value":"([^"\\\\[:cntrl:]]*+)","version":[0-9]++,"expires":null,"expired":false\\}\\z'
)

holds_nul <- function(text) {
  grepl("\\u0000", text, fixed = TRUE) && grepl("(?<!\\\\)(\\\\\\\\)*+\\\\u0000", text, perl = TRUE)
}

# --- What went wrong ---------------------------------------------------------------------------------------------

# As unwrap() takes it.
server_failure <- function(from, kind, message, ...) {
  more <- compact(list(...))
  structure(c(list(kind = kind, message = message, server = from$where, why = from$why), more), class = "dkusecrets_failure")
}

# curl's messages hold addresses and names of hosts, and nothing that was sent.
connection_failure <- function(from, message, changes = FALSE) {
  certificate <- grepl("certificate|SSL|CAfile", message)
  # What could not connect has sent nothing.
  sent <- changes && !certificate && !grepl("onnect|resolve", message)
  advice <- if (certificate) {
    c(
      "CURL_CA_BUNDLE names a file with the certificates to trust, in PEM form",
      "no_check_certificate = TRUE (DKU_NO_CHECK_CERTIFICATE=true) does without, and whoever is on the way can read along"
    )
  } else if (is_loopback(from$url)) {
    "is the server running?"
  } else {
    "is the server running, and the address right? http_proxy, https_proxy and no_proxy in the environment say which way to take"
  }
  if (sent) {
    advice <- c("whether the server has done it is not known: look before you try again", advice)
  }
  what <- if (grepl("timed out", message)) " did not answer: " else " could not be reached: "
  message <- paste(c(paste0(from$where, what, plain(message)), advice), collapse = "\n  ")
  server_failure(from, "unavailable", message)
}

dss_failure <- function(from) {
  server_failure(
    from, "unsupported",
    "the server is a Dataiku DSS, of which secrets can only be read: dkuGetAuthInfo() and dkuGetSecret() do",
    dss = TRUE
  )
}

# What an answer that is no success means. `body` is its object, NULL if it has none; `ours` whether our server gave it.
answer_failure <- function(from, status, body, path = "", ours = FALSE, location = NULL) {
  said <- body[["message"]]
  said <- if (is_string(said) && nzchar(said)) plain(said)
  kind <- body[["kind"]]
  if (is_string(kind) && grepl("^[a-z][a-z_]*$", kind)) {
    # Numbers are doubles, as those of a vault are.
    fields <- lapply(body[intersect(c("name", "removed", "version", "expected", "found"), names(body))], function(field) {
      if (is.integer(field)) as.double(field) else field
    })
    if ("close" %in% names(body)) {
      fields$close <- as.character(unlist(body[["close"]]))
    }
    return(do.call(server_failure, c(list(from, kind, said %||% "the server gives no reason"), fields)))
  }
  if (status == 404 && !ours && startsWith(path, "/dkusecrets/")) {
    return(dss_failure(from))
  }
  kind <- switch(as.character(status), `401` = "not_authenticated", `403` = "not_allowed", `503` = "unavailable", "remote")
  if (status %/% 100 == 3) {
    to <- if (!is.null(location)) paste0(" to ", sub("^([a-z]+://[^/?#]*).*", "\\1", plain(location)))
    said <- paste0("the server sends its callers elsewhere", to, ": use the address where it answers itself")
  } else if (status %/% 100 == 2) {
    said <- "the server's answer is not a JSON object in UTF-8 that R can hold: is this the address of a DSS?"
  }
  server_failure(from, kind, paste0(said %||% "the server gives no reason", " (HTTP ", status, ")"), status = status)
}

# Somebody else's words, on one line and not too many, without what turns text or moves a cursor.
plain <- function(text, most = 500) {
  text <- gsub("[[:cntrl:]\u0080-\u009f\u202a-\u202e\u2066-\u2069]+", " ", text)
  if (nchar(text) > most) paste0(substr(text, 1, most), "...") else text
}
