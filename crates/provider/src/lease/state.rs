//! The decisions of one lease: synchronous, no clock, no I/O (but what is said is sealed at once, which takes random numbers). `actor.rs` hands events in and carries effects out.
//!
//! ```text
//!  AwaitingManifest -> AwaitingContext -> Building -+
//!         |                                         +-> Starting -> Running -> Stopping -> Ended
//!         +--------------------------> Pulling -----+               ^  |    (a stop or failure leads from anywhere to Ended)
//!                                                            Restarting: `upkeep.rs`
//! ```
//! Guarantees: service is never claimed beyond what the engine's clock, the cap and earlier statements allow; a statement
//! never goes back; exactly one end reason is kept, the first; after a crash, [`Machine::resume`] asks for what is missing.

use super::event::{Effect, Epochs, Event, LogState, Statement, Waits};
use super::record::{LeaseRecord, Output, StopOrder};
use pasture_api::data::{CountersignRequest, LeaseStatus, NodeEvent, OutputInfo, Phase, Said};
use pasture_types::lease::{EndReason, Usage};
use pasture_types::spec::{Manifest, Source};
use pasture_types::{Millis, Timestamp};
use std::collections::VecDeque;

#[path = "update.rs"]
mod update;
#[path = "upkeep.rs"]
mod upkeep;

/// Epochs between two usages on the ledger.
pub(crate) const SUBMIT_EVERY_EPOCHS: u64 = 15;
/// How long a statement waits for the client's confirmation before it goes bare.
pub(crate) const COUNTERSIGN_WAIT: Millis = Millis(2_000);
/// How long the rest of a log may take to arrive after the exit.
pub(crate) const LOG_DRAIN_WAIT: Millis = Millis(30_000);
/// Pause before a refused close, or a stop that the engine failed, is tried again.
const RETRY_WAIT: Millis = Millis(5_000);
/// How long after the end a confirmation is still put on the ledger; by then the ledger has settled without it.
const LATE_CONFIRMATION_WAIT: Millis = Millis(600_000);
/// Statements that may still be confirmed; older ones are covered by newer ones.
const MAX_OFFERED: usize = 4;
/// Longest grace a stop gets.
pub(crate) const MAX_GRACE: Millis = Millis(300_000);

/// Interim usage on its way to the ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Submit {
    Idle,
    /// Waits for a confirmation until then.
    Due(Timestamp),
    InFlight,
}

/// The way from exit to close.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Finish {
    NotYet,
    AwaitingLog(Timestamp),
    AwaitingCountersignature(Timestamp),
    Submitting,
    Retry(Timestamp),
    Done,
}

/// One lease.
pub(crate) struct Machine {
    pub(crate) record: LeaseRecord,
    epochs: Epochs,
    waits: Waits,
    manifest: Option<Manifest>,
    /// The one that is to take its place.
    pub(super) coming: Option<Manifest>,
    context_complete: bool,
    /// Since when we wait for the client.
    waiting_since: Timestamp,
    /// Set by the actor before each step.
    pub(crate) log: LogState,
    log_drained: bool,
    /// How many clients follow; set by the actor before each step.
    pub(crate) followers: usize,
    offered: VecDeque<Usage>,
    reported_epoch: u64,
    warned: bool,
    submit: Submit,
    finish: Finish,
    close_attempts: u32,
    stop_retry: Option<Timestamp>,
    /// The ledger has settled the lease.
    settled: bool,
    /// Health check and restarts.
    nursing: upkeep::Nursing,
    /// What the log says before the next instance, with what the job said: not on disk, see `Upkeep::note`.
    note: Option<String>,
}

impl Machine {
    pub(crate) fn new(record: LeaseRecord, epochs: Epochs, waits: Waits, log: LogState, now: Timestamp) -> Self {
        let log_drained = record.phase == Phase::Ended;
        Self {
            record,
            epochs,
            waits,
            manifest: None,
            coming: None,
            context_complete: false,
            waiting_since: now,
            log,
            log_drained,
            followers: 0,
            offered: VecDeque::new(),
            reported_epoch: epochs.of(now),
            warned: false,
            submit: Submit::Idle,
            finish: Finish::NotYet,
            close_attempts: 0,
            stop_retry: None,
            settled: false,
            nursing: upkeep::Nursing::default(),
            note: None,
        }
    }

