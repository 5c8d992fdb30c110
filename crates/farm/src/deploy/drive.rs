//! Carries out a deployment: asks the plan what is next, does it, and tells the plan what came of it.
//!
//! ```text
//!   ledger's events ─┐
//!   parts' news ─────┼──▶ one loop ──▶ Plan::steps ──▶ order, stop, record
//!   signals, time ───┘
//! ```
//! Guarantees: one loop owns all state; the record is written before an order is sent and after every change, so that the same
//! command goes on where this one was cut off; nothing is ordered beyond the deployment's budget. What runs is not touched by the
//! end of this command.

use super::plan::{Goal, Plan, Stage, Step};
use super::private::Links;
use super::record::{Completed, Deployment, Key, Leaving, Unit};
use super::tend::{self, News, SharedFolder, What};
use crate::commands::explain::quote;
use crate::commands::grants::{let_watch, unless_overtaken};
use crate::commands::jobs;
use crate::commands::run::{GRACE, WATCH_LINGERS, manifest};
use crate::exit::{Failure, Outcome};
use crate::feeds::{self, FromLedger, Signals};
use crate::handles::{JobRecord, forget, remember};
use crate::pack::Packed;
use crate::public;
use crate::render::Progress;
use crate::render::number::credits;
use crate::secrets;
use crate::session::{Job, Session, now_ms, random};
use crate::spec_file;
use crate::volumes;
use crate::words::{self, machine};
use pasture_api::client::EventFilter;
use pasture_api::data::{LeaseStatus, Phase, Wellness};
use pasture_api::secrets::Secrets;
use pasture_api::{JobView, LeaseView, OrderState};
use pasture_rt::TaskHandle;
use pasture_store::sealed::ReaderKey;
use pasture_types::event::Event;
use pasture_types::fleet::Size;
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::life::Member;
use pasture_types::market::OrderTerms;
use pasture_types::spec::{CheckedSpec, JobType, MAX_NAME, Manifest};
use pasture_types::tx::{Action, order_id};
use pasture_types::{Amount, Millis, OrderId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

/// News that wait for the loop; parts wait when it is full.
const NEWS: usize = 256;
/// How long no machine is asked for after there was no room; something of ours may end before.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(2);

/// A service's folder, packed, and what tells whether it changed.
pub(crate) struct Built {
    pub(crate) folder: SharedFolder,
    pub(crate) hash: pasture_types::BlobHash,
    pub(crate) bytes: u64,
}

impl Built {
    pub(crate) fn new(packed: Packed) -> Self {
        Self { hash: packed.hash, bytes: packed.bytes, folder: Arc::new(Mutex::new(packed)) }
    }
}

/// How carrying it out ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// Everything is where it should be, or cannot get there.
    Over,
    /// Time was up.
    Late,
    /// The user went.
    Left,
}

/// What is done about what is there already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Taste {
    /// What differs from what is asked is replaced.
    Asked,
    /// The same, and what has ended well runs again.
    Again,
    /// What runs stays as it is.
    AsItIs,
}

/// What is carried out.
pub(crate) struct Drive<'a> {
    session: &'a Session,
    /// Where records are.
    records: PathBuf,
    pub(crate) record: Deployment,
    pub(crate) specs: BTreeMap<String, CheckedSpec>,
    /// Of what is asked, by service.
    prints: BTreeMap<String, String>,
    built: BTreeMap<String, Built>,
    pub(crate) plan: Plan,
    /// Orders of parts that have not ended.
    orders: BTreeMap<OrderId, Key>,
    leases: BTreeMap<OrderId, LeaseView>,
    tended: BTreeMap<OrderId, TaskHandle>,
    progress: Progress,
    news: mpsc::Sender<News>,
    no_room_until: Option<Instant>,
    /// Tells machines what the parts reach of each other.
    links: Option<Links>,
}

