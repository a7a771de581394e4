# First what needs no server: JSON, and what answers mean. Then the same functions as of a vault, over HTTP.

a_source <- server_at("https://dss.example.org", "DKU_DSS_URL and DKU_API_KEY are set", key = "k")

test_that("a body is a flat object that keeps every byte", {
  text <- "\u20ac \U1f511 \"quoted\" \\back </script> \u0001\t\r\n\u007f\u2028 \\u0000"
  sent <- json_object(list(name = "a", value = text, none = NULL, expires = NA, number = 2^53, small = 100000, zero = 0))
  expect_identical(
    jsonlite::parse_json(rawToChar(sent)),
    list(name = "a", value = text, expires = NULL, number = 2^53, small = 100000L, zero = 0L)
  )
  expect_match(rawToChar(sent), "\"number\":9007199254740992,\"small\":100000,", fixed = TRUE)
  expect_identical(rawToChar(json_object(list(name = "a"))), "{\"name\":\"a\"}")
  expect_identical(rawToChar(json_object(list(name = "a\n"))), "{\"name\":\"a\\n\"}")
})

test_that("bytes are kept in a C locale too", {
  skip_if_not_installed("callr")
  found <- callr::r(function() {
    text <- rawToChar(as.raw(c(0xc3, 0xa9)))
    sent <- dkusecrets:::json_object(list(a = text))
    list(sent, charToRaw(dkusecrets:::parse_answer(dkusecrets:::as_text(sent))$a))
  }, env = c(LC_ALL = "C"))
  expect_identical(found, list(charToRaw("{\"a\":\"\u00e9\"}"), charToRaw("\u00e9")))
})

test_that("an answer is an object in UTF-8 that R can hold, or nothing", {
  parse <- function(bytes) parse_answer(as_text(if (is.raw(bytes)) bytes else charToRaw(bytes)))
  expect_identical(parse("{\"a\": 3000000000123}"), list(a = 3000000000123))
  expect_identical(parse("{\"a\": \"\\ud83d\\udd11\\n\"}"), list(a = "\U1f511\n"))
  expect_length(parse("{}"), 0)
  # The last is a backslash and six characters, no NUL.
  expect_identical(parse("{\"a\": \"\\\\u0000\"}"), list(a = "\\u0000"))
  for (bad in list("", "<html>", "[1]", "\"a\"", "1", "null", "{", "{\"a\": \"\\u0000\"}", "{\"a\": \"\\\\\\u0000\"}",
                   as.raw(c(0x7b, 0x7d, 0)), charToRaw("{\"a\": \"\xff\"}"))) {
    expect_type(parse(bad), "character")
  }
})

test_that("a secret's answer means the same without the parser", {
  answer <- function(value, expires = "null", expired = "false", after = "") {
    sprintf("{\"name\":\"a\",\"value\":\"%s\",\"version\":12,\"expires\":%s,\"expired\":%s}%s", value, expires, expired, after)
  }
  texts <- c(
    vapply(c("v", "", "{\u20ac, \U1f511}", "',:\u007f", "\\\"", "\\n\\u20ac", "\",\"value\":\"x", strrep("\u20ac", 1e5)), answer, ""),
    answer("v", "\"2031-12-31\""), answer("v", "\"2020-12-31\"", "true"), answer("v", after = "\n"), "{}", "{\"value\":1}"
  )
  for (text in texts) {
    text <- as_text(charToRaw(enc2utf8(text)))
    expect_identical(parse_secret(text)[["value"]], parse_answer(text)[["value"]])
    expect_identical(parse_secret(text)[["expired"]], parse_answer(text)[["expired"]])
  }
  for (bad in c(answer("a\tb"), answer("a\nb"), answer("v", after = "x"), answer("\\u0000"), answer("v\"")  , "")) {
    expect_type(parse_secret(bad), "character")
  }
  expect_type(parse_secret(NULL), "character")
})

test_that("a header is found in the last of several answers", {
  answer <- list(headers = "HTTP/1.1 100 Continue\r\nA: 0\r\n\r\nHTTP/1.1 200 OK\r\nB-C:\t d: e \r\nx: a: 1\r\nLATIN: \xe9\r\n\r\n")
  expect_null(header(answer, "a"))
  expect_identical(header(answer, "b-c"), "d: e")
  expect_null(header(list(headers = ""), "b-c"))
  expect_identical(charToRaw(header(answer, "latin")), as.raw(0xe9))
})

test_that("days travel as text", {
  expect_identical(day_out(as.double(as.Date("2031-12-31"))), "2031-12-31")
  expect_identical(day_in("2031-12-31"), as.double(as.Date("2031-12-31")))
  expect_identical(day_out(NA_real_), NA_real_)
  for (bad in c("", "garbage", "2031-12-32", "2031-12-31x", "31.12.2031", "20311-01-01")) expect_null(day_in(bad))
  expect_null(day_out(NULL))
})

test_that("tables have their columns also without rows", {
  none <- list(secrets = list(), versions = list())
  expect_identical(lengths(secrets_table(none)), setNames(rep(0L, 7), c("name", "description", "version", "created", "updated", "expires", "removed")))
  expect_identical(vapply(secrets_table(none), typeof, ""), setNames(rep(c("character", "double"), c(2, 5)), names(secrets_table(none))))
  expect_identical(vapply(versions_table(none), typeof, "", USE.NAMES = FALSE), c("double", "double", "double", "logical"))
})

test_that("half of a surrogate pair is an error of its own, and never another character", {
  for (bad in c("\\ud800", "v\\uDBFFx", "\\udc00", "\\ude00\\ud800", "\\ud83d\\ud83d\\udd11", "\\\\\\ud800", "\\ud800\\n\\udc00", "\\ud83d\\\\udd11")) {
    text <- sprintf("{\"name\":\"a\",\"value\":\"%s\",\"version\":1,\"expires\":null,\"expired\":false}", bad)
    expect_match(parse_answer(text), "half of a surrogate pair", fixed = TRUE)
    expect_identical(parse_secret(text), parse_answer(text))
  }
  for (good in c("\\ud83d\\udd11", "\\UD83D", "\\\\ud800", "\\ud83d\\uDD11\\\\ud800", "\\ud7ff\\ue000", "\U1f511")) {
    text <- sprintf("{\"value\":\"%s\"}", sub("\\U", "\\\\U", good, fixed = TRUE))
    expect_identical(parse_answer(text), jsonlite::parse_json(text))
  }
})

