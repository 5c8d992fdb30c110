//! Where things are and which network is meant: flag, then environment, then file.
//!
//! ```text
//! FARM_HOME/            (else ~/.config/farm for config.toml and secrets, ~/.local/share/farm for the rest)
//!   config.toml         contexts, and which of them is current
//!   secrets/            what jobs must know, each locked with a key made from the account's
//!   account.key         the account's key, mode 0600, made on first use
//!   machine.path        the folder of the machine that was started last, if any
//!   jobs/               what we know of our jobs and the ledger does not: their names
//! ```
//! Guarantees: the only place that reads the environment; files are replaced as a whole. A context holds an address and
//! nothing secret.

use crate::backend::BlobSettings;
use crate::exit::Failure;
use pasture_store::write_atomic;
use pasture_types::ZoneId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where `farm dev` listens unless told otherwise, and where we look when nothing is configured.
pub(crate) const DEFAULT_API_URL: &str = "http://127.0.0.1:8730";
/// The context that `farm dev` sets for as long as it runs.
pub(crate) const DEV_CONTEXT: &str = "dev";
/// Largest configuration file.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
const MAX_CONTEXT_NAME: usize = 32;

/// What we take from the environment.
#[derive(Clone, Default, Debug)]
pub(crate) struct Env {
    /// `FARM_HOME`.
    pub(crate) home: Option<PathBuf>,
    /// `FARM_API_URL`.
    pub(crate) api_url: Option<String>,
    /// `FARM_CONTEXT`.
    pub(crate) context: Option<String>,
    /// `FARM_PASSPHRASE_FILE`: where the passphrase of a locked main key is.
    pub(crate) passphrase_file: Option<PathBuf>,
    /// `FARM_LOG`: filter of our own log.
    pub(crate) log: Option<String>,
    /// `FARM_LOG_FORMAT`: how a node writes its log.
    pub(crate) log_format: Option<String>,
    /// `FARM_FAILPOINT`: `name:count` makes a local network kill itself there, for tests of crashes.
    pub(crate) failpoint: Option<String>,
    /// `NO_COLOR` is set.
    pub(crate) no_color: bool,
    /// `CI=true`: nobody is there to answer.
    pub(crate) ci: bool,
    /// `XDG_CONFIG_HOME`.
    pub(crate) xdg_config: Option<PathBuf>,
    /// `XDG_DATA_HOME`.
    pub(crate) xdg_data: Option<PathBuf>,
    /// `HOME`.
    pub(crate) user_home: Option<PathBuf>,
}

impl Env {
    /// Reads the environment of this process.
    #[allow(clippy::disallowed_methods)] // the one place of the binary that reads it
    pub(crate) fn read() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let path = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Self {
            home: path("FARM_HOME"),
            api_url: text("FARM_API_URL"),
            context: text("FARM_CONTEXT"),
            passphrase_file: path("FARM_PASSPHRASE_FILE"),
            log: text("FARM_LOG"),
            log_format: text("FARM_LOG_FORMAT"),
            failpoint: text("FARM_FAILPOINT"),
            no_color: text("NO_COLOR").is_some(),
            ci: text("CI").as_deref() == Some("true"),
            xdg_config: path("XDG_CONFIG_HOME"),
            xdg_data: path("XDG_DATA_HOME"),
            user_home: path("HOME"),
        }
    }
}

/// Where our files are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Paths {
    config_dir: PathBuf,
    /// Keys, job records, data.
    pub(crate) data_dir: PathBuf,
}

