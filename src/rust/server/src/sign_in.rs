//! Passwords, links and sessions: who may set what, and what it opens.
//!
//! What an administrator makes for somebody else opens no secret until that person says so. A password that is set by a
//! link, or in place of one that an administrator chose, is the person's all the same if nobody can be harmed: the
//! account has no secrets, and no user id of this machine. It is *claimed* then: all keys that the account has must be
//! confirmed again, and once a user id is linked to it, it is the kernel that says who the person is.
use crate::budget::Tries;
use crate::cookies::Cookies;
use crate::identity::{Caller, Peer, Source, Viewer, address, claims};
use crate::password::{Hash, Password, Place, Stored};
use crate::people::{self, Link, Person};
use crate::problem::{Problem, Result};
use crate::server::{Server, event, now};
use crate::session::{self, Session};
use axum::http::HeaderMap;
use vault::{Event, Transaction};
use zeroize::Zeroizing;

/// How long a link holds, in milliseconds.
pub const LINK_MS: i64 = 10 * 60 * 1000;

/// Somebody who is not known yet.
pub struct Visitor<'v> {
    pub headers: &'v HeaderMap,
    pub peer: Peer,
}

impl Visitor<'_> {
    fn event(&self, action: &str, who: &str, person: Option<&Person>) -> Event {
        let about: Vec<people::Id> = person.iter().map(|person| person.id).collect();
        Event {
            who: who.into(),
            from: self.peer.to_string(),
            // Only of somebody who is there: what was typed for a login may be a password.
            names: person.iter().map(|person| person.login.clone()).collect(),
            claims: claims(self.headers),
            ..event(action, &about)
        }
    }

    fn refused(&self, server: &Server, action: &str, person: Option<&Person>, problem: Problem) -> Result<Problem> {
        if let Some(person) = person {
            server.was_refused(&person.login);
        }
        server.record_refusal(Event { outcome: problem.kind.into(), ..self.event(action, "nobody", person) })?;
        Ok(problem)
    }
}

/// What a browser gets that has signed in.
pub struct SignedIn {
    pub session: Zeroizing<String>,
    pub device: String,
    pub login: String,
    pub opens: bool,
}

/// Signs somebody in. Who is there and who is not takes as long, and is told the same.
pub fn sign_in(server: &Server, visitor: &Visitor, login: &str, password: &str) -> Result<SignedIn> {
    let person = people::person(&server.store, login)?.filter(|person| person.enabled);
    let stored = match &person {
        Some(person) => people::password(&server.store, &person.id)?,
        None => None,
    };
    let mark = server.cookies(visitor.headers);
    let device = stored.as_ref().and_then(|stored| session::known_device(stored, mark.device()?, now()));
    let tries = match device {
        Some(device) => Tries::Known(device),
        None => Tries::Unknown { login: login.into(), from: address(server, visitor.headers, visitor.peer) },
    };
    let right = is_right(server, password, stored.as_ref().map(|stored| &stored.hash), &tries);
    match (right, person, stored) {
        (Ok(true), Some(person), Some(stored)) => {
            let event = visitor.event("sign-in", &person.login, Some(&person));
            server.record(match stored.doubted() {
                Some(doubted) => Event { who: doubted, behalf: Some(person.login.clone()), ..event },
                None => event,
            })?;
            server.was_here(&person.login);
            Ok(SignedIn {
                session: server.sessions.begin(&person.login, &stored, now())?,
                device: session::mark_device(&stored, now())?,
                login: person.login,
                opens: stored.opens(),
            })
        }
        (right, person, _) => {
            let wrong = || Problem::not_authenticated("the login or the password is wrong");
            let problem = right.err().unwrap_or_else(wrong);
            Err(visitor.refused(server, "sign-in", person.as_ref(), problem)?)
        }
    }
}

/// Whether a password is right, within a budget for guessing.
fn is_right(server: &Server, password: &str, hash: Option<&Hash>, tries: &Tries) -> Result<bool> {
    let place = match tries {
        Tries::Known(_) => Place::Known,
        Tries::Own(person) => Place::Own(*person),
        Tries::Unknown { .. } => Place::Unknown,
    };
    let may = || server.budgets.take(tries).map_err(Problem::too_many_tries);
    let right = server.hasher.is(&Password::typed(password), hash, place, may)?;
    if right {
        server.budgets.give_back(tries);
    }
    Ok(right)
}

/// Who a session's cookie stands for. `used`: whether its own browser shows it.
pub fn viewer(server: &Server, token: &str, used: bool) -> Result<Option<Viewer>> {
    let session = server.sessions.find(token, used, now());
    Ok(session.map(|session| who_is(server, session)).transpose()?.flatten())
}

