//! How well an order fits a machine, by one of several policies. Spec: `docs/specs/market.md` §5.
//!
//! Guarantees: integers only, a part lies between 0 and [`ONE`], and the work is bounded by the machine's GPU groups times the
//! typical jobs. It knows nothing of offers or prices, so that placements can be compared outside a ledger too.

use pasture_types::Resources;
use pasture_types::market_rules::{FitPolicy, TypicalJob};

/// A whole in fixed point.
pub const ONE: u64 = 1_000_000;
/// A GPU in thousandths.
pub const WHOLE_GPU: u16 = 1_000;
/// How much fragmentation a part tells apart: eight GPUs more or less.
const SPAN: i64 = 8 * WHOLE_GPU as i64;
const MIB: u64 = 1 << 20;
/// What a dot product is measured against: a large machine.
const LARGE: Demand = Demand { cpu_millis: 128_000, memory_mib: 1 << 20, disk_mib: 1 << 24, gpus: 8, gpu_millis: WHOLE_GPU };

/// GPUs of a machine with equally much free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Devices {
    /// Free of each, in thousandths.
    pub free_millis: u16,
    /// How many there are.
    pub count: u16,
}

/// What is free of a machine.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Machine {
    /// CPU.
    pub cpu_millis: u64,
    /// Memory.
    pub memory_mib: u64,
    /// Disk.
    pub disk_mib: u64,
    /// GPUs.
    pub gpus: Vec<Devices>,
}

/// What is asked of a machine.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Demand {
    /// CPU.
    pub cpu_millis: u64,
    /// Memory.
    pub memory_mib: u64,
    /// Disk.
    pub disk_mib: u64,
    /// GPUs.
    pub gpus: u16,
    /// Of each, in thousandths.
    pub gpu_millis: u16,
}

impl Machine {
    /// A machine as the ledger knows it: whole GPUs, whatever their model.
    #[must_use]
    pub fn of(r: &Resources) -> Self {
        Self {
            cpu_millis: u64::from(r.cpu_millis),
            memory_mib: r.memory_bytes / MIB,
            disk_mib: r.disk_bytes / MIB,
            gpus: r.gpus.iter().map(|g| Devices { free_millis: WHOLE_GPU, count: g.count }).collect(),
        }
    }

    /// All that is free of its GPUs, in thousandths.
    #[must_use]
    pub fn gpu_millis(&self) -> u64 {
        self.gpus.iter().map(|d| u64::from(d.free_millis) * u64::from(d.count)).sum()
    }

    fn has(&self, cpu_millis: u64, memory_mib: u64, gpus: u16, gpu_millis: u16) -> bool {
        let usable = |d: &&Devices| d.free_millis >= gpu_millis && d.free_millis > 0;
        let devices: u64 = self.gpus.iter().filter(usable).map(|d| u64::from(d.count)).sum();
        self.cpu_millis >= cpu_millis && self.memory_mib >= memory_mib && devices >= u64::from(gpus)
    }

    /// What is left with `count` devices of one group used by `millis` each.
    fn used(&self, group: usize, count: u16, millis: u16) -> Self {
        let mut out = self.clone();
        if let Some(d) = out.gpus.get_mut(group) {
            let rest = d.free_millis.saturating_sub(millis);
            d.count = d.count.saturating_sub(count);
            match out.gpus.iter_mut().find(|d| d.free_millis == rest) {
                Some(same) => same.count = same.count.saturating_add(count),
                None => out.gpus.push(Devices { free_millis: rest, count }),
            }
        }
        out.gpus.retain(|d| d.count > 0 && d.free_millis > 0);
        out
    }
}

impl Demand {
    /// A demand as the ledger knows it: whole GPUs.
    #[must_use]
    pub fn of(r: &Resources) -> Self {
        let gpus = r.gpus.iter().fold(0u16, |n, g| n.saturating_add(g.count));
        Self {
            cpu_millis: u64::from(r.cpu_millis),
            memory_mib: r.memory_bytes / MIB,
            disk_mib: r.disk_bytes / MIB,
            gpus,
            gpu_millis: WHOLE_GPU,
        }
    }
    fn all_gpu_millis(&self) -> u64 {
        u64::from(self.gpus) * u64::from(self.gpu_millis)
    }
}

