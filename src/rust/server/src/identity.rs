//! Who is asking: the kernel says, or a credential does. A credential that is wrong is refused, and never followed by
//! another way in.
use crate::people::{self, Application, Id, Person};
use crate::problem::{Problem, Result};
use crate::server::{Server, Ticket, event, now};
use crate::session::Session;
use crate::sign_in;
use axum::http::{HeaderMap, Method, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::{IpAddr, SocketAddr};
use vault::Event;
use zeroize::Zeroizing;

/// The other end of a connection, as the kernel tells it.
#[derive(Debug, Clone, Copy)]
pub enum Peer {
    Network(SocketAddr),
    /// A process of this machine. The process id is a hint: the kernel may have given it to another since.
    Process {
        uid: u32,
        pid: Option<i32>,
    },
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Peer::Network(address) => write!(f, "{}", address.ip()),
            Peer::Process { uid, pid: Some(pid) } => write!(f, "uid {uid} pid {pid}"),
            Peer::Process { uid, pid: None } => write!(f, "uid {uid}"),
        }
    }
}

/// How somebody was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Key,
    Ticket,
    Kernel,
    Session,
}

/// Who is asking.
#[derive(Debug, Clone)]
pub struct Caller {
    pub source: Source,
    /// Whom the answer is for; none for a key of nobody.
    pub person: Option<Person>,
    /// What the caller is called: a login, or the id of a key of nobody.
    pub name: String,
    /// The administrator who acts as `person`.
    pub acting: Option<String>,
    pub administrator: bool,
    /// Whether this credential opens the person's secrets.
    pub opens: bool,
    /// What the log calls a credential that opens nothing, as somebody else may have it: it does not say who asks.
    pub doubted: Option<String>,
    /// The hash of the key that this rests on.
    pub key: Option<String>,
    /// When the ticket ends that this rests on.
    pub ends: Option<i64>,
    /// The session that this rests on.
    pub session: Option<Session>,
    /// The application that asks for this person, by the headers of their browser.
    pub application: Option<Application>,
    /// Whether it is the owner of the store, on its own machine, who has the root key.
    pub owner: bool,
    from: String,
    claims: Vec<(String, String)>,
}

/// What a caller may say of itself, for the log: nobody vouches for it.
const CLAIMS: [(&str, &str); 5] = [
    ("x-dkusecrets-script", "script"),
    ("x-dkusecrets-kind", "kind"),
    ("x-dkusecrets-project", "project"),
    ("x-dkusecrets-commit", "commit"),
    ("x-forwarded-for", "forwarded for"),
];

impl Caller {
    /// The person who is asking; a key of nobody is not one.
    pub fn someone(&self) -> Result<&Person> {
        self.person
            .as_ref()
            .ok_or_else(|| Problem::not_allowed("this API key belongs to no user, who alone has secrets"))
    }

    /// The person whose secrets this credential opens.
    pub fn opener(&self) -> Result<&Person> {
        let person = self.someone()?;
        if !self.opens {
            return Err(Problem::not_allowed(
                "this credential was made by somebody else and opens no secret until its owner confirms it: dkusecrets key confirm, or dkusecrets password confirm",
            ));
        }
        Ok(person)
    }

    pub fn administrator(&self) -> Result<()> {
        if self.administrator {
            return Ok(());
        }
        Err(Problem::not_allowed("only administrators may do that"))
    }

    /// Refuses changes by a credential that somebody else may have. A key of nobody is its maker's, and says so.
    pub fn changer(&self) -> Result<()> {
        if self.person.is_none() || self.opens { Ok(()) } else { self.opener().map(drop) }
    }

    /// Whoever is signed in in a browser.
    pub fn of_session(viewer: Viewer, headers: &HeaderMap, peer: Peer) -> Caller {
        Caller {
            source: Source::Session,
            administrator: viewer.doubted.is_none() && viewer.person.is_administrator(),
            name: viewer.person.login.clone(),
            person: Some(viewer.person),
            acting: None,
            opens: viewer.doubted.is_none(),
            doubted: viewer.doubted,
            key: None,
            ends: None,
            session: Some(viewer.session),
            application: None,
            owner: false,
            from: peer.to_string(),
            claims: claims(headers),
        }
    }

