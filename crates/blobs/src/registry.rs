//! Registries, as anybody may ask them: the distribution specification 1.1, with the tokens that Docker's and others' give to everybody.
//!
//! Guarantees: no address of this machine's own network is called, by whatever name, redirection or token's realm, unless its owner named that
//! registry; what is read has a limit; an answer that stops is given up. It knows no passwords.

use crate::download::{Origin, OriginError, Pieces};
use crate::manifest::{ACCEPTED, MAX_DOCUMENT};
use crate::reference::Reference;
use crate::store::digest;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use pasture_types::ContentDigest;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT, CONTENT_RANGE, RANGE, WWW_AUTHENTICATE};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Until an answer begins.
const ANSWER: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);
/// Redirections that are followed.
const MAX_REDIRECTS: usize = 5;
/// Largest token with what is said of it.
const MAX_TOKEN: usize = 64 << 10;
/// How long a token works that does not say, and how long before its end it is not used any more.
const TOKEN_LIFE: Duration = Duration::from_secs(60);
const TOKEN_MARGIN: Duration = Duration::from_secs(10);
/// Most tokens kept.
const MAX_TOKENS: usize = 1_024;

/// Why a registry did not give something.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is none of this name, or none that everybody may have.
    #[error("the registry {registry} has no image {reference} that everybody may fetch")]
    NotFound {
        /// Its host.
        registry: String,
        /// What was asked for.
        reference: String,
    },
    /// It wants to be asked less often.
    #[error("the registry {0} has been asked too often from here; try again later, or name the image by its digest")]
    Busy(String),
    /// It was not reached, or may not be.
    #[error("the registry {registry} is not reached: {why}")]
    Unreachable {
        /// Its host.
        registry: String,
        /// What happened.
        why: String,
    },
    /// It answered something else.
    #[error("the registry {registry} answers {why}")]
    Answer {
        /// Its host.
        registry: String,
        /// What.
        why: String,
    },
}

/// A registry of the owner's own: it may have an address that is not public, and speak without TLS.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RegistryUrl {
    host: String,
    plain: bool,
}

impl std::str::FromStr for RegistryUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no registry: https://HOST[:PORT] or http://HOST[:PORT] is expected");
        let (plain, host) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(host), _) => (true, host),
            (_, Some(host)) => (false, host),
            _ => return Err(wrong()),
        };
        let host = host.trim_end_matches('/').to_ascii_lowercase();
        // It has to be what an image's name can begin with.
        let named = Reference::parse(&format!("{host}/a")).map_err(|_| wrong())?;
        if named.endpoint() == host { Ok(Self { host, plain }) } else { Err(wrong()) }
    }
}

/// All registries.
#[derive(Clone)]
pub struct Registries {
    http: Client,
    bounds: Bounds,
    tokens: Arc<Mutex<HashMap<String, (String, Instant)>>>,
}

impl std::fmt::Debug for Registries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registries").field("own", &self.bounds.own).finish_non_exhaustive()
    }
}

/// Whether an address is one of the public internet.
type IsPublic = fn(IpAddr) -> bool;

/// Where calls may go.
#[derive(Clone)]
struct Bounds {
    own: Arc<BTreeMap<String, bool>>,
    is_public: IsPublic,
}

impl Bounds {
    fn is_own(&self, host: &str) -> bool {
        // A resolver hears no port.
        self.own.keys().any(|own| own == host || own.rsplit_once(':').is_some_and(|(name, _)| name == host))
    }
    /// Whether a URL may be called, as far as its text says.
    fn check(&self, url: &Url) -> Result<(), String> {
        let host = url.host_str().unwrap_or_default();
        let with_port = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        match self.own.get(&with_port) {
            Some(plain) if url.scheme() == if *plain { "http" } else { "https" } => return Ok(()),
            Some(_) => return Err(format!("{with_port} is known by another scheme than {}", url.scheme())),
            None => {}
        }
        if url.scheme() != "https" {
            return Err(format!("it leads to {}, which is not encrypted", url.origin().ascii_serialization()));
        }
        if self.is_own(host) {
            return Err(format!("{with_port} is another port than the one that this machine's owner named"));
        }
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) if !(self.is_public)(address) => Err(not_public(host, address)),
            _ => Ok(()),
        }
    }
}

