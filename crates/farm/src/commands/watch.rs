//! `farm watch`: confirms the service of somebody else's job, for as long as it runs; `farm watcher`: names who may.
//!
//! Guarantees: a watcher believes what a user at the terminal would (see [`crate::job`]), and asks the machine to make the order's
//! check in each period; what it did not see confirmed it does not sign. After two failed checks in a row it brings its evidence,
//! where the order named it. It sees neither inputs nor logs.

use crate::args::{WatchArgs, WatcherArgs};
use crate::commands::grants::{let_watch, unless_overtaken};
use crate::commands::run::WATCH_LINGERS;
use crate::exit::{Exit, Failure, Outcome};
use crate::feeds::{self, FromLedger, FromNode, Signals};
use crate::job::{Verdict, Watch};
use crate::patience::Pause;
use crate::render::number::duration;
use crate::session::{App, Session, now_ms};
use crate::words::{self, plainly};
use pasture_api::LeaseView;
use pasture_api::client::{EventFilter, LeaseClient};
use pasture_api::data::{CountersignRequest, NodeEvent};
use pasture_types::event::Event;
use pasture_types::keys::{Signature, SignatureText};
use pasture_types::lease::{LeaseState, Usage};
use pasture_types::service::{FailedCheck, ServiceAction};
use pasture_types::tx::Action;
use pasture_types::{AccountId, LeaseId, Millis, NodeId, PublicKey, SigningKey};

/// Attempts to deliver a confirmation: the machine waits two seconds for it.
const CONFIRM_ATTEMPTS: u32 = 4;

/// Whether a machine signed a statement of service.
pub(crate) fn is_signed(usage: &Usage, node: &NodeId, signature: &SignatureText) -> bool {
    Signature::try_from(signature).is_ok_and(|s| PublicKey::from(*node).verify(&usage.digest(), &s).is_ok())
}

/// Signs a statement of service and hands it to the machine; whether that took it. `account`: the watcher's.
pub(crate) async fn countersign(client: &LeaseClient, key: &SigningKey, account: Option<AccountId>, usage: &Usage) -> bool {
    let signature = SignatureText::from(&key.sign(&usage.counter_digest()));
    let request = CountersignRequest { usage: usage.clone(), account, key: key.public().to_string(), signature };
    let mut pause = Pause::new();
    for _ in 0..CONFIRM_ATTEMPTS {
        match client.countersign(&request).await {
            Ok(()) => return true,
            Err(e) if e.is_transient() => pause.wait().await,
            Err(_) => return false,
        }
    }
    false
}

/// `farm watcher`.
pub(crate) async fn name(app: &App, args: &WatcherArgs) -> Outcome {
    let watcher = args.account.as_deref().map(str::parse::<AccountId>).transpose().map_err(|e| Failure::usage(e.to_string()))?;
    let session = Session::open(app).await?;
    let job = session.job(&args.job).await?;
    let lease = job.lease()?.id;
    let view = job.lease()?;
    unless_overtaken(watcher.is_some(), async || {
        let mut actions = vec![Action::Service(Box::new(ServiceAction::Watch { lease, watcher }))];
        if let Some(watcher) = watcher {
            let life = Millis(view.max_duration.0.saturating_add(WATCH_LINGERS.0));
            actions.extend(let_watch(&session, watcher, view.asset, view.escrow, life).await?);
        }
        session.submit(actions).await
    })
    .await?;
    let value = serde_json::json!({"job": job.handle, "lease": lease, "watcher": watcher});
    session.out.either(&value, || match watcher {
        Some(watcher) => format!("{} may confirm the service of {} now:  farm watch {lease}", watcher.short(), job.handle),
        None => format!("nobody confirms the service of {} in your place any more", job.handle),
    });
    Ok(Exit::Ok)
}

