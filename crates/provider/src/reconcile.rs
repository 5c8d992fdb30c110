//! Keeps this node's leases as the ledger wants them.
//!
//! Guarantees: events are subscribed to before leases are listed, so that nothing is missed; each (re)connection compares
//! everything anew; a network that is away stops no lease. Whether to take a lease is decided here, what becomes of it in
//! `lease`.

use crate::channels::public;
use crate::context::Context;
use crate::lease::{self, Event, LeaseRecord, Shared, Started, Terms};
use crate::network::NetworkError;
use crate::submit::SubmitError;
use crate::{ProviderError, pause, register};
use futures::StreamExt as _;
use pasture_api::auth;
use pasture_api::data::{HeldGpu, Phase};
use pasture_api::views::{LeaseView, LedgerEvent, NodeAddress};
use pasture_net::Endpoint;
use pasture_rt::TaskKind;
use pasture_types::audit::AuditEvent;
use pasture_types::event::Event as LedgerChange;
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::market::open_for;
use pasture_types::market_rules::{MarketAction, MarketEvent};
use pasture_types::tx::Action;
use pasture_types::{AccountId, LeaseId, Millis, Timestamp};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;

/// How long several changes of an address are waited for before they are told together.
const MOVED_PAUSE: Duration = Duration::from_secs(1);
/// First pause before connecting again; doubled up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// How often a machine with hours looks at the clock: well below the shortest notice.
const LOOK_AT_HOURS: Duration = Duration::from_secs(5);
/// How often everything is compared although no event came.
const COMPARE_EVERY: Duration = Duration::from_secs(60);

/// Notice is given so much earlier than it has to be: two looks at the clock, and the job's grace.
const NOTICE_SPARE: Millis = Millis(20_000);
/// How much later than its time a notice is acted upon: the ledger must agree that the time has come.
const NOTICE_SLACK: Millis = Millis(1_000);
/// How long a job that we end is given.
const STOP_GRACE: Millis = Millis(10_000);

/// The data plane's address as the gateway is told it, signed.
pub(crate) fn announcement(ctx: &Context, address: SocketAddr) -> NodeAddress {
    let address = match &ctx.options.endpoint {
        Some(endpoint) => endpoint.place().with_node(&ctx.node),
        None => format!("http://{address}"),
    };
    let path = NodeAddress::signed_path(&ctx.node, &address);
    let authorization = auth::authorize(&ctx.options.node_key, "PUT", &path, &ctx.node, ctx.clock.now_ms());
    let blobs = ctx.pool.as_ref().map(|pool| pool.told()).unwrap_or_default();
    NodeAddress { address, authorization, public: public::all(ctx), blobs }
}

