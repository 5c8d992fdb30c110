//! Where the user's volumes are, and that a job goes to the machine that has those it needs.
//!
//! Guarantees: machines are asked that the ledger says this account had jobs on, and those that we noted ourselves, at most
//! [`MAX_ASKED`]; one that does not answer is named, never taken for one that has nothing. A job whose volume is on a machine is ordered
//! from that machine and no other; where that cannot be, it is said before anything is sent. A note that cannot be read means nothing is
//! known, never that a job cannot run.

use crate::exit::Failure;
use crate::session::Session;
use futures::StreamExt as _;
use pasture_api::ApiError;
use pasture_api::client::AccountClient;
use pasture_api::volumes::VolumeView;
use pasture_store::RecordFile;
use pasture_types::keep::{DEFAULT_VOLUME_BYTES, VolumeMount};
use pasture_types::market::{Constraint, MAX_CONSTRAINTS};
use pasture_types::resources::display_bytes;
use pasture_types::spec::CheckedSpec;
use pasture_types::{NodeId, ZoneId};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// Most machines that are asked: the newest.
const MAX_ASKED: usize = 64;
/// How many are asked at once.
const AT_ONCE: usize = 16;
/// How long one may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Most volumes that are noted.
const MAX_NOTED: usize = 256;
const FILE: &str = "volumes.json";
const NOT_FOUND: u16 = 404;
/// A machine that keeps no volumes.
const UNABLE: u16 = 501;

#[derive(Default, Serialize, Deserialize)]
struct Notes {
    volumes: Vec<Note>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    network: ZoneId,
    node: NodeId,
    name: String,
}

fn notes(folder: &Path) -> Notes {
    RecordFile::<Notes>::new(folder.join(FILE)).load().ok().flatten().unwrap_or_default()
}

fn write(folder: &Path, notes: &Notes) {
    let _ = crate::config::make_private(folder).map(|()| RecordFile::new(folder.join(FILE)).save(notes));
}

/// Notes on which machine a job's volumes are; failing to do so is no reason to fail.
pub(crate) fn note(session: &Session, node: NodeId, volumes: &[VolumeMount]) {
    if volumes.is_empty() {
        return;
    }
    let mut kept = notes(&session.paths.data_dir);
    for volume in volumes {
        let new = Note { network: session.status.zone, node, name: volume.name.clone() };
        kept.volumes.retain(|n| *n != new);
        kept.volumes.push(new);
    }
    let surplus = kept.volumes.len().saturating_sub(MAX_NOTED);
    kept.volumes.drain(..surplus);
    write(&session.paths.data_dir, &kept);
}

/// Forgets a volume that is gone.
pub(crate) fn forget(session: &Session, node: NodeId, name: &str) {
    let mut kept = notes(&session.paths.data_dir);
    let gone = Note { network: session.status.zone, node, name: name.to_owned() };
    kept.volumes.retain(|n| *n != gone);
    write(&session.paths.data_dir, &kept);
}

/// A volume and where it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Placed {
    /// On which machine.
    pub(crate) node: NodeId,
    /// The volume.
    #[serde(flatten)]
    pub(crate) view: VolumeView,
}

/// What machines said.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) volumes: Vec<Placed>,
    /// Those that did not answer.
    pub(crate) silent: Vec<NodeId>,
}

/// The data plane of our account on a machine.
pub(crate) fn client(session: &Session, node: NodeId) -> AccountClient {
    AccountClient::new(session.api.clone(), session.key.clone(), session.account(), node, crate::session::now_ms)
}

/// Our volumes on one machine; `None` if it does not answer.
async fn on(session: &Session, node: NodeId) -> Result<Option<Vec<VolumeView>>, Failure> {
    match tokio::time::timeout(ANSWER_WITHIN, client(session, node).volumes()).await {
        Ok(Ok(volumes)) => Ok(Some(volumes)),
        Ok(Err(ApiError::Problem(p))) if matches!(p.status, NOT_FOUND | UNABLE) => Ok(Some(vec![])),
        Ok(Err(e)) if !e.is_transient() => Err(e.into()),
        Ok(Err(_)) | Err(_) => Ok(None),
    }
}

