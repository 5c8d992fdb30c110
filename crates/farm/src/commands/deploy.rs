//! `farm deploy`, and what `farm scale` and `farm update` do once they have changed what is asked.
//!
//! Guarantees: what is wrong with the file is said before the network is asked for anything; `--dry-run` sends nothing but
//! questions; the same command twice changes nothing the second time.

use crate::args::{DeployArgs, GoingArgs};
use crate::commands::explain::quote;
use crate::commands::run::{look, pack};
use crate::deploy::drive::{self, Built, Drive, End, Taste, label};
use crate::deploy::plan::{Goal, Stage};
use crate::deploy::record::{Deployment, Key, folder};
use crate::deploy::source;
use crate::exit::{Failure, Outcome};
use crate::public;
use crate::render::number::{count, credits, per_hour};
use crate::render::{Progress, Table};
use crate::secrets;
use crate::session::{App, Session, now_ms};
use crate::spec_file;
use pasture_types::BlobHash;
use pasture_types::fleet::Size;
use pasture_types::spec::{CheckedSource, CheckedSpec, parse_duration};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// Members of an array that are named one by one; the others are counted.
const SHOWN_FAILED: usize = 20;

/// Runs the command.
pub(crate) async fn run(app: &App, args: &DeployArgs) -> Outcome {
    limit(&args.going)?;
    let text = source::find(args.target.as_deref().or(args.file.as_deref()), args.compose).await?;
    let asked = text.read(args.name.as_deref())?;
    for note in &asked.notes {
        app.out.warn(&format!("! {note}"));
    }
    let session = Session::open(app).await?;
    let known = Deployment::load(&folder(&session.paths.jobs()), &session.status.zone, &asked.name)?;
    let mut record = known.unwrap_or_else(|| Deployment::new(asked.name.clone(), session.status.zone, now_ms()));
    (record.services, record.budget, record.origin, record.stopped) = (asked.services, asked.budget, text.shown, false);
    let taste = if args.again { Taste::Again } else { Taste::Asked };
    carry_out(app, &session, record, taste, &args.going).await
}

fn limit(going: &GoingArgs) -> Result<Option<Duration>, Failure> {
    let time = going.timeout.as_deref().map(parse_duration).transpose().map_err(|e| Failure::usage(format!("--timeout: {e}")))?;
    Ok(time.map(|t| Duration::from_millis(t.0)))
}

/// Brings about what a record asks for.
pub(crate) async fn carry_out(app: &App, session: &Session, record: Deployment, taste: Taste, going: &GoingArgs) -> Outcome {
    let until = limit(going)?.map(|t| Instant::now() + t);
    let specs = record.specs()?;
    // A secret that is missing is said before anything else.
    for spec in specs.values() {
        secrets::collect(&session.vault()?, &spec.secrets)?;
        public::check(&session.vault()?, &spec.public, &record.name)?;
    }
    session.ready().await?;
    let built = build_contexts(app, session, &specs).await?;
    session.ensure_account().await?;
    let (jobs, _) = session.jobs().await?;
    let (mut drive, mut heard) = Drive::new(session, record, specs, built, &jobs, taste);
    if going.dry_run {
        return dry(session, &drive).await;
    }
    let goal = if going.wait { Goal::Settled } else { Goal::Running };
    let end = drive.go(&mut heard, goal, until).await?;
    drive.finish().await;
    summary(session, &drive, end)
}

/// Packs each folder that something is built from, once.
async fn build_contexts(app: &App, session: &Session, specs: &BTreeMap<String, CheckedSpec>) -> Result<BTreeMap<String, Built>, Failure> {
    let mut built = BTreeMap::new();
    let mut progress = Progress::new(session.out);
    for (service, spec) in specs {
        let CheckedSource::Build { context, .. } = &spec.source else { continue };
        let asked = spec_file::Asked { spec: spec.clone(), folder: Some(PathBuf::from(context)), name: service.clone() };
        let Some(plan) = look(app, &asked)? else { continue };
        built.insert(service.clone(), Built::new(pack(session, plan, &mut progress).await?));
    }
    Ok(built)
}

/// What a part would become.
const fn intent(stage: &Stage, replaces: bool) -> &'static str {
    match (stage, replaces) {
        (Stage::Waiting, true) => "replace",
        (Stage::Waiting, false) => "start",
        (Stage::Done, _) => "done",
        _ => "keep",
    }
}

