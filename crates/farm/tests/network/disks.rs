//! A node whose disk is full, or does not keep what it was given: it stops and says so, and has lost nothing that it acknowledged.

use crate::ledger::transfer;
use crate::operate::arg;
use crate::support::{PATIENCE, Running, Signal, User, ask, eventually, unmount_below, until};
use pasture_types::tx::TxBody;
use serde_json::Value;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Where [`transfer`] numbers what it sends.
const LANE: u8 = 7;
/// Most of them: several times as many as fit into [`ROOM`].
const MOST: u64 = 20_000;
/// What a disk has left when it is filled up.
const ROOM: u64 = 2 << 20;

/// What a node may say whose disk did not keep what it was given: the system names either.
const CODES: [&str; 2] = ["no-room", "disk-failed"];

/// Disks of a test, which are gone after it.
struct Disks(TempDir);

impl Drop for Disks {
    fn drop(&mut self) {
        // What lies on another disk goes first.
        unmount_below(&self.0.path().join("upper"));
        unmount_below(self.0.path());
    }
}

impl Disks {
    /// A small disk in memory at `lower`; `None` where nothing may be mounted.
    fn new(megabytes: u32) -> Option<Self> {
        let disks = Self(tempfile::tempdir().unwrap());
        for name in ["lower", "upper"] {
            std::fs::create_dir(disks.path(name)).unwrap();
        }
        let size = format!("size={megabytes}m");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(disks.path("lower")).output().unwrap();
        if !done.status.success() {
            eprintln!("skipped: nothing can be mounted here: {}", String::from_utf8_lossy(&done.stderr).trim());
            return None;
        }
        Some(disks)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Leaves `lower` no more than [`ROOM`].
    fn fill(&self) {
        let mut filler = File::create(self.path("lower/filler")).unwrap();
        let mut written = 0;
        while let Ok(count @ 1..) = filler.write(&[0xa5; 64 << 10]) {
            written += count as u64;
        }
        filler.set_len(written.saturating_sub(ROOM)).unwrap();
    }

    fn make_room(&self) {
        std::fs::remove_file(self.path("lower/filler")).unwrap();
    }

    /// Makes a file system in `lower/image` of so many megabytes, whatever `lower` has, and mounts it at `upper`; `None` where that cannot be.
    fn image(&self, megabytes: u64) -> Option<()> {
        let image = self.path("lower/image");
        File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        let options = ["-q", "-F", "-b", "4096", "-J", "size=4", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1"];
        let made = Command::new("mkfs.ext4").args(options).arg(&image).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        self.stack()
    }

    /// Has the system find an error in what is mounted at `upper`, as one of the device would be: it takes nothing more.
    fn fail(&self) {
        let (mounts, upper) = (std::fs::read_to_string("/proc/mounts").unwrap(), arg(&self.path("upper")));
        let device = mounts.lines().find_map(|line| line.split_once(&format!(" {upper} "))).unwrap().0;
        let trigger = Path::new("/sys/fs/ext4").join(device.trim_start_matches("/dev/")).join("trigger_fs_error");
        std::fs::write(trigger, "test").unwrap();
    }

    /// Takes away what [`Disks::stack`] mounted. A container that begins at this moment has a copy of the system's mounts: until that is gone
    /// too, the same image must not be mounted a second time.
    fn unstack(&self) {
        let image = self.path("lower/image");
        until("no device shows the image", || {
            unmount_below(&self.path("upper"));
            let devices = Command::new("losetup").arg("-j").arg(&image).output().unwrap();
            devices.status.success() && devices.stdout.is_empty()
        });
    }

    /// Mounts what is in `lower/image`, which claims more than `lower` has, at `upper`; `None` where that cannot be.
    fn stack(&self) -> Option<()> {
        let done = Command::new("mount")
            .args(["-o", "loop,errors=remount-ro"])
            .args([self.path("lower/image"), self.path("upper")])
            .output()
            .unwrap();
        if !done.status.success() {
            eprintln!("skipped: no loop device here: {}", String::from_utf8_lossy(&done.stderr).trim());
            return None;
        }
        Some(())
    }
}

fn dev(user: &User, data: &Path) -> (Running, String) {
    let mut running = user.start(&["dev", "--data", &arg(data), "--listen", "127.0.0.1:0", "--no-provider", "--json"]);
    let ready: Value = eventually("it is up", PATIENCE, || {
        assert!(running.ended().is_none(), "it ended: {}", running.stderr());
        running.stdout().lines().find_map(|l| serde_json::from_str(l).ok())
    });
    (running, ready["api_url"].as_str().unwrap().to_owned())
}

/// Pays one microcredit after another from `from` on, for as long as they are acknowledged; how many were. The node may be gone by now.
fn stream(payer: &User, like: &TxBody, from: u64, most: u64) -> u64 {
    let mut body = like.clone();
    let mut count = 0;
    while count < most {
        body.seq = from + count;
        match payer.try_api(async |api| api.submit(&body.clone().sign(&payer.key())).await) {
            Ok(result) => assert!(result.ok, "{}", result.message),
            Err(_) => break,
        }
        count += 1;
    }
    count
}

/// Runs a validator whose disk is spoilt under a stream of transfers, mends the disk, and looks for what it acknowledged.
fn survives(data: &Path, codes: &[&str], spoil: impl FnOnce(), mend: impl FnOnce()) {
    let home = tempfile::tempdir().unwrap();
    let node = User::at(home.path().into(), String::new());
    let (running, url) = dev(&node, data);
    let payer = User::new(url).with_credits();
    let body = transfer(&payer, 0);
    let before = stream(&payer, &body, 0, 20);
    assert_eq!(before, 20);
    spoil();
    let acknowledged = before + stream(&payer, &body, before, MOST);
    assert!(acknowledged < MOST, "the disk did not fill up");
    let done = running.finish(PATIENCE);
    assert_eq!(done.code, 125, "{}", done.all());
    let code = *codes.iter().find(|code| done.all().contains(**code)).unwrap_or_else(|| panic!("none of {codes:?}:\n{}", done.all()));
    let place = arg(&data.join("ledger"));
    let page = node.farm(&["error", code]).exits(0);
    let done = done.says(&[&place, code, "What was acknowledged"]);
    assert!(page.stdout.contains("start the node again"), "{}", page.stdout);

    // Started again as it is, it says the same or waits for something to write; it destroys nothing.
    let mut still = node.start(&["dev", "--data", &arg(data), "--listen", "127.0.0.1:0", "--no-provider", "--json"]);
    let ended = eventually("it ended or is up", PATIENCE, || match still.ended() {
        Some(_) => Some(true),
        None => still.stdout().contains("api_url").then_some(false),
    });
    still.signal(Signal::TERM);
    let again = still.finish(PATIENCE);
    assert!(!ended || CODES.iter().any(|code| again.all().contains(code)), "{}", again.all());
    mend();
    let (running, url) = dev(&node, data);
    let account = ask(&url, async |api| api.account(&payer.account()).await).unwrap();
    let kept = account.lanes.iter().find(|(lane, _)| *lane == LANE).map_or(0, |(_, next)| *next);
    eprintln!("{acknowledged} acknowledged, {kept} kept: {}", done.stderr.lines().last().unwrap_or_default());
    assert!(kept >= acknowledged, "{kept} of {acknowledged} that were acknowledged are there\n{}", done.all());
    // One more at most may have become final without an answer.
    assert!(kept <= acknowledged + 1, "{kept} are more than were sent");
    let payer = User::at(payer.home().into(), url.clone());
    let body = transfer(&payer, kept);
    assert!(ask(&url, async |api| api.submit(&body.clone().sign(&payer.key())).await).unwrap().ok);
    running.signal(Signal::TERM);
    assert_eq!(running.finish(PATIENCE).code, 0);
    let replayed = node.farm(&["ledger", "replay", "--json", "--data", &arg(data)]).exits(0).json();
    assert!(replayed["difference"].is_null(), "{replayed}");
}

#[test]
fn a_validator_whose_disk_is_full_stops_and_goes_on_once_there_is_room() {
    let Some(disks) = Disks::new(64) else { return };
    survives(&disks.path("lower/data"), &["no-room"], || disks.fill(), || disks.make_room());
}

#[test]
fn a_validator_whose_disk_cannot_make_durable_what_it_took_stops_and_has_lost_nothing_acknowledged() {
    let Some(disks) = Disks::new(64) else { return };
    // A file system on a disk that claims to be larger than it is: writes succeed, and `fsync` fails. What was in memory alone is gone
    // when it is mounted again.
    let Some(()) = disks.image(512) else { return };
    let mend = || {
        disks.unstack();
        disks.make_room();
        disks.stack().unwrap();
    };
    survives(&disks.path("upper/data"), &CODES, || disks.fill(), mend);
}

#[test]
fn a_validator_whose_disk_fails_stops_and_has_lost_nothing_acknowledged() {
    let Some(disks) = Disks::new(64) else { return };
    let Some(()) = disks.image(48) else { return };
    let mend = || {
        disks.unstack();
        disks.stack().unwrap();
    };
    survives(&disks.path("upper/data"), &["disk-failed"], || disks.fail(), mend);
}
