# The vault as a whole: where and how it is, its creation, its passphrase, a restored copy of it.

#' Where the vault is and how it is
#'
#' The first thing to look at, and to put into a bug report, when something is wrong. It holds no value, and no
#' secret's name but, with `verify = TRUE`, those of secrets that are damaged; and paths, which may hold a login. It never
#' fails: what is wrong is part of the answer.
#'
#' The vault's database lies in `tools::R_user_dir("dkusecrets", "data")`, its key and its anchor (by
#' which an older copy of the database is noticed) in `tools::R_user_dir("dkusecrets", "config")`. The
#' environment variable `DKUSECRETS_HOME` moves them to the directories `data` and `config` of the one
#' it names, by an absolute path or one that begins with `~/`; that one must exist. If it is empty, it counts as unset, and so
#' does an empty `HOME`: then `~` is the home directory that the account has on this machine. Values and names lie encrypted
#' in the database, which is worth nothing without the key: a backup needs both, kept apart.
#'
#' Where a server keeps the secrets (see [dkuSetRemoteDSS()]), it says which one, and why that one is asked.
#'
#' @param verify `TRUE` or `FALSE`: whether to decrypt everything there is and check the database's
#'   structure. Everything that is damaged is found, each part one of the `problems`. That takes some microseconds for each version of each secret. A server does that itself.
#' @returns A list of class `dkusecrets_vault_info`. What could not be found out is `NA`.
#' * `package`, `R`, `rust`, `sqlite`: versions; `rust` is the compiler's.
#' * `database`, `config`, `key_file`: paths; `config` is the directory of key and anchor.
#' * `exists`, `locked`: whether there is a vault, and whether it needs [dkuUnlock()].
#' * `provider`: `"file"` or `"passphrase"`, where its root key comes from.
#' * `store`: its id, 32 hexadecimal digits; `format`: the number of its file format.
#' * `secrets`, `removed`, `versions`: how many there are; versions of removed secrets count too.
#' * `file_bytes`: the size of the database in bytes; `file_system`: the kind it lies on.
#' * `sequence`, `anchor_sequence`: how often it was written, and how often the anchor knows of.
#' * `keep_versions`, `keep_days`: see [dkuConfigureVault()].
#' * `verified`: with `verify = TRUE`, the number of values that could be decrypted.
#' * `problems`: strings, none if all is well. Their names are the kinds of [dkusecrets-errors], or
#'   `warning`.
#'
#' Where a server answers, or something else than the embedded vault is configured and fails, a list of class
#' `dkusecrets_server_info` and `dkusecrets_vault_info` with `package`, `R`, `rust` and `problems` as above and:
#' * `server`: its URL or the path of its socket; `kind`: `"url"` or `"socket"`; `why`: what chose it, in words.
#' * `server_version`: the version of dkusecrets there, `NA` for a Dataiku DSS; `login`: who it says is asking; `store`: the id of
#'   the store, `NA` for a DSS.
#' @example man/roxygen/scratch-begin.R
#' @examples
#' dkuSetSecret("api-key", "s3cret")
#' dkuVaultInfo(verify = TRUE)
#' @example man/roxygen/scratch-end.R
#' @export
dkuVaultInfo <- function(verify = FALSE) {
  check_flag(verify, "verify")
  from <- tryCatch(source_now(), dkusecrets_error = identity)
  if (!is.null(from)) {
    return(server_info(from))
  }
  found <- vault_found()
  found$verified <- NA_real_
  if (verify) {
    all <- patiently(function() unwrap(rust_verify()), is_held)
    found$verified <- all$verified
    new <- !all$problems %in% found$problems
    found$problems <- c(found$problems, all$problems[new])
    found$problem_kinds <- c(found$problem_kinds, all$problem_kinds[new])
  }
  problems <- vapply(seq_along(found$problems), function(i) {
    kind <- found$problem_kinds[[i]]
    # What everything there is was looked at for already needs no such hint.
    hint <- if (!(verify && kind == "damaged")) what_to_do(list(kind = kind))
    paste(c(found$problems[[i]], hint), collapse = "\n  ")
  }, "")
  found$problems <- structure(problems, names = found$problem_kinds)
  found$problem_kinds <- NULL
  structure(
    c(versions(), list(sqlite = found$sqlite), found[names(found) != "sqlite"]),
    class = "dkusecrets_vault_info"
  )
}

# The embedded vault as Rust describes it, once no other process keeps it from being looked at.
vault_found <- function() {
  patiently(function() unwrap(rust_info()), is_held)
}

