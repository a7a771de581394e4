key <- "dkuaps-Marker7Value"

write_config <- function(home, text, mode = "0600") {
  path <- file.path(home, ".dataiku", "config.json")
  dir.create(dirname(path), showWarnings = FALSE, mode = "0700")
  writeLines(text, path)
  Sys.chmod(path, mode, use_umask = FALSE)
  path
}

config <- c(
  "{\"dss_instances\": {",
  "  \"other\": {\"url\": \"http://other:1\", \"api_key\": \"k\"},",
  "  \"default\": {\"url\": \"https://dss.example.org/base/\", \"api_key\": \"dkuaps-Marker7Value\", \"no_check_certificate\": true}},",
  " \"default_instance\": \"default\"}"
)

# An error of this class without the key. Its message.
refused <- function(code, class) {
  cnd <- tryCatch(code, error = identity)
  expect_s3_class(cnd, paste0("dkusecrets_error_", class))
  expect_no_match(paste(capture.output(str(unclass(cnd))), collapse = " "), "Marker7Value", fixed = TRUE)
  paste(conditionMessage(cnd), collapse = " ")
}

# A socket that nobody listens on.
local_socket <- function(env = parent.frame()) {
  skip_if(Sys.which("python3") == "", "python3 is not installed")
  path <- withr::local_tempfile(fileext = ".sock", .local_envir = env)
  system2("python3", c("-c", shQuote("import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])"), shQuote(path)))
  path
}

test_that("nothing configured is the embedded vault", {
  local_nothing()
  skip_if(file.exists("/run/dkusecrets/dkusecrets.sock"), "there is a server on this machine")
  expect_null(source_now())
  withr::local_envvar(DKU_API_TICKET = "", DKU_DSS_URL = "", DKU_API_KEY = "", DKUSECRETS_SOCKET = "", DKU_BACKEND_PORT = "1")
  expect_null(source_now())
})

test_that("the first source that is configured answers", {
  home <- local_nothing()
  socket <- local_socket()
  write_config(home, config)
  expect_identical(source_now()$where, "https://dss.example.org/base")
  expect_match(source_now()$why, ".dataiku/config.json names it", fixed = TRUE)
  expect_true(source_now()$no_check)
  withr::with_envvar(c(DKUSECRETS_HOME = home), expect_null(source_now()))
  withr::local_envvar(DKUSECRETS_SOCKET = socket)
  expect_identical(source_now()[c("where", "socket", "why")], list(where = socket, socket = socket, why = "DKUSECRETS_SOCKET names it"))
  expect_length(compact(source_now()$headers), 0)
  withr::local_envvar(DKU_DSS_URL = "http://dss:11200/", DKU_API_KEY = "key")
  expect_identical(source_now()$where, "http://dss:11200")
  expect_identical(compact(source_now()$headers), list(Authorization = "Basic a2V5Og=="))
  expect_false(source_now()$no_check)
  withr::local_envvar(DKU_API_TICKET = "t", DKU_BACKEND_HOST = "node", DKU_BACKEND_PORT = "10001", DKU_BACKEND_PROTOCOL = NA)
  expect_identical(source_now()$where, "http://node:10001")
  expect_identical(compact(source_now()$headers), list(`X-DKU-APITicket` = "t"))
  withr::with_envvar(c(DKU_BACKEND_PROTOCOL = "https"), expect_identical(source_now()$where, "https://node:10001"))
  local_remote("https://explicit")
  expect_identical(source_now()$where, "https://explicit")
  expect_identical(source_now()$why, "dkuSetRemoteDSS() was called")
  dkuSetRemoteDSS(NULL)
  expect_identical(source_now()$where, "http://node:10001")
})

test_that("what is half set is an error that says so", {
  local_nothing()
  half <- function(set, class = "config") {
    withr::local_envvar(set)
    message <- refused(dkuGetSecret("a"), class)
    expect_identical(refused(dkuListSecrets(), class), message)
    message
  }
  expect_match(half(c(DKU_API_KEY = key)), "DKU_API_KEY is set and DKU_DSS_URL is not", fixed = TRUE)
  expect_match(half(c(DKU_DSS_URL = "http://h")), "DKU_DSS_URL is set and DKU_API_KEY is not", fixed = TRUE)
  expect_match(half(c(DKU_API_TICKET = key, DKU_BACKEND_PORT = "1", DKU_BACKEND_HOST = NA)), "DKU_BACKEND_HOST is not", fixed = TRUE)
  expect_match(half(c(DKU_API_TICKET = key, DKU_BACKEND_HOST = "h", DKU_BACKEND_PORT = NA)), "DKU_BACKEND_PORT is not", fixed = TRUE)
  ticket <- c(DKU_API_TICKET = key, DKU_BACKEND_HOST = "h", DKU_BACKEND_PORT = "1")
  expect_match(half(c(ticket, DKU_BACKEND_PROTOCOL = "ftp")), "DKU_BACKEND_PROTOCOL", fixed = TRUE)
  ticket[["DKU_BACKEND_PORT"]] <- "x"
  expect_match(half(ticket), "DKU_BACKEND_PORT", fixed = TRUE)
  pair <- c(DKU_DSS_URL = "http://h", DKU_API_KEY = key)
  expect_match(half(c(pair, DKU_NO_CHECK_CERTIFICATE = "maybe")), "true or false", fixed = TRUE)
  expect_match(half(c(DKU_DSS_URL = "dss.example.org", DKU_API_KEY = key)), "DKU_DSS_URL", fixed = TRUE)
  expect_match(half(c(DKU_DSS_URL = "http://h", DKU_API_KEY = paste0(key, "\nX-Other: 1"))), "DKU_API_KEY", fixed = TRUE)
})

