//! A small lexer for Rust: enough to tell code from strings and comments, functions from one another, and test code
//! from the rest. It does not parse: macros, generics and types are just tokens.

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A word or a number.
    Word(String),
    /// One character of punctuation.
    Punct(char),
    /// The text between the quotes of a string literal, escapes unresolved.
    Text(String),
    /// A comment, with its slashes.
    Comment(String),
}

/// A token and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// What it is.
    pub(crate) kind: Kind,
    /// Its first line, from 1.
    pub(crate) line: usize,
    /// Whether it belongs to code that is compiled for tests only.
    pub(crate) test: bool,
}

impl Token {
    /// The word, if it is one.
    pub(crate) fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }

    fn is(&self, punct: char) -> bool {
        self.kind == Kind::Punct(punct)
    }
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// The line of `fn`.
    pub(crate) line: usize,
    /// From the line of `fn` to that of the closing brace.
    pub(crate) lines: usize,
}

/// A lexed file.
pub(crate) struct Lexed {
    /// Code and string literals, without comments.
    pub(crate) tokens: Vec<Token>,
    /// The comments.
    pub(crate) comments: Vec<Token>,
    /// Names of modules declared as `#[cfg(test)] mod name;`.
    pub(crate) test_modules: Vec<String>,
}

impl Lexed {
    /// Lexes a file.
    pub(crate) fn new(text: &str) -> Self {
        let (comments, mut tokens): (Vec<_>, Vec<_>) = lex(text).into_iter().partition(|token| matches!(token.kind, Kind::Comment(_)));
        let test_modules = mark_tests(&mut tokens);
        Self { tokens, comments, test_modules }
    }

    /// Marks the whole file as test code.
    pub(crate) fn mark_all_test(&mut self) {
        for token in self.tokens.iter_mut().chain(&mut self.comments) {
            token.test = true;
        }
    }

    /// Whether all of it is test code.
    #[cfg(test)]
    pub(crate) fn is_all_test(&self) -> bool {
        self.tokens.iter().chain(&self.comments).all(|token| token.test)
    }

    /// All functions that have a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for (index, token) in self.tokens.iter().enumerate() {
            if token.word() != Some("fn") {
                continue;
            }
            let Some(name) = self.tokens.get(index + 1).and_then(Token::word) else { continue };
            let rest = self.tokens.get(index..).unwrap_or_default();
            let Some(end) = item_end(rest) else { continue };
            if let Some(last) = rest.get(end).filter(|last| last.is('}')) {
                found.push(Function { name: name.to_owned(), line: token.line, lines: last.line - token.line + 1 });
            }
        }
        found
    }

    /// Whether the file defines a function, type or constant of that name that is more than a test's helper.
    pub(crate) fn defines(&self, name: &str) -> bool {
        const KEYWORDS: [&str; 8] = ["fn", "struct", "enum", "trait", "type", "const", "static", "mod"];
        self.tokens.windows(2).any(|pair| match pair {
            [keyword, defined] => {
                !keyword.test && keyword.word().is_some_and(|word| KEYWORDS.contains(&word)) && defined.word() == Some(name)
            }
            _ => false,
        })
    }

    /// The lines on which a path such as `["std", "fs"]` is named: as `std::fs`, or inside `std::{..}`.
    pub(crate) fn lines_naming(&self, path: &[&str], in_tests: bool) -> Vec<usize> {
        let mut lines = Vec::new();
        for (index, token) in self.tokens.iter().enumerate() {
            if token.test && !in_tests {
                continue;
            }
            if names_path(self.tokens.get(index..).unwrap_or_default(), path) {
                lines.push(token.line);
            }
        }
        lines.dedup();
        lines
    }
}

/// Whether tokens begin with a path; a `use` group in braces may stand at any joint of it.
fn names_path(tokens: &[Token], path: &[&str]) -> bool {
    let Some((head, tail)) = path.split_first() else { return true };
    let Some((token, rest)) = tokens.split_first() else { return false };
    if token.word() != Some(head) {
        return false;
    }
    if tail.is_empty() {
        return true;
    }
    let [colon, second, rest @ ..] = rest else { return false };
    if !colon.is(':') || !second.is(':') {
        return false;
    }
    if !rest.first().is_some_and(|token| token.is('{')) {
        return names_path(rest, tail);
    }
    let mut depth = 0usize;
    let mut member_starts = false;
    for (index, token) in rest.iter().enumerate() {
        match &token.kind {
            Kind::Punct('{') => {
                depth += 1;
                member_starts = depth == 1;
            }
            Kind::Punct('}') => {
                depth -= 1;
                if depth == 0 {
                    return false;
                }
            }
            Kind::Punct(',') => member_starts = depth == 1,
            _ => {
                if member_starts && names_path(rest.get(index..).unwrap_or_default(), tail) {
                    return true;
                }
                member_starts = false;
            }
        }
    }
    false
}

