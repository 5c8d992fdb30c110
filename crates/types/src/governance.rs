//! Governance: proposals, votes, the guardian's pause, and everything that a vote may change. Spec: `docs/specs/governance.md`.
//!
//! Guarantees: a change names exactly what it sets, and [`check_params`] bounds each parameter alone and the whole set, so that
//! no vote can leave a zone that cannot be governed. It does not count votes: rules are in `ledger`.

use crate::account::AccountParams;
use crate::audit::AuditParams;
use crate::genesis::Params;
use crate::ids::{ProposalId, derive};
use crate::market_rules::MarketParams;
use crate::reputation::ReputationParams;
use crate::service::ServiceParams;
use crate::stake::StakeParams;
use crate::validator::ValidatorParams;
use crate::{AccountId, Amount, AssetId, BlobHash, Millis, TxId};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Most changes of one proposal.
pub const MAX_CHANGES: usize = 16;
/// Longest title of a proposal, in bytes.
pub const MAX_TITLE: usize = 128;
/// Most members of a guardian: each call counts them all.
pub const MAX_GUARDIANS: usize = 16;
/// Most open proposals that a zone may allow in all: snapshots of an account's power are kept for each.
pub const MAX_OPEN_PROPOSALS: u32 = 32;

const PROPOSAL_DOMAIN: &str = "pasture 2026-11 proposal id v1";
const PPM: u32 = 1_000_000;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// The id of the proposal made by action `index` of a transaction.
#[must_use]
pub fn proposal_id(tx: &TxId, index: u32) -> ProposalId {
    ProposalId(derive(PROPOSAL_DOMAIN, &[&tx.0, &index.to_le_bytes()]))
}

/// What governance and the guardian do. Variants are only ever added at the end.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum GovernanceAction {
    /// Opens a vote; locks the proposer's deposit.
    Propose {
        /// What it is, in a line, at most [`MAX_TITLE`] bytes.
        title: String,
        /// The text that explains it.
        text: BlobHash,
        /// What is done if it passes, in order, all or nothing; 1 to [`MAX_CHANGES`].
        changes: Vec<Change>,
    },
    /// Votes, or changes a vote.
    Vote {
        /// On what.
        proposal: ProposalId,
        /// How.
        choice: VoteChoice,
    },
    /// A member of the guardian asks for a pause; it begins when as many members as its threshold have asked for the same.
    Pause {
        /// What is held back.
        kinds: PauseSet,
        /// For how long.
        duration: Millis,
    },
    /// A member of the guardian asks to end the pause, in the same manner.
    Unpause,
}

/// How an account votes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoteChoice {
    /// For it.
    Yes,
    /// Against it.
    No,
    /// Against it, and its deposit shall be forfeited.
    Veto,
    /// Counts for the quorum only.
    Abstain,
}

/// A kind of action that the guardian may hold back. What runs is never among them: usage, periods, closing, objections and
/// votes go on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseKind {
    /// New accounts, providers, nodes, validators.
    Registrations,
    /// Putting offers.
    Offers,
    /// Placing orders, lengthening leases.
    Orders,
    /// Drawing orders and accepting leases.
    Matches,
    /// Transfers and test credits.
    Transfers,
    /// Taking money out: of deposits, to other chains.
    Withdrawals,
    /// Opening pay-as-you-go sessions and adding to them.
    Sessions,
}

impl PauseKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Registrations, Self::Offers, Self::Orders, Self::Matches, Self::Transfers, Self::Withdrawals, Self::Sessions];
}

/// A set of [`PauseKind`]s: bit `n` is the kind with number `n`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PauseSet(pub u16);

impl PauseSet {
    /// Every kind.
    #[must_use]
    pub fn all() -> Self {
        PauseKind::ALL.iter().fold(Self(0), |set, kind| set.with(*kind))
    }
    /// This set and one more kind.
    #[must_use]
    pub const fn with(self, kind: PauseKind) -> Self {
        Self(self.0 | 1 << kind as u16)
    }
    /// Whether a kind is in it.
    #[must_use]
    pub const fn has(self, kind: PauseKind) -> bool {
        self.0 & (1 << kind as u16) != 0
    }
    /// Whether it is neither empty nor names a kind that does not exist.
    #[must_use]
    pub fn is_valid(self) -> bool {
        self.0 != 0 && self.0 & !Self::all().0 == 0
    }
}

