//! Usage of many leases of one node in one action: what the ledger knows already is left out. Spec: `docs/specs/settlement.md` §1.
//!
//! Guarantees: one encoding per bundle; what is left out is filled in from the ledger's own records, so that what users sign
//! stays a whole [`Usage`] and is the same either way. It decides nothing: the rules are in `ledger`.

use crate::keys::Signature;
use crate::lease::Usage;
use crate::{BlobHash, LeaseId, Millis, Timestamp};
use borsh::{BorshDeserialize, BorshSerialize};
use std::io;

/// Most leases in one bundle: some 8 KiB.
pub const MAX_BUNDLED_USAGES: usize = 64;
/// Bytes of a lease's id that tell it from the other open leases of its node.
pub const LEASE_PREFIX: usize = 8;
/// Groups of seven bits in a number.
const MAX_GROUPS: u32 = 10;

/// A number in groups of seven bits, the lowest first: small ones take a byte.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Short(pub u64);

impl BorshSerialize for Short {
    fn serialize<W: io::Write>(&self, writer: &mut W) -> io::Result<()> {
        let mut rest = self.0;
        while rest >= 0x80 {
            writer.write_all(&[0x80 | rest.to_le_bytes()[0]])?;
            rest >>= 7;
        }
        writer.write_all(&[rest.to_le_bytes()[0]])
    }
}

impl BorshDeserialize for Short {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "a number is not in its one form");
        let mut value = 0u64;
        for group in 0..MAX_GROUPS {
            let byte = u8::deserialize_reader(reader)?;
            let bits = u64::from(byte & 0x7f);
            let shift = group * 7;
            // The last group holds the one bit that is left, and is not empty unless it is the only one.
            if bits.leading_zeros() < shift || (byte == 0 && group > 0) {
                return Err(wrong());
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(Self(value));
            }
        }
        Err(wrong())
    }
}

/// The log under a usage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct LogMark {
    /// [`Usage::log_root`].
    pub root: BlobHash,
    /// [`Usage::log_bytes`].
    pub bytes: Short,
}

/// Who confirmed a bundled usage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum Confirmer {
    /// The lease's account.
    User,
    /// The lease's watcher.
    Watcher,
}

/// A confirmation whose account and key the ledger looks up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Confirmed {
    /// Who.
    pub by: Confirmer,
    /// Which of that account's keys, counted from 0 in their order.
    pub key: u8,
    /// Over [`Usage::counter_digest`].
    pub signature: Signature,
}

/// The usage of one lease, of its current generation.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct BundledUsage {
    /// How its id begins; the node has no other open lease whose id begins so.
    pub lease: [u8; LEASE_PREFIX],
    /// How many epochs [`Usage::epoch`] lies before the bundle's.
    pub epochs_ago: Short,
    /// [`Usage::started`]; only as long as the ledger has not recorded it.
    pub started: Option<Timestamp>,
    /// [`Usage::served_ms`].
    pub served_ms: Short,
    /// [`Usage::build_ms`].
    pub build_ms: Short,
    /// [`Usage::steal_ms`].
    pub steal_ms: Short,
    /// The log; absent if it is that of the last recorded usage.
    pub log: Option<LogMark>,
    /// The confirmation, if there is one.
    pub confirmed: Option<Confirmed>,
}

/// Usage of several leases of the node that signs the envelope; that signature stands for those of each usage.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct UsageBundle {
    /// From which the usages' epochs count back.
    pub epoch: u64,
    /// One for each lease.
    pub usages: Vec<BundledUsage>,
}

/// What the ledger knows of a lease.
#[derive(Clone, Debug)]
pub struct Known<'a> {
    /// Which.
    pub lease: LeaseId,
    /// Its generation.
    pub generation: u32,
    /// When its service began, if that is recorded.
    pub started: Option<Timestamp>,
    /// The last recorded usage.
    pub last: Option<&'a Usage>,
}

