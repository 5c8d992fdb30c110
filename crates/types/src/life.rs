//! What happens to a job inside its lease when its process ends or no longer answers: restart policy and health check.
//!
//! Guarantees: [`check`] is the border for what a user wrote, [`Life::problem`] the border for what a node receives; both name
//! what is wrong. It decides nothing about a running job: that is the node's.

use crate::Millis;
use crate::spec::{JobType, SpecError, parse_duration};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Most restarts that may be asked for; whoever needs more asks for `always`.
pub const MAX_RETRY: u32 = 1_000;
/// Shortest time between two health checks: each is a process inside the job, on its own processor time.
pub const MIN_HEALTH_INTERVAL: Millis = Millis(500);
/// Longest time that a check, the pause between two, or the first quiet time may take.
pub const MAX_HEALTH_TIME: Millis = Millis(3_600_000);
/// Most failures in a row that a health check may tolerate.
pub const MAX_HEALTH_RETRIES: u32 = 100;
/// Longest command or path of a health check, in bytes.
pub const MAX_PROBE_BYTES: usize = 4096;
/// Time between two health checks unless the spec says.
const DEFAULT_INTERVAL: Millis = Millis(10_000);
/// How long a health check may take unless the spec says.
const DEFAULT_TIMEOUT: Millis = Millis(3_000);
/// Failures in a row until a job counts as unhealthy, unless the spec says.
const DEFAULT_RETRIES: u32 = 3;

/// When a job is started again inside its lease.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Its first end is its end.
    #[default]
    Never,
    /// When it failed: an exit code other than 0, too much memory, or a failed health check.
    OnFailure,
    /// Whenever it ended by itself.
    Always,
}

/// What a health check does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// A command inside the job, which exits with 0.
    Exec(Vec<String>),
    /// A GET to the job's loopback, answered with a status of 200 to 399.
    Http {
        /// Port.
        port: u16,
        /// Path, from its slash on.
        path: String,
    },
    /// A port that something listens on.
    Port(u16),
}

/// A health check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Health {
    /// What is done.
    pub probe: Probe,
    /// How long after one check the next one begins.
    pub interval: Millis,
    /// How long one may take.
    pub timeout: Millis,
    /// Failures in a row until the job counts as unhealthy.
    pub retries: u32,
    /// How long after a start failures do not count, unless the job was healthy before.
    pub start: Millis,
}

/// What a node does about a job's ends and health.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Life {
    /// When it is started again.
    pub restart: Restart,
    /// At most how often, in all; without it the node gives up on a job that keeps failing at once.
    pub retry: Option<u32>,
    /// How it is seen to be well.
    pub health: Option<Health>,
    /// Its number among others that run the same.
    pub member: Option<Member>,
}

/// One of several that run the same; told to the job as `FARM_ARRAY_INDEX` and `FARM_ARRAY_COUNT`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Member {
    /// Which, from 0 on.
    pub index: u32,
    /// Of how many.
    pub count: u32,
}

impl Life {
    /// What makes no sense; a client that skips its own checks gains nothing.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if self.retry.is_some_and(|n| n > MAX_RETRY) {
            return Some(format!("at most {MAX_RETRY} restarts can be asked for"));
        }
        if self.member.is_some_and(|m| m.index >= m.count) {
            return Some("the job's number is not one of its array's".into());
        }
        self.health.as_ref().and_then(Health::problem).map(|(field, problem)| format!("health.{field}: {problem}"))
    }
}

