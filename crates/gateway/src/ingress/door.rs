//! Requests, from a client's connection to a replica's and back.

use super::body::{Fate, Sent, held};
use super::kept::Sender;
use super::request::{self, Name, Refused};
use super::table::{Busy, Replica, Route};
use super::{Answer, Ingress};
use crate::listener::BoundedListener;
use axum::serve::Listener as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use pasture_api::publication::Protocol;
use pasture_rt::{ShutdownToken, TaskKind};
use rustls::ServerConfig;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

/// Within which a request's head is there, and a connection is secure.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Largest head.
const MAX_HEAD: usize = 32 << 10;
/// Most lines of one.
const MAX_LINES: usize = 100;

/// By which door a request came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Door {
    Plain,
    Secure,
}

/// Serves HTTP without TLS; where there is TLS too, all that came is sent there.
pub(super) async fn plain(ingress: Arc<Ingress>, mut listener: BoundedListener, cut: ShutdownToken) {
    while let Some((connection, peer)) = cut.guard(listener.accept()).await {
        let (ingress, cut) = (Arc::clone(&ingress), cut.clone());
        pasture_rt::spawn(TaskKind::Connection, async move { cut.guard(serve(ingress, connection, peer, Door::Plain)).await });
    }
}

/// Serves HTTP over TLS.
pub(super) async fn secure(ingress: Arc<Ingress>, mut listener: BoundedListener, config: Arc<ServerConfig>, cut: ShutdownToken) {
    let acceptor = TlsAcceptor::from(config);
    while let Some((connection, peer)) = cut.guard(listener.accept()).await {
        let (ingress, cut, acceptor) = (Arc::clone(&ingress), cut.clone(), acceptor.clone());
        pasture_rt::spawn(TaskKind::Connection, async move {
            let served = async {
                // Who asks for a name without a certificate hears so from TLS itself.
                if let Ok(Ok(connection)) = tokio::time::timeout(HEAD_WITHIN, acceptor.accept(connection)).await {
                    serve(ingress, connection, peer, Door::Secure).await;
                }
            };
            cut.guard(served).await
        });
    }
}

