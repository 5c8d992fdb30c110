//! `farm pause`, `resume`, `drain`, `down`: the owner of a machine stops and ends offering it.
//!
//! Guarantees: a running machine is asked through its own door, one that does not run is changed on disk and on the ledger; what
//! the network does not know yet is said. `down` removes nothing before the last job is over, and says what is left and where the
//! deposit is. Jobs that did not agree to an early end are only ended after a yes.

use crate::args::{DownArgs, DrainArgs, EndingArgs, PauseArgs};
use crate::backend::{
    self, Answer, Checked, LeaveTerms, Left, Load, MachineStatus, Mandate, MissingDeposit, OfferLimits, OfferState, Paused, Priority,
    Request, Trust as _, UpOptions, Used, VolumeOptions, WaitsFor,
};
use crate::enrolled::Enrolled;
use crate::exit::{Exit, Failure, Outcome};
use crate::feeds::Signals;
use crate::machine;
use crate::render::number::{count, credits, duration};
use crate::render::{Progress, Table};
use crate::session::{App, Session, now_ms};
use crate::words;
use pasture_rt::{Shutdown, TaskKind};
use pasture_store::keys;
use pasture_types::resources::display_bytes;
use pasture_types::spec::parse_duration;
use pasture_types::tx::{Action, offer_id};
use pasture_types::{Millis, NodeId, Timestamp};
use std::path::Path;
use tokio::sync::mpsc;

/// The number of a machine's one offer.
const OFFER_NUMBER: u32 = 0;
/// Words of a machine that leaves in this process, on their way to the screen.
const WORDS: usize = 64;

/// `farm pause`.
pub(crate) async fn pause(app: &App, args: &PauseArgs) -> Outcome {
    let data = machine::meant(&app.paths, args.machine.data.as_deref()).await?;
    match machine::ask(&data, &Request::Pause, |_| ()).await? {
        Some(Answer::Status { machine }) => shown(app, &machine),
        Some(other) => Err(unexpected(&other)),
        None => pause_stopped(app, &data).await,
    }
}

/// `farm resume`.
pub(crate) async fn resume(app: &App, args: &PauseArgs) -> Outcome {
    let data = machine::meant(&app.paths, args.machine.data.as_deref()).await?;
    match machine::ask(&data, &Request::Resume, |_| ()).await? {
        Some(Answer::Status { machine }) => shown(app, &machine),
        Some(other) => Err(unexpected(&other)),
        None => {
            backend::pause_stopped(&data, None)?;
            app.out.either(&serde_json::json!({"running": false, "paused": null}), || {
                "✓ the machine takes jobs again from its next start on:  farm up".into()
            });
            Ok(Exit::Ok)
        }
    }
}

/// `farm drain`.
pub(crate) async fn drain(app: &App, args: &DrainArgs) -> Outcome {
    let jobs_end_in = ending(&args.ending)?;
    let data = machine::meant(&app.paths, args.machine.data.as_deref()).await?;
    agree_to_end(app, &args.ending)?;
    let mut signals = Signals::listen()?;
    let mut shown_step = Progress::new(app.out);
    let request = Request::Drain { jobs_end_in, wait: args.wait };
    let answer = tokio::select! {
        answer = machine::ask(&data, &request, |waits| step(&mut shown_step, waits)) => answer?,
        _ = signals.next() => {
            shown_step.clear();
            app.out.note("the machine goes on without you: it takes no more jobs until  farm resume");
            return Ok(Exit::Job(130));
        }
    };
    shown_step.clear();
    match answer {
        Some(Answer::Status { machine }) => shown(app, &machine),
        Some(other) => Err(unexpected(&other)),
        None if args.wait || jobs_end_in.is_some() => {
            Err(Failure::new("not-running", "the machine does not run, so its jobs cannot be finished")
                .next("start it, which takes them up again:  farm up")
                .next("or finish them and leave for good:  farm down"))
        }
        None => pause_stopped(app, &data).await,
    }
}

fn unexpected(answer: &Answer) -> Failure {
    Failure::new("machine", format!("the machine gave another answer than was asked for: {answer:?}"))
        .next("is it of the same version?  farm version")
}

fn ending(args: &EndingArgs) -> Result<Option<Millis>, Failure> {
    match &args.within {
        Some(text) => parse_duration(text).map(Some).map_err(|e| Failure::usage(format!("--within: {e}"))),
        None if args.now => Ok(Some(Millis(0))),
        None => Ok(None),
    }
}

