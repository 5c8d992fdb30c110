//! Images as blobs that come from whoever has them: other machines, and the registry that their name begins with.
//!
//! ```text
//!  name ─▶ registry: which digest ─▶ manifest ─▶ layers ─┬─ cache
//!                                                        ├─ pieces from several machines at once ─▶ cache
//!                                                        └─ pieces from the registry
//!  cache ─▶ archive, as an engine takes it in
//! ```
//! Guarantees: nothing counts before its SHA-256 digest is right, whoever sent it; who sent wrong bytes is found out and asked no more for a
//! while; what arrived before a crash need not come again; the cache keeps to its limit but for what is being used. What a name means is asked
//! of its registry alone. No registry on an address of the machine's own network is called unless its owner named it.
//!
//! It knows no network and no engine: who has what, and the way to machines, are a trait's ([`Peers`]). It keeps no passwords of registries:
//! what anybody may have is all that it fetches.

mod archive;
mod download;
mod image;
mod manifest;
mod partial;
mod reference;
mod registry;
mod store;

pub use archive::Archive;
pub use download::{Origin, OriginError, Pieces};
pub use image::{Fetcher, ImageError, Peers, Progress};
pub use manifest::{Blob, Document, MAX_DOCUMENT, ManifestError, read};
pub use reference::{Reference, ReferenceError};
pub use registry::{Challenge, Registries, RegistryError, RegistryUrl};
pub use store::{Pinned, Store};
