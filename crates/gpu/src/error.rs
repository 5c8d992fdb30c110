//! What can go wrong between this program and a card, each with what helps.

use std::time::Duration;

/// Most characters that are repeated of what a driver says.
const MAX_SAID: usize = 300;

/// Why a card cannot be used, or no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// Its loader is not installed, or knows no driver: from outside both look the same.
    #[error("Vulkan does not start: install its loader (libvulkan1) and the card's driver, or mesa-vulkan-drivers to compute in software")]
    NoVulkan,
    /// Loader and driver are there and know no adapter.
    #[error("Vulkan finds no adapter: see whether this user may open /dev/dri/render* or /dev/nvidia*")]
    NoAdapter,
    /// An adapter that would not be opened.
    #[error("{adapter} cannot be opened ({why}): see whether this user may open /dev/dri/render* or /dev/nvidia*")]
    Open {
        /// Which.
        adapter: String,
        /// What the driver says.
        why: String,
    },
    /// It can do less than is needed.
    #[error("{adapter} is too small for this: {what}")]
    TooSmall {
        /// Which.
        adapter: String,
        /// What is missing.
        what: &'static str,
    },
    /// Its memory is full.
    #[error("the card's memory is full: end what else uses it, or ask for less")]
    OutOfMemory,
    /// It is gone: a reset, an unplugged card, a driver's watchdog.
    #[error("the card was lost ({0}): dmesg says what happened to it; it can be opened again once the driver has reset it")]
    Lost(String),
    /// It does not answer.
    #[error("the card did not answer within {} s: dmesg may say why, and a restart of the machine helps", .0.as_secs())]
    Silent(Duration),
    /// It computed the same row twice and differently.
    #[error("the card computes wrong: row {0} was not the same twice; cool it, take back its overclocking, test its memory")]
    Wrong(u32),
    /// What should not happen: the driver refuses what its limits allow.
    #[error("the driver refuses the work ({0}): update it")]
    Refused(String),
}

impl GpuError {
    /// Whether opening the adapter once more may help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::OutOfMemory | Self::Silent(_))
    }

    pub(crate) fn of(error: &wgpu::Error) -> Self {
        match error {
            wgpu::Error::OutOfMemory { .. } => Self::OutOfMemory,
            other => Self::Refused(plain(&other.to_string())),
        }
    }
}

/// What a driver says, in one line without control characters, and not too long.
pub(crate) fn plain(said: &str) -> String {
    let words: Vec<&str> = said.split_whitespace().collect();
    words.join(" ").chars().filter(|c| !c.is_control()).take(MAX_SAID).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_driver_says_is_short_and_plain() {
        assert_eq!(plain("bad\n\tthing\u{1b}[31m\u{0}"), "bad thing[31m");
        assert_eq!(plain(&"x".repeat(9_999)).len(), MAX_SAID);
    }

    #[test]
    fn errors_say_what_helps() {
        assert!(GpuError::NoVulkan.to_string().contains("install its loader (libvulkan1)"));
        assert!(GpuError::Lost("reset".into()).is_transient() && !GpuError::NoAdapter.is_transient());
    }
}
