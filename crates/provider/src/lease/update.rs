//! The part of a lease's decisions that changes what it runs, without another lease.
//!
//! ```text
//!  Fetching ──image is here──▶ Replacing ──the old instance ended──▶ Starting ──it runs──▶ Done
//!     └── it is not: Failed, and nothing has changed           └── it cannot: Broken
//! ```
//! Guarantees: the job goes on until the new image is here; which manifest is run is recorded before its container is made, so that a
//! crash leaves the one or the other, never a mixture; a stop wins over an update. What follows an updated job's failure is the same as
//! for any other: its restart policy decides.

use super::{EndReason, Machine, Phase};
use crate::lease::event::Effect;
use crate::lease::record::{Update, UpdateStage};
use pasture_api::data::{Said, UpdateStatus};
use pasture_types::spec::Manifest;
use pasture_types::{BlobHash, Timestamp};

impl Machine {
    fn stage(&self) -> Option<UpdateStage> {
        self.record.update.as_ref().map(|u| u.stage)
    }

    /// Its instance is being stopped so that another takes its place.
    pub(super) fn is_replacing(&self) -> bool {
        self.stage() == Some(UpdateStage::Replacing) && self.record.stop.is_none()
    }

    fn set(&mut self, stage: UpdateStage, detail: Said) {
        if let Some(update) = &mut self.record.update {
            (update.stage, update.detail) = (stage, detail);
        }
    }

    /// Its user wants something else to run. Whoever took the request has refused it where that cannot be begun.
    pub(super) fn on_update(&mut self, manifest: Manifest, out: &mut Vec<Effect>) {
        let runs = matches!(self.record.phase, Phase::Running | Phase::Restarting) && self.record.end.is_none();
        if !runs || self.record.stop.is_some() || self.stage().is_some_and(UpdateStage::is_under_way) {
            return;
        }
        self.record.update = Some(Update::new(manifest.hash()));
        self.coming = Some(manifest);
        out.extend([Effect::Save, Effect::Publish, Effect::FetchUpdate]);
    }

    /// Takes up an update that a crash interrupted; `coming` is the manifest that was kept for it.
    pub(crate) fn resume_update(&mut self, coming: Option<Manifest>, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(stage @ (UpdateStage::Fetching | UpdateStage::Replacing)) = self.stage() else { return };
        self.coming = coming.filter(|m| self.record.update.as_ref().is_some_and(|u| u.manifest == m.hash()));
        match (stage, self.coming.is_some()) {
            (_, false) => self.update_failed("the new description was lost in a crash".into(), now, out),
            (UpdateStage::Fetching, true) => out.push(Effect::FetchUpdate),
            // `nurse` stops what runs once it is known to run; what has ended is followed by the new one.
            (_, true) => {}
        }
    }

    /// The image of the update is here, or will not be.
    pub(super) fn on_update_fetched(&mut self, manifest: BlobHash, image: Result<String, String>, now: Timestamp, out: &mut Vec<Effect>) {
        let current = self.record.update.as_ref().is_some_and(|u| u.manifest == manifest && u.stage == UpdateStage::Fetching);
        if !current || self.record.stop.is_some() || self.record.end.is_some() {
            return;
        }
        match image {
            Err(why) => self.update_failed(why, now, out),
            Ok(image) => {
                if let Some(update) = &mut self.record.update {
                    (update.stage, update.image) = (UpdateStage::Replacing, Some(image));
                }
                out.extend([Effect::Save, Effect::Publish]);
                if self.record.phase == Phase::Running {
                    self.stop_for_update(out);
                }
            }
        }
    }

    fn update_failed(&mut self, why: String, now: Timestamp, out: &mut Vec<Effect>) {
        self.coming = None;
        self.happened(now, format!("not updated: {why}"));
        self.set(UpdateStage::Failed, self.record.say(&why));
        out.extend([Effect::Save, Effect::Publish]);
    }

    /// Stops the instance that another one will replace.
    pub(super) fn stop_for_update(&mut self, out: &mut Vec<Effect>) {
        let grace = self.manifest.as_ref().map_or(super::RETRY_WAIT, |m| m.grace);
        self.stop_container(grace, out);
    }

    /// Whether the end of an instance is the update's doing, whatever it said then; the next one is due at once. One that somebody
    /// removed is nobody's to follow.
    pub(super) fn ended_for_update(&mut self, end: &EndReason, now: Timestamp, out: &mut Vec<Effect>) -> bool {
        if !self.is_replacing() || *end == EndReason::StoppedByProvider {
            return false;
        }
        let upkeep = &mut self.record.upkeep;
        (upkeep.unhealthy, upkeep.next, upkeep.in_a_row) = (None, Some(now), 0);
        upkeep.note = "[farm] the job is updated\n".into();
        self.note = None;
        self.await_next(now, out);
        true
    }

    /// From now on the new manifest is the lease's.
    pub(super) fn switch(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if !self.is_replacing() {
            return;
        }
        let Some((manifest, update)) = self.coming.take().zip(self.record.update.clone()) else {
            return self.update_failed("the new description is gone".into(), now, out);
        };
        self.record.image = update.image.or_else(|| self.record.image.clone());
        self.record.manifest = Some(update.manifest);
        self.manifest = Some(manifest.clone());
        self.set(UpdateStage::Starting, Said::nothing());
        out.extend([Effect::Save, Effect::TakeManifest(Box::new(manifest))]);
    }

    /// The updated instance runs.
    pub(super) fn updated(&mut self, now: Timestamp) {
        if self.stage() == Some(UpdateStage::Starting) {
            self.set(UpdateStage::Done, Said::nothing());
            self.happened(now, "updated");
        }
    }

    /// The updated instance could not be made or started.
    pub(super) fn update_did_not_start(&mut self, why: &str) {
        if self.stage() == Some(UpdateStage::Starting) {
            self.set(UpdateStage::Broken, self.record.say(why));
        }
    }

    /// What its user is told.
    pub(super) fn update_status(&self) -> Option<UpdateStatus> {
        let update = self.record.update.as_ref()?;
        Some(UpdateStatus { manifest: update.manifest, state: update.stage.into(), detail: update.detail.clone() })
    }
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
