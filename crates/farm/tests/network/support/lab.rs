//! Networks as people have them at home: an internet, machines on it, and machines behind routers that translate addresses.
//!
//! ```text
//!   gate 198.18.0.2                         other 198.18.0.3
//!      └───────────┬───────── internet ────────┬──┘
//!          router 198.18.0.4           router 198.18.0.5
//!             10.20.4.1                   10.20.5.1
//!      ┌───────────┴────────┐                  │
//!  home 10.20.4.2    desk 10.20.4.3     work 10.20.5.2
//! ```
//! Guarantees:
//! - Each machine, each router and the internet is a network namespace. None of them has a way to this machine's network or to another
//!   lab: labs with the same addresses run side by side, and nothing in them reaches the world. Unix sockets and files are shared.
//! - A packet to an address that nobody has is answered with "unreachable"; there are no names.
//! - A router lets out whatever its LAN sends, from its own address, and lets in only answers. It drops the rest without a word.
//! - A namespace ends with the last handle to it, and with the test program however that dies: whatever still runs in it is killed then,
//!   an engine is ended in good order before. Files that a killed test program left are removed by the next lab.
//!
//! It takes root, `ip` and `iptables`; a test fails with a sentence where it lacks something. Nothing delays or loses packets.

use super::{Engine, LOOK_EVERY, PATIENCE, eventually, unmount_below};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{DirBuilder, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

/// Where engines keep their data. Not below /tmp, which may be memory: overlay2 needs a disk.
const FOLDERS: &str = "/var/lib/pasture/lab";
const IMAGE: &str = "pasture/busybox:1";
/// The internet's own end: the gateway of those on it, which leads nowhere.
const NOWHERE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The same of IPv6, where somebody has that.
const NOWHERE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// Keeps a namespace until its standard input ends, then ends whatever runs in it; the argument is the pid file of the engine there.
///
/// A new namespace takes over this machine's settings for IPv4, and its bridges ask for `IPv6` addresses.
const KEEPER: &str = r#"
set -e
trap '' INT TERM HUP
echo 0 >/proc/sys/net/ipv4/ip_forward
[ ! -d /proc/sys/net/ipv6 ] || echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
ip link set lo up
echo ready
cat >/dev/null
set +e
# A pattern: brackets would be a set of characters.
here=$(readlink /proc/self/ns/net | tr '[]' '??')
inhabitants() { find /proc/[0-9]*/ns/net -maxdepth 0 -lname "$here" 2>/dev/null | cut -d/ -f3; }
if engine=$(cat "$1" 2>/dev/null) && inhabitants | grep -qx "$engine"; then
    kill "$engine"
    tries=0
    while [ -d "/proc/$engine" ] && [ "$tries" -lt 600 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
fi
for one in $(inhabitants); do
    [ "$one" = $$ ] || kill -KILL "$one" 2>/dev/null
done
exit 0
"#;

/// How a router chooses the port from which the world sees a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Nat {
    /// The machine's own port, to whomever it speaks, unless another connection to the same place has it: what most routers do.
    KeepsPorts,
    /// A random one for each destination: what nobody can guess from the outside.
    RandomPorts,
}

/// A network namespace.
struct Space {
    keeper: Child,
}

impl Drop for Space {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // It gives its engine a minute at most.
        let _ = self.keeper.wait();
    }
}

impl Space {
    fn new(engine_pid: &Path) -> Arc<Self> {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", KEEPER, "keeper"]).arg(engine_pid);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir("/");
        let mut keeper = command.spawn().unwrap_or_else(|e| panic!("a lab of networks needs `unshare` of util-linux: {e}"));
        let mut said = String::new();
        let _ = BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut said);
        let mut why = keeper.stderr.take().unwrap();
        if said != "ready\n" {
            let mut text = String::new();
            let _ = why.read_to_string(&mut text);
            let _ = keeper.wait();
            panic!("a lab of networks needs `ip`, which scripts/setup.sh installs, and the right to make namespaces: {text}");
        }
        Arc::new(Self { keeper })
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.keeper.id().to_string(), "--net", "--"]).arg(program);
        command
    }

    /// Runs a script in it.
    #[track_caller]
    fn sh(&self, script: &str) {
        let done = self.command("sh").args(["-ec", script]).stdin(Stdio::null()).output();
        let done = done.unwrap_or_else(|e| panic!("a lab of networks needs `nsenter` of util-linux: {e}"));
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "a lab of networks needs `ip` and `iptables`, which scripts/setup.sh installs: {said}{script}");
    }

    /// Lays a cable from one of its bridges to another namespace.
    fn plug(&self, bridge: &str, port: &str, other: &Self, end: &str, address: &str, gateway: impl std::fmt::Display) {
        let pid = other.keeper.id();
        self.sh(&format!("ip link add {port} type veth peer name {end} netns {pid}\nip link set {port} master {bridge} up"));
        let six = if address.contains(':') { with_v6(end) } else { String::new() };
        other.sh(&format!("{six}ip address add {address} dev {end}\nip link set {end} up\nip route add default via {gateway}"));
    }
}

