//! A stream to another node, by itself and through the doorway: until it is there, there and back, and bytes a second; and what a thousand idle ones hold.
//!
//! Guarantees: both ends, and the relay, are in this process and share its cores, over loopback; what is compared is measured in turn, in the same run.
//! Nothing is said of distances, losses and routers: `crates/farm/tests/network/nat.rs` has those.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a bench that cannot set its scene must stop"
)]

#[path = "../../../bench/report.rs"]
#[allow(dead_code, reason = "each bench uses its part")]
mod report;

use axum::serve::Listener as _;
use pasture_net::{Doorway, Endpoint, Options, Place, Relay, RelayServer, Service};
use pasture_rt::{Shutdown, TaskKind};
use pasture_types::{NodeId, SigningKey};
use report::{Failure, Figure, Goal, Report, Spread, quick, resident_mib, say};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// What goes there and back.
const WORD: usize = 200;
/// What is written at once where bytes a second count.
const PIECE: usize = 1 << 20;
/// First byte of a stream: what comes is sent back, or counted.
const ECHO: u8 = 0;
const COUNT: u8 = 1;
/// Idle streams, and how many of them through one endpoint.
const IDLE: usize = 1_000;
const IDLE_EACH: usize = 250;

fn key(n: u64) -> SigningKey {
    SigningKey::from_seed(pasture_types::ids::derive("bench of pasture-net", &[&n.to_le_bytes()]))
}

/// What both ends of every kind of stream do.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let kind = stream.read_u8().await?;
    let mut buffer = vec![0; 64 << 10];
    let mut seen = 0u64;
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            count if kind == ECHO => stream.write_all(&buffer[..count]).await?,
            count => seen += count as u64,
        }
    }
    if kind == COUNT {
        stream.write_u64(seen).await?;
    }
    stream.shutdown().await
}

/// The scene: a node that answers, and the same answers over TCP.
struct Scene {
    stop: Shutdown,
    home: Endpoint,
    relay: RelayServer,
    tcp: SocketAddr,
    keys: u64,
}

impl Scene {
    async fn set() -> Result<Self, Failure> {
        let stop = Shutdown::new();
        let relay = RelayServer::start(&key(0), LOOPBACK).await?;
        let home = Endpoint::open(Options { key: key(1), listen: LOOPBACK, relays: vec![relay.named("127.0.0.1")] }, stop.token()).await?;
        let mut arrivals = home.arrivals(Service::Node);
        pasture_rt::spawn(TaskKind::Server, async move {
            loop {
                let (stream, _) = arrivals.accept().await;
                pasture_rt::spawn(TaskKind::Connection, answer(stream));
            }
        });
        let listener = TcpListener::bind(LOOPBACK).await?;
        let tcp = listener.local_addr()?;
        pasture_rt::spawn(TaskKind::Server, async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                pasture_rt::spawn(TaskKind::Connection, answer(stream));
            }
        });
        tokio::time::timeout(Duration::from_secs(30), home.online()).await?;
        Ok(Self { stop, home, relay, tcp, keys: 1 })
    }
    /// A node that nobody has met; told of the other's address, or of the relay alone.
    async fn stranger(&mut self, relay: Option<Relay>) -> Result<Endpoint, Failure> {
        self.keys += 1;
        let direct = relay.is_none();
        let options = Options { key: key(self.keys), listen: LOOPBACK, relays: relay.into_iter().collect() };
        let endpoint = Endpoint::open(options, self.stop.token()).await?;
        if direct {
            let port = self.home.port().ok_or("no port")?;
            endpoint.learn(&self.home.node(), &Place { direct: vec![SocketAddr::new(LOOPBACK.ip(), port)], relays: vec![] });
        }
        Ok(endpoint)
    }
    async fn through(&self, door: &Doorway) -> Result<TcpStream, Failure> {
        socks(door, &self.home.node()).await
    }
}

/// Goes through the doorway as an HTTP client does.
async fn socks(door: &Doorway, node: &NodeId) -> Result<TcpStream, Failure> {
    let (secret, address) = door.url().strip_prefix("socks5h://pasture:").and_then(|rest| rest.split_once('@')).ok_or("no door")?;
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = format!("{node}.node");
    let mut asked = vec![5, 1, 2, 1, 7];
    asked.extend(b"pasture");
    asked.push(u8::try_from(secret.len())?);
    asked.extend(secret.as_bytes());
    asked.extend([5, 1, 0, 3, u8::try_from(name.len())?]);
    asked.extend(name.as_bytes());
    asked.extend([0, 80]);
    stream.write_all(&asked).await?;
    let mut said = [0; 14];
    stream.read_exact(&mut said).await?;
    if said[5] != 0 { Err("the doorway refused".into()) } else { Ok(stream) }
}

/// Milliseconds of so many echoes.
async fn echoes(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), count: usize) -> Result<Vec<f64>, Failure> {
    let (word, mut back) = ([7; WORD], [0; WORD]);
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        stream.write_all(&word).await?;
        stream.read_exact(&mut back).await?;
        took.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(took)
}

/// MiB a second of so many pieces, until the other end has counted them.
async fn flood(mut stream: impl AsyncRead + AsyncWrite + Unpin, pieces: usize) -> Result<f64, Failure> {
    let piece = vec![0x5a; PIECE];
    let begun = Instant::now();
    stream.write_u8(COUNT).await?;
    for _ in 0..pieces {
        stream.write_all(&piece).await?;
    }
    stream.shutdown().await?;
    let counted = stream.read_u64().await?;
    if counted != (pieces * PIECE) as u64 { Err("bytes were lost".into()) } else { Ok(pieces as f64 / begun.elapsed().as_secs_f64()) }
}

