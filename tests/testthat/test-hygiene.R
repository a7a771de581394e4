# Rules about the package's own code, checked on the installed functions.

internals <- function() {
  ns <- asNamespace("dkusecrets")
  all <- Filter(is.function, mget(ls(ns, all.names = TRUE), ns))
  list(
    rust = grep("^rust_", names(all), value = TRUE),
    ours = all[!grepl("^rust_", names(all))]
  )
}

# The rust_*() functions named in `code` outside the first argument of unwrap().
bare_calls <- function(code, rust) {
  if (is.symbol(code)) {
    return(intersect(as.character(code), rust))
  }
  if (is.pairlist(code) || is.expression(code)) {
    code <- as.list(code)
  }
  if (!is.call(code) && !is.list(code)) {
    return(character())
  }
  parts <- as.list(code)
  if (is.call(code) && identical(code[[1]], quote(unwrap)) && is.call(code[[2]]) &&
      as.character(code[[2]][[1]])[1] %in% rust) {
    parts <- c(as.list(code[[2]])[-1], parts[-(1:2)])
  }
  # An empty argument, as in x[1, ], is no code.
  parts <- Filter(function(p) !identical(p, quote(expr = )), parts)
  as.character(unlist(lapply(parts, bare_calls, rust)))
}

all_calls <- function(code) {
  if (is.call(code)) c(list(code), unlist(lapply(as.list(code)[-1], all_calls), recursive = FALSE))
}

test_that("every call of Rust is inside unwrap()", {
  found <- internals()
  expect_gt(length(found$rust), 0)
  for (name in names(found$ours)) {
    f <- found$ours[[name]]
    bare <- c(bare_calls(formals(f), found$rust), bare_calls(body(f), found$rust))
    # One does it in two steps: what is no string comes to unwrap() there.
    if (name == "dkuGetSecret") {
      expect_true(any(vapply(all_calls(body(f)), identical, NA, quote(unwrap(found)))))
      bare <- setdiff(bare, "rust_get_ascii")
    }
    expect_identical(bare, character(), info = paste0(name, "()"))
  }
})

test_that("the check above sees a call outside unwrap()", {
  expect_identical(bare_calls(quote(unwrap(rust_a(x[1, ]))), "rust_a"), character())
  expect_identical(bare_calls(quote(rust_a(1)), "rust_a"), "rust_a")
  expect_identical(bare_calls(quote(lapply(x, rust_a)), "rust_a"), "rust_a")
  expect_identical(bare_calls(quote(unwrap(rust_a(rust_a(1)))), "rust_a"), "rust_a")
  expect_identical(bare_calls(quote(unwrap(f(rust_a(1)))), "rust_a"), "rust_a")
})