impl Health {
    /// The field that makes no sense, and why.
    fn problem(&self) -> Option<(&'static str, String)> {
        let bad = |field, problem: String| Some((field, problem));
        match &self.probe {
            Probe::Exec(words) if words.iter().all(String::is_empty) => return bad("exec", "the command is empty".into()),
            Probe::Exec(words)
                if words.iter().map(String::len).sum::<usize>() > MAX_PROBE_BYTES || words.iter().any(|w| w.contains('\0')) =>
            {
                return bad("exec", format!("a command has at most {MAX_PROBE_BYTES} bytes and none of them is zero"));
            }
            Probe::Http { port: 0, .. } | Probe::Port(0) => {
                return bad("port", "nothing listens on port 0: write a port from 1 to 65535".into());
            }
            Probe::Http { path, .. } if !is_path(path) => {
                return bad("http", format!("`{}` is not a path: write for example /healthz", path.escape_default()));
            }
            _ => {}
        }
        for (field, time, least) in
            [("interval", self.interval, MIN_HEALTH_INTERVAL), ("timeout", self.timeout, Millis(1)), ("start", self.start, Millis(0))]
        {
            if time < least || time > MAX_HEALTH_TIME {
                return bad(field, format!("{least} ms to {} ms are possible", MAX_HEALTH_TIME));
            }
        }
        if self.retries == 0 || self.retries > MAX_HEALTH_RETRIES {
            return bad("retries", format!("1 to {MAX_HEALTH_RETRIES} failures in a row are possible"));
        }
        None
    }
}

/// A path as it may stand in a request line: nothing that ends the line, nothing that a shell reads.
fn is_path(path: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%?=&+,:@".contains(&b);
    path.starts_with('/') && path.len() <= MAX_PROBE_BYTES && path.bytes().all(plain)
}

/// A health check as written; exactly one of `exec`, `http` and `port`.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthSpec {
    /// A command inside the job, e.g. `[pg_isready]`.
    pub exec: Option<Vec<String>>,
    /// A request to the job.
    pub http: Option<HttpSpec>,
    /// A port that accepts connections.
    pub port: Option<u16>,
    /// Pause between two checks (default `10s`).
    pub interval: Option<String>,
    /// Longest check (default `3s`).
    pub timeout: Option<String>,
    /// Failures in a row that are too many (default 3).
    pub retries: Option<u32>,
    /// How long after a start failures do not count (default none), e.g. `30s`.
    pub start: Option<String>,
}

/// A request to a job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSpec {
    /// Its port.
    pub port: u16,
    /// Path (default `/`).
    #[serde(default = "root")]
    pub path: String,
}

fn root() -> String {
    "/".into()
}

fn bad(field: &str, problem: impl Into<String>) -> SpecError {
    SpecError { field: field.into(), problem: problem.into() }
}

/// Checks restart policy and health check of a spec. A service is started again when it failed, unless it says otherwise.
///
/// # Errors
/// [`SpecError`] with the field.
pub fn check(kind: JobType, restart: Option<Restart>, retry: Option<u32>, health: Option<HealthSpec>) -> Result<Life, SpecError> {
    let restart = match (restart, retry, kind) {
        (Some(Restart::Never), Some(1..), _) => return Err(bad("retry", "contradicts `restart: never`: keep one of them")),
        (Some(restart), _, _) => restart,
        (None, Some(0), _) => Restart::Never,
        (None, Some(_), _) | (None, None, JobType::Service) => Restart::OnFailure,
        (None, None, JobType::Job) => Restart::Never,
    };
    let life = Life { restart, retry, health: health.map(check_health).transpose()?, member: None };
    match life.problem() {
        Some(problem) => Err(bad("retry", problem)),
        None => Ok(life),
    }
}

