snippet <- function() readLines(test_path("snippet.R"))

# What the documented snippet finds.
run_snippet <- function() {
  env <- new.env()
  eval(parse(text = snippet()), env)
  env$secret_value
}

test_that("the documented snippet runs character for character", {
  local_vault()
  dkuSetSecret("another", "not this one")
  dkuSetSecret("credential-for-my-api", "s3cret")
  dkuSetSecret("zzz", "not this one either")
  expect_identical(run_snippet(), "s3cret")
})

test_that("the examples have the snippet as it is documented", {
  text <- paste(snippet(), collapse = "\n")
  example <- function(...) {
    paste(readLines(system.file("examples", ..., package = "dkusecrets", mustWork = TRUE)), collapse = "\n")
  }
  recipe <- paste0("library(dkusecrets)\n\n", text, "\n")
  expect_identical(substr(example("recipe.R"), 1, nchar(recipe)), recipe)
  expect_identical(example("plugin", "custom-recipes", "credential-length", "recipe.R"), example("recipe.R"))
  expect_match(example("report.Rmd"), text, fixed = TRUE)
})

test_that("a name that is not there ends the snippet in an error that says so", {
  local_vault()
  expect_error(run_snippet(), class = "dkusecrets_error_not_found")
  expect_snapshot(run_snippet(), error = TRUE)
  dkuSetSecret("credential-for-my-apj", "v")
  expect_snapshot(run_snippet(), error = TRUE)
  for (i in 1:12) dkuSetSecret(sprintf("secret-%02d", i), "v")
  expect_snapshot(run_snippet(), error = TRUE)
})

test_that("secrets are there only if asked for, as an empty list for none", {
  local_vault()
  expect_false("secrets" %in% names(dkuGetAuthInfo()))
  none <- dkuGetAuthInfo(with_secrets = TRUE)$secrets
  expect_type(none, "list")
  expect_length(none, 0)
  expect_identical(lapply(none, identity), list())
})

test_that("the fields are those of DSS", {
  local_vault()
  info <- dkuGetAuthInfo()
  expect_named(info, c("authIdentifier", "authSource", "associatedDSSUser", "groups"))
  expect_identical(info$groups, list())
  expect_identical(info$associatedDSSUser, info$authIdentifier)
})

test_that("a user id without an account has a name of its own", {
  expect_identical(os_login("ada"), "ada")
  expect_identical(os_login("unknown"), paste0("uid-", system2("id", "-u", stdout = TRUE)))
})

test_that("[, [[, $, length() and lapply() work as on plain lists", {
  local_vault()
  keys <- c("a", "b", "c")
  for (key in keys) dkuSetSecret(key, toupper(key))
  secrets <- dkuGetAuthInfo(with_secrets = TRUE)$secrets
  plain <- lapply(keys, function(key) list(key = key, value = toupper(key)))

  expect_identical(lapply(unclass(secrets), unclass), plain)
  expect_length(secrets, 3)
  expect_null(names(secrets))
  expect_identical(lapply(secrets, function(d) d$key), as.list(keys))
  expect_identical(sapply(secrets, `[[`, "value"), toupper(keys))
  expect_identical(vapply(secrets, function(d) d[["value"]], ""), toupper(keys))
  expect_identical(Map(function(d, i) paste(d$key, i), secrets, 1:3), list("a 1", "b 2", "c 3"))
  expect_identical(Filter(function(d) d$key == "b", secrets)[[1]]$value, "B")
  expect_identical(unlist(lapply(secrets, `[[`, "key")), keys)
  expect_identical(Reduce(function(all, d) paste0(all, d$key), secrets, ""), "abc")
  for (index in list(2, -1, c(TRUE, FALSE, TRUE), 0, 5, integer(), NULL, c(3, 1))) {
    expect_identical(
      lapply(secrets[index], unclass),
      lapply(structure(lapply(keys, function(k) list(key = k, value = toupper(k))))[index], identity)
    )
    expect_s3_class(secrets[index], class(secrets), exact = TRUE)
  }
  expect_identical(secrets[], secrets)
  expect_identical(secrets[[2]]$value, "B")
  expect_identical(secrets[[c(2, 1)]], "b")
  expect_null(secrets$a)
  expect_null(secrets[[2]]$nothing)
  expect_identical(rev(secrets)[[1]]$key, "c")
  expect_identical(secrets[[1]]["value"][[1]], "A")
  expect_s3_class(secrets[[1]]["value"], "dkusecrets_redacted")
  for (secret in secrets) expect_true(secret$key %in% keys)
  expect_named(secrets[[1]], c("key", "value"))
})

