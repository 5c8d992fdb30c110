//! The job spec as a user writes it, and the manifest a node receives.
//!
//! Guarantees: [`JobSpec::check`] is the border: a [`Manifest`] has limits that make sense, no contradictory fields and
//! no value out of range. The ledger sees only the manifest's hash. Reading YAML (and its line numbers) is the client's.

use crate::ids::BlobHash;
use crate::market::{AliveCheck, Constraint, Egress, MAX_ATTRIBUTE, MAX_CONSTRAINTS, Verification};
use crate::resources::{parse_bytes, parse_cpu};
use crate::{Amount, Millis, Resources};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest manifest in bytes.
pub const MAX_MANIFEST_BYTES: usize = 64 * 1024;
/// Longest job name.
pub const MAX_NAME: usize = 32;
/// Most environment variables.
pub const MAX_ENV: usize = 256;
/// Fewest bytes of memory that a container engine accepts.
pub const MIN_MEMORY: u64 = 6 << 20;
/// Default and largest number of processes.
pub const DEFAULT_PIDS: u32 = 512;
/// Most processes a job may ask for.
pub const MAX_PIDS: u32 = 32_768;

/// What kind of job it is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobType {
    /// Runs to its end.
    #[default]
    Job,
    /// Runs until it is stopped.
    Service,
}

/// A job spec as written in YAML or JSON.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobSpec {
    /// Name; letters, digits and dashes.
    pub name: Option<String>,
    /// `job` or `service`.
    #[serde(rename = "type")]
    pub kind: Option<JobType>,
    /// An image the provider has or can pull. Not together with `build`.
    pub image: Option<String>,
    /// Build a folder. Not together with `image`.
    pub build: Option<BuildSpec>,
    /// Overrides the image's entry point.
    pub command: Option<Vec<String>>,
    /// Overrides the image's arguments.
    pub args: Option<Vec<String>>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// The machine wanted.
    pub resources: ResourceSpec,
    /// Longest run, e.g. `90s`, `10m`, `2h`.
    pub timeout: Option<String>,
    /// Most to spend, in credits.
    pub budget: Option<String>,
    /// Price range.
    pub price: PriceSpec,
    /// 0 to 100.
    pub priority: Option<u8>,
    /// What must hold for the node.
    pub constraints: ConstraintSpec,
    /// What the job may reach: `none` or `open`.
    pub egress: Option<Egress>,
    /// What is checked while it runs.
    pub alive: Option<AliveSpec>,
    /// How the result is checked.
    pub verify: VerifySpec,
}

impl Default for BuildSpec {
    fn default() -> Self {
        Self { context: ".".into(), dockerfile: "Dockerfile".into(), args: BTreeMap::new(), timeout: None }
    }
}

/// How to build.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BuildSpec {
    /// Folder, relative to the spec.
    pub context: String,
    /// Dockerfile inside it.
    pub dockerfile: String,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// Longest build, e.g. `5m` (default 30 minutes).
    pub timeout: Option<String>,
}

/// Resources as people write them.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResourceSpec {
    /// e.g. `0.5` or `500m`.
    pub cpu: Option<Scalar>,
    /// e.g. `512Mi`.
    pub memory: Option<Scalar>,
    /// e.g. `2Gi`.
    pub disk: Option<Scalar>,
    /// e.g. `H100:1`; refused in this version.
    pub gpu: Option<Scalar>,
    /// Most processes.
    pub pids: Option<u32>,
}

/// A number or a text: YAML makes no difference for `cpu: 1` and `cpu: "1"`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// A whole number.
    Int(u64),
    /// A decimal number.
    Float(f64),
    /// A text.
    Text(String),
}

impl Eq for Scalar {}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Int(v) => v.fmt(f),
            Self::Float(v) => v.fmt(f),
            Self::Text(v) => v.fmt(f),
        }
    }
}

/// Price range.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PriceSpec {
    /// Most credits per hour for the whole job.
    pub max: Option<Scalar>,
}

/// Conditions on the node.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConstraintSpec {
    /// Region or its prefix.
    pub region: Option<String>,
    /// Attributes that must be equal.
    pub attributes: BTreeMap<String, String>,
}

/// What is checked while the job runs; exactly one field.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AliveSpec {
    /// A port that accepts connections.
    pub port: Option<u16>,
    /// The process answers an exec.
    pub exec: Option<bool>,
    /// The log grows within this time, e.g. `30s`.
    pub log: Option<String>,
}

