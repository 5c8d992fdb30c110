//! The part of a lease's decisions that keeps a job going: its health check, and the instances that follow one another.
//!
//! ```text
//!  Running ──exit, or unhealthy and stopped──▶ starts again? ──no──▶ Stopping -> Ended
//!     ▲                                             │ yes: a pause, and the rest of the old log
//!     └── Start ◀── Created ◀── Create ◀── Restarting
//! ```
//! Guarantees: an instance is never started twice; the next one has a number, and so a key, of its own, and takes over the output.
//! A job that keeps failing at once is given up, so that it does not spend the user's money on nothing. What happened is kept
//! for those who ask. While a job is started again the machine stays its user's, and the time counts as served.

use super::{EndReason, LOG_DRAIN_WAIT, Machine, Phase, RETRY_WAIT};
use crate::lease::event::{Effect, Seen};
use pasture_api::data::{Happening, HealthStatus, Said, Wellness};
use pasture_types::life::{Life, Restart};
use pasture_types::{Millis, Timestamp};

/// Pause before the first restart; each further one in a row takes twice as long.
const FIRST_PAUSE: Millis = Millis(500);
/// Longest pause: whoever looks after a service expects it back within a minute.
const LONGEST_PAUSE: Millis = Millis(30_000);
/// A job that ran this long is no longer failing at once: the pauses begin anew.
const STEADY_AFTER: Millis = Millis(60_000);
/// Restarts in a row, without a steady run between them, after which a job without a number of its own is given up: some three
/// minutes of pauses, which a dependency that comes late may need.
const GIVE_UP_AFTER: u32 = 10;
/// Happenings that are kept: enough to see the pattern of a failing service.
const MAX_HISTORY: usize = 32;
/// Longest sentence that is kept of one.
const MAX_TEXT: usize = 300;
/// Why an instance is stopped that is not well; what the check saw follows.
const UNWELL: &str = "its health check failed";
/// What a shell says of a process that SIGTERM ended.
const TERMINATED: i32 = 143;

/// What is known of the running instance, and need not survive a crash.
#[derive(Default, Debug)]
pub(super) struct Nursing {
    health: Option<HealthStatus>,
    /// What the last check saw, in the clear: to tell what is new, and why an instance is stopped.
    saw: String,
    failures: u32,
    /// When the next check is due.
    check_at: Option<Timestamp>,
    /// The next instance's container is being made.
    creating: bool,
    /// Until when the rest of an old log is waited for.
    drain_by: Option<Timestamp>,
}

impl Machine {
    fn life(&self) -> Option<&Life> {
        self.manifest.as_ref().map(|m| &m.life)
    }

    pub(super) fn happened(&mut self, at: Timestamp, text: impl Into<String>) {
        let text: String = text.into().chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect();
        self.remember(at, self.record.say(&text));
    }

    fn remember(&mut self, at: Timestamp, text: Said) {
        let history = &mut self.record.upkeep.history;
        if history.len() >= MAX_HISTORY {
            history.pop_front();
        }
        history.push_back(Happening { at, text });
    }

    /// The rest of an instance's log did not come, and is not waited for any longer.
    pub(super) fn log_was_cut(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if !self.log_drained {
            self.record.upkeep.log_cut = true;
            self.happened(now, "the end of its log may be missing: the container engine did not give all of it");
            out.extend([Effect::Save, Effect::Publish]);
        }
    }

    /// What the log says before the instance that is next or now.
    pub(crate) fn note(&self) -> String {
        self.note.as_ref().unwrap_or(&self.record.upkeep.note).clone()
    }

    // ---- instances -------------------------------------------------------------------------------------------------