async fn first_echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Failure> {
    stream.write_u8(ECHO).await?;
    echoes(&mut stream, 1).await.map(drop)
}

async fn connects(scene: &mut Scene, report: &mut Report, rounds: usize) -> Result<(), Failure> {
    let (mut direct, mut relayed, mut tcp) = (vec![], vec![], vec![]);
    let ms = |begun: Instant| begun.elapsed().as_secs_f64() * 1_000.0;
    let named = scene.relay.named("127.0.0.1");
    for _ in 0..rounds {
        let caller = scene.stranger(None).await?;
        let begun = Instant::now();
        first_echo(caller.dial(scene.home.node(), Service::Node).await?).await?;
        direct.push(ms(begun));
        caller.close().await;
        let caller = scene.stranger(Some(named.clone())).await?;
        tokio::time::timeout(Duration::from_secs(30), caller.online()).await?;
        let begun = Instant::now();
        first_echo(caller.dial(scene.home.node(), Service::Node).await?).await?;
        relayed.push(ms(begun));
        caller.close().await;
        let begun = Instant::now();
        let stream = TcpStream::connect(scene.tcp).await?;
        stream.set_nodelay(true)?;
        first_echo(stream).await?;
        tcp.push(ms(begun));
    }
    let floor = Spread::median(&tcp);
    let of = |name: &str, samples: &[f64]| Figure::new(name, "ms", Spread::median(samples)).against("TCP, not sealed", "ms", floor);
    report.add(of("a node that was never called, at a known address: until its first answer", &direct));
    report.add(of("the same, known at a relay alone", &relayed));
    Ok(())
}

async fn streams(scene: &mut Scene, report: &mut Report, (rounds, count, pieces): (usize, usize, usize)) -> Result<(), Failure> {
    let caller = scene.stranger(None).await?;
    let own = caller.clone();
    let door = Doorway::start(move || Box::pin(std::future::ready(Ok(own.clone()))), [3; 16], scene.stop.token())?;
    let (mut raw_ms, mut door_ms, mut tcp_ms) = (vec![], vec![], vec![]);
    let (mut raw_mib, mut door_mib) = (vec![], vec![]);
    for _ in 0..rounds {
        let mut raw = caller.dial(scene.home.node(), Service::Node).await?;
        raw.write_u8(ECHO).await?;
        raw_ms.extend(echoes(&mut raw, count).await?);
        let mut through = scene.through(&door).await?;
        through.write_u8(ECHO).await?;
        door_ms.extend(echoes(&mut through, count).await?);
        let mut tcp = TcpStream::connect(scene.tcp).await?;
        tcp.set_nodelay(true)?;
        tcp.write_u8(ECHO).await?;
        tcp_ms.extend(echoes(&mut tcp, count).await?);
        raw_mib.push(flood(caller.dial(scene.home.node(), Service::Node).await?, pieces).await?);
        door_mib.push(flood(scene.through(&door).await?, pieces).await?);
    }
    let at = |part: f64, samples: &[f64]| Spread::quantile(samples, part);
    report.add(Figure::new("200 bytes there and back on an open stream", "ms", at(0.5, &raw_ms)).against(
        "TCP, not sealed",
        "ms",
        at(0.5, &tcp_ms),
    ));
    let through = Figure::new("the same through the doorway", "ms", at(0.5, &door_ms));
    report.add(through.against("TCP, not sealed", "ms", at(0.5, &tcp_ms)).goal(Goal::Over(0.3)));
    let slow = Figure::new("the same through the doorway, the slowest of a hundred", "ms", at(0.99, &door_ms));
    report.add(slow.against("TCP, not sealed", "ms", at(0.99, &tcp_ms)));
    let bytes = Figure::new("bytes a second through the doorway", "MiB/s", Spread::median(&door_mib));
    report.add(bytes.against("a stream by itself", "MiB/s", Spread::median(&raw_mib)));
    Ok(())
}

async fn idle(scene: &mut Scene, report: &mut Report) -> Result<(), Failure> {
    let before = resident_mib("self")?;
    let mut held = Vec::with_capacity(IDLE);
    for _ in 0..IDLE / IDLE_EACH {
        let caller = scene.stranger(None).await?;
        for _ in 0..IDLE_EACH {
            let mut stream = caller.dial(scene.home.node(), Service::Node).await?;
            stream.write_u8(ECHO).await?;
            echoes(&mut stream, 1).await?;
            held.push(stream);
        }
    }
    let more = resident_mib("self")? - before;
    report.add(Figure::new("memory of 1,000 idle streams of four nodes, both ends", "MiB", Spread::median(&[more])));
    Ok(())
}

fn main() -> Result<(), Failure> {
    let quick = quick()?;
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut report = Report::begin("net", quick, scratch.path());
    let plan = if quick { (2, 50, 4) } else { (9, 2_000, 192) };
    report.plan(json!({ "rounds": plan.0, "echoes": plan.1, "mib": plan.2, "connects": plan.0 * 3 }));
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let mut scene = Scene::set().await?;
        say("connections ...");
        connects(&mut scene, &mut report, plan.0 * 3).await?;
        say("streams ...");
        streams(&mut scene, &mut report, plan).await?;
        say("idle streams ...");
        idle(&mut scene, &mut report).await?;
        scene.stop.trigger();
        scene.home.close().await;
        Ok::<_, Failure>(())
    })?;
    report.finish()
}
