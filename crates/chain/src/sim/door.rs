//! A client's way to the validators: whichever answers.
//!
//! Guarantees: a client learns what a validator's clients learn (its latest final state, refusals, receipts) and nothing else; every
//! receipt is told to the [`super::history::History`]. Clients reach validators also across a partition: a gateway is not simulated.

use super::context::now_ms;
use super::dice::Dice;
use super::node::{Zone, lock};
use crate::core::{Core, Tip, TxReceipt};
use crate::error::SubmitError;
use crate::evidence::Contradicted;
use crate::mempool::TxId;
use bytes::Bytes;
use commonware_runtime::{Clock as _, deterministic::Context};
use futures::future::{Either, select};
use pasture_types::state::StateRead;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// How long a client waits for an answer before it asks another validator.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often it looks whether the validator is still there.
const LOOK: Duration = Duration::from_millis(100);

/// Of one client.
pub struct Door {
    pub(super) context: Context,
    pub(super) dice: Dice,
    pub(super) zone: Zone,
}

/// A validator that answers, with the latest state that is final there.
pub struct Desk {
    node: usize,
    core: Arc<Core>,
    tip: Arc<Tip>,
}

/// What a client heard of its transaction.
#[derive(Debug)]
pub enum Answer {
    /// It is final.
    Final(TxReceipt),
    /// The state machine refused it.
    Rejected {
        /// Its reason.
        code: u16,
        /// For people.
        message: String,
    },
    /// Nothing, or nothing that says what will become of it.
    Nothing,
}

impl Desk {
    /// The state after the latest block that is final there.
    #[must_use]
    pub fn state(&self) -> &dyn StateRead {
        &self.tip.view
    }
    /// That block's height.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.tip.header.height
    }
    /// That block's time.
    #[must_use]
    pub fn time_ms(&self) -> u64 {
        self.tip.header.timestamp_ms
    }
}

impl Door {
    /// Simulated time, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        now_ms(&self.context)
    }
    /// The client's own choices.
    #[must_use]
    pub const fn dice(&self) -> &Dice {
        &self.dice
    }
    /// Lets some time between two limits pass, in milliseconds.
    pub async fn pass(&self, low: u64, high: u64) {
        self.context.sleep(self.dice.millis(low, high)).await;
    }
    /// Any validator, if it is honest, up and has read its disk.
    #[must_use]
    pub fn ask(&self) -> Option<Desk> {
        let ready = lock(&self.zone.ready);
        let node = self.dice.index(ready.len());
        let core = ready.get(node)?.clone()?;
        let tip = core.tip()?;
        Some(Desk { node, core, tip })
    }
    /// Proofs of contradiction that some validator met since the beginning, from a number on.
    #[must_use]
    pub fn contradictions(&self, from: usize) -> Vec<Contradicted> {
        lock(&self.zone.contradictions).get(from..).unwrap_or_default().to_vec()
    }
    /// Notes that a client was told that its transaction is in the state.
    pub fn claimed(&self, id: TxId) {
        lock(&self.zone.history).claimed(id);
    }
    /// Hands a transaction in and waits for what becomes of it.
    pub async fn hand_in(&self, desk: &Desk, tx: impl Into<Bytes>) -> Answer {
        let (id, receiver) = match desk.core.submit(tx.into()) {
            Ok(accepted) => accepted,
            Err(SubmitError::Rejected { code, message }) => return Answer::Rejected { code, message },
            Err(_) => return Answer::Nothing,
        };
        // A validator that crashes takes its answer with it. What it held is kept until nobody waits for it: it would wake those who do in
        // the random order of a hash map, and the run could not be repeated.
        let crashed = async {
            for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
                self.context.sleep(LOOK).await;
                if !lock(&self.zone.ready)[desk.node].as_ref().is_some_and(|running| Arc::ptr_eq(running, &desk.core)) {
                    return;
                }
            }
        };
        let answer = match select(pin!(receiver), pin!(crashed)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => return Answer::Nothing,
        };
        let Ok(Ok(receipt)) = answer else { return Answer::Nothing };
        lock(&self.zone.history).acknowledge(self.now_ms(), desk.node, id, receipt.height);
        Answer::Final(receipt)
    }
}
