# The program that is installed with the package.

#' Run a server
#'
#' `dkuServe()` serves the store of many people's secrets until it is stopped (Ctrl-C, SIGTERM to the program). It starts the program
#' `dkusecrets` that is installed with the package, which needs no R: `vignette("dkusecrets")` shows how to make a store and
#' people for it, and where a unit for systemd is.
#'
#' @param data The directory of the store, as `dkusecrets init` has made it, one string.
#' @param listen `"<address>:<port>"` to listen on, one string, as in `"127.0.0.1:11200"`; port 0 takes a free one. Other addresses than those
#'   of this machine's loopback are refused, unless there is a certificate, or a proxy in front does TLS. With `NULL`,
#'   `DKUSECRETS_LISTEN` in the environment or a file of settings says it, or it listens on no address.
#' @param socket The path of a Unix socket to listen on, one string, in a directory that others can't write to: people of this
#'   machine need no key there. With `NULL`, `DKUSECRETS_SERVE_SOCKET` in the environment or a file of settings says it, or it listens on none.
#' @param behind_tls_proxy `TRUE` or `FALSE`: whether a proxy in front does TLS, so that other addresses may be served.
#' @param tls_cert,tls_key The paths of a certificate, with those that lead from it to an authority, and of its key, both in
#'   PEM form, one string each; nobody else may be able to read the key. With them the server does TLS itself.
#' @param settings The path of a file of settings, one string; with `NULL` it is `config/settings.toml` in the store's directory, if that is there.
#'   `dkusecrets serve --help` lists what can be set, and `dkusecrets --data <store> config` shows what is in force and why.
#' @param ... Nothing: a misspelt argument ends here.
#' @returns The program's exit status, one number, invisibly: 0 if it was stopped, 1 if it refused, 2 for wrong arguments, 3 if
#'   something was not available, such as a port or a store that another server has open. The program tells the reason on
#'   standard error, where its log goes too; the addresses it listens on go to standard output.
#' @section Errors:
#' * `dkusecrets_error_unavailable`: the program is not installed, or cannot be started.
#' * `dkusecrets_error_invalid_argument`: an argument that cannot be.
#' @seealso [dkuSetRemoteDSS()] about using the secrets of a server.
#' @examples
#' # The program, for a shell or a service
#' program <- system.file("bin", "dkusecrets", package = "dkusecrets")
#' system2(program, "--version")
#'
#' \dontrun{
#' system2(program, c("init", "--data", "store", "--admin", "ada"))
#' dkuServe("store", listen = "127.0.0.1:11200")
#' }
#' @export
dkuServe <- function(data, listen = NULL, socket = NULL, behind_tls_proxy = FALSE,
                     tls_cert = NULL, tls_key = NULL, settings = NULL, ...) {
  check_no_more(...)
  data <- check_string(if (!missing(data)) data, "data")
  listen <- or_null(listen, check_string, "listen")
  socket <- or_null(socket, check_string, "socket")
  check_flag(behind_tls_proxy, "behind_tls_proxy")
  tls_cert <- or_null(tls_cert, check_string, "tls_cert")
  tls_key <- or_null(tls_key, check_string, "tls_key")
  settings <- or_null(settings, check_string, "settings")
  option <- function(name, value) if (!is.null(value)) shQuote(paste0("--", name, "=", value))
  path_option <- function(name, path) option(name, if (!is.null(path)) path.expand(path))
  arguments <- c(
    "serve", option("data", path.expand(data)), option("listen", listen),
    path_option("socket", socket), path_option("tls-cert", tls_cert), path_option("tls-key", tls_key),
    path_option("settings", settings), if (behind_tls_proxy) "--behind-tls-proxy"
  )
  invisible(run_program(arguments))
}

# Runs the program to its end, and answers with its exit status. Arguments are for a shell, and seen by everybody.
run_program <- function(arguments, program = program_path(), call = sys.call(-1)) {
  if (file.access(program, mode = 1) != 0) {
    where <- if (nzchar(program)) paste0(program, " cannot be run") else "the package was installed without its program `dkusecrets`"
    abort_dku("unavailable", paste0(where, "\n  installing the package again installs it too"), call = call)
  }
  # Not on R's standard input, which may be a script; and in the shell's place, which Ctrl-C would end before the program.
  status <- suppressWarnings(system(paste(c("exec", shQuote(program), arguments, "< /dev/null"), collapse = " ")))
  # The shell's own, for what it could not start.
  if (status %in% 126:127) {
    abort_dku("unavailable", paste(program, "could not be started"), call = call)
  }
  status
}

# Empty if it is not there.
program_path <- function() {
  system.file("bin", "dkusecrets", package = "dkusecrets")
}
