//! Matrix products against cheats, each with code of its own that follows `docs/specs/gemm.md` and shares nothing with the prover.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "test code")]

mod naive;

use naive::{Naive, P, challenge, round};
use pasture_proofs::gemm::{Check, GemmError, OPENED, Prover, Round, Shape, WrongEntry, find_wrong_entry};
use pasture_proofs::{Beacon, Challenge};
use pasture_types::NodeId;
use pasture_types::proof::ResourceClass;
use proptest::prelude::*;

const BEACON: Beacon = Beacon([9; 32]);

fn shape(n: u32, layers: u32, rows: u32) -> Shape {
    Shape::new(n, layers, rows).unwrap()
}

fn judge(shape: Shape, challenge: &Challenge, root: &[u8; 32], proof: &[u8]) -> Result<(), GemmError> {
    Check::new(shape, &round(), BEACON).verify(shape, challenge, root, proof)
}

fn honest(shape: Shape) -> ([u8; 32], Vec<u8>) {
    let prover = Prover::new(shape, &round(), &challenge());
    let leaves = prover.all_leaves();
    (prover.root(&leaves), prover.open(&leaves, BEACON))
}

#[test]
fn the_prover_and_the_naive_one_agree_bit_for_bit() {
    for (n, layers, rows) in [(8, 1, 64), (16, 3, 77), (64, 1, 100), (64, 2, 257), (256, 1, 64)] {
        let shape = shape(n, layers, rows);
        let (root, proof) = honest(shape);
        let naive = Naive::new(shape);
        let leaves = naive.leaves(|row| naive.sums(row));
        assert_eq!(root, naive.root(&leaves));
        assert_eq!(proof, naive.open(&leaves, BEACON, |row| naive.sums(row)));
        assert_eq!(judge(shape, &challenge(), &root, &proof), Ok(()));
        assert!(proof.len() as u64 <= shape.longest_proof());
    }
}

#[test]
fn the_format_is_frozen() {
    let (root, proof) = honest(shape(16, 2, 65));
    assert_eq!(
        [root, *blake3::hash(&proof).as_bytes()].map(hex),
        [
            "5c777d28546c981187429ec1b70ffa78d2654ac0d40c1ad2cd2dfe8854ea34a3",
            "b546e711911eaeec8f6440ea03b9f317e622ecbd9c2297d264e77832bf8a272d"
        ]
    );
}

