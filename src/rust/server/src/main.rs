//! The program `dkusecrets`: one's own secrets from a shell, and one store for many people, served with DSS's public API.
//!
//! | module | what it holds |
//! |---|---|
//! | `cli` | what the program can be told |
//! | `commands` | what the owner of a store does with it |
//! | `client` | asking the server that has a store open |
//! | `own` | one's own secrets, from a shell |
//! | `run` | a command with a ticket that ends with it |
//! | `config` | what can be set, and where from |
//! | `serve` | listening, reading settings again, and stopping |
//! | `connections` | which connections are open, and for how long |
//! | `tls` | the certificate |
//! | `files` | whose files an operator's must be |
//! | `disk` | the audit log's way to the disk |
//! | `memory` | what large requests and answers take of memory |
//! | `metrics` | what an operator watches |
//! | `log` | what the server says of itself |
//! | `manual` | pages for `man`, and completion |
//! | `http` | the routes |
//! | `identity` | who is asking |
//! | `server` | a store while it is served |
//! | `cookies` | what browsers keep for us |
//! | `sign_in` | passwords, links and sessions: who may set what, and what it opens |
//! | `password` | what may be a password, and its hash |
//! | `session` | who is signed in |
//! | `budget` | how often a password may be tried |
//! | `people` | people, groups, keys and rules, as documents in the store |
//! | `problem` | what can go wrong |

mod budget;
mod cli;
mod client;
mod commands;
mod config;
mod connections;
mod cookies;
mod disk;
mod files;
mod http;
mod identity;
mod log;
mod manual;
mod memory;
mod metrics;
mod own;
mod password;
mod people;
mod problem;
mod run;
mod serve;
mod server;
mod session;
mod sign_in;
mod tls;

use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use cli::{Audit, Cli, Group, Key, Own, Password, Rule, Ticket, User};
use client::Way;
use commands::Command;
use problem::{Problem, Result};
use serde_json::{Value, json};
use server::Server;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vault::Store;

/// glibc's has one lock for each pool of memory: threads that free what others have allocated wait for each other, which is
/// what requests do with events. This one needs none.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // What Cli::parse() does, and where a value comes from.
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.format(&mut Cli::command()).exit());
    match done(&cli, &matches) {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("dkusecrets: {}", problem.message);
            match problem.status {
                axum::http::StatusCode::SERVICE_UNAVAILABLE => ExitCode::from(3),
                _ => ExitCode::from(1),
            }
        }
    }
}

fn done(cli: &Cli, matches: &ArgMatches) -> Result<ExitCode> {
    match &cli.command {
        cli::Command::Run(wanted) => run::run(wanted).map(ExitCode::from),
        _ => answer(cli, matches).map(|()| ExitCode::SUCCESS),
    }
}

