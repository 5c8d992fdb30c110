//! Proofs that a chain made, and the validators that certified them: the light client's own frozen ones. A handover and a
//! checkpoint beside them, of validators that are made up.

use pasture_light::{StateProof, Validator, ValidatorSet};
use std::sync::LazyLock;

const PROOFS: &str = include_str!("../../crates/light/tests/golden/proofs.txt");
const HANDOVER: &str = include_str!("../../crates/light/tests/golden/handover.txt");
const BLS_KEY: &str = include_str!("../../crates/light/tests/golden/bls_key.txt");
/// The validator's vote key: that of the tests of `chain`.
const KEY: &str = "fd1724385aa0c75b64fb78cd602fa1d991fdebf76b13c58ed702eac835e9f618";
const ZONE: [u8; 32] = [42; 32];

static FROZEN: LazyLock<Vec<StateProof>> =
    LazyLock::new(|| bytes().iter().map(|b| StateProof::decode(b).expect("a frozen proof")).collect());
static TRUSTED: LazyLock<ValidatorSet> = LazyLock::new(|| {
    let digits = |text: &str| hex::decode(text.trim()).expect("frozen hex");
    let member = Validator { key: digits(KEY).try_into().expect("32 bytes"), bls_key: digits(BLS_KEY).try_into().expect("96 bytes") };
    ValidatorSet::new(ZONE, vec![member]).expect("one validator")
});

/// The proofs as they are frozen.
#[must_use]
pub fn bytes() -> Vec<Vec<u8>> {
    PROOFS.lines().filter_map(|line| hex::decode(line.split_once(' ')?.1).ok()).collect()
}

/// The proof of a record, and of an absence.
#[must_use]
pub fn frozen() -> &'static [StateProof] {
    &FROZEN
}

/// Who certified them.
#[must_use]
pub fn trusted() -> ValidatorSet {
    TRUSTED.clone()
}

/// A line of the frozen handover: `validators` that hand over, the `handover`, the `checkpoint` after it.
#[must_use]
pub fn handover(line: &str) -> Vec<u8> {
    let digits = HANDOVER.lines().find_map(|l| l.strip_prefix(line)).expect("a frozen line");
    hex::decode(digits.trim()).expect("frozen hex")
}