/// A line that lets a device have IPv6, which none has in a lab unless it is wanted.
fn with_v6(device: &str) -> String {
    format!("echo 0 >/proc/sys/net/ipv6/conf/{device}/disable_ipv6\n")
}

/// A lab's folder, which says by its lock that the lab is in use.
struct Ground {
    folder: PathBuf,
    _lock: File,
}

impl Drop for Ground {
    fn drop(&mut self) {
        unmount_below(&self.folder);
        if let Err(e) = std::fs::remove_dir_all(&self.folder) {
            // Not a panic: this may be one already.
            eprintln!("the lab's folder stays: {e}");
        }
    }
}

impl Ground {
    fn new(name: &str) -> Arc<Self> {
        assert!(geteuid().is_root(), "a lab of networks needs root, to make namespaces and to start engines: run this test as root");
        std::fs::create_dir_all(FOLDERS).unwrap_or_else(|e| panic!("{FOLDERS}: {e}"));
        // Held while folders come and those of the dead go: a new one is locked before anybody sweeps.
        let door = File::create(format!("{FOLDERS}/lock")).unwrap();
        door.lock().unwrap();
        sweep();
        let process = std::process::id();
        let named = |n: u32| Path::new(FOLDERS).join(format!("{name}-{process}-{n}"));
        let free = |folder: &PathBuf| DirBuilder::new().mode(0o711).create(folder).is_ok();
        let folder = (0..1_000).map(named).find(free).expect("a folder that is free");
        let lock = File::create(folder.join("lock")).unwrap();
        lock.lock().unwrap();
        Arc::new(Self { folder, _lock: lock })
    }
}

/// Removes what labs of dead test programs left, but for those whose engine is still ending.
fn sweep() {
    for folder in std::fs::read_dir(FOLDERS).unwrap().flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let unused = File::open(folder.join("lock")).is_ok_and(|lock| lock.try_lock().is_ok());
        let pids = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut pids = pids.filter_map(|host| std::fs::read_to_string(host.path().join("docker.pid")).ok());
        if unused && !pids.any(|pid| Path::new("/proc").join(pid.trim()).exists()) {
            unmount_below(&folder);
            let _ = std::fs::remove_dir_all(&folder);
        }
    }
}

/// An internet of a test's own, with 250 addresses.
pub(crate) struct Lab {
    internet: Arc<Space>,
    next: AtomicU8,
    ground: Arc<Ground>,
}

impl Lab {
    /// An internet with nobody on it. The name is for those who look for what a test left.
    pub(crate) fn new(name: &str) -> Self {
        let ground = Ground::new(name);
        let internet = Space::new(&ground.folder.join("no-engine"));
        internet.sh(&format!(
            "ip link add internet type bridge\nip address add {NOWHERE}/15 dev internet\nip link set internet up\n\
             ip route add unreachable default\necho 1 >/proc/sys/net/ipv4/ip_forward"
        ));
        Self { internet, next: AtomicU8::new(2), ground }
    }

    /// Plugs a namespace into the internet.
    fn join(&self, space: &Space, end: &str) -> (u8, Ipv4Addr, String) {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        assert!(n < 252, "the lab's internet is full");
        let (address, port) = (Ipv4Addr::new(198, 18, 0, n), format!("to{n}"));
        self.internet.plug("internet", &port, space, end, &format!("{address}/15"), NOWHERE);
        (n, address, port)
    }

    /// A machine with an address that everybody reaches.
    pub(crate) fn public(&self, name: &str) -> Host {
        let folder = self.ground.folder.join(name);
        let space = Space::new(&folder.join("docker.pid"));
        let (_, address, port) = self.join(&space, "eth0");
        Host { space, address, port, folder, switch: Arc::clone(&self.internet), lan: None, ground: Arc::clone(&self.ground) }
    }

    /// A machine that has IPv6 and nothing else, with an address that everybody who has it reaches.
    pub(crate) fn public_v6(&self, name: &str) -> (Host, Ipv6Addr) {
        let folder = self.ground.folder.join(name);
        let space = Space::new(&folder.join("docker.pid"));
        let (_, port, address) = self.next_v6();
        self.internet.plug("internet", &port, &space, "eth0", &format!("{address}/64 nodad"), NOWHERE_V6);
        let (switch, ground) = (Arc::clone(&self.internet), Arc::clone(&self.ground));
        (Host { space, address: Ipv4Addr::UNSPECIFIED, port, folder, switch, lan: None, ground }, address)
    }

