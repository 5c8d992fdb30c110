// C = X B for some columns of a piece of B. Completed by multiply.rs: TILE is a workgroup's side, DEPTH the words of K that it holds at a time.

// Words of a row of X, rows; columns of the piece, first of those computed; how many; sums of a row of all layers; where this layer's piece begins.
@group(0) @binding(0) var<uniform> ask: array<vec4<u32>, 4>;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> b: array<u32>;
@group(0) @binding(3) var<storage, read_write> c: array<i32>;

var<workgroup> xs: array<u32, TILE * DEPTH>;
var<workgroup> bs: array<u32, TILE * DEPTH>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) place: u32) {
    let corner = vec2<u32>(group.x * TILE, group.y * TILE);
    let across = place % 16u;
    let down = place / 16u;
    let words = ask[2].x;
    //SUMS
    for (var first = 0u; first < words; first += DEPTH) {
        //LOADS
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            //READS
            //ADDS
        }
        workgroupBarrier();
    }
    let row = corner.y + down;
    let column = corner.x + across;
    //STORES
}

// One word of each tile; zero beyond the edges, which adds nothing.
fn load(at: u32, first: u32, corner: vec2<u32>) {
    let words = ask[2].x;
    let row = corner.y + at / DEPTH;
    let k = first + at % DEPTH;
    var word = 0u;
    if row < ask[2].y && k < words {
        word = x[row * words + k];
    }
    xs[at] = word;
    let down = first + at / TILE;
    let column = corner.x + at % TILE;
    word = 0u;
    if down < words && column < ask[3].x {
        word = b[down * ask[2].z + ask[2].w + column];
    }
    bs[at] = word;
}

fn put(row: u32, column: u32, sum: i32) {
    if row < ask[2].y && column < ask[3].x {
        c[row * ask[3].y + ask[3].z + ask[2].w + column] = sum;
    }
}
