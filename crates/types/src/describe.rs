//! What an action says, in words: what a wallet shows before it signs. Spec: `docs/specs/accounts.md` §3.
//!
//! Guarantees: the same action always has the same words (they are part of what a wallet signs, so they are a format); no
//! control characters. The words are for people: what binds is the hash of the whole transaction beside them.

use crate::account::KeyAction;
use crate::audit::AuditAction;
use crate::channel::ChannelAction;
use crate::credential::CredentialAction;
use crate::governance::{Change, GovernanceAction, PauseKind, VoteChoice};
use crate::grant::{ActionKind, FIRST_FAMILY, GrantAction, GrantUse};
use crate::market_rules::MarketAction;
use crate::reputation::{MAX_STARS, ReputationAction};
use crate::service::ServiceAction;
use crate::stake::DepositAction;
use crate::tx::{Action, Auth};
use crate::validator::ValidatorAction;
use crate::{Amount, AssetId, NodeId, PublicKey};

/// An amount with its asset.
#[must_use]
pub fn money(amount: Amount, asset: AssetId) -> String {
    if asset == AssetId::CREDIT { format!("{amount} credits") } else { format!("{amount} of asset {}", asset.0) }
}

/// By what right, in words.
#[must_use]
pub fn right(auth: &Auth) -> String {
    match auth {
        Auth::Single => "account".into(),
        Auth::Multi => "account with several keys".into(),
        Auth::Delegated(grant) => format!("grant {grant}"),
        Auth::Node(node) => format!("node {node}"),
    }
}

/// An action in words.
#[must_use]
pub fn action(action: &Action) -> String {
    match action {
        Action::RegisterAccount { keys, threshold } => format!("open the account with {}", key_set(keys, *threshold)),
        Action::RegisterProvider { .. } => "become a provider".into(),
        Action::RegisterNode { node, .. } => format!("add node {node}"),
        Action::Stake { amount } => format!("deposit {}", money(*amount, AssetId::CREDIT)),
        Action::PutOffer { node, number, .. } => format!("offer {number} of node {node}"),
        Action::WithdrawOffer { offer } => format!("withdraw offer {offer}"),
        Action::PlaceOrder { terms } => {
            let watched = terms.watcher.map(|w| format!(", watched by {w}")).unwrap_or_default();
            let quiet = if terms.uninterrupted { ", without capacity checks" } else { "" };
            let (price, hold) = (money(terms.max_price_per_hour, terms.asset), money(terms.budget, terms.asset));
            format!("order a machine for up to {price} per hour, putting at most {hold} on hold{watched}{quiet}")
        }
        Action::CancelOrder { order } => format!("cancel order {order}"),
        Action::AcceptLease { lease } => format!("accept lease {lease}"),
        Action::RejectLease { lease } => format!("reject lease {lease}"),
        Action::SubmitUsage { usage } => format!("report usage of lease {}", usage.usage.lease),
        Action::SubmitHeartbeat { heartbeat } => format!("prove capacity of node {} in period {}", heartbeat.node, heartbeat.epoch),
        Action::CloseLease { lease, .. } => format!("close lease {lease}"),
        Action::Object { lease } => format!("object to the usage of lease {lease}"),
        Action::Extend { lease, duration } => format!("extend lease {lease} by {} s", duration.0 / 1000),
        Action::Transfer { to, asset, amount } => format!("send {} to {to}", money(*amount, *asset)),
        Action::TestCredits { to, amount } => format!("test credits: {} for {to}", money(*amount, AssetId::CREDIT)),
        Action::RegisterValidator { validator, bond, .. } => {
            format!("register validator {} with a deposit of {}", NodeId(validator.key), money(*bond, AssetId::CREDIT))
        }
        Action::Governance(a) => governance(a),
        Action::Reputation(a) => match a {
            ReputationAction::Rate { lease, stars } => format!("rate lease {lease} with {stars} of {MAX_STARS} stars"),
        },
        Action::Deposit(a) => deposit(a),
        Action::Validator(a) => validator(a),
        Action::Audit(a) => audit(a),
        Action::Market(a) => market(a),
        Action::Service(a) => service(a),
        Action::Grant(a) => grant(a),
        Action::Keys(a) => keys(a),
        Action::Channel(a) => channel(a),
        Action::Credential(a) => credential(a),
    }
}

