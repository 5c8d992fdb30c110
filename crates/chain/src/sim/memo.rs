//! What a simulated run verified already: all its validators share one thread, and most of them verify the same bytes.
//!
//! Guarantees: what is remembered depends on bytes alone, and is an answer that the real check gave in this run. Outside of a run nothing
//! is remembered.

use super::Fault;
use crate::genesis::{BlsPublic, Validator};
use commonware_cryptography::ed25519;
use std::cell::RefCell;
use std::collections::HashMap;

type Parsed = Option<(ed25519::PublicKey, BlsPublic)>;

/// Answers that a run remembers of each kind; then it forgets all of them.
const REMEMBERED: usize = 65_536;

#[derive(Default)]
struct Memo {
    keys: HashMap<blake3::Hash, Parsed>,
    signatures: HashMap<blake3::Hash, bool>,
    /// A seeded bug: every certificate is right.
    believes: bool,
}

thread_local! {
    static MEMO: RefCell<Option<Memo>> = const { RefCell::new(None) };
}

/// While it is held, the calling thread remembers.
pub(super) struct Remembering(());

impl Remembering {
    pub(super) fn begin(fault: Option<Fault>) -> Self {
        MEMO.set(Some(Memo { believes: fault == Some(Fault::BelievesCertificates), ..Memo::default() }));
        Self(())
    }
}

impl Drop for Remembering {
    fn drop(&mut self) {
        MEMO.set(None);
    }
}

/// Each part with its length, so that two lists of parts never are the same bytes.
fn hash(parts: &[&[u8]]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
    }
    hasher.finalize()
}

fn remembered<T: Clone>(of: impl Fn(&mut Memo) -> &mut HashMap<blake3::Hash, T>, parts: &[&[u8]], check: impl FnOnce() -> T) -> T {
    let key = MEMO.with_borrow(Option::is_some).then(|| hash(parts));
    let Some(key) = key else { return check() };
    if let Some(known) = MEMO.with_borrow_mut(|memo| memo.as_mut().and_then(|memo| of(memo).get(&key).cloned())) {
        return known;
    }
    let found = check();
    MEMO.with_borrow_mut(|memo| {
        if let Some(memo) = memo {
            let map = of(memo);
            if map.len() >= REMEMBERED {
                map.clear();
            }
            map.insert(key, found.clone());
        }
    });
    found
}

/// A validator's keys, if they are keys and its proof of possession holds.
pub(crate) fn parsed(validator: &Validator, check: impl FnOnce() -> Parsed) -> Parsed {
    remembered(|memo| &mut memo.keys, &[&validator.key, &validator.bls_key, &validator.bls_pop], check)
}

/// Whether a signature is right, by everything that it depends on.
pub(crate) fn verified(parts: &[&[u8]], check: impl FnOnce() -> bool) -> bool {
    remembered(|memo| &mut memo.signatures, parts, check)
}

/// Whether a certificate that was shown to one who joins is right, by everything that it depends on.
pub(crate) fn certified(parts: &[&[u8]], check: impl FnOnce() -> bool) -> bool {
    MEMO.with_borrow(|memo| memo.as_ref().is_some_and(|memo| memo.believes)) || verified(parts, check)
}
