//! Asking for passphrases: from a file that was named, else at the terminal, where it is not shown. Never on the command line.
//!
//! Guarantees: what is typed is not echoed, and the terminal is given back as it was, also after Ctrl-C; a passphrase file that others
//! can read is refused; nothing of a passphrase is printed or kept.

use crate::config::Env;
use crate::exit::Failure;
use crate::render::Output;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest passphrase.
const MAX_BYTES: usize = 1024;
/// Shortest new one: what is shorter is guessed, whatever each guess costs.
const MIN_CHARS: usize = 8;
/// Attempts at a terminal.
pub(crate) const ATTEMPTS: usize = 3;
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const CTRL_U: u8 = 21;
const DELETE: u8 = 127;

/// A passphrase, gone from memory once it is dropped.
pub(crate) type Passphrase = Zeroizing<Vec<u8>>;

/// Where passphrases come from.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    out: Output,
    file: Option<PathBuf>,
}

impl Asker {
    /// As the environment and the command line say.
    pub(crate) fn new(out: Output, env: &Env) -> Self {
        Self { out, file: env.passphrase_file.clone() }
    }
    /// The same with another file.
    pub(crate) fn with_file(&self, file: Option<&Path>) -> Self {
        Self { out: self.out, file: file.map(Path::to_path_buf) }
    }
    /// Whether another attempt may bring another answer.
    pub(crate) const fn is_person(&self) -> bool {
        self.file.is_none() && self.out.interactive
    }
    /// Where it comes from, for people.
    pub(crate) fn source(&self) -> String {
        self.file.as_ref().map_or_else(|| "what was typed".into(), |file| file.display().to_string())
    }

    /// The passphrase of something; `None` if nobody can be asked.
    pub(crate) fn ask(&self, question: &str) -> Result<Option<Passphrase>, Failure> {
        match &self.file {
            Some(file) => read(file).map(Some),
            None if self.out.interactive => typed(self.out, question).map(Some),
            None => Ok(None),
        }
    }

    /// A new passphrase, typed twice.
    pub(crate) fn choose(&self, what: &str) -> Result<Passphrase, Failure> {
        let Some(first) = self.ask(&format!("New passphrase for {what}: "))? else {
            return Err(Failure::new("locked", format!("nobody can be asked here for a passphrase for {what}; nothing was done"))
                .next("run it at a terminal")
                .next("or write the passphrase into a file that only you can read, and name it:  --passphrase-file FILE"));
        };
        if String::from_utf8_lossy(&first).chars().count() < MIN_CHARS {
            return Err(Failure::usage(format!("a passphrase has at least {MIN_CHARS} characters; several words are best")));
        }
        if self.file.is_none() && self.ask("The same once more: ")?.as_ref() != Some(&first) {
            return Err(Failure::usage("the two passphrases differ; nothing was done"));
        }
        Ok(first)
    }
}

/// A file's first line.
fn read(path: &Path) -> Result<Passphrase, Failure> {
    let io = |e: std::io::Error| Failure::io("read", path, &e);
    let file = File::open(path).map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    let mode = meta.permissions().mode() & 0o777;
    // A pipe is nobody else's.
    if meta.is_file() && mode & 0o077 != 0 {
        return Err(Failure::new("files", format!("the passphrase file {} can be read by others (mode {mode:o})", path.display()))
            .next(format!("keep them out:  chmod 600 {}", path.display())));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 2));
    file.take(MAX_BYTES as u64 + 2).read_to_end(&mut text).map_err(io)?;
    let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() || line.len() > MAX_BYTES {
        return Err(Failure::usage(format!("{}: its first line is to be the passphrase, of at most {MAX_BYTES} bytes", path.display())));
    }
    Ok(Zeroizing::new(line.to_vec()))
}

/// A terminal that shows nothing of what is typed; as it was before, when this is dropped.
struct Silent<'a>(&'a File, Termios);

impl<'a> Silent<'a> {
    fn begin(terminal: &'a File) -> rustix::io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        // Keys come one by one, Ctrl-C too: we end with the terminal as it was.
        silent.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN);
        tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        Ok(Self(terminal, before))
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(self.0, OptionalActions::Flush, &self.1);
    }
}

fn typed(out: Output, question: &str) -> Result<Passphrase, Failure> {
    let failed = |e: std::io::Error| Failure::new("terminal", format!("the terminal cannot be used: {e}"));
    // Standard input may be something else by now.
    let terminal = File::options().read(true).write(true).open("/dev/tty").map_err(failed)?;
    let silent = Silent::begin(&terminal).map_err(|e| failed(e.into()))?;
    out.error_bytes(question.as_bytes());
    let line = line(&terminal);
    drop(silent);
    out.error_bytes(b"\n");
    line.map_err(failed)?.ok_or_else(|| Failure::new("declined", "no passphrase was given; nothing was done"))
}

/// One line of keys; `None` if somebody broke off.
fn line(mut keys: impl std::io::Read) -> std::io::Result<Option<Passphrase>> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_BYTES));
    // One by one: what is typed ahead is for the next question.
    let mut key = [0];
    while keys.read(&mut key)? > 0 {
        let [key] = key;
        match key {
            b'\n' | b'\r' => return Ok(Some(line)),
            CTRL_C => return Ok(None),
            CTRL_D if line.is_empty() => return Ok(None),
            CTRL_U => line.clear(),
            BACKSPACE | DELETE => {
                // A character may have several bytes; all but its first begin with 10.
                while line.pop().is_some_and(|b| b & 0xc0 == 0x80) {}
            }
            byte if line.len() < MAX_BYTES => line.push(byte),
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_make_a_line() {
        let typed = |keys: &[u8]| line(keys).unwrap().map(|l| String::from_utf8(l.to_vec()).unwrap());
        assert_eq!(typed(b"secret\nrest").as_deref(), Some("secret"));
        assert_eq!(typed("sé\u{7f}ecrex\u{8}t\r".as_bytes()).as_deref(), Some("secret"));
        assert_eq!(typed(b"wrong\x15right\n").as_deref(), Some("right"));
        assert_eq!(typed(b"\x7f\x7fa\n").as_deref(), Some("a"));
        assert_eq!((typed(b"sec\x03ret\n"), typed(b"\x04"), typed(b"cut off")), (None, None, None));
        assert_eq!(line([b'x'; 5000].as_slice().chain(b"\n".as_slice())).unwrap().unwrap().len(), MAX_BYTES);
    }

    #[test]
    fn a_file_is_private_and_its_first_line_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        let write = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            read(&path).map(|p| p.to_vec())
        };
        assert_eq!(write("open sesame\r\n", 0o600).unwrap(), b"open sesame");
        assert_eq!(write("open sesame\nmore\n", 0o400).unwrap(), b"open sesame");
        assert_eq!(write("", 0o600).unwrap_err().code, "usage");
        assert_eq!(write("open sesame", 0o644).unwrap_err().code, "files");
    }
}
