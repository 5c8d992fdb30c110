//! The lab itself: its routers do what those of homes do, and nothing of it outlives a test.

use crate::support::{Engine, Host, HostEngine, Lab, Nat, PATIENCE, eventually, until};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long one waits for what should not come. On a slow machine a test may miss a fault thereby, but never sees one that is not there.
const SILENCE: Duration = Duration::from_millis(300);
const PORT: u16 = 4_000;

fn udp(host: &Host, port: u16) -> UdpSocket {
    let socket = host.inside(|| UdpSocket::bind((host.address(), port))).unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    socket
}

/// Who sent the next datagram, if one comes.
fn hears(socket: &UdpSocket) -> Option<SocketAddrV4> {
    match socket.recv_from(&mut [0; 16]) {
        Ok((_, SocketAddr::V4(from))) => Some(from),
        Ok((_, from)) => panic!("{from}"),
        // What was sent from it before may have been refused.
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionRefused) => None,
        Err(e) => panic!("{e}"),
    }
}

/// How `there` sees what `socket` sends it.
fn seen(socket: &UdpSocket, there: &UdpSocket) -> SocketAddrV4 {
    let to = there.local_addr().unwrap();
    eventually("a datagram arrives", PATIENCE, || {
        // Where the cable has just come back this machine may not know yet.
        let _ = socket.send_to(b"here", to);
        hears(there)
    })
}

/// Whether a connection from there comes to be; else it was dropped, not refused.
fn connects(from: &Host, to: SocketAddrV4) -> bool {
    match from.inside(|| TcpStream::connect_timeout(&to.into(), SILENCE)) {
        Ok(_) => true,
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::TimedOut, "{to}: {e}");
            false
        }
    }
}

#[test]
fn a_machine_behind_a_router_reaches_out_and_only_its_lan_reaches_it() {
    let lab = Lab::new("router");
    let (gate, home) = (lab.public("gate"), lab.behind_nat("home", Nat::KeepsPorts));
    let desk = lab.in_lan_of(&home, "desk");

    let listener = gate.inside(|| TcpListener::bind((gate.address(), PORT))).unwrap();
    let _out = home.inside(|| TcpStream::connect_timeout(&(gate.address(), PORT).into(), PATIENCE)).unwrap();
    let (_in, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), home.outside());

    let _listener = home.inside(|| TcpListener::bind(("0.0.0.0", PORT))).unwrap();
    until("a neighbour reaches it", || connects(&desk, SocketAddrV4::new(home.address(), PORT)));
    assert!(!connects(&gate, SocketAddrV4::new(home.outside(), PORT)), "the router let somebody in");
    // Also not where somebody on the internet knows which router leads to it.
    let lan = format!("{}/32", home.address());
    let done = gate.command("ip").args(["route", "add", &lan, "via", &home.outside().to_string()]).status().unwrap();
    assert!(done.success());
    assert!(!connects(&gate, SocketAddrV4::new(home.address(), PORT)), "the router forwarded what nobody asked for");
}

#[test]
fn a_router_keeps_ports_or_takes_random_ones() {
    let lab = Lab::new("ports");
    let gate = lab.public("gate");
    let there: Vec<UdpSocket> = (0..6).map(|n| udp(&gate, PORT + n)).collect();
    let (keeps, random) = (lab.behind_nat("keeps", Nat::KeepsPorts), lab.behind_nat("random", Nat::RandomPorts));

    let socket = udp(&keeps, 5_000);
    for there in &there {
        assert_eq!(seen(&socket, there), SocketAddrV4::new(keeps.outside(), 5_000));
    }
    let socket = udp(&random, 5_000);
    let as_seen: Vec<SocketAddrV4> = there.iter().map(|there| seen(&socket, there)).collect();
    assert!(as_seen.iter().all(|from| *from.ip() == random.outside()), "{as_seen:?}");
    assert!(as_seen.iter().any(|from| from.port() != as_seen[0].port()), "one port for all destinations: {as_seen:?}");
}

#[test]
fn two_homes_that_keep_ports_reach_each_other_once_both_try() {
    let lab = Lab::new("punch");
    let (left, right) = (lab.behind_nat("left", Nat::KeepsPorts), lab.behind_nat("right", Nat::KeepsPorts));
    let (here, there) = (udp(&left, 5_000), udp(&right, 6_000));
    here.send_to(b"here", (right.outside(), 6_000)).unwrap();
    assert_eq!(hears(&there), None, "the router let in what nobody asked for");
    until("datagrams pass both ways", || {
        here.send_to(b"here", (right.outside(), 6_000)).unwrap();
        there.send_to(b"there", (left.outside(), 5_000)).unwrap();
        let (left_hears, right_hears) = (hears(&here), hears(&there));
        assert!(left_hears.is_none_or(|from| from == SocketAddrV4::new(right.outside(), 6_000)), "{left_hears:?}");
        left_hears.is_some() && right_hears.is_some()
    });
}

#[test]
fn two_homes_with_random_ports_do_not() {
    let lab = Lab::new("random");
    let (left, right) = (lab.behind_nat("left", Nat::RandomPorts), lab.behind_nat("right", Nat::RandomPorts));
    let gate = udp(&lab.public("gate"), PORT);
    let (here, there) = (udp(&left, 5_000), udp(&right, 6_000));
    let (left_seen, right_seen) = (seen(&here, &gate), seen(&there, &gate));
    for _ in 0..10 {
        here.send_to(b"here", right_seen).unwrap();
        there.send_to(b"there", left_seen).unwrap();
    }
    assert_eq!((hears(&here), hears(&there)), (None, None));
}

