//! `cargo xtask sbom`: what the released program is built from, as a CycloneDX 1.5 document on stdout.
//!
//! Guarantees: exactly the packages that `cargo metadata` resolves for the program on the platform we ship for, without test
//! and build-script dependencies; the same lock file makes the same document (no time, no serial number).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::workspace::{Package, Workspace};

/// The package whose binary is released.
const RELEASED: &str = "pasture-farm";

/// The document.
pub(crate) fn document(workspace: &Workspace) -> Result<Value> {
    let released = workspace.ours().find(|package| package.name == RELEASED).with_context(|| format!("there is no {RELEASED}"))?;
    let needs = workspace.needed_by(&released.id)?;
    let packages: BTreeMap<&str, &Package> =
        workspace.ours().chain(workspace.foreign()).map(|package| (package.id.as_str(), package)).collect();
    let parts: Vec<&Package> = needs.keys().filter(|id| **id != released.id).filter_map(|id| packages.get(id.as_str()).copied()).collect();
    let links: Vec<Value> = needs
        .iter()
        .map(|(id, on)| {
            let on: BTreeSet<String> = on.iter().filter_map(|id| packages.get(id.as_str()).map(|package| reference(package))).collect();
            json!({"ref": packages.get(id.as_str()).map(|package| reference(package)), "dependsOn": on})
        })
        .collect();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component("application", released)},
        "components": parts.iter().map(|package| component("library", package)).collect::<Vec<_>>(),
        "dependencies": links,
    }))
}

fn reference(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version)
}

fn component(kind: &str, package: &Package) -> Value {
    json!({
        "type": kind,
        "bom-ref": reference(package),
        "name": package.name,
        "version": package.version,
        "purl": reference(package),
        "licenses": package.license.iter().map(|expression| json!({"expression": expression.replace('/', " OR ")})).collect::<Vec<_>>(),
    })
}
