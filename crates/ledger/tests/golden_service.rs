//! The frozen formats of service and assets: borsh bytes of each action, event and record. A change here breaks every ledger there is.
//!
//! When a format changes on purpose, the new text is in the file that the failure names; copy it over and write an ADR.

#![cfg(test)]

mod common;
mod crowd;

use common::*;
use crowd::*;
use pasture_ledger::service as area;
use pasture_ledger::service::query as more;
use pasture_ledger::*;
use pasture_types::asset::{Allocation, Asset, FeeRate, GenesisAsset};
use pasture_types::bundle::{BundledUsage, Confirmed, Confirmer, LogMark, Short, UsageBundle};
use pasture_types::event::{ConfirmedBy, Event, Hash32};
use pasture_types::lease::EndReason;
use pasture_types::market::{AliveCheck, Failover};
use pasture_types::service::*;
use pasture_types::tx::Action;
use pasture_types::*;
use std::fmt::Write as _;

const FROZEN: &str = include_str!("golden/service.txt");

struct Book(String);

impl Book {
    /// Writes a line, after checking that the bytes decode to the same value.
    fn add<T: borsh::BorshSerialize + borsh::BorshDeserialize + PartialEq + std::fmt::Debug>(&mut self, name: &str, value: &T) {
        let bytes = codec::encode(value);
        assert_eq!(codec::decode::<T>(&bytes, 1 << 20).as_ref(), Ok(value), "{name}");
        let hex = bytes.iter().fold(String::new(), |mut s, b| {
            write!(s, "{b:02x}").unwrap();
            s
        });
        writeln!(self.0, "{name} {hex}").unwrap();
    }
}

fn actions() -> Vec<(&'static str, ServiceAction)> {
    let (lease, node, account) = (LeaseId([1; 32]), NodeId([2; 32]), AccountId([3; 32]));
    let signature = key(3).sign(&[0; 32]);
    let check = FailedCheck { lease, generation: 4, epoch: 5, check: AliveCheck::Log(Millis(6)) };
    let report = LossReport { lease, generation: 7, epoch: 8 };
    let claim = ModelClaim { model: BlobHash([9; 32]), key: key(3).public(), signature, manifest: Some(vec![1, 2, 3]) };
    vec![
        ("set_halt_grace", ServiceAction::SetHaltGrace { node, epochs: 10 }),
        ("watch", ServiceAction::Watch { lease, watcher: Some(account) }),
        ("watch_nobody", ServiceAction::Watch { lease, watcher: None }),
        ("report_failure", ServiceAction::ReportFailure { report: check, key: key(3).public(), signature }),
        ("report_loss", ServiceAction::ReportLoss { report, signatures: vec![ObserverSignature { observer: [11; 32], signature }] }),
        ("register_model", ServiceAction::RegisterModel { claim }),
        ("test_asset", ServiceAction::TestAsset { to: account, asset: DOLLAR, amount: Amount(12) }),
        ("usage", ServiceAction::Usage(bundle(signature))),
    ]
}

fn bundle(signature: keys::Signature) -> UsageBundle {
    let first = BundledUsage {
        lease: [1; 8],
        epochs_ago: Short(2),
        started: Some(Timestamp(START)),
        served_ms: Short(900_000),
        build_ms: Short(0),
        steal_ms: Short(130),
        log: Some(LogMark { root: BlobHash([9; 32]), bytes: Short(300) }),
        confirmed: Some(Confirmed { by: Confirmer::User, key: 0, signature }),
    };
    let watched = Some(Confirmed { by: Confirmer::Watcher, key: 1, signature });
    let later = BundledUsage { lease: [2; 8], started: None, log: None, confirmed: watched, ..first.clone() };
    UsageBundle { epoch: 7, usages: vec![first, later] }
}

fn events() -> Vec<(&'static str, ServiceEvent)> {
    let (lease, node, account) = (LeaseId([1; 32]), NodeId([2; 32]), AccountId([3; 32]));
    let (to, provider, watcher) = (NodeId([4; 32]), AccountId([5; 32]), AccountId([6; 32]));
    vec![
        ("halt_grace_set", ServiceEvent::HaltGraceSet { node, epochs: 1 }),
        ("watcher_set", ServiceEvent::WatcherSet { lease, account, watcher: Some(watcher) }),
        ("check_failed", ServiceEvent::CheckFailed { lease, watcher, epoch: 2 }),
        ("objected", ServiceEvent::Objected { lease, account, provider, node, watcher: Some(watcher) }),
        ("observers_drawn", ServiceEvent::ObserversDrawn { lease, observers: vec![Hash32([7; 32])] }),
        ("node_lost", ServiceEvent::NodeLost { lease, account, node, generation: 3 }),
        ("lease_moved", ServiceEvent::LeaseMoved { lease, account, from: node, to, generation: 4, past: LeaseId([8; 32]) }),
        ("model_registered", ServiceEvent::ModelRegistered { model: BlobHash([9; 32]), account, named: true }),
    ]
}

