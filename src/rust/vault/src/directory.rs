//! What the store itself knows, sealed under the root key: whose keys there are, and which slots are genuine.
//! Whoever can write the database but lacks the root key cannot make himself somebody.
use crate::Result;
use crate::index::{Entry, Extra, Index};
use crate::key::{Id, hex, unhex};
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
    /// What it says, unless it is of a kind that this version does not know.
    pub(crate) fn read(&self) -> Option<Fact> {
        postcard::from_bytes(&self.fact).ok()
    }

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
    /// What a server keeps here of people, groups and keys, in its own encoding.
    Document {
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
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

/// What the names of documents begin with.
pub(crate) const DOCUMENT: &str = "document:";
pub(crate) const OWNER: &str = "owner";
pub(crate) const ANCHOR: &str = "anchor";

pub(crate) fn slot_name(slot: u32) -> String {
    format!("slot:{slot}")
}

pub(crate) fn document_name(name: &str) -> String {
    format!("{DOCUMENT}{name}")
}

/// The name of a document, if the listing is one.
pub(crate) fn document_named(listing: &Listing) -> Option<&str> {
    listing.name.strip_prefix(DOCUMENT)
}

/// The person a listing is about, if it is about one.
pub(crate) fn person_of(listing: &Listing) -> Option<Id> {
    unhex(listing.name.strip_prefix("user:")?)?.as_slice().try_into().ok()
}

pub(crate) fn user_name(user: &Id) -> String {
    format!("user:{}", hex(user))
}
