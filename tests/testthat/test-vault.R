test_that("the first write creates a vault with a key file", {
  local_vault()
  expect_false(dkuVaultInfo()$exists)
  dkuSetSecret("a", "v")
  info <- dkuVaultInfo()
  expect_true(info$exists)
  expect_identical(info$provider, "file")
  expect_false(info$locked)
  expect_identical(c(info$secrets, info$removed, info$versions), c(1, 0, 1))
  expect_identical(info$file_bytes, as.double(file.size(info$database)))
  expect_length(info$problems, 0)
  expect_match(info$store, "^[0-9a-f]{32}$")
  expect_match(info$rust, "^[0-9.]+$")
})

test_that("information prints well and holds no name and no value", {
  home <- local_vault()
  stable <- function(lines) {
    lines <- hide_home(home)(lines)
    lines <- sub("^store .*", "store     <id>", lines)
    lines <- sub("root-[0-9a-f]+", "root-<id>", lines)
    lines <- sub("^size .*", "size      <size>", lines)
    sub("^versions .*", "versions  <versions>", lines)
  }
  expect_snapshot(dkuVaultInfo(), transform = stable)
  dkuSetSecret("name-in-clear", "value-in-clear")
  expect_snapshot(dkuVaultInfo(verify = TRUE), transform = stable)
  expect_no_match(paste(capture.output(str(unclass(dkuVaultInfo(TRUE)))), collapse = ""), "in-clear", fixed = TRUE)
  info <- dkuVaultInfo()
  file.rename(info$key_file, paste0(info$key_file, ".away"))
  expect_snapshot(dkuVaultInfo(verify = TRUE), transform = stable)
})

test_that("a vault is created once, with what it is to keep", {
  local_vault()
  expect_identical(withVisible(dkuCreateVault(keep_versions = 2, keep_days = 5)), list(value = NULL, visible = FALSE))
  expect_identical(unlist(dkuVaultInfo()[c("keep_versions", "keep_days")]), c(keep_versions = 2, keep_days = 5))
  for (value in c("1", "2", "3")) dkuSetSecret("a", value)
  expect_identical(dkuSecretVersions("a")$version, c(3, 2))
  expect_error(dkuCreateVault(), class = "dkusecrets_error_exists")
  expect_error(dkuCreateVault("passphrase", "it is long enough"), class = "dkusecrets_error_exists")
  expect_error(dkuCreateVault(), "dkuConfigureVault() changes how much it keeps", fixed = TRUE)
  expect_identical(dkuGetSecret("a"), "3")
})

test_that("what is kept can be changed one by one", {
  local_vault()
  keeps <- function() unlist(dkuVaultInfo()[c("keep_versions", "keep_days")], use.names = FALSE)
  dkuSetSecret("a", "v")
  expect_identical(keeps(), c(10, 30))
  dkuConfigureVault(keep_days = 90)
  expect_identical(keeps(), c(10, 90))
  dkuConfigureVault(keep_versions = 1)
  expect_identical(keeps(), c(1, 90))
  before <- dkuVaultInfo()$sequence
  expect_identical(
    withVisible(dkuConfigureVault()), list(value = list(keep_versions = 1, keep_days = 90), visible = FALSE)
  )
  expect_identical(dkuVaultInfo()$sequence, before)
})

test_that("asking what is kept creates no vault", {
  local_vault()
  expect_identical(dkuConfigureVault(), list(keep_versions = 10, keep_days = 30))
  expect_false(dkuVaultInfo()$exists)
})

test_that("a home that is not there is no vault that is none yet", {
  withr::local_envvar(DKUSECRETS_HOME = "/nonexistent")
  shown <- format(dkuVaultInfo())
  expect_identical(shown[[1]], "vault     none found, see below")
  expect_match(shown, "! path: /nonexistent does not exist", fixed = TRUE, all = FALSE)
})

test_that("an older copy is reported with the way out", {
  home <- local_vault()
  dkuSetSecret("a", "1")
  database <- dkuVaultInfo()$database
  backup <- withr::local_tempfile()
  file.copy(database, backup)
  dkuSetSecret("a", "2")
  file.copy(backup, database, overwrite = TRUE)
  for (problems in list(dkuVaultInfo()$problems, dkuVaultInfo(verify = TRUE)$problems)) {
    expect_identical(names(problems), "rolled_back")
    expect_match(problems[[1]], "dkuAcceptRestore() accepts it", fixed = TRUE)
  }
})

