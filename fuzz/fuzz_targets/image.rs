//! The target `image` under libFuzzer: `src/targets/image.rs` says what it does.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pasture_fuzz::targets::image(data));
