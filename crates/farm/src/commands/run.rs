//! `farm run`: from a folder or an image to a job that is followed to its receipt.
//!
//! ```text
//!  spec ─▶ look at the folder ─▶ pack ─▶ quote (explain, balance) ─▶ order ─▶ match ─▶ follow
//! ```
//! Guarantees: whatever is wrong with what the user wrote is said before anything leaves this machine, and whatever it will
//! cost at most before anything is billed. Events are followed from before the order on, so none is missed.

use crate::args::RunArgs;
use crate::backend;
use crate::commands::explain::{explanation, quote};
use crate::commands::grants::{let_watch, unless_overtaken};
use crate::commands::{dev, forward, init};
use crate::exit::{Exit, Failure, Outcome};
use crate::feeds::{self, FromLedger, Signals};
use crate::follow::{self, Plan as FollowPlan};
use crate::handles::{JobRecord, forget, remember};
use crate::pack::{MAX_CONTEXT_BYTES, NO_DOCKERFILE, Packed, Plan};
use crate::public;
use crate::render::Progress;
use crate::render::number::{credits, per_hour};
use crate::secrets;
use crate::session::{App, Session, now_ms, random};
use crate::spec_file::{self, Asked};
use crate::volumes;
use crate::words::{self, machine};
use pasture_api::client::EventFilter;
use pasture_api::{LeaseView, OrderState, OrderView};
use pasture_rt::{Shutdown, TaskKind, spawn, spawn_blocking};
use pasture_store::sealed::ReaderKey;
use pasture_types::event::Event;
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::market::OrderTerms;
use pasture_types::spec::{CheckedSource, CheckedSpec, MAX_MANIFEST_BYTES, MAX_PORTS, Manifest, Port, Source};
use pasture_types::tx::{Action, order_id};
use pasture_types::{Amount, BlobHash, LeaseId, Millis, OrderId};
use tokio::sync::{mpsc, oneshot};

/// How long a job is given between being asked to end and being killed.
pub(crate) const GRACE: Millis = Millis(10_000);

/// How much longer than its job a watcher's right to confirm lasts: for waiting, and for the last word.
pub(crate) const WATCH_LINGERS: Millis = Millis(24 * 3_600_000);

/// Runs the command.
pub(crate) async fn run(app: &App, args: &RunArgs) -> Outcome {
    let mut asked = spec_file::ask(&args.spec, &args.command).await?;
    let doors = args.ports.publish.iter().map(|text| forward::Wanted::parse(text)).collect::<Result<Vec<_>, _>>()?;
    // What is opened here is a port of the job, so that others of its user's programs find it too.
    for port in doors.iter().filter_map(forward::Wanted::number) {
        if asked.spec.ports.len() < MAX_PORTS && !asked.spec.ports.iter().any(|known| known.port == port) {
            asked.spec.ports.push(Port { port, name: None });
        }
    }
    let doors = forward::listen(&doors, &asked.spec.ports).await?;
    // A secret that is missing is said before anything else.
    secrets::collect(&app.vault()?, &asked.spec.secrets)?;
    public::check(&app.vault()?, &asked.spec.public, &asked.name)?;
    let plan = look(app, &asked)?;
    match Session::open(app).await {
        Ok(session) => Box::pin(go(&session, args, asked, plan, doors, false)).await,
        Err(failure) if failure.is_unreachable() && app.api_url.is_none() && !args.detach && wants_local(app, &failure) => {
            Box::pin(run_locally(app, args, asked, plan, doors)).await
        }
        Err(failure) => Err(failure),
    }
}

/// Looks at the folder, if one is built.
pub(crate) fn look(app: &App, asked: &Asked) -> Result<Option<Plan>, Failure> {
    let (CheckedSource::Build { dockerfile, .. }, Some(folder)) = (&asked.spec.source, &asked.folder) else { return Ok(None) };
    match Plan::scan(folder, dockerfile, MAX_CONTEXT_BYTES) {
        Err(failure) if failure.code == NO_DOCKERFILE && dockerfile == "Dockerfile" && init::offer(app, folder, &failure)? => {
            Plan::scan(folder, dockerfile, MAX_CONTEXT_BYTES).map(Some)
        }
        plan => plan.map(Some),
    }
}

/// Nobody answers: says so, and on a terminal offers to start a network for this run.
fn wants_local(app: &App, failure: &Failure) -> bool {
    if app.out.interactive && !app.out.json {
        app.out.failure(failure);
    }
    let answer = app.out.ask("Start a local network for this run? It ends with it. [y/N] ");
    matches!(answer.as_deref(), Some("y" | "yes"))
}

