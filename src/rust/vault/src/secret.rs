//! What an index of secrets holds: a head for each name, with its versions; and how long things are kept.
use crate::index::{Entry, Extra};
use crate::key::Id;
use crate::name::check_description;
use crate::sealed_box::Commit;
use crate::{Error, Result, Value};
use serde::{Deserialize, Serialize};

pub(crate) const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A secret as its index knows it: everything but the values.
#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct Head {
    /// Normalised (NFC).
    pub(crate) name: String,
    /// Stays the same when the secret is renamed.
    #[serde(with = "serde_bytes")]
    pub(crate) id: Id,
    pub(crate) description: String,
    /// Milliseconds since 1970, as are all times here.
    pub(crate) created: i64,
    /// The last change of anything.
    pub(crate) updated: i64,
    pub(crate) removed: Option<Removal>,
    /// The kept versions, oldest first, never none; the last one is current.
    pub(crate) versions: Vec<VersionHead>,
    pub(crate) extra: Extra,
}

#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct VersionHead {
    pub(crate) version: u64,
    pub(crate) created: i64,
    /// The last day on which this value is good, in days since 1970-01-01 (UTC).
    pub(crate) expires: Option<i32>,
    #[serde(with = "serde_bytes")]
    pub(crate) commit: Commit,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
pub(crate) struct Removal {
    pub(crate) at: i64,
    /// The ledger's clock at the time: what the time to keep is counted from.
    pub(crate) ticks: u64,
}

impl Entry for Head {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Head {
    /// A secret that has no version yet.
    pub(crate) fn new(name: String, id: Id, now: i64) -> Head {
        Head {
            name,
            id,
            description: String::new(),
            created: now,
            updated: now,
            removed: None,
            versions: Vec::new(),
            extra: Extra::new(),
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.removed.is_none()
    }

    /// The current version; none only if the index was written by other software.
    pub(crate) fn current(&self) -> Option<&VersionHead> {
        self.versions.last()
    }

    pub(crate) fn summary(&self) -> Summary {
        Summary {
            name: self.name.clone(),
            description: self.description.clone(),
            version: self.current().map_or(0, |v| v.version),
            created: self.created,
            updated: self.updated,
            expires: self.current().and_then(|v| v.expires),
            removed: self.removed.map(|r| r.at),
        }
    }
}

/// A secret without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The name, normalised (NFC).
    pub name: String,
    /// Free text; empty for none.
    pub description: String,
    /// The current version, counted from 1.
    pub version: u64,
    /// When it was first set, in milliseconds since 1970.
    pub created: i64,
    /// When anything about it last changed, in milliseconds since 1970.
    pub updated: i64,
    /// The last day on which the value is good, in days since 1970-01-01 (UTC).
    pub expires: Option<i32>,
    /// When it was removed, in milliseconds since 1970; none for a live secret.
    pub removed: Option<i64>,
}

/// A version of a secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Counted from 1.
    pub version: u64,
    /// When it was set, in milliseconds since 1970.
    pub created: i64,
    /// The last day on which it is good, in days since 1970-01-01 (UTC).
    pub expires: Option<i32>,
    /// Whether it is the one that reads answer with.
    pub current: bool,
}

/// A secret with its value.
#[derive(Debug, Clone)]
pub struct Secret {
    /// The name, normalised (NFC).
    pub name: String,
    /// The value of the current version.
    pub value: Value,
    /// The current version, counted from 1.
    pub version: u64,
    /// The last day on which the value is good, in days since 1970-01-01 (UTC).
    pub expires: Option<i32>,
    /// Whether that day is over.
    pub expired: bool,
}

/// What to change beside a value, and under which condition.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// A new description of at most 1,000 characters; none keeps the old one.
    pub description: Option<String>,
    /// The last day on which the value is good, in days since 1970-01-01 (UTC), or `Some(None)` for no such day.
    /// None keeps it, except that a new value begins without one: an expiry belongs to a value.
    pub expires: Option<Option<i32>>,
    /// Only if the secret is at this version; 0 for: only if there is none.
    pub if_version: Option<u64>,
}

