// What is compared with: C = A B in float32, as textbooks write it: tiles of sixteen in a workgroup's memory, one sum an invocation.

// Width of the square matrices, a multiple of sixteen.
@group(0) @binding(0) var<uniform> ask: array<vec4<u32>, 4>;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

var<workgroup> left: array<array<f32, 16>, 16>;
var<workgroup> top: array<array<f32, 16>, 16>;

@compute @workgroup_size(16, 16)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_id) at: vec3<u32>) {
    let n = ask[2].x;
    var sum = 0.0;
    for (var first = 0u; first < n; first += 16u) {
        left[at.y][at.x] = a[id.y * n + first + at.x];
        top[at.y][at.x] = b[(first + at.y) * n + id.x];
        workgroupBarrier();
        for (var k = 0u; k < 16u; k++) {
            sum += left[at.y][k] * top[k][at.x];
        }
        workgroupBarrier();
    }
    c[id.y * n + id.x] = sum;
}
