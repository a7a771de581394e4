# How objects with secrets show themselves: by name, without values. All of them have the class
# `dkusecrets_redacted`. Data frames, paste(), str() of lists and the like come here too; format() of
# a plain list comes through unlist().

#' @export
format.dkusecrets_redacted <- function(x, ...) {
  if (inherits(x, "dkusecrets_secrets")) {
    return(vapply(as.list(x), format, ""))
  }
  if (inherits(x, "dkusecrets_secret")) {
    return(sprintf("<secret %s>", quoted(x[["key"]] %||% "")))
  }
  secrets <- x[["secrets"]]
  count <- if (is.null(secrets)) "not asked for" else length(secrets)
  sprintf("<%s, secrets: %s>", whose(x), count)
}

# Of an auth info, or of a part of one that `[` made.
whose <- function(x) {
  if (is.null(x[["authIdentifier"]])) "part of an auth info" else paste("auth info of", quoted(x[["authIdentifier"]]))
}

#' @export
print.dkusecrets_redacted <- function(x, ...) {
  cat(shown(x), sep = "\n")
  invisible(x)
}

#' @export
str.dkusecrets_redacted <- function(object, ...) {
  cat("", toString(format(object)), "\n")
}

#' @export
summary.dkusecrets_redacted <- function(object, ...) {
  object
}

#' @export
as.character.dkusecrets_redacted <- function(x, ...) {
  format(x)
}

# Base R's format() of a plain list unlists each element and shows what comes out.
#' @method unlist dkusecrets_redacted
#' @export
unlist.dkusecrets_redacted <- function(x, recursive = TRUE, use.names = TRUE) {
  format(x)
}

# Secrets put together are secrets; with anything else, a plain list as c() makes it.
#' @export
c.dkusecrets_secrets <- function(...) {
  parts <- list(...)
  joined <- unlist(lapply(parts, as.list), recursive = FALSE)
  if (all(vapply(parts, inherits, NA, "dkusecrets_secrets"))) structure(joined, class = class(parts[[1]])) else joined
}

# One more field for a secret: it stays one.
#' @export
c.dkusecrets_secret <- function(...) {
  parts <- lapply(list(...), function(part) if (is.list(part)) unclass(part) else as.list(part))
  structure(do.call(c, parts), class = class(..1))
}

# Tables of secrets are what do.call(rbind, secrets) asks for: they show names.
#' @export
as.data.frame.dkusecrets_redacted <- function(x, ...) {
  data.frame(secret = format(x))
}

#' @export
rbind.dkusecrets_redacted <- function(...) {
  do.call(rbind, lapply(list(...), hidden))
}

#' @export
cbind.dkusecrets_redacted <- function(...) {
  do.call(cbind, lapply(list(...), hidden))
}

hidden <- function(x) {
  if (inherits(x, "dkusecrets_redacted")) format(x) else x
}

# The lines that print() shows.
shown <- function(x, most = 20) {
  if (inherits(x, "dkusecrets_secret")) {
    return(paste0(format(x), "  $value takes the value out"))
  }
  if (!inherits(x, "dkusecrets_secrets")) {
    secrets <- x[["secrets"]]
    return(c(
      sprintf("<%s>", whose(x)),
      if (!is.null(secrets)) shown(secrets) else if (!is.null(x[["authIdentifier"]])) "secrets: not asked for"
    ))
  }
  keys <- vapply(as.list(x), function(secret) quoted(secret[["key"]] %||% ""), "")
  if (length(keys) == 0) {
    return("<no secrets>")
  }
  c(
    if (length(keys) == 1) "<1 secret, value not shown>" else sprintf("<%d secrets, values not shown>", length(keys)),
    paste0("  ", utils::head(keys, most)),
    if (length(keys) > most) sprintf("  and %d more", length(keys) - most)
  )
}
