//! Files of docker compose, as far as they say what can be run here.
//!
//! Guarantees: each field is taken over, or named with what became of it: refused where running without it would be something
//! else (folders of the user's, privileges), noted where it only has no effect. Nothing is dropped silently. Variables are not taken
//! from the shell: a file says the same everywhere. It reads no other file.

use crate::error::FileError;
use crate::file::{Asked, Text};
use crate::yaml::{line_of, syntax};
use pasture_types::Amount;
use pasture_types::fleet::Until;
use pasture_types::life::{HealthSpec, Restart};
use pasture_types::spec::{BuildSpec, JobSpec, JobType, Scalar};
use serde_norway::{Mapping, Value};
use std::collections::{BTreeMap, BTreeSet};

/// What would have to hold for the service to be the same, and cannot: the file is refused.
const REFUSED: [(&str, &str); 20] = [
    ("cap_add", "jobs have no capabilities"),
    ("cgroup_parent", "the machine's own limits apply"),
    ("configs", "put the files into the image"),
    ("credential_spec", "it is for Windows"),
    ("device_cgroup_rules", "jobs have no devices"),
    ("devices", "jobs have no devices"),
    ("env_file", "write its variables under `environment`"),
    ("extends", "write the service out"),
    ("external_links", "services do not reach each other"),
    ("gpus", "compose names no model: write x-farm: {resources: {gpu: H100:1}}"),
    ("group_add", "build an image that runs as the right group"),
    ("ipc", "jobs share nothing"),
    ("pid", "jobs share nothing"),
    ("privileged", "jobs have no privileges"),
    ("runtime", "the machine's own applies"),
    ("tmpfs", "write to the image's own file system"),
    ("user", "build an image that runs as the right user"),
    ("userns_mode", "the machine's own applies"),
    ("uts", "jobs share nothing"),
    ("volumes_from", "services share nothing"),
];
/// What has no effect here, with why that is said and not refused.
const NOTED: [(&str, &str); 37] = [
    ("annotations", "has no effect"),
    ("attach", "has no effect"),
    ("blkio_config", "has no effect: disks are not shared by weight"),
    ("cap_drop", "is so anyway: jobs have no capabilities"),
    ("cgroup", "has no effect"),
    ("container_name", "has no effect: jobs are named after their deployment"),
    ("cpu_shares", "has no effect: processor time is limited exactly"),
    ("develop", "has no effect"),
    ("dns", "has no effect: names are resolved by the machine"),
    ("dns_opt", "has no effect"),
    ("dns_search", "has no effect"),
    ("domainname", "has no effect"),
    ("expose", "has no effect: services do not reach each other"),
    ("extra_hosts", "has no effect"),
    ("hostname", "has no effect"),
    ("init", "has no effect"),
    ("isolation", "has no effect"),
    ("labels", "has no effect"),
    ("links", "has no effect: services do not reach each other"),
    ("logging", "has no effect: logs are kept by the network"),
    ("mac_address", "has no effect"),
    ("mem_reservation", "has no effect: memory is held exactly as limited"),
    ("mem_swappiness", "has no effect: jobs do not swap"),
    ("memswap_limit", "has no effect: jobs do not swap"),
    ("networks", "has no effect: each service has a machine of its own and reaches no other by name"),
    ("oom_score_adj", "has no effect"),
    ("platform", "has no effect: the machine's own architecture is used"),
    ("pull_policy", "has no effect: an image is fetched where it is missing"),
    ("read_only", "has no effect: the file system of a job can be written"),
    ("security_opt", "has no effect: jobs gain no privileges anyway"),
    ("shm_size", "has no effect"),
    ("stdin_open", "has no effect: jobs have no input"),
    ("stop_grace_period", "has no effect: 10 s are given"),
    ("stop_signal", "has no effect: the image's own is used"),
    ("sysctls", "has no effect"),
    ("tty", "has no effect: jobs have no terminal"),
    ("ulimits", "has no effect: `pids_limit` has"),
];
/// Most notes; a file with more of them is not meant for this.
const MAX_NOTES: usize = 200;

/// Reads a file.
pub(crate) fn read(text: &Text<'_>) -> Read<Asked> {
    let mut value: Value = serde_norway::from_str(text.text).map_err(|e| syntax(text.text, &e))?;
    value.apply_merge().map_err(|e| syntax(text.text, &e))?;
    let mut reader = Reader { text, notes: vec![], sizes: BTreeMap::new(), completed: BTreeSet::new() };
    let asked = reader.file(&value)?;
    Ok(Asked { notes: reader.notes, ..asked })
}

