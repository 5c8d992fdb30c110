//! Checks the licence of every dependency against the list in `deny.toml`.
//!
//! Understands licence expressions: one side of an `OR` is enough, both sides of an `AND` are needed, `A/B` is the old
//! way to write `A OR B`. An exception (`[[licenses.exceptions]]`) and a clarification (`[[licenses.clarify]]`) need a
//! line `# Reason: ...` just above. It does not read licence texts.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{Findings, Repository, workspace::Package};

const FILE: &str = "deny.toml";
/// The licence of our own crates.
const OURS: &str = "Apache-2.0";

#[derive(Debug, Deserialize)]
struct Deny {
    licenses: Licenses,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
    #[serde(default)]
    clarify: Vec<Clarify>,
}

#[derive(Debug, Deserialize)]
struct Exception {
    allow: Vec<String>,
    #[serde(rename = "crate")]
    package: String,
}

#[derive(Debug, Deserialize)]
struct Clarify {
    #[serde(rename = "crate")]
    package: String,
    expression: String,
}

/// Runs the check.
pub(crate) fn check(repository: &mut Repository, findings: &mut Findings) -> Result<()> {
    let file = repository.tree.get(FILE).context("deny.toml is missing")?;
    let deny: Deny = toml::from_str(&file.text).context(FILE)?;
    for license in deny.licenses.allow.iter().filter(|license| license.contains("GPL")) {
        findings.at(FILE, format_args!("{license} may not be allowed for all"));
    }
    reasons(&file.text, findings);
    for package in repository.workspace.foreign() {
        if let Some(problem) = judge(&deny.licenses, package) {
            findings.at(&format!("{} {}", package.name, package.version), problem);
        }
    }
    for package in repository.workspace.ours().filter(|package| package.license.as_deref() != Some(OURS)) {
        findings.at(&package.name, format_args!("is ours and must say license = {OURS}"));
    }
    stale(&deny.licenses, repository, findings);
    Ok(())
}

fn reasons(text: &str, findings: &mut Findings) {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (number, line) in lines.iter().enumerate() {
        let needs = *line == "[[licenses.exceptions]]" || *line == "[[licenses.clarify]]";
        let above = number.checked_sub(1).and_then(|above| lines.get(above)).copied().unwrap_or_default();
        if needs && !above.starts_with("# Reason: ") {
            findings.line(FILE, number + 1, "needs a line `# Reason: ...` just above");
        }
    }
}

fn stale(licenses: &Licenses, repository: &Repository, findings: &mut Findings) {
    let known: BTreeSet<&str> = repository.workspace.foreign().map(|package| package.name.as_str()).collect();
    let named = licenses.exceptions.iter().map(|entry| &entry.package).chain(licenses.clarify.iter().map(|entry| &entry.package));
    for name in named.filter(|name| !known.contains(name.as_str())) {
        findings.at(FILE, format_args!("{name} is not a dependency any more"));
    }
}

/// Why a package may not be used, if it may not.
fn judge(licenses: &Licenses, package: &Package) -> Option<String> {
    let clarified = licenses.clarify.iter().find(|entry| entry.package == package.name).map(|entry| &entry.expression);
    let Some(text) = clarified.or(package.license.as_ref()) else {
        return Some("states no licence; add a [[licenses.clarify]] entry".to_owned());
    };
    let special = licenses.exceptions.iter().filter(|entry| entry.package == package.name).flat_map(|entry| &entry.allow);
    let allowed: BTreeSet<&str> = licenses.allow.iter().chain(special).map(String::as_str).collect();
    match satisfied(text, &allowed) {
        Ok(true) => None,
        Ok(false) => Some(format!("licence {text} is not allowed by {FILE}")),
        Err(error) => Some(format!("cannot read the licence {text:?}: {error}")),
    }
}

