//! `farm provider tenants`, `block`, `unblock`, `blocked`: whom the owner of a machine serves, and whom a report of abuse is about.
//!
//! Guarantees: a running machine is asked through its own door, one that does not run is changed on disk; what was said holds for the next job.

use crate::args::{BlockArgs, TenantsArgs, WhichMachine};
use crate::backend::{self, Blocked, Request, Tenancy};
use crate::exit::{Exit, Failure, Outcome};
use crate::machine;
use crate::render::Table;
use crate::session::{App, now_ms};
use pasture_types::market::Egress;
use pasture_types::spec::parse_duration;
use pasture_types::{AccountId, Millis, Timestamp};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Longest reason.
const MAX_WHY: usize = 200;
const NANOS_IN_MS: i128 = 1_000_000;

/// `farm provider block`.
pub(crate) async fn block(app: &App, args: &BlockArgs) -> Outcome {
    if args.why.len() > MAX_WHY || args.why.contains(char::is_control) {
        return Err(Failure::usage(format!("--why: a line of at most {MAX_WHY} bytes")));
    }
    let account = account(&args.account)?;
    let data = machine::meant(&app.paths, args.machine.data.as_deref()).await?;
    let blocked = Blocked { account, since: Timestamp(now_ms()), why: args.why.clone() };
    let request = Request::Block { blocked: blocked.clone(), end_jobs: args.now };
    let runs = machine::ask(&data, &request, |_| ()).await?.is_some();
    if !runs {
        backend::block_stopped(&data, account, Some(blocked.clone()))?;
    }
    app.out.either(&blocked, || {
        let jobs = match (args.now, runs) {
            (true, true) => "its jobs here are being ended",
            (true, false) => "the machine does not run; jobs of it that run on are ended by:  farm drain --now",
            (false, _) => "jobs of it that run go on; end them too with --now",
        };
        format!(
            "\u{2713} account {} gets no more jobs on this machine\n  {jobs}\n  serve it again:  farm provider unblock {account}",
            account.short()
        )
    });
    Ok(Exit::Ok)
}

/// `farm provider unblock`.
pub(crate) async fn unblock(app: &App, text: &str, which: &WhichMachine) -> Outcome {
    let data = machine::meant(&app.paths, which.data.as_deref()).await?;
    let all = backend::blocked(&data)?;
    let text = text.to_ascii_lowercase();
    let mut fitting = all.iter().filter(|b| text.len() >= 4 && b.account.to_string().starts_with(&text));
    let account = match (fitting.next(), fitting.next()) {
        (Some(one), None) => one.account,
        (Some(_), Some(_)) => return Err(Failure::usage(format!("several blocked accounts begin with {text}: write more of it"))),
        (None, _) => {
            let failure = Failure::new("not-blocked", format!("no account that begins with {text} is blocked on this machine"));
            return Err(failure.next("see which are:  farm provider blocked"));
        }
    };
    if machine::ask(&data, &Request::Unblock { account }, |_| ()).await?.is_none() {
        backend::block_stopped(&data, account, None)?;
    }
    app.out.either(&serde_json::json!({"account": account}), || format!("\u{2713} account {} is served again", account.short()));
    Ok(Exit::Ok)
}

/// `farm provider blocked`.
pub(crate) async fn blocked(app: &App, which: &WhichMachine) -> Outcome {
    let data = machine::meant(&app.paths, which.data.as_deref()).await?;
    let all = backend::blocked(&data)?;
    app.out.either(&all, || {
        if all.is_empty() {
            return "no account is blocked on this machine".into();
        }
        let mut table = Table::new(&["ACCOUNT", "SINCE", "WHY"]);
        for one in &all {
            table.row([one.account.to_string(), shown(one.since), one.why.clone()]);
        }
        table.text()
    });
    Ok(Exit::Ok)
}

/// `farm provider tenants`.
pub(crate) async fn show(app: &App, args: &TenantsArgs) -> Outcome {
    let now = Timestamp(now_ms());
    let (from, to) = match &args.at {
        Some(at) => {
            let at = moment("--at", at, now)?;
            (at, at)
        }
        None => {
            let to = args.to.as_ref().map_or(Ok(now), |to| moment("--to", to, now))?;
            (moment("--from", &args.from, now)?, to)
        }
    };
    if from > to {
        return Err(Failure::usage("--from: later than --to"));
    }
    let data = machine::meant(&app.paths, args.machine.data.as_deref()).await?;
    let found: Vec<Tenancy> = backend::tenancies(&data, from, to)?;
    app.out.either(&found, || {
        if found.is_empty() {
            return format!("nobody had a job on this machine between {} and {}", shown(from), shown(to));
        }
        let mut table = Table::new(&["ACCOUNT", "JOB", "FROM", "TO", "REACHED"]);
        for one in &found {
            let ended = one.ended.map_or_else(|| "runs".into(), shown);
            let reached = match one.egress {
                Egress::None => "nothing",
                Egress::Open => "the internet",
            };
            let began = one.started.map_or_else(|| "never began".into(), shown);
            table.row([one.account.to_string(), one.lease.short(), began, ended, reached.into()]);
        }
        format!("{}turn one away:  farm provider block ACCOUNT --now", table.text())
    });
    Ok(Exit::Ok)
}

fn account(text: &str) -> Result<AccountId, Failure> {
    text.parse().map_err(|e: pasture_types::ids::ParseIdError| {
        Failure::usage(format!("`{text}` is no account: {e}")).next("see whose jobs ran here:  farm provider tenants")
    })
}

/// A moment: a time of day and date, or how long ago.
fn moment(flag: &str, text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    if let Ok(Millis(ago)) = parse_duration(text) {
        return Ok(Timestamp(now.0.saturating_sub(ago)));
    }
    let wrong = || Failure::usage(format!("{flag}: `{text}` is no time: write for example 2026-11-23T10:00:00Z, or 90m for that long ago"));
    let parsed = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong())?;
    u64::try_from(parsed.unix_timestamp_nanos() / NANOS_IN_MS).map(Timestamp).map_err(|_| wrong())
}

/// A moment in UTC, to the second.
fn shown(at: Timestamp) -> String {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    let text = OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|t| t.format(&Rfc3339).ok());
    text.unwrap_or_else(|| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_date_or_how_long_ago() {
        let now = Timestamp(1_800_000_000_000);
        assert_eq!(moment("--at", "90m", now).unwrap(), Timestamp(1_800_000_000_000 - 90 * 60_000));
        let at = moment("--at", "2027-01-15T09:00:00+01:00", now).unwrap();
        assert_eq!((at, shown(at).as_str()), (Timestamp(1_800_000_000_000), "2027-01-15T08:00:00Z"));
        for wrong in ["yesterday", "", "2027-01-15", "1900-01-01T00:00:00Z"] {
            assert!(moment("--at", wrong, now).unwrap_err().message.contains("is no time"), "{wrong}");
        }
        assert_eq!(shown(Timestamp(u64::MAX)), Timestamp(u64::MAX).to_string(), "what no calendar has");
    }
}
