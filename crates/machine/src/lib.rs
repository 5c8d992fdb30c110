//! The ledger as the engine's state machine.
//!
//! Guarantees: nothing but translation. The engine sees bytes and tables, the ledger sees blocks and transactions; neither
//! knows the other, so that a change of the ledger does not build the engine again. A node and the simulation run this same code.

use bytes::Bytes;
use pasture_chain::{Admission, BlockContext, Due, Entries, Machine, Rejection, TxOutcome, Validator};
use pasture_ledger::{Applied, BlockCtx, Signatures, TxError};
use pasture_types::event::Event;
use pasture_types::genesis::Genesis;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{Timestamp, codec};

/// Largest encoded event.
const MAX_EVENT_BYTES: usize = 64 * 1024;

/// Reads the entries of a state that was carried here.
pub type Carried = Box<dyn Fn() -> Result<Entries, String> + Send + Sync>;

/// The ledger of one zone.
pub struct LedgerMachine {
    genesis: Genesis,
    /// What the zone goes on from, if its state was carried here.
    carried: Option<Carried>,
}

impl LedgerMachine {
    /// The ledger that a genesis begins.
    #[must_use]
    pub const fn new(genesis: Genesis) -> Self {
        Self { genesis, carried: None }
    }

    /// The ledger of a zone that goes on with a state that was carried here.
    #[must_use]
    pub const fn carried(genesis: Genesis, carried: Carried) -> Self {
        Self { genesis, carried: Some(carried) }
    }
}

fn context(ctx: &BlockContext) -> BlockCtx {
    BlockCtx {
        height: ctx.height,
        now: Timestamp(ctx.timestamp_ms),
        parent_time: Timestamp(ctx.parent_timestamp_ms),
        randomness: ctx.randomness,
        proposer: ctx.proposer,
    }
}

fn encode(events: &[Event]) -> Vec<Vec<u8>> {
    events.iter().map(codec::encode).collect()
}

/// Reads events back. An unreadable one is left out: events are a feed, not state.
pub fn decode_events<'a>(events: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<Event> {
    events.into_iter().filter_map(|bytes| codec::decode(bytes, MAX_EVENT_BYTES).ok()).collect()
}

fn rejection(error: &TxError) -> Rejection {
    Rejection { code: error.code(), message: error.to_string() }
}

/// What the ledger leaves to who knows the curve: that new validators hold their BLS keys. It depends on the bytes alone,
/// like a signature, so it is checked at admission and in another validator's block, and nowhere else.
fn possession(tx: &[u8]) -> Result<(), TxError> {
    for v in pasture_ledger::proofs_of_possession(tx)? {
        if !(Validator { key: v.key, bls_key: v.bls_key, bls_pop: v.bls_pop }).verify() {
            return Err(TxError::Possession);
        }
    }
    Ok(())
}

impl Machine for LedgerMachine {
    fn genesis(&self) -> Result<Entries, String> {
        match &self.carried {
            None => Ok(pasture_ledger::genesis_entries(&self.genesis)),
            Some(entries) => entries(),
        }
    }

    fn admit(&self, tx: &[u8], state: &dyn StateRead, now_ms: u64) -> Result<Admission, Rejection> {
        let a = pasture_ledger::admit(state, Timestamp(now_ms), tx).map_err(|e| rejection(&e))?;
        possession(tx).map_err(|e| rejection(&e))?;
        Ok(Admission {
            id: a.id.0,
            sender: a.sender,
            lane: a.lane,
            seq: a.seq,
            next_seq: a.next_seq,
            expires_ms: a.valid_until.0,
            tip: a.tip.0,
            cost_us: a.cost_us,
        })
    }

    fn next_seq(&self, sender: &[u8; 32], lane: u8, state: &dyn StateRead) -> u64 {
        pasture_ledger::query::next_seq(state, sender, lane)
    }

    fn verify(&self, txs: &[Bytes]) -> bool {
        txs.iter().all(|tx| pasture_ledger::verify_stateless(tx).is_ok() && possession(tx).is_ok())
    }

    fn ready(&self, state: &dyn StateRead) -> Result<(), String> {
        pasture_ledger::supported(state).map_err(|unknown| unknown.to_string())
    }

    fn block_cost_us(&self, state: &dyn StateRead) -> u64 {
        pasture_ledger::query::zone(state).map_or(0, |zone| pasture_ledger::block_tx_cost_us(&zone.params))
    }

    fn begin(&self, state: &mut dyn StateWrite, ctx: &BlockContext) -> Vec<Vec<u8>> {
        encode(&pasture_ledger::begin_block(state, &context(ctx)))
    }

