//! `farm port-forward`, and `farm run --publish`: ports of this machine that lead into a job.
//!
//! Guarantees: only 127.0.0.1 is listened on; each connection is a channel of its own, and what one side half-closes is half-closed
//! on the other; as many connections as a machine takes of a job are carried at once, the next waits in the system's queue. A
//! connection that the job refuses is reset here, and why is said once.

use crate::args::ForwardArgs;
use crate::exit::{Exit, Failure, Outcome};
use crate::feeds::{self, FromNode, Signals};
use crate::reach::{Reached, Talk, broken, problem, refused};
use crate::render::Output;
use crate::session::App;
use crate::words;
use bytes::BytesMut;
use pasture_api::channel::{Frame, MAX_FRAME, Purpose};
use pasture_api::client::LeaseClient;
use pasture_api::data::{NodeEvent, Phase};
use pasture_net::Way;
use pasture_rt::{Shutdown, ShutdownToken, TaskKind, spawn};
use pasture_types::spec::Port;
use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};

/// Connections at once, over all ports: what a machine takes of one job.
const MAX_CONNECTIONS: usize = 64;
/// Between two looks whether a direct path was found.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Pause when the system gives no connection, for want of files perhaps.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// `[LOCAL:]PORT` as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    local: Option<u16>,
    remote: Remote,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Remote {
    Number(u16),
    Name(String),
}

impl Wanted {
    /// Reads one.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = || {
            Failure::usage(format!(
                "`{text}` is no port: write for example 8080, 9000:8080, 0:8080 (any free port here) or a name of the job file"
            ))
        };
        let (local, remote) = text.split_once(':').map_or((None, text), |(local, remote)| (Some(local), remote));
        let local = local.map(|l| l.parse::<u16>().map_err(|_| wrong())).transpose()?;
        let remote = match remote.parse::<u16>() {
            Ok(0) => return Err(wrong()),
            Ok(number) => Remote::Number(number),
            Err(_) if remote.is_empty() || remote.starts_with(|c: char| !c.is_ascii_lowercase()) => return Err(wrong()),
            Err(_) => Remote::Name(remote.into()),
        };
        Ok(Self { local, remote })
    }

    /// The port as a job file would name it; nothing for a name, which only a job file knows.
    pub(crate) const fn number(&self) -> Option<u16> {
        match self.remote {
            Remote::Number(number) => Some(number),
            Remote::Name(_) => None,
        }
    }
}

/// A port of this machine that leads to one of the job.
#[derive(Debug)]
pub(crate) struct Door {
    listener: TcpListener,
    local: SocketAddr,
    remote: Port,
}

impl Door {
    fn json(&self) -> serde_json::Value {
        serde_json::json!({"local": self.local.to_string(), "port": self.remote.port, "name": self.remote.name})
    }
    fn text(&self, handle: &str) -> String {
        let name = self.remote.name.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
        format!("{} leads to port {}{name} of {handle}", self.local, self.remote.port)
    }
}

/// Listens; nothing is let in yet. `named`: the ports of the job file.
pub(crate) async fn listen(wanted: &[Wanted], named: &[Port]) -> Result<Vec<Door>, Failure> {
    let mut doors = vec![];
    for Wanted { local, remote } in wanted {
        let remote = match remote {
            Remote::Number(number) => named.iter().find(|p| p.port == *number).cloned().unwrap_or(Port { port: *number, name: None }),
            Remote::Name(name) => named.iter().find(|p| p.name.as_ref() == Some(name)).cloned().ok_or_else(|| {
                let known: Vec<&str> = named.iter().filter_map(|p| p.name.as_deref()).collect();
                let failure = Failure::usage(format!("the job file names no port `{}`", name.escape_debug()));
                if known.is_empty() { failure.next("write its number") } else { failure.next(format!("it names {}", known.join(", "))) }
            })?,
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, local.unwrap_or(remote.port)));
        let listener = TcpListener::bind(address).await.map_err(|e| taken(address, remote.port, &e))?;
        let local = listener.local_addr().map_err(|e| taken(address, remote.port, &e))?;
        doors.push(Door { listener, local, remote });
    }
    Ok(doors)
}

fn taken(address: SocketAddr, port: u16, error: &io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => "another program has it".to_owned(),
        io::ErrorKind::PermissionDenied => "ports below 1024 are for the system's own services".to_owned(),
        _ => error.to_string(),
    };
    Failure::new("listen", format!("cannot listen on {address}: {why}")).next(format!("take any free port:  0:{port}"))
}

