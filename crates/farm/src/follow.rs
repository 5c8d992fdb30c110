//! A job from its acceptance to its receipt: sends what it needs, shows what it does, confirms what was served.
//!
//! ```text
//!             ┌ ledger events ┐
//!   machine ──┤ its events    ├──▶ one loop ──▶ screen, confirmations, stop, receipt
//!             ├ its log       ┤
//!   signals ──┴ finished work ┘
//! ```
//! Guarantees: one loop owns all state, and what takes time happens in tasks that report back, so that nothing delays a
//! signal. What is confirmed is decided in [`crate::job`]. The machine may go away and come back: the job goes on. Every end
//! has a receipt, or says where to get it.

use crate::avoid;
use crate::commands::watch;
use crate::exit::{Exit, Failure, Outcome};
use crate::feeds::{self, FromLedger, FromLog, FromNode, Signal, Signals};
use crate::job::{Verdict, Watch};
use crate::pack::Packed;
use crate::patience::while_away;
use crate::receipt::{Periods, Receipt};
use crate::render::Progress;
use crate::render::number::{count, credits, duration, per_hour};
use crate::sealed::CUT;
use crate::session::{Session, now_ms};
use crate::transfer;
use crate::words::plainly;
use pasture_api::client::{EventFilter, LeaseClient};
use pasture_api::data::{LeaseStatus, NodeEvent, Phase};
use pasture_api::frames::{Frame, LogStream};
use pasture_api::publication::SignedPublication;
use pasture_api::secrets::Secrets;
use pasture_api::{ApiError, LeaseView};
use pasture_rt::{TaskKind, spawn, spawn_blocking};
use pasture_types::event::Event;
use pasture_types::keys::SignatureText;
use pasture_types::lease::{EndReason, LeaseState, Usage};
use pasture_types::market::Term;
use pasture_types::market_rules::MarketEvent;
use pasture_types::resources::display_bytes;
use pasture_types::tx::Action;
use pasture_types::{Millis, Timestamp};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long the rest (log, last confirmation, the ledger's word) may take once the job has ended.
const END_WAIT: Duration = Duration::from_secs(15);
/// How long the machine may be away, while the network answers, before the job counts as gone.
const NODE_PATIENCE: Duration = Duration::from_secs(120);
/// Periods that a settlement may take beyond its windows.
const SPARE_PERIODS: u64 = 4;
/// Finished work that waits for the loop.
const DONE_QUEUE: usize = 16;

/// What to follow, and how.
pub(crate) struct Plan {
    /// The job's name for people.
    pub(crate) handle: String,
    /// Its lease, just accepted.
    pub(crate) lease: LeaseView,
    /// Its description.
    pub(crate) manifest: Vec<u8>,
    /// What it must know.
    pub(crate) secrets: Secrets,
    /// Which of its ports everybody reaches.
    pub(crate) public: Vec<SignedPublication>,
    /// Its folder.
    pub(crate) packed: Option<Packed>,
    /// Return once it runs.
    pub(crate) detach: bool,
    /// Where its output goes.
    pub(crate) out: Option<PathBuf>,
    /// How large its output may be.
    pub(crate) output_limit: u64,
    /// Wait for the final receipt.
    pub(crate) to_the_end: bool,
}

/// Work in a task of its own that is finished.
enum Done {
    /// The description and the folder are there, or not.
    Sent(Result<(), Failure>),
    /// The machine made the order's check.
    Checked { usage: Box<Usage>, last: bool, answer: Result<(bool, String), ApiError> },
    /// A confirmation was delivered, or not.
    Confirmed { usage: Box<Usage>, last: bool, delivered: bool },
    /// The user answered.
    Answered(Option<String>),
    /// The job was asked to stop, or closed on the ledger.
    Stopping(Result<(), Failure>),
}

/// How following ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The job is over.
    Over,
    /// The user left it running.
    Detached,
    /// The user did not want to wait.
    Left,
}

