# Where the vault lies is decided in Rust, by the environment at each call.

# Where a vault would be, or is.
where <- function() {
  info <- dkuVaultInfo()
  c(data = dirname(info$database), config = info$config)
}

test_that("the directories are those of tools::R_user_dir()", {
  expected <- function() {
    c(data = tools::R_user_dir("dkusecrets", "data"), config = tools::R_user_dir("dkusecrets", "config"))
  }
  names <- c("DKUSECRETS_HOME", "R_USER_DATA_DIR", "R_USER_CONFIG_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME")
  withr::local_envvar(setNames(rep(NA, 5), names))
  home <- normalizePath(withr::local_tempdir())
  withr::local_envvar(HOME = home)
  expect_identical(where(), expected())
  withr::with_envvar(c(DKUSECRETS_HOME = ""), expect_identical(where(), expected()))
  below <- function(name) file.path(home, name)
  withr::local_envvar(XDG_DATA_HOME = below("xd"), XDG_CONFIG_HOME = below("xc"))
  expect_identical(where(), expected())
  withr::local_envvar(R_USER_DATA_DIR = below("rd"), R_USER_CONFIG_DIR = below("rc"))
  expect_identical(where(), expected())
})

test_that("an empty HOME counts as unset", {
  skip_on_cran()
  skip_if(Sys.which("getent") == "", "there is no getent")
  account <- strsplit(system2("getent", c("passwd", system2("id", "-u", stdout = TRUE)), stdout = TRUE), ":")[[1]]
  skip_if(length(account) < 6, "the account has no entry")
  names <- c("DKUSECRETS_HOME", "R_USER_DATA_DIR", "R_USER_CONFIG_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME")
  withr::local_envvar(setNames(rep(NA, 5), names))
  expected <- file.path(account[[6]], c(data = ".local/share/R/dkusecrets", config = ".config/R/dkusecrets"))
  for (home in c("", NA)) withr::with_envvar(c(HOME = home), expect_identical(unname(where()), expected))
})

test_that("a relative directory of data is refused", {
  withr::local_envvar(DKUSECRETS_HOME = NA, R_USER_DATA_DIR = "rel", R_USER_CONFIG_DIR = withr::local_tempdir())
  expect_error(dkuSetSecret("a", "v"), class = "dkusecrets_error_path")
  withr::local_envvar(DKUSECRETS_HOME = "~nobody/vault")
  expect_error(dkuSetSecret("a", "v"), class = "dkusecrets_error_path")
})

test_that("DKUSECRETS_HOME moves both", {
  home <- normalizePath(withr::local_tempdir())
  dir.create(file.path(home, "vault"), mode = "0700")
  withr::local_envvar(HOME = home, DKUSECRETS_HOME = "~/vault", R_USER_DATA_DIR = "/elsewhere")
  dkuSetSecret("a", "v")
  expect_identical(where(), c(data = file.path(home, "vault", "data"), config = file.path(home, "vault", "config")))
  expect_true(file.exists(file.path(home, "vault", "data", "vault.db")))
})

test_that("without DKUSECRETS_HOME the first use makes private directories", {
  data <- withr::local_tempdir()
  config <- withr::local_tempdir()
  withr::local_envvar(DKUSECRETS_HOME = NA, R_USER_DATA_DIR = data, R_USER_CONFIG_DIR = config, HOME = data)
  dkuSetSecret("a", "v")
  expect_identical(dkuGetSecret("a"), "v")
  expect_identical(as.character(file.mode(file.path(c(data, config), "R", "dkusecrets"))), c("700", "700"))
  info <- dkuVaultInfo()
  expect_identical(info$database, file.path(normalizePath(data), "R", "dkusecrets", "vault.db"))
  expect_identical(as.character(file.mode(c(info$database, info$key_file))), c("600", "600"))
})

test_that("reading creates nothing", {
  home <- local_vault()
  expect_identical(nrow(dkuListSecrets()), 0L)
  expect_length(dkuGetAuthInfo(TRUE)$secrets, 0)
  expect_error(dkuGetSecret("a"), class = "dkusecrets_error_not_found")
  expect_error(dkuRemoveSecret("a"), class = "dkusecrets_error_not_found")
  expect_false(dkuVaultInfo(verify = TRUE)$exists)
  expect_identical(list.files(home, all.files = TRUE, no.. = TRUE), character())
})

test_that("a place that cannot be right is refused, and nothing is made there", {
  home <- withr::local_tempdir()
  refused <- function(path, class) {
    withr::local_envvar(DKUSECRETS_HOME = path)
    for (use in list(function() dkuSetSecret("a", "v"), function() dkuGetSecret("a"), function() dkuListSecrets())) {
      expect_error(use(), class = paste0("dkusecrets_error_", class))
    }
    expect_gt(length(dkuVaultInfo()$problems), 0)
  }
  refused(file.path(home, "missing"), "path")
  refused("relative/path", "path")
  file <- file.path(home, "file")
  writeLines("not a directory", file)
  refused(file, "path")
  refused(file.path(file, "below"), "path")
  expect_identical(list.files(home), "file")
})

test_that("a directory that others can write is refused, also above the vault", {
  home <- local_vault()
  dkuSetSecret("a", "v")
  refused <- function(path, mode, use = dkuGetSecret("a")) {
    old <- file.mode(path)
    Sys.chmod(path, mode, use_umask = FALSE)
    on.exit(Sys.chmod(path, old, use_umask = FALSE))
    expect_error(use, class = "dkusecrets_error_unsafe")
  }
  refused(home, "0777")
  refused(home, "0770")
  refused(file.path(home, "data"), "0755")
  refused(file.path(home, "config"), "0755")
  refused(dkuVaultInfo()$database, "0640")
  refused(dkuVaultInfo()$key_file, "0604")
  refused(dkuVaultInfo()$key_file, "0604", dkuSetSecret("a", "w"))
  expect_identical(dkuGetSecret("a"), "v")
})

