//! What `cargo metadata` says: the crates of this repository and everything they are built from on Linux.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The platform we ship for; dependencies of other platforms never reach a user.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";
/// What our crates are called before their own name.
const PREFIX: &str = "pasture-";

/// A dependency as a manifest states it.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    /// The package.
    pub(crate) name: String,
    /// Nothing, `dev` or `build`.
    pub(crate) kind: Option<String>,
    /// What the code calls it, if not by its name.
    pub(crate) rename: Option<String>,
    /// Set for crates of this repository.
    pub(crate) path: Option<PathBuf>,
}

/// A package, ours or not.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    /// What cargo calls it in the graph.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// Its licence expression.
    pub(crate) license: Option<String>,
    /// Where it comes from; nothing for our own.
    pub(crate) source: Option<String>,
    /// Its manifest.
    pub(crate) manifest_path: PathBuf,
    /// What it depends on.
    pub(crate) dependencies: Vec<Dependency>,
}

impl Package {
    /// Our short name for one of our crates: `ledger` for `pasture-ledger`.
    pub(crate) fn short_name(&self) -> &str {
        short(&self.name)
    }
}

/// A package's name as layers.toml says it.
pub(crate) fn short(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

/// Who uses whom, as resolved by the lock file.
#[derive(Debug, Deserialize)]
struct Graph {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Debug, Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Debug, Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

/// All packages of a build.
#[derive(Debug, Deserialize)]
pub(crate) struct Workspace {
    packages: Vec<Package>,
    resolve: Graph,
    #[serde(skip)]
    root: PathBuf,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--filter-platform", PLATFORM])
            .current_dir(root)
            .output()
            .context("cannot run cargo")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        }
        let mut workspace: Self = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
        workspace.root = root.to_owned();
        Ok(workspace)
    }

    /// The packages that end up in a package's program, itself included, each with those it uses directly.
    pub(crate) fn needed_by(&self, id: &str) -> Result<BTreeMap<String, Vec<String>>> {
        let nodes: BTreeMap<&str, &Node> = self.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
        let mut needed = BTreeMap::new();
        let mut waiting = vec![id];
        while let Some(id) = waiting.pop() {
            if needed.contains_key(id) {
                continue;
            }
            let node = nodes.get(id).with_context(|| format!("{id} is not in the graph"))?;
            let used = node.deps.iter().filter(|edge| edge.dep_kinds.iter().any(|kind| kind.kind.is_none()));
            let used: Vec<&str> = used.map(|edge| edge.pkg.as_str()).collect();
            needed.insert(id.to_owned(), used.iter().map(|id| (*id).to_owned()).collect());
            waiting.extend(used);
        }
        Ok(needed)
    }

    /// Our own packages.
    pub(crate) fn ours(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.source.is_none())
    }

    /// Everybody else's packages.
    pub(crate) fn foreign(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.source.is_some())
    }

    /// The folder of one of our packages, from the root.
    pub(crate) fn folder(&self, package: &Package) -> String {
        let folder = package.manifest_path.parent().unwrap_or(&self.root);
        folder.strip_prefix(&self.root).unwrap_or(folder).to_string_lossy().into_owned()
    }
}

/// The root of the repository: where this program's own sources are, one folder up. Asked of cargo at run time, since a target
/// folder shared by several clones may hold a program that another of them built.
pub(crate) fn root() -> Result<PathBuf> {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    Ok(own.parent().context("xtask has no parent folder")?.to_owned())
}
