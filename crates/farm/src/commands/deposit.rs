//! `farm deposit`: what stands behind a provider, posting it for oneself or for somebody else, taking it back.
//!
//! Guarantees: what a deposit answers for is said before it is posted for another. Names are looked up among the standing
//! offers; a name that fits several providers is refused.

use crate::args::{DepositArgs, DepositCommand};
use crate::exit::{Exit, Failure, Outcome};
use crate::render::Table;
use crate::render::number::{credits, duration, per_hour};
use crate::session::{App, Session};
use crate::words;
use pasture_api::{Beginning, DepositView, Leaving, OfferView, StandingView};
use pasture_types::stake::DepositAction;
use pasture_types::tx::Action;
use pasture_types::{AccountId, Amount, NodeId, Timestamp};
use std::collections::BTreeSet;

/// Runs the command.
pub(crate) async fn run(app: &App, args: &DepositArgs) -> Outcome {
    let session = Session::open(app).await?;
    match &args.command {
        None => show(&session, None).await,
        Some(DepositCommand::Show { of }) => show(&session, of.as_deref()).await,
        Some(DepositCommand::Add { amount }) => {
            let action = Action::Stake { amount: parse(amount)? };
            post(&session, action, session.account()).await
        }
        Some(DepositCommand::Back { amount }) => {
            let action = Action::Deposit(DepositAction::Unbond { amount: parse(amount)? });
            post(&session, action, session.account()).await
        }
        Some(DepositCommand::Sponsor { of, amount }) => sponsor(app, &session, of, parse(amount)?).await,
        Some(DepositCommand::Withdraw { of, amount }) => {
            let (provider, amount) = (find(&session, of).await?, parse(amount)?);
            post(&session, Action::Deposit(DepositAction::WithdrawSponsorship { provider, amount }), provider).await
        }
        Some(DepositCommand::Dismiss { sponsor }) => {
            let sponsor = sponsor.parse().map_err(|e: pasture_types::ids::ParseIdError| Failure::usage(e.to_string()))?;
            post(&session, Action::Deposit(DepositAction::DismissSponsor { sponsor }), session.account()).await
        }
        Some(DepositCommand::Resume { machine }) => {
            let node = match machine {
                Some(machine) => Some(one_machine(&session, machine).await?),
                None => None,
            };
            post(&session, Action::Deposit(DepositAction::Unjail { node }), session.account()).await
        }
    }
}

fn parse(amount: &str) -> Result<Amount, Failure> {
    match amount.parse::<Amount>() {
        Ok(Amount::ZERO) => Err(Failure::usage("0 credits: write how many")),
        Ok(amount) => Ok(amount),
        Err(e) => Err(Failure::usage(e.to_string())),
    }
}

async fn show(session: &Session, of: Option<&str>) -> Outcome {
    let provider = match of {
        Some(text) => find(session, text).await?,
        None => session.account(),
    };
    let view = deposit_of(session, &provider).await?;
    session.out.either(&view, || text(&view, session.time()));
    Ok(Exit::Ok)
}

async fn deposit_of(session: &Session, provider: &AccountId) -> Result<DepositView, Failure> {
    let none = || {
        let whose = if *provider == session.account() { "your account".into() } else { format!("account {}", provider.short()) };
        Failure::new("no-provider", format!("{whose} offers no machines, so there is no deposit")).next("offer this one:  farm up")
    };
    match session.ask(|| session.api.account(provider)).await {
        Ok(view) => view.standing.map(|s| *s).ok_or_else(none),
        Err(e) if e.problem().is_some_and(|p| p.status == 404) => Err(none()),
        Err(e) => Err(e.into()),
    }
}

async fn post(session: &Session, action: Action, provider: AccountId) -> Outcome {
    session.submit(vec![action]).await?;
    let view = deposit_of(session, &provider).await?;
    session.out.either(&view, || text(&view, session.time()));
    Ok(Exit::Ok)
}

