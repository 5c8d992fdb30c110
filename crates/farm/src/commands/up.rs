//! `farm up`: offers this machine to a network, and shows what it earns.
//!
//! Guarantees: the same account as for running jobs, whose key stays in its file; or, of a fleet's machine, an account whose key is
//! elsewhere (`enrolled.rs`). Jobs go on when this ends and are taken up again at the next start.

use crate::args::UpArgs;
use crate::backend::{self, Mandate, MissingDeposit, Priority, Trust as _, UpOptions, UpReady};
use crate::commands::dev::{offered, volumes};
use crate::commands::limits::limits;
use crate::commands::plan;
use crate::commands::{deposit, join};
use crate::config::ConfigFile;
use crate::enrolled::Enrolled;
use crate::exit::{Exit, Failure, Outcome};
use crate::feeds::{self, FromLedger, Signals, parent_gone};
use crate::gpus;
use crate::machine;
use crate::render::number::{count as counted, credits};
use crate::session::{App, Session};
use pasture_api::DepositView;
use pasture_api::client::EventFilter;
use pasture_rt::Shutdown;
use pasture_types::event::Event;
use pasture_types::market::Rates;
use pasture_types::{AccountId, Amount, Resources};
use std::path::{Path, PathBuf};
use tokio::sync::{mpsc, oneshot};

/// Runs the command.
pub(crate) async fn run(app: &App, args: &UpArgs) -> Outcome {
    if let Some(ticket) = &args.join {
        join::enter_unless_there(app, ticket).await?;
    }
    let data = crate::config::absolute(&args.data.clone().unwrap_or_else(|| machine::usual(&app.paths)))?;
    crate::config::make_private(&data)?;
    let is_new = !data.join("node.key").exists();
    match Enrolled::of(args.enroll.as_deref(), &data)? {
        None => Box::pin(offer(app, args, data, is_new, None)).await,
        Some(enrolled) => Box::pin(offer(&enrolled.app(app), args, data, is_new, Some(enrolled))).await,
    }
}

async fn offer(app: &App, args: &UpArgs, data: PathBuf, is_new: bool, enrolled: Option<Enrolled>) -> Outcome {
    let session = Session::open(app).await?;
    let signals = Signals::listen()?;
    let options = prepare(app, &session, args, data, is_new, enrolled.as_ref()).await?;
    serve(app, &session, args, options, signals, enrolled.map(|e| e.account)).await
}

/// Looks at the machine, asks where a person is there, and says what is offered.
async fn prepare(
    app: &App,
    session: &Session,
    args: &UpArgs,
    data: PathBuf,
    is_new: bool,
    enrolled: Option<&Enrolled>,
) -> Result<UpOptions, Failure> {
    let gpus = gpus::offer(&args.machine.gpus)?;
    gpus::can_be_offered(gpus.as_ref(), &session.status.params)?;
    let gpu_rate = gpu_rate(args)?;
    let asked = offered(&args.machine, &data).await?;
    let mut resources = if let Some(resources) = asked { resources } else { backend::half_of(&data).await };
    resources.gpus = backend::gpu_lines(gpus.as_ref(), &data).await?;
    let mut rates = rates(args)?.unwrap_or_else(backend::suggested_rates);
    rates.gpus = vec![gpu_rate; resources.gpus.len()];
    if is_new {
        agree(app, session, args, &data, &resources, &rates).await?;
    }
    let mandate = match enrolled {
        None => Mandate::Key(session.owner("a machine is offered by the account itself")?),
        Some(enrolled) => {
            enrolled.keep(session, &data)?;
            enrolled.mandate()
        }
    };
    machine::note(&app.paths, &data)?;
    let images = ConfigFile::load(&app.paths.config_file())?.images;
    Ok(UpOptions {
        resources: Some(resources),
        api_url: session.api.base().into(),
        ticket: app.network_ticket()?,
        announce_to: args.announce.clone(),
        engine_socket: args.machine.engine.clone(),
        rates: Some(rates),
        product_engine: gpus::engine(gpus.as_ref()),
        memory_engine: None,
        gpus,
        gpu_rate: Some(gpu_rate),
        region: args.machine.region.clone(),
        limits: limits(&args.limits)?,
        volumes: volumes(&args.machine.volumes)?,
        missing_deposit: if args.no_deposit { MissingDeposit::Earn } else { MissingDeposit::Post },
        declared_percent: args.declare_speed,
        trusted: app.trusted()?.map(|trusted| trusted.point()),
        name: args.name.clone().unwrap_or_else(|| format!("provider-{}", mandate.account().short())),
        mandate,
        image_bytes: images.limit_bytes()?,
        blobs: images.blobs()?,
        priority: if args.usual_priority { Priority::Usual } else { Priority::Low },
        may_leave: true,
        stop_jobs: args.stop_jobs,
        failpoint: None,
        data,
    })
}

