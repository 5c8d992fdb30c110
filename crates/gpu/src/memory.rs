//! Memory proofs of a card's own memory: the table lies there, and each lane of the walk is an invocation. Spec: `docs/specs/memory.md`.
//!
//! Guarantees: the states are those of `pasture_proofs::memory::Walk`, for its root, its opening and its verifier; on this side memory is 8 bytes a stretch and
//! what is being uploaded. Chunks are made on processors (16 KiB in 20 to 60 us each), so whoever fills a large card calls [`Vram::put`] from what its threads
//! made; the walk itself never leaves the card. A table has less than 2^32 lines (256 GiB).

use crate::device::{Ask, Device, Kernel};
use crate::error::GpuError;
use crate::work::{Ended, Line, Pace};
use pasture_proofs::memory::{CHUNK_BYTES, CHUNK_WORDS, STEPS, Table, Walk};
use std::fmt::Write as _;
use wgpu::Buffer;

/// Bytes that are uploaded at a time.
const SLAB_CHUNKS: u32 = 256;
/// Lines of a chunk.
const LINES: u64 = 256;
/// Bindings of the shader beside the table.
const OTHERS: usize = 3;
/// Least reads of a piece of work.
const LEAST: u64 = 1 << 14;
/// Invocations of a workgroup.
const GROUP: u32 = 64;

/// A table in a card's memory.
#[derive(Debug)]
pub struct Vram {
    device: Device,
    table: Table,
    kernel: Kernel,
    pieces: Vec<Buffer>,
    /// Chunks of each piece but the last.
    piece_chunks: u32,
    pace: Pace,
}

impl Vram {
    /// Takes room for a table on a card; nothing is in it yet.
    ///
    /// # Errors
    /// The card has no room, or cannot bind so much.
    pub fn new(device: &Device, table: Table) -> Result<Self, GpuError> {
        Self::cut(device, table, device.adapter().max_buffer_bytes())
    }

    /// The same with a largest buffer of choice: results do not depend on it.
    pub(crate) fn cut(device: &Device, table: Table, most_bytes: u64) -> Result<Self, GpuError> {
        let piece_chunks = u32::try_from(most_bytes / CHUNK_BYTES as u64).unwrap_or(u32::MAX).clamp(1, table.chunks());
        let count = table.chunks().div_ceil(piece_chunks);
        if table.lines() > u64::from(u32::MAX) || count as usize + OTHERS > device.most_bindings() {
            let what = "it cannot bind a table of this size";
            return Err(GpuError::TooSmall { adapter: device.adapter().name().into(), what });
        }
        let chunks = |piece: u32| piece_chunks.min(table.chunks() - piece * piece_chunks);
        let pieces: Vec<Buffer> = (0..count).map(|piece| device.buffer(u64::from(chunks(piece)) * CHUNK_BYTES as u64)).collect();
        let kernel = device.kernel("walk", &shader(pieces.len()));
        device.check()?;
        Ok(Self { device: device.clone(), table, kernel, pieces, piece_chunks, pace: Pace::new(LEAST) })
    }

    /// Puts whole chunks from `first` on where they belong; what is not a chunk of the table is left out.
    ///
    /// # Errors
    /// The card fails.
    pub fn put(&self, first: u32, chunks: &[u64]) -> Result<(), GpuError> {
        for (number, chunk) in (first..self.table.chunks()).zip(chunks.chunks_exact(CHUNK_WORDS)) {
            let (piece, within) = (number / self.piece_chunks, number % self.piece_chunks);
            if let Some(buffer) = self.pieces.get(piece as usize) {
                self.device.write_at(buffer, u64::from(within) * CHUNK_BYTES as u64, chunk);
            }
        }
        // What waits to be uploaded is kept in this program's memory until then.
        let sent = self.device.submit(self.device.encoder());
        self.device.wait(sent)
    }

    /// Makes all chunks on the calling thread; `false` if `go_on` said no.
    ///
    /// # Errors
    /// The card fails.
    pub fn fill(&self, go_on: &mut dyn FnMut() -> bool) -> Result<bool, GpuError> {
        for first in (0..self.table.chunks()).step_by(SLAB_CHUNKS as usize) {
            if !go_on() {
                return Ok(false);
            }
            let count = SLAB_CHUNKS.min(self.table.chunks() - first);
            let mut slab = vec![0; count as usize * CHUNK_WORDS];
            self.table.fill(first, &mut slab);
            self.put(first, &slab)?;
        }
        Ok(true)
    }