/// The index of the token that ends the item that begins here: its closing brace or its semicolon.
fn item_end(tokens: &[Token]) -> Option<usize> {
    let mut braces = 0usize;
    let mut others = 0usize;
    for (index, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Punct('(' | '[') => others += 1,
            Kind::Punct(')' | ']') => others = others.saturating_sub(1),
            Kind::Punct('{') => braces += 1,
            Kind::Punct('}') => {
                braces = braces.saturating_sub(1);
                // A block inside brackets, as in `[u8; { N }]`, ends no item.
                if braces == 0 && others == 0 {
                    return Some(index);
                }
            }
            Kind::Punct(';') if braces == 0 && others == 0 => return Some(index),
            _ => {}
        }
    }
    None
}

/// Marks what `#[test]` and `#[cfg(test)]` stand before; gives the names of test modules that live in other files.
fn mark_tests(tokens: &mut [Token]) -> Vec<String> {
    let mut modules = Vec::new();
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        if !token.is('#') {
            index += 1;
            continue;
        }
        let inner = tokens.get(index + 1).is_some_and(|token| token.is('!'));
        let open = index + 1 + usize::from(inner);
        let attribute = tokens.get(open..).unwrap_or_default();
        let Some(close) = attribute.first().filter(|token| token.is('[')).and_then(|_| closing_bracket(attribute)) else {
            index += 1;
            continue;
        };
        let words: Vec<&str> = attribute.get(..close).unwrap_or_default().iter().filter_map(Token::word).collect();
        let is_test = is_test_attribute(&words);
        let after = open + close + 1;
        if !is_test {
            index = after;
            continue;
        }
        if inner {
            tokens.iter_mut().for_each(|token| token.test = true);
            return modules;
        }
        let item = after + skip_attributes(tokens.get(after..).unwrap_or_default());
        let body = tokens.get(item..).unwrap_or_default();
        let end = item + item_end(body).unwrap_or(body.len().saturating_sub(1));
        modules.extend(declared_module(tokens.get(item..=end).unwrap_or_default()));
        for token in tokens.get_mut(index..=end).unwrap_or_default() {
            token.test = true;
        }
        index = end + 1;
    }
    modules
}

fn is_test_attribute(words: &[&str]) -> bool {
    match words.first() {
        Some(&"cfg") => words.contains(&"test") && !words.contains(&"not"),
        Some(_) => words.last() == Some(&"test") || words.starts_with(&["tokio", "test"]),
        None => false,
    }
}

/// The name in `mod name;`, with or without `pub` before it.
fn declared_module(item: &[Token]) -> Option<String> {
    let at = item.iter().position(|token| token.word() == Some("mod"))?;
    let name = item.get(at + 1)?.word()?;
    item.get(at + 2)?.is(';').then(|| name.to_owned())
}

fn skip_attributes(tokens: &[Token]) -> usize {
    let mut skipped = 0;
    while let [hash, rest @ ..] = tokens.get(skipped..).unwrap_or_default() {
        match closing_bracket(rest).filter(|_| hash.is('#')) {
            Some(close) => skipped += close + 2,
            None => break,
        }
    }
    skipped
}

fn closing_bracket(tokens: &[Token]) -> Option<usize> {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Punct('[') => depth += 1,
            Kind::Punct(']') => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(index);
                }
            }
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

fn lex(text: &str) -> Vec<Token> {
    let mut reader = Reader { chars: text.chars().collect(), at: 0, line: 1 };
    let mut tokens = Vec::new();
    while let Some(next) = reader.peek(0) {
        let line = reader.line;
        let kind = match next {
            c if c.is_whitespace() => {
                reader.take();
                continue;
            }
            '/' if reader.peek(1) == Some('/') => Kind::Comment(reader.take_while(|c| c != '\n')),
            '/' if reader.peek(1) == Some('*') => Kind::Comment(reader.block_comment()),
            '"' => Kind::Text(reader.quoted()),
            '\'' => match reader.character() {
                true => Kind::Text(String::new()),
                false => Kind::Punct('\''),
            },
            c if c.is_alphanumeric() || c == '_' => {
                let word = reader.take_while(|c| c.is_alphanumeric() || c == '_');
                reader.string_after(&word).map_or(Kind::Word(word), Kind::Text)
            }
            c => {
                reader.take();
                Kind::Punct(c)
            }
        };
        tokens.push(Token { kind, line, test: false });
    }
    tokens
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    line: usize,
}

impl Reader {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn take(&mut self) -> Option<char> {
        let taken = self.peek(0)?;
        self.at += 1;
        self.line += usize::from(taken == '\n');
        Some(taken)
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(c) = self.peek(0).filter(|c| wanted(*c)) {
            taken.push(c);
            self.take();
        }
        taken
    }

    fn block_comment(&mut self) -> String {
        let mut taken = String::new();
        let mut depth = 0usize;
        while let Some(c) = self.take() {
            taken.push(c);
            match (c, self.peek(0)) {
                ('/', Some('*')) => depth += 1,
                ('*', Some('/')) => depth -= 1,
                _ => continue,
            }
            taken.extend(self.take());
            if depth == 0 {
                break;
            }
        }
        taken
    }

    /// The text of a string that begins at the quote.
    fn quoted(&mut self) -> String {
        let mut text = String::new();
        self.take();
        while let Some(c) = self.take() {
            match c {
                '"' => break,
                '\\' => {
                    text.push(c);
                    text.extend(self.take());
                }
                _ => text.push(c),
            }
        }
        text
    }

