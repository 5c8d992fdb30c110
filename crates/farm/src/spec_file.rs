//! From what a user wrote (a job file and flags) to a checked spec.
//!
//! Guarantees: a mistake in a file is reported with file, line and, where a name is close to a known one, what was
//! probably meant; a mistake in a flag with the flag. Flags win over the file. It reads no folder but for `farm.yaml`.

use crate::args::{SpecArgs, TermArgs};
use crate::deploy::address;
use crate::exit::Failure;
use pasture_jobfile::yaml;
use pasture_types::gpu::GpuSpec;
use pasture_types::keep::{SecretSpec, VolumeSpec};
use pasture_types::market::Egress;
use pasture_types::spec::{AliveSpec, BuildSpec, CheckedSource, CheckedSpec, JobSpec, MAX_NAME, Scalar, SpecError, TermSpec};
use std::path::{Path, PathBuf};

/// The job file that is used without being named.
pub(crate) const DEFAULT_FILE: &str = "farm.yaml";
/// Largest job file.
pub(crate) const MAX_FILE_BYTES: u64 = 256 * 1024;

/// A checked spec and where its folder is.
#[derive(Debug)]
pub(crate) struct Asked {
    /// What to run.
    pub(crate) spec: CheckedSpec,
    /// The folder to build, if one is built.
    pub(crate) folder: Option<PathBuf>,
    /// The job's name.
    pub(crate) name: String,
}

/// A job file: its text, for line numbers.
struct Source {
    shown: String,
    /// What folders in it are relative to; a file from the network has none.
    base: Option<PathBuf>,
    text: String,
}

/// What the first argument names.
enum Named {
    Folder(PathBuf),
    Image(String),
}

/// Works out what is asked; a job file may come from the network.
pub(crate) async fn ask(args: &SpecArgs, command: &[String]) -> Result<Asked, Failure> {
    let source = match args.file.as_deref().and_then(Path::to_str).filter(|f| address::is_url(f)) {
        Some(url) => Some(address::open(url).await?),
        None => None,
    };
    let asked = resolve_from(args, command, source.map(|t| Source { shown: t.shown, base: t.base, text: t.text }))?;
    if asked.spec.fleet.is_single() {
        return Ok(asked);
    }
    let file = args.file.as_ref().map_or_else(String::new, |f| format!(" -f {}", f.display()));
    Err(Failure::usage("replicas, arrays and jobs that wait for others are more than one run").next(format!("farm deploy{file}")))
}

/// The same with files of this machine only.
#[cfg(test)]
fn resolve(args: &SpecArgs, command: &[String]) -> Result<Asked, Failure> {
    resolve_from(args, command, None)
}

fn resolve_from(args: &SpecArgs, command: &[String], fetched: Option<Source>) -> Result<Asked, Failure> {
    let named = args.target.as_deref().map(name_target).transpose()?;
    let file = match (&args.file, &named) {
        (Some(_), _) if fetched.is_some() => None,
        (Some(path), _) => Some(path.clone()),
        (None, Some(Named::Image(_))) => None,
        (None, Some(Named::Folder(dir))) => Some(dir.join(DEFAULT_FILE)).filter(|p| p.is_file()),
        (None, None) => Some(PathBuf::from(DEFAULT_FILE)).filter(|p| p.is_file()),
    };
    let local = |path: PathBuf| {
        let base = path.parent().map(Path::to_path_buf).unwrap_or_default();
        read(&path).map(|text| Source { shown: path.display().to_string(), base: Some(base), text })
    };
    let source = match fetched {
        Some(source) => Some(source),
        None => file.map(local).transpose()?,
    };
    let mut spec = match &source {
        Some(s) => parse(s)?,
        None => JobSpec::default(),
    };
    // Folders in a file are relative to the file, those on the command line to where we are.
    let base = match &source {
        Some(s) => s.base.clone(),
        None => Some(PathBuf::new()),
    };
    let mut folder_override = None;
    match named {
        Some(Named::Image(image)) => {
            spec.build = None;
            spec.image = Some(image);
        }
        // The folder that a found farm.yaml lies in is no contradiction of what is in it.
        Some(Named::Folder(dir)) if args.file.is_some() => {
            spec.build.get_or_insert_with(BuildSpec::default);
            folder_override = Some(dir);
        }
        Some(Named::Folder(dir)) if source.is_none() => folder_override = Some(dir),
        Some(Named::Folder(_)) | None => {}
    }
    apply(args, command, &mut spec)?;
    let checked = spec.check().map_err(|e| located(&e, source.as_ref(), args))?;
    let folder = match (&checked.source, folder_override, base) {
        (CheckedSource::Image(_), _, _) => None,
        (CheckedSource::Build { .. }, Some(folder), _) => Some(folder),
        (CheckedSource::Build { context, .. }, None, Some(base)) => Some(base.join(context)),
        (CheckedSource::Build { .. }, None, None) => {
            return Err(Failure::new("spec", "a file from the network cannot have folders of yours built: it may name images only"));
        }
    };
    let name = checked.name.clone().unwrap_or_else(|| default_name(&checked, folder.as_deref()));
    Ok(Asked { spec: checked, folder, name })
}

