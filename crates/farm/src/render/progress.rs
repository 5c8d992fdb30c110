//! What is happening: a moving line on a terminal, one plain line a step in a pipe, nothing when quiet.

use super::visible::quoted;
use super::{Output, Paint};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

const TICK: Duration = Duration::from_millis(100);

/// The step that is under way.
pub(crate) struct Progress {
    out: Output,
    bar: Option<ProgressBar>,
    last: String,
}

impl Progress {
    /// Nothing under way yet.
    pub(crate) const fn new(out: Output) -> Self {
        Self { out, bar: None, last: String::new() }
    }

    fn moving(&self) -> bool {
        self.out.interactive && !self.out.quiet && !self.out.json
    }

    /// A new step. The same step again says nothing.
    pub(crate) fn step(&mut self, text: &str) {
        if self.last == text {
            return;
        }
        self.clear();
        self.last = text.into();
        if !self.moving() {
            self.out.note(text);
            return;
        }
        let bar = ProgressBar::new_spinner().with_message(quoted(text));
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        self.bar = Some(bar);
    }

    /// A step of known size.
    pub(crate) fn transfer(&mut self, text: &str, total: u64) {
        if !self.moving() {
            self.step(text);
            return;
        }
        self.clear();
        let bar = ProgressBar::new(total).with_message(quoted(text));
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}") {
            bar.set_style(style);
        }
        self.last = text.into();
        self.bar = Some(bar);
    }

    /// A step that counts bytes, and does not know how many there will be.
    pub(crate) fn counting(&mut self, text: &str) {
        self.step(text);
        if let (Some(bar), Ok(style)) = (&self.bar, ProgressStyle::with_template("{spinner} {msg} {bytes} {bytes_per_sec}")) {
            bar.set_style(style);
        }
    }

    /// How far the transfer is.
    pub(crate) fn position(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    /// A handle for reporting positions from elsewhere.
    pub(crate) fn handle(&self) -> Option<ProgressBar> {
        self.bar.clone()
    }

    /// A line that stays, above the moving one.
    pub(crate) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.out.note(text)),
            None => self.out.note(text),
        }
    }
    /// The same in a faint colour: output of a build.
    pub(crate) fn faint(&self, text: &str) {
        self.line(&self.out.paint(Paint::Dim, text));
    }

    /// Takes the moving line away.
    pub(crate) fn clear(&mut self) {
        // In a pipe the last step stays said.
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            self.last.clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
