//! What the gateway counts, and how it shows it (Prometheus' text format).

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use pasture_api::NetworkStatus;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Statuses that are counted apart; all others are counted together.
const STATUSES: [u16; 17] = [200, 201, 204, 206, 400, 401, 403, 404, 405, 408, 409, 413, 429, 500, 502, 503, 504];

/// Counters of one gateway.
#[derive(Default)]
pub(crate) struct Metrics {
    /// Locked while the routes are set up and while counters are shown, never by requests.
    routes: Mutex<Vec<Arc<RouteCounter>>>,
    /// Event streams open now.
    pub(crate) subscribers: Arc<Gauge>,
    /// Forwarded requests open now.
    pub(crate) forwards: Arc<Gauge>,
    /// Connections open now.
    pub(crate) connections: Arc<Gauge>,
    /// Event streams that were ended because their reader fell behind.
    pub(crate) lagged: AtomicU64,
}

/// Requests of one route by status.
#[derive(Default)]
pub(crate) struct RouteCounter {
    path: &'static str,
    by_status: [AtomicU64; STATUSES.len()],
    other: AtomicU64,
}

/// How many of something are open.
#[derive(Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    /// One more, until the answer is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Entered {
        self.0.fetch_add(1, Ordering::Relaxed);
        Entered(Arc::clone(self))
    }
}

/// One that is open.
pub(crate) struct Entered(Arc<Gauge>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RouteCounter {
    fn count(&self, status: u16) {
        let counter = STATUSES.iter().zip(&self.by_status).find(|(s, _)| **s == status).map_or(&self.other, |(_, c)| c);
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts a request and its answer's status.
pub(crate) async fn count(State(counter): State<Arc<RouteCounter>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let response = next.run(request).await;
    counter.count(response.status().as_u16());
    tracing::debug!(%method, route = counter.path, status = response.status().as_u16(), "request");
    response
}

impl Metrics {
    /// Counters for a route.
    pub(crate) fn route(&self, path: &'static str) -> Arc<RouteCounter> {
        let counter = Arc::new(RouteCounter { path, ..RouteCounter::default() });
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&counter));
        counter
    }

    /// All counters as text; without the ledger's when it does not answer.
    pub(crate) fn show(&self, status: Option<&NetworkStatus>, nodes: usize) -> String {
        let mut out = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, value: u64| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "# HELP pasture_{name} {help}\n# TYPE pasture_{name} {kind}\npasture_{name} {value}");
        };
        if let Some(status) = status {
            metric("ledger_height", "gauge", "Height of the last final block.", status.height.0);
            metric("mempool_transactions", "gauge", "Transactions that wait for a block.", status.pending_transactions);
        }
        let gauge = |g: &Gauge| g.0.load(Ordering::Relaxed);
        metric("gateway_event_subscribers", "gauge", "Event streams open now.", gauge(&self.subscribers));
        metric("gateway_forwards", "gauge", "Requests to nodes open now.", gauge(&self.forwards));
        metric("gateway_connections", "gauge", "Connections open now.", gauge(&self.connections));
        metric("gateway_connected_nodes", "gauge", "Nodes whose address is known.", nodes as u64);
        let lagged = self.lagged.load(Ordering::Relaxed);
        metric("gateway_event_subscribers_lagged_total", "counter", "Event streams ended because their reader fell behind.", lagged);
        self.show_routes(&mut out);
        out
    }

    fn show_routes(&self, out: &mut String) {
        const NAME: &str = "pasture_gateway_requests_total";
        let _ = writeln!(out, "# HELP {NAME} Requests answered, by route and status.\n# TYPE {NAME} counter");
        for route in self.routes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let known = STATUSES.iter().map(ToString::to_string).zip(&route.by_status);
            for (status, counter) in known.chain([("other".to_string(), &route.other)]) {
                let n = counter.load(Ordering::Relaxed);
                if n > 0 {
                    let _ = writeln!(out, "{NAME}{{route=\"{}\",status=\"{status}\"}} {n}", route.path);
                }
            }
        }
    }
}
