//! Answers the heartbeat: hash shares for each epoch in which a lease of this node is served.
//!
//! Guarantees: one search at a time, on one thread, with work for about one per cent of an epoch; what is to be proven is
//! decided in [`crate::agenda`]; an epoch whose randomness is not known yet is kept until it is, or until its grace has passed.

use crate::agenda::{Agenda, Answer};
use crate::context::Context;
use crate::submit::SubmitError;
use pasture_proofs::find_shares;
use pasture_rt::{ShutdownToken, TaskKind};
use pasture_types::Timestamp;
use pasture_types::proof::{Heartbeat, ResourceClass, heartbeat_seed};
use pasture_types::tx::Action;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Requests that may wait; more than two epochs at once are never wanted, so a full queue holds only repeats.
const QUEUE: usize = 64;
/// Pause before an epoch whose randomness is not recorded yet is looked up again (its event normally comes first).
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// The ledger's words for a heartbeat that it has: it gives all refusals of heartbeats one number.
const RECORDED_ALREADY: &str = "recorded already";

enum Request {
    Started { epoch: u64, randomness: [u8; 32] },
    Need(u64),
}

/// Asks for heartbeats.
#[derive(Clone)]
pub(crate) struct ProverHandle(mpsc::Sender<Request>);

/// The other end, to be run.
pub(crate) struct ProverQueue(mpsc::Receiver<Request>);

pub(crate) fn channel() -> (ProverHandle, ProverQueue) {
    let (send, receive) = mpsc::channel(QUEUE);
    (ProverHandle(send), ProverQueue(receive))
}

impl ProverHandle {
    /// An epoch began; it is proven if a lease is being served.
    pub(crate) async fn started(&self, epoch: u64, randomness: [u8; 32]) {
        let _ = self.0.send(Request::Started { epoch, randomness }).await;
    }
    /// An epoch in which something was or is served.
    pub(crate) fn need(&self, epoch: u64) {
        // A full queue means that the same was asked many times over.
        let _ = self.0.try_send(Request::Need(epoch));
    }
}

struct Prover {
    ctx: Arc<Context>,
    /// The rate that the ledger holds this node to, once read.
    hashes_per_s: Option<u64>,
    agenda: Agenda,
}

/// Runs until shutdown.
pub(crate) async fn run(ctx: Arc<Context>, mut queue: ProverQueue, cancel: ShutdownToken) {
    let mut prover = Prover { ctx, hashes_per_s: None, agenda: Agenda::default() };
    let work = async {
        loop {
            let request = if prover.agenda.is_idle() {
                queue.0.recv().await
            } else {
                match tokio::time::timeout(LOOK_AGAIN, queue.0.recv()).await {
                    Ok(request) => request,
                    Err(_) => {
                        prover.prove_wanted().await;
                        continue;
                    }
                }
            };
            let Some(request) = request else { return };
            prover.take(request);
            while let Ok(more) = queue.0.try_recv() {
                prover.take(more);
            }
            prover.prove_wanted().await;
        }
    };
    let _ = cancel.guard(work).await;
}

impl Prover {
    fn take(&mut self, request: Request) {
        match request {
            Request::Need(epoch) => self.agenda.need(epoch),
            Request::Started { epoch, randomness } => {
                self.agenda.learn(epoch, randomness);
                if self.ctx.leases.any_served() {
                    self.agenda.need(epoch);
                }
            }
        }
    }

    /// Drops what is too late. The epoch that is just past its grace is still tried: the ledger decides.
    fn forget_old(&mut self) {
        let current = self.ctx.facts.epochs().of(self.ctx.now());
        self.agenda.forget_before(current.saturating_sub(self.ctx.facts.params.heartbeat_grace_epochs.saturating_add(1)));
    }

