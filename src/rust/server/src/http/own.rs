//! Our own routes, `/dkusecrets/v1`: what R does with a vault, done here for the person who asks. Names of secrets come in
//! bodies, so that they are in no log of addresses.
use super::auth::{self, exposed};
use super::route::Done;
use super::{Answer, Input};
use crate::commands::{self, Command, EventShown, TicketShown};
use crate::identity::Caller;
use crate::problem::{Problem, Result};
use crate::server::Server;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use vault::Change;
use zeroize::Zeroizing;

/// Which secret is meant.
#[derive(Deserialize, JsonSchema)]
pub struct Named {
    name: String,
}

/// A secret to be stored.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "WantedSecret")]
pub struct Setting {
    name: String,
    #[schemars(with = "String")]
    value: Zeroizing<String>,
    #[serde(default)]
    description: Option<String>,
    /// A day, as in 2031-12-31, or null for none; absent for as it is.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<String>")]
    expires: Option<Option<String>>,
    /// The version that it has to have now; 0 for a name that is not there.
    #[serde(default)]
    if_version: Option<u64>,
}

/// What is to be said of a secret.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "WantedDescription")]
pub struct Describing {
    name: String,
    #[serde(default)]
    description: Option<String>,
    /// A day, as in 2031-12-31, or null for none; absent for as it is.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<String>")]
    expires: Option<Option<String>>,
    #[serde(default)]
    if_version: Option<u64>,
}

/// Which secret is to be removed.
#[derive(Deserialize, JsonSchema)]
pub struct Removal {
    name: String,
    #[serde(default)]
    if_version: Option<u64>,
}

/// Which secret is to be restored, and which version of it.
#[derive(Deserialize, JsonSchema)]
pub struct Restoration {
    name: String,
    #[serde(default)]
    version: Option<u64>,
}

/// Which secret is to have which name.
#[derive(Deserialize, JsonSchema)]
pub struct Renaming {
    name: String,
    new_name: String,
}

/// Tells null from absent.
fn present<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Option<String>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// The same for the vault.
fn change_of(description: Option<String>, expires: Option<&Option<String>>, if_version: Option<u64>) -> Result<Change> {
    let day = |day: &String| days::parse(day).ok_or_else(|| Problem::bad("expires is a day, as in 2031-12-31"));
    let expires = expires.map(|expires| expires.as_ref().map(day).transpose()).transpose()?;
    Ok(Change { description, expires, if_version })
}

fn day(expires: Option<i32>) -> Option<String> {
    expires.map(days::format)
}

/// Who is asking, and whom.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ServerInfo {
    version: &'static str,
    /// A login, or the id of a key of nobody.
    login: String,
    store: String,
    administrator: bool,
    /// Whether this credential opens the person's secrets.
    opens: bool,
}

pub fn info(server: &Server, caller: &Caller, _: &Input) -> Answer<ServerInfo> {
    Ok(ServerInfo {
        version: env!("CARGO_PKG_VERSION"),
        login: caller.name.clone(),
        store: server.store.info().id,
        administrator: caller.administrator,
        opens: caller.opens,
    })
}

#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Secrets {
    secrets: Vec<Summary>,
}

/// A secret without its value.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Summary {
    name: String,
    description: String,
    version: u64,
    /// Times are in milliseconds since 1970.
    created: i64,
    updated: i64,
    /// A day, as in 2031-12-31.
    expires: Option<String>,
    removed: Option<i64>,
}

pub fn list(server: &Server, caller: &Caller, _: &Input) -> Answer<Secrets> {
    let all = server.store.list(&caller.opener()?.id)?;
    let one = |secret: vault::Summary| Summary {
        name: secret.name,
        description: secret.description,
        version: secret.version,
        created: secret.created,
        updated: secret.updated,
        expires: day(secret.expires),
        removed: secret.removed,
    };
    Ok(Secrets { secrets: all.into_iter().map(one).collect() })
}

/// A secret with its value.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Secret {
    name: String,
    #[serde(serialize_with = "exposed")]
    #[schemars(with = "String")]
    value: vault::Value,
    version: u64,
    /// A day, as in 2031-12-31.
    expires: Option<String>,
    expired: bool,
}