/// The thousandths of GPUs that a typical job cannot use, averaged over the jobs by their weight (FGD, USENIX ATC 2023, §3): all
/// of them where the job does not fit or asks for no GPU, else those of devices with less free than it takes.
#[must_use]
pub fn fragmentation(machine: &Machine, typical: &[TypicalJob]) -> u64 {
    let all = machine.gpu_millis();
    let (mut sum, mut weights) = (0u64, 0u64);
    for job in typical.iter().filter(|j| j.weight > 0) {
        let fits = machine.has(u64::from(job.cpu_millis), u64::from(job.memory_mib), job.gpus, job.gpu_millis);
        let small = |d: &&Devices| d.free_millis < job.gpu_millis;
        let lost = if job.gpus == 0 || !fits {
            all
        } else {
            machine.gpus.iter().filter(small).map(|d| u64::from(d.free_millis) * u64::from(d.count)).sum()
        };
        sum = sum.saturating_add(lost.saturating_mul(u64::from(job.weight)));
        weights += u64::from(job.weight);
    }
    sum.checked_div(weights).unwrap_or(0)
}

/// A machine after it took a demand, or `None` if it does not fit. One GPU is taken where fragmentation then is least, if that
/// is the policy; else, and for several, the devices with the least free that suffices.
#[must_use]
pub fn place(machine: &Machine, demand: &Demand, policy: FitPolicy, typical: &[TypicalJob]) -> Option<Machine> {
    if machine.disk_mib < demand.disk_mib || !machine.has(demand.cpu_millis, demand.memory_mib, demand.gpus, demand.gpu_millis) {
        return None;
    }
    let mut left = Machine {
        cpu_millis: machine.cpu_millis - demand.cpu_millis,
        memory_mib: machine.memory_mib - demand.memory_mib,
        disk_mib: machine.disk_mib - demand.disk_mib,
        gpus: machine.gpus.clone(),
    };
    if policy == FitPolicy::Fragmentation && demand.gpus == 1 {
        let usable = left.gpus.iter().enumerate().filter(|(_, d)| d.count > 0 && d.free_millis > 0 && d.free_millis >= demand.gpu_millis);
        let least = usable.map(|(at, d)| (left.used(at, 1, demand.gpu_millis), d.free_millis));
        return least.min_by_key(|(after, free)| (fragmentation(after, typical), *free)).map(|(after, _)| after);
    }
    // The plan is made on the devices as they are, so that none serves twice.
    let mut groups: Vec<Devices> =
        machine.gpus.iter().copied().filter(|d| d.free_millis > 0 && d.free_millis >= demand.gpu_millis).collect();
    groups.sort_by_key(|d| d.free_millis);
    let mut wanted = demand.gpus;
    for group in groups {
        let count = group.count.min(wanted);
        if let Some(at) = left.gpus.iter().position(|d| d.free_millis == group.free_millis)
            && count > 0
        {
            left = left.used(at, count, demand.gpu_millis);
            wanted -= count;
        }
    }
    (wanted == 0).then_some(left)
}

/// The fit of a demand: `before` is what is free now, `after` what would be. `draw` is a drawn number, for [`FitPolicy::Random`].
#[must_use]
pub fn fit_part(policy: FitPolicy, typical: &[TypicalJob], before: &Machine, after: &Machine, demand: &Demand, draw: u64) -> u64 {
    match policy {
        FitPolicy::Random => draw % (ONE + 1),
        FitPolicy::DotProduct => dot_product(before, demand),
        FitPolicy::Fragmentation if !before.gpus.is_empty() => less_fragmentation(before, after, typical),
        // A machine without GPUs always suits a job without them better than one whose GPUs may lie idle for it.
        FitPolicy::Fragmentation => ONE / 2 + best_fit(before, demand) / 2,
        FitPolicy::BestFit => best_fit(before, demand),
    }
}

/// `1/2 - growth / (2 x 8 GPUs)`, within 0 and 1.
fn less_fragmentation(before: &Machine, after: &Machine, typical: &[TypicalJob]) -> u64 {
    let signed = |m: &Machine| i64::try_from(fragmentation(m, typical)).unwrap_or(i64::MAX);
    let growth = signed(after).saturating_sub(signed(before)).clamp(-SPAN, SPAN);
    u64::try_from((SPAN - growth) * i64::try_from(ONE).unwrap_or(i64::MAX) / (2 * SPAN)).unwrap_or(0)
}

/// The share of a demand in what is free; a whole where nothing is free.
fn share(need: u64, free: u64) -> u64 {
    let part = (u128::from(need) * u128::from(ONE)).checked_div(u128::from(free)).unwrap_or(u128::from(ONE));
    u64::try_from(part).unwrap_or(ONE).min(ONE)
}

/// The used share of what is free, averaged over CPU, memory, disk and, where there are any, GPUs.
fn best_fit(free: &Machine, need: &Demand) -> u64 {
    let basic = share(need.cpu_millis, free.cpu_millis) + share(need.memory_mib, free.memory_mib) + share(need.disk_mib, free.disk_mib);
    if need.gpus == 0 && free.gpus.is_empty() { basic / 3 } else { (basic + share(need.all_gpu_millis(), free.gpu_millis())) / 4 }
}

