//! Certificates made here, for development: each name has one, signed by an authority that is kept in a folder. No wildcard, since clients
//! believe none for all of `localhost`.
//!
//! Guarantees: the authority can sign for names of its domain only, whoever has its key; nobody believes it without being told to.

use super::request::is_within;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints,
};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

const ROOT_FILE: &str = "authority.pem";
const KEY_FILE: &str = "authority-key.pem";
/// Names whose certificates are remembered.
const MAX_MADE: usize = 4_096;

/// Makes certificates for names below a domain.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    domain: String,
    /// A lock and no owner task: it is held while one certificate is made.
    made: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("domain", &self.domain).finish_non_exhaustive()
    }
}

fn params(domain: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints =
        Some(NameConstraints { permitted_subtrees: vec![GeneralSubtree::DnsName(domain.into())], excluded_subtrees: vec![] });
    params.distinguished_name.push(DnType::CommonName, format!("Pasture development gateway {domain}"));
    params
}

impl Authority {
    /// The one of a folder; made if there is none.
    pub(super) fn open(folder: &Path, domain: &str) -> Result<Self, String> {
        let [root, file] = [ROOT_FILE, KEY_FILE].map(|name| folder.join(name));
        let told = |e: &dyn std::fmt::Display| e.to_string();
        let key = match fs::read_to_string(&file) {
            Ok(text) => KeyPair::from_pem(&text).map_err(|e| told(&e))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let key = KeyPair::generate().map_err(|e| told(&e))?;
                fs::create_dir_all(folder).map_err(|e| told(&e))?;
                let made = params(domain).self_signed(&key).map_err(|e| told(&e))?;
                pasture_store::write_atomic(&root, made.pem().as_bytes()).map_err(|e| told(&e))?;
                pasture_store::write_atomic(&file, key.serialize_pem().as_bytes()).map_err(|e| told(&e))?;
                key
            }
            Err(e) => return Err(told(&e)),
        };
        Ok(Self { issuer: Issuer::new(params(domain), key), domain: domain.into(), made: Mutex::default() })
    }

    /// The certificate of a name; `None` for one that is not of its domain.
    pub(super) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        if !is_within(name, &self.domain) {
            return None;
        }
        // Nothing that can panic runs while it is held.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = made.get(name) {
            return Some(Arc::clone(known));
        }
        let certificate = Arc::new(self.make(name)?);
        if made.len() >= MAX_MADE {
            made.clear();
        }
        made.insert(name.to_owned(), Arc::clone(&certificate));
        Some(certificate)
    }

    fn make(&self, name: &str) -> Option<CertifiedKey> {
        let mut params = CertificateParams::new([name.to_owned()]).ok()?;
        params.distinguished_name.push(DnType::CommonName, "a name of a Pasture gateway");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().ok()?;
        let made = params.signed_by(&key, &self.issuer).ok()?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Some(CertifiedKey::new(vec![made.der().clone()], ring::sign::any_supported_type(&key).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_stays_and_signs_for_its_domain_alone() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("ingress");
        let authority = Authority::open(&folder, "localhost").unwrap();
        let first = fs::read(folder.join(ROOT_FILE)).unwrap();
        let again = Authority::open(&folder, "localhost").unwrap();
        assert_eq!(fs::read(folder.join(ROOT_FILE)).unwrap(), first);
        let one = authority.certificate("a.localhost").unwrap();
        assert!(Arc::ptr_eq(&one, &authority.certificate("a.localhost").unwrap()), "made once");
        assert!(again.certificate("b.localhost").is_some());
        assert!(authority.certificate("example.org").is_none() && authority.certificate("xlocalhost").is_none());
    }
}
