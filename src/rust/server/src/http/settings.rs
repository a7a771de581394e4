//! The document of a user's settings, in which DSS's clients edit secrets: they send back the whole of what they were
//! given. What stands for a value there is a token, and a save is merged with what others have saved meanwhile.
use super::route::Object;
use super::{Answer, Input};
use crate::identity::Caller;
use crate::people::{self, Person};
use crate::problem::{Problem, Result};
use crate::server::Server;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use vault::{Change, Token, Transaction};

/// What a document says, as far as it can change anything.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "WantedSettings")]
pub struct Document {
    #[serde(default)]
    secrets: Option<Vec<Object<Edited>>>,
    /// Which secrets, in which versions, the editor was given.
    #[serde(default, rename = "dkusecretsRevision")]
    revision: Option<String>,
    #[serde(default, rename = "userProperties")]
    user_properties: Option<Map<String, Value>>,
    #[serde(default)]
    preferences: Option<Map<String, Value>>,
    // For administrators.
    #[serde(default, rename = "displayName")]
    display_name: Option<String>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    groups: Option<Vec<String>>,
    #[serde(default)]
    enabled: Option<bool>,
    #[serde(default, rename = "userProfile")]
    profile: Option<String>,
    #[serde(default, rename = "adminProperties")]
    admin_properties: Option<Map<String, Value>>,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "EditedSecret")]
struct Edited {
    name: String,
    value: String,
}

/// `GET /current-user`.
pub fn own(server: &Server, caller: &Caller, _: &Input) -> Answer<Settings> {
    let person = caller.someone()?;
    Ok(document(person, shown(server, caller, person)?))
}

/// `PUT /current-user`: only what is one's own changes.
pub fn save_own(server: &Server, caller: &Caller, input: &Input<Document>) -> Answer<Settings> {
    let wanted = input.json()?;
    let me = caller.someone()?;
    let person = server.change(|change| {
        let mut person = people::present(change, &me.login)?;
        if person.id != me.id {
            return Err(Problem::not_authenticated("this user was removed"));
        }
        person.user_properties = wanted.user_properties.unwrap_or(person.user_properties);
        person.preferences = wanted.preferences.unwrap_or(person.preferences);
        people::save(change, &person)?;
        // Who is shown none has none to save.
        if let Some(secrets) = wanted.secrets.as_ref().filter(|secrets| !secrets.is_empty() || caller.opens) {
            merge(change, caller, &person, secrets, wanted.revision.as_deref())?;
        }
        Ok(person)
    })?;
    Ok(document(&person, shown(server, caller, &person)?))
}

/// `GET /admin/users/{login}`: the secrets of somebody else are not shown, not even by name.
pub fn of_user(server: &Server, caller: &Caller, input: &Input) -> Answer<Settings> {
    caller.administrator()?;
    let person = server.person(input.part("login"))?;
    Ok(document(&person, shown(server, caller, &person)?))
}

/// `PUT /admin/users/{login}`.
pub fn save_user(server: &Server, caller: &Caller, input: &Input<Document>) -> Answer<Settings> {
    caller.administrator()?;
    let wanted = input.json()?;
    let login = input.part("login");
    server.person(login)?;
    let own = is_own(caller, login);
    let person = server.change(|change| {
        let person = edit(change, login, &wanted)?;
        change.record(caller.event("user changed", &[person.id], vec![login.into()]));
        if let Some(secrets) = wanted.secrets.as_ref().filter(|secrets| !secrets.is_empty() || own && caller.opens) {
            if !own {
                return Err(Problem::not_allowed(
                    "the secrets of another user are theirs: act as that user (X-DKU-ProxyUser), where that is allowed",
                ));
            }
            merge(change, caller, &person, secrets, wanted.revision.as_deref())?;
        }
        Ok(person)
    })?;
    sign_out_disabled(server, &person);
    Ok(document(&person, shown(server, caller, &person)?))
}

/// Sessions end with it, so that none is there again should the person be enabled later.
pub fn sign_out_disabled(server: &Server, person: &Person) {
    if !person.enabled {
        server.sessions.end_all(&person.id);
    }
}

