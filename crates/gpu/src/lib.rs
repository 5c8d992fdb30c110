//! Proofs of capacity on graphics cards, by compute shaders on whatever Vulkan finds. Spec: `docs/specs/gpu.md` §7, `docs/specs/gemm.md`,
//! `docs/specs/proofs.md`, `docs/specs/memory.md`.
//!
//! ```text
//!   adapters() --> Adapter::open --> Device --> Prover::new (matrix made on the card) --> leaves (32 bytes a row come back) --> root
//!                                      |                                                 beacon --> open (64 rows once more) --> proof
//!                                      |--> find_shares
//!                                      '--> Vram::new, fill, walk             the same bytes as pasture-proofs', for its verifier
//! ```
//!
//! Guarantees: what it makes is bit for bit what `pasture-proofs` makes, or an error; a row that a card computes twice and differently is
//! one. Work goes to the card in pieces of about [`PIECE`], and the caller is asked between them whether to go on. Buffers are cut to
//! what the adapter binds, so that one with 128 MiB will do. Software adapters say that they are ones ([`Kind::Software`]): who offers
//! capacity must refuse them outside of development. It starts no threads of its own, and knows nothing of leases or drivers.

mod device;
mod error;
mod gauge;
mod memory;
mod multiply;
mod product;
mod shares;
mod work;

pub use device::{Adapter, Device, Kind, adapters};
pub use error::GpuError;
pub use gauge::{Gauge, gauge, hashes, plain_floats, products};
pub use memory::Vram;
pub use product::{Commitment, Prover};
pub use shares::find_shares;
pub use work::PIECE;
