//! Names of actions and events, down to what tells one edge of a lifecycle from another.
//!
//! Guarantees: the matches are exhaustive, so that whoever adds an action or an event must say here how histories reach it.

use pasture_types::account::{KeyAction, KeyEvent};
use pasture_types::audit::{AuditAction, AuditEvent};
use pasture_types::channel::{ChannelAction, ChannelEvent};
use pasture_types::credential::{CredentialAction, CredentialEvent};
use pasture_types::event::{ConfirmedBy, Event};
use pasture_types::governance::{GovernanceAction, GovernanceEvent};
use pasture_types::grant::{GrantAction, GrantEvent};
use pasture_types::lease::EndReason;
use pasture_types::market_rules::{MarketAction, MarketEvent};
use pasture_types::reputation::{ReputationAction, ReputationEvent};
use pasture_types::service::{ServiceAction, ServiceEvent};
use pasture_types::stake::{DepositAction, DepositEvent};
use pasture_types::tx::Action;
use pasture_types::validator::{ValidatorAction, ValidatorEvent};

const fn service_action(action: &ServiceAction) -> &'static str {
    match action {
        ServiceAction::SetHaltGrace { .. } => "halt grace",
        ServiceAction::Watch { .. } => "watch",
        ServiceAction::ReportFailure { .. } => "report failure",
        ServiceAction::ReportLoss { .. } => "report loss",
        ServiceAction::RegisterModel { .. } => "register model",
        ServiceAction::TestAsset { .. } => "test asset",
        ServiceAction::Usage(_) => "usage bundle",
    }
}

/// A short name of an action's kind.
pub(crate) fn action(action: &Action) -> &'static str {
    match action {
        Action::RegisterAccount { .. } => "register account",
        Action::RegisterProvider { .. } => "register provider",
        Action::RegisterNode { .. } => "register node",
        Action::Stake { .. } => "stake",
        Action::PutOffer { .. } => "put offer",
        Action::WithdrawOffer { .. } => "withdraw offer",
        Action::PlaceOrder { .. } => "place order",
        Action::CancelOrder { .. } => "cancel order",
        Action::AcceptLease { .. } => "accept",
        Action::RejectLease { .. } => "reject",
        Action::SubmitUsage { .. } => "usage",
        Action::SubmitHeartbeat { .. } => "heartbeat",
        Action::CloseLease { .. } => "close",
        Action::Object { .. } => "object",
        Action::Extend { .. } => "extend",
        Action::Transfer { .. } => "transfer",
        Action::TestCredits { .. } => "test credits",
        Action::RegisterValidator { .. } => "register validator",
        Action::Governance(a) => match a {
            GovernanceAction::Propose { .. } => "propose",
            GovernanceAction::Vote { .. } => "vote",
            GovernanceAction::Pause { .. } => "pause",
            GovernanceAction::Unpause => "unpause",
        },
        Action::Reputation(ReputationAction::Rate { .. }) => "rate",
        Action::Deposit(a) => match a {
            DepositAction::Unbond { .. } => "unbond",
            DepositAction::Sponsor { .. } => "sponsor",
            DepositAction::WithdrawSponsorship { .. } => "withdraw sponsorship",
            DepositAction::DismissSponsor { .. } => "dismiss sponsor",
            DepositAction::Unjail { .. } => "unjail",
            DepositAction::Newcomer { .. } => "newcomer",
        },
        Action::Validator(a) => match a {
            ValidatorAction::Bond { .. } => "bond validator",
            ValidatorAction::Unbond { .. } => "unbond validator",
            ValidatorAction::Unjail { .. } => "unjail validator",
            ValidatorAction::Accuse { .. } => "accuse validator",
            ValidatorAction::Rotate { .. } => "rotate validator",
        },
        Action::Audit(a) => match a.as_ref() {
            AuditAction::Receipts { .. } => "audit receipts",
            AuditAction::Answers(_) => "audit answers",
            AuditAction::Contradiction { .. } => "audit contradiction",
            AuditAction::Place { .. } => "audit place",
            AuditAction::Heartbeats(_) => "heartbeats",
            AuditAction::WrongProduct(_) => "audit wrong product",
        },
        Action::Market(a) => match a {
            MarketAction::PauseOffer { .. } => "pause offer",
            MarketAction::TopUp { .. } => "top up lease",
            MarketAction::StopRenewal { .. } => "stop renewal",
            MarketAction::Preempt { .. } => "preempt",
            MarketAction::DismissNode { .. } => "dismiss node",
        },
        Action::Service(a) => service_action(a),
        Action::Grant(a) => match a {
            GrantAction::Create { .. } => "grant",
            GrantAction::Revoke { .. } => "revoke grant",
            GrantAction::Claim { .. } => "claim invite",
        },
        Action::Keys(a) => match a {
            KeyAction::Set { .. } => "set keys",
            KeyAction::Cancel => "cancel keys",
        },
        Action::Channel(a) => match a {
            ChannelAction::Open { .. } => "open channel",
            ChannelAction::TopUp { .. } => "top up channel",
            ChannelAction::Cash { .. } => "cash voucher",
            ChannelAction::Close { .. } => "close channel",
        },
        Action::Credential(a) => match a {
            CredentialAction::Put { .. } => "put certificate",
            CredentialAction::Revoke { .. } => "revoke certificate",
            CredentialAction::Withdraw { .. } => "withdraw certificate",
        },
    }
}

