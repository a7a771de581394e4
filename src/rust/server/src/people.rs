//! Who there is: people, groups, their keys, and the rules of the store. Each is a JSON document in the store's sealed
//! directory, so that whoever writes to the database without the root key cannot make himself somebody.
use crate::password::Stored;
use crate::problem::{Problem, Result};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use vault::{Store, Transaction, hex};
use zeroize::Zeroizing;

/// Whoever is in this group is an administrator.
pub const ADMINISTRATORS: &str = "administrators";

/// Of labels, descriptions, names and addresses, in bytes.
const MOST_TEXT: usize = 1024;
/// Of a person's properties and preferences together, in bytes.
const MOST_PROPERTIES: usize = 64 * 1024;
/// More keys than anybody keeps apart.
const MOST_KEYS: usize = 100;

/// The id under which a store knows a person.
pub type Id = [u8; 16];

/// A person.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Person {
    pub id: Id,
    pub login: String,
    pub display_name: String,
    #[serde(default)]
    pub email: String,
    #[serde(default)]
    pub groups: Vec<String>,
    pub enabled: bool,
    pub profile: String,
    /// The operating system's user id, if this person is known by it.
    #[serde(default)]
    pub uid: Option<u32>,
    /// In milliseconds since 1970.
    pub created: i64,
    #[serde(default)]
    pub user_properties: Map<String, Value>,
    #[serde(default)]
    pub admin_properties: Map<String, Value>,
    #[serde(default)]
    pub preferences: Map<String, Value>,
}

impl Person {
    pub fn new(id: Id, login: &str, created: i64) -> Person {
        Person {
            id,
            login: login.into(),
            display_name: login.into(),
            email: String::new(),
            groups: Vec::new(),
            enabled: true,
            profile: "DESIGNER".into(),
            uid: None,
            created,
            user_properties: Map::new(),
            admin_properties: Map::new(),
            preferences: Map::new(),
        }
    }

    pub fn is_administrator(&self) -> bool {
        self.groups.iter().any(|group| group == ADMINISTRATORS)
    }
}

/// A link by which one person sets a password, once. What it holds is not kept: a document's name holds its hash.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Link {
    pub login: String,
    pub person: Id,
    pub created_by: String,
    /// Whether the person made it: what is set by it opens their secrets then.
    pub own: bool,
    /// In milliseconds since 1970.
    pub expires: i64,
}

/// A program that may ask for those who look at it, by the headers of their browsers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Application {
    /// Whatever runs as this person.
    Person(Id),
    /// Who has the key of this id.
    Key(String),
}

/// A key for the API. The key itself is not kept: a document's name holds its hash.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApiKey {
    pub id: String,
    /// Whose key it is; a key of nobody reads no secrets.
    pub user: Option<String>,
    /// The same by id: whoever gets the login later is somebody else.
    #[serde(default)]
    pub person: Option<Id>,
    pub label: String,
    #[serde(default)]
    pub description: String,
    /// In milliseconds since 1970.
    pub created_on: i64,
    pub created_by: String,
    /// When it ends, in milliseconds since 1970.
    #[serde(default)]
    pub expires: Option<i64>,
    /// Whether it opens secrets: one that somebody else has made does not until its owner says so.
    pub confirmed: bool,
    /// Whether it does only because acting as others is allowed.
    #[serde(default)]
    pub by_rule: bool,
    /// For a key of nobody: whether it may do what administrators may.
    #[serde(default)]
    pub administrator: bool,
    /// When it was last used, in milliseconds since 1970, as far as that was written: see `Server::key_used`.
    #[serde(default)]
    pub last_used: Option<i64>,
}

/// A group: a name that people share. It grants nothing, but for that of the administrators.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    pub name: String,
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(with = "Option<String>")]
    pub description: String,
}

/// Clients write null for what they leave out.
pub fn null_as_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// What an administrator has decided.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rules {
    /// Whether administrators may act as other people.
    pub allow_impersonation: bool,
    /// Whether people of this machine appear by themselves when they first come by the socket.
    pub add_on_contact: bool,
    /// Who may ask for others by the headers of their browsers.
    #[serde(default)]
    pub header_callers: Vec<Application>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { allow_impersonation: false, add_on_contact: true, header_callers: Vec::new() }
    }
}

/// Where documents are read: in the store, or in a change of it.
pub trait Documents {
    fn bytes(&self, name: &str) -> Option<vault::Document>;
    fn named(&self, prefix: &str) -> Vec<(String, vault::Document)>;
}

