//! The pages about errors: what each code means, what was charged, what to do. `farm error CODE` prints one.
//!
//! Guarantees: every code that this program, the API or the ledger can name has a page here, and no page is about a code that
//! nobody names (a test reads the sources). What is printed of a charge with a failure is what its page says.

/// Reads the pages into the program.
macro_rules! pages {
    ($($code:literal),* $(,)?) => {
        /// Each code with its page.
        const PAGES: &[(&str, &str)] = &[$(($code, include_str!(concat!("../../../docs/errors/", $code, ".md")))),*];
    };
}

pages!(
    "account-exists",
    "ambiguous-job",
    "bad-address",
    "bad-archive",
    "bad-backup",
    "bad-channel",
    "bad-herd",
    "bad-log",
    "bad-manifest",
    "bad-output",
    "bad-private-network",
    "bad-publication",
    "bad-request",
    "bad-secret",
    "bad-secrets",
    "balance-too-small",
    "broken-connection",
    "budget-too-small",
    "busy",
    "cannot-run",
    "cargo-toml",
    "config",
    "conflict",
    "context-mismatch",
    "context-too-large",
    "daily-limit",
    "declined",
    "disk",
    "disk-failed",
    "disk-full",
    "dockerignore",
    "ended",
    "engine",
    "enrolment",
    "exists",
    "files",
    "forbidden",
    "herd-unreadable",
    "in-use",
    "internal",
    "io",
    "job-ended",
    "ledger-1",
    "ledger-10",
    "ledger-100",
    "ledger-101",
    "ledger-102",
    "ledger-103",
    "ledger-104",
    "ledger-105",
    "ledger-106",
    "ledger-11",
    "ledger-110",
    "ledger-12",
    "ledger-13",
    "ledger-130",
    "ledger-131",
    "ledger-132",
    "ledger-133",
    "ledger-140",
    "ledger-2",
    "ledger-20",
    "ledger-21",
    "ledger-22",
    "ledger-23",
    "ledger-24",
    "ledger-3",
    "ledger-30",
    "ledger-31",
    "ledger-32",
    "ledger-33",
    "ledger-34",
    "ledger-4",
    "ledger-40",
    "ledger-41",
    "ledger-42",
    "ledger-43",
    "ledger-5",
    "ledger-50",
    "ledger-51",
    "ledger-52",
    "ledger-53",
    "ledger-54",
    "ledger-55",
    "ledger-6",
    "ledger-60",
    "ledger-7",
    "ledger-70",
    "ledger-71",
    "ledger-75",
    "ledger-80",
    "ledger-85",
    "ledger-86",
    "ledger-87",
    "ledger-88",
    "ledger-89",
    "ledger-95",
    "ledger-violated",
    "left",
    "listen",
    "locked",
    "log",
    "lost-race",
    "machine",
    "method-not-allowed",
    "no-account",
    "no-adapter",
    "no-dockerfile",
    "no-end",
    "no-engine",
    "no-entry",
    "no-folder",
    "no-funder",
    "no-gpu",
    "no-herd",
    "no-home",
    "no-job-file",
    "no-machine",
    "no-machine-here",
    "no-network",
    "no-output",
    "no-provider",
    "no-room",
    "no-secret",
    "no-such-command",
    "no-such-deployment",
    "no-such-grant",
    "no-such-invite",
    "no-such-job",
    "no-such-key",
    "no-such-machine",
    "no-such-path",
    "no-such-proposal",
    "no-such-route",
    "no-such-validator",
    "no-such-watcher",
    "no-volume",
    "nobody",
    "nobody-trusted",
    "node",
    "node-broke-off",
    "node-unreachable",
    "not-blocked",
    "not-final-yet",
    "not-found",
    "not-its-operator",
    "not-in-lan",
    "not-joinable",
    "not-judged",
    "not-open",
    "not-renewed",
    "not-running",
    "not-the-watcher",
    "opened-before",
    "other-fleet",
    "other-host",
    "other-key",
    "other-network",
    "other-size",
    "package-json",
    "port-broken",
    "port-closed",
    "port-silent",
    "random",
    "receipt",
    "refused",
    "refused-by-ledger",
    "replay-differs",
    "results",
    "runtime",
    "sealed-for-another",
    "secrets-first",
    "signals",
    "spec",
    "terminal",
    "timeout",
    "too-large",
    "too-many-channels",
    "too-many-waiting",
    "too-old",
    "unauthorized",
    "unavailable",
    "unexpected-answer",
    "unknown",
    "unknown-project",
    "unknown-validators",
    "unproven",
    "update-failed",
    "upgrade-required",
    "upload-broken",
    "usage",
    "verdict-differs",
    "volume-away",
    "volume-twice",
    "volumes-apart",
    "which-language",
    "wrong-passphrase",
);