/// Offers it until it ends, or somebody ends it.
async fn serve(
    app: &App,
    session: &Session,
    args: &UpArgs,
    options: UpOptions,
    mut signals: Signals,
    earns_for: Option<AccountId>,
) -> Outcome {
    let account = options.mandate.account();
    let stop = Shutdown::new();
    let (is_ready, ready) = oneshot::channel();
    let machine = backend::up(options, stop.token(), is_ready);
    tokio::pin!(machine);
    app.out.note("looking at this machine ...");
    let ready = tokio::select! {
        ended = &mut machine => return ended.map(|()| Exit::Ok),
        _ = signals.next() => None,
        ready = ready => match ready {
            Ok(ready) => Some(ready),
            // It ended instead, and says why.
            Err(_) => return machine.await.map(|()| Exit::Ok),
        },
    };
    if let Some(ready) = &ready {
        show(app, ready, earns_for, args.stop_jobs);
        let filter = EventFilter { node: Some(ready.node), ..EventFilter::default() };
        let mut events = feeds::ledger(session, filter).await?;
        tokio::select! {
            ended = &mut machine => {
                ended?;
                app.out.note("this machine has left the network");
                return Ok(Exit::Ok);
            }
            () = report(app, session, account, ready, &mut events) => {}
            () = parent_gone(args.with_parent) => {}
            _ = signals.next() => {}
        }
    }
    let jobs = if args.stop_jobs { "running jobs are stopped" } else { "running jobs go on and are taken up again at the next start" };
    app.out.note(&format!("stopping; {jobs}. Ctrl-C again to stop at once"));
    stop.trigger();
    tokio::select! {
        ended = &mut machine => ended.map(|()| Exit::Ok),
        _ = signals.next() => Ok(Exit::Job(130)),
    }
}

/// Says what offering this machine means, and asks a person at a terminal; a script that says it means it.
async fn agree(app: &App, session: &Session, args: &UpArgs, data: &Path, offered: &Resources, rates: &Rates) -> Result<(), Failure> {
    let folder = std::env::current_dir().ok().filter(|folder| plan::is_runnable(folder));
    let has = backend::detect(data).await.resources;
    let plan = plan::Plan {
        network: &session.status.name,
        params: &session.status.params,
        offered,
        has: &has,
        rates,
        power: plan::Power::of(&args.power)?,
        no_deposit: args.no_deposit,
        gives_way: !args.usual_priority && backend::engine_gives_way(args.machine.engine.as_deref(), &data.join("runtime")).await?,
        folder: folder.as_deref(),
    };
    app.out.note(plan.text().trim_end());
    if !app.yes && app.out.ask("Offer it? [y/N] ").is_some_and(|answer| !matches!(answer.as_str(), "y" | "yes")) {
        // The folder was made to look at its disk; an empty one goes again.
        for made in ["runtime", "simulated-gpus"] {
            let _ = std::fs::remove_dir_all(data.join(made));
        }
        let _ = std::fs::remove_file(data.join("node.key"));
        let _ = std::fs::remove_dir(data);
        return Err(Failure::new("declined", "nothing was offered"));
    }
    Ok(())
}

fn gpu_rate(args: &UpArgs) -> Result<Amount, Failure> {
    let asked = args.price_gpu.as_deref().map(str::parse::<Amount>).transpose();
    Ok(asked.map_err(|e| Failure::usage(format!("--price-gpu: {e}")))?.unwrap_or(backend::SUGGESTED_GPU_RATE))
}

