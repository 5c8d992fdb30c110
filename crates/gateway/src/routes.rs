//! The routes, as `pasture_api` lists them, and the handlers that need no file of their own.
//!
//! Guarantees: each handler parses, asks the backend once, and answers; every request is counted under its route.

use crate::events;
use crate::forward;
use crate::handovers;
use crate::metrics::{self, Watched};
use crate::reply::{Arg, MAX_JSON, Number, StateKey, read_body};
use crate::server::App;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post, put};
use axum::{Json, Router, middleware};
use bytes::Bytes;
use pasture_api::auth::{self, AuthError};
use pasture_api::blobs::Holders;
use pasture_api::publication::{IngressView, NameView};
use pasture_api::{
    AccountView, AuditDetail, CheckView, EpochView, ExplainView, GenesisView, GrantView, HeadView, JobView, LeaseView, NetworkStatus,
    NodeAddress, NodePage, NodeView, OfferView, OrderView, PathView, PlaceView, Problem, ProposalView, StateValue, TicketView,
    TransactionView, TxResult, ValidatorsView,
};
use pasture_net::Way;
use pasture_types::market::OrderTerms;
use pasture_types::tx::{Envelope, MAX_TX_BYTES};
use pasture_types::{AccountId, ContentDigest, GrantId, Height, LeaseId, NodeId, OrderId, PublicKey, TxId, codec};
use serde::Deserialize;
use std::sync::Arc;

type Answer<T> = Result<Json<T>, Problem>;
type Shared = State<Arc<App>>;

/// All routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    let views: [(&'static str, MethodRouter<Arc<App>>); 32] = [
        ("/healthz", get(healthz)),
        ("/readyz", get(readyz)),
        ("/metrics", get(show_metrics)),
        ("/v1/status", get(status)),
        ("/v1/transactions", post(submit)),
        ("/v1/transactions/{id}", get(transaction)),
        ("/v1/test-credits", post(test_credits)),
        ("/v1/events", get(events::follow)),
        ("/v1/accounts/{id}", get(account)),
        ("/v1/accounts/{id}/jobs", get(jobs)),
        ("/v1/accounts/{id}/grants", get(grants)),
        ("/v1/accounts/{id}/nodes", get(nodes)),
        ("/v1/grants/{id}", get(grant)),
        ("/v1/nodes/{id}", get(node)),
        ("/v1/nodes/{id}/leases", get(node_leases)),
        ("/v1/nodes/{id}/address", put(announce)),
        ("/v1/nodes/{id}/place", get(place)),
        ("/v1/blobs/{digest}", get(holders)),
        ("/v1/genesis", get(genesis)),
        ("/v1/ticket", get(ticket)),
        ("/v1/gates", get(gates)),
        ("/v1/ingress", get(ingress)),
        ("/v1/ingress/{label}", get(published)),
        ("/v1/offers", get(offers)),
        ("/v1/orders/{id}", get(order)),
        ("/v1/leases/{id}", get(lease)),
        ("/v1/epochs/{n}", get(epoch)),
        ("/v1/audits/{n}", get(audit)),
        ("/v1/proposals", get(proposals)),
        ("/v1/validators", get(validators)),
        ("/v1/explain", post(explain)),
        ("/v1/ledger/head", get(head)),
    ];
    let ledger: [(&'static str, MethodRouter<Arc<App>>); 5] = [
        ("/v1/ledger/blocks/{height}", get(block)),
        ("/v1/ledger/state/{key}", get(state)),
        ("/v1/ledger/handovers", get(handovers::list)),
        ("/v1/ledger/check", get(check)),
        ("/v1/ledger/export", get(export)),
    ];
    let mut router = Router::new();
    for (path, methods) in views.into_iter().chain(ledger) {
        router = router.route(path, counted(&app, path, methods.fallback(wrong_method)));
    }
    let data = "/v1/leases/{id}/data/{*rest}";
    router = router.route(data, counted(&app, data, any(forward::forward)));
    let account = "/v1/nodes/{id}/accounts/{account}/{*rest}";
    router = router.route(account, counted(&app, account, any(forward::forward_account)));
    let blob = "/v1/nodes/{id}/blobs/{digest}";
    router = router.route(blob, counted(&app, blob, get(forward::forward_blob).fallback(wrong_method)));
    let unknown = middleware::from_fn_with_state(app.metrics.route("unknown"), metrics::count);
    router.fallback_service(any(unknown_route).layer(unknown)).with_state(app)
}

fn counted(app: &App, path: &'static str, methods: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    methods.layer(middleware::from_fn_with_state(app.metrics.route(path), metrics::count))
}

async fn unknown_route(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(404, "no-such-route", format!("there is no {path} in this API"))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::new(405, "method-not-allowed", format!("{method} is not possible at {}", uri.path()))
}

/// What a view answers: the thing, or that there is none.
fn found<T>(what: &str, view: Result<Option<T>, Problem>) -> Answer<T> {
    Ok(Json(view?.ok_or_else(|| Problem::not_found(what))?))
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(app): Shared) -> Result<&'static str, Problem> {
    if app.stop.is_requested() {
        return Err(Problem::unavailable("the node is shutting down"));
    }
    app.backend.status()?;
    Ok("ready\n")
}

