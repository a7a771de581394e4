# A marker is stored as a value, and everything that shows something is searched for it.
marker <- "Marker7Value"

marked <- function(env = parent.frame()) {
  local_vault(env)
  dkuSetSecret("first", marker, description = "d")
  dkuSetSecret("second", paste0(marker, "\nsecond line"))
  info <- dkuGetAuthInfo(with_secrets = TRUE)
  list(info = info, secrets = info$secrets, secret = info$secrets[[1]])
}

# Everything that `code` writes, raises or answers with.
output_of <- function(code) {
  file <- withr::local_tempfile()
  connection <- file(file, "w")
  sink(connection)
  sink(connection, type = "message")
  answer <- tryCatch(
    withCallingHandlers(code, warning = function(cnd) {
      message(conditionMessage(cnd))
      invokeRestart("muffleWarning")
    }),
    error = function(cnd) paste(conditionMessage(cnd), paste(deparse(conditionCall(cnd)), collapse = " "))
  )
  sink(type = "message")
  sink()
  close(connection)
  paste(c(readLines(file, warn = FALSE), if (is.character(answer)) answer), collapse = "\n")
}

ways_to_show <- function() {
  ways <- list(
    print = print, autoprint = function(x) print(withVisible(x)$value), str = str, summary = summary,
    `print summary` = function(x) print(summary(x)), head = function(x) print(head(x, 1)),
    tail = function(x) print(tail(x, 1)), `capture.output` = function(x) capture.output(x),
    cat = cat, `print format` = function(x) print(format(x)), ls.str = function(x) print(ls.str(list2env(list(x = x))))
  )
  if (requireNamespace("knitr", quietly = TRUE)) {
    ways$knit_print <- function(x) knitr::knit_print(x)
    ways$kable <- function(x) as.character(knitr::kable(x))
  }
  if (requireNamespace("repr", quietly = TRUE)) {
    ways <- c(ways, repr::mime2repr)
  }
  ways
}

# These look into a plain list around an object as base R does, without asking the object.
ways_to_convert <- list(
  format = format, as.character = as.character, toString = toString, paste = paste, unlist = unlist,
  message = message, warning = warning, sprintf = function(x) sprintf("%s", x), writeLines = writeLines,
  cat = function(x) cat(format(x)), nchar = nchar,
  rbind = function(x) print(rbind(x, x)), cbind = function(x) print(cbind(x, 1)), c = function(x) print(c(x, a = 1)),
  as.data.frame = function(x) print(as.data.frame(x)), data.frame = function(x) print(data.frame(x))
)

# What one tries to look at a list of records.
ways_to_tabulate <- list(
  rbind = function(x) print(do.call(rbind, x)), cbind = function(x) print(do.call(cbind, x)),
  `rbind as.data.frame` = function(x) print(do.call(rbind, lapply(x, as.data.frame))),
  c = function(x) print(do.call(c, unname(as.list(x)))), sapply = function(x) print(sapply(x, format))
)

expect_hidden <- function(ways, objects) {
  for (way in names(ways)) {
    for (object in names(objects)) {
      shown <- output_of(ways[[way]](objects[[object]]))
      expect_false(grepl(marker, shown, fixed = TRUE), info = paste(way, "of", object))
    }
  }
}

test_that("the search finds a value that is shown", {
  objects <- marked()
  for (way in list(print, str, cat, format, toString, repr::repr_html, knitr::knit_print)) {
    expect_match(output_of(print(way(objects$secret$value))), marker, fixed = TRUE)
  }
  expect_match(output_of(stop(objects$secret$value)), marker, fixed = TRUE)
})

test_that("no way to show or to convert an object shows a value", {
  objects <- marked()
  objects$selected <- objects$secrets[2]
  objects$none <- objects$secrets[0]
  objects$part <- objects$secret["value"]
  objects$summary <- summary(objects$secrets)
  expect_hidden(ways_to_show(), objects)
  expect_hidden(ways_to_convert, objects)
  expect_hidden(ways_to_tabulate, list(secrets = objects$secrets, list = as.list(objects$secrets)))
})

# It builds a table of the fields without asking the object: SECURITY.md says so. Should it ever ask, the documents are wrong.
test_that("rbind.data.frame() is known to show values", {
  objects <- marked()
  expect_match(output_of(print(do.call(rbind.data.frame, objects$secrets))), marker, fixed = TRUE)
})

