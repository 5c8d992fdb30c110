//! The guardian's pause, versions of the rules, and the limit and price of blocks; and what an attacker tries.

#![cfg(test)]

mod common;

use common::*;
use pasture_ledger::query::governance as gov;
use pasture_ledger::*;
use pasture_types::event::Event;
use pasture_types::genesis::Params;
use pasture_types::governance::Change;
use pasture_types::governance::*;
use pasture_types::lease::LeaseState;
use pasture_types::state::MemoryState;
use pasture_types::tx::*;
use pasture_types::*;

/// A zone with an offer and a guardian of three, two of whom must agree.
fn guarded() -> (World, Vec<SigningKey>) {
    let mut members: Vec<SigningKey> = (31..34).map(key).collect();
    members.sort_by_key(SigningKey::account);
    let guardian = Guardian { members: members.iter().map(SigningKey::account).collect(), threshold: 2 };
    let governance = GovernanceParams { guardian, ..GovernanceParams::dev() };
    let mut w = World::with(Params { governance, ..Params::dev() }, 1);
    for k in &members {
        resident(&mut w, k);
    }
    w.offer();
    (w, members)
}

fn resident(w: &mut World, k: &SigningKey) {
    let user = w.user.clone();
    w.act(&user, vec![Action::TestCredits { to: k.account(), amount: Amount::credits(10) }]).unwrap();
    let body = w.body(k.account(), Auth::Single, vec![Action::RegisterAccount { keys: vec![k.public()], threshold: 1 }]);
    w.send(&body.sign(k)).unwrap();
}

fn pause(kinds: PauseSet, ms: u64) -> Action {
    Action::Governance(GovernanceAction::Pause { kinds, duration: Millis(ms) })
}

fn paused(w: &mut World, members: &[SigningKey], kinds: PauseSet, ms: u64) {
    for k in &members[..2] {
        w.act(k, vec![pause(kinds, ms)]).unwrap();
    }
    assert!(!gov::paused_kinds(&w.state).is_empty());
}

#[test]
fn a_pause_holds_new_things_back_and_running_leases_settle() {
    let (mut w, members) = guarded();
    let terms = w.order_terms();
    let id = w.accepted(terms.clone());
    let started = w.now;
    w.wait_beating(6_000);
    paused(&mut w, &members, PauseSet::all(), 30_000);
    let (user, provider) = (w.user.clone(), w.provider.clone());
    let node = w.node.node_id();
    let held = [
        Action::PlaceOrder { terms: Box::new(w.order_terms()) },
        Action::Transfer { to: provider.account(), asset: AssetId::CREDIT, amount: Amount(1) },
        Action::TestCredits { to: provider.account(), amount: Amount(1) },
        Action::RegisterProvider { name: "u".into() },
        Action::Extend { lease: id, duration: Millis(1_000) },
    ];
    for action in held {
        assert_eq!(w.act(&user, vec![action.clone()]), Err(TxError::Paused), "{action:?}");
    }
    let offer = Action::PutOffer { node, number: 1, terms: Box::new(offer_terms()) };
    assert_eq!(w.act(&provider, vec![offer]), Err(TxError::Paused));
    // What runs goes on: usage, heartbeats, closing, settlement; deposits, votes.
    w.confirmed(&id, started, 6_000).unwrap();
    w.close_by_node(&id);
    w.wait_beating(12_000);
    assert_eq!(w.lease(&id).state, LeaseState::Closed);
    assert!(!w.lease(&id).settlement.clone().unwrap().to_provider.is_zero());
    w.act(&provider, vec![Action::Stake { amount: Amount::credits(1) }]).unwrap();
    w.act(&provider, vec![propose(vec![Change::MinStake(Amount(1))])]).unwrap();
    w.wait(20_000);
    assert!(gov::paused_kinds(&w.state).is_empty(), "it ends by itself");
    w.act(&user, vec![Action::PlaceOrder { terms: Box::new(terms) }]).unwrap();
}

