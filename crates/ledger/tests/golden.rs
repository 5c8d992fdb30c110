//! The frozen formats: borsh bytes of every action, event, record and envelope. A change here breaks every ledger there is.
//!
//! When a format changes on purpose, the new text is in the file that the failure names; copy it over and write an ADR.

#![cfg(test)]

mod common;

use common::*;
use pasture_ledger::*;
use pasture_types::event::*;
use pasture_types::genesis::*;
use pasture_types::lease::*;
use pasture_types::market::*;
use pasture_types::proof::{Heartbeat, ResourceClass};
use pasture_types::tx::*;
use pasture_types::*;
use std::fmt::Write as _;

const FROZEN: &str = include_str!("golden/formats.txt");

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

fn usage() -> Usage {
    Usage {
        lease: LeaseId([1; 32]),
        generation: 1,
        epoch: 7,
        started: Timestamp(START),
        served_ms: Millis(12_345),
        build_ms: Millis(678),
        log_root: BlobHash([2; 32]),
        log_bytes: 99,
        steal_ms: Millis(321),
    }
}

fn signed_usage() -> SignedUsage {
    let (user, node) = (key(1), key(3));
    let countersignature =
        Some(Countersignature { account: user.account(), key: user.public(), signature: user.sign(&usage().counter_digest()) });
    SignedUsage { usage: usage(), node: node.node_id(), node_signature: node.sign(&usage().digest()), countersignature }
}

fn order_terms() -> OrderTerms {
    OrderTerms {
        constraints: vec![
            Constraint::Region("eu".into()),
            Constraint::Attribute { name: "tier".into(), value: "4".into() },
            Constraint::Node(NodeId([1; 32])),
            Constraint::Provider(AccountId([2; 32])),
            Constraint::NotNode(NodeId([3; 32])),
            Constraint::Egress(Egress::Open),
        ],
        alive: AliveCheck::Port(80),
        verification: Verification::Audit(10_000),
        failover: Failover::Cold,
        fence: Fence::Stop,
        disclose: Disclose::Probe,
        model: Some(BlobHash([8; 32])),
        watcher: Some(AccountId([7; 32])),
        preferences: vec![NodeId([6; 32])],
        ..World::new().order_terms()
    }
}

fn validator() -> GenesisValidator {
    GenesisValidator { key: [1; 32], bls_key: vec![2; 96], bls_pop: vec![3; 48], operator: AccountId([4; 32]) }
}

fn actions() -> Vec<(&'static str, Action)> {
    let (amount, node) = (Amount(1_000_000_007), NodeId([3; 32]));
    let (lease, offer, order) = (LeaseId([4; 32]), OfferId([5; 32]), OrderId([6; 32]));
    let mut terms = offer_terms();
    terms.attributes = vec![("tier".into(), "4".into())];
    let signature = key(3).sign(&[0; 32]);
    let heartbeat = Heartbeat { node, class: ResourceClass::Cpu, device: 0, epoch: 5, nonces: (0..16).collect() };
    vec![
        ("register_account", Action::RegisterAccount { keys: vec![key(1).public(), PublicKey::Secp256k1([2; 33])], threshold: 2 }),
        ("register_provider", Action::RegisterProvider { name: "meadow".into() }),
        ("register_node", Action::RegisterNode { node, declaration: declaration(), node_signature: signature }),
        ("stake", Action::Stake { amount }),
        ("put_offer", Action::PutOffer { node, number: 1, terms: Box::new(terms) }),
        ("withdraw_offer", Action::WithdrawOffer { offer }),
        ("place_order", Action::PlaceOrder { terms: Box::new(order_terms()) }),
        ("cancel_order", Action::CancelOrder { order }),
        ("accept_lease", Action::AcceptLease { lease }),
        ("reject_lease", Action::RejectLease { lease }),
        ("submit_usage", Action::SubmitUsage { usage: Box::new(signed_usage()) }),
        ("submit_heartbeat", Action::SubmitHeartbeat { heartbeat }),
        ("close_lease", Action::CloseLease { lease, reason: EndReason::Exited { code: -1 } }),
        ("object", Action::Object { lease }),
        ("extend", Action::Extend { lease, duration: Millis(60_000) }),
        ("transfer", Action::Transfer { to: AccountId([7; 32]), asset: AssetId::CREDIT, amount }),
        ("test_credits", Action::TestCredits { to: AccountId([7; 32]), amount }),
        ("register_validator", Action::RegisterValidator { validator: validator(), consent: signature, bond: amount }),
    ]
}

fn settlement() -> Settlement {
    Settlement {
        asset: AssetId::CREDIT,
        rate_per_hour: Amount::credits(1),
        billed_ms: Millis(1),
        billed_build_ms: Millis(2),
        charged: Amount(3),
        refunded: Amount(4),
        to_provider: Amount(5),
        to_treasury: Amount(6),
        to_model: Amount(7),
        withheld: Amount(8),
        epochs: 9,
        epochs_proven: 10,
        confirmed_by: ConfirmedBy::Watcher(AccountId([1; 32])),
        audited: false,
        generation: 11,
        steal_ms: Millis(12),
        lines: vec![SettledLine {
            class: ResourceClass::Cpu,
            rate_per_hour: Amount(13),
            billed_ms: Millis(14),
            charged: Amount(15),
            epochs_proven: 16,
            audited: true,
        }],
    }
}

