//! What stands behind providers and machines, as the API shows it.
//!
//! Guarantees: reads one snapshot; what the ledger keeps less halts is shown as it will be unless the network halts again.

use pasture_api::{AuditView, Beginning, CredentialView, DepositView, Leaving, PauseView, SponsorView, StandingView, SuspensionView};
use pasture_ledger::service::query as service;
use pasture_ledger::{Jail, NodeAudit, Start, Tranche, query};
use pasture_types::credential::Subject;
use pasture_types::state::StateRead;
use pasture_types::{AccountId, Millis, NodeId};

/// A provider's deposit; `None` if the account is none.
pub(crate) fn deposit(state: &dyn StateRead, id: &AccountId) -> Option<DepositView> {
    let provider = query::provider(state, id)?;
    let halted = query::clock(state).halted;
    let bond = provider.bond;
    let sponsors = query::deposits::sponsors(state, id).into_iter();
    Some(DepositView {
        own: provider.stake,
        sponsored: bond.sponsored,
        least: query::zone(state)?.params.min_stake,
        in_use: bond.locked,
        rate_per_hour: bond.rate_per_hour,
        beginning: match bond.start {
            Start::Deposit => Beginning::Deposit,
            Start::Newcomer => Beginning::Newcomer,
            Start::Owing => Beginning::Owing,
            Start::Over => Beginning::Over,
        },
        withheld: bond.withheld,
        forfeited: bond.forfeited,
        first_fees: query::deposits::first_fees(state, id).unwrap_or_default(),
        leaving: leaving(&bond.leaving, halted),
        sponsors: sponsors.map(|s| SponsorView { sponsor: s.sponsor, amount: s.amount, leaving: leaving(&s.leaving, halted) }).collect(),
        suspended: bond.jail.as_ref().map(|jail| suspension(jail, halted)),
    })
}

pub(crate) fn leaving(parts: &[Tranche], halted: Millis) -> Vec<Leaving> {
    parts.iter().map(|t| Leaving { amount: t.amount, release: t.release_shifted.plus(halted) }).collect()
}

pub(crate) const fn suspension(jail: &Jail, halted: Millis) -> SuspensionView {
    SuspensionView { until: jail.until_shifted.plus(halted), fault: jail.fault }
}

/// A machine's standing; `None` if there is none of this id.
pub(crate) fn node(state: &dyn StateRead, id: &NodeId) -> Option<StandingView> {
    let provider = query::node(state, id)?.provider;
    let mut deposit = deposit(state, &provider)?;
    // Its own suspension says more here than its provider's.
    if let Some(jail) = query::deposits::node_bond(state, id).jail {
        deposit.suspended = Some(suspension(&jail, query::clock(state).halted));
    }
    Some(StandingView {
        deposit,
        rate_room: query::deposits::rate_room(state, id).unwrap_or_default(),
        suspended: query::deposits::is_suspended(state, id),
        audits: query::node_audit(state, id).as_ref().map(audits),
        halt_grace: service::halt_grace(state, id).unwrap_or_default(),
        credentials: credentials(state, &provider, id),
    })
}

/// What the guardian holds back now.
pub(crate) fn pause(state: &dyn StateRead) -> Option<PauseView> {
    let until = query::governance::pause(state).until_shifted.plus(query::clock(state).halted);
    Some(PauseView { kinds: query::governance::paused_kinds(state), until }).filter(|p| !p.kinds.is_empty())
}

fn audits(a: &NodeAudit) -> AuditView {
    AuditView {
        first_pass: a.first_pass,
        last_pass: a.last_pass,
        failing_from: a.failing_from,
        open: a.open.and_then(|open| open.audit),
        proven_ppm: a.proven_ppm,
        passes: a.passes,
        failures: a.failures,
    }
}

/// Those that have not expired; a halt does not lengthen them.
fn credentials(state: &dyn StateRead, provider: &AccountId, node: &NodeId) -> Vec<CredentialView> {
    let issuers = query::governance::accepted_issuers(state);
    let now = query::clock(state).time;
    let subjects = [Subject::Provider(*provider), Subject::Node(*node)];
    let all = subjects.iter().flat_map(|subject| query::credentials_of(state, subject));
    let standing = all.map(|c| c.statement).filter(|s| s.expires > now);
    standing
        .map(|s| CredentialView {
            node: match s.subject {
                Subject::Node(node) => Some(node),
                Subject::Provider(_) => None,
            },
            listed: issuers.contains(&s.issuer),
            claim: s.claim,
            issuer: s.issuer,
            expires: s.expires,
        })
        .collect()
}