/// A text of somebody's own, as it may be shown: one line without control characters, quotes, or marks that turn what follows around.
fn shown(text: &str) -> String {
    let hides = |c: char| c.is_control() || matches!(c, '"' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().filter(|c| !hides(*c)).collect()
}

fn governance(action: &GovernanceAction) -> String {
    match action {
        GovernanceAction::Propose { title, changes, .. } => {
            let changes: Vec<String> = changes.iter().map(change).collect();
            format!("propose \"{}\" to a vote: {}", shown(title), changes.join("; "))
        }
        GovernanceAction::Vote { proposal, choice } => {
            let choice = match choice {
                VoteChoice::Yes => "yes",
                VoteChoice::No => "no",
                VoteChoice::Veto => "no, with its deposit forfeited,",
                VoteChoice::Abstain => "neither yes nor no",
            };
            format!("vote {choice} on proposal {proposal}")
        }
        GovernanceAction::Pause { kinds, duration } => {
            let kinds: Vec<&str> = PauseKind::ALL.iter().filter(|k| kinds.has(**k)).map(|k| pause_kind(*k)).collect();
            format!("as a guardian, pause {} for {} s", kinds.join(", "), duration.0 / 1000)
        }
        GovernanceAction::Unpause => "as a guardian, end the pause".into(),
    }
}

const fn pause_kind(kind: PauseKind) -> &'static str {
    match kind {
        PauseKind::Registrations => "registrations",
        PauseKind::Offers => "offers",
        PauseKind::Orders => "orders",
        PauseKind::Matches => "matches",
        PauseKind::Transfers => "transfers",
        PauseKind::Withdrawals => "withdrawals",
        PauseKind::Sessions => "pay-as-you-go sessions",
    }
}

fn change(change: &Change) -> String {
    match change {
        Change::AcceptWindow(v) => format!("nodes have {} ms to accept", v.0),
        Change::ObjectionEpochs(v) => format!("objections have {v} periods"),
        Change::HeartbeatGraceEpochs(v) => format!("proofs of capacity have {v} periods"),
        Change::HeartbeatWork(v) => format!("a proof of capacity is worth {} ms of work", v.0),
        Change::StartWindow(v) => format!("jobs have {} s to start", v.0 / 1000),
        Change::Shares { provider_ppm, treasury_ppm, model_ppm } => {
            format!("of a million, providers get {provider_ppm}, the network {treasury_ppm}, models {model_ppm}")
        }
        Change::BasePrice(v) => format!("fees cost {} nano-credits a microsecond", v.0),
        Change::BlockCost(v) => format!("blocks cost at most {v} microseconds"),
        Change::MinStake(v) => format!("a provider's deposit is at least {}", money(*v, AssetId::CREDIT)),
        Change::OrderDeposit(v) => format!("an order locks {v}"),
        Change::BuildAllowance(v) => format!("{} s of building a day are free", v.0 / 1000),
        Change::MaxOpenOrders(v) => format!("an account has at most {v} open orders"),
        Change::MaxLease(v) => format!("leases last at most {} s", v.0 / 1000),
        Change::Fees(_) => "how fees are priced".into(),
        Change::Reputation(_) => "how reputation grows and fades".into(),
        Change::Governance(_) => "HOW VOTES ARE HELD".into(),
        Change::Guardian(g) => {
            let members: Vec<String> = g.members.iter().map(ToString::to_string).collect();
            format!("THE GUARDIAN IS {} of [{}]", g.threshold, members.join(", "))
        }
        Change::Unpause => "end the pause".into(),
        Change::Spend { to, asset, amount } => format!("PAY {} FROM THE TREASURY to {to}", money(*amount, *asset)),
        Change::Asset { asset, terms } => {
            let origin = if terms.bridged { "bridged" } else { "not bridged" };
            let fees = terms.per_credit.map_or_else(|| "no fees in it".into(), |v| format!("a credit of fees costs {v} of it"));
            format!("asset {} is {} with {} decimals, {origin}, {fees}", asset.0, shown(&terms.symbol), terms.decimals)
        }
        Change::AcceptIssuer(issuer) => format!("believe certificates of {issuer}"),
        Change::DropIssuer(issuer) => format!("believe certificates of {issuer} no more"),
        Change::Rules { version, height } => format!("RULES {version} from block {height} on"),
        Change::Market(_) => "the market's parameters".into(),
        Change::Service(_) => "the parameters of watchers, disputes, failover and fees in other assets".into(),
        Change::Audits(p) => format!("the parameters of capacity checks, which are {}", if p.active { "on" } else { "off" }),
        Change::Stake(_) => "the parameters of deposits and of what forfeits them".into(),
        Change::Validators(p) => format!("VALIDATORS HAVE {} SEATS, with their other parameters", p.seats),
        Change::Accounts(_) => "the parameters of channels".into(),
    }
}

