//! What the store itself knows, sealed under the root key: whose keys there are, and which slots are genuine.
//! Whoever can write the database but lacks the root key cannot make himself somebody.
use crate::index::{Entry, Index};
use crate::key::{Id, hex};
use crate::sealed_box::Commit;
use serde::{Deserialize, Serialize};

pub(crate) type Directory = Index<Listing>;

/// One entry of the directory.
#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct Listing {
    /// What it is found by: see the functions below.
    pub(crate) name: String,
    pub(crate) fact: Fact,
}

/// What an entry of the directory says. New kinds go to the end: the order is part of the format.
#[derive(Serialize, Deserialize, Clone)]
pub(crate) enum Fact {
    /// A way to the root key: the very row that is meant.
    Slot {
        /// SHA-256 of the slot's parameters.
        #[serde(with = "serde_bytes")]
        parameters: [u8; 32],
        #[serde(with = "serde_bytes")]
        commit: Commit,
    },
    /// A person.
    User(User),
    /// The person whose embedded vault this is.
    Owner {
        #[serde(with = "serde_bytes")]
        user: Id,
    },
}

#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct User {
    /// Which of the person's keys is in use, counted from 1.
    pub(crate) epoch: u32,
    /// The box of that key.
    #[serde(with = "serde_bytes")]
    pub(crate) commit: Commit,
    /// The operating system's user id at creation.
    pub(crate) uid: u32,
    pub(crate) created: i64,
}

impl Entry for Listing {
    fn name(&self) -> &str {
        &self.name
    }
}

pub(crate) const OWNER: &str = "owner";

pub(crate) fn slot_name(slot: u32) -> String {
    format!("slot:{slot}")
}

pub(crate) fn user_name(user: &Id) -> String {
    format!("user:{}", hex(user))
}
