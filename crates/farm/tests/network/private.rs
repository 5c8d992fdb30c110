//! The private network of a deployment: its parts reach each other by name, wherever they run, and nobody else does.

use crate::nat::{Gate, Resident, offer};
use crate::support::{Done, Folder, Lab, Nat, Net, Options, PATIENCE, User, ask, until};
use pasture_api::channel::{Frame, Opening, Purpose};
use pasture_api::client::LeaseClient;
use pasture_api::{ApiError, LeaseView};
use pasture_rt::{Clock as _, SystemClock};
use pasture_types::SigningKey;
use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;

/// Two servers, one on each machine, that say which they are; one who asks them by their name, again and again, and for whoever comes to
/// its port 7000.
const SHOP: &str = r#"
services:
  api:
    image: 'pasture/busybox:1'
    type: service
    replicas: 2
    ports: [8000]
    egress: none
    resources: {cpu: 0.3, memory: 32Mi, disk: 16Mi}
    command: [sh, -c]
    args: ['mkdir /tmp/w; cat /proc/sys/kernel/random/uuid >/tmp/w/index.html; exec httpd -f -p 8000 -h /tmp/w']
  web:
    image: 'pasture/busybox:1'
    type: service
    egress: none
    resources: {cpu: 0.1, memory: 16Mi, disk: 16Mi}
    command: [sh, -c]
    args:
      - |
        cat >/tmp/ask <<'END'
        #!/bin/sh
        printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 5 api 8000 | tail -n 1
        END
        chmod +x /tmp/ask
        (while true; do nc -l -p 7000 -e /tmp/ask; done) &
        while true; do /tmp/ask; sleep 0.2; done
"#;

fn now_ms() -> u64 {
    SystemClock.now_ms()
}

/// What a part of the shop gets from an address; nothing if nobody answers there.
fn asks(run: &dyn Fn(&[&str]) -> Done, from: &str, host: &str, port: u16) -> Option<String> {
    let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 10 {host} {port} | tail -n 1");
    let said = run(&["exec", from, "--", "sh", "-c", &script]).stdout.trim().to_owned();
    (!said.is_empty()).then_some(said)
}

/// Which servers the asking part has heard.
fn heard(run: &dyn Fn(&[&str]) -> Done) -> BTreeSet<String> {
    let log = run(&["logs", "shop/web"]).exits(0).stdout;
    log.lines().map(str::to_owned).collect()
}

/// All of a user's leases that run, with the names of their services.
fn leases(user: &User) -> Vec<LeaseView> {
    user.jobs().into_iter().filter_map(|job| job.lease).collect()
}

/// The keys of the machines whose files lie below a folder.
fn node_keys(below: &Path) -> Vec<SigningKey> {
    let mut found = vec![];
    for entry in std::fs::read_dir(below).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() && entry.file_name() != "leases" {
            found.extend(node_keys(&path));
        } else if entry.file_name() == "node.key" {
            found.push(pasture_store::keys::load_or_create(&path).unwrap());
        }
    }
    found
}

