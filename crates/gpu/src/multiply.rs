//! The product's shader, written out: int8 in packed fours, sums in registers, tiles of both operands in a workgroup's memory.
//!
//! Guarantees: exact whatever the tile, since no sum leaves 32 bits at the widths in use. Written by a program because drivers keep sums in registers
//! only if no loop runs over them; `dot4I8Packed` is one instruction where the adapter has it, and shader code of the same result elsewhere.

use std::fmt::Write as _;

/// Invocations along each side of a workgroup.
const SIDE: u32 = 16;
/// Rows, and columns, that an invocation computes: more are fewer loads for each product, and more registers. Eight take 1.3 to 2 times as many products a
/// second as four on Mesa's adapter in software.
const EACH: u32 = 8;
/// Words of each operand's tile that an invocation loads.
const LOADS: u32 = 4;
/// Words of K that a workgroup holds at a time.
const DEPTH: u32 = LOADS * SIDE * SIDE / TILE;

/// Rows, and columns, of a workgroup.
pub(crate) const TILE: u32 = SIDE * EACH;

/// The shader.
pub(crate) fn shader() -> String {
    let mut sums = String::new();
    let mut adds = String::new();
    let mut stores = String::new();
    let mut reads = String::new();
    let mut loads = String::new();
    for i in 0..EACH {
        for j in 0..EACH {
            line(&mut sums, format_args!("    var s{i}_{j} = 0;"));
            line(&mut adds, format_args!("            s{i}_{j} += dot4I8Packed(x{i}, b{j});"));
            line(&mut stores, format_args!("    put(row + {}u, column + {}u, s{i}_{j});", SIDE * i, SIDE * j));
        }
        line(&mut reads, format_args!("            let x{i} = xs[(down + {}u) * {DEPTH}u + k];", SIDE * i));
        line(&mut reads, format_args!("            let b{i} = bs[k * {TILE}u + across + {}u];", SIDE * i));
    }
    for i in 0..LOADS {
        line(&mut loads, format_args!("        load(place + {}u, first, corner);", SIDE * SIDE * i));
    }
    include_str!("shaders/multiply.wgsl")
        .replace("TILE", &format!("{TILE}u"))
        .replace("DEPTH", &format!("{DEPTH}u"))
        .replace("//SUMS", sums.trim())
        .replace("//READS", reads.trim())
        .replace("//ADDS", adds.trim())
        .replace("//STORES", stores.trim())
        .replace("//LOADS", loads.trim())
}

fn line(to: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(to, "{text}");
}