is_held <- function(found) {
  "busy" %in% found$problem_kinds
}

versions <- function() {
  list(
    package = as.character(utils::packageVersion("dkusecrets")),
    R = as.character(getRversion()),
    rust = about()$rust_version
  )
}

# The same where a server answers. `from` may be the error that kept it from being chosen.
server_info <- function(from) {
  info <- list(server = NA_character_, why = NA_character_, kind = NA_character_, server_version = NA_character_,
               login = NA_character_, store = NA_character_)
  problems <- character()
  failed <- function(cnd) problems[[sub("^dkusecrets_error_", "", class(cnd)[[1]])]] <<- conditionMessage(cnd)
  if (inherits(from, "condition")) {
    failed(from)
  } else {
    info[c("server", "why")] <- from[c("where", "why")]
    if (!is.null(from$socket)) {
      info$kind <- "socket"
    } else {
      info$kind <- "url"
      if (travels_in_the_clear(from$url)) {
        problems[["warning"]] <- "keys and values travel unencrypted: the address begins with http://"
      }
    }
    tryCatch(info <- asked_info(from, info), dkusecrets_error = failed)
  }
  structure(c(versions(), info, list(problems = problems)), class = c("dkusecrets_server_info", "dkusecrets_vault_info"))
}

asked_info <- function(from, info) {
  info$login <- remote_auth_info(from, FALSE, NULL)[["authIdentifier"]]
  info$server_version <- server_version(from, NULL)
  if (!is.na(info$server_version)) {
    said <- request(from, "GET", "/dkusecrets/v1/info", call = NULL)
    info$store <- understood(from, said, function(said) one(said, "store", a_string), NULL)
  }
  info
}

travels_in_the_clear <- function(url) {
  startsWith(url, "http://") && !is_loopback(url)
}

#' @export
format.dkusecrets_server_info <- function(x, ...) {
  known <- function(value) if (!is.na(value)) plain(value)
  what <- if (is.na(x$server_version)) "a Dataiku DSS" else paste("dkusecrets", plain(x$server_version))
  lines <- c(
    server = known(x$server),
    why = known(x$why),
    software = if (!is.na(x$login)) what,
    login = known(x$login),
    store = known(x$store),
    versions = sprintf("dkusecrets %s, R %s, Rust %s", x$package, x$R, x$rust)
  )
  c(sprintf("%-9s %s", names(lines), lines), problem_lines(x$problems))
}

problem_lines <- function(problems) {
  if (length(problems)) sprintf("! %s: %s", names(problems), problems) else "no problems found"
}

#' @export
format.dkusecrets_vault_info <- function(x, ...) {
  count <- function(n, what) paste(n, if (n == 1) what else paste0(what, "s"))
  known <- function(value, ...) if (!is.na(value)) paste0(value, ...)
  state <- if (!x$exists) {
    if (length(x$problems)) "none found, see below" else "none yet: dkuSetSecret() creates it"
  } else if (x$locked) {
    "locked: dkuUnlock() unlocks it"
  } else if (!is.na(x$secrets)) {
    sprintf("%s, %s removed, %s", count(x$secrets, "secret"), x$removed, count(x$versions, "version"))
  } else {
    "cannot be read, see below"
  }
  key <- switch(known(x$provider) %||% "none", file = x$key_file, passphrase = "from a passphrase")
  lines <- c(
    vault = state,
    database = x$database,
    size = known(x$file_bytes, " bytes on ", x$file_system),
    key = key,
    config = x$config,
    store = known(x$store, ", format ", x$format),
    writes = known(x$sequence, ", the anchor knows of ", x$anchor_sequence),
    keeps = known(x$keep_versions, " versions, removed secrets for ", x$keep_days, " days"),
    verified = if (!is.na(x$verified)) paste(count(x$verified, "value"), "decrypted"),
    versions = sprintf("dkusecrets %s, R %s, Rust %s, SQLite %s", x$package, x$R, x$rust, x$sqlite)
  )
  c(sprintf("%-9s %s", names(lines), lines), problem_lines(x$problems))
}

#' @export
print.dkusecrets_vault_info <- function(x, ...) {
  cat("<dkusecrets vault>", format(x), sep = "\n")
  invisible(x)
}

