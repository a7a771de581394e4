# A scratch vault for one test: its home, 0700, is the session's until the test ends.
local_vault <- function(env = parent.frame()) {
  home <- withr::local_tempdir(.local_envir = env)
  Sys.chmod(home, "0700")
  withr::local_envvar(DKUSECRETS_HOME = home, .local_envir = env)
  the$warned <- character()
  home
}

# Snapshots in which the scratch vault's path is always the same.
hide_home <- function(home) {
  function(lines) gsub(normalizePath(home), "<home>", lines, fixed = TRUE)
}

# Everything about the vault that a change would change.
state <- function() {
  list(dkuListSecrets(removed = TRUE), dkuVaultInfo()[c("sequence", "versions")])
}

expect_unchanged <- function(code) {
  before <- state()
  force(code)
  expect_identical(state(), before)
}
