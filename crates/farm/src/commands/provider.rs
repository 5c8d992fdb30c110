//! `farm provider`: how this machine is doing, and `self-test`: how fast it is, what its engine holds jobs to, and what to ask for it.
//!
//! Guarantees of the self-test: nothing is offered, registered or left behind. Without a network the fixed prices are shown, and it says so; without an
//! engine the rest is still measured, and the command fails.

use super::{cards, fleet, leaving, tenants, up};
use crate::args::{ProviderArgs, ProviderCommand, SelfTestArgs};
use crate::backend::{self, Capabilities, Gauge, Suggestion};
use crate::exit::{Exit, Failure, Outcome};
use crate::machine;
use crate::render::number::{credits, duration, each_second};
use crate::render::{Progress, Table};
use crate::session::App;
use crate::watching::{View, show};
use pasture_types::market::Rates;
use pasture_types::resources::display_bytes;
use serde::Serialize;

/// What was found.
#[derive(Serialize)]
struct Report {
    machine: String,
    engine: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine_problem: Option<String>,
    not_held: Vec<String>,
    gauge: Gauge,
    cores_busy_percent: u64,
    rates: Rates,
    rates_from: String,
}

/// Runs the command.
pub(crate) async fn run(app: &App, args: &ProviderArgs) -> Outcome {
    match &args.command {
        ProviderCommand::Join(args) => Box::pin(up::run(app, args)).await,
        ProviderCommand::Status(args) => show(app.out, args.watch, async || status(app).await).await,
        ProviderCommand::Drain(args) => leaving::drain(app, args).await,
        ProviderCommand::Enroll(args) => fleet::enroll(app, args).await,
        ProviderCommand::Machines => fleet::machines(app).await,
        ProviderCommand::Dismiss { machine } => fleet::dismiss(app, machine).await,
        ProviderCommand::Block(args) => tenants::block(app, args).await,
        ProviderCommand::Unblock { account, machine } => tenants::unblock(app, account, machine).await,
        ProviderCommand::Blocked { machine } => tenants::blocked(app, machine).await,
        ProviderCommand::Tenants(args) => tenants::show(app, args).await,
        ProviderCommand::SelfTest(args) if args.gpu => cards::run(app).await,
        ProviderCommand::SelfTest(args) => self_test(app, args).await,
    }
}

/// What the machines of this computer offer, run and do.
async fn status(app: &App) -> Result<View, Failure> {
    let machines = machine::all(&app.paths).await;
    if machines.is_empty() {
        let failure = Failure::new("no-machine-here", "no machine of this computer is offered now");
        return Err(failure.next("offer it:  farm up"));
    }
    let mut table = Table::pairs();
    for one in &machines {
        table.row(["machine".into(), leaving::row(one)]);
        table.row(["offers".into(), one.offered.to_string()]);
        table.row(["in jobs".into(), one.held.to_string()]);
        table.row(["network".into(), format!("{}, files in {}", one.api_url, one.data.display())]);
        table.row(["earns".into(), one.provider.to_string()]);
        if let Some(load) = &one.load {
            table.row(["busy".into(), leaving::load(load)]);
        }
        for job in &one.jobs {
            let phase = format!("{:?}", job.phase).to_lowercase();
            table.row(["job".into(), format!("{} {phase}, served {}", job.lease.short(), duration(job.served_ms))]);
        }
    }
    Ok(View { value: serde_json::json!(machines), text: table.text(), over: false })
}