/// A network of our own around one run.
async fn run_locally(app: &App, args: &RunArgs, asked: Asked, plan: Option<Plan>, doors: Vec<forward::Door>) -> Outcome {
    let (folder, options) = dev::passing(app)?;
    let stop = Shutdown::new();
    let (is_ready, ready) = oneshot::channel();
    let network = spawn(TaskKind::Server, backend::dev(options, stop.token(), is_ready));
    let Ok(ready) = ready.await else {
        let why = network.join().await.and_then(Result::err);
        return Err(why.unwrap_or_else(|| Failure::new("node", "the local network did not start")));
    };
    let outcome = match Session::open(&app.at(&ready.api_url)).await {
        Ok(session) => go(&session, args, asked, plan, doors, true).await,
        Err(failure) => Err(failure),
    };
    stop.trigger();
    if let Some(Err(failure)) = network.join().await {
        app.out.failure(&failure);
    }
    drop(folder);
    outcome
}

/// Everything once there is a network. `to_the_end`: wait for the final receipt, since the network ends with us.
async fn go(
    session: &Session,
    args: &RunArgs,
    mut asked: Asked,
    plan: Option<Plan>,
    doors: Vec<forward::Door>,
    to_the_end: bool,
) -> Outcome {
    let out = session.out;
    session.ready().await?;
    let volumes_at = volumes::place(session, &mut asked.spec).await?;
    let mut progress = Progress::new(out);
    let packed = match plan {
        Some(plan) => Some(pack(session, plan, &mut progress).await?),
        None => None,
    };
    let manifest = manifest(&asked, packed.as_ref().map(|p| (p.hash, p.bytes)), &session.reader()?)?;
    let secrets = secrets::collect(&session.vault()?, &asked.spec.secrets)?;
    let bytes = manifest.to_bytes();
    if bytes.len() > MAX_MANIFEST_BYTES {
        return Err(Failure::new("spec", format!("the job's description has {} bytes; at most {MAX_MANIFEST_BYTES} fit", bytes.len()))
            .next("pass less in the environment and arguments; put files into the image"));
    }
    progress.step("looking for a machine");
    let account = session.ensure_account().await?;
    let terms = quote(session, &asked.spec, manifest.hash(), account.balance).await.map_err(|f| volumes::explained(f, volumes_at))?;
    let mut events = feeds::ledger(session, EventFilter { account: Some(session.account()), ..EventFilter::default() }).await?;
    // Until here a signal ends us at once, and nothing is lost.
    let mut signals = Signals::listen()?;
    let order = place(session, &asked, &terms).await?;
    let handle = session.recorded_names().handle(&order);
    let matched = tokio::select! {
        matched = matching(session, &order, &terms, &mut events, &mut progress) => matched,
        _ = signals.next() => tokio::select! {
            given_up = give_up(session, &order) => given_up,
            _ = signals.next() => Err(Failure::new("left", "left without cancelling the order").next(format!("cancel it:  farm stop {handle}"))),
        },
    }?;
    let Some(lease) = matched else {
        progress.clear();
        out.note(&format!("✓ {handle} was cancelled before it began; nothing was charged"));
        return Ok(Exit::Job(130));
    };
    drop(events);
    progress.clear();
    forward::announce(out, &handle, &doors);
    let _open = forward::open(out, &handle, &session.lease_client(&lease), doors);
    volumes::note(session, lease.node, &asked.spec.volumes);
    let public = public::signed(session, &asked.spec.public, lease.id, &asked.name)?;
    // That the gateway does not say where they lead is no reason to keep the job waiting.
    for line in public::shown(session, &public).await.unwrap_or_default().iter().flat_map(public::Shown::lines) {
        out.note(&line);
    }
    let plan = FollowPlan {
        handle,
        lease,
        manifest: bytes,
        secrets,
        public,
        packed,
        detach: args.detach,
        out: args.out.clone(),
        output_limit: asked.spec.resources.disk_bytes,
        to_the_end,
    };
    follow::follow(session, plan, progress, signals).await
}

/// Packs a folder and says what travels.
pub(crate) async fn pack(session: &Session, plan: Plan, progress: &mut Progress) -> Result<Packed, Failure> {
    for line in plan.summary() {
        session.out.note(&line);
    }
    progress.step("packing the folder");
    let temp = session.paths.data_dir.clone();
    let packing = spawn_blocking(TaskKind::ClientFollow, move || plan.pack(&temp));
    packing.join().await.unwrap_or_else(|| Err(Failure::new("io", "packing the folder failed")))
}

