# Errors: the one place where a failure, from Rust or from R, becomes a classed condition.
#
# Every error has class `dkusecrets_error` and, before it, `dkusecrets_error_<kind>`; warnings have
# `dkusecrets_warning` likewise. Base R only: loading rlang would cost each fresh process about 90 ms.

# The value of an answer from Rust, or its failure as an error. Each call of a rust_*() function
# stands inside this one. `call` is the function that the reader of the error has called.
unwrap <- function(x, call = sys.call(-1)) {
  # Asked first, as it costs next to nothing: only a failure has this class.
  if (!is.object(x) || !inherits(x, "dkusecrets_failure")) {
    return(x)
  }
  code <- substitute(x)
  if (is_busy(x) && is.call(code) && startsWith(as.character(code[[1]])[[1]], "rust_")) {
    frame <- parent.frame()
    x <- patiently(function() eval(code, frame), is_busy)
    if (!inherits(x, "dkusecrets_failure")) {
      return(x)
    }
  }
  fields <- unclass(x)
  more <- fields[setdiff(names(fields), c("kind", "message"))]
  message <- paste(c(fields$message, way_out(fields)), collapse = "\n  ")
  stop(dku_condition("error", fields$kind, message, more, call))
}

# Whether what failed did because another process had the vault.
is_busy <- function(x) {
  inherits(x, "dkusecrets_failure") && (identical(unclass(x)$kind, "busy") || isTRUE(unclass(x)$busy))
}

# Asks Rust again for as long as another process has the vault, but no longer than a minute. Rust itself waits a quarter of a
# second each time: here R can be interrupted. What was busy was not done, so nothing is done twice.
patiently <- function(ask, is_busy) {
  until <- proc.time()[["elapsed"]] + 60
  repeat {
    Sys.sleep(0)
    answer <- ask()
    if (!is_busy(answer) || proc.time()[["elapsed"]] >= until) {
      return(answer)
    }
  }
}

# What to do about a failure, in R's words. NULL for nothing to add.
way_out <- function(failure) {
  c(what_to_do(failure), if (!is.null(failure$server)) sprintf("%s was asked: %s", failure$server, failure$why))
}

what_to_do <- function(failure) {
  name <- failure$name
  if (!is.null(failure$server) && failure$kind %in% c("locked", "rolled_back", "damaged")) {
    return("whoever looks after the server can mend it")
  }
  if (isTRUE(failure$dss)) {
    return("secrets are edited there, in the user's profile")
  }
  switch(failure$kind,
    not_found = if (!is.null(failure$version)) {
      sprintf("dkuSecretVersions(%s) tells about them", quoted(name))
    } else if (isTRUE(failure$removed)) {
      sprintf("dkuRestoreSecret(%s) brings it back", quoted(name))
    } else if (!is.null(name)) {
      sprintf("dkuListSecrets() shows the names there are; dkuSetSecret(%s) stores one", quoted(name))
    },
    exists = if (is.null(name) && is.null(failure$server)) {
      "dkuConfigureVault() changes how much it keeps"
    } else if (isTRUE(failure$removed)) {
      sprintf("dkuPurgeSecret(%s) makes the name free", quoted(name))
    },
    conflict = if (identical(failure$found, 0)) {
      "dkuListSecrets() shows the names there are"
    } else {
      sprintf("dkuSecretVersions(%s) shows what happened", quoted(name))
    },
    locked = "dkuUnlock() asks for the passphrase",
    rolled_back = "dkuAcceptRestore() accepts it",
    damaged = "dkuVaultInfo(verify = TRUE) looks at everything there is",
    not_authenticated = "is the key or ticket this server's, and still good?"
  )
}

# As Rust quotes names in its messages (error.rs).
quoted <- function(name) {
  encodeString(undirected(name), quote = "\"")
}

# Marks that turn the direction of text would turn the rest of the line with them (UAX #9).
undirected <- function(text) {
  gsub("[\u202a-\u202e\u2066-\u2069]", "\ufffd", text)
}

# An error found in R. `...` are named fields that a handler finds in the condition.
abort_dku <- function(kind, message, ..., call = sys.call(-1)) {
  stop(dku_condition("error", kind, message, list(...), call))
}

warn_dku <- function(kind, message, ..., call = sys.call(-1)) {
  warning(dku_condition("warning", kind, message, list(...), call))
}

