//! The export file: a ledger's whole state at one height, in one piece that can be carried to another directory. Format:
//! `docs/specs/light.md` §7.
//!
//! Guarantees: written and read as a stream, so that memory does not grow with the state; entries ascend; the last 32 bytes are the
//! BLAKE3 of everything before them. [`Reader`] gives an entry only after its sizes were checked, and says that the file is whole
//! only at its end: a reader that acts on entries must be able to undo that. It does not know what an entry means; whether
//! header, block and certificate fit each other is for `node` to check.

use crate::StoreError;
use borsh::{BorshDeserialize, BorshSerialize};
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::path::Path;

/// The format written here. Format 1, which knows neither handovers nor seats, is read too.
pub const EXPORT_VERSION: u16 = 2;
/// Without handovers and seats.
const FIRST_VERSION: u16 = 1;
/// Longest key of an entry.
pub const MAX_EXPORT_KEY: usize = 1024;
/// Largest value of an entry: the ledger store's own limit.
pub const MAX_EXPORT_VALUE: usize = 2 << 20;
/// Most handovers: one a day for eleven years.
const MAX_HANDOVERS: usize = 4_096;
/// Largest of them: a block header, and keys and signatures of 128 validators.
const MAX_HANDOVER: usize = 32 << 10;
/// Largest header: a genesis of a mebibyte, block headers, a certificate, seats, and the handovers.
const MAX_HEADER: usize = (2 << 20) + MAX_HANDOVERS * MAX_HANDOVER;
const MAGIC: [u8; 8] = *b"pastmove";
/// Stands where a key's length would: the entries are over.
const END: u32 = u32::MAX;
const ENTRIES_DOMAIN: &str = "pasture 2026-11 exported entries v1";

/// What a file says of itself before its entries.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct ExportHeader {
    /// The zone.
    pub zone: [u8; 32],
    /// Height of the block whose state it is.
    pub height: u64,
    /// Root of the state in the engine that it came from. Another engine, or the same one from a fresh start, gives the same
    /// entries another root: see [`Summary::digest`].
    pub state_root: [u8; 32],
    /// Rules that the state follows.
    pub rules_version: u32,
    /// The zone's genesis, encoded.
    pub genesis: Vec<u8>,
    /// The block's header, encoded, and its descendants' up to the certified one.
    pub block_headers: Vec<Vec<u8>>,
    /// The finality certificate of the last of them.
    pub certificate: Vec<u8>,
    /// How the genesis's validators handed over to those that certified the block, oldest first, each encoded as a light client reads
    /// it. The block's own, where it ends a term, is not among them: the header, its certificate and [`ExportHeader::seats`] are it.
    pub handovers: Vec<Vec<u8>>,
    /// Who certifies the block after it, ascending by key. None in a file of format 1.
    pub seats: Vec<ExportSeat>,
}

/// A validator's public keys.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct ExportSeat {
    /// Ed25519 key.
    pub key: [u8; 32],
    /// BLS12-381 key.
    pub bls_key: Vec<u8>,
    /// Proof that the validator holds the BLS key.
    pub bls_pop: Vec<u8>,
}

/// What a whole file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Entries.
    pub entries: u64,
    /// Digest of the entries alone: two states are equal if and only if this is.
    pub digest: [u8; 32],
}

/// Why a file is not read, or not written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It is something else.
    #[error("it is not an exported ledger")]
    Foreign,
    /// It was written by another version.
    #[error("it is of format {found}; this program reads formats up to {EXPORT_VERSION}: use a newer one")]
    Version {
        /// Its format.
        found: u16,
    },
    /// It ends too early: a copy that broke off.
    #[error("it ends too early, after {entries} entries: copy or export it again")]
    Truncated {
        /// Entries that were whole.
        entries: u64,
    },
    /// It is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
}

fn damaged(what: impl Into<String>) -> ExportError {
    ExportError::Damaged(what.into())
}

/// What both directions keep count of.
struct Sums {
    file: blake3::Hasher,
    entries: blake3::Hasher,
    count: u64,
    last: Option<Vec<u8>>,
}

impl Sums {
    fn new() -> Self {
        Self { file: blake3::Hasher::new(), entries: blake3::Hasher::new_derive_key(ENTRIES_DOMAIN), count: 0, last: None }
    }

