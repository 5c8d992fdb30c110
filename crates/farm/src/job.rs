//! What a client believes of a running job: the decisions of following and confirming, without any I/O.
//!
//! ```text
//!  usage ──▶ plausible? ──no──▶ refuse
//!               │ yes
//!            alive? (log: seen here; port, exec: ask)──no──▶ refuse; after two in a row, close
//!               │ yes
//!            confirm
//! ```
//! Guarantees: nothing is confirmed that we could not have seen: not more time than passed since we know that the job was not
//! running yet, not beyond the first failed check, never less than before. Times are milliseconds of our own clock, but for
//! those inside a usage. It does not verify signatures.

use pasture_api::data::Phase;
use pasture_types::lease::Usage;
use pasture_types::market::AliveCheck;
use pasture_types::{LeaseId, Millis};

/// How far a machine's clock and ours may part, and how late its events may come.
pub(crate) const SLACK: Millis = Millis(2_000);
/// Failed checks in a row after which the job is closed.
pub(crate) const MAX_FAILED: u32 = 2;

/// What to do about a usage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Confirm it.
    Confirm,
    /// Ask the machine to make the order's check, then tell [`Watch::checked`].
    Ask,
    /// Do not confirm it, for this reason.
    Refuse(String),
}

/// What we have seen of one lease.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    lease: LeaseId,
    generation: u32,
    alive: AliveCheck,
    /// The last moment at which we know that the job was not running.
    not_running: u64,
    /// The last moment at which we know that nothing was built.
    not_building: u64,
    running: bool,
    last_frame: u64,
    /// The first failed check since the last good one.
    failing_since: Option<u64>,
    failed: u32,
    /// The last usage that was confirmed.
    confirmed: Option<Usage>,
    /// When the process began, as the machine said first.
    started: Option<u64>,
}

impl Watch {
    /// Begins to watch a lease that was accepted just now.
    pub(crate) const fn new(lease: LeaseId, generation: u32, alive: AliveCheck, now: u64) -> Self {
        Self {
            lease,
            generation,
            alive,
            not_running: now,
            not_building: now,
            running: false,
            last_frame: now,
            failing_since: None,
            failed: 0,
            confirmed: None,
            started: None,
        }
    }

    /// Begins to watch somebody's lease, which its node accepted some time ago: nothing ran before that.
    pub(crate) const fn joining(lease: LeaseId, generation: u32, alive: AliveCheck, accepted: u64, now: u64) -> Self {
        Self { not_running: accepted, not_building: accepted, ..Self::new(lease, generation, alive, now) }
    }

    /// The machine said what it is doing.
    pub(crate) const fn on_phase(&mut self, phase: Phase, now: u64) {
        match phase {
            Phase::AwaitingManifest | Phase::AwaitingContext => {
                self.not_building = now;
                self.not_running = now;
            }
            Phase::Building | Phase::Pulling | Phase::Starting => self.not_running = now,
            Phase::Running if !self.running => {
                self.running = true;
                self.last_frame = now;
            }
            Phase::Running | Phase::Restarting | Phase::Stopping | Phase::Ended => {}
        }
    }

    /// The job wrote something.
    pub(crate) const fn on_output(&mut self, now: u64) {
        self.last_frame = now;
    }

    /// A usage came, its signature verified. `last`: the job has ended, so nothing is left to be asked.
    pub(crate) fn on_usage(&mut self, usage: &Usage, last: bool, now: u64) -> Verdict {
        let verdict = self.judge(usage, last, now);
        match &verdict {
            Verdict::Refuse(_) => self.fail(now),
            Verdict::Confirm if !last => self.pass(),
            Verdict::Confirm | Verdict::Ask => {}
        }
        verdict
    }

    fn judge(&mut self, usage: &Usage, last: bool, now: u64) -> Verdict {
        if let Err(why) = self.plausible(usage, last, now) {
            return Verdict::Refuse(why);
        }
        match self.alive {
            AliveCheck::Log(within) => {
                // The last words may be as old as the check allows, and the service that they stand for no longer.
                let silent = now.saturating_sub(self.last_frame);
                let told = self.last_frame.saturating_add(within.0);
                if silent <= within.0 || (last && self.bound(told) >= usage.served_ms.0) {
                    Verdict::Confirm
                } else {
                    Verdict::Refuse(format!("it has written nothing for {}", crate::render::number::duration(Millis(silent))))
                }
            }
            AliveCheck::Exec | AliveCheck::Port(_) if last => Verdict::Confirm,
            AliveCheck::Exec | AliveCheck::Port(_) => Verdict::Ask,
        }
    }

