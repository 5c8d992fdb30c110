//! Ledger events to those who follow them.
//!
//! Guarantees: the first event, `ready`, is sent once nothing that happens later can be missed; events come in the
//! ledger's order. A reader that falls behind is disconnected, since it has lost events: it connects again and reads
//! the state afresh. Nothing is kept for readers that are away.

use crate::backend::BlockEvents;
use crate::server::App;
use crate::streams::{AtStop, Held};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use futures::stream::{self, Stream};
use pasture_api::{LedgerEvent, Problem};
use pasture_types::credential::Subject;
use pasture_types::event::Event;
use pasture_types::market_rules::MarketEvent;
use pasture_types::reputation::ReputationEvent;
use pasture_types::{AccountId, Height, LeaseId, NodeId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::broadcast;

/// What a reader follows: events that concern any of these. One who names none of them follows everything.
#[derive(Clone, Copy, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    account: Option<AccountId>,
    node: Option<NodeId>,
    lease: Option<LeaseId>,
}

#[derive(Serialize)]
struct Ready {
    height: Height,
}

/// `GET /v1/events`.
pub(crate) async fn follow(State(app): State<Arc<App>>, filter: Result<Query<Filter>, QueryRejection>) -> Result<Response, Problem> {
    let Query(filter) = filter.map_err(|e| Problem::bad_request(e.body_text()))?;
    let slot = app.streams.take()?;
    let entered = app.metrics.subscribers.enter();
    // Subscribed first, so that whatever is not in the state at this height comes as an event.
    let blocks = blocks(Arc::clone(&app), app.backend.events());
    let ready = Ready { height: app.backend.status()?.height };
    let ready = stream::once(async move { SseEvent::default().event("ready").json_data(ready) });
    let events = ready.chain(blocks.flat_map(move |block| stream::iter(matching(block, filter))));
    let held = Held::new(events, AtStop::End, app.stop.clone(), slot, entered);
    Ok(Sse::new(held).keep_alive(KeepAlive::new().interval(app.options.keep_alive).text("keep-alive")).into_response())
}

