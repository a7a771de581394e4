test_that("auth_info and its parts print names and no values", {
  local_vault()
  withr::local_language("en")
  info <- dkuGetAuthInfo(with_secrets = TRUE)
  info$authIdentifier <- "ada"
  expect_snapshot(info)
  dkuSetSecret("api-key", "s3cret")
  secrets <- dkuGetAuthInfo(with_secrets = TRUE)$secrets
  expect_snapshot(secrets)
  dkuSetSecret("b \"quoted\"\\ \u202eabc", "s3cret")
  info$secrets <- dkuGetAuthInfo(with_secrets = TRUE)$secrets
  expect_snapshot({
    info
    info["authIdentifier"]
    info$secrets
    info$secrets[[1]]
    info$secrets[0]
    str(info)
    str(info$secrets)
    str(list(info$secrets[[1]]))
    format(info)
    format(info$secrets)
    toString(info$secrets)
    data.frame(n = 1:2, s = I(info$secrets))
  })
  info$secrets <- NULL
  expect_snapshot(info)
})

test_that("many secrets print in few lines", {
  local_vault()
  for (i in 1:25) dkuSetSecret(sprintf("secret-%02d", i), "v")
  expect_snapshot(dkuGetAuthInfo(TRUE)$secrets)
})

test_that("parts of secrets that lack something print too", {
  secret <- structure(list(key = "a", value = "v"), class = c("dkusecrets_secret", "dkusecrets_redacted"))
  expect_output(print(secret["value"]), "<secret \"\">")
  expect_identical(format(secret[0]), "<secret \"\">")
})
