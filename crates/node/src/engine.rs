//! Finding the machine's container engine.
//!
//! Guarantees: the first socket that answers is used, in a documented order; nothing is installed or started here
//! (`farm doctor --fix` does that).

use crate::NodeError;
use pasture_runtime::docker::{DockerConfig, DockerRuntime, KNOWN_SOCKETS, find_socket};
use pasture_runtime::{Capabilities, Runtime};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Connects to the first engine that answers: the given socket alone, or the usual ones. Its scratch lies in `state_dir`.
///
/// # Errors
/// [`NodeError::NoEngine`] with the sockets that were tried.
pub async fn engine(socket: Option<&Path>, state_dir: &Path) -> Result<Arc<dyn Runtime>, NodeError> {
    connect(socket, state_dir, Priority::Usual).await
}

/// Whether jobs give way to other programs of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Priority {
    /// They compete like any other.
    #[default]
    Usual,
    /// They give way, where the engine's machine allows it.
    Low,
}

/// The same, for a machine whose jobs have a priority.
pub(crate) async fn connect(socket: Option<&Path>, state_dir: &Path, priority: Priority) -> Result<Arc<dyn Runtime>, NodeError> {
    let candidates: Vec<PathBuf> = socket.map_or_else(|| KNOWN_SOCKETS.iter().map(PathBuf::from).collect(), |s| vec![s.into()]);
    let found = find_socket(&candidates).await.ok_or(NodeError::NoEngine { looked: candidates })?;
    let config = DockerConfig { gives_way: priority == Priority::Low, ..DockerConfig::new(found, state_dir) };
    Ok(Arc::new(DockerRuntime::connect(config).await?))
}

/// What the machine's engine can do, found out by trying.
///
/// # Errors
/// As [`engine`].
pub async fn engine_probe(socket: Option<&Path>, state_dir: &Path) -> Result<Capabilities, NodeError> {
    Ok(engine(socket, state_dir).await?.probe().await?)
}

/// Whether jobs can be made to give way to other programs of this machine, found out by trying.
///
/// # Errors
/// As [`engine`].
pub async fn engine_gives_way(socket: Option<&Path>, state_dir: &Path) -> Result<bool, NodeError> {
    Ok(connect(socket, state_dir, Priority::Low).await?.probe().await?.gives_way)
}
