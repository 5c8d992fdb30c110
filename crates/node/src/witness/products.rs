//! What an answer commits to, products of GPUs and a walk over memory, as its witness has it opened: after the clock has stopped, with a
//! secret of its own that nobody could know when the roots were signed. Spec: `docs/specs/audits.md` §12, §13.
//!
//! Guarantees: what it calls proven was opened for this witness in every row that it drew, for every device that was asked; what it
//! calls wrong convicts by itself. It ends within its time; whatever goes wrong on the way is "not proven" and no more.

use super::visit::Visit;
use pasture_api::{ApiClient, BeaconWord, split_opened};
use pasture_ledger::AuditRecord;
use pasture_proofs::Beacon;
use pasture_proofs::gemm::{Audited, Check, GemmError, Product, find_wrong_entry};
use pasture_proofs::memory::{AuditedMemory, Walk};
use pasture_rt::TaskKind;
use pasture_types::audit::{Answer, BeaconOffer, Shown, WrongProduct, gpu_devices};
use pasture_types::event::Hash32;
use pasture_types::ids::derive;

const SECRET_DOMAIN: &str = "pasture 2026-11 witness beacon v1";
/// Wrong products that wait for the answer they are in to be on the ledger; a validator that sees more shows these first.
const MAX_WRONG: usize = 16;

/// What came of an opening.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Opened {
    pub(super) shown: Shown,
    pub(super) wrong: Option<WrongProduct>,
}

/// What an answer commits to and may have opened.
struct Commitments {
    audit: u64,
    products: Vec<Product>,
    roots: Vec<Hash32>,
    /// The walk, with the root that came in its own time.
    walk: Option<(Walk, Hash32)>,
}

impl Commitments {
    /// Of an answer; `in_time` says whether the root of its walk came so.
    fn of(audit: &AuditRecord, answer: &Answer, in_time: bool) -> Self {
        let nonces = answer.set.digest().0;
        let (randomness, epoch, node) = (audit.randomness.0, audit.epoch, audit.node);
        let audited = Audited { randomness, epoch, node, nonces, burst: audit.terms.burst };
        let rates = gpu_devices(&audit.gpus);
        let products: Option<Vec<Product>> = (0u16..).zip(&rates).map(|(device, rate)| audited.product(device, *rate)).collect();
        let products = products.filter(|all| all.len() == answer.roots.len()).unwrap_or_default();
        let asked = audit.memory.filter(|_| in_time).map(|claim| AuditedMemory {
            audit: audit.number,
            randomness,
            epoch,
            node,
            chunks: claim.chunks,
            lanes: claim.lanes,
            window: claim.window,
        });
        let walk = asked.and_then(|asked| asked.walk(&nonces)).zip(answer.walk);
        Self { audit: audit.number, products, roots: answer.roots.clone(), walk }
    }

    const fn is_empty(&self) -> bool {
        self.products.is_empty() && self.walk.is_none()
    }

    /// The most bytes that opening them may take. A walk that came too late is opened too, and not looked at.
    fn longest(&self, answer: &Answer) -> u64 {
        /// More than any walk's proof.
        const WALK: u64 = 32 * 1024;
        let products: u64 = self.products.iter().map(|product| 4 + product.shape.longest_proof()).sum();
        products + answer.walk.map_or(0, |_| 4 + WALK)
    }

    /// Checks what was opened.
    fn verify(&self, beacon: Beacon, bytes: &[u8], pieces: usize) -> Opened {
        let Some(opened) = split_opened(bytes, pieces) else { return Opened::default() };
        let rows = opened.get(..self.products.len()).unwrap_or_default();
        let (products, wrong) = verify_products(self.audit, &self.products, &self.roots, beacon, rows);
        let memory = self.walk.as_ref().zip(opened.last()).is_some_and(|((walk, root), proof)| {
            walk.verify(&root.0, beacon, proof)
                .inspect_err(|error| tracing::info!(%error, audit = self.audit, "what a machine opened of its memory proves nothing"))
                .is_ok()
        });
        Opened { shown: Shown { products, memory }, wrong }
    }
}