fn reason(reason: &EndReason) -> &'static str {
    match reason {
        EndReason::Exited { .. } => "exited",
        EndReason::OutOfMemory => "out of memory",
        EndReason::BuildFailed => "build failed",
        EndReason::StartFailed => "start failed",
        EndReason::StoppedByUser => "stopped by user",
        EndReason::CapReached => "cap reached",
        EndReason::StoppedByProvider => "stopped by provider",
        EndReason::Lost => "lost",
        EndReason::ServiceStopped => "service stopped",
        EndReason::Rejected => "rejected",
        EndReason::NoSpec => "no spec",
        EndReason::Derated => "derated",
        EndReason::Preempted => "preempted",
        EndReason::TookOver => "took over",
    }
}

const fn confirmed(by: ConfirmedBy) -> &'static str {
    match by {
        ConfirmedBy::User => "user",
        ConfirmedBy::Watcher(_) => "watcher",
        ConfirmedBy::NoObjection => "no objection",
        ConfirmedBy::Nothing => "nothing",
        ConfirmedBy::Objection => "objection",
        ConfirmedBy::Evidence(_) => "evidence",
    }
}

/// A lower-case name of a variant without fields.
fn plain(of: &impl std::fmt::Debug) -> String {
    format!("{of:?}").to_lowercase()
}

/// The edge that an event is.
pub(crate) fn event(event: &Event) -> String {
    match event {
        Event::AccountRegistered { .. } => "account opened".into(),
        Event::ProviderRegistered { .. } => "provider registered".into(),
        Event::NodeRegistered { .. } => "node declared".into(),
        Event::Transferred { from: None, .. } => "money minted".into(),
        Event::Transferred { .. } => "money moved".into(),
        Event::Staked { .. } => "deposit grew".into(),
        Event::OfferPut { .. } => "offer put".into(),
        Event::OfferWithdrawn { .. } => "offer withdrawn".into(),
        Event::OrderPlaced { .. } => "order placed".into(),
        Event::OrderEnded { cancelled, .. } => if *cancelled { "order cancelled" } else { "order lapsed" }.into(),
        Event::LeaseMatched { .. } => "lease matched".into(),
        Event::LeaseChanged { reason: None, .. } => "lease changed".into(),
        Event::LeaseChanged { reason: Some(why), .. } => format!("lease ended: {}", reason(why)),
        Event::LeaseExtended { .. } => "lease extended".into(),
        Event::UsageRecorded { countersigned, .. } => if *countersigned { "usage confirmed" } else { "usage bare" }.into(),
        Event::EpochStarted { .. } => "epoch began".into(),
        Event::HeartbeatRecorded { .. } => "heartbeat taken".into(),
        Event::LeaseSettled { settlement, .. } => format!("lease settled: {}", confirmed(settlement.confirmed_by)),
        Event::Governance(e) => governance(e),
        Event::Reputation(ReputationEvent::Rated { .. }) => "lease rated".into(),
        Event::Deposit(e) => deposit(e).into(),
        Event::Validator(e) => validator(e),
        Event::Audit(e) => audit(e),
        Event::Market(e) => market(e).into(),
        Event::Service(e) => service(e).into(),
        Event::Grant(GrantEvent::Created { .. }) => "grant made".into(),
        Event::Grant(GrantEvent::Ended { why, .. }) => format!("grant {}", plain(why)),
        Event::Keys(KeyEvent::Pending { .. }) => "keys wait".into(),
        Event::Keys(KeyEvent::Cancelled { .. }) => "keys cancelled".into(),
        Event::Keys(KeyEvent::Changed { .. }) => "keys changed".into(),
        Event::Channel(e) => channel(e).into(),
        Event::Credential(CredentialEvent::Put { .. }) => "certificate put".into(),
        Event::Credential(CredentialEvent::Revoked { .. }) => "certificate revoked".into(),
        Event::Credential(CredentialEvent::Ended { .. }) => "certificate ended".into(),
    }
}

