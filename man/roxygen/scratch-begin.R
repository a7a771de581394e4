# A scratch vault, to leave yours alone
home <- tempfile()
dir.create(home, mode = "0700")
old <- Sys.getenv("DKUSECRETS_HOME")
Sys.setenv(DKUSECRETS_HOME = home)

