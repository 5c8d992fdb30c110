//! The frozen formats of deposits and validators: borsh bytes of every action, event and record.
//!
//! When a format changes on purpose, the new text is in the file that the failure names; copy it over and write an ADR.

#![cfg(test)]

mod common;

use common::*;
use pasture_ledger::*;
use pasture_types::event::{Event, Hash32};
use pasture_types::genesis::GenesisValidator;
use pasture_types::stake::*;
use pasture_types::tx::Action;
use pasture_types::validator::*;
use pasture_types::votes::{Contradiction, Vote, VoteKind};
use pasture_types::*;
use std::fmt::Write as _;

const FROZEN: &str = include_str!("golden/stake.txt");

struct Book(String);

impl Book {
    /// Writes a line.
    fn line<T: borsh::BorshSerialize>(&mut self, name: &str, value: &T) {
        let mut hex = String::new();
        for b in codec::encode(value) {
            write!(hex, "{b:02x}").unwrap();
        }
        writeln!(self.0, "{name} {hex}").unwrap();
    }
    /// Writes a line, after checking that the bytes decode to the same value.
    fn add<T: borsh::BorshSerialize + borsh::BorshDeserialize + PartialEq + std::fmt::Debug>(&mut self, name: &str, value: &T) {
        assert_eq!(codec::decode::<T>(&codec::encode(value), 1 << 20).as_ref(), Ok(value), "{name}");
        self.line(name, value);
    }
}

fn actions(book: &mut Book) {
    let (provider, amount, node) = (AccountId([1; 32]), Amount(1_000_000_007), NodeId([3; 32]));
    let stamp = Stamp { day: 20_833, nonce: 5, tag: [6; 32], front: 7 };
    for (name, action) in [
        ("unbond", DepositAction::Unbond { amount }),
        ("sponsor", DepositAction::Sponsor { provider, amount }),
        ("withdraw_sponsorship", DepositAction::WithdrawSponsorship { provider, amount }),
        ("dismiss_sponsor", DepositAction::DismissSponsor { sponsor: provider }),
        ("unjail", DepositAction::Unjail { node: Some(node) }),
        ("newcomer", DepositAction::Newcomer { stamp }),
    ] {
        book.add(&format!("action.deposit.{name}"), &Action::Deposit(action));
    }
    let key = [8; 32];
    for (name, action) in [
        ("bond", ValidatorAction::Bond { key, amount }),
        ("unbond", ValidatorAction::Unbond { key, amount }),
        ("unjail", ValidatorAction::Unjail { key }),
        ("accuse", ValidatorAction::Accuse { key, votes: Box::new(contradiction()) }),
        ("rotate", ValidatorAction::Rotate { key, new: Box::new(validator()), consent: crate::key(3).sign(&[0; 32]) }),
    ] {
        book.add(&format!("action.validator.{name}"), &Action::Validator(action));
    }
    book.add(
        "action.register_validator",
        &Action::RegisterValidator { validator: validator(), consent: crate::key(3).sign(&[0; 32]), bond: amount },
    );
    let votes = contradiction();
    for (name, vote) in [("finalize", votes.one), ("nullify", votes.other)] {
        book.add(&format!("vote.message.{name}"), &vote.message(&ZoneId([1; 32]), votes.term, votes.view));
    }
    book.add("validator.consent", &validator_consent_digest(&ZoneId([1; 32]), &provider, &key, &[2; 96]));
    let found = Stamp::search(&ZoneId([1; 32]), &provider, 20_833, 2, 0, 100).unwrap();
    assert!(found.verify(&ZoneId([1; 32]), &provider));
    book.add("stamp", &found);
}

fn validator() -> GenesisValidator {
    GenesisValidator { key: [8; 32], bls_key: vec![2; 96], bls_pop: vec![3; 48], operator: AccountId([1; 32]) }
}

fn contradiction() -> Contradiction {
    let one = Vote { kind: VoteKind::Finalize { parent: 200, block: [7; 32] }, signature: [9; 64] };
    Contradiction { term: 300, view: 5, one, other: Vote { kind: VoteKind::Nullify, signature: [10; 64] } }
}

