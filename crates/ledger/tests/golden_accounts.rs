//! The frozen formats of grants, keys, channels and credentials: borsh bytes of every action, event and record, and the JSON
//! of the events that feeds carry.
//!
//! When a format changes on purpose, the new text is in the file that the failure names; copy it over and write an ADR.

#![cfg(test)]

mod common;

use common::*;
use pasture_ledger::*;
use pasture_types::account::*;
use pasture_types::channel::*;
use pasture_types::credential::{
    Assertion, CredentialAction, CredentialEvent, CredentialKind, CredentialQuery, IssuerSignature, Statement, Subject,
};
use pasture_types::event::Event;
use pasture_types::grant::*;
use pasture_types::keys::Signature;
use pasture_types::tx::*;
use pasture_types::*;
use std::fmt::Write as _;

const FROZEN: &str = include_str!("golden/accounts.txt");

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

fn terms(may: GrantUse) -> GrantTerms {
    let budget = vec![Budget { asset: AssetId::CREDIT, amount: Amount(5) }, Budget { asset: AssetId(7), amount: Amount(6) }];
    GrantTerms { key: key(5).public(), may, budget, expires: Timestamp(START) }
}

fn grants() -> Vec<(&'static str, Action)> {
    let act = GrantUse::Act {
        kinds: vec![ActionKind(6 << 8), ActionKind(15 << 8)],
        recipients: vec![AccountId([1; 32])],
        max_rate_per_hour: Some(Amount(9)),
    };
    let create = |may| Action::Grant(GrantAction::Create { terms: Box::new(terms(may)) });
    let proof = key(6).sign(&claim_digest(&ZoneId([1; 32]), &GrantId([2; 32]), &[key(6).public()], 1));
    vec![
        ("grant.create.act", create(act)),
        ("grant.create.watch", create(GrantUse::Watch { watcher: AccountId([4; 32]) })),
        ("grant.create.invite", create(GrantUse::Invite)),
        ("grant.create.enroll", create(GrantUse::Enroll { nodes: 200 })),
        ("grant.revoke", Action::Grant(GrantAction::Revoke { grant: GrantId([2; 32]) })),
        ("grant.claim", Action::Grant(GrantAction::Claim { keys: vec![key(6).public()], threshold: 1, proof })),
    ]
}

fn voucher() -> SignedVoucher {
    Voucher { zone: ZoneId([1; 32]), channel: ChannelId([2; 32]), generation: 3, amount: Amount(4) }.sign(&key(5))
}

fn statement(claim: Assertion) -> Statement {
    Statement {
        subject: Subject::Node(NodeId([1; 32])),
        claim,
        issuer: AccountId([2; 32]),
        issued: Timestamp(START),
        expires: Timestamp(START + 1),
    }
}

fn others() -> Vec<(&'static str, Action)> {
    let channel = ChannelId([2; 32]);
    let put = |claim| {
        let statement = statement(claim);
        let signature = key(1).sign(&statement.digest(&ZoneId([1; 32])));
        let signatures = vec![IssuerSignature { key: key(1).public(), signature }];
        Action::Credential(CredentialAction::Put { statement: Box::new(statement), signatures })
    };
    let subject = Subject::Provider(AccountId([3; 32]));
    vec![
        ("keys.set", Action::Keys(KeyAction::Set { keys: vec![key(1).public()], threshold: 1, timelock: Millis(5) })),
        ("keys.cancel", Action::Keys(KeyAction::Cancel)),
        (
            "channel.open",
            Action::Channel(ChannelAction::Open {
                provider: AccountId([3; 32]),
                asset: AssetId::CREDIT,
                amount: Amount(7),
                key: key(5).public(),
                expires: Timestamp(START),
                model: Some(BlobHash([4; 32])),
            }),
        ),
        ("channel.top_up", Action::Channel(ChannelAction::TopUp { channel, amount: Amount(8), expires: Timestamp(START) })),
        ("channel.cash", Action::Channel(ChannelAction::Cash { voucher: voucher() })),
        ("channel.close", Action::Channel(ChannelAction::Close { channel, last: Some(voucher()) })),
        ("credential.put.tier", put(Assertion::DataCentreTier { tier: 3 })),
        ("credential.put.carbon", put(Assertion::Carbon { grams_per_kwh: 120 })),
        ("credential.put.region", put(Assertion::Region { region: "eu-west".into(), level: 2 })),
        ("credential.put.audit", put(Assertion::Audit { report: BlobHash([5; 32]), level: 1 })),
        ("credential.revoke", Action::Credential(CredentialAction::Revoke { subject, kind: CredentialKind::Carbon })),
        ("credential.withdraw", Action::Credential(CredentialAction::Withdraw { credential: CredentialId([6; 32]) })),
    ]
}

