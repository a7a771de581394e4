# What happens when the package is loaded and unloaded.

.onUnload <- function(libpath) {
  library.dynam.unload("dkusecrets", libpath)
}
