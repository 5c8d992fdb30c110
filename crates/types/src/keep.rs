//! What outlives a job or must not be seen with it: its volumes and its secrets, as a user writes them and as a node receives them.
//!
//! Guarantees: names that pass [`check_kept_name`] are words that can be part of a path on any system; paths that pass are absolute,
//! plain, outside of what the engine and we mount ourselves, and no one lies inside another. The same checks serve client and node.
//! It holds no content: a secret's value never is in a spec or a manifest.

use crate::resources::parse_bytes;
use crate::spec::{Scalar, SpecError};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Most volumes of one job: each is a mount on the machine.
pub const MAX_VOLUMES: usize = 8;
/// Most secrets of one job.
pub const MAX_SECRETS: usize = 32;
/// Longest name of a volume, snapshot or secret.
pub const MAX_KEPT_NAME: usize = 32;
/// Longest path inside a job.
pub const MAX_MOUNT_PATH: usize = 255;
/// Smallest volume: below it a file system is mostly its own overhead.
pub const MIN_VOLUME_BYTES: u64 = 16 << 20;
/// Largest volume.
pub const MAX_VOLUME_BYTES: u64 = 1 << 40;
/// Size of a new volume that names none.
pub const DEFAULT_VOLUME_BYTES: u64 = 1 << 30;
/// Where a job finds the secrets that are files.
pub const SECRETS_DIR: &str = "/run/secrets";

/// Places inside a job that belong to the engine or to us: what is mounted there would be mounted over, or into.
const RESERVED: [&str; 6] = ["/dev", "/etc", "/farm", "/proc", SECRETS_DIR, "/sys"];

/// A volume as written in a job file.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VolumeSpec {
    /// Its name: the account's own on that machine.
    pub name: String,
    /// Where the job finds it.
    pub path: String,
    /// e.g. `2Gi`: how large it is made; one that is there keeps its size.
    pub size: Option<Scalar>,
    /// The job cannot write to it; several such jobs can have it at once.
    pub read_only: bool,
}

/// A secret as written in a job file; `env` or `file`, not both.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecretSpec {
    /// Its name among the user's secrets.
    pub name: String,
    /// The variable that has its value.
    pub env: Option<String>,
    /// The file that has its value, in `/run/secrets` [default: its name there].
    pub file: Option<String>,
}

/// A volume of a job.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Its name.
    pub name: String,
    /// Where the job finds it.
    pub path: String,
    /// Its size: exactly that of the volume where the job may write; 0 as long as nobody has said, and where it only reads.
    pub bytes: u64,
    /// The job cannot write to it.
    pub read_only: bool,
}

/// How a job gets a secret.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretTarget {
    /// In this variable.
    Env(String),
    /// In this file.
    File(String),
}

/// A secret of a job, without its value.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct SecretMount {
    /// Its name among the user's secrets.
    pub name: String,
    /// How the job gets it.
    pub target: SecretTarget,
}

/// Whether a text can be the name of a volume, a snapshot or a secret.
///
/// # Errors
/// A sentence that says what a name is.
pub fn check_kept_name(name: &str) -> Result<(), String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let plain = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if plain && name.len() <= MAX_KEPT_NAME && name.bytes().all(legal) {
        return Ok(());
    }
    Err(format!("`{}` is not a name: letters, digits, `-` and `_`, at most {MAX_KEPT_NAME}, first a letter or digit", shown(name)))
}

/// A name that was not one, short and without control characters.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