async fn show_metrics(State(app): Shared) -> Response {
    let watched = match (app.backend.status(), app.backend.validators().await) {
        (Ok(status), Ok(validators)) => Some(Watched { status, validators, entries: app.backend.entries(), now: app.now() }),
        _ => None,
    };
    let text = app.metrics.show(watched.as_ref(), app.book.len(app.now()));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn status(State(app): Shared) -> Answer<NetworkStatus> {
    Ok(Json(app.backend.status()?))
}

async fn submit(State(app): Shared, headers: HeaderMap, body: Body) -> Answer<TxResult> {
    let tx = read_body(&headers, body, MAX_TX_BYTES).await?;
    finalize(&app, tx).await
}

async fn transaction(State(app): Shared, Arg(id): Arg<TxId>) -> Answer<TransactionView> {
    found("transaction in a recent block", app.backend.transaction(id).await)
}

async fn test_credits(State(app): Shared, headers: HeaderMap, body: Body) -> Answer<TxResult> {
    let tx = read_body(&headers, body, MAX_TX_BYTES).await?;
    let tx: Envelope = codec::decode(&tx, MAX_TX_BYTES).map_err(|e| Problem::bad_request(format!("the body is not a transaction: {e}")))?;
    let signed = app.backend.cosign_newcomer(tx)?;
    finalize(&app, codec::encode(&signed).into()).await
}

async fn finalize(app: &App, tx: Bytes) -> Answer<TxResult> {
    match tokio::time::timeout(app.options.finality_deadline, app.backend.submit(tx)).await {
        Ok(result) => Ok(Json(result?)),
        Err(_) => Err(Problem::new(
            504,
            "not-final-yet",
            "the transaction waits, but no block has taken it in time; it may still become final: send the same transaction again to see",
        )),
    }
}

async fn account(State(app): Shared, Arg(id): Arg<AccountId>) -> Answer<AccountView> {
    found("account", app.backend.account(id))
}

async fn jobs(State(app): Shared, Arg(id): Arg<AccountId>) -> Answer<Vec<JobView>> {
    Ok(Json(app.backend.jobs(id)?))
}

async fn grants(State(app): Shared, Arg(id): Arg<AccountId>) -> Answer<Vec<GrantView>> {
    Ok(Json(app.backend.grants(id)?))
}

async fn grant(State(app): Shared, Arg(id): Arg<GrantId>) -> Answer<GrantView> {
    found("grant", app.backend.grant(id))
}

async fn node(State(app): Shared, Arg(id): Arg<NodeId>) -> Answer<NodeView> {
    let Json(mut view) = found("node", app.backend.node(id))?;
    view.reachable = app.book.knows(&id, app.now());
    Ok(Json(view))
}

/// Which page is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct After {
    after: Option<NodeId>,
}

async fn nodes(State(app): Shared, Arg(id): Arg<AccountId>, asked: Result<Query<After>, QueryRejection>) -> Answer<NodePage> {
    let Query(After { after }) = asked.map_err(|e| Problem::bad_request(e.body_text()))?;
    let mut page = app.backend.nodes(id, after)?;
    for node in &mut page.nodes {
        node.reachable = app.book.knows(&node.id, app.now());
    }
    Ok(Json(page))
}

async fn node_leases(State(app): Shared, Arg(id): Arg<NodeId>) -> Answer<Vec<LeaseView>> {
    Ok(Json(app.backend.node_leases(id)?))
}

