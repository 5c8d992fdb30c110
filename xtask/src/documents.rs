//! Keeps documents true: links and file mentions resolve, the life of a job names code that exists, decisions are
//! indexed, changes are written down, and no file names a path of somebody's machine.

use std::collections::BTreeSet;

use crate::{
    Findings, Repository,
    tree::{File, Tree},
};

/// The document whose table follows a job through the code.
const ARCHITECTURE: &str = "ARCHITECTURE.md";
/// The heading of that table.
const LIFE_HEADING: &str = "Life of a job";
/// The index of decisions.
const ADR_INDEX: &str = "docs/adr/README.md";
/// Where user-visible changes wait for a release.
const CHANGES: &str = "changes/unreleased/";
/// Beginnings of paths that exist on one machine only; in two parts, so that this file does not find itself.
const MACHINE_PATHS: [(&str, &str); 5] = [("/home", "/"), ("/work", "/"), ("/Users", "/"), ("/root", "/."), ("/var/ca", "che/")];

/// Runs the check.
pub(crate) fn check(repository: &mut Repository, findings: &mut Findings) {
    let tree = &repository.tree;
    for file in tree.markdown() {
        links(tree, file, findings);
        mentions(tree, file, findings);
    }
    match tree.get(ARCHITECTURE) {
        Some(file) => life(file, findings),
        None => findings.at(ARCHITECTURE, "is missing"),
    }
    decisions(tree, findings);
    changes(tree, findings);
    for file in tree.files() {
        let lines = machine_paths(&file.text);
        if !lines.is_empty() && repository.exceptions.allows("machine-path", &file.path) {
            continue;
        }
        for line in lines {
            findings.line(&file.path, line, "names a path of one machine");
        }
    }
}

/// The lines of a Markdown text outside code blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((number + 1, line))
    })
}

fn links(tree: &Tree, file: &File, findings: &mut Findings) {
    for (number, line) in prose(&file.text) {
        for target in link_targets(line) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() { file.path.clone() } else { resolve(&file.path, path) };
            if !tree.exists(&path) {
                findings.line(&file.path, number, format_args!("dead link to {target}"));
            } else if let Some(other) = tree.get(&path).filter(|_| !anchor.is_empty())
                && !anchors(&other.text).contains(anchor)
            {
                findings.line(&file.path, number, format_args!("{path} has no heading #{anchor}"));
            }
        }
    }
}

/// What stands in the brackets of `](...)`.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter_map(|target| target.split_whitespace().next())
}

/// A path beside a file, without its dots.
fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = match target.starts_with('/') {
        true => Vec::new(),
        false => from.rsplit_once('/').map(|(folder, _)| folder.split('/').collect()).unwrap_or_default(),
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join("/")
}

/// The anchors that a forge makes of headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|(_, line)| line.starts_with('#')).map(|(_, line)| line.trim_start_matches('#').trim());
    headings
        .map(|heading| {
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_');
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        })
        .collect()
}

/// `path/file.rs` and `path/file.rs::name` between backquotes, with the name.
fn code_mentions(line: &str) -> Vec<(&str, Option<&str>)> {
    let quoted = line.split('`').skip(1).step_by(2);
    let whole = quoted.filter(|text| !text.contains(char::is_whitespace) && !text.contains(['*', '{', '<']));
    whole
        .filter_map(|text| match text.split_once(".rs") {
            Some((path, "")) => Some((path, None)),
            Some((path, rest)) => rest.strip_prefix("::").map(|name| (path, Some(name))),
            None => None,
        })
        .filter(|(path, _)| path.contains('/'))
        .collect()
}

fn mentions(tree: &Tree, file: &File, findings: &mut Findings) {
    for (number, line) in prose(&file.text) {
        for (stem, name) in code_mentions(line) {
            let from_root = format!("{stem}.rs");
            let beside = resolve(&file.path, &from_root);
            let Some(source) = tree.get(&from_root).or_else(|| tree.get(&beside)) else {
                findings.line(&file.path, number, format_args!("there is no {from_root}"));
                continue;
            };
            let last = name.and_then(|name| name.rsplit("::").next());
            if let Some((last, lexed)) = last.zip(source.rust.as_ref())
                && !lexed.defines(last)
            {
                findings.line(&file.path, number, format_args!("{from_root} has no {last}"));
            }
        }
    }
}

/// Every row of the table names at least one function; that it exists is the business of `mentions`.
fn life(file: &File, findings: &mut Findings) {
    let mut inside = false;
    let mut rows = 0;
    for (number, line) in prose(&file.text) {
        if line.starts_with('#') {
            inside = line.trim_start_matches('#').trim() == LIFE_HEADING;
        }
        let is_row = inside && line.starts_with('|') && !line.starts_with("|-") && !line.starts_with("| #");
        if !is_row {
            continue;
        }
        rows += 1;
        if !code_mentions(line).iter().any(|(_, name)| name.is_some()) {
            findings.line(&file.path, number, format_args!("this hop of '{LIFE_HEADING}' names no function"));
        }
    }
    if rows == 0 {
        findings.at(&file.path, format_args!("has no table under '{LIFE_HEADING}'"));
    }
}

