//! Running programs of the host: mounts, file systems, the packet filter.
//!
//! Guarantees: each has a deadline, and one that misses it, or that nobody waits for any more, is killed; what it is given and what it
//! says is passed on at the same time, so that neither side waits for the other; what is kept of its words is bounded; where it fails,
//! the error has its status and its complaint. It knows no shell: arguments reach the program as they are.

use std::{
    io::{Error, ErrorKind, Result as IoResult},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, copy, sink},
    process::{ChildStdin, Command},
    time::timeout,
    try_join,
};

use crate::RuntimeError;

/// A service may have been started without the directories of system tools on its path.
pub(super) const TOOL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Most of what we run works no longer than moments; a hung mount must not hang the node.
const DEADLINE: Duration = Duration::from_secs(30);
/// Largest answer that is read: the packet filter of a host with thousands of rules.
const MAX_ANSWER: u64 = 8 << 20;
/// What is kept of a complaint: more than a person reads.
const MAX_COMPLAINT: u64 = 4096;

/// A program to run to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tool<'a> {
    program: &'a str,
    args: &'a [&'a str],
    input: Option<&'a str>,
    deadline: Duration,
}

/// Runs a program that needs nothing but its arguments.
pub(super) async fn run_tool(program: &str, args: &[&str]) -> Result<(), RuntimeError> {
    Tool::new(program, args).run().await
}

