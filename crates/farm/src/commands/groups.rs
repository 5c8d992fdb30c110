//! What `farm ps`, `status`, `logs` and `stop` do with a deployment: the same as with a job, for all of its parts.
//!
//! Guarantees: parts are shown with what they depend on before them, and stopped in the other order; a machine that does not
//! answer costs its part's line, not the others'.

use crate::args::LogsArgs;
use crate::commands::jobs::{cost, end, live};
use crate::deploy::drive::{Place, where_it_is};
use crate::deploy::group::Group;
use crate::deploy::record::{Key, Unit, folder};
use crate::exit::{Exit, Failure, Outcome};
use crate::feeds::{self, FromLog};
use crate::follow::{lines, show_frame};
use crate::handles::Names;
use crate::render::Table;
use crate::render::number::{count, credits, duration};
use crate::sealed::CUT;
use crate::session::{Job, Session};
use crate::watching::View;
use crate::words;
use futures::StreamExt as _;
use futures::stream;
use pasture_api::data::{LeaseStatus, Wellness};
use pasture_api::frames::LogStream;
use pasture_api::{JobView, LeaseView};
use pasture_rt::{TaskKind, spawn};
use pasture_types::fleet::Size;
use pasture_types::{Amount, Millis, OrderId};
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Machines that are asked at once.
const ASKED_AT_ONCE: usize = 16;
/// Jobs that are stopped at the same time: each may take its whole grace.
const STOPPED_AT_ONCE: usize = 8;
/// Logs that are followed at the same time: the network keeps so many connections of one client.
const MAX_LOGS: usize = 100;
/// Lines that wait for the screen.
const LINES: usize = 256;
/// Longest line that is shown as one.
const MAX_LINE: usize = 16 << 10;

/// Jobs with those of a deployment behind each other, otherwise as they are.
pub(crate) fn together<'a>(shown: &[(&'a JobView, &'static str)], names: &Names) -> Vec<(&'a JobView, &'static str)> {
    let mut out: Vec<(&'a JobView, &'static str)> = vec![];
    let mut done: Vec<&str> = vec![];
    for (job, state) in shown {
        match names.part_of(&job.order.id) {
            None => out.push((job, state)),
            Some(name) if done.contains(&name) => {}
            Some(name) => {
                done.push(name);
                out.extend(shown.iter().filter(|(j, _)| names.part_of(&j.order.id) == Some(name)));
            }
        }
    }
    out
}

/// The line above a deployment's jobs.
pub(crate) fn headline(shown: &[(&JobView, &'static str)], names: &Names, name: &str) -> [String; 6] {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut charged = Amount::ZERO;
    for (job, state) in shown.iter().filter(|(j, _)| names.part_of(&j.order.id) == Some(name)) {
        *counts.entry(state).or_default() += 1;
        charged = job.lease.as_ref().map_or(charged, |l| charged.saturating_add(cost(l)));
    }
    let states: Vec<String> = counts.iter().map(|(state, n)| format!("{n} {state}")).collect();
    [name.to_owned(), states.join(", "), "-".into(), "-".into(), format!("{} cr", credits(charged)), "-".into()]
}

/// A part with what is known of it.
struct Seen<'a> {
    unit: &'a Unit,
    job: Option<&'a JobView>,
    live: Option<LeaseStatus>,
}

impl Seen<'_> {
    fn state(&self) -> &'static str {
        match (self.unit.ended, self.job) {
            (Some(true), _) => "succeeded",
            (Some(false), None) => "failed",
            (None, None) => "never placed",
            (_, Some(job)) => match self.live.as_ref().and_then(|s| s.health.as_ref()).map(|h| h.state) {
                Some(Wellness::Healthy) if words::state(job, self.live.as_ref().map(|s| s.phase)) == "running" => "healthy",
                Some(Wellness::Unhealthy) => "unhealthy",
                _ => words::state(job, self.live.as_ref().map(|s| s.phase)),
            },
        }
    }
}

