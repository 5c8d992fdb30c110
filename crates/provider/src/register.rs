//! Brings the ledger to what this provider stands for: provider, deposit, node, offer.
//!
//! Guarantees: the gateway knows the way to this node before its offer stands; what stands already is left alone, so that an
//! offer keeps its age across restarts. A node is registered with what was detected and benchmarked, and again only when more is to be offered than it declared.

use crate::ProviderError;
use crate::context::Context;
use crate::detect;
use crate::reconcile::announcement;
use pasture_proofs::{BENCHMARK_LENGTH, benchmark_cpu};
use pasture_rt::TaskKind;
use pasture_types::tx::{Action, NodeDeclaration, node_registration_digest, offer_id};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// The number of a node's one offer.
const OFFER_NUMBER: u32 = 0;

/// Registers what is missing, announces where the data plane listens, and offers.
pub(crate) async fn ensure(ctx: &Arc<Context>, address: SocketAddr) -> Result<(), ProviderError> {
    register(ctx).await?;
    ctx.network.announce(&ctx.node, &announcement(ctx, address)).await?;
    let terms = &ctx.options.offer;
    let offer = offer_id(&ctx.node, OFFER_NUMBER);
    let stands = ctx.network.node_offers(&ctx.node).await?.into_iter().any(|o| o.id == offer && o.terms == *terms);
    if !stands {
        submit(ctx, vec![Action::PutOffer { node: ctx.node, number: OFFER_NUMBER, terms: Box::new(terms.clone()) }]).await?;
        tracing::info!("offering {}", terms.resources);
    }
    Ok(())
}

async fn submit(ctx: &Context, actions: Vec<Action>) -> Result<(), ProviderError> {
    ctx.account_submitter.submit(actions).await.map(|_| ()).map_err(|e| ProviderError::Refused(e.to_string()))
}

/// Provider, deposit and node: one transaction with what is missing, or none.
async fn register(ctx: &Arc<Context>) -> Result<(), ProviderError> {
    let account = ctx.options.provider_key.account();
    let view = ctx.network.account(&account).await?.ok_or(ProviderError::NoAccount(account))?;
    let mut actions = vec![];
    if view.provider.is_none() {
        actions.push(Action::RegisterProvider { name: ctx.options.provider_name.clone() });
    }
    let missing = ctx.facts.params.min_stake.saturating_sub(view.deposit);
    if !missing.is_zero() {
        if view.balance < missing {
            return Err(ProviderError::Deposit { account, needs: missing, has: view.balance });
        }
        actions.push(Action::Stake { amount: missing });
    }
    let terms = &ctx.options.offer;
    let too_large = |has| ProviderError::OfferTooLarge { offered: Box::new(terms.resources.clone()), has: Box::new(has) };
    match ctx.network.node(&ctx.node).await? {
        Some(node) if node.provider != account => return Err(ProviderError::OtherProvider(node.provider)),
        Some(node) if node.resources.covers(&terms.resources) => {}
        // New, or grown since it was declared.
        _ => {
            let declaration = declare(ctx).await;
            if !declaration.resources.covers(&terms.resources) {
                return Err(too_large(declaration.resources));
            }
            let digest = node_registration_digest(&ctx.facts.zone, &account, &ctx.node, &declaration);
            let node_signature = ctx.options.node_key.sign(&digest);
            actions.push(Action::RegisterNode { node: ctx.node, declaration, node_signature });
        }
    }
    if actions.is_empty() { Ok(()) } else { submit(ctx, actions).await }
}

async fn declare(ctx: &Context) -> NodeDeclaration {
    let machine = detect::detect(&ctx.leases_dir).await;
    let measured = pasture_rt::spawn_blocking(TaskKind::Prover, || {
        let begin = Instant::now();
        benchmark_cpu(BENCHMARK_LENGTH, || begin.elapsed())
    });
    // `None` only at the end of the process; the ledger refuses a node without a rate.
    let cpu_hashes_per_s = measured.join().await.unwrap_or(0);
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