impl Change {
    /// The same with the description as it is stored.
    pub(crate) fn check(&self) -> Result<Change> {
        let description = self.description.as_deref().map(check_description).transpose()?;
        Ok(Change { description, ..self.clone() })
    }
}

/// What stands for a value where it is edited and not shown: the same for as long as the value is, and nobody can make
/// one. It tells nothing of the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The secret's name.
    pub name: String,
    /// Stays the same when the secret is renamed.
    pub id: Id,
    /// The version, counted from 1.
    pub version: u64,
    /// [`Token::PREFIX`] and 64 hexadecimal digits.
    pub text: String,
}

impl Token {
    /// What each token begins with, and no value that is entered may.
    pub const PREFIX: &str = "dkusecrets-unchanged:";
}

/// How much is kept for undoing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// How many versions of each secret, the current one included: 1 to 1,000.
    pub versions: u32,
    /// For how many days a removed secret can be brought back: 0 to 36,500.
    pub days: u32,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { versions: 10, days: 30 }
    }
}

impl Retention {
    pub(crate) fn check(self) -> Result<Retention> {
        if !(1..=1000).contains(&self.versions) {
            return Err(Error::InvalidArgument(format!(
                "the number of versions to keep must be 1 to 1000, not {}",
                self.versions
            )));
        }
        if self.days > 36_500 {
            return Err(Error::InvalidArgument(format!(
                "the number of days to keep removed secrets must be 0 to 36500, not {}",
                self.days
            )));
        }
        Ok(self)
    }
}

/// Settings and clock of an index, sealed with its manifest.
///
/// The clock decides when removed secrets are purged. At a write it goes forward by the time since the last write, if
/// that is at most a day. If it is more, the system's clock may have jumped, so it counts for a day at the most, and
/// only as far as it passes the latest time ever seen. So a clock that jumps ahead, or back and forth, purges nothing
/// early, and a vault that is seldom written keeps removed secrets longer, not shorter.
#[derive(Serialize, Deserialize, Clone, Copy, Default)]
pub(crate) struct Ledger {
    pub(crate) retention: Retention,
    /// The system's time at the last write, or that of an earlier one up to a day ahead of it.
    last: i64,
    /// The latest system time of any write.
    latest: i64,
    /// Milliseconds of use, as counted above.
    pub(crate) ticks: u64,
    /// The clock's reading from which on something may have to be purged.
    pub(crate) due: Option<u64>,
}

impl Ledger {
    pub(crate) fn new(retention: Retention, now: i64) -> Ledger {
        Ledger { retention, last: now, latest: now, ticks: 0, due: None }
    }

    pub(crate) fn advance(&mut self, now: i64) {
        let since = |then: i64| u64::try_from(now.saturating_sub(then)).unwrap_or(0);
        let passed = if since(self.last) <= DAY_MS { since(self.last) } else { since(self.latest).min(DAY_MS) };
        self.ticks = self.ticks.saturating_add(passed);
        // A little back is where two clocks differ, or one was set right: counted again from where it was.
        if now > self.last || self.last.saturating_sub(now) > DAY_MS as i64 {
            self.last = now;
        }
        self.latest = self.latest.max(now);
    }

    /// The clock's reading at which a removal can no longer be undone.
    pub(crate) fn end_of(&self, removal: Removal) -> u64 {
        removal.ticks.saturating_add(u64::from(self.retention.days) * DAY_MS)
    }

    pub(crate) fn is_due(&self, removal: Removal) -> bool {
        self.ticks >= self.end_of(removal)
    }

    /// Notes when the next purge could be needed.
    pub(crate) fn schedule(&mut self, removals: impl Iterator<Item = Removal>) {
        self.due = removals.map(|r| self.end_of(r)).min();
    }
}
