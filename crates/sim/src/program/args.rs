//! The arguments of `farm-sim`: names with a value, one after another.
//!
//! Guarantees: what is not understood is an error of its own kind, so that the caller can show how it is used.

use crate::Wrong;

/// Arguments that are not understood.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadArguments(String);

pub(crate) fn wrong(what: impl Into<String>) -> Wrong {
    Box::new(BadArguments(what.into()))
}

/// What is left of the command line.
pub(crate) struct Args(std::vec::IntoIter<String>);

impl Args {
    pub(crate) fn new(args: impl Iterator<Item = String>) -> Self {
        Self(args.collect::<Vec<_>>().into_iter())
    }

    /// The next word, which does not begin with a dash.
    pub(crate) fn word(&mut self) -> Result<Option<String>, Wrong> {
        match self.0.next() {
            Some(name) if name.starts_with('-') => Err(wrong(format!("{name} comes after the command"))),
            word => Ok(word),
        }
    }

    /// The next name.
    pub(crate) fn name(&mut self) -> Option<String> {
        self.0.next()
    }

    /// The value of the name before.
    pub(crate) fn value(&mut self, name: &str) -> Result<String, Wrong> {
        self.0.next().ok_or_else(|| wrong(format!("{name} needs a value")))
    }

    /// The number of the name before.
    pub(crate) fn number<N: TryFrom<u64>>(&mut self, name: &str) -> Result<N, Wrong> {
        let text = self.value(name)?;
        let number = text.parse::<u64>().ok().and_then(|number| N::try_from(number).ok());
        number.ok_or_else(|| wrong(format!("{text} is no number for {name}")))
    }
}

/// An argument that no command has.
pub(crate) fn unknown(name: &str) -> Wrong {
    wrong(format!("unknown argument {name}"))
}
