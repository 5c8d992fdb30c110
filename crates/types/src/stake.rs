//! Deposits: their parameters, actions and events, and a newcomer's proof-of-work stamp. Spec: `docs/specs/stake.md`.
//!
//! Guarantees: a stamp is bound to zone, account and day; whether its work was done depends on its bytes alone, so that it is
//! verified where signatures are. It does not say who may use one: rules are in `ledger`.

use crate::genesis::Params;
use crate::governance::{OutOfBounds, within};
use crate::ids::derive;
use crate::{AccountId, Amount, Millis, NodeId, Timestamp, ZoneId};
use argon2::{Algorithm, Argon2, Params as Argon2Params, Version};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

const STAMP_DOMAIN: &str = "pasture 2026-11 newcomer stamp v1";
const FRONT_DOMAIN: &str = "pasture 2026-11 newcomer stamp front v1";
/// Memory of one stamp evaluation in KiB: 16 MiB, some 6 ms on a server's core, more than a cache holds.
pub const STAMP_MEMORY_KIB: u32 = 16 * 1024;
/// Leading zero bits of the cheap hash in front: whoever sends a false stamp hashes some 2^18 times (about as long as ten
/// verifications take) to have one evaluation done in vain.
pub const STAMP_FRONT_BITS: u32 = 18;

const PPM: u32 = 1_000_000;

/// Parameters of deposits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct StakeParams {
    /// How long a deposit that is taken back still answers for what was done under it.
    pub unbond_delay: Millis,
    /// Chance of an audit before a payout, in parts per million, while no audit rule answers for a node.
    pub audit_chance_ppm: u32,
    /// The reporter's part of a forfeited deposit, in parts per million.
    pub reporter_ppm: u32,
    /// Part of a deposit that is forfeited for two signed statements that contradict each other, in parts per million.
    pub equivocation_ppm: u32,
    /// The least that a sponsor posts.
    pub min_sponsorship: Amount,
    /// The hourly rate that a newcomer may hold in open leases before it has a deposit.
    pub newcomer_rate: Amount,
    /// What the treasury sets aside for a newcomer's first fees.
    pub newcomer_fees: Amount,
    /// What the treasury sets aside for newcomers' fees on one day.
    pub newcomer_fees_per_day: Amount,
    /// How long that is kept for a newcomer.
    pub newcomer_fees_for: Millis,
    /// Most newcomers in one block.
    pub newcomers_per_block: u32,
    /// Leading zero bits of a stamp: `2^bits` evaluations on average.
    pub stamp_bits: u8,
}

impl StakeParams {
    /// Of a development zone.
    #[must_use]
    pub const fn dev() -> Self {
        Self {
            unbond_delay: Millis(60_000),
            audit_chance_ppm: 900_000,
            reporter_ppm: 100_000,
            equivocation_ppm: 100_000,
            min_sponsorship: Amount(100_000_000),
            newcomer_rate: Amount::credits(2),
            newcomer_fees: Amount(20_000_000),
            newcomer_fees_per_day: Amount::credits(1),
            newcomer_fees_for: Millis(30 * 24 * 3_600_000),
            newcomers_per_block: 4,
            stamp_bits: 1,
        }
    }
    /// Of a production zone.
    #[must_use]
    pub const fn production() -> Self {
        Self {
            // Longer than the longest lease with its windows, so that whoever leaves still answers for every lease that was open.
            unbond_delay: Millis(9 * 24 * 3_600_000),
            min_sponsorship: Amount::credits(10),
            stamp_bits: 10,
            ..Self::dev()
        }
    }
}

impl StakeParams {
    /// Checks the bounds of each, and of the set with the zone's other parameters.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn check(&self, p: &Params) -> Result<(), OutOfBounds> {
        const DAY: u64 = 24 * 3_600_000;
        // Whoever leaves answers for every lease that was open when it did.
        let epochs = p.objection_epochs.saturating_add(p.heartbeat_grace_epochs).saturating_add(16);
        let windows = p.epoch.0.saturating_mul(epochs).saturating_add(p.start_window.0);
        let least = if p.dev { 1_000 } else { p.max_lease.0.saturating_add(windows) };
        within("stake.unbond_delay, which outlasts the longest lease and its windows,", self.unbond_delay.0, least, 400 * DAY)?;
        // Without any chance nothing that costs anything could be leased.
        within("stake.audit_chance_ppm", self.audit_chance_ppm, 10_000u32, PPM)?;
        // Whoever reports himself under another name must lose most of it.
        within("stake.reporter_ppm", self.reporter_ppm, 0u32, 500_000u32)?;
        within("stake.equivocation_ppm", self.equivocation_ppm, 1_000u32, PPM)?;
        within("stake.min_sponsorship", self.min_sponsorship.0, 1u32, Amount::credits(1_000_000).0)?;
        let most = if p.dev { Amount::credits(1_000_000) } else { p.min_stake };
        within("stake.newcomer_rate, in production at most min_stake,", self.newcomer_rate.0, 0u32, most.0)?;
        within("stake.newcomer_fees_per_day", self.newcomer_fees_per_day.0, 0u32, Amount::credits(1_000_000).0)?;
        within("stake.newcomer_fees", self.newcomer_fees.0, 0u32, self.newcomer_fees_per_day.0)?;
        within("stake.newcomer_fees_for", self.newcomer_fees_for.0, 0u64, 366 * DAY)?;
        // Each costs 10 ms of a block.
        within("stake.newcomers_per_block", self.newcomers_per_block, 0u32, 8u32)?;
        within("stake.stamp_bits", self.stamp_bits, 0u8, 32u8)
    }
}