impl Documents for Store {
    fn bytes(&self, name: &str) -> Option<vault::Document> {
        self.document(name)
    }
    fn named(&self, prefix: &str) -> Vec<(String, vault::Document)> {
        self.documents(prefix)
    }
}

impl Documents for Transaction<'_> {
    fn bytes(&self, name: &str) -> Option<vault::Document> {
        self.document(name)
    }
    fn named(&self, prefix: &str) -> Vec<(String, vault::Document)> {
        self.documents(prefix)
    }
}

fn read<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|_| Problem::internal(format!("the document {name} cannot be understood")))
}

fn find<T: DeserializeOwned>(from: &impl Documents, name: &str) -> Result<Option<T>> {
    from.bytes(name).map(|bytes| read(name, &bytes)).transpose()
}

fn all<T: DeserializeOwned>(from: &impl Documents, prefix: &str) -> Result<Vec<T>> {
    from.named(prefix).iter().map(|(name, bytes)| read(name, bytes)).collect()
}

fn put(change: &mut Transaction, name: &str, document: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(document).map_err(|_| Problem::internal("a document cannot be encoded"))?;
    Ok(change.put_document(name, &bytes)?)
}

/// The person with that login.
pub fn person(from: &impl Documents, login: &str) -> Result<Option<Person>> {
    find(from, &format!("person:{login}"))
}

/// The same, who must be there.
pub fn present(from: &impl Documents, login: &str) -> Result<Person> {
    person(from, login)?.ok_or_else(|| Problem::not_found(format!("there is no user {login}")))
}

/// The person who is known by a user id.
pub fn person_of_uid(from: &impl Documents, uid: u32) -> Result<Option<Person>> {
    match find::<String>(from, &format!("uid:{uid}"))? {
        Some(login) => person(from, &login),
        None => Ok(None),
    }
}

/// Everybody, by login.
pub fn everybody(store: &Store) -> Result<Vec<Person>> {
    all(store, "person:")
}

/// Adds a person: the only way to become somebody.
pub fn add(change: &mut Transaction, login: &str) -> Result<Person> {
    check_login(login)?;
    if person(change, login)?.is_some() {
        return Err(Problem::exists(format!("the login {login} already exists")));
    }
    let person = Person::new(change.add_person()?, login, change.now());
    save(change, &person)?;
    Ok(person)
}

/// Writes what is known of a person who is there. One administrator stays.
pub fn save(change: &mut Transaction, person: &Person) -> Result<()> {
    let properties = [&person.user_properties, &person.admin_properties, &person.preferences];
    let size: usize =
        properties.iter().map(|all| serde_json::to_vec(all).map_or(usize::MAX, |bytes| bytes.len())).sum();
    if size > MOST_PROPERTIES || person.display_name.len() > MOST_TEXT || person.email.len() > MOST_TEXT {
        return Err(Problem::bad("properties and preferences have at most 64 KiB, names and addresses 1 KiB"));
    }
    if !(person.enabled && person.is_administrator()) {
        keep_an_administrator(change, &person.login)?;
    }
    for group in &person.groups {
        if self::group(change, group)?.is_none() {
            return Err(Problem::bad(format!("there is no group {group}")));
        }
    }
    put(change, &format!("person:{}", person.login), person)
}

/// Lets a person be known by a user id of the operating system.
pub fn link(change: &mut Transaction, person: &mut Person, uid: u32) -> Result<()> {
    if let Some(other) = person_of_uid(change, uid)?.filter(|other| other.login != person.login) {
        return Err(Problem::exists(format!("the user id {uid} already exists, as {}", other.login)));
    }
    if let Some(old) = person.uid.replace(uid).filter(|old| *old != uid) {
        change.remove_document(&format!("uid:{old}"))?;
    }
    put(change, &format!("uid:{uid}"), &person.login)?;
    // Who set the password while nobody else could be known may be somebody else: from now on the kernel says.
    if let Some(password) = password(change, &person.id)?.filter(|password| password.claimed) {
        doubt_keys(change, &person.id)?;
        save_password(change, &Stored { claimed: false, ..password })?;
    }
    save(change, person)
}

/// What is kept of a person's password.
pub fn password(from: &impl Documents, person: &Id) -> Result<Option<Stored>> {
    find(from, &format!("password:{}", hex(person)))
}

pub fn save_password(change: &mut Transaction, password: &Stored) -> Result<()> {
    put(change, &format!("password:{}", hex(&password.person)), password)
}

