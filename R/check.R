# Checks of arguments, one line each at the top of a function: they answer with the argument in the
# form that Rust takes, or raise an error of class `dkusecrets_error_invalid_*`. No message shows
# what was given, which may be a secret in the wrong place, only what kind of thing it is; but a number where one belongs.

check_name <- function(x, call = sys.call(-1)) {
  if (missing(x) || !is_string(x)) {
    abort_dku("invalid_name", paste0("a secret's name is one string, not ", what_is(x)), call = call)
  }
  as_utf8(x) %||%
    abort_dku("invalid_name", "a secret's name is text, and this is not: its bytes do not fit its encoding", call = call)
}

check_value <- function(x, call = sys.call(-1)) {
  if (!is_string(x)) {
    abort_dku("invalid_value", paste0("the value of a secret is one string, not ", what_is(x)), call = call)
  }
  as_utf8(x) %||%
    abort_dku("invalid_value", "the value of a secret is text, and this is not: its bytes do not fit its encoding", call = call)
}

check_string <- function(x, arg, call = sys.call(-1)) {
  if (!is_string(x)) {
    abort_argument(arg, "one string", x, call)
  }
  as_utf8(x) %||% abort_argument(arg, "text whose bytes fit its encoding", x, call)
}

check_flag <- function(x, arg, call = sys.call(-1)) {
  if (!isTRUE(x) && !isFALSE(x)) {
    abort_argument(arg, "TRUE or FALSE", x, call)
  }
  x
}

check_count <- function(x, arg, min = 0, max = 2^53, call = sys.call(-1)) {
  if (!is.numeric(x) || is.object(x) || length(x) != 1 || is.na(x) || x %% 1 != 0 || x < min || x > max) {
    range <- if (max < 2^53) sprintf("%d to %d", min, max) else sprintf("%d or more", min)
    abort_argument(arg, paste("one whole number,", range), x, call, number = TRUE)
  }
  as.double(x)
}

# A day as the number of days since 1970-01-01, or NA.
check_date <- function(x, arg, call = sys.call(-1)) {
  if (is_na(x)) {
    return(NA_real_)
  }
  if (is_string(x) && grepl("^[0-9]{4}-[0-9]{2}-[0-9]{2}$", x)) {
    x <- as.Date(x, optional = TRUE)
    if (is.na(x)) {
      abort_dku("invalid_argument", paste0("`", arg, "` is a date that no calendar has"), call = call)
    }
  }
  if (!inherits(x, "Date") || length(x) != 1 || !is.finite(x)) {
    abort_argument(arg, "one date, as in \"2031-12-31\" or Sys.Date() + 90", x, call)
  }
  floor(as.double(x))
}

check_choice <- function(x, arg, choices, call = sys.call(-1)) {
  if (identical(x, choices)) {
    return(choices[[1]])
  }
  if (!is_string(x) || !x %in% choices) {
    abort_argument(arg, paste0("\"", choices, "\"", collapse = " or "), x, call)
  }
  x
}

# For functions that take secrets: R's own error about an argument that a function does not have shows its value.
check_no_more <- function(..., call = sys.call(-1)) {
  if (...length() > 0) {
    abort_dku("invalid_argument", "an argument too many, or one that is misspelt: its value is not shown here", call = call)
  }
}

# `check`, but NULL passes as it is.
or_null <- function(x, check, ..., call = sys.call(-1)) {
  if (is.null(x)) NULL else check(x, ..., call = call)
}

# `number`: whether a number is shown as it is.
abort_argument <- function(arg, wanted, x, call, number = FALSE) {
  shown <- if (number && is.numeric(x) && !is.object(x) && length(x) == 1) format(x, digits = 15) else what_is(x)
  abort_dku("invalid_argument", paste0("`", arg, "` must be ", wanted, ", not ", shown), call = call)
}

is_string <- function(x) {
  is.character(x) && length(x) == 1 && !is.na(x)
}

# The same, of what has no class whose methods could say otherwise than Rust will see. (is.na() has R make a string that it
# makes when asked for: what goes wrong with that must not happen in Rust.)
is_bare_string <- function(x) {
  is.character(x) && !is.object(x) && length(x) == 1L && !is.na(x)
}

is_na <- function(x) {
  is.atomic(x) && length(x) == 1 && is.na(x)
}

# What kind of thing it is, in words, and nothing of what is in it.
what_is <- function(x) {
  kind <- c(
    character = "string", double = "number", integer = "number", logical = "logical value",
    complex = "complex number", raw = "byte"
  )
  if (missing(x)) {
    "nothing"
  } else if (is.null(x)) {
    "NULL"
  } else if (is.object(x)) {
    paste0("an object of class <", class(x)[[1]], ">")
  } else if (!is.atomic(x)) {
    if (is.function(x)) "a function" else paste("an object of type", typeof(x))
  } else if (length(x) != 1) {
    paste0(length(x), " ", kind[[typeof(x)]], "s")
  } else if (is.na(x)) {
    "NA"
  } else {
    paste(if (is.raw(x)) "one" else "this", kind[[typeof(x)]])
  }
}

# A string in UTF-8, or NULL if its bytes are no text in the encoding they are declared to have.
as_utf8 <- function(x) {
  declared <- Encoding(x)
  if (declared == "latin1") {
    return(enc2utf8(x))
  }
  if (declared == "unknown" && !l10n_info()[["UTF-8"]]) {
    # The locale's own encoding. In the C locale, as under cron, that is ASCII and all else is taken
    # for UTF-8; enc2utf8() would store the text "<c3><a9>" for an e with an accent.
    # Encodings that have another sign in the backslash's place (Shift_JIS) still mean the backslash.
    if (!grepl("[^\x01-\x7f]", x, useBytes = TRUE)) {
      return(x)
    }
    converted <- iconv(x, "", "UTF-8")
    if (!is.na(converted)) {
      return(converted)
    }
  }
  if (declared != "bytes" && validUTF8(x)) x else NULL
}

`%||%` <- function(x, y) {
  if (is.null(x)) y else x
}