impl BundledUsage {
    /// What is left of a usage when all that is known is left out.
    #[must_use]
    pub fn pack(usage: &Usage, epoch: u64, known: &Known<'_>, confirmed: Option<Confirmed>) -> Self {
        let log = LogMark { root: usage.log_root, bytes: Short(usage.log_bytes) };
        let same_log = known.last.is_some_and(|l| l.log_root == usage.log_root && l.log_bytes == usage.log_bytes);
        let mut lease = [0; LEASE_PREFIX];
        lease.iter_mut().zip(usage.lease.0).for_each(|(to, from)| *to = from);
        Self {
            lease,
            epochs_ago: Short(epoch.saturating_sub(usage.epoch)),
            started: (known.started != Some(usage.started)).then_some(usage.started),
            served_ms: Short(usage.served_ms.0),
            build_ms: Short(usage.build_ms.0),
            steal_ms: Short(usage.steal_ms.0),
            log: (!same_log).then_some(log),
            confirmed,
        }
    }

    /// The whole usage; `None` if something is left out that the ledger does not know.
    #[must_use]
    pub fn unpack(&self, epoch: u64, known: &Known<'_>) -> Option<Usage> {
        let (log_root, log_bytes) = match (&self.log, known.last) {
            (Some(log), _) => (log.root, log.bytes.0),
            (None, Some(last)) => (last.log_root, last.log_bytes),
            (None, None) => return None,
        };
        Some(Usage {
            lease: known.lease,
            generation: known.generation,
            epoch: epoch.checked_sub(self.epochs_ago.0)?,
            started: self.started.or(known.started)?,
            served_ms: Millis(self.served_ms.0),
            build_ms: Millis(self.build_ms.0),
            log_root,
            log_bytes,
            steal_ms: Millis(self.steal_ms.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usage(n: u64) -> Usage {
        Usage {
            lease: LeaseId([7; 32]),
            generation: 3,
            epoch: 40,
            started: Timestamp(1_000),
            served_ms: Millis(n),
            build_ms: Millis(n / 3),
            log_root: BlobHash([9; 32]),
            log_bytes: n / 2,
            steal_ms: Millis(n / 100),
        }
    }

    proptest! {
        #[test]
        fn a_number_has_one_form(n: u64, bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let encoded = crate::codec::encode(&Short(n));
            prop_assert!(encoded.len() <= 10);
            prop_assert_eq!(crate::codec::decode::<Short>(&encoded, 10), Ok(Short(n)));
            if let Ok(read) = crate::codec::decode::<Short>(&bytes, 12) {
                prop_assert_eq!(crate::codec::encode(&read), bytes);
            }
        }

        #[test]
        fn what_is_packed_comes_out_whole(n in 0..u64::MAX / 4, before in 0..1_000_000u64, later in 0..100u64, begun: bool) {
            let (whole, last) = (usage(n), usage(before));
            let known = Known { lease: whole.lease, generation: 3, started: begun.then_some(whole.started), last: begun.then_some(&last) };
            let packed = BundledUsage::pack(&whole, 40 + later, &known, None);
            prop_assert_eq!(packed.started.is_none(), begun);
            prop_assert_eq!(packed.unpack(40 + later, &known), Some(whole));
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        assert_eq!(crate::codec::encode(&Short(u64::MAX)).len(), 10);
        let mut beyond = [0xff; 10];
        beyond[9] = 2;
        assert!(crate::codec::decode::<Short>(&beyond, 10).is_err());
        assert!(crate::codec::decode::<Short>(&[0x80, 0], 10).is_err(), "zero in two bytes");
    }

    #[test]
    fn what_nobody_knows_cannot_be_left_out() {
        let whole = usage(50);
        let nothing = Known { lease: whole.lease, generation: 3, started: None, last: None };
        let all = Known { started: Some(whole.started), last: Some(&whole), ..nothing.clone() };
        let packed = BundledUsage::pack(&whole, 40, &all, None);
        assert!(packed.log.is_none() && packed.started.is_none());
        assert_eq!(packed.unpack(40, &nothing), None);
        assert_eq!(packed.unpack(0, &Known { lease: LeaseId([8; 32]), ..all.clone() }).map(|u| u.epoch), Some(0));
        assert_eq!(BundledUsage { epochs_ago: Short(1), ..packed }.unpack(0, &all), None, "before the first epoch");
    }
}
