//! `farm join` and `farm ticket`: into a network that this machine never heard of, with one word.
//!
//! Guarantees: a network is entered only if it shows the beginnings that the ticket names by their hash, so that whoever answers cannot be another
//! one; from then on its answers are checked by the validators that these began with. An invite's secret is not kept.

use crate::args::JoinArgs;
use crate::backend;
use crate::commands::grants;
use crate::config::{ConfigFile, Context, DEV_CONTEXT, check_context_name};
use crate::exit::{Exit, Failure, Outcome};
use crate::patience::first_call;
use crate::session::App;
use pasture_api::NetworkStatus;
use pasture_light::Checkpoint;
use pasture_net::{Doorway, Ticket};

/// How many digits of its id a network's name gets if another one has that name.
const DIGITS: usize = 4;

/// `farm join`.
pub(crate) async fn run(app: &App, args: &JoinArgs) -> Outcome {
    let (name, ticket) = enter(app, &args.ticket, args.name.as_deref()).await?;
    let value = serde_json::json!({"context": name, "network": ticket.zone});
    app.out.either(&value, || format!("joined {name}: network {}; it is used from now on", ticket.zone.short()));
    match &ticket.invite {
        Some(invite) => grants::redeem(app, invite).await,
        None => {
            app.out.note("run something:  farm run .      offer this machine:  farm up");
            Ok(Exit::Ok)
        }
    }
}

/// Makes the context of a ticket's network and uses it from now on.
pub(crate) async fn enter(app: &App, text: &str, name: Option<&str>) -> Result<(String, Ticket), Failure> {
    let ticket = Ticket::parse(text)
        .map_err(|e| Failure::usage(e.to_string()).next("ask for it again:  farm ticket  shows it on a machine of the network"))?;
    if let Some(name) = name {
        check_context_name(name)?;
        if name == DEV_CONTEXT {
            return Err(Failure::usage(format!("the context `{DEV_CONTEXT}` belongs to farm dev: take another name")));
        }
    }
    let joining = app.joining(ticket.clone());
    let met = meet(&joining, &ticket).await;
    joining.close().await;
    let (status, own_name, trusted) = met?;
    if status.zone != ticket.zone {
        return Err(Failure::new(
            "other-network",
            format!("who answers is of network {}, the ticket is for {}", status.zone.short(), ticket.zone.short()),
        ));
    }
    let path = app.paths.config_file();
    let mut file = ConfigFile::load(&path)?;
    let api_url = Doorway::api_url(&ticket.zone);
    let name = name.map_or_else(|| free_name(&file, &own_name, &ticket, &api_url), str::to_owned);
    let kept = Ticket { invite: None, ..ticket.clone() }.to_text();
    let validators = match file.contexts.get(&name) {
        // Whom it trusts may have moved on since.
        Some(known) if known.api_url == api_url && known.validators.is_some() => known.validators.clone(),
        _ => Some(hex::encode(trusted.encode())),
    };
    file.contexts.insert(name.clone(), Context { api_url, validators, ticket: Some(kept) });
    file.context = Some(name.clone());
    file.save(&path)?;
    Ok((name, ticket))
}

/// What the ticket's network says of itself, and whom it began with.
async fn meet(joining: &App, ticket: &Ticket) -> Result<(NetworkStatus, String, Checkpoint), Failure> {
    let client = joining.client()?;
    let status = first_call(joining.out, || client.status()).await?;
    let (name, trusted) = backend::joined(&client, &ticket.zone).await?;
    Ok((status, name, trusted))
}

/// The network's own name as a context's, or with some digits of its id if another network has that.
fn free_name(file: &ConfigFile, own: &str, ticket: &Ticket, api_url: &str) -> String {
    let plain: String = own.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(24).collect();
    let plain = if plain.is_empty() || plain == DEV_CONTEXT { "network".into() } else { plain };
    match file.contexts.get(&plain) {
        Some(other) if other.api_url != api_url => format!("{plain}-{}", ticket.zone.to_string().chars().take(DIGITS).collect::<String>()),
        _ => plain,
    }
}

/// `farm ticket`.
pub(crate) async fn ticket(app: &App) -> Outcome {
    let client = app.client()?;
    let shown = first_call(app.out, || client.ticket()).await.map_err(|error| match error.problem() {
        Some(problem) if problem.status == 404 => Failure::new("not-joinable", "the node that answers lets nobody in peer to peer")
            .next("start it with an address that others reach:  farm dev --listen"),
        _ => error.into(),
    })?;
    app.out.either(&shown, || shown.ticket.clone());
    app.out.note("whoever has it can join:  farm join TICKET");
    Ok(Exit::Ok)
}
