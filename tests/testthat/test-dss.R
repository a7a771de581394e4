test_that("the header of HTTP_X_FOO is x-foo", {
  request <- list2env(list(HTTP_COOKIE = "s=1", HTTP_X_FORWARDED_FOR = "::1", HTTP_ = "none", REQUEST_METHOD = "GET", rook.input = 1))
  expect_identical(rook_headers(request), list(cookie = "s=1", `x-forwarded-for` = "::1"))
  expect_identical(rook_headers(as.list(request)), list(cookie = "s=1", `x-forwarded-for` = "::1"))
})

test_that("headers and requests that cannot be are refused, and not shown", {
  local_vault()
  refused <- function(code) {
    cnd <- tryCatch(code, error = identity)
    expect_s3_class(cnd, "dkusecrets_error_invalid_argument")
    expect_no_match(conditionMessage(cnd), "Marker7Value", fixed = TRUE)
  }
  for (headers in list(
    NULL, "Marker7Value", list("Marker7Value"), list(), character(), list(a = "Marker7Value", "b"), list(a = 1), list(a = NULL),
    c(a = NA_character_), list(a = c("Marker7Value", "b")), c(a = 1), data.frame(a = "Marker7Value"), TRUE
  )) {
    refused(dkuGetAuthInfoFromBrowserHeaders(headers))
    refused(dkuGetTicketFromBrowserHeaders(headers))
  }
  for (request in list(NULL, "Marker7Value", 1, list(), new.env(), list2env(list(HTTP_COOKIE = 1)), list(COOKIE = "Marker7Value"))) {
    refused(dkuGetAuthInfoFromRookRequest(request))
    refused(dkuImpersonateShinyCalls(request, stop("not evaluated")))
  }
  refused(dkuGetAuthInfoFromBrowserHeaders(list(a = "b"), NA))
  refused(dkuGetAuthInfoFromRookRequest(list(HTTP_A = "b"), "yes"))
})

test_that("an embedded vault has no viewers", {
  local_vault()
  request <- list2env(list(HTTP_COOKIE = "Marker7Value"))
  for (use in list(
    function() dkuGetAuthInfoFromBrowserHeaders(list(cookie = "Marker7Value"), TRUE), function() dkuGetAuthInfoFromRookRequest(request),
    function() dkuGetTicketFromBrowserHeaders(c(cookie = "Marker7Value")), function() dkuImpersonateShinyCalls(request, stop("not evaluated"))
  )) {
    cnd <- expect_error(use(), class = "dkusecrets_error_unsupported")
    expect_no_match(conditionMessage(cnd), "Marker7Value", fixed = TRUE)
    expect_match(deparse(conditionCall(cnd)), "^dku[A-Za-z]+\\(\\)$")
  }
})

server <- if (nzchar(Sys.getenv("NOT_CRAN"))) start_server(testthat::teardown_env())

test_that("the viewer is whom the headers are of", {
  skip_on_cran()
  local_remote(server$ours)
  dkuSetSecret("a", "v")
  info <- dkuGetAuthInfoFromBrowserHeaders(c(cookie = "viewer"), with_secrets = TRUE)
  expect_identical(info$authIdentifier, "viewer")
  expect_identical(info$secrets[[1]]$value, "v")
  expect_s3_class(info, c("dkusecrets_auth_info", "dkusecrets_redacted"), exact = TRUE)
  expect_identical(last_asked(server$ours, "body"), "{\"cookie\":\"viewer\"}")
  info <- dkuGetAuthInfoFromRookRequest(list2env(list(HTTP_COOKIE = "other")))
  expect_identical(info$authIdentifier, "other")
  expect_false("secrets" %in% names(info))
  expect_identical(dkuGetTicketFromBrowserHeaders(list(cookie = "t")), "t")
  expect_error(dkuGetTicketFromBrowserHeaders(list(other = "t")), class = "dkusecrets_error_remote")
})

test_that("calls are the viewer's for as long as the expression takes", {
  skip_on_cran()
  local_remote(server$ours, "k")
  ada <- list(HTTP_COOKIE = "ada-ticket")
  bob <- list(HTTP_COOKIE = "bob-ticket")
  who <- function() dkuGetAuthInfo()$authIdentifier
  x <- 1
  before <- length(asked(server$ours))
  expect_identical(dkuImpersonateShinyCalls(ada, c(who(), x <- who())), c("ada-ticket", "ada-ticket"))
  expect_identical(x, "ada-ticket")
  expect_identical(who(), "ada")
  # Within it another viewer's ticket is asked for by the application, not by the first viewer.
  found <- dkuImpersonateShinyCalls(ada, {
    inner <- dkuImpersonateShinyCalls(bob, who())
    c(inner, who())
  })
  expect_identical(found, c("bob-ticket", "ada-ticket"))
  tickets <- Filter(function(request) grepl("ticket-from", request$path), asked(server$ours)[-seq_len(before)])
  expect_identical(unique(lapply(tickets, `[[`, "authorization")), list("Basic azo="))
  expect_error(dkuImpersonateShinyCalls(ada, stop("mine")), "mine")
  expect_identical(who(), "ada")
  dkuSetRemoteDSS(NULL)
  withr::local_envvar(DKU_DSS_URL = server$ours, DKU_API_KEY = "k")
  expect_identical(dkuImpersonateShinyCalls(ada, who()), "ada-ticket")
  expect_null(the$remote)
  expect_identical(who(), "ada")
})