/// Whether the allowed licences satisfy an expression.
fn satisfied(text: &str, allowed: &BTreeSet<&str>) -> Result<bool> {
    let spaced = text.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed };
    let result = parser.any()?;
    if !parser.words.is_empty() {
        bail!("{:?} is left over", parser.words);
    }
    Ok(result)
}

/// `AND` binds tighter than `OR`, `WITH` tighter than both.
struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a BTreeSet<&'a str>,
}

impl Parser<'_> {
    fn take_if(&mut self, wanted: &str) -> bool {
        match self.words.split_first() {
            Some((word, rest)) if *word == wanted => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }

    fn any(&mut self) -> Result<bool> {
        let mut result = self.every()?;
        while self.take_if("OR") {
            result |= self.every()?;
        }
        Ok(result)
    }

    fn every(&mut self) -> Result<bool> {
        let mut result = self.one()?;
        while self.take_if("AND") {
            result &= self.one()?;
        }
        Ok(result)
    }

    fn one(&mut self) -> Result<bool> {
        if self.take_if("(") {
            let result = self.any()?;
            if !self.take_if(")") {
                bail!("a bracket is not closed");
            }
            return Ok(result);
        }
        let Some((name, rest)) = self.words.split_first() else { bail!("it ends too early") };
        if ["OR", "AND", "WITH", ")"].contains(name) {
            bail!("{name} where a licence belongs");
        }
        self.words = rest;
        if !self.take_if("WITH") {
            return Ok(self.allowed.contains(name));
        }
        let Some((extra, rest)) = self.words.split_first() else { bail!("it ends after WITH") };
        self.words = rest;
        Ok(self.allowed.contains(format!("{name} WITH {extra}").as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(text: &str) -> bool {
        satisfied(text, &BTreeSet::from(["MIT", "Apache-2.0", "ISC", "Apache-2.0 WITH LLVM-exception"])).unwrap()
    }

    #[test]
    fn expressions_are_understood() {
        assert!(ok("MIT"));
        assert!(ok("MIT/GPL-3.0"));
        assert!(ok("GPL-3.0 OR MIT"));
        assert!(!ok("GPL-3.0 AND MIT"));
        assert!(!ok("GPL-3.0"));
        assert!(ok("GPL-2.0 OR ISC AND (Apache-2.0 OR GPL-3.0)"));
        assert!(!ok("(GPL-2.0 OR ISC) AND GPL-3.0"));
        assert!(ok("Apache-2.0 WITH LLVM-exception"));
        assert!(!ok("MIT WITH LLVM-exception"));
    }

    #[test]
    fn nonsense_is_an_error() {
        let allowed = BTreeSet::from(["MIT"]);
        for text in ["", "MIT OR", "(MIT", "MIT MIT", "AND", "MIT WITH"] {
            assert!(satisfied(text, &allowed).is_err(), "{text}");
        }
    }

    #[test]
    fn exceptions_are_for_one_package_and_need_a_reason() {
        let text = "[licenses]\nallow = [\"MIT\"]\n[[licenses.exceptions]]\nallow = [\"Zlib\"]\ncrate = \"a\"\n";
        let deny: Deny = toml::from_str(text).unwrap();
        let package = |name: &str, license: Option<&str>| Package {
            id: String::new(),
            name: name.into(),
            version: "1".into(),
            license: license.map(str::to_owned),
            source: Some("registry".into()),
            manifest_path: "Cargo.toml".into(),
            dependencies: Vec::new(),
        };
        assert_eq!(judge(&deny.licenses, &package("a", Some("Zlib"))), None);
        assert!(judge(&deny.licenses, &package("b", Some("Zlib"))).is_some());
        assert!(judge(&deny.licenses, &package("b", None)).is_some());
        let mut findings = Findings::default();
        reasons(text, &mut findings);
        assert_eq!(findings.0.len(), 1);
        let mut findings = Findings::default();
        reasons(&text.replace("[[lic", "# Reason: data only\n[[lic"), &mut findings);
        assert_eq!(findings.0.len(), 0);
    }
}
