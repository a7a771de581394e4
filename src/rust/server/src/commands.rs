//! What the owner of a store does with it, as a request and an answer in JSON: the program runs them itself, or asks the
//! server that has the store open. Either way it is the same function.
use crate::identity;
use crate::people::{self, ApiKey, Application, Group, Person};
use crate::problem::{Problem, Result};
use crate::server::{Server, Ticket, event, now};
use crate::sign_in;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use vault::{Event, Store};

/// A command of the store's owner.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// The first people of a new store.
    Begin {
        admin: String,
        uid: Option<u32>,
        allow_impersonation: bool,
        url: Option<String>,
    },
    UserAdd {
        login: String,
        groups: Vec<String>,
    },
    UserList,
    UserRemove {
        login: String,
    },
    UserGroups {
        login: String,
        groups: Vec<String>,
    },
    UserLink {
        login: String,
        uid: u32,
    },
    /// A link by which somebody sets their password.
    UserInvite {
        login: String,
        url: Option<String>,
    },
    GroupAdd {
        name: String,
        description: String,
    },
    GroupList,
    KeyCreate {
        user: String,
        label: String,
        expires: Option<i64>,
    },
    KeyList {
        user: Option<String>,
    },
    KeyRevoke {
        id: String,
    },
    TicketList {
        user: Option<String>,
    },
    TicketRevoke {
        id: String,
    },
    RuleList,
    RuleImpersonation {
        allow: bool,
    },
    /// Whether an application may ask for its viewers: a login, or the id of a key.
    RuleHeaders {
        application: String,
        allow: bool,
    },
    AuditList {
        most: usize,
    },
    AuditVerify,
    Verify,
    Status,
    Config,
}