/// Doors that are open; closed when this is dropped.
pub(crate) struct Open(Shutdown);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.trigger();
    }
}

/// Lets connections in, once the job runs.
pub(crate) fn open(out: Output, handle: &str, client: &LeaseClient, doors: Vec<Door>) -> Open {
    let stop = Shutdown::new();
    let shared = Arc::new(Carrier {
        out,
        handle: handle.to_owned(),
        client: client.clone(),
        room: Semaphore::new(MAX_CONNECTIONS),
        said: Mutex::default(),
    });
    for door in doors {
        let (shared, token) = (Arc::clone(&shared), stop.token());
        spawn(TaskKind::ClientFollow, async move {
            let _: Option<()> = token.clone().guard(accept(shared, door, token)).await;
        });
    }
    Open(stop)
}

/// What all connections of a job share.
struct Carrier {
    out: Output,
    handle: String,
    client: LeaseClient,
    room: Semaphore,
    /// What was said, so that it is said once. A lock: connections are tasks of their own.
    said: Mutex<BTreeSet<(u16, String)>>,
}

async fn accept(shared: Arc<Carrier>, door: Door, stop: ShutdownToken) {
    if !runs(&shared.client).await {
        return;
    }
    let shared = &shared;
    let port = door.remote.port;
    loop {
        // Nobody closes it.
        let Ok(room) = shared.room.acquire().await else { return };
        let Ok((mut stream, _)) = door.listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        room.forget();
        let (shared, stop) = (Arc::clone(shared), stop.clone());
        spawn(TaskKind::ClientFollow, async move {
            if let Some(Err(failure)) = stop.guard(carry(&shared, &mut stream, port)).await {
                // The program at our end learns that this was no proper end.
                let _ = stream.set_zero_linger();
                shared.say(port, &failure);
            }
            drop(stream);
            shared.room.add_permits(1);
        });
    }
}

/// Waits until the job runs; whether it does.
async fn runs(client: &LeaseClient) -> bool {
    let mut events = feeds::node(client);
    while let Some(event) = events.recv().await {
        if let FromNode::Event(NodeEvent::Status { status }) = event {
            match status.phase {
                Phase::Running | Phase::Stopping => return true,
                Phase::Ended => return false,
                _ => {}
            }
        }
    }
    false
}

impl Carrier {
    fn say(&self, port: u16, failure: &Failure) {
        let new = self.said.lock().unwrap_or_else(PoisonError::into_inner).insert((port, failure.code.clone()));
        if new {
            self.out.warn(&format!("! port {port} of {}: {}", self.handle, failure.message));
        }
    }
}

/// One connection, from its beginning to its end on both sides.
async fn carry(shared: &Carrier, stream: &mut TcpStream, port: u16) -> Result<(), Failure> {
    let _ = stream.set_nodelay(true);
    let talk = Talk::open(&shared.client, Purpose::Port { port }).await;
    let mut talk = talk.map_err(|e| match e.problem() {
        Some(problem) => refused(&shared.handle, problem),
        None => e.into(),
    })?;
    let say = talk.say.clone();
    let (read, write) = stream.split();
    tokio::select! {
        done = told(&mut talk, write, &shared.handle) => done,
        failed = said(say, read) => Err(failed),
    }
}

fn left(error: &io::Error) -> Failure {
    Failure::new("left", format!("the program at this end broke its connection off: {error}"))
}

/// Passes on what our side says; comes back only when that fails.
async fn said(say: mpsc::Sender<Frame>, mut read: ReadHalf<'_>) -> Failure {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(MAX_FRAME);
        let frame = match (&mut read).take(MAX_FRAME as u64).read_buf(&mut buffer).await {
            Ok(0) => Frame::InputEnd,
            Ok(_) => Frame::Input(buffer.split().freeze()),
            Err(error) => return left(&error),
        };
        let last = frame == Frame::InputEnd;
        if say.send(frame).await.is_err() {
            return broken();
        }
        if last {
            // The other direction may go on for long; this one stays open, or the channel would count as left.
            return std::future::pending().await;
        }
    }
}

/// Passes on what the job says, to the end of the channel.
async fn told(talk: &mut Talk, mut write: WriteHalf<'_>, handle: &str) -> Result<(), Failure> {
    loop {
        match talk.hear().await? {
            Frame::Output(bytes) => write.write_all(&bytes).await.map_err(|e| left(&e))?,
            // A program that is gone already reads no end.
            Frame::OutputEnd => drop(write.shutdown().await),
            Frame::Exit(_) => return Ok(()),
            Frame::Problem(bytes) => return Err(refused(handle, &problem(&bytes))),
            _ => {}
        }
    }
}

