//! HTTP to nodes by their names: `http://<node>.api/v1/..` and `http://<node>.node/leases/..` go through a door of this process, a SOCKS proxy on
//! loopback that opens streams to nodes; everything else goes the usual way. `pasture_net` has the door.

use reqwest::{ClientBuilder, Proxy, Url};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use rustls_platform_verifier::BuilderVerifierExt as _;
use std::sync::Arc;

/// How names of nodes end.
const SUFFIXES: [&str; 2] = [".api", ".node"];

/// A client that uses a door for what goes to nodes, and no proxy else. It believes no certificate: see [`trusting`].
///
/// # Errors
/// If the door's address is none.
pub fn http(door: Option<&str>) -> Result<ClientBuilder, reqwest::Error> {
    let nobody = config().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let builder = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(nobody);
    let Some(door) = door else { return Ok(builder) };
    // Looks at the address: a wrong one is told here.
    Proxy::all(door)?;
    let door = door.to_owned();
    Ok(builder.proxy(Proxy::custom(move |url| is_node(url).then(|| door.clone()))))
}

/// The same client for `https://`, which believes those whom this system believes.
pub fn trusting(builder: ClientBuilder) -> ClientBuilder {
    match config().with_platform_verifier() {
        Ok(config) => builder.tls_backend_preconfigured(config.with_no_client_auth()),
        // A system without certificates believes nobody.
        Err(_) => builder,
    }
}

fn config() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    // The provider has what the usual versions need.
    builder
        .with_safe_default_protocol_versions()
        .unwrap_or_else(|_| ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]))
}

fn is_node(url: &Url) -> bool {
    url.scheme() == "http" && url.host_str().is_some_and(|host| SUFFIXES.iter().any(|suffix| host.ends_with(suffix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_nodes_go_through_the_door() {
        let node = "ab".repeat(32);
        for (url, inside) in [
            (format!("http://{node}.api/v1/status"), true),
            (format!("http://{node}.node/leases"), true),
            ("http://127.0.0.1:8730/v1".into(), false),
            ("https://example.org/.node".into(), false),
        ] {
            assert_eq!(is_node(&url.parse().unwrap()), inside, "{url}");
        }
        assert!(http(Some("no address at all")).is_err());
        assert!(http(Some("socks5h://pasture:0123@127.0.0.1:1")).is_ok());
    }
}