    /// Takes note of an entry; false if it does not come after the one before.
    fn entry(&mut self, key: &[u8], value: &[u8]) -> bool {
        if self.last.as_deref().is_some_and(|last| last >= key) {
            return false;
        }
        for part in [&length(key)[..], &length(value), key, value] {
            self.entries.update(part);
        }
        self.count += 1;
        self.last = Some(key.to_vec());
        true
    }

    fn summary(&self) -> Summary {
        Summary { entries: self.count, digest: *self.entries.finalize().as_bytes() }
    }
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(END).to_be_bytes()
}

/// Digest of entries in ascending order, as [`Summary::digest`].
pub fn digest_entries<'a>(entries: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> [u8; 32] {
    let mut sums = Sums::new();
    for (key, value) in entries {
        sums.entry(key, value);
    }
    sums.summary().digest
}

/// Writes a file.
pub struct Writer<W> {
    out: W,
    sums: Sums,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// The system's, or a header that is too large.
    pub fn new(out: W, header: &ExportHeader) -> Result<Self, ExportError> {
        let header = borsh::to_vec(header)?;
        if header.len() > MAX_HEADER {
            return Err(damaged("its header would be too large"));
        }
        let mut writer = Self { out, sums: Sums::new() };
        for part in [&MAGIC[..], &EXPORT_VERSION.to_be_bytes(), &length(&header), &header] {
            writer.put(part)?;
        }
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sums.file.update(bytes);
        self.out.write_all(bytes)
    }

    /// Adds an entry; entries ascend.
    ///
    /// # Errors
    /// The system's, or an entry that no reader would take.
    pub fn entry(&mut self, key: &[u8], value: &[u8]) -> Result<(), ExportError> {
        if key.len() > MAX_EXPORT_KEY || value.len() > MAX_EXPORT_VALUE || !self.sums.entry(key, value) {
            return Err(damaged(format!("entry {} is too large or out of order", self.sums.count + 1)));
        }
        for part in [&length(key)[..], &length(value), key, value] {
            self.put(part)?;
        }
        Ok(())
    }

    /// Ends the file, without syncing it; gives what was written to back.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(mut self) -> Result<(Summary, W), ExportError> {
        let summary = self.sums.summary();
        for part in [&END.to_be_bytes()[..], &summary.entries.to_be_bytes(), &summary.digest] {
            self.put(part)?;
        }
        let sum = self.sums.file.finalize();
        self.out.write_all(sum.as_bytes())?;
        self.out.flush()?;
        Ok((summary, self.out))
    }
}

/// Reads a file.
pub struct Reader<R> {
    from: R,
    header: ExportHeader,
    sums: Sums,
    summary: Option<Summary>,
}

