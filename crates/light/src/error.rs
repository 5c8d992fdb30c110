//! Why a proof was refused: one variant for each way of lying, or of being wrong.

use crate::validators::SetError;

/// What is wrong with a proof. None of these can be cured by asking the same gateway the same thing again, but
/// [`LightError::Older`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LightError {
    /// The bytes are not a proof.
    #[error("the proof is malformed: {part}: {what}")]
    Malformed {
        /// Which part.
        part: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A part is larger than it may be.
    #[error("the proof is malformed: {part} has {got} bytes or items where at most {limit} are allowed")]
    TooLong {
        /// Which part.
        part: &'static str,
        /// Its size.
        got: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// A newer, or a foreign, format.
    #[error("{part} has version {found}; this program knows {known}")]
    UnknownVersion {
        /// Of what.
        part: &'static str,
        /// The version found.
        found: u16,
        /// The version known here.
        known: u16,
    },
    /// The header is another zone's.
    #[error("the header belongs to another network: {}", hex(.found))]
    WrongZone {
        /// The zone that the header names.
        found: [u8; 32],
    },
    /// The header says that others certify it.
    #[error("the header names another set of validators than the trusted one: {}", hex(.found))]
    OtherValidators {
        /// Hash of the set that the header names.
        found: [u8; 32],
    },
    /// A chain of headers goes on past a change of validators. The last block before one is certified by itself, so an honest
    /// gateway never needs that.
    #[error("header {index} comes after a change of validators, which the headers alone do not show")]
    CrossesHandover {
        /// Which of the headers.
        index: usize,
    },
    /// A handover whose block leaves the seats to those who have them.
    #[error("the block of the handover changes no validators")]
    NoHandover,
    /// The set that came with a handover is not the one that its block names.
    #[error("the block of the handover names another next set of validators than the one shown: {}", hex(.named))]
    OtherSuccessors {
        /// Hash of the set that the header names.
        named: [u8; 32],
    },
    /// Something of a block that is not after the one since which the trusted set certifies: replaced long ago, or of another history.
    #[error("block {height} is not after block {since}, since which the trusted validators are the ones")]
    BeforeCheckpoint {
        /// Its height.
        height: u64,
        /// The checkpoint's height.
        since: u64,
    },
    /// What was to be a set of validators is none.
    #[error("the proof is malformed: {0}")]
    Set(#[from] SetError),
    /// The headers are no chain.
    #[error("header {index} does not follow from the one before it")]
    BrokenChain {
        /// Which of the headers.
        index: usize,
    },
    /// The certificate is for another block.
    #[error("the certificate is for another block than the header's")]
    HeaderNotCertified,
    /// Fewer signatures than a quorum.
    #[error("{votes} of {validators} validators signed, {quorum} are needed")]
    TooFewVotes {
        /// Signatures.
        votes: usize,
        /// Trusted validators.
        validators: usize,
        /// Signatures needed.
        quorum: usize,
    },
    /// A signature of nobody in the trusted set.
    #[error("signer {index} is not one of the {validators} trusted validators")]
    UnknownSigner {
        /// Position that was named.
        index: usize,
        /// Trusted validators.
        validators: usize,
    },
    /// The certificate was made by a set of another size.
    #[error("the certificate is of a set of {found} validators, the trusted one has {validators}")]
    WrongSetSize {
        /// Size of the set that the certificate speaks of.
        found: usize,
        /// Trusted validators.
        validators: usize,
    },
    /// More, or fewer, signatures than signers: somebody was to be counted twice.
    #[error("{signatures} signatures for {signers} different signers")]
    SignerCount {
        /// Different signers.
        signers: usize,
        /// Signatures.
        signatures: usize,
    },
    /// A signature that its validator did not make.
    #[error("the signature of validator {index} is not valid")]
    BadSignature {
        /// Which validator, in the trusted set's order.
        index: usize,
    },
    /// The proof is about another key than was asked for.
    #[error("the proof is about another record than was asked for")]
    OtherKey,
    /// The proof shows a record that was replaced or removed.
    #[error("the record that is shown is not in force any more")]
    Inactive,
    /// The path from the record to the root is not one that the store's tree has.
    #[error("the path to the root is not possible: {0}")]
    Path(&'static str),
    /// The path leads to another root: the value, its key, its neighbour or the path was changed.
    #[error("the record and its path do not lead to the header's state root")]
    RootMismatch,
    /// Absence was to be shown with two records between which the key does not lie.
    #[error("the neighbours shown do not enclose the key, so its absence is not shown")]
    NotBetween,
    /// What was said beside the proof is not what the proof shows.
    #[error("the value that was given is not the one that is proven")]
    ValueDiffers,
    /// The proof is sound, but of an older state than was asked for.
    #[error("the state shown is of block {height} at {time_ms} ms, which is older than was asked for")]
    Older {
        /// Its height.
        height: u64,
        /// Its ledger time.
        time_ms: u64,
    },
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
