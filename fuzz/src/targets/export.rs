//! A file that says it is an exported ledger. First as it came, then with its checksum made to fit, so that what lies behind the
//! checksum is reached.

use pasture_store::export::{ExportError, Reader, Summary, Writer};

/// Reads all; what was read, written again, is the same file.
fn read(bytes: &[u8]) -> Result<Summary, ExportError> {
    let mut reader = Reader::new(bytes)?;
    let mut entries = vec![];
    while let Some(entry) = reader.entry()? {
        entries.push(entry);
    }
    let summary = reader.summary().expect("the end was read");
    assert_eq!(summary.entries, entries.len() as u64);
    assert!(entries.windows(2).all(|pair| pair[0].0 < pair[1].0));
    let mut writer = Writer::new(vec![], reader.header()).expect("it was read");
    for (key, value) in &entries {
        writer.entry(key, value).expect("it was read");
    }
    let (again, written) = writer.finish().expect("memory takes it");
    assert!(again == summary && written == bytes, "a second form of the same file");
    Ok(summary)
}

/// Takes one input; a broken promise panics.
pub fn run(data: &[u8]) {
    let _ = read(data);
    if let Some(body) = data.len().checked_sub(32).and_then(|length| data.get(..length)) {
        let _ = read(&[body, blake3::hash(body).as_bytes()].concat());
    }
}
