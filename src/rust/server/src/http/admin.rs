//! What administrators do: people, groups, and keys of others. Making a key for somebody else is acting as them, so what
//! is made opens no secret until they confirm it, unless the rules allow acting as others.
use super::auth::{Wanted, described, store_key};
use super::settings::{edit_json, sign_out_disabled};
use super::{Answer, Input};
use crate::identity::Caller;
use crate::password::{Password, Place};
use crate::people::{self, ApiKey, Group, Person};
use crate::problem::{Problem, Result};
use crate::server::Server;
use crate::sign_in;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// A person as lists have them.
fn listed(person: &Person) -> Value {
    json!({
        "login": person.login,
        "displayName": person.display_name,
        "email": person.email,
        "groups": person.groups,
        "sourceType": "LOCAL",
        "userProfile": person.profile,
        "enabled": person.enabled,
    })
}

pub fn list(server: &Server, caller: &Caller, _: &Input) -> Answer {
    caller.administrator()?;
    Ok(people::everybody(&server.store)?.iter().map(listed).collect())
}

/// `GET /users`: for administrators too, as whether somebody is here is not everybody's business.
pub fn infos(server: &Server, caller: &Caller, input: &Input) -> Answer {
    list(server, caller, input)
}

pub fn info(server: &Server, caller: &Caller, input: &Input) -> Answer {
    let login = input.part("login");
    if caller.person.as_ref().is_none_or(|person| person.login != login) {
        caller.administrator()?;
    }
    Ok(listed(&server.person(login)?))
}

/// A user to be made. A password that comes in the same document opens no secret until the person changes or confirms it.
#[derive(Deserialize)]
struct NewUser {
    login: String,
    #[serde(default, rename = "displayName")]
    display_name: Option<String>,
    #[serde(default, deserialize_with = "people::null_as_default")]
    groups: Vec<String>,
    #[serde(default, rename = "userProfile")]
    profile: Option<String>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    password: Option<Zeroizing<String>>,
}

fn add(server: &Server, caller: &Caller, wanted: &NewUser) -> Result<Person> {
    let password = wanted.password.as_ref().filter(|password| !password.is_empty());
    let hash = password.map(|text| server.hasher.hash(&Password::new(text)?, Place::Known)).transpose()?;
    server.change(|change| {
        let mut person = people::add(change, &wanted.login)?;
        person.display_name = wanted.display_name.clone().unwrap_or(person.display_name);
        person.email = wanted.email.clone().unwrap_or_default();
        person.profile = wanted.profile.clone().unwrap_or(person.profile);
        person.groups.clone_from(&wanted.groups);
        people::save(change, &person)?;
        if let Some(hash) = hash {
            sign_in::first_password(change, &person, hash, &caller.name)?;
        }
        change.record(caller.event("user added", &[person.id], vec![person.login.clone()]));
        Ok(person)
    })
}

pub fn create(server: &Server, caller: &Caller, input: &Input) -> Answer {
    caller.administrator()?;
    let person = add(server, caller, &input.json()?)?;
    Ok(json!({ "msg": format!("Created user {}", person.login) }))
}

pub fn delete(server: &Server, caller: &Caller, input: &Input) -> Answer {
    caller.administrator()?;
    remove(server, caller, input.part("login"), input.flag("allowSelfDeletion"))?;
    Ok(json!({}))
}

fn remove(server: &Server, caller: &Caller, login: &str, even_self: bool) -> Result<()> {
    server.person(login)?;
    if caller.name == login && !even_self {
        return Err(Problem::bad("that is yourself: allowSelfDeletion says that it is meant"));
    }
    server.change(|change| {
        let person = people::present(change, login)?;
        change.record(caller.event("user removed", &[person.id], vec![login.into()]));
        people::remove(change, &person)
    })
}

fn outcome(login: &str, done: Result<()>) -> Value {
    match done {
        Ok(()) => json!({ "login": login, "status": "SUCCESS" }),
        Err(problem) => json!({ "login": login, "status": "FAILURE", "error": problem.message }),
    }
}

