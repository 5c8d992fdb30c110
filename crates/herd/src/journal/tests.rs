//! The journal's promises on a disk that crashes, tears, rots and fills up.

use super::*;
use crate::queue::Entry;
use crate::task::NewTask;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A disk in memory: bytes that are safe, and bytes that a crash may take.
#[derive(Default, Clone)]
struct Disk(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    files: BTreeMap<String, Vec<u8>>,
    synced: BTreeMap<String, usize>,
    room: Option<usize>,
    fail_sync: bool,
}

struct Handle(Disk, String);

impl Handle {
    /// Its name now: publishing renames it.
    fn name(&self, disk: &Inner) -> String {
        let published = self.1.trim_end_matches(".new");
        if disk.files.contains_key(&self.1) { self.1.clone() } else { published.to_owned() }
    }
}

impl LogFile for Handle {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.0.0.lock().unwrap();
        let used: usize = disk.files.values().map(Vec::len).sum();
        let fits = disk.room.map_or(bytes.len(), |room| room.saturating_sub(used).min(bytes.len()));
        let name = self.name(&disk);
        disk.files.get_mut(&name).unwrap().extend_from_slice(&bytes[..fits]);
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.0.0.lock().unwrap();
        if disk.fail_sync {
            return Err(io::Error::other("i/o error"));
        }
        let name = self.name(&disk);
        let length = disk.files[&name].len();
        disk.synced.insert(name, length);
        Ok(())
    }
    fn set_len(&mut self, length: u64) -> io::Result<()> {
        let mut disk = self.0.0.lock().unwrap();
        let name = self.name(&disk);
        disk.files.get_mut(&name).unwrap().truncate(usize::try_from(length).unwrap());
        Ok(())
    }
}

impl Disk {
    fn boxed(&self) -> Box<dyn Place> {
        Box::new(self.clone())
    }
    fn newest(&self) -> String {
        let numbers = self.list().unwrap();
        numbers.iter().max().unwrap().to_string()
    }
    /// A copy on which the unsynced end of the newest file is cut to `keep` bytes and its byte at `flip` is another.
    fn crash(&self, keep: usize, flip: Option<usize>) -> Self {
        let disk = self.0.lock().unwrap();
        let (mut files, name) = (disk.files.clone(), self.list_of(&disk).iter().max().unwrap().to_string());
        let safe = disk.synced.get(&name).copied().unwrap_or(0);
        let file = files.get_mut(&name).unwrap();
        file.truncate(safe + keep.min(file.len() - safe));
        if let Some(at) = flip.filter(|at| *at < file.len()) {
            file[at] ^= 0x55;
        }
        // What is there after a crash stays.
        let synced = files.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect();
        Self(Arc::new(Mutex::new(Inner { files, synced, ..Inner::default() })))
    }
    fn list_of(&self, disk: &Inner) -> Vec<u64> {
        disk.files.keys().filter_map(|n| n.parse().ok()).collect()
    }
}

impl Place for Disk {
    fn list(&self) -> io::Result<Vec<u64>> {
        Ok(self.list_of(&self.0.lock().unwrap()))
    }
    fn read(&self, number: u64) -> io::Result<Vec<u8>> {
        Ok(self.0.lock().unwrap().files[&number.to_string()].clone())
    }
    fn reopen(&mut self, number: u64) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(Handle(self.clone(), number.to_string())))
    }
    fn create(&mut self, number: u64) -> io::Result<Box<dyn LogFile>> {
        self.0.lock().unwrap().files.insert(format!("{number}.new"), vec![]);
        Ok(Box::new(Handle(self.clone(), format!("{number}.new"))))
    }
    fn publish(&mut self, number: u64) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        let bytes = disk.files.remove(&format!("{number}.new")).unwrap();
        disk.synced.insert(number.to_string(), bytes.len());
        disk.files.insert(number.to_string(), bytes);
        Ok(())
    }
    fn abandon(&mut self, number: u64) {
        self.0.lock().unwrap().files.remove(&format!("{number}.new"));
    }
    fn remove(&mut self, number: u64) -> io::Result<()> {
        self.0.lock().unwrap().files.remove(&number.to_string());
        Ok(())
    }
}

fn entry(n: u64) -> Entry {
    Entry::Submitted { id: n, task: NewTask::of(vec![u8::try_from(n % 251).unwrap(); usize::try_from(n % 40).unwrap()]) }
}

fn open(disk: &Disk) -> Result<(Journal, Vec<Entry>), JournalError> {
    Journal::open(disk.boxed(), || vec![entry(0)])
}

#[test]
fn a_crash_at_any_byte_keeps_what_was_acknowledged_and_no_half_batch() {
    let disk = Disk::default();
    let (mut journal, begun) = open(&disk).unwrap();
    assert_eq!(begun, [entry(0)]);
    journal.append(&[entry(1), entry(2)]).unwrap();
    journal.append(&[entry(3)]).unwrap();
    let whole = [entry(0), entry(1), entry(2), entry(3)];
    // The last batch is written and not yet synced.
    let mut next = Vec::new();
    batch(&[entry(4), entry(5)], 3, &mut next);
    journal.file.write_all(&next).unwrap();
    for keep in 0..=next.len() {
        let after = disk.crash(keep, None);
        let (mut journal, entries) = open(&after).unwrap();
        if keep < next.len() {
            assert_eq!(entries, whole);
        } else {
            assert_eq!(entries, [&whole[..], &[entry(4), entry(5)]].concat());
        }
        journal.append(&[entry(9)]).unwrap();
        assert_eq!(open(&after).unwrap().1, [&entries[..], &[entry(9)]].concat());
    }
    // A torn write may leave anything in what was not synced.
    let name = disk.newest();
    let safe = disk.0.lock().unwrap().synced[&name];
    for at in safe..safe + next.len() {
        assert_eq!(open(&disk.crash(next.len(), Some(at))).unwrap().1, whole, "byte {at}");
    }
}

