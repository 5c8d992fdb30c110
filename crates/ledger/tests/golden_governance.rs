//! The frozen formats of governance, fees and reputation: borsh bytes of every action, change, event and record.
//!
//! When a format changes on purpose, the new text is in the file that the failure names; copy it over and write an ADR.

#![cfg(test)]

mod common;

use common::*;
use pasture_ledger::*;
use pasture_types::account::AccountParams;
use pasture_types::audit::AuditParams;
use pasture_types::event::Event;
use pasture_types::governance::Change;
use pasture_types::governance::*;
use pasture_types::market_rules::MarketParams;
use pasture_types::reputation::*;
use pasture_types::service::ServiceParams;
use pasture_types::stake::StakeParams;
use pasture_types::tx::*;
use pasture_types::validator::ValidatorParams;
use pasture_types::*;
use std::fmt::Write as _;

const FROZEN: &str = include_str!("golden/governance.txt");

struct Book(String);

impl Book {
    /// Writes a line, after checking that the bytes decode to the same value.
    fn add<T: borsh::BorshSerialize + borsh::BorshDeserialize + PartialEq + std::fmt::Debug>(&mut self, name: &str, value: &T) {
        let bytes = codec::encode(value);
        assert_eq!(codec::decode::<T>(&bytes, 1 << 20).as_ref(), Ok(value), "{name}");
        let mut hex = String::new();
        for b in bytes {
            write!(hex, "{b:02x}").unwrap();
        }
        writeln!(self.0, "{name} {hex}").unwrap();
    }
}

fn changes() -> Vec<(&'static str, Change)> {
    let (account, asset, amount) = (AccountId([1; 32]), AssetId(7), Amount(9));
    vec![
        ("accept_window", Change::AcceptWindow(Millis(1))),
        ("objection_epochs", Change::ObjectionEpochs(2)),
        ("heartbeat_grace_epochs", Change::HeartbeatGraceEpochs(3)),
        ("heartbeat_work", Change::HeartbeatWork(Millis(4))),
        ("start_window", Change::StartWindow(Millis(5))),
        ("shares", Change::Shares { provider_ppm: 6, treasury_ppm: 7, model_ppm: 8 }),
        ("base_price", Change::BasePrice(Amount(9))),
        ("block_cost", Change::BlockCost(10)),
        ("min_stake", Change::MinStake(Amount(11))),
        ("order_deposit", Change::OrderDeposit(Amount(12))),
        ("build_allowance", Change::BuildAllowance(Millis(13))),
        ("max_open_orders", Change::MaxOpenOrders(14)),
        ("max_lease", Change::MaxLease(Millis(15))),
        ("fees", Change::Fees(FeeParams::production())),
        ("reputation", Change::Reputation(ReputationParams::production())),
        ("governance", Change::Governance(GovernanceRules::production())),
        ("guardian", Change::Guardian(Guardian { members: vec![account], threshold: 1 })),
        ("unpause", Change::Unpause),
        ("spend", Change::Spend { to: account, asset, amount }),
        (
            "asset",
            Change::Asset { asset, terms: AssetTerms { symbol: "USDx".into(), decimals: 6, bridged: true, per_credit: Some(amount) } },
        ),
        ("accept_issuer", Change::AcceptIssuer(account)),
        ("drop_issuer", Change::DropIssuer(account)),
        ("rules", Change::Rules { version: 3, height: 16 }),
        ("market", Change::Market(Box::new(MarketParams::production()))),
        ("service", Change::Service(Box::new(ServiceParams::production()))),
        ("audits", Change::Audits(Box::new(AuditParams::production()))),
        ("stake", Change::Stake(Box::new(StakeParams::production()))),
        ("validators", Change::Validators(Box::new(ValidatorParams::production()))),
        ("accounts", Change::Accounts(Box::new(AccountParams::production()))),
    ]
}

fn actions() -> Vec<(&'static str, Action)> {
    let proposal = ProposalId([2; 32]);
    let all = changes().into_iter().map(|(_, c)| c).take(MAX_CHANGES).collect();
    let propose = GovernanceAction::Propose { title: "t".into(), text: BlobHash([3; 32]), changes: all };
    let pause = GovernanceAction::Pause { kinds: PauseSet::all(), duration: Millis(5) };
    vec![
        ("propose", Action::Governance(propose)),
        ("vote", Action::Governance(GovernanceAction::Vote { proposal, choice: VoteChoice::Veto })),
        ("pause", Action::Governance(pause)),
        ("unpause", Action::Governance(GovernanceAction::Unpause)),
        ("rate", Action::Reputation(ReputationAction::Rate { lease: LeaseId([4; 32]), stars: 5 })),
    ]
}

fn events() -> Vec<(&'static str, Event)> {
    let (proposal, account, amount) = (ProposalId([2; 32]), AccountId([1; 32]), Amount(9));
    let spent = GovernanceEvent::Spent { to: account, asset: AssetId(7), amount };
    let rated = ReputationEvent::Rated { lease: LeaseId([4; 32]), provider: account, account, stars: 5 };
    let voted = GovernanceEvent::Voted { proposal, account, choice: VoteChoice::Abstain, weight: amount };
    let of = Event::Governance;
    vec![
        ("proposed", of(GovernanceEvent::Proposed { proposal, proposer: account })),
        ("voted", of(voted)),
        ("extended", of(GovernanceEvent::Extended { proposal })),
        ("passed", of(GovernanceEvent::Passed { proposal })),
        ("rejected", of(GovernanceEvent::Rejected { proposal, why: Rejection::Vetoed })),
        ("executed", of(GovernanceEvent::Executed { proposal })),
        ("failed", of(GovernanceEvent::Failed { proposal, code: 31 })),
        ("spent", of(spent)),
        ("asset_set", of(GovernanceEvent::AssetSet { asset: AssetId(7) })),
        ("guardian_called", of(GovernanceEvent::GuardianCalled { member: account })),
        ("paused", of(GovernanceEvent::Paused { kinds: PauseSet::all(), until: Timestamp(START) })),
        ("unpaused", of(GovernanceEvent::Unpaused)),
        ("rules_activated", of(GovernanceEvent::RulesActivated { version: 3 })),
        ("rated", Event::Reputation(rated)),
    ]
}

