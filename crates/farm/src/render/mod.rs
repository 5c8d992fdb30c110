//! Everything that people and scripts read: one [`Output`], numbers, tables, progress.
//!
//! Guarantees: stdout carries data only (tables, JSON, a job's own output), stderr everything else; output means the same
//! without colour. It decides nothing.

pub(crate) mod number;
mod output;
mod progress;
mod table;
mod visible;

pub(crate) use output::{Output, Paint};
pub(crate) use progress::Progress;
pub(crate) use table::Table;
