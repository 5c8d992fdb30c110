//! `farm genesis`: the first state of a network, from what its validators announced; or what one says.
//!
//! Guarantees: nothing is overwritten; each file that does not fit is named with the reason before anything is written.

use crate::args::GenesisArgs;
use crate::backend::{self, Announcement, Launch};
use crate::exit::{Exit, Failure, Outcome};
use crate::render::number::{count, credits, duration};
use crate::session::App;
use pasture_types::audit::GpuRate;
use pasture_types::genesis::{Genesis, GenesisAccount};
use pasture_types::keys::ParseKeyError;
use pasture_types::spec::parse_duration;
use pasture_types::validator::ValidatorParams;
use pasture_types::{Amount, NodeId, PublicKey};
use std::path::Path;

/// Largest announcement.
const MAX_ANNOUNCEMENT_BYTES: u64 = 64 << 10;
/// Fewer seats are not elected (`docs/specs/stake.md` §8).
const LEAST_SEATS: u32 = 4;

/// Runs the command.
pub(crate) fn run(app: &App, args: &GenesisArgs) -> Outcome {
    if let Some(path) = &args.show {
        return show(app, &backend::genesis_in_file(path)?);
    }
    let (Some(name), Some(out)) = (&args.name, &args.out) else {
        return Err(Failure::usage("a network has a name, and its files a folder:  --name NAME --out DIR"));
    };
    let founders = args.validator.iter().map(|path| announcement(path)).collect::<Result<Vec<_>, _>>()?;
    let accounts = args.account.iter().map(|text| account(text)).collect::<Result<Vec<_>, _>>()?;
    let gpus = args.gpu_rate.iter().map(|text| gpu_rate(text)).collect::<Result<Vec<_>, _>>()?;
    let launch = Launch { name: name.clone(), dev: args.dev, audits: args.audits, gpus, memory: args.prove_memory, founders, accounts };
    let rules = rules(args, launch.params().validators)?;
    let (genesis, network) = backend::make_genesis(&launch, rules)?;
    let guide = guide(&genesis, backend::quorum(&genesis)?);
    std::fs::create_dir_all(out).map_err(|e| Failure::io("create the folder", out, &e))?;
    let paths = ["genesis", "network.toml", "LAUNCH.md"].map(|name| out.join(name));
    if let Some(there) = paths.iter().find(|path| path.exists()) {
        return Err(Failure::usage(format!("{} is there already: choose another folder", there.display())));
    }
    let [genesis_path, network_path, guide_path] = &paths;
    std::fs::write(network_path, network).map_err(|e| Failure::io("write", network_path, &e))?;
    std::fs::write(guide_path, guide).map_err(|e| Failure::io("write", guide_path, &e))?;
    backend::write_genesis(genesis_path, &genesis)?;
    app.out.note(&format!("✓ {}: genesis, network.toml, LAUNCH.md", out.display()));
    show(app, &genesis)
}

fn announcement(path: &Path) -> Result<Announcement, Failure> {
    let wrong = |what: String| Failure::usage(format!("{}: {what}", path.display())).next("write it with:  farm validator init --out FILE");
    let found = std::fs::metadata(path).map_err(|e| wrong(e.to_string()))?;
    if found.len() > MAX_ANNOUNCEMENT_BYTES {
        return Err(wrong("it is too large for what a validator announces".into()));
    }
    let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| wrong(format!("it is not what a validator announces ({e})")))
}

