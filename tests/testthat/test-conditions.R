failure <- function(kind, message, ...) {
  structure(list(kind = kind, message = message, ...), class = "dkusecrets_failure")
}

test_that("a value passes through unwrap() unchanged", {
  expect_identical(unwrap("a"), "a")
  expect_null(unwrap(NULL))
  expect_identical(unwrap(list(kind = "a", message = "b")), list(kind = "a", message = "b"))
})

test_that("a failure becomes an error of its kind with its fields", {
  cnd <- tryCatch(
    unwrap(failure("of_a_kind", "no secret 'a'", matches = c("b", "c"))),
    error = identity
  )
  expect_identical(
    class(cnd),
    c("dkusecrets_error_of_a_kind", "dkusecrets_error", "error", "condition")
  )
  expect_identical(conditionMessage(cnd), "no secret 'a'")
  expect_identical(cnd$matches, c("b", "c"))
})

test_that("abort_dku() raises the same ladder of classes", {
  expect_error(
    abort_dku("bad_name", "a name is one string", name = "x"),
    "^a name is one string$",
    class = "dkusecrets_error_bad_name"
  )
  expect_error(abort_dku("bad_name", "text"), class = "dkusecrets_error")
})

test_that("no character of a message is interpreted", {
  messages <- c(
    "100%", "%s%s%n%d", "{stop('evaluated')}", "`r stop()`", "a\nb\r\tc", "\\0 \\x00 \ufffd",
    "\u202edrowssap \U1f511", "'\"", strrep("long ", 2000)
  )
  for (message in messages) {
    expect_identical(
      conditionMessage(tryCatch(unwrap(failure("x", message)), error = identity)),
      message
    )
  }
})

test_that("an uncaught error with any character prints and ends the process in good order", {
  skip_if_not_installed("callr")
  script <- withr::local_tempfile(fileext = ".R", lines = c(
    "f <- function(...) dkusecrets:::abort_dku('x', '100%s %n {1 + 1}')",
    "f('hunter2')"
  ))
  result <- callr::rscript(script, fail_on_status = FALSE, show = FALSE, stderr = "2>&1")
  expect_identical(result$status, 1L)
  expect_match(result$stdout, "Error in f() : 100%s %n {1 + 1}", fixed = TRUE)
  expect_no_match(result$stdout, "hunter2", fixed = TRUE)
})

test_that("the call of an error names the function and none of its arguments", {
  dkuSomething <- function(name, value) abort_dku("x", "text")
  cnd <- tryCatch(dkuSomething("a", "hunter2"), error = identity)
  expect_identical(conditionCall(cnd), quote(dkuSomething()))

  expect_identical(without_arguments(quote(base::sum(1))), quote(base::sum()))
  expect_null(without_arguments(quote((function(x) x)("hunter2"))))
  expect_null(without_arguments(NULL))
  expect_null(conditionCall(tryCatch(do.call(dkuSomething, list(1, 2)), error = identity)))
})

test_that("a failure whose way out has a name in R says it", {
  cnd <- tryCatch(unwrap(failure("locked", "it is locked")), error = identity)
  expect_identical(conditionMessage(cnd), "it is locked\n  dkuUnlock() asks for the passphrase")
})

test_that("every R function that a way out names is exported", {
  named <- regmatches(deparse(what_to_do), gregexpr("dku[A-Za-z]+(?=\\()", deparse(what_to_do), perl = TRUE))
  named <- unique(unlist(named))
  expect_gt(length(named), 5)
  expect_identical(setdiff(named, getNamespaceExports("dkusecrets")), character())
})

test_that("warn_dku() raises a ladder of classes too", {
  cnd <- expect_warning(warn_dku("expired", "text", name = "a"), class = "dkusecrets_warning_expired")
  expect_identical(
    class(cnd), c("dkusecrets_warning_expired", "dkusecrets_warning", "warning", "condition")
  )
  expect_identical(cnd$name, "a")
})