fn hex(bytes: [u8; 32]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn threads_may_take_any_rows() {
    let shape = shape(64, 2, 200);
    let prover = Prover::new(shape, &round(), &challenge());
    let mut leaves = vec![[0; 32]; 200];
    std::thread::scope(|scope| {
        let (mut first, mut rest) = (0, leaves.as_mut_slice());
        for size in [1usize, 15, 16, 17, 151] {
            let (mine, others) = rest.split_at_mut(size);
            let (rows, prover) = (first..first + size as u32, &prover);
            scope.spawn(move || prover.leaves(rows, mine));
            (first, rest) = (first + size as u32, others);
        }
    });
    assert_eq!(leaves, prover.all_leaves());
}

/// Never multiplies: it commits to noise, waits for r, and makes up sums in range whose projection is right.
#[test]
fn projections_without_the_product_lose() {
    for layers in [1, 3] {
        let shape = shape(64, layers, 200);
        let naive = Naive::new(shape);
        let leaves = naive.leaves(|row| vec![naive.noise(row); layers as usize]);
        let made_up = |row| naive.projected(row, BEACON);
        let proof = naive.open(&leaves, BEACON, made_up);
        // Each made-up row holds in the field and in its range: only the commitment to every layer's sums stands against it. (A
        // tree over the last layer's eight bits alone would not: the other bits of the sums are free.)
        assert_eq!(judge(shape, &challenge(), &naive.root(&leaves), &proof), Err(GemmError::Commitment));
        // And had it known the beacon when it committed, all would have held: why the beacon comes after the root.
        let late = naive.leaves(made_up);
        let proof = naive.open(&late, BEACON, made_up);
        assert_eq!(judge(shape, &challenge(), &naive.root(&late), &proof), Ok(()));
    }
}

/// Adds p to a sum of each row: right in the field.
#[test]
fn sums_shifted_by_the_modulus_lose() {
    let shape = shape(64, 1, 100);
    let naive = Naive::new(shape);
    let shifted = |row| {
        let mut sums = naive.sums(row);
        let negative = sums[0].iter_mut().find(|sum| **sum < 0).unwrap();
        *negative = i32::try_from(i64::from(*negative) + P).unwrap();
        sums
    };
    let leaves = naive.leaves(shifted);
    let proof = naive.open(&leaves, BEACON, shifted);
    assert!(naive.projects(0, &shifted(0)[0], BEACON), "the field alone does not see it");
    assert!(matches!(judge(shape, &challenge(), &naive.root(&leaves), &proof), Err(GemmError::Range(_))));
}

#[test]
fn garbage_loses_opened_as_it_is_or_computed_when_asked() {
    let shape = shape(64, 1, 100);
    let naive = Naive::new(shape);
    let garbage = |row| vec![naive.noise(row)];
    let leaves = naive.leaves(garbage);
    let root = naive.root(&leaves);
    let as_it_is = naive.open(&leaves, BEACON, garbage);
    assert!(matches!(judge(shape, &challenge(), &root, &as_it_is), Err(GemmError::Product { layer: 0, .. })));
    let when_asked = naive.open(&leaves, BEACON, |row| naive.sums(row));
    assert_eq!(judge(shape, &challenge(), &root, &when_asked), Err(GemmError::Commitment));
}

#[test]
fn a_chain_cut_short_loses() {
    let shape = shape(32, 4, 100);
    let naive = Naive::new(shape);
    // The last layer is the one before it again.
    let cut = |row| {
        let mut sums = naive.sums(row);
        sums[3] = sums[2].clone();
        sums
    };
    let leaves = naive.leaves(cut);
    let proof = naive.open(&leaves, BEACON, cut);
    assert!(matches!(judge(shape, &challenge(), &naive.root(&leaves), &proof), Err(GemmError::Product { layer: 3, .. })));
}

/// Computes every row but a part: caught with `1 - f^64` at least, as docs/specs/gemm.md §5 says.
#[test]
fn skipped_rows_are_caught_as_often_as_the_spec_says() {
    const TRIALS: u32 = 500;
    let shape = shape(8, 1, 1_000);
    let naive = Naive::new(shape);
    // Computed rows in a thousand; how many trials are caught (242, 466 and 499 expected, four sd either way): drawn without
    // repetition, so a little more than the spec's bound.
    for (computed, least, most) in [(990u32, 197, 287), (960, 443, 489), (900, 495, 500)] {
        let some = |row: u32| if row < computed { naive.sums(row) } else { vec![naive.noise(row)] };
        let leaves = naive.leaves(some);
        let root = naive.root(&leaves);
        let caught = (0..TRIALS)
            .filter(|trial| {
                let mut beacon = Beacon([0; 32]);
                beacon.0[..4].copy_from_slice(&trial.to_le_bytes());
                let proof = naive.open(&leaves, beacon, some);
                Check::new(shape, &round(), beacon).verify(shape, &challenge(), &root, &proof).is_err()
            })
            .count();
        let bound = 1.0 - (f64::from(computed) / 1_000.0).powi(OPENED as i32);
        // Four standard deviations below the bound at most; and no more than chance allows above it.
        let sd = (f64::from(TRIALS) * bound * (1.0 - bound)).sqrt();
        assert!(caught as f64 >= f64::from(TRIALS) * bound - 4.0 * sd, "{computed}: {caught}, {bound}");
        assert!((least..=most).contains(&caught), "{computed}: {caught} of {TRIALS}");
    }
}

#[test]
fn what_was_computed_for_anything_else_loses() {
    let shape = shape(64, 1, 100);
    let (root, proof) = honest(shape);
    let mine = challenge();
    let others = [
        Challenge { randomness: [8; 32], ..mine.clone() },
        Challenge { node: NodeId([8; 32]), ..mine.clone() },
        Challenge { class: ResourceClass::Gpu, ..mine.clone() },
        Challenge { device: 1, ..mine.clone() },
        Challenge { epoch: 8, ..mine.clone() },
        Challenge { nonces: [8; 32], ..mine.clone() },
    ];
    for other in others {
        // Another node's proof, one of an epoch before, one made before the nonces were known, one card shown twice.
        assert!(judge(shape, &other, &root, &proof).is_err(), "{other:?}");
    }
    // The same root, asked again under another beacon.
    let again = Check::new(shape, &round(), Beacon([8; 32]));
    assert!(again.verify(shape, &mine, &root, &proof).is_err());
    // The matrix of another round.
    for other in [Round { epoch: 8, ..round() }, Round { randomness: [8; 32], ..round() }] {
        assert!(Check::new(shape, &other, BEACON).verify(shape, &mine, &root, &proof).is_err());
    }
    // Less work than asked for, in each measure.
    for smaller in [Shape::new(56, 1, 100), Shape::new(64, 2, 100), Shape::new(64, 1, 99)] {
        assert!(judge(smaller.unwrap(), &mine, &root, &proof).is_err());
    }
    assert_eq!(judge(shape, &mine, &root, &proof), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn no_change_of_an_honest_proof_holds(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>(), more in 1usize..70) {
        let shape = shape(16, 2, 130);
        let (root, proof) = honest(shape);
        let mut changed = proof.clone();
        changed[at.index(proof.len())] ^= 1 << bit;
        prop_assert!(judge(shape, &challenge(), &root, &changed).is_err());
        prop_assert_eq!(judge(shape, &challenge(), &root, &proof[..cut.index(proof.len())]), Err(GemmError::Length));
        let longer = [proof.as_slice(), &vec![0; more]].concat();
        prop_assert_eq!(judge(shape, &challenge(), &root, &longer), Err(GemmError::Length));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..10_000), root in any::<[u8; 32]>()) {
        prop_assert!(judge(shape(16, 2, 130), &challenge(), &root, &bytes).is_err());
        prop_assert!(judge(shape(8, 1, 64), &challenge(), &root, &bytes).is_err());
    }
}

/// One sum of some rows is off by one, in a layer.
fn off_by_one(naive: &Naive, layer: usize) -> impl Fn(u32) -> Vec<Vec<i32>> + '_ {
    move |row| {
        let mut sums = naive.sums(row);
        if row % 3 == 1 {
            sums[layer][5] += 1;
        }
        sums
    }
}