/// `farm status` of a deployment.
pub(crate) async fn status(session: &Session, group: &Group) -> Result<View, Failure> {
    let (jobs, names) = session.jobs().await?;
    let known: BTreeMap<OrderId, &JobView> = jobs.iter().map(|j| (j.order.id, j)).collect();
    let units = group.units();
    let look = async |unit| {
        let unit: &Unit = unit;
        let job = known.get(&unit.order).copied();
        Seen { unit, job, live: live(session, job.and_then(|j| j.lease.as_ref())).await }
    };
    let seen: Vec<Seen<'_>> = stream::iter(units).map(look).buffered(ASKED_AT_ONCE).collect().await;
    let d = &group.deployment;
    let value = {
        let part = |s: &Seen<'_>| {
            serde_json::json!({
                "service": s.unit.key.service, "index": s.unit.key.index, "state": s.state(), "job": names.handle(&s.unit.order),
                "order": s.job.map(|j| &j.order), "lease": s.job.map(|j| &j.lease), "machine": s.live,
            })
        };
        let services: BTreeMap<&String, _> = group
            .specs
            .iter()
            .map(|(name, spec)| {
                (
                    name,
                    serde_json::json!({"size": spec.fleet.size.count(), "completed": completed(group, name), "depends_on": spec.fleet.depends_on}),
                )
            })
            .collect();
        serde_json::json!({
            "deployment": d.name, "origin": d.origin, "stopped": d.stopped, "budget": d.budget, "spent": d.spent, "services": services,
            "parts": seen.iter().map(part).collect::<Vec<_>>(),
        })
    };
    Ok(View { value, text: status_text(session, group, &names, &seen), over: d.stopped })
}

/// How many members of an array have succeeded.
fn completed(group: &Group, service: &str) -> u32 {
    group.deployment.completed.get(service).map_or(0, |c| c.members.count())
}

fn status_text(session: &Session, group: &Group, names: &Names, seen: &[Seen<'_>]) -> String {
    let d = &group.deployment;
    let mut head = Table::pairs();
    head.row(["deployment".into(), format!("{}{}", d.name, if d.stopped { " (stopped)" } else { "" })]);
    head.row(["from".into(), words::plainly(&d.origin)]);
    if let Some(budget) = d.budget {
        head.row(["budget".into(), format!("{} cr, of it spent on what has ended {} cr", credits(budget), credits(d.spent))]);
    }
    for (name, spec) in group.specs.iter().filter(|(n, _)| group.service.as_ref().is_none_or(|s| s == *n)) {
        let size = match spec.fleet.size {
            Size::Replicas(n) => count(n.into(), "replica"),
            Size::Array { count, parallel } => format!("array of {count}, {parallel} at a time; {} succeeded", completed(group, name)),
        };
        head.row([name.clone(), size]);
    }
    let mut table = Table::new(&["PART", "JOB", "STATE", "MACHINE", "SERVED", "RESTARTS"]);
    for s in seen {
        let lease = s.job.and_then(|j| j.lease.as_ref());
        let of = |text: &dyn Fn(&LeaseView) -> String| lease.map_or_else(|| "-".into(), text);
        table.row([
            group.label(&s.unit.key),
            names.handle(&s.unit.order),
            s.state().into(),
            of(&|l| words::machine(&l.provider_name, &l.region)),
            of(&|l| duration(s.live.as_ref().map_or(l.served_ms, |live| live.served_ms.max(l.served_ms)))),
            s.live.as_ref().map_or_else(|| "-".into(), |live| live.restarts.to_string()),
        ]);
    }
    let mut text = head.text();
    if !seen.is_empty() {
        text.push('\n');
        text.push_str(&table.text());
    }
    for s in seen {
        for event in s.live.iter().flat_map(|live| &live.history).filter(|e| !e.text.text().starts_with("started")) {
            let ago = duration(session.time().since(event.at));
            text.push_str(&format!("\n{} {ago} ago: {}", group.label(&s.unit.key), words::plainly(event.text.text())));
        }
    }
    text
}

/// Puts a part's name before each line of its log; lines may come in pieces.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn take(&mut self, label: &str, data: &[u8], out: &mut Vec<u8>) {
        for piece in data.split_inclusive(|b| *b == b'\n') {
            self.rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.rest.len() > MAX_LINE {
                self.flush(label, out);
            }
        }
    }
    fn flush(&mut self, label: &str, out: &mut Vec<u8>) {
        if self.rest.is_empty() {
            return;
        }
        out.extend_from_slice(format!("{label:<12} | ").as_bytes());
        out.append(&mut self.rest);
        if out.last() != Some(&b'\n') {
            out.push(b'\n');
        }
    }
}

