//! Nodes that find and reach each other: one endpoint for each node, named by its Ed25519 key, over QUIC.
//!
//! ```text
//!  http://<node>.node/..  ──► Doorway ──► Endpoint ══ QUIC, direct or by a relay ══► Endpoint ──► Arrivals ──► axum
//!  (any HTTP client here)     (loopback)   one connection for each node and service      (any HTTP service there)
//! ```
//!
//! A stream of a connection carries what a TCP connection would: the data plane and the API stay what they are. Addresses are hints: whoever
//! answers has to hold the node's key, or there is no connection. Two nodes that see no way to each other meet at a relay, which carries what
//! it cannot read, and leave it as soon as a direct path works.
//!
//! Guarantees: nobody is called but those who were named (tickets, announced addresses, relays of the ticket); no infrastructure of anybody's
//! is built in. Connections, streams and handshakes have limits with names. It does not say who may do what: services check signatures.
//!
//! The only crate that knows the library beneath (iroh).

mod doorway;
mod endpoint;
mod error;
mod lan;
mod names;
mod place;
mod relay;
mod ticket;
mod trust;

pub use doorway::Doorway;
pub use endpoint::{Arrivals, Endpoint, Options, Path, Service, Stream, Way};
pub use error::NetError;
pub use lan::{Announcement, Found, look as look_in_lan};
pub use names::Names;
pub use place::{Place, PlaceError};
pub use relay::{NoRelay, Relay, RelayServer};
pub use ticket::{Gate, Ticket, TicketError};
