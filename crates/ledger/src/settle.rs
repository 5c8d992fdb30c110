//! What a lease pays, and when: two conditions, both needed. Spec: `docs/specs/settlement.md` §3-§6, §10.
//!
//! Guarantees: what is paid never exceeds the escrow, only grows, and is the same whether paid at once or in parts; a lease
//! is settled once; the work of one step is bounded. Who may claim usage is `lease`'s to say.

use crate::env::Env;
use crate::lease::{changed, clock_slack, set_timer};
use crate::proofs::{EpochProof, epoch_proof};
use crate::records::{Claim, Lease, Metered, Proven, Ripening};
use crate::seams::Capacity;
use crate::service::{billing, modes, watch};
use crate::tables::{ALLOWANCE, get, key, put, put_lease};
use crate::{bank, market, seams};
use pasture_types::event::{ConfirmedBy, Event, Settlement};
use pasture_types::genesis::Params;
use pasture_types::lease::LeaseState;
use pasture_types::service::ServiceEvent;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, Amount, Millis, Timestamp};

/// A running lease pays what is confirmed and proven so often.
pub const INTERIM_EPOCHS: u64 = 15;
/// Most epochs that one usage or one timer walks; the rest is walked next time.
const MAX_EPOCHS_PER_STEP: usize = 512;
/// An objection reaches back over so many epochs.
const WITHHELD_EPOCHS: u64 = 2;
pub(crate) const DAY_MS: u64 = 24 * 3_600_000;
const PPM: u128 = 1_000_000;

/// Bare usage to which nobody objected for W epochs counts as confirmed; what came since then begins to wait.
pub(crate) fn ripen(env: &Env, lease: &mut Lease) {
    let window = env.epochs(env.zone.params.objection_epochs);
    if lease.disputed {
        return;
    }
    if let Some(waiting) = lease.ripening
        && env.shifted() >= waiting.since_shifted.plus(window)
    {
        lease.ripened = lease.ripened.max(waiting.claim);
        lease.ripening = None;
    }
    if lease.ripening.is_none() && lease.last_claim() != lease.accepted_claim() {
        lease.ripening = Some(Ripening { claim: lease.last_claim(), since_shifted: env.shifted() });
    }
}

/// How far counting got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Counted {
    /// All of it.
    All,
    /// Something is open until then (less halts).
    Wait(Timestamp),
}

/// Which epochs are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    /// Epochs that lie wholly before the end.
    WholeEpochs,
    /// Everything before the end.
    Everything,
}

/// The moment until which service is payable for a claim: never past the cap or the close.
fn payable_until(lease: &Lease, claim: Claim) -> Timestamp {
    let started = lease.started_at.unwrap_or_default();
    let until = started.plus(claim.served.min(lease.max_duration));
    match &lease.closing {
        Some(c) => until.min(c.at.plus(clock_slack(lease))),
        None => until,
    }
}

/// Holds service until `until` against the node's heartbeats, epoch by epoch.
fn count(s: &dyn StateRead, env: &Env, lease: &Lease, metered: &mut Metered, until: Timestamp, reach: Reach) -> Counted {
    let started = lease.started_at.unwrap_or_default();
    metered.until = metered.until.max(started);
    let mut budget = MAX_EPOCHS_PER_STEP;
    while metered.until < until {
        let epoch = env.zone.epoch_of(metered.until);
        let end = env.zone.epoch_start(epoch.saturating_add(1));
        if reach == Reach::WholeEpochs && end > until {
            break;
        }
        if budget == 0 {
            return Counted::Wait(env.shifted());
        }
        budget -= 1;
        let (proof, by) = epoch_proof(s, env, &lease.node, epoch, lease.halt_grace);
        if let EpochProof::Open(deadline) = proof {
            return Counted::Wait(deadline);
        }
        // A halt's epochs stand and fall with the one that vouches for them: its audit is the catch-up audit.
        let capacity = [seams::cpu_and_memory(s, env, &lease.node, by), gpu_capacity(s, env, lease, by)];
        if let Some(again) = capacity.iter().find_map(|c| if let Capacity::Open(again) = c { Some(*again) } else { None }) {
            return Counted::Wait(again);
        }
        let stop = end.min(until);
        metered.epochs += 1;
        if proof == EpochProof::Proven {
            let time = stop.since(metered.until);
            for (class, capacity) in [&mut metered.cpu, &mut metered.gpu].into_iter().zip(capacity) {
                prove(class, capacity, time);
            }
        }
        metered.until = stop;
    }
    Counted::All
}