fn deposit(action: &DepositAction) -> String {
    let credits = |amount: &Amount| money(*amount, AssetId::CREDIT);
    match action {
        DepositAction::Unbond { amount } => format!("take {} of the deposit back", credits(amount)),
        DepositAction::Sponsor { provider, amount } => format!("post a deposit of {} for provider {provider}", credits(amount)),
        DepositAction::WithdrawSponsorship { provider, amount } => {
            format!("take {} of the deposit for provider {provider} back", credits(amount))
        }
        DepositAction::DismissSponsor { sponsor } => format!("send sponsor {sponsor} away"),
        DepositAction::Unjail { node: Some(node) } => format!("end the suspension of node {node}"),
        DepositAction::Unjail { node: None } => "end the suspension of the provider".into(),
        DepositAction::Newcomer { .. } => "begin as a provider without a deposit".into(),
    }
}

fn validator(action: &ValidatorAction) -> String {
    match action {
        ValidatorAction::Bond { key, amount } => {
            format!("add {} to the deposit of validator {}", money(*amount, AssetId::CREDIT), NodeId(*key))
        }
        ValidatorAction::Unbond { key, amount } => {
            format!("take {} of the deposit of validator {} back", money(*amount, AssetId::CREDIT), NodeId(*key))
        }
        ValidatorAction::Unjail { key } => format!("end the suspension of validator {}", NodeId(*key)),
        ValidatorAction::Accuse { key, votes } => {
            format!("show that validator {} contradicted itself in view {} of term {}", NodeId(*key), votes.view, votes.term)
        }
        ValidatorAction::Rotate { key, new, .. } => {
            format!("replace the keys of validator {} by those of {}", NodeId(*key), NodeId(new.key))
        }
    }
}

fn audit(action: &AuditAction) -> String {
    match action {
        AuditAction::Receipts { batch, .. } => format!("carry {} receipts of witness {}", batch.receipts.len(), batch.witness),
        AuditAction::Answers(answers) => format!("carry {} answers to capacity checks", answers.len()),
        AuditAction::Contradiction { audit, .. } => format!("show that a node contradicted itself in capacity check {audit}"),
        AuditAction::Place { placement, .. } => format!("say where node {} is", placement.node),
        AuditAction::Heartbeats(bundle) => {
            format!("prove capacity of node {} in {} periods from {} on", bundle.node, bundle.shares.len(), bundle.first)
        }
        AuditAction::WrongProduct(wrong) => format!("show that a node signed a wrong product in capacity check {}", wrong.audit),
    }
}

fn market(action: &MarketAction) -> String {
    match action {
        MarketAction::PauseOffer { offer, paused: true } => format!("let offer {offer} rest"),
        MarketAction::PauseOffer { offer, paused: false } => format!("offer {offer} again"),
        MarketAction::TopUp { lease, amount } => format!("put up to {amount} more on hold for lease {lease}, in its asset"),
        MarketAction::StopRenewal { lease } => format!("let rental {lease} end with what is paid"),
        MarketAction::Preempt { lease } => format!("give notice that lease {lease} will be ended"),
        MarketAction::DismissNode { node } => format!("let machine {node} offer nothing more"),
    }
}

