# What undoing needs: versions, removal, bringing back, and destroying what is kept for it.

#' Remove a secret, undo it, look at versions
#'
#' A new value makes a new version of a secret, and the last 10 versions are kept. A secret that was
#' removed can be brought back for 30 days. [dkuConfigureVault()] changes both numbers.
#'
#' * `dkuRemoveSecret()` removes a secret.
#' * `dkuRestoreSecret()` brings a removed one back, or makes an older version's value the newest.
#' * `dkuSecretVersions()` lists the versions that are kept.
#' * `dkuPurgeSecret()` destroys what is kept for undoing: a removed secret altogether, and of one that
#'   is there its older versions. What is destroyed is overwritten in the database file. Copies and
#'   backups made before, and what a disk keeps of overwritten blocks, still hold it, encrypted.
#'
#' When the 30 days are over, a removed secret is destroyed at the next change of any secret. After something was destroyed the
#' database file is written anew, as SQLite may have left copies in it; if that fails, the next change tries again.
#'
#' @inheritParams dkuSetSecret
#' @param version The version to bring back, one whole number as [dkuSecretVersions()] shows it. `NULL`:
#'   the version that was current when the secret was removed.
#' @returns
#' * `dkuRemoveSecret()`: `NULL`, invisibly.
#' * `dkuRestoreSecret()`: the number of the version that is current then, invisibly. An older value
#'   comes back as a new version, with its expiry.
#' * `dkuSecretVersions()`: a data frame, the newest version first: `version`, a number; `created`,
#'   `POSIXct` in UTC; `expires`, `Date` or `NA`; `current`, whether it is the one that is read (of a
#'   removed secret, none is).
#' * `dkuPurgeSecret()`: how many versions were destroyed, invisibly.
#' @section Errors:
#' * `dkusecrets_error_not_found`: no such secret, or no such version of it.
#' * `dkusecrets_error_conflict`: the secret is not at `if_version`. Fields `expected` and `found`.
#' * `dkusecrets_error_untidy`: `dkuPurgeSecret()` has destroyed what it should, which no longer can be read, but the file could
#'   not be written anew, for a full disk perhaps.
#' * `dkusecrets_error_invalid_argument`: among others, bringing back a secret that is there without
#'   naming a version.
#' * Those of every function that opens a vault: see [dkusecrets-errors].
#' @example man/roxygen/scratch-begin.R
#' @examples
#' dkuSetSecret("api-key", "s3cret")
#' dkuSetSecret("api-key", "typo")
#' dkuSecretVersions("api-key")
#' dkuRestoreSecret("api-key", version = 1)
#'
#' dkuRemoveSecret("api-key")
#' dkuRestoreSecret("api-key")
#' identical(dkuGetSecret("api-key"), "s3cret")
#' @example man/roxygen/scratch-end.R
#' @name dkuRemoveSecret
NULL

#' @rdname dkuRemoveSecret
#' @export
dkuRemoveSecret <- function(name, if_version = NULL) {
  name <- check_name(name)
  if_version <- or_null(if_version, check_count, "if_version")
  perform("remove", name = name, if_version = if_version)
  invisible()
}

#' @rdname dkuRemoveSecret
#' @export
dkuRestoreSecret <- function(name, version = NULL) {
  name <- check_name(name)
  version <- or_null(version, check_count, "version", min = 1)
  invisible(perform("restore", name = name, version = version))
}

#' @rdname dkuRemoveSecret
#' @export
dkuSecretVersions <- function(name) {
  name <- check_name(name)
  all <- perform("versions", name = name)
  all$created <- utc(all$created)
  all$expires <- structure(all$expires, class = "Date")
  data_frame(all)
}

#' @rdname dkuRemoveSecret
#' @export
dkuPurgeSecret <- function(name) {
  name <- check_name(name)
  invisible(perform("purge", name = name))
}