test_that("a vault with a passphrase is locked, unlocked and locked again", {
  local_vault()
  passphrase <- "correct horse \u00e9"
  dkuCreateVault("passphrase", passphrase)
  expect_identical(dkuVaultInfo()$provider, "passphrase")
  dkuSetSecret("a", "v")
  expect_identical(withVisible(dkuLock()), list(value = TRUE, visible = FALSE))
  expect_false(dkuLock())
  expect_true(dkuVaultInfo()$locked)
  expect_error(dkuGetSecret("a"), class = "dkusecrets_error_locked")
  expect_error(dkuSetSecret("a", "w"), class = "dkusecrets_error_locked")
  expect_error(dkuGetAuthInfo(TRUE), class = "dkusecrets_error_locked")
  expect_error(dkuUnlock("wrong"), class = "dkusecrets_error_wrong_passphrase")
  expect_true(dkuVaultInfo()$locked)
  # The same text, typed on a keyboard that composes.
  expect_identical(withVisible(dkuUnlock("correct horse e\u0301")), list(value = NULL, visible = FALSE))
  expect_identical(dkuGetSecret("a"), "v")
  expect_identical(parallel::mclapply(1, function(i) dkuGetSecret("a")), list("v"))
})

test_that("messages about a locked vault name the way out", {
  home <- local_vault()
  dkuCreateVault("passphrase", "correct horse battery")
  dkuLock()
  expect_snapshot(error = TRUE, transform = hide_home(home), {
    dkuGetSecret("a")
    dkuUnlock("wrong")
  })
  expect_snapshot(cat(grep("^vault|^key", format(dkuVaultInfo()), value = TRUE), sep = "\n"))
})

test_that("a vault unlocked for a time is open to new processes of the same login", {
  skip_if_not_installed("callr")
  home <- local_vault()
  dkuCreateVault("passphrase", "correct horse battery")
  dkuSetSecret("a", "v")
  dkuLock()
  unlocked <- tryCatch(
    {
      dkuUnlock("correct horse battery", minutes = 1)
      TRUE
    },
    dkusecrets_error_unavailable = function(cnd) FALSE
  )
  skip_if_not(unlocked, "no session keyring here")
  expect_identical(callr::r(function() dkusecrets::dkuGetSecret("a")), "v")
  expect_true(dkuLock())
  expect_error(callr::r(function() dkusecrets::dkuGetSecret("a")), "locked")

  dkuUnlock("correct horse battery", minutes = 1 / 60)
  Sys.sleep(1.5)
  expect_error(dkuGetSecret("a"), class = "dkusecrets_error_locked")
})

test_that("a passphrase has 15 characters, as its help says", {
  local_vault()
  expect_error(dkuCreateVault("passphrase", strrep("\u00e9", 14)), "at least 15", class = "dkusecrets_error_invalid_argument")
  expect_false(dkuVaultInfo()$exists)
  dkuCreateVault("passphrase", strrep("\u00e9", 15))
  expect_true(dkuVaultInfo()$exists)
})

test_that("a passphrase that cannot be is refused, and no vault is made", {
  local_vault()
  for (x in list("short", "", 1, NA, c("correct", "horse"))) {
    expect_error(dkuCreateVault("passphrase", x), class = "dkusecrets_error_invalid_argument")
  }
  expect_error(dkuCreateVault("file", "correct horse battery"), class = "dkusecrets_error_invalid_argument")
  expect_error(dkuCreateVault("keyring"), class = "dkusecrets_error_invalid_argument")
  expect_false(dkuVaultInfo()$exists)
})

test_that("without a vault there is nothing to unlock, and with a key file no need to", {
  local_vault()
  expect_error(dkuUnlock(), class = "dkusecrets_error_path")
  expect_error(dkuUnlock("correct horse battery"), class = "dkusecrets_error_path")
  # What is remembered of another vault.
  dkuLock()
  expect_false(dkuLock())
  dkuSetSecret("a", "v")
  expect_null(dkuUnlock())
  expect_null(dkuUnlock("whatever"))
  expect_true(dkuLock())
  expect_false(dkuLock())
  expect_identical(dkuGetSecret("a"), "v")
})

