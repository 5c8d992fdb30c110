//! One audit as its witness sees it: the way to the node is measured, the nonce is sent, the answer is timed and checked.
//!
//! Guarantees: ends by itself, at the latest when an answer would be too late; what it calls an answer was signed by the node, for a
//! set that holds no nonce which its witness did not sign, and for this witness's own nonce if that is in it. Whether the work
//! is enough is the ledger's to say.

use super::products::{self, Opened};
use futures::StreamExt as _;
use pasture_api::{ApiClient, ApiError, BurstWord, NonceOffer, SignedSet, SignedShares};
use pasture_ledger::AuditRecord;
use pasture_types::audit::{Answer, NonceSet, Statement, audit_seed, largest_share, nonce_digest};
use pasture_types::event::Hash32;
use pasture_types::ids::derive;
use pasture_types::proof::ResourceClass;
use pasture_types::{Millis, NodeId, PublicKey, SigningKey, ZoneId};
use std::time::{Duration, Instant};

const NONCE_DOMAIN: &str = "pasture 2026-11 witness nonce v1";
/// Calls that measure the way before the nonce is sent.
const PINGS: usize = 3;
/// How often the nonce is sent again to a node that has not heard of its audit yet, and the pause between.
const TRIES: u32 = 5;
const TRY_PAUSE: Duration = Duration::from_millis(100);

/// An audit to be watched.
pub(super) struct Visit {
    pub(super) zone: ZoneId,
    pub(super) key: SigningKey,
    pub(super) audit: AuditRecord,
    /// Where the node's door is.
    pub(super) url: String,
    /// The way to nodes that are called peer to peer.
    pub(super) door: Option<String>,
    /// The lowest round trip that is known of the node.
    pub(super) round_trip: Option<Millis>,
    /// How long the opening of its GPUs' products may take.
    pub(super) open_within: Duration,
}

/// What a witness saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub(super) answer: Answer,
    pub(super) elapsed: Millis,
    /// The root of the walk that it asked for came in its own time, and is in the answer.
    pub(super) walked: bool,
    pub(super) opened: Opened,
}

