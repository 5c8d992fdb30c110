//! `farm scale`: more or fewer replicas of something that is deployed.
//!
//! Guarantees: what runs stays as it is; replicas that are too many end, the newest first. Nothing else of the deployment changes.

use crate::args::ScaleArgs;
use crate::commands::deploy::carry_out;
use crate::deploy::drive::Taste;
use crate::deploy::group;
use crate::exit::{Failure, Outcome};
use crate::session::{App, Session};

/// Runs the command.
pub(crate) async fn run(app: &App, args: &ScaleArgs) -> Outcome {
    let mut sizes = vec![];
    for text in &args.sizes {
        let wrong = || Failure::usage(format!("`{text}` is not NAME=N: write for example web=3 or shop/web=3"));
        let (name, number) = text.split_once('=').ok_or_else(wrong)?;
        sizes.push((name, number.parse::<u32>().map_err(|_| wrong())?));
    }
    let session = Session::open(app).await?;
    let mut changed = None;
    for (name, number) in sizes {
        let Some(found) = group::find(&session, name)? else {
            return Err(Failure::new("no-such-deployment", format!("there is no deployment `{}`", group::split(name).0))
                .next("deploy something that can be scaled:  farm deploy -f FILE")
                .next("a single job of farm run stays one"));
        };
        let service = match (&found.service, found.specs.len()) {
            (Some(service), _) => service.clone(),
            (None, 1) => found.specs.keys().next().cloned().unwrap_or_default(),
            (None, _) => {
                let known: Vec<String> = found.specs.keys().map(|s| format!("{name}/{s}={number}")).collect();
                return Err(Failure::usage(format!("{name} has several services: say which")).next(known.join(" or ")));
            }
        };
        let record = changed.get_or_insert_with(|| found.deployment.clone());
        if record.name != found.deployment.name {
            return Err(Failure::usage("one deployment at a time"));
        }
        if let Some(spec) = record.services.get_mut(&service) {
            if spec.array.is_some() {
                return Err(Failure::usage(format!("{service} is an array: its members are numbered, and as many as the file says")));
            }
            spec.replicas = Some(number);
        }
    }
    let mut record = changed.ok_or_else(|| Failure::usage("say what to scale: NAME=N"))?;
    record.stopped = false;
    carry_out(app, &session, record, Taste::AsItIs, &args.going).await
}
