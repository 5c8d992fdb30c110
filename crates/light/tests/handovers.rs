//! Changes of validators that are followed, and every way of lying about one. The signers are made up; `chain`'s tests hold the
//! same code against what the engine makes.

#![cfg(test)]

mod common;

use common::{HEIGHT_AT, NEXT_AT, TIME_AT, VALIDATORS_AT, Validators, ZONE, frozen, trusted};
use pasture_light::{
    CHECKPOINT_VERSION, Checkpoint, HANDOVER_VERSION, HEADER_SIZE, Handover, Header, LightError, MAX_CERTIFICATE, MAX_CHECKPOINT,
    MAX_HANDOVER, MAX_SET, MAX_VALIDATORS, SetError, StateProof, ValidatorSet, verify_header,
};
use proptest::prelude::*;

const DAY: u64 = 24 * 3_600_000;

/// A proof as these validators would have made it at a height.
fn proof_at(validators: &Validators, height: u64) -> StateProof {
    let [mut proof, _] = frozen();
    proof.headers[0][HEIGHT_AT..HEIGHT_AT + 8].copy_from_slice(&height.to_be_bytes());
    validators.prove(proof, &validators.quorum())
}

fn trust(validators: &Validators) -> Checkpoint {
    Checkpoint::genesis(validators.set.clone(), 1_000, 21 * DAY)
}

#[test]
fn sets_are_followed_one_by_one_also_to_strangers_and_back() {
    let (a, b, c) = (Validators::new(4), Validators::of(10..=16), Validators::of([3, 4, 12, 99]));
    let mut now = trust(&a);
    let mut at = 0;
    for (old, next) in [(&a, &b), (&b, &c), (&c, &a), (&a, &c), (&c, &b)] {
        at += 100;
        assert!(now.verify(&proof_at(old, at)).is_ok());
        let foreign = now.verify(&proof_at(next, at + 1)).unwrap_err();
        assert_eq!(foreign, LightError::OtherValidators { found: *next.set.hash() }, "before the handover is known");
        let handover = old.hand_over(&next.set, at, 1_000 * at);
        assert_eq!(old.set.follow(&handover).as_ref(), Ok(&next.set));
        now = now.follow(&handover).unwrap();
        assert_eq!((now.validators(), now.since(), now.seen_ms()), (&next.set, at, 1_000 * at));
        assert!(now.verify(&proof_at(next, at + 1)).is_ok());
        let gone = now.verify(&proof_at(old, at + 1)).unwrap_err();
        assert_eq!(gone, LightError::OtherValidators { found: *old.set.hash() }, "those who left have no say");
        assert_eq!(Checkpoint::decode(&now.encode()).as_ref(), Ok(&now));
    }
}

#[test]
fn a_checkpoint_never_goes_back() {
    let (a, b) = (Validators::new(4), Validators::of(10..=16));
    let now = trust(&a).follow(&a.hand_over(&b.set, 100, 5_000)).unwrap();
    let back = now.follow(&b.hand_over(&a.set, 200, 6_000)).unwrap();
    // The same validators have their seats again: what they signed in their first time is of before.
    for height in [99, 100, 200] {
        assert_eq!(back.verify(&proof_at(&a, height)), Err(LightError::BeforeCheckpoint { height, since: 200 }));
        let again = a.hand_over(&b.set, height, 5_000);
        assert_eq!(back.follow(&again), Err(LightError::BeforeCheckpoint { height, since: 200 }));
    }
    assert!(back.verify(&proof_at(&a, 201)).is_ok());
    // A ledger's clock does not run backwards either; nor does what was seen of it.
    let early = back.follow(&a.hand_over(&b.set, 300, 10)).unwrap();
    assert_eq!(early.seen_ms(), 6_000);
    assert_eq!(back.clone().seen(5_999).seen_ms(), 6_000);
    assert_eq!(back.seen(6_001).seen_ms(), 6_001);
}