    /// Statements that a client may confirm.
    pub(crate) const fn offered(&self) -> &VecDeque<Usage> {
        &self.offered
    }

    /// What to do first with a record that was read back. A manifest and a context that are on disk come in as events.
    pub(crate) fn resume(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let unmade = self.record.container.is_none() && self.record.phase != Phase::Ended;
        match (self.record.phase, self.record.container.clone()) {
            _ if unmade && self.record.end.is_some() => {
                self.record.output = Output::Nothing;
                self.log_drained = true;
                self.offer_last(now, out);
                self.settle_phase(now, out);
            }
            _ if unmade && self.record.accepted.is_some() && self.record.stop.is_some() => {
                if let Some(stop) = self.record.stop.clone() {
                    self.end_without_container(stop.reason, stop.detail, now, out);
                }
            }
            (Phase::Starting, Some(container)) => out.push(Effect::Start { container }),
            (Phase::Restarting, Some(container)) => self.resume_restart(container, now, out),
            (Phase::Running | Phase::Stopping, Some(container)) => {
                if self.record.end.is_some() {
                    // The exit was seen; log, output and close were still under way.
                    self.finish = Finish::AwaitingLog(now.plus(LOG_DRAIN_WAIT));
                    if self.record.output == Output::Pending {
                        out.push(Effect::CopyOutput { container: container.clone() });
                    }
                }
                out.push(Effect::Adopt { container });
            }
            (Phase::Ended, container) => {
                if !self.record.closed {
                    self.offer_last(now, out);
                }
                if let Some(container) = container.filter(|_| !self.record.removed) {
                    out.push(Effect::Remove { container });
                }
            }
            // Nothing durable was made yet but files: begin again with them.
            _ => self.record.phase = Phase::AwaitingManifest,
        }
        if let Some(container) = self.record.upkeep.retiring.clone() {
            out.push(Effect::Retire { container });
        }
    }

    /// Applies an event.
    pub(crate) fn step(&mut self, event: Event, now: Timestamp, out: &mut Vec<Effect>) {
        match event {
            Event::Accepted(at) => self.on_accepted(at, now, out),
            Event::NotAccepted if self.record.accepted.is_none() => out.push(Effect::Forget),
            Event::NotAccepted => {}
            Event::Manifest(manifest) => {
                if self.record.read_by(manifest.reader) {
                    out.push(Effect::Save);
                }
                self.manifest.get_or_insert(*manifest);
                self.waiting_since = now;
                self.advance(out);
            }
            Event::Update(manifest) => self.on_update(*manifest, out),
            Event::UpdateFetched { manifest, image } => self.on_update_fetched(manifest, image, now, out),
            Event::ContextProgress => self.waiting_since = now,
            Event::ContextComplete => {
                self.context_complete = true;
                self.advance(out);
            }
            Event::ImageReady { image, build, billed } => self.on_image(image, build, billed, out),
            Event::ImageFailed { detail, build } => {
                self.record.build_ms = Millis(self.record.build_ms.0.saturating_add(build.0));
                self.end_without_container(EndReason::BuildFailed, self.record.say(&detail), now, out);
            }
            Event::Created { container } => self.on_created(container, out),
            Event::Running { started } => self.on_running(started, now, out),
            Event::StartFailed { detail } => self.on_start_failed(detail, now, out),
            Event::Exited { end, started, finished } => self.on_exited(end, started, Some(finished), now, out),
            Event::Vanished { at } => self.on_vanished(at, now, out),
            Event::StopFailed => self.stop_retry = Some(now.plus(RETRY_WAIT)),
            // The rest of an earlier instance's log that came too late is nobody's.
            Event::LogDrained { instance } if instance != self.record.upkeep.instance => {}
            Event::LogCut { instance } if instance != self.record.upkeep.instance => {}
            Event::LogCut { .. } => self.log_was_cut(now, out),
            Event::LogDrained { .. } => {
                self.log_drained = true;
                self.begin_next(now, out);
                if matches!(self.finish, Finish::AwaitingLog(_)) {
                    self.offer_last(now, out);
                }
                self.settle_phase(now, out);
            }
            Event::OutputDone { output, problem } => self.on_output(output, problem, now, out),
            Event::Countersigned(request) => self.on_countersigned(*request, out),
            Event::Stop { reason, grace, detail } => self.on_stop(reason, grace, detail, now, out),
            Event::LedgerClosed { reason, settled } => self.on_ledger_closed(reason, settled, now, out),
            Event::Extended { max_duration, escrow } => self.on_extended(max_duration, escrow, out),
            Event::UsageSubmitted { recorded } => self.on_usage_submitted(recorded, now, out),
            Event::CloseSubmitted { taken } => self.on_close_submitted(taken, now, out),
            Event::Stolen(took) => {
                if let (Phase::Running, Some(started)) = (self.record.phase, self.record.started) {
                    self.record.stolen_ms = Millis(self.record.stolen_ms.0.saturating_add(took.min(now.since(started)).0));
                    out.push(Effect::Save);
                }
            }
            Event::Removed => {
                self.record.removed = true;
                out.push(Effect::Save);
            }
            Event::Probed { instance, seen } => self.on_probed(instance, seen, now, out),
            Event::Retired => {
                self.record.upkeep.retiring = None;
                out.push(Effect::Save);
            }
            Event::Tick => self.on_tick(now, out),
        }
    }

