//! The job spec as a user writes it, and the manifest a node receives.
//!
//! Guarantees: [`JobSpec::check`] is the border: a [`Manifest`] has limits that make sense, no contradictory fields and
//! no value out of range. The ledger sees only the manifest's hash. Reading YAML (and its line numbers) is the client's.

use crate::credential::{CredentialKind, CredentialQuery};
use crate::fleet::{self, ArraySpec, DependsSpec, Fleet};
use crate::gpu::GpuSpec;
use crate::ids::BlobHash;
use crate::keep::{self, SecretMount, SecretSpec, VolumeMount, VolumeSpec};
use crate::life::{self, HealthSpec, Life, Restart};
use crate::market::{AliveCheck, BillingUnit, Constraint, Egress, MAX_ATTRIBUTE, MAX_CONSTRAINTS, Term, Verification};
use crate::public::{PortEntry, PublicPort};
use crate::resources::{parse_bytes, parse_cpu};
use crate::{AccountId, Amount, Millis, Resources};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest manifest in bytes.
pub const MAX_MANIFEST_BYTES: usize = 64 * 1024;
/// Longest job name.
pub const MAX_NAME: usize = 32;
/// Most environment variables.
pub const MAX_ENV: usize = 256;
/// Most ports that a spec names.
pub const MAX_PORTS: usize = 32;
/// Longest name of a port.
pub const MAX_PORT_NAME: usize = 32;
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
    /// 0 to 100; each point costs a little, so nothing is the default.
    pub priority: Option<u8>,
    /// How long it is meant to run, where that is not `timeout`.
    pub term: TermSpec,
    /// The machine may end it early, with notice.
    pub preemptible: Option<bool>,
    /// An account that confirms the service in the user's place.
    pub watcher: Option<String>,
    /// What must hold for the node.
    pub constraints: ConstraintSpec,
    /// What the job may reach: `none` or `open`.
    pub egress: Option<Egress>,
    /// What is checked while it runs.
    pub alive: Option<AliveSpec>,
    /// Ports that its user reaches: numbers, or numbers with names. Only those with `public` are open to anybody else.
    pub ports: Vec<PortSpec>,
    /// How the result is checked.
    pub verify: VerifySpec,
    /// When it is started again inside its lease: `never`, `on-failure` or `always`.
    pub restart: Option<Restart>,
    /// At most how often it is started again after a failure.
    pub retry: Option<u32>,
    /// How it is seen to be well.
    pub health: Option<HealthSpec>,
    /// How many of it run; for `farm deploy`.
    pub replicas: Option<u32>,
    /// Numbered members instead; for `farm deploy`.
    pub array: Option<ArraySpec>,
    /// What it waits for among the services of its file; for `farm deploy`.
    pub depends_on: DependsSpec,
    /// Folders that outlive the job.
    pub volumes: Vec<VolumeSpec>,
    /// What the job must know and nobody else: names only.
    pub secrets: Vec<SecretSpec>,
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
    /// e.g. `H100:1`.
    pub gpu: Option<GpuSpec>,
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
    /// What is hoped for: cheaper machines are not preferred any more below it.
    pub target: Option<Scalar>,
}

/// How long a job is meant to run; at most one of `open`, `hours` and `months`.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TermSpec {
    /// Until it is stopped; `timeout` is what the first hold pays for.
    pub open: Option<bool>,
    /// Rented for so many hours.
    pub hours: Option<u32>,
    /// Rented for so many months of thirty days.
    pub months: Option<u32>,
    /// For how many units the price is locked (default: the rented ones).
    pub lock: Option<u32>,
    /// Further units follow by themselves, up to the locked ones and within the budget.
    pub renew: Option<bool>,
}

/// Conditions on the node.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConstraintSpec {
    /// Region or its prefix.
    pub region: Option<String>,
    /// Attributes that must be equal.
    pub attributes: BTreeMap<String, String>,
    /// Certificates that its provider or machine must have: `tier:3`, `carbon:200`, `region:2` or `inspection:1`, each with `@` and
    /// an account if only that issuer's word counts.
    pub certificates: Vec<String>,
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

/// A port as people write it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PortSpec {
    /// Its number.
    Number(u16),
    /// Its number, what it is called, and who reaches it.
    Entry(PortEntry),
}