    /// The same, asking for the person that a browser's session stands for.
    pub fn for_viewer(&self, viewer: Viewer, application: Application) -> Caller {
        Caller {
            source: Source::Session,
            name: viewer.person.login.clone(),
            ends: Some(viewer.session.ends()),
            opens: viewer.doubted.is_none(),
            doubted: viewer.doubted,
            person: Some(viewer.person),
            session: Some(viewer.session),
            acting: Some(self.name.clone()),
            application: Some(application),
            key: self.key.clone(),
            administrator: false,
            owner: false,
            from: self.from.clone(),
            claims: self.claims.clone(),
        }
    }

    /// An event of this caller's, about `about` or, without any, about the caller.
    pub fn event(&self, action: &str, about: &[Id], names: Vec<String>) -> Event {
        let own: Vec<Id> = self.person.iter().map(|person| person.id).collect();
        let other = self.acting.as_ref().or(self.doubted.as_ref());
        Event {
            who: other.unwrap_or(&self.name).clone(),
            behalf: other.map(|_| self.name.clone()),
            from: self.from.clone(),
            names: names.into_iter().map(shortened).collect(),
            claims: self.claims.clone(),
            ..event(shorten(action), if about.is_empty() { &own } else { about })
        }
    }
}

/// The longest name that an event tells, in bytes: what may be a name is not longer.
const MOST_NAME: usize = 1024;
/// The longest action: a path may be as long as a header.
const MOST_ACTION: usize = 200;

fn shortened(mut name: String) -> String {
    name.truncate(name.floor_char_boundary(MOST_NAME));
    name
}

fn shorten(action: &str) -> &str {
    &action[..action.floor_char_boundary(MOST_ACTION)]
}

/// Somebody who is signed in.
#[derive(Debug)]
pub struct Viewer {
    pub person: Person,
    pub session: Session,
    /// See [`Caller::doubted`].
    pub doubted: Option<String>,
}

/// Why somebody was refused, and what the log is told of it.
pub struct Refused {
    pub problem: Problem,
    pub event: Option<Box<Event>>,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Refused {
        Refused { problem, event: None }
    }
}

/// Finds out who is asking. What is refused is to be in the log before it is answered.
///
/// `may_appear`: whether somebody of this machine who comes for the first time becomes one of the people by that.
pub fn authenticate(
    server: &Server,
    method: &Method,
    headers: &HeaderMap,
    peer: Peer,
    may_appear: bool,
) -> std::result::Result<Caller, Refused> {
    let found = who(server, method, headers, peer, may_appear).and_then(|caller| acting_as(server, headers, caller));
    found.map_err(|problem| {
        server.metrics.refused(problem.kind);
        let refused = Event {
            who: "nobody".into(),
            from: peer.to_string(),
            names: Vec::new(),
            outcome: problem.kind.into(),
            claims: claims(headers),
            ..event("refused", &[])
        };
        Refused { problem, event: server.refusal(refused).map(Box::new) }
    })
}

