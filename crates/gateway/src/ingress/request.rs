//! What of a request is believed, and what is passed on of it.
//!
//! Guarantees: one host, one length, an origin-form target, or it is refused; what belongs to a connection stays on it; a client cannot say
//! whence it comes.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri, Version};
use std::net::IpAddr;

/// Why a request is not passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refused(pub(super) StatusCode, pub(super) &'static str);

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What is a connection's own (RFC 9110, §7.6.1), and what only a proxy may say.
const OF_CONNECTION: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];
const OF_PROXIES: [HeaderName; 5] =
    [FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST, header::FORWARDED, HeaderName::from_static("x-real-ip")];

const fn bad(why: &'static str) -> Refused {
    Refused(StatusCode::BAD_REQUEST, why)
}

/// The label that a request is for.
pub(super) fn label<B>(request: &Request<B>, domain: &str) -> Result<String, Refused> {
    if request.method() == Method::CONNECT {
        return Err(Refused(StatusCode::METHOD_NOT_ALLOWED, "nothing is proxied here"));
    }
    if request.uri().authority().is_some() {
        return Err(bad("a path is expected, not a whole address"));
    }
    let headers = request.headers();
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if lengths.next().is_some() && (lengths.next().is_some() || headers.contains_key(header::TRANSFER_ENCODING)) {
        return Err(bad("the request has two lengths"));
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(bad("exactly one host is expected")) };
    let host = host.to_str().map_err(|_| bad("the host is unreadable"))?.to_ascii_lowercase();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) => name,
        Some(_) => return Err(bad("the host is unreadable")),
        None => &host,
    };
    let known = name.trim_end_matches('.').strip_suffix(domain).and_then(|rest| rest.strip_suffix('.'));
    match known {
        Some(label) if !label.is_empty() && !label.contains('.') => Ok(label.to_owned()),
        _ => Err(Refused(StatusCode::NOT_FOUND, "nothing is published here")),
    }
}

/// Whether a client asks for another protocol on its connection.
pub(super) fn wants_upgrade<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(header::UPGRADE) && named_by_connection(request.headers()).any(|name| name == "upgrade")
}

fn named_by_connection(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let all = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(',')).map(|name| name.trim().to_ascii_lowercase())
}

/// Takes away what belongs to the connection that it came by.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = named_by_connection(headers).filter_map(|name| name.parse().ok()).collect();
    for name in named.iter().chain(&OF_CONNECTION) {
        headers.remove(name);
    }
}

/// The request as the container gets it.
pub(super) fn outgoing<B>(request: Request<B>, from: IpAddr, scheme: &str) -> Result<Request<B>, Refused> {
    let upgrade = wants_upgrade(&request).then(|| request.headers().get(header::UPGRADE).cloned()).flatten();
    let (mut parts, body) = request.into_parts();
    strip(&mut parts.headers);
    // The one that stays may have been named by `Connection`.
    for name in &OF_PROXIES {
        parts.headers.remove(name);
    }
    if let Some(protocol) = upgrade {
        parts.headers.insert(header::UPGRADE, protocol);
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let text = |value: &str| HeaderValue::from_str(value).map_err(|_| bad("the request is unreadable"));
    parts.headers.insert(FORWARDED_FOR, text(&from.to_canonical().to_string())?);
    parts.headers.insert(FORWARDED_PROTO, text(scheme)?);
    if let Some(host) = parts.headers.get(header::HOST).cloned() {
        parts.headers.insert(FORWARDED_HOST, host);
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse::<Uri>().map_err(|_| bad("the path is unreadable"))?;
    parts.version = Version::HTTP_11;
    Ok(Request::from_parts(parts, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut builder = Request::builder().uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap()
    }

    #[test]
    fn a_host_is_one_label_before_the_domain() {
        let of = |host: &str| label(&request("/x?y", &[("host", host)]), "example.org").map_err(|r| r.0.as_u16());
        assert_eq!(of("shop-abc.example.org"), Ok("shop-abc".into()));
        assert_eq!(of("SHOP-abc.Example.org.:8080"), Ok("shop-abc".into()));
        for unknown in [
            "example.org",
            ".example.org",
            "a.b.example.org",
            "shopexample.org",
            "127.0.0.1",
            "evil.test",
            "",
            "shop.example.org.evil.test",
        ] {
            assert_eq!(of(unknown), Err(404), "{unknown}");
        }
        assert_eq!(of("a:b.example.org:80x"), Err(400));
    }

    #[test]
    fn tricks_with_hosts_and_lengths_are_refused() {
        let of = |uri: &str, headers: &[(&str, &str)]| label(&request(uri, headers), "example.org").map_err(|r| r.0.as_u16());
        let host = ("host", "shop.example.org");
        assert_eq!(of("/", &[]), Err(400));
        assert_eq!(of("/", &[host, ("host", "other.example.org")]), Err(400));
        assert_eq!(of("http://shop.example.org/", &[host]), Err(400));
        assert_eq!(of("/", &[host, ("content-length", "3"), ("transfer-encoding", "chunked")]), Err(400));
        assert_eq!(of("/", &[host, ("content-length", "3"), ("content-length", "4")]), Err(400));
        let mut connect = request("/", &[host]);
        *connect.method_mut() = Method::CONNECT;
        assert_eq!(label(&connect, "example.org").unwrap_err().0.as_u16(), 405);
    }

    #[test]
    fn what_is_a_connections_own_stays_there_and_nobody_says_whence_he_comes() {
        let sent = request(
            "/a?b=c",
            &[
                ("host", "shop.example.org"),
                ("connection", "close, X-Secret"),
                ("x-secret", "1"),
                ("x-kept", "2"),
                ("x-forwarded-for", "10.0.0.1"),
                ("forwarded", "for=10.0.0.1"),
                ("transfer-encoding", "chunked"),
            ],
        );
        let passed = outgoing(sent, "198.18.0.7".parse().unwrap(), "http").unwrap();
        let header = |name: &str| passed.headers().get(name).and_then(|v| v.to_str().ok());
        assert_eq!(
            (header("x-kept"), header("x-secret"), header("connection"), header("transfer-encoding")),
            (Some("2"), None, None, None)
        );
        assert_eq!((header("x-forwarded-for"), header("forwarded")), (Some("198.18.0.7"), None));
        assert_eq!((header("x-forwarded-host"), header("x-forwarded-proto")), (Some("shop.example.org"), Some("http")));
        assert_eq!(passed.uri(), "/a?b=c");
        let socket = request("/", &[("host", "shop.example.org"), ("connection", "Upgrade"), ("upgrade", "websocket")]);
        assert!(wants_upgrade(&socket));
        let passed = outgoing(socket, "198.18.0.7".parse().unwrap(), "http").unwrap();
        assert_eq!(passed.headers().get("upgrade").unwrap(), "websocket");
        assert!(!wants_upgrade(&request("/", &[("upgrade", "websocket")])), "without the connection's word it means nothing");
    }
}
