//! `farm ledger`: reading and checking what the network agreed on.
//!
//! Guarantees: nothing here changes anything. `check` and `replay` end with a failure when something is wrong.

use crate::args::{LedgerArgs, LedgerCommand};
use crate::backend;
use crate::exit::{Exit, Failure, Outcome};
use crate::patience::first_call;
use crate::render::Table;
use crate::render::number::count;
use crate::session::App;
use crate::words::plainly;
use pasture_rt::{TaskKind, spawn_blocking};
use std::path::Path;
use std::str::FromStr;

/// Violations that are shown.
const SHOWN: usize = 20;

/// Runs the command.
pub(crate) async fn run(app: &App, args: &LedgerArgs) -> Outcome {
    match &args.command {
        LedgerCommand::Head { height } => head(app, *height).await,
        LedgerCommand::Get { what, id } => get(app, what, id.as_deref()).await,
        LedgerCommand::Check => check(app).await,
        LedgerCommand::Replay { data } => replay(app, data).await,
    }
}

async fn head(app: &App, height: Option<u64>) -> Outcome {
    let client = app.client()?;
    let view = match height {
        Some(height) => first_call(app.out, || client.block(height)).await?,
        None => first_call(app.out, || client.head()).await?,
    };
    app.out.either(&view, || {
        let mut table = Table::pairs();
        for (name, value) in [
            ("height", view.height.to_string()),
            ("time", format!("{} ms", view.time)),
            ("transactions", view.transactions.to_string()),
            ("digest", view.digest.clone()),
            ("parent", view.parent.clone()),
            ("state root", view.state_root.clone()),
            ("randomness", view.randomness.clone()),
            ("proposer", view.proposer.clone()),
            ("final by", count(view.certificate.len() as u64 / 2, "byte") + " of signatures"),
        ] {
            table.row([name.into(), value]);
        }
        table.text()
    });
    Ok(Exit::Ok)
}

async fn get(app: &App, what: &str, id: Option<&str>) -> Outcome {
    let client = app.client()?;
    let failed = |e: serde_json::Error| Failure::new("internal", e.to_string());
    let value = match (what, id) {
        ("account", Some(id)) => {
            let id = parse(id)?;
            serde_json::to_value(first_call(app.out, || client.account(&id)).await?).map_err(failed)?
        }
        ("lease", Some(id)) => {
            let id = parse(id)?;
            serde_json::to_value(first_call(app.out, || client.lease(&id)).await?).map_err(failed)?
        }
        ("order", Some(id)) => {
            let id = parse(id)?;
            serde_json::to_value(first_call(app.out, || client.order(&id)).await?).map_err(failed)?
        }
        ("node", Some(id)) => {
            let id = parse(id)?;
            serde_json::to_value(first_call(app.out, || client.node(&id)).await?).map_err(failed)?
        }
        ("account" | "lease" | "order" | "node", None) => return Err(Failure::usage(format!("which {what}? write its id after it"))),
        (key, None) if !key.is_empty() && key.bytes().all(|b| b.is_ascii_hexdigit()) && key.len().is_multiple_of(2) => {
            serde_json::to_value(first_call(app.out, || client.state(key)).await?).map_err(failed)?
        }
        _ => return Err(Failure::usage(format!("`{what}` is neither a key in hex nor one of account, lease, order, node"))),
    };
    app.out.either(&value, || serde_json::to_string_pretty(&value).unwrap_or_default());
    Ok(Exit::Ok)
}

fn parse<T: FromStr>(id: &str) -> Result<T, Failure>
where
    T::Err: std::fmt::Display,
{
    id.parse().map_err(|e: T::Err| Failure::usage(e.to_string()))
}

async fn check(app: &App) -> Outcome {
    let client = app.client()?;
    let view = first_call(app.out, || client.check()).await?;
    app.out.either(&view, || {
        let mut text: String = view.checked.iter().map(|name| format!("✓ {}\n", plainly(name))).collect();
        text.push_str(&format!("{} checked at height {}", count(view.checked.len() as u64, "rule"), view.height));
        text
    });
    if view.violations.is_empty() {
        return Ok(Exit::Ok);
    }
    let list: Vec<String> = view.violations.iter().take(SHOWN).map(|v| format!("  {}", plainly(v))).collect();
    Err(Failure::new("ledger-violated", format!("{} violated:\n{}", count(view.violations.len() as u64, "rule"), list.join("\n")))
        .next("stop the network, keep its folder, and replay it:  farm ledger replay --data DIR"))
}

async fn replay(app: &App, data: &Path) -> Outcome {
    app.out.note("executing every block again ...");
    let folder = data.to_path_buf();
    let replayed = spawn_blocking(TaskKind::ClientFollow, move || backend::replay(&folder)).join().await;
    let report = replayed.unwrap_or_else(|| Err(Failure::new("internal", "the replay broke off")))?;
    let value = serde_json::json!({
        "height": report.blocks, "blocks": report.blocks, "transactions": report.txs, "failed_transactions": report.failed_txs,
        "state_root": hex::encode(report.state_root), "difference": report.difference,
    });
    app.out.either(&value, || {
        let (blocks, txs) = (count(report.blocks, "block"), count(report.txs, "transaction"));
        format!("{blocks} with {txs} executed, {} without effect\nstate root {}", report.failed_txs, hex::encode(report.state_root))
    });
    match report.difference {
        None => Ok(Exit::Ok),
        Some((height, how)) => Err(Failure::new("replay-differs", format!("block {height} comes out differently: {}", plainly(&how)))
            .next("keep the folder: it shows a fault of this version or of the disk")),
    }
}
