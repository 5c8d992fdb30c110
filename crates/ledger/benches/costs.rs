//! What each action costs on this machine: the numbers of `docs/specs/ledger.md` §4 and of the tables of costs.
//!
//! Guarantees: real signatures and records on a state of 20,000 accounts; an action's cost is that of its transaction less that
//! of an empty one; the best of many runs, since whatever else runs here only adds. It writes nothing and sets nothing: a person
//! reads it and sets `cost.rs`. Run: `cargo bench -p pasture-ledger --bench costs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench that cannot set its scene must stop"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use common::*;
use pasture_ledger::*;
use pasture_types::genesis::{GenesisAccount, Params};
use pasture_types::governance::{Change, GovernanceAction, GovernanceParams, Guardian, PauseSet, VoteChoice};
use pasture_types::lease::EndReason;
use pasture_types::reputation::ReputationAction;
use pasture_types::state::Overlay;
use pasture_types::tx::*;
use pasture_types::*;
use std::io::Write as _;
use std::time::Instant;

const ACCOUNTS: u32 = 20_000;
const RUNS: usize = 300;

fn wide() -> World {
    let guardian = Guardian { members: vec![key(1).account()], threshold: 1 };
    let governance = GovernanceParams { guardian, ..GovernanceParams::dev() };
    let mut w = World::with(Params { governance, ..Params::dev() }, 1);
    for n in 0..ACCOUNTS {
        let seed = ids::derive("bench account", &[&n.to_le_bytes()]);
        let balance = Amount::credits(1);
        w.genesis.accounts.push(GenesisAccount { key: SigningKey::from_seed(seed).public(), balance });
    }
    w.state = genesis(&w.genesis);
    w.offer();
    w.wait(11_000);
    w
}

/// The best time of one call in nanoseconds; each run gets what `make` makes, untimed.
fn best<T>(mut make: impl FnMut() -> T, mut run: impl FnMut(T)) -> u128 {
    let once = |_| {
        let input = make();
        let began = Instant::now();
        run(input);
        began.elapsed().as_nanos()
    };
    (0..RUNS).map(once).min().unwrap_or(0)
}

/// A transaction of these actions on a world, in nanoseconds; it must be done.
fn apply_ns(w: &mut World, by: &SigningKey, auth: Auth, account: AccountId, actions: Vec<Action>) -> u128 {
    let tx = codec::encode(&w.body(account, auth, actions).sign(by));
    let ctx = BlockCtx { height: w.height + 1, now: w.now.plus(Millis(10)), parent_time: w.now, randomness: [1; 32], proposer: [0; 32] };
    let state = &w.state;
    best(
        || Overlay::new(state),
        |mut overlay| {
            let applied = apply(&mut overlay, &ctx, &tx, Signatures::Verified);
            assert!(matches!(applied, Applied::Done { .. }), "{applied:?}");
        },
    )
}

fn by_account(w: &mut World, by: &SigningKey, action: Action) -> u128 {
    apply_ns(w, by, Auth::Single, by.account(), vec![action])
}

fn by_node(w: &mut World, action: Action) -> u128 {
    let (node, account) = (w.node.clone(), w.provider.account());
    apply_ns(w, &node, Auth::Node(node.node_id()), account, vec![action])
}

/// The end of a block with these transactions, in nanoseconds.
fn end_ns(w: &World, ms: u64, txs: &[Vec<u8>]) -> u128 {
    let ctx = BlockCtx { height: w.height + 1, now: w.now.plus(Millis(ms)), parent_time: w.now, randomness: [1; 32], proposer: [0; 32] };
    best(
        || {
            let mut overlay = Overlay::new(&w.state);
            begin_block(&mut overlay, &ctx);
            for tx in txs {
                assert!(matches!(apply(&mut overlay, &ctx, tx, Signatures::Verified), Applied::Done { .. }));
            }
            overlay
        },
        |mut overlay| {
            end_block(&mut overlay, &ctx);
        },
    )
}

