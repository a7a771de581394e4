strange <- list(
  NULL, NA, NA_character_, character(), c("a", "b"), 1, 1L, TRUE, as.raw(0), raw(2), 1i, list("a"),
  quote(a), mean, factor("a"), new.env(), Sys.Date()
)

test_that("what is no single string is no name", {
  local_vault()
  dkuSetSecret("kept", "v")
  for (x in strange) {
    expect_unchanged({
      expect_error(dkuGetSecret(x), class = "dkusecrets_error_invalid_name")
      expect_error(dkuSetSecret(x, "v"), class = "dkusecrets_error_invalid_name")
      expect_error(dkuRemoveSecret(x), class = "dkusecrets_error_invalid_name")
      expect_error(dkuRenameSecret("kept", x), class = "dkusecrets_error_invalid_name")
    })
  }
})

test_that("every function that takes a name checks it, and says which function was called", {
  local_vault()
  takes_name <- Filter(
    function(f) "name" %in% names(formals(f)),
    mget(getNamespaceExports("dkusecrets"), asNamespace("dkusecrets"), mode = "function", ifnotfound = list(NULL))
  )
  expect_gt(length(takes_name), 7)
  for (name in names(takes_name)) {
    f <- as.name(name)
    cnd <- expect_error(eval(bquote(.(f)(1))), class = "dkusecrets_error_invalid_name")
    expect_identical(conditionCall(cnd), as.call(list(f)))
    expect_error(eval(bquote(.(f)())), class = "dkusecrets_error_invalid_name")
  }
})

test_that("a name is text of 1 to 255 characters without control characters", {
  local_vault()
  dkuSetSecret("kept", "v")
  for (name in c("", "a\nb", "tab\t", "\x01", "\u0085", strrep("x", 256), strrep("\u00e9", 256))) {
    expect_unchanged(
      expect_error(dkuSetSecret(name, "v"), class = "dkusecrets_error_invalid_name")
    )
    expect_error(dkuGetSecret(name), class = "dkusecrets_error_invalid_name")
  }
  for (name in c(" ", "NA", "a/b", "%s", "\U1f511", strrep("\u00e9", 255), "\u202eabc")) {
    dkuSetSecret(name, name)
    expect_identical(dkuGetSecret(name), name)
  }
})

test_that("names are the same name in every encoding and normal form", {
  local_vault()
  dkuSetSecret("cl\u00e9", "v")
  expect_identical(dkuGetSecret(iconv("cl\u00e9", "UTF-8", "latin1")), "v")
  expect_identical(dkuGetSecret("cle\u0301"), "v")
  expect_error(dkuGetSecret("CL\u00c9"), class = "dkusecrets_error_not_found")
})

test_that("what is no single string is no value", {
  local_vault()
  dkuSetSecret("kept", "v")
  for (x in strange) {
    expect_unchanged({
      expect_error(dkuSetSecret("kept", x), class = "dkusecrets_error_invalid_value")
      expect_error(dkuSetSecret("new", x), class = "dkusecrets_error_invalid_value")
    })
  }
})

test_that("a value fits 1 MiB and its encoding, and nothing changes if it does not", {
  local_vault()
  dkuSetSecret("kept", "v")
  bytes <- "\xff\xfe"
  Encoding(bytes) <- "bytes"
  broken <- "caf\xe9"
  Encoding(broken) <- "UTF-8"
  undeclared <- rawToChar(as.raw(c(0x61, 0xff)))
  for (x in list(bytes, broken, undeclared, strrep("x", 2^20 + 1), strrep("\u20ac", 349526))) {
    expect_unchanged(
      expect_error(dkuSetSecret("kept", x), class = "dkusecrets_error_invalid_value")
    )
  }
  expect_identical(dkuGetSecret("kept"), "v")
})

test_that("bytes without a declared encoding are UTF-8 in a C locale too", {
  local_vault()
  withr::local_locale(LC_CTYPE = "C")
  native <- rawToChar(charToRaw("caf\u00e9"))
  expect_identical(Encoding(native), "unknown")
  dkuSetSecret(native, native)
  expect_identical(charToRaw(dkuGetSecret("caf\u00e9")), charToRaw("caf\u00e9"))
  expect_error(
    dkuSetSecret("a", rawToChar(as.raw(0xe9))),
    class = "dkusecrets_error_invalid_value"
  )
})

test_that("a latin1 locale's own text is converted", {
  locales <- withr::local_tempdir()
  withr::local_envvar(LOCPATH = locales)
  made <- suppressWarnings(system2(
    "localedef", c("-i", "en_US", "-f", "ISO-8859-1", file.path(locales, "latin1")), stdout = FALSE, stderr = FALSE
  ))
  skip_if(made != 0, "this system cannot make a latin1 locale")
  withr::local_locale(LC_CTYPE = "latin1")
  expect_identical(charToRaw(as_utf8(rawToChar(as.raw(0xe9)))), charToRaw("\u00e9"))
})

test_that("the other arguments are checked", {
  local_vault()
  dkuSetSecret("a", "v")
  invalid <- "dkusecrets_error_invalid_argument"
  expect_unchanged({
    for (x in list(NA, NULL, "yes", 1, c(TRUE, FALSE))) {
      expect_error(dkuGetAuthInfo(x), class = invalid)
      expect_error(dkuListSecrets(x), class = invalid)
      expect_error(dkuVaultInfo(x), class = invalid)
    }
    for (x in list(-1, 1.5, NA, "1", 1:2, Inf, NaN, TRUE, Sys.Date())) {
      expect_error(dkuSetSecret("a", "w", if_version = x), class = invalid)
      expect_error(dkuRemoveSecret("a", if_version = x), class = invalid)
      expect_error(dkuRestoreSecret("a", x), class = invalid)
      expect_error(dkuConfigureVault(x), class = invalid)
      expect_error(dkuConfigureVault(keep_days = x), class = invalid)
    }
    for (x in list("tomorrow", "2031-02-30", "2031-1-1", 20000, Sys.time(), as.Date(c(NA, NA)), as.Date(Inf))) {
      expect_error(dkuSetSecret("a", "w", expires = x), class = invalid)
      expect_error(dkuDescribeSecret("a", expires = x), class = invalid)
    }
    for (x in list(1, c("a", "b"), "a\x01", strrep("x", 1001))) {
      expect_error(dkuSetSecret("a", "w", description = x), class = invalid)
      expect_error(dkuDescribeSecret("a", x), class = invalid)
    }
  })
})

test_that("an error says what was given without showing it", {
  given <- list(
    NULL, NA, "s3cret", c("a", "s3cret"), 1, 1:3, TRUE, raw(1), mean, factor("s3cret"), list("s3cret"), new.env()
  )
  expect_snapshot(vapply(given, what_is, ""))
  expect_snapshot(error = TRUE, {
    dkuGetSecret()
    dkuGetSecret(c("a", "b"))
    dkuSetSecret("a", 17)
    dkuSetSecret("a", "v", if_version = "s3cret")
    dkuSetSecret("a", "v", expires = "tomorrow")
    dkuSetSecret("a", "v", expires = "2025-13-01")
    dkuSetSecret("a", "v", description = 1)
    dkuCreateVault("paper")
    dkuConfigureVault(keep_versions = 0)
    dkuConfigureVault(keep_days = 36501.5)
    dkuUnlock("p", minutes = 0)
  })
})
