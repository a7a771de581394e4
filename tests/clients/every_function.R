# Every function that works with secrets, in an order that makes sense. Prints a line for each answer: what is the same
# wherever the secrets are. Times are shown as whether they are of now, errors as class, fields and the line that says what.
library(dkusecrets)

shown <- function(x) {
  if (inherits(x, "POSIXct")) {
    return(ifelse(is.na(x), NA, abs(as.double(difftime(Sys.time(), x, units = "secs"))) < 300))
  }
  if (is.data.frame(x)) x[] <- lapply(x, shown)
  x
}

say <- function(label, code) {
  warned <- character()
  answer <- tryCatch(
    withCallingHandlers(
      {
        answer <- withVisible(code)
        list(shown(answer$value), if (!answer$visible) "invisible")
      },
      warning = function(cnd) {
        warned <<- c(warned, class(cnd)[[1]], cnd$name, format(cnd$expires), deparse1(conditionCall(cnd)))
        invokeRestart("muffleWarning")
      }
    ),
    error = function(cnd) {
      said <- sub("\n.*", "", conditionMessage(cnd))
      fields <- unclass(cnd)[setdiff(names(cnd), c("message", "call", "server", "why"))]
      list(class(cnd), said, deparse1(conditionCall(cnd)), fields[order(names(fields))])
    }
  )
  cat(label, ": ", deparse1(answer), if (length(warned)) paste(" WARNED", deparse1(warned)), "\n", sep = "")
}

emoji <- "\U0001f511 \u00e9"
odd <- "cr\r\nlf\ttab \\n \\u0041 \"'`%s{}\u2028\ufeff<&>/\u00a0 \n\n"
controls <- intToUtf8(c(1:31, 127:160))

say("empty", dkuListSecrets())
say("empty info", dkuGetAuthInfo(with_secrets = TRUE)$secrets)
say("none", dkuGetSecret("api"))
say("set", dkuSetSecret("api", "s3cret"))
say("get", dkuGetSecret("api"))
say("close", dkuGetSecret("apj"))
say("set again", dkuSetSecret("api", "n3w", description = "what for \u00e9", expires = "2999-12-31", if_version = 1))
say("conflict", dkuSetSecret("api", "MARKER", if_version = 1))
say("conflict with none", dkuSetSecret("nothing", "MARKER", if_version = 4))
say("exists", dkuSetSecret("api", "MARKER", if_version = 0))
say("list", dkuListSecrets())
say("versions", dkuSecretVersions("api"))
say("versions of none", dkuSecretVersions("nothing"))
say("restore a version", dkuRestoreSecret("api", version = 1))
say("restore none", dkuRestoreSecret("api", version = 99))
say("restore what is there", dkuRestoreSecret("api"))
say("restored", dkuGetSecret("api"))
say("describe", dkuDescribeSecret("api", "other"))
say("describe expires", dkuDescribeSecret("api", expires = as.Date("2001-02-03")))
say("described", dkuListSecrets())
say("expired", dkuGetSecret("api"))
say("expired all", dkuGetAuthInfo(with_secrets = TRUE)$secrets[[1]]$value)
options(dkusecrets.expired = "error")
say("expired is an error", dkuGetSecret("api"))
say("expired is an error for all", dkuGetAuthInfo(with_secrets = TRUE))
options(dkusecrets.expired = NULL)
say("describe away", dkuDescribeSecret("api", NULL, NULL))
say("described away", dkuListSecrets())
say("describe none", dkuDescribeSecret("nothing", "x"))
say("describe too much", dkuDescribeSecret("api", strrep("x", 100000)))
say("rename", dkuRenameSecret("api", emoji))
say("renamed", dkuGetSecret(emoji))
say("old name", dkuGetSecret("api"))
say("rename none", dkuRenameSecret("api", "b"))
say("second", dkuSetSecret("b", ""))
say("rename over", dkuRenameSecret(emoji, "b"))
say("empty value", dkuGetSecret("b"))
say("remove at", dkuRemoveSecret("b", if_version = 7))
say("remove", dkuRemoveSecret("b"))
say("remove again", dkuRemoveSecret("b"))
say("removed", dkuGetSecret("b"))
say("list removed", dkuListSecrets(removed = TRUE))
say("rename to removed", dkuRenameSecret(emoji, "b"))
say("restore", dkuRestoreSecret("b"))
say("restored from removal", dkuGetSecret("b"))
say("purge", dkuPurgeSecret(emoji))
say("purge again", dkuPurgeSecret(emoji))
say("purge none", dkuPurgeSecret("nothing"))
say("versions after", dkuSecretVersions(emoji))
dkuRemoveSecret("b")
say("purge removed", dkuPurgeSecret("b"))
say("all", dkuListSecrets(removed = TRUE))
for (value in list(odd, controls, emoji, "\n", " ", "null", "NA", "0")) {
  dkuSetSecret("odd", value)
  say("odd", identical(charToRaw(dkuGetSecret("odd")), charToRaw(value)))
}
latin1 <- iconv("d\u00e9j\u00e0", "UTF-8", "latin1")
dkuSetSecret(latin1, latin1, description = latin1)
say("latin1", dkuListSecrets())
say("latin1 value", dkuGetSecret("d\u00e9j\u00e0"))
for (bad in list("", " a", strrep("n", 300), "a\nb", "a\u202eb", NA, 5)) {
  say("bad name", dkuSetSecret(bad, "MARKER"))
  say("bad name read", nchar(dkuGetSecret(bad)))
}
say("largest", dkuSetSecret("large", strrep("x", 1024^2)))
say("too large", dkuSetSecret("large", strrep("x", 1024^2 + 1)))
say("bad value", dkuSetSecret("a", 5))
for (day in list("1970-01-01", "2000-02-29", "0001-01-01", "9999-12-31", "2001-02-29", Inf)) {
  say("day", dkuSetSecret("day", "v", expires = day))
  say("day listed", dkuListSecrets()$expires)
}
info <- dkuGetAuthInfo(with_secrets = TRUE)
say("keys", lapply(info$secrets, function(secret) secret$key))
say("sizes", lapply(info$secrets, function(secret) nchar(secret$value, "bytes")))
say("class", c(class(info), class(info$secrets), class(info$secrets[[1]])))
say("without", dkuGetAuthInfo()$secrets)