#[test]
fn a_cable_that_is_out_carries_nothing() {
    let lab = Lab::new("cable");
    let (gate, home) = (lab.public("gate"), lab.behind_nat("home", Nat::KeepsPorts));
    let (here, there) = (udp(&home, 5_000), udp(&gate, PORT));
    for host in [&home, &gate] {
        let _ = seen(&here, &there);
        host.link(false);
        let _ = here.send_to(b"lost", (gate.address(), PORT));
        let mut text = [0; 4];
        // Of those that were sent before some may still come.
        while there.recv_from(&mut text).is_ok() {
            assert_ne!(&text, b"lost", "it passed");
        }
        host.link(true);
    }
    let _ = seen(&here, &there);
}

#[test]
fn an_engine_on_a_machine_behind_a_router_runs_jobs_that_reach_out() {
    let lab = Lab::new("engine");
    let gate = lab.public("gate");
    let homes = [lab.behind_nat("home", Nat::KeepsPorts), lab.behind_nat("work", Nat::RandomPorts)];
    let engines = homes.each_ref().map(Host::engine);
    let listener = gate.inside(|| TcpListener::bind((gate.address(), PORT))).unwrap();
    listener.set_nonblocking(true).unwrap();
    for (home, engine) in homes.iter().zip(&engines) {
        let script = format!("echo hello; echo world | nc {} {PORT}", gate.address());
        let (said, heard) = std::thread::scope(|scope| {
            let job = scope.spawn(|| engine.run("pasture/busybox:1", &["sh", "-c", &script]));
            let (mut stream, from) = eventually("the job reaches out", PATIENCE, || listener.accept().ok());
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            assert_eq!(from.ip(), home.outside());
            let mut heard = vec![0; 6];
            stream.read_exact(&mut heard).unwrap();
            drop(stream);
            (job.join().unwrap(), heard)
        });
        assert_eq!((said.trim(), heard.as_slice()), ("hello", b"world\n".as_slice()));
    }
    assert!(Engine { socket: engines[0].socket().into() }.answers());
}

/// Processes whose network is this one: `net:[number]`.
fn inhabitants(network: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let inside = processes.filter(|path| std::fs::read_link(path.join("ns/net")).is_ok_and(|link| link == Path::new(network)));
    inside.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

/// Whether this is the test program that another test kills.
const VICTIM: &str = "PASTURE_TEST_LAB_VICTIM";

/// A home with an engine, and a program that nobody ends.
struct Settled {
    network: String,
    folder: PathBuf,
    left: Child,
    _engine: HostEngine,
    _home: Host,
}

fn settle(lab: &Lab) -> Settled {
    let home = lab.behind_nat("home", Nat::KeepsPorts);
    let engine = home.engine();
    let network = home.inside(|| std::fs::read_link("/proc/thread-self/ns/net")).unwrap().to_string_lossy().into_owned();
    let mut sleep = Command::new("sleep");
    sleep.arg("infinity").env("PATH", "/bin:/usr/bin").current_dir("/");
    let left = home.on(&sleep).stdin(Stdio::null()).spawn().unwrap();
    let folder = Path::new(engine.socket()).ancestors().nth(2).unwrap().to_owned();
    until("it runs there", || inhabitants(&network).contains(&left.id().to_string()));
    Settled { network, folder, left, _engine: engine, _home: home }
}

/// Whether nothing of it is there any more, but for processes that the kernel is clearing away.
fn assert_gone(network: &str, folder: &Path) {
    until("no process is left", || inhabitants(network).is_empty());
    assert!(!folder.exists());
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(folder.to_str().unwrap()), "{mounts}");
}

#[test]
fn nothing_of_a_lab_outlives_it() {
    let lab = Lab::new("drop");
    let Settled { network, folder, mut left, _engine: engine, _home: home } = settle(&lab);
    drop((engine, home, lab));
    until("what nobody ended is ended", || left.try_wait().unwrap().is_some());
    assert_gone(&network, &folder);
}

#[test]
fn nothing_of_a_lab_outlives_a_test_program_that_is_killed() {
    let name = "lab::nothing_of_a_lab_outlives_a_test_program_that_is_killed";
    if std::env::var_os(VICTIM).is_some() {
        let lab = Lab::new("killed");
        let home = settle(&lab);
        println!("\nsettled {} {}", home.network, home.folder.display());
        loop {
            std::thread::park();
        }
    }
    let mut victim = Command::new(std::env::current_exe().unwrap());
    victim.args(["--exact", name, "--nocapture", "--include-ignored"]).env(VICTIM, "1").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut victim = victim.spawn().unwrap();
    let said = BufReader::new(victim.stdout.take().unwrap()).lines().map_while(Result::ok);
    let settled = said.filter_map(|line| Some(line.strip_prefix("settled ")?.to_owned())).next();
    victim.kill().unwrap();
    let _ = victim.wait();
    let settled = settled.expect("it settles");
    let (network, folder) = settled.split_once(' ').unwrap();
    until("no process is left", || inhabitants(network).is_empty());
    // It sweeps, if another test's lab has not done so before.
    drop(Lab::new("next"));
    assert_gone(network, Path::new(folder));
}