pub fn get(server: &Server, caller: &Caller, input: &Input<Named>) -> Answer<Secret> {
    let (person, asked) = (caller.opener()?, input.json()?);
    match server.store.get(&person.id, &asked.name) {
        Ok(secret) => {
            input.tell(caller.event("read", &[], vec![secret.name.clone()]));
            Ok(Secret {
                name: secret.name,
                value: secret.value,
                version: secret.version,
                expires: day(secret.expires),
                expired: secret.expired,
            })
        }
        Err(e) => {
            let event = caller.event("read", &[], vec![asked.name.chars().take(255).collect()]);
            input.tell(vault::Event { outcome: e.kind().into(), ..event });
            Err(e.into())
        }
    }
}

/// The version that a secret has now.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Current {
    version: u64,
}

pub fn set(server: &Server, caller: &Caller, input: &Input<Setting>) -> Answer<Current> {
    let (person, asked) = (caller.opener()?, input.json()?);
    let value = vault::Value::new(asked.value.as_bytes())?;
    let wanted = change_of(asked.description, asked.expires.as_ref(), asked.if_version)?;
    let version = server.change(|change| {
        change.record(caller.event("set", &[], vec![asked.name.clone()]));
        Ok(change.set(&person.id, &asked.name, &value, &wanted)?)
    })?;
    Ok(Current { version })
}

pub fn describe(server: &Server, caller: &Caller, input: &Input<Describing>) -> Answer<Done> {
    let (person, asked) = (caller.opener()?, input.json()?);
    let wanted = change_of(asked.description, asked.expires.as_ref(), asked.if_version)?;
    server.change(|change| {
        change.record(caller.event("described", &[], vec![asked.name.clone()]));
        Ok(change.describe(&person.id, &asked.name, &wanted)?)
    })?;
    Ok(Done {})
}

pub fn remove(server: &Server, caller: &Caller, input: &Input<Removal>) -> Answer<Done> {
    let (person, asked) = (caller.opener()?, input.json()?);
    server.change(|change| {
        change.record(caller.event("removed", &[], vec![asked.name.clone()]));
        Ok(change.remove(&person.id, &asked.name, asked.if_version)?)
    })?;
    Ok(Done {})
}

pub fn restore(server: &Server, caller: &Caller, input: &Input<Restoration>) -> Answer<Current> {
    let (person, asked) = (caller.opener()?, input.json()?);
    let version = server.change(|change| {
        change.record(caller.event("restored", &[], vec![asked.name.clone()]));
        Ok(change.restore(&person.id, &asked.name, asked.version)?)
    })?;
    Ok(Current { version })
}

pub fn rename(server: &Server, caller: &Caller, input: &Input<Renaming>) -> Answer<Done> {
    let (person, asked) = (caller.opener()?, input.json()?);
    server.change(|change| {
        change.record(caller.event("renamed", &[], vec![asked.name.clone(), asked.new_name.clone()]));
        Ok(change.rename(&person.id, &asked.name, &asked.new_name)?)
    })?;
    Ok(Done {})
}

/// How many versions were destroyed.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Purged {
    purged: u64,
}

pub fn purge(server: &Server, caller: &Caller, input: &Input<Named>) -> Answer<Purged> {
    let (person, asked) = (caller.opener()?, input.json()?);
    let purged = server.change(|change| {
        change.record(caller.event("purged", &[], vec![asked.name.clone()]));
        Ok(change.purge(&person.id, &asked.name)?)
    })?;
    Ok(Purged { purged })
}

#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Versions {
    versions: Vec<Version>,
}

/// A version of a secret, without its value.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Version {
    version: u64,
    /// In milliseconds since 1970.
    created: i64,
    /// A day, as in 2031-12-31.
    expires: Option<String>,
    current: bool,
}

pub fn versions(server: &Server, caller: &Caller, input: &Input<Named>) -> Answer<Versions> {
    let (person, asked) = (caller.opener()?, input.json()?);
    let all = server.store.versions(&person.id, &asked.name)?;
    let one = |v: &vault::Version| Version {
        version: v.version,
        created: v.created,
        expires: day(v.expires),
        current: v.current,
    };
    Ok(Versions { versions: all.iter().map(one).collect() })
}

