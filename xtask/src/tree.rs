//! The text files of the working tree, read once and lexed once.
//!
//! Takes what git tracks or would track; without git (an unpacked archive) it walks the folder and leaves out what
//! no repository tracks. Files over [`MAX_FILE_BYTES`] or not UTF-8 are not text and are left out.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::lexer::Lexed;

/// Larger files are data, not text that anyone wrote.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Folders that hold no sources when there is no git to say so.
const NOT_SOURCES: [&str; 4] = [".git", "target", ".farm", "node_modules"];

/// A text file.
pub(crate) struct File {
    /// Its path from the root, with `/`.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
    /// Its tokens, for Rust files.
    pub(crate) rust: Option<Lexed>,
}

/// All text files, in order of their paths.
pub(crate) struct Tree {
    files: BTreeMap<String, File>,
    /// Every path, text or not.
    paths: Vec<String>,
}

impl Tree {
    /// Reads the tree under a root.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut paths = match listed_by_git(root) {
            Some(paths) => paths,
            None => walked(root)?,
        };
        paths.retain(|path| root.join(path).is_file());
        paths.sort();
        let mut tree = Self { files: BTreeMap::new(), paths };
        for path in tree.paths.clone() {
            let full = root.join(&path);
            let size = std::fs::metadata(&full).with_context(|| path.clone())?.len();
            if size > MAX_FILE_BYTES {
                continue;
            }
            if let Ok(text) = String::from_utf8(std::fs::read(&full).with_context(|| path.clone())?) {
                tree.add(path, text);
            }
        }
        tree.mark_test_modules();
        Ok(tree)
    }

    /// A tree of given files, for tests.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self { files: BTreeMap::new(), paths: files.iter().map(|(path, _)| (*path).to_owned()).collect() };
        for (path, text) in files {
            tree.add((*path).to_owned(), (*text).to_owned());
        }
        tree.mark_test_modules();
        tree
    }

    fn add(&mut self, path: String, text: String) {
        let rust = path.ends_with(".rs").then(|| {
            let mut lexed = Lexed::new(&text);
            if is_test_path(&path) {
                lexed.mark_all_test();
            }
            lexed
        });
        self.files.insert(path.clone(), File { path, text, rust });
    }

    /// A file declared by `#[cfg(test)] mod name;` is test code although nothing in it says so.
    fn mark_test_modules(&mut self) {
        let mut test_files = Vec::new();
        for file in self.files.values() {
            let Some(lexed) = &file.rust else { continue };
            let base = module_folder(&file.path);
            for name in &lexed.test_modules {
                test_files.push(format!("{base}/{name}.rs"));
                test_files.push(format!("{base}/{name}/mod.rs"));
            }
        }
        for path in test_files {
            if let Some(lexed) = self.files.get_mut(&path).and_then(|file| file.rust.as_mut()) {
                lexed.mark_all_test();
            }
        }
    }

    /// All text files.
    pub(crate) fn files(&self) -> impl Iterator<Item = &File> {
        self.files.values()
    }

    /// All Rust files with their tokens.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&File, &Lexed)> {
        self.files.values().filter_map(|file| file.rust.as_ref().map(|lexed| (file, lexed)))
    }

    /// All Markdown files.
    pub(crate) fn markdown(&self) -> impl Iterator<Item = &File> {
        self.files.values().filter(|file| file.path.ends_with(".md"))
    }

    /// One text file.
    pub(crate) fn get(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    /// Whether a file or a folder of that path is in the repository.
    pub(crate) fn exists(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        path.is_empty() || self.paths.iter().any(|known| known == path || known.starts_with(&folder))
    }
}

fn is_test_path(path: &str) -> bool {
    path.contains("/tests/") || path.contains("/benches/") || path.ends_with("/tests.rs") || path.contains("/src/tests/")
}

/// The folder in which the modules declared by a file live.
fn module_folder(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
        other => format!("{folder}/{}", other.trim_end_matches(".rs")),
    }
}

fn listed_by_git(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let paths: Vec<String> = text.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    (!paths.is_empty()).then_some(paths)
}

fn walked(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder)).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let name = entry.file_name();
            let path = folder.join(&name);
            let kind = entry.file_type()?;
            if kind.is_dir() && !NOT_SOURCES.iter().any(|skipped| name == *skipped) {
                folders.push(path);
            } else if kind.is_file() {
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_under_cfg_test_are_test_files() {
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", "//! A.\n#[cfg(test)]\nmod helpers;\nmod real;"),
            ("crates/a/src/helpers.rs", "//! H.\nfn f() {}"),
            ("crates/a/src/real.rs", "//! R.\n#[cfg(test)]\nmod inner;"),
            ("crates/a/src/real/inner.rs", "//! I."),
            ("crates/a/tests/black.rs", "//! B."),
        ]);
        let is_test = |path: &str| tree.get(path).unwrap().rust.as_ref().unwrap().is_all_test();
        assert!(is_test("crates/a/src/helpers.rs"));
        assert!(is_test("crates/a/src/real/inner.rs"));
        assert!(is_test("crates/a/tests/black.rs"));
        assert!(!is_test("crates/a/src/real.rs"));
        assert!(!is_test("crates/a/src/lib.rs"));
    }

    #[test]
    fn folders_exist_when_a_file_is_in_them() {
        let tree = Tree::of(&[("docs/adr/README.md", "")]);
        assert!(tree.exists("docs/adr"));
        assert!(tree.exists("docs/adr/README.md"));
        assert!(!tree.exists("docs/ad"));
    }
}