fn name_target(target: &str) -> Result<Named, Failure> {
    let path = Path::new(target);
    if path.is_dir() {
        return Ok(Named::Folder(path.into()));
    }
    if path.is_file() {
        return Err(
            Failure::usage(format!("{target} is a file, not a folder")).next(format!("is it a job file? then:  farm run -f {target}"))
        );
    }
    if target.is_empty() || target.starts_with(['.', '/', '~']) {
        return Err(Failure::usage(format!("there is no folder {target}")));
    }
    Ok(Named::Image(target.into()))
}

pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    let size = std::fs::metadata(path).map_err(|e| Failure::io("read", path, &e))?.len();
    if size > MAX_FILE_BYTES {
        return Err(Failure::new("spec", format!("{}: {size} bytes where a job file has at most {MAX_FILE_BYTES}", path.display())));
    }
    std::fs::read_to_string(path).map_err(|e| Failure::io("read", path, &e))
}

fn parse(source: &Source) -> Result<JobSpec, Failure> {
    if yaml::says_nothing(&source.text) {
        return Ok(JobSpec::default());
    }
    serde_norway::from_str(&source.text).map_err(|e| {
        let failure = Failure::in_file(&source.shown, &yaml::syntax(&source.text, &e));
        let several = failure.message.ends_with("unknown field `services`");
        if several { failure.next(format!("a file with several services is deployed:  farm deploy -f {}", source.shown)) } else { failure }
    })
}

/// Says where a spec error comes from: the flag, if one set the field, else the line of the file.
fn located(error: &SpecError, source: Option<&Source>, args: &SpecArgs) -> Failure {
    let flag = flag_for(&error.field, args);
    match (flag, source) {
        (Some(flag), _) => Failure::usage(format!("{flag}: {}", error.problem)),
        (None, Some(s)) => {
            let line = yaml::line_of(&s.text, &error.field);
            Failure::new("spec", format!("{}:{line}: {error}", s.shown))
        }
        (None, None) => Failure::usage(error.to_string()),
    }
}

fn flag_for(field: &str, args: &SpecArgs) -> Option<&'static str> {
    let flags = [
        ("name", "--name", args.name.is_some()),
        ("resources.cpu", "--cpu", args.cpu.is_some()),
        ("resources.memory", "--memory", args.memory.is_some()),
        ("resources.disk", "--disk", args.disk.is_some()),
        ("resources.pids", "--pids", args.pids.is_some()),
        ("resources.gpu", "--gpu", args.gpu.is_some()),
        ("timeout", "--timeout", args.timeout.is_some()),
        ("budget", "--budget", args.budget.is_some()),
        ("price.max", "--max-price", args.max_price.is_some()),
        ("constraints.region", "--region", args.region.is_some()),
        ("alive", "--alive", args.alive.is_some()),
        ("price.target", "--target-price", args.terms.target_price.is_some()),
        ("priority", "--priority", args.terms.priority.is_some()),
        ("term.renew", "--renew", args.terms.renew),
        ("term", "--lock", args.terms.lock.is_some()),
        ("term", "--hourly", args.terms.hourly.is_some()),
        ("term", "--monthly", args.terms.monthly.is_some()),
        ("term", "--open", args.terms.open),
        ("term", "--renew", args.terms.renew),
        ("watcher", "--watch", args.terms.watch.is_some()),
        ("secrets", "--secret", !args.keep.secret.is_empty()),
        ("volumes", "--volume", !args.keep.volume.is_empty()),
        ("env", "--env", !args.env.is_empty()),
        ("constraints.attributes", "--label", !args.label.is_empty()),
        ("constraints.certificates", "--certificate", !args.certificate.is_empty()),
    ];
    let matches = |name: &str| field == name || field.strip_prefix(name).is_some_and(|rest| rest.starts_with(['.', '[']));
    flags.iter().find(|(name, _, given)| *given && matches(name)).map(|(_, flag, _)| *flag)
}