fn propose(changes: Vec<Change>) -> Action {
    Action::Governance(GovernanceAction::Propose { title: "t".into(), text: BlobHash([0; 32]), changes })
}

#[test]
fn orders_that_wait_are_drawn_after_the_pause_and_make_no_blocks_in_it() {
    let (mut w, members) = guarded();
    paused(&mut w, &members, PauseSet::default().with(PauseKind::Matches), 20_000);
    let mut terms = w.order_terms();
    terms.expires = w.now.plus(Millis(60_000));
    let order = w.place(terms);
    assert!(matches!(next_due(&w.state), Due::At(_)), "{:?}", next_due(&w.state));
    w.wait(10_000);
    assert!(query::lease_of_order(&w.state, &order).is_none());
    w.wait(11_000);
    assert!(query::lease_of_order(&w.state, &order).is_some());
}

/// Attacks: one member alone; a stranger; a pause of everything for ever; one pause after the other.
#[test]
fn a_pause_takes_enough_members_and_is_bounded() {
    let (mut w, members) = guarded();
    let all = PauseSet::all();
    let user = w.user.clone();
    assert_eq!(w.act(&user, vec![pause(all, 1_000)]), Err(TxError::NotGuardian));
    for _ in 0..3 {
        w.act(&members[0], vec![pause(all, 1_000)]).unwrap();
    }
    assert!(gov::paused_kinds(&w.state).is_empty(), "one who asks thrice is one");
    // Others want something else: nobody agrees yet.
    w.act(&members[1], vec![pause(all, 2_000)]).unwrap();
    assert!(gov::paused_kinds(&w.state).is_empty());
    assert!(matches!(w.act(&members[2], vec![pause(all, 60_001)]), Err(TxError::Limit { .. })));
    assert!(w.act(&members[2], vec![pause(PauseSet(0), 1_000)]).is_err());
    assert!(w.act(&members[2], vec![pause(PauseSet(1 << 15), 1_000)]).is_err());
    let balance = w.balance(&user);
    w.act(&members[2], vec![pause(all, 2_000)]).unwrap();
    assert_eq!(gov::paused_kinds(&w.state).len(), PauseKind::ALL.len());
    assert_eq!(w.balance(&user), balance, "a pause moves no money");
    assert!(matches!(w.act(&members[0], vec![pause(all, 1_000)]), Err(TxError::BadState { .. })), "one at a time");
    w.wait(3_000);
    assert!(gov::paused_kinds(&w.state).is_empty());
    assert!(matches!(w.act(&members[0], vec![pause(all, 1_000)]), Err(TxError::BadState { .. })), "not so soon again");
    w.wait(60_000);
    paused(&mut w, &members, all, 10_000);
    // The guardian ends it early; the gap counts from then.
    for k in &members[1..] {
        w.act(k, vec![Action::Governance(GovernanceAction::Unpause)]).unwrap();
    }
    assert!(gov::paused_kinds(&w.state).is_empty());
    assert!(matches!(w.act(&members[0], vec![pause(all, 1_000)]), Err(TxError::BadState { .. })));
    assert_eq!(next_due(&w.state), Due::Never);
}

