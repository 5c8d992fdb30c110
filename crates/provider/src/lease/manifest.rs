//! The border for manifests: bytes from a client become a manifest that fits its lease, or are refused with a reason.
//!
//! Guarantees: a manifest that passes has the hash on the ledger, the limits that the lease pays for, and no field that the
//! client's own checks would refuse; a client that skips those gains nothing.

use super::record::Terms;
use super::state::MAX_GRACE;
use crate::config::Options;
use pasture_store::seal;
use pasture_types::keep::{check_secrets, check_volumes};
use pasture_types::spec::{MAX_ENV, MAX_MANIFEST_BYTES, MAX_NAME, MAX_PIDS, Manifest, Source, sound_ports};
use pasture_types::{BlobHash, Resources, blob, codec};

/// Least disk that is left for the output of a job with volumes: without any, its size would have no limit.
pub(crate) const MIN_OUTPUT_BYTES: u64 = 1 << 20;

/// File of the manifest of an update, until it is the lease's.
pub(crate) const COMING: &str = "manifest.next";

/// Reads and checks a manifest: the one that the ledger names.
pub(crate) fn check(bytes: &[u8], terms: &Terms, options: &Options) -> Result<Manifest, String> {
    check_as(bytes, &terms.spec_hash, terms, options)
}

/// Reads and checks a manifest that is to take another's place: the machine, its volumes, secrets and rights are the same, and so is
/// what the ledger was told.
pub(crate) fn check_update(bytes: &[u8], current: &Manifest, terms: &Terms, options: &Options) -> Result<Manifest, String> {
    let new = check_as(bytes, &blob::hash(bytes), terms, options)?;
    if !matches!(new.source, Source::Image(_)) {
        return Err("what is built needs a lease of its own".into());
    }
    let Manifest { salt, name, source, command, args, env, grace, ports, life, .. } = current.clone();
    if (Manifest { salt, name, source, command, args, env, grace, ports, life, ..new.clone() }) != *current {
        return Err("only the image, command, arguments, environment, ports, health check and restarts can change within a lease".into());
    }
    Ok(new)
}

/// The same with any hash that is known from elsewhere.
pub(crate) fn check_as(bytes: &[u8], expected: &BlobHash, terms: &Terms, options: &Options) -> Result<Manifest, String> {
    if bytes.len() > MAX_MANIFEST_BYTES {
        return Err(format!("the manifest has {} bytes where at most {MAX_MANIFEST_BYTES} are allowed", bytes.len()));
    }
    let hash = blob::hash(bytes);
    if hash != *expected {
        return Err(format!("this is not the manifest of this lease: its hash is {}, the order names {}", hash.short(), expected.short()));
    }
    let manifest: Manifest = codec::decode(bytes, MAX_MANIFEST_BYTES).map_err(|e| e.to_string())?;
    if !are_held(&manifest.resources, &terms.resources) {
        return Err(format!("the manifest asks for {}, the lease holds {}", manifest.resources, terms.resources));
    }
    if manifest.egress > terms.egress {
        return Err("the manifest asks for more network access than the lease allows".into());
    }
    if manifest.alive != terms.alive {
        return Err("the manifest's alive check is not the lease's".into());
    }
    if manifest.pids == 0 || manifest.pids > MAX_PIDS {
        return Err(format!("{} processes: 1 to {MAX_PIDS} are possible", manifest.pids));
    }
    if manifest.grace > MAX_GRACE {
        return Err(format!("a grace of {} ms is longer than {MAX_GRACE} ms", manifest.grace));
    }
    if manifest.name.len() > MAX_NAME {
        return Err(format!("the name has more than {MAX_NAME} characters"));
    }
    if manifest.env.len() > MAX_ENV || manifest.env.keys().any(|k| k.is_empty() || k.contains('=') || k.starts_with("FARM_")) {
        return Err("the environment has too many variables, or one whose name is empty, holds `=` or begins with FARM_".into());
    }
    sound_ports(&manifest.ports).map_err(|problem| format!("ports: {problem}"))?;
    if let Some(problem) = manifest.life.problem() {
        return Err(problem);
    }
    if !seal::is_key(&manifest.reader) {
        return Err("the manifest names no key that its log and output can be sealed for".into());
    }
    check_secrets(&manifest.secrets).map_err(|(n, why)| format!("secrets[{n}]: {why}"))?;
    volumes_fit(&manifest)?;
    match &manifest.source {
        Source::Image(reference) if reference.is_empty() || reference.len() > 255 || reference.starts_with('-') => {
            Err("the image reference is not one".into())
        }
        Source::Image(reference) if pasture_runtime::is_built(reference) => {
            Err(format!("{reference} was built for somebody's job and is nobody else's to run"))
        }
        Source::Build { context_bytes, .. } if *context_bytes > options.max_context_bytes => {
            Err(format!("the build context has {context_bytes} bytes, this node takes at most {}", options.max_context_bytes))
        }
        Source::Build { dockerfile, .. }
            if dockerfile.is_empty() || dockerfile.starts_with('/') || dockerfile.split('/').any(|p| p == "..") =>
        {
            Err(format!("the Dockerfile `{dockerfile}` does not lie inside the build context"))
        }
        _ => Ok(manifest),
    }
}

