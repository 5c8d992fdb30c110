//! `farm explain`, and the quote that `farm run` gets by the same way: who would serve an order, at which price, and if nobody
//! would, why.
//!
//! Guarantees: the network's own matching answers, nothing is sent but the order's terms, nothing is charged.

use crate::args::ExplainArgs;
use crate::avoid;
use crate::commands::run::round_up;
use crate::exit::{Exit, Failure, Outcome};
use crate::gpus;
use crate::patience::Pause;
use crate::render::number::{count, credits, duration, per_hour};
use crate::render::{Output, Table};
use crate::session::{App, Session, too_poor};
use crate::spec_file;
use crate::volumes;
use crate::words::{self, plainly};
use pasture_api::{ApiError, ExplainView};
use pasture_types::market::{Constraint, Disclose, Egress, Failover, Fence, OrderTerms, Term};
use pasture_types::spec::CheckedSpec;
use pasture_types::{Amount, AssetId, BlobHash, Millis, Timestamp};
use std::time::Duration;
use tokio::time::Instant;

/// How long a job may run unless told otherwise.
const DEFAULT_DURATION: Millis = Millis(3_600_000);
/// How long an order waits for a machine.
const ORDER_WAIT: Millis = Millis(60_000);
/// How long offers that are too new are waited for. Two blocks take two seconds where the network is idle and slow.
const AGEING_WAIT: Duration = Duration::from_secs(15);
/// A price that no offer reaches: for asking what there is before setting a limit.
const ANY_PRICE: Amount = Amount::credits(1_000_000);
/// How much dearer than the best offer the machine may be when no limit was given: six fifths.
const ROOM: (u128, u128) = (6, 5);
const HOUR_MS: u128 = 3_600_000;

/// Runs the command.
pub(crate) async fn run(app: &App, args: &ExplainArgs) -> Outcome {
    let mut asked = spec_file::ask(&args.spec, &[]).await?;
    let session = Session::open(app).await?;
    gpus::can_be_leased(&asked.spec.resources, &session.status.params)?;
    volumes::place(&session, &mut asked.spec).await?;
    let terms = terms(&asked.spec, BlobHash([0; 32]), session.time());
    let opened = open(&terms);
    let mut view = session.ask(|| session.api.explain(&opened)).await?;
    if let Some(best) = view.best.first().filter(|_| view.suitable > 0) {
        // Once more at the price that would really be allowed: a budget is held against that.
        let most = highest(&asked.spec, best.rate_per_hour, period(&session, &terms), asked.spec.budget);
        let real = OrderTerms { max_price_per_hour: most, ..terms.clone() };
        view = session.ask(|| session.api.explain(&real)).await?;
    }
    app.out.either(&view, || {
        let mut text = format!("asked for: {}\n{}", conditions(&terms), explanation(&view));
        for change in &view.relaxations {
            text.push_str(&format!("\nwould help: {}", words::way_out(change)));
        }
        text
    });
    Ok(Exit::Ok)
}

/// What is asked, with generous limits where none were given.
pub(crate) fn terms(spec: &CheckedSpec, spec_hash: BlobHash, now: Timestamp) -> OrderTerms {
    OrderTerms {
        uninterrupted: false,
        resources: spec.resources.clone(),
        constraints: spec.constraints.clone(),
        max_price_per_hour: spec.max_price_per_hour.unwrap_or(ANY_PRICE),
        max_duration: spec.timeout.unwrap_or(DEFAULT_DURATION),
        budget: spec.budget.unwrap_or(ANY_PRICE),
        asset: AssetId::CREDIT,
        priority: spec.priority,
        verification: spec.verification,
        alive: spec.alive,
        failover: Failover::default(),
        fence: Fence::default(),
        disclose: Disclose::default(),
        spec_hash,
        model: None,
        watcher: spec.watcher,
        preferences: vec![],
        expires: now.plus(ORDER_WAIT),
        target_price_per_hour: spec.target_price_per_hour.unwrap_or(Amount::ZERO),
        term: spec.term,
        preemptible: spec.preemptible,
    }
}

/// The same without a limit on the budget, where no price was named that it could be held against.
fn open(terms: &OrderTerms) -> OrderTerms {
    let budget = if terms.max_price_per_hour == ANY_PRICE { ANY_PRICE } else { terms.budget };
    OrderTerms { budget, ..terms.clone() }
}

/// The shortest time that a budget must pay for: a period, or all that is rented.
fn period(session: &Session, terms: &OrderTerms) -> Millis {
    match terms.term {
        Term::Rental { .. } => terms.max_duration,
        Term::Fixed | Term::Open => session.status.params.epoch.min(terms.max_duration),
    }
}

