//! `cargo xtask`: the checks of this repository that the compiler and clippy do not make.
//!
//! Each check is a function from the files of the working tree (and `cargo metadata`) to a list of findings; this file
//! only chooses which ones run and prints what they found. Every finding names a file and, where it can, a line.
//! Exceptions live in `xtask/exceptions.toml`, each with a reason; one that is no longer needed is a finding itself.
//!
//! It changes nothing, talks to no network and needs no container engine.
#![allow(clippy::print_stdout, reason = "a program for people, and its findings are its output")]

mod documents;
mod exceptions;
mod layers;
mod lexer;
mod licenses;
mod purity;
mod rust_files;
mod sbom;
mod tree;
mod unused;
mod words;
mod workspace;

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::{exceptions::Exceptions, tree::Tree, workspace::Workspace};

const USAGE: &str = "usage: cargo xtask <command>

  all        every check below
  layers     crate edges against layers.toml, and what the pure crates may not name
  tidy       file heads and sizes, dead links, the life of a job, words on the screen, stale exceptions
  licenses   licences of all dependencies against deny.toml
  unused     dependencies that no file mentions
  sbom       what the released program is built from, as CycloneDX; no check";

/// What the checks found, as lines for a person.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<String>);

impl Findings {
    /// Adds a finding about a whole file, or about something without a line.
    pub(crate) fn at(&mut self, place: &str, message: impl std::fmt::Display) {
        self.0.push(format!("{place}: {message}"));
    }

    /// Adds a finding about one line.
    pub(crate) fn line(&mut self, path: &str, line: usize, message: impl std::fmt::Display) {
        self.0.push(format!("{path}:{line}: {message}"));
    }
}

/// Everything a check may look at.
pub(crate) struct Repository {
    tree: Tree,
    workspace: Workspace,
    exceptions: Exceptions,
}

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let done = if command == "sbom" { print_sbom() } else { run(&command) };
    match done {
        Ok(None) => {
            println!("{USAGE}");
            ExitCode::from(2)
        }
        Ok(Some(0)) => ExitCode::SUCCESS,
        Ok(Some(_)) => ExitCode::FAILURE,
        Err(error) => {
            println!("xtask {command}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_sbom() -> Result<Option<usize>> {
    let document = sbom::document(&Workspace::load(&workspace::root()?)?)?;
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(Some(0))
}

/// Runs a command and prints its findings; gives their number, or nothing if there is no such command.
fn run(command: &str) -> Result<Option<usize>> {
    let checks: &[(&str, Check)] = match command {
        "all" => &[("layers", layers_check), ("tidy", tidy_check), ("licenses", licenses::check), ("unused", unused::check)],
        "layers" => &[("layers", layers_check)],
        "tidy" => &[("tidy", tidy_check)],
        "licenses" => &[("licenses", licenses::check)],
        "unused" => &[("unused", unused::check)],
        _ => return Ok(None),
    };
    let root = workspace::root()?;
    let mut repository = Repository {
        tree: Tree::read(&root)?,
        workspace: Workspace::load(&root)?,
        exceptions: Exceptions::load(&root.join(exceptions::FILE))?,
    };
    let mut total = 0;
    for (name, check) in checks {
        let mut findings = Findings::default();
        check(&mut repository, &mut findings).with_context(|| format!("check {name} could not run"))?;
        total += report(name, findings);
    }
    if command == "all" {
        let mut findings = Findings::default();
        repository.exceptions.report_stale(&mut findings);
        total += report("exceptions", findings);
    }
    Ok(Some(total))
}

type Check = fn(&mut Repository, &mut Findings) -> Result<()>;

fn report(name: &str, findings: Findings) -> usize {
    for finding in &findings.0 {
        println!("{finding}");
    }
    match findings.0.len() {
        0 => println!("{name}: ok"),
        1 => println!("{name}: 1 finding"),
        n => println!("{name}: {n} findings"),
    }
    findings.0.len()
}

fn layers_check(repository: &mut Repository, findings: &mut Findings) -> Result<()> {
    layers::check(repository, findings)?;
    purity::check(repository, findings)
}

fn tidy_check(repository: &mut Repository, findings: &mut Findings) -> Result<()> {
    rust_files::check(repository, findings);
    documents::check(repository, findings);
    words::check(repository, findings)
}
