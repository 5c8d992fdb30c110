//! Words on the screen: what people read says it plainly.
//!
//! Looks at what `farm` prints and explains (string literals with a space in them, and the doc comments that become its
//! help) and at README.md. The words come from the table in `crates/farm/src/words.rs`. Names between braces in a format string, single words (keys, flags), tests and code examples are
//! not prose and are left alone.

use anyhow::{Context, Result, bail};

use crate::{
    Findings, Repository,
    lexer::{Kind, Lexed, Token},
    rust_files::has_word,
};

/// Where the table lives.
const TABLE: &str = "crates/farm/src/words.rs";
/// What prints and explains.
const SCREEN: &str = "crates/farm/src/";
/// What a newcomer reads first.
const README: &str = "README.md";
/// Traits whose derive turns doc comments into help.
const HELP: [&str; 4] = ["Parser", "Args", "Subcommand", "ValueEnum"];
/// The table's constants: pairs of a word and what to say instead, and words that are never said.
const PAIRS: &str = "PLAIN";
const NEVER: &str = "NEVER";

/// The words to avoid, each with what to say instead; nothing to say for those that are never said.
#[derive(Debug, PartialEq, Eq)]
struct Words(Vec<(String, String)>);

/// Runs the check.
pub(crate) fn check(repository: &mut Repository, findings: &mut Findings) -> Result<()> {
    let table = repository.tree.get(TABLE).and_then(|file| file.rust.as_ref()).with_context(|| format!("{TABLE} is missing"))?;
    let words = Words::parse(table)?;
    for (file, lexed) in repository.tree.rust().filter(|(file, _)| file.path.starts_with(SCREEN) && file.path != TABLE) {
        for (line, text) in spoken(lexed) {
            for (word, instead) in words.found_in(&text) {
                if !repository.exceptions.allows("screen-word", &format!("{}::{word}", file.path)) {
                    findings.line(&file.path, line, say(word, instead));
                }
            }
        }
    }
    if let Some(readme) = repository.tree.get(README) {
        for (number, line) in readme.text.lines().enumerate() {
            for (word, instead) in words.found_in(line) {
                findings.line(README, number + 1, say(word, instead));
            }
        }
    }
    Ok(())
}

fn say(word: &str, instead: &str) -> String {
    match instead {
        "" => format!("the screen never says '{word}'"),
        _ => format!("the screen says '{instead}', not '{word}'"),
    }
}

impl Words {
    /// Reads the literals of the two constants.
    fn parse(lexed: &Lexed) -> Result<Self> {
        let mut words = Vec::new();
        let code: Vec<&Token> = lexed.tokens.iter().filter(|token| !token.test).collect();
        for (index, token) in code.iter().enumerate() {
            let Some(name) = code.get(index + 1).and_then(|token| token.word()).filter(|_| token.word() == Some("const")) else { continue };
            let rest = code.get(index..).unwrap_or_default();
            let end = constant_end(rest);
            let texts = rest.get(..end).unwrap_or_default().iter().filter_map(|token| match &token.kind {
                Kind::Text(text) => Some(text.to_lowercase()),
                _ => None,
            });
            let texts: Vec<String> = texts.collect();
            if name == NEVER {
                words.extend(texts.into_iter().map(|word| (word, String::new())));
            } else if name == PAIRS {
                words.extend(texts.chunks_exact(2).filter_map(|pair| match pair {
                    [word, instead] => Some((word.clone(), instead.clone())),
                    _ => None,
                }));
            }
        }
        match words.iter().any(|(_, instead)| instead.is_empty()) && words.iter().any(|(_, instead)| !instead.is_empty()) {
            true => Ok(Self(words)),
            false => bail!("{TABLE} has no table named {PAIRS}, or no list named {NEVER}"),
        }
    }

    fn found_in(&self, text: &str) -> impl Iterator<Item = (&str, &str)> {
        let text = text.to_lowercase();
        self.0.iter().filter(move |(word, _)| says(&text, word)).map(|(word, instead)| (word.as_str(), instead.as_str()))
    }
}

/// Whether a lower-case text has a word or one of its usual forms.
fn says(text: &str, word: &str) -> bool {
    let stem = word.strip_suffix('e').unwrap_or(word);
    let forms = [word.to_owned(), format!("{word}s"), format!("{word}es"), format!("{stem}ed"), format!("{stem}ing")];
    forms.iter().any(|form| has_word(text, form))
}

