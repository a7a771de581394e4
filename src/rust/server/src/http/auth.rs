//! Who one is, with one's secrets; one's own tickets and keys.
use super::{Answer, DSS_VERSION, Input};
use crate::identity::{Caller, Source};
use crate::people::{self, ApiKey, Person};
use crate::problem::{Problem, Result};
use crate::server::{Server, now};
use serde::Deserialize;
use serde_json::{Value, json};

/// `GET /auth/info`: in DSS's words.
pub fn info(server: &Server, caller: &Caller, input: &Input) -> Answer {
    let source = match caller.source {
        Source::Key => "PERSONAL_API_KEY",
        Source::Ticket => "TICKET",
        Source::Kernel => "OS_USER",
        Source::Session => "SESSION",
    };
    let via: Vec<&String> = caller.acting.iter().collect();
    let Some(person) = &caller.person else {
        return Ok(json!({ "authSource": source, "via": via, "authIdentifier": caller.name }));
    };
    let mut info = json!({
        "authSource": source,
        "via": via,
        "authIdentifier": person.login,
        "groups": person.groups,
        "userProfile": person.profile,
        "associatedDSSUser": person.login,
        "userForImpersonation": person.login,
    });
    if input.flag("withSecrets") {
        let person = caller.opener()?;
        let all = server.store.get_all(&person.id)?;
        let names = all.iter().map(|secret| secret.name.clone()).collect();
        server.record(caller.event("read all", &[], names))?;
        let one = |secret: &vault::Secret| json!({ "key": secret.name, "value": secret.value.expose() });
        info["secrets"] = all.iter().map(one).collect();
    }
    Ok(info)
}

/// `POST /auth/ticket`: a ticket that is what the caller is.
pub fn ticket(server: &Server, caller: &Caller, _: &Input) -> Answer {
    let person = caller.someone()?;
    let (_, ticket) = server.issue_ticket(caller, person)?;
    server.record(caller.event("ticket", &[], Vec::new()))?;
    Ok(json!({ "ticket": ticket.as_str() }))
}

/// `GET /instance-info`.
pub fn instance(server: &Server, _: &Caller, _: &Input) -> Answer {
    Ok(json!({
        "dssVersion": DSS_VERSION,
        "nodeId": server.store.info().id,
        "nodeName": "dkusecrets",
        "nodeType": "DESIGN",
    }))
}

/// A key as it is listed: never the key itself.
pub fn described(key: &ApiKey) -> Value {
    json!({
        "id": key.id,
        "user": key.user,
        "label": key.label,
        "description": key.description,
        "createdOn": key.created_on,
        "createdBy": key.created_by,
        "expiresOn": key.expires,
        "confirmed": key.confirmed,
    })
}

/// What is said of a key that is to be made or changed.
#[derive(Default, Deserialize)]
pub struct Wanted {
    #[serde(default)]
    pub label: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    /// In milliseconds since 1970.
    #[serde(default, rename = "expiresOn")]
    pub expires: Option<i64>,
    /// Whose it is to be, for administrators.
    #[serde(default)]
    pub user: Option<String>,
}

impl Wanted {
    /// A new key of `user`, made by the caller.
    pub fn key(&self, user: Option<&Person>, made_by: &Caller, confirmed: bool) -> Result<ApiKey> {
        if self.expires.is_some_and(|end| end <= now()) {
            return Err(Problem::bad("expiresOn is over already"));
        }
        Ok(ApiKey {
            id: people::random_text(16)?,
            user: user.map(|person| person.login.clone()),
            person: user.map(|person| person.id),
            label: self.label.clone().unwrap_or_default(),
            description: self.description.clone().unwrap_or_default(),
            created_on: now(),
            created_by: made_by.acting.clone().unwrap_or_else(|| made_by.name.clone()),
            expires: self.expires,
            confirmed,
            administrator: false,
        })
    }
}

/// Stores a new key, and answers with it for the only time.
pub fn store_key(server: &Server, caller: &Caller, key: &ApiKey) -> Answer {
    let text = server.change(|change| {
        let about: Vec<people::Id> = key.person.into_iter().collect();
        change.record(caller.event("key made", &about, vec![key.id.clone()]));
        people::add_key(change, key)
    })?;
    let mut made = described(key);
    made["key"] = text.as_str().into();
    Ok(made)
}

/// One of the caller's own keys, with its hash. Somebody else's is as one that is not there.
fn own(server: &Server, caller: &Caller, id: &str) -> Result<(String, ApiKey)> {
    let me = caller.someone()?.id;
    let found = people::keys(&server.store)?.into_iter().find(|(_, key)| key.id == id && key.person == Some(me));
    found.ok_or_else(|| Problem::not_found(format!("there is no personal API key {id} of yours")))
}

pub fn keys(server: &Server, caller: &Caller, _: &Input) -> Answer {
    let me = caller.someone()?.id;
    let all = people::keys(&server.store)?;
    Ok(all.iter().filter(|(_, key)| key.person == Some(me)).map(|(_, key)| described(key)).collect())
}

/// A key can do what its owner can: who has a credential that opens nothing makes keys that open nothing.
pub fn create_key(server: &Server, caller: &Caller, input: &Input) -> Answer {
    let person = caller.someone()?;
    if caller.acting.is_some() || caller.ends.is_some() {
        return Err(Problem::not_allowed(
            "a ticket, and whoever acts as somebody else, makes no key: it would outlive them",
        ));
    }
    let mut wanted = if input.body.is_empty() { Wanted::default() } else { input.json::<Wanted>()? };
    wanted.label = wanted.label.or_else(|| input.query.get("label").cloned());
    let key = wanted.key(Some(person), caller, caller.opens)?;
    store_key(server, caller, &key)
}

pub fn key(server: &Server, caller: &Caller, input: &Input) -> Answer {
    Ok(described(&own(server, caller, input.part("id"))?.1))
}

/// Only label and description change.
pub fn save_key(server: &Server, caller: &Caller, input: &Input) -> Answer {
    let (hash, _) = own(server, caller, input.part("id"))?;
    let wanted: Wanted = input.json()?;
    let key = server.change(|change| {
        let key = people::edit_key(change, &hash, |key| {
            key.label = wanted.label.unwrap_or(std::mem::take(&mut key.label));
            key.description = wanted.description.unwrap_or(std::mem::take(&mut key.description));
        })?;
        change.record(caller.event("key described", &[], vec![key.id.clone()]));
        Ok(key)
    })?;
    Ok(described(&key))
}

pub fn delete_key(server: &Server, caller: &Caller, input: &Input) -> Answer {
    let (hash, key) = own(server, caller, input.part("id"))?;
    server.change(|change| {
        change.record(caller.event("key revoked", &[], vec![key.id.clone()]));
        people::remove_key(change, &hash)
    })?;
    Ok(json!({}))
}

/// Says that a key which somebody else has made for the caller is to open the caller's secrets.
pub fn confirm(server: &Server, caller: &Caller, id: &str) -> Result<()> {
    caller.opener()?;
    if caller.acting.is_some() {
        return Err(Problem::not_allowed("only the owner of a key confirms it, and nobody who acts as the owner"));
    }
    let (hash, _) = own(server, caller, id)?;
    server.change(|change| {
        let key = people::edit_key(change, &hash, |key| key.confirmed = true)?;
        change.record(caller.event("key confirmed", &[], vec![key.id]));
        Ok(())
    })
}