# `errorCondition()` is not called through `do.call()`, which would evaluate `call`.
dku_condition <- function(type, kind, message, fields, call) {
  structure(
    c(list(message = message, call = without_arguments(call)), fields),
    class = c(sprintf("dkusecrets_%s_%s", type, kind), paste0("dkusecrets_", type), type, "condition")
  )
}

# `dkuSetSecret("a", "hunter2")` as `dkuSetSecret()`: R prints the call of an error, and arguments
# may be secrets. A call of something else than a named function is not shown at all.
without_arguments <- function(call) {
  if (!is.call(call)) {
    return(NULL)
  }
  f <- call[[1]]
  named <- is.symbol(f) ||
    (is.call(f) && (identical(f[[1]], quote(`::`)) || identical(f[[1]], quote(`:::`))))
  if (named) as.call(list(f)) else NULL
}

#' Errors and warnings of dkusecrets, by class
#'
#' Every error is a condition of class `dkusecrets_error` and, before it, one class for what went wrong.
#' Messages say which file or name it is about and what to do, and never hold a value. The `call` of a
#' condition names the function only: its arguments might be secrets.
#'
#' A function's help page lists the classes that are its own. Every function that opens a vault can end
#' in these:
#'
#' | class | what it means |
#' |---|---|
#' | `dkusecrets_error_unsafe` | a file or directory of the vault, or one above it, is open to others or belongs to someone else |
#' | `dkusecrets_error_path` | a path is not what it should be: a directory of `DKUSECRETS_HOME` that is not there, a file in a directory's place |
#' | `dkusecrets_error_vault_missing` | key and anchor are there, the database is not: a disk that is not mounted? |
#' | `dkusecrets_error_key_missing` | the vault is there, its key file is not |
#' | `dkusecrets_error_wrong_key` | the key file is not the vault's |
#' | `dkusecrets_error_locked` | the vault has a passphrase: [dkuUnlock()] |
#' | `dkusecrets_error_rolled_back` | the database is not the copy last used here: [dkuAcceptRestore()] |
#' | `dkusecrets_error_damaged` | part of the database is not what it must be, by damage or by someone's hand |
#' | `dkusecrets_error_server_store` | a server's store lies where the vault should: ask the server ([dkuSetRemoteDSS()]) |
#' | `dkusecrets_error_newer_format` | the vault was written by a newer version of the package |
#' | `dkusecrets_error_busy` | another process has been writing for over a minute |
#' | `dkusecrets_error_permission` | the operating system refused access to a file or directory |
#' | `dkusecrets_error_no_space`, `dkusecrets_error_read_only`, `dkusecrets_error_io` | the disk is full, mounted read-only, or failed |
#' | `dkusecrets_error_unavailable` | the operating system lacks a service that is needed, or a server can't be reached |
#' | `dkusecrets_error_config` | what chooses a server is incomplete or can't be read: environment variables, `~/.dataiku/config.json` |
#' | `dkusecrets_error_two_places` | there are a server and an embedded vault: [dkuSetRemoteDSS()] says how to choose |
#' | `dkusecrets_error_unsupported` | whoever keeps the secrets can't do that: an embedded vault, or a Dataiku DSS |
#' | `dkusecrets_error_too_many` | a server keeps at most 10,000 secrets and 100 MiB for one person |
#' | `dkusecrets_error_not_authenticated` | the server does not accept the key or the ticket |
#' | `dkusecrets_error_not_allowed` | the server knows who asks, and refuses |
#' | `dkusecrets_error_remote` | the server failed, or answered with something else than it should: field `status` |
#' | `dkusecrets_error_internal` | a mistake in the package: please report it |
#'
#' Errors of a server have the same classes as those of the embedded vault, and the field `server`: its URL or
#' the path of its socket.
#'
#' Warnings have the class `dkusecrets_warning`; there is one, `dkusecrets_warning_expired`, with the
#' fields `name` and `expires` (a `Date`).
#'
#' @name dkusecrets-errors
#' @example man/roxygen/scratch-begin.R
#' @examples
#' tryCatch(
#'   dkuGetSecret("no-such-secret"),
#'   dkusecrets_error_not_found = function(cnd) cnd$name
#' )
#' @example man/roxygen/scratch-end.R
NULL