    /// The text of a string whose prefix (`r`, `b`, `br`, `c`, `cr`) was just read, if there is one.
    fn string_after(&mut self, prefix: &str) -> Option<String> {
        match prefix {
            "b" | "c" if self.peek(0) == Some('"') => return Some(self.quoted()),
            "b" if self.peek(0) == Some('\'') => return self.character().then(String::new),
            "r" | "br" | "cr" => {}
            _ => return None,
        }
        let mut hashes = 0;
        while self.peek(hashes) == Some('#') {
            hashes += 1;
        }
        if self.peek(hashes) != Some('"') {
            return None; // a raw identifier
        }
        for _ in 0..=hashes {
            self.take();
        }
        let mut text = String::new();
        while let Some(c) = self.take() {
            if c == '"' && (0..hashes).all(|ahead| self.peek(ahead) == Some('#')) {
                for _ in 0..hashes {
                    self.take();
                }
                break;
            }
            text.push(c);
        }
        Some(text)
    }

    /// Reads a character literal; at a lifetime it reads the quote only and answers no.
    fn character(&mut self) -> bool {
        self.take();
        match (self.peek(0), self.peek(1)) {
            (Some('\\'), _) => {
                self.take();
                self.take();
                while self.take().is_some_and(|c| c != '\'') {}
                true
            }
            (Some(_), Some('\'')) => {
                self.take();
                self.take();
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        Lexed::new(text).tokens.iter().filter_map(|token| token.word().map(str::to_owned)).collect()
    }

    #[test]
    fn strings_and_comments_are_not_code() {
        let text = r##"let a = "fn x() { // no"; /* fn y() /* nested */ { */ let b = r#"un"quoted"#; let c = '{'; let d = '\''; // fn z"##;
        assert_eq!(words(text), ["let", "a", "let", "b", "let", "c", "let", "d"]);
        let texts: Vec<_> = Lexed::new(text)
            .tokens
            .into_iter()
            .filter_map(|token| match token.kind {
                Kind::Text(text) => Some(text),
                _ => None,
            })
            .collect();
        assert_eq!(texts, ["fn x() { // no", "un\"quoted", "", ""]);
        assert_eq!(Lexed::new(text).comments.len(), 2);
    }

    #[test]
    fn lifetimes_are_not_characters() {
        assert_eq!(words("fn f<'a>(x: &'a str) -> &'static str { x }"), ["fn", "f", "a", "x", "a", "str", "static", "str", "x"]);
    }

    #[test]
    fn functions_are_measured_from_name_to_brace() {
        let text =
            "trait T { fn none(&self); }\nfn one() -> [u8; 2] {\n  if a { b } else { \"}\" }\n}\nfn two() where X: Y { fn three() {\n} }";
        let found: Vec<_> = Lexed::new(text).functions().into_iter().map(|f| (f.name, f.line, f.lines)).collect();
        assert_eq!(found, [("one".to_owned(), 2, 3), ("two".to_owned(), 5, 2), ("three".to_owned(), 5, 2)]);
    }

    #[test]
    fn test_items_are_marked() {
        let text = "fn real() { a }\n#[cfg(test)]\n#[allow(x)]\nmod tests { fn helper() { b } }\n#[tokio::test(flavor = \"x\")]\nasync fn t() { c }\n#[cfg(not(test))]\nfn kept() { d }\n#[cfg(test)]\npub(crate) mod outside;";
        let lexed = Lexed::new(text);
        let in_test = |word: &str| lexed.tokens.iter().find(|token| token.word() == Some(word)).unwrap().test;
        assert!(!in_test("a"));
        assert!(in_test("b"));
        assert!(in_test("c"));
        assert!(!in_test("d"));
        assert_eq!(lexed.test_modules, ["outside"]);
    }

    #[test]
    fn paths_are_found_plain_and_grouped() {
        let naming = |text: &str, path: &[&str]| Lexed::new(text).lines_naming(path, false);
        assert_eq!(naming("use std::fs;", &["std", "fs"]), [1]);
        assert_eq!(naming("use std::{\n collections::BTreeMap,\n fs::File};", &["std", "fs"]), [1]);
        assert_eq!(naming("use std::{time::{Duration, Instant}};", &["std", "time", "Instant"]), [1]);
        assert_eq!(naming("use std::{time::Duration, collections};", &["std", "fs"]), [0usize; 0]);
        assert_eq!(naming("use std::{a::{fs}};", &["std", "fs"]), [0usize; 0]);
        assert_eq!(naming("#[cfg(test)] mod t { use std::fs; }", &["std", "fs"]), [0usize; 0]);
    }

    #[test]
    fn definitions_are_found_by_name() {
        let lexed = Lexed::new("impl Chain { pub async fn submit(&self) {} } enum Event {} #[test] fn only_tested() {}");
        assert!(lexed.defines("submit"));
        assert!(lexed.defines("Event"));
        assert!(!lexed.defines("Chain"));
        assert!(!lexed.defines("only_tested"));
    }
}
