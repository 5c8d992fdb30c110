//! What kind of project a folder holds, and the two files that let it run: a Dockerfile and a `.dockerignore`.
//!
//! ```text
//!  folder ──▶ recognise ──▶ Project ──▶ Draft { Dockerfile, .dockerignore }
//! ```
//! Guarantees: it reads a handful of small files of the folder itself and writes nothing; the same folder makes the same draft;
//! what the folder says (a version, a lock file, a start script) is used, what it does not say has a default that the draft
//! names. It does not understand every project: what it cannot tell is an error that says what to write.

mod node;
mod python;
mod rust;

use crate::exit::Failure;
use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

/// Largest file that is read to recognise a project.
const MAX_READ_BYTES: u64 = 1 << 20;
/// Entries of the folder that are looked at: a project announces itself by name, not by number.
const MAX_ENTRIES: usize = 10_000;

type Recognise = fn(&Folder<'_>) -> bool;
type Make = fn(&Folder<'_>) -> Result<Draft, Failure>;

/// The languages that are recognised.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum)]
pub(crate) enum Language {
    /// A Python program.
    Python,
    /// A program for Node.js.
    Node,
    /// A Rust program.
    Rust,
}

impl Language {
    /// Its name in a sentence.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Python => "Python",
            Self::Node => "Node.js",
            Self::Rust => "Rust",
        }
    }

    const fn flag(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Node => "node",
            Self::Rust => "rust",
        }
    }
}

/// The two files, and what they were made from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Draft {
    /// What was recognised.
    pub(crate) language: Language,
    /// The files that told.
    pub(crate) seen: Vec<String>,
    /// The Dockerfile's text.
    pub(crate) dockerfile: String,
    /// The ignore file's text.
    pub(crate) ignore: String,
    /// What was assumed, one sentence each.
    pub(crate) assumed: Vec<String>,
}

/// The names in a folder, and a way to read the small ones.
pub(crate) struct Folder<'a> {
    root: &'a Path,
    names: BTreeSet<String>,
}

impl<'a> Folder<'a> {
    fn open(root: &'a Path) -> Result<Self, Failure> {
        let mut names = BTreeSet::new();
        for entry in std::fs::read_dir(root).map_err(|e| Failure::io("read", root, &e))?.take(MAX_ENTRIES) {
            let entry = entry.map_err(|e| Failure::io("read", root, &e))?;
            names.extend(entry.file_name().into_string());
        }
        Ok(Self { root, names })
    }

    fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The first of these that is there.
    fn first<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().copied().find(|name| self.has(name))
    }

    fn has_folder(&self, name: &str) -> bool {
        self.has(name) && self.root.join(name).is_dir()
    }

    /// A file's text; what is too large or no text is no file that tells us anything.
    fn text(&self, name: &str) -> Option<String> {
        let mut text = String::new();
        std::fs::File::open(self.root.join(name)).ok()?.take(MAX_READ_BYTES).read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// The first line of a file that says something, as in `.python-version`.
    fn first_line(&self, name: &str) -> Option<String> {
        let text = self.text(name)?;
        text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned)
    }
}

/// Recognises the project in a folder and drafts its files; `None` if there is none that we know.
pub(crate) fn draft(root: &Path, asked: Option<Language>) -> Result<Option<Draft>, Failure> {
    let folder = Folder::open(root)?;
    let kinds: [(Language, Recognise, Make); 3] = [
        (Language::Python, python::is_here, python::draft),
        (Language::Node, node::is_here, node::draft),
        (Language::Rust, rust::is_here, rust::draft),
    ];
    let here: Vec<_> = kinds.iter().filter(|(language, is_here, _)| asked.map_or_else(|| is_here(&folder), |a| a == *language)).collect();
    match here.as_slice() {
        [] => Ok(None),
        [(_, _, draft)] => draft(&folder).map(Some),
        [(first, ..), (second, ..), ..] => {
            let message = format!("{} looks like a {} project and like a {} project", root.display(), first.name(), second.name());
            Err(Failure::new("which-language", message)
                .next(format!("say which:  farm init --language {}", here.iter().map(|(l, ..)| l.flag()).collect::<Vec<_>>().join("|"))))
        }
    }
}

/// A version such as `3.12` or `22`: digits and dots at the start of a text, at most `parts` numbers.
fn version(text: &str, parts: usize) -> Option<String> {
    let digits = text.trim().trim_start_matches(['v', '^', '~', '=', '>', '<', ' ', '"']);
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
    let (number, _) = digits.split_at_checked(end)?;
    let kept: Vec<&str> = number.split('.').filter(|part| !part.is_empty()).take(parts).collect();
    (!kept.is_empty() && kept.iter().all(|part| part.len() <= 4)).then(|| kept.join("."))
}

/// A word that can stand in a Dockerfile's list of arguments without meaning anything else there.
fn json_word(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

const IGNORE_HEAD: &str = "\
# What does not travel to the machine that runs this folder. Same rules as for `docker build`.
.git
.github
.env
.env.*
*.log
.DS_Store
";

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    pub(super) fn drafted(files: &[(&str, &str)]) -> Draft {
        draft(folder(files).path(), None).unwrap().unwrap()
    }

    #[test]
    fn an_unknown_folder_is_nothing_and_two_languages_are_a_question() {
        assert_eq!(draft(folder(&[("notes.txt", "x")]).path(), None).unwrap(), None);
        let both = folder(&[("requirements.txt", "flask\n"), ("app.py", ""), ("package.json", "{\"main\": \"a.js\"}")]);
        let failure = draft(both.path(), None).unwrap_err();
        assert!(failure.code == "which-language" && failure.next[0].contains("--language python|node"), "{failure:?}");
        assert_eq!(draft(both.path(), Some(Language::Node)).unwrap().unwrap().language, Language::Node);
    }

    #[test]
    fn versions_are_read_and_nonsense_is_not() {
        for (text, parts, want) in [
            (">=3.11,<4", 2, Some("3.11")),
            ("v22.3.1", 1, Some("22")),
            ("3.12.4", 2, Some("3.12")),
            ("lts/*", 1, None),
            ("", 2, None),
            ("99999999", 1, None),
        ] {
            assert_eq!(version(text, parts).as_deref(), want, "{text}");
        }
    }
}
