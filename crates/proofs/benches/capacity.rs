//! What it costs to prove computing power and to verify it, by kind and size: `cargo bench -p pasture-proofs --bench capacity`.
//!
//! Guarantees: one thread; real proofs, each verified; floors and peers in the same run, round by round in turn. A share says how
//! much of the proven work so many validators spend who each verify everything; "alone" has each of them make B r for this
//! proof only, "shared" leaves that to the round.

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

use pasture_proofs::gemm::{Check, Prover, Round, Shape};
use pasture_proofs::memory::{CHUNK_BYTES, CHUNK_WORDS, Table, Walk};
use pasture_proofs::{Beacon, Challenge, find_shares};
use pasture_types::proof::{ResourceClass, share_hash, threshold, verify_shares};
use pasture_types::{Millis, NodeId};
use report::{Failure, Figure, Goal, Report, Spread, quick, say};
use serde_json::json;
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: usize = 7;
const QUICK_ROUNDS: usize = 2;
const BEACON: Beacon = Beacon([9; 32]);
const ROUND: Round = Round { randomness: [1; 32], epoch: 7 };
/// Goal of the issue: what all validators together spend on verifying.
const MOST_PERCENT: f64 = 0.1;
/// A verification is short: the mean of so many.
const REPEAT: usize = 20;
const BURST: Millis = Millis(4_000);

fn challenge() -> Challenge {
    Challenge { randomness: [1; 32], node: NodeId([2; 32]), class: ResourceClass::Cpu, device: 0, epoch: 7, nonces: [3; 32] }
}

fn seconds(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_secs_f64()
}

fn each(times: usize, mut work: impl FnMut()) -> f64 {
    seconds(|| (0..times).for_each(|_| work())) / times as f64
}

/// Samples of one kind of proof.
#[derive(Default)]
struct Samples {
    prove: Vec<f64>,
    /// Of a verifier that shares what can be shared.
    verify: Vec<f64>,
    /// And of one that does not.
    alone: Vec<f64>,
    bytes: usize,
}

impl Samples {
    /// The shares of what was proven that all validators spend, in rows of the table.
    fn shares(&self, report: &mut Report, what: &str, prove: f64) {
        for validators in [4.0, 100.0] {
            for (how, samples) in [("shared", &self.verify), ("alone", &self.alone)].into_iter().filter(|(_, s)| !s.is_empty()) {
                let percent = Spread::median(&samples.iter().map(|s| s * validators / prove * 100.0).collect::<Vec<_>>());
                let name = format!("{what}: verifying by {validators} validators, {how}, of what was proven");
                report.add(Figure::new(name, "%", percent).goal(Goal::Most(MOST_PERCENT)));
            }
        }
    }
}

fn scaled(samples: &[f64], by: impl Fn(f64) -> f64) -> Spread {
    Spread::median(&samples.iter().map(|s| by(*s)).collect::<Vec<_>>())
}

fn median(samples: &[f64]) -> f64 {
    Spread::median(samples).value
}

fn main() -> Result<(), Failure> {
    let quick = quick()?;
    let rounds = if quick { QUICK_ROUNDS } else { ROUNDS };
    let mut report = Report::begin("capacity", quick, std::path::Path::new(env!("CARGO_MANIFEST_DIR")));
    report.plan(json!({ "rounds": rounds, "threads": 1, "burst_ms": BURST.0 }));
    hashes(&mut report, rounds);
    products(&mut report, rounds, quick);
    memory(&mut report, rounds.min(5), if quick { 64 << 20 } else { 1 << 30 });
    report.finish()
}

/// A heartbeat's shares.
fn hashes(report: &mut Report, rounds: usize) {
    say("hash shares");
    const WORK: u64 = 1 << 21;
    let (mut ours, mut plain) = (Samples::default(), vec![]);
    for round in 0..rounds {
        let seed = [round as u8; 32];
        let mut shares = vec![];
        ours.prove.push(seconds(|| shares = find_shares(seed, WORK, Millis(1_000), || true).unwrap()));
        let limit = threshold(WORK, Millis(1_000));
        ours.verify.push(each(1_000, || verify_shares(&seed, black_box(&shares), limit).unwrap()));
        plain.push(seconds(|| {
            black_box((0..WORK).fold(0, |mix, nonce| mix ^ share_hash(&seed, nonce)));
        }));
    }
    let rate = |s: f64| WORK as f64 / s / 1e6;
    report.add(Figure::new("hash shares: proving", "MH/s", scaled(&ours.prove, rate)).against(
        "plain hashes",
        "MH/s",
        scaled(&plain, rate),
    ));
    report.add(Figure::new("hash shares: verifying one heartbeat", "us", scaled(&ours.verify, |s| s * 1e6)));
    // A heartbeat of a production zone.
    ours.shares(report, "hash shares, 300 ms of a core", 0.3);
}

