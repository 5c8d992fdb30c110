//! The words that a wallet shows for each action: a format, since they are part of what is signed. Spec: `docs/specs/accounts.md` §3.
//!
//! `describe` has no arm for "anything else", so an action without words does not compile; here the words are frozen, and none of them
//! is shared by two actions.

#![cfg(test)]

use pasture_types::account::{AccountParams, KeyAction};
use pasture_types::audit::*;
use pasture_types::channel::*;
use pasture_types::credential::{Assertion, CredentialAction, CredentialKind, Subject};
use pasture_types::genesis::GenesisValidator;
use pasture_types::governance::*;
use pasture_types::grant::*;
use pasture_types::keys::Signature;
use pasture_types::lease::{EndReason, SignedUsage, Usage};
use pasture_types::market::{AliveCheck, OfferTerms, OrderTerms};
use pasture_types::market_rules::{MarketAction, MarketParams};
use pasture_types::proof::{Heartbeat, ResourceClass};
use pasture_types::reputation::{ReputationAction, ReputationParams};
use pasture_types::service::*;
use pasture_types::stake::{DepositAction, StakeParams, Stamp};
use pasture_types::tx::{Action, NodeDeclaration};
use pasture_types::validator::{ValidatorAction, ValidatorParams};
use pasture_types::votes::{Contradiction, Vote, VoteKind};
use pasture_types::*;

const FROZEN: &str = include_str!("words.txt");

fn sig() -> Signature {
    SigningKey::from_seed([1; 32]).sign(&[5; 32])
}

fn own() -> PublicKey {
    SigningKey::from_seed([1; 32]).public()
}

fn core() -> Vec<Action> {
    let (node, lease, order, offer) = (NodeId([2; 32]), LeaseId([3; 32]), OrderId([4; 32]), OfferId([5; 32]));
    let (to, amount) = (AccountId([6; 32]), Amount::credits(3));
    let declaration =
        NodeDeclaration { resources: Resources::default(), cpu_hashes_per_s: 1_000, cpu_model: String::new(), arch: String::new() };
    let usage = Usage {
        lease,
        generation: 1,
        epoch: 2,
        started: Timestamp(3),
        served_ms: Millis(4),
        build_ms: Millis(5),
        log_root: BlobHash([0; 32]),
        log_bytes: 6,
        steal_ms: Millis(7),
    };
    let signed = SignedUsage { usage, node, node_signature: sig(), countersignature: None };
    let validator = GenesisValidator { key: [7; 32], bls_key: vec![], bls_pop: vec![], operator: to };
    let terms = OrderTerms { max_price_per_hour: amount, budget: amount, ..OrderTerms::default() };
    let watched = OrderTerms { watcher: Some(to), uninterrupted: true, ..terms.clone() };
    vec![
        Action::RegisterAccount { keys: vec![own()], threshold: 1 },
        Action::RegisterProvider { name: "p".into() },
        Action::RegisterNode { node, declaration, node_signature: sig() },
        Action::Stake { amount },
        Action::PutOffer { node, number: 1, terms: Box::new(OfferTerms::default()) },
        Action::WithdrawOffer { offer },
        Action::PlaceOrder { terms: Box::new(terms) },
        Action::PlaceOrder { terms: Box::new(watched) },
        Action::CancelOrder { order },
        Action::AcceptLease { lease },
        Action::RejectLease { lease },
        Action::SubmitUsage { usage: Box::new(signed) },
        Action::SubmitHeartbeat { heartbeat: Heartbeat { node, class: ResourceClass::Cpu, device: 0, epoch: 8, nonces: vec![] } },
        Action::CloseLease { lease, reason: EndReason::StoppedByUser },
        Action::Object { lease },
        Action::Extend { lease, duration: Millis(60_000) },
        Action::Transfer { to, asset: AssetId(7), amount },
        Action::TestCredits { to, amount },
        Action::RegisterValidator { validator, consent: sig(), bond: amount },
        Action::Reputation(ReputationAction::Rate { lease, stars: 4 }),
    ]
}