fn records(book: &mut Book) {
    let (account, amount, shifted) = (AccountId([1; 32]), Amount(9), Timestamp(START));
    let states = [
        ProposalState::Voting { ends_shifted: shifted },
        ProposalState::Passed { executes_shifted: shifted },
        ProposalState::Rejected { why: Rejection::NoQuorum },
        ProposalState::Executed { at: shifted },
        ProposalState::Failed { code: 31, at: shifted },
    ];
    for (n, state) in states.into_iter().enumerate() {
        let proposal = Proposal {
            id: ProposalId([2; 32]),
            number: 3,
            proposer: account,
            title: "t".into(),
            text: BlobHash([4; 32]),
            changes: vec![Change::Unpause],
            opened_at: Timestamp(START),
            height: 5,
            rules: GovernanceRules::production(),
            deposit: amount,
            power: amount,
            tally: Tally { yes: Amount(1), no: Amount(2), veto: Amount(3), abstain: Amount(4) },
            extensions: 6,
            state,
        };
        book.add(&format!("record.proposal.{n}"), &proposal);
    }
    book.add("record.vote", &Vote { choice: VoteChoice::Yes, weight: amount });
    book.add("record.power_then", &vec![PowerThen { number: 1, power: amount }]);
    book.add("record.governance_counts", &GovernanceCounts { open: 1, last: 2 });
    book.add("record.pause", &Pause { kinds: PauseSet::all(), until_shifted: shifted });
    let wish = GuardianWish::Pause { kinds: PauseSet::all(), duration: Millis(5) };
    book.add("record.guardian_call.pause", &GuardianCall { wish, until_shifted: shifted });
    book.add("record.guardian_call.unpause", &GuardianCall { wish: GuardianWish::Unpause, until_shifted: shifted });
    book.add("record.pending_rules", &PendingRules { version: 3, height: 4 });
    book.add("record.load", &Load { height: 1, cost_us: 2, window: 3, window_us: 4 });
    let standing = Standing { fees: Amount(1), harm: Amount(2), rated: Amount(3), stars: Amount(4), pairs: 5, epoch: 6 };
    book.add("record.standing", &standing);
    let pair = Pair { provider_fees: Amount(1), user_fees: Amount(2), harm: Amount(3), rated: Amount(4), epoch: 5 };
    book.add("record.pair", &pair);
    let rating = Rating { lease: LeaseId([1; 32]), provider: account, account, stars: 5, weight: amount, epoch: 6, at: Timestamp(START) };
    book.add("record.rating", &rating);
    book.add("record.role", &[Side::Provider, Side::User]);
}

#[test]
fn the_formats_are_frozen() {
    let mut book = Book(String::new());
    for (name, action) in actions() {
        book.add(&format!("action.{name}"), &action);
    }
    for (name, change) in changes() {
        book.add(&format!("change.{name}"), &change);
    }
    for (name, event) in events() {
        book.add(&format!("event.{name}"), &event);
    }
    for (n, choice) in [VoteChoice::Yes, VoteChoice::No, VoteChoice::Veto, VoteChoice::Abstain].into_iter().enumerate() {
        book.add(&format!("choice.{n}"), &choice);
    }
    for kind in PauseKind::ALL {
        book.add(&format!("pause_kind.{}", kind as u8), &PauseSet::default().with(kind));
    }
    book.add("proposal_id", &proposal_id(&TxId([1; 32]), 2));
    book.add("params.governance.dev", &GovernanceParams::dev());
    book.add("params.governance.production", &GovernanceParams::production());
    book.add("params.fees.dev", &FeeParams::dev());
    book.add("params.reputation.dev", &ReputationParams::dev());
    records(&mut book);
    if book.0 != FROZEN {
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("governance.txt");
        std::fs::write(&path, &book.0).unwrap();
        let name = |l: &str| l.split(' ').next().unwrap_or_default().to_owned();
        let changed: Vec<_> = book.0.lines().filter(|l| !FROZEN.lines().any(|f| f == *l)).map(name).collect();
        panic!("formats changed: {changed:?}; if that is meant, copy {} over tests/golden/governance.txt", path.display());
    }
}

#[test]
fn error_codes_are_frozen() {
    let errors = [
        (60, TxError::Paused),
        (95, TxError::Rating("")),
        (100, TxError::BlockFull { used: 1, cost: 1, limit: 1 }),
        (101, TxError::Bounds(OutOfBounds { name: "x", got: 1, low: 2, high: 3 })),
        (102, TxError::VoteOver),
        (103, TxError::NoVotingPower),
        (104, TxError::VoteFixed),
        (105, TxError::NotGuardian),
        (106, TxError::Rules(UnsupportedRules { version: 9, height: 1 })),
    ];
    for (code, error) in errors {
        assert_eq!(error.code(), code, "{error}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn views_read_back_what_they_show() {
    for (name, event) in events() {
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event, "{name}: {text}");
    }
    for (name, change) in changes() {
        let text = serde_json::to_string(&change).unwrap();
        assert_eq!(serde_json::from_str::<Change>(&text).unwrap(), change, "{name}: {text}");
    }
}
