//! A soak of jobs: two machines behind routers that keep ports and one behind a router that does not, a user behind a fourth; validators, who
//! are also gates and relays, are killed and come back, machines' programs are killed and start again, cables are pulled, at random. Each
//! stroke ends with every job answering its user through a connection that is new.
//!
//! `SOAK=200 MINUTES=60 cargo test --package pasture-farm --test network -- soaks` (what `make soak` does) is the whole promise; without them there are a
//! few strokes. At least one validator is up at all times: without any, who comes back has nobody to ask where others are; what runs on then
//! is `gates.rs`'s. At the end every lease is settled and the books balance.

use crate::gates::{VALIDATORS, door, found, known, run};
use crate::nat::{ECHO, Resident, echo, offer};
use crate::soaks::{asked, lasts};
use crate::support::{Folder, Host, Lab, Nat, PATIENCE, Running, Signal, User, eventually, random, until};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Strokes where nobody asked for more.
const FEW: usize = 4;
/// So that a failure can be repeated.
const SEED: u64 = 0x50a4_0000_0002;
/// How long a cable is out: long enough that what was sent meanwhile is lost.
const PULLED: Duration = Duration::from_secs(4);
/// Where the machines stand.
const HOMES: [(&str, Nat); 3] = [("home", Nat::KeepsPorts), ("shed", Nat::KeepsPorts), ("flat", Nat::RandomPorts)];

fn kill(running: Running) {
    running.signal(Signal::KILL);
    let _ = running.finish(PATIENCE);
}

/// What may be struck.
struct Town<'a> {
    hall: &'a Host,
    founder: User,
    validators: Vec<Option<Running>>,
    homes: &'a [Host],
    owners: Vec<Resident<'a>>,
    engines: Vec<String>,
    machines: Vec<Running>,
    ticket: String,
}

impl Town<'_> {
    /// One loss, or one return; what it was.
    fn strike(&mut self, state: &mut u64) -> String {
        let up: Vec<usize> = (0..self.validators.len()).filter(|n| self.validators[*n].is_some()).collect();
        let down: Vec<usize> = (0..self.validators.len()).filter(|n| self.validators[*n].is_none()).collect();
        let mut one_of = |of: usize| usize::try_from(random(state) % of as u64).unwrap();
        let (kind, machine) = (one_of(4), one_of(self.machines.len()));
        match kind {
            0 if up.len() > 1 => {
                let n = up[one_of(up.len())];
                kill(self.validators[n].take().unwrap());
                format!("validator {n} is killed")
            }
            1 if !down.is_empty() => {
                let n = down[one_of(down.len())];
                self.bring_back(n);
                format!("validator {n} is back")
            }
            2 => {
                self.homes[machine].link(false);
                std::thread::sleep(PULLED);
                self.homes[machine].link(true);
                format!("the cable of {} was out", HOMES[machine].0)
            }
            _ => {
                let engine = self.engines[machine].clone();
                kill(self.machines.remove(machine));
                self.machines.insert(machine, offer(&self.owners[machine], &self.ticket, &engine));
                format!("the program of {} was killed and is back", HOMES[machine].0)
            }
        }
    }

    fn bring_back(&mut self, n: usize) {
        self.validators[n] = Some(run(&self.founder, self.hall, u16::try_from(n).unwrap()).0);
    }
}

#[test]
fn jobs_behind_routers_answer_after_every_loss_and_are_paid_once() {
    let (strokes, lasts, begun) = (asked("SOAK").unwrap_or(FEW), lasts(), Instant::now());
    let lab = Lab::new("soak-jobs");
    let (hall, cafe) = (lab.public("hall"), lab.behind_nat("cafe", Nat::KeepsPorts));
    let homes = HOMES.map(|(name, nat)| lab.behind_nat(name, nat));
    let founder = User::new("http://127.0.0.1:1".into());
    let validators = found(&founder, &hall);
    assert_eq!(validators.len(), usize::from(VALIDATORS));
    let ticket = known(&hall, &validators).to_text();
    let engines = homes.each_ref().map(Host::engine);
    let owners: Vec<Resident<'_>> = homes.iter().map(Resident::of).collect();
    let sockets: Vec<String> = engines.iter().map(|engine| engine.socket().to_owned()).collect();
    let machines = owners.iter().zip(&sockets).map(|(owner, socket)| offer(owner, &ticket, socket)).collect();
    let validators = validators.into_iter().map(|(running, _)| Some(running)).collect();
    let mut town = Town { hall: &hall, founder, validators, homes: &homes, owners, engines: sockets, machines, ticket };

    let ann = Resident::of(&cafe);
    let _ = ann.farm(&["join", &town.ticket]).exits(0);
    let folder = Folder::script("echo", ECHO);
    // A machine has room for one.
    let half = ["--cpu", "0.4", "--memory", "64Mi", "--disk", "64Mi"];
    let jobs = ["one", "two", "three"];
    for name in jobs {
        let _ = ann.farm(&[&["run", folder.arg(), "--name", name, "--detach", "--timeout", "2h"], &half[..]].concat()).exits(0);
    }
    let doors = jobs.map(|name| (name, door(&ann, name)));
    let all_answer = |when: &str| {
        for (name, (forward, port)) in &doors {
            let (word, lost) = (format!("{name} {when}"), Instant::now());
            until(&word, || {
                assert!(forward.stdout().contains("local"), "{}", forward.stderr());
                echo(&cafe, *port, word.as_bytes()).is_ok_and(|said| said == word.as_bytes())
            });
            eprintln!("  {name} answers within {:.1} s", lost.elapsed().as_secs_f32());
        }
    };
    all_answer("at first");

    let mut state = asked("SEED").map_or(SEED, |seed| seed as u64);
    for n in 0..strokes {
        let what = town.strike(&mut state);
        eprintln!("stroke {} of {strokes}: {what}", n + 1);
        all_answer(&format!("after stroke {}, {what}", n + 1));
        let due = lasts.mul_f64((n + 1) as f64 / strokes as f64);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    }

    for n in 0..town.validators.len() {
        if town.validators[n].is_none() {
            town.bring_back(n);
        }
    }
    all_answer("when everything is back");
    for name in jobs {
        let _ = ann.farm(&["stop", name]).exits(0);
        let receipt = eventually(&format!("{name} is settled"), PATIENCE, || {
            let value: Value = serde_json::from_str(&ann.farm(&["receipt", name, "--json"]).stdout).ok()?;
            (value["final"] == true).then_some(value)
        });
        let charged = receipt["charged"].as_str().unwrap().parse::<u128>().unwrap();
        assert!(charged > 0 && receipt["served_ms"].as_u64() > Some(0), "{receipt}");
    }
    let _ = ann.farm(&["ledger", "check"]).exits(0);
}
