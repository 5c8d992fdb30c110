//! A client follows changes of validators, and nobody leads it astray: the real program against a gateway that is made up, with
//! validators whose keys the test holds. No container engine and no ledger are needed.

#![cfg(test)]

#[path = "../../light/tests/common/mod.rs"]
mod common;

// What the validators of `common` sign with.
use ed25519_zebra as _;

use common::{HEIGHT_AT, Validators, frozen};
use pasture_light::{Checkpoint, Handover, StateProof};
use pasture_store::RecordFile;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// The key of the frozen proof, in hex.
const KEY: &str = "6e05";
const DAY: u64 = 24 * 3_600_000;
/// Most handovers in one answer: as the real gateway.
const PAGE: usize = 16;

/// What a gateway says.
#[derive(Default)]
struct Says {
    proof: Option<StateProof>,
    handovers: Vec<Handover>,
    /// How often it was asked for handovers.
    asked: usize,
}

#[derive(Clone)]
struct Gateway {
    url: String,
    says: Arc<Mutex<Says>>,
}

impl Gateway {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gateway = Self { url: format!("http://{}", listener.local_addr().unwrap()), says: Arc::default() };
        let says = Arc::clone(&gateway.says);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that went away is not ours to report.
                let _ = stream.and_then(|stream| answer(stream, &says));
            }
        });
        gateway
    }
    /// These validators are the ones now, and got there like this.
    fn shows(&self, by: &Validators, height: u64, handovers: &[Handover]) {
        let [mut proof, _] = frozen();
        proof.headers[0][HEIGHT_AT..HEIGHT_AT + 8].copy_from_slice(&height.to_be_bytes());
        *self.says.lock().unwrap() = Says { proof: Some(by.prove(proof, &by.quorum())), handovers: handovers.to_vec(), asked: 0 };
    }
    fn asked(&self) -> usize {
        self.says.lock().unwrap().asked
    }
}

