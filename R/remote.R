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
    list = understood(from, v1(from, "", call = call), secrets_table, call),
    versions = understood(from, ask_v1(name = a$name), versions_table, call),
    set = understood(from, ask_v1(
      name = a$name, value = a$value, description = a$description, expires = day_out(a$expires),
      if_version = a$if_version
    ), whole_number("version"), call),
    describe = ask_v1(name = a$name, description = a$description, expires = day_out(a$expires)),
    remove = ask_v1(name = a$name, if_version = a$if_version),
    restore = understood(from, ask_v1(name = a$name, version = a$version), whole_number("version"), call),
    rename = ask_v1(name = a$name, new_name = a$new_name),
    purge = understood(from, ask_v1(name = a$name), whole_number("purged"), call)
  )
}

# --- The answers of our server ------------------------------------------------------------------------------------

# What /secrets and what is below it answers: `what` with a body, or without any the list of all.
v1 <- function(from, what, body = NULL, call, parse = parse_answer) {
  path <- paste0("/dkusecrets/v1/secrets", if (nzchar(what)) "/", what)
  if (is.null(body)) request(from, "GET", path, call = call) else request(from, "POST", path, body, call, parse)
}

# What `take` makes of an answer, or an error without a word of the answer's.
understood <- function(from, answer, take, call) {
  force(answer)
  tryCatch(take(answer), error = function(cnd) {
    what <- if (inherits(cnd, "dkusecrets_malformed")) conditionMessage(cnd) else "is not what it should be"
    unwrap(server_failure(from, "remote", paste("the server's answer", what)), call)
  })
}

malformed <- function(field) {
  message <- paste0("has no \"", field, "\", or not as it should be")
  stop(structure(list(message = message, call = NULL), class = c("dkusecrets_malformed", "error", "condition")))
}

remote_value <- function(from, answer, call) {
  # Nearly all are like this.
  if (is_string(answer[["value"]]) && isFALSE(answer[["expired"]])) {
    return(answer[["value"]])
  }
  understood(from, answer, function(answer) {
    list(value = one(answer, "value", a_string), expired = if (one(answer, "expired", a_flag)) one(answer, "expires", a_day))
  }, call)
}

# A function that takes it out of an answer.
whole_number <- function(field) {
  function(answer) {
    found <- one(answer, field, a_number)
    if (found %% 1 == 0 && found >= 0) found else malformed(field)
  }
}

secrets_table <- function(answer) {
  rows <- objects(answer, "secrets")
  list(
    name = column(rows, "name", a_string),
    description = column(rows, "description", a_string, ""),
    version = column(rows, "version", a_number),
    created = column(rows, "created", a_number) / 1000,
    updated = column(rows, "updated", a_number) / 1000,
    expires = column(rows, "expires", a_day, NA_real_),
    removed = column(rows, "removed", a_number, NA_real_) / 1000
  )
}

versions_table <- function(answer) {
  rows <- objects(answer, "versions")
  list(
    version = column(rows, "version", a_number),
    created = column(rows, "created", a_number) / 1000,
    expires = column(rows, "expires", a_day, NA_real_),
    current = column(rows, "current", a_flag)
  )
}

events_table <- function(answer) {
  rows <- objects(answer, "events")
  list(
    seq = column(rows, "seq", a_number),
    time = utc(column(rows, "time", a_number) / 1000),
    who = column(rows, "who", a_string),
    behalf = column(rows, "behalf", a_string, NA_character_),
    from = column(rows, "from", a_string),
    action = column(rows, "action", a_string),
    names = lapply(rows, function(row) vapply(array_of(row, "names"), each, "", "names", a_string)),
    outcome = column(rows, "outcome", a_string),
    claims = lapply(rows, function(row) if (is_object(row[["claims"]])) row[["claims"]] else malformed("claims"))
  )
}

# What a field may be: the value of that type, or NULL for anything else. JSON's numbers may be infinite in R.
a_string <- list(type = character(1), take = function(x) if (is_string(x)) x)
a_number <- list(type = numeric(1), take = function(x) if (is.numeric(x) && length(x) == 1 && is.finite(x)) as.double(x))
a_flag <- list(type = logical(1), take = function(x) if (isTRUE(x) || isFALSE(x)) x)
a_name <- list(type = character(1), take = function(x) if (is_string(x) && nchar(x) <= 255) x)
a_day <- list(type = numeric(1), take = function(x) if (is_string(x)) day_in(x))

