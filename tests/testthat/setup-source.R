# What chooses a server is unset for all tests, and proxies are left out of the way to this machine.
withr::local_envvar(
  DKU_API_TICKET = NA, DKU_DSS_URL = NA, DKU_API_KEY = NA, DKU_NO_CHECK_CERTIFICATE = NA, DKUSECRETS_SOCKET = NA,
  no_proxy = "127.0.0.1,localhost",
  .local_envir = testthat::teardown_env()
)
