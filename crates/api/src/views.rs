//! What the API shows of the ledger. Amounts are nano-credits as decimal strings, times are milliseconds.

use crate::deposit::{DepositView, StandingView};
use crate::publication::SignedPublication;
use pasture_types::event::{Event, Hash32, Settlement};
use pasture_types::genesis::Params;
use pasture_types::governance::{Change, PauseKind, Rejection};
use pasture_types::grant::{Budget, GrantUse};
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::market::{AliveCheck, Egress, OfferTerms, Term};
use pasture_types::{
    AccountId, Amount, AssetId, BlobHash, GrantId, Height, LeaseId, Millis, NodeId, OfferId, OrderId, ProposalId, Resources, Timestamp,
    TxId, ZoneId,
};
use serde::{Deserialize, Serialize};

/// The network a gateway serves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// The program's version.
    pub version: String,
    /// The zone's name.
    pub name: String,
    /// The zone's id: what transactions are signed for.
    pub zone: ZoneId,
    /// Rules in force.
    pub rules_version: u32,
    /// Height of the last final block.
    pub height: Height,
    /// Its time.
    pub time: Timestamp,
    /// Transactions that wait.
    pub pending_transactions: u64,
    /// Seated validators.
    pub validators: u32,
    /// `trusted sequencer` with one validator, `permissioned` below the rule for seats, else `by stake` (`docs/specs/stake.md` §8).
    pub mode: String,
    /// Parameters in force.
    pub params: Params,
    /// In development: the account that pays for newcomers' first transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub funder: Option<AccountId>,
    /// Genesis time: epochs are counted from it.
    pub genesis_time: Timestamp,
    /// What the guardian holds back now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<PauseView>,
    /// Proposals that are voted on, or passed and wait.
    #[serde(default)]
    pub open_proposals: u32,
}

/// The guardian's pause while it lasts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PauseView {
    /// What is held back.
    pub kinds: Vec<PauseKind>,
    /// Until when, unless the network halts meanwhile.
    pub until: Timestamp,
}

/// A final transaction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TxResult {
    /// Its id.
    pub id: TxId,
    /// The block it is in.
    pub height: Height,
    /// The block's time.
    pub time: Timestamp,
    /// Whether its actions took effect (otherwise only the fee was taken).
    pub ok: bool,
    /// The ledger's error number; 0 when ok.
    pub code: u16,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What it did.
    #[serde(default)]
    pub events: Vec<Event>,
}

/// A transaction that is in a final block, looked up by its id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TransactionView {
    /// Its id.
    pub id: TxId,
    /// The block it is in.
    pub height: Height,
    /// The block's time.
    pub time: Timestamp,
    /// What it did; `None` when the node has been restarted since and remembers only that it is in the block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<TxResult>,
}

/// An event with its block.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LedgerEvent {
    /// The block.
    pub height: Height,
    /// Its time.
    pub time: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// An account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccountView {
    /// Its id.
    pub id: AccountId,
    /// Free credits.
    pub balance: Amount,
    /// On hold for orders, leases and channels.
    pub on_hold: Amount,
    /// Deposit of a provider.
    pub deposit: Amount,
    /// Next number of each lane that was used.
    pub lanes: Vec<(u8, u64)>,
    /// Its keys, as `scheme:hex`.
    pub keys: Vec<String>,
    /// Provider name, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Building left for free today.
    pub build_allowance_left: Millis,
    /// What stands behind it, if it is a provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Box<DepositView>>,
    /// Free balances in other assets than the credit; those of nothing are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assets: Vec<AssetBalance>,
}

/// A balance in another asset than the credit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AssetBalance {
    /// Which.
    pub asset: AssetId,
    /// Its short name.
    pub symbol: String,
    /// How much, in billionths.
    pub balance: Amount,
}

