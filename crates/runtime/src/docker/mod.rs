//! Docker Engine backend.
