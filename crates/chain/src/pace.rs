//! Decides when a proposal begins: when work waits, not when a view begins.
//!
//! Guarantees: an idle chain makes no blocks and wakes for nothing but timers and events; a transaction starts a
//! block at once. The wait sits *in front of* the application, in the engine's automaton: waiting inside
//! `Application::propose` holds back the delivery of the previous final block, because the stateful actor applies
//! nothing while it builds. With several validators the wait ends after [`IDLE_TICK`], within the leader's time.

use crate::app::Rt;
use crate::block::{Ctx, Digest};
use crate::core::Core;
use crate::machine::Due;
use commonware_consensus::{Automaton, CertifiableAutomaton, Handoff, types::Round};
use commonware_utils::channel::oneshot;
use futures::future::{Either, select};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait with several validators: about one empty block in this time keeps leaders known to be alive.
const IDLE_TICK: Duration = Duration::from_millis(500);
/// Longest sleep before the wall clock is read again: a clock set forward must not delay a timer for longer.
const MAX_SLEEP: Duration = Duration::from_secs(5);

/// How long a proposal waits for the state of its parent before it goes on without knowing whether work waits.
const PARENT_GRACE: Duration = Duration::from_millis(200);

/// An automaton whose proposals wait for work.
pub(crate) struct Paced<E, A> {
    pub(crate) inner: A,
    pub(crate) core: Arc<Core>,
    pub(crate) context: Arc<E>,
    /// Whether nobody else waits for this leader.
    pub(crate) alone: bool,
}

impl<E, A: Clone> Clone for Paced<E, A> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), core: Arc::clone(&self.core), context: Arc::clone(&self.context), alone: self.alone }
    }
}

/// Returns when a block on `parent` is due.
async fn due<E: Rt>(core: &Core, context: &E, parent: Digest, alone: bool) {
    core.ready().await;
    let wait = async {
        let mut patient = true;
        loop {
            let woken = core.woken();
            let sleep = match core.due(&parent) {
                Some((_, Due::Now)) => return,
                Some((now, Due::At(at))) => Duration::from_millis(at.saturating_sub(now).max(1)).min(MAX_SLEEP),
                Some((_, Due::Never)) => {
                    woken.await;
                    continue;
                }
                None if patient => PARENT_GRACE,
                None => return,
            };
            let timed_out = matches!(select(pin!(woken), pin!(context.sleep(sleep))).await, Either::Right(_));
            patient &= !timed_out;
        }
    };
    if alone {
        wait.await;
    } else {
        select(pin!(wait), pin!(context.sleep(IDLE_TICK))).await;
    }
}

impl<E, A> Automaton for Paced<E, A>
where
    E: Rt,
    A: Automaton<Context = Ctx, Digest = Digest>,
{
    type Context = Ctx;
    type Digest = Digest;

    #[allow(clippy::async_yields_async, reason = "the engine's contract: the future yields the receiver of the answer")]
    async fn propose(&mut self, context: Ctx) -> oneshot::Receiver<Digest> {
        let (mut answer, receiver) = oneshot::channel();
        let Self { mut inner, core, context: rt, alone } = self.clone();
        rt.child("paced_proposal").spawn(move |rt| async move {
            let parent = context.parent.1;
            let build = async {
                due(&core, &rt, parent, alone).await;
                inner.propose(context).await.await
            };
            // The engine drops the receiver when it gives up on the view.
            let built = match select(pin!(build), pin!(answer.closed())).await {
                Either::Left((built, _)) => built,
                Either::Right(_) => return,
            };
            if let Ok(digest) = built {
                // It may have given up just now.
                let _ = answer.send(digest);
            }
        });
        receiver
    }

    async fn verify(&mut self, context: Ctx, payload: Digest) -> oneshot::Receiver<bool> {
        self.inner.verify(context, payload).await
    }
}

impl<E, A> CertifiableAutomaton for Paced<E, A>
where
    E: Rt,
    A: CertifiableAutomaton<Context = Ctx, Digest = Digest>,
{
    async fn prepare(&mut self, context: Ctx) -> oneshot::Receiver<Handoff<Digest>> {
        self.inner.prepare(context).await
    }

    async fn certify(&mut self, round: Round, payload: Digest) -> oneshot::Receiver<bool> {
        self.inner.certify(round, payload).await
    }
}
