//! What came up, and how often.

use pasture_ledger::TxError;
use pasture_types::tx::Action;
use std::collections::BTreeMap;
use std::fmt;

/// How often each thing must have come up.
pub(crate) const LEAST: u64 = 100;

/// Kinds of actions, as [`kind`] names them.
const KINDS: [&str; 18] = [
    "register account",
    "register provider",
    "register node",
    "stake",
    "put offer",
    "withdraw offer",
    "place order",
    "cancel order",
    "accept",
    "reject",
    "usage",
    "heartbeat",
    "close",
    "object",
    "extend",
    "transfer",
    "test credits",
    "register validator",
];

/// Codes of errors that no history can show, and why.
const UNREACHED: [(u16, &str); 1] = [(2, "a history has a genesis")];

/// Highest code of an error.
const LAST_CODE: u16 = 60;

/// Edges of the lifecycles of leases and orders, as seen between the ends of blocks.
const EDGES: [&str; 20] = [
    "lease - > matched",
    "lease matched > accepted",
    "lease matched > running",
    "lease matched > closed",
    "lease accepted > running",
    "lease accepted > closing",
    "lease accepted > closed",
    "lease running > closing",
    "lease running > closed",
    "lease closing > closed",
    "order - > pending",
    "order pending > drawn",
    "order pending > waiting",
    "order drawn > served",
    "order drawn > waiting",
    "order drawn > cancelled",
    "order drawn > expired",
    "order waiting > drawn",
    "order waiting > cancelled",
    "order waiting > expired",
];

/// A short name of an action's kind.
pub(crate) fn kind(action: &Action) -> &'static str {
    match action {
        Action::RegisterAccount { .. } => "register account",
        Action::RegisterProvider { .. } => "register provider",
        Action::RegisterNode { .. } => "register node",
        Action::Stake { .. } => "stake",
        Action::PutOffer { .. } => "put offer",
        Action::WithdrawOffer { .. } => "withdraw offer",
        Action::PlaceOrder { .. } => "place order",
        Action::CancelOrder { .. } => "cancel order",
        Action::AcceptLease { .. } => "accept",
        Action::RejectLease { .. } => "reject",
        Action::SubmitUsage { .. } => "usage",
        Action::SubmitHeartbeat { .. } => "heartbeat",
        Action::CloseLease { .. } => "close",
        Action::Object { .. } => "object",
        Action::Extend { .. } => "extend",
        Action::Transfer { .. } => "transfer",
        Action::TestCredits { .. } => "test credits",
        Action::RegisterValidator { .. } => "register validator",
    }
}

/// Counts of everything that came up.
#[derive(Default)]
pub(crate) struct Coverage {
    done: BTreeMap<&'static str, u64>,
    tried: BTreeMap<&'static str, u64>,
    errors: BTreeMap<u16, (u64, String)>,
    edges: BTreeMap<String, u64>,
    pub(crate) blocks: u64,
    pub(crate) settled: u64,
}

impl Coverage {
    pub(crate) fn action(&mut self, action: &Action, done: bool) {
        *self.tried.entry(kind(action)).or_default() += 1;
        if done {
            *self.done.entry(kind(action)).or_default() += 1;
        }
    }
    pub(crate) fn error(&mut self, error: &TxError) {
        let entry = self.errors.entry(error.code()).or_insert_with(|| (0, error.to_string()));
        entry.0 += 1;
    }
    pub(crate) fn edge(&mut self, edge: String) {
        *self.edges.entry(edge).or_default() += 1;
    }
    pub(crate) fn add(&mut self, other: &Self) {
        for (k, n) in &other.done {
            *self.done.entry(k).or_default() += n;
        }
        for (k, n) in &other.tried {
            *self.tried.entry(k).or_default() += n;
        }
        for (k, (n, text)) in &other.errors {
            self.errors.entry(*k).or_insert_with(|| (0, text.clone())).0 += n;
        }
        for (k, n) in &other.edges {
            *self.edges.entry(k.clone()).or_default() += n;
        }
        self.blocks += other.blocks;
        self.settled += other.settled;
    }
    /// What came up too rarely.
    pub(crate) fn rare(&self) -> Vec<String> {
        let mut rare = Vec::new();
        let count = |n: Option<&u64>| n.copied().unwrap_or(0);
        for k in KINDS {
            // What the rules refuse by design counts as tried.
            let n = if k == "register validator" { count(self.tried.get(k)) } else { count(self.done.get(k)) };
            if n < LEAST {
                rare.push(format!("action {k}: {n}"));
            }
        }
        for e in EDGES {
            let n = count(self.edges.get(e));
            if n < LEAST {
                rare.push(format!("edge {e}: {n}"));
            }
        }
        for code in error_codes().filter(|c| UNREACHED.iter().all(|(u, _)| u != c)) {
            let n = self.errors.get(&code).map_or(0, |(n, _)| *n);
            if n < LEAST {
                rare.push(format!("error {code}: {n}"));
            }
        }
        rare
    }
}

/// The codes that exist: every number up to the last that some error has.
fn error_codes() -> impl Iterator<Item = u16> {
    const GAPS: [std::ops::RangeInclusive<u16>; 6] = [8..=9, 14..=19, 25..=29, 35..=39, 44..=49, 53..=59];
    (1..=LAST_CODE).filter(|c| !GAPS.iter().any(|g| g.contains(c)))
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} blocks, {} leases settled", self.blocks, self.settled)?;
        for k in KINDS {
            let (done, tried) = (self.done.get(k).unwrap_or(&0), self.tried.get(k).unwrap_or(&0));
            writeln!(f, "  {k:<20} {done:>8} of {tried}")?;
        }
        for (edge, n) in &self.edges {
            writeln!(f, "  {edge:<36} {n:>8}")?;
        }
        for (code, (n, text)) in &self.errors {
            writeln!(f, "  error {code:>3} {n:>8}  {}", text.chars().take(90).collect::<String>())?;
        }
        Ok(())
    }
}