#[test]
fn each_lie_about_a_handover_has_its_name() {
    let (a, b) = (Validators::new(4), Validators::of(10..=16));
    let rounds = &frozen()[0].certificate;
    let good = a.hand_over(&b.set, 100, 5_000);
    assert!(a.set.follow(&good).is_ok());
    // Changed, and signed again by the old set's quorum where `signed` says so.
    let refused = |signed: bool, change: &dyn Fn(&mut Handover)| {
        let mut lie = good.clone();
        change(&mut lie);
        if signed {
            lie.certificate = a.certify(&lie.header, &a.quorum(), rounds);
        }
        a.set.follow(&lie).unwrap_err()
    };
    assert_eq!(refused(false, &|h| h.header[NEXT_AT] ^= 1), LightError::HeaderNotCertified);
    let other = Validators::of(10..=15);
    assert_eq!(refused(false, &|h| h.next = other.set.clone()), LightError::OtherSuccessors { named: *b.set.hash() });
    let elsewhere = ValidatorSet::new([43; 32], b.set.members().to_vec()).unwrap();
    assert_eq!(refused(false, &|h| h.next = elsewhere.clone()), LightError::WrongZone { found: [43; 32] });
    assert_eq!(refused(true, &|h| h.header[2..34].fill(43)), LightError::WrongZone { found: [43; 32] });
    let same = |h: &mut Handover| h.header[NEXT_AT..NEXT_AT + 32].copy_from_slice(a.set.hash());
    assert_eq!(refused(true, &same), LightError::NoHandover);
    assert_eq!(refused(true, &|h| h.header[VALIDATORS_AT] ^= 1), {
        let mut found = *a.set.hash();
        found[0] ^= 1;
        LightError::OtherValidators { found }
    });
    // The new ones, or too few of the old ones, or the old ones for another block, do not make it so.
    let by = |who: &Validators, signers: &[usize]| refused(false, &|h| h.certificate = who.certify(&h.header, signers, rounds));
    assert_eq!(by(&b, &b.quorum()), LightError::UnknownSigner { index: 4, validators: 4 });
    assert_eq!(by(&Validators::of(10..=13), &[0, 1, 2]), LightError::BadSignature { index: 0 });
    assert_eq!(by(&a, &[1, 3]), LightError::TooFewVotes { votes: 2, validators: 4, quorum: 3 });
    let elsewhen = a.hand_over(&b.set, 101, 5_000).certificate;
    assert_eq!(refused(false, &|h| h.certificate = elsewhen.clone()), LightError::HeaderNotCertified);
    // Those who are to be followed by others must be the trusted ones.
    assert_eq!(b.set.follow(&good), Err(LightError::OtherValidators { found: *a.set.hash() }));
}

#[test]
fn headers_alone_do_not_lead_past_a_change() {
    let (a, b) = (Validators::new(4), Validators::of(10..=16));
    let rounds = &frozen()[0].certificate;
    let handover = a.hand_over(&b.set, 100, 5_000);
    let last = Header::decode(&handover.header).unwrap();
    assert!(last.hands_over());
    let mut after = handover.header;
    after[HEIGHT_AT..HEIGHT_AT + 8].copy_from_slice(&101u64.to_be_bytes());
    after[50..82].copy_from_slice(&last.digest);
    // What would truly follow, and what the old set would like to follow.
    for validators in [&b, &a] {
        for at in [VALIDATORS_AT, NEXT_AT] {
            after[at..at + 32].copy_from_slice(validators.set.hash());
        }
        let certificate = validators.certify(&after, &validators.quorum(), rounds);
        let crossed = verify_header(&a.set, &[handover.header, after], &certificate);
        assert_eq!(crossed, Err(LightError::CrossesHandover { index: 1 }));
    }
    // The last block of the old ones' term is theirs.
    assert_eq!(verify_header(&a.set, &[handover.header], &handover.certificate).unwrap().0, last);
}

