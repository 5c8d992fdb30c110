//! Why a node did not start or stopped, for operators: each has a code and a next step.

use std::path::PathBuf;

/// A node's failure.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The ledger's engine.
    #[error("ledger: {0}")]
    Chain(#[from] pasture_chain::ChainError),
    /// The zone runs rules that this program does not know.
    #[error(transparent)]
    Rules(#[from] pasture_ledger::UnsupportedRules),
    /// Files.
    #[error(transparent)]
    Store(#[from] pasture_store::StoreError),
    /// The API's server.
    #[error(transparent)]
    Gateway(#[from] pasture_gateway::GatewayError),
    /// The way to other nodes.
    #[error("peer to peer: {0}")]
    Net(#[from] pasture_net::NetError),
    /// The provider agent.
    #[error("provider: {0}")]
    Provider(#[from] pasture_provider::ProviderError),
    /// The machine's GPUs.
    #[error("GPUs: {0}")]
    Gpus(#[from] pasture_provider::GpuError),
    /// The container engine.
    #[error("container engine: {0}")]
    Runtime(#[from] pasture_runtime::RuntimeError),
    /// No container engine was found.
    #[error("no container engine answers (looked at {}). Run `farm doctor --fix`, or name its socket with --engine", list(.looked))]
    NoEngine {
        /// Sockets that were tried.
        looked: Vec<PathBuf>,
    },
    /// The network did not answer as expected.
    #[error("network: {0}")]
    Api(#[from] pasture_api::ApiError),
    /// A file with an exported ledger.
    #[error("{}: {why}", .path.display())]
    Export {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: pasture_store::export::ExportError,
    },
    /// An exported ledger that cannot go on here.
    #[error("{}: {why}", .path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A backup that was not made or does not come back.
    #[error(transparent)]
    Backup(#[from] pasture_store::backup::BackupError),
    /// The directory holds no ledger.
    #[error("{} holds no ledger: name the folder that `farm dev --data` was given", .0.display())]
    NoLedger(PathBuf),
    /// A machine cannot do what its owner asks, or was not understood.
    #[error("{0}")]
    Machine(String),
    /// Something that was asked for makes no sense.
    #[error("{0}")]
    Options(String),
}

impl NodeError {
    /// Whether a disk is full, or a quota used up, wherever in the node that showed.
    #[must_use]
    pub fn is_no_room(&self) -> bool {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        self.causes().any(|cause| {
            let io = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            matches!(io, Some(StorageFull | QuotaExceeded | FileTooLarge))
                || matches!(cause.downcast_ref(), Some(pasture_chain::ChainError::NoRoom { .. }))
        })
    }

    /// Whether a disk did not write although there is room, wherever in the node that showed.
    #[must_use]
    pub fn is_unwritten(&self) -> bool {
        /// The system's number for an error of the device, which has no kind.
        const EIO: i32 = 5;
        self.causes().any(|cause| {
            let io = cause.downcast_ref::<std::io::Error>();
            io.is_some_and(|io| io.kind() == std::io::ErrorKind::ReadOnlyFilesystem || io.raw_os_error() == Some(EIO))
                || matches!(cause.downcast_ref(), Some(pasture_chain::ChainError::Unwritten { .. }))
        })
    }

    fn causes(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
        std::iter::successors(Some(self as &(dyn std::error::Error + 'static)), |error| error.source())
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}
