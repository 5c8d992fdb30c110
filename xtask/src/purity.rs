//! The pure crates name no clock, file, socket, environment or hash map, and nobody but `rt` names `tokio::spawn`.
//!
//! It looks at names, not at behaviour: a pure crate that gets at a clock through a dependency is stopped by the list
//! of dependencies in layers.toml instead. Test code of the pure crates is free.

use anyhow::Result;

use crate::{Findings, Repository, layers};

/// The only crate that may start tasks.
const SPAWNER: &str = "crates/rt/";
/// How tasks are started behind its back.
const SPAWNS: [&[&str]; 4] =
    [&["tokio", "spawn"], &["tokio", "task", "spawn"], &["tokio", "task", "spawn_local"], &["tokio", "task", "spawn_blocking"]];

/// Runs the check.
pub(crate) fn check(repository: &mut Repository, findings: &mut Findings) -> Result<()> {
    let layers = layers::load(repository)?;
    for name in &layers.pure.crates {
        let folder = format!("crates/{name}/src/");
        for (file, lexed) in repository.tree.rust().filter(|(file, _)| file.path.starts_with(&folder)) {
            for (forbidden, why) in &layers.pure.names {
                let path: Vec<&str> = forbidden.split("::").collect();
                let lines = lexed.lines_naming(&path, false);
                if !lines.is_empty() && repository.exceptions.allows("purity", &format!("{}::{forbidden}", file.path)) {
                    continue;
                }
                for line in lines {
                    findings.line(&file.path, line, format_args!("{name} is pure and may not name {forbidden}: {why}"));
                }
            }
        }
    }
    for (file, lexed) in repository.tree.rust().filter(|(file, _)| !file.path.starts_with(SPAWNER)) {
        for path in SPAWNS {
            for line in lexed.lines_naming(path, false) {
                findings.line(&file.path, line, format_args!("only crates/rt names {}: spawn through it", path.join("::")));
            }
        }
    }
    Ok(())
}
