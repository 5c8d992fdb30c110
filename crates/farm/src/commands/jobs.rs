//! What can be asked about jobs, and of them: `ps`, `status`, `logs`, `stop`, `receipt`, `extend`.
//!
//! Guarantees: any beginning of a job's name is enough; what the ledger knows is the ledger's, what only the machine knows
//! (its phase, its log) is asked of the machine and missing when it does not answer.

use crate::args::{ExtendArgs, LogsArgs, PsArgs, ReceiptArgs, StopArgs};
use crate::backend::RecordKind;
use crate::commands::{groups, tenure};
use crate::deploy::group;
use crate::exit::{Exit, Failure, Outcome};
use crate::feeds::{self, FromLedger, FromLog};
use crate::follow::{final_in, show_frame};
use crate::patience::while_away;
use crate::public;
use crate::receipt::Receipt;
use crate::render::number::{credits, duration, per_hour};
use crate::render::{Progress, Table};
use crate::sealed::CUT;
use crate::session::{App, Job, Session};
use crate::verify::{Evidence, checker, with_evidence};
use crate::watching::{View, show};
use crate::words;
use futures::StreamExt as _;
use futures::stream;
use pasture_api::client::EventFilter;
use pasture_api::data::{HeldGpu, LeaseStatus, Phase};
use pasture_api::{JobView, LeaseView, OrderState};
use pasture_net::Path;
use pasture_types::event::{ConfirmedBy, Event};
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::market::Term;
use pasture_types::resources::display_bytes;
use pasture_types::spec::parse_duration;
use pasture_types::tx::Action;
use pasture_types::{Amount, Millis, Timestamp};
use std::time::Duration;

/// Jobs that ended longer ago are left out of the list unless asked for.
const RECENT: Millis = Millis(24 * 3_600_000);

/// How long a machine may take to say what it is doing.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// Machines that are asked at once: some that are away must not hold up a list, and a gateway has a limit of its own.
const ASKED_AT_ONCE: usize = 16;

pub(crate) fn cost(lease: &LeaseView) -> Amount {
    match &lease.settlement {
        Some(s) => s.charged,
        None => lease.rate_per_hour.per_hour_for(lease.served_ms.0).unwrap_or(lease.escrow).min(lease.escrow),
    }
}

/// What the machine of an open lease says; nothing when it does not answer at once.
pub(crate) async fn live(session: &Session, lease: Option<&LeaseView>) -> Option<LeaseStatus> {
    told(session, lease.filter(|l| matches!(l.state, LeaseState::Accepted | LeaseState::Running))?).await
}

/// What the machine of a lease says; nothing when it does not answer at once.
async fn told(session: &Session, lease: &LeaseView) -> Option<LeaseStatus> {
    tokio::time::timeout(ANSWER_WAIT, session.lease_client(lease).status()).await.ok()?.ok()
}

/// `farm ps`.
pub(crate) async fn ps(app: &App, args: &PsArgs) -> Outcome {
    let session = Session::open(app).await?;
    show(session.out, args.watch, async || {
        let view = list(&session, args.all).await?;
        if view.text.is_empty() && !args.watch && !session.out.json {
            session.out.note("no jobs; run one:  farm run .");
        }
        Ok(view)
    })
    .await
}

