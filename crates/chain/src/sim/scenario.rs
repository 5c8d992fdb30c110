//! What is simulated on the real engine: a state machine, those who use it, and what must hold of it.
//!
//! Guarantees: the engine's side (validators, network, disks, clocks) is the same for every scenario. A scenario decides nothing by
//! anything but its [`Dice`] and what the run tells it, else a seed would not repeat a run.

use super::dice::Dice;
use super::door::Door;
use crate::core::FinalizedBlock;
use crate::genesis::Validator;
use crate::machine::Machine;
use pasture_types::state::StateRead;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// What somebody does for as long as a run lasts.
pub type Life = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who joins while a run lasts.
#[derive(Clone)]
pub struct Newcomer {
    /// Its public keys.
    pub validator: Validator,
    /// What its key for votes is made of, for whoever registers it.
    pub secret: [u8; 32],
}

/// What a run gives a scenario to begin with.
pub struct Founders {
    /// The validators of the first term, in the order of their numbers.
    pub validators: Vec<Validator>,
    /// The numbers of those that are dishonest: less than a third.
    pub dishonest: Vec<usize>,
    /// Whether seats may change hands in this run, down to one validator less: the dishonest are less than a third of those too.
    pub may_rotate: bool,
    /// Who joins while the run lasts, if anybody does: it has no seat unless the scenario gives it one.
    pub newcomer: Option<Newcomer>,
    /// Choices of the scenario.
    pub dice: Dice,
}

/// What runs on the validators, and who uses it.
pub trait Scenario: Send + Sync + 'static {
    /// The zone's id, and the ledger time at which it begins: before that of any clock of a run ([`super::BEGIN`]).
    fn zone(&self) -> ([u8; 32], u64);
    /// The state machine of a validator, asked for at each of its starts.
    fn machine(&self) -> Arc<dyn Machine>;
    /// What checks the final blocks.
    fn model(&self) -> Box<dyn Model>;
    /// How many clients there are.
    fn clients(&self) -> usize;
    /// What a client does.
    fn live(&self, client: usize, door: Door) -> Life;
    /// Every fault is mended now.
    fn mended(&self) {}
    /// What has not happened since, if there is anything that must: the run waits for it for [`Scenario::recovery`].
    fn missing(&self) -> Option<String> {
        None
    }
    /// How long getting on after the faults may take. A leader that is away costs a second, a view that nobody certifies two, and what is
    /// missing is asked for again each two seconds.
    fn recovery(&self) -> Duration {
        Duration::from_secs(60)
    }
}

/// A second opinion on the final blocks, apart from the chain. What is wrong panics, which ends the run.
pub trait Model: Send {
    /// The next final block: called once for each, in order.
    fn block(&mut self, block: &FinalizedBlock);
    /// Whether a validator's state is what it must be at a height, which may be any that was final.
    fn close(&self, validator: usize, height: u64, state: &dyn StateRead);
}
