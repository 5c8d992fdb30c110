//! How fast the ledger is: transfers per second through verify, order, execute and fsync, and how long a lone one takes.
//!
//! One process, one validator, the real engine, ledger and disk; no HTTP. Every round measures the disk's own floor (an
//! append of 4 KiB and a `fdatasync`, beside the ledger's files), checking alone, executing alone, and then the same
//! signed bytes through the whole path. Every transfer must succeed and the books must balance at the end.
//! `cargo bench -p pasture-node --bench ledger -- [--quick]`

#[path = "../../../bench/report.rs"]
mod report;

use bytes::Bytes;
use futures::executor::block_on;
use pasture_chain::{BlockContext, Chain, Limits, Machine, Options, Pending, Snapshot, TxOutcome};
use pasture_node::{LedgerMachine, LocalZone};
use pasture_rt::{Clock as _, SystemClock};
use pasture_types::state::Overlay;
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, Envelope, MAX_ACTIONS, MAX_TX_BYTES, TxBody};
use pasture_types::{Amount, AssetId, Millis, SigningKey, Timestamp, ZoneId, codec};
use report::{Failure, Figure, Goal, Report, Spread, cpu_seconds, quick, resident_mib, say};
use serde_json::json;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Accounts that pay each other.
const ACCOUNTS: usize = 1_024;
/// Lanes of each that carry load; the next one is for lone transfers.
const LANES: u8 = 4;
/// Threads that hand transactions in, and so check signatures.
const SUBMITTERS: usize = 2;
/// Transfers under way at any time, over all submitters: several blocks' worth, a sixth of what may wait.
const DEPTH: usize = 8_000;
/// Transfers that are checked or executed alone in each round: about as many as one block takes.
const ALONE: usize = 3_000;
/// Between two lone transfers, so that the chain is idle when the next one comes.
const GAP: Duration = Duration::from_millis(50);
/// Transfers of a block where only executing is measured.
const BLOCK: usize = 1_000;
const STOP_DEADLINE: Duration = Duration::from_secs(20);
const FLOOR_BYTES: [u8; 4096] = [0x5a; 4096];

const TRANSFERS_GOAL: f64 = 5_000.0;
const LONE_P50_GOAL_MS: f64 = 15.0;

/// How much is measured.
struct Plan {
    rounds: usize,
    transfers: usize,
    fsyncs: usize,
    lone: usize,
}

impl Plan {
    const FULL: Self = Self { rounds: 7, transfers: 40_000, fsyncs: 300, lone: 200 };
    const QUICK: Self = Self { rounds: 2, transfers: 4_000, fsyncs: 30, lone: 20 };
}

/// A chain with funded accounts.
struct World {
    chain: Chain,
    machine: Arc<LedgerMachine>,
    zone: ZoneId,
    keys: Vec<SigningKey>,
    /// The next number of each loaded lane; lane `l` of account `a` is at `l * ACCOUNTS + a`.
    next: Vec<u64>,
}

fn main() -> Result<(), Failure> {
    let quick = quick()?;
    let plan = if quick { Plan::QUICK } else { Plan::FULL };
    // Beside the build and not in /tmp, which may be memory, where an fsync costs nothing.
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut report = Report::begin("ledger", quick, scratch.path());
    report.plan(json!({
        "accounts": ACCOUNTS, "lanes": LANES, "submitters": SUBMITTERS, "under_way": DEPTH,
        "rounds": plan.rounds, "transfers": plan.transfers, "fsyncs": plan.fsyncs, "lone": plan.lone,
    }));
    let mut world = World::start(scratch.path())?;
    world.open_accounts()?;
    let mut floor = File::create(scratch.path().join("floor"))?;
    lone(&world, &plan, &mut floor, &mut report)?;
    saturated(&mut world, &plan, &mut floor, &mut report)?;
    report.add(Figure::new(
        "memory of this process afterwards, state and load generator in it",
        "MiB",
        Spread::median(&[resident_mib("self")?]),
    ));
    let books = pasture_ledger::check(&world.chain.state()?);
    // Only this needs a runtime, for its deadline; waiting for transactions inside of one would use up its patience.
    tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(world.chain.shutdown(STOP_DEADLINE))?;
    books.map_err(|broken| format!("the books do not balance: {broken:?}"))?;
    report.finish()
}

