//! A job file, in YAML or JSON: it is read or refused, and what was checked keeps the limits that `spec` names.

use pasture_types::market::{MAX_ATTRIBUTE, MAX_CONSTRAINTS};
use pasture_types::spec::{CheckedSource, CheckedSpec, JobSpec, MAX_ENV, MAX_NAME, MAX_PIDS, MIN_MEMORY, Manifest, Source};
use pasture_types::{Amount, Millis, codec};

fn keeps_limits(s: &CheckedSpec) {
    assert!(s.name.as_ref().is_none_or(|n| (1..=MAX_NAME).contains(&n.len())));
    assert!(s.env.len() <= MAX_ENV && s.env.keys().all(|k| !k.is_empty() && !k.contains(['=', '\0']) && !k.starts_with("FARM_")));
    assert!(s.resources.cpu_millis >= 10 && s.resources.memory_bytes >= MIN_MEMORY && s.resources.gpus.is_empty());
    assert!((1..=MAX_PIDS).contains(&s.pids) && s.priority <= 100);
    assert!(s.timeout != Some(Millis(0)) && s.budget != Some(Amount::ZERO));
    assert!(s.constraints.len() <= MAX_CONSTRAINTS);
    for c in &s.constraints {
        if let pasture_types::market::Constraint::Attribute { name, value } = c {
            assert!(name.len() <= MAX_ATTRIBUTE && value.len() <= MAX_ATTRIBUTE);
        }
    }
}

/// The manifest that a client makes of a checked spec reads back as it was.
fn travels(s: CheckedSpec) {
    let source = match s.source {
        CheckedSource::Image(image) => Source::Image(image),
        CheckedSource::Build { dockerfile, args, timeout, .. } => {
            assert!(!dockerfile.starts_with('/') && dockerfile.split('/').all(|part| part != ".."));
            Source::Build { context: pasture_types::BlobHash([0; 32]), context_bytes: 0, dockerfile, args, timeout }
        }
    };
    let manifest = Manifest {
        salt: [0; 16],
        name: s.name.unwrap_or_default(),
        kind: s.kind,
        source,
        command: s.command,
        args: s.args,
        env: s.env,
        resources: s.resources,
        pids: s.pids,
        egress: s.egress,
        alive: s.alive,
        grace: Millis(0),
        ports: s.ports,
        life: s.life,
        volumes: s.volumes,
        secrets: s.secrets,
        reader: [9; 32],
    };
    assert_eq!(codec::decode::<Manifest>(&manifest.to_bytes(), usize::MAX), Ok(manifest));
}

/// Takes one input; a broken promise panics.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for read in [serde_norway::from_str::<JobSpec>(text).ok(), serde_json::from_str::<JobSpec>(text).ok()] {
        match read.map(JobSpec::check) {
            Some(Ok(checked)) => {
                keeps_limits(&checked);
                travels(checked);
            }
            Some(Err(e)) => assert!(!e.field.is_empty() && !e.problem.is_empty()),
            None => {}
        }
    }
}
