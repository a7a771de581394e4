expired_vault <- function(env = parent.frame()) {
  local_vault(env)
  dkuSetSecret("good", "g", expires = Sys.Date() + 2)
  dkuSetSecret("old", "o", expires = "2020-02-29")
}

test_that("an expired secret is returned with a classed warning, each time it is asked for", {
  expired_vault()
  expect_no_warning <- function(code) expect_warning(code, NA)
  expect_no_warning(expect_identical(dkuGetSecret("good"), "g"))
  for (i in 1:2) {
    cnd <- expect_warning(value <- dkuGetSecret("old"), class = "dkusecrets_warning_expired")
    expect_identical(value, "o")
  }
  expect_s3_class(cnd, c("dkusecrets_warning_expired", "dkusecrets_warning", "warning", "condition"), exact = TRUE)
  expect_identical(cnd$name, "old")
  expect_identical(cnd$expires, as.Date("2020-02-29"))
  expect_identical(conditionCall(cnd), quote(dkuGetSecret()))
  expect_snapshot(invisible(dkuGetSecret("old")))
})

test_that("all secrets at once warn once per session, name and date", {
  expired_vault()
  dkuSetSecret("older", "o", expires = "2019-01-01")
  warnings <- capture_warnings(info <- dkuGetAuthInfo(TRUE))
  expect_length(warnings, 2)
  expect_identical(vapply(info$secrets, `[[`, "", "value"), c("g", "o", "o"))
  expect_length(capture_warnings(dkuGetAuthInfo(TRUE)), 0)
  dkuDescribeSecret("old", expires = "2021-01-01")
  expect_length(capture_warnings(dkuGetAuthInfo(TRUE)), 1)
  expect_length(capture_warnings(dkuGetAuthInfo()), 0)
})

test_that("an option makes it an error", {
  expired_vault()
  withr::local_options(dkusecrets.expired = "error")
  cnd <- expect_error(dkuGetSecret("old"), class = "dkusecrets_error_expired")
  expect_identical(cnd$expires, as.Date("2020-02-29"))
  for (i in 1:2) {
    expect_error(dkuGetAuthInfo(TRUE), class = "dkusecrets_error_expired")
  }
  expect_identical(dkuGetSecret("good"), "g")
})

test_that("the last good day is good, by UTC", {
  local_vault()
  today <- as.Date(format(Sys.time(), tz = "UTC"))
  dkuSetSecret("today", "v", expires = today)
  dkuSetSecret("yesterday", "v", expires = today - 1)
  # Midnight may come between.
  skip_if(as.Date(format(Sys.time() + 5, tz = "UTC")) != today, "it is nearly midnight UTC")
  expect_warning(dkuGetSecret("today"), NA)
  expect_warning(dkuGetSecret("yesterday"), class = "dkusecrets_warning_expired")
})

test_that("an option that says something else is refused", {
  expired_vault()
  for (nonsense in list("nonsense", 1, c("error", "error"), NA_character_)) {
    withr::local_options(dkusecrets.expired = nonsense)
    expect_error(dkuGetSecret("old"), "dkusecrets.expired", class = "dkusecrets_error_invalid_argument")
    expect_error(dkuGetAuthInfo(TRUE), class = "dkusecrets_error_invalid_argument")
  }
  withr::local_options(dkusecrets.expired = "warning")
  expect_warning(dkuGetSecret("old"), class = "dkusecrets_warning_expired")
})

test_that("the list says which dates are over", {
  expired_vault()
  dkuSetSecret("later", "v", expires = "2931-12-31")
  shown <- capture.output(dkuListSecrets()[c("name", "expires")])
  expect_match(shown, "old +2020-02-29 \\(expired\\)", all = FALSE)
  expect_match(shown, "later +2931-12-31 *$", all = FALSE)
  dkuSetSecret("never", "v")
  shown <- capture.output(subset(dkuListSecrets(), name == "never", c("name", "expires")))
  expect_match(shown, "^ *never *$", all = FALSE)
  expect_s3_class(dkuListSecrets()$expires, "Date")
})
