//! The private network of a deployment, as one machine sees it: names that its jobs reach, and who reaches its jobs. Spec: `docs/specs/private.md`.
//!
//! ```text
//!  program in the container ─▶ listener on its own loopback ─▶ this program ─┬─▶ a replica here
//!                                                                            └─▶ channel to the replica's machine, signed with our node's key
//! ```
//! Guarantees: nothing is reached but what the lease's owner named, and nobody comes in but machines that it named, to the ports that it
//! named; what was set is on disk before it is answered for, and holds for every instance of the job until it ends. A connection that finds
//! no replica is reset, as by a host on which nobody listens.

use super::{Kind, LAST_WORDS, running};
use crate::context::Context;
use crate::lease::Shared;
use bytes::BytesMut;
use futures::StreamExt as _;
use pasture_api::Problem;
use pasture_api::channel::{Frame, MAX_FRAME};
use pasture_api::data::Phase;
use pasture_api::private::{PrivateName, PrivateNetwork, Replica, address};
use pasture_rt::{Shutdown, TaskKind};
use pasture_runtime::{Connection, InnerName, InstanceId};
use pasture_store::RecordFile;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};

/// Beside a lease's other files.
const FILE: &str = "private";
/// Connections of one job at once, over all names.
const MAX_CONNECTIONS: usize = 128;
/// How often one connection tries, each time another replica if there is one.
const TRIES: usize = 3;
/// How long one of them may take.
const WITHIN: Duration = Duration::from_secs(10);
/// Frames that wait for the other machine.
const OUTBOX: usize = 4;
/// How long a channel may say nothing at all, not even that it lives.
const SILENCE: Duration = Duration::from_secs(90);
/// Pause before listening is tried again: the instance is coming or going.
const AGAIN: Duration = Duration::from_secs(1);

/// What was set before; what cannot be read is set anew by its owner.
pub(crate) fn load(dir: &Path) -> PrivateNetwork {
    RecordFile::new(dir.join(FILE)).load().ok().flatten().unwrap_or_default()
}

/// Sets what a lease reaches and who reaches it. Writes to disk: not for the async pool.
pub(crate) fn set(lease: &Shared, hash: &str, body: &[u8]) -> Result<(), Problem> {
    if pasture_types::blob::hash(body).to_string() != hash {
        return Err(Problem::bad_request("the body is not the one that was signed: its hash is another"));
    }
    let wanted: PrivateNetwork = serde_json::from_slice(body).map_err(|e| Problem::bad_request(e.to_string()))?;
    wanted.check().map_err(|why| Problem::new(422, "bad-private-network", why))?;
    RecordFile::new(lease.dir.join(FILE)).save(&wanted).map_err(|error| {
        tracing::error!(%error, "what a job reaches could not be written down");
        Problem::new(500, "disk", "this machine could not write that down")
    })?;
    lease.private.send_if_modified(|old| std::mem::replace(old, wanted.clone()) != wanted);
    Ok(())
}

/// What is open for one instance; nobody else comes in once this is dropped.
struct Open {
    container: InstanceId,
    network: PrivateNetwork,
    stop: Shutdown,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.stop.trigger();
    }
}

/// Keeps the names of a lease open in whatever instance it has, until it ends.
pub(crate) async fn tend(ctx: Arc<Context>, lease: Arc<Shared>) {
    let (mut wanted, mut view) = (lease.private.subscribe(), lease.view.subscribe());
    let mut open: Option<Open> = None;
    // Why it does not work, so that it is said once.
    let mut said: Option<String> = None;
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        if view.borrow_and_update().status.phase == Phase::Ended {
            return;
        }
        let network = wanted.borrow_and_update().clone();
        let container = running(&lease).ok();
        let stands = |o: &Open| Some(&o.container) == container.as_ref() && o.network.names == network.names;
        let mut again = false;
        if !open.as_ref().is_some_and(stands) {
            match container.filter(|_| !network.names.is_empty()) {
                // Doors of before close when those that take their place are open; connections through them go on.
                Some(container) => match open_all(&ctx, &lease, &room, container.clone(), network).await {
                    Ok(all) => open = Some(all),
                    Err(error) => {
                        let why = error.to_string();
                        if said.as_ref() != Some(&why) {
                            tracing::warn!(%error, lease = %lease.id(), "names of the private network cannot be opened in the job");
                        }
                        said = Some(why);
                        again = true;
                        open = open.filter(|o| o.container == container);
                    }
                },
                None => open = None,
            }
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            changed = view.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if again => {}
        }
    }
}

async fn open_all(
    ctx: &Arc<Context>,
    lease: &Arc<Shared>,
    room: &Arc<Semaphore>,
    container: InstanceId,
    network: PrivateNetwork,
) -> Result<Open, pasture_runtime::RuntimeError> {
    let stop = Shutdown::new();
    let inner = |n: &PrivateName| InnerName { name: n.name.clone(), ip: address(&n.name), ports: n.ports.clone() };
    let inside: Vec<InnerName> = network.names.iter().map(inner).collect();
    let listeners = ctx.runtime.open_names(&container, &inside).await?;
    let doors = network.names.iter().flat_map(|name| name.ports.iter().map(move |port| (name, *port)));
    for ((name, port), listener) in doors.zip(listeners) {
        let door = Door { ctx: Arc::clone(ctx), lease: Arc::clone(lease), name: name.clone(), port, next: AtomicUsize::new(0) };
        let (token, room) = (stop.token(), Arc::clone(room));
        pasture_rt::spawn(TaskKind::Connection, async move {
            let _: Option<()> = token.guard(accept(Arc::new(door), listener, room)).await;
        });
    }
    Ok(Open { container, network, stop })
}