/// A right that an account lent to a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GrantView {
    /// Its id.
    pub id: GrantId,
    /// Whose.
    pub account: AccountId,
    /// Whose signature uses it, as `scheme:hex`.
    pub key: String,
    /// What it is for.
    #[serde(flatten)]
    pub may: GrantUse,
    /// What it may spend in all.
    pub budget: Vec<Budget>,
    /// What was spent, in the order of the budget.
    pub spent: Vec<Amount>,
    /// Credits that are left.
    pub left: Amount,
    /// When it ends, unless the network halts meanwhile.
    pub expires: Timestamp,
    /// Whether it counts no more, since its account changed its keys.
    pub void: bool,
    /// Next number of each lane that was used.
    pub lanes: Vec<(u8, u64)>,
}

impl GrantView {
    /// The next number of a lane.
    #[must_use]
    pub fn next_seq(&self, lane: u8) -> u64 {
        self.lanes.iter().find(|(l, _)| *l == lane).map_or(0, |(_, next)| *next)
    }
}

/// A node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeView {
    /// Its id.
    pub id: NodeId,
    /// Whose it is.
    pub provider: AccountId,
    /// Its provider's name.
    pub provider_name: String,
    /// What it has.
    pub resources: Resources,
    /// What leases hold of it.
    pub leased: Resources,
    /// Declared hash rate of its heartbeat.
    pub cpu_hashes_per_s: u64,
    /// CPU model.
    pub cpu_model: String,
    /// Next number of each lane that the node's own key used (`node` auth).
    pub lanes: Vec<(u8, u64)>,
    /// Whether the gateway can reach its data plane now.
    pub reachable: bool,
    /// Whether it is taken for new leases, and what is known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Box<StandingView>>,
    /// Its provider lets it offer nothing more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dismissed: bool,
}

/// Some of a provider's nodes.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct NodePage {
    /// The nodes, by id. A page with none is not the last one.
    pub nodes: Vec<NodeView>,
    /// Where the next page begins, for `after`; `None`: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<NodeId>,
}

/// An offer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OfferView {
    /// Its id.
    pub id: OfferId,
    /// Its node.
    pub node: NodeId,
    /// Its provider.
    pub provider: AccountId,
    /// The provider's name.
    pub provider_name: String,
    /// Its terms.
    pub terms: OfferTerms,
    /// What is free of it now.
    pub free: Resources,
    /// CPU model.
    pub cpu_model: String,
    /// Whether the gateway can reach the node now.
    pub reachable: bool,
}

/// Where an order is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderState {
    /// Waits for its draw or its next candidate.
    Open,
    /// Has a lease.
    Matched,
    /// Lapsed: nobody could or would serve it.
    Expired,
    /// Taken away by its owner.
    Cancelled,
}

/// An order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OrderView {
    /// Its id: the job's id.
    pub id: OrderId,
    /// Whose.
    pub account: AccountId,
    /// Where it is.
    pub state: OrderState,
    /// Placed at.
    pub placed: Timestamp,
    /// Lapses at.
    pub expires: Timestamp,
    /// What was asked.
    pub resources: Resources,
    /// Its newest lease.
    pub lease: Option<LeaseId>,
}

/// A job: an order with its lease.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobView {
    /// The order.
    pub order: OrderView,
    /// Its newest lease, if there is one.
    pub lease: Option<LeaseView>,
}

/// A lease.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeaseView {
    /// Its id.
    pub id: LeaseId,
    /// Its order.
    pub order: OrderId,
    /// Whose.
    pub account: AccountId,
    /// On which node.
    pub node: NodeId,
    /// Of which provider.
    pub provider: AccountId,
    /// The provider's name.
    pub provider_name: String,
    /// The offer's region.
    pub region: String,
    /// Fencing token.
    pub generation: u32,
    /// Its state.
    pub state: LeaseState,
    /// What it holds.
    pub resources: Resources,
    /// Rate for the whole lease per hour.
    pub rate_per_hour: Amount,
    /// On hold.
    pub escrow: Amount,
    /// Asset of all amounts.
    pub asset: AssetId,
    /// Time cap.
    pub max_duration: Millis,
    /// What the countersigner checks.
    pub alive: AliveCheck,
    /// What the job may reach.
    pub egress: Egress,
    /// Hash of the manifest that the node must be given.
    pub spec_hash: BlobHash,
    /// Drawn at.
    pub matched: Timestamp,
    /// Accepted at.
    pub accepted: Option<Timestamp>,
    /// Ended at (closing).
    pub closed: Option<Timestamp>,
    /// Served in all, as recorded.
    pub served_ms: Millis,
    /// Of it, confirmed by the user.
    pub confirmed_ms: Millis,
    /// Paid so far.
    pub paid: Amount,
    /// Why it ended.
    pub reason: Option<EndReason>,
    /// The final account, once settled.
    pub settlement: Option<Settlement>,
    /// On which terms it was taken, and how it goes on.
    #[serde(default)]
    pub tenure: TenureView,
}