    /// The container of the first instance, or of the next one.
    pub(super) fn on_created(&mut self, container: String, out: &mut Vec<Effect>) {
        self.nursing.creating = false;
        let before = self.record.container.replace(container.clone());
        let upkeep = &mut self.record.upkeep;
        if upkeep.next.take().is_some() {
            upkeep.instance = upkeep.instance.saturating_add(1);
            upkeep.began = None;
            upkeep.retiring.clone_from(&before);
            self.log_drained = false;
        }
        out.push(Effect::Save);
        if let Some(container) = self.record.upkeep.retiring.clone() {
            out.push(Effect::Retire { container });
        }
        out.push(Effect::Start { container });
    }

    /// An instance runs: it is looked after from now on.
    pub(super) fn nurse(&mut self, started: Timestamp, now: Timestamp, out: &mut Vec<Effect>) {
        if self.record.upkeep.unhealthy.is_some() && self.record.stop.is_none() {
            // Before a crash it was found unwell.
            self.stop_container(Millis(0), out);
        } else if self.is_replacing() {
            // Before a crash it was to be replaced.
            self.stop_for_update(out);
        }
        self.updated(now);
        if self.record.upkeep.began.is_none() {
            self.record.upkeep.began = Some(started);
            let again = if self.record.upkeep.restarts > 0 { " again" } else { "" };
            self.happened(now, format!("started{again}"));
        }
        let health = self.life().and_then(|l| l.health.as_ref());
        self.nursing = Nursing {
            health: health.map(|_| HealthStatus { state: Wellness::Starting, detail: self.record.say("not checked yet") }),
            check_at: health.map(|h| now.plus(h.interval)),
            ..Nursing::default()
        };
    }

    /// What an end means, where the node had stopped an instance that was not well.
    pub(super) fn told(&mut self, end: EndReason) -> (EndReason, Said) {
        let Some(why) = self.record.upkeep.unhealthy.clone() else { return (end, Said::nothing()) };
        let detail = self.record.say(&format!("{UNWELL}: ")).then(why);
        // It took the signal as a reason to end well, which it was not.
        (if end == (EndReason::Exited { code: 0 }) { EndReason::Exited { code: TERMINATED } } else { end }, detail)
    }

    /// Whether an instance that ended is followed by another one; if so, that is under way.
    pub(super) fn starts_again(&mut self, end: &EndReason, finished: Timestamp, now: Timestamp, out: &mut Vec<Effect>) -> bool {
        if self.ended_for_update(end, now, out) {
            return true;
        }
        let unhealthy = self.record.upkeep.unhealthy.take();
        let what = match (&unhealthy, end) {
            (Some(_), _) => format!("stopped, since {UNWELL}"),
            (None, EndReason::Exited { code }) => format!("ended with exit code {code}"),
            (None, EndReason::OutOfMemory) => "ended: it needed more memory than it asked for".into(),
            (None, EndReason::StartFailed) => "could not be started".into(),
            (None, other) => format!("ended: {other:?}"),
        };
        // What the job said is sealed already, and perhaps by a process that is gone.
        let with = |this: &Self, rest: &str| match &unhealthy {
            Some(why) => this.record.say(&format!("{what}: ")).then(why.clone()).then(this.record.say(rest)),
            None => this.record.say(&format!("{what}{rest}")),
        };
        let Some((restart, retry)) = self.life().map(|l| (l.restart, l.retry)).filter(|_| self.record.stop.is_none()) else {
            self.remember(now, with(self, ""));
            return false;
        };
        let policy = match (restart, end) {
            (Restart::Never, _) => false,
            (Restart::OnFailure, EndReason::Exited { code }) => *code != 0,
            (_, EndReason::Exited { .. } | EndReason::OutOfMemory | EndReason::StartFailed) => true,
            _ => false,
        };
        if !policy {
            self.remember(now, with(self, ""));
            return false;
        }
        let upkeep = &mut self.record.upkeep;
        if upkeep.began.is_some_and(|began| finished.since(began) >= STEADY_AFTER) {
            upkeep.in_a_row = 0;
        }
        let (allowed, of) = match retry {
            Some(most) => (upkeep.restarts < most, format!(" of {most}")),
            None => (upkeep.in_a_row < GIVE_UP_AFTER, String::new()),
        };
        if !allowed {
            let (times, row) = (upkeep.restarts, if retry.is_none() { ", each time soon after the last" } else { "" });
            self.remember(now, with(self, &format!("; given up after {times} restarts{row}")));
            return false;
        }
        let pause = Millis(FIRST_PAUSE.0.saturating_mul(1 << upkeep.in_a_row.min(16))).min(LONGEST_PAUSE);
        upkeep.in_a_row = upkeep.in_a_row.saturating_add(1);
        upkeep.restarts = upkeep.restarts.saturating_add(1);
        upkeep.next = Some(now.plus(pause));
        let rest = format!("; restart {}{of} in {:.1} s", upkeep.restarts, pause.0 as f64 / 1000.0);
        upkeep.note = format!("[farm] the job {what}{rest}\n");
        let said = unhealthy.is_some() && !self.nursing.saw.is_empty();
        self.note = said.then(|| format!("[farm] the job {what}: {}{rest}\n", self.nursing.saw));
        self.remember(now, with(self, &rest));
        self.await_next(now, out);
        true
    }

