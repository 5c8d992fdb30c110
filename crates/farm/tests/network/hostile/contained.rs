//! Jobs that reach for what is not theirs: the kernel, the host, the engine, other jobs, another user.

use super::armed;
use crate::support::{Folder, Net, PATIENCE, SMALL, User, eventually, shared};
use pasture_types::lease::EndReason;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Fewest attempts at the kernel that the program makes.
const FEWEST_ATTEMPTS: usize = 40;

#[test]
fn nothing_that_would_reach_the_host_through_the_kernel_is_allowed() {
    let user = shared().stranger();
    let done = user.run(&armed("climber", "CMD [\"/attacks\", \"kernel\"]"), &[]).exits(0);
    let attempts: Vec<(&str, &str)> = done.stdout.lines().filter_map(|line| line.split_once(' ')).collect();
    assert!(attempts.len() >= FEWEST_ATTEMPTS, "{}", done.all());
    let allowed: Vec<&str> = attempts.iter().filter(|(_, how)| *how == "SUCCEEDED").map(|(what, _)| *what).collect();
    assert!(allowed.is_empty(), "{allowed:?}");
    // Refused for want of the right, not by chance.
    for what in ["init_module", "mount", "umount", "unshare-user", "setns", "bpf", "reboot", "settimeofday", "mknod", "ptrace-init"] {
        assert!(attempts.contains(&(what, "EPERM")), "{what}\n{}", done.stdout);
    }
}

#[test]
fn a_program_that_belongs_to_root_gives_nobody_roots_rights() {
    let user = shared().stranger();
    let folder = armed("climber", "RUN echo s > /root/secret && chmod 600 /root/secret\nUSER nobody\nCMD [\"/attacks\", \"identity\"]");
    let done = user.run(&folder, &[]).exits(0);
    assert_eq!(done.stdout, "uid 65534 euid 65534\nsetuid EPERM\nsecret EACCES\n", "{}", done.all());
}

/// Somebody at an address of the host who counts his visitors.
pub(super) struct Host {
    address: SocketAddr,
    visitors: Arc<AtomicU32>,
}

impl Host {
    pub(super) fn at(address: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let visitors = Arc::new(AtomicU32::new(0));
        let (address, count) = (listener.local_addr().unwrap(), Arc::clone(&visitors));
        // Ends with the test program.
        std::thread::spawn(move || {
            listener.incoming().map_while(Result::ok).for_each(|_| {
                count.fetch_add(1, Ordering::SeqCst);
            })
        });
        Self { address, visitors }
    }
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }
    pub(super) fn visitors(&self) -> u32 {
        self.visitors.load(Ordering::SeqCst)
    }
}

/// The address that this host has for others, if it has one.
fn outward() -> Option<String> {
    // No packet is sent: only the way is looked up.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}

/// A job of somebody else with a network and something to steal; gives its address there.
fn victim(net: &Net) -> (User, String) {
    let user = net.stranger();
    let script =
        "trap 'exit 0' TERM; ip -4 addr show dev eth0 | grep -o 'inet [0-9.]*'; while true; do echo stolen | nc -l -p 8080; done & wait";
    let folder = Folder::script("victim", script);
    let _ = user.run(&folder, &["-d", "--egress", "open"]).exits(0);
    let address = eventually("the address of the other job", PATIENCE, || {
        let log = user.farm(&["logs", "victim"]).stdout;
        log.lines().find_map(|line| line.strip_prefix("inet ").map(str::to_owned))
    });
    (user, address)
}

#[test]
fn a_job_with_a_network_reaches_neither_the_host_nor_the_engine_nor_other_jobs() {
    let net = shared();
    let (loopback, everywhere) = (Host::at("127.0.0.1"), Host::at("0.0.0.0"));
    let (owner, other) = victim(net);
    let mut targets = vec![format!("{other} 8080"), "169.254.169.254 80".into(), "169.254.169.254 443".into(), "10.0.0.1 443".into()];
    targets.extend(["192.168.0.1 443", "172.16.0.1 443", "100.64.0.1 443"].map(str::to_owned));
    for host in ["$gateway".to_owned(), "127.0.0.1".to_owned(), "172.17.0.1".to_owned()].into_iter().chain(outward()) {
        targets.extend([&loopback, &everywhere].map(|it| format!("{host} {}", it.address.port())));
        // The network's own API and data plane are no exception.
        targets.push(format!("{host} {}", net.url().rsplit(':').next().unwrap()));
    }
    let reach: String = targets.iter().map(|t| format!("reach {t}\n")).collect();
    let script = format!(
        "gateway=$(ip route | grep -o 'default via [0-9.]*' | cut -d ' ' -f 3); echo gateway $gateway
         reach() {{ if echo hello | nc -w 1 $1 $2; then echo REACHED $1 $2; else echo refused $1 $2; fi; }} 2> /dev/null
         {reach} ls /var/run/docker.sock /run/docker.sock /run/pasture /run/podman 2> /dev/null | sed 's/^/FOUND /'; echo done"
    );
    let user = net.stranger();
    let done = user.run(&Folder::script("reacher", &script), &["--egress", "open"]).exits(0);
    assert!(done.stdout.contains("gateway 10.213.") && done.stdout.ends_with("done\n"), "{}", done.all());
    assert_eq!(done.stdout.matches("refused ").count(), targets.len(), "{}", done.all());
    for bad in ["REACHED", "FOUND", "stolen"] {
        assert!(!done.stdout.contains(bad), "{bad}\n{}", done.all());
    }
    assert_eq!((loopback.visitors(), everywhere.visitors()), (0, 0), "{}", done.all());
    // The victim's door is open for itself, or the above proves nothing.
    assert_eq!(owner.lease().reason, None, "the victim still runs");
    let _ = owner.farm(&["stop", "victim"]).exits(0);
    let (lease, _) = owner.settled();
    assert_eq!(lease.reason, Some(EndReason::StoppedByUser));
}

#[test]
fn an_image_for_other_processors_is_refused_by_name_and_costs_nothing() {
    let net = shared();
    let theirs = if cfg!(target_arch = "x86_64") { "arm64" } else { "amd64" };
    let image = format!("pasture-test/foreign-{}:1", std::process::id());
    net.engine.load_image(&image, theirs);
    let user = net.stranger().with_credits();
    let before = user.books();
    let done = user.start(&[&["run", &image], &SMALL[..], &["--", "true"]].concat()).finish(PATIENCE);
    net.engine.forget_image(&image);
    let _ = done.exits(125).says(&["did not start", &format!("{theirs} processors"), "this machine has"]);
    let (lease, s) = user.settled();
    assert!(matches!(lease.reason, Some(EndReason::StartFailed | EndReason::BuildFailed)), "{:?}", lease.reason);
    assert_eq!((s.charged.0, s.billed_ms.0), (0, 0), "{s:?}");
    let after = user.books();
    assert!(after.on_hold.0 == 0 && before.free.saturating_sub(after.free).0 < 10_000_000, "{before:?} {after:?}");
}