impl<R: Read> Reader<R> {
    /// Reads as far as the header.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn new(mut from: R) -> Result<Self, ExportError> {
        let mut sums = Sums::new();
        let magic: [u8; 8] = take(&mut from, &mut sums).map_err(|e| match e {
            ExportError::Truncated { .. } => ExportError::Foreign,
            other => other,
        })?;
        if magic != MAGIC {
            return Err(ExportError::Foreign);
        }
        let found = u16::from_be_bytes(take(&mut from, &mut sums)?);
        if !(FIRST_VERSION..=EXPORT_VERSION).contains(&found) {
            return Err(ExportError::Version { found });
        }
        let size = u32::from_be_bytes(take(&mut from, &mut sums)?);
        let mut header = take_vec(&mut from, &mut sums, size, MAX_HEADER, "its header")?;
        if found == FIRST_VERSION {
            // Two empty lists, which format 1 ends before.
            header.extend_from_slice(&[0; 2 * size_of::<u32>()]);
        }
        let header = borsh::from_slice(&header).map_err(|e| damaged(format!("its header: {e}")))?;
        Ok(Self { from, header, sums, summary: None })
    }

    /// What the file says of itself. Not to be believed before the end.
    #[must_use]
    pub const fn header(&self) -> &ExportHeader {
        &self.header
    }

    /// The next entry; `None` at the end, once the whole file is known to be as it was written.
    ///
    /// # Errors
    /// [`ExportError`].
    #[allow(clippy::type_complexity)] // a key and a value
    pub fn entry(&mut self) -> Result<Option<(Vec<u8>, Vec<u8>)>, ExportError> {
        if self.summary.is_some() {
            return Ok(None);
        }
        let size = u32::from_be_bytes(take(&mut self.from, &mut self.sums)?);
        if size == END {
            return self.end().map(|()| None);
        }
        let value_size = u32::from_be_bytes(take(&mut self.from, &mut self.sums)?);
        let key = take_vec(&mut self.from, &mut self.sums, size, MAX_EXPORT_KEY, "a key")?;
        let value = take_vec(&mut self.from, &mut self.sums, value_size, MAX_EXPORT_VALUE, "a value")?;
        if !self.sums.entry(&key, &value) {
            return Err(damaged(format!("entry {} does not come after the one before it", self.sums.count + 1)));
        }
        Ok(Some((key, value)))
    }

    fn end(&mut self) -> Result<(), ExportError> {
        let entries = u64::from_be_bytes(take(&mut self.from, &mut self.sums)?);
        let digest: [u8; 32] = take(&mut self.from, &mut self.sums)?;
        let sum = *self.sums.file.finalize().as_bytes();
        let said: [u8; 32] = take(&mut self.from, &mut self.sums)?;
        if said != sum {
            return Err(damaged("its checksum does not match"));
        }
        let summary = self.sums.summary();
        if summary != (Summary { entries, digest }) {
            return Err(damaged("its entries are not those it says it has"));
        }
        if self.from.read(&mut [0])? != 0 {
            return Err(damaged("it goes on after its end"));
        }
        self.summary = Some(summary);
        Ok(())
    }

    /// What the file holds; `None` before its end was read.
    #[must_use]
    pub const fn summary(&self) -> Option<Summary> {
        self.summary
    }
}

/// [`Summary::digest`] as a file states it, without reading the file: to be compared when the entries are read.
///
/// # Errors
/// The system's, or a file that is too short to be one.
pub fn digest_at_end(path: &Path) -> Result<[u8; 32], StoreError> {
    // The digest, and the checksum of the file.
    const TAIL: i64 = 64;
    let mut file = File::open(path).map_err(StoreError::io("read", path))?;
    let mut digest = [0; 32];
    file.seek(SeekFrom::End(-TAIL)).and_then(|_| file.read_exact(&mut digest)).map_err(StoreError::io("read", path))?;
    Ok(digest)
}

fn fill(from: &mut impl Read, sums: &mut Sums, bytes: &mut [u8]) -> Result<(), ExportError> {
    from.read_exact(bytes).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => ExportError::Truncated { entries: sums.count },
        _ => ExportError::Io(e),
    })?;
    sums.file.update(bytes);
    Ok(())
}

fn take<const N: usize>(from: &mut impl Read, sums: &mut Sums) -> Result<[u8; N], ExportError> {
    let mut bytes = [0; N];
    fill(from, sums, &mut bytes)?;
    Ok(bytes)
}