/// Whom a session stands for, unless it has ended by what became of the person or the password: it is looked up against
/// both each time, so that whoever changes them need not think of it.
pub fn who_is(server: &Server, session: Session) -> Result<Option<Viewer>> {
    let person = people::person(&server.store, &session.login)?;
    let person = person.filter(|person| person.enabled && person.id == session.person);
    let stored = people::password(&server.store, &session.person)?.filter(|stored| stored.id == session.password);
    match (person, stored) {
        (Some(person), Some(stored)) => Ok(Some(Viewer { person, session, doubted: stored.doubted() })),
        _ => {
            server.sessions.end(&session.id);
            Ok(None)
        }
    }
}

/// Ends the session that a caller came with.
pub fn sign_out(server: &Server, caller: &Caller) -> Result<()> {
    let none = || Problem::bad("you came without a session: there is nothing to sign out of");
    let session = caller.session.as_ref().filter(|_| caller.source == Source::Session).ok_or_else(none)?;
    server.sessions.end(&session.id);
    server.record(caller.event("sign-out", &[], Vec::new()))
}

/// Ends all sessions of the caller's; answers with how many those were.
pub fn sign_out_everywhere(server: &Server, caller: &Caller) -> Result<usize> {
    let person = oneself(caller, "signs out everywhere")?;
    if caller.source != Source::Session {
        caller.changer()?;
    }
    let ended = server.sessions.end_all(&person.id);
    server.record(caller.event("sign-out everywhere", &[], Vec::new()))?;
    Ok(ended)
}

/// The caller, who is nobody who only acts for them.
fn oneself<'c>(caller: &'c Caller, does: &str) -> Result<&'c Person> {
    if caller.acting.is_some() || caller.source == Source::Ticket {
        return Err(Problem::not_allowed(format!("only the person, and no ticket or administrator for them, {does}")));
    }
    caller.someone()
}

/// Makes a link for a person, in the place of one that they had; answers with its code.
pub fn invite(change: &mut Transaction, person: &Person, created_by: &str, own: bool) -> Result<Zeroizing<String>> {
    let expires = change.now() + LINK_MS;
    let link = Link { login: person.login.clone(), person: person.id, created_by: created_by.into(), own, expires };
    people::add_link(change, &link)
}

/// Sets the password that a link is for, once.
pub fn set_by_link(server: &Server, visitor: &Visitor, login: &str, code: &str, password: &str) -> Result<()> {
    let over = || {
        Problem::not_authenticated(
            "this link is over, was used already, or is for another login; whoever runs the server can make another",
        )
    };
    let password = Password::new(password)?;
    let Some(link) = people::link_for(&server.store, code, login, now())? else {
        return Err(visitor.refused(server, "password set by a link", None, over())?);
    };
    let hash = server.hasher.hash(&password, Place::Own(link.person))?;
    server.change(|change| {
        // Somebody else may have been faster.
        let link = people::link_for(change, code, login, change.now())?.ok_or_else(over)?;
        let person = people::person(change, login)?.filter(|person| person.enabled && person.id == link.person);
        let person = person.ok_or_else(over)?;
        people::remove_links(change, |other| other.person == person.id)?;
        let confirmed = Confirmed::new(link.own, people::rules(change)?.allow_impersonation);
        let stored = new_password(&person, hash, confirmed, &link.created_by, None)?;
        let stored = claim(change, &person, stored)?;
        change.record(visitor.event("password set by a link", &person.login, Some(&person)));
        people::save_password(change, &stored)
    })
}

/// Why a password opens secrets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Confirmed {
    /// By the person's own word.
    Own,
    /// Because acting as others is allowed.
    Rule,
    No,
}

impl Confirmed {
    fn new(own: bool, rule: bool) -> Confirmed {
        match (own, rule) {
            (true, _) => Confirmed::Own,
            (false, true) => Confirmed::Rule,
            (false, false) => Confirmed::No,
        }
    }
}

/// What is kept of a new password, in the place of `before`.
fn new_password(
    person: &Person,
    hash: Hash,
    confirmed: Confirmed,
    by: &str,
    before: Option<&Stored>,
) -> Result<Stored> {
    let mut device_key = [0; 32];
    getrandom::fill(&mut device_key).map_err(|_| Problem::unavailable("no random numbers to be had"))?;
    Ok(Stored {
        id: people::random_text(16)?,
        person: person.id,
        hash,
        confirmed: confirmed != Confirmed::No,
        by_rule: confirmed == Confirmed::Rule,
        claimed: before.is_some_and(|before| before.claimed) && confirmed == Confirmed::No,
        created: now(),
        created_by: by.into(),
        device_key: before.map_or(device_key, |before| before.device_key),
    })
}

