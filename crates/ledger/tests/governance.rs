//! Votes: who may vote with what, how they end, what they change; and what an attacker tries.

#![cfg(test)]

mod common;

use common::*;
use pasture_ledger::query::governance as gov;
use pasture_ledger::*;
use pasture_types::event::Event;
use pasture_types::genesis::Params;
use pasture_types::governance::Change;
use pasture_types::governance::*;
use pasture_types::lease::EndReason;
use pasture_types::reputation::ReputationParams;
use pasture_types::tx::*;
use pasture_types::*;
use proptest::prelude::*;

const VOTING: u64 = 60_000;
const TIMELOCK: u64 = 10_000;

/// A zone with three depositors: 60, 30 and 10 credits.
struct Town {
    w: World,
    big: SigningKey,
    mid: SigningKey,
    small: SigningKey,
}

impl Town {
    fn new() -> Self {
        Self::with(Params::dev())
    }

    fn with(params: Params) -> Self {
        let mut w = World::with(params, 1);
        let (big, mid, small) = (key(21), key(22), key(23));
        for (k, stake) in [(&big, 60), (&mid, 30), (&small, 10)] {
            resident(&mut w, k, 100);
            w.act(k, vec![Action::RegisterProvider { name: "r".into() }, Action::Stake { amount: Amount::credits(stake) }]).unwrap();
        }
        Self { w, big, mid, small }
    }

    fn propose(&mut self, by: &SigningKey, changes: Vec<Change>) -> Result<ProposalId, TxError> {
        let events = self.w.act(by, vec![proposal(changes)])?;
        let Some(Event::Governance(GovernanceEvent::Proposed { proposal, .. })) = events.first() else { panic!("{events:?}") };
        Ok(*proposal)
    }

    fn vote(&mut self, by: &SigningKey, proposal: ProposalId, choice: VoteChoice) -> Result<Vec<Event>, TxError> {
        self.w.act(by, vec![Action::Governance(GovernanceAction::Vote { proposal, choice })])
    }

    fn get(&self, id: &ProposalId) -> Proposal {
        gov::proposal(&self.w.state, id).unwrap()
    }

    fn params(&self) -> Params {
        gov::params(&self.w.state).unwrap()
    }

    /// The big one passes it, and its timelock ends.
    fn enact(&mut self, changes: Vec<Change>) -> ProposalId {
        let big = self.big.clone();
        let id = self.propose(&big, changes).unwrap();
        self.vote(&big, id, VoteChoice::Yes).unwrap();
        let mid = self.mid.clone();
        self.vote(&mid, id, VoteChoice::Yes).unwrap();
        self.w.wait(VOTING + TIMELOCK + 1_000);
        id
    }
}

fn resident(w: &mut World, k: &SigningKey, credits: u64) {
    let body = w.body(k.account(), Auth::Single, vec![Action::RegisterAccount { keys: vec![k.public()], threshold: 1 }]);
    let payer = w.user.clone();
    let mint = Action::TestCredits { to: k.account(), amount: Amount::credits(credits) };
    w.act(&payer, vec![mint]).unwrap();
    w.send(&body.sign(k)).unwrap();
}

fn proposal(changes: Vec<Change>) -> Action {
    Action::Governance(GovernanceAction::Propose { title: "better".into(), text: BlobHash([7; 32]), changes })
}

fn min_stake(n: u64) -> Vec<Change> {
    vec![Change::MinStake(Amount::credits(n))]
}