    fn on_accepted(&mut self, at: Timestamp, now: Timestamp, out: &mut Vec<Effect>) {
        if self.record.accepted.is_none() {
            self.record.accepted = Some(at);
            self.waiting_since = now;
            self.advance(out);
            if let Some(stop) = self.record.stop.clone() {
                self.end_without_container(stop.reason, stop.detail, now, out);
            }
        }
    }

    /// Goes on as far as what has arrived allows.
    fn advance(&mut self, out: &mut Vec<Effect>) {
        if self.record.accepted.is_none() || self.record.end.is_some() {
            return;
        }
        let Some(manifest) = &self.manifest else { return };
        if !matches!(self.record.phase, Phase::AwaitingManifest | Phase::AwaitingContext) {
            return;
        }
        self.record.phase = match &manifest.source {
            Source::Image(_) => Phase::Pulling,
            Source::Build { .. } if self.context_complete => Phase::Building,
            Source::Build { .. } => Phase::AwaitingContext,
        };
        out.push(Effect::Publish);
        if self.record.phase != Phase::AwaitingContext {
            out.push(Effect::FetchImage);
        }
    }

    fn on_image(&mut self, image: String, build: Millis, billed: Millis, out: &mut Vec<Effect>) {
        if !matches!(self.record.phase, Phase::Building | Phase::Pulling) || self.record.end.is_some() {
            return;
        }
        self.record.build_ms = Millis(self.record.build_ms.0.saturating_add(build.0));
        self.record.billed_build_ms = Millis(self.record.billed_build_ms.0.saturating_add(billed.0));
        self.record.image = Some(image.clone());
        self.record.phase = Phase::Starting;
        out.extend([Effect::Publish, Effect::Create { image, instance: 0 }]);
    }

    fn on_running(&mut self, started: Timestamp, now: Timestamp, out: &mut Vec<Effect>) {
        if self.record.end.is_some() {
            return;
        }
        if self.record.started.is_none() {
            // The engine's clock may be behind the ledger's: nothing is served before it was accepted.
            self.record.started = Some(started.max(self.record.accepted.unwrap_or(started)));
            self.reported_epoch = self.epochs.of(now);
        }
        self.nurse(started, now, out);
        match self.record.stop.clone() {
            Some(stop) => {
                self.record.phase = Phase::Stopping;
                self.stop_container(stop.grace_ms, out);
            }
            None => self.record.phase = Phase::Running,
        }
        out.extend([Effect::Save, Effect::Publish]);
    }