/// Our jobs.
async fn list(session: &Session, all: bool) -> Result<View, Failure> {
    let (jobs, names) = session.jobs().await?;
    let now = session.time();
    let recent = |j: &&JobView| match &j.lease {
        Some(lease) => lease.closed.is_none_or(|t| now.since(t) < RECENT),
        None => j.order.state == OrderState::Open || now.since(j.order.placed) < RECENT,
    };
    let asked = stream::iter(jobs.iter().filter(|j| all || recent(j)));
    let look = async |job: &JobView| live(session, job.lease.as_ref()).await.map(|s| (s.phase, s.gpus));
    let seen: Vec<(&JobView, _)> = asked.map(async |job| (job, look(job).await)).buffered(ASKED_AT_ONCE).collect().await;
    fn state(job: &JobView, seen: Option<&(Phase, Vec<HeldGpu>)>) -> &'static str {
        words::state(job, seen.map(|(phase, _)| *phase))
    }
    let value = {
        let one = |(job, seen): &(&JobView, Option<(Phase, Vec<HeldGpu>)>)| {
            let (handle, part_of) = (names.handle(&job.order.id), names.part_of(&job.order.id));
            let gpus = seen.as_ref().map_or(&[][..], |(_, gpus)| gpus);
            let state = state(job, seen.as_ref());
            serde_json::json!({"job": handle, "state": state, "deployment": part_of, "order": job.order, "lease": job.lease, "gpus": gpus})
        };
        serde_json::Value::Array(seen.iter().map(one).collect())
    };
    let shown: Vec<(&JobView, &str)> = seen.iter().map(|(job, seen)| (*job, state(job, seen.as_ref()))).collect();
    let mut table = Table::new(&["JOB", "STATE", "MACHINE", "SERVED", "CHARGED", "AGE"]);
    let mut group = None;
    for (job, state) in groups::together(&shown, &names) {
        let part_of = names.part_of(&job.order.id);
        if let Some(name) = part_of.filter(|_| group != part_of) {
            table.row(groups::headline(&shown, &names, name));
        }
        group = part_of;
        let indent = if part_of.is_some() { "  " } else { "" };
        let of = |text: &dyn Fn(&LeaseView) -> String| job.lease.as_ref().map_or_else(|| "-".into(), text);
        table.row([
            format!("{indent}{}", names.handle(&job.order.id)),
            state.into(),
            of(&|l| words::machine(&l.provider_name, &l.region)),
            of(&|l| duration(l.served_ms)),
            of(&|l| format!("{} cr", credits(cost(l)))),
            duration(now.since(job.order.placed)),
        ]);
    }
    let text = if shown.is_empty() { String::new() } else { table.text() };
    Ok(View { value, text, over: false })
}

/// `farm status`.
pub(crate) async fn status(app: &App, job: &str, watch: bool) -> Outcome {
    let session = Session::open(app).await?;
    show(session.out, watch, async || match group::find(&session, job)? {
        Some(group) => groups::status(&session, &group).await,
        None => one(app, &session, job).await,
    })
    .await
}

/// What is known of one job.
async fn one(app: &App, session: &Session, job: &str) -> Result<View, Failure> {
    let mut job = session.job(job).await?;
    let evidence = proven(app, session, &mut job).await?;
    // The machine keeps what happened for a week after the end.
    let said = match job.lease.as_ref().filter(|lease| lease.state != LeaseState::Matched) {
        Some(lease) => told(session, lease).await,
        None => None,
    };
    let view = JobView { order: job.order.clone(), lease: job.lease.clone() };
    let state = words::state(&view, said.as_ref().map(|s| s.phase));
    let path = match job.lease.as_ref().filter(|_| said.is_some()) {
        Some(lease) => session.path(&lease.node).await,
        None => None,
    };
    let public = match job.lease.as_ref().filter(|_| said.is_some() && !words::is_over(&view)) {
        Some(lease) => {
            let all = session.lease_client(lease).published().await.unwrap_or_default();
            public::shown(session, &all).await.unwrap_or_default()
        }
        None => vec![],
    };
    let shown: Vec<serde_json::Value> = public.iter().map(public::Shown::value).collect();
    let value = serde_json::json!({
        "job": job.handle, "state": state, "order": job.order, "lease": job.lease, "machine": said, "reached": path.map(words::path_value),
        "public": shown,
    });
    let value = with_evidence(value, evidence.as_ref());
    let unpaid = match &job.lease {
        Some(lease) => unpaid(session, lease).await,
        None => None,
    };
    let mut text = job_text(session, &job, state, (said.as_ref(), unpaid, path));
    for line in public.iter().flat_map(public::Shown::lines) {
        text = format!("{}\n{line}\n", text.trim_end());
    }
    if let Some(evidence) = &evidence {
        text = format!("{}\n{}", text.trim_end(), evidence.short());
    }
    Ok(View { value, text, over: words::is_over(&view) })
}

/// Why some periods of a job were not paid.
async fn unpaid(session: &Session, lease: &LeaseView) -> Option<String> {
    let settlement = lease.settlement.as_ref().filter(|s| s.epochs_proven < s.epochs)?;
    let node = session.api.node(&lease.node).await.ok()?;
    let (genesis, length) = (session.status.genesis_time, session.status.params.epoch.0.max(1));
    let period = |at: Timestamp| at.since(genesis).0 / length;
    let periods = period(lease.accepted.unwrap_or(lease.matched))..=period(lease.closed.unwrap_or(lease.matched));
    words::unpaid(settlement, periods, node.standing.and_then(|s| s.audits).as_ref())
}

