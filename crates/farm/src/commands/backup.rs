//! `farm backup` and `farm restore`: a node's folder into one locked file, and back.
//!
//! Guarantees: nothing is overwritten; a file is checked as a whole before anything of it is written. What a backup lacks, and what a
//! restored validator must not do, is said each time.

use crate::args::{BackupArgs, RestoreArgs};
use crate::backend::{self, BackupAbout, Restored, Scope};
use crate::config::absolute;
use crate::exit::{Exit, Failure, Outcome};
use crate::passphrase::Asker;
use crate::render::Progress;
use crate::render::number::{count, duration};
use crate::session::{App, now_ms};
use indicatif::ProgressBar;
use pasture_rt::{TaskKind, spawn_blocking};
use pasture_types::resources::display_bytes;
use pasture_types::{Millis, Timestamp};
use std::time::Instant;

/// `farm backup`.
pub(crate) async fn backup(app: &App, args: &BackupArgs) -> Outcome {
    let (data, file) = (absolute(&args.data)?, absolute(&args.file)?);
    if file.symlink_metadata().is_ok() {
        return Err(Failure::new("exists", format!("{} is there already", file.display())).next("name another file, or move it away"));
    }
    let scope = if args.keys_only { Scope::Keys } else { Scope::Whole };
    let passphrase = Asker::new(app.out, &app.env).choose("the backup")?;
    let mut progress = Progress::new(app.out);
    progress.transfer("backing up", 1);
    let (bar, begun) = (progress.handle(), Instant::now());
    let (from, to) = (data.clone(), file.clone());
    let made =
        off_thread(move || backend::backup(&from, &to, scope, &passphrase, &mut |done, of| show_bar(bar.as_ref(), done, of))).await?;
    progress.clear();
    let (took, size) = (millis(begun), std::fs::metadata(&file).map_or(0, |m| m.len()));
    let value = serde_json::json!({
        "file": file, "file_bytes": size, "of": made.about, "files": made.files.len(), "bytes": made.bytes(), "took_ms": took,
    });
    app.out.either(&value, || {
        let files = count(made.files.len() as u64, "file");
        let all = display_bytes(made.bytes());
        format!("✓ {}: {files}, {all} in {}, {}\n  {}", file.display(), display_bytes(size), duration(took), what(&made.about))
    });
    if args.keys_only {
        app.out.note("  the ledger is not in it: after a restore the node fetches all blocks from the others");
    }
    app.out.note("  it holds secrets, locked by the passphrase: without that nobody opens it, you neither");
    app.out.note("  your account's key is not in it:  farm keys backup FILE");
    Ok(Exit::Ok)
}

/// `farm restore`.
pub(crate) async fn restore(app: &App, args: &RestoreArgs) -> Outcome {
    let (data, file) = (absolute(&args.data)?, absolute(&args.file)?);
    let asker = Asker::new(app.out, &app.env);
    let passphrase = asker.ask("Passphrase of the backup: ")?.ok_or_else(|| {
        Failure::new("locked", "a backup opens with its passphrase, and nobody can be asked here for it")
            .next("run it at a terminal")
            .next("or name a file with the passphrase, which only you can read:  --passphrase-file FILE")
    })?;
    let mut progress = Progress::new(app.out);
    progress.transfer("checking, then restoring", 1);
    let (bar, begun) = (progress.handle(), Instant::now());
    let (from, to) = (file.clone(), data.clone());
    let done = off_thread(move || backend::restore(&from, &to, &passphrase, &mut |done, of| show_bar(bar.as_ref(), done, of))).await?;
    progress.clear();
    let took = millis(begun);
    let Restored { manifest, votes_after } = &done;
    let value = serde_json::json!({
        "data": data, "of": manifest.about, "files": manifest.files.len(), "bytes": manifest.bytes(), "took_ms": took,
        "votes_after": votes_after,
    });
    app.out.either(&value, || {
        let (files, all) = (count(manifest.files.len() as u64, "file"), display_bytes(manifest.bytes()));
        format!("✓ {}: {files}, {all}, {}\n  {}", data.display(), duration(took), what(&manifest.about))
    });
    advise(app, &manifest.about, votes_after.is_some());
    if manifest.about.validator.is_some() && manifest.about.network.is_some() {
        app.out.note(&format!("  start it:  farm validator run --data {}", data.display()));
    }
    Ok(Exit::Ok)
}

/// What follows from where the backup comes from.
fn advise(app: &App, about: &BackupAbout, waits: bool) {
    let age = duration(Timestamp(now_ms()).since(about.made));
    app.out.note(&format!("  it is as the node was {age} ago"));
    if about.validator.is_some() {
        app.out.warn("! never run this validator in two places: two that sign with one key contradict each other, and lose their deposit");
    }
    if waits {
        app.out.note("  it follows the others first, and votes from the next term of the engine on, so that it cannot contradict what it");
        app.out.note("  signed after the backup");
    } else if about.validator.is_some() && about.network.is_some() {
        app.out.warn("! its network has no other validator: what happened after the backup is lost");
    }
    if !about.whole && about.network.is_some() {
        app.out.note("  its ledger was not in the backup: it fetches all blocks from the others");
    }
    if about.machine.is_some() {
        app.out.note("  the containers and volumes of its jobs are not in a backup; jobs that ran since the backup are told to be lost");
    }
}

/// What a backup is of, in a line.
fn what(about: &BackupAbout) -> String {
    let mut parts = Vec::new();
    if let Some(key) = &about.validator {
        let of = about.name.as_ref().map_or(String::new(), |name| format!(" of network {name}"));
        parts.push(format!("validator {}{of}", key.short()));
    }
    if let Some(key) = &about.machine {
        parts.push(format!("machine {}", key.short()));
    }
    let scope = if about.whole { "whole" } else { "keys and addresses" };
    format!("{}, {scope}", parts.join(" and "))
}

fn millis(begun: Instant) -> Millis {
    Millis(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX))
}

fn show_bar(bar: Option<&ProgressBar>, done: u64, of: u64) {
    if let Some(bar) = bar {
        bar.set_length(of);
        bar.set_position(done);
    }
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let done = spawn_blocking(TaskKind::ClientFollow, work).join().await;
    done.unwrap_or_else(|| Err(Failure::new("internal", "the copy broke off")))
}