/// What a service was asked to be: its spec without its size and place, and what its folder holds.
pub(crate) fn print(record: &Deployment, service: &str, built: Option<&Built>) -> String {
    let mut spec = record.services.get(service).cloned().unwrap_or_default();
    (spec.replicas, spec.array, spec.depends_on) = (None, None, Default::default());
    let text = serde_json::to_string(&spec).unwrap_or_default();
    let mut hasher = blake3::Hasher::new();
    hasher.update(text.as_bytes());
    if let Some(built) = built {
        hasher.update(&built.hash.0);
    }
    let hex = hasher.finalize().to_hex();
    hex.chars().take(32).collect()
}

/// A part for people: `web`, or `web/2` where there are several.
pub(crate) fn label(specs: &BTreeMap<String, CheckedSpec>, key: &Key) -> String {
    match specs.get(&key.service).map(|s| s.fleet.size) {
        Some(Size::Replicas(1)) | None if key.index == 0 => key.service.clone(),
        _ => format!("{}/{}", key.service, key.index),
    }
}

/// The name of a part's job: the deployment's, and the service's if it is another.
pub(crate) fn job_name(deployment: &str, key: &Key, several: bool) -> String {
    let number = if several { format!("-{}", key.index) } else { String::new() };
    let whole = if deployment == key.service { deployment.to_owned() } else { format!("{deployment}-{}", key.service) };
    let short: String = whole.chars().take(MAX_NAME.saturating_sub(number.len())).collect();
    format!("{}{number}", short.trim_end_matches('-'))
}

/// What the machine of a part is told. `spec`: as it was placed, its volumes settled; `context`: hash and size of its folder.
pub(crate) fn part_manifest(
    deployment: &str,
    key: &Key,
    spec: &CheckedSpec,
    context: Option<(pasture_types::BlobHash, u64)>,
    reader: &ReaderKey,
    salt: [u8; 16],
) -> Result<Manifest, Failure> {
    let name = job_name(deployment, key, spec.fleet.size != Size::Replicas(1));
    let mut manifest = manifest(&spec_file::Asked { spec: spec.clone(), folder: None, name }, context, reader)?;
    manifest.salt = salt;
    if let Size::Array { count, .. } = spec.fleet.size {
        manifest.life.member = Some(Member { index: key.index, count });
    }
    Ok(manifest)
}

/// What is not asked for any more goes at once; what something takes the place of, once that is ready.
fn leave(record: &mut Deployment, plan: &mut Plan, units: BTreeMap<Key, Unit>, known: &BTreeMap<OrderId, &JobView>) {
    record.leaving.extend(units.into_values().map(|u| Leaving { order: u.order, unit: None }));
    record.leaving.retain(|l| where_it_is(known.get(&l.order).copied()) == Place::Live);
    for leaving in &mut record.leaving {
        match leaving.after().filter(|key| plan.part(key).is_some_and(|p| p.stage != Stage::Done && p.old.is_none())) {
            Some(key) => plan.replaces(key, leaving.order),
            None => leaving.unit = None,
        }
    }
}

