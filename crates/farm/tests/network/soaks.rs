//! A soak: four validators, each a process on a network of its own, are killed, stopped in their tracks, cut off and started again at random,
//! while people pay each other through whichever of them answers.
//!
//! `SOAK=200 MINUTES=60 cargo test --package pasture-farm --test network -- soaks` (what `make soak` does) is the whole promise: the strokes are spread
//! over that time. Without them there are a few strokes, one after another. Whenever a quorum is up, payments go on. At the end every block of every validator is the same, each payment that was
//! asked for was made exactly once, the books balance, and each validator's blocks give its state when they are executed again.

use crate::ledger::transfer;
use crate::support::{PATIENCE, Running, Signal, User, Wires, alone, ask, eventually, random, until};
use crate::validators::head;
use pasture_api::{ApiClient, ApiError, TxResult};
use pasture_rt::{Clock as _, SystemClock};
use pasture_types::tx::{Action, Envelope, TxBody};
use pasture_types::{AccountId, Amount, AssetId, Millis, SigningKey, Timestamp};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Strokes where nobody asked for more.
const FEW: usize = 10;
const VALIDATORS: usize = 4;
const QUORUM: usize = 3;
/// People who pay.
const PAYERS: usize = 4;
/// Longest that one call may take: the validator may stand still.
const CALL: Duration = Duration::from_secs(3);
/// Longest until payments go on once a quorum is up, on a machine that does other things as well.
const GOES_ON_WITHIN: Duration = Duration::from_secs(240);
/// So that a failure can be repeated.
const SEED: u64 = 0x50a4_0000_0001;
/// How long people think before they pay again where strokes are spread over a time.
const THINKS: Duration = Duration::from_millis(200);
const NUMBER_USED: u16 = 12;

/// A number that is set from outside.
pub(crate) fn asked(name: &str) -> Option<usize> {
    #[allow(clippy::disallowed_methods, reason = "how long a test runs is set from outside")]
    let value = std::env::var(name).ok();
    value.map(|n| n.parse().unwrap_or_else(|_| panic!("{name} is a whole number")))
}

/// How long everything is to take at least.
pub(crate) fn lasts() -> Duration {
    Duration::from_secs(60 * asked("MINUTES").unwrap_or(0) as u64)
}

/// Where validators listen for each other, and for people.
const PORT: u16 = 8_740;
const API_PORT: u16 = 8_730;

/// One validator; it may be down, stand still, or be cut off.
struct Validator {
    machine: usize,
    data: PathBuf,
    process: Option<Running>,
    still: bool,
    cut: bool,
}

impl Validator {
    fn url(&self) -> String {
        format!("http://{}:{API_PORT}", Wires::address(self.machine))
    }
    fn takes_part(&self) -> bool {
        self.process.is_some() && !self.still && !self.cut
    }
    fn up(&mut self, user: &User, wires: &Wires) {
        let listen = format!("{}:{API_PORT}", Wires::address(self.machine));
        let command = user.command(&["validator", "run", "--json", "--data", self.data.to_str().unwrap(), "--listen", &listen]);
        let running = Running::start(wires.on(self.machine, &command));
        eventually("a validator is up", PATIENCE, || running.stdout().contains("api_url").then_some(()));
        self.process = Some(running);
    }
    fn signal(&self, signal: Signal) {
        self.process.as_ref().unwrap().signal(signal);
    }
    fn kill(&mut self) {
        let process = self.process.take().unwrap();
        process.signal(Signal::KILL);
        let _ = process.finish(PATIENCE);
        self.still = false;
    }
}

fn launch(user: &User, wires: &Wires) -> Vec<Validator> {
    let path = |name: &str| user.home().join(name).to_str().unwrap().to_owned();
    let mut make: Vec<String> = ["genesis", "--dev", "--name", "soak", "--out", &path("launch")].map(str::to_owned).to_vec();
    for n in 0..VALIDATORS {
        let (data, out, address) = (path(&format!("v{n}")), path(&format!("v{n}.json")), format!("{}:{PORT}", Wires::address(n)));
        let _ = user.farm(&["validator", "init", "--data", &data, "--address", &address, "--out", &out]).exits(0);
        make.extend(["--validator".into(), out]);
    }
    let _ = user.farm(&make.iter().map(String::as_str).collect::<Vec<_>>()).exits(0);
    let (genesis, network) = (path("launch/genesis"), path("launch/network.toml"));
    let mut validators = Vec::new();
    for n in 0..VALIDATORS {
        let data = path(&format!("v{n}"));
        let _ = user.farm(&["validator", "join", "--data", &data, "--genesis", &genesis, "--network", &network]).exits(0);
        let mut validator = Validator { machine: n, data: data.into(), process: None, still: false, cut: false };
        validator.up(user, wires);
        validators.push(validator);
    }
    validators
}