test_that("a configured source that fails is an error, also where there is a vault", {
  local_vault()
  dkuSetSecret("a", "embedded")
  expect_identical(dkuGetSecret("a"), "embedded")
  withr::local_envvar(DKU_DSS_URL = "http://127.0.0.1:1", DKU_API_KEY = key)
  expect_null(rust_get_ascii("a"))
  expect_match(refused(dkuGetSecret("a"), "unavailable"), "http://127.0.0.1:1 was asked: DKU_DSS_URL and DKU_API_KEY are set", fixed = TRUE)
  refused(dkuSetSecret("a", key), "unavailable")
})

test_that("a configuration file with mistakes is an error that names file and line", {
  home <- local_nothing()
  wrong <- function(text) {
    path <- write_config(home, text)
    message <- refused(dkuGetSecret("a"), "config")
    expect_match(message, path, fixed = TRUE)
    message
  }
  expect_match(wrong(replace(config, 3, "  \"default\": {\"url\": \"http://h\", \"api_key\": dkuaps-Marker7Value}},")), ", line 3: this is not JSON", fixed = TRUE)
  expect_match(wrong(config[-4]), "this is not JSON", fixed = TRUE)
  expect_match(wrong(""), "line 1", fixed = TRUE)
  expect_match(wrong("\"\xff\""), "this is not JSON", fixed = TRUE)
  for (none in c("{}", "[]", "1", "{\"dss_instances\": {}}", "{\"dss_instances\": 1, \"default_instance\": {}}")) {
    expect_match(wrong(none), "there is no instance", fixed = TRUE)
  }
  expect_match(wrong(sub("\"default\"}", "\"another\"}", config)), "there is no instance", fixed = TRUE)
  expect_match(wrong(sub("\"api_key\"", "\"key\"", config)), "\"default\" needs a \"url\" and an \"api_key\"", fixed = TRUE)
  expect_match(wrong(sub("true", "\"no\"", config)), "no_check_certificate", fixed = TRUE)
  expect_match(wrong(sub("https://dss", "dss", config)), "\"url\" must be an address", fixed = TRUE)
})

test_that("a configuration file that is not its owner's alone is refused", {
  home <- local_nothing()
  for (mode in c("0644", "0640", "0602")) {
    write_config(home, config, mode)
    expect_match(refused(dkuGetSecret("a"), "unsafe"), "chmod 600", fixed = TRUE)
  }
  path <- write_config(home, config)
  expect_identical(source_now()$where, "https://dss.example.org/base")
  unlink(path)
  dir.create(path)
  refused(dkuGetSecret("a"), "unsafe")
  unlink(path, recursive = TRUE)
  file.symlink(file.path(home, "nowhere"), path)
  refused(dkuGetSecret("a"), "path")
  skip_if(Sys.info()[["effective_user"]] != "root", "only root can give files away")
  unlink(path)
  # Root reads what is root's or its own: here both are one.
  write_config(home, config)
  system2("chown", c("65534", shQuote(path)))
  expect_match(refused(dkuGetSecret("a"), "unsafe"), "belongs to the user id 65534", fixed = TRUE)
})

test_that("a socket that was chosen must be one, and safe", {
  home <- local_nothing()
  at <- function(path, class) {
    withr::local_envvar(DKUSECRETS_SOCKET = path)
    refused(dkuGetSecret("a"), class)
  }
  expect_match(at(file.path(home, "none"), "unavailable"), "which DKUSECRETS_SOCKET names", fixed = TRUE)
  expect_match(at("none", "path"), "absolute path", fixed = TRUE)
  file <- file.path(home, "file")
  writeLines("", file)
  expect_match(at(file, "unsafe"), "is not a socket", fixed = TRUE)
  socket <- local_socket()
  expect_match(at(socket, "unavailable"), "is the server running?", fixed = TRUE)
  skip_if(Sys.info()[["effective_user"]] != "root", "only root can give files away")
  system2("chown", c("65534", shQuote(socket)))
  expect_match(at(socket, "unsafe"), "belongs to the user id 65534", fixed = TRUE)
})