/// Makes a link in the place of those that the person had; it is told here once. Those that are over go, too.
pub fn add_link(change: &mut Transaction, link: &Link) -> Result<Zeroizing<String>> {
    let now = change.now();
    remove_links(change, |other| other.person == link.person || other.expires <= now)?;
    let text = Zeroizing::new(random_text(32)?);
    put(change, &format!("link:{}", hash(&text)), link)?;
    Ok(text)
}

/// The link that was presented, if it holds and is for this login.
pub fn link_for(from: &impl Documents, presented: &str, login: &str, now: i64) -> Result<Option<Link>> {
    let link: Option<Link> = find(from, &format!("link:{}", hash(presented)))?;
    Ok(link.filter(|link| link.login == login && link.expires > now))
}

pub fn remove_links(change: &mut Transaction, which: impl Fn(&Link) -> bool) -> Result<()> {
    for (name, bytes) in Documents::named(change, "link:") {
        if which(&read::<Link>(&name, &bytes)?) {
            change.remove_document(&name)?;
        }
    }
    Ok(())
}

/// Removes a person with their secrets and keys.
pub fn remove(change: &mut Transaction, person: &Person) -> Result<()> {
    keep_an_administrator(change, &person.login)?;
    for (hash, key) in keys(change)? {
        if key.person == Some(person.id) {
            remove_key(change, &hash)?;
        }
    }
    if let Some(uid) = person.uid {
        change.remove_document(&format!("uid:{uid}"))?;
    }
    if password(change, &person.id)?.is_some() {
        change.remove_document(&format!("password:{}", hex(&person.id)))?;
    }
    remove_links(change, |link| link.person == person.id)?;
    change.remove_document(&format!("person:{}", person.login))?;
    Ok(change.remove_person(&person.id)?)
}

/// Refuses to leave a store without an administrator, were this one to go. Everybody is looked at only if this is one.
fn keep_an_administrator(change: &Transaction, login: &str) -> Result<()> {
    let counts = |person: &Person| person.enabled && person.is_administrator();
    if person(change, login)?.is_none_or(|person| !counts(&person)) {
        return Ok(());
    }
    if !all(change, "person:")?.iter().any(|person: &Person| person.login != login && counts(person)) {
        return Err(Problem::bad(format!("{login} is the last administrator: make another first")));
    }
    Ok(())
}

/// Logins go into paths unescaped, and into the environment.
fn check_login(login: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "@._-+".contains(c);
    let first = login.chars().next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    if !first || login.len() > 80 || !login.chars().all(allowed) {
        return Err(Problem::bad(
            "a login has 1 to 80 letters, digits or characters of @ . _ - +, and begins with a letter, a digit or _",
        ));
    }
    Ok(())
}

pub fn group(from: &impl Documents, name: &str) -> Result<Option<Group>> {
    find(from, &format!("group:{name}"))
}

pub fn groups(store: &Store) -> Result<Vec<Group>> {
    all(store, "group:")
}

pub fn save_group(change: &mut Transaction, group: &Group) -> Result<()> {
    let good = |c: char| c.is_alphanumeric() || "@._-+ ".contains(c);
    if group.name.trim().is_empty() || group.name.len() > 80 || !group.name.chars().all(good) {
        return Err(Problem::bad("the name of a group has 1 to 80 bytes of letters, digits, spaces or @ . _ - +"));
    }
    put(change, &format!("group:{}", group.name), group)
}

/// Removes a group, and everybody from it.
pub fn remove_group(change: &mut Transaction, name: &str) -> Result<()> {
    if name == ADMINISTRATORS {
        return Err(Problem::bad("the group of the administrators stays"));
    }
    for mut person in all::<Person>(change, "person:")? {
        if person.groups.iter().any(|group| group == name) {
            person.groups.retain(|group| group != name);
            save(change, &person)?;
        }
    }
    Ok(change.remove_document(&format!("group:{name}"))?)
}

/// All keys, with the hashes they are found by.
pub fn keys(from: &impl Documents) -> Result<Vec<(String, ApiKey)>> {
    let found = from.named("key:");
    let one = |(name, bytes): &(String, vault::Document)| {
        Ok((name.trim_start_matches("key:").to_owned(), read(name, bytes)?))
    };
    found.iter().map(one).collect()
}

/// What a key that was presented is: by its hash, so that the key itself is compared with nothing.
pub fn key(store: &Store, presented: &str) -> Result<Option<ApiKey>> {
    key_of_hash(store, &hash(presented))
}