    /// The same behind a router that lets in only what answers, as those at home do; no address is changed on the way.
    pub(crate) fn behind_firewall_v6(&self, name: &str) -> (Host, Ipv6Addr) {
        let router = Space::new(&self.ground.folder.join("no-engine"));
        let (n, port, outside) = self.next_v6();
        self.internet.plug("internet", &port, &router, "wan", &format!("{outside}/64 nodad"), NOWHERE_V6);
        let net = |end: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, n, 0, 0, 0, end);
        self.internet.sh(&format!("ip -6 route add {}/64 via {outside}", net(0)));
        router.sh(&format!(
            "ip link add lan type bridge\n{}ip address add {}/64 dev lan nodad\nip link set lan up\nip6tables-restore <<END\n\
             *filter\n:INPUT ACCEPT\n:FORWARD DROP\n\
             -A FORWARD -i wan -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n-A FORWARD -i lan -j ACCEPT\nCOMMIT\nEND\n\
             echo 1 >/proc/sys/net/ipv6/conf/all/forwarding",
            with_v6("lan"),
            net(1)
        ));
        let folder = self.ground.folder.join(name);
        let space = Space::new(&folder.join("docker.pid"));
        router.plug("lan", "to2", &space, "eth0", &format!("{}/64 nodad", net(2)), net(1));
        let lan = Arc::new(Lan {
            router: Arc::clone(&router),
            number: 0,
            outside: Ipv4Addr::UNSPECIFIED,
            _internet: Arc::clone(&self.internet),
            next: AtomicU8::new(3),
        });
        let ground = Arc::clone(&self.ground);
        (Host { space, address: Ipv4Addr::UNSPECIFIED, port: "to2".into(), folder, switch: router, lan: Some(lan), ground }, net(2))
    }

    /// The next number on the internet, its port there, and its address of IPv6.
    fn next_v6(&self) -> (u16, String, Ipv6Addr) {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        assert!(n < 252, "the lab's internet is full");
        self.internet.sh(&format!(
            "{}ip -6 address show dev internet | grep -q {NOWHERE_V6} || ip address add {NOWHERE_V6}/64 dev internet nodad\n\
             echo 1 >/proc/sys/net/ipv6/conf/all/forwarding",
            with_v6("internet")
        ));
        (u16::from(n), format!("to{n}"), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()))
    }

    /// A machine in a LAN of its own, behind a router.
    pub(crate) fn behind_nat(&self, name: &str, nat: Nat) -> Host {
        let router = Space::new(&self.ground.folder.join("no-engine"));
        let (number, outside, _) = self.join(&router, "wan");
        let ports = if nat == Nat::RandomPorts { "--random-fully" } else { "" };
        router.sh(&format!(
            "ip link add lan type bridge\nip address add 10.20.{number}.1/24 dev lan\nip link set lan up\niptables-restore <<END\n\
             *nat\n-A POSTROUTING -o wan -j MASQUERADE {ports}\nCOMMIT\n\
             *filter\n:INPUT DROP\n:FORWARD DROP\n\
             -A INPUT -i wan -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n-A INPUT ! -i wan -j ACCEPT\n\
             -A FORWARD -i wan -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n-A FORWARD -i lan -j ACCEPT\nCOMMIT\nEND\n\
             echo 1 >/proc/sys/net/ipv4/ip_forward"
        ));
        let lan = Arc::new(Lan { router, number, outside, _internet: Arc::clone(&self.internet), next: AtomicU8::new(2) });
        self.in_lan(name, lan)
    }

    /// Another machine in the LAN of one that is behind a router.
    pub(crate) fn in_lan_of(&self, host: &Host, name: &str) -> Host {
        let lan = host.lan.as_ref().unwrap_or_else(|| panic!("{name}: that machine is in no LAN"));
        self.in_lan(name, Arc::clone(lan))
    }

    fn in_lan(&self, name: &str, lan: Arc<Lan>) -> Host {
        let n = lan.next.fetch_add(1, Ordering::Relaxed);
        let (address, port) = (Ipv4Addr::new(10, 20, lan.number, n), format!("to{n}"));
        let folder = self.ground.folder.join(name);
        let space = Space::new(&folder.join("docker.pid"));
        lan.router.plug("lan", &port, &space, "eth0", &format!("{address}/24"), Ipv4Addr::new(10, 20, lan.number, 1));
        let (switch, ground) = (Arc::clone(&lan.router), Arc::clone(&self.ground));
        Host { space, address, port, folder, switch, lan: Some(lan), ground }
    }
}

