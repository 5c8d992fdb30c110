//! `farm validator register|deposit|back|resume|ls`: what stands behind validators, and who is seated.
//!
//! Guarantees: what is shown after a transaction is what the ledger says then. A validator is named by the beginning of its key; one
//! that fits several is refused. Whose account acts is said by a flag: yours, or the operator's whose key lies in a validator's folder.

use crate::args::{OperatorArgs, ValidatorBondArgs, ValidatorRegisterArgs, ValidatorUnjailArgs};
use crate::backend;
use crate::config::absolute;
use crate::exit::{Exit, Failure, Outcome};
use crate::patience::first_call;
use crate::render::Table;
use crate::render::number::{count, credits, duration};
use crate::session::{App, Session};
use crate::words;
use pasture_api::{ValidatorView, ValidatorsView};
use pasture_types::tx::Action;
use pasture_types::validator::{Seating, ValidatorAction};
use pasture_types::{Amount, NodeId, Timestamp};

/// The account that acts.
async fn session(app: &App, operator: &OperatorArgs) -> Result<Session, Failure> {
    match &operator.operator {
        Some(dir) => Session::open(&app.by(backend::operator_key(&absolute(dir)?)?)).await,
        None => Session::open(app).await,
    }
}

fn amount(flag: &str, text: &str) -> Result<Amount, Failure> {
    match text.parse::<Amount>() {
        Ok(Amount::ZERO) => Err(Failure::usage(format!("{flag}: 0 credits: write how many"))),
        Ok(amount) => Ok(amount),
        Err(e) => Err(Failure::usage(format!("{flag}: {e}"))),
    }
}

/// `farm validator register`.
pub(crate) async fn register(app: &App, args: &ValidatorRegisterArgs) -> Outcome {
    let bond = amount("--deposit", &args.deposit)?;
    let data = absolute(&args.data)?;
    let session = session(app, &args.operator).await?;
    session.ensure_account().await?;
    let made = backend::registration(&data, &session.status.zone, session.account())?;
    let key = NodeId(made.validator.key);
    let action = Action::RegisterValidator { validator: made.validator, consent: made.consent, bond };
    session.submit(vec![action]).await?;
    told(&session, &key).await
}

/// `farm validator deposit`.
pub(crate) async fn bond(app: &App, args: &ValidatorBondArgs) -> Outcome {
    let amount = amount("AMOUNT", &args.amount)?;
    act(app, &args.key, &args.operator, |key| ValidatorAction::Bond { key, amount }).await
}

/// `farm validator back`.
pub(crate) async fn unbond(app: &App, args: &ValidatorBondArgs) -> Outcome {
    let amount = amount("AMOUNT", &args.amount)?;
    act(app, &args.key, &args.operator, |key| ValidatorAction::Unbond { key, amount }).await
}

/// `farm validator resume`.
pub(crate) async fn unjail(app: &App, args: &ValidatorUnjailArgs) -> Outcome {
    act(app, &args.key, &args.operator, |key| ValidatorAction::Unjail { key }).await
}

async fn act(app: &App, text: &str, operator: &OperatorArgs, action: impl FnOnce([u8; 32]) -> ValidatorAction) -> Outcome {
    let session = session(app, operator).await?;
    let all = session.ask(|| session.api.validators()).await?;
    let validator = one(&all, text)?;
    if validator.operator != session.account() {
        let whose = validator.operator.short();
        let failure = Failure::new("not-its-operator", format!("validator {} is of account {whose}, not yours", validator.key.short()));
        return Err(failure.next("act with the operator's key of its folder:  --operator DIR"));
    }
    let key = validator.key;
    session.submit(vec![Action::Validator(action(key.0))]).await?;
    told(&session, &key).await
}

