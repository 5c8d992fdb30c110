//! `farm validator status`: how far a validator is, whether it is seated, and what it missed.
//!
//! Guarantees: reads only, and needs no account. What it missed is told by the ledger's own count of the blocks that each proposed in this
//! term: a seat that leads its turns proposes about as many as the others do on average. It does not know why a turn passed without a block.

use crate::args::ValidatorStatusArgs;
use crate::backend;
use crate::commands::seats::{one, rows};
use crate::config::absolute;
use crate::exit::{Failure, Outcome};
use crate::patience::first_call;
use crate::render::Table;
use crate::render::number::{count, duration};
use crate::session::{App, now_ms};
use crate::watching::{View, show};
use pasture_api::{ApiClient, ValidatorView, ValidatorsView};
use pasture_types::{Millis, NodeId, Timestamp};
use serde::Serialize;

/// A ledger whose newest block is older than this stands still, or this validator does not follow it: several validators make blocks
/// all the time.
const LATE: Millis = Millis(30_000);

/// What a validator did in this term, and what it was to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
struct Duties {
    /// Blocks that it proposed.
    proposed: u64,
    /// What a seat proposes on average.
    share: u64,
    /// By how many it is below that.
    missed: u64,
}

impl Duties {
    /// Of a seated validator.
    fn of(all: &ValidatorsView, v: &ValidatorView) -> Option<Self> {
        let share = all.term.share();
        (v.seated && all.term.blocks > 0).then(|| Self { proposed: v.proposed, share, missed: share.saturating_sub(v.proposed) })
    }
}

/// Runs the command.
pub(crate) async fn run(app: &App, args: &ValidatorStatusArgs) -> Outcome {
    let client = app.client()?;
    let key = args.data.as_ref().map(|data| backend::validator_key(&absolute(data)?)).transpose()?;
    show(app.out, args.watch, async || look(app, &client, args.key.as_deref(), key).await).await
}

async fn look(app: &App, client: &ApiClient, text: Option<&str>, key: Option<NodeId>) -> Result<View, Failure> {
    let all = first_call(app.out, || client.validators()).await?;
    let status = first_call(app.out, || client.status()).await?;
    let now = Timestamp(now_ms());
    let meant = match text {
        Some(text) => Some(one(&all, text)?),
        None => all.of(&key.unwrap_or(all.this.key)),
    };
    let lag = now.since(all.time);
    let duties = meant.and_then(|v| Duties::of(&all, v));
    let value = serde_json::json!({
        "height": all.height, "time": all.time, "lag_ms": lag, "waiting": status.pending_transactions, "answers": all.this,
        "term": all.term, "validator": meant, "duties": duties,
    });
    let mut table = Table::pairs();
    table.row(["network".into(), format!("{} {}, {}", status.name, status.zone.short(), count(status.validators.into(), "seat"))]);
    let waiting = count(status.pending_transactions, "transaction");
    table.row(["block".into(), format!("{}, {}; {waiting} waiting", all.height.0, age(&all, lag))]);
    table.row(["answers".into(), answers(&all)]);
    match meant {
        Some(v) => rows(&all, v, now.max(all.time)).into_iter().for_each(|(name, text)| table.row([name.into(), text])),
        None => {
            let key = key.unwrap_or(all.this.key);
            table.row(["validator".into(), format!("{key}, which is not registered: it follows, and has no vote")]);
            table.row(["next".into(), "farm validator register --data DIR --deposit CREDITS".into()]);
        }
    }
    if let Some(duties) = duties {
        table.row(["blocks".into(), proposed(&duties)]);
    }
    Ok(View { value, text: table.text(), over: false })
}

/// How old the newest block is.
fn age(all: &ValidatorsView, lag: Millis) -> String {
    let several = all.term.seats > 1;
    match lag {
        Millis(0..1_000) => "now".into(),
        lag if several && lag > LATE => format!("{} ago: blocks are not decided, or do not arrive here", duration(lag)),
        lag => format!("{} ago", duration(lag)),
    }
}

/// What the validator that answers says of itself.
fn answers(all: &ValidatorsView) -> String {
    let t = &all.this;
    let part = if t.certifies { "certifies blocks" } else { "follows without a vote" };
    format!("{}: {part}, connected with {}, term {} of the engine", t.key.short(), count(t.peers.into(), "other"), t.engine_term)
}

fn proposed(d: &Duties) -> String {
    let missed = match d.missed {
        0 => "none missed".into(),
        n => format!("{n} fewer than its share"),
    };
    format!("{} proposed in this term, a seat's average is {}: {missed}", d.proposed, d.share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::seats::tests::view;

    #[test]
    fn what_a_seat_missed_is_told_by_the_average_of_all() {
        let all = view();
        let duties = Duties::of(&all, &all.validators[0]).unwrap();
        assert_eq!(duties, Duties { proposed: 4, share: 2, missed: 0 });
        assert!(proposed(&duties).ends_with("none missed"));
        let idle = ValidatorView { proposed: 0, ..all.validators[0].clone() };
        assert_eq!(proposed(&Duties::of(&all, &idle).unwrap()), "0 proposed in this term, a seat's average is 2: 2 fewer than its share");
        assert!(Duties::of(&all, &all.validators[1]).is_none(), "who has no seat misses nothing");
        let quiet = ValidatorsView { term: pasture_api::TermView { blocks: 0, ..all.term }, ..all.clone() };
        assert!(Duties::of(&quiet, &all.validators[0]).is_none(), "one validator's blocks are not counted");
    }

    #[test]
    fn an_old_block_of_several_validators_is_a_fault() {
        let all = view();
        assert!(answers(&all).ends_with("certifies blocks, connected with 3 others, term 6 of the engine"));
        assert_eq!(age(&all, Millis(10)), "now");
        assert_eq!(age(&all, Millis(5_000)), "5s ago");
        assert!(age(&all, Millis(40_000)).contains("not decided"));
        let alone = ValidatorsView { term: pasture_api::TermView { seats: 1, ..all.term }, ..all };
        assert_eq!(age(&alone, Millis(40_000)), "40s ago");
    }
}
