//! What came up, and how often.
//!
//! Guarantees: every action, error and edge that must come up is listed, with the reason for each that cannot; what comes up
//! often and is not listed is a failure too, so that the lists stay whole.

use crate::{edges, names};
use pasture_ledger::TxError;
use pasture_types::event::Event;
use pasture_types::tx::Action;
use std::collections::BTreeMap;
use std::fmt;

/// How often each thing must have come up in [`FULL`] histories.
const LEAST: u64 = 100;
/// Histories of a whole run.
pub(crate) const FULL: u64 = 10_000;

/// Kinds of actions, as [`names::action`] names them.
const ACTIONS: &[&str] = &[
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
    "propose",
    "vote",
    "pause",
    "unpause",
    "rate",
    "unbond",
    "sponsor",
    "withdraw sponsorship",
    "dismiss sponsor",
    "unjail",
    "newcomer",
    "bond validator",
    "unbond validator",
    "unjail validator",
    "accuse validator",
    "rotate validator",
    "audit receipts",
    "audit answers",
    "audit contradiction",
    "audit place",
    "heartbeats",
    "pause offer",
    "top up lease",
    "stop renewal",
    "preempt",
    "dismiss node",
    "halt grace",
    "watch",
    "report failure",
    "report loss",
    "register model",
    "test asset",
    "usage bundle",
    "grant",
    "revoke grant",
    "claim invite",
    "set keys",
    "cancel keys",
    "open channel",
    "top up channel",
    "cash voucher",
    "close channel",
    "put certificate",
    "revoke certificate",
    "withdraw certificate",
];

/// Every error: its code, and why no history can show it, if so.
const ERRORS: &[(u16, Option<&str>)] = &[
    (1, None),
    (2, Some("a history has a genesis")),
    (3, None),
    (4, None),
    (5, None),
    (6, None),
    (7, None),
    (10, None),
    (11, None),
    (12, None),
    (13, None),
    (20, None),
    (21, None),
    (22, None),
    (23, None),
    (24, None),
    (30, None),
    (31, None),
    (32, None),
    (33, None),
    (34, None),
    (40, None),
    (41, None),
    (42, None),
    (43, None),
    (50, None),
    (51, None),
    (52, None),
    (53, None),
    (54, None),
    (55, None),
    (60, None),
    (70, None),
    (71, None),
    (75, None),
    (80, None),
    (85, None),
    (86, None),
    (87, None),
    (88, None),
    (89, Some("the node finds it where it verifies signatures, which needs the curve")),
    (95, None),
    (100, None),
    (101, None),
    (102, None),
    (103, None),
    (104, None),
    (105, None),
    (106, None),
    (110, None),
    (130, None),
    (131, None),
    (132, None),
    (133, None),
    (140, None),
];

/// Counts of everything that came up.
#[derive(Default)]
pub(crate) struct Coverage {
    done: BTreeMap<&'static str, u64>,
    tried: BTreeMap<&'static str, u64>,
    errors: BTreeMap<u16, (u64, String)>,
    edges: BTreeMap<String, u64>,
    pub(crate) histories: u64,
    pub(crate) blocks: u64,
}

impl Coverage {
    pub(crate) fn action(&mut self, action: &Action, done: bool) {
        *self.tried.entry(names::action(action)).or_default() += 1;
        if done {
            *self.done.entry(names::action(action)).or_default() += 1;
        }
    }
    pub(crate) fn error(&mut self, error: &TxError) {
        let code = error.code();
        assert!(ERRORS.iter().any(|(c, why)| *c == code && why.is_none()), "error {code} is not listed: {error}");
        self.errors.entry(code).or_insert_with(|| (0, error.to_string())).0 += 1;
    }
    pub(crate) fn event(&mut self, event: &Event) {
        self.edge(names::event(event));
    }
    pub(crate) fn edge(&mut self, edge: String) {
        *self.edges.entry(edge).or_default() += 1;
    }
    pub(crate) fn actions(&self) -> u64 {
        self.tried.values().sum()
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
        self.histories += other.histories;
    }
    /// How often each thing must have come up in so many histories; in a short run half of its part, since chance weighs more.
    pub(crate) const fn least(&self) -> u64 {
        if self.histories < FULL { LEAST * self.histories / FULL / 2 } else { LEAST }
    }
    /// What came up too rarely, and what came up that nobody listed.
    pub(crate) fn amiss(&self) -> Vec<String> {
        let mut amiss = Vec::new();
        let least = self.least();
        let count = |n: Option<&u64>| n.copied().unwrap_or(0);
        for k in ACTIONS {
            let n = count(self.done.get(k));
            if n < least {
                amiss.push(format!("action {k}: {n}"));
            }
        }
        for e in edges::EDGES {
            let n = count(self.edges.get(*e));
            if n < least {
                amiss.push(format!("edge {e}: {n}"));
            }
        }
        for (code, _) in ERRORS.iter().filter(|(_, why)| why.is_none()) {
            let n = self.errors.get(code).map_or(0, |(n, _)| *n);
            if n < least {
                amiss.push(format!("error {code}: {n}"));
            }
        }
        // Two steps in one block make edges of their own, hardly ever; what comes up often must be listed.
        let listed = |e: &str| edges::EDGES.contains(&e) || edges::SELDOM.iter().any(|(s, _)| *s == e);
        let often = |n: u64| self.histories >= FULL && n >= least;
        amiss.extend(self.edges.iter().filter(|(e, n)| often(**n) && !listed(e)).map(|(e, n)| format!("edge {e} is not listed: {n}")));
        amiss
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} histories, {} blocks, {} actions; each at least {} times",
            self.histories,
            self.blocks,
            self.actions(),
            self.least()
        )?;
        for k in ACTIONS {
            let (done, tried) = (self.done.get(k).unwrap_or(&0), self.tried.get(k).unwrap_or(&0));
            writeln!(f, "  action {k:<22} {done:>8} of {tried}")?;
        }
        for (edge, n) in &self.edges {
            writeln!(f, "  edge {edge:<46} {n:>8}")?;
        }
        for (code, (n, text)) in &self.errors {
            writeln!(f, "  error {code:>3} {n:>8}  {}", text.chars().take(90).collect::<String>())?;
        }
        for (code, why) in ERRORS.iter().filter_map(|(c, why)| why.map(|w| (c, w))).filter(|(c, _)| **c > 0) {
            writeln!(f, "  error {code:>3}    never  {why}")?;
        }
        for (name, why) in edges::SELDOM {
            writeln!(f, "  not counted: {name}: {why}")?;
        }
        Ok(())
    }
}
