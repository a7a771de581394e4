test_that("a removed secret comes back as it was", {
  local_vault()
  dkuSetSecret("a", "1")
  dkuSetSecret("a", "2", description = "d", expires = "2031-12-31")
  before <- dkuListSecrets()
  expect_identical(withVisible(dkuRemoveSecret("a")), list(value = NULL, visible = FALSE))
  expect_error(dkuGetSecret("a"), class = "dkusecrets_error_not_found")
  expect_error(dkuRemoveSecret("a"), class = "dkusecrets_error_not_found")
  expect_identical(withVisible(dkuRestoreSecret("a")), list(value = 2, visible = FALSE))
  unchanging <- c("name", "description", "version", "created", "expires")
  expect_identical(dkuListSecrets()[unchanging], before[unchanging])
  expect_identical(dkuGetSecret("a"), "2")
})

test_that("an older version comes back as a new one, with its expiry", {
  local_vault()
  dkuSetSecret("a", "1", expires = "2031-12-31")
  dkuSetSecret("a", "2")
  expect_identical(dkuRestoreSecret("a", 1), 3)
  expect_identical(dkuGetSecret("a"), "1")
  expect_identical(dkuListSecrets()$expires, as.Date("2031-12-31"))
  dkuRemoveSecret("a")
  expect_identical(dkuRestoreSecret("a", 2L), 4)
  expect_identical(dkuGetSecret("a"), "2")
})

test_that("versions are listed newest first, in the types that are documented", {
  local_vault()
  dkuSetSecret("a", "1", expires = "2031-12-31")
  dkuSetSecret("a", "2")
  versions <- dkuSecretVersions("a")
  expect_named(versions, c("version", "created", "expires", "current"))
  expect_identical(versions$version, c(2, 1))
  expect_identical(versions$expires, as.Date(c(NA, "2031-12-31")))
  expect_identical(versions$current, c(TRUE, FALSE))
  expect_s3_class(versions$created, "POSIXct")
  dkuRemoveSecret("a")
  expect_identical(dkuSecretVersions("a")$current, c(FALSE, FALSE))
})

test_that("what cannot be restored is said, and nothing changes", {
  local_vault()
  dkuSetSecret("a", "1")
  expect_unchanged({
    expect_error(dkuRestoreSecret("a"), class = "dkusecrets_error_invalid_argument")
    expect_identical(expect_error(dkuRestoreSecret("a", 7), class = "dkusecrets_error_not_found")$version, 7)
    expect_error(dkuRestoreSecret("b"), class = "dkusecrets_error_not_found")
    expect_error(dkuPurgeSecret("b"), class = "dkusecrets_error_not_found")
    expect_error(dkuSecretVersions("b"), class = "dkusecrets_error_not_found")
  })
  expect_snapshot(error = TRUE, {
    dkuRestoreSecret("a")
    dkuRestoreSecret("a", 7)
  })
})

test_that("purging destroys what is kept for undoing and nothing else", {
  local_vault()
  for (value in c("1", "2", "3")) dkuSetSecret("a", value)
  expect_identical(withVisible(dkuPurgeSecret("a")), list(value = 2, visible = FALSE))
  expect_identical(dkuSecretVersions("a")$version, 3)
  expect_identical(dkuGetSecret("a"), "3")
  dkuRemoveSecret("a")
  expect_identical(dkuPurgeSecret("a"), 1)
  expect_error(dkuRestoreSecret("a"), class = "dkusecrets_error_not_found")
  expect_identical(nrow(dkuListSecrets(removed = TRUE)), 0L)
})

test_that("a purge whose file cannot be written anew says so, and the next change does it", {
  skip_if_not_installed("callr")
  home <- local_vault()
  dkuSetSecret("a", "v")
  for (name in c("b", "c", "d")) dkuSetSecret(name, strrep("x", 1e6))
  dkuRemoveSecret("a")
  database <- dkuVaultInfo()$database
  # The file may grow by a page; the journal of writing it anew is longer than that.
  script <- withr::local_tempfile(fileext = ".R", lines = c(
    "cnd <- tryCatch(dkusecrets::dkuPurgeSecret('a'), dkusecrets_error = identity)",
    "cat(class(cnd)[[1]], conditionMessage(cnd), sep = '\\n')"
  ))
  limit <- sprintf(
    "trap '' XFSZ; ulimit -f %d; exec %s %s", file.size(database) %/% 512 + 8,
    shQuote(file.path(R.home("bin"), "Rscript")), shQuote(script)
  )
  said <- system2("sh", c("-c", shQuote(limit)), stdout = TRUE)
  expect_identical(said[[1]], "dkusecrets_error_untidy")
  expect_match(said[[2]], database, fixed = TRUE)
  expect_error(dkuRestoreSecret("a"), class = "dkusecrets_error_not_found")
  bytes <- function() readBin(database, "raw", file.size(database))
  before <- bytes()
  expect_error(dkuPurgeSecret("a"), class = "dkusecrets_error_not_found")
  expect_false(identical(bytes(), before))
  before <- bytes()
  expect_error(dkuPurgeSecret("a"), class = "dkusecrets_error_not_found")
  expect_identical(bytes(), before)
})