#[test]
fn a_vote_can_end_a_pause_and_remove_the_guardian_once_the_zone_is_mature() {
    let rules = GovernanceRules { voting: Millis(10_000), timelock: Millis(5_000), ..GovernanceRules::dev() };
    let (mut w, members) = guarded();
    let mut genesis = w.genesis.clone();
    genesis.params.governance.rules = rules;
    w.state = pasture_ledger::genesis(&genesis);
    w.genesis = genesis;
    w.height = 0;
    w.now = Timestamp(START);
    for k in &members {
        resident(&mut w, k);
    }
    w.offer();
    let provider = w.provider.clone();
    let pass = |w: &mut World, changes: Vec<Change>| {
        let Ok(events) = w.act(&provider, vec![propose(changes)]) else { return Err(()) };
        let Event::Governance(GovernanceEvent::Proposed { proposal, .. }) = events[0] else { panic!() };
        w.act(&provider, vec![Action::Governance(GovernanceAction::Vote { proposal, choice: VoteChoice::Yes })]).unwrap();
        w.wait(11_000);
        Ok(proposal)
    };
    paused(&mut w, &members, PauseSet::all(), 60_000);
    let id = pass(&mut w, vec![Change::Unpause]).unwrap();
    assert!(matches!(gov::proposal(&w.state, &id).unwrap().state, ProposalState::Executed { .. }), "no timelock");
    assert!(gov::paused_kinds(&w.state).is_empty());
    let nobody = || vec![Change::Guardian(Guardian::default())];
    assert!(pass(&mut w, nobody()).is_err(), "the zone is young");
    // Its members can be replaced before.
    let other = Guardian { members: vec![provider.account()], threshold: 1 };
    pass(&mut w, vec![Change::Guardian(other.clone())]).unwrap();
    w.wait(6_000);
    assert_eq!(gov::params(&w.state).unwrap().governance.guardian, other);
    assert_eq!(w.act(&members[0], vec![pause(PauseSet::all(), 1_000)]), Err(TxError::NotGuardian));
    w.wait(600_000);
    pass(&mut w, nobody()).unwrap();
    w.wait(6_000);
    assert_eq!(w.act(&provider, vec![pause(PauseSet::all(), 1_000)]), Err(TxError::NotGuardian));
}

/// A zone that began with rules 1 votes for rules 2; the whole history replays to the same state, on both sides.
#[test]
fn rules_change_at_a_height_and_history_replays_across_it() {
    let mut w = World::new();
    w.genesis.rules_version = 1;
    w.state = pasture_ledger::genesis(&w.genesis);
    let genesis = w.state.clone();
    let mut blocks: Vec<(BlockCtx, Vec<Vec<u8>>)> = Vec::new();
    let (provider, user) = (w.provider.clone(), w.user.clone());
    let act = |w: &mut World, blocks: &mut Vec<_>, k: &SigningKey, action: Action, ms: u64| {
        let tx = codec::encode(&w.body(k.account(), Auth::Single, vec![action]).sign(k));
        let before = (w.height, w.now);
        let applied = w.block(ms, std::slice::from_ref(&tx)).remove(0);
        blocks.push((context(before, ms), vec![tx]));
        applied
    };
    let nameless = || Action::RegisterProvider { name: String::new() };
    let done = act(&mut w, &mut blocks, &provider, nameless(), 10);
    assert!(matches!(done, Applied::Done { .. }), "rules 1 take an empty name: {done:?}");
    act(&mut w, &mut blocks, &provider, Action::Stake { amount: Amount::credits(5) }, 10);
    let Applied::Done { events, .. } = act(&mut w, &mut blocks, &provider, propose(vec![Change::Rules { version: 2, height: 12 }]), 10)
    else {
        panic!()
    };
    let Event::Governance(GovernanceEvent::Proposed { proposal, .. }) = events[0] else { panic!() };
    let yes = Action::Governance(GovernanceAction::Vote { proposal, choice: VoteChoice::Yes });
    act(&mut w, &mut blocks, &provider, yes, 10);
    while w.height < 12 {
        let before = (w.height, w.now);
        w.block(20_000, &[]);
        blocks.push((context(before, 20_000), vec![]));
        assert_eq!(supported(&w.state), Ok(()));
        if w.height < 12 {
            assert_eq!(query::zone(&w.state).unwrap().rules_version, 1);
        }
    }
    assert_eq!(query::zone(&w.state).unwrap().rules_version, 2);
    assert!(w.events.contains(&Event::Governance(GovernanceEvent::RulesActivated { version: 2 })));
    let refused = act(&mut w, &mut blocks, &user, nameless(), 10);
    assert!(matches!(refused, Applied::Failed { error: TxError::Invalid(_), .. }), "rules 2 do not: {refused:?}");
    let mut again = genesis;
    for (ctx, txs) in &blocks {
        replay(&mut again, ctx, txs);
    }
    assert_eq!(again, w.state, "the history replays to the same bytes across the change");
}

