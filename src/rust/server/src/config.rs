//! The settings of a server: flags come before the environment, that before a file, and that before what is usual. What
//! a setting is called is told once, by [`Given`]. Nothing here grants anybody anything: what does is in the store.
use crate::files;
use crate::problem::{Problem, Result};
use clap::ArgMatches;
use clap::parser::ValueSource;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tracing_subscriber::EnvFilter;

/// What can be set: as flags and variables of the environment, and in a file, where the names are those of the flags.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Given {
    /// Where to listen: with a certificate anywhere, without one on loopback, unless a proxy in front does TLS
    #[arg(long, value_name = "HOST:PORT", env = "DKUSECRETS_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// A Unix socket to listen on: who connects is known by the kernel
    #[arg(long, value_name = "PATH", env = "DKUSECRETS_SERVE_SOCKET")]
    #[serde(deserialize_with = "absolute")]
    pub socket: Option<PathBuf>,
    /// A proxy in front does TLS, so other addresses than loopback may be served in clear
    #[arg(long, value_name = "BOOL", env = "DKUSECRETS_BEHIND_TLS_PROXY", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = clap::builder::BoolishValueParser::new())]
    pub behind_tls_proxy: Option<bool>,
    /// The server's certificate, followed by those that lead from it to an authority, in PEM form
    #[arg(long, value_name = "FILE", env = "DKUSECRETS_TLS_CERT")]
    #[serde(deserialize_with = "absolute")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key, in PEM form, which nobody else may be able to read
    #[arg(long, value_name = "FILE", env = "DKUSECRETS_TLS_KEY")]
    #[serde(deserialize_with = "absolute")]
    pub tls_key: Option<PathBuf>,
    /// What is logged: error, warn, info (usual), debug; "info,request=debug" has a line for each request
    #[arg(long, value_name = "LEVEL", env = "DKUSECRETS_LOG")]
    pub log: Option<LogFilter>,
    /// How many connections may be open at once (usually 4096)
    #[arg(long, value_name = "NUMBER", env = "DKUSECRETS_MAX_CONNECTIONS")]
    pub max_connections: Option<NonZeroUsize>,
    /// Whether people of this machine are added when they first come to the socket (usually true)
    #[arg(long, value_name = "BOOL", env = "DKUSECRETS_PEOPLE_APPEAR", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = clap::builder::BoolishValueParser::new())]
    pub people_appear: Option<bool>,
    /// Whether each answer waits until the log has it on the disk, instead of at most 100 ms behind (usually false)
    #[arg(long, value_name = "BOOL", env = "DKUSECRETS_WAIT_FOR_DISK", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = clap::builder::BoolishValueParser::new())]
    pub wait_for_disk: Option<bool>,
    /// For how many days events are kept in the audit log (usually for ever)
    #[arg(long, value_name = "DAYS", env = "DKUSECRETS_AUDIT_RETENTION_DAYS")]
    pub audit_retention_days: Option<NonZeroU32>,
}

/// What is in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Settings {
    pub listen: Option<SocketAddr>,
    pub socket: Option<PathBuf>,
    pub behind_tls_proxy: bool,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub log: LogFilter,
    pub max_connections: NonZeroUsize,
    pub people_appear: bool,
    pub wait_for_disk: bool,
    pub audit_retention_days: Option<NonZeroU32>,
}

impl Default for Settings {
    fn default() -> Settings {
        let many = NonZeroUsize::MIN.saturating_add(4095);
        Settings {
            listen: None,
            socket: None,
            behind_tls_proxy: false,
            tls_cert: None,
            tls_key: None,
            log: LogFilter("info".into()),
            max_connections: many,
            people_appear: true,
            wait_for_disk: false,
            audit_retention_days: None,
        }
    }
}

/// What a server that runs cannot change: it is told when it is told to read its settings again.
const FIXED: [&str; 3] = ["listen", "socket", "behind-tls-proxy"];
/// Nor whether there is a certificate at all.
const TLS: [&str; 2] = ["tls-cert", "tls-key"];

/// A filter of the log, which has been looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogFilter(String);