/// The validator that a text means.
pub(crate) fn one<'a>(all: &'a ValidatorsView, text: &str) -> Result<&'a ValidatorView, Failure> {
    let begins = text.to_ascii_lowercase();
    let mut found = all.validators.iter().filter(|v| v.key.to_string().starts_with(&begins));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err(Failure::usage(format!("`{text}` fits several validators: write more of its key"))),
        (None, _) => Err(Failure::new("no-such-validator", format!("this network knows no validator `{text}`"))
            .next("see which there are:  farm validator ls")
            .next("post a deposit for a new one:  farm validator register --data DIR --deposit CREDITS")),
    }
}

/// Shows a validator as it stands after what was done.
async fn told(session: &Session, key: &NodeId) -> Outcome {
    let all = session.ask(|| session.api.validators()).await?;
    let view = all.of(key).ok_or_else(|| Failure::new("internal", "the validator is not on the ledger"))?;
    session.out.either(view, || {
        let mut table = Table::pairs();
        rows(&all, view, session.time()).into_iter().for_each(|(name, text)| table.row([name.into(), text]));
        table.text()
    });
    Ok(Exit::Ok)
}

/// What is known of a validator.
pub(crate) fn rows(all: &ValidatorsView, v: &ValidatorView, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut rows = vec![("validator", v.key.to_string()), ("operator", v.operator.to_string())];
    rows.push(("deposit", format!("{} cr, least {} cr", credits(v.bond), credits(all.min_bond))));
    for part in &v.leaving {
        rows.push(("on its way", format!("{} cr free in {}", credits(part.amount), duration(part.release.since(now)))));
    }
    if !v.forfeited.is_zero() {
        rows.push(("forfeited", format!("{} cr in all", credits(v.forfeited))));
    }
    rows.push(("seat", seat(all, v)));
    if let Some(suspended) = &v.suspended {
        rows.push(("suspended", words::suspension(suspended, now)));
    }
    rows.push(("term", term(all, now)));
    rows
}

/// Whether it has a seat, and what becomes of that.
fn seat(all: &ValidatorsView, v: &ValidatorView) -> String {
    match (v.seated, v.stands) {
        (true, true) => "seated, and stands for election".into(),
        (true, false) if all.elections => "seated, and does not stand for election".into(),
        (true, false) => "seated".into(),
        (false, true) if all.elections => "stands for election".into(),
        (false, true) => "stands, but this network holds no elections: it has fewer than 4 seats".into(),
        (false, false) if v.suspended.is_some() => "none; suspended".into(),
        (false, false) => "none; its deposit is below the least".into(),
    }
}

/// The term of now, in words.
fn term(all: &ValidatorsView, now: Timestamp) -> String {
    let t = &all.term;
    let how = match t.seating {
        Seating::Elected => "elected",
        Seating::Kept => "kept",
    };
    let next = match t.ends.since(now).0 {
        0 => "the next block may begin another".into(),
        _ => format!("ends in {}", duration(t.ends.since(now))),
    };
    format!("{}, {} {how}, {next}", t.number, count(t.seats.into(), "seat"))
}

/// `farm validator ls`.
pub(crate) async fn ls(app: &App) -> Outcome {
    let client = app.client()?;
    let all = first_call(app.out, || client.validators()).await?;
    let now = Timestamp(crate::session::now_ms()).max(all.time);
    app.out.either(&all, || list(&all, now));
    Ok(Exit::Ok)
}