test_that("a missing key or database is an error, never a new vault", {
  local_vault()
  dkuSetSecret("a", "v")
  info <- dkuVaultInfo()
  hidden <- paste0(info$key_file, ".away")
  file.rename(info$key_file, hidden)
  expect_error(dkuGetSecret("a"), class = "dkusecrets_error_key_missing")
  expect_error(dkuSetSecret("a", "w"), class = "dkusecrets_error_key_missing")
  expect_true("key_missing" %in% names(dkuVaultInfo()$problems))
  file.rename(hidden, info$key_file)
  file.rename(info$database, hidden)
  expect_error(dkuGetSecret("a"), class = "dkusecrets_error_vault_missing")
  expect_error(dkuSetSecret("a", "w"), class = "dkusecrets_error_vault_missing")
  file.rename(hidden, info$database)
  expect_identical(dkuGetSecret("a"), "v")
})

# R code run in a fresh R by another user, with his own idea of home. Its output and errors.
as_nobody <- function(code, env = character()) {
  skip_if(Sys.info()[["effective_user"]] != "root", "only root can become another user")
  skip_if(Sys.which("setpriv") == "", "setpriv is not installed")
  library <- dirname(system.file(package = "dkusecrets"))
  readable <- system2("setpriv", c("--reuid=65534", "--regid=65534", "--clear-groups", "test", "-r", library)) == 0
  skip_if(!readable, "another user cannot read the library the package is in")
  script <- withr::local_tempfile(fileext = ".R", lines = c(
    sprintf("library(dkusecrets, lib.loc = %s)", encodeString(library, quote = "\"")),
    code
  ))
  # Another user may not look into this session's temporary directory.
  system2(
    "setpriv",
    c("--reuid=65534", "--regid=65534", "--clear-groups", "env", env, "TMPDIR=/tmp", file.path(R.home("bin"), "R"), "--no-echo", "--no-restore", "--no-save"),
    stdin = script, stdout = TRUE, stderr = TRUE
  ) |> suppressWarnings() |> paste(collapse = "\n")
}

test_that("a vault of someone else is refused, as with sudo -E", {
  skip_if(Sys.info()[["effective_user"]] != "root", "only root can give files away")
  home <- local_vault()
  dkuSetSecret("a", "v")
  system2("chown", c("-R", "65534", shQuote(home)))
  withr::defer(system2("chown", c("-R", "0", shQuote(home))))
  cnd <- expect_error(dkuGetSecret("a"), class = "dkusecrets_error_unsafe")
  expect_match(conditionMessage(cnd), "sudo -H", fixed = TRUE)
  expect_error(dkuSetSecret("a", "w"), class = "dkusecrets_error_unsafe")
})

test_that("a directory of one's own that cannot be written is an error of its own", {
  home <- tempfile("vault", "/tmp")
  dir.create(home, mode = "0500")
  withr::defer(unlink(home, recursive = TRUE))
  system2("chown", c("65534", shQuote(home)))
  out <- as_nobody(
    "tryCatch(dkuSetSecret('a', 'v'), dkusecrets_error_permission = function(cnd) cat('refused:', class(cnd)[[1]]))",
    env = paste0("DKUSECRETS_HOME=", home)
  )
  expect_match(out, "refused: dkusecrets_error_permission", fixed = TRUE)
})

test_that("a full disk is an error of its own, and what was stored stays", {
  skip_if(Sys.info()[["effective_user"]] != "root", "only root can mount a small disk")
  home <- local_vault()
  disk <- file.path(home, "disk")
  dir.create(disk, mode = "0700")
  mounted <- suppressWarnings(system2(
    "mount", c("-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", shQuote(disk)), stdout = FALSE, stderr = FALSE
  ))
  skip_if(mounted != 0, "mounting is not allowed here")
  withr::defer(system2("umount", shQuote(disk)))
  withr::local_envvar(DKUSECRETS_HOME = disk)
  dkuSetSecret("a", "v")
  expect_error(dkuSetSecret("b", strrep("x", 2^20)), class = "dkusecrets_error_no_space")
  expect_identical(dkuGetSecret("a"), "v")
  expect_error(dkuGetSecret("b"), class = "dkusecrets_error_not_found")
})

test_that("a home that cannot be looked into may hold a configuration: it is not passed over", {
  out <- as_nobody(
    "tryCatch(dkuGetSecret('a'), dkusecrets_error_permission = function(cnd) cat('refused:', conditionMessage(cnd)))",
    env = c("HOME=/root", "DKUSECRETS_HOME=")
  )
  skip_if(as.character(file.mode("/root")) != "700", "root's home is open to others")
  expect_match(out, "refused: /root/.dataiku/config.json cannot be looked at", fixed = TRUE)
})

test_that("the login comes from the user id and not from the environment", {
  for (name in c("USER", "LOGNAME", "USERNAME", "LNAME")) {
    withr::local_envvar(setNames("someone-else", name))
  }
  expect_identical(dkuGetAuthInfo()$authIdentifier, system2("id", "-un", stdout = TRUE))
  out <- as_nobody("cat(dkuGetAuthInfo()$authIdentifier)", env = c("USER=root", "LOGNAME=root", "HOME=/root", "DKUSECRETS_HOME=/none"))
  expect_identical(out, system2("id", c("-un", "65534"), stdout = TRUE))
})
