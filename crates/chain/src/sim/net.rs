//! A validator's side of the simulated network.
//!
//! Guarantees: loss, delay and partitions are the network's own (it keeps the order of what one sends to another); here messages also
//! overtake each other, honest votes are shown to the [`History`], and a dishonest validator can be made to keep things to itself or to
//! speak to some only.

use super::deceiver::Deceiver;
use super::dice::Dice;
use super::frame;
use super::history::History;
use commonware_actor::{Feedback, Unreliable};
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{
    CheckedSender, LimitedSender, Message, Receiver, Recipients,
    simulated::{self, Control, Link},
};
use commonware_runtime::{Clock as _, IoBuf, IoBufs, Quota, deterministic::Context};
use commonware_utils::{NZU32, NZUsize, Probability};
use futures::future::{Either, select};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// In the order of the fields of [`crate::stack::Channels`], and the one for transactions.
pub(super) const VOTES: u64 = 0;
pub(super) const CERTIFICATES: u64 = 1;
pub(super) const RESOLVER: u64 = 2;
pub(super) const BACKFILL: u64 = 3;
pub(super) const BLOCKS: u64 = 4;
pub(super) const JOINING: u64 = 5;
pub(super) const OPERATIONS: u64 = 6;
pub(super) const TRANSACTIONS: u64 = 7;
/// As many as a healthy validator may ever send: what is too much is tried elsewhere. At once as many as in production.
pub(super) const QUOTA: Quota = Quota::per_second(NZU32!(4096)).allow_burst(NZU32!(64));
/// Messages that a part of the engine takes in before it drops some. It makes queues of that length at each start and in each term, which
/// were a third of all processor time when they had room for what everybody may send in a second.
const QUEUED: NonZeroUsize = NZUsize!(256);
/// How long a message waits for another one to overtake it.
const OVERTAKE: Duration = Duration::from_millis(40);

type NetSender = simulated::Sender<PublicKey, Context>;

/// How a link is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quality {
    pub(super) latency_ms: u64,
    pub(super) jitter_ms: u64,
    pub(super) loss_percent: u64,
}

impl Quality {
    pub(super) fn link(self) -> Link {
        Link {
            latency: Duration::from_millis(self.latency_ms),
            jitter: Duration::from_millis(self.jitter_ms),
            success_rate: Probability::new(100 - self.loss_percent, 100).expect("at most one"),
        }
    }
}

/// What a validator does not say, and to whom.
#[derive(Clone)]
pub(super) struct Manner {
    /// Its index, if it is honest: then its votes are watched.
    pub(super) honest: Option<usize>,
    /// Channels on which it says nothing.
    pub(super) silent: Vec<u64>,
    /// Whom it speaks to; nobody is left out if there is no list.
    pub(super) audience: Option<Vec<PublicKey>>,
    /// What it says to those who join is this one's, if there is one.
    pub(super) deceiver: Option<Deceiver>,
}

/// What all channels of one validator share.
#[derive(Clone)]
pub(super) struct Wiring {
    pub(super) context: Arc<Context>,
    pub(super) dice: Dice,
    pub(super) overtake_percent: u64,
    pub(super) manner: Manner,
    pub(super) history: Arc<Mutex<History>>,
}

impl Wiring {
    pub(super) async fn open(&self, control: &Control<PublicKey, Context>, channel: u64) -> (Mouth, Ear) {
        let (sender, receiver) = control.register(channel, QUOTA).await.expect("the network is up");
        self.wire(channel, sender, receiver)
    }

    pub(super) fn wire(&self, channel: u64, inner: NetSender, receiver: simulated::Receiver<PublicKey>) -> (Mouth, Ear) {
        let mouth = Mouth { inner, channel, wiring: self.clone() };
        (mouth, Ear { inner: receiver, wiring: self.clone(), held: None, late: None })
    }
}

/// Sends on one channel.
#[derive(Clone)]
pub(super) struct Mouth {
    inner: NetSender,
    channel: u64,
    wiring: Wiring,
}

pub(super) struct Checked<'a> {
    inner: <NetSender as LimitedSender>::Checked<'a>,
    channel: u64,
    wiring: Wiring,
}

impl LimitedSender for Mouth {
    type PublicKey = PublicKey;
    type Checked<'a> = Checked<'a>;
    fn check(&mut self, recipients: Recipients<PublicKey>) -> Result<Checked<'_>, SystemTime> {
        let recipients = match (&self.wiring.manner.audience, recipients) {
            (None, all) => all,
            (Some(audience), Recipients::All) => Recipients::Some(audience.clone()),
            (Some(audience), Recipients::Some(some)) => Recipients::Some(some.into_iter().filter(|to| audience.contains(to)).collect()),
            (Some(audience), Recipients::One(one)) => Recipients::Some(audience.iter().filter(|to| **to == one).cloned().collect()),
        };
        Ok(Checked { inner: self.inner.check(recipients)?, channel: self.channel, wiring: self.wiring.clone() })
    }
}

impl CheckedSender for Checked<'_> {
    type PublicKey = PublicKey;
    fn recipients(&self) -> Vec<PublicKey> {
        self.inner.recipients()
    }
    fn send(self, message: impl Into<IoBufs> + Send, priority: bool) -> Unreliable<Feedback> {
        let manner = &self.wiring.manner;
        if manner.silent.contains(&self.channel) {
            return Unreliable::new(Feedback::Ok);
        }
        let mut message = message.into().coalesce();
        if let Some(deceiver) = &manner.deceiver {
            let Some(instead) = deceiver.instead(self.channel, message.as_ref()) else { return Unreliable::new(Feedback::Ok) };
            message = IoBuf::from(instead);
        }
        if self.channel == VOTES
            && let Some(node) = manner.honest
            && let Some(said) = frame::said(message.as_ref())
        {
            self.wiring.history.lock().unwrap_or_else(PoisonError::into_inner).signed(node, said);
        }
        self.inner.send(message, priority)
    }
}

/// Receives on one channel.
pub(super) struct Ear {
    inner: simulated::Receiver<PublicKey>,
    wiring: Wiring,
    /// What waits to be overtaken.
    held: Option<Message<PublicKey>>,
    /// What was overtaken.
    late: Option<Message<PublicKey>>,
}

impl std::fmt::Debug for Ear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ear").finish_non_exhaustive()
    }
}

impl Receiver for Ear {
    type Error = simulated::Error;
    type PublicKey = PublicKey;
    async fn recv(&mut self) -> Result<Message<PublicKey>, simulated::Error> {
        if let Some(late) = self.late.take() {
            return Ok(late);
        }
        if self.held.is_none() {
            let message = self.inner.recv().await?;
            if !self.wiring.dice.percent(self.wiring.overtake_percent) {
                return Ok(message);
            }
            self.held = Some(message);
        }
        let next = match select(pin!(self.inner.recv()), pin!(self.wiring.context.sleep(OVERTAKE))).await {
            Either::Left((next, _)) => Some(next?),
            Either::Right(_) => None,
        };
        match (next, self.held.take()) {
            (Some(next), held) => {
                self.late = held;
                Ok(next)
            }
            (None, Some(held)) => Ok(held),
            (None, None) => self.inner.recv().await,
        }
    }
    fn capacity(&self) -> NonZeroUsize {
        self.inner.capacity().min(QUEUED)
    }
}
