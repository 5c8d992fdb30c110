//! A zone of audited machines in virtual time, epoch by epoch: draws, bursts, verdicts, payouts.
//!
//! Guarantees: who is drawn, what a verdict is, what follows for the node, its pool, its pay and its deposit is decided by the ledger's
//! functions (`pasture_ledger::audit_rules`); this file calls them when the ledger would. It signs nothing and has no blocks: actions,
//! signatures and the state's tables are what `farm-sim people` and the ledger's own tests go through.

use super::Fault;
use super::burst::{Machine, RATE, WITNESSES, answered, burst, witnessed};
use super::chance::{real, waiting, whole};
use super::who::{Away, Habit, Power};
use crate::dice::Dice;
use pasture_ledger::audit_rules::{
    Capacity, Count, INTERIM_EPOCHS, Now, Rated, Then, audit_costs, consequence, deposit_for, drawn_slot, draws, lapse, pooled, standing,
    verdict,
};
use pasture_ledger::{AuditRecord, NodeAudit, OpenAudit};
use pasture_types::audit::Verdict;
use pasture_types::event::Hash32;
use pasture_types::genesis::Params;
use pasture_types::{Amount, NodeId, Timestamp};

/// A whole machine at list prices, an hour.
const HOURLY: Amount = crate::config::LIST_RATE;
const HOUR_MS: f64 = 3_600_000.0;

/// What came of a machine, in epochs of a whole machine's pay.
#[derive(Clone, Copy, Default, Debug)]
pub struct Account {
    /// What the ledger paid.
    pub paid: f64,
    /// What was sold elsewhere.
    pub elsewhere: f64,
    /// What was forfeited.
    pub forfeited: f64,
    /// Epochs that were not paid.
    pub unpaid: u64,
    /// Epochs in which less than what was sold was there.
    pub cheated: u64,
    /// Of them, those before the first consequence of an audit.
    pub until_caught: Option<u64>,
    /// First attempts.
    pub audits: u64,
    /// Verdicts that counted as failures.
    pub failed: u64,
    /// Passed at the repetition only.
    pub second: u64,
    /// Neither passed nor failed, with the repetition.
    pub void: u64,
    /// Times that its pool convicted it.
    pub derated: u64,
    /// Times that it was suspended.
    pub suspended: u64,
    /// Times that something was forfeited.
    pub slashed: u64,
    /// Names that it had.
    pub names: u64,
}

/// A machine and its owner.
pub struct Node {
    /// Which habit.
    pub habit: usize,
    /// What came of it.
    pub account: Account,
    audit: NodeAudit,
    /// The first epoch that is not settled.
    cursor: u64,
    phase: u64,
    /// How much of the machine is there in this epoch.
    there: f64,
    hot: bool,
    /// When that, or an outage, changes next.
    turns: u64,
    /// What it sells, and sold before the epoch beside it.
    sold: f64,
    sold_before: (f64, u64),
}

/// An audit until its deadline.
struct Open {
    node: usize,
    attempt: u8,
    epoch: u64,
    rate: u64,
    count: Count,
    largest: Option<u64>,
}

/// The zone.
pub struct Zone {
    /// Its rules.
    pub params: Params,
    /// A fault that is built in, so that tests see that it is found.
    pub fault: Option<Fault>,
    /// What a machine's hour is worth elsewhere, of its hour here.
    pub elsewhere: f64,
    /// All machines.
    pub nodes: Vec<Node>,
    habits: Vec<Habit>,
    dice: Dice,
    epoch: u64,
    /// Audits by the epoch at whose beginning they are judged.
    due: [Vec<Open>; 3],
    record: AuditRecord,
}

impl Zone {
    /// A zone with so many machines of each habit.
    #[must_use]
    pub fn new(params: Params, habits: Vec<Habit>, each: usize, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let nodes = (0..habits.len() * each)
            .map(|n| {
                let habit = n % habits.len();
                let claim = habits.get(habit).map_or(1.0, |h| h.claim);
                let account = Account { names: 1, ..Account::default() };
                let phase = dice.below(INTERIM_EPOCHS);
                let audit = NodeAudit::new(NodeId([0; 32]));
                let (sold, sold_before) = (claim, (claim, 0));
                Node { habit, account, audit, cursor: 0, phase, there: 1.0, hot: false, turns: 0, sold, sold_before }
            })
            .collect();
        let record = AuditRecord {
            number: 0,
            node: NodeId([0; 32]),
            declared: 0,
            attempt: 1,
            epoch: 0,
            drawn_at: Timestamp(0),
            randomness: Hash32([0; 32]),
            rate: RATE,
            terms: params.audits.terms(),
            witnesses: vec![NodeId([0; 32]); WITNESSES],
            until_shifted: Timestamp(0),
            said: Vec::new(),
            answer: None,
            contradicted: false,
            voided: None,
            verdict: None,
            memory: None,
            gpu_verdict: None,
            memory_verdict: None,
            gpus: Vec::new(),
        };
        let due = [Vec::new(), Vec::new(), Vec::new()];
        Self { params, fault: None, elsewhere: 0.5, nodes, habits, dice, epoch: 0, due, record }
    }