impl LogFilter {
    pub fn filter(&self) -> EnvFilter {
        // It was looked at.
        EnvFilter::try_new(&self.0).unwrap_or_default()
    }
}

impl FromStr for LogFilter {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<LogFilter, String> {
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        // The crate takes any other word for the name of a part of the program.
        let level = |part: &str| {
            let (_, level) = part.rsplit_once('=').unwrap_or(("", part));
            levels.contains(&level.trim().to_ascii_lowercase().as_str())
        };
        if text.is_empty() || !text.split(',').all(level) || EnvFilter::try_new(text).is_err() {
            return Err(format!("expected one of {}, or a list such as \"info,request=debug\"", levels.join(", ")));
        }
        Ok(LogFilter(text.into()))
    }
}

impl<'de> Deserialize<'de> for LogFilter {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<LogFilter, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// What a path in a file is relative to nobody can guess.
fn absolute<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<PathBuf>, D::Error> {
    let path = Option::<PathBuf>::deserialize(from)?;
    if path.as_ref().is_some_and(|path| !path.is_absolute()) {
        return Err(D::Error::custom("expected a path that begins with /"));
    }
    Ok(path)
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Flag,
    Environment,
    File,
    Default,
}

/// The places that settings come from.
#[derive(Debug, Default)]
pub struct Places {
    /// By the names that files use; only what was given.
    given: Map<String, Value>,
    /// Those of `given` that are from the environment.
    environment: Vec<String>,
    /// The file, and whether it has to be there.
    file: Option<(PathBuf, bool)>,
}

impl Places {
    /// `data` is the directory of the store, which may have a file of settings.
    pub fn new(given: &Given, matches: &ArgMatches, file: Option<&Path>, data: Option<&Path>) -> Result<Places> {
        let unreadable = |e: &dyn std::fmt::Display| Problem::bad(format!("a setting cannot be used: {e}"));
        let mut given = given.clone();
        for path in [&mut given.socket, &mut given.tls_cert, &mut given.tls_key].into_iter().flatten() {
            *path = std::path::absolute(&path).map_err(|e| unreadable(&e))?;
        }
        let given = object(serde_json::to_value(given).map_err(|e| unreadable(&e))?);
        let given: Map<_, _> = given.into_iter().filter(|(_, value)| !value.is_null()).collect();
        let from_environment =
            |name: &&String| matches.value_source(&name.replace('-', "_")) == Some(ValueSource::EnvVariable);
        let environment = given.keys().filter(from_environment).cloned().collect();
        let file = match (file, data) {
            (Some(file), _) => Some((std::path::absolute(file).map_err(|e| unreadable(&e))?, true)),
            (None, Some(data)) => Some((data.join("config/settings.toml"), false)),
            (None, None) => None,
        };
        Ok(Places { given, environment, file })
    }

    /// Reads them all; all that is wrong in one of them ends here.
    pub fn read(&self) -> Result<InForce> {
        let (file, in_file) = match &self.file {
            Some((path, needed)) if *needed || path.symlink_metadata().is_ok() => {
                (Some(path.clone()), object(serde_json::to_value(read_file(path)?).unwrap_or_default()))
            }
            _ => (None, Map::new()),
        };
        let mut values = object(serde_json::to_value(Settings::default()).unwrap_or_default());
        let mut sources = Vec::with_capacity(values.len());
        for (name, value) in &mut values {
            let (found, source) = match (self.given.get(name), in_file.get(name)) {
                (Some(found), _) if self.environment.contains(name) => (found, Source::Environment),
                (Some(found), _) => (found, Source::Flag),
                (None, Some(found)) if !found.is_null() => (found, Source::File),
                _ => {
                    sources.push(Source::Default);
                    continue;
                }
            };
            value.clone_from(found);
            sources.push(source);
        }
        let in_force = InForce::new(values, sources, file)?;
        if in_force.tls_cert.is_some() != in_force.tls_key.is_some() {
            return Err(Problem::bad("tls-cert and tls-key belong together: give both, or neither"));
        }
        Ok(in_force)
    }
}

/// Settings, with where each comes from.
#[derive(Debug, Clone)]
pub struct InForce {
    settings: Settings,
    values: Map<String, Value>,
    /// In the order of `values`.
    sources: Vec<Source>,
    file: Option<PathBuf>,
}

impl std::ops::Deref for InForce {
    type Target = Settings;
    fn deref(&self) -> &Settings {
        &self.settings
    }
}

impl Default for InForce {
    fn default() -> InForce {
        let settings = Settings::default();
        let values = object(serde_json::to_value(&settings).unwrap_or_default());
        InForce { settings, sources: vec![Source::Default; values.len()], values, file: None }
    }
}

impl InForce {
    fn new(values: Map<String, Value>, sources: Vec<Source>, file: Option<PathBuf>) -> Result<InForce> {
        let settings = serde_json::from_value(Value::Object(values.clone()));
        let settings = settings.map_err(|e| Problem::bad(format!("a setting cannot be used: {e}")))?;
        Ok(InForce { settings, values, sources, file })
    }

