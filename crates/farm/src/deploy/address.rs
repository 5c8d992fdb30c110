//! Job files by address: `https:` from public machines, `file:` from this one.
//!
//! Guarantees: nothing is asked over a connection that others could change, and nothing of a machine that is not public: each
//! host is resolved once, all of its addresses are looked at, and the connection goes to exactly those, at every redirect anew.
//! Size, time and redirects have limits. No cookie, no proxy, no credential is sent.

use crate::exit::Failure;
use crate::spec_file::{self, MAX_FILE_BYTES};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::handshake;
use hyper::header::{ACCEPT, HOST, LOCATION, USER_AGENT};
use hyper::rt::{Read, Write};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls_platform_verifier::BuilderVerifierExt as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, pki_types::ServerName};
use url::Url;

/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 5;
/// How long all of it may take.
const WITHIN: Duration = Duration::from_secs(20);

/// A file that was fetched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fetched {
    /// Where it really came from.
    pub(crate) shown: String,
    /// What it says.
    pub(crate) text: String,
    /// What folders in it are relative to: only for files of this machine.
    pub(crate) base: Option<PathBuf>,
}

/// What may be asked of whom.
#[derive(Clone, Copy)]
struct Rules {
    scheme: &'static str,
    may_ask: fn(&IpAddr) -> bool,
    within: Duration,
}

const RULES: Rules = Rules { scheme: "https", may_ask: is_public, within: WITHIN };

/// Whether a text is meant as an address and not as a path.
pub(crate) fn is_url(text: &str) -> bool {
    text.contains("://") || text.starts_with("file:") || text.starts_with("https:") || text.starts_with("http:")
}

/// Reads the file at an address.
pub(crate) async fn open(text: &str) -> Result<Fetched, Failure> {
    let url = Url::parse(text).map_err(|e| bad(text, &format!("is no address: {e}")))?;
    match url.scheme() {
        "file" => {
            let path = url.to_file_path().map_err(|()| bad(text, "does not name a file of this machine"))?;
            let base = path.parent().map(PathBuf::from);
            Ok(Fetched { shown: path.display().to_string(), text: spec_file::read(&path)?, base })
        }
        _ => fetch(url, RULES).await,
    }
}

fn bad(address: &str, problem: &str) -> Failure {
    Failure::new("bad-address", format!("{} {problem}", address.escape_default()))
}

async fn fetch(url: Url, rules: Rules) -> Result<Fetched, Failure> {
    let shown = url.to_string();
    match tokio::time::timeout(rules.within, follow(url, rules)).await {
        Ok(fetched) => fetched,
        Err(_) => Err(bad(&shown, &format!("did not answer within {} s", rules.within.as_secs()))),
    }
}

async fn follow(mut url: Url, rules: Rules) -> Result<Fetched, Failure> {
    for _ in 0..=MAX_REDIRECTS {
        let answer = ask(&url, rules).await?;
        if answer.status.is_redirection() {
            url = answer.location.and_then(|l| url.join(&l).ok()).ok_or_else(|| bad(url.as_str(), "sends us nowhere"))?;
            continue;
        }
        if !answer.status.is_success() {
            return Err(bad(url.as_str(), &format!("answers {}", answer.status)));
        }
        let text = String::from_utf8(answer.body).map_err(|_| bad(url.as_str(), "is not text"))?;
        return Ok(Fetched { shown: url.to_string(), text, base: None });
    }
    Err(bad(url.as_str(), &format!("is behind more than {MAX_REDIRECTS} redirects")))
}

/// What was answered, with as much as is needed of it.
struct Answer {
    status: StatusCode,
    location: Option<String>,
    body: Vec<u8>,
}

