//! Four validators, each a process of the built `farm` on this one machine, beside one alone: a lone transaction until it is final, as many as
//! they take, what they cost while nothing happens, and how long nothing is decided after one or two of them are killed. Then the same
//! with the ways between them made longer.
//!
//! Everything goes through the API, as a client's does. All of them share this machine's processors, so that throughput is that of all of
//! them together. `cargo bench -p pasture-farm --bench validators -- [--quick]`.

#[path = "validators/delay.rs"]
mod delay;
#[path = "run/process.rs"]
mod process;
#[path = "../../../bench/report.rs"]
mod report;

use futures::StreamExt as _;
use pasture_api::{ApiClient, ApiError, newcomer};
use pasture_rt::{Clock as _, SystemClock};
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, Envelope, TxBody};
use pasture_types::{AccountId, Amount, AssetId, Millis, SigningKey, Timestamp, ZoneId};
use process::{POLL, Process, failed, farm, wait};
use report::{Failure, Figure, Report, Spread, cpu_seconds, quick, resident_mib, say};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Between two lone transactions: the chain is at rest again.
const APART: Duration = Duration::from_millis(300);
/// Longest that one transaction may take, a killed validator's turns included.
const FINAL_WITHIN: Duration = Duration::from_secs(60);

struct Plan {
    lone: usize,
    /// Accounts that submit, each the next when the one before is final.
    payers: usize,
    load: Duration,
    idle: Duration,
    kills: usize,
    /// With a longer way between the validators.
    far_lone: usize,
    far_load: Duration,
}

/// Times there and back between any two validators, in milliseconds.
const ROUND_TRIPS: [u64; 3] = [20, 80, 200];

impl Plan {
    const FULL: Self = Self {
        lone: 100,
        payers: 512,
        load: Duration::from_secs(20),
        idle: Duration::from_secs(30),
        kills: 5,
        far_lone: 30,
        far_load: Duration::from_secs(10),
    };
    const QUICK: Self = Self {
        lone: 5,
        payers: 16,
        load: Duration::from_secs(2),
        idle: Duration::from_secs(2),
        kills: 1,
        far_lone: 3,
        far_load: Duration::from_secs(1),
    };
}

/// One validator: its folder, and its process while it runs.
struct Validator {
    data: PathBuf,
    process: Option<Process>,
    url: String,
}

struct Zone {
    scratch: PathBuf,
    validators: Vec<Validator>,
    zone: ZoneId,
}

impl Zone {
    /// `round_trip`: how much longer the way there and back between any two is made.
    async fn start(scratch: &Path, count: usize, round_trip: Duration) -> Result<Self, Failure> {
        let path = |name: String| scratch.join(name).to_string_lossy().into_owned();
        let ours = |args: &[&str]| -> Result<(), Failure> {
            let ran = farm(scratch).args(args).stdin(Stdio::null()).output()?;
            if ran.status.success() { Ok(()) } else { Err(failed(&args.join(" "), &ran)) }
        };
        let held = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
        let ports = held.iter().map(|l| l.local_addr().map(|a| a.port())).collect::<Result<Vec<_>, _>>()?;
        drop(held);
        let mut addresses = Vec::with_capacity(count);
        for port in &ports {
            let listens = std::net::SocketAddr::from(([127, 0, 0, 1], *port));
            addresses.push(if round_trip.is_zero() { listens } else { delay::longer_way(listens, round_trip / 2).await? });
        }
        let out = path("launch".into());
        let mut make: Vec<String> = ["genesis", "--dev", "--name", "bench", "--out", &out].map(str::to_owned).to_vec();
        for (n, address) in addresses.iter().enumerate() {
            let said = path(format!("v{n}.json"));
            ours(&["validator", "init", "--data", &path(format!("v{n}")), "--address", &address.to_string(), "--out", &said])?;
            make.extend(["--validator".into(), said]);
        }
        ours(&make.iter().map(String::as_str).collect::<Vec<_>>())?;
        let (genesis, network) = (path("launch/genesis".into()), path("launch/network.toml".into()));
        let mut zone = Self { scratch: scratch.into(), validators: vec![], zone: ZoneId([0; 32]) };
        for (n, port) in ports.iter().enumerate() {
            let data = path(format!("v{n}"));
            ours(&["validator", "join", "--data", &data, "--genesis", &genesis, "--network", &network])?;
            // It listens where the longer way ends.
            let addresses = Path::new(&data).join("zone/network.toml");
            let text = std::fs::read_to_string(&addresses)?;
            std::fs::write(&addresses, format!("listen = \"127.0.0.1:{port}\"\n{text}"))?;
            zone.validators.push(Validator { data: data.into(), process: None, url: String::new() });
            zone.up(n)?;
        }
        zone.zone = zone.client(0)?.status().await?.zone;
        Ok(zone)
    }

