//! Forwarding to the machine that serves a lease, or that has something of an account's. Paths and bodies: `pasture_api::data` and
//! `pasture_api::volumes`.
//!
//! Guarantees: bodies pass through in both directions as they arrive, at the pace of the slower side; method, path,
//! query, signature and status stay as they are, so the node can check what the client signed. Only words of the data
//! plane's form are forwarded, so that a path cannot climb out of its lease or account; redirects are not followed.
//! It does not check signatures, retry, or limit sizes: the node does the first and the last, the client the second.

use crate::server::App;
use crate::streams::{AtStop, Held};
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Uri, header};
use axum::response::Response;
use pasture_api::{Problem, data};
use pasture_types::ids::ParseIdError;
use pasture_types::{AccountId, ContentDigest, LeaseId, NodeId};
use reqwest::{Client, Url};
use std::sync::Arc;
use std::time::Duration;

/// How long a node may take to accept a connection. It is on this machine or near.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// How long an idle connection to a node is kept for the next request.
const IDLE: Duration = Duration::from_secs(30);
/// Longest path below a lease.
const MAX_REST: usize = 256;

const REQUEST_HEADERS: [HeaderName; 6] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::ACCEPT,
    HeaderName::from_static(data::HASH_HEADER),
    HeaderName::from_static(data::LENGTH_HEADER),
];
const RESPONSE_HEADERS: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CACHE_CONTROL,
    HeaderName::from_static(data::HASH_HEADER),
    HeaderName::from_static(data::LENGTH_HEADER),
];

/// The same for one that is called peer to peer: by a relay, perhaps.
const PEER_DEADLINE: Duration = Duration::from_secs(12);

/// The client that calls nodes. It has no deadline for answers: logs and events last as long as their job.
pub(crate) fn client(door: Option<&str>) -> Result<Client, reqwest::Error> {
    pasture_api::door::http(door)?
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(if door.is_some() { PEER_DEADLINE } else { CONNECT_DEADLINE })
        .pool_idle_timeout(IDLE)
        .tcp_nodelay(true)
        .build()
}

/// `ANY /v1/leases/{id}/data/{rest}`.
pub(crate) async fn forward(State(app): State<Arc<App>>, request: Request) -> Result<Response, Problem> {
    let (lease, target) = Target::of_lease(request.uri())?;
    let lease = app.backend.lease(lease)?.ok_or_else(|| Problem::not_found("lease"))?;
    let address = app.book.get(&lease.node, app.now()).ok_or_else(unreachable)?;
    let url = target.at(&address)?;
    pass_on(&app, &lease.node, &address, url, request).await
}

/// `ANY /v1/nodes/{id}/accounts/{account}/{rest}`.
pub(crate) async fn forward_account(State(app): State<Arc<App>>, request: Request) -> Result<Response, Problem> {
    let (node, target) = Target::of_account(request.uri())?;
    let address = app.book.get(&node, app.now()).ok_or_else(unreachable)?;
    let url = target.at(&address)?;
    pass_on(&app, &node, &address, url, request).await
}

/// `GET /v1/nodes/{id}/blobs/{digest}`.
pub(crate) async fn forward_blob(State(app): State<Arc<App>>, request: Request) -> Result<Response, Problem> {
    let (node, target) = Target::of_blob(request.uri())?;
    let address = app.book.get(&node, app.now()).ok_or_else(unreachable)?;
    let url = target.at(&address)?;
    pass_on(&app, &node, &address, url, request).await
}

async fn pass_on(app: &App, node: &NodeId, address: &Url, url: Url, request: Request) -> Result<Response, Problem> {
    let slot = app.streams.take()?;
    let entered = app.metrics.forwards.enter();

    let (parts, body) = request.into_parts();
    let mut call = app.nodes.request(parts.method, url).headers(keep(&parts.headers, &REQUEST_HEADERS));
    if !body.is_end_stream() {
        call = call.body(reqwest::Body::wrap_stream(body.into_data_stream()));
    }
    if parts.uri.path().ends_with("/data/channel") {
        // The answer may end first; then the node hangs up, and nobody's next request shall be on that connection.
        call = call.header(header::CONNECTION, "close");
    }
    let answer = call.send().await.map_err(|e| failed(app, node, address, &e))?;

    let status = answer.status();
    let headers = keep(answer.headers(), &RESPONSE_HEADERS);
    let held = Held::new(answer.bytes_stream(), AtStop::Break, app.stop.clone(), slot, entered);
    let mut response = Response::new(Body::from_stream(held));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

fn keep(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    names.iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone()))).collect()
}

fn unreachable() -> Problem {
    Problem::new(503, "node-unreachable", "the machine that runs this job is not connected now; it keeps running; try again in a moment")
}

fn failed(app: &App, node: &NodeId, address: &Url, error: &reqwest::Error) -> Problem {
    if error.is_connect() {
        tracing::info!(node = %node.short(), %address, "nobody answers at a node's address: it is forgotten until the node announces itself");
        app.book.forget(node, address);
        return unreachable();
    }
    tracing::debug!(node = %node.short(), %error, "a forwarded request broke off");
    Problem::new(
        502,
        "node-broke-off",
        "the machine that runs this job broke off the connection; the job keeps running; try again in a moment",
    )
}

/// What a forwarded request asks for, exactly as its client wrote (and signed) it.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    /// `leases`, `accounts` or `blobs`.
    kind: &'static str,
    id: &'a str,
    rest: &'a str,
    query: Option<&'a str>,
}

