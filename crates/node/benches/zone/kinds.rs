//! What each kind of action costs in each stage: checking it (admission), executing it in memory; and drawing an order.
//!
//! Blocks are made on a snapshot and thrown away, one after another, so that a kind finds the state it needs.

use crate::mix::{USAGE_LANE, shares, signed, usage};
use crate::report::{Failure, Figure, Report, Spread, say};
use crate::traffic::bundle;
use crate::world::{Tx, World, applied, order};
use crate::{Plan, single};
use pasture_chain::{BlockContext, Machine as _, Snapshot};
use pasture_ledger::query;
use pasture_types::codec;
use pasture_types::event::Event;
use pasture_types::lease::EndReason;
use pasture_types::proof::{Heartbeat, ResourceClass};
use pasture_types::state::{Overlay, StateRead};
use pasture_types::tx::{Action, Envelope, MAX_TX_BYTES};
use pasture_types::{Millis, NodeId};
use std::collections::BTreeMap;
use std::time::Instant;

/// Transactions of a kind.
const COUNT: usize = 1_000;
/// Orders that are drawn: as many blocks as that takes.
const ORDERS: usize = 250;
const MAX_BLOCKS: usize = 200;

/// Blocks on a snapshot.
struct Blocks<'a> {
    world: &'a World,
    state: Overlay<'a>,
    context: BlockContext,
}

impl<'a> Blocks<'a> {
    fn on(world: &'a World, snapshot: &'a Snapshot) -> Self {
        let parent = snapshot.header();
        let context = BlockContext {
            height: parent.height,
            timestamp_ms: parent.timestamp_ms,
            parent_timestamp_ms: parent.timestamp_ms,
            randomness: parent.randomness,
            proposer: parent.proposer,
        };
        Self { world, state: Overlay::new(snapshot), context }
    }

    /// A block; microseconds for each transaction, microseconds of its end, and the leases that it drew.
    fn block(&mut self, txs: &[Tx]) -> Result<(f64, f64, Vec<Event>), Failure> {
        self.context.height += 1;
        self.context.parent_timestamp_ms = self.context.timestamp_ms;
        self.context.timestamp_ms += 10;
        self.world.machine.begin(&mut self.state, &self.context);
        let begun = Instant::now();
        for tx in txs {
            applied(&self.world.machine.apply(&mut self.state, &self.context, &tx.bytes))?;
        }
        let each = begun.elapsed().as_secs_f64() * 1e6 / txs.len().max(1) as f64;
        let begun = Instant::now();
        let events = self.world.machine.end(&mut self.state, &self.context);
        let end = begun.elapsed().as_secs_f64() * 1e6;
        Ok((each, end, events.iter().filter_map(|e| codec::decode(e, MAX_TX_BYTES).ok()).collect()))
    }

    /// As many blocks as the cost of these transactions asks for; microseconds for each transaction.
    fn spread(&mut self, txs: &[Tx]) -> Result<f64, Failure> {
        const PER_BLOCK_US: u32 = 100_000;
        let cost = |tx: &Tx| codec::decode::<Envelope>(&tx.bytes, MAX_TX_BYTES).map_or(1, |e| pasture_ledger::tx_cost_us(&e));
        let each = txs.iter().map(cost).max().unwrap_or(1);
        let size = usize::try_from(PER_BLOCK_US / each.max(1))?.max(1);
        let times = txs.chunks(size).map(|some| self.block(some).map(|b| b.0 * some.len() as f64)).collect::<Result<Vec<_>, _>>()?;
        Ok(times.iter().sum::<f64>() / txs.len().max(1) as f64)
    }
}

pub(crate) fn measure(world: &mut World, plan: &Plan, report: &mut Report) -> Result<(), Failure> {
    say("what each kind costs ...");
    let count = COUNT.min(plan.serving);
    world.rewind()?;
    world.clock.by(pasture_types::genesis::Params::production().epoch);
    world.lone_transfer()?;
    let state = world.chain.state()?;
    let transfers = (0..count).map(|_| world.transfer()).collect::<Result<Vec<_>, _>>()?;
    let orders = (0..ORDERS.min(count))
        .map(|n| world.by_user(n % plan.users, 12, vec![Action::PlaceOrder { terms: Box::new(order(world.now(), None)) }]))
        .collect::<Result<Vec<_>, _>>()?;
    let leases = world.served.iter().take(count).copied().collect::<Vec<_>>();
    let mut usages = vec![];
    let mut bundles = vec![];
    for served in &leases {
        let usage = usage(world, served, Millis(60_000))?;
        let alone = signed(world, served, usage)?;
        bundles.push(world.by_node(served.node, USAGE_LANE + 2, vec![bundle(world, &state, &[(*served, alone.usage.clone())])?])?);
        usages.push(world.by_node(served.node, USAGE_LANE, vec![Action::SubmitUsage { usage: Box::new(alone) }])?);
    }
    let beats = beats(world, &leases.iter().map(|l| l.node).collect::<Vec<_>>())?;
    for (name, txs) in
        [("transfer", &transfers), ("heartbeat", &beats), ("usage, alone", &usages), ("usage, in a bundle", &bundles), ("order", &orders)]
    {
        let verify = verify(world, &state, txs)?;
        let execute = Blocks::on(world, &state).spread(txs)?;
        report.add(Figure::new(format!("{name}: check"), "us", verify.0).against("its signature alone", "us", verify.1));
        report.add(single(format!("{name}: execute"), "us", execute));
    }
    life(world, &state, &orders, report)?;
    world.rewind()
}