fn answer(mut client: TcpStream, says: &Mutex<Says>) -> std::io::Result<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(client.try_clone()?);
    while reader.read_line(&mut head)? > 2 {}
    let path = head.split_whitespace().nth(1).unwrap_or("/").to_owned();
    let mut says = says.lock().unwrap();
    let (status, body) = match path.split_once("from=") {
        Some((_, from)) => {
            says.asked += 1;
            handovers(&says, from)
        }
        None => (200, state(says.proof.as_ref().unwrap())),
    };
    drop(says);
    let body = body.to_string();
    write!(
        client,
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn state(proof: &StateProof) -> Value {
    let header = pasture_light::Header::decode(&proof.headers[0]).unwrap();
    let value = proof.value.as_ref().map(hex::encode);
    json!({"key": hex::encode(&proof.key), "value": value, "height": header.height, "proof": hex::encode(proof.encode())})
}

fn handovers(says: &Says, from: &str) -> (u16, Value) {
    let by = |h: &Handover| hex::encode(pasture_light::Header::decode(&h.header).unwrap().validators);
    let is_today = says.handovers.last().is_some_and(|h| hex::encode(h.next.hash()) == from);
    let at = says.handovers.iter().position(|h| by(h) == from).or_else(|| is_today.then_some(says.handovers.len()));
    let Some(at) = at else {
        return (404, json!({"status": 404, "code": "unknown-validators", "detail": "never had such validators"}));
    };
    let page: Vec<String> = says.handovers.iter().skip(at).take(PAGE).map(|h| hex::encode(h.encode())).collect();
    (200, json!({"today": "", "handovers": page}))
}

struct Client(tempfile::TempDir);

struct Done {
    code: i32,
    out: String,
    errors: String,
}

impl Client {
    /// One that trusts these.
    fn trusting(gateway: &Gateway, point: &Checkpoint) -> Self {
        let client = Self(tempfile::tempdir().unwrap());
        let file = client.file("trust");
        RecordFile::new(&file).save(&format!("checkpoint:{}", hex::encode(point.encode()))).unwrap();
        client.ok(&["context", "create", "far", "--api-url", &gateway.url, "--trust", &file]);
        client
    }
    fn file(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().into()
    }
    fn run(&self, args: &[&str]) -> Done {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farm"));
        command.env("FARM_HOME", self.0.path()).env("CI", "true").env_remove("FARM_API_URL").env_remove("FARM_CONTEXT");
        let done = command.args(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Done { code: done.status.code().unwrap(), out: text(done.stdout), errors: text(done.stderr) }
    }
    #[track_caller]
    fn ok(&self, args: &[&str]) -> Done {
        let done = self.run(args);
        assert_eq!(done.code, 0, "{args:?}: {}", done.errors);
        done
    }
    /// What the key is, checked.
    #[track_caller]
    fn get(&self) -> Done {
        let done = self.ok(&["ledger", "get", KEY, "--verify"]);
        assert!(done.errors.contains("✓ verified"), "{}", done.errors);
        done
    }
    #[track_caller]
    fn refuses(&self, code: &str, words: &str) {
        let before = self.config();
        let done = self.run(&["ledger", "get", KEY, "--json"]);
        assert_eq!(done.code, 125, "{}", done.out);
        assert!(done.errors.contains(&format!("\"{code}\"")) && done.errors.contains(words), "{code} `{words}`: {}", done.errors);
        assert_eq!(self.config(), before, "what was refused leaves nothing behind");
    }
    fn config(&self) -> String {
        std::fs::read_to_string(Path::new(&self.file("config.toml"))).unwrap()
    }
    fn trusts(&self) -> Value {
        serde_json::from_str::<Value>(&self.ok(&["context", "list", "--json"]).out).unwrap()[0]["trusts"].clone()
    }
}

fn own(validators: &Validators) -> Checkpoint {
    Checkpoint::genesis(validators.set.clone(), 1_000, 0)
}

#[test]
fn changes_of_validators_are_followed_and_kept() {
    let (a, b, c) = (Validators::new(4), Validators::of(10..=16), Validators::of([3, 4, 12, 99]));
    let chain = [a.hand_over(&b.set, 100, 5_000), b.hand_over(&c.set, 200, 6_000)];
    let gateway = Gateway::start();
    let client = Client::trusting(&gateway, &own(&a));
    gateway.shows(&a, 90, &[]);
    let done = client.get();
    assert!(done.errors.contains("signed by 3 of 4 trusted validators"), "{}", done.errors);
    assert_eq!(gateway.asked(), 0);

    gateway.shows(&c, 250, &chain);
    let done = client.get();
    assert!(
        done.errors.contains("the validators changed at block 100, certified by those before: 7 validators after 4"),
        "{}",
        done.errors
    );
    assert!(done.errors.contains("changed at block 200"), "{}", done.errors);
    assert_eq!(gateway.asked(), 1);
    assert_eq!((client.trusts()["since"].as_u64(), client.trusts()["validators"].as_u64()), (Some(200), Some(4)));
    // It knows them from now on.
    let done = client.get();
    assert!(!done.errors.contains("changed at block") && gateway.asked() == 1, "{}", done.errors);

    // Never back: to those who left, nor to what was before.
    gateway.shows(&a, 300, &chain);
    client.refuses("unproven", "shows no handover to them");
    gateway.shows(&c, 200, &chain);
    client.refuses("too-old", "older than what was verified before");
    gateway.shows(&b, 150, &chain);
    client.refuses("too-old", "older than what was verified before");

    // Somebody who believes this client begins where it is.
    let file = client.file("given");
    let said = client.ok(&["context", "checkpoint", &file]).out;
    assert!(said.contains("4 validators since block 200") && said.contains(&hex::encode(c.set.hash())), "{said}");
    assert_eq!(client.run(&["context", "checkpoint", &file]).code, 125, "a file was overwritten");
    client.ok(&["context", "create", "friend", "--api-url", &gateway.url, "--trust", &file]);
    gateway.shows(&c, 251, &[]);
    client.get();
    assert_eq!(gateway.asked(), 0);
}

#[test]
fn a_long_chain_of_changes_is_followed_page_by_page() {
    let sets: Vec<Validators> = (0..2 * PAGE as u8 + 5).map(|i| Validators::of([2 * i + 1, 2 * i + 2])).collect();
    let chain: Vec<Handover> = sets.windows(2).zip(1u64..).map(|(pair, i)| pair[0].hand_over(&pair[1].set, 10 * i, 100 * i)).collect();
    let gateway = Gateway::start();
    let client = Client::trusting(&gateway, &own(&sets[0]));
    gateway.shows(sets.last().unwrap(), 10_000, &chain);
    client.get();
    assert_eq!(gateway.asked(), 3);
    // One of them missing, it cannot be followed.
    let other = Client::trusting(&gateway, &own(&sets[0]));
    for left_out in [0, PAGE - 1, PAGE, chain.len() - 1] {
        let mut gap = chain.clone();
        gap.remove(left_out);
        gateway.shows(sets.last().unwrap(), 10_000, &gap);
        let done = other.run(&["ledger", "get", KEY]);
        assert_eq!(done.code, 125, "{left_out}: {}", done.out);
    }
    gateway.shows(sets.last().unwrap(), 10_000, &chain);
    other.get();
}

#[test]
fn a_gateway_that_leads_astray_is_named() {
    let (a, b, thieves) = (Validators::new(4), Validators::of(10..=16), Validators::of(50..=53));
    let good = a.hand_over(&b.set, 100, 5_000);
    let gateway = Gateway::start();
    let client = Client::trusting(&gateway, &own(&a));
    // Its own validators, without a word of how; and those whom nobody knows.
    gateway.shows(&thieves, 150, &[]);
    client.refuses("unknown-validators", "never had such validators");
    // Signed by too few, by others, or with others in the place of those who were named.
    let few = Handover { certificate: a.certify(&good.header, &[0, 2], &good.certificate), ..good.clone() };
    let by_thieves = Handover { certificate: thieves.certify(&good.header, &[0, 1, 2], &good.certificate), ..good.clone() };
    let swapped = Handover { next: thieves.set.clone(), ..good.clone() };
    for (lie, words) in [
        (few, "2 of 4 validators signed, 3 are needed"),
        (by_thieves, "the signature of validator 0 is not valid"),
        (swapped, "names another next set"),
    ] {
        gateway.shows(&thieves, 150, &[lie]);
        client.refuses("unproven", words);
    }
    // A true handover, and then a proof by others; it was true, and is kept only with something that was proven.
    gateway.shows(&thieves, 150, std::slice::from_ref(&good));
    client.refuses("unproven", "shows no handover to them");
    assert_eq!(client.trusts()["since"], 0);

    // Who wants to take its word may, and is told each time; the old name of the flag is understood.
    for flag in ["--skip-verification", "--no-verify"] {
        let done = client.ok(&["ledger", "get", KEY, flag]);
        let said = done.errors.lines().filter(|l| l.contains("--skip-verification: nothing is checked")).count();
        assert_eq!((said, done.errors.lines().count()), (1, 1), "{}", done.errors);
    }
    assert_eq!(client.run(&["ledger", "get", KEY, "--verify", "--skip-verification"]).code, 2);
}

#[test]
fn a_checkpoint_that_outlived_the_deposits_is_said_to_be_that_each_time() {
    let (a, b) = (Validators::new(4), Validators::of(10..=16));
    let gateway = Gateway::start();
    let old = Client::trusting(&gateway, &Checkpoint::genesis(a.set.clone(), 1_000, 21 * DAY));
    gateway.shows(&b, 150, &[a.hand_over(&b.set, 100, 5_000)]);
    for _ in 0..2 {
        let done = old.get();
        assert!(
            done.errors.contains("! the validators you trust were last seen longer ago than their deposits are held"),
            "{}",
            done.errors
        );
        assert!(done.errors.contains("changed at block 100"), "it is not kept: that would hide it\n{}", done.errors);
    }
    assert_eq!(old.trusts()["since"], 0);
    // One that is fresh says nothing, and what it saw is written down.
    let fresh = Client::trusting(&gateway, &Checkpoint::genesis(a.set.clone(), 1_000, 36_500 * DAY));
    let done = fresh.get();
    assert!(!done.errors.contains("longer ago"), "{}", done.errors);
    assert_eq!((fresh.trusts()["since"].as_u64(), fresh.trusts()["seen"].as_u64()), (Some(100), Some(10_000_000)));
}