    async fn prove_wanted(&mut self) {
        self.forget_old();
        let Some(rate) = self.declared_rate().await else { return };
        for epoch in self.agenda.wanted() {
            let randomness = match self.agenda.randomness(epoch) {
                Some(known) => known,
                None => match self.ctx.network.epoch(epoch).await {
                    Ok(Some(randomness)) => randomness,
                    Ok(None) => continue,
                    Err(error) => {
                        tracing::debug!(%error, epoch, "cannot read the period's randomness yet");
                        continue;
                    }
                },
            };
            self.agenda.learn(epoch, randomness);
            let begun = self.ctx.now();
            let nonces = match self.agenda.nonces(epoch) {
                Some(found) => found,
                None => {
                    let Some(found) = self.search(rate, randomness, epoch).await else { return };
                    found
                }
            };
            self.agenda.keep(epoch, nonces.clone());
            let heartbeat = Heartbeat { node: self.ctx.node, class: ResourceClass::Cpu, device: 0, epoch, nonces };
            self.ctx.failpoints.hit("provider.heartbeat.before_submit");
            let sent = self.ctx.submitter.submit(vec![Action::SubmitHeartbeat { heartbeat }]).await;
            self.ctx.failpoints.hit("provider.heartbeat.after_submit");
            self.report(epoch, begun, sent.map(|_| ()));
        }
    }

    async fn declared_rate(&mut self) -> Option<u64> {
        if self.hashes_per_s.is_none() {
            match self.ctx.network.node(&self.ctx.node).await {
                Ok(node) => self.hashes_per_s = node.map(|n| n.cpu_hashes_per_s),
                Err(error) => tracing::debug!(%error, "cannot read the declared rate yet"),
            }
        }
        self.hashes_per_s
    }

    async fn search(&self, rate: u64, randomness: [u8; 32], epoch: u64) -> Option<Vec<u64>> {
        let seed = heartbeat_seed(&randomness, &self.ctx.node, ResourceClass::Cpu, 0, epoch);
        let (work, cancel) = (self.ctx.facts.params.heartbeat_work, self.ctx.cancel.clone());
        pasture_rt::spawn_blocking(TaskKind::Prover, move || find_shares(seed, rate, work, || !cancel.is_requested()))
            .join()
            .await
            .flatten()
    }

    fn report(&mut self, epoch: u64, begun: Timestamp, sent: Result<(), SubmitError>) {
        let answer = answer(&sent);
        self.agenda.answered(epoch, answer);
        match (answer, sent) {
            (Answer::Recorded, _) => {
                self.ctx.counters.proven();
                tracing::debug!(epoch, ms = self.ctx.now().since(begun).0, "heartbeat recorded");
            }
            (Answer::Refused, Err(error)) if self.ctx.leases.any_served() => {
                self.ctx.counters.unproven();
                tracing::warn!(%error, epoch, "the heartbeat was not recorded");
            }
            // The lease was settled without it: nothing was served.
            (Answer::Refused, _) => tracing::debug!(epoch, "the heartbeat was not needed"),
            (Answer::Unknown, _) => tracing::debug!(epoch, "whether the heartbeat was recorded is not known; it is sent again"),
        }
    }
}

/// What the network's word means for an epoch. Recorded already, by a process that was killed before it heard of it, is what
/// was wanted.
fn answer(sent: &Result<(), SubmitError>) -> Answer {
    match sent {
        Ok(()) => Answer::Recorded,
        Err(SubmitError::Refused(detail)) if detail.contains(RECORDED_ALREADY) => Answer::Recorded,
        Err(SubmitError::Unknown) => Answer::Unknown,
        Err(SubmitError::Refused(_) | SubmitError::Cancelled) => Answer::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_that_is_there_already_is_no_refusal() {
        let refused = |text: &str| answer(&Err(SubmitError::Refused(text.into())));
        assert_eq!(refused("heartbeat refused: this period's is recorded already"), Answer::Recorded);
        assert_eq!(refused("heartbeat refused: the node has no lease; nothing is to be proven"), Answer::Refused);
        assert_eq!(answer(&Err(SubmitError::Unknown)), Answer::Unknown);
        let ledger = include_str!("../../ledger/src/proofs.rs");
        assert!(ledger.contains(RECORDED_ALREADY), "the ledger says it in other words now");
    }
}
