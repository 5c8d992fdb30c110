//! Errors on the wire: problem+json (RFC 9457) with a code that stays the same and a next step.
//!
//! Guarantees: whoever serves (feature `http`) answers with a problem as it is, in this one form.

use serde::{Deserialize, Serialize};

/// Media type of a problem.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// What went wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// Short, stable, e.g. `insufficient-balance`.
    pub code: String,
    /// One or two sentences: what is wrong and what to do.
    pub detail: String,
    /// The ledger's own error number, where it refused a transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_code: Option<u16>,
}

impl Problem {
    /// A problem of the given status and code.
    #[must_use]
    pub fn new(status: u16, code: &str, detail: impl Into<String>) -> Self {
        Self { status, code: code.into(), detail: detail.into(), ledger_code: None }
    }
    /// 404.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(404, "not-found", format!("there is no such {what}"))
    }
    /// 400.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(400, "bad-request", detail)
    }
    /// 401.
    #[must_use]
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(401, "unauthorized", detail)
    }
    /// 403.
    #[must_use]
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(403, "forbidden", detail)
    }
    /// 409.
    #[must_use]
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(409, "conflict", detail)
    }
    /// 413.
    #[must_use]
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(413, "too-large", detail)
    }
    /// 500.
    #[must_use]
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(500, "internal", detail)
    }
    /// 503.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(503, "unavailable", detail)
    }
    /// Whether the same call may succeed a moment later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self.status, 502..=504 | 429)
    }
}

#[cfg(feature = "http")]
impl axum_core::response::IntoResponse for Problem {
    fn into_response(self) -> axum_core::response::Response {
        // A problem is strings and numbers: encoding it cannot fail.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = ([("content-type", CONTENT_TYPE)], body).into_response();
        if let Ok(status) = self.status.try_into() {
            *response.status_mut() = status;
        }
        response
    }
}
