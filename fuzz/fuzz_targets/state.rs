//! The target `state` under libFuzzer: `src/targets/state.rs` says what it does.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pasture_fuzz::targets::state(data));
