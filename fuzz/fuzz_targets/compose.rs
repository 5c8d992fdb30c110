//! The target `compose` under libFuzzer: `src/targets/compose.rs` says what it does.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pasture_fuzz::targets::compose(data));