/// What stands behind a lease's GPUs; it is not asked for a lease without.
fn gpu_capacity(s: &dyn StateRead, env: &Env, lease: &Lease, epoch: u64) -> Capacity {
    if billing::gpu_rate(lease).is_zero() { Capacity::Failed } else { seams::gpu_capacity(s, env, &lease.node, epoch) }
}

fn prove(class: &mut Proven, capacity: Capacity, time: Millis) {
    if capacity == Capacity::Failed {
        return;
    }
    class.ms = Millis(class.ms.0.saturating_add(time.0));
    class.epochs += 1;
    class.audited += u64::from(capacity == Capacity::Audited);
}

/// Provider's and model's share of a charge, each rounded down; the treasury gets what is left at the end.
fn shares(params: &Params, lease: &Lease, charged: Amount) -> (Amount, Amount) {
    let up = if cfg!(mutant_3) && lease.model.is_some() && !charged.is_zero() { Amount(1) } else { Amount::ZERO };
    let part = |ppm: u32| charged.mul_div(u128::from(ppm), PPM).unwrap_or(Amount::ZERO);
    match lease.model {
        Some(_) => (part(params.provider_ppm).saturating_add(up), part(params.model_ppm)),
        None => (part(params.provider_ppm.saturating_add(params.model_ppm)), Amount::ZERO),
    }
}

/// Pays the difference between new totals and what was paid before; totals only grow.
fn pay(s: &mut dyn StateWrite, env: &Env, lease: &mut Lease, provider: Amount, treasury: Amount, model: Amount) {
    let more = |total: Amount, before: Amount, held: &mut Amount| -> Amount {
        let delta = total.saturating_sub(before).min(*held);
        *held = held.saturating_sub(delta);
        delta
    };
    let to_provider = more(provider, lease.paid.provider, &mut lease.held);
    let kept = seams::keep_for_deposit(s, env, &lease.provider, lease.asset, to_provider).min(to_provider);
    let to_model = more(model, lease.paid.model, &mut lease.held);
    let to_treasury = more(treasury, lease.paid.treasury, &mut lease.held);
    bank::credit(s, &lease.provider, lease.asset, to_provider.saturating_sub(kept));
    bank::to_treasury(s, lease.asset, to_treasury);
    if let Some(creator) = &lease.model {
        bank::to_model(s, creator, lease.asset, to_model);
    }
    lease.paid.provider = lease.paid.provider.saturating_add(to_provider);
    lease.paid.model = lease.paid.model.saturating_add(to_model);
    lease.paid.treasury = lease.paid.treasury.saturating_add(to_treasury);
}

/// Pays a long lease what is both confirmed and proven, every [`INTERIM_EPOCHS`].
pub(crate) fn interim(s: &mut dyn StateWrite, env: &Env, lease: &mut Lease) {
    if env.epoch() < lease.interim_epoch.saturating_add(INTERIM_EPOCHS) {
        return;
    }
    lease.interim_epoch = env.epoch();
    let mut metered = lease.metered;
    let until = payable_until(lease, lease.accepted_claim());
    // Whatever could be counted is paid; what waits is counted next time.
    let _ = count(s, env, lease, &mut metered, until, Reach::WholeEpochs);
    billing::bill(&mut metered, lease.accepted_claim().steal);
    lease.metered = metered;
    // A checked job is counted while its epochs are kept, and paid once nobody can dispute its result any more.
    if modes::pays_late(lease) {
        return;
    }
    let charged = billing::charge(lease, &metered);
    let params = &seams::params_of(s, env, lease);
    let (provider, model) = shares(params, lease, charged);
    let treasury = charged.mul_div(u128::from(params.treasury_ppm), PPM).unwrap_or(Amount::ZERO);
    pay(s, env, lease, provider, treasury, model);
}