impl Paths {
    /// Works out where our files are.
    pub(crate) fn of(env: &Env) -> Result<Self, Failure> {
        if let Some(home) = &env.home {
            let home = absolute(home)?;
            return Ok(Self { config_dir: home.clone(), data_dir: home });
        }
        let under = |xdg: &Option<PathBuf>, default: &str| {
            let base = xdg.clone().filter(|p| p.is_absolute()).or_else(|| env.user_home.as_ref().map(|h| h.join(default)));
            base.map(|b| b.join("farm"))
        };
        match (under(&env.xdg_config, ".config"), under(&env.xdg_data, ".local/share")) {
            (Some(config_dir), Some(data_dir)) => Ok(Self { config_dir, data_dir }),
            _ => Err(Failure::new("no-home", "neither FARM_HOME nor HOME is set, so there is no place for farm's files")
                .next("set FARM_HOME to a folder of yours")),
        }
    }
    /// The configuration file.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.config_dir.join("config.toml")
    }
    /// The account's key.
    pub(crate) fn account_key(&self) -> PathBuf {
        self.data_dir.join("account.key")
    }
    /// This device's key, while the account's is locked.
    pub(crate) fn device_key(&self) -> PathBuf {
        self.data_dir.join("device.key")
    }
    /// Where the machine that was started last has its files.
    pub(crate) fn machine_note(&self) -> PathBuf {
        self.data_dir.join("machine.path")
    }
    /// What was learned of a network that was joined: who serves it, beyond its ticket.
    pub(crate) fn learned(&self, zone: &ZoneId) -> PathBuf {
        self.data_dir.join("networks").join(zone.to_string())
    }
    /// The folder of the user's secrets, each locked.
    pub(crate) fn secrets(&self) -> PathBuf {
        self.config_dir.join("secrets")
    }
    /// The folder of job records.
    pub(crate) fn jobs(&self) -> PathBuf {
        self.data_dir.join("jobs")
    }
    /// Makes the data folder, readable by its owner only.
    pub(crate) fn ensure_data_dir(&self) -> Result<(), Failure> {
        make_private(&self.data_dir)
    }
}

/// The same path, wherever this process may be: engines and services know nothing of our current folder.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::io("find", path, &e))
}

/// Makes a folder that only its owner can read.
pub(crate) fn make_private(dir: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| Failure::io("create", dir, &e))
}

/// One network to talk to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Address of a gateway.
    pub(crate) api_url: String,
    /// The validators that its answers are checked against, as `pasture_light` encodes a set, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) validators: Option<String>,
    /// What the network is reached with, peer to peer: a ticket without an invite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ticket: Option<String>,
}

/// The configuration file.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ConfigFile {
    /// The context in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) context: Option<String>,
    /// The context to go back to when `farm dev` ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) before_dev: Option<String>,
    /// The images that a machine keeps.
    #[serde(skip_serializing_if = "ImagesConfig::is_default")]
    pub(crate) images: ImagesConfig,
    /// All contexts.
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// The images that a machine keeps.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ImagesConfig {
    /// Most disk for them: `20Gi`. Absent: a quarter of what is free, at least 4 and at most 50 GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<String>,
    /// Most disk for images as they come, kept beside for other machines: `10Gi`; `0` leaves images to the engine. Absent: half of `limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) blobs: Option<String>,
    /// `false`: other machines get none of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) share: Option<bool>,
    /// Registries of one's own network: `http://10.0.0.5:5000`. Others must have public addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) registries: Vec<String>,
}

impl ImagesConfig {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
    /// What is kept of them as they come.
    pub(crate) fn blobs(&self) -> Result<BlobSettings, Failure> {
        let wrong = |what: &str, e: String| Failure::new("config", format!("images.{what}: {e}"));
        let limit_bytes = self.blobs.as_deref().map(pasture_types::resources::parse_bytes).transpose();
        let limit_bytes = limit_bytes.map_err(|e| wrong("blobs", e.to_string()).next("write for example  blobs = \"10Gi\""))?;
        let registries = self.registries.iter().map(|url| url.parse()).collect::<Result<_, String>>();
        let registries =
            registries.map_err(|e| wrong("registries", e).next("write for example  registries = [\"http://10.0.0.5:5000\"]"))?;
        Ok(BlobSettings { limit_bytes, shared: self.share.unwrap_or(true), registries })
    }
    /// In bytes.
    pub(crate) fn limit_bytes(&self) -> Result<Option<u64>, Failure> {
        let parsed = self.limit.as_deref().map(pasture_types::resources::parse_bytes).transpose();
        parsed.map_err(|e| Failure::new("config", format!("images.limit: {e}")).next("write for example  limit = \"20Gi\""))
    }
}

