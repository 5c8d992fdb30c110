//! `farm validator`: the keys of a validator, its place in a network, running it.
//!
//! Guarantees: keys stay in the validator's folder; a folder that belongs to a network keeps it; once the ready line is shown, the API
//! answers, whether or not enough of the others are up for blocks.

use crate::args::{JoinArg, ValidatorArgs, ValidatorCommand, ValidatorInitArgs, ValidatorJoinArgs, ValidatorRunArgs};
use crate::backend::{self, Join, JoinStep, Place, Validator, ValidatorOptions};
use crate::commands::dev::public;
use crate::commands::{duties, seats};
use crate::config::absolute;
use crate::exit::{Exit, Failure, Outcome};
use crate::feeds::{Signals, parent_gone};
use crate::ingress;
use crate::render::Progress;
use crate::render::number::{count, duration};
use crate::session::{App, now_ms};
use pasture_api::ApiClient;
use pasture_types::Millis;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Runs the command.
pub(crate) async fn run(app: &App, args: &ValidatorArgs) -> Outcome {
    match &args.command {
        ValidatorCommand::Init(args) => init(app, args),
        ValidatorCommand::Join(args) => join(app, args),
        ValidatorCommand::Run(args) => Box::pin(serve(app, args)).await,
        ValidatorCommand::Register(args) => seats::register(app, args).await,
        ValidatorCommand::Bond(args) => seats::bond(app, args).await,
        ValidatorCommand::Unbond(args) => seats::unbond(app, args).await,
        ValidatorCommand::Unjail(args) => seats::unjail(app, args).await,
        ValidatorCommand::Ls => seats::ls(app).await,
        ValidatorCommand::Status(args) => duties::run(app, args).await,
    }
}

fn init(app: &App, args: &ValidatorInitArgs) -> Outcome {
    let data = absolute(&args.data)?;
    let said = backend::announce(&data, args.address)?;
    let text = serde_json::to_string_pretty(&said).map_err(|e| Failure::new("internal", e.to_string()))?;
    match &args.out {
        None => app.out.data(&text),
        Some(path) => {
            std::fs::write(path, format!("{text}\n")).map_err(|e| Failure::io("write", path, &e))?;
            app.out.note(&format!("✓ validator {} in {}", said.key.short(), data.display()));
            app.out.note(&format!("  give {} to whoever makes the genesis; nothing in it is secret", path.display()));
        }
    }
    Ok(Exit::Ok)
}

fn join(app: &App, args: &ValidatorJoinArgs) -> Outcome {
    let data = absolute(&args.data)?;
    let checkpoint = args.checkpoint.as_deref().map(backend::trusted_in).transpose()?;
    let (genesis, place) = backend::settle(&data, (&args.genesis, &args.network), args.address, checkpoint.as_ref())?;
    app.out.note(&format!("✓ {} belongs to network {} ({})", data.display(), genesis.name, genesis.zone().short()));
    if let Some(checkpoint) = &checkpoint {
        app.out.note(&format!("  whoever shows it a history must come by the validators of block {}", checkpoint.since()));
        if let Some(over) = checkpoint.outlived(now_ms()) {
            app.out.warn(&format!(
                "! the checkpoint is {} older than deposits are held: those it names may have nothing to lose",
                duration(Millis(over))
            ));
        }
    }
    if place == Place::Candidate {
        app.out
            .note("  its genesis does not name this validator: it follows the others as a candidate, and has no vote before it is elected");
    }
    app.out.note(&format!("  start it:  farm validator run --data {}", data.display()));
    if place == Place::Candidate {
        app.out.note(&format!("  stand for election:  farm validator register --data {} --deposit CREDITS", data.display()));
    }
    Ok(Exit::Ok)
}

