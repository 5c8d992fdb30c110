//! `farm context`: which networks there are and which one is meant.
//!
//! Guarantees: touches the configuration file and nothing else; no network needs to answer.

use crate::args::{ContextArgs, ContextCommand};
use crate::backend;
use crate::config::{ConfigFile, Context, DEV_CONTEXT, check_api_url, check_context_name};
use crate::exit::{Exit, Failure, Outcome};
use crate::render::Table;
use crate::session::App;

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
            let validators = trust.as_ref().map(|path| backend::trusted_in(path)).transpose()?.map(|set| hex::encode(set.encode()));
            file.contexts.insert(name.clone(), Context { api_url: url.trim_end_matches('/').into(), validators });
            file.context = Some(name.clone());
            file.save(&path)?;
            app.out.note(&format!("context {name} is used from now on: {url}"));
        }
    }
    Ok(Exit::Ok)
}

fn list(app: &App, file: &ConfigFile) {
    let current = app.target().ok();
    let is_current = |name: &str| current.as_ref().is_some_and(|t| t.context.as_deref() == Some(name));
    if app.out.json {
        let one = |(name, context): (&String, &Context)| serde_json::json!({"name": name, "api_url": context.api_url, "current": is_current(name)});
        app.out.json(&file.contexts.iter().map(one).collect::<Vec<_>>());
        return;
    }
    if file.contexts.is_empty() {
        app.out.note("no contexts; farm dev makes one for as long as it runs, farm context create one that stays");
        return;
    }
    let mut table = Table::new(&["", "NAME", "API"]);
    for (name, context) in &file.contexts {
        table.row([if is_current(name) { "*".into() } else { String::new() }, name.clone(), context.api_url.clone()]);
    }
    app.out.data(table.text().trim_end());
}