/// Who may pause, and how many of them must agree. Without members there is no guardian.
#[derive(Clone, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Guardian {
    /// Its members, ascending, each once, at most [`MAX_GUARDIANS`].
    pub members: Vec<AccountId>,
    /// How many must ask for the same.
    pub threshold: u8,
}

/// How votes are held; a vote goes on under the rules that it began with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct GovernanceRules {
    /// Locked by a proposal; returned unless it is vetoed.
    pub deposit: Amount,
    /// How long is voted.
    pub voting: Millis,
    /// How long what passed waits.
    pub timelock: Millis,
    /// Share of all voting power that must vote.
    pub quorum_ppm: u32,
    /// More than this share of yes, no and veto must be yes.
    pub majority_ppm: u32,
    /// The same for grave changes ([`Change::is_grave`]).
    pub grave_ppm: u32,
    /// More than this share of what was voted is a veto.
    pub veto_ppm: u32,
    /// A vote that turns the outcome within this time of the end moves the end to this long after itself.
    pub extension: Millis,
    /// Most open proposals in all.
    pub max_open: u32,
    /// Most open proposals of one account.
    pub max_open_each: u32,
    /// Longest pause.
    pub max_pause: Millis,
    /// Shortest time between the end of a pause and the next one.
    pub pause_gap: Millis,
}

/// The parameters of governance.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct GovernanceParams {
    /// How votes are held.
    pub rules: GovernanceRules,
    /// Who may pause.
    pub guardian: Guardian,
    /// Before the zone is so old, the guardian cannot be removed; no vote changes this.
    pub mature_after: Millis,
}

impl GovernanceRules {
    /// Of a development zone: votes of a minute.
    #[must_use]
    pub const fn dev() -> Self {
        Self {
            deposit: Amount::credits(1),
            voting: Millis(60_000),
            timelock: Millis(10_000),
            quorum_ppm: 200_000,
            majority_ppm: 500_000,
            grave_ppm: 666_667,
            veto_ppm: 333_333,
            extension: Millis(10_000),
            max_open: 16,
            max_open_each: 2,
            max_pause: Millis(60_000),
            pause_gap: Millis(60_000),
        }
    }
    /// Of a production zone: votes of a week, two days to leave.
    #[must_use]
    pub const fn production() -> Self {
        Self {
            deposit: Amount::credits(1_000),
            voting: Millis(7 * DAY),
            timelock: Millis(2 * DAY),
            extension: Millis(12 * HOUR),
            max_pause: Millis(3 * DAY),
            pause_gap: Millis(14 * DAY),
            ..Self::dev()
        }
    }
}

impl GovernanceParams {
    /// Of a development zone; it has no guardian.
    #[must_use]
    pub const fn dev() -> Self {
        Self { rules: GovernanceRules::dev(), guardian: Guardian { members: Vec::new(), threshold: 0 }, mature_after: Millis(600_000) }
    }
    /// Of a production zone; its genesis names the guardian.
    #[must_use]
    pub const fn production() -> Self {
        Self {
            rules: GovernanceRules::production(),
            guardian: Guardian { members: Vec::new(), threshold: 0 },
            mature_after: Millis(365 * DAY),
        }
    }
}

/// How fees are priced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct FeeParams {
    /// Whether `base_price` follows the load.
    pub adaptive: bool,
    /// The load at which it stands still: microseconds of cost for each second of ledger time.
    pub target_us_per_s: u64,
    /// How long load is measured before the price moves.
    pub window: Millis,
    /// Largest move of one window.
    pub step_ppm: u32,
    /// Lowest price.
    pub min_price: Amount,
    /// Highest price.
    pub max_price: Amount,
}

impl FeeParams {
    /// Of a development zone: the price stands still.
    #[must_use]
    pub const fn dev() -> Self {
        Self {
            adaptive: false,
            target_us_per_s: 400_000,
            window: Millis(10_000),
            step_ppm: 125_000,
            min_price: Amount(10),
            max_price: Amount(10_000),
        }
    }
    /// Of a production zone: the price follows the load.
    #[must_use]
    pub const fn production() -> Self {
        Self { adaptive: true, ..Self::dev() }
    }
}

/// An asset that a vote admits.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct AssetTerms {
    /// Its symbol, for people; no other asset's, whatever the case of its letters.
    pub symbol: String,
    /// Decimals that it has where it comes from; they never change.
    pub decimals: u8,
    /// It stands for money on another chain; that never changes either.
    pub bridged: bool,
    /// What one credit costs in it, where fees are paid in it; `None`: no fees in it, and its leases earn no standing.
    pub per_credit: Option<Amount>,
}

