//! One's own secrets from a shell, wherever R has them: values come from standard input or a terminal, never from an
//! argument.
use crate::cli::Own;
use crate::client::{self, Way};
use crate::problem::{Problem, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{IsTerminal, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use vault::{Change, Elsewhere, Vault};
use zeroize::Zeroizing;

/// Who keeps one's secrets.
pub enum Keeper {
    Vault(Vault),
    Server(Way),
}

/// The first that is configured, as R/source.R has it. What cannot be asked from here is an error: answering from another
/// place would be a surprise.
pub fn keeper(own: &Own) -> Result<Keeper> {
    let socket = |path: &Path| match std::path::absolute(path) {
        Ok(path) => Ok(Keeper::Server(Way::Socket(path))),
        Err(e) => Err(Problem::bad(format!("{}: {e}", path.display()))),
    };
    if let Some(path) = &own.socket {
        return socket(path);
    }
    let Some(found) = vault::elsewhere() else { return Ok(Keeper::Vault(Vault::of_caller())) };
    found.check().map_err(|refused| match refused.kind {
        "unavailable" => Problem::unavailable(refused.message),
        _ => Problem::bad(refused.message),
    })?;
    let only_r = |what: &str| {
        Err(Problem::bad(format!(
            "{what}: R asks the server that it names, and this program can't; --socket or DKUSECRETS_SOCKET names a server's socket, DKUSECRETS_HOME an embedded vault"
        )))
    };
    match found {
        Elsewhere::Socket { path, chosen } => {
            let info = Vault::of_caller().info();
            // One that is missing though its key is there may lie on a disk that is not mounted: it counts.
            if !chosen && (info.exists || info.problems.iter().any(|(kind, _)| *kind == "vault_missing")) {
                return Err(Problem::bad(format!(
                    "there are two places for your secrets: the server at {} and the embedded vault {}; --socket or DKUSECRETS_SOCKET chooses the server, DKUSECRETS_HOME an embedded vault",
                    path.display(),
                    info.database.display()
                )));
            }
            socket(&path)
        }
        Elsewhere::Ticket => match ticket_of_run()? {
            Some(way) => Ok(Keeper::Server(way)),
            None => only_r("DKU_API_TICKET is set, and not for a server on this machine without TLS"),
        },
        Elsewhere::Config(path) => only_r(&format!("there is {}", path.display())),
        Elsewhere::Key | Elsewhere::Both => only_r("DKU_DSS_URL or DKU_API_KEY is set"),
    }
}

/// The server that gave this run its ticket, if that can be asked from here.
fn ticket_of_run() -> Result<Option<Way>> {
    let variable = |name: &str| match std::env::var(name) {
        Ok(value) if !value.is_empty() => Ok(value),
        _ => Err(Problem::bad(format!("DKU_API_TICKET is set and {name} is not: set both, or none"))),
    };
    let ticket = Zeroizing::new(variable("DKU_API_TICKET")?);
    let (host, port) = (variable("DKU_BACKEND_HOST")?, variable("DKU_BACKEND_PORT")?);
    let port: u16 = port.parse().map_err(|_| Problem::bad("DKU_BACKEND_PORT must be a number"))?;
    let plain = variable("DKU_BACKEND_PROTOCOL").map_or(true, |protocol| protocol == "http");
    let host =
        if host == "localhost" { Some(Ipv4Addr::LOCALHOST.into()) } else { host.trim_matches(['[', ']']).parse().ok() };
    let local = host.filter(|host: &IpAddr| plain && host.is_loopback());
    Ok(local.map(|host| Way::Ticket { address: (host, port).into(), ticket }))
}

/// Asks about the secrets that a server keeps.
fn ask(way: &Way, method: &str, path: &str, body: Zeroizing<Vec<u8>>) -> Result<Value> {
    client::request(way, client::ANOTHER, method, path, body)
}

/// Stores a value. One line feed at its end is not part of it: `echo` and files end with one.
pub fn set(keeper: &Keeper, name: &str, description: Option<String>) -> Result<()> {
    let question = format!("Value of the secret \"{}\": ", name.escape_debug());
    let value = vault::Value::new(&typed(&question, vault::Value::MAX_BYTES)?)?;
    match keeper {
        Keeper::Vault(vault) => {
            vault.set(name, &value, &Change { description, ..Change::default() })?;
        }
        Keeper::Server(way) => {
            let wanted = Setting { name, value: value.expose(), description };
            // In one piece, as a buffer that grows leaves copies behind: a byte takes six in JSON at most.
            let mut body = Zeroizing::new(Vec::with_capacity(6 * value.expose().len() + 64 * 1024));
            serde_json::to_writer(&mut *body, &wanted).map_err(|_| Problem::internal("a value cannot be encoded"))?;
            ask(way, "POST", "/dkusecrets/v1/secrets/set", body)?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Setting<'s> {
    name: &'s str,
    value: &'s str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

/// What is typed without showing it, or comes from standard input. A little more than `most` bytes tells that it is more.
pub fn typed(question: &str, most: usize) -> Result<Zeroizing<Vec<u8>>> {
    if std::io::stdin().is_terminal() {
        let typed = rpassword::prompt_password(question);
        return Ok(Zeroizing::new(typed.map_err(|e| Problem::unavailable(format!("cannot ask: {e}")))?.into_bytes()));
    }
    // In one piece, as a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(most + 2));
    let read = std::io::stdin().take(most as u64 + 2).read_to_end(&mut bytes);
    read.map_err(|e| Problem::bad(format!("standard input cannot be read: {e}")))?;
    if bytes.ends_with(b"\n") {
        bytes.pop();
    }
    Ok(bytes)
}

/// A secret with its value.
#[derive(Deserialize)]
struct Secret {
    name: String,
    value: Zeroizing<String>,
    version: u64,
    expired: bool,
}

fn named(name: &str) -> Zeroizing<Vec<u8>> {
    json!({ "name": name }).to_string().into_bytes().into()
}

/// Prints a value byte for byte, with a line feed only for a terminal.
pub fn get(keeper: &Keeper, name: &str, json: bool) -> Result<()> {
    let secret = match keeper {
        Keeper::Vault(vault) => {
            let found = vault.get(name)?;
            let value = Zeroizing::new(found.value.expose().to_owned());
            Secret { name: found.name, value, version: found.version, expired: found.expired }
        }
        Keeper::Server(way) => {
            let path = "/dkusecrets/v1/secrets/get";
            let answer = client::exchange(way, client::ANOTHER, "POST", path, named(name))?;
            // The parser's own words may quote the value.
            serde_json::from_slice(&answer).map_err(|_| not_understood(way))?
        }
    };
    if secret.expired {
        eprintln!("dkusecrets: the secret {} is over", secret.name.escape_debug());
    }
    if json {
        let told = json!({ "name": secret.name, "value": *secret.value, "version": secret.version });
        return print(&told, true);
    }
    let mut out = std::io::stdout().lock();
    let mut written = out.write_all(secret.value.as_bytes());
    if std::io::stdout().is_terminal() {
        written = written.and_then(|()| out.write_all(b"\n"));
    }
    written.and_then(|()| out.flush()).map_err(not_written)
}

fn not_understood(way: &Way) -> Problem {
    Problem::internal(format!("what the server at {way} answers is not understood: is it of another version?"))
}

pub fn list(keeper: &Keeper) -> Result<Value> {
    let way = match keeper {
        Keeper::Vault(vault) => {
            let all = vault.list()?;
            let live = all.iter().filter(|secret| secret.removed.is_none());
            return Ok(live
                .map(|secret| listed(&secret.name, &secret.description, secret.version, secret.updated))
                .collect());
        }
        Keeper::Server(way) => way,
    };
    let answer = ask(way, "GET", "/dkusecrets/v1/secrets", Zeroizing::default())?;
    let all: Vec<Summary> = serde_json::from_value(answer["secrets"].clone()).map_err(|_| not_understood(way))?;
    let live = all.iter().filter(|secret| secret.removed.is_none());
    Ok(live.map(|secret| listed(&secret.name, &secret.description, secret.version, secret.updated)).collect())
}

/// A secret without its value, as a server tells of it.
#[derive(Deserialize)]
struct Summary {
    name: String,
    description: String,
    version: u64,
    updated: i64,
    removed: Option<i64>,
}

fn listed(name: &str, description: &str, version: u64, updated: i64) -> Value {
    json!({ "name": name, "description": description, "version": version, "updated": updated })
}

pub fn remove(keeper: &Keeper, name: &str) -> Result<()> {
    match keeper {
        Keeper::Vault(vault) => Ok(vault.remove(name, None)?),
        Keeper::Server(way) => ask(way, "POST", "/dkusecrets/v1/secrets/remove", named(name)).map(drop),
    }
}

pub fn status(keeper: &Keeper) -> Result<Value> {
    let info = match keeper {
        Keeper::Vault(vault) => vault.info(),
        Keeper::Server(way) => {
            let mut told = json!({ "server": way.to_string() });
            if let (Value::Object(told), Value::Object(info)) =
                (&mut told, ask(way, "GET", "/dkusecrets/v1/info", Zeroizing::default())?)
            {
                told.extend(info);
            }
            return Ok(told);
        }
    };
    Ok(json!({
        "database": info.database,
        "exists": info.exists,
        "locked": info.locked,
        "secrets": info.secrets,
        "problems": info.problems.iter().map(|(kind, message)| json!({ "kind": kind, "message": message })).collect::<Value>(),
    }))
}

/// For people: a line for each thing, with its fields; for programs: JSON.
pub fn print(answer: &Value, json: bool) -> Result<()> {
    if json {
        return line(&answer.to_string());
    }
    match answer {
        Value::Array(all) => all.iter().try_for_each(|one| line(&fields(one, "  "))),
        one => line(&fields(one, "\n")),
    }
}

fn fields(one: &Value, between: &str) -> String {
    let shown = |value: &Value| match value {
        Value::String(text) => text.escape_debug().to_string(),
        Value::Null => "-".into(),
        Value::Array(all) => {
            all.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    };
    match one.as_object() {
        Some(all) => {
            all.iter().map(|(name, value)| format!("{name}: {}", shown(value))).collect::<Vec<_>>().join(between)
        }
        None => shown(one),
    }
}

pub fn line(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").map_err(not_written)
}

fn not_written(e: std::io::Error) -> Problem {
    Problem::unavailable(format!("standard output cannot be written to: {e}"))
}