/// How long the ledger may put more on hold by itself.
const fn budgeted(terms: &OrderTerms) -> Millis {
    match terms.term {
        Term::Rental { unit, locked, renew: true, .. } => Millis(unit.length().0.saturating_mul(locked as u64)),
        _ => terms.max_duration,
    }
}

fn cost(rate: Amount, time: Millis) -> Amount {
    Amount(rate.0.saturating_mul(u128::from(time.0)).div_ceil(HOUR_MS))
}

/// The highest price that is allowed: the user's, else a little above the best offer's, as far as the money pays a period of it.
fn highest(spec: &CheckedSpec, best: Amount, period: Millis, money: Option<Amount>) -> Amount {
    spec.max_price_per_hour.unwrap_or_else(|| {
        let room = round_up(best.mul_div(ROOM.0, ROOM.1).unwrap_or(best));
        let paid = money.and_then(|b| b.mul_div(HOUR_MS, u128::from(period.0.max(1))));
        paid.map_or(room, |paid| room.min(paid).max(best))
    })
}

/// An explanation in which no offer that might serve is merely too new. Such offers are waited for: two blocks are moments.
async fn aged<F>(out: Output, within: Duration, mut explain: impl FnMut() -> F) -> Result<ExplainView, ApiError>
where
    F: Future<Output = Result<ExplainView, ApiError>>,
{
    let until = Instant::now() + within;
    let mut pause = Pause::new();
    let mut said = false;
    loop {
        let view = explain().await?;
        if view.suitable > 0 || view.ageing == 0 || Instant::now() >= until {
            return Ok(view);
        }
        if !std::mem::replace(&mut said, true) {
            out.note(&format!(
                "{} too new to be drawn: waiting for that",
                count(view.ageing, "offer") + if view.ageing == 1 { " is" } else { " are" }
            ));
        }
        pause.wait().await;
    }
}

/// The terms without the machines that failed this user lately, where others fit; else as they are. And who would serve them.
async fn suited(session: &Session, asked: OrderTerms) -> Result<(OrderTerms, ExplainView), Failure> {
    let failed = avoid::machines(&session.paths.data_dir, &session.status.zone);
    if let Some(constraints) = avoid::without(&asked.constraints, &failed) {
        let others = OrderTerms { constraints, ..asked.clone() };
        let opened = open(&others);
        let view = session.ask(|| session.api.explain(&opened)).await?;
        if view.suitable > 0 {
            return Ok((others, view));
        }
        session.out.note("nobody else fits: machines that stopped serving a job of yours before are asked, too");
    }
    let opened = open(&asked);
    let view = aged(session.out, AGEING_WAIT, || session.ask(|| session.api.explain(&opened))).await?;
    Ok((asked, view))
}

/// Terms that somebody would serve now and that the account can pay, or why not.
pub(crate) async fn quote(session: &Session, spec: &CheckedSpec, spec_hash: BlobHash, balance: Amount) -> Result<OrderTerms, Failure> {
    gpus::can_be_leased(&spec.resources, &session.status.params)?;
    let (asked, view) = suited(session, terms(spec, spec_hash, session.time())).await?;
    let Some(best) = view.best.first().filter(|_| view.suitable > 0) else {
        let text = format!("asked for: {}\n{}", conditions(&asked), explanation(&view));
        let mut failure = Failure::new("nobody", format!("no machine suits this job; nothing was sent and nothing charged\n{text}"));
        failure.next.extend(view.relaxations.iter().map(words::way_out));
        if failure.next.is_empty() && view.offers > 0 {
            failure.next.push("see what is on offer:  farm offers".into());
        }
        if view.offers == 0 {
            failure = failure.next("offer a machine yourself:  farm up  (or farm dev, for a local network)");
        }
        return Err(failure);
    };
    let period = period(session, &asked);
    let least = cost(best.rate_per_hour, period);
    if let Some(budget) = spec.budget.filter(|b| *b < least) {
        let (price, least, period) = (per_hour(best.rate_per_hour), credits(least), duration(period));
        return Err(Failure::new(
            "budget-too-small",
            format!("a budget of {budget} cr does not buy the first {period} at {price}: that costs {least} cr; nothing was charged"),
        )
        .next("set a larger --budget, or leave it out"));
    }
    let p = &session.status.params;
    let aside = p.order_deposit.saturating_add(session.max_fee());
    priced(asked, spec, best.rate_per_hour, period, balance.saturating_sub(aside))
        .map_err(|needed| too_poor(needed.saturating_add(aside), balance, session.is_test()))
}