test_that("[[ beyond the end says how many there are", {
  local_vault()
  dkuSetSecret("a", "v")
  dkuSetSecret("b", "v")
  secrets <- dkuGetAuthInfo(TRUE)$secrets
  expect_snapshot(error = TRUE, {
    secrets[[3]]
    secrets[1][[2]]
    secrets[0][0][[1]]
  })
  expect_error(secrets[[3]], class = "dkusecrets_error_not_found")
  expect_error(secrets[[0]])
})

test_that("a selection keeps no value but those selected", {
  local_vault()
  dkuSetSecret("a", "first value")
  dkuSetSecret("b", "second value")
  secrets <- dkuGetAuthInfo(TRUE)$secrets
  text <- rawToChar(serialize(secrets[2], NULL, ascii = TRUE))
  expect_match(text, "second\\040value", fixed = TRUE)
  expect_no_match(text, "first", fixed = TRUE)
  expect_no_match(rawToChar(serialize(secrets[0], NULL, ascii = TRUE)), "value\\b.*value")
})

test_that("a value taken out is a plain string in UTF-8", {
  local_vault()
  dkuSetSecret("ascii", "a")
  dkuSetSecret("not ascii", "\u20ac \U1f511")
  value <- dkuGetAuthInfo(TRUE)$secrets[[2]]$value
  expect_identical(value, "\u20ac \U1f511")
  expect_identical(Encoding(value), "UTF-8")
  expect_null(attributes(value))
  expect_identical(Encoding(dkuGetSecret("not ascii")), "UTF-8")
  expect_identical(Encoding(dkuGetAuthInfo(TRUE)$secrets[[2]]$key), "unknown")
})

test_that("a thousand secrets come back whole, also when R collects garbage at each step", {
  skip_on_cran()
  local_vault()
  for (i in 1:1000) dkuSetSecret(sprintf("secret %04d", i), sprintf("value %d", i))
  secrets <- dkuGetAuthInfo(TRUE)$secrets
  expect_identical(vapply(secrets, `[[`, "", "key"), sprintf("secret %04d", 1:1000))
  expect_identical(vapply(secrets, `[[`, "", "value"), sprintf("value %d", 1:1000))
  gctorture(TRUE)
  again <- rust_get_all()
  gctorture(FALSE)
  expect_identical(again$secrets, secrets)
})

test_that("a secret asked for by its name in the list is not said to be missing", {
  local_vault()
  dkuSetSecret("q", "v")
  secrets <- dkuGetAuthInfo(TRUE)$secrets
  cnd <- expect_error(secrets[["q"]], class = "dkusecrets_error_not_found")
  expect_match(conditionMessage(cnd), "dkuGetSecret(\"q\") reads it", fixed = TRUE)
  expect_no_match(conditionMessage(cnd), "no secret matched", fixed = TRUE)
  expect_error(secrets[["r"]], "no secret matched; there are: \"q\"", class = "dkusecrets_error_not_found")
})

test_that("a part of an auth info names nobody", {
  local_vault()
  dkuSetSecret("q", "v")
  info <- dkuGetAuthInfo(TRUE)
  expect_identical(format(info["secrets"]), "<part of an auth info, secrets: 1>")
  expect_identical(capture.output(info["secrets"])[[1]], "<part of an auth info>")
  expect_identical(capture.output(info["groups"]), "<part of an auth info>")
})