/// What payers and the storm share.
struct Shared {
    urls: Vec<String>,
    over: AtomicBool,
    /// How long somebody waits before a further payment.
    thinks: Duration,
    /// Payments that somebody was told are final.
    made: AtomicU64,
    /// What went wrong, if anything.
    wrong: Mutex<Option<String>>,
}

/// One of somebody's payments; `usual` is a transfer of theirs.
fn payment(usual: &TxBody, to: AccountId, seq: u64) -> TxBody {
    let valid_until = Timestamp(SystemClock.now_ms()).plus(Millis::secs(3_600));
    let actions = vec![Action::Transfer { to, asset: AssetId::CREDIT, amount: Amount(1_000) }];
    TxBody { seq, valid_until, actions, ..usual.clone() }
}

async fn submit(url: &str, tx: &Envelope) -> Option<Result<TxResult, ApiError>> {
    let client = ApiClient::new(url).ok()?;
    tokio::time::timeout(CALL, client.submit(tx)).await.ok()
}

/// Pays until it is over, each payment until somebody says that it is final; how many.
fn pays(shared: &Shared, key: &SigningKey, usual: &TxBody, to: AccountId, mut seed: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut seq = 0;
    while !shared.over.load(Ordering::SeqCst) {
        let tx = payment(usual, to, seq).sign(key);
        loop {
            let url = &shared.urls[usize::try_from(random(&mut seed) % shared.urls.len() as u64).unwrap()];
            match runtime.block_on(submit(url, &tx)) {
                Some(Ok(done)) if done.ok => break,
                // Somebody else was told so, or nobody.
                Some(Err(ApiError::Problem(p))) if p.ledger_code == Some(NUMBER_USED) => break,
                Some(Ok(failed)) => *shared.wrong.lock().unwrap() = Some(failed.message),
                // It is not there, stands still, was behind, or stopped in between: another one.
                Some(Err(_)) | None => {}
            }
            if shared.wrong.lock().unwrap().is_some() {
                return seq;
            }
        }
        seq += 1;
        shared.made.fetch_add(1, Ordering::SeqCst);
        std::thread::park_timeout(shared.thinks);
    }
    seq
}

/// What is wrong with one of them is mended, one thing of it.
fn repair(user: &User, wires: &Wires, victim: &mut Validator) -> String {
    let n = victim.machine;
    if victim.cut {
        wires.mend(n);
        victim.cut = false;
        return format!("{n} is back among the others");
    }
    if victim.still {
        victim.signal(Signal::CONT);
        victim.still = false;
        return format!("{n} goes on");
    }
    victim.up(user, wires);
    format!("{n} is started")
}

/// Something happens to one of them. Without a quorum it is mostly a repair: else there would hardly ever be one.
fn stroke(user: &User, wires: &Wires, validators: &mut [Validator], seed: &mut u64) -> String {
    let mut broken: Vec<&mut Validator> = validators.iter_mut().filter(|v| !v.takes_part()).collect();
    if VALIDATORS - broken.len() < QUORUM && !random(seed).is_multiple_of(4) {
        let at = usize::try_from(random(seed) % broken.len() as u64).unwrap();
        return repair(user, wires, broken[at]);
    }
    let n = usize::try_from(random(seed) % VALIDATORS as u64).unwrap();
    let victim = &mut validators[n];
    let dice = random(seed) % 3;
    if dice == 0 {
        if victim.cut {
            return repair(user, wires, victim);
        }
        victim.cut = true;
        wires.cut(n);
        return format!("{n} is cut off, with whoever is cut off already");
    }
    match (victim.process.is_some(), victim.still, dice) {
        (true, true, 1) => {
            victim.kill();
            format!("{n} is killed where it stands")
        }
        (false, ..) | (true, true, _) => {
            // What stands still or is down may be cut off besides.
            let cut = std::mem::take(&mut victim.cut);
            let what = repair(user, wires, victim);
            victim.cut = cut;
            what
        }
        (true, false, 1) => {
            victim.signal(Signal::STOP);
            victim.still = true;
            format!("{n} stands still")
        }
        (true, false, _) => {
            victim.kill();
            format!("{n} is killed")
        }
    }
}