/// Has what an answer commits to opened, if its audit asked for any; `in_time`: the root of its walk came so.
pub(super) async fn open(visit: &Visit, node: &ApiClient, answer: &Answer, in_time: bool) -> Opened {
    let audit = &visit.audit;
    let commitments = Commitments::of(audit, answer, in_time);
    if commitments.is_empty() {
        return Opened::default();
    }
    let named = answer.committed();
    let secret = derive(SECRET_DOMAIN, &[&visit.key.derive_secret(SECRET_DOMAIN), &audit.number.to_le_bytes(), &audit.node.0]);
    let offer = BeaconOffer { witness: visit.key.node_id(), secret: Hash32(secret) };
    let signature = offer.sign(&visit.zone, audit.number, &audit.node, &named, &visit.key);
    let word = BeaconWord { offer, signature: (&signature).into() };
    let bytes = match node.open_products(audit.number, &word, visit.open_within, commitments.longest(answer)).await {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::info!(%error, number = audit.number, "a machine did not open what its answer commits to");
            return Opened::default();
        }
    };
    let beacon = Beacon(offer.beacon(&visit.zone, audit.number, &audit.node, &named));
    let pieces = answer.roots.len() + usize::from(answer.walk.is_some());
    let check = move || commitments.verify(beacon, &bytes, pieces);
    pasture_rt::spawn_blocking(TaskKind::Audit, check).join().await.unwrap_or_default()
}

/// Checks the rows of all devices; the first one that fails decides. Nothing is shown where nothing was asked.
fn verify_products(audit: u64, products: &[Product], roots: &[Hash32], beacon: Beacon, opened: &[&[u8]]) -> (bool, Option<WrongProduct>) {
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
                return (false, wrong);
            }
            Err(error) => {
                tracing::info!(%error, audit, device, "what a machine opened proves nothing");
                return (false, None);
            }
        }
    }
    (!products.is_empty() && opened.len() == products.len(), None)
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
    fn a_right_walk_in_time_is_shown_whatever_the_products_are() {
        let asked =
            AuditedMemory { audit: 5, randomness: [1; 32], epoch: 2, node: NodeId([3; 32]), chunks: 8, lanes: 2, window: Millis(100) };
        let (walk, beacon) = (asked.walk(&[4; 32]).unwrap(), Beacon([7; 32]));
        let mut memory = vec![0; 8 * pasture_proofs::memory::CHUNK_WORDS];
        walk.table().fill(0, &mut memory);
        let walked = |memory: &[u64]| {
            let mut states = Vec::new();
            for lane in 0..2 {
                let mut own = Vec::new();
                assert!(walk.advance(lane, &mut own, &mut &memory[..], u32::MAX));
                states.extend(own);
            }
            (Hash32(walk.root(&states)), walk.open(&states, beacon))
        };
        let (root, proof) = walked(&memory);
        let audited = Audited { randomness: [1; 32], epoch: 2, node: NodeId([3; 32]), nonces: [4; 32], burst: Millis(500) };
        let product = audited.product(0, 100_000_000).unwrap();
        let shown = |root: Hash32, opened: &[Vec<u8>], products: &[Product]| {
            let roots = vec![Hash32([9; 32]); products.len()];
            let commitments = Commitments { audit: 5, products: products.to_vec(), roots, walk: Some((walk.clone(), root)) };
            commitments.verify(beacon, &pasture_api::join_opened(opened), products.len() + 1).shown
        };
        let memory_alone = Shown { products: false, memory: true };
        assert_eq!(shown(root, std::slice::from_ref(&proof), &[]), memory_alone);
        assert_eq!(shown(root, &[vec![1, 2], proof.clone()], &[product]), memory_alone, "its GPU shows nothing");
        assert_eq!(shown(Hash32([8; 32]), std::slice::from_ref(&proof), &[]), Shown::default(), "another root");
        memory[..4 * pasture_proofs::memory::CHUNK_WORDS].fill(0);
        let (lacking, made_up) = walked(&memory);
        assert_eq!(shown(lacking, &[made_up], &[]), Shown::default(), "half of it is not there");
    }

    #[test]
    fn right_products_are_proven_and_a_wrong_one_is_evidence() {
        let audited = Audited { randomness: [1; 32], epoch: 2, node: NodeId([3; 32]), nonces: [4; 32], burst: Millis(500) };
        let products: Vec<Product> = (0..2).map(|device| audited.product(device, 100_000_000).unwrap()).collect();
        let beacon = Beacon([7; 32]);
        let [first, second] = [0, 1].map(|at| proofs(&products[at], products[at].round, beacon));
        let other = Round { epoch: 9, ..products[1].round };
        let garbage = proofs(&products[1], other, beacon);
        let check = |roots: [Hash32; 2], opened: &[Vec<u8>]| {
            let commitments = Commitments { audit: 5, products: products.clone(), roots: roots.to_vec(), walk: None };
            commitments.verify(beacon, &pasture_api::join_opened(opened), 2)
        };
        let products_alone = Shown { products: true, memory: false };
        let honest = [first.1.clone(), second.1.clone()];
        assert_eq!(check([first.0, second.0], &honest), Opened { shown: products_alone, wrong: None });
        let caught = check([first.0, garbage.0], &[first.1.clone(), garbage.1.clone()]);
        assert_eq!((caught.shown.products, caught.wrong.as_ref().map(|w| (w.audit, w.device))), (false, Some((5, 1))));
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
