//! The light client's own code against changes of validators that the engine made.

#![cfg(test)]

mod common;

use common::{CANDIDATES, Counter, Members, PUT, SEATS, named_key, tx};
use pasture_chain::{Chain, Handover, Validator};
use pasture_light::{Checkpoint, LightError, ValidatorSet};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(120);
/// Short, so that a test sees several terms.
const TERM_BLOCKS: u64 = 8;
/// Who changes the seats: its transactions are numbered.
const CLERK: u8 = 100;
/// Another record, to be proven.
const NAME: u8 = 77;

fn set(zone: [u8; 32], validators: &[Validator]) -> ValidatorSet {
    let member = |v: &Validator| pasture_light::Validator { key: v.key, bls_key: v.bls_key.clone().try_into().unwrap() };
    ValidatorSet::new(zone, validators.iter().map(member).collect()).unwrap()
}

/// As the node hands it to clients.
fn light(handover: &Handover) -> pasture_light::Handover {
    let header = handover.header.encode().try_into().unwrap();
    let next = set(handover.header.zone, &handover.validators);
    let given = pasture_light::Handover { header, certificate: handover.certificate.clone(), next };
    pasture_light::Handover::decode(&given.encode()).unwrap()
}

async fn prove(chain: &Chain, name: u8) -> pasture_light::StateProof {
    let key = named_key(name);
    let proof = chain.prove(&key).await.unwrap();
    let headers = proof.finality.headers.iter().map(|h| h.encode().try_into().unwrap()).collect();
    pasture_light::StateProof { headers, certificate: proof.finality.certificate, key, value: proof.value, store: proof.proof }
}

async fn write(chain: &Chain, seq: &mut u64, name: u8, numbers: &[u8]) {
    let pending = chain.submit(tx(CLERK, 0, *seq, PUT, &[&[name], numbers].concat())).unwrap();
    *seq += 1;
    tokio::time::timeout(SOON, pending.finalized()).await.unwrap().unwrap();
}

/// Writes until the chain's validators are so many others than before: a founder alone makes no block without a reason.
async fn until_handed_over(chain: &Chain, seq: &mut u64, from: [u8; 32], times: usize) -> Vec<Handover> {
    // Twice a term, since the change may have come with a term's last block.
    for _ in 0..2 * TERM_BLOCKS {
        match chain.handovers(from, 10).await {
            Ok(Some(found)) if found.len() >= times => return found,
            _ => write(chain, seq, NAME, b"more").await,
        }
    }
    panic!("{:?}", chain.status())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_engine_hands_over_is_followed_without_it() {
    let members = Members::founded_by(1, 3, TERM_BLOCKS);
    let root = tempfile::tempdir().unwrap();
    let start = |index: usize| {
        let options = members.options(index, &root.path().join(index.to_string()));
        Chain::start(options, Arc::new(Counter)).unwrap()
    };
    let chains = [start(0), start(1), start(2)];
    let genesis = members.options(0, root.path()).genesis;
    let begun = Checkpoint::genesis(set(genesis.zone, &genesis.validators), genesis.timestamp_ms, 0);
    let from = *begun.validators().hash();
    let mut seq = 0;
    write(&chains[0], &mut seq, NAME, b"x").await;
    let first = prove(&chains[0], NAME).await;
    assert!(begun.verify(&first).is_ok());

    // To all three, to two strangers of the first, and back to the first.
    write(&chains[0], &mut seq, CANDIDATES, &[1, 2, 3]).await;
    let mut seen = BTreeSet::from([from]);
    let mut now = begun.clone();
    for (times, seats) in [(1, &[1, 2, 3][..]), (2, &[2, 3]), (3, &[1, 3])] {
        write(&chains[0], &mut seq, SEATS, seats).await;
        let handovers = until_handed_over(&chains[0], &mut seq, from, times).await;
        assert_eq!(handovers.len(), times);
        let path: Vec<_> = handovers.iter().map(light).collect();
        // Of the founder alone, and of those before.
        let whole = path.iter().try_fold(begun.clone(), |at, handover| at.follow(handover)).unwrap();
        now = now.follow(path.last().unwrap()).unwrap();
        assert_eq!(whole, now);
        assert_eq!(now.validators().len(), seats.len());
        seen.insert(*now.validators().hash());

        write(&chains[0], &mut seq, NAME, seats).await;
        let proof = prove(&chains[0], NAME).await;
        let shown = now.verify(&proof).unwrap();
        assert_eq!(shown.value.as_deref(), Some(seats));
        assert!(shown.header.height > now.since());
        assert!(matches!(begun.verify(&proof), Err(LightError::OtherValidators { .. })));
        assert!(now.verify(&first).is_err());
        for gap in 0..path.len().saturating_sub(1) {
            let mut left = path.clone();
            left.remove(gap);
            let end = left.iter().try_fold(begun.clone(), |at, handover| at.follow(handover));
            assert!(matches!(end, Err(LightError::OtherValidators { .. })), "{end:?}");
        }
    }
    assert_eq!(seen.len(), 4);
    for chain in chains {
        chain.shutdown(SOON).await.unwrap();
    }
}
