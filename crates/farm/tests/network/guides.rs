//! The guides, followed to the letter: each block of a guide is typed into a shell on the machine that it is for, in a lab of namespaces.
//!
//! A block says its machine beside its language. What stands for something of the reader's own, an address or a ticket, is replaced; nothing else.

use crate::nat::{ECHO, Resident, echo};
use crate::support::{Done, Folder, Host, Lab, Nat, PATIENCE, Running, Signal, User, eventually, farm_binary, until};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Programs that go on until they are ended, and what they show when they are ready.
const SERVERS: [(&str, &str); 5] = [
    ("farm relay run ", "Ctrl-C ends it"),
    ("farm dev ", "Ctrl-C ends it"),
    ("farm up --config ", "\"event\":\"ready\""),
    ("farm up ", "this machine is offered"),
    ("farm validator run ", "Ctrl-C stops it"),
];
/// Where a reader's passphrase lies, if a guide needs one.
const PASSPHRASE: &str = "passphrase";
/// A relay's word in a guide.
const RELAY: &str = "https://203.0.113.7:8731#...";
const WITHIN: Duration = Duration::from_secs(300);

/// The commands of a guide, each with its machine.
fn commands(guide: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides").join(guide);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut out = vec![];
    let mut machine: Option<String> = None;
    let text = text.replace("\\\n", " ");
    for line in text.lines().map(str::trim) {
        match (&machine, line.strip_prefix("```")) {
            (None, Some(info)) => machine = Some(info.strip_prefix("sh ").unwrap_or_default().to_owned()),
            (Some(_), Some(_)) => machine = None,
            (Some(machine), None) if !machine.is_empty() && !line.is_empty() => out.push((machine.clone(), line.to_owned())),
            _ => {}
        }
    }
    assert!(!out.is_empty(), "{guide} has no commands");
    out
}

/// Who follows a guide.
struct Reader<'a> {
    machines: BTreeMap<&'a str, (Resident<'a>, &'a Host, String)>,
    /// What stands in the guide for what.
    own: BTreeMap<String, String>,
    servers: Vec<Running>,
}

impl<'a> Reader<'a> {
    fn new() -> Self {
        Self { machines: BTreeMap::new(), own: BTreeMap::new(), servers: vec![] }
    }

    /// A machine of the guide. `engine`: the socket of its engine, if it has one.
    fn at(&mut self, name: &'a str, host: &'a Host, engine: &str) {
        self.machines.insert(name, (Resident::of(host), host, engine.to_owned()));
    }

    fn user(&self, name: &str) -> &User {
        &self.machines[name].0.user
    }

    /// Types a line into the shell of a machine, and waits for its end or, of a server, until it is ready.
    fn types(&mut self, machine: &str, line: &str) -> Option<Done> {
        // The longest first: a relay's word has an address in it.
        let mut own: Vec<_> = self.own.iter().collect();
        own.sort_by_key(|(stands, _)| std::cmp::Reverse(stands.len()));
        let line = own.into_iter().fold(line.to_owned(), |line, (stands, is)| line.replace(stands, is));
        let (resident, host, engine) = &self.machines[machine];
        let plain = resident.user.command(&[]);
        let mut shell = Command::new("sh");
        let server = SERVERS.iter().find(|(server, _)| line.starts_with(server));
        // What goes on until it is ended takes the shell's place, so that ending it ends no shell alone.
        let typed = if server.is_some() { format!("exec {line}") } else { line.clone() };
        shell.args(["-c", &typed]).current_dir(plain.get_current_dir().unwrap());
        shell.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let farm = farm_binary().parent().unwrap().display().to_string();
        let path = plain.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value?.to_str()).unwrap();
        shell.env("PATH", format!("{farm}:{path}"));
        if !engine.is_empty() {
            shell.env("FARM_ENGINE", engine);
        }
        // Nobody is there to type it.
        let passphrase = resident.user.home().join(PASSPHRASE);
        if passphrase.exists() {
            shell.env("FARM_PASSPHRASE_FILE", passphrase);
        }
        let mut running = Running::start(host.on(&shell));
        let Some((_, ready)) = server else {
            let done = running.finish(WITHIN).exits(0);
            self.learn(&done.all());
            return Some(done);
        };
        eventually(&format!("`{line}` is ready"), PATIENCE, || {
            assert!(running.ended().is_none(), "`{line}` ended:\n{}\n{}", running.stdout(), running.stderr());
            (running.stderr() + &running.stdout()).contains(ready).then_some(())
        });
        self.learn(&(running.stdout() + &running.stderr()));
        self.servers.push(running);
        None
    }

    /// Notes what the guide cannot know: a ticket, and the address of what was opened.
    fn learn(&mut self, shown: &str) {
        let words = [("pasture-join-", "pasture-join-..."), ("pasture-enroll-", "pasture-enroll-...")];
        for (begins, stands) in words.into_iter().chain([("https://shop-", "https://shop-....localhost:8443")]) {
            if let Some(word) = shown.split_whitespace().find(|word| word.starts_with(begins)) {
                self.own.insert(stands.into(), word.to_owned());
            }
        }
        if let Some(word) = shown.split_whitespace().find(|word| word.starts_with("https://") && word.contains('#')) {
            self.own.insert(RELAY.into(), word.to_owned());
        }
    }

    fn follows(&mut self, guide: &str) -> Vec<Done> {
        commands(guide).into_iter().filter_map(|(machine, line)| self.types(&machine, &line)).collect()
    }
}

