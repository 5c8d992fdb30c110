//! The target `herd` under libFuzzer: `src/targets/herd.rs` says what it does.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pasture_fuzz::targets::herd(data));
