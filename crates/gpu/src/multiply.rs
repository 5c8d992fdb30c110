//! The product's shader, written out: int8 in packed fours, sums in registers, tiles of both operands in a workgroup's memory.
//!
//! Guarantees: exact whatever the tile, since no sum leaves 32 bits at the widths in use. Written by a program because drivers keep sums in registers
//! only if no loop runs over them; `dot4I8Packed` is one instruction where the adapter has it, and shader code of the same result elsewhere.

use std::fmt::Write as _;

/// Invocations along each side of a workgroup.
const SIDE: u32 = 16;
/// Words of each operand's tile that an invocation loads.
const LOADS: u32 = 4;

/// Rows, and columns, that an invocation computes: more are fewer loads for each product, and more registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tile {
    /// Four by four: for what has few registers, as processors do.
    Small,
    /// Eight by eight: for cards.
    Large,
}

impl Tile {
    const fn each(self) -> u32 {
        match self {
            Self::Small => 4,
            Self::Large => 8,
        }
    }

    /// Rows, and columns, of a workgroup.
    pub(crate) const fn side(self) -> u32 {
        SIDE * self.each()
    }

    /// The shader.
    pub(crate) fn shader(self) -> String {
        let (each, side) = (self.each(), self.side());
        let depth = LOADS * SIDE * SIDE / side;
        let all = || (0..each).flat_map(|i| (0..each).map(move |j| (i, j)));
        let lines = |one: &dyn Fn(&mut String, u32, u32)| {
            all().fold(String::new(), |mut text, (i, j)| {
                one(&mut text, i, j);
                text
            })
        };
        // Writing to a string does not fail.
        let ok = |_: std::fmt::Result| ();
        let sums = lines(&|to, i, j| ok(writeln!(to, "    var s{i}_{j} = 0;")));
        let adds = lines(&|to, i, j| ok(writeln!(to, "            s{i}_{j} += dot4I8Packed(x{i}, b{j});")));
        let stores = lines(&|to, i, j| ok(writeln!(to, "    put(row + {}u, column + {}u, s{i}_{j});", SIDE * i, SIDE * j)));
        let reads = (0..each).fold(String::new(), |mut to, i| {
            ok(writeln!(to, "            let x{i} = xs[(down + {}u) * {depth}u + k];", SIDE * i));
            ok(writeln!(to, "            let b{i} = bs[k * {side}u + across + {}u];", SIDE * i));
            to
        });
        let loads = (0..LOADS).fold(String::new(), |mut to, i| {
            ok(writeln!(to, "        load(place + {}u, first, corner);", SIDE * SIDE * i));
            to
        });
        include_str!("shaders/multiply.wgsl")
            .replace("TILE", &format!("{side}u"))
            .replace("DEPTH", &format!("{depth}u"))
            .replace("//SUMS", sums.trim())
            .replace("//READS", reads.trim())
            .replace("//ADDS", adds.trim())
            .replace("//STORES", stores.trim())
            .replace("//LOADS", loads.trim())
    }
}
