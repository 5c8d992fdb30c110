//! The only door to the node: running one, and what this machine has.
//!
//! Guarantees: a node's failure becomes ours, in plain words. Nothing else of this crate names `pasture_node`.

use crate::exit::Failure;
use crate::words::plainly;
use pasture_api::ApiClient;
use pasture_light::Checkpoint;
use pasture_net::{Doorway, Ticket};
use pasture_node::{LocalZone, NetworkFile, NodeError};
pub(crate) use pasture_node::{Validator, ValidatorOptions};
use pasture_rt::{Shutdown, ShutdownToken, SystemClock};
use pasture_store::backup::Manifest;
use pasture_types::genesis::Genesis;
use pasture_types::validator::ValidatorParams;
use pasture_types::{AccountId, Millis, NodeId, SigningKey, Timestamp, ZoneId};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::oneshot;

pub(crate) use pasture_node::About as BackupAbout;
pub(crate) use pasture_node::control::{Answer, Checked, LeaveTerms, Load, MachineStatus, Request, Talk, Used, WaitsFor, is_running};
pub(crate) use pasture_node::host_of;
pub(crate) use pasture_node::{AcmeOptions, CertificateOptions, IngressOptions, TlsOptions, learn, with_learned};
pub(crate) use pasture_node::{
    Announcement, Asked, AuditEvidence, BlobSettings, Blocked, Capabilities, Committed, DevOptions, DevReady, ENROLLED, EgressFilter,
    Failpoint, Gauge, GpuOffer, GpuSupport, Heard, Imported, Join, JoinStep, Launch, Left, LocalProvider, LocalValidator, Machine, Mandate,
    MissingDeposit, Moved, OfferLimits, OfferState, Paused, Place, Priority, ProductEngine, PublicOptions, RecordKind, Registration,
    ReplayReport, Restored, SUGGESTED_GPU_RATE, Scope, SimulatedGpu, Suggestion, Tenancy, UpOptions, UpReady, VolumeOptions,
    audit_evidence, audit_key, suggested_rates, unheld,
};
pub(crate) use pasture_node::{CheckError, Checker, MAX_FOLLOWED, Source, Trust};

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        // Each error says its own layer only; people need the cause as well.
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(e) = cause {
            let said = e.to_string();
            if !text.ends_with(&said) {
                text = format!("{text}: {said}");
            }
            cause = e.source();
        }
        let text = plainly(&text);
        if error.is_no_room() {
            return Failure::new("no-room", text).next("see what takes the room:  df -h, du -xh --max-depth 2 FOLDER");
        }
        if error.is_unwritten() {
            return Failure::new("disk-failed", text).next("see what the system says of the disk:  dmesg | tail");
        }
        Self::new("node", text)
    }
}

/// Runs a local network until shutdown.
pub(crate) async fn dev(options: DevOptions, shutdown: ShutdownToken, ready: oneshot::Sender<DevReady>) -> Result<(), Failure> {
    open_more_files();
    pasture_node::dev(options, shutdown, ready).await.map_err(Failure::from)
}

/// Lets this process open as many files as it may: the ledger's files stay open, and there are more of them each day.
fn open_more_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it may not, `pasture_process_max_open_files` tells what there is.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// A way to the nodes of a ticket's network, for as long as this process lives.
pub(crate) fn door_to(ticket: &Ticket, key: SigningKey) -> Result<Doorway, Failure> {
    pasture_node::door_to(ticket, key, Shutdown::new().token()).map_err(Failure::from)
}

/// The name of a ticket's network and whom it began with, as it shows itself, if its hash is the ticket's.
pub(crate) async fn joined(client: &ApiClient, zone: &ZoneId) -> Result<(String, Checkpoint), Failure> {
    let (name, validators) = pasture_node::joined_genesis(client, zone).await?;
    Ok((name, Checkpoint::genesis(validators, 0, 0)))
}

