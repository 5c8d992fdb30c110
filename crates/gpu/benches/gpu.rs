//! How fast adapters are at proofs: `cargo bench -p pasture-gpu --bench gpu`.
//!
//! Guarantees: real proofs, each verified; floors and peers in the same run, round by round in turn. Each row says which adapter it is of, and
//! whether that is software: then it is this machine's processor by a driver that stands in for a card, and tells nothing of one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a bench that cannot set its scene must stop"
)]

#[path = "../../../bench/report.rs"]
mod report;

use pasture_gpu::{Device, Kind, Prover, adapters, hashes, plain_floats, products};
use pasture_proofs::gemm::{Check, Round, Shape, benchmark_gemm};
use pasture_proofs::{Beacon, Challenge, benchmark_cpu};
use pasture_types::NodeId;
use pasture_types::proof::ResourceClass;
use report::{Failure, Figure, Report, Spread, quick, say};
use serde_json::json;
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;
const QUICK_ROUNDS: usize = 2;
const ROUND: Round = Round { randomness: [1; 32], epoch: 7 };
const BEACON: Beacon = Beacon([9; 32]);
/// Widths: a processor's, and for cards their own.
const WIDTHS: [u32; 3] = [256, 1_024, 8_192];

fn main() -> Result<(), Failure> {
    let quick = quick()?;
    let (rounds, length) = if quick { (QUICK_ROUNDS, Duration::from_millis(200)) } else { (ROUNDS, Duration::from_secs(1)) };
    let mut report = Report::begin("gpu", quick, std::path::Path::new(env!("CARGO_MANIFEST_DIR")));
    let found = adapters()?;
    let names: Vec<String> = found.iter().map(|a| format!("{} ({}), {}", a.name(), a.kind().word(), a.driver())).collect();
    report.plan(json!({ "rounds": rounds, "length_ms": length.as_millis() as u64, "adapters": names }));
    for adapter in &found {
        let device = adapter.open()?;
        let name =
            format!("{} ({})", adapter.name(), if adapter.kind() == Kind::Software { "SOFTWARE, no card" } else { adapter.kind().word() });
        say(&name);
        one(&mut report, &device, &name, rounds, length)?;
    }
    report.finish()
}

fn billions(samples: &[u64]) -> Spread {
    Spread::median(&samples.iter().map(|s| *s as f64 / 1e9).collect::<Vec<_>>())
}

fn millions(samples: &[u64]) -> Spread {
    Spread::median(&samples.iter().map(|s| *s as f64 / 1e6).collect::<Vec<_>>())
}

fn core(length: Duration, measure: impl Fn(Duration, &mut dyn FnMut() -> Duration) -> u64) -> u64 {
    let begin = Instant::now();
    measure(length, &mut || begin.elapsed())
}

fn one(report: &mut Report, device: &Device, name: &str, rounds: usize, length: Duration) -> Result<(), Failure> {
    let software = device.adapter().kind() == Kind::Software;
    for n in WIDTHS.into_iter().filter(|n| !software || *n < 8_192) {
        let (mut ours, mut floats, mut cores) = (vec![], vec![], vec![]);
        for _ in 0..rounds {
            ours.push(products(device, n, length)?);
            floats.push(plain_floats(device, n.min(2_048), length)?);
            cores.push(core(length, |l, clock| benchmark_gemm(l, clock)));
        }
        let what = format!("{name}: product, n = {n}, hashes of rows in it");
        let figure = Figure::new(what.clone(), "GMAC/s", billions(&ours));
        report.add(figure.against("the same adapter, float32, plainest tiled shader", "GMAC/s", billions(&floats)));
        report.add(Figure::new(what, "GMAC/s", billions(&ours)).against("one core, n = 1024", "GMAC/s", billions(&cores)));
    }
    let (mut ours, mut cores) = (vec![], vec![]);
    for _ in 0..rounds {
        ours.push(hashes(device, length)?);
        cores.push(core(length, |l, clock| benchmark_cpu(l, clock)));
    }
    let figure = Figure::new(format!("{name}: hashes of shares"), "MH/s", millions(&ours));
    report.add(figure.against("one core", "MH/s", millions(&cores)));
    whole(report, device, name, rounds, Shape::new(if software { 256 } else { 8_192 }, 1, if software { 4_096 } else { 65_536 }).unwrap())
}

/// A proof from the challenge to its bytes, verified.
fn whole(report: &mut Report, device: &Device, name: &str, rounds: usize, shape: Shape) -> Result<(), Failure> {
    let (mut prove, mut open) = (vec![], vec![]);
    for round in 0..rounds {
        let challenge = Challenge {
            randomness: [1; 32],
            node: NodeId([2; 32]),
            class: ResourceClass::Gpu,
            device: 0,
            epoch: 7,
            nonces: [round as u8; 32],
        };
        let began = Instant::now();
        let mut committed = Prover::new(device, shape, &ROUND, &challenge)?.commit(|| true)?.unwrap();
        prove.push(began.elapsed().as_secs_f64() * 1e3);
        let began = Instant::now();
        let proof = committed.open(BEACON)?;
        open.push(began.elapsed().as_secs_f64() * 1e3);
        Check::new(shape, &ROUND, BEACON).verify(shape, &challenge, committed.root(), &proof)?;
    }
    let what = format!("{name}: a proof, n = {}, {} rows", shape.n(), shape.rows());
    report.add(Figure::new(format!("{what}: matrix, rows and root"), "ms", Spread::median(&prove)));
    report.add(Figure::new(format!("{what}: opening"), "ms", Spread::median(&open)));
    Ok(())
}
