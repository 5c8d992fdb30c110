//! `farm context`: which networks there are and which one is meant.
//!
//! Guarantees: touches the configuration file and nothing else; no network needs to answer.

use crate::args::{ContextArgs, ContextCommand};
use crate::backend;
use crate::config::{ConfigFile, Context, DEV_CONTEXT, check_api_url, check_context_name};
use crate::exit::{Exit, Failure, Outcome};
use crate::render::Table;
use crate::render::number::count;
use crate::session::App;
use crate::trust::checkpoint_of;
use pasture_light::Checkpoint;
use std::path::Path;

/// Runs the command.
pub(crate) fn run(app: &App, args: &ContextArgs) -> Outcome {
    let path = app.paths.config_file();
    let mut file = ConfigFile::load(&path)?;
    match &args.command {
        ContextCommand::List => list(app, &file),
        ContextCommand::Use { name } => {
            if !file.contexts.contains_key(name) {
                return Err(Failure::usage(format!("there is no context `{name}`")).next("see which there are:  farm context list"));
            }
            file.context = Some(name.clone());
            file.save(&path)?;
            app.out.note(&format!("context {name} is used from now on"));
        }
        ContextCommand::Create { name, trust } => {
            check_context_name(name)?;
            if name == DEV_CONTEXT {
                return Err(Failure::usage(format!("the context `{DEV_CONTEXT}` belongs to farm dev: take another name")));
            }
            let url = app.api_url.clone().ok_or_else(|| {
                Failure::usage("a context needs an address").next(format!("write:  farm context create {name} --api-url http://HOST:PORT"))
            })?;
            check_api_url(&url)?;
            let validators = trust.as_ref().map(|path| backend::trusted_in(path)).transpose()?.map(|point| hex::encode(point.encode()));
            file.contexts.insert(name.clone(), Context { api_url: url.trim_end_matches('/').into(), validators, ticket: None });
            file.context = Some(name.clone());
            file.save(&path)?;
            app.out.note(&format!("context {name} is used from now on: {url}"));
        }
        ContextCommand::Checkpoint { file } => checkpoint(app, file)?,
    }
    Ok(Exit::Ok)
}

/// Writes down whom the context trusts.
fn checkpoint(app: &App, file: &Path) -> Result<(), Failure> {
    let kept = app.target()?.validators.ok_or_else(|| {
        Failure::new("nobody-trusted", "this context trusts nobody, so there is nothing to write")
            .next("see which contexts do:  farm context list")
    })?;
    let point = checkpoint_of(&kept).map_err(|e| Failure::new("config", format!("the validators of this context cannot be read: {e}")))?;
    backend::write_checkpoint(file, &point)?;
    let hash = hex::encode(point.validators().hash());
    let value = serde_json::json!({
        "file": file, "network": hex::encode(point.validators().zone()), "hash": hash, "trusts": trusts(&point),
    });
    app.out.either(&value, || {
        format!(
            "{}: {}\nvalidators {hash}\nwhoever believes you makes a context with it:  farm context create NAME --api-url URL --trust {}",
            file.display(),
            text(&point),
            file.display()
        )
    });
    Ok(())
}

/// Whom a checkpoint trusts, for scripts.
fn trusts(point: &Checkpoint) -> serde_json::Value {
    serde_json::json!({"validators": point.validators().len(), "since": point.since(), "seen": point.seen_ms()})
}

/// The same for people.
fn text(point: &Checkpoint) -> String {
    let since = if point.since() == 0 { "the founding".into() } else { format!("block {}", point.since()) };
    format!("{} since {since}", count(point.validators().len() as u64, "validator"))
}

fn list(app: &App, file: &ConfigFile) {
    let current = app.target().ok();
    let is_current = |name: &str| current.as_ref().is_some_and(|t| t.context.as_deref() == Some(name));
    let of = |context: &Context| checkpoint_of(context.validators.as_deref()?).ok();
    if app.out.json {
        let one = |(name, context): (&String, &Context)| serde_json::json!({"name": name, "api_url": context.api_url, "current": is_current(name), "trusts": of(context).map(|p| trusts(&p))});
        app.out.json(&file.contexts.iter().map(one).collect::<Vec<_>>());
        return;
    }
    if file.contexts.is_empty() {
        app.out.note("no contexts; farm dev makes one for as long as it runs, farm context create one that stays");
        return;
    }
    let mut table = Table::new(&["", "NAME", "API", "TRUSTS"]);
    for (name, context) in &file.contexts {
        let mark = if is_current(name) { "*".into() } else { String::new() };
        let trusted = of(context).map_or_else(|| "nobody".into(), |point| text(&point));
        let api = if context.ticket.is_some() { "peer to peer".into() } else { context.api_url.clone() };
        table.row([mark, name.clone(), api, trusted]);
    }
    app.out.data(table.text().trim_end());
}
