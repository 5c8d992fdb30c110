//! The target `proof` under libFuzzer: `src/targets/proof.rs` says what it does.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pasture_fuzz::targets::proof(data));
