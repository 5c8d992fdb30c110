//! Whom a context trusts, and how that moves on: a checkpoint, which follows the network's changes of validators.
//!
//! Guarantees: validators are replaced by those whom a quorum of them named, and by nobody else. What was followed is kept in the
//! context, in one atomic write, unless the context was changed meanwhile. A checkpoint that is older than deposits are held is said
//! to be that, each time, and is then neither moved nor refreshed: that would hide it.

use crate::backend::Trust;
use crate::config::ConfigFile;
use crate::exit::Failure;
use crate::render::Output;
use crate::render::number::{count, duration};
use crate::session::{App, now_ms};
use pasture_light::{Checkpoint, Handover, LightError, ValidatorSet, Verified};
use pasture_types::Millis;
use std::path::PathBuf;

/// How often the time at which the validators were last seen is written down: so many times while deposits are held. More often
/// would write a file with each command, less often would waste time in which the network may be left alone.
const WRITES_PER_HOLD: u64 = 8;

/// The checkpoint of a context as its file has it, in hex: of earlier builds a bare set of validators.
pub(crate) fn checkpoint_of(text: &str) -> Result<Checkpoint, String> {
    let bytes = hex::decode(text).map_err(|e| e.to_string())?;
    match Checkpoint::decode(&bytes) {
        Err(LightError::UnknownVersion { .. }) => {
            ValidatorSet::decode(&bytes).map(|set| Checkpoint::genesis(set, 0, 0)).map_err(|e| e.to_string())
        }
        other => other.map_err(|e| e.to_string()),
    }
}

/// A checkpoint in use.
pub(crate) struct Trusted {
    now: Checkpoint,
    /// As the configuration file has it.
    kept: String,
    config: PathBuf,
    out: Output,
    /// How much older than deposits are held it was when it was read.
    outlived: Option<Millis>,
    /// That was said.
    told: bool,
}

impl App {
    /// Whom answers are checked against; `None` where we know nobody to trust, or are not to check.
    pub(crate) fn trusted(&self) -> Result<Option<Trusted>, Failure> {
        if self.skip_verification {
            return Ok(None);
        }
        let Some(kept) = self.target()?.validators else { return Ok(None) };
        let config = self.paths.config_file();
        let now = checkpoint_of(&kept).map_err(|e| {
            Failure::new("config", format!("{}: the validators of this context cannot be read: {e}", config.display()))
                .next("make the context again:  farm context create NAME --api-url URL --trust FILE")
        })?;
        let outlived = now.outlived(now_ms()).map(Millis);
        Ok(Some(Trusted { now, kept, config, out: self.out, outlived, told: false }))
    }
}

impl Trusted {
    /// The validators that are trusted now.
    pub(crate) const fn validators(&self) -> &ValidatorSet {
        self.now.validators()
    }

    fn warn(&self, over: Millis) {
        self.out.warn(&format!(
            "! the validators you trust were last seen longer ago than their deposits are held ({} longer): those who left since could sign \
             another history; get a newer checkpoint from somebody you believe, who writes it with: farm context checkpoint FILE",
            duration(over)
        ));
    }

    /// Puts the checkpoint in the place of the one it came from.
    fn keep(&mut self) -> Result<(), Failure> {
        let mut file = ConfigFile::load(&self.config)?;
        let text = hex::encode(self.now.encode());
        let mut found = false;
        for context in file.contexts.values_mut().filter(|c| c.validators.as_deref() == Some(self.kept.as_str())) {
            context.validators = Some(text.clone());
            found = true;
        }
        // Somebody else moved it on, or made the context anew: that counts.
        if found {
            file.save(&self.config)?;
        }
        self.kept = text;
        Ok(())
    }
}

impl Trust for Trusted {
    fn point(&self) -> Checkpoint {
        self.now.clone()
    }

    fn follow(&mut self, handover: &Handover) -> Result<(), LightError> {
        let next = self.now.follow(handover)?;
        let (before, after) = (self.now.validators().len() as u64, next.validators().len() as u64);
        self.out.note(&format!(
            "the validators changed at block {}, certified by those before: {} after {before}",
            next.since(),
            count(after, "validator")
        ));
        self.now = next;
        Ok(())
    }

    /// Says so if the checkpoint is too old to tell, and keeps it otherwise.
    fn saw(&mut self, shown: &Verified) {
        let seen = shown.header.timestamp_ms;
        // Whoever forges a history chooses its times, so our own clock counts as well; and a clock that runs behind is no excuse.
        let outlived = self.outlived.or_else(|| self.now.outlived(seen).map(Millis));
        if let Some(over) = outlived {
            self.outlived = outlived;
            if !std::mem::replace(&mut self.told, true) {
                self.warn(over);
            }
            return;
        }
        let moved = checkpoint_of(&self.kept).map_or(true, |kept| {
            let due = self.now.holds_ms() / WRITES_PER_HOLD;
            kept.since() != self.now.since() || (due > 0 && seen.saturating_sub(kept.seen_ms()) > due)
        });
        self.now = self.now.clone().seen(seen);
        if moved && let Err(failure) = self.keep() {
            self.out.warn(&format!("! the validators that were verified could not be kept: {}", failure.message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_light::Validator;

    #[test]
    fn a_context_of_an_earlier_build_is_still_understood() {
        let set = ValidatorSet::new([7; 32], vec![Validator { key: [1; 32], bls_key: [2; 96] }]).unwrap();
        let point = Checkpoint::genesis(set.clone(), 5, 6);
        assert_eq!(checkpoint_of(&hex::encode(point.encode())).unwrap(), point);
        let bare = checkpoint_of(&hex::encode(set.encode())).unwrap();
        assert_eq!((bare.validators(), bare.since(), bare.outlived(u64::MAX)), (&set, 0, None));
        for bad in ["", "zz", "01", "02", "0300"] {
            assert!(checkpoint_of(bad).is_err(), "{bad}");
        }
    }
}
