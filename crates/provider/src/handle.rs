//! What the owner of a node may ask of it while it runs: pausing, resuming, draining, leaving.
//!
//! Guarantees: a wish is durable before a call answers; a call that has to wait for the network says how far that got instead
//! of waiting for ever. It is cheap to clone and keeps nothing alive that a shutdown would wait for.

use crate::config::Mandate;
use crate::context::Context;
use crate::error::ProviderError;
use crate::pause::{OfferState, Paused};
use crate::provider::ProviderStatus;
use crate::reconcile;
use crate::tenants::Blocked;
use pasture_api::AccountView;
use pasture_rt::TaskKind;
use pasture_types::stake::DepositAction;
use pasture_types::tx::Action;
use pasture_types::{AccountId, Amount, Millis, NodeId, Timestamp};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a change of the offer is waited for before the caller is told that the network does not know of it yet.
const OFFER_WAIT: Duration = Duration::from_secs(10);
/// How often the ledger is asked whether the last leases are settled: nothing tells of the last one alone.
const SETTLED_LOOK: Duration = Duration::from_secs(1);

/// A running provider, for its owner.
#[derive(Clone)]
pub struct ProviderHandle {
    pub(crate) ctx: Arc<Context>,
    pub(crate) address: SocketAddr,
}

impl ProviderHandle {
    /// The node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.ctx.node
    }

    /// The account that earns.
    #[must_use]
    pub fn account(&self) -> AccountId {
        self.ctx.options.mandate.account()
    }

    /// Whether its account's key is elsewhere: it answers for itself then, not for the account's deposit.
    #[must_use]
    pub fn is_enrolled(&self) -> bool {
        matches!(self.ctx.options.mandate, Mandate::Enrolled { .. })
    }

    /// What it is doing now.
    #[must_use]
    pub fn status(&self) -> ProviderStatus {
        let now = Timestamp(self.ctx.clock.now_ms());
        ProviderStatus {
            node: self.ctx.node,
            provider: self.account(),
            data_address: self.address,
            connected: self.ctx.counters.connected(),
            draining: self.ctx.is_draining(),
            paused: self.ctx.pause.wish(),
            offer: self.ctx.pause.offer().borrow().clone(),
            offered: self.ctx.options.offer.resources.clone(),
            held: self.ctx.leases.held(),
            leases: self.ctx.leases.all().iter().map(|l| l.status_at(now)).collect(),
            unfinished: self.unfinished(),
            images: self.ctx.images.summary(),
            heartbeats: self.ctx.counters.heartbeats(),
        }
    }

    /// Takes no further leases; what runs goes on, or ends within `jobs_end_in` where that is said: those that agreed to be
    /// ended early with notice, as `preempted`, the others as stopped by the provider.
    ///
    /// # Errors
    /// The wish cannot be written down.
    pub async fn pause(&self, jobs_end_in: Option<Millis>) -> Result<OfferState, ProviderError> {
        let now = self.ctx.now();
        let since = self.ctx.pause.wish().map_or(now, |p| p.since);
        self.wish(Some(Paused { since, end_by: jobs_end_in.map(|wait| now.plus(wait)) })).await
    }

    /// Takes leases again.
    ///
    /// # Errors
    /// The wish cannot be written down.
    pub async fn resume(&self) -> Result<OfferState, ProviderError> {
        self.wish(None).await
    }

    /// Turns an account away from now on, and ends its jobs if that is said.
    ///
    /// # Errors
    /// It cannot be written down.
    pub async fn block(&self, blocked: Blocked, end_jobs: bool) -> Result<(), ProviderError> {
        let (ctx, account) = (Arc::clone(&self.ctx), blocked.account);
        let written = pasture_rt::spawn_blocking(TaskKind::Reconciler, move || ctx.tenants.set(account, Some(blocked)));
        written.join().await.unwrap_or(Ok(()))?;
        if end_jobs {
            reconcile::stop_jobs_of(&self.ctx, &account).await;
        }
        Ok(())
    }

    /// Serves an account again.
    ///
    /// # Errors
    /// It cannot be written down.
    pub async fn unblock(&self, account: AccountId) -> Result<(), ProviderError> {
        let ctx = Arc::clone(&self.ctx);
        let written = pasture_rt::spawn_blocking(TaskKind::Reconciler, move || ctx.tenants.set(account, None));
        written.join().await.unwrap_or(Ok(()))
    }

    async fn wish(&self, wish: Option<Paused>) -> Result<OfferState, ProviderError> {
        let mut offer = self.ctx.pause.offer();
        if wish != self.ctx.pause.wish() {
            let ctx = Arc::clone(&self.ctx);
            let written = pasture_rt::spawn_blocking(TaskKind::Reconciler, move || ctx.pause.set(wish));
            written.join().await.unwrap_or(Ok(()))?;
        }
        let settled = offer.wait_for(|state| *state != OfferState::Pending);
        let known = match tokio::time::timeout(OFFER_WAIT, settled).await {
            Ok(Ok(state)) => state.clone(),
            _ => OfferState::Pending,
        };
        Ok(known)
    }

    /// Leases that are not over: their jobs run, or the last of them is not on the ledger or in the engine still.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.ctx.leases.all().iter().filter(|l| !l.is_finished()).count()
    }

    /// Returns once no lease is left to finish; `tell` hears how many are, whenever that was looked at.
    pub async fn idle(&self, mut tell: impl FnMut(usize)) {
        loop {
            let left: Vec<_> = self.ctx.leases.all().into_iter().filter(|l| !l.is_finished()).collect();
            tell(left.len());
            let Some(first) = left.first() else { return };
            let _ = first.view.subscribe().wait_for(|v| v.finished).await;
        }
    }

    /// The account as the ledger has it; `None` if it has none.
    ///
    /// # Errors
    /// The network does not answer.
    pub async fn account_view(&self) -> Result<Option<AccountView>, ProviderError> {
        Ok(self.ctx.network.account(&self.account()).await?)
    }

    /// Whether no lease of this machine needs the deposit any more; of a fleet's other machines nothing is asked.
    async fn is_settled(&self) -> Result<bool, ProviderError> {
        if self.is_enrolled() {
            return Ok(self.ctx.network.node_leases(&self.ctx.node).await?.is_empty());
        }
        Ok(self.account_view().await?.and_then(|v| v.standing).is_none_or(|s| s.in_use.is_zero()))
    }

    /// Returns once no lease needs the deposit any more, at the latest after `within`; says whether that is so.
    pub async fn settled(&self, within: Duration) -> bool {
        let look = async {
            loop {
                // A network that is away is asked again: the deadline is the caller's.
                if matches!(self.is_settled().await, Ok(true)) {
                    return;
                }
                tokio::time::sleep(SETTLED_LOOK).await;
            }
        };
        tokio::time::timeout(within, look).await.is_ok()
    }

    /// Takes that much of the deposit back.
    ///
    /// # Errors
    /// The network does not answer or refuses.
    pub async fn unbond(&self, amount: Amount) -> Result<(), ProviderError> {
        let action = Action::Deposit(DepositAction::Unbond { amount });
        self.ctx.account_submitter.submit(vec![action]).await.map(|_| ()).map_err(|e| ProviderError::Refused(e.to_string()))
    }

    /// Removes from the engine everything that is this node's: containers, networks, volumes, and the images that it pulled or
    /// built. Only after [`ProviderHandle::idle`]. Says how many containers, networks, volumes and images went, and which images
    /// stay because somebody else uses them.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn clear(&self) -> Result<Cleared, ProviderError> {
        let swept = self.ctx.runtime.sweep(&self.ctx.owner, &BTreeSet::new()).await?;
        let (images, kept_images) = self.ctx.images.clear(&*self.ctx.runtime).await;
        if let Some(pool) = self.ctx.pool.clone() {
            pasture_rt::spawn_blocking(TaskKind::Files, move || pool.clear()).join().await;
        }
        Ok(Cleared { containers: swept.instances.len(), networks: swept.networks, volumes: swept.volumes, images, kept_images })
    }

    /// Asks all jobs to end now, whatever they agreed to.
    pub async fn stop_jobs(&self) {
        reconcile::stop_all(&self.ctx).await;
    }
}

/// What a node that leaves took out of its engine.
#[derive(Clone, PartialEq, Eq, Default, Debug, serde::Serialize, serde::Deserialize)]
pub struct Cleared {
    /// Containers.
    pub containers: usize,
    /// Networks without a container.
    pub networks: usize,
    /// Volumes without a container.
    pub volumes: usize,
    /// Images.
    pub images: usize,
    /// Images that stay.
    pub kept_images: Vec<String>,
}
