//! What is to be done next for a deployment: pure decisions about its parts, without any I/O.
//!
//! ```text
//!              start                        runs            health check passed
//!  Waiting ─────────────▶ Starting ────────────────▶ Up ────────────────────────▶ Well
//!     ▲ goes elsewhere       │  ends                 │                              │
//!     └──────────────────────┴───────────────────────┴──────────▶ Done | Failed ◀───┘
//! ```
//! Guarantees: a part starts only when what its service depends on has got that far; of an array no more members run at the same
//! time than it says; what takes something else's place is ready before that is stopped, one at a time; what has the print of
//! what is asked is left alone. It decides nothing about money.

use super::record::Key;
use pasture_types::OrderId;
use pasture_types::fleet::{Size, Until};
use pasture_types::spec::{CheckedSpec, JobType};
use std::collections::{BTreeMap, BTreeSet};

/// Parts that are on their way to a machine at the same time.
pub(crate) const STARTING_AT_ONCE: usize = 8;
/// How often a part goes to another machine when the one that it had failed it.
pub(crate) const MAX_MOVES: u32 = 3;

/// How far a part has got.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Nothing was done yet.
    Waiting,
    /// Ordered; no process runs yet.
    Starting,
    /// Its process runs.
    Up,
    /// Its health check was passed.
    Well,
    /// It ended with exit code 0.
    Done,
    /// It ended otherwise, or never began; why.
    Failed(String),
}

impl Stage {
    /// Whether it has a machine or is about to.
    pub(crate) const fn is_live(&self) -> bool {
        matches!(self, Self::Starting | Self::Up | Self::Well)
    }
    pub(crate) const fn has_ended(&self) -> bool {
        matches!(self, Self::Done | Self::Failed(_))
    }
}

/// A part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    /// How far it has got.
    pub(crate) stage: Stage,
    /// What it takes the place of, until that is stopped.
    pub(crate) old: Option<OrderId>,
    /// How often it went elsewhere.
    pub(crate) moves: u32,
}

/// What is needed of a service to decide about it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Service {
    size: Size,
    kind: JobType,
    has_health: bool,
    depends_on: BTreeMap<String, Until>,
}

/// Something to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Order a machine for a part.
    Start(Key),
    /// Stop what a part took, or takes, the place of.
    StopOld(Key, OrderId),
}

/// How far to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Goal {
    /// Until everything runs; arrays and what others wait for, until they got that far.
    Running,
    /// Until services are healthy and jobs have ended.
    Settled,
}

/// A deployment's parts.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    services: BTreeMap<String, Service>,
    parts: BTreeMap<Key, Part>,
}

impl Plan {
    /// A plan without parts.
    pub(crate) fn new(services: &BTreeMap<String, CheckedSpec>) -> Self {
        let service = |s: &CheckedSpec| Service {
            size: s.fleet.size,
            kind: s.kind,
            has_health: s.life.health.is_some(),
            depends_on: s.fleet.depends_on.clone(),
        };
        Self { services: services.iter().map(|(name, s)| (name.clone(), service(s))).collect(), parts: BTreeMap::new() }
    }

    /// Adds a part.
    pub(crate) fn add(&mut self, key: Key, stage: Stage, old: Option<OrderId>, moves: u32) {
        self.parts.insert(key, Part { stage, old, moves });
    }

    /// A part takes this one's place, as was found out.
    pub(crate) fn replaces(&mut self, key: &Key, old: OrderId) {
        if let Some(part) = self.parts.get_mut(key) {
            part.old = Some(old);
        }
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = (&Key, &Part)> {
        self.parts.iter()
    }
    pub(crate) fn part(&self, key: &Key) -> Option<&Part> {
        self.parts.get(key)
    }

    /// A part got somewhere; going back is only possible through [`Plan::moves_on`].
    pub(crate) fn reach(&mut self, key: &Key, stage: Stage) {
        let has_health = self.services.get(&key.service).is_some_and(|s| s.has_health);
        let Some(part) = self.parts.get_mut(key).filter(|p| !p.stage.has_ended()) else { return };
        // A service that is started again, or not well for a moment, has been so far.
        let back = matches!((&part.stage, &stage), (Stage::Well, Stage::Up) | (Stage::Up | Stage::Well, Stage::Starting));
        if !back && (stage != Stage::Well || has_health) {
            part.stage = stage;
        }
    }

    /// A part lost its machine for reasons that are not its own; whether it goes elsewhere.
    pub(crate) fn moves_on(&mut self, key: &Key) -> bool {
        match self.parts.get_mut(key).filter(|p| p.moves < MAX_MOVES) {
            Some(part) => {
                part.moves += 1;
                part.stage = Stage::Waiting;
                true
            }
            None => false,
        }
    }

    /// What a part took the place of is stopped.
    pub(crate) fn old_is_gone(&mut self, key: &Key) {
        if let Some(part) = self.parts.get_mut(key) {
            part.old = None;
        }
    }

    fn of<'a>(&'a self, service: &'a str) -> impl Iterator<Item = (&'a Key, &'a Part)> {
        self.parts.iter().filter(move |(key, _)| key.service == service)
    }