/// Runs a command; what it has done is in the log.
pub fn run(server: &Server, command: &Command) -> Result<Value> {
    match command {
        Command::Begin { admin, uid, allow_impersonation, url } => server.change(|change| {
            let description = "Who is here manages people, groups and keys".to_owned();
            people::save_group(change, &Group { name: people::ADMINISTRATORS.into(), description })?;
            let rules = people::Rules { allow_impersonation: *allow_impersonation, ..people::Rules::default() };
            people::save_rules(change, &rules)?;
            let mut person = people::add(change, admin)?;
            person.groups = vec![people::ADMINISTRATORS.into()];
            people::save(change, &person)?;
            if let Some(uid) = uid {
                people::link(change, &mut person, *uid)?;
            }
            change.record(owner("store made", &[person.id], vec![admin.clone()]));
            let code = sign_in::invite(change, &person, OWNER, uid.is_some())?;
            let mut made = person_json(&person);
            made["link"] = link(server, url.as_deref(), &code).into();
            Ok(made)
        }),
        Command::UserAdd { login, groups } => server.change(|change| {
            let mut person = people::add(change, login)?;
            person.groups.clone_from(groups);
            people::save(change, &person)?;
            change.record(owner("user added", &[person.id], vec![login.clone()]));
            Ok(person_json(&person))
        }),
        Command::UserList => Ok(people::everybody(&server.store)?.iter().map(person_json).collect()),
        Command::UserRemove { login } => {
            server.change(|change| {
                let person = people::present(change, login)?;
                change.record(owner("user removed", &[person.id], vec![login.clone()]));
                people::remove(change, &person)
            })?;
            Ok(json!({ "removed": login }))
        }
        Command::UserGroups { login, groups } => server.change(|change| {
            let mut person = people::present(change, login)?;
            person.groups.clone_from(groups);
            people::save(change, &person)?;
            change.record(owner("user changed", &[person.id], vec![login.clone()]));
            Ok(person_json(&person))
        }),
        Command::UserLink { login, uid } => server.change(|change| {
            // Who comes with it is asked for the same.
            let account = identity::account(*uid)?;
            if account != *login {
                return Err(Problem::bad(format!(
                    "user id {uid} is {account} on this machine: {login} would be refused with it"
                )));
            }
            let mut person = people::present(change, login)?;
            people::link(change, &mut person, *uid)?;
            change.record(owner("user linked", &[person.id], vec![login.clone(), format!("uid {uid}")]));
            Ok(person_json(&person))
        }),
        Command::UserInvite { login, url } => server.change(|change| {
            let person = people::present(change, login)?;
            let code = sign_in::invite(change, &person, OWNER, person.uid == Some(vault::effective_user()))?;
            change.record(owner("link made", &[person.id], vec![login.clone()]));
            Ok(json!({
                "login": login,
                "link": link(server, url.as_deref(), &code),
                "expires": change.now() + sign_in::LINK_MS,
            }))
        }),
        Command::GroupAdd { name, description } => server.change(|change| {
            if people::group(change, name)?.is_some() {
                return Err(Problem::exists(format!("the group {name} already exists")));
            }
            people::save_group(change, &Group { name: name.clone(), description: description.clone() })?;
            change.record(owner("group added", &[], vec![name.clone()]));
            Ok(json!({ "name": name }))
        }),
        Command::GroupList => {
            let all = people::groups(&server.store)?;
            Ok(all.iter().map(|group| json!({ "name": group.name, "description": group.description })).collect())
        }
        Command::KeyCreate { user, label, expires } => key_create(server, user, label, *expires),
        Command::KeyList { user } => {
            let all = people::keys(&server.store)?;
            let wanted = all.iter().filter(|(_, key)| user.is_none() || key.user == *user);
            Ok(wanted.map(|(hash, key)| json!(crate::http::described(server, hash, key))).collect())
        }
        Command::KeyRevoke { id } => {
            let found = people::keys(&server.store)?.into_iter().find(|(_, key)| key.id == *id);
            let (hash, key) = found.ok_or_else(|| Problem::not_found(format!("there is no API key {id}")))?;
            server.change(|change| {
                let about: Vec<people::Id> = key.person.into_iter().collect();
                change.record(owner("key revoked", &about, vec![id.clone()]));
                people::remove_key(change, &hash)
            })?;
            Ok(json!({ "revoked": id }))
        }
        Command::TicketList { user } => {
            let all = server.tickets();
            let shown = all.into_iter().filter(|ticket| user.as_ref().is_none_or(|user| ticket.login == *user));
            Ok(shown.map(|ticket| json!(TicketShown::from(ticket))).collect())
        }
        Command::TicketRevoke { id } => {
            let ticket = server.tickets().into_iter().find(|ticket| ticket.id == *id);
            let ticket = ticket.ok_or_else(|| Problem::not_found(format!("there is no ticket {id}")))?;
            server.record(owner("ticket revoked", &[ticket.person], vec![id.clone()]))?;
            server.revoke_ticket(id, &ticket.login);
            Ok(json!({ "revoked": id }))
        }
        Command::RuleList => rules_json(&server.store),
        Command::RuleImpersonation { allow } => {
            server.change(|change| {
                let rules = people::rules(change)?;
                people::save_rules(change, &people::Rules { allow_impersonation: *allow, ..rules })?;
                let action = if *allow { "acting as others allowed" } else { "acting as others forbidden" };
                change.record(owner(action, &[], Vec::new()));
                Ok(())
            })?;
            rules_json(&server.store)
        }
        Command::RuleHeaders { application, allow } => {
            server.change(|change| {
                let (named, about) = application_named(change, application)?;
                let mut rules = people::rules(change)?;
                rules.header_callers.retain(|other| *other != named);
                if *allow {
                    rules.header_callers.push(named);
                }
                people::save_rules(change, &rules)?;
                let action = if *allow { "asking for viewers allowed" } else { "asking for viewers forbidden" };
                change.record(owner(action, &about, vec![application.clone()]));
                Ok(())
            })?;
            rules_json(&server.store)
        }
        Command::AuditList { most } => {
            let all = server.store.events(*most)?;
            Ok(all.into_iter().map(|(number, event)| json!(EventShown::new(number, event))).collect())
        }
        Command::AuditVerify => Ok(json!({ "events": server.store.verify_events()?, "verified": true })),
        Command::Verify => Ok(json!({ "values": server.store.verify()?, "verified": true })),
        Command::Config => {
            let rules = people::rules(&server.store)?;
            let mut all = server.settings().listed();
            // What grants something lies where only its owner and administrators write.
            for (name, value) in [
                ("allow-impersonation", json!(rules.allow_impersonation)),
                ("add-on-contact", json!(rules.add_on_contact)),
                ("header-callers", header_callers(&server.store, &rules)?),
            ] {
                all.push(json!({ "setting": name, "value": value, "from": "store" }));
            }
            Ok(all.into())
        }
        Command::Status => {
            let info = server.store.info();
            Ok(json!({
                "version": env!("CARGO_PKG_VERSION"),
                "store": info.id,
                "database": info.database,
                "users": people::everybody(&server.store)?.len(),
                "keys": people::keys(&server.store)?.len(),
                "events": info.events,
                "allow_impersonation": people::rules(&server.store)?.allow_impersonation,
            }))
        }
    }
}

/// An event of the owner's.
fn owner(action: &str, about: &[people::Id], names: Vec<String>) -> Event {
    Event { who: OWNER.into(), from: format!("uid {}", vault::effective_user()), names, ..event(action, about) }
}

/// Accepts a store that was put back from a backup.
pub fn accept_restore(data: &Path, even_damaged: bool) -> Result<Value> {
    let accepted = Store::accept_restore(data, even_damaged, owner("restore accepted", &[], Vec::new()))?;
    Ok(match accepted {
        None => json!({ "accepted": false }),
        Some(restored) => json!({
            "accepted": true,
            "people_with_older_secrets": restored.older,
            "people_whose_secrets_are_damaged": restored.damaged,
            "last_event": restored.events.0,
            "last_event_seen": restored.events.1,
        }),
    })
}