fn apply(args: &SpecArgs, command: &[String], spec: &mut JobSpec) -> Result<(), Failure> {
    let set = |slot: &mut Option<String>, flag: &Option<String>| {
        if let Some(v) = flag {
            *slot = Some(v.clone());
        }
    };
    set(&mut spec.name, &args.name);
    set(&mut spec.timeout, &args.timeout);
    set(&mut spec.budget, &args.budget);
    set(&mut spec.constraints.region, &args.region);
    let scalar = |slot: &mut Option<Scalar>, flag: &Option<String>| {
        if let Some(v) = flag {
            *slot = Some(Scalar::Text(v.clone()));
        }
    };
    scalar(&mut spec.resources.cpu, &args.cpu);
    scalar(&mut spec.resources.memory, &args.memory);
    scalar(&mut spec.resources.disk, &args.disk);
    scalar(&mut spec.price.max, &args.max_price);
    spec.resources.gpu = args.gpu.clone().map(GpuSpec::Text).or(spec.resources.gpu.take());
    spec.resources.pids = args.pids.or(spec.resources.pids);
    for pair in &args.env {
        let (name, value) = pair.split_once('=').ok_or_else(|| Failure::usage(format!("--env: `{pair}` is not NAME=VALUE")))?;
        spec.env.insert(name.into(), value.into());
    }
    for pair in &args.label {
        let (name, value) = pair.split_once('=').ok_or_else(|| Failure::usage(format!("--label: `{pair}` is not NAME=VALUE")))?;
        spec.constraints.attributes.insert(name.into(), value.into());
    }
    spec.constraints.certificates.extend(args.certificate.iter().cloned());
    if let Some(text) = &args.egress {
        spec.egress = Some(match text.as_str() {
            "none" => Egress::None,
            "open" => Egress::Open,
            other => return Err(Failure::usage(format!("--egress: `{other}` is neither none nor open"))),
        });
    }
    if let Some(text) = &args.alive {
        spec.alive = Some(parse_alive(text)?);
    }
    for text in &args.keep.secret {
        spec.secrets.push(parse_secret(text));
    }
    for text in &args.keep.volume {
        spec.volumes.push(parse_volume(text)?);
    }
    apply_terms(&args.terms, spec);
    if !command.is_empty() {
        spec.args = Some(command.to_vec());
    }
    Ok(())
}

fn apply_terms(args: &TermArgs, spec: &mut JobSpec) {
    if let Some(price) = &args.target_price {
        spec.price.target = Some(Scalar::Text(price.clone()));
    }
    spec.priority = args.priority.or(spec.priority);
    // A term is one thing: a flag for it puts aside what the file says.
    if args.open || args.hourly.is_some() || args.monthly.is_some() {
        spec.term = TermSpec { open: args.open.then_some(true), hours: args.hourly, months: args.monthly, lock: None, renew: None };
    }
    spec.term.lock = args.lock.or(spec.term.lock);
    if args.renew {
        spec.term.renew = Some(true);
    }
    if args.preemptible {
        spec.preemptible = Some(true);
    }
    spec.watcher = args.watch.clone().or(spec.watcher.take());
}

/// `NAME`, `NAME=VARIABLE` or `NAME=/run/secrets/FILE`.
fn parse_secret(text: &str) -> SecretSpec {
    match text.split_once('=') {
        None => SecretSpec { name: text.into(), ..SecretSpec::default() },
        Some((name, file)) if file.starts_with('/') => SecretSpec { name: name.into(), env: None, file: Some(file.into()) },
        Some((name, variable)) => SecretSpec { name: name.into(), env: Some(variable.into()), file: None },
    }
}

/// `NAME:/PATH`, with `:ro` or a size after it.
fn parse_volume(text: &str) -> Result<VolumeSpec, Failure> {
    let wrong = || Failure::usage(format!("--volume: `{text}` is no volume: write NAME:/PATH, NAME:/PATH:ro or NAME:/PATH:2Gi"));
    let mut parts = text.splitn(3, ':');
    let (Some(name), Some(path)) = (parts.next(), parts.next()) else { return Err(wrong()) };
    let (size, read_only) = match parts.next() {
        None => (None, false),
        Some("ro") => (None, true),
        Some(size) if size.starts_with(|c: char| c.is_ascii_digit()) => (Some(Scalar::Text(size.into())), false),
        Some(_) => return Err(wrong()),
    };
    Ok(VolumeSpec { name: name.into(), path: path.into(), size, read_only })
}