fn service(action: &ServiceAction) -> String {
    match action {
        ServiceAction::SetHaltGrace { node, epochs } => format!("node {node} serves through {epochs} periods without blocks"),
        ServiceAction::Watch { lease, watcher: Some(watcher) } => format!("let watcher {watcher} confirm the usage of lease {lease}"),
        ServiceAction::Watch { lease, watcher: None } => format!("let no watcher confirm the usage of lease {lease}"),
        ServiceAction::ReportFailure { report, .. } => format!("report that lease {} failed in period {}", report.lease, report.epoch),
        ServiceAction::ReportLoss { report, .. } => format!("report that the node of lease {} is lost", report.lease),
        ServiceAction::RegisterModel { claim } => format!("collect the share of model {}", claim.model),
        ServiceAction::TestAsset { to, asset, amount } => format!("test money: {} for {to}", money(*amount, *asset)),
        ServiceAction::Usage(bundle) => format!("report the usage of {} leases at once", bundle.usages.len()),
    }
}

fn key_set(keys: &[PublicKey], threshold: u8) -> String {
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    format!("{threshold} of the keys {}", keys.join(", "))
}

/// What the kinds of actions are called that a grant can name, by their numbers in the encoding.
const KINDS: [&str; 29] = [
    "open accounts",
    "become a provider",
    "add nodes",
    "deposit",
    "make offers",
    "withdraw offers",
    "place orders",
    "cancel orders",
    "accept leases",
    "reject leases",
    "report usage",
    "prove capacity",
    "close leases",
    "object",
    "extend leases",
    "send money",
    "test credits",
    "register validators",
    "votes",
    "ratings",
    "deposits",
    "validators",
    "capacity checks",
    "market",
    "service",
    "grants",
    "keys",
    "channels",
    "certificates",
];

/// A kind of action; of those that wrap an area's, its number within.
fn kind(kind: ActionKind) -> String {
    let [family, inner] = kind.0.to_be_bytes();
    match KINDS.get(usize::from(family)) {
        Some(name) if family < FIRST_FAMILY => (*name).to_owned(),
        Some(name) => format!("{name}: {inner}"),
        None => format!("unknown kind {}", kind.0),
    }
}

fn grant(action: &GrantAction) -> String {
    match action {
        GrantAction::Create { terms } => {
            let budget: Vec<String> = terms.budget.iter().map(|b| money(b.amount, b.asset)).collect();
            let budget = if budget.is_empty() { "nothing".into() } else { budget.join(" and ") };
            let may = match &terms.may {
                GrantUse::Act { kinds, .. } => {
                    let kinds: Vec<String> = kinds.iter().map(|k| kind(*k)).collect();
                    format!("act in its name ({})", kinds.join(", "))
                }
                GrantUse::Watch { watcher } => format!("confirm usage as watcher {watcher}"),
                GrantUse::Invite => "open one account".into(),
                GrantUse::Enroll { nodes } => format!("add {nodes} new machines to its provider"),
            };
            format!("let key {} {may}, spending at most {budget}, until {}", terms.key, terms.expires)
        }
        GrantAction::Revoke { grant } => format!("take back grant {grant}"),
        GrantAction::Claim { .. } => "claim an invite".into(),
    }
}

fn keys(action: &KeyAction) -> String {
    match action {
        KeyAction::Set { keys, threshold, timelock } => {
            format!("REPLACE THE KEYS OF THE ACCOUNT by {}, timelock {} s", key_set(keys, *threshold), timelock.0 / 1000)
        }
        KeyAction::Cancel => "cancel the waiting change of keys".into(),
    }
}

fn channel(action: &ChannelAction) -> String {
    match action {
        ChannelAction::Open { provider, asset, amount, expires, .. } => {
            format!("put {} on hold for calls to provider {provider} until {expires}", money(*amount, *asset))
        }
        ChannelAction::TopUp { channel, amount, expires } => {
            format!("add {amount} to channel {channel}, to end at {expires} at the earliest")
        }
        ChannelAction::Cash { voucher } => format!("cash up to {} of channel {}", voucher.voucher.amount, voucher.voucher.channel),
        ChannelAction::Close { channel, .. } => format!("close channel {channel}"),
    }
}

fn credential(action: &CredentialAction) -> String {
    match action {
        CredentialAction::Put { statement, .. } => format!("put certificate {}", statement.id()),
        CredentialAction::Revoke { .. } => "take back a certificate".into(),
        CredentialAction::Withdraw { credential } => format!("remove certificate {credential}"),
    }
}
