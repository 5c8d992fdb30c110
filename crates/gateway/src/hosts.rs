//! Names under which a gateway is asked that listens on its own machine alone.
//!
//! Whoever owns a domain may have its name lead to this machine's loopback address, and a page of theirs that somebody here opens then speaks with
//! what listens there as if it were its own (DNS rebinding). So such a gateway answers to addresses, to names that the public's name system never
//! gives out, and to no others. One that listens elsewhere is for everybody who reaches it, and does not ask.

use axum::extract::Request;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use pasture_api::Problem;
use std::net::{IpAddr, Ipv6Addr};

/// Domains that are nobody's: RFC 6761, RFC 6762, RFC 8375, and `internal`, which ICANN keeps free for private use.
const NOBODYS: [&str; 5] = [".localhost", ".local", ".internal", ".test", ".home.arpa"];

/// Refuses requests for names that somebody else may own.
pub(crate) async fn own(request: Request, next: Next) -> Response {
    let named = request.headers().get_all(HOST).iter().map(|value| value.to_str().unwrap_or("?"));
    let foreign = named.chain(request.uri().authority().map(Authority::as_str)).find(|host| is_foreign(host)).map(str::to_owned);
    match foreign {
        None => next.run(request).await,
        Some(host) => {
            let host: String = host.chars().filter(|c| !c.is_control()).take(80).collect();
            let why = format!(
                "this API is for its own machine, and not for `{host}`: ask for localhost, or have the proxy in between send `Host: localhost`"
            );
            Problem::new(421, "other-host", why).into_response()
        }
    }
}

/// Whether a host, with or without a port, is a name that the public's name system may lead here.
fn is_foreign(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return true };
    let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let is_address = inner.map_or_else(|| name.parse::<IpAddr>().is_ok(), |inner| inner.parse::<Ipv6Addr>().is_ok());
    let is_private = !name.contains('.') || NOBODYS.iter().any(|domain| name.ends_with(domain));
    !(is_address || (is_private && inner.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_somebody_may_own_are_foreign() {
        for own in [
            "localhost",
            "LocalHost:8730",
            "127.0.0.1",
            "127.0.0.1:8730",
            "[::1]:8730",
            "198.18.0.7:1",
            "gateway",
            "gateway:8730",
            "host.docker.internal:8730",
            "shop.localhost",
            "box.local.",
        ] {
            assert!(!is_foreign(own), "{own}");
        }
        for other in [
            "evil.example.org",
            "evil.example.org:8730",
            "localhost.evil.org",
            "127.0.0.1.evil.org",
            "notlocal.host",
            "",
            "a b",
            "[evil.org]",
            "evil.org.",
        ] {
            assert!(is_foreign(other), "{other}");
        }
    }
}
