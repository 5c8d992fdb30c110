// Runs the light verifier's WebAssembly module on the frozen proofs: each holds, and no change of one byte does.
//   node scripts/wasm.mjs MODULE.wasm
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const golden = new URL("../crates/light/tests/golden/", import.meta.url);
const text = (name) => readFileSync(new URL(name, golden), "utf8").trim();
const bytes = readFileSync(process.argv[2]);
const module = new WebAssembly.Module(bytes);
assert.deepEqual(WebAssembly.Module.imports(module), [], "the module asks for something of its host");
const { input, check, answer, answer_len, memory } = new WebAssembly.Instance(module).exports;

// What a zone's genesis says: version, zone, one validator with its two keys.
const zone = Buffer.alloc(32, 42);
const key = Buffer.from("fd1724385aa0c75b64fb78cd602fa1d991fdebf76b13c58ed702eac835e9f618", "hex");
const trusted = Buffer.concat([Buffer.of(1), zone, Buffer.of(1), key, Buffer.from(text("bls_key.txt"), "hex")]);

const [PRESENT, ABSENT, REFUSED] = [0, 1, 2];
function verify(proof) {
  const whole = Buffer.concat([trusted, proof]);
  const at = input(whole.length);
  assert.notEqual(at, 0);
  new Uint8Array(memory.buffer, at, whole.length).set(whole);
  const code = check();
  return { code, said: Buffer.from(new Uint8Array(memory.buffer, answer(), answer_len())) };
}

let runs = 0;
for (const line of text("proofs.txt").split("\n")) {
  const [kind, digits] = line.split(" ");
  const proof = Buffer.from(digits, "hex");
  const { code, said } = verify(proof);
  assert.equal(code, kind === "present" ? PRESENT : ABSENT, said.toString());
  if (kind === "present") assert.equal(said.readBigUInt64BE(), 5n);
  // A byte of the certificate, which stands before the key; then of the store's proof, behind it.
  const certificate = 2 + 402 + 4;
  for (const at of [2, 100, certificate + 10, certificate + 90, proof.length - 1, proof.length - 40]) {
    const changed = Buffer.from(proof);
    changed[at] ^= 1;
    const lie = verify(changed);
    assert.equal(lie.code, REFUSED, `a change of byte ${at} was not seen`);
    assert.ok(lie.said.length > 10);
    runs += 1;
  }
}
assert.equal(input(1 << 30), 0, "there was room for a gibibyte");
const [proof] = text("proofs.txt").split("\n").map((line) => Buffer.from(line.split(" ")[1], "hex"));
const begun = process.hrtime.bigint();
const times = 200;
for (let i = 0; i < times; i++) assert.equal(verify(proof).code, PRESENT);
const micros = Number(process.hrtime.bigint() - begun) / 1000 / times;
console.log(`light verifier: ${bytes.length} bytes of wasm; 2 proofs hold, ${runs} changed ones do not; ${micros.toFixed(0)} us each in Node ${process.version}`);
