//! The target `handover` under libFuzzer: `src/targets/handover.rs` says what it does.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pasture_fuzz::targets::handover(data));
