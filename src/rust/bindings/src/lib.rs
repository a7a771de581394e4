//! The static library that R loads. `calls.rs` has what R calls, `args.rs` what it may pass, `elsewhere.rs` whether
//! something else than the embedded vault is to answer, `reply.rs` how it is answered.
use extendr_api::prelude::*;

mod args;
mod calls;
mod elsewhere;
mod failure;
mod reply;
mod secret_list;
#[cfg(test)]
mod wrappers;

extendr_module! {
    mod dkusecrets;
    use calls;
}
