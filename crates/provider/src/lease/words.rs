//! What a lease's record says in words: each text sealed for the job's reader where it is made.
//!
//! Guarantees: once the job's description is known, no text about the job reaches the disk or leaves this machine in the clear; a text
//! that cannot be sealed is not kept. Texts from before, when nothing of the job is here but its order, are sealed when the reader is
//! known. What the machine needs itself (kinds, codes, times) is no text and stays as it is.

use super::record::LeaseRecord;
use pasture_api::data::Said;
use pasture_store::said::seal_text;
use pasture_store::seal::is_key;
use pasture_types::LeaseId;
use pasture_types::spec::{MAX_MANIFEST_BYTES, Manifest};
use pasture_types::{blob, codec};
use std::path::Path;

/// What stands for a text that could not be sealed.
const UNSEALED: &str = "(what happened could not be sealed, and is not kept)";
/// What the log says between two instances where it is not known any more why.
pub(crate) const AGAIN: &str = "[farm] the job is started again\n";

/// Without control characters: what a job says is hostile, and ends on a terminal.
fn clean(text: &str) -> String {
    text.chars().filter(|c| *c == '\t' || !c.is_control()).collect()
}

/// A text about a lease, for its reader if there is one yet.
pub(crate) fn say(reader: Option<&[u8; 32]>, lease: &LeaseId, text: &str) -> Said {
    let text = clean(text);
    match reader {
        _ if text.is_empty() => Said::nothing(),
        None => Said::clear(text),
        Some(reader) => seal_text(reader, lease, &text).map_or_else(|_| Said::clear(UNSEALED), Said::sealed),
    }
}

impl LeaseRecord {
    /// A text, for the job's reader if that is known.
    pub(crate) fn say(&self, text: &str) -> Said {
        say(self.reader.as_ref(), &self.terms.lease, text)
    }

    /// The job's reader is known: seals what was said before. Whether that changed the record.
    pub(crate) fn read_by(&mut self, reader: [u8; 32]) -> bool {
        if self.reader.is_some() {
            return false;
        }
        self.reader = Some(reader);
        let lease = self.terms.lease;
        let mut sealed = false;
        let mut seal = |said: &mut Said| sealed |= said.seal(|text| say(Some(&reader), &lease, text));
        seal(&mut self.detail);
        self.stop.iter_mut().for_each(|stop| seal(&mut stop.detail));
        self.update.iter_mut().for_each(|update| seal(&mut update.detail));
        self.upkeep.unhealthy.iter_mut().for_each(&mut seal);
        self.upkeep.history.iter_mut().for_each(|happening| seal(&mut happening.text));
        // A record from before texts were sealed: its note may hold what the job said.
        if !self.upkeep.note.is_empty() {
            self.upkeep.note = AGAIN.into();
            sealed = true;
        }
        sealed
    }

    /// Seals what an earlier version left in the clear in a record that is read back, for the reader that the description kept beside it
    /// names. Whether that changed the record.
    pub(crate) fn seal_earlier(&mut self, dir: &Path) -> bool {
        if self.reader.is_some() {
            return false;
        }
        let path = dir.join("manifest");
        let small = std::fs::metadata(&path).is_ok_and(|m| m.len() <= MAX_MANIFEST_BYTES as u64);
        let ours = |bytes: &Vec<u8>| blob::hash(bytes) == self.manifest.unwrap_or(self.terms.spec_hash);
        let kept = small.then(|| std::fs::read(&path).ok()).flatten().filter(ours);
        let manifest = kept.and_then(|bytes| codec::decode::<Manifest>(&bytes, MAX_MANIFEST_BYTES).ok());
        manifest.filter(|m| is_key(&m.reader)).is_some_and(|m| self.read_by(m.reader))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::manifest::tests::{READER, manifest, terms};
    use crate::lease::record::{StopOrder, Update};
    use pasture_api::data::Happening;
    use pasture_store::said::open_text;
    use pasture_store::sealed::ReaderKey;
    use pasture_types::lease::EndReason;
    use pasture_types::{BlobHash, Millis, Timestamp};

    const SECRET: &str = "what the job said";

    fn opened(said: &Said) -> String {
        let mut said = said.clone();
        said.open(|sealed| open_text(&ReaderKey::derived(&READER), &terms(&manifest()).lease, sealed).unwrap());
        said.text().to_owned()
    }

    /// As a version wrote it that sealed no texts.
    fn earlier() -> LeaseRecord {
        let mut record = LeaseRecord::new(terms(&manifest()));
        record.detail = Said::clear(SECRET);
        record.stop = Some(StopOrder { reason: EndReason::StoppedByUser, grace_ms: Millis(1), detail: Said::clear(SECRET) });
        record.update = Some(Update { detail: Said::clear(SECRET), ..Update::new(BlobHash([1; 32])) });
        record.upkeep.unhealthy = Some(Said::clear(SECRET));
        record.upkeep.note = format!("[farm] {SECRET}\n");
        record.upkeep.history = [Happening { at: Timestamp(1), text: Said::clear(SECRET) }].into();
        record
    }

    fn json(record: &LeaseRecord) -> serde_json::Value {
        serde_json::to_value(record).unwrap()
    }

    #[test]
    fn an_earlier_record_is_read_and_sealed_for_the_reader_that_its_manifest_names() {
        let mut old = json(&earlier());
        // Its texts are plain strings, and it knows no reader.
        assert_eq!(old["detail"], SECRET);
        assert_eq!(old.as_object_mut().unwrap().remove("reader"), Some(serde_json::Value::Null));
        old["upkeep"].as_object_mut().unwrap().remove("log_cut");
        let mut record: LeaseRecord = serde_json::from_value(old).unwrap();
        assert_eq!(record, earlier());

        let dir = tempfile::tempdir().unwrap();
        assert!(!record.seal_earlier(dir.path()), "nobody to seal for");
        std::fs::write(dir.path().join("manifest"), b"another").unwrap();
        assert!(!record.seal_earlier(dir.path()));
        std::fs::write(dir.path().join("manifest"), manifest().to_bytes()).unwrap();
        assert!(record.seal_earlier(dir.path()));
        assert!(!record.seal_earlier(dir.path()), "once");
        assert!(!json(&record).to_string().contains(SECRET), "{record:?}");
        let record: LeaseRecord = serde_json::from_value(json(&record)).unwrap();
        let (stop, update) = (record.stop.unwrap().detail, record.update.unwrap().detail);
        for said in [&record.detail, &stop, &update, &record.upkeep.unhealthy.unwrap(), &record.upkeep.history[0].text] {
            assert_eq!(opened(said), SECRET);
        }
    }

    #[test]
    fn texts_are_clear_until_there_is_a_reader_and_have_no_control_characters() {
        let mut record = LeaseRecord::new(terms(&manifest()));
        assert_eq!(record.say("\u{1b}[31mno\n").text(), "[31mno");
        assert!(!record.read_by(manifest().reader), "nothing was said");
        let said = record.say("yes\u{7}");
        assert_eq!((said.boxes().count(), opened(&said).as_str()), (1, "yes"));
        assert!(record.say("").is_empty());
    }
}
