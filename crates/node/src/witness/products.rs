//! The products of a node's GPUs as their witness has them opened: after the clock has stopped, with a secret of its own that nobody
//! could know when the roots were signed. Spec: `docs/specs/audits.md` §12.
//!
//! Guarantees: what it calls proven was opened for this witness in every row that it drew, for every device that was asked; what it
//! calls wrong convicts by itself. It ends within its time; whatever goes wrong on the way is "not proven" and no more.

use super::visit::Visit;
use pasture_api::{ApiClient, BeaconWord, split_opened};
use pasture_ledger::AuditRecord;
use pasture_proofs::Beacon;
use pasture_proofs::gemm::{Audited, Check, GemmError, Product, find_wrong_entry};
use pasture_rt::TaskKind;
use pasture_types::audit::{Answer, BeaconOffer, WrongProduct, gpu_devices, roots_digest};
use pasture_types::event::Hash32;
use pasture_types::ids::derive;

const SECRET_DOMAIN: &str = "pasture 2026-11 witness beacon v1";
/// Wrong products that wait for the answer they are in to be on the ledger; a validator that sees more shows these first.
const MAX_WRONG: usize = 16;

/// What came of an opening.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Opened {
    pub(super) proven: bool,
    pub(super) wrong: Option<WrongProduct>,
}

/// Has the products of an answer opened, if its audit asked any.
pub(super) async fn open(visit: &Visit, node: &ApiClient, answer: &Answer) -> Opened {
    let audit = &visit.audit;
    let audited = Audited {
        randomness: audit.randomness.0,
        epoch: audit.epoch,
        node: audit.node,
        nonces: answer.set.digest().0,
        burst: audit.terms.burst,
    };
    let rates = gpu_devices(&audit.gpus);
    let products: Option<Vec<Product>> = (0u16..).zip(&rates).map(|(device, rate)| audited.product(device, *rate)).collect();
    let Some(products) = products.filter(|all| !all.is_empty() && all.len() == answer.roots.len()) else { return Opened::default() };
    let named = roots_digest(&answer.roots);
    let secret = derive(SECRET_DOMAIN, &[&visit.key.derive_secret(SECRET_DOMAIN), &audit.number.to_le_bytes(), &audit.node.0]);
    let offer = BeaconOffer { witness: visit.key.node_id(), secret: Hash32(secret) };
    let signature = offer.sign(&visit.zone, audit.number, &audit.node, &named, &visit.key);
    let word = BeaconWord { offer, signature: (&signature).into() };
    let most = products.iter().map(|product| 4 + product.shape.longest_proof()).sum();
    let bytes = match node.open_products(audit.number, &word, visit.open_within, most).await {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::info!(%error, number = audit.number, "a machine did not open what its GPUs computed");
            return Opened::default();
        }
    };
    let beacon = Beacon(offer.beacon(&visit.zone, audit.number, &audit.node, &named));
    let (number, roots) = (audit.number, answer.roots.clone());
    let check = move || verify(number, &products, &roots, beacon, &bytes);
    pasture_rt::spawn_blocking(TaskKind::Audit, check).join().await.unwrap_or_default()
}

/// Checks what was opened; the first device that fails decides.
fn verify(audit: u64, products: &[Product], roots: &[Hash32], beacon: Beacon, bytes: &[u8]) -> Opened {
    let Some(opened) = split_opened(bytes, products.len()) else { return Opened::default() };
    let mut known: Option<Check> = None;
    for (device, ((product, root), rows)) in (0u16..).zip(products.iter().zip(roots).zip(opened)) {
        let Product { shape, round, challenge } = product;
        let check = known.take().filter(|check| check.n() == shape.n()).unwrap_or_else(|| Check::new(*shape, round, beacon));
        let judged = check.verify(*shape, challenge, &root.0, rows);
        known = Some(check);
        match judged {
            Ok(()) => {}
            Err(error @ (GemmError::Product { .. } | GemmError::Range(_))) => {
                tracing::warn!(%error, audit, device, "a machine opened a product that is wrong");
                let found = find_wrong_entry(*shape, round, challenge, &root.0, beacon, rows);
                let wrong = found.map(|entry| WrongProduct {
                    audit,
                    device,
                    row: entry.row,
                    layer: entry.layer,
                    column: entry.column,
                    sums: entry.sums,
                    path: entry.path.into_iter().map(Hash32).collect(),
                });
                return Opened { proven: false, wrong };
            }
            Err(error) => {
                tracing::info!(%error, audit, device, "what a machine opened proves nothing");
                return Opened::default();
            }
        }
    }
    Opened { proven: true, wrong: None }
}

