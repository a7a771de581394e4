//! A secret's value: text that wipes itself and cannot be printed.
use crate::plain::Plain;
use crate::{Error, Result};

/// A secret's value: UTF-8 text of 0 to 1,048,576 bytes without NUL, kept byte for byte.
#[derive(Clone)]
pub struct Value(String);

/// How a record says what its value is.
const TEXT: u8 = 1;

impl Value {
    /// The longest value in bytes: 1 MiB.
    pub const MAX_BYTES: usize = 1 << 20;

    /// Checks a value at the door. The text is copied; wiping the original is the caller's part.
    ///
    /// # Errors
    /// `invalid_value` if it is longer than [`Value::MAX_BYTES`], not UTF-8, or holds a NUL.
    pub fn new(text: &[u8]) -> Result<Value> {
        if text.len() > Value::MAX_BYTES {
            return Err(Error::InvalidValue(format!(
                "has {} bytes; at most {} (1 MiB) can be stored",
                text.len(),
                Value::MAX_BYTES
            )));
        }
        if text.contains(&0) {
            return Err(Error::InvalidValue("holds a NUL byte, which text cannot hold".into()));
        }
        let text = std::str::from_utf8(text)
            .map_err(|e| Error::InvalidValue(format!("is not valid UTF-8 (at byte {})", e.valid_up_to() + 1)))?;
        Ok(Value(text.to_owned()))
    }

    /// The text. Whoever takes it out answers for where it goes.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The plaintext of a record.
    pub(crate) fn to_record(&self) -> Plain {
        [&[TEXT], self.0.as_bytes()].concat().into()
    }

    /// The value a record's plaintext stands for; nothing if it is of a type this version does not know.
    pub(crate) fn from_record(record: &[u8]) -> Option<Value> {
        match record {
            [TEXT, text @ ..] => Value::new(text).ok(),
            _ => None,
        }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        drop(Plain::from(std::mem::take(&mut self.0).into_bytes()));
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Value(..)")
    }
}