/// One after the other: one that fails leaves the others be.
pub fn create_many(server: &Server, caller: &Caller, input: &Input) -> Answer {
    caller.administrator()?;
    let all: Vec<NewUser> = input.json()?;
    Ok(all.iter().map(|wanted| outcome(&wanted.login, add(server, caller, wanted).map(drop))).collect())
}

pub fn edit_many(server: &Server, caller: &Caller, input: &Input) -> Answer {
    caller.administrator()?;
    let all: Vec<Value> = input.json()?;
    let one = |document: &Value| {
        let login = document["login"].as_str().unwrap_or_default();
        let changed = server.change(|change| {
            let person = edit_json(change, login, document)?;
            change.record(caller.event("user changed", &[person.id], vec![login.into()]));
            Ok(person)
        });
        outcome(login, changed.map(|person| sign_out_disabled(server, &person)))
    };
    Ok(all.iter().map(one).collect())
}

pub fn delete_many(server: &Server, caller: &Caller, input: &Input) -> Answer {
    caller.administrator()?;
    let all: Vec<String> = input.json()?;
    let even_self = input.flag("allowSelfDeletion");
    Ok(all.iter().map(|login| outcome(login, remove(server, caller, login, even_self))).collect())
}

fn active(server: &Server, login: &str) -> Value {
    let activity = server.activity(login);
    json!({
        "login": login,
        "lastSuccessfulLogin": activity.success,
        "lastFailedLogin": activity.failure,
        "lastSessionActivity": activity.success,
    })
}

pub fn activity(server: &Server, caller: &Caller, input: &Input) -> Answer {
    caller.administrator()?;
    Ok(active(server, &server.person(input.part("login"))?.login))
}

pub fn activities(server: &Server, caller: &Caller, _: &Input) -> Answer {
    caller.administrator()?;
    Ok(people::everybody(&server.store)?.iter().map(|person| active(server, &person.login)).collect())
}

fn group_listed(group: &Group) -> Value {
    json!({ "name": group.name, "description": group.description, "sourceType": "LOCAL" })
}

pub fn groups(server: &Server, caller: &Caller, _: &Input) -> Answer {
    caller.administrator()?;
    Ok(people::groups(&server.store)?.iter().map(group_listed).collect())
}

fn find_group(server: &Server, name: &str) -> Result<Group> {
    people::group(&server.store, name)?.ok_or_else(|| Problem::not_found(format!("there is no group {name}")))
}

pub fn group(server: &Server, caller: &Caller, input: &Input) -> Answer {
    caller.administrator()?;
    Ok(group_listed(&find_group(server, input.part("name"))?))
}

pub fn create_group(server: &Server, caller: &Caller, input: &Input) -> Answer {
    caller.administrator()?;
    let group: Group = input.json()?;
    server.change(|change| {
        if people::group(change, &group.name)?.is_some() {
            return Err(Problem::exists(format!("the group {} already exists", group.name)));
        }
        change.record(caller.event("group added", &[], vec![group.name.clone()]));
        people::save_group(change, &group)
    })?;
    Ok(group_listed(&group))
}

/// Only the description changes: a name stays.
pub fn save_group(server: &Server, caller: &Caller, input: &Input) -> Answer {
    caller.administrator()?;
    let mut group = find_group(server, input.part("name"))?;
    group.description = input.json::<Group>()?.description;
    server.change(|change| {
        change.record(caller.event("group changed", &[], vec![group.name.clone()]));
        people::save_group(change, &group)
    })?;
    Ok(group_listed(&group))
}

pub fn delete_group(server: &Server, caller: &Caller, input: &Input) -> Answer {
    caller.administrator()?;
    let group = find_group(server, input.part("name"))?;
    server.change(|change| {
        change.record(caller.event("group removed", &[], vec![group.name.clone()]));
        people::remove_group(change, &group.name)
    })?;
    Ok(json!({}))
}

pub fn all_keys(server: &Server, caller: &Caller, _: &Input) -> Answer {
    caller.administrator()?;
    let all = people::keys(&server.store)?;
    Ok(all.iter().filter(|(_, key)| key.user.is_some()).map(|(_, key)| described(key)).collect())
}