#[test]
fn damage_in_what_was_acknowledged_is_refused_by_place_and_nothing_is_cut_off() {
    let disk = Disk::default();
    let (mut journal, _) = open(&disk).unwrap();
    for n in 1..6 {
        journal.append(&[entry(n)]).unwrap();
    }
    let name = disk.newest();
    let bytes = disk.0.lock().unwrap().files[&name].clone();
    let last = bytes.windows(4).rposition(|w| w == MAGIC).unwrap();
    for at in 0..last {
        let rotten = disk.crash(0, Some(at));
        assert!(matches!(open(&rotten), Err(JournalError::Damaged { file: 1, .. })), "byte {at}");
        assert_eq!(rotten.0.lock().unwrap().files[&name].len(), bytes.len());
    }
}

#[test]
fn a_full_disk_loses_nothing_and_the_journal_goes_on_when_there_is_room() {
    let disk = Disk::default();
    let (mut journal, _) = open(&disk).unwrap();
    journal.append(&[entry(1)]).unwrap();
    let used = journal.bytes() as usize;
    for room in used..used + 60 {
        disk.0.lock().unwrap().room = Some(room);
        assert!(matches!(journal.append(&[entry(39)]), Err(JournalError::Full(_))));
        assert!(matches!(journal.replace(&[entry(39), entry(38)]), Err(JournalError::Full(_))));
        assert_eq!(open(&disk.crash(usize::MAX, None)).unwrap().1, [entry(0), entry(1)]);
    }
    disk.0.lock().unwrap().room = None;
    journal.append(&[entry(2)]).unwrap();
    assert_eq!(open(&disk.crash(0, None)).unwrap().1, [entry(0), entry(1), entry(2)]);
}

#[test]
fn after_a_failed_sync_nothing_more_is_written() {
    let disk = Disk::default();
    let (mut journal, _) = open(&disk).unwrap();
    journal.append(&[entry(1)]).unwrap();
    disk.0.lock().unwrap().fail_sync = true;
    assert!(matches!(journal.append(&[entry(2)]), Err(JournalError::Broken(_))));
    disk.0.lock().unwrap().fail_sync = false;
    assert!(matches!(journal.append(&[entry(3)]), Err(JournalError::Broken(_))), "the disk may have forgotten what it failed to write");
    assert_eq!(open(&disk.crash(0, None)).unwrap().1, [entry(0), entry(1)]);
}

#[test]
fn a_real_folder_keeps_what_was_written_over_reopening_and_replacing() {
    let dir = tempfile::tempdir().unwrap();
    let place = || Box::new(Directory::new(dir.path().to_owned()));
    let (mut journal, _) = Journal::open(place(), || vec![entry(0)]).unwrap();
    journal.append(&[entry(1)]).unwrap();
    drop(journal);
    std::fs::write(dir.path().join("journal.7.new"), b"half of a snapshot").unwrap();
    let path = dir.path().join("journal.1");
    let mut torn = std::fs::read(&path).unwrap();
    torn.extend_from_slice(b"HRD1 and a half");
    std::fs::write(&path, torn).unwrap();
    let (mut journal, entries) = Journal::open(place(), || panic!("there is one")).unwrap();
    assert_eq!(entries, [entry(0), entry(1)]);
    for n in 2..9 {
        journal.replace(&[entry(n)]).unwrap();
    }
    journal.append(&[entry(9)]).unwrap();
    drop(journal);
    assert_eq!(Journal::open(place(), Vec::new).unwrap().1, [entry(8), entry(9)]);
    assert_eq!(place().list().unwrap(), [8], "one file is left");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Hostile bytes in place of a journal: an error or some entries, no panic, no endless loop.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400), magic in 0..400usize) {
        let mut bytes = bytes;
        let at = magic.min(bytes.len());
        bytes.splice(at..at, MAGIC);
        let _ = read(1, &bytes);
    }

    /// Appends, snapshots and crashes in any order.
    #[test]
    fn what_was_acknowledged_is_there_after_any_crash(steps in prop::collection::vec((0..4u8, 1..5u64, 0..200usize), 1..40)) {
        let mut disk = Disk::default();
        let (mut journal, mut model) = open(&disk).unwrap();
        let mut n = 1;
        for (what, count, keep) in steps {
            let new: Vec<Entry> = (n..n + count).map(entry).collect();
            n += count;
            match what {
                0 | 1 => { journal.append(&new).unwrap(); model.extend(new) }
                2 => { journal.replace(&new).unwrap(); model = new }
                _ => {
                    disk = disk.crash(keep, None);
                    let (again, entries) = open(&disk).unwrap();
                    prop_assert_eq!(&entries, &model);
                    journal = again;
                }
            }
        }
    }
}