#[test]
fn a_proposal_is_voted_waits_and_is_done() {
    let mut t = Town::new();
    let (big, small) = (t.big.clone(), t.small.clone());
    let before = t.w.balance(&small);
    let id = t.propose(&small, min_stake(2)).unwrap();
    assert!(t.w.balance(&small) < before.saturating_sub(Amount::credits(1)), "the deposit is locked");
    t.vote(&big, id, VoteChoice::Yes).unwrap();
    t.vote(&small, id, VoteChoice::No).unwrap();
    assert_eq!(t.get(&id).tally, Tally { yes: Amount::credits(60), no: Amount::credits(10), ..Tally::default() });
    t.w.wait(VOTING);
    assert!(matches!(t.get(&id).state, ProposalState::Passed { .. }), "{:?}", t.get(&id).state);
    assert!(t.w.balance(&small) > before.saturating_sub(Amount::credits(1)), "and returned when the vote is over");
    assert_eq!(t.params().min_stake, Amount::credits(1), "the timelock runs");
    t.w.wait(TIMELOCK + 100);
    assert!(matches!(t.get(&id).state, ProposalState::Executed { .. }));
    assert_eq!(t.params().min_stake, Amount::credits(2));
    assert_eq!(t.vote(&big, id, VoteChoice::No), Err(TxError::VoteOver));
    assert_eq!(next_due(&t.w.state), Due::Never, "an idle zone asks for no block");
    assert!(gov::votes(&t.w.state, &id, None, 10).is_empty(), "counted votes are deleted");
    assert_eq!(gov::proposals(&t.w.state, 0, 10).len(), 1);
}

#[test]
fn without_quorum_or_majority_nothing_happens_and_the_deposit_returns() {
    let mut t = Town::new();
    let (big, mid, small) = (t.big.clone(), t.mid.clone(), t.small.clone());
    let unheard = t.propose(&small, min_stake(2)).unwrap();
    let lost = t.propose(&small, min_stake(3)).unwrap();
    let locked = t.w.balance(&small);
    t.vote(&small, unheard, VoteChoice::Yes).unwrap();
    t.vote(&mid, lost, VoteChoice::Yes).unwrap();
    t.vote(&big, lost, VoteChoice::No).unwrap();
    t.w.wait(VOTING + 1_000);
    assert_eq!(t.get(&unheard).state, ProposalState::Rejected { why: Rejection::NoQuorum });
    assert_eq!(t.get(&lost).state, ProposalState::Rejected { why: Rejection::NoMajority });
    assert!(t.w.balance(&small) > locked.saturating_add(Amount::credits(1)));
    assert_eq!(t.params().min_stake, Amount::credits(1));
}

#[test]
fn a_veto_forfeits_the_deposit() {
    let mut t = Town::new();
    let (big, small) = (t.big.clone(), t.small.clone());
    let id = t.propose(&small, min_stake(2)).unwrap();
    let (locked, treasury) = (t.w.balance(&small), query::treasury(&t.w.state, AssetId::CREDIT));
    t.vote(&big, id, VoteChoice::Veto).unwrap();
    t.w.wait(VOTING + 1_000);
    assert_eq!(t.get(&id).state, ProposalState::Rejected { why: Rejection::Vetoed });
    assert_eq!(t.w.balance(&small), locked);
    assert_eq!(query::treasury(&t.w.state, AssetId::CREDIT), treasury.saturating_add(Amount::credits(1)));
}

#[test]
fn a_handful_cannot_veto_away_a_deposit() {
    let mut t = Town::new();
    let (mid, small) = (t.mid.clone(), t.small.clone());
    let id = t.propose(&mid, min_stake(2)).unwrap();
    t.vote(&small, id, VoteChoice::Veto).unwrap();
    t.w.wait(VOTING + 1_000);
    assert_eq!(t.get(&id).state, ProposalState::Rejected { why: Rejection::NoQuorum });
}

/// Attack: vote, move the money to a fresh account, deposit it there, vote again.
#[test]
fn a_deposit_that_comes_after_the_proposal_does_not_vote_on_it() {
    let mut t = Town::new();
    let (big, mid) = (t.big.clone(), t.mid.clone());
    let id = t.propose(&mid, min_stake(2)).unwrap();
    t.vote(&mid, id, VoteChoice::Yes).unwrap();
    let fresh = key(40);
    resident(&mut t.w, &fresh, 100);
    t.w.act(&fresh, vec![Action::RegisterProvider { name: "f".into() }, Action::Stake { amount: Amount::credits(90) }]).unwrap();
    assert_eq!(t.vote(&fresh, id, VoteChoice::No), Err(TxError::NoVotingPower));
    // More of an old voter's counts as little.
    t.w.act(&mid, vec![Action::Stake { amount: Amount::credits(20) }]).unwrap();
    t.vote(&mid, id, VoteChoice::Yes).unwrap();
    assert_eq!(t.get(&id).tally.yes, Amount::credits(30));
    assert_eq!(t.get(&id).power, Amount::credits(100));
    // For the next proposal both count.
    let next = t.propose(&mid, min_stake(3)).unwrap();
    t.vote(&fresh, next, VoteChoice::Yes).unwrap();
    t.vote(&mid, next, VoteChoice::Yes).unwrap();
    assert_eq!(t.get(&next).tally.yes, Amount::credits(140));
    t.vote(&big, id, VoteChoice::No).unwrap();
    assert_eq!(gov::voting_power(&t.w.state, &fresh.account(), Some(&t.get(&id))), Amount::ZERO);
    assert_eq!(gov::total_voting_power(&t.w.state), Amount::credits(210));
}