#[test]
fn a_handover_and_a_checkpoint_have_one_encoding_each() {
    let (a, b) = (Validators::new(4), Validators::of(10..=16));
    let handover = a.hand_over(&b.set, 100, 5_000);
    let checkpoint = trust(&a).follow(&handover).unwrap();
    let (bytes, point) = (handover.encode(), checkpoint.encode());
    assert_eq!(Handover::decode(&bytes), Ok(handover.clone()));
    for length in 0..bytes.len() {
        assert!(Handover::decode(&bytes[..length]).is_err(), "{length}");
    }
    for length in 0..point.len() {
        assert!(Checkpoint::decode(&point[..length]).is_err(), "{length}");
    }
    assert_eq!(Handover::decode(&[&bytes[..], &[0]].concat()), Err(LightError::Set(SetError::Malformed)));
    assert_eq!(Checkpoint::decode(&[&point[..], &[0]].concat()), Err(LightError::Set(SetError::Malformed)));
    let version = |found, part, known: u8| Err(LightError::UnknownVersion { part, found, known: known.into() });
    assert_eq!(Handover::decode(&[&[9], &bytes[1..]].concat()), version(9, "the handover", HANDOVER_VERSION).map(|()| handover));
    assert_eq!(Checkpoint::decode(&a.set.encode()), version(1, "the checkpoint", CHECKPOINT_VERSION).map(|()| checkpoint));
    // Lengths that lie take no memory: nothing is read that is not there.
    let mut huge = bytes[..1 + HEADER_SIZE].to_vec();
    huge.extend_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(Handover::decode(&huge), Err(LightError::TooLong { part: "handover", got: u32::MAX as usize, limit: MAX_CERTIFICATE }));
    let too_long = |part, got, limit| Some(LightError::TooLong { part, got, limit });
    let got = MAX_HANDOVER + 1;
    assert_eq!(Handover::decode(&vec![HANDOVER_VERSION; got]).err(), too_long("handover", got, MAX_HANDOVER));
    let got = MAX_CHECKPOINT + 1;
    assert_eq!(Checkpoint::decode(&vec![CHECKPOINT_VERSION; got]).err(), too_long("checkpoint", got, MAX_CHECKPOINT));
}

#[test]
fn the_largest_ones_fit() {
    let all = Validators::of(1..=128);
    let others = Validators::of(120..=247);
    assert_eq!((all.set.len(), all.set.encode().len()), (MAX_VALIDATORS, MAX_SET));
    let mut largest = all.hand_over(&others.set, u64::MAX, u64::MAX);
    let everybody: Vec<usize> = (0..128).collect();
    // Rounds as long as they can be written.
    let rounds = [[0xff; 9].as_slice(), &[1], &[0xff; 9], &[1], &[0xff; 9], &[1]].concat();
    largest.certificate = all.certify(&largest.header, &everybody, &rounds);
    assert_eq!((largest.certificate.len(), largest.encode().len()), (MAX_CERTIFICATE, MAX_HANDOVER));
    let decoded = Handover::decode(&largest.encode()).unwrap();
    let next = trust(&all).follow(&decoded).unwrap();
    assert_eq!(next.encode().len(), MAX_CHECKPOINT);
    // After the last height there is none.
    assert!(next.verify(&proof_at(&others, u64::MAX)).is_err());
}

#[test]
fn a_checkpoint_knows_when_it_has_outlived_the_deposits() {
    let a = Validators::new(1);
    let of = |holds_ms| Checkpoint::genesis(a.set.clone(), 10 * DAY, holds_ms);
    assert_eq!(of(21 * DAY).outlived(31 * DAY), None);
    assert_eq!(of(21 * DAY).outlived(31 * DAY + 7), Some(7));
    assert_eq!(of(21 * DAY).seen(20 * DAY).outlived(31 * DAY + 7), None, "it was seen at work since");
    assert_eq!(of(21 * DAY).outlived(0), None, "a clock that runs behind");
    assert_eq!(of(0).outlived(u64::MAX), None, "a network of one's own");
}