/// Settles a closing lease if its conditions hold, or sets its timer to when they may.
pub(crate) fn settle(s: &mut dyn StateWrite, env: &Env, lease: &mut Lease, events: &mut Vec<Event>) {
    match conditions(s, env, lease) {
        Ok(due) => {
            let settlement = finish(s, env, lease, due, events);
            events.push(Event::LeaseSettled {
                lease: lease.id,
                account: lease.account,
                node: lease.node,
                settlement: Box::new(settlement),
            });
            events.push(changed(lease));
        }
        Err(again) => {
            // At least a millisecond ahead unless counting goes on, so that a condition cannot spin.
            set_timer(s, lease, Some(again));
            put_lease(s, &lease.id.clone(), lease);
        }
    }
}

/// What a lease whose conditions hold comes to.
struct Outcome {
    /// The claim that is paid.
    claim: Claim,
    /// The charge for disputed service that is withheld after an objection.
    withheld: Amount,
    /// Building that is in dispute.
    disputed_build: Millis,
    /// Whose evidence shows that the disputed service failed; then nothing is withheld.
    shown: Option<AccountId>,
}

/// What is paid, or when to look again.
fn conditions(s: &dyn StateRead, env: &Env, lease: &mut Lease) -> Result<Outcome, Timestamp> {
    let Some(closing) = lease.closing.clone() else { return Err(env.shifted().plus(env.zone.params.epoch)) };
    if !closing.complete && env.shifted() <= closing.final_shifted {
        return Err(closing.final_shifted.plus(Millis(1)));
    }
    let disputable = closing.final_shifted.plus(env.epochs(env.zone.params.service.dispute_epochs));
    if modes::pays_late(lease) && env.shifted() <= disputable {
        return Err(disputable.plus(Millis(1)));
    }
    let open = lease.last_claim() != lease.accepted_claim();
    if open && !lease.disputed {
        if env.shifted() <= closing.objection_shifted {
            return Err(closing.objection_shifted.plus(Millis(1)));
        }
        lease.ripened = lease.last_claim();
        lease.ripening = None;
    }
    let (claimed, claim) = (lease.last_claim(), undisputed(env, lease));
    let mut metered = lease.metered;
    let (until, claimed_until) = (payable_until(lease, claim), payable_until(lease, claimed));
    let counted = count(s, env, lease, &mut metered, until, Reach::Everything);
    lease.metered = metered;
    if let Counted::Wait(again) = counted {
        return Err(again);
    }
    billing::bill(&mut metered, claim.steal);
    lease.metered = metered;
    if let Counted::Wait(again) = count(s, env, lease, &mut metered, claimed_until, Reach::Everything) {
        return Err(again);
    }
    billing::bill(&mut metered, claimed.steal);
    let withheld = billing::charge(lease, &metered).saturating_sub(billing::charge(lease, &lease.metered));
    let disputed_build = Millis(claimed.build.0.saturating_sub(claim.build.0));
    let shown = watch::shown(env, lease, until, claimed_until).filter(|_| claim != claimed);
    Ok(Outcome { claim, withheld, disputed_build, shown })
}

/// What is paid of a claim: all of it, or after an objection what is accepted and what is older than an objection reaches. It reaches back
/// over two epochs from the end of the claim: who objects as soon as service fails pays nothing to the node for what failed, and who
/// objects to good service has nothing of it for free.
fn undisputed(env: &Env, lease: &Lease) -> Claim {
    let (accepted, mut claim) = (lease.accepted_claim(), lease.last_claim());
    if !lease.disputed {
        return claim;
    }
    // Only service that can be paid counts: a claim beyond the close or the cap would move the reach.
    let started = lease.started_at.unwrap_or_default();
    let payable = payable_until(lease, claim).since(started);
    let reach = env.epochs(if cfg!(mutant_12) && lease.watch.is_some() { 0 } else { WITHHELD_EPOCHS });
    let served = payable.0.saturating_sub(reach.0).max(accepted.served.0.min(payable.0));
    let left = reach.0.saturating_sub(payable.0.saturating_sub(served));
    claim.served = Millis(served);
    claim.build = Millis(claim.build.0.saturating_sub(left).max(accepted.build.0));
    claim
}

