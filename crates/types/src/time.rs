//! Ledger time, durations and heights. Time is the block's timestamp in milliseconds; nobody here reads a clock.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Milliseconds since the Unix epoch, by the ledger's clock.
    Timestamp
);
number!(
    /// A length of time in milliseconds.
    Millis
);
number!(
    /// A block's height; genesis is 0.
    Height
);

impl Timestamp {
    /// This time plus a duration, at most the largest time.
    #[must_use]
    pub const fn plus(self, d: Millis) -> Self {
        Self(self.0.saturating_add(d.0))
    }
    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Millis {
    /// Whole seconds.
    #[must_use]
    pub const fn secs(n: u64) -> Self {
        Self(n.saturating_mul(1000))
    }
}