/// The plainest product: three loops over int8.
fn plainest(x: &[i8], b: &[i8], n: usize, c: &mut [i32]) {
    for (x, c) in x.chunks_exact(n).zip(c.chunks_exact_mut(n)) {
        c.fill(0);
        for (x, b) in x.iter().zip(b.chunks_exact(n)) {
            c.iter_mut().zip(b).for_each(|(c, b)| *c = c.wrapping_add(i32::from(*x) * i32::from(*b)));
        }
    }
}

fn products(report: &mut Report, rounds: usize, quick: bool) {
    // A burst of one core at a round rate; the widths beside it, and a chain of four, with a quarter of that work.
    let filling = Shape::filling(ResourceClass::Cpu, if quick { 1_200_000_000 } else { 40_000_000_000 }, BURST).unwrap();
    let rows = filling.rows();
    let shapes = [
        filling,
        Shape::new(2_048, 1, rows / 16).unwrap(),
        Shape::new(4_096, 1, rows / 64).unwrap(),
        Shape::new(1_024, 4, rows / 16).unwrap(),
    ];
    for shape in shapes {
        say(&format!("{shape:?}"));
        let what = format!("product, n = {}, {} rows, {} layers", shape.n(), shape.rows(), shape.layers());
        let (mut ours, mut make, mut floats, mut plain) = (Samples::default(), vec![], vec![], vec![]);
        for _ in 0..rounds {
            one_product(shape, &mut ours, &mut make);
            floats.push(float_rate(shape.n() as usize));
            plain.push(plain_rate(shape.n() as usize));
        }
        let rate = |s: f64| shape.macs() as f64 / s / 1e9;
        let figure = Figure::new(format!("{what}: proving, hashes and opening in it"), "GMAC/s", scaled(&ours.prove, rate));
        report.add(figure.against("float32, `matrixmultiply`", "GMAC/s", Spread::median(&floats)));
        let figure = Figure::new(format!("{what}: the same"), "GMAC/s", scaled(&ours.prove, rate));
        report.add(figure.against("the plainest loop, int8", "GMAC/s", Spread::median(&plain)));
        report.add(Figure::new(format!("{what}: making the matrix once"), "ms", scaled(&make, |s| s * 1e3)));
        report.add(Figure::new(format!("{what}: bytes of a proof"), "KiB", Spread::median(&[ours.bytes as f64 / 1024.0])));
        report.add(Figure::new(format!("{what}: verifying, B r shared"), "ms", scaled(&ours.verify, |s| s * 1e3)));
        report.add(Figure::new(format!("{what}: verifying, B r in it"), "ms", scaled(&ours.alone, |s| s * 1e3)));
        ours.shares(report, &what, median(&ours.prove));
    }
}

fn one_product(shape: Shape, ours: &mut Samples, make: &mut Vec<f64>) {
    let mut made = None;
    make.push(seconds(|| made = Some(Prover::new(shape, &ROUND, &challenge()))));
    let prover = made.unwrap();
    let (mut root, mut proof) = ([0; 32], vec![]);
    ours.prove.push(seconds(|| {
        let leaves = prover.all_leaves();
        root = prover.root(&leaves);
        proof = prover.open(&leaves, BEACON);
    }));
    ours.bytes = proof.len();
    let check = Check::new(shape, &ROUND, BEACON);
    let shared = each(REPEAT, || check.verify(shape, &challenge(), &root, black_box(&proof)).unwrap());
    ours.verify.push(shared);
    ours.alone.push(shared + each(3, || drop(black_box(Check::new(shape, &ROUND, BEACON)))));
}

