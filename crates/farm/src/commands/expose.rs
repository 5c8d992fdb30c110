//! `farm expose`: a port of a running job that everybody may reach, by a name.
//!
//! Guarantees: nothing is open to everybody that its owner did not sign for; what is published ends with the job, or when it is taken back.

use crate::args::ExposeArgs;
use crate::exit::{Exit, Failure, Outcome};
use crate::reach::Reached;
use crate::session::{App, Session};
use pasture_api::publication::{IngressView, MAX_PUBLIC_NAME, Publication, SignedPublication};

/// `farm expose`.
pub(crate) async fn run(app: &App, args: &ExposeArgs) -> Outcome {
    let reached = Reached::running(app, &args.job).await?;
    let (session, handle) = (&reached.session, &reached.handle);
    let mut all = reached.client.published().await.map_err(|e| reached.failure(e))?;
    if args.off {
        reached.client.publish(&[]).await.map_err(|e| reached.failure(e))?;
        session.out.either(&serde_json::json!([]), || format!("nothing of {handle} is open to everybody any more"));
        return Ok(Exit::Ok);
    }
    if let Some(port) = args.port {
        let name = args.name.clone().unwrap_or_else(|| name_of(handle));
        let publication = Publication { account: session.account(), lease: reached.client.lease(), name, port };
        publication.check().map_err(Failure::usage)?;
        let known = |signed: &SignedPublication| signed.publication.name == publication.name || signed.publication.port == port;
        all.retain(|signed| !known(signed));
        all.push(publication.sign(&session.status.zone, &session.key));
        reached.client.publish(&all).await.map_err(|e| reached.failure(e))?;
    }
    let ingress = ingress(session).await?;
    let entries: Vec<serde_json::Value> = all.iter().map(|signed| entry(signed, ingress.as_ref())).collect();
    session.out.either(&entries, || match all.is_empty() {
        true => format!("nothing of {handle} is open to everybody"),
        false => all.iter().map(|signed| line(signed, ingress.as_ref())).collect::<Vec<_>>().join("\n"),
    });
    if ingress.is_none() && !all.is_empty() {
        session.out.note("the node that answers lets nobody in: ask its owner for  --ingress, or use one that does");
    }
    Ok(Exit::Ok)
}

/// Where the node that answers lets everybody in; `None` if it does not.
async fn ingress(session: &Session) -> Result<Option<IngressView>, Failure> {
    match session.api.ingress().await {
        Ok(view) => Ok(Some(view)),
        Err(e) if e.problem().is_some_and(|p| p.status == 404) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn entry(signed: &SignedPublication, ingress: Option<&IngressView>) -> serde_json::Value {
    let Publication { name, port, .. } = &signed.publication;
    let label = signed.publication.label();
    serde_json::json!({"name": name, "port": port, "label": label, "url": ingress.map(|ingress| ingress.url(&label))})
}

fn line(signed: &SignedPublication, ingress: Option<&IngressView>) -> String {
    let (label, port) = (signed.publication.label(), signed.publication.port);
    match ingress {
        Some(ingress) => format!("{} leads to port {port}", ingress.url(&label)),
        None => format!("{label} leads to port {port}, at gateways that let everybody in"),
    }
}

/// A name that a job's handle gives.
fn name_of(handle: &str) -> String {
    let letters: String =
        handle.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(MAX_PUBLIC_NAME).collect();
    letters.trim_matches('-').to_owned()
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
