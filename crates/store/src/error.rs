//! What can go wrong with files, and what to do about it.

use std::path::PathBuf;

/// A failed file operation. Failed writes are fatal for the store they happened in.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The file does not read back as it was written.
    #[error("{} is damaged ({detail}). Restore it from a backup, or move it away to start without it", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Another process uses the directory.
    #[error("{} is in use by another process{}. Stop that one first, or give this one its own directory with --data", path.display(), holder.map(|p| format!(" (pid {p})")).unwrap_or_default())]
    Locked {
        /// Which directory.
        path: PathBuf,
        /// Its process id, if it said.
        holder: Option<u32>,
    },
    /// A key file that others can read.
    #[error("{} can be read by others (mode {mode:o}). Run: chmod 600 {}", path.display(), path.display())]
    KeyExposed {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Received bytes are not what was announced.
    #[error("{} does not have the announced content: {detail}", path.display())]
    Mismatch {
        /// Which file.
        path: PathBuf,
        /// What differs.
        detail: String,
    },
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
    /// Whether the disk is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull)
    }
}
