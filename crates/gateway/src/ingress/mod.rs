//! The public's door: ports of jobs that have no address of their own, by name. Spec: `docs/specs/ingress.md`.
//!
//! ```text
//!  GET / (Host: shop-<tag>.<domain>) ─► name ─► table ─► least busy replica ─► POST /leases/{id}/public/{port}, upgraded ─► HTTP/1.1 anew
//!  a connection to a port of its own ────────────┘                                                        └─► its bytes
//! ```
//! Guarantees: what a client sends is parsed and written anew, so that client, gateway and container cannot read two requests where there is one;
//! a request has exactly one host and one length, or is refused; a name leads where its owner's signature says and nowhere else; connections of
//! one range of addresses have a part of the places. A replica that cannot be reached is left alone for [`AVOIDED_FOR`]; another one is asked
//! only if nothing of the request was sent. It changes no body and remembers none.

mod acme;
mod authority;
mod body;
mod domains;
mod door;
mod kept;
mod request;
mod table;
mod tcp;
mod tls;
mod visitors;

use crate::backend::Backend;
use crate::book::AddressBook;
use crate::config::{GatewayOptions, IngressOptions, TlsOptions};
use crate::error::GatewayError;
use crate::listener::{BoundedListener, Slots};
use acme::{Acme, Challenges};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::{Response, StatusCode, header};
use pasture_api::publication::{ACCESS_HEADER, DomainView, IngressView, NameView, Protocol, STREAM_PROTOCOL};
use pasture_net::{Endpoint, Names};
use pasture_rt::{Clock, Shutdown, ShutdownToken, TaskKind};
use pasture_types::Timestamp;
use request::Refused;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
pub(crate) use table::Table;
use table::{Busy, Replica};
use tls::Certificates;
use tokio::net::TcpListener;
use visitors::{Visit, Visitors};

/// Within which a machine gives a stream to a port.
const STREAM_WITHIN: Duration = Duration::from_secs(15);
/// How long a replica is left alone that could not be reached.
const AVOIDED_FOR: Duration = Duration::from_secs(5);
/// Replicas that are tried for one request.
const TRIES: usize = 3;
/// Requests that one replica has at once, of this gateway: all that goes to a machine shares the streams of one connection.
const MAX_BUSY: usize = 100;
/// Of the places of all replicas of a name, for one range of addresses.
const OF_RANGE: usize = MAX_BUSY / 2;
/// How often kept connections are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(2);

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// What all connections of the door share.
pub(crate) struct Ingress {
    pub(crate) view: IngressView,
    backend: Arc<dyn Backend>,
    book: Arc<AddressBook>,
    table: Arc<Table>,
    nodes: reqwest::Client,
    endpoint: Option<Endpoint>,
    clock: Arc<dyn Clock>,
    ports: tcp::Ports,
    /// There where TLS is spoken.
    certificates: Option<Arc<Certificates>>,
    challenges: Challenges,
}

/// What the door is made of.
pub(crate) struct Parts {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) book: Arc<AddressBook>,
    pub(crate) table: Arc<Table>,
    pub(crate) nodes: reqwest::Client,
    pub(crate) clock: Arc<dyn Clock>,
}

async fn bind(listen: SocketAddr) -> Result<(TcpListener, u16), GatewayError> {
    let bound = TcpListener::bind(listen).await.and_then(|listener| Ok((listener.local_addr()?.port(), listener)));
    let (port, listener) = bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => GatewayError::PortTaken { listen },
        _ => GatewayError::Bind { listen, source },
    })?;
    Ok((listener, port))
}