/// The description that a machine gets. `context`: hash and size of the packed folder, if one is built.
/// `reader`: whose key opens its log and what it leaves.
pub(crate) fn manifest(asked: &Asked, context: Option<(BlobHash, u64)>, reader: &ReaderKey) -> Result<Manifest, Failure> {
    let spec = asked.spec.clone();
    let source = match (spec.source, context) {
        (CheckedSource::Image(image), _) => Source::Image(image),
        (CheckedSource::Build { dockerfile, args, timeout, .. }, Some((context, context_bytes))) => {
            Source::Build { context, context_bytes, dockerfile, args, timeout }
        }
        (CheckedSource::Build { .. }, None) => return Err(Failure::new("spec", "there is no folder to build")),
    };
    Ok(Manifest {
        salt: random()?,
        name: asked.name.clone(),
        kind: spec.kind,
        source,
        command: spec.command,
        args: spec.args,
        env: spec.env,
        resources: spec.resources,
        pids: spec.pids,
        egress: spec.egress,
        alive: spec.alive,
        grace: GRACE,
        ports: spec.ports,
        life: spec.life,
        volumes: spec.volumes,
        secrets: spec.secrets,
        reader: reader.public(),
    })
}

/// Puts the order on the ledger; our record of it is written first, so that its name survives whatever happens then.
async fn place(session: &Session, asked: &Asked, terms: &OrderTerms) -> Result<OrderId, Failure> {
    unless_overtaken(terms.watcher.is_some(), async || place_once(session, asked, terms).await).await
}

async fn place_once(session: &Session, asked: &Asked, terms: &OrderTerms) -> Result<OrderId, Failure> {
    let mut placed = None;
    let record = |spec: &CheckedSpec, order| JobRecord {
        order,
        name: asked.name.clone(),
        network: session.status.zone,
        created_ms: now_ms(),
        disk_bytes: spec.resources.disk_bytes,
        part_of: None,
    };
    // The order comes first: its id is that of the transaction's first action.
    let mut actions = vec![Action::PlaceOrder { terms: Box::new(terms.clone()) }];
    if let Some(watcher) = terms.watcher {
        let life = Millis(terms.max_duration.0.saturating_add(WATCH_LINGERS.0));
        actions.extend(let_watch(session, watcher, terms.asset, terms.budget, life).await?);
    }
    let sent = session
        .submit_with(actions, |tx| {
            let order = order_id(&tx, 0);
            // Signed anew after a lost race: the one before was not taken.
            if let Some(before) = placed.replace(order) {
                forget(&session.paths.jobs(), &before);
            }
            remember(&session.paths.jobs(), &record(&asked.spec, order))
        })
        .await;
    if let (Err(failure), Some(order)) = (&sent, &placed)
        && failure.is_refusal()
    {
        forget(&session.paths.jobs(), order);
    }
    sent?;
    let order = placed.ok_or_else(|| Failure::new("internal", "the order has no id"))?;
    // After a broken connection "final" does not say that it took effect.
    session.ask(|| session.api.order(&order)).await?;
    Ok(order)
}

/// Waits until a machine has taken the order.
async fn matching(
    session: &Session,
    order: &OrderId,
    terms: &OrderTerms,
    events: &mut mpsc::Receiver<FromLedger>,
    progress: &mut Progress,
) -> Result<Option<LeaseView>, Failure> {
    progress.step("matching");
    let mut shown: Option<LeaseId> = None;
    loop {
        let news = match events.recv().await {
            None => return Err(Failure::new("broken-connection", "the connection to the network is gone")),
            Some(FromLedger::Again) => None,
            Some(FromLedger::Event(e)) => match e.event {
                Event::LeaseMatched { lease, order: of, .. } if of == *order => Some(lease),
                Event::LeaseChanged { lease, state: LeaseState::Accepted, .. } if shown == Some(lease) => Some(lease),
                Event::OrderEnded { order: of, .. } if of == *order => return nobody(session, terms).await,
                _ => continue,
            },
        };
        // The order itself says where it is: after a gap, and because not each match of it is the job's.
        let lease = match whereabouts(&session.ask(|| session.api.order(order)).await?, news) {
            Whereabouts::On(lease) => lease,
            Whereabouts::Ended => return nobody(session, terms).await,
            Whereabouts::Nothing => continue,
        };
        let lease = session.ask(|| session.api.lease(&lease)).await?;
        if shown.replace(lease.id) != Some(lease.id) {
            announce(session, &lease, progress).await;
        }
        match (&lease.state, &lease.reason) {
            (LeaseState::Accepted | LeaseState::Running, _) => return Ok(Some(lease)),
            // Ended before we looked: following it shows how.
            (LeaseState::Closing | LeaseState::Closed, Some(reason)) if *reason != EndReason::Rejected => return Ok(Some(lease)),
            _ => {}
        }
    }
}