fn inside(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn check_path(path: &str) -> Result<(), String> {
    let words = path.strip_prefix('/').unwrap_or_default();
    let plain = |word: &str| !word.is_empty() && word != "." && word != "..";
    // Engines write mounts as texts with colons and commas.
    let legal = path.chars().all(|c| !c.is_control() && !matches!(c, ':' | ',' | '\\'));
    if words.is_empty() || path.len() > MAX_MOUNT_PATH || !legal || !words.split('/').all(plain) {
        return Err(format!("`{}` is not a place: write an absolute path such as /data, without `..`, `:` and `,`", shown(path)));
    }
    match RESERVED.iter().find(|dir| inside(path, dir) || inside(dir, path)) {
        Some(dir) => Err(format!("`{}` cannot be used: {dir} is the system's", shown(path))),
        None => Ok(()),
    }
}

/// Checks the volumes of a job; the index of the first that makes no sense, and why.
///
/// # Errors
/// As said.
pub fn check_volumes(volumes: &[VolumeMount]) -> Result<(), (usize, String)> {
    if volumes.len() > MAX_VOLUMES {
        return Err((MAX_VOLUMES, format!("{} volumes where at most {MAX_VOLUMES} are possible", volumes.len())));
    }
    for (n, volume) in volumes.iter().enumerate() {
        check_kept_name(&volume.name).map_err(|why| (n, why))?;
        check_path(&volume.path).map_err(|why| (n, why))?;
        if volume.bytes != 0 && !(MIN_VOLUME_BYTES..=MAX_VOLUME_BYTES).contains(&volume.bytes) {
            return Err((n, "a volume has 16Mi to 1Ti".into()));
        }
        for other in volumes.iter().take(n) {
            if other.name == volume.name {
                return Err((n, format!("`{}` is named twice", volume.name)));
            }
            // A folder inside another volume is made there by the engine, through whatever links its content has.
            if inside(&volume.path, &other.path) || inside(&other.path, &volume.path) {
                return Err((n, format!("{} and {} lie inside each other", other.path, volume.path)));
            }
        }
    }
    Ok(())
}

fn check_variable(name: &str) -> Result<(), String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let plain = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !plain || name.len() > MAX_MOUNT_PATH || !name.bytes().all(legal) {
        return Err(format!("`{}` is not a variable: letters, digits and `_`, first no digit", shown(name)));
    }
    if name.starts_with("FARM_") {
        return Err("names that begin with FARM_ are set by the network".into());
    }
    Ok(())
}

/// Checks the secrets of a job; the index of the first that makes no sense, and why.
///
/// # Errors
/// As said.
pub fn check_secrets(secrets: &[SecretMount]) -> Result<(), (usize, String)> {
    if secrets.len() > MAX_SECRETS {
        return Err((MAX_SECRETS, format!("{} secrets where at most {MAX_SECRETS} are possible", secrets.len())));
    }
    for (n, secret) in secrets.iter().enumerate() {
        check_kept_name(&secret.name).map_err(|why| (n, why))?;
        match &secret.target {
            SecretTarget::Env(name) => check_variable(name).map_err(|why| (n, why))?,
            SecretTarget::File(path) => {
                let file = path.strip_prefix(SECRETS_DIR).and_then(|p| p.strip_prefix('/')).unwrap_or_default();
                let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
                if file.is_empty() || file.starts_with('.') || file.len() > MAX_MOUNT_PATH || !file.bytes().all(legal) {
                    return Err((n, format!("`{}` cannot be its file: write {SECRETS_DIR}/NAME", shown(path))));
                }
            }
        }
        if secrets.iter().take(n).any(|other| other.target == secret.target) {
            return Err((n, "two secrets have the same place".into()));
        }
    }
    Ok(())
}

fn named(field: &str, (n, problem): (usize, String)) -> SpecError {
    SpecError { field: format!("{field}[{n}]"), problem }
}

/// The volumes of a job file.
pub(crate) fn volumes_of(specs: Vec<VolumeSpec>) -> Result<Vec<VolumeMount>, SpecError> {
    let mut out = vec![];
    for (n, spec) in specs.into_iter().enumerate() {
        let bytes = match &spec.size {
            // One that only reads takes what is there.
            Some(_) if spec.read_only => {
                return Err(named("volumes", (n, "a volume that is only read keeps its size: leave `size` out".into())));
            }
            Some(size) => parse_bytes(&size.to_string()).map_err(|e| named("volumes", (n, e.to_string())))?,
            None => 0,
        };
        if spec.size.is_some() && bytes == 0 {
            return Err(named("volumes", (n, "a volume has 16Mi to 1Ti".into())));
        }
        out.push(VolumeMount { name: spec.name, path: spec.path, bytes, read_only: spec.read_only });
    }
    check_volumes(&out).map_err(|e| named("volumes", e))?;
    Ok(out)
}

