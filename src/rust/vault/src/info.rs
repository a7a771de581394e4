//! What a vault says of itself: the first thing to ask for when something is wrong. No names, no values.
use serde::Serialize;
use std::path::PathBuf;

/// Where a vault is and how it is. Fields that could not be found out are none; [`Info::problems`] says why.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Info {
    /// The database file.
    pub database: PathBuf,
    /// The directory of key and anchor.
    pub config: PathBuf,
    /// Whether there is a vault.
    pub exists: bool,
    /// How the root key is reached: "file" or "passphrase".
    pub provider: Option<String>,
    /// The key file, if that is the way.
    pub key_file: Option<PathBuf>,
    /// Whether a passphrase is needed first.
    pub locked: bool,
    /// The store's id, as 32 hexadecimal digits.
    pub store: Option<String>,
    /// The format this software writes.
    pub format: u32,
    /// The version of SQLite.
    pub sqlite: String,
    /// How many live secrets there are.
    pub secrets: Option<u64>,
    /// How many removed ones can be restored.
    pub removed: Option<u64>,
    /// How many versions are kept in all.
    pub versions: Option<u64>,
    /// The size of the database, in bytes.
    pub file_bytes: Option<u64>,
    /// The kind of file system it lies on.
    pub file_system: Option<String>,
    /// How often the index was written.
    pub sequence: Option<u64>,
    /// The highest such number the anchor has seen.
    pub anchor_sequence: Option<u64>,
    /// How many versions of each secret are kept.
    pub keep_versions: Option<u32>,
    /// For how many days removed secrets are kept.
    pub keep_days: Option<u32>,
    /// What is wrong: kinds as in [`crate::Error::kind`], or "warning", and messages.
    pub problems: Vec<(String, String)>,
}
