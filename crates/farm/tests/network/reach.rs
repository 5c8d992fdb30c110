//! Reaching into a running job: commands with and without a terminal, files both ways, ports.

use crate::support::{Folder, Net, Options, PATIENCE, Running, SMALL, User, eventually, shared, until};
use futures::StreamExt as _;
use pasture_api::channel::{Frame, Opening, Purpose};
use pasture_api::client::LeaseClient;
use pasture_rt::{Clock as _, SystemClock};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};

/// What a job does that is there to be reached: an echo, one that answers at the end of what it is told, and patience.
const WAIT: &str = "trap 'exit 0' TERM; mkdir -p /data/sub; echo one > /data/one; echo two > /data/sub/two; chmod 750 /data/one; \
    ln -s one /data/link; echo left > $FARM_OUTPUT_DIR/left; mkdir $FARM_OUTPUT_DIR/deep; echo er > $FARM_OUTPUT_DIR/deep/er; \
    nc -ll -p 7000 -e cat & nc -ll -p 7001 -e wc -c & echo ready; while true; do sleep 60 & wait $!; done";

/// Starts such a job and waits until it is ready.
fn begin(user: &User, name: &str, more: &[&str]) {
    let folder = Folder::script(name, WAIT);
    let _ = user.farm(&[&["run", folder.arg(), "-d"], &SMALL[..], more].concat()).exits(0);
    until("the job is ready", || user.farm(&["logs", name]).stdout.contains("ready"));
}

/// A command that is told something and then that this was all.
fn told(user: &User, args: &[&str], input: &[u8]) -> Output {
    let mut child = user.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|n| (n * 31 + n / 251) as u8).collect()
}

/// The data plane of the newest job, as somebody with this user's key would speak to it.
fn client(user: &User, of: &User) -> LeaseClient {
    let lease = of.lease();
    of.api(async |api| Ok(LeaseClient::new(api.clone(), user.key(), lease.id, lease.node, || SystemClock.now_ms())))
}

fn opening(purpose: Purpose) -> Opening {
    Opening { salt: format!("{:032x}", std::process::id()), at_ms: SystemClock.now_ms(), purpose }
}

#[test]
fn a_command_has_its_streams_and_its_exit_code_is_ours() {
    let user = shared().stranger();
    begin(&user, "reached", &[]);
    let exec = |script: &str, input: &[u8]| told(&user, &["exec", "reached", "--", "sh", "-c", script], input);
    let done = exec("cat; echo oh >&2; exit 7", b"hello\n");
    assert_eq!((done.status.code(), done.stdout.as_slice(), done.stderr.as_slice()), (Some(7), &b"hello\n"[..], &b"oh\n"[..]));
    // More than all buffers on the way, every byte as it was.
    let much = bytes(3_000_001);
    let done = exec("cat", &much);
    assert_eq!(done.status.code(), Some(0));
    assert!(done.stdout == much, "{} bytes came back", done.stdout.len());
    let done = exec("wc -c; echo $A", &much);
    assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), "3000001");
    // A command that reads nothing does not wait for what it is told, and one that is killed says so.
    assert_eq!(exec("exit 3", &much).status.code(), Some(3));
    assert_eq!(exec("kill -9 $$", b"").status.code(), Some(137));
    let done = told(&user, &["exec", "reached", "-e", "A=some thing", "--", "sh", "-c", "echo $A"], b"");
    assert_eq!(done.stdout, b"some thing\n");
    // Somebody who reads no more ends it all.
    let line = format!("'{}' exec reached -- yes | head -n 1", crate::support::farm_binary().display());
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &line]).envs(user.command(&[]).get_envs().filter_map(|(k, v)| Some((k, v?)))).stdin(Stdio::null());
    let done = Running::start(command).finish(PATIENCE).exits(0);
    assert_eq!(done.stdout, "y\n");
    until("the command that nobody reads is gone", || exec("ps | grep -c '[y]es$'", b"").stdout == b"0\n");

    let _ = user.farm(&["exec", "reached", "--", "no-such-thing"]).exits(127).says(&["no-such-thing is not in the container"]);
    let _ = user.farm(&["exec", "reached", "--", "/data/sub/two"]).exits(126).says(&["cannot be run"]);
    let _ = user.farm(&["exec", "reached", "-t", "--", "sh"]).exits(2).says(&["no terminal"]);
    let _ = user.farm(&["exec", "no-such-job", "--", "sh"]).exits(125);
    let _ = user.farm(&["stop", "reached"]).exits(0);
    let _ = user.farm(&["exec", "reached", "--", "true"]).exits(125).says(&["has ended", "farm logs reached"]);
}

