# Serving itself is tested in tests/clients/test_r_and_server.py, with the signals of a terminal.

test_that("the program's refusals are its exit status", {
  skip_on_cran()
  skip_if_not_installed("callr")
  store <- file.path(withr::local_tempdir(), "store")
  withr::local_envvar(DKUSECRETS_LISTEN = NA, DKUSECRETS_SERVE_SOCKET = NA)
  # Its words go past R, to standard error: a child of R's has its own.
  served <- function(...) {
    callr::r(function(...) withVisible(dkusecrets::dkuServe(...)), list(...), stderr = said)
  }
  said <- withr::local_tempfile()
  expect_identical(served(store, listen = "127.0.0.1:0"), list(value = 1L, visible = FALSE))
  system2(program_path(), c("init", "--admin", "ada", "--data", shQuote(store)), stdout = FALSE)
  expect_identical(served(store)$value, 1L)
  expect_match(readLines(said), "give --listen", all = FALSE)
  expect_identical(served(store, listen = "0.0.0.0:0")$value, 1L)
  expect_match(readLines(said), "in clear", all = FALSE)
  expect_identical(served(store, listen = "0.0.0.0:0", tls_cert = "cert.pem")$value, 1L)
  expect_match(readLines(said), "belong together", all = FALSE)
  expect_identical(served(store, listen = "0.0.0.0:0", tls_cert = "no cert.pem", tls_key = "no key.pem")$value, 1L)
  expect_match(readLines(said), "no cert.pem cannot be read", all = FALSE)
  expect_identical(served(store, listen = "127.0.0.1:0", settings = "no settings.toml")$value, 1L)
  expect_match(readLines(said), "no settings.toml cannot be read", all = FALSE)
  expect_identical(served(store, listen = "nonsense")$value, 2L)
  # A socket below a file, and a name that a shell would take for more.
  expect_identical(served(store, socket = file.path(store, "$(touch no); 'x'", "s"))$value, 3L)
  expect_match(readLines(said), "$(touch no); 'x'", fixed = TRUE, all = FALSE)
})

test_that("a program that is missing or cannot be started is unavailable", {
  unavailable <- function(program, message) {
    serving <- function() run_program("serve", program)
    cnd <- expect_error(serving(), message, class = "dkusecrets_error_unavailable")
    expect_identical(conditionCall(cnd), quote(serving()))
  }
  unavailable("", "installed without its program")
  broken <- withr::local_tempfile(lines = "#!/no/such/interpreter")
  unavailable(broken, "cannot be run")
  Sys.chmod(broken, "0700")
  unavailable(broken, "could not be started")
})

test_that("arguments are checked", {
  wrong <- function(code) expect_error(code, class = "dkusecrets_error_invalid_argument")
  wrong(dkuServe())
  wrong(dkuServe(NA_character_))
  wrong(dkuServe("store", listen = 11200))
  wrong(dkuServe("store", socket = c("a", "b")))
  wrong(dkuServe("store", behind_tls_proxy = NA))
  wrong(dkuServe("store", tls_cert = 1))
  wrong(dkuServe("store", tls_key = character()))
  wrong(dkuServe("store", settings = TRUE))
  wrong(dkuServe("store", port = 1))
})
