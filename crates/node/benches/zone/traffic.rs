//! What nodes with ten leases each send in a day, as bytes of real blocks: heartbeats and usage, each usage alone or many in a bundle.
//!
//! Some nodes speak for fifteen epochs in each form; a day is 96 times that. Audits are not in these blocks (they need several
//! validators): their bytes are those of encoded transactions.

use crate::mix::{USAGE_LANE, shares, signed, usage};
use crate::report::{Failure, Figure, Goal, Report, Spread, say};
use crate::world::{Served, Tx, World};
use crate::{Plan, single};
use futures::executor::block_on;
use pasture_chain::HEADER_SIZE;
use pasture_ledger::query;
use pasture_types::audit::{
    AUDIT_SHARES, Answer, AuditAction, AuditParams, HeartbeatBundle, NonceSet, PackedShares, Receipt, ReceiptBatch,
};
use pasture_types::bundle::{BundledUsage, Confirmed, Confirmer, Known, UsageBundle};
use pasture_types::genesis::Params;
use pasture_types::lease::Usage;
use pasture_types::proof::ResourceClass;
use pasture_types::service::ServiceAction;
use pasture_types::state::StateRead;
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, TxBody};
use pasture_types::{Amount, AssetId, Millis, NodeId, SigningKey, codec};
use std::time::Duration;

/// Epochs in one envelope of heartbeats.
const BUNDLED: u64 = 5;
/// Epochs between two usages of a lease.
const USAGE_EVERY: u64 = 15;
const DAY_MS: f64 = 86_400_000.0;
/// What the figures are for.
const NODES: f64 = 10_000.0;
const GOAL_GB: f64 = 5.0;
const GB: f64 = 1e9;

/// How usage goes on the ledger.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Each alone in its action, all of a node in an envelope.
    Alone,
    /// In a bundle, in the envelope of the heartbeats.
    Bundle,
}

struct Said {
    /// Bytes of transactions and of what blocks put around them.
    bytes: usize,
    /// Headers and certificates.
    blocks: usize,
    around: usize,
    took: Duration,
}

pub(crate) fn measure(world: &mut World, plan: &Plan, report: &mut Report) -> Result<(), Failure> {
    say(&format!("what {} nodes say in 15 epochs, twice ...", plan.talking));
    let mut by_node = vec![vec![]; plan.talking.min(plan.nodes())];
    for served in &world.served {
        if let Some(own) = by_node.get_mut(served.node) {
            own.push(*served);
        }
    }
    // The first usage of a lease says more than those after it; it is said before the count begins.
    say_all(world, &by_node, Form::Alone)?;
    let alone = say_all(world, &by_node, Form::Alone)?;
    let bundle = say_all(world, &by_node, Form::Bundle)?;
    let days = DAY_MS / (USAGE_EVERY * Params::production().epoch.0) as f64;
    let a_day = |said: &Said| said.bytes as f64 / by_node.len() as f64 * days * NODES / GB;
    let leases = plan.leases_each;
    let audits = audit_bytes()? * DAY_MS / AuditParams::production().interval.0 as f64 * NODES / GB;
    let (old, new) = (Spread::median(&[a_day(&alone)]), Spread::median(&[a_day(&bundle)]));
    let name = format!("heartbeats and usage of 10,000 nodes with {leases} leases, a day, usage in bundles");
    report.add(Figure::new(name, "GB", new).against("usage alone", "GB", old));
    report.add(single("audits of 10,000 nodes, a day (encoded transactions)", "GB", audits));
    let all = Figure::new("ledger of 10,000 nodes, a day: both, without headers", "GB", Spread::median(&[new.value + audits]));
    report.add(all.against("usage alone", "GB", Spread::median(&[old.value + audits])).goal(Goal::Most(GOAL_GB)));
    let around = bundle.around as f64 / bundle.blocks.max(1) as f64;
    report.add(single("header and certificate of a block, one validator", "bytes", around));
    report.add(single("a block each second, a day: headers and certificates", "GB", around * 86_400.0 / GB));
    let per_epoch = bundle.took.as_secs_f64() / by_node.len() as f64 * NODES / USAGE_EVERY as f64;
    report.add(single("what 10,000 nodes say about one epoch: time through the whole chain", "s", per_epoch));
    Ok(())
}

/// Fifteen epochs: every five the heartbeats, in the end the usage.
fn say_all(world: &mut World, by_node: &[Vec<Served>], form: Form) -> Result<Said, Failure> {
    world.rewind()?;
    let mut said = Said { bytes: 0, blocks: 0, around: 0, took: Duration::ZERO };
    for turn in 1..=USAGE_EVERY / BUNDLED {
        for _ in 0..BUNDLED {
            world.clock.by(Params::production().epoch);
            world.lone_transfer()?;
        }
        let mut txs = vec![];
        for (node, leases) in by_node.iter().enumerate() {
            speak(world, node, leases, form, turn * BUNDLED == USAGE_EVERY, &mut txs)?;
        }
        let first = world.chain.status().height + 1;
        said.took += world.submit(&txs)?;
        count(world, first, &mut said)?;
    }
    Ok(said)
}