impl<'a> Target<'a> {
    fn of_lease(uri: &'a Uri) -> Result<(LeaseId, Self), Problem> {
        let parts = uri.path().strip_prefix("/v1/leases/").and_then(|p| p.split_once("/data/"));
        let (id, rest) = parts.ok_or_else(|| Problem::bad_request("/v1/leases/{id}/data/{what} is expected"))?;
        Ok((id.parse().map_err(no_id)?, Self::below("leases", id, rest, uri)?))
    }

    fn of_account(uri: &'a Uri) -> Result<(NodeId, Self), Problem> {
        let parts = uri.path().strip_prefix("/v1/nodes/").and_then(|p| p.split_once("/accounts/"));
        let parts = parts.and_then(|(node, rest)| rest.split_once('/').map(|(id, rest)| (node, id, rest)));
        let (node, id, rest) = parts.ok_or_else(|| Problem::bad_request("/v1/nodes/{id}/accounts/{account}/{what} is expected"))?;
        let _: AccountId = id.parse().map_err(no_id)?;
        Ok((node.parse().map_err(no_id)?, Self::below("accounts", id, rest, uri)?))
    }

    fn of_blob(uri: &'a Uri) -> Result<(NodeId, Self), Problem> {
        let parts = uri.path().strip_prefix("/v1/nodes/").and_then(|p| p.split_once("/blobs/"));
        let (node, id) = parts.ok_or_else(|| Problem::bad_request("/v1/nodes/{id}/blobs/{digest} is expected"))?;
        ContentDigest::of_digits(id).map_err(|e| Problem::bad_request(e.to_string()))?;
        Ok((node.parse().map_err(no_id)?, Self { kind: "blobs", id, rest: "", query: uri.query() }))
    }

    fn below(kind: &'static str, id: &'a str, rest: &'a str, uri: &'a Uri) -> Result<Self, Problem> {
        // No dots and no escapes, so that no URL parser on the way finds a `..` in it.
        let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if rest.len() > MAX_REST || !rest.split('/').all(word) {
            return Err(Problem::bad_request("words of letters, digits, `-` and `_` are expected, e.g. `status` or `logs`"));
        }
        Ok(Self { kind, id, rest, query: uri.query() })
    }

    fn at(&self, address: &Url) -> Result<Url, Problem> {
        let mut url = address.clone();
        let rest = if self.rest.is_empty() { String::new() } else { format!("/{}", self.rest) };
        url.set_path(&format!("/{}/{}{rest}", self.kind, self.id));
        url.set_query(self.query);
        // The node checks a signature over the text that the client wrote: a query that changes on the way cannot pass.
        if url.query() != self.query {
            return Err(Problem::bad_request("the query has characters that must be percent-encoded"));
        }
        Ok(url)
    }
}

fn no_id(error: ParseIdError) -> Problem {
    Problem::bad_request(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_climb_out_of_its_lease() {
        let id = "Ab".repeat(32);
        let uri: Uri = format!("/v1/leases/{id}/data/logs?from=3&follow=true").parse().unwrap();
        let url = Target::of_lease(&uri).unwrap().1.at(&Url::parse("http://127.0.0.1:5").unwrap()).unwrap();
        assert_eq!(url.as_str(), format!("http://127.0.0.1:5/leases/{id}/logs?from=3&follow=true"));
        for rest in ["../x", "..", ".", "a/../b", "%2e%2e/x", "a%2fb", "", "a//b", "a/", &"x".repeat(300)] {
            let uri: Uri = format!("/v1/leases/{id}/data/{rest}").parse().unwrap();
            assert_eq!(Target::of_lease(&uri).unwrap_err().status, 400, "{rest}");
            let uri: Uri = format!("/v1/nodes/{id}/accounts/{id}/{rest}").parse().unwrap();
            assert_eq!(Target::of_account(&uri).unwrap_err().status, 400, "{rest}");
        }
        let uri: Uri = format!("/v1/nodes/{id}/accounts/{id}/volumes/a/snapshots/b?x=1").parse().unwrap();
        let url = Target::of_account(&uri).unwrap().1.at(&Url::parse("http://127.0.0.1:5").unwrap()).unwrap();
        assert_eq!(url.as_str(), format!("http://127.0.0.1:5/accounts/{id}/volumes/a/snapshots/b?x=1"));
        for (node, account) in [("12", id.as_str()), (id.as_str(), "12"), (id.as_str(), ".."), ("..", id.as_str())] {
            let uri: Uri = format!("/v1/nodes/{node}/accounts/{account}/volumes").parse().unwrap();
            assert_eq!(Target::of_account(&uri).unwrap_err().status, 400, "{node} {account}");
        }
        let uri: Uri = format!("/v1/nodes/{id}/blobs/{}?from=3", id.to_lowercase()).parse().unwrap();
        let url = Target::of_blob(&uri).unwrap().1.at(&Url::parse("http://127.0.0.1:5").unwrap()).unwrap();
        assert_eq!(url.as_str(), format!("http://127.0.0.1:5/blobs/{}?from=3", id.to_lowercase()));
        for bad in [&id, "..", "12", &format!("{}/x", id.to_lowercase())] {
            let uri: Uri = format!("/v1/nodes/{id}/blobs/{bad}").parse().unwrap();
            assert_eq!(Target::of_blob(&uri).unwrap_err().status, 400, "{bad}");
        }
        let uri: Uri = "/v1/leases/12/data/logs".parse().unwrap();
        assert!(Target::of_lease(&uri).unwrap_err().detail.contains("64 hex digits"));
    }
}