fn list(all: &ValidatorsView, now: Timestamp) -> String {
    let mut table = Table::new(&["VALIDATOR", "OPERATOR", "DEPOSIT", "BLOCKS", "STATE"]);
    for v in &all.validators {
        let own = if v.key == all.this.key { " (answers)" } else { "" };
        table.row([
            v.key.short(),
            v.operator.short(),
            credits(v.bond),
            if v.seated && all.term.blocks > 0 { v.proposed.to_string() } else { "-".into() },
            match &v.suspended {
                Some(suspended) => format!("suspended {}{own}", words::suspension(suspended, now)),
                None => format!("{}{own}", seat(all, v)),
            },
        ]);
    }
    let more = if all.more { "\nand more, whose deposits are smaller" } else { "" };
    let elects = if all.elections {
        format!("at most {}, elected by deposit from {} cr", count(all.seats.into(), "seat"), credits(all.min_bond))
    } else {
        "no elections: the validators of the genesis keep their seats".into()
    };
    format!("term {}; {elects}\n{}{more}", term(all, now), table.text().trim_end())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use pasture_api::{SuspensionView, TermView, ThisValidator};
    use pasture_types::stake::Fault;
    use pasture_types::{AccountId, Height, Millis};

    pub(crate) fn view() -> ValidatorsView {
        let v = |n: u8, seated: bool, stands: bool, proposed: u64| ValidatorView {
            key: NodeId([n; 32]),
            operator: AccountId([n + 100; 32]),
            bond: Amount::credits(u64::from(n)),
            leaving: vec![],
            forfeited: Amount::ZERO,
            seated,
            stands,
            proposed,
            suspended: None,
            registered: Timestamp(0),
        };
        let mut last = v(0x33, false, false, 0);
        last.suspended = Some(SuspensionView { until: Timestamp(61_000), fault: Fault::Absence });
        ValidatorsView {
            height: Height(9),
            time: Timestamp(1_000),
            this: ThisValidator { key: NodeId([0x11; 32]), certifies: true, certifiers: 4, engine_term: 6, peers: 3 },
            term: TermView {
                number: 2,
                began: Timestamp(0),
                height: Height(4),
                ends: Timestamp(31_000),
                seating: Seating::Elected,
                seats: 4,
                blocks: 9,
            },
            seats: 7,
            elections: true,
            min_bond: Amount::credits(10),
            unbond_delay: Millis(1),
            validators: vec![v(0x11, true, true, 4), v(0x22, false, true, 0), last],
            more: false,
        }
    }

    #[test]
    fn seats_candidates_and_suspended_ones_are_listed() {
        let text = list(&view(), Timestamp(1_000));
        assert!(text.starts_with("term 2, 4 seats elected, ends in 30s; at most 7 seats, elected by deposit from 10"), "{text}");
        let row = |begins: &str| text.lines().find(|l| l.starts_with(begins)).unwrap_or_default().to_owned();
        assert!(row("1111").ends_with("seated, and stands for election (answers)") && row("1111").contains(" 4 "), "{text}");
        assert!(row("2222").ends_with("stands for election") && row("2222").contains(" - "), "{text}");
        assert!(row("3333").contains("suspended for 1m 00s at least"), "{text}");
        let still = ValidatorsView { elections: false, seats: 1, ..view() };
        assert!(list(&still, Timestamp(1_000)).contains("no elections"));
        assert!(list(&still, Timestamp(1_000)).contains("holds no elections"));
        assert!(term(&view(), Timestamp(40_000)).ends_with("the next block may begin another"));
        let json = serde_json::to_string(&view()).unwrap();
        assert_eq!(serde_json::from_str::<ValidatorsView>(&json).unwrap(), view());
    }

    #[test]
    fn a_validator_is_named_by_the_beginning_of_its_key() {
        let all = view();
        assert_eq!(one(&all, "22").unwrap().key, NodeId([0x22; 32]));
        assert_eq!(one(&all, "").unwrap_err().exit.code(), 2);
        let failure = one(&all, "77").unwrap_err();
        assert_eq!((failure.code.as_str(), failure.next.len()), ("no-such-validator", 2));
    }

    #[test]
    fn an_amount_is_one() {
        assert_eq!(amount("--deposit", "2.5").unwrap(), Amount(2_500_000_000));
        for bad in ["0", "x", "-1"] {
            assert_eq!(amount("--deposit", bad).unwrap_err().exit.code(), 2, "{bad}");
        }
    }
}