#[test]
fn a_vote_can_be_changed_and_counts_once() {
    let mut t = Town::new();
    let big = t.big.clone();
    let id = t.propose(&big, min_stake(2)).unwrap();
    for choice in [VoteChoice::Yes, VoteChoice::Veto, VoteChoice::Abstain, VoteChoice::No, VoteChoice::No] {
        t.vote(&big, id, choice).unwrap();
        let tally = t.get(&id).tally;
        let cast = [tally.yes, tally.no, tally.veto, tally.abstain].iter().fold(Amount::ZERO, |a, b| a.saturating_add(*b));
        assert_eq!(cast, Amount::credits(60), "{choice:?}");
    }
    assert_eq!(t.get(&id).tally.no, Amount::credits(60));
}

/// Attack: everybody believes the vote is lost; it is turned in the last block, when nobody can answer.
#[test]
fn a_late_turn_moves_the_end_and_can_be_answered() {
    let mut t = Town::new();
    let (big, mid, small) = (t.big.clone(), t.mid.clone(), t.small.clone());
    let id = t.propose(&small, min_stake(2)).unwrap();
    t.vote(&small, id, VoteChoice::No).unwrap();
    t.w.wait(VOTING - 500);
    let events = t.vote(&mid, id, VoteChoice::Yes).unwrap();
    assert!(events.contains(&Event::Governance(GovernanceEvent::Extended { proposal: id })), "{events:?}");
    t.w.wait(5_000);
    assert!(matches!(t.get(&id).state, ProposalState::Voting { .. }));
    // Who voted already cannot turn it to and fro; who has not, can answer.
    assert_eq!(t.vote(&mid, id, VoteChoice::No), Err(TxError::VoteFixed));
    t.vote(&big, id, VoteChoice::No).unwrap();
    t.w.wait(30_000);
    assert_eq!(t.get(&id).state, ProposalState::Rejected { why: Rejection::NoMajority });
    assert!(t.get(&id).extensions >= 1);
}

/// Attack: keep a vote open for ever by turning it again and again with many small accounts.
#[test]
fn a_vote_is_lengthened_so_often_and_no_more() {
    let mut t = Town::new();
    let small = t.small.clone();
    let voters: Vec<_> = (0..14).map(|n| key(100 + n)).collect();
    for k in &voters {
        resident(&mut t.w, k, 20);
        t.w.act(k, vec![Action::RegisterProvider { name: "v".into() }, Action::Stake { amount: Amount::credits(10) }]).unwrap();
    }
    let id = t.propose(&small, min_stake(2)).unwrap();
    t.vote(&t.big.clone(), id, VoteChoice::Yes).unwrap();
    t.vote(&t.mid.clone(), id, VoteChoice::No).unwrap();
    // 60 to 30: three more against it are a draw, which fails; from there each vote turns it.
    for k in &voters[..3] {
        t.vote(k, id, VoteChoice::No).unwrap();
    }
    t.w.wait(VOTING - 1_000);
    let mut turns = 0;
    for (n, k) in voters[3..].iter().enumerate() {
        let choice = if n % 2 == 0 { VoteChoice::Yes } else { VoteChoice::No };
        if t.vote(k, id, choice).is_ok() {
            turns += 1;
            t.w.wait(9_000);
        }
    }
    assert_eq!(t.get(&id).extensions, 8);
    assert!(turns > 8, "the last ones turned it, and it ended all the same");
    t.w.wait(10_000);
    assert!(!matches!(t.get(&id).state, ProposalState::Voting { .. }));
}