# The condition that an answer becomes.
raised <- function(status, body = NULL, ...) {
  tryCatch(unwrap(answer_failure(a_source, status, body, ...)), error = identity)
}

test_that("a kind becomes the class of the embedded error, with its fields and its way out", {
  cnd <- raised(404, list(kind = "not_found", message = "no \"a\"", name = "a", close = list("b", "c"), removed = FALSE))
  expect_identical(class(cnd)[1:2], c("dkusecrets_error_not_found", "dkusecrets_error"))
  expect_identical(unclass(cnd)[c("name", "close", "removed", "server")], list(
    name = "a", close = c("b", "c"), removed = FALSE, server = "https://dss.example.org"
  ))
  expect_identical(conditionMessage(cnd), paste(
    "no \"a\"", "dkuListSecrets() shows the names there are; dkuSetSecret(\"a\") stores one",
    "https://dss.example.org was asked: DKU_DSS_URL and DKU_API_KEY are set", sep = "\n  "
  ))
  expect_identical(raised(404, list(kind = "not_found", message = "m", name = "a", close = list()))$close, character())
  cnd <- raised(409, list(kind = "conflict", message = "m", name = "a", expected = 3L, found = 4L))
  expect_s3_class(cnd, "dkusecrets_error_conflict")
  expect_identical(c(cnd$expected, cnd$found), c(3, 4))
  expect_match(conditionMessage(raised(404, list(kind = "not_found", message = "m", name = "a", removed = TRUE))), "dkuRestoreSecret", fixed = TRUE)
  expect_match(conditionMessage(raised(423, list(kind = "locked", message = "m"))), "whoever looks after the server", fixed = TRUE)
  for (kind in c("exists", "invalid_name", "invalid_value", "invalid_argument", "not_allowed", "busy", "damaged")) {
    expect_s3_class(raised(400, list(kind = kind, message = "m")), paste0("dkusecrets_error_", kind))
  }
})

test_that("without a kind the status decides", {
  said <- list(errorType = "x", message = "Unknown API Key")
  kinds <- c(`401` = "not_authenticated", `403` = "not_allowed", `503` = "unavailable", `500` = "remote", `404` = "remote", `302` = "remote", `200` = "remote")
  for (status in names(kinds)) {
    expect_s3_class(raised(as.integer(status), said), paste0("dkusecrets_error_", kinds[[status]]))
    expect_s3_class(raised(as.integer(status)), paste0("dkusecrets_error_", kinds[[status]]))
  }
  expect_match(conditionMessage(raised(401, said)), "^Unknown API Key \\(HTTP 401\\)")
  for (bad in list("Bad", "a b", "", 1, list(), NA, "../x")) {
    expect_s3_class(raised(500, list(kind = bad, message = "m")), "dkusecrets_error_remote")
  }
})

test_that("what only our server has ends as unsupported on a DSS", {
  expect_s3_class(raised(404, NULL, path = "/dkusecrets/v1/secrets"), "dkusecrets_error_unsupported")
  expect_s3_class(raised(404, NULL, path = "/dkusecrets/v1/secrets", ours = TRUE), "dkusecrets_error_remote")
  expect_s3_class(raised(404, NULL, path = "/dip/publicapi/auth/info"), "dkusecrets_error_remote")
})

test_that("a redirect says where to, without what may be secret in it", {
  message <- conditionMessage(raised(302, NULL, location = "https://other.example.org/login?token=Marker7Value"))
  expect_match(message, "elsewhere to https://other.example.org: use", fixed = TRUE)
})

test_that("a server's words cannot play tricks on a terminal", {
  said <- plain(paste0("a\u001b[31mb\u0007c\r\nd\u202ee", strrep("x", 1000)))
  expect_match(said, "^a \\[31mb c d ex+\\.\\.\\.$")
  expect_lt(nchar(said), 510)
})

test_that("a connection that fails says what to look at", {
  text <- function(...) conditionMessage(tryCatch(unwrap(connection_failure(a_source, ...)), dkusecrets_error_unavailable = identity))
  refused <- text("Failed to connect to dss.example.org port 443: Connection refused", changes = TRUE)
  expect_match(refused, "^https://dss.example.org could not be reached: Failed to connect")
  expect_match(refused, "https_proxy", fixed = TRUE)
  expect_no_match(refused, "not known")
  expect_match(text("Operation timed out after 30000 milliseconds", changes = TRUE), "did not answer.*whether the server has done it is not known")
  expect_no_match(text("Operation timed out after 30000 milliseconds"), "not known")
  certificate <- text("SSL certificate problem: self-signed certificate")
  expect_match(certificate, "CURL_CA_BUNDLE.*no_check_certificate = TRUE")
  expect_no_match(certificate, "https_proxy", fixed = TRUE)
  socket <- server_at("http://localhost", "it is there", socket = "/run/s")
  expect_match(connection_failure(socket, "Couldn't connect to server")$message, "^/run/s could not be reached: .*\n  is the server running\\?$")
})

test_that("what is asked again is what may be there a moment later", {
  answer <- function(status, after = NULL) {
    list(status = status, headers = paste0("HTTP/1.1 503\r\n", if (!is.null(after)) paste0("Retry-After: ", after, "\r\n"), "\r\n"))
  }
  expect_identical(wait_before_next(answer(503, "2"), 1), 2)
  for (other in list(answer(503), answer(503, "120"), answer(503, "Wed, 21 Oct 2031 07:28:00 GMT"), answer(200, "1"), answer(500, "1"))) {
    expect_null(wait_before_next(other, 1))
  }
  expect_gt(wait_before_next(list(failed = "Failed to connect"), 2), wait_before_next(list(failed = "Failed to connect"), 1))
  expect_null(wait_before_next(list(failed = "SSL certificate problem"), 1))
  expect_null(wait_before_next(list(failed = "Operation timed out"), 1))
})