fn decisions(tree: &Tree, findings: &mut Findings) {
    let Some(index) = tree.get(ADR_INDEX) else {
        findings.at(ADR_INDEX, "is missing");
        return;
    };
    let mut numbers = BTreeSet::new();
    for file in tree.markdown() {
        let Some(name) = file.path.strip_prefix("docs/adr/") else { continue };
        let Some((number, _)) = name.split_once('-').filter(|(number, _)| number.chars().all(|c| c.is_ascii_digit())) else {
            continue;
        };
        if !index.text.contains(&format!("({name})")) {
            findings.at(&file.path, format_args!("is not listed in {ADR_INDEX}"));
        }
        if !numbers.insert(number.to_owned()) {
            findings.at(&file.path, "shares its number with another");
        }
    }
}

fn changes(tree: &Tree, findings: &mut Findings) {
    let mut waiting = tree.files().filter(|file| file.path.starts_with(CHANGES) && !file.path.ends_with("/README.md")).peekable();
    if waiting.peek().is_none() {
        findings.at(CHANGES, "holds no change; what does a user notice?");
    }
    for file in waiting {
        if !file.text.starts_with("# ") || file.text.lines().nth(2).is_none_or(|line| line.trim().is_empty()) {
            findings.at(&file.path, "begins with a heading, an empty line and what changed");
        }
    }
}

/// The lines on which a machine's path begins; `target/home/x` is not one.
fn machine_paths(text: &str) -> Vec<usize> {
    let part_of_path = |c: char| c.is_alphanumeric() || "._-~}/".contains(c);
    let begins = |line: &str, wanted: &str| {
        line.match_indices(wanted).any(|(at, _)| !line.get(..at).and_then(|before| before.chars().next_back()).is_some_and(part_of_path))
    };
    let wanted: Vec<String> = MACHINE_PATHS.iter().map(|(first, second)| format!("{first}{second}")).collect();
    let found = text.lines().enumerate().filter(|(_, line)| wanted.iter().any(|path| begins(line, path)));
    found.map(|(number, _)| number + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(check: fn(&Tree, &File, &mut Findings), files: &[(&str, &str)]) -> Vec<String> {
        let tree = Tree::of(files);
        let mut findings = Findings::default();
        for file in tree.markdown() {
            check(&tree, file, &mut findings);
        }
        findings.0
    }

    #[test]
    fn dead_links_and_anchors_are_found() {
        let readme = "[a](docs/a.md) [b](docs/b.md)\n[c](docs/a.md#two-words) [d](docs/a.md#three) [e](https://x.org/y)\n```\n[f](nope.md)\n```\n[g](#top)\n# Top";
        let all = found(links, &[("README.md", readme), ("docs/a.md", "# Two words\n[up](../README.md)")]);
        assert_eq!(all, ["README.md:1: dead link to docs/b.md", "README.md:2: docs/a.md has no heading #three"]);
    }

    #[test]
    fn mentions_of_files_and_functions_are_found() {
        let text = "`crates/a/src/lib.rs::Chain::submit` `crates/a/src/lib.rs::gone` `crates/b/src/lib.rs` `lib.rs` `crates/{a,b}/x.rs`";
        let all = found(mentions, &[("A.md", text), ("crates/a/src/lib.rs", "//! A\nimpl Chain { fn submit() {} }")]);
        assert_eq!(all, ["A.md:1: crates/a/src/lib.rs has no gone", "A.md:1: there is no crates/b/src/lib.rs"]);
    }

    #[test]
    fn every_hop_names_a_function() {
        let text = "## Life of a job\n\n| # | hop | code |\n|---|---|---|\n| 1 | a | `x/y.rs::z` |\n| 2 | b | |\n\n## Other\n| 3 | c | |";
        let tree = Tree::of(&[("ARCHITECTURE.md", text)]);
        let mut findings = Findings::default();
        life(tree.get("ARCHITECTURE.md").unwrap(), &mut findings);
        assert_eq!(findings.0, ["ARCHITECTURE.md:6: this hop of 'Life of a job' names no function"]);
    }

    #[test]
    fn decisions_are_listed_once() {
        let tree = Tree::of(&[
            ("docs/adr/README.md", "[one](0001-one.md)"),
            ("docs/adr/0001-one.md", ""),
            ("docs/adr/0001-two.md", ""),
            ("docs/adr/template.md", ""),
        ]);
        let mut findings = Findings::default();
        decisions(&tree, &mut findings);
        assert_eq!(findings.0.len(), 2, "{findings:?}");
    }

    #[test]
    fn machine_paths_begin_somewhere() {
        let home = format!("{}{}", "/home", "/me/x");
        assert_eq!(machine_paths(&format!("ok\nsee {home}")), [2]);
        assert_eq!(machine_paths(&format!("target{home} ${{ROOT}}{home}")), [0usize; 0]);
    }
}
