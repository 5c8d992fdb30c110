//! What an action says, in words: what a wallet shows before it signs. Spec: `docs/specs/accounts.md` §3.
//!
//! Guarantees: the same action always has the same words (they are part of what a wallet signs, so they are a format); no
//! control characters. The words are for people: what binds is the hash of the whole transaction beside them.

use crate::account::KeyAction;
use crate::channel::ChannelAction;
use crate::credential::CredentialAction;
use crate::grant::{ActionKind, GrantAction, GrantUse};
use crate::tx::{Action, Auth};
use crate::{Amount, AssetId, PublicKey};

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
        Action::PlaceOrder { terms } => format!(
            "order a machine for up to {} per hour, putting at most {} on hold",
            money(terms.max_price_per_hour, terms.asset),
            money(terms.budget, terms.asset)
        ),
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
        Action::RegisterValidator { .. } => "register a validator".into(),
        Action::Grant(a) => grant(a),
        Action::Keys(a) => keys(a),
        Action::Channel(a) => channel(a),
        Action::Credential(a) => credential(a),
        #[allow(unreachable_patterns, reason = "an action without words of its own is named by its number")]
        other => format!("action {}", ActionKind::of(other).0),
    }
}

fn key_set(keys: &[PublicKey], threshold: u8) -> String {
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    format!("{threshold} of the keys {}", keys.join(", "))
}

fn grant(action: &GrantAction) -> String {
    match action {
        GrantAction::Create { terms } => {
            let budget: Vec<String> = terms.budget.iter().map(|b| money(b.amount, b.asset)).collect();
            let budget = if budget.is_empty() { "nothing".into() } else { budget.join(" and ") };
            let may = match &terms.may {
                GrantUse::Act { kinds, .. } => {
                    let numbers: Vec<String> = kinds.iter().map(|k| k.0.to_string()).collect();
                    format!("act with actions of kind {}", numbers.join(", "))
                }
                GrantUse::Watch { watcher } => format!("confirm usage as watcher {watcher}"),
                GrantUse::Invite => "open one account".into(),
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