/// Build time beyond the account's free allowance of the day.
fn billed_build(s: &mut dyn StateWrite, env: &Env, lease: &Lease, build: Millis) -> Millis {
    if build.0 == 0 {
        return build;
    }
    let day = env.now().0 / DAY_MS;
    let k = key(ALLOWANCE, &[&day.to_be_bytes(), &lease.account.0]);
    let used: u64 = get(s, &k).unwrap_or(0);
    let free = env.zone.params.build_allowance.0.saturating_sub(used).min(build.0);
    put(s, k, &used.saturating_add(free));
    Millis(build.0 - free)
}

/// Pays everything out and closes the lease.
fn finish(s: &mut dyn StateWrite, env: &Env, lease: &mut Lease, due: Outcome, events: &mut Vec<Event>) -> Settlement {
    let Outcome { claim, mut withheld, disputed_build, shown } = due;
    let service = billing::charge(lease, &lease.metered);
    let room = lease.escrow.saturating_sub(service).saturating_sub(withheld);
    let all_build = billed_build(s, env, lease, Millis(claim.build.0.saturating_add(disputed_build.0)));
    let build_cost = |build: Millis| lease.rate_per_hour.per_hour_for(build.0).unwrap_or(room).min(room);
    // The free allowance covers what was built first, the dispute is about what was built last.
    let build = Millis(all_build.0.saturating_sub(disputed_build.0));
    let build_charge = build_cost(build);
    withheld = withheld.saturating_add(build_cost(all_build).saturating_sub(build_charge));
    if shown.is_some() {
        withheld = Amount::ZERO;
    }
    let charged = service.saturating_add(build_charge);
    let (provider, model) = shares(&seams::params_of(s, env, lease), lease, charged);
    let fee = charged.saturating_sub(provider).saturating_sub(model);
    pay(s, env, lease, provider, fee.saturating_add(withheld), model);
    let refunded = lease.held;
    bank::credit(s, &lease.account, lease.asset, refunded);
    lease.held = Amount::ZERO;
    let lines = billing::lines(lease, &lease.metered);
    let settlement = Settlement {
        asset: lease.asset,
        rate_per_hour: lease.rate_per_hour,
        billed_ms: lines.iter().map(|l| l.billed_ms).max().unwrap_or_default(),
        billed_build_ms: build,
        charged: charged.saturating_add(withheld),
        refunded,
        to_provider: provider,
        to_treasury: fee,
        to_model: model,
        withheld,
        epochs: lease.metered.epochs,
        epochs_proven: lease.metered.cpu.epochs.max(lease.metered.gpu.epochs),
        confirmed_by: confirmed_by(lease, shown),
        audited: lines.iter().all(|l| l.audited),
        generation: lease.generation,
        steal_ms: claim.steal,
        lines,
    };
    lease.state = LeaseState::Closed;
    lease.closed_at = Some(env.now());
    lease.ripening = None;
    lease.settlement = Some(settlement.clone());
    set_timer(s, lease, None);
    market::close_indexes(s, lease);
    put_lease(s, &lease.id.clone(), lease);
    seams::settled(s, env, lease, &settlement);
    if matches!(settlement.confirmed_by, ConfirmedBy::Objection | ConfirmedBy::Evidence(_)) {
        let (account, provider, node) = (lease.account, lease.provider, lease.node);
        events.push(Event::Service(ServiceEvent::Objected { lease: lease.id, account, provider, node, watcher: shown }));
    }
    settlement
}

fn confirmed_by(lease: &Lease, shown: Option<AccountId>) -> ConfirmedBy {
    let confirmed = lease.confirmed.as_ref().map(Claim::of).unwrap_or_default();
    match (shown, lease.confirmed_by) {
        (Some(watcher), _) => ConfirmedBy::Evidence(watcher),
        (None, _) if lease.disputed && lease.last_claim() != lease.accepted_claim() => ConfirmedBy::Objection,
        (None, _) if lease.accepted_claim() != confirmed => ConfirmedBy::NoObjection,
        (None, _) if confirmed == Claim::default() => ConfirmedBy::Nothing,
        (None, Some(watcher)) => ConfirmedBy::Watcher(watcher),
        (None, None) => ConfirmedBy::User,
    }
}
