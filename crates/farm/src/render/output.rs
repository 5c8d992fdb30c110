//! One place through which everything is written.
//!
//! Guarantees: a closed pipe ends nothing and loses nothing but the text; colour only on a terminal that wants it; what a
//! stranger wrote does nothing on a terminal (`visible.rs`), and a pipe gets it byte by byte.

use super::visible::{Visible, quoted};
use crate::args::Format;
use crate::errors;
use crate::exit::Failure;
use serde::Serialize;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

/// Where the output of jobs stands on either stream: a character may come in two pieces.
static ON_STDOUT: Mutex<Option<Visible>> = Mutex::new(None);
static ON_STDERR: Mutex<Option<Visible>> = Mutex::new(None);

fn next_piece(stream: &Mutex<Option<Visible>>, bytes: &[u8]) -> String {
    stream.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().piece(bytes)
}

/// How and where to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Data for programs, in one of the formats for them, not for people.
    pub(crate) json: bool,
    format: Format,
    /// Only data and failures.
    pub(crate) quiet: bool,
    color: bool,
    /// What goes to stdout, to stderr, is seen on a terminal. Looked at once: a job's log comes in many small pieces.
    shown: (bool, bool),
    /// Somebody sees stderr as it is written, and can answer.
    pub(crate) interactive: bool,
}

/// Emphasis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Paint {
    /// Good.
    Green,
    /// Bad.
    Red,
    /// Less important.
    Dim,
}

impl Output {
    /// Looks at the terminal and at what was asked. `present` says that somebody is there to answer.
    pub(crate) fn new(format: Format, quiet: bool, no_color: bool, present: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let json = format != Format::Table;
        let shown = (std::io::stdout().is_terminal(), terminal);
        Self {
            json,
            format,
            quiet,
            color: terminal && !no_color,
            shown,
            interactive: present && terminal && std::io::stdin().is_terminal(),
        }
    }