/// Sets the limits that were not given: a price a little above the best offer's, a budget that covers the whole time as far as
/// the account reaches. An error is the least that would have to be put on hold.
fn priced(asked: OrderTerms, spec: &CheckedSpec, best: Amount, period: Millis, available: Amount) -> Result<OrderTerms, Amount> {
    let rented = matches!(asked.term, Term::Rental { .. });
    let max_price = highest(spec, best, period, spec.budget.or(rented.then_some(available)));
    let hold_for = |rate: Amount, time: Millis| rate.mul_div(u128::from(time.0), HOUR_MS).map_or(ANY_PRICE, round_up);
    let hold = |rate: Amount| hold_for(rate, asked.max_duration);
    let budget = match spec.budget {
        // A budget of the user's is a limit, not a wish: it is not made smaller.
        Some(budget) => {
            let least = budget.min(hold(max_price));
            if least > available {
                return Err(least);
            }
            budget
        }
        None => {
            let least = hold(best);
            if least > available {
                return Err(least);
            }
            match budgeted(&asked) {
                // What follows is put on hold when its time comes, if it is there then.
                longer if longer > asked.max_duration => hold_for(max_price, longer),
                // The ledger wants to see the whole of it; rounding may have gone above what there is.
                _ if rented => hold(max_price).min(available).max(cost(max_price, period)),
                _ => hold(max_price).min(available),
            }
        }
    };
    Ok(OrderTerms { max_price_per_hour: max_price, budget, ..asked })
}

/// What was asked, in a line.
pub(crate) fn conditions(terms: &OrderTerms) -> String {
    let mut all = vec![terms.resources.to_string()];
    for constraint in &terms.constraints {
        all.push(match constraint {
            Constraint::Region(region) => format!("region {region}"),
            Constraint::Attribute { name, value } => gpus::condition(name).unwrap_or_else(|| format!("{name}={value}")),
            Constraint::Node(node) => format!("only machine {}", node.short()),
            Constraint::NotNode(node) => format!("not machine {}", node.short()),
            Constraint::Provider(provider) => format!("only provider {}", provider.short()),
            Constraint::Egress(Egress::Open) => "network access (without it: --egress none)".into(),
            Constraint::Egress(Egress::None) => continue,
            Constraint::Credential(query) => format!("certificate: {:?} {}", query.kind, query.at_least),
        });
    }
    all.extend(words::term(&terms.term));
    if terms.preemptible {
        all.push("may be ended early, with notice".into());
    }
    if let Some(watcher) = &terms.watcher {
        all.push(format!("watched by {}", watcher.short()));
    }
    if terms.max_price_per_hour < ANY_PRICE {
        all.push(format!("at most {}", per_hour(terms.max_price_per_hour)));
    }
    all.join(", ")
}

