//! `farm expose`: a port of a running job that everybody may reach, by a name.
//!
//! Guarantees: nothing is open to everybody that its owner did not sign for; what is published ends with the job, or when it is taken back.

use crate::args::ExposeArgs;
use crate::exit::{Exit, Failure, Outcome};
use crate::public;
use crate::reach::Reached;
use crate::session::App;
use pasture_api::publication::SignedPublication;
use pasture_types::public::PublicPort;
use pasture_types::resources::parse_bytes;

/// `farm expose`.
pub(crate) async fn run(app: &App, args: &ExposeArgs) -> Outcome {
    let wanted = args.port.map(|port| wanted(args, port)).transpose()?;
    let reached = Reached::running(app, &args.job).await?;
    let (session, handle) = (&reached.session, &reached.handle);
    let mut all = reached.client.published().await.map_err(|e| reached.failure(e))?;
    if args.off {
        reached.client.publish(&[]).await.map_err(|e| reached.failure(e))?;
        session.out.either(&serde_json::json!([]), || format!("nothing of {handle} is open to everybody any more"));
        return Ok(Exit::Ok);
    }
    if let Some(port) = wanted {
        let publication = public::publication(&session.vault()?, &port, (session.account(), reached.client.lease()), handle);
        let publication = publication.map_err(|f| if f.code == "bad-publication" { Failure::usage(f.message) } else { f })?;
        let known = |signed: &SignedPublication| signed.publication.name == publication.name || signed.publication.port == port.port;
        all.retain(|signed| !known(signed));
        all.push(publication.sign(&session.status.zone, &session.key));
        reached.client.publish(&all).await.map_err(|e| reached.failure(e))?;
    }
    let shown = public::shown(session, &all).await?;
    let values: Vec<serde_json::Value> = shown.iter().map(public::Shown::value).collect();
    session.out.either(&values, || match shown.is_empty() {
        true => format!("nothing of {handle} is open to everybody"),
        false => shown.iter().flat_map(public::Shown::lines).collect::<Vec<_>>().join("\n"),
    });
    if shown.first().is_some_and(|shown| !shown.is_let_in()) {
        session.out.note("the node that answers lets nobody in: ask its owner for  --ingress, or use one that does");
    }
    Ok(Exit::Ok)
}

fn wanted(args: &ExposeArgs, port: u16) -> Result<PublicPort, Failure> {
    let max_body = args.max_body.as_deref().map(parse_bytes).transpose().map_err(|e| Failure::usage(format!("--max-body: {e}")))?;
    Ok(PublicPort {
        port,
        name: args.name.clone(),
        tcp: args.tcp,
        per_second: args.per_second,
        max_body,
        access_key: args.access_key.clone(),
        domains: args.domain.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
    })
}
