//! `xtask/exceptions.toml`: where a rule makes the code worse, what is broken and why.
//!
//! An exception names the check, the place and a reason. One that nothing needs any more is reported as stale, so the
//! list only grows where somebody decided that it should.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::Findings;

/// Where the exceptions live.
pub(crate) const FILE: &str = "xtask/exceptions.toml";
/// A reason shorter than this explains nothing.
const MIN_REASON: usize = 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    check: String,
    at: String,
    reason: String,
    #[serde(default)]
    max: Option<usize>,
    #[serde(skip)]
    used: bool,
}

/// The exceptions, and which of them were needed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exceptions {
    #[serde(default, rename = "exception")]
    list: Vec<Exception>,
}

impl Exceptions {
    /// Reads the file; a repository without one has no exceptions.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).context(FILE),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).context(FILE),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        Ok(toml::from_str(text)?)
    }

    /// Whether a check may be broken at a place.
    pub(crate) fn allows(&mut self, check: &str, at: &str) -> bool {
        self.allows_up_to(check, at, 0)
    }

    /// Whether a size may be reached at a place; an exception without `max` allows any.
    pub(crate) fn allows_up_to(&mut self, check: &str, at: &str, size: usize) -> bool {
        let found = self.list.iter_mut().find(|exception| exception.check == check && exception.at == at);
        found.is_some_and(|exception| {
            exception.used = true;
            exception.max.is_none_or(|max| size <= max)
        })
    }

    /// Reports what was not needed, and reasons that give none.
    pub(crate) fn report_stale(&self, findings: &mut Findings) {
        for Exception { check, at, reason, used, .. } in &self.list {
            if !used {
                findings.at(FILE, format_args!("the exception from {check} for {at} is not needed any more"));
            }
            if reason.trim().len() < MIN_REASON {
                findings.at(FILE, format_args!("the exception from {check} for {at} needs a reason"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[[exception]]\ncheck = \"long-file\"\nat = \"a.rs\"\nmax = 900\nreason = \"a table that nobody reads by hand\"\n\
                        [[exception]]\ncheck = \"unused\"\nat = \"b\"\nreason = \"short\"\n";

    #[test]
    fn limits_hold_and_stale_ones_are_reported() {
        let mut exceptions = Exceptions::parse(TEXT).unwrap();
        assert!(exceptions.allows_up_to("long-file", "a.rs", 900));
        assert!(!exceptions.allows_up_to("long-file", "a.rs", 901));
        assert!(!exceptions.allows("long-function", "a.rs"));
        let mut findings = Findings::default();
        exceptions.report_stale(&mut findings);
        assert_eq!(findings.0.len(), 2, "{findings:?}");
        assert!(findings.0[0].contains("not needed") && findings.0[1].contains("needs a reason"));
    }

    #[test]
    fn unknown_fields_are_refused() {
        assert!(Exceptions::parse("[[exception]]\ncheck = \"a\"\nat = \"b\"\nwhy = \"c\"").is_err());
    }
}