fn take_vec(from: &mut impl Read, sums: &mut Sums, size: u32, limit: usize, what: &str) -> Result<Vec<u8>, ExportError> {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > limit {
        return Err(damaged(format!("{what} of {size} bytes, where at most {limit} are possible, after {} entries", sums.count)));
    }
    let mut bytes = vec![0; size];
    fill(from, sums, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

    fn header() -> ExportHeader {
        ExportHeader {
            zone: [1; 32],
            height: 7,
            state_root: [2; 32],
            rules_version: 1,
            genesis: vec![3; 10],
            block_headers: vec![vec![4; 10]],
            certificate: vec![5; 10],
            handovers: vec![vec![6; 10], vec![7; 3]],
            seats: vec![ExportSeat { key: [8; 32], bls_key: vec![9; 96], bls_pop: vec![10; 48] }],
        }
    }

    fn written(entries: &Entries) -> (Vec<u8>, Summary) {
        let mut writer = Writer::new(vec![], &header()).unwrap();
        for (key, value) in entries {
            writer.entry(key, value).unwrap();
        }
        let (summary, bytes) = writer.finish().unwrap();
        (bytes, summary)
    }

    fn read(bytes: &[u8]) -> Result<(Entries, Summary), ExportError> {
        let mut reader = Reader::new(bytes)?;
        let mut entries = BTreeMap::new();
        while let Some((key, value)) = reader.entry()? {
            entries.insert(key, value);
        }
        // Believed at the end only.
        assert_eq!(reader.header(), &header());
        Ok((entries, reader.summary().unwrap()))
    }

    fn few() -> Entries {
        BTreeMap::from([(vec![], vec![9]), (vec![1], vec![]), (vec![1, 0], vec![7; 300]), (vec![2; 40], b"x".to_vec())])
    }

    #[test]
    fn no_byte_of_a_file_can_be_changed_or_missing() {
        let (bytes, summary) = written(&few());
        assert_eq!(read(&bytes).unwrap(), (few(), summary));
        assert_eq!(summary.digest, digest_entries(few().iter().map(|(k, v)| (k.as_slice(), v.as_slice()))));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(read(&changed).is_err(), "byte {at}");
            assert!(read(&bytes[..at]).is_err(), "{at} bytes");
        }
        assert!(read(&[&bytes[..], &[0]].concat()).unwrap_err().to_string().contains("goes on after its end"));
    }

    #[test]
    fn a_file_of_the_first_format_is_read() {
        #[derive(BorshSerialize)]
        struct First {
            zone: [u8; 32],
            height: u64,
            state_root: [u8; 32],
            rules_version: u32,
            genesis: Vec<u8>,
            block_headers: Vec<Vec<u8>>,
            certificate: Vec<u8>,
        }
        let now = ExportHeader { handovers: vec![], seats: vec![], ..header() };
        let ExportHeader { zone, height, state_root, rules_version, genesis, block_headers, certificate, .. } = now.clone();
        let first = First { zone, height, state_root, rules_version, genesis, block_headers, certificate };
        let first = borsh::to_vec(&first).unwrap();
        let (summary, entries) = (Sums::new().summary(), [&END.to_be_bytes()[..], &0u64.to_be_bytes()].concat());
        let parts = [&MAGIC[..], &1u16.to_be_bytes(), &length(&first), &first, &entries, &summary.digest];
        let mut bytes = parts.concat();
        bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
        let mut reader = Reader::new(bytes.as_slice()).unwrap();
        assert_eq!(reader.header(), &now);
        assert_eq!(reader.entry().unwrap(), None);
        assert_eq!(reader.summary(), Some(summary));
        // What follows the header of format 1 is not taken for a list of format 2.
        let mut longer = bytes.clone();
        longer[10..14].copy_from_slice(&length(&[&first[..], &[0; 8]].concat()));
        assert!(Reader::new(longer.as_slice()).is_err());
    }

    #[test]
    fn each_refusal_says_what_is_wrong() {
        let (bytes, _) = written(&few());
        assert!(matches!(read(b"PK\x03\x04 a zip file"), Err(ExportError::Foreign)));
        assert!(matches!(read(b""), Err(ExportError::Foreign)));
        let mut newer = bytes.clone();
        newer[9] = 9;
        assert!(matches!(read(&newer), Err(ExportError::Version { found: 9 })));
        assert!(matches!(read(&bytes[..bytes.len() - 100]), Err(ExportError::Truncated { entries: 3 })));
        let mut sum = bytes.clone();
        *sum.last_mut().unwrap() ^= 1;
        assert!(read(&sum).unwrap_err().to_string().contains("checksum"));
        let mut writer = Writer::new(vec![], &header()).unwrap();
        writer.entry(b"b", b"").unwrap();
        assert!(writer.entry(b"a", b"").is_err());
        assert!(writer.entry(b"b", b"").is_err());
        assert!(writer.entry(&[9; MAX_EXPORT_KEY + 1], b"").is_err());
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(entries in proptest::collection::btree_map(proptest::collection::vec(any::<u8>(), 0..20), proptest::collection::vec(any::<u8>(), 0..50), 0..30)) {
            let (bytes, summary) = written(&entries);
            let (again, same) = read(&bytes).unwrap();
            prop_assert_eq!(again, entries);
            prop_assert_eq!(summary, same);
        }

        #[test]
        fn any_bytes_give_an_error_and_no_panic(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend_from_slice(&EXPORT_VERSION.to_be_bytes());
            bytes.extend_from_slice(&tail);
            let outcome = Reader::new(bytes.as_slice()).and_then(|mut reader| {
                while reader.entry()?.is_some() {}
                Ok(())
            });
            prop_assert!(outcome.is_err());
        }
    }
}