test_that("options of curl's are checked without showing them", {
  local_remote("http://127.0.0.1:1")
  withr::local_options(dkusecrets.curl = list(keypasswd = 1, nonsense = "Marker7Value"))
  cnd <- expect_error(dkuGetAuthInfo(), class = "dkusecrets_error_invalid_argument")
  expect_match(conditionMessage(cnd), "nonsense", fixed = TRUE)
  expect_no_match(conditionMessage(cnd), "Marker7Value", fixed = TRUE)
  for (bad in list(0, -1, NA, "30", c(1, 2), Inf)) {
    withr::with_options(list(dkusecrets.timeout = bad, dkusecrets.curl = NULL), {
      expect_error(dkuGetAuthInfo(), class = "dkusecrets_error_invalid_argument")
    })
  }
})

test_that("the names that are close are few and near", {
  expect_identical(close_to("api-kex", c("api-key", "another", "API-KEX", "api-keyx")), c("API-KEX", "api-key", "api-keyx"))
  expect_identical(close_to("a", character()), character())
  expect_identical(close_to("long-name", c("quite another")), character())
})

# --- Answers of no shape -----------------------------------------------------------------------------------------

# Answers instead of curl.
local_exchange <- function(fun, env = parent.frame()) {
  namespace <- asNamespace("dkusecrets")
  put <- function(fun) {
    unlockBinding("exchange", namespace)
    assign("exchange", fun, namespace)
    lockBinding("exchange", namespace)
  }
  before <- namespace$exchange
  withr::defer(put(before), env)
  put(fun)
}

# What a call ends in if a server answers so to what only ours has, or, if there is `info`, to auth/info.
answered <- function(call, text, status = 200L, info = "{\"authIdentifier\":\"ada\"}", version = "0.2.0") {
  withr::defer(dkuSetRemoteDSS(NULL))
  dkuSetRemoteDSS("http://malformed.example.org", "k")
  the$servers <- character()
  the$warned <- character()
  local_exchange(function(from, path, ...) {
    ours <- startsWith(path, "/dkusecrets/")
    headers <- paste0("HTTP/1.1 200 OK\r\n", if (!is.null(version)) paste0("dkusecrets-version: ", version, "\r\n"), "\r\n")
    list(status = if (ours) status else 200L, headers = headers, text = as_text(charToRaw(if (ours) text else info)))
  })
  tryCatch(call(), error = identity, warning = identity)
}

expect_malformed <- function(call, text, ..., class = "dkusecrets_error_remote") {
  cnd <- answered(call, text, ...)
  expect_s3_class(cnd, class)
  # Not a word of the server's, which may be a value.
  expect_no_match(paste(conditionMessage(cnd), paste(deparse(unclass(cnd)), collapse = " ")), "Marker7Value", fixed = TRUE)
  cnd
}

no_object <- c("", " ", "[]", "[\"Marker7Value\"]", "\"Marker7Value\"", "null", "1", "true", "<html>Marker7Value", "{\"value\":\"Marker7Value",
               "{\"value\":\"Marker7Value\\u0000\"}", "{\"value\":\"Marker7Value\\ud800\"}", "{\"value\":\"Marker7Value\xe9\"}",
               paste0("{\"value\":", strrep("[", 1e5), strrep("]", 1e5), "}"))

test_that("an answer that is no object is an error, whatever was asked", {
  calls <- list(
    function() dkuGetSecret("a"), function() dkuListSecrets(), function() dkuSecretVersions("a"), function() dkuAuditLog(),
    function() dkuSetSecret("a", "Marker7Value"), function() dkuDescribeSecret("a", "d"), function() dkuRemoveSecret("a"),
    function() dkuRestoreSecret("a"), function() dkuRenameSecret("a", "b"), function() dkuPurgeSecret("a")
  )
  for (call in calls) for (text in no_object) expect_malformed(call, text)
  # Nothing is to be told of these but that they are done.
  for (call in calls[c(6, 7, 9)]) expect_null(answered(call, "{}"))
  for (call in calls[-c(6, 7, 9)]) expect_malformed(call, "{}")
  for (with in c(TRUE, FALSE)) for (text in no_object) expect_malformed(function() dkuGetAuthInfo(with), "{}", info = text)
  expect_match(conditionMessage(answered(calls[[1]], no_object[[12]])), "surrogate", fixed = TRUE)
})