pub fn key_of_hash(from: &impl Documents, hash: &str) -> Result<Option<ApiKey>> {
    find(from, &format!("key:{hash}"))
}

/// Makes a key; it is told here once and never again.
pub fn add_key(change: &mut Transaction, key: &ApiKey) -> Result<Zeroizing<String>> {
    check_key(key)?;
    if let Some(login) = &key.user {
        // Who was meant may have gone, and another come.
        let owner = person(change, login)?.filter(|person| Some(person.id) == key.person);
        owner.ok_or_else(|| Problem::not_found(format!("there is no user {login}")))?;
        if keys(change)?.iter().filter(|(_, other)| other.person == key.person).count() >= MOST_KEYS {
            return Err(Problem::bad(format!("{login} has {MOST_KEYS} keys already: revoke some")));
        }
    }
    let text = Zeroizing::new(format!("dkuaps-{}", random_text(32)?));
    put(change, &format!("key:{}", hash(&text)), key)?;
    Ok(text)
}

/// Changes a key that is there: one that was revoked meanwhile stays so.
pub fn edit_key(change: &mut Transaction, hash: &str, edit: impl FnOnce(&mut ApiKey)) -> Result<ApiKey> {
    let name = format!("key:{hash}");
    let mut key: ApiKey = find(change, &name)?.ok_or_else(|| Problem::not_found("this API key was revoked"))?;
    edit(&mut key);
    check_key(&key)?;
    put(change, &name, &key)?;
    Ok(key)
}

fn check_key(key: &ApiKey) -> Result<()> {
    if key.label.len() > MOST_TEXT || key.description.len() > MOST_TEXT {
        return Err(Problem::bad("the label and the description of a key have at most 1 KiB"));
    }
    Ok(())
}

/// Lets none of a person's keys open anything until it is confirmed again.
pub fn doubt_keys(change: &mut Transaction, person: &Id) -> Result<()> {
    for (hash, key) in keys(change)? {
        if key.person == Some(*person) && key.confirmed {
            edit_key(change, &hash, |key| key.confirmed = false)?;
        }
    }
    Ok(())
}

pub fn remove_key(change: &mut Transaction, hash: &str) -> Result<()> {
    Ok(change.remove_document(&format!("key:{hash}"))?)
}

pub fn rules(from: &impl Documents) -> Result<Rules> {
    Ok(find(from, "rules")?.unwrap_or_default())
}

/// Where acting as others is allowed no longer, what opened secrets by that does so no longer.
pub fn save_rules(change: &mut Transaction, rules: &Rules) -> Result<()> {
    if !rules.allow_impersonation {
        for (hash, key) in keys(change)? {
            if key.by_rule {
                edit_key(change, &hash, |key| (key.confirmed, key.by_rule) = (false, false))?;
            }
        }
        for password in all::<Stored>(change, "password:")? {
            if password.by_rule {
                save_password(change, &Stored { confirmed: false, by_rule: false, ..password })?;
            }
        }
    }
    put(change, "rules", rules)
}

/// SHA-256 suffices: keys and tickets have 190 random bits, which nobody guesses.
pub fn hash(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// Letters and digits, each as likely as any other.
pub fn random_text(length: usize) -> Result<String> {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(length);
    let mut bytes = Zeroizing::new([0; 64]);
    while text.len() < length {
        getrandom::fill(bytes.as_mut_slice()).map_err(|_| Problem::unavailable("no random numbers to be had"))?;
        // 248 is the greatest multiple of 62 in a byte: what lies above would favour the first letters.
        let letters = bytes.iter().filter(|byte| **byte < 248).map(|byte| LETTERS[usize::from(byte % 62)] as char);
        text.extend(letters.take(length - text.len()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins() {
        for good in ["a", "A.b-c_d+e@f.org", "_x", "1", &"x".repeat(80)] {
            assert!(check_login(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".", "..", "a/b", "a b", "a%2f", "é", "a\n", "a:b", &"x".repeat(81)] {
            assert!(check_login(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_random() {
        let texts: Vec<String> = (0..100).map(|_| random_text(32).unwrap()).collect();
        assert!(texts.iter().all(|t| t.len() == 32 && t.chars().all(|c| c.is_ascii_alphanumeric())));
        assert!(texts.iter().enumerate().all(|(i, t)| !texts[..i].contains(t)));
        let all: String = texts.concat();
        assert!(('a'..='z').chain('A'..='Z').chain('0'..='9').all(|c| all.contains(c)));
    }
}
