//! Acts for one lease: takes events from its mailbox, lets `state.rs` decide, carries the effects out in order.
//!
//! Guarantees: a record is on disk before the effects that follow its `Save`; a write that fails stops the job honestly
//! instead of running it unrecorded; when shutdown is requested everything is left as it is, for the next start to take up.

use super::event::{Effect, Event, LogState, Statement, Waits};
use super::log::{LogIndex, LogPlace, LogReader, LogSeen, LogWriter};
use super::record::{LeaseRecord, Output};
use super::shared::Shared;
use super::state::Machine;
use super::work::{self, Mode, chain};
use super::{manifest, probe, state};
use crate::context::Context;
use crate::submit::SubmitError;
use pasture_api::data::{NodeEvent, Phase};
use pasture_api::views::TxResult;
use pasture_rt::{Shutdown, TaskKind};
use pasture_store::{RecordFile, StoreError};
use pasture_types::keys::{Signature, SignatureText, parse_public_key};
use pasture_types::lease::{Countersignature, EndReason, LeaseState, SignedUsage};
use pasture_types::spec::{MAX_MANIFEST_BYTES, Manifest};
use pasture_types::tx::Action;
use pasture_types::{Millis, Timestamp, blob};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Least pause between two ticks, whatever the deadlines say.
const LEAST_TICK: Duration = Duration::from_millis(5);
/// Longest sleep; the system's clock may be set meanwhile.
const LONGEST_TICK: Duration = Duration::from_secs(30);

/// Whether a lease is new or was read back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Started {
    New,
    Resumed,
}

struct Actor {
    ctx: Arc<Context>,
    shared: Arc<Shared>,
    machine: Machine,
    record: RecordFile<LeaseRecord>,
    mailbox: mpsc::Receiver<Event>,
    writer: Option<LogWriter>,
    /// The instance whose log is followed.
    followed: Option<u32>,
    manifest: Option<Arc<Manifest>>,
    context_complete: bool,
    pending: Option<NodeEvent>,
    /// Ends the build or pull.
    work: Shutdown,
    /// Ends the log's follower.
    follower: Shutdown,
    forgotten: bool,
}

/// Makes a lease's directory and record (or takes up what is there), registers the lease and runs it. Does blocking work.
///
/// # Errors
/// [`StoreError`] if the record or the log cannot be read or written.
pub(crate) fn spawn(ctx: &Arc<Context>, mut record: LeaseRecord, started: Started) -> Result<Arc<Shared>, StoreError> {
    let dir = ctx.leases_dir.join(record.terms.lease.to_string());
    let file = RecordFile::new(dir.join("state"));
    if started == Started::New {
        std::fs::create_dir_all(&dir).map_err(|source| StoreError::Io { action: "create", path: dir.clone(), source })?;
        ctx.failpoints.hit("provider.lease.before_record");
        file.save(&record)?;
        ctx.failpoints.hit("provider.lease.after_record");
    } else if record.seal_earlier(&dir) {
        file.save(&record)?;
    }
    let index = LogIndex::default();
    let writer = LogWriter::open(&dir, ctx.options.max_log_bytes, index.clone(), ctx.failpoints.clone())?;
    let seen = writer.seen();
    if record.phase == Phase::Ended {
        index.close(&dir)?;
    }
    let now = Timestamp(ctx.clock.now_ms());
    let waits = Waits { manifest: millis(ctx.options.manifest_wait), context: millis(ctx.options.context_wait) };
    let finished = record.is_finished();
    let machine = Machine::new(record, ctx.facts.epochs(), waits, seen.into(), now);
    let seen = LogSeen { done: machine.record.phase == Phase::Ended, ..seen };
    let (terms, gpus) = (machine.record.terms.clone(), machine.record.gpus.clone());
    let (shared, mailbox) = Shared::new(terms, gpus, dir, machine.status(now), (seen, index));
    let shared = Arc::new(shared);
    let actor = Actor {
        ctx: Arc::clone(ctx),
        shared: Arc::clone(&shared),
        machine,
        record: file,
        mailbox,
        writer: Some(writer),
        followed: None,
        manifest: None,
        context_complete: false,
        pending: None,
        work: Shutdown::new(),
        follower: Shutdown::new(),
        forgotten: false,
    };
    actor.show();
    if ctx.leases.insert(Arc::clone(&shared)) && !finished {
        let cancel = ctx.cancel.clone();
        pasture_rt::spawn(TaskKind::Lease, async move { cancel.guard(actor.run(started)).await });
        let (cancel, tending) = (ctx.cancel.clone(), crate::channels::private::tend(Arc::clone(ctx), Arc::clone(&shared)));
        pasture_rt::spawn(TaskKind::Lease, async move { cancel.guard(tending).await });
    }
    Ok(shared)
}