#[test]
fn a_late_vote_that_turns_nothing_moves_nothing() {
    let mut t = Town::new();
    let (big, mid) = (t.big.clone(), t.mid.clone());
    let id = t.propose(&big, min_stake(2)).unwrap();
    t.vote(&big, id, VoteChoice::Yes).unwrap();
    t.w.wait(VOTING - 500);
    t.vote(&mid, id, VoteChoice::No).unwrap();
    assert_eq!(t.get(&id).extensions, 0);
    t.w.wait(1_000);
    assert!(matches!(t.get(&id).state, ProposalState::Passed { .. }));
}

/// Attack: proposals that would leave the zone ungovernable, or its sums wrong.
#[test]
fn parameters_out_of_bounds_are_not_even_voted_on() {
    let mut t = Town::new();
    let small = t.small.clone();
    let rules = GovernanceRules::dev();
    let fees = FeeParams::dev();
    let member = t.big.account();
    let bad: Vec<Vec<Change>> = vec![
        vec![Change::Shares { provider_ppm: 800_000, treasury_ppm: 150_000, model_ppm: 50_001 }],
        vec![Change::Shares { provider_ppm: 400_000, treasury_ppm: 600_000, model_ppm: 0 }],
        vec![Change::Shares { provider_ppm: u32::MAX, treasury_ppm: u32::MAX, model_ppm: u32::MAX }],
        vec![Change::ObjectionEpochs(0)],
        vec![Change::ObjectionEpochs(u64::MAX)],
        vec![Change::HeartbeatWork(Millis(5_000))],
        vec![Change::BlockCost(1)],
        vec![Change::BlockCost(u64::MAX)],
        vec![Change::BasePrice(Amount(0))],
        vec![Change::BasePrice(Amount(u128::MAX))],
        vec![Change::MaxLease(Millis(u64::MAX))],
        vec![Change::MaxOpenOrders(0)],
        vec![Change::OrderDeposit(Amount(u128::MAX))],
        vec![Change::Governance(GovernanceRules { quorum_ppm: 1_000_000, ..rules })],
        vec![Change::Governance(GovernanceRules { majority_ppm: 10, ..rules })],
        vec![Change::Governance(GovernanceRules { max_open: 0, ..rules })],
        vec![Change::Governance(GovernanceRules { deposit: Amount(u128::MAX), ..rules })],
        vec![Change::Governance(GovernanceRules { pause_gap: Millis(0), ..rules })],
        vec![Change::Guardian(Guardian { members: vec![member], threshold: 0 })],
        vec![Change::Guardian(Guardian { members: vec![member, member], threshold: 2 })],
        vec![Change::Fees(FeeParams { min_price: Amount(100), max_price: Amount(10), ..fees })],
        vec![Change::Fees(FeeParams { adaptive: true, min_price: Amount(100), ..fees })],
        vec![Change::Reputation(reputation_params(|p| p.pair_cap = p.half_point))],
        vec![Change::Reputation(reputation_params(|p| p.fees_ppm = 900_000))],
        // Each alone is fine, both together are not.
        vec![Change::MinStake(Amount::credits(3)), Change::Shares { provider_ppm: 800_000, treasury_ppm: 150_000, model_ppm: 0 }],
    ];
    for changes in bad {
        let got = t.propose(&small, changes.clone());
        assert!(matches!(got, Err(TxError::Bounds(_))), "{changes:?}: {got:?}");
    }
    let treasury = query::treasury(&t.w.state, AssetId::CREDIT).saturating_add(Amount(1));
    let spend = Change::Spend { to: small.account(), asset: AssetId::CREDIT, amount: treasury };
    assert!(matches!(t.propose(&small, vec![spend]), Err(TxError::InsufficientBalance { .. })));
    assert!(t.propose(&small, vec![]).is_err());
    assert!(t.propose(&small, vec![Change::MinStake(Amount(1)); MAX_CHANGES + 1]).is_err());
    let far = Change::Rules { version: 9, height: 1 };
    assert!(t.propose(&small, vec![far]).is_err(), "rules follow one another");
    assert_eq!(gov::proposal_counts(&t.w.state), GovernanceCounts::default());
}

