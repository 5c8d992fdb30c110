// Hash shares: names the nonces whose hashes are below a bound.

// Seed in eight words; first nonce (low, high), nonces, nonces of an invocation; bound (low, high), most that are named.
@group(0) @binding(0) var<uniform> ask: array<vec4<u32>, 4>;
// How many there were, and their distances from the first nonce.
@group(0) @binding(1) var<storage, read_write> found: Found;

struct Found { count: atomic<u32>, nonces: array<u32> }

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let lanes = groups.x * 64u;
    let bound = ask[3].xy;
    for (var n = 0u; n < ask[2].w; n++) {
        // Wraps only behind the last nonce, which is below 2^31.
        let distance = n * lanes + id.x;
        if distance >= ask[2].z {
            return;
        }
        let low = ask[2].x + distance;
        let high = ask[2].y + select(0u, 1u, low < distance);
        let message = Words(ask[0], ask[1], vec4<u32>(low, high, 0u, 0u), vec4<u32>());
        let hash = compress(IV_LOW, IV_HIGH, message, 0u, 40u, CHUNK_START | CHUNK_END | ROOT).a;
        if hash.y < bound.y || (hash.y == bound.y && hash.x < bound.x) {
            let place = atomicAdd(&found.count, 1u);
            if place < ask[3].z {
                found.nonces[place] = distance;
            }
        }
    }
}