/// One thing that a vote does. Variants are only ever added at the end. Not changeable: `dev`, `epoch` (periods are counted from
/// genesis by it) and `offer_age_blocks` (standing offers are indexed by it).
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change", content = "to")]
pub enum Change {
    /// `accept_window`.
    AcceptWindow(Millis),
    /// `objection_epochs`.
    ObjectionEpochs(u64),
    /// `heartbeat_grace_epochs`.
    HeartbeatGraceEpochs(u64),
    /// `heartbeat_work`.
    HeartbeatWork(Millis),
    /// `start_window`.
    StartWindow(Millis),
    /// The three shares of a payment, which are a million together; leases keep those of their match.
    Shares {
        /// `provider_ppm`.
        provider_ppm: u32,
        /// `treasury_ppm`.
        treasury_ppm: u32,
        /// `model_ppm`.
        model_ppm: u32,
    },
    /// `base_price`.
    BasePrice(Amount),
    /// `block_cost_us`.
    BlockCost(u64),
    /// `min_stake`.
    MinStake(Amount),
    /// `order_deposit`.
    OrderDeposit(Amount),
    /// `build_allowance`.
    BuildAllowance(Millis),
    /// `max_open_orders`.
    MaxOpenOrders(u32),
    /// `max_lease`.
    MaxLease(Millis),
    /// How fees are priced.
    Fees(FeeParams),
    /// How reputation grows and fades.
    Reputation(ReputationParams),
    /// How votes are held.
    Governance(GovernanceRules),
    /// Who may pause; nobody, once the zone is mature.
    Guardian(Guardian),
    /// Ends the guardian's pause; a proposal of nothing else waits for no timelock.
    Unpause,
    /// Pays from the treasury.
    Spend {
        /// To whom.
        to: AccountId,
        /// In which asset.
        asset: AssetId,
        /// How much.
        amount: Amount,
    },
    /// Admits an asset or changes its terms.
    Asset {
        /// Which.
        asset: AssetId,
        /// Its terms.
        terms: AssetTerms,
    },
    /// Believes an issuer of credentials.
    AcceptIssuer(AccountId),
    /// Believes it no more.
    DropIssuer(AccountId),
    /// New rules from a height on.
    Rules {
        /// The version, one above the active one.
        version: u32,
        /// First height under it, if that is still ahead when the timelock ends.
        height: u64,
    },
    /// The market's parameters.
    Market(Box<MarketParams>),
    /// Watchers, disputes, halts, failover, fees in other assets.
    Service(Box<ServiceParams>),
    /// Capacity audits. One that is open goes on under those of its draw.
    Audits(Box<AuditParams>),
    /// Deposits, sponsors, newcomers, what a fault costs.
    Stake(Box<StakeParams>),
    /// Validators, seats, terms.
    Validators(Box<ValidatorParams>),
    /// Channels.
    Accounts(Box<AccountParams>),
}

impl Change {
    /// Whether it takes the larger majority: what could take the zone from its members.
    #[must_use]
    pub const fn is_grave(&self) -> bool {
        matches!(self, Self::Governance(_) | Self::Guardian(_) | Self::Rules { .. } | Self::Spend { .. } | Self::Validators(_))
    }

    /// Sets the parameter that it names; `false` if it names none.
    pub fn set(&self, params: &mut Params) -> bool {
        match self {
            Self::AcceptWindow(v) => params.accept_window = *v,
            Self::ObjectionEpochs(v) => params.objection_epochs = *v,
            Self::HeartbeatGraceEpochs(v) => params.heartbeat_grace_epochs = *v,
            Self::HeartbeatWork(v) => params.heartbeat_work = *v,
            Self::StartWindow(v) => params.start_window = *v,
            Self::Shares { provider_ppm, treasury_ppm, model_ppm } => {
                (params.provider_ppm, params.treasury_ppm, params.model_ppm) = (*provider_ppm, *treasury_ppm, *model_ppm);
            }
            Self::BasePrice(v) => params.base_price = *v,
            Self::BlockCost(v) => params.block_cost_us = *v,
            Self::MinStake(v) => params.min_stake = *v,
            Self::OrderDeposit(v) => params.order_deposit = *v,
            Self::BuildAllowance(v) => params.build_allowance = *v,
            Self::MaxOpenOrders(v) => params.max_open_orders = *v,
            Self::MaxLease(v) => params.max_lease = *v,
            Self::Fees(v) => params.fees = *v,
            Self::Reputation(v) => params.reputation = *v,
            Self::Governance(v) => params.governance.rules = *v,
            Self::Guardian(v) => params.governance.guardian = v.clone(),
            Self::Market(v) => params.market = v.as_ref().clone(),
            Self::Service(v) => params.service = **v,
            Self::Audits(v) => params.audits = v.as_ref().clone(),
            Self::Stake(v) => params.stake = **v,
            Self::Validators(v) => params.validators = **v,
            Self::Accounts(v) => params.accounts = **v,
            Self::Unpause | Self::Spend { .. } | Self::Asset { .. } | Self::AcceptIssuer(_) | Self::DropIssuer(_) | Self::Rules { .. } => {
                return false;
            }
        }
        true
    }
}

