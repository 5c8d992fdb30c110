//! Proofs that the chain made, and every way of changing them.

#![cfg(test)]

mod common;

use common::{Validators, ZONE, frozen, frozen_bytes, trusted};
use pasture_light::{Certificate, Header, LightError, MAX_HEADERS, MAX_KEY, StateProof, Validator, ValidatorSet, verify};
use proptest::prelude::*;

#[test]
fn the_frozen_proofs_verify_and_have_one_encoding() {
    let [present, absent] = frozen();
    for (proof, bytes) in [&present, &absent].into_iter().zip(frozen_bytes()) {
        assert_eq!(proof.encode(), bytes);
    }
    let shown = verify(&trusted(), &present).unwrap();
    assert_eq!((shown.key.as_slice(), shown.value.as_deref()), (&b"n\x05"[..], Some(&5u64.to_be_bytes()[..])));
    assert_eq!((shown.votes, shown.validators, shown.header.timestamp_ms), (1, 1, 10_000_000));
    let shown = verify(&trusted(), &absent).unwrap();
    assert_eq!((shown.key.as_slice(), shown.value), (&b"n\xc8"[..], None));
}

#[test]
fn no_byte_can_be_flipped() {
    let trusted = trusted();
    for (proof, bytes) in frozen().iter().zip(frozen_bytes()) {
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                // The same absence proof may also show that a neighbouring key is absent; but not the one asked for.
                let shown = StateProof::decode(&changed).and_then(|p| verify(&trusted, &p)).and_then(|v| v.about(&proof.key));
                assert!(shown.is_err(), "bit {bit} of byte {at} of {} changes nothing", bytes.len());
            }
        }
        for length in 0..bytes.len() {
            assert!(StateProof::decode(&bytes[..length]).is_err());
        }
        assert!(StateProof::decode(&[&bytes[..], &[0]].concat()).is_err());
    }
}

#[test]
fn a_quorum_of_any_number_of_validators_is_enough_and_less_is_not() {
    for n in [1u8, 2, 3, 4, 5, 7, 10, 13, 16, 31, 64, 127, 128] {
        let validators = Validators::new(n);
        let quorum = validators.set.quorum();
        let last: Vec<usize> = (usize::from(n) - quorum..usize::from(n)).collect();
        for signers in [validators.quorum(), last, (0..usize::from(n)).collect()] {
            for proof in frozen() {
                let shown = verify(&validators.set, &validators.prove(proof, &signers)).unwrap_or_else(|e| panic!("{n}: {e}"));
                assert_eq!((shown.votes, shown.validators), (signers.len(), usize::from(n)));
            }
        }
        let [proof, _] = frozen();
        let few: Vec<usize> = (0..quorum - 1).collect();
        let refused = verify(&validators.set, &validators.prove(proof, &few));
        assert_eq!(refused, Err(LightError::TooFewVotes { votes: quorum - 1, validators: n.into(), quorum }));
    }
}