fn who(server: &Server, method: &Method, headers: &HeaderMap, peer: Peer, may_appear: bool) -> Result<Caller> {
    let caller = |source, name: &str, person: Option<Person>, doubted: Option<String>| Caller {
        source,
        administrator: doubted.is_none() && person.as_ref().is_some_and(Person::is_administrator),
        name: name.into(),
        opens: doubted.is_none() && person.is_some(),
        person,
        acting: None,
        doubted,
        key: None,
        ends: None,
        session: None,
        application: None,
        owner: false,
        from: peer.to_string(),
        claims: claims(headers),
    };
    if let Some(ticket) = headers.get("x-dku-apiticket") {
        let presented = Zeroizing::new(ticket.to_str().unwrap_or_default().to_owned());
        let ticket = server.ticket(&presented);
        let ticket = ticket.ok_or_else(|| Problem::not_authenticated("Unknown or expired ticket"))?;
        let person = enabled(server, &ticket.login, ticket.person, "Unknown or expired ticket")?;
        let opens = rests_on(server, &ticket)?;
        let opens = opens.ok_or_else(|| Problem::not_authenticated("Unknown or expired ticket"))?;
        let doubted = (!ticket.confirmed || !opens).then(|| format!("ticket {}", ticket.id));
        return Ok(Caller {
            acting: ticket.behalf,
            key: ticket.key,
            session: ticket.session,
            application: ticket.application,
            ends: Some(ticket.expires),
            administrator: false,
            ..caller(Source::Ticket, &ticket.login, Some(person), doubted)
        });
    }
    if let Some(authorization) = headers.get(header::AUTHORIZATION) {
        let unknown = || Problem::not_authenticated("Unknown API Key");
        let presented = authorization.to_str().ok().and_then(presented_key).ok_or_else(unknown)?;
        let key = people::key(&server.store, &presented)?.ok_or_else(unknown)?;
        if key.expires.is_some_and(|end| end <= now()) {
            return Err(unknown());
        }
        return match &key.user {
            Some(login) => {
                let owner = key.person.ok_or_else(unknown)?;
                let person = enabled(server, login, owner, "Unknown API Key")?;
                let hash = Some(people::hash(&presented));
                let doubted = (!key.confirmed).then(|| format!("key {}, made by {}", key.id, key.created_by));
                Ok(Caller { key: hash, ..caller(Source::Key, login, Some(person), doubted) })
            }
            None => Ok(Caller {
                administrator: key.administrator,
                key: Some(people::hash(&presented)),
                ..caller(Source::Key, &key.id, None, None)
            }),
        };
    }
    if let Some(token) = server.cookies(headers).session()? {
        if !is_same_origin(headers) {
            return Err(Problem::not_allowed(
                "a session is for the pages of this server, and what its browser does for others is refused: use an API key",
            ));
        }
        let viewer = sign_in::viewer(server, token, true)?;
        let viewer = viewer.ok_or_else(|| Problem::not_authenticated("this session has ended: sign in again"))?;
        let safe = *method == Method::GET || *method == Method::HEAD;
        let shown = headers.get("x-dkusecrets-csrf").and_then(|shown| shown.to_str().ok()).unwrap_or_default();
        if !safe && !viewer.session.is_csrf(shown) {
            return Err(Problem::not_allowed(
                "what a session changes needs its token in X-Dkusecrets-Csrf: GET /dkusecrets/v1/session tells it",
            ));
        }
        return Ok(Caller::of_session(viewer, headers, peer));
    }
    match peer {
        Peer::Process { uid, .. } => {
            // Whoever the kernel cannot tell is not the owner, whoever the owner is.
            let owner = uid != OVERFLOW && uid == vault::effective_user();
            match by_kernel(server, uid, may_appear) {
                Ok(person) => {
                    let name = person.login.clone();
                    Ok(Caller { owner, ..caller(Source::Kernel, &name, Some(person), None) })
                }
                // Whoever has the root key need not be one of the people.
                Err(_) if owner => Ok(Caller { owner, ..caller(Source::Kernel, &format!("uid-{uid}"), None, None) }),
                Err(problem) => Err(problem),
            }
        }
        Peer::Network(_) => Err(Problem::not_authenticated(
            "no credential: give an API key as user name (Basic) or Bearer token, or a ticket in X-DKU-APITicket",
        )),
    }
}