    fn on_start_failed(&mut self, detail: String, now: Timestamp, out: &mut Vec<Effect>) {
        if self.record.end.is_some() {
            return;
        }
        if self.record.phase == Phase::Restarting {
            return self.on_restart_failed(&detail, now, out);
        }
        let (reason, detail) = match self.record.stop.clone() {
            Some(stop) => (stop.reason, stop.detail),
            None => (EndReason::StartFailed, self.record.say(&detail)),
        };
        self.end_without_container(reason, detail, now, out);
    }

    fn on_exited(
        &mut self,
        end: EndReason,
        started: Option<Timestamp>,
        finished: Option<Timestamp>,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        // Seen again after a crash: that it ended is known.
        if self.record.end.is_some() || self.record.upkeep.next.is_some() {
            return;
        }
        let accepted = self.record.accepted.unwrap_or_default();
        self.record.started = self.record.started.or(started.map(|s| s.max(accepted)));
        if let (Some(started), Some(finished)) = (self.record.started, finished) {
            self.record.served_ms = self.claimable(finished.since(started));
        }
        // It may have ended before anybody saw it run.
        self.updated(now);
        let (end, detail) = self.told(end);
        if self.starts_again(&end, finished.unwrap_or(now), now, out) {
            return;
        }
        let (reason, detail) = match self.record.stop.clone() {
            Some(stop) => (stop.reason, stop.detail),
            None => (end, detail),
        };
        self.conclude(reason, detail, now, out);
    }

    /// The end of a job that ran: its log and output are still to be had.
    fn conclude(&mut self, reason: EndReason, detail: Said, now: Timestamp, out: &mut Vec<Effect>) {
        self.record.end = Some(reason);
        self.record.upkeep.next = None;
        if !detail.is_empty() {
            self.record.detail = detail;
        }
        self.record.phase = Phase::Stopping;
        self.stop_retry = None;
        self.finish = Finish::AwaitingLog(now.plus(LOG_DRAIN_WAIT));
        out.extend([Effect::Save, Effect::Publish]);
        match self.record.container.clone() {
            Some(container) => out.push(Effect::CopyOutput { container }),
            None => self.record.output = Output::Nothing,
        }
        if self.log_drained {
            self.offer_last(now, out);
        }
        self.settle_phase(now, out);
    }

    fn on_vanished(&mut self, at: Option<Timestamp>, now: Timestamp, out: &mut Vec<Effect>) {
        if self.record.end.is_none() && self.record.upkeep.next.is_none() {
            self.record.detail = self.record.say("the container was removed on the provider's machine");
            self.record.output = Output::Nothing;
            self.log_drained = true;
            // Without having seen it happen, only what was measured before counts.
            self.on_exited(EndReason::StoppedByProvider, None, at, now, out);
        }
    }

    /// Service that may be claimed: never less than before, never more than the cap.
    fn claimable(&self, served: Millis) -> Millis {
        served.min(self.cap()).max(self.record.served_ms)
    }

    fn end_without_container(&mut self, reason: EndReason, detail: Said, now: Timestamp, out: &mut Vec<Effect>) {
        if self.record.end.is_some() {
            return;
        }
        self.record.end = Some(reason);
        self.record.detail = detail;
        self.record.output = Output::Nothing;
        self.log_drained = true;
        self.offer_last(now, out);
        self.settle_phase(now, out);
    }

    fn on_output(&mut self, output: Option<OutputInfo>, problem: Option<String>, now: Timestamp, out: &mut Vec<Effect>) {
        self.record.output = output.map_or(Output::Nothing, Output::Ready);
        if let Some(problem) = problem {
            let gap = if self.record.detail.is_empty() { "" } else { "; " };
            let more = self.record.say(&format!("{gap}{problem}"));
            self.record.detail = std::mem::take(&mut self.record.detail).then(more);
        }
        self.settle_phase(now, out);
    }