fn job_text(
    session: &Session,
    job: &Job,
    state: &str,
    (live, unpaid, path): (Option<&LeaseStatus>, Option<String>, Option<Path>),
) -> String {
    let mut table = Table::pairs();
    let mut row = |name: &str, text: String| table.row([name.into(), text]);
    row("job", job.handle.clone());
    row("state", state.into());
    if let Some(reason) = job.lease.as_ref().and_then(|l| l.reason.as_ref()) {
        let end = words::ending(reason);
        row("end", format!("{} ({})", end.verb, end.why));
    }
    row("asked", job.order.resources.to_string());
    if let Some(lease) = &job.lease {
        row("machine", words::machine(&lease.provider_name, &lease.region));
        if let Some(path) = path {
            row("reached", words::path(path));
        }
        row("price", format!("{}, at most {} cr", per_hour(lease.rate_per_hour), credits(lease.escrow)));
        if let Some(term) = words::term(&lease.tenure.term) {
            row("term", term);
        }
        if lease.tenure.preempting {
            row("notice", "the machine's owner ends it early, as agreed".into());
        }
        if let Some(watcher) = &lease.tenure.watcher {
            row("watcher", watcher.to_string());
        }
        let served = live.map_or(lease.served_ms, |s| s.served_ms.max(lease.served_ms));
        row("served", format!("{}, of it confirmed by you {}", duration(served), duration(lease.confirmed_ms)));
        row("charged", format!("{} cr", credits(cost(lease))));
    }
    if let Some(why) = unpaid {
        row("not paid", why);
    }
    if let Some(s) = live {
        row("phase", format!("{:?}", s.phase).to_lowercase());
        for gpu in &s.gpus {
            let simulated = if gpu.simulated { ", simulated" } else { "" };
            row("GPU", format!("{} with {}, {}{simulated}", gpu.model, display_bytes(gpu.vram_bytes), gpu.uuid));
        }
        if let Some(ends) = s.ends.filter(|_| s.end.is_none()) {
            row("cap in", duration(ends.since(session.time())));
        }
        if !s.detail.is_empty() {
            row("detail", words::plainly(s.detail.text()));
        }
        if let Some(health) = &s.health {
            row("health", format!("{:?}: {}", health.state, words::plainly(health.detail.text())).to_lowercase());
        }
        if let Some(update) = &s.update {
            let detail = if update.detail.is_empty() { String::new() } else { format!(": {}", words::plainly(update.detail.text())) };
            row("update", format!("{:?}{detail}", update.state).to_lowercase());
        }
        if s.restarts > 0 {
            row("restarts", s.restarts.to_string());
        }
        for event in &s.history {
            row("event", format!("{} ago: {}", duration(session.time().since(event.at)), words::plainly(event.text.text())));
        }
    }
    row("id", job.order.id.to_string());
    table.text()
}

/// `farm logs`.
pub(crate) async fn logs(app: &App, args: &LogsArgs) -> Outcome {
    let session = Session::open(app).await?;
    session.ready().await?;
    if let Some(group) = group::find(&session, &args.job)? {
        return groups::logs(&session, &group, args).await;
    }
    let job = session.job(&args.job).await?;
    let client = session.lease_client(job.lease()?);
    // Asked first, so that a machine that is away is an error and not silence.
    let status = while_away(session.out, || client.status()).await?;
    if args.from > status.log_bytes && !args.follow {
        return Err(Failure::usage(format!("the log has {} bytes, so it cannot be read from byte {}", status.log_bytes, args.from)));
    }
    let mut log = feeds::log(&client, session.reader()?, args.from, args.follow);
    loop {
        match log.recv().await {
            Some(FromLog::Frame(frame)) => show_frame(&session, &frame),
            Some(FromLog::Failed(failure)) => return Err(failure),
            Some(FromLog::Done { cut }) => {
                if cut {
                    session.out.warn(&format!("! {CUT}"));
                }
                return Ok(Exit::Ok);
            }
            None => return Ok(Exit::Ok),
        }
    }
}

