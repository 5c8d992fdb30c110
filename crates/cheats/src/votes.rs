//! `farm-cheat-votes`: a validator that signs both sides of every question.
//!
//! ```text
//!  another validator's vote ─► the same vote ┐
//!                           └► the opposite  ┴─► signed with the key of a real folder, to everybody
//! ```
//! It is no validator: it follows no chain, proposes nothing and answers nothing. It is a member of the validators' network, apart from the
//! one that the product has, and knows of it what is written to the wire. For tests; never shipped.

use anyhow::Context as _;
use bytes::Bytes;
use clap::Parser;
use commonware_codec::{DecodeExt as _, Encode as _, ReadExt as _};
use commonware_consensus::{
    simplex::{
        scheme::ed25519::Scheme,
        types::{Finalize, Notarize, Nullify, Proposal, Vote},
    },
    types::Round,
};
use commonware_cryptography::{
    ChaCha20Poly1305, Hasher as _, Sha256, Signer as _,
    ed25519::{PrivateKey, PublicKey},
    sha256::Digest,
};
use commonware_p2p::{
    Ingress, Manager as _, Receiver as _, Recipients, Sender as _, TrackedPeers,
    authenticated::discovery::{self, Config, Network},
};
use commonware_runtime::{IoBuf, Quota, Runner as _, Spawner as _, Supervisor as _, tokio as engine_runtime};
use commonware_stream::{
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::{NZU32, NZUsize, ordered::Set};
use pasture_node::{LocalZone, NetworkFile};
use pasture_types::votes::vote_namespace;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What the validators' handshake signs, followed by the zone's id.
const NAMESPACE: &[u8] = b"pasture 2026-11 validators network v1";
/// The channels: votes first, then certificates, requests for them, blocks asked for, blocks, where to begin, operations, transactions.
const CHANNELS: u64 = 8;
const DRIFT: Duration = Duration::from_secs(30);
/// As many as the others may know of.
const MOST_PEERS: usize = 161;
/// Larger than anything that the others send.
const LARGEST: u32 = 16 << 20;

/// A dishonest validator, for tests: it signs both sides of every question.
#[derive(Parser)]
struct Args {
    /// Folder of the validator whose key it signs with; `farm validator run` must not run there.
    #[arg(long)]
    data: PathBuf,
}

type Ballot = Vote<Scheme, Digest>;

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let args = Args::parse();
    let zone = LocalZone::load(&args.data)?.context("this folder belongs to no network")?;
    let book = NetworkFile::load(&args.data)?.context("nothing says where the others are")?;
    let seed = pasture_store::keys::load_seed(&args.data.join("zone/validator.key"))?.context("there is no key")?;
    let signer = PrivateKey::read(&mut Bytes::copy_from_slice(&seed))?;
    let keys = zone.genesis.validators.iter().map(|v| PublicKey::read(&mut Bytes::copy_from_slice(&v.key)));
    let seats = Set::from_iter_dedup(keys.collect::<Result<Vec<_>, _>>()?);
    let id = zone.genesis.zone();
    let scheme = Scheme::signer(&vote_namespace(&id), seats.clone(), signer.clone()).context("the genesis gives it no seat")?;
    let namespace = [NAMESPACE, &id.0].concat();
    engine_runtime::Runner::new(engine_runtime::Config::new().with_worker_threads(2)).start(|context| async move {
        let config = config(&book, signer, &namespace)?;
        let (mut net, oracle) = Network::new(context.child("network"), config);
        let channels: Vec<_> = (0..CHANNELS).map(|n| net.register(n, Quota::per_second(NZU32!(512)))).collect();
        // The set is the one that the genesis seats, whatever is elected since: those who sit let the others in.
        let _ = oracle.clone().track(0, TrackedPeers::from(seats));
        let _running = net.start();
        let mut lying = None;
        for (sender, mut receiver) in channels {
            if lying.is_none() {
                let scheme = scheme.clone();
                lying = Some(context.child("lies").spawn(move |_| lie(scheme, sender, receiver)));
            } else {
                context.child("silence").spawn(move |_| async move { while receiver.recv().await.is_ok() {} });
            }
        }
        eprintln!("contradicting validator is up");
        match lying {
            Some(lying) => lying.await.context("the network is gone"),
            None => Ok(()),
        }
    })
}