    /// The job counts as ended once its log and output can be fetched.
    fn settle_phase(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if self.record.end.is_none() || !self.log_drained || self.record.output == Output::Pending || self.record.phase == Phase::Ended {
            return;
        }
        self.record.phase = Phase::Ended;
        self.record.ended = Some(now);
        // No instance follows that it would be written for.
        self.record.upkeep.note.clear();
        out.extend([Effect::Save, Effect::Publish]);
        if let Some(container) = self.record.container.clone() {
            out.push(Effect::Remove { container });
        }
    }

    fn on_stop(&mut self, reason: EndReason, grace: Millis, detail: String, now: Timestamp, out: &mut Vec<Effect>) {
        if self.record.end.is_some() || self.record.stop.is_some() {
            return;
        }
        let (grace_ms, detail) = (grace.min(MAX_GRACE), self.record.say(&detail));
        self.record.stop = Some(StopOrder { reason: reason.clone(), grace_ms, detail: detail.clone() });
        match self.record.phase {
            Phase::AwaitingManifest | Phase::AwaitingContext | Phase::Building | Phase::Pulling => {
                out.push(Effect::CancelWork);
                if self.record.accepted.is_some() {
                    self.end_without_container(reason, detail, now, out);
                }
            }
            // The start is under way; `on_running` carries the order out.
            Phase::Starting => out.push(Effect::Save),
            Phase::Restarting => self.stop_restart(reason, detail, now, out),
            Phase::Running => {
                self.record.phase = Phase::Stopping;
                out.extend([Effect::Save, Effect::Publish]);
                self.stop_container(grace_ms, out);
            }
            Phase::Stopping | Phase::Ended => {}
        }
    }

    fn stop_container(&mut self, grace: Millis, out: &mut Vec<Effect>) {
        self.stop_retry = None;
        if let Some(container) = self.record.container.clone() {
            out.push(Effect::StopContainer { container, grace });
        }
    }

    fn on_ledger_closed(&mut self, reason: Option<EndReason>, settled: bool, now: Timestamp, out: &mut Vec<Effect>) {
        if self.record.accepted.is_none() {
            out.push(Effect::Forget);
            return;
        }
        let news = !self.record.ledger_closing;
        self.record.ledger_closing = true;
        if settled {
            self.settled = true;
            self.record.closed = true;
            self.finish = Finish::Done;
        }
        let grace = self.manifest.as_ref().map_or(Millis(10_000), |m| m.grace);
        self.on_stop(reason.unwrap_or(EndReason::Lost), grace, "the lease was closed on the ledger".into(), now, out);
        if news || settled {
            out.push(Effect::Save);
        }
    }

    fn on_extended(&mut self, max_duration: Millis, escrow: pasture_types::Amount, out: &mut Vec<Effect>) {
        if (max_duration, escrow) != (self.record.terms.max_duration, self.record.terms.escrow) {
            self.record.terms.max_duration = max_duration;
            self.record.terms.escrow = escrow;
            self.warned = false;
            out.extend([Effect::Save, Effect::Publish]);
        }
    }

    /// The longest service that time and money allow.
    pub(crate) fn cap(&self) -> Millis {
        let t = &self.record.terms;
        let affordable = match t.rate_per_hour.0 {
            0 => u64::MAX,
            rate => u64::try_from(t.escrow.0.saturating_mul(3_600_000) / rate).unwrap_or(u64::MAX),
        };
        t.max_duration.min(Millis(affordable.saturating_sub(self.record.billed_build_ms.0)))
    }

    /// Served up to now.
    pub(crate) fn served(&self, now: Timestamp) -> Millis {
        match (self.record.phase, self.record.end.is_none(), self.record.started) {
            (Phase::Running | Phase::Restarting | Phase::Stopping, true, Some(started)) => self.claimable(now.since(started)),
            _ => self.record.served_ms,
        }
    }