/// The secrets of a job file.
pub(crate) fn secrets_of(specs: Vec<SecretSpec>) -> Result<Vec<SecretMount>, SpecError> {
    let mut out = vec![];
    for (n, spec) in specs.into_iter().enumerate() {
        let target = match (spec.env, spec.file) {
            (Some(_), Some(_)) => return Err(named("secrets", (n, "keep one of `env` and `file`".into()))),
            (Some(env), None) => SecretTarget::Env(env),
            (None, Some(file)) => SecretTarget::File(file),
            (None, None) => SecretTarget::File(format!("{SECRETS_DIR}/{}", spec.name)),
        };
        out.push(SecretMount { name: spec.name, target });
    }
    check_secrets(&out).map_err(|e| named("secrets", e))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, path: &str) -> VolumeMount {
        VolumeMount { name: name.into(), path: path.into(), bytes: 0, read_only: false }
    }

    #[test]
    fn names_and_paths_that_could_be_tricks_are_refused() {
        for name in ["data", "a", "A-1_b", "7"] {
            assert_eq!(check_volumes(&[volume(name, "/data")]), Ok(()), "{name}");
        }
        for name in ["", ".", "..", "../x", "a/b", "-a", "_a", "a b", "a\n", "ä", "a.b", "a@b", "x\u{1b}[2J", &"x".repeat(33)] {
            assert!(check_volumes(&[volume(name, "/data")]).is_err(), "{name:?}");
        }
        for path in ["/data", "/var/lib/x", "/a-b_c.d", "/farmer", "/procs", "/run"] {
            let fine = check_volumes(&[volume("a", path)]).is_ok();
            assert_eq!(fine, path != "/run", "{path}: what holds the secrets cannot be mounted over");
        }
        let long = format!("/{}", "x".repeat(255));
        for path in [
            "",
            "/",
            "data",
            "/a/../etc",
            "/..",
            "/a//b",
            "/a/",
            "/./a",
            "/etc",
            "/etc/x",
            "/proc/1",
            "/sys",
            "/dev/shm",
            "/farm",
            "/farm/out",
            "/run/secrets",
            "/run/secrets/x",
            "/a:b",
            "/a,b",
            "/a\nb",
            "/a\0b",
            "/a\\b",
            &long,
        ] {
            assert!(check_volumes(&[volume("a", path)]).is_err(), "{path:?}");
        }
    }

    #[test]
    fn volumes_do_not_lie_inside_each_other() {
        assert_eq!(check_volumes(&[volume("a", "/a"), volume("b", "/ab")]), Ok(()));
        for (one, other) in [("/a", "/a"), ("/a", "/a/b"), ("/a/b/c", "/a")] {
            assert_eq!(check_volumes(&[volume("a", one), volume("b", other)]).unwrap_err().0, 1, "{one} {other}");
        }
        assert!(check_volumes(&[volume("a", "/a"), volume("a", "/b")]).unwrap_err().1.contains("twice"));
        let many: Vec<_> = (0..9).map(|n| volume(&format!("v{n}"), &format!("/v{n}"))).collect();
        assert!(check_volumes(&many).is_err());
        for bytes in [1, MIN_VOLUME_BYTES - 1, MAX_VOLUME_BYTES + 1] {
            assert!(check_volumes(&[VolumeMount { bytes, ..volume("a", "/a") }]).is_err());
        }
    }

    #[test]
    fn secrets_have_one_place_each() {
        let secret = |target| SecretMount { name: "a".into(), target };
        let file = |path: &str| secret(SecretTarget::File(path.into()));
        let env = |name: &str| secret(SecretTarget::Env(name.into()));
        assert_eq!(check_secrets(&[file("/run/secrets/a"), file("/run/secrets/tls.pem"), env("A_1"), env("_x")]), Ok(()));
        for path in ["/run/secrets", "/run/secrets/", "/run/secrets/..", "/run/secrets/a/b", "/run/secrets/.a", "/etc/passwd", "a"] {
            assert!(check_secrets(&[file(path)]).is_err(), "{path}");
        }
        for name in ["", "1A", "A=B", "A B", "FARM_X", "A$(x)", "A'"] {
            assert!(check_secrets(&[env(name)]).is_err(), "{name}");
        }
        assert!(check_secrets(&[env("A"), env("A")]).is_err());
    }
}
