//! The target `export` under libFuzzer: `src/targets/export.rs` says what it does.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pasture_fuzz::targets::export(data));