fn reputation_params(change: impl FnOnce(&mut ReputationParams)) -> ReputationParams {
    let mut p = ReputationParams::dev();
    change(&mut p);
    p
}

#[test]
fn every_parameter_can_be_voted_and_the_set_is_checked_as_it_will_be() {
    let mut t = Town::new();
    let rules = GovernanceRules { timelock: Millis(5_000), ..GovernanceRules::dev() };
    let guardian = Guardian { members: vec![t.big.account()], threshold: 1 };
    let first = vec![
        Change::AcceptWindow(Millis(3_000)),
        Change::ObjectionEpochs(3),
        Change::HeartbeatGraceEpochs(2),
        Change::HeartbeatWork(Millis(60)),
        Change::StartWindow(Millis(600_000)),
        // A share moves from one to the other: only together they are a million.
        Change::Shares { provider_ppm: 850_000, treasury_ppm: 100_000, model_ppm: 50_000 },
        Change::BasePrice(Amount(11)),
        Change::BlockCost(300_000),
        Change::MinStake(Amount::credits(2)),
        Change::OrderDeposit(Amount(7)),
        Change::BuildAllowance(Millis(1)),
        Change::MaxOpenOrders(3),
        Change::MaxLease(Millis(3_600_000)),
        Change::Governance(rules),
        Change::Guardian(guardian.clone()),
        Change::AcceptIssuer(AccountId([5; 32])),
    ];
    let id = t.enact(first);
    assert!(matches!(t.get(&id).state, ProposalState::Executed { .. }), "{:?}", t.get(&id).state);
    let fees = FeeParams { min_price: Amount(9), ..FeeParams::dev() };
    let reputation = reputation_params(|p| p.penalty = 6);
    let id = t.enact(vec![Change::Fees(fees), Change::Reputation(reputation), Change::DropIssuer(AccountId([5; 32]))]);
    assert!(matches!(t.get(&id).state, ProposalState::Executed { .. }));
    let p = t.params();
    assert_eq!((p.accept_window, p.objection_epochs, p.heartbeat_grace_epochs), (Millis(3_000), 3, 2));
    assert_eq!((p.heartbeat_work, p.start_window, p.provider_ppm, p.treasury_ppm), (Millis(60), Millis(600_000), 850_000, 100_000));
    assert_eq!((p.base_price, p.block_cost_us, p.min_stake), (Amount(11), 300_000, Amount::credits(2)));
    assert_eq!((p.order_deposit, p.build_allowance, p.max_open_orders), (Amount(7), Millis(1), 3));
    assert_eq!((p.max_lease, p.fees, p.reputation), (Millis(3_600_000), fees, reputation));
    assert_eq!((p.governance.rules, p.governance.guardian), (rules, guardian));
    assert_eq!(gov::accepted_issuers(&t.w.state), vec![]);
    let then = gov::params_at(&t.w.state, Timestamp(START)).unwrap();
    assert_eq!(then, Params::dev(), "what was in force before is remembered");
}

#[test]
fn open_proposals_are_few_for_each_account_and_in_all() {
    let rules = GovernanceRules { max_open: 3, max_open_each: 2, ..GovernanceRules::dev() };
    let governance = GovernanceParams { rules, ..GovernanceParams::dev() };
    let mut t = Town::with(Params { governance, ..Params::dev() });
    let (big, mid, small) = (t.big.clone(), t.mid.clone(), t.small.clone());
    t.propose(&small, min_stake(2)).unwrap();
    t.propose(&small, min_stake(3)).unwrap();
    assert!(matches!(t.propose(&small, min_stake(4)), Err(TxError::Limit { limit: 2, .. })));
    t.propose(&mid, min_stake(5)).unwrap();
    assert!(matches!(t.propose(&big, min_stake(6)), Err(TxError::Limit { limit: 3, .. })));
    t.w.wait(VOTING + 1_000);
    t.propose(&small, min_stake(7)).unwrap();
}