/// `H100=2T`: what each GPU of a model has to show.
fn gpu_rate(text: &str) -> Result<GpuRate, Failure> {
    let wrong =
        || Failure::usage(format!("--gpu-rate {text}: write MODEL=RATE, for example H100=2T or T4=500G, in multiply-adds a second"));
    let (model, rate) = text.split_once('=').filter(|(model, _)| !model.is_empty()).ok_or_else(wrong)?;
    let digits = rate.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match rate.get(digits.len()..).unwrap_or_default() {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    let macs_per_s = digits.parse().ok().and_then(|n: u64| n.checked_mul(unit)).ok_or_else(wrong)?;
    Ok(GpuRate { model: model.to_owned(), macs_per_s })
}

fn account(text: &str) -> Result<GenesisAccount, Failure> {
    let wrong = |what: String| Failure::usage(format!("--account {text}: {what}"));
    let (key, amount) = text.split_once('=').ok_or_else(|| wrong("write KEY=CREDITS".into()))?;
    let key: PublicKey = key.parse().map_err(|e: ParseKeyError| wrong(e.to_string()))?;
    let balance = amount.parse::<Amount>().map_err(|e| wrong(e.to_string()))?;
    Ok(GenesisAccount { key, balance })
}

/// What is asked of seats and deposits; the rest as the network's kind has it.
fn rules(args: &GenesisArgs, mut rules: ValidatorParams) -> Result<ValidatorParams, Failure> {
    let time = |flag: &str, text: &str| parse_duration(text).map_err(|e| Failure::usage(format!("{flag} {text}: {e}")));
    rules.seats = args.seats.unwrap_or(rules.seats);
    if let Some(text) = &args.term {
        rules.term = time("--term", text)?;
    }
    if let Some(text) = &args.deposit_delay {
        rules.unbond_delay = time("--deposit-delay", text)?;
    }
    if let Some(text) = &args.min_deposit {
        rules.min_bond = text.parse().map_err(|e| Failure::usage(format!("--min-deposit {text}: {e}")))?;
    }
    rules.check(args.dev).map_err(|e| {
        Failure::usage(e.to_string()).next("what has no flag is as in other networks of this kind:  farm genesis --help names them")
    })?;
    Ok(rules)
}

fn supply(genesis: &Genesis) -> Amount {
    genesis.accounts.iter().fold(Amount::ZERO, |sum, account| sum.saturating_add(account.balance))
}

fn show(app: &App, genesis: &Genesis) -> Outcome {
    let quorum = backend::quorum(genesis)?;
    let validators: Vec<_> =
        genesis.validators.iter().map(|v| serde_json::json!({ "key": NodeId(v.key), "operator": v.operator })).collect();
    let accounts: Vec<_> = genesis.accounts.iter().map(|a| serde_json::json!({ "key": a.key.to_string(), "balance": a.balance })).collect();
    let json = serde_json::json!({
        "name": genesis.name, "network": genesis.zone(), "time": genesis.time, "rules": genesis.rules_version, "dev": genesis.params.dev,
        "validators": validators, "accounts": accounts, "supply": supply(genesis), "parameters": genesis.params,
    });
    app.out.either(&json, || {
        let kind = if genesis.params.dev { "for development: test credits, no value" } else { "production rules" };
        let mut text = format!("network   {} · {} · {kind}\n", genesis.name, genesis.zone());
        text.push_str(&format!("rules     version {}; `farm genesis --show FILE --json` has every parameter\n", genesis.rules_version));
        text.push_str(&format!("supply    {} credits in {}\n", credits(supply(genesis)), count(genesis.accounts.len() as u64, "account")));
        text.push_str(&format!("validators {}, of whom {quorum} make a block final", genesis.validators.len()));
        let rules = &genesis.params.validators;
        if elects(genesis) {
            let seats = count(rules.seats.into(), "seat");
            text.push_str(&format!("\nelections {seats} for {}, deposits from {} cr", duration(rules.term), credits(rules.min_bond)));
        }
        for v in &genesis.validators {
            text.push_str(&format!("\n  {}  operator {}", NodeId(v.key), v.operator.short()));
        }
        text
    });
    Ok(Exit::Ok)
}

/// Whether its seats are elected.
const fn elects(genesis: &Genesis) -> bool {
    genesis.params.validators.seats >= LEAST_SEATS
}

/// What the operators do next, in their order.
fn guide(genesis: &Genesis, quorum: usize) -> String {
    let (name, id, all) = (&genesis.name, genesis.zone(), genesis.validators.len());
    let credits_line = if genesis.params.dev {
        "Everybody who asks gets test credits; they have no value."
    } else {
        "There are no test credits: the accounts in the genesis have all there is."
    };
    let elections = if elects(genesis) {
        "6. Stand for election: `farm validator deposit KEY CREDITS --operator DIR` posts the operator's deposit for your validator; those of\n   \
         the genesis keep their seats until four that stand can be elected.\n"
    } else {
        ""
    };
    format!(
        "# Launching {name}\n\n\
         Network `{id}`, {}, {} of which make a block final. {credits_line}\n\n\
         Each operator of a validator does this on its machine, with the folder that `farm validator init` was given:\n\n\
         1. Read what you agree to: `farm genesis --show genesis`. The network's id above is the hash of all of it: compare it with the\n   other operators by another way than the one the file came by.\n\
         2. Take the place that the genesis gives you: `farm validator join --data DIR --genesis genesis --network network.toml`.\n   If your machine listens at another address than the others dial, write it into the `network.toml` that is then in DIR, as `listen`.\n\
         3. Open the port of your address in `network.toml` for the other validators. The API stays on loopback unless you say otherwise.\n\
         4. Start it: `farm validator run --data DIR`. The first block comes when {} are up.\n\
         5. Look at it: `farm --api-url http://127.0.0.1:8730 status`.\n{elections}\n\
         Keep the key files in DIR to yourself, and run a validator's key on one machine only: two that sign with one key contradict\n\
         each other.\n",
        count(all as u64, "validator"),
        quorum,
        count(quorum as u64, "validator"),
    )
}
