//! The public's door: HTTP by name to ports of jobs that have no address of their own. Spec: `docs/specs/ingress.md`.
//!
//! ```text
//!  GET / (Host: shop-<tag>.<domain>) ─► label ─► table ─► least busy replica ─► POST /leases/{id}/public/{port}, upgraded ─► HTTP/1.1 anew
//! ```
//! Guarantees: what a client sends is parsed and written anew, so that client, gateway and container cannot read two requests where there is one;
//! a request has exactly one host and one length, or is refused; a name leads where its owner's signature says and nowhere else; heads are read
//! within [`HEAD_WITHIN`], connections of one range of addresses have a part of the places. A replica that cannot be reached is left alone for
//! [`AVOIDED_FOR`]; another one is asked only if nothing of the request was sent. It changes no body and remembers none.

mod request;
mod table;

use crate::backend::Backend;
use crate::book::AddressBook;
use crate::config::GatewayOptions;
use crate::error::GatewayError;
use crate::listener::BoundedListener;
use crate::metrics::Gauge;
use axum::serve::Listener as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::SendRequest;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use pasture_api::publication::{IngressView, STREAM_PROTOCOL};
use pasture_net::Endpoint;
use pasture_rt::{Clock, Shutdown, ShutdownToken, TaskKind};
use pasture_types::Timestamp;
use request::Refused;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
pub(crate) use table::Table;
use table::{Busy, Replica};
use tokio::net::TcpListener;

/// Within which a request's head is there.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Largest head.
const MAX_HEAD: usize = 32 << 10;
/// Most lines of one.
const MAX_LINES: usize = 100;
/// Within which a machine gives a stream to a port, and the container takes a request.
const STREAM_WITHIN: Duration = Duration::from_secs(15);
/// How long a replica is left alone that could not be reached.
const AVOIDED_FOR: Duration = Duration::from_secs(5);
/// Replicas that are tried for one request.
const TRIES: usize = 3;
/// Requests that one replica has at once, of this gateway: all that goes to a machine shares the streams of one connection.
const MAX_BUSY: usize = 100;

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
}

/// What the door is made of.
pub(crate) struct Parts {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) book: Arc<AddressBook>,
    pub(crate) table: Arc<Table>,
    pub(crate) nodes: reqwest::Client,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Opens the door, if one is asked for; it is closed with the token.
pub(crate) async fn open(options: &GatewayOptions, parts: Parts, cut: ShutdownToken) -> Result<Option<Arc<Ingress>>, GatewayError> {
    let Some(asked) = &options.ingress else { return Ok(None) };
    let listen = asked.listen;
    let bound = TcpListener::bind(listen).await.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (local, listener) = bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => GatewayError::PortTaken { listen },
        _ => GatewayError::Bind { listen, source },
    })?;
    let view = IngressView { domain: asked.domain.clone(), scheme: "http".into(), port: local.port() };
    let endpoint = options.peers.as_ref().map(|peers| peers.endpoint.clone());
    let Parts { backend, book, table, nodes, clock } = parts;
    let ingress = Arc::new(Ingress { view, backend, book, table, nodes, endpoint, clock });
    let GatewayOptions { max_connections, max_connections_of_range, .. } = *options;
    let mut listener = BoundedListener::new(listener, max_connections, max_connections_of_range, Arc::<Gauge>::default(), cut.clone());
    tracing::info!(%local, domain = ingress.view.domain, "everybody is let in to what is published");
    let shared = Arc::clone(&ingress);
    pasture_rt::spawn(TaskKind::Server, async move {
        while let Some((connection, peer)) = cut.guard(listener.accept()).await {
            let (ingress, cut) = (Arc::clone(&shared), cut.clone());
            pasture_rt::spawn(TaskKind::Connection, async move {
                let service = service_fn(|request| {
                    let ingress = Arc::clone(&ingress);
                    async move { Ok::<_, Infallible>(ingress.answer(peer, request).await) }
                });
                let mut server = hyper::server::conn::http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(MAX_HEAD).max_headers(MAX_LINES);
                // A client that goes away, or talks nonsense, is no news.
                let _ = cut.guard(server.serve_connection(TokioIo::new(connection), service).with_upgrades()).await;
            });
        }
    });
    Ok(Some(ingress))
}

