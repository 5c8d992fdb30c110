//! Every target over its seeds and their mutations, without libFuzzer: what runs before each merge. `make fuzz` goes deeper.
//!
//! Guarantees: the same inputs in every run, so that a failure is no accident; it says which input failed, as a file for
//! `fuzz_targets/`.

use pasture_fuzz::{World, areas, seeds, targets};
use pasture_ledger::Applied;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Mutations of a target, each from another seed: about two seconds of the slowest ones.
const MUTATIONS: usize = 600;
/// Longest input, as in `scripts/fuzz.sh`.
const MAX_LEN: usize = 4096;
/// Most changes to one input.
const MAX_CHANGES: u64 = 4;
/// Values that break lengths, numbers and tags.
const ODD: [&[u8]; 6] = [&[0xff; 8], &[0; 8], &[0x7f, 0xff, 0xff, 0xff], &[0x80], &[1, 0, 0, 0], &[0xff; 16]];

/// xorshift64*: the inputs differ, and are the same everywhere.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next()).unwrap_or(0) % end.max(1)
    }
}

/// One to four small changes: bits, bytes, odd values, lost, doubled and foreign pieces.
fn mutated(seeds: &[Vec<u8>], draw: &mut Draw) -> Vec<u8> {
    let mut out = seeds[draw.below(seeds.len())].clone();
    for _ in 0..=draw.next() % MAX_CHANGES {
        let at = draw.below(out.len());
        match draw.next() % 6 {
            0 if !out.is_empty() => out[at] ^= 1 << draw.below(8),
            1 if !out.is_empty() => out[at] = draw.next().to_le_bytes()[0],
            2 => {
                let odd = ODD[draw.below(ODD.len())];
                let end = out.len().min(at + odd.len());
                out.splice(at..end, odd.iter().copied());
            }
            3 => out.truncate(at),
            4 => {
                let piece = out[at..out.len().min(at + 1 + draw.below(40))].to_vec();
                out.splice(at..at, piece);
            }
            _ => {
                let other = &seeds[draw.below(seeds.len())];
                let from = draw.below(other.len());
                out.truncate(at);
                out.extend_from_slice(&other[from..]);
            }
        }
    }
    out.truncate(MAX_LEN);
    out
}

fn take(name: &str, target: targets::Target, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
        std::fs::write(&file, input).expect("a file for the input");
        eprintln!("{name}: the input is in {}", file.display());
        std::panic::resume_unwind(panic);
    }
}

/// Runs a target over all its seeds and as many mutations as its time allows.
fn short(name: &str) {
    let (_, target) = targets::ALL.iter().find(|(known, _)| *known == name).expect("a target of that name");
    let all = seeds::all();
    let (_, seeds) = all.iter().find(|(known, _)| *known == name).expect("seeds of that target");
    seeds.iter().for_each(|seed| take(name, *target, seed));
    let mut draw = Draw(0x9e37_79b9_7f4a_7c15);
    for _ in 0..MUTATIONS {
        take(name, *target, &mutated(seeds, &mut draw));
    }
}

macro_rules! short {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            short(stringify!($name));
        })*
        const RUN: &[&str] = &[$(stringify!($name)),*];
    };
}

short!(amounts auth burst capacity channel compose envelope explain export formats handover herd image ledger proof records spec state streams ticket);

#[test]
fn no_target_is_left_out() {
    let all: Vec<_> = targets::ALL.iter().map(|(name, _)| *name).collect();
    assert_eq!(all, RUN, "targets and tests");
    let mut seeded: Vec<_> = seeds::all().into_iter().map(|(name, _)| name).collect();
    seeded.sort_unstable();
    assert_eq!(all, seeded, "targets and seeds");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the programs")
        .map(|f| f.expect("a file").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    files.sort_unstable();
    assert_eq!(files, RUN, "targets and programs for libFuzzer");
}

#[test]
fn every_frozen_action_is_a_seed() {
    assert_eq!(areas::frozen().len(), areas::frozen_lines(), "an action of a golden file does not decode");
    let kinds: std::collections::BTreeSet<_> = areas::frozen().iter().map(pasture_types::grant::ActionKind::of).collect();
    assert!(kinds.len() >= 50, "{}", kinds.len());
}

/// Without their records the areas' rules are not reached.
#[test]
fn the_areas_have_records() {
    let mut world = World::new();
    let refused: Vec<_> = areas::life(&world)
        .into_iter()
        .filter_map(|step| match world.step(step.clone()) {
            Applied::Done { .. } => None,
            other => Some((step, other)),
        })
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}