/// The address of the page that sets a password. What is behind the # is the secret: browsers keep it to themselves, so
/// it is in no log of a server or proxy and in no Referer. Without knowing where the server will be found, it is a path.
fn link(server: &Server, url: Option<&str>, code: &str) -> String {
    let known = server.address.get().filter(|_| !server.is_secure()).map(|address| format!("http://{address}"));
    let base = url.map(str::to_owned).or(known).unwrap_or_default();
    format!("{}/link#{code}", base.trim_end_matches('/'))
}

/// The application of that name, and whom it is about.
fn application_named(from: &impl people::Documents, name: &str) -> Result<(Application, Vec<people::Id>)> {
    if let Some(person) = people::person(from, name)? {
        return Ok((Application::Person(person.id), vec![person.id]));
    }
    let key = people::keys(from)?.into_iter().map(|(_, key)| key).find(|key| key.id == name);
    let key = key.ok_or_else(|| Problem::not_found(format!("there is neither a user nor an API key {name}")))?;
    Ok((Application::Key(key.id), key.person.into_iter().collect()))
}

fn rules_json(store: &Store) -> Result<Value> {
    let rules = people::rules(store)?;
    Ok(json!({
        "allow_impersonation": rules.allow_impersonation,
        "add_on_contact": rules.add_on_contact,
        "header_callers": header_callers(store, &rules)?,
    }))
}

/// Which applications may ask for their viewers, by login or the id of a key.
fn header_callers(store: &Store, rules: &people::Rules) -> Result<Value> {
    let people = people::everybody(store)?;
    let named = |application: &Application| match application {
        Application::Person(id) => people.iter().find(|person| person.id == *id).map(|person| person.login.clone()),
        Application::Key(id) => Some(id.clone()),
    };
    Ok(rules.header_callers.iter().filter_map(named).collect())
}

/// A ticket as it is listed: never the ticket itself.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TicketShown {
    id: String,
    login: String,
    behalf: Option<String>,
    /// In milliseconds since 1970, as `expires`.
    created: i64,
    expires: i64,
    /// Whether it opens secrets.
    opens: bool,
}

impl From<Ticket> for TicketShown {
    fn from(ticket: Ticket) -> TicketShown {
        TicketShown {
            id: ticket.id,
            login: ticket.login,
            behalf: ticket.behalf,
            created: ticket.created,
            expires: ticket.expires,
            opens: ticket.confirmed,
        }
    }
}

/// What the log calls whoever has the root key.
const OWNER: &str = "the owner of the store";

/// A key that the owner of the store makes for somebody: it opens nothing until they confirm it, unless acting as others
/// is allowed, or they are the owner.
fn key_create(server: &Server, user: &str, label: &str, expires: Option<i64>) -> Result<Value> {
    let person = server.person(user)?;
    let own = person.uid == Some(vault::effective_user());
    let confirmed = own || people::rules(&server.store)?.allow_impersonation;
    let key = ApiKey {
        id: people::random_text(16)?,
        user: Some(user.into()),
        person: Some(person.id),
        label: label.into(),
        description: String::new(),
        created_on: now(),
        created_by: OWNER.into(),
        expires,
        confirmed,
        by_rule: confirmed && !own,
        administrator: false,
        last_used: None,
    };
    let text = server.change(|change| {
        change.record(owner("key made", &[person.id], vec![key.id.clone()]));
        people::add_key(change, &key)
    })?;
    Ok(json!({ "id": key.id, "user": user, "label": label, "confirmed": confirmed, "key": text.as_str() }))
}

fn person_json(person: &Person) -> Value {
    json!({
        "login": person.login,
        "displayName": person.display_name,
        "groups": person.groups,
        "enabled": person.enabled,
        "uid": person.uid,
    })
}

/// An event as it is shown.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Event", deny_unknown_fields)]
pub struct EventShown {
    seq: u64,
    /// In milliseconds since 1970.
    time: i64,
    who: String,
    /// Whose credential was used, if `who` acted as somebody else.
    behalf: Option<String>,
    from: String,
    action: String,
    /// Names of secrets, keys or people, whichever it is about.
    names: Vec<String>,
    outcome: String,
    /// What the caller said of itself.
    claims: BTreeMap<String, String>,
}

impl EventShown {
    pub fn new(seq: u64, event: Event) -> EventShown {
        let Event { time, who, behalf, from, action, names, outcome, claims, .. } = event;
        EventShown { seq, time, who, behalf, from, action, names, outcome, claims: claims.into_iter().collect() }
    }
}
