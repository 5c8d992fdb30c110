// Leaves of the tree, first half: the chaining value of each chunk (1,024 bytes) of each row's message: a zero byte, the row's number, its sums.

// Key in eight words; sums of a row of all layers, rows, chunks of a message.
@group(0) @binding(0) var<uniform> ask: array<vec4<u32>, 4>;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> sums: array<u32>;
@group(0) @binding(3) var<storage, read_write> values: array<vec4<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let chunks = ask[2].z;
    if id.x >= chunks || id.y >= ask[2].y {
        return;
    }
    let bytes = min(4u * ask[2].x + 5u - id.x * 1024u, 1024u);
    let blocks = (bytes + 63u) / 64u;
    // Of one chunk alone the last block is the root.
    let last = select(CHUNK_END, CHUNK_END | ROOT, chunks == 1u);
    var low = ask[0];
    var high = ask[1];
    for (var block = 0u; block < blocks; block++) {
        let at = id.x * 256u + block * 16u;
        let message = Words(four(id.y, at), four(id.y, at + 4u), four(id.y, at + 8u), four(id.y, at + 12u));
        let flags = KEYED | select(0u, CHUNK_START, block == 0u) | select(0u, last, block + 1u == blocks);
        let out = compress(low, high, message, id.x, min(bytes - block * 64u, 64u), flags);
        low = out.a;
        high = out.b;
    }
    let to = 2u * (id.y * chunks + id.x);
    values[to] = low;
    values[to + 1u] = high;
}

// Four words of a row's message: five bytes stand before the sums, so each word has a byte of one and three of the next.
fn four(row: u32, at: u32) -> vec4<u32> {
    let w0 = word(row, at);
    let w1 = word(row, at + 1u);
    let w2 = word(row, at + 2u);
    let w3 = word(row, at + 3u);
    let w4 = word(row, at + 4u);
    return (vec4<u32>(w0, w1, w2, w3) >> vec4<u32>(24u)) | (vec4<u32>(w1, w2, w3, w4) << vec4<u32>(8u));
}

fn word(row: u32, at: u32) -> u32 {
    if at == 0u {
        return 0u;
    }
    if at == 1u {
        return rows[row];
    }
    if at - 2u < ask[2].x {
        return sums[row * ask[2].x + at - 2u];
    }
    return 0u;
}