/// Shows how far it is with joining by state.
fn tell_join(app: &App, data: &Path) -> Arc<dyn Fn(JoinStep) + Send + Sync> {
    let (out, data) = (app.out, data.display().to_string());
    let progress = Mutex::new(Progress::new(app.out));
    Arc::new(move |step| {
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        match step {
            JoinStep::Waiting => {
                out.note("waiting for a validator of the network that lets this one in");
                out.note(&format!("  who has no seat has to stand for election:  farm validator register --data {data} --deposit CREDITS"));
                out.note("  the others look at that when a term of the engine begins, in a minute or two");
            }
            JoinStep::Lied { why } => {
                out.warn(&format!("! a validator shows a history that cannot be this network's, and is not asked any more: {why}"));
                out.note("  if all of them do, ask where the genesis and the checkpoint came from");
            }
            JoinStep::State { height, have, of } => {
                let tenths = have.saturating_mul(10) / of.max(1);
                progress.step(&format!("fetching the state after block {height}: {} %", tenths.saturating_mul(10)));
            }
            JoinStep::Joined { height } => {
                progress.clear();
                out.note(&format!("✓ the state after block {height} is here; blocks follow"));
            }
        }
    })
}

/// Says that it runs, and as what.
async fn ready(app: &App, data: &Path, validator: &Validator) -> Result<(), Failure> {
    let (key, url, zone) = (validator.key(), validator.api_url(), validator.zone());
    let ticket = validator.ticket().map(|ticket| ticket.to_text());
    let ingress = ApiClient::new(&url)?.ingress().await.ok();
    if app.out.json {
        app.out.json(&serde_json::json!({
            "event": "ready", "validator": key, "network": zone, "validators": validator.validators(), "api_url": url,
            "seated": validator.seated(), "ticket": ticket, "ingress": ingress,
        }));
        return Ok(());
    }
    let part = if validator.seated() { format!("one of {}", validator.validators()) } else { "a candidate without a vote".into() };
    app.out.data(&format!("✓ validator {} of network {}, {part}", key.short(), zone.short()));
    if let Some(left) = backend::waits_with_votes(data)? {
        app.out.note(&format!("  restored from a backup: it votes in terms of the engine that begin in {} or later", duration(left)));
    }
    app.out.note(&format!("  its API is at {url}"));
    if let Some(ticket) = ticket {
        app.out.note(&format!("  others join with:  farm join {ticket}"));
    }
    if let Some(ingress) = ingress {
        app.out.note(&format!("  visitors reach what farm expose opens at {}", ingress.url("...")));
    }
    let quorum = validator.quorum();
    if quorum > 1 {
        app.out.note(&format!("  blocks are made while {} are up", count(quorum as u64, "validator")));
    }
    app.out.note("  Ctrl-C stops it");
    Ok(())
}

async fn serve(app: &App, args: &ValidatorRunArgs) -> Outcome {
    let data = absolute(&args.data)?;
    let mut signals = Signals::listen()?;
    if !args.listen.ip().is_loopback() {
        app.out.warn(&format!("! everybody who reaches {} can use this validator's API", args.listen));
    }
    app.out.note("starting the validator ...");
    let options = ValidatorOptions {
        failpoint: backend::failpoint(app.env.failpoint.as_deref())?,
        join: args.join.map(|join| match join {
            JoinArg::State => Join::State,
            JoinArg::Blocks => Join::Blocks,
        }),
        on_join: Some(tell_join(app, &data)),
        keep_blocks: args.keep_blocks,
        public: args.public.map(|at| public(at, args.host.clone(), args.relay.clone(), !args.no_lan)).transpose()?,
        ingress: ingress::options(&args.ingress, &data, false)?,
        ..ValidatorOptions::new(args.listen)
    };
    let validator = tokio::select! {
        started = backend::validator(&data, options) => started?,
        // Joining takes as long as it takes; what is here stays for the next start.
        _ = signals.next() => return Ok(Exit::Job(130)),
        () = parent_gone(args.with_parent) => return Ok(Exit::Ok),
    };
    ready(app, &data, &validator).await?;
    let failed = tokio::select! {
        error = validator.failed() => Some(error),
        _ = signals.next() => None,
        () = parent_gone(args.with_parent) => None,
    };
    app.out.note("stopping; Ctrl-C again to stop at once");
    let stopped = tokio::select! {
        stopped = validator.stop() => stopped,
        _ = signals.next() => return Ok(Exit::Job(130)),
    };
    match failed {
        Some(error) => Err(error.into()),
        None => stopped.map(|()| Exit::Ok).map_err(Failure::from),
    }
}
