//! What the gateway counts, and how it shows it (Prometheus' text format). What each figure means: `docs/guides/operate.md`.
//!
//! Guarantees: reading them asks the ledger once and locks no request; what is not known is left out, and is not shown as nothing. A name
//! that is here keeps its meaning and its unit.

use crate::process::Usage;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use pasture_api::{NetworkStatus, ValidatorsView};
use pasture_types::Timestamp;
use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Statuses that are counted apart; all others are counted together.
const STATUSES: [u16; 17] = [200, 201, 204, 206, 400, 401, 403, 404, 405, 408, 409, 413, 429, 500, 502, 503, 504];

/// What is shown of the node behind the gateway.
pub(crate) struct Watched {
    /// The network's status.
    pub(crate) status: NetworkStatus,
    /// Its validators.
    pub(crate) validators: ValidatorsView,
    /// Entries in the ledger's state.
    pub(crate) entries: u64,
    /// The time by this machine's clock.
    pub(crate) now: Timestamp,
}

/// One figure a line, with what it is.
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP pasture_{name} {help}\n# TYPE pasture_{name} {kind}\npasture_{name} {value}");
    }
    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.add(name, "gauge", help, value);
    }
    fn known(&mut self, name: &str, help: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.gauge(name, help, value);
        }
    }
}

/// A time in seconds, as Prometheus has it.
fn seconds(ms: u64) -> f64 {
    // Exact up to the year 287396.
    ms as f64 / 1000.0
}

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
    pub(crate) fn show(&self, watched: Option<&Watched>, nodes: usize) -> String {
        let mut out = Lines(String::new());
        if let Some(watched) = watched {
            show_ledger(&mut out, watched);
            show_validators(&mut out, &watched.validators);
        }
        let gauge = |g: &Gauge| g.0.load(Ordering::Relaxed);
        out.gauge("gateway_event_subscribers", "Event streams open now.", gauge(&self.subscribers));
        out.gauge("gateway_forwards", "Requests to nodes open now.", gauge(&self.forwards));
        out.gauge("gateway_connections", "Connections open now.", gauge(&self.connections));
        out.gauge("gateway_connected_nodes", "Nodes whose address is known.", nodes);
        let lagged = self.lagged.load(Ordering::Relaxed);
        out.add("gateway_event_subscribers_lagged_total", "counter", "Event streams ended because their reader fell behind.", lagged);
        show_process(&mut out, &Usage::now());
        self.show_routes(&mut out.0);
        out.0
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

fn show_ledger(out: &mut Lines, w: &Watched) {
    let time = w.status.time;
    out.gauge("ledger_height", "Height of the last final block.", w.status.height.0);
    out.gauge("ledger_time_seconds", "Time of the last final block, since 1970.", seconds(time.0));
    out.gauge("ledger_lag_seconds", "How old the last final block is by this machine's clock.", seconds(w.now.since(time).0));
    out.gauge("ledger_entries", "Entries in the ledger's state.", w.entries);
    out.gauge("mempool_transactions", "Transactions that wait for a block.", w.status.pending_transactions);
}

fn show_validators(out: &mut Lines, all: &ValidatorsView) {
    let how_many = |is: fn(&pasture_api::ValidatorView) -> bool| all.validators.iter().filter(|v| is(v)).count();
    out.gauge("term_number", "Term of the seats.", all.term.number);
    out.gauge("term_end_time_seconds", "From when on a block begins the next term, since 1970.", seconds(all.term.ends.0));
    out.gauge("term_blocks", "Blocks proposed in this term by all seats; not counted while one validator sits.", all.term.blocks);
    out.gauge("validators_seated", "Seats of this term.", all.term.seats);
    out.gauge("validators_standing", "Validators that stand for election.", how_many(|v| v.stands));
    out.gauge("validators_suspended", "Validators that are suspended.", how_many(|v| v.suspended.is_some()));
    out.gauge("peers", "Others that this validator is connected with.", all.this.peers);
    out.gauge("engine_term_number", "Term of the engine, at whose end those who certify may change.", all.this.engine_term);
    out.gauge("engine_certifiers", "Validators that certify the next block.", all.this.certifiers);
    out.gauge("engine_certifies", "1 if this validator is one of them.", u8::from(all.this.certifies));
    let this = all.of(&all.this.key);
    out.gauge("validator_seated", "1 if this validator has a seat in this term.", u8::from(this.is_some_and(|v| v.seated)));
    out.gauge("validator_suspended", "1 if this validator is suspended.", u8::from(this.is_some_and(|v| v.suspended.is_some())));
    out.gauge("validator_term_blocks", "Blocks that this validator proposed in this term.", this.map_or(0, |v| v.proposed));
    out.gauge("validator_term_blocks_share", "Blocks that a seat proposed on average in this term.", all.term.share());
}

fn show_process(out: &mut Lines, usage: &Usage) {
    out.known("process_resident_memory_bytes", "Memory that this process holds.", usage.resident_bytes);
    if let Some(cpu) = usage.cpu {
        out.add("process_cpu_seconds_total", "counter", "Processor time that this process used.", cpu.as_secs_f64());
    }
    out.known("process_threads", "Threads of this process.", usage.threads);
    out.known("process_open_files", "Files and sockets that this process has open.", usage.open_files);
    out.known("process_max_open_files", "Files and sockets that this process may have open.", usage.max_files);
}