fn not_public(host: &str, address: IpAddr) -> String {
    format!("{host} has the address {address}, which is not a public one")
}

impl Resolve for Bounds {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let host = name.as_str();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            if !this.is_own(host)
                && let Some(inner) = found.iter().find(|address| !(this.is_public)(address.ip()))
            {
                return Err(not_public(host, inner.ip()).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl Registries {
    /// Registries that may be asked: all at public addresses, and the owner's own.
    ///
    /// # Errors
    /// If the HTTP client cannot be made.
    pub fn new(own: &[RegistryUrl], is_public: IsPublic) -> Result<Self, reqwest::Error> {
        let bounds = Bounds { own: Arc::new(own.iter().map(|url| (url.host.clone(), url.plain)).collect()), is_public };
        let asked = bounds.clone();
        let redirects = reqwest::redirect::Policy::custom(move |attempt| {
            if attempt.previous().len() > MAX_REDIRECTS {
                return attempt.error("it redirects too often");
            }
            match asked.check(attempt.url()) {
                Ok(()) => attempt.follow(),
                Err(why) => attempt.error(why),
            }
        });
        let builder = pasture_api::door::trusting(pasture_api::door::http(None)?);
        let http = builder.dns_resolver(bounds.clone()).redirect(redirects).referer(false).connect_timeout(CONNECT).build()?;
        Ok(Self { http, bounds, tokens: Arc::default() })
    }
    /// Whether an image's registry is one of the owner's own.
    #[must_use]
    pub fn is_own(&self, reference: &str) -> bool {
        Reference::parse(reference).is_ok_and(|name| self.bounds.own.contains_key(name.endpoint()))
    }
    /// What a name means now: the document that its registry has for it, and its digest.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn document(&self, reference: &Reference) -> Result<(ContentDigest, Bytes), RegistryError> {
        let answer = self.get(reference, &format!("manifests/{}", reference.version()), ACCEPTED, None).await?;
        let bytes = limited(reference, answer, MAX_DOCUMENT).await?;
        let found = digest(&bytes);
        match reference.digest() {
            Some(wanted) if wanted != found => Err(odd(reference, "another document than the one of this digest".into())),
            _ => Ok((found, bytes)),
        }
    }
    /// Asks for something of an image's repository, with a token if it has to be.
    async fn get(&self, of: &Reference, path: &str, accept: &str, range: Option<(u64, u64)>) -> Result<Response, RegistryError> {
        let host = of.endpoint();
        let scheme = if self.bounds.own.get(host) == Some(&true) { "http" } else { "https" };
        let url: Url = format!("{scheme}://{host}/v2/{}/{path}", of.repository()).parse().map_err(|e| unreachable(of, format!("{e}")))?;
        self.bounds.check(&url).map_err(|why| unreachable(of, why))?;
        let mut token = self.known_token(of);
        let mut tried_anew = false;
        loop {
            let mut request = self.http.get(url.clone()).header(ACCEPT, accept);
            if let Some((from, to)) = range {
                request = request.header(RANGE, format!("bytes={from}-{}", to.saturating_sub(1)));
            }
            if let Some(token) = &token {
                request = request.bearer_auth(token);
            }
            let answer = sent(of, request).await?;
            match answer.status() {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => return Ok(answer),
                StatusCode::UNAUTHORIZED if !tried_anew => {
                    tried_anew = true;
                    let asked = answer.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).and_then(Challenge::parse);
                    // What wants a password is not for everybody.
                    let challenge = asked.ok_or_else(|| absent(of))?;
                    token = Some(self.token(of, &challenge).await?);
                }
                StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(absent(of)),
                StatusCode::TOO_MANY_REQUESTS => return Err(RegistryError::Busy(host.into())),
                other => return Err(odd(of, other.to_string())),
            }
        }
    }
    fn known_token(&self, of: &Reference) -> Option<String> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let (token, until) = tokens.get(&scope_of(of))?;
        (Instant::now() < *until).then(|| token.clone())
    }
    /// The token that everybody gets for reading a repository.
    async fn token(&self, of: &Reference, challenge: &Challenge) -> Result<String, RegistryError> {
        #[derive(Deserialize)]
        struct Given {
            token: Option<String>,
            access_token: Option<String>,
            expires_in: Option<u64>,
        }
        let mut url: Url = challenge.realm.parse().map_err(|e| odd(of, format!("with a realm that is no address ({e})")))?;
        self.bounds.check(&url).map_err(|why| unreachable(of, why))?;
        url.query_pairs_mut().extend_pairs(challenge.service.iter().map(|service| ("service", service)));
        url.query_pairs_mut().append_pair("scope", &format!("repository:{}:pull", of.repository()));
        let answer = sent(of, self.http.get(url)).await?;
        if !answer.status().is_success() {
            return Err(absent(of));
        }
        let given: Given = serde_json::from_slice(&limited(of, answer, MAX_TOKEN).await?).map_err(|e| odd(of, format!("no token: {e}")))?;
        let token = given.token.or(given.access_token).ok_or_else(|| odd(of, "no token".into()))?;
        let life = given.expires_in.map_or(TOKEN_LIFE, |s| Duration::from_secs(s.min(3_600))).saturating_sub(TOKEN_MARGIN);
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAX_TOKENS {
            tokens.clear();
        }
        tokens.insert(scope_of(of), (token.clone(), Instant::now() + life));
        Ok(token)
    }
}

