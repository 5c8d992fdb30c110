//! How somebody acts on the ledger: looks at some validator's state, signs one transaction, and hands it in until it knows its fate.
//!
//! Guarantees: one transaction of an agent is under way at a time; the same bytes go to one validator after another until they are
//! final, refused or expired. An agent decides on a state only if that holds everything it was told is final.

use super::lock;
use super::model::Ledger;
use pasture_chain::sim::{Answer, Desk, Door};
use pasture_ledger::{TxError, query};
use pasture_types::state::StateRead;
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, TxBody};
use pasture_types::{AccountId, Amount, AssetId, Millis, NodeId, SigningKey, Timestamp, ZoneId, codec};
use std::sync::{Arc, Mutex};

/// How long a transaction is valid.
const VALID_FOR: Millis = Millis(30_000);
/// After so many refusals, each by some validator, an agent decides anew.
const REFUSALS: u8 = 4;

/// What somebody sees when it looks.
pub(super) struct Look<'a> {
    /// A validator's latest final state.
    pub(super) state: &'a dyn StateRead,
    /// Its ledger time.
    pub(super) now: Timestamp,
}

/// Decides what somebody does. No waiting, no signing of envelopes: the agent does that.
pub(super) trait Mind: Send {
    /// How long it waits between two looks, in milliseconds.
    fn pace(&self) -> (u64, u64);
    /// What it wants done: with which of its hands, and the actions of one transaction.
    fn decide(&mut self, look: &Look<'_>, door: &Door) -> Option<(usize, Vec<Action>)>;
}

/// A key with its own sequence on the ledger.
pub(super) struct Hand {
    key: SigningKey,
    account: AccountId,
    node: Option<NodeId>,
    zone: ZoneId,
    /// The sequence after all that is known to be final.
    next: u64,
    /// The highest sequence that was ever signed.
    signed: Option<u64>,
    pending: Option<Pending>,
}

struct Pending {
    tx: Vec<u8>,
    id: [u8; 32],
    seq: u64,
    until: Timestamp,
    /// No other transaction was signed at this sequence.
    sole: bool,
    refusals: u8,
}

impl Hand {
    pub(super) const fn of_account(key: SigningKey, account: AccountId, zone: ZoneId) -> Self {
        Self { key, account, node: None, zone, next: 0, signed: None, pending: None }
    }

    pub(super) fn of_node(key: SigningKey, account: AccountId, node: NodeId, zone: ZoneId) -> Self {
        Self { node: Some(node), ..Self::of_account(key, account, zone) }
    }

    fn on_ledger(&self, state: &dyn StateRead) -> u64 {
        let owner = self.node.map_or(self.account.0, |node| node.0);
        query::next_seq(state, &owner, 0)
    }

    fn sign(&mut self, look: &Look<'_>, actions: Vec<Action>) {
        let seq = self.on_ledger(look.state).max(self.next);
        let until = look.now.plus(VALID_FOR);
        let body = TxBody {
            version: ENVELOPE_VERSION,
            zone: self.zone,
            account: self.account,
            auth: self.node.map_or(Auth::Single, Auth::Node),
            lane: 0,
            seq,
            valid_until: until,
            max_fee: Amount::credits(1),
            tip: Amount::ZERO,
            fee_asset: AssetId::CREDIT,
            fee_payer: None,
            actions,
        };
        let id = body.id().0;
        let sole = self.signed.is_none_or(|signed| signed < seq);
        self.signed = self.signed.max(Some(seq));
        self.pending = Some(Pending { tx: codec::encode(&body.sign(&self.key)), id, seq, until, sole, refusals: 0 });
    }

    /// What became of the pending transaction as far as one validator says.
    async fn hand_in(&mut self, desk: &Desk, door: &Door) -> Option<u16> {
        let pending = self.pending.as_mut()?;
        if Timestamp(desk.time_ms()) > pending.until {
            self.pending = None;
            return None;
        }
        match door.hand_in(desk, pending.tx.clone()).await {
            Answer::Final(_) => {
                self.next = pending.seq + 1;
                self.pending = None;
                None
            }
            Answer::Rejected { code, .. } if code == seq_used() => {
                if pending.sole {
                    door.claimed(pending.id);
                }
                self.next = self.next.max(pending.seq + 1);
                self.pending = None;
                None
            }
            Answer::Rejected { code, .. } => {
                pending.refusals += 1;
                if pending.refusals >= REFUSALS {
                    self.pending = None;
                }
                Some(code)
            }
            Answer::Nothing => None,
        }
    }
}

fn seq_used() -> u16 {
    TxError::SeqUsed { lane: 0, got: 0, next: 0 }.code()
}

/// Lives for as long as the run lasts.
pub(super) async fn live(door: Door, mut mind: Box<dyn Mind>, mut hands: Vec<Hand>, ledger: Arc<Mutex<Ledger>>) {
    loop {
        let (low, high) = mind.pace();
        door.pass(low, high).await;
        let Some(desk) = door.ask() else { continue };
        if hands.iter().all(|hand| hand.pending.is_none()) {
            // This validator does not know yet what another one said.
            if hands.iter().any(|hand| hand.on_ledger(desk.state()) < hand.next) {
                continue;
            }
            let look = Look { state: desk.state(), now: Timestamp(desk.time_ms()) };
            let Some((at, actions)) = mind.decide(&look, &door) else { continue };
            if let Some(hand) = hands.get_mut(at) {
                hand.sign(&look, actions);
            }
        }
        if let Some(hand) = hands.iter_mut().find(|hand| hand.pending.is_some())
            && let Some(code) = hand.hand_in(&desk, &door).await
        {
            lock(&ledger).counts.refuse(code);
        }
    }
}
