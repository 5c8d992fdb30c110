//! A gateway that lies is caught, and a state is moved: `farm ledger` against real processes and a proxy that changes answers.
//! No container engine is needed: nothing runs here but the ledger.

#![cfg(test)]

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

/// What a proxy does to a body.
type Lie = Arc<Mutex<Box<dyn Fn(&str, Vec<u8>) -> Vec<u8> + Send>>>;

/// `farm dev` without a machine, in a folder.
struct Network {
    child: Child,
    url: String,
}

impl Network {
    fn start(home: &Path, data: &Path) -> Self {
        let mut child = farm(home)
            .args(["dev", "--no-provider", "--listen", "127.0.0.1:0", "--json", "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("`{line}`: {e}"));
        Self { url: ready["api_url"].as_str().unwrap().into(), child }
    }
    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn farm(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farm"));
    command.env("FARM_HOME", home).env("CI", "true").env_remove("FARM_API_URL").env_remove("FARM_CONTEXT");
    command
}

fn run(home: &Path, args: &[&str]) -> Output {
    farm(home).args(args).output().unwrap()
}

#[track_caller]
fn ok(home: &Path, args: &[&str]) -> (Value, String) {
    let done = run(home, args);
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{args:?}: {errors}");
    (serde_json::from_slice(&done.stdout).unwrap_or_default(), errors)
}

#[track_caller]
fn fails(home: &Path, args: &[&str], words: &str) {
    let done = run(home, args);
    let text = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert_eq!(done.status.code(), Some(125), "{args:?}: {text}");
    assert!(text.contains(words), "{args:?} does not say `{words}`: {text}");
}

/// A gateway between: hands on what another answers, changed as `lie` says.
fn proxy(upstream: &str) -> (String, Lie) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let upstream: SocketAddr = upstream.strip_prefix("http://").unwrap().parse().unwrap();
    let lie: Lie = Arc::new(Mutex::new(Box::new(|_, body| body)));
    let shared = Arc::clone(&lie);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that went away is not ours to report.
            let _ = stream.and_then(|stream| pass(stream, upstream, &shared));
        }
    });
    (url, lie)
}