/// How the result is checked.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VerifySpec {
    /// `none` in this version; `replicate`, `audit`, `zk` and `tee` come later.
    pub mode: Option<String>,
}

/// What a node receives: everything it needs to run a job, checked.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Manifest {
    /// Random bytes, so that the hash on the ledger tells nothing about a guessable spec.
    pub salt: [u8; 16],
    /// Name of the job.
    pub name: String,
    /// Kind of the job.
    pub kind: JobType,
    /// What to run.
    pub source: Source,
    /// Overrides the entry point.
    pub command: Option<Vec<String>>,
    /// Overrides the arguments.
    pub args: Option<Vec<String>>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Limits, exactly.
    pub resources: Resources,
    /// Most processes.
    pub pids: u32,
    /// What it may reach.
    pub egress: Egress,
    /// What the countersigner checks.
    pub alive: AliveCheck,
    /// How long between SIGTERM and SIGKILL.
    pub grace: Millis,
}

impl Manifest {
    /// The bytes whose hash the order carries.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        crate::codec::encode(self)
    }
    /// The hash the order carries.
    #[must_use]
    pub fn hash(&self) -> BlobHash {
        crate::blob::hash(&self.to_bytes())
    }
}

/// What a job is made from.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// An image by reference.
    Image(String),
    /// A build context: a tar file by its hash.
    Build {
        /// Hash of the tar.
        context: BlobHash,
        /// Its size in bytes.
        context_bytes: u64,
        /// Dockerfile inside it.
        dockerfile: String,
        /// Build arguments.
        args: BTreeMap<String, String>,
        /// Longest build.
        timeout: Millis,
    },
}

/// A field of a spec that makes no sense, with a way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct SpecError {
    /// Path of the field, e.g. `resources.memory`.
    pub field: String,
    /// What is wrong and what to write instead.
    pub problem: String,
}

fn bad(field: &str, problem: impl Into<String>) -> SpecError {
    SpecError { field: field.into(), problem: problem.into() }
}

/// A checked spec: all that an order and a manifest need but the context's hash and the salt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckedSpec {
    /// Name, if one was given.
    pub name: Option<String>,
    /// Kind.
    pub kind: JobType,
    /// Image reference, or what to build.
    pub source: CheckedSource,
    /// Overrides the entry point.
    pub command: Option<Vec<String>>,
    /// Overrides the arguments.
    pub args: Option<Vec<String>>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Limits.
    pub resources: Resources,
    /// Most processes.
    pub pids: u32,
    /// Time cap, if one was given.
    pub timeout: Option<Millis>,
    /// Money cap, if one was given.
    pub budget: Option<Amount>,
    /// Most per hour, if given.
    pub max_price_per_hour: Option<Amount>,
    /// Priority.
    pub priority: u8,
    /// Conditions.
    pub constraints: Vec<Constraint>,
    /// What it may reach.
    pub egress: Egress,
    /// What is checked.
    pub alive: AliveCheck,
    /// How the result is checked.
    pub verification: Verification,
}

/// What a checked spec runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CheckedSource {
    /// An image.
    Image(String),
    /// A folder to build.
    Build {
        /// Folder, relative to the spec.
        context: String,
        /// Dockerfile inside it.
        dockerfile: String,
        /// Build arguments.
        args: BTreeMap<String, String>,
        /// Longest build.
        timeout: Millis,
    },
}

/// Reads a duration such as `90s`, `10m`, `2h`, `1d`, `1500ms`.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse_duration(text: &str) -> Result<Millis, String> {
    let wrong = || format!("`{text}` is not a duration: write for example 90s, 10m or 2h");
    let t = text.trim();
    let (digits, unit) = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)]
        .iter()
        .find_map(|(u, m)| t.strip_suffix(u).map(|d| (d, *m)))
        .ok_or_else(wrong)?;
    // `parse` alone would take a sign.
    let n: u64 = if digits.starts_with('+') { None } else { digits.parse().ok() }.ok_or_else(wrong)?;
    n.checked_mul(unit).filter(|v| *v > 0).map(Millis).ok_or_else(wrong)
}

