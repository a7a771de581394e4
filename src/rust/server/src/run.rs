//! `dkusecrets run`: a command with a ticket that ends with it.
use crate::cli::Run;
use crate::client;
use crate::problem::{Problem, Result};
use axum::body::Bytes;
use axum::http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

/// Runs the command; answers with the exit status that the program should have, as a shell gives it.
pub fn run(wanted: &Run) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Problem::internal(format!("cannot start: {e}")))?;
    let status = runtime.block_on(hold(wanted))?;
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(u8::try_from(code).unwrap_or(1))
}

/// The connection is held while the command runs: the ticket lives as long.
async fn hold(wanted: &Run) -> Result<ExitStatus> {
    let unreachable = |e: &dyn std::fmt::Display| client::unreachable(&wanted.socket.display(), e);
    let stream = client::connect(&wanted.socket, client::ANOTHER).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| unreachable(&e))?;
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method("POST")
        .uri("/dkusecrets/v1/runs")
        .header("host", "localhost")
        .header("x-dkusecrets-kind", &wanted.kind);
    if let Some(login) = &wanted.login {
        request = request.header("x-dku-proxyuser", login);
    }
    let request = request.body(Full::new(Bytes::new())).map_err(|_| Problem::bad("that login cannot be one"))?;
    let response = sender.send_request(request).await.map_err(|e| unreachable(&e))?;
    let status = response.status();
    let mut body = response.into_body();
    let mut line = Zeroizing::new(Vec::new());
    while !line.ends_with(b"\n") {
        match body.frame().await {
            Some(Ok(frame)) => line.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            Some(Err(e)) => return Err(unreachable(&e)),
            None => break,
        }
    }
    let told: Value = serde_json::from_slice(&line).unwrap_or(Value::Null);
    if !status.is_success() {
        let message = told["message"].as_str().unwrap_or("the server refused").to_owned();
        return Err(if status.is_server_error() {
            Problem::unavailable(message)
        } else {
            Problem::not_allowed(message)
        });
    }
    let (program, arguments) = wanted.command.split_first().ok_or_else(|| Problem::bad("which command?"))?;
    let mut command = Command::new(program);
    command.args(arguments);
    command.env("DKU_API_TICKET", told["ticket"].as_str().unwrap_or_default());
    command.env("DKU_BACKEND_PROTOCOL", "http");
    let host = told["host"].as_str().unwrap_or_default();
    command.env("DKU_BACKEND_HOST", host);
    for (name, value) in without_proxy(host, |name| std::env::var(name).ok()) {
        command.env(name, value);
    }
    command.env("DKU_BACKEND_PORT", told["port"].to_string());
    become_person(&mut command, &told)?;
    let failed = |e| Problem::bad(format!("{} cannot be run: {e}", program.to_string_lossy()));
    let mut child = command.spawn().map_err(failed)?;
    // Both go to the command: it decides when to end, and the ticket ends with it.
    let waiting = |e| Problem::internal(format!("cannot wait for signals: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(waiting)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(waiting)?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let mut ended_before = false;
    loop {
        tokio::select! {
            // Nothing more comes but the end.
            _ = body.frame(), if !ended_before => {
                ended_before = true;
                eprintln!("dkusecrets: the ticket of this run has ended: it was revoked, or the server stopped");
            }
            ended = child.wait() => return ended.map_err(failed),
            _ = terminate.recv() => { pid.map(|pid| kill(pid, Signal::SIGTERM)); }
            // A terminal has sent it to the command as well.
            _ = interrupt.recv() => {}
        }
    }
}

/// The variables that keep what the command asks the server, ticket and values, away from a proxy.
fn without_proxy(host: &str, variable: impl Fn(&str) -> Option<String>) -> Vec<(&'static str, String)> {
    let names = ["no_proxy", "NO_PROXY"];
    let said = names.iter().filter_map(|name| variable(name)).find(|said| !said.trim().is_empty());
    // An address of IPv6 stands there as it is, and as it is in a URL.
    let bare = host.trim_matches(['[', ']']);
    let mut all: Vec<&str> = said.as_deref().map(str::trim).into_iter().collect();
    all.push(bare);
    all.extend((bare != host).then_some(host));
    match all[0] {
        // For everything; with others beside it, it would be a name.
        "*" => Vec::new(),
        _ => names.map(|name| (name, all.join(","))).into(),
    }
}

/// Whoever is allowed to is the person for the operating system, too.
fn become_person(command: &mut Command, told: &Value) -> Result<()> {
    let Some(uid) = told["uid"].as_u64().and_then(|uid| u32::try_from(uid).ok()) else { return Ok(()) };
    if vault::effective_user() != 0 || uid == 0 {
        return Ok(());
    }
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    let user = user.ok_or_else(|| Problem::not_allowed(format!("user id {uid} has no account on this machine")))?;
    // Without the groups of whoever runs this: the standard library drops them with the user id.
    command.uid(uid).gid(user.gid.as_raw());
    command.env("HOME", &user.dir).env("USER", &user.name).env("LOGNAME", &user.name);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_not_asked_through_a_proxy() {
        let with = |set: &[(&str, &str)], host: &str| {
            let variable = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
            let found = without_proxy(host, variable);
            assert!(
                found.is_empty() || found[0].1 == found[1].1 && (found[0].0, found[1].0) == ("no_proxy", "NO_PROXY")
            );
            found.first().map(|(_, value)| value.clone())
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(with(&[], "127.0.0.1"), some("127.0.0.1"));
        assert_eq!(with(&[("no_proxy", "a.example")], "127.0.0.1"), some("a.example,127.0.0.1"));
        assert_eq!(with(&[("no_proxy", " "), ("NO_PROXY", "b, c")], "127.0.0.1"), some("b, c,127.0.0.1"));
        assert_eq!(with(&[("no_proxy", "*")], "127.0.0.1"), None);
        assert_eq!(with(&[], "[::1]"), some("::1,[::1]"));
    }
}