    /// Whether a part does what it is there for, so that what was there before is not needed any more.
    fn is_ready(&self, key: &Key, part: &Part) -> bool {
        let has_health = self.services.get(&key.service).is_some_and(|s| s.has_health);
        match part.stage {
            Stage::Up => !has_health,
            Stage::Well | Stage::Done => true,
            _ => false,
        }
    }

    /// Whether a service has got as far as others wait for. One without parts has nothing to wait for.
    fn has_reached(&self, service: &str, until: Until) -> bool {
        self.of(service).all(|(_, part)| match until {
            Until::Started => matches!(part.stage, Stage::Up | Stage::Well | Stage::Done),
            Until::Healthy => matches!(part.stage, Stage::Well | Stage::Done),
            Until::Completed => part.stage == Stage::Done,
        })
    }

    /// Whether something that was to take another's place failed: the others stay as they are then.
    fn halted(&self, service: &str) -> bool {
        self.of(service).any(|(_, p)| p.old.is_some() && matches!(p.stage, Stage::Failed(_)))
    }

    /// Why a service can never start: what it waits for has failed.
    pub(crate) fn blocked(&self, service: &str) -> Option<String> {
        let depends = &self.services.get(service)?.depends_on;
        depends.keys().find_map(|other| {
            let failed = self.of(other).any(|(_, p)| matches!(p.stage, Stage::Failed(_)));
            let stuck = failed && !self.has_reached(other, *depends.get(other)?);
            (stuck || self.blocked(other).is_some()).then(|| format!("it waits for {other}, which failed"))
        })
    }

