//! What R passes, checked at the door. The R functions have checked it before, with better words; here it is only
//! made sure that nothing else comes in.
use crate::reply::Failure;
use extendr_api::prelude::*;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use vault::{Passphrase, Value, Vault};

type Result<T> = std::result::Result<T, Failure>;

/// The vault R means: one path, of the home of its directories, or two, of its data and its configuration.
/// A path is bytes, in whatever encoding.
pub fn vault(place: &Robj) -> Result<Vault> {
    let paths = place.as_str_vector().ok_or_else(|| wrong("place", "one or two paths"))?;
    let paths: Vec<PathBuf> = paths.iter().map(|p| OsStr::from_bytes(p.as_bytes()).into()).collect();
    match paths.as_slice() {
        [home] => Ok(Vault::under(home)),
        [data, config] => Ok(Vault::at(data, config)),
        _ => Err(wrong("place", "one or two paths")),
    }
}

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
    let text: Option<&'a str> = arg.as_str();
    text.filter(|text| !text.is_na()).map(str::as_bytes).ok_or_else(|| wrong(name, "one string"))
}

fn wrong(name: &str, wanted: &str) -> Failure {
    Failure::new("invalid_argument", format!("`{name}` must be {wanted}"))
}