/// Changes what administrators may change of a person.
pub fn edit(change: &mut Transaction, login: &str, wanted: &Document) -> Result<Person> {
    let mut person = people::present(change, login)?;
    let set = |to: &mut String, from: &Option<String>| {
        if let Some(from) = from {
            to.clone_from(from);
        }
    };
    set(&mut person.display_name, &wanted.display_name);
    set(&mut person.email, &wanted.email);
    set(&mut person.profile, &wanted.profile);
    person.groups = wanted.groups.clone().unwrap_or(person.groups);
    person.enabled = wanted.enabled.unwrap_or(person.enabled);
    person.user_properties = wanted.user_properties.clone().unwrap_or(person.user_properties);
    person.admin_properties = wanted.admin_properties.clone().unwrap_or(person.admin_properties);
    person.preferences = wanted.preferences.clone().unwrap_or(person.preferences);
    people::save(change, &person)?;
    Ok(person)
}

fn is_own(caller: &Caller, login: &str) -> bool {
    caller.person.as_ref().is_some_and(|person| person.login == login)
}

/// What stands for the person's secrets, if they are the caller's to see.
fn shown(server: &Server, caller: &Caller, person: &Person) -> Result<Vec<Token>> {
    if is_own(caller, &person.login) && caller.opens { Ok(server.store.tokens(&person.id)?) } else { Ok(Vec::new()) }
}

/// A person's settings, as DSS has them.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct Settings {
    login: String,
    display_name: String,
    email: String,
    groups: Vec<String>,
    user_profile: String,
    source_type: &'static str,
    enabled: bool,
    secrets: Vec<Held>,
    credentials: Map<String, Value>,
    user_properties: Map<String, Value>,
    admin_properties: Map<String, Value>,
    preferences: Map<String, Value>,
    /// Which secrets these are, in which versions: to be sent back as it is.
    #[serde(rename = "dkusecretsRevision")]
    revision: String,
}

/// A secret as an editor of settings is given it.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Held {
    name: String,
    /// A token that stands for the value.
    value: String,
    secret: bool,
}

/// The same for as long as nothing changes: no time and nothing random is in it.
fn document(person: &Person, tokens: Vec<Token>) -> Settings {
    Settings {
        login: person.login.clone(),
        display_name: person.display_name.clone(),
        email: person.email.clone(),
        groups: person.groups.clone(),
        user_profile: person.profile.clone(),
        source_type: "LOCAL",
        enabled: person.enabled,
        revision: revision(&tokens),
        secrets: tokens.into_iter().map(|token| Held { name: token.name, value: token.text, secret: true }).collect(),
        credentials: Map::new(),
        user_properties: person.user_properties.clone(),
        admin_properties: person.admin_properties.clone(),
        preferences: person.preferences.clone(),
    }
}

/// Ids, versions and which names they had then, which tell nobody anything; what is made up there harms only who made it up.
fn revision(tokens: &[Token]) -> String {
    let one = |token: &Token| token.id.into_iter().chain(token.version.to_be_bytes()).chain(short(&token.name));
    let bytes: Vec<u8> = tokens.iter().flat_map(one).collect();
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A name, as a revision has it.
fn short(name: &str) -> [u8; 8] {
    let mut short = [0; 8];
    short.copy_from_slice(&Sha256::digest(name.as_bytes())[..8]);
    short
}

/// What an editor was given of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    version: u64,
    name: [u8; 8],
}

fn parse_revision(text: &str) -> Option<Vec<(people::Id, Seen)>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (entries, []) = bytes.as_chunks::<32>() else { return None };
    let one = |entry: &[u8; 32]| {
        let (id, rest) = entry.split_first_chunk::<16>()?;
        let (version, name) = rest.split_first_chunk::<8>()?;
        Some((*id, Seen { version: u64::from_be_bytes(*version), name: name.try_into().ok()? }))
    };
    entries.iter().map(one).collect()
}

/// What is to be done for one name.
#[derive(Debug, PartialEq, Eq)]
enum Step<'d> {
    Set(&'d str, &'d str),
    Remove(&'d str),
}