/// Opens the door, if one is asked for; it closes a shutdown deadline after the token is triggered.
pub(crate) async fn open(options: &GatewayOptions, parts: Parts, stop: &ShutdownToken) -> Result<Option<Arc<Ingress>>, GatewayError> {
    let Some(asked) = &options.ingress else { return Ok(None) };
    let (plain, port) = bind(asked.listen).await?;
    let secure = match &asked.tls {
        Some(tls) => Some(bind(tls.listen).await?),
        None => None,
    };
    let (scheme, shown) = secure.as_ref().map_or(("http", port), |(_, port)| ("https", *port));
    let view = IngressView { domain: asked.domain.clone(), scheme: scheme.into(), port: shown, tcp: asked.tcp };
    let endpoint = options.peers.as_ref().map(|peers| peers.endpoint.clone());
    let Parts { backend, book, table, nodes, clock } = parts;
    let certificates = secure.as_ref().map(|_| Arc::<Certificates>::default());
    let (ports, challenges) = (tcp::Ports::default(), Challenges::default());
    let ingress = Arc::new(Ingress { view, backend, book, table, nodes, endpoint, clock, ports, certificates, challenges });
    let secure = match (secure, &asked.tls, &ingress.certificates) {
        (Some((listener, _)), Some(tls), Some(certificates)) => Some((listener, secured(&ingress, tls, certificates, stop).await?)),
        _ => None,
    };
    let cut = closing(stop, options.shutdown_deadline);
    let slots = Slots::new(options.max_connections, options.max_connections_of_range);
    let listen = |listener| BoundedListener::new(listener, slots.clone(), Arc::default(), cut.clone());
    pasture_rt::spawn(TaskKind::Server, door::plain(Arc::clone(&ingress), listen(plain), cut.clone()));
    if let Some((listener, config)) = secure {
        pasture_rt::spawn(TaskKind::Server, door::secure(Arc::clone(&ingress), listen(listener), config, cut.clone()));
    }
    attend(&ingress, asked, slots.clone(), &cut);
    tracing::info!(domain = ingress.view.domain, scheme, port = shown, "everybody is let in to what is published");
    Ok(Some(ingress))
}

/// How TLS is spoken, with what keeps its certificates up to date.
async fn secured(
    ingress: &Arc<Ingress>,
    tls: &TlsOptions,
    certificates: &Arc<Certificates>,
    stop: &ShutdownToken,
) -> Result<Arc<rustls::ServerConfig>, GatewayError> {
    if let Some(options) = &tls.certificate {
        tls::show(certificates, options, &ingress.view.domain)?;
        pasture_rt::spawn(TaskKind::Server, tls::follow(Arc::clone(certificates), options.clone(), stop.clone()));
    }
    if let Some(options) = &tls.acme {
        let acme = Acme::open(ingress, options.clone(), Arc::clone(certificates), tls.certificate.is_none()).await?;
        pasture_rt::spawn(TaskKind::Server, acme.run(stop.clone()));
    }
    certificates.config().map(Arc::new)
}

/// Begins what goes on beside the doors.
fn attend(ingress: &Arc<Ingress>, asked: &IngressOptions, slots: Slots, cut: &ShutdownToken) {
    if let Some(range) = asked.tcp {
        pasture_rt::spawn(TaskKind::Server, tcp::serve(Arc::clone(ingress), (asked.listen.ip(), range), slots, cut.clone()));
    }
    let names = Names::new(&asked.nameservers);
    let watch = domains::watch(Arc::clone(&ingress.table), names, ingress.view.domain.clone(), cut.clone());
    pasture_rt::spawn(TaskKind::Server, watch);
    let (table, cut) = (Arc::clone(&ingress.table), cut.clone());
    pasture_rt::spawn(TaskKind::Server, async move {
        while cut.guard(tokio::time::sleep(SWEEP_EVERY)).await.is_some() {
            table.sweep(Instant::now());
        }
    });
}

/// A token that ends the door with its gateway.
fn closing(stop: &ShutdownToken, deadline: Duration) -> ShutdownToken {
    let (cut, stop) = (Shutdown::new(), stop.clone());
    let token = cut.token();
    pasture_rt::spawn(TaskKind::Server, async move {
        stop.requested().await;
        tokio::time::sleep(deadline).await;
        cut.trigger();
    });
    token
}

