//! The static library that R loads. `calls.rs` has what R calls, `reply.rs` how it is answered.
use extendr_api::prelude::*;

mod calls;
mod reply;
#[cfg(test)]
mod wrappers;

extendr_module! {
    mod dkusecrets;
    use calls;
}