impl<'a> Drive<'a> {
    /// Works out where everything stands. `jobs`: what the ledger has of us.
    pub(crate) fn new(
        session: &'a Session,
        mut record: Deployment,
        specs: BTreeMap<String, CheckedSpec>,
        built: BTreeMap<String, Built>,
        jobs: &[JobView],
        taste: Taste,
    ) -> (Self, mpsc::Receiver<News>) {
        let prints: BTreeMap<String, String> = specs.keys().map(|s| (s.clone(), print(&record, s, built.get(s)))).collect();
        let mut plan = Plan::new(&specs);
        let mut orders = BTreeMap::new();
        let known: BTreeMap<OrderId, &JobView> = jobs.iter().map(|j| (j.order.id, j)).collect();
        let again = taste == Taste::Again;
        record.completed.retain(|service, c| !again && prints.get(service) == Some(&c.print));
        let wanted: Vec<Key> =
            specs.iter().flat_map(|(s, spec)| (0..spec.fleet.size.count()).map(|index| Key { service: s.clone(), index })).collect();
        let mut units: BTreeMap<Key, Unit> = record.units.drain(..).map(|u| (u.key.clone(), u)).collect();
        for key in wanted {
            let (Some(print), Some(spec)) = (prints.get(&key.service), specs.get(&key.service)) else { continue };
            if record.completed.get(&key.service).is_some_and(|c| c.members.contains(key.index)) {
                plan.add(key, Stage::Done, None, 0);
                continue;
            }
            let Some(unit) = units.remove(&key) else {
                plan.add(key, Stage::Waiting, None, 0);
                continue;
            };
            let same = unit.print == *print || taste == Taste::AsItIs;
            match where_it_is(known.get(&unit.order).copied()) {
                Place::Live if same => {
                    orders.insert(unit.order, key.clone());
                    plan.add(key, Stage::Starting, None, unit.moves);
                    record.units.push(unit);
                }
                Place::Live => {
                    plan.add(key, Stage::Waiting, Some(unit.order), 0);
                    record.units.push(unit);
                }
                Place::EndedWell if same && !again && spec.kind == JobType::Job => {
                    if let Size::Array { .. } = spec.fleet.size {
                        complete(&mut record, &key, print);
                    } else {
                        record.units.push(unit);
                    }
                    plan.add(key, Stage::Done, None, 0);
                }
                Place::EndedWell | Place::Ended | Place::Nowhere => {
                    if unit.ended.is_none()
                        && let Some(lease) = known.get(&unit.order).and_then(|j| j.lease.as_ref())
                    {
                        record.spent = record.spent.saturating_add(jobs::cost(lease));
                    }
                    plan.add(key, Stage::Waiting, None, 0);
                }
            }
        }
        leave(&mut record, &mut plan, units, &known);
        let (news, heard) = mpsc::channel(NEWS);
        let records = super::record::folder(&session.paths.jobs());
        let progress = Progress::new(session.out);
        let leases = BTreeMap::new();
        let links = Links::begin(session, &specs);
        let this = Self {
            session,
            records,
            record,
            specs,
            prints,
            built,
            plan,
            orders,
            leases,
            tended: BTreeMap::new(),
            progress,
            news,
            no_room_until: None,
            links,
        };
        (this, heard)
    }

    fn save(&self) -> Result<(), Failure> {
        self.record.save(&self.records)
    }

    fn label(&self, key: &Key) -> String {
        label(&self.specs, key)
    }

    fn tell(&mut self, key: &Key, state: &str, text: &str) {
        let label = self.label(key);
        if self.session.out.json {
            self.session.out.json(&serde_json::json!({
                "event": state, "deployment": self.record.name, "service": key.service, "index": key.index, "detail": text,
            }));
        } else {
            self.progress.line(&format!("{label:<16} {text}"));
        }
    }

    /// Carries it out until it is over.
    pub(crate) async fn go(&mut self, heard: &mut mpsc::Receiver<News>, goal: Goal, until: Option<Instant>) -> Result<End, Failure> {
        let filter = EventFilter { account: Some(self.session.account()), ..EventFilter::default() };
        let mut ledger = feeds::ledger(self.session, filter).await?;
        let mut signals = Signals::listen()?;
        self.save()?;
        self.leave().await?;
        for order in self.orders.keys().copied().collect::<Vec<_>>() {
            self.look(order).await?;
        }
        loop {
            self.act().await?;
            self.link();
            if self.plan.is_over(goal) {
                return Ok(End::Over);
            }
            let pause = self.no_room_until;
            tokio::select! {
                item = ledger.recv() => match item {
                    Some(FromLedger::Event(e)) => self.on_event(e.event).await?,
                    Some(FromLedger::Again) => {
                        for order in self.orders.keys().copied().collect::<Vec<_>>() {
                            self.look(order).await?;
                        }
                    }
                    None => return Err(Failure::new("broken-connection", "the connection to the network is gone").next("the same command goes on")),
                },
                Some(news) = heard.recv() => self.on_news(news).await?,
                () = sleep_until(pause) => self.no_room_until = None,
                () = sleep_until(until) => return Ok(End::Late),
                _ = signals.next() => return Ok(End::Left),
            }
        }
    }