fn context((height, now): (u64, Timestamp), ms: u64) -> BlockCtx {
    let randomness = ids::derive("test randomness", &[&(height + 1).to_be_bytes()]);
    BlockCtx { height: height + 1, now: now.plus(Millis(ms)), parent_time: now, randomness, proposer: [0; 32] }
}

fn replay(state: &mut MemoryState, ctx: &BlockCtx, txs: &[Vec<u8>]) {
    begin_block(state, ctx);
    for tx in txs {
        apply(state, ctx, tx, Signatures::Verify);
    }
    end_block(state, ctx);
}

/// A program that is too old for what a vote activates stops before it forks, and changes nothing if it goes on all the same.
#[test]
fn a_program_that_does_not_know_the_rules_stops_first() {
    let mut w = World::offered();
    let (provider, unknown) = (w.provider.clone(), SUPPORTED_RULES.end() + 1);
    let height = w.height + 20;
    let events = w.act(&provider, vec![propose(vec![Change::Rules { version: unknown, height }])]).unwrap();
    let Event::Governance(GovernanceEvent::Proposed { proposal, .. }) = events[0] else { panic!() };
    w.act(&provider, vec![Action::Governance(GovernanceAction::Vote { proposal, choice: VoteChoice::Yes })]).unwrap();
    w.wait(80_000);
    assert_eq!(gov::pending_rules(&w.state), Some(PendingRules { version: unknown, height }), "the vote is about more than this program");
    while w.height + 1 < height {
        assert_eq!(supported(&w.state), Ok(()), "until then it goes on");
        w.block(10, &[]);
    }
    let error = supported(&w.state).unwrap_err();
    assert_eq!(error, UnsupportedRules { version: unknown, height });
    assert!(error.to_string().contains("install a newer version"), "{error}");
    // A caller that does not ask gets an empty block, never one under other rules.
    let user = w.user.clone();
    let tx = codec::encode(&w.body(user.account(), Auth::Single, vec![Action::RegisterProvider { name: "n".into() }]).sign(&user));
    let applied = w.block(10, std::slice::from_ref(&tx)).remove(0);
    assert!(matches!(applied, Applied::NotIncludable { error: TxError::Rules(_), .. }), "{applied:?}");
    assert!(matches!(admit(&w.state, w.now, &tx), Err(TxError::Rules(_))));
    assert_eq!(supported(&w.state).unwrap_err().version, unknown);
    let before = w.state.clone();
    let ctx = w.ctx(60_000);
    assert!(end_block(&mut w.state, &ctx).is_empty());
    assert_eq!(w.state, before);
}

fn spam(w: &mut World, seq: u64, actions: usize) -> Vec<u8> {
    let user = w.user.clone();
    let order = Action::CancelOrder { order: OrderId([9; 32]) };
    let place = Action::PlaceOrder { terms: Box::new(w.order_terms()) };
    let mut body = w.body(user.account(), Auth::Single, vec![order]);
    // It fails at once, but its cost is that of everything it asks.
    body.actions.extend(std::iter::repeat_n(place, actions));
    body.seq = seq;
    body.max_fee = Amount::credits(10);
    codec::encode(&body.sign(&user))
}

