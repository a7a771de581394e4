//! The encrypted store of dkusecrets: a vault keeps the secrets of people, each under a key of their own.
//!
//! This crate uses neither R nor a network. `FORMAT.md` beside it describes every byte it writes.
//!
//! The layers, from the bottom; each uses only those above it in this list:
//!
//! | module | what it holds |
//! |---|---|
//! | [`Error`] | everything that can go wrong, by kind |
//! | `plain` | plaintext that wipes itself |
//! | `platform` | file modes, owners, locks, atomic renames: all that depends on the operating system |
//! | `key`, `sealed_box` | keys that wipe themselves, and the one construction that seals everything |
//! | [`Rows`], [`Sqlite`] | a transaction over keyed rows; the database never sees a plaintext |
//! | `site` | which vault this is, and the words for what is wrong with a part of it |
//! | `slot`, `key_file`, `passphrase`, `unlocked` | the ways to the root key |
//! | `index`, `directory`, `secret` | sealed maps in pages under a manifest, and what they hold |
//! | `chain` | the keys, from a slot to the owner's |
//! | `anchor` | the highest sequence numbers seen, outside the database |
//! | `place`, `creation` | where a vault lies, whether that is safe, and how one comes to be |
//! | `secrets` | one person's secrets within a transaction: the operations |
//! | `session` | a vault that is open for one transaction |
//! | [`Vault`] | the vault of one person |
//! | `audit` | the sealed log of what happened to a store's secrets |
//! | `locked` | keys that are kept for long, in memory that is not swapped out |
//! | [`Store`] | the store of a server: many people's secrets |
//! | `socket` | whom the socket of a server may belong to |
//! | [`elsewhere()`] | whether something else than the embedded vault is to answer its person |
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod anchor;
mod audit;
mod chain;
mod creation;
mod directory;
mod elsewhere;
mod error;
mod index;
mod info;
mod key;
mod key_file;
mod locked;
mod name;
mod passphrase;
mod place;
mod plain;
mod platform;
mod rows;
mod sealed_box;
mod secret;
mod secrets;
mod session;
mod site;
mod slot;
mod socket;
mod sqlite;
mod store;
mod sync;
mod unlocked;
mod value;
mod vault;

pub use audit::Event;
pub use elsewhere::{Elsewhere, Refused, elsewhere};
pub use error::{Error, Result};
pub use info::Info;
pub use key::hex;
pub use passphrase::Passphrase;
pub use platform::effective_user;
pub use rows::Rows;
pub use secret::{Change, Retention, Secret, Summary, Token, Version};
pub use slot::NewSlot;
pub use socket::may_serve;
pub use sqlite::Sqlite;
pub use store::{Document, Recording, Restored, Store, StoreInfo, Transaction};
pub use value::Value;
pub use vault::Vault;

/// What the benchmarks and the test vectors need of the inside; not part of the interface.
#[doc(hidden)]
pub mod inside {
    pub use crate::key::Key;
    pub use crate::sealed_box::{BoxError, Context, open, seal, seal_with_salt};
    pub use crate::sqlite::{READ_SETTINGS, WRITE_SETTINGS};
}