fn check_health(h: HealthSpec) -> Result<Health, SpecError> {
    let time = |field: &str, text: Option<String>, default: Millis| match text {
        Some(text) => parse_duration(&text).map_err(|e| bad(&format!("health.{field}"), e)),
        None => Ok(default),
    };
    let probe = match (h.exec, h.http, h.port) {
        (Some(exec), None, None) => Probe::Exec(exec),
        (None, Some(http), None) => Probe::Http { port: http.port, path: http.path },
        (None, None, Some(port)) => Probe::Port(port),
        (None, None, None) => return Err(bad("health", "says nothing: write one of exec, http and port")),
        _ => return Err(bad("health", "fields contradict each other: keep one of exec, http and port")),
    };
    let health = Health {
        probe,
        interval: time("interval", h.interval, DEFAULT_INTERVAL)?,
        timeout: time("timeout", h.timeout, DEFAULT_TIMEOUT)?,
        retries: h.retries.unwrap_or(DEFAULT_RETRIES),
        start: time("start", h.start, Millis(0))?,
    };
    match health.problem() {
        Some((field, problem)) => Err(bad(&format!("health.{field}"), problem)),
        None => Ok(health),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::JobSpec;

    fn life(yaml: &str) -> Result<Life, String> {
        let spec: JobSpec = serde_norway::from_str(yaml).map_err(|e| e.to_string())?;
        spec.check().map(|s| s.life).map_err(|e| e.to_string())
    }

    #[test]
    fn a_job_ends_once_and_a_service_comes_back_unless_they_say_otherwise() {
        assert_eq!(life("{}").unwrap(), Life::default());
        assert_eq!(life("type: service").unwrap().restart, Restart::OnFailure);
        assert_eq!(life("{type: service, restart: never}").unwrap().restart, Restart::Never);
        let retried = life("retry: 3").unwrap();
        assert_eq!((retried.restart, retried.retry), (Restart::OnFailure, Some(3)));
        assert_eq!(life("retry: 0").unwrap().restart, Restart::Never);
        assert_eq!(life("{restart: always, retry: 2}").unwrap().restart, Restart::Always);
    }

    #[test]
    fn a_health_check_has_defaults() {
        let health = life("health: {http: {port: 80}}").unwrap().health.unwrap();
        assert_eq!(health.probe, Probe::Http { port: 80, path: "/".into() });
        assert_eq!((health.interval, health.timeout, health.retries, health.start), (Millis(10_000), Millis(3_000), 3, Millis(0)));
        let health = life("health: {exec: [test, -f, /up], interval: 1s, timeout: 500ms, retries: 1, start: 1m}").unwrap().health.unwrap();
        assert_eq!((health.interval, health.timeout, health.retries, health.start), (Millis(1_000), Millis(500), 1, Millis(60_000)));
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, words) in [
            ("restart: sometimes", "unknown variant `sometimes`"),
            ("{restart: never, retry: 2}", "retry: contradicts"),
            ("retry: 1001", "at most 1000"),
            ("health: {}", "says nothing"),
            ("health: {port: 80, exec: [a]}", "contradict"),
            ("health: {port: 0}", "health.port: nothing listens"),
            ("health: {exec: []}", "health.exec: the command is empty"),
            ("health: {http: {port: 80, path: 'up'}}", "is not a path"),
            ("health: {http: {port: 80, path: '/a b'}}", "is not a path"),
            ("health: {http: {port: 80, path: \"/$(id)\"}}", "is not a path"),
            ("health: {port: 80, interval: 100ms}", "health.interval"),
            ("health: {port: 80, interval: 2d}", "health.interval"),
            ("health: {port: 80, timeout: soon}", "health.timeout: `soon` is not a duration"),
            ("health: {port: 80, retries: 0}", "health.retries"),
            ("health: {prot: 80}", "unknown field `prot`"),
        ] {
            let e = life(yaml).unwrap_err();
            assert!(e.contains(words), "{yaml}: {e}");
        }
    }

    #[test]
    fn what_no_client_of_ours_sends_is_refused_as_well() {
        let member = Life { member: Some(Member { index: 3, count: 3 }), ..Life::default() };
        assert!(member.problem().unwrap().contains("not one of"));
        let health = Health { probe: Probe::Port(1), interval: Millis(0), timeout: Millis(1), retries: 1, start: Millis(0) };
        assert!(Life { health: Some(health), ..Life::default() }.problem().unwrap().contains("health.interval"));
    }
}
