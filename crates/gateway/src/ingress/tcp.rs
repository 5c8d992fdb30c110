//! Ports for what speaks TCP: each name has one of its own, the same whenever it is free.
//!
//! Guarantees: a port is open only while its name is published; who comes to it is one of the connections that the door has in all.

use super::table::Table;
use super::{Ingress, request};
use crate::listener::{BoundedListener, Slots};
use axum::serve::Listener as _;
use pasture_api::publication::Protocol;
use pasture_rt::{Shutdown, ShutdownToken, TaskKind};
use pasture_types::ids::derive;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

const DOMAIN: &str = "pasture 2026-11 ingress port v1";
/// How soon a name that found no port tries again.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Which name has which port. A lock and no owner task: it is held for one look-up.
#[derive(Default, Debug)]
pub(super) struct Ports(Mutex<BTreeMap<String, u16>>);

impl Ports {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u16>> {
        // Nothing that can panic runs while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// The port of a name.
    pub(super) fn of(&self, label: &str) -> Option<u16> {
        self.lock().get(label).copied()
    }
}

/// The ports of a range in the order in which a name tries them.
fn wanted(label: &str, (first, last): (u16, u16)) -> impl Iterator<Item = u16> {
    let [a, b, c, d, ..] = derive(DOMAIN, &[label.as_bytes()]);
    let count = u32::from(last.saturating_sub(first)) + 1;
    let start = u32::from_le_bytes([a, b, c, d]) % count;
    (0..count).filter_map(move |n| u16::try_from(u32::from(first) + (start + n) % count).ok())
}

/// Keeps a port open for each name, until it is cut.
pub(super) async fn serve(ingress: Arc<Ingress>, (ip, range): (IpAddr, (u16, u16)), slots: Slots, cut: ShutdownToken) {
    let mut open = BTreeMap::<String, Shutdown>::new();
    let table: Arc<Table> = Arc::clone(&ingress.table);
    let mut changes = table.changes();
    loop {
        let labels = table.labels(Protocol::Tcp);
        open.retain(|label, closing| {
            let stays = labels.contains(label);
            if !stays {
                closing.trigger();
            }
            stays
        });
        ingress.ports.lock().retain(|label, _| labels.contains(label));
        let mut is_full = false;
        for label in labels.iter().filter(|label| !open.contains_key(*label)).cloned().collect::<Vec<_>>() {
            let Some((listener, port)) = bind(&ingress.ports, &label, ip, range).await else {
                is_full = true;
                tracing::warn!(label, "no port is free for what is published");
                continue;
            };
            let closing = Shutdown::new();
            ingress.ports.lock().insert(label.clone(), port);
            let listener = BoundedListener::new(listener, slots.clone(), Arc::default(), cut.clone());
            let (ingress, token, label_of) = (Arc::clone(&ingress), closing.token(), label.clone());
            pasture_rt::spawn(TaskKind::Server, accept(ingress, label_of, listener, token, cut.clone()));
            open.insert(label, closing);
        }
        let again = async { if is_full { tokio::time::sleep(AGAIN_AFTER).await } else { std::future::pending().await } };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = again => {}
            () = cut.requested() => return,
        }
    }
}

async fn bind(ports: &Ports, label: &str, ip: IpAddr, range: (u16, u16)) -> Option<(TcpListener, u16)> {
    for port in wanted(label, range) {
        let is_taken = ports.lock().values().any(|taken| *taken == port);
        if !is_taken && let Ok(listener) = TcpListener::bind(SocketAddr::new(ip, port)).await {
            return Some((listener, port));
        }
    }
    None
}

async fn accept(ingress: Arc<Ingress>, label: String, mut listener: BoundedListener, closing: ShutdownToken, cut: ShutdownToken) {
    loop {
        let (mut connection, peer) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.requested() => return,
            () = cut.requested() => return,
        };
        let (ingress, label, cut) = (Arc::clone(&ingress), label.clone(), cut.clone());
        pasture_rt::spawn(TaskKind::Connection, async move {
            let carried = async {
                let route = ingress.table.route(&label, Protocol::Tcp).ok_or(request::NOTHING)?;
                let replicas = ingress.ranked(route.replicas, Instant::now());
                let visit = ingress.visit(&route.visitors, &replicas, peer.ip())?;
                let (mut stream, _, busy) = ingress.stream_to(replicas, None).await?;
                let _ = tokio::io::copy_bidirectional(&mut connection, &mut stream).await;
                drop((busy, visit));
                Ok::<_, request::Refused>(())
            };
            // Nothing can be said to who speaks one knows not what: the connection ends.
            if let Some(Err(refused)) = cut.guard(carried).await {
                tracing::debug!(label, why = refused.1, "a connection was not carried");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tries_every_port_of_the_range_and_always_the_same_first() {
        let tries: Vec<u16> = wanted("db-abc", (20_000, 20_009)).collect();
        assert_eq!(tries, wanted("db-abc", (20_000, 20_009)).collect::<Vec<_>>());
        assert_eq!(tries.iter().collect::<std::collections::BTreeSet<_>>().len(), 10);
        assert_eq!(wanted("x", (u16::MAX, u16::MAX)).collect::<Vec<_>>(), [u16::MAX]);
    }
}
