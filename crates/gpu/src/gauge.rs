//! How fast a card is: what `farm provider self-test --gpu` shows, and what a declared rate would come from.
//!
//! Guarantees: measures the very work that proofs are made of, leaves and all, for about as long as it is told; leaves nothing on the card.
//! Nothing here is a proof.

use crate::device::Device;
use crate::error::GpuError;
use crate::product::Prover;
use crate::shares::Scan;
use pasture_proofs::gemm::{Round, Shape};
use pasture_proofs::{Challenge, Search};
use pasture_types::proof::ResourceClass;
use pasture_types::{Millis, NodeId};
use std::time::{Duration, Instant};

/// Widths that are tried, the one of proofs for cards first; a slower adapter is measured with one that it can do some rows of in the time.
const WIDTHS: [u32; 4] = [8_192, 4_096, 1_024, 256];
/// Rows that must fit into the time.
const ROWS: u64 = 1_024;
/// Rows that are there to be computed.
const MOST_ROWS: u32 = 1 << 20;

/// What a card does in a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gauge {
    /// Multiply-adds of int8 products, with the hashes of their rows.
    pub macs_per_s: u64,
    /// Width of the product that was measured.
    pub width: u32,
    /// Hashes of shares.
    pub hashes_per_s: u64,
}

/// Measures a device: products and hashes for about `length` each, and as long again to find the width that fits.
///
/// # Errors
/// The card fails.
pub fn gauge(device: &Device, length: Duration) -> Result<Gauge, GpuError> {
    // The narrow product says roughly what a wide one would take.
    let rough = products(device, 256, length / 4)?;
    let can = rough / 1_000 * u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let width = WIDTHS.into_iter().find(|n| u64::from(*n) * u64::from(*n) * ROWS <= can).unwrap_or(256);
    let macs_per_s = products(device, width, length)?;
    Ok(Gauge { macs_per_s, width, hashes_per_s: hashes(device, length)? })
}

/// Multiply-adds a second of int8 products of width `n` with the hashes of their rows; 0 if there is no such width.
///
/// # Errors
/// The card fails.
pub fn products(device: &Device, n: u32, length: Duration) -> Result<u64, GpuError> {
    let Some(shape) = Shape::new(n, 1, MOST_ROWS) else { return Ok(0) };
    let challenge =
        Challenge { randomness: [0xa5; 32], node: NodeId([0; 32]), class: ResourceClass::Gpu, device: 0, epoch: 0, nonces: [0; 32] };
    let mut prover = Prover::new(device, shape, &Round { randomness: [0xa5; 32], epoch: 0 }, &challenge)?;
    // The first rows teach it how much goes into a piece.
    prover.some(0, length / 4)?;
    let begin = Instant::now();
    let rows = prover.some(0, length)?;
    Ok(per_second(u64::from(rows) * u64::from(n) * u64::from(n), begin.elapsed()))
}

/// Hashes of shares a second.
///
/// # Errors
/// The card fails.
pub fn hashes(device: &Device, length: Duration) -> Result<u64, GpuError> {
    let mut search = Search::new([0xa5; 32], u64::MAX, Millis(u64::MAX));
    let mut scan = Scan::new(device);
    // A bound that lets few be named, as later in a search.
    search.advance(1 << 14);
    let (mut begin, mut hashed, mut warm) = (Instant::now(), 0, false);
    while begin.elapsed() < length {
        let (end, _) = scan.piece(&search, u64::MAX)?;
        hashed += end - search.tried();
        if !warm && begin.elapsed() >= length / 4 {
            (warm, begin, hashed) = (true, Instant::now(), 0);
        }
    }
    Ok(per_second(hashed, begin.elapsed()))
}

/// Multiply-adds a second of the plainest product in float32 that uses a workgroup's memory, `n` wide (rounded up to a multiple of sixteen): what our own
/// product is compared with.
///
/// # Errors
/// The card fails.
pub fn plain_floats(device: &Device, n: u32, length: Duration) -> Result<u64, GpuError> {
    let n = n.next_multiple_of(16);
    let kernel = device.kernel("floats", include_str!("shaders/floats.wgsl"));
    let [a, b, c] = [(); 3].map(|()| device.buffer(u64::from(n) * u64::from(n) * 4));
    let once = || {
        let mut work = device.encoder();
        device.run(&mut work, &kernel, &[0; 8], [n, 0, 0, 0, 0, 0, 0, 0], &[&a, &b, &c], [n / 16, n / 16]);
        let done = device.submit(work);
        device.wait(done)
    };
    // The first one compiles.
    once()?;
    let (begin, mut products) = (Instant::now(), 0u64);
    while begin.elapsed() < length {
        once()?;
        products += 1;
    }
    Ok(per_second(products * u64::from(n) * u64::from(n) * u64::from(n), begin.elapsed()))
}

fn per_second(work: u64, took: Duration) -> u64 {
    u64::try_from(u128::from(work) * 1_000_000_000 / took.as_nanos().max(1)).unwrap_or(u64::MAX)
}
