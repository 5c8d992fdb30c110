//! Machines of a fleet: which account they earn for, without its key.
//!
//! ```text
//!  DATA/enrolled   {"account": ..., "network": ...}: written when the machine is first started with its fleet's code
//! ```
//! Guarantees: the code's secret is not kept; a machine that belongs to one account, or one network, is not taken for another by a later code.

use crate::backend::{ENROLLED, Mandate};
use crate::exit::Failure;
use crate::session::{App, Door, Session};
use pasture_store::{keys, write_atomic};
use pasture_types::grant::EnrollCode;
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, MAX_LANES, TxBody};
use pasture_types::{AccountId, Amount, AssetId, Millis, SigningKey, ZoneId};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Largest file with a code, or with what is known of an enrolment.
const MAX_FILE: u64 = 4096;
/// How long what a machine signs here stays valid.
const VALID_FOR: Millis = Millis(60_000);
/// The lane of a node's key for what is done while its machine does not run: apart from those of the machine itself.
const OWN_LANE: u8 = MAX_LANES - 1;

/// What a machine keeps of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    account: AccountId,
    network: ZoneId,
}

/// Whose fleet a machine belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Enrolled {
    /// Which account it earns for.
    pub(crate) account: AccountId,
    network: ZoneId,
    code: Option<EnrollCode>,
    key: SigningKey,
}

impl Enrolled {
    /// From the code that is given, or from what this machine keeps; `None`: it is offered by this computer's own account.
    pub(crate) fn of(code: Option<&str>, data: &Path) -> Result<Option<Self>, Failure> {
        let code = code.map(read_code).transpose()?;
        let kept = load(data)?;
        let (account, network) = match (&code, &kept) {
            (None, None) => return Ok(None),
            (Some(code), Some(kept)) if (code.account, code.zone) != (kept.account, kept.network) => {
                return Err(Failure::new(
                    "other-fleet",
                    format!(
                        "this machine belongs to account {}, and the code is of account {}",
                        kept.account.short(),
                        code.account.short()
                    ),
                )
                .next("have it leave first:  farm down")
                .next("or give it another folder:  --data DIR"));
            }
            (Some(code), _) => (code.account, code.zone),
            (None, Some(kept)) => (kept.account, kept.network),
        };
        // Who has offered this machine in the name of another account goes on doing so.
        if kept.is_none() && data.join("provider").exists() {
            return Err(Failure::new(
                "other-fleet",
                format!("the machine in {} is offered without a fleet's code already", data.display()),
            )
            .next("have it leave first:  farm down")
            .next("or give it another folder:  --data DIR"));
        }
        let key = keys::load_or_create(&data.join("node.key"))?;
        Ok(Some(Self { account, network, code, key }))
    }

    /// The same program for this machine: it speaks with the node's key, and makes no account of its own.
    pub(crate) fn app(&self, app: &App) -> App {
        app.by(self.key.clone())
    }

    /// Refuses another network than its own; else keeps whose it is.
    pub(crate) fn keep(&self, session: &Session, data: &Path) -> Result<(), Failure> {
        let met = session.status.zone;
        if self.network != met {
            let failure = format!("this machine was enrolled in network {}, not {}", self.network.short(), met.short());
            return Err(Failure::new("other-network", failure).next("choose its network:  farm context use NAME"));
        }
        let kept = serde_json::to_vec(&Kept { account: self.account, network: self.network });
        let kept = kept.map_err(|e| Failure::new("internal", e.to_string()))?;
        write_atomic(&data.join(ENROLLED), &kept).map_err(Failure::from)
    }

    /// By what right it is offered.
    pub(crate) fn mandate(&self) -> Mandate {
        Mandate::Enrolled { account: self.account, code: self.code.clone() }
    }