/// Multiply-adds a second of a product of floats, in 10^9.
fn float_rate(n: usize) -> f64 {
    let m = (1 << 18) / n;
    let (a, b, mut c) = (vec![1.5f32; m * n], vec![0.5f32; n * n], vec![0f32; m * n]);
    let (n, width) = (n, n as isize);
    let took = seconds(|| {
        // SAFETY: the slices are as long as the sizes and strides say.
        #[allow(unsafe_code, reason = "the peer's interface")]
        unsafe {
            matrixmultiply::sgemm(m, n, n, 1.0, a.as_ptr(), width, 1, b.as_ptr(), width, 1, 0.0, c.as_mut_ptr(), width, 1);
        }
    });
    black_box(c);
    (m * n * n) as f64 / took / 1e9
}

fn plain_rate(n: usize) -> f64 {
    let m = (1 << 16) / n;
    let (x, b, mut c) = (vec![3i8; m * n], vec![-5i8; n * n], vec![0; m * n]);
    let took = seconds(|| plainest(black_box(&x), black_box(&b), n, &mut c));
    black_box(c);
    (m * n * n) as f64 / took / 1e9
}

fn memory(report: &mut Report, rounds: usize, bytes: usize) {
    say("memory");
    let table = Table::new(bytes as u64, &challenge()).unwrap();
    let (mut memory, mut copy) = (vec![0u64; bytes / 8], vec![0u64; bytes / 8]);
    let (mut fill, mut copying, mut step, mut read, mut chunk) = (vec![], vec![], vec![], vec![], vec![]);
    let mut ours = Samples::default();
    for round in 0..rounds {
        fill.push(seconds(|| table.fill(0, &mut memory)));
        copying.push(seconds(|| {
            copy.copy_from_slice(black_box(&memory));
            black_box(&mut copy);
        }));
        let walk = Walk::over(bytes as u64, &challenge(), 1, Millis(1_000), Beacon([round as u8; 32])).unwrap();
        let mut states = vec![];
        let took = seconds(|| while !walk.advance(0, &mut states, &mut memory.as_slice(), 4_096) {});
        step.push(took / walk.steps() as f64 * 1e9);
        read.push(dependent_reads(&memory, walk.steps()) / walk.steps() as f64 * 1e9);
        let (root, proof) = (walk.root(&states), walk.open(&states, BEACON));
        ours.bytes = proof.len();
        ours.prove.push(fill[round] + took);
        ours.verify.push(each(REPEAT, || walk.verify(&root, BEACON, black_box(&proof)).unwrap()));
        let mut one = vec![0; CHUNK_WORDS];
        chunk.push(each(200, || table.fill(black_box(7), &mut one)) * 1e6);
    }
    let rate = |s: f64| bytes as f64 / s / f64::from(1 << 20);
    let mib = bytes >> 20;
    report.add(Figure::new(format!("memory, {mib} MiB: filling"), "MiB/s", scaled(&fill, rate)).against(
        "copying it",
        "MiB/s",
        scaled(&copying, rate),
    ));
    let figure = Figure::new(format!("memory, {mib} MiB: a step of the walk"), "ns", Spread::median(&step));
    report.add(figure.against("a read that depends on the one before", "ns", Spread::median(&read)));
    let figure = Figure::new(format!("memory: making a chunk of {} KiB", CHUNK_BYTES >> 10), "us", Spread::median(&chunk));
    report.add(figure.against("the step that it stands in for", "ns", Spread::median(&step)));
    report.add(Figure::new(format!("memory, {mib} MiB: bytes of a proof"), "KiB", Spread::median(&[ours.bytes as f64 / 1024.0])));
    report.add(Figure::new("memory: verifying", "ms", scaled(&ours.verify, |s| s * 1e3)));
    ours.shares(report, &format!("memory, {mib} MiB"), median(&ours.prove));
    let large = median(&fill) * (64u64 << 30) as f64 / bytes as f64;
    ours.shares(report, "memory, 64 GiB at that speed", large);
}

/// As many reads as the walk's steps, each at a place that the last one named, and no more arithmetic than that.
fn dependent_reads(memory: &[u64], steps: u64) -> f64 {
    let lines = memory.len() as u64 / 8;
    seconds(|| {
        let state = (0..steps).fold(1u64, |state, step| {
            let line = (u128::from(state) * u128::from(lines)) >> 64;
            (memory[line as usize * 8] ^ step).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        black_box(state);
    })
}