test_that("each field is what it must be, or an error", {
  rejects <- function(call, good, bad, wrap = "%s", ...) {
    json <- function(fields) paste0("{", paste0("\"", names(fields), "\":", fields, collapse = ","), "}")
    expect_false(inherits(answered(call, sprintf(wrap, json(good)), ...), "condition"))
    for (field in names(bad)) {
      for (value in bad[[field]]) {
        expect_malformed(call, sprintf(wrap, json(replace(good, field, value))), ...)
      }
      expect_malformed(call, sprintf(wrap, json(good[names(good) != field])), ...)
    }
  }
  no_string <- c("null", "1", "true", "[\"Marker7Value\"]", "{\"a\":\"Marker7Value\"}", "[]")
  no_number <- c("null", "\"Marker7Value\"", "\"1\"", "true", "[1]", "{\"a\":1}", "1e999")
  no_flag <- c("null", "0", "\"true\"", "[true]")
  no_day <- c("1", "\"Marker7Value\"", "\"2031-02-30\"", "[\"2031-01-01\"]", "{}", "true")
  rejects(function() dkuGetSecret("a"), c(value = "\"v\"", expired = "false"), list(value = no_string, expired = no_flag))
  old <- c(value = "\"v\"", expired = "true", expires = "\"2020-01-01\"")
  expect_s3_class(answered(function() dkuGetSecret("a"), "{\"value\":\"v\",\"expired\":true,\"expires\":\"2020-01-01\"}"), "dkusecrets_warning_expired")
  rejects(function() suppressWarnings(dkuGetSecret("a")), old, list(expires = c("null", no_day)))
  # By its whole name only.
  expect_malformed(function() dkuGetSecret("a"), "{\"values\":\"Marker7Value\",\"expired\":false}")
  count <- c(no_number, "1.5", "-1")
  rejects(function() dkuSetSecret("a", "v"), c(version = "1"), list(version = count))
  rejects(function() dkuRestoreSecret("a"), c(version = "1"), list(version = count))
  rejects(function() dkuPurgeSecret("a"), c(purged = "0"), list(purged = count))
  rejects(
    function() dkuListSecrets(removed = TRUE),
    c(name = "\"a\"", description = "\"d\"", version = "1", created = "1", updated = "1"),
    list(name = no_string, version = no_number, created = no_number, updated = no_number), "{\"secrets\":[%s]}"
  )
  with_days <- "{\"secrets\":[{\"name\":\"a\",\"version\":1,\"created\":1,\"updated\":1,%s}]}"
  for (day in no_day) expect_malformed(function() dkuListSecrets(), sprintf(with_days, paste0("\"expires\":", day)))
  for (removed in no_number[-1]) expect_malformed(function() dkuListSecrets(), sprintf(with_days, paste0("\"removed\":", removed)))
  for (description in no_string[-1]) expect_malformed(function() dkuListSecrets(), sprintf(with_days, paste0("\"description\":", description)))
  rejects(
    function() dkuSecretVersions("a"), c(version = "1", created = "1", current = "true"),
    list(version = no_number, created = no_number, current = no_flag), "{\"versions\":[%s]}"
  )
  rejects(
    dkuAuditLog,
    c(seq = "1", time = "1", who = "\"a\"", from = "\"a\"", action = "\"a\"", names = "[\"a\"]", outcome = "\"ok\"", claims = "{}"),
    list(
      seq = no_number, time = no_number, who = no_string, from = no_string, action = no_string, outcome = no_string,
      names = c("null", "\"Marker7Value\"", "[1]", "[null]", "[[\"Marker7Value\"]]", "{\"a\":\"b\"}"), claims = c("null", "1", "[]", "\"Marker7Value\"")
    ), "{\"events\":[%s]}"
  )
  no_rows <- c("null", "\"Marker7Value\"", "5", "{}", "{\"a\":{\"name\":\"Marker7Value\"}}", "[\"Marker7Value\"]", "[null]", "[[]]", "[{}]")
  for (rows in no_rows) {
    expect_malformed(function() dkuListSecrets(), sprintf("{\"secrets\":%s}", rows))
    expect_malformed(function() dkuSecretVersions("a"), sprintf("{\"versions\":%s}", rows))
    expect_malformed(function() dkuAuditLog(), sprintf("{\"events\":%s}", rows))
    info <- sprintf("{\"authIdentifier\":\"ada\",\"groups\":[],\"secrets\":%s}", rows)
    expect_malformed(function() dkuGetAuthInfo(TRUE), "{}", info = info)
    expect_malformed(function() dkuGetSecret("a"), "{}", info = info, version = NULL)
  }
})

test_that("who asks is told, and so are his secrets", {
  info <- function(text, with = TRUE, ...) answered(function() dkuGetAuthInfo(with), "{}", info = text, ...)
  for (version in list("0.2.0", NULL)) for (with in c(TRUE, FALSE)) {
    for (text in c("{}", "{\"secrets\":[]}", "{\"authIdentifier\":1,\"secrets\":[]}", "{\"authIdentifier\":[\"ada\"],\"secrets\":[]}")) {
      expect_malformed(function() dkuGetAuthInfo(with), "{}", info = text, version = version)
      # Nor is it taken for a DSS's from then on.
      expect_malformed(function() dkuListSecrets(), "{\"secrets\":[]}", info = text, version = NULL)
    }
  }
  expect_malformed(function() dkuGetAuthInfo(TRUE), "{}", info = "{\"authIdentifier\":\"ada\"}")
  expect_malformed(function() dkuGetAuthInfo(TRUE), "{}", info = "{\"authIdentifier\":\"ada\",\"authSource\":\"PERSONAL_API_KEY\",\"groups\":[]}")
  # A key of nobody has none to tell of.
  nobody <- info("{\"authIdentifier\":\"id\",\"authSource\":\"PERSONAL_API_KEY\",\"via\":[]}", version = NULL)
  expect_length(nobody$secrets, 0)
  expect_s3_class(nobody$secrets, "dkusecrets_secrets")
  for (secret in c("{\"key\":\"a\"}", "{\"value\":\"Marker7Value\"}", "{\"key\":\"a\",\"value\":1}", "{\"key\":[\"a\"],\"value\":\"Marker7Value\"}",
                   "{\"keys\":\"a\",\"values\":\"Marker7Value\"}")) {
    expect_malformed(function() dkuGetAuthInfo(TRUE), "{}", info = sprintf("{\"authIdentifier\":\"ada\",\"secrets\":[%s]}", secret))
  }
  expect_identical(info("{\"authIdentifier\":\"ada\",\"class\":\"data.frame\",\"secrets\":[{\"key\":\"a\",\"value\":\"v\",\"class\":\"x\"}]}", version = NULL)$secrets[[1]]$value, "v")
  # What calls itself by bytes that are no text is not one of ours.
  for (version in c("\xe9", "a b", strrep("1", 100), "\033[2J")) {
    found <- answered(dkuVaultInfo, "{\"store\":\"0123\"}", version = version)
    expect_identical(found$server_version, NA_character_)
    expect_output(print(found), "a Dataiku DSS", fixed = TRUE)
  }
  found <- answered(dkuVaultInfo, "{\"store\":{\"a\":\"Marker7Value\"}}")
  expect_named(found$problems, c("warning", "remote"))
  expect_output(print(found), "has no \"store\"", fixed = TRUE)
})

test_that("errors of a server are made of what can be used, and no more", {
  says <- function(text, status = 404L) answered(function() dkuSetSecret("a", "v"), text, status)
  fields <- function(cnd) unclass(cnd)[intersect(c("name", "close", "removed", "version", "expected", "found"), names(cnd))]
  odd <- "{\"kind\":\"%s\",\"message\":\"m\",\"name\":%s,\"close\":%s,\"removed\":%s,\"version\":%s,\"expected\":%s,\"found\":%s}"
  for (kind in c("not_found", "exists", "conflict", "locked", "expired", "unheard_of")) {
    for (value in c("null", "{\"call\":\"x\"}", "[1]", "[]", "{}")) {
      cnd <- says(sprintf(odd, kind, value, "{\"a\":[[\"x\"]]}", value, value, value, value))
      expect_s3_class(cnd, paste0("dkusecrets_error_", kind))
      expect_identical(c(fields(cnd)[names(fields(cnd)) != "close"]), list(), ignore_attr = TRUE)
    }
  }
  cnd <- says(sprintf(odd, "not_found", "\"a\"", "[\"b\",1,[\"c\"],null]", "\"x\"", "1e999", "true", "\"1\""))
  expect_identical(fields(cnd), list(name = "a", close = "b"))
  expect_null(says(sprintf(odd, "not_found", paste0("\"", strrep("n", 256), "\""), "[]", "true", "1", "1", "1"))$name)
  expect_s3_class(says(sprintf("{\"kind\":\"%s\",\"message\":\"m\"}", strrep("k", 100)), 500L), "dkusecrets_error_remote")
  expect_no_match(plain("a\u2028b\u2029c\u200ed\u061ce"), "[^a-e ]")
  expect_identical(plain("caf\xe9 %s"), "caf\u00e9 %s")
})

