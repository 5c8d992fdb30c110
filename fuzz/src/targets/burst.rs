//! What a node, its witnesses and a gateway say to each other in an audit: read or refused, and what is read says the same when it is written.

use pasture_api::{AuditDetail, BeaconWord, NonceOffer, SignedSet, SignedShares, WalkRoot, join_opened, split_opened};
use pasture_proofs::memory::AuditedMemory;
use pasture_types::audit::{Answer, MemoryAsk, NonceSet, PackedShares};
use pasture_types::event::Hash32;
use pasture_types::{Millis, NodeId, SigningKey, Timestamp, ZoneId};

const AUDIT: u64 = 7;
const PIECES: u8 = 9;

fn set() -> NonceSet {
    NonceSet { mask: 0b111, nonces: vec![1, 2, 3] }
}

/// Takes one input: which word, and the word; a broken promise panics.
pub fn run(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    match which % 5 {
        0 => {
            let Some((pieces, opened)) = data.split_first() else { return };
            let pieces = usize::from(pieces % PIECES);
            if let Some(all) = split_opened(opened, pieces) {
                assert_eq!(all.len(), pieces);
                assert_eq!(join_opened(&all.into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>()), opened);
            }
        }
        1 => {
            let Some(read) = serde_json::from_slice::<SignedSet>(data).ok().and_then(|signed| signed.read()) else { return };
            assert_eq!(SignedSet::new(&read.set, &read.signature, &read.witnesses).read(), Some(read));
        }
        2 => {
            let Some(answer) = serde_json::from_slice::<SignedShares>(data).ok().and_then(|signed| signed.read(AUDIT, set())) else { return };
            let _ = (answer.statement(), answer.committed(), answer.shares.unpack());
            assert_eq!(SignedShares::new(&answer).read(AUDIT, set()), Some(answer));
        }
        3 => {
            let Ok(detail) = serde_json::from_slice::<AuditDetail>(data) else { return };
            let again = serde_json::to_vec(&detail).expect("it was JSON");
            assert_eq!(serde_json::from_slice::<AuditDetail>(&again).ok().as_ref(), Some(&detail));
            let Some(claim) = detail.memory else { return };
            let asked = AuditedMemory {
                audit: detail.number,
                randomness: detail.randomness.0,
                epoch: detail.epoch,
                node: detail.node,
                chunks: claim.chunks,
                lanes: claim.lanes,
                window: claim.window,
            };
            // Whatever a gateway says is asked, a walk's states and its proof stay within their bounds.
            if let Some(walk) = asked.walk(&set().digest().0) {
                assert!(walk.lanes() <= pasture_proofs::memory::MAX_STRETCHES && walk.longest_proof() <= 32 << 10);
            }
        }
        _ => {
            let _ = serde_json::from_slice::<WalkRoot>(data).map(|walk| serde_json::to_vec(&walk).expect("it was JSON"));
            let _ = serde_json::from_slice::<BeaconWord>(data);
            let _ = serde_json::from_slice::<NonceOffer>(data);
        }
    }
}

/// One of each.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let said = |tag: u8, word: serde_json::Result<Vec<u8>>| [vec![tag], word.expect("it is JSON")].concat();
    let key = SigningKey::from_seed([1; 32]);
    let (signature, root) = (key.sign(&[2; 32]), Hash32([3; 32]));
    let shares = PackedShares::pack(&[5, 9, 400]).expect("in order");
    let answer = Answer::with_found(&ZoneId([4; 32]), AUDIT, set(), shares, (vec![root], Some(root)), &key);
    let detail = AuditDetail {
        number: AUDIT,
        node: NodeId([5; 32]),
        attempt: 1,
        epoch: 6,
        drawn_at: Timestamp(7),
        until: Timestamp(8),
        randomness: root,
        rate: 9,
        burst: Millis(4_000),
        gpus: vec![],
        memory: MemoryAsk::production().claim(1 << 30, 4_000, Millis(20_000)),
        witnesses: vec![],
        answer: None,
        verdict: None,
        gpu_verdict: None,
        memory_verdict: None,
    };
    vec![
        [vec![0, 2], join_opened(&[vec![1, 2, 3], vec![]])].concat(),
        said(1, serde_json::to_vec(&SignedSet::new(&set(), &signature, &[signature; 3]))),
        said(2, serde_json::to_vec(&SignedShares::new(&answer))),
        said(3, serde_json::to_vec(&detail)),
        said(4, serde_json::to_vec(&WalkRoot { root })),
    ]
}