fn governance(event: &GovernanceEvent) -> String {
    match event {
        GovernanceEvent::Proposed { .. } => "proposal made".into(),
        GovernanceEvent::Voted { choice, .. } => format!("vote {}", plain(choice)),
        GovernanceEvent::Extended { .. } => "vote lengthened".into(),
        GovernanceEvent::Passed { .. } => "proposal passed".into(),
        GovernanceEvent::Rejected { why, .. } => format!("proposal rejected: {}", plain(why)),
        GovernanceEvent::Executed { .. } => "proposal executed".into(),
        GovernanceEvent::Failed { .. } => "proposal failed".into(),
        GovernanceEvent::Spent { .. } => "treasury spent".into(),
        GovernanceEvent::AssetSet { .. } => "asset set".into(),
        GovernanceEvent::GuardianCalled { .. } => "guardian called".into(),
        GovernanceEvent::Paused { .. } => "network paused".into(),
        GovernanceEvent::Unpaused => "network unpaused".into(),
        GovernanceEvent::RulesActivated { version } => format!("rules {version} in force"),
    }
}

const fn deposit(event: &DepositEvent) -> &'static str {
    match event {
        DepositEvent::Unbonding { .. } => "deposit leaves",
        DepositEvent::Released { .. } => "deposit released",
        DepositEvent::Sponsored { .. } => "provider sponsored",
        DepositEvent::Forfeited { .. } => "deposit forfeited",
        DepositEvent::Suspended { .. } => "provider suspended",
        DepositEvent::Reinstated { .. } => "provider reinstated",
        DepositEvent::NewcomerBegan { .. } => "newcomer began",
    }
}

fn validator(event: &ValidatorEvent) -> String {
    match event {
        ValidatorEvent::Registered { .. } => "validator registered".into(),
        ValidatorEvent::Bonded { .. } => "validator bonded".into(),
        ValidatorEvent::Unbonding { .. } => "validator unbonds".into(),
        ValidatorEvent::Released { .. } => "validator's bond released".into(),
        ValidatorEvent::Forfeited { .. } => "validator's bond forfeited".into(),
        ValidatorEvent::Suspended { .. } => "validator suspended".into(),
        ValidatorEvent::Reinstated { .. } => "validator reinstated".into(),
        ValidatorEvent::TermBegan { seating, .. } => format!("term {}", plain(seating)),
        ValidatorEvent::FeesPaid { .. } => "validator's fees paid".into(),
        ValidatorEvent::Rotated { .. } => "validator's keys replaced".into(),
    }
}

fn audit(event: &AuditEvent) -> String {
    match event {
        AuditEvent::Drawn { attempt, .. } => format!("audit drawn: {attempt}"),
        AuditEvent::Judged { verdict, repeated, .. } => {
            format!("audit {}{}", plain(verdict), if *repeated { ", to be repeated" } else { "" })
        }
        AuditEvent::Rated { .. } => "node rated".into(),
        AuditEvent::GpusJudged { verdict, .. } => format!("GPUs' audit {}", plain(verdict)),
        AuditEvent::MemoryJudged { verdict, .. } => format!("memory's audit {}", plain(verdict)),
    }
}

const fn market(event: &MarketEvent) -> &'static str {
    match event {
        MarketEvent::OfferPaused { paused: true, .. } => "offer rests",
        MarketEvent::OfferPaused { paused: false, .. } => "offer is back",
        MarketEvent::LeaseLow { .. } => "lease is low",
        MarketEvent::RentalRenewed { .. } => "rental renewed",
        MarketEvent::RentalCancelled { .. } => "rental left early",
        MarketEvent::PreemptNotice { .. } => "notice given",
        MarketEvent::NodeDismissed { .. } => "node dismissed",
    }
}

const fn service(event: &ServiceEvent) -> &'static str {
    match event {
        ServiceEvent::HaltGraceSet { .. } => "halt grace set",
        ServiceEvent::WatcherSet { watcher: Some(_), .. } => "watcher named",
        ServiceEvent::WatcherSet { watcher: None, .. } => "watcher dismissed",
        ServiceEvent::CheckFailed { .. } => "check failed",
        ServiceEvent::Objected { watcher: Some(_), .. } => "failure shown",
        ServiceEvent::Objected { watcher: None, .. } => "service in dispute",
        ServiceEvent::ObserversDrawn { .. } => "observers drawn",
        ServiceEvent::NodeLost { .. } => "node lost",
        ServiceEvent::LeaseMoved { .. } => "lease moved",
        ServiceEvent::ModelRegistered { named: true, .. } => "model named",
        ServiceEvent::ModelRegistered { named: false, .. } => "model claimed",
    }
}

const fn channel(event: &ChannelEvent) -> &'static str {
    match event {
        ChannelEvent::Opened { .. } => "channel opened",
        ChannelEvent::ToppedUp { .. } => "channel topped up",
        ChannelEvent::Cashed { .. } => "channel cashed",
        ChannelEvent::Closed { .. } => "channel closed",
    }
}