    /// The next instance is due, once the last one's log is complete.
    pub(super) fn await_next(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        self.stop_retry = None;
        self.record.phase = Phase::Restarting;
        self.nursing = Nursing { drain_by: Some(now.plus(LOG_DRAIN_WAIT)), ..Nursing::default() };
        out.extend([Effect::Save, Effect::Publish]);
    }

    /// Makes the next instance once its pause is over and the last one's log is complete.
    pub(super) fn begin_next(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let due = self.record.phase == Phase::Restarting && self.record.upkeep.next.is_some_and(|at| now >= at);
        let drained = self.log_drained || self.nursing.drain_by.is_none_or(|at| now >= at);
        if !due || !drained || self.nursing.creating || self.record.stop.is_some() {
            return;
        }
        self.log_was_cut(now, out);
        self.switch(now, out);
        if let Some(image) = self.record.image.clone() {
            self.nursing.creating = true;
            let instance = self.record.upkeep.instance.saturating_add(1);
            out.push(Effect::Create { image, instance });
        }
    }

    /// The next instance could not be made or started: that is a failure like others, and counts as one.
    pub(super) fn on_restart_failed(&mut self, detail: &str, now: Timestamp, out: &mut Vec<Effect>) {
        self.nursing.creating = false;
        if let Some(stop) = self.record.stop.clone() {
            return self.conclude(stop.reason, stop.detail, now, out);
        }
        self.happened(now, format!("could not be started: {detail}"));
        self.update_did_not_start(detail);
        if !self.starts_again(&EndReason::StartFailed, now, now, out) {
            self.conclude(EndReason::StartFailed, self.record.say(detail), now, out);
        }
    }

    /// Somebody wants the job to end while it is being started again.
    pub(super) fn stop_restart(&mut self, reason: EndReason, detail: Said, now: Timestamp, out: &mut Vec<Effect>) {
        if self.nursing.creating || self.record.upkeep.next.is_none() {
            // The start is under way; `on_running` carries the order out.
            out.push(Effect::Save);
        } else {
            self.conclude(reason, detail, now, out);
        }
    }

    /// Takes up a restart that a crash interrupted.
    pub(super) fn resume_restart(&mut self, container: String, now: Timestamp, out: &mut Vec<Effect>) {
        match (self.record.upkeep.next, self.record.stop.clone()) {
            (Some(_), Some(stop)) => self.conclude(stop.reason, stop.detail, now, out),
            // What is left of the old instance's log comes first.
            (Some(_), None) => {
                self.nursing.drain_by = Some(now.plus(LOG_DRAIN_WAIT));
                out.push(Effect::Adopt { container });
            }
            (None, _) => out.push(Effect::Start { container }),
        }
    }

