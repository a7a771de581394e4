//! What the program can be told: help, usage and checks come from here.
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Your own secrets from a shell, and one store for many people.
///
/// Without --data, commands are about your own secrets, where R has them: those that a server keeps for you, whose socket
/// --socket or DKUSECRETS_SOCKET names, or which is at /run/dkusecrets/dkusecrets.sock; or those in your own vault. With
/// --data, they are about the store of a server: its owner can run them whether a server has it open or not.
///
/// Exit status: 0 done, 1 refused or not found, 2 wrong usage, 3 unavailable.
#[derive(Debug, Parser)]
#[command(name = "dkusecrets", version, disable_help_subcommand = true)]
pub struct Cli {
    /// The directory of a server's store
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the store of a server, and its first administrator
    Init {
        /// The administrator's login
        #[arg(long, value_name = "LOGIN")]
        admin: String,
        /// Let administrators act as other people (every such act is in the log of whom it is about)
        #[arg(long)]
        allow_impersonation: bool,
        /// Where the server will be found, for the administrator's link
        #[arg(long, value_name = "URL")]
        url: Option<String>,
    },
    /// Serve a store until SIGTERM
    Serve(Serve),
    /// Show a server's settings, and where each comes from: a flag, the environment, a file, the store
    ///
    /// With --data, of the server that has the store open, or else those that one would begin with.
    Config(Serve),
    /// People of a store
    #[command(subcommand)]
    User(User),
    /// Groups of a store
    #[command(subcommand)]
    Group(Group),
    /// API keys of a store
    #[command(subcommand)]
    Key(Key),
    /// Tickets of runs and applications
    #[command(subcommand)]
    Ticket(Ticket),
    /// What the owner of a store allows
    #[command(subcommand)]
    Rule(Rule),
    /// Your own password at a server, by its socket
    #[command(subcommand)]
    Password(Password),
    /// The log of a store
    #[command(subcommand)]
    Audit(Audit),
    /// Accept a store whose files were put back from a backup on purpose, while no server runs on it
    AcceptRestore {
        /// Accept what can be opened, though something in it is damaged
        #[arg(long)]
        even_damaged: bool,
    },
    /// Where a store, or what keeps your secrets, is and how it is
    Status(Own),
    /// Store a secret of yours: the value comes from standard input, or is asked for without showing it
    Set {
        /// The secret's name
        name: String,
        /// What it is for
        #[arg(long)]
        description: Option<String>,
        #[command(flatten)]
        own: Own,
    },
    /// Print the value of a secret of yours, byte for byte
    Get {
        /// The secret's name
        name: String,
        #[command(flatten)]
        own: Own,
    },
    /// Run a command as yourself or, where acting as others is allowed, as somebody else: with a ticket for that person
    /// only, which ends with the command
    Run(Run),
    /// List your secrets, without values
    List(Own),
    /// Remove a secret of yours; dkuRestoreSecret() in R brings it back
    Remove {
        /// The secret's name
        name: String,
        #[command(flatten)]
        own: Own,
    },
    /// Print a page for man(1): dkusecrets man | man -l -
    Man {
        /// The command that the page is about; the whole program if none is given
        command: Vec<String>,
        /// Write all pages into this directory instead
        #[arg(long, value_name = "DIR", conflicts_with = "command")]
        directory: Option<PathBuf>,
    },
    /// Print completion for a shell: source <(dkusecrets completion bash)
    Completion {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub struct Serve {
    /// A file of settings, named as these flags are; config/settings.toml in the store's directory if this is not given
    #[arg(long = "settings", value_name = "FILE", env = "DKUSECRETS_SETTINGS")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub settings: crate::config::Given,
}

/// Who keeps one's secrets.
#[derive(Debug, Args)]
pub struct Own {
    /// The socket of the server that keeps them; without this, who keeps them is found as R does
    // Not from the environment by itself: other variables come before that one.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Run {
    /// Whose secrets the command reads; yourself if this is not given
    #[arg(long = "as", value_name = "LOGIN")]
    pub login: Option<String>,
    /// What the command is, for the log
    #[arg(long, value_parser = ["recipe", "notebook", "plugin-recipe"], default_value = "recipe")]
    pub kind: String,
    /// The server's socket
    #[arg(long, value_name = "PATH", env = "DKUSECRETS_SOCKET", default_value = "/run/dkusecrets/dkusecrets.sock")]
    pub socket: PathBuf,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

#[derive(Debug, Subcommand)]
pub enum User {
    /// Add somebody
    Add {
        login: String,
        /// A group they are to be in; may be given more than once
        #[arg(long, value_name = "NAME")]
        group: Vec<String>,
    },
    /// Who there is
    List,
    /// Remove somebody, with their secrets and keys
    Remove { login: String },
    /// Set the groups somebody is in (none leaves them in none)
    Groups {
        login: String,
        #[arg(value_name = "NAME")]
        groups: Vec<String>,
    },
    /// Let somebody be known by a user id of this machine
    Link {
        login: String,
        #[arg(long)]
        uid: u32,
    },
    /// Print a link by which somebody sets their password: it holds for 10 minutes, and once
    Invite {
        login: String,
        /// Where the server is found
        #[arg(long, value_name = "URL")]
        url: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Group {
    /// Add a group
    Add {
        name: String,
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Which groups there are
    List,
}

#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a key; it is printed once, alone
    Create {
        /// Whose key it is
        #[arg(long, value_name = "LOGIN")]
        user: String,
        /// What it is for
        #[arg(long, value_name = "TEXT")]
        label: String,
        /// For how many days it holds; for ever if this is not given
        #[arg(long, value_name = "DAYS")]
        days: Option<u32>,
    },
    /// Which keys there are, never the keys themselves
    List {
        /// Only this person's
        #[arg(long, value_name = "LOGIN")]
        user: Option<String>,
    },
    /// Revoke a key
    Revoke { id: String },
    /// Say that a key which somebody else made for you is to open your secrets
    Confirm {
        id: String,
        /// The server's socket
        #[arg(long, value_name = "PATH", env = "DKUSECRETS_SOCKET", default_value = "/run/dkusecrets/dkusecrets.sock")]
        socket: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum Ticket {
    /// Which tickets there are, never the tickets themselves
    List {
        /// Only this person's
        #[arg(long, value_name = "LOGIN")]
        user: Option<String>,
    },
    /// Revoke a ticket
    Revoke { id: String },
}

#[derive(Debug, Subcommand)]
pub enum Rule {
    /// What is allowed
    List,
    /// Let an application ask for the people who look at it, by the headers of their browsers
    AllowHeaders {
        /// The login that it runs as, or the id of its API key
        #[arg(value_name = "LOGIN|KEY")]
        application: String,
    },
    /// Let it do so no more
    DenyHeaders {
        /// The login that it runs as, or the id of its API key
        #[arg(value_name = "LOGIN|KEY")]
        application: String,
    },
    /// Let administrators act as other people, or not
    Impersonation {
        #[arg(value_parser = ["on", "off"])]
        allow: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Password {
    /// Set it: it comes from standard input, or is asked for without showing it
    Set {
        /// The server's socket
        #[arg(long, value_name = "PATH", env = "DKUSECRETS_SOCKET", default_value = "/run/dkusecrets/dkusecrets.sock")]
        socket: PathBuf,
    },
    /// Say that a password which somebody else had a part in is to open your secrets
    Confirm {
        /// The server's socket
        #[arg(long, value_name = "PATH", env = "DKUSECRETS_SOCKET", default_value = "/run/dkusecrets/dkusecrets.sock")]
        socket: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Look whether an event was changed, dropped, cut off, moved or hidden
    Verify,
    /// The last events
    List {
        #[arg(long, default_value_t = 100)]
        most: usize,
    },
}
