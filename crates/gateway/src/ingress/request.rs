//! What of a request is believed, and what is passed on of it.
//!
//! Guarantees: one host, one length, an origin-form target, or it is refused; what belongs to a connection stays on it; a client cannot say
//! whence it comes; an access key that opened the door does not go through it.

use data_encoding::BASE64;
use hyper::body::Body;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri, Version};
use pasture_api::publication::{ACCESS_HEADER, is_domain};
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

/// What is told of names that nobody opened.
pub(super) const NOTHING: Refused = Refused(StatusCode::NOT_FOUND, "nothing is published here");

const fn bad(why: &'static str) -> Refused {
    Refused(StatusCode::BAD_REQUEST, why)
}

/// What a request is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Name {
    /// A name below the gateway's domain.
    Label(String),
    /// A domain that may be somebody's own.
    Domain(String),
}

/// What a request is for, by its host.
pub(super) fn name<B>(request: &Request<B>, domain: &str) -> Result<Name, Refused> {
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
    let name = name.trim_end_matches('.');
    if is_within(name, domain) {
        let label = name.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.')).unwrap_or_default();
        return if label.is_empty() || label.contains('.') { Err(NOTHING) } else { Ok(Name::Label(label.to_owned())) };
    }
    if is_domain(name) { Ok(Name::Domain(name.to_owned())) } else { Err(NOTHING) }
}

/// Whether a name is a domain's or lies below it.
pub(super) fn is_within(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The access keys that a request may mean, each with the line that it is in: `X-Access-Key`, or as a bearer or a password (RFC 6750, 7617).
pub(super) fn access_keys(headers: &HeaderMap) -> Vec<(HeaderName, Vec<u8>)> {
    let own = HeaderName::from_static(ACCESS_HEADER);
    let plain = headers.get(&own).map(|value| (own, value.as_bytes().to_vec()));
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
        let key = match scheme.to_ascii_lowercase().as_str() {
            "bearer" => rest.trim().as_bytes().to_vec(),
            "basic" => {
                let decoded = BASE64.decode(rest.trim().as_bytes()).ok()?;
                let colon = decoded.iter().position(|c| *c == b':')?;
                decoded.get(colon + 1..)?.to_vec()
            }
            _ => return None,
        };
        Some((header::AUTHORIZATION, key))
    });
    plain.into_iter().chain(authorization).collect()
}

/// The length that a body is said to have.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The head of a request that may be sent twice: it changes nothing and has no body (RFC 9110, §9.2.1).
pub(super) fn copy<B: Body>(request: &Request<B>) -> Option<Request<()>> {
    if !request.method().is_safe() || !request.body().is_end_stream() || wants_upgrade(request) {
        return None;
    }
    let mut copy = Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
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
    fn a_host_is_one_label_before_the_domain_or_a_domain() {
        let of = |host: &str| name(&request("/x?y", &[("host", host)]), "example.org").map_err(|r| r.0.as_u16());
        assert_eq!(of("shop-abc.example.org"), Ok(Name::Label("shop-abc".into())));
        assert_eq!(of("SHOP-abc.Example.org.:8080"), Ok(Name::Label("shop-abc".into())));
        for unknown in ["example.org", ".example.org", "a.b.example.org", "", "a b", "127.0.0.1"] {
            assert_eq!(of(unknown), Err(404), "{unknown}");
        }
        // They may be anybody's; nobody proved that they are.
        for other in ["shopexample.org", "evil.test", "shop.example.org.evil.test"] {
            assert_eq!(of(other), Ok(Name::Domain(other.into())));
        }
        assert_eq!(of("a:b.example.org:80x"), Err(400));
        assert!(is_within("example.org", "example.org") && is_within("a.example.org", "example.org"));
        assert!(!is_within("shopexample.org", "example.org"));
    }

    #[test]
    fn access_keys_are_where_clients_put_them() {
        let keys = |headers: &[(&str, &str)]| -> Vec<String> {
            let request = request("/", headers);
            access_keys(request.headers()).into_iter().map(|(_, key)| String::from_utf8(key).unwrap()).collect()
        };
        assert_eq!(keys(&[("x-access-key", "one"), ("authorization", "Bearer two")]), ["one", "two"]);
        assert_eq!(keys(&[("authorization", "basic YW55Ym9keTp0aHJlZTpi")]), ["three:b"]);
        for none in ["Basic ??", "Basic YW55", "Digest x", "Bearer"] {
            assert_eq!(keys(&[("authorization", none)]), Vec::<String>::new(), "{none}");
        }
    }

    #[test]
    fn tricks_with_hosts_and_lengths_are_refused() {
        let of = |uri: &str, headers: &[(&str, &str)]| name(&request(uri, headers), "example.org").map_err(|r| r.0.as_u16());
        let host = ("host", "shop.example.org");
        assert_eq!(of("/", &[]), Err(400));
        assert_eq!(of("/", &[host, ("host", "other.example.org")]), Err(400));
        assert_eq!(of("http://shop.example.org/", &[host]), Err(400));
        assert_eq!(of("/", &[host, ("content-length", "3"), ("transfer-encoding", "chunked")]), Err(400));
        assert_eq!(of("/", &[host, ("content-length", "3"), ("content-length", "4")]), Err(400));
        let mut connect = request("/", &[host]);
        *connect.method_mut() = Method::CONNECT;
        assert_eq!(name(&connect, "example.org").unwrap_err().0.as_u16(), 405);
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
