//! Spreads waiting transactions among validators, so that whoever leads next has them; and what they tell each other beside the ledger.
//!
//! ```text
//!  submit ─► Core ─► outbox ─► bundle ─► every validator ─► admit there ─► its pool
//!                      ▲
//!                      └── what has waited for long here: once more
//! ```
//! Guarantees: each transaction is sent on by the node that it was handed to and by no other, so that a full mesh carries it once to
//! each; one that was lost on the way, or met a validator that was away, is sent again until it is final or expired. What comes is
//! checked like what a client hands in; how much of one validator's may wait is bounded ([`crate::Limits::per_peer`]). Whoever sends
//! what is no bundle is kept away. Nothing is remembered across a restart.

use crate::app::Rt;
use crate::core::Core;
use crate::error::SubmitError;
use crate::genesis::raw;
use crate::notices::{self, Notices};
use bytes::Bytes;
use commonware_codec::{Decode as _, Encode as _, RangeCfg};
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Blocker, Receiver, Recipients, Sender};
use commonware_runtime::IoBuf;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// Largest bundle on the wire. One transaction always fits.
pub(crate) const MAX_BUNDLE_BYTES: usize = 512 << 10;
/// Most transactions in one bundle.
const MAX_BUNDLE_TXS: usize = 512;
/// Transactions that wait to be sent; what finds no place goes with those that have waited for long.
pub(crate) const OUTBOX: usize = 8_192;
/// How long a transaction waits before it is sent again, and how often that is looked at.
const AGAIN: Duration = Duration::from_secs(1);
/// Pause after a bundle: 250 a second at most.
const BETWEEN: Duration = Duration::from_millis(4);
/// Most bytes that are sent again at one time.
const AGAIN_BYTES: usize = 1 << 20;
/// What a validator may send that is refused, in [`STRIKES_IN`]: it sees another state than this one, and a client may hand the same to
/// several. Beyond, what it sends is not looked at for that long: each look is a signature check.
const STRIKES: u32 = 2_000;
const STRIKES_IN: Duration = Duration::from_secs(10);
/// Transactions that are known again without checking their signatures once more: what waits for long is sent each second. Twice as
/// many are remembered at most, by 32 bytes each.
const REMEMBERED: usize = 32_768;

/// Starts both directions.
pub(crate) fn start<E, S, R, B>(context: &E, core: &Arc<Core>, outbox: mpsc::Receiver<Bytes>, (mouth, ear): (S, R), peers: B)
where
    E: Rt,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
    B: Blocker<PublicKey = PublicKey>,
{
    let telling = Arc::clone(core);
    let voice = mouth.clone();
    context.child("notices").spawn(move |context| tell(context, telling, voice));
    let sending = Arc::clone(core);
    context.child("spread").spawn(move |context| spread(context, sending, outbox, mouth));
    let receiving = Arc::clone(core);
    // Signatures are checked here: on a thread of its own, so that votes do not wait for them.
    context.child("gather").dedicated().spawn(move |context| gather(context, receiving, ear, peers));
}

async fn spread<E: Rt, S: Sender<PublicKey = PublicKey>>(context: E, core: Arc<Core>, mut outbox: mpsc::Receiver<Bytes>, mut mouth: S) {
    // It runs on while new ones are sent: what was lost must not wait until nobody hands anything in.
    let mut again = Box::pin(context.sleep(AGAIN));
    loop {
        let mut bundle = Vec::new();
        tokio::select! {
            // In this order, so that a simulated run can be repeated.
            biased;
            () = &mut again => {
                bundle = core.waiting_since(AGAIN, AGAIN_BYTES);
                again = Box::pin(context.sleep(AGAIN));
            }
            taken = outbox.recv_many(&mut bundle, MAX_BUNDLE_TXS) => {
                if taken == 0 {
                    return;
                }
            }
        }
        for part in bundles(bundle) {
            // Whoever is not connected hears of it when it is sent again.
            let _ = mouth.send(Recipients::All, IoBuf::from(part.encode()), false);
            // What comes meanwhile goes together: more bundles than the network takes from one validator would be lost for a second.
            context.sleep(BETWEEN).await;
        }
    }
}

/// Says this validator's notice to whoever is connected: when it is new, and again and again.
async fn tell<E: Rt, S: Sender<PublicKey = PublicKey>>(context: E, core: Arc<Core>, mut mouth: S) {
    let mut own = core.notices.own();
    loop {
        let notice = own.borrow_and_update().clone();
        let said = notice.is_some();
        if let Some(notice) = notice {
            let _ = mouth.send(Recipients::All, IoBuf::from(vec![notice].encode()), false);
        }
        tokio::select! {
            biased;
            changed = own.changed() => if changed.is_err() { return },
            () = context.sleep(notices::AGAIN), if said => {}
        }
    }
}

