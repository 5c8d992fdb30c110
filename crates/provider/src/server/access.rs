//! Who may: each request is signed by a key of the lease's account, by a device's that stands in for it (`delegates.rs`) or, where it only
//! looks and confirms, by one of its watcher's.
//!
//! Guarantees: a watcher reads a lease's status and events, makes the order's check and confirms; inputs, logs and output are the
//! user's alone, and so is stopping; what is no lease's is its account's alone. Nothing is told of leases to anybody else.

use super::delegates;
use crate::context::Context;
use crate::lease::{Shared, Watcher};
use axum::extract::{FromRequestParts, Path};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use pasture_api::{Problem, auth};
use pasture_types::keys::parse_public_key;
use pasture_types::{AccountId, LeaseId, NodeId, PublicKey};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How long an account's keys, and who watches, are used before they are read again: the longest that a removed key still works.
const FRESH_MS: u64 = 60_000;
/// Least time between two readings because of an unknown key.
const PAUSE_MS: u64 = 1_000;

/// Who signed a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    /// The lease's account, or a device in its place.
    User,
    /// Its watcher, by this account.
    Watcher(AccountId),
}

/// The lease of a request by its user. It comes before the request's query and body, so that nothing of a stranger's is read.
pub(crate) struct Lease(pub(crate) Arc<Shared>);

/// The lease of a request by its user or its watcher.
pub(crate) struct Watched(pub(crate) Arc<Shared>, pub(crate) Who);

impl FromRequestParts<Arc<Context>> for Lease {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, ctx: &Arc<Context>) -> Result<Self, Problem> {
        let (lease, key) = signed(parts, ctx).await?;
        if is_served(ctx, &lease, &key).await? { Ok(Self(lease)) } else { Err(forbidden()) }
    }
}

impl FromRequestParts<Arc<Context>> for Watched {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, ctx: &Arc<Context>) -> Result<Self, Problem> {
        let (lease, key) = signed(parts, ctx).await?;
        let who = if is_served(ctx, &lease, &key).await? { Who::User } else { named(ctx, &lease, &key).await? };
        Ok(Self(lease, who))
    }
}

/// The lease of a request by its user, or by a machine that the user lets in: then only what it lets it in to may be done.
pub(crate) struct Entrant {
    pub(crate) lease: Arc<Shared>,
    pub(crate) machine: Option<NodeId>,
}

impl FromRequestParts<Arc<Context>> for Entrant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, ctx: &Arc<Context>) -> Result<Self, Problem> {
        let (lease, key) = signed(parts, ctx).await?;
        let machine = lease.private.borrow().admits.iter().map(|a| a.node).find(|node| PublicKey::from(*node) == key);
        // A machine's key is never an account's here, even if it is one.
        match machine {
            Some(_) => Ok(Self { lease, machine }),
            None if is_served(ctx, &lease, &key).await? => Ok(Self { lease, machine: None }),
            None => Err(forbidden()),
        }
    }
}

/// The node of the ledger that signed a request.
pub(crate) struct Machine;

impl FromRequestParts<Arc<Context>> for Machine {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, ctx: &Arc<Context>) -> Result<Self, Problem> {
        let PublicKey::Ed25519(key) = signer(parts, ctx)? else { return Err(stranger()) };
        let node = NodeId(key);
        let now = ctx.clock.now_ms();
        if let Some(known) = ctx.known_nodes.get(&node, now) {
            return if known { Ok(Self) } else { Err(stranger()) };
        }
        // A stranger with many keys makes this node ask no more often than this.
        if !ctx.known_nodes.may_ask(now) {
            return Err(Problem::unavailable("who this is cannot be looked up now: try again in a moment"));
        }
        let view = ctx.network.node(&node).await;
        let view = view.map_err(|error| Problem::unavailable(format!("who this is cannot be looked up now: {error}")))?;
        ctx.known_nodes.set(node, view.is_some(), now);
        if view.is_some() { Ok(Self) } else { Err(stranger()) }
    }
}

fn stranger() -> Problem {
    Problem::forbidden("only nodes of this network may do this: sign with a node's key")
}

/// Which nodes the ledger has, as it was asked. A lock and not an owner task: nobody holds it across an await.
#[derive(Default)]
pub(crate) struct KnownNodes(Mutex<Asked>);

