//! Request authorisation on the data plane: each request is signed by a key of the lease's account (or by the node).
//!
//! Guarantees: a signature binds method, path with query, the serving node and a time, so it cannot be used elsewhere or
//! much later. It does not cover the body: bodies are content-addressed or carry signatures of their own.

use pasture_types::ids::derive;
use pasture_types::keys::{Signature, SignatureText, parse_public_key};
use pasture_types::{NodeId, PublicKey, SigningKey};

const DOMAIN: &str = "pasture 2026-11 data request v1";
/// How old or early a request's time may be.
pub const MAX_SKEW_MS: u64 = 120_000;
/// Scheme name in the `Authorization` header.
pub const SCHEME: &str = "Farm";

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No or unreadable header.
    #[error("the request is not signed: an Authorization header `Farm key=...,time=...,signature=...` is expected")]
    Missing,
    /// The time is off.
    #[error("the request was signed {0} ms away from this machine's time: check both clocks")]
    Stale(u64),
    /// The signature does not fit.
    #[error("the request's signature does not verify")]
    Invalid,
}

fn digest(method: &str, path: &str, node: &NodeId, time_ms: u64) -> [u8; 32] {
    derive(DOMAIN, &[method.as_bytes(), path.as_bytes(), &node.0, &time_ms.to_le_bytes()])
}

/// The value of the `Authorization` header. `path` is path and query as the node sees them, e.g. `/leases/ab../logs?from=0`.
#[must_use]
pub fn authorize(key: &SigningKey, method: &str, path: &str, node: &NodeId, now_ms: u64) -> String {
    let signature = SignatureText::from(&key.sign(&digest(method, path, node, now_ms)));
    format!("{SCHEME} key={},time={now_ms},signature={}", key.public(), signature.0)
}

/// Checks a header and returns the key that signed. Whether that key may do this is the caller's to say.
///
/// # Errors
/// [`AuthError`] says why it was refused.
pub fn verify(header: Option<&str>, method: &str, path: &str, node: &NodeId, now_ms: u64) -> Result<PublicKey, AuthError> {
    let rest = header.and_then(|h| h.strip_prefix(SCHEME)).ok_or(AuthError::Missing)?.trim();
    let field = |name: &str| rest.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('=')).ok_or(AuthError::Missing);
    let key = parse_public_key(field("key")?).map_err(|_| AuthError::Missing)?;
    let time: u64 = field("time")?.parse().map_err(|_| AuthError::Missing)?;
    let signature = Signature::try_from(&SignatureText(field("signature")?.into())).map_err(|_| AuthError::Missing)?;
    let skew = now_ms.abs_diff(time);
    if skew > MAX_SKEW_MS {
        return Err(AuthError::Stale(skew));
    }
    key.verify(&digest(method, path, node, time), &signature).map_err(|_| AuthError::Invalid)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_bound_to_method_path_node_and_time() {
        let key = SigningKey::from_seed([1; 32]);
        let node = NodeId([2; 32]);
        let header = authorize(&key, "GET", "/leases/1/logs?from=0", &node, 1_000_000);
        let ok = |m: &str, p: &str, n: &NodeId, t| verify(Some(&header), m, p, n, t);
        assert_eq!(ok("GET", "/leases/1/logs?from=0", &node, 1_000_100), Ok(key.public()));
        assert_eq!(ok("PUT", "/leases/1/logs?from=0", &node, 1_000_100), Err(AuthError::Invalid));
        assert_eq!(ok("GET", "/leases/1/logs?from=1", &node, 1_000_100), Err(AuthError::Invalid));
        assert_eq!(ok("GET", "/leases/1/logs?from=0", &NodeId([3; 32]), 1_000_100), Err(AuthError::Invalid));
        assert!(matches!(ok("GET", "/leases/1/logs?from=0", &node, 9_000_000), Err(AuthError::Stale(_))));
        assert_eq!(verify(None, "GET", "/", &node, 0), Err(AuthError::Missing));
        assert_eq!(verify(Some("Bearer x"), "GET", "/", &node, 0), Err(AuthError::Missing));
    }
}
