//! `farm exec`: a command in a running job, with our streams or on our terminal.
//!
//! Guarantees: the command's exit code is ours; its output is passed on as it comes and no faster than we are read; the terminal is
//! given back as it was however we end, also after a signal. When we end before the command, it is ended.

use crate::args::ExecArgs;
use crate::exit::{Exit, Failure, Outcome};
use crate::reach::{Reached, Talk, problem, refused};
use crate::session::App;
use bytes::{Bytes, BytesMut};
use pasture_api::channel::{Cells, Frame, MAX_CELLS, MAX_FRAME, Purpose};
use pasture_rt::{TaskKind, spawn};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// What a shell says of a command that is not there, and of one that cannot be run.
const NO_SUCH_COMMAND: u8 = 127;
const CANNOT_RUN: u8 = 126;
/// What a shell shows for somebody who writes where nobody reads.
const NOBODY_READS: u8 = 141;
/// What it adds to a signal's number.
const BY_SIGNAL: u8 = 128;

/// Runs the command.
pub(crate) async fn run(app: &App, args: &ExecArgs) -> Outcome {
    let at_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if args.tty && !at_terminal {
        return Err(Failure::usage("--tty: standard input and output are no terminal").next("leave --tty out for plain streams"));
    }
    let terminal = (at_terminal && !args.no_tty).then(cells);
    let mut env = BTreeMap::new();
    for pair in &args.env {
        let (name, value) = pair.split_once('=').ok_or_else(|| Failure::usage(format!("--env: `{pair}` is not NAME=VALUE")))?;
        env.insert(name.to_owned(), value.to_owned());
    }
    let reached = Reached::running(app, &args.job).await?;
    let purpose = Purpose::Exec { command: args.command.clone(), env, terminal };
    let talk = Talk::open(&reached.client, purpose).await.map_err(|e| reached.failure(e))?;
    let raw = terminal.map(|_| Raw::begin()).transpose()?;
    let outcome = converse(talk, terminal.is_some()).await;
    // Before anything is said about how it ended.
    drop(raw);
    match outcome? {
        Last::Exit(code) => Ok(Exit::Job(u8::try_from(code).unwrap_or(u8::MAX))),
        Last::Us(code) => Ok(Exit::Job(code)),
        Last::Problem(bytes) => {
            let problem = problem(&bytes);
            let exit = match problem.code.as_str() {
                "no-such-command" => NO_SUCH_COMMAND,
                "cannot-run" => CANNOT_RUN,
                _ => return Err(refused(&reached.handle, &problem)),
            };
            let word = args.command.first().map_or("", String::as_str).escape_debug().to_string();
            let what =
                if exit == NO_SUCH_COMMAND { "is not in the container, or not on its path" } else { "cannot be run in the container" };
            let failure = Failure { exit: Exit::Job(exit), ..Failure::new(&problem.code, format!("{word} {what}")) };
            Err(failure.next(format!("see what there is:  farm exec {} -- ls /bin /usr/bin", reached.handle)))
        }
    }
}

/// How a conversation ended.
enum Last {
    Exit(i32),
    Problem(Bytes),
    /// By our own doing.
    Us(u8),
}

/// The size of our terminal.
fn cells() -> Cells {
    let size = tcgetwinsize(io::stdout()).ok();
    let sane = |n: u16, usual: u16| if n == 0 { usual } else { n.min(MAX_CELLS) };
    Cells { columns: sane(size.map_or(0, |s| s.ws_col), 80), rows: sane(size.map_or(0, |s| s.ws_row), 24) }
}

/// A terminal that passes every key on; as it was before, when this is dropped.
struct Raw(Termios);

impl Raw {
    fn begin() -> Result<Self, Failure> {
        let failed = |e: rustix::io::Errno| Failure::new("terminal", format!("the terminal cannot be used: {e}"));
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Signals that would end us with the terminal as it is, and the one that says that its size is another.
struct Signals {
    ending: [(Signal, u8); 4],
    resized: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let of = |kind: SignalKind| signal(kind).map(|s| (s, u8::try_from(kind.as_raw_value()).unwrap_or(0)));
        let ending = [of(SignalKind::interrupt())?, of(SignalKind::terminate())?, of(SignalKind::hangup())?, of(SignalKind::quit())?];
        Ok(Self { ending, resized: signal(SignalKind::window_change())? })
    }
    /// The number of the next one that ends us.
    async fn ending(ending: &mut [(Signal, u8); 4]) -> u8 {
        let [a, b, c, d] = ending;
        tokio::select! {
            _ = a.0.recv() => a.1,
            _ = b.0.recv() => b.1,
            _ = c.0.recv() => c.1,
            _ = d.0.recv() => d.1,
        }
    }
}

async fn converse(mut talk: Talk, terminal: bool) -> Result<Last, Failure> {
    // Without a terminal, signals end us as they end any program; the machine notices.
    let failed = |e: io::Error| Failure::new("signals", format!("cannot listen for signals: {e}"));
    let mut signals = if terminal { Some(Signals::listen().map_err(failed)?) } else { None };
    spawn(TaskKind::ClientFollow, pump(talk.say.clone()));
    let (mut out, mut err) = (tokio::io::stdout(), tokio::io::stderr());
    let say = talk.say.clone();
    // The size may have changed since it was asked.
    let mut resized = terminal;
    loop {
        let watched = async {
            match &mut signals {
                Some(Signals { ending, resized }) => tokio::select! {
                    number = Signals::ending(ending) => Some(number),
                    _ = resized.recv() => None,
                },
                None => std::future::pending().await,
            }
        };
        let frame = tokio::select! {
            frame = talk.hear() => frame?,
            room = say.reserve(), if resized => {
                if let Ok(room) = room {
                    room.send(Frame::Resize(cells()));
                }
                resized = false;
                continue;
            }
            signal = watched => match signal {
                Some(number) => return Ok(Last::Us(BY_SIGNAL.saturating_add(number))),
                None => {
                    resized = true;
                    continue;
                }
            },
        };
        let written = match frame {
            Frame::Output(bytes) => show(&mut out, &bytes).await,
            Frame::Error(bytes) => show(&mut err, &bytes).await,
            Frame::Exit(code) => return Ok(Last::Exit(code)),
            Frame::Problem(bytes) => return Ok(Last::Problem(bytes)),
            _ => Ok(()),
        };
        if written.is_err() {
            return Ok(Last::Us(NOBODY_READS));
        }
    }
}

async fn show(to: &mut (impl tokio::io::AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Passes our standard input on.
async fn pump(say: mpsc::Sender<Frame>) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(MAX_FRAME);
        let read = (&mut stdin).take(MAX_FRAME as u64).read_buf(&mut buffer).await;
        let frame = match read {
            Ok(1..) => Frame::Input(buffer.split().freeze()),
            // One that cannot be read has no more to say.
            Ok(0) | Err(_) => Frame::InputEnd,
        };
        let last = frame == Frame::InputEnd;
        if say.send(frame).await.is_err() || last {
            return;
        }
    }
}
