//! The public's door beside nginx: requests a second, and what one request waits for more than without anything between.
//!
//! Guarantees: clients, job, machine and gateway are in this process and share its cores, over loopback; nginx, with one worker and connections
//! that are kept, goes to the same job; what is compared is measured in turn, in the same run. The gateway goes to the job by a machine, as it always does,
//! and nginx straight: there is a step more on our side.

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
#[path = "../tests/gateway/world.rs"]
#[allow(dead_code, unreachable_pub, reason = "a bench uses a part of it")]
mod world;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use hyper_util::rt::TokioIo;
use pasture_api::NodeAddress;
use pasture_api::publication::{Protocol, Publication, Rules};
use pasture_gateway::{GatewayOptions, IngressOptions};
use pasture_rt::TaskKind;
use pasture_types::ZoneId;
use report::{Failure, Figure, Report, Spread, quick, say};
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use world::{LEASE, World, announcement, loopback, node_key, user};

/// What a job answers.
const PAGE: [u8; 1_024] = [b'x'; 1_024];
/// Clients at once where requests a second count.
const CLIENTS: usize = 32;

/// Where requests go, and under which host.
#[derive(Clone, Debug)]
struct Way {
    at: SocketAddr,
    host: String,
}

/// nginx in front of the job; it ends with this.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        // The first process ends its worker when it is asked to.
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    pasture_rt::spawn(TaskKind::Server, async move { axum::serve(listener, router).await.unwrap() });
    at
}

/// A machine: gives streams to the job.
async fn stream(site: SocketAddr, mut request: Request) -> Response {
    let upgrade = hyper::upgrade::on(&mut request);
    pasture_rt::spawn(TaskKind::Connection, async move {
        let mut stream = TokioIo::new(upgrade.await.unwrap());
        let mut there = TcpStream::connect(site).await.unwrap();
        there.set_nodelay(true).unwrap();
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut there).await;
    });
    (StatusCode::SWITCHING_PROTOCOLS, [("connection", "upgrade"), ("upgrade", "pasture-stream")]).into_response()
}

/// Our gateway in front of the job.
async fn ours(site: SocketAddr) -> Result<(World, Way), Failure> {
    let machine = serve(Router::new().route("/leases/{lease}/public/{port}", post(async move |request| stream(site, request).await))).await;
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let ingress = IngressOptions { listen, domain: "gate.test".into(), tls: None, tcp: None, nameservers: vec![listen] };
    let world = World::with(GatewayOptions { ingress: Some(ingress), ..loopback() }).await;
    let publication = Publication {
        account: user().account(),
        lease: LEASE,
        name: "bench".into(),
        port: 80,
        protocol: Protocol::Http,
        rules: Rules::default(),
        domains: vec![],
    };
    let host = format!("{}.gate.test", publication.label());
    let public = vec![publication.sign(&ZoneId([5; 32]), &user())];
    let announced = NodeAddress { public, ..announcement(&node_key(), &format!("http://{machine}")) };
    world.api.announce(&node_key().node_id(), &announced).await?;
    let at = SocketAddr::from(([127, 0, 0, 1], world.api.ingress().await?.port));
    Ok((world, Way { at, host }))
}

/// nginx, if it is installed.
async fn nginx(folder: &Path, site: SocketAddr) -> Result<Option<(Nginx, Way)>, Failure> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let config = format!(
        "worker_processes 1;\npid {0}/pid;\nerror_log {0}/error.log;\nevents {{ worker_connections 1024; }}\nhttp {{\n\
         access_log off;\nkeepalive_requests 1000000000;\nclient_body_temp_path {0}/a;\nproxy_temp_path {0}/b;\nfastcgi_temp_path {0}/c;\nuwsgi_temp_path {0}/d;\nscgi_temp_path {0}/e;\n\
         upstream job {{ server {site}; keepalive 64; keepalive_requests 1000000000; }}\n\
         server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://job; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}\n}}\n",
        folder.display()
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, config)?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&file).arg("-p").arg(folder).args(["-g", "daemon off;"]).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(child) = command.spawn() else { return Ok(None) };
    let (nginx, at) = (Nginx(child), SocketAddr::from(([127, 0, 0, 1], port)));
    for _ in 0..100 {
        if TcpStream::connect(at).await.is_ok() {
            return Ok(Some((nginx, Way { at, host: "job".into() })));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err("nginx did not begin to listen".into())
}

/// One client's connection, which is kept.
struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Client {
    async fn of(way: &Way) -> Result<Self, Failure> {
        let stream = TcpStream::connect(way.at).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, request: format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", way.host).into_bytes(), buffer: Vec::new() })
    }
    /// Asks once, and reads the answer to its end.
    async fn ask(&mut self) -> Result<(), Failure> {
        self.stream.write_all(&self.request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the answer broke off".into());
            }
            let Some(end) = self.buffer.windows(4).position(|part| part == b"\r\n\r\n") else { continue };
            if self.buffer.len() >= end + 4 + PAGE.len() {
                return if self.buffer.starts_with(b"HTTP/1.1 200") { Ok(()) } else { Err("an answer was refused".into()) };
            }
        }
    }
}

