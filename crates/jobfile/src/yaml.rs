//! Where in a text something stands, and what a mistyped name was probably meant to be.
//!
//! Guarantees: work is bounded by the size of the text; lines are found by names, so one may be a neighbour's of the same name.

use crate::error::FileError;

/// Names this far apart are still taken for a slip.
const MAX_TYPOS: usize = 2;

/// Whether a file has nothing but comments.
#[must_use]
pub fn says_nothing(text: &str) -> bool {
    text.lines().all(|l| l.trim().is_empty() || l.trim_start().starts_with('#'))
}

/// What is wrong with a file's form, at its line, and what was probably meant.
#[must_use]
pub fn syntax(text: &str, error: &serde_norway::Error) -> FileError {
    // What is missing at the end is reported behind it.
    let reported = error.location().map_or(1, |l| l.line()).clamp(1, text.lines().count().max(1));
    let full = error.to_string();
    let message = full.split(" at line ").next().unwrap_or(&full);
    let unknown = quoted_after(message, "unknown field `");
    let line = unknown.and_then(|field| find_key(text, field, reported)).unwrap_or(reported);
    let known = message.split_once("expected").map_or("", |(_, list)| list);
    let problem = unknown.map_or_else(|| message.to_string(), |field| format!("unknown field `{field}`"));
    let failure = FileError::new(line, problem);
    match unknown.and_then(|field| nearest(field, known)) {
        Some(meant) => failure.next(format!("did you mean `{meant}`?")),
        None if unknown.is_some() => failure.next(format!("known here are:{}", known.trim_start_matches(" one of"))),
        None => failure,
    }
}

/// The name that is nearest to a mistyped one.
#[must_use]
pub fn nearest_name<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known.map(|k| (distance(typed, k), k)).filter(|(d, k)| *d <= MAX_TYPOS.min(k.len() / 2 + 1)).min().map(|(_, k)| k)
}

fn quoted_after<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split('`').next()
}

/// The known name (between backquotes in `list`) that is nearest to a mistyped one.
fn nearest<'a>(typed: &str, list: &'a str) -> Option<&'a str> {
    let known = list.split('`').skip(1).step_by(2);
    known.map(|k| (distance(typed, k), k)).filter(|(d, k)| *d <= MAX_TYPOS.min(k.len() / 2)).min().map(|(_, k)| k)
}

/// Edit distance, with neighbours swapped counting as one slip.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = vec![];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let at = |row: &[usize], i: usize| row.get(i).copied().unwrap_or(usize::MAX / 2);
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let mut best = (at(&last, j) + usize::from(ca != cb)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(cb) && b.get(j - 1) == Some(ca);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    at(&last, b.len())
}

/// The first line, from `from` (counted from 1) on, that has `key:` outside a comment.
#[must_use]
pub fn find_key(text: &str, key: &str, from: usize) -> Option<usize> {
    let has_key = |line: &str| {
        let line = line.split(" #").next().unwrap_or(line);
        line.match_indices(key).any(|(start, _)| {
            let before = line.get(..start).and_then(|s| s.chars().next_back());
            let after = line.get(start + key.len()..).unwrap_or("").trim_start_matches(['"', '\'']).trim_start();
            before.is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == '-')) && after.starts_with(':')
        })
    };
    text.lines().enumerate().skip(from.saturating_sub(1)).find(|(_, line)| has_key(line)).map(|(i, _)| i + 1)
}

/// The line of a field by its path, e.g. `services.web.image`: each part lies below the one before it, as far as they are found.
#[must_use]
pub fn line_of(text: &str, path: &str) -> usize {
    path.split('.').fold(1, |from, part| find_key(text, part, from).unwrap_or(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, d) in [("", "ab", 2), ("memory", "memroy", 1), ("image", "imgae", 1), ("cpu", "gpu", 1), ("a", "a", 0)] {
            assert_eq!(distance(a, b), d, "{a} {b}");
        }
    }
}
