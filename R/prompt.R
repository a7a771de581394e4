# Asking for a value or a passphrase without showing it.

# What was typed. `otherwise` says how to give it where nobody can be asked.
ask <- function(prompt, otherwise, call = sys.call(-1)) {
  typed <- if (interactive() || !is.null(getOption("askpass"))) {
    # RStudio and others put their own dialog into that option.
    askpass::askpass(prompt)
  } else if (!is.null(kernel <- notebook_prompt())) {
    kernel(prompt)
  } else {
    abort_dku("no_prompt", paste(c("there is nobody to ask in this session", otherwise), collapse = "\n  "), call = call)
  }
  if (is.null(typed) || !nzchar(typed)) {
    abort_dku("cancelled", "nothing was typed, so nothing was done", call = call)
  }
  typed
}

# IRkernel's own way to ask in the notebook: askpass does not know it. The kernel puts it in the place
# of the getPass package's function, or on the search path where that package is not installed.
notebook_prompt <- function() {
  if (!"jupyter:irkernel" %in% search()) {
    return(NULL)
  }
  where <- if ("getPass" %in% loadedNamespaces()) asNamespace("getPass") else as.environment("jupyter:irkernel")
  get0("getPass", where, mode = "function", inherits = FALSE)
}
