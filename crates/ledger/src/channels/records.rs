//! What the ledger keeps of a channel, and where. Spec: `docs/specs/accounts.md` §4.
//!
//! Guarantees: frozen by golden fixtures; `escrow = paid + held`, and `check` counts what is held. A closed channel leaves no
//! record behind.

use crate::tables::{get, key, put};
use borsh::{BorshDeserialize, BorshSerialize};
use pasture_types::channel::ChannelTerms;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, Amount, AssetId, BlobHash, ChannelId, PublicKey, Timestamp, ZoneId};

/// channel -> [`Channel`]
pub(crate) const CHANNEL: u8 = 0x28;
/// client, channel -> nothing
pub(crate) const CHANNEL_OF_CLIENT: u8 = 0x29;
/// provider, channel -> nothing
pub(crate) const CHANNEL_OF_PROVIDER: u8 = 0x2a;

/// An open channel.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Channel {
    /// Which.
    pub id: ChannelId,
    /// The height at which it was opened.
    pub generation: u64,
    /// Who pays.
    pub client: AccountId,
    /// Who serves.
    pub provider: AccountId,
    /// In which asset.
    pub asset: AssetId,
    /// Whose signature makes a voucher.
    pub key: PublicKey,
    /// The model whose creator gets the model share.
    pub model: Option<BlobHash>,
    /// Put on hold since it was opened, in all.
    pub escrow: Amount,
    /// Paid out of it, all shares.
    pub paid: Amount,
    /// When the provider stops serving for it, less halts.
    pub expires_shifted: Timestamp,
    /// Until when it may be cashed, less halts; then the rest returns.
    pub closes_shifted: Timestamp,
    /// Since when.
    pub opened_at: Timestamp,
}

impl Channel {
    /// What is still on hold.
    #[must_use]
    pub const fn held(&self) -> Amount {
        self.escrow.saturating_sub(self.paid)
    }
    /// What decides about its vouchers.
    #[must_use]
    pub const fn terms(&self, zone: ZoneId) -> ChannelTerms {
        ChannelTerms { zone, id: self.id, generation: self.generation, key: self.key, escrow: self.escrow }
    }
}

pub(crate) fn channel_key(id: &ChannelId) -> Vec<u8> {
    key(CHANNEL, &[&id.0])
}

pub(crate) fn channel(s: &dyn StateRead, id: &ChannelId) -> Option<Channel> {
    get(s, &channel_key(id))
}

pub(crate) fn put_channel(s: &mut dyn StateWrite, channel: &Channel) {
    put(s, channel_key(&channel.id), channel);
}

pub(crate) fn of_client_key(client: &AccountId, id: &ChannelId) -> Vec<u8> {
    key(CHANNEL_OF_CLIENT, &[&client.0, &id.0])
}

pub(crate) fn of_provider_key(provider: &AccountId, id: &ChannelId) -> Vec<u8> {
    key(CHANNEL_OF_PROVIDER, &[&provider.0, &id.0])
}