/// Runs until shutdown. `registered`: whether the offer was seen to stand.
pub(crate) async fn run(ctx: Arc<Context>, address: SocketAddr, mut registered: bool) {
    let mut pause = FIRST_PAUSE;
    loop {
        let began = tokio::time::Instant::now();
        let outcome = ctx.cancel.guard(connection(&ctx, address, &mut registered)).await;
        ctx.counters.set_connected(false);
        match outcome {
            None => return,
            Some(Ok(())) => tracing::debug!("the event stream ended, connecting again"),
            Some(Err(error)) => tracing::warn!(error = %lease_chain(&error), "the network cannot be used, trying again"),
        }
        // A connection that held for a while was a good one.
        pause = if began.elapsed() > MAX_PAUSE { FIRST_PAUSE } else { (pause * 2).min(MAX_PAUSE) };
        if ctx.cancel.guard(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

fn lease_chain(error: &ProviderError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

async fn connection(ctx: &Arc<Context>, address: SocketAddr, registered: &mut bool) -> Result<(), ProviderError> {
    let mut events = ctx.network.events(&ctx.node).await?;
    let mut wish = ctx.pause.subscribe();
    if *registered {
        ctx.network.announce(&ctx.node, &announcement(ctx, address)).await?;
        // What was wished for while the network was away is done now.
        pause::settle_offer(ctx).await?;
    } else {
        register::ensure(ctx, address).await?;
        *registered = true;
    }
    compare(ctx).await?;
    ctx.counters.set_connected(true);
    let mut timer = tokio::time::interval(COMPARE_EVERY);
    timer.tick().await;
    let has_hours = !ctx.options.offer.windows.is_empty();
    let mut hours = tokio::time::interval(LOOK_AT_HOURS);
    let mut renew = tokio::time::interval(ctx.options.announce_every);
    renew.tick().await;
    let mut moves = ctx.options.endpoint.as_ref().map(Endpoint::changes);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => apply(ctx, event).await?,
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(()),
            },
            _ = timer.tick() => compare(ctx).await?,
            _ = hours.tick(), if has_hours || wish.borrow().is_some_and(|p| p.end_by.is_some()) => give_notice(ctx).await,
            Ok(()) = wish.changed() => {
                pause::settle_offer(ctx).await?;
                give_notice(ctx).await;
            }
            () = ctx.published.notified() => ctx.network.announce(&ctx.node, &announcement(ctx, address)).await?,
            () = changed(&mut moves) => renew.reset_after(MOVED_PAUSE),
            _ = renew.tick() => ctx.network.announce(&ctx.node, &announcement(ctx, address)).await?,
        }
    }
}

/// Returns when where this machine can be reached has changed, or whom to tell.
async fn changed(moves: &mut Option<watch::Receiver<u64>>) {
    if let Some(moves) = moves
        && moves.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

async fn apply(ctx: &Arc<Context>, event: LedgerEvent) -> Result<(), NetworkError> {
    ctx.ledger_clock.saw(event.time);
    match event.event {
        LedgerChange::LeaseMatched { lease, node, .. } if node == ctx.node => {
            if ctx.leases.get(&lease).is_none()
                && let Some(view) = ctx.network.lease(&lease).await?
            {
                consider(ctx, view).await;
            }
        }
        LedgerChange::LeaseChanged { lease, node, state, reason, .. } if node == ctx.node => {
            let known = ctx.leases.get(&lease);
            if let (Some(shared), LeaseState::Accepted) = (&known, state) {
                // The answer to our own transaction may be lost.
                shared.tell(Event::Accepted(event.time)).await;
            }
            if let (Some(shared), LeaseState::Closing | LeaseState::Closed) = (known, state) {
                let view = ctx.network.lease(&lease).await?;
                if !over(view.as_ref(), LeaseState::Closing) {
                    return Ok(());
                }
                // Closed in the moment of its acceptance, before the answer to that came: the ledger knows whether it was ours.
                if let (Some(view), false) = (&view, shared.is_accepted()) {
                    inform(ctx, &shared, view).await;
                }
                shared.tell(Event::LedgerClosed { reason, settled: state == LeaseState::Closed }).await;
            }
        }
        LedgerChange::LeaseExtended { lease, node, .. } if node == ctx.node => {
            if let (Some(shared), Some(view)) = (ctx.leases.get(&lease), ctx.network.lease(&lease).await?) {
                shared.tell(Event::Extended { max_duration: view.max_duration, escrow: view.escrow }).await;
            }
        }
        LedgerChange::LeaseSettled { lease, node, settlement, .. } if node == ctx.node => {
            if let Some(shared) = ctx.leases.get(&lease)
                && over(ctx.network.lease(&lease).await?.as_ref(), LeaseState::Closed)
            {
                tracing::info!(%lease, earned = %settlement.to_provider, "lease settled");
                shared.tell(Event::LedgerClosed { reason: None, settled: true }).await;
            }
        }
        LedgerChange::Market(MarketEvent::PreemptNotice { lease, node, at, .. }) if node == ctx.node => {
            if let Some(shared) = ctx.leases.get(&lease) {
                end_at(ctx, shared, at);
            }
        }
        LedgerChange::Audit(AuditEvent::Drawn { audit, node, .. }) if node == ctx.node => ctx.bursts.drawn(audit),
        LedgerChange::EpochStarted { epoch, randomness } => ctx.prover.started(epoch, randomness.0).await,
        _ => {}
    }
    Ok(())
}

/// Whether a lease has come that far. An event is a gateway's word, and whoever ends a job by a false one takes its pay; what is asked of the
/// ledger is proven, where somebody is trusted.
fn over(view: Option<&LeaseView>, state: LeaseState) -> bool {
    match view {
        Some(view) if view.state < state => {
            tracing::warn!(lease = %view.id, "the gateway says that a lease is over, which it is not on the ledger");
            false
        }
        _ => true,
    }
}

/// Brings both sides together: what the ledger has for this node, and what this node has.
async fn compare(ctx: &Arc<Context>) -> Result<(), NetworkError> {
    let listed = ctx.network.node_leases(&ctx.node).await?;
    let ids: BTreeSet<LeaseId> = listed.iter().map(|v| v.id).collect();
    for view in listed {
        match ctx.leases.get(&view.id) {
            None => consider(ctx, view).await,
            Some(shared) => inform(ctx, &shared, &view).await,
        }
    }
    for shared in ctx.leases.all().into_iter().filter(|l| !l.is_finished() && !ids.contains(&l.id())) {
        let view = ctx.network.lease(&shared.id()).await?;
        match view {
            Some(view) => inform(ctx, &shared, &view).await,
            None => drop(shared.tell(Event::LedgerClosed { reason: Some(EndReason::Lost), settled: true }).await),
        }
    }
    if ctx.leases.any_served() {
        ctx.prover.need(ctx.facts.epochs().of(ctx.now()));
    }
    Ok(())
}

/// Our hours, or the time that our owner gave the jobs, are nearly over: those that agreed to it are given notice, in time to be
/// gone by then. When the owner's time is over, the others are stopped.
async fn give_notice(ctx: &Arc<Context>) {
    let (now, notice) = (ctx.now(), ctx.facts.params.market.preempt_notice);
    let open = open_for(&ctx.options.offer.windows, now).unwrap_or_default();
    let end_by = ctx.pause.wish().and_then(|p| p.end_by);
    let left = end_by.map_or(open, |end| open.min(end.since(now)));
    if left.0 > notice.0.saturating_add(NOTICE_SPARE.0) {
        return;
    }
    if end_by.is_some_and(|end| end <= now) {
        stop_the_others(ctx).await;
    }
    for shared in ctx.leases.all().into_iter().filter(|l| l.is_accepted() && l.status().end.is_none()) {
        // Asked once in a process; the ledger refuses a second notice, and one for a job that did not agree.
        if shared.terms.preemptible && !shared.noticed.swap(true, Ordering::Relaxed) {
            let lease = shared.id();
            spawn_action(Arc::clone(ctx), Action::Market(MarketAction::Preempt { lease }));
        }
    }
}

/// Asks the jobs to end that did not agree to be ended early: their owner's time is over.
async fn stop_the_others(ctx: &Context) {
    for shared in ctx.leases.all().into_iter().filter(|l| l.status().end.is_none() && !l.terms.preemptible) {
        if !shared.ending.swap(true, Ordering::Relaxed) {
            let (grace, detail) = (STOP_GRACE, "the machine's owner needs it back".to_owned());
            shared.tell(Event::Stop { reason: EndReason::StoppedByProvider, grace, detail }).await;
        }
    }
}

/// Stops an account's jobs: the machine's owner turned it away.
pub(crate) async fn stop_jobs_of(ctx: &Context, account: &AccountId) {
    for shared in ctx.leases.all().into_iter().filter(|l| l.terms.account == *account && l.status().end.is_none()) {
        if !shared.ending.swap(true, Ordering::Relaxed) {
            let (grace, detail) = (STOP_GRACE, "the machine's owner serves this account no more".to_owned());
            shared.tell(Event::Stop { reason: EndReason::StoppedByProvider, grace, detail }).await;
        }
    }
}

/// Ends a job, whose notice was given, at that time.
fn end_at(ctx: &Arc<Context>, shared: Arc<Shared>, at: Timestamp) {
    shared.noticed.store(true, Ordering::Relaxed);
    if shared.ending.swap(true, Ordering::Relaxed) {
        return;
    }
    // The ledger's time is its last block's, so a little later than ours.
    let wait = Duration::from_millis(at.plus(NOTICE_SLACK).since(ctx.now()).0);
    let cancel = ctx.cancel.clone();
    let why = if ctx.pause.wish().is_some() { "the machine's owner needs it back" } else { "the machine's hours are over" };
    let work = async move {
        tokio::time::sleep(wait).await;
        let detail = why.to_owned();
        shared.tell(Event::Stop { reason: EndReason::Preempted, grace: STOP_GRACE, detail }).await;
    };
    pasture_rt::spawn(TaskKind::Lease, async move { cancel.guard(work).await });
}

/// Tells a lease that we have what the ledger says of it.
async fn inform(ctx: &Arc<Context>, shared: &Arc<Shared>, view: &LeaseView) {
    let accepted = view.accepted.filter(|_| !shared.is_accepted());
    match view.state {
        // Recorded before a crash, and not accepted yet; nothing happens if the acceptance is under way.
        LeaseState::Matched => accept(Arc::clone(ctx), Arc::clone(shared)),
        LeaseState::Accepted | LeaseState::Running => {
            if let Some(at) = accepted {
                shared.tell(Event::Accepted(at)).await;
            }
            shared.tell(Event::Extended { max_duration: view.max_duration, escrow: view.escrow }).await;
            if view.tenure.preempting {
                // When the notice was given is not known here; the whole of it is surely enough.
                end_at(ctx, Arc::clone(shared), ctx.now().plus(ctx.facts.params.market.preempt_notice));
            }
        }
        LeaseState::Closing | LeaseState::Closed => {
            if let Some(at) = accepted {
                shared.tell(Event::Accepted(at)).await;
            }
            shared.tell(Event::LedgerClosed { reason: view.reason.clone(), settled: view.state == LeaseState::Closed }).await;
        }
    }
}

/// A lease of this node that it does not know.
async fn consider(ctx: &Arc<Context>, view: LeaseView) {
    let fits = || {
        let offered = &ctx.options.offer.resources;
        ctx.leases.held().checked_add(&view.resources).is_some_and(|sum| offered.covers(&sum))
    };
    let gpus = crate::gpus::reserve(ctx, &view.resources);
    match (view.state, gpus) {
        // Keeping a copy ready for another lease takes more than this version does.
        (LeaseState::Matched, _) if ctx.tenants.is_blocked(&view.account) => {
            tracing::info!(lease = %view.id, account = %view.account, "refused: its account is blocked");
            let (ctx, lease) = (Arc::clone(ctx), view.id);
            spawn_action(ctx, Action::RejectLease { lease });
        }
        (LeaseState::Matched, gpus) if ctx.is_draining() || view.tenure.standby_of.is_some() || !fits() || gpus.is_none() => {
            let why = match (ctx.is_draining(), view.tenure.standby_of, gpus) {
                (true, ..) => "draining",
                (false, Some(_), _) => "standbys are not kept",
                (false, None, Some(_)) => "no room",
                (false, None, None) => "its GPUs are not to be had",
            };
            tracing::info!(lease = %view.id, "refused: {why}");
            let (ctx, lease) = (Arc::clone(ctx), view.id);
            spawn_action(ctx, Action::RejectLease { lease });
        }
        (LeaseState::Matched, gpus) => take(ctx, view, None, gpus.unwrap_or_default()).await,
        // Accepted before a crash that came before our record, or by a former data directory.
        (LeaseState::Accepted, Some(gpus)) if !ctx.is_draining() => {
            let at = view.accepted.unwrap_or(view.matched);
            take(ctx, view, Some(at), gpus).await;
        }
        (LeaseState::Accepted | LeaseState::Running, _) => {
            tracing::warn!(lease = %view.id, "the records of this lease are gone; it is closed");
            spawn_action(Arc::clone(ctx), Action::CloseLease { lease: view.id, reason: EndReason::StoppedByProvider });
        }
        (LeaseState::Closing | LeaseState::Closed, _) => {}
    }
}

fn spawn_action(ctx: Arc<Context>, action: Action) {
    let cancel = ctx.cancel.clone();
    let work = async move {
        if let Err(error) = ctx.submitter.submit(vec![action]).await {
            tracing::warn!(%error, "a lease could not be turned away");
        }
    };
    pasture_rt::spawn(TaskKind::Lease, async move { cancel.guard(work).await });
}

/// Records a lease, so that its client finds it, then accepts it on the ledger.
async fn take(ctx: &Arc<Context>, view: LeaseView, accepted: Option<Timestamp>, gpus: Vec<HeldGpu>) {
    let (owner, record) = (Arc::clone(ctx), LeaseRecord { accepted, gpus, ..LeaseRecord::new(Terms::from(&view)) });
    let made = pasture_rt::spawn_blocking(TaskKind::Reconciler, move || lease::spawn(&owner, record, Started::New)).join().await;
    let shared = match made {
        Some(Ok(shared)) => shared,
        Some(Err(error)) => {
            tracing::error!(%error, lease = %view.id, "the lease cannot be recorded, so it is refused");
            spawn_action(Arc::clone(ctx), Action::RejectLease { lease: view.id });
            return;
        }
        None => return,
    };
    if accepted.is_none() {
        accept(Arc::clone(ctx), shared);
    }
}

/// Accepts a recorded lease on the ledger, once.
fn accept(ctx: Arc<Context>, shared: Arc<Shared>) {
    if shared.accepting.swap(true, Ordering::Relaxed) {
        return;
    }
    let cancel = ctx.cancel.clone();
    let work = async move {
        let lease = shared.id();
        ctx.failpoints.hit("provider.accept.before_submit");
        let sent = ctx.submitter.submit(vec![Action::AcceptLease { lease }]).await;
        ctx.failpoints.hit("provider.accept.after_submit");
        let event = match sent {
            Ok(result) => Event::Accepted(result.time),
            Err(SubmitError::Cancelled) => return,
            Err(error) => match ctx.network.lease(&lease).await {
                Ok(Some(LeaseView { accepted: Some(at), .. })) => Event::Accepted(at),
                // It may still be taken, or lapse: the ledger will say so, and nothing is forgotten before.
                Err(_) | Ok(Some(LeaseView { state: LeaseState::Matched, .. })) => {
                    tracing::info!(%error, %lease, "whether the lease was accepted is not known yet");
                    shared.accepting.store(false, Ordering::Relaxed);
                    return;
                }
                Ok(_) => {
                    tracing::info!(%error, %lease, "the lease was not accepted");
                    Event::NotAccepted
                }
            },
        };
        shared.tell(event).await;
    };
    pasture_rt::spawn(TaskKind::Lease, async move { cancel.guard(work).await });
}

/// Asks all leases to end, and says when they have.
pub(crate) async fn stop_all(ctx: &Context) {
    for shared in ctx.leases.all() {
        let (grace, detail) = (STOP_GRACE, "the provider is shutting down".to_owned());
        shared.tell(Event::Stop { reason: EndReason::StoppedByProvider, grace, detail }).await;
    }
    for shared in ctx.leases.all() {
        let mut view = shared.view.subscribe();
        // A match that was never accepted has nothing to wait for.
        let _ = view.wait_for(|v| v.finished || (!v.accepted && v.status.phase != Phase::Ended)).await;
    }
}
