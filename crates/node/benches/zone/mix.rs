//! The mix: of all transactions 40 % are orders with their accepts and closes, 40 % usage and heartbeats, 20 % transfers. Beside
//! it, in turn, the same number of transfers alone.

use crate::report::{Failure, Figure, Goal, Report, Spread, cpu_seconds, say};
use crate::world::{HASHES_PER_S, Served, Tx, World, applied, order};
use crate::{Plan, millis};
use futures::executor::block_on;
use pasture_chain::{BlockStream, NextBlock};
use pasture_ledger::query;
use pasture_types::codec;
use pasture_types::event::Event;
use pasture_types::genesis::Params;
use pasture_types::lease::{Countersignature, EndReason, SignedUsage, Usage};
use pasture_types::proof::{HEARTBEAT_SHARES, Heartbeat, ResourceClass, heartbeat_seed, share_hash};
use pasture_types::tx::Action;
use pasture_types::{BlobHash, Millis, NodeId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Orders under way at any time.
const ORDERS_AHEAD: usize = 600;
/// Transactions of the other kinds under way at any time.
const OTHERS_AHEAD: usize = 3_000;
/// Transactions of one order's life: place, accept, close.
const LIFE: usize = 3;
const GOAL: f64 = 5_000.0;
/// Largest encoded event.
const MAX_EVENT_BYTES: usize = 64 * 1024;
/// Lanes by purpose.
const ACCEPT_LANE: u8 = 0;
pub(crate) const USAGE_LANE: u8 = 1;
const ORDER_LANE: u8 = 11;

/// What is known before a round.
struct Signed {
    orders: Vec<Tx>,
    others: Vec<Tx>,
}

struct Round {
    mixed: f64,
    transfers: f64,
    blocks: f64,
    cores: f64,
    fsyncs: f64,
    voting: Vec<f64>,
    storing: Vec<f64>,
}

pub(crate) fn measure(
    world: &mut World,
    plan: &Plan,
    fsyncs: &mut dyn FnMut() -> Result<f64, Failure>,
    report: &mut Report,
) -> Result<(), Failure> {
    say(&format!("{} leases that stay ...", plan.serving));
    world.lease_on(0..plan.serving)?;
    let mut rounds = vec![];
    for n in 1..=plan.rounds {
        // Five epochs are open at any time; with each round come new ones.
        for _ in 0..5 {
            world.clock.by(Params::production().epoch);
            world.lone_transfer()?;
        }
        let signed = sign(world, plan, n as u64)?;
        let count = signed.orders.len() * LIFE + signed.others.len();
        let fsyncs = fsyncs()?;
        world.points.take();
        let (height, cpu) = (world.chain.status().height, cpu_seconds("self")?);
        let took = run(world, &signed)?;
        let cores = (cpu_seconds("self")? - cpu) / took.as_secs_f64();
        let blocks = (world.chain.status().height - height) as f64 / took.as_secs_f64();
        let points = world.points.take();
        world.rewind()?;
        let transfers = (0..count).map(|_| world.transfer()).collect::<Result<Vec<_>, _>>()?;
        let alone = world.submit(&transfers)?;
        let between = |from: &str, to: &str| {
            let pairs = points.windows(2).filter_map(|pair| if let [a, b] = pair { Some((a, b)) } else { None });
            pairs.filter(|(a, b)| a.0 == from && b.0 == to).map(|(a, b)| millis(b.1 - a.1)).collect::<Vec<_>>()
        };
        let round = Round {
            mixed: count as f64 / took.as_secs_f64(),
            transfers: count as f64 / alone.as_secs_f64(),
            blocks,
            cores,
            fsyncs,
            voting: between("chain.proposed", "chain.before_apply"),
            storing: between("chain.before_apply", "chain.after_apply"),
        };
        say(&format!("round {n} of {}: {:.0} mixed/s, {:.0} transfers/s", plan.rounds, round.mixed, round.transfers));
        rounds.push(round);
    }
    let of = |pick: fn(&Round) -> f64| Spread::median(&rounds.iter().map(pick).collect::<Vec<_>>());
    let name = format!("mix against {} offers: verify, order, execute, fsync", plan.nodes());
    report.add(Figure::new(name, "/s", of(|r| r.mixed)).against("transfers alone", "/s", of(|r| r.transfers)).goal(Goal::Least(GOAL)));
    report.add(Figure::new("transfers alone, in the same zone", "/s", of(|r| r.transfers)).against("raw fsyncs", "/s", of(|r| r.fsyncs)));
    report.add(Figure::new("blocks while the mix runs", "/s", of(|r| r.blocks)));
    report.add(Figure::new("processor while the mix runs, load generator in it", "cores", of(|r| r.cores)));
    let all = |pick: fn(&Round) -> &Vec<f64>| Spread::median(&rounds.iter().flat_map(pick).copied().collect::<Vec<_>>());
    report.add(Figure::new("a block of the mix: proposed until it is final on disk", "ms", all(|r| &r.voting)));
    report.add(Figure::new("a block of the mix: final until its state is applied", "ms", all(|r| &r.storing)));
    Ok(())
}

/// Everything whose bytes are known before the round; a third of a mixed round is signed while it runs.
fn sign(world: &mut World, plan: &Plan, round: u64) -> Result<Signed, Failure> {
    let lives = plan.orders * LIFE;
    let orders = (0..plan.orders)
        .map(|n| {
            let terms = Box::new(order(world.now(), None));
            world.by_user(n % plan.users, ORDER_LANE, vec![Action::PlaceOrder { terms }])
        })
        .collect::<Result<_, _>>()?;
    let mut others = vec![];
    let beats = heartbeats(world, lives / 2)?;
    for n in 0..lives - beats.len() {
        let at = n % world.served.len().min(plan.serving).max(1);
        let served = *world.served.get(at).ok_or("no lease")?;
        let usage = usage(world, &served, Millis(round * 1_000 + (n / plan.serving) as u64 + 1))?;
        let action = Action::SubmitUsage { usage: Box::new(signed(world, &served, usage)?) };
        others.push(world.by_node(served.node, USAGE_LANE, vec![action])?);
    }
    let transfers = (0..lives / 2).map(|_| world.transfer()).collect::<Result<Vec<_>, _>>()?;
    // Of each kind some at any time.
    let (mut kinds, mut mixed) = ([VecDeque::from(others), beats.into(), transfers.into()], vec![]);
    while kinds.iter().any(|kind| !kind.is_empty()) {
        mixed.extend(kinds.iter_mut().filter_map(VecDeque::pop_front));
    }
    Ok(Signed { orders, others: mixed })
}

/// A lease's usage so far.
pub(crate) fn usage(world: &World, served: &Served, time: Millis) -> Result<Usage, Failure> {
    let zone = query::zone(&world.chain.state()?).ok_or("no zone")?;
    Ok(Usage {
        lease: served.lease,
        generation: 1,
        epoch: zone.epoch_of(served.started.plus(time)),
        started: served.started,
        served_ms: time,
        build_ms: Millis(0),
        log_root: BlobHash(pasture_types::ids::derive("bench log", &[&time.0.to_le_bytes()])),
        log_bytes: time.0,
        steal_ms: Millis(time.0 / 200),
    })
}

/// With its node's and its user's signatures.
pub(crate) fn signed(world: &World, served: &Served, usage: Usage) -> Result<SignedUsage, Failure> {
    let (node, user) = world.nodes.get(served.node).zip(world.users.get(served.user)).ok_or("no such lease")?;
    let signature = user.sign(&usage.counter_digest());
    let countersignature = Some(Countersignature { account: user.account(), key: user.public(), signature });
    Ok(SignedUsage { node: node.id, node_signature: node.key.sign(&usage.digest()), countersignature, usage })
}

/// The honest shares of a node in an epoch.
pub(crate) fn shares(randomness: &[u8; 32], node: &NodeId, epoch: u64) -> Vec<u64> {
    let seed = heartbeat_seed(randomness, node, ResourceClass::Cpu, 0, epoch);
    let work = Params::production().heartbeat_work.0 * HASHES_PER_S / 1_000;
    let mut all: Vec<_> = (0..work).map(|n| (share_hash(&seed, n), n)).collect();
    all.sort_unstable();
    all.into_iter().take(HEARTBEAT_SHARES).map(|(_, n)| n).collect()
}

/// At most so many heartbeats that are due.
fn heartbeats(world: &mut World, most: usize) -> Result<Vec<Tx>, Failure> {
    let state = world.chain.state()?;
    let epochs = query::open_epochs(&state);
    let serving: Vec<usize> = world.served.iter().map(|s| s.node).collect();
    let mut out = vec![];
    // The newest first: they can be sent for longest.
    for epoch in epochs.iter().rev() {
        for at in &serving {
            let node = world.nodes.get(*at).ok_or("no such node")?.id;
            if out.len() >= most {
                return Ok(out);
            }
            if !query::has_heartbeat(&state, &node, epoch.number) {
                let nonces = shares(&epoch.randomness.0, &node, epoch.number);
                let heartbeat = Heartbeat { node, class: ResourceClass::Cpu, device: 0, epoch: epoch.number, nonces };
                out.push(world.by_node(*at, 2, vec![Action::SubmitHeartbeat { heartbeat }])?);
            }
        }
    }
    Ok(out)
}

/// One thread leads orders through their lives, one hands in the rest in step with it.
fn run(world: &mut World, signed: &Signed) -> Result<Duration, Failure> {
    let stream = world.chain.subscribe();
    let chain = world.chain.clone();
    let closed = AtomicUsize::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let others = scope.spawn(|| -> Result<(), Failure> {
            let mut under_way = VecDeque::new();
            for (n, tx) in signed.others.iter().enumerate() {
                // In step: as large a part of these as of the orders, and some in advance.
                let due = |closed: usize| closed * signed.others.len() / signed.orders.len().max(1) + OTHERS_AHEAD;
                while under_way.len() >= OTHERS_AHEAD || (n >= due(closed.load(Ordering::Relaxed)) && !under_way.is_empty()) {
                    let oldest: pasture_chain::Pending = under_way.pop_front().ok_or("nothing is under way")?;
                    applied(&block_on(oldest.finalized())?.outcome)?;
                }
                under_way.push_back(chain.submit(tx.bytes.clone())?);
            }
            under_way.into_iter().try_for_each(|tx| applied(&block_on(tx.finalized())?.outcome))
        });
        let lives = lives(world, stream, &signed.orders, &closed);
        // An error there leaves the other thread to finish by itself.
        closed.store(signed.orders.len(), Ordering::Relaxed);
        others.join().map_err(|_| "a submitter panicked")?.and(lives)
    })?;
    Ok(begun.elapsed())
}