/// Where what was charged stands on a page.
const CHARGED: &str = "## What was charged";

/// The page about a code.
pub(crate) fn page(code: &str) -> Option<&'static str> {
    PAGES.iter().find(|(known, _)| *known == code).map(|(_, page)| *page)
}

/// All codes.
pub(crate) fn codes() -> impl Iterator<Item = &'static str> {
    PAGES.iter().map(|(code, _)| *code)
}

/// What a page says was charged: its first sentence, in plain letters.
fn sentence(page: &str) -> Option<String> {
    let (_, section) = page.split_once(CHARGED)?;
    let line = section.lines().find(|line| !line.is_empty())?;
    let end = line.find(['.', ';']).unwrap_or(line.len());
    let sentence: String = line.get(..end)?.chars().filter(|c| *c != '`').collect();
    let mut letters = sentence.chars();
    let first = letters.next()?.to_lowercase();
    Some(first.chain(letters).collect())
}

/// What was charged when a failure of this code is told.
pub(crate) fn charged(code: &str) -> String {
    page(code).and_then(sentence).unwrap_or_else(|| "not known from here: farm account shows your balance".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::{Path, PathBuf};

    /// Crates whose failures reach people, beside the ledger.
    const CRATES: [&str; 6] = ["api", "farm", "gateway", "herd", "node", "provider"];
    /// What makes a failure, and how many arguments stand before its code.
    const MAKERS: [(&str, usize); 2] = [("Failure::new(", 0), ("Problem::new(", 1)];
    /// Codes that are not written where the failure is made: somebody else's, which are found where those are made.
    const PASSED_ON: [&str; 5] = ["&problem.code", "&p.code", "&format!(\"{LEDGER}{code}\")", "&format!(\"{LEDGER}{number}\")", "code"];

    fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                sources(&entry, out);
            } else if entry.extension().is_some_and(|e| e == "rs") {
                out.push(entry);
            }
        }
    }

    /// The text of a file without its tests.
    fn product(path: &Path) -> String {
        let text = std::fs::read_to_string(path).unwrap();
        text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().into()
    }

    /// The argument that a text begins with, up to the comma after it.
    fn argument(text: &str) -> &str {
        let mut depth = 0i32;
        let mut quoted = false;
        let mut previous = ' ';
        for (at, c) in text.char_indices() {
            match c {
                '"' if previous != '\\' => quoted = !quoted,
                _ if quoted => {}
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' if depth == 0 => return text[..at].trim(),
                ')' | ']' | '}' => depth -= 1,
                ',' if depth == 0 => return text[..at].trim(),
                _ => {}
            }
            previous = c;
        }
        text.trim()
    }

    /// The code in an argument, if it is one or names a constant that is.
    fn code(argument: &str, file: &str) -> Option<String> {
        if let Some(text) = argument.strip_prefix('"') {
            return text.strip_suffix('"').map(str::to_string);
        }
        let definition = format!("const {argument}: &str = \"");
        let (_, value) = file.split_once(&definition)?;
        value.split('"').next().map(str::to_string)
    }

    /// Every code in the sources, with a file that names it.
    fn named() -> BTreeMap<String, PathBuf> {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf();
        let mut files = vec![];
        for name in CRATES {
            sources(&crates.join(name).join("src"), &mut files);
        }
        let mut found = BTreeMap::new();
        for path in files {
            let text = product(&path);
            // The types themselves have makers of the usual kinds.
            let own = ["exit.rs", "problem.rs"].iter().any(|own| path.ends_with(own));
            let own_maker = ("Self::new(", usize::from(path.ends_with("problem.rs")));
            for (maker, before) in MAKERS.into_iter().chain(own.then_some(own_maker)) {
                for (at, _) in text.match_indices(maker) {
                    let mut rest = &text[at + maker.len()..];
                    for _ in 0..before {
                        rest = rest[rest.find(argument(rest)).unwrap() + argument(rest).len()..].trim_start_matches(',');
                    }
                    let argument = argument(rest);
                    match code(argument, &text) {
                        Some(code) => drop(found.insert(code, path.clone())),
                        None => assert!(PASSED_ON.contains(&argument), "{}: {argument} is no code that a test can find", path.display()),
                    }
                }
            }
            for (at, marker) in text.match_indices("code: \"") {
                let code = text[at + marker.len()..].split('"').next().unwrap();
                found.insert(code.into(), path.clone());
            }
        }
        let ledger = crates.join("ledger/src/error.rs");
        let text = product(&ledger);
        let (_, numbers) = text.split_once("pub const fn code(").unwrap();
        for line in numbers.lines().take_while(|line| !line.starts_with("    }")) {
            let number = line.split_once("=> ").and_then(|(_, number)| number.trim_end_matches(',').parse::<u16>().ok());
            found.extend(number.map(|number| (format!("{}{number}", crate::exit::LEDGER), ledger.clone())));
        }
        found
    }

    #[test]
    fn every_code_has_a_page_and_no_page_is_stale() {
        let named = named();
        assert!(named.len() > 120, "the sources were read: {}", named.len());
        let pages: BTreeSet<&str> = codes().collect();
        for (code, path) in &named {
            assert!(
                pages.contains(code.as_str()),
                "{code} of {} has no page: write docs/errors/{code}.md and name it above",
                path.display()
            );
        }
        for code in &pages {
            assert!(named.contains_key(*code), "docs/errors/{code}.md is about a code that nobody names");
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
        let on_disk: BTreeSet<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().trim_end_matches(".md").to_string())
            .collect();
        let index = std::fs::read_to_string(folder.join("README.md")).unwrap();
        for file in on_disk.iter().filter(|file| *file != "README") {
            assert!(pages.contains(file.as_str()), "docs/errors/{file}.md is not read into the program");
            assert!(index.contains(&format!("[{file}]({file}.md)")), "docs/errors/README.md does not list {file}");
        }
    }

    #[test]
    fn every_page_says_what_happened_what_was_charged_and_what_to_do() {
        for (code, page) in PAGES {
            assert!(page.starts_with(&format!("# {code}\n\n")), "{code}");
            let (_, charge) = page.split_once(CHARGED).unwrap_or_else(|| panic!("{code}"));
            let (charge, advice) = charge.split_once("## What to do").unwrap_or_else(|| panic!("{code}"));
            assert!(charge.trim().len() > 5 && advice.trim().starts_with("- "), "{code}");
            assert!(!charged(code).contains('`'), "{code}");
        }
        assert_eq!(charged("usage"), "nothing");
        assert!(charged("unknown").starts_with("not known from here"));
        assert!(charged("of-a-later-version").contains("farm account"));
    }

    #[test]
    fn arguments_are_told_apart() {
        assert_eq!(argument("\"a, b\", c)"), "\"a, b\"");
        assert_eq!(argument("f(1, 2), c)"), "f(1, 2)");
        assert_eq!(argument(" x)"), "x");
        assert_eq!(code("NAME", "const NAME: &str = \"the-code\";"), Some("the-code".into()));
        assert_eq!(code("&other", ""), None);
    }
}
