//! Changing what runs within its lease: the same machine, price, volumes and disk, with a pause of moments instead of a new lease.
//!
//! Guarantees: one part at a time, the next only when the one before runs again (healthy, where there is a health check); one that
//! fails goes back to what it was where its lease still lives, and the others stay as they are. What the machine refuses to change, or
//! what is not of the kind that can be changed, is left to whoever replaces it by a new lease.

use super::drive::{job_name, label, part_manifest, print};
use super::record::{Deployment, Unit, folder};
use crate::exit::Failure;
use crate::feeds::{self, FromNode};
use crate::public;
use crate::render::Progress;
use crate::session::Session;
use crate::words::plainly;
use pasture_api::client::LeaseClient;
use pasture_api::data::{LeaseStatus, NodeEvent, Phase, UpdateState, Wellness};
use pasture_api::{JobView, LeaseView};
use pasture_store::sealed::ReaderKey;
use pasture_types::lease::LeaseState;
use pasture_types::spec::{CheckedSpec, JobSpec, Manifest};
use pasture_types::{BlobHash, OrderId};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;

/// Longest that a part may take to fetch its new image and to be well with it.
const READY_WITHIN: Duration = Duration::from_secs(30 * 60);
/// Longest that a part may take to go back to what it was: its image is there already.
const BACK_WITHIN: Duration = Duration::from_secs(120);

/// How a change ended.
enum Changed {
    Yes,
    /// The machine will not; why.
    Refused(String),
    /// What is new could not be had, and what ran before goes on; why.
    Not(String),
    /// It did not work; why.
    Failed(String),
}

/// Whether two descriptions differ in nothing that needs another lease.
fn within_a_lease(before: &JobSpec, after: &JobSpec) -> bool {
    let bare = |spec: &JobSpec| JobSpec {
        image: None,
        build: None,
        command: None,
        args: None,
        env: BTreeMap::new(),
        ports: vec![],
        restart: None,
        retry: None,
        health: None,
        replicas: None,
        array: None,
        depends_on: Default::default(),
        ..spec.clone()
    };
    after.build.is_none() && before.array.is_none() && after.array.is_none() && bare(before) == bare(after)
}

/// Changes what can be changed within its lease, and notes it.
///
/// # Errors
/// A part that did not get well: what came of it, and what to do.
pub(crate) async fn change(
    session: &Session,
    before: &Deployment,
    record: &mut Deployment,
    specs: &BTreeMap<String, CheckedSpec>,
    jobs: &[JobView],
) -> Result<(), Failure> {
    let leases: BTreeMap<OrderId, &LeaseView> = jobs.iter().filter_map(|j| Some((j.order.id, j.lease.as_ref()?))).collect();
    let runs = |unit: &Unit| leases.get(&unit.order).copied().filter(|l| matches!(l.state, LeaseState::Accepted | LeaseState::Running));
    let old_specs = before.specs()?;
    for (service, spec) in specs {
        let kept = before.services.get(service).zip(record.services.get(service));
        let (Some(true), Some(old)) = (kept.map(|(old, new)| within_a_lease(old, new)), old_specs.get(service)) else { continue };
        let print = print(record, service, None);
        let differs = |u: &&Unit| u.key.service == *service && u.ended.is_none() && u.print != print;
        for unit in record.units.iter().filter(differs).cloned().collect::<Vec<_>>() {
            let Some(lease) = runs(&unit) else { continue };
            let part = Part { name: &record.name, unit: &unit, client: session.lease_client(lease), reader: session.reader()? };
            let label = label(specs, &unit.key);
            let mut progress = Progress::new(session.out);
            progress.step(&format!("{label}: changing what runs ..."));
            let changed = part.change_to(spec, &print, READY_WITHIN).await?;
            progress.clear();
            match changed {
                Changed::Yes => {
                    if spec.public != old.public {
                        let name = job_name(&record.name, &unit.key, false);
                        let signed = public::signed(session, &spec.public, lease.id, &name)?;
                        crate::patience::patiently(|| part.client.publish(&signed)).await?;
                    }
                    if let Some(unit) = record.unit_mut(&unit.key) {
                        unit.print.clone_from(&print);
                    }
                    record.save(&folder(&session.paths.jobs()))?;
                    session.out.note(&format!("{label:<16} runs what is new, within its lease"));
                }
                Changed::Refused(why) => session.out.note(&format!("{label:<16} needs a new lease: {why}")),
                Changed::Not(why) => {
                    let failure = Failure::new("update-failed", format!("{label} runs on as before: {}", plainly(&why)));
                    return Err(failure.next("is the image's name right, and can the machine reach where it is?"));
                }
                Changed::Failed(why) => return Err(part.back(old, &label, &why).await),
            }
        }
    }
    Ok(())
}

/// One part that runs.
struct Part<'a> {
    name: &'a str,
    unit: &'a Unit,
    client: LeaseClient,
    reader: ReaderKey,
}