/// Places orders, takes what is drawn and closes it at once.
fn lives(world: &mut World, mut stream: BlockStream, orders: &[Tx], closed: &AtomicUsize) -> Result<(), Failure> {
    let nodes: BTreeMap<NodeId, usize> = world.nodes.iter().enumerate().map(|(n, node)| (node.id, n)).collect();
    let ours: std::collections::BTreeSet<_> = world.users.iter().map(|u| u.account()).collect();
    let (mut placed, mut done) = (0, 0);
    while done < orders.len() {
        for tx in orders.iter().skip(placed).take(ORDERS_AHEAD.saturating_sub(placed - done)) {
            world.chain.submit(tx.bytes.clone())?;
            placed += 1;
        }
        let block = match block_on(stream.next()) {
            Some(NextBlock::Block(block)) => block,
            Some(NextBlock::Missed(missed)) => return Err(format!("{missed} blocks were missed").into()),
            None => return Err("the chain is gone".into()),
        };
        block.txs.iter().try_for_each(|tx| applied(&tx.outcome))?;
        let events = block.end_events.iter().filter_map(|e| codec::decode::<Event>(e, MAX_EVENT_BYTES).ok());
        for event in events {
            if let Event::LeaseMatched { lease, node, account, .. } = event
                && let (Some(at), true) = (nodes.get(&node), ours.contains(&account))
            {
                let accept = world.by_node(*at, ACCEPT_LANE, vec![Action::AcceptLease { lease }])?;
                let close = Action::CloseLease { lease, reason: EndReason::Exited { code: 0 } };
                let close = world.by_node(*at, ACCEPT_LANE, vec![close])?;
                world.chain.submit(accept.bytes)?;
                let last = world.chain.submit(close.bytes)?;
                done += 1;
                closed.store(done, Ordering::Relaxed);
                if done == orders.len() {
                    applied(&block_on(last.finalized())?.outcome)?;
                }
            }
        }
    }
    Ok(())
}
