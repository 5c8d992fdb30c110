//! The certificate of a relay, and who believes it: the ones that a ticket names, by their hashes, and nobody else.
//!
//! A relay's certificate follows from its node's key alone, so that it stays what it is over restarts; no authority signs it. What goes by a
//! relay is sealed between its two ends anyway: a false relay could drop, and tell an endpoint a wrong address of its own, which then does not work.

use crate::error::NetError;
use crate::relay::Relay;
use iroh_relay::tls::CaTlsConfig;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ED25519};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, ServerConfig, SignatureScheme};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

/// What stands before an Ed25519 seed in PKCS #8 (RFC 8410, §7).
const PKCS8: [u8; 16] = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A relay's certificate, and how it serves with it.
pub(crate) fn certificate(seed: &[u8; 32], address: SocketAddr) -> Result<([u8; 32], ServerConfig), NetError> {
    let wrong = |why: String| NetError::Relay { address, why };
    let pkcs8 = PrivatePkcs8KeyDer::from([PKCS8.as_slice(), seed].concat());
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ED25519).map_err(|e| wrong(e.to_string()))?;
    let mut params = CertificateParams::new(vec!["relay.pasture".into()]).map_err(|e| wrong(e.to_string()))?;
    params.distinguished_name.push(DnType::CommonName, "relay.pasture");
    params.serial_number = Some(1.into());
    let certificate = params.self_signed(&key).map_err(|e| wrong(e.to_string()))?;
    let der = certificate.der().clone();
    let pin = pin(&der);
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(vec![der], PrivateKeyDer::from(pkcs8)))
        .map_err(|e| wrong(e.to_string()))?;
    Ok((pin, config))
}

/// A certificate's name.
fn pin(certificate: &CertificateDer<'_>) -> [u8; 32] {
    pasture_types::blob::hash(certificate).0
}

/// Which relays are believed; may grow while the endpoint lives. A lock: it is held for one look-up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pins(Arc<RwLock<BTreeSet<[u8; 32]>>>);

impl Pins {
    pub(crate) fn of(relays: &[Relay]) -> Self {
        let pins = Self::default();
        relays.iter().for_each(|relay| pins.add(relay));
        pins
    }
    pub(crate) fn add(&self, relay: &Relay) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(relay.pin);
    }
    fn hold(&self, certificate: &CertificateDer<'_>) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&pin(certificate))
    }
    /// As the library takes it.
    pub(crate) fn config(&self) -> CaTlsConfig {
        let pins = self.clone();
        CaTlsConfig::custom_server_cert_verifier(Arc::new(move |provider| {
            Ok(Arc::new(Pinned { pins: pins.clone(), provider }) as Arc<dyn ServerCertVerifier>)
        }))
    }
}

#[derive(Debug)]
struct Pinned {
    pins: Pins,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.pins.hold(end) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General("the relay is not the one that was named: its certificate is another".into()))
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relays_certificate_follows_from_its_key_alone() {
        let address = ([127, 0, 0, 1], 0).into();
        let (pin, _) = certificate(&[7; 32], address).unwrap();
        assert_eq!(certificate(&[7; 32], address).unwrap().0, pin);
        assert_ne!(certificate(&[8; 32], address).unwrap().0, pin);
    }
}
