//! Our own routes, `/dkusecrets/v1`: what R does with a vault, done here for the person who asks. Names of secrets come in
//! bodies, so that they are in no log of addresses.
use super::auth;
use super::{Answer, Input};
use crate::commands;
use crate::identity::Caller;
use crate::problem::{Problem, Result};
use crate::server::Server;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use vault::{Change, Summary, Version};
use zeroize::Zeroizing;

/// What a request says of a secret; each route looks at what it needs.
#[derive(Deserialize)]
struct Asked {
    name: String,
    #[serde(default)]
    new_name: Option<String>,
    #[serde(default)]
    value: Option<Zeroizing<String>>,
    #[serde(default)]
    description: Option<String>,
    /// A day, or null for none; absent for as it is.
    #[serde(default, deserialize_with = "present")]
    expires: Option<Option<String>>,
    #[serde(default)]
    version: Option<u64>,
    #[serde(default)]
    if_version: Option<u64>,
}

/// Tells null from absent.
fn present<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Option<String>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl Asked {
    fn change(&self) -> Result<Change> {
        let expires = match &self.expires {
            None => None,
            Some(None) => Some(None),
            Some(Some(day)) => {
                Some(Some(days::parse(day).ok_or_else(|| Problem::bad("expires is a day, as in 2031-12-31"))?))
            }
        };
        Ok(Change { description: self.description.clone(), expires, if_version: self.if_version })
    }
}

fn day(expires: Option<i32>) -> Value {
    expires.map_or(Value::Null, |day| days::format(day).into())
}

pub fn info(server: &Server, caller: &Caller, _: &Input) -> Answer {
    let info = server.store.info();
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "login": caller.name,
        "store": info.id,
        "administrator": caller.administrator,
        "opens": caller.opens,
    }))
}

pub fn list(server: &Server, caller: &Caller, _: &Input) -> Answer {
    let all = server.store.list(&caller.opener()?.id)?;
    let one = |secret: &Summary| {
        json!({
            "name": secret.name,
            "description": secret.description,
            "version": secret.version,
            "created": secret.created,
            "updated": secret.updated,
            "expires": day(secret.expires),
            "removed": secret.removed,
        })
    };
    Ok(json!({ "secrets": all.iter().map(one).collect::<Value>() }))
}

pub fn get(server: &Server, caller: &Caller, input: &Input) -> Answer {
    let (person, asked) = (caller.opener()?, input.json::<Asked>()?);
    match server.store.get(&person.id, &asked.name) {
        Ok(secret) => {
            server.record(caller.event("read", &[], vec![secret.name.clone()]))?;
            Ok(json!({
                "name": secret.name,
                "value": secret.value.expose(),
                "version": secret.version,
                "expires": day(secret.expires),
                "expired": secret.expired,
            }))
        }
        Err(e) => {
            let event = caller.event("read", &[], vec![asked.name.chars().take(255).collect()]);
            server.record(vault::Event { outcome: e.kind().into(), ..event })?;
            Err(e.into())
        }
    }
}

pub fn set(server: &Server, caller: &Caller, input: &Input) -> Answer {
    let (person, asked) = (caller.opener()?, input.json::<Asked>()?);
    let value = asked.value.as_ref().ok_or_else(|| Problem::bad("value is missing"))?;
    let (value, wanted) = (vault::Value::new(value.as_bytes())?, asked.change()?);
    let version = server.change(|change| {
        change.record(caller.event("set", &[], vec![asked.name.clone()]));
        Ok(change.set(&person.id, &asked.name, &value, &wanted)?)
    })?;
    Ok(json!({ "version": version }))
}

pub fn describe(server: &Server, caller: &Caller, input: &Input) -> Answer {
    let (person, asked) = (caller.opener()?, input.json::<Asked>()?);
    let wanted = asked.change()?;
    server.change(|change| {
        change.record(caller.event("described", &[], vec![asked.name.clone()]));
        Ok(change.describe(&person.id, &asked.name, &wanted)?)
    })?;
    Ok(json!({}))
}