/// Applies what an editor has changed since he was given a document, and leaves what others have. Two different changes
/// of one name are a conflict, and then nothing changes.
fn merge(
    change: &mut Transaction,
    caller: &Caller,
    person: &Person,
    secrets: &[Object<Edited>],
    revision: Option<&str>,
) -> Result<()> {
    caller.opener()?;
    let now = change.tokens(&person.id)?;
    let before = match revision {
        Some(text) => {
            parse_revision(text).ok_or_else(|| Problem::bad("dkusecretsRevision is not one that was given out"))?
        }
        None => Vec::new(),
    };
    // No more than there were, and some that others have removed since: each is compared with each token below.
    if before.len() > now.len() + 1_000 || before.len() * secrets.len() > 1_000_000 {
        return Err(Problem::bad("dkusecretsRevision is not one that was given out"));
    }
    let before: BTreeMap<people::Id, Seen> = before.into_iter().collect();
    // The last of two of the same name counts, as DSS's clients replace by dropping and adding.
    let edited: BTreeMap<&str, &str> =
        secrets.iter().map(|Object(secret)| (secret.name.as_str(), secret.value.as_str())).collect();
    let mut steps = Vec::new();
    for (&name, &value) in &edited {
        let current = now.iter().find(|token| token.name == name);
        if value.starts_with(Token::PREFIX) {
            if !is_token_of(change, person, name, value, current, &before)? {
                return Err(Problem::bad(format!(
                    "the value of {name} is the token of another secret or version: read the document again"
                )));
            }
            continue;
        }
        match current {
            Some(token)
                if revision.is_none()
                    || before.get(&token.id) == Some(&Seen { version: token.version, name: short(name) }) =>
            {
                steps.push(Step::Set(name, value));
            }
            // Somebody has set it since: to the same, or there are two opinions. Which it is tells of the value.
            Some(_) => {
                change.record(caller.event("compared", &[], vec![name.to_owned()]));
                if change.get(&person.id, name)?.value.expose() != value {
                    return Err(changed_meanwhile(name));
                }
            }
            None => steps.push(Step::Set(name, value)),
        }
    }
    let kept: BTreeMap<[u8; 8], &str> = edited.iter().map(|(name, value)| (short(name), *value)).collect();
    for token in &now {
        // What the editor says of this very secret was looked at.
        let said = |value: &&str| !value.starts_with(Token::PREFIX) || **value == token.text;
        let Some(seen) = before.get(&token.id).filter(|_| !edited.get(token.name.as_str()).is_some_and(said)) else {
            continue;
        };
        // Under the name that the editor was given.
        match kept.get(&seen.name) {
            // Renamed since, and the editor left it as it was.
            Some(value) if value.starts_with(Token::PREFIX) => {}
            None if *seen == (Seen { version: token.version, name: short(&token.name) }) => {
                steps.push(Step::Remove(&token.name));
            }
            // The editor changed or removed what others have changed or renamed.
            _ => {
                change.record(caller.event("saved", &[], vec![token.name.clone()]));
                return Err(changed_meanwhile(&token.name));
            }
        }
    }
    let mut names = BTreeSet::new();
    for step in &steps {
        match *step {
            Step::Set(name, value) => {
                change.set(&person.id, name, &vault::Value::new(value.as_bytes())?, &Change::default())?;
                names.insert(name.to_owned());
            }
            Step::Remove(name) => {
                change.remove(&person.id, name, None)?;
                names.insert(name.to_owned());
            }
        }
    }
    if !names.is_empty() {
        change.record(caller.event("saved", &[], names.into_iter().collect()));
    }
    Ok(())
}

/// Whether a token stands for what a name has now, or had when the document was given out.
fn is_token_of(
    change: &mut Transaction,
    person: &Person,
    name: &str,
    value: &str,
    current: Option<&Token>,
    before: &BTreeMap<people::Id, Seen>,
) -> Result<bool> {
    if current.is_some_and(|token| token.text == value) {
        return Ok(true);
    }
    let name_then = short(name);
    for (id, seen) in before.iter().filter(|(_, seen)| seen.name == name_then) {
        if change.token(&person.id, id, name, seen.version)?.text == value {
            return Ok(true);
        }
    }
    Ok(false)
}

fn changed_meanwhile(name: &str) -> Problem {
    Problem::conflict(format!("{name} was changed by somebody else since this document was read: read it again"))
}