/// `farm watch`.
pub(crate) async fn run(app: &App, args: &WatchArgs) -> Outcome {
    let id: LeaseId = args.lease.parse().map_err(|e: pasture_types::ids::ParseIdError| Failure::usage(e.to_string()))?;
    let session = Session::open(app).await?.by_owner("somebody's job is watched with your account's own key")?;
    let filter = EventFilter { lease: Some(id), ..EventFilter::default() };
    let mut ledger = feeds::ledger(&session, filter).await?;
    let lease = session.ask(|| session.api.lease(&id)).await?;
    let ours = session.account();
    if lease.tenure.watcher != Some(ours) {
        return Err(Failure::new("not-the-watcher", format!("{} is not watched by your account {ours}", id.short()))
            .next("its user names you:  farm watcher JOB ACCOUNT  (or farm run --watch ACCOUNT)"));
    }
    let Some(accepted) = lease.accepted.filter(|_| is_live(&lease)) else {
        return Err(Failure::new("not-running", format!("{} does not run, so there is nothing to confirm", id.short())));
    };
    let client = session.lease_client(&lease);
    let mut node = feeds::node(&client);
    let mut signals = Signals::listen()?;
    let watch = Watch::joining(id, lease.generation, lease.alive, accepted.0, now_ms());
    let machine = words::machine(&lease.provider_name, &lease.region);
    session.out.note(&format!("watching {} on {machine} until it ends; Ctrl-C ends the watching, not the job", id.short()));
    let mut watcher = Watcher { session: &session, client, lease, watch, reported: false };
    loop {
        tokio::select! {
            item = node.recv() => match item {
                Some(FromNode::Event(event)) => watcher.on_node(event).await,
                Some(FromNode::Away(_)) => {}
                None => return Err(Failure::new("internal", "the machine's events are not followed any more")),
            },
            item = ledger.recv() => match item {
                Some(item) => if watcher.is_over(item).await? { break },
                None => return Err(Failure::new("broken-connection", "the connection to the network is gone")),
            },
            _ = signals.next() => break,
        }
    }
    let confirmed = watcher.watch.confirmed_ms();
    let value = serde_json::json!({"event": "watched", "lease": id, "confirmed_ms": confirmed, "reported": watcher.reported});
    if session.out.json {
        session.out.json(&value);
    } else {
        session.out.note(&format!("you confirmed {} of service", duration(confirmed)));
    }
    Ok(Exit::Ok)
}

const fn is_live(lease: &LeaseView) -> bool {
    matches!(lease.state, LeaseState::Accepted | LeaseState::Running)
}

struct Watcher<'a> {
    session: &'a Session,
    client: LeaseClient,
    lease: LeaseView,
    watch: Watch,
    /// Our evidence is on the ledger.
    reported: bool,
}

impl Watcher<'_> {
    /// Whether the lease has ended, or somebody else watches it now.
    async fn is_over(&mut self, item: FromLedger) -> Result<bool, Failure> {
        if let FromLedger::Event(event) = &item
            && !matches!(event.event, Event::LeaseChanged { .. } | Event::LeaseSettled { .. } | Event::Service(_))
        {
            return Ok(false);
        }
        let id = self.lease.id;
        self.lease = self.session.ask(|| self.session.api.lease(&id)).await?;
        if self.lease.tenure.watcher != Some(self.session.account()) {
            self.session.out.note("the user has named somebody else, or nobody: you watch it no more");
            return Ok(true);
        }
        // A lease that is closing still has its last statement to be confirmed.
        Ok(self.lease.state == LeaseState::Closed)
    }

    async fn on_node(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::Status { status } => self.watch.on_phase(status.phase, now_ms()),
            NodeEvent::Usage { usage, node_signature, last } => {
                if is_signed(&usage, &self.lease.node, &node_signature) {
                    let verdict = self.judge(&usage, last).await;
                    self.act(verdict, &usage).await;
                }
            }
            NodeEvent::Output { .. } | NodeEvent::Cap { .. } => {}
        }
    }

    /// Whoever watches sees no log: the machine is asked whatever the check, but for the last statement.
    async fn judge(&mut self, usage: &Usage, last: bool) -> Verdict {
        // A log that we do not see would count as silent.
        self.watch.on_output(now_ms());
        match self.watch.on_usage(usage, last, now_ms()) {
            Verdict::Confirm if last => Verdict::Confirm,
            Verdict::Confirm | Verdict::Ask => match self.client.alive().await {
                Ok(answer) => self.watch.checked(answer.alive, &answer.detail, now_ms()),
                // Not being reached is no proof of death: nothing is confirmed, and nothing held against the job.
                Err(_) => Verdict::Ask,
            },
            refused @ Verdict::Refuse(_) => refused,
        }
    }

    async fn act(&mut self, verdict: Verdict, usage: &Usage) {
        match verdict {
            Verdict::Ask => {}
            Verdict::Confirm => {
                if countersign(&self.client, &self.session.key, Some(self.session.account()), usage).await {
                    self.watch.confirmed(usage);
                    self.session.out.note(&format!("confirmed {}", duration(usage.served_ms)));
                }
            }
            Verdict::Refuse(why) => {
                self.session.out.note(&format!("not confirmed: {}", plainly(&why)));
                if self.watch.give_up() && !self.reported {
                    self.report(usage.epoch).await;
                }
            }
        }
    }

    /// Brings the evidence. Only a watcher that the order named can: a refusal is said and not repeated.
    async fn report(&mut self, epoch: u64) {
        self.reported = true;
        let report = FailedCheck { lease: self.lease.id, generation: self.lease.generation, epoch, check: self.lease.alive };
        let (key, signature) = (self.session.key.public(), self.session.key.sign(&report.digest()));
        match self.session.submit(vec![Action::Service(Box::new(ServiceAction::ReportFailure { report, key, signature }))]).await {
            Ok(_) => self.session.out.note("two checks in a row failed: your evidence is on the ledger"),
            Err(e) => self.session.out.note(&format!("two checks in a row failed, but the evidence was not taken: {}", e.message)),
        }
    }
}