impl World {
    fn start(dir: &Path) -> Result<Self, Failure> {
        let local = LocalZone::load_or_create(dir, &SystemClock)?;
        let options = Options {
            data_dir: dir.join("ledger"),
            genesis: local.chain_genesis(),
            identity: local.identity,
            network: None,
            signs_from_ms: 0,
            history: Default::default(),
            limits: Limits::default(),
            clock: Arc::new(SystemClock),
            failpoint: None,
        };
        let zone = local.genesis.zone();
        let machine = Arc::new(LedgerMachine::new(local.genesis));
        let chain = Chain::start(options, machine.clone())?;
        let mut keys = vec![local.operator];
        for index in 0..ACCOUNTS as u64 {
            let mut seed = [0x77; 32];
            seed.iter_mut().zip(index.to_le_bytes()).for_each(|(to, from)| *to = from);
            keys.push(SigningKey::from_seed(seed));
        }
        Ok(Self { chain, machine, zone, keys, next: vec![0; ACCOUNTS * usize::from(LANES)] })
    }

    /// A signed transaction, as it travels.
    fn sign(&self, key: &SigningKey, lane: u8, seq: u64, actions: Vec<Action>) -> Bytes {
        let body = TxBody {
            version: ENVELOPE_VERSION,
            zone: self.zone,
            account: key.account(),
            auth: Auth::Single,
            lane,
            seq,
            valid_until: Timestamp(SystemClock.now_ms()).plus(Millis::secs(3_600)),
            max_fee: Amount::credits(1),
            tip: Amount::ZERO,
            fee_asset: AssetId::CREDIT,
            fee_payer: None,
            actions,
        };
        codec::encode(&body.sign(key)).into()
    }

    /// The operator funds all accounts, then each opens itself.
    fn open_accounts(&mut self) -> Result<(), Failure> {
        let Some((operator, accounts)) = self.keys.split_first() else { return Err("no keys".into()) };
        say(&format!("opening {ACCOUNTS} accounts ..."));
        let mut funded = Vec::new();
        for (seq, some) in accounts.chunks(MAX_ACTIONS).enumerate() {
            let pay = |key: &SigningKey| transfer(key, Amount::credits(1_000));
            funded.push(self.chain.submit(self.sign(operator, 0, seq as u64, some.iter().map(pay).collect()))?);
        }
        funded.into_iter().try_for_each(succeeded)?;
        let mut opened = Vec::new();
        for key in accounts {
            let register = Action::RegisterAccount { keys: vec![key.public()], threshold: 1 };
            opened.push(self.chain.submit(self.sign(key, LANES + 1, 0, vec![register]))?);
        }
        opened.into_iter().try_for_each(succeeded)?;
        self.keys.remove(0);
        Ok(())
    }

    /// The next transfers: round and round over all lanes, each to another neighbour than before.
    fn presign(&mut self, count: usize) -> Result<Vec<Bytes>, Failure> {
        let mut txs = Vec::with_capacity(count);
        for n in 0..count {
            let slot = n % self.next.len();
            let (from, lane) = (slot % ACCOUNTS, u8::try_from(slot / ACCOUNTS)?);
            let seq = self.next.get_mut(slot).ok_or("no such lane")?;
            let to = (from + 1 + usize::try_from(*seq)? % (ACCOUNTS - 1)) % ACCOUNTS;
            let number = *seq;
            *seq += 1;
            let (from, to) = self.keys.get(from).zip(self.keys.get(to)).ok_or("no such account")?;
            txs.push(self.sign(from, lane, number, vec![transfer(to, Amount(1))]));
        }
        Ok(txs)
    }
}

