//! Genesis of a zone: its validators, its parameters, its first money. The zone's id is its hash.
//!
//! Guarantees: everything that two honest nodes must agree on before the first block is in here.

use crate::asset::GenesisAsset;
use crate::audit::AuditParams;
use crate::governance::{FeeParams, GovernanceParams};
use crate::ids::{ZoneId, derive};
use crate::market_rules::MarketParams;
use crate::reputation::ReputationParams;
use crate::service::ServiceParams;
use crate::stake::StakeParams;
use crate::validator::ValidatorParams;
use crate::{AccountId, Amount, Millis, PublicKey, Timestamp};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

const ZONE_DOMAIN: &str = "pasture 2026-11 zone v1";
/// The rules that a new zone begins with.
pub const RULES_VERSION: u32 = 2;

/// A validator at genesis.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct GenesisValidator {
    /// Consensus key: Ed25519 public key, which is also its node id.
    pub key: [u8; 32],
    /// BLS12-381 public key (MinSig, 96 bytes) for the zone's randomness.
    pub bls_key: Vec<u8>,
    /// Proof of possession of the BLS key (48 bytes).
    pub bls_pop: Vec<u8>,
    /// The account that earns its fees.
    pub operator: AccountId,
}

/// An account that has money at genesis.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct GenesisAccount {
    /// Its key.
    pub key: PublicKey,
    /// Its balance in credits.
    pub balance: Amount,
}

/// A zone's parameters. Each is a rule of `docs/specs/`; changing one later takes a vote.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Params {
    /// Test credits may be minted: development only.
    pub dev: bool,
    /// Settlement epoch.
    pub epoch: Millis,
    /// How long a drawn node has to accept.
    pub accept_window: Millis,
    /// How many blocks an offer must have stood before it is drawn.
    pub offer_age_blocks: u64,
    /// Epochs after which usage without countersignature counts (W).
    pub objection_epochs: u64,
    /// Epochs after an epoch's end by which its heartbeat must be on the ledger.
    pub heartbeat_grace_epochs: u64,
    /// Hashing time at the declared rate that one heartbeat is worth.
    pub heartbeat_work: Millis,
    /// How long a node has after accepting before the job must have begun.
    pub start_window: Millis,
    /// Provider's share of a payment in parts per million.
    pub provider_ppm: u32,
    /// Treasury's share.
    pub treasury_ppm: u32,
    /// Model creator's share (the provider's where no model is named).
    pub model_ppm: u32,
    /// Fee in nano-credits per microsecond of measured cost.
    pub base_price: Amount,
    /// Cost limit of a block in microseconds, its own work included.
    pub block_cost_us: u64,
    /// Smallest deposit of a provider.
    pub min_stake: Amount,
    /// Deposit locked by an order, returned when it is matched or expires.
    pub order_deposit: Amount,
    /// Free building per account and day.
    pub build_allowance: Millis,
    /// Most open orders an account may have.
    pub max_open_orders: u32,
    /// Longest lease.
    pub max_lease: Millis,
    /// How fees are priced.
    pub fees: FeeParams,
    /// How votes are held, and who may pause.
    pub governance: GovernanceParams,
    /// How reputation grows and fades.
    pub reputation: ReputationParams,
    /// Deposits, sponsors, newcomers.
    pub stake: StakeParams,
    /// Validators, seats, terms.
    pub validators: ValidatorParams,
    /// Capacity audits.
    pub audits: AuditParams,
    /// The market's.
    pub market: MarketParams,
    /// Watchers, disputes, halts, failover, fees in other assets.
    pub service: ServiceParams,
    /// Channels and credentials.
    pub accounts: crate::account::AccountParams,
}

impl Params {
    /// Parameters of a development zone: 5 s epochs, short windows, test credits.
    #[must_use]
    pub fn dev() -> Self {
        Self {
            dev: true,
            epoch: Millis(5_000),
            accept_window: Millis(2_000),
            offer_age_blocks: 2,
            objection_epochs: 2,
            heartbeat_grace_epochs: 1,
            heartbeat_work: Millis(50),
            start_window: Millis(1_800_000),
            provider_ppm: 800_000,
            treasury_ppm: 150_000,
            model_ppm: 50_000,
            base_price: Amount(10),
            block_cost_us: 300_000,
            min_stake: Amount(1_000_000_000),
            order_deposit: Amount(1_000_000),
            build_allowance: Millis(600_000),
            max_open_orders: 64,
            max_lease: Millis(7 * 24 * 3_600_000),
            fees: FeeParams::dev(),
            governance: GovernanceParams::dev(),
            reputation: ReputationParams::dev(),
            stake: StakeParams::dev(),
            validators: ValidatorParams::dev(),
            audits: AuditParams::dev(),
            market: MarketParams::dev(),
            service: ServiceParams::dev(),
            accounts: crate::account::AccountParams::dev(),
        }
    }

    /// The same with capacity audits.
    #[must_use]
    pub fn audited(self) -> Self {
        let audits = if self.dev { AuditParams::trial() } else { AuditParams { active: true, ..AuditParams::production() } };
        Self { audits, ..self }
    }

    /// Whether GPUs of this model can be leased: all, or those that audits ask for a proof.
    #[must_use]
    pub fn leases_gpu(&self, model: &str) -> bool {
        self.market.gpu_leases || (self.audits.active && self.audits.gpus.iter().any(|rate| rate.model == model))
    }

    /// Parameters of a production zone.
    #[must_use]
    pub fn production() -> Self {
        Self {
            dev: false,
            epoch: Millis(60_000),
            objection_epochs: 10,
            heartbeat_grace_epochs: 5,
            heartbeat_work: Millis(300),
            min_stake: Amount(100_000_000_000),
            fees: FeeParams::production(),
            governance: GovernanceParams::production(),
            reputation: ReputationParams::production(),
            stake: StakeParams::production(),
            validators: ValidatorParams::production(),
            audits: AuditParams::production(),
            market: MarketParams::production(),
            service: ServiceParams::production(),
            accounts: crate::account::AccountParams::production(),
            ..Self::dev()
        }
    }
}

/// Everything a zone starts from.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Genesis {
    /// The zone's name, for people.
    pub name: String,
    /// When it begins.
    pub time: Timestamp,
    /// The rules it begins with.
    pub rules_version: u32,
    /// Its parameters.
    pub params: Params,
    /// Its first validators, sorted by key.
    pub validators: Vec<GenesisValidator>,
    /// Who has money.
    pub accounts: Vec<GenesisAccount>,
    /// Which assets there are besides the credit, ascending, and who has them.
    pub assets: Vec<GenesisAsset>,
}

impl Genesis {
    /// The zone's id.
    #[must_use]
    pub fn zone(&self) -> ZoneId {
        ZoneId(derive(ZONE_DOMAIN, &[&crate::codec::encode(self)]))
    }
}