/// Records as a real run leaves them: a warm lease that moved, with a watcher and its evidence.
fn records(book: &mut Book) {
    let mut w = World::offered();
    let a = first(&w);
    let b = farm(&mut w, 40, 150);
    let watcher = key(20);
    join(&mut w, &watcher);
    let lease = w.accepted(market::OrderTerms { watcher: Some(watcher.account()), ..failover_terms(&w, Failover::Warm) });
    w.idle();
    accept_all(&mut w, &[&b]);
    let started = w.now;
    serve(&mut w, &[&a, &b], 10_000);
    confirm(&mut w, &lease, started, 10_000, &watcher).unwrap();
    let action = evidence(&w, &lease, w.epoch(), &watcher);
    w.act(&watcher, vec![action]).unwrap();
    let standby = more::failover(&w.state, &lease).unwrap().standby.unwrap().lease;
    book.add("record.lease.running", &w.lease(&lease));
    book.add("record.lease.standby", &w.lease(&standby));
    book.add("record.failover.ready", &more::failover(&w.state, &lease).unwrap());
    while w.lease(&lease).generation == 1 {
        serve(&mut w, &[&b], 500);
    }
    let moved = w.lease(&lease);
    book.add("record.lease.moved", &moved);
    book.add("record.lease.past", &more::generations(&w.state, &moved)[0]);
    book.add("record.failover.moved", &more::failover(&w.state, &lease).unwrap());
    let full = area::records::Failover {
        warm: true,
        observers: vec![[1; 32]],
        votes: vec![area::records::Vote { observer: 0, epoch: 2 }],
        lost: Some(area::records::Lost { free_shifted: Timestamp(3), reported: true }),
        standby: Some(area::records::Standby { lease: LeaseId([4; 32]), full_rate: Amount(5) }),
        number: 6,
        refused: vec![NodeId([7; 32])],
        fruitless: 8,
        draw_from: Some(9),
        timer_shifted: Some(Timestamp(10)),
    };
    book.add("record.failover.full", &full);
    let model = area::records::Model { account: AccountId([1; 32]), key: key(1).public(), named: true, registered_at: Timestamp(2) };
    book.add("record.model", &model);
}

#[test]
fn the_formats_are_frozen() {
    let mut book = Book(String::new());
    for (name, action) in actions() {
        book.add(&format!("action.{name}"), &Action::Service(Box::new(action)));
    }
    for (name, event) in events() {
        book.add(&format!("event.{name}"), &Event::Service(event));
    }
    book.add("confirmed_by.evidence", &ConfirmedBy::Evidence(AccountId([1; 32])));
    book.add("end_reason.took_over", &EndReason::TookOver);
    book.add("params.dev", &ServiceParams::dev());
    book.add("params.production", &ServiceParams::production());
    book.add("fee_rate", &FeeRate { asset: DOLLAR, per_credit: Amount(1) });
    let asset = Asset { id: DOLLAR, symbol: "USDX".into(), decimals: 6, bridged: true };
    book.add("record.asset", &asset);
    let allocations = vec![Allocation { account: AccountId([1; 32]), amount: Amount(2) }];
    book.add("genesis_asset", &GenesisAsset { asset, allocations });
    let (lease, model, account) = (LeaseId([1; 32]), BlobHash([2; 32]), AccountId([3; 32]));
    let check = FailedCheck { lease, generation: 1, epoch: 2, check: AliveCheck::Exec };
    book.add("digest.failed_check", &check.digest());
    book.add("digest.loss_report", &LossReport { lease, generation: 1, epoch: 2 }.digest());
    book.add("digest.model", &model_digest(&ZoneId([4; 32]), &model, &account));
    book.add("id.generation", &generation_id(&lease, 1));
    book.add("id.standby", &standby_id(&lease, 1));
    records(&mut book);
    if book.0 != FROZEN {
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("service.txt");
        std::fs::write(&path, &book.0).unwrap();
        let name = |l: &str| l.split(' ').next().unwrap_or_default().to_owned();
        let changed: Vec<_> = book.0.lines().filter(|l| !FROZEN.lines().any(|f| f == *l)).map(name).collect();
        panic!("formats changed: {changed:?}; if that is meant, copy {} over tests/golden/service.txt", path.display());
    }
}

#[test]
fn error_codes_are_frozen() {
    for (code, error) in [
        (130, TxError::Watcher("x")),
        (131, TxError::Evidence("x")),
        (132, TxError::Loss("x")),
        (133, TxError::Model("x")),
        (140, TxError::FeeAsset(1)),
    ] {
        assert_eq!(error.code(), code, "{error}");
    }
}

#[test]
fn events_read_as_json() {
    for (name, event) in events() {
        let json = serde_json::to_value(Event::Service(event)).unwrap();
        assert_eq!((json["event"].as_str(), json["kind"].as_str()), (Some("service"), Some(name)), "{json}");
        serde_json::from_value::<Event>(json).unwrap();
    }
}
