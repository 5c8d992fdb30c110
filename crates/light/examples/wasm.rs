//! The light verifier as a WebAssembly module: what a browser loads. `scripts/wasm.sh` builds it and runs it in Node.
//!
//! One call: the host asks for room ([`input`]), writes an encoded validator set and, right after it, an encoded state proof,
//! and calls [`check`]. The answer is a number; [`answer`] and [`answer_len`] are its text: the proven value, or what is wrong.
//! Guarantees: no import, so nothing of the host is reachable from here; sizes are bounded before memory is taken.

#![allow(unsafe_code, reason = "an exported name is an unsafe attribute; nothing else here is unsafe")]

use pasture_light::{MAX_PROOF, StateProof, ValidatorSet, verify};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The proof holds and shows a value.
const PRESENT: u32 = 0;
/// The proof holds and shows that there is none.
const ABSENT: u32 = 1;
/// The proof does not hold.
const REFUSED: u32 = 2;
/// A set of 128 validators and a little.
const MAX_SET: usize = 34 + 128 * 128;

static INPUT: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static ANSWER: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn lock(bytes: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    bytes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Room for so many bytes; null if that is more than a set and a proof can have.
#[unsafe(no_mangle)]
pub extern "C" fn input(size: usize) -> *mut u8 {
    let mut input = lock(&INPUT);
    input.clear();
    if size > MAX_SET + MAX_PROOF {
        return std::ptr::null_mut();
    }
    input.resize(size, 0);
    input.as_mut_ptr()
}

/// Checks what was written.
#[unsafe(no_mangle)]
pub extern "C" fn check() -> u32 {
    let input = lock(&INPUT);
    let shown = ValidatorSet::split(&input).map_err(|e| e.to_string()).and_then(|(trusted, proof)| {
        let proof = StateProof::decode(proof).and_then(|proof| verify(&trusted, &proof));
        proof.map_err(|e| e.to_string())
    });
    let (code, text) = match shown {
        Ok(shown) => match shown.value {
            Some(value) => (PRESENT, value),
            None => (ABSENT, Vec::new()),
        },
        Err(why) => (REFUSED, why.into_bytes()),
    };
    *lock(&ANSWER) = text;
    code
}

/// Where the answer is.
#[unsafe(no_mangle)]
pub extern "C" fn answer() -> *const u8 {
    lock(&ANSWER).as_ptr()
}

/// How long it is.
#[unsafe(no_mangle)]
pub extern "C" fn answer_len() -> usize {
    lock(&ANSWER).len()
}
