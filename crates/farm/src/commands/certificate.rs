//! `farm certificate`: signing a statement about somebody's machines, putting one about ours on the ledger, taking our word back.
//!
//! Guarantees: what is signed is shown in words; a certificate is one word that anybody may read and that only its subject's owner
//! (or an issuer that the network lists) can put on the ledger. It does not judge whether a statement is true.

use crate::args::{CertificateArgs, CertificateCommand, CertificateKind, IssueArgs};
use crate::commands::deposit::{find, one_machine};
use crate::exit::{Exit, Failure, Outcome};
use crate::render::number::duration;
use crate::session::{App, Session};
use crate::words;
use pasture_types::Millis;
use pasture_types::codec;
use pasture_types::credential::{Assertion, CredentialAction, CredentialKind, IssuerSignature, MAX_CREDENTIAL_LIFE, Statement, Subject};
use pasture_types::spec::parse_duration;
use pasture_types::tx::Action;

/// What a certificate begins with.
const PREFIX: &str = "pasture-certificate-";
/// Largest certificate in bytes: a statement with the longest region, and a signature.
const MAX_BYTES: usize = 1024;
/// An issuer's clock may be behind the network's.
const ISSUED_BEFORE: Millis = Millis(5_000);

/// Runs the command.
pub(crate) async fn run(app: &App, args: &CertificateArgs) -> Outcome {
    match &args.command {
        CertificateCommand::Issue(args) => issue(app, args).await,
        CertificateCommand::Put { code } => put(app, code).await,
        CertificateCommand::Revoke { of, kind, machine } => revoke(app, of, *kind, *machine).await,
    }
}

async fn subject(session: &Session, of: &str, machine: bool) -> Result<Subject, Failure> {
    Ok(if machine { Subject::Node(one_machine(session, of).await?) } else { Subject::Provider(find(session, of).await?) })
}

fn about(subject: &Subject) -> String {
    match subject {
        Subject::Provider(provider) => format!("all machines of provider {}", provider.short()),
        Subject::Node(node) => format!("machine {}", node.short()),
    }
}

fn claim(args: &IssueArgs) -> Result<Assertion, Failure> {
    if let Some(tier) = args.tier {
        return Ok(Assertion::DataCentreTier { tier });
    }
    if let Some(grams_per_kwh) = args.carbon {
        return Ok(Assertion::Carbon { grams_per_kwh });
    }
    if let Some(region) = &args.region {
        return Ok(Assertion::Region { region: region.clone(), level: args.level });
    }
    let Some(path) = &args.report else { return Err(Failure::usage("say what is certified: --tier, --carbon, --region or --report")) };
    let report = std::fs::read(path).map_err(|e| Failure::io("read", path, &e))?;
    Ok(Assertion::Audit { report: pasture_types::blob::hash(&report), level: args.level })
}

async fn issue(app: &App, args: &IssueArgs) -> Outcome {
    let claim = claim(args)?;
    let life = parse_duration(&args.expires).map_err(|e| Failure::usage(format!("--expires: {e}")))?;
    if life.0.saturating_add(ISSUED_BEFORE.0) > MAX_CREDENTIAL_LIFE.0 {
        return Err(Failure::usage(format!("--expires: less than {}", duration(MAX_CREDENTIAL_LIFE))));
    }
    let session = Session::open(app).await?;
    session.ensure_account().await?;
    let subject = subject(&session, &args.of, args.machine).await?;
    let now = session.time();
    let issued = pasture_types::Timestamp(now.0.saturating_sub(ISSUED_BEFORE.0));
    let statement = Statement { subject, claim, issuer: session.account(), issued, expires: now.plus(life) };
    let key = session.owner("a certificate is signed by the account itself")?;
    let signature = key.sign(&statement.digest(&session.status.zone));
    let code = to_text(&statement, &IssuerSignature { key: key.public(), signature });
    let value = serde_json::json!({"certificate": code, "id": statement.id(), "statement": statement});
    session.out.either(&value, || {
        format!(
            "{code}\n\ncertifies of {}: {}, for {}\nits owner puts it on the ledger:  farm certificate put CERTIFICATE",
            about(&statement.subject),
            words::certificate(&statement.claim),
            duration(life)
        )
    });
    Ok(Exit::Ok)
}

async fn put(app: &App, code: &str) -> Outcome {
    let (statement, signature) = from_text(code)?;
    let session = Session::open(app).await?;
    let action = CredentialAction::Put { statement: Box::new(statement.clone()), signatures: vec![signature] };
    session.submit(vec![Action::Credential(action)]).await?;
    let value = serde_json::json!({"id": statement.id(), "statement": statement});
    session.out.either(&value, || {
        let (what, who) = (words::certificate(&statement.claim), statement.issuer.short());
        format!("{who} certifies of {}: {what}, for {} more", about(&statement.subject), duration(statement.expires.since(session.time())))
    });
    Ok(Exit::Ok)
}

async fn revoke(app: &App, of: &str, kind: CertificateKind, machine: bool) -> Outcome {
    let session = Session::open(app).await?;
    let subject = subject(&session, of, machine).await?;
    let kind = match kind {
        CertificateKind::Tier => CredentialKind::DataCentreTier,
        CertificateKind::Carbon => CredentialKind::Carbon,
        CertificateKind::Region => CredentialKind::Region,
        CertificateKind::Inspection => CredentialKind::Audit,
    };
    session.submit(vec![Action::Credential(CredentialAction::Revoke { subject, kind })]).await?;
    let value = serde_json::json!({"subject": subject, "kind": kind});
    session.out.either(&value, || format!("what you certified of {} counts no more, whoever holds it", about(&subject)));
    Ok(Exit::Ok)
}

fn to_text(statement: &Statement, signature: &IssuerSignature) -> String {
    format!("{PREFIX}{}", hex::encode(codec::encode(&(statement.clone(), *signature))))
}

fn from_text(text: &str) -> Result<(Statement, IssuerSignature), Failure> {
    let wrong = |why: String| Failure::usage(format!("this is not a certificate: {why}"));
    let digits = text.trim().strip_prefix(PREFIX).ok_or_else(|| wrong(format!("it does not begin with {PREFIX}")))?;
    if digits.len() > 2 * MAX_BYTES {
        return Err(wrong("it is too long".into()));
    }
    let bytes = hex::decode(digits).map_err(|_| wrong("it is mistyped or incomplete".into()))?;
    codec::decode(&bytes, MAX_BYTES).map_err(|_| wrong("it is mistyped or incomplete".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::{AccountId, SigningKey, Timestamp, ZoneId};

    #[test]
    fn a_certificate_survives_being_written_down_and_no_slip_does() {
        let key = SigningKey::from_seed([4; 32]);
        let statement = Statement {
            subject: Subject::Provider(AccountId([1; 32])),
            claim: Assertion::Region { region: "eu-west".into(), level: 2 },
            issuer: key.account(),
            issued: Timestamp(5),
            expires: Timestamp(9),
        };
        let signature = IssuerSignature { key: key.public(), signature: key.sign(&statement.digest(&ZoneId([2; 32]))) };
        let text = to_text(&statement, &signature);
        assert_eq!(from_text(&format!(" {text}\n")).unwrap(), (statement, signature));
        for bad in [&text[1..], &text[..text.len() - 2], &text[..text.len() - 1], "pasture-certificate-", "hello"] {
            assert_eq!(from_text(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }
}
