//! Names for jobs: `fold-7k2` is the job's own name and the beginning of its order's code.
//!
//! Guarantees: names are private, so they live in our job records and never on the ledger; any beginning that fits one job
//! only is enough to say which. A damaged record costs a name, not a job.

use crate::exit::Failure;
use pasture_store::RecordFile;
use pasture_types::{OrderId, ZoneId};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Digits and letters that are not mistaken for one another.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Shortest code that is shown.
const SHORTEST: usize = 3;
/// Longest code: 256 bits by 5.
const LONGEST: usize = 52;
/// Most job records that are read.
const MAX_RECORDS: usize = 10_000;
/// Jobs shown when a name fits several.
const SHOWN: usize = 5;

/// What we know of a job and the ledger does not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct JobRecord {
    /// The job's order.
    pub(crate) order: OrderId,
    /// Its name.
    pub(crate) name: String,
    /// Its network.
    pub(crate) network: ZoneId,
    /// When it was asked for, by our clock.
    pub(crate) created_ms: u64,
    /// Size that its output may have.
    pub(crate) disk_bytes: u64,
    /// The deployment that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) part_of: Option<String>,
}

/// The code of an order: 52 digits and letters.
pub(crate) fn code(order: &OrderId) -> String {
    let bit = |i: usize| order.0.get(i / 8).map_or(0, |byte| usize::from(byte >> (7 - i % 8) & 1));
    let digit = |n: usize| (0..5).fold(0, |value, i| value << 1 | bit(n * 5 + i));
    (0..LONGEST).filter_map(|n| ALPHABET.get(digit(n)).map(|b| char::from(*b))).collect()
}

/// A job that can be named.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Known {
    /// Its order.
    pub(crate) order: OrderId,
    /// Its name; `job` where we have no record.
    pub(crate) name: String,
    /// The deployment that it is a part of.
    pub(crate) part_of: Option<String>,
}

/// All jobs that can be named now.
#[derive(Clone, Default, Debug)]
pub(crate) struct Names(Vec<Known>);

impl Names {
    /// Puts together what the ledger has of us and what we remember. Jobs of the ledger that we have no record of are `job`.
    pub(crate) fn new(orders: impl IntoIterator<Item = OrderId>, records: &[JobRecord], network: &ZoneId) -> Self {
        let mut known: Vec<Known> = records
            .iter()
            .filter(|r| r.network == *network)
            .map(|r| Known { order: r.order, name: r.name.clone(), part_of: r.part_of.clone() })
            .collect();
        for order in orders {
            if !known.iter().any(|k| k.order == order) {
                known.push(Known { order, name: "job".into(), part_of: None });
            }
        }
        Self(known)
    }

    /// The shortest name of an order that fits no other job here.
    pub(crate) fn handle(&self, order: &OrderId) -> String {
        let name = self.0.iter().find(|k| k.order == *order).map_or("job", |k| &k.name);
        let code = code(order);
        let taken =
            |length: usize| self.0.iter().any(|k| k.order != *order && k.name == name && shared(&self::code(&k.order), &code) >= length);
        let length = (SHORTEST..LONGEST).find(|l| !taken(*l)).unwrap_or(LONGEST);
        format!("{name}-{}", code.get(..length).unwrap_or(&code))
    }

    /// The deployment that a job is a part of.
    pub(crate) fn part_of(&self, order: &OrderId) -> Option<&str> {
        self.0.iter().find(|k| k.order == *order)?.part_of.as_deref()
    }

    /// The job that a user means: by the beginning of its handle, its code, or its order's id.
    pub(crate) fn find(&self, text: &str) -> Result<OrderId, Failure> {
        let asked = text.to_lowercase();
        let fits = |k: &&Known| {
            let code = code(&k.order);
            format!("{}-{code}", k.name).starts_with(&asked) || code.starts_with(&asked) || k.order.to_string().starts_with(&asked)
        };
        let mut found: Vec<&Known> = if asked.is_empty() { vec![] } else { self.0.iter().filter(fits).collect() };
        // A whole name beats a longer one that begins like it.
        if found.len() > 1 && found.iter().filter(|k| k.name == asked).count() == 1 {
            found.retain(|k| k.name == asked);
        }
        match found.as_slice() {
            [one] => Ok(one.order),
            [] => Err(Failure::new("no-such-job", format!("there is no job `{text}` here")).next("see which there are:  farm ps --all")),
            many => {
                let names: Vec<String> = many.iter().take(SHOWN).map(|k| self.handle(&k.order)).collect();
                let more = if many.len() > SHOWN { ", ..." } else { "" };
                Err(Failure::new("ambiguous-job", format!("`{text}` fits several jobs: {}{more}", names.join(", ")))
                    .next("write a little more of it"))
            }
        }
    }
}