    /// Has the machines know what the parts that are there reach of each other.
    fn link(&self) {
        if let Some(links) = &self.links {
            links.set(&self.orders, &self.leases, &self.specs);
        }
    }

    /// Stops what is not asked for any more.
    async fn leave(&mut self) -> Result<(), Failure> {
        for leaving in self.record.leaving.clone().into_iter().filter(|l| l.unit.is_none()) {
            self.stop(leaving.order).await?;
            self.forget(leaving.order)?;
        }
        Ok(())
    }

    /// An order is stopped.
    fn forget(&mut self, order: OrderId) -> Result<(), Failure> {
        self.record.leaving.retain(|l| l.order != order);
        self.record.units.retain(|u| u.order != order);
        self.save()
    }

    async fn stop(&mut self, order: OrderId) -> Result<(), Failure> {
        self.progress.step("stopping what is not needed any more");
        let Some(view) = self.view(&order).await? else { return Ok(()) };
        let lease = match &view.lease {
            Some(lease) => Some(self.session.ask(|| self.session.api.lease(lease)).await?),
            None => None,
        };
        let job = Job { handle: String::new(), order: view, lease };
        jobs::end(self.session, &job, GRACE).await?;
        if let Some(lease) = &job.lease {
            let lease = self.session.ask(|| self.session.api.lease(&lease.id)).await?;
            self.record.spent = self.record.spent.saturating_add(jobs::cost(&lease));
        }
        Ok(())
    }