type Upgrade = cups::Cups<Sake<PrivateKey>, ChaCha20Poly1305>;

fn config(book: &NetworkFile, signer: PrivateKey, namespace: &[u8]) -> anyhow::Result<Config<Upgrade>> {
    let me = signer.public_key();
    let mut own: Option<SocketAddr> = None;
    let mut named = Vec::new();
    for peer in &book.validators {
        let key = PublicKey::read(&mut Bytes::copy_from_slice(&peer.key.0))?;
        if key == me {
            own = Some(peer.address);
        } else {
            named.push((key, Ingress::from(peer.address)));
        }
    }
    let own = own.context("the file of addresses does not name this validator")?;
    let handshake = Cups::<_, ChaCha20Poly1305>::new(
        Sake { signer, synchrony_bound: DRIFT, max_handshake_age: DRIFT, version: sake::Version::V1 },
        cups::Version::V1,
    );
    let recommended =
        Config::recommended(handshake, namespace, book.listen.unwrap_or(own), own, named, NZUsize!(MOST_PEERS), LARGEST, NZUsize!(256));
    Ok(Config {
        allow_private_ips: true,
        allow_dns: false,
        synchrony_bound: DRIFT,
        allowed_handshake_rate_per_ip: Quota::per_second(NZU32!(16)),
        peer_connection_cooldown: Duration::from_millis(500),
        dial_frequency: Duration::from_millis(250),
        ..recommended
    })
}

/// Answers every vote with both sides of its question.
async fn lie(
    scheme: Scheme,
    mut sender: discovery::Sender<PublicKey, engine_runtime::Context>,
    mut receiver: discovery::Receiver<PublicKey>,
) {
    while let Ok((_, message)) = receiver.recv().await {
        let message = message.as_ref();
        // The number of the term's channel precedes a vote: a varint, whose bytes but the last have the high bit.
        let length = 1 + message.iter().take_while(|byte| **byte & 0x80 != 0).count();
        let Some((prefix, vote)) = message.split_at_checked(length) else { continue };
        let Ok(heard) = Ballot::decode(Bytes::copy_from_slice(vote)) else { continue };
        for vote in opposites(&scheme, &heard) {
            sender.send(Recipients::All, IoBuf::from(Bytes::from([prefix, &vote.encode()[..]].concat())), true);
        }
    }
}

/// What was voted for, and something else; and both sides of the next view's question as well, before a quorum of the others ends it and
/// what is late is not looked at.
fn opposites(scheme: &Scheme, heard: &Ballot) -> Vec<Ballot> {
    let other = |proposal: &Proposal<Digest>| Proposal::new(proposal.round, proposal.parent, Sha256::hash(&[proposal.payload.as_ref()]));
    let next = |proposal: &Proposal<Digest>| {
        let (term, view) = (proposal.round.epoch(), proposal.round.view());
        Proposal::new(Round::new(term, view.next()), view, Sha256::hash(&[b"next", proposal.payload.as_ref()]))
    };
    let notarize = |proposal| Notarize::sign(scheme, proposal).map(Vote::Notarize);
    let finalize = |proposal| Finalize::sign(scheme, proposal).map(Vote::Finalize);
    let nullify = |round| Nullify::sign::<Digest>(scheme, round).map(Vote::Nullify);
    let votes = match heard {
        Vote::Notarize(vote) => {
            let ahead = next(&vote.proposal);
            vec![notarize(vote.proposal.clone()), notarize(other(&vote.proposal)), notarize(other(&ahead)), notarize(ahead)]
        }
        Vote::Finalize(vote) => vec![finalize(vote.proposal.clone()), finalize(other(&vote.proposal))],
        Vote::Nullify(vote) => vec![nullify(vote.round)],
    };
    votes.into_iter().flatten().collect()
}