# One field of an object; `absent`, if it is given, where it is null or not there.
one <- function(object, field, kind, absent = NULL) {
  value <- object[[field]]
  if (is.null(value) && !is.null(absent)) absent else each(value, field, kind)
}

each <- function(value, field, kind) {
  kind$take(value) %||% malformed(field)
}

# One field of each row.
column <- function(rows, field, kind, absent = NULL) {
  vapply(rows, one, kind$type, field, kind, absent, USE.NAMES = FALSE)
}

# An array in an object, and one of objects.
array_of <- function(object, field) {
  found <- object[[field]]
  if (is.list(found) && is.null(names(found))) found else malformed(field)
}

objects <- function(answer, field) {
  rows <- array_of(answer, field)
  if (all(vapply(rows, is_object, NA))) rows else malformed(field)
}

# jsonlite gives an object names, if none.
is_object <- function(x) {
  is.list(x) && !is.null(names(x))
}

# A day, counted from 1970-01-01, as JSON has it; NA for none; NULL leaves it.
day_out <- function(day) {
  if (is.null(day) || is.na(day)) {
    return(day)
  }
  # Not format(), which writes years before 1000 with fewer digits.
  at <- as.POSIXlt(structure(day, class = "Date"))
  sprintf("%04.0f-%02.0f-%02.0f", at$year + 1900, at$mon + 1, at$mday)
}

# And back; NULL for what is no day.
day_in <- function(text) {
  found <- if (grepl("^[0-9]{4}-[0-9]{2}-[0-9]{2}$", text)) as.double(as.Date(text, "%Y-%m-%d"))
  if (!is.null(found) && !is.na(found)) found
}

# The version of our server, or NA for a DSS. What both answer is asked, before any value is sent.
server_version <- function(from, call) {
  if (!from$where %in% names(the$servers)) {
    remote_auth_info(from, FALSE, call)
  }
  the$servers[[from$where]]
}

# --- The answers of both -----------------------------------------------------------------------------------------

# A DSS gives all secrets or none.
get_from_dss <- function(from, name, call) {
  secrets <- as.list(remote_auth_info(from, TRUE, call)[["secrets"]])
  keys <- vapply(secrets, function(secret) secret[["key"]], "")
  if (!name %in% keys) {
    close <- close_to(name, keys)
    message <- paste0(
      "there is no secret named ", quoted(name),
      if (length(close)) paste0("; close to it: ", paste(quoted(close), collapse = ", "))
    )
    unwrap(server_failure(from, "not_found", message, name = name, close = close, removed = FALSE, dss = TRUE), call)
  }
  secrets[[match(name, keys)]][["value"]]
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
  info <- understood(from, info, function(info) {
    one(info, "authIdentifier", a_string)
    info[["secrets"]] <- if (with_secrets) secrets_in(info)
    info
  }, call)
  structure(info, class = c("dkusecrets_auth_info", "dkusecrets_redacted"))
}

