//! What R calls. Each function takes and returns `Robj` only and is one `reply(|| ...)`: an argument
//! of any other type would be converted before `reply` runs, and its error, with the argument's
//! value in it, would leave as an R error that crashes R on a `%`. `wrappers.rs` checks this.
#![expect(clippy::disallowed_methods, reason = "what #[extendr] expands to; wrappers.rs looks at our own text")]
use crate::reply::reply;
use extendr_api::prelude::*;

/// Versions of the Rust side.
/// @noRd
#[extendr]
fn rust_about() -> Robj {
    reply(|| Ok(list!(version = env!("CARGO_PKG_VERSION"), rust_version = env!("CARGO_PKG_RUST_VERSION"))))
}

extendr_module! {
    mod calls;
    fn rust_about;
}