#[test]
fn the_treasury_pays_only_by_a_vote_and_once() {
    let mut t = Town::new();
    let (big, mid) = (t.big.clone(), t.mid.clone());
    // A vetoed proposal fills it.
    let id = t.propose(&mid, min_stake(2)).unwrap();
    t.vote(&big, id, VoteChoice::Veto).unwrap();
    t.w.wait(VOTING + 1_000);
    let has = query::treasury(&t.w.state, AssetId::CREDIT);
    assert!(has >= Amount::credits(1));
    let to = AccountId([77; 32]);
    let spend = |amount| vec![Change::Spend { to, asset: AssetId::CREDIT, amount }];
    let first = t.propose(&big, spend(has)).unwrap();
    let second = t.propose(&big, spend(has)).unwrap();
    for id in [first, second] {
        t.vote(&big, id, VoteChoice::Yes).unwrap();
        t.vote(&mid, id, VoteChoice::Yes).unwrap();
    }
    t.w.wait(VOTING + TIMELOCK + 1_000);
    assert!(matches!(t.get(&first).state, ProposalState::Executed { .. }));
    let ProposalState::Failed { code, .. } = t.get(&second).state else { panic!("{:?}", t.get(&second).state) };
    assert_eq!(code, 31, "nothing is left for the second");
    assert_eq!(query::balance(&t.w.state, &to, AssetId::CREDIT), has);
    assert_eq!(query::treasury(&t.w.state, AssetId::CREDIT), Amount::ZERO);
}

#[test]
fn a_grave_change_takes_two_thirds() {
    let mut t = Town::new();
    let (big, mid) = (t.big.clone(), t.mid.clone());
    let rules = GovernanceRules { quorum_ppm: 300_000, ..GovernanceRules::dev() };
    let id = t.propose(&big, vec![Change::Governance(rules)]).unwrap();
    t.vote(&big, id, VoteChoice::Yes).unwrap();
    t.vote(&mid, id, VoteChoice::No).unwrap();
    t.w.wait(VOTING + 1_000);
    assert_eq!(t.get(&id).state, ProposalState::Rejected { why: Rejection::NoMajority }, "60 of 90 is not more than 66.7 %");
}

/// A vote on shares while a lease runs: what was paid in parts must not become too much.
#[test]
fn a_running_lease_keeps_the_shares_of_its_match() {
    let mut t = Town::new();
    t.w.offer();
    let terms = t.w.order_terms();
    let id = t.w.accepted(terms);
    let started = t.w.now;
    t.w.wait_beating(80_000);
    // An interim payment under the old shares.
    t.w.confirmed(&id, started, 79_000).unwrap();
    let early = t.w.lease(&id).paid;
    assert!(!early.provider.is_zero(), "an interim payment was made");
    let (big, mid) = (t.big.clone(), t.mid.clone());
    let change = Change::Shares { provider_ppm: 500_000, treasury_ppm: 450_000, model_ppm: 50_000 };
    let proposal = t.propose(&big, vec![change]).unwrap();
    for k in [&big, &mid] {
        t.vote(k, proposal, VoteChoice::Yes).unwrap();
    }
    t.w.wait_beating(VOTING + TIMELOCK + 10_000);
    assert_eq!(t.params().provider_ppm, 500_000);
    let served = t.w.now.since(started).0;
    t.w.confirmed(&id, started, served).unwrap();
    t.w.close_by_node(&id);
    t.w.wait_beating(10_000);
    let lease = t.w.lease(&id);
    let end = lease.settlement.clone().unwrap();
    assert_eq!(end.to_provider, Amount(end.charged.0 * 850_000 / 1_000_000));
    let paid = lease.paid.provider.saturating_add(lease.paid.treasury).saturating_add(lease.paid.model);
    assert_eq!(paid, end.charged, "the user pays what the settlement says");
    assert_eq!(lease.end_reason(), Some(&EndReason::Exited { code: 0 }));
}