/// A parameter, or the set of them, lies outside its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} may be {low} to {high}, not {got}")]
pub struct OutOfBounds {
    /// Which.
    pub name: &'static str,
    /// What was asked.
    pub got: u128,
    /// Least.
    pub low: u128,
    /// Most.
    pub high: u128,
}

/// Checks that a number lies within its bounds, both included.
///
/// # Errors
/// [`OutOfBounds`].
pub fn within(name: &'static str, got: impl Into<u128>, low: impl Into<u128>, high: impl Into<u128>) -> Result<(), OutOfBounds> {
    let (got, low, high) = (got.into(), low.into(), high.into());
    if got < low || got > high { Err(OutOfBounds { name, got, low, high }) } else { Ok(()) }
}

/// Checks every parameter, and the set. A development zone may have windows of seconds; the rest is the same everywhere.
///
/// # Errors
/// The first bound that is broken.
pub fn check_params(p: &Params) -> Result<(), OutOfBounds> {
    within("accept_window", p.accept_window.0, 500u64, 60_000u64)?;
    within("objection_epochs", p.objection_epochs, 1u64, 1_440u64)?;
    within("heartbeat_grace_epochs", p.heartbeat_grace_epochs, 1u64, 60u64)?;
    within("heartbeat_work", p.heartbeat_work.0, 1u64, p.epoch.0 / 20)?;
    within("start_window", p.start_window.0, 10_000u64, DAY)?;
    let shares = u64::from(p.provider_ppm) + u64::from(p.treasury_ppm) + u64::from(p.model_ppm);
    within("provider_ppm + treasury_ppm + model_ppm", shares, PPM, PPM)?;
    within("provider_ppm", p.provider_ppm, 500_000u32, PPM)?;
    within("base_price", p.base_price.0, 1u32, Amount::credits(1).0)?;
    // A block must have room for its own work and the dearest transaction, and must not stall whoever executes it.
    within("block_cost_us", p.block_cost_us, 200_000u64, 2_000_000u64)?;
    within("min_stake", p.min_stake.0, 0u32, Amount::credits(10_000_000).0)?;
    within("order_deposit", p.order_deposit.0, 0u32, Amount::credits(1_000).0)?;
    within("build_allowance", p.build_allowance.0, 0u64, DAY)?;
    within("max_open_orders", p.max_open_orders, 1u32, 4_096u32)?;
    within("max_lease", p.max_lease.0, p.epoch.0, 366 * DAY)?;
    check_fees(p)?;
    p.reputation.check()?;
    p.market.check()?;
    // Nothing proves a GPU yet: `docs/specs/proofs.md` §3.
    within("market.gpu_leases, outside development,", u8::from(p.market.gpu_leases), 0u8, u8::from(p.dev))?;
    p.service.check()?;
    p.audits.check(p.epoch)?;
    p.stake.check(p)?;
    p.validators.check(p.dev)?;
    p.accounts.check(p.dev)?;
    check_rules(&p.governance.rules, p.dev)?;
    check_guardian(&p.governance.guardian)
}

fn check_fees(p: &Params) -> Result<(), OutOfBounds> {
    let f = &p.fees;
    within("fees.target_us_per_s", f.target_us_per_s, 1_000u64, 1_000_000u64)?;
    within("fees.window", f.window.0, 1_000u64, HOUR)?;
    within("fees.step_ppm", f.step_ppm, 1_000u32, 250_000u32)?;
    within("fees.min_price", f.min_price.0, 1u32, f.max_price.0)?;
    within("fees.max_price", f.max_price.0, f.min_price.0, Amount::credits(1).0)?;
    let (low, high) = if f.adaptive { (f.min_price.0, f.max_price.0) } else { (1, u128::MAX) };
    within("base_price, while it follows the load,", p.base_price.0, low, high)
}

