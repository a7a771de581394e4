//! What administrators do: people, groups, and keys of others. Making a key for somebody else is acting as them, so what
//! is made opens no secret until they confirm it, unless the rules allow acting as others.
use super::auth::{Described, NewKey, Wanted, described, store_key};
use super::route::{Done, Object};
use super::settings::{Document, edit, sign_out_disabled};
use super::{Answer, Input};
use crate::identity::Caller;
use crate::password::{Hash, Password, Place};
use crate::people::{self, ApiKey, Group, Person};
use crate::problem::{Problem, Result};
use crate::server::Server;
use crate::sign_in;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vault::Transaction;
use zeroize::Zeroizing;

/// A person as lists have them.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "User", deny_unknown_fields)]
pub struct Listed {
    login: String,
    display_name: String,
    email: String,
    groups: Vec<String>,
    source_type: &'static str,
    user_profile: String,
    enabled: bool,
}

fn listed(person: Person) -> Listed {
    Listed {
        login: person.login,
        display_name: person.display_name,
        email: person.email,
        groups: person.groups,
        source_type: "LOCAL",
        user_profile: person.profile,
        enabled: person.enabled,
    }
}

pub fn list(server: &Server, caller: &Caller, _: &Input) -> Answer<Vec<Listed>> {
    caller.administrator()?;
    Ok(people::everybody(&server.store)?.into_iter().map(listed).collect())
}

/// `GET /users`: for administrators too, as whether somebody is here is not everybody's business.
pub fn infos(server: &Server, caller: &Caller, input: &Input) -> Answer<Vec<Listed>> {
    list(server, caller, input)
}

pub fn info(server: &Server, caller: &Caller, input: &Input) -> Answer<Listed> {
    let login = input.part("login");
    if caller.person.as_ref().is_none_or(|person| person.login != login) {
        caller.administrator()?;
    }
    Ok(listed(server.person(login)?))
}

/// A user to be made. A password that comes in the same document opens no secret until the person changes or confirms it.
#[derive(Deserialize, JsonSchema)]
pub struct NewUser {
    login: String,
    #[serde(default, rename = "displayName")]
    display_name: Option<String>,
    #[serde(default, deserialize_with = "people::null_as_default")]
    #[schemars(with = "Option<Vec<String>>")]
    groups: Vec<String>,
    #[serde(default, rename = "userProfile")]
    profile: Option<String>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    password: Option<Zeroizing<String>>,
}

impl NewUser {
    fn password(&self) -> Option<&str> {
        self.password.as_ref().map(|password| password.as_str()).filter(|password| !password.is_empty())
    }

    /// Hashing takes its time: it is done before the change that others wait for.
    fn hash(&self, server: &Server, caller: &Caller) -> Result<Option<Hash>> {
        // All keys of nobody together.
        let place = Place::Own(caller.person.as_ref().map_or([0; 16], |person| person.id));
        self.password().map(|text| server.hasher.hash(&Password::new(text)?, place)).transpose()
    }
}

fn add(change: &mut Transaction, caller: &Caller, wanted: &NewUser, hash: Option<Hash>) -> Result<Person> {
    let refused = || caller.event("user added", &[], vec![wanted.login.clone()]);
    let mut person = people::add(change, &wanted.login).inspect_err(|_| change.record(refused()))?;
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
}

#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Message {
    msg: String,
}

pub fn create(server: &Server, caller: &Caller, input: &Input<NewUser>) -> Answer<Message> {
    caller.administrator()?;
    let wanted = input.json()?;
    let hash = wanted.hash(server, caller)?;
    let person = server.change(|change| add(change, caller, &wanted, hash))?;
    Ok(Message { msg: format!("Created user {}", person.login) })
}