/// Runs a validator of a folder that belongs to a network.
pub(crate) async fn validator(data: &Path, options: ValidatorOptions) -> Result<Validator, Failure> {
    if LocalZone::load(data)?.is_none() {
        return Err(Failure::usage(format!("{} belongs to no network yet", data.display()))
            .next("put it into one:  farm validator join --data DIR --genesis FILE --network FILE")
            .next("or try one out:  farm dev --validators 4"));
    }
    let dir = pasture_store::DataDir::open(data).map_err(NodeError::from)?;
    open_more_files();
    Validator::start(dir.path(), options).await.map_err(Failure::from)
}

/// Gives a validator's folder its place in a network; `address`: where the others reach it, if the file does not say; `checkpoint`: whom it
/// knows besides the founders.
pub(crate) fn settle(
    data: &Path,
    (genesis, network): (&Path, &Path),
    address: Option<SocketAddr>,
    checkpoint: Option<&Checkpoint>,
) -> Result<(Genesis, Place), Failure> {
    let genesis = pasture_node::genesis_in_file(genesis)?;
    let addresses = NetworkFile::read(network)?.ok_or_else(|| Failure::usage(format!("there is no file {}", network.display())))?;
    let place = pasture_node::settle(data, &genesis, &addresses, address, checkpoint)?;
    Ok((genesis, place))
}

/// The genesis and the addresses of a network that is to be, the addresses as a file's text.
pub(crate) fn make_genesis(launch: &Launch, rules: ValidatorParams) -> Result<(Genesis, String), Failure> {
    let (genesis, network) = launch.make_with(&SystemClock, rules)?;
    Ok((genesis, network.text()?))
}

/// Reads a genesis.
pub(crate) fn genesis_in_file(path: &Path) -> Result<Genesis, Failure> {
    Ok(pasture_node::genesis_in_file(path)?)
}

/// Writes a genesis.
pub(crate) fn write_genesis(path: &Path, genesis: &Genesis) -> Result<(), Failure> {
    Ok(pasture_node::write_genesis(path, genesis)?)
}

/// Makes a validator's keys and says what the others must know.
pub(crate) fn announce(data: &Path, address: SocketAddr) -> Result<Announcement, Failure> {
    Ok(pasture_node::announce(data, address)?)
}

/// For how long a validator that was restored takes part in no new term.
pub(crate) fn waits_with_votes(data: &Path) -> Result<Option<Millis>, Failure> {
    let now = pasture_types::Timestamp(pasture_rt::Clock::now_ms(&SystemClock));
    let left = pasture_node::votes_after(data)?.map(|after| after.since(now));
    Ok(left.filter(|left| left.0 > 0))
}