fn votes() -> Vec<Action> {
    let (account, proposal) = (AccountId([6; 32]), ProposalId([8; 32]));
    let terms = AssetTerms { symbol: "USDX".into(), decimals: 6, bridged: true, per_credit: Some(Amount(500_000_000)) };
    let changes = vec![
        Change::AcceptWindow(Millis(1)),
        Change::ObjectionEpochs(2),
        Change::HeartbeatGraceEpochs(3),
        Change::HeartbeatWork(Millis(4)),
        Change::StartWindow(Millis(5_000)),
        Change::Shares { provider_ppm: 6, treasury_ppm: 7, model_ppm: 8 },
        Change::BasePrice(Amount(9)),
        Change::BlockCost(10),
        Change::MinStake(Amount::credits(11)),
        Change::OrderDeposit(Amount::credits(12)),
        Change::BuildAllowance(Millis(13_000)),
        Change::MaxOpenOrders(14),
        Change::MaxLease(Millis(15_000)),
        Change::Fees(FeeParams::dev()),
        Change::Reputation(ReputationParams::dev()),
        Change::Governance(GovernanceRules::dev()),
        Change::Guardian(Guardian { members: vec![account], threshold: 1 }),
        Change::Unpause,
        Change::Spend { to: account, asset: AssetId(7), amount: Amount::credits(16) },
        Change::Asset { asset: AssetId(7), terms },
        Change::AcceptIssuer(account),
        Change::DropIssuer(account),
        Change::Rules { version: 3, height: 17 },
        Change::Market(Box::new(MarketParams::dev())),
        Change::Service(Box::new(ServiceParams::dev())),
        Change::Audits(Box::new(AuditParams::dev())),
        Change::Stake(Box::new(StakeParams::dev())),
        Change::Validators(Box::new(ValidatorParams::dev())),
        Change::Accounts(Box::new(AccountParams::dev())),
    ];
    let propose = |change: &Change| GovernanceAction::Propose { title: "t".into(), text: BlobHash([9; 32]), changes: vec![change.clone()] };
    let mut all: Vec<GovernanceAction> = changes.iter().map(propose).collect();
    for choice in [VoteChoice::Yes, VoteChoice::No, VoteChoice::Veto, VoteChoice::Abstain] {
        all.push(GovernanceAction::Vote { proposal, choice });
    }
    all.push(GovernanceAction::Pause { kinds: PauseSet::all(), duration: Millis(60_000) });
    all.push(GovernanceAction::Unpause);
    all.into_iter().map(Action::Governance).collect()
}

fn areas() -> Vec<Action> {
    let (node, lease, account, amount) = (NodeId([2; 32]), LeaseId([3; 32]), AccountId([6; 32]), Amount::credits(3));
    let (key, model, offer) = ([7; 32], BlobHash([9; 32]), OfferId([5; 32]));
    let stamp = Stamp { day: 1, nonce: 2, tag: [3; 32], front: 4 };
    let batch = ReceiptBatch { witness: node, base: 1, receipts: vec![] };
    let statement = SignedStatement { statement: Statement { set: event::Hash32([1; 32]), shares: None }, signature: sig() };
    let report = FailedCheck { lease, generation: 1, epoch: 2, check: AliveCheck::Exec };
    let loss = LossReport { lease, generation: 1, epoch: 2 };
    let claim = ModelClaim { model, key: own(), signature: sig(), manifest: None };
    let deposits = [
        DepositAction::Unbond { amount },
        DepositAction::Sponsor { provider: account, amount },
        DepositAction::WithdrawSponsorship { provider: account, amount },
        DepositAction::DismissSponsor { sponsor: account },
        DepositAction::Unjail { node: Some(node) },
        DepositAction::Unjail { node: None },
        DepositAction::Newcomer { stamp },
    ];
    let vote = Vote { kind: VoteKind::Nullify, signature: [0; 64] };
    let votes = Box::new(Contradiction { term: 3, view: 5, one: vote, other: vote });
    let new = Box::new(GenesisValidator { key, bls_key: vec![], bls_pop: vec![], operator: account });
    let validators = [
        ValidatorAction::Bond { key, amount },
        ValidatorAction::Unbond { key, amount },
        ValidatorAction::Unjail { key },
        ValidatorAction::Accuse { key, votes },
        ValidatorAction::Rotate { key, new, consent: sig() },
    ];
    let audits = [
        AuditAction::Receipts { batch, signature: sig() },
        AuditAction::Answers(vec![]),
        AuditAction::Contradiction { audit: 9, one: statement, other: statement },
        AuditAction::Place { placement: Placement { node, place: None, epoch: 1 }, signatures: vec![] },
        AuditAction::Heartbeats(HeartbeatBundle { node, class: ResourceClass::Cpu, device: 0, first: 5, shares: vec![] }),
    ];
    let markets = [
        MarketAction::PauseOffer { offer, paused: true },
        MarketAction::PauseOffer { offer, paused: false },
        MarketAction::TopUp { lease, amount },
        MarketAction::StopRenewal { lease },
        MarketAction::Preempt { lease },
        MarketAction::DismissNode { node },
    ];
    let services = [
        ServiceAction::SetHaltGrace { node, epochs: 60 },
        ServiceAction::Watch { lease, watcher: Some(account) },
        ServiceAction::Watch { lease, watcher: None },
        ServiceAction::ReportFailure { report, key: own(), signature: sig() },
        ServiceAction::ReportLoss { report: loss, signatures: vec![] },
        ServiceAction::RegisterModel { claim },
        ServiceAction::TestAsset { to: account, asset: AssetId(7), amount },
    ];
    let mut out: Vec<Action> = deposits.into_iter().map(Action::Deposit).collect();
    out.extend(validators.into_iter().map(Action::Validator));
    out.extend(audits.into_iter().map(|a| Action::Audit(Box::new(a))));
    out.extend(markets.into_iter().map(Action::Market));
    out.extend(services.into_iter().map(|a| Action::Service(Box::new(a))));
    out
}

