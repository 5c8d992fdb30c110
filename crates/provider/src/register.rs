//! Brings the ledger to what this provider stands for: provider, deposit, node, offer.
//!
//! Guarantees: the gateway knows the way to this node before its offer stands; what stands already is left alone, so that an
//! offer keeps its age across restarts. Without the credits for a deposit a provider begins as a newcomer (`docs/specs/stake.md` §5). A node is registered with what was detected and benchmarked, and again only when more is to be offered than it declared.

use crate::ProviderError;
use crate::config::{Mandate, MissingDeposit};
use crate::context::Context;
use crate::detect;
use crate::pause::{self, OfferState};
use crate::reconcile::announcement;
use crate::submit::{Signer, SubmitError, Submitter};
use pasture_api::{AccountView, Beginning, DepositView};
use pasture_proofs::{BENCHMARK_LENGTH, benchmark_cpu};
use pasture_rt::TaskKind;
use pasture_types::grant::{EnrollCode, MAX_GRANT_LANES};
use pasture_types::stake::{DepositAction, Stamp};
use pasture_types::tx::{Action, Auth, NodeDeclaration, node_registration_digest, offer_id};
use pasture_types::{AccountId, Amount, SigningKey};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The number of a node's one offer.
const OFFER_NUMBER: u32 = 0;
/// Tries of a stamp between two looks at whether we are to stop: some 400 ms.
const STAMP_TRIES: u64 = 64;
/// What a machine that others of its fleet overtook waits, for each step of a byte of its key: up to two seconds.
const OVERTAKEN_STEP_MS: u64 = 8;
const DAY_MS: u64 = 24 * 3_600_000;

/// Registers what is missing, announces where the data plane listens, and offers.
pub(crate) async fn ensure(ctx: &Arc<Context>, address: SocketAddr) -> Result<(), ProviderError> {
    // Who takes no lease needs no deposit for one.
    if !ctx.is_draining() {
        match &ctx.options.mandate {
            Mandate::Key(key) => register(ctx, key).await?,
            Mandate::Enrolled { account, code } => enroll(ctx, account, code.as_ref()).await?,
        }
    }
    ctx.network.announce(&ctx.node, &announcement(ctx, address)).await?;
    pause::settle_offer(ctx).await?;
    match &*ctx.pause.offer().borrow() {
        OfferState::Refused(why) if !ctx.is_draining() => Err(ProviderError::Refused(why.clone())),
        _ => Ok(()),
    }
}

/// Puts the offer if it does not stand as it should.
pub(crate) async fn put_missing(ctx: &Context) -> Result<(), ProviderError> {
    let terms = &ctx.options.offer;
    let offer = offer_id(&ctx.node, OFFER_NUMBER);
    let stands = ctx.network.node_offers(&ctx.node).await?.into_iter().any(|o| o.id == offer && o.terms == *terms);
    if !stands {
        submit(ctx, vec![Action::PutOffer { node: ctx.node, number: OFFER_NUMBER, terms: Box::new(terms.clone()) }]).await?;
        tracing::info!("offering {}", terms.resources);
    }
    Ok(())
}

/// Takes the offer away if it stands.
pub(crate) async fn withdraw_standing(ctx: &Context) -> Result<(), ProviderError> {
    let offer = offer_id(&ctx.node, OFFER_NUMBER);
    if ctx.network.node_offers(&ctx.node).await?.into_iter().any(|o| o.id == offer) {
        submit(ctx, vec![Action::WithdrawOffer { offer }]).await?;
        tracing::info!("the offer is withdrawn");
    }
    Ok(())
}

async fn submit(ctx: &Context, actions: Vec<Action>) -> Result<(), ProviderError> {
    ctx.account_submitter.submit(actions).await.map(|_| ()).map_err(|e| ProviderError::Refused(e.to_string()))
}

