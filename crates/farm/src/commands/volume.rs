//! `farm volume`: what outlives a job on the machine where it ran.
//!
//! Guarantees: a volume that is on two machines is never guessed: the machine has to be named. What was removed or restored is said only
//! when the machine has recorded it.

use crate::args::{OnArgs, VolumeArgs, VolumeCommand};
use crate::commands::deposit::one_machine;
use crate::exit::{Exit, Failure, Outcome};
use crate::render::Table;
use crate::render::number::duration;
use crate::session::{App, Session};
use crate::volumes::{self, Found, Placed};
use pasture_api::ApiError;
use pasture_types::Timestamp;
use pasture_types::keep::check_kept_name;
use pasture_types::resources::display_bytes;

const DAY_MS: u64 = 86_400_000;

/// Runs the command.
pub(crate) async fn run(app: &App, args: &VolumeArgs) -> Outcome {
    match &args.command {
        VolumeCommand::List { on } => list(app, on).await,
        VolumeCommand::Show { name, on } => show(app, name, on).await,
        VolumeCommand::Rm { name, all, on } => remove(app, name, *all, on).await,
        VolumeCommand::Snapshot { name, snapshot, on } => take(app, name, snapshot.as_deref(), on).await,
        VolumeCommand::Restore { name, from, to, on } => restore(app, name, from, to.as_deref(), on).await,
    }
}

async fn open(app: &App, on: &OnArgs) -> Result<(Session, Found), Failure> {
    let session = Session::open(app).await?;
    session.ready().await?;
    let only = match &on.node {
        Some(machine) => Some(one_machine(&session, machine).await?),
        None => None,
    };
    let found = volumes::find(&session, only).await?;
    for node in &found.silent {
        session.out.warn(&format!("! machine {} does not answer now: what you have there is not shown", node.short()));
    }
    Ok((session, found))
}

/// The one volume that is meant.
async fn one(app: &App, name: &str, on: &OnArgs) -> Result<(Session, Placed), Failure> {
    named(name)?;
    let (session, found) = open(app, on).await?;
    let mut there = found.volumes.into_iter().filter(|p| p.view.name == name);
    match (there.next(), there.next()) {
        (Some(placed), None) => Ok((session, placed)),
        (Some(one), Some(other)) => Err(Failure::new(
            "volume-twice",
            format!("there is a volume `{name}` on machine {} and on machine {}", one.node.short(), other.node.short()),
        )
        .next(format!("say which one:  --node {}", one.node))),
        (None, _) => Err(Failure::new("no-volume", format!("you have no volume `{name}`")).next("see which you have:  farm volume ls")),
    }
}

fn named(name: &str) -> Result<(), Failure> {
    check_kept_name(name).map_err(Failure::usage)
}

/// A time in UTC: `2026-11-21 19:30`.
fn utc(at: Timestamp) -> String {
    let (year, month, day) = civil(at.0 / DAY_MS);
    let minute = at.0 % DAY_MS / 60_000;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", minute / 60, minute % 60)
}

/// Year, month and day of a day since 1970 (the usual computation with years that begin in March).
const fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

fn kept(placed: &Placed, now: Timestamp) -> String {
    match placed.view.kept_until {
        Some(until) => format!("{} UTC ({})", utc(until), duration(until.since(now))),
        None => "in use".into(),
    }
}

async fn list(app: &App, on: &OnArgs) -> Outcome {
    let (session, found) = open(app, on).await?;
    if app.out.json {
        app.out.json(&found.volumes);
        return Ok(Exit::Ok);
    }
    if found.volumes.is_empty() {
        app.out.note("you have no volumes; a job makes one:  farm run --volume NAME:/PATH ...");
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["NAME", "SIZE", "ON DISK", "SNAPSHOTS", "MACHINE", "KEPT UNTIL"]);
    for p in &found.volumes {
        let v = &p.view;
        table.row([
            v.name.clone(),
            display_bytes(v.bytes),
            display_bytes(v.stored_bytes),
            v.snapshots.len().to_string(),
            p.node.short(),
            kept(p, session.time()),
        ]);
    }
    app.out.data(table.text().trim_end());
    Ok(Exit::Ok)
}