pub fn remove(server: &Server, caller: &Caller, input: &Input) -> Answer {
    let (person, asked) = (caller.opener()?, input.json::<Asked>()?);
    server.change(|change| {
        change.record(caller.event("removed", &[], vec![asked.name.clone()]));
        Ok(change.remove(&person.id, &asked.name, asked.if_version)?)
    })?;
    Ok(json!({}))
}

pub fn restore(server: &Server, caller: &Caller, input: &Input) -> Answer {
    let (person, asked) = (caller.opener()?, input.json::<Asked>()?);
    let version = server.change(|change| {
        change.record(caller.event("restored", &[], vec![asked.name.clone()]));
        Ok(change.restore(&person.id, &asked.name, asked.version)?)
    })?;
    Ok(json!({ "version": version }))
}

pub fn rename(server: &Server, caller: &Caller, input: &Input) -> Answer {
    let (person, asked) = (caller.opener()?, input.json::<Asked>()?);
    let new_name = asked.new_name.as_ref().ok_or_else(|| Problem::bad("new_name is missing"))?;
    server.change(|change| {
        change.record(caller.event("renamed", &[], vec![asked.name.clone(), new_name.clone()]));
        Ok(change.rename(&person.id, &asked.name, new_name)?)
    })?;
    Ok(json!({}))
}

pub fn purge(server: &Server, caller: &Caller, input: &Input) -> Answer {
    let (person, asked) = (caller.opener()?, input.json::<Asked>()?);
    let purged = server.change(|change| {
        change.record(caller.event("purged", &[], vec![asked.name.clone()]));
        Ok(change.purge(&person.id, &asked.name)?)
    })?;
    Ok(json!({ "purged": purged }))
}

pub fn versions(server: &Server, caller: &Caller, input: &Input) -> Answer {
    let (person, asked) = (caller.opener()?, input.json::<Asked>()?);
    let all = server.store.versions(&person.id, &asked.name)?;
    let one = |v: &Version| json!({ "version": v.version, "created": v.created, "expires": day(v.expires), "current": v.current });
    Ok(json!({ "versions": all.iter().map(one).collect::<Value>() }))
}

/// One's own events, newest first.
pub fn audit(server: &Server, caller: &Caller, input: &Input) -> Answer {
    let person = caller.opener()?;
    let most = input.number("limit")?.unwrap_or(1000).min(100_000);
    let all = server.store.events_about(&person.id, most)?;
    Ok(json!({ "events": all.iter().map(|(number, event)| commands::event_json(*number, event)).collect::<Value>() }))
}

#[derive(Deserialize)]
struct KeyId {
    id: String,
}

pub fn confirm_key(server: &Server, caller: &Caller, input: &Input) -> Answer {
    auth::confirm(server, caller, &input.json::<KeyId>()?.id)?;
    Ok(json!({}))
}

/// One's own tickets, never the tickets themselves.
pub fn tickets(server: &Server, caller: &Caller, _: &Input) -> Answer {
    let me = caller.someone()?.id;
    Ok(server.tickets().iter().filter(|ticket| ticket.person == me).map(commands::ticket_json).collect())
}

/// A ticket with an id, by which it can be revoked when the run it is for ends.
pub fn issue_ticket(server: &Server, caller: &Caller, _: &Input) -> Answer {
    let person = caller.someone()?;
    let (id, ticket) = server.issue_ticket(caller, person)?;
    server.record(caller.event("ticket", &[], Vec::new()))?;
    Ok(json!({ "id": id, "ticket": ticket.as_str(), "login": person.login }))
}

pub fn revoke_ticket(server: &Server, caller: &Caller, input: &Input) -> Answer {
    let person = caller.someone()?;
    if !server.revoke_ticket(input.part("id"), &person.login) {
        return Err(Problem::not_found("there is no such ticket of yours"));
    }
    server.record(caller.event("ticket revoked", &[], Vec::new()))?;
    Ok(json!({}))
}

/// A command of the store's owner, who would otherwise open the store himself.
pub fn command(server: &Server, caller: &Caller, input: &Input) -> Answer {
    if !caller.owner {
        return Err(Problem::not_allowed("only the owner of the store may do that, on its own machine"));
    }
    commands::run(server, &input.json()?)
}

/// Days as people write them (ISO 8601), and as they are stored: counted from 1970-01-01.
mod days {
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