/// Machines behind one router.
struct Lan {
    router: Arc<Space>,
    number: u8,
    outside: Ipv4Addr,
    next: AtomicU8,
    _internet: Arc<Space>,
}

/// A machine in a lab; it ends with the last handle to it.
#[derive(Clone)]
pub(crate) struct Host {
    space: Arc<Space>,
    address: Ipv4Addr,
    /// Where its cable ends, and the name of that end.
    switch: Arc<Space>,
    port: String,
    lan: Option<Arc<Lan>>,
    folder: PathBuf,
    ground: Arc<Ground>,
}

impl Host {
    /// Its address, as it knows it.
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The address from which the internet sees it: its own, or its router's.
    pub(crate) fn outside(&self) -> Ipv4Addr {
        self.lan.as_ref().map_or(self.address, |lan| lan.outside)
    }

    /// A program on it, with the environment and the folder of this one. Its process is the program's own.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.space.command(program)
    }

    /// The same command on it: with the command's own variables only.
    pub(crate) fn on(&self, command: &Command) -> Command {
        let mut there = self.command(command.get_program());
        there.args(command.get_args()).env_clear();
        there.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(folder) = command.get_current_dir() {
            there.current_dir(folder);
        }
        there
    }

    /// Does something in a thread on this machine. Sockets that are opened there stay there, whoever uses them afterwards.
    pub(crate) fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let space = File::open(format!("/proc/{}/ns/net", self.space.keeper.id())).unwrap();
        let moved = || {
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            act()
        };
        std::thread::scope(|scope| scope.spawn(moved).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Pulls its cable out, or puts it back. It keeps its address, as a machine does whose cable is out.
    pub(crate) fn link(&self, up: bool) {
        self.switch.sh(&format!("ip link set {} {}", self.port, if up { "up" } else { "down" }));
    }

    /// Starts a container engine on it, which has the base image. One at a time.
    pub(crate) fn engine(&self) -> HostEngine {
        std::fs::create_dir_all(&self.folder).unwrap();
        let of = |name: &str| self.folder.join(name).to_str().unwrap().to_owned();
        // This machine's own settings are not for it.
        std::fs::write(of("daemon.json"), "{}").unwrap();
        let log = File::create(of("log")).unwrap();
        let mut command = self.command("dockerd");
        command.args(["--config-file", &of("daemon.json"), "-H", &format!("unix://{}", of("docker.sock")), "--pidfile", &of("docker.pid")]);
        command.args(["--data-root", &of("data"), "--exec-root", &of("exec"), "--shutdown-timeout", "1", "--log-level", "warn"]);
        // Where the system has a containerd, engines share it.
        let space = self.ground.folder.file_name().unwrap().to_str().unwrap();
        let space = format!("{space}-{}", self.folder.file_name().unwrap().to_str().unwrap());
        command.args(["--containerd-namespace", &space, "--containerd-plugins-namespace", &format!("{space}-plugins")]);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).current_dir("/");
        let daemon = command.spawn().unwrap();
        let socket = of("docker.sock");
        let mut this = HostEngine { daemon, engine: Engine { socket: PathBuf::from(&socket) }, socket, _host: self.clone() };
        let answers = eventually("an engine answers or gives up", PATIENCE, || {
            let ended = this.daemon.try_wait().unwrap().is_some();
            (ended || this.engine.answers()).then_some(!ended)
        });
        let log = std::fs::read_to_string(of("log")).unwrap_or_default();
        assert!(answers, "a machine of a lab needs `dockerd`, which scripts/engine.sh installs where it finds no engine: {log}");
        Engine::find().give_image(IMAGE, &this.engine);
        this
    }
}

/// A container engine on a machine of a lab. It ends with this, and its containers before.
pub(crate) struct HostEngine {
    daemon: Child,
    engine: Engine,
    socket: String,
    _host: Host,
}

impl std::ops::Deref for HostEngine {
    type Target = Engine;
    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl HostEngine {
    /// Its socket, which all of this machine reaches.
    pub(crate) fn socket(&self) -> &str {
        &self.socket
    }
}

impl Drop for HostEngine {
    fn drop(&mut self) {
        if self.engine.answers() {
            self.engine.clear_all();
        }
        let _ = kill_process(Pid::from_child(&self.daemon), Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < PATIENCE && matches!(self.daemon.try_wait(), Ok(None)) {
            std::thread::sleep(LOOK_EVERY);
        }
        // It may have ended.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
