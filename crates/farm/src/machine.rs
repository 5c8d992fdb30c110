//! The machine of this computer: where its files are, whether it runs, asking it.
//!
//! ```text
//!  FARM_HOME/machine.path  the data directory of the machine that was started last, if it is not the usual one
//!  FARM_HOME/node          the usual one
//!  FARM_HOME/dev-*         those of local networks that run now
//! ```
//! Guarantees: several machines are never mistaken for each other: who does not say which is asked to.

use crate::backend::{self, Answer, MachineStatus, Request, Talk};
use crate::config::{Paths, absolute};
use crate::exit::Failure;
use pasture_store::write_atomic;
use std::path::{Path, PathBuf};

/// Largest note of where a machine is: the longest path.
const MAX_NOTE_BYTES: u64 = 4096;
/// Most local networks that are looked at.
const MAX_NETWORKS: usize = 64;

/// Where a machine's files are unless somebody says otherwise.
pub(crate) fn usual(paths: &Paths) -> PathBuf {
    paths.data_dir.join("node")
}

/// Notes where the machine that starts now has its files.
pub(crate) fn note(paths: &Paths, data: &Path) -> Result<(), Failure> {
    paths.ensure_data_dir()?;
    write_atomic(&paths.machine_note(), data.as_os_str().as_encoded_bytes()).map_err(Failure::from)
}

/// Forgets the note, if it is of this machine.
pub(crate) fn forget(paths: &Paths, data: &Path) {
    if noted(paths).as_deref() == Some(data) {
        // It would only lead to a folder that is gone.
        let _ = std::fs::remove_file(paths.machine_note());
    }
}

fn noted(paths: &Paths) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    let path = paths.machine_note();
    std::fs::metadata(&path).ok().filter(|m| m.len() <= MAX_NOTE_BYTES)?;
    let bytes = std::fs::read(&path).ok()?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(bytes))).filter(|p| p.is_absolute())
}

/// Directories that may be machines', the likeliest first, each once.
fn candidates(paths: &Paths) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = noted(paths).into_iter().chain([usual(paths)]).collect();
    let entries = std::fs::read_dir(&paths.data_dir).into_iter().flatten().flatten();
    let networks = entries.filter(|e| e.file_name().to_string_lossy().starts_with("dev-")).take(MAX_NETWORKS);
    out.extend(networks.map(|e| e.path().join("provider")));
    let mut seen = std::collections::BTreeSet::new();
    out.retain(|p| seen.insert(p.clone()));
    out
}

/// The machines that run now.
pub(crate) async fn running(paths: &Paths) -> Vec<PathBuf> {
    let mut out = vec![];
    for data in candidates(paths) {
        if backend::is_running(&data).await {
            out.push(data);
        }
    }
    out
}

/// Whether a directory is that of a machine.
fn is_machine(data: &Path) -> bool {
    data.join("node.key").exists()
}

/// The one machine that is meant, running or not.
pub(crate) async fn meant(paths: &Paths, named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(named) = named {
        let named = absolute(named)?;
        // The folder of a local network has its machine within.
        let within = named.join("provider");
        return match (is_machine(&named), is_machine(&within)) {
            (true, _) => Ok(named),
            (false, true) => Ok(within),
            (false, false) => Err(none().next("is it the folder that farm up was given with --data?")),
        };
    }
    let running = running(paths).await;
    match running.as_slice() {
        [one] => return Ok(one.clone()),
        [] => {}
        several => {
            let failure = Failure::usage("several machines run on this computer: say which");
            return Err(several.iter().fold(failure, |f, data| f.next(format!("--data {}", data.display()))));
        }
    }
    candidates(paths).into_iter().find(|data| is_machine(data)).ok_or_else(none)
}

fn none() -> Failure {
    Failure::new("no-machine-here", "this computer offers no machine").next("offer it:  farm up")
}

/// Asks a machine; `None` if it does not run. What it waits for goes to `progress`.
pub(crate) async fn ask(data: &Path, request: &Request, mut progress: impl FnMut(backend::WaitsFor)) -> Result<Option<Answer>, Failure> {
    let Some(mut talk): Option<Talk> = backend::ask(data, request).await? else { return Ok(None) };
    loop {
        match talk.next().await? {
            Some(Answer::Progress { waits_for }) => progress(waits_for),
            Some(Answer::Failed { why }) => return Err(Failure::new("machine", crate::words::plainly(&why))),
            Some(answer) => return Ok(Some(answer)),
            None => return Err(Failure::new("machine", "the machine ended before it answered").next("look:  farm status")),
        }
    }
}

/// How the machines that run now are; those that do not answer are left out.
pub(crate) async fn all(paths: &Paths) -> Vec<MachineStatus> {
    let mut out = vec![];
    for data in running(paths).await {
        if let Ok(Some(Answer::Status { machine })) = ask(&data, &Request::Status, |_| ()).await {
            out.push(*machine);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Env;

    #[test]
    fn a_machine_is_found_where_it_was_started_last() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::of(&Env { home: Some(dir.path().into()), ..Env::default() }).unwrap();
        assert_eq!(candidates(&paths), [dir.path().join("node")]);
        note(&paths, Path::new("/elsewhere")).unwrap();
        std::fs::create_dir(dir.path().join("dev-1")).unwrap();
        let expected = [PathBuf::from("/elsewhere"), dir.path().join("node"), dir.path().join("dev-1/provider")];
        assert_eq!(candidates(&paths), expected);
        forget(&paths, Path::new("/other"));
        assert_eq!(noted(&paths).as_deref(), Some(Path::new("/elsewhere")));
        forget(&paths, Path::new("/elsewhere"));
        assert_eq!(noted(&paths), None);
    }
}
