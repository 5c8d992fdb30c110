//! Which files of a folder stay at home: Docker's `.dockerignore`, on top of what should never travel.
//!
//! Guarantees: patterns mean what they mean to Docker (`*`, `**`, `?`, classes, `!`; a pattern covers what lies below what it
//! matches; the last match wins), and time is linear in pattern times path. Our own patterns come first, so that a `!` line
//! of the user's overrules them. It reads no file but the text it is given.

/// Most patterns in one file.
const MAX_PATTERNS: usize = 10_000;
/// Longest pattern in characters.
const MAX_PATTERN: usize = 4096;

/// What is left out unless a `!` line asks for it: secrets by their usual names, and history.
const LEFT_OUT: [&str; 25] = [
    "**/.env*",
    "**/.git",
    "**/.ssh",
    "**/id_rsa",
    "**/id_dsa",
    "**/id_ecdsa",
    "**/id_ed25519",
    "**/*.key",
    "**/*.p12",
    "**/*.pfx",
    "**/*.jks",
    "**/.aws",
    "**/.azure",
    "**/.kube",
    "**/.config/gcloud",
    "**/.docker/config.json",
    "**/.npmrc",
    "**/.netrc",
    "**/.pypirc",
    "**/.git-credentials",
    "**/.gnupg",
    "**/.cargo/credentials*",
    "**/.terraform.d/credentials*",
    "**/.vault-token",
    "**/.pgpass",
];

/// What becomes of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It travels; nothing spoke against it.
    Sent,
    /// It travels because a `!` line asks for it.
    Asked,
    /// The user's own pattern leaves it out.
    Ignored,
    /// Ours leaves it out.
    Withheld,
}

/// A pattern that makes no sense.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BadPattern {
    /// Its line, from 1.
    pub(crate) line: usize,
    /// What is wrong.
    pub(crate) problem: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    /// This character.
    Is(char),
    /// Any one but `/`.
    One,
    /// Any number but `/`.
    Many,
    /// Nothing, or anything that ends with `/`.
    Folders,
    /// Anything.
    Rest,
    /// One of these, or none of these.
    Class { negated: bool, ranges: Vec<(char, char)> },
}

#[derive(Debug)]
struct Pattern {
    parts: Vec<Part>,
    keep: bool,
    ours: bool,
}

/// All patterns of a folder.
#[derive(Debug)]
pub(crate) struct Ignore(Vec<Pattern>);

impl Ignore {
    /// Our patterns, then those of a `.dockerignore`.
    pub(crate) fn parse(text: &str) -> Result<Self, BadPattern> {
        let mut patterns = vec![];
        for text in LEFT_OUT {
            let parts = compile(text).map_err(|problem| BadPattern { line: 0, problem })?;
            patterns.push(Pattern { parts, keep: false, ours: true });
        }
        for (index, raw) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let bad = |problem: String| BadPattern { line: index + 1, problem };
            let Some((keep, cleaned)) = clean(raw).map_err(bad)? else { continue };
            if patterns.len() > MAX_PATTERNS || cleaned.chars().count() > MAX_PATTERN {
                return Err(bad(format!("at most {MAX_PATTERNS} patterns of at most {MAX_PATTERN} characters are read")));
            }
            patterns.push(Pattern { parts: compile(&cleaned).map_err(bad)?, keep, ours: false });
        }
        Ok(Self(patterns))
    }

    /// What becomes of a path, given with `/` between its parts and none in front.
    pub(crate) fn fate(&self, path: &str) -> Fate {
        let chars: Vec<char> = path.chars().collect();
        // The path itself and each folder above it.
        let mut ends: Vec<usize> = chars.iter().enumerate().filter(|(_, c)| **c == '/').map(|(i, _)| i).collect();
        ends.push(chars.len());
        let mut fate = Fate::Sent;
        for pattern in &self.0 {
            let out = matches!(fate, Fate::Ignored | Fate::Withheld);
            // A match could change nothing but who is named for it, and the first who left it out is.
            if pattern.keep != out {
                continue;
            }
            if ends.iter().any(|end| matches(&pattern.parts, chars.get(..*end).unwrap_or_default())) {
                fate = match (pattern.keep, pattern.ours) {
                    (true, _) => Fate::Asked,
                    (false, true) => Fate::Withheld,
                    (false, false) => Fate::Ignored,
                };
            }
        }
        fate
    }

    /// Whether something below a left-out folder might still travel.
    pub(crate) fn may_keep_below(&self) -> bool {
        self.0.iter().any(|p| p.keep)
    }
}

/// Docker's own cleaning of a line: the pattern and whether it keeps, or nothing.
fn clean(line: &str) -> Result<Option<(bool, String)>, String> {
    if line.starts_with('#') {
        return Ok(None);
    }
    let text = line.trim();
    let (keep, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest.trim()));
    if text.is_empty() {
        return if keep { Err("`!` alone names nothing: write what to keep after it".into()) } else { Ok(None) };
    }
    let mut parts: Vec<&str> = vec![];
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    // `.` and `/` alone clean to nothing and match nothing below the folder, as with Docker.
    Ok(if parts.is_empty() { None } else { Some((keep, parts.join("/"))) })
}

fn compile(text: &str) -> Result<Vec<Part>, String> {
    let mut out = vec![];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        out.push(match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                if chars.peek().is_none() { Part::Rest } else { Part::Folders }
            }
            '*' => Part::Many,
            '?' => Part::One,
            '\\' => Part::Is(chars.next().unwrap_or('\\')),
            '[' => class(&mut chars).ok_or_else(|| format!("`{text}` has a `[` without a `]`"))?,
            c => Part::Is(c),
        });
    }
    Ok(out)
}

fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Part> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = vec![];
    loop {
        let mut low = chars.next()?;
        if low == ']' && !ranges.is_empty() {
            return Some(Part::Class { negated, ranges });
        }
        if low == '\\' {
            low = chars.next()?;
        }
        let mut high = low;
        if chars.peek() == Some(&'-') {
            chars.next();
            high = chars.next()?;
            if high == ']' {
                // A dash at the end is a dash.
                ranges.extend([(low, low), ('-', '-')]);
                return Some(Part::Class { negated, ranges });
            }
            if high == '\\' {
                high = chars.next()?;
            }
        }
        ranges.push((low, high));
    }
}

/// Follows all ways through the pattern at once: no pattern takes more than its length times the path's.
fn matches(parts: &[Part], path: &[char]) -> bool {
    let mut here = vec![false; parts.len() + 1];
    mark(parts, &mut here, 0);
    for c in path {
        let mut next = vec![false; parts.len() + 1];
        for (i, part) in parts.iter().enumerate() {
            if !here.get(i).copied().unwrap_or(false) {
                continue;
            }
            match part {
                Part::Is(want) if want == c => mark(parts, &mut next, i + 1),
                Part::One if *c != '/' => mark(parts, &mut next, i + 1),
                Part::Class { negated, ranges } if ranges.iter().any(|(l, h)| l <= c && c <= h) != *negated => {
                    mark(parts, &mut next, i + 1)
                }
                Part::Many if *c != '/' => mark(parts, &mut next, i),
                Part::Rest => mark(parts, &mut next, i),
                // Inside a run of folders; only a slash may end it.
                Part::Folders => {
                    set(&mut next, i);
                    if *c == '/' {
                        mark(parts, &mut next, i + 1);
                    }
                }
                _ => {}
            }
        }
        here = next;
    }
    here.last().copied().unwrap_or(false)
}

fn set(states: &mut [bool], i: usize) {
    if let Some(slot) = states.get_mut(i) {
        *slot = true;
    }
}

/// Enters a state, and those behind it that need no character.
fn mark(parts: &[Part], states: &mut [bool], from: usize) {
    let mut i = from;
    loop {
        set(states, i);
        match parts.get(i) {
            Some(Part::Many | Part::Rest | Part::Folders) => i += 1,
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(ignore: &str, path: &str) -> Fate {
        Ignore::parse(ignore).unwrap().fate(path)
    }

    #[test]
    fn patterns_mean_what_they_mean_to_docker() {
        let table = [
            ("*.md", "README.md", true),
            ("*.md", "docs/README.md", false),
            ("**/*.md", "README.md", true),
            ("**/*.md", "a/b/c.md", true),
            ("*/temp*", "some/temporary.txt", true),
            ("*/temp*", "some/sub/temporary.txt", false),
            ("*/*/temp*", "some/sub/temporary.txt", true),
            ("temp?", "tempa", true),
            ("temp?", "temp", false),
            ("temp?", "temp/", false),
            ("node_modules", "node_modules/x/y.js", true),
            ("node_modules", "sub/node_modules/y.js", false),
            ("/foo/bar", "foo/bar", true),
            ("foo/bar/", "foo/bar/baz", true),
            ("./foo//bar", "foo/bar", true),
            ("a/../b", "b", true),
            ("**", "any/thing", true),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "axb", false),
            ("**/b", "xb", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[a-]x", "-x", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("# no", "# no", false),
            (" spaced ", "spaced", true),
            (".", "a", false),
            ("a.b", "axb", false),
        ];
        for (pattern, path, out) in table {
            assert_eq!(fate(pattern, path) == Fate::Ignored, out, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_match_wins() {
        assert_eq!(fate("*.md\n!README.md", "README.md"), Fate::Asked);
        assert_eq!(fate("*.md\n!README*.md\nREADME-secret.md", "README-secret.md"), Fate::Ignored);
        assert_eq!(fate("*.md\nREADME-secret.md\n!README*.md", "README-secret.md"), Fate::Asked);
        assert_eq!(fate("*\n!src", "src/a/b.rs"), Fate::Asked);
        assert_eq!(fate("*\n!src/**\nsrc/x", "src/x/y"), Fate::Ignored);
        assert_eq!(fate("!nothing", "a"), Fate::Sent);
    }

    #[test]
    fn secrets_stay_at_home_unless_asked_for() {
        for secret in [
            ".env",
            ".env.local",
            "deep/.env",
            ".git/config",
            "sub/.git",
            "id_rsa",
            "certs/server.key",
            ".aws/credentials",
            ".config/gcloud/x",
            ".kube/config",
            ".npmrc",
            ".netrc",
            "a/.pypirc",
            ".docker/config.json",
        ] {
            assert_eq!(fate("", secret), Fate::Withheld, "{secret}");
        }
        for harmless in ["env", "src/git.rs", "keyboard.rs", ".gitignore", "id_rsa.pub", "a.keys"] {
            assert_eq!(fate("", harmless), Fate::Sent, "{harmless}");
        }
        assert_eq!(fate("!.env", ".env"), Fate::Asked);
        assert_eq!(fate("!.env", "deep/.env"), Fate::Withheld);
        assert_eq!(fate("!**/.env", "deep/.env"), Fate::Asked);
    }

    #[test]
    fn nonsense_names_its_line_and_hostile_patterns_end() {
        assert_eq!(Ignore::parse("a\n!\n").unwrap_err().line, 2);
        assert_eq!(Ignore::parse("a\n\n[ab\n").unwrap_err().line, 3);
        let stars = "*a".repeat(1000);
        assert_eq!(fate(&stars, &"a".repeat(999)), Fate::Sent);
        assert_eq!(fate(&"**/".repeat(500), "x"), Fate::Ignored);
        assert!(Ignore::parse(&"a".repeat(5000)).is_err());
    }
}