fn shared(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

/// Remembers a job.
pub(crate) fn remember(folder: &Path, record: &JobRecord) -> Result<(), Failure> {
    crate::config::make_private(folder)?;
    RecordFile::new(folder.join(format!("{}.json", record.order))).save(record).map_err(Failure::from)
}

/// Drops the record of a job that was never placed. One that stays shows as a job that is not on the ledger.
pub(crate) fn forget(folder: &Path, order: &OrderId) {
    let _ = std::fs::remove_file(folder.join(format!("{order}.json")));
}

/// Reads all records. Those that cannot be read are counted, so that the user can be told.
pub(crate) fn recall(folder: &Path) -> (Vec<JobRecord>, usize) {
    let Ok(items) = std::fs::read_dir(folder) else { return (vec![], 0) };
    let (mut records, mut damaged) = (vec![], 0);
    let json = items.flatten().map(|i| i.path()).filter(|p| p.extension().is_some_and(|e| e == "json"));
    for path in json.take(MAX_RECORDS) {
        match RecordFile::<JobRecord>::new(path).load() {
            Ok(Some(record)) => records.push(record),
            Ok(None) => {}
            Err(_) => damaged += 1,
        }
    }
    records.sort_by_key(|r| std::cmp::Reverse((r.created_ms, r.order)));
    (records, damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(first: u8, second: u8, name: &str) -> JobRecord {
        let mut id = [0; 32];
        (id[0], id[1]) = (first, second);
        JobRecord {
            order: OrderId(id),
            name: name.into(),
            network: ZoneId([1; 32]),
            created_ms: u64::from(first),
            disk_bytes: 1,
            part_of: None,
        }
    }

    #[test]
    fn what_was_never_placed_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, refused) = (record(1, 0, "a"), record(2, 0, "a"));
        for r in [&kept, &refused] {
            remember(dir.path(), r).unwrap();
        }
        forget(dir.path(), &refused.order);
        assert_eq!(recall(dir.path()).0.iter().map(|r| r.order).collect::<Vec<_>>(), [kept.order]);
    }

    #[test]
    fn codes_are_base_32_of_the_order() {
        let code = code(&OrderId([0xff; 32]));
        assert_eq!(code.len(), 52);
        // 256 bits are 51 digits and one bit, which stands in front of four zeros.
        assert!(code.starts_with("zzzzz") && code.ends_with("zg"));
        assert!(super::code(&record(0b0000_1000, 0b0100_0000, "a").order).starts_with("1100"));
    }

    #[test]
    fn handles_are_as_short_as_they_can_be() {
        let records = [record(1, 0, "fold"), record(1, 2, "fold"), record(1, 0, "x"), record(9, 9, "fold")];
        let names = Names::new([OrderId([7; 32])], &records, &ZoneId([1; 32]));
        let handle = |r: &JobRecord| names.handle(&r.order);
        // 00000001 00000000 and 00000001 00000010: the first 14 bits are shared, two digits and a part of the third.
        assert_eq!(handle(&records[3]), format!("fold-{}", &code(&records[3].order)[..3]));
        assert!(names.handle(&OrderId([7; 32])).starts_with("job-"));
        let (a, b) = (names.find(&handle(&records[1])).unwrap(), names.find(&records[3].order.to_string()[..6]).unwrap());
        assert_eq!((a, b), (records[1].order, records[3].order));
        assert_eq!(names.find("JOB").unwrap(), OrderId([7; 32]));
        let e = names.find("fold").unwrap_err();
        assert!(e.message.contains("several"), "{e:?}");
        assert!(names.find("nothing").is_err() && names.find("").is_err());
        assert!(Names::new([], &records, &ZoneId([2; 32])).find("fold").is_err(), "another network's jobs are not here");
    }

    #[test]
    fn records_survive_and_damage_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("jobs");
        assert_eq!(recall(&folder), (vec![], 0));
        for r in [record(1, 0, "a"), record(2, 0, "b")] {
            remember(&folder, &r).unwrap();
        }
        std::fs::write(folder.join("x.json"), "half").unwrap();
        let (records, damaged) = recall(&folder);
        assert_eq!((records.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), damaged), (vec!["b", "a"], 1));
    }
}
