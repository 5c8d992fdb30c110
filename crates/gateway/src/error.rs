//! Why a gateway did not start. Once it runs, errors are answers to requests.

use crate::config::OptionsError;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The settings make no sense.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// Somebody else listens there.
    #[error(
        "port {} on {} is taken by another program: stop that program, or choose another port with `--listen {}`",
        .listen.port(), .listen.ip(), SocketAddr::new(.listen.ip(), .listen.port().checked_add(1).unwrap_or(0))
    )]
    PortTaken {
        /// Where it should have listened.
        listen: SocketAddr,
    },
    /// The system does not let us listen there.
    #[error("cannot listen on {listen}: choose another address with `--listen`")]
    Bind {
        /// Where it should have listened.
        listen: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A certificate that cannot be shown.
    #[error("{}: {why}", .path.display())]
    Certificate {
        /// Its file or folder.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The server that gives certificates cannot be asked.
    #[error("certificates cannot be asked for: {0}")]
    Acme(String),
    /// The HTTP client that forwards to nodes could not be made.
    #[error("the HTTP client that calls nodes could not be made")]
    Client(#[source] reqwest::Error),
}
