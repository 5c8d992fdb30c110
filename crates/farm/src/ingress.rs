//! Where everybody is let in to what jobs publish, from the arguments of those who run a gateway.

use crate::args::IngressArgs;
use crate::backend::{AcmeOptions, CertificateOptions, IngressOptions, TlsOptions};
use crate::exit::Failure;
use pasture_api::publication::is_domain;
use std::path::Path;

/// Longest domain: a label, a dot and this are a host name.
const MAX_DOMAIN: usize = 189;
/// Most ports that are kept for TCP.
const MAX_PORTS: u16 = 1_000;
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// Where everybody is let in, if at all. `folder`: where certificates are kept; `self_signs`: whether one may be made here where none is given.
pub(crate) fn options(args: &IngressArgs, folder: &Path, self_signs: bool) -> Result<Option<IngressOptions>, Failure> {
    let Some(listen) = args.ingress else { return Ok(None) };
    let domain = args.ingress_domain.as_deref().unwrap_or("localhost").to_ascii_lowercase();
    if domain.len() > MAX_DOMAIN || !is_domain(&domain) {
        return Err(Failure::usage(format!("`{}` is no domain: gate.example.org is one", domain.escape_debug())));
    }
    let tcp = args.ingress_tcp.as_deref().map(ports).transpose()?;
    let tls = tls(args, folder, self_signs)?;
    Ok(Some(IngressOptions { listen, domain, tls, tcp, nameservers: args.ingress_dns.clone() }))
}

fn ports(text: &str) -> Result<(u16, u16), Failure> {
    let wrong = || Failure::usage(format!("`{}` is no range of 1 to {MAX_PORTS} ports: 20000-20099 is one", text.escape_debug()));
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let (first, last): (u16, u16) = (first.trim().parse().map_err(|_| wrong())?, last.trim().parse().map_err(|_| wrong())?);
    if first == 0 || last < first || last - first >= MAX_PORTS { Err(wrong()) } else { Ok((first, last)) }
}

fn tls(args: &IngressArgs, folder: &Path, self_signs: bool) -> Result<Option<TlsOptions>, Failure> {
    let Some(listen) = args.ingress_tls else { return Ok(None) };
    let folder = folder.join("ingress");
    let acme = args.ingress_acme.as_deref().map(|directory| AcmeOptions {
        directory: if directory == "letsencrypt" { LETS_ENCRYPT.into() } else { directory.into() },
        contact: args.ingress_acme_contact.clone(),
        root: args.ingress_acme_root.clone(),
        folder: folder.join("acme"),
    });
    if let Some(acme) = &acme
        && !acme.directory.starts_with("https://")
    {
        return Err(Failure::usage(format!("`{}` is no ACME directory: a URL with https, or letsencrypt", acme.directory.escape_debug())));
    }
    let certificate = match (&args.ingress_cert, &args.ingress_key) {
        (Some(chain), Some(key)) => Some(CertificateOptions::Given { chain: chain.clone(), key: key.clone() }),
        _ if acme.is_some() => None,
        _ if self_signs => Some(CertificateOptions::SelfSigned { folder }),
        _ => {
            return Err(Failure::usage("TLS needs a certificate")
                .next("give one:  --ingress-cert FILE --ingress-key FILE")
                .next("or have them made:  --ingress-acme letsencrypt"));
        }
    };
    Ok(Some(TlsOptions { listen, certificate, acme }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> IngressArgs {
        IngressArgs {
            ingress: Some(([127, 0, 0, 1], 80).into()),
            ingress_domain: None,
            ingress_tls: Some(([127, 0, 0, 1], 443).into()),
            ingress_cert: None,
            ingress_key: None,
            ingress_acme: None,
            ingress_acme_contact: None,
            ingress_acme_root: None,
            ingress_tcp: None,
            ingress_dns: vec![],
        }
    }

    #[test]
    fn a_public_gateway_needs_a_certificate_that_others_believe() {
        let of = |args: &IngressArgs, self_signs| options(args, Path::new("data"), self_signs).map(|o| o.and_then(|o| o.tls));
        assert!(of(&args(), false).is_err());
        let made = of(&args(), true).unwrap().unwrap();
        assert_eq!(made.certificate, Some(CertificateOptions::SelfSigned { folder: "data/ingress".into() }));
        let acme = of(&IngressArgs { ingress_acme: Some("letsencrypt".into()), ..args() }, false).unwrap().unwrap();
        assert_eq!((acme.certificate, acme.acme.unwrap().directory.as_str()), (None, LETS_ENCRYPT));
        assert!(of(&IngressArgs { ingress_acme: Some("http://plain.example.org".into()), ..args() }, false).is_err());
    }

    #[test]
    fn ranges_of_ports_are_some() {
        assert_eq!(ports("20000-20099").unwrap(), (20_000, 20_099));
        assert_eq!(ports("7-7").unwrap(), (7, 7));
        for bad in ["", "7", "0-5", "9-8", "1-70000", "1000-5000", "a-b"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }
}
