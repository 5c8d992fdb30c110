//! What stands behind providers and machines, as the API shows it.
//!
//! Guarantees: reads one snapshot; what the ledger keeps less halts is shown as it will be unless the network halts again.

use pasture_api::{
    AnswerView, AuditDetail, AuditView, Beginning, CredentialView, DepositView, GpuAuditView, LastAudit, Leaving, MemoryAuditView,
    PauseView, SponsorView, StandingView, SuspensionView, WitnessView, WitnessWord,
};
use pasture_ledger::service::query as service;
use pasture_ledger::{AuditRecord, Jail, NodeAudit, Said, Start, Tranche, query};
use pasture_types::audit::{audit_threshold, pooled_rate_ppm};
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
        failed: a.failed.clone(),
        open: a.open.and_then(|open| open.audit),
        proven_ppm: a.proven_ppm,
        passes: a.passes,
        failures: a.failures,
        last: a.last.map(|(period, verdict)| LastAudit { period, verdict }),
        measured_ppm: (!a.pool.is_empty()).then(|| {
            let shown = u64::from(pooled_rate_ppm(a.pooled(), a.pool.len()));
            u32::try_from(u64::from(a.proven_ppm).saturating_mul(shown) / 1_000_000).unwrap_or(u32::MAX)
        }),
        gpus: a.gpu.as_ref().map(|gpu| GpuAuditView {
            last_pass: gpu.last_pass,
            failing_from: gpu.failing_from,
            proven: gpu.proven.clone(),
            passes: gpu.passes,
            failures: gpu.failures,
        }),
        memory: a.memory.as_ref().map(|memory| MemoryAuditView {
            last_pass: memory.last_pass,
            failing_from: memory.failing_from,
            proven_bytes: memory.proven,
            passes: memory.passes,
            failures: memory.failures,
        }),
    }
}

/// An audit whose record is kept.
pub(crate) fn audit(state: &dyn StateRead, number: u64) -> Option<AuditDetail> {
    Some(detail(query::audit(state, number)?, query::clock(state).halted))
}

/// An audit's record for people; the network halted for so long.
pub(crate) fn detail(a: AuditRecord, halted: Millis) -> AuditDetail {
    let burst = a.terms.burst;
    let said = |i: usize| a.said.get(i).map(word);
    AuditDetail {
        number: a.number,
        node: a.node,
        attempt: a.attempt,
        epoch: a.epoch,
        drawn_at: a.drawn_at,
        until: a.until_shifted.plus(halted),
        randomness: a.randomness,
        rate: a.rate,
        burst,
        witnesses: a.witnesses.iter().enumerate().map(|(i, witness)| WitnessView { witness: *witness, word: said(i) }).collect(),
        answer: a.answer.map(|answer| AnswerView {
            set: answer.answer.set.digest(),
            shares: answer.answer.statement().shares,
            largest: answer.largest,
            most: audit_threshold(a.rate, burst),
        }),
        gpus: a.gpus,
        verdict: a.verdict,
        memory: a.memory,
        gpu_verdict: a.gpu_verdict,
        memory_verdict: a.memory_verdict,
    }
}

fn word(said: &Said) -> WitnessWord {
    match said {
        Said::Nothing => WitnessWord::Nothing,
        Said::Both => WitnessWord::Both,
        Said::Receipt(r) if r.tag == 0 => WitnessWord::Late,
        Said::Receipt(r) => {
            let (elapsed, round_trip) = (Millis(r.elapsed_ms.into()), Millis(r.rtt_ms.into()));
            WitnessWord::Saw { elapsed, round_trip, tag: r.tag }
        }
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
