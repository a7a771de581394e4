# What happens when an expired secret is read: a warning, or with options(dkusecrets.expired =
# "error") an error.

# `day` is the last day the value was good, in days since 1970-01-01. `once`: not again in this
# session for the same name and day.
warn_expired <- function(name, day, once = FALSE, call = sys.call(-1)) {
  day <- structure(day, class = "Date")
  message <- sprintf(
    "the secret %s expired on %s\n  dkuSetSecret() stores a new value, dkuDescribeSecret() another date",
    quoted(name), format(day)
  )
  wanted <- getOption("dkusecrets.expired", "warning")
  if (!is_string(wanted) || !wanted %in% c("warning", "error")) {
    abort_dku("invalid_argument", "options(dkusecrets.expired = ) must be \"warning\" or \"error\"", call = call)
  }
  if (wanted == "error") {
    abort_dku("expired", message, name = name, expires = day, call = call)
  }
  seen <- paste(format(day), name)
  if (once && seen %in% the$warned) {
    return(invisible())
  }
  the$warned <- union(the$warned, seen)
  warn_dku("expired", message, name = name, expires = day, call = call)
}