/// What a deposit is forfeited or a provider suspended for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A capacity check failed, again after it was repeated.
    FailedAudit,
    /// A result was found wrong.
    LostDispute,
    /// Two different statements were signed where one is allowed.
    Equivocation,
    /// It did not do what its seat asks.
    Absence,
}

/// Proof of work by which a newcomer begins without credits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Stamp {
    /// The day (UTC, since 1970) for which it was made; it is taken on this and the next day.
    pub day: u64,
    /// What was searched.
    pub nonce: u64,
    /// The Argon2id output.
    pub tag: [u8; 32],
    /// Makes the cheap hash over the rest small.
    pub front: u64,
}

fn leading_zeros(bytes: &[u8; 32]) -> u32 {
    let mut zeros = 0;
    for byte in bytes {
        zeros += byte.leading_zeros();
        if *byte != 0 {
            break;
        }
    }
    zeros
}

impl Stamp {
    fn salt(zone: &ZoneId, account: &AccountId, day: u64) -> [u8; 32] {
        derive(STAMP_DOMAIN, &[&zone.0, &account.0, &day.to_be_bytes()])
    }
    /// One evaluation: memory-hard, one pass, one lane.
    fn evaluate(salt: &[u8; 32], nonce: u64) -> Option<[u8; 32]> {
        let params = Argon2Params::new(STAMP_MEMORY_KIB, 1, 1, Some(32)).ok()?;
        let mut tag = [0u8; 32];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(&nonce.to_be_bytes(), salt, &mut tag).ok()?;
        Some(tag)
    }
    fn front_of(&self, salt: &[u8; 32]) -> [u8; 32] {
        derive(FRONT_DOMAIN, &[salt, &self.nonce.to_be_bytes(), &self.tag, &self.front.to_be_bytes()])
    }
    /// Searches `tries` nonces from one on; `None` if none of them has `bits` leading zero bits.
    #[must_use]
    pub fn search(zone: &ZoneId, account: &AccountId, day: u64, bits: u8, from: u64, tries: u64) -> Option<Self> {
        let salt = Self::salt(zone, account, day);
        let (nonce, tag) = (from..from.saturating_add(tries)).find_map(|nonce| {
            let tag = Self::evaluate(&salt, nonce)?;
            (leading_zeros(&tag) >= u32::from(bits)).then_some((nonce, tag))
        })?;
        let mut stamp = Self { day, nonce, tag, front: 0 };
        while leading_zeros(&stamp.front_of(&salt)) < STAMP_FRONT_BITS {
            stamp.front = stamp.front.checked_add(1)?;
        }
        Some(stamp)
    }
    /// Whether the work was done; the cheap hash is looked at first.
    #[must_use]
    pub fn verify(&self, zone: &ZoneId, account: &AccountId) -> bool {
        let salt = Self::salt(zone, account, self.day);
        leading_zeros(&self.front_of(&salt)) >= STAMP_FRONT_BITS && Self::evaluate(&salt, self.nonce) == Some(self.tag)
    }
    /// How much work it shows.
    #[must_use]
    pub fn bits(&self) -> u32 {
        leading_zeros(&self.tag)
    }
}

/// What is done with deposits, besides `Action::Stake`. Variants are only ever added at the end.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum DepositAction {
    /// Takes part of the acting provider's deposit back; it returns after the delay.
    Unbond {
        /// How much.
        amount: Amount,
    },
    /// Posts a deposit for another provider.
    Sponsor {
        /// For whom.
        provider: AccountId,
        /// How much.
        amount: Amount,
    },
    /// Takes part of what was posted for another back; it returns after the delay.
    WithdrawSponsorship {
        /// From whom.
        provider: AccountId,
        /// How much.
        amount: Amount,
    },
    /// The acting provider sends a sponsor away; all of its deposit returns after the delay.
    DismissSponsor {
        /// Whom.
        sponsor: AccountId,
    },
    /// Ends a suspension of the acting provider, or of its node, whose time has passed.
    Unjail {
        /// Which node; none: the provider itself.
        node: Option<NodeId>,
    },
    /// The acting provider begins without a deposit.
    Newcomer {
        /// Its proof of work.
        stamp: Stamp,
    },
}