fn answer(cli: &Cli, matches: &ArgMatches) -> Result<()> {
    let print = |answer: &Value| own::print(answer, cli.json);
    match &cli.command {
        cli::Command::Init { admin, allow_impersonation, url } => {
            let data = data_of(cli)?;
            print(&init(data, admin, *allow_impersonation, url.clone())?)
        }
        cli::Command::Serve(given) => serve_store(&absolute(data_of(cli)?)?, given, matches),
        cli::Command::Config(given) => print(&in_force(cli, given, matches)?),
        cli::Command::Man { command, directory } => match directory {
            Some(directory) => manual::pages(directory),
            None => manual::page(command),
        },
        cli::Command::Completion { shell } => manual::completion(*shell),
        cli::Command::User(user) => print(&on_store(
            data_of(cli)?,
            &match user {
                User::Add { login, group } => Command::UserAdd { login: login.clone(), groups: group.clone() },
                User::List => Command::UserList,
                User::Remove { login } => Command::UserRemove { login: login.clone() },
                User::Groups { login, groups } => Command::UserGroups { login: login.clone(), groups: groups.clone() },
                User::Invite { login, url } => Command::UserInvite { login: login.clone(), url: url.clone() },
                User::Link { login, uid } => Command::UserLink { login: login.clone(), uid: *uid },
            },
        )?),
        cli::Command::Group(group) => print(&on_store(
            data_of(cli)?,
            &match group {
                Group::Add { name, description } => {
                    Command::GroupAdd { name: name.clone(), description: description.clone() }
                }
                Group::List => Command::GroupList,
            },
        )?),
        // The store's owner has no say in what opens somebody's secrets.
        cli::Command::Key(Key::Confirm { .. }) | cli::Command::Password(_) if cli.data.is_some() => Err(Problem::bad(
            "what opens your secrets is for you to say, as yourself: leave out --data, and name the server's socket with --socket",
        )),
        cli::Command::Key(Key::Confirm { id, socket }) => {
            let body = json!({ "id": id }).to_string().into_bytes();
            own_act(socket, "/dkusecrets/v1/keys/confirm", body)
        }
        cli::Command::Key(Key::Create { user, label, days }) => {
            let expires = days.map(|days| server::now() + i64::from(days) * 24 * 60 * 60 * 1000);
            let command = Command::KeyCreate { user: user.clone(), label: label.clone(), expires };
            let made = on_store(data_of(cli)?, &command)?;
            if !cli.json {
                // Alone on standard output, so that a script can take it.
                own::line(made["key"].as_str().unwrap_or_default())?;
                if made["confirmed"] == false {
                    eprintln!(
                        "dkusecrets: this key opens no secret until {user} confirms it: dkusecrets key confirm {}",
                        made["id"].as_str().unwrap_or_default()
                    );
                }
                return Ok(());
            }
            print(&made)
        }
        cli::Command::Key(Key::List { user }) => {
            print(&on_store(data_of(cli)?, &Command::KeyList { user: user.clone() })?)
        }
        cli::Command::Key(Key::Revoke { id }) => {
            print(&on_store(data_of(cli)?, &Command::KeyRevoke { id: id.clone() })?)
        }
        cli::Command::Ticket(ticket) => print(&on_store(
            data_of(cli)?,
            &match ticket {
                Ticket::List { user } => Command::TicketList { user: user.clone() },
                Ticket::Revoke { id } => Command::TicketRevoke { id: id.clone() },
            },
        )?),
        cli::Command::Rule(rule) => print(&on_store(
            data_of(cli)?,
            &match rule {
                Rule::List => Command::RuleList,
                Rule::AllowHeaders { application } => {
                    Command::RuleHeaders { application: application.clone(), allow: true }
                }
                Rule::DenyHeaders { application } => {
                    Command::RuleHeaders { application: application.clone(), allow: false }
                }
                Rule::Impersonation { allow } => Command::RuleImpersonation { allow: allow == "on" },
            },
        )?),
        cli::Command::Password(Password::Set { socket }) => {
            let typed = own::typed("New password: ", 1024)?;
            let text = std::str::from_utf8(&typed).map_err(|_| Problem::bad("a password is text in UTF-8"))?;
            let body = serde_json::to_vec(&json!({ "new_password": text }));
            let body = body.map_err(|_| Problem::internal("a password cannot be encoded"))?;
            own_act(socket, "/dkusecrets/v1/password", body)
        }
        cli::Command::Password(Password::Confirm { socket }) => {
            own_act(socket, "/dkusecrets/v1/password/confirm", Vec::new())
        }
        cli::Command::Audit(Audit::Verify) => print(&on_store(data_of(cli)?, &Command::AuditVerify)?),
        cli::Command::Audit(Audit::List { most }) => {
            print(&on_store(data_of(cli)?, &Command::AuditList { most: *most })?)
        }
        cli::Command::AcceptRestore { even_damaged } => {
            print(&commands::accept_restore(&absolute(data_of(cli)?)?, *even_damaged)?)
        }
        cli::Command::Status(Own { socket: None }) if cli.data.is_some() => {
            print(&on_store(data_of(cli)?, &Command::Status)?)
        }
        cli::Command::Status(own) if cli.data.is_none() => print(&own::status(&own::keeper(own)?)?),
        _ if cli.data.is_some() => Err(Problem::bad(
            "secrets are personal: ask the server for yours, as yourself; --data is for the store's owner",
        )),
        cli::Command::Set { name, description, own } => own::set(&own::keeper(own)?, name, description.clone()),
        cli::Command::Get { name, own } => own::get(&own::keeper(own)?, name, cli.json),
        // See above.
        cli::Command::Run(_) | cli::Command::Status(_) => Ok(()),
        cli::Command::List(own) => print(&own::list(&own::keeper(own)?)?),
        cli::Command::Remove { name, own } => own::remove(&own::keeper(own)?, name),
    }
}

/// What a person does with a credential of their own: the kernel says who it is.
fn own_act(socket: &Path, path: &str, body: Vec<u8>) -> Result<()> {
    let way_out = format!(
        "{}; from another machine it is POST {path} with an API key of yours that opens your secrets",
        client::ANOTHER
    );
    client::request(&Way::Socket(socket.into()), &way_out, "POST", path, body.into()).map(drop)
}