    /// The same without notes.
    pub(crate) const fn quietly(self) -> Self {
        Self { quiet: true, ..self }
    }
    /// Text on stdout.
    pub(crate) fn data(&self, text: &str) {
        if self.shown.0 {
            self.bytes(quoted(text).as_bytes());
        } else {
            self.bytes(text.as_bytes());
        }
        self.bytes(b"\n");
    }
    /// Whether text for people can take the place of the text before it.
    pub(crate) const fn redraws(&self) -> bool {
        self.shown.0 && !self.json
    }
    /// Text on stdout in place of all that is on the screen.
    pub(crate) fn redraw(&self, text: &str) {
        self.bytes(format!("\u{1b}[H\u{1b}[2J{}\n", quoted(text.trim_end())).as_bytes());
    }
    /// Raw bytes on stdout. Nobody listening is the reader's choice, not a failure of ours.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }
    /// What a job wrote on stdout.
    pub(crate) fn job_output(&self, bytes: &[u8]) {
        if self.shown.0 {
            self.bytes(next_piece(&ON_STDOUT, bytes).as_bytes());
        } else {
            self.bytes(bytes);
        }
    }
    /// What a job wrote on stderr.
    pub(crate) fn job_errors(&self, bytes: &[u8]) {
        if self.shown.1 {
            self.error_bytes(next_piece(&ON_STDERR, bytes).as_bytes());
        } else {
            self.error_bytes(bytes);
        }
    }
    /// Raw bytes on stderr.
    pub(crate) fn error_bytes(&self, bytes: &[u8]) {
        let mut out = std::io::stderr().lock();
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }
    /// A value for programs on stdout: one line of JSON, a line for each entry of a list, or a YAML document.
    pub(crate) fn json(&self, value: &impl Serialize) {
        match structured(self.format, value) {
            Ok(text) => self.bytes(text.as_bytes()),
            Err(e) => self.warn(&format!("this could not be written: {e}")),
        }
    }
    /// A value for scripts, or its text for people.
    pub(crate) fn either(&self, value: &impl Serialize, text: impl FnOnce() -> String) {
        if self.json {
            self.json(value);
        } else {
            self.data(text().trim_end_matches('\n'));
        }
    }
    /// Something to know, on stderr.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            self.error_line(text);
        }
    }
    /// Something to know even when quiet, on stderr.
    pub(crate) fn warn(&self, text: &str) {
        self.error_line(text);
    }
    fn error_line(&self, text: &str) {
        if self.shown.1 {
            self.error_bytes(format!("{}\n", quoted(text)).as_bytes());
            return;
        }
        self.error_bytes(format!("{text}\n").as_bytes());
    }
    /// Emphasised text, where there is colour.
    pub(crate) fn paint(&self, paint: Paint, text: &str) -> String {
        if !self.color {
            return text.into();
        }
        let code = match paint {
            Paint::Green => 32,
            Paint::Red => 31,
            Paint::Dim => 2,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
    /// A failure with its next steps, on stderr; as JSON where JSON was asked for.
    pub(crate) fn failure(&self, failure: &Failure) {
        if self.json {
            let charged = errors::charged(&failure.code);
            let body =
                serde_json::json!({"error": {"code": failure.code, "message": failure.message, "next": failure.next, "charged": charged}});
            match structured(self.format, &body) {
                Ok(text) => self.error_bytes(text.as_bytes()),
                Err(_) => self.error_line(&body.to_string()),
            }
            return;
        }
        self.error_line(&self.failure_text(failure));
    }
    /// A failure for people: what is wrong, what to do, what was charged, and the code under which more is said.
    pub(crate) fn failure_text(&self, failure: &Failure) -> String {
        let mut text = format!("{} {}\n", self.paint(Paint::Red, "✗"), failure.message);
        for step in &failure.next {
            text.push_str(&format!("  → {step}\n"));
        }
        text.push_str(&format!("  charged: {}; more about it:  farm error {}", errors::charged(&failure.code), failure.code));
        text
    }
    /// Asks a question on the terminal; `None` when nobody is there to answer.
    pub(crate) fn ask(&self, question: &str) -> Option<String> {
        if !self.interactive {
            return None;
        }
        self.error_bytes(question.as_bytes());
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).ok().filter(|n| *n > 0).map(|_| answer.trim().to_lowercase())
    }
}

/// A value in a format for programs, each line ended.
fn structured(format: Format, value: &impl Serialize) -> Result<String, String> {
    let value = serde_json::to_value(value).map_err(|e| e.to_string())?;
    match (format, &value) {
        (Format::Yaml, _) => Ok(format!("---\n{}", serde_norway::to_string(&value).map_err(|e| e.to_string())?)),
        (Format::Jsonl, serde_json::Value::Array(entries)) => Ok(entries.iter().map(|entry| format!("{entry}\n")).collect()),
        _ => Ok(format!("{value}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_format_can_be_read_back() {
        let value = json!([{"a": "1", "b": [true, null]}, {"a": "no: 'x'\n"}]);
        assert_eq!(structured(Format::Json, &value).unwrap(), "[{\"a\":\"1\",\"b\":[true,null]},{\"a\":\"no: 'x'\\n\"}]\n");
        assert_eq!(structured(Format::Jsonl, &value).unwrap(), "{\"a\":\"1\",\"b\":[true,null]}\n{\"a\":\"no: 'x'\\n\"}\n");
        let yaml = structured(Format::Yaml, &value).unwrap();
        assert!(yaml.starts_with("---\n") && yaml.ends_with('\n'), "{yaml}");
        assert_eq!(serde_norway::from_str::<serde_json::Value>(&yaml).unwrap(), value, "a text that looks like a number stays a text");
        assert_eq!(structured(Format::Jsonl, &json!([])).unwrap(), "");
        assert_eq!(structured(Format::Jsonl, &json!({"a": [1]})).unwrap(), "{\"a\":[1]}\n");
    }
}