#[derive(Default)]
struct Asked {
    /// Whether it is one, and when that was asked.
    nodes: BTreeMap<NodeId, (bool, u64)>,
    /// When there was a look, of the last second.
    looks: Vec<u64>,
}

impl KnownNodes {
    /// How long an answer counts: a node stays one, and who is none may become one.
    const YES_MS: u64 = 3_600_000;
    const NO_MS: u64 = 10_000;
    /// Looks at the ledger within a second.
    const LOOKS: usize = 20;

    fn get(&self, node: &NodeId, now: u64) -> Option<bool> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (is_one, since) = known.nodes.get(node).copied()?;
        (now.abs_diff(since) < if is_one { Self::YES_MS } else { Self::NO_MS }).then_some(is_one)
    }
    fn set(&self, node: NodeId, is_one: bool, now: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.nodes.len() >= MAX_KNOWN {
            known.nodes.clear();
        }
        known.nodes.insert(node, (is_one, now));
    }
    fn may_ask(&self, now: u64) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.looks.retain(|then| now.abs_diff(*then) < 1_000);
        let room = known.looks.len() < Self::LOOKS;
        if room {
            known.looks.push(now);
        }
        room
    }
}

/// The account of a request that is about no lease, signed by a key of it. Accounts that have nothing here are told so without a look at
/// the ledger: nobody can make this node ask for others.
pub(crate) struct Account(pub(crate) AccountId);

/// Keys of accounts and when they were read. A lock and not an owner task: nobody holds it across an await.
#[derive(Default)]
pub(crate) struct AccountKeys(Mutex<BTreeMap<AccountId, (Vec<PublicKey>, u64)>>);

/// Most accounts whose keys are kept; then all are read again.
const MAX_KNOWN: usize = 4096;

impl AccountKeys {
    fn get(&self, account: &AccountId) -> Option<(Vec<PublicKey>, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(account).cloned()
    }
    fn set(&self, account: AccountId, keys: Vec<PublicKey>, now: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(account, (keys, now));
    }
}

#[derive(Deserialize)]
struct Named {
    account: String,
}

impl FromRequestParts<Arc<Context>> for Account {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, ctx: &Arc<Context>) -> Result<Self, Problem> {
        let Path(Named { account }) =
            Path::<Named>::from_request_parts(parts, ctx).await.map_err(|e| Problem::bad_request(e.body_text()))?;
        let key = signer(parts, ctx)?;
        let account = account.parse::<AccountId>().map_err(|e| Problem::bad_request(e.to_string()))?;
        if !ctx.volumes.knows(&account).await {
            return Err(Problem::not_found("account on this node"));
        }
        if delegates::is_known(ctx, &account, &key)
            || owns(ctx, &account, &key).await?
            || delegates::stands_in_for(ctx, &account, &key).await?
        {
            Ok(Self(account))
        } else {
            Err(Problem::forbidden("this key does not belong to the account"))
        }
    }
}

/// Whether a key belongs to an account.
async fn owns(ctx: &Context, account: &AccountId, key: &PublicKey) -> Result<bool, Problem> {
    let now = ctx.clock.now_ms();
    let (fits, age) = ctx.account_keys.get(account).map_or((false, u64::MAX), |(keys, at)| (keys.contains(key), now.abs_diff(at)));
    match known(fits, age) {
        Known::Good => return Ok(true),
        Known::Bad => return Ok(false),
        Known::Ask => {}
    }
    match keys_of(ctx, account).await {
        Ok(keys) => {
            let allowed = keys.contains(key);
            ctx.account_keys.set(*account, keys, now);
            Ok(allowed)
        }
        Err(_) if fits => Ok(true),
        Err(problem) => Err(problem),
    }
}

/// The key that signed a request.
fn signer(parts: &Parts, ctx: &Context) -> Result<PublicKey, Problem> {
    let header = parts.headers.get(AUTHORIZATION).and_then(|h| h.to_str().ok());
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    auth::verify(header, parts.method.as_str(), path, &ctx.node, ctx.clock.now_ms()).map_err(|e| Problem::unauthorized(e.to_string()))
}

async fn signed(parts: &mut Parts, ctx: &Arc<Context>) -> Result<(Arc<Shared>, PublicKey), Problem> {
    let Path(id) = Path::<String>::from_request_parts(parts, ctx).await.map_err(|e| Problem::bad_request(e.body_text()))?;
    let key = signer(parts, ctx)?;
    let known = id.parse::<LeaseId>().ok().and_then(|id| ctx.leases.get(&id));
    Ok((known.ok_or_else(|| Problem::not_found("lease on this node"))?, key))
}

