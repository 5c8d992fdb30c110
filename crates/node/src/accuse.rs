//! Shows the ledger which validators contradict themselves.
//!
//! Guarantees: each validator that meets a contradiction waits for its turn and then looks whether another has shown it, so that mostly
//! one pays the fee; what is found twice is shown once. The operator's account pays, and gets the reporter's part. It judges nothing.

use crate::purse::Purse;
use pasture_chain::{Chain, Contradicted};
use pasture_ledger::query;
use pasture_rt::Clock;
use pasture_types::genesis::Genesis;
use pasture_types::tx::Action;
use pasture_types::validator::ValidatorAction;
use pasture_types::{Millis, NodeId, SigningKey};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// A lane of the operator's account that nothing else of the program uses, so that its other transactions wait for nothing.
const LANE: u8 = 15;
/// How long an accusation may wait for its block.
const VALID_FOR: Millis = Millis(600_000);
/// How long each validator waits for those before it.
const TURN: Duration = Duration::from_secs(3);

/// Whoever accuses.
pub(crate) struct Accuser {
    chain: Chain,
    own: [u8; 32],
    purse: Purse,
}

impl Accuser {
    pub(crate) fn new(chain: Chain, genesis: &Genesis, operator: SigningKey, own: [u8; 32], clock: Arc<dyn Clock>) -> Self {
        let purse = Purse { chain: chain.clone(), operator, zone: genesis.zone(), clock, lane: LANE, valid_for: VALID_FOR };
        Self { chain, own, purse }
    }

    /// Accuses until the chain is gone.
    pub(crate) async fn run(self) {
        let mut found = self.chain.contradictions();
        loop {
            match found.recv().await {
                Ok(found) => self.accuse(found).await,
                // What is lost is lost for validators that contradict themselves all the time.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn is_shown(&self, found: &Contradicted) -> bool {
        let Ok(state) = self.chain.state() else { return true };
        let id = NodeId(found.validator);
        let Some(validator) = query::validators::validator(&state, &id) else { return true };
        // Nobody pays a fee to have nothing taken.
        let nothing = validator.bond.is_zero() && validator.leaving.is_empty() && validator.jail.is_some();
        nothing || query::validators::accused(&state, &id).is_some_and(|term| found.votes.term <= term)
    }

    async fn accuse(&self, found: Contradicted) {
        if self.is_shown(&found) {
            return;
        }
        let turn = self.chain.validators().iter().position(|v| v.key == self.own).unwrap_or_default();
        tokio::time::sleep(TURN.saturating_mul(u32::try_from(turn).unwrap_or(u32::MAX))).await;
        if self.is_shown(&found) {
            return;
        }
        let validator = NodeId(found.validator).short();
        match self.submit(&found).await {
            Ok(height) => tracing::warn!(validator, height, "showed the ledger that a validator contradicted itself"),
            Err(why) => tracing::error!(validator, why, "a validator contradicted itself, and the ledger could not be told"),
        }
    }

    async fn submit(&self, found: &Contradicted) -> Result<u64, String> {
        let action = ValidatorAction::Accuse { key: found.validator, votes: Box::new(found.votes) };
        self.purse.submit(vec![Action::Validator(action)]).await
    }
}
