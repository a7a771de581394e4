typing <- function(..., env = parent.frame()) {
  answers <- list(...)
  asked <- character()
  withr::local_options(
    askpass = function(prompt) {
      asked <<- c(asked, prompt)
      answer <- answers[[1]]
      answers <<- answers[-1]
      answer
    },
    .local_envir = env
  )
  function() asked
}

test_that("a missing value is asked for", {
  local_vault()
  asked <- typing("s3cret")
  dkuSetSecret("api-key", description = "d")
  expect_identical(asked(), "Value of the secret \"api-key\": ")
  expect_identical(dkuGetSecret("api-key"), "s3cret")
})

test_that("nothing is asked when another argument is wrong", {
  local_vault()
  asked <- typing("s3cret")
  expect_error(dkuSetSecret(1), class = "dkusecrets_error_invalid_name")
  expect_error(dkuSetSecret("a", expires = "tomorrow"), class = "dkusecrets_error_invalid_argument")
  expect_identical(asked(), character())
})

test_that("typing nothing stores nothing", {
  local_vault()
  typing(NULL, "")
  for (i in 1:2) {
    cnd <- expect_error(dkuSetSecret("a"), class = "dkusecrets_error_cancelled")
    expect_identical(conditionCall(cnd), quote(dkuSetSecret()))
  }
  expect_false(dkuVaultInfo()$exists)
})

test_that("where nobody can be asked, the error says how else", {
  local_vault()
  withr::local_options(askpass = NULL)
  skip_if(interactive(), "somebody can be asked here")
  expect_error(dkuSetSecret("a"), class = "dkusecrets_error_no_prompt")
  expect_snapshot(error = TRUE, {
    dkuSetSecret("a \"quoted\" name")
    dkuCreateVault("passphrase")
  })
  dkuCreateVault("passphrase", "correct horse battery")
  expect_snapshot(dkuUnlock(), error = TRUE)
})

test_that("the way out that the error names works", {
  skip_if_not_installed("callr")
  home <- local_vault()
  script <- withr::local_tempfile(fileext = ".R", lines = c(
    "library(dkusecrets)",
    "dkuSetSecret(\"a\", readLines(\"stdin\", 1))"
  ))
  input <- withr::local_tempfile(lines = "caf\u00e9 from outside")
  out <- system2(file.path(R.home("bin"), "Rscript"), script, stdin = input, stdout = TRUE, stderr = TRUE)
  expect_identical(out, character())
  expect_identical(dkuGetSecret("a"), "caf\u00e9 from outside")
})

test_that("a new passphrase is asked for twice", {
  local_vault()
  typing("correct horse battery", "correct hose")
  expect_error(dkuCreateVault("passphrase"), class = "dkusecrets_error_cancelled")
  expect_false(dkuVaultInfo()$exists)
  asked <- typing("correct horse battery", "correct horse battery", "correct horse battery")
  dkuCreateVault("passphrase")
  dkuLock()
  dkuUnlock()
  expect_length(asked(), 3)
  dkuSetSecret("a", "v")
  expect_identical(dkuGetSecret("a"), "v")
})

test_that("a Jupyter notebook asks in its own way", {
  local_vault()
  withr::local_options(askpass = NULL)
  skip_if(interactive(), "askpass comes first here")
  kernel <- new.env()
  kernel$getPass <- function(prompt) paste("typed for", prompt)
  attach(kernel, name = "jupyter:irkernel", warn.conflicts = FALSE)
  withr::defer(detach("jupyter:irkernel", character.only = TRUE))
  dkuSetSecret("a")
  expect_identical(dkuGetSecret("a"), "typed for Value of the secret \"a\": ")
})
