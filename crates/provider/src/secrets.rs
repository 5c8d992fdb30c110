//! The secrets of this node's leases.
//!
//! ```text
//!  leases/<id>/secrets     as the client sealed them; gone when the job has ended
//! ```
//! Guarantees: values are open in this process only while they go from that file into the memory of their job; no record, log, error or
//! engine holds them. A crash loses nothing: they are opened again for a job that has not been started yet.

use crate::context::Context;
use crate::lease::Shared;
use pasture_api::Problem;
use pasture_api::secrets::{MAX_SECRETS_BYTES, SEAL_OVERHEAD, SealingKey, Secrets, context};
use pasture_rt::TaskKind;
use pasture_runtime::{InstanceId, SecretFile, SecretsAt};
use pasture_store::{seal, write_atomic};
use pasture_types::keep::{SECRETS_DIR, SecretMount, SecretTarget};
use pasture_types::spec::Manifest;
use std::path::{Path, PathBuf};

fn file(dir: &Path) -> PathBuf {
    dir.join("secrets")
}

/// Keeps what a client sealed; another one is refused once the manifest is here.
pub(crate) async fn put(ctx: &Context, lease: &Shared, sealed: &[u8]) -> Result<(), Problem> {
    if sealed.len() > MAX_SECRETS_BYTES + SEAL_OVERHEAD {
        return Err(Problem::too_large(format!("the secrets of a job have at most {MAX_SECRETS_BYTES} bytes together")));
    }
    opened(ctx, lease, sealed).ok_or_else(|| Problem::new(422, "bad-secrets", "these secrets are not sealed for this node and lease"))?;
    let path = file(&lease.dir);
    if lease.view.borrow().manifest.is_some() {
        // The same again, after an answer that was lost, is fine.
        let same = std::fs::read(&path).is_ok_and(|known| known == sealed);
        return if same { Ok(()) } else { Err(Problem::conflict("the lease no longer waits for secrets")) };
    }
    let bytes = sealed.to_vec();
    let written = pasture_rt::spawn_blocking(TaskKind::Connection, move || write_atomic(&path, &bytes)).join().await;
    written.unwrap_or(Ok(())).map_err(|error| {
        tracing::error!(%error, "cannot store what a client sent");
        Problem::internal("the node could not store this")
    })
}

fn opened(ctx: &Context, lease: &Shared, sealed: &[u8]) -> Option<Secrets> {
    let plain = seal::open(&ctx.options.node_key, &context(&ctx.node, &lease.id()), sealed).ok()?;
    Secrets::from_bytes(&plain)
}

/// What clients seal with.
pub(crate) fn key(ctx: &Context) -> SealingKey {
    SealingKey::of(&ctx.options.node_key, &seal::sealing_key(&ctx.options.node_key))
}

fn read(ctx: &Context, lease: &Shared) -> Result<Secrets, String> {
    let sealed = std::fs::read(file(&lease.dir)).map_err(|_| "the job's secrets are not here".to_owned())?;
    opened(ctx, lease, &sealed).ok_or_else(|| "the job's secrets do not open".to_owned())
}

/// Whether all that a manifest names are here.
pub(crate) fn all_here(ctx: &Context, lease: &Shared, manifest: &Manifest) -> Result<(), Problem> {
    if manifest.secrets.is_empty() {
        return Ok(());
    }
    let first = |why: String| Problem::new(409, "secrets-first", format!("{why}: the secrets come before the manifest"));
    let secrets = read(ctx, lease).map_err(first)?;
    match manifest.secrets.iter().find(|s| !secrets.0.contains_key(&s.name)) {
        Some(missing) => Err(first(format!("`{}` is not here", missing.name))),
        None => Ok(()),
    }
}

/// Where a job's secrets are, for its container.
pub(crate) fn place(manifest: &Manifest) -> Option<SecretsAt> {
    let variables = manifest.secrets.iter().any(|s| matches!(s.target, SecretTarget::Env(_)));
    (!manifest.secrets.is_empty()).then(|| SecretsAt { path: SECRETS_DIR.to_owned(), variables })
}

/// Puts them where the job will find them; called before each start.
pub(crate) async fn give(ctx: &Context, lease: &Shared, id: &InstanceId) -> Result<(), String> {
    let manifest = lease.view.borrow().manifest.clone();
    let Some(manifest) = manifest.filter(|m| !m.secrets.is_empty()) else { return Ok(()) };
    let mut secrets = read(ctx, lease)?;
    let (mut files, mut variables) = (vec![], vec![]);
    for SecretMount { name, target } in &manifest.secrets {
        let value = secrets.0.get_mut(name).ok_or_else(|| format!("the secret `{name}` is not here"))?;
        match target {
            SecretTarget::Env(variable) => variables.push((variable.clone(), value.clone())),
            SecretTarget::File(path) => {
                let name = path.rsplit('/').next().unwrap_or_default().to_owned();
                files.push(SecretFile { name, content: value.clone() });
            }
        }
    }
    ctx.runtime.give_secrets(id, files, variables).await.map_err(|e| crate::lease::chain(&e))
}

/// The job has ended: what was sealed for it goes.
pub(crate) fn forget(dir: &Path) {
    if let Err(error) = std::fs::remove_file(file(dir))
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %dir.display(), "the sealed secrets of a job that has ended stay");
    }
}
