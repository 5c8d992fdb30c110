//! The gateway from outside: real sockets on loopback, the real client, a ledger of a few values and a small node.
//!
//! What the ledger or the provider decide is not tested here.

#[cfg(test)]
mod blobs;
#[cfg(test)]
mod data;
#[cfg(test)]
mod follow;
#[cfg(test)]
mod ingress;
#[cfg(test)]
mod life;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod world;