# --- Over HTTP ---------------------------------------------------------------------------------------------------

server <- if (nzchar(Sys.getenv("NOT_CRAN"))) start_server(testthat::teardown_env())

test_that("the functions of a vault work with a server, and mean the same", {
  skip_on_cran()
  for (where in c("url", "socket")) {
    if (where == "url") local_remote(server$ours) else withr::local_envvar(DKUSECRETS_HOME = NA, DKUSECRETS_SOCKET = server$socket)
    if (where == "socket") dkuSetRemoteDSS(NULL)
    a <- paste("a", where)
    value <- "line\nof \u20ac \U1f511 \\u0000 \"x\" \u0001 </a>\n"
    expect_invisible(dkuSetSecret(a, value))
    expect_identical(dkuGetSecret(a), value)
    expect_identical(Encoding(dkuGetSecret(a)), "UTF-8")
    expect_identical(dkuSetSecret(a, "", description = "d", expires = "2031-12-31", if_version = 1), 2)
    expect_identical(dkuGetSecret(a), "")
    cnd <- expect_error(dkuSetSecret(a, "x", if_version = 1), class = "dkusecrets_error_conflict")
    expect_identical(c(cnd$expected, cnd$found), c(1, 2))
    expect_identical(conditionCall(cnd), quote(dkuSetSecret()))
    listed <- dkuListSecrets()
    expect_s3_class(listed, "dkusecrets_list")
    expect_named(listed, c("name", "description", "version", "created", "updated", "expires"))
    expect_identical(listed[listed$name == a, ]$expires, as.Date("2031-12-31"))
    expect_identical(listed$created[[1]], utc(1764000000.123))
    expect_named(dkuSecretVersions(a), c("version", "created", "expires", "current"))
    expect_invisible(dkuDescribeSecret(a, description = NULL, expires = NULL))
    expect_identical(last_asked(server$ours, "body"), sprintf("{\"name\":\"%s\",\"description\":\"\",\"expires\":null}", a))
    dkuDescribeSecret(a, expires = "2031-01-01")
    expect_identical(last_asked(server$ours, "body"), sprintf("{\"name\":\"%s\",\"expires\":\"2031-01-01\"}", a))
    dkuDescribeSecret(a, description = "x")
    expect_identical(last_asked(server$ours, "body"), sprintf("{\"name\":\"%s\",\"description\":\"x\"}", a))
    expect_null(dkuRenameSecret(a, "other"))
    expect_null(dkuRemoveSecret(a, if_version = 2))
    expect_identical(last_asked(server$ours, "body"), sprintf("{\"name\":\"%s\",\"if_version\":2}", a))
    expect_identical(dkuRestoreSecret(a), 7)
    expect_identical(dkuPurgeSecret(a), 3)
    cnd <- expect_error(dkuGetSecret("none"), class = "dkusecrets_error_not_found")
    expect_true(a %in% cnd$close)
    expect_identical(conditionCall(cnd), quote(dkuGetSecret()))
    expect_error(dkuGetSecret("caf\u00e9"), class = "dkusecrets_error_not_found")
    expect_error(dkuGetSecret(1), class = "dkusecrets_error_invalid_name")
  }
})

test_that("credentials go where they belong", {
  skip_on_cran()
  local_remote(server$ours, "dkuaps-0123")
  dkuGetAuthInfo()
  expect_identical(last_asked(server$ours, "authorization"), paste("Basic", jsonlite::base64_enc(charToRaw("dkuaps-0123:"))))
  expect_null(unlist(last_asked(server$ours, "ticket")))
  dkuSetRemoteDSS(NULL)
  withr::local_envvar(DKU_API_TICKET = "t1", DKU_BACKEND_HOST = "127.0.0.1", DKU_BACKEND_PORT = sub(".*:", "", server$ours), DKU_BACKEND_PROTOCOL = NA)
  expect_identical(dkuGetAuthInfo()$authIdentifier, "t1")
  expect_null(unlist(last_asked(server$ours, "authorization")))
  # On a socket there are none, and no proxy.
  withr::local_envvar(DKU_API_TICKET = NA, DKUSECRETS_HOME = NA, DKUSECRETS_SOCKET = server$socket)
  withr::with_envvar(c(http_proxy = "http://127.0.0.1:1", no_proxy = ""), dkuGetAuthInfo())
  expect_null(unlist(last_asked(server$ours, "authorization")))
  cnd <- tryCatch({
    local_remote(server$ours, "wrong")
    dkuGetAuthInfo()
  }, error = identity)
  expect_s3_class(cnd, "dkusecrets_error_not_authenticated")
  expect_match(conditionMessage(cnd), "^Unknown API Key")
  expect_no_match(conditionMessage(cnd), "wrong", fixed = TRUE)
})