async fn serve(ingress: Arc<Ingress>, connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr, door: Door) {
    let service = service_fn(|request| {
        let ingress = Arc::clone(&ingress);
        async move { Ok::<_, Infallible>(ingress.answer(peer, door, request).await) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(MAX_HEAD).max_headers(MAX_LINES);
    // A client that goes away, or talks nonsense, is no news.
    let _ = server.serve_connection(TokioIo::new(connection), service).with_upgrades().await;
}

fn text(status: StatusCode, text: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// A page that says why there is nothing else.
fn page(Refused(status, why): Refused) -> Answer {
    let mut response = text(status, format!("{why}\n"));
    let told = match status {
        StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, r#"Basic realm="an access key is the password""#)),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Some((header::RETRY_AFTER, "1")),
        _ => None,
    };
    if let Some((name, value)) = told {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Another place for the same request.
fn elsewhere(url: &str) -> Result<Answer, Refused> {
    let mut answer = page(Refused(StatusCode::PERMANENT_REDIRECT, "this is served over TLS"));
    let unreadable = |_| Refused(StatusCode::BAD_REQUEST, "the path is unreadable");
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_str(url).map_err(unreadable)?);
    Ok(answer)
}

/// A replica with a connection to it.
struct Reached {
    replica: Replica,
    sender: Sender,
    busy: Busy,
    /// It was used before.
    is_kept: bool,
}

/// Replicas that let a visitor in, and with what.
struct Admitted {
    replicas: Vec<Replica>,
    key: Option<(HeaderName, Vec<u8>)>,
}

/// Those that the visitor's keys open.
fn admitted(replicas: Vec<Replica>, keys: Vec<(HeaderName, Vec<u8>)>) -> Result<Admitted, Refused> {
    if replicas.iter().all(|replica| replica.publication.rules.access.is_empty()) {
        return Ok(Admitted { replicas, key: None });
    }
    let opens = |key: &[u8]| {
        replicas.iter().any(|replica| !replica.publication.rules.access.is_empty() && replica.publication.rules.admits(Some(key)))
    };
    let key = keys.into_iter().find(|(_, key)| opens(key));
    let bytes = key.as_ref().map(|(_, key)| key.as_slice());
    let replicas: Vec<Replica> = replicas.into_iter().filter(|replica| replica.publication.rules.admits(bytes)).collect();
    if replicas.is_empty() {
        return Err(Refused(StatusCode::UNAUTHORIZED, "an access key is needed here"));
    }
    Ok(Admitted { key, replicas })
}

impl Ingress {
    async fn answer(&self, peer: SocketAddr, door: Door, request: Request<Incoming>) -> Answer {
        if door == Door::Plain
            && let Some(answer) = self.challenges.answer(request.uri().path())
        {
            return text(StatusCode::OK, answer);
        }
        self.pass(peer, door, request).await.unwrap_or_else(page)
    }

    /// Where a request leads.
    fn route(&self, request: &Request<Incoming>) -> Result<Route, Refused> {
        match request::name(request, &self.view.domain)? {
            Name::Label(label) => self.table.route(&label, Protocol::Http),
            Name::Domain(domain) => self.table.route_of(&domain),
        }
        .ok_or(request::NOTHING)
    }

    async fn pass(&self, peer: SocketAddr, door: Door, mut request: Request<Incoming>) -> Result<Answer, Refused> {
        let route = self.route(&request)?;
        if door == Door::Plain && self.certificates.is_some() {
            return elsewhere(&self.secure_url(&request)?);
        }
        let upgrade = request::wants_upgrade(&request).then(|| hyper::upgrade::on(&mut request));
        let Admitted { replicas, key } = admitted(self.ranked(route.replicas, Instant::now()), request::access_keys(request.headers()))?;
        let most = replicas.first().and_then(|replica| replica.publication.rules.max_body);
        if most.zip(request::length(request.headers())).is_some_and(|(most, length)| length > most) {
            return Err(TOO_LARGE);
        }
        let visit = self.visit(&route.visitors, &replicas, peer.ip())?;
        if let Some((name, _)) = &key {
            request.headers_mut().remove(name);
        }
        let scheme = if door == Door::Secure { "https" } else { "http" };
        let fate = Fate::default();
        let outgoing = request::outgoing(request, peer.ip(), scheme)?.map(|body| Sent::new(body, most, fate.clone()));
        let key = key.as_ref().map(|(_, key)| key.as_slice());
        let (mut response, reached) = self.send(replicas, key, outgoing, &fate).await?;
        let Reached { replica, sender, busy, .. } = reached;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(client) = upgrade else { return Err(Refused(StatusCode::BAD_GATEWAY, "the job changed the protocol unasked")) };
            let there = hyper::upgrade::on(&mut response);
            pasture_rt::spawn(TaskKind::Connection, async move {
                if let (Ok(client), Ok(there)) = tokio::join!(client, there) {
                    let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(there)).await;
                }
                drop((busy, visit));
            });
            return Ok(response.map(|body| body.boxed()));
        }
        request::strip(response.headers_mut());
        Ok(held(response, replica, sender, busy, visit))
    }

    /// The same address over TLS. Its host is one that leads somewhere, so that nobody is sent elsewhere in our name.
    fn secure_url(&self, request: &Request<Incoming>) -> Result<String, Refused> {
        let host = match request::name(request, &self.view.domain)? {
            Name::Label(label) => format!("{label}.{}", self.view.domain),
            Name::Domain(domain) => domain,
        };
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        Ok(match self.view.port {
            443 => format!("https://{host}{path}"),
            port => format!("https://{host}:{port}{path}"),
        })
    }

    /// Sends a request to one of these. One that was lost on a connection that was kept is sent once more if that can do no harm.
    async fn send(
        &self,
        replicas: Vec<Replica>,
        key: Option<&[u8]>,
        request: Request<Sent>,
        fate: &Fate,
    ) -> Result<(Response<Incoming>, Reached), Refused> {
        let again = request::copy(&request);
        let mut reached = self.reach(replicas, key).await?;
        let broken = |fate: &Fate| match fate {
            fate if fate.is_too_large() => TOO_LARGE,
            fate if fate.is_too_slow() => Refused(StatusCode::REQUEST_TIMEOUT, "the request's body came too slowly"),
            _ => Refused(StatusCode::BAD_GATEWAY, "the job broke the connection off"),
        };
        let request = match reached.sender.try_send_request(request).await {
            Ok(response) => {
                reached.replica.load.is_well();
                return Ok((response, reached));
            }
            Err(_) if !reached.is_kept => return Err(broken(fate)),
            Err(mut error) => error.take_message().or_else(|| again.map(|head| head.map(|()| Sent::none()))).ok_or_else(|| broken(fate))?,
        };
        reached.sender = self.open(&reached.replica, key).await?;
        let response = reached.sender.send_request(request).await.map_err(|_| broken(fate))?;
        reached.replica.load.is_well();
        Ok((response, reached))
    }

    /// A connection to the first of these that has one, or gives one.
    async fn reach(&self, replicas: Vec<Replica>, key: Option<&[u8]>) -> Result<Reached, Refused> {
        if let Some(replica) = replicas.first()
            && let Some(sender) = replica.load.kept.take(Instant::now())
        {
            return Ok(Reached { busy: replica.load.enter(), replica: replica.clone(), sender, is_kept: true });
        }
        let (stream, replica, busy) = self.stream_to(replicas, key).await?;
        Ok(Reached { sender: speak(stream).await?, replica, busy, is_kept: false })
    }

    /// A new connection to this one.
    async fn open(&self, replica: &Replica, key: Option<&[u8]>) -> Result<Sender, Refused> {
        let (stream, _, _busy) = self.stream_to(vec![replica.clone()], key).await?;
        speak(stream).await
    }
}

/// HTTP/1.1 over a stream to a container.
async fn speak(stream: reqwest::Upgraded) -> Result<Sender, Refused> {
    let broken = |_| Refused(StatusCode::BAD_GATEWAY, "the job broke the connection off");
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    pasture_rt::spawn(TaskKind::Connection, async move {
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}

const TOO_LARGE: Refused = Refused(StatusCode::PAYLOAD_TOO_LARGE, "the request's body is larger than is allowed here");