async fn sponsor(app: &App, session: &Session, of: &str, amount: Amount) -> Outcome {
    let provider = find(session, of).await?;
    if provider == session.account() {
        return Err(Failure::usage("that machine is yours").next(format!("add to your own deposit:  farm deposit add {amount}")));
    }
    session.ensure_account().await?;
    let question = format!(
        "Post {} cr for provider {}? It answers for that provider's faults until {} after you take it back. [y/N] ",
        credits(amount),
        provider.short(),
        duration(session.status.params.stake.unbond_delay)
    );
    // A script that says it means it; only a person at a terminal is asked again.
    if !app.yes && session.out.ask(&question).is_some_and(|answer| !matches!(answer.as_str(), "y" | "yes")) {
        return Err(Failure::new("declined", "nothing was posted"));
    }
    post(session, Action::Deposit(DepositAction::Sponsor { provider, amount }), provider).await
}

/// Offers of the machines or providers that a text may mean: the beginning of an id or of a provider's name.
pub(crate) fn meant<'a>(offers: &'a [OfferView], text: &str) -> Vec<&'a OfferView> {
    let exact: Vec<&OfferView> = offers.iter().filter(|o| o.provider_name == text).collect();
    if !exact.is_empty() {
        return exact;
    }
    let id = text.to_ascii_lowercase();
    let begins = |o: &&OfferView| {
        o.node.to_string().starts_with(&id) || o.provider.to_string().starts_with(&id) || o.provider_name.starts_with(text)
    };
    offers.iter().filter(begins).collect()
}

/// The provider that a text means.
pub(crate) async fn find(session: &Session, text: &str) -> Result<AccountId, Failure> {
    let offers = session.ask(|| session.api.offers()).await?;
    let found: BTreeSet<AccountId> = meant(&offers, text).iter().map(|o| o.provider).collect();
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(one), None) => return Ok(one),
        (Some(_), Some(_)) => return Err(Failure::usage(format!("`{text}` fits several providers: write more of it, or the id"))),
        (None, _) => {}
    }
    // One that offers nothing now has to be named in full.
    if let Ok(node) = text.parse::<NodeId>()
        && let Ok(view) = session.api.node(&node).await
    {
        return Ok(view.provider);
    }
    text.parse::<AccountId>().map_err(|_| {
        Failure::new("no-such-machine", format!("no machine or provider `{text}` is on offer")).next("see which are:  farm offers")
    })
}

/// The one machine that a text means.
pub(crate) async fn one_machine(session: &Session, text: &str) -> Result<NodeId, Failure> {
    if let Ok(node) = text.parse::<NodeId>() {
        return Ok(node);
    }
    let offers = session.ask(|| session.api.offers()).await?;
    let found: BTreeSet<NodeId> = meant(&offers, text).iter().map(|o| o.node).collect();
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err(Failure::usage(format!("`{text}` fits several machines: write more of its id"))),
        (None, _) => Err(Failure::new("no-such-machine", format!("no machine `{text}` is on offer")).next("see which are:  farm offers")),
    }
}

/// How much stands, in a line.
pub(crate) fn line(d: &DepositView) -> String {
    if d.keeps_earnings() {
        let stands = format!("{} of {} cr", credits(d.stands()), credits(d.least));
        return format!("{stands}: what the machine earns is kept for it until then");
    }
    format!("{} cr", credits(d.stands()))
}

