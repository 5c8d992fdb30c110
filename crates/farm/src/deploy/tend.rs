//! One part of a deployment on its machine: sends what it needs, confirms its service, tells how far it has got.
//!
//! Guarantees: what is confirmed is decided in [`crate::job`], as for a job that is followed on the terminal; a machine that is
//! away is asked again until whoever listens has heard enough. It places, stops and decides nothing.

use super::record::Key;
use crate::commands::watch::{countersign, is_signed};
use crate::exit::Failure;
use crate::feeds::{self, FromNode};
use crate::job::{Verdict, Watch};
use crate::pack::Packed;
use crate::session::{Session, now_ms};
use crate::transfer;
use pasture_api::LeaseView;
use pasture_api::client::LeaseClient;
use pasture_api::data::{LeaseStatus, NodeEvent, Phase};
use pasture_api::publication::SignedPublication;
use pasture_api::secrets::Secrets;
use pasture_rt::{TaskHandle, TaskKind, spawn};
use pasture_types::OrderId;
use pasture_types::lease::Usage;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};

/// How long the last statement of a job that has ended may take to come.
pub(crate) const LAST_WORD: Duration = Duration::from_secs(5);

/// A packed folder that several parts send. One at a time: they read the same open file.
pub(crate) type SharedFolder = Arc<Mutex<Packed>>;

/// What a part tells.
#[derive(Debug)]
pub(crate) struct News {
    /// Which part.
    pub(crate) key: Key,
    /// With which order.
    pub(crate) order: OrderId,
    /// What.
    pub(crate) what: What,
}

/// What a part tells.
#[derive(Debug)]
pub(crate) enum What {
    /// Its description and folder could not be sent.
    NotSent(Failure),
    /// What its machine is doing.
    Status(Box<LeaseStatus>),
}

/// What a machine has to know to run a part.
#[derive(Clone)]
pub(crate) struct Told {
    /// Its description.
    pub(crate) manifest: Vec<u8>,
    /// The secrets that it names.
    pub(crate) secrets: Secrets,
    /// Which of its ports everybody reaches.
    pub(crate) public: Vec<SignedPublication>,
}

/// A part that has a machine.
pub(crate) struct Part {
    pub(crate) key: Key,
    pub(crate) lease: LeaseView,
    /// What it is told, where it may still need that.
    pub(crate) told: Option<Told>,
    pub(crate) folder: Option<SharedFolder>,
}

/// Looks after a part until its job has ended, or nobody listens.
pub(crate) fn tend(session: &Session, part: Part, news: mpsc::Sender<News>) -> TaskHandle {
    let session = session.clone();
    spawn(TaskKind::ClientFollow, async move {
        tokio::select! {
            () = news.closed() => {}
            () = follow(&session, part, &news) => {}
        }
    })
}

async fn follow(session: &Session, part: Part, news: &mpsc::Sender<News>) {
    session.watch_over(&part.lease).await;
    let client = session.lease_client(&part.lease);
    let mut node = feeds::node(&client);
    let accepted = part.lease.accepted.map_or_else(now_ms, |t| t.0.min(now_ms()));
    let watch = Watch::joining(part.lease.id, part.lease.generation, part.lease.alive, accepted, now_ms());
    let mut tended = Tended { session, client: client.clone(), node: part.lease.node, watch };
    let tell = async |what| drop(news.send(News { key: part.key.clone(), order: part.lease.order, what }).await);
    let mut sent = part.told.clone().map(|told| Box::pin(hand_over(client, told, part.folder.clone())));
    let (mut ended, mut settled) = (None, false);
    loop {
        let over = ended.map(|at| at + LAST_WORD);
        tokio::select! {
            done = async { match &mut sent { Some(s) => s.await, None => std::future::pending().await } } => {
                sent = None;
                if let Err(failure) = done {
                    tell(What::NotSent(failure)).await;
                }
            }
            item = node.recv() => match item {
                Some(FromNode::Event(NodeEvent::Status { status })) => {
                    tended.watch.on_phase(status.phase, now_ms());
                    if status.phase == Phase::Ended {
                        // Without service there is no last statement to wait for.
                        settled |= status.served_ms.0 == 0 && status.build_ms.0 == 0;
                        ended.get_or_insert_with(tokio::time::Instant::now);
                    }
                    tell(What::Status(status)).await;
                }
                Some(FromNode::Event(NodeEvent::Usage { usage, node_signature, last })) => {
                    if is_signed(&usage, &tended.node, &node_signature) {
                        tended.on_usage(&usage, last).await;
                        settled |= last;
                    }
                }
                Some(FromNode::Event(NodeEvent::Output { .. } | NodeEvent::Cap { .. }) | FromNode::Away(_)) => {}
                None => return,
            },
            () = async { match over { Some(at) => tokio::time::sleep_until(at).await, None => std::future::pending().await } } => return,
        }
        if ended.is_some() && settled {
            return;
        }
    }
}

/// Hands over what the machine needs; one that has it already says so.
async fn hand_over(client: LeaseClient, told: Told, folder: Option<SharedFolder>) -> Result<(), Failure> {
    let status = crate::patience::patiently(|| client.status()).await?;
    if status.phase > Phase::AwaitingContext {
        return Ok(());
    }
    let Told { manifest, secrets, public } = told;
    let sent = match folder {
        Some(folder) => transfer::send(client.clone(), (secrets, &public), manifest, Some(&*folder.lock().await), None).await,
        None => transfer::send(client.clone(), (secrets, &public), manifest, None, None).await,
    };
    match sent {
        Ok(()) => Ok(()),
        // It may have ended meanwhile, and then its end says more.
        Err(failure) => match client.status().await {
            Ok(status) if status.phase == Phase::Ended || status.end.is_some() => Ok(()),
            _ => Err(failure),
        },
    }
}

struct Tended<'a> {
    session: &'a Session,
    client: LeaseClient,
    node: pasture_types::NodeId,
    watch: Watch,
}

impl Tended<'_> {
    /// No log is read here: the machine is asked whatever the check, but for the last statement.
    async fn on_usage(&mut self, usage: &Usage, last: bool) {
        self.watch.on_output(now_ms());
        let verdict = match self.watch.on_usage(usage, last, now_ms()) {
            Verdict::Confirm if last => Verdict::Confirm,
            Verdict::Confirm | Verdict::Ask => match self.client.alive().await {
                Ok(answer) => self.watch.checked(answer.alive, &answer.detail, now_ms()),
                // Not being reached is no proof of death: nothing is confirmed, and nothing held against the job.
                Err(_) => return,
            },
            refused @ Verdict::Refuse(_) => refused,
        };
        if verdict == Verdict::Confirm && countersign(&self.client, &self.session.confirming_key(), None, usage).await {
            self.watch.confirmed(usage);
        }
    }
}
