// The matrix as the product wants it: each word holds four rows of one column, a piece holds some columns. An invocation turns a square of four.

// Words of a row; first column of the piece and columns in it, both in fours; rows of these words, in fours; the first of them in the piece.
@group(0) @binding(0) var<uniform> ask: array<vec4<u32>, 4>;
@group(0) @binding(1) var<storage, read> words: array<u32>;
@group(0) @binding(2) var<storage, read_write> piece: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let width = ask[2].x;
    let columns = ask[2].z;
    if id.x >= columns || id.y >= ask[2].w {
        return;
    }
    let origin = id.y * 4u * width + ask[2].y + id.x;
    let a = words[origin];
    let b = words[origin + width];
    let c = words[origin + 2u * width];
    let d = words[origin + 3u * width];
    let to = (ask[3].x + id.y) * columns * 4u + id.x * 4u;
    for (var i = 0u; i < 4u; i++) {
        let shift = 8u * i;
        piece[to + i] = ((a >> shift) & 255u) | (((b >> shift) & 255u) << 8u) | (((c >> shift) & 255u) << 16u) | (((d >> shift) & 255u) << 24u);
    }
}