    // ---- health ----------------------------------------------------------------------------------------------------

    /// What the health check says.
    pub(super) fn health(&self) -> Option<HealthStatus> {
        self.nursing.health.clone().filter(|_| self.record.end.is_none())
    }

    /// Makes the check that is due, and stops again an unhealthy instance that would not stop.
    pub(super) fn look_after(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if self.record.phase != Phase::Running {
            return;
        }
        let stopping = self.record.upkeep.unhealthy.is_some() || self.is_replacing();
        if stopping && self.stop_retry.is_some_and(|at| now >= at) {
            self.stop_container(Millis(0), out);
        }
        let Some(health) = self.life().and_then(|l| l.health.clone()) else { return };
        if let (Some(_), Some(container)) = (self.nursing.check_at.take_if(|at| now >= *at), self.record.container.clone()) {
            out.push(Effect::Probe { container, instance: self.record.upkeep.instance, health });
        }
    }

    pub(super) fn on_probed(&mut self, instance: u32, seen: Seen, now: Timestamp, out: &mut Vec<Effect>) {
        let current = instance == self.record.upkeep.instance && self.record.phase == Phase::Running;
        let Some(health) = self.life().and_then(|l| l.health.clone()).filter(|_| current && self.record.upkeep.unhealthy.is_none()) else {
            return;
        };
        self.nursing.check_at = Some(now.plus(health.interval));
        let was = self.nursing.health.as_ref().map(|h| h.state);
        let (state, detail) = match seen {
            Seen::Well(detail) => {
                self.nursing.failures = 0;
                (Wellness::Healthy, detail)
            }
            Seen::Nothing(detail) => (Wellness::Unknown, detail),
            Seen::Failing(detail) => {
                let began = self.record.upkeep.began.unwrap_or(now);
                let early = was != Some(Wellness::Healthy) && self.nursing.failures == 0 && now < began.plus(health.start);
                self.nursing.failures = if early { 0 } else { self.nursing.failures.saturating_add(1) };
                match (self.nursing.failures >= health.retries, was) {
                    (true, _) => (Wellness::Unhealthy, detail),
                    (false, Some(Wellness::Healthy)) => (Wellness::Healthy, detail),
                    (false, _) => (Wellness::Starting, detail),
                }
            }
        };
        if was != Some(state) {
            match state {
                Wellness::Healthy => self.happened(now, "healthy"),
                Wellness::Unknown => self.happened(now, format!("its health cannot be checked: {detail}")),
                Wellness::Starting | Wellness::Unhealthy => {}
            }
        }
        // Sealed, the same would look new each time.
        let news = was != Some(state) || self.nursing.saw != detail;
        if news {
            self.nursing.health = Some(HealthStatus { state, detail: self.record.say(&detail) });
        }
        if state == Wellness::Unhealthy {
            let grace = self.manifest.as_ref().map_or(RETRY_WAIT, |m| m.grace);
            self.record.upkeep.unhealthy = Some(self.record.say(&detail));
            self.nursing.check_at = None;
            out.push(Effect::Save);
            self.stop_container(grace, out);
        }
        self.nursing.saw = detail;
        if news {
            out.push(Effect::Publish);
        }
    }

    /// When one of these is needed next.
    pub(super) fn next_care(&self) -> impl Iterator<Item = Timestamp> {
        let pause = self.record.upkeep.next.filter(|_| !self.nursing.creating && self.record.stop.is_none());
        // With the log complete only the pause counts; without, whatever comes last.
        let next = pause.map(|at| if self.log_drained { at } else { self.nursing.drain_by.map_or(at, |by| at.max(by)) });
        let stop = self.stop_retry.filter(|_| self.record.upkeep.unhealthy.is_some() || self.is_replacing());
        [next, self.nursing.check_at, stop].into_iter().flatten()
    }
}

#[cfg(test)]
#[path = "upkeep_tests.rs"]
mod tests;
