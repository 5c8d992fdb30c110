//! A zone with many nodes: what a mix of everything costs against 10,000 offers, and what 100,000 open leases ask of a machine.
//!
//! One process, one validator, the real engine, ledger and disk; no HTTP. Time is the system's, set forward where epochs must pass.
//! Every transaction must succeed and the books must balance at the end.
//! `cargo bench -p pasture-node --bench zone -- [--quick]`

#[path = "../../../../bench/report.rs"]
mod report;

mod kinds;
mod mix;
mod scale;
mod traffic;
mod world;

use report::{Failure, Figure, Report, Spread, quick, resident_mib};
use serde_json::json;
use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};
use world::World;

const STOP_DEADLINE: Duration = Duration::from_secs(60);
const FLOOR_BYTES: [u8; 4096] = [0x5a; 4096];
const FSYNCS: usize = 200;

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Providers, each with [`Plan::nodes_each`] nodes with an offer.
    pub(crate) providers: usize,
    pub(crate) nodes_each: usize,
    pub(crate) users: usize,
    /// Nodes that serve a lease while the mix runs: they send usage and heartbeats.
    pub(crate) serving: usize,
    pub(crate) rounds: usize,
    /// Orders of a mixed round; each comes with an accept and a close, and the other kinds in proportion.
    pub(crate) orders: usize,
    /// Open leases of each node in the end.
    pub(crate) leases_each: usize,
    /// Nodes whose traffic is written out.
    pub(crate) talking: usize,
    pub(crate) epochs: usize,
}

impl Plan {
    const FULL: Self = Self {
        providers: 1_000,
        nodes_each: 10,
        users: 512,
        serving: 2_000,
        rounds: 5,
        orders: 2_000,
        leases_each: 10,
        talking: 500,
        epochs: 20,
    };
    const QUICK: Self =
        Self { providers: 20, nodes_each: 10, users: 32, serving: 60, rounds: 1, orders: 60, leases_each: 4, talking: 20, epochs: 3 };

    pub(crate) const fn nodes(&self) -> usize {
        self.providers * self.nodes_each
    }
}

fn main() -> Result<(), Failure> {
    let quick = quick()?;
    let plan = if quick { Plan::QUICK } else { Plan::FULL };
    // Beside the build and not in /tmp, which may be memory, where an fsync costs nothing.
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut report = Report::begin("zone", quick, scratch.path());
    report.plan(json!({
        "providers": plan.providers, "nodes": plan.nodes(), "offers": plan.nodes(), "users": plan.users, "rounds": plan.rounds,
        "orders_a_round": plan.orders, "open_leases": plan.nodes() * plan.leases_each, "talking_nodes": plan.talking,
    }));
    let mut floor = File::create(scratch.path().join("floor"))?;
    let empty = resident_mib("self")?;
    let mut world = World::start(scratch.path(), plan)?;
    world.register()?;
    mix::measure(&mut world, &plan, &mut || fsyncs(&mut floor), &mut report)?;
    kinds::measure(&mut world, &plan, &mut report)?;
    scale::measure(&mut world, &plan, empty, &mut report)?;
    traffic::measure(&mut world, &plan, &mut report)?;
    let books = pasture_ledger::check(&world.chain.state()?);
    tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(world.chain.shutdown(STOP_DEADLINE))?;
    books.map_err(|broken| format!("the books do not balance: {broken:?}"))?;
    report.finish()
}

/// Appends and fsyncs per second, one at a time.
fn fsyncs(file: &mut File) -> Result<f64, Failure> {
    let begun = Instant::now();
    for _ in 0..FSYNCS {
        file.write_all(&FLOOR_BYTES)?;
        file.sync_data()?;
    }
    Ok(FSYNCS as f64 / begun.elapsed().as_secs_f64())
}

/// A figure of one value.
fn single(name: impl Into<String>, unit: &'static str, value: f64) -> Figure {
    Figure::new(name, unit, Spread::median(&[value]))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
