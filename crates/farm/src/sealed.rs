//! What a machine keeps for its job's user, opened here: the log as its bytes come, what the job left, and what it says in words.
//!
//! Guarantees: what is shown was sealed for this account's reader key and for this very lease, in this order and without a gap; a whole log
//! is compared with the root in the machine's last signed statement, so that nobody on the way, and nobody who has the machine's disk now,
//! can put in words of their own or leave the end out; an output is the one that the machine signed. Before that statement there is nothing to compare with, and of a log that is read
//! from the middle on neither. Nor can words be compared with anything: whoever passes a status on may leave them out or make up others, so
//! they are shown and decide nothing; what does not open is said to be so, and the rest of the status is shown.

use crate::commands::watch::is_signed;
use crate::exit::Failure;
use pasture_api::client::{LeaseClient, OpenText};
use pasture_api::data::{LeaseStatus, OutputInfo, SignedOutput};
use pasture_api::frames::{Decoder, Frame};
use pasture_store::said::{TextError, open_text};
use pasture_store::sealed::{Binding, Content, OpenError, Opener, ReaderKey};
use pasture_types::keys::Signature;
use pasture_types::{BlobHash, PublicKey};
use std::collections::VecDeque;
use std::sync::Arc;

/// Places of a log whose root is remembered: what a machine writes after its last statement is less.
const ROOTS: usize = 4096;

/// Why something does not open, for people. `what`: the log, the output.
pub(crate) fn closed(error: OpenError, what: &str, code: &str) -> Failure {
    match error {
        OpenError::Another => Failure::new("sealed-for-another", format!("{what} is sealed for another key than the one that is here"))
            .next("use the folder (FARM_HOME) of whoever started the job")
            .next("or take that main key from its copy:  farm keys restore FILE"),
        other => Failure::new(code, format!("{what} is not what the machine sealed: {other}")),
    }
}

/// What opens the words that machines say about our jobs. This is the one place where it happens: the client of each lease has it.
pub(crate) fn texts(reader: Option<ReaderKey>) -> OpenText {
    Arc::new(move |lease, sealed| match reader.as_ref().map(|reader| open_text(reader, lease, sealed)) {
        // A machine may seal what ends on a terminal.
        Some(Ok(text)) => text.chars().filter(|c| *c == '\t' || !c.is_control()).collect(),
        Some(Err(TextError::Another)) | None => "(sealed for another key)".into(),
        Some(Err(TextError::Changed)) => "(damaged: it does not open)".into(),
    })
}

/// What is said after a log of which the machine had not all.
pub(crate) const CUT: &str = "the end of the log may be missing: the machine's container engine did not give all of it";

/// Whether an output that came is the one that the machine keeps.
pub(crate) fn is_kept(client: &LeaseClient, status: &LeaseStatus, hash: BlobHash, bytes: u64) -> Result<(), Failure> {
    let signed = |kept: &SignedOutput| {
        let digest = kept.output.digest(&client.lease());
        let node = PublicKey::from(client.node());
        kept.output == OutputInfo { hash, bytes }
            && Signature::try_from(&kept.node_signature).is_ok_and(|s| node.verify(&digest, &s).is_ok())
    };
    if status.output.as_ref().is_some_and(signed) {
        return Ok(());
    }
    Err(Failure::new("bad-output", "the job's output is not what its machine keeps and signed").next("nothing was unpacked"))
}

/// A log as its bytes come.
pub(crate) struct SealedLog {
    opener: Opener,
    frames: Decoder,
    /// Read from its beginning: the roots at the last places where it could end.
    roots: Option<VecDeque<(u64, BlobHash)>>,
}

impl SealedLog {
    /// A lease's log from the record at `from` on.
    pub(crate) fn new(client: &LeaseClient, reader: ReaderKey, from: u64) -> Self {
        let binding = Binding { content: Content::Log, lease: client.lease() };
        let roots = (from == 0).then(|| VecDeque::from([(0, pasture_types::blob::hash(&[]))]));
        Self { opener: Opener::new(reader, binding, from), frames: Decoder::default(), roots }
    }
    /// Where to read on.
    pub(crate) const fn at(&self) -> u64 {
        self.opener.at()
    }
    /// The connection begins anew.
    pub(crate) fn again(&mut self) {
        self.opener.again();
    }
    /// Bytes as they came.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.opener.push(bytes);
    }
    /// The next frame, if all of it is here.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, Failure> {
        loop {
            match self.frames.next_frame() {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => {}
                Err(e) => return Err(Failure::new("bad-log", e.to_string())),
            }
            let Some(chunk) = self.opener.next_chunk().map_err(|e| closed(e, "the log", "bad-log"))? else { return Ok(None) };
            self.frames.push(&chunk);
            if let Some(roots) = &mut self.roots {
                if roots.len() >= ROOTS {
                    roots.pop_front();
                }
                roots.push_back((self.opener.at(), self.opener.root()));
            }
        }
    }

    /// Compares all that was read with what the machine stated when the job had ended, if it has said so.
    pub(crate) fn check(&self, client: &LeaseClient, status: &LeaseStatus) -> Result<(), Failure> {
        let (Some(statement), Some(roots)) = (&status.statement, &self.roots) else { return Ok(()) };
        let usage = &statement.usage;
        let ours = usage.lease == client.lease() && is_signed(usage, &client.node(), &statement.node_signature);
        let root = roots.iter().find(|(at, _)| *at == usage.log_bytes).map(|(_, root)| *root);
        if ours && root == Some(usage.log_root) {
            return Ok(());
        }
        let (words, had) = (usage.log_root.short(), root.map_or("none".into(), |root| root.short()));
        let why = if ours { format!("at byte {} its root is {had}, not {words}", usage.log_bytes) } else { "that is not signed".into() };
        Err(Failure::new("bad-log", format!("the log is not what the machine stated at the end of the job: {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_api::data::{NodeEvent, Said};
    use pasture_store::said::seal_text;
    use pasture_types::LeaseId;

    #[test]
    fn words_that_do_not_open_are_said_to_be_so_and_hide_nothing_else() {
        let (ours, theirs, lease) = (ReaderKey::derived(&[1; 32]), ReaderKey::derived(&[2; 32]), LeaseId([3; 32]));
        let sealed = |key: &ReaderKey, lease, text| Said::sealed(seal_text(&key.public(), lease, text).unwrap());
        let open = texts(Some(ours.clone()));
        for (said, shown) in [
            (Said::clear("its check failed: ").then(sealed(&ours, &lease, "\u{1b}[31mno")), "its check failed: [31mno"),
            (sealed(&theirs, &lease, "no"), "(sealed for another key)"),
            (sealed(&ours, &LeaseId([4; 32]), "no"), "(damaged: it does not open)"),
            (Said::sealed(vec![]), "(damaged: it does not open)"),
            (Said::clear("a word from before"), "a word from before"),
        ] {
            let mut event = NodeEvent::Output { line: said };
            event.each_text(|said| said.open(|sealed| open(&lease, sealed)));
            let NodeEvent::Output { line } = event else { unreachable!() };
            assert_eq!(line.text(), shown);
        }
        assert_eq!(texts(None)(&lease, &[]), "(sealed for another key)");
    }
}
