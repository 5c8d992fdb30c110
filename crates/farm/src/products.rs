//! Products for capacity checks, computed on this machine's cards.
//!
//! Guarantees: only cards compute, never a driver in software; devices of one model are told apart by their order; a card that fails leaves its
//! device unproven and says why in the log.

use crate::backend::{Asked, Committed, ProductEngine};
use pasture_gpu::{Adapter, Commitment, GpuError, Kind, Prover, adapters};
use pasture_proofs::Beacon;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The cards that Vulkan finds, looked for when they are asked first.
#[derive(Default)]
pub(crate) struct Cards(OnceLock<Vec<Adapter>>);

impl Cards {
    /// For a provider that offers its own cards.
    pub(crate) fn engine() -> Arc<dyn ProductEngine> {
        Arc::new(Self::default())
    }

    fn found(&self) -> &[Adapter] {
        self.0.get_or_init(|| {
            let found = adapters().inspect_err(|error| tracing::warn!(%error, "no card can be asked for a proof")).unwrap_or_default();
            found.into_iter().filter(|adapter| adapter.kind() != Kind::Software).collect()
        })
    }

    fn card(&self, asked: &Asked) -> Option<&Adapter> {
        nth_of_model(self.found(), Adapter::name, asked)
    }
}

/// The device of a model that a number names.
fn nth_of_model<'a, T>(all: &'a [T], name: impl Fn(&T) -> &str, asked: &Asked) -> Option<&'a T> {
    let model = asked.model.to_ascii_lowercase();
    // "NVIDIA H100 80GB HBM3" is an H100, and no H10.
    let is = |one: &&T| name(one).to_ascii_lowercase().split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == model);
    all.iter().filter(is).nth(usize::from(asked.number))
}

impl ProductEngine for Cards {
    fn prove(&self, asked: &Asked, go_on: &dyn Fn() -> bool) -> Option<Box<dyn Committed>> {
        let Some(card) = self.card(asked) else {
            tracing::warn!(model = asked.model, number = asked.number, "Vulkan does not find a card that this machine offers");
            return None;
        };
        match product(card, asked, go_on) {
            Ok(made) => Some(Box::new(OnCard { root: *made.as_ref()?.root(), made: Mutex::new(made?) })),
            Err(error) => {
                tracing::warn!(%error, card = card.name(), "a card could not compute its product");
                None
            }
        }
    }
}

fn product(card: &Adapter, asked: &Asked, go_on: &dyn Fn() -> bool) -> Result<Option<Commitment>, GpuError> {
    let product = &asked.product;
    Prover::new(&card.open()?, product.shape, &product.round, &product.challenge)?.commit(go_on)
}

/// A product that a card has computed.
struct OnCard {
    root: [u8; 32],
    made: Mutex<Commitment>,
}

impl Committed for OnCard {
    fn root(&self) -> [u8; 32] {
        self.root
    }
    fn open(&self, beacon: Beacon) -> Option<Vec<u8>> {
        let opened = self.made.lock().unwrap_or_else(PoisonError::into_inner).open(beacon);
        opened.inspect_err(|error| tracing::warn!(%error, "a card could not compute its rows again")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_proofs::gemm::{Audited, Check};
    use pasture_types::{Millis, NodeId};

    fn asked(model: &str, number: u16) -> Asked {
        let audited = Audited { randomness: [1; 32], epoch: 2, node: NodeId([3; 32]), nonces: [4; 32], burst: Millis(500) };
        Asked { model: model.into(), number, product: audited.product(number, 100_000_000).unwrap() }
    }

    #[test]
    fn a_card_is_found_by_its_model_and_number() {
        let names = ["NVIDIA H100 80GB HBM3", "Tesla T4", "NVIDIA H100 80GB HBM3 (2)"];
        let found = |model: &str, number| nth_of_model(&names, |name| name, &asked(model, number)).copied();
        assert_eq!(found("H100", 1), Some(names[2]));
        assert_eq!((found("t4", 0), found("H10", 0), found("H100", 2)), (Some(names[1]), None, None));
    }

    #[test]
    fn a_driver_in_software_is_no_card_but_computes_what_a_witness_accepts() {
        assert!(Cards::default().prove(&asked("llvmpipe", 0), &|| true).is_none(), "no card, no proof");
        let adapters = adapters().unwrap();
        let asked = asked("X", 1);
        let made = product(&adapters[0], &asked, &|| true).unwrap().unwrap();
        let made = OnCard { root: *made.root(), made: Mutex::new(made) };
        let check = Check::new(asked.product.shape, &asked.product.round, Beacon([5; 32]));
        let opened = made.open(Beacon([5; 32])).unwrap();
        assert_eq!(check.verify(asked.product.shape, &asked.product.challenge, &made.root(), &opened), Ok(()));
        assert!(product(&adapters[0], &asked, &|| false).unwrap().is_none());
    }
}
