//! Straight to the machine: where nodes can be called by their names, what is for a lease goes to its machine and not by the gateway.
//!
//! Guarantees: a machine that does not answer by its name is asked by the gateway, as if there were no other way, and tried again later. What is
//! sent is the same on both ways: the machine checks the same signature.

use pasture_types::{LeaseId, NodeId};
use reqwest::{Client, RequestBuilder, Url};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a machine may take to show that it can be called: by a relay that is some tenths of a second.
const PROBE: Duration = Duration::from_secs(4);
/// For how long one that cannot is asked by the gateway.
const AVOIDED: Duration = Duration::from_secs(60);

/// Which machines can be called by their names. A lock: it is held for one look-up.
#[derive(Debug, Default)]
pub(super) struct Book(Mutex<HashMap<NodeId, Result<(), Instant>>>);

impl Book {
    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Result<(), Instant>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// What is known of one; nothing if it is not, or no more.
    fn works(&self, node: &NodeId) -> Option<bool> {
        match self.lock().get(node)? {
            Ok(()) => Some(true),
            Err(since) => (since.elapsed() < AVOIDED).then_some(false),
        }
    }
    fn note(&self, node: NodeId, works: bool) {
        self.lock().insert(node, if works { Ok(()) } else { Err(Instant::now()) });
    }
}

/// The way to one lease's machine.
#[derive(Clone, Debug)]
pub(super) struct Straight {
    book: Arc<Book>,
    node: NodeId,
    /// Where the gateway forwards the lease's requests, and where its machine takes them.
    forwarded: String,
    own: String,
    machine: String,
}

impl Straight {
    pub(super) fn new(book: Arc<Book>, base: &str, lease: &LeaseId, node: NodeId) -> Self {
        let machine = format!("http://{node}.node");
        Self { book, node, forwarded: format!("{base}/v1/leases/{lease}/data/"), own: format!("{machine}/leases/{lease}/"), machine }
    }

    /// The way to a machine's blobs.
    pub(super) fn of_blobs(book: Arc<Book>, base: &str, node: NodeId) -> Self {
        let machine = format!("http://{node}.node");
        Self { book, node, forwarded: format!("{base}/v1/nodes/{node}/blobs/"), own: format!("{machine}/blobs/"), machine }
    }

    /// Has a request go to the machine itself, if that can be called.
    pub(super) async fn turned(&self, http: &Client, request: RequestBuilder) -> RequestBuilder {
        if !self.works(http).await {
            return request;
        }
        let (client, built) = request.build_split();
        match built {
            Ok(mut built) => {
                if let Some(url) = self.own_url(built.url()) {
                    *built.url_mut() = url;
                }
                RequestBuilder::from_parts(client, built)
            }
            // Whoever sends it hears why it cannot be sent.
            Err(_) => client.get(&self.forwarded),
        }
    }

    fn own_url(&self, url: &Url) -> Option<Url> {
        let rest = url.as_str().strip_prefix(&self.forwarded)?;
        format!("{}{rest}", self.own).parse().ok()
    }

    async fn works(&self, http: &Client) -> bool {
        if let Some(known) = self.book.works(&self.node) {
            return known;
        }
        // Any answer will do; there is nothing at its root.
        let works = http.get(&self.machine).timeout(PROBE).send().await.is_ok();
        self.book.note(self.node, works);
        works
    }

    /// It was called and not reached.
    pub(super) fn failed(&self) {
        self.book.note(self.node, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_the_lease_goes_to_its_machine_and_nothing_else_does() {
        let (lease, node) = (LeaseId([1; 32]), NodeId([2; 32]));
        let straight = Straight::new(Arc::default(), "http://network-01.api", &lease, node);
        let own = |url: String| straight.own_url(&url.parse().unwrap()).map(String::from);
        let forwarded = format!("http://network-01.api/v1/leases/{lease}/data/logs?from=7&follow=true");
        assert_eq!(own(forwarded), Some(format!("http://{node}.node/leases/{lease}/logs?from=7&follow=true")));
        assert_eq!(own(format!("http://network-01.api/v1/leases/{}/data/logs", LeaseId([3; 32]))), None);
        assert_eq!(own(format!("http://network-01.api/v1/leases/{lease}")), None);
    }

    #[test]
    fn a_machine_that_was_not_reached_is_avoided_for_a_while() {
        let (book, node) = (Book::default(), NodeId([2; 32]));
        assert_eq!(book.works(&node), None);
        book.note(node, true);
        assert_eq!(book.works(&node), Some(true));
        book.note(node, false);
        assert_eq!(book.works(&node), Some(false));
        book.lock().insert(node, Err(Instant::now().checked_sub(AVOIDED).unwrap()));
        assert_eq!(book.works(&node), None);
    }
}
