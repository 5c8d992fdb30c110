//! The light client's own code against what the engine makes: headers, certificates, the store's proofs.

#![cfg(test)]

mod common;

use common::{Counter, DELETE, GENESIS_KEY, PUT, genesis, identity, named_key, options, start, tx};
use commonware_codec::{Encode as _, FixedSize as _, ReadExt as _};
use commonware_consensus::simplex::{
    scheme::ed25519::Scheme,
    types::{Finalization, Finalize, Proposal},
};
use commonware_consensus::types::{Epoch, Round, View};
use commonware_cryptography::{Signer as _, ed25519, sha256};
use commonware_parallel::Sequential;
use commonware_utils::ordered::Set;
use pasture_chain::{Chain, HEADER_SIZE, Header, StateProof};
use pasture_light::{Certificate, LightError, ValidatorSet};
use pasture_rt::ManualClock;
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

fn bytes(header: &Header) -> [u8; pasture_light::HEADER_SIZE] {
    header.encode().try_into().unwrap()
}

fn light(key: &[u8], proof: &StateProof) -> pasture_light::StateProof {
    pasture_light::StateProof {
        headers: proof.finality.headers.iter().map(bytes).collect(),
        certificate: proof.finality.certificate.clone(),
        key: key.to_vec(),
        value: proof.value.clone(),
        store: proof.proof.clone(),
    }
}

fn trusted() -> ValidatorSet {
    let validator = identity().validator();
    let member = pasture_light::Validator { key: validator.key, bls_key: validator.bls_key.try_into().unwrap() };
    ValidatorSet::new(genesis().zone, vec![member]).unwrap()
}

async fn put(chain: &Chain, seq: u64, name: u8, value: &[u8]) {
    let change = [&[name][..], value].concat();
    chain.submit(tx(1, 0, seq, PUT, &change)).unwrap().finalized().await.unwrap();
}

/// Proves a few keys, there and not there, and checks each the light way.
async fn check(chain: &Chain, trusted: &ValidatorSet, names: impl Iterator<Item = u8>) -> u64 {
    let mut most = 0;
    for name in names {
        let key = named_key(name);
        let proof = chain.prove(&key).await.unwrap();
        let proof = light(&key, &proof);
        let verified = pasture_light::verify(trusted, &proof).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(verified.value, proof.value);
        assert_eq!((verified.votes, verified.validators), (1, 1));
        most = most.max(peaks_set_apart(&proof));
        // The opposite claim with the same evidence is refused.
        let lie = pasture_light::StateProof { value: proof.value.is_none().then(|| b"money".to_vec()), ..proof };
        assert!(pasture_light::verify(trusted, &lie).is_err());
    }
    most
}

/// The third number of the store's proof, after place and bitmap chunk and operations: peaks that are folded separately.
fn peaks_set_apart(proof: &pasture_light::StateProof) -> u64 {
    let bytes = &proof.store[usize::from(proof.value.is_none())..];
    let (_place, bytes) = varint(bytes);
    let (_operations, bytes) = varint(&bytes[32..]);
    varint(bytes).0
}

fn varint(bytes: &[u8]) -> (u64, &[u8]) {
    let length = bytes.iter().take_while(|b| **b >= 0x80).count() + 1;
    let (head, rest) = bytes.split_at(length);
    (head.iter().rev().fold(0, |n, b| n << 7 | u64::from(b & 0x7f)), rest)
}

#[tokio::test]
async fn what_the_chain_proves_is_verified_without_the_engine() {
    let dir = tempfile::tempdir().unwrap();
    let chain = start(dir.path());
    let trusted = trusted();
    let (mut seq, mut set_apart) = (0, 0);
    // Through the sizes at which the store's tree changes its shape: chunks of the bitmap, inactive peaks, deleted keys.
    for round in 0..60u64 {
        let waiting: Vec<_> = (0..12u64)
            .map(|i| {
                let name = u8::try_from((round * 7 + i * 11) % 200).unwrap();
                let op = if (round + i) % 5 == 4 { DELETE } else { PUT };
                let change = [&[name][..], &vec![name; usize::from(name)]].concat();
                seq += 1;
                chain.submit(tx(1, 0, seq - 1, op, &change)).unwrap()
            })
            .collect();
        for pending in waiting {
            pending.finalized().await.unwrap();
        }
        let from = u8::try_from(round % 200).unwrap();
        set_apart = set_apart.max(check(&chain, &trusted, from..from + 6).await);
    }
    check(&chain, &trusted, 0..=255).await;
    let proof = chain.prove(GENESIS_KEY).await.unwrap();
    assert!(set_apart > 0, "no proof had peaks that are folded separately");
    assert!(proof.header.ops_end > 1_000, "{} operations are too few to have tried the tree", proof.header.ops_end);
    assert_eq!(pasture_light::verify(&trusted, &light(GENESIS_KEY, &proof)).unwrap().header.height, proof.header.height);
    chain.shutdown(SOON).await.unwrap();
}

#[tokio::test]
async fn a_certificate_of_a_later_block_covers_an_earlier_one() {
    let dir = tempfile::tempdir().unwrap();
    let chain = start(dir.path());
    for seq in 0..5 {
        put(&chain, seq, 3, &[u8::try_from(seq).unwrap()]).await;
    }
    let tip = chain.status().height;
    let mut headers = vec![];
    for height in tip - 2..=tip {
        headers.push(bytes(&chain.block(height).await.unwrap().unwrap().header));
    }
    let certificate = chain.finality(tip).await.unwrap().unwrap();
    let (first, votes) = pasture_light::verify_header(&trusted(), &headers, &certificate).unwrap();
    assert_eq!((first.height, votes), (tip - 2, 1));
    headers.remove(1);
    assert_eq!(pasture_light::verify_header(&trusted(), &headers, &certificate), Err(LightError::BrokenChain { index: 1 }));
    headers.pop();
    assert_eq!(pasture_light::verify_header(&trusted(), &headers, &certificate), Err(LightError::HeaderNotCertified));
    chain.shutdown(SOON).await.unwrap();
}

