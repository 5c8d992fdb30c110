//! One lease on this node: `state.rs` decides (in the words of `event.rs`), `actor.rs` acts, `work.rs` holds the long calls to the engine, `log.rs` the log
//! file, `manifest.rs` the border for what a client sends, `record.rs` what survives a crash, `words.rs` seals what is said of it.
//!
//! ```text
//!  leases/<id>/state         LeaseRecord, replaced as a whole; its texts sealed for the job's reader
//!              manifest      as the client sent it; manifest.next: the one that is to take its place
//!              secrets       sealed, until the job has ended
//!              context.tar   the build context (context.partial while it arrives), until the job has ended
//!              log, log.mark frames, sealed for the job's reader, see log.rs
//!              output.sealed what the job left in its output folder, sealed likewise
//! ```

mod actor;
mod event;
pub(crate) mod log;
pub(crate) mod manifest;
pub(crate) mod probe;
mod record;
mod shared;
pub(crate) mod state;
mod words;
mod work;

pub(crate) use actor::{Started, spawn};
pub(crate) use event::{Epochs, Event};
pub(crate) use record::{LeaseRecord, Terms};
pub(crate) use shared::{Shared, Watcher};
pub(crate) use work::{chain, image_tag, instance_keys};