struct Follower<'a> {
    session: &'a Session,
    plan: Plan,
    client: LeaseClient,
    watch: Watch,
    progress: Progress,
    done: mpsc::Sender<Done>,
    log: Option<mpsc::Receiver<FromLog>>,
    log_done: bool,
    /// It was not the machine's.
    log_bad: Option<Failure>,
    status: Option<LeaseStatus>,
    /// The newest statement of the machine that was verified.
    last_usage_seen: bool,
    /// The last usage is confirmed or refused.
    last_settled: bool,
    /// Something was refused: what the ledger records without us may need an objection.
    refused: bool,
    objected: bool,
    /// The periods with a capacity check, as the ledger says.
    checked: BTreeSet<u64>,
    stopping: bool,
    closing_ourselves: bool,
    /// The question about Ctrl-C is on the screen.
    asking: bool,
    away_since: Option<Instant>,
    deadline: Option<Instant>,
}

/// Follows a job to its end.
pub(crate) async fn follow(session: &Session, mut plan: Plan, mut progress: Progress, mut signals: Signals) -> Outcome {
    let client = session.lease_client(&plan.lease);
    let filter = EventFilter { account: Some(session.account()), node: Some(plan.lease.node), lease: Some(plan.lease.id) };
    let mut ledger = feeds::ledger(session, filter).await?;
    let mut node = feeds::node(&client);
    let (done, mut finished) = mpsc::channel(DONE_QUEUE);
    if let Some(packed) = &plan.packed {
        progress.transfer("sending the folder", packed.bytes);
    }
    send_in_background(&client, &mut plan, progress.handle(), done.clone());
    let watch = Watch::new(plan.lease.id, plan.lease.generation, plan.lease.alive, now_ms());
    let mut f = Follower {
        session,
        client,
        watch,
        progress,
        done,
        log: None,
        log_done: false,
        log_bad: None,
        status: None,
        last_usage_seen: false,
        last_settled: false,
        refused: false,
        objected: false,
        checked: BTreeSet::new(),
        stopping: false,
        closing_ourselves: false,
        asking: false,
        away_since: None,
        deadline: None,
        plan,
    };
    // Between the match and this subscription something may have happened.
    f.refresh().await;
    let end = loop {
        if let Some(end) = f.over() {
            break end;
        }
        let wake = f.deadline.or_else(|| f.away_since.map(|t| t + NODE_PATIENCE));
        tokio::select! {
            signal = signals.next() => if let Some(end) = f.on_signal(signal).await { break end },
            item = node.recv() => f.on_node(item).await?,
            item = next(&mut f.log), if f.log.is_some() && !f.asking => f.on_log(item),
            item = ledger.recv() => f.on_ledger(item).await,
            Some(item) = finished.recv() => if let Some(end) = f.on_done(item).await? { break end },
            () = sleep_until(wake) => if let Some(end) = f.on_wake().await { break end },
        }
    };
    f.progress.clear();
    match end {
        End::Detached => Ok(f.detached()),
        End::Left => {
            session.out.note(&format!("left while the job was being stopped; its receipt:  farm receipt {}", f.plan.handle));
            Ok(Exit::Job(130))
        }
        End::Over => f.conclude(&mut ledger, &mut signals).await,
    }
}

fn send_in_background(client: &LeaseClient, plan: &mut Plan, bar: Option<indicatif::ProgressBar>, done: mpsc::Sender<Done>) {
    let (client, manifest) = (client.clone(), std::mem::take(&mut plan.manifest));
    let (secrets, public) = (std::mem::take(&mut plan.secrets), std::mem::take(&mut plan.public));
    let packed = plan.packed.take();
    spawn(TaskKind::ClientFollow, async move {
        let sent = transfer::send(client, (secrets, &public), manifest, packed.as_ref(), bar).await;
        let _ = done.send(Done::Sent(sent)).await;
    });
}