    fn up(&mut self, n: usize) -> Result<(), Failure> {
        let Some(validator) = self.validators.get_mut(n) else { return Err("no such validator".into()) };
        let mut run = farm(&self.scratch);
        run.args(["validator", "run", "--json", "--listen", "127.0.0.1:0", "--data"]).arg(&validator.data);
        let name = format!("run{n}");
        let out = self.scratch.join(format!("{name}.out"));
        let process = Process::start(run, &self.scratch, &name)?;
        validator.url = wait("a validator", &process, || {
            let text = std::fs::read_to_string(&out).ok()?;
            let ready: Value = text.lines().find_map(|line| serde_json::from_str(line).ok())?;
            ready.get("api_url")?.as_str().map(str::to_owned)
        })?;
        validator.process = Some(process);
        Ok(())
    }

    /// As a crash would.
    fn kill(&mut self, n: usize) {
        if let Some(validator) = self.validators.get_mut(n) {
            validator.process = None;
        }
    }

    fn client(&self, n: usize) -> Result<ApiClient, Failure> {
        Ok(ApiClient::new(&self.validators.get(n).ok_or("no such validator")?.url)?)
    }

    fn stop(self) -> Result<(), Failure> {
        self.validators.into_iter().filter_map(|v| v.process).try_for_each(Process::stop)
    }
}

fn payment(zone: ZoneId, key: &SigningKey, seq: u64) -> Envelope {
    TxBody {
        version: ENVELOPE_VERSION,
        zone,
        account: key.account(),
        auth: Auth::Single,
        lane: 7,
        seq,
        valid_until: Timestamp(SystemClock.now_ms()).plus(Millis::secs(600)),
        max_fee: Amount::credits(1),
        tip: Amount::ZERO,
        fee_asset: AssetId::CREDIT,
        fee_payer: None,
        actions: vec![Action::Transfer { to: AccountId([9; 32]), asset: AssetId::CREDIT, amount: Amount(1) }],
    }
    .sign(key)
}

fn key(n: usize) -> SigningKey {
    let mut seed = [7; 32];
    for (to, from) in seed.iter_mut().zip(n.to_be_bytes()) {
        *to = from;
    }
    SigningKey::from_seed(seed)
}

async fn open(api: &ApiClient, key: &SigningKey) -> Result<(), Failure> {
    newcomer::ensure_account(api, key, Amount::credits(10), Timestamp(SystemClock.now_ms())).await?;
    Ok(())
}

/// Submits until somebody says that it is final, and gives how long that took.
async fn until_final(api: &ApiClient, tx: &Envelope) -> Result<Duration, Failure> {
    let begun = Instant::now();
    while begun.elapsed() < FINAL_WITHIN {
        match api.submit(tx).await {
            Ok(done) if done.ok => return Ok(begun.elapsed()),
            Ok(done) => return Err(done.message.into()),
            Err(ApiError::Problem(p)) if p.status == 422 => return Err(p.detail.into()),
            // The call's own deadline; it waits still.
            Err(_) => {}
        }
    }
    Err("a transaction was not final in time".into())
}

