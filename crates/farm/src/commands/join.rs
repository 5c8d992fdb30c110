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
use crate::render::Progress;
use crate::session::App;
use pasture_api::NetworkStatus;
use pasture_light::Checkpoint;
use pasture_net::{Doorway, Found, Ticket, TicketError, look_in_lan};
use std::time::Duration;

/// How many digits of its id a network's name gets if another one has that name.
const DIGITS: usize = 4;
/// How long the LAN is asked for networks.
const LOOK: Duration = Duration::from_secs(3);
/// Longest name that is looked for there.
const MAX_WORD: usize = 64;

/// `farm join`.
pub(crate) async fn run(app: &App, args: &JoinArgs) -> Outcome {
    let word = match &args.ticket {
        Some(word) => word.clone(),
        None => match chosen(app).await? {
            Some(ticket) => ticket.to_text(),
            None => return Ok(Exit::Ok),
        },
    };
    let (name, ticket) = enter(app, &word, args.name.as_deref()).await?;
    let joined = || format!("joined {name}: network {}; it is used from now on", ticket.zone.short());
    let Some(invite) = &ticket.invite else {
        app.out.either(&serde_json::json!({"context": name, "network": ticket.zone}), joined);
        app.out.note("run something:  farm run .      offer this machine:  farm up");
        return Ok(Exit::Ok);
    };
    // Said before the account is opened: that may fail, and the network is joined then all the same.
    app.out.note(&joined());
    let account = grants::open_with(app, invite).await?;
    let value = serde_json::json!({"context": name, "network": ticket.zone, "account": account});
    app.out.either(&value, || grants::is_open(&account));
    Ok(Exit::Ok)
}

/// The networks that nodes in this LAN tell of.
async fn in_lan(app: &App) -> Result<Vec<Found>, Failure> {
    let mut progress = Progress::new(app.out);
    progress.step("looking for networks in this LAN");
    let found = look_in_lan(LOOK).await.map_err(|e| Failure::new("not-in-lan", e.to_string()))?;
    progress.clear();
    Ok(found)
}

/// The one network in this LAN, if the user wants it; `None`: they were shown and none is joined.
async fn chosen(app: &App) -> Result<Option<Ticket>, Failure> {
    let found = in_lan(app).await?;
    if app.out.json && !app.yes {
        let shown = |one: &Found| serde_json::json!({"name": one.name, "network": one.ticket.zone, "ticket": one.ticket.to_text()});
        app.out.json(&serde_json::json!(found.iter().map(shown).collect::<Vec<_>>()));
        return Ok(None);
    }
    match &found[..] {
        [] => Err(Failure::new("not-in-lan", "no network was found in this LAN")
            .next("join one by its ticket:  farm join TICKET")
            .next("begin one here:  farm dev --listen ADDRESS:PORT")),
        [one] => {
            let answer =
                app.out.ask(&format!("Join {} ({}), which somebody in this LAN tells of? [y/N] ", one.name, one.ticket.zone.short()));
            let wanted = app.yes || matches!(answer.as_deref(), Some("y" | "yes"));
            if !wanted {
                app.out.note(&format!("{} ({}) is in this LAN; join it:  farm join '{}'", one.name, one.ticket.zone.short(), one.name));
            }
            Ok(wanted.then(|| one.ticket.clone()))
        }
        several => {
            for one in several {
                app.out.note(&format!("{} ({}):  farm join {}", one.name, one.ticket.zone.short(), one.ticket.zone.short()));
            }
            Err(Failure::usage(format!("{} networks are in this LAN: say which", several.len())))
        }
    }
}

/// A ticket, or what a network in this LAN is called: its name, or the beginning of its id.
async fn ticket_of(app: &App, word: &str) -> Result<Ticket, Failure> {
    let again = "ask for it again:  farm ticket  shows it on a machine of the network";
    let error = match Ticket::parse(word) {
        Ok(ticket) => return Ok(ticket),
        Err(TicketError::Form) => TicketError::Form,
        Err(error) => return Err(Failure::usage(error.to_string()).next(again)),
    };
    if word.len() > MAX_WORD || word.contains(|c: char| c.is_control()) {
        return Err(Failure::usage(error.to_string()).next(again));
    }
    let found = in_lan(app).await?;
    let called = |one: &&Found| one.name == word || one.ticket.zone.to_string().starts_with(word);
    let mut fitting = found.iter().filter(called);
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one.ticket.clone()),
        (Some(_), Some(_)) => {
            Err(Failure::usage(format!("several networks in this LAN are called `{word}`")).next("join by id, or by a ticket:  farm join"))
        }
        (None, _) => Err(Failure::usage(format!("{error}, and no network in this LAN is called so")).next(again)),
    }
}

/// The same for a machine that is started again and again with one ticket: where its network is in use already, nobody is asked, so that a
/// start needs nobody to be there.
pub(crate) async fn enter_unless_there(app: &App, text: &str) -> Result<(), Failure> {
    if let Ok(ticket) = Ticket::parse(text) {
        let file = ConfigFile::load(&app.paths.config_file())?;
        let used = file.context.as_ref().and_then(|name| file.contexts.get(name));
        if app.context.is_none() && used.is_some_and(|c| c.api_url == Doorway::api_url(&ticket.zone) && c.validators.is_some()) {
            return Ok(());
        }
    }
    enter(app, text, None).await.map(drop)
}

/// Makes the context of a ticket's network, or of one in this LAN, and uses it from now on.
pub(crate) async fn enter(app: &App, text: &str, name: Option<&str>) -> Result<(String, Ticket), Failure> {
    let ticket = ticket_of(app, text).await?;
    if let Some(name) = name {
        check_context_name(name)?;
        if name == DEV_CONTEXT {
            return Err(Failure::usage(format!("the context `{DEV_CONTEXT}` belongs to farm dev: take another name")));
        }
    }
    // Who was here before finds the network also when those of the ticket are gone.
    let joining = app.joining(backend::with_learned(&ticket, &app.paths.learned(&ticket.zone)));
    let met = meet(&joining, &ticket).await;
    if met.is_ok() {
        joining.learn(&joining.client()?).await;
    }
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