async fn next(log: &mut Option<mpsc::Receiver<FromLog>>) -> Option<FromLog> {
    match log {
        Some(log) => log.recv().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Follower<'_> {
    fn phase(&self) -> Option<Phase> {
        self.status.as_ref().map(|s| s.phase)
    }

    fn closing(&self) -> bool {
        matches!(self.plan.lease.state, LeaseState::Closing | LeaseState::Closed)
    }

    /// Whether there is nothing left to follow.
    fn over(&self) -> Option<End> {
        if self.asking {
            return None;
        }
        if self.closing_ourselves {
            return self.closing().then_some(End::Over);
        }
        if self.plan.detach && self.phase() >= Some(Phase::Running) && self.phase() != Some(Phase::Ended) {
            return Some(End::Detached);
        }
        let ended = self.phase() == Some(Phase::Ended);
        let nothing_served = self.status.as_ref().is_some_and(|s| s.served_ms.0 == 0 && s.build_ms.0 == 0);
        let confirmed = self.last_settled || (nothing_served && !self.last_usage_seen);
        let log_read = self.log_done || self.log.is_none();
        (ended && log_read && confirmed && self.closing()).then_some(End::Over)
    }

    // ---- what the machine says -------------------------------------------------------------------------------------

    async fn on_node(&mut self, item: Option<FromNode>) -> Result<(), Failure> {
        match item {
            Some(FromNode::Event(event)) => {
                if self.away_since.take().is_some() {
                    self.progress.line("the machine answers again");
                }
                match event {
                    NodeEvent::Status { status } => self.on_status(*status),
                    NodeEvent::Output { line } => self.on_build_output(line.text()),
                    NodeEvent::Usage { usage, node_signature, last } => self.on_usage(usage, &node_signature, last).await,
                    NodeEvent::Cap { seconds_left } => self.on_cap(seconds_left),
                }
            }
            Some(FromNode::Away(why)) => {
                if self.away_since.is_none() && self.phase() != Some(Phase::Ended) && self.phase().is_some() {
                    self.progress.line(&format!("the machine does not answer now ({}); the job goes on, and so do we", plainly(&why)));
                }
                self.away_since.get_or_insert_with(Instant::now);
            }
            None => return Err(Failure::new("internal", "the machine's events are not followed any more")),
        }
        Ok(())
    }

    fn on_status(&mut self, status: LeaseStatus) {
        self.watch.on_phase(status.phase, now_ms());
        let news = self.phase() != Some(status.phase);
        // Who does not stay does not listen.
        if status.phase >= Phase::Starting && self.log.is_none() && !self.log_done && !self.plan.detach {
            match self.session.reader() {
                Ok(reader) => self.log = Some(feeds::log(&self.client, reader, 0, true)),
                Err(failure) => {
                    self.progress.line(&format!("the log cannot be read: {}", failure.message));
                    self.log_done = true;
                }
            }
        }
        if news {
            if self.session.out.json {
                self.session.out.json(&serde_json::json!({"event": "phase", "phase": status.phase, "detail": status.detail}));
            }
            self.show_phase(&status);
        }
        if status.phase == Phase::Ended {
            self.end_soon();
        }
        self.status = Some(status);
    }

    fn show_phase(&mut self, status: &LeaseStatus) {
        match status.phase {
            // The transfer of the folder shows itself.
            Phase::AwaitingManifest | Phase::AwaitingContext => {}
            Phase::Building => self.progress.step("building"),
            Phase::Pulling => self.progress.step("fetching the image"),
            Phase::Starting => self.progress.step("starting"),
            Phase::Running => {
                self.progress.step("running");
                self.progress.clear();
            }
            // Each restart has a line of its own in the log, where it is seen later as well.
            Phase::Restarting => {}
            // Said when we ask for it; an end of its own is not a stop.
            Phase::Stopping => {}
            Phase::Ended => {
                self.progress.clear();
                // The receipt has words of its own for these.
                let plain = |end: &EndReason| matches!(end, EndReason::Exited { .. } | EndReason::StoppedByUser | EndReason::CapReached);
                if !status.detail.is_empty() && !status.end.as_ref().is_some_and(plain) {
                    self.progress.line(&plainly(status.detail.text()));
                }
            }
        }
    }

    fn on_build_output(&self, line: &str) {
        if self.session.out.json {
            self.session.out.json(&serde_json::json!({"event": "build", "line": line}));
        } else if !line.trim().is_empty() {
            self.progress.faint(&printable(line));
        }
    }

    fn on_cap(&self, seconds_left: u64) {
        if seconds_left == 0 {
            self.progress.line("the time or money cap is reached: the job is being stopped");
            return;
        }
        let (left, handle) = (duration(Millis::secs(seconds_left)), &self.plan.handle);
        let more = match self.plan.lease.tenure.term {
            Term::Fixed => format!("farm extend {handle} --for 1h  (or a longer --timeout from the start)"),
            Term::Open => format!("farm top-up {handle} CREDITS"),
            Term::Rental { .. } if self.plan.lease.tenure.renews => return,
            Term::Rental { .. } => format!("farm extend {handle} --for 1h  (by whole hours or months)"),
        };
        self.progress.line(&format!("80 % of the time or money is used, {left} left; for more:  {more}"));
    }

    fn on_log(&mut self, item: Option<FromLog>) {
        match item {
            Some(FromLog::Frame(frame)) => {
                self.watch.on_output(now_ms());
                self.progress.clear();
                show_frame(self.session, &frame);
            }
            Some(FromLog::Failed(failure)) => {
                self.progress.line(&format!("! {}", plainly(&failure.message)));
                self.log_bad = Some(failure);
                (self.log, self.log_done) = (None, true);
            }
            Some(FromLog::Done { cut }) => {
                if cut {
                    self.progress.line(&format!("! {CUT}"));
                }
                (self.log, self.log_done) = (None, true);
            }
            None => (self.log, self.log_done) = (None, true),
        }
    }

    // ---- confirming ------------------------------------------------------------------------------------------------

    async fn on_usage(&mut self, usage: Box<Usage>, signature: &SignatureText, last: bool) {
        if !watch::is_signed(&usage, &self.plan.lease.node, signature) {
            self.progress.line("the machine's statement of service is not signed by it; it is not confirmed");
            return;
        }
        self.last_usage_seen |= last;
        let verdict = self.watch.on_usage(&usage, last, now_ms());
        self.act(verdict, usage, last).await;
    }

    async fn act(&mut self, verdict: Verdict, usage: Box<Usage>, last: bool) {
        match verdict {
            Verdict::Confirm => self.confirm(usage, last),
            Verdict::Ask => {
                let (client, done) = (self.client.clone(), self.done.clone());
                spawn(TaskKind::ClientFollow, async move {
                    let answer = client.alive().await.map(|a| (a.alive, a.detail));
                    let _ = done.send(Done::Checked { usage, last, answer }).await;
                });
            }
            Verdict::Refuse(why) => self.refuse(&why, last).await,
        }
    }

    fn confirm(&self, usage: Box<Usage>, last: bool) {
        let (client, done, key) = (self.client.clone(), self.done.clone(), self.session.confirming_key());
        spawn(TaskKind::ClientFollow, async move {
            let delivered = watch::countersign(&client, &key, None, &usage).await;
            let _ = done.send(Done::Confirmed { usage, last, delivered }).await;
        });
    }

    async fn refuse(&mut self, why: &str, last: bool) {
        self.refused = true;
        self.last_settled |= last;
        if self.watch.just_failed() {
            let confirmed = duration(self.watch.confirmed_ms());
            self.progress
                .line(&format!("not confirmed: {}; what comes after the first {confirmed} is not charged while this lasts", plainly(why)));
        }
        if self.watch.give_up() && !self.closing() && !self.closing_ourselves {
            self.progress.line("no sign of life in two periods in a row: closing the job");
            self.close(EndReason::ServiceStopped);
        }
    }

    /// Ends the lease on the ledger.
    fn close(&mut self, reason: EndReason) {
        self.closing_ourselves = true;
        if reason == EndReason::ServiceStopped {
            avoid::note(&self.session.paths.data_dir, self.session.status.zone, self.plan.lease.node);
        }
        let (session, done, lease) = (self.session.clone(), self.done.clone(), self.plan.lease.id);
        spawn(TaskKind::ClientFollow, async move {
            let closed = session.submit(vec![Action::CloseLease { lease, reason }]).await.map(|_| ());
            let _ = done.send(Done::Stopping(closed)).await;
        });
    }

    // ---- what the ledger says --------------------------------------------------------------------------------------

    async fn on_ledger(&mut self, item: Option<FromLedger>) {
        match item {
            Some(FromLedger::Event(event)) => self.on_ledger_event(event.event).await,
            Some(FromLedger::Again) => self.refresh().await,
            // Its task ends only with us.
            None => {}
        }
    }

    async fn on_ledger_event(&mut self, event: Event) {
        let ours = self.plan.lease.id;
        match event {
            Event::LeaseChanged { lease, state, reason, .. } if lease == ours => {
                self.plan.lease.state = state;
                self.plan.lease.reason = reason;
                if self.closing() {
                    self.end_soon();
                }
            }
            Event::LeaseSettled { lease, settlement, .. } if lease == ours => {
                self.plan.lease.state = LeaseState::Closed;
                self.plan.lease.settlement = Some(*settlement);
                self.end_soon();
            }
            Event::Market(event) => self.on_market(&event),
            Event::HeartbeatRecorded { node, epoch } if node == self.plan.lease.node => {
                self.checked.insert(epoch);
            }
            Event::UsageRecorded { lease, served_ms, countersigned: false, .. } if lease == ours => self.maybe_object(served_ms).await,
            _ => {}
        }
    }

    fn on_market(&self, event: &MarketEvent) {
        let ours = self.plan.lease.id;
        match event {
            MarketEvent::RentalRenewed { lease, escrow, .. } if *lease == ours => {
                self.progress.line(&format!("the rental goes on: {} cr more are on hold for it", credits(*escrow)));
            }
            MarketEvent::RentalCancelled { lease, fee, .. } if *lease == ours => {
                self.progress.line(&format!("the rental was left early, which costs {} cr", credits(*fee)));
            }
            MarketEvent::PreemptNotice { lease, at, .. } if *lease == ours => {
                let left = duration(at.since(self.session.time()));
                self.progress.line(&format!("the machine's owner needs it back, as agreed: the job ends in {left}"));
            }
            // The machine's own warning comes at the same share.
            _ => {}
        }
    }

    /// The machine had service recorded that we refused to confirm. Closing a job for want of service objects by itself.
    async fn maybe_object(&mut self, served: Millis) {
        if !self.refused || self.objected || self.closing_ourselves || served <= self.watch.confirmed_ms() {
            return;
        }
        self.objected = true;
        match self.session.submit(vec![Action::Object { lease: self.plan.lease.id }]).await {
            Ok(_) => self.progress.line("the machine had more service recorded than you confirmed: you have objected to it"),
            Err(e) => self.progress.line(&format!("objecting to service that was not confirmed failed: {}", e.message)),
        }
    }

    /// Reads the lease afresh. A network that is away now is asked again after the next gap.
    async fn refresh(&mut self) {
        if let Ok(lease) = self.session.api.lease(&self.plan.lease.id).await {
            self.plan.lease = lease;
            if self.closing() {
                self.end_soon();
            }
        }
    }

    fn end_soon(&mut self) {
        self.deadline.get_or_insert_with(|| Instant::now() + END_WAIT);
    }

    // ---- work that is finished, time that is up --------------------------------------------------------------------

    async fn on_done(&mut self, item: Done) -> Result<Option<End>, Failure> {
        match item {
            Done::Sent(Ok(())) => {}
            // The lease may have ended meanwhile, and then its end says more.
            Done::Sent(Err(_)) if self.closing() || self.phase() == Some(Phase::Ended) || self.stopping => {}
            Done::Sent(Err(failure)) => {
                self.session.submit(vec![Action::CloseLease { lease: self.plan.lease.id, reason: EndReason::StoppedByUser }]).await?;
                return Err(failure.next("the job was closed; nothing was charged"));
            }
            Done::Checked { usage, last, answer: Ok((alive, detail)) } => {
                let verdict = self.watch.checked(alive, &detail, now_ms());
                self.act(verdict, usage, last).await;
            }
            // Not being reached is no proof of death: nothing is confirmed, and nothing held against the job.
            Done::Checked { last, answer: Err(_), .. } => self.last_settled |= last,
            Done::Confirmed { usage, last, delivered } => {
                if delivered {
                    self.watch.confirmed(&usage);
                }
                self.last_settled |= last;
            }
            Done::Answered(answer) => {
                self.asking = false;
                return Ok(self.on_answer(answer.as_deref()));
            }
            Done::Stopping(Ok(())) => {}
            Done::Stopping(Err(failure)) => {
                if !self.closing() {
                    self.progress.line(&format!("stopping the job failed: {}", failure.message));
                    self.refresh().await;
                    self.stopping = self.closing();
                    self.closing_ourselves &= self.closing();
                }
            }
        }
        Ok(None)
    }

    async fn on_wake(&mut self) -> Option<End> {
        if self.deadline.is_some_and(|d| d <= Instant::now()) {
            self.refresh().await;
            return Some(End::Over);
        }
        // The machine is away for long. If the network answers, it is the machine that is gone.
        self.away_since = Some(Instant::now());
        if self.session.api.status().await.is_ok() && !self.closing_ourselves {
            self.progress.line("the machine has not answered for two minutes: closing the job");
            self.refused = true;
            self.close(EndReason::ServiceStopped);
        }
        None
    }

    // ---- signals ---------------------------------------------------------------------------------------------------

    async fn on_signal(&mut self, signal: Signal) -> Option<End> {
        if self.stopping {
            return Some(End::Left);
        }
        let ask = signal == Signal::Interrupt && self.session.out.interactive && !self.asking;
        if !ask {
            self.stop();
            return None;
        }
        self.asking = true;
        self.progress.clear();
        let price = per_hour(self.plan.lease.rate_per_hour);
        let (out, done) = (self.session.out, self.done.clone());
        let question = format!("\n{} runs at {price}: [s]top [d]etach [c]ontinue? ", self.plan.handle);
        spawn_blocking(TaskKind::ClientFollow, move || {
            let answer = out.ask(&question);
            // Nobody listens any more after a second Ctrl-C.
            let _ = done.blocking_send(Done::Answered(answer));
        });
        None
    }

    fn on_answer(&mut self, answer: Option<&str>) -> Option<End> {
        if self.stopping {
            return None;
        }
        match answer.and_then(|a| a.chars().next()) {
            Some('s') => self.stop(),
            Some('d') => return Some(End::Detached),
            _ => {}
        }
        None
    }

    /// Asks the machine to stop the job; if it cannot be asked, the ledger.
    fn stop(&mut self) {
        self.stopping = true;
        self.asking = false;
        self.progress.step("stopping");
        let (client, session, done) = (self.client.clone(), self.session.clone(), self.done.clone());
        let lease = self.plan.lease.id;
        spawn(TaskKind::ClientFollow, async move {
            let stopped = match while_away(session.out, || client.stop(crate::commands::run::GRACE.0)).await {
                Ok(()) => Ok(()),
                Err(_) => session.submit(vec![Action::CloseLease { lease, reason: EndReason::StoppedByUser }]).await.map(|_| ()),
            };
            let _ = done.send(Done::Stopping(stopped)).await;
        });
    }

    // ---- the end ---------------------------------------------------------------------------------------------------

    fn detached(&self) -> Exit {
        let (out, handle) = (self.session.out, &self.plan.handle);
        if out.json {
            out.json(&serde_json::json!({"event": "detached", "job": handle, "order": self.plan.lease.order, "lease": self.plan.lease.id}));
        } else {
            out.data(handle);
        }
        out.note(&format!("{handle} runs on at {}, up to its cap", per_hour(self.plan.lease.rate_per_hour)));
        match self.plan.lease.tenure.watcher.as_ref().filter(|w| !self.session.is_this_device(w)) {
            Some(watcher) => out.note(&format!("{} may confirm its service:  farm watch {}", watcher.short(), self.plan.lease.id)),
            None => out.note("nobody confirms its service now: it counts unless you object"),
        }
        out.note(&format!("  farm logs -f {handle}   farm stop {handle}   farm receipt {handle}"));
        Exit::Ok
    }

    async fn conclude(&mut self, ledger: &mut mpsc::Receiver<FromLedger>, signals: &mut Signals) -> Outcome {
        if (self.refused || self.plan.to_the_end) && self.plan.lease.settlement.is_none() {
            self.await_settlement(ledger, signals).await;
        }
        let id = self.plan.lease.id;
        self.plan.lease = self.session.ask(|| self.session.api.lease(&id)).await?;
        let lease = &self.plan.lease;
        let reason = lease.reason.clone().or_else(|| self.status.as_ref().and_then(|s| s.end.clone()));
        let out = self.session.out;
        let fetched = match self.plan.out.clone() {
            Some(folder) => self.fetch(&folder).await,
            None => Ok(()),
        };
        let fetched = self.log_bad.take().map_or(fetched, Err);
        let mut receipt = Receipt::of(self.plan.handle.clone(), &self.plan.lease, self.session.is_test(), self.periods(), self.final_in());
        receipt.reason = reason.clone();
        receipt.watcher = self.session.watched_here(&self.plan.lease);
        if out.json {
            let mut value = receipt.json();
            if let Some(map) = value.as_object_mut() {
                map.insert("event".into(), "receipt".into());
            }
            out.json(&value);
        } else {
            out.note(&receipt.text(&out, false));
        }
        if let Err(failure) = fetched {
            // The job's own failure matters more to a script than ours.
            if reason.as_ref().is_none_or(|r| Exit::of(r) == Exit::Job(0)) {
                return Err(failure);
            }
            out.failure(&failure);
        }
        match reason {
            Some(reason) => Ok(Exit::of(&reason)),
            None => {
                Err(Failure::new("no-end", "the job's end could not be learned")
                    .next(format!("ask again:  farm receipt {}", self.plan.handle)))
            }
        }
    }

    async fn fetch(&mut self, folder: &std::path::Path) -> Result<(), Failure> {
        let status = self.session.ask(|| self.client.status()).await?;
        if status.started.is_none() {
            return Ok(());
        }
        if status.output_bytes.unwrap_or(0) == 0 {
            // A job that ended by itself has nothing else to be said of it.
            if matches!(status.end, Some(EndReason::Exited { .. })) && !status.detail.is_empty() {
                return Err(Failure::new("no-output", plainly(status.detail.text())).next("give the job more disk:  --disk SIZE"));
            }
            self.session.out.note("the job left nothing in $FARM_OUTPUT_DIR");
            return Ok(());
        }
        let temp = self.session.paths.data_dir.clone();
        let got = transfer::fetch(&self.client, self.session.reader()?, folder, &temp, self.plan.output_limit, &mut self.progress).await?;
        self.progress.clear();
        self.session.out.note(&format!(
            "output   {}, {} in {} (checked)",
            count(got.files, "file"),
            display_bytes(got.bytes),
            folder.display()
        ));
        Ok(())
    }

    /// Waits for the final account: objections have to be made in time, and nobody else makes them.
    async fn await_settlement(&mut self, ledger: &mut mpsc::Receiver<FromLedger>, signals: &mut Signals) {
        let p = &self.session.status.params;
        let periods = p.objection_epochs.saturating_add(p.heartbeat_grace_epochs).saturating_add(SPARE_PERIODS);
        let until = Instant::now() + Duration::from_millis(p.epoch.0.saturating_mul(periods));
        self.progress.step("waiting for the final account");
        while self.plan.lease.settlement.is_none() {
            tokio::select! {
                item = ledger.recv() => self.on_ledger(item).await,
                _ = signals.next() => break,
                () = tokio::time::sleep_until(until) => break,
            }
        }
        self.progress.clear();
    }

    fn epoch(&self, at: Timestamp) -> u64 {
        at.since(self.session.status.genesis_time).0 / self.session.status.params.epoch.0.max(1)
    }

    /// The periods that the job touched, and those with a capacity check so far.
    fn periods(&self) -> Option<Periods> {
        let status = self.status.as_ref()?;
        let started = status.started?;
        let (first, last) = (self.epoch(started), self.epoch(started.plus(status.served_ms)));
        let checked = self.checked.range(first..=last).count() as u64;
        Some(Periods { checked, all: last - first + 1 })
    }

    fn final_in(&self) -> u64 {
        final_in(self.session, &self.plan.lease)
    }
}

/// Seconds until a lease that has ended will be settled, roughly: its last period has to end, its capacity check to come in,
/// and what was not confirmed has to stand for a while.
pub(crate) fn final_in(session: &Session, lease: &LeaseView) -> u64 {
    let p = &session.status.params;
    let epoch = p.epoch.0.max(1);
    let now = session.time();
    let end = lease.closed.unwrap_or(now);
    let into = end.since(session.status.genesis_time).0 % epoch;
    let windows = if lease.confirmed_ms < lease.served_ms { p.objection_epochs } else { p.heartbeat_grace_epochs };
    let due = end.plus(Millis(epoch - into)).plus(Millis(epoch.saturating_mul(windows)));
    due.since(now).0.div_ceil(1000).max(1)
}

/// A job's own output: to our stdout and stderr, byte by byte but for what would play with a terminal.
pub(crate) fn show_frame(session: &Session, frame: &Frame) {
    let out = session.out;
    if out.json {
        let stream = if frame.stream == LogStream::Stdout { "stdout" } else { "stderr" };
        for line in lines(frame) {
            out.json(&serde_json::json!({"event": "log", "stream": stream, "text": line}));
        }
        return;
    }
    match frame.stream {
        LogStream::Stdout => out.job_output(&frame.data),
        LogStream::Stderr => out.job_errors(&frame.data),
    }
}

/// The lines of a frame, with their ends: what was written together comes together, and programs want lines.
pub(crate) fn lines(frame: &Frame) -> impl Iterator<Item = std::borrow::Cow<'_, str>> {
    frame.data.split_inclusive(|byte| *byte == b'\n').map(String::from_utf8_lossy)
}

/// Build output without what could move the cursor, colour the screen or ring the bell.
fn printable(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' && chars.next_if_eq(&'[').is_some() {
            // A control sequence ends with its first letter (or another of these).
            while chars.next().is_some_and(|c| !matches!(c, '@'..='~')) {}
        } else if !c.is_control() || c == '\t' {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn build_output_cannot_play_with_the_terminal() {
        assert_eq!(printable("\u{1b}[91mreason\u{1b}[0m\ta\u{7}b\r"), "reason\tab");
        assert_eq!(printable("\u{1b}[2J\u{1b}]0;title\u{1b}["), "]0;title");
    }
}
