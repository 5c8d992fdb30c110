//! A program that runs, with what it has written so far.
//!
//! Guarantees: output is read as it comes, so nothing blocks on a full pipe; a program that is dropped is killed.

use super::{PATIENCE, eventually};
pub(crate) use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use std::io::{Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

type Text = Arc<Mutex<Vec<u8>>>;

/// A program that runs.
pub(crate) struct Running {
    what: String,
    child: Child,
    stdout: Text,
    stderr: Text,
    readers: Vec<JoinHandle<()>>,
}

/// A program that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) what: String,
    /// 128 + signal if a signal ended it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

fn read(mut from: impl Read + Send + 'static) -> (Text, JoinHandle<()>) {
    let text = Text::default();
    let sink = Arc::clone(&text);
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        // A pipe that breaks has nothing more to tell.
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            sink.lock().unwrap().extend_from_slice(&buffer[..n]);
        }
    });
    (text, reader)
}

fn shown(text: &Text) -> String {
    String::from_utf8_lossy(&text.lock().unwrap()).into_owned()
}

impl Running {
    /// Starts a program without a terminal and without input.
    pub(crate) fn start(command: Command) -> Self {
        Self::start_with(command, Stdio::null())
    }

    pub(crate) fn start_with(mut command: Command, stdin: Stdio) -> Self {
        let what = format!("{command:?}");
        let mut child =
            command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(|e| panic!("{what}: {e}"));
        let (stdout, out) = read(child.stdout.take().unwrap());
        let (stderr, err) = read(child.stderr.take().unwrap());
        Self { what, child, stdout, stderr, readers: vec![out, err] }
    }

    pub(crate) fn stdout(&self) -> String {
        shown(&self.stdout)
    }
    pub(crate) fn stderr(&self) -> String {
        shown(&self.stderr)
    }
    pub(crate) fn signal(&self, signal: Signal) {
        // A process that has just ended needs no signal; it is not reaped before `ended`, so the number is still its own.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }
    /// Writes to its standard input.
    /// The memory that its process has now.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() << 10
    }
    pub(crate) fn type_in(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("it was started with an input");
        // One that has just ended reads nothing more.
        let _ = stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush());
    }
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
    /// Waits until standard output shows something.
    #[track_caller]
    pub(crate) fn shows(&mut self, words: &str) {
        let seen = eventually(&format!("`{words}` in the output of {}", self.what), PATIENCE, || {
            // Looked at in this order, so that the last words of a program that ends are not missed.
            let over = self.ended().is_some();
            match self.stdout().contains(words) {
                true => Some(true),
                false if over => Some(false),
                false => None,
            }
        });
        let (out, err) = (self.stdout(), self.stderr());
        assert!(seen || self.stdout().contains(words), "{} ended without `{words}`\n{out}\n--- stderr\n{err}", self.what);
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn finish(mut self, within: Duration) -> Done {
        let began = std::time::Instant::now();
        let status = loop {
            if let Some(status) = self.ended() {
                break status;
            }
            if began.elapsed() > within {
                let (out, err) = (self.stdout(), self.stderr());
                panic!("{} did not end within {within:?}\n{out}\n--- stderr\n{err}", self.what);
            }
            std::thread::sleep(super::LOOK_EVERY);
        };
        for reader in self.readers.drain(..) {
            // A grandchild may hold the pipe; what matters was read.
            eventually("the end of a pipe", PATIENCE, || reader.is_finished().then_some(()));
        }
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Done { what: self.what.clone(), code, stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Processor time of all processes on this machine with a word on their command line, as the kernel counts it: a hundredth
/// of a second each.
pub(crate) fn cpu_ticks(word: &str) -> u64 {
    let ticks = |dir: std::path::PathBuf| {
        let command = std::fs::read(dir.join("cmdline")).ok()?;
        String::from_utf8_lossy(&command).contains(word).then_some(())?;
        let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
        // The name in brackets may hold anything; user and system time are the 12th and 13th number after it.
        let mut numbers = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        Some(numbers.next()?.parse::<u64>().ok()? + numbers.next()?.parse::<u64>().ok()?)
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| ticks(entry.path())).sum()
}

impl Done {
    /// All that it wrote.
    pub(crate) fn all(&self) -> String {
        format!("{}\n--- stderr\n{}", self.stdout, self.stderr)
    }
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.what, self.all());
        self
    }
    /// That it wrote each of these words somewhere.
    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Self {
        let all = self.all();
        for word in words {
            assert!(all.contains(word), "`{word}` is missing after {}\n{all}", self.what);
        }
        self
    }
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{}: {e}\n{}", self.what, self.all()))
    }
}