/// Opens a channel of a lease with some key; the code of the refusal, if it is one.
fn opens(net: &Net, key: &SigningKey, lease: &LeaseView, purpose: Purpose) -> Option<String> {
    let (key, id, node) = (key.clone(), lease.id, lease.node);
    let opened = ask(net.url(), async |api| {
        let client = LeaseClient::new(api.clone(), key.clone(), id, node, now_ms);
        let salt: [u8; 16] = std::array::from_fn(|n| now_ms().to_le_bytes()[n % 8] ^ u8::try_from(n).unwrap());
        let opening = Opening { salt: hex::encode(salt), at_ms: now_ms(), purpose: purpose.clone() };
        client.channel(&opening, futures::stream::pending::<Frame>()).await.map(drop)
    });
    match opened {
        Ok(()) => None,
        // The gateway took an old connection to the machine.
        Err(ApiError::Problem(problem)) if problem.code == "node-broke-off" => opens(net, &key, lease, purpose),
        Err(ApiError::Problem(problem)) => Some(problem.code),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn parts_of_a_deployment_reach_each_other_by_name_and_nobody_else_does() {
    let args = ["--providers", "2"].map(str::to_owned).to_vec();
    // So small that each server needs a machine of its own.
    let net = Net::start(Options { args, cpu: "0.9".into(), ..Options::default() });
    let user = net.stranger();
    let folder = Folder::new("shop", &[("farm.yaml", SHOP)]);
    let _ = user.farm(&["deploy", folder.arg()]).exits(0);
    let run = |args: &[&str]| user.farm(args);
    until("both servers were heard, in turn", || heard(&run).len() == 2);
    let all = leases(&user);
    let (web, apis): (Vec<&LeaseView>, Vec<&LeaseView>) = all.iter().partition(|l| l.resources.cpu_millis == 100);
    assert_eq!(apis.iter().map(|l| l.node).collect::<BTreeSet<_>>().len(), 2, "they are on two machines");

    // Each by a name of its own.
    let (zero, one) = (asks(&run, "shop-web", "api-0", 8000).unwrap(), asks(&run, "shop-web", "api-1", 8000).unwrap());
    assert_ne!(zero, one);
    assert_eq!(asks(&run, "shop-web", "api-0", 8000).as_ref(), Some(&zero), "always the same one");
    // Nothing but what is named: other ports, other names, this machine.
    assert_eq!(asks(&run, "shop-web", "api", 8001), None);
    assert_eq!(asks(&run, "shop-web", "web", 8000), None);
    let hosts = user.farm(&["exec", "shop-web", "--", "cat", "/etc/hosts"]).exits(0).stdout;
    assert!(hosts.contains("localhost") && hosts.contains("\tapi\n"), "{hosts}");

    // Somebody else's job knows no such name.
    let stranger = net.stranger();
    let other = Folder::script("other", "trap 'exit 0' TERM; while true; do sleep 0.1; done");
    let _ = stranger.farm(&["run", other.arg(), "-d", "--cpu", "0.1", "--memory", "16Mi", "--disk", "16Mi"]).exits(0);
    until("it runs", || stranger.farm(&["exec", "other", "--", "true"]).code == 0);
    assert_eq!(asks(&|args| stranger.farm(args), "other", "api", 8000), None);

    // A machine comes in to the ports that it was let in to, and to nothing else; others' keys not at all.
    let machines = node_keys(&net.data());
    let theirs = machines.iter().find(|key| key.node_id() == web[0].node).expect("the key of the asking part's machine");
    assert_eq!(opens(&net, theirs, apis[0], Purpose::Port { port: 8000 }), None);
    assert_eq!(opens(&net, theirs, apis[0], Purpose::Port { port: 8001 }).as_deref(), Some("forbidden"));
    let exec = Purpose::Exec { command: vec!["id".into()], env: std::collections::BTreeMap::new(), terminal: None };
    assert_eq!(opens(&net, theirs, apis[0], exec).as_deref(), Some("forbidden"));
    assert_eq!(opens(&net, &SigningKey::from_seed([9; 32]), apis[0], Purpose::Port { port: 8000 }).as_deref(), Some("forbidden"));

    // One server fewer: the name leads to the other alone, and a connection that stands goes on.
    let slowly = "(printf 'GET / HTTP/1.0\\r\\n'; touch /tmp/asked; while [ ! -e /tmp/go ]; do sleep 0.1; done; printf '\\r\\n') | nc api-0 8000 | tail -n 1";
    let standing = user.start(&["exec", "shop-web", "--", "sh", "-c", slowly]);
    until("a connection stands", || user.farm(&["exec", "shop-web", "--", "test", "-e", "/tmp/asked"]).code == 0);
    let _ = user.farm(&["scale", "shop/api=1"]).exits(0);
    until("the one that is left answers", || asks(&run, "shop-web", "api", 8000).as_ref() == Some(&zero));
    for _ in 0..4 {
        assert_eq!(asks(&run, "shop-web", "api", 8000).as_ref(), Some(&zero));
    }
    assert_eq!(asks(&run, "shop-web", "api-1", 8000), None);
    let _ = user.farm(&["exec", "shop-web", "--", "touch", "/tmp/go"]).exits(0);
    assert_eq!(standing.finish(PATIENCE).exits(0).stdout.trim(), zero);
    let _ = user.farm(&["stop", "shop"]).exits(0);
}

#[test]
fn parts_behind_two_routers_reach_each_other_and_go_on_without_the_gateway() {
    let lab = Lab::new("private");
    let mut gate = Gate::open(&lab);
    let (east, west) = (lab.behind_nat("east", Nat::KeepsPorts), lab.behind_nat("west", Nat::KeepsPorts));
    let engines = [east.engine(), west.engine()];
    let owners = [Resident::of(&east), Resident::of(&west)];
    let ups: Vec<_> = owners.iter().zip(&engines).map(|(owner, engine)| offer(owner, &gate.ticket, engine.socket())).collect();
    let cafe = lab.behind_nat("cafe", Nat::KeepsPorts);
    let ann = Resident::of(&cafe);
    let _ = ann.farm(&["join", &gate.ticket]).exits(0);
    let folder = Folder::new("shop", &[("farm.yaml", SHOP)]);
    let _ = ann.farm(&["deploy", folder.arg()]).exits(0);
    let run = |args: &[&str]| ann.farm(args);
    until("both servers were heard, over two routers", || heard(&run).len() == 2);
    let before = heard(&run);
    let mut forward = ann.start(&["port-forward", "shop-web", "0:7000", "--json"]);
    forward.shows("]\n");
    let doors: serde_json::Value = serde_json::from_str(&forward.stdout()).unwrap();
    let port: u16 = doors[0]["local"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap();
    let hears = || {
        let mut answer = String::new();
        let stream = cafe.inside(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port))).and_then(|mut stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.read_to_string(&mut answer)
        });
        stream.is_ok().then(|| answer.trim().to_owned()).filter(|answer| !answer.is_empty())
    };
    until("it asks for whoever comes", || hears().is_some());
    until("it is reached directly", || forward.stderr().contains("reached directly at"));
    gate.kill();
    // Both are heard with nobody else there, by the machines' own path.
    let mut after = BTreeSet::new();
    until("both are heard without the gateway", || {
        assert!(forward.ended().is_none(), "{}", forward.stderr());
        after.extend(hears());
        after.len() == 2
    });
    assert_eq!(after, before);
    drop(ups);
}