#[test]
fn a_wrong_row_convicts_and_nothing_convicts_an_honest_one() {
    for (n, layers, rows, layer) in [(16, 1, 77, 0), (16, 3, 70, 1), (64, 2, 129, 1)] {
        let shape = shape(n, layers, rows);
        let naive = Naive::new(shape);
        let sums = off_by_one(&naive, layer);
        let leaves = naive.leaves(&sums);
        let (root, proof) = (naive.root(&leaves), naive.open(&leaves, BEACON, &sums));
        assert!(matches!(judge(shape, &challenge(), &root, &proof), Err(GemmError::Product { .. })));
        let wrong = find_wrong_entry(shape, &round(), &challenge(), &root, BEACON, &proof).unwrap();
        assert_eq!((wrong.row % 3, wrong.layer as usize, wrong.column), (1, layer, 5));
        assert!(wrong.holds(shape, &round(), &challenge(), &root));
        // Of another node's challenge, round, root, row, layer or column it says nothing.
        let other = Challenge { node: NodeId([77; 32]), ..challenge() };
        assert!(!wrong.holds(shape, &round(), &other, &root) && !wrong.holds(shape, &round(), &challenge(), &[1; 32]));
        assert!(!wrong.holds(shape, &Round { epoch: 99, ..round() }, &other, &root));
        for changed in [
            WrongEntry { row: wrong.row ^ 1, ..wrong.clone() },
            WrongEntry { row: u32::MAX, ..wrong.clone() },
            WrongEntry { layer: layers, ..wrong.clone() },
            WrongEntry { column: wrong.column + 1, ..wrong.clone() },
            WrongEntry { column: n, ..wrong.clone() },
            WrongEntry { sums: vec![], ..wrong.clone() },
            WrongEntry { path: vec![], ..wrong.clone() },
        ] {
            assert!(!changed.holds(shape, &round(), &challenge(), &root), "{changed:?}");
        }
        // An honest prover: nothing is found, and no entry of any row holds, nor sums that it never committed to.
        let (root, proof) = honest(shape);
        assert_eq!(find_wrong_entry(shape, &round(), &challenge(), &root, BEACON, &proof), None);
        let mut forged = proof.clone();
        forged[0] ^= 1;
        assert_eq!(find_wrong_entry(shape, &round(), &challenge(), &root, BEACON, &forged), None, "not what it committed to");
        assert_eq!(find_wrong_entry(shape, &round(), &challenge(), &root, BEACON, &proof[1..]), None);
        let leaves = naive.leaves(|row| naive.sums(row));
        for column in 0..n {
            let row = column % rows;
            let sums = naive.sums(row).iter().flatten().flat_map(|sum| sum.to_le_bytes()).collect();
            let honest = WrongEntry { row, layer: layers - 1, column, sums, path: naive.path(&leaves, row) };
            assert!(!honest.holds(shape, &round(), &challenge(), &root));
        }
    }
}