test_that("nor if the object is in lists and data frames", {
  objects <- marked()
  around <- function(x) {
    frame <- data.frame(i = 1)
    frame$column <- list(x)
    list(
      list = list(x), named = list(a = x, b = 1), deep = list(list(a = list(x))), frame = frame,
      environment = list2env(list(x = x)), call = quote(f(x)), frame_in_list = list(frame)
    )
  }
  nested <- unlist(lapply(objects, around), recursive = FALSE)
  frame <- data.frame(i = 1:2)
  frame$secrets <- objects$secrets
  frame$list <- as.list(objects$secrets)
  nested <- c(nested, list(
    frame = frame, `as.list` = as.list(objects$secrets), c = c(objects$secrets, objects$secrets),
    rev = rev(objects$secrets), I = I(as.list(objects$secrets)), lapply = lapply(objects$secrets, identity)
  ))
  ways <- ways_to_show()
  # Two plain lists deep, base R's format() asks nobody: it is documented.
  shallow <- setdiff(names(nested), grep("deep|named|frame_in_list", names(nested), value = TRUE))
  expect_hidden(ways[names(ways) != "print format"], nested)
  expect_hidden(ways["print format"], nested[shallow])
})

test_that("no error and no warning holds a value, a passphrase or an argument", {
  local_vault()
  dkuSetSecret("a", "v")
  too_long <- paste0(marker, strrep("x", 2^20))
  failing <- list(
    quote(dkuSetSecret("a", c("Marker7Value", "b"))),
    quote(dkuSetSecret("a", valeu = "Marker7Value")),
    quote(dkuSetSecret("a", "v", "d", NULL, NULL, "Marker7Value")),
    quote(dkuUnlock(password = "Marker7Value")),
    quote(dkuCreateVault("passphrase", password = "Marker7Value")),
    quote(dkuSetSecret("a", list("Marker7Value"))),
    quote(dkuSetSecret("a", factor("Marker7Value"))),
    quote(dkuSetSecret("a", paste0("Marker7Value", rawToChar(as.raw(0xff))))),
    quote(dkuSetSecret("a", too_long)),
    quote(dkuSetSecret("", "Marker7Value")),
    quote(dkuSetSecret(NULL, "Marker7Value")),
    quote(dkuSetSecret("a", "Marker7Value", if_version = 9)),
    quote(dkuSetSecret("a", "Marker7Value", expires = "Marker7Value")),
    quote(dkuSetSecret("a", "Marker7Value", description = 1)),
    quote(dkuSetSecret("a", "v", "Marker7Value\x01")),
    quote(dkuGetAuthInfo("Marker7Value")),
    quote(dkuListSecrets("Marker7Value")),
    quote(dkuCreateVault("Marker7Value")),
    quote(dkuCreateVault("passphrase", "Marker7Value")),
    quote(dkuCreateVault("file", "Marker7Value")),
    quote(dkuUnlock("Marker7Value", minutes = -1)),
    quote(dkuUnlock(c("Marker7Value", "Marker7Value"))),
    quote(do.call(dkuSetSecret, list("a", 1, "Marker7Value"))),
    quote(do.call("dkuSetSecret", list("a", c("Marker7Value", "b"))))
  )
  for (call in failing) {
    # Not by expect_error(), which puts a backtrace with the arguments into the condition.
    cnd <- tryCatch(eval(call), error = identity)
    expect_s3_class(cnd, "dkusecrets_error")
    expect_no_match(output_of(print(cnd)), marker, fixed = TRUE)
    expect_no_match(output_of(str(unclass(cnd))), marker, fixed = TRUE)
    expect_no_match(output_of(eval(call)), marker, fixed = TRUE)
  }
})

test_that("an uncaught error in a fresh process shows no value", {
  skip_if_not_installed("callr")
  local_vault()
  script <- withr::local_tempfile(fileext = ".R", lines = c(
    "library(dkusecrets)",
    "dkuSetSecret('a', 'Marker7Value', if_version = 3)"
  ))
  result <- callr::rscript(script, fail_on_status = FALSE, show = FALSE, stderr = "2>&1")
  expect_identical(result$status, 1L)
  expect_match(result$stdout, "Error in dkuSetSecret() :", fixed = TRUE)
  expect_no_match(result$stdout, marker, fixed = TRUE)
})

test_that("a wrong passphrase is not repeated", {
  local_vault()
  dkuCreateVault("passphrase", "correct horse battery")
  dkuLock()
  cnd <- tryCatch(dkuUnlock("Marker7Value"), error = identity)
  expect_s3_class(cnd, "dkusecrets_error_wrong_passphrase")
  expect_no_match(output_of(str(unclass(cnd))), marker, fixed = TRUE)
})

test_that("a knitted document shows values only where they are taken out", {
  skip_if_not_installed("knitr")
  objects <- marked()
  text <- c(
    "```{r}", "library(dkusecrets)", "info <- dkuGetAuthInfo(with_secrets = TRUE)", "info", "info$secrets",
    "info$secrets[[1]]", "list(info)", "str(info)", "```", "Inline: `r format(info$secrets)`."
  )
  knitted <- function(text) knitr::knit(text = text, quiet = TRUE, envir = new.env())
  expect_no_match(knitted(text), marker, fixed = TRUE)
  expect_match(knitted(text), "Inline: &lt;secret|Inline: <secret")
  expect_match(knitted(c(text, "`r info$secrets[[1]]$value`")), marker, fixed = TRUE)
})
