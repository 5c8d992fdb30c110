// Rows of BLAKE3's output stream under a key: X_0's, and the matrix's. An invocation makes one block of one row.

// Key in eight words; words of a row, rows, blocks that a row may touch.
@group(0) @binding(0) var<uniform> ask: array<vec4<u32>, 4>;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read_write> words: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let width = ask[2].x;
    if id.y >= ask[2].y || id.x >= ask[2].z {
        return;
    }
    // Below 2^32: 2^20 rows of 2^12 words. What lies before the row or behind it wraps to a number beyond its width.
    let start = rows[id.y] * width;
    let block = start / 16u + id.x;
    let out = compress(ask[0], ask[1], Words(), block, 0u, CHUNK_START | CHUNK_END | ROOT | KEYED);
    let at = block * 16u - start;
    let to = id.y * width;
    put(to, at, width, out.a);
    put(to, at + 4u, width, out.b);
    put(to, at + 8u, width, out.c);
    put(to, at + 12u, width, out.d);
}

fn put(to: u32, at: u32, width: u32, four: vec4<u32>) {
    for (var i = 0u; i < 4u; i++) {
        if at + i < width {
            words[to + at + i] = four[i];
        }
    }
}