/// One request, to addresses that were looked at.
async fn ask(url: &Url, rules: Rules) -> Result<Answer, Failure> {
    let refuse = |problem: &str| bad(url.as_str(), problem);
    if url.scheme() != rules.scheme {
        return Err(refuse(&format!("is not asked: job files come over {} only", rules.scheme)));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("holds a name or a password, which would be written down: leave it out"));
    }
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(refuse("names no machine"));
    };
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = match name.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => tokio::net::lookup_host((name, port)).await.map_err(|e| refuse(&format!("is not found: {e}")))?.collect(),
    };
    // One that is not public among several is a trick, or a mistake that would be one another day.
    if addresses.is_empty() || addresses.iter().any(|a| !(rules.may_ask)(&a.ip())) {
        return Err(refuse("is not asked: it names a machine that is not public"));
    }
    let failed = |e: &dyn std::fmt::Display| refuse(&format!("does not answer: {e}"));
    let stream = TcpStream::connect(addresses.as_slice()).await.map_err(|e| failed(&e))?;
    if rules.scheme != "https" {
        return exchange(TokioIo::new(stream), url).await;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_platform_verifier())
        .map_err(|e| refuse(&format!("cannot be asked: this machine's certificates cannot be read: {e}")))?
        .with_no_client_auth();
    let server = ServerName::try_from(name.to_owned()).map_err(|e| refuse(&format!("names no machine: {e}")))?;
    let secure = TlsConnector::from(Arc::new(config)).connect(server, stream).await.map_err(|e| failed(&e))?;
    exchange(TokioIo::new(secure), url).await
}