async fn self_test(app: &App, args: &SelfTestArgs) -> Outcome {
    app.paths.ensure_data_dir()?;
    let data = crate::config::absolute(args.data.as_ref().unwrap_or(&app.paths.data_dir))?;
    let mut progress = Progress::new(app.out);
    progress.step("asking the container engine ...");
    let engine = backend::engine(args.engine.as_deref(), &app.paths.data_dir.join("self-test")).await;
    let gauge = backend::gauge(&data, &mut |step| progress.step(&format!("measuring {step} ..."))).await.map_err(|e| {
        Failure::new("disk", format!("{} cannot be measured: {e}", data.display())).next("name a folder that can be written:  --data DIR")
    })?;
    progress.step("looking at what others ask ...");
    let (rates, rates_from) = suggestion(app, gauge.core_hashes).await;
    progress.clear();
    let machine = backend::detect(&data).await;
    let report = Report {
        machine: format!("{}; {}, {}", machine.resources, machine.cpu_model, machine.arch),
        engine: engine.as_ref().ok().map(|c| format!("{} {}", c.engine, c.version)),
        engine_problem: engine.as_ref().err().map(|f| f.message.clone()),
        not_held: engine.as_ref().map_or_else(|_| vec![], backend::unheld),
        cores_busy_percent: gauge.scaling_percent(),
        gauge,
        rates,
        rates_from,
    };
    app.out.either(&report, || text(&report, engine.as_ref().ok()));
    if let Some(problem) = &report.engine_problem {
        app.out.note(&format!("✗ jobs cannot run here: {problem}"));
        app.out.note("  → start or install a container engine:  farm doctor --fix");
        return Ok(Exit::Failed);
    }
    app.out.note("→ offer this machine at these prices:  farm up");
    Ok(Exit::Ok)
}

async fn suggestion(app: &App, core_hashes: u64) -> (Rates, String) {
    let fixed = |why: String| (backend::suggested_rates(), why);
    let (Ok(client), Ok(keys)) = (app.client(), app.keyring()) else { return fixed("fixed: no network is chosen".into()) };
    match backend::suggest(&client, &keys.account(), core_hashes).await {
        Err(_) => fixed("fixed: the network does not answer".into()),
        Ok(Suggestion { offers: 0, rates, .. }) => (rates, "fixed: too few others offer machines".into()),
        Ok(Suggestion { offers, rates, paid }) => {
            let what = if paid { "offers that somebody pays for" } else { "offers" };
            (rates, format!("the middle of {offers} {what}, a core by its speed"))
        }
    }
}

/// Work below this share of the declared, in percent, fails a check: its threshold lets 40 % of the work pass.
const FAILS_BELOW: u64 = 40;
/// Below this share many checks together show that too much was declared (`AuditParams::tolerance_ppm`).
const HONEST_FROM: u64 = 95;

/// What a check of all cores at once would say. Where checks are on, what all of them do is declared; where they are not, what one does
/// alone, and `scaling` is what would be left of that.
fn burst(scaling: u64) -> String {
    let later = match scaling {
        ..FAILS_BELOW => "it would fail",
        FAILS_BELOW..HONEST_FROM => "it would pass, and in time be held to that share",
        _ => return "would pass: all cores at once do what each does alone".into(),
    };
    format!(
        "would pass where checks are on when it joins. Where they begin later: all cores at once do {scaling} % of what is declared, {later}"
    )
}

fn text(report: &Report, engine: Option<&Capabilities>) -> String {
    let g = &report.gauge;
    let mut table = Table::pairs();
    let mut row = |name: &str, text: String| table.row([name.into(), text]);
    row("machine", report.machine.clone());
    if let Some(c) = engine {
        row("engine", format!("{} {}, control groups v{}, {}", c.engine, c.version, c.cgroup_version, c.storage_driver));
    }
    let held =
        if report.not_held.is_empty() { "every limit that jobs have".into() } else { format!("not: {}", report.not_held.join("; ")) };
    if engine.is_some() {
        row("holds jobs to", held);
    }
    row("one core", format!("{} hashes of capacity checks", each_second(g.core_hashes)));
    row("all cores", format!("{} ({} cores, each at {} % of one alone)", each_second(g.cpu_hashes), g.cores, report.cores_busy_percent));
    row("capacity check", burst(report.cores_busy_percent));
    row("memory", format!("{}/s copied by one core", display_bytes(g.memory_bytes)));
    row("disk", format!("{}/s written, {} small writes safe one by one", display_bytes(g.disk_bytes), each_second(g.disk_syncs)));
    row("network", "not measured: that needs somebody at the other end".into());
    let r = &report.rates;
    let price = format!(
        "{} cr a core, {} cr a GiB of memory, {} cr a GiB of disk",
        credits(r.cpu_core),
        credits(r.memory_gib),
        credits(r.disk_gib)
    );
    row("price an hour", price);
    row("", report.rates_from.clone());
    table.text().trim_end().to_owned()
}
