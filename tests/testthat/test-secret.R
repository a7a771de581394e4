test_that("a value comes back byte for byte", {
  local_vault()
  values <- c(
    empty = "",
    space = " ",
    newline = "\n",
    `trailing spaces and newlines` = "a  \n\n \t\r\n",
    `an SSH key` = paste0("-----BEGIN KEY-----\n", strrep("QUFB\n", 100), "-----END KEY-----\n"),
    `the letters NA` = "NA",
    emoji = "\U1f469\u200d\U1f4bb \U1f511",
    `right to left` = "\u05e1\u05d5\u05d3 \u202eabc\u202c \u0633\u0631",
    `not normalised` = "e\u0301 \u00e9",
    `control characters` = "\x01\x02\x1b[31m\x7f",
    percent = "100%s %n {1 + 1} `r 1`",
    quotes = "\"'\\0\\x00",
    `byte order mark` = "\ufeffa",
    `not a character` = "\uffff\U10ffff",
    `1 MiB` = strrep("x", 2^20),
    `1 MiB of three bytes each` = paste0(strrep("\u20ac", 349525), "x")
  )
  for (name in names(values)) {
    dkuSetSecret(name, values[[name]])
    expect_identical(charToRaw(dkuGetSecret(name)), charToRaw(values[[name]]), label = name)
  }
  secrets <- dkuGetAuthInfo(TRUE)$secrets
  expect_identical(vapply(secrets, `[[`, "", "key"), sort(names(values), method = "radix"))
  for (secret in secrets) {
    expect_identical(charToRaw(secret$value), charToRaw(values[[secret$key]]), label = secret$key)
  }
})

test_that("latin1 text is stored as UTF-8", {
  local_vault()
  latin1 <- iconv("caf\u00e9", "UTF-8", "latin1")
  expect_identical(Encoding(latin1), "latin1")
  dkuSetSecret("a", latin1)
  expect_identical(charToRaw(dkuGetSecret("a")), charToRaw("caf\u00e9"))
})

test_that("a value may have attributes, which are not stored", {
  local_vault()
  dkuSetSecret("a", structure("v", names = "n", class = "glue"))
  expect_identical(dkuGetSecret("a"), "v")
})

test_that("a class whose methods say that it is no string is believed", {
  local_vault()
  dkuSetSecret("a", "v")
  two <- structure("a", class = "dkusecrets_test_two")
  registerS3method("length", "dkusecrets_test_two", function(x) 2L)
  expect_unchanged({
    expect_error(dkuSetSecret("a", two), class = "dkusecrets_error_invalid_value")
    expect_error(dkuSetSecret(two, "v"), class = "dkusecrets_error_invalid_name")
    expect_error(dkuGetSecret(two), class = "dkusecrets_error_invalid_name")
  })
})

test_that("a string that R has not made yet is a string", {
  local_vault()
  # as.character() of numbers makes its strings when they are looked at.
  dkuSetSecret(as.character(12345), as.character(67890))
  expect_identical(dkuGetSecret(as.character(12345)), "67890")
})

test_that("storing again makes a new version, told invisibly", {
  local_vault()
  expect_identical(withVisible(dkuSetSecret("a", "1")), list(value = 1, visible = FALSE))
  expect_identical(dkuSetSecret("a", "2"), 2)
  expect_identical(dkuGetSecret("a"), "2")
})

test_that("if_version refuses when someone else was faster", {
  local_vault()
  dkuSetSecret("a", "1", if_version = 0)
  expect_unchanged({
    cnd <- expect_error(dkuSetSecret("a", "2", if_version = 0), class = "dkusecrets_error_conflict")
    expect_identical(cnd[c("name", "expected", "found")], list(name = "a", expected = 0, found = 1))
    expect_error(dkuSetSecret("a", "2", if_version = 2), class = "dkusecrets_error_conflict")
    expect_error(dkuSetSecret("b", "2", if_version = 1), class = "dkusecrets_error_conflict")
    expect_error(dkuRemoveSecret("a", if_version = 2), class = "dkusecrets_error_conflict")
  })
  expect_snapshot(dkuSetSecret("a", "2", if_version = 5), error = TRUE)
  expect_identical(dkuSetSecret("a", "2", if_version = 1), 2)
  dkuRemoveSecret("a", if_version = 2)
})

test_that("a missing secret names close ones and the way out", {
  local_vault()
  dkuSetSecret("api-key", "v")
  dkuSetSecret("removed-key", "v")
  dkuRemoveSecret("removed-key")
  cnd <- expect_error(dkuGetSecret("api-kex"), class = "dkusecrets_error_not_found")
  expect_identical(cnd[c("name", "close", "removed")], list(name = "api-kex", close = "api-key", removed = FALSE))
  expect_true(expect_error(dkuGetSecret("removed-key"), class = "dkusecrets_error_not_found")$removed)
  expect_snapshot(error = TRUE, {
    dkuGetSecret("api-kex")
    dkuGetSecret("removed-key")
    dkuGetSecret("100%s\\")
    dkuRenameSecret("nothing", "else")
    dkuDescribeSecret("nothing")
  })
})

