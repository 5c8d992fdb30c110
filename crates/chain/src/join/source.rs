//! The operations that make a state, from those who have them, and for those who join.
//!
//! Guarantees: the engine checks each answer against the block's root before it uses it; an answer that fails is its sender's fault, who is
//! kept away, and somebody else is asked. An answer fits into a message, however large the records are.
//! The engine's own resolver wants operations that are read without limits of the caller's: [`WireOp`] has ours in its type.

use super::{JoinStep, OnJoin};
use crate::app::{Db, Dbs, Encoding, Rt};
use crate::block::Digest;
use crate::stack::MAX_RECORD;
use commonware_codec::{Buf, EncodeSize, Error as CodecError, RangeCfg, Read, Write};
use commonware_glue::stateful::db::{
    AttachableResolver, Shared,
    p2p::{Mailbox, ResponseDropped},
};
use commonware_runtime::BufMut;
use commonware_storage::{
    mmr,
    qmdb::{
        any::ordered,
        sync::{Feedback, Request, Response, Source, source},
    },
};
use commonware_utils::channel::{mpsc, oneshot};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

type Op = ordered::Operation<mmr::Family, Digest, Encoding>;
type Answer<O> = Response<mmr::Family, O, Digest>;

/// Operations in one answer.
pub(crate) const SERVED_AT_ONCE: NonZeroU64 = NonZeroU64::MIN.saturating_add(1_023);
/// Longest answer, unless one operation is longer.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// What an answer has beside its operations, at most.
const PROOF_BYTES: usize = 256 << 10;
/// Operations between two words about how far it is.
const WORD_EACH: u64 = 16 * SERVED_AT_ONCE.get();

/// Longest message of this kind.
pub(crate) const fn largest_answer() -> usize {
    let most = if MAX_RECORD > MAX_ANSWER_BYTES { MAX_RECORD } else { MAX_ANSWER_BYTES };
    most.saturating_add(PROOF_BYTES)
}

/// An operation whose limits are in its type.
#[derive(Clone)]
pub(crate) struct WireOp(Op);

impl Write for WireOp {
    fn write(&self, buf: &mut impl BufMut) {
        self.0.write(buf);
    }
}

impl EncodeSize for WireOp {
    fn encode_size(&self) -> usize {
        self.0.encode_size()
    }
}

impl Read for WireOp {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        Op::read_cfg(buf, &((), RangeCfg::from(0..=MAX_RECORD))).map(Self)
    }
}

fn map<A, B>(answer: Answer<A>, each: impl Fn(A) -> B) -> Answer<B> {
    match answer {
        Response::Operations { proof, operations } => {
            Response::Operations { proof, operations: operations.into_iter().map(each).collect() }
        }
        Response::Boundary { proof, op, pinned_nodes } => Response::Boundary { proof, op: each(op), pinned_nodes },
    }
}

/// The store, as it is shown to those who join.
pub(crate) struct Operations<E: Rt>(Dbs<E>);

impl<E: Rt> Source for Operations<E> {
    type Family = mmr::Family;
    type Digest = Digest;
    type Op = WireOp;
    type Error = <Dbs<E> as Source>::Error;

    async fn serve(&self, request: Request<mmr::Family>) -> source::Result<Self> {
        let mut request = request;
        loop {
            let (answer, _) = self.0.serve(request).await?;
            let answer = map(answer, WireOp);
            match request {
                Request::Operations { size, start, max_ops } if max_ops > NonZeroU64::MIN && answer.encode_size() > MAX_ANSWER_BYTES => {
                    let half = NonZeroU64::new(max_ops.get() / 2).unwrap_or(NonZeroU64::MIN);
                    request = Request::Operations { size, start, max_ops: half };
                }
                _ => return Ok((answer, None)),
            }
        }
    }
}

/// Where a joining node fetches the state.
pub(crate) struct Joining<E: Rt> {
    context: Arc<E>,
    mailbox: Mailbox<Operations<E>, mmr::Family, WireOp, Digest>,
    fetched: Arc<AtomicU64>,
    progress: Option<Progress>,
}

/// How far it is, for whoever waits.
#[derive(Clone)]
pub(crate) struct Progress {
    /// Height of the block whose state it is.
    pub(crate) height: u64,
    /// Operations that make it.
    pub(crate) operations: u64,
    pub(crate) on_join: Option<OnJoin>,
}

impl<E: Rt> Clone for Joining<E> {
    fn clone(&self) -> Self {
        let (context, fetched) = (Arc::clone(&self.context), Arc::clone(&self.fetched));
        Self { context, mailbox: self.mailbox.clone(), fetched, progress: self.progress.clone() }
    }
}

impl<E: Rt> Joining<E> {
    pub(crate) fn new(context: E, mailbox: Mailbox<Operations<E>, mmr::Family, WireOp, Digest>, progress: Option<Progress>) -> Self {
        Self { context: Arc::new(context), mailbox, fetched: Arc::default(), progress }
    }

    fn count(&self, answer: &Answer<Op>) {
        let (Response::Operations { operations, .. }, Some(progress)) = (answer, &self.progress) else { return };
        let more = u64::try_from(operations.len()).unwrap_or(0);
        let before = self.fetched.fetch_add(more, Ordering::Relaxed);
        let have = before.saturating_add(more);
        if before / WORD_EACH != have / WORD_EACH {
            tracing::info!(have, of = progress.operations, "operations of the state are here");
            if let Some(say) = &progress.on_join {
                say(JoinStep::State { height: progress.height, have: have.min(progress.operations), of: progress.operations });
            }
        }
    }
}

impl<E: Rt> Source for Joining<E> {
    type Family = mmr::Family;
    type Digest = Digest;
    type Op = Op;
    type Error = ResponseDropped;

    async fn serve(&self, request: Request<mmr::Family>) -> source::Result<Self> {
        let (answer, judged) = self.mailbox.serve(request).await?;
        let answer = map(answer, |op| op.0);
        self.count(&answer);
        let Some(judged) = judged else { return Ok((answer, None)) };
        // The engine's verdict goes to the resolver, and the resolver's next answer to the engine.
        let (verdict, heard) = oneshot::channel();
        let (candidates, receiver) = mpsc::channel(1);
        self.context.child("verdicts").spawn(move |_| pass_on(judged, heard, candidates));
        Ok((answer, Some(Feedback::new(verdict, receiver))))
    }
}

type Candidate = (Answer<Op>, oneshot::Sender<bool>);

async fn pass_on(mut judged: Feedback<Answer<WireOp>>, mut heard: oneshot::Receiver<bool>, candidates: mpsc::Sender<Candidate>) {
    loop {
        match heard.await {
            Ok(true) => return judged.accept(),
            Ok(false) => {
                let next = tokio::select! {
                    next = judged.reject() => next,
                    // It does not want it any more.
                    () = candidates.closed() => return,
                };
                let Some((answer, again)) = next else { return };
                let (verdict, receiver) = oneshot::channel();
                if candidates.send((map(answer, |op| op.0), verdict)).await.is_err() {
                    return;
                }
                (judged, heard) = (again, receiver);
            }
            // Dropping the resolver's feedback cancels the request.
            Err(_) => return,
        }
    }
}

impl<E: Rt> AttachableResolver<Db<E>> for Joining<E> {
    async fn attach_database(&self, db: Shared<Db<E>>) {
        self.mailbox.attach_database(Shared::new("operations", Operations(db)));
    }
}
