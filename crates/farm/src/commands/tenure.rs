//! Jobs without a fixed length: `farm top-up`, and letting a rental end with what is paid.
//!
//! Guarantees: says what was really added, as the ledger has it: never more than was asked, less where the machine's owner keeps
//! the price for a shorter time.

use crate::args::TopUpArgs;
use crate::exit::{Exit, Failure, Outcome};
use crate::render::number::{credits, duration};
use crate::session::{App, Job, Session};
use pasture_types::market::Term;
use pasture_types::market_rules::MarketAction;
use pasture_types::tx::Action;
use pasture_types::{Amount, Millis};

/// `farm top-up`.
pub(crate) async fn top_up(app: &App, args: &TopUpArgs) -> Outcome {
    let amount = match args.amount.parse::<Amount>() {
        Ok(Amount::ZERO) => return Err(Failure::usage("0 credits: write how many")),
        Ok(amount) => amount,
        Err(e) => return Err(Failure::usage(e.to_string())),
    };
    let session = Session::open(app).await?;
    let job = session.job(&args.job).await?;
    let lease = job.lease()?;
    if lease.tenure.term != Term::Open {
        return Err(Failure::new("not-open", format!("{} does not run until it is stopped, so it is not topped up", job.handle))
            .next(format!("give it more time:  farm extend {} --for 1h", job.handle)));
    }
    session.submit(vec![Action::Market(MarketAction::TopUp { lease: lease.id, amount })]).await?;
    let now = session.ask(|| session.api.lease(&lease.id)).await?;
    let added = now.escrow.saturating_sub(lease.escrow);
    let time = Millis(now.max_duration.0.saturating_sub(lease.max_duration.0));
    let value = serde_json::json!({"job": job.handle, "added": added, "time_ms": time, "lease": now});
    session.out.either(&value, || {
        format!("{} may run {} longer for {} cr more ({} cr in all)", job.handle, duration(time), credits(added), credits(now.escrow))
    });
    Ok(Exit::Ok)
}

/// `farm stop --at-the-end`.
pub(crate) async fn stop_renewal(session: &Session, job: &Job) -> Outcome {
    let lease = job.lease()?;
    if !lease.tenure.renews {
        return Err(Failure::new("not-renewed", format!("{} is not renewed by itself, so it ends with what is paid", job.handle)));
    }
    session.submit(vec![Action::Market(MarketAction::StopRenewal { lease: lease.id })]).await?;
    let value = serde_json::json!({"job": job.handle, "result": "is not renewed"});
    if session.out.json {
        session.out.json(&value);
    } else {
        session.out.note(&format!("{} is not renewed any more and ends with what is paid", job.handle));
    }
    Ok(Exit::Ok)
}

/// What leaving a rental early costs, for those who are about to; nothing for other jobs.
pub(crate) fn leaving(session: &Session, term: Term) -> Option<String> {
    let percent = session.status.params.market.early_cancel_ppm / 10_000;
    matches!(term, Term::Rental { .. })
        .then(|| format!("leaving before the rented time is over costs {percent} % of the price of the rest"))
}