/// Whether a key may do with a lease what its account may.
async fn is_served(ctx: &Context, lease: &Shared, key: &PublicKey) -> Result<bool, Problem> {
    let account = &lease.terms.account;
    Ok(delegates::is_known(ctx, account, key) || is_user(ctx, lease, key).await? || delegates::stands_in_for(ctx, account, key).await?)
}

/// Whose key this is, where service is confirmed: a device confirms as the watcher that it is, since the ledger takes no grant for this.
pub(crate) async fn confirmer(ctx: &Context, lease: &Shared, key: &PublicKey) -> Result<Who, Problem> {
    let device = delegates::is_known(ctx, &lease.terms.account, key);
    if !device && is_user(ctx, lease, key).await? { Ok(Who::User) } else { named(ctx, lease, key).await }
}

/// The watcher whose key this is; nobody else is told more.
async fn named(ctx: &Context, lease: &Shared, key: &PublicKey) -> Result<Who, Problem> {
    match watcher(ctx, lease, key).await? {
        Some(account) => Ok(Who::Watcher(account)),
        None => Err(forbidden()),
    }
}

/// What to do about something known for so long.
enum Known {
    Good,
    Bad,
    Ask,
}

const fn known(fits: bool, age: u64) -> Known {
    match (fits, age) {
        (true, ..FRESH_MS) => Known::Good,
        (false, ..PAUSE_MS) => Known::Bad,
        _ => Known::Ask,
    }
}

/// Whether a key belongs to the lease's account.
async fn is_user(ctx: &Context, lease: &Shared, key: &PublicKey) -> Result<bool, Problem> {
    let now = ctx.clock.now_ms();
    let (fits, age) = {
        let keys = lease.keys.borrow();
        (keys.0.contains(key), if keys.0.is_empty() { u64::MAX } else { now.abs_diff(keys.1) })
    };
    match known(fits, age) {
        Known::Good => return Ok(true),
        Known::Bad => return Ok(false),
        Known::Ask => {}
    }
    match keys_of(ctx, &lease.terms.account).await {
        Ok(keys) => {
            let allowed = keys.contains(key);
            lease.keys.send_replace((keys, now));
            Ok(allowed)
        }
        // What was known a while ago still counts while the network is away.
        Err(_) if fits => Ok(true),
        Err(problem) => Err(problem),
    }
}

/// The watcher's account, if the key is one of its.
async fn watcher(ctx: &Context, lease: &Shared, key: &PublicKey) -> Result<Option<AccountId>, Problem> {
    let now = ctx.clock.now_ms();
    let (was, age) = {
        let watcher = lease.watcher.borrow();
        let fits = watcher.0.as_ref().filter(|w| w.keys.contains(key)).map(|w| w.account);
        (fits, now.abs_diff(watcher.1))
    };
    match known(was.is_some(), age) {
        Known::Good => return Ok(was),
        Known::Bad => return Ok(None),
        Known::Ask => {}
    }
    let named = match ctx.network.lease(&lease.id()).await {
        Ok(view) => view.and_then(|v| v.tenure.watcher),
        Err(_) if was.is_some() => return Ok(was),
        Err(error) => return Err(Problem::unavailable(format!("who watches cannot be looked up now: {error}"))),
    };
    let watcher = match named {
        Some(account) => Some(Watcher { account, keys: keys_of(ctx, &account).await? }),
        None => None,
    };
    let fits = watcher.as_ref().filter(|w| w.keys.contains(key)).map(|w| w.account);
    lease.watcher.send_replace((watcher, now));
    Ok(fits)
}

async fn keys_of(ctx: &Context, account: &AccountId) -> Result<Vec<PublicKey>, Problem> {
    let view = ctx.network.account(account).await;
    let view = view.map_err(|error| Problem::unavailable(format!("whose key this is cannot be looked up now: {error}")))?;
    Ok(view.map(|a| a.keys.iter().filter_map(|k| parse_public_key(k).ok()).collect()).unwrap_or_default())
}

fn forbidden() -> Problem {
    Problem::forbidden("this key does not belong to the lease's account")
}
