//! What the store itself knows, sealed under the root key: whose keys there are, and which slots are genuine.
//! Whoever can write the database but lacks the root key cannot make himself somebody.
use crate::Result;
use crate::index::{Entry, Extra, Index};
use crate::key::{Id, hex};
use crate::rows::Rows;
use crate::sealed_box::Commit;
use crate::site::{Part, Site, encode};
use serde::{Deserialize, Serialize};

pub(crate) type Directory = Index<Listing>;

/// One entry of the directory.
#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct Listing {
    /// What it is found by: see the functions below.
    name: String,
    /// Encoded on its own, so that facts of a kind that later versions add can be passed over.
    #[serde(with = "serde_bytes")]
    fact: Vec<u8>,
    extra: Extra,
}

impl Listing {
    pub(crate) fn new(name: String, fact: &Fact) -> Result<Listing> {
        Ok(Listing { name, fact: encode(fact)?.to_vec(), extra: Extra::new() })
    }
}

/// What the directory says under a name.
pub(crate) fn fact(rows: &impl Rows, site: &Site, directory: &Directory, name: &str) -> Result<Option<Fact>> {
    let listing = directory.find(rows, name)?;
    listing.map(|listing| site.decode(Part::Manifest("directory"), &listing.fact)).transpose()
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
    /// The key of the anchor: not derived from the root key, so that the anchor survives a change of that.
    Anchor {
        #[serde(with = "serde_bytes")]
        key: [u8; 32],
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
pub(crate) const ANCHOR: &str = "anchor";

pub(crate) fn slot_name(slot: u32) -> String {
    format!("slot:{slot}")
}

pub(crate) fn user_name(user: &Id) -> String {
    format!("user:{}", hex(user))
}
