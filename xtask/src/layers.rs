//! Compares the edges between our crates with `layers.toml`.
//!
//! Fails on an edge that is not listed, on a listed edge that no manifest has, on a crate that is not listed, and on an
//! outside dependency that belongs to one crate alone (the engine, the container client) or that no pure crate may have.
//! Edges for tests only are listed apart. Whether an edge is *used* by code is the `unused` check's business.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::{
    Findings, Repository,
    workspace::{Dependency, Package, short},
};

/// Where the layers live.
pub(crate) const FILE: &str = "layers.toml";

/// The whole of layers.toml.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layers {
    /// What holds for crates that decide without acting.
    pub(crate) pure: Pure,
    /// Our crates by short name.
    #[serde(rename = "crate")]
    crates: BTreeMap<String, Crate>,
    /// Outside dependencies that only some crates may have.
    #[serde(default)]
    only: Vec<Only>,
}

/// The pure crates.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pure {
    /// Which they are.
    pub(crate) crates: Vec<String>,
    /// Packages they never depend on, not even through a feature.
    dependencies: Vec<String>,
    /// What their code never names outside tests: a path and the reason.
    pub(crate) names: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Crate {
    why: String,
    /// Nothing may depend on it.
    #[serde(default)]
    top: bool,
    #[serde(default)]
    edges: BTreeMap<String, String>,
    #[serde(default)]
    test_edges: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Only {
    /// A package, or the beginning of several with a `*` at the end.
    package: String,
    crates: Vec<String>,
    why: String,
}

/// An edge between two of our crates: from, to, for tests only.
type Edge = (String, String, bool);

/// Reads layers.toml.
pub(crate) fn load(repository: &Repository) -> Result<Layers> {
    let file = repository.tree.get(FILE).context("layers.toml is missing")?;
    toml::from_str(&file.text).context(FILE)
}

/// Runs the check.
pub(crate) fn check(repository: &mut Repository, findings: &mut Findings) -> Result<()> {
    let layers = load(repository)?;
    let ours: Vec<&Package> = repository.workspace.ours().collect();
    let names: BTreeSet<String> = ours.iter().map(|package| package.short_name().to_owned()).collect();
    let edges: BTreeSet<Edge> = ours.iter().flat_map(|package| edges_of(package)).collect();
    compare(&layers, &names, &edges, findings);
    for package in ours {
        outside(&layers, package, findings);
    }
    Ok(())
}

fn edges_of(package: &Package) -> impl Iterator<Item = Edge> {
    let inside = package.dependencies.iter().filter(|dependency| dependency.path.is_some());
    inside.map(|dependency| (package.short_name().to_owned(), short(&dependency.name).to_owned(), is_dev(dependency)))
}

fn is_dev(dependency: &Dependency) -> bool {
    dependency.kind.as_deref() == Some("dev")
}

fn compare(layers: &Layers, names: &BTreeSet<String>, edges: &BTreeSet<Edge>, findings: &mut Findings) {
    for name in names.iter().filter(|name| !layers.crates.contains_key(*name)) {
        findings.at(FILE, format_args!("the crate {name} is not listed"));
    }
    for (name, entry) in &layers.crates {
        if !names.contains(name) {
            findings.at(FILE, format_args!("there is no crate {name}"));
        }
        if entry.why.trim().is_empty() {
            findings.at(FILE, format_args!("the crate {name} does not say why it is"));
        }
        let listed = entry.edges.iter().map(|edge| (edge, false)).chain(entry.test_edges.iter().map(|edge| (edge, true)));
        for ((to, why), test) in listed {
            if why.trim().is_empty() {
                findings.at(FILE, format_args!("the edge {name} -> {to} has no reason"));
            }
            if !edges.contains(&(name.clone(), to.clone(), test)) {
                findings.at(FILE, format_args!("no manifest has the listed {}edge {name} -> {to}", if test { "test " } else { "" }));
            }
        }
    }
    for (from, to, test) in edges {
        let Some(entry) = layers.crates.get(from) else { continue };
        let listed = if *test { &entry.test_edges } else { &entry.edges };
        if !listed.contains_key(to) {
            findings.at(FILE, format_args!("the {}edge {from} -> {to} is not allowed", if *test { "test " } else { "" }));
        }
        if !test && layers.crates.get(to).is_some_and(|entry| entry.top) {
            findings.at(FILE, format_args!("{from} depends on {to}, on which nothing may depend"));
        }
    }
}

fn outside(layers: &Layers, package: &Package, findings: &mut Findings) {
    let own = package.short_name();
    let pure = layers.pure.crates.iter().any(|name| name == own);
    for dependency in package.dependencies.iter().filter(|dependency| dependency.path.is_none()) {
        let name = &dependency.name;
        if pure && !is_dev(dependency) && layers.pure.dependencies.iter().any(|pattern| matches(pattern, name)) {
            findings.at(own, format_args!("is pure and may not depend on {name}"));
        }
        for rule in layers.only.iter().filter(|rule| matches(&rule.package, name)) {
            if !rule.crates.iter().any(|allowed| allowed == own) {
                findings.at(own, format_args!("may not depend on {name}: {}", rule.why));
            }
        }
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        only = [{ package = "engine-*", crates = ["chain"], why = "one crate pays for it" }]
        [pure]
        crates = ["types"]
        dependencies = ["tokio"]
        names = {}
        [crate.types]
        why = "words"
        [crate.chain]
        why = "order"
        edges = { types = "transactions", rt = "tasks" }
        [crate.sim]
        why = "many nodes"
        top = true
    "#;

    fn layers() -> Layers {
        toml::from_str(TEXT).unwrap()
    }

    fn found(names: &[&str], edges: &[(&str, &str, bool)]) -> Vec<String> {
        let mut findings = Findings::default();
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let edges = edges.iter().map(|(from, to, test)| ((*from).to_owned(), (*to).to_owned(), *test)).collect();
        compare(&layers(), &names, &edges, &mut findings);
        findings.0
    }

    #[test]
    fn listed_edges_that_exist_are_fine() {
        assert_eq!(found(&["types", "chain", "sim"], &[("chain", "types", false), ("chain", "rt", false)]), [""; 0]);
    }

    #[test]
    fn every_difference_is_found() {
        let all = found(&["types", "chain", "new"], &[("chain", "types", true), ("types", "sim", false)]).join("\n");
        for part in [
            "crate new is not listed",
            "no crate sim",
            "listed edge chain -> types",
            "listed edge chain -> rt",
            "test edge chain -> types is not allowed",
            "types -> sim is not allowed",
            "nothing may depend",
        ] {
            assert!(all.contains(part), "{part} not in\n{all}");
        }
    }

    #[test]
    fn outside_dependencies_have_their_place() {
        let dependency =
            |name: &str, kind: Option<&str>| Dependency { name: name.into(), kind: kind.map(str::to_owned), rename: None, path: None };
        let package = Package {
            id: String::new(),
            name: "pasture-types".into(),
            version: "0".into(),
            license: None,
            source: None,
            manifest_path: "Cargo.toml".into(),
            dependencies: vec![dependency("tokio", None), dependency("engine-core", None), dependency("tokio", Some("dev"))],
        };
        let mut findings = Findings::default();
        outside(&layers(), &package, &mut findings);
        assert_eq!(findings.0.len(), 2, "{findings:?}");
    }
}
