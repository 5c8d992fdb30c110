//! Submitting transactions: one owner of a key's lanes and numbers.
//!
//! Guarantees: one transaction at a time in each lane; the same envelope is repeated while the network is away, and signed
//! anew only once the ledger shows that it was not taken; so an action is never done twice. What cannot be known (the number
//! was used, but by which transaction?) is said ([`SubmitError::Unknown`]): the caller looks at the ledger.

use crate::network::{Network, NetworkError};
use pasture_api::views::TxResult;
use pasture_rt::{Clock, ShutdownToken};
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, Envelope, TxBody};
use pasture_types::{AccountId, Amount, AssetId, Millis, SigningKey, Timestamp, ZoneId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};

/// How long a signed transaction stays valid.
const VALIDITY: Millis = Millis(60_000);
/// First pause after the network did not answer; doubled up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// How often a number is looked up again after a refusal before the refusal is believed.
const MAX_RENUMBERINGS: u32 = 3;

/// The ledger's numbers for a number of a lane that another transaction took, and for one that is not its turn (docs/specs/ledger.md).
const OVERTAKEN: [u16; 2] = [12, 13];
/// The ledger's number for what is recorded already (docs/specs/ledger.md).
const RECORDED_ALREADY: u16 = 53;
/// The ledger's numbers for a grant that is not there and for one that is used up. A provider uses none of its own.
const NO_GRANT: u16 = 70;
const GRANT_BUDGET: u16 = 71;

/// Why a transaction did not take effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SubmitError {
    /// The network or the ledger refused it.
    #[error("{0}")]
    Refused(String),
    /// The ledger has what it says already: there is nothing left to do.
    #[error("{0}")]
    Recorded(String),
    /// A watcher's word in it counts for nothing: its user took the grant back, or never gave enough. Without that word the rest may pass.
    #[error("{0}")]
    NotWatched(String),
    /// Others who sign in the same lane were faster, time and again.
    #[error("{0}")]
    Overtaken(String),
    /// It may or may not have been taken.
    #[error("whether the transaction was taken is not known")]
    Unknown,
    /// We are shutting down.
    #[error("the provider is shutting down")]
    Cancelled,
}

/// What a refusal by the ledger means.
fn refused(code: u16, detail: String) -> SubmitError {
    match code {
        RECORDED_ALREADY => SubmitError::Recorded(detail),
        NO_GRANT | GRANT_BUDGET => SubmitError::NotWatched(detail),
        code if OVERTAKEN.contains(&code) => SubmitError::Overtaken(detail),
        _ => SubmitError::Refused(detail),
    }
}

/// Ledger time as far as we know: our clock, but never behind a block that we saw.
#[derive(Clone)]
pub(crate) struct LedgerClock {
    clock: Arc<dyn Clock>,
    seen: Arc<AtomicU64>,
}

impl LedgerClock {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, seen: Arc::default() }
    }
    pub(crate) fn saw(&self, block_time: Timestamp) {
        self.seen.fetch_max(block_time.0, Ordering::Relaxed);
    }
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.clock.now_ms().max(self.seen.load(Ordering::Relaxed)))
    }
}

/// Submits for one key.
pub(crate) struct Submitter {
    network: Arc<dyn Network>,
    clock: LedgerClock,
    zone: ZoneId,
    account: AccountId,
    auth: Auth,
    key: SigningKey,
    max_fee: Amount,
    first_lane: u8,
    /// Next number of each lane, once read from the ledger. The lock is held while a transaction of the lane is under way:
    /// that is what keeps them in order, and an owner task would only be this lock with a queue before it.
    lanes: Vec<Mutex<Option<u64>>>,
    turn: AtomicUsize,
    cancel: ShutdownToken,
}

/// For whom and with what a [`Submitter`] signs.
pub(crate) struct Signer {
    pub(crate) zone: ZoneId,
    pub(crate) account: AccountId,
    pub(crate) auth: Auth,
    pub(crate) key: SigningKey,
    pub(crate) max_fee: Amount,
    pub(crate) first_lane: u8,
    pub(crate) lanes: u8,
}

impl Submitter {
    pub(crate) fn new(network: Arc<dyn Network>, clock: LedgerClock, signer: Signer, cancel: ShutdownToken) -> Self {
        let Signer { zone, account, auth, key, max_fee, first_lane, lanes } = signer;
        let lanes = (0..lanes.max(1)).map(|_| Mutex::new(None)).collect();
        Self { network, clock, zone, account, auth, key, max_fee, first_lane, lanes, turn: AtomicUsize::new(0), cancel }
    }

