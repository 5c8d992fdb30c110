//! The certificates that the door shows, by the name that a client asks for.
//!
//! Guarantees: a certificate is shown only with its key, and one that cannot be read replaces none; files are read again when they change.

use super::authority::Authority;
use super::request::is_within;
use crate::config::CertificateOptions;
use crate::error::GatewayError;
use pasture_rt::ShutdownToken;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

/// How often it is looked whether given files have changed.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What the door shows.
#[derive(Default, Debug)]
pub(super) struct Certificates {
    /// For every name without one of its own.
    common: RwLock<Option<Arc<CertifiedKey>>>,
    of_names: RwLock<HashMap<String, Arc<CertifiedKey>>>,
    /// Makes one for every other name of the domain, where that is wanted.
    authority: RwLock<Option<Authority>>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let own = name.as_ref().and_then(|name| self.of_name(name));
        let authority = self.authority.read().unwrap_or_else(PoisonError::into_inner);
        let made = || authority.as_ref()?.certificate(&name?);
        own.or_else(|| self.common.read().unwrap_or_else(PoisonError::into_inner).clone()).or_else(made)
    }
}

impl Certificates {
    fn of_name(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.of_names.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Whether a name has a certificate of its own.
    pub(super) fn has(&self, name: &str) -> bool {
        self.of_name(name).is_some()
    }

    /// Whether there is one for a name: its own, or below the gateway's domain the common one.
    pub(super) fn is_for(&self, name: &str, domain: &str) -> bool {
        let has_common = || self.common.read().unwrap_or_else(PoisonError::into_inner).is_some();
        let has_authority = || self.authority.read().unwrap_or_else(PoisonError::into_inner).is_some();
        self.has(name) || is_within(name, domain) && (has_common() || has_authority())
    }

    /// Shows this one to who asks for this name.
    pub(super) fn set(&self, name: &str, certificate: CertifiedKey) {
        self.of_names.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), Arc::new(certificate));
    }

    /// Takes away the certificates of names that are not among these.
    pub(super) fn retain(&self, names: &dyn Fn(&str) -> bool) {
        self.of_names.write().unwrap_or_else(PoisonError::into_inner).retain(|name, _| names(name));
    }

    fn set_common(&self, certificate: CertifiedKey) {
        *self.common.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(certificate));
    }

    /// How TLS is spoken with them: 1.2 and 1.3, HTTP/1.1.
    pub(super) fn config(self: &Arc<Self>) -> Result<ServerConfig, GatewayError> {
        let wrong = |e: rustls::Error| GatewayError::Certificate { path: PathBuf::new(), why: e.to_string() };
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS12, &rustls::version::TLS13]).map_err(wrong)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// A chain and its key, in PEM.
pub(super) fn certified(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, String> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(|e| format!("the certificate is unreadable: {e}"))?;
    if chain.is_empty() {
        return Err("there is no certificate in it".into());
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| format!("the key is unreadable: {e}"))?;
    let key = ring::sign::any_supported_type(&key).map_err(|e| format!("the key is of no kind that is known: {e}"))?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|e| format!("the certificate is not this key's: {e}"))?;
    Ok(certified)
}

fn load(chain: &Path, key: &Path) -> Result<CertifiedKey, GatewayError> {
    let read = |path: &Path| fs::read(path).map_err(|e| GatewayError::Certificate { path: path.into(), why: e.to_string() });
    certified(&read(chain)?, &read(key)?).map_err(|why| GatewayError::Certificate { path: chain.into(), why })
}

/// When two files were written last.
fn written(files: [&Path; 2]) -> [Option<SystemTime>; 2] {
    files.map(|file| fs::metadata(file).and_then(|meta| meta.modified()).ok())
}

/// Shows the certificate of the domain's names, made here if that is asked for.
pub(super) fn show(certificates: &Certificates, options: &CertificateOptions, domain: &str) -> Result<(), GatewayError> {
    match options {
        CertificateOptions::Given { chain, key } => certificates.set_common(load(chain, key)?),
        CertificateOptions::SelfSigned { folder } => {
            let wrong = |why| GatewayError::Certificate { path: folder.clone(), why };
            *certificates.authority.write().unwrap_or_else(PoisonError::into_inner) = Some(Authority::open(folder, domain).map_err(wrong)?);
        }
    }
    Ok(())
}

/// Reads given files again whenever they change, until it is asked to stop.
pub(super) async fn follow(certificates: Arc<Certificates>, options: CertificateOptions, stop: ShutdownToken) {
    let CertificateOptions::Given { chain, key } = options else { return };
    let mut seen = written([&chain, &key]);
    while stop.guard(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        let now = written([&chain, &key]);
        if now == seen {
            continue;
        }
        match load(&chain, &key) {
            Ok(certificate) => {
                certificates.set_common(certificate);
                seen = now;
                tracing::info!(chain = %chain.display(), "the certificate was read again");
            }
            // Looked at again: of two files one may be there first.
            Err(error) => tracing::warn!(%error, "the certificate has changed and cannot be read; the one before stays"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_needs_its_own_key() {
        let make = || rcgen::generate_simple_self_signed(["example.org".to_owned()]).unwrap();
        let (one, other) = (make(), make());
        let [chain, key, wrong] = [one.cert.pem(), one.signing_key.serialize_pem(), other.signing_key.serialize_pem()];
        assert!(certified(chain.as_bytes(), key.as_bytes()).is_ok());
        assert!(certified(chain.as_bytes(), wrong.as_bytes()).is_err());
        assert!(certified(key.as_bytes(), key.as_bytes()).is_err() && certified(chain.as_bytes(), b"").is_err());
    }
}
