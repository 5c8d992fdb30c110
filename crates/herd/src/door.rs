//! The shepherd's own door: a port on loopback and a socket in the file system, both leading to a herd somewhere else.
//!
//! Guarantees: the port speaks the routes of [`crate::http`] below `/v1/herd`, the socket the words of [`crate::protocol`]; neither
//! understands what passes. A browser's request is refused, since any page can send one. Whoever may open the socket or the port of
//! this machine may use the herd: there is no other check here.

use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use pasture_api::Problem;
use pasture_rt::{ShutdownToken, TaskKind};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener, UnixStream};

/// What goes to a herd.
pub type Outgoing = BoxStream<'static, io::Result<Bytes>>;
/// What comes from it: status, content type, body.
pub type Answered = (u16, Option<String>, BoxStream<'static, io::Result<Bytes>>);

/// The way to a herd.
pub trait Way: Send + Sync + 'static {
    /// Sends a request; `rest` is the route below the herd with its query. The body goes out while the answer comes in.
    fn send(&self, method: String, rest: String, body: Outgoing) -> BoxFuture<'static, Result<Answered, Problem>>;
}

/// Bytes taken from a socket at once.
const READ_BYTES: usize = 64 << 10;
/// Where the routes begin.
const ROOT: &str = "/v1/herd";

/// Serves the port until shutdown.
pub async fn serve_port(listener: TcpListener, way: Arc<dyn Way>, stop: ShutdownToken) {
    let router = Router::new().fallback(pass).with_state(way);
    let serve = axum::serve(axum::serve::ListenerExt::tap_io(listener, |stream| drop(stream.set_nodelay(true))), router);
    if let Some(Err(error)) = stop.guard(serve.into_future()).await {
        tracing::error!(%error, "the shepherd's port has ended");
    }
}

async fn pass(State(way): State<Arc<dyn Way>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.headers.contains_key(header::ORIGIN) {
        return Problem::forbidden("this door is for programs, not for pages in a browser").into_response();
    }
    let path = parts.uri.path_and_query().map_or("", |p| p.as_str());
    let Some(rest) = path.strip_prefix(ROOT) else { return Problem::not_found("route; all begin with /v1/herd").into_response() };
    let rest = rest.strip_prefix('/').unwrap_or(rest).to_owned();
    match way.send(parts.method.to_string(), rest, outgoing(body.into_data_stream())).await {
        Ok((status, kind, body)) => {
            let mut response = Response::new(Body::from_stream(body));
            if let Ok(status) = status.try_into() {
                *response.status_mut() = status;
            }
            if let Some(kind) = kind.and_then(|k| k.try_into().ok()) {
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
            }
            response
        }
        Err(problem) => problem.into_response(),
    }
}

fn outgoing(body: BodyDataStream) -> Outgoing {
    body.map(|piece| piece.map_err(io::Error::other)).boxed()
}

/// Serves the socket until shutdown: each connection is a conversation of its own.
pub async fn serve_socket(listener: UnixListener, way: Arc<dyn Way>, stop: ShutdownToken) {
    while let Some(Ok((connection, _))) = stop.guard(listener.accept()).await {
        let (way, stop) = (Arc::clone(&way), stop.clone());
        pasture_rt::spawn(TaskKind::Connection, async move { stop.guard(converse(connection, way)).await });
    }
}

async fn converse(connection: UnixStream, way: Arc<dyn Way>) {
    let (reader, mut writer) = connection.into_split();
    let body = stream::unfold(reader, |mut reader| async move {
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        match reader.read_buf(&mut buffer).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(buffer.freeze()), reader)),
            Err(error) => Some((Err(error), reader)),
        }
    });
    match way.send("POST".into(), "stream".into(), body.boxed()).await {
        Ok((_, _, mut told)) => {
            while let Some(Ok(piece)) = told.next().await {
                if writer.write_all(&piece).await.is_err() {
                    return;
                }
            }
        }
        Err(problem) => {
            // Whatever form it speaks, this is the last that it hears.
            let tell = crate::protocol::Tell::Problem { detail: problem.detail };
            let _ = writer.write_all(&crate::protocol::encoded(crate::protocol::Form::JsonLines, &tell)).await;
        }
    }
}
