//! Many open leases: memory, disk, the block that begins an epoch, a state proof.

use crate::report::{Failure, Figure, Goal, Report, Spread, resident_mib, say};
use crate::world::World;
use crate::{Plan, millis, single};
use futures::executor::block_on;
use pasture_light::{HEADER_SIZE, StateProof, verify};
use pasture_types::genesis::Params;
use std::path::Path;
use std::time::Instant;

const MEMORY_GOAL_MIB: f64 = 2_048.0;
const EPOCH_GOAL_MS: f64 = 1_000.0;
const RUNS: usize = 200;
/// First byte of the keys of leases (`docs/specs/ledger.md`).
const LEASE: u8 = 0x11;

pub(crate) fn measure(world: &mut World, plan: &Plan, empty_mib: f64, report: &mut Report) -> Result<(), Failure> {
    let leases = plan.nodes() * plan.leases_each;
    say(&format!("{leases} open leases ..."));
    world.lease_on(plan.serving..plan.nodes())?;
    for n in 1..plan.leases_each {
        world.lease_on(0..plan.nodes())?;
        say(&format!("{} of {leases}", (n + 1) * plan.nodes()));
    }
    let state = world.chain.state()?;
    let (mut bytes, mut entries) = (0, 0);
    state.each(&mut |k, v| {
        bytes += k.len() + v.len();
        entries += 1;
    });
    let open = pasture_ledger::query::counts(&state).open;
    let raw = Spread::median(&[bytes as f64 / f64::from(1 << 20)]);
    let name = format!("memory with {} nodes and {open} open leases, load generator in it", plan.nodes());
    let memory = Spread::median(&[resident_mib("self")? - empty_mib]);
    report.add(Figure::new(name, "MiB", memory).against("keys and values alone", "MiB", raw).goal(Goal::Most(MEMORY_GOAL_MIB)));
    report.add(single("entries of the state", "entries", f64::from(entries)));
    report.add(single("disk of blocks and state after all that", "MiB", disk(&world.ledger_dir)? as f64 / f64::from(1 << 20)));
    epochs(world, plan, report)?;
    proofs(world, report)
}

/// A lone transfer in a block that begins an epoch, and one right after it in a block that does not.
fn epochs(world: &mut World, plan: &Plan, report: &mut Report) -> Result<(), Failure> {
    let (mut begins, mut others) = (vec![], vec![]);
    for _ in 0..plan.epochs {
        world.clock.by(Params::production().epoch);
        begins.push(world.lone_transfer()?);
        others.push(world.lone_transfer()?);
    }
    let name = "a transaction in the block that begins an epoch, until it is final";
    let figure = Figure::new(name, "ms", Spread::median(&begins)).against("one in the next block", "ms", Spread::median(&others));
    report.add(figure.goal(Goal::Most(EPOCH_GOAL_MS)));
    Ok(())
}

/// A lease's proof as a client gets it.
fn proofs(world: &World, report: &mut Report) -> Result<(), Failure> {
    let (mut sizes, mut stores, mut times, mut signatures, mut values) = (vec![], vec![], vec![], vec![], vec![]);
    let step = (world.served.len() / RUNS).max(1);
    for served in world.served.iter().step_by(step).take(RUNS) {
        let key = [&[LEASE], served.lease.0.as_slice()].concat();
        let proved = block_on(world.chain.prove(&key))?;
        let headers = proved.finality.headers.iter().map(|h| <[u8; HEADER_SIZE]>::try_from(h.encode().as_slice()));
        let headers = headers.collect::<Result<Vec<_>, _>>().map_err(|_| "a header has another size")?;
        let proof = StateProof { headers, certificate: proved.finality.certificate, key, value: proved.value, store: proved.proof };
        let bytes = proof.encode();
        values.push(proof.value.as_ref().map_or(0, Vec::len) as f64);
        sizes.push(bytes.len() as f64);
        stores.push(proof.store.len() as f64);
        let begun = Instant::now();
        verify(&world.trusted, &StateProof::decode(&bytes)?)?;
        times.push(millis(begun.elapsed()) * 1e3);
        let certificate = pasture_light::Certificate::decode(&proof.certificate)?;
        let begun = Instant::now();
        certificate.verify(&world.trusted)?;
        signatures.push(millis(begun.elapsed()) * 1e3);
    }
    let value = Spread::median(&values);
    report.add(Figure::new("state proof of a lease, one validator", "bytes", Spread::median(&sizes)).against(
        "the lease itself",
        "bytes",
        value,
    ));
    report.add(Figure::new("the store's part of it", "bytes", Spread::median(&stores)));
    let whole = Figure::new("verifying it", "us", Spread::median(&times));
    report.add(whole.against("its signatures alone", "us", Spread::median(&signatures)));
    Ok(())
}

/// Bytes of all files below a folder.
fn disk(folder: &Path) -> Result<u64, Failure> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() { disk(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(sum)
}
