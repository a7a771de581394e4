# The measuring: bench.R <directory of the benchmarks> <program of the limit> <rounds>, run by run.sh in a
# directory where the stores may lie. What is measured and how to read it: README.md.

library(dkusecrets)

args <- commandArgs(trailingOnly = TRUE)
bench <- args[[1]]
limit_program <- args[[2]]
rounds <- as.integer(args[[3]])
for (file in c("stores.R", "measure.R", "table.R")) {
  source(file.path(bench, file))
}
set.seed(1)

sizes <- c(10, 1000, 10000)
stores <- vapply(sizes, make_store, "")
# To write to, so that what is read stays as it was made.
written <- mapply(copy_store, stores, paste0(basename(stores), "-written"))

# One for each row of the table. `ours` and `keyring` work for some seconds and answer with the times of single
# operations, `limit` with their median and minimum; `target` tells whether that is as it should be.
cells <- c(
  Map(read_one, sizes, stores),
  Map(read_all, sizes, stores),
  Map(write_one, sizes, written),
  Map(fresh_process, sizes, stores)
)
results <- run(cells, rounds)
writeLines(c(header(rounds), "", as_table(cells, results), "", footnotes()))