/// How many suit, who is best, and what excluded the others.
pub(crate) fn explanation(view: &ExplainView) -> String {
    let mut text = format!("{} of {} would run this job now", view.suitable, count(view.offers, "offer"));
    if !view.best.is_empty() {
        let mut table = Table::new(&["PROVIDER", "REGION", "PRICE PER HOUR"]);
        for best in &view.best {
            table.row([best.provider_name.clone(), best.region.clone(), format!("{} cr", credits(best.rate_per_hour))]);
        }
        text.push('\n');
        text.push_str(table.text().trim_end());
    }
    for e in &view.excluded {
        text.push_str(&format!("\n  {} excluded by {}", count(e.offers, "offer"), plainly(&e.reason)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_api::{BestOffer, Exclusion};
    use pasture_types::NodeId;
    use pasture_types::spec::JobSpec;

    fn spec(yaml: &str) -> CheckedSpec {
        serde_norway::from_str::<JobSpec>(yaml).unwrap().check().unwrap()
    }

    fn price(yaml: &str, best: u128, available: u128) -> Result<(Amount, Amount), Amount> {
        let spec = spec(yaml);
        let asked = terms(&spec, BlobHash([0; 32]), Timestamp(0));
        priced(asked, &spec, Amount(best), Millis(60_000), Amount(available)).map(|t| (t.max_price_per_hour, t.budget))
    }

    #[test]
    fn limits_that_were_not_given_are_generous_but_within_the_account() {
        let cr = 1_000_000_000;
        assert_eq!(price("image: a", cr, 100 * cr), Ok((Amount(6 * cr / 5), Amount(6 * cr / 5))));
        assert_eq!(price("image: a", cr, 11 * cr / 10), Ok((Amount(6 * cr / 5), Amount(11 * cr / 10))));
        assert_eq!(price("image: a", cr, cr / 2), Err(Amount(cr)));
        assert_eq!(price("{image: a, timeout: 30m}", cr, cr / 2), Ok((Amount(6 * cr / 5), Amount(cr / 2))));
        assert_eq!(price("{image: a, budget: '0.25'}", cr, cr / 2), Ok((Amount(6 * cr / 5), Amount(cr / 4))));
        assert_eq!(price("{image: a, budget: '2', timeout: 2h}", cr, cr), Err(Amount(2 * cr)));
        assert_eq!(price("{image: a, price: {max: 3}}", cr, 100 * cr), Ok((Amount(3 * cr), Amount(3 * cr))));
        let scarce = price("{image: a, budget: '0.018'}", cr, cr).unwrap();
        assert_eq!(scarce, (Amount(1_080_000_000), Amount(18_000_000)), "a period at the highest price is what the budget pays");
        let hourly = "{image: a, term: {hours: 2}}";
        let term = |spec: &str, available: u128| {
            let checked = self::spec(spec);
            let asked = terms(&checked, BlobHash([0; 32]), Timestamp(0));
            let rented = asked.max_duration;
            priced(asked, &checked, Amount(cr), rented, Amount(available)).map(|t| (t.max_price_per_hour, t.budget))
        };
        assert_eq!(term(hourly, 100 * cr), Ok((Amount(6 * cr / 5), Amount(12 * cr / 5))), "all that is rented is on hold");
        assert_eq!(term(hourly, 21 * cr / 10), Ok((Amount(21 * cr / 20), Amount(21 * cr / 10))), "as dear as the account can rent it");
        assert_eq!(term(hourly, 3 * cr / 2), Err(Amount(2 * cr)));
        let renewed = term("{image: a, term: {hours: 2, lock: 10, renew: true}}", 100 * cr).unwrap();
        assert_eq!(renewed.1, Amount(12 * cr), "what may follow is within the budget");
        assert_eq!(price("image: a", 1, 100 * cr).unwrap().0, Amount(100_000), "prices are rounded up");
    }

    fn view(suitable: u64, ageing: u64) -> ExplainView {
        ExplainView { offers: 1, suitable, excluded: vec![], best: vec![], relaxations: vec![], ageing }
    }

    #[tokio::test]
    async fn an_offer_that_is_only_too_new_is_waited_for_and_not_for_ever() {
        let out = Output::new(crate::args::Format::Table, true, true, false);
        let mut answers = vec![view(1, 0), view(0, 1), view(0, 1)];
        let got = aged(out, AGEING_WAIT, || std::future::ready(Ok(answers.pop().unwrap()))).await.unwrap();
        assert_eq!((got.suitable, answers.len()), (1, 0));
        // Nothing to wait for.
        let mut calls = 0;
        let got = aged(out, AGEING_WAIT, || {
            calls += 1;
            std::future::ready(Ok(view(0, 0)))
        });
        assert_eq!((got.await.unwrap().suitable, calls), (0, 1));
        let short = Duration::from_millis(1);
        assert_eq!(aged(out, short, || std::future::ready(Ok(view(0, 2)))).await.unwrap().ageing, 2);
    }

    #[test]
    fn conditions_are_told_back() {
        let spec = spec("{image: a, constraints: {region: eu, attributes: {disk: ssd}}, price: {max: 0.5}, egress: none}");
        assert_eq!(
            conditions(&terms(&spec, BlobHash([0; 32]), Timestamp(0))),
            "1 CPU, 512 MiB memory, 1 GiB disk, region eu, disk=ssd, at most 0.5000 cr per hour"
        );
    }

    #[test]
    fn an_explanation_counts_and_names() {
        let view = ExplainView {
            offers: 3,
            suitable: 1,
            excluded: vec![Exclusion { reason: "memory: 64 GiB asked, at most 8 GiB free".into(), offers: 2 }],
            best: vec![BestOffer { node: NodeId([1; 32]), provider_name: "alice".into(), region: "eu".into(), rate_per_hour: Amount(5) }],
            relaxations: vec![],
            ageing: 0,
        };
        assert_eq!(
            explanation(&view),
            "1 of 3 offers would run this job now\nPROVIDER  REGION  PRICE PER HOUR\nalice     eu      0.000000005 cr\n  \
             2 offers excluded by memory: 64 GiB asked, at most 8 GiB free"
        );
    }
}