/// Blocks as they become final, until the reader has fallen behind or the ledger is gone.
fn blocks(app: Arc<App>, feed: broadcast::Receiver<Arc<BlockEvents>>) -> impl Stream<Item = Arc<BlockEvents>> + Send {
    stream::unfold((app, feed), |(app, mut feed)| async move {
        match feed.recv().await {
            Ok(block) => Some((block, (app, feed))),
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                app.metrics.lagged.fetch_add(1, Ordering::Relaxed);
                tracing::info!(missed, "an event stream's reader fell behind and is disconnected");
                None
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    })
}

/// Encoded one by one as they are sent: a block may hold many.
fn matching(block: Arc<BlockEvents>, filter: Filter) -> impl Iterator<Item = Result<SseEvent, axum::Error>> {
    (0..block.events.len()).filter_map(move |i| {
        let event = block.events.get(i).filter(|e| filter.passes(e))?;
        let event = LedgerEvent { height: block.height, time: block.time, event: event.clone() };
        Some(SseEvent::default().json_data(event))
    })
}

/// Whom an event concerns.
#[derive(Default)]
struct Concerned {
    accounts: [Option<AccountId>; 2],
    node: Option<NodeId>,
    lease: Option<LeaseId>,
}

impl Concerned {
    fn by(event: &Event) -> Self {
        let one = |account: &AccountId| [Some(*account), None];
        match event {
            Event::AccountRegistered { account }
            | Event::ProviderRegistered { account }
            | Event::Staked { account, .. }
            | Event::OrderPlaced { account, .. }
            | Event::OrderEnded { account, .. } => Self { accounts: one(account), ..Self::default() },
            Event::NodeRegistered { node, provider } => Self { accounts: one(provider), node: Some(*node), lease: None },
            Event::Transferred { from, to, .. } => Self { accounts: [*from, Some(*to)], ..Self::default() },
            Event::OfferPut { node, .. } | Event::HeartbeatRecorded { node, .. } => Self { node: Some(*node), ..Self::default() },
            Event::LeaseMatched { lease, account, node, .. }
            | Event::LeaseChanged { lease, account, node, .. }
            | Event::LeaseSettled { lease, account, node, .. } => Self { accounts: one(account), node: Some(*node), lease: Some(*lease) },
            Event::LeaseExtended { lease, node, .. } => Self { node: Some(*node), lease: Some(*lease), ..Self::default() },
            Event::UsageRecorded { lease, account, .. } => Self { accounts: one(account), lease: Some(*lease), node: None },
            Event::Reputation(ReputationEvent::Rated { lease, provider, account, .. }) => {
                Self { accounts: [Some(*provider), Some(*account)], lease: Some(*lease), node: None }
            }
            // Votes and pauses concern everyone.
            Event::OfferWithdrawn { .. } | Event::EpochStarted { .. } | Event::Governance(_) => Self::default(),
            Event::Deposit(e) => Self { accounts: e.accounts(), node: e.node(), lease: None },
            Event::Validator(e) => Self { accounts: [e.operator(), None], node: e.validator(), lease: None },
            Event::Audit(event) => Self { node: Some(*event.node()), ..Self::default() },
            Event::Market(event) => Self::by_market(event),
            Event::Grant(e) => Self { accounts: one(&e.account()), ..Self::default() },
            Event::Keys(e) => Self { accounts: one(&e.account()), ..Self::default() },
            Event::Channel(e) => Self { accounts: [Some(e.parties().0), Some(e.parties().1)], ..Self::default() },
            Event::Credential(e) => match e.subject() {
                Subject::Provider(provider) => Self { accounts: one(&provider), ..Self::default() },
                Subject::Node(node) => Self { node: Some(node), ..Self::default() },
            },
            Event::Service(event) => {
                let (account, node, lease) = event.concerns();
                Self { accounts: [account, None], node, lease }
            }
        }
    }
    fn by_market(event: &MarketEvent) -> Self {
        let one = |account: &AccountId| [Some(*account), None];
        match event {
            MarketEvent::OfferPaused { .. } => Self::default(),
            MarketEvent::NodeDismissed { node, provider } => Self { accounts: one(provider), node: Some(*node), lease: None },
            MarketEvent::LeaseLow { lease, account, .. }
            | MarketEvent::RentalRenewed { lease, account, .. }
            | MarketEvent::RentalCancelled { lease, account, .. } => Self { accounts: one(account), lease: Some(*lease), node: None },
            MarketEvent::PreemptNotice { lease, account, node, .. } => {
                Self { accounts: one(account), node: Some(*node), lease: Some(*lease) }
            }
        }
    }
    const fn nobody(&self) -> bool {
        matches!(self, Self { accounts: [None, None], node: None, lease: None })
    }
}

impl Filter {
    fn passes(&self, event: &Event) -> bool {
        if matches!(self, Self { account: None, node: None, lease: None }) {
            return true;
        }
        let concerned = Concerned::by(event);
        concerned.nobody()
            || self.account.is_some_and(|a| concerned.accounts.contains(&Some(a)))
            || (self.node.is_some() && self.node == concerned.node)
            || (self.lease.is_some() && self.lease == concerned.lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::account::KeyEvent;
    use pasture_types::channel::ChannelEvent;
    use pasture_types::credential::CredentialEvent;
    use pasture_types::event::Hash32;
    use pasture_types::grant::GrantEvent;
    use pasture_types::{Amount, AssetId, ChannelId, CredentialId, GrantId, Millis, OfferId, Timestamp};

    #[test]
    fn a_filter_passes_what_concerns_any_of_its_names() {
        let (a, b, c) = (AccountId([1; 32]), AccountId([2; 32]), AccountId([3; 32]));
        let (node, lease) = (NodeId([4; 32]), LeaseId([5; 32]));
        let transfer = Event::Transferred { from: Some(a), to: b, asset: AssetId::CREDIT, amount: Amount(1) };
        let usage = Event::UsageRecorded { lease, account: a, served_ms: Millis(1), countersigned: true, confirmed_by: Some(a) };
        let extended = Event::LeaseExtended { lease, node, ends: Timestamp(1) };
        let channel = ChannelId([7; 32]);
        let closed = ChannelEvent::Closed { channel, client: a, provider: b, paid: Amount(0), refunded: Amount(0) };
        let of_areas = [
            Event::Grant(GrantEvent::Created { grant: GrantId([8; 32]), account: a }),
            Event::Keys(KeyEvent::Changed { account: a }),
            Event::Channel(closed),
            Event::Credential(CredentialEvent::Ended { credential: CredentialId([9; 32]), subject: Subject::Provider(a) }),
        ];
        for event in &of_areas {
            assert!(Filter { account: Some(a), node: None, lease: None }.passes(event));
            assert!(!Filter { account: Some(c), node: None, lease: None }.passes(event));
        }
        let everyone = [Event::EpochStarted { epoch: 1, randomness: Hash32([0; 32]) }, Event::OfferWithdrawn { offer: OfferId([6; 32]) }];
        let filter = |account, node, lease| Filter { account, node, lease };
        let passes = |f: Filter| [&transfer, &usage, &extended].map(|e| f.passes(e));
        assert_eq!(passes(filter(None, None, None)), [true, true, true]);
        assert_eq!(passes(filter(Some(a), None, None)), [true, true, false]);
        assert_eq!(passes(filter(Some(b), None, None)), [true, false, false]);
        assert_eq!(passes(filter(Some(c), None, None)), [false, false, false]);
        assert_eq!(passes(filter(None, Some(node), None)), [false, false, true]);
        assert_eq!(passes(filter(Some(b), None, Some(lease))), [true, true, true]);
        assert_eq!(passes(filter(None, Some(NodeId([9; 32])), Some(LeaseId([9; 32])))), [false, false, false]);
        for event in &everyone {
            assert!(filter(Some(c), None, None).passes(event));
        }
    }
}