impl JobSpec {
    /// Checks every field; the first that makes no sense is named.
    ///
    /// # Errors
    /// [`SpecError`] with the field's path and what to write instead.
    pub fn check(self) -> Result<CheckedSpec, SpecError> {
        check_name(self.name.as_deref())?;
        check_env(&self.env)?;
        let source = check_source(self.image, self.build)?;
        let (resources, pids) = check_resources(&self.resources)?;
        let egress = self.egress.unwrap_or_default();
        let duration = |field: &str, t: Option<String>| t.map(|t| parse_duration(&t).map_err(|e| bad(field, e))).transpose();
        let money = |field: &str, t: Option<String>| t.map(|t| t.parse::<Amount>().map_err(|e| bad(field, e.to_string()))).transpose();
        let budget = money("budget", self.budget)?;
        if budget == Some(Amount::ZERO) {
            return Err(bad("budget", "a budget of 0 buys nothing: leave it out or write how many credits to spend at most"));
        }
        let priority = self.priority.unwrap_or(50);
        if priority > 100 {
            return Err(bad("priority", format!("{priority} is out of range: 0 (lowest) to 100")));
        }
        match self.verify.mode.as_deref() {
            None | Some("none") => {}
            Some(m @ ("replicate" | "audit" | "zk" | "tee")) => {
                return Err(bad("verify.mode", format!("`{m}` is not available in this version: use `none`")));
            }
            Some(other) => return Err(bad("verify.mode", format!("`{other}` is not a mode: none, replicate, audit, zk or tee"))),
        }
        Ok(CheckedSpec {
            name: self.name,
            kind: self.kind.unwrap_or_default(),
            source,
            command: self.command,
            args: self.args,
            env: self.env,
            resources,
            pids,
            timeout: duration("timeout", self.timeout)?,
            budget,
            max_price_per_hour: money("price.max", self.price.max.map(|p| p.to_string()))?,
            priority,
            constraints: check_constraints(self.constraints, egress)?,
            egress,
            alive: check_alive(self.alive)?,
            verification: Verification::None,
        })
    }
}

fn check_name(name: Option<&str>) -> Result<(), SpecError> {
    let Some(name) = name else { return Ok(()) };
    let fine = !name.is_empty()
        && name.len() <= MAX_NAME
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if fine {
        Ok(())
    } else {
        Err(bad("name", format!("`{name}` is not a name: lower-case letters, digits and dashes, at most {MAX_NAME}")))
    }
}

fn check_env(env: &BTreeMap<String, String>) -> Result<(), SpecError> {
    if env.len() > MAX_ENV {
        return Err(bad("env", format!("{} variables where at most {MAX_ENV} are allowed", env.len())));
    }
    for (key, value) in env {
        if key.is_empty() || key.contains('=') || key.contains('\0') || value.contains('\0') {
            return Err(bad(&format!("env.{key}"), "a variable's name may not be empty or hold `=`, and no zero byte is allowed"));
        }
        if key.starts_with("FARM_") {
            return Err(bad(&format!("env.{key}"), "names that begin with FARM_ are set by the network"));
        }
    }
    Ok(())
}

fn check_source(image: Option<String>, build: Option<BuildSpec>) -> Result<CheckedSource, SpecError> {
    match (image, build) {
        (Some(_), Some(_)) => Err(bad("build", "contradicts `image`: keep the one that should run and remove the other")),
        (Some(image), None) if image.is_empty() || image.len() > 255 => Err(bad("image", "an image reference has 1 to 255 characters")),
        (Some(image), None) => Ok(CheckedSource::Image(image)),
        (None, build) => {
            let b = build.unwrap_or_default();
            let timeout = match b.timeout {
                Some(t) => parse_duration(&t).map_err(|e| bad("build.timeout", e))?,
                None => Millis(1_800_000),
            };
            let inside = |p: &str| !p.is_empty() && !p.starts_with('/') && !p.split('/').any(|c| c == "..");
            if !inside(&b.dockerfile) {
                return Err(bad("build.dockerfile", format!("`{}` must lie inside the build folder", b.dockerfile)));
            }
            Ok(CheckedSource::Build { context: b.context, dockerfile: b.dockerfile, args: b.args, timeout })
        }
    }
}

