//! The static library that R loads. `calls.rs` has what R calls, `args.rs` what it may pass, `reply.rs` how it is
//! answered.
use extendr_api::prelude::*;

mod args;
mod calls;
mod failure;
mod reply;
mod secret_list;
#[cfg(test)]
mod wrappers;

extendr_module! {
    mod dkusecrets;
    use calls;
}
