//! The validator and gateway roles: a local zone's ledger, and the API over it.
//!
//! Guarantees: once [`Validator::start`] returns, clients can connect; [`Validator::stop`] ends the API first and the ledger
//! last, each with a deadline. It runs no workload.

use crate::accuse::Accuser;
use crate::backend::NodeBackend;
use crate::checkpoint::anchor_in;
use crate::machine;
use crate::public::{Public, PublicOptions};
use crate::witness::Witness;
use crate::zone::{LocalZone, VALIDATOR_KEY, trusted_by};
use crate::{Failpoint, NodeError};
use pasture_chain::{Chain, History, Join, Limits, OnJoin, Options};
use pasture_gateway::{Gateway, GatewayOptions, IngressOptions};
use pasture_light::ValidatorSet;
use pasture_net::Ticket;
use pasture_rt::{Clock, Shutdown, SystemClock};
use pasture_types::{NodeId, ZoneId};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long the ledger may take to stop.
const CHAIN_DEADLINE: Duration = Duration::from_secs(10);

/// How a validator is run.
pub struct ValidatorOptions {
    /// Where its API listens.
    pub listen: SocketAddr,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// How others reach it peer to peer, if they shall.
    pub public: Option<PublicOptions>,
    /// Where everybody is let in to what jobs publish.
    pub ingress: Option<IngressOptions>,
    /// For kill tests.
    pub failpoint: Option<Failpoint>,
    /// How it comes to today's state if it has no blocks. `None`: by state if the genesis does not name it, which then is no news to it, or
    /// if it was given a checkpoint; else by blocks, as it may be the first.
    pub join: Option<Join>,
    /// Hears how far it is while it joins by state.
    pub on_join: Option<OnJoin>,
    /// How many of the latest blocks stay on disk; all if none.
    pub keep_blocks: Option<u64>,
}

impl ValidatorOptions {
    /// On the system's clock, keeping all blocks.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            clock: Arc::new(SystemClock),
            public: None,
            ingress: None,
            failpoint: None,
            join: None,
            on_join: None,
            keep_blocks: None,
        }
    }
}

/// A running validator with its gateway.
pub struct Validator {
    chain: Chain,
    gateway: Gateway,
    public: Option<Public>,
    shutdown: Shutdown,
    trusted: ValidatorSet,
    key: NodeId,
}