# The vault's database with values changed, of as many secrets: to tell them from other boxes, it is tried.
damaged_values <- function(count) {
  database <- dkuVaultInfo()$database
  sound <- damaged <- readBin(database, "raw", file.size(database))
  on.exit(writeBin(sound, database))
  # What a box begins with: version, suite and epoch.
  boxes <- which(head(sound, -5) == 1 & head(sound[-1], -4) == 1 & sound[-(1:5)] == 1)
  for (at in boxes) {
    tried <- damaged
    tried[at + 100] <- xor(tried[at + 100], as.raw(1))
    writeBin(tried, database)
    problems <- dkuVaultInfo(verify = TRUE)$problems
    if (length(problems) > 0 && all(grepl("the value of", problems, fixed = TRUE))) {
      damaged <- tried
      if (length(problems) == count) {
        return(damaged)
      }
    }
  }
  stop("there are fewer values")
}

test_that("a damaged copy is accepted only by who says so", {
  local_vault()
  dkuSetSecret("a", "old")
  database <- dkuVaultInfo()$database
  damaged <- damaged_values(1)
  expect_length(dkuVaultInfo(verify = TRUE)$problems, 0)
  dkuSetSecret("b", "new")
  writeBin(damaged, database)
  expect_error(dkuListSecrets(), class = "dkusecrets_error_rolled_back")
  before <- unname(tools::md5sum(database))
  expect_error(dkuAcceptRestore(), class = "dkusecrets_error_damaged")
  expect_identical(unname(tools::md5sum(database)), before)
  expect_true(dkuAcceptRestore(damaged = TRUE))
  expect_false(dkuAcceptRestore(damaged = TRUE))
  # What can be read and written still can.
  expect_identical(dkuListSecrets()$name, "a")
  dkuSetSecret("b", "whole")
  expect_identical(dkuGetSecret("b"), "whole")
  expect_error(dkuGetSecret("a"), "dkuVaultInfo\\(verify = TRUE\\)", class = "dkusecrets_error_damaged")
  problems <- dkuVaultInfo(verify = TRUE)$problems
  expect_identical(names(problems), "damaged")
  expect_match(problems[[1]], "the value of \"a\" (version 1) was changed", fixed = TRUE)
})

test_that("verifying finds all that is damaged, and without it no name is told", {
  local_vault()
  for (name in c("name-1", "name-2", "name-3")) dkuSetSecret(name, paste("value of", name))
  writeBin(damaged_values(2), dkuVaultInfo()$database)
  found <- dkuVaultInfo(verify = TRUE)
  expect_identical(names(found$problems), c("damaged", "damaged"))
  expect_identical(found$verified, 1)
  expect_length(unique(regmatches(found$problems, regexpr("name-[123]", found$problems))), 2)
  # Who has looked at everything need not be told to.
  expect_no_match(found$problems, "verify = TRUE", fixed = TRUE)
  expect_length(dkuVaultInfo()$problems, 0)
})

test_that("an older copy of the database is found, and accepted by name", {
  home <- local_vault()
  dkuSetSecret("a", "1")
  expect_identical(withVisible(dkuAcceptRestore()), list(value = FALSE, visible = FALSE))
  database <- dkuVaultInfo()$database
  backup <- withr::local_tempfile()
  file.copy(database, backup)
  dkuSetSecret("a", "2")
  file.copy(backup, database, overwrite = TRUE)
  for (use in list(dkuGetSecret, dkuRemoveSecret, dkuSecretVersions)) {
    expect_error(use("a"), class = "dkusecrets_error_rolled_back")
  }
  expect_snapshot(dkuGetSecret("a"), error = TRUE, transform = hide_home(home))
  expect_identical(names(dkuVaultInfo(verify = TRUE)$problems), "rolled_back")
  expect_true(dkuAcceptRestore())
  expect_identical(dkuGetSecret("a"), "1")
  expect_length(dkuVaultInfo(verify = TRUE)$problems, 0)
})

test_that("damage is found by the first read that touches it, and reported", {
  home <- local_vault()
  dkuSetSecret("a", "v")
  database <- dkuVaultInfo()$database
  bytes <- readBin(database, "raw", file.size(database))
  expect_error(
    {
      writeBin(bytes[seq_len(length(bytes) / 2)], database)
      dkuGetSecret("a")
    },
    class = "dkusecrets_error_damaged"
  )
  expect_match(names(dkuVaultInfo(verify = TRUE)$problems), "damaged", all = FALSE)
  writeBin(bytes, database)
  expect_identical(dkuGetSecret("a"), "v")
})