/// The mean over the classes of `need x free`, each measured against a large machine: large jobs go where much is free of what
/// they need most.
fn dot_product(free: &Machine, need: &Demand) -> u64 {
    let term = |need: u64, free: u64, large: u64| share(need, large) * share(free, large) / ONE;
    let sum = term(need.cpu_millis, free.cpu_millis, LARGE.cpu_millis)
        + term(need.memory_mib, free.memory_mib, LARGE.memory_mib)
        + term(need.disk_mib, free.disk_mib, LARGE.disk_mib)
        + term(need.all_gpu_millis(), free.gpu_millis(), LARGE.all_gpu_millis());
    sum / 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::market_rules::MarketParams;

    fn machine(cpu: u64, gpus: &[(u16, u16)]) -> Machine {
        let gpus = gpus.iter().map(|(free_millis, count)| Devices { free_millis: *free_millis, count: *count }).collect();
        Machine { cpu_millis: cpu, memory_mib: 1 << 20, disk_mib: 1 << 20, gpus }
    }

    #[test]
    fn a_gpu_that_no_typical_job_can_use_is_a_fragment() {
        let job = TypicalJob { cpu_millis: 4_000, memory_mib: 1, gpus: 1, gpu_millis: 700, weight: 3 };
        let plain = TypicalJob { cpu_millis: 1_000, memory_mib: 1, gpus: 0, gpu_millis: 0, weight: 1 };
        assert_eq!(fragmentation(&machine(8_000, &[(1_000, 2), (500, 1)]), &[job]), 500);
        assert_eq!(fragmentation(&machine(3_000, &[(1_000, 2), (500, 1)]), &[job]), 2_500, "its CPU is gone");
        assert_eq!(fragmentation(&machine(8_000, &[(1_000, 2)]), &[job, plain]), 500, "a quarter asks for no GPU");
        assert_eq!(fragmentation(&machine(8_000, &[(1_000, 2)]), &[]), 0);
    }

    #[test]
    fn part_of_a_gpu_is_taken_where_least_is_wasted() {
        let job = TypicalJob { cpu_millis: 1, memory_mib: 1, gpus: 1, gpu_millis: 600, weight: 1 };
        let demand = Demand { cpu_millis: 1, memory_mib: 1, disk_mib: 0, gpus: 1, gpu_millis: 400 };
        let m = machine(8_000, &[(1_000, 1), (800, 1), (500, 1)]);
        // From 500 nothing is lost that was not lost before; from 800 the rest of 400 would be.
        let after = place(&m, &demand, FitPolicy::Fragmentation, &[job]).unwrap();
        assert_eq!(after.gpu_millis(), 1_900);
        assert_eq!(fragmentation(&after, &[job]), 100);
        let two = Demand { gpus: 2, gpu_millis: 800, ..demand };
        assert_eq!(place(&m, &two, FitPolicy::BestFit, &[]).unwrap().gpu_millis(), 700);
        assert_eq!(place(&m, &Demand { gpus: 3, ..two }, FitPolicy::BestFit, &[]), None);
    }

    #[test]
    fn a_cpu_job_keeps_away_from_the_cpu_that_gpus_need() {
        let typical = MarketParams::dev().typical;
        let demand = Demand { cpu_millis: 6_000, memory_mib: 1_000, disk_mib: 0, gpus: 0, gpu_millis: 0 };
        let part = |m: &Machine| {
            let after = place(m, &demand, FitPolicy::Fragmentation, &typical).unwrap();
            fit_part(FitPolicy::Fragmentation, &typical, m, &after, &demand, 0)
        };
        let (spare, tight) = (machine(64_000, &[(1_000, 1)]), machine(8_000, &[(1_000, 1)]));
        assert!(part(&spare) > part(&tight), "{} {}", part(&spare), part(&tight));
        assert!(part(&machine(8_000, &[])) > part(&tight));
    }

    #[test]
    fn every_policy_stays_within_a_whole() {
        let huge = Machine {
            cpu_millis: u64::MAX,
            memory_mib: u64::MAX,
            disk_mib: 0,
            gpus: vec![Devices { free_millis: 1_000, count: u16::MAX }],
        };
        let demand = Demand { cpu_millis: u64::MAX, memory_mib: 1, disk_mib: u64::MAX, gpus: u16::MAX, gpu_millis: 1_000 };
        for policy in [FitPolicy::BestFit, FitPolicy::Random, FitPolicy::DotProduct, FitPolicy::Fragmentation] {
            for (before, after) in [(&huge, &Machine::default()), (&Machine::default(), &huge)] {
                assert!(fit_part(policy, &MarketParams::dev().typical, before, after, &demand, u64::MAX) <= ONE, "{policy:?}");
            }
        }
    }
}
