# Where the vault lies. Asked at every call: nothing about the vault is remembered between calls.

# One path, of a directory that holds `data` and `config`, or two, of these themselves.
place <- function() {
  home <- Sys.getenv("DKUSECRETS_HOME")
  if (nzchar(home)) {
    return(path.expand(home))
  }
  c(user_dir("data"), user_dir("config"))
}

# tools::R_user_dir("dkusecrets", which); loading tools would cost each fresh process about 15 ms.
user_dir <- function(which) {
  mac <- Sys.info()[["sysname"]] == "Darwin"
  default <- switch(which,
    data = if (mac) "Library/Application Support/org.R-project.R" else ".local/share",
    config = if (mac) "Library/Preferences/org.R-project.R" else ".config"
  )
  base <- Sys.getenv(paste0("R_USER_", toupper(which), "_DIR"))
  if (!nzchar(base)) {
    base <- Sys.getenv(paste0("XDG_", toupper(which), "_HOME"))
  }
  if (!nzchar(base)) {
    base <- file.path(normalizePath("~", mustWork = FALSE), default)
  }
  file.path(base, "R", "dkusecrets")
}
