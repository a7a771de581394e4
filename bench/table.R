# The table, in Markdown.

as_table <- function(cells, results) {
  figures <- lapply(results, summarise)
  rows <- unlist(Map(table_row, cells, figures))
  one <- which(vapply(cells, function(cell) cell$work == "read one", NA))
  few <- min(one)
  many <- max(one)
  between <- paste(count(cells[[many]]$n), "/", count(cells[[few]]$n))
  c(
    line(
      "work", "secrets", "dkusecrets", "p90", "min", "limit", "min", "ratio",
      "keyring", "keyring / dkusecrets", "target", "met"
    ),
    line("---", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "---", "---"),
    append(rows, flat_row(figures[[few]], figures[[many]], between), after = many)
  )
}

# Medians and ratios are the medians of those of the rounds.
summarise <- function(result) {
  ours <- vapply(result$ours, stats::median, 0)
  limit <- vapply(result$limit, `[[`, 0, "median")
  keyring <- vapply(result$keyring, stats::median, 0)
  all <- unlist(result$ours)
  list(
    rounds = ours, ours = stats::median(ours), p90 = stats::quantile(all, 0.9, names = FALSE), min = min(all),
    limit_rounds = limit, limit = stats::median(limit), limit_min = min(vapply(result$limit, `[[`, 0, "min")),
    ratio = stats::median(ours / limit), over = stats::median(ours - limit),
    keyring = if (length(keyring)) stats::median(keyring)
  )
}

table_row <- function(cell, figures) {
  target <- cell$target
  met <- if (is.null(target)) "" else yes_no(target$met(figures))
  if (cell$work == "fresh Rscript") {
    met <- sprintf("%s (+%s)", met, duration(figures$over))
  }
  keyring <- figures$keyring
  line(
    cell$work, count(cell$n), duration(figures$ours), duration(figures$p90), duration(figures$min),
    duration(figures$limit), duration(figures$limit_min), number(figures$ratio),
    if (is.null(keyring)) "left out" else paste0(duration(keyring), if (isTRUE(cell$estimated)) " (estimate)"),
    if (is.null(keyring)) "" else number(keyring / figures$ours),
    if (is.null(target)) "" else target$text, met
  )
}

# What reading one of many takes, in parts of what reading one of few takes.
flat_row <- function(few, many, between) {
  grown <- stats::median(many$rounds / few$rounds)
  line(
    "read one", between, number(grown), "", number(many$min / few$min),
    number(stats::median(many$limit_rounds / few$limit_rounds)), number(many$limit_min / few$limit_min), "",
    number(many$keyring / few$keyring), "", "flat: 1.25", yes_no(grown <= 1.25)
  )
}

line <- function(...) paste0("| ", paste(..., sep = " | "), " |")

yes_no <- function(met) if (met) "yes" else "no"

duration <- function(seconds) {
  if (seconds < 1e-3) {
    paste(number(seconds * 1e6), "us")
  } else if (seconds < 1) {
    paste(number(seconds * 1e3), "ms")
  } else if (seconds < 120) {
    paste(number(seconds), "s")
  } else {
    paste(number(seconds / 60), "min")
  }
}

# Three digits that count.
number <- function(x) formatC(signif(x, 3), digits = 3, format = "fg", flag = "#", big.mark = ",")

header <- function(rounds) {
  info <- dkuVaultInfo()
  c(
    "# Benchmarks", "",
    sprintf(
      "`make bench` on %s, %d rounds. `bench/README.md` says what is measured and how to read it.",
      format(Sys.time(), "%Y-%m-%d %H:%M UTC", tz = "UTC"), rounds
    ),
    "",
    sprintf(
      "- Machine: %s, %d cores, Linux %s, vault on %s",
      processor(), parallel::detectCores(), Sys.info()[["release"]], info$file_system
    ),
    sprintf("- dkusecrets %s (%s), Rust %s, SQLite %s", info$package, commit(), info$rust, info$sqlite),
    sprintf("- %s, keyring %s", R.version.string, utils::packageVersion("keyring"))
  )
}

# The package's own sources count; what else changed does not.
commit <- function() {
  git <- function(...) system2("git", c("-C", shQuote(dirname(bench)), ...), stdout = TRUE, stderr = FALSE)
  changed <- git("status", "--porcelain", "--", "DESCRIPTION", "NAMESPACE", "R", "src/entrypoint.c", "src/rust")
  paste0(git("rev-parse", "--short", "HEAD"), if (length(changed)) " and uncommitted changes")
}

processor <- function() {
  found <- if (file.exists("/proc/cpuinfo")) grep("^model name", readLines("/proc/cpuinfo"), value = TRUE)
  if (length(found)) sub(".*: *", "", found[[1]]) else Sys.info()[["machine"]]
}

footnotes <- function() {
  c(
    sprintf("Estimate: a list and %d gets, these scaled to the number of secrets.", sampled),
    "Left out: it takes as many times the time of reading one as there are secrets."
  )
}
