//! Jobs that take all they can get: processes, memory, disk, files, log.

use super::{Neighbour, armed};
use crate::support::{Folder, Net, Options, PATIENCE, User, eventually, paid, until};
use pasture_types::lease::{EndReason, LeaseState};
use std::time::Duration;

/// Disk of a job that fills it.
const DISK: u64 = 64 << 20;
/// What a job on one of its own limits may take besides: the image of its file system has a head.
const LONGEST: Duration = Duration::from_secs(300);

/// One of its processes takes more memory than the job has; the shell goes on and says so.
const TAKE_MEMORY: &str = "dd if=/dev/zero of=/dev/null bs=100M count=1 2> /dev/null; echo ended with $?
dd if=/dev/zero of=/dev/shm/fill bs=1M count=100 2> /dev/null; echo $(wc -c < /dev/shm/fill) bytes in memory; exit 5";

/// Writes to every place that can be written to, 100 MB each, and says how much it got.
const FILL: &str =
    "for place in /fill /tmp/fill /root/fill /declared/fill $FARM_OUTPUT_DIR/fill /etc/hosts /etc/resolv.conf /etc/hostname; do
dd if=/dev/zero of=$place bs=1M count=100 2> /tmp/words || grep -q 'No space left' /tmp/words || cat /tmp/words
echo $place $(wc -c < $place); : > $place; done
dd if=/dev/zero of=/fill bs=1M count=100 2> /dev/null; dd if=/dev/zero of=$FARM_OUTPUT_DIR/more bs=1M count=100 2> /dev/null
echo both $(( $(wc -c < /fill) + $(wc -c < $FARM_OUTPUT_DIR/more) )); rm /fill $FARM_OUTPUT_DIR/*; exit 4";

fn start(net: &Net, folder: &Folder) -> (User, crate::support::Running) {
    let user = net.stranger();
    let running = user.start(&["run", folder.arg(), "--cpu", "0.2", "--memory", "64Mi", "--disk", "64Mi", "--pids", "64"]);
    (user, running)
}

/// Processes that a check of life may have inside at the same time.
const VISITORS: u64 = 4;

fn number(text: &str, before: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(before)).unwrap_or_else(|| panic!("`{before}` is missing\n{text}"));
    line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no number after `{before}`\n{text}"))
}

#[test]
fn tenants_that_take_all_they_can_get_hurt_only_themselves() {
    let net = Net::start(Options::default());
    let neighbour = Neighbour::move_in(&net);
    let breeds = armed("breeder", "CMD [\"/attacks\", \"processes\"]");
    let [takes, fills] = [("hog", TAKE_MEMORY), ("filler", FILL)].map(|(name, script)| Folder::script(name, script));
    fills.write("Dockerfile", "FROM pasture/busybox:1\nCOPY job.sh /job.sh\nVOLUME /declared\nCMD [\"sh\", \"/job.sh\"]\n");
    let opens = armed("opener", "CMD [\"/attacks\", \"files\"]");
    let [breeder, hog, filler, opener] = [&breeds, &takes, &fills, &opens].map(|folder| start(&net, folder));

    let (user, running) = breeder;
    let done = running.finish(LONGEST).exits(3).says(&["EAGAIN"]);
    let most = number(&done.stdout, "most ");
    // The kernel refuses births beyond the limit, not those who come in from outside: whoever asks whether the job is alive.
    assert!((20..=64 + VISITORS).contains(&most), "{most} processes\n{}", done.all());
    assert_eq!(user.settled().0.reason, Some(EndReason::Exited { code: 3 }));

    // What the kernel killed was not the job itself: the job has an exit code of its own.
    let (user, running) = hog;
    let done = running.finish(LONGEST).exits(5).says(&["ended with 137", "(exit 5)"]);
    let last = done.stdout.lines().last().unwrap_or_default();
    assert!(number(last, "") <= DISK, "{}", done.all());
    assert_eq!(user.settled().0.reason, Some(EndReason::Exited { code: 5 }));

    let (user, running) = filler;
    let done = running.finish(LONGEST).exits(4);
    let places = ["/fill", "/tmp/fill", "/root/fill", "/declared/fill", "/farm/out/fill", "/etc/hosts", "/etc/resolv.conf", "both"];
    for place in places {
        let bytes = number(&done.stdout, &format!("{place} "));
        assert!((DISK / 2..DISK).contains(&bytes), "{bytes} bytes in {place}\n{}", done.all());
    }
    assert_eq!(user.settled().0.reason, Some(EndReason::Exited { code: 4 }));

    let (user, running) = opener;
    let done = running.finish(LONGEST);
    let (lease, _) = user.settled();
    assert!(number(&done.stdout, "first ") <= 1 << 16, "{}", done.all());
    // Open files are memory of the job's: either it has enough for all of its processes, or it is told what it lacks.
    match lease.reason {
        Some(EndReason::Exited { code: 0 }) => assert_eq!(done.code, 0, "{}", done.all()),
        Some(EndReason::OutOfMemory) => drop(done.exits(137).says(&["more memory than it asked for"])),
        // With memory as short as that, nothing else runs in it either.
        Some(EndReason::ServiceStopped) => drop(done.exits(125).says(&["no sign of life"])),
        other => panic!("{other:?}\n{}", done.all()),
    }
    neighbour.has_noticed_nothing();
}

#[test]
fn a_tenant_that_floods_its_log_keeps_what_the_log_holds_and_stops_nobody() {
    let net = Net::start(Options::default());
    let neighbour = Neighbour::move_in(&net);
    // Lines of 60 kB as fast as a core makes them, for five seconds.
    let script = "line=$(head -c 60000 /dev/zero | tr '\\0' x); echo begins; timeout 5 yes $line; echo ends";
    let user = net.stranger();
    let folder = Folder::script("talker", script);
    let _ = user.start(&["run", folder.arg(), "-d", "--cpu", "1", "--memory", "64Mi", "--disk", "64Mi"]).finish(PATIENCE).exits(0);
    let lease = eventually("the flood is over", LONGEST, || Some(user.lease()).filter(|l| l.state == LeaseState::Closed));
    assert_eq!(lease.reason, Some(EndReason::Exited { code: 0 }));
    let s = paid(&lease);
    assert_eq!(s.epochs_proven, s.epochs, "the node missed a capacity check: {s:?}");
    let log = user.farm(&["logs", "talker"]).exits(0);
    let kept = log.stdout.len() as u64;
    eprintln!("{kept} bytes of the flood were kept");
    assert!(log.stdout.starts_with("begins\n"), "the beginning is kept");
    assert!(kept <= 256 << 20, "{kept} bytes were kept");
    neighbour.has_noticed_nothing();
    until("nothing of it is left in the engine", || net.engine.leftovers(net.node()).is_empty());
}