fn transfer(to: &SigningKey, amount: Amount) -> Action {
    Action::Transfer { to: to.account(), asset: AssetId::CREDIT, amount }
}

/// Waits for a transaction, which must have done what it asked.
fn succeeded(pending: Pending) -> Result<(), Failure> {
    applied(&block_on(pending.finalized())?.outcome)
}

fn applied(outcome: &TxOutcome) -> Result<(), Failure> {
    match outcome {
        TxOutcome::Applied { ok: true, .. } => Ok(()),
        TxOutcome::Applied { message, .. } | TxOutcome::NotIncludable { message, .. } => {
            Err(format!("a transfer failed: {message}").into())
        }
    }
}

/// One append and its fsync, in milliseconds.
fn fsync(file: &mut File) -> Result<f64, Failure> {
    let begun = Instant::now();
    file.write_all(&FLOOR_BYTES)?;
    file.sync_data()?;
    Ok(millis(begun.elapsed()))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn per_second(count: usize, begun: Instant) -> f64 {
    count as f64 / begun.elapsed().as_secs_f64()
}

/// Transfers one at a time on an idle chain, each after a raw fsync.
fn lone(world: &World, plan: &Plan, floor: &mut File, report: &mut Report) -> Result<(), Failure> {
    say(&format!("{} lone transfers ...", plan.lone));
    let (from, to) = world.keys.first().zip(world.keys.last()).ok_or("no accounts")?;
    let (mut fsyncs, mut times) = (Vec::new(), Vec::new());
    for seq in 0..plan.lone {
        std::thread::sleep(GAP);
        fsyncs.push(fsync(floor)?);
        let tx = world.sign(from, LANES, seq as u64, vec![transfer(to, Amount(1))]);
        let begun = Instant::now();
        let receipt = block_on(world.chain.submit(tx)?.finalized())?;
        times.push(millis(begun.elapsed()));
        applied(&receipt.outcome)?;
    }
    let floor = Spread::median(&fsyncs);
    let p50 = Figure::new("lone transaction, submitted until final, p50", "ms", Spread::median(&times));
    report.add(p50.against("raw fsync p50", "ms", floor).goal(Goal::Most(LONE_P50_GOAL_MS)));
    let p99 = Figure::new("lone transaction, submitted until final, p99", "ms", Spread::quantile(&times, 0.99));
    report.add(p99.against("raw fsync p99", "ms", Spread::quantile(&fsyncs, 0.99)));
    Ok(())
}

/// What one saturated round came to.
struct Round {
    transfers: f64,
    blocks: f64,
    in_block: f64,
    cores: f64,
}

/// Rounds of: raw fsyncs, checking alone, executing alone, everything.
fn saturated(world: &mut World, plan: &Plan, floor: &mut File, report: &mut Report) -> Result<(), Failure> {
    let (mut fsyncs, mut raw, mut verify, mut apply, mut all) = (vec![], vec![], vec![], vec![], Vec::<Round>::new());
    for round in 1..=plan.rounds {
        let txs = world.presign(plan.transfers)?;
        let begun = Instant::now();
        for _ in 0..plan.fsyncs {
            fsync(floor)?;
        }
        fsyncs.push(per_second(plan.fsyncs, begun));
        let alone = txs.get(..ALONE.min(txs.len())).unwrap_or_default();
        let state = world.chain.state()?;
        raw.push(raw_signatures(alone)?);
        verify.push(verify_only(world, &state, alone)?);
        apply.push(apply_only(world, &state, alone)?);
        drop(state);
        let done = everything(world, &txs)?;
        say(&format!("round {round} of {}: {:.0} transfers/s in {:.1} blocks/s", plan.rounds, done.transfers, done.blocks));
        all.push(done);
    }
    let of = |pick: fn(&Round) -> f64| Spread::median(&all.iter().map(pick).collect::<Vec<_>>());
    let fsyncs = Spread::median(&fsyncs);
    let through = Figure::new("transfers: verify, order, execute, fsync", "/s", of(|r| r.transfers));
    report.add(through.against("raw fsyncs, one at a time", "/s", fsyncs).goal(Goal::Least(TRANSFERS_GOAL)));
    report.add(Figure::new("blocks while saturated", "/s", of(|r| r.blocks)));
    report.add(Figure::new("a block while saturated", "transfers", of(|r| r.in_block)));
    report.add(Figure::new("processor while saturated, load generator in it", "cores", of(|r| r.cores)));
    let verify = Figure::new("verify only (admission), on one core", "/s", Spread::median(&verify));
    report.add(verify.against("raw signature checks", "/s", Spread::median(&raw)));
    report.add(Figure::new("execute only, on one core", "/s", Spread::median(&apply)));
    Ok(())
}

/// Signatures checked per second and nothing else: the floor of admission.
fn raw_signatures(txs: &[Bytes]) -> Result<f64, Failure> {
    let decoded: Vec<Envelope> = txs.iter().map(|tx| codec::decode(tx, MAX_TX_BYTES)).collect::<Result<_, _>>()?;
    let signed: Vec<_> = decoded.iter().flat_map(|tx| tx.signatures.iter().map(|s| (tx.body.id(), s))).collect();
    let begun = Instant::now();
    for (id, signature) in &signed {
        signature.key.verify(id.as_bytes(), &signature.signature)?;
    }
    Ok(per_second(signed.len(), begun))
}

fn verify_only(world: &World, state: &Snapshot, txs: &[Bytes]) -> Result<f64, Failure> {
    let begun = Instant::now();
    for tx in txs {
        world.machine.admit(tx, state, SystemClock.now_ms())?;
    }
    Ok(per_second(txs.len(), begun))
}

/// In blocks as full as they were while everything ran, in memory; what they change is thrown away.
fn apply_only(world: &World, state: &Snapshot, txs: &[Bytes]) -> Result<f64, Failure> {
    let parent = state.header();
    let mut context = BlockContext {
        height: parent.height,
        timestamp_ms: SystemClock.now_ms().max(parent.timestamp_ms),
        parent_timestamp_ms: parent.timestamp_ms,
        randomness: parent.randomness,
        proposer: parent.proposer,
    };
    let begun = Instant::now();
    let mut overlay = Overlay::new(state);
    for block in txs.chunks(BLOCK) {
        context.height += 1;
        world.machine.begin(&mut overlay, &context);
        for tx in block {
            applied(&world.machine.apply(&mut overlay, &context, tx))?;
        }
        world.machine.end(&mut overlay, &context);
        context.parent_timestamp_ms = context.timestamp_ms;
    }
    Ok(per_second(txs.len(), begun))
}

/// The whole path, with as much under way as it takes.
fn everything(world: &World, txs: &[Bytes]) -> Result<Round, Failure> {
    let (height, cpu, begun) = (world.chain.status().height, cpu_seconds("self")?, Instant::now());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..SUBMITTERS).map(|worker| scope.spawn(move || submit_share(&world.chain, txs, worker))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a submitter panicked")?)
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let blocks = (world.chain.status().height - height) as f64;
    let count = txs.len() as f64;
    Ok(Round {
        transfers: count / seconds,
        blocks: blocks / seconds,
        in_block: count / blocks,
        cores: (cpu_seconds("self")? - cpu) / seconds,
    })
}

/// Hands in every so-manyth transaction. A lane stays with one worker, since the workers divide the lanes.
fn submit_share(chain: &Chain, txs: &[Bytes], worker: usize) -> Result<(), Failure> {
    let mut under_way = VecDeque::new();
    for tx in txs.iter().skip(worker).step_by(SUBMITTERS) {
        if under_way.len() >= DEPTH / SUBMITTERS
            && let Some(oldest) = under_way.pop_front()
        {
            succeeded(oldest)?;
        }
        under_way.push_back(chain.submit(tx.clone())?);
    }
    under_way.into_iter().try_for_each(succeeded)
}
