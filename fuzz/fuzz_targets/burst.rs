//! The target `burst` under libFuzzer: `src/targets/burst.rs` says what it does.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pasture_fuzz::targets::burst(data));