/// `farm logs` of a deployment: one part after the other, or all at once when they are followed.
pub(crate) async fn logs(session: &Session, group: &Group, args: &LogsArgs) -> Outcome {
    let (jobs, _) = session.jobs().await?;
    let mut with_lease: Vec<(&Key, LeaseView)> = vec![];
    for unit in group.units() {
        if let Some(lease) = jobs.iter().find(|j| j.order.id == unit.order).and_then(|j| j.lease.clone()) {
            with_lease.push((&unit.key, lease));
        }
    }
    if with_lease.is_empty() {
        return Err(Failure::new(
            "no-machine",
            format!("{} has nothing that has run (yet), so there is nothing to show", group.deployment.name),
        ));
    }
    if args.from > 0 && with_lease.len() > 1 {
        return Err(Failure::usage("--from is for one log: name the part").next(format!("farm status {}", group.deployment.name)));
    }
    if with_lease.len() > MAX_LOGS {
        session.out.warn(&format!("! showing the first {MAX_LOGS} of {} logs; name a part for one of the others", with_lease.len()));
    }
    let alone = with_lease.len() == 1;
    let reader = session.reader()?;
    let (send, mut pieces) = mpsc::channel::<(String, FromLog)>(LINES);
    for (key, lease) in with_lease.into_iter().take(MAX_LOGS) {
        let (label, client, send, reader) = (group.label(key), session.lease_client(&lease), send.clone(), reader.clone());
        let (from, follow) = (args.from, args.follow);
        let copy = async move {
            let mut log = feeds::log(&client, reader, from, follow);
            while let Some(piece) = log.recv().await {
                if send.send((label.clone(), piece)).await.is_err() {
                    return;
                }
            }
        };
        spawn(TaskKind::ClientFollow, copy);
    }
    drop(send);
    let mut rest: BTreeMap<(String, bool), Lines> = BTreeMap::new();
    let show = |stream: LogStream, bytes: &[u8]| match stream {
        LogStream::Stdout => session.out.bytes(bytes),
        LogStream::Stderr => session.out.error_bytes(bytes),
    };
    let mut failed = None;
    while let Some((label, piece)) = pieces.recv().await {
        let frame = match piece {
            FromLog::Frame(frame) => frame,
            FromLog::Done { cut } => {
                if cut {
                    session.out.warn(&format!("! {label}: {CUT}"));
                }
                continue;
            }
            FromLog::Failed(failure) => {
                failed = Some(Failure { message: format!("{label}: {}", failure.message), ..failure });
                continue;
            }
        };
        if alone {
            show_frame(session, &frame);
        } else if session.out.json {
            let stream = if frame.stream == LogStream::Stdout { "stdout" } else { "stderr" };
            for text in lines(&frame) {
                session.out.json(&serde_json::json!({"event": "log", "part": label, "stream": stream, "text": text}));
            }
        } else {
            let mut out = vec![];
            rest.entry((label.clone(), frame.stream == LogStream::Stdout)).or_default().take(&label, &frame.data, &mut out);
            show(frame.stream, &out);
        }
    }
    for ((label, is_stdout), mut lines) in rest {
        let mut out = vec![];
        lines.flush(&label, &mut out);
        show(if is_stdout { LogStream::Stdout } else { LogStream::Stderr }, &out);
    }
    failed.map_or(Ok(Exit::Ok), Err)
}

