//! The target `ticket` under libFuzzer: `src/targets/ticket.rs` says what it does.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pasture_fuzz::targets::ticket(data));