    fn apply(&self, state: &mut dyn StateWrite, ctx: &BlockContext, tx: &[u8]) -> TxOutcome {
        // Signatures were verified at admission, or by `verify` for another validator's block.
        match pasture_ledger::apply(state, &context(ctx), tx, Signatures::Verified) {
            Applied::Done { id, events } => {
                TxOutcome::Applied { id: id.0, ok: true, code: 0, message: String::new(), events: encode(&events) }
            }
            Applied::Failed { id, error, .. } => {
                TxOutcome::Applied { id: id.0, ok: false, code: error.code(), message: error.to_string(), events: vec![] }
            }
            Applied::NotIncludable { id, error } => TxOutcome::NotIncludable { id: id.0, code: error.code(), message: error.to_string() },
        }
    }

    fn end(&self, state: &mut dyn StateWrite, ctx: &BlockContext) -> Vec<Vec<u8>> {
        encode(&pasture_ledger::end_block(state, &context(ctx)))
    }

    fn seats(&self, state: &dyn StateRead) -> Option<Vec<Validator>> {
        let seated = |id| {
            let v = pasture_ledger::query::validators::validator(state, id)?;
            Some(Validator { key: v.id.0, bls_key: v.bls_key, bls_pop: v.bls_pop })
        };
        pasture_ledger::query::validators::term(state)?.seats.iter().map(|seat| seated(&seat.validator)).collect()
    }

    fn candidates(&self, state: &dyn StateRead) -> Vec<[u8; 32]> {
        let mut standing = pasture_ledger::query::validators::standing(state);
        // Whoever is nearest to a seat goes first where not all find a place.
        standing.sort_by(|a, b| b.bond.cmp(&a.bond).then_with(|| a.id.cmp(&b.id)));
        standing.into_iter().map(|v| v.id.0).collect()
    }

    fn next_due(&self, state: &dyn StateRead) -> Due {
        match pasture_ledger::next_due(state) {
            pasture_ledger::Due::Now => Due::Now,
            pasture_ledger::Due::At(time) => Due::At(time.0),
            pasture_ledger::Due::Never => Due::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_chain::Identity;
    use pasture_types::genesis::{GenesisAccount, GenesisValidator, Params, RULES_VERSION};
    use pasture_types::state::MemoryState;
    use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, TxBody};
    use pasture_types::validator::validator_consent_digest;
    use pasture_types::{Amount, AssetId, SigningKey};

    /// A registration whose proof of possession belongs to the secret `proof_of`.
    fn registration(genesis: &Genesis, operator: &SigningKey, proof_of: [u8; 32]) -> Bytes {
        let secret = [7; 32];
        let own = Identity::from_secret(&secret).unwrap().validator();
        let bls_pop = Identity::from_secret(&proof_of).unwrap().validator().bls_pop;
        let digest = validator_consent_digest(&genesis.zone(), &operator.account(), &own.key, &own.bls_key);
        let validator = GenesisValidator { key: own.key, bls_key: own.bls_key, bls_pop, operator: operator.account() };
        let consent = SigningKey::from_seed(secret).sign(&digest);
        let body = TxBody {
            version: ENVELOPE_VERSION,
            zone: genesis.zone(),
            account: operator.account(),
            auth: Auth::Single,
            lane: 0,
            seq: 0,
            valid_until: Timestamp(60_000),
            max_fee: Amount::credits(1),
            tip: Amount::ZERO,
            fee_asset: AssetId::CREDIT,
            fee_payer: None,
            actions: vec![Action::RegisterValidator { validator, consent, bond: Amount::credits(10) }],
        };
        Bytes::from(codec::encode(&body.sign(operator)))
    }

    #[test]
    fn a_validator_without_its_bls_key_is_neither_admitted_nor_voted_for() {
        let operator = SigningKey::from_seed([1; 32]);
        let genesis = Genesis {
            name: "test".into(),
            time: Timestamp(0),
            rules_version: RULES_VERSION,
            params: Params::dev(),
            validators: vec![],
            accounts: vec![GenesisAccount { key: operator.public(), balance: Amount::credits(100) }],
            assets: vec![],
        };
        let machine = LedgerMachine::new(genesis.clone());
        let mut state = MemoryState(machine.genesis().unwrap().into_iter().collect());
        let (good, forged) = (registration(&genesis, &operator, [7; 32]), registration(&genesis, &operator, [8; 32]));
        assert_eq!(machine.admit(&forged, &state, 1).unwrap_err().code, TxError::Possession.code());
        assert!(!machine.verify(&[good.clone(), forged]));
        assert!(machine.admit(&good, &state, 1).is_ok() && machine.verify(std::slice::from_ref(&good)));
        let ctx = BlockContext { height: 1, timestamp_ms: 1, parent_timestamp_ms: 0, randomness: [0; 32], proposer: [0; 32] };
        machine.begin(&mut state, &ctx);
        assert!(matches!(machine.apply(&mut state, &ctx, &good), TxOutcome::Applied { ok: true, .. }));
    }
}