/// Milliseconds that each of so many requests took, one after the other.
async fn waits(way: &Way, count: usize) -> Result<Vec<f64>, Failure> {
    let mut client = Client::of(way).await?;
    client.ask().await?;
    let mut out = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        client.ask().await?;
        out.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(out)
}

/// Requests a second of many clients.
async fn rate(way: &Way, span: Duration) -> Result<f64, Failure> {
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        let mut client = Client::of(way).await?;
        client.ask().await?;
        clients.push(client);
    }
    let began = Instant::now();
    let run = |mut client: Client| {
        pasture_rt::spawn(TaskKind::Connection, async move {
            let mut asked = 0u64;
            while began.elapsed() < span {
                client.ask().await.map_err(|e| e.to_string())?;
                asked += 1;
            }
            Ok::<_, String>(asked)
        })
    };
    let running: Vec<_> = clients.into_iter().map(run).collect();
    let mut all = 0;
    for client in running {
        all += client.join().await.ok_or("a client was lost")??;
    }
    Ok(all as f64 / began.elapsed().as_secs_f64())
}

async fn measure(report: &mut Report, folder: &Path, (rounds, count, span): (usize, usize, Duration)) -> Result<(), Failure> {
    let site = serve(Router::new().route("/", get(async || PAGE.as_slice()))).await;
    let (_world, ours) = ours(site).await?;
    let nginx = nginx(folder, site).await?;
    if nginx.is_none() {
        say("nginx is not installed, so nothing is compared with it");
    }
    let mut ways = vec![Way { at: site, host: "job".into() }, ours];
    ways.extend(nginx.as_ref().map(|(_, way)| way.clone()));
    let mut waited: Vec<Vec<f64>> = vec![vec![]; ways.len()];
    let mut rates: Vec<Vec<f64>> = vec![vec![]; ways.len()];
    for _ in 0..rounds {
        for (n, way) in ways.iter().enumerate() {
            waited[n].extend(waits(way, count).await?);
            rates[n].push(rate(way, span).await?);
        }
    }
    let wait = |n: usize, part: f64| Spread::quantile(&waited[n], part);
    let direct = || ("the job without anything between", "ms");
    report.add(Figure::new("a request through the gateway", "ms", wait(1, 0.5)).against(direct().0, direct().1, wait(0, 0.5)));
    report.add(Figure::new("the same, the slowest of a hundred", "ms", wait(1, 0.99)).against(direct().0, direct().1, wait(0, 0.99)));
    if ways.len() > 2 {
        report.add(Figure::new("a request through nginx", "ms", wait(2, 0.5)).against(direct().0, direct().1, wait(0, 0.5)));
        report.add(Figure::new("a request through the gateway", "ms", wait(1, 0.5)).against("through nginx", "ms", wait(2, 0.5)));
        let name = "requests a second of 32 clients through the gateway";
        report.add(Figure::new(name, "/s", Spread::median(&rates[1])).against("through nginx", "/s", Spread::median(&rates[2])));
    }
    let name = "requests a second of 32 clients through the gateway";
    report.add(Figure::new(name, "/s", Spread::median(&rates[1])).against(direct().0, "/s", Spread::median(&rates[0])));
    Ok(())
}

fn main() -> Result<(), Failure> {
    let quick = quick()?;
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut report = Report::begin("ingress", quick, scratch.path());
    let plan = if quick { (1, 50, Duration::from_millis(200)) } else { (9, 2_000, Duration::from_secs(2)) };
    report.plan(
        json!({ "rounds": plan.0, "requests": plan.1, "seconds": plan.2.as_secs_f64(), "clients": CLIENTS, "page_bytes": PAGE.len() }),
    );
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(measure(&mut report, scratch.path(), plan))?;
    report.finish()
}