fn check_rules(r: &GovernanceRules, dev: bool) -> Result<(), OutOfBounds> {
    // Below these a vote could be over before its members wake up.
    let (voting, timelock, extension) = if dev { (1_000, 0, 0) } else { (DAY, 12 * HOUR, HOUR) };
    within("governance.deposit", r.deposit.0, 0u32, Amount::credits(1_000_000).0)?;
    within("governance.voting", r.voting.0, voting, 30 * DAY)?;
    within("governance.timelock", r.timelock.0, timelock, 30 * DAY)?;
    within("governance.extension", r.extension.0, extension, r.voting.0)?;
    within("governance.quorum_ppm", r.quorum_ppm, 10_000u32, 800_000u32)?;
    within("governance.majority_ppm", r.majority_ppm, 500_000u32, 800_000u32)?;
    within("governance.grave_ppm", r.grave_ppm, r.majority_ppm, 900_000u32)?;
    within("governance.veto_ppm", r.veto_ppm, 100_000u32, 500_000u32)?;
    within("governance.max_open", r.max_open, 1u32, MAX_OPEN_PROPOSALS)?;
    within("governance.max_open_each", r.max_open_each, 1u32, r.max_open)?;
    within("governance.max_pause", r.max_pause.0, 1_000u64, 14 * DAY)?;
    // A guardian that could pause most of the time would be an owner.
    within("governance.pause_gap", r.pause_gap.0, r.max_pause.0, 366 * DAY)
}

fn check_guardian(g: &Guardian) -> Result<(), OutOfBounds> {
    let members = g.members.len() as u64;
    within("guardian.members", members, 0u64, MAX_GUARDIANS as u64)?;
    let ascending = g.members.iter().zip(g.members.iter().skip(1)).all(|(a, b)| a < b);
    within("guardian.members in ascending order, each once (1 is yes)", u8::from(ascending), 1u8, 1u8)?;
    // More than half, so that a minority cannot pause.
    let least = if members == 0 { 0 } else { members / 2 + 1 };
    within("guardian.threshold", g.threshold, least, members)
}

/// How a vote ended without passing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// Too few voted.
    NoQuorum,
    /// Too few were for it.
    NoMajority,
    /// It was vetoed; the deposit is forfeited.
    Vetoed,
}

/// What governance and the guardian did. Variants are only ever added at the end.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "governance")]
pub enum GovernanceEvent {
    /// A vote began.
    Proposed {
        /// On what.
        proposal: ProposalId,
        /// By whom.
        proposer: AccountId,
    },
    /// An account voted.
    Voted {
        /// On what.
        proposal: ProposalId,
        /// Who.
        account: AccountId,
        /// How.
        choice: VoteChoice,
        /// With what power.
        weight: Amount,
    },
    /// The end of a vote moved, since its outcome turned late.
    Extended {
        /// Which.
        proposal: ProposalId,
    },
    /// It passed and waits for its timelock.
    Passed {
        /// What.
        proposal: ProposalId,
    },
    /// It did not pass.
    Rejected {
        /// What.
        proposal: ProposalId,
        /// Why.
        why: Rejection,
    },
    /// What was decided is done.
    Executed {
        /// What.
        proposal: ProposalId,
    },
    /// What was decided could not be done any more.
    Failed {
        /// What.
        proposal: ProposalId,
        /// The error's code.
        code: u16,
    },
    /// The treasury paid.
    Spent {
        /// To whom.
        to: AccountId,
        /// In which asset.
        asset: AssetId,
        /// How much.
        amount: Amount,
    },
    /// An asset was admitted, or its terms changed.
    AssetSet {
        /// Which.
        asset: AssetId,
    },
    /// A member of the guardian asked for something that others have not asked for yet.
    GuardianCalled {
        /// Who.
        member: AccountId,
    },
    /// A pause began.
    Paused {
        /// Of what.
        kinds: PauseSet,
        /// Until when, if the network does not stand still.
        until: crate::Timestamp,
    },
    /// A pause ended.
    Unpaused,
    /// New rules are in force from this block on.
    RulesActivated {
        /// Their version.
        version: u32,
    },
}
