// The one symbol R looks for when it loads the package; it also keeps the linker from dropping the
// static library. Rust does the rest. extendr's panic hook is not registered: reply.rs sets ours.

void R_init_dkusecrets_extendr(void *dll);

void R_init_dkusecrets(void *dll) {
    R_init_dkusecrets_extendr(dll);
}
