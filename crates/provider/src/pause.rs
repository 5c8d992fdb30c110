//! Whether this node takes further leases: what its owner wants, kept across restarts, and the offer that follows from it.
//!
//! ```text
//!            pause, drain                     resume
//!  taking ─────────────────▶ paused ────────────────────▶ taking
//!                              │ `end_by`: jobs that agreed to it are given notice in time,
//!                              ▼           the others are stopped then
//!                          no lease left
//! ```
//! Guarantees: the wish is on disk before anything follows from it; a lease drawn after it is refused even while the offer still
//! stands; the reconciler alone puts and withdraws the offer, and does so again after each connection, so that what stands is
//! what was wished for last. It ends no lease: see `reconcile`.

use crate::context::Context;
use crate::{ProviderError, register};
use pasture_store::{DataDir, RecordFile, StoreError};
use pasture_types::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::Path;
use tokio::sync::watch;

/// No further leases are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Paused {
    /// Since when.
    pub since: Timestamp,
    /// When the jobs that are left then are ended; `None`: they run to their own ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_by: Option<Timestamp>,
}

/// How far the network knows of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfferState {
    /// The network was not reached since the last change.
    Pending,
    /// The offer stands.
    Stands,
    /// No offer stands.
    Withdrawn,
    /// The network said no.
    Refused(String),
}

/// The wish and what became of it.
pub(crate) struct Pause {
    file: RecordFile<Paused>,
    wish: watch::Sender<Option<Paused>>,
    offer: watch::Sender<OfferState>,
}

impl Pause {
    /// As a former process left it.
    pub(crate) fn load(data_dir: &Path) -> Result<Self, StoreError> {
        let file = RecordFile::new(data_dir.join("pause"));
        let wish = watch::Sender::new(file.load()?);
        Ok(Self { file, wish, offer: watch::Sender::new(OfferState::Pending) })
    }

    /// What is wished for now.
    pub(crate) fn wish(&self) -> Option<Paused> {
        *self.wish.borrow()
    }

    /// Tells of every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Paused>> {
        self.wish.subscribe()
    }

    /// How far the network knows.
    pub(crate) fn offer(&self) -> watch::Receiver<OfferState> {
        self.offer.subscribe()
    }

    /// Wishes something else. Writes to disk: not for the async pool.
    pub(crate) fn set(&self, wish: Option<Paused>) -> Result<(), StoreError> {
        match &wish {
            Some(paused) => self.file.save(paused)?,
            None => self.file.remove()?,
        }
        self.offer.send_replace(OfferState::Pending);
        self.wish.send_replace(wish);
        Ok(())
    }
}

/// The same for a provider that does not run: what its next start finds. `data_dir` is [`crate::Options::data_dir`].
///
/// # Errors
/// It runs, or the wish cannot be written down.
pub fn pause_stopped(data_dir: &Path, wish: Option<Paused>) -> Result<(), StoreError> {
    let dir = DataDir::open(data_dir)?;
    let pause = Pause::load(dir.path())?;
    if wish != pause.wish() { pause.set(wish) } else { Ok(()) }
}

/// Brings the standing offer to what is wished for.
pub(crate) async fn settle_offer(ctx: &Context) -> Result<(), ProviderError> {
    let paused = ctx.is_draining();
    let outcome = if paused { register::withdraw_standing(ctx).await } else { register::put_missing(ctx).await };
    let state = match &outcome {
        Ok(()) if paused => OfferState::Withdrawn,
        Ok(()) => OfferState::Stands,
        Err(ProviderError::Refused(why)) => OfferState::Refused(why.clone()),
        Err(_) => OfferState::Pending,
    };
    // Somebody may have wished for something else meanwhile: then this is not the answer to it.
    ctx.pause.offer.send_if_modified(|now| {
        let current = ctx.is_draining() == paused;
        let changed = current && *now != state;
        if changed {
            *now = state;
        }
        changed
    });
    match outcome {
        Err(ProviderError::Refused(why)) => {
            tracing::warn!(why, paused, "the network refused the change of the offer");
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_outlives_the_process_and_makes_the_offer_pending() {
        let dir = tempfile::tempdir().unwrap();
        let pause = Pause::load(dir.path()).unwrap();
        assert_eq!(pause.wish(), None);
        pause.offer.send_replace(OfferState::Stands);
        let paused = Paused { since: Timestamp(5), end_by: Some(Timestamp(9)) };
        pause.set(Some(paused)).unwrap();
        assert_eq!(*pause.offer().borrow(), OfferState::Pending);
        assert_eq!(Pause::load(dir.path()).unwrap().wish(), Some(paused));
        pause.set(None).unwrap();
        assert_eq!(Pause::load(dir.path()).unwrap().wish(), None);
    }
}
