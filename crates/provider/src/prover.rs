//! Answers the heartbeat: hash shares for each epoch in which a lease of this node is served.
//!
//! Guarantees: one search at a time, on one thread, with work for about one per cent of an epoch; what is to be proven is
//! decided in [`crate::agenda`]; an epoch whose randomness is not known yet is kept until it is, or until its grace has passed. Where the network
//! waits long enough, five epochs go on the ledger together (`docs/specs/audits.md` §9).

use crate::agenda::{Agenda, Answer, Pace};
use crate::context::Context;
use crate::submit::SubmitError;
use pasture_proofs::find_shares;
use pasture_rt::{ShutdownToken, TaskKind};
use pasture_types::Timestamp;
use pasture_types::audit::{AuditAction, HeartbeatBundle, MAX_BUNDLED_EPOCHS, PackedShares};
use pasture_types::event::Event;
use pasture_types::proof::{Heartbeat, ResourceClass, heartbeat_seed};
use pasture_types::tx::Action;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Requests that may wait; more than two epochs at once are never wanted, so a full queue holds only repeats.
const QUEUE: usize = 64;
/// Pause before an epoch whose randomness is not recorded yet is looked up again (its event normally comes first).
const LOOK_AGAIN: Duration = Duration::from_millis(500);

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
            if self.agenda.nonces(epoch).is_some() {
                continue;
            }
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
            let Some(found) = self.search(rate, randomness, epoch).await else { return };
            self.agenda.keep(epoch, found);
        }
        let current = self.ctx.facts.epochs().of(self.ctx.now());
        for group in self.agenda.due(current, self.pace()) {
            self.submit(&group).await;
        }
    }

    /// Bundles are for networks that wait that long for a heartbeat, and for as long as something is served: at the end the
    /// user waits for the final account.
    fn pace(&self) -> Pace {
        let most = MAX_BUNDLED_EPOCHS as u64;
        if self.ctx.facts.params.heartbeat_grace_epochs >= most && self.ctx.leases.any_served() {
            Pace::Bundled(most)
        } else {
            Pace::Single
        }
    }

    /// Several epochs in one transaction; if that is refused as a whole, one by one.
    async fn submit(&mut self, epochs: &[u64]) {
        let begun = self.ctx.now();
        if let Some(bundle) = self.bundle(epochs) {
            self.ctx.failpoints.hit("provider.heartbeat.before_submit");
            let sent = self.ctx.submitter.submit(vec![Action::Audit(Box::new(AuditAction::Heartbeats(bundle)))]).await;
            self.ctx.failpoints.hit("provider.heartbeat.after_submit");
            match sent {
                Ok(result) => {
                    // One that came too late does not take the others with it, so each is looked for.
                    let recorded = |epoch: u64| {
                        result
                            .events
                            .iter()
                            .any(|e| matches!(e, Event::HeartbeatRecorded { node, epoch: of } if *node == self.ctx.node && *of == epoch))
                    };
                    let taken: Vec<(u64, bool)> = epochs.iter().map(|epoch| (*epoch, recorded(*epoch))).collect();
                    for (epoch, taken) in taken {
                        let outcome =
                            if taken { Ok(()) } else { Err(SubmitError::Refused("it is not among those that were taken".into())) };
                        self.report(epoch, begun, outcome);
                    }
                    return;
                }
                Err(SubmitError::Refused(detail)) => tracing::debug!(detail, "the bundle was refused; its heartbeats are sent one by one"),
                Err(error) => {
                    for epoch in epochs {
                        self.report(*epoch, begun, Err(error.clone()));
                    }
                    return;
                }
            }
        }
        for epoch in epochs {
            let Some(nonces) = self.agenda.nonces(*epoch) else { continue };
            let heartbeat = Heartbeat { node: self.ctx.node, class: ResourceClass::Cpu, device: 0, epoch: *epoch, nonces };
            self.ctx.failpoints.hit("provider.heartbeat.before_submit");
            let sent = self.ctx.submitter.submit(vec![Action::SubmitHeartbeat { heartbeat }]).await;
            self.ctx.failpoints.hit("provider.heartbeat.after_submit");
            self.report(*epoch, begun, sent.map(|_| ()));
        }
    }

    /// What goes on the ledger for several epochs; `None` for one alone, and for shares that cannot be packed.
    fn bundle(&self, epochs: &[u64]) -> Option<HeartbeatBundle> {
        let (first, last) = (*epochs.first()?, *epochs.last()?);
        if first == last {
            return None;
        }
        let mut shares = vec![];
        for epoch in first..=last {
            shares.push(match epochs.contains(&epoch) {
                true => PackedShares::pack(&self.agenda.nonces(epoch)?)?,
                false => PackedShares(vec![]),
            });
        }
        Some(HeartbeatBundle { node: self.ctx.node, class: ResourceClass::Cpu, device: 0, first, shares })
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
        Ok(()) | Err(SubmitError::Recorded(_)) => Answer::Recorded,
        Err(SubmitError::Unknown) => Answer::Unknown,
        Err(SubmitError::Refused(_) | SubmitError::NotWatched(_) | SubmitError::Overtaken(_) | SubmitError::Cancelled) => Answer::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_that_is_there_already_is_no_refusal() {
        assert_eq!(answer(&Err(SubmitError::Recorded("there is nothing to do".into()))), Answer::Recorded);
        assert_eq!(answer(&Err(SubmitError::Refused("the node has no lease".into()))), Answer::Refused);
        assert_eq!(answer(&Err(SubmitError::Unknown)), Answer::Unknown);
    }
}