/// Attack: a proposer that puts more into a block than others can execute in time.
#[test]
fn no_block_holds_more_than_its_limit_whoever_proposes_it() {
    let mut w = World::new();
    let txs: Vec<_> = (0..20).map(|n| spam(&mut w, n, 20)).collect();
    let ctx = w.ctx(10);
    begin_block(&mut w.state, &ctx);
    let limit = block_tx_cost_us(&w.genesis.params);
    assert_eq!(limit, w.genesis.params.block_cost_us - END_WORK_US);
    let cost = u64::from(tx_cost_us(&codec::decode(&txs[0], 1 << 20).unwrap()));
    let fit = usize::try_from(limit / cost).unwrap();
    assert!(fit < txs.len());
    let outcomes: Vec<_> = txs.iter().map(|tx| apply(&mut w.state, &ctx, tx, Signatures::Verify)).collect();
    assert!(outcomes[..fit].iter().all(|o| matches!(o, Applied::Failed { .. })));
    let before = w.state.clone();
    assert!(matches!(outcomes[fit], Applied::NotIncludable { error: TxError::BlockFull { .. }, .. }), "{:?}", outcomes[fit]);
    // A cheap one still fits behind it.
    let small = spam(&mut w, fit as u64, 0);
    assert!(matches!(apply(&mut w.state, &ctx, &small, Signatures::Verify), Applied::Failed { .. }));
    w.state = before;
    end_block(&mut w.state, &ctx);
    // The next block has room again.
    let applied = w.block(10, &txs[fit..=fit]);
    assert!(matches!(applied[0], Applied::Failed { .. }), "{applied:?}");
    let used = gov::block_load(&w.state);
    assert_eq!((used.height, used.cost_us), (w.height, cost));
}

#[test]
fn a_transaction_that_no_block_holds_is_not_admitted() {
    let mut w = World::new();
    let mut genesis = w.genesis.clone();
    // Below what a vote may set: a genesis may be stranger.
    genesis.params.block_cost_us = END_WORK_US + 10_000;
    w.state = pasture_ledger::genesis(&genesis);
    w.genesis = genesis;
    let big = spam(&mut w, 0, 20);
    assert!(matches!(admit(&w.state, w.now, &big), Err(TxError::Limit { .. })));
}

fn priced() -> World {
    let fees = FeeParams { adaptive: true, target_us_per_s: 1_000, ..FeeParams::dev() };
    World::with(Params { fees, base_price: Amount(1_000), ..Params::dev() }, 1)
}

fn price(w: &World) -> u128 {
    gov::params(&w.state).unwrap().base_price.0
}

/// Attacks on the price: one stuffed block, many blocks in one window, many empty blocks.
#[test]
fn a_price_moves_a_step_for_a_window_whatever_the_blocks() {
    let mut w = priced();
    let window = w.genesis.params.fees.window.0;
    // One block as full as it gets: the price does not move within its window, and a step after it.
    let stuffed: Vec<_> = (0..4).map(|n| spam(&mut w, n, 20)).collect();
    w.block(10, &stuffed);
    assert_eq!(price(&w), 1_000);
    for n in 0..50 {
        let tx = spam(&mut w, 4 + n, 1);
        w.block(10, &[tx]);
        assert_eq!(price(&w), 1_000, "many blocks of one window move nothing");
    }
    w.block(window, &[]);
    assert_eq!(price(&w), 1_125);
    // Empty blocks lower it once for a window, not once for a block.
    for _ in 0..100 {
        w.block(10, &[]);
    }
    let after = price(&w);
    assert!((985..=1_125).contains(&after), "{after}");
    // A long silence takes it to the floor, and no lower; the fee follows it.
    w.block(window * 100, &[]);
    assert_eq!(price(&w), 10);
    let tx = spam(&mut w, 54, 0);
    let admitted = admit(&w.state, w.now, &tx).unwrap();
    assert_eq!(admitted.fee, Amount(10 * u128::from(admitted.cost_us)));
}

#[test]
fn sustained_load_lifts_the_price_to_its_bound_and_no_further() {
    let mut w = priced();
    for n in 0..60 {
        let tx = spam(&mut w, n, 20);
        w.block(10_000, &[tx]);
    }
    assert_eq!(price(&w), 10_000);
}

#[test]
fn without_adaptation_nothing_of_it_is_kept() {
    let mut w = World::offered();
    w.block(10_000, &[]);
    assert_eq!(price(&w), w.genesis.params.base_price.0);
    assert_eq!(gov::block_load(&w.state).window, 0);
}