/// Microseconds for one admission, and for its envelope's signatures alone.
fn verify(world: &World, state: &Snapshot, txs: &[Tx]) -> Result<(Spread, Spread), Failure> {
    let begun = Instant::now();
    for tx in txs {
        world.machine.admit(&tx.bytes, state, world.now().0)?;
    }
    let whole = begun.elapsed().as_secs_f64() * 1e6 / txs.len().max(1) as f64;
    let decoded = txs.iter().map(|tx| codec::decode::<Envelope>(&tx.bytes, MAX_TX_BYTES)).collect::<Result<Vec<_>, _>>()?;
    let begun = Instant::now();
    for envelope in &decoded {
        envelope.verify_signatures()?;
    }
    let signatures = begun.elapsed().as_secs_f64() * 1e6 / txs.len().max(1) as f64;
    Ok((Spread::median(&[whole]), Spread::median(&[signatures])))
}

fn beats(world: &mut World, nodes: &[usize]) -> Result<Vec<Tx>, Failure> {
    let state = world.chain.state()?;
    let epoch = query::open_epochs(&state).pop().ok_or("no epoch is open")?;
    let mut out = vec![];
    for at in nodes {
        let node = world.nodes.get(*at).ok_or("no such node")?.id;
        let nonces = shares(&epoch.randomness.0, &node, epoch.number);
        let heartbeat = Heartbeat { node, class: ResourceClass::Cpu, device: 0, epoch: epoch.number, nonces };
        out.push(world.by_node(*at, 3 + USAGE_LANE, vec![Action::SubmitHeartbeat { heartbeat }])?);
    }
    Ok(out)
}

/// Orders are placed, drawn, taken and closed, each in blocks of their own.
fn life(world: &mut World, state: &Snapshot, orders: &[Tx], report: &mut Report) -> Result<(), Failure> {
    let nodes: BTreeMap<NodeId, usize> = world.nodes.iter().enumerate().map(|(n, node)| (node.id, n)).collect();
    let (mut draws, mut matched) = (0.0, vec![]);
    let mut blocks = Blocks::on(world, state);
    blocks.spread(orders)?;
    // What the orders' own blocks drew already is drawn; the rest is timed.
    let before = drawn_so_far(&blocks.state, orders)?;
    for _ in 0..MAX_BLOCKS {
        let (_, end, events) = blocks.block(&[])?;
        let some = events.into_iter().filter_map(|e| match e {
            Event::LeaseMatched { lease, node, .. } => nodes.get(&node).map(|at| (lease, *at)),
            _ => None,
        });
        let had = matched.len();
        matched.extend(some);
        if matched.len() == had && !matched.is_empty() || matched.len() + before >= orders.len() {
            draws += end;
            break;
        }
        draws += end;
    }
    let changes = blocks.state.into_changes();
    let context = blocks.context;
    if matched.is_empty() {
        report.add(single("draw of an order: all within the orders' own blocks", "orders", before as f64));
        return Ok(());
    }
    report.add(single("draw of an order", "us", draws / matched.len() as f64));
    let accepts = matched
        .iter()
        .map(|(lease, at)| world.by_node(*at, 5, vec![Action::AcceptLease { lease: *lease }]))
        .collect::<Result<Vec<_>, _>>()?;
    let close = |lease| vec![Action::CloseLease { lease, reason: EndReason::Exited { code: 0 } }];
    let closes = matched.iter().map(|(lease, at)| world.by_node(*at, 6, close(*lease))).collect::<Result<Vec<_>, _>>()?;
    let mut blocks = Blocks::on(world, state);
    for (key, value) in changes {
        use pasture_types::state::StateWrite as _;
        match value {
            Some(value) => blocks.state.put(key, value),
            None => blocks.state.delete(&key),
        }
    }
    blocks.context = context;
    report.add(single("accept: execute", "us", blocks.spread(&accepts)?));
    report.add(single("close: execute", "us", blocks.spread(&closes)?));
    Ok(())
}

fn drawn_so_far(state: &dyn StateRead, orders: &[Tx]) -> Result<usize, Failure> {
    let mut drawn = 0;
    for tx in orders {
        drawn += usize::from(query::lease_of_order(state, &crate::world::order_of(&tx.bytes)?).is_some());
    }
    Ok(drawn)
}
