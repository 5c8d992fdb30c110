//! Ports of a job that everybody reaches, as a job file says it.
//!
//! Guarantees: nothing is public that is not said to be. What such a name leads to is signed by the job's owner once it has a lease; the
//! ledger and the machine's description of the job know nothing of it.

use crate::resources::parse_bytes;
use crate::spec::{Port, Scalar, SpecError};
use serde::{Deserialize, Serialize};

/// A port with more than its number.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortEntry {
    /// Its number.
    pub port: u16,
    /// What it is called; letters, digits and dashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether everybody reaches it, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<PublicSpec>,
}

/// Whether everybody reaches a port, as people write it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PublicSpec {
    /// By HTTP, at the job's name, without limits.
    Plain(bool),
    /// With terms.
    With(PublicTerms),
}

/// How everybody reaches a port.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PublicTerms {
    /// The first part of its host name: small letters, digits and dashes; the job's name if there is none.
    pub name: Option<String>,
    /// Anything over TCP is spoken there, and it gets a port of its own; HTTP otherwise.
    pub tcp: bool,
    /// Most requests a second of one range of addresses.
    pub per_second: Option<u32>,
    /// Largest body of a request, e.g. `10Mi`.
    pub max_body: Option<Scalar>,
    /// The name of a secret of yours: who does not show its value is not let in.
    pub access_key: Option<String>,
    /// Domains of your own that lead there too.
    pub domains: Vec<String>,
}

/// A port that everybody reaches.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PublicPort {
    /// Its number.
    pub port: u16,
    /// The first part of its host name, if it is not the job's.
    pub name: Option<String>,
    /// Anything over TCP is spoken there.
    pub tcp: bool,
    /// Most requests a second of one range of addresses.
    pub per_second: Option<u32>,
    /// Largest body of a request, in bytes.
    pub max_body: Option<u64>,
    /// The secret whose value lets in.
    pub access_key: Option<String>,
    /// Domains of the owner's own.
    pub domains: Vec<String>,
}

impl PortEntry {
    /// The port, and what is public of it.
    pub(crate) fn split(self) -> Result<(Port, Option<PublicPort>), SpecError> {
        let Self { port, name, public } = self;
        let terms = match public {
            None | Some(PublicSpec::Plain(false)) => return Ok((Port { port, name }, None)),
            Some(PublicSpec::Plain(true)) => PublicTerms::default(),
            Some(PublicSpec::With(terms)) => terms,
        };
        let PublicTerms { name: called, tcp, per_second, max_body, access_key, domains } = terms;
        let wrong = |problem: String| SpecError { field: format!("ports[{port}].public.max_body"), problem };
        let max_body = max_body.map(|size| parse_bytes(&size.to_string())).transpose().map_err(|e| wrong(e.to_string()))?;
        let domains = domains.into_iter().map(|domain| domain.to_ascii_lowercase()).collect();
        let public = PublicPort { port, name: called, tcp, per_second, max_body, access_key, domains };
        Ok((Port { port, name }, Some(public)))
    }
}