/// Asks a person at a terminal before jobs are ended that did not agree to it; a script that says it means it.
fn agree_to_end(app: &App, args: &EndingArgs) -> Result<(), Failure> {
    let question =
        "End running jobs? Those that did not agree to it count against you, and their users are refunded what was not served. [y/N] ";
    if args.now && !app.yes && app.out.ask(question).is_some_and(|answer| !matches!(answer.as_str(), "y" | "yes")) {
        return Err(Failure::new("declined", "nothing was changed"));
    }
    Ok(())
}

fn step(progress: &mut Progress, waits: WaitsFor) {
    match waits {
        WaitsFor::Jobs(0) => {}
        WaitsFor::Jobs(jobs) => progress.step(&format!("{} still to finish ...", count(jobs as u64, "job"))),
        WaitsFor::Settlement(most) => {
            progress.step(&format!("waiting for the network's last word about them, at most {} ...", duration(most)));
        }
    }
}

/// Says how a machine is.
fn shown(app: &App, machine: &MachineStatus) -> Outcome {
    app.out.either(machine, || {
        let mut lines = vec![match &machine.paused {
            Some(paused) => format!("✓ the machine takes no more jobs{}", ends(paused)),
            None => "✓ the machine takes jobs".into(),
        }];
        match (&machine.offer, &machine.paused) {
            (OfferState::Pending, _) => lines.push("  the network was not reached yet; it is told as soon as it answers".into()),
            (OfferState::Refused(why), _) => lines.push(format!("  ! the network refuses: {}", words::plainly(why))),
            _ => {}
        }
        if machine.unfinished > 0 {
            lines.push(format!("  {} still to finish", count(machine.unfinished as u64, "job")));
        }
        if machine.paused.is_some() {
            lines.push("  take jobs again:  farm resume".into());
        }
        lines.join("\n")
    });
    Ok(Exit::Ok)
}

fn ends(paused: &Paused) -> String {
    paused.end_by.map_or(String::new(), |at| match at.since(Timestamp(now_ms())) {
        Millis(0) => "; jobs that run are being ended".into(),
        left => format!("; jobs that still run are ended in {}", duration(left)),
    })
}

/// A machine that does not run: the next start takes no jobs, and its offer goes from the ledger if the network answers.
async fn pause_stopped(app: &App, data: &Path) -> Outcome {
    backend::pause_stopped(data, Some(Paused { since: Timestamp(now_ms()), end_by: None }))?;
    let withdrawn = withdraw(app, data).await;
    let (known, why) = match &withdrawn {
        Ok(()) => (true, None),
        Err(f) => (false, Some(f.message.clone())),
    };
    app.out.either(&serde_json::json!({"running": false, "paused": true, "offer_withdrawn": known, "why_not": why}), || {
        let told = match &why {
            None => "no offer of it stands".into(),
            Some(why) => format!("! its offer may still stand: {why}"),
        };
        format!("✓ the machine does not run, and takes no jobs when it does\n  {told}\n  take jobs again:  farm resume")
    });
    Ok(Exit::Ok)
}

async fn withdraw(app: &App, data: &Path) -> Result<(), Failure> {
    let node = keys::load_or_create(&data.join("node.key"))?.node_id();
    let enrolled = Enrolled::of(None, data)?;
    let app = app.quietly();
    let session = Session::open(&enrolled.as_ref().map_or_else(|| app.clone(), |e| e.app(&app))).await?;
    let offer = offer_id(&node, OFFER_NUMBER);
    if !session.ask(|| session.api.offers()).await?.iter().any(|o| o.id == offer) {
        return Ok(());
    }
    let action = Action::WithdrawOffer { offer };
    match &enrolled {
        Some(enrolled) => enrolled.submit(&session, action).await,
        None => session.submit(vec![action]).await.map(drop),
    }
}

