
Sys.setenv(DKUSECRETS_HOME = old)