fn pass(mut client: TcpStream, upstream: SocketAddr, lie: &Lie) -> std::io::Result<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(client.try_clone()?);
    while reader.read_line(&mut head)? > 2 {}
    let path = head.split_whitespace().nth(1).unwrap_or("/").to_owned();
    let mut server = TcpStream::connect(upstream)?;
    write!(server, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    let mut answer = vec![];
    server.read_to_end(&mut answer)?;
    let split = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(0) + 4;
    let status = String::from_utf8_lossy(&answer[..split]).lines().next().unwrap_or_default().to_owned();
    let body = (lie.lock().unwrap())(&path, answer[split..].to_vec());
    write!(client, "{status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len())?;
    client.write_all(&body)
}

fn tell(lie: &Lie, what: impl Fn(&str, Vec<u8>) -> Vec<u8> + Send + 'static) {
    *lie.lock().unwrap() = Box::new(what);
}

fn changed(body: Vec<u8>, change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(&body).unwrap();
    change(&mut value);
    serde_json::to_vec(&value).unwrap()
}

/// One hex digit of a field, at a part of its length.
fn flip(value: &mut Value, field: &str, at: f64) {
    let text = value[field].as_str().unwrap();
    let at = ((text.len() - 1) as f64 * at) as usize;
    let digit = if text.as_bytes()[at] == b'0' { "1" } else { "0" };
    value[field] = format!("{}{digit}{}", &text[..at], &text[at + 1..]).into();
}

#[test]
fn a_gateway_that_lies_is_caught() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let data = home.join("network");
    let network = Network::start(home, &data);
    let account = ok(home, &["account", "--json"]).0["id"].as_str().unwrap().to_owned();
    let get = ["ledger", "get", "account", &account, "--json"];

    // The context of a local network knows whom to trust.
    let (view, _) = ok(home, &get);
    assert_eq!(view["verified"]["votes"], 1);
    assert_eq!(view["verified"]["validators"], 1);
    let (_, said) = ok(home, &get[..4]);
    assert!(said.contains("✓ verified: signed by 1 of 1 trusted validator"), "{said}");
    assert!(said.contains("gateway's word alone: on_hold"), "{said}");
    let key = format!("02{account}");
    let (raw, _) = ok(home, &["ledger", "get", &key, "--json"]);
    assert!(raw["proof"].as_str().is_some_and(|p| p.len() > 1_000) && raw["verified"]["height"].as_u64() >= Some(1), "{raw}");
    let (absent, _) = ok(home, &["ledger", "get", "02ff", "--json"]);
    assert!(absent["value"].is_null() && absent["verified"].is_object(), "{absent}");
    fails(home, &["ledger", "get", "account", &"ab".repeat(32)], "as the validators certified at block");
    fails(home, &["ledger", "get", &key, "--since", "1000000"], "older than asked for");

    // Somebody else's gateway, with the network's founding file from a friend.
    let (url, lie) = proxy(&network.url);
    let founding = data.join("zone/genesis");
    ok(home, &["context", "create", "far", "--api-url", &url, "--trust", founding.to_str().unwrap()]);
    let get_far = ["ledger", "get", "account", &account, "--context", "far"];
    let raw_far = ["ledger", "get", &key, "--context", "far"];
    ok(home, &get_far);
    ok(home, &raw_far);

    // It claims more money than there is, or that there is no account.
    tell(&lie, |path, body| if path.contains("/accounts/") { changed(body, |v| v["balance"] = "99000000000000".into()) } else { body });
    fails(home, &get_far, "not what the validators signed");
    tell(&lie, |path, body| if path.contains("/accounts/") { changed(body, |v| v["provider"] = "a rich one".into()) } else { body });
    fails(home, &get_far, "not what the validators signed");
    // It changes a value, the proof anywhere, or leaves it out.
    tell(&lie, |path, body| if path.contains("/state/") { changed(body, |v| flip(v, "value", 0.5)) } else { body });
    fails(home, &raw_far, "not the one that is proven");
    for at in [0.0, 0.01, 0.3, 0.45, 0.6, 0.8, 0.95, 1.0] {
        tell(&lie, move |path, body| if path.contains("/state/") { changed(body, |v| flip(v, "proof", at)) } else { body });
        fails(home, &raw_far, "do not believe this gateway");
        fails(home, &get_far, "do not believe this gateway");
    }
    tell(&lie, |path, body| if path.contains("/state/") { changed(body, |v| v["proof"] = Value::Null) } else { body });
    fails(home, &raw_far, "gave no proof");
    // It shows an older state: sound, unless a later one is asked for.
    let old = Arc::new(Mutex::new(None::<Vec<u8>>));
    tell(&lie, {
        let old = Arc::clone(&old);
        move |_, body| old.lock().unwrap().get_or_insert(body).clone()
    });
    ok(home, &raw_far);
    let seen = ok(home, &["ledger", "get", &key, "--json", "--context", "far"]).0["height"].as_u64().unwrap();
    fails(home, &["ledger", "get", &key, "--since", &(seen + 1).to_string(), "--context", "far"], "older than asked for");
    // Who wants to take its word may; who trusts nobody is told so.
    ok(home, &[&raw_far[..], &["--skip-verification"]].concat());
    ok(home, &["context", "create", "alone", "--api-url", "http://localhost:1"]);
    fails(home, &["ledger", "get", &key, "--verify", "--context", "alone"], "nobody to check this against");
    network.stop();
}

#[test]
fn a_ledger_is_exported_and_goes_on_in_another_folder() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let path = |name: &str| home.join(name).to_str().unwrap().to_owned();
    let (old, new, file, again) = (path("old"), path("new"), path("ledger.export"), path("stopped.export"));
    let network = Network::start(home, Path::new(&old));
    let account = ok(home, &["account", "--json"]).0;
    let (exported, _) = ok(home, &["ledger", "export", &file, "--json"]);
    assert_eq!((exported["votes"].as_u64(), exported["network"].is_string()), (Some(1), true), "{exported}");
    let refused = run(home, &["ledger", "export", &file]);
    assert_eq!(refused.status.code(), Some(2), "a file was overwritten");
    network.stop();
    let (stopped, _) = ok(home, &["ledger", "export", &again, "--data", &old, "--json"]);
    assert_eq!(stopped["digest"], exported["digest"], "nothing happened in between");

    fails(home, &["ledger", "import", &file, "--data", &new], "--keys");
    fails(home, &["ledger", "import", &file, "--data", &old], "holds a ledger already");
    let torn = path("torn");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&torn, &bytes[..bytes.len() - 40]).unwrap();
    fails(home, &["ledger", "import", &torn, "--data", &new, "--keys", &old], "ends too early");
    assert!(!Path::new(&new).exists());
    let done = run(home, &["ledger", "import", &file, "--data", &new, "--keys", &old]);
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && text.contains("✓ imported") && text.contains("✓ money:"), "{text}");

    let network = Network::start(home, Path::new(&new));
    assert_eq!(ok(home, &["account", "--json"]).0["balance"], account["balance"]);
    ok(home, &["account", "test-credits", "5"]);
    ok(home, &["ledger", "check"]);
    let view = ok(home, &["ledger", "get", "account", account["id"].as_str().unwrap(), "--json"]).0;
    assert!(view["verified"]["height"].as_u64() > exported["height"].as_u64(), "{view}");
    network.stop();
    ok(home, &["ledger", "replay", "--data", &new]);
}