test_that("a handle that is kept has nothing of another source's or request's", {
  skip_on_cran()
  local_remote(server$ours, "one")
  dkuSetSecret("kept", "v")
  kept <- function() the$handles[[as.character(Sys.getpid())]]
  expect_null(kept())
  sent <- function(field) unlist(last_asked(server$ours, field))
  basic <- function(key) paste("Basic", base64(paste0(key, ":")))
  for (i in 1:3) {
    for (key in c("one", "two")) {
      dkuSetRemoteDSS(server$ours, key)
      expect_null(kept())
      for (j in 1:2) {
        dkuGetSecret("kept")
        expect_identical(c(sent("authorization"), sent("body"), sent("type")), c(basic(key), "{\"name\":\"kept\"}", "application/json"))
        dkuGetAuthInfo()
        expect_identical(c(sent("authorization"), sent("body"), sent("method"), sent("type")), c(basic(key), "", "GET"))
      }
      expect_false(is.null(kept()))
    }
    # From the environment, without a call that could tell of the change.
    dkuSetRemoteDSS(NULL)
    withr::with_envvar(c(DKU_DSS_URL = server$ours, DKU_API_KEY = "three"), {
      dkuGetSecret("kept")
      expect_identical(sent("authorization"), basic("three"))
      withr::with_envvar(c(DKU_API_KEY = "four"), dkuGetSecret("kept"))
      expect_identical(sent("authorization"), basic("four"))
    })
    ticket <- c(DKU_API_TICKET = "t1", DKU_BACKEND_HOST = "127.0.0.1", DKU_BACKEND_PORT = sub(".*:", "", server$ours))
    withr::with_envvar(ticket, dkuGetSecret("kept"))
    expect_identical(c(sent("authorization"), sent("ticket")), "t1")
    withr::with_envvar(c(DKUSECRETS_HOME = NA, DKUSECRETS_SOCKET = server$socket), dkuGetSecret("kept"))
    expect_null(c(sent("authorization"), sent("ticket")))
  }
  # A viewer's ticket goes when his calls are done, and his headers, cookies among them, with the request.
  dkuSetRemoteDSS(server$ours, "one")
  request <- list(HTTP_COOKIE = "t9")
  dkuGetAuthInfoFromRookRequest(request)
  expect_match(sent("body"), "t9", fixed = TRUE)
  expect_false(is.null(kept()))
  expect_null(kept()$body)
  dkuGetSecret("kept")
  expect_identical(sent("body"), "{\"name\":\"kept\"}")
  dkuImpersonateShinyCalls(request, {
    dkuGetSecret("kept")
    expect_identical(c(sent("authorization"), sent("ticket")), "t9")
    expect_false(is.null(kept()))
  })
  expect_null(kept())
})

test_that("a server on this machine is asked without the environment's proxies, unless curl's options name one", {
  skip_on_cran()
  local_remote(server$ours)
  dkuSetSecret("near", "v")
  port <- sub(".*:", "", server$ours)
  # As on most machines behind one: http_proxy alone, in whichever words.
  for (proxy in c("http_proxy", "all_proxy", "ALL_PROXY")) {
    withr::local_envvar(c(no_proxy = NA, NO_PROXY = NA))
    withr::local_envvar(setNames("http://127.0.0.1:1", proxy))
    for (host in c("127.0.0.1", "localhost")) {
      dkuSetRemoteDSS(sprintf("http://%s:%s", host, port), "k")
      expect_identical(dkuGetSecret("near"), "v")
      expect_gt(dkuSetSecret("near", "v"), 1)
    }
    dkuSetRemoteDSS(NULL)
    withr::with_envvar(c(DKU_API_TICKET = "t", DKU_BACKEND_HOST = "127.0.0.1", DKU_BACKEND_PORT = port), {
      expect_identical(dkuGetSecret("near"), "v")
    })
    # Only those: what is elsewhere is asked as the environment says.
    dkuSetRemoteDSS("http://192.0.2.1:1", "k")
    cnd <- expect_error(dkuGetAuthInfo(), class = "dkusecrets_error_unavailable")
    expect_match(conditionMessage(cnd), "127.0.0.1 port 1 ", fixed = TRUE)
  }
  dkuSetRemoteDSS(server$ours, "k")
  for (name in c("proxy", "PROXY")) {
    withr::with_options(list(dkusecrets.curl = setNames(list("http://127.0.0.1:1"), name)), {
      expect_error(dkuGetAuthInfo(), "127.0.0.1 port 1 ", class = "dkusecrets_error_unavailable")
    })
  }
})

test_that("what is an address of this machine", {
  for (host in c("localhost", "LOCALHOST", "localhost.", "a.localhost", "127.0.0.1", "127.1", "127.200.3.4", "[::1]",
                 "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::ffff:127.0.0.1]")) {
    for (url in c("http://%s", "https://%s:1", "http://%s:8000/a", "http://%s/a:b")) expect_true(is_loopback(sprintf(url, host)))
  }
  for (host in c("localhost.example.org", "notlocalhost", "127.0.0.1.example.org", "example.org", "10.0.0.1", "1127.0.0.1",
                 "[::2]", "[1::1]", "[::1:1]", "[::11]", "[fe80::1]", "example.org/localhost", "h:1/.localhost")) {
    expect_false(is_loopback(paste0("http://", host)))
  }
})

test_that("what is set for curl counts from the next request on, and a handle that failed is not used again", {
  skip_on_cran()
  local_remote(server$ours)
  kept <- function() the$handles[[as.character(Sys.getpid())]]$handle
  dkuGetAuthInfo()
  first <- kept()
  dkuGetAuthInfo()
  expect_identical(kept(), first)
  withr::with_options(list(dkusecrets.curl = list(proxy = "http://127.0.0.1:1", noproxy = "")), {
    expect_error(dkuGetAuthInfo(), class = "dkusecrets_error_unavailable")
  })
  expect_null(kept())
  dkuGetAuthInfo()
  first <- kept()
  withr::with_options(list(dkusecrets.curl = list(cookie = "a=b")), dkuGetAuthInfo())
  expect_identical(last_asked(server$ours, "cookie"), "a=b")
  withr::with_options(list(dkusecrets.timeout = -1), expect_error(dkuGetAuthInfo(), class = "dkusecrets_error_invalid_argument"))
  dkuGetAuthInfo()
  expect_null(unlist(last_asked(server$ours, "cookie")))
  expect_false(identical(kept(), first))
  expect_null(getOption("curl_interrupt"))
})

test_that("no request brings the cookies of the one before", {
  skip_on_cran()
  local_remote(paste0(server$ours, "/cookie"))
  for (i in 1:3) {
    dkuGetAuthInfo()
    expect_null(unlist(last_asked(server$ours, "cookie")))
  }
})

