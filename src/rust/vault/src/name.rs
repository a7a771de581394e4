//! Names of secrets, and text about them: checked once, at the door.
use crate::{Error, Result};
use unicode_normalization::UnicodeNormalization;

/// The longest name, in characters (Unicode code points after normalisation).
const MAX_NAME: usize = 255;
/// The longest description, in characters.
const MAX_DESCRIPTION: usize = 1000;

/// A name as it is stored and compared: NFC, 1 to 255 characters, no control characters.
pub(crate) fn check_name(name: &str) -> Result<String> {
    // ASCII is in NFC already.
    let name: String = if name.is_ascii() { name.into() } else { name.nfc().take(MAX_NAME + 1).collect() };
    if name.is_empty() {
        return Err(Error::InvalidName("must not be empty".into()));
    }
    if name.chars().count() > MAX_NAME {
        return Err(Error::InvalidName(format!("has at most {MAX_NAME} characters; this one is longer")));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::InvalidName("must not hold control characters (line breaks, tabs, NUL, ...)".into()));
    }
    Ok(name)
}

/// A description as it is stored: NFC, at most 1,000 characters, no control characters but line breaks and tabs.
pub(crate) fn check_description(description: &str) -> Result<String> {
    let description: String = description.nfc().take(MAX_DESCRIPTION + 1).collect();
    if description.chars().count() > MAX_DESCRIPTION {
        return Err(Error::InvalidArgument(format!(
            "a description has at most {MAX_DESCRIPTION} characters; this one is longer"
        )));
    }
    if description.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(Error::InvalidArgument(
            "a description must not hold control characters other than line breaks and tabs".into(),
        ));
    }
    Ok(description)
}

/// Up to three of `names` that a person could have meant by `wanted`, best first.
pub(crate) fn close_matches<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let mut scored: Vec<(f64, &str)> = names
        .map(|name| (strsim::jaro_winkler(&wanted, &name.to_lowercase()), name))
        // Below this similarity the suggestions looked like noise on English words.
        .filter(|(score, _)| *score >= 0.8)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        // Characters are counted after normalisation, and in it three may become one, or one three.
        let composed = "\u{1112}\u{1161}\u{11ab}".repeat(255);
        assert_eq!(check_name(&composed).unwrap(), "\u{d55c}".repeat(255));
        assert_eq!(check_name(&"\u{1d160}".repeat(85)).unwrap().chars().count(), 255);
        for wrong in [String::new(), "x".repeat(256), "\u{1d160}".repeat(86), "x".repeat(1 << 20)] {
            assert_eq!(check_name(&wrong).unwrap_err().kind(), "invalid_name");
        }
        for wrong in ["a\nb", "a\tb", "\0", "\u{7f}", "\u{85}", "\u{9f}"] {
            assert_eq!(check_name(wrong).unwrap_err().kind(), "invalid_name", "{wrong:?}");
        }
        for right in [" ", "\u{a0}", "\u{200d}", "\u{1f468}\u{200d}\u{1f469}", "\u{202e}abc", "%s'\";--", "/../"] {
            assert_eq!(check_name(right).unwrap(), right);
        }
    }

    #[test]
    fn descriptions() {
        assert_eq!(check_description("").unwrap(), "");
        assert_eq!(check_description("a\n\tb e\u{301}").unwrap(), "a\n\tb \u{e9}");
        assert!(check_description(&"e\u{301}".repeat(1000)).is_ok());
        for wrong in ["x".repeat(1001), "a\rb".into(), "\0".into(), "\u{1b}[31m".into()] {
            assert_eq!(check_description(&wrong).unwrap_err().kind(), "invalid_argument");
        }
    }

    #[test]
    fn names_that_are_close() {
        let all = ["Snowflake-prod", "snowflake-test", "postgres", "snowflake", "api key"];
        let close = |wanted| close_matches(wanted, all.into_iter());
        assert_eq!(close("snowflak"), ["snowflake", "Snowflake-prod", "snowflake-test"]);
        assert_eq!(close("POSTGRES"), ["postgres"]);
        assert!(close("zzz").is_empty() && close("").is_empty());
        // Equally close ones in the order of their names, and no more than three.
        assert_eq!(close_matches("key", ["key4", "key2", "key3", "key1"].into_iter()), ["key1", "key2", "key3"]);
    }
}
