//! The actions of the areas (deposits, audits, grants, channels and so on): seeds of them all, and where they are led.
//!
//! Guarantees: every frozen action of the ledger's golden files is a seed, so a new action that is frozen is fuzzed too.

use crate::{Step, World, by_account, key, who};
use pasture_ledger::query;
use pasture_types::account::KeyAction;
use pasture_types::audit::{AuditAction, HeartbeatBundle, PackedShares};
use pasture_types::channel::{ChannelAction, SignedVoucher, Voucher, channel_id};
use pasture_types::credential::{Assertion, CredentialAction, IssuerSignature, Statement, Subject};
use pasture_types::governance::{Change, GovernanceAction, VoteChoice};
use pasture_types::grant::{Budget, GrantAction, GrantTerms, GrantUse, claim_digest};
use pasture_types::market_rules::MarketAction;
use pasture_types::proof::{Heartbeat, ResourceClass};
use pasture_types::reputation::ReputationAction;
use pasture_types::service::ServiceAction;
use pasture_types::stake::DepositAction;
use pasture_types::state::StateRead as _;
use pasture_types::tx::{Action, MAX_TX_BYTES};
use pasture_types::{AccountId, Amount, AssetId, BlobHash, Millis, NodeId, Timestamp, codec};

const GOLDEN: [&str; 7] = [
    include_str!("../../crates/ledger/tests/golden/formats.txt"),
    include_str!("../../crates/ledger/tests/golden/accounts.txt"),
    include_str!("../../crates/ledger/tests/golden/audits.txt"),
    include_str!("../../crates/ledger/tests/golden/governance.txt"),
    include_str!("../../crates/ledger/tests/golden/market.txt"),
    include_str!("../../crates/ledger/tests/golden/service.txt"),
    include_str!("../../crates/ledger/tests/golden/stake.txt"),
];
/// First bytes of the keys under which areas keep what their actions name (`crates/ledger/src/*/records.rs`).
const GRANTS: u8 = 0x20;
const CREDENTIALS: u8 = 0x30;
const PROPOSALS: u8 = 0x50;

/// Every action that is frozen.
#[must_use]
pub fn frozen() -> Vec<Action> {
    let lines = GOLDEN.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with("action."));
    lines.filter_map(|line| codec::decode(&hex::decode(line.split_once(' ')?.1).ok()?, MAX_TX_BYTES).ok()).collect()
}

/// How many lines of the golden files name an action.
#[must_use]
pub fn frozen_lines() -> usize {
    GOLDEN.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with("action.")).count()
}

/// One successful action of most areas, so that their records exist.
#[must_use]
pub fn life(world: &World) -> Vec<Step> {
    let (provider, node) = (key(who::PROVIDER).account(), key(who::NODE).node_id());
    let lease = query::leases_of_account(&world.state, &key(who::USER).account(), None, 1)[0].id;
    let expires = world.now.plus(Millis::secs(30 * 24 * 3_600));
    let terms = |may| GrantTerms {
        key: key(who::OTHER).public(),
        may,
        budget: vec![Budget { asset: AssetId::CREDIT, amount: Amount::credits(1) }],
        expires,
    };
    let grant = |may| Action::Grant(GrantAction::Create { terms: Box::new(terms(may)) });
    let statement = Statement {
        subject: Subject::Node(node),
        claim: Assertion::DataCentreTier { tier: 3 },
        issuer: key(who::OTHER).account(),
        issued: world.now,
        expires,
    };
    let open = ChannelAction::Open {
        provider,
        asset: AssetId::CREDIT,
        amount: Amount::credits(1),
        key: key(who::USER).public(),
        expires,
        model: None,
    };
    let keys = KeyAction::Set { keys: vec![key(who::USER).public()], threshold: 1, timelock: Millis::secs(60) };
    let propose =
        GovernanceAction::Propose { title: "fuzz".into(), text: BlobHash([1; 32]), changes: vec![Change::MaxLease(Millis(3_600_000))] };
    let watch = ServiceAction::Watch { lease, watcher: Some(key(who::OTHER).account()) };
    let step = |who, action| Step { who, wait_ms: 100, actions: vec![action] };
    vec![
        step(who::USER, grant(GrantUse::Watch { watcher: key(who::OTHER).account() })),
        step(who::USER, grant(GrantUse::Invite)),
        step(who::USER, Action::Channel(open)),
        step(who::USER, Action::Keys(keys)),
        step(who::USER, Action::Service(Box::new(watch))),
        step(who::PROVIDER, Action::Service(Box::new(ServiceAction::SetHaltGrace { node, epochs: 3 }))),
        step(who::OTHER, Action::Deposit(DepositAction::Sponsor { provider, amount: Amount::credits(1) })),
        step(who::PROVIDER, Action::Deposit(DepositAction::Unbond { amount: Amount(1) })),
        step(who::PROVIDER, Action::Governance(propose)),
        step(who::PROVIDER, Action::Credential(CredentialAction::Put { statement: Box::new(statement), signatures: vec![] })),
    ]
}

