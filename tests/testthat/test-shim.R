test_that("the shim is installed, passes the family on, and is installed again over itself", {
  skip_on_cran()
  skip_if_not_installed("callr")
  lib <- normalizePath(withr::local_tempdir())
  expect_message(path <- dkuInstallShim(lib), paste0("Installed at ", lib, "/dataiku"), fixed = TRUE)
  expect_identical(path, file.path(lib, "dataiku"))
  expect_message(expect_invisible(dkuInstallShim(lib)), "remove.packages", fixed = TRUE)
  expect_identical(list.files(lib), "dataiku")
  home <- local_vault()
  dkuSetSecret("credential-for-my-api", "s3cret")
  found <- callr::r(function(snippet) {
    eval(parse(text = snippet))
    same <- identical(getExportedValue("dataiku", "dkuGetAuthInfo"), dkusecrets::dkuGetAuthInfo)
    list(secret_value, getNamespaceExports("dataiku"), same)
  }, list(c("library(dataiku)", readLines(test_path("snippet.R")))), libpath = c(lib, .libPaths()))
  expect_identical(found[[1]], "s3cret")
  expect_setequal(found[[2]], shim_exports)
  expect_true(found[[3]])
})

test_that("what the shim passes on is exported", {
  expect_identical(setdiff(shim_exports, getNamespaceExports("dkusecrets")), character())
})

test_that("another package named dataiku is left alone", {
  lib <- withr::local_tempdir()
  dir.create(file.path(lib, "dataiku"))
  writeLines(c("Package: dataiku", "Version: 13.0.0"), file.path(lib, "dataiku", "DESCRIPTION"))
  expect_error(dkuInstallShim(lib), "left alone", class = "dkusecrets_error_exists")
  expect_identical(list.files(lib, recursive = TRUE), "dataiku/DESCRIPTION")
  unlink(file.path(lib, "dataiku", "DESCRIPTION"))
  expect_error(dkuInstallShim(lib), class = "dkusecrets_error_exists")
})

test_that("another one elsewhere is told of", {
  skip_on_cran()
  other <- normalizePath(withr::local_tempdir())
  dir.create(file.path(other, "dataiku"))
  writeLines(c("Package: dataiku", "Version: 13.0.0"), file.path(other, "dataiku", "DESCRIPTION"))
  withr::local_libpaths(other, action = "prefix")
  lib <- withr::local_tempdir()
  expect_message(dkuInstallShim(lib), paste0("Another package of that name is at ", other, "/dataiku"), fixed = TRUE)
})

test_that("a library must be there", {
  expect_error(dkuInstallShim(file.path(tempdir(), "none")), class = "dkusecrets_error_path")
  expect_error(dkuInstallShim(), class = "dkusecrets_error_invalid_argument")
  expect_error(dkuInstallShim(c("a", "b")), class = "dkusecrets_error_invalid_argument")
})