impl Ingress {
    /// What this gateway knows of a name.
    pub(crate) fn name(&self, label: &str) -> Option<NameView> {
        let http = self.table.route(label, Protocol::Http);
        let tcp = self.table.route(label, Protocol::Tcp);
        let replicas = [&http, &tcp].iter().filter_map(|route| route.as_ref()).map(|route| route.replicas.len()).sum();
        let proven = self.table.proven();
        let is_proven = |domain: &String| proven.get(domain).is_some_and(|labels| labels.contains(label));
        let claims = self.table.claims().into_iter().filter(|(_, of)| of == label);
        let domains = claims.map(|(domain, _)| DomainView { leads: is_proven(&domain), secure: self.secures(&domain), domain }).collect();
        let url = http.is_some().then(|| self.view.url(label));
        let secure = self.secures(&format!("{label}.{}", self.view.domain));
        (replicas > 0).then(|| NameView { url, tcp: tcp.and_then(|_| self.ports.of(label)), replicas, secure, domains })
    }

    /// Whether a certificate of its own is there for a name.
    fn secures(&self, name: &str) -> bool {
        self.certificates.as_ref().is_some_and(|certificates| certificates.is_for(name, &self.view.domain))
    }

    /// Those that can be asked, the one with the least to do first; the nearer of two that have as much.
    fn ranked(&self, mut replicas: Vec<Replica>, now: Instant) -> Vec<Replica> {
        replicas.retain(|replica| {
            let lease = || self.backend.lease(replica.publication.lease).ok().flatten();
            let asked = || lease().is_some_and(|lease| table::serves(&lease, &replica.node));
            replica.load.open() < MAX_BUSY && replica.load.stands(now, asked)
        });
        let far = |replica: &Replica| self.endpoint.as_ref().and_then(|e| e.path(&replica.node)).map_or(Duration::ZERO, |path| path.rtt);
        replicas.sort_by_cached_key(|replica| (replica.load.is_avoided(now), replica.load.open(), far(replica)));
        replicas
    }

    /// Lets a visitor of these replicas in.
    fn visit(&self, visitors: &Arc<Visitors>, replicas: &[Replica], address: IpAddr) -> Result<Visit, Refused> {
        let per_second = replicas.first().and_then(|replica| replica.publication.rules.per_second);
        let most = OF_RANGE.saturating_mul(replicas.len().max(1));
        let too_many = Refused(StatusCode::TOO_MANY_REQUESTS, "too many requests from there; try again in a moment");
        visitors.enter(address, per_second, most, Instant::now()).ok_or(too_many)
    }

    /// A stream to the port of the first of these that gives one.
    async fn stream_to(&self, replicas: Vec<Replica>, key: Option<&[u8]>) -> Result<(reqwest::Upgraded, Replica, Busy), Refused> {
        for replica in replicas.into_iter().take(TRIES) {
            let busy = replica.load.enter();
            match tokio::time::timeout(STREAM_WITHIN, self.stream(&replica, key)).await {
                Ok(Some(stream)) => return Ok((stream, replica, busy)),
                Ok(None) | Err(_) => replica.load.avoid(Instant::now() + AVOIDED_FOR),
            }
        }
        Err(Refused(StatusCode::SERVICE_UNAVAILABLE, "the job cannot be reached now; try again in a moment"))
    }

    async fn stream(&self, replica: &Replica, key: Option<&[u8]>) -> Option<reqwest::Upgraded> {
        let mut url = self.book.get(&replica.node, Timestamp(self.clock.now_ms()))?;
        url.set_path(&format!("/leases/{}/public/{}", replica.publication.lease, replica.publication.port));
        let asked = self.nodes.post(url).header(header::CONNECTION, "upgrade").header(header::UPGRADE, STREAM_PROTOCOL);
        let asked = match key {
            Some(key) => asked.header(ACCESS_HEADER, key),
            None => asked,
        };
        let answer = asked.send().await.ok()?;
        if answer.status() != reqwest::StatusCode::SWITCHING_PROTOCOLS {
            let lease = replica.publication.lease.short();
            tracing::debug!(%lease, status = %answer.status(), "a machine gave no stream to a published port");
            return None;
        }
        answer.upgrade().await.ok()
    }
}