#[tokio::test]
async fn headers_and_sets_are_read_as_they_were_written() {
    let dir = tempfile::tempdir().unwrap();
    let chain = start(dir.path());
    put(&chain, 0, 1, b"x").await;
    let header = chain.state().unwrap().header().clone();
    let read = pasture_light::Header::decode(&bytes(&header)).unwrap();
    assert_eq!(HEADER_SIZE, pasture_light::HEADER_SIZE);
    assert_eq!(read.digest, header.digest());
    assert_eq!((read.zone, read.height, read.parent), (header.zone, header.height, header.parent));
    assert_eq!((read.timestamp_ms, read.state_root, read.validators), (header.timestamp_ms, header.state_root, header.validators));
    assert_eq!(trusted().hash(), &header.validators);
    chain.shutdown(SOON).await.unwrap();
}

fn key(seed: u8) -> ed25519::PrivateKey {
    ed25519::PrivateKey::read(&mut bytes::Bytes::copy_from_slice(&[seed; ed25519::PrivateKey::SIZE])).unwrap()
}

/// A certificate of `votes` of `n` validators, made by the engine.
fn engine_certificate(n: u8, votes: u8) -> Option<(ValidatorSet, Vec<u8>)> {
    let keys: Vec<_> = (1..=n).map(key).collect();
    let participants = Set::from_iter_dedup(keys.iter().map(ed25519::PrivateKey::public_key));
    let proposal = Proposal::new(Round::new(Epoch::new(0), View::new(300)), View::new(299), sha256::Digest([7; 32]));
    let namespace = pasture_types::votes::vote_namespace(&pasture_types::ZoneId([1; 32]));
    let schemes: Vec<Scheme> = keys.iter().map(|key| Scheme::signer(&namespace, participants.clone(), key.clone()).unwrap()).collect();
    let finalizes: Vec<_> = schemes.iter().take(votes.into()).map(|s| Finalize::sign(s, proposal.clone()).unwrap()).collect();
    let (first, rest) = finalizes.split_first()?;
    let votes = commonware_utils::iter::NonEmpty::new(first, rest.iter());
    let certificate = Finalization::from_finalizes(&schemes[0], votes, &Sequential).ok()?;
    let raw = |key: &ed25519::PrivateKey| -> [u8; 32] { key.public_key().as_ref().try_into().unwrap() };
    let members = keys.iter().map(|key| pasture_light::Validator { key: raw(key), bls_key: [0; 96] }).collect();
    Some((ValidatorSet::new([1; 32], members).unwrap(), certificate.encode().to_vec()))
}

#[test]
fn certificates_of_many_validators_verify_and_the_engine_needs_the_same_quorum() {
    for n in [1u8, 2, 3, 4, 5, 7, 9, 10, 16, 33, 100] {
        let quorum = u8::try_from(engine_certificate(n, n).unwrap().0.quorum()).unwrap();
        for votes in [quorum, n] {
            let (set, bytes) = engine_certificate(n, votes).unwrap();
            let certificate = Certificate::decode(&bytes).unwrap();
            assert_eq!(certificate.digest, [7; 32]);
            assert_eq!((certificate.term, certificate.view), (0, 300));
            assert_eq!(certificate.signatures.len(), usize::from(votes));
            certificate.verify(&set).unwrap_or_else(|e| panic!("{votes} of {n}: {e}"));
        }
        assert!(engine_certificate(n, quorum - 1).is_none(), "the engine makes a certificate of {} of {n}", quorum - 1);
    }
}

/// The fixture of the light client's own tests: written where it says when the format changes.
#[tokio::test]
async fn the_frozen_proofs_are_what_the_chain_makes() {
    let frozen = include_str!("../../light/tests/golden/proofs.txt");
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.clock = Arc::new(ManualClock::new(10_000_000));
    let chain = Chain::start(options, Arc::new(Counter)).unwrap();
    for seq in 0..40 {
        put(&chain, seq, u8::try_from(seq).unwrap(), &seq.to_be_bytes()).await;
    }
    let mut text = String::new();
    for name in [5u8, 200] {
        let proof = light(&named_key(name), &chain.prove(&named_key(name)).await.unwrap());
        assert!(pasture_light::verify(&trusted(), &proof).is_ok());
        text.push_str(&format!("{} {}\n", if proof.value.is_some() { "present" } else { "absent" }, hex::encode(proof.encode())));
    }
    chain.shutdown(SOON).await.unwrap();
    // Rounds that were given up under load leave their number in the bytes: then the frozen proofs must still verify.
    let same_rounds = |line: &str| line.len();
    let path = std::env::temp_dir().join("pasture-light-proofs.txt");
    std::fs::write(&path, &text).unwrap();
    assert_eq!(
        frozen.lines().map(same_rounds).collect::<Vec<_>>(),
        text.lines().map(same_rounds).collect::<Vec<_>>(),
        "the format changed; if that is meant, copy {} over crates/light/tests/golden/proofs.txt",
        path.display()
    );
    for line in frozen.lines() {
        let bytes = hex::decode(line.split_once(' ').unwrap().1).unwrap();
        let proof = pasture_light::StateProof::decode(&bytes).unwrap();
        pasture_light::verify(&trusted(), &proof).unwrap();
    }
}