#[test]
fn nobody_else_opens_a_channel_and_none_is_opened_twice() {
    let user = shared().stranger();
    begin(&user, "private", &[]);
    let stranger = shared().stranger().with_credits();
    let purpose = || Purpose::Exec { command: vec!["true".into()], env: Default::default(), terminal: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let open = |by: &User, opening: &Opening| {
        let client = client(by, &user);
        runtime.block_on(async {
            let told = client.channel(opening, futures::stream::pending()).await.map_err(|e| e.problem().unwrap().clone())?;
            Ok::<_, pasture_api::Problem>(told.map(Result::unwrap).collect::<Vec<Frame>>().await)
        })
    };
    let first = opening(purpose());
    assert_eq!(open(&stranger, &first).unwrap_err().code, "forbidden");
    assert_eq!(open(&user, &first).unwrap(), [Frame::Exit(0)]);
    assert_eq!(open(&user, &first).unwrap_err().code, "opened-before", "whoever saw it sends it again");
    let late = Opening { at_ms: first.at_ms - 300_000, ..first.clone() };
    assert_eq!(open(&user, &late).unwrap_err().status, 401);
    for (purpose, status) in [(Purpose::Port { port: 7000 }, 403), (Purpose::Read { path: "/data".into() }, 403)] {
        assert_eq!(open(&stranger, &opening(purpose)).unwrap_err().status, status);
    }
    let _ = stranger.farm(&["exec", "private", "--", "true"]).exits(125);
    let _ = user.farm(&["stop", "private"]).exits(0);
}

#[test]
fn at_a_terminal_a_command_has_one_that_follows_ours_and_ours_is_given_back() {
    let user = shared().stranger();
    begin(&user, "screen", &[]);
    let farm = crate::support::farm_binary();
    let line = format!(
        "stty cols 100 rows 30; stty -a > before; (while [ ! -e go ]; do sleep 0.05; done; stty cols 123 rows 45 < /dev/tty) & \
         '{}' exec screen -- sh; echo code=$?; stty cols 100 rows 30; stty -a > after",
        farm.display()
    );
    let mut running = user.shell_on_terminal(&line);
    running.type_in("stty size; echo on=$(tty)\n");
    running.shows("30 100");
    running.shows("on=/dev/");
    std::fs::write(user.home().join("go"), "").unwrap();
    // The new size is there soon; a program that asks too early asks again.
    running.type_in("while [ \"$(stty size)\" != '45 123' ]; do sleep 0.05; done; echo now $(stty size)\n");
    running.shows("now 45 123");
    // Keys that a terminal would act on go to the command: this ends the sleep there and nothing here.
    running.type_in("sleep 1000; echo after-sleep\n");
    until("the sleep runs", || {
        let seen = told(&user, &["exec", "screen", "--", "sh", "-c", "ps | grep -c '[s]leep 1000'"], b"");
        seen.stdout == b"1\n"
    });
    running.type_in("\x03");
    running.type_in("echo st''ill here; exit 5\n");
    running.shows("still here");
    running.shows("code=5");
    let done = running.finish(PATIENCE).exits(0);
    assert!(!done.stdout.contains("\nafter-sleep"), "{}", done.stdout);
    let read = |name: &str| std::fs::read_to_string(user.home().join(name)).unwrap();
    assert_eq!(read("before"), read("after"), "the terminal is as it was");

    // A signal ends us with the terminal as it was, and the command with us.
    let line = format!(
        "stty cols 100 rows 30; sh -c 'echo $$ > pid; exec \"{}\" exec screen -- sh -c \"echo begun; sleep 2000\"'; echo code=$?; stty -a > after",
        farm.display()
    );
    let mut running = user.shell_on_terminal(&line);
    running.shows("begun");
    let pid = read("pid");
    assert!(std::process::Command::new("kill").args(["-TERM", pid.trim()]).status().unwrap().success());
    running.shows("code=143");
    let _ = running.finish(PATIENCE);
    assert_eq!(read("before"), read("after"), "the terminal is as it was");
    until("the command is gone", || {
        let seen = told(&user, &["exec", "screen", "--", "sh", "-c", "ps | grep -c '[s]leep 2000'"], b"");
        seen.stdout == b"0\n"
    });
    let _ = user.farm(&["stop", "screen"]).exits(0);
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Names below a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn files_and_folders_are_copied_both_ways() {
    let user = shared().stranger();
    begin(&user, "copied", &[]);
    let home = |name: &str| user.home().join(name);
    let cp = |args: &[&str]| user.farm(&[&["cp"], args].concat());
    let inside = |script: &str| String::from_utf8(told(&user, &["exec", "copied", "--", "sh", "-c", script], b"").stdout).unwrap();

    let _ = cp(&["copied:/data/one", "one"]).exits(0).says(&["✓ one: 1 file"]);
    assert_eq!(text(&home("one")), "one\n");
    let seen = cp(&["copied:/data", "tree", "--json"]).exits(0).json();
    assert_eq!((&seen["files"], &seen["left_out"]), (&Value::from(3), &Value::from(0)));
    assert_eq!((text(&home("tree/sub/two")), text(&home("tree/link"))), ("two\n".into(), "one\n".into()));
    let _ = cp(&["copied:/data/sub", "tree"]).exits(125).says(&["is there already", "--force"]);
    let _ = cp(&["copied:/data/sub/", ".", "-q"]).exits(0);
    assert_eq!(text(&home("sub/two")), "two\n");
    // What the job puts into its output folder goes by a short name.
    let _ = cp(&["copied:left", "."]).exits(0);
    assert_eq!(text(&home("left")), "left\n");

    // Back, with what a build would leave at home, and without privileges.
    std::fs::create_dir_all(home("mine/deep/er")).unwrap();
    std::fs::write(home("mine/deep/er/.env"), "SECRET=1").unwrap();
    std::fs::write(home("mine/big"), bytes(5_000_000)).unwrap();
    std::fs::set_permissions(home("mine/big"), std::fs::Permissions::from_mode(0o4751)).unwrap();
    std::os::unix::fs::symlink("big", home("mine/link")).unwrap();
    let _ = cp(&["mine", "copied:/data"]).exits(0).says(&[":/data: 3 files"]);
    assert_eq!(inside("cat /data/mine/deep/er/.env; stat -c '%a %u' /data/mine/big; readlink /data/mine/link"), "SECRET=1751 0\nbig\n");
    let _ = cp(&["copied:/data/mine/big", "big"]).exits(0);
    assert!(std::fs::read(home("big")).unwrap() == bytes(5_000_000));
    let _ = cp(&["one", "copied:/data/named"]).exits(0);
    let _ = cp(&["one", "copied:into-the-output"]).exits(0);
    assert_eq!(inside("cat /data/named $FARM_OUTPUT_DIR/into-the-output"), "one\none\n");
    let _ = cp(&["./mine/", "copied:/new"]).exits(0);
    assert_eq!(inside("ls /new"), "big\ndeep\nlink\n");

    let _ = cp(&["copied:/nowhere", "."]).exits(125).says(&["no /nowhere in the container"]);
    let _ = cp(&["one", "copied:/nowhere/else"]).exits(125).says(&["no folder /nowhere"]);
    let _ = cp(&["mine", "copied:/data/one"]).exits(125);
    assert_eq!(inside("cat /data/one"), "one\n", "a folder does not replace a file");
    let _ = cp(&["big", "copied:/data", "--limit", "1Mi"]).exits(125).says(&["larger than", "--limit"]);
    let _ = cp(&["copied:/data/mine", "small", "--limit", "1Mi"]).exits(125);
    let _ = cp(&["one", "two"]).exits(2).says(&["neither"]);
    let _ = cp(&["copied:/a", "copied:/b"]).exits(2);
    let _ = cp(&["copied:/data/../etc", "."]).exits(2);
    // Nothing of what failed is left, under no name.
    assert!(names(user.home()).iter().all(|name| name != "small" && !name.starts_with(".farm-cp")), "{:?}", names(user.home()));

    let _ = user.farm(&["stop", "copied"]).exits(0);
    let _ = cp(&["copied:.", "all"]).exits(0);
    assert_eq!(names(&home("all")), ["deep", "into-the-output", "left"]);
    let _ = cp(&["copied:deep/er", "er"]).exits(0);
    assert_eq!(text(&home("er")), "er\n");
    let _ = cp(&["copied:deep/none", "x"]).exits(125).says(&["left no"]);
    let _ = cp(&["copied:/data/one", "x"]).exits(125).says(&["only what it left in /farm/out is kept"]);
    let _ = cp(&["one", "copied:/data"]).exits(125).says(&["has ended"]);
    assert!(!home("x").exists());
}

#[test]
fn a_hostile_tree_harms_nobody() {
    let user = shared().stranger();
    let script = "mkdir -p /h/d; cd /h; ln -s /etc/passwd out; ln -s ../../../.. up; ln -s d/e in; mkfifo pipe; echo x > plain; \
        chmod 6777 plain; echo x > \"$(printf 'bad\\033[2Jname')\"; ln -s /etc \"$(printf 'esc\\033]0;gone\\007')\"; \
        ln -s / root; ln plain hard; dd if=/dev/zero of=sparse bs=1 count=1 seek=30G 2>/dev/null; mkdir /s; ln -s /h/out /s/l; \
        echo ready; sleep 1000";
    let folder = Folder::script("hostile", script);
    let _ = user.farm(&[&["run", folder.arg(), "-d"], &SMALL[..]].concat()).exits(0);
    until("the job is ready", || user.farm(&["logs", "hostile"]).stdout.contains("ready"));
    let home = |name: &str| user.home().join(name);
    // Thirty gigabytes that are not there do not come.
    let _ = user.farm(&["cp", "hostile:/h", "huge", "--limit", "1Mi"]).exits(125).says(&["goes beyond the size"]);
    assert!(!home("huge").exists());
    let done = told(&user, &["exec", "hostile", "--", "rm", "/h/sparse"], b"");
    assert!(done.status.success());
    let done = user.farm(&["cp", "hostile:/h", "h"]).exits(0).says(&["left out"]);
    assert!(!done.all().contains(['\u{1b}', '\u{7}']), "{:?}", done.all());
    for gone in ["out", "up", "root", "pipe"] {
        assert!(std::fs::symlink_metadata(home("h").join(gone)).is_err(), "{gone}");
    }
    assert_eq!(std::fs::read_link(home("h/in")).unwrap().to_str(), Some("d/e"));
    assert_eq!((text(&home("h/plain")), text(&home("h/hard"))), ("x\n".into(), "x\n".into()));
    let mode = std::fs::metadata(home("h/plain")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7022, 0, "{mode:o}");
    let done = user.farm(&["cp", "hostile:/h/out", "out"]).exits(125).says(&["is a link to /etc/passwd"]);
    assert!(!home("out").exists(), "{}", done.all());
    // A link that is there already is not written through.
    std::fs::create_dir(home("victim")).unwrap();
    std::os::unix::fs::symlink(home("victim"), home("door")).unwrap();
    let _ = user.farm(&["cp", "hostile:/h/plain", "door"]).exits(0);
    assert_eq!(names(&home("victim")), ["plain"], "a folder by whatever name takes it under its own");
    std::os::unix::fs::symlink(home("victim/plain"), home("other")).unwrap();
    std::fs::write(home("victim/plain"), "mine").unwrap();
    let _ = user.farm(&["cp", "hostile:/h/d/../plain", "other"]).exits(2);
    let _ = user.farm(&["cp", "hostile:/h/hard", "other"]).exits(0);
    assert_eq!((text(&home("victim/plain")), text(&home("other"))), ("mine".into(), "x\n".into()));
    let _ = user.farm(&["stop", "hostile", "--grace", "1s"]).exits(0);
}

/// Says something, then that it was all, and reads the answer to its end.
fn say(port: u16, what: &[u8]) -> std::io::Result<Vec<u8>> {
    speak(TcpStream::connect(("127.0.0.1", port))?, what)
}

fn speak(mut stream: TcpStream, what: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut to = stream.try_clone()?;
    let what = what.to_vec();
    let writer = std::thread::spawn(move || to.write_all(&what).and_then(|()| to.shutdown(Shutdown::Write)));
    let mut answer = vec![];
    let read = stream.read_to_end(&mut answer);
    writer.join().unwrap()?;
    read.map(|_| answer)
}

/// The port here that leads to this one of the job.
fn door(running: &mut Running, remote: u16) -> u16 {
    running.shows("]\n");
    let doors: Value = serde_json::from_str(&running.stdout()).unwrap();
    let door = doors.as_array().unwrap().iter().find(|d| d["port"] == remote).unwrap_or_else(|| panic!("{doors}"));
    door["local"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap()
}

#[test]
fn ports_of_a_job_without_a_network_are_reached_and_no_others() {
    let user = shared().stranger();
    begin(&user, "ported", &[]);
    // One of this machine's own ports: a job has none of that number.
    let ours = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours_port = ours.local_addr().unwrap().port();
    ours.set_nonblocking(true).unwrap();
    let mut forward = user.start(&["port-forward", "ported", "0:7000", "0:7001", "0:81", &format!("0:{ours_port}"), "--json"]);
    let (echo, count) = (door(&mut forward, 7000), door(&mut forward, 7001));
    // The answer comes after the end of the question: a half-closed connection stays one.
    until("the port answers", || say(count, b"12345").is_ok_and(|answer| answer == b"5\n"));
    // The job starts both listeners side by side: this one may be the later.
    until("the other one answers", || say(echo, b"there").is_ok_and(|answer| answer == b"there"));
    // Many at once. One after the other they are let in: the listener in the job, busybox's `nc`, has room for two that wait, and loses
    // one in thirty beyond that also where nobody is between.
    let open = (0..24).map(|n| {
        let mut stream = TcpStream::connect(("127.0.0.1", echo)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"a").unwrap();
        stream.read_exact(&mut [0]).unwrap_or_else(|error| panic!("connection {n}: {error}; {}", forward.stderr()));
        stream
    });
    let open: Vec<TcpStream> = open.collect();
    let many: Vec<_> = open.into_iter().zip(100_000usize..).map(|(s, n)| std::thread::spawn(move || (speak(s, &bytes(n)), n))).collect();
    for one in many {
        let (answer, length) = one.join().unwrap();
        assert!(answer.unwrap() == bytes(length), "{length}");
    }
    // One that waits does not hold up another.
    let mut idle = TcpStream::connect(("127.0.0.1", echo)).unwrap();
    assert_eq!(say(echo, b"beside").unwrap(), b"beside");
    idle.write_all(b"late").unwrap();
    let mut answer = [0; 4];
    idle.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"late");
    // Nobody listens there: neither in the job, nor is it ours that answers.
    for port in [81, ours_port] {
        let local = door(&mut forward, port);
        assert!(say(local, b"x").map_or(true, |answer| answer.is_empty()), "{port}");
        let words = format!("nothing listens on port {port} of the container");
        eventually("it is said", PATIENCE, || forward.stderr().contains(&words).then_some(()));
    }
    assert_eq!(ours.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "our own port was not touched");
    let _ = say(door(&mut forward, 81), b"again");
    assert_eq!(forward.stderr().matches("port 81 of the container").count(), 1, "said once");
    for bad in ["0", "99999", "x:1", "0.0.0.0:80"] {
        let _ = user.farm(&["port-forward", "ported", bad]).exits(2).says(&["is no port"]);
    }
    let _ = user.farm(&["port-forward", "ported"]).exits(2).says(&["names no ports"]);
    let _ = user.farm(&["port-forward", "ported", "0:web"]).exits(2).says(&["names no port `web`"]);
    let busy = ours_port.to_string() + ":7000";
    let _ = user.farm(&["port-forward", "ported", &busy]).exits(125).says(&["another program has it"]);
    let _ = user.farm(&["stop", "ported"]).exits(0);
    let _ = forward.finish(PATIENCE).exits(0).says(&["has ended"]);
    assert!(TcpStream::connect(("127.0.0.1", echo)).is_err(), "the door is closed");
    let _ = user.farm(&["port-forward", "ported", "7000"]).exits(125).says(&["has ended"]);
}

#[test]
fn the_job_files_ports_go_by_name_and_a_run_opens_some_itself() {
    let user = shared().stranger();
    let folder = Folder::script("named", WAIT);
    folder.write("farm.yaml", "ports: [{port: 7000, name: echo}, 7001]\nresources: {cpu: 0.2, memory: 32Mi, disk: 64Mi}\n");
    let run = user.start(&["run", folder.arg(), "-p", "0:echo", "--publish", "0:7002", "--json"]);
    let port = eventually("the run says where its ports are", PATIENCE, || {
        let lines = run.stdout();
        let doors = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter(|v| v["event"] == "port");
        let door = doors.into_iter().find(|v| v["door"]["name"] == "echo")?;
        door["door"]["local"].as_str()?.rsplit_once(':')?.1.parse::<u16>().ok()
    });
    // Nothing is let in before the job runs: who is early waits.
    until("the port answers", || say(port, b"hi").is_ok_and(|answer| answer == b"hi"));
    let mut forward = user.start(&["port-forward", "named", "0:echo", "--json"]);
    let other = door(&mut forward, 7000);
    until("the port answers", || say(other, b"ho").is_ok_and(|answer| answer == b"ho"));
    forward.signal(crate::support::Signal::INT);
    let _ = forward.finish(PATIENCE).exits(0);
    // Without a word all ports of the job file are opened, and those of the run.
    let mut forward = user.start(&["port-forward", "named", "--json"]);
    forward.shows("7002");
    assert!(forward.stdout().contains("\"name\":\"echo\"") && forward.stdout().contains("7001"), "{}", forward.stdout());
    drop(forward);
    let _ = user.farm(&["run", folder.arg(), "-d", "-p", "7000"]).exits(2);
    let _ = user.farm(&["run", folder.arg(), "-p", &format!("{port}:7000")]).exits(125).says(&["another program has it"]);
    let _ = user.farm(&["stop", "named"]).exits(0);
    let _ = run.finish(PATIENCE);
}

#[test]
fn channels_end_with_the_machines_program_and_jobs_do_not() {
    let mut net = Net::start(Options { fixed_port: true, ..Options::default() });
    let user = net.user();
    let _ = user.farm(&["account", "test-credits", "100"]).exits(0);
    begin(&user, "kept", &[]);
    let mut exec = user.start(&["exec", "kept", "--", "sh", "-c", "echo begun; sleep 3000"]);
    exec.shows("begun");
    net.kill();
    let _ = exec.finish(PATIENCE).exits(125).says(&["connection"]);
    net.start_again();
    eventually("the job is reached again", PATIENCE, || {
        let done = user.farm(&["exec", "kept", "--", "echo", "again"]);
        (done.stdout == "again\n").then_some(())
    });
    let _ = user.farm(&["stop", "kept"]).exits(0);
}