/// Whether what is asked for is what the lease holds: GPUs are asked for by least memory and held as the machine has them.
fn are_held(asked: &Resources, held: &Resources) -> bool {
    let gpus = held.place_gpus(&asked.gpus);
    gpus.as_ref() == Some(&held.gpus) && Resources { gpus: held.gpus.clone(), ..asked.clone() } == *held
}

/// Bytes of the volumes that a job writes to: its lease pays for them while it has them.
pub(crate) fn volume_bytes(manifest: &Manifest) -> u64 {
    manifest.volumes.iter().fold(0, |sum, v| sum.saturating_add(v.bytes))
}

/// Volumes that are ones, and that the lease's disk holds besides its output.
fn volumes_fit(manifest: &Manifest) -> Result<(), String> {
    check_volumes(&manifest.volumes).map_err(|(n, why)| format!("volumes[{n}]: {why}"))?;
    if manifest.volumes.iter().any(|v| v.read_only != (v.bytes == 0)) {
        return Err("a volume that is written to has a size, one that is only read has none here".into());
    }
    let bytes = volume_bytes(manifest);
    if bytes > 0 && bytes.saturating_add(MIN_OUTPUT_BYTES) > manifest.resources.disk_bytes {
        return Err(format!("volumes of {bytes} bytes do not fit into the lease's disk beside its output"));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::tests::options;
    use pasture_store::sealed::ReaderKey;
    use pasture_types::keep::VolumeMount;
    use pasture_types::market::{AliveCheck, Egress};
    use pasture_types::spec::{JobType, Port};
    use pasture_types::{AccountId, Amount, BlobHash, GpuLine, LeaseId, Millis, OrderId, Timestamp};
    use std::collections::BTreeMap;

    /// What the key of `manifest`'s reader is derived from.
    pub(crate) const READER: [u8; 32] = [9; 32];

    pub(crate) fn manifest() -> Manifest {
        Manifest {
            salt: [7; 16],
            name: "hello".into(),
            kind: JobType::Job,
            source: Source::Image("base".into()),
            command: None,
            args: None,
            env: BTreeMap::new(),
            resources: Resources { cpu_millis: 500, memory_bytes: 32 << 20, disk_bytes: 0, ..Resources::default() },
            pids: 64,
            egress: Egress::None,
            alive: AliveCheck::Exec,
            grace: Millis(2_000),
            ports: vec![],
            life: Default::default(),
            volumes: vec![],
            secrets: vec![],
            reader: ReaderKey::derived(&READER).public(),
        }
    }

    pub(crate) fn terms(manifest: &Manifest) -> Terms {
        Terms {
            lease: LeaseId([1; 32]),
            order: OrderId([2; 32]),
            account: AccountId([3; 32]),
            generation: 1,
            resources: manifest.resources.clone(),
            rate_per_hour: Amount(3_600_000),
            escrow: Amount(100_000),
            max_duration: Millis(100_000),
            alive: manifest.alive,
            egress: manifest.egress,
            spec_hash: manifest.hash(),
            matched: Timestamp(1_000),
            preemptible: false,
            term: Default::default(),
        }
    }

    fn volume(name: &str, path: &str, bytes: u64, read_only: bool) -> VolumeMount {
        VolumeMount { name: name.into(), path: path.into(), bytes, read_only }
    }

    #[test]
    fn gpus_are_asked_for_by_least_memory_and_held_as_they_are() {
        let of = |model: &str, count, vram_bytes| Resources {
            gpus: vec![GpuLine { model: model.into(), count, vram_bytes }],
            ..manifest().resources
        };
        let held = of("H100", 2, 80);
        for asked in [of("H100", 2, 0), of("H100", 2, 80)] {
            assert!(are_held(&asked, &held), "{asked}");
        }
        for asked in [of("H100", 1, 0), of("H100", 3, 0), of("H100", 2, 81), of("A100", 2, 0), manifest().resources] {
            assert!(!are_held(&asked, &held), "{asked}");
        }
        assert!(!are_held(&Resources { cpu_millis: 1, ..held.clone() }, &held));
        assert!(!are_held(&held, &manifest().resources), "a lease without GPUs pays for none");
    }

    #[test]
    fn a_manifest_must_fit_its_lease() {
        let options = options("/nowhere".into());
        let good = manifest();
        let fits = terms(&good);
        assert_eq!(check(&good.to_bytes(), &fits, &options), Ok(good.clone()));
        type Change = fn(&mut Manifest);
        let cases: [(&str, Change); 16] = [
            ("sealed for", |m| m.reader = [0; 32]),
            ("restarts", |m| m.life.retry = Some(u32::MAX)),
            ("nobody else's to run", |m| m.source = Source::Image("docker.io/Pasture-Lease/0a:1".into())),
            ("the lease holds", |m| m.resources.cpu_millis = 1000),
            ("network access", |m| m.egress = Egress::Open),
            ("alive check", |m| m.alive = AliveCheck::Port(80)),
            ("processes", |m| m.pids = 0),
            ("port 0", |m| m.ports.push(Port { port: 0, name: None })),
            ("grace", |m| m.grace = Millis::secs(3600)),
            ("FARM_", |m| drop(m.env.insert("FARM_X".into(), String::new()))),
            ("image reference", |m| m.source = Source::Image("--privileged".into())),
            ("volumes[0]", |m| m.volumes = vec![volume("../etc", "/data", 1 << 24, false)]),
            ("volumes[1]", |m| m.volumes = vec![volume("a", "/a", 0, true), volume("b", "/a/b", 0, true)]),
            ("has a size", |m| m.volumes = vec![volume("a", "/a", 0, false)]),
            ("do not fit", |m| m.volumes = vec![volume("a", "/a", 1 << 24, false)]),
            ("does not lie inside", |m| {
                let dockerfile = "../Dockerfile".into();
                m.source =
                    Source::Build { context: BlobHash([0; 32]), context_bytes: 1, dockerfile, args: BTreeMap::new(), timeout: Millis(1) };
            }),
        ];
        for (words, change) in cases {
            let mut m = good.clone();
            change(&mut m);
            // A hostile client orders exactly this manifest; the lease's other terms come from the ledger.
            let terms = Terms { spec_hash: m.hash(), ..fits.clone() };
            let problem = check(&m.to_bytes(), &terms, &options).unwrap_err();
            assert!(problem.contains(words), "{words}: {problem}");
        }
        assert!(check(&good.to_bytes(), &Terms { spec_hash: BlobHash([9; 32]), ..fits.clone() }, &options).is_err());
        assert!(check(&vec![0; MAX_MANIFEST_BYTES + 1], &fits, &options).is_err());
    }
}
