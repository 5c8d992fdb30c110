//! Work in pieces: how large they are, how many are on their way, and whether the caller still wants them.
//!
//! Guarantees: a piece is meant to take [`PIECE`] on whatever adapter, so that no driver's watchdog ends it and a caller who no more wants it has
//! not long to wait; at most [`AHEAD`] are on their way.

use crate::device::Device;
use crate::error::GpuError;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What one piece of work is meant to take. Drivers end what takes seconds; a screen on the same card freezes as long.
pub const PIECE: Duration = Duration::from_millis(100);
/// Pieces that wait on the card, so that it never waits for us.
const AHEAD: usize = 2;
/// The largest: 0.1 s at 700 x 10^12 a second.
const LARGEST: u64 = 1 << 46;

/// Whether the work was done or called off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Ended {
    Done,
    CalledOff,
}

/// How much goes into a piece: grows and shrinks with what the last ones took.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    least: u64,
    piece: u64,
}

impl Pace {
    /// Begins with the least that a piece has: some 50 ms of the slowest adapter that we know, which is software.
    pub(crate) const fn new(least: u64) -> Self {
        Self { least, piece: least }
    }

    pub(crate) const fn piece(&self) -> u64 {
        self.piece
    }

    /// Learns from work that took a time: at most four times as much the next time, so that one lucky clock does not freeze a screen.
    pub(crate) fn learn(&mut self, done: u64, took: Duration) {
        let fits = u128::from(done) * PIECE.as_nanos() / took.as_nanos().max(1);
        let fits = u64::try_from(fits).unwrap_or(LARGEST);
        self.piece = fits.min(self.piece.saturating_mul(4)).clamp(self.least, LARGEST);
    }
}

/// Pieces on their way to a device.
pub(crate) struct Line<'a> {
    device: &'a Device,
    under_way: VecDeque<wgpu::SubmissionIndex>,
    go_on: &'a mut dyn FnMut() -> bool,
    began: Instant,
}

impl<'a> Line<'a> {
    pub(crate) fn new(device: &'a Device, go_on: &'a mut dyn FnMut() -> bool) -> Self {
        Self { device, under_way: VecDeque::new(), go_on, began: Instant::now() }
    }

    /// Sends a piece, after waiting for older ones; not if it is no more wanted.
    pub(crate) fn send(&mut self, piece: wgpu::CommandEncoder) -> Result<Ended, GpuError> {
        if !(self.go_on)() {
            return Ok(Ended::CalledOff);
        }
        self.under_way.push_back(self.device.submit(piece));
        while self.under_way.len() > AHEAD {
            if let Some(oldest) = self.under_way.pop_front() {
                self.device.wait(oldest)?;
            }
        }
        Ok(Ended::Done)
    }

    /// Waits for all; says how long they took together.
    pub(crate) fn finish(mut self) -> Result<Duration, GpuError> {
        while let Some(next) = self.under_way.pop_front() {
            self.device.wait(next)?;
        }
        Ok(self.began.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_grow_slowly_and_shrink_at_once() {
        const FIRST: u64 = 1_000_000;
        let mut pace = Pace::new(FIRST);
        pace.learn(FIRST, Duration::from_nanos(1));
        assert_eq!(pace.piece(), 4 * FIRST);
        pace.learn(4 * FIRST, Duration::from_millis(200));
        assert_eq!(pace.piece(), 2 * FIRST);
        pace.learn(FIRST, Duration::from_secs(1_000));
        assert_eq!(pace.piece(), FIRST);
        (0..40).for_each(|_| pace.learn(u64::MAX, Duration::ZERO));
        assert_eq!(pace.piece(), LARGEST);
    }
}