fn accounts() -> Vec<Action> {
    let (account, amount, expires) = (AccountId([6; 32]), Amount::credits(3), Timestamp(1_800_000_000_000));
    let budget = vec![Budget { asset: AssetId(7), amount }];
    let grant = |may, budget| GrantAction::Create { terms: Box::new(GrantTerms { key: own(), may, budget, expires }) };
    let act = GrantUse::Act { kinds: vec![ActionKind(15 << 8), ActionKind(18 << 8 | 1)], recipients: vec![], max_rate_per_hour: None };
    let channel = ChannelId([10; 32]);
    let voucher = Voucher { zone: ZoneId([0; 32]), channel, generation: 1, amount }.sign(&SigningKey::from_seed([1; 32]));
    let (provider, asset) = (account, AssetId(7));
    let subject = Subject::Provider(account);
    let claim = Assertion::DataCentreTier { tier: 3 };
    let statement = pasture_types::credential::Statement { subject, claim, issuer: account, issued: expires, expires };
    vec![
        Action::Grant(grant(act, vec![])),
        Action::Grant(grant(GrantUse::Watch { watcher: account }, budget.clone())),
        Action::Grant(grant(GrantUse::Invite, budget.clone())),
        Action::Grant(grant(GrantUse::Enroll { nodes: 200 }, budget)),
        Action::Grant(GrantAction::Revoke { grant: GrantId([11; 32]) }),
        Action::Grant(GrantAction::Claim { keys: vec![own()], threshold: 1, proof: sig() }),
        Action::Keys(KeyAction::Set { keys: vec![own()], threshold: 1, timelock: Millis(60_000) }),
        Action::Keys(KeyAction::Cancel),
        Action::Channel(ChannelAction::Open { provider, asset, amount, key: own(), expires, model: None }),
        Action::Channel(ChannelAction::TopUp { channel, amount, expires }),
        Action::Channel(ChannelAction::Cash { voucher }),
        Action::Channel(ChannelAction::Close { channel, last: None }),
        Action::Credential(CredentialAction::Put { statement: Box::new(statement), signatures: vec![] }),
        Action::Credential(CredentialAction::Revoke { subject, kind: CredentialKind::Carbon }),
        Action::Credential(CredentialAction::Withdraw { credential: CredentialId([12; 32]) }),
    ]
}

#[test]
fn every_action_has_words_of_its_own_and_they_are_frozen() {
    let all: Vec<Action> = [core(), votes(), areas(), accounts()].concat();
    let mut families: Vec<u8> = all.iter().map(|a| ActionKind::of(a).family()).collect();
    families.dedup();
    families.sort_unstable();
    families.dedup();
    assert_eq!(families, (0..=28).collect::<Vec<u8>>(), "each action of the ledger is among them");
    let words: Vec<String> = all.iter().map(describe::action).collect();
    let different: std::collections::BTreeSet<&String> = words.iter().collect();
    assert_eq!(different.len(), words.len(), "two actions with the same words");
    for line in &words {
        assert!(!line.is_empty() && !line.chars().any(char::is_control), "{line:?}");
        assert!(!line.starts_with("action ") && line.len() > 8, "{line:?} says nothing");
    }
    let text = words.join("\n") + "\n";
    if text != FROZEN {
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("words.txt");
        std::fs::write(&path, &text).unwrap();
        panic!("words changed; if that is meant, copy {} over crates/types/tests/words.txt", path.display());
    }
}

/// Attack: a title that hides what follows, or pretends to be another line.
#[test]
fn words_of_others_stay_in_one_line() {
    let title = "harmless\n\u{7}\" to a vote: \u{202e}nothing".to_owned();
    let action = GovernanceAction::Propose { title, text: BlobHash([0; 32]), changes: vec![Change::Unpause] };
    assert_eq!(describe::action(&Action::Governance(action)), "propose \"harmless to a vote: nothing\" to a vote: end the pause");
}
