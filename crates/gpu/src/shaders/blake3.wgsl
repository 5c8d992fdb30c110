// BLAKE3's compression, four columns at a time. Lines that begin here are put before each shader that hashes.

const CHUNK_START = 1u;
const CHUNK_END = 2u;
const PARENT = 4u;
const ROOT = 8u;
const KEYED = 16u;
const IV_LOW = vec4<u32>(0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au);
const IV_HIGH = vec4<u32>(0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u);

// Sixteen words of a message or an output, or a state: rows of four.
struct Words { a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32> }

fn right(x: vec4<u32>, bits: u32) -> vec4<u32> {
    return (x >> vec4<u32>(bits)) | (x << vec4<u32>(32u - bits));
}

fn mix(s: Words, x: vec4<u32>, y: vec4<u32>) -> Words {
    var a = s.a + s.b + x;
    var d = right(s.d ^ a, 16u);
    var c = s.c + d;
    var b = right(s.b ^ c, 12u);
    a = a + b + y;
    d = right(d ^ a, 8u);
    c = c + d;
    b = right(b ^ c, 7u);
    return Words(a, b, c, d);
}

// Sixteen words of output; the first eight are the chaining value. No counter here is 2^32 or more.
fn compress(low: vec4<u32>, high: vec4<u32>, message: Words, counter: u32, length: u32, flags: u32) -> Words {
    var m = message;
    var s = Words(low, high, IV_LOW, vec4<u32>(counter, 0u, length, flags));
    for (var round = 0u; round < 7u; round++) {
        s = mix(s, vec4<u32>(m.a.xz, m.b.xz), vec4<u32>(m.a.yw, m.b.yw));
        s = Words(s.a, s.b.yzwx, s.c.zwxy, s.d.wxyz);
        s = mix(s, vec4<u32>(m.c.xz, m.d.xz), vec4<u32>(m.c.yw, m.d.yw));
        s = Words(s.a, s.b.wxyz, s.c.zwxy, s.d.yzwx);
        m = Words(
            vec4<u32>(m.a.z, m.b.z, m.a.w, m.c.z),
            vec4<u32>(m.b.w, m.a.x, m.b.x, m.d.y),
            vec4<u32>(m.a.y, m.c.w, m.d.x, m.b.y),
            vec4<u32>(m.c.y, m.d.z, m.d.w, m.c.x),
        );
    }
    return Words(s.a ^ s.c, s.b ^ s.d, s.c ^ low, s.d ^ high);
}