/// The person a user id stands for, who may appear by this.
fn by_kernel(server: &Server, uid: u32, may_appear: bool) -> Result<Person> {
    let account = account(uid)?;
    if let Some(person) = people::person_of_uid(&server.store, uid)? {
        // A user id that was given to another account since.
        if person.login != account {
            return Err(Problem::not_allowed(format!(
                "user id {uid} is {account} on this machine and {} here: an administrator has to sort that out",
                person.login
            )));
        }
        return if person.enabled { Ok(person) } else { Err(Problem::not_allowed("this user is disabled")) };
    }
    let not_linked = || {
        Problem::not_allowed(format!(
            "there is a user {account} here who is not known by a user id of this machine: an administrator can link them (dkusecrets user link)"
        ))
    };
    if people::person(&server.store, &account)?.is_some() {
        return Err(not_linked());
    }
    if !may_appear || !server.settings().people_appear || !people::rules(&server.store)?.add_on_contact {
        return Err(Problem::not_allowed(format!("there is no user {account} here: an administrator can add one")));
    }
    server.change(|change| {
        // Somebody else's first contact may have been faster.
        if let Some(person) = people::person_of_uid(change, uid)? {
            return Ok(person);
        }
        if people::person(change, &account)?.is_some() {
            return Err(not_linked());
        }
        let mut person = people::add(change, &account)?;
        people::link(change, &mut person, uid)?;
        change.record(Event {
            who: account.clone(),
            from: format!("uid {uid}"),
            names: vec![account.clone()],
            ..event("user appeared", &[person.id])
        });
        Ok(person)
    })
}

/// What the kernel says where it has no user id to tell (user_namespaces(7)).
const OVERFLOW: u32 = 65_534;

/// The name of the account that has a user id, of those that may be people: not the kernel's overflow id, not a service,
/// and with an entry in the list of accounts. Root is himself.
pub fn account(uid: u32) -> Result<String> {
    // login.defs(5) gives people ids from UID_MIN, 1000 unless it was changed.
    const FIRST_PERSON: u32 = 1000;
    if uid == OVERFLOW {
        return Err(Problem::not_allowed(
            "user id 65534 stands for all that the kernel cannot tell: nobody is known by it",
        ));
    }
    if uid != 0 && uid < FIRST_PERSON {
        return Err(Problem::not_allowed(format!("user id {uid} is a service's, not a person's")));
    }
    match nix::unistd::User::from_uid(uid.into()) {
        Ok(Some(user)) => Ok(user.name),
        Ok(None) => Err(Problem::not_allowed(format!("user id {uid} has no account on this machine"))),
        Err(_) => Err(Problem::unavailable("the list of accounts cannot be read")),
    }
}

/// Whether a ticket that was not revoked still stands for its person.
pub fn stands(server: &Server, ticket: &Ticket) -> bool {
    enabled(server, &ticket.login, ticket.person, "").is_ok() && matches!(rests_on(server, ticket), Ok(Some(_)))
}

/// Whether what a ticket was asked for with still holds (the key, the session, and the right to act for somebody else),
/// and whether it opens secrets.
fn rests_on(server: &Server, ticket: &Ticket) -> Result<Option<bool>> {
    let mut opens = true;
    let key = match &ticket.key {
        None => None,
        Some(hash) => match people::key_of_hash(&server.store, hash)? {
            Some(key) if key.expires.is_none_or(|end| end > now()) => Some(key),
            _ => return Ok(None),
        },
    };
    if let Some(key) = key.filter(|key| ticket.behalf.is_none() && key.user.is_some()) {
        opens = key.confirmed;
    }
    if let Some(session) = &ticket.session {
        let session = server.sessions.of_id(&session.id, now());
        match session.map(|session| sign_in::who_is(server, session)).transpose()?.flatten() {
            Some(viewer) if ticket.behalf.is_none() || ticket.application.is_some() => opens = viewer.doubted.is_none(),
            Some(_) => {}
            None => return Ok(None),
        }
    }
    let Some(acting) = &ticket.behalf else { return Ok(Some(opens)) };
    let rules = people::rules(&server.store)?;
    if let Some(application) = &ticket.application {
        let there = match application {
            Application::Person(id) => people::person(&server.store, acting)?.is_some_and(|p| p.enabled && p.id == *id),
            // Looked at above.
            Application::Key(_) => true,
        };
        return Ok((there && rules.header_callers.contains(application)).then_some(opens));
    }
    let administrator = people::person(&server.store, acting)?.is_some_and(|p| p.enabled && p.is_administrator());
    let key_of_nobody = people::keys(&server.store)?.iter().any(|(_, key)| key.id == *acting && key.administrator);
    Ok(((administrator || key_of_nobody) && rules.allow_impersonation).then_some(opens))
}