/// A vote of everybody who may, in favour.
#[must_use]
pub fn vote() -> Action {
    Action::Governance(GovernanceAction::Vote { proposal: pasture_types::ProposalId([0; 32]), choice: VoteChoice::Yes })
}

impl World {
    /// A zone in which most areas have records.
    #[must_use]
    pub fn lived() -> Self {
        let mut world = Self::new();
        for step in life(&world) {
            world.step(step);
        }
        world
    }

    /// An id of a table that an action names, if the one it names is not in there.
    fn named(&self, table: u8, id: [u8; 32]) -> [u8; 32] {
        let mut all = vec![];
        self.state.scan(&[table], &[table + 1], &mut |k, _| {
            all.extend(k.get(1..33).and_then(|id| <[u8; 32]>::try_from(id).ok()));
            all.len() < 16
        });
        if all.contains(&id) { id } else { all.get(usize::from(id[0]) % all.len().max(1)).copied().unwrap_or(id) }
    }

    fn account(&self, id: AccountId) -> AccountId {
        if query::account(&self.state, &id).is_some() { id } else { key(id.0[0] % 4).account() }
    }

    fn lead_node(&self, id: NodeId) -> NodeId {
        crate::known_node(id)
    }

    /// Leads an area's action to what exists, and signs what a holder of the keys could sign.
    pub(crate) fn lead_area(&self, action: Action) -> Action {
        match action {
            Action::Market(MarketAction::PauseOffer { offer, paused }) => {
                Action::Market(MarketAction::PauseOffer { offer: crate::known_offer(offer), paused })
            }
            Action::Market(MarketAction::TopUp { lease, amount }) => {
                Action::Market(MarketAction::TopUp { lease: self.lease(lease), amount })
            }
            Action::Market(MarketAction::StopRenewal { lease }) => Action::Market(MarketAction::StopRenewal { lease: self.lease(lease) }),
            Action::Market(MarketAction::Preempt { lease }) => Action::Market(MarketAction::Preempt { lease: self.lease(lease) }),
            Action::Reputation(ReputationAction::Rate { lease, stars }) => {
                Action::Reputation(ReputationAction::Rate { lease: self.lease(lease), stars })
            }
            Action::Service(action) => Action::Service(Box::new(self.lead_service(*action))),
            Action::Deposit(action) => Action::Deposit(self.lead_deposit(action)),
            Action::Audit(action) => Action::Audit(Box::new(self.lead_audit(*action))),
            Action::Grant(action) => Action::Grant(self.lead_grant(action)),
            Action::Channel(action) => Action::Channel(self.lead_channel(action)),
            Action::Credential(action) => Action::Credential(self.lead_credential(action)),
            Action::Governance(GovernanceAction::Vote { proposal, choice }) => {
                let proposal = pasture_types::ProposalId(self.named(PROPOSALS, proposal.0));
                Action::Governance(GovernanceAction::Vote { proposal, choice })
            }
            other => other,
        }
    }

    fn lead_service(&self, action: ServiceAction) -> ServiceAction {
        match action {
            ServiceAction::SetHaltGrace { node, epochs } => ServiceAction::SetHaltGrace { node: self.lead_node(node), epochs },
            ServiceAction::Watch { lease, watcher } => {
                ServiceAction::Watch { lease: self.lease(lease), watcher: watcher.map(|w| self.account(w)) }
            }
            ServiceAction::ReportFailure { mut report, .. } => {
                report.lease = self.lease(report.lease);
                let watcher = key(who::OTHER);
                ServiceAction::ReportFailure { key: watcher.public(), signature: watcher.sign(&report.digest()), report }
            }
            ServiceAction::ReportLoss { mut report, signatures } => {
                report.lease = self.lease(report.lease);
                ServiceAction::ReportLoss { report, signatures }
            }
            other => other,
        }
    }

