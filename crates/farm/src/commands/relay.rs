//! `farm relay run`: a relay that belongs to no network, for whoever names it.
//!
//! Guarantees: it has a key of its own and no account; the word that it shows is the same after every start. It keeps nothing of what it carries.

use crate::args::{RelayArgs, RelayCommand, RelayRunArgs};
use crate::backend;
use crate::exit::{Exit, Failure, Outcome};
use crate::feeds::Signals;
use crate::session::App;
use pasture_net::RelayServer;
use pasture_store::keys;

/// Its key, in its folder.
const KEY: &str = "relay.key";

/// Runs the command.
pub(crate) async fn run(app: &App, args: &RelayArgs) -> Outcome {
    match &args.command {
        RelayCommand::Run(args) => relay(app, args).await,
    }
}

async fn relay(app: &App, args: &RelayRunArgs) -> Outcome {
    let data = crate::config::absolute(&args.data.clone().unwrap_or_else(|| app.paths.data_dir.join("relay")))?;
    crate::config::make_private(&data)?;
    let key = keys::load_or_create(&data.join(KEY))?;
    let mut signals = Signals::listen()?;
    let server = RelayServer::start(&key, args.listen).await.map_err(|e| {
        Failure::new("listen", e.to_string()).next("take another port, or end what has it:  farm relay run --listen ADDRESS:PORT")
    })?;
    let word = server.named(&args.host.clone().unwrap_or_else(|| backend::host_of(server.address()))).to_string();
    if app.out.json {
        app.out.json(&serde_json::json!({"event": "ready", "relay": word, "listen": server.address().to_string()}));
    } else {
        app.out.note(&format!("✓ this relay carries what others have sealed, at {} (TCP and UDP)", server.address()));
        app.out.note(&format!("  its word  {word}"));
        app.out.note("  a network names it by  farm validator run --relay WORD,  or  farm dev --relay WORD");
        app.out.note("  Ctrl-C ends it");
    }
    let _ = signals.next().await;
    server.stop().await;
    Ok(Exit::Ok)
}