fn rates(args: &UpArgs) -> Result<Option<Rates>, Failure> {
    let price = |flag: &str, text: &Option<String>| -> Result<Amount, Failure> {
        text.as_deref().unwrap_or("0").parse().map_err(|e| Failure::usage(format!("{flag}: {e}")))
    };
    if args.price_cpu.is_none() {
        return Ok(None);
    }
    Ok(Some(Rates {
        cpu_core: price("--price-cpu", &args.price_cpu)?,
        memory_gib: price("--price-memory", &args.price_memory)?,
        disk_gib: price("--price-disk", &args.price_disk)?,
        ..Rates::default()
    }))
}

fn show(app: &App, ready: &UpReady, earns_for: Option<AccountId>, stop_jobs: bool) {
    if app.out.json {
        app.out.json(&serde_json::json!({"event": "ready", "node": ready.node, "earns_for": earns_for, "resources": ready.resources, "rates": ready.rates, "gpus": ready.gpus, "unheld": ready.unheld, "deposit": ready.deposit, "paused": ready.paused, "validators": ready.validators}));
        return;
    }
    let r = &ready.rates;
    app.out.note(&format!("✓ this machine is offered: {}", ready.resources));
    app.out.note(&format!(
        "  price    per hour {} cr a core, {} cr a GiB of memory, {} cr a GiB of disk",
        credits(r.cpu_core),
        credits(r.memory_gib),
        credits(r.disk_gib)
    ));
    if let Some(account) = earns_for {
        app.out.note(&format!("  earns    for account {}, whose key is not here", account.short()));
    }
    for gpu in &ready.gpus {
        let simulated = if gpu.simulated { ", simulated" } else { "" };
        app.out.note(&format!("  GPU      {} {}{simulated}", gpu.model, gpu.uuid));
    }
    if let Some(d) = &ready.deposit {
        app.out.note(&format!("  deposit  {}", deposit::line(d)));
    }
    app.out.note(&match ready.validators {
        Some(count) => format!("  checks   what its gateway says of jobs and accounts, against {}", counted(count, "validator")),
        None => "  checks   nothing that its gateway says: join by a ticket, or make a context with --trust FILE".into(),
    });
    for limit in &ready.unheld {
        app.out.warn(&format!("! not held on this machine: {limit}"));
    }
    if ready.paused.is_some() {
        app.out.note("  paused   it takes no jobs:  farm resume");
    }
    app.out.note(if stop_jobs { "  Ctrl-C ends it, and the jobs that run" } else { "  Ctrl-C ends it; jobs that run go on" });
}

/// Says what the machine earns, until the events end.
async fn report(app: &App, session: &Session, ours: AccountId, ready: &UpReady, events: &mut mpsc::Receiver<FromLedger>) {
    let mut earned = Amount::ZERO;
    let mut owes = ready.deposit.as_ref().is_some_and(DepositView::keeps_earnings);
    while let Some(item) = events.recv().await {
        let FromLedger::Event(event) = item else { continue };
        match event.event {
            Event::LeaseMatched { lease, node, rate_per_hour, .. } if node == ready.node => {
                app.out.note(&format!("  job {} begins at {} cr per hour", lease.short(), credits(rate_per_hour)));
            }
            Event::LeaseSettled { lease, node, settlement, .. } if node == ready.node => {
                earned = earned.saturating_add(settlement.to_provider);
                let (paid, all) = (credits(settlement.to_provider), credits(earned));
                app.out.note(&format!("  job {} paid {paid} cr; {all} cr since this began", lease.short()));
                // A newcomer is paid into its deposit first.
                if owes
                    && let Ok(view) = session.api.account(&ours).await
                    && let Some(d) = &view.standing
                {
                    owes = d.keeps_earnings();
                    app.out.note(&format!("  deposit  {}", deposit::line(d)));
                }
                if app.out.json {
                    app.out.json(&serde_json::json!({"event": "paid", "lease": lease, "amount": settlement.to_provider, "total": earned}));
                }
            }
            _ => {}
        }
    }
}
