# What is measured, and how.

# For how long each side is measured in a round, and keyring in all rounds together, in seconds.
each <- 0.3
keyring_in_all <- 10
# Writes of each side in a round: disks of virtual machines have a budget, and who has used it up measures that.
writes <- 20L
# For how long our side works before it is measured, as the limit does (WARM_UP in limit.rs).
warm_up <- 0.02
# Of how many gets keyring's time for reading all is estimated, where there are more secrets.
sampled <- 20

# The limit measures itself. Its heap is small enough for glibc to give memory back and ask for it again in every
# repetition, which costs as much as a quarter of a read; R's is not.
limit <- function(work, home, most = 100000L) {
  function(seconds) {
    args <- c(work, shQuote(database(home)), seconds, sprintf("%d", most))
    said <- system2(limit_program, args, stdout = TRUE, env = "MALLOC_TRIM_THRESHOLD_=33554432")
    times <- as.numeric(strsplit(said, " ")[[1]])
    list(median = times[[1]], min = times[[3]])
  }
}

read_one <- function(n, home) {
  list(
    work = "read one", n = n, home = home, limit = limit("read-one", home),
    ours = function(seconds) time_calls(dkuGetSecret, names_of(n), seconds, warm_up = warm_up),
    keyring = function(seconds) {
      keyring <- open_keyring()
      time_calls(keyring$get, names_of(n), seconds)
    },
    target = list(text = "1.6 x limit", met = function(figures) figures$ratio <= 1.6)
  )
}

read_all <- function(n, home) {
  some <- min(n, sampled)
  list(
    work = "read all", n = n, home = home, limit = limit("read-all", home),
    ours = function(seconds) {
      time_calls(function(name) dkuGetAuthInfo(with_secrets = TRUE), names_of(n), seconds, warm_up = warm_up)
    },
    keyring = if (n <= 1000) {
      function(seconds) {
        keyring <- open_keyring()
        list_all <- time_calls(function(name) keyring$list(), names_of(n), 0)
        gets <- vapply(seq_len(some), function(i) time_calls(keyring$get, names_of(n), 0), 0)
        list_all + sum(gets) * n / some
      }
    },
    estimated = n > some,
    target = if (n == 1000) list(text = "4 ms", met = function(figures) figures$ours <= 0.004)
  )
}

write_one <- function(n, home) {
  value <- secret_value(0)
  list(
    work = "durable write", n = n, home = home, limit = limit("write", home, writes),
    ours = function(seconds) {
      time_calls(function(name) dkuSetSecret(name, value), names_of(n), seconds, writes, warm_up)
    },
    keyring = function(seconds) {
      keyring <- open_keyring()
      time_calls(function(name) keyring$set_with_value(name, NULL, value), names_of(n), seconds, writes)
    },
    target = list(text = "1.3 x limit", met = function(figures) figures$ratio <= 1.3)
  )
}

fresh_process <- function(n, home) {
  name <- secret_name(n / 2)
  ours <- sprintf("library(dkusecrets); invisible(dkuGetSecret('%s'))", name)
  keyring <- sprintf(
    "library(keyring); b <- backend_file$new(); b$keyring_set_default('bench'); b$keyring_unlock('bench', '%s'); invisible(b$get('%s'))",
    password, name
  )
  list(
    work = "fresh Rscript", n = n, home = home,
    limit = function(seconds) {
      time <- time_process("invisible()")
      list(median = time, min = time)
    },
    ours = function(seconds) time_process(ours),
    keyring = function(seconds) time_process(keyring),
    turns = 3,
    target = list(text = "bare R + 25 ms", met = function(figures) figures$over <= 0.025)
  )
}

# The names of a store in an order that has nothing to do with how they lie in the file.
names_of <- function(n) secret_name(sample.int(n))

# The clock: seconds in a plain number. Sys.time() makes objects, which R has to clear away while it is measured.
now <- bench::hires_time

# Calls `f` with one name after the other until `seconds` are over or it was called `most` times, at least once.
# Answers with the time of each call in seconds, less what it takes to ask for the time. Before that, calls it unmeasured
# for as long as the limit does, so that neither begins with caches that the other has left.
time_calls <- function(f, names, seconds, most = 100000L, warm_up = 0) {
  begun <- ended <- numeric(most)
  begin <- now() + warm_up
  before <- 0
  while (now() < begin) {
    f(names[[before %% length(names) + 1]])
    before <- before + 1
  }
  i <- 0
  end <- now() + seconds
  repeat {
    i <- i + 1
    name <- names[[(before + i - 1) %% length(names) + 1]]
    a <- now()
    f(name)
    b <- now()
    begun[[i]] <- a
    ended[[i]] <- b
    if (b >= end || i == most) {
      break
    }
  }
  ended[seq_len(i)] - begun[seq_len(i)] - asking
}

time_process <- function(code) {
  start <- function() {
    status <- system2(file.path(R.home("bin"), "Rscript"), c("-e", shQuote(code)), stdout = FALSE)
    stopifnot(status == 0)
  }
  system.time(start())[["elapsed"]]
}

# Timed by itself.
asking <- 0
time_calls <- compiler::cmpfun(time_calls)
asking <- stats::median(time_calls(function(name) NULL, "", each))

# Every cell in every round, its sides one right after the other: whatever else goes on in the machine meets all of
# them alike.
run <- function(cells, rounds) {
  results <- lapply(cells, function(cell) list(ours = list(), limit = list(), keyring = list()))
  spent <- numeric(length(cells))
  turns <- rep(seq_along(cells), vapply(cells, function(cell) cell$turns %||% 1, 0))
  for (round in seq_len(rounds)) {
    note("round %d of %d", round, rounds)
    for (i in turns) {
      cell <- cells[[i]]
      enter(cell$home)
      turn <- length(results[[i]]$ours) + 1
      results[[i]]$ours[[turn]] <- cell$ours(each)
      results[[i]]$limit[[turn]] <- cell$limit(each)
      if (!is.null(cell$keyring) && spent[[i]] < keyring_in_all) {
        begun <- Sys.time()
        results[[i]]$keyring[[turn]] <- cell$keyring(each)
        spent[[i]] <- spent[[i]] + as.numeric(Sys.time() - begun, units = "secs")
      }
    }
  }
  results
}

`%||%` <- function(x, y) if (is.null(x)) y else x

note <- function(...) message("bench: ", sprintf(...))

count <- function(n) format(n, big.mark = ",", scientific = FALSE)