/// Whether a browser says that one of our own pages asks. Whoever says nothing of it is no browser, or an old one.
pub fn is_same_origin(headers: &HeaderMap) -> bool {
    origin(headers) == Some(true)
}

/// The same, if the browser says anything.
pub fn origin(headers: &HeaderMap) -> Option<bool> {
    let told = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = told("sec-fetch-site") {
        return Some(site == "same-origin");
    }
    let origin = told("origin")?;
    let host = told("host").unwrap_or_default();
    Some(origin.split_once("://").is_some_and(|(_, authority)| !host.is_empty() && authority == host))
}

/// The address that somebody comes from, whose budget their guesses are taken from. What a proxy says of it counts where
/// there is one: its own word is the last.
pub fn address(server: &Server, headers: &HeaderMap, peer: Peer) -> Option<IpAddr> {
    let Peer::Network(peer) = peer else { return None };
    if !server.is_behind_proxy() {
        return Some(peer.ip());
    }
    let told = headers.get_all("x-forwarded-for").iter().next_back().and_then(|last| last.to_str().ok());
    told.and_then(|all| all.rsplit(',').next()?.trim().parse().ok()).or(Some(peer.ip()))
}

fn enabled(server: &Server, login: &str, id: Id, otherwise: &str) -> Result<Person> {
    let person = people::person(&server.store, login)?.filter(|person| person.enabled && person.id == id);
    person.ok_or_else(|| Problem::not_authenticated(otherwise))
}

/// An administrator acts as somebody else, where the rules allow it.
fn acting_as(server: &Server, headers: &HeaderMap, caller: Caller) -> Result<Caller> {
    let Some(login) = headers.get("x-dku-proxyuser") else { return Ok(caller) };
    // As oneself everybody acts anyway.
    if caller.person.as_ref().is_some_and(|person| person.login.as_bytes() == login.as_bytes()) {
        return Ok(caller);
    }
    let refused = || Problem::not_allowed("acting as another user is not allowed here");
    if !caller.administrator || !people::rules(&server.store)?.allow_impersonation {
        return Err(refused());
    }
    let login = login.to_str().map_err(|_| refused())?;
    let person = people::person(&server.store, login)?.filter(|person| person.enabled).ok_or_else(refused)?;
    Ok(Caller {
        administrator: person.is_administrator(),
        acting: Some(caller.name),
        name: person.login.clone(),
        person: Some(person),
        opens: true,
        doubted: None,
        owner: false,
        ..caller
    })
}

/// The key in an Authorization header: a bearer, or one half of Basic while the other is empty.
fn presented_key(header: &str) -> Option<Zeroizing<String>> {
    let (scheme, rest) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Zeroizing::new(rest.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = Zeroizing::new(STANDARD.decode(rest.trim()).ok()?);
    match std::str::from_utf8(&decoded).ok()?.split_once(':')? {
        (key, "") | ("", key) if !key.is_empty() => Some(Zeroizing::new(key.to_owned())),
        _ => None,
    }
}

pub fn claims(headers: &HeaderMap) -> Vec<(String, String)> {
    let claim = |(header, name): &(&str, &str)| {
        let says: String = headers.get(*header)?.to_str().ok()?.chars().take(200).collect();
        Some(((*name).to_owned(), says))
    };
    CLAIMS.iter().filter_map(claim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_headers() {
        let key = |header: &str| presented_key(header).map(|key| key.to_string());
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        assert_eq!(key(&basic("dkuaps-x:")).unwrap(), "dkuaps-x");
        assert_eq!(key(&basic(":dkuaps-x")).unwrap(), "dkuaps-x");
        assert_eq!(key("bearer dkuaps-x").unwrap(), "dkuaps-x");
        for bad in [&basic("a:b"), &basic(":"), &basic("none"), "Basic !", "Basic", "Digest x", ""] {
            assert!(key(bad).is_none(), "{bad}");
        }
    }
}
