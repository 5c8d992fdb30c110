//! What the domain name system says. The nameservers are those of this machine, or the ones that were named; nobody else is asked when they
//! do not answer.

use crate::NetError;
use iroh::dns::{DnsError, DnsResolver, NameserverConfig};
use std::net::SocketAddr;
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
        let named = nameservers.iter().map(|at| NameserverConfig::udp(at.ip()).with_port(at.port()));
        let builder = DnsResolver::builder().disable_fallback();
        let builder = if nameservers.is_empty() { builder.with_system_defaults() } else { builder.add_nameserver_configs(named) };
        Self(builder.build())
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