/// Milliseconds until lone transactions are final, at each validator in turn.
async fn lone(zone: &Zone, count: usize, payer: usize) -> Result<Vec<f64>, Failure> {
    let key = key(payer);
    open(&zone.client(0)?, &key).await?;
    let mut times = Vec::new();
    for seq in 0..=count {
        let api = zone.client(seq % zone.validators.len())?;
        api.status().await?;
        sleep(APART).await;
        let took = until_final(&api, &payment(zone.zone, &key, seq as u64)).await?;
        // The first one opens connections.
        if seq > 0 {
            times.push(took.as_secs_f64() * 1e3);
        }
    }
    Ok(times)
}

/// Payments a second, with so many payers at once.
async fn load(zone: &Zone, payers: usize, length: Duration) -> Result<f64, Failure> {
    let clients = (0..zone.validators.len()).map(|n| zone.client(n)).collect::<Result<Vec<_>, _>>()?;
    let keys: Vec<SigningKey> = (0..payers).map(|n| key(1_000 + n)).collect();
    let first = clients.first().ok_or("no validators")?;
    let opened = futures::stream::iter(&keys).map(|key| open(first, key)).buffer_unordered(64);
    opened.collect::<Vec<_>>().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let (made, begun) = (AtomicU64::new(0), Instant::now());
    let pay = async |n: usize| -> Result<(), Failure> {
        let (Some(key), Some(api)) = (keys.get(n), clients.get(n % clients.len())) else { return Ok(()) };
        for seq in 0.. {
            if begun.elapsed() >= length {
                break;
            }
            until_final(api, &payment(zone.zone, key, seq)).await?;
            made.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let all: Vec<Result<(), Failure>> = futures::future::join_all((0..payers).map(pay)).await;
    all.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(made.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
}

/// Cores and MiB of each validator while nothing happens.
async fn idle(zone: &Zone, plan: &Plan) -> Result<(Vec<f64>, Vec<f64>), Failure> {
    say(&format!("leaving them alone for {} s ...", plan.idle.as_secs()));
    let ids: Vec<String> = zone.validators.iter().filter_map(|v| v.process.as_ref().map(Process::id)).collect();
    let before = ids.iter().map(|id| cpu_seconds(id)).collect::<Result<Vec<_>, _>>()?;
    let begun = Instant::now();
    sleep(plan.idle).await;
    let passed = begun.elapsed().as_secs_f64();
    let cores = ids.iter().zip(before).map(|(id, before)| Ok((cpu_seconds(id)? - before) / passed)).collect::<Result<Vec<_>, Failure>>()?;
    Ok((cores, ids.iter().map(|id| resident_mib(id)).collect::<Result<Vec<_>, _>>()?))
}

/// Seconds until a payment is final: asked for right after one of four was killed; and asked for with two of them dead, from the start of one of
/// these on.
async fn recoveries(zone: &mut Zone, plan: &Plan) -> Result<[Vec<f64>; 2], Failure> {
    let key = key(2);
    open(&zone.client(0)?, &key).await?;
    let (mut one, mut two, mut seq) = (vec![], vec![], 0);
    for round in 1..=plan.kills {
        say(&format!("killing validators, round {round} of {} ...", plan.kills));
        zone.kill(3);
        one.push(until_final(&zone.client(0)?, &payment(zone.zone, &key, seq)).await?.as_secs_f64());
        zone.kill(2);
        let (api, waits) = (zone.client(0)?, payment(zone.zone, &key, seq + 1));
        let waiting =
            pasture_rt::spawn(
                pasture_rt::TaskKind::ClientFollow,
                async move { until_final(&api, &waits).await.map_err(|e| e.to_string()) },
            );
        while zone.client(1)?.status().await?.pending_transactions == 0 {
            sleep(POLL).await;
        }
        let begun = Instant::now();
        zone.up(2)?;
        waiting.join().await.ok_or("the payment's task ended")??;
        two.push(begun.elapsed().as_secs_f64());
        zone.up(3)?;
        // Both take part again before the next round.
        seq += 2;
        for n in [2, 3] {
            until_final(&zone.client(n)?, &payment(zone.zone, &key, seq)).await?;
            seq += 1;
        }
    }
    Ok([one, two])
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let quick = quick()?;
    let plan = if quick { Plan::QUICK } else { Plan::FULL };
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut report = Report::begin("validators", quick, scratch.path());
    report.plan(json!({ "lone": plan.lone, "payers": plan.payers, "load_s": plan.load.as_secs(), "idle_s": plan.idle.as_secs(), "kills": plan.kills }));
    let folder = |name: &str| -> Result<PathBuf, Failure> {
        let path = scratch.path().join(name);
        std::fs::create_dir(&path)?;
        Ok(path)
    };
    let alone = Zone::start(&folder("alone")?, 1, Duration::ZERO).await?;
    let mut four = Zone::start(&folder("four")?, 4, Duration::ZERO).await?;
    say("lone transactions: one validator, four ...");
    let (one, of_four) = (lone(&alone, plan.lone, 0).await?, lone(&four, plan.lone, 1).await?);
    for (part, name) in [(0.5, "p50"), (0.99, "p99")] {
        let figure =
            Figure::new(format!("lone transaction at four validators, through the API, {name}"), "ms", Spread::quantile(&of_four, part));
        report.add(figure.against("the same at one", "ms", Spread::quantile(&one, part)));
    }
    let (cores, mib) = idle(&four, &plan).await?;
    report.add(Figure::new("processor of an idle validator of four", "cores", Spread::median(&cores)));
    report.add(Figure::new("memory of an idle validator of four", "MiB", Spread::median(&mib)).goal(report::Goal::Most(150.0)));
    say("as many payments as they take: one validator, four ...");
    let (one, of_four) = (load(&alone, plan.payers, plan.load).await?, load(&four, plan.payers, plan.load).await?);
    let name = format!("payments at four validators on this one machine, {} payers, through the API", plan.payers);
    report.add(Figure::new(name, "/s", Spread::median(&[of_four])).against("the same at one", "/s", Spread::median(&[one])));
    let (_, mib) = idle(&four, &plan).await?;
    report.add(Figure::new("memory of a validator of four after that", "MiB", Spread::median(&mib)));
    alone.stop()?;
    let [one, two] = recoveries(&mut four, &plan).await?;
    report.add(Figure::new("a payment asked for right after one of four was killed", "s", Spread::median(&one)));
    report.add(Figure::new("a payment that waits for two of four, from the start of the third process on", "s", Spread::median(&two)));
    four.stop()?;
    for round_trip in ROUND_TRIPS {
        let far = Zone::start(&folder(&format!("far{round_trip}"))?, 4, Duration::from_millis(round_trip)).await?;
        distance(&far, &plan, round_trip, &mut report).await?;
        far.stop()?;
    }
    report.finish()
}

/// What the way between validators costs.
async fn distance(far: &Zone, plan: &Plan, round_trip: u64, report: &mut Report) -> Result<(), Failure> {
    say(&format!("four validators, {round_trip} ms there and back ..."));
    let times = lone(far, plan.far_lone, 3).await?;
    let floor = Spread::median(&[round_trip as f64]);
    for (part, name) in [(0.5, "p50"), (0.99, "p99")] {
        let figure =
            Figure::new(format!("lone transaction with {round_trip} ms between validators, {name}"), "ms", Spread::quantile(&times, part));
        report.add(figure.against("one way there and back", "ms", floor));
    }
    let made = load(far, plan.payers, plan.far_load).await?;
    report.add(Figure::new(
        format!("payments with {round_trip} ms between validators, {} payers", plan.payers),
        "/s",
        Spread::median(&[made]),
    ));
    Ok(())
}
