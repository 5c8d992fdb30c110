//! Node.js projects: their version, their package manager and what starts them.

use super::{Draft, Folder, IGNORE_HEAD, Language, json_word, version};
use crate::exit::Failure;
use serde_json::Value;

/// What runs where the project does not say.
const DEFAULT_VERSION: &str = "24";
/// Files that begin a program, by custom.
const ENTRIES: [&str; 4] = ["index.js", "server.js", "main.js", "app.js"];

pub(super) fn is_here(folder: &Folder<'_>) -> bool {
    folder.has("package.json")
}

pub(super) fn draft(folder: &Folder<'_>) -> Result<Draft, Failure> {
    let path = folder.root.join("package.json");
    let text = folder.text("package.json").ok_or_else(|| Failure::new("no-entry", format!("there is no {}", path.display())))?;
    let package: Value = serde_json::from_str(&text)
        .map_err(|e| Failure::new("package-json", format!("{}:{}: {e}", path.display(), e.line())).next("mend it, then ask again"))?;
    let script = |name: &str| package.pointer(&format!("/scripts/{name}")).and_then(Value::as_str);
    let mut assumed = vec![];
    let engines = package.pointer("/engines/node").and_then(Value::as_str).and_then(|text| version(text, 1));
    let node = folder.first_line(".nvmrc").and_then(|line| version(&line, 1)).or(engines).unwrap_or_else(|| {
        assumed.push(format!("Node.js {DEFAULT_VERSION}, since the project names no version (write one into .nvmrc)"));
        DEFAULT_VERSION.to_owned()
    });
    let manager = Manager::of(folder);
    let (files, install) = manager.install();
    let build = script("build").map_or(String::new(), |_| format!("RUN {} run build\n", manager.name()));
    let command = if script("start").is_some() {
        format!("{}, \"start\"", json_word(manager.name()))
    } else {
        let main = package.get("main").and_then(Value::as_str).or_else(|| folder.first(&ENTRIES));
        let main = main.ok_or_else(|| {
            Failure::new("no-entry", format!("{} says neither `scripts.start` nor `main`, so nothing starts it", path.display()))
                .next("add to it:  \"scripts\": {\"start\": \"node your.js\"}")
        })?;
        format!("\"node\", {}", json_word(main))
    };
    let dockerfile = format!(
        "# Written by `farm init`; yours from now on.\nFROM node:{node}-slim\nWORKDIR /app\n{install_head}COPY package.json {files}./\nRUN {install}\nCOPY . .\n{build}ENV NODE_ENV=production\nCMD [{command}]\n",
        install_head = manager.prepare(),
    );
    let mut seen = vec!["package.json".to_owned()];
    seen.extend(manager.lock().map(str::to_owned));
    let ignore = format!("{IGNORE_HEAD}node_modules\ndist\n.next\ncoverage\n");
    Ok(Draft { language: Language::Node, seen, dockerfile, ignore, assumed })
}

#[derive(Clone, Copy)]
enum Manager {
    /// With a lock file or without.
    Npm {
        locked: bool,
    },
    Yarn,
    Pnpm,
}

impl Manager {
    fn of(folder: &Folder<'_>) -> Self {
        if folder.has("pnpm-lock.yaml") {
            Self::Pnpm
        } else if folder.has("yarn.lock") {
            Self::Yarn
        } else {
            Self::Npm { locked: folder.has("package-lock.json") }
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Npm { .. } => "npm",
            Self::Yarn => "yarn",
            Self::Pnpm => "pnpm",
        }
    }

    const fn lock(self) -> Option<&'static str> {
        match self {
            Self::Npm { locked: true } => Some("package-lock.json"),
            Self::Npm { locked: false } => None,
            Self::Yarn => Some("yarn.lock"),
            Self::Pnpm => Some("pnpm-lock.yaml"),
        }
    }

    /// What must be there before the package manager works.
    const fn prepare(self) -> &'static str {
        match self {
            Self::Npm { .. } => "",
            Self::Yarn | Self::Pnpm => "RUN corepack enable\n",
        }
    }

    /// Further files to copy, and the command that installs.
    const fn install(self) -> (&'static str, &'static str) {
        match self {
            Self::Npm { locked: true } => ("package-lock.json ", "npm ci"),
            Self::Npm { locked: false } => ("", "npm install"),
            Self::Yarn => ("yarn.lock ", "yarn install --frozen-lockfile"),
            Self::Pnpm => ("pnpm-lock.yaml ", "pnpm install --frozen-lockfile"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{drafted, folder};
    use super::super::{Language, draft};

    #[test]
    fn a_locked_package_with_a_start_and_a_build() {
        let package = r#"{"engines": {"node": ">=22"}, "scripts": {"start": "node dist/a.js", "build": "tsc"}}"#;
        let made = drafted(&[("package.json", package), ("package-lock.json", "{}")]);
        assert_eq!(
            made.dockerfile,
            "# Written by `farm init`; yours from now on.\nFROM node:22-slim\nWORKDIR /app\nCOPY package.json package-lock.json ./\n\
             RUN npm ci\nCOPY . .\nRUN npm run build\nENV NODE_ENV=production\nCMD [\"npm\", \"start\"]\n"
        );
        assert!(made.ignore.contains("node_modules\n") && made.assumed.is_empty());
    }

    #[test]
    fn other_managers_and_a_main_file() {
        let made = drafted(&[("package.json", r#"{"main": "lib/x.js"}"#), ("pnpm-lock.yaml", "")]);
        assert!(made.dockerfile.contains("corepack enable") && made.dockerfile.contains("pnpm install --frozen-lockfile"));
        assert!(made.dockerfile.ends_with("CMD [\"node\", \"lib/x.js\"]\n") && made.dockerfile.contains("FROM node:24-slim"));
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_line() {
        let failure = draft(folder(&[("package.json", "{\n  oops\n}")]).path(), None).unwrap_err();
        assert!(failure.code == "package-json" && failure.message.contains("package.json:2:"), "{failure:?}");
        let failure = draft(folder(&[("package.json", "{}")]).path(), Some(Language::Node)).unwrap_err();
        assert!(failure.code == "no-entry" && failure.next[0].contains("start"), "{failure:?}");
    }
}
