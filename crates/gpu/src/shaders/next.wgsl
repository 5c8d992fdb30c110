// The next layer's entries: bits 4..11 of each sum, four to a word.

// Words of a row; rows; sums of a row of all layers; where this layer's begin.
@group(0) @binding(0) var<uniform> ask: array<vec4<u32>, 4>;
@group(0) @binding(1) var<storage, read> sums: array<i32>;
@group(0) @binding(2) var<storage, read_write> x: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= ask[2].x || id.y >= ask[2].y {
        return;
    }
    let origin = id.y * ask[2].z + ask[2].w + 4u * id.x;
    var word = 0u;
    for (var i = 0u; i < 4u; i++) {
        word |= ((bitcast<u32>(sums[origin + i]) >> 4u) & 255u) << (8u * i);
    }
    x[id.y * ask[2].x + id.x] = word;
}