/// `farm stop`.
pub(crate) async fn stop(app: &App, args: &StopArgs) -> Outcome {
    let grace = parse_duration(&args.grace).map_err(|e| Failure::usage(format!("--grace: {e}")))?;
    let session = Session::open(app).await?;
    session.ready().await?;
    if let Some(group) = group::find(&session, &args.job)?.filter(|_| !args.at_the_end) {
        return groups::stop(&session, group, grace).await;
    }
    let job = session.job(&args.job).await?;
    if args.at_the_end {
        return tenure::stop_renewal(&session, &job).await;
    }
    if let Some(warning) = job.lease.as_ref().and_then(|l| tenure::leaving(&session, l.tenure.term)) {
        let question = format!("{warning}. Stop {} now? [y/N] ", job.handle);
        if !app.yes && session.out.ask(&question).is_some_and(|answer| !matches!(answer.as_str(), "y" | "yes")) {
            return Err(Failure::new("declined", format!("{} goes on", job.handle))
                .next(format!("let it end with what is paid:  farm stop {} --at-the-end", job.handle)));
        }
    }
    let how = end(&session, &job, grace).await?;
    if session.out.json {
        session.out.json(&serde_json::json!({"job": job.handle, "result": how}));
    } else {
        session.out.note(&format!("{} {how}; its receipt:  farm receipt {}", job.handle, job.handle));
    }
    Ok(Exit::Ok)
}

/// Ends a job, wherever it is in its life, and says how.
pub(crate) async fn end(session: &Session, job: &Job, grace: Millis) -> Result<&'static str, Failure> {
    Ok(match &job.lease {
        Some(lease) if matches!(lease.state, LeaseState::Closing | LeaseState::Closed) => "had ended already",
        Some(lease) if lease.state == LeaseState::Matched => {
            session.submit(vec![Action::CloseLease { lease: lease.id, reason: EndReason::StoppedByUser }]).await?;
            "was closed before it began"
        }
        // A rental is left by its user's word alone: what that costs is the ledger's to say.
        Some(lease) if matches!(lease.tenure.term, Term::Rental { .. }) => {
            session.submit(vec![Action::CloseLease { lease: lease.id, reason: EndReason::StoppedByUser }]).await?;
            "was left"
        }
        Some(lease) => stop_running(session, lease, grace).await?,
        None if job.order.state == OrderState::Open => {
            session.submit(vec![Action::CancelOrder { order: job.order.id }]).await?;
            "was cancelled before it began"
        }
        None => "had ended already",
    })
}

/// Asks the machine, and waits until the ledger says that it is over; a machine that is away is passed by.
async fn stop_running(session: &Session, lease: &LeaseView, grace: Millis) -> Result<&'static str, Failure> {
    let filter = EventFilter { lease: Some(lease.id), ..EventFilter::default() };
    let mut events = feeds::ledger(session, filter).await?;
    let client = session.lease_client(lease);
    if let Err(e) = while_away(session.out, || client.stop(grace.0)).await {
        if !e.is_transient() {
            return Err(e.into());
        }
        session.submit(vec![Action::CloseLease { lease: lease.id, reason: EndReason::StoppedByUser }]).await?;
        return Ok("was closed; its machine does not answer");
    }
    let mut progress = Progress::new(session.out);
    progress.step("stopping");
    // The machine closes the lease after the grace, the end of the log and the last confirmation.
    let wait = Duration::from_millis(grace.0.saturating_add(30_000));
    let ended = tokio::time::timeout(wait, async {
        while let Some(item) = events.recv().await {
            let over = match item {
                FromLedger::Again => session.api.lease(&lease.id).await.is_ok_and(|l| l.state >= LeaseState::Closing),
                FromLedger::Event(e) => {
                    matches!(e.event, Event::LeaseChanged { lease: l, state, .. } if l == lease.id && state >= LeaseState::Closing)
                }
            };
            if over {
                return;
            }
        }
    });
    Ok(if ended.await.is_ok() { "was stopped" } else { "is being stopped" })
}

