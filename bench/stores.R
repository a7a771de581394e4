# The vaults and keyrings that are measured, the same secrets in both. Each store is the home directory of
# somebody who has never changed a setting: vault and keyring lie where they lie by default.

secret_name <- function(i) sprintf("credential-%05d", i)
secret_value <- function(i) sprintf("%07d-%s", i, strrep("0123456789abcdef", 2))

# The current store, for this process and for those it starts.
enter <- function(home) {
  Sys.setenv(HOME = home, XDG_CONFIG_HOME = file.path(home, ".config"))
}

# Filled in memory where there is such a place, and then moved to the disk as it is: ten thousand durable writes
# take their time, and some disks are slow for a while after them.
make_store <- function(n) {
  note("filling a vault and a keyring with %s", count(n))
  memory <- if (file.access("/dev/shm", 2) == 0) "/dev/shm" else getwd()
  scratch <- tempfile("dkusecrets-bench-", memory)
  on.exit(unlink(scratch, recursive = TRUE))
  dir.create(scratch, mode = "0700")
  enter(scratch)
  for (i in seq_len(n)) {
    dkuSetSecret(secret_name(i), secret_value(i))
  }
  fill_keyring(n)
  home <- copy_store(scratch, sprintf("%d", n))
  enter(home)
  stopifnot(
    dkuGetSecret(secret_name(n)) == secret_value(n),
    open_keyring()$get(secret_name(n)) == secret_value(n)
  )
  home
}

copy_store <- function(home, name) {
  copy <- file.path(getwd(), name)
  stopifnot(system2("cp", c("-a", shQuote(home), shQuote(copy))) == 0, system2("sync") == 0)
  copy
}

database <- function(home) file.path(home, ".local/share/R/dkusecrets/vault.db")

password <- "correct horse battery staple"

# All items in one write: one by one, ten thousand of them would take hours.
fill_keyring <- function(n) {
  backend <- keyring::backend_file$new()
  backend$keyring_create("bench", password)
  private <- backend$.__enclos_env__$private
  key <- private$get_keyring_pass("bench")
  nonce <- private$get_cache("bench")$nonce
  items <- lapply(seq_len(n), function(i) {
    encrypted <- keyring:::b_file_secret_encrypt(secret_value(i), nonce, key)
    list(service_name = secret_name(i), user_name = NULL, secret = encrypted)
  })
  private$keyring_write_file("bench", items = items)
}

# The keyring of the current store, unlocked.
open_keyring <- function() {
  backend <- keyring::backend_file$new()
  backend$keyring_set_default("bench")
  backend$keyring_unlock("bench", password)
  backend
}