impl<'a> Tool<'a> {
    pub(super) fn new(program: &'a str, args: &'a [&'a str]) -> Self {
        Self { program, args, input: None, deadline: DEADLINE }
    }

    /// What it reads; nothing unless said.
    pub(super) fn input(self, text: &'a str) -> Self {
        Self { input: Some(text), ..self }
    }

    /// For what may take its time, or has to answer at once.
    pub(super) fn within(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Runs it.
    pub(super) async fn run(self) -> Result<(), RuntimeError> {
        self.finish(Stdio::null()).await.map(drop)
    }

    /// Runs it and gives what it says.
    pub(super) async fn ask(self) -> Result<String, RuntimeError> {
        self.finish(Stdio::piped()).await
    }

    async fn finish(self, stdout: Stdio) -> Result<String, RuntimeError> {
        let failed = |error| RuntimeError::io(format!("run {}", self.program), error);
        let mut command = Command::new(self.program);
        command.args(self.args).stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(stdout).stderr(Stdio::piped()).kill_on_drop(true).env("PATH", TOOL_PATH);
        let mut child = command.spawn().map_err(failed)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let given = async { Ok(give(stdin, self.input).await) };
        let all = async { try_join!(given, answer(stdout), complaint(stderr), child.wait()) };
        let late = |_| failed(Error::other(format!("did not end within {:?}", self.deadline)));
        let (given, answer, complaint, status) = timeout(self.deadline, all).await.map_err(late)?.map_err(failed)?;
        if !status.success() {
            return Err(failed(Error::other(format!("{status}: {}", complaint.trim()))));
        }
        // One that failed has said why, which counts for more than that it read no further.
        given.map_err(failed)?;
        Ok(answer)
    }
}

async fn give(pipe: Option<ChildStdin>, text: Option<&str>) -> IoResult<()> {
    match (pipe, text) {
        (Some(mut pipe), Some(text)) => pipe.write_all(text.as_bytes()).await,
        _ => Ok(()),
    }
}

/// All that it says.
async fn answer(pipe: Option<impl AsyncRead + Unpin>) -> IoResult<String> {
    let mut said = vec![];
    if let Some(pipe) = pipe {
        // One more tells what is too long from what just fits.
        pipe.take(MAX_ANSWER + 1).read_to_end(&mut said).await?;
    }
    if said.len() as u64 > MAX_ANSWER {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("says more than {MAX_ANSWER} bytes")));
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// The beginning of what it complains of. The rest is read as well: a full pipe would stop it.
async fn complaint(pipe: Option<impl AsyncRead + Unpin>) -> IoResult<String> {
    let Some(mut pipe) = pipe else { return Ok(String::new()) };
    let mut said = vec![];
    (&mut pipe).take(MAX_COMPLAINT).read_to_end(&mut said).await?;
    copy(&mut pipe, &mut sink()).await?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;
    use std::path::{Path, PathBuf};

    /// More than pipes hold.
    const MUCH: usize = 1 << 20;

    fn why(error: &RuntimeError) -> String {
        format!("{error}: {}", error.source().unwrap())
    }

    async fn fails(script: &str, input: Option<&str>) -> String {
        let args = ["-c", script];
        let tool = Tool { input, ..Tool::new("sh", &args) };
        why(&tool.ask().await.unwrap_err())
    }

    #[tokio::test]
    async fn a_program_gets_its_arguments_and_input_as_they_are() {
        assert_eq!(Tool::new("printf", &["%s|", "a b", "$HOME; exit 1", ""]).ask().await.unwrap(), "a b|$HOME; exit 1||");
        let much = "x".repeat(MUCH);
        assert!(Tool::new("cat", &[]).input(&much).ask().await.unwrap() == much, "it answers while it still reads");
        assert_eq!(Tool::new("cat", &[]).ask().await.unwrap(), "", "there is nothing to read");
        assert_eq!(Tool::new("sh", &["-c", "printf '%s' \"$PATH\""]).ask().await.unwrap(), TOOL_PATH);
        assert_eq!(Tool::new("printf", &[r"a\377b"]).ask().await.unwrap(), "a\u{fffd}b");
        run_tool("sh", &["-c", "echo nobody asked"]).await.unwrap();
    }

    #[tokio::test]
    async fn what_fails_says_why() {
        assert_eq!(fails("echo said; echo the reason >&2; exit 3", None).await, "cannot run sh: exit status: 3: the reason");
        let much = "x".repeat(MUCH);
        assert_eq!(fails("echo will not >&2; exit 1", Some(&much)).await, "cannot run sh: exit status: 1: will not");
        assert!(fails("exit 0", Some(&much)).await.contains("Broken pipe"), "it has not read what it was given");
        let missing = run_tool("no-such-program", &[]).await.unwrap_err();
        assert!(matches!(&missing, RuntimeError::Io { source, .. } if source.kind() == ErrorKind::NotFound), "{missing:?}");
        let long = fails(&format!("head -c {MUCH} /dev/zero | tr '\\0' x >&2; exit 1"), None).await;
        assert_eq!(long.bytes().filter(|b| *b == b'x').count() as u64, MAX_COMPLAINT + 1, "the one more is in `exit status`");
    }

    /// A script that notes its number and then does this.
    fn noted(dir: &Path, then: &str) -> (PathBuf, String) {
        let note = dir.join("pid");
        let script = format!("echo $$ > '{}'; {then}", note.display());
        (note, script)
    }

    async fn gone(note: &Path) {
        let pid = std::fs::read_to_string(note).unwrap();
        let stat = PathBuf::from(format!("/proc/{}/stat", pid.trim()));
        // A killed one may wait for somebody to take its status.
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_does_not_end_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (note, script) = noted(dir.path(), "exec sleep 600");
        let deadline = Duration::from_secs(2);
        let late = Tool::new("sh", &["-c", &script]).within(deadline).run().await.unwrap_err();
        assert_eq!(why(&late), "cannot run sh: did not end within 2s");
        timeout(DEADLINE, gone(&note)).await.unwrap();
        // Whatever it says, no more than this is kept, and it need not be waited for.
        let (note, script) = noted(dir.path(), "exec cat /dev/zero");
        let args = ["-c", &script];
        let endless = Tool::new("sh", &args).within(Duration::from_secs(600)).ask();
        let endless = timeout(DEADLINE, endless).await.unwrap().unwrap_err();
        assert_eq!(why(&endless), format!("cannot run sh: says more than {MAX_ANSWER} bytes"));
        timeout(DEADLINE, gone(&note)).await.unwrap();
    }
}
