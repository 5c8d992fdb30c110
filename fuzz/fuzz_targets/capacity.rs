//! The target `capacity` under libFuzzer: `src/targets/capacity.rs` says what it does.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pasture_fuzz::targets::capacity(data));
