//! Which epochs are still to be proven: the decisions of the prover, without clock or I/O.
//!
//! ```text
//!  need ──▶ wanted ──▶ search, wait for others, submit ──┬▶ recorded (also by an earlier process) ──▶ done, for ever
//!              ▲                                         ├▶ not known ──▶ wanted
//!              └──────────────── need ───────────────────┴▶ refused: rests until a lease asks for it again
//! ```
//! Guarantees: an epoch is done only once its heartbeat is on the ledger; a refusal is never repeated by itself, only when
//! a lease begins or is served in that epoch; nonces once found are kept, so that asking again costs no second search.

use std::collections::{BTreeMap, BTreeSet};

/// Most heartbeats submitted for one epoch. Each needs a lease that asked for it, so only many short leases in one epoch,
/// each closed before the ledger saw the heartbeat, come near; beyond it the ledger will not take a further one either.
const MAX_ATTEMPTS: u32 = 64;

/// How heartbeats are put together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pace {
    /// Each at once: nothing waits for more of them.
    Single,
    /// Those of so many epochs together, where they have the time to wait for each other.
    Bundled(u64),
}

/// What became of a heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// It is on the ledger.
    Recorded,
    /// The ledger did not take it now; it may when a lease begins in the same epoch.
    Refused,
    /// It may or may not have been taken.
    Unknown,
}

/// The epochs of a node.
#[derive(Default)]
pub(crate) struct Agenda {
    wanted: BTreeSet<u64>,
    done: BTreeSet<u64>,
    attempts: BTreeMap<u64, u32>,
    known: BTreeMap<u64, [u8; 32]>,
    found: BTreeMap<u64, Vec<u64>>,
}

impl Agenda {
    /// A lease begins or is served in this epoch.
    pub(crate) fn need(&mut self, epoch: u64) {
        let spent = self.attempts.get(&epoch).is_some_and(|n| *n >= MAX_ATTEMPTS);
        if !spent && !self.done.contains(&epoch) {
            self.wanted.insert(epoch);
        }
    }
    /// The randomness of an epoch is known.
    pub(crate) fn learn(&mut self, epoch: u64, randomness: [u8; 32]) {
        self.known.insert(epoch, randomness);
    }
    /// It, once it is.
    pub(crate) fn randomness(&self, epoch: u64) -> Option<[u8; 32]> {
        self.known.get(&epoch).copied()
    }
    /// What a search found.
    pub(crate) fn keep(&mut self, epoch: u64, nonces: Vec<u64>) {
        self.found.insert(epoch, nonces);
    }
    /// It, if there was one.
    pub(crate) fn nonces(&self, epoch: u64) -> Option<Vec<u64>> {
        self.found.get(&epoch).cloned()
    }
    /// Whether there is nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.wanted.is_empty()
    }
    /// Epochs to be proven now, oldest first.
    pub(crate) fn wanted(&self) -> Vec<u64> {
        self.wanted.iter().copied().collect()
    }
    /// Which of the epochs whose shares are found are to be submitted now, those that go together in one list, ascending.
    pub(crate) fn due(&self, current: u64, pace: Pace) -> Vec<Vec<u64>> {
        let found: Vec<u64> = self.wanted.iter().copied().filter(|epoch| self.found.contains_key(epoch)).collect();
        let Pace::Bundled(most) = pace else { return found.into_iter().map(|epoch| vec![epoch]).collect() };
        let mut out: Vec<Vec<u64>> = vec![];
        for epoch in found {
            match out.last_mut() {
                Some(group) if group.first().is_some_and(|first| epoch - first < most) => group.push(epoch),
                _ => out.push(vec![epoch]),
            }
        }
        // The last one may still grow until its first epoch is as old as a bundle is long.
        out.retain(|group| group.first().is_some_and(|first| current.saturating_sub(*first) >= most.saturating_sub(1)));
        out
    }
    /// Drops what came before an epoch.
    pub(crate) fn forget_before(&mut self, oldest: u64) {
        self.wanted.retain(|epoch| *epoch >= oldest);
        self.done.retain(|epoch| *epoch >= oldest);
        self.attempts.retain(|epoch, _| *epoch >= oldest);
        self.known.retain(|epoch, _| *epoch >= oldest);
        self.found.retain(|epoch, _| *epoch >= oldest);
    }
    /// What became of an epoch's heartbeat.
    pub(crate) fn answered(&mut self, epoch: u64, answer: Answer) {
        let attempts = self.attempts.entry(epoch).or_default();
        *attempts = attempts.saturating_add(1);
        let again = answer == Answer::Unknown && *attempts < MAX_ATTEMPTS;
        if !again {
            self.wanted.remove(&epoch);
        }
        if answer == Answer::Recorded {
            self.done.insert(epoch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_epoch_rests_until_a_lease_asks_for_it_again() {
        let mut a = Agenda::default();
        a.need(7);
        a.keep(7, vec![1, 2]);
        a.answered(7, Answer::Refused);
        assert!(a.is_idle(), "a refusal is not repeated by itself");
        a.need(7);
        assert_eq!(a.wanted(), [7], "the next lease of the same period is proven");
        assert_eq!(a.nonces(7), Some(vec![1, 2]), "without a second search");
        a.answered(7, Answer::Recorded);
        a.need(7);
        assert!(a.is_idle(), "what is on the ledger is done");
    }

    #[test]
    fn what_may_have_been_taken_is_asked_again_and_not_for_ever() {
        let mut a = Agenda::default();
        a.need(3);
        for _ in 1..MAX_ATTEMPTS {
            a.answered(3, Answer::Unknown);
            assert_eq!(a.wanted(), [3]);
        }
        a.answered(3, Answer::Unknown);
        assert!(a.is_idle());
        a.need(3);
        assert!(a.is_idle());
    }

    #[test]
    fn heartbeats_wait_for_each_other_and_not_too_long() {
        let mut a = Agenda::default();
        for epoch in [3, 4, 5, 7] {
            a.need(epoch);
            a.keep(epoch, vec![epoch]);
        }
        a.need(8);
        assert_eq!(a.due(5, Pace::Bundled(5)), Vec::<Vec<u64>>::new(), "the third epoch may have two more beside it");
        assert_eq!(a.due(7, Pace::Bundled(5)), [vec![3, 4, 5, 7]]);
        assert_eq!(a.due(7, Pace::Single), [[3], [4], [5], [7]], "nobody waits when there is nothing to wait for");
        a.keep(8, vec![8]);
        assert_eq!(a.due(8, Pace::Bundled(5)), [vec![3, 4, 5, 7]], "the eighth begins another bundle");
        assert_eq!(a.due(12, Pace::Bundled(5)), [vec![3, 4, 5, 7], vec![8]]);
        a.answered(3, Answer::Recorded);
        assert_eq!(a.due(8, Pace::Bundled(5)), [vec![4, 5, 7, 8]]);
    }

    #[test]
    fn old_epochs_are_forgotten() {
        let mut a = Agenda::default();
        for epoch in 1..=4 {
            a.need(epoch);
            a.learn(epoch, [0; 32]);
            a.keep(epoch, vec![]);
        }
        a.answered(1, Answer::Recorded);
        a.forget_before(3);
        assert_eq!(a.wanted(), [3, 4]);
        assert_eq!((a.randomness(2), a.nonces(2)), (None, None));
        assert!(a.done.is_empty() && a.attempts.is_empty());
    }
}
