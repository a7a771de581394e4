# One request to a server, through curl, and what came back.

# `status`, `headers` in one string and `text`; or `failed`, curl's message.
exchange <- function(from, path, body, reads, call) {
  made_of <- if (reads) made_of(from)
  kept <- if (reads) take_handle(made_of)
  handle <- kept$handle %||% new_handle(from, call)
  set_body(handle, from, body, kept$body)
  # Interruptible, curl would take its connections from one pool for all handles, which a forked child shares with its
  # parent; otherwise they are the handle's own. Its progress function looks for Ctrl-C instead.
  before <- options(curl_interrupt = FALSE)
  on.exit(options(before))
  the$asked <- proc.time()[[3]]
  answer <- tryCatch(curl::curl_fetch_memory(paste0(from$url, path), handle), error = conditionMessage)
  if (is.character(answer)) {
    # Before its version 6.1.0, curl makes an error of it.
    if (grepl("Callback aborted|aborted by an application callback", answer)) interrupt()
    # Without the server's name, a part of which could be taken for one of curl's words.
    return(list(failed = gsub(" ?\\[+[^]]*\\]+", "", answer, useBytes = TRUE)))
  }
  answer <- list(status = answer$status_code, headers = rawToChar(answer$headers[answer$headers != 0]), text = as_text(answer$content))
  if (reads) keep_handle(handle, made_of, path, body, answer)
  answer
}

# curl calls it at least once a second. R looks for Ctrl-C each thousand steps of a loop; where it finds it, curl ends.
look_for_interrupt <- function(down, up) {
  if (proc.time()[[3]] > the$asked + 0.2) for (i in 1:1001) NULL
  TRUE
}

# What R does for Ctrl-C.
interrupt <- function() {
  signalCondition(structure(list(message = "", call = NULL), class = c("interrupt", "condition")))
  invokeRestart("abort")
}

# What a header of the answer says, or NULL; `name` in lower case.
header <- function(answer, name) {
  lines <- strsplit(answer$headers, "\r?\n", perl = TRUE, useBytes = TRUE)[[1]]
  # Other answers may come before it, as "100 Continue".
  lines <- lines[seq_along(lines) > max(0, which(startsWith(lines, "HTTP/")))]
  found <- grep(paste0("^", name, ":"), lines, ignore.case = TRUE, value = TRUE, useBytes = TRUE)
  if (length(found)) gsub("^[^:]*:[ \t]*|[ \t]*$", "", found[[1]], useBytes = TRUE)
}

# --- Handles -----------------------------------------------------------------------------------------------------

# Making a handle and its connection takes longer than a request, so one handle is kept for what reads. It holds a key
# or a ticket: it is used again only for what it was made of, and only by the process that made it. Who uses it takes it
# away and puts it back if all went well. What changes something has a handle and a connection of its own: libcurl itself
# repeats a request if a connection that was used before ends without an answer, and a value does not stay in a handle.

take_handle <- function(made_of) {
  process <- as.character(Sys.getpid())
  kept <- the$handles[[process]]
  # What a fork inherits stays there: closing it would say goodbye on the parent's connection.
  the$handles[[process]] <- NULL
  if (identical(kept$made_of, made_of)) kept
}

keep_handle <- function(handle, made_of, path, body, answer) {
  # Each request begins without the cookies of another.
  if (grepl("(?i)\nset-cookie:", answer$headers, perl = TRUE, useBytes = TRUE)) {
    curl::handle_setopt(handle, cookielist = "ALL")
  }
  # What our server is asked for is a name. Another body may hold somebody's cookies, and does not stay.
  harmless <- is.null(body) || startsWith(path, "/dkusecrets/")
  if (!harmless) curl::handle_setopt(handle, postfields = raw())
  the$handles[[as.character(Sys.getpid())]] <- list(handle = handle, made_of = made_of, body = if (harmless) list(body))
}

drop_handle <- function() {
  the$handles[[as.character(Sys.getpid())]] <- NULL
}

# Everything that new_handle() takes from anywhere. What the environment says of proxies libcurl looks at each time.
made_of <- function(from) {
  list(
    from$url, from$socket, from$headers, from$no_check,
    Sys.getenv("CURL_CA_BUNDLE"), getOption("dkusecrets.timeout"), getOption("dkusecrets.curl"), getOption("netrc")
  )
}

new_handle <- function(from, call) {
  bundle <- Sys.getenv("CURL_CA_BUNDLE")
  timeout <- check_timeout(getOption("dkusecrets.timeout", 30), call)
  users <- as.list(getOption("dkusecrets.curl"))
  names(users) <- tolower(names(users))
  # These can be set otherwise, by options(dkusecrets.curl = ).
  usual <- list(
    cainfo = if (nzchar(bundle)) bundle,
    ssl_verifypeer = if (from$no_check) 0L,
    ssl_verifyhost = if (from$no_check) 0L,
    useragent = paste0("dkusecrets-r/", getNamespaceVersion("dkusecrets")),
    connecttimeout_ms = min(10000L, timeout),
    xferinfofunction = look_for_interrupt,
    # What the environment names for the network would be sent what does not leave this machine.
    proxy = if (is_loopback(from$url)) ""
  )
  own <- list(
    timeout_ms = timeout,
    # A key must not travel to where a redirect points; and the answer to CONNECT is a proxy's.
    followlocation = FALSE,
    suppress_connect_headers = TRUE,
    unix_socket_path = from$socket,
    proxy = if (!is.null(from$socket)) ""
  )
  all <- c(compact(own), users, compact(usual))
  handle <- curl::new_handle()
  tryCatch(
    curl::handle_setopt(handle, .list = all[!duplicated(names(all))]),
    # Not curl's message: it may hold what was given, as a key's passphrase.
    error = function(cnd) {
      names <- if (length(users)) paste0(" (", paste(names(users), collapse = ", "), ")")
      abort_dku("invalid_argument", paste0("curl does not take options(dkusecrets.curl = ) as it is", names), call = call)
    }
  )
  handle
}

# `before` is what the handle has sent, as a list of one; NULL if that is not known. Setting takes longer than sending.
set_body <- function(handle, from, body, before) {
  if (identical(before, list(body))) {
    return()
  }
  if (is.null(body)) {
    curl::handle_setopt(handle, httpget = TRUE)
  } else {
    curl::handle_setopt(handle, postfields = json_object(body))
  }
  if (is.null(before) || is.null(before[[1]]) != is.null(body)) {
    # Without `Expect` a large body is not kept waiting for leave to come.
    more <- list(Accept = "application/json", `Content-Type` = if (!is.null(body)) "application/json", Expect = "")
    curl::handle_setheaders(handle, .list = compact(c(from$headers, more)))
  }
}

# Whether an address is of this machine alone. Names below localhost are, too (RFC 6761, section 6.3).
is_loopback <- function(url) {
  grepl("^https?://(([^/:]*[.])?localhost[.]?|127[.][0-9.]+|\\[([0:]*:0*1|::ffff:127[.][0-9.]+)\\])(:[0-9]+)?(/|$)", url, ignore.case = TRUE)
}

compact <- function(x) {
  x[!vapply(x, is.null, NA)]
}

# Seconds as milliseconds.
check_timeout <- function(x, call) {
  if (!is.numeric(x) || length(x) != 1 || is.na(x) || x <= 0 || x > 86400) {
    abort_argument("options(dkusecrets.timeout)", "one number of seconds, greater than 0 and at most 86400", x, call)
  }
  as.integer(ceiling(x * 1000))
}
