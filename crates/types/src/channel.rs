//! Channels and vouchers: pay-as-you-go with one provider, without a block for each call. Spec: `docs/specs/accounts.md` §4.
//!
//! ```text
//!  client: Open --signs vouchers, each larger than the last--> provider: Cash (the growth), Cash, ..., Close
//!                                                              ledger: closes it itself at end + cash window
//! ```
//! Guarantees: a voucher names zone, channel and the channel's generation, so that it counts nowhere else; what is
//! cashed twice is paid once. Everything that decides about a voucher is a pure function that client, provider and
//! ledger share.

use crate::ids::derive;
use crate::keys::{Signature, SignatureError, SigningKey};
use crate::{AccountId, Amount, AssetId, BlobHash, ChannelId, PublicKey, Timestamp, ZoneId};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

const CHANNEL_DOMAIN: &str = "pasture 2026-11 channel id v1";
const VOUCHER_DOMAIN: &str = "pasture 2026-11 voucher v1";

/// The id of the channel between a client and a provider in one asset. It is the same whenever they open one.
#[must_use]
pub fn channel_id(client: &AccountId, provider: &AccountId, asset: AssetId) -> ChannelId {
    ChannelId(derive(CHANNEL_DOMAIN, &[&client.0, &provider.0, &asset.0.to_le_bytes()]))
}

/// A promise of money: the provider may take so much of the channel, in all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Voucher {
    /// The zone of the channel.
    pub zone: ZoneId,
    /// Which channel; its id fixes client, provider and asset.
    pub channel: ChannelId,
    /// The height at which it was opened: a channel that was closed and opened again is another one.
    pub generation: u64,
    /// Since it was opened, in all.
    pub amount: Amount,
}

/// A voucher with the client's signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct SignedVoucher {
    /// The promise.
    pub voucher: Voucher,
    /// Over [`Voucher::digest`], with the channel's key.
    pub signature: Signature,
}

impl Voucher {
    /// What the client signs.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        derive(VOUCHER_DOMAIN, &[&crate::codec::encode(self)])
    }
    /// Signs it.
    #[must_use]
    pub fn sign(self, key: &SigningKey) -> SignedVoucher {
        SignedVoucher { voucher: self, signature: key.sign(&self.digest()) }
    }
}

/// What is known of an open channel by whoever looks at a voucher.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelTerms {
    /// Its zone.
    pub zone: ZoneId,
    /// Its id.
    pub id: ChannelId,
    /// The height at which it was opened.
    pub generation: u64,
    /// Whose signature makes a voucher.
    pub key: PublicKey,
    /// What was put on hold since it was opened, in all.
    pub escrow: Amount,
}

/// Why a voucher does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VoucherError {
    /// It names another zone, channel or generation.
    #[error("it is for another {0}")]
    Other(&'static str),
    /// Nothing new in it.
    #[error("it promises {got}, no more than the {has} before")]
    NoGrowth {
        /// Promised now.
        got: Amount,
        /// Promised or paid before.
        has: Amount,
    },
    /// More than the channel holds.
    #[error("it promises {got}, but the channel was opened with {has}; the client adds to it first")]
    AboveEscrow {
        /// Promised.
        got: Amount,
        /// On hold in all.
        has: Amount,
    },
    /// The signature does not hold.
    #[error("{0}")]
    Signature(#[from] SignatureError),
}

impl ChannelTerms {
    /// Whether a voucher is one of this channel, signed by its key.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn verify(&self, signed: &SignedVoucher) -> Result<(), VoucherError> {
        let v = &signed.voucher;
        for (differs, what) in [
            (v.zone != self.zone, "network"),
            (v.channel != self.id, "channel"),
            (v.generation != self.generation, "opening of the channel"),
        ] {
            if differs {
                return Err(VoucherError::Other(what));
            }
        }
        Ok(self.key.verify(&v.digest(), &signed.signature)?)
    }

    /// What a provider gains by taking a voucher after the last one it took: service is worth giving only for this growth.
    ///
    /// # Errors
    /// Why it should serve nothing for it.
    pub fn accept(&self, last: Amount, signed: &SignedVoucher) -> Result<Amount, VoucherError> {
        self.verify(signed)?;
        let got = signed.voucher.amount;
        if got > self.escrow {
            return Err(VoucherError::AboveEscrow { got, has: self.escrow });
        }
        growth(got, last)
    }

    /// What cashing a voucher pays when so much was paid before: its growth, within what is on hold.
    ///
    /// # Errors
    /// Why it pays nothing.
    pub fn payable(&self, paid: Amount, signed: &SignedVoucher) -> Result<Amount, VoucherError> {
        self.verify(signed)?;
        growth(signed.voucher.amount.min(self.escrow), paid)
    }
}

fn growth(got: Amount, has: Amount) -> Result<Amount, VoucherError> {
    match got.checked_sub(has) {
        Some(more) if !more.is_zero() => Ok(more),
        _ => Err(VoucherError::NoGrowth { got, has }),
    }
}