    fn usage(&self) -> Usage {
        // A job that never began still says when its building was done for: from the acceptance on.
        let started = self.record.started.or(self.record.accepted).unwrap_or_default();
        let usage = Usage {
            lease: self.record.terms.lease,
            generation: self.record.terms.generation,
            epoch: 0,
            started,
            served_ms: self.record.served_ms,
            build_ms: self.record.build_ms,
            log_root: self.log.root,
            log_bytes: self.log.bytes,
            steal_ms: self.record.stolen_ms.min(self.record.served_ms),
        };
        Usage { epoch: self.epochs.of(usage.served_until()), ..usage }
    }

    fn offer(&mut self, usage: Usage, last: bool, out: &mut Vec<Effect>) {
        self.offered.push_back(usage.clone());
        if self.offered.len() > MAX_OFFERED {
            self.offered.pop_front();
        }
        out.push(Effect::Offer { usage, last });
    }

    /// Makes the last statement (the same again after a crash) and waits a little for its confirmation.
    fn offer_last(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if self.record.closed {
            self.finish = Finish::Done;
            return;
        }
        if self.record.last_usage.is_none() && (self.record.served_ms.0 > 0 || self.record.build_ms.0 > 0) {
            self.record.last_usage = Some(self.usage());
            out.push(Effect::Save);
        }
        let confirmed = self.record.confirmed.as_ref().map(|c| &c.usage);
        match self.record.last_usage.clone() {
            Some(usage) if confirmed != Some(&usage) => {
                self.offer(usage, true, out);
                let wait = if self.followers > 0 { COUNTERSIGN_WAIT } else { Millis(0) };
                self.finish = Finish::AwaitingCountersignature(now.plus(wait));
                if self.followers == 0 {
                    self.close(out);
                }
            }
            _ => self.close(out),
        }
    }

    fn on_countersigned(&mut self, request: CountersignRequest, out: &mut Vec<Effect>) {
        let newer = self.record.confirmed.as_ref().is_none_or(|c| c.usage.served_ms <= request.usage.served_ms);
        if !newer || !self.offered.contains(&request.usage) {
            return;
        }
        let is_last = self.record.last_usage.as_ref() == Some(&request.usage);
        self.record.confirmed = Some(request);
        out.push(Effect::Save);
        match (self.finish, self.submit) {
            (Finish::AwaitingCountersignature(_), _) if is_last => self.close(out),
            // The bare statement went first: the confirmation follows by itself.
            (Finish::Done, _) if is_last && !self.settled => out.push(Effect::SubmitUsage { usages: self.statements() }),
            (_, Submit::Due(_)) if !is_last => self.submit_usage(out),
            _ => {}
        }
    }

    /// What the ledger should hear: the newest confirmed statement, and a bare one where that is needed (at the end, or when
    /// nothing was confirmed since the last time).
    fn statements(&self) -> Vec<Statement> {
        let mut out = vec![];
        let recorded = self.record.recorded.map_or(Millis(0), |(served, _)| served);
        let last = self.record.last_usage.as_ref();
        if let Some(c) = &self.record.confirmed
            && (last == Some(&c.usage) || c.usage.served_ms > recorded)
        {
            out.push(Statement { usage: c.usage.clone(), confirmed: Some(c.clone()) });
        }
        let bare = last.or_else(|| self.offered.back().filter(|_| out.is_empty()));
        if let Some(bare) = bare.filter(|b| self.record.confirmed.as_ref().is_none_or(|c| c.usage != **b)) {
            out.push(Statement { usage: bare.clone(), confirmed: None });
        }
        out
    }

    fn submit_usage(&mut self, out: &mut Vec<Effect>) {
        let usages = self.statements();
        if usages.is_empty() {
            self.submit = Submit::Idle;
        } else {
            self.submit = Submit::InFlight;
            out.push(Effect::SubmitUsage { usages });
        }
    }