/// Says what would be done.
async fn dry(session: &Session, drive: &Drive<'_>) -> Outcome {
    let balance = session.ensure_account().await?.balance;
    let mut quotes = BTreeMap::new();
    for (service, spec) in &drive.specs {
        let starts = drive.plan.parts().any(|(k, p)| k.service == *service && p.stage == Stage::Waiting);
        if starts {
            quotes.insert(service.clone(), quote(session, spec, BlobHash([0; 32]), balance).await);
        }
    }
    let parts: Vec<(&Key, &'static str)> = drive.plan.parts().map(|(k, p)| (k, intent(&p.stage, p.old.is_some()))).collect();
    let stops = drive.record.leaving.len();
    let problems: Vec<&Failure> = quotes.values().filter_map(|q| q.as_ref().err()).collect();
    let value = serde_json::json!({
        "deployment": drive.record.name,
        "parts": parts.iter().map(|(k, what)| serde_json::json!({"service": k.service, "index": k.index, "would": what})).collect::<Vec<_>>(),
        "would_stop": stops,
        "prices": quotes.iter().filter_map(|(s, q)| q.as_ref().ok().map(|t| (s.clone(), serde_json::json!({
            "max_price_per_hour": t.max_price_per_hour, "at_most_each": t.budget,
        })))).collect::<BTreeMap<_, _>>(),
        "problems": problems.iter().map(|f| f.message.clone()).collect::<Vec<_>>(),
    });
    session.out.either(&value, || {
        let mut table = Table::new(&["SERVICE", "PARTS", "WOULD", "PRICE"]);
        for service in drive.specs.keys() {
            let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
            for (_, what) in parts.iter().filter(|(k, _)| k.service == *service) {
                *counts.entry(what).or_default() += 1;
            }
            let would = counts.iter().map(|(what, n)| format!("{what} {n}")).collect::<Vec<_>>().join(", ");
            let price = match quotes.get(service) {
                Some(Ok(t)) => format!("up to {}, at most {} cr each", per_hour(t.max_price_per_hour), credits(t.budget)),
                Some(Err(failure)) => failure.message.lines().next().unwrap_or_default().to_owned(),
                None => "-".into(),
            };
            let size = drive.specs.get(service).map_or(0, |s| s.fleet.size.count());
            table.row([service.clone(), size.to_string(), if would.is_empty() { "nothing".into() } else { would }, price]);
        }
        let stops = if stops > 0 { format!("\nand stop {}", count(stops as u64, "job")) } else { String::new() };
        format!("{}{stops}\nnothing was done", table.text().trim_end())
    });
    match problems.first() {
        Some(failure) => Err((*failure).clone()),
        None => Ok(crate::exit::Exit::Ok),
    }
}

/// Says how it went.
fn summary(session: &Session, drive: &Drive<'_>, end: End) -> Outcome {
    let name = &drive.record.name;
    let mut failed: Vec<(Key, String)> = vec![];
    for (key, part) in drive.plan.parts() {
        match &part.stage {
            Stage::Failed(why) => failed.push((key.clone(), why.clone())),
            Stage::Waiting => failed.extend(drive.plan.blocked(&key.service).map(|why| (key.clone(), why))),
            _ => {}
        }
    }
    let state = |key: &Key, stage: &Stage| match stage {
        Stage::Waiting if drive.plan.blocked(&key.service).is_some() => "blocked",
        Stage::Waiting => "waiting",
        Stage::Starting => "starting",
        Stage::Up => "running",
        Stage::Well => "healthy",
        Stage::Done => "succeeded",
        Stage::Failed(_) => "failed",
    };
    if session.out.json {
        let part = |(key, part): (&Key, &crate::deploy::plan::Part)| {
            serde_json::json!({
                "service": key.service, "index": key.index, "state": state(key, &part.stage),
                "order": drive.record.unit(key).map(|u| u.order),
                "why": failed.iter().find(|(k, _)| k == key).map(|(_, why)| why),
            })
        };
        session.out.json(&serde_json::json!({
            "event": "deployed", "deployment": name, "complete": end == End::Over && failed.is_empty(), "spent": drive.record.spent,
            "parts": drive.plan.parts().map(part).collect::<Vec<_>>(),
        }));
        return drive::outcome(end, failed.len());
    }
    for service in drive.specs.keys() {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for (key, part) in drive.plan.parts().filter(|(k, _)| k.service == *service) {
            *counts.entry(state(key, &part.stage)).or_default() += 1;
        }
        let array = matches!(drive.specs.get(service).map(|s| s.fleet.size), Some(Size::Array { .. }));
        let several = counts.values().sum::<u64>() != 1 || array;
        let text = counts.iter().map(|(what, n)| if several { format!("{n} {what}") } else { (*what).to_owned() }).collect::<Vec<_>>();
        session.out.note(&format!("{service:<16} {}", if text.is_empty() { "nothing".into() } else { text.join(", ") }));
    }
    for (key, why) in failed.iter().take(SHOWN_FAILED) {
        session.out.note(&format!("✗ {} {why}", label(&drive.specs, key)));
    }
    if failed.len() > SHOWN_FAILED {
        session.out.note(&format!("✗ and {} more", failed.len() - SHOWN_FAILED));
    }
    match end {
        End::Late => session.out.warn(&format!("the time for this command is up; the same command goes on with {name}")),
        End::Left => session.out.note(&format!("left; what runs goes on, and so does the same command with {name}")),
        End::Over => {}
    }
    session.out.data(name);
    session.out.note(&format!("  farm status {name}   farm logs -f {name}   farm stop {name}"));
    drive::outcome(end, failed.len())
}