#' Create a vault, or change how much it keeps
#'
#' There is seldom a need for `dkuCreateVault()`: the first [dkuSetSecret()] creates a vault with a key
#' file. It is for a vault that opens with a passphrase, or keeps more or less than usual.
#'
#' With `provider = "file"` the vault's root key lies in a file that only its owner can read, so
#' scripts and scheduled jobs read secrets without being asked. With `provider = "passphrase"` it comes
#' from a passphrase by Argon2id (RFC 9106, section 4, second recommended option: 64 MiB of memory, 3
#' passes, 4 lanes), which takes about a tenth of a second at each [dkuUnlock()]. Nobody can help if it is
#' forgotten. The vault is unlocked for the R process that creates it.
#'
#' @param provider `"file"` or `"passphrase"`: where the root key comes from.
#' @param passphrase One string of 15 characters or more (NIST SP 800-63B-4, section 3.1.1.2, for a password that is the
#'   only factor); several words are better. With `NULL` it is asked for, twice.
#' @param keep_versions How many versions of each secret to keep, the current one included: one whole
#'   number, 1 to 1000. In `dkuConfigureVault()`, `NULL` leaves it.
#' @param keep_days For how many days a removed secret can be brought back: one whole number, 0 to
#'   36500. In `dkuConfigureVault()`, `NULL` leaves it. Days in which the system's clock jumps ahead
#'   count as one, so that a wrong clock destroys nothing.
#' @param ... Nothing: a misspelt argument ends here, and not in an error of R's own that would show its value.
#' @returns
#' * `dkuCreateVault()`: `NULL`, invisibly.
#' * `dkuConfigureVault()`: what is kept then, a list of `keep_versions` and `keep_days`, invisibly. Without arguments it
#'   only reads, and creates no vault: where there is none, these are what a new one would keep.
#' @section Errors:
#' * `dkusecrets_error_exists`: there is a vault already.
#' * `dkusecrets_error_invalid_argument`: an argument that cannot be, as a passphrase that is too short.
#' * `dkusecrets_error_no_prompt`, `dkusecrets_error_cancelled`: the passphrase is missing and nobody can
#'   be asked, or nothing was typed.
#' * Those of every function that opens a vault: see [dkusecrets-errors].
#' @seealso [dkuUnlock()]
#' @example man/roxygen/scratch-begin.R
#' @examples
#' dkuCreateVault(keep_versions = 3)
#' dkuConfigureVault(keep_days = 90)
#' dkuVaultInfo()
#' @example man/roxygen/scratch-end.R
#' @export
dkuCreateVault <- function(provider = c("file", "passphrase"), passphrase = NULL,
                           keep_versions = 10, keep_days = 30, ...) {
  check_no_more(...)
  provider <- check_choice(provider, "provider", c("file", "passphrase"))
  passphrase <- or_null(passphrase, check_string, "passphrase")
  keep_versions <- check_count(keep_versions, "keep_versions", 1, 1000)
  keep_days <- check_count(keep_days, "keep_days", 0, 36500)
  if (provider == "file" && !is.null(passphrase)) {
    abort_dku("invalid_argument", "a passphrase is for `provider = \"passphrase\"`")
  }
  check_embedded()
  if (provider == "passphrase" && is.null(passphrase)) {
    passphrase <- ask_new_passphrase(call = sys.call())
  }
  unwrap(rust_create(passphrase, keep_versions, keep_days))
  invisible()
}

#' @rdname dkuCreateVault
#' @export
dkuConfigureVault <- function(keep_versions = NULL, keep_days = NULL) {
  keep_versions <- or_null(keep_versions, check_count, "keep_versions", 1, 1000)
  keep_days <- or_null(keep_days, check_count, "keep_days", 0, 36500)
  check_embedded()
  invisible(unwrap(rust_configure(keep_versions, keep_days)))
}

ask_new_passphrase <- function(call) {
  otherwise <- "dkuCreateVault(\"passphrase\", readLines(\"stdin\", 1)) takes a line of standard input"
  first <- ask("New passphrase of the vault: ", otherwise, call)
  if (!identical(first, ask("The same again: ", otherwise, call))) {
    abort_dku("cancelled", "the two passphrases differ, so no vault was created", call = call)
  }
  first
}