#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Events {
    events: Vec<EventShown>,
}

/// One's own events, newest first.
pub fn audit(server: &Server, caller: &Caller, input: &Input) -> Answer<Events> {
    let person = caller.opener()?;
    let most = input.count("limit").unwrap_or(1000).min(100_000);
    let all = server.store.events_about(&person.id, most)?;
    Ok(Events { events: all.into_iter().map(|(number, event)| EventShown::new(number, event)).collect() })
}

#[derive(Deserialize, JsonSchema)]
pub struct KeyId {
    id: String,
}

pub fn confirm_key(server: &Server, caller: &Caller, input: &Input<KeyId>) -> Answer<Done> {
    auth::confirm(server, caller, &input.json()?.id)?;
    Ok(Done {})
}

#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TicketOfRun {
    id: String,
    #[schemars(with = "String")]
    ticket: Zeroizing<String>,
    login: String,
}

/// One's own tickets, never the tickets themselves.
pub fn tickets(server: &Server, caller: &Caller, _: &Input) -> Answer<Vec<TicketShown>> {
    let me = caller.someone()?.id;
    Ok(server.tickets().into_iter().filter(|ticket| ticket.person == me).map(TicketShown::from).collect())
}

/// A ticket with an id, by which it can be revoked when the run it is for ends.
pub fn issue_ticket(server: &Server, caller: &Caller, input: &Input) -> Answer<TicketOfRun> {
    let person = caller.someone()?;
    let (id, ticket) = server.issue_ticket(caller, person)?;
    input.tell(caller.event("ticket", &[], Vec::new()));
    Ok(TicketOfRun { id, ticket, login: person.login.clone() })
}

pub fn revoke_ticket(server: &Server, caller: &Caller, input: &Input) -> Answer<Done> {
    let person = caller.someone()?;
    if !server.revoke_ticket(input.part("id"), &person.login) {
        return Err(Problem::not_found("there is no such ticket of yours"));
    }
    input.tell(caller.event("ticket revoked", &[], Vec::new()));
    Ok(Done {})
}

/// A command of the store's owner, who would otherwise open the store himself.
pub fn command(server: &Server, caller: &Caller, input: &Input<Command>) -> Answer<Value> {
    if !caller.owner {
        return Err(Problem::not_allowed("only the owner of the store may do that, on its own machine"));
    }
    commands::run(server, &input.json()?)
}

/// Days as people write them (ISO 8601), and as they are stored: counted from 1970-01-01.
pub mod days {
    use time::{Date, Month};

    /// The Julian day (astronomers' count) of 1970-01-01.
    const EPOCH: i32 = 2_440_588;

    pub fn parse(text: &str) -> Option<i32> {
        let [year, month, day] = text.split('-').collect::<Vec<_>>()[..] else { return None };
        if (year.len(), month.len(), day.len()) != (4, 2, 2) || !text.bytes().all(|b| b == b'-' || b.is_ascii_digit()) {
            return None;
        }
        let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
        let date = Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()?;
        Some(date.to_julian_day() - EPOCH)
    }

    pub fn format(days: i32) -> String {
        match days.checked_add(EPOCH).and_then(|day| Date::from_julian_day(day).ok()) {
            Some(date) => format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day()),
            // Further away than a calendar goes.
            None => if days < 0 { "0000-01-01" } else { "9999-12-31" }.into(),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn days() {
            for (text, days) in [
                ("1970-01-01", 0),
                ("2000-02-29", 11_016),
                ("2031-12-31", 22_644),
                ("1969-12-31", -1),
                ("9999-12-31", 2_932_896),
            ] {
                assert_eq!(parse(text), Some(days), "{text}");
                assert_eq!(format(days), text);
            }
            let bad = ["2001-02-29", "2000-13-01", "2000-00-10", "2000-1-1", "20000-01-01", "x", "", "+200-01-01"];
            assert!(bad.iter().all(|text| parse(text).is_none()));
            assert_eq!((format(i32::MAX), format(i32::MIN)), ("9999-12-31".into(), "0000-01-01".into()));
        }
    }
}