pub fn delete(server: &Server, caller: &Caller, input: &Input) -> Answer<Done> {
    caller.administrator()?;
    remove(server, caller, input.part("login"), input.flag("allowSelfDeletion"))?;
    Ok(Done {})
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

/// How it went with one of many.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Outcome {
    login: String,
    status: Ended,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum Ended {
    Success,
    Failure,
}

fn outcome(login: &str, done: Result<()>) -> Outcome {
    let (status, error) = match done {
        Ok(()) => (Ended::Success, None),
        Err(problem) => (Ended::Failure, Some(problem.message)),
    };
    Outcome { login: login.into(), status, error }
}

/// One that fails leaves the others be: they are added together, or one after the other where one fails.
pub fn create_many(server: &Server, caller: &Caller, input: &Input<Vec<Object<NewUser>>>) -> Answer<Vec<Outcome>> {
    caller.administrator()?;
    let mut outcomes = Vec::new();
    for some in input.json()?.chunks(AT_ONCE) {
        let all = || {
            server.try_change(|change| some.iter().try_for_each(|Object(new)| add(change, caller, new, None).map(drop)))
        };
        let together = some.iter().all(|Object(new)| new.password().is_none()) && all().is_ok();
        let alone = |new: &NewUser| {
            let hash = new.hash(server, caller)?;
            server.change(|change| add(change, caller, new, hash).map(drop))
        };
        outcomes.extend(some.iter().map(|Object(new)| outcome(&new.login, if together { Ok(()) } else { alone(new) })));
    }
    Ok(outcomes)
}

/// How many are added in one change: others wait as long as it takes.
const AT_ONCE: usize = 100;

/// A user's settings, and whose they are.
#[derive(Deserialize, JsonSchema)]
pub struct EditedUser {
    login: String,
    #[serde(flatten)]
    document: Document,
}

pub fn edit_many(server: &Server, caller: &Caller, input: &Input<Vec<Object<EditedUser>>>) -> Answer<Vec<Outcome>> {
    caller.administrator()?;
    let all = input.json()?;
    let one = |Object(EditedUser { login, document }): &Object<EditedUser>| {
        let changed = server.change(|change| {
            let person = edit(change, login, document)?;
            change.record(caller.event("user changed", &[person.id], vec![login.clone()]));
            Ok(person)
        });
        outcome(login, changed.map(|person| sign_out_disabled(server, &person)))
    };
    Ok(all.iter().map(one).collect())
}

pub fn delete_many(server: &Server, caller: &Caller, input: &Input<Vec<String>>) -> Answer<Vec<Outcome>> {
    caller.administrator()?;
    let all = input.json()?;
    let even_self = input.flag("allowSelfDeletion");
    Ok(all.iter().map(|login| outcome(login, remove(server, caller, login, even_self))).collect())
}

/// When somebody was here, in milliseconds since 1970; 0 for never.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Activity", deny_unknown_fields)]
pub struct Active {
    login: String,
    last_successful_login: i64,
    last_failed_login: i64,
    last_session_activity: i64,
}

fn active(server: &Server, person: Person) -> Active {
    let activity = server.activity(&person.login);
    Active {
        login: person.login,
        last_successful_login: activity.success,
        last_failed_login: activity.failure,
        last_session_activity: activity.success,
    }
}

pub fn activity(server: &Server, caller: &Caller, input: &Input) -> Answer<Active> {
    caller.administrator()?;
    Ok(active(server, server.person(input.part("login"))?))
}

pub fn activities(server: &Server, caller: &Caller, _: &Input) -> Answer<Vec<Active>> {
    caller.administrator()?;
    Ok(people::everybody(&server.store)?.into_iter().map(|person| active(server, person)).collect())
}

/// A group as lists have them.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct GroupListed {
    name: String,
    description: String,
    source_type: &'static str,
}

fn group_listed(group: Group) -> GroupListed {
    GroupListed { name: group.name, description: group.description, source_type: "LOCAL" }
}

pub fn groups(server: &Server, caller: &Caller, _: &Input) -> Answer<Vec<GroupListed>> {
    caller.administrator()?;
    Ok(people::groups(&server.store)?.into_iter().map(group_listed).collect())
}

fn find_group(server: &Server, name: &str) -> Result<Group> {
    people::group(&server.store, name)?.ok_or_else(|| Problem::not_found(format!("there is no group {name}")))
}

pub fn group(server: &Server, caller: &Caller, input: &Input) -> Answer<GroupListed> {
    caller.administrator()?;
    Ok(group_listed(find_group(server, input.part("name"))?))
}

pub fn create_group(server: &Server, caller: &Caller, input: &Input<Group>) -> Answer<GroupListed> {
    caller.administrator()?;
    let group = input.json()?;
    server.change(|change| {
        change.record(caller.event("group added", &[], vec![group.name.clone()]));
        if people::group(change, &group.name)?.is_some() {
            return Err(Problem::exists(format!("the group {} already exists", group.name)));
        }
        people::save_group(change, &group)
    })?;
    Ok(group_listed(group))
}

/// Only the description changes: a name stays.
pub fn save_group(server: &Server, caller: &Caller, input: &Input<Group>) -> Answer<GroupListed> {
    caller.administrator()?;
    let mut group = find_group(server, input.part("name"))?;
    group.description = input.json()?.description;
    server.change(|change| {
        change.record(caller.event("group changed", &[], vec![group.name.clone()]));
        people::save_group(change, &group)
    })?;
    Ok(group_listed(group))
}