/// A registry as one of those that may have a blob of an image.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) registries: Registries,
    pub(crate) image: Reference,
}

#[async_trait]
impl Origin for Upstream {
    fn name(&self) -> String {
        self.image.endpoint().to_owned()
    }
    fn pieces_at_once(&self) -> u64 {
        // It may send each request elsewhere first.
        32
    }
    async fn read(&self, digest: &ContentDigest, from: u64, length: Option<u64>) -> Result<Pieces, OriginError> {
        let range = length.map(|length| (from, from.saturating_add(length)));
        let lost = |error: RegistryError| OriginError(error.to_string());
        let answer = self.registries.get(&self.image, &format!("blobs/{digest}"), "*/*", range).await.map_err(lost)?;
        let partial = answer.status() == StatusCode::PARTIAL_CONTENT;
        let begins = answer.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).and_then(begin);
        if partial && begins != Some(from) {
            return Err(OriginError(format!("{} sends other bytes than those that were asked for", self.name())));
        }
        let bytes = answer.bytes_stream().map(|chunk| chunk.map_err(io::Error::other)).boxed();
        // One that knows no ranges sends all of it.
        Ok(if partial { bytes } else { skipped(bytes, from) })
    }
}

/// The first of the bytes that a `Content-Range` is about.
fn begin(value: &str) -> Option<u64> {
    value.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

/// Without so many bytes at its beginning.
fn skipped(bytes: Pieces, mut left: u64) -> Pieces {
    bytes
        .map(move |chunk| {
            chunk.map(|mut chunk| {
                let cut = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
                left = left.saturating_sub(cut as u64);
                chunk.split_off(cut)
            })
        })
        .boxed()
}

fn scope_of(of: &Reference) -> String {
    format!("{}/{}", of.endpoint(), of.repository())
}

async fn sent(of: &Reference, request: reqwest::RequestBuilder) -> Result<Response, RegistryError> {
    match tokio::time::timeout(ANSWER, request.send()).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(unreachable(of, innermost(&error))),
        Err(_) => Err(unreachable(of, format!("it says nothing for {} seconds", ANSWER.as_secs()))),
    }
}

async fn limited(of: &Reference, mut answer: Response, most: usize) -> Result<Bytes, RegistryError> {
    let mut all = bytes::BytesMut::new();
    let broke = |error: reqwest::Error| unreachable(of, innermost(&error));
    let silent = |_| unreachable(of, "it stopped in the middle of an answer".into());
    while let Some(chunk) = tokio::time::timeout(ANSWER, answer.chunk()).await.map_err(silent)?.map_err(broke)? {
        if all.len().saturating_add(chunk.len()) > most {
            return Err(odd(of, format!("more than {most} bytes where few are expected")));
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all.freeze())
}

/// What an error comes from, which says more than that a request failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

fn absent(of: &Reference) -> RegistryError {
    RegistryError::NotFound { registry: of.endpoint().into(), reference: of.to_string() }
}

fn unreachable(of: &Reference, why: String) -> RegistryError {
    RegistryError::Unreachable { registry: of.endpoint().into(), why }
}

fn odd(of: &Reference, why: String) -> RegistryError {
    RegistryError::Answer { registry: of.endpoint().into(), why }
}

/// What a registry says that it wants: a token of somebody's (RFC 6750, and the distribution project's "Token Authentication").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Challenge {
    /// Who gives tokens.
    pub realm: String,
    /// For whom they are.
    pub service: Option<String>,
}