pub fn create_key_for(server: &Server, caller: &Caller, input: &Input) -> Answer {
    caller.administrator()?;
    let wanted: Wanted = input.json()?;
    let login = wanted.user.clone().ok_or_else(|| Problem::bad("user: whose key is it to be?"))?;
    let person = server.person(&login)?;
    let own = caller.person.as_ref().is_some_and(|caller| caller.id == person.id) && caller.opens;
    let confirmed = own || people::rules(&server.store)?.allow_impersonation;
    store_key(server, caller, &wanted.key(Some(&person), caller, confirmed)?)
}

pub fn delete_any_key(server: &Server, caller: &Caller, input: &Input) -> Answer {
    caller.administrator()?;
    remove_key(server, caller, input.part("id"), true)
}

fn remove_key(server: &Server, caller: &Caller, id: &str, of_user: bool) -> Answer {
    let (hash, key) = find_key(server, id, of_user)?;
    server.change(|change| {
        let about: Vec<people::Id> = key.person.into_iter().collect();
        change.record(caller.event("key revoked", &about, vec![id.into()]));
        people::remove_key(change, &hash)
    })?;
    Ok(json!({}))
}

fn find_key(server: &Server, id: &str, of_user: bool) -> Result<(String, ApiKey)> {
    let found = people::keys(&server.store)?.into_iter().find(|(_, key)| key.id == id && key.user.is_some() == of_user);
    found.ok_or_else(|| Problem::not_found(format!("there is no API key {id}")))
}

/// A key of nobody, as an administrator sees it.
fn global(key: &ApiKey) -> Value {
    let mut all = described(key);
    all["globalAllowEverything"] = key.administrator.into();
    all["globalPermissions"] = json!({ "admin": key.administrator });
    all
}

pub fn global_keys(server: &Server, caller: &Caller, _: &Input) -> Answer {
    caller.administrator()?;
    let all = people::keys(&server.store)?;
    Ok(all.iter().filter(|(_, key)| key.user.is_none()).map(|(_, key)| global(key)).collect())
}

#[derive(Deserialize)]
struct NewGlobal {
    #[serde(flatten)]
    wanted: Wanted,
    #[serde(default, rename = "globalPermissions")]
    permissions: Option<Value>,
}

impl NewGlobal {
    fn is_administrator(&self) -> Option<bool> {
        self.permissions.as_ref().map(|permissions| permissions["admin"] == true)
    }
}

pub fn create_global_key(server: &Server, caller: &Caller, input: &Input) -> Answer {
    caller.administrator()?;
    let new: NewGlobal = input.json()?;
    let administrator = new.is_administrator().unwrap_or(false);
    let key = ApiKey { administrator, ..new.wanted.key(None, caller, false)? };
    store_key(server, caller, &key)
}

pub fn global_key(server: &Server, caller: &Caller, input: &Input) -> Answer {
    caller.administrator()?;
    Ok(global(&find_key(server, input.part("id"), false)?.1))
}

pub fn save_global_key(server: &Server, caller: &Caller, input: &Input) -> Answer {
    caller.administrator()?;
    let new: NewGlobal = input.json()?;
    let (hash, _) = find_key(server, input.part("id"), false)?;
    let key = server.change(|change| {
        let key = people::edit_key(change, &hash, |key| {
            key.administrator = new.is_administrator().unwrap_or(key.administrator);
            key.label = new.wanted.label.unwrap_or(std::mem::take(&mut key.label));
            key.description = new.wanted.description.unwrap_or(std::mem::take(&mut key.description));
        })?;
        change.record(caller.event("key changed", &[], vec![key.id.clone()]));
        Ok(key)
    })?;
    Ok(global(&key))
}

pub fn delete_global_key(server: &Server, caller: &Caller, input: &Input) -> Answer {
    caller.administrator()?;
    remove_key(server, caller, input.part("id"), false)
}

/// `POST /admin/audit/custom/{type}`: what an administrator's program wants in the log.
pub fn custom_event(server: &Server, caller: &Caller, input: &Input) -> Answer {
    caller.administrator()?;
    let says: String = String::from_utf8_lossy(&input.body).chars().take(1000).collect();
    let mut event = caller.event("custom", &[], vec![input.part("type").chars().take(200).collect()]);
    event.claims.push(("custom".into(), says));
    server.record(event)?;
    Ok(json!({}))
}