test_that("auth info of a server is DSS's, and as redacted as a vault's", {
  skip_on_cran()
  local_remote(server$ours)
  dkuSetSecret("credential-for-my-api", "Marker7Value")
  info <- dkuGetAuthInfo(with_secrets = TRUE)
  expect_s3_class(info, c("dkusecrets_auth_info", "dkusecrets_redacted"), exact = TRUE)
  expect_s3_class(info$secrets, c("dkusecrets_secrets", "dkusecrets_redacted"), exact = TRUE)
  expect_s3_class(info$secrets[[1]], c("dkusecrets_secret", "dkusecrets_redacted"), exact = TRUE)
  expect_identical(info$groups, list("readers"))
  for (object in list(info, info$secrets, info$secrets[1], info$secrets[[1]], list(info))) {
    shown <- c(capture.output(print(object)), capture.output(str(object)), format(object), as.character(info))
    expect_no_match(paste(shown, collapse = " "), "Marker7Value", fixed = TRUE)
  }
  env <- new.env()
  eval(parse(text = readLines(test_path("snippet.R"))), env)
  expect_identical(env$secret_value, "Marker7Value")
  expect_false("secrets" %in% names(dkuGetAuthInfo()))
})

test_that("an expired secret of a server warns as one of a vault", {
  skip_on_cran()
  local_remote(server$ours)
  dkuSetSecret("old", "v", expires = "2020-01-01")
  withr::defer(dkuSetSecret("old", "v"))
  cnd <- expect_warning(expect_identical(dkuGetSecret("old"), "v"), class = "dkusecrets_warning_expired")
  expect_identical(cnd$expires, as.Date("2020-01-01"))
  the$warned <- character()
  expect_warning(dkuGetAuthInfo(TRUE), class = "dkusecrets_warning_expired")
  expect_silent(dkuGetAuthInfo(TRUE))
  withr::local_options(dkusecrets.expired = "error")
  expect_error(dkuGetSecret("old"), class = "dkusecrets_error_expired")
  expect_error(dkuGetAuthInfo(TRUE), class = "dkusecrets_error_expired")
})

test_that("of a DSS secrets are read, and nothing is sent that would change them", {
  skip_on_cran()
  local_remote(server$ours)
  dkuSetSecret("shared", "v1")
  dkuSetRemoteDSS(server$dss, "k")
  expect_identical(dkuGetSecret("shared"), "v1")
  expect_true("shared" %in% vapply(dkuGetAuthInfo(TRUE)$secrets, `[[`, "", "key"))
  cnd <- expect_error(dkuGetSecret("sharee"), class = "dkusecrets_error_not_found")
  expect_identical(cnd$close, "shared")
  expect_no_match(conditionMessage(cnd), "dkuSetSecret", fixed = TRUE)
  for (use in list(
    function() dkuSetSecret("a", "Marker7Value"), function() dkuListSecrets(), function() dkuSecretVersions("a"),
    function() dkuRemoveSecret("a"), function() dkuRestoreSecret("a"), function() dkuPurgeSecret("a"),
    function() dkuDescribeSecret("a", "d"), function() dkuRenameSecret("a", "b"), function() dkuAuditLog()
  )) {
    # Also when nothing is known of it yet.
    the$servers <- character()
    cnd <- expect_error(use(), class = "dkusecrets_error_unsupported")
    expect_match(conditionMessage(cnd), "is a Dataiku DSS", fixed = TRUE)
  }
  of_dss <- Filter(function(request) !request$ours, asked(server$dss))
  expect_identical(unique(vapply(of_dss, `[[`, "", "method")), "GET")
  expect_no_match(paste(vapply(of_dss, `[[`, "", "path"), collapse = " "), "dkusecrets", fixed = TRUE)
  expect_identical(dkuVaultInfo()$server_version, NA_character_)
  expect_output(print(dkuVaultInfo()), "software  a Dataiku DSS")
})

test_that("dkuVaultInfo() says who answers and why", {
  skip_on_cran()
  withr::local_envvar(DKUSECRETS_HOME = NA, DKUSECRETS_SOCKET = server$socket)
  info <- dkuVaultInfo()
  expect_identical(
    unclass(info)[c("server", "kind", "why", "server_version", "login", "store")],
    list(server = server$socket, kind = "socket", why = "DKUSECRETS_SOCKET names it", server_version = "0.2.0", login = "ada", store = "0123")
  )
  expect_length(info$problems, 0)
  expect_identical(names(info)[1:3], names(withr::with_envvar(c(DKUSECRETS_SOCKET = NA, DKUSECRETS_HOME = tempdir()), dkuVaultInfo()))[1:3])
  local_remote(server$ours, "wrong")
  expect_named(dkuVaultInfo()$problems, "not_authenticated")
})

test_that("the audit log is a data frame", {
  skip_on_cran()
  local_remote(server$ours)
  log <- dkuAuditLog(limit = 2)
  expect_match(last_asked(server$ours, "path"), "limit=2", fixed = TRUE)
  expect_named(log, c("seq", "time", "who", "behalf", "from", "action", "names", "outcome", "claims"))
  expect_identical(log$seq, c(5e9, 2))
  expect_identical(log$behalf, c(NA, "bob"))
  expect_identical(log$names, list(c("a", "b"), character()))
  expect_identical(log$claims[[1]], list(project = "P"))
  expect_s3_class(log$time, "POSIXct")
  expect_error(dkuAuditLog(0), class = "dkusecrets_error_invalid_argument")
  dkuSetRemoteDSS(NULL)
  local_vault()
  expect_error(dkuAuditLog(), class = "dkusecrets_error_unsupported")
})

test_that("a read is tried again, and what is no JSON and a redirect are errors", {
  skip_on_cran()
  local_remote(paste0(server$ours, "/busy"))
  expect_identical(dkuGetAuthInfo()$authIdentifier, "ada")
  expect_error(dkuGetTicketFromBrowserHeaders(c(cookie = "x")), class = "dkusecrets_error_unavailable")
  # A name goes in a body, and reading it is reading all the same.
  named <- function(what) request(the$remote, "POST", paste0("/dkusecrets/v1/secrets/", what), list(name = "a"), NULL)
  expect_identical(named("get")$authIdentifier, "ada")
  expect_identical(named("versions")$authIdentifier, "ada")
  expect_error(named("set"), class = "dkusecrets_error_unavailable")
  before <- length(asked(server$ours))
  dkuSetRemoteDSS(paste0(server$ours, "/elsewhere"), "k")
  expect_error(dkuGetAuthInfo(), "sends its callers elsewhere to https://other.example.org:", class = "dkusecrets_error_remote")
  dkuSetRemoteDSS(paste0(server$dss, "/page"), "k")
  expect_error(dkuGetAuthInfo(), "not a JSON object", class = "dkusecrets_error_remote")
  expect_identical(length(asked(server$ours)), before + 2L)
})