#[test]
fn each_way_of_lying_has_its_name() {
    let validators = Validators::new(4);
    let [original, absent] = frozen();
    let good = validators.prove(original, &[0, 1, 2]);
    let set = &validators.set;
    assert!(verify(set, &good).is_ok());
    let refused = |change: &dyn Fn(&mut StateProof)| {
        let mut proof = good.clone();
        change(&mut proof);
        verify(set, &proof).unwrap_err()
    };

    let elsewhere = ValidatorSet::new([43; 32], set.members().to_vec()).unwrap();
    assert_eq!(verify(&elsewhere, &good), Err(LightError::WrongZone { found: ZONE }));
    // Others, as many of them: the header does not name them.
    assert!(matches!(verify(&Validators::new(5).set, &good), Err(LightError::OtherValidators { .. })));
    // A header that names them, signed by somebody else.
    let foreign = Validators::new(9);
    let signed = |by: &Validators, who: &[usize]| {
        let mut proof = good.clone();
        proof.certificate = by.certify(proof.headers.last().unwrap(), who, &good.certificate);
        verify(set, &proof).unwrap_err()
    };
    assert_eq!(signed(&foreign, &[0, 1, 8]), LightError::UnknownSigner { index: 8, validators: 4 });
    assert_eq!(signed(&foreign, &[0, 1, 2]), LightError::WrongSetSize { found: 9, validators: 4 });
    assert_eq!(signed(&Validators::new(3), &[0, 1, 2]), LightError::WrongSetSize { found: 3, validators: 4 });

    // One signature twice: under two names, or beside one.
    let at = good.certificate.len() - 64;
    let twice = refused(&|p| p.certificate.copy_within(at - 64..at, at));
    assert_eq!(twice, LightError::BadSignature { index: 2 });
    let bits = at - 2 * 64 - 1 - 1;
    assert_eq!(refused(&|p| p.certificate[bits] = 0b011), LightError::SignerCount { signers: 2, signatures: 3 });
    assert_eq!(refused(&|p| p.certificate[bits] = 0b1_0011), LightError::UnknownSigner { index: 4, validators: 4 });
    assert_eq!(refused(&|p| p.certificate[at + 5] ^= 1), LightError::BadSignature { index: 2 });

    // Another header than the certified one: all of its fields.
    assert_eq!(refused(&|p| p.headers[0][90] ^= 1), LightError::HeaderNotCertified);
    assert_eq!(refused(&|p| p.headers[0][0] ^= 1), LightError::UnknownVersion { part: "the header", found: 0x103, known: 3 });
    assert_eq!(refused(&|p| p.headers.push(p.headers[0])), LightError::BrokenChain { index: 1 });
    assert!(matches!(refused(&|p| p.headers.clear()), LightError::Malformed { part: "headers", .. }));
    assert!(matches!(refused(&|p| p.headers = vec![p.headers[0]; MAX_HEADERS + 1]), LightError::TooLong { part: "headers", .. }));

    // Another record.
    assert_eq!(refused(&|p| p.value = Some(b"money".to_vec())), LightError::RootMismatch);
    assert_eq!(refused(&|p| p.key = b"n\x06".to_vec()), LightError::RootMismatch);
    assert_eq!(refused(&|p| *p.store.last_mut().unwrap() ^= 1), LightError::RootMismatch, "the next key");
    let chunk = good.store.iter().take_while(|b| **b >= 0x80).count() + 1;
    assert_eq!(refused(&|p| p.store[chunk..chunk + 32].fill(0)), LightError::Inactive);
    assert!(matches!(refused(&|p| p.store[0] ^= 0x01), LightError::Inactive | LightError::Path(_) | LightError::RootMismatch));
    assert!(matches!(refused(&|p| p.key = vec![0; MAX_KEY + 1]), LightError::TooLong { part: "key", .. }));
    // What is there cannot be shown to be absent, nor the reverse.
    assert!(matches!(refused(&|p| p.value = None), LightError::Malformed { part: "store proof", .. } | LightError::Path(_)));
    let absent = validators.prove(absent, &[0, 1, 2]);
    assert!(verify(set, &StateProof { value: Some(vec![]), ..absent.clone() }).is_err());
    let between = good.key.clone();
    assert!(matches!(verify(set, &StateProof { key: between, ..absent }), Err(LightError::NotBetween | LightError::RootMismatch)));

    // Sound, but not what was asked.
    let shown = verify(set, &good).unwrap();
    let (height, time_ms) = (shown.header.height, shown.header.timestamp_ms);
    assert_eq!(shown.clone().about(b"n\x06"), Err(LightError::OtherKey));
    assert_eq!(shown.clone().with_value(None), Err(LightError::ValueDiffers));
    assert_eq!(shown.clone().since(height + 1, 0), Err(LightError::Older { height, time_ms }));
    assert_eq!(shown.clone().since(0, time_ms + 1), Err(LightError::Older { height, time_ms }));
    assert!(shown.since(height, time_ms).is_ok());
}

#[test]
fn headers_between_the_state_and_the_certificate_must_be_a_chain() {
    let validators = Validators::new(4);
    let [proof, _] = frozen();
    let mut proof = validators.prove(proof, &[0, 1, 2]);
    for _ in 0..3 {
        let parent = Header::decode(proof.headers.last().unwrap()).unwrap();
        let mut child = *proof.headers.last().unwrap();
        child[34..42].copy_from_slice(&(parent.height + 1).to_be_bytes());
        child[50..82].copy_from_slice(&parent.digest);
        child[90] ^= 1;
        proof.headers.push(child);
    }
    proof.certificate = validators.certify(proof.headers.last().unwrap(), &[1, 2, 3], &proof.certificate);
    let first = Header::decode(&proof.headers[0]).unwrap();
    assert_eq!(verify(&validators.set, &proof).unwrap().header, first, "the state is the first header's");
    for index in 1..4 {
        let mut gap = proof.clone();
        gap.headers.swap(index, index - 1);
        assert!(matches!(verify(&validators.set, &gap), Err(LightError::BrokenChain { .. })), "{index}");
    }
    assert_eq!(StateProof::decode(&proof.encode()), Ok(proof));
}

#[test]
fn the_set_is_part_of_what_is_signed() {
    // The same keys for votes with other keys for randomness are another set.
    let members = trusted().members().iter().map(|m| Validator { bls_key: [1; 96], ..*m }).collect();
    let other = ValidatorSet::new(ZONE, members).unwrap();
    assert!(matches!(verify(&other, &frozen()[0]), Err(LightError::OtherValidators { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_never_verify(which in 0usize..2, n in 1u8..17, edits in proptest::collection::vec((any::<proptest::sample::Index>(), 1u8..), 1..4)) {
        let validators = Validators::new(n);
        let proof = validators.prove(frozen()[which].clone(), &validators.quorum());
        let good = proof.encode();
        let mut bytes = good.clone();
        for (at, change) in edits {
            let at = at.index(bytes.len());
            bytes[at] ^= change;
        }
        prop_assume!(bytes != good);
        let shown = StateProof::decode(&bytes).and_then(|p| verify(&validators.set, &p)).and_then(|v| v.about(&proof.key));
        prop_assert!(shown.is_err());
    }

    #[test]
    fn any_bytes_give_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), which in 0usize..2) {
        prop_assert!(StateProof::decode(&bytes).and_then(|p| verify(&trusted(), &p)).is_err());
        let _ = Certificate::decode(&bytes);
        let mut proof = frozen()[which].clone();
        proof.store = bytes.clone();
        prop_assert!(verify(&trusted(), &proof).is_err());
        proof = frozen()[which].clone();
        proof.certificate = bytes;
        prop_assert!(verify(&trusted(), &proof).is_err());
    }
}
