//! Hash shares on a card: the shares that `pasture_proofs::find_shares` finds. Spec: `docs/specs/proofs.md` §2.
//!
//! Guarantees: the card only names nonces, and each is hashed here again before it counts; the search ends at the same nonce with the same
//! shares as one on a processor. Memory is constant; what does not fit is searched once more in smaller pieces.

use crate::device::{Ask, Device, Kernel, words};
use crate::error::GpuError;
use crate::work::Pace;
use pasture_proofs::{Search, SearchState};
use pasture_types::Millis;
use std::time::Instant;

/// Hashed here first, so that the bound leaves few to be named.
const HERE: u64 = 4_096;
/// A piece has at most so many times as many hashes as came before: `16 x FACTOR` of them are below the bound, on average.
const FACTOR: u64 = 64;
/// Most nonces that a piece names: sixteen times the average.
const NAMED: u32 = 1 << 14;
/// Least hashes of a piece.
const LEAST: u64 = 1 << 17;
/// Most hashes of a piece: its nonces are told as 32-bit distances.
const MOST: u64 = 1 << 31;
/// Invocations of a workgroup.
const GROUP: u32 = 64;
/// Most workgroups.
const GROUPS: u32 = 1 << 14;

pub(crate) fn kernel(device: &Device) -> Kernel {
    device.kernel("shares", concat!(include_str!("shaders/blake3.wgsl"), include_str!("shaders/shares.wgsl")))
}

/// Runs a whole search; `go_on` is asked between pieces of work, and `None` says that it said no.
///
/// # Errors
/// The card fails.
pub fn find_shares(
    device: &Device,
    seed: [u8; 32],
    declared_hashes_per_s: u64,
    work: Millis,
    mut go_on: impl FnMut() -> bool,
) -> Result<Option<Vec<u64>>, GpuError> {
    let mut search = Search::new(seed, declared_hashes_per_s, work);
    let mut state = search.advance(HERE);
    let mut scan = Scan::new(device);
    while state == SearchState::Working {
        if !go_on() {
            return Ok(None);
        }
        let wanted = search.tried().saturating_mul(FACTOR).min(search.work().saturating_sub(search.tried()).max(LEAST));
        let (end, found) = scan.piece(&search, wanted)?;
        state = search.take(end, &found);
    }
    Ok(search.shares())
}

/// The card's part.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    device: &'a Device,
    found: wgpu::Buffer,
    pace: Pace,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(device: &'a Device) -> Self {
        Self { device, found: device.buffer(4 + 4 * u64::from(NAMED)), pace: Pace::new(LEAST) }
    }

    /// Hashes at most `wanted` nonces from where the search is; says where it ended, and which are below the search's bound.
    pub(crate) fn piece(&mut self, search: &Search, wanted: u64) -> Result<(u64, Vec<u64>), GpuError> {
        let first = search.tried();
        let mut hashes = u32::try_from(wanted.min(self.pace.piece()).min(MOST).min(u64::MAX - first)).unwrap_or(u32::MAX).max(1);
        loop {
            let began = Instant::now();
            let (count, mut distances) = self.scan(search, hashes)?;
            self.pace.learn(u64::from(hashes), began.elapsed());
            if count <= NAMED {
                distances.sort_unstable();
                return Ok((first + u64::from(hashes), distances.into_iter().map(|d| first + u64::from(d)).collect()));
            }
            hashes = hashes.div_ceil(4);
        }
    }

    fn scan(&self, search: &Search, hashes: u32) -> Result<(u32, Vec<u32>), GpuError> {
        let halves = |n: u64| [n as u32, (n >> 32) as u32];
        let ([first_low, first_high], [bound_low, bound_high]) = (halves(search.tried()), halves(search.bound()));
        let groups = hashes.div_ceil(GROUP).min(GROUPS);
        let each = hashes.div_ceil(groups * GROUP);
        let ask: Ask = [first_low, first_high, hashes, each, bound_low, bound_high, NAMED, 0];
        self.device.write(&self.found, &[0]);
        let mut work = self.device.encoder();
        self.device.run(&mut work, self.device.shares_kernel(), &words(search.seed()), ask, &[&self.found], [groups, 1]);
        let done = self.device.submit(work);
        self.device.wait(done)?;
        let head = self.device.read(&self.found, 4)?;
        let count = head.first_chunk().map_or(0, |four| u32::from_le_bytes(*four));
        let bytes = self.device.read(&self.found, 4 + 4 * u64::from(count.min(NAMED)))?;
        let distances = bytes.as_chunks().0.iter().skip(1).map(|four| u32::from_le_bytes(*four)).collect();
        Ok((count, distances))
    }
}
