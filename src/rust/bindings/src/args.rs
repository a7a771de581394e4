//! What R passes, checked at the door. The R functions have checked it before, with better words; here it is only
//! made sure that nothing else comes in.
use crate::reply::Failure;
use extendr_api::prelude::*;
use vault::{Passphrase, Value};

type Result<T> = std::result::Result<T, Failure>;

/// One string. extendr takes any bytes for a `&str`: they are looked at before anything else is done with them.
pub fn text<'a>(arg: &'a Robj, name: &str) -> Result<&'a str> {
    std::str::from_utf8(bytes(arg, name)?).map_err(|_| wrong(name, "valid UTF-8"))
}

/// A string, or nothing for NULL.
pub fn optional_text(arg: &Robj, name: &str) -> Result<Option<String>> {
    if arg.is_null() { Ok(None) } else { text(arg, name).map(|text| Some(text.to_owned())) }
}

pub fn value(arg: &Robj) -> Result<Value> {
    Ok(Value::new(bytes(arg, "value")?)?)
}

pub fn passphrase(arg: &Robj) -> Result<Passphrase> {
    text(arg, "passphrase").map(Passphrase::new)
}

/// A whole number that fits `T`.
pub fn number<T: TryFrom<i64>>(arg: &Robj, name: &str) -> Result<T> {
    let number = arg.as_real().filter(|n| n.fract() == 0.0 && n.abs() < 1e15);
    number.and_then(|n| T::try_from(n as i64).ok()).ok_or_else(|| wrong(name, "a whole number in range"))
}

/// A number, or nothing for NULL.
pub fn optional_number<T: TryFrom<i64>>(arg: &Robj, name: &str) -> Result<Option<T>> {
    if arg.is_null() { Ok(None) } else { number(arg, name).map(Some) }
}

/// What to do about an expiry: NULL is nothing, NA is none, and a number is a day counted from 1970-01-01.
pub fn expiry(arg: &Robj) -> Result<Option<Option<i32>>> {
    if arg.is_na() { Ok(Some(None)) } else { Ok(optional_number(arg, "expires")?.map(Some)) }
}

fn bytes<'a>(arg: &'a Robj, name: &str) -> Result<&'a [u8]> {
    // extendr takes a factor's label for a string.
    let text: Option<&'a str> = if arg.is_string() { arg.as_str() } else { None };
    text.filter(|text| !text.is_na()).map(str::as_bytes).ok_or_else(|| wrong(name, "one string"))
}

fn wrong(name: &str, wanted: &str) -> Failure {
    Failure::new("invalid_argument", format!("`{name}` must be {wanted}"))
}