/// A port of a name inside.
struct Door {
    ctx: Arc<Context>,
    lease: Arc<Shared>,
    name: PrivateName,
    port: u16,
    /// Where the next connection begins to look: replicas take turns.
    next: AtomicUsize,
}

async fn accept(door: Arc<Door>, listener: TcpListener, room: Arc<Semaphore>) {
    loop {
        // Nobody closes it.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        let (door, cancel) = (Arc::clone(&door), door.ctx.cancel.clone());
        pasture_rt::spawn(TaskKind::Connection, async move {
            let _ = stream.set_nodelay(true);
            cancel.guard(door.carry(stream)).await;
            drop(place);
        });
    }
}

impl Door {
    /// One connection, to the first replica that takes it.
    async fn carry(&self, stream: TcpStream) {
        let replicas = &self.name.replicas;
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        // One that is alone is asked again: a gateway's connection to it may have been an old one.
        for try_ in 0..TRIES {
            let Some(replica) = replicas.get(first.wrapping_add(try_) % replicas.len().max(1)) else { break };
            match tokio::time::timeout(WITHIN, self.reach(replica)).await {
                Ok(Ok(way)) => return way.carry(stream, &self.lease).await,
                Ok(Err(why)) => tracing::debug!(why, name = self.name.name, port = self.port, "a replica does not take a connection"),
                Err(_) => tracing::debug!(name = self.name.name, port = self.port, "a replica does not answer"),
            }
        }
        // Nobody listens: the program hears what it would hear of any host.
        let _ = stream.set_zero_linger();
    }

    async fn reach(&self, replica: &Replica) -> Result<Way, String> {
        let ctx = &self.ctx;
        if replica.node != ctx.node {
            let (say, mut said) = mpsc::channel(OUTBOX);
            let said = futures::stream::poll_fn(move |context| said.poll_recv(context)).boxed();
            let told = ctx.network.connect(&ctx.options.node_key, replica, self.port, said).await.map_err(|e| e.to_string())?;
            return Ok(Way::There { say, told });
        }
        let lease = ctx.leases.get(&replica.lease).ok_or("there is no such job here")?;
        // Its own owner says who comes in, here as elsewhere.
        if lease.terms.account != self.lease.terms.account || !lease.private.borrow().admits(&ctx.node, self.port) {
            return Err("it does not let this job in".into());
        }
        let slot = ctx.channels.slot(lease.id(), Kind::Private).map_err(|p| p.detail)?;
        let container = running(&lease).map_err(|p| p.detail)?;
        let connection = ctx.runtime.connect(&container, self.port).await.map_err(|e| e.to_string())?;
        Ok(Way::Here { connection, _slot: slot })
    }
}

/// How a replica is reached.
enum Way {
    Here { connection: Connection, _slot: super::Slot },
    There { say: mpsc::Sender<Frame>, told: crate::network::Frames },
}

impl Way {
    /// Carries both directions until both have ended, or the job has.
    async fn carry(self, mut stream: TcpStream, lease: &Shared) {
        let mut view = lease.view.subscribe();
        let over = async {
            let _ = view.wait_for(|v| v.status.phase == Phase::Ended).await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        let work = async {
            match self {
                Self::Here { connection: Connection { input, output }, _slot } => {
                    let mut inside = tokio::io::join(output, input);
                    let _ = copy_bidirectional(&mut stream, &mut inside).await;
                }
                Self::There { say, told } => {
                    if !talk(&mut stream, say, told).await {
                        // The program at our end learns that this was no proper end.
                        let _ = stream.set_zero_linger();
                    }
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = over => {}
        }
    }
}

/// Carries a connection over a channel; whether it ended as it should.
async fn talk(stream: &mut TcpStream, say: mpsc::Sender<Frame>, mut told: crate::network::Frames) -> bool {
    let (read, mut write) = stream.split();
    let hear = async {
        loop {
            match tokio::time::timeout(SILENCE, told.next()).await {
                Ok(Some(Ok(Frame::Output(bytes)))) => {
                    if write.write_all(&bytes).await.is_err() {
                        return false;
                    }
                }
                Ok(Some(Ok(Frame::OutputEnd))) => drop(write.shutdown().await),
                Ok(Some(Ok(Frame::Exit(_)))) => return true,
                Ok(Some(Ok(Frame::Still))) => {}
                _ => return false,
            }
        }
    };
    tokio::select! {
        done = hear => done,
        () = speak(read, say) => false,
    }
}

/// Passes on what our side says; comes back only when that fails.
async fn speak(mut read: tokio::net::tcp::ReadHalf<'_>, say: mpsc::Sender<Frame>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(MAX_FRAME);
        let frame = match (&mut read).take(MAX_FRAME as u64).read_buf(&mut buffer).await {
            Ok(0) => Frame::InputEnd,
            Ok(_) => Frame::Input(buffer.split().freeze()),
            Err(_) => return,
        };
        let last = frame == Frame::InputEnd;
        if say.send(frame).await.is_err() {
            return;
        }
        if last {
            // The other direction may go on for long; this one stays open, or the channel would count as left.
            return std::future::pending().await;
        }
    }
}
