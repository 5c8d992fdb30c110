//! What the domain name system says. The nameservers are those of this machine, or the ones that were named; nobody else is asked when they
//! do not answer.

use crate::NetError;
use crate::place::address_in_name;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use iroh::dns::{BoxIter, DnsError, DnsResolver, NameserverConfig, Resolver, TxtRecordData};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// How long an answer is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Asks nameservers.
#[derive(Clone, Debug)]
pub struct Names(pub(crate) DnsResolver);

impl Names {
    /// Asks these, by UDP; those of this machine, if there are none.
    #[must_use]
    pub fn new(nameservers: &[SocketAddr]) -> Self {
        Self(DnsResolver::custom(Asking::new(nameservers)))
    }

    /// The texts (TXT records) at a name; none if there is no such name. Asked anew, whatever was said before.
    ///
    /// # Errors
    /// No nameserver answered in time.
    pub async fn texts(&self, name: &str) -> Result<Vec<String>, NetError> {
        self.0.clear_cache();
        // The dot ends it: no domain of this machine's is tried behind it.
        match self.0.lookup_txt(format!("{name}."), ANSWER_WITHIN).await {
            Ok(texts) => Ok(texts.map(|text| text.to_string()).collect()),
            Err(DnsError::NxDomain { .. }) => Ok(vec![]),
            Err(e) => Err(NetError::Names { name: name.to_owned(), why: e.to_string() }),
        }
    }
}

/// Nameservers, and before them the names that stand for addresses of IPv6: the library makes no TLS connection to such an address as it is.
#[derive(Debug)]
struct Asking {
    nameservers: Vec<SocketAddr>,
    resolver: DnsResolver,
}

impl Asking {
    fn new(nameservers: &[SocketAddr]) -> Self {
        let named = nameservers.iter().map(|at| NameserverConfig::udp(at.ip()).with_port(at.port()));
        let builder = DnsResolver::builder().disable_fallback();
        let builder = if nameservers.is_empty() { builder.with_system_defaults() } else { builder.add_nameserver_configs(named) };
        Self { nameservers: nameservers.to_vec(), resolver: builder.build() }
    }
}

impl Resolver for Asking {
    fn lookup_ipv4(&self, host: String) -> BoxFuture<'static, Result<BoxIter<Ipv4Addr>, DnsError>> {
        let resolver = self.resolver.clone();
        async move {
            if address_in_name(&host).is_some() {
                return Ok(Box::new(std::iter::empty()) as BoxIter<_>);
            }
            let found = resolver.lookup_ipv4(host, ANSWER_WITHIN).await?;
            let found = found.filter_map(|ip| match ip {
                IpAddr::V4(ip) => Some(ip),
                IpAddr::V6(_) => None,
            });
            Ok(Box::new(found) as BoxIter<_>)
        }
        .boxed()
    }

    fn lookup_ipv6(&self, host: String) -> BoxFuture<'static, Result<BoxIter<Ipv6Addr>, DnsError>> {
        let resolver = self.resolver.clone();
        async move {
            if let Some(ip) = address_in_name(&host) {
                return Ok(Box::new(std::iter::once(ip)) as BoxIter<_>);
            }
            let found = resolver.lookup_ipv6(host, ANSWER_WITHIN).await?;
            let found = found.filter_map(|ip| match ip {
                IpAddr::V6(ip) => Some(ip),
                IpAddr::V4(_) => None,
            });
            Ok(Box::new(found) as BoxIter<_>)
        }
        .boxed()
    }

    fn lookup_txt(&self, host: String) -> BoxFuture<'static, Result<BoxIter<TxtRecordData>, DnsError>> {
        let resolver = self.resolver.clone();
        async move {
            let found: Vec<_> = resolver.lookup_txt(host, ANSWER_WITHIN).await?.collect();
            Ok(Box::new(found.into_iter()) as BoxIter<_>)
        }
        .boxed()
    }

    fn clear_cache(&self) {
        self.resolver.clear_cache();
    }

    fn reset(&self) -> Box<dyn Resolver> {
        Box::new(Self::new(&self.nameservers))
    }
}