/// The semicolon that ends a constant, past those inside array types.
fn constant_end(tokens: &[&Token]) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Punct('(' | '[' | '{') => depth += 1,
            Kind::Punct(')' | ']' | '}') => depth = depth.saturating_sub(1),
            Kind::Punct(';') if depth == 0 => return index,
            _ => {}
        }
    }
    tokens.len()
}

/// What a file says to people: its literals of several words and the help of its arguments.
fn spoken(lexed: &Lexed) -> Vec<(usize, String)> {
    let mut said = Vec::new();
    for token in lexed.tokens.iter().filter(|token| !token.test) {
        if let Kind::Text(text) = &token.kind
            && text.trim().contains(' ')
        {
            said.push((token.line, without_placeholders(text)));
        }
    }
    let help = help_lines(lexed);
    for comment in &lexed.comments {
        let Kind::Comment(text) = &comment.kind else { continue };
        if text.starts_with("///") && help.iter().any(|(from, to)| (*from..=*to).contains(&comment.line)) {
            said.push((comment.line, without_code(text)));
        }
    }
    said
}

/// First and last lines of the types whose doc comments are help; the comment above a type is part of it.
fn help_lines(lexed: &Lexed) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    for (index, token) in lexed.tokens.iter().enumerate() {
        if token.word() != Some("derive") || token.test {
            continue;
        }
        let rest = lexed.tokens.get(index..).unwrap_or_default();
        let Some(body) = rest.iter().position(|token| token.kind == Kind::Punct(']')) else { continue };
        let derived = rest.get(..body).unwrap_or_default();
        if !derived.iter().filter_map(Token::word).any(|word| HELP.contains(&word)) {
            continue;
        }
        let mut depth = 0usize;
        let mut last = token.line;
        for token in rest.get(body..).unwrap_or_default() {
            last = token.line;
            match token.kind {
                Kind::Punct('{') => depth += 1,
                Kind::Punct('}') if depth <= 1 => break,
                Kind::Punct('}') => depth -= 1,
                _ => {}
            }
        }
        let mut first = token.line;
        while lexed.comments.iter().any(|comment| comment.line + 1 == first) {
            first -= 1;
        }
        ranges.push((first, last));
    }
    ranges
}

/// A format string without what stands between its braces.
fn without_placeholders(text: &str) -> String {
    let mut kept = String::new();
    let mut depth = 0usize;
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            c if depth == 0 => kept.push(c),
            _ => {}
        }
    }
    kept
}

/// A comment without what stands between backquotes.
fn without_code(text: &str) -> String {
    text.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "//! T.\n/// Plain.\nconst PLAIN: [(&str, &str); 3] = [(\"Epoch\", \"period\"), (\"stake\", \"deposit\"), (\"zone\", \"network\")];\n\
                          const OTHER: [&str; 2] = [\"a\", \"b\"];\npub const NEVER: &[&str] = &[\"trustless\", \"passive income\"];\n\
                          #[cfg(test)]\nmod tests { const PLAIN: [&str; 2] = [\"c\", \"d\"]; }";

    fn table() -> Words {
        Words::parse(&Lexed::new(SOURCE)).unwrap()
    }

    #[test]
    fn the_table_is_read_from_rust() {
        let words = table();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let expected =
            [pair("epoch", "period"), pair("stake", "deposit"), pair("zone", "network"), pair("trustless", ""), pair("passive income", "")];
        assert_eq!(words, Words(expected.to_vec()));
        assert!(Words::parse(&Lexed::new("//! Empty.")).is_err());
    }

    #[test]
    fn forms_of_a_word_are_found() {
        let words = table();
        let found = |text: &str| words.found_in(text).map(|(word, _)| word.to_owned()).collect::<Vec<_>>();
        assert_eq!(found("Staking for two epochs"), ["epoch", "stake"]);
        assert_eq!(found("a mistake in the ozone"), [""; 0]);
        assert_eq!(found("Passive income"), ["passive income"]);
    }

    #[test]
    fn only_what_people_read_is_looked_at() {
        let text = "/// The epoch of `x`.\nfn f() { print(\"{epoch} left in slot\"); key(\"epoch\"); print(\"one epoch\"); }\n\
                    /// Arguments with a stake.\n#[derive(Debug, clap::Args)]\nstruct A {\n/// The zone, as `zone`.\nx: u8,\n}\n\
                    #[test]\nfn t() { print(\"an epoch\"); }";
        let said = spoken(&Lexed::new(text));
        let words = table();
        let found: Vec<_> = said.iter().flat_map(|(line, text)| words.found_in(text).map(|(word, _)| (*line, word))).collect();
        assert_eq!(found, [(2, "epoch"), (3, "stake"), (6, "zone")]);
    }
}
