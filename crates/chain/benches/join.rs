//! A newcomer that fetches a state of one gigabyte from one validator, each a process of its own, over loopback: how long until it has the state
//! and answers, against writing as many bytes to the same disk; and what memory it then has.
//!
//! The state is records of pseudo-random bytes; each transaction, and so each block, adds some thousands. `cargo bench -p pasture-chain --bench join -- [--quick]`.

#[path = "../../../bench/report.rs"]
mod report;

use bytes::Bytes;
use pasture_chain::{
    Admission, BlockContext, Chain, Due, Entries, Genesis, History, Identity, Join, JoinStep, Limits, Machine, Network, Options, Rejection,
    TxOutcome,
};
use pasture_rt::SystemClock;
use pasture_types::state::{StateRead, StateWrite};
use report::{Failure, Figure, Report, Spread, quick, resident_mib, say};
use serde_json::json;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU64;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const TERM_BLOCKS: u64 = 16;
/// Records that a transaction adds.
const RECORDS_AT_ONCE: u64 = 8_192;
/// Bytes of a record's value; the ledger's are a hundred to a few hundred.
const RECORD_BYTES: usize = 512;
/// What tells a process of this program that it is the newcomer, and its arguments.
const NEWCOMER: &str = "--newcomer";
const WITHIN: Duration = Duration::from_secs(120);

/// A state that each transaction adds records to.
struct Records;

fn record(n: u64) -> Vec<u8> {
    let mut out = vec![0; RECORD_BYTES];
    blake3::Hasher::new_derive_key("pasture bench record").update(&n.to_be_bytes()).finalize_xof().fill(&mut out);
    out
}

fn seq(state: &dyn StateRead) -> u64 {
    state.get(b"seq").and_then(|v| v.try_into().ok()).map_or(0, u64::from_be_bytes)
}

impl Machine for Records {
    fn genesis(&self) -> Result<Entries, String> {
        Ok(vec![(b"seq".to_vec(), 0u64.to_be_bytes().to_vec())])
    }
    fn admit(&self, tx: &[u8], state: &dyn StateRead, now_ms: u64) -> Result<Admission, Rejection> {
        let wrong = || Rejection { code: 1, message: "not a number".into() };
        let at = u64::from_be_bytes(tx.try_into().map_err(|_| wrong())?);
        let next_seq = seq(state);
        let expires_ms = now_ms.saturating_add(600_000);
        Ok(Admission { id: *blake3::hash(tx).as_bytes(), sender: [1; 32], lane: 0, seq: at, next_seq, expires_ms, tip: 0, cost_us: 5 })
    }
    fn next_seq(&self, _: &[u8; 32], _: u8, state: &dyn StateRead) -> u64 {
        seq(state)
    }
    fn verify(&self, _: &[Bytes]) -> bool {
        true
    }
    fn block_cost_us(&self, _: &dyn StateRead) -> u64 {
        100_000
    }
    fn begin(&self, _: &mut dyn StateWrite, _: &BlockContext) -> Vec<Vec<u8>> {
        vec![]
    }
    fn apply(&self, state: &mut dyn StateWrite, _: &BlockContext, tx: &[u8]) -> TxOutcome {
        let next = seq(state).saturating_add(1);
        for n in (next * RECORDS_AT_ONCE..).take(RECORDS_AT_ONCE as usize) {
            state.put([&b"r"[..], &n.to_be_bytes()].concat(), record(n));
        }
        state.put(b"seq".to_vec(), next.to_be_bytes().to_vec());
        TxOutcome::Applied { id: *blake3::hash(tx).as_bytes(), ok: true, code: 0, message: String::new(), events: vec![] }
    }
    fn end(&self, _: &mut dyn StateWrite, _: &BlockContext) -> Vec<Vec<u8>> {
        vec![]
    }
    fn next_due(&self, _: &dyn StateRead) -> Due {
        Due::Never
    }
}

fn identity(n: u8) -> Result<Identity, Failure> {
    Identity::from_secret(&[n; 32]).ok_or_else(|| "no key".into())
}

/// The validator is 1 and the newcomer 2.
fn options(n: u8, data: &Path, ports: [u16; 2]) -> Result<Options, Failure> {
    let validators = vec![identity(1)?.validator()];
    let term_blocks = NonZeroU64::new(TERM_BLOCKS).ok_or("no blocks")?;
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let [first, second] = ports.map(at);
    let own = if n == 1 { first } else { second };
    let peers = vec![(identity(1)?.public_key(), first), (identity(2)?.public_key(), second)];
    Ok(Options {
        data_dir: data.into(),
        genesis: Genesis { zone: [42; 32], timestamp_ms: 1_000, validators, term_blocks, base: None },
        identity: identity(n)?,
        network: Some(Network { listen: own, address: own, peers, private: true }),
        signs_from_ms: 0,
        history: History::default(),
        limits: Limits::default(),
        clock: Arc::new(SystemClock),
        failpoint: None,
    })
}