/// Our volumes on this machine, or wherever we may have some.
pub(crate) async fn find(session: &Session, only: Option<NodeId>) -> Result<Found, Failure> {
    let nodes = match only {
        Some(node) => vec![node],
        None => candidates(session).await?,
    };
    let asked = futures::stream::iter(nodes.into_iter().map(|node| async move { (node, on(session, node).await) }));
    let answers: Vec<_> = asked.buffered(AT_ONCE).collect().await;
    let mut found = Found::default();
    for (node, answer) in answers {
        match answer? {
            Some(volumes) => found.volumes.extend(volumes.into_iter().map(|view| Placed { node, view })),
            None => found.silent.push(node),
        }
    }
    Ok(found)
}

async fn candidates(session: &Session) -> Result<Vec<NodeId>, Failure> {
    let noted = notes(&session.paths.data_dir).volumes.into_iter().rev().filter(|n| n.network == session.status.zone).map(|n| n.node);
    let mut nodes: Vec<NodeId> = vec![];
    let (jobs, _) = session.jobs().await?;
    for node in noted.chain(jobs.into_iter().filter_map(|j| j.lease.map(|l| l.node))) {
        if nodes.len() < MAX_ASKED && !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    Ok(nodes)
}

/// Which machine a job has to go to, and what its volumes are; the lease pays for their disk while it has them.
pub(crate) async fn place(session: &Session, spec: &mut CheckedSpec) -> Result<Option<NodeId>, Failure> {
    if spec.volumes.is_empty() {
        return Ok(None);
    }
    let found = find(session, None).await?;
    let noted = notes(&session.paths.data_dir).volumes;
    let noted: Vec<Note> = noted.into_iter().filter(|n| n.network == session.status.zone).collect();
    let node = settle(&mut spec.volumes, &found, &noted)?;
    if !found.silent.is_empty() && spec.volumes.iter().any(|v| !found.volumes.iter().any(|p| p.view.name == v.name)) {
        let machines = if found.silent.len() == 1 { "a machine".to_owned() } else { format!("{} machines", found.silent.len()) };
        session.out.note(&format!("! {machines} of earlier jobs did not answer: a volume of the same name there is not this one"));
    }
    pay_for(spec);
    if let Some(node) = node {
        if spec.constraints.len() >= MAX_CONSTRAINTS {
            return Err(Failure::new("spec", "there is no room for a further condition, the machine that has the volume")
                .next("leave one of the job's constraints out"));
        }
        spec.constraints.push(Constraint::Node(node));
    }
    Ok(node)
}

/// The job's disk holds its volumes, too.
fn pay_for(spec: &mut CheckedSpec) {
    let bytes = spec.volumes.iter().fold(0u64, |sum, v| sum.saturating_add(v.bytes));
    spec.resources.disk_bytes = spec.resources.disk_bytes.saturating_add(bytes);
}

/// What [`place`] made of a job before, once more: its manifest is the same then.
pub(crate) fn settled(spec: &mut CheckedSpec, volumes: Vec<VolumeMount>) {
    spec.volumes = volumes;
    pay_for(spec);
}

/// Fills in what is known of each volume, and gives the one machine that has those that exist.
fn settle(volumes: &mut [VolumeMount], found: &Found, noted: &[Note]) -> Result<Option<NodeId>, Failure> {
    let mut at: Option<(NodeId, String)> = None;
    for volume in volumes {
        let name = volume.name.clone();
        let mut there = found.volumes.iter().filter(|p| p.view.name == name);
        let Some(placed) = there.next() else {
            if let Some(n) = noted.iter().find(|n| n.name == name && found.silent.contains(&n.node)) {
                return Err(Failure::new(
                    "volume-away",
                    format!("volume `{name}` is on machine {}, which does not answer now; nothing was sent", n.node.short()),
                )
                .next("try again when it is back")
                .next("or use another name, for a new volume elsewhere"));
            }
            if volume.read_only {
                return Err(Failure::new("no-volume", format!("there is no volume `{name}` to read")).next("see yours:  farm volume ls"));
            }
            if volume.bytes == 0 {
                volume.bytes = DEFAULT_VOLUME_BYTES;
            }
            continue;
        };
        if let Some(other) = there.next() {
            return Err(Failure::new(
                "volume-twice",
                format!("there is a volume `{name}` on machine {} and on machine {}", placed.node.short(), other.node.short()),
            )
            .next(format!("remove the one that you do not want:  farm volume rm {name} --node {}", other.node.short())));
        }
        if let Some(lease) = placed.view.used_by.first().filter(|_| !(volume.read_only && placed.view.read_only)) {
            return Err(Failure::new("in-use", format!("volume `{name}` is in use by lease {}", lease.short()))
                .next("wait for that job, or stop it; see which:  farm ps"));
        }
        if let Some((node, other)) = at.as_ref().filter(|(node, _)| *node != placed.node) {
            return Err(Failure::new(
                "volumes-apart",
                format!("volume `{other}` is on machine {}, volume `{name}` on machine {}", node.short(), placed.node.short()),
            )
            .next("a job has one machine: use one of them"));
        }
        if !volume.read_only {
            if volume.bytes != 0 && volume.bytes != placed.view.bytes {
                return Err(Failure::new(
                    "other-size",
                    format!("volume `{name}` has {}, not {}", display_bytes(placed.view.bytes), display_bytes(volume.bytes)),
                )
                .next("leave the size out"));
            }
            volume.bytes = placed.view.bytes;
        }
        at = Some((placed.node, name));
    }
    Ok(at.map(|(node, _)| node))
}

/// Says of a job that nobody took why there was only one who could.
pub(crate) fn explained(failure: Failure, node: Option<NodeId>) -> Failure {
    match node.filter(|_| failure.code == "nobody") {
        Some(node) => failure
            .next(format!("its volume is on machine {}: only that one can run it; ask for less, or wait until it has room", node.short()))
            .next("or use another volume's name, for a new one elsewhere"),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::{LeaseId, Timestamp};

    fn node(n: u8) -> NodeId {
        NodeId([n; 32])
    }
    fn placed(n: u8, name: &str) -> Placed {
        let view = VolumeView {
            name: name.into(),
            bytes: 64 << 20,
            stored_bytes: 0,
            created: Timestamp(0),
            used_by: vec![],
            read_only: false,
            kept_until: None,
            snapshots: vec![],
        };
        Placed { node: node(n), view }
    }
    fn wanted(name: &str) -> VolumeMount {
        VolumeMount { name: name.into(), path: format!("/{name}"), bytes: 0, read_only: false }
    }

    #[test]
    fn a_job_goes_to_the_machine_with_its_volumes_or_it_is_said_why_not() {
        let found =
            Found { volumes: vec![placed(1, "a"), placed(1, "b"), placed(2, "c"), placed(1, "d"), placed(2, "d")], silent: vec![node(3)] };
        let noted = [Note { network: ZoneId([0; 32]), node: node(3), name: "away".into() }];
        let settle = |mut volumes: Vec<VolumeMount>| settle(&mut volumes, &found, &noted).map(|node| (node, volumes)).map_err(|f| f.code);
        let (at, volumes) = settle(vec![wanted("a"), wanted("b"), wanted("new")]).unwrap();
        assert_eq!(at, Some(node(1)));
        assert_eq!(volumes.iter().map(|v| v.bytes).collect::<Vec<_>>(), [64 << 20, 64 << 20, DEFAULT_VOLUME_BYTES]);
        assert_eq!(settle(vec![wanted("new")]).unwrap().0, None);
        let reading = |name: &str| VolumeMount { read_only: true, ..wanted(name) };
        let (at, volumes) = settle(vec![reading("c")]).unwrap();
        assert_eq!((at, volumes[0].bytes), (Some(node(2)), 0), "who reads pays for no disk");
        assert_eq!(settle(vec![reading("new")]).unwrap_err(), "no-volume");
        assert_eq!(settle(vec![wanted("a"), wanted("c")]).unwrap_err(), "volumes-apart");
        assert_eq!(settle(vec![wanted("d")]).unwrap_err(), "volume-twice");
        assert_eq!(settle(vec![wanted("away")]).unwrap_err(), "volume-away");
        assert_eq!(settle(vec![VolumeMount { bytes: 1 << 30, ..wanted("a") }]).unwrap_err(), "other-size");
    }

    #[test]
    fn one_writes_or_several_read() {
        let mut used = placed(1, "a");
        used.view.used_by = vec![LeaseId([7; 32])];
        let settle = |used: &Placed, read_only| {
            let found = Found { volumes: vec![used.clone()], silent: vec![] };
            settle(&mut [VolumeMount { read_only, ..wanted("a") }], &found, &[]).map_err(|f| f.code)
        };
        assert_eq!(settle(&used, true).unwrap_err(), "in-use");
        used.view.read_only = true;
        assert_eq!(settle(&used, true), Ok(Some(node(1))));
        assert_eq!(settle(&used, false).unwrap_err(), "in-use");
    }
}