/// `farm receipt`.
pub(crate) async fn receipt(app: &App, args: &ReceiptArgs) -> Outcome {
    let session = Session::open(app).await?;
    let job = session.job(&args.job).await?;
    let mut lease = job.lease()?.clone();
    if args.wait && lease.settlement.is_none() {
        lease = settled(&session, &job, &lease).await?;
    }
    let evidence = verified(app, &session, &mut lease).await?;
    let mut receipt = Receipt::of(job.handle.clone(), &lease, session.is_test(), None, final_in(&session, &lease));
    receipt.unpaid = unpaid(&session, &lease).await;
    receipt.watcher = match session.watched_here(&lease) {
        Some(here) => Some(here),
        None => watcher_name(&session, &lease).await,
    };
    let json = with_evidence(receipt.json(), evidence.as_ref());
    session.out.either(&json, || {
        let verified = evidence.map_or_else(String::new, |e| format!("\n  {}", e.short()));
        receipt.text(&session.out, args.details) + &verified
    });
    Ok(Exit::Ok)
}

/// The name of a watcher that had the last word, if it is a provider and so has one.
async fn watcher_name(session: &Session, lease: &LeaseView) -> Option<String> {
    match lease.settlement.as_ref()?.confirmed_by {
        ConfirmedBy::Watcher(account) | ConfirmedBy::Evidence(account) => session.api.account(&account).await.ok()?.provider,
        _ => None,
    }
}

/// The same for a job: its order and its lease.
async fn proven(app: &App, session: &Session, job: &mut Job) -> Result<Option<Evidence>, Failure> {
    let Some(mut checker) = checker(app, session)? else { return Ok(None) };
    let shown = checker.corrected(RecordKind::Order, &job.order.id.0, Some(&job.order)).await?;
    // The ledger forgets an order that ended long ago; what was said of it is then all there is.
    let Some((order, mut evidence)) = shown else { return Ok(None) };
    job.order = order;
    if let Some(lease) = &mut job.lease
        && let Some((view, more)) = checker.corrected(RecordKind::Lease, &lease.id.0, Some(&*lease)).await?
    {
        *lease = view;
        evidence = evidence.and(more);
    }
    Ok(Some(evidence))
}

/// Puts what the validators signed in the place of what was said of a lease, where we know whom to trust.
async fn verified(app: &App, session: &Session, lease: &mut LeaseView) -> Result<Option<Evidence>, Failure> {
    let Some(mut checker) = checker(app, session)? else { return Ok(None) };
    let proven = checker.corrected(RecordKind::Lease, &lease.id.0, Some(&*lease)).await?;
    let (view, evidence) = proven.ok_or_else(|| Failure::new("not-found", format!("there is no lease of {}", lease.id)))?;
    *lease = view;
    Ok(Some(evidence))
}

/// The lease once it is settled, however long that takes.
async fn settled(session: &Session, job: &Job, lease: &LeaseView) -> Result<LeaseView, Failure> {
    let filter = EventFilter { lease: Some(lease.id), ..EventFilter::default() };
    let mut events = feeds::ledger(session, filter).await?;
    let mut progress = Progress::new(session.out);
    progress.step("waiting for the final account");
    loop {
        let now = session.ask(|| session.api.lease(&lease.id)).await?;
        if now.settlement.is_some() {
            return Ok(now);
        }
        loop {
            match events.recv().await {
                Some(FromLedger::Again) => break,
                Some(FromLedger::Event(e)) if matches!(e.event, Event::LeaseSettled { lease: l, .. } if l == lease.id) => break,
                Some(FromLedger::Event(_)) => {}
                None => {
                    return Err(Failure::new("broken-connection", "the connection to the network is gone")
                        .next(format!("farm receipt {}", job.handle)));
                }
            }
        }
    }
}

/// `farm extend`.
pub(crate) async fn extend(app: &App, args: &ExtendArgs) -> Outcome {
    let longer = parse_duration(&args.duration).map_err(|e| Failure::usage(format!("--for: {e}")))?;
    let session = Session::open(app).await?;
    let job = session.job(&args.job).await?;
    let lease = job.lease()?;
    let more = lease.rate_per_hour.per_hour_for(longer.0).unwrap_or(Amount::ZERO);
    session.submit(vec![Action::Extend { lease: lease.id, duration: longer }]).await?;
    let now = session.ask(|| session.api.lease(&lease.id)).await?;
    session.out.either(&now, || {
        format!(
            "{} may run {} longer, for at most {} cr more ({} cr in all)",
            job.handle,
            duration(longer),
            credits(more),
            credits(now.escrow)
        )
    });
    Ok(Exit::Ok)
}
