//! Finds dependencies that a manifest names and no Rust file of that crate mentions.
//!
//! A mention is the dependency's name as a word in code (not in a comment or a string) of any file under the crate.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::{Findings, Repository};

/// Runs the check.
pub(crate) fn check(repository: &mut Repository, findings: &mut Findings) -> Result<()> {
    for package in repository.workspace.ours() {
        let folder = repository.workspace.folder(package);
        let inside = format!("{folder}/");
        let mut mentioned = BTreeSet::new();
        for (_, lexed) in repository.tree.rust().filter(|(file, _)| file.path.starts_with(&inside)) {
            mentioned.extend(lexed.tokens.iter().filter_map(|token| token.word()));
        }
        for dependency in &package.dependencies {
            let name = dependency.rename.as_ref().unwrap_or(&dependency.name).replace('-', "_");
            if mentioned.contains(name.as_str()) {
                continue;
            }
            let place = format!("{}::{}", package.short_name(), dependency.name);
            if !repository.exceptions.allows("unused", &place) {
                findings.at(&format!("{folder}/Cargo.toml"), format_args!("nothing in this crate mentions {}", dependency.name));
            }
        }
    }
    Ok(())
}