#' Unlock a vault that has a passphrase
#'
#' `dkuUnlock()` opens a vault made with `dkuCreateVault("passphrase")`: for this R process and those it
#' forks, or for a set time for everything that runs in the same login session. `dkuLock()` ends either, and wipes
#' the keys that the process remembers of any vault. A vault with a key file needs no unlocking: `dkuUnlock()`
#' does nothing, and the next read after `dkuLock()` takes the key from its file again.
#'
#' With `minutes` the key is handed to the session keyring of the Linux kernel (`keyctl(2)`, `KEY_SPEC_SESSION_KEYRING`),
#' which keeps it in memory that is never swapped out and forgets it when the time is over or the session
#' ends. Scripts, workers and notebooks started from the same login then read secrets without asking.
#'
#' @param passphrase One string. With `NULL` it is asked for, without showing what is typed.
#' @param minutes For how long, one number greater than 0, rounded up to whole seconds; or `NULL` for
#'   this process.
#' @param ... Nothing: a misspelt argument ends here, and not in an error of R's own that would show its value.
#' @returns `dkuUnlock()`: `NULL`, invisibly. `dkuLock()`: whether there was something to forget,
#'   invisibly.
#' @section Errors:
#' * `dkusecrets_error_wrong_passphrase`: the passphrase does not open the vault.
#' * `dkusecrets_error_unavailable`: this system has no session keyring.
#' * `dkusecrets_error_path`: there is no vault to unlock.
#' * `dkusecrets_error_no_prompt`, `dkusecrets_error_cancelled`: the passphrase is missing and nobody can
#'   be asked, or nothing was typed.
#' * Those of every function that opens a vault: see [dkusecrets-errors].
#' @example man/roxygen/scratch-begin.R
#' @examples
#' dkuCreateVault("passphrase", "correct horse battery staple")
#' dkuSetSecret("api-key", "s3cret")
#'
#' dkuLock()
#' try(dkuGetSecret("api-key"))
#' dkuUnlock("correct horse battery staple")
#' identical(dkuGetSecret("api-key"), "s3cret")
#' @example man/roxygen/scratch-end.R
#' @export
dkuUnlock <- function(passphrase = NULL, minutes = NULL, ...) {
  check_no_more(...)
  passphrase <- or_null(passphrase, check_string, "passphrase")
  seconds <- or_null(minutes, check_minutes)
  check_embedded()
  if (is.null(passphrase)) {
    found <- vault_found()
    if (identical(found$provider, "file")) {
      return(invisible())
    }
    # Without a vault there is nothing to ask for: Rust says so.
    passphrase <- if (found$exists) ask_passphrase(call = sys.call()) else ""
  }
  unwrap(rust_unlock(passphrase, seconds))
  invisible()
}

#' @rdname dkuUnlock
#' @export
dkuLock <- function() {
  invisible(unwrap(rust_lock()))
}

check_minutes <- function(x, call = sys.call(-1)) {
  # A keyring counts seconds in 32 bits.
  if (!is.numeric(x) || is.object(x) || length(x) != 1 || is.na(x) || x <= 0 || x * 60 >= 2^32) {
    abort_argument("minutes", "one number greater than 0, at most 71582788", x, call, number = TRUE)
  }
  ceiling(x * 60)
}

ask_passphrase <- function(call) {
  ask("Passphrase of the vault: ", "dkuUnlock(readLines(\"stdin\", 1)) takes a line of standard input", call)
}

#' Accept a vault that was restored from a backup
#'
#' When the vault's database is replaced by an older copy, the next use ends in an error of class
#' `dkusecrets_error_rolled_back`, since that is also how someone would undo the removal or the change
#' of a secret. After a restore on purpose this function accepts the database as it is. It first decrypts
#' everything in it, and changes nothing if anything else is wrong. The newer file is refused from then on.
#'
#' @param damaged `TRUE` accepts a copy of which parts are damaged, when there is no better one. Each part
#'   then ends in an error when it is read, and the others can be read.
#' @returns Whether there was anything to accept, `TRUE` or `FALSE`, invisibly.
#' @section Errors:
#' * `dkusecrets_error_damaged`: the restored file is not sound, and `damaged` is not `TRUE`; or it cannot be
#'   opened at all.
#' * `dkusecrets_error_path`: there is no vault.
#' * Those of every function that opens a vault: see [dkusecrets-errors].
#' @example man/roxygen/scratch-begin.R
#' @examples
#' dkuSetSecret("api-key", "s3cret")
#' database <- dkuVaultInfo()$database
#' file.copy(database, backup <- tempfile())
#'
#' dkuSetSecret("api-key", "n3w")
#' file.copy(backup, database, overwrite = TRUE)
#' try(dkuGetSecret("api-key"))
#'
#' dkuAcceptRestore()
#' identical(dkuGetSecret("api-key"), "s3cret")
#' @example man/roxygen/scratch-end.R
#' @export
dkuAcceptRestore <- function(damaged = FALSE) {
  check_flag(damaged, "damaged")
  check_embedded()
  invisible(unwrap(rust_accept_restore(damaged)))
}
