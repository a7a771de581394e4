# Errors: the one place where a failure, from Rust or from R, becomes a classed condition.
#
# Every error has class `dkusecrets_error` and, before it, `dkusecrets_error_<kind>`. Base R only:
# loading rlang would cost each fresh process about 90 ms.

# The value of an answer from Rust, or its failure as an error. Each call of a rust_*() function
# stands inside this one. `call` is the function that the reader of the error has called.
unwrap <- function(x, call = sys.call(-1)) {
  if (!inherits(x, "dkusecrets_failure")) {
    return(x)
  }
  fields <- unclass(x)
  more <- fields[setdiff(names(fields), c("kind", "message"))]
  stop(dku_condition(fields$kind, fields$message, more, call))
}

# An error found in R. `...` are named fields that a handler finds in the condition.
abort_dku <- function(kind, message, ..., call = sys.call(-1)) {
  stop(dku_condition(kind, message, list(...), call))
}

# `errorCondition()` is not called through `do.call()`, which would evaluate `call`.
dku_condition <- function(kind, message, fields, call) {
  structure(
    c(list(message = message, call = without_arguments(call)), fields),
    class = c(
      paste0("dkusecrets_error_", kind), "dkusecrets_error", "error", "condition"
    )
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
