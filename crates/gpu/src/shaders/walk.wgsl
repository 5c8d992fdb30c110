// The walk over a table of Argon2d chunks, a lane an invocation. Completed by memory.rs: PIECES bindings of the table, and READS among them.

// Salt (low, high), lines, lines of a piece; lanes, stretches of a lane, those that are done, those to do.
@group(0) @binding(0) var<uniform> ask: array<vec4<u32>, 4>;
// Where each lane is, then the states at the ends of its stretches, lane after lane.
@group(0) @binding(1) var<storage, read_write> here: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> states: array<vec2<u32>>;
//PIECES

const STEPS = 4u;
// The constant of the mix: 0x9e3779b97f4a7c15.
const FACTOR = vec2<u32>(0x7f4a7c15u, 0x9e3779b9u);

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= ask[3].x {
        return;
    }
    var state = here[id.x];
    for (var done = ask[3].z; done < ask[3].z + ask[3].w; done++) {
        let number = id.x * ask[3].y + done;
        for (var step = 0u; step < STEPS; step++) {
            let line = place(state, ask[2].z);
            state ^= ask[2].xy ^ vec2<u32>(number * STEPS + step, 0u);
            for (var four = 0u; four < 4u; four++) {
                let words = table(line / ask[2].w, (line % ask[2].w) * 4u + four);
                state = mix(mix(state, words.xy), words.zw);
            }
        }
        states[number] = state;
    }
    here[id.x] = state;
}

fn mix(state: vec2<u32>, word: vec2<u32>) -> vec2<u32> {
    let x = state ^ word;
    let low = wide(x.x, FACTOR.x);
    let high = low.y + x.x * FACTOR.y + x.y * FACTOR.x;
    return vec2<u32>(low.x ^ high, high);
}

// The upper half of state x lines: no table here has 2^32 lines.
fn place(state: vec2<u32>, lines: u32) -> u32 {
    let low = wide(state.x, lines);
    let high = wide(state.y, lines);
    let middle = high.x + low.y;
    return high.y + select(0u, 1u, middle < low.y);
}

// a x b as low and high word.
fn wide(a: u32, b: u32) -> vec2<u32> {
    let al = a & 0xffffu;
    let ah = a >> 16u;
    let bl = b & 0xffffu;
    let bh = b >> 16u;
    let mid = ah * bl + ((al * bl) >> 16u);
    let mid2 = al * bh + (mid & 0xffffu);
    return vec2<u32>(a * b, ah * bh + (mid >> 16u) + (mid2 >> 16u));
}

fn table(piece: u32, at: u32) -> vec4<u32> {
    //READS
    return vec4<u32>();
}