fn on_its_way(parts: &[Leaving], now: Timestamp) -> String {
    let one = |l: &Leaving| format!("{} cr free in {}", credits(l.amount), duration(l.release.since(now)));
    parts.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A deposit for people.
fn text(d: &DepositView, now: Timestamp) -> String {
    let mut table = Table::pairs();
    let mut row = |name: &str, text: String| table.row([name.into(), text]);
    row("deposit", line(d));
    row("own", format!("{} cr", credits(d.own)));
    row("least", format!("{} cr", credits(d.least)));
    row("in use", format!("{} cr, for jobs of {}", credits(d.in_use), per_hour(d.rate_per_hour)));
    match d.beginning {
        Beginning::Deposit => {}
        Beginning::Newcomer => row("began", format!("without a deposit; {} cr were kept of what it earned", credits(d.withheld))),
        Beginning::Owing => row("began", "without a deposit, and committed a fault: it takes no job before the least stands".into()),
        Beginning::Over => row("began", "without a deposit; that is over".into()),
    }
    if !d.first_fees.is_zero() {
        row("first fees", format!("{} cr left that the network pays", credits(d.first_fees)));
    }
    if !d.leaving.is_empty() {
        row("on its way", on_its_way(&d.leaving, now));
    }
    for s in &d.sponsors {
        let leaving = if s.leaving.is_empty() { String::new() } else { format!("; {}", on_its_way(&s.leaving, now)) };
        row("sponsor", format!("{} {} cr{leaving}", s.sponsor, credits(s.amount)));
    }
    if !d.forfeited.is_zero() {
        row("forfeited", format!("{} cr in all", credits(d.forfeited)));
    }
    if let Some(s) = &d.suspended {
        row("suspended", words::suspension(s, now));
    }
    table.text()
}

/// What is known of a machine, as rows for people.
pub(crate) fn standing_rows(s: &StandingView, now: Timestamp) -> Vec<(&'static str, String)> {
    let d = &s.deposit;
    let mut rows = vec![("deposit", line(d))];
    let sponsored = if d.sponsored.is_zero() { String::new() } else { format!(", of it {} cr from sponsors", credits(d.sponsored)) };
    rows.push(("own", format!("{} cr{sponsored}", credits(d.own))));
    rows.push(("takes", if s.suspended { "no jobs now".into() } else { format!("jobs of {} more", per_hour(s.rate_room)) }));
    if let Some(suspended) = &d.suspended {
        rows.push(("suspended", words::suspension(suspended, now)));
    }
    rows.push(("capacity", words::capacity(s.audits.as_ref())));
    rows.push(("halts", format!("serves through {} of a halted network", crate::render::number::count(s.halt_grace.into(), "period"))));
    for c in &s.credentials {
        let about = if c.node.is_some() { "this machine" } else { "its provider" };
        let known = if c.listed { "" } else { ", an issuer that this network does not list" };
        let what = words::certificate(&c.claim);
        rows.push((
            "certificate",
            format!("{what}, about {about}, by {}{known}, for {} more", c.issuer.short(), duration(c.expires.since(now))),
        ));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_api::SponsorView;

    fn newcomer() -> DepositView {
        DepositView {
            own: Amount(200_000_000),
            sponsored: Amount(300_000_000),
            least: Amount::credits(1),
            in_use: Amount(5_000_000),
            rate_per_hour: Amount(100_000_000),
            beginning: Beginning::Newcomer,
            withheld: Amount(200_000_000),
            forfeited: Amount::ZERO,
            first_fees: Amount(1_000_000),
            leaving: vec![],
            sponsors: vec![SponsorView {
                sponsor: AccountId([7; 32]),
                amount: Amount(300_000_000),
                leaving: vec![Leaving { amount: Amount(100_000_000), release: Timestamp(61_000) }],
            }],
            suspended: None,
        }
    }

    #[test]
    fn a_newcomers_deposit_says_what_becomes_of_its_earnings() {
        let shown = text(&newcomer(), Timestamp(1_000));
        let sponsor = AccountId([7; 32]);
        assert_eq!(
            shown,
            format!(
                "deposit     0.5000 of 1.0000 cr: what the machine earns is kept for it until then\n\
                 own         0.2000 cr\n\
                 least       1.0000 cr\n\
                 in use      0.0050 cr, for jobs of 0.1000 cr per hour\n\
                 began       without a deposit; 0.2000 cr were kept of what it earned\n\
                 first fees  0.0010 cr left that the network pays\n\
                 sponsor     {sponsor} 0.3000 cr; 0.1000 cr free in 1m 00s\n"
            )
        );
        let done = DepositView { own: Amount::credits(1), ..newcomer() };
        assert_eq!(line(&done), "1.3000 cr");
        assert!(!done.keeps_earnings());
    }
}