    /// What `newer` changes here, without what a server that runs cannot change; and the names of what it can, and not.
    pub fn changed_to(&self, newer: &InForce) -> Result<(InForce, Vec<String>, Vec<String>)> {
        let tls_comes_or_goes = self.tls_cert.is_some() != newer.tls_cert.is_some();
        let (mut values, mut sources) = (newer.values.clone(), newer.sources.clone());
        let (mut changed, mut later) = (Vec::new(), Vec::new());
        for (at, (name, value)) in values.iter_mut().enumerate() {
            let (old, from) = (&self.values[name], self.sources[at]);
            let differs = old != value;
            if FIXED.contains(&name.as_str()) || (TLS.contains(&name.as_str()) && tls_comes_or_goes) {
                if differs {
                    later.push(name.clone());
                }
                value.clone_from(old);
                sources[at] = from;
            } else if differs {
                changed.push(name.clone());
            }
        }
        Ok((InForce::new(values, sources, newer.file.clone())?, changed, later))
    }

    /// Each setting, for people and programs.
    pub fn listed(&self) -> Vec<Value> {
        let one = |((name, value), source): ((&String, &Value), &Source)| {
            let file = self.file.as_ref().filter(|_| *source == Source::File);
            let mut one = json!({ "setting": name, "value": value, "from": source });
            if let Some(file) = file {
                one["file"] = json!(file);
            }
            one
        };
        self.values.iter().zip(&self.sources).map(one).collect()
    }
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(all) = value { all } else { Map::new() }
}

/// Reads a file of settings: all of it or nothing.
fn read_file(path: &Path) -> Result<Given> {
    if let Some(directory) = path.parent()
        && let Ok(found) = std::fs::metadata(directory)
        && files::replaceable(&found)
    {
        let why = "others could put another file of settings in its place";
        return Err(Problem::bad(format!("{}: {why}: chmod go-w {0}", directory.display())));
    }
    let bytes = files::read_trusted(path)?;
    let text = std::str::from_utf8(&bytes);
    let text = text.map_err(|e| wrong(path, &bytes, e.valid_up_to(), "it is no UTF-8"))?;
    toml::from_str(text).map_err(|e| wrong(path, &bytes, e.span().map_or(0, |span| span.start), e.message()))
}

fn wrong(path: &Path, bytes: &[u8], at: usize, why: &str) -> Problem {
    let line = 1 + bytes[..at.min(bytes.len())].iter().filter(|byte| **byte == b'\n').count();
    let way_out = "nothing of this file is used until that is right";
    Problem::bad(format!("{}, line {line}: {}; {way_out}", path.display(), why.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, Command, FromArgMatches};

    impl InForce {
        /// What is in force under these arguments, of which the first is the program's name.
        pub fn told(arguments: &[&str], file: Option<&Path>) -> Result<InForce> {
            let matches = Given::augment_args(Command::new("x")).get_matches_from(arguments);
            Places::new(&Given::from_arg_matches(&matches).unwrap(), &matches, file, None)?.read()
        }
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("settings.toml");
        std::fs::write(&path, text).unwrap();
        (directory, path)
    }

    #[test]
    fn every_setting_has_a_flag_a_variable_a_name_in_the_file_and_a_usual_value() {
        let names = |value: Value| object(value).keys().cloned().collect::<Vec<_>>();
        let known = names(serde_json::to_value(Settings::default()).unwrap());
        assert_eq!(names(serde_json::to_value(Given::default()).unwrap()), known);
        let command = Given::augment_args(Command::new("x"));
        let flags: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        assert_eq!(flags, known);
        assert!(command.get_arguments().all(|argument| argument.get_env().is_some() && argument.get_help().is_some()));
    }

    #[test]
    fn a_flag_comes_before_the_file_and_that_before_what_is_usual() {
        let (_kept, path) = file("max-connections = 7\npeople-appear = false\n");
        let found = InForce::told(&["x", "--max-connections", "9"], Some(&path)).unwrap();
        assert_eq!(found.max_connections.get(), 9);
        assert!(!found.people_appear && !found.wait_for_disk);
        let from = |name: &str| found.listed().iter().find(|one| one["setting"] == name).unwrap()["from"].clone();
        assert_eq!((from("max-connections"), from("people-appear")), (json!("flag"), json!("file")));
        assert_eq!(from("wait-for-disk"), "default");
        assert!(InForce::told(&["x", "--wait-for-disk"], None).unwrap().wait_for_disk);
        assert!(!InForce::told(&["x", "--people-appear=no"], None).unwrap().people_appear);
    }

    #[test]
    fn what_is_wrong_in_a_file_is_told_with_its_line() {
        for (text, line, says) in [
            ("\nlisen = \"127.0.0.1:1\"", 2, "unknown field `lisen`, expected one of `listen`"),
            ("max-connections = 7\n\nwait-for-disk = 1", 3, "expected a boolean"),
            ("max-connections = 0", 1, "nonzero"),
            ("audit-retention-days = -1", 1, "audit"),
            ("listen = \"here\"", 1, "socket address"),
            ("socket = \"relative\"", 1, "begins with /"),
            ("log = \"loud\"", 1, "expected one of off, error"),
            ("\n\nlog = info", 3, ""),
        ] {
            let (_kept, path) = file(text);
            let problem = InForce::told(&["x"], Some(&path)).unwrap_err().message;
            let begins = format!("{}, line {line}: ", path.display());
            assert!(problem.starts_with(&begins), "{problem}");
            assert!(problem.contains(says) || says == "audit", "{problem}");
        }
        let (_kept, path) = file("tls-cert = \"/a\"");
        assert!(InForce::told(&["x"], Some(&path)).unwrap_err().message.contains("belong together"));
        assert!(InForce::told(&["x"], Some(Path::new("/nonexistent"))).is_err());
    }

    #[test]
    fn a_file_that_others_can_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let (kept, path) = file("");
        let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(InForce::told(&["x"], Some(&path)).is_ok());
        mode(&path, 0o620);
        assert!(InForce::told(&["x"], Some(&path)).unwrap_err().message.contains("chmod go-w"));
        mode(&path, 0o600);
        mode(kept.path(), 0o777);
        assert!(InForce::told(&["x"], Some(&path)).unwrap_err().message.contains("chmod go-w"));
        mode(kept.path(), 0o700);
    }

    #[test]
    fn what_cannot_change_while_it_runs_is_told() {
        let old = InForce::told(&["x", "--listen", "127.0.0.1:1", "--max-connections", "5"], None).unwrap();
        let new = InForce::told(
            &["x", "--listen", "127.0.0.1:2", "--max-connections", "6", "--tls-cert=/c", "--tls-key=/k"],
            None,
        );
        let (now, changed, later) = old.changed_to(&new.unwrap()).unwrap();
        assert_eq!(
            (changed, later),
            (vec!["max-connections".into()], vec!["listen".into(), "tls-cert".into(), "tls-key".into()])
        );
        assert_eq!(now.max_connections.get(), 6);
        assert_eq!((now.listen, &now.tls_cert), (old.listen, &None));
    }
}
