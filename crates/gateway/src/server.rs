//! The gateway's life: bind, serve, stop.
//!
//! ```text
//!  start -> serving --stop requested--> event streams end, forwarded bodies break off, other requests go on
//!                                          |  all ended, or the deadline: connections are cut
//!                                          v
//!                                        ended
//! ```

use crate::backend::Backend;
use crate::book::{AddressBook, Reach};
use crate::config::GatewayOptions;
use crate::error::GatewayError;
use crate::forward;
use crate::holders::HolderIndex;
use crate::hosts;
use crate::ingress;
use crate::listener::{BoundedListener, Slots};
use crate::metrics::Metrics;
use crate::routes;
use crate::streams::StreamSlots;
use axum::Router;
use pasture_net::Service;
use pasture_rt::{Clock, Shutdown, ShutdownToken, TaskHandle, TaskKind};
use pasture_types::{NodeId, Timestamp};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// How long connections may take to notice that they were cut.
const CUT_DEADLINE: Duration = Duration::from_secs(1);
/// Invariant checks at once: each reads the whole ledger.
const CHECKS: usize = 1;
/// Exports at once: each sends the whole ledger.
const EXPORTS: usize = 1;

/// What all requests share.
pub(crate) struct App {
    pub(crate) options: GatewayOptions,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) book: Arc<AddressBook>,
    pub(crate) holders: HolderIndex,
    pub(crate) metrics: Metrics,
    pub(crate) streams: StreamSlots,
    pub(crate) checks: Semaphore,
    pub(crate) exports: Arc<Semaphore>,
    pub(crate) nodes: reqwest::Client,
    pub(crate) table: Arc<ingress::Table>,
    pub(crate) ingress: Option<Arc<ingress::Ingress>>,
    pub(crate) stop: ShutdownToken,
}

impl App {
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.clock.now_ms())
    }
}

/// A running gateway. Dropping it does not stop it: the token that it was started with does.
#[derive(Debug)]
pub struct Gateway {
    local_addr: SocketAddr,
    addresses: Addresses,
    server: TaskHandle,
}

/// Where the nodes listen that announced themselves to a gateway.
#[derive(Clone)]
pub struct Addresses {
    book: Arc<AddressBook>,
    door: Option<String>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Addresses").field("nodes", &self.book.len(Timestamp(self.clock.now_ms()))).finish()
    }
}

impl Addresses {
    /// The way to those of them that are called peer to peer.
    #[must_use]
    pub fn door(&self) -> Option<String> {
        self.door.clone()
    }
    /// The base URL of a node's data plane; `None` if it has not announced one of late.
    #[must_use]
    pub fn of(&self, node: &NodeId) -> Option<String> {
        self.book.get(node, Timestamp(self.clock.now_ms())).map(String::from)
    }
}

impl Gateway {
    /// Binds and begins to serve; once this returns, clients can connect.
    ///
    /// # Errors
    /// Settings that make no sense, or an address that cannot be listened on.
    pub async fn start(
        options: GatewayOptions,
        backend: Arc<dyn Backend>,
        clock: Arc<dyn Clock>,
        stop: ShutdownToken,
    ) -> Result<Self, GatewayError> {
        options.validate()?;
        let listen = options.listen;
        let bound = match TcpListener::bind(listen).await {
            Ok(listener) => listener.local_addr().map(|addr| (listener, addr)),
            Err(e) => Err(e),
        };
        let (listener, local_addr) = bound.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => GatewayError::PortTaken { listen },
            _ => GatewayError::Bind { listen, source },
        })?;
        let reach = if options.allow_remote_addresses { Reach::Anywhere } else { Reach::Loopback };
        let book = Arc::new(AddressBook::new(reach, options.peers.as_ref().map(|peers| peers.endpoint.clone())));
        let door = options.peers.as_ref().map(|peers| peers.door.url().to_owned());
        let addresses = Addresses { book: Arc::clone(&book), door, clock: Arc::clone(&clock) };
        let nodes = forward::client(options.peers.as_ref().map(|peers| peers.door.url())).map_err(GatewayError::Client)?;
        let table = Arc::<ingress::Table>::default();
        let parts = ingress::Parts {
            backend: Arc::clone(&backend),
            book: Arc::clone(&book),
            table: Arc::clone(&table),
            nodes: nodes.clone(),
            clock: Arc::clone(&clock),
        };
        let ingress = ingress::open(&options, parts, &stop).await?;
        let app = Arc::new(App {
            book: Arc::clone(&book),
            holders: HolderIndex::default(),
            metrics: Metrics::default(),
            streams: StreamSlots::new(options.max_streams),
            checks: Semaphore::new(CHECKS),
            exports: Arc::new(Semaphore::new(EXPORTS)),
            nodes,
            table,
            ingress,
            options,
            backend,
            clock,
            stop,
        });
        let cut = Shutdown::new();
        let connections = Arc::clone(&app.metrics.connections);
        let GatewayOptions { max_connections, max_connections_of_range, .. } = app.options;
        let slots = Slots::new(max_connections, max_connections_of_range);
        let listener = BoundedListener::new(listener, slots, connections, cut.token());
        tracing::info!(%local_addr, "the gateway listens");
        let server = pasture_rt::spawn(TaskKind::Server, serve(listener, app, cut));
        Ok(Self { local_addr, addresses, server })
    }

    /// Where the nodes that announced themselves here listen.
    #[must_use]
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Returns once it has stopped: at most the shutdown deadline (and a second) after its token asked it to.
    pub async fn ended(self) {
        let _ = self.server.join().await;
    }
}

async fn serve(listener: BoundedListener, app: Arc<App>, cut: Shutdown) {
    let (stop, deadline) = (app.stop.clone(), app.options.shutdown_deadline);
    let arrivals = app.options.peers.as_ref().map(|peers| peers.endpoint.arrivals(Service::Api));
    let is_local = app.options.listen.ip().is_loopback();
    let router: Router = routes::router(app);
    let by_address = if is_local { router.clone().layer(axum::middleware::from_fn(hosts::own)) } else { router.clone() };
    let (asked, asked_too) = (stop.clone(), stop.clone());
    let server = axum::serve(listener, by_address).with_graceful_shutdown(async move { asked.requested().await });
    // The endpoint has limits of its own, and whoever opened it closes it.
    let peers = async {
        if let Some(arrivals) = arrivals {
            let _ = axum::serve(arrivals, router).with_graceful_shutdown(async move { asked_too.requested().await }).await;
        }
    };
    let mut server = std::pin::pin!(async { tokio::join!(server.into_future(), peers) });
    let too_late = async {
        stop.requested().await;
        tokio::time::sleep(deadline).await;
    };
    tokio::select! {
        _ = &mut server => return,
        () = too_late => {}
    }
    tracing::warn!(?deadline, "requests were still open at the end of the shutdown deadline: their connections are cut");
    cut.trigger();
    if Shutdown::within(CUT_DEADLINE, server).await.is_none() {
        tracing::warn!("connections are still open after the cut");
    }
}