/// Where an order is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whereabouts {
    /// This lease is the job's.
    On(LeaseId),
    /// Nobody takes it any more.
    Ended,
    /// Nothing that concerns the job has happened.
    Nothing,
}

/// What a match of an order means: a standby's lease is of the same order, and is not the job's. `matched`: the lease that the
/// news is of; nothing after a gap.
fn whereabouts(order: &OrderView, matched: Option<LeaseId>) -> Whereabouts {
    match (order.state, order.lease) {
        (OrderState::Expired | OrderState::Cancelled, _) => Whereabouts::Ended,
        (OrderState::Open | OrderState::Matched, Some(lease)) if matched.is_none_or(|m| m == lease) => Whereabouts::On(lease),
        _ => Whereabouts::Nothing,
    }
}

/// Machine, region, price, and what it costs at most: before anything is billed.
async fn announce(session: &Session, lease: &LeaseView, progress: &Progress) {
    let cpu = session.api.node(&lease.node).await.map(|n| n.cpu_model).unwrap_or_default();
    let cpu = if cpu.is_empty() { String::new() } else { format!(" · {cpu}") };
    let test = if session.is_test() { " (test credits, no value)" } else { "" };
    progress.line(&format!("machine  {}{cpu}", machine(&lease.provider_name, &lease.region)));
    progress.line(&format!("price    {}, at most {} cr{test}", per_hour(lease.rate_per_hour), credits(lease.escrow)));
    if let Some(term) = words::term(&lease.tenure.term) {
        progress.line(&format!("term     {term}"));
    }
    if session.out.json {
        session.out.json(&serde_json::json!({
            "event": "matched", "lease": lease.id, "order": lease.order, "node": lease.node, "provider": lease.provider_name,
            "region": lease.region, "rate_per_hour": lease.rate_per_hour, "at_most": lease.escrow,
        }));
    }
}

async fn nobody(session: &Session, terms: &OrderTerms) -> Result<Option<LeaseView>, Failure> {
    let view = session.ask(|| session.api.explain(terms)).await?;
    let failure = Failure::new("nobody", "nobody took the job in time; nothing was charged");
    if view.suitable > 0 {
        return Err(failure.next("the machines that could were busy or away: try again in a moment"));
    }
    let mut failure = Failure { message: format!("{}\n{}", failure.message, explanation(&view)), ..failure };
    failure.next.extend(view.relaxations.iter().map(words::way_out));
    Err(failure)
}

/// The user changed their mind before the job began.
async fn give_up(session: &Session, order: &OrderId) -> Result<Option<LeaseView>, Failure> {
    if session.submit(vec![Action::CancelOrder { order: *order }]).await.is_ok() {
        return Ok(None);
    }
    // A machine was drawn in the meantime.
    if let Some(lease) = session.ask(|| session.api.order(order)).await?.lease {
        session.submit(vec![Action::CloseLease { lease, reason: EndReason::StoppedByUser }]).await?;
    }
    Ok(None)
}

/// Rounds a price up to what people write: four decimals.
pub(crate) fn round_up(amount: Amount) -> Amount {
    const UNIT: u128 = 100_000;
    Amount(amount.0.div_ceil(UNIT).saturating_mul(UNIT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::{AccountId, Resources, Timestamp};

    #[test]
    fn a_standbys_match_is_not_taken_for_the_jobs() {
        let (job, standby) = (LeaseId([1; 32]), LeaseId([2; 32]));
        let order = |state, lease| OrderView {
            id: OrderId([3; 32]),
            account: AccountId([4; 32]),
            state,
            placed: Timestamp(0),
            expires: Timestamp(1),
            resources: Resources::default(),
            lease,
        };
        let matched = order(OrderState::Matched, Some(job));
        assert_eq!(whereabouts(&matched, Some(job)), Whereabouts::On(job));
        assert_eq!(whereabouts(&matched, Some(standby)), Whereabouts::Nothing);
        assert_eq!(whereabouts(&matched, None), Whereabouts::On(job), "after a gap the order says it");
        assert_eq!(whereabouts(&order(OrderState::Open, None), None), Whereabouts::Nothing);
        assert_eq!(whereabouts(&order(OrderState::Open, Some(job)), Some(job)), Whereabouts::On(job));
        assert_eq!(whereabouts(&order(OrderState::Expired, None), Some(job)), Whereabouts::Ended);
    }
}
