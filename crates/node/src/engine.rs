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
    let candidates: Vec<PathBuf> = socket.map_or_else(|| KNOWN_SOCKETS.iter().map(PathBuf::from).collect(), |s| vec![s.into()]);
    let found = find_socket(&candidates).await.ok_or(NodeError::NoEngine { looked: candidates })?;
    Ok(Arc::new(DockerRuntime::connect(DockerConfig::new(found, state_dir)).await?))
}

/// What the machine's engine can do, found out by trying.
///
/// # Errors
/// As [`engine`].
pub async fn engine_probe(socket: Option<&Path>, state_dir: &Path) -> Result<Capabilities, NodeError> {
    Ok(engine(socket, state_dir).await?.probe().await?)
}