test_that("the list has everything but values, in the types that are documented", {
  local_vault()
  before <- Sys.time() - 1
  dkuSetSecret("b", "v", description = "caf\u00e9", expires = "2031-12-31")
  dkuSetSecret("a", "v")
  dkuSetSecret("a", "w")
  list <- dkuListSecrets()
  expect_s3_class(list, "data.frame")
  expect_named(list, c("name", "description", "version", "created", "updated", "expires"))
  expect_identical(list$name, c("a", "b"))
  expect_identical(list$description, c("", "caf\u00e9"))
  expect_identical(list$version, c(2, 1))
  expect_identical(list$expires, as.Date(c(NA, "2031-12-31")))
  for (time in list(list$created, list$updated)) {
    expect_s3_class(time, "POSIXct")
    expect_identical(attr(time, "tzone"), "UTC")
    expect_true(all(time > before & time < Sys.time() + 1))
  }
  expect_gt(list$updated[[1]], list$created[[1]] - 0.001)
})

test_that("removed secrets are listed if asked for", {
  local_vault()
  dkuSetSecret("a", "v")
  dkuSetSecret("b", "v")
  dkuRemoveSecret("a")
  expect_identical(dkuListSecrets()$name, "b")
  all <- dkuListSecrets(removed = TRUE)
  expect_identical(all$name, c("a", "b"))
  expect_s3_class(all$removed, "POSIXct")
  expect_identical(is.na(all$removed), c(FALSE, TRUE))
})

test_that("an expected version of what is not there is a conflict that says so", {
  home <- local_vault()
  expect_snapshot(dkuSetSecret("a", "1", if_version = 1), error = TRUE)
  expect_identical(list.files(home, recursive = TRUE, all.files = TRUE), character())
  dkuSetSecret("a", "1", if_version = 0)
  expect_snapshot(dkuSetSecret("a", "2", if_version = 0), error = TRUE)
  expect_identical(dkuGetSecret("a"), "1")
})

test_that("what changes nothing writes nothing", {
  local_vault()
  dkuSetSecret("a", "1")
  expect_unchanged({
    dkuRenameSecret("a", "a")
    dkuDescribeSecret("a")
  })
  expect_error(dkuRenameSecret("b", "b"), class = "dkusecrets_error_not_found")
})

test_that("names that turn text around, or quote, are shown so that they don't", {
  local_vault()
  name <- "a\u202eb\u2066\"c"
  dkuSetSecret(name, "v", description = "d\u202ee")
  for (cnd in list(
    tryCatch(dkuGetSecret(paste0(name, "x")), error = identity),
    tryCatch(dkuSetSecret(name, "v", if_version = 7), error = identity),
    tryCatch(dkuRestoreSecret(name, 9), error = identity)
  )) {
    expect_match(conditionMessage(cnd), "\"a\ufffdb\ufffd\\\"c", fixed = TRUE)
    expect_no_match(conditionMessage(cnd), "[\u202a-\u202e\u2066-\u2069]")
  }
  shown <- paste(capture.output(dkuListSecrets()), collapse = "")
  expect_no_match(shown, "[\u202a-\u202e\u2066-\u2069]")
  expect_match(shown, "d\ufffde", fixed = TRUE)
  expect_identical(dkuListSecrets()$name, name)
})

test_that("the list prints well, also empty", {
  local_vault()
  expect_snapshot(dkuListSecrets())
  expect_identical(dim(dkuListSecrets()), c(0L, 6L))
  expect_identical(sapply(dkuListSecrets(TRUE), class)$removed, c("POSIXct", "POSIXt"))
  dkuSetSecret("api-key", "s3cret", description = "Weather\nservice", expires = "2031-12-31")
  dkuSetSecret("\U1f511", "s3cret")
  expect_snapshot(dkuListSecrets()[c("name", "description", "version", "expires")])
  expect_output(print(dkuListSecrets()["created"]), "^ created +\n 20[0-9]{2}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}\n")
})

test_that("description and expiry change without a new version", {
  local_vault()
  dkuSetSecret("a", "v", description = "first", expires = "2031-12-31")
  described <- function() {
    list <- dkuListSecrets()
    c(list$description, format(list$expires), list$version)
  }
  expect_null(dkuDescribeSecret("a"))
  expect_identical(described(), c("first", "2031-12-31", "1"))
  dkuDescribeSecret("a", description = "second")
  expect_identical(described(), c("second", "2031-12-31", "1"))
  dkuDescribeSecret("a", expires = as.Date("2040-01-01"))
  expect_identical(described(), c("second", "2040-01-01", "1"))
  dkuDescribeSecret("a", expires = NULL)
  expect_identical(described(), c("second", NA, "1"))
  dkuDescribeSecret("a", expires = "2031-12-31")
  for (none in list(NULL, NA, NA_character_, "")) {
    dkuDescribeSecret("a", description = "third")
    dkuDescribeSecret("a", description = none)
    expect_identical(described(), c("", "2031-12-31", "1"))
  }
  dkuDescribeSecret("a", expires = NA)
  expect_identical(described(), c("", NA, "1"))
  expect_identical(dkuGetSecret("a"), "v")
})