test_that("forked processes have connections of their own", {
  skip_on_cran()
  skip_if_not_installed("parallel")
  local_remote(server$ours)
  for (i in 1:8) dkuSetSecret(sprintf("of %d", i), as.character(i))
  # Not in this process: callr, which runs the server, and parallel both wait for the end of this process's children.
  found <- callr::r(function(url) {
    dkusecrets::dkuSetRemoteDSS(url, "parent")
    dkusecrets::dkuGetAuthInfo()
    of <- function(i) {
      dkusecrets::dkuSetRemoteDSS(url, "child")
      replicate(20, dkusecrets::dkuGetSecret(sprintf("of %d", i)))
    }
    answers <- parallel::mclapply(1:8, of, mc.cores = 4)
    dkusecrets::dkuGetAuthInfo()
    answers
  }, list(server$ours))
  expect_identical(found, lapply(1:8, function(i) rep(as.character(i), 20)))
  ports <- function(key) {
    of <- Filter(function(request) identical(request$authorization, paste("Basic", base64(paste0(key, ":")))), asked(server$ours))
    unique(vapply(of, `[[`, "", "port"))
  }
  # The parent's connection goes on, and nobody else has used it.
  expect_length(ports("parent"), 1)
  expect_length(ports("child"), 4)
  expect_false(ports("parent") %in% ports("child"))
})

test_that("the largest value comes back byte for byte", {
  skip_on_cran()
  local_remote(server$ours)
  value <- strrep("\u20ac\\\"\n", 2^20 / 6)
  dkuSetSecret("large", value)
  expect_identical(dkuGetSecret("large"), value)
  dkuSetSecret("large", "")
})

test_that("a certificate is checked", {
  skip_on_cran()
  skip_if(Sys.which("openssl") == "", "openssl is not installed")
  home <- withr::local_tempdir()
  withr::local_dir(home)
  system2("openssl", c(
    "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost",
    "-addext subjectAltName=DNS:localhost"
  ), stderr = FALSE)
  port <- httpuv::randomPort()
  # It answers with a page, which is how far one gets only with a certificate that is accepted.
  process <- in_background(function(port) {
    system2("openssl", c("s_server -quiet -www -key key.pem -cert cert.pem -accept", port), stderr = FALSE)
  }, list(port))
  withr::defer(process$kill_tree())
  local_remote(sprintf("https://localhost:%d", port))
  withr::local_options(dkusecrets.timeout = 5)
  withr::local_envvar(CURL_CA_BUNDLE = NA)
  for (i in 1:50) {
    cnd <- tryCatch(dkuGetAuthInfo(), error = identity)
    if (!grepl("connect to server", conditionMessage(cnd))) break
  }
  expect_s3_class(cnd, "dkusecrets_error_unavailable")
  expect_match(conditionMessage(cnd), "certificate.*CURL_CA_BUNDLE.*no_check_certificate")
  withr::with_envvar(c(CURL_CA_BUNDLE = file.path(home, "cert.pem")), expect_error(dkuGetAuthInfo(), "not a JSON object"))
  withr::with_options(list(dkusecrets.curl = list(cainfo = file.path(home, "cert.pem"))), expect_error(dkuGetAuthInfo(), "not a JSON object"))
  dkuSetRemoteDSS(sprintf("https://localhost:%d", port), "k", no_check_certificate = TRUE)
  expect_error(dkuGetAuthInfo(), "not a JSON object")
  # A connection that was accepted is not one that will be.
  dkuSetRemoteDSS(sprintf("https://localhost:%d", port), "k")
  withr::with_envvar(c(CURL_CA_BUNDLE = file.path(home, "cert.pem")), expect_error(dkuGetAuthInfo(), "not a JSON object"))
  expect_error(dkuGetAuthInfo(), class = "dkusecrets_error_unavailable")
})

test_that("Ctrl-C ends a request, and the next one is not disturbed", {
  skip_on_cran()
  skip_if(Sys.which("python3") == "", "python3 is not installed")
  local_remote(server$ours)
  # Accepts and says nothing.
  silent <- withr::local_tempfile()
  process <- in_background(function(file) {
    system2("python3", c("-c", shQuote(paste(
      "import socket, sys, time", "s = socket.create_server(('127.0.0.1', 0))",
      "open(sys.argv[1], 'w').write(str(s.getsockname()[1]) + chr(10))", "time.sleep(60)", sep = "; "
    )), file))
  }, list(silent))
  withr::defer(process$kill_tree())
  while (!file.exists(silent) || length(readLines(silent)) == 0) Sys.sleep(0.05)
  dkuSetRemoteDSS(paste0("http://127.0.0.1:", readLines(silent)), "k")
  system(sprintf("(sleep 1; kill -INT %d) &", Sys.getpid()))
  time <- system.time(how <- tryCatch(dkuGetAuthInfo(), interrupt = function(cnd) "interrupted"))[[3]]
  expect_identical(how, "interrupted")
  expect_lt(time, 10)
  dkuSetRemoteDSS(server$ours, "k")
  expect_lt(system.time(expect_identical(dkuGetAuthInfo()$authIdentifier, "ada"))[[3]], 10)
})

test_that("nothing of a server is loaded for a read of the vault", {
  skip_if_not_installed("callr")
  home <- local_vault()
  dkuSetSecret("a", "v")
  loaded <- callr::r(function() {
    dkusecrets::dkuGetSecret("a")
    dkusecrets::dkuListSecrets()
    dkusecrets::dkuGetAuthInfo(TRUE)
    intersect(loadedNamespaces(), c("curl", "jsonlite", "askpass"))
  })
  expect_identical(loaded, character())
})