impl Challenge {
    /// Reads `Bearer realm="..",service="..",..`; nothing if something else is wanted.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let (scheme, mut rest) = header.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut this = Self { realm: String::new(), service: None };
        loop {
            let (name, after) = rest.trim_start_matches([' ', ',']).split_once('=')?;
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            match name.trim().to_ascii_lowercase().as_str() {
                "realm" => this.realm = value.to_owned(),
                "service" => this.service = Some(value.to_owned()),
                _ => {}
            }
            if after.trim_matches([' ', ',']).is_empty() {
                return (!this.realm.is_empty()).then_some(this);
            }
            rest = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn bounds(own: &[&str]) -> Bounds {
        let own = own.iter().map(|url| url.parse::<RegistryUrl>().unwrap()).map(|url| (url.host, url.plain)).collect();
        Bounds { own: Arc::new(own), is_public: |address| address == IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)) }
    }

    #[test]
    fn nothing_within_the_machines_network_is_called_unless_its_owner_named_it() {
        let check = |bounds: &Bounds, url: &str| bounds.check(&url.parse().unwrap());
        let none = bounds(&[]);
        for good in ["https://8.8.8.8/v2/", "https://registry.example/v2/", "https://registry.example:5000/"] {
            assert_eq!(check(&none, good), Ok(()), "{good}");
        }
        for bad in
            ["http://registry.example/", "https://10.0.0.1/", "https://[::1]/", "https://127.0.0.1:5000/", "http://169.254.169.254/latest"]
        {
            assert!(check(&none, bad).is_err(), "{bad}");
        }
        let own = bounds(&["http://10.0.0.1:5000", "https://registry.corp"]);
        for good in ["http://10.0.0.1:5000/v2/", "https://registry.corp/v2/"] {
            assert_eq!(check(&own, good), Ok(()), "{good}");
        }
        for bad in
            ["https://10.0.0.1:5000/", "http://10.0.0.1:5001/", "http://registry.corp/", "https://registry.corp:22/", "https://10.0.0.1/"]
        {
            assert!(check(&own, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn registries_of_ones_own_are_urls() {
        for good in ["http://10.0.0.1:5000", "https://Registry.corp/", "http://[fd00::1]:5000"] {
            assert!(good.parse::<RegistryUrl>().is_ok(), "{good}");
        }
        for bad in
            ["", "registry.corp", "ftp://registry.corp", "https://registry", "https://a.b/c", "https://user@a.b", "https://docker.io"]
        {
            assert!(bad.parse::<RegistryUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_registry_wants_is_read() {
        let of = |realm: &str, service: Option<&str>| Some(Challenge { realm: realm.into(), service: service.map(str::to_owned) });
        let docker = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        assert_eq!(Challenge::parse(docker), of("https://auth.docker.io/token", Some("registry.docker.io")));
        assert_eq!(Challenge::parse("bearer  Realm=x"), of("x", None));
        for other in ["", "Basic realm=\"x\"", "Bearer", "Bearer realm", "Bearer realm=\"x", "Bearer service=x", "Bearer =,=,="] {
            assert_eq!(Challenge::parse(other), None, "{other}");
        }
    }

    #[test]
    fn what_comes_before_the_range_is_left_out() {
        let all = vec![Ok(Bytes::from_static(b"abc")), Ok(Bytes::from_static(b"defg"))];
        let left = futures::executor::block_on(skipped(futures::stream::iter(all).boxed(), 4).map(Result::unwrap).collect::<Vec<_>>());
        assert_eq!(left.concat(), b"efg");
        assert_eq!((begin("bytes 7-9/12"), begin("bytes */12"), begin("7-9")), (Some(7), None, None));
    }
}