#[test]
fn your_own_machines_as_the_guide_says() {
    let lab = Lab::new("guide-join");
    let (desktop, box_, laptop) =
        (lab.public("desktop"), lab.behind_nat("box", Nat::KeepsPorts), lab.behind_nat("laptop", Nat::KeepsPorts));
    let engine = box_.engine();
    let mut reader = Reader::new();
    reader.at("desktop", &desktop, "");
    reader.at("box", &box_, engine.socket());
    reader.at("laptop", &laptop, "");
    reader.own.insert("192.168.1.10".into(), desktop.address().to_string());
    project(reader.user("laptop"), "echo it ran");
    let done = reader.follows("join.md");
    assert!(done.last().unwrap().stdout.contains("it ran"), "{}", done.last().unwrap().all());
}

/// A small project in somebody's home.
fn project(user: &User, script: &str) {
    let made = Folder::script("project", script);
    for file in std::fs::read_dir(made.path()).unwrap().flatten() {
        std::fs::copy(file.path(), user.home().join(file.file_name())).unwrap();
    }
    std::fs::write(user.home().join("farm.yaml"), "resources: {cpu: 0.2, memory: 64Mi, disk: 64Mi}\n").unwrap();
}

#[test]
fn a_machine_is_offered_as_the_guide_says() {
    let lab = Lab::new("guide-provide");
    let (gate, box_) = (lab.public("gate"), lab.behind_nat("box", Nat::KeepsPorts));
    let engine = box_.engine();
    let mut reader = Reader::new();
    reader.at("gate", &gate, "");
    reader.at("box", &box_, engine.socket());
    let _ = reader.types("gate", &format!("farm dev --no-provider --data ~/net --listen {}:8730", gate.address()));
    let done = reader.follows("provide.md");
    let said = |words: &str| done.iter().any(|done| done.all().contains(words));
    assert!(said("my box"), "{done:#?}");
    let mut up = reader.servers.pop().unwrap();
    eventually("the machine's program has ended", PATIENCE, || up.ended());
}

#[test]
fn everybody_is_let_in_as_the_guide_says() {
    let lab = Lab::new("guide-gateway");
    let (desktop, laptop, gate) = (lab.public("desktop"), lab.behind_nat("laptop", Nat::KeepsPorts), lab.public("gate"));
    let engine = desktop.engine();
    let mut reader = Reader::new();
    reader.at("desktop", &desktop, engine.socket());
    reader.at("laptop", &laptop, "");
    reader.at("gate", &gate, "");
    reader.own.insert("192.168.1.10".into(), desktop.address().to_string());
    reader.own.insert("203.0.113.7".into(), gate.address().to_string());
    project(reader.user("laptop"), "mkdir /tmp/www; echo welcome >/tmp/www/index.html; exec httpd -f -p 8000 -h /tmp/www");
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "7",
            "-subj",
            "/CN=gate.example.org",
        ])
        .args(["-addext", "subjectAltName=DNS:*.gate.example.org", "-keyout", "gate.key", "-out", "gate.pem"])
        .current_dir(reader.user("gate").home())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let done = reader.follows("gateway.md");
    assert!(done.iter().any(|done| done.stdout == "welcome\n"), "{done:#?}");
    // The public one answers at the usual ports, with the certificate that it was given.
    let to = format!("shop.gate.example.org:443:{}", gate.address());
    let ask = format!("curl -sS --cacert gate.pem --resolve {to} -o - -w '%{{http_code}}' https://shop.gate.example.org/");
    let answer = reader.types("gate", &ask).unwrap();
    assert!(answer.stdout.ends_with("404") && answer.stdout.contains("nothing is published here"), "{}", answer.all());
}