    /// What can be done now. Steps that were given and not yet carried out must not be asked for again.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps = vec![];
        let mut starting = self.parts.values().filter(|p| p.stage == Stage::Starting).count();
        for (name, service) in &self.services {
            if !service.depends_on.iter().all(|(other, until)| self.has_reached(other, *until)) {
                continue;
            }
            let mut live = self.of(name).filter(|(_, p)| p.stage.is_live()).count();
            let most = match service.size {
                Size::Array { parallel, .. } => usize::try_from(parallel).unwrap_or(usize::MAX),
                Size::Replicas(_) => usize::MAX,
            };
            // One at a time: as long as one that takes another's place is not ready, no other begins.
            let unready = |(key, p): (&Key, &Part)| p.old.is_some() && p.stage.is_live() && !self.is_ready(key, p);
            let mut changing = self.of(name).any(unready) || self.halted(name);
            for (key, part) in self.of(name) {
                if let Some(old) = part.old {
                    let first = part.stage == Stage::Waiting && service.kind == JobType::Job;
                    if self.is_ready(key, part) || first {
                        steps.push(Step::StopOld(key.clone(), old));
                        continue;
                    }
                    if changing {
                        continue;
                    }
                }
                if part.stage == Stage::Waiting && live < most && starting < STARTING_AT_ONCE {
                    changing |= part.old.is_some();
                    live += 1;
                    starting += 1;
                    steps.push(Step::Start(key.clone()));
                }
            }
        }
        steps
    }

    /// Whether nothing is left to be done or waited for.
    pub(crate) fn is_over(&self, goal: Goal) -> bool {
        let needed: BTreeSet<&str> = self.waited_for();
        self.parts.iter().all(|(key, part)| {
            if part.stage.has_ended() || (part.stage == Stage::Waiting && self.blocked(&key.service).is_some()) {
                return true;
            }
            if part.stage == Stage::Waiting && part.old.is_some() && self.halted(&key.service) {
                return true;
            }
            let Some(service) = self.services.get(&key.service) else { return true };
            // What takes another's place has to be ready for that; a replacement that failed leaves the old one.
            if part.old.is_some() || part.stage == Stage::Waiting {
                return false;
            }
            match (goal, service.size, service.kind) {
                (_, Size::Array { .. }, _) => false,
                (Goal::Settled, _, JobType::Job) => false,
                (Goal::Settled, _, JobType::Service) => self.is_ready(key, part),
                (Goal::Running, ..) if needed.contains(key.service.as_str()) => false,
                (Goal::Running, ..) => matches!(part.stage, Stage::Up | Stage::Well),
            }
        })
    }

    /// Services that others still wait for.
    fn waited_for(&self) -> BTreeSet<&str> {
        let unmet = |(name, service): (&String, &Service)| {
            let waiting = self.of(name).any(|(_, p)| p.stage == Stage::Waiting) && self.blocked(name).is_none();
            let unmet = service.depends_on.iter().filter(move |_| waiting).map(|(other, until)| (other.clone(), *until));
            unmet.collect::<Vec<_>>()
        };
        let names: BTreeSet<String> = self
            .services
            .iter()
            .flat_map(unmet)
            .filter(|(other, until)| !self.has_reached(other, *until))
            .map(|(other, _)| other)
            .collect();
        self.services.keys().map(String::as_str).filter(|n| names.contains(*n)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_jobfile::checked;
    use pasture_types::spec::JobSpec;
    use proptest::prelude::*;

    fn services(yaml: &str) -> BTreeMap<String, CheckedSpec> {
        let specs: BTreeMap<String, JobSpec> = serde_norway::from_str(yaml).unwrap();
        checked(&specs).unwrap()
    }
    fn key(service: &str, index: u32) -> Key {
        Key { service: service.into(), index }
    }
    fn plan(yaml: &str) -> Plan {
        let services = services(yaml);
        let mut plan = Plan::new(&services);
        for (name, service) in &services {
            for index in 0..service.fleet.size.count() {
                plan.add(key(name, index), Stage::Waiting, None, 0);
            }
        }
        plan
    }
    fn starts(plan: &Plan) -> Vec<Key> {
        plan.steps().into_iter().filter_map(|s| if let Step::Start(k) = s { Some(k) } else { None }).collect()
    }

    #[test]
    fn what_is_depended_on_comes_first() {
        let mut plan = plan(
            "db: {image: a, type: service, health: {port: 1}}\nsetup: {image: a, depends_on: {db: healthy}}\n\
             web: {image: a, type: service, replicas: 2, depends_on: {setup: completed, db: started}}\n",
        );
        assert_eq!(starts(&plan), [key("db", 0)]);
        plan.reach(&key("db", 0), Stage::Starting);
        plan.reach(&key("db", 0), Stage::Up);
        assert_eq!(starts(&plan), []);
        assert!(!plan.is_over(Goal::Running), "setup waits for it to be healthy");
        plan.reach(&key("db", 0), Stage::Well);
        assert_eq!(starts(&plan), [key("setup", 0)]);
        plan.reach(&key("setup", 0), Stage::Starting);
        plan.reach(&key("setup", 0), Stage::Up);
        assert!(starts(&plan).is_empty() && !plan.is_over(Goal::Running));
        plan.reach(&key("setup", 0), Stage::Done);
        assert_eq!(starts(&plan), [key("web", 0), key("web", 1)]);
        for n in 0..2 {
            plan.reach(&key("web", n), Stage::Starting);
            plan.reach(&key("web", n), Stage::Up);
        }
        assert!(plan.is_over(Goal::Running) && plan.is_over(Goal::Settled));
    }

    #[test]
    fn what_waits_for_something_that_failed_never_starts() {
        let mut plan = plan("a: {image: a}\nb: {image: a, depends_on: {a: completed}}\nc: {image: a, depends_on: [b]}\n");
        plan.reach(&key("a", 0), Stage::Starting);
        plan.reach(&key("a", 0), Stage::Failed("exit 1".into()));
        assert!(starts(&plan).is_empty() && plan.is_over(Goal::Settled));
        assert_eq!(plan.blocked("b").unwrap(), "it waits for a, which failed");
        assert_eq!(plan.blocked("c").unwrap(), "it waits for b, which failed");
        // Having run is enough for those who wait for a start.
        let mut plan = super::tests::plan("a: {image: a}\nb: {image: a, depends_on: [a]}\n");
        plan.reach(&key("a", 0), Stage::Up);
        assert_eq!(starts(&plan), [key("b", 0)]);
    }

    #[test]
    fn an_array_runs_so_many_at_a_time() {
        let mut plan = plan("a: {image: a, array: {count: 5, parallel: 2}}\n");
        assert_eq!(starts(&plan), [key("a", 0), key("a", 1)]);
        plan.reach(&key("a", 0), Stage::Starting);
        plan.reach(&key("a", 1), Stage::Starting);
        plan.reach(&key("a", 1), Stage::Up);
        assert!(starts(&plan).is_empty());
        plan.reach(&key("a", 1), Stage::Failed("exit 3".into()));
        assert_eq!(starts(&plan), [key("a", 2)]);
        assert!(!plan.is_over(Goal::Running), "an array is gone through to its end");
        // Its machine failed it: it goes elsewhere, but not for ever.
        for _ in 0..MAX_MOVES {
            plan.reach(&key("a", 0), Stage::Up);
            assert!(plan.moves_on(&key("a", 0)));
            assert_eq!(plan.part(&key("a", 0)).unwrap().stage, Stage::Waiting);
        }
        assert!(!plan.moves_on(&key("a", 0)));
    }

    #[test]
    fn a_service_is_replaced_one_by_one_and_a_job_after_its_end() {
        let services = services("web: {image: a, type: service, replicas: 3, health: {port: 1}}\njob: {image: a}\n");
        let mut plan = Plan::new(&services);
        let old = |n: u8| OrderId([n; 32]);
        for n in 0..3u8 {
            plan.add(key("web", n.into()), Stage::Waiting, Some(old(n)), 0);
        }
        plan.add(key("job", 0), Stage::Waiting, Some(old(9)), 0);
        assert_eq!(plan.steps(), [Step::StopOld(key("job", 0), old(9)), Step::Start(key("web", 0))]);
        plan.old_is_gone(&key("job", 0));
        assert_eq!(starts(&plan), [key("job", 0), key("web", 0)]);
        plan.reach(&key("job", 0), Stage::Up);
        plan.reach(&key("web", 0), Stage::Starting);
        plan.reach(&key("web", 0), Stage::Up);
        assert_eq!(plan.steps(), [], "it runs, but is not healthy yet");
        plan.reach(&key("web", 0), Stage::Well);
        assert_eq!(plan.steps(), [Step::StopOld(key("web", 0), old(0)), Step::Start(key("web", 1))]);
        plan.old_is_gone(&key("web", 0));
        // The second does not get well: it and the last old one are left, and nothing more is changed.
        plan.reach(&key("web", 1), Stage::Starting);
        plan.reach(&key("web", 1), Stage::Failed("exit 1".into()));
        assert_eq!(plan.part(&key("web", 1)).unwrap().old, Some(old(1)));
        assert_eq!(plan.steps(), []);
        plan.reach(&key("job", 0), Stage::Done);
        assert!(plan.is_over(Goal::Settled));
    }

    proptest! {
        /// Whatever happens in whatever order: nothing starts before its time, arrays keep their number, and in the end it is over.
        #[test]
        fn any_course_of_events_keeps_the_promises(choices in proptest::collection::vec((0usize..64, 0u8..6), 0..200)) {
            let mut plan = plan(
                "db: {image: a, type: service, health: {port: 1}}\nmany: {image: a, array: {count: 6, parallel: 2}, depends_on: {db: healthy}}\n\
                 web: {image: a, type: service, replicas: 3, depends_on: {many: completed}}\n",
            );
            for (which, what) in choices {
                for step in plan.steps() {
                    let Step::Start(key) = step else { panic!("nothing is replaced here") };
                    prop_assert_eq!(&plan.part(&key).unwrap().stage, &Stage::Waiting);
                    match key.service.as_str() {
                        "many" => prop_assert!(plan.has_reached("db", Until::Healthy)),
                        "web" => prop_assert!(plan.has_reached("many", Until::Completed)),
                        _ => {}
                    }
                    plan.reach(&key, Stage::Starting);
                }
                prop_assert!(plan.of("many").filter(|(_, p)| p.stage.is_live()).count() <= 2);
                let live: Vec<Key> = plan.parts().filter(|(_, p)| p.stage.is_live()).map(|(k, _)| k.clone()).collect();
                let Some(key) = live.get(which % live.len().max(1)) else { break };
                match what {
                    0 | 1 => plan.reach(key, Stage::Up),
                    2 => plan.reach(key, Stage::Well),
                    3 if key.service == "many" => plan.reach(key, Stage::Done),
                    4 => plan.reach(key, Stage::Failed("x".into())),
                    _ => drop(plan.moves_on(key)),
                }
            }
            // Nothing is left hanging: either there is something to do or to wait for, or it is over.
            let waits = plan.parts().any(|(_, p)| p.stage.is_live());
            prop_assert!(waits || !plan.steps().is_empty() || plan.is_over(Goal::Settled));
        }
    }
}