/// What is done with channels.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum ChannelAction {
    /// Puts money on hold for a provider; by the client.
    Open {
        /// For which provider.
        provider: AccountId,
        /// Which asset.
        asset: AssetId,
        /// How much.
        amount: Amount,
        /// Whose signature makes a voucher.
        key: PublicKey,
        /// Until when the provider may serve for it; further from now than the cash window.
        expires: Timestamp,
        /// The model whose creator gets the model share.
        model: Option<BlobHash>,
    },
    /// Adds money, or time, or both; by the client.
    TopUp {
        /// Which.
        channel: ChannelId,
        /// How much more; may be nothing.
        amount: Amount,
        /// A later end; an earlier one changes nothing.
        expires: Timestamp,
    },
    /// Takes what a voucher promises beyond what was taken; by the provider or one of its nodes.
    Cash {
        /// The voucher.
        voucher: SignedVoucher,
    },
    /// Ends it before its time and returns the rest to the client; by the provider, after its last voucher.
    Close {
        /// Which.
        channel: ChannelId,
        /// The last voucher, if it was not cashed.
        last: Option<SignedVoucher>,
    },
}

/// What became of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum ChannelEvent {
    /// It is open.
    Opened {
        /// Which.
        channel: ChannelId,
        /// Its generation: what vouchers name.
        generation: u64,
        /// Who pays.
        client: AccountId,
        /// Who serves.
        provider: AccountId,
        /// Put on hold.
        escrow: Amount,
    },
    /// It holds more, or ends later.
    ToppedUp {
        /// Which.
        channel: ChannelId,
        /// Who pays.
        client: AccountId,
        /// Who serves.
        provider: AccountId,
        /// Put on hold in all.
        escrow: Amount,
        /// When it ends.
        expires: Timestamp,
    },
    /// A voucher was cashed.
    Cashed {
        /// Which.
        channel: ChannelId,
        /// Who pays.
        client: AccountId,
        /// Who serves.
        provider: AccountId,
        /// Paid now, all shares.
        amount: Amount,
        /// Paid in all.
        paid: Amount,
    },
    /// It is closed; the record is gone.
    Closed {
        /// Which.
        channel: ChannelId,
        /// Who paid.
        client: AccountId,
        /// Who served.
        provider: AccountId,
        /// Paid in all.
        paid: Amount,
        /// Returned to the client.
        refunded: Amount,
    },
}

impl ChannelEvent {
    /// Client and provider.
    #[must_use]
    pub const fn parties(&self) -> (AccountId, AccountId) {
        match self {
            Self::Opened { client, provider, .. }
            | Self::ToppedUp { client, provider, .. }
            | Self::Cashed { client, provider, .. }
            | Self::Closed { client, provider, .. } => (*client, *provider),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(key: &SigningKey) -> ChannelTerms {
        ChannelTerms { zone: ZoneId([1; 32]), id: ChannelId([2; 32]), generation: 7, key: key.public(), escrow: Amount(100) }
    }

    fn voucher(t: &ChannelTerms, amount: u128) -> Voucher {
        Voucher { zone: t.zone, channel: t.id, generation: t.generation, amount: Amount(amount) }
    }

    #[test]
    fn a_voucher_counts_in_its_channel_only() {
        let key = SigningKey::from_seed([5; 32]);
        let t = terms(&key);
        let good = voucher(&t, 40);
        assert_eq!(t.accept(Amount(30), &good.sign(&key)), Ok(Amount(10)));
        for (bad, what) in [
            (Voucher { zone: ZoneId([9; 32]), ..good }, "network"),
            (Voucher { channel: ChannelId([9; 32]), ..good }, "channel"),
            (Voucher { generation: 8, ..good }, "opening of the channel"),
        ] {
            assert_eq!(t.accept(Amount(0), &bad.sign(&key)), Err(VoucherError::Other(what)));
        }
        let forged = SignedVoucher { voucher: voucher(&t, 41), ..good.sign(&key) };
        assert_eq!(t.accept(Amount(0), &forged), Err(VoucherError::Signature(SignatureError::Invalid)));
        let other = SigningKey::from_seed([6; 32]);
        assert_eq!(t.accept(Amount(0), &good.sign(&other)), Err(VoucherError::Signature(SignatureError::Invalid)));
    }

    #[test]
    fn only_growth_within_the_hold_is_worth_anything() {
        let key = SigningKey::from_seed([5; 32]);
        let t = terms(&key);
        let large = voucher(&t, 120).sign(&key);
        assert_eq!(t.accept(Amount(0), &large), Err(VoucherError::AboveEscrow { got: Amount(120), has: Amount(100) }));
        assert_eq!(t.payable(Amount(30), &large), Ok(Amount(70)), "whoever holds one anyway gets what there is");
        assert_eq!(t.payable(Amount(100), &large), Err(VoucherError::NoGrowth { got: Amount(100), has: Amount(100) }));
        let old = voucher(&t, 40).sign(&key);
        assert_eq!(t.payable(Amount(40), &old), Err(VoucherError::NoGrowth { got: Amount(40), has: Amount(40) }));
    }
}