/// Says how the job's machine is reached, and when a direct path was found; never comes back.
async fn ways(reached: &Reached) {
    let node = reached.client.node();
    let Some(mut path) = reached.session.path(&node).await else { return std::future::pending().await };
    reached.session.out.note(&format!("{} is reached {}", reached.handle, words::path(path)));
    while matches!(path.way, Way::Relayed) {
        tokio::time::sleep(LOOK_AGAIN).await;
        match reached.session.path(&node).await {
            Some(now) if now.way != path.way => {
                path = now;
                reached.session.out.note(&format!("{} is now reached {}", reached.handle, words::path(path)));
            }
            _ => {}
        }
    }
    std::future::pending().await
}

/// `farm port-forward`.
pub(crate) async fn run(app: &App, args: &ForwardArgs) -> Outcome {
    let mut wanted = args.ports.iter().map(|text| Wanted::parse(text)).collect::<Result<Vec<Wanted>, Failure>>()?;
    let reached = Reached::running(app, &args.job).await?;
    let (out, handle) = (reached.session.out, &reached.handle);
    let named = reached.client.ports().await.map_err(|e| reached.failure(e))?;
    if wanted.is_empty() {
        if named.is_empty() {
            return Err(Failure::usage(format!("the job file of {handle} names no ports: say which"))
                .next(format!("farm port-forward {handle} 8080")));
        }
        wanted = named.iter().map(|p| Wanted { local: None, remote: Remote::Number(p.port) }).collect();
    }
    let doors = listen(&wanted, &named).await?;
    let mut signals = Signals::listen()?;
    out.either(&doors.iter().map(Door::json).collect::<Vec<_>>(), || {
        doors.iter().map(|door| door.text(handle)).collect::<Vec<_>>().join("\n")
    });
    let _open = open(out, handle, &reached.client, doors);
    let mut events = feeds::node(&reached.client);
    let ways = ways(&reached);
    tokio::pin!(ways);
    loop {
        tokio::select! {
            _ = signals.next() => return Ok(Exit::Ok),
            () = &mut ways => {}
            event = events.recv() => match event {
                Some(FromNode::Event(NodeEvent::Status { status })) if status.phase == Phase::Ended => {
                    out.note(&format!("{handle} has ended, and so have its ports here"));
                    return Ok(Exit::Ok);
                }
                Some(_) => {}
                None => return Err(broken()),
            },
        }
    }
}

/// What `farm run` says of its doors.
pub(crate) fn announce(out: Output, handle: &str, doors: &[Door]) {
    for door in doors {
        if out.json {
            out.json(&serde_json::json!({"event": "port", "door": door.json()}));
        } else {
            out.note(&format!("port     {}", door.text(handle)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_in_four_ways() {
        let of = |local, remote| Wanted { local, remote };
        for (text, expected) in [
            ("8080", of(None, Remote::Number(8080))),
            ("9000:80", of(Some(9000), Remote::Number(80))),
            ("0:80", of(Some(0), Remote::Number(80))),
            ("0:db-2", of(Some(0), Remote::Name("db-2".into()))),
        ] {
            assert_eq!(Wanted::parse(text).unwrap(), expected, "{text}");
        }
        for bad in ["", "0", "70000", "1:2:3", ":80", "x:80", "80:", "-1", "0.0.0.0:80"] {
            assert_eq!(Wanted::parse(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }

    #[tokio::test]
    async fn doors_open_here_only_and_say_what_is_in_the_way() {
        let named = [Port { port: 5432, name: Some("db".into()) }];
        let doors = listen(&[Wanted::parse("0:db").unwrap()], &named).await.unwrap();
        let (door, busy) = (&doors[0], doors[0].local.port());
        assert!(door.local.ip().is_loopback() && door.remote == named[0], "{door:?}");
        let failure = listen(&[Wanted::parse(&format!("{busy}:1")).unwrap()], &[]).await.unwrap_err();
        assert!(failure.message.contains("another program has it"), "{failure:?}");
        let failure = listen(&[Wanted::parse("0:web").unwrap()], &named).await.unwrap_err();
        assert!(failure.next[0].contains("db"), "{failure:?}");
    }
}