secrets_in <- function(info) {
  # A key of nobody is told of no secrets.
  nobody <- is.null(info[["associatedDSSUser"]]) && is.null(info[["groups"]]) && is_string(info[["authSource"]])
  secrets <- if (nobody && is.null(info[["secrets"]])) list() else objects(info, "secrets")
  column(secrets, "key", a_string)
  column(secrets, "value", a_string)
  secrets <- lapply(secrets, structure, class = c("dkusecrets_secret", "dkusecrets_redacted"))
  structure(secrets, class = c("dkusecrets_secrets", "dkusecrets_redacted"))
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
  parsed <- parse(answer$text)
  good <- answer$status %/% 100 == 2 && is.list(parsed)
  # What only ours answers well says nothing new of who it is.
  if (good && ours_only) {
    return(parsed)
  }
  version <- header(answer, "dkusecrets-version")
  if (!is.null(version) && !grepl("^[0-9A-Za-z.+-]{1,50}$", version, useBytes = TRUE)) version <- NULL
  if (!is.null(version)) {
    the$servers[[from$where]] <- version
  } else if (answer$status == 404 && ours_only ||
    good && startsWith(path, "/dip/publicapi/auth/info?") && is_string(parsed[["authIdentifier"]])) {
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
  fields <- character()
  # Faster than vapply(), and most have one field.
  for (i in seq_along(x)) {
    value <- x[[i]]
    if (is.null(value)) next
    value <- if (is.na(value)) "null" else if (is.character(value)) json_string(value) else sprintf("%.0f", value)
    fields <- c(fields, paste0(json_string(names(x)[[i]]), ":", value))
  }
  charToRaw(paste0("{", paste0(fields, collapse = ","), "}"))
}

json_string <- function(text) {
  # Most names, and what jsonlite would take a while for.
  if (grepl("^[A-Za-z0-9 _.:/-]*+\\z", text, perl = TRUE)) {
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

# An object as a list; for anything else what is wrong with it, in words. Errors of the parser quote the text: they end here.
parse_answer <- function(text) {
  if (is.null(text)) {
    return("is not text in UTF-8")
  }
  # R's strings end at a NUL: what holds one would come out shorter than it is.
  if (holds_nul(text)) {
    return("holds the character NUL, which a string of R cannot")
  }
  # jsonlite makes another character of it.
  if (holds_half(text)) {
    return("holds half of a surrogate pair, which is no character")
  }
  found <- tryCatch(jsonlite::parse_json(text), error = function(cnd) NULL)
  if (is_object(found)) found else "is not a JSON object: is this the address of a DSS?"
}

# The same for an answer with a secret. Most have nothing to unescape and no end, and jsonlite takes a while for them.
parse_secret <- function(text) {
  value <- if (!is.null(text)) sub(secret_as_it_is, "\\1", text, perl = TRUE)
  if (identical(value, text)) parse_answer(text) else list(value = value, expired = FALSE)
}

secret_as_it_is <- paste0(
  '^\\{"name":"[^"\\\\[:cntrl:]]*+","value":"([^"\\\\[:cntrl:]]*+)","version":[0-9]++,"expires":null,"expired":false\\}\\z'
)

holds_nul <- function(text) {
  grepl("\\u0000", text, fixed = TRUE) && grepl("(?<!\\\\)(\\\\\\\\)*+\\\\u0000", text, perl = TRUE)
}

# UTF-16's halves of a character (RFC 8259, section 7) stand for one only together. Escaped backslashes are none of it.
holds_half <- function(text) {
  half <- "\\\\u[dD][89a-fA-F]"
  if (!grepl(half, text, perl = TRUE)) {
    return(FALSE)
  }
  pair <- "\\\\u[dD][89abAB][0-9a-fA-F]{2}\\\\u[dD][c-fC-F][0-9a-fA-F]{2}"
  grepl(half, gsub(paste0("\\\\\\\\|", pair), " ", text, perl = TRUE), perl = TRUE)
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

# What an answer that is no success means. `body` is its object, or what is wrong with it; `ours` whether our server gave it.
answer_failure <- function(from, status, body, path = "", ours = FALSE, location = NULL) {
  wrong <- if (is.character(body)) body
  if (!is.null(wrong)) body <- NULL
  said <- body[["message"]]
  said <- if (is_string(said) && nzchar(said)) plain(said)
  kind <- body[["kind"]]
  if (is_string(kind) && grepl("^[a-z][a-z_]{0,40}$", kind)) {
    kinds <- list(name = a_name, removed = a_flag, version = a_number, expected = a_number, found = a_number)
    fields <- Map(function(kind, field) kind$take(body[[field]]), kinds, names(kinds))
    fields$close <- if (is.list(body[["close"]])) as.character(unlist(lapply(body[["close"]], a_name$take)))
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
    said <- paste("the server's answer", wrong)
  }
  server_failure(from, kind, paste0(said %||% "the server gives no reason", " (HTTP ", status, ")"), status = status)
}

# Somebody else's words, on one line and not too many, without what turns text or moves a cursor.
plain <- function(text, most = 500) {
  # A header is in whatever encoding.
  if (!validUTF8(text)) text <- iconv(text, "latin1", "UTF-8")
  text <- gsub("[[:cntrl:]\u0080-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]+", " ", text)
  if (nchar(text) > most) paste0(substr(text, 1, most), "...") else text
}