    /// Its habits.
    #[must_use]
    pub fn habits(&self) -> &[Habit] {
        &self.habits
    }

    /// So many epochs.
    pub fn run(&mut self, epochs: u64) {
        for _ in 0..epochs {
            self.step();
        }
    }

    fn slot(&mut self, epoch: u64) -> Option<&mut Vec<Open>> {
        self.due.get_mut(usize::try_from(epoch % 3).unwrap_or(0))
    }

    fn step(&mut self) {
        self.people();
        let judged = self.slot(self.epoch).map(std::mem::take).unwrap_or_default();
        for open in judged {
            self.judge(&open);
        }
        self.pay_out();
        let tick = self.params.audits.tick.0.max(1);
        let first = (self.epoch * self.params.epoch.0).div_ceil(tick);
        let after = ((self.epoch + 1) * self.params.epoch.0).div_ceil(tick);
        for _ in first..after {
            self.tick();
        }
        self.epoch += 1;
    }

    /// What people and machines do in this epoch.
    fn people(&mut self) {
        let (epoch, hour) = (self.epoch, HOUR_MS / real(self.params.epoch.0));
        for node in &mut self.nodes {
            let Some(habit) = self.habits.get(node.habit) else { continue };
            let away = match habit.away {
                Away::Never => false,
                Away::Part(part) => part >= 1.0 || self.dice.unit() < part,
                Away::BeforePayout(epochs) => (epoch + node.phase) % INTERIM_EPOCHS >= INTERIM_EPOCHS - epochs,
                Away::AfterPayout(epochs) => (epoch + node.phase) % INTERIM_EPOCHS < epochs,
                Away::From(from) => epoch >= from,
                Away::OncePassed => node.audit.last_pass.is_some(),
            };
            node.there = if away { habit.left } else { 1.0 };
            let awaited = node.audit.open.is_some_and(|open| open.missed || open.weak);
            if habit.returns && awaited {
                node.there = 1.0;
            }
            if let Some((between, long)) = habit.outages {
                if epoch >= node.turns {
                    node.hot = !node.hot && node.turns > 0;
                    node.turns = epoch + 1 + whole(waiting(&mut self.dice, if node.hot { long } else { between } * hour));
                }
                // An honest machine that is cut off works on; its witnesses do not see it.
                node.there = if node.hot { 0.0 } else { 1.0 };
            }
            if let Power::Throttled(_, hot, cool) = habit.power
                && epoch >= node.turns
            {
                node.hot = !node.hot;
                node.turns = epoch + 1 + whole(waiting(&mut self.dice, if node.hot { hot } else { cool } * hour));
            }
            if !habit.honest {
                node.account.elsewhere += (1.0 - node.there) * self.elsewhere;
                let power = if let Power::Steady(power) = habit.power { power } else { 1.0 };
                // Less than what it sells, but for the tolerance.
                let short = node.there * power < 0.95 * node.sold;
                node.account.cheated += u64::from(short);
                node.account.elsewhere += (1.0 - power) * self.elsewhere;
            }
        }
    }

    fn tick(&mut self) {
        let mut mix = [0; 32];
        for part in mix.chunks_exact_mut(8) {
            part.copy_from_slice(&self.dice.next().to_le_bytes());
        }
        let groups = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        for index in 0..draws(&self.params.audits, groups, &mix) {
            let at = drawn_slot(groups, &mix, index) as usize;
            if self.nodes.get(at).is_some_and(|n| n.audit.open.is_none()) {
                self.open(at, 1);
            }
        }
    }

    /// An audit is drawn, its burst done, and all is said that will be.
    fn open(&mut self, at: usize, attempt: u8) {
        let epoch = self.epoch;
        let Some(node) = self.nodes.get_mut(at) else { return };
        let Some(habit) = self.habits.get(node.habit) else { return };
        let until_shifted = Timestamp((epoch + 2) * self.params.epoch.0);
        let first = node.audit.open.unwrap_or(OpenAudit::new(None, epoch, until_shifted));
        node.audit.open = Some(OpenAudit { audit: Some(0), until_shifted, ..first });
        node.account.audits += u64::from(attempt == 1);
        let declared = real(RATE) * habit.claim;
        let rate = whole(declared * f64::from(node.audit.proven_ppm) / 1e6).max(1);
        let machine = Machine { there: node.there, hot: node.hot };
        let params = &self.params.audits;
        let done = burst(&mut self.dice, habit, machine, params, rate);
        let count = witnessed(&mut self.dice, habit, params, done.as_ref());
        let open = Open { node: at, attempt, epoch, rate, count, largest: done.map(|b| b.largest) };
        if let Some(slot) = self.slot(epoch + 2) {
            slot.push(open);
        }
    }