    fn on_usage_submitted(&mut self, recorded: Option<Millis>, now: Timestamp, out: &mut Vec<Effect>) {
        self.submit = Submit::Idle;
        let served = recorded.unwrap_or_else(|| self.record.recorded.map_or(Millis(0), |(served, _)| served));
        // A refusal counts as a turn as well: the next one comes with the next usage that is due.
        self.record.recorded = Some((served, self.epochs.of(now)));
        out.push(Effect::Save);
    }

    /// Puts the end on the ledger. After a refusal it is looked at anew (the ledger may close the lease meanwhile), then less
    /// and less is tried, at last the close alone.
    fn close(&mut self, out: &mut Vec<Effect>) {
        self.finish = Finish::Submitting;
        let reason = self.record.end.clone();
        let bare = self.record.last_usage.clone().map(|usage| Statement { usage, confirmed: None }).filter(|_| !self.is_disputed());
        let (usages, close) = match self.close_attempts {
            0 | 1 if self.record.ledger_closing => self.late_statements(),
            0 | 1 => (self.statements(), reason),
            2 => (bare.into_iter().collect(), reason),
            3 => (vec![], reason),
            _ if self.record.ledger_closing => (vec![], None),
            _ => (vec![], reason),
        };
        if usages.is_empty() && close.is_none() {
            self.record.closed = true;
            self.finish = Finish::Done;
            out.push(Effect::Save);
        } else {
            out.push(Effect::Close { usages, close });
        }
    }

    /// What to say of a lease that the ledger closes already. There the node's confirmed statement says by itself that nothing
    /// more comes, so it goes last, and a close beside it would be refused.
    fn late_statements(&self) -> (Vec<Statement>, Option<EndReason>) {
        let mut usages = self.statements();
        usages.retain(|s| s.confirmed.is_some() || !self.is_disputed());
        usages.reverse();
        let confirmed = usages.last().is_some_and(|s| s.confirmed.is_some());
        (usages, self.record.end.clone().filter(|_| !confirmed))
    }

    /// The user closed because it saw no service. A claim beyond what it confirmed would be withheld from both sides, so none
    /// is made.
    fn is_disputed(&self) -> bool {
        self.record.stop.as_ref().is_some_and(|stop| stop.reason == EndReason::ServiceStopped)
    }

    fn on_close_submitted(&mut self, taken: bool, now: Timestamp, out: &mut Vec<Effect>) {
        if taken {
            self.record.closed = true;
            self.finish = Finish::Done;
            out.push(Effect::Save);
        } else if self.finish != Finish::Done {
            self.close_attempts = self.close_attempts.saturating_add(1);
            self.finish = if self.close_attempts < 4 { Finish::Retry(now) } else { Finish::Retry(now.plus(RETRY_WAIT)) };
        }
    }

    fn on_tick(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        match self.record.phase {
            Phase::AwaitingManifest | Phase::AwaitingContext
                if self.record.accepted.is_some() && now >= self.waiting_since.plus(self.wait()) =>
            {
                let detail = match self.record.phase {
                    Phase::AwaitingManifest => "the job's manifest did not arrive in time",
                    _ => "the build context stopped arriving",
                };
                self.end_without_container(EndReason::NoSpec, self.record.say(detail), now, out);
            }
            Phase::Running | Phase::Restarting => {
                self.while_running(now, out);
                self.begin_next(now, out);
                self.look_after(now, out);
            }
            Phase::Stopping if self.stop_retry.is_some_and(|at| now >= at) => {
                // The grace was given the first time.
                self.stop_container(Millis(0), out);
            }
            _ => {}
        }
        if matches!(self.submit, Submit::Due(at) if now >= at) && self.record.end.is_none() {
            self.submit_usage(out);
        }
        match self.finish {
            Finish::AwaitingLog(at) if now >= at => {
                // What did not arrive by now is lost; the job's end must not wait for it for ever.
                self.log_was_cut(now, out);
                self.log_drained = true;
                self.offer_last(now, out);
                self.settle_phase(now, out);
            }
            Finish::AwaitingCountersignature(at) | Finish::Retry(at) if now >= at => self.close(out),
            _ => {}
        }
    }