#[test]
fn a_fleet_is_made_as_the_guide_says() {
    let lab = Lab::new("guide-fleets");
    let (gate, box_, laptop) = (lab.public("gate"), lab.behind_nat("box", Nat::KeepsPorts), lab.behind_nat("laptop", Nat::KeepsPorts));
    let engine = box_.engine();
    let mut reader = Reader::new();
    reader.at("gate", &gate, "");
    reader.at("box", &box_, engine.socket());
    reader.at("laptop", &laptop, "");
    let _ = reader.types("gate", &format!("farm dev --no-provider --data ~/net --listen {}:8730", gate.address()));
    let done = reader.follows("fleets.md");
    let said = |words: &str| done.iter().any(|done| done.all().contains(words));
    assert!(said("my barn") && said("nobody had a job on this machine") && said("no account is blocked"), "{done:#?}");
    let boxes = reader.user("box").home();
    assert!(!boxes.join("account.key").exists(), "no key of an account is on the machine");
}

#[test]
fn a_relay_is_run_as_the_guide_says_and_carries_when_the_gateway_is_gone() {
    let lab = Lab::new("guide-relay");
    let (meeting, desktop) = (lab.public("relay"), lab.public("desktop"));
    let (box_, laptop) = (lab.behind_nat("box", Nat::RandomPorts), lab.behind_nat("laptop", Nat::RandomPorts));
    let engine = box_.engine();
    let mut reader = Reader::new();
    reader.at("relay", &meeting, "");
    reader.at("desktop", &desktop, "");
    reader.at("box", &box_, engine.socket());
    reader.at("laptop", &laptop, "");
    reader.own.insert("203.0.113.7".into(), meeting.address().to_string());
    reader.own.insert("192.168.1.10".into(), desktop.address().to_string());
    project(reader.user("laptop"), ECHO);
    let _ = reader.follows("relay.md");
    until("its machine is reached by a relay", || {
        reader.types("laptop", "farm status shop").is_some_and(|done| done.stdout.contains("by a relay"))
    });

    let (ann, ..) = &reader.machines["laptop"];
    let mut forward = ann.start(&["port-forward", "shop", "0:7000", "--json"]);
    forward.shows("]\n");
    let doors: serde_json::Value = serde_json::from_str(&forward.stdout()).unwrap();
    let port: u16 = doors[0]["local"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap();
    until("the job answers", || echo(&laptop, port, b"before").is_ok_and(|answer| answer == b"before"));
    // The network's only validator, its gateway and its own relay are one process.
    reader.servers[1].signal(Signal::KILL);
    for n in 0..3u8 {
        until("it answers by the relay that is left", || echo(&laptop, port, &[n; 9]).is_ok_and(|answer| answer == [n; 9]));
    }
    assert!(forward.ended().is_none(), "{}", forward.stderr());
}

/// Hands files on from one home to others, as people do.
fn handed(from: &User, names: &[&str], to: &[&User]) {
    for (name, to) in names.iter().flat_map(|name| to.iter().map(move |to| (name, to))) {
        let target = to.home().join(name);
        if target != from.home().join(name) {
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::copy(from.home().join(name), target).unwrap();
        }
    }
}

#[test]
fn a_network_of_one_machine_is_tried_out_as_the_guide_says() {
    let lab = Lab::new("guide-try");
    let host = lab.public("try");
    let engine = host.engine();
    let mut reader = Reader::new();
    reader.at("try", &host, engine.socket());
    for (machine, line) in commands("validate.md").into_iter().filter(|(machine, _)| machine == "try") {
        let _ = reader.types(&machine, &line);
        if line.starts_with("farm dev ") {
            // What its ready lines say of the second and the third validator.
            let shown = reader.servers[0].stderr();
            let others = shown.lines().filter(|line| line.trim_start().starts_with("validator ") && line.contains(" · process "));
            let pids: Vec<String> =
                others.filter_map(|line| line.split(" · process ").nth(1)?.split(' ').next().map(str::to_owned)).collect();
            assert_eq!(pids.len(), 3, "{shown}");
            reader.own.insert("4712".into(), pids[0].clone());
            reader.own.insert("4713".into(), pids[1].clone());
        }
    }
    // Three of four again: a job is decided and paid.
    let user = reader.user("try").home().to_owned();
    std::fs::write(user.join("Dockerfile"), "FROM pasture/busybox:1\nCMD [\"echo\", \"with three of four\"]\n").unwrap();
    let done = reader.types("try", "farm run . --cpu 0.2 --memory 64Mi --disk 64Mi").unwrap();
    assert!(done.stdout.contains("with three of four"), "{}", done.all());
}

#[test]
fn four_operators_run_a_network_as_the_guides_say() {
    const OPERATORS: [&str; 4] = ["alice", "bob", "carol", "dave"];
    let lab = Lab::new("guide-validate");
    let hosts = OPERATORS.map(|name| lab.public(name));
    let mut reader = Reader::new();
    for (name, host) in OPERATORS.iter().zip(&hosts) {
        reader.at(name, host, "");
        std::fs::create_dir_all(reader.user(name).home().join("backup")).unwrap();
    }
    let alice = reader.user("alice");
    let passphrase = alice.home().join(PASSPHRASE);
    std::fs::write(&passphrase, "correct horse battery staple\n").unwrap();
    std::fs::set_permissions(&passphrase, std::fs::Permissions::from_mode(0o600)).unwrap();
    reader.own.insert("ed25519:3f2a...".into(), alice.key().public().to_string());
    reader.own.insert("/var/lib/pasture".into(), "~/pasture".into());
    reader.own.insert("/backup/".into(), "~/backup/".into());

    for (machine, line) in commands("validate.md").into_iter().filter(|(machine, _)| machine != "try") {
        if machine != "operators" {
            let _ = reader.types(&machine, &line);
            let users = OPERATORS.map(|name| reader.user(name));
            handed(users[0], &["meadow/genesis", "meadow/network.toml"], &users);
            continue;
        }
        for (name, host) in OPERATORS.iter().zip(&hosts) {
            reader.own.insert("203.0.113.7".into(), host.address().to_string());
            reader.own.insert("alice.json".into(), format!("{name}.json"));
            let _ = reader.types(name, &line);
            if line.contains("alice.json") {
                handed(reader.user(name), &[&format!("{name}.json")], &[reader.user("alice")]);
            }
        }
        reader.own.remove("alice.json");
    }
    let height = |done: &Done| done.json()["height"].as_u64();
    let first = eventually("blocks are made", PATIENCE, || {
        let done = reader.types("alice", "farm ledger head --json --api-url http://127.0.0.1:8730")?;
        height(&done).filter(|height| *height > 0)
    });

    let known = reader.types("alice", "farm account --json --skip-verification --api-url http://127.0.0.1:8730").unwrap().json();
    for (machine, line) in commands("operate.md") {
        // A whole backup is of a node that is stopped, and so is a network that moves.
        let stopped = match line.split(" --data").next() {
            Some(words) if words.starts_with("farm backup") && !line.contains("--keys-only") => 1,
            Some(words) if words.starts_with("farm ledger export") => reader.servers.len(),
            _ => 0,
        };
        for server in reader.servers.drain(..stopped) {
            server.signal(Signal::TERM);
            let _ = server.finish(PATIENCE).exits(0);
        }
        let everybody: &[&str] = if machine == "operators" { &OPERATORS } else { &[machine.as_str()] };
        for name in everybody {
            let _ = reader.types(name, &line);
        }
        if line.starts_with("farm ledger export") {
            let users = OPERATORS.map(|name| reader.user(name));
            handed(users[1], &["meadow.export"], &users);
        }
    }
    // It goes on where it was, with new blocks, and what people had.
    assert_eq!(reader.servers.len(), OPERATORS.len());
    eventually("blocks are made after the move", PATIENCE, || {
        let done = reader.types("alice", "farm ledger head --json --api-url http://127.0.0.1:8730")?;
        height(&done).filter(|now| *now > first)
    });
    let after = reader.types("alice", "farm account --json --skip-verification --api-url http://127.0.0.1:8730").unwrap().json();
    assert_eq!((&after["balance"], &after["id"]), (&known["balance"], &known["id"]));
    assert!(known["balance"].as_str().is_some_and(|balance| balance.starts_with("1000000")), "{known}");
    let restored = reader.user("alice").home().join("pasture-new");
    assert!(restored.join("zone/restored").exists(), "it is marked: it follows before it votes");
}