    /// The most service there can have been up to a moment.
    const fn bound(&self, until: u64) -> u64 {
        until.saturating_sub(self.not_running).saturating_add(SLACK.0)
    }

    fn plausible(&mut self, usage: &Usage, last: bool, now: u64) -> Result<(), String> {
        if usage.lease != self.lease || usage.generation != self.generation {
            return Err("the statement is about another job".into());
        }
        if self.started.is_some_and(|s| s != usage.started.0) {
            return Err("the machine changed its mind about when the job began".into());
        }
        // At the end nothing counts beyond the first failed check; before, a good check makes up for it.
        let until = self.failing_since.filter(|_| last).map_or(now, |t| t.min(now));
        let most = self.bound(until);
        if usage.served_ms.0 > most {
            let (claimed, seen) = (crate::render::number::duration(usage.served_ms), crate::render::number::duration(Millis(most)));
            return Err(format!("the machine claims {claimed} of service where we saw at most {seen}"));
        }
        if usage.build_ms.0 > now.saturating_sub(self.not_building).saturating_add(SLACK.0) {
            return Err("the machine claims more time for building than passed".into());
        }
        let less = |before: &Usage| usage.served_ms < before.served_ms || usage.build_ms < before.build_ms || usage.epoch < before.epoch;
        if self.confirmed.as_ref().is_some_and(less) {
            return Err("the machine claims less than before".into());
        }
        self.started = Some(usage.started.0);
        Ok(())
    }

    /// The answer to [`Verdict::Ask`].
    pub(crate) fn checked(&mut self, alive: bool, detail: &str, now: u64) -> Verdict {
        if alive {
            self.pass();
            Verdict::Confirm
        } else {
            self.fail(now);
            Verdict::Refuse(if detail.is_empty() { "it does not answer".into() } else { detail.into() })
        }
    }

    const fn pass(&mut self) {
        self.failed = 0;
        self.failing_since = None;
    }

    fn fail(&mut self, now: u64) {
        self.failed += 1;
        let since = if let AliveCheck::Log(within) = self.alive { self.last_frame.saturating_add(within.0).min(now) } else { now };
        self.failing_since.get_or_insert(since);
    }

    /// A usage was confirmed.
    pub(crate) fn confirmed(&mut self, usage: &Usage) {
        self.confirmed = Some(usage.clone());
    }

    /// Service confirmed so far.
    pub(crate) fn confirmed_ms(&self) -> Millis {
        self.confirmed.as_ref().map_or(Millis(0), |u| u.served_ms)
    }

    /// Whether checks fail for the first time, which the user is told.
    pub(crate) const fn just_failed(&self) -> bool {
        self.failed == 1
    }