/// Account, provider, deposit or a newcomer's stamp, and node: one transaction with what is missing, or none.
async fn register(ctx: &Arc<Context>, key: &SigningKey) -> Result<(), ProviderError> {
    let account = key.account();
    let view = ctx.network.account(&account).await?;
    let mut actions = vec![];
    if view.is_none() {
        actions.push(Action::RegisterAccount { keys: vec![key.public()], threshold: 1 });
    }
    if view.as_ref().is_none_or(|v| v.provider.is_none()) {
        actions.push(Action::RegisterProvider { name: ctx.options.provider_name.clone() });
    }
    let begins = match deposit(ctx, view.as_ref())? {
        Deposit::Stands => false,
        Deposit::Post(amount) => {
            actions.push(Action::Stake { amount });
            false
        }
        Deposit::Earn => {
            actions.push(Action::Deposit(DepositAction::Newcomer { stamp: stamp(ctx).await? }));
            true
        }
    };
    if let Some(action) = node(ctx, &account).await? {
        actions.push(action);
    }
    if actions.is_empty() {
        return Ok(());
    }
    match ctx.account_submitter.submit(actions).await {
        Ok(_) => Ok(()),
        Err(e) if begins => Err(ProviderError::Newcomer { account, why: e.to_string() }),
        Err(e) => Err(ProviderError::Refused(e.to_string())),
    }
}

/// The node, where its account's key is elsewhere: added once with the fleet's code, declared anew by itself.
async fn enroll(ctx: &Arc<Context>, account: &AccountId, code: Option<&EnrollCode>) -> Result<(), ProviderError> {
    let known = ctx.network.node(&ctx.node).await?.is_some();
    let Some(action) = node(ctx, account).await? else { return Ok(()) };
    if known {
        return submit(ctx, vec![action]).await;
    }
    let refused = |why: &str| ProviderError::NotEnrolled { account: *account, why: why.into() };
    let code = code.ok_or_else(|| refused("it has no code"))?;
    let signer = Signer {
        zone: ctx.facts.zone,
        account: *account,
        auth: Auth::Delegated(code.grant),
        key: code.key(),
        max_fee: ctx.options.max_fee,
        // The machines of a fleet that start together share few lanes.
        first_lane: ctx.node.0.first().map_or(0, |byte| byte % MAX_GRANT_LANES),
        lanes: 1,
    };
    let submitter = Submitter::new(Arc::clone(&ctx.network), ctx.ledger_clock.clone(), signer, ctx.cancel.clone());
    // Each waits another while, since they have other keys.
    let mut whiles = ctx.node.0.iter().map(|byte| Duration::from_millis(u64::from(*byte) * OVERTAKEN_STEP_MS));
    loop {
        match submitter.submit(vec![action.clone()]).await {
            Ok(_) => break,
            Err(SubmitError::Overtaken(why)) => match whiles.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(refused(&why)),
            },
            // Whether it was taken the ledger shows.
            Err(_) if ctx.network.node(&ctx.node).await?.is_some_and(|n| n.provider == *account) => break,
            Err(e) => return Err(refused(&e.to_string())),
        }
    }
    tracing::info!(account = %account.short(), "this machine is part of its account's fleet");
    Ok(())
}

/// What is to be done about the deposit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deposit {
    /// It is there, or its leases are small enough to do without.
    Stands,
    /// So much has to be posted.
    Post(Amount),
    /// It is to be earned.
    Earn,
}

fn deposit(ctx: &Context, view: Option<&AccountView>) -> Result<Deposit, ProviderError> {
    let standing = view.and_then(|v| v.standing.as_deref());
    let missing = standing.map_or(ctx.facts.params.min_stake, DepositView::missing);
    let beginning = standing.map(|s| s.beginning).unwrap_or_default();
    if missing.is_zero() || beginning == Beginning::Newcomer {
        return Ok(Deposit::Stands);
    }
    let has = view.map_or(Amount::ZERO, |v| v.balance);
    // The registration's own fee comes from the balance as well.
    let affords = has >= missing.saturating_add(ctx.options.max_fee);
    // Nobody begins twice, and a fault is not forgotten.
    let may_earn = beginning == Beginning::Deposit && standing.is_none_or(|s| s.forfeited.is_zero());
    match ctx.options.missing_deposit {
        MissingDeposit::Post if affords => Ok(Deposit::Post(missing)),
        _ if may_earn => Ok(Deposit::Earn),
        _ if has >= missing => Ok(Deposit::Post(missing)),
        _ => Err(ProviderError::Deposit { account: ctx.options.mandate.account(), needs: missing, has }),
    }
}