/// On which terms a lease was taken, and how it goes on.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct TenureView {
    /// How long it is meant to be.
    pub term: Term,
    /// A rental goes on by itself.
    pub renews: bool,
    /// Its node may end it early, with notice.
    pub preemptible: bool,
    /// Its node has given that notice.
    pub preempting: bool,
    /// What leaving it early cost.
    pub cancel_fee: Amount,
    /// Who may confirm in the user's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watcher: Option<AccountId>,
    /// The lease that it is kept ready for; it is no job of its own then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standby_of: Option<LeaseId>,
}

/// A settlement epoch ("period" on the screen).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EpochView {
    /// Its number.
    pub epoch: u64,
    /// Its randomness.
    pub randomness: Hash32,
}

/// Why offers were excluded from an order, counted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainView {
    /// Standing offers looked at.
    pub offers: u64,
    /// Offers that would serve the order now.
    pub suitable: u64,
    /// For each reason, in plain words, how many offers it excluded.
    pub excluded: Vec<Exclusion>,
    /// The best suitable offers, best first, at most three.
    pub best: Vec<BestOffer>,
    /// The smallest changes that would help, nearest first, at most three.
    pub relaxations: Vec<RelaxationView>,
    /// Offers too new to be drawn: they can be in two blocks.
    #[serde(default)]
    pub ageing: u64,
}

/// A change of an order, or two, that would help, and what the order would cost then.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RelaxationView {
    /// What to change, for people.
    pub change: String,
    /// How many of the offers looked at it would admit.
    pub offers: u64,
    /// Price per hour of the cheapest of them; `None` where only waiting helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_hour: Option<Amount>,
    /// What that one would cost at most, for as long as the changed order runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Amount>,
}

/// One reason that excluded offers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exclusion {
    /// e.g. `memory: 64 GiB asked, at most 8 GiB free`.
    pub reason: String,
    /// How many offers it alone or with others excluded.
    pub offers: u64,
}

/// A suitable offer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BestOffer {
    /// Its node.
    pub node: NodeId,
    /// Its provider's name.
    pub provider_name: String,
    /// Its region.
    pub region: String,
    /// Its price for this order per hour.
    pub rate_per_hour: Amount,
}

/// A proposal to change the network.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProposalView {
    /// Its id.
    pub id: ProposalId,
    /// Its number in the network, from 1.
    pub number: u64,
    /// Who made it.
    pub proposer: AccountId,
    /// What it is, in a line.
    pub title: String,
    /// Hash of the text that explains it.
    pub text: BlobHash,
    /// What is done if it passes.
    pub changes: Vec<Change>,
    /// When it was made.
    pub opened: Timestamp,
    /// All that could be voted when it was made.
    pub power: Amount,
    /// Voted for it.
    pub yes: Amount,
    /// Against it.
    pub no: Amount,
    /// Against it and its deposit.
    pub veto: Amount,
    /// Counts for the quorum only.
    pub abstain: Amount,
    /// Where it is.
    #[serde(flatten)]
    pub state: ProposalState,
    /// Whether it would pass, or has passed, with what was voted so far.
    pub passing: bool,
}

