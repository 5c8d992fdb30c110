//! Joining by state instead of by blocks.
//!
//! ```text
//!  find   "what came after this term?" ─► somebody ─► changes of seats: each checked by the seats before it, then kept
//!                                                └──► the last block that ended a term, with its certificate: where to begin
//!  then the engine: that block, the operations that make its state (`source`), and blocks from there on
//!  serve  the same to others
//! ```
//! Guarantees: nothing is believed that the seats of its own term did not certify, from the genesis on; whoever shows something else is kept
//! away. The state is checked against the block operation by operation before it is used, so a peer can delay and not deceive. Who has
//! held most keys of a set that sat long ago could show another history to somebody who knows the genesis alone: an [`Anchor`], which
//! somebody believed gave, leaves no room for one up to there (`docs/adr/0014`).

mod search;
mod source;

pub use search::Anchor;
pub(crate) use search::find;
pub(crate) use source::{Joining, Progress, SERVED_AT_ONCE, largest_answer};

use crate::block::{Digest, HEADER_SIZE, Header};
use crate::core::Core;
use crate::stack::Marshal;
use crate::terms::Change;
use bytes::Bytes;
use commonware_codec::{Buf, DecodeExt as _, Encode as _, EncodeSize, Error as CodecError, RangeCfg, Read, ReadExt as _, Write};
use commonware_consensus::simplex::{scheme::ed25519::Scheme, types::Finalization};
use commonware_consensus::types::{Epoch, Epocher as _};
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Blocker, Receiver, Recipients, Sender};
use commonware_runtime::{BufMut, IoBuf};
use std::sync::Arc;
use std::time::Duration;

/// Most changes in one answer; there is another for more.
const MAX_CHANGES: usize = 16;
/// Longest answer: that many changes of the largest sets.
pub(crate) const MAX_ANSWER_BYTES: usize = 2 << 20;
/// How long the others may take to answer before they are asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long somebody who is not connected waits before it looks again.
const CONNECT_WITHIN: Duration = Duration::from_millis(250);

/// How a node without blocks comes to today's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Join {
    /// It fetches all blocks and executes them.
    #[default]
    Blocks,
    /// It fetches the state after a recent block, and the blocks from there on. Where nothing ended yet that it could begin with, it
    /// fetches the blocks.
    State,
}

/// How far a node is that joins by state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinStep {
    /// Nobody lets it in yet: the others let in who has a seat, stands for election, or is named by their operators, and look at that when a
    /// term of the engine begins.
    Waiting,
    /// A validator showed another history than its seats certified, or than the checkpoint is of, and is not asked any more.
    Lied {
        /// What is wrong with it.
        why: &'static str,
    },
    /// It fetches the state after this block.
    State {
        /// Height of the block.
        height: u64,
        /// Operations that are here.
        have: u64,
        /// Operations that make the state.
        of: u64,
    },
    /// It has the state after this block, and goes on with blocks.
    Joined {
        /// Height of the block.
        height: u64,
    },
}

/// Hears how far it is.
pub type OnJoin = Arc<dyn Fn(JoinStep) + Send + Sync>;

/// How a node comes to its blocks, and how many stay.
#[derive(Clone, Default)]
pub struct History {
    /// How it comes to today's state if it has no blocks; not heeded with one validator.
    pub join: Join,
    /// Whom it knows besides the founders, if it joins by state.
    pub anchor: Option<Anchor>,
    /// Hears how far it is while it joins by state, on a thread of the engine's.
    pub on_join: Option<OnJoin>,
    /// How many of the latest blocks stay on disk, at least those of two terms; all if none. A node that does not keep all cannot be
    /// replayed from the genesis.
    pub keep_blocks: Option<u64>,
}

type Certificate = Finalization<Scheme, Digest>;

/// A block that ended a term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    header: Header,
    certificate: Bytes,
}

/// What is said on the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    /// The asker knows who sits from this term on, up to the next change.
    Ask { known: u64 },
    /// The answer.
    Tell(Box<Told>),
}

/// The changes after what was known, and, unless there are more changes, the last block that ended a term.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    changes: Vec<Change>,
    more: bool,
    end: Option<End>,
}

impl Write for Said {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Ask { known } => {
                0u8.write(buf);
                known.write(buf);
            }
            Self::Tell(told) => {
                let Told { changes, more, end } = told.as_ref();
                1u8.write(buf);
                changes.write(buf);
                more.write(buf);
                end.is_some().write(buf);
                if let Some(end) = end {
                    end.header.write(buf);
                    end.certificate.write(buf);
                }
            }
        }
    }
}

impl EncodeSize for Said {
    fn encode_size(&self) -> usize {
        let end = |end: &End| HEADER_SIZE.saturating_add(end.certificate.encode_size());
        match self {
            Self::Ask { .. } => 9,
            Self::Tell(told) => told.changes.encode_size().saturating_add(3).saturating_add(told.end.as_ref().map_or(0, end)),
        }
    }
}

impl Read for Said {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        match u8::read(buf)? {
            0 => Ok(Self::Ask { known: u64::read(buf)? }),
            1 => {
                let changes = Vec::<Change>::read_cfg(buf, &(RangeCfg::from(0..=MAX_CHANGES), ()))?;
                let more = bool::read(buf)?;
                let end = match bool::read(buf)? {
                    true => {
                        let header = Header::read(buf)?;
                        let certificate = Bytes::read_cfg(buf, &RangeCfg::from(0..=crate::terms::MAX_CERTIFICATE_BYTES))?;
                        Some(End { header, certificate })
                    }
                    false => None,
                };
                Ok(Self::Tell(Box::new(Told { changes, more, end })))
            }
            other => Err(CodecError::InvalidEnum(other)),
        }
    }
}

/// Answers those who join.
pub(crate) async fn serve<S, R, B>(core: Arc<Core>, marshal: Marshal, (mut mouth, mut ear): (S, R), mut blocker: B)
where
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
    B: Blocker<PublicKey = PublicKey>,
{
    while let Ok((from, message)) = ear.recv().await {
        match Said::decode(message) {
            Ok(Said::Ask { known }) => {
                let told = tell(&core, &marshal, known).await;
                // Who is gone asks somebody else.
                let _ = mouth.send(Recipients::One(from), IoBuf::from(told.encode()), false);
            }
            // Late, for what this one asked when it joined.
            Ok(Said::Tell(_)) => {}
            Err(_) => {
                let _ = blocker.block(from);
            }
        }
    }
}

async fn tell(core: &Core, marshal: &Marshal, known: u64) -> Said {
    // First the end: a change that comes meanwhile must be in an answer that ends with it, or it looks like a lie.
    let end = end(core, marshal).await;
    let all = core.terms.changes(known);
    let more = all.len() > MAX_CHANGES;
    let changes = all.iter().take(MAX_CHANGES).map(|change| change.as_ref().clone()).collect();
    Said::Tell(Box::new(Told { changes, more, end: end.filter(|_| !more) }))
}

/// The last block that ended a term, with its certificate.
async fn end(core: &Core, marshal: &Marshal) -> Option<End> {
    let term = Epoch::new(core.terms.last()).previous()?;
    let height = core.roster.terms().last(term)?;
    let (block, certificate) = (marshal.get_block(height).await?, marshal.get_finalization(height).await?);
    Some(End { header: block.inner().header.clone(), certificate: certificate.encode() })
}