impl Validator {
    /// Starts the zone of a data directory, making a development zone if there is none.
    ///
    /// # Errors
    /// A damaged directory, one that is in use, or a port that is taken.
    pub async fn start(dir: &Path, options: ValidatorOptions) -> Result<Self, NodeError> {
        let ValidatorOptions { listen, clock, public, ingress, failpoint, join, on_join, keep_blocks } = options;
        let zone = LocalZone::load_or_create(dir, clock.as_ref())?;
        let (trusted, key) = (trusted_by(&zone.genesis)?, NodeId(zone.identity.public_key()));
        let founder = zone.genesis.validators.iter().any(|v| v.key == key.0);
        let anchor = anchor_in(dir)?;
        let join = join.unwrap_or(if founder && anchor.is_none() { Join::Blocks } else { Join::State });
        if join == Join::Blocks && anchor.is_some() {
            return Err(NodeError::Options("a checkpoint is for who joins by state: run it with --join state".into()));
        }
        let options = Options {
            data_dir: dir.join("ledger"),
            genesis: zone.chain_genesis(),
            identity: zone.identity.clone(),
            network: zone.network.clone(),
            signs_from_ms: crate::backup::votes_after(dir)?.map_or(0, |time| time.0),
            history: History { join, anchor, on_join, keep_blocks },
            limits: Limits::default(),
            clock: Arc::clone(&clock),
            failpoint,
        };
        let machine = Arc::new(machine::of(&zone));
        // Opening the store reads all of the state: not on a thread that serves.
        let started = pasture_rt::spawn_blocking(pasture_rt::TaskKind::Server, move || Chain::start(options, machine)).join().await;
        let chain = started.ok_or_else(|| NodeError::Options("the ledger's start was interrupted".into()))??;
        if let Err(unknown) = pasture_ledger::supported(&chain.state()?) {
            chain.shutdown(CHAIN_DEADLINE).await?;
            return Err(unknown.into());
        }
        let shutdown = Shutdown::new();
        let accuser = Accuser::new(chain.clone(), &zone.genesis, zone.operator.clone(), key.0, Arc::clone(&clock));
        let (stop, accusing) = (shutdown.token(), accuser.run());
        pasture_rt::spawn(pasture_rt::TaskKind::Server, async move { stop.guard(accusing).await });
        let name = zone.genesis.name.clone();
        let (zone_id, operator) = (zone.genesis.zone(), zone.operator.clone());
        let backend = Arc::new(NodeBackend::new(chain.clone(), zone, Arc::clone(&clock)));
        backend.feed(shutdown.token());
        let serving = async {
            let tell_lan = public.as_ref().is_some_and(|public| public.tell_lan);
            let mut public = match public {
                Some(public) => Some(Public::open(dir, &public, zone_id).await?),
                None => None,
            };
            if let Some(public) = public.as_mut().filter(|_| tell_lan) {
                public.tell_lan(&name);
            }
            if let Some(public) = &public {
                public.share(chain.clone());
            }
            let peers = public.as_ref().map(Public::peers);
            let options = GatewayOptions { allow_remote_addresses: false, peers, ingress, ..GatewayOptions::new(listen) };
            let gateway = Gateway::start(options, backend, Arc::clone(&clock), shutdown.token()).await?;
            Ok::<_, NodeError>((gateway, public))
        };
        let (gateway, public) = match serving.await {
            Ok(serving) => serving,
            Err(error) => {
                chain.shutdown(CHAIN_DEADLINE).await?;
                return Err(error);
            }
        };
        let signs = pasture_store::keys::load_or_create(&dir.join(VALIDATOR_KEY))?;
        let witness = Witness::new(chain.clone(), gateway.addresses().clone(), (signs, operator), zone_id, clock);
        let (stop, watching) = (shutdown.token(), witness.run());
        pasture_rt::spawn(pasture_rt::TaskKind::Audit, async move { stop.guard(watching).await });
        Ok(Self { chain, gateway, public, shutdown, trusted, key })
    }

    /// Base URL of the API.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("http://{}", self.gateway.local_addr())
    }
    /// What a machine elsewhere needs to reach the network through this node; `None` if nobody is let in.
    #[must_use]
    pub fn ticket(&self) -> Option<Ticket> {
        self.public.as_ref().map(Public::ticket)
    }
    /// The zone's id.
    #[must_use]
    pub const fn zone(&self) -> ZoneId {
        ZoneId(*self.trusted.zone())
    }
    /// Its public key.
    #[must_use]
    pub const fn key(&self) -> NodeId {
        self.key
    }
    /// How many validators certify the next block.
    #[must_use]
    pub fn validators(&self) -> usize {
        self.chain.status().validators
    }
    /// How many of them make a block final.
    #[must_use]
    pub fn quorum(&self) -> usize {
        let all = self.validators();
        all - all.saturating_sub(1) / 3
    }
    /// Whether it certifies the next block.
    #[must_use]
    pub fn seated(&self) -> bool {
        self.chain.status().seated
    }
    /// Whom its clients may trust.
    #[must_use]
    pub const fn trusted(&self) -> &ValidatorSet {
        &self.trusted
    }
    /// Returns when the ledger cannot go on, with the reason.
    pub async fn failed(&self) -> NodeError {
        self.chain.failed().await.into()
    }
    /// Stops the API, then the ledger.
    ///
    /// # Errors
    /// If the ledger did not stop in time, or had failed before.
    pub async fn stop(self) -> Result<(), NodeError> {
        self.shutdown.trigger();
        self.gateway.ended().await;
        if let Some(public) = self.public {
            public.close().await;
        }
        self.chain.shutdown(CHAIN_DEADLINE).await.map_err(NodeError::from)
    }
}