pub(crate) struct Reader<'a> {
    text: &'a Text<'a>,
    notes: Vec<String>,
    /// Sizes of volumes, by their names.
    pub(crate) sizes: BTreeMap<String, String>,
    /// Services that others wait to see completed: jobs.
    completed: BTreeSet<String>,
}

pub(crate) type Read<T> = Result<T, FileError>;

impl Reader<'_> {
    pub(crate) fn wrong(&self, path: &str, problem: &str) -> FileError {
        FileError::new(line_of(self.text.text, path), format!("{}: {problem}", path.escape_debug()))
    }
    pub(crate) fn note(&mut self, path: &str, what: &str) -> Read<()> {
        if self.notes.len() >= MAX_NOTES {
            return Err(self.wrong(path, "too much in this file has no effect here"));
        }
        let path: String = path.chars().filter(|c| !c.is_control()).collect();
        self.notes.push(format!("{path} {what}"));
        Ok(())
    }
    fn map<'v>(&self, path: &str, value: &'v Value) -> Read<&'v Mapping> {
        value.as_mapping().ok_or_else(|| self.wrong(path, "names with values are expected here"))
    }
    /// The entries of a mapping whose names are texts.
    pub(crate) fn entries<'v>(&self, path: &str, value: &'v Value) -> Read<Vec<(String, &'v Value)>> {
        let name = |key: &Value| key.as_str().map(str::to_owned).ok_or_else(|| self.wrong(path, "a name is expected"));
        self.map(path, value)?.iter().map(|(k, v)| name(k).map(|k| (k, v))).collect()
    }

    fn file(&mut self, value: &Value) -> Read<Asked> {
        let (mut name, mut services, mut budget) = (String::new(), None, None);
        for (key, value) in self.entries("the file", value)? {
            match key.as_str() {
                "name" => name = self.text("name", value)?,
                "services" => services = Some(value),
                "version" => self.note("version", "has no meaning any more")?,
                "networks" => self.note("networks", "has no effect: each service has a machine of its own and reaches no other by name")?,
                "x-farm" => {
                    for (key, value) in self.entries("x-farm", value)? {
                        let "budget" = key.as_str() else {
                            return Err(self.wrong(&format!("x-farm.{key}"), "for the whole file only `budget` is known"));
                        };
                        let text = self.scalar("x-farm.budget", value)?;
                        budget = Some(text.parse::<Amount>().map_err(|e| self.wrong("x-farm.budget", &e.to_string()))?);
                    }
                }
                key if key.starts_with("x-") => {}
                // Where a service uses one, that is refused with its own words.
                "volumes" => self.sizes(value)?,
                "secrets" => {
                    self.note("secrets", "has no effect by itself: what it says about files and variables of yours is not read")?
                }
                "configs" => self.note("configs", "has no effect by itself")?,
                "include" => return Err(self.wrong("include", "only this file is read: write the services out")),
                _ => return Err(self.wrong(&key, "is not known here")),
            }
        }
        let services = services.ok_or_else(|| self.wrong("services", "there are none"))?;
        let mut specs = BTreeMap::new();
        for (service, value) in self.entries("services", services)? {
            if let Some(spec) = self.service(&service, value)? {
                specs.insert(service, spec);
            }
        }
        for job in &self.completed {
            if let Some(spec) = specs.get_mut(job).filter(|s: &&mut JobSpec| s.kind.is_none()) {
                spec.kind = Some(JobType::Job);
            }
        }
        for spec in specs.values_mut() {
            // A service of compose is not started again unless it says so.
            (spec.kind, spec.restart) = (spec.kind.or(Some(JobType::Service)), spec.restart.or(Some(Restart::Never)));
        }
        Ok(Asked { name, budget, services: specs, notes: vec![] })
    }

    /// A service; `None` where compose itself would not start it.
    fn service(&mut self, service: &str, value: &Value) -> Read<Option<JobSpec>> {
        let base = format!("services.{service}");
        let mut spec = JobSpec::default();
        let mut overlay = None;
        for (key, value) in self.entries(&base, value)? {
            let path = format!("{base}.{key}");
            match key.as_str() {
                _ if value.is_null() => {}
                "image" => spec.image = Some(self.text(&path, value)?),
                "build" => spec.build = Some(self.build(&path, value)?),
                "command" => spec.args = Some(self.words(&path, value)?),
                "entrypoint" => spec.command = Some(self.words(&path, value)?),
                "environment" => spec.env = self.pairs(&path, value)?,
                "depends_on" => spec.depends_on.0 = self.depends(&path, value)?,
                "restart" => self.restart(&path, value, &mut spec)?,
                "healthcheck" => spec.health = self.health(&path, value)?,
                "deploy" => self.deploy(&path, value, &mut spec)?,
                "scale" => spec.replicas = Some(self.number(&path, value)?),
                "cpus" => spec.resources.cpu = Some(Scalar::Text(self.scalar(&path, value)?)),
                "mem_limit" => spec.resources.memory = Some(self.bytes(&path, value)?),
                "pids_limit" => spec.resources.pids = Some(self.number(&path, value)?),
                "ports" => spec.ports = self.ports(&path, value)?,
                "volumes" => spec.volumes = self.volumes(&path, value)?,
                "secrets" => spec.secrets = self.secrets(&path, value)?,
                "network_mode" if value.as_str() == Some("none") => spec.egress = Some(pasture_types::market::Egress::None),
                "network_mode" => self.note(&path, "has no effect: each service has a machine of its own")?,
                "working_dir" => {
                    return Err(self.wrong(&path, "build an image that has the right one, or begin the command with a change of folder"));
                }
                "profiles" => {
                    self.note(&base, "has profiles, so it is not started: compose would not either")?;
                    return Ok(None);
                }
                "x-farm" => overlay = Some((path, value)),
                key if key.starts_with("x-") => {}
                key => self.other(&path, key)?,
            }
        }
        if let Some((path, value)) = overlay {
            self.overlay(&path, value, &mut spec)?;
        }
        if spec.image.is_some() && spec.build.is_some() {
            // Compose names the image that it builds with `image`.
            spec.image = None;
            self.note(&format!("{base}.image"), "has no effect beside `build`: what is built is named by the machine")?;
        }
        Ok(Some(spec))
    }

    fn other(&mut self, path: &str, key: &str) -> Read<()> {
        if let Some((_, why)) = REFUSED.iter().find(|(name, _)| *name == key) {
            return Err(self.wrong(path, &format!("cannot be taken over: {why}")));
        }
        match NOTED.iter().find(|(name, _)| *name == key) {
            Some((_, why)) => self.note(path, why),
            None => Err(self.wrong(path, "is not known here")),
        }
    }

    /// What compose has no words for, under `x-farm`: fields of a job file.
    fn overlay(&self, path: &str, value: &Value, spec: &mut JobSpec) -> Read<()> {
        let more: JobSpec = serde_norway::from_value(value.clone()).map_err(|e| self.wrong(path, &e.to_string()))?;
        let allowed = [
            "type",
            "resources",
            "timeout",
            "budget",
            "price",
            "priority",
            "term",
            "preemptible",
            "watcher",
            "constraints",
            "egress",
            "alive",
            "verify",
            "array",
            "retry",
        ];
        if let Some((key, _)) = self.entries(path, value)?.iter().find(|(k, _)| !allowed.contains(&k.as_str())) {
            return Err(self.wrong(&format!("{path}.{key}"), "stands in the service itself: remove it here"));
        }
        let pick = |mine: Option<Scalar>, theirs: Option<Scalar>| theirs.or(mine);
        spec.resources.cpu = pick(spec.resources.cpu.take(), more.resources.cpu);
        spec.resources.memory = pick(spec.resources.memory.take(), more.resources.memory);
        spec.resources.disk = more.resources.disk;
        spec.resources.gpu = more.resources.gpu;
        spec.resources.pids = more.resources.pids.or(spec.resources.pids);
        (spec.kind, spec.timeout, spec.budget, spec.price) = (more.kind, more.timeout, more.budget, more.price);
        (spec.priority, spec.term, spec.preemptible, spec.watcher) = (more.priority, more.term, more.preemptible, more.watcher);
        (spec.constraints, spec.alive, spec.verify, spec.array) = (more.constraints, more.alive, more.verify, more.array);
        (spec.egress, spec.retry) = (more.egress.or(spec.egress), more.retry.or(spec.retry));
        Ok(())
    }

    // ---- values ----------------------------------------------------------------------------------------------------

    /// A text, a number or a truth value as text, with variables resolved.
    pub(crate) fn scalar(&mut self, path: &str, value: &Value) -> Read<String> {
        match value {
            Value::String(text) => self.resolved(path, text),
            Value::Number(n) => Ok(n.to_string()),
            Value::Bool(b) => Ok(b.to_string()),
            _ => Err(self.wrong(path, "a text or a number is expected here")),
        }
    }
    pub(crate) fn text(&mut self, path: &str, value: &Value) -> Read<String> {
        match value {
            Value::String(text) => self.resolved(path, text),
            _ => Err(self.wrong(path, "a text is expected here")),
        }
    }
    fn number(&mut self, path: &str, value: &Value) -> Read<u32> {
        self.scalar(path, value)?.parse().map_err(|_| self.wrong(path, "a whole number is expected here"))
    }
    pub(crate) fn flag(&mut self, path: &str, value: &Value) -> Read<bool> {
        self.scalar(path, value)?.parse().map_err(|_| self.wrong(path, "true or false is expected here"))
    }

    /// A text with compose's variables: only what the file itself says about them is known.
    fn resolved(&mut self, path: &str, text: &str) -> Read<String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
                continue;
            }
            let (inner, after) = match after.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or_else(|| self.wrong(path, "a `${` is not closed"))?,
                None => {
                    let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
                    after.split_at(end)
                }
            };
            let end = inner.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inner.len());
            let (name, how) = inner.split_at(end);
            let shown: String = name.chars().take(64).collect();
            let default = how.strip_prefix(":-").or_else(|| how.strip_prefix('-'));
            match default.filter(|d| !name.is_empty() && !d.contains('$')) {
                Some(default) => {
                    out.push_str(default);
                    self.note(path, &format!("takes the default of {shown}: variables of your shell are not used"))?;
                }
                None if name.is_empty() => return Err(self.wrong(path, "a lone `$` is written as `$$`")),
                None => {
                    let problem = format!("takes {shown} from your shell, which is not done here: write the value, or ${{{shown}:-VALUE}}");
                    return Err(self.wrong(path, &problem));
                }
            }
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    /// A command: a list, or a line that is taken apart as a shell would, without running one.
    fn words(&mut self, path: &str, value: &Value) -> Read<Vec<String>> {
        match value {
            Value::Sequence(list) => list.iter().map(|v| self.scalar(path, v)).collect(),
            _ => {
                let line = self.text(path, value)?;
                split_words(&line).ok_or_else(|| self.wrong(path, "a quote is not closed: write the command as a list"))
            }
        }
    }

    /// Names with values: a mapping, or a list of `NAME=value`.
    fn pairs(&mut self, path: &str, value: &Value) -> Read<BTreeMap<String, String>> {
        let mut out = BTreeMap::new();
        let nothing = |this: &Self, name: &str| {
            Err(this.wrong(&format!("{path}.{name}"), "has no value: compose would take it from your shell, which is not done here"))
        };
        if let Value::Sequence(list) = value {
            for item in list {
                let text = self.scalar(path, item)?;
                let Some((name, value)) = text.split_once('=') else { return nothing(self, &text) };
                out.insert(name.to_owned(), value.to_owned());
            }
            return Ok(out);
        }
        for (name, value) in self.entries(path, value)? {
            if value.is_null() {
                return nothing(self, &name);
            }
            let value = self.scalar(&format!("{path}.{name}"), value)?;
            out.insert(name, value);
        }
        Ok(out)
    }

    /// A size: `512M` and `1gb` count in powers of 1024.
    fn bytes(&mut self, path: &str, value: &Value) -> Read<Scalar> {
        let text = self.scalar(path, value)?.to_lowercase();
        let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let scale: u64 = match unit.trim() {
            "" | "b" => 1,
            "k" | "kb" | "kib" => 1 << 10,
            "m" | "mb" | "mib" => 1 << 20,
            "g" | "gb" | "gib" => 1 << 30,
            "t" | "tb" | "tib" => 1 << 40,
            _ => return Err(self.wrong(path, "is no size: write for example 512m")),
        };
        let wrong = || self.wrong(path, "is no size: write for example 512m");
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let whole: u64 = whole.parse::<u64>().map_err(|_| wrong())?.checked_mul(scale).ok_or_else(wrong)?;
        // Thousandths are more than anybody writes.
        let digits: String = part.chars().chain("000".chars()).take(3).collect();
        let part = digits.parse::<u64>().map_err(|_| wrong())?.checked_mul(scale).ok_or_else(wrong)? / 1000;
        Ok(Scalar::Int(whole.checked_add(part).ok_or_else(wrong)?))
    }

    /// A time such as `1m30s` or `500ms`, in the form of job files.
    fn time(&mut self, path: &str, value: &Value) -> Read<String> {
        let text = self.scalar(path, value)?;
        let wrong = || self.wrong(path, "is no time: write for example 1m30s");
        let (mut total, mut rest) = (0u64, text.as_str());
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let (number, after) = rest.split_at(digits);
            let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, after) = after.split_at(unit);
            let scale = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => return Err(wrong()),
            };
            let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(scale)).ok_or_else(wrong)?;
            total = total.checked_add(part).ok_or_else(wrong)?;
            rest = after;
        }
        Ok(format!("{total}ms"))
    }

    // ---- parts of a service ----------------------------------------------------------------------------------------

    fn build(&mut self, path: &str, value: &Value) -> Read<BuildSpec> {
        let mut build = BuildSpec::default();
        if value.is_string() {
            build.context = self.text(path, value)?;
            return Ok(build);
        }
        for (key, value) in self.entries(path, value)? {
            let path = format!("{path}.{key}");
            match key.as_str() {
                "context" => build.context = self.text(&path, value)?,
                "dockerfile" => build.dockerfile = self.text(&path, value)?,
                "args" => build.args = self.pairs(&path, value)?,
                "labels" | "cache_from" | "cache_to" | "pull" | "no_cache" | "tags" | "platforms" | "network" | "shm_size" | "ulimits"
                | "provenance" | "sbom" => self.note(&path, "has no effect")?,
                _ => return Err(self.wrong(&path, "cannot be taken over: the folder's Dockerfile is built as it is")),
            }
        }
        if build.context.contains("://") || build.context.starts_with("git@") {
            return Err(self.wrong(&format!("{path}.context"), "a folder of yours is built, not a distant one"));
        }
        Ok(build)
    }

    fn depends(&mut self, path: &str, value: &Value) -> Read<BTreeMap<String, Until>> {
        let mut out = BTreeMap::new();
        if let Value::Sequence(list) = value {
            for item in list {
                out.insert(self.text(path, item)?, Until::Started);
            }
            return Ok(out);
        }
        for (name, value) in self.entries(path, value)? {
            let path = format!("{path}.{name}");
            let mut until = Until::Started;
            for (key, value) in self.entries(&path, value)? {
                let path = format!("{path}.{key}");
                match (key.as_str(), value.as_str()) {
                    ("condition", Some("service_started")) => until = Until::Started,
                    ("condition", Some("service_healthy")) => until = Until::Healthy,
                    ("condition", Some("service_completed_successfully")) => {
                        until = Until::Completed;
                        self.completed.insert(name.clone());
                    }
                    ("condition", _) => return Err(self.wrong(&path, "is not one of compose's conditions")),
                    ("restart" | "required", _) => {
                        self.note(&path, "has no effect: it is needed, and only the first start waits for it")?
                    }
                    _ => return Err(self.wrong(&path, "is not known here")),
                }
            }
            out.insert(name, until);
        }
        Ok(out)
    }

    fn restart(&mut self, path: &str, value: &Value, spec: &mut JobSpec) -> Read<()> {
        // `no` without quotes is a truth value in YAML.
        let text = if value.as_bool() == Some(false) { "no".to_owned() } else { self.text(path, value)? };
        let (policy, times) = text.split_once(':').map_or((text.as_str(), None), |(policy, times)| (policy, Some(times)));
        spec.restart = Some(match policy {
            "no" => Restart::Never,
            "always" => Restart::Always,
            "unless-stopped" => Restart::Always,
            "on-failure" => Restart::OnFailure,
            _ => return Err(self.wrong(path, "is not one of no, always, on-failure and unless-stopped")),
        });
        if let Some(times) = times {
            spec.retry = Some(times.parse().map_err(|_| self.wrong(path, "a number is expected after `on-failure:`"))?);
        }
        Ok(())
    }

    fn health(&mut self, path: &str, value: &Value) -> Read<Option<HealthSpec>> {
        let mut health = HealthSpec::default();
        for (key, value) in self.entries(path, value)? {
            let path = format!("{path}.{key}");
            match key.as_str() {
                "test" => {
                    let shell = |line: String| vec!["/bin/sh".to_owned(), "-c".to_owned(), line];
                    let test = match value {
                        Value::Sequence(list) => list.iter().map(|v| self.scalar(&path, v)).collect::<Read<Vec<String>>>()?,
                        _ => vec!["CMD-SHELL".into(), self.text(&path, value)?],
                    };
                    health.exec = Some(match test.split_first() {
                        Some((kind, [])) if kind == "NONE" => return Ok(None),
                        Some((kind, command)) if kind == "CMD" => command.to_vec(),
                        Some((kind, [line])) if kind == "CMD-SHELL" => shell(line.clone()),
                        _ => return Err(self.wrong(&path, "begins with NONE, CMD or CMD-SHELL")),
                    });
                }
                "disable" if self.flag(&path, value)? => return Ok(None),
                "disable" => {}
                "interval" => health.interval = Some(self.time(&path, value)?),
                "timeout" => health.timeout = Some(self.time(&path, value)?),
                "start_period" => health.start = Some(self.time(&path, value)?).filter(|t| t != "0ms"),
                "retries" => health.retries = Some(self.number(&path, value)?),
                "start_interval" => self.note(&path, "has no effect: `interval` counts from the start")?,
                _ => return Err(self.wrong(&path, "is not known here")),
            }
        }
        if health.exec.is_none() {
            return Err(self.wrong(path, "has no `test`: what the image itself says is not used"));
        }
        Ok(Some(health))
    }

    fn deploy(&mut self, path: &str, value: &Value, spec: &mut JobSpec) -> Read<()> {
        for (key, value) in self.entries(path, value)? {
            let path = format!("{path}.{key}");
            match key.as_str() {
                "replicas" => spec.replicas = Some(self.number(&path, value)?),
                "resources" => self.resources(&path, value, spec)?,
                "restart_policy" => self.restart_policy(&path, value, spec)?,
                "mode" if matches!(value.as_str(), Some("replicated")) => {}
                "mode" if matches!(value.as_str(), Some("replicated-job")) => spec.kind = Some(JobType::Job),
                "labels" | "endpoint_mode" | "update_config" | "rollback_config" => {
                    self.note(&path, "has no effect: one is replaced at a time")?
                }
                _ => return Err(self.wrong(&path, "cannot be taken over: machines are chosen by `x-farm.constraints`")),
            }
        }
        Ok(())
    }

    fn resources(&mut self, path: &str, value: &Value, spec: &mut JobSpec) -> Read<()> {
        for (key, value) in self.entries(path, value)? {
            let path = format!("{path}.{key}");
            if key == "reservations" {
                let gpu = self.entries(&path, value)?.iter().any(|(k, _)| k == "devices" || k == "generic_resources");
                if gpu {
                    return Err(
                        self.wrong(&path, "devices cannot be taken over: compose names no model; write x-farm: {resources: {gpu: H100:1}}")
                    );
                }
                self.note(&path, "has no effect: all that is limited is held for the service")?;
                continue;
            }
            if key != "limits" {
                return Err(self.wrong(&path, "is not known here"));
            }
            for (key, value) in self.entries(&path, value)? {
                let path = format!("{path}.{key}");
                match key.as_str() {
                    "cpus" => spec.resources.cpu = Some(Scalar::Text(self.scalar(&path, value)?)),
                    "memory" => spec.resources.memory = Some(self.bytes(&path, value)?),
                    "pids" => spec.resources.pids = Some(self.number(&path, value)?),
                    _ => return Err(self.wrong(&path, "is not known here")),
                }
            }
        }
        Ok(())
    }

    fn restart_policy(&mut self, path: &str, value: &Value, spec: &mut JobSpec) -> Read<()> {
        for (key, value) in self.entries(path, value)? {
            let path = format!("{path}.{key}");
            match (key.as_str(), value.as_str()) {
                ("condition", Some("none")) => spec.restart = Some(Restart::Never),
                ("condition", Some("on-failure")) => spec.restart = Some(Restart::OnFailure),
                ("condition", Some("any")) => spec.restart = Some(Restart::Always),
                ("condition", _) => return Err(self.wrong(&path, "is not one of none, on-failure and any")),
                ("max_attempts", _) => spec.retry = Some(self.number(&path, value)?),
                ("delay" | "window", _) => self.note(&path, "has no effect: pauses grow from half a second to half a minute")?,
                _ => return Err(self.wrong(&path, "is not known here")),
            }
        }
        Ok(())
    }
}

/// Takes a line apart: blanks separate, quotes and backslashes hold together. `None`: something is not closed.
fn split_words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word) = (vec![], None::<String>);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        end if end == c => break,
                        '\\' if c == '"' => match chars.next()? {
                            special @ ('"' | '\\' | '$' | '`') => word.push(special),
                            other => word.extend(['\\', other]),
                        },
                        other => word.push(other),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
#[path = "compose_tests.rs"]
mod tests;
