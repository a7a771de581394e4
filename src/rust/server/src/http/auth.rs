//! Who one is, with one's secrets; one's own tickets and keys.
use super::route::Done;
use super::{Answer, DSS_VERSION, Input};
use crate::identity::{Caller, Source};
use crate::people::{self, ApiKey, Person};
use crate::problem::{Problem, Result};
use crate::server::{Server, now};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use vault::Secret;
use zeroize::Zeroizing;

/// Who is asking, in DSS's words. A key of nobody has the first three only.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct Info {
    auth_source: &'static str,
    /// The administrator who acts as this person.
    via: Vec<String>,
    auth_identifier: String,
    #[serde(flatten)]
    person: Option<InfoOfPerson>,
    /// If they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    secrets: Option<Vec<Revealed>>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct InfoOfPerson {
    groups: Vec<String>,
    user_profile: String,
    #[serde(rename = "associatedDSSUser")]
    associated_dss_user: String,
    user_for_impersonation: String,
}

/// A secret with its value.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Revealed {
    key: String,
    #[serde(serialize_with = "exposed")]
    #[schemars(with = "String")]
    value: vault::Value,
}

/// Writes a value into an answer, which is what it was asked for.
pub fn exposed<S: Serializer>(value: &vault::Value, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(value.expose())
}

/// `GET /auth/info`: in DSS's words.
pub fn info<B>(server: &Server, caller: &Caller, input: &Input<B>) -> Answer<Info> {
    let source = match caller.source {
        Source::Key => "PERSONAL_API_KEY",
        Source::Ticket => "TICKET",
        Source::Kernel => "OS_USER",
        Source::Session => "SESSION",
    };
    let mut info = Info {
        auth_source: source,
        via: caller.acting.iter().cloned().collect(),
        auth_identifier: caller.name.clone(),
        person: None,
        secrets: None,
    };
    let Some(person) = &caller.person else { return Ok(info) };
    info.person = Some(InfoOfPerson {
        groups: person.groups.clone(),
        user_profile: person.profile.clone(),
        associated_dss_user: person.login.clone(),
        user_for_impersonation: person.login.clone(),
    });
    if input.flag("withSecrets") {
        let (mut large, mut no_room) = (false, None);
        let reserve = |bytes| {
            large = true;
            input.reserve(server, caller, usize::try_from(bytes).unwrap_or(usize::MAX)).map_err(|problem| {
                no_room = Some(problem);
                vault::Error::Internal("no room for an answer")
            })
        };
        let all = server.store.get_all_if(&caller.opener()?.id, reserve);
        let all = all.map_err(|e| no_room.unwrap_or_else(|| e.into()))?;
        if large {
            input.reserve(server, caller, all.iter().map(|secret| length_in_json(secret.value.expose())).sum())?;
        }
        input.tell(read_all(caller, &all));
        info.secrets = Some(all.into_iter().map(|secret| Revealed { key: secret.name, value: secret.value }).collect());
    }
    Ok(info)
}

/// How long a text is in JSON, as it is written here.
fn length_in_json(text: &str) -> usize {
    let of = |byte: u8| match byte {
        0..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    };
    text.bytes().map(of).sum()
}

/// What an event tells of the names of all secrets, in bytes.
const MOST_NAMES: usize = 2 * 1024;

/// The event of a read of all there are, which are named unless they are very many: nobody fills the disk by reading. How
/// many there are is told then, and which those were is in the log: since when each is there, and until when.
fn read_all(caller: &Caller, all: &[Secret]) -> vault::Event {
    let mut room = MOST_NAMES;
    let fits = |secret: &&Secret| {
        let left = room.checked_sub(secret.name.len());
        room = left.unwrap_or(0);
        left.is_some()
    };
    let names: Vec<String> = all.iter().take_while(fits).map(|secret| secret.name.clone()).collect();
    if names.len() == all.len() {
        return caller.event("read all", &[], names);
    }
    caller.event(&format!("read all {}", all.len()), &[], names)
}

/// A ticket, which is told once.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Ticket {
    #[schemars(with = "String")]
    ticket: Zeroizing<String>,
}

/// `POST /auth/ticket`: a ticket that is what the caller is.
pub fn ticket(server: &Server, caller: &Caller, input: &Input) -> Answer<Ticket> {
    let person = caller.someone()?;
    let (_, ticket) = server.issue_ticket(caller, person)?;
    input.tell(caller.event("ticket", &[], Vec::new()));
    Ok(Ticket { ticket })
}

/// What a server is, in DSS's words.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct Instance {
    dss_version: &'static str,
    node_id: String,
    node_name: &'static str,
    node_type: &'static str,
}

/// `GET /instance-info`.
pub fn instance(server: &Server, _: &Caller, _: &Input) -> Answer<Instance> {
    let node_id = server.store.info().id;
    Ok(Instance { dss_version: DSS_VERSION, node_id, node_name: "dkusecrets", node_type: "DESIGN" })
}

/// A key as it is listed: never the key itself.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Key")]
pub struct Described {
    pub id: String,
    /// Whose it is; nobody's, if it is a key of nobody.
    user: Option<String>,
    label: String,
    description: String,
    /// In milliseconds since 1970.
    created_on: i64,
    created_by: String,
    /// In milliseconds since 1970.
    expires_on: Option<i64>,
    /// When it was last used, in milliseconds since 1970, or null.
    last_used_on: Option<i64>,
    /// Whether it opens secrets.
    confirmed: bool,
}