/// A port of a job's container.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its number.
    pub port: u16,
    /// What it is called; letters, digits and dashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
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
    /// Ports that its user is told of by name.
    pub ports: Vec<Port>,
    /// What happens when it ends or does not answer.
    pub life: Life,
    /// Folders that outlive the job.
    #[serde(default)]
    pub volumes: Vec<VolumeMount>,
    /// Which secrets follow, and where they go.
    #[serde(default)]
    pub secrets: Vec<SecretMount>,
    /// The X25519 key that its log and its output are sealed for; whoever has the other half reads them.
    pub reader: [u8; 32],
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
    /// What is hoped for per hour, if given.
    pub target_price_per_hour: Option<Amount>,
    /// Priority.
    pub priority: u8,
    /// How long it is meant to run.
    pub term: Term,
    /// The machine may end it early, with notice.
    pub preemptible: bool,
    /// Who confirms the service in the user's place.
    pub watcher: Option<AccountId>,
    /// Conditions.
    pub constraints: Vec<Constraint>,
    /// What it may reach.
    pub egress: Egress,
    /// What is checked.
    pub alive: AliveCheck,
    /// Ports that its user reaches.
    pub ports: Vec<Port>,
    /// Those of them that everybody reaches.
    pub public: Vec<PublicPort>,
    /// How the result is checked.
    pub verification: Verification,
    /// What happens when it ends or does not answer.
    pub life: Life,
    /// How many there are.
    pub fleet: Fleet,
    /// Folders that outlive the job.
    pub volumes: Vec<VolumeMount>,
    /// Its secrets, without their values.
    pub secrets: Vec<SecretMount>,
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
        let (mut resources, pids) = check_resources(&self.resources)?;
        let gpus = self.resources.gpu.as_ref().map(GpuSpec::check).transpose()?;
        let of_gpus = gpus.map_or_else(Vec::new, |wish| {
            resources.gpus.push(wish.line);
            wish.constraints
        });
        let egress = self.egress.unwrap_or_default();
        let duration = |field: &str, t: Option<String>| t.map(|t| parse_duration(&t).map_err(|e| bad(field, e))).transpose();
        let money = |field: &str, t: Option<String>| t.map(|t| t.parse::<Amount>().map_err(|e| bad(field, e.to_string()))).transpose();
        let budget = money("budget", self.budget)?;
        if budget == Some(Amount::ZERO) {
            return Err(bad("budget", "a budget of 0 buys nothing: leave it out or write how many credits to spend at most"));
        }
        let priority = self.priority.unwrap_or(0);
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
        let timeout = duration("timeout", self.timeout)?;
        let (term, timeout) = check_term(&self.term, timeout)?;
        let max_price_per_hour = money("price.max", self.price.max.map(|p| p.to_string()))?;
        let target_price_per_hour = money("price.target", self.price.target.map(|p| p.to_string()))?;
        if let (Some(target), Some(max)) = (target_price_per_hour, max_price_per_hour)
            && target > max
        {
            return Err(bad("price.target", format!("{target} is more than the highest price, {max}")));
        }
        let watcher = self.watcher.map(|w| w.parse::<AccountId>().map_err(|e| bad("watcher", e.to_string()))).transpose()?;
        let (ports, public) = check_ports(self.ports)?;
        Ok(CheckedSpec {
            name: self.name,
            kind: self.kind.unwrap_or_default(),
            source,
            command: self.command,
            args: self.args,
            env: self.env,
            resources,
            pids,
            timeout,
            budget,
            max_price_per_hour,
            target_price_per_hour,
            priority,
            term,
            preemptible: self.preemptible.unwrap_or(false),
            watcher,
            constraints: check_constraints(self.constraints, egress, of_gpus)?,
            egress,
            alive: check_alive(self.alive)?,
            ports,
            public,
            verification: Verification::None,
            life: life::check(self.kind.unwrap_or_default(), self.restart, self.retry, self.health)?,
            fleet: fleet::check(self.replicas, self.array, self.depends_on)?,
            volumes: keep::volumes_of(self.volumes)?,
            secrets: keep::secrets_of(self.secrets)?,
        })
    }
}