/// What the newcomer's process does: joins, and says when the state is here and what it holds.
fn newcomer(arguments: &str) -> Result<(), Failure> {
    let (ports, data) = arguments.split_once(' ').ok_or("no arguments")?;
    let (first, second) = ports.split_once(',').ok_or("no ports")?;
    let joined = Arc::new(Mutex::new(None));
    let hears = Arc::clone(&joined);
    let mut options = options(2, Path::new(data), [first.parse()?, second.parse()?])?;
    options.history.join = Join::State;
    options.history.on_join = Some(Arc::new(move |step| {
        if let (JoinStep::Joined { height }, Ok(mut joined)) = (step, hears.lock()) {
            *joined = Some(height);
        }
    }));
    let begun = Instant::now();
    let chain = Chain::start(options, Arc::new(Records))?;
    let height = joined.lock().map_err(|_| "a panic")?.ok_or("it did not join by state")?;
    let entries = chain.state()?.entries();
    let said = json!({ "seconds": begun.elapsed().as_secs_f64(), "entries": entries, "height": height, "mib": resident_mib("self")? });
    writeln!(std::io::stdout(), "{said}")?;
    std::io::stdout().flush()?;
    // Until the measurement is over.
    std::io::stdin().lines().next();
    tokio::runtime::Runtime::new()?.block_on(chain.shutdown(WITHIN))?;
    Ok(())
}

fn submit(runtime: &tokio::runtime::Runtime, chain: &Chain, n: u64) -> Result<(), Failure> {
    let pending = chain.submit(Bytes::copy_from_slice(&n.to_be_bytes()))?;
    runtime.block_on(async { tokio::time::timeout(WITHIN, pending.finalized()).await })??;
    Ok(())
}

/// Seconds to write so many bytes to a file and to the disk under it.
fn written(data: &Path, records: u64) -> Result<f64, Failure> {
    let piece = record(0);
    let begun = Instant::now();
    let mut file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(data.join("floor"))?);
    for _ in 0..records {
        file.write_all(&piece)?;
    }
    file.into_inner().map_err(|e| e.into_error())?.sync_all()?;
    Ok(begun.elapsed().as_secs_f64())
}

fn main() -> Result<(), Failure> {
    if let Some(arguments) = std::env::args().skip_while(|argument| argument != NEWCOMER).nth(1) {
        return newcomer(&arguments);
    }
    let quick = quick()?;
    let records = RECORDS_AT_ONCE * TERM_BLOCKS * if quick { 1 } else { 16 };
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut report = Report::begin("join", quick, scratch.path());
    report.plan(json!({ "records": records, "record_bytes": RECORD_BYTES }));
    let held = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    let ports = [held[0].local_addr()?.port(), held[1].local_addr()?.port()];
    drop(held);
    let (own, theirs) = (scratch.path().join("validator"), scratch.path().join("newcomer"));
    say(&format!("a validator with {records} records of {RECORD_BYTES} bytes ..."));
    let chain = Chain::start(options(1, &own, ports)?, Arc::new(Records))?;
    let runtime = tokio::runtime::Runtime::new()?;
    // With another term, whose last block is what the newcomer begins with.
    for n in 0..records / RECORDS_AT_ONCE + TERM_BLOCKS {
        submit(&runtime, &chain, n)?;
    }
    say("a newcomer joins ...");
    let mut child = Command::new(std::env::current_exe()?)
        .args([NEWCOMER.to_owned(), format!("{},{} {}", ports[0], ports[1], theirs.display())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let said: serde_json::Value = serde_json::from_str(&line)?;
    drop(child.stdin.take());
    if !child.wait()?.success() {
        return Err("the newcomer failed".into());
    }
    let number = |name: &str| said.get(name).and_then(serde_json::Value::as_f64).ok_or("the newcomer said something else");
    if number("entries")? < records as f64 {
        return Err("the newcomer has fewer records".into());
    }
    let (entries, floor) = (number("entries")?, written(scratch.path(), number("entries")? as u64)?);
    let gib = entries * RECORD_BYTES as f64 / f64::from(1 << 30);
    let figure = Figure::new(
        format!("joining by a state of {gib:.2} GiB, over loopback, until it answers"),
        "s",
        Spread::median(&[number("seconds")?]),
    );
    report.add(figure.against("writing as many bytes to the disk", "s", Spread::median(&[floor])));
    report.add(Figure::new("memory of the newcomer then", "MiB", Spread::median(&[number("mib")?])));
    runtime.block_on(chain.shutdown(WITHIN))?;
    report.finish()
}