/// A key that was just made, in the one answer that it is in.
#[derive(Serialize, JsonSchema)]
pub struct NewKey {
    #[serde(flatten)]
    described: Described,
    #[schemars(with = "String")]
    pub key: Zeroizing<String>,
}

pub fn described(server: &Server, hash: &str, key: &ApiKey) -> Described {
    Described { last_used_on: server.key_used(hash, key), ..new_key(key) }
}

/// The same for one that nobody has used yet.
fn new_key(key: &ApiKey) -> Described {
    Described {
        id: key.id.clone(),
        user: key.user.clone(),
        label: key.label.clone(),
        description: key.description.clone(),
        created_on: key.created_on,
        created_by: key.created_by.clone(),
        expires_on: key.expires,
        last_used_on: None,
        confirmed: key.confirmed,
    }
}

/// What is said of a key that is to be made or changed.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(rename = "WantedKey")]
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
    /// A new key of `user`, made by the caller. `own`: whether it opens secrets by the person's own word; `rule`: because
    /// acting as others is allowed.
    pub fn key(&self, user: Option<&Person>, made_by: &Caller, own: bool, rule: bool) -> Result<ApiKey> {
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
            confirmed: own || rule,
            by_rule: rule && !own,
            administrator: false,
            last_used: None,
        })
    }
}

/// Stores a new key, and answers with it for the only time.
pub fn store_key(server: &Server, caller: &Caller, key: &ApiKey) -> Answer<NewKey> {
    let text = server.change(|change| {
        let about: Vec<people::Id> = key.person.into_iter().collect();
        change.record(caller.event("key made", &about, vec![key.id.clone()]));
        people::add_key(change, key)
    })?;
    Ok(NewKey { described: new_key(key), key: text })
}

/// One of the caller's own keys, with its hash. Somebody else's is as one that is not there.
fn own(server: &Server, caller: &Caller, id: &str) -> Result<(String, ApiKey)> {
    let me = caller.someone()?.id;
    let found = people::keys(&server.store)?.into_iter().find(|(_, key)| key.id == id && key.person == Some(me));
    found.ok_or_else(|| Problem::not_found(format!("there is no personal API key {id} of yours")))
}

pub fn keys(server: &Server, caller: &Caller, _: &Input) -> Answer<Vec<Described>> {
    let me = caller.someone()?.id;
    let all = people::keys(&server.store)?;
    Ok(all.iter().filter(|(_, key)| key.person == Some(me)).map(|(hash, key)| described(server, hash, key)).collect())
}

pub fn create_key(server: &Server, caller: &Caller, input: &Input<Wanted>) -> Answer<NewKey> {
    let mut wanted = if input.body.is_empty() { Wanted::default() } else { input.json()? };
    wanted.label = wanted.label.or_else(|| input.text("label").map(str::to_owned));
    make_key(server, caller, &wanted)
}

/// A key can do what its owner can: who has a credential that opens nothing makes keys that open nothing.
pub fn make_key(server: &Server, caller: &Caller, wanted: &Wanted) -> Answer<NewKey> {
    let person = caller.someone()?;
    if caller.acting.is_some() || caller.ends.is_some() {
        return Err(Problem::not_allowed(
            "a ticket, and whoever acts as somebody else, makes no key: it would outlive them",
        ));
    }
    let key = wanted.key(Some(person), caller, caller.opens, false)?;
    store_key(server, caller, &key)
}

pub fn key(server: &Server, caller: &Caller, input: &Input) -> Answer<Described> {
    let (hash, key) = own(server, caller, input.part("id"))?;
    Ok(described(server, &hash, &key))
}

/// Only label and description change.
pub fn save_key(server: &Server, caller: &Caller, input: &Input<Wanted>) -> Answer<Described> {
    let (hash, _) = own(server, caller, input.part("id"))?;
    let wanted = input.json()?;
    let key = server.change(|change| {
        let key = people::edit_key(change, &hash, |key| {
            key.label = wanted.label.unwrap_or(std::mem::take(&mut key.label));
            key.description = wanted.description.unwrap_or(std::mem::take(&mut key.description));
        })?;
        change.record(caller.event("key described", &[], vec![key.id.clone()]));
        Ok(key)
    })?;
    Ok(described(server, &hash, &key))
}

pub fn delete_key(server: &Server, caller: &Caller, input: &Input) -> Answer<Done> {
    revoke(server, caller, input.part("id"))?;
    Ok(Done {})
}

/// Revokes one of the caller's own keys.
pub fn revoke(server: &Server, caller: &Caller, id: &str) -> Result<()> {
    let (hash, key) = own(server, caller, id)?;
    server.change(|change| {
        change.record(caller.event("key revoked", &[], vec![key.id.clone()]));
        people::remove_key(change, &hash)
    })
}

/// Says that a key which somebody else has made for the caller is to open the caller's secrets.
pub fn confirm(server: &Server, caller: &Caller, id: &str) -> Result<()> {
    caller.opener()?;
    if caller.acting.is_some() {
        return Err(Problem::not_allowed("only the owner of a key confirms it, and nobody who acts as the owner"));
    }
    let (hash, _) = own(server, caller, id)?;
    server.change(|change| {
        let key = people::edit_key(change, &hash, |key| (key.confirmed, key.by_rule) = (true, false))?;
        change.record(caller.event("key confirmed", &[], vec![key.id]));
        Ok(())
    })
}