pub fn delete_group(server: &Server, caller: &Caller, input: &Input) -> Answer<Done> {
    caller.administrator()?;
    let group = find_group(server, input.part("name"))?;
    server.change(|change| {
        change.record(caller.event("group removed", &[], vec![group.name.clone()]));
        people::remove_group(change, &group.name)
    })?;
    Ok(Done {})
}

pub fn all_keys(server: &Server, caller: &Caller, _: &Input) -> Answer<Vec<Described>> {
    caller.administrator()?;
    let all = people::keys(&server.store)?;
    Ok(all.iter().filter(|(_, key)| key.user.is_some()).map(|(hash, key)| described(server, hash, key)).collect())
}

pub fn create_key_for(server: &Server, caller: &Caller, input: &Input<Wanted>) -> Answer<NewKey> {
    caller.administrator()?;
    let wanted = input.json()?;
    let login = wanted.user.clone().ok_or_else(|| Problem::bad("user: whose key is it to be?"))?;
    let person = server.person(&login)?;
    let own = caller.person.as_ref().is_some_and(|caller| caller.id == person.id) && caller.opens;
    let rule = people::rules(&server.store)?.allow_impersonation;
    store_key(server, caller, &wanted.key(Some(&person), caller, own, rule)?)
}

pub fn delete_any_key(server: &Server, caller: &Caller, input: &Input) -> Answer<Done> {
    caller.administrator()?;
    remove_key(server, caller, input.part("id"), true)
}

fn remove_key(server: &Server, caller: &Caller, id: &str, of_user: bool) -> Answer<Done> {
    let (hash, key) = find_key(server, id, of_user)?;
    server.change(|change| {
        let about: Vec<people::Id> = key.person.into_iter().collect();
        change.record(caller.event("key revoked", &about, vec![id.into()]));
        people::remove_key(change, &hash)
    })?;
    Ok(Done {})
}

fn find_key(server: &Server, id: &str, of_user: bool) -> Result<(String, ApiKey)> {
    let found = people::keys(&server.store)?.into_iter().find(|(_, key)| key.id == id && key.user.is_some() == of_user);
    found.ok_or_else(|| Problem::not_found(format!("there is no API key {id}")))
}

/// A key of nobody, as an administrator sees it.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "GlobalKey")]
pub struct Global {
    #[serde(flatten)]
    described: Described,
    global_allow_everything: bool,
    global_permissions: Permissions,
}

/// Whether a key of nobody may do what administrators may.
#[derive(Serialize, JsonSchema)]
struct Permissions {
    admin: bool,
}

fn global(server: &Server, hash: &str, key: &ApiKey) -> Global {
    let admin = key.administrator;
    let described = described(server, hash, key);
    Global { described, global_allow_everything: admin, global_permissions: Permissions { admin } }
}

pub fn global_keys(server: &Server, caller: &Caller, _: &Input) -> Answer<Vec<Global>> {
    caller.administrator()?;
    let all = people::keys(&server.store)?;
    Ok(all.iter().filter(|(_, key)| key.user.is_none()).map(|(hash, key)| global(server, hash, key)).collect())
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "WantedGlobalKey")]
pub struct NewGlobal {
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

pub fn create_global_key(server: &Server, caller: &Caller, input: &Input<NewGlobal>) -> Answer<NewKey> {
    caller.administrator()?;
    let new = input.json()?;
    let administrator = new.is_administrator().unwrap_or(false);
    let key = ApiKey { administrator, ..new.wanted.key(None, caller, false, false)? };
    store_key(server, caller, &key)
}

pub fn global_key(server: &Server, caller: &Caller, input: &Input) -> Answer<Global> {
    caller.administrator()?;
    let (hash, key) = find_key(server, input.part("id"), false)?;
    Ok(global(server, &hash, &key))
}

pub fn save_global_key(server: &Server, caller: &Caller, input: &Input<NewGlobal>) -> Answer<Global> {
    caller.administrator()?;
    let new = input.json()?;
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
    Ok(global(server, &hash, &key))
}

pub fn delete_global_key(server: &Server, caller: &Caller, input: &Input) -> Answer<Done> {
    caller.administrator()?;
    remove_key(server, caller, input.part("id"), false)
}

/// `POST /admin/audit/custom/{type}`: what an administrator's program wants in the log.
pub fn custom_event(_: &Server, caller: &Caller, input: &Input<Value>) -> Answer<Done> {
    caller.administrator()?;
    let says: String = String::from_utf8_lossy(&input.body).chars().take(1000).collect();
    let mut event = caller.event("custom", &[], vec![input.part("type").chars().take(200).collect()]);
    event.claims.push(("custom".into(), says));
    input.tell(event);
    Ok(Done {})
}
