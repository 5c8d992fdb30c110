//! How Rust files look: they open with what they are, stay readable in size, and leave nothing unfinished behind.

use crate::{Findings, Repository, lexer::Lexed, tree::File};

/// A file longer than this is two files.
const MAX_FILE_LINES: usize = 800;
/// A function longer than this is two functions.
const MAX_FUNCTION_LINES: usize = 80;
/// Macros that stand for work not done.
const UNFINISHED: [&str; 2] = ["todo", "unimplemented"];
/// Marks in comments that stand for work not done; joined here so that this file does not find itself.
const MARKS: [&str; 2] = [concat!("FIX", "ME"), concat!("XX", "X")];

/// Runs the check.
pub(crate) fn check(repository: &mut Repository, findings: &mut Findings) {
    for (file, lexed) in repository.tree.rust() {
        if !file.text.starts_with("//!") {
            findings.line(&file.path, 1, "open with //! what this is, what it guarantees, what it does not do");
        }
        let lines = file.text.lines().count();
        if lines > MAX_FILE_LINES && !repository.exceptions.allows_up_to("long-file", &file.path, lines) {
            findings.at(&file.path, format_args!("{lines} lines, the limit is {MAX_FILE_LINES}"));
        }
        for function in lexed.functions().iter().filter(|function| function.lines > MAX_FUNCTION_LINES) {
            let place = format!("{}::{}", file.path, function.name);
            if !repository.exceptions.allows_up_to("long-function", &place, function.lines) {
                let message = format!("{} has {} lines, the limit is {MAX_FUNCTION_LINES}", function.name, function.lines);
                findings.line(&file.path, function.line, message);
            }
        }
        unfinished(file, lexed, findings);
    }
}

fn unfinished(file: &File, lexed: &Lexed, findings: &mut Findings) {
    for pair in lexed.tokens.windows(2) {
        let [first, second] = pair else { continue };
        let Some(word) = first.word() else { continue };
        let punct = |wanted| second.kind == crate::lexer::Kind::Punct(wanted);
        if UNFINISHED.contains(&word) && punct('!') {
            findings.line(&file.path, first.line, format_args!("{word}! is not finished"));
        }
    }
    for window in lexed.tokens.windows(3) {
        let [hash, bracket, word] = window else { continue };
        let opens = hash.kind == crate::lexer::Kind::Punct('#') && bracket.kind == crate::lexer::Kind::Punct('[');
        if opens && word.word() == Some("ignore") {
            findings.line(&file.path, word.line, "a test that is ignored tests nothing");
        }
    }
    for comment in &lexed.comments {
        let crate::lexer::Kind::Comment(text) = &comment.kind else { continue };
        for mark in MARKS.iter().filter(|mark| has_word(text, mark)) {
            findings.line(&file.path, comment.line, format_args!("{mark}: do it, or write an issue"));
        }
    }
}

/// Whether a text has a word, bounded by anything that is not part of a word.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    fn unfinished_in(text: &str) -> usize {
        let tree = Tree::of(&[("a.rs", text)]);
        let mut findings = Findings::default();
        for (file, lexed) in tree.rust() {
            unfinished(file, lexed, &mut findings);
        }
        findings.0.len()
    }

    #[test]
    fn unfinished_work_is_found_in_code_and_comments_only() {
        assert_eq!(unfinished_in(concat!("fn a() { to", "do!() } // FIX", "ME later\n#[ig", "nore]\nfn b() {}")), 3);
        assert_eq!(unfinished_in("fn todo() { let x = \"todo!()\"; } // a todo list\n#[ignored]\nfn b() {}"), 0);
    }

    #[test]
    fn words_have_bounds() {
        assert!(has_word("a stake, b", "stake"));
        assert!(!has_word("mistakes", "stake"));
        assert!(!has_word("stake_of", "stake"));
    }
}