/// The proof of work of a provider that begins without a deposit.
async fn stamp(ctx: &Context) -> Result<Stamp, ProviderError> {
    let (zone, account) = (ctx.facts.zone, ctx.options.mandate.account());
    let bits = ctx.facts.params.stake.stamp_bits;
    let (day, cancel) = (ctx.now().0 / DAY_MS, ctx.cancel.clone());
    tracing::info!(bits, "searching the proof of work of a provider without a deposit");
    let search = pasture_rt::spawn_blocking(TaskKind::Prover, move || {
        let mut from = 0u64;
        loop {
            if let Some(stamp) = Stamp::search(&zone, &account, day, bits, from, STAMP_TRIES) {
                return Some(stamp);
            }
            if cancel.is_requested() {
                return None;
            }
            from = from.saturating_add(STAMP_TRIES);
        }
    });
    search.join().await.flatten().ok_or_else(|| ProviderError::Refused("the provider is shutting down".into()))
}

/// The node's registration, if it is new or has grown since it was declared.
async fn node(ctx: &Arc<Context>, account: &AccountId) -> Result<Option<Action>, ProviderError> {
    let terms = &ctx.options.offer;
    match ctx.network.node(&ctx.node).await? {
        Some(node) if node.provider != *account => return Err(ProviderError::OtherProvider(node.provider)),
        Some(node) if node.resources.covers(&terms.resources) => return Ok(None),
        _ => {}
    }
    let declaration = declare(ctx).await;
    if !declaration.resources.covers(&terms.resources) {
        let (offered, has) = (Box::new(terms.resources.clone()), Box::new(declaration.resources));
        return Err(ProviderError::OfferTooLarge { offered, has });
    }
    let digest = node_registration_digest(&ctx.facts.zone, account, &ctx.node, &declaration);
    let node_signature = ctx.options.node_key.sign(&digest);
    Ok(Some(Action::RegisterNode { node: ctx.node, declaration, node_signature }))
}

async fn declare(ctx: &Context) -> NodeDeclaration {
    let mut machine = detect::detect(&ctx.leases_dir).await;
    if let Some(gpus) = &ctx.options.gpus {
        machine.resources.gpus = gpus.lines();
    }
    // Audits ask all cores at once: where they are active, a core's part of that is declared, not what one does alone.
    let cores = if ctx.facts.params.audits.active { u64::from(detect::cpu_cores()) } else { 1 };
    let measuring = (0..cores).map(|_| {
        pasture_rt::spawn_blocking(TaskKind::Prover, || {
            let begin = Instant::now();
            benchmark_cpu(BENCHMARK_LENGTH, || begin.elapsed())
        })
    });
    let mut all = 0u64;
    for core in measuring.collect::<Vec<_>>() {
        // `None` only at the end of the process; the ledger refuses a node without a rate.
        all = all.saturating_add(core.join().await.unwrap_or(0));
    }
    let cpu_hashes_per_s = (all / cores).saturating_mul(ctx.options.declared_percent.into()) / 100;
    NodeDeclaration { resources: machine.resources, cpu_hashes_per_s, cpu_model: machine.cpu_model, arch: machine.arch }
}

/// Takes the offer away, so that no further lease is drawn.
pub(crate) async fn withdraw(ctx: &Context) {
    let offer = offer_id(&ctx.node, OFFER_NUMBER);
    match ctx.account_submitter.submit(vec![Action::WithdrawOffer { offer }]).await {
        Ok(_) => tracing::info!("the offer is withdrawn"),
        Err(error) => tracing::warn!(%error, "the offer could not be withdrawn; leases that are drawn meanwhile are refused"),
    }
}
