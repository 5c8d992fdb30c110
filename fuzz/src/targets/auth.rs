//! The header of a data-plane request, what an owner publishes, and keys, signatures and ids as text: read or refused, and what is read says the
//! same when it is written.

use pasture_api::auth::{self, AuthError};
use pasture_api::private::{MAX_NAMES, PrivateNetwork};
use pasture_api::publication::SignedPublication;
use crate::{START, key, who};
use pasture_types::keys::{Signature, SignatureText, parse_public_key};
use pasture_types::{LeaseId, NodeId, ZoneId};

const PATH: &str = "/leases/1/logs?from=0";

/// Takes one input; a broken promise panics.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let node = key(who::NODE).node_id();
    for now in [0, START, u64::MAX] {
        match auth::verify(Some(text), "GET", PATH, &node, now) {
            Ok(signer) if signer == key(who::USER).public() => {
                assert_eq!(auth::verify(Some(text), "PUT", PATH, &node, now), Err(AuthError::Invalid));
                assert_eq!(auth::verify(Some(text), "GET", "/leases/1/stop", &node, now), Err(AuthError::Invalid));
                assert_eq!(auth::verify(Some(text), "GET", PATH, &NodeId([1; 32]), now), Err(AuthError::Invalid));
            }
            Err(AuthError::Stale(skew)) => assert!(skew > auth::MAX_SKEW_MS),
            _ => {}
        }
    }
    if let Ok(signed) = serde_json::from_str::<SignedPublication>(text) {
        let checked = signed.publication.check();
        assert!(checked.is_err() || signed.publication.label().len() <= 63);
        if signed.signer(&ZoneId([1; 32])).is_ok() {
            assert!(signed.signer(&ZoneId([2; 32])).is_err(), "it holds for another network");
        }
    }
    if let Ok(network) = serde_json::from_str::<PrivateNetwork>(text) {
        let names = network.names.len();
        assert!(network.check().is_err() || names <= MAX_NAMES);
        assert!(network.check().is_err() || network.admits.iter().all(|a| !network.admits(&a.node, 0)), "nobody is let in to port 0");
    }
    if let Ok(key) = parse_public_key(text) {
        assert!(key.to_string().eq_ignore_ascii_case(text));
        let _ = key.account();
        let _ = key.verify(&[1; 32], &Signature::Ed25519([2; 64]));
        let _ = key.verify(&[1; 32], &Signature::Eip191([2; 64]));
    }
    if let Ok(signature) = Signature::try_from(&SignatureText(text.into())) {
        assert!(SignatureText::from(&signature).0.eq_ignore_ascii_case(text));
        let _ = key(who::USER).public().verify(&[1; 32], &signature);
    }
    if let Ok(id) = text.parse::<LeaseId>() {
        assert!(id.to_string().eq_ignore_ascii_case(text) && id.short().len() == 8);
    }
}