/// A page that says why there is nothing else.
fn page(status: StatusCode, why: &str) -> Answer {
    let body = Full::new(Bytes::from(format!("{why}\n"))).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

impl Ingress {
    async fn answer(&self, peer: SocketAddr, request: Request<Incoming>) -> Answer {
        match self.pass(peer, request).await {
            Ok(answer) => answer,
            Err(Refused(status, why)) => page(status, why),
        }
    }

    async fn pass(&self, peer: SocketAddr, mut request: Request<Incoming>) -> Result<Answer, Refused> {
        let label = request::label(&request, &self.view.domain)?;
        let upgrade = request::wants_upgrade(&request).then(|| hyper::upgrade::on(&mut request));
        let (replica, mut sender, busy) = self.reach(&label).await?;
        let outgoing = request::outgoing(request, peer.ip(), &self.view.scheme)?;
        let broken = |_| Refused(StatusCode::BAD_GATEWAY, "the job broke the connection off");
        let mut response = sender.send_request(outgoing).await.map_err(broken)?;
        replica.load.is_well();
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(client) = upgrade else { return Err(Refused(StatusCode::BAD_GATEWAY, "the job changed the protocol unasked")) };
            let there = hyper::upgrade::on(&mut response);
            pasture_rt::spawn(TaskKind::Connection, async move {
                if let (Ok(client), Ok(there)) = tokio::join!(client, there) {
                    let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(there)).await;
                }
                drop(busy);
            });
            return Ok(response.map(|body| body.boxed()));
        }
        request::strip(response.headers_mut());
        Ok(response.map(|body| Held { body, _busy: busy, _sender: sender }.boxed()))
    }

    /// A connection to the port of the replica that has least to do; the nearer of two that have as much.
    async fn reach(&self, label: &str) -> Result<(Replica, SendRequest<Incoming>, Busy), Refused> {
        let now = Instant::now();
        let mut replicas = self.table.replicas(label);
        if replicas.is_empty() {
            return Err(Refused(StatusCode::NOT_FOUND, "nothing is published here"));
        }
        replicas.retain(|replica| {
            let lease = self.backend.lease(replica.lease).ok().flatten();
            replica.load.open() < MAX_BUSY && lease.is_some_and(|lease| table::serves(&lease, &replica.node))
        });
        let far = |replica: &Replica| self.endpoint.as_ref().and_then(|e| e.path(&replica.node)).map_or(Duration::ZERO, |path| path.rtt);
        replicas.sort_by_cached_key(|replica| (replica.load.is_avoided(now), replica.load.open(), far(replica)));
        for replica in replicas.into_iter().take(TRIES) {
            let busy = replica.load.enter();
            match tokio::time::timeout(STREAM_WITHIN, self.stream(&replica)).await {
                Ok(Some(sender)) => return Ok((replica, sender, busy)),
                Ok(None) | Err(_) => replica.load.avoid(Instant::now() + AVOIDED_FOR),
            }
        }
        Err(Refused(StatusCode::SERVICE_UNAVAILABLE, "the job cannot be reached now; try again in a moment"))
    }

    async fn stream(&self, replica: &Replica) -> Option<SendRequest<Incoming>> {
        let mut url = self.book.get(&replica.node, Timestamp(self.clock.now_ms()))?;
        url.set_path(&format!("/leases/{}/public/{}", replica.lease, replica.port));
        let asked = self.nodes.post(url).header(header::CONNECTION, "upgrade").header(header::UPGRADE, STREAM_PROTOCOL);
        let answer = asked.send().await.ok()?;
        if answer.status() != reqwest::StatusCode::SWITCHING_PROTOCOLS {
            tracing::debug!(lease = %replica.lease.short(), status = %answer.status(), "a machine gave no stream to a published port");
            return None;
        }
        let stream = answer.upgrade().await.ok()?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        pasture_rt::spawn(TaskKind::Connection, async move {
            let _ = connection.with_upgrades().await;
        });
        Some(sender)
    }
}

/// A body that counts as a request of its replica until it has ended.
struct Held {
    body: Incoming,
    _busy: Busy,
    /// The connection lasts as long.
    _sender: SendRequest<Incoming>,
}

impl Body for Held {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A token that ends the door with its gateway.
pub(crate) fn closing(stop: &ShutdownToken, deadline: Duration) -> ShutdownToken {
    let (cut, stop) = (Shutdown::new(), stop.clone());
    let token = cut.token();
    pasture_rt::spawn(TaskKind::Server, async move {
        stop.requested().await;
        tokio::time::sleep(deadline).await;
        cut.trigger();
    });
    token
}