test_that("two places for secrets are an error that says how to choose", {
  home <- local_nothing()
  withr::with_envvar(c(DKUSECRETS_HOME = home, DKUSECRETS_SOCKET = "/s"), {
    expect_match(refused(dkuGetSecret("a"), "two_places"), "unset one of them", fixed = TRUE)
    expect_named(dkuVaultInfo()$problems, "two_places")
  })
  expect_identical(server_of_socket("/s", FALSE, NULL)$socket, "/s")
  skip_if(file.exists("/run/dkusecrets/dkusecrets.sock"), "there is a server on this machine")
  dkuSetSecret("a", "embedded")
  message <- refused(server_of_socket("/s", FALSE, NULL), "two_places")
  expect_match(message, "DKUSECRETS_SOCKET=/s", fixed = TRUE)
  # What it says to move works.
  expect_match(message, paste("move", dirname(dkuVaultInfo()$database), "to <directory>/data and", dkuVaultInfo()$config), fixed = TRUE)
  kept <- file.path(home, "kept")
  dir.create(kept, mode = "0700")
  file.copy(dirname(dkuVaultInfo()$database), kept, recursive = TRUE, copy.mode = TRUE)
  file.rename(file.path(kept, "dkusecrets"), file.path(kept, "data"))
  file.copy(dkuVaultInfo()$config, kept, recursive = TRUE, copy.mode = TRUE)
  file.rename(file.path(kept, "dkusecrets"), file.path(kept, "config"))
  withr::with_envvar(c(DKUSECRETS_HOME = kept), expect_identical(dkuGetSecret("a"), "embedded"))
  expect_match(message, dkuVaultInfo()$database, fixed = TRUE)
  expect_identical(server_of_socket("/s", TRUE, NULL)$socket, "/s")
  # On a disk that is not mounted, as far as anybody can tell.
  unlink(dkuVaultInfo()$database)
  refused(server_of_socket("/s", FALSE, NULL), "two_places")
})

test_that("dkuSetRemoteDSS() takes an address and a key, and shows neither what it refuses", {
  withr::defer(dkuSetRemoteDSS(NULL))
  for (url in list(
    "dss", "ftp://h", "http://", "http://a b", "http://u:Marker7Value@h", "http://h?k=Marker7Value", "http://h#x",
    "http://h\n", "http://h:x", "file:///etc/passwd", "", NA, 1, c("http://a", "http://b")
  )) {
    refused(dkuSetRemoteDSS(url, key), "invalid_argument")
    expect_null(the$remote)
  }
  for (bad in list("", "Marker7Value x", "Marker7Value\r\nX: y", "Marker7Value\u00e9", NA, 1)) {
    refused(dkuSetRemoteDSS("http://h", bad), "invalid_argument")
  }
  refused(dkuSetRemoteDSS("http://h"), "invalid_argument")
  refused(dkuSetRemoteDSS("http://h", api_kye = "Marker7Value"), "invalid_argument")
  refused(dkuSetRemoteDSS("http://h", "k", "yes"), "invalid_argument")
  refused(dkuSetRemoteDSS(), "invalid_argument")
  for (url in c("https://h", "http://h:80/a/b//", "HTTP://h", "http://[::1]:8080")) {
    if (url == "HTTP://h") refused(dkuSetRemoteDSS(url, key), "invalid_argument") else expect_null(dkuSetRemoteDSS(url, key))
  }
  dkuSetRemoteDSS("http://h:80/a/b//", key)
  expect_identical(the$remote$url, "http://h:80/a/b")
  expect_invisible(dkuSetRemoteDSS(NULL))
  expect_null(the$remote)
})

test_that("dkuVaultInfo() says what was chosen and what is wrong with it, and never fails", {
  home <- local_nothing()
  withr::local_envvar(DKU_DSS_URL = "http://dss.invalid", DKU_API_KEY = key)
  info <- dkuVaultInfo(verify = TRUE)
  expect_identical(info$server, "http://dss.invalid")
  expect_identical(info$why, "DKU_DSS_URL and DKU_API_KEY are set")
  expect_named(info$problems, c("warning", "unavailable"))
  expect_output(print(info), "keys and values travel unencrypted")
  withr::local_envvar(DKU_API_KEY = NA)
  info <- dkuVaultInfo()
  expect_identical(info$server, NA_character_)
  expect_named(info$problems, "config")
  expect_output(print(info), "DKU_API_KEY is not")
  expect_false(travels_in_the_clear("http://127.0.0.1:80"))
  expect_false(travels_in_the_clear("http://localhost/x"))
  expect_false(travels_in_the_clear("http://[::1]:80"))
  expect_false(travels_in_the_clear("https://h"))
  expect_true(travels_in_the_clear("http://localhost.example.org"))
})

test_that("what looks after an embedded vault refuses where a server answers", {
  local_vault()
  local_remote("http://127.0.0.1:1")
  refused(dkuCreateVault("passphrase", "Marker7Value and more"), "unsupported")
  refused(dkuConfigureVault(keep_days = 1), "unsupported")
  refused(dkuUnlock("Marker7Value"), "unsupported")
  refused(dkuAcceptRestore(), "unsupported")
  # What this process remembers of a vault can be forgotten at any time.
  expect_type(dkuLock(), "logical")
})
