//! A machine declared with more cores than it has, before the honest provider takes over.
//!
//! Guarantees (of dishonesty): the speed of a core is declared as it is, so that heartbeats, which ask one core alone, are proven; only a
//! burst on all cores tells. The product declares what it finds and has no way to be told otherwise, so this registers the machine by
//! itself, and the product finds it registered.

use pasture_api::{ApiClient, newcomer};
use pasture_proofs::{BENCHMARK_LENGTH, benchmark_cpu};
use pasture_rt::{Clock as _, SystemClock};
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, NodeDeclaration, TxBody, node_registration_digest};
use pasture_types::{Amount, AssetId, Millis, SigningKey, Timestamp};
use std::path::Path;
use std::time::Instant;

/// Test credits for its deposit and for fees.
const CREDITS: Amount = Amount::credits(1_000);
const VALIDITY: Millis = Millis(60_000);
const MAX_FEE: Amount = Amount(100_000_000);

/// Registers a machine with so many cores, whatever it has.
pub(crate) async fn register(api_url: &str, data: &Path, account_key: &SigningKey, cores: u32) -> anyhow::Result<()> {
    let client = ApiClient::new(api_url)?;
    let now = Timestamp(SystemClock.now_ms());
    newcomer::ensure_account(&client, account_key, CREDITS, now).await?;
    let node_key = pasture_store::keys::load_or_create(&data.join("node.key"))?;
    let account = account_key.account();
    let found = pasture_node::detect(data).await;
    let begun = Instant::now();
    let cpu_hashes_per_s = benchmark_cpu(BENCHMARK_LENGTH, || begun.elapsed());
    let resources = pasture_types::Resources { cpu_millis: cores.saturating_mul(1_000), gpus: vec![], ..found.resources };
    let declaration = NodeDeclaration { resources, cpu_hashes_per_s, cpu_model: found.cpu_model, arch: found.arch };
    let status = client.status().await?;
    let node = node_key.node_id();
    let node_signature = node_key.sign(&node_registration_digest(&status.zone, &account, &node, &declaration));
    let lanes = client.account(&account).await?.lanes;
    let body = TxBody {
        version: ENVELOPE_VERSION,
        zone: status.zone,
        account,
        auth: Auth::Single,
        lane: 0,
        seq: lanes.iter().find(|(lane, _)| *lane == 0).map_or(0, |(_, next)| *next),
        valid_until: status.time.max(now).plus(VALIDITY),
        max_fee: MAX_FEE,
        tip: Amount::ZERO,
        fee_asset: AssetId::CREDIT,
        fee_payer: None,
        actions: vec![Action::RegisterProvider { name: "boaster".into() }, Action::RegisterNode { node, declaration, node_signature }],
    };
    let result = client.submit(&body.sign(account_key)).await?;
    anyhow::ensure!(result.ok, "the machine was not registered: {}", result.message);
    eprintln!("cheat: declared {cores} cores");
    Ok(())
}