fn check_resources(r: &ResourceSpec) -> Result<(Resources, u32), SpecError> {
    if let Some(gpu) = &r.gpu {
        return Err(bad("resources.gpu", format!("`{gpu}`: GPU jobs are not available in this version; nothing was charged")));
    }
    let cpu_millis = r.cpu.as_ref().map_or(Ok(1000), |c| parse_cpu(&c.to_string()).map_err(|e| bad("resources.cpu", e.to_string())))?;
    let size = |field: &str, v: &Option<Scalar>, default: u64| match v {
        Some(v) => parse_bytes(&v.to_string()).map_err(|e| bad(field, e.to_string())),
        None => Ok(default),
    };
    let memory_bytes = size("resources.memory", &r.memory, 512 << 20)?;
    let disk_bytes = size("resources.disk", &r.disk, 1 << 30)?;
    if cpu_millis < 10 {
        return Err(bad("resources.cpu", "at least 10m (a hundredth of a core)"));
    }
    if memory_bytes < MIN_MEMORY {
        return Err(bad("resources.memory", "at least 6Mi: engines start nothing with less"));
    }
    let pids = r.pids.unwrap_or(DEFAULT_PIDS);
    if pids == 0 || pids > MAX_PIDS {
        return Err(bad("resources.pids", format!("{pids} is out of range: 1 to {MAX_PIDS}")));
    }
    Ok((Resources { cpu_millis, memory_bytes, disk_bytes, ..Resources::default() }, pids))
}

fn check_constraints(c: ConstraintSpec, egress: Egress) -> Result<Vec<Constraint>, SpecError> {
    let mut out = vec![];
    if let Some(region) = c.region {
        if region.is_empty() || region.len() > MAX_ATTRIBUTE {
            return Err(bad("constraints.region", format!("1 to {MAX_ATTRIBUTE} characters")));
        }
        out.push(Constraint::Region(region));
    }
    for (name, value) in c.attributes {
        if name.len() > MAX_ATTRIBUTE || value.len() > MAX_ATTRIBUTE {
            return Err(bad("constraints.attributes", format!("names and values have at most {MAX_ATTRIBUTE} characters")));
        }
        out.push(Constraint::Attribute { name, value });
    }
    if egress != Egress::None {
        out.push(Constraint::Egress(egress));
    }
    if out.len() > MAX_CONSTRAINTS {
        return Err(bad("constraints", format!("{} where at most {MAX_CONSTRAINTS} are allowed", out.len())));
    }
    Ok(out)
}

fn check_alive(alive: Option<AliveSpec>) -> Result<AliveCheck, SpecError> {
    let Some(a) = alive else { return Ok(AliveCheck::default()) };
    match (a.port, a.exec, a.log) {
        (Some(0), None | Some(false), None) => Err(bad("alive.port", "nothing listens on port 0: write a port from 1 to 65535")),
        (Some(port), None | Some(false), None) => Ok(AliveCheck::Port(port)),
        (None, Some(true), None) => Ok(AliveCheck::Exec),
        (None, None | Some(false), Some(log)) => parse_duration(&log).map(AliveCheck::Log).map_err(|e| bad("alive.log", e)),
        (None, _, None) => Ok(AliveCheck::default()),
        _ => Err(bad("alive", "fields contradict each other: keep one of port, exec and log")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str) -> Result<CheckedSpec, String> {
        let spec: JobSpec = serde_norway::from_str(yaml).map_err(|e| e.to_string())?;
        spec.check().map_err(|e| e.to_string())
    }

    #[test]
    fn an_empty_spec_builds_the_folder_with_defaults() {
        let s = check("{}").unwrap();
        assert_eq!(s.resources.cpu_millis, 1000);
        assert!(matches!(s.source, CheckedSource::Build { ref dockerfile, .. } if dockerfile == "Dockerfile"));
    }

    #[test]
    fn sizes_may_be_numbers_or_texts() {
        let s = check("resources: {cpu: 0.5, memory: 64Mi, disk: 1Gi}").unwrap();
        assert_eq!((s.resources.cpu_millis, s.resources.memory_bytes), (500, 64 << 20));
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, words) in [
            ("image: a\nbuild: {}", "contradicts"),
            ("imgae: a", "unknown field `imgae`"),
            ("resources: {memory: 1Mi}", "resources.memory"),
            ("resources: {gpu: H100}", "GPU jobs are not available"),
            ("alive: {port: 80, log: 3s}", "contradict"),
            ("alive: {port: 0}", "alive.port: nothing listens on port 0"),
            ("verify: {mode: zk}", "not available in this version"),
            ("timeout: soon", "not a duration"),
            ("timeout: +5s", "not a duration"),
            ("env: {FARM_X: a}", "set by the network"),
            ("budget: '0'", "buys nothing"),
            ("build: {dockerfile: ../x}", "inside the build folder"),
        ] {
            let e = check(yaml).unwrap_err();
            assert!(e.contains(words), "{yaml}: {e}");
        }
    }
}