fn events(book: &mut Book) {
    let (provider, owner, amount, node) = (AccountId([1; 32]), AccountId([2; 32]), Amount(9), NodeId([3; 32]));
    let (release, until) = (Timestamp(START), Timestamp(START + 1));
    let forfeit = Forfeit { own: Amount(1), unbonding: Amount(2), sponsors: Amount(3), to_treasury: Amount(4), to_reporter: Amount(2) };
    for (name, event) in [
        ("unbonding", DepositEvent::Unbonding { provider, owner, amount, release }),
        ("released", DepositEvent::Released { provider, owner, amount }),
        ("sponsored", DepositEvent::Sponsored { provider, sponsor: owner, amount }),
        ("forfeited", DepositEvent::Forfeited { provider, fault: Fault::LostDispute, forfeit }),
        ("suspended", DepositEvent::Suspended { provider, node: Some(node), until, fault: Fault::FailedAudit }),
        ("reinstated", DepositEvent::Reinstated { provider, node: None }),
        ("newcomer_began", DepositEvent::NewcomerBegan { provider }),
    ] {
        let event = Event::Deposit(event);
        // The feed shows events as JSON: nested kinds must survive it.
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event, "{json}");
        book.add(&format!("event.deposit.{name}"), &event);
    }
    let (validator, operator) = (node, owner);
    for (name, event) in [
        ("registered", ValidatorEvent::Registered { validator, operator }),
        ("bonded", ValidatorEvent::Bonded { validator, amount }),
        ("unbonding", ValidatorEvent::Unbonding { validator, amount, release }),
        ("released", ValidatorEvent::Released { validator, operator, amount }),
        ("forfeited", ValidatorEvent::Forfeited { validator, fault: Fault::Equivocation, forfeit }),
        ("suspended", ValidatorEvent::Suspended { validator, until, fault: Fault::Absence }),
        ("reinstated", ValidatorEvent::Reinstated { validator }),
        ("term_began", ValidatorEvent::TermBegan { term: 4, seats: 7, seating: Seating::Elected }),
        ("rotated", ValidatorEvent::Rotated { validator, successor: NodeId([9; 32]) }),
        ("fees_paid", ValidatorEvent::FeesPaid { term: 4, validator, operator, asset: pasture_types::AssetId(7), amount }),
    ] {
        let event = Event::Validator(event);
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event, "{json}");
        book.add(&format!("event.validator.{name}"), &event);
    }
}

fn records(book: &mut Book) {
    let (provider, node, amount) = (AccountId([1; 32]), NodeId([3; 32]), Amount(9));
    let leaving = vec![Tranche { amount, release_shifted: Timestamp(START) }];
    let jail = Some(Jail { until_shifted: Timestamp(START), fault: Fault::FailedAudit });
    let timer_shifted = Some(Timestamp(START));
    book.add(
        "record.bond",
        &Bond {
            sponsored: Amount(1),
            sponsors: 2,
            leaving: leaving.clone(),
            locked: Amount(3),
            rate_per_hour: Amount(4),
            jail,
            start: Start::Owing,
            withheld: Amount(5),
            forfeited: Amount(6),
            timer_shifted,
        },
    );
    for (name, start) in [("deposit", Start::Deposit), ("newcomer", Start::Newcomer), ("over", Start::Over)] {
        book.add(&format!("record.start.{name}"), &start);
    }
    book.add("record.sponsorship", &Sponsorship { provider, sponsor: AccountId([2; 32]), amount, leaving: leaving.clone() });
    book.add(
        "record.node_bond",
        &NodeBond { rate_per_hour: Amount(1), locked: Amount(2), jail, quiet: 3, quiet_until_shifted: Timestamp(4) },
    );
    book.add("record.lease_need", &LeaseNeed { provider, node, rate_per_hour: Amount(1), needs: Amount(2) });
    book.add("record.fee_grant", &FeeGrant { account: provider, left: amount, timer_shifted });
    book.add("record.newcomers", &NewcomerCount { day: 1, fees: Amount(2), height: 3, stamps: 4 });
    book.add(
        "record.validator",
        &Validator {
            id: node,
            bls_key: vec![2; 96],
            bls_pop: vec![3; 48],
            operator: provider,
            bond: amount,
            leaving,
            jail,
            forfeited: Amount(1),
            registered_at: Timestamp(START),
            timer_shifted,
        },
    );
    let seats = vec![Seat { validator: node, operator: provider, bond: amount }];
    book.add("record.term", &SeatTerm { number: 1, began_at: Timestamp(START), height: 2, seating: Seating::Kept, seats });
    book.add("record.beacon", &Beacon { proposer: node, randomness: Hash32([5; 32]) });
    book.add("params.stake", &StakeParams::production());
    book.add("params.validators", &ValidatorParams::production());
}

#[test]
fn the_formats_are_frozen() {
    let mut book = Book(String::new());
    actions(&mut book);
    events(&mut book);
    records(&mut book);
    if book.0 != FROZEN {
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("stake.txt");
        std::fs::write(&path, &book.0).unwrap();
        let name = |l: &str| l.split(' ').next().unwrap_or_default().to_owned();
        let changed: Vec<_> = book.0.lines().filter(|l| !FROZEN.lines().any(|f| f == *l)).map(name).collect();
        panic!("formats changed: {changed:?}; if that is meant, copy {} over tests/golden/stake.txt", path.display());
    }
}

#[test]
fn error_codes_are_frozen() {
    let amount = Amount(1);
    for (code, error) in [
        (85, TxError::DepositInUse { needs: amount, left: amount }),
        (86, TxError::ValueLimit { needs: amount, has: amount }),
        (87, TxError::Stamp("")),
        (88, TxError::NewcomersFull),
        (89, TxError::Possession),
    ] {
        assert_eq!(error.code(), code, "{error}");
    }
}