/// Why nothing that counts was seen.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unseen {
    #[error("the node cannot be asked: {0}")]
    Api(#[from] ApiError),
    #[error("no answer came within {} ms", .0.0)]
    Late(Millis),
    #[error("the answer broke off")]
    BrokeOff,
    #[error("{0}")]
    Wrong(&'static str),
}

fn millis(time: Duration) -> Millis {
    Millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl Visit {
    /// Visits the node: the lowest round trip that is known now, and what was seen.
    pub(super) async fn make(&self) -> (Option<Millis>, Result<Seen, Unseen>) {
        let mut round_trip = self.round_trip;
        let outcome = async {
            let node = ApiClient::by(&self.url, self.door.as_deref())?;
            for _ in 0..PINGS {
                let took = millis(node.round_trip().await?);
                round_trip = Some(round_trip.map_or(took, |known| known.min(took)));
            }
            let on_the_way = round_trip.unwrap_or_default().min(self.audit.terms.rtt_cap);
            let most = Millis(self.audit.longest().0.saturating_add(on_the_way.0));
            let watched = tokio::time::timeout(Duration::from_millis(most.0), self.watch(&node, on_the_way)).await;
            let mut seen = watched.unwrap_or(Err(Unseen::Late(most)))?;
            seen.opened = products::open(self, &node, &seen.answer, seen.walked).await;
            Ok(seen)
        }
        .await;
        (round_trip, outcome)
    }

    /// The nonce is a secret that this witness alone can make, the same after a restart.
    fn nonce(&self) -> u64 {
        let secret = self.key.derive_secret(NONCE_DOMAIN);
        let [a, b, c, d, e, f, g, h, ..] = derive(NONCE_DOMAIN, &[&secret, &self.audit.number.to_le_bytes(), &self.audit.node.0]);
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    async fn watch(&self, node: &ApiClient, on_the_way: Millis) -> Result<Seen, Unseen> {
        let (number, nonce) = (self.audit.number, self.nonce());
        let signature = self.key.sign(&nonce_digest(&self.zone, number, &self.audit.node, nonce));
        let offer = NonceOffer { witness: self.key.node_id(), nonce, signature: (&signature).into() };
        let begun = Instant::now();
        let mut tries = 0;
        let mut words = loop {
            match node.offer_nonce(number, &offer).await {
                // Its gateway may be a block behind this validator.
                Err(error) if tries < TRIES && error.problem().is_some_and(|p| matches!(p.status, 404 | 503)) => tries += 1,
                other => break other?,
            }
            tokio::time::sleep(TRY_PAUSE).await;
        };
        let (mut set, mut walked) = (None, None);
        while let Some(word) = words.next().await {
            match (word?, set.take()) {
                (BurstWord::Set(signed), _) => set = Some(self.read_set(&signed, nonce)?),
                // The first one counts: it was sent before any other could be computed in time.
                (BurstWord::Walk(walk), Some(known)) => {
                    walked.get_or_insert((walk.root, millis(begun.elapsed())));
                    set = Some(known);
                }
                (BurstWord::Shares(shares), Some(set)) => {
                    let elapsed = millis(begun.elapsed());
                    let answer = self.read_shares(&shares, set)?;
                    let walked = self.walked_in_time(&answer, walked, on_the_way);
                    return Ok(Seen { answer, elapsed, walked, opened: Opened::default() });
                }
                (BurstWord::Walk(_) | BurstWord::Shares(_), None) => return Err(Unseen::Wrong("the node sent what it found of no set")),
            }
        }
        Err(Unseen::BrokeOff)
    }

    /// Whether the root that an answer signs is the one that came, in the time of the walk.
    fn walked_in_time(&self, answer: &Answer, walked: Option<(Hash32, Millis)>, on_the_way: Millis) -> bool {
        let Some((claim, (root, took))) = self.audit.memory.zip(walked) else { return false };
        answer.walk == Some(root) && took.0 <= claim.limit.0.saturating_add(on_the_way.0)
    }

    /// Checks a set: each nonce was signed by its witness, our own is the one that we sent, and the node stands by it.
    fn read_set(&self, signed: &SignedSet, nonce: u64) -> Result<NonceSet, Unseen> {
        let wrong = Unseen::Wrong;
        let read = signed.read().ok_or(wrong("the node's set is not well formed"))?;
        if !read.set.is_sound(self.audit.witnesses.len()) {
            return Err(wrong("the node's set does not hold one nonce each of more than two thirds of the witnesses"));
        }
        let mut nonces = read.set.nonces.iter().zip(&read.witnesses);
        for (at, witness) in self.audit.witnesses.iter().enumerate().filter(|(at, _)| read.set.mask >> at & 1 == 1) {
            let (of, signature) = nonces.next().ok_or(wrong("the node's set is not well formed"))?;
            let digest = nonce_digest(&self.zone, self.audit.number, &self.audit.node, *of);
            PublicKey::from(*witness).verify(&digest, signature).map_err(|_| wrong("a nonce of the set was not signed by its witness"))?;
            if *witness == self.key.node_id() && *of != nonce {
                tracing::error!(at, "another nonce of this validator is in a node's set");
                return Err(wrong("the nonce in the set is not the one that this witness sent"));
            }
        }
        self.signed(&Statement { set: read.set.digest(), shares: None }, &read.signature)?;
        Ok(read.set)
    }

    fn read_shares(&self, shares: &SignedShares, set: NonceSet) -> Result<Answer, Unseen> {
        let wrong = Unseen::Wrong;
        let a = &self.audit;
        let seed = audit_seed(&a.randomness.0, a.number, &a.node, a.epoch, ResourceClass::Cpu, 0, &set);
        let answer = shares.read(a.number, set).ok_or(wrong("the node's shares are not well formed"))?;
        self.signed(&answer.statement(), &answer.signature)?;
        let largest = answer.shares.unpack().and_then(|nonces| largest_share(&seed, &nonces));
        largest.map(|_| answer).ok_or(wrong("the shares are not the packed nonces of 32 different hashes"))
    }

    fn signed(&self, statement: &Statement, signature: &pasture_types::keys::Signature) -> Result<(), Unseen> {
        let node: NodeId = self.audit.node;
        let digest = statement.digest(&self.zone, self.audit.number, &node);
        PublicKey::from(node).verify(&digest, signature).map_err(|_| Unseen::Wrong("the node did not sign what it sent"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::audit::{AUDIT_SHARES, PackedShares};
    use pasture_types::proof::share_hash;

    const ZONE: ZoneId = ZoneId([5; 32]);

    fn key(n: u8) -> SigningKey {
        SigningKey::from_seed([n; 32])
    }

    /// Witness 1's visit to node 9; witnesses are 1 to 4.
    fn visit() -> Visit {
        let witnesses: Vec<NodeId> = (1..=4).map(|n| key(n).node_id()).collect();
        let audit = super::super::unspoken(7, key(9).node_id(), witnesses);
        Visit { zone: ZONE, key: key(1), audit, url: String::new(), door: None, round_trip: None, open_within: Duration::ZERO }
    }

    fn signed_nonce(v: &Visit, witness: u8, nonce: u64) -> pasture_types::keys::Signature {
        key(witness).sign(&nonce_digest(&ZONE, v.audit.number, &v.audit.node, nonce))
    }

    /// What node 9 says of a set.
    fn set(v: &Visit, set: &NonceSet, signer: u8, witnesses: &[pasture_types::keys::Signature]) -> SignedSet {
        let digest = Statement { set: set.digest(), shares: None }.digest(&ZONE, v.audit.number, &v.audit.node);
        SignedSet::new(set, &key(signer).sign(&digest), witnesses)
    }

    #[test]
    fn a_set_is_taken_only_with_what_its_witnesses_signed() {
        let v = visit();
        let own = v.nonce();
        let good = NonceSet { mask: 0b111, nonces: vec![own, 20, 30] };
        let signatures = vec![signed_nonce(&v, 1, own), signed_nonce(&v, 2, 20), signed_nonce(&v, 3, 30)];
        assert_eq!(v.read_set(&set(&v, &good, 9, &signatures), own).unwrap(), good);
        let why = |said: &SignedSet| v.read_set(said, own).unwrap_err().to_string();
        // The node made a nonce up, or sends another one of ours.
        let mut forged = signatures.clone();
        forged[2] = signed_nonce(&v, 4, 30);
        assert!(why(&set(&v, &good, 9, &forged)).contains("not signed by its witness"));
        let other = NonceSet { mask: 0b111, nonces: vec![own ^ 1, 20, 30] };
        let resigned = vec![signed_nonce(&v, 1, own ^ 1), signatures[1], signatures[2]];
        assert!(why(&set(&v, &other, 9, &resigned)).contains("not the one that this witness sent"));
        // Too few, and another node's word.
        let few = NonceSet { mask: 0b11, nonces: vec![own, 20] };
        assert!(why(&set(&v, &few, 9, &signatures[..2])).contains("two thirds"));
        assert!(why(&set(&v, &good, 8, &signatures)).contains("did not sign"));
        assert_ne!(own, Visit { key: key(2), ..visit() }.nonce(), "each witness has its own");
    }

    #[test]
    fn a_walk_counts_in_its_own_time_and_only_if_the_answer_signs_it() {
        let mut v = visit();
        let claim = pasture_types::audit::MemoryAsk::production().claim(1 << 30, 1_000, Millis(20_000)).unwrap();
        let (root, limit) = (Hash32([1; 32]), claim.limit);
        let set = NonceSet { mask: 0b111, nonces: vec![1, 2, 3] };
        let answer = |walk| Answer::with_found(&ZONE, 7, set.clone(), PackedShares(vec![]), (vec![], walk), &key(9));
        let rtt = Millis(20);
        let at = |ms: u64| Some((root, Millis(limit.0 + ms)));
        assert!(!v.walked_in_time(&answer(Some(root)), at(0), rtt), "nobody asked");
        v.audit.memory = Some(claim);
        assert!(v.walked_in_time(&answer(Some(root)), at(20), rtt));
        assert!(!v.walked_in_time(&answer(Some(root)), at(21), rtt), "late");
        assert!(!v.walked_in_time(&answer(Some(Hash32([2; 32]))), at(0), rtt) && !v.walked_in_time(&answer(None), at(0), rtt));
        assert!(!v.walked_in_time(&answer(Some(root)), None, rtt), "it came with the shares alone");
        assert_eq!(v.audit.longest(), Millis(v.audit.terms.longest().0 + limit.0));
    }

    #[test]
    fn shares_are_taken_only_if_they_are_the_nodes_and_32() {
        let v = visit();
        let own = NonceSet { mask: 0b111, nonces: vec![1, 2, 3] };
        let a = &v.audit;
        let seed = audit_seed(&a.randomness.0, a.number, &a.node, a.epoch, ResourceClass::Cpu, 0, &own);
        let mut all: Vec<(u64, u64)> = (0..1_000).map(|n| (share_hash(&seed, n), n)).collect();
        all.sort_unstable();
        let nonces: Vec<u64> = all.iter().take(AUDIT_SHARES).map(|(_, n)| *n).collect();
        let answer = |nonces: &[u64], signer: u8| {
            let shares = PackedShares::pack(nonces).unwrap();
            let good = Answer::signed(&ZONE, a.number, own.clone(), shares, &key(9));
            let signature = key(signer).sign(&good.statement().digest(&ZONE, a.number, &a.node));
            Answer { signature, ..good }
        };
        let good = answer(&nonces, 9);
        assert_eq!(v.read_shares(&SignedShares::new(&good), own.clone()).unwrap(), good);
        assert!(v.read_shares(&SignedShares::new(&answer(&nonces, 8)), own.clone()).is_err(), "somebody else's");
        assert!(v.read_shares(&SignedShares::new(&answer(&nonces[1..], 9)), own).is_err(), "31");
    }
}