fn data_of(cli: &Cli) -> Result<&Path> {
    let wrong = || Cli::command().error(ErrorKind::MissingRequiredArgument, "which store? --data DIR says so");
    cli.data.as_deref().map_or_else(|| wrong().exit(), Ok)
}

/// Makes a store. The administrator who is also its owner on this machine is known by user id from the start.
fn init(data: &Path, admin: &str, allow_impersonation: bool, url: Option<String>) -> Result<Value> {
    let data = absolute(data)?;
    Store::create(&data)?;
    let uid = vault::effective_user();
    let own = matches!(nix::unistd::User::from_uid(uid.into()), Ok(Some(user)) if user.name == admin);
    let server = Server::new(Store::open(&data)?);
    let begin = Command::Begin { admin: admin.into(), uid: own.then_some(uid), allow_impersonation, url };
    let person = commands::run(&server, &begin)?;
    server.store.flush()?;
    Ok(
        json!({ "store": server.store.info().id, "data": data, "admin": person["login"], "uid": person["uid"], "link": person["link"] }),
    )
}

/// How long one waits for another command to be done with a store.
const PATIENCE: Duration = Duration::from_secs(10);

/// A store, or what the server answers that has it open.
enum Opened<T> {
    Here(Box<Store>),
    There(T),
}

/// Opens a store; `there` asks its server, if one answers. Another command has it open for a moment only.
fn open<T>(data: &Path, there: impl Fn() -> Result<Option<T>>) -> Result<Opened<T>> {
    let begun = Instant::now();
    loop {
        match Store::open(data) {
            Err(vault::Error::InUse(_)) => {}
            opened => return Ok(Opened::Here(Box::new(opened?))),
        }
        if let Some(answer) = there()? {
            return Ok(Opened::There(answer));
        }
        if begun.elapsed() > PATIENCE {
            return Err(Problem::unavailable(format!(
                "the store {} is in use by another process, which answers on no socket: stop it if it is a server, or start it with --socket; if it is a command, try again",
                data.display()
            )));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a command on a store, or has the server run it that has it open.
fn on_store(data: &Path, command: &Command) -> Result<Value> {
    let data = absolute(data)?;
    match open(&data, || client::ask(&data, command))? {
        Opened::Here(store) => {
            let server = Server::new(*store);
            let answer = commands::run(&server, command)?;
            server.store.flush()?;
            // Nobody else has the store. It is done another time if not now.
            let _ = server.store.tidy(true);
            Ok(answer)
        }
        Opened::There(answer) => Ok(answer),
    }
}

/// The places that a server's settings come from.
fn places(given: &cli::Serve, matches: &ArgMatches, data: Option<&Path>) -> Result<config::Places> {
    let matches = matches.subcommand().map_or(matches, |(_, matches)| matches);
    config::Places::new(&given.settings, matches, given.file.as_deref(), data)
}

/// The settings in force: the server's that has the store open, or else those that one would begin with.
fn in_force(cli: &Cli, given: &cli::Serve, matches: &ArgMatches) -> Result<Value> {
    let Some(data) = cli.data.as_deref().map(absolute).transpose()? else {
        return Ok(places(given, matches, None)?.read()?.listed().into());
    };
    match open(&data, || client::ask(&data, &Command::Config))? {
        Opened::Here(store) => {
            let server = Server::new(*store);
            server.set_settings(places(given, matches, Some(&data))?.read()?);
            commands::run(&server, &Command::Config)
        }
        Opened::There(answer) => Ok(answer),
    }
}

fn serve_store(data: &Path, given: &cli::Serve, matches: &ArgMatches) -> Result<()> {
    let places = places(given, matches, Some(data))?;
    let settings = places.read()?;
    let log = log::begin(&settings.log);
    // A command may have it open; whichever server has it keeps it.
    let store = match open(data, || Ok(client::socket_of(data)))? {
        Opened::Here(store) => *store,
        Opened::There(_) => return Err(vault::Error::InUse(data.into()).into()),
    };
    let server = Arc::new(Server::new(store));
    server.set_settings(settings);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Problem::internal(format!("cannot start: {e}")))?;
    runtime.block_on(serve::serve(server, places, data, &log))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Problem::bad(format!("{}: {e}", path.display())))
}
