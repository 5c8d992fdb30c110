//! The target `channel` under libFuzzer: `src/targets/channel.rs` says what it does.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pasture_fuzz::targets::channel(data));
