//! `farm verify`: what the network judged, counted again by this program. Spec: `docs/specs/audits.md` §11.
//!
//! Guarantees: nothing is taken from a gateway but records that trusted validators certified; the count is the ledger's own code. A
//! verdict that does not follow ends with a failure that says what is wrong. A file that was written here is checked without
//! asking anybody.

use crate::args::{VerifyArgs, VerifyCommand};
use crate::backend::{self, AuditEvidence, Heard, Trust as _};
use crate::exit::{Exit, Failure, Outcome};
use crate::patience::Calls;
use crate::render::Table;
use crate::render::number::{count, each_second};
use crate::session::App;
use crate::verify::{Checker, Evidence, kept};
use crate::words::plainly;
use pasture_light::Verified;
use pasture_types::ZoneId;
use pasture_types::audit::Verdict;
use pasture_types::resources::display_bytes;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Version of the files that `--save` writes.
const VERSION: u32 = 1;
/// Largest file that is read: a proof and some changes of validators.
const MAX_FILE: u64 = 16 << 20;
/// What no record shows again.
const TRUSTED: &str = "that each word came under its witness's signature: the ledger took it under rules that every validator runs";

/// Runs the command.
pub(crate) async fn run(app: &App, args: &VerifyArgs) -> Outcome {
    let VerifyCommand::Check { what, save, trust } = &args.command;
    if app.skip_verification {
        return Err(Failure::usage("--skip-verification checks nothing: leave it away"));
    }
    match what.parse::<u64>() {
        Ok(_) if trust.is_some() => Err(Failure::usage("--trust is for a file; a network is checked against whom the context trusts")),
        Ok(number) => asked(app, number, save.as_deref()).await,
        Err(_) if save.is_some() => Err(Failure::usage(format!("`{what}` is no number of a check, so there is nothing to write"))),
        Err(_) => from_file(app, Path::new(what), trust.as_deref()),
    }
}

/// What proves a check, for whoever trusts the validators.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    pasture_audit_evidence: u32,
    number: u64,
    /// The record with its proof, in hex.
    proof: String,
    /// Changes of validators on the way from whom its writer trusted to who signed it, in hex.
    handovers: Vec<String>,
}

async fn asked(app: &App, number: u64, save: Option<&Path>) -> Outcome {
    let trusted = app.trusted()?.ok_or_else(nobody)?;
    let mut checker = Checker::new(Calls::First(app.out), app.client()?, trusted, 0);
    let (shown, proof) = checker.record(&backend::audit_key(number)).await?;
    let written = save.map(|path| {
        let file = File { pasture_audit_evidence: VERSION, number, proof, handovers: checker.followed().to_vec() };
        write(path, &file)
    });
    let outcome = judge(app, number, &shown, *checker.trusted().zone());
    app.out.note(&Evidence::of(&shown).text(checker.trusted()));
    written.transpose()?;
    outcome
}

fn from_file(app: &App, path: &Path, trust: Option<&Path>) -> Outcome {
    let file = read(path)?;
    let point = match trust {
        Some(path) => backend::trusted_in(path)?,
        None => app.trusted()?.ok_or_else(nobody)?.point(),
    };
    let zone = *point.validators().zone();
    let shown = kept(point, &backend::audit_key(file.number), &file.proof, &file.handovers)?;
    judge(app, file.number, &shown, zone)
}

fn nobody() -> Failure {
    Failure::new("nobody-trusted", "there is nobody to check this against: no validators are known for this network").next(
        "get the network's founding file, or a checkpoint, from somebody you believe, then:  farm context create NAME --api-url URL --trust FILE",
    )
}

fn write(path: &Path, file: &File) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(file).map_err(|e| Failure::new("internal", e.to_string()))?;
    let made = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    made.and_then(|mut made| std::io::Write::write_all(&mut made, text.as_bytes())).map_err(|e| Failure::io("write", path, &e))
}

