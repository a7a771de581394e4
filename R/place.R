# Where the vault lies. Asked at every call, since the environment may change; what it said last time is worked out once.

# One path, of a directory that holds `data` and `config`, or two, of these themselves.
place <- function() {
  says <- Sys.getenv(place_variables, names = FALSE)
  if (!identical(says, the$place_says)) {
    home <- says[[1]]
    the$place <- if (nzchar(home)) path.expand(home) else c(user_dir("data"), user_dir("config"))
    the$place_says <- says
  }
  the$place
}

# What place() depends on. The user's home directory is HOME, for R too.
place_variables <- c(
  "DKUSECRETS_HOME", "R_USER_DATA_DIR", "XDG_DATA_HOME", "R_USER_CONFIG_DIR", "XDG_CONFIG_HOME", "HOME"
)

# tools::R_user_dir("dkusecrets", which); loading tools would cost each fresh process about 15 ms.
user_dir <- function(which) {
  base <- Sys.getenv(user_dirs[[which]]$variables, names = FALSE)
  base <- base[nzchar(base)]
  base <- if (length(base)) base[[1]] else file.path(normalizePath("~", mustWork = FALSE), user_dirs[[which]]$default)
  file.path(base, "R", "dkusecrets")
}

user_dirs <- local({
  # Evaluated when the package is built, on the machine it is built for.
  mac <- startsWith(R.version$os, "darwin")
  list(
    data = list(
      variables = c("R_USER_DATA_DIR", "XDG_DATA_HOME"),
      default = if (mac) "Library/Application Support/org.R-project.R" else ".local/share"
    ),
    config = list(
      variables = c("R_USER_CONFIG_DIR", "XDG_CONFIG_HOME"),
      default = if (mac) "Library/Preferences/org.R-project.R" else ".config"
    )
  )
})
