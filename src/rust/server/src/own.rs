//! One's own vault from a shell: values come from standard input or a terminal, never from an argument.
use crate::problem::{Problem, Result};
use serde_json::{Value, json};
use std::io::{IsTerminal, Read, Write};
use vault::{Change, Vault};
use zeroize::Zeroizing;

/// Stores a value. One line feed at its end is not part of it: `echo` and files end with one.
pub fn set(name: &str, description: Option<String>) -> Result<()> {
    let question = format!("Value of the secret \"{}\": ", name.escape_debug());
    let value = vault::Value::new(&typed(&question, vault::Value::MAX_BYTES)?)?;
    Vault::of_caller().set(name, &value, &Change { description, ..Change::default() })?;
    Ok(())
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

/// Prints a value byte for byte, with a line feed only for a terminal.
pub fn get(name: &str, json: bool) -> Result<()> {
    let secret = Vault::of_caller().get(name)?;
    if secret.expired {
        eprintln!("dkusecrets: the secret {} is over", secret.name.escape_debug());
    }
    if json {
        return print(&json!({ "name": secret.name, "value": secret.value.expose(), "version": secret.version }), true);
    }
    let mut out = std::io::stdout().lock();
    let mut written = out.write_all(secret.value.expose().as_bytes());
    if std::io::stdout().is_terminal() {
        written = written.and_then(|()| out.write_all(b"\n"));
    }
    written.and_then(|()| out.flush()).map_err(not_written)
}

pub fn list() -> Result<Value> {
    let all = Vault::of_caller().list()?;
    let live = all.iter().filter(|secret| secret.removed.is_none());
    Ok(live
        .map(|secret| {
            json!({
                "name": secret.name,
                "description": secret.description,
                "version": secret.version,
                "updated": secret.updated,
            })
        })
        .collect())
}

pub fn remove(name: &str) -> Result<()> {
    Ok(Vault::of_caller().remove(name, None)?)
}

pub fn status() -> Value {
    let info = Vault::of_caller().info();
    json!({
        "database": info.database,
        "exists": info.exists,
        "locked": info.locked,
        "secrets": info.secrets,
        "problems": info.problems.iter().map(|(kind, message)| json!({ "kind": kind, "message": message })).collect::<Value>(),
    })
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
