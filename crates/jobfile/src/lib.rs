//! What a user writes: job files with one job or several services, their JSON Schema, and files of docker compose.
//!
//! ```text
//!   text ─▶ read ─┬─ one job, or `services:` ─┬─▶ Asked: a name, a budget, a spec for each service, notes
//!                 └─ compose ─────────────────┘
//! ```
//! Guarantees: a mistake is named with its line, its field and, where a name is close to a known one, what was probably meant;
//! what cannot be taken over from compose is named, never dropped; every name that is depended on exists and nothing waits for
//! itself. Any text is read or refused, with bounded work. It touches no file, network, clock or environment: where a text comes
//! from and where its folders are is for its caller.

mod compose;
mod compose_keep;
mod error;
mod file;
pub mod schema;
pub mod yaml;

pub use error::FileError;
pub use file::{Asked, Kind, MAX_SERVICES, Text, checked, is_name, name_of, order, read};