impl ConfigFile {
    /// Reads the file; an absent one is empty.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        match std::fs::metadata(path) {
            Ok(m) if m.len() > MAX_CONFIG_BYTES => {
                return Err(Failure::new("config", format!("{} is larger than a configuration can be", path.display())));
            }
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(Failure::io("read", path, &e)),
        }
        let text = std::fs::read_to_string(path).map_err(|e| Failure::io("read", path, &e))?;
        toml::from_str(&text).map_err(|e| {
            let line = e.span().map_or(1, |s| text.get(..s.start).map_or(1, |t| t.matches('\n').count() + 1));
            Failure::new("config", format!("{}:{line}: {}", path.display(), e.message()))
                .next(format!("repair that line, or move {} away to start over", path.display()))
        })
    }
    /// Replaces the file.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Failure> {
        if let Some(dir) = path.parent() {
            make_private(dir)?;
        }
        let body = toml::to_string(self).map_err(|e| Failure::new("config", e.to_string()))?;
        let text = format!("# Written by `farm context` and `farm dev`.\n{body}");
        write_atomic(path, text.as_bytes()).map_err(Failure::from)
    }
    /// Adds the context of a local network and makes it the current one.
    pub(crate) fn enter_dev(&mut self, api_url: &str, validators: Option<String>) {
        if self.context.as_deref() != Some(DEV_CONTEXT) {
            self.before_dev = self.context.take();
        }
        self.context = Some(DEV_CONTEXT.into());
        self.contexts.insert(DEV_CONTEXT.into(), Context { api_url: api_url.into(), validators, ticket: None });
    }
    /// Removes it again, unless another local network has taken the name since.
    pub(crate) fn leave_dev(&mut self, api_url: &str) {
        if self.contexts.get(DEV_CONTEXT).is_none_or(|c| c.api_url != api_url) {
            return;
        }
        self.contexts.remove(DEV_CONTEXT);
        if self.context.as_deref() == Some(DEV_CONTEXT) {
            self.context = self.before_dev.take().filter(|name| self.contexts.contains_key(name));
        }
        self.before_dev = None;
    }
}

/// Refuses names that would not survive a command line.
pub(crate) fn check_context_name(name: &str) -> Result<(), Failure> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if name.is_empty() || name.len() > MAX_CONTEXT_NAME || !name.bytes().all(legal) {
        return Err(Failure::usage(format!(
            "`{name}` is not a context's name: lower-case letters, digits and dashes, at most {MAX_CONTEXT_NAME}"
        )));
    }
    Ok(())
}

/// Refuses what is not the address of an API.
pub(crate) fn check_api_url(url: &str) -> Result<(), Failure> {
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => Ok(()),
        _ => Err(Failure::usage(format!("`{url}` is not an address: write for example {DEFAULT_API_URL}"))),
    }
}

/// Which network is meant, and who says so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Target {
    /// Address of its API.
    pub(crate) api_url: String,
    /// The context it comes from, if it comes from one.
    pub(crate) context: Option<String>,
    /// The validators that its answers are checked against, if we know whom to trust.
    pub(crate) validators: Option<String>,
    /// What it is reached with, if that is peer to peer.
    pub(crate) ticket: Option<String>,
}

