//! What somebody does who operates a validator: its deposit, its figures, its log, its backup, its containers.

use crate::support::{Engine, Net, Options, PATIENCE, Running, Signal, User, ask, eventually, farm_binary, free_port, until};
use crate::validators::{head, run_validator};
use pasture_types::Amount;
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn arg(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A user who has nothing to do with any network yet.
fn nobody() -> User {
    User::new("http://127.0.0.1:1".into())
}

/// What a URL answers: its head and its body.
fn get(url: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

/// Makes the folders of validators that found a network; the folders, and the genesis and addresses.
pub(crate) fn found(user: &User, count: usize, flags: &[&str]) -> (Vec<PathBuf>, PathBuf) {
    let mut make: Vec<String> = ["genesis", "--name", "meadow"].iter().chain(flags).map(|s| (*s).to_owned()).collect();
    let mut dirs = Vec::new();
    for n in 0..count {
        let (dir, out) = (user.home().join(format!("v{n}")), arg(&user.home().join(format!("v{n}.json"))));
        let address = format!("127.0.0.1:{}", free_port());
        let _ = user.farm(&["validator", "init", "--data", &arg(&dir), "--address", &address, "--out", &out]).exits(0);
        make.extend(["--validator".into(), out]);
        dirs.push(dir);
    }
    let launch = user.home().join("launch");
    make.extend(["--out".into(), arg(&launch)]);
    let _ = user.farm(&make.iter().map(String::as_str).collect::<Vec<_>>()).exits(0);
    for dir in &dirs {
        let _ = join(user, dir, &launch, &[]).exits(0);
    }
    (dirs, launch)
}

pub(crate) fn join(user: &User, dir: &Path, launch: &Path, flags: &[&str]) -> crate::support::Done {
    let (data, genesis, network) = (arg(dir), arg(&launch.join("genesis")), arg(&launch.join("network.toml")));
    user.farm(&[&["validator", "join", "--data", &data, "--genesis", &genesis, "--network", &network], flags].concat())
}

pub(crate) fn passphrase(user: &User, name: &str, text: &str) -> String {
    let path = user.home().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    arg(&path)
}

#[test]
fn a_validator_that_the_genesis_does_not_name_joins_and_posts_a_deposit() {
    let user = nobody();
    let (_, launch) = found(&user, 2, &["--dev", "--seats", "4", "--term", "30s", "--deposit-delay", "5s", "--min-deposit", "25"]);
    let shown = user.farm(&["genesis", "--show", &arg(&launch.join("genesis")), "--json"]).exits(0).json();
    let rules = &shown["parameters"]["validators"];
    assert_eq!((rules["seats"].as_u64(), rules["term"].as_u64(), rules["unbond_delay"].as_u64()), (Some(4), Some(30_000), Some(5_000)));
    assert!(std::fs::read_to_string(launch.join("LAUNCH.md")).unwrap().contains("farm validator deposit"));
    let bad = ["genesis", "--name", "x", "--validator", "v", "--out", "o", "--seats", "65"];
    let _ = user.farm(&bad).exits(2);
    let third = user.home().join("third");
    let _ = join(&user, &third, &launch, &[]).exits(125).says(&["names the validator of", "--address"]);
    let _ = join(&user, &third, &launch, &["--address", "127.0.0.1:18999"]).exits(0).says(&[
        "does not name this validator",
        "candidate",
        "farm validator register",
    ]);
    let book = std::fs::read_to_string(third.join("zone/network.toml")).unwrap();
    assert!(book.contains("127.0.0.1:18999") && book.matches("[[validator]]").count() == 3, "{book}");

    // Its deposit, on a network that runs.
    let net = Net::start(Options { args: vec!["--no-provider".into()], ..Options::default() });
    let user = net.stranger().with_credits();
    let data = user.home().join("v");
    let _ = user.farm(&["validator", "register", "--data", &arg(&data), "--deposit", "20"]).exits(125).says(&["farm validator init"]);
    let init = ["validator", "init", "--data", &arg(&data), "--address", "127.0.0.1:1"];
    let key = user.farm(&init).exits(0).json()["key"].as_str().unwrap().to_owned();
    let _ = user
        .farm(&["validator", "register", "--data", &arg(&third), "--deposit", "20"])
        .exits(125)
        .says(&["belongs to network", "--api-url"]);
    let _ = user.farm(&["validator", "register", "--data", &arg(&data), "--deposit", "5"]).exits(125).says(&["10"]);
    let before = user.books().free;
    let made = user.farm(&["validator", "register", "--data", &arg(&data), "--deposit", "20", "--json"]).exits(0).json();
    assert_eq!((made["key"].as_str(), made["stands"].as_bool(), made["seated"].as_bool()), (Some(key.as_str()), Some(true), Some(false)));
    assert!(user.books().free < before.saturating_sub(Amount::credits(20)));
    let _ = user.farm(&["validator", "register", "--data", &arg(&data), "--deposit", "20"]).exits(125);
    let _ = user.farm(&["validator", "deposit", &key[..10], "7"]).exits(0).says(&["27.0000 cr", "holds no elections"]);
    let _ = user.farm(&["validator", "back", &key, "2"]).exits(0).says(&["25.0000 cr", "on its way", "2.0000 cr free in"]);
    let _ = user.farm(&["validator", "back", &key, "0"]).exits(2);
    let _ = user.farm(&["validator", "back", &key, "100"]).exits(125);
    let _ = user.farm(&["validator", "resume", &key]).exits(125);
    let _ = user.farm(&["validator", "deposit", "ffffffffffff", "1"]).exits(125).says(&["no-such-validator", "farm validator ls"]);
    // The genesis's own is somebody else's.
    let listed = user.farm(&["validator", "ls", "--json"]).exits(0).json();
    let seated = listed["validators"].as_array().unwrap().iter().find(|v| v["seated"] == true).unwrap();
    assert_eq!((&seated["key"], &listed["this"]["certifies"]), (&listed["this"]["key"], &Value::Bool(true)));
    let _ = user.farm(&["validator", "deposit", seated["key"].as_str().unwrap(), "1"]).exits(125).says(&["not-its-operator", "--operator"]);
    // Its operator is known by the key in its folder.
    let operator = arg(&net.data());
    let _ =
        user.farm(&["validator", "deposit", seated["key"].as_str().unwrap(), "12", "--operator", &operator]).exits(0).says(&["12.0000 cr"]);
    let _ = user.farm(&["validator", "ls"]).exits(0).says(&["no elections", &key[..8], "(answers)"]);
    let _ = user.farm(&["validator", "status"]).exits(0).says(&["block", seated["key"].as_str().unwrap(), "seated"]);
    let status = user.farm(&["validator", "status", "--data", &arg(&data), "--json"]).exits(0).json();
    assert_eq!((status["validator"]["key"].as_str(), status["duties"].is_null()), (Some(key.as_str()), true), "{status}");
    let _ = user.farm(&["validator", "status", "--data", &arg(&third)]).exits(0).says(&["is not registered", "farm validator register"]);
}

#[test]
fn a_candidate_follows_is_elected_by_its_deposit_and_certifies_blocks() {
    let user = nobody();
    let (dirs, launch) = found(&user, 4, &["--dev", "--seats", "5", "--term", "5s"]);
    let mut running: Vec<(Running, String)> = dirs.iter().map(|dir| run_validator(&user, dir, 0)).collect();
    let url = running[0].1.clone();
    until("blocks are made", || head(&url).height.0 > 2);
    let own = User::new(url.clone()).with_credits();
    // It is told of two, and learns where the others are.
    let book = std::fs::read_to_string(launch.join("network.toml")).unwrap();
    let two = book.split("[[validator]]").take(3).collect::<Vec<_>>().join("[[validator]]");
    std::fs::write(launch.join("network.toml"), two).unwrap();
    let data = user.home().join("candidate");
    let _ = join(&user, &data, &launch, &["--address", &format!("127.0.0.1:{}", free_port())]).exits(0);
    let _ = own.farm(&["validator", "register", "--data", &arg(&data), "--deposit", "50"]).exits(0);
    running.push(run_validator(&user, &data, 0));
    let candidate = running[4].1.clone();
    for dir in &dirs {
        let key = own.farm(&["validator", "status", "--data", &arg(dir), "--json"]).exits(0).json()["validator"]["key"].clone();
        let _ = own.farm(&["validator", "deposit", key.as_str().unwrap(), "40", "--operator", &arg(dir)]).exits(0);
    }
    until("it is elected, and the engine follows", || {
        ask(&candidate, async |api| api.validators().await).is_ok_and(|v| v.this.certifies && v.this.certifiers == 5)
    });
    // It was told of one of them, and finds the others by itself.
    until("the first one sees all seats taken and all others connected", || {
        ask(&url, async |api| api.validators().await).is_ok_and(|v| (v.term.seats, v.this.peers) == (5, 4))
    });
    // Blocks go on with it, and it answers what is asked of it.
    let height = head(&url).height;
    until("both are further", || head(&url).height.0 > height.0 + 3 && head(&candidate).height.0 > height.0 + 3);
    let _ = own.farm(&["--api-url", &candidate, "validator", "status"]).exits(0).says(&["certifies blocks", "5 seats elected"]);
    for (one, _) in running {
        one.signal(Signal::TERM);
        let done = one.finish(PATIENCE);
        assert_eq!(done.code, 0, "{}", done.all());
    }
}

#[test]
fn a_validator_shows_its_figures_and_logs_json() {
    let user = nobody();
    let (dirs, _) = found(&user, 2, &["--dev"]);
    let mut command =
        user.command(&["validator", "run", "--json", "--data", &arg(&dirs[0]), "--listen", "127.0.0.1:0", "--log-format", "json"]);
    command.env("FARM_LOG", "info");
    let first = Running::start(command);
    let ready: Value = eventually("it is up", PATIENCE, || first.stdout().lines().find_map(|l| serde_json::from_str(l).ok()));
    let url = ready["api_url"].as_str().unwrap().to_owned();
    let (second, second_url) = run_validator(&user, &dirs[1], 0);
    until("blocks are made", || head(&url).height.0 > 3);
    let (head, body) = get(&url, "/metrics");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let value = |name: &str| -> f64 {
        let line = body.lines().find_map(|l| l.strip_prefix(&format!("{name} "))).unwrap_or_else(|| panic!("no {name} in\n{body}"));
        line.parse().unwrap()
    };
    assert!(value("pasture_ledger_height") > 3.0 && value("pasture_ledger_lag_seconds") < 30.0);
    assert_eq!((value("pasture_validators_seated"), value("pasture_validator_seated")), (2.0, 1.0));
    assert_eq!((value("pasture_peers"), value("pasture_engine_certifiers"), value("pasture_engine_certifies")), (1.0, 2.0, 1.0));
    assert!(value("pasture_ledger_entries") > 1.0 && value("pasture_term_blocks") > 0.0);
    assert!(value("pasture_process_resident_memory_bytes") > 1e6);
    // Both lead their turns, so that neither misses half of its share.
    until("blocks of this term are counted", || {
        let status = user.farm(&["--api-url", &second_url, "validator", "status", "--json"]).exits(0).json();
        let duties = &status["duties"];
        duties["share"].as_u64() > Some(1) && duties["missed"].as_u64() < duties["share"].as_u64()
    });
    let _ = user.farm(&["--api-url", &second_url, "validator", "status"]).exits(0).says(&["proposed in this term", "2 seats"]);
    for running in [first, second] {
        running.signal(Signal::TERM);
        let done = running.finish(PATIENCE);
        assert_eq!(done.code, 0, "{}", done.all());
        if done.what.contains("--log-format") {
            let lines: Vec<Value> = done.stderr.lines().filter(|l| l.starts_with('{')).map(|l| serde_json::from_str(l).unwrap()).collect();
            let says = |v: &Value| v["fields"]["message"].is_string() && v["level"].is_string() && v["timestamp"].is_string();
            assert!(!lines.is_empty() && lines.iter().all(says), "{}", done.stderr);
        }
    }
    let mut command = user.command(&["validator", "run", "--data", &arg(&dirs[0])]);
    command.env("FARM_LOG_FORMAT", "xml");
    let _ = Running::start(command).finish(PATIENCE).exits(2).says(&["FARM_LOG_FORMAT", "json"]);
}

#[test]
fn a_stopped_node_comes_back_from_its_backup_with_its_ledger() {
    let mut net = Net::start(Options { args: vec!["--no-provider".into()], ..Options::default() });
    let user = net.stranger().with_credits();
    let (had, zone) = (user.books().free, net.api(async |api| api.status().await).zone);
    let (secret, wrong) = (passphrase(&user, "secret", "correct horse battery\n"), passphrase(&user, "wrong", "another passphrase\n"));
    let (data, file, to) = (arg(&net.data()), arg(&user.home().join("node.backup")), user.home().join("restored"));
    let backup = |more: &[&str]| user.farm(&[&["--passphrase-file", &secret, "backup", &file, "--data", &data], more].concat());
    let _ = backup(&[]).exits(125).says(&["in use by another process"]);
    let _ = net.stop();
    let made = backup(&["--json"]).exits(0).json();
    assert!(made["of"]["whole"] == true && made["files"].as_u64() > Some(10), "{made}");
    let _ = backup(&[]).exits(125).says(&["is there already"]);
    let restore = |secret: &str, to: &Path| user.farm(&["--passphrase-file", secret, "restore", &file, "--data", &arg(to), "--json"]);
    let _ = restore(&wrong, &to).exits(125).says(&["wrong-passphrase"]);
    let cut = std::fs::read(&file).unwrap();
    std::fs::write(user.home().join("cut"), &cut[..cut.len() / 2]).unwrap();
    let half = user.farm(&["--passphrase-file", &secret, "restore", &arg(&user.home().join("cut")), "--data", &arg(&to)]);
    let _ = half.exits(125).says(&["bad-backup", "ends too early"]);
    assert!(!to.exists());
    let done = restore(&secret, &to).exits(0).says(&["never run this validator in two places", "what happened after the backup is lost"]);
    let done: Value = serde_json::from_str(done.stdout.trim()).unwrap();
    assert!(done["votes_after"].is_null() && !to.join("zone/restored").exists(), "alone it need not wait: {done}");
    let _ = restore(&secret, &to).exits(125).says(&["nothing is overwritten"]);
    let again = user.start(&["dev", "--data", &arg(&to), "--listen", "127.0.0.1:0", "--no-provider", "--json"]);
    let ready: Value = eventually("it is up", PATIENCE, || again.stdout().lines().find_map(|l| serde_json::from_str(l).ok()));
    let url = ready["api_url"].as_str().unwrap().to_owned();
    let id = user.account();
    assert_eq!(ask(&url, async |api| api.status().await).unwrap().zone, zone);
    assert_eq!(ask(&url, async |api| api.account(&id).await).unwrap().balance, had);
    again.signal(Signal::TERM);
    let done = again.finish(PATIENCE);
    assert_eq!(done.code, 0, "{}", done.all());
}

#[test]
fn keys_of_a_running_validator_come_back_and_it_must_wait_with_its_votes() {
    let user = nobody();
    let (dirs, _) = found(&user, 2, &["--dev"]);
    let (running, _) = run_validator(&user, &dirs[0], 0);
    let secret = passphrase(&user, "secret", "correct horse battery\n");
    let (file, to) = (arg(&user.home().join("keys.backup")), user.home().join("restored"));
    let args = ["--passphrase-file", &secret, "backup", &file, "--data", &arg(&dirs[0]), "--keys-only"];
    let _ = user.farm(&args).exits(0).says(&["keys and addresses", "the ledger is not in it"]);
    running.signal(Signal::TERM);
    let _ = running.finish(PATIENCE);
    let restore = ["--passphrase-file", &secret, "restore", &file, "--data", &arg(&to)];
    let done = user.farm(&restore).exits(0);
    let _ = done.says(&["never run this validator in two places", "votes from the next term", "fetches all blocks", "farm validator run"]);
    let mark: Value = serde_json::from_str(&std::fs::read_to_string(to.join("zone/restored")).unwrap()).unwrap();
    assert!(mark["votes_after"].as_u64() > mark["restored"].as_u64(), "{mark}");
    for name in ["zone/validator.key", "zone/operator.key", "zone/genesis", "zone/network.toml"] {
        assert_eq!(std::fs::read(to.join(name)).unwrap(), std::fs::read(dirs[0].join(name)).unwrap(), "{name}");
    }
    assert!(!to.join("ledger").exists());
    // A link in the folder could lead anywhere.
    std::os::unix::fs::symlink("/etc/passwd", dirs[1].join("zone/link")).unwrap();
    let other = ["--passphrase-file", &secret, "backup", &arg(&user.home().join("b")), "--data", &arg(&dirs[1])];
    let _ = user.farm(&other).exits(125).says(&["a link", "bad-backup"]);
}

/// The files for containers, run with plain docker: what the compose file says is what runs.
mod containers {
    use super::*;
    use std::collections::BTreeMap;

    fn deploy() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/validators")
    }

    /// The four containers of a test, which go at its end.
    struct Stack {
        env: BTreeMap<String, String>,
        socket: PathBuf,
        folder: tempfile::TempDir,
    }

    impl Stack {
        fn command(&self, program: &Path) -> Command {
            let mut command = Command::new(program);
            command.envs(&self.env).env("DOCKER_HOST", format!("unix://{}", self.socket.display())).current_dir(self.folder.path());
            command
        }
        #[track_caller]
        fn docker(&self, args: &[&str]) -> String {
            let done = self.command(Path::new("docker")).args(args).output().unwrap();
            assert!(done.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&done.stderr));
            String::from_utf8(done.stdout).unwrap()
        }
        fn network(&self, args: &[&str]) -> crate::support::Done {
            let mut command = self.command(&deploy().join("network.sh"));
            command.args(args);
            Running::start(command).finish(PATIENCE * 2)
        }
        fn url(&self, n: usize) -> String {
            format!("http://127.0.0.1:{}", self.env[&format!("PASTURE_PORT_{n}")])
        }
        /// The image of this program: its files instead of a base image that would have to be fetched.
        fn image(&self) {
            let root = self.folder.path().join("root");
            let put = |from: &Path, to: &str| {
                let to = root.join(to.trim_start_matches('/'));
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                std::fs::copy(from, to).unwrap();
            };
            put(&farm_binary(), "/usr/local/bin/farm");
            let needs = Command::new("ldd").arg(farm_binary()).output().unwrap();
            let needs = String::from_utf8(needs.stdout).unwrap();
            for library in needs.split_whitespace().filter(|word| word.starts_with('/')) {
                put(Path::new(library), library);
            }
            for dir in ["data", "tmp"] {
                std::fs::create_dir_all(root.join(dir)).unwrap();
            }
            let tar = self.folder.path().join("image.tar");
            let packed = Command::new("tar").args(["-C", &arg(&root), "-cf", &arg(&tar), "."]).status().unwrap();
            assert!(packed.success());
            std::fs::remove_dir_all(&root).unwrap();
            let _ = self.docker(&["import", "--change", "ENTRYPOINT [\"/usr/local/bin/farm\"]", &arg(&tar), &self.env["PASTURE_IMAGE"]]);
        }
    }

    impl Drop for Stack {
        fn drop(&mut self) {
            let _ = self.command(&deploy().join("network.sh")).args(["destroy", "--with-keys"]).output();
            let _ = self.command(Path::new("docker")).args(["rmi", "--force", &self.env["PASTURE_IMAGE"]]).output();
        }
    }

    fn stack() -> Stack {
        let own = std::process::id();
        let mut env: BTreeMap<String, String> = (1..=4).map(|n| (format!("PASTURE_PORT_{n}"), free_port().to_string())).collect();
        for (name, value) in [
            ("PASTURE_IMAGE", format!("pasture/farm-test-{own}")),
            ("PASTURE_PREFIX", format!("pasture-test-{own}")),
            // Away from what engines give to networks by themselves.
            ("PASTURE_SUBNET", format!("10.{}.{}", 200 + own % 50, own / 50 % 250)),
            ("PASTURE_PLAIN", "1".into()),
        ] {
            env.insert(name.into(), value);
        }
        Stack { env, socket: Engine::find().socket, folder: tempfile::tempdir().unwrap() }
    }

    /// The compose file with the variables as they are set.
    fn compose(env: &BTreeMap<String, String>) -> serde_norway::Value {
        let mut text = std::fs::read_to_string(deploy().join("compose.yaml")).unwrap();
        while let Some((before, rest)) = text.split_once("${") {
            let (inner, after) = rest.split_once('}').unwrap();
            let (name, default) = inner.split_once(":-").unwrap();
            text = format!("{before}{}{after}", env.get(name).map_or(default, String::as_str));
        }
        let mut value: serde_norway::Value = serde_norway::from_str(&text).unwrap();
        value.apply_merge().unwrap();
        value
    }

    #[test]
    fn four_validators_run_in_containers_as_the_compose_file_says() {
        let stack = stack();
        stack.image();
        let _ = stack.network(&["up"]).exits(1).says(&["no keys yet", "init"]);
        let _ = stack.network(&["init", "--name", "boxed", "--dev"]).exits(0);
        let _ = stack.network(&["init"]).exits(1).says(&["has a genesis already"]);
        let _ = stack.network(&["up"]).exits(0);
        for n in 1..=4 {
            until(&format!("validator {n} makes blocks"), || {
                ask(&stack.url(n), async |api| api.head().await).is_ok_and(|h| h.height.0 > 2)
            });
        }
        let _ = stack.network(&["status"]).exits(0);
        let file = compose(&stack.env);
        let services = file["services"].as_mapping().unwrap();
        assert_eq!(services.len(), 4);
        for (name, service) in services {
            let name = name.as_str().unwrap();
            let container = format!("{}-validators-{name}-1", stack.env["PASTURE_PREFIX"]);
            let seen: Value = serde_json::from_str(&stack.docker(&["inspect", &container])).unwrap();
            let seen = &seen[0];
            let strings =
                |v: &serde_norway::Value| v.as_sequence().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect::<Vec<_>>();
            assert_eq!(seen["Config"]["Image"].as_str(), service["image"].as_str());
            let command: Vec<String> = serde_json::from_value(seen["Config"]["Cmd"].clone()).unwrap();
            assert_eq!(command, strings(&service["command"]), "{name}");
            let network = format!("{}-validators", stack.env["PASTURE_PREFIX"]);
            let address = service["networks"]["zone"]["ipv4_address"].as_str();
            assert_eq!(seen["NetworkSettings"]["Networks"][&network]["IPAddress"].as_str(), address);
            let bound = &seen["HostConfig"]["PortBindings"]["8730/tcp"][0];
            let published = format!("{}:{}:8730", bound["HostIp"].as_str().unwrap(), bound["HostPort"].as_str().unwrap());
            assert_eq!(strings(&service["ports"]), [published], "{name}: on loopback");
            let volume = file["volumes"][name]["name"].as_str().unwrap();
            assert_eq!((seen["Mounts"][0]["Name"].as_str(), seen["Mounts"][0]["Destination"].as_str()), (Some(volume), Some("/data")));
            let environment: Vec<String> = serde_json::from_value(seen["Config"]["Env"].clone()).unwrap();
            for (key, value) in service["environment"].as_mapping().unwrap() {
                let pair = format!("{}={}", key.as_str().unwrap(), value.as_str().unwrap());
                assert!(environment.contains(&pair), "{name}: {pair} in {environment:?}");
            }
            let host = &seen["HostConfig"];
            assert_eq!(
                (host["ReadonlyRootfs"].as_bool(), host["Init"].as_bool()),
                (service["read_only"].as_bool(), service["init"].as_bool())
            );
            assert_eq!(host["RestartPolicy"]["Name"].as_str(), service["restart"].as_str());
            assert_eq!(host["CapDrop"], serde_json::json!(strings(&service["cap_drop"])));
            assert_eq!((host["Memory"].as_u64(), service["mem_limit"].as_str()), (Some(1 << 30), Some("1g")));
        }
        // What is stopped goes on from its volume.
        let before = head(&stack.url(1)).height;
        let _ = stack.network(&["down"]).exits(0);
        let _ = stack.network(&["up"]).exits(0);
        until("it goes on", || ask(&stack.url(1), async |api| api.head().await).is_ok_and(|h| h.height > before));
    }
}