/// Wrong products that the ledger has not heard of.
#[derive(Default, Debug)]
pub(super) struct Frauds(Vec<WrongProduct>);

impl Frauds {
    /// Notes one.
    pub(super) fn note(&mut self, wrong: Option<WrongProduct>) {
        if self.0.len() < MAX_WRONG {
            self.0.extend(wrong);
        }
    }
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Those that can be shown now, as their answer is on the ledger; forgets what the ledger knows or keeps no more.
    pub(super) fn shown(&mut self, on_ledger: impl Fn(u64) -> Option<AuditRecord>) -> Vec<WrongProduct> {
        self.0.retain(|wrong| on_ledger(wrong.audit).is_some_and(|record| !record.contradicted));
        let answered = |wrong: &&WrongProduct| on_ledger(wrong.audit).is_some_and(|record| record.answer.is_some());
        self.0.iter().filter(answered).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_proofs::gemm::{Prover, Round};
    use pasture_types::{Millis, NodeId};

    fn proofs(product: &Product, round: Round, beacon: Beacon) -> (Hash32, Vec<u8>) {
        let prover = Prover::new(product.shape, &round, &product.challenge);
        let leaves = prover.all_leaves();
        (Hash32(prover.root(&leaves)), prover.open(&leaves, beacon))
    }

    #[test]
    fn right_products_are_proven_and_a_wrong_one_is_evidence() {
        let audited = Audited { randomness: [1; 32], epoch: 2, node: NodeId([3; 32]), nonces: [4; 32], burst: Millis(500) };
        let products: Vec<Product> = (0..2).map(|device| audited.product(device, 100_000_000).unwrap()).collect();
        let beacon = Beacon([7; 32]);
        let [first, second] = [0, 1].map(|at| proofs(&products[at], products[at].round, beacon));
        let other = Round { epoch: 9, ..products[1].round };
        let garbage = proofs(&products[1], other, beacon);
        let check = |roots: [Hash32; 2], opened: &[Vec<u8>]| verify(5, &products, &roots, beacon, &pasture_api::join_opened(opened));
        let honest = [first.1.clone(), second.1.clone()];
        assert_eq!(check([first.0, second.0], &honest), Opened { proven: true, wrong: None });
        let caught = check([first.0, garbage.0], &[first.1.clone(), garbage.1.clone()]);
        assert_eq!((caught.proven, caught.wrong.as_ref().map(|w| (w.audit, w.device))), (false, Some((5, 1))));
        // Not what it committed to, or nothing at all: not proven, and no evidence.
        for opened in [vec![first.1.clone(), garbage.1.clone()], vec![first.1.clone()], vec![]] {
            assert_eq!(check([first.0, second.0], &opened), Opened::default());
        }
        let mut frauds = Frauds::default();
        frauds.note(caught.wrong);
        let mut record = super::super::unspoken(5, NodeId([3; 32]), vec![]);
        assert!(frauds.shown(|_| Some(record.clone())).is_empty() && !frauds.is_empty(), "its answer is not there yet");
        record.contradicted = true;
        assert!(frauds.shown(|_| Some(record.clone())).is_empty() && frauds.is_empty());
    }
}