fn read(path: &Path) -> Result<File, Failure> {
    let wrong = |why: &str| Failure::usage(format!("{}: neither a number of a check nor a file that proves one: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|e| Failure::io("read", path, &e))?.len();
    if size > MAX_FILE {
        return Err(wrong("it is too long"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| Failure::io("read", path, &e))?;
    let file: File = serde_json::from_str(&text).map_err(|e| wrong(&e.to_string()))?;
    if file.pasture_audit_evidence == VERSION { Ok(file) } else { Err(wrong("it is of another version of this program")) }
}

/// Shows what a proven record says, and whether its verdict follows.
fn judge(app: &App, number: u64, shown: &Verified, zone: [u8; 32]) -> Outcome {
    let height = shown.header.height;
    let Some(record) = &shown.value else {
        return Err(Failure::new(
            "not-found",
            format!(
                "there is no capacity check {number}, as the validators certified at block {height}: it is kept for 15 periods after its result"
            ),
        ));
    };
    let evidence = backend::audit_evidence(record, &ZoneId(zone))
        .filter(|evidence| evidence.audit.number == number)
        .ok_or_else(|| wrong(number, "the record that the validators certified is not one of that check"))?;
    let follows = evidence.follows();
    let mut value = serde_json::json!({
        "audit": evidence.audit, "follows": follows, "verified": Evidence::of(shown).json(), "trusted": [TRUSTED],
    });
    match (&evidence.recount, value.as_object_mut()) {
        (Ok(again), Some(fields)) => {
            fields.insert("recount".into(), serde_json::to_value(again).unwrap_or_default());
        }
        (Err(why), Some(fields)) => {
            fields.insert("wrong".into(), why.to_string().into());
        }
        (_, None) => {}
    }
    app.out.either(&value, || text(&evidence));
    match (follows, &evidence.recount) {
        (Some(true), _) => Ok(Exit::Ok),
        (_, Err(why)) => Err(wrong(number, &why.to_string())),
        (Some(false), Ok(again)) => Err(wrong(
            number,
            &format!(
                "what was said makes it {}, and the ledger says {}",
                said(again.verdict),
                evidence.audit.verdict.map_or("nothing", said)
            ),
        )),
        (None, Ok(_)) => {
            Err(Failure::new("not-judged", format!("capacity check {number} has no result yet")).next("ask again when its time is over"))
        }
    }
}

fn wrong(number: u64, what: &str) -> Failure {
    Failure::new("verdict-differs", format!("capacity check {number} does not hold: {}", plainly(what)))
        .next("keep what proves it:  farm verify check NUMBER --save FILE")
}

const fn said(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::Void => "void",
        Verdict::Contradicted => "contradicted",
    }
}

fn heard(word: &Heard) -> String {
    match word {
        Heard::Nothing => "said nothing".into(),
        Heard::Both => "said two different things, which count as nothing".into(),
        Heard::Late => "no answer in time".into(),
        Heard::Other => "an answer in time, but another one than the machine put on the ledger".into(),
        Heard::Slow { took } => format!("too late: after {} ms", took.0),
        Heard::InTime { took, proven, memory } => {
            let shown = match (proven, memory) {
                (false, false) => "",
                (true, false) => ", and its GPUs were proven",
                (false, true) => ", and its memory was proven",
                (true, true) => ", and its GPUs and its memory were proven",
            };
            format!("in time: after {} ms{shown}", took.0)
        }
    }
}

fn text(evidence: &AuditEvidence) -> String {
    let audit = &evidence.audit;
    let mut table = Table::pairs();
    let row = |name: &str, value: String| [name.to_owned(), value];
    table.row(row("capacity check", format!("{} of machine {}, attempt {}", audit.number, audit.node.short(), audit.attempt)));
    table.row(row("verdict", audit.verdict.map_or("not yet", said).into()));
    for claim in &audit.gpus {
        table.row(row("GPUs asked", format!("{}x {} at {} of multiply-adds", claim.count, claim.model, each_second(claim.macs_per_s))));
    }
    if let Some(verdict) = audit.gpu_verdict {
        table.row(row("of its GPUs", said(verdict).into()));
    }
    if let Some(claim) = audit.memory {
        table.row(row("memory asked", format!("{} that no job had", display_bytes(claim.bytes()))));
    }
    if let Some(verdict) = audit.memory_verdict {
        table.row(row("of its memory", said(verdict).into()));
    }
    let Ok(again) = &evidence.recount else { return table.text() };
    let answer = match again.largest {
        Some(largest) if largest <= again.most => "signed by the machine; its hashes, counted again, show enough work",
        Some(_) => "signed by the machine; its hashes, counted again, show too little work",
        None => "none is on the ledger",
    };
    table.row(row("answer", answer.into()));
    for (witness, word) in audit.witnesses.iter().zip(&again.count.heard) {
        table.row(row(&format!("witness {}", witness.witness.short()), heard(word)));
    }
    let (seen, all) = (again.count.in_time, audit.witnesses.len() as u64);
    table.row(row("in time", format!("by {seen} of {}", count(all, "witness"))));
    table.row(row("counted again", format!("{}{}", said(again.verdict), again.voided.map_or("", |_| ", as the network set it aside"))));
    if let Some(verdict) = again.gpu_verdict {
        table.row(row("GPUs, again", format!("{}: proven to {} of {}", said(verdict), again.count.proven, count(all, "witness"))));
    }
    if let Some(verdict) = again.memory_verdict {
        table.row(row("memory, again", format!("{}: proven to {} of {}", said(verdict), again.count.memory, count(all, "witness"))));
    }
    table.row(row("taken on trust", TRUSTED.into()));
    table.text()
}