/// `farm down`.
pub(crate) async fn down(app: &App, args: &DownArgs) -> Outcome {
    let terms = LeaveTerms { jobs_end_in: ending(&args.ending)?, keep_deposit: args.keep_deposit };
    let data = machine::meant(&app.paths, args.machine.data.as_deref()).await?;
    let question = "Leave the network? Running jobs are finished first; then everything that this machine keeps is removed, logs and results \
                    of ended jobs included. [y/N] ";
    if !app.yes && app.out.ask(question).is_some_and(|answer| !matches!(answer.as_str(), "y" | "yes")) {
        return Err(Failure::new("declined", "nothing was changed"));
    }
    agree_to_end(app, &args.ending)?;
    let mut signals = Signals::listen()?;
    let mut progress = Progress::new(app.out);
    let request = Request::Leave(terms);
    let answer = tokio::select! {
        answer = machine::ask(&data, &request, |waits| step(&mut progress, waits)) => answer?,
        _ = signals.next() => {
            progress.clear();
            app.out.note("the machine goes on leaving without you; it takes no more jobs");
            return Ok(Exit::Job(130));
        }
    };
    let left = match answer {
        Some(Answer::Left { left }) => *left,
        Some(other) => return Err(unexpected(&other)),
        None => match leave_here(app, args, &data, terms, &mut progress, &mut signals).await? {
            Some(left) => left,
            None => {
                progress.clear();
                app.out.note("interrupted: the machine takes no jobs; leave for good:  farm down");
                return Ok(Exit::Job(130));
            }
        },
    };
    progress.clear();
    machine::forget(&app.paths, &data);
    app.out.either(&left, || farewell(app, &left));
    Ok(if left.kept_files.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// Starts the machine in this process to finish its jobs, and has it leave.
async fn leave_here(
    app: &App,
    args: &DownArgs,
    data: &Path,
    terms: LeaveTerms,
    progress: &mut Progress,
    signals: &mut Signals,
) -> Result<Option<Left>, Failure> {
    let enrolled = Enrolled::of(None, data)?;
    let session = Session::open(&enrolled.as_ref().map_or_else(|| app.clone(), |e| e.app(app))).await?;
    let mandate = match &enrolled {
        Some(enrolled) => enrolled.mandate(),
        None => Mandate::Key(session.owner("a machine is taken back by the account itself")?),
    };
    let options = UpOptions {
        data: data.into(),
        api_url: session.api.base().into(),
        ticket: app.network_ticket()?,
        announce_to: vec![],
        engine_socket: args.engine.clone(),
        resources: None,
        rates: None,
        gpus: None,
        product_engine: None,
        memory_engine: None,
        gpu_rate: None,
        region: "local".into(),
        limits: OfferLimits::default(),
        volumes: VolumeOptions::default(),
        trusted: app.trusted()?.map(|trusted| trusted.point()),
        name: format!("provider-{}", mandate.account().short()),
        // Nothing is posted by who leaves.
        missing_deposit: MissingDeposit::Earn,
        declared_percent: 100,
        mandate,
        image_bytes: None,
        blobs: backend::BlobSettings::default(),
        priority: Priority::Low,
        may_leave: true,
        stop_jobs: false,
        failpoint: None,
    };
    let (tell, mut told) = mpsc::channel(WORDS);
    let stop = Shutdown::new();
    let token = stop.token();
    let leaving = pasture_rt::spawn(TaskKind::ClientFollow, async move { backend::leave(options, terms, tell, token).await });
    progress.step("looking after what it left ...");
    loop {
        tokio::select! {
            word = told.recv() => match word {
                Some(Answer::Progress { waits_for }) => step(progress, waits_for),
                Some(_) => {}
                None => break,
            },
            _ = signals.next() => stop.trigger(),
        }
    }
    leaving
        .join()
        .await
        .unwrap_or_else(|| Err(Failure::new("machine", "the machine ended in the midst of leaving").next("again:  farm down")))
}

/// What is gone, what is left, and where the deposit is.
fn farewell(app: &App, left: &Left) -> String {
    let mut table = Table::pairs();
    let mut row = |name: &str, text: String| table.row([format!("  {name}"), text]);
    let c = &left.cleared;
    let parts = [(c.containers, "container"), (c.networks, "network"), (c.volumes, "volume"), (c.images, "image")];
    let gone: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, name)| count(*n as u64, name)).collect();
    row(
        "removed",
        if gone.is_empty() { "its files; its engine had nothing of it".into() } else { format!("its files, {}", gone.join(", ")) },
    );
    for image in &c.kept_images {
        row("stays", format!("image {image}, which something else here uses"));
    }
    for (path, why) in &left.kept_files {
        row("stays", format!("{}: {why}", path.display()));
    }
    // A fleet's machine never had one.
    if app.paths.account_key().exists() {
        row("kept", format!("your key {}, and your jobs' names beside it", app.paths.account_key().display()));
    }
    for text in deposit(left) {
        row("deposit", text);
    }
    row("account", format!("{}, {} cr", left.account.short(), credits(left.balance)));
    format!("✓ this machine has left the network\n{}", table.text())
}