fn registry(w: &mut World, user: &SigningKey, provider: &SigningKey, out: &mut Vec<(&'static str, u128)>) {
    let fresh = key(77);
    let to = fresh.account();
    out.push(("transfer", by_account(w, user, Action::Transfer { to, asset: AssetId::CREDIT, amount: Amount(1) })));
    out.push(("test credits", by_account(w, user, Action::TestCredits { to, amount: Amount(1) })));
    out.push(("stake", by_account(w, provider, Action::Stake { amount: Amount(1) })));
    w.act(user, vec![Action::TestCredits { to, amount: Amount::credits(1) }]).unwrap();
    let keys = vec![fresh.public()];
    out.push(("register account", by_account(w, &fresh, Action::RegisterAccount { keys, threshold: 1 })));
    out.push(("register provider", by_account(w, user, Action::RegisterProvider { name: "n".into() })));
    let node = w.register_node(provider, &key(78), declaration());
    out.push(("register node", by_account(w, provider, node)));
    let put = Action::PutOffer { node: w.node.node_id(), number: 0, terms: Box::new(offer_terms()) };
    out.push(("put offer", by_account(w, provider, put)));
    let offer = offer_id(&w.node.node_id(), 0);
    out.push(("withdraw offer", by_account(w, provider, Action::WithdrawOffer { offer })));
}

fn market(w: &mut World, user: &SigningKey, out: &mut Vec<(&'static str, u128)>) {
    let terms = Box::new(w.order_terms());
    out.push(("place order", by_account(w, user, Action::PlaceOrder { terms })));
    let order = w.place(w.order_terms());
    out.push(("cancel order", by_account(w, user, Action::CancelOrder { order })));
    w.idle();
    let lease = query::lease_of_order(&w.state, &order).unwrap().id;
    out.push(("accept lease", by_node(w, Action::AcceptLease { lease })));
    out.push(("reject lease", by_node(w, Action::RejectLease { lease })));
    w.node_act(vec![Action::AcceptLease { lease }]).unwrap();
    let started = w.now;
    w.wait_beating(10_000);
    w.wait(5_000);
    let heartbeat = w.shares(query::open_epochs(&w.state).last().unwrap().number);
    out.push(("heartbeat", by_node(w, Action::SubmitHeartbeat { heartbeat })));
    out.push(("extend", by_account(w, user, Action::Extend { lease, duration: Millis(1_000) })));
    let usage = w.signed(w.usage(&lease, started, 10_000), true);
    out.push(("usage, countersigned", by_node(w, usage)));
    w.bare(&lease, started, 9_000).unwrap();
    out.push(("object", by_account(w, user, Action::Object { lease })));
    let close = Action::CloseLease { lease, reason: EndReason::Exited { code: 0 } };
    out.push(("close lease", by_node(w, close.clone())));
    w.confirmed(&lease, started, 10_000).unwrap();
    // The end of the block that closes it, less that of an empty one.
    let idle = end_ns(w, 10, &[]);
    let (node, account) = (w.node.clone(), w.provider.account());
    let tx = codec::encode(&w.body(account, Auth::Node(node.node_id()), vec![close.clone()]).sign(&node));
    out.push(("end: settlement", end_ns(w, 10, &[tx]).saturating_sub(idle)));
    w.node_act(vec![close]).unwrap();
    assert!(w.lease(&lease).settlement.is_some());
    out.push(("rate", by_account(w, user, Action::Reputation(ReputationAction::Rate { lease, stars: 5 }))));
}

fn governance(w: &mut World, user: &SigningKey, provider: &SigningKey, out: &mut Vec<(&'static str, u128)>) {
    let changes = vec![Change::MinStake(Amount(5)); 16];
    let propose = Action::Governance(GovernanceAction::Propose { title: "t".into(), text: BlobHash([0; 32]), changes });
    out.push(("propose, 16 changes", by_account(w, provider, propose.clone())));
    let events = w.act(provider, vec![propose]).unwrap();
    let pasture_types::event::Event::Governance(pasture_types::governance::GovernanceEvent::Proposed { proposal, .. }) = events[0] else {
        panic!("{events:?}")
    };
    let vote = Action::Governance(GovernanceAction::Vote { proposal, choice: VoteChoice::Yes });
    out.push(("vote", by_account(w, provider, vote.clone())));
    w.act(provider, vec![vote]).unwrap();
    let pause = GovernanceAction::Pause { kinds: PauseSet::all(), duration: Millis(1_000) };
    out.push(("pause", by_account(w, user, Action::Governance(pause))));
    let idle = end_ns(w, 1, &[]);
    out.push(("end: a vote closes", end_ns(w, 60_000, &[]).saturating_sub(idle)));
    w.wait(61_000);
    out.push(("end: 16 changes are made", end_ns(w, 10_000, &[]).saturating_sub(idle)));
}

/// A wallet's signature over `[3; 32]`, made once.
fn secp256k1_ns() -> u128 {
    let x: BlobHash = "56b328b30c8bf5839e24058747879408bdb36241dc9c2e7c619faa12b2920967".parse().unwrap();
    let r: BlobHash = "0efe8e3f71549466384078d95a008f35a7e60faa428384865d18fd39fc17a451".parse().unwrap();
    let s: BlobHash = "1e9f85795dc84429c01158b2629214274dcc0cb9b197dc4d8fdea7636cb05855".parse().unwrap();
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&r.0);
    bytes[32..].copy_from_slice(&s.0);
    let mut point = [2; 33];
    point[1..].copy_from_slice(&x.0);
    let key = PublicKey::Secp256k1(point);
    let signature = pasture_types::keys::Signature::Eip191(bytes);
    best(|| (), |()| key.verify(&[3; 32], &signature).unwrap())
}

fn main() -> std::io::Result<()> {
    let mut w = wide();
    let (user, provider) = (w.user.clone(), w.provider.clone());
    let mut out = Vec::new();
    // An action that costs next to nothing of its own: what every transaction costs.
    let nothing = Action::TestCredits { to: user.account(), amount: Amount::ZERO };
    let base = by_account(&mut w, &user, nothing);
    registry(&mut w, &user, &provider, &mut out);
    market(&mut w, &user, &mut out);
    governance(&mut w, &user, &provider, &mut out);
    let digest = [7; 32];
    let (ed, ed_signature) = (user.public(), user.sign(&digest));
    let ed_ns = best(|| (), |()| ed.verify(&digest, &ed_signature).unwrap());
    let secp_ns = secp256k1_ns();
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "microseconds, best of {RUNS}, {ACCOUNTS} accounts")?;
    let us = |ns: u128| format!("{}.{}", ns / 1_000, ns % 1_000 / 100);
    writeln!(stdout, "{:<28} {:>8}", "base of a transaction", us(base))?;
    writeln!(stdout, "{:<28} {:>8}", "an Ed25519 signature", us(ed_ns))?;
    writeln!(stdout, "{:<28} {:>8}", "a secp256k1 signature", us(secp_ns))?;
    for (name, ns) in out {
        let alone = if name.starts_with("end") { ns } else { ns.saturating_sub(base) };
        writeln!(stdout, "{name:<28} {:>8}", us(alone))?;
    }
    Ok(())
}