    fn lead_deposit(&self, action: DepositAction) -> DepositAction {
        let provider = key(who::PROVIDER).account();
        match action {
            DepositAction::Sponsor { amount, .. } => DepositAction::Sponsor { provider, amount },
            DepositAction::WithdrawSponsorship { amount, .. } => DepositAction::WithdrawSponsorship { provider, amount },
            DepositAction::DismissSponsor { sponsor } => DepositAction::DismissSponsor { sponsor: self.account(sponsor) },
            DepositAction::Unjail { node } => DepositAction::Unjail { node: node.map(|n| self.lead_node(n)) },
            other => other,
        }
    }

    /// A bundle gets honest shares for the epochs that are open.
    fn lead_audit(&self, action: AuditAction) -> AuditAction {
        let AuditAction::Heartbeats(bundle) = action else { return action };
        let node = self.lead_node(bundle.node);
        let Some(first) = query::open_epochs(&self.state).first().map(|e| e.number) else { return AuditAction::Heartbeats(bundle) };
        let honest = |(n, given): (usize, PackedShares)| {
            let blank = Heartbeat { node, class: ResourceClass::Cpu, device: 0, epoch: n as u64, nonces: vec![] };
            if given.0.is_empty() { given } else { PackedShares::pack(&self.shares(blank).nonces).unwrap_or(given) }
        };
        let shares = bundle.shares.into_iter().enumerate().map(honest).collect();
        AuditAction::Heartbeats(HeartbeatBundle { node, first, shares, ..bundle })
    }

    fn lead_grant(&self, action: GrantAction) -> GrantAction {
        match action {
            GrantAction::Create { mut terms } => {
                if terms.expires <= self.now {
                    terms.expires = self.now.plus(Millis::secs(3_600));
                }
                GrantAction::Create { terms }
            }
            GrantAction::Revoke { grant } => GrantAction::Revoke { grant: pasture_types::GrantId(self.named(GRANTS, grant.0)) },
            GrantAction::Claim { keys, threshold, proof } => {
                let grant = pasture_types::GrantId(self.named(GRANTS, [0; 32]));
                let signer = keys.first().and_then(|k| by_account(&k.account()));
                let proof = signer.map_or(proof, |s| s.sign(&claim_digest(&crate::zone_id(), &grant, &keys, threshold)));
                GrantAction::Claim { keys, threshold, proof }
            }
        }
    }

    fn lead_channel(&self, action: ChannelAction) -> ChannelAction {
        let (client, provider) = (key(who::USER), key(who::PROVIDER).account());
        let channel = channel_id(&client.account(), &provider, AssetId::CREDIT);
        let resign = |signed: SignedVoucher| {
            let generation = query::channel(&self.state, &channel).map_or(0, |c| c.generation);
            Voucher { zone: crate::zone_id(), channel, generation, amount: signed.voucher.amount }.sign(client)
        };
        let later = |expires: Timestamp| if expires.0 < crate::START { self.now.plus(Millis(expires.0)) } else { expires };
        match action {
            ChannelAction::Open { asset, amount, expires, model, .. } => {
                ChannelAction::Open { provider, asset, amount, key: client.public(), expires: later(expires), model }
            }
            ChannelAction::TopUp { amount, expires, .. } => ChannelAction::TopUp { channel, amount, expires: later(expires) },
            ChannelAction::Cash { voucher } => ChannelAction::Cash { voucher: resign(voucher) },
            ChannelAction::Close { last, .. } => ChannelAction::Close { channel, last: last.map(resign) },
        }
    }

    fn lead_credential(&self, action: CredentialAction) -> CredentialAction {
        match action {
            CredentialAction::Put { mut statement, .. } => {
                let issuer = key(who::OTHER);
                statement.issuer = issuer.account();
                statement.subject = match statement.subject {
                    Subject::Provider(_) => Subject::Provider(key(who::PROVIDER).account()),
                    Subject::Node(node) => Subject::Node(self.lead_node(node)),
                };
                if statement.issued.0 < crate::START {
                    (statement.issued, statement.expires) = (self.now, self.now.plus(Millis::secs(3_600)));
                }
                let signature = issuer.sign(&statement.digest(&crate::zone_id()));
                CredentialAction::Put { statement, signatures: vec![IssuerSignature { key: issuer.public(), signature }] }
            }
            CredentialAction::Withdraw { credential } => {
                CredentialAction::Withdraw { credential: pasture_types::CredentialId(self.named(CREDENTIALS, credential.0)) }
            }
            other => other,
        }
    }
}