fn speak(world: &mut World, node: usize, leases: &[Served], form: Form, usage_too: bool, txs: &mut Vec<Tx>) -> Result<(), Failure> {
    let id = world.nodes.get(node).ok_or("no such node")?.id;
    let state = world.chain.state()?;
    let mut epochs = query::open_epochs(&state);
    let epochs = epochs.split_off(epochs.len().saturating_sub(usize::try_from(BUNDLED)?));
    let first = epochs.first().ok_or("no epoch is open")?.number;
    let packed = epochs.iter().map(|e| PackedShares::pack(&shares(&e.randomness.0, &id, e.number)).ok_or("shares that do not pack"));
    let shares = packed.collect::<Result<Vec<_>, _>>()?;
    let bundled = HeartbeatBundle { node: id, class: ResourceClass::Cpu, device: 0, first, shares };
    let mut actions = vec![Action::Audit(Box::new(AuditAction::Heartbeats(bundled)))];
    if usage_too {
        let now = world.now();
        let all = leases.iter().map(|served| {
            // Ledger time is that of the last block; a little less is never in the future.
            let time = Millis(now.since(served.started).0.saturating_sub(1_000));
            usage(world, served, time).map(|usage| (*served, usage))
        });
        let all = all.collect::<Result<Vec<_>, _>>()?;
        match form {
            Form::Bundle => actions.push(bundle(world, &state, &all)?),
            Form::Alone => {
                let alone = |(served, usage)| Ok(Action::SubmitUsage { usage: Box::new(signed(world, &served, usage)?) });
                let usages = all.into_iter().map(alone).collect::<Result<Vec<_>, Failure>>()?;
                txs.push(world.by_node(node, USAGE_LANE, usages)?);
            }
        }
    }
    txs.push(world.by_node(node, 2, actions)?);
    Ok(())
}

/// A node's usages in one action, each confirmed by its user.
pub(crate) fn bundle(world: &World, state: &dyn StateRead, all: &[(Served, Usage)]) -> Result<Action, Failure> {
    let epoch = all.iter().map(|(_, usage)| usage.epoch).max().unwrap_or_default();
    let pack = |(served, usage): &(Served, Usage)| -> Result<BundledUsage, Failure> {
        let lease = query::lease(state, &served.lease).ok_or("no such lease")?;
        let known = Known { lease: lease.id, generation: lease.generation, started: lease.started_at, last: lease.last.as_ref() };
        let user = world.users.get(served.user).ok_or("no such user")?;
        let confirmed = Confirmed { by: Confirmer::User, key: 0, signature: user.sign(&usage.counter_digest()) };
        Ok(BundledUsage::pack(usage, epoch, &known, Some(confirmed)))
    };
    let usages = all.iter().map(pack).collect::<Result<Vec<_>, _>>()?;
    Ok(Action::Service(Box::new(ServiceAction::Usage(UsageBundle { epoch, usages }))))
}

/// Adds the blocks from a height on, as they are encoded on disk and on the wire.
fn count(world: &World, first: u64, said: &mut Said) -> Result<(), Failure> {
    for height in first..=world.chain.status().height {
        let block = block_on(world.chain.block(height))?.ok_or("a block is gone")?;
        // Each transaction with its length in groups of seven bits, as many as that takes.
        let length = |n: usize| (usize::BITS - n.max(1).leading_zeros()).div_ceil(7) as usize;
        said.bytes += block.txs.iter().map(|tx| length(tx.len()) + tx.len()).sum::<usize>();
        said.around += HEADER_SIZE + block_on(world.chain.finality(height))?.map_or(0, |c| c.len());
        said.blocks += 1;
    }
    Ok(())
}

/// One audit with its part of the envelopes that carry it: an answer, and a receipt of each witness.
fn audit_bytes() -> Result<f64, Failure> {
    let (key, node) = (SigningKey::from_seed([1; 32]), NodeId([2; 32]));
    let signature = key.sign(&[0; 32]);
    let envelope = |actions: Vec<Action>| {
        let body = TxBody {
            version: ENVELOPE_VERSION,
            zone: pasture_types::ZoneId([3; 32]),
            account: key.account(),
            auth: Auth::Single,
            lane: 0,
            seq: 0,
            valid_until: pasture_types::Timestamp(0),
            max_fee: Amount::ZERO,
            tip: Amount::ZERO,
            fee_asset: AssetId::CREDIT,
            fee_payer: None,
            actions,
        };
        codec::encode(&body.sign(&key)).len() as f64
    };
    let witnesses = usize::from(AuditParams::production().witnesses);
    let nonces: Vec<u64> = (0..AUDIT_SHARES as u64).map(|n| n * 312_500).collect();
    let shares = PackedShares::pack(&nonces).ok_or("shares that do not pack")?;
    let set = NonceSet { mask: (1 << witnesses) - 1, nonces: vec![u64::MAX; witnesses] };
    let answer = Answer { audit: 1, set, shares, roots: vec![], walk: None, signature };
    let answers = |n: usize| vec![Action::Audit(Box::new(AuditAction::Answers(vec![answer.clone(); n])))];
    let receipts = |n: usize| {
        let batch = ReceiptBatch { witness: node, base: 0, receipts: vec![Receipt { offset: 1, elapsed_ms: 1, rtt_ms: 1, tag: 1 }; n] };
        vec![Action::Audit(Box::new(AuditAction::Receipts { batch, signature }))]
    };
    // Sixteen answers in an envelope; of a witness, as many receipts as fit in an action.
    let (carried, batch) = (pasture_types::audit::MAX_ANSWERS, pasture_types::audit::MAX_RECEIPTS);
    Ok(envelope(answers(carried)) / carried as f64 + envelope(receipts(batch)) / batch as f64 * witnesses as f64)
}