    /// An order, if the ledger has it.
    async fn view(&self, order: &OrderId) -> Result<Option<pasture_api::OrderView>, Failure> {
        match self.session.ask(|| self.session.api.order(order)).await {
            Ok(view) => Ok(Some(view)),
            Err(e) if e.problem().is_some_and(|p| p.status == 404) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    async fn act(&mut self) -> Result<(), Failure> {
        loop {
            let may_start = self.no_room_until.is_none();
            let step = self.plan.steps().into_iter().find(|s| may_start || matches!(s, Step::StopOld(..)));
            match step {
                Some(Step::StopOld(key, order)) => {
                    self.stop(order).await?;
                    self.plan.old_is_gone(&key);
                    self.forget(order)?;
                    self.tell(&key, "replaced", "took the place of what was there before");
                }
                Some(Step::Start(key)) => self.start(&key).await?,
                None => return Ok(()),
            }
        }
    }

    // ---- ordering --------------------------------------------------------------------------------------------------

    /// What may still be spent.
    fn left(&self) -> Option<Amount> {
        let budget = self.record.budget?;
        let replaced = self.record.leaving.iter().filter_map(|l| l.unit.as_ref());
        let held = self.record.units.iter().chain(replaced).filter(|u| u.ended.is_none()).map(|u| u.hold);
        Some(held.fold(budget.saturating_sub(self.record.spent), |left, hold| left.saturating_sub(hold)))
    }

    /// Whether something of ours that runs will end and make room.
    fn will_make_room(&self) -> bool {
        self.plan.parts().any(|(key, p)| p.stage.is_live() && self.specs.get(&key.service).is_some_and(|s| s.kind == JobType::Job))
    }

    fn spec(&self, key: &Key) -> Result<CheckedSpec, Failure> {
        self.specs.get(&key.service).cloned().ok_or_else(|| Failure::new("internal", "no such service"))
    }

    /// What a machine is told. `spec`: as it was placed, its volumes settled.
    fn manifest(&self, key: &Key, spec: &CheckedSpec, salt: [u8; 16]) -> Result<Manifest, Failure> {
        let context = self.built.get(&key.service).map(|b| (b.hash, b.bytes));
        part_manifest(&self.record.name, key, spec, context, &self.session.reader()?, salt)
    }

    fn secrets(&self, spec: &CheckedSpec) -> Result<Secrets, Failure> {
        secrets::collect(&self.session.vault()?, &spec.secrets)
    }

    /// Settles which volumes a part has and where, and asks what it costs there.
    async fn quote(&self, key: &Key, spec: &mut CheckedSpec, salt: [u8; 16], balance: Amount) -> Result<OrderTerms, Failure> {
        let volumes_at = volumes::place(self.session, spec).await?;
        let manifest = self.manifest(key, spec, salt)?;
        quote(self.session, spec, manifest.hash(), balance).await.map_err(|f| volumes::explained(f, volumes_at))
    }

    async fn start(&mut self, key: &Key) -> Result<(), Failure> {
        let salt = random()?;
        let mut spec = self.spec(key)?;
        self.progress.step("looking for machines");
        let account = self.session.ensure_account().await?;
        let terms = match self.quote(key, &mut spec, salt, account.balance).await {
            Ok(terms) => terms,
            Err(failure) if failure.code == "nobody" && self.will_make_room() => {
                self.no_room_until = Some(Instant::now() + NO_ROOM_PAUSE);
                return Ok(());
            }
            Err(failure) => {
                self.fail(key, failure.message.lines().next().unwrap_or_default());
                self.session.out.failure(&failure);
                return Ok(());
            }
        };
        // What is put on hold: the budget, where the whole time does not cost less.
        let whole = terms.max_price_per_hour.per_hour_for(terms.max_duration.0).unwrap_or(terms.budget);
        let hold = terms.budget.min(whole);
        if self.left().is_some_and(|left| hold > left) {
            let releases = self.will_make_room() || self.plan.parts().any(|(_, p)| p.stage == Stage::Starting);
            if releases {
                self.no_room_until = Some(Instant::now() + NO_ROOM_PAUSE);
            } else {
                let left = credits(self.left().unwrap_or_default());
                self.fail(key, &format!("the deployment's budget is used: {left} cr are left, and it may need {} cr", credits(hold)));
            }
            return Ok(());
        }
        let manifest = self.manifest(key, &spec, salt)?;
        let unit = Unit {
            key: key.clone(),
            order: OrderId([0; 32]),
            salt,
            print: self.prints.get(&key.service).cloned().unwrap_or_default(),
            hold,
            moves: self.plan.part(key).map_or(0, |p| p.moves),
            ended: None,
            volumes: spec.volumes.clone(),
        };
        self.plan.reach(key, Stage::Starting);
        match unless_overtaken(terms.watcher.is_some(), async || self.place(&unit, &manifest, &spec, &terms).await).await {
            Ok(order) => {
                self.orders.insert(order, key.clone());
                self.tell(key, "ordered", "asks for a machine");
                self.look(order).await
            }
            Err(failure) if failure.is_refusal() => {
                self.fail(key, &failure.message);
                self.save()
            }
            Err(failure) => Err(failure),
        }
    }

    /// A part's order; what it takes the place of is to be stopped after it.
    fn note(&mut self, unit: Unit) {
        let old = self.plan.part(&unit.key).and_then(|p| p.old);
        let before = self.record.unit(&unit.key).filter(|u| Some(u.order) == old).cloned();
        self.record.leaving.extend(before.map(|u| Leaving { order: u.order, unit: Some(u) }));
        self.record.units.retain(|u| u.key != unit.key);
        self.record.units.push(unit);
    }

    /// What was to take another's place has failed: that one goes on.
    fn restore(&mut self, key: &Key) {
        let Some(at) = self.record.leaving.iter().position(|l| l.after() == Some(key)) else { return };
        if let Some(unit) = self.record.leaving.remove(at).unit {
            self.record.units.retain(|u| u.key != *key);
            self.record.units.push(unit);
        }
    }

    /// Writes the order down, then sends it.
    async fn place(&mut self, unit: &Unit, manifest: &Manifest, spec: &CheckedSpec, terms: &OrderTerms) -> Result<OrderId, Failure> {
        let session = self.session;
        let mut actions = vec![Action::PlaceOrder { terms: Box::new(terms.clone()) }];
        if let Some(watcher) = terms.watcher {
            let life = Millis(terms.max_duration.0.saturating_add(WATCH_LINGERS.0));
            actions.extend(let_watch(session, watcher, terms.asset, terms.budget, life).await?);
        }
        let jobs = session.paths.jobs();
        let mut placed: Option<OrderId> = None;
        let sent = session
            .submit_with(actions, |tx| {
                let order = order_id(&tx, 0);
                // Signed anew after a lost race: the one before was not taken.
                if let Some(before) = placed.replace(order) {
                    forget(&jobs, &before);
                }
                self.note(Unit { order, ..unit.clone() });
                self.save()?;
                let record = JobRecord {
                    order,
                    name: manifest.name.clone(),
                    network: session.status.zone,
                    created_ms: now_ms(),
                    disk_bytes: spec.resources.disk_bytes,
                    part_of: Some(self.record.name.clone()),
                };
                remember(&jobs, &record)
            })
            .await;
        let order = placed.ok_or_else(|| Failure::new("internal", "the order has no id"));
        match (sent, order) {
            (Ok(_), Ok(order)) => Ok(order),
            (Err(failure), Ok(order)) => {
                if failure.is_refusal() {
                    forget(&jobs, &order);
                    self.record.units.retain(|u| u.order != order);
                }
                Err(failure)
            }
            (Ok(_), Err(failure)) | (Err(failure), Err(_)) => Err(failure),
        }
    }

    // ---- what happens ----------------------------------------------------------------------------------------------

    async fn on_event(&mut self, event: Event) -> Result<(), Failure> {
        let order = match event {
            Event::LeaseMatched { order, .. } | Event::OrderEnded { order, .. } => order,
            Event::LeaseChanged { lease, .. } => match self.leases.values().find(|l| l.id == lease) {
                Some(lease) => lease.order,
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        if self.orders.contains_key(&order) { self.look(order).await } else { Ok(()) }
    }

    /// Reads where an order is.
    async fn look(&mut self, order: OrderId) -> Result<(), Failure> {
        let Some(key) = self.orders.get(&order).cloned() else { return Ok(()) };
        let Some(view) = self.view(&order).await? else {
            return self.elsewhere(&key, order, "its order never reached the ledger");
        };
        match (view.state, view.lease) {
            (OrderState::Expired | OrderState::Cancelled, None) => self.elsewhere(&key, order, "nobody took it in time"),
            (_, None) => Ok(()),
            (_, Some(lease)) => {
                let lease = self.session.ask(|| self.session.api.lease(&lease)).await?;
                self.on_lease(&key, order, lease).await
            }
        }
    }

    async fn on_lease(&mut self, key: &Key, order: OrderId, lease: LeaseView) -> Result<(), Failure> {
        self.leases.insert(order, lease.clone());
        match lease.state {
            LeaseState::Matched => Ok(()),
            LeaseState::Accepted | LeaseState::Running => {
                if self.tended.contains_key(&order) {
                    return Ok(());
                }
                let (salt, settled) = self.record.unit(key).map(|u| (u.salt, u.volumes.clone())).unwrap_or_default();
                let mut spec = self.spec(key)?;
                volumes::note(self.session, lease.node, &settled);
                volumes::settled(&mut spec, settled);
                let manifest = self.manifest(key, &spec, salt)?;
                let told = match manifest.hash() == lease.spec_hash {
                    true => Some(tend::Told {
                        manifest: manifest.to_bytes(),
                        secrets: self.secrets(&spec)?,
                        public: public::signed(self.session, &spec.public, lease.id, &job_name(&self.record.name, key, false))?,
                    }),
                    false => None,
                };
                let is_told = async || self.session.lease_client(&lease).status().await.is_ok_and(|s| s.phase > Phase::AwaitingContext);
                if told.is_none() && !is_told().await {
                    // Its description cannot be made again, so it could never be told what to run.
                    self.session.submit(vec![Action::CloseLease { lease: lease.id, reason: EndReason::StoppedByUser }]).await?;
                    return self.elsewhere(key, order, "what it should run is not known any more");
                }
                if let Some(unit) = self.record.unit_mut(key) {
                    unit.hold = lease.escrow;
                }
                self.tell(key, "machine", &format!("has {}", machine(&lease.provider_name, &lease.region)));
                let folder = self.built.get(&key.service).map(|b| Arc::clone(&b.folder));
                let part = tend::Part { key: key.clone(), lease, told, folder };
                self.tended.insert(order, tend::tend(self.session, part, self.news.clone()));
                Ok(())
            }
            LeaseState::Closing | LeaseState::Closed => match lease.reason.clone() {
                Some(reason) => self.ended(key, order, &reason, &lease),
                None => Ok(()),
            },
        }
    }

    async fn on_news(&mut self, news: News) -> Result<(), Failure> {
        if self.orders.get(&news.order) != Some(&news.key) {
            return Ok(());
        }
        match news.what {
            What::NotSent(failure) => {
                if let Some(lease) = self.leases.get(&news.order).map(|l| l.id) {
                    self.session.submit(vec![Action::CloseLease { lease, reason: EndReason::StoppedByUser }]).await?;
                }
                self.elsewhere(&news.key, news.order, &failure.message)
            }
            What::Status(status) => self.on_status(&news.key, news.order, *status),
        }
    }

    fn on_status(&mut self, key: &Key, order: OrderId, status: LeaseStatus) -> Result<(), Failure> {
        let before = self.plan.part(key).map(|p| p.stage.clone());
        if let (Some(reason), Phase::Ended) = (&status.end, status.phase) {
            let Some(lease) = self.leases.get(&order).cloned() else { return Ok(()) };
            let lease = LeaseView { served_ms: status.served_ms, ..lease };
            if !status.detail.is_empty() && !reason.is_exit() {
                self.tell(key, "detail", &words::plainly(status.detail.text()));
            }
            return self.ended(key, order, &reason.clone(), &lease);
        }
        if (Phase::Running..=Phase::Restarting).contains(&status.phase) {
            self.plan.reach(key, Stage::Up);
        }
        if status.health.as_ref().is_some_and(|h| h.state == Wellness::Healthy) {
            self.plan.reach(key, Stage::Well);
        }
        let now = self.plan.part(key).map(|p| p.stage.clone());
        if now != before {
            match now {
                Some(Stage::Up) => self.tell(key, "running", "runs"),
                Some(Stage::Well) => self.tell(key, "healthy", "is healthy"),
                _ => {}
            }
        }
        Ok(())
    }

    /// A part's job is over.
    fn ended(&mut self, key: &Key, order: OrderId, reason: &EndReason, lease: &LeaseView) -> Result<(), Failure> {
        self.orders.remove(&order);
        self.record.spent = self.record.spent.saturating_add(jobs::cost(lease));
        let good = *reason == EndReason::Exited { code: 0 };
        let end = words::ending(reason);
        if machine_failed(reason) && self.plan.moves_on(key) {
            self.record.units.retain(|u| u.order != order);
            self.tell(key, "moves", &format!("{} ({}): goes to another machine", end.verb, end.why));
            return self.save();
        }
        if let Some(unit) = self.record.unit_mut(key) {
            unit.ended = Some(good);
        }
        if good {
            self.plan.reach(key, Stage::Done);
            if let Some(Size::Array { .. }) = self.specs.get(&key.service).map(|s| s.fleet.size) {
                self.record.units.retain(|u| u.order != order);
                let print = self.prints.get(&key.service).cloned().unwrap_or_default();
                complete(&mut self.record, key, &print);
            }
            self.tell(key, "done", "finished");
        } else {
            let why = format!("{} ({})", end.verb, end.why);
            self.fail(key, &why);
        }
        self.no_room_until = None;
        self.save()
    }

    /// A part has no machine after all, and asks for another one.
    fn elsewhere(&mut self, key: &Key, order: OrderId, why: &str) -> Result<(), Failure> {
        self.orders.remove(&order);
        self.record.units.retain(|u| u.order != order);
        if self.plan.moves_on(key) {
            self.tell(key, "moves", &format!("{why}: asks again"));
        } else {
            self.fail(key, why);
        }
        self.save()
    }

    fn fail(&mut self, key: &Key, why: &str) {
        self.plan.reach(key, Stage::Failed(why.into()));
        self.restore(key);
        self.tell(key, "failed", why);
    }

    /// Clears what moves on the screen, and gives the last statements of what has ended a moment to be confirmed.
    pub(crate) async fn finish(&mut self) {
        self.progress.clear();
        self.link();
        if let Some(links) = &mut self.links {
            links.settle(self.session.out).await;
        }
        let over = std::mem::take(&mut self.tended).into_iter().filter(|(order, _)| !self.orders.contains_key(order));
        let confirmed = async {
            for (_, task) in over {
                let _ = task.join().await;
            }
        };
        // What is late counts all the same, unless somebody objects.
        let _ = tokio::time::timeout(tend::LAST_WORD, confirmed).await;
    }
}

/// A member of an array ended well.
fn complete(record: &mut Deployment, key: &Key, print: &str) {
    let none = || Completed { print: print.to_owned(), members: Default::default() };
    record.completed.entry(key.service.clone()).or_insert_with(none).members.insert(key.index);
}

/// Ends that are not the job's own, after which it is worth trying elsewhere.
const fn machine_failed(reason: &EndReason) -> bool {
    matches!(
        reason,
        EndReason::StoppedByProvider
            | EndReason::Lost
            | EndReason::Rejected
            | EndReason::NoSpec
            | EndReason::Derated
            | EndReason::Preempted
            | EndReason::ServiceStopped
    )
}

/// Where an order is, as far as a deployment cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// It waits for a machine or has one.
    Live,
    /// Its job ended with exit code 0.
    EndedWell,
    /// Its job ended otherwise.
    Ended,
    /// The ledger does not have it, or nobody took it.
    Nowhere,
}

/// Where an order is.
pub(crate) fn where_it_is(job: Option<&JobView>) -> Place {
    let Some(job) = job else { return Place::Nowhere };
    match (&job.lease, job.order.state) {
        (None, OrderState::Open | OrderState::Matched) => Place::Live,
        (None, OrderState::Expired | OrderState::Cancelled) => Place::Nowhere,
        (Some(lease), _) if lease.state < LeaseState::Closing => Place::Live,
        (Some(lease), _) if lease.reason == Some(EndReason::Exited { code: 0 }) => Place::EndedWell,
        (Some(_), _) => Place::Ended,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// How a deployment's command ends.
pub(crate) fn outcome(end: End, failed: usize) -> Outcome {
    use crate::exit::Exit;
    match (end, failed) {
        (End::Left, _) => Ok(Exit::Job(130)),
        (End::Late, _) => Ok(Exit::Job(124)),
        (End::Over, 0) => Ok(Exit::Ok),
        (End::Over, _) => Ok(Exit::Job(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_fit() {
        let key = |service: &str, index| Key { service: service.into(), index };
        assert_eq!(job_name("shop", &key("web", 2), true), "shop-web-2");
        assert_eq!(job_name("fold", &key("fold", 7), true), "fold-7");
        assert_eq!(job_name("fold", &key("fold", 0), false), "fold");
        let long = job_name(&"a".repeat(32), &key(&"b".repeat(32), 0), true);
        assert!(long.len() == MAX_NAME && long.ends_with("-0"), "{long}");
    }

    #[test]
    fn a_print_changes_with_what_runs_and_not_with_how_many() {
        let mut record = Deployment::new("a".into(), pasture_types::ZoneId([0; 32]), 0);
        let spec = |text: &str| serde_json::from_str(text).unwrap();
        record.services.insert("web".into(), spec(r#"{"image": "a", "replicas": 1}"#));
        let first = print(&record, "web", None);
        record.services.insert("web".into(), spec(r#"{"image": "a", "replicas": 5, "depends_on": ["b"]}"#));
        assert_eq!(print(&record, "web", None), first);
        record.services.insert("web".into(), spec(r#"{"image": "a", "env": {"A": "b"}}"#));
        assert_ne!(print(&record, "web", None), first);
    }
}
