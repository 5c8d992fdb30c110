//! `farm ledger`: reading and checking what the network agreed on.
//!
//! Guarantees: nothing here changes anything (`export` and `import` are in `moving`). `check` and `replay` end with a failure when something is wrong.

use super::moving;
use crate::args::{LedgerArgs, LedgerCommand};
use crate::backend::{self, RecordKind};
use crate::exit::{Exit, Failure, Outcome};
use crate::patience::{Calls, first_call};
use crate::render::Table;
use crate::render::number::count;
use crate::session::App;
use crate::verify::{Checker, Evidence, answered, stated};
use crate::words::plainly;
use pasture_rt::{TaskKind, spawn_blocking};
use pasture_types::{AccountId, LeaseId, NodeId, OrderId};
use serde_json::Value;
use std::path::Path;
use std::str::FromStr;

/// Violations that are shown.
const SHOWN: usize = 20;

/// Runs the command.
pub(crate) async fn run(app: &App, args: &LedgerArgs) -> Outcome {
    match &args.command {
        LedgerCommand::Head { height } => head(app, *height).await,
        LedgerCommand::Get { what, id, verify, since } => {
            let required = *verify || *since > 0;
            if required && app.skip_verification {
                return Err(Failure::usage("--skip-verification checks nothing: leave it away, or --verify and --since"));
            }
            get(app, what, id.as_deref(), Trust { required, since: *since }).await
        }
        LedgerCommand::Check => check(app).await,
        LedgerCommand::Export { file, data } => moving::export(app, file, data.as_deref()).await,
        LedgerCommand::Import { file, data, keys } => moving::import(app, file, data, keys.as_deref()).await,
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

/// How much of a gateway's word is taken.
#[derive(Clone, Copy)]
struct Trust {
    /// Fail unless it was checked.
    required: bool,
    /// Refuse what is older.
    since: u64,
}

/// A kind of record with an id, or a key.
enum Asked {
    Record(RecordKind, [u8; 32]),
    Key(Vec<u8>),
}

fn asked(what: &str, id: Option<&str>) -> Result<Asked, Failure> {
    Ok(match (what, id) {
        ("account", Some(id)) => Asked::Record(RecordKind::Account, parse::<AccountId>(id)?.0),
        ("lease", Some(id)) => Asked::Record(RecordKind::Lease, parse::<LeaseId>(id)?.0),
        ("order", Some(id)) => Asked::Record(RecordKind::Order, parse::<OrderId>(id)?.0),
        ("node", Some(id)) => Asked::Record(RecordKind::Node, parse::<NodeId>(id)?.0),
        ("account" | "lease" | "order" | "node", None) => return Err(Failure::usage(format!("which {what}? write its id after it"))),
        (key, None) if !key.is_empty() => Asked::Key(hex::decode(key).map_err(|_| neither(key))?),
        (other, _) => return Err(neither(other)),
    })
}

fn neither(what: &str) -> Failure {
    Failure::usage(format!("`{what}` is neither a key in hex nor one of account, lease, order, node"))
}

async fn get(app: &App, what: &str, id: Option<&str>, trust: Trust) -> Outcome {
    let asked = asked(what, id)?;
    let client = app.client()?;
    let calls = Calls::First(app.out);
    let Some(trusted) = app.trusted()? else {
        if trust.required {
            return Err(Failure::new("nobody-trusted", "there is nobody to check this against: no validators are known for this network")
                .next(
                    "get the network's founding file, or a checkpoint, from somebody you believe, then:  farm context create NAME --api-url URL --trust FILE",
                ));
        }
        let value = match asked {
            Asked::Record(kind, id) => answered(calls, &client, kind, id).await?.ok_or_else(|| nothing(what))?,
            Asked::Key(key) => serde_json::to_value(stated(calls, &client, &key).await?).unwrap_or_default(),
        };
        app.out.either(&value, || serde_json::to_string_pretty(&value).unwrap_or_default());
        if !app.skip_verification {
            app.out.note("not verified, as this context trusts nobody: this is the gateway's word");
        }
        return Ok(Exit::Ok);
    };
    let mut checker = Checker::new(calls, client.clone(), trusted, trust.since);
    let unproven = match &asked {
        Asked::Record(kind, _) => kind.unproven(),
        Asked::Key(_) => &[],
    };
    let (value, evidence) = match asked {
        Asked::Record(kind, id) => checker.view(kind, &id, || answered(calls, &client, kind, id)).await?,
        Asked::Key(key) => {
            let (shown, proof) = checker.record(&key).await?;
            let value = serde_json::json!({
                "key": hex::encode(&key), "value": shown.value.as_ref().map(hex::encode), "height": shown.header.height, "proof": proof,
            });
            (Some(value), Evidence::of(&shown))
        }
    };
    let Some(mut value) = value else {
        return Err(Failure::new(
            "not-found",
            format!("there is no such {what}, as the validators certified at block {}", evidence.height()),
        ));
    };
    if let Value::Object(fields) = &mut value {
        fields.insert("verified".into(), evidence.json());
    }
    app.out.either(&value, || serde_json::to_string_pretty(&value).unwrap_or_default());
    app.out.note(&evidence.text(checker.trusted()));
    if !unproven.is_empty() {
        app.out.note(&format!("  the gateway's word alone: {}", unproven.join(", ")));
    }
    Ok(Exit::Ok)
}

fn nothing(what: &str) -> Failure {
    Failure::new("not-found", format!("there is no such {what}"))
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
