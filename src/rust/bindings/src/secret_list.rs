//! The list of secrets of `dkuGetAuthInfo()`, in one go: the only unsafe code here. extendr keeps account of each
//! object it makes in a table of 100,000 entries; at 1,000 secrets that takes as long as decrypting them.
#![expect(unsafe_code, reason = "R's own interface; the rules are below")]
use extendr_api::prelude::*;
use extendr_api::single_threaded;
use extendr_ffi::{
    R_ClassSymbol, R_NamesSymbol, R_xlen_t, Rf_allocVector, Rf_mkCharLenCE, Rf_setAttrib, SET_STRING_ELT,
    SET_VECTOR_ELT, SEXP, SEXPTYPE, cetype_t,
};
use vault::Secret;

/// `list(list(key = , value = ), ...)` with the classes that redact what is shown.
pub fn secret_list(all: &[Secret]) -> Robj {
    let names = Robj::from(["key", "value"]);
    let class_of_one = Robj::from(["dkusecrets_secret", "dkusecrets_redacted"]);
    let class_of_all = Robj::from(["dkusecrets_secrets", "dkusecrets_redacted"]);
    let mut list = List::new(all.len());
    single_threaded(|| {
        // SAFETY: R's collector may run at each allocation, and frees what nothing it knows holds. `names`, the classes
        // and `list` are held by extendr; each object made here is put into one that is held before the next is made.
        // Indices are below the lengths given when the vectors were made.
        unsafe {
            let outer = list.get_mut();
            for (i, secret) in all.iter().enumerate() {
                let one = Rf_allocVector(SEXPTYPE::VECSXP, 2);
                SET_VECTOR_ELT(outer, i as R_xlen_t, one);
                put_string(one, 0, &secret.name);
                put_string(one, 1, secret.value.expose());
                Rf_setAttrib(one, R_NamesSymbol, names.get());
                Rf_setAttrib(one, R_ClassSymbol, class_of_one.get());
            }
            Rf_setAttrib(outer, R_ClassSymbol, class_of_all.get());
        }
    });
    list.into()
}

/// Puts a string into a list that is held, at an index it has. `text` has at most 1 MiB and no NUL, which R refuses.
unsafe fn put_string(list: SEXP, at: R_xlen_t, text: &str) {
    // SAFETY: as above.
    unsafe {
        let string = Rf_allocVector(SEXPTYPE::STRSXP, 1);
        SET_VECTOR_ELT(list, at, string);
        SET_STRING_ELT(string, 0, Rf_mkCharLenCE(text.as_ptr().cast(), text.len() as i32, cetype_t::CE_UTF8));
    }
}