#[test]
fn a_halt_lengthens_votes() {
    let mut t = Town::new();
    let big = t.big.clone();
    let id = t.propose(&big, min_stake(2)).unwrap();
    t.vote(&big, id, VoteChoice::Yes).unwrap();
    // The end was due, and no block came for an hour.
    t.w.block(VOTING + 3_600_000, &[]);
    assert!(matches!(t.get(&id).state, ProposalState::Voting { .. }), "{:?}", t.get(&id).state);
    t.w.wait(VOTING + 1_000);
    assert!(matches!(t.get(&id).state, ProposalState::Passed { .. }));
}

#[test]
fn without_deposits_nobody_can_propose() {
    let mut w = World::new();
    let user = w.user.clone();
    assert!(matches!(w.act(&user, vec![proposal(min_stake(2))]), Err(TxError::BadState { .. })));
}

#[derive(Clone, Debug)]
enum Op {
    Propose { who: usize, spend: u64 },
    Vote { who: usize, back: u64, choice: u8 },
    Stake { who: usize, credits: u64 },
    Move { from: usize, to: usize, credits: u64 },
    Wait { ms: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0usize..4;
    prop_oneof![
        (who.clone(), 0u64..3).prop_map(|(who, spend)| Op::Propose { who, spend }),
        (who.clone(), 0u64..4, 0u8..4).prop_map(|(who, back, choice)| Op::Vote { who, back, choice }),
        (who.clone(), 0u64..4, 0u8..4).prop_map(|(who, back, choice)| Op::Vote { who, back, choice }),
        (who.clone(), 1u64..20).prop_map(|(who, credits)| Op::Stake { who, credits }),
        (who.clone(), who, 1u64..20).prop_map(|(from, to, credits)| Op::Move { from, to, credits }),
        (0u64..40_000).prop_map(|ms| Op::Wait { ms }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever four accounts do, every block passes `check`: money is conserved, tallies are their votes, no power votes twice,
    /// proposals that are over lock nothing. And no vote is ever larger than what its account had when the proposal was made.
    #[test]
    fn votes_conserve_money_and_power(ops in proptest::collection::vec(op(), 1..60)) {
        let mut t = Town::new();
        let fourth = key(24);
        resident(&mut t.w, &fourth, 100);
        t.w.act(&fourth, vec![Action::RegisterProvider { name: "late".into() }]).unwrap();
        let people = [t.big.clone(), t.mid.clone(), t.small.clone(), fourth];
        // What each had when each proposal was made.
        let mut then: std::collections::BTreeMap<(ProposalId, AccountId), Amount> = Default::default();
        for op in ops {
            match op {
                Op::Propose { who, spend } => {
                    let mut changes = min_stake(2);
                    if spend > 0 {
                        changes.push(Change::Spend { to: people[0].account(), asset: AssetId::CREDIT, amount: Amount(u128::from(spend)) });
                    }
                    if let Ok(id) = t.propose(&people[who], changes) {
                        for p in &people {
                            let stake = query::provider(&t.w.state, &p.account()).unwrap().stake;
                            then.insert((id, p.account()), stake);
                        }
                    }
                }
                Op::Vote { who, back, choice } => {
                    let all = gov::proposals(&t.w.state, 0, 500);
                    let Some(p) = all.iter().rev().nth(back as usize) else { continue };
                    let choice = [VoteChoice::Yes, VoteChoice::No, VoteChoice::Veto, VoteChoice::Abstain][choice as usize];
                    if let Ok(events) = t.vote(&people[who], p.id, choice) {
                        let Event::Governance(GovernanceEvent::Voted { weight, .. }) = events[0] else { panic!() };
                        prop_assert_eq!(weight, then[&(p.id, people[who].account())]);
                    }
                }
                Op::Stake { who, credits } => {
                    let _ = t.w.act(&people[who], vec![Action::Stake { amount: Amount::credits(credits) }]);
                }
                Op::Move { from, to, credits } => {
                    let (to, amount) = (people[to].account(), Amount::credits(credits));
                    let _ = t.w.act(&people[from], vec![Action::Transfer { to, asset: AssetId::CREDIT, amount }]);
                }
                Op::Wait { ms } => t.w.wait(ms),
            }
        }
        t.w.wait(200_000);
        prop_assert_eq!(gov::proposal_counts(&t.w.state).open, 0);
        prop_assert_eq!(next_due(&t.w.state), Due::Never);
    }
}