impl Part<'_> {
    /// What its machine is told. The same change asked for again is the same to the machine, which makes it once.
    fn manifest(&self, spec: &CheckedSpec, what: &str) -> Result<Manifest, Failure> {
        let mut hasher = blake3::Hasher::new_derive_key("pasture 2026-11 salt of an update");
        hasher.update(&self.unit.salt).update(what.as_bytes());
        let mut salt = [0; 16];
        hasher.finalize_xof().fill(&mut salt);
        let placed = CheckedSpec { volumes: self.unit.volumes.clone(), ..spec.clone() };
        part_manifest(self.name, &self.unit.key, &placed, None, &self.reader, salt)
    }

    async fn change_to(&self, spec: &CheckedSpec, what: &str, within: Duration) -> Result<Changed, Failure> {
        let manifest = self.manifest(spec, what)?;
        let hash = manifest.hash();
        let mut node = feeds::node(&self.client);
        match crate::patience::patiently(|| self.client.update(manifest.to_bytes())).await {
            Ok(()) => {}
            // Whatever it says; a machine of an earlier version does not know the question.
            Err(error) => match error.problem() {
                Some(problem) => return Ok(Changed::Refused(plainly(&problem.detail))),
                None => return Err(error.into()),
            },
        }
        let checked = spec.life.health.is_some();
        let seen = async {
            while let Some(news) = node.recv().await {
                if let FromNode::Event(NodeEvent::Status { status }) = news
                    && let Some(changed) = judged(&status, &hash, checked)
                {
                    return changed;
                }
            }
            Changed::Failed("its machine is gone".into())
        };
        let late = || Changed::Failed(format!("it was not well within {} minutes", within.as_secs() / 60));
        Ok(timeout(within, seen).await.unwrap_or_else(|_| late()))
    }

    /// Back to what it was, where that is possible; what to tell.
    async fn back(&self, old: &CheckedSpec, label: &str, why: &str) -> Failure {
        let failure = Failure::new("update-failed", format!("{label} did not get well with what is new: {}", plainly(why)));
        // A salt of its own: what it was before is no earlier update.
        let what = format!("back from {why}, {}", crate::session::now_ms());
        match self.change_to(old, &what, BACK_WITHIN).await {
            Ok(Changed::Yes) => failure.next("it runs what it ran before, and so do the others"),
            _ => {
                failure.next(format!("see how it is:  farm status {}", self.name)).next(format!("what it wrote:  farm logs {}", self.name))
            }
        }
        .next("replace it by new leases, which leaves the old ones until the new ones are well:  farm update --new-lease")
    }
}

/// What a machine's word says about a change; nothing while it is under way.
fn judged(status: &LeaseStatus, manifest: &BlobHash, checked: bool) -> Option<Changed> {
    let last = || status.history.last().map_or(&status.detail, |h| &h.text).to_string();
    if status.end.is_some() || status.phase == Phase::Ended {
        return Some(Changed::Failed(last()));
    }
    let update = status.update.as_ref().filter(|u| u.manifest == *manifest)?;
    match (update.state, status.phase) {
        (UpdateState::Failed, _) => Some(Changed::Not(update.detail.to_string())),
        (UpdateState::Broken, _) => Some(Changed::Failed(update.detail.to_string())),
        (UpdateState::Fetching | UpdateState::Replacing, _) => None,
        // It ran, and ended at once.
        (UpdateState::Done, Phase::Restarting) => Some(Changed::Failed(last())),
        (UpdateState::Done, Phase::Running) => match status.health.as_ref().map(|h| h.state).filter(|_| checked) {
            None if !checked => Some(Changed::Yes),
            Some(Wellness::Healthy) => Some(Changed::Yes),
            Some(Wellness::Unhealthy) => Some(Changed::Failed(status.health.as_ref().map(|h| h.detail.to_string()).unwrap_or_default())),
            _ => None,
        },
        (UpdateState::Done, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(yaml: &str) -> JobSpec {
        serde_norway::from_str(yaml).unwrap()
    }

    #[test]
    fn what_the_ledger_was_told_needs_another_lease() {
        let base = "image: a\ntype: service\nresources: {cpu: 1, memory: 1Gi}\nenv: {A: '1'}\n";
        for same in ["image: b\n", "env: {A: '2'}\n", "command: [x]\n", "restart: always\n", "ports: [80]\n", "health: {port: 80}\n"] {
            let key = same.split(':').next().unwrap();
            let kept: String = base.lines().filter(|l| !l.starts_with(key)).map(|l| format!("{l}\n")).collect();
            assert!(within_a_lease(&spec(base), &spec(&format!("{kept}{same}"))), "{same}");
        }
        for other in [
            "timeout: 3h\n",
            "price: {max: '1'}\n",
            "egress: open\n",
            "volumes: [{name: v, path: /v, size: 1Gi}]\n",
            "secrets: [{name: s, env: S}]\n",
        ] {
            assert!(!within_a_lease(&spec(base), &spec(&format!("{base}{other}"))), "{other}");
        }
        assert!(!within_a_lease(&spec(base), &spec(&base.replace("cpu: 1", "cpu: 2"))));
        assert!(!within_a_lease(&spec(base), &spec("build: {context: .}\ntype: service\nresources: {cpu: 1, memory: 1Gi}\n")));
    }
}