    /// Submits actions as one transaction and waits until it is final.
    pub(crate) async fn submit(&self, actions: Vec<Action>) -> Result<TxResult, SubmitError> {
        let work = async {
            let (lane, mut next) = self.free_lane().await;
            self.submit_in(lane, &mut next, actions).await
        };
        self.cancel.guard(work).await.unwrap_or(Err(SubmitError::Cancelled))
    }

    /// A lane that nobody uses now, or the next in turn.
    async fn free_lane(&self) -> (u8, MutexGuard<'_, Option<u64>>) {
        let numbered = || self.lanes.iter().zip(self.first_lane..);
        if let Some((lane, guard)) = numbered().find_map(|(l, n)| Some((n, l.try_lock().ok()?))) {
            return (lane, guard);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.lanes.len().max(1);
        match numbered().nth(turn) {
            Some((lane, number)) => (number, lane.lock().await),
            None => std::future::pending().await,
        }
    }

    async fn submit_in(&self, lane: u8, next: &mut Option<u64>, actions: Vec<Action>) -> Result<TxResult, SubmitError> {
        let mut renumberings = 0;
        // Whether some envelope with the current number may have been taken without our hearing of it.
        let mut uncertain = false;
        loop {
            let seq = match *next {
                Some(seq) => seq,
                None => self.read_number(lane).await,
            };
            *next = Some(seq);
            let envelope = self.sign(lane, seq, actions.clone());
            let refusal = match self.send(&envelope, &mut uncertain).await {
                Ok(result) => {
                    *next = Some(seq.saturating_add(1));
                    self.clock.saw(result.time);
                    return match (result.ok, result.code) {
                        (true, _) => Ok(result),
                        (false, code) => Err(refused(code, result.message)),
                    };
                }
                Err(refusal) => refusal,
            };
            let now_next = self.read_number(lane).await;
            *next = Some(now_next);
            if uncertain && now_next > seq {
                return Err(SubmitError::Unknown);
            }
            match refusal {
                // It ran out while the network was away and was not taken: sign it anew.
                None => uncertain = false,
                Some((code, detail)) => {
                    renumberings += 1;
                    if now_next == seq || renumberings > MAX_RENUMBERINGS {
                        return Err(refused(code.unwrap_or_default(), detail));
                    }
                }
            }
        }
    }

    /// Repeats an envelope until there is an answer. `Err(None)`: it is no longer valid.
    async fn send(&self, envelope: &Envelope, uncertain: &mut bool) -> Result<TxResult, Option<(Option<u16>, String)>> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.network.submit(envelope).await {
                Ok(result) => return Ok(result),
                Err(NetworkError::Refused { code, detail }) => return Err(Some((code, detail))),
                Err(NetworkError::Unavailable(detail) | NetworkError::Unproven(detail)) => {
                    *uncertain = true;
                    tracing::debug!(detail, "the network did not answer to a transaction, trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                    if self.clock.now() > envelope.body.valid_until {
                        return Err(None);
                    }
                }
            }
        }
    }

    async fn read_number(&self, lane: u8) -> u64 {
        let mut pause = FIRST_PAUSE;
        loop {
            let lanes = match self.auth {
                Auth::Node(node) => self.network.node(&node).await.map(|n| n.map(|n| n.lanes)),
                Auth::Delegated(grant) => {
                    self.network.grants(&self.account).await.map(|all| all.into_iter().find(|g| g.id == grant).map(|g| g.lanes))
                }
                _ => self.network.account(&self.account).await.map(|a| a.map(|a| a.lanes)),
            };
            match lanes {
                Ok(lanes) => return lanes.unwrap_or_default().iter().find(|(l, _)| *l == lane).map_or(0, |(_, n)| *n),
                Err(error) => tracing::debug!(%error, "cannot read the lanes, trying again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    fn sign(&self, lane: u8, seq: u64, actions: Vec<Action>) -> Envelope {
        let body = TxBody {
            version: ENVELOPE_VERSION,
            zone: self.zone,
            account: self.account,
            auth: self.auth,
            lane,
            seq,
            valid_until: self.clock.now().plus(VALIDITY),
            max_fee: self.max_fee,
            tip: Amount::ZERO,
            fee_asset: AssetId::CREDIT,
            fee_payer: None,
            actions,
        };
        body.sign(&self.key)
    }
}
