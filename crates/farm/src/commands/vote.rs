//! `farm vote`: what is proposed for the network, how it stands, voting and proposing.
//!
//! Guarantees: a proposal is named by its number and shown before it is voted on; what is not a change that this program knows is
//! refused by its file before anything is put on hold.

use crate::args::{Choice, VoteArgs, VoteCommand};
use crate::exit::{Exit, Failure, Outcome};
use crate::patience::first_call;
use crate::render::Table;
use crate::render::number::{credits, duration};
use crate::session::{App, Session};
use pasture_api::{ProposalState, ProposalView};
use pasture_types::Timestamp;
use pasture_types::governance::{Change, GovernanceAction, Rejection, VoteChoice};
use pasture_types::tx::Action;
use std::path::Path;

/// Largest file of changes or text.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Runs the command.
pub(crate) async fn run(app: &App, args: &VoteArgs) -> Outcome {
    match &args.command {
        VoteCommand::List => list(app).await,
        VoteCommand::Cast { number, choice } => cast(app, *number, *choice).await,
        VoteCommand::Propose { title, changes, text } => propose(app, title, changes, text).await,
    }
}

async fn list(app: &App) -> Outcome {
    let client = app.client()?;
    let all = first_call(app.out, || client.proposals()).await?;
    let status = first_call(app.out, || client.status()).await?;
    if !app.out.json && all.is_empty() {
        app.out.note("nothing was ever proposed on this network");
        return Ok(Exit::Ok);
    }
    app.out.either(&all, || {
        let mut table = Table::new(&["NO", "PROPOSAL", "STATE", "YES", "NO", "VETO", "VOTED"]);
        for p in &all {
            table.row([
                p.number.to_string(),
                p.title.clone(),
                state(p, status.time),
                credits(p.yes),
                credits(p.no),
                credits(p.veto),
                voted(p),
            ]);
        }
        table.text()
    });
    Ok(Exit::Ok)
}

/// The share of all power that voted.
fn voted(p: &ProposalView) -> String {
    let all = p.yes.saturating_add(p.no).saturating_add(p.veto).saturating_add(p.abstain);
    let percent = all.mul_div(100, p.power.0.max(1)).map_or(0, |a| a.0);
    format!("{percent} %")
}

fn state(p: &ProposalView, now: Timestamp) -> String {
    match &p.state {
        ProposalState::Voting { until } => {
            let would = if p.passing { "would pass" } else { "would not pass" };
            format!("open for {}, {would}", duration(until.since(now)))
        }
        ProposalState::Passed { done_at } => format!("passed, done in {}", duration(done_at.since(now))),
        ProposalState::Rejected { why: Rejection::NoQuorum } => "rejected: too few voted".into(),
        ProposalState::Rejected { why: Rejection::NoMajority } => "rejected: too few were for it".into(),
        ProposalState::Rejected { why: Rejection::Vetoed } => "vetoed".into(),
        ProposalState::Executed { .. } => "done".into(),
        ProposalState::Failed { code, .. } => format!("passed, but could not be done (error {code})"),
    }
}

async fn one(session: &Session, number: u64) -> Result<ProposalView, Failure> {
    let all = session.ask(|| session.api.proposals()).await?;
    all.into_iter().find(|p| p.number == number).ok_or_else(|| {
        Failure::new("no-such-proposal", format!("there is no proposal {number}")).next("see which there are:  farm vote list")
    })
}

async fn cast(app: &App, number: u64, choice: Choice) -> Outcome {
    let session = Session::open(app).await?;
    let proposal = one(&session, number).await?;
    let choice = match choice {
        Choice::Yes => VoteChoice::Yes,
        Choice::No => VoteChoice::No,
        Choice::Veto => VoteChoice::Veto,
        Choice::Abstain => VoteChoice::Abstain,
    };
    session.submit(vec![Action::Governance(GovernanceAction::Vote { proposal: proposal.id, choice })]).await?;
    let now = one(&session, number).await?;
    session.out.either(&now, || {
        format!(
            "voted on {number}, {}: yes {} · no {} · veto {} · abstained {}; {}",
            now.title,
            credits(now.yes),
            credits(now.no),
            credits(now.veto),
            credits(now.abstain),
            state(&now, session.time())
        )
    });
    Ok(Exit::Ok)
}

async fn propose(app: &App, title: &str, changes: &Path, text: &Path) -> Outcome {
    let changes = parse(changes, &read(changes)?)?;
    let text = pasture_types::blob::hash(&read(text)?);
    let session = Session::open(app).await?;
    session.ensure_account().await?;
    let action = GovernanceAction::Propose { title: title.into(), text, changes };
    let tx = session.submit(vec![Action::Governance(action)]).await?;
    let id = pasture_types::governance::proposal_id(&tx, 0);
    let all = session.ask(|| session.api.proposals()).await?;
    let made = all.into_iter().find(|p| p.id == id);
    let made = made.ok_or_else(|| Failure::new("internal", "the proposal is not on the ledger"))?;
    session.out.either(&made, || {
        let deposit = credits(session.status.params.governance.rules.deposit);
        format!(
            "proposal {}, {}; {deposit} cr are on hold for it\nvote:  farm vote cast {} yes",
            made.number,
            state(&made, session.time()),
            made.number
        )
    });
    Ok(Exit::Ok)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let size = std::fs::metadata(path).map_err(|e| Failure::io("read", path, &e))?.len();
    if size > MAX_FILE_BYTES {
        return Err(Failure::usage(format!("{}: {size} bytes where at most {MAX_FILE_BYTES} are read", path.display())));
    }
    std::fs::read(path).map_err(|e| Failure::io("read", path, &e))
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Change>, Failure> {
    serde_json::from_slice(bytes).map_err(|e| {
        Failure::usage(format!("{}: {e}", path.display()))
            .next(r#"write a list of changes, for example [{"change": "max_open_orders", "to": 32}]"#)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::{AccountId, Amount, BlobHash, ProposalId};

    #[test]
    fn changes_are_read_from_a_list() {
        let path = Path::new("c.json");
        let changes = parse(path, br#"[{"change": "max_open_orders", "to": 32}, {"change": "min_stake", "to": "2000000000"}]"#).unwrap();
        assert_eq!(changes, [Change::MaxOpenOrders(32), Change::MinStake(Amount::credits(2))]);
        let failure = parse(path, br#"[{"change": "gravity", "to": 1}]"#).unwrap_err();
        assert!(failure.message.starts_with("c.json: ") && failure.exit.code() == 2, "{failure:?}");
    }

    #[test]
    fn a_proposal_says_how_it_stands() {
        let p = ProposalView {
            id: ProposalId([1; 32]),
            number: 3,
            proposer: AccountId([2; 32]),
            title: "more orders".into(),
            text: BlobHash([0; 32]),
            changes: vec![],
            opened: Timestamp(0),
            power: Amount::credits(100),
            yes: Amount::credits(30),
            no: Amount::credits(10),
            veto: Amount::ZERO,
            abstain: Amount::credits(2),
            state: ProposalState::Voting { until: Timestamp(61_000) },
            passing: true,
        };
        assert_eq!((voted(&p), state(&p, Timestamp(1_000))), ("42 %".into(), "open for 1m 00s, would pass".into()));
        let over = ProposalView { state: ProposalState::Rejected { why: Rejection::NoQuorum }, ..p };
        assert_eq!(state(&over, Timestamp(0)), "rejected: too few voted");
        // What scripts read comes back as it was.
        let json = serde_json::to_string(&over).unwrap();
        assert_eq!(serde_json::from_str::<ProposalView>(&json).unwrap(), over);
    }
}
