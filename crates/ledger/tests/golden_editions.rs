//! Who changes a frozen format says so: `golden/EDITIONS` lists every edition of all fixtures together.
//!
//! A line is `edition rules digest why`. `golden_*.rs` fail while a fixture does not say what the code does; this one fails until the
//! changed fixtures stand in `EDITIONS` under a new number, with the version of the rules that brings them. Rules that no network runs
//! yet may have several editions; later each edition needs rules of its own.

#![cfg(test)]

use pasture_types::genesis::RULES_VERSION;
use std::path::Path;

/// No network runs rules up to these yet.
const UNUSED_RULES: u32 = 2;

struct Edition<'a> {
    number: u32,
    rules: u32,
    digest: &'a str,
    why: &'a str,
}

fn parse(line: &str) -> Edition<'_> {
    let mut words = line.splitn(4, ' ');
    let mut next = || words.next().unwrap_or_default();
    Edition { number: next().parse().unwrap(), rules: next().parse().unwrap(), digest: next(), why: next() }
}

/// All fixtures by name, as one digest.
fn digest(folder: &Path) -> String {
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|n| n.ends_with(".txt"));
    names.sort();
    assert!(names.len() >= 6, "the fixtures are where they were");
    let mut all = vec![];
    for name in names {
        let bytes = std::fs::read(folder.join(&name)).unwrap();
        all.extend_from_slice(name.as_bytes());
        all.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        all.extend_from_slice(&bytes);
    }
    pasture_types::blob::hash(&all).to_string()
}

#[test]
fn the_fixtures_are_those_of_the_last_edition() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let text = std::fs::read_to_string(folder.join("EDITIONS")).unwrap();
    let editions: Vec<_> = text.lines().filter(|l| !l.starts_with('#')).map(parse).collect();
    for (at, edition) in editions.iter().enumerate() {
        assert_eq!(edition.number as usize, at + 1, "editions are numbered from 1 without a hole");
        assert!(edition.why.len() > 10, "edition {} says what changed", edition.number);
    }
    for pair in editions.windows(2) {
        let [old, new] = pair else { unreachable!() };
        assert!(
            new.rules > old.rules || (new.rules == old.rules && new.rules <= UNUSED_RULES),
            "edition {} needs a new version of the rules",
            new.number
        );
    }
    let last = editions.last().unwrap();
    assert!(last.rules <= RULES_VERSION, "rules {} are not known to this program", last.rules);
    let now = digest(&folder);
    let next = last.number + 1;
    assert_eq!(
        last.digest,
        now,
        "a fixture changed: if that is meant, add the line `{next} RULES {now} WHAT CHANGED` to {}/EDITIONS",
        folder.display()
    );
}