/// Flag, then environment, then file, then the default address.
pub(crate) fn target(api_url: Option<&str>, context: Option<&str>, env: &Env, file: &ConfigFile) -> Result<Target, Failure> {
    let named = |name: &str| match file.contexts.get(name) {
        Some(c) => Ok(Target {
            api_url: c.api_url.clone(),
            context: Some(name.into()),
            validators: c.validators.clone(),
            ticket: c.ticket.clone(),
        }),
        None if name == DEV_CONTEXT => {
            Ok(Target { api_url: DEFAULT_API_URL.into(), context: Some(name.into()), validators: None, ticket: None })
        }
        None => Err(Failure::usage(format!("there is no context `{name}`"))
            .next("see which there are:  farm context list")
            .next(format!("or make it:  farm context create {name} --api-url URL"))),
    };
    // A bare address that a context has too is checked as that context's.
    let bare = |url: &str| {
        let api_url = url.trim_end_matches('/').to_string();
        let known = || file.contexts.values().filter(|c| c.api_url == api_url);
        let (validators, ticket) = (known().find_map(|c| c.validators.clone()), known().find_map(|c| c.ticket.clone()));
        check_api_url(url).map(|()| Target { api_url, context: None, validators, ticket })
    };
    match (api_url, context, &env.api_url, &env.context, &file.context) {
        (Some(url), ..) => bare(url),
        (None, Some(name), ..) => named(name),
        (None, None, Some(url), ..) => bare(url),
        (None, None, None, Some(name), _) | (None, None, None, None, Some(name)) => named(name),
        (None, None, None, None, None) => bare(DEFAULT_API_URL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> ConfigFile {
        let mut f = ConfigFile { context: Some("a".into()), ..ConfigFile::default() };
        for name in ["a", "b"] {
            f.contexts.insert(name.into(), Context { api_url: format!("http://{name}"), validators: None, ticket: None });
        }
        f
    }

    #[test]
    fn a_flag_beats_the_environment_and_that_beats_the_file() {
        let url = |flag: Option<&str>, ctx: Option<&str>, env: &Env| target(flag, ctx, env, &file()).unwrap().api_url;
        let none = Env::default();
        let env = Env { api_url: Some("http://env".into()), context: Some("b".into()), ..Env::default() };
        assert_eq!(url(None, None, &none), "http://a");
        assert_eq!(url(None, None, &Env { api_url: None, ..env.clone() }), "http://b");
        assert_eq!(url(None, None, &env), "http://env");
        assert_eq!(url(None, Some("a"), &env), "http://a");
        assert_eq!(url(Some("http://flag/"), Some("a"), &env), "http://flag");
        assert_eq!(target(None, None, &none, &ConfigFile::default()).unwrap().api_url, DEFAULT_API_URL);
        assert!(target(None, Some("zzz"), &none, &file()).is_err());
        assert!(target(Some("zzz"), None, &none, &file()).is_err());
    }

    #[test]
    fn a_local_network_gives_back_the_context_it_took() {
        let mut f = file();
        f.enter_dev("http://one", Some("01".into()));
        f.enter_dev("http://two", None);
        assert_eq!(f.context.as_deref(), Some("dev"));
        f.leave_dev("http://one");
        assert_eq!(f.context.as_deref(), Some("dev"), "another network took the name");
        f.leave_dev("http://two");
        assert_eq!(f, file());
    }

    #[test]
    fn the_file_round_trips_and_errors_name_the_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x").join("config.toml");
        assert_eq!(ConfigFile::load(&path).unwrap(), ConfigFile::default());
        file().save(&path).unwrap();
        assert_eq!(ConfigFile::load(&path).unwrap(), file());
        std::fs::write(&path, "context = \"a\"\ncontexs = 3\n").unwrap();
        assert!(ConfigFile::load(&path).unwrap_err().message.contains("config.toml:2"));
    }

    #[test]
    fn home_overrides_both_folders() {
        let env = Env { home: Some("/x".into()), user_home: Some("/home/u".into()), ..Env::default() };
        assert_eq!(Paths::of(&env).unwrap().config_file(), Path::new("/x/config.toml"));
        let env = Env { home: None, ..env };
        let paths = Paths::of(&env).unwrap();
        assert_eq!(paths.config_file(), Path::new("/home/u/.config/farm/config.toml"));
        assert_eq!(paths.account_key(), Path::new("/home/u/.local/share/farm/account.key"));
        assert!(Paths::of(&Env::default()).is_err());
    }
}
