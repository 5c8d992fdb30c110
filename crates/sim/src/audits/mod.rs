//! What audits do to a thousand machines, honest and dishonest: who is found out when, what cheating gains, whether an honest machine
//! ever loses anything. Spec: `docs/specs/audits.md`; how to read it: `docs/SIMULATION.md` §9.
//!
//! ```text
//!  who: machines and strategies, as data     burst: what a machine computes, what its witnesses see
//!        zone: draws, verdicts, pools, pay, forfeits -- asks --> pasture_ledger::audit_rules
//!        report: rows, findings             confirm: what the specs derive, beside what is simulated
//! ```
//! Guarantees: what the ledger decides is decided by its functions, so a million days of a machine take minutes; hashes are drawn from
//! their exact distribution. A seed repeats a run. It has no blocks, no signatures and no users: whether users see that nobody serves them is
//! `farm-sim people`'s subject.

pub mod burst;
pub mod chance;
pub mod confirm;
pub mod report;
pub mod who;
pub mod zone;

pub use confirm::confirm;
pub use report::{Audits, Row};

use pasture_types::audit::AuditParams;
use pasture_types::genesis::Params;
use who::{DAY, Habit};
use zone::Zone;

/// Faults that can be built in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The first failure forfeits a deposit.
    SlashAtOnce,
    /// A first attempt that is missed costs nothing if the repetition passes.
    NoLapse,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Machines in each of the two zones.
    pub nodes: u64,
    /// How many days of one machine the honest zone runs.
    pub node_days: u64,
    /// How many days the zone of cheats runs.
    pub days: u64,
    /// What all randomness comes from.
    pub seed: u64,
    /// What a machine's hour is worth elsewhere, in parts per million of its hour here.
    pub elsewhere_ppm: u64,
    /// A fault that is built in.
    pub fault: Option<Fault>,
    /// How it audits.
    pub audits: AuditParams,
}

impl Config {
    /// A thousand machines, a month of cheats, a million days of honest ones.
    #[must_use]
    pub fn full(seed: u64) -> Self {
        Self {
            nodes: 1_000,
            node_days: 1_000_000,
            days: 30,
            seed,
            elsewhere_ppm: 500_000,
            fault: None,
            audits: AuditParams { active: true, places: false, ..AuditParams::production() },
        }
    }

    fn zone(&self, habits: Vec<Habit>, each: u64, seed: u64) -> Zone {
        let params = Params { audits: self.audits.clone(), ..Params::production() };
        let mut zone = Zone::new(params, habits, usize::try_from(each.max(1)).unwrap_or(1), seed);
        (zone.fault, zone.elsewhere) = (self.fault, chance::real(self.elsewhere_ppm) / 1e6);
        zone
    }
}

/// Runs both zones; `progress` hears of each hundredth.
pub fn run(config: &Config, progress: &mut dyn FnMut(&str, u64)) -> Audits {
    // Each honest habit twice: all witnesses honest, and five of sixteen lying against it.
    let lied = |habit: &Habit| Habit { liars: 5, ..habit.clone() };
    let mut habits = who::honest();
    habits.extend(who::honest().iter().map(lied));
    let each = (config.nodes / habits.len() as u64).max(1);
    let machines = each * habits.len() as u64;
    let mut honest = config.zone(habits, each, config.seed);
    watch(&mut honest, config.node_days.div_ceil(machines) * DAY, &mut |part| progress("honest machines", part));
    let mut habits = vec![who::honest().swap_remove(0)];
    habits.extend(who::cheats());
    habits.extend(who::unlike_ours());
    let each = (config.nodes / habits.len() as u64).max(1);
    let mut cheats = config.zone(habits, each, config.seed ^ 1);
    watch(&mut cheats, config.days * DAY, &mut |part| progress("cheats", part));
    report::report(config, &honest, &cheats)
}

fn watch(zone: &mut Zone, epochs: u64, progress: &mut dyn FnMut(u64)) {
    for part in 1..=100 {
        zone.run(epochs * part / 100 - epochs * (part - 1) / 100);
        progress(part);
    }
    zone.finish();
}