async fn show(app: &App, name: &str, on: &OnArgs) -> Outcome {
    let (session, placed) = one(app, name, on).await?;
    session.out.either(&placed, || {
        let v = &placed.view;
        let mut table = Table::pairs();
        let mut row = |name: &str, text: String| table.row([name.into(), text]);
        row("volume", v.name.clone());
        row("size", format!("{}, {} on the disk", display_bytes(v.bytes), display_bytes(v.stored_bytes)));
        row("machine", placed.node.to_string());
        row("made", format!("{} UTC", utc(v.created)));
        for lease in &v.used_by {
            row("used by", format!("{lease}{}", if v.read_only { ", read only" } else { "" }));
        }
        row("kept until", kept(&placed, session.time()));
        for s in &v.snapshots {
            row("snapshot", format!("{}@{}, {} UTC, {} on the disk", v.name, s.name, utc(s.created), display_bytes(s.stored_bytes)));
        }
        table.text()
    });
    Ok(Exit::Ok)
}

/// A refusal of the machine's, with what can be done about it.
fn refused(error: ApiError, name: &str) -> Failure {
    let failure = Failure::from(error);
    match failure.code.as_str() {
        "in-use" => failure.next("wait for that job, or stop it; see which:  farm ps"),
        "has-snapshots" => failure.next(format!("remove both:  farm volume rm {name} --all")),
        "no-snapshot" => failure.next(format!("see which there are:  farm volume show {name}")),
        "volumes-full" | "too-many" => failure.next("remove what you no longer need:  farm volume ls, farm volume rm NAME[@SNAPSHOT]"),
        "exists" => failure.next("choose another name, or remove that one first"),
        _ => failure,
    }
}

async fn remove(app: &App, text: &str, all: bool, on: &OnArgs) -> Outcome {
    let (name, snapshot) = text.split_once('@').map_or((text, None), |(name, snapshot)| (name, Some(snapshot)));
    if let Some(snapshot) = snapshot {
        named(snapshot)?;
    }
    let (session, placed) = one(app, name, on).await?;
    let client = volumes::client(&session, placed.node);
    let done = match snapshot {
        Some(snapshot) => client.remove_snapshot(name, snapshot).await,
        None => client.remove_volume(name, all).await,
    };
    done.map_err(|e| refused(e, name))?;
    if snapshot.is_none() {
        volumes::forget(&session, placed.node, name);
    }
    session.out.note(&format!("✓ {text} is gone"));
    Ok(Exit::Ok)
}

async fn take(app: &App, name: &str, snapshot: Option<&str>, on: &OnArgs) -> Outcome {
    snapshot.map_or(Ok(()), named)?;
    let (session, placed) = one(app, name, on).await?;
    let snapshot = snapshot.map_or_else(|| utc(session.time()).replace(' ', "-").replace(':', ""), str::to_owned);
    volumes::client(&session, placed.node).snapshot(name, &snapshot).await.map_err(|e| refused(e, name))?;
    let value = serde_json::json!({"volume": name, "snapshot": snapshot, "node": placed.node});
    if session.out.json {
        session.out.json(&value);
    }
    session
        .out
        .note(&format!("✓ {name}@{snapshot} is kept as long as {name} is; get it back:  farm volume restore {name} --from {snapshot}"));
    Ok(Exit::Ok)
}

async fn restore(app: &App, name: &str, from: &str, to: Option<&str>, on: &OnArgs) -> Outcome {
    named(from)?;
    to.map_or(Ok(()), named)?;
    let (session, placed) = one(app, name, on).await?;
    volumes::client(&session, placed.node).restore(name, from, to).await.map_err(|e| refused(e, name))?;
    let target = to.unwrap_or(name);
    session.out.note(&format!("✓ {target} has the content of {name}@{from}"));
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01 00:00"),
            (951_782_399_000, "2000-02-28 23:59"),
            (951_782_400_000, "2000-02-29 00:00"),
            (1_709_164_800_000, "2024-02-29 00:00"),
            (1_795_392_000_000, "2026-11-23 00:00"),
            (4_102_444_740_000, "2099-12-31 23:59"),
        ] {
            assert_eq!(utc(Timestamp(ms)), text);
        }
    }
}