/// The formats as they are frozen: changing them needs a new version.
#[test]
fn the_formats_are_frozen() {
    let (a, b) = (Validators::new(1), Validators::of([2, 3]));
    let handover = a.hand_over(&b.set, 7, 20_000_000);
    let checkpoint = trust(&a).follow(&handover).unwrap();
    let lines = [("validators", a.set.encode()), ("handover", handover.encode()), ("checkpoint", checkpoint.encode())];
    let text: String = lines.iter().map(|(name, bytes)| format!("{name} {}\n", hex::encode(bytes))).collect();
    let path = std::env::temp_dir().join("pasture-light-handover.txt");
    std::fs::write(&path, &text).unwrap();
    let frozen = include_str!("golden/handover.txt");
    assert_eq!(frozen, text, "the format changed; if that is meant, copy {} over crates/light/tests/golden", path.display());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Any sequence of sets is followed, and with any one handover left out, doubled or out of order it is not.
    #[test]
    fn a_chain_of_any_sets_is_followed_and_a_gap_is_not(
        seeds in proptest::collection::vec(proptest::collection::btree_set(1u8..20, 1..8), 2..9),
        gap in any::<proptest::sample::Index>(),
    ) {
        let sets: Vec<Validators> = seeds.into_iter().map(Validators::of).collect();
        prop_assume!(sets.windows(2).all(|pair| pair[0].set != pair[1].set));
        let handovers: Vec<Handover> =
            sets.windows(2).zip(1u64..).map(|(pair, i)| pair[0].hand_over(&pair[1].set, 10 * i, 100 * i)).collect();
        let begun = trust(&sets[0]);
        let mut now = begun.clone();
        for handover in &handovers {
            let next = now.follow(&Handover::decode(&handover.encode()).unwrap()).unwrap();
            prop_assert!(next.since() > now.since() && next.seen_ms() >= now.seen_ms());
            prop_assert!(next.follow(handover).is_err(), "a handover counts once");
            now = next;
        }
        prop_assert_eq!(now.validators(), &sets.last().unwrap().set);
        let gap = gap.index(handovers.len());
        let mut left_out = handovers.clone();
        left_out.remove(gap);
        let end = left_out.iter().try_fold(begun, |now, handover| now.follow(handover));
        prop_assert_eq!(end.is_ok(), gap + 1 == handovers.len(), "the one after the gap is not of the set that is trusted then");
    }

    /// No change of the bytes of a handover is followed to another set.
    #[test]
    fn changed_bytes_lead_nowhere_else(n in 1u8..8, m in 1u8..8, edits in proptest::collection::vec((any::<proptest::sample::Index>(), 1u8..), 1..4)) {
        let (old, new) = (Validators::new(n), Validators::of(100..100 + m));
        let good = old.hand_over(&new.set, 50, 500).encode();
        let mut bytes = good.clone();
        for (at, change) in edits {
            let at = at.index(bytes.len());
            bytes[at] ^= change;
        }
        prop_assume!(bytes != good);
        let followed = Handover::decode(&bytes).and_then(|h| trust(&old).follow(&h));
        prop_assert!(followed.is_err(), "{:?}", followed);
    }

    #[test]
    fn any_bytes_give_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1_000)) {
        if let Ok(handover) = Handover::decode(&bytes) {
            prop_assert!(trusted().follow(&handover).is_err());
        }
        let _ = Checkpoint::decode(&bytes);
        let mut sound = Validators::new(4).hand_over(&Validators::new(3).set, 5, 5);
        sound.certificate = bytes;
        prop_assert!(Validators::new(4).set.follow(&sound).is_err());
    }
}

#[test]
fn times_are_where_the_tests_think_they_are() {
    let handover = Validators::new(1).hand_over(&Validators::new(2).set, 77, 88);
    let header = Header::decode(&handover.header).unwrap();
    assert_eq!((header.height, header.timestamp_ms, header.zone), (77, 88, ZONE));
    assert_eq!(handover.header[TIME_AT + 7], 88);
}
