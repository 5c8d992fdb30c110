//! Transactions: the signed envelope, version 1, and every action of the ledger. Spec: `docs/specs/ledger.md`.
//!
//! Guarantees: one digest (= [`TxId`]) covers everything but the signatures; account, fee payer and node sign the
//! same digest, which binds zone, lane, sequence and expiry. It does not judge: rules are in `ledger`.

use crate::audit::AuditAction;
use crate::genesis::GenesisValidator;
use crate::governance::GovernanceAction;
use crate::ids::derive;
use crate::keys::{Signature, SignatureError, SigningKey};
use crate::lease::{EndReason, SignedUsage};
use crate::market::{OfferTerms, OrderTerms};
use crate::market_rules::MarketAction;
use crate::proof::Heartbeat;
use crate::reputation::ReputationAction;
use crate::service::ServiceAction;
use crate::stake::DepositAction;
use crate::validator::ValidatorAction;
use crate::{
    AccountId, Amount, AssetId, GrantId, LeaseId, Millis, NodeId, OfferId, OrderId, PublicKey, Resources, Timestamp, TxId, ZoneId,
};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// The envelope's version.
pub const ENVELOPE_VERSION: u16 = 1;
/// Largest encoded envelope.
pub const MAX_TX_BYTES: usize = 64 * 1024;
/// Lanes of an account: 0 to 63.
pub const MAX_LANES: u8 = 64;
/// Most actions in one transaction.
pub const MAX_ACTIONS: usize = 64;
/// Most signatures on one transaction.
pub const MAX_SIGNATURES: usize = 16;
/// How far ahead `valid_until` may lie.
pub const MAX_VALIDITY: Millis = Millis(24 * 3_600_000);

const TX_DOMAIN: &str = "pasture 2026-11 transaction v1";
const ORDER_DOMAIN: &str = "pasture 2026-11 order id v1";
const LEASE_DOMAIN: &str = "pasture 2026-11 lease id v1";
const OFFER_DOMAIN: &str = "pasture 2026-11 offer id v1";
const NODE_DOMAIN: &str = "pasture 2026-11 node registration v1";

/// By what right the account acts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum Auth {
    /// One of the account's keys.
    Single,
    /// A grant that names actions, a budget and an expiry.
    Delegated(GrantId),
    /// Several of the account's keys, as many as its threshold.
    Multi,
    /// A node of the provider account: only that node's accepts, usage and heartbeats.
    Node(NodeId),
}

/// What is signed.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct TxBody {
    /// [`ENVELOPE_VERSION`].
    pub version: u16,
    /// The zone this is for.
    pub zone: ZoneId,
    /// Who acts.
    pub account: AccountId,
    /// By what right.
    pub auth: Auth,
    /// Which of the account's lanes (below [`MAX_LANES`]).
    pub lane: u8,
    /// The lane's next number, from 0.
    pub seq: u64,
    /// Ledger time after which this is void, at most [`MAX_VALIDITY`] ahead.
    pub valid_until: Timestamp,
    /// Most to pay as fee.
    pub max_fee: Amount,
    /// Paid to the proposer on top.
    pub tip: Amount,
    /// In which asset fees are paid.
    pub fee_asset: AssetId,
    /// Who pays the fee, if not the account; it signs too.
    pub fee_payer: Option<AccountId>,
    /// What is done, in order; all or nothing.
    pub actions: Vec<Action>,
}

/// One signature on an envelope.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct TxSignature {
    /// For which account this signs (the account or the fee payer).
    pub account: AccountId,
    /// With which key (of the account, of the node for `node` auth, of the grantee for `delegated`).
    pub key: PublicKey,
    /// Over [`TxBody::id`].
    pub signature: Signature,
}

/// A signed transaction.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Envelope {
    /// What is signed.
    pub body: TxBody,
    /// By whom.
    pub signatures: Vec<TxSignature>,
}

impl TxBody {
    /// The digest that is signed, which is the transaction's id.
    #[must_use]
    pub fn id(&self) -> TxId {
        TxId(derive(TX_DOMAIN, &[&crate::codec::encode(self)]))
    }
    /// Signs for the account itself with one key.
    #[must_use]
    pub fn sign(self, key: &SigningKey) -> Envelope {
        let account = self.account;
        Envelope { body: self, signatures: vec![] }.and_sign(account, key)
    }
}

impl Envelope {
    /// Adds a signature for an account (a fee payer, or another key of the same account).
    #[must_use]
    pub fn and_sign(mut self, account: AccountId, key: &SigningKey) -> Self {
        let signature = key.sign(self.body.id().as_bytes());
        self.signatures.push(TxSignature { account, key: key.public(), signature });
        self
    }
    /// Verifies that each signature is a signature of the key it names. Whether those keys may act is the ledger's to say.
    ///
    /// # Errors
    /// The first signature that fails.
    pub fn verify_signatures(&self) -> Result<TxId, SignatureError> {
        let id = self.body.id();
        let mut typed = None;
        for s in &self.signatures {
            match &s.signature {
                Signature::Eip712(bytes) => {
                    let hash = typed.get_or_insert_with(|| crate::eip712::hash(&self.body));
                    s.key.verify_typed(hash, bytes)?;
                }
                other => s.key.verify(id.as_bytes(), other)?,
            }
        }
        Ok(id)
    }
}

