//! `farm update`: changes what is deployed and replaces what differs.
//!
//! Guarantees: replicas of a service change one at a time, and where one fails, the others stay as they are. What only changes in its
//! image, command, environment and the like changes within its lease (`deploy/inplace.rs`). Everything else, and all with
//! `--new-lease`, is replaced: each new one ready (healthy, where there is a health check) before the one that it replaces is stopped.
//! That is a lease of its own, the machine may be another, and that is said.

use crate::args::UpdateArgs;
use crate::commands::deploy::carry_out;
use crate::deploy::drive::{Taste, print};
use crate::deploy::{group, inplace, source};
use crate::exit::{Failure, Outcome};
use crate::session::{App, Session};

/// Runs the command.
pub(crate) async fn run(app: &App, args: &UpdateArgs) -> Outcome {
    if args.file.is_none() && args.image.is_none() && args.env.is_empty() {
        return Err(Failure::usage("nothing to change: give --image, --env or a changed file with -f"));
    }
    let session = Session::open(app).await?;
    let Some(found) = group::find(&session, &args.name)? else {
        return Err(Failure::new("no-such-deployment", format!("there is no deployment `{}`", group::split(&args.name).0))
            .next("see what there is:  farm ps")
            .next("deploy it first:  farm deploy -f FILE"));
    };
    let mut record = found.deployment.clone();
    if let Some(target) = &args.file {
        let text = source::find(Some(target), false).await?;
        let asked = text.read(Some(&record.name))?;
        for note in &asked.notes {
            app.out.warn(&format!("! {note}"));
        }
        match &found.service {
            None => (record.services, record.budget, record.origin) = (asked.services, asked.budget, text.shown),
            Some(service) => {
                let Some(spec) = asked.services.get(service) else {
                    return Err(Failure::usage(format!("{} has no service `{service}`", text.shown)));
                };
                record.services.insert(service.clone(), spec.clone());
            }
        }
    }
    if args.image.is_some() && found.service.is_none() && record.services.len() > 1 {
        let known: Vec<String> = record.services.keys().map(|s| format!("{}/{s}", record.name)).collect();
        return Err(Failure::usage("--image is for one service: say which").next(known.join(" or ")));
    }
    let chosen = |name: &String| found.service.as_ref().is_none_or(|s| s == name);
    for (_, spec) in record.services.iter_mut().filter(|(name, _)| chosen(name)) {
        if let Some(image) = &args.image {
            (spec.image, spec.build) = (Some(image.clone()), None);
        }
        for pair in &args.env {
            let (name, value) = pair.split_once('=').ok_or_else(|| Failure::usage(format!("--env: `{pair}` is not NAME=VALUE")))?;
            spec.env.insert(name.into(), value.into());
        }
    }
    record.stopped = false;
    if args.going.dry_run {
        return carry_out(app, &session, record, Taste::Asked, &args.going).await;
    }
    if !args.new_lease {
        let specs = record.specs()?;
        session.ready().await?;
        let (jobs, _) = session.jobs().await?;
        inplace::change(&session, &found.deployment, &mut record, &specs, &jobs).await?;
    }
    if args.new_lease || record.units.iter().any(|u| u.print != print(&record, &u.key.service, None)) {
        session
            .out
            .note("what differs gets a new lease, on a machine that may be another; what is there now ends once the new one is ready");
    }
    carry_out(app, &session, record, Taste::Asked, &args.going).await
}