fn millis(d: Duration) -> Millis {
    Millis(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

impl Actor {
    async fn run(mut self, started: Started) {
        let mut out = vec![];
        if started == Started::Resumed {
            self.resume(&mut out);
        }
        loop {
            self.perform(&mut out).await;
            if self.forgotten || self.machine.is_over(self.now()) {
                return;
            }
            let tick = self.until_tick();
            let event = tokio::select! {
                event = self.mailbox.recv() => event,
                () = tick => Some(Event::Tick),
            };
            // The registry holds a sender for as long as the lease is known.
            let Some(event) = event else { return };
            self.step(event, &mut out);
        }
    }

    fn now(&self) -> Timestamp {
        // The engine's clock is this machine's: service is measured with one clock only.
        Timestamp(self.ctx.clock.now_ms())
    }

    fn until_tick(&self) -> impl Future<Output = ()> + use<> {
        let now = self.now();
        let wait = self.machine.next_tick().map(|at| Duration::from_millis(at.since(now).0).clamp(LEAST_TICK, LONGEST_TICK));
        async move {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        }
    }

    fn step(&mut self, event: Event, out: &mut Vec<Effect>) {
        match &event {
            Event::Manifest(manifest) => self.manifest = Some(Arc::new((**manifest).clone())),
            Event::ContextComplete => self.context_complete = true,
            Event::Accepted(_) | Event::Running { .. } => self.ctx.prover.need(self.ctx.facts.epochs().of(self.ctx.now())),
            _ => {}
        }
        self.machine.log = LogState::from(*self.shared.log.borrow());
        self.machine.followers = self.shared.events.receiver_count();
        self.machine.step(event, self.now(), out);
        self.show();
    }

    /// Takes up what a former process left.
    fn resume(&mut self, out: &mut Vec<Effect>) {
        self.take_manifest();
        if let Some(bytes) = self.kept("manifest") {
            let hash = self.machine.record.manifest.unwrap_or(self.shared.terms.spec_hash);
            match manifest::check_as(&bytes, &hash, &self.shared.terms, &self.ctx.options) {
                Ok(manifest) => {
                    self.manifest = Some(Arc::new(manifest.clone()));
                    let phase = self.machine.record.phase;
                    self.machine.resume(self.now(), out);
                    let coming = self.coming();
                    self.machine.resume_update(coming, self.now(), out);
                    // With the container made, the manifest is only needed for its grace.
                    tracing::debug!(lease = %self.shared.id(), ?phase, "taken up again");
                    self.step(Event::Manifest(Box::new(manifest)), out);
                    // Its user was told that it is kept; the process ended before it was recorded.
                    if let Some(unknown) = self.unknown_update() {
                        self.step(Event::Update(Box::new(unknown)), out);
                    }
                    if self.shared.dir.join("context.tar").is_file() {
                        self.step(Event::ContextComplete, out);
                    }
                    return;
                }
                Err(problem) => tracing::warn!(problem, lease = %self.shared.id(), "the stored manifest does not fit"),
            }
        }
        self.machine.resume(self.now(), out);
        self.show();
    }

    /// A small file of the lease.
    fn kept(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.shared.dir.join(name);
        let small = std::fs::metadata(&path).is_ok_and(|m| m.len() <= MAX_MANIFEST_BYTES as u64);
        small.then(|| std::fs::read(&path).ok()).flatten()
    }

    /// The manifest of the update that is under way.
    fn coming(&self) -> Option<Manifest> {
        let hash = self.machine.record.update.as_ref()?.manifest;
        manifest::check_as(&self.kept(manifest::COMING)?, &hash, &self.shared.terms, &self.ctx.options).ok()
    }

    /// A manifest that was taken for an update of which nothing is recorded yet.
    fn unknown_update(&self) -> Option<Manifest> {
        let bytes = self.kept(manifest::COMING)?;
        let hash = blob::hash(&bytes);
        let r = &self.machine.record;
        let known = r.manifest == Some(hash) || r.update.as_ref().is_some_and(|u| u.manifest == hash);
        if known {
            return None;
        }
        manifest::check_update(&bytes, self.manifest.as_deref()?, &self.shared.terms, &self.ctx.options).ok()
    }

    /// Gives the manifest of an update its name, if it is the lease's by the record.
    fn take_manifest(&self) {
        let coming = self.shared.dir.join(manifest::COMING);
        let current = self.machine.record.manifest.is_some_and(|hash| self.kept(manifest::COMING).is_some_and(|b| blob::hash(&b) == hash));
        if current && let Err(error) = std::fs::rename(&coming, self.shared.dir.join("manifest")) {
            // The record says which one counts: the next start tries again.
            tracing::error!(%error, lease = %self.shared.id(), "cannot keep the new manifest");
        }
    }

    /// Updates what others see, without telling anybody.
    fn show(&self) {
        let now = self.now();
        let r = &self.machine.record;
        self.shared.view.send_modify(|view| {
            view.status = self.machine.status(now);
            view.accepted = r.accepted.is_some();
            view.manifest.clone_from(&self.manifest);
            view.context_complete = self.context_complete;
            view.output = if let Output::Ready(info) = r.output { Some(info) } else { None };
            view.last_usage.clone_from(&r.last_usage);
            view.offered = self.machine.offered().iter().cloned().collect();
            view.pending.clone_from(&self.pending);
            view.finished = r.is_finished();
        });
        if r.phase == Phase::Ended {
            crate::secrets::forget(&self.shared.dir);
            work::forget_context(&self.shared.dir);
            self.follower.trigger();
            self.shared.log.send_if_modified(|seen| !std::mem::replace(&mut seen.done, true));
        }
    }

    async fn perform(&mut self, effects: &mut Vec<Effect>) {
        let mut queue: VecDeque<Effect> = effects.drain(..).collect();
        while let Some(effect) = queue.pop_front() {
            if let Err(error) = self.carry_out(effect).await {
                tracing::error!(error = %chain(&error), lease = %self.shared.id(), "the lease's record cannot be written");
                let detail = format!("the provider's machine could not write its records ({error})");
                let stop = Event::Stop { reason: EndReason::StoppedByProvider, grace: state::MAX_GRACE.min(Millis(10_000)), detail };
                let mut more = vec![];
                self.step(stop, &mut more);
                queue.extend(more.into_iter().filter(|e| *e != Effect::Save));
            }
        }
        self.show();
    }

    async fn carry_out(&mut self, effect: Effect) -> Result<(), StoreError> {
        match effect {
            Effect::Save => self.save().await?,
            Effect::Publish => {
                self.show();
                self.shared.emit(NodeEvent::Status { status: Box::new(self.machine.status(self.now())) });
            }
            Effect::Emit(event) => self.shared.emit(event),
            Effect::FetchImage => {
                if let Some(manifest) = self.manifest.clone() {
                    let token = self.work.token();
                    let work = work::fetch_image(Arc::clone(&self.ctx), Arc::clone(&self.shared), manifest);
                    self.task(TaskKind::Lease, async move { token.guard(work).await.unwrap_or_default() });
                }
            }
            Effect::FetchUpdate => {
                if let Some(coming) = self.machine.coming.clone() {
                    let token = self.work.token();
                    let work = work::fetch_update(Arc::clone(&self.ctx), Arc::clone(&self.shared), coming);
                    self.task(TaskKind::Lease, async move { token.guard(work).await.unwrap_or_default() });
                }
            }
            Effect::TakeManifest(manifest) => {
                self.manifest = Some(Arc::new(*manifest));
                self.take_manifest();
            }
            Effect::CancelWork => self.work.trigger(),
            Effect::Create { image, instance } => {
                if let Some(manifest) = self.manifest.clone() {
                    let create = work::create(Arc::clone(&self.ctx), Arc::clone(&self.shared), manifest, image, instance);
                    self.task(TaskKind::Lease, create);
                }
            }
            Effect::Retire { container } => {
                self.task(TaskKind::Lease, work::retire(Arc::clone(&self.ctx), Arc::clone(&self.shared), container));
            }
            Effect::Probe { container, instance, health } => {
                self.task(TaskKind::Lease, probe::make(Arc::clone(&self.ctx), Arc::clone(&self.shared), container, instance, health));
            }
            Effect::Start { container } => self.attach(container, Mode::Start),
            Effect::Adopt { container } => self.attach(container, Mode::Adopt),
            Effect::StopContainer { container, grace } => {
                self.task(TaskKind::Lease, work::stop(Arc::clone(&self.ctx), Arc::clone(&self.shared), container, grace));
            }
            Effect::Offer { usage, last } => {
                self.ctx.prover.need(usage.epoch);
                let node_signature = SignatureText::from(&self.ctx.options.node_key.sign(&usage.digest()));
                let event = NodeEvent::Usage { usage: Box::new(usage), node_signature, last };
                self.pending = Some(event.clone());
                self.show();
                self.shared.emit(event);
            }
            Effect::SubmitUsage { usages } => self.submit_usage(usages),
            Effect::Close { usages, close } => self.close(usages, close),
            Effect::CopyOutput { container } => {
                self.task(TaskKind::Lease, work::copy_output(Arc::clone(&self.ctx), Arc::clone(&self.shared), container));
            }
            Effect::Remove { container } => {
                self.task(TaskKind::Lease, work::remove(Arc::clone(&self.ctx), Arc::clone(&self.shared), container));
            }
            Effect::Forget => {
                self.forgotten = true;
                self.ctx.leases.remove(&self.shared.id());
                let _ = std::fs::remove_dir_all(&self.shared.dir);
            }
        }
        Ok(())
    }

    fn task(&self, kind: TaskKind, work: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.ctx.cancel.clone();
        pasture_rt::spawn(kind, async move { cancel.guard(work).await.unwrap_or_default() });
    }

    async fn save(&self) -> Result<(), StoreError> {
        self.ctx.failpoints.hit("provider.state.before_save");
        let (file, record, shared) = (self.record.clone(), self.machine.record.clone(), Arc::clone(&self.shared));
        let keep = move || {
            file.save(&record)?;
            if record.phase == Phase::Ended { shared.log_index.close(&shared.dir) } else { Ok(()) }
        };
        // `None` only if the blocking pool is gone, which is the end of the process.
        if let Some(outcome) = pasture_rt::spawn_blocking(TaskKind::Lease, keep).join().await {
            outcome?;
        }
        self.ctx.failpoints.hit("provider.state.after_save");
        Ok(())
    }

    /// Follows the log first, so that nothing is missed, then starts or adopts.
    fn attach(&mut self, container: String, mode: Mode) {
        let upkeep = &self.machine.record.upkeep;
        let place = LogPlace { instance: upkeep.instance, note: self.machine.note() };
        // Another instance's log was waited for long enough.
        if self.followed.replace(place.instance) != Some(place.instance) {
            std::mem::replace(&mut self.follower, Shutdown::new()).trigger();
            let token = self.follower.token();
            // Without its description there is nobody to seal for, and that ends the job.
            let key = self.manifest.as_ref().map(|m| m.reader).unwrap_or_default();
            let reader = LogReader { key, lease: self.shared.id() };
            let follow =
                work::follow(Arc::clone(&self.ctx), Arc::clone(&self.shared), self.writer.take(), reader, place, container.clone());
            self.task(TaskKind::LogFollower, async move { token.guard(follow).await.unwrap_or_default() });
        }
        self.task(TaskKind::Lease, work::run(Arc::clone(&self.ctx), Arc::clone(&self.shared), container, mode));
    }

    fn sign(&self, statement: Statement) -> Action {
        let Statement { usage, confirmed } = statement;
        let node_signature = self.ctx.options.node_key.sign(&usage.digest());
        // Both texts were parsed when the confirmation came in.
        let countersignature = confirmed.and_then(|c| {
            let key = parse_public_key(&c.key).ok()?;
            let signature = Signature::try_from(&c.signature).ok()?;
            let account = c.account.unwrap_or(self.shared.terms.account);
            Some(Countersignature { account, key, signature })
        });
        Action::SubmitUsage { usage: Box::new(SignedUsage { usage, node: self.ctx.node, node_signature, countersignature }) }
    }

    fn submit_usage(&self, usages: Vec<Statement>) {
        let furthest = usages.iter().map(|s| s.usage.served_ms).max();
        let actions: Vec<Action> = usages.into_iter().map(|s| self.sign(s)).collect();
        let (ctx, shared) = (Arc::clone(&self.ctx), Arc::clone(&self.shared));
        self.task(TaskKind::Lease, async move {
            ctx.failpoints.hit("provider.usage.before_submit");
            let sent = submit(&ctx, &shared, actions).await;
            ctx.failpoints.hit("provider.usage.after_submit");
            if let Err(error) = &sent {
                tracing::warn!(%error, lease = %shared.id(), "usage was not recorded");
            }
            shared.tell(Event::UsageSubmitted { recorded: furthest.filter(|_| sent.is_ok()) }).await;
        });
    }

    fn close(&self, usages: Vec<Statement>, close: Option<EndReason>) {
        let lease = self.shared.id();
        let served = |s: &Statement| s.usage.served_ms;
        let furthest = usages.iter().map(served).max().unwrap_or_default();
        let confirmed = usages.iter().filter(|s| s.confirmed.is_some()).map(served).max().unwrap_or_default();
        let mut actions: Vec<Action> = usages.into_iter().map(|s| self.sign(s)).collect();
        actions.extend(close.map(|reason| Action::CloseLease { lease, reason }));
        let (ctx, shared) = (Arc::clone(&self.ctx), Arc::clone(&self.shared));
        self.task(TaskKind::Lease, async move {
            ctx.failpoints.hit("provider.close.before_submit");
            let sent = submit(&ctx, &shared, actions).await;
            ctx.failpoints.hit("provider.close.after_submit");
            let taken = match sent {
                Ok(_) => true,
                Err(SubmitError::Cancelled) => return,
                Err(error) => {
                    tracing::warn!(%error, %lease, "the lease's close was not recorded");
                    // Perhaps it is closed already, by the user, by a timer, or by ourselves before a crash.
                    match ctx.network.lease(&lease).await {
                        Ok(Some(view)) if view.state >= LeaseState::Closing => {
                            let settled = view.state == LeaseState::Closed;
                            shared.tell(Event::LedgerClosed { reason: view.reason, settled }).await;
                            // All that we had to say is known there.
                            view.served_ms >= furthest && view.confirmed_ms >= confirmed
                        }
                        Ok(_) => false,
                        Err(error) => {
                            tracing::debug!(%error, %lease, "cannot read the lease");
                            false
                        }
                    }
                }
            };
            shared.tell(Event::CloseSubmitted { taken }).await;
        });
    }
}

/// Submits statements. A watcher's word that counts for nothing is left out: what was served then counts if nobody objects in time, and
/// a user that takes its watcher's grant back takes nothing from the machine.
async fn submit(ctx: &Context, lease: &Shared, actions: Vec<Action>) -> Result<TxResult, SubmitError> {
    match ctx.submitter.submit(actions.clone()).await {
        Err(SubmitError::NotWatched(why)) => {
            tracing::info!(why, lease = %lease.id(), "the watcher's word is not taken; the usage goes without it");
            let mut actions = actions;
            for action in &mut actions {
                if let Action::SubmitUsage { usage } = action {
                    usage.countersignature = usage.countersignature.take().filter(|c| c.account == lease.terms.account);
                }
            }
            ctx.submitter.submit(actions).await
        }
        sent => sent,
    }
}