/// The term, and how long the first hold is for where that was said.
fn check_term(t: &TermSpec, timeout: Option<Millis>) -> Result<(Term, Option<Millis>), SpecError> {
    let open = t.open.unwrap_or(false);
    let (unit, committed) = match (t.hours, t.months, open) {
        (None, None, _) => {
            if t.lock.is_some() || t.renew.is_some() {
                return Err(bad("term", "`lock` and `renew` are for rentals: say for how many hours or months"));
            }
            return Ok((if open { Term::Open } else { Term::Fixed }, timeout));
        }
        (Some(hours), None, false) => (BillingUnit::Hour, hours),
        (None, Some(months), false) => (BillingUnit::Month, months),
        _ => return Err(bad("term", "fields contradict each other: keep one of open, hours and months")),
    };
    if timeout.is_some() {
        return Err(bad("timeout", "a rental runs for its hours or months: leave the timeout out"));
    }
    let (locked, renew) = (t.lock.unwrap_or(committed), t.renew.unwrap_or(false));
    if committed == 0 || locked < committed {
        return Err(bad("term", "a rental is for at least one hour or month, and its price is locked for at least as many as are rented"));
    }
    if renew && locked == committed {
        return Err(bad("term.renew", "the price is locked for the rented units only, so nothing can follow: lock it for more"));
    }
    let length = Millis(unit.length().0.saturating_mul(u64::from(committed)));
    Ok((Term::Rental { unit, committed, locked, renew }, Some(length)))
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

fn check_constraints(c: ConstraintSpec, egress: Egress, of_gpus: Vec<Constraint>) -> Result<Vec<Constraint>, SpecError> {
    let mut out = of_gpus;
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
    for text in &c.certificates {
        out.push(Constraint::Credential(parse_certificate(text).map_err(|e| bad("constraints.certificates", e))?));
    }
    if egress != Egress::None {
        out.push(Constraint::Egress(egress));
    }
    if out.len() > MAX_CONSTRAINTS {
        return Err(bad("constraints", format!("{} where at most {MAX_CONSTRAINTS} are allowed", out.len())));
    }
    Ok(out)
}

/// The certificate that a condition such as `tier:3@ACCOUNT` asks for; the number of carbon is at most, of the others at least.
fn parse_certificate(text: &str) -> Result<CredentialQuery, String> {
    let wrong = || format!("`{text}` is no certificate: write for example tier:3, carbon:200 or region:2@ACCOUNT");
    let (what, issuer) = text.split_once('@').map_or((text, None), |(what, issuer)| (what, Some(issuer)));
    let (kind, number) = what.split_once(':').ok_or_else(wrong)?;
    let kind = match kind {
        "tier" => CredentialKind::DataCentreTier,
        "carbon" => CredentialKind::Carbon,
        "region" => CredentialKind::Region,
        "inspection" => CredentialKind::Audit,
        _ => return Err(wrong()),
    };
    let issuer = issuer.map(str::parse::<AccountId>).transpose().map_err(|e| e.to_string())?;
    Ok(CredentialQuery { issuer, kind, at_least: number.parse().map_err(|_| wrong())? })
}

fn check_ports(written: Vec<PortSpec>) -> Result<(Vec<Port>, Vec<PublicPort>), SpecError> {
    let entry = |port| match port {
        PortSpec::Number(port) => PortEntry { port, name: None, public: None },
        PortSpec::Entry(entry) => entry,
    };
    let both: Vec<_> = written.into_iter().map(|port| entry(port).split()).collect::<Result<_, _>>()?;
    let (ports, public): (Vec<Port>, Vec<Option<PublicPort>>) = both.into_iter().unzip();
    sound_ports(&ports).map_err(|problem| bad("ports", problem))?;
    Ok((ports, public.into_iter().flatten().collect()))
}

/// Whether ports of a manifest make sense: a node checks again what its client checked.
///
/// # Errors
/// A sentence about the first that does not.
pub fn sound_ports(ports: &[Port]) -> Result<(), String> {
    if ports.len() > MAX_PORTS {
        return Err(format!("{} where at most {MAX_PORTS} are allowed", ports.len()));
    }
    for (at, Port { port, name }) in ports.iter().enumerate() {
        if *port == 0 {
            return Err("nothing listens on port 0: write a port from 1 to 65535".into());
        }
        let before = ports.iter().take(at);
        if before.clone().any(|b| b.port == *port) {
            return Err(format!("{port} is there twice"));
        }
        let Some(name) = name else { continue };
        // A name that is a number would be taken for one.
        let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !plain || name.is_empty() || name.len() > MAX_PORT_NAME || name.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("`{name}` is not a name: lower-case letters, digits and dashes, at most {MAX_PORT_NAME}"));
        }
        if before.clone().any(|b| b.name.as_ref() == Some(name)) {
            return Err(format!("`{name}` is there twice"));
        }
    }
    Ok(())
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
    fn a_term_is_fixed_open_or_a_rental() {
        assert_eq!(check("timeout: 5m").unwrap().term, Term::Fixed);
        let open = check("{term: {open: true}, timeout: 2h}").unwrap();
        assert_eq!((open.term, open.timeout), (Term::Open, Some(Millis(7_200_000))));
        let rental = check("term: {months: 1, lock: 3, renew: true}").unwrap();
        assert_eq!(rental.term, Term::Rental { unit: BillingUnit::Month, committed: 1, locked: 3, renew: true });
        assert_eq!(rental.timeout, Some(BillingUnit::Month.length()));
        let constraints = check("{egress: none, constraints: {certificates: ['carbon:200']}}").unwrap().constraints;
        let query = CredentialQuery { issuer: None, kind: CredentialKind::Carbon, at_least: 200 };
        assert_eq!(constraints, [Constraint::Credential(query)]);
        assert_eq!(check("{}").unwrap().priority, 0, "what costs is asked for");
    }

    #[test]
    fn gpus_are_a_line_and_conditions() {
        let s = check("{egress: none, resources: {gpu: {model: H100, count: 2, cuda: 12.2}}}").unwrap();
        assert_eq!((s.resources.gpus.len(), s.resources.to_string().contains("2x H100")), (1, true));
        assert_eq!(s.constraints, [Constraint::Attribute { name: "gpu.cuda.12.2".into(), value: "yes".into() }]);
    }

    #[test]
    fn ports_are_numbers_or_have_names() {
        let ports = check("ports: [8080, {port: 5432, name: db}]").unwrap().ports;
        assert_eq!(ports, [Port { port: 8080, name: None }, Port { port: 5432, name: Some("db".into()) }]);
        let file = "ports: [{port: 80, public: true}, {port: 81, name: db, public: {tcp: true, name: d}}, {port: 82, public: {max_body: 1Mi}}, 83]";
        let public = check(file).unwrap().public;
        let plain = |port| PublicPort { port, ..PublicPort::default() };
        let [tcp, small] =
            [PublicPort { tcp: true, name: Some("d".into()), ..plain(81) }, PublicPort { max_body: Some(1 << 20), ..plain(82) }];
        assert_eq!(public, [plain(80), tcp, small]);
        assert_eq!(check("ports: [{port: 80, public: false}]").unwrap().public, []);
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, words) in [
            ("image: a\nbuild: {}", "contradicts"),
            ("imgae: a", "unknown field `imgae`"),
            ("resources: {memory: 1Mi}", "resources.memory"),
            ("resources: {gpu: 'H100:0'}", "resources.gpu.count"),
            ("alive: {port: 80, log: 3s}", "contradict"),
            ("alive: {port: 0}", "alive.port: nothing listens on port 0"),
            ("ports: [0]", "port 0"),
            ("ports: [80, 80]", "there twice"),
            ("ports: [70000]", "ports"),
            ("ports: [{port: 80, public: {max_body: much}}]", "ports[80].public.max_body"),
            ("ports: [{port: 80, public: {whom: all}}]", "ports"),
            ("ports: [{port: 80, name: a}, {port: 81, name: a}]", "`a` is there twice"),
            ("ports: [{port: 80, name: '80'}]", "is not a name"),
            ("verify: {mode: zk}", "not available in this version"),
            ("timeout: soon", "not a duration"),
            ("timeout: +5s", "not a duration"),
            ("env: {FARM_X: a}", "set by the network"),
            ("budget: '0'", "buys nothing"),
            ("price: {max: 1, target: 2}", "more than the highest price"),
            ("watcher: me", "watcher: "),
            ("constraints: {certificates: ['tier']}", "is no certificate"),
            ("constraints: {certificates: ['age:3']}", "is no certificate"),
            ("term: {open: true, hours: 2}", "contradict"),
            ("term: {lock: 2}", "are for rentals"),
            ("term: {hours: 2, lock: 1}", "at least as many"),
            ("term: {hours: 2, renew: true}", "nothing can follow"),
            ("{term: {hours: 2}, timeout: 1h}", "leave the timeout out"),
            ("build: {dockerfile: ../x}", "inside the build folder"),
        ] {
            let e = check(yaml).unwrap_err();
            assert!(e.contains(words), "{yaml}: {e}");
        }
    }
}
