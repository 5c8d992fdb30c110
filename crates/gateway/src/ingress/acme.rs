//! Certificates from a server that gives them to whoever answers at a name (ACME, RFC 8555, HTTP-01).
//!
//! Guarantees: only names that lead somewhere are asked for, one at a time, and a name that was refused less and less often; a certificate is on
//! disk before it is shown, and is asked for anew when two thirds of its time are over.

use super::Ingress;
use super::tls::{Certificates, certified};
use crate::config::AcmeOptions;
use crate::error::GatewayError;
use bytes::Bytes;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use instant_acme::{
    Account, AccountBuilder, AccountCredentials, AuthorizationStatus, BodyWrapper, ChallengeType, HttpClient, Identifier, NewAccount,
    NewOrder, OrderStatus, RetryPolicy,
};
use pasture_api::publication::Protocol;
use pasture_rt::ShutdownToken;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const PATH: &str = "/.well-known/acme-challenge/";
const ACCOUNT_FILE: &str = "account.json";
/// Most names that certificates are asked for.
const MAX_NAMES: usize = 1_000;
/// Within which a certificate is there.
const WITHIN: Duration = Duration::from_secs(120);
/// How soon a name that was refused is asked for again, at first; the pause doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3_600);
/// How often it is looked which names are due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is answered to who asks whether we are who we say. A lock and no owner task: it is held for one look-up.
#[derive(Default, Debug)]
pub(super) struct Challenges(Mutex<HashMap<String, String>>);

impl Challenges {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, String>> {
        // Nothing that can panic runs while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// The answer at a path.
    pub(super) fn answer(&self, path: &str) -> Option<String> {
        self.lock().get(path.strip_prefix(PATH)?).cloned()
    }
}

/// When a name is asked for, next.
#[derive(Clone, Copy, Debug)]
struct Due {
    at_ms: u64,
    /// How long it waits after the next refusal.
    pause: Duration,
}

/// Who asks for certificates.
pub(super) struct Acme {
    ingress: Arc<Ingress>,
    options: AcmeOptions,
    certificates: Arc<Certificates>,
    /// Also for names below the gateway's domain.
    names_too: bool,
    due: BTreeMap<String, Due>,
    account: Option<Account>,
}

type Web = Client<hyper_rustls::HttpsConnector<hyper_util::client::legacy::connect::HttpConnector>, BodyWrapper<Bytes>>;

/// An HTTP client that believes this root, or those that this machine does.
fn web(root: Option<&Path>) -> Result<Box<dyn HttpClient>, GatewayError> {
    let wrong = |e: rustls::Error| GatewayError::Acme(e.to_string());
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(wrong)?;
    let config = match root {
        None => builder.with_platform_verifier().map_err(wrong)?.with_no_client_auth(),
        Some(path) => {
            let unread = |why: String| GatewayError::Certificate { path: path.into(), why };
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| unread(e.to_string()))? {
                roots.add(certificate.map_err(|e| unread(e.to_string()))?).map_err(|e| unread(e.to_string()))?;
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    };
    let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().build();
    let web: Web = Client::builder(TokioExecutor::new()).build(connector);
    Ok(Box::new(web))
}

/// When a certificate is to be had anew: two thirds of its time after its beginning.
fn renew_at_ms(certificate: &[u8]) -> Option<u64> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let validity = parsed.validity();
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let at = from.checked_add(until.checked_sub(from)? / 3 * 2)?;
    u64::try_from(at).ok()?.checked_mul(1_000)
}

impl Acme {
    /// Prepares to ask; nobody is asked yet.
    pub(super) async fn open(
        ingress: &Arc<Ingress>,
        options: AcmeOptions,
        certificates: Arc<Certificates>,
        names_too: bool,
    ) -> Result<Self, GatewayError> {
        let wrong = |e: std::io::Error| GatewayError::Certificate { path: options.folder.clone(), why: e.to_string() };
        fs::create_dir_all(&options.folder).map_err(wrong)?;
        // Also to see, before anything else, that its root can be read.
        drop(web(options.root.as_deref())?);
        Ok(Self { ingress: Arc::clone(ingress), options, certificates, names_too, due: BTreeMap::new(), account: None })
    }

    /// Asks for what is wanted until it is told to stop.
    pub(super) async fn run(mut self, stop: ShutdownToken) {
        while stop.guard(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let wanted = self.wanted();
            self.certificates.retain(&|name| wanted.contains(name));
            self.due.retain(|name, _| wanted.contains(name));
            for name in &wanted {
                if !self.due.contains_key(name) {
                    self.look(name);
                }
            }
            let now = self.ingress.clock.now_ms();
            let next = self.due.iter().filter(|(_, due)| due.at_ms <= now).min_by_key(|(_, due)| due.at_ms);
            let Some((name, due)) = next.map(|(name, due)| (name.clone(), *due)) else { continue };
            let asked = tokio::time::timeout(WITHIN, self.obtain(&name));
            let Some(outcome) = stop.guard(asked).await else { return };
            match outcome.unwrap_or_else(|_| Err(format!("it took longer than {WITHIN:?}"))) {
                Ok(()) => {
                    tracing::info!(name, "there is a certificate");
                    self.look(&name);
                }
                Err(why) => {
                    tracing::warn!(name, why, "no certificate was given");
                    let at_ms = self.ingress.clock.now_ms().saturating_add(u64::try_from(due.pause.as_millis()).unwrap_or(u64::MAX));
                    self.due.insert(name, Due { at_ms, pause: due.pause.saturating_mul(2).min(LONGEST_PAUSE) });
                }
            }
        }
    }

