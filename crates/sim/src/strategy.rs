//! What people on the ledger do: the strategies, who they are, what serving costs them.
//!
//! Guarantees: a strategy is data and names what it does physically; how it acts on the ledger is in `provider` and `client`.

use serde::Serialize;

/// What a node does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Serving {
    /// Serves and proves.
    Honest,
    /// Serves, and saves the proofs.
    NoProof,
    /// Proves and claims, and serves nothing.
    Pretend,
    /// The same, and a watcher whom some users name signs for it.
    LyingWatcher,
    /// Takes leases and does nothing at all.
    Stall,
    /// Serves some epochs, stops just before the end of one and claims all of it.
    StopEarly,
    /// Serves, and buys from itself through other accounts until they can lift its standing no more.
    SelfDeal,
    /// Pretends, and begins anew under another name once its own is bad.
    Whitewash,
    /// Declares and sells twice the machine it has.
    OverClaim,
}

impl Serving {
    /// All of them, honest first.
    pub const ALL: [Self; 9] = [
        Self::Honest,
        Self::NoProof,
        Self::Pretend,
        Self::LyingWatcher,
        Self::Stall,
        Self::StopEarly,
        Self::SelfDeal,
        Self::Whitewash,
        Self::OverClaim,
    ];
    /// Whether it never runs a job.
    #[must_use]
    pub const fn pretends(self) -> bool {
        matches!(self, Self::Pretend | Self::LyingWatcher | Self::Whitewash)
    }
    /// Whether it sends heartbeats and answers audits.
    #[must_use]
    pub const fn proves(self) -> bool {
        !matches!(self, Self::NoProof | Self::Stall)
    }
    /// Its price in parts per million of what an honest node with the same machine asks: who serves nothing can ask less.
    #[must_use]
    pub const fn price_ppm(self) -> u128 {
        match self {
            Self::Pretend | Self::LyingWatcher | Self::Whitewash => 800_000,
            // It sells its machine twice.
            Self::OverClaim => 850_000,
            _ => 1_000_000,
        }
    }
    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Honest => "honest provider",
            Self::NoProof => "serves without proving",
            Self::Pretend => "proves without serving",
            Self::LyingWatcher => "the same, with a lying watcher",
            Self::Stall => "stalls",
            Self::StopEarly => "stops just before an epoch's end",
            Self::SelfDeal => "deals with itself for reputation",
            Self::Whitewash => "proves without serving, whitewashes",
            Self::OverClaim => "over-claims capacity",
        }
    }
}

/// What a user does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Using {
    /// Its client looks at every epoch, confirms what it saw and closes at the second failure.
    Attentive,
    /// It is away and named an honest watcher.
    Watched,
    /// It is away and named a watcher that lies for some providers.
    Deceived,
    /// It is away, named nobody and looks rarely.
    Absent,
    /// Takes the service, confirms nothing and objects at the end.
    Objects,
    /// Places orders for whole machines and drops what it is given.
    Spams,
    /// Another name of a provider that deals with itself.
    Sybil,
}

impl Using {
    /// All that are reported, honest first.
    pub const ALL: [Self; 6] = [Self::Attentive, Self::Watched, Self::Deceived, Self::Absent, Self::Objects, Self::Spams];
    /// Whether it plays by the rules.
    #[must_use]
    pub const fn is_honest(self) -> bool {
        matches!(self, Self::Attentive | Self::Watched | Self::Deceived | Self::Absent)
    }
    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Attentive => "honest user, client looks",
            Self::Watched => "honest user, watched",
            Self::Deceived => "honest user, watcher lies",
            Self::Absent => "honest user, absent",
            Self::Objects => "objects always",
            Self::Spams => "spams orders",
            Self::Sybil => "another name of a provider",
        }
    }
}