/// `farm stop` of a deployment.
pub(crate) async fn stop(session: &Session, group: Group, grace: Millis) -> Outcome {
    let (jobs, _) = session.jobs().await?;
    let mut stopped: Vec<(String, &'static str)> = vec![];
    let mut failures: Vec<Failure> = vec![];
    let mut units: Vec<Unit> = group.units().into_iter().rev().cloned().collect();
    if group.is_whole() {
        // What was still to be replaced goes as well.
        units.extend(group.deployment.leaving.iter().map(|l| {
            let key = Key { service: group.deployment.name.clone(), index: 0 };
            let unknown = || Unit {
                key,
                order: l.order,
                salt: [0; 16],
                print: String::new(),
                hold: Amount::ZERO,
                moves: 0,
                ended: None,
                volumes: vec![],
            };
            l.unit.clone().unwrap_or_else(unknown)
        }));
    }
    // Those of one service together, services one after the other.
    while let Some(first) = units.first() {
        let service = first.key.service.clone();
        let (now, later): (Vec<Unit>, Vec<Unit>) = units.into_iter().partition(|u| u.key.service == service);
        units = later;
        let live = now.into_iter().filter_map(|unit| {
            let job = jobs.iter().find(|j| j.order.id == unit.order)?;
            (where_it_is(Some(job)) == Place::Live).then(|| {
                let job = Job { handle: group.label(&unit.key), order: job.order.clone(), lease: job.lease.clone() };
                (unit, job)
            })
        });
        let results: Vec<(String, Result<&'static str, Failure>)> = stream::iter(live.enumerate())
            .map(async |(n, (_, job))| {
                let beside = session.beside(u8::try_from(n % STOPPED_AT_ONCE).unwrap_or(0));
                let how = end(&beside, &job, grace).await;
                (job.handle, how)
            })
            .buffer_unordered(STOPPED_AT_ONCE)
            .collect()
            .await;
        for (label, how) in results {
            match how {
                Ok(how) => stopped.push((label, how)),
                Err(failure) => failures.push(failure),
            }
        }
    }
    let mut record = group.deployment.clone();
    if group.is_whole() && failures.is_empty() {
        (record.stopped, record.leaving) = (true, vec![]);
        record.save(&folder(&session.paths.jobs()))?;
    }
    if session.out.json {
        let parts: Vec<_> = stopped.iter().map(|(part, how)| serde_json::json!({"part": part, "result": how})).collect();
        session.out.json(&serde_json::json!({"deployment": record.name, "stopped": parts, "failed": failures.len()}));
    } else {
        for (label, how) in &stopped {
            session.out.note(&format!("{label:<16} {how}"));
        }
        let text = if stopped.is_empty() { "had ended already".into() } else { format!("{} stopped", count(stopped.len() as u64, "job")) };
        session.out.note(&format!("{}: {text}", record.name));
    }
    failures.into_iter().next().map_or(Ok(Exit::Ok), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_several_parts_are_told_apart_also_when_they_come_in_pieces() {
        let (mut lines, mut out) = (Lines::default(), vec![]);
        lines.take("web/0", b"one\ntw", &mut out);
        lines.take("web/0", b"o\n\nthree", &mut out);
        lines.flush("web/0", &mut out);
        lines.flush("web/0", &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "web/0        | one\nweb/0        | two\nweb/0        | \nweb/0        | three\n");
        let (mut lines, mut out) = (Lines::default(), vec![]);
        lines.take("a", &vec![b'x'; MAX_LINE * 3], &mut out);
        assert!(lines.rest.len() <= MAX_LINE && !out.is_empty(), "an endless line is cut");
    }
}