fn deposit(left: &Left) -> Vec<String> {
    let Some(d) = &left.deposit else { return vec!["there was none".into()] };
    let now = Timestamp(now_ms());
    let mut out: Vec<String> = left
        .on_its_way()
        .iter()
        .map(|l| {
            format!(
                "{} cr come back to your account in {}; until then they answer for what it did",
                credits(l.amount),
                duration(l.release.since(now))
            )
        })
        .collect();
    if !d.own.is_zero() {
        let why = left.deposit_stays.as_deref().map_or(String::new(), |why| format!(" ({})", words::plainly(why)));
        out.push(format!("{} cr still stand{why}; take them back:  farm deposit back {}", credits(d.own), d.own));
    }
    if !d.sponsored.is_zero() {
        out.push(format!("{} cr are others', who take them back themselves", credits(d.sponsored)));
    }
    if out.is_empty() {
        out.push("there was none".into());
    }
    out
}

/// The row of `farm status` about a machine.
pub(crate) fn row(machine: &MachineStatus) -> String {
    let node: NodeId = machine.node;
    let takes = match (&machine.paused, machine.connected) {
        (Some(_), _) => "takes no jobs:  farm resume",
        (None, false) => "waits for its network",
        (None, true) => "takes jobs",
    };
    let images = &machine.images;
    let number = |r: &pasture_types::Resources| r.gpus.iter().map(|g| u64::from(g.count)).sum::<u64>();
    let gpus = match number(&machine.offered) {
        0 => String::new(),
        all => format!("; {} of {} in jobs", number(&machine.held), count(all, "GPU")),
    };
    format!(
        "{} {takes}, {} running{gpus}; {} of {} of images kept; {}",
        node.short(),
        count(machine.jobs.len() as u64, "job"),
        display_bytes(images.bytes),
        display_bytes(images.limit_bytes),
        checks(machine.checked)
    )
}

/// By whom a machine's gateway is checked.
fn checks(checked: Option<Checked>) -> String {
    let Some(c) = checked else { return "believes its gateway".into() };
    let lies = if c.disbelieved == 0 { String::new() } else { format!(", {} not believed", count(c.disbelieved, "answer")) };
    format!("checked against {}, last at block {}{lies}", count(c.validators, "validator"), c.block)
}

/// The row of `farm status` about what a machine is doing.
pub(crate) fn load(load: &Load) -> String {
    let of = |u: Used| format!("{} of {}", display_bytes(u.used), display_bytes(u.total));
    let mut parts = vec![];
    parts.extend(load.cpu_permille.map(|p| format!("processor {} %", p / 10)));
    parts.extend(load.memory.map(|m| format!("memory {}", of(m))));
    parts.extend(load.disk.map(|d| format!("disk {}", of(d))));
    parts.extend(load.network.map(|n| format!("network {}/s in, {}/s out", display_bytes(n.received), display_bytes(n.sent))));
    for gpu in &load.gpus {
        let busy = gpu.busy_percent.map_or(String::new(), |p| format!(" {p} %"));
        let memory = gpu.memory.map_or(String::new(), |m| format!(", {}", of(m)));
        let heat = gpu.celsius.map_or(String::new(), |c| format!(", {c} degrees"));
        let power = gpu.watts.map_or(String::new(), |w| format!(", {w} W"));
        parts.push(format!("{}{busy}{memory}{heat}{power}", gpu.name));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_says_whom_it_believes() {
        let checked = |disbelieved| Some(Checked { validators: 4, block: 812, disbelieved });
        assert_eq!(checks(checked(0)), "checked against 4 validators, last at block 812");
        assert_eq!(checks(checked(1)), "checked against 4 validators, last at block 812, 1 answer not believed");
        assert_eq!(checks(None), "believes its gateway");
    }

    #[test]
    fn of_a_gpu_all_is_shown_that_it_tells_and_nothing_else() {
        let said = r#"{"cpu_permille": 375, "gpus": [
            {"uuid": "GPU-1", "name": "NVIDIA H100", "busy_percent": 37, "memory": {"used": 1073741824, "total": 85899345920}, "celsius": 54, "watts": 313},
            {"uuid": "GPU-2", "name": "Tesla T4", "busy_percent": null, "memory": null, "celsius": null}]}"#;
        let shown = load(&serde_json::from_str(said).unwrap());
        assert_eq!(shown, "processor 37 %; NVIDIA H100 37 %, 1 GiB of 80 GiB, 54 degrees, 313 W; Tesla T4");
    }
}