    const fn wait(&self) -> Millis {
        if matches!(self.record.phase, Phase::AwaitingManifest) { self.waits.manifest } else { self.waits.context }
    }

    fn while_running(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let served = self.served(now);
        let epoch = self.epochs.of(now);
        if epoch > self.reported_epoch {
            self.reported_epoch = epoch;
            self.record.served_ms = served;
            let usage = self.usage();
            out.push(Effect::Save);
            self.offer(usage, false, out);
            let due = self.record.recorded.is_none_or(|(_, last)| epoch.saturating_sub(last) >= SUBMIT_EVERY_EPOCHS);
            if due && self.submit == Submit::Idle {
                self.submit = Submit::Due(now.plus(COUNTERSIGN_WAIT));
            }
        }
        let cap = self.cap();
        if served >= cap {
            out.push(Effect::Emit(NodeEvent::Cap { seconds_left: 0 }));
            let grace = self.manifest.as_ref().map_or(Millis(10_000), |m| m.grace);
            self.on_stop(EndReason::CapReached, grace, "the time or money cap was reached".into(), now, out);
        } else if !self.warned && served >= self.warning() {
            self.warned = true;
            out.push(Effect::Emit(NodeEvent::Cap { seconds_left: cap.0.saturating_sub(served.0).div_ceil(1000) }));
        }
    }

    /// When 80 % are used.
    fn warning(&self) -> Millis {
        Millis(self.cap().0 / 5 * 4)
    }

    /// Whether nothing can follow any more: all is done, and a late confirmation is no longer worth waiting for.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        let waited = self.record.ended.is_some_and(|at| now >= at.plus(LATE_CONFIRMATION_WAIT));
        self.record.is_finished() && (self.settled || waited)
    }

    /// When [`Event::Tick`] is needed next.
    pub(crate) fn next_tick(&self) -> Option<Timestamp> {
        let mut at: Vec<Timestamp> = vec![];
        match self.record.phase {
            Phase::AwaitingManifest | Phase::AwaitingContext if self.record.accepted.is_some() => {
                at.push(self.waiting_since.plus(self.wait()));
            }
            Phase::Running | Phase::Restarting => {
                at.extend(self.next_care());
                at.push(self.epochs.start(self.reported_epoch.saturating_add(1)));
                if let Some(started) = self.record.started {
                    at.push(started.plus(self.cap()));
                    if !self.warned {
                        at.push(started.plus(self.warning()));
                    }
                }
            }
            Phase::Stopping => at.extend(self.stop_retry),
            Phase::Ended if self.record.is_finished() => at.extend(self.record.ended.map(|at| at.plus(LATE_CONFIRMATION_WAIT))),
            _ => {}
        }
        if let (Submit::Due(due), None) = (self.submit, &self.record.end) {
            at.push(due);
        }
        if let Finish::AwaitingLog(t) | Finish::AwaitingCountersignature(t) | Finish::Retry(t) = self.finish {
            at.push(t);
        }
        at.into_iter().min()
    }

    /// The lease as clients see it.
    pub(crate) fn status(&self, now: Timestamp) -> LeaseStatus {
        let r = &self.record;
        LeaseStatus {
            lease: r.terms.lease,
            phase: r.phase,
            started: r.started,
            served_ms: self.served(now),
            build_ms: r.build_ms,
            log_bytes: self.log.bytes,
            log_cut: r.upkeep.log_cut,
            container: r.container.clone(),
            end: r.end.clone(),
            detail: r.detail.clone(),
            output_bytes: match (r.phase, r.output) {
                (Phase::Ended, Output::Ready(info)) => Some(info.bytes),
                (Phase::Ended, Output::Nothing) => Some(0),
                _ => None,
            },
            ends: r.started.map(|s| s.plus(self.cap())),
            restarts: r.upkeep.restarts,
            health: self.health(),
            history: r.upkeep.history.iter().cloned().collect(),
            update: self.update_status(),
            gpus: if r.end.is_some() { vec![] } else { r.gpus.clone() },
            statement: None,
            output: None,
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