/// Where a proposal is. Times are those if the network does not halt meanwhile.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ProposalState {
    /// It is voted on.
    Voting {
        /// Until when.
        until: Timestamp,
    },
    /// It passed, and is done at this time.
    Passed {
        /// When.
        done_at: Timestamp,
    },
    /// It did not pass.
    Rejected {
        /// Why.
        why: Rejection,
    },
    /// It is done.
    Executed {
        /// Since when.
        at: Timestamp,
    },
    /// It passed, and could not be done any more.
    Failed {
        /// The ledger's error number.
        code: u16,
        /// When that was.
        at: Timestamp,
    },
}

/// A block's header and what certifies it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HeadView {
    /// Height.
    pub height: Height,
    /// Time.
    pub time: Timestamp,
    /// Digest of the header, hex.
    pub digest: String,
    /// Digest of the parent's header, hex.
    pub parent: String,
    /// Root of the authenticated state, hex.
    pub state_root: String,
    /// The zone's randomness after this block, hex.
    pub randomness: String,
    /// The proposer's key, hex.
    pub proposer: String,
    /// How many transactions it carries.
    pub transactions: u32,
    /// The finality certificate, hex; empty for genesis.
    pub certificate: String,
}

/// A value of the state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StateValue {
    /// The key, hex.
    pub key: String,
    /// The value, hex; `None` if the key is absent.
    pub value: Option<String>,
    /// Height it was read at.
    pub height: Height,
    /// Everything that is needed to believe this without the gateway, hex: certificate, headers and the store's proof, as
    /// `docs/specs/light.md` says.
    pub proof: Option<String>,
}

/// How a validator set became today's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HandoversView {
    /// Hash of the set that certifies the next block, hex.
    pub today: String,
    /// The handovers that lead from the set that was asked about towards it, oldest first, each as `docs/specs/light.md` §5 says, in
    /// hex: none if it is today's. If the last one does not lead there yet, ask again from where it leads.
    pub handovers: Vec<String>,
}

/// Most handovers in one answer: the largest, of 128 validators to 128 others, make an answer of 0.8 MB.
pub const MAX_HANDOVERS: usize = 16;

/// What `farm ledger check` found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckView {
    /// Height that was checked.
    pub height: Height,
    /// Invariants that were checked, by name.
    pub checked: Vec<String>,
    /// What is wrong; empty when all is well.
    pub violations: Vec<String>,
}

/// What a network began with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GenesisView {
    /// The genesis in the ledger's encoding, in hex; its hash is the network's name.
    pub genesis: String,
}

/// What a machine needs to reach a network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TicketView {
    /// The ticket, one word.
    pub ticket: String,
}

/// Where a machine can be called peer to peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceView {
    /// `pasture://<node>?direct=..&relay=..`, as the machine announced it.
    pub address: String,
    /// How the gateway that was asked reaches it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathView>,
}

/// How one node reaches another now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathView {
    /// From machine to machine at this address; else by a relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<String>,
    /// There and back, in microseconds.
    pub rtt_us: u64,
}

/// How long an announced address counts: a node that left without a word is `reachable` no longer than this.
pub const ANNOUNCED_FOR: Millis = Millis(180_000);
/// How often a node announces its address again: two announcements may be lost before it counts as gone.
pub const ANNOUNCE_EVERY: Millis = Millis(60_000);

/// A node tells a gateway where its data plane listens. It counts for [`ANNOUNCED_FOR`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeAddress {
    /// e.g. `http://127.0.0.1:4711`.
    pub address: String,
    /// The node's request authorisation, see [`crate::auth`], over [`NodeAddress::signed_path`].
    pub authorization: String,
    /// Ports of its jobs that everybody may reach, as their owners signed them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public: Vec<SignedPublication>,
    /// Blobs of images that others may have from it: [`crate::blobs`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blobs: Vec<pasture_types::ContentDigest>,
}

impl NodeAddress {
    /// What the node signs as path: the request's own, and the address, so that nobody can swap it.
    #[must_use]
    pub fn signed_path(node: &NodeId, address: &str) -> String {
        format!("/v1/nodes/{node}/address?to={address}")
    }
}
