//! How fast one core verifies and applies transfers, and what single actions cost: the numbers of `docs/specs/ledger.md` §4.
//!
//! Guarantees: real signatures, real records, a block of its own for each batch. It orders nothing and writes no disk.

use pasture_ledger::{Applied, BlockCtx, Signatures, apply, begin_block, check, end_block, genesis};
use pasture_types::genesis::{Genesis, GenesisAccount, GenesisValidator, Params, RULES_VERSION};
use pasture_types::state::MemoryState;
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, TxBody};
use pasture_types::{Amount, AssetId, Millis, SigningKey, Timestamp, ZoneId};
use std::io::Write as _;
use std::time::{Duration, Instant};

const ACCOUNTS: u8 = 100;
const TRANSFERS: u64 = 20_000;
const START: Timestamp = Timestamp(1_800_000_000_000);

fn zone() -> (Genesis, Vec<SigningKey>) {
    let keys: Vec<SigningKey> = (0..ACCOUNTS).map(|n| SigningKey::from_seed([n; 32])).collect();
    let accounts = keys.iter().map(|k| GenesisAccount { key: k.public(), balance: Amount::credits(1_000_000) }).collect();
    let operator = keys.first().map(SigningKey::account).unwrap_or_default();
    let validators = vec![GenesisValidator { key: [0; 32], bls_key: vec![0; 96], bls_pop: vec![0; 48], operator }];
    let genesis = Genesis {
        name: "rate".into(),
        time: START,
        rules_version: RULES_VERSION,
        params: Params::dev(),
        validators,
        accounts,
        assets: vec![],
    };
    (genesis, keys)
}

fn transfers(zone: ZoneId, keys: &[SigningKey]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for n in 0..TRANSFERS {
        let (from, to) = (n % u64::from(ACCOUNTS), (n * 7 + 1) % u64::from(ACCOUNTS));
        let pick = |i: u64| usize::try_from(i).ok().and_then(|i| keys.get(i));
        let (Some(from), Some(to)) = (pick(from), pick(to)) else { continue };
        let body = TxBody {
            version: ENVELOPE_VERSION,
            zone,
            account: from.account(),
            auth: Auth::Single,
            lane: 0,
            seq: n / u64::from(ACCOUNTS),
            valid_until: START.plus(Millis::secs(3600)),
            max_fee: Amount::credits(1),
            tip: Amount::ZERO,
            fee_asset: AssetId::CREDIT,
            fee_payer: None,
            actions: vec![Action::Transfer { to: to.account(), asset: AssetId::CREDIT, amount: Amount(1 + u128::from(n)) }],
        };
        out.push(pasture_types::codec::encode(&body.sign(from)));
    }
    out
}

/// Applies all transfers in blocks of a thousand; the time that took, and how many were done.
fn run(state: &mut MemoryState, txs: &[Vec<u8>], signatures: Signatures) -> (Duration, usize) {
    let began = Instant::now();
    let mut done = 0;
    for (height, batch) in (1u64..).zip(txs.chunks(1_000)) {
        let now = START.plus(Millis(height * 100));
        let ctx = BlockCtx { height, now, parent_time: START.plus(Millis((height - 1) * 100)), randomness: [1; 32], proposer: [0; 32] };
        begin_block(state, &ctx);
        done += batch.iter().filter(|tx| matches!(apply(state, &ctx, tx, signatures), Applied::Done { .. })).count();
        end_block(state, &ctx);
    }
    (began.elapsed(), done)
}

fn main() -> std::io::Result<()> {
    let (genesis_of, keys) = zone();
    let txs = transfers(genesis_of.zone(), &keys);
    let mut out = std::io::stdout().lock();
    for (name, signatures) in [("verify and apply", Signatures::Verify), ("apply, verified before", Signatures::Verified)] {
        let mut state = genesis(&genesis_of);
        let (took, done) = run(&mut state, &txs, signatures);
        let per_second = u128::try_from(done).unwrap_or(0) * 1_000_000 / took.as_micros().max(1);
        let each = took.as_nanos() / u128::try_from(done.max(1)).unwrap_or(1);
        writeln!(out, "{name}: {done} transfers, {per_second}/s, {each} ns each, invariants hold: {}", check(&state).is_ok())?;
    }
    Ok(())
}
