//! A machine leaves its network: no more jobs, the last ones to their end, the deposit on its way back, nothing kept.
//!
//! ```text
//!  pause -> last job over -> the ledger settles -> deposit back -> containers, networks, volumes, images removed -> files removed
//! ```
//! Guarantees: nothing is removed before the last lease is over and what it left is on the ledger; the deposit is asked for in
//! full once no lease needs it, else as far as it is free, and what was not is said; a machine of an account that offers others
//! as well takes no deposit back, since it is theirs too. What could not be removed is said by name. An interrupted leaving is
//! begun again by asking again: until the files go, the machine merely takes no jobs.

use crate::NodeError;
use crate::control::{Answer, LeaveTerms, WaitsFor, progress};
use pasture_api::{ApiClient, DepositView, Leaving};
use pasture_provider::{Cleared, OfferState, Provider, ProviderHandle, ShutdownMode};
use pasture_types::genesis::Params;
use pasture_types::{AccountId, Amount, Millis, NodeId};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// What is added to the time in which the ledger settles: blocks, and a machine that is busy.
const SETTLEMENT_SPARE: Millis = Millis(30_000);

/// What became of a machine that left.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Left {
    /// The node that was.
    pub node: NodeId,
    /// The account that earned.
    pub account: AccountId,
    /// Its free credits.
    pub balance: Amount,
    /// The deposit, and what is on its way back; `None` if the network does not say.
    pub deposit: Option<DepositView>,
    /// What was asked back now.
    pub asked_back: Amount,
    /// Why not all of it was asked back, if so.
    pub deposit_stays: Option<String>,
    /// What went from the engine.
    pub cleared: Cleared,
    /// Files and folders that are left, with the reason.
    pub kept_files: Vec<(PathBuf, String)>,
}

impl Left {
    /// Its deposit on its way back.
    #[must_use]
    pub fn on_its_way(&self) -> &[Leaving] {
        self.deposit.as_ref().map_or(&[], |d| &d.leaving)
    }
}

/// Leaves with a running provider. On an error it still runs and takes no jobs.
pub(crate) async fn depart(
    machine: &ProviderHandle,
    client: &ApiClient,
    terms: LeaveTerms,
    tell: &mpsc::Sender<Answer>,
) -> Result<Left, NodeError> {
    match machine.pause(terms.jobs_end_in).await? {
        OfferState::Withdrawn => {}
        OfferState::Refused(why) => return Err(NodeError::Machine(format!("the network refuses to take the offer away: {why}"))),
        OfferState::Stands | OfferState::Pending => {
            return Err(NodeError::Machine("the network does not answer; the machine takes no jobs, ask again once it is back".into()));
        }
    }
    machine.idle(|jobs| progress(tell, WaitsFor::Jobs(jobs))).await;
    let patience = settlement(&client.status().await?.params);
    progress(tell, WaitsFor::Settlement(patience));
    let settled = machine.settled(Duration::from_millis(patience.0)).await;
    let (asked_back, deposit_stays) = take_back(machine, client, terms, settled).await?;
    let view = machine.account_view().await?;
    let balance = view.as_ref().map_or(Amount::ZERO, |v| v.balance);
    let deposit = view.and_then(|v| v.standing).map(|d| *d);
    let cleared = machine.clear().await?;
    Ok(Left { node: machine.node(), account: machine.account(), balance, deposit, asked_back, deposit_stays, cleared, kept_files: vec![] })
}

/// The longest that a lease which is over is still undecided (`docs/specs/settlement.md` §2), and some.
fn settlement(p: &Params) -> Millis {
    let periods = p.objection_epochs.saturating_add(p.heartbeat_grace_epochs).saturating_add(2);
    Millis(p.epoch.0.saturating_mul(periods).saturating_add(SETTLEMENT_SPARE.0))
}

/// Asks for the deposit as far as it is free: how much, and why not for the rest.
async fn take_back(
    machine: &ProviderHandle,
    client: &ApiClient,
    terms: LeaveTerms,
    settled: bool,
) -> Result<(Amount, Option<String>), NodeError> {
    let Some(deposit) = machine.account_view().await?.and_then(|v| v.standing) else { return Ok((Amount::ZERO, None)) };
    if deposit.own.is_zero() {
        return Ok((Amount::ZERO, None));
    }
    if machine.is_enrolled() {
        return Ok((Amount::ZERO, Some("it stands for all machines of its account, whose key is elsewhere".into())));
    }
    if terms.keep_deposit {
        return Ok((Amount::ZERO, Some("you asked to keep it".into())));
    }
    let others = client.offers().await?.into_iter().filter(|o| o.provider == machine.account() && o.node != machine.node()).count();
    if others > 0 {
        return Ok((Amount::ZERO, Some("it stands for other machines of yours, too".into())));
    }
    let free = if settled { deposit.own } else { deposit.own.min(deposit.stands().saturating_sub(deposit.in_use)) };
    let why = (free < deposit.own).then(|| "jobs that are over still need it".to_owned());
    if free.is_zero() {
        return Ok((free, why));
    }
    match machine.unbond(free).await {
        Ok(()) => Ok((free, why)),
        Err(e) => Ok((Amount::ZERO, Some(e.to_string()))),
    }
}

/// Ends the provider and removes its files.
pub(crate) async fn remove(provider: Provider, data: &Path, mut left: Left) -> Left {
    provider.shutdown(ShutdownMode::Detach).await;
    left.kept_files = remove_files(data);
    left
}

/// Removes what a machine keeps in its directory, and the directory if nothing else is in it. What stays, with the reason.
fn remove_files(data: &Path) -> Vec<(PathBuf, String)> {
    let mut stays = vec![];
    for name in ["provider", "runtime", "node.key", crate::up::LEARNED, crate::up::ENROLLED] {
        let path = data.join(name);
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        match removed {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => stays.push((path, e.to_string())),
            _ => {}
        }
    }
    match std::fs::remove_dir(data) {
        Err(e) if e.kind() == std::io::ErrorKind::DirectoryNotEmpty && stays.is_empty() => {
            stays.push((data.into(), "other files are in it".into()));
        }
        _ => {}
    }
    stays
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_machines_goes() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("node");
        let make = || {
            std::fs::create_dir_all(data.join("provider/leases/x")).unwrap();
            std::fs::create_dir_all(data.join("runtime")).unwrap();
            std::fs::write(data.join("node.key"), "secret").unwrap();
            std::fs::write(data.join("network"), "whom it knows").unwrap();
        };
        make();
        assert_eq!(remove_files(&data), []);
        assert!(!data.exists());
        make();
        std::fs::write(data.join("mine.txt"), "x").unwrap();
        assert_eq!(remove_files(&data), [(data.clone(), "other files are in it".to_owned())]);
        let names: Vec<_> = std::fs::read_dir(&data).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["mine.txt"], "what is somebody else's stays, and only that");
    }
}
