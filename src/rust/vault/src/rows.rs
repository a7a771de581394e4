//! The one trait between the vault and a database: a transaction over rows, each a key and a value.
//!
//! Everything above this line sees plaintext, everything below sees sealed boxes. A row's key is a tag and fields of
//! fixed width, so rows of one owner and kind lie together and in order. To add a database, implement [`Rows`]; its
//! transactions must be as good as serial ones.
use crate::Result;
use crate::key::Id;

/// What [`Rows::scan`] does with each row's key and value.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'a;

/// One transaction. It sees one state of the database; dropped without [`Rows::commit`] it changes nothing.
pub trait Rows {
    /// The value of a row.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.get_each(&[key])?.pop().flatten())
    }

    /// The values of some rows, each in its key's place.
    fn get_each(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>>;

    /// Visits all rows whose keys begin with `prefix`, in the order of their keys.
    fn scan(&self, prefix: &[u8], visit: &mut Visit) -> Result<()>;

    /// Writes a row, new or not.
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Writes a row if its value is still `expected`. Answers whether it was.
    fn replace(&self, key: &[u8], expected: &[u8], value: &[u8]) -> Result<bool>;

    /// Removes a row; answers whether it was there.
    fn delete(&self, key: &[u8]) -> Result<bool>;

    /// What is wrong with the database's own structure, as far as it can tell; nothing if all is well.
    fn integrity(&self) -> Result<Option<String>>;

    /// Makes everything durable: once this answers, it survives a loss of power.
    fn commit(self) -> Result<()>;
}

/// What a transaction is begun for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    Read,
    Write,
}

/// The keys of rows. `FORMAT.md`, "Rows".
pub(crate) mod keys {
    use super::Id;

    pub(crate) const STORE: &[u8] = &[0];
    pub(crate) const SLOTS: &[u8] = &[1];

    pub(crate) fn user_key(user: &Id, epoch: u32) -> Vec<u8> {
        [&[2][..], user, &epoch.to_be_bytes()].concat()
    }
    pub(crate) fn records(user: &Id) -> Vec<u8> {
        [&[3][..], user].concat()
    }
    pub(crate) fn record(user: &Id, secret: &Id, version: u64) -> Vec<u8> {
        [&[3][..], user, secret, &version.to_be_bytes()].concat()
    }
    pub(crate) fn manifest(owner: &Id) -> Vec<u8> {
        [&[4][..], owner].concat()
    }
    /// What the rows of one person begin with.
    pub(crate) fn all_of(user: &Id) -> [Vec<u8>; 4] {
        [2, 3, 4, 6].map(|tag| [&[tag][..], user].concat())
    }

    pub(crate) const AUDIT_HEAD: &[u8] = &[8];

    pub(crate) const EVENTS: &[u8] = &[7];
    pub(crate) fn event(sequence: u64) -> Vec<u8> {
        [&[7][..], &sequence.to_be_bytes()].concat()
    }
    /// That an event is about a person; the row is empty.
    pub(crate) fn event_of(user: &Id, sequence: u64) -> Vec<u8> {
        [&[9][..], user, &sequence.to_be_bytes()].concat()
    }
    pub(crate) const EVENTS_OF: &[u8] = &[9];
    pub(crate) fn events_of(user: &Id) -> Vec<u8> {
        [&[9][..], user].concat()
    }
    /// That something was destroyed of which SQLite may have left copies elsewhere in its file. In a vault it holds the sequence
    /// number of the write that did, in a store nothing.
    pub(crate) const UNTIDY: &[u8] = &[10];
    pub(crate) fn page(owner: &Id, page: u32) -> Vec<u8> {
        [&[6][..], owner, &page.to_be_bytes()].concat()
    }
}