/// Where a forfeited deposit came from and where it went.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Forfeit {
    /// From the own deposit.
    pub own: Amount,
    /// From the own deposit that was being taken back.
    pub unbonding: Amount,
    /// From sponsors.
    pub sponsors: Amount,
    /// To the treasury.
    pub to_treasury: Amount,
    /// To who reported it.
    pub to_reporter: Amount,
}

impl Forfeit {
    /// All that was taken.
    #[must_use]
    pub const fn taken(&self) -> Amount {
        self.own.saturating_add(self.unbonding).saturating_add(self.sponsors)
    }
}

/// What happened to deposits. Variants are only ever added at the end.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum DepositEvent {
    /// A deposit is on its way back.
    Unbonding {
        /// Of which provider.
        provider: AccountId,
        /// Whose money it is.
        owner: AccountId,
        /// How much.
        amount: Amount,
        /// When it is free, unless a halt delays it.
        release: Timestamp,
    },
    /// A deposit is back.
    Released {
        /// Of which provider.
        provider: AccountId,
        /// Whose money it is.
        owner: AccountId,
        /// How much.
        amount: Amount,
    },
    /// Somebody posted a deposit for another.
    Sponsored {
        /// For whom.
        provider: AccountId,
        /// Who.
        sponsor: AccountId,
        /// How much.
        amount: Amount,
    },
    /// A deposit was forfeited.
    Forfeited {
        /// Whose.
        provider: AccountId,
        /// Why.
        fault: Fault,
        /// From where to where.
        forfeit: Forfeit,
    },
    /// A provider or a node takes no new leases.
    Suspended {
        /// Who.
        provider: AccountId,
        /// Only this node.
        node: Option<NodeId>,
        /// Until when at least.
        until: Timestamp,
        /// Why.
        fault: Fault,
    },
    /// A suspension is over.
    Reinstated {
        /// Whose.
        provider: AccountId,
        /// Only this node's.
        node: Option<NodeId>,
    },
    /// A provider began without a deposit.
    NewcomerBegan {
        /// Who.
        provider: AccountId,
    },
}

impl DepositEvent {
    /// The provider and, if it is another, whose money it is.
    #[must_use]
    pub const fn accounts(&self) -> [Option<AccountId>; 2] {
        match self {
            Self::Unbonding { provider, owner, .. } | Self::Released { provider, owner, .. } => [Some(*provider), Some(*owner)],
            Self::Sponsored { provider, sponsor, .. } => [Some(*provider), Some(*sponsor)],
            Self::Forfeited { provider, .. }
            | Self::Suspended { provider, .. }
            | Self::Reinstated { provider, .. }
            | Self::NewcomerBegan { provider } => [Some(*provider), None],
        }
    }
    /// The node, if it concerns one alone.
    #[must_use]
    pub const fn node(&self) -> Option<NodeId> {
        match self {
            Self::Suspended { node, .. } | Self::Reinstated { node, .. } => *node,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_good_for_one_account_zone_and_day() {
        let (zone, account) = (ZoneId([1; 32]), AccountId([2; 32]));
        let stamp = Stamp::search(&zone, &account, 7, 2, 0, 1_000).unwrap();
        assert!(stamp.bits() >= 2 && stamp.verify(&zone, &account));
        assert!(!stamp.verify(&ZoneId([3; 32]), &account));
        assert!(!stamp.verify(&zone, &AccountId([3; 32])));
        assert!(!Stamp { day: 8, ..stamp }.verify(&zone, &account));
        assert!(!Stamp { front: stamp.front + 1, ..stamp }.verify(&zone, &account));
        // The cheap hash alone does not help: a stamp with a made-up tag and a good front is refused.
        let salt = Stamp::salt(&zone, &account, 7);
        let mut forged = Stamp { tag: [0; 32], front: 0, ..stamp };
        while leading_zeros(&forged.front_of(&salt)) < STAMP_FRONT_BITS {
            forged.front += 1;
        }
        assert_eq!(forged.bits(), 256);
        assert!(!forged.verify(&zone, &account));
        assert_eq!(Stamp::search(&zone, &account, 7, 255, 0, 2), None);
    }

    #[test]
    fn who_leaves_answers_for_every_lease_that_was_open() {
        let p = crate::genesis::Params::production();
        let windows = p.epoch.0 * (p.objection_epochs + p.heartbeat_grace_epochs + 15);
        assert!(p.stake.unbond_delay.0 >= p.max_lease.0 + p.start_window.0 + windows);
        // Else a newcomer that has earned a first small deposit could hold less than it could without.
        assert!(p.stake.newcomer_rate < p.min_stake);
    }
}