    fn judge(&mut self, open: &Open) {
        let record = &mut self.record;
        (record.attempt, record.epoch, record.rate) = (open.attempt, open.epoch, open.rate);
        record.answer = open.largest.map(answered);
        let params = &self.params.audits;
        let Some(node) = self.nodes.get_mut(open.node) else { return };
        let said = verdict(record, &open.count);
        let follows = consequence(record, &mut node.audit, &open.count, said);
        let mut forfeits = false;
        match follows.then {
            Then::Repeat { .. } => {
                let again = now_of(self.epoch, &self.params).again;
                node.audit.open = Some(follows.then.reopened(open.epoch, again));
                forfeits = self.fault == Some(Fault::SlashAtOnce) && said == Verdict::Failed;
            }
            Then::Failed { weak } => {
                let cost = audit_costs(&self.params.stake, node.audit.in_a_row, weak);
                node.account.suspended += u64::from(cost.suspends);
                forfeits = cost.forfeits;
                node.account.failed += 1;
                node.account.until_caught.get_or_insert(node.account.cheated);
            }
            Then::Nothing => {
                node.account.void += u64::from(said == Verdict::Void);
                node.account.second += u64::from(said == Verdict::Passed && open.attempt == 2);
            }
        }
        if let Some(behind) = follows.lapses.filter(|_| self.fault != Some(Fault::NoLapse)) {
            node.audit.lapse(behind, self.epoch + 1, lapse(params, self.params.epoch));
            node.account.until_caught.get_or_insert(node.account.cheated);
        }
        if forfeits {
            node.account.slashed += 1;
            node.account.until_caught.get_or_insert(node.account.cheated);
            node.account.forfeited += deposit(&self.params, node.sold);
        }
        for sample in follows.samples.into_iter().flatten() {
            let rated = pooled(&mut node.audit, params, sample);
            if rated == Some(Rated::Less) {
                node.account.derated += 1;
                node.account.until_caught.get_or_insert(node.account.cheated);
            }
            if rated.is_some() {
                let claim = self.habits.get(node.habit).map_or(1.0, |h| h.claim);
                node.sold_before = (node.sold, self.epoch + 1);
                node.sold = claim * f64::from(node.audit.proven_ppm) / 1e6;
            }
        }
        let renames = self.habits.get(node.habit).is_some_and(|h| h.renames);
        if (matches!(follows.then, Then::Failed { .. }) || follows.lapses.is_some()) && renames {
            self.rename(open.node);
        } else if matches!(follows.then, Then::Repeat { .. }) {
            self.open(open.node, 2);
        }
    }

    /// All that is open under the old name is settled, then another begins.
    fn rename(&mut self, at: usize) {
        self.settle(at);
        let epoch = self.epoch;
        if let Some(node) = self.nodes.get_mut(at) {
            let claim = self.habits.get(node.habit).map_or(1.0, |h| h.claim);
            node.audit = NodeAudit::new(NodeId([0; 32]));
            (node.cursor, node.sold, node.sold_before) = (epoch, claim, (claim, 0));
            node.account.names += 1;
        }
    }

    fn pay_out(&mut self) {
        for at in 0..self.nodes.len() {
            if self.nodes.get(at).is_some_and(|n| (self.epoch + n.phase).is_multiple_of(INTERIM_EPOCHS)) {
                self.settle(at);
            }
        }
    }

    /// Pays whole epochs, one after another, until one is open.
    fn settle(&mut self, at: usize) {
        let now = now_of(self.epoch, &self.params);
        let Some(node) = self.nodes.get_mut(at) else { return };
        while node.cursor < now.epoch {
            let epoch = node.cursor;
            match standing(&node.audit, &self.params.audits, now, epoch) {
                Capacity::Open(_) => break,
                Capacity::Failed => node.account.unpaid += 1,
                Capacity::Audited | Capacity::Unaudited => {
                    node.account.paid += if epoch < node.sold_before.1 { node.sold_before.0 } else { node.sold };
                }
            }
            node.cursor += 1;
        }
    }

    /// Settles what can be at the end, and leaves the rest unpaid.
    pub fn finish(&mut self) {
        (0..self.nodes.len()).for_each(|at| self.settle(at));
    }
}

fn now_of(epoch: u64, params: &Params) -> Now {
    let shifted = Timestamp(epoch * params.epoch.0);
    Now { epoch, shifted, again: shifted.plus(params.epoch) }
}

/// The deposit that so much of a machine needs, in epochs of a whole machine's pay.
fn deposit(params: &Params, sold: f64) -> f64 {
    let hourly = real(u64::try_from(HOURLY.0).unwrap_or(u64::MAX));
    let rate = Amount(u128::from(whole(hourly * sold)));
    let needs = deposit_for(params, rate).map_or(0, |a| u64::try_from(a.0).unwrap_or(u64::MAX));
    real(needs) / (hourly * real(params.epoch.0) / HOUR_MS)
}