/// Lets a password that would open nothing open the account if that harms nobody.
fn claim(change: &mut Transaction, person: &Person, stored: Stored) -> Result<Stored> {
    if stored.opens() || person.uid.is_some() || !change.list(&person.id)?.is_empty() {
        return Ok(stored);
    }
    people::doubt_keys(change, &person.id)?;
    Ok(Stored { claimed: true, ..stored })
}

/// The password of a person who is just being made, as an administrator chose it.
pub fn first_password(change: &mut Transaction, person: &Person, hash: Hash, by: &str) -> Result<()> {
    let confirmed = Confirmed::new(false, people::rules(change)?.allow_impersonation);
    people::save_password(change, &new_password(person, hash, confirmed, by, None)?)
}

/// Changes the caller's own password. Whom the kernel names need not know the old one, nor need somebody who has none.
pub fn change_password(server: &Server, caller: &Caller, old: Option<&str>, new: &str) -> Result<()> {
    let person = oneself(caller, "changes the password")?;
    if caller.source != Source::Session {
        caller.changer()?;
    }
    let new = Password::new(new)?;
    let before = people::password(&server.store, &person.id)?;
    let vouched = caller.opens && caller.source != Source::Session;
    // One budget, however many keys and sessions there are.
    let tries = Tries::Own(person.id);
    match &before {
        Some(_) if caller.source == Source::Kernel => {}
        Some(before) => {
            let old = old.ok_or_else(|| Problem::bad("password: the present one is needed"))?;
            let right = is_right(server, old, Some(&before.hash), &tries);
            if !matches!(right, Ok(true)) {
                let problem = right.err().unwrap_or_else(|| Problem::not_allowed("the present password is wrong"));
                let event = caller.event("password changed", &[], Vec::new());
                server.record_refusal(Event { outcome: problem.kind.into(), ..event })?;
                return Err(problem);
            }
        }
        None => drop(caller.opener()?),
    }
    // Computing a hash keeps others from theirs: who has changed it a few times waits, too.
    server.budgets.take(&tries).map_err(Problem::too_many_tries)?;
    let hash = server.hasher.hash(&new, Place::Own(person.id))?;
    server.change(|change| {
        let now = people::password(change, &person.id)?;
        if now.as_ref().map(|now| &now.id) != before.as_ref().map(|before| &before.id) {
            return Err(Problem::conflict("the password was changed meanwhile"));
        }
        let person = people::present(change, &person.login)?;
        let rule = now.as_ref().is_some_and(|now| now.confirmed && now.by_rule);
        let confirmed = Confirmed::new(vouched || now.as_ref().is_some_and(|now| now.confirmed && !now.by_rule), rule);
        let stored = new_password(&person, hash, confirmed, &caller.name, before.as_ref())?;
        let stored = claim(change, &person, stored)?;
        change.record(caller.event("password changed", &[], Vec::new()));
        people::save_password(change, &stored)
    })
}

/// Says that a password which was set by somebody else's link, or chosen by somebody else, is to open the caller's
/// secrets. It cannot say so of itself, and of one that was claimed only the kernel can.
pub fn confirm(server: &Server, caller: &Caller) -> Result<()> {
    let person = oneself(caller, "confirms the password")?;
    caller.opener()?;
    if caller.session.is_some() {
        return Err(Problem::not_allowed(
            "a password is confirmed by another way in: the server's socket, or an API key",
        ));
    }
    server.change(|change| {
        let stored = people::password(change, &person.id)?;
        let stored = stored.ok_or_else(|| Problem::not_found("you have no password here"))?;
        if stored.claimed && caller.source != Source::Kernel {
            return Err(Problem::bad("this password opens your secrets already"));
        }
        change.record(caller.event("password confirmed", &[], Vec::new()));
        people::save_password(change, &Stored { confirmed: true, by_rule: false, claimed: false, ..stored })
    })
}

/// The session in the headers that a browser sent to an application.
pub fn viewer_of_headers<'h>(server: &Server, headers: impl Iterator<Item = (&'h str, &'h str)>) -> Result<Viewer> {
    let cookies = headers.filter(|(name, _)| name.eq_ignore_ascii_case("cookie")).map(|(_, value)| value);
    let cookies = Cookies::new(cookies, server.is_secure());
    let nobody = || Problem::not_authenticated("nobody is signed in with those headers");
    let token = cookies.session()?.ok_or_else(nobody)?;
    viewer(server, token, false)?.ok_or_else(nobody)
}