fn parse_alive(text: &str) -> Result<AliveSpec, Failure> {
    let wrong = || Failure::usage(format!("--alive: `{text}` is not a check: write exec, port:80 or log:30s"));
    match text.split_once(':') {
        None if text == "exec" => Ok(AliveSpec { exec: Some(true), ..AliveSpec::default() }),
        Some(("port", port)) => Ok(AliveSpec { port: Some(port.parse().map_err(|_| wrong())?), ..AliveSpec::default() }),
        Some(("log", time)) => Ok(AliveSpec { log: Some(time.into()), ..AliveSpec::default() }),
        _ => Err(wrong()),
    }
}

/// A name from the folder's or the image's own, made to fit.
fn default_name(spec: &CheckedSpec, folder: Option<&Path>) -> String {
    let raw = match (&spec.source, folder) {
        (CheckedSource::Image(image), _) => {
            let last = image.rsplit('/').next().unwrap_or(image);
            last.split([':', '@']).next().unwrap_or(last).to_string()
        }
        (CheckedSource::Build { .. }, Some(dir)) => {
            dir.canonicalize().ok().and_then(|d| d.file_name().map(|n| n.to_string_lossy().into_owned())).unwrap_or_default()
        }
        (CheckedSource::Build { .. }, None) => String::new(),
    };
    let plain: String = raw.to_lowercase().chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect();
    let name: String = plain.trim_matches('-').chars().take(MAX_NAME).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "job".into() } else { name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::market::{AliveCheck, BillingUnit, Term};

    fn with_file(yaml: &str) -> Result<Asked, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("job.yaml");
        std::fs::write(&path, yaml).unwrap();
        resolve(&SpecArgs { file: Some(path), ..SpecArgs::default() }, &[])
    }

    #[test]
    fn mistakes_name_file_line_and_what_was_meant() {
        for (yaml, line, next) in [
            ("name: a\nimgae: b\n", 2, "did you mean `image`?"),
            ("name: a\nresources:\n  cpu: 1\n  memroy: 1Gi\n", 4, "did you mean `memory`?"),
            ("# note\nresources: {cpu: 1, mem: 3}\n", 2, "known here are"),
        ] {
            let e = with_file(yaml).unwrap_err();
            assert!(e.message.contains(&format!("job.yaml:{line}: unknown field")), "{yaml}: {e:?}");
            assert!(e.next.iter().any(|n| n.contains(next)), "{yaml}: {e:?}");
            assert_eq!(e.exit.code(), 125);
        }
        for (yaml, line, words) in [
            ("image: a\n\nbuild:\n  context: .\n", 3, "contradicts"),
            ("name: a\nresources:\n  cpu: 1\n  memory: 1Mi\n", 4, "at least 6Mi"),
            ("image: a\nalive:\n  port: 80\n  log: 3s\n", 2, "contradict"),
            ("name: [a\n", 1, ""),
            ("image: a\ntimeout: soon\n", 2, "not a duration"),
            ("image: a\n\nvolumes: [{name: x, path: /proc}]\n", 3, "the system's"),
        ] {
            let e = with_file(yaml).unwrap_err();
            assert!(e.message.contains(&format!("job.yaml:{line}")) || words.is_empty(), "{yaml}: {e:?}");
            assert!(e.message.contains(words) && e.message.contains("job.yaml:"), "{yaml}: {e:?}");
        }
    }

    #[test]
    fn flags_win_and_their_mistakes_name_the_flag() {
        let args = SpecArgs {
            target: Some("reg.example/team/fold:2".into()),
            cpu: Some("250m".into()),
            env: vec!["A=1=2".into()],
            alive: Some("log:3s".into()),
            ..SpecArgs::default()
        };
        let asked = resolve(&args, &["-n".into()]).unwrap();
        assert_eq!((asked.name.as_str(), asked.folder), ("fold", None));
        assert_eq!(asked.spec.resources.cpu_millis, 250);
        assert_eq!(asked.spec.env["A"], "1=2");
        assert_eq!(asked.spec.alive, AliveCheck::Log(pasture_types::Millis(3000)));
        assert_eq!(asked.spec.args, Some(vec!["-n".into()]));
        let bad = |args: SpecArgs| resolve(&SpecArgs { target: Some("i".into()), ..args }, &[]).unwrap_err();
        for (args, flag) in [
            (SpecArgs { memory: Some("1Mi".into()), ..SpecArgs::default() }, "--memory"),
            (SpecArgs { env: vec!["A".into()], ..SpecArgs::default() }, "--env"),
            (SpecArgs { env: vec!["FARM_X=1".into()], ..SpecArgs::default() }, "--env"),
            (SpecArgs { alive: Some("pulse".into()), ..SpecArgs::default() }, "--alive"),
            (SpecArgs { alive: Some("port:0".into()), ..SpecArgs::default() }, "--alive"),
            (SpecArgs { egress: Some("all".into()), ..SpecArgs::default() }, "--egress"),
            (SpecArgs { certificate: vec!["tier".into()], ..SpecArgs::default() }, "--certificate"),
            (with_volume("data"), "--volume"),
            (with_volume("data:/data:rw"), "--volume"),
            (with_volume("../x:/data"), "--volume"),
            (with_volume("data:/a/../etc"), "--volume"),
            (with_volume("data:/data:1Mi"), "--volume"),
            (with_terms(TermArgs { priority: Some(101), ..TermArgs::default() }), "--priority"),
            (with_terms(TermArgs { lock: Some(2), ..TermArgs::default() }), "--lock"),
            (with_terms(TermArgs { hourly: Some(0), ..TermArgs::default() }), "--hourly"),
            (with_terms(TermArgs { hourly: Some(1), renew: true, ..TermArgs::default() }), "--renew"),
            (with_terms(TermArgs { watch: Some("bob".into()), ..TermArgs::default() }), "--watch"),
        ] {
            let e = bad(args);
            assert!(e.message.starts_with(flag), "{e:?}");
            assert_eq!(e.exit.code(), 2);
        }
    }

    fn with_volume(text: &str) -> SpecArgs {
        SpecArgs { keep: crate::args::KeepArgs { volume: vec![text.into()], secret: vec![] }, ..SpecArgs::default() }
    }

    fn with_terms(terms: TermArgs) -> SpecArgs {
        SpecArgs { terms, ..SpecArgs::default() }
    }

    #[test]
    fn a_flag_for_the_term_puts_the_files_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("job.yaml");
        std::fs::write(&path, "image: a\nterm: {hours: 2, lock: 4}\n").unwrap();
        let resolve = |terms| resolve(&SpecArgs { file: Some(path.clone()), terms, ..SpecArgs::default() }, &[]).unwrap().spec.term;
        let rental = |committed, locked, renew| Term::Rental { unit: BillingUnit::Hour, committed, locked, renew };
        assert_eq!(resolve(TermArgs::default()), rental(2, 4, false));
        assert_eq!(resolve(TermArgs { renew: true, ..TermArgs::default() }), rental(2, 4, true));
        assert_eq!(resolve(TermArgs { hourly: Some(3), ..TermArgs::default() }), rental(3, 3, false));
        assert_eq!(resolve(TermArgs { open: true, ..TermArgs::default() }), Term::Open);
    }

    #[test]
    fn gpus_come_from_the_flag_or_the_file() {
        let with_flag = |gpu: &str| resolve(&SpecArgs { target: Some("i".into()), gpu: Some(gpu.into()), ..SpecArgs::default() }, &[]);
        let asked = with_flag("h100:2,vram=80GB,cuda=12.2").unwrap().spec;
        assert_eq!((asked.resources.gpus[0].model.as_str(), asked.resources.gpus[0].count), ("H100", 2));
        let e = with_flag("H100:0").unwrap_err();
        assert!(e.message.starts_with("--gpu: 0 is out of range"), "{e:?}");
        assert_eq!(with_file("image: a\nresources:\n  gpu: {model: T4}\n").unwrap().spec.resources.gpus[0].model, "T4");
        let e = with_file("image: a\nresources:\n  gpu: 'H100:x'\n").unwrap_err();
        assert!(e.message.contains("names no GPUs") && e.message.contains("job.yaml:3"), "{e:?}");
        let e = with_file("image: a\nresources:\n  gpu: {model: T4, vrma: 3}\n").unwrap_err();
        assert!(e.next.iter().any(|n| n.contains("did you mean `vram`?")), "{e:?}");
    }

    #[test]
    fn folders_are_relative_to_the_file_and_give_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("My Job_2");
        std::fs::create_dir(&folder).unwrap();
        let target = Some(folder.to_string_lossy().into_owned());
        let asked = resolve(&SpecArgs { target: target.clone(), ..SpecArgs::default() }, &[]).unwrap();
        assert_eq!((asked.name.as_str(), asked.folder.as_deref()), ("my-job-2", Some(folder.as_path())));
        std::fs::write(folder.join("farm.yaml"), "build: {context: sub}\nname: x\n").unwrap();
        let asked = resolve(&SpecArgs { target, ..SpecArgs::default() }, &[]).unwrap();
        assert_eq!((asked.name.as_str(), asked.folder), ("x", Some(folder.join("sub"))));
    }
}