/// A request over a connection, and its answer up to the limit.
async fn exchange(io: impl Read + Write + Unpin, url: &Url) -> Result<Answer, Failure> {
    let failed = |e: hyper::Error| bad(url.as_str(), &format!("broke off: {e}"));
    let (mut sender, connection) = handshake(io).await.map_err(failed)?;
    let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let host =
        url.port().map_or_else(|| url.host_str().unwrap_or_default().to_owned(), |p| format!("{}:{p}", url.host_str().unwrap_or_default()));
    let request = Request::get(target)
        .header(HOST, host)
        .header(USER_AGENT, concat!("farm/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "*/*")
        .body(Empty::<Bytes>::new())
        .map_err(|e| bad(url.as_str(), &format!("cannot be asked for: {e}")))?;
    // It ends with the sender, which this block owns.
    let work = async move {
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        let location = response.headers().get(LOCATION).and_then(|l| l.to_str().ok()).map(str::to_owned);
        let body = if status.is_success() { body(url, response.into_body()).await? } else { vec![] };
        Ok(Answer { status, location, body })
    };
    let (answer, _) = tokio::join!(work, connection);
    answer
}

async fn body(url: &Url, mut body: hyper::body::Incoming) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![];
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| bad(url.as_str(), &format!("broke off: {e}")))?;
        let Some(data) = frame.data_ref() else { continue };
        if (bytes.len() + data.len()) as u64 > MAX_FILE_BYTES {
            return Err(bad(url.as_str(), &format!("is too large: a job file has at most {MAX_FILE_BYTES} bytes")));
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}

/// Whether an address belongs to the public network: not to this machine, its neighbours, or nobody.
fn is_public(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(*v4),
        IpAddr::V6(v6) => is_public_v6(*v6),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocols = a == 192 && b == 0 && c == 0;
    let relays = a == 192 && b == 88 && c == 99;
    let benchmarks = a == 198 && (b == 18 || b == 19);
    let nobody = a == 0 || a >= 224;
    !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_documentation())
        && !(shared || protocols || relays || benchmarks || nobody)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let low = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match (a, b, c, d, e, f) {
        // Addresses of version 4 in other clothes: mapped, translated, tunnelled.
        (0x64, 0xff9b, 0, 0, 0, 0) => is_public_v4(low(g, h)),
        (0x2002, ..) => is_public_v4(low(b, c)),
        // Tunnels that hide the target, examples, and what is not routed.
        (0x2001, 0..=0x1ff | 0xdb8, ..) | (0x3fff, ..) => false,
        _ => (0x2000..0x4000).contains(&a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    #[test]
    fn only_public_addresses_are_asked() {
        for public in ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1", "64:ff9b::101:101"] {
            assert!(is_public(&public.parse().unwrap()), "{public}");
        }
        for other in [
            "127.0.0.1",
            "127.8.9.1",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.0.8",
            "198.18.0.1",
            "192.0.2.1",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::",
            "2001:db8::1",
            "2001::1",
            "100::1",
        ] {
            assert!(!is_public(&other.parse().unwrap()), "{other}");
        }
    }

    #[tokio::test]
    async fn this_machine_and_its_neighbours_are_refused_whatever_they_are_called() {
        for (address, words) in [
            ("http://example.org/a.yaml", "over https only"),
            ("ftp://example.org/a.yaml", "over https only"),
            ("https://127.0.0.1/a", "not public"),
            ("https://localhost/a", "not public"),
            ("https://[::1]:8443/a", "not public"),
            ("https://[::ffff:169.254.169.254]/latest", "not public"),
            ("https://2130706433/a", "not public"),
            ("https://0x7f.1/a", "not public"),
            ("https://me:secret@example.org/a", "holds a name or a password"),
            ("https://", "is no address"),
            ("file://elsewhere/a", "does not name a file"),
        ] {
            let e = open(address).await.unwrap_err();
            assert!(e.message.contains(words), "{address}: {e:?}");
        }
    }

    /// Answers each path with what was set for it; `None`: never.
    async fn server(answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = Arc::new(answer);
        pasture_rt::spawn(pasture_rt::TaskKind::Server, async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer = Arc::clone(&answer);
                pasture_rt::spawn(pasture_rt::TaskKind::Server, async move {
                    let mut head = vec![0; 4096];
                    let n = stream.read(&mut head).await.unwrap_or(0);
                    let head = String::from_utf8_lossy(&head[..n]).into_owned();
                    match answer(head.split_whitespace().nth(1).unwrap_or_default()) {
                        Some(text) => drop(stream.write_all(text.as_bytes()).await),
                        None => std::future::pending().await,
                    }
                });
            }
        });
        port
    }

    fn ok(body: &str) -> Option<String> {
        Some(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()))
    }
    fn to(target: &str) -> Option<String> {
        Some(format!("HTTP/1.1 302 Found\r\nlocation: {target}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"))
    }

    #[tokio::test]
    async fn redirects_size_and_time_have_limits() {
        // The product's code with other rules: no encryption, and one loopback address counts as public.
        let only_one = |ip: &IpAddr| *ip == IpAddr::from([127, 0, 0, 1]);
        let rules = Rules { scheme: "http", may_ask: only_one, within: Duration::from_millis(1_500) };
        let limit = usize::try_from(MAX_FILE_BYTES).unwrap();
        let port = server(move |path| match path {
            "/job" => ok("image: a\n"),
            "/moved" => to("/job"),
            "/inward" => to("http://127.0.0.2:1/job"),
            "/away" => to("https://example.org/job"),
            "/loop" => to("/loop"),
            "/fits" => ok(&"#".repeat(limit)),
            "/large" => ok(&"#".repeat(limit + 1)),
            // Without a length said before.
            "/endless" => Some(format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", "#".repeat(limit + 1))),
            "/missing" => Some("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".into()),
            _ => None,
        })
        .await;
        let get = async |path: &str| fetch(Url::parse(&format!("http://127.0.0.1:{port}{path}")).unwrap(), rules).await;
        let got = get("/moved").await.unwrap();
        assert_eq!((got.text.as_str(), got.base, got.shown.ends_with("/job")), ("image: a\n", None, true));
        assert_eq!(get("/fits").await.unwrap().text.len(), limit);
        for (path, words) in [
            ("/inward", "not public"),
            ("/away", "over http only"),
            ("/loop", "more than 5 redirects"),
            ("/large", "too large"),
            ("/endless", "too large"),
            ("/missing", "answers 404"),
            ("/silent", "did not answer within"),
        ] {
            let e = get(path).await.unwrap_err();
            assert!(e.message.contains(words), "{path}: {e:?}");
        }
    }
}