/// Copies a node's folder into a file.
pub(crate) fn backup(
    data: &Path,
    file: &Path,
    scope: Scope,
    passphrase: &[u8],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Manifest<BackupAbout>, Failure> {
    pasture_node::backup(data, file, scope, passphrase, &SystemClock, progress).map_err(|e| backup_failure(file, e))
}

/// Puts a backup into a folder.
pub(crate) fn restore(file: &Path, data: &Path, passphrase: &[u8], progress: &mut dyn FnMut(u64, u64)) -> Result<Restored, Failure> {
    pasture_node::restore(file, data, passphrase, &SystemClock, progress).map_err(|e| backup_failure(file, e))
}

fn backup_failure(file: &Path, error: NodeError) -> Failure {
    use pasture_store::backup::BackupError as E;
    let text = error.to_string();
    let of_file = |code: &str, next: &str| Failure::new(code, format!("{}: {text}", file.display())).next(next);
    match error {
        NodeError::Backup(E::Passphrase) => of_file("wrong-passphrase", "try again with the passphrase that it was made with"),
        NodeError::Backup(E::There(_)) => Failure::new("exists", text).next("name another one, or move it away"),
        NodeError::Backup(E::Foreign | E::Truncated | E::Damaged(_)) => of_file("bad-backup", "take another copy of it"),
        NodeError::Backup(E::Odd { .. } | E::TooMuch(_) | E::Changing(_)) => {
            Failure::new("bad-backup", text).next("only what a node itself wrote belongs in its folder: move the rest elsewhere")
        }
        other => other.into(),
    }
}

/// What a validator's registration carries besides the deposit.
pub(crate) fn registration(data: &Path, zone: &ZoneId, operator: AccountId) -> Result<Registration, Failure> {
    Ok(pasture_node::registration(data, zone, operator)?)
}

/// The public key of a folder's validator.
pub(crate) fn validator_key(data: &Path) -> Result<NodeId, Failure> {
    Ok(pasture_node::validator_key(data)?)
}

/// The key of the operator's account in a validator's folder.
pub(crate) fn operator_key(data: &Path) -> Result<SigningKey, Failure> {
    Ok(pasture_node::operator_key(data)?)
}

/// How many validators make a block of a network final.
pub(crate) fn quorum(genesis: &Genesis) -> Result<usize, Failure> {
    Ok(pasture_node::trusted_by(genesis)?.quorum())
}

/// Offers this machine until shutdown.
pub(crate) async fn up(options: UpOptions, shutdown: ShutdownToken, ready: oneshot::Sender<UpReady>) -> Result<(), Failure> {
    pasture_node::up(options, shutdown, ready).await.map_err(Failure::from)
}

/// The lines of an offer with these GPUs.
pub(crate) async fn gpu_lines(offer: Option<&GpuOffer>, data: &Path) -> Result<Vec<pasture_types::GpuLine>, Failure> {
    match offer {
        Some(offer) => Ok(pasture_node::look_at_gpus(offer, data).await?.lines()),
        None => Ok(vec![]),
    }
}

/// Has a machine leave that does not run now; `None`: shutdown was requested meanwhile.
pub(crate) async fn leave(
    options: UpOptions,
    terms: LeaveTerms,
    tell: tokio::sync::mpsc::Sender<Answer>,
    shutdown: ShutdownToken,
) -> Result<Option<Left>, Failure> {
    pasture_node::leave(options, terms, tell, shutdown).await.map_err(Failure::from)
}

/// Asks the machine with this directory; `None` if none runs.
pub(crate) async fn ask(data: &Path, request: &Request) -> Result<Option<Talk>, Failure> {
    pasture_node::control::ask(data, request).await.map_err(Failure::from)
}

/// Turns an account away from a machine that does not run, or no longer.
pub(crate) fn block_stopped(data: &Path, account: AccountId, blocked: Option<Blocked>) -> Result<(), Failure> {
    pasture_node::block_stopped(&data.join("provider"), account, blocked).map_err(|e| Failure::from(NodeError::from(e)))
}

/// The accounts that get no job on a machine.
pub(crate) fn blocked(data: &Path) -> Result<Vec<Blocked>, Failure> {
    pasture_node::blocked(&data.join("provider")).map_err(Failure::from)
}

/// Who had jobs on a machine between two moments.
pub(crate) fn tenancies(data: &Path, from: Timestamp, to: Timestamp) -> Result<Vec<Tenancy>, Failure> {
    pasture_node::tenancies(&data.join("provider"), from, to).map_err(Failure::from)
}

/// Whether a machine that does not run takes jobs at its next start.
pub(crate) fn pause_stopped(data: &Path, wish: Option<Paused>) -> Result<(), Failure> {
    pasture_node::pause_stopped(&data.join("provider"), wish).map_err(Failure::from)
}

/// Executes a stopped network's blocks again.
pub(crate) fn replay(data: &Path) -> Result<ReplayReport, Failure> {
    pasture_node::ledger_replay(data).map_err(Failure::from)
}

/// Exports a stopped network's ledger.
pub(crate) fn export(data: &Path, file: &Path) -> Result<Moved, Failure> {
    pasture_node::export_stopped(data, file).map_err(Failure::from)
}

/// Checks an exported ledger; `progress` is told of bytes.
pub(crate) fn verify_export(file: &Path, progress: &mut dyn FnMut(u64)) -> Result<Moved, Failure> {
    pasture_node::verify_export(file, progress).map_err(Failure::from)
}

/// Puts an exported ledger into a folder; `progress` is told of bytes.
pub(crate) fn import(file: &Path, data: &Path, keys: Option<&Path>, progress: &mut dyn FnMut(u64)) -> Result<Imported, Failure> {
    pasture_node::import(file, data, keys, progress).map_err(Failure::from)
}

/// Whom a founding file or a checkpoint names.
pub(crate) fn trusted_in(path: &Path) -> Result<Checkpoint, Failure> {
    pasture_node::trusted_in_file(path).map_err(Failure::from)
}

/// Writes a checkpoint for somebody else.
pub(crate) fn write_checkpoint(path: &Path, checkpoint: &Checkpoint) -> Result<(), Failure> {
    pasture_node::write_checkpoint(path, checkpoint).map_err(Failure::from)
}

/// What is offered of this machine unless its owner says otherwise.
pub(crate) async fn half_of(disk: &Path) -> pasture_types::Resources {
    pasture_node::half_of(disk).await
}

/// Looks at this machine; `disk` lies on the disk that counts.
pub(crate) async fn detect(disk: &Path) -> Machine {
    pasture_node::detect(disk).await
}

/// Measures this machine; `disk` lies on the disk that counts, `step` is told what is measured next.
pub(crate) async fn gauge(disk: &Path, step: &mut (dyn FnMut(&'static str) + Send)) -> std::io::Result<Gauge> {
    pasture_node::gauge(disk, step).await
}

/// What to ask for a machine with such a core, by what others than `own` ask.
pub(crate) async fn suggest(client: &ApiClient, own: &AccountId, core_hashes: u64) -> Result<Suggestion, Failure> {
    let seen = pasture_node::observed(client, own).await?;
    Ok(pasture_node::suggest(suggested_rates(), &seen, core_hashes))
}

/// Asks the container engine what it can do.
pub(crate) async fn engine(socket: Option<&Path>, scratch: &Path) -> Result<Capabilities, Failure> {
    pasture_node::engine_probe(socket, scratch).await.map_err(Failure::from)
}

/// Whether jobs can be made to give way on this machine.
pub(crate) async fn engine_gives_way(socket: Option<&Path>, scratch: &Path) -> Result<bool, Failure> {
    pasture_node::engine_gives_way(socket, scratch).await.map_err(Failure::from)
}

/// A hook that kills this process, as a crash would, when a point is passed for the count-th time: `name:count`.
pub(crate) fn failpoint(asked: Option<&str>) -> Result<Option<Failpoint>, Failure> {
    let Some(text) = asked else { return Ok(None) };
    let wrong = || Failure::usage(format!("FARM_FAILPOINT: `{text}` is not NAME:COUNT"));
    let (name, count) = text.split_once(':').ok_or_else(wrong)?;
    let (name, count): (String, u32) = (name.into(), count.parse().map_err(|_| wrong())?);
    let passed = AtomicU32::new(0);
    Ok(Some(Arc::new(move |point: &'static str| {
        if point == name && passed.fetch_add(1, Ordering::Relaxed) + 1 == count {
            // Should the signal fail there is no way to crash; the test then waits in vain, which it reports.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failpoint_is_a_name_and_a_count() {
        assert!(failpoint(None).unwrap().is_none());
        assert!(failpoint(Some("a.b:2")).unwrap().is_some());
        for bad in ["a", "a:", "a:x"] {
            assert_eq!(failpoint(Some(bad)).err().unwrap().exit.code(), 2, "{bad}");
        }
    }
}
