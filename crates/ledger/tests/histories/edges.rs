//! Edges of every lifecycle, as [`crate::names`] and [`crate::oracle`] name them.

/// Each must come up.
pub(crate) const EDGES: &[&str] = &[];

/// May come up, but too seldom to count on; and why.
pub(crate) const SELDOM: &[(&str, &str)] = &[];