    /// The names that certificates are for.
    fn wanted(&self) -> BTreeSet<String> {
        let table = &self.ingress.table;
        let labels = if self.names_too { table.labels(Protocol::Http) } else { BTreeSet::new() };
        let below = labels.into_iter().map(|label| format!("{label}.{}", self.ingress.view.domain));
        table.proven().into_keys().chain(below).take(MAX_NAMES).collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.options.folder.join(format!("{name}.pem"))
    }

    /// Shows what is on disk for a name, and notes when to ask.
    fn look(&mut self, name: &str) {
        let text = fs::read(self.file(name)).unwrap_or_default();
        let at_ms = match certified(&text, &text) {
            Ok(certificate) => {
                let at = certificate.cert.first().and_then(|first| renew_at_ms(first));
                self.certificates.set(name, certificate);
                at.unwrap_or_default()
            }
            Err(_) => 0,
        };
        self.due.insert(name.to_owned(), Due { at_ms, pause: FIRST_PAUSE });
    }

    /// Our account there; opened the first time.
    async fn account(&mut self) -> Result<Account, String> {
        if let Some(account) = &self.account {
            return Ok(account.clone());
        }
        let builder = || -> Result<AccountBuilder, String> {
            Ok(Account::builder_with_http(web(self.options.root.as_deref()).map_err(|e| e.to_string())?))
        };
        let file = self.options.folder.join(ACCOUNT_FILE);
        let known = fs::read(&file).ok().and_then(|text| serde_json::from_slice::<AccountCredentials>(&text).ok());
        let account = match known {
            Some(credentials) => builder()?.from_credentials(credentials).await.map_err(|e| e.to_string())?,
            None => {
                let contact = self.options.contact.as_ref().map(|contact| format!("mailto:{contact}"));
                let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
                let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
                let made = builder()?.create(&new, self.options.directory.clone(), None).await;
                let (account, credentials) = made.map_err(|e| e.to_string())?;
                let text = serde_json::to_vec(&credentials).map_err(|e| e.to_string())?;
                pasture_store::write_atomic(&file, &text).map_err(|e| e.to_string())?;
                account
            }
        };
        Ok(self.account.insert(account).clone())
    }

    /// Asks for a certificate, and writes it down.
    async fn obtain(&mut self, name: &str) -> Result<(), String> {
        let account = self.account().await?;
        let identifiers = [Identifier::Dns(name.to_owned())];
        let mut order = account.new_order(&NewOrder::new(&identifiers)).await.map_err(|e| e.to_string())?;
        let mut answered = Answered { challenges: &self.ingress.challenges, tokens: vec![] };
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|e| e.to_string())?;
            match authorization.status {
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Valid => continue,
                status => return Err(format!("the server says that the name is {status:?}")),
            }
            let mut challenge = authorization.challenge(ChallengeType::Http01).ok_or("the server does not ask over HTTP")?;
            answered.answer(&challenge.token, challenge.key_authorization().as_str());
            challenge.set_ready().await.map_err(|e| e.to_string())?;
        }
        match order.poll_ready(&RetryPolicy::default()).await.map_err(|e| e.to_string())? {
            OrderStatus::Ready | OrderStatus::Valid => {}
            status => return Err(format!("the server asked at the name and was not content: {status:?}")),
        }
        let key = order.finalize().await.map_err(|e| e.to_string())?;
        let chain = order.poll_certificate(&RetryPolicy::default()).await.map_err(|e| e.to_string())?;
        certified(chain.as_bytes(), key.as_bytes())?;
        pasture_store::write_atomic(&self.file(name), format!("{key}\n{chain}").as_bytes()).map_err(|e| e.to_string())
    }
}

/// What is answered while one certificate is asked for.
struct Answered<'a> {
    challenges: &'a Challenges,
    tokens: Vec<String>,
}

impl Answered<'_> {
    fn answer(&mut self, token: &str, text: &str) {
        self.challenges.lock().insert(token.to_owned(), text.to_owned());
        self.tokens.push(token.to_owned());
    }
}

impl Drop for Answered<'_> {
    fn drop(&mut self) {
        let mut all = self.challenges.lock();
        for token in &self.tokens {
            all.remove(token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_there_while_it_is_asked_for() {
        let challenges = Challenges::default();
        let mut answered = Answered { challenges: &challenges, tokens: vec![] };
        answered.answer("token", "token.print");
        assert_eq!(challenges.answer("/.well-known/acme-challenge/token").as_deref(), Some("token.print"));
        assert_eq!(challenges.answer("/.well-known/acme-challenge/other"), None);
        assert_eq!(challenges.answer("/token"), None);
        drop(answered);
        assert!(challenges.lock().is_empty());
    }

    #[test]
    fn a_certificate_is_had_anew_before_it_ends() {
        let mut params = rcgen::CertificateParams::new(["example.org".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2026, 1, 31));
        let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        // 2026-01-01 and twenty days.
        assert_eq!(renew_at_ms(made.der()), Some((1_767_225_600 + 20 * 86_400) * 1_000));
        assert_eq!(renew_at_ms(b"nothing"), None);
    }
}