test_that("a new value keeps the description and drops the expiry", {
  local_vault()
  dkuSetSecret("a", "v", description = "kept", expires = "2031-12-31")
  dkuSetSecret("a", "w")
  expect_identical(dkuListSecrets()$description, "kept")
  expect_identical(dkuListSecrets()$expires, as.Date(NA))
  dkuSetSecret("a", "x", description = "", expires = NA)
  expect_identical(dkuListSecrets()$description, "")
})

test_that("a renamed secret keeps its value and history, and takes no other's name", {
  local_vault()
  dkuSetSecret("a", "1")
  dkuSetSecret("a", "2")
  dkuSetSecret("taken", "t")
  dkuSetSecret("removed", "r")
  dkuRemoveSecret("removed")
  expect_null(dkuRenameSecret("a", "b"))
  expect_identical(dkuGetSecret("b"), "2")
  expect_identical(nrow(dkuSecretVersions("b")), 2L)
  expect_error(dkuGetSecret("a"), class = "dkusecrets_error_not_found")
  expect_unchanged({
    expect_false(expect_error(dkuRenameSecret("b", "taken"), class = "dkusecrets_error_exists")$removed)
    expect_true(expect_error(dkuRenameSecret("b", "removed"), class = "dkusecrets_error_exists")$removed)
  })
  expect_snapshot(error = TRUE, {
    dkuRenameSecret("b", "taken")
    dkuRenameSecret("b", "removed")
  })
})

test_that("forked children read and write, and the parent goes on", {
  local_vault()
  dkuSetSecret("shared", "v")
  # R CMD check allows two at once.
  answers <- parallel::mclapply(1:4, mc.cores = 2, mc.preschedule = FALSE, function(i) {
    for (j in 1:10) {
      stopifnot(identical(dkuGetSecret("shared"), "v"))
      dkuSetSecret(sprintf("child-%d", i), sprintf("%d", j))
    }
    length(dkuGetAuthInfo(TRUE)$secrets) > 1
  })
  expect_identical(answers, rep(list(TRUE), 4))
  dkuSetSecret("after", "v")
  expect_identical(dkuListSecrets()$name, c("after", sprintf("child-%d", 1:4), "shared"))
  expect_identical(dkuListSecrets()$version[2:5], rep(10, 4))
  expect_identical(dkuVaultInfo(verify = TRUE)$problems, structure(character(), names = character()))
})

test_that("nothing is open between calls", {
  skip_if_not(dir.exists("/proc/self/fd"), "no /proc here")
  home <- local_vault()
  dkuSetSecret("a", "v")
  dkuGetAuthInfo(TRUE)
  try(dkuGetSecret("nothing"), silent = TRUE)
  open <- Sys.readlink(list.files("/proc/self/fd", full.names = TRUE))
  expect_identical(grep(normalizePath(home), open, fixed = TRUE, value = TRUE), character())
})

test_that("the file holds neither values nor names", {
  home <- local_vault()
  dkuSetSecret("name-in-clear", "value-in-clear", description = "description-in-clear")
  dkuSetSecret("name-in-clear", "second-in-clear")
  files <- list.files(home, recursive = TRUE, all.files = TRUE, full.names = TRUE)
  expect_gt(length(files), 2)
  for (file in files) {
    bytes <- readBin(file, "raw", file.size(file))
    expect_length(grepRaw("in-clear", bytes, fixed = TRUE), 0)
  }
})

test_that("a backslash stays one, also where the locale has another sign in its place", {
  skip_if(!file.exists("/usr/share/i18n/charmaps/SHIFT_JIS.gz"), "the charmaps of Debian's package locales are not there")
  local_vault()
  locales <- withr::local_tempdir()
  # It warns that Shift_JIS is not ASCII, which is what is tested.
  made <- file.path(locales, "ja_JP.SJIS")
  system2("localedef", c("--no-archive", "-i", "ja_JP", "-f", "SHIFT_JIS", made), stdout = FALSE, stderr = FALSE)
  code <- quote({
    library(dkusecrets)
    stopifnot(!l10n_info()[["UTF-8"]], iconv("\\", "", "UTF-8") != "\\")
    name <- "DOMAIN\\user~1"
    dkuSetSecret(name, "p\\w~d")
    stopifnot(charToRaw(dkuGetSecret(name)) == charToRaw("p\\w~d"), dkuListSecrets()$name == name)
    cat("as it was")
  })
  script <- withr::local_tempfile(fileext = ".R", lines = deparse(code))
  out <- system2(
    file.path(R.home("bin"), "Rscript"), script,
    stdout = TRUE, stderr = TRUE, env = c(paste0("LOCPATH=", locales), "LC_ALL=ja_JP.SJIS")
  )
  expect_match(paste(out, collapse = "\n"), "as it was")
  expect_identical(dkuGetSecret("DOMAIN\\user~1"), "p\\w~d")
})