    /// Whether it is time to close the lease.
    pub(crate) const fn give_up(&self) -> bool {
        self.failed >= MAX_FAILED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::{BlobHash, Timestamp};

    fn usage(served: u64) -> Usage {
        Usage {
            lease: LeaseId([1; 32]),
            generation: 1,
            epoch: served / 5000,
            started: Timestamp(77),
            served_ms: Millis(served),
            build_ms: Millis(0),
            log_root: BlobHash([0; 32]),
            log_bytes: 0,
            steal_ms: Millis(0),
        }
    }

    fn watch(alive: AliveCheck) -> Watch {
        let mut w = Watch::new(LeaseId([1; 32]), 1, alive, 0);
        w.on_phase(Phase::Starting, 1_000);
        w.on_phase(Phase::Running, 1_100);
        w
    }

    const LOG: AliveCheck = AliveCheck::Log(Millis(3_000));

    #[test]
    fn whoever_joins_late_believes_no_more_than_can_have_been_since_the_lease_was_taken() {
        let mut w = Watch::joining(LeaseId([1; 32]), 1, AliveCheck::Exec, 10_000, 60_000);
        w.on_phase(Phase::Running, 60_000);
        assert_eq!(w.on_usage(&usage(49_000), false, 61_000), Verdict::Ask);
        assert!(matches!(w.on_usage(&usage(54_000), false, 61_000), Verdict::Refuse(_)));
    }

    #[test]
    fn a_talking_job_is_confirmed() {
        let mut w = watch(LOG);
        for period in 1..=4 {
            w.on_output(period * 5_000);
            assert_eq!(w.on_usage(&usage(period * 5_000 - 1_100), false, period * 5_000 + 10), Verdict::Confirm);
            w.confirmed(&usage(period * 5_000 - 1_100));
        }
        assert_eq!(w.confirmed_ms(), Millis(18_900));
    }

    #[test]
    fn a_silent_job_is_refused_and_then_given_up() {
        let mut w = watch(LOG);
        w.on_output(5_000);
        assert_eq!(w.on_usage(&usage(3_900), false, 5_010), Verdict::Confirm);
        w.confirmed(&usage(3_900));
        assert!(matches!(w.on_usage(&usage(8_900), false, 10_010), Verdict::Refuse(why) if why.contains("nothing for 5")));
        assert!(w.just_failed() && !w.give_up());
        assert!(matches!(w.on_usage(&usage(13_900), false, 15_010), Verdict::Refuse(_)));
        assert!(w.give_up() && !w.just_failed());
        assert_eq!(w.confirmed_ms(), Millis(3_900));
    }

    #[test]
    fn after_a_failed_check_not_even_the_end_is_believed_beyond_it() {
        let mut w = watch(AliveCheck::Exec);
        assert_eq!(w.on_usage(&usage(3_900), false, 5_000), Verdict::Ask);
        assert_eq!(w.checked(true, "", 5_010), Verdict::Confirm);
        w.confirmed(&usage(3_900));
        assert_eq!(w.on_usage(&usage(8_900), false, 10_000), Verdict::Ask);
        assert!(matches!(w.checked(false, "no such process", 10_010), Verdict::Refuse(why) if why == "no such process"));
        assert!(matches!(w.on_usage(&usage(13_900), true, 15_000), Verdict::Refuse(_)));
        assert_eq!(w.clone().on_usage(&usage(8_800), true, 15_000), Verdict::Confirm, "an honest end just before the check");
    }

    #[test]
    fn the_last_usage_of_a_job_that_ended_quietly_is_confirmed() {
        let mut w = watch(LOG);
        w.on_output(4_000);
        assert_eq!(w.on_usage(&usage(5_500), true, 9_000), Verdict::Confirm);
        assert!(matches!(watch(LOG).on_usage(&usage(20_000), true, 30_000), Verdict::Refuse(_)));
    }

    #[test]
    fn claims_beyond_what_passed_are_refused() {
        for (name, bad) in [
            ("too long", usage(8_000)),
            ("other lease", Usage { lease: LeaseId([2; 32]), ..usage(1_000) }),
            ("other generation", Usage { generation: 2, ..usage(1_000) }),
            ("long build", Usage { build_ms: Millis(9_000), ..usage(1_000) }),
            ("less than before", usage(1_000)),
            ("another start", Usage { started: Timestamp(70), ..usage(3_000) }),
        ] {
            let mut w = watch(AliveCheck::Exec);
            assert_eq!(w.on_usage(&usage(2_000), false, 3_500), Verdict::Ask);
            w.confirmed(&usage(2_000));
            assert!(matches!(w.on_usage(&bad, false, 6_000), Verdict::Refuse(_)), "{name}");
        }
    }

    #[test]
    fn life_after_a_failed_check_counts_again() {
        let mut w = watch(AliveCheck::Port(80));
        assert_eq!(w.on_usage(&usage(3_900), false, 5_000), Verdict::Ask);
        w.checked(false, "", 5_000);
        assert!(w.just_failed());
        assert_eq!(w.on_usage(&usage(8_900), false, 10_000), Verdict::Ask);
        assert_eq!(w.checked(true, "", 10_000), Verdict::Confirm);
        assert!(!w.give_up());
    }
}
