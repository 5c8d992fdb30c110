//! Products of this machine's GPUs in an audit: computed while the CPU hashes, committed to, opened for each witness.
//! Spec: `docs/specs/audits.md` §12.
//!
//! Guarantees: what is computed ends with its time or with the provider; products that are not there in time leave the CPU's answer
//! as it is. Simulated GPUs compute on the CPU, and are refused outside development before they get here. It signs nothing.

use crate::gpus::Gpus;
use pasture_proofs::Beacon;
use pasture_proofs::gemm::{Product, Prover, Rows};
use pasture_rt::{ShutdownToken, TaskKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows between two looks at the clock.
const PIECE: u32 = 64;

/// What one device is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Its model, as the node declared it.
    pub model: String,
    /// Which of those of its model, from 0.
    pub number: u16,
    /// The product.
    pub product: Product,
}

/// What computes products: one for all devices of a machine, which it is asked for side by side.
pub trait ProductEngine: Send + Sync {
    /// Computes a device's whole product; `None` if `go_on` said no, or it cannot be computed.
    fn prove(&self, asked: &Asked, go_on: &dyn Fn() -> bool) -> Option<Box<dyn Committed>>;
}

/// A product that is computed.
pub trait Committed: Send + Sync {
    /// What the node signs.
    fn root(&self) -> [u8; 32];
    /// The rows that a beacon draws, with what leads from them to the root; `None` if they cannot be computed again.
    fn open(&self, beacon: Beacon) -> Option<Vec<u8>>;
}

/// All devices' products, in their order.
pub(crate) type Products = Arc<Vec<Box<dyn Committed>>>;

/// The engine of a machine's GPUs: the one that was given, or the CPU for simulated ones; `None` if nothing here computes on them.
pub(crate) fn engine(given: Option<&Arc<dyn ProductEngine>>, gpus: Option<&Gpus>) -> Option<Arc<dyn ProductEngine>> {
    let simulated = || gpus.filter(|gpus| gpus.are_simulated()).map(|_| Arc::new(SimulatedProducts) as Arc<dyn ProductEngine>);
    given.cloned().or_else(simulated)
}

/// The CPU in the place of simulated GPUs.
struct SimulatedProducts;

struct OnCpu {
    prover: Prover,
    leaves: Rows,
    root: [u8; 32],
}

impl ProductEngine for SimulatedProducts {
    fn prove(&self, asked: &Asked, go_on: &dyn Fn() -> bool) -> Option<Box<dyn Committed>> {
        let product = &asked.product;
        let prover = Prover::new(product.shape, &product.round, &product.challenge);
        let mut leaves: Rows = vec![[0; 32]; product.shape.rows() as usize];
        for (first, out) in (0..).step_by(PIECE as usize).zip(leaves.chunks_mut(PIECE as usize)) {
            if !go_on() {
                return None;
            }
            prover.leaves(first..(first + PIECE).min(product.shape.rows()), out);
        }
        let root = prover.root(&leaves);
        Some(Box::new(OnCpu { prover, leaves, root }))
    }
}

impl Committed for OnCpu {
    fn root(&self) -> [u8; 32] {
        self.root
    }
    fn open(&self, beacon: Beacon) -> Option<Vec<u8>> {
        Some(self.prover.open(&self.leaves, beacon))
    }
}

/// Computes the products of all devices; `None` if they are not there in time, or none are asked.
pub(super) async fn compute(
    engine: Option<Arc<dyn ProductEngine>>,
    asked: Vec<Asked>,
    within: Duration,
    cancel: ShutdownToken,
) -> Option<Products> {
    let engine = engine.filter(|_| !asked.is_empty())?;
    let begun = Instant::now();
    let work = asked.into_iter().map(|asked| {
        let (engine, cancel) = (Arc::clone(&engine), cancel.clone());
        let prove = move || engine.prove(&asked, &|| begun.elapsed() < within && !cancel.is_requested());
        async move { pasture_rt::spawn_blocking(TaskKind::Audit, prove).join().await.flatten() }
    });
    futures::future::join_all(work).await.into_iter().collect::<Option<Vec<_>>>().map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_proofs::gemm::{Audited, Check};
    use pasture_types::{Millis, NodeId};

    #[tokio::test]
    async fn simulated_devices_prove_what_a_witness_accepts_and_end_when_called_off() {
        let audited = Audited { randomness: [1; 32], epoch: 2, node: NodeId([3; 32]), nonces: [4; 32], burst: Millis(500) };
        let asked = |device| Asked { model: "H100".into(), number: device, product: audited.product(device, 100_000_000).unwrap() };
        let products: Vec<Asked> = (0..2).map(asked).collect();
        let stop = pasture_rt::Shutdown::new();
        let engine = || Some(Arc::new(SimulatedProducts) as Arc<dyn ProductEngine>);
        let day = Duration::from_secs(86_400);
        let made = compute(engine(), products.clone(), day, stop.token()).await.unwrap();
        for (Asked { product, .. }, made) in products.iter().zip(made.iter()) {
            let check = Check::new(product.shape, &product.round, Beacon([5; 32]));
            assert_eq!(check.verify(product.shape, &product.challenge, &made.root(), &made.open(Beacon([5; 32])).unwrap()), Ok(()));
        }
        assert_ne!(made[0].root(), made[1].root());
        assert!(compute(None, products.clone(), day, stop.token()).await.is_none());
        assert!(compute(engine(), vec![], day, stop.token()).await.is_none());
        assert!(compute(engine(), products.clone(), Duration::ZERO, stop.token()).await.is_none());
        stop.trigger();
        assert!(compute(engine(), products, day, stop.token()).await.is_none());
    }
}