fn events() -> Vec<(&'static str, Event)> {
    let (account, grant, channel) = (AccountId([1; 32]), GrantId([2; 32]), ChannelId([3; 32]));
    let (client, provider, generation, escrow) = (AccountId([4; 32]), AccountId([5; 32]), 9, Amount(6));
    let (credential, subject) = (CredentialId([7; 32]), Subject::Node(NodeId([8; 32])));
    let at = Timestamp(START);
    vec![
        ("grant.created", Event::Grant(GrantEvent::Created { grant, account })),
        ("grant.revoked", Event::Grant(GrantEvent::Ended { grant, account, why: GrantEnd::Revoked })),
        ("grant.expired", Event::Grant(GrantEvent::Ended { grant, account, why: GrantEnd::Expired })),
        ("grant.claimed", Event::Grant(GrantEvent::Ended { grant, account, why: GrantEnd::Claimed })),
        ("grant.used_up", Event::Grant(GrantEvent::Ended { grant, account, why: GrantEnd::UsedUp })),
        ("keys.pending", Event::Keys(KeyEvent::Pending { account, effective: at })),
        ("keys.cancelled", Event::Keys(KeyEvent::Cancelled { account })),
        ("keys.changed", Event::Keys(KeyEvent::Changed { account })),
        ("channel.opened", Event::Channel(ChannelEvent::Opened { channel, generation, client, provider, escrow })),
        ("channel.topped_up", Event::Channel(ChannelEvent::ToppedUp { channel, client, provider, escrow, expires: at })),
        ("channel.cashed", Event::Channel(ChannelEvent::Cashed { channel, client, provider, amount: Amount(1), paid: Amount(2) })),
        ("channel.closed", Event::Channel(ChannelEvent::Closed { channel, client, provider, paid: Amount(2), refunded: Amount(4) })),
        ("credential.put", Event::Credential(CredentialEvent::Put { credential, subject, issuer: account })),
        ("credential.revoked", Event::Credential(CredentialEvent::Revoked { credential, subject })),
        ("credential.ended", Event::Credential(CredentialEvent::Ended { credential, subject })),
    ]
}

/// Records as a real run leaves them.
fn records(book: &mut Book) {
    let mut w = World::offered();
    let (user, provider) = (w.user.clone(), w.provider.clone());
    let mut t = terms(GrantUse::Watch { watcher: provider.account() });
    t.expires = w.now.plus(Millis::secs(60));
    let open = ChannelAction::Open {
        provider: provider.account(),
        asset: AssetId::CREDIT,
        amount: Amount(1_000),
        key: key(5).public(),
        expires: w.now.plus(Millis::secs(600)),
        model: None,
    };
    let set = |timelock| Action::Keys(KeyAction::Set { keys: vec![user.public()], threshold: 1, timelock: Millis(timelock) });
    w.user_act(vec![Action::Channel(open), set(60_000)]).unwrap();
    w.user_act(vec![Action::Grant(GrantAction::Create { terms: Box::new(t) }), set(0)]).unwrap();
    let made = Statement {
        subject: Subject::Node(w.node.node_id()),
        issuer: user.account(),
        issued: w.now,
        expires: w.now.plus(Millis::secs(60)),
        ..statement(Assertion::DataCentreTier { tier: 3 })
    };
    let signatures = vec![IssuerSignature { key: user.public(), signature: user.sign(&made.digest(&w.genesis.zone())) }];
    w.act(&provider, vec![Action::Credential(CredentialAction::Put { statement: Box::new(made.clone()), signatures })]).unwrap();
    let s = &w.state;
    book.add("record.grant", &query::grants_of_account(s, &user.account())[0]);
    book.add("record.key_policy", &query::key_policy(s, &user.account()));
    assert!(query::key_policy(s, &user.account()).pending.is_some());
    book.add("record.channel", &query::channels_of_client(s, &user.account())[0]);
    book.add("record.credential", &query::credential(s, &made.id()).unwrap());
    book.add("record.cutoff", &Cutoff { issued_until: Timestamp(START), timer_shifted: Timestamp(START + 1) });
}

#[test]
fn the_formats_are_frozen() {
    let mut book = Book(String::new());
    for (name, action) in grants().into_iter().chain(others()) {
        book.add(&format!("action.{name}"), &action);
        writeln!(book.0, "words.{name} {}", describe::action(&action)).unwrap();
    }
    for (name, event) in events() {
        book.add(&format!("event.{name}"), &event);
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event, "{json}");
        writeln!(book.0, "json.{name} {json}").unwrap();
    }
    let (zone, grant) = (ZoneId([1; 32]), GrantId([2; 32]));
    book.add("id.grant", &grant_id(&TxId([1; 32]), 2));
    book.add("id.channel", &channel_id(&AccountId([1; 32]), &AccountId([2; 32]), AssetId::CREDIT));
    book.add("digest.voucher", &voucher().voucher.digest());
    book.add("digest.claim", &claim_digest(&zone, &grant, &[key(1).public()], 1));
    book.add("digest.statement", &statement(Assertion::Carbon { grams_per_kwh: 1 }).digest(&zone));
    book.add("query.credential", &CredentialQuery { issuer: Some(AccountId([1; 32])), kind: CredentialKind::Region, at_least: 2 });
    book.add("signature.eip712", &Signature::Eip712([7; 64]));
    let code = InviteCode { zone, grant, account: AccountId([3; 32]), seed: [4; 32] };
    writeln!(book.0, "invite {}", code.to_text()).unwrap();
    records(&mut book);
    if book.0 != FROZEN {
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("accounts.txt");
        std::fs::write(&path, &book.0).unwrap();
        let name = |l: &str| l.split(' ').next().unwrap_or_default().to_owned();
        let changed: Vec<_> = book.0.lines().filter(|l| !FROZEN.lines().any(|f| f == *l)).map(name).collect();
        panic!("formats changed: {changed:?}; if that is meant, copy {} over tests/golden/accounts.txt", path.display());
    }
}

#[test]
fn error_codes_are_frozen() {
    let amount = Amount(1);
    for (code, error) in [
        (70, TxError::GrantRefused("x")),
        (71, TxError::GrantBudget { needs: amount, left: amount }),
        (75, TxError::Voucher(VoucherError::Other("x"))),
        (80, TxError::Credential("x")),
    ] {
        assert_eq!(error.code(), code, "{error}");
    }
}