    /// Walks all lanes to their ends: the states that `Walk::root` and `Walk::open` take. `None` if `go_on` said no.
    ///
    /// # Errors
    /// The card fails.
    pub fn walk(&mut self, walk: &Walk, go_on: &mut dyn FnMut() -> bool) -> Result<Option<Vec<u64>>, GpuError> {
        let (lanes, length) = (walk.lanes(), walk.length());
        let starts: Vec<u64> = (0..lanes).map(|lane| walk.start(lane)).collect();
        let (here, states) = (self.device.buffer(u64::from(lanes) * 8), self.device.buffer(u64::from(lanes) * u64::from(length) * 8));
        self.device.write_at(&here, 0, &starts);
        let buffers: Vec<&Buffer> = [&here, &states].into_iter().chain(&self.pieces).collect();
        let ([salt_low, salt_high], lines) = ([walk.salt() as u32, (walk.salt() >> 32) as u32], self.table.lines() as u32);
        let piece_lines = u32::try_from(u64::from(self.piece_chunks) * LINES).unwrap_or(u32::MAX);
        let reads = u64::from(lanes) * u64::from(STEPS);
        let mut done = 0;
        while done < length {
            let mut line = Line::new(&self.device, go_on);
            let some = u32::try_from(self.pace.piece() / reads).unwrap_or(u32::MAX).clamp(1, length - done);
            let ask: Ask = [salt_low, salt_high, lines, piece_lines, lanes, length, done, some];
            let mut work = self.device.encoder();
            self.device.run(&mut work, &self.kernel, &[0; 8], ask, &buffers, [lanes.div_ceil(GROUP), 1]);
            if line.send(work)? == Ended::CalledOff {
                return Ok(None);
            }
            self.pace.learn(u64::from(some) * reads, line.finish()?);
            done += some;
        }
        let bytes = self.device.read(&states, u64::from(lanes) * u64::from(length) * 8)?;
        Ok(Some(bytes.as_chunks().0.iter().map(|eight| u64::from_le_bytes(*eight)).collect()))
    }
}

fn shader(pieces: usize) -> String {
    let (mut bindings, mut reads) = (String::new(), String::new());
    for piece in 0..pieces {
        // Writing to a string does not fail.
        let _ = writeln!(bindings, "@group(0) @binding({}) var<storage, read> piece{piece}: array<vec4<u32>>;", piece + OTHERS);
        let _ = writeln!(reads, "    if piece == {piece}u {{ return piece{piece}[at]; }}");
    }
    include_str!("shaders/walk.wgsl").replace("//PIECES", bindings.trim()).replace("//READS", reads.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use pasture_proofs::{Beacon, Challenge};
    use pasture_types::NodeId;
    use pasture_types::proof::ResourceClass;

    /// The states of the processor's walk, whatever the number of lanes and however the table is cut.
    #[test]
    fn a_card_walks_where_a_processor_does() {
        let adapters = crate::adapters().expect("scripts/setup.sh installs an adapter in software");
        let device = adapters.iter().find(|a| a.kind() == Kind::Software).unwrap().open().unwrap();
        let challenge =
            Challenge { randomness: [1; 32], node: NodeId([2; 32]), class: ResourceClass::Gpu, device: 0, epoch: 7, nonces: [4; 32] };
        let table = Table::new(37 * CHUNK_BYTES as u64, &challenge).unwrap();
        let mut memory = vec![0; 37 * CHUNK_WORDS];
        table.fill(0, &mut memory);
        for (lanes, length, most_bytes) in [(1, 40, 128 << 20), (70, 5, 128 << 20), (9, 33, 10 * CHUNK_BYTES as u64)] {
            let walk = Walk::new(table.clone(), lanes, length, Beacon([5; 32])).unwrap();
            let mut vram = Vram::cut(&device, table.clone(), most_bytes).unwrap();
            assert!(vram.fill(&mut || true).unwrap());
            let states = vram.walk(&walk, &mut || true).unwrap().unwrap();
            let mut expected = vec![];
            for lane in 0..lanes {
                let mut mine = vec![];
                while !walk.advance(lane, &mut mine, &mut memory.as_slice(), 7) {}
                expected.extend(mine);
            }
            assert_eq!(states, expected, "{lanes} lanes");
            let root = walk.root(&states);
            assert_eq!(walk.verify(&root, Beacon([6; 32]), &walk.open(&states, Beacon([6; 32]))), Ok(()));
            assert_eq!(vram.walk(&walk, &mut || false), Ok(None));
        }
    }
}
