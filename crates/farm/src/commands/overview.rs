//! `farm status` without a job: the network, and what we have on it.
//!
//! Guarantees: reads only; an account that does not exist yet is said to be that, and is not opened.

use crate::commands::jobs::{cost, live};
use crate::commands::{deposit, leaving};
use crate::exit::{Failure, Outcome};
use crate::handles::Names;
use crate::machine;
use crate::render::Table;
use crate::render::number::{count, credits, duration};
use crate::session::{App, Session};
use crate::verify::{self, with_evidence};
use crate::watching::{View, show};
use crate::words;
use pasture_api::data::LeaseStatus;
use pasture_api::{AccountView, JobView, NetworkStatus, OrderState, StandingView};
use pasture_types::Timestamp;
use pasture_types::lease::LeaseState;

/// Jobs that are named; `farm ps` has them all.
const SHOWN_JOBS: usize = 10;

/// Runs the command.
pub(crate) async fn run(app: &App, watch: bool) -> Outcome {
    show(app.out, watch, async || look(app, &Session::open(app).await?).await).await
}

async fn look(app: &App, session: &Session) -> Result<View, Failure> {
    let ours = session.account();
    let account = match session.ask(|| session.api.account(&ours)).await {
        Ok(view) => Some(verify::account(app, session, view).await?),
        Err(e) if e.problem().is_some_and(|p| p.status == 404) => None,
        Err(e) => return Err(e.into()),
    };
    let (jobs, names) = session.jobs().await?;
    let is_live = |state: LeaseState| matches!(state, LeaseState::Matched | LeaseState::Accepted | LeaseState::Running);
    let open: Vec<&JobView> =
        jobs.iter().filter(|j| j.lease.as_ref().map_or(j.order.state == OrderState::Open, |l| is_live(l.state))).collect();
    let machines = machine::all(&app.paths).await;
    let shown = account.as_ref().map(|(view, evidence)| with_evidence(serde_json::to_value(view).unwrap_or_default(), evidence.as_ref()));
    let value = serde_json::json!({"network": session.status, "account": shown, "open_jobs": open.len(), "machines": machines});
    let mut table = Table::pairs();
    for (name, text) in network_rows(&session.status, session.time()) {
        table.row([name.into(), text]);
    }
    match &account {
        Some((view, evidence)) => {
            account_rows(view, session.is_test()).into_iter().for_each(|(name, text)| table.row([name.into(), text]));
            if let Some(evidence) = evidence {
                table.row(["proof".into(), evidence.short()]);
            }
        }
        None => table.row(["account".into(), format!("{}, not known to this network yet", session.account())]),
    }
    table.row(["jobs".into(), format!("{} open", open.len())]);
    let shown: Vec<&JobView> = open.iter().copied().take(SHOWN_JOBS).collect();
    let asked = shown.iter().map(async |job| live(session, job.lease.as_ref()).await);
    let said = futures::future::join_all(asked).await;
    for (job, said) in shown.iter().zip(&said) {
        table.row(["".into(), job_line(job, said.as_ref(), &names)]);
    }
    if open.len() > SHOWN_JOBS {
        table.row(["".into(), "and more:  farm ps".into()]);
    }
    for one in &machines {
        table.row(["machine".into(), leaving::row(one)]);
        // Of a machine on another network nothing is known here.
        let checked = |s: &StandingView| s.audits.as_ref().is_some_and(|a| a.passes + a.failures > 0);
        if let Some(standing) = session.api.node(&one.node).await.ok().and_then(|n| n.standing).filter(|s| checked(s)) {
            table.row(["".into(), format!("capacity {}", words::capacity(standing.audits.as_ref()))]);
            if let Some(suspended) = &standing.deposit.suspended {
                table.row(["".into(), format!("takes no jobs {}", words::suspension(suspended, session.time()))]);
            }
        }
        if let Some(load) = &one.load {
            table.row(["".into(), leaving::load(load)]);
        }
    }
    Ok(View { value, text: table.text(), over: false })
}

/// An open job in one line; `said`: by its machine, if it answered at once.
fn job_line(job: &JobView, said: Option<&LeaseStatus>, names: &Names) -> String {
    let mut line = format!("{}: {}", names.handle(&job.order.id), words::state(job, said.map(|s| s.phase)));
    if let Some(lease) = &job.lease {
        let machine = words::machine(&lease.provider_name, &lease.region);
        line.push_str(&format!(
            " on {machine}, served {}, {} cr",
            duration(said.map_or(lease.served_ms, |s| s.served_ms.max(lease.served_ms))),
            credits(cost(lease))
        ));
    }
    line
}

/// What a network says of itself.
fn network_rows(s: &NetworkStatus, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("network", format!("{} {}", s.name, s.zone.short())),
        ("ordering", format!("{}, {}", s.mode, count(s.validators.into(), "validator"))),
        ("block", format!("{}, rules {}", s.height.0, s.rules_version)),
    ];
    if let Some(pause) = &s.paused {
        let kinds: Vec<&str> = pause.kinds.iter().map(|k| words::paused(*k)).collect();
        rows.push(("paused", format!("{}, by the guardian, for {} more", kinds.join(", "), duration(pause.until.since(now)))));
    }
    if s.open_proposals > 0 {
        rows.push(("votes", format!("{}:  farm vote list", count(s.open_proposals.into(), "open proposal"))));
    }
    rows
}

/// What an account has: here and in `farm account`.
pub(crate) fn account_rows(view: &AccountView, test: bool) -> Vec<(&'static str, String)> {
    let note = if test { " (test credits, no value)" } else { "" };
    let mut rows = vec![
        ("account", view.id.to_string()),
        ("balance", format!("{} cr{note}", credits(view.balance))),
        ("on hold", format!("{} cr", credits(view.on_hold))),
    ];
    for asset in &view.assets {
        rows.push(("balance", format!("{} {}", credits(asset.balance), asset.symbol)));
    }
    if let Some(name) = &view.provider {
        rows.push(("provider", name.clone()));
    }
    if let Some(standing) = &view.standing {
        rows.push(("deposit", deposit::line(standing)));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_api::PauseView;
    use pasture_types::genesis::Params;
    use pasture_types::governance::PauseKind;
    use pasture_types::{Height, ZoneId};

    #[test]
    fn a_pause_and_open_votes_are_shown() {
        let status = NetworkStatus {
            version: "1".into(),
            name: "meadow".into(),
            zone: ZoneId([3; 32]),
            rules_version: 2,
            height: Height(77),
            time: Timestamp(1_000),
            pending_transactions: 0,
            validators: 4,
            mode: "permissioned".into(),
            params: Params::dev(),
            funder: None,
            genesis_time: Timestamp(0),
            paused: Some(PauseView { kinds: vec![PauseKind::Orders, PauseKind::Transfers], until: Timestamp(61_000) }),
            open_proposals: 1,
        };
        let rows = network_rows(&status, Timestamp(1_000));
        let said = |name: &str| rows.iter().find(|(n, _)| *n == name).map(|(_, t)| t.as_str()).unwrap_or_default();
        assert_eq!(said("paused"), "new orders and extensions, payments between accounts, by the guardian, for 1m 00s more");
        assert_eq!(said("ordering"), "permissioned, 4 validators");
        assert_eq!(said("votes"), "1 open proposal:  farm vote list");
        let calm = network_rows(&NetworkStatus { paused: None, open_proposals: 0, ..status }, Timestamp(1_000));
        assert!(calm.iter().all(|(name, _)| !matches!(*name, "paused" | "votes")));
    }
}
