//! `farm ledger export` and `import`: a ledger into a file, and a file into a network's folder.
//!
//! Guarantees: a file appears whole and checked, or not at all, and none is overwritten; an import checks everything before it
//! changes anything.

use crate::backend::{self, Moved};
use crate::exit::{Exit, Failure, Outcome};
use crate::render::Progress;
use crate::render::number::count;
use crate::session::App;
use crate::words::plainly;
use futures::StreamExt as _;
use indicatif::ProgressBar;
use pasture_rt::{TaskKind, spawn_blocking};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// `farm ledger export`.
pub(crate) async fn export(app: &App, file: &Path, data: Option<&Path>) -> Outcome {
    if file.exists() {
        return Err(Failure::usage(format!("{} exists already: name another file, or move it away", file.display())));
    }
    let moved = match data {
        Some(data) => {
            app.out.note(&format!("reading the ledger in {} ...", data.display()));
            let (data, target) = (data.to_path_buf(), file.to_path_buf());
            off_thread(move || backend::export(&data, &target)).await?
        }
        None => fetch(app, file).await?,
    };
    // A file of the network that we talk to must be of the network whose validators we trust.
    if let (None, Some(trusted)) = (data, app.trusted()?)
        && *trusted.validators().zone() != moved.zone.0
    {
        return Err(Failure::new("unproven", format!("do not believe this gateway: {} is another network's ledger", file.display())));
    }
    show(app, "exported", file, &moved, &[]);
    Ok(Exit::Ok)
}

/// Gets the file of a running network, and lets nobody see it before it is whole.
async fn fetch(app: &App, file: &Path) -> Result<Moved, Failure> {
    let mut pieces = app.client()?.export().await?;
    let dir = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut temp = tempfile::NamedTempFile::new_in(dir).map_err(|e| Failure::io("create a file in", dir, &e))?;
    let mut progress = Progress::new(app.out);
    progress.step("fetching the ledger");
    while let Some(piece) = pieces.next().await {
        temp.write_all(&piece?).map_err(|e| Failure::io("write", file, &e))?;
    }
    temp.as_file().sync_all().map_err(|e| Failure::io("write", file, &e))?;
    let bar = reading(&mut progress, temp.path(), 1);
    let path = temp.path().to_path_buf();
    let moved = off_thread(move || backend::verify_export(&path, &mut |done| position(bar.as_ref(), done))).await;
    let moved = moved.map_err(|e| e.next("the network went away, or does not tell the truth: export again"))?;
    temp.persist_noclobber(file).map_err(|e| Failure::io("create", file, &e.error))?;
    pasture_store::sync_dir(dir)?;
    Ok(moved)
}

/// `farm ledger import`.
pub(crate) async fn import(app: &App, file: &Path, data: &Path, keys: Option<&Path>) -> Outcome {
    let mut progress = Progress::new(app.out);
    let bar = reading(&mut progress, file, 1);
    let (from, to, keys): (PathBuf, PathBuf, Option<PathBuf>) = (file.into(), data.into(), keys.map(Into::into));
    let imported = off_thread(move || backend::import(&from, &to, keys.as_deref(), &mut |done| position(bar.as_ref(), done))).await?;
    progress.clear();
    show(app, "imported", data, &imported.moved, &imported.checked);
    let run = if imported.several { "farm validator run" } else { "farm dev" };
    app.out.note(&format!("  next     {run} --data {}", data.display()));
    app.out.note("  the network that was exported must not run any more: both would sign blocks with the same keys");
    Ok(Exit::Ok)
}

/// A bar for reading a file so many times.
fn reading(progress: &mut Progress, file: &Path, times: u64) -> Option<ProgressBar> {
    let size = std::fs::metadata(file).map_or(0, |m| m.len());
    progress.transfer("checking the ledger", size.saturating_mul(times));
    progress.handle()
}

fn position(bar: Option<&ProgressBar>, done: u64) {
    if let Some(bar) = bar {
        bar.set_position(done);
    }
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let done = spawn_blocking(TaskKind::ClientFollow, work).join().await;
    done.unwrap_or_else(|| Err(Failure::new("internal", "reading the ledger broke off")))
}

fn show(app: &App, what: &str, place: &Path, moved: &Moved, checked: &[String]) {
    let (votes, validators) = moved.votes;
    let value = serde_json::json!({
        "path": place, "network": moved.zone, "height": moved.height, "state_root": hex::encode(moved.state_root),
        "entries": moved.entries, "digest": hex::encode(moved.digest), "votes": votes, "validators": validators, "checked": checked,
    });
    app.out.either(&value, || {
        let mut text = format!(
            "✓ {what}: {}\n  network {} at block {}, signed by {votes} of {}\n  {}, digest {}",
            place.display(),
            moved.zone.short(),
            moved.height,
            count(validators as u64, "validator"),
            count(moved.entries, "record"),
            hex::encode(moved.digest)
        );
        for name in checked {
            text.push_str(&format!("\n  ✓ {}", plainly(name)));
        }
        text
    });
}
