//! `farm account`: what we have, test credits, paying somebody.
//!
//! Guarantees: balances are shown as the validators certified them, where we know whom to trust; the key is never shown; money moves only by `transfer`, to an id that is a whole one.

use super::grants;
use super::overview::account_rows;
use crate::args::{AccountArgs, AccountCommand};
use crate::exit::{Exit, Failure, Outcome};
use crate::render::Table;
use crate::render::number::{credits, duration};
use crate::session::{App, Session};
use crate::verify::{self, with_evidence};
use pasture_types::tx::Action;
use pasture_types::{AccountId, Amount, AssetId};

/// Lane of the first transaction, and of further test credits.
const FIRST_LANE: u8 = 0;

/// Runs the command.
pub(crate) async fn run(app: &App, args: &AccountArgs) -> Outcome {
    match &args.command {
        None | Some(AccountCommand::Show) => show(app).await,
        Some(AccountCommand::TestCredits { amount }) => test_credits(app, amount).await,
        Some(AccountCommand::Transfer { to, amount }) => transfer(app, to, amount).await,
        Some(AccountCommand::Claim { code }) => grants::claim(app, code).await,
        Some(AccountCommand::Grants) => grants::grants(app).await,
        Some(AccountCommand::Grant(args)) => grants::grant(app, args).await,
        Some(AccountCommand::Revoke { id }) => grants::take_back(app, id).await,
    }
}

fn parse(amount: &str) -> Result<Amount, Failure> {
    match amount.parse::<Amount>() {
        Ok(Amount::ZERO) => Err(Failure::usage("0 credits: write how many")),
        Ok(amount) => Ok(amount),
        Err(e) => Err(Failure::usage(e.to_string())),
    }
}

async fn show(app: &App) -> Outcome {
    let session = Session::open(app).await?;
    let (view, evidence) = verify::account(app, &session, session.ensure_account().await?).await?;
    let value = with_evidence(serde_json::to_value(&view).unwrap_or_default(), evidence.as_ref());
    session.out.either(&value, || {
        let mut table = Table::pairs();
        table.row(["network".into(), format!("{} {}", session.status.name, session.status.zone.short())]);
        for (name, text) in account_rows(&view, session.is_test()) {
            table.row([name.into(), text]);
        }
        table.row(["free building".into(), format!("{} left today", duration(view.build_allowance_left))]);
        if let Some(evidence) = &evidence {
            table.row(["proof".into(), evidence.short()]);
        }
        table.text()
    });
    Ok(Exit::Ok)
}

async fn test_credits(app: &App, amount: &str) -> Outcome {
    let amount = parse(amount)?;
    let session = Session::open(app).await?;
    let ours = session.account();
    let lane = match session.ask(|| session.api.account(&ours)).await {
        Ok(view) => Some(view.lanes.iter().find(|(lane, _)| *lane == FIRST_LANE).map_or(0, |(_, next)| *next)),
        Err(e) if e.problem().is_some_and(|p| p.status == 404) => None,
        Err(e) => return Err(e.into()),
    };
    session.take_test_credits(amount, lane).await?;
    let (view, _) = verify::account(app, &session, session.ask(|| session.api.account(&ours)).await?).await?;
    session.out.either(&view, || format!("{} test credits, no value; balance {} cr", amount.display(0), credits(view.balance)));
    Ok(Exit::Ok)
}

async fn transfer(app: &App, to: &str, amount: &str) -> Outcome {
    let amount = parse(amount)?;
    let to: AccountId = to.parse().map_err(|e: pasture_types::ids::ParseIdError| Failure::usage(e.to_string()))?;
    let session = Session::open(app).await?;
    session.ensure_account().await?;
    let question = format!("Pay {} cr to {to}? This cannot be undone. [y/N] ", credits(amount));
    // A script that says it means it; only a person at a terminal is asked again.
    if !app.yes && session.out.ask(&question).is_some_and(|answer| !matches!(answer.as_str(), "y" | "yes")) {
        return Err(Failure::new("declined", "nothing was paid"));
    }
    let paid = session.submit(vec![Action::Transfer { to, asset: AssetId::CREDIT, amount }]).await?;
    let ours = session.account();
    let (view, _) = verify::account(app, &session, session.ask(|| session.api.account(&ours)).await?).await?;
    let value = serde_json::json!({"transaction": paid, "to": to, "amount": amount, "balance": view.balance});
    session.out.either(&value, || format!("paid {} cr to {}; balance {} cr", credits(amount), to.short(), credits(view.balance)));
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_more_than_nothing() {
        assert_eq!(parse("1.5").unwrap(), Amount(1_500_000_000));
        for bad in ["0", "-1", "much"] {
            assert_eq!(parse(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }
}