/// Cuts transactions into bundles that fit.
fn bundles(txs: Vec<Bytes>) -> Vec<Vec<Bytes>> {
    let (mut out, mut size): (Vec<Vec<Bytes>>, usize) = (Vec::new(), usize::MAX);
    for tx in txs {
        // Five bytes for the list's length and for each transaction's.
        let more = tx.len().saturating_add(5);
        size = size.saturating_add(more);
        match out.last_mut() {
            Some(last) if size <= MAX_BUNDLE_BYTES && last.len() < MAX_BUNDLE_TXS => last.push(tx),
            _ => {
                size = more.saturating_add(5);
                out.push(vec![tx]);
            }
        }
    }
    out
}

async fn gather<E, R, B>(context: E, core: Arc<Core>, mut ear: R, mut peers: B)
where
    E: Rt,
    R: Receiver<PublicKey = PublicKey>,
    B: Blocker<PublicKey = PublicKey>,
{
    core.ready().await;
    let (mut taken, mut strikes) = (Taken::default(), Strikes::new());
    while let Ok((from, message)) = ear.recv().await {
        let limits = (RangeCfg::from(0..=MAX_BUNDLE_TXS), RangeCfg::from(0..=MAX_BUNDLE_BYTES));
        let Ok(txs) = Vec::<Bytes>::decode_cfg(message, &limits) else {
            let _ = peers.block(from);
            continue;
        };
        let now = context.current();
        if !strikes.are_out(&from, now) {
            let refused = take(&core, &from, txs, &mut taken);
            strikes.count(from, now, refused);
        }
    }
}

/// Hashes of what was taken in, in two generations.
#[derive(Default)]
struct Taken {
    new: HashSet<blake3::Hash>,
    old: HashSet<blake3::Hash>,
}

impl Taken {
    fn has(&self, hash: &blake3::Hash) -> bool {
        self.new.contains(hash) || self.old.contains(hash)
    }
    fn add(&mut self, hash: blake3::Hash) {
        if self.new.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(hash);
    }
}

/// How much each validator sent lately that was refused: since when, and how many. As many as there are validators.
struct Strikes(HashMap<PublicKey, (SystemTime, u32)>);

impl Strikes {
    fn new() -> Self {
        Self(HashMap::new())
    }
    fn are_out(&self, of: &PublicKey, now: SystemTime) -> bool {
        let recent = |since: &SystemTime| now.duration_since(*since).is_ok_and(|passed| passed < STRIKES_IN);
        self.0.get(of).is_some_and(|(since, count)| *count >= STRIKES && recent(since))
    }
    fn count(&mut self, of: PublicKey, now: SystemTime, refused: u32) {
        let (since, count) = self.0.entry(of).or_insert((now, 0));
        if now.duration_since(*since).map_or(true, |passed| passed >= STRIKES_IN) {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(refused);
    }
}

/// What is refused here is refused silently: its sender will hear of it from its own pool. Returns how many the ledger refused.
fn take(core: &Core, from: &PublicKey, txs: Vec<Bytes>, taken: &mut Taken) -> u32 {
    let from = raw(from);
    let mut refused = 0u32;
    for tx in txs {
        if let Some(notice) = Notices::read(&tx) {
            refused = refused.saturating_add(u32::from(!core.notices.hear(from, notice)));
            continue;
        }
        let hash = blake3::hash(&tx);
        if taken.has(&hash) {
            continue;
        }
        match core.hear(tx, from) {
            Ok(()) => taken.add(hash),
            Err(SubmitError::Rejected { .. }) => refused = refused.saturating_add(1),
            // There was no room for it, or it is of no use here now.
            Err(SubmitError::Refused(_) | SubmitError::Stopped) => {}
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_cryptography::{Signer as _, ed25519::PrivateKey};

    #[test]
    fn who_sends_too_much_that_is_refused_is_not_looked_at_for_a_while() {
        let (flooder, other) = (PrivateKey::from_seed(1).public_key(), PrivateKey::from_seed(2).public_key());
        let (mut strikes, start) = (Strikes::new(), SystemTime::UNIX_EPOCH);
        strikes.count(flooder.clone(), start, STRIKES - 1);
        assert!(!strikes.are_out(&flooder, start));
        strikes.count(flooder.clone(), start, 1);
        assert!(strikes.are_out(&flooder, start) && !strikes.are_out(&other, start));
        assert!(!strikes.are_out(&flooder, start + STRIKES_IN));
        // What was long ago does not count with what is now.
        strikes.count(flooder.clone(), start + STRIKES_IN, 1);
        assert!(!strikes.are_out(&flooder, start + STRIKES_IN));
    }
}
