//! Proofs made by an adapter against those of `pasture-proofs`: the same bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "test code")]

use pasture_gpu::{Device, GpuError, Kind, Prover, adapters, find_shares};
use pasture_proofs::gemm::{Check, Prover as OnProcessor, Round, Shape};
use pasture_proofs::{Beacon, Challenge};
use pasture_types::proof::{ResourceClass, heartbeat_seed, threshold, verify_shares};
use pasture_types::{Millis, NodeId};
use proptest::prelude::*;
use std::sync::LazyLock;
use std::time::Duration;

const BEACON: Beacon = Beacon([9; 32]);
const ROUND: Round = Round { randomness: [1; 32], epoch: 7 };

/// One device for all tests: the software adapter, which is there wherever these tests run (scripts/setup.sh installs it).
static DEVICE: LazyLock<Device> = LazyLock::new(|| {
    let all = adapters().expect("scripts/setup.sh installs an adapter in software");
    let software = all.iter().find(|a| a.kind() == Kind::Software).expect("an adapter in software");
    software.open().unwrap()
});

fn challenge() -> Challenge {
    Challenge { randomness: [1; 32], node: NodeId([2; 32]), class: ResourceClass::Gpu, device: 3, epoch: 7, nonces: [4; 32] }
}

fn both(shape: Shape, challenge: &Challenge) {
    let processor = OnProcessor::new(shape, &ROUND, challenge);
    let expected = processor.all_leaves();
    let mut commitment = Prover::new(&DEVICE, shape, &ROUND, challenge).unwrap().commit(|| true).unwrap().unwrap();
    assert_eq!(*commitment.root(), processor.root(&expected), "{shape:?}");
    let proof = commitment.open(BEACON).unwrap();
    assert_eq!(proof, processor.open(&expected, BEACON), "{shape:?}");
    assert_eq!(Check::new(shape, &ROUND, BEACON).verify(shape, challenge, commitment.root(), &proof), Ok(()));
}

#[test]
fn an_adapter_makes_the_same_proof_bit_for_bit() {
    // Rows of less than a block of the stream, of one that none ends with, of one chunk and of several, chains, tiles that are not full.
    for (n, layers, rows) in [(8, 1, 64), (16, 3, 77), (24, 2, 65), (64, 1, 100), (64, 16, 70), (248, 1, 64), (256, 2, 129), (512, 1, 200)]
    {
        both(Shape::new(n, layers, rows).unwrap(), &challenge());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_shape_and_challenge_give_the_same_proof(
        eights in 1u32..28, layers in 1u32..5, rows in 64u32..150, node in any::<[u8; 32]>(), nonces in any::<[u8; 32]>(), device in any::<u16>(),
    ) {
        let challenge = Challenge { node: NodeId(node), nonces, device, ..challenge() };
        both(Shape::new(8 * eights, layers, rows).unwrap(), &challenge);
    }
}

#[test]
fn rows_may_be_asked_for_in_any_parts() {
    let shape = Shape::new(64, 2, 300).unwrap();
    let expected = OnProcessor::new(shape, &ROUND, &challenge()).all_leaves();
    let mut prover = Prover::new(&DEVICE, shape, &ROUND, &challenge()).unwrap();
    for rows in [7u32..8, 100..300, 0..0, 0..65] {
        let mut out = vec![[0; 32]; rows.len()];
        assert!(prover.leaves(rows.clone(), &mut out, &mut || true).unwrap());
        assert_eq!(out, expected[rows.start as usize..rows.end as usize]);
    }
}

#[test]
fn work_that_is_called_off_leaves_a_prover_as_good_as_new() {
    let shape = Shape::new(64, 2, 300).unwrap();
    let mut prover = Prover::new(&DEVICE, shape, &ROUND, &challenge()).unwrap();
    for most in [0, 1, 2] {
        let mut asked = 0;
        let mut go_on = || {
            asked += 1;
            asked <= most
        };
        assert_eq!(prover.all_leaves(&mut go_on).unwrap(), None, "after {most}");
    }
    let expected = OnProcessor::new(shape, &ROUND, &challenge()).all_leaves();
    assert_eq!(prover.all_leaves(&mut || true).unwrap(), Some(expected));
}

/// A card whose memory lost a bit between the commitment and the opening.
#[test]
fn a_row_that_is_not_the_same_twice_is_an_error_and_no_proof() {
    let shape = Shape::new(64, 1, 64).unwrap();
    let mut prover = Prover::new(&DEVICE, shape, &ROUND, &challenge()).unwrap();
    let mut leaves = prover.all_leaves(&mut || true).unwrap().unwrap();
    leaves[17][5] ^= 4;
    assert_eq!(prover.open(&leaves, BEACON), Err(GpuError::Wrong(17)));
}

#[test]
fn shares_are_those_that_a_processor_finds() {
    // Work that fits into the first hashes, into some pieces, and rates of which some need more than their work.
    for (epoch, rate) in [(0, 1), (1, 100_000), (2, 400_000), (3, 700_001), (4, 300_000), (5, 300_000)] {
        let seed = heartbeat_seed(&[1; 32], &NodeId([2; 32]), ResourceClass::Gpu, 1, epoch);
        let shares = find_shares(&DEVICE, seed, rate, Millis(1_000), || true).unwrap();
        assert_eq!(shares, pasture_proofs::find_shares(seed, rate, Millis(1_000), || true), "{rate}");
        assert_eq!(verify_shares(&seed, &shares.unwrap(), threshold(rate, Millis(1_000))), Ok(()));
    }
    assert_eq!(find_shares(&DEVICE, [1; 32], u64::MAX, Millis(u64::MAX), || false), Ok(None));
}

#[test]
fn an_adapter_in_software_says_that_it_is_one() {
    let adapter = DEVICE.adapter();
    assert_eq!((adapter.kind(), adapter.kind().word()), (Kind::Software, "software"));
    assert!(!adapter.name().is_empty() && adapter.max_buffer_bytes() >= 128 << 20);
    // It sits nowhere on the bus, so it is nobody's device.
    assert_eq!(adapter.is_at("00000000:01:00.0"), None);
}

/// Runs itself once more where Vulkan is told of no driver.
#[test]
fn without_an_adapter_it_says_what_to_install() {
    const NOWHERE: &str = "/nowhere/that/a/driver/is.json";
    let drivers = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];
    if std::env::var_os(drivers[0]).is_some_and(|files| files == NOWHERE) {
        let error = adapters().unwrap_err();
        assert_eq!(error, GpuError::NoVulkan);
        assert!(error.to_string().contains("install its loader (libvulkan1)"));
        return;
    }
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "without_an_adapter_it_says_what_to_install"]).envs(drivers.map(|name| (name, NOWHERE)));
    let output = again.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

#[test]
fn a_gauge_measures_what_proofs_are_made_of() {
    let gauge = pasture_gpu::gauge(&DEVICE, Duration::from_millis(20)).unwrap();
    assert!(gauge.macs_per_s > 0 && gauge.hashes_per_s > 0 && gauge.width >= 256, "{gauge:?}");
}
