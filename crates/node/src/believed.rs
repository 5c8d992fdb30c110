//! What a machine believes of its gateway: what the network's validators certified, and nothing else that would cost it work or its name.
//! Spec: `docs/specs/light.md` §8.
//!
//! Guarantees: a lease, an account, a node and an audit that come from here are as a quorum of the trusted validators has them, not long ago.
//! Whom to trust moves on with the network, and is kept beside the machine's other files. That a gateway keeps silent about a record that is
//! not asked for by its id cannot be seen.

use crate::NodeError;
use crate::checker::{CheckError, Checker, Trust};
use crate::checkpoint::{replace_checkpoint, trusted_in_file};
use crate::control::Checked;
use crate::evidence::{audit_evidence, audit_key};
use crate::proven::RecordKind;
use pasture_api::{ApiClient, AuditDetail};
use pasture_light::{Checkpoint, Handover, Header, LightError, Verified};
use pasture_provider::NetworkError;
use pasture_rt::{Clock as _, SystemClock};
use pasture_types::ZoneId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// By how many blocks a gateway may be behind what was seen before: the next one that is asked need not be the first.
const BEHIND: u64 = 64;
/// How often the time at which the validators were last seen is written down: so many times while deposits are held.
const WRITES_PER_HOLD: u64 = 8;

/// Whom a machine trusts; clones are the same.
#[derive(Clone)]
pub(crate) struct Believed(Arc<Inner>);

struct Inner {
    /// Whom, and as the file has it. A lock and no owner task: nobody holds it across an await.
    point: Mutex<(Checkpoint, Checkpoint)>,
    path: PathBuf,
    /// The newest block that was seen.
    newest: AtomicU64,
    /// Answers that could not be true.
    disbelieved: AtomicU64,
    /// That it is older than deposits are held was said.
    warned: AtomicBool,
}

impl Believed {
    /// What was kept of the same network, if it is as new as what is given.
    pub(crate) fn load(path: PathBuf, given: Checkpoint) -> Self {
        let kept = trusted_in_file(&path).ok().filter(|kept| kept.validators().zone() == given.validators().zone());
        let now = match kept {
            Some(kept) if (kept.since(), kept.seen_ms()) >= (given.since(), given.seen_ms()) => kept,
            _ => given,
        };
        let newest = AtomicU64::new(now.since());
        Self(Arc::new(Inner {
            point: Mutex::new((now.clone(), now)),
            path,
            newest,
            disbelieved: AtomicU64::new(0),
            warned: AtomicBool::new(false),
        }))
    }

    /// Notes an answer that could not be true.
    pub(crate) fn disbelieved(&self) {
        self.0.disbelieved.fetch_add(1, Ordering::Relaxed);
    }

    /// What became of the answers so far.
    pub(crate) fn checked(&self) -> Checked {
        Checked {
            validators: self.held().0.validators().len() as u64,
            block: self.0.newest.load(Ordering::Relaxed),
            disbelieved: self.0.disbelieved.load(Ordering::Relaxed),
        }
    }

    /// The network that it is about.
    pub(crate) fn zone(&self) -> ZoneId {
        ZoneId(*self.held().0.validators().zone())
    }

    fn held(&self) -> MutexGuard<'_, (Checkpoint, Checkpoint)> {
        self.0.point.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checker<'a>(&self, api: &'a ApiClient) -> Checker<&'a ApiClient, Self> {
        Checker::new(api, self.clone(), self.0.newest.load(Ordering::Relaxed).saturating_sub(BEHIND))
    }

    /// A record as it is proven, and of `said` what no proof determines; `None` if there is no such record.
    pub(crate) async fn record<V>(&self, api: &ApiClient, kind: RecordKind, id: &[u8; 32], said: Option<V>) -> Result<Option<V>, CheckError>
    where
        V: Serialize + DeserializeOwned + Send + Sync,
    {
        Ok(self.checker(api).corrected(kind, id, said.as_ref()).await?.map(|(view, _)| view))
    }

    /// An audit as it is proven; when it ends at the latest is the gateway's word, since that moves while the network stands still.
    pub(crate) async fn audit(&self, api: &ApiClient, number: u64, said: AuditDetail) -> Result<Option<AuditDetail>, CheckError> {
        let (shown, _) = self.checker(api).record(&audit_key(number)).await?;
        let Some(record) = shown.value else { return Ok(None) };
        let proven = audit_evidence(&record, &self.zone()).ok_or_else(|| CheckError::Form("an audit's record".into()))?.audit;
        Ok(Some(AuditDetail { until: said.until, ..proven }))
    }

    /// Puts down whom it trusts now, if that is worth it.
    fn keep(&self) -> Result<(), NodeError> {
        let now = {
            let mut held = self.held();
            let (now, kept) = &*held;
            let due = now.holds_ms() / WRITES_PER_HOLD;
            let moved = now.since() != kept.since() || (due > 0 && now.seen_ms().saturating_sub(kept.seen_ms()) > due);
            if !moved {
                return Ok(());
            }
            let now = now.clone();
            held.1 = now.clone();
            now
        };
        replace_checkpoint(&self.0.path, &now)
    }
}

impl Trust for Believed {
    fn point(&self) -> Checkpoint {
        self.held().0.clone()
    }

    fn follow(&mut self, handover: &Handover) -> Result<(), LightError> {
        let height = Header::decode(&handover.header)?.height;
        let mut held = self.held();
        // Somebody who asked at the same time was first.
        if height <= held.0.since() {
            return Ok(());
        }
        let next = held.0.follow(handover)?;
        tracing::info!(block = next.since(), validators = next.validators().len(), "the validators changed, certified by those before");
        held.0 = next;
        Ok(())
    }

    fn saw(&mut self, shown: &Verified) {
        self.0.newest.fetch_max(shown.header.height, Ordering::Relaxed);
        let outlived = {
            let mut held = self.held();
            // Whoever forges a history chooses its times, so our own clock counts as well.
            let outlived = held.0.outlived(SystemClock.now_ms()).is_some();
            if !outlived {
                held.0 = held.0.clone().seen(shown.header.timestamp_ms);
            }
            outlived
        };
        if outlived && !self.0.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the validators that this machine trusts were last seen longer ago than their deposits are held: who left since could sign \
                 another history. Join again by a ticket of somebody you believe"
            );
        }
        if let Err(error) = self.keep() {
            tracing::warn!(%error, "the validators that were verified could not be kept");
        }
    }
}

/// What is wrong with an answer, for whoever asks the network.
pub(crate) fn unbelieved(error: CheckError) -> NetworkError {
    match error {
        CheckError::Asking(error) => error.into(),
        error @ CheckError::Form(_) => NetworkError::Refused { code: None, detail: error.to_string() },
        error => NetworkError::Unproven(error.to_string()),
    }
}
