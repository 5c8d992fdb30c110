// Leaves of the tree, second half: each row's chaining values, in pairs, up to its hash. An invocation does one row, in place.

// Key in eight words; rows, chunks of a message, place of the first leaf.
@group(0) @binding(0) var<uniform> ask: array<vec4<u32>, 4>;
@group(0) @binding(1) var<storage, read_write> values: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> leaves: array<vec4<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= ask[2].x {
        return;
    }
    let first = 2u * id.x * ask[2].y;
    var width = ask[2].y;
    while width > 1u {
        let flags = select(KEYED | PARENT, KEYED | PARENT | ROOT, width == 2u);
        for (var pair = 0u; pair < width / 2u; pair++) {
            let origin = first + 4u * pair;
            let message = Words(values[origin], values[origin + 1u], values[origin + 2u], values[origin + 3u]);
            let out = compress(ask[0], ask[1], message, 0u, 64u, flags);
            values[first + 2u * pair] = out.a;
            values[first + 2u * pair + 1u] = out.b;
        }
        // One without a neighbour goes up as it is.
        if width % 2u == 1u {
            values[first + width - 1u] = values[first + 2u * (width - 1u)];
            values[first + width] = values[first + 2u * (width - 1u) + 1u];
        }
        width = (width + 1u) / 2u;
    }
    let to = 2u * (ask[2].z + id.x);
    leaves[to] = values[first];
    leaves[to + 1u] = values[first + 1u];
}