fn events() -> Vec<(&'static str, Event)> {
    let (account, node, amount) = (AccountId([1; 32]), NodeId([2; 32]), Amount(9));
    let (lease, order, offer) = (LeaseId([3; 32]), OrderId([4; 32]), OfferId([5; 32]));
    let (rate_per_hour, escrow, accept_by) = (Amount(7), Amount(8), Timestamp(START));
    vec![
        ("account_registered", Event::AccountRegistered { account }),
        ("provider_registered", Event::ProviderRegistered { account }),
        ("node_registered", Event::NodeRegistered { node, provider: account }),
        ("transferred", Event::Transferred { from: Some(account), to: account, asset: AssetId::CREDIT, amount }),
        ("staked", Event::Staked { account, amount }),
        ("offer_put", Event::OfferPut { offer, node }),
        ("offer_withdrawn", Event::OfferWithdrawn { offer }),
        ("order_placed", Event::OrderPlaced { order, account }),
        ("order_ended", Event::OrderEnded { order, account, cancelled: true }),
        ("lease_matched", Event::LeaseMatched { lease, order, account, node, rate_per_hour, escrow, accept_by }),
        ("lease_changed", Event::LeaseChanged { lease, account, node, state: LeaseState::Closing, reason: Some(EndReason::OutOfMemory) }),
        ("lease_extended", Event::LeaseExtended { lease, node, ends: Timestamp(START) }),
        ("usage_recorded", Event::UsageRecorded { lease, account, served_ms: Millis(5), countersigned: true, confirmed_by: Some(account) }),
        ("epoch_started", Event::EpochStarted { epoch: 6, randomness: Hash32([6; 32]) }),
        ("heartbeat_recorded", Event::HeartbeatRecorded { node, epoch: 6 }),
        ("lease_settled", Event::LeaseSettled { lease, account, node, settlement: Box::new(settlement()) }),
    ]
}

/// Records as a real run leaves them.
fn records(book: &mut Book) {
    let mut w = World::offered();
    let mut terms = w.order_terms();
    terms.model = Some(BlobHash([7; 32]));
    let id = w.accepted(terms);
    let started = w.now;
    w.wait_beating(10_000);
    w.confirmed(&id, started, 10_000).unwrap();
    w.close_by_node(&id);
    w.wait_beating(6_000);
    let s = &w.state;
    let lease = query::lease(s, &id).unwrap();
    assert_eq!(lease.state, LeaseState::Closed);
    book.add("record.zone", &query::zone(s).unwrap());
    book.add("record.clock", &query::clock(s));
    book.add("record.counts", &query::counts(s));
    book.add("record.account", &query::account(s, &w.user.account()).unwrap());
    book.add("record.provider", &query::provider(s, &w.provider.account()).unwrap());
    book.add("record.node", &query::node(s, &w.node.node_id()).unwrap());
    book.add("record.offer", &query::offer(s, &lease.offer).unwrap());
    book.add("record.order", &query::order(s, &lease.order).unwrap());
    book.add("record.lease", &lease);
    let epoch = Epoch { number: 1, randomness: Hash32([1; 32]), recorded_at: Timestamp(2), deadline_shifted: Timestamp(3) };
    book.add("record.epoch", &epoch);
}

#[test]
fn the_formats_are_frozen() {
    let mut book = Book(String::new());
    for (name, action) in actions() {
        book.add(&format!("action.{name}"), &action);
    }
    for (name, event) in events() {
        book.add(&format!("event.{name}"), &event);
    }
    let mut w = World::new();
    let (user, payer) = (w.user.clone(), w.provider.clone());
    let mut body = w.body(user.account(), Auth::Single, vec![actions()[15].1.clone()]);
    body.fee_payer = Some(payer.account());
    for (name, auth) in [
        ("single", Auth::Single),
        ("delegated", Auth::Delegated(GrantId([1; 32]))),
        ("multi", Auth::Multi),
        ("node", Auth::Node(NodeId([2; 32]))),
    ] {
        body.auth = auth;
        book.add(&format!("envelope.{name}"), &body.clone().sign(&user).and_sign(payer.account(), &payer));
    }
    body.auth = Auth::Single;
    book.add("txid", &body.id());
    book.add("genesis", &w.genesis);
    book.add("zone_id", &w.genesis.zone());
    book.add("params.production", &Params::production());
    records(&mut book);
    if book.0 != FROZEN {
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("formats.txt");
        std::fs::write(&path, &book.0).unwrap();
        let name = |l: &str| l.split(' ').next().unwrap_or_default().to_owned();
        let changed: Vec<_> = book.0.lines().filter(|l| !FROZEN.lines().any(|f| f == *l)).map(name).collect();
        panic!("formats changed: {changed:?}; if that is meant, copy {} over tests/golden/formats.txt", path.display());
    }
}

#[test]
fn error_codes_are_frozen() {
    let amount = Amount(1);
    let errors = [
        (1, TxError::Malformed(String::new())),
        (2, TxError::NoGenesis),
        (4, TxError::WrongZone { got: String::new(), want: String::new() }),
        (10, TxError::Expired { valid_until: Timestamp(0), now: Timestamp(1) }),
        (12, TxError::SeqUsed { lane: 0, got: 0, next: 1 }),
        (13, TxError::SeqAhead { lane: 0, got: 1, next: 0 }),
        (20, TxError::Signature { whose: "x", source: keys::SignatureError::Invalid }),
        (23, TxError::UnknownAccount(String::new())),
        (30, TxError::FeeTooLow { needs: amount, max_fee: amount }),
        (31, TxError::InsufficientBalance { what: "x", needs: amount, has: amount }),
        (40, TxError::Unknown { what: "x", id: String::new() }),
        (43, TxError::BadState { what: "x", state: String::new(), hint: "" }),
        (52, TxError::Shares(proof::ShareError::Weak)),
    ];
    for (code, error) in errors {
        assert_eq!(error.code(), code, "{error}");
    }
}