    /// Says something with the node's own key while its machine does not run.
    pub(crate) async fn submit(&self, session: &Session, action: Action) -> Result<(), Failure> {
        let node = self.key.node_id();
        let view = session.ask(|| session.api.node(&node)).await?;
        let body = TxBody {
            version: ENVELOPE_VERSION,
            zone: session.status.zone,
            account: self.account,
            auth: Auth::Node(node),
            lane: OWN_LANE,
            seq: view.lanes.iter().find(|(lane, _)| *lane == OWN_LANE).map_or(0, |(_, next)| *next),
            valid_until: session.time().plus(VALID_FOR),
            max_fee: session.max_fee(),
            tip: Amount::ZERO,
            fee_asset: AssetId::CREDIT,
            fee_payer: None,
            actions: vec![action],
        };
        session.deliver(&body.sign(&self.key), Door::Everybody).await
    }
}

fn load(data: &Path) -> Result<Option<Kept>, Failure> {
    let path = data.join(ENROLLED);
    let Some(text) = read_small(&path)? else { return Ok(None) };
    let damaged = |e: serde_json::Error| Failure::new("enrolment", format!("{}: {e}", path.display()));
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|e| damaged(e).next("remove that file, and start the machine with its fleet's code again"))
}

/// A code, or the file that it is in.
fn read_code(text: &str) -> Result<EnrollCode, Failure> {
    let word = match text.strip_prefix('@') {
        None => text.to_owned(),
        Some(path) => {
            let path = Path::new(path);
            read_small(path)?.ok_or_else(|| Failure::usage(format!("--enroll: there is no file {}", path.display())))?
        }
    };
    EnrollCode::parse(&word).map_err(|e| Failure::usage(format!("--enroll: {e}")).next("make one:  farm provider enroll --nodes 10"))
}

fn read_small(path: &Path) -> Result<Option<String>, Failure> {
    match std::fs::metadata(path) {
        Ok(about) if about.len() > MAX_FILE => Err(Failure::usage(format!("{} is too large to be what is expected", path.display()))),
        Ok(_) => std::fs::read_to_string(path).map(Some).map_err(|e| Failure::io("read", path, &e)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::io("read", path, &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::GrantId;

    fn code(account: u8) -> EnrollCode {
        EnrollCode { zone: ZoneId([1; 32]), grant: GrantId([2; 32]), account: AccountId([account; 32]), seed: [4; 32] }
    }

    #[test]
    fn a_machine_belongs_to_one_fleet() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        assert!(Enrolled::of(None, data).unwrap().is_none());
        assert!(!data.join("node.key").exists(), "looking makes nothing");
        let first = Enrolled::of(Some(&code(3).to_text()), data).unwrap().unwrap();
        assert_eq!(first.account, AccountId([3; 32]));
        std::fs::write(data.join(ENROLLED), serde_json::to_vec(&Kept { account: first.account, network: first.network }).unwrap()).unwrap();
        std::fs::create_dir(data.join("provider")).unwrap();
        let again = Enrolled::of(None, data).unwrap().unwrap();
        assert_eq!((again.account, again.key.node_id()), (first.account, first.key.node_id()));
        assert!(again.code.is_none(), "the secret is not kept");
        assert_eq!(Enrolled::of(Some(&code(5).to_text()), data).unwrap_err().code, "other-fleet");
        std::fs::remove_file(data.join(ENROLLED)).unwrap();
        assert_eq!(Enrolled::of(Some(&code(3).to_text()), data).unwrap_err().code, "other-fleet", "it was offered by somebody's own key");
    }

    #[test]
    fn a_code_comes_from_a_file_as_well_and_a_wrong_one_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("code");
        std::fs::write(&file, format!("{}\n", code(3).to_text())).unwrap();
        assert_eq!(read_code(&format!("@{}", file.display())).unwrap(), code(3));
        assert!(read_code("@/nowhere/at/all").unwrap_err().message.contains("there is no file"));
        assert!(read_code("pasture-invite-00").unwrap_err().message.contains("not a fleet's code"));
        std::fs::write(&file, "x".repeat(5_000)).unwrap();
        assert!(read_code(&format!("@{}", file.display())).unwrap_err().message.contains("too large"));
    }
}