/// Everything that was done to them is undone.
fn mend(user: &User, wires: &Wires, validators: &mut [Validator]) {
    for validator in validators {
        if validator.still {
            validator.signal(Signal::CONT);
            validator.still = false;
        }
        wires.mend(validator.machine);
        validator.cut = false;
        if validator.process.is_none() {
            validator.up(user, wires);
        }
    }
}

#[test]
fn validators_that_die_stand_still_and_are_cut_off_lose_no_payment_and_make_one_history() {
    if !alone("soaks::validators_that_die_stand_still_and_are_cut_off_lose_no_payment_and_make_one_history") {
        return;
    }
    let (strokes, lasts, wires) = (asked("SOAK").unwrap_or(FEW), lasts(), Wires::lay(VALIDATORS));
    let user = User::new("http://127.0.0.1:1".into());
    let mut validators = launch(&user, &wires);
    let urls: Vec<String> = validators.iter().map(Validator::url).collect();
    let payers: Vec<User> = (0..PAYERS).map(|n| User::new(urls[n % urls.len()].clone()).with_credits()).collect();
    let shared = Arc::new(Shared {
        urls: urls.clone(),
        over: false.into(),
        thinks: if lasts.is_zero() { lasts } else { THINKS },
        made: 0.into(),
        wrong: Mutex::default(),
    });
    let receivers: Vec<User> = (0..PAYERS).map(|n| User::new(urls[n % urls.len()].clone()).with_credits()).collect();
    let had: Vec<Amount> = receivers.iter().map(|receiver| receiver.books().free).collect();
    let paying: Vec<_> = payers
        .iter()
        .zip(&receivers)
        .zip(1..)
        .map(|((payer, to), n)| {
            let (shared, key, usual, to) = (Arc::clone(&shared), payer.key(), transfer(payer, 0), to.account());
            std::thread::spawn(move || pays(&shared, &key, &usual, to, SEED + n))
        })
        .collect();
    let made = || {
        assert!(shared.wrong.lock().unwrap().is_none(), "{:?}", shared.wrong.lock().unwrap());
        shared.made.load(Ordering::SeqCst)
    };

    let (mut seed, began) = (SEED, Instant::now());
    for n in 1..=strokes {
        let what = stroke(&user, &wires, &mut validators, &mut seed);
        let part = validators.iter().filter(|v| v.takes_part()).count();
        println!("stroke {n} of {strokes}: {what}; {part} take part, {} payments", made());
        if part >= QUORUM {
            // More than those that were on their way already.
            let enough = made() + 2 * PAYERS as u64;
            eventually("payments go on", GOES_ON_WITHIN, || (made() >= enough).then_some(()));
        }
        // Each has its share of the time, with payments going on meanwhile.
        let share = lasts.mul_f64(n as f64 / strokes as f64);
        eventually("it is time for the next stroke", lasts + PATIENCE, || (began.elapsed() >= share).then(&made));
    }
    mend(&user, &wires, &mut validators);
    let enough = made() + 2 * PAYERS as u64;
    eventually("payments go on", GOES_ON_WITHIN, || (made() >= enough).then_some(()));
    shared.over.store(true, Ordering::SeqCst);
    let counts: Vec<u64> = paying.into_iter().map(|payer| payer.join().unwrap()).collect();
    println!("payments: {counts:?}");

    let last = urls.iter().map(|url| head(url).height.0).max().unwrap();
    for url in &urls {
        until(&format!("{url} is at block {last}"), || head(url).height.0 >= last);
    }
    for height in 1..=last {
        let digests: Vec<String> = urls.iter().map(|url| ask(url, async |api| api.block(height).await).unwrap().digest).collect();
        assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "at {height}: {digests:?}");
    }
    for url in &urls {
        for ((to, had), count) in receivers.iter().zip(&had).zip(&counts) {
            let has = ask(url, async |api| api.account(&to.account()).await).unwrap().balance;
            assert_eq!(has, had.saturating_add(Amount(1_000 * u128::from(*count))), "{url}: every payment once");
        }
        let checked = ask(url, async |api| api.check().await).unwrap();
        assert!(checked.violations.is_empty(), "{:?}", checked.violations);
    }
    for validator in &mut validators {
        let process = validator.process.take().unwrap();
        process.signal(Signal::TERM);
        assert_eq!(process.finish(PATIENCE).code, 0);
        assert_replays(&user, &validator.data);
    }
}

fn assert_replays(user: &User, data: &Path) {
    let report: Value = user.farm(&["ledger", "replay", "--json", "--data", data.to_str().unwrap()]).exits(0).json();
    assert!(report["difference"].is_null(), "{report}");
}
