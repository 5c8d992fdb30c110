//! Ports of ours that everybody reaches: how a job file's become what we sign, and where they lead.
//!
//! Guarantees: what cannot be published is said before anything is sent; the value of an access key leaves this machine as a hash only.

use crate::exit::Failure;
use crate::session::Session;
use pasture_api::publication::{
    AccessHash, IngressView, MAX_PUBLIC_NAME, MAX_PUBLISHED, NameView, PROOF_LABEL, Protocol, Publication, Rules, SignedPublication,
    sound_access_key, tag,
};
use pasture_store::Vault;
use pasture_types::public::PublicPort;
use pasture_types::{AccountId, LeaseId};

/// What a port's owner wants, as what can be signed for a lease. `name`: of the job, where the port has none.
pub(crate) fn publication(
    vault: &Vault,
    port: &PublicPort,
    (account, lease): (AccountId, LeaseId),
    name: &str,
) -> Result<Publication, Failure> {
    let access = match &port.access_key {
        Some(secret) => vec![access(vault, secret)?],
        None => vec![],
    };
    let publication = Publication {
        account,
        lease,
        name: port.name.clone().unwrap_or_else(|| name_of(name)),
        port: port.port,
        protocol: if port.tcp { Protocol::Tcp } else { Protocol::Http },
        rules: Rules { access, per_second: port.per_second, max_body: port.max_body },
        domains: port.domains.clone(),
    };
    publication
        .check()
        .map_err(|why| Failure::new("bad-publication", format!("port {} cannot be opened to everybody: {why}", port.port)))?;
    Ok(publication)
}

/// The hash of an access key that is one of our secrets.
fn access(vault: &Vault, secret: &str) -> Result<AccessHash, Failure> {
    let value = vault.get(secret)?.ok_or_else(|| {
        Failure::new("no-secret", format!("you have no secret `{secret}` that could be an access key; nothing was sent"))
            .next(format!("keep it:  farm secret set {secret} --from-file FILE"))
    })?;
    let text = String::from_utf8_lossy(&value);
    let key = text.trim_end_matches(['\r', '\n']);
    sound_access_key(key).map_err(|why| Failure::new("bad-secret", format!("secret `{secret}` is no access key: {why}")))?;
    Ok(AccessHash::of(key.as_bytes()))
}

/// All that a job file opens, signed for a lease.
pub(crate) fn signed(session: &Session, ports: &[PublicPort], lease: LeaseId, name: &str) -> Result<Vec<SignedPublication>, Failure> {
    let made = wanted(&session.vault()?, ports, (session.account(), lease), name)?;
    Ok(made.into_iter().map(|publication| publication.sign(&session.status.zone, &session.key)).collect())
}

/// Whether all that a job file opens can be.
pub(crate) fn check(vault: &Vault, ports: &[PublicPort], name: &str) -> Result<(), Failure> {
    wanted(vault, ports, (AccountId([0; 32]), LeaseId([0; 32])), name).map(drop)
}

fn wanted(vault: &Vault, ports: &[PublicPort], of: (AccountId, LeaseId), name: &str) -> Result<Vec<Publication>, Failure> {
    let made: Vec<Publication> = ports.iter().map(|port| publication(vault, port, of, name)).collect::<Result<_, _>>()?;
    if made.len() > MAX_PUBLISHED {
        return Err(Failure::new("bad-publication", format!("at most {MAX_PUBLISHED} ports of a job can be open to everybody")));
    }
    for (at, publication) in made.iter().enumerate() {
        if made.iter().take(at).any(|before| before.name == publication.name) {
            let why = format!("two ports are called `{}`, and a name leads to one", publication.name);
            return Err(Failure::new("bad-publication", why).next("name them:  ports: [{port: 80, public: {name: shop}}, ...]"));
        }
    }
    Ok(made)
}

/// A name that a job's handle gives.
pub(crate) fn name_of(handle: &str) -> String {
    let letters: String =
        handle.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(MAX_PUBLIC_NAME).collect();
    letters.trim_matches('-').to_owned()
}

/// A publication, and what the gateway that answers knows of it.
pub(crate) struct Shown {
    publication: Publication,
    ingress: Option<IngressView>,
    known: Option<NameView>,
}

/// Asks the gateway that answers where these lead.
pub(crate) async fn shown(session: &Session, all: &[SignedPublication]) -> Result<Vec<Shown>, Failure> {
    if all.is_empty() {
        return Ok(vec![]);
    }
    let ingress = absent(session.api.ingress().await)?;
    let mut out = vec![];
    for SignedPublication { publication, .. } in all {
        let known = match &ingress {
            Some(_) => absent(session.api.public_name(&publication.label()).await)?,
            None => None,
        };
        out.push(Shown { publication: publication.clone(), ingress: ingress.clone(), known });
    }
    Ok(out)
}

fn absent<T>(answer: Result<T, pasture_api::ApiError>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(view) => Ok(Some(view)),
        Err(e) if e.problem().is_some_and(|p| p.status == 404) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

impl Shown {
    /// Whether the gateway lets anybody in.
    pub(crate) const fn is_let_in(&self) -> bool {
        self.ingress.is_some()
    }

    /// Where it is reached, if this gateway lets everybody in and, with TCP, has given it a port.
    fn address(&self) -> Option<String> {
        let ingress = self.ingress.as_ref()?;
        let label = self.publication.label();
        match self.publication.protocol {
            Protocol::Http => Some(ingress.url(&label)),
            Protocol::Tcp => Some(format!("{label}.{}:{}", ingress.domain, self.known.as_ref()?.tcp?)),
        }
    }

    pub(crate) fn value(&self) -> serde_json::Value {
        let Publication { name, port, protocol, rules, domains, .. } = &self.publication;
        let label = self.publication.label();
        serde_json::json!({
            "name": name, "port": port, "label": label, "protocol": protocol, "url": self.address(), "rules": rules, "domains": domains, "gateway": self.known,
        })
    }

    /// Lines for people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let Publication { port, rules, domains, account, .. } = &self.publication;
        let with = if rules.access.is_empty() { "" } else { ", with an access key" };
        let label = self.publication.label();
        let first = match (self.address(), &self.ingress) {
            (Some(address), _) => format!("{address} leads to port {port}{with}"),
            (None, None) => format!("{label} leads to port {port}{with}, at gateways that let everybody in"),
            (None, Some(IngressView { tcp: None, .. })) => {
                format!("{label} leads to port {port}, at gateways that have ports for TCP; this one has none")
            }
            (None, Some(_)) => format!("{label} leads to port {port}; it has no port here yet"),
        };
        let leads = |domain: &String| self.known.as_ref().is_some_and(|known| known.domains.iter().any(|d| d.leads && d.domain == *domain));
        let own = domains.iter().map(|domain| match leads(domain) {
            true => format!("{domain} leads there too"),
            false => format!("{domain} will, once it has this TXT record:  {PROOF_LABEL}.{domain}  {}", tag(account)),
        });
        std::iter::once(first).chain(own).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_handle_gives_a_name() {
        assert_eq!(name_of("shop-web-0"), "shop-web-0");
        assert_eq!(name_of("My_Shop."), "my-shop");
        assert_eq!(name_of(&format!("{}-x", "a".repeat(31))), "a".repeat(31));
    }
}