/// What a node declares of itself when it is registered.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct NodeDeclaration {
    /// What the machine has in all.
    pub resources: Resources,
    /// Declared hash rate of one core share, in hashes per second: the co-signed benchmark.
    pub cpu_hashes_per_s: u64,
    /// CPU model, for people.
    pub cpu_model: String,
    /// Architecture, e.g. `x86_64`.
    pub arch: String,
}

/// What the node's key signs at registration: it consents to belong to the account.
#[must_use]
pub fn node_registration_digest(zone: &ZoneId, account: &AccountId, node: &NodeId, declaration: &NodeDeclaration) -> [u8; 32] {
    derive(NODE_DOMAIN, &[&zone.0, &account.0, &node.0, &crate::codec::encode(declaration)])
}

/// The id of the order placed by action `index` of a transaction.
#[must_use]
pub fn order_id(tx: &TxId, index: u32) -> OrderId {
    OrderId(derive(ORDER_DOMAIN, &[&tx.0, &index.to_le_bytes()]))
}

/// The id of an order's lease; a candidate that did not accept leaves its number behind.
#[must_use]
pub fn lease_id(order: &OrderId, attempt: u32) -> LeaseId {
    LeaseId(derive(LEASE_DOMAIN, &[&order.0, &attempt.to_le_bytes()]))
}

/// The id of a node's offer; `number` is the node's own.
#[must_use]
pub fn offer_id(node: &NodeId, number: u32) -> OfferId {
    OfferId(derive(OFFER_DOMAIN, &[&node.0, &number.to_le_bytes()]))
}

/// One thing a transaction does. Variants are only ever added at the end.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum Action {
    /// Opens the acting account with its first keys; the id must be that of the first key.
    RegisterAccount {
        /// Its keys, sorted, each once.
        keys: Vec<PublicKey>,
        /// How many of them `multi` auth needs.
        threshold: u8,
    },
    /// Makes the acting account a provider.
    RegisterProvider {
        /// A name for people, at most 64 bytes.
        name: String,
    },
    /// Adds a node to the acting provider.
    RegisterNode {
        /// Its key.
        node: NodeId,
        /// What it declares.
        declaration: NodeDeclaration,
        /// The node key's signature over [`node_registration_digest`].
        node_signature: Signature,
    },
    /// Moves balance into the provider's deposit.
    Stake {
        /// How much.
        amount: Amount,
    },
    /// Sets a node's offer (a new number or a replacement; open leases keep their terms).
    PutOffer {
        /// Whose.
        node: NodeId,
        /// The node's own number for it.
        number: u32,
        /// Its terms.
        terms: Box<OfferTerms>,
    },
    /// Takes an offer away.
    WithdrawOffer {
        /// Which.
        offer: OfferId,
    },
    /// Places an order.
    PlaceOrder {
        /// What is asked.
        terms: Box<OrderTerms>,
    },
    /// Takes an unmatched order away.
    CancelOrder {
        /// Which.
        order: OrderId,
    },
    /// The drawn node takes a lease.
    AcceptLease {
        /// Which.
        lease: LeaseId,
    },
    /// The drawn node refuses a lease.
    RejectLease {
        /// Which.
        lease: LeaseId,
    },
    /// Records cumulative usage.
    SubmitUsage {
        /// The signed statement.
        usage: Box<SignedUsage>,
    },
    /// Records an epoch's shares.
    SubmitHeartbeat {
        /// The shares.
        heartbeat: Heartbeat,
    },
    /// Ends a lease. By the node: why it ended. By the user: the service it concedes beyond what it countersigned is none.
    CloseLease {
        /// Which.
        lease: LeaseId,
        /// Why.
        reason: EndReason,
    },
    /// Objects to usage that waits without countersignature; closes the lease.
    Object {
        /// Which.
        lease: LeaseId,
    },
    /// Adds to a running lease's escrow and time.
    Extend {
        /// Which.
        lease: LeaseId,
        /// How much longer.
        duration: Millis,
    },
    /// Moves money.
    Transfer {
        /// To whom.
        to: AccountId,
        /// Which asset.
        asset: AssetId,
        /// How much.
        amount: Amount,
    },
    /// Mints test credits; development zones only.
    TestCredits {
        /// For whom.
        to: AccountId,
        /// How much.
        amount: Amount,
    },
    /// Registers a validator as a candidate for the seats of later terms; its operator is the acting account.
    RegisterValidator {
        /// Its keys.
        validator: GenesisValidator,
        /// The consensus key's signature over [`crate::validator::validator_consent_digest`].
        consent: Signature,
        /// Its first deposit, from the operator's balance.
        bond: Amount,
    },
    /// Votes, and the guardian's pause.
    Governance(GovernanceAction),
    /// Ratings.
    Reputation(ReputationAction),
    /// Deposits: unbonding, sponsors, suspension, newcomers.
    Deposit(DepositAction),
    /// Validators: deposits and suspension.
    Validator(ValidatorAction),
    /// Capacity audits and bundled heartbeats.
    Audit(Box<AuditAction>),
    /// What the market does besides offers and orders.
    Market(MarketAction),
    /// Watchers, evidence, failover, halts, models, assets.
    Service(Box<ServiceAction>),
    /// Grants: rights that an account lends to another key.
    Grant(crate::grant::GrantAction),
    /// The account's own keys.
    Keys(crate::account::KeyAction),
    /// Pay-as-you-go channels.
    Channel(crate::channel::ChannelAction),
    /// Credentials.
    Credential(crate::credential::CredentialAction),
}
