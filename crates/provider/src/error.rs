//! What can go wrong with a provider, and what to do about it.

use crate::network::NetworkError;
use pasture_types::{AccountId, Amount, Resources, ZoneId};
use std::net::SocketAddr;
use std::path::PathBuf;

/// A provider cannot start or leave.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// An option makes no sense.
    #[error("{field}: {problem}")]
    Options {
        /// Which field of [`crate::Options`].
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A file could not be read or written.
    #[error("the provider's records cannot be used")]
    Store(#[from] pasture_store::StoreError),
    /// The volumes on this machine are not as recorded.
    #[error("the volumes kept here cannot be used")]
    Volumes(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The cache of images cannot be opened.
    #[error("the cache of images at {} cannot be used", path.display())]
    Blobs {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The container engine does not do what is needed.
    #[error("the container engine cannot be used")]
    Runtime(#[from] pasture_runtime::RuntimeError),
    /// The network does not answer, or refused.
    #[error("the network cannot be used")]
    Network(#[from] NetworkError),
    /// Its GPUs cannot be offered on this network.
    #[error("{0}")]
    Gpus(&'static str),
    /// The data plane's address is taken.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The records are of another network.
    #[error(
        "{} holds the records of network {}, but this is {}. Give this provider its own directory with --data",
        path.display(), known.short(), found.short()
    )]
    OtherZone {
        /// The data directory.
        path: PathBuf,
        /// The network it belongs to.
        known: ZoneId,
        /// The network that was found.
        found: ZoneId,
    },
    /// Not enough money for the deposit.
    #[error(
        "the deposit needs {needs} credits more, the account has {has}. Add credits to account {account}, or let somebody post its deposit"
    )]
    Deposit {
        /// Whose.
        account: AccountId,
        /// How much is missing.
        needs: Amount,
        /// The free balance.
        has: Amount,
    },
    /// The network did not take it as a newcomer.
    #[error("this machine could not begin without a deposit: {why}. Add credits to account {account}, or let somebody post its deposit")]
    Newcomer {
        /// Whose.
        account: AccountId,
        /// What the network said.
        why: String,
    },
    /// The node belongs to another account.
    #[error("this node is registered under account {}. Use that account's key, or a fresh node key", .0.short())]
    OtherProvider(AccountId),
    /// Nobody added this machine to its account's provider.
    #[error("this machine is not part of account {}'s fleet yet: {why}. Ask for a new code (farm provider enroll), and start it with that", .account.short())]
    NotEnrolled {
        /// Whose fleet.
        account: AccountId,
        /// Why.
        why: String,
    },
    /// The machine does not have what is to be offered.
    #[error("{offered} are to be offered, but this machine has {has}. Offer less")]
    OfferTooLarge {
        /// What is to be offered.
        offered: Box<Resources>,
        /// What there is, or what was declared when the node was registered.
        has: Box<Resources>,
    },
    /// The ledger refused to register the node or its offer.
    #[error("the network refused to register this node: {0}")]
    Refused(String),
}