/// A node that is registered says where it listens, signed with its own key.
async fn announce(State(app): Shared, Arg(id): Arg<NodeId>, headers: HeaderMap, body: Body) -> Result<StatusCode, Problem> {
    let body = read_body(&headers, body, MAX_JSON).await?;
    let announced: NodeAddress = from_json(&body)?;
    let path = NodeAddress::signed_path(&id, &announced.address);
    let key = auth::verify(Some(&announced.authorization), "PUT", &path, &id, app.clock.now_ms());
    match key {
        Ok(key) if key == PublicKey::from(id) => {}
        Ok(_) => return Err(Problem::forbidden("only the node itself may announce its address: sign with the node's key")),
        Err(e @ (AuthError::Missing | AuthError::Stale(_) | AuthError::Invalid)) => return Err(Problem::unauthorized(e.to_string())),
    }
    if app.backend.node(id)?.is_none() {
        return Err(Problem::not_found("node"));
    }
    if app.book.set(id, &announced.address, app.now())? {
        tracing::info!(node = %id.short(), address = announced.address, "a node is connected");
    }
    let now = app.now();
    app.holders.set(id, &announced.blobs, |node| app.book.knows(node, now));
    if app.ingress.is_some() {
        let zone = app.backend.status()?.zone;
        app.table.set((&*app.backend, &zone), id, announced.public, now, &|node| app.book.knows(node, now));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Machines that say that they have a blob of an image.
async fn holders(State(app): Shared, Path(digits): Path<String>) -> Answer<Holders> {
    let digest = ContentDigest::of_digits(&digits).map_err(|e| Problem::bad_request(e.to_string()))?;
    let now = app.now();
    Ok(Json(Holders { nodes: app.holders.of(&digest, |node| app.book.knows(node, now)) }))
}

/// Where a node can be called peer to peer, as it announced it here.
async fn place(State(app): Shared, Arg(id): Arg<NodeId>) -> Answer<PlaceView> {
    let address = app.book.place(&id, app.now()).ok_or_else(|| Problem::not_found("place"))?;
    let path = app.options.peers.as_ref().and_then(|peers| peers.endpoint.path(&id)).map(|path| PathView {
        direct: match path.way {
            Way::Direct(address) => Some(address.to_string()),
            Way::Relayed => None,
        },
        rtt_us: u64::try_from(path.rtt.as_micros()).unwrap_or(u64::MAX),
    });
    Ok(Json(PlaceView { address, path }))
}

async fn genesis(State(app): Shared) -> Answer<GenesisView> {
    Ok(Json(GenesisView { genesis: hex::encode(app.backend.genesis()) }))
}

async fn ticket(State(app): Shared) -> Answer<TicketView> {
    let peers = app.options.peers.as_ref().ok_or_else(|| Problem::not_found("ticket"))?;
    Ok(Json(TicketView { ticket: peers.ticket().to_text() }))
}

async fn gates(State(app): Shared) -> Answer<TicketView> {
    let peers = app.options.peers.as_ref().ok_or_else(|| Problem::not_found("ticket"))?;
    Ok(Json(TicketView { ticket: peers.network.borrow().to_text() }))
}

async fn ingress(State(app): Shared) -> Answer<IngressView> {
    found("ingress", Ok(app.ingress.as_ref().map(|ingress| ingress.view.clone())))
}

async fn published(State(app): Shared, Arg(label): Arg<String>) -> Answer<NameView> {
    found("name", Ok(app.ingress.as_ref().and_then(|ingress| ingress.name(&label))))
}

async fn offers(State(app): Shared) -> Answer<Vec<OfferView>> {
    let mut offers = app.backend.offers()?;
    let now = app.now();
    for offer in &mut offers {
        offer.reachable = app.book.knows(&offer.node, now);
    }
    Ok(Json(offers))
}

async fn order(State(app): Shared, Arg(id): Arg<OrderId>) -> Answer<OrderView> {
    found("order", app.backend.order(id))
}

async fn lease(State(app): Shared, Arg(id): Arg<LeaseId>) -> Answer<LeaseView> {
    found("lease", app.backend.lease(id))
}

async fn audit(State(app): Shared, Arg(number): Arg<Number>) -> Answer<AuditDetail> {
    found("audit", app.backend.audit(number.0))
}

async fn epoch(State(app): Shared, Arg(number): Arg<Number>) -> Answer<EpochView> {
    found("epoch", app.backend.epoch(number.0))
}

async fn proposals(State(app): Shared) -> Answer<Vec<ProposalView>> {
    Ok(Json(app.backend.proposals()?))
}

async fn validators(State(app): Shared) -> Answer<ValidatorsView> {
    Ok(Json(app.backend.validators().await?))
}

async fn explain(State(app): Shared, headers: HeaderMap, body: Body) -> Answer<ExplainView> {
    let body = read_body(&headers, body, MAX_JSON).await?;
    let terms: OrderTerms = from_json(&body)?;
    Ok(Json(app.backend.explain(terms)?))
}

async fn head(State(app): Shared) -> Answer<HeadView> {
    Ok(Json(app.backend.head().await?))
}

async fn block(State(app): Shared, Arg(height): Arg<Number>) -> Answer<HeadView> {
    found("block", app.backend.block(Height(height.0)).await)
}

async fn state(State(app): Shared, Arg(key): Arg<StateKey>) -> Answer<StateValue> {
    Ok(Json(app.backend.state(key.0).await?))
}

async fn check(State(app): Shared) -> Answer<CheckView> {
    let Ok(_running) = app.checks.try_acquire() else {
        return Err(Problem::new(503, "busy", "the ledger is being checked already: try again when that has ended"));
    };
    Ok(Json(app.backend.check().await?))
}

/// The whole state as a stream. A shutdown, or a piece that cannot be made, breaks it off: its reader sees that by the checksum.
async fn export(State(app): Shared) -> Result<Response, Problem> {
    let Ok(running) = Arc::clone(&app.exports).try_acquire_owned() else {
        return Err(Problem::new(503, "busy", "the ledger is being exported already: try again when that has ended"));
    };
    let stream = app.backend.export().await?;
    let pieces = futures::stream::unfold((stream.pieces, running, app.stop.clone()), |(mut pieces, running, stop)| async move {
        let piece = match stop.guard(pieces.recv()).await {
            Some(piece) => piece?,
            None => Err(std::io::Error::other("the node is shutting down")),
        };
        Some((piece, (pieces, running, stop)))
    });
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Body::from_stream(pieces)).into_response())
}

fn from_json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|e| Problem::bad_request(format!("the body is not the JSON that is expected: {e}")))
}
