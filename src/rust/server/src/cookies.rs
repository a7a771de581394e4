//! What browsers keep for us: the session, and the mark of a browser that signed in before (RFC 6265).
use crate::problem::{Problem, Result};
use crate::session::DEVICE_SECONDS;

const SESSION: &str = "dkusecrets";
const DEVICE: &str = "dkusecrets-device";

/// The cookies of a request. Over TLS they have a name that only this host, over TLS, can have set.
pub struct Cookies<'h> {
    all: Vec<(&'h str, &'h str)>,
    secure: bool,
}

impl<'h> Cookies<'h> {
    /// From the Cookie headers of a request, as many as there are.
    pub fn new(headers: impl Iterator<Item = &'h str>, secure: bool) -> Cookies<'h> {
        let pairs = headers.flat_map(|header| header.split(';')).filter_map(|pair| pair.trim().split_once('='));
        Cookies { all: pairs.collect(), secure }
    }

    /// What the session's cookie holds. Two that differ are refused: one of them was put there by somebody else, such
    /// as another program of this host.
    pub fn session(&self) -> Result<Option<&'h str>> {
        let name = name(SESSION, self.secure);
        let mut found = self.all.iter().filter(|(other, _)| *other == name).map(|(_, value)| *value);
        let first = found.next();
        if found.any(|other| Some(other) != first) {
            return Err(Problem::not_authenticated(
                "the browser sends two different cookies for one session: remove the cookies of this host",
            ));
        }
        Ok(first)
    }

    /// The mark of a browser that signed in before; of several, one is as good as another.
    pub fn device(&self) -> Option<&'h str> {
        let name = name(DEVICE, self.secure);
        self.all.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }
}

fn name(base: &str, secure: bool) -> String {
    if secure { format!("__Host-{base}") } else { base.into() }
}

/// What a browser is to keep until it is closed, or the session ends.
pub fn set_session(token: &str, secure: bool) -> String {
    set(SESSION, token, secure, "")
}

pub fn clear_session(secure: bool) -> String {
    set(SESSION, "", secure, "; Max-Age=0")
}

/// What a browser is to keep for long.
pub fn set_device(mark: &str, secure: bool) -> String {
    set(DEVICE, mark, secure, &format!("; Max-Age={DEVICE_SECONDS}"))
}

fn set(base: &str, value: &str, secure: bool, more: &str) -> String {
    let tls = if secure { "; Secure" } else { "" };
    format!("{}={value}; Path=/; HttpOnly; SameSite=Strict{tls}{more}", name(base, secure))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'h>(headers: &[&'h str], secure: bool) -> Cookies<'h> {
        Cookies::new(headers.iter().copied(), secure)
    }

    #[test]
    fn cookies_of_a_request() {
        let both = of(&["a=b; dkusecrets=one", "dkusecrets-device=two=; c"], false);
        assert_eq!((both.session().unwrap(), both.device()), (Some("one"), Some("two=")));
        assert_eq!(of(&["dkusecrets=one; dkusecrets=one"], false).session().unwrap(), Some("one"));
        assert_eq!(of(&["dkusecrets=one; dkusecrets=two"], false).session().unwrap_err().status, 401);
        assert_eq!(of(&["a=b", "", ";;=", "dkusecrets"], false).session().unwrap(), None);
        // What any page of this host could have set does not count over TLS.
        assert_eq!(of(&["dkusecrets=one"], true).session().unwrap(), None);
        assert_eq!(of(&["__Host-dkusecrets=one"], true).session().unwrap(), Some("one"));
    }

    #[test]
    fn what_browsers_are_told() {
        assert_eq!(set_session("x", false), "dkusecrets=x; Path=/; HttpOnly; SameSite=Strict");
        assert_eq!(set_session("x", true), "__Host-dkusecrets=x; Path=/; HttpOnly; SameSite=Strict; Secure");
        assert_eq!(clear_session(true), "__Host-dkusecrets=; Path=/; HttpOnly; SameSite=Strict; Secure; Max-Age=0");
        assert!(
            set_device("x", false).contains("dkusecrets-device=x; ") && set_device("x", false).contains("31536000")
        );
    }
}
