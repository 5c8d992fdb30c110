//! The frozen proofs, and the same proofs under any number of validators.

#![allow(dead_code, reason = "each test and the benchmark use a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests: clippy.toml exempts test functions only"
)]

use ed25519_zebra::{SigningKey, VerificationKey};
use pasture_light::{HEADER_SIZE, Handover, Header, StateProof, Validator, ValidatorSet};

/// Where the header has its height, its time, the hash of its validator set, and that of the next one.
pub(crate) const HEIGHT_AT: usize = 34;
pub(crate) const TIME_AT: usize = 82;
pub(crate) const VALIDATORS_AT: usize = 202;
pub(crate) const NEXT_AT: usize = VALIDATORS_AT + 32;
/// The zone of the frozen proofs.
pub(crate) const ZONE: [u8; 32] = [42; 32];
/// The validator that made them: `chain`'s test identity.
const KEY: &str = "fd1724385aa0c75b64fb78cd602fa1d991fdebf76b13c58ed702eac835e9f618";

/// The proof of a record that is there, and of one that is not.
pub(crate) fn frozen() -> [StateProof; 2] {
    let text = include_str!("../golden/proofs.txt");
    let mut proofs = text.lines().map(|line| {
        let bytes = hex::decode(line.split_once(' ').unwrap().1).unwrap();
        StateProof::decode(&bytes).unwrap()
    });
    [proofs.next().unwrap(), proofs.next().unwrap()]
}

/// The bytes that the proofs are frozen as.
pub(crate) fn frozen_bytes() -> Vec<Vec<u8>> {
    include_str!("../golden/proofs.txt").lines().map(|line| hex::decode(line.split_once(' ').unwrap().1).unwrap()).collect()
}

/// The set that certified them.
pub(crate) fn trusted() -> ValidatorSet {
    let bls = include_str!("../golden/bls_key.txt").trim();
    let member = Validator { key: hex::decode(KEY).unwrap().try_into().unwrap(), bls_key: hex::decode(bls).unwrap().try_into().unwrap() };
    ValidatorSet::new(ZONE, vec![member]).unwrap()
}

/// Validators with known keys.
pub(crate) struct Validators {
    /// In the set's order.
    pub(crate) keys: Vec<SigningKey>,
    /// The set.
    pub(crate) set: ValidatorSet,
}

impl Validators {
    pub(crate) fn new(n: u8) -> Self {
        Self::of(1..=n)
    }

    /// Those with these secrets.
    pub(crate) fn of(seeds: impl IntoIterator<Item = u8>) -> Self {
        let mut keys: Vec<SigningKey> = seeds.into_iter().map(|seed| SigningKey::from_bytes(&[seed; 32])).collect();
        keys.sort_by_key(public);
        let members = keys.iter().map(|key| Validator { key: public(key), bls_key: [public(key)[0]; 96] }).collect();
        Self { set: ValidatorSet::new(ZONE, members).unwrap(), keys }
    }

    /// The same proof as if these validators, of whom `signers` sign, had made the block.
    pub(crate) fn prove(&self, mut proof: StateProof, signers: &[usize]) -> StateProof {
        let header = proof.headers.last_mut().unwrap();
        for at in [VALIDATORS_AT, NEXT_AT] {
            header[at..at + 32].copy_from_slice(self.set.hash());
        }
        proof.certificate = self.certify(header, signers, &proof.certificate);
        proof
    }

    /// The handover to others at a height and a ledger time, signed by a quorum.
    pub(crate) fn hand_over(&self, next: &ValidatorSet, height: u64, time_ms: u64) -> Handover {
        let [proof, _] = frozen();
        let mut header = proof.headers[0];
        header[HEIGHT_AT..HEIGHT_AT + 8].copy_from_slice(&height.to_be_bytes());
        header[TIME_AT..TIME_AT + 8].copy_from_slice(&time_ms.to_be_bytes());
        header[VALIDATORS_AT..NEXT_AT].copy_from_slice(self.set.hash());
        header[NEXT_AT..NEXT_AT + 32].copy_from_slice(next.hash());
        Handover { header, certificate: self.certify(&header, &self.quorum(), &proof.certificate), next: next.clone() }
    }

    /// A certificate of a header by some of these validators; the rounds are those of another certificate.
    pub(crate) fn certify(&self, header: &[u8; HEADER_SIZE], signers: &[usize], rounds: &[u8]) -> Vec<u8> {
        let digest = Header::decode(header).unwrap().digest;
        let rounds_end = (0..3).fold(0, |at, _| at + rounds[at..].iter().take_while(|b| **b >= 0x80).count() + 1);
        let mut certificate = rounds[..rounds_end].to_vec();
        certificate.extend_from_slice(&digest);
        let message = [&[65u8][..], b"pasture 2026-11 votes v2", self.set.zone(), b"_FINALIZE", &certificate].concat();
        certificate.extend_from_slice(&(self.keys.len() as u64).to_be_bytes());
        let mut bitmap = vec![0u8; self.keys.len().div_ceil(8)];
        for signer in signers {
            bitmap[signer / 8] |= 1 << (signer % 8);
        }
        certificate.extend_from_slice(&bitmap);
        let count = signers.len();
        if count >= 0x80 {
            certificate.push((count & 0x7f) as u8 | 0x80);
            certificate.push((count >> 7) as u8);
        } else {
            certificate.push(count as u8);
        }
        for signer in signers {
            certificate.extend_from_slice(&self.keys[*signer].sign(&message).to_bytes());
        }
        certificate
    }

    pub(crate) fn quorum(&self) -> Vec<usize> {
        (0..self.set.quorum()).collect()
    }
}

fn public(key: &SigningKey) -> [u8; 32] {
    VerificationKey::from(key).into()
}
