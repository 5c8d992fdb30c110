//! What proven service costs, class by class. Spec: `docs/specs/settlement.md` §4.
//!
//! Guarantees: each class pays its own rate for the time that it was proven, rounded down; together never more than the escrow.
//! Billed time only grows, whatever is reported of time that checks took. What is proven is `settle`'s to count.

use crate::records::{Lease, Metered, Proven};
use pasture_types::event::SettledLine;
use pasture_types::market::LineClass;
use pasture_types::proof::ResourceClass;
use pasture_types::{Amount, Millis};

/// What a lease pays per hour for its GPUs; the rest of its rate is for the CPU and what follows it.
pub(crate) fn gpu_rate(lease: &Lease) -> Amount {
    let gpus = lease.tenure.lines.iter().filter(|line| matches!(line.class, LineClass::Gpu(_)));
    gpus.fold(Amount::ZERO, |sum, line| sum.saturating_add(line.rate_per_hour)).min(lease.rate_per_hour)
}

fn class_rates(lease: &Lease) -> [(ResourceClass, Amount); 2] {
    let gpu = gpu_rate(lease);
    [(ResourceClass::Cpu, lease.rate_per_hour.saturating_sub(gpu)), (ResourceClass::Gpu, gpu)]
}

const fn of_class(metered: &Metered, class: ResourceClass) -> &Proven {
    match class {
        ResourceClass::Cpu => &metered.cpu,
        ResourceClass::Gpu => &metered.gpu,
    }
}

/// Notes what is to be paid of the proven time, now that so much of the service is said to have gone to capacity checks.
pub(crate) fn bill(metered: &mut Metered, steal: Millis) {
    for proven in [&mut metered.cpu, &mut metered.gpu] {
        proven.billed = proven.billed.max(Millis(proven.ms.0.saturating_sub(steal.0)));
    }
}

/// The lines of a receipt: `floor(rate x billed / hour)` each. A class without a rate has no line, but for the CPU.
pub(crate) fn lines(lease: &Lease, metered: &Metered) -> Vec<SettledLine> {
    lines_at(class_rates(lease), metered, lease.max_duration, lease.escrow)
}

fn lines_at(rates: [(ResourceClass, Amount); 2], metered: &Metered, longest: Millis, escrow: Amount) -> Vec<SettledLine> {
    let mut out = Vec::with_capacity(1);
    for (class, rate) in rates {
        if class != ResourceClass::Cpu && rate.is_zero() {
            continue;
        }
        let proven = of_class(metered, class);
        let billed_ms = proven.billed.min(longest);
        out.push(SettledLine {
            class,
            rate_per_hour: rate,
            billed_ms,
            charged: rate.per_hour_for(billed_ms.0).unwrap_or(escrow),
            epochs_proven: proven.epochs,
            audited: proven.epochs > 0 && proven.audited == proven.epochs,
        });
    }
    out
}

/// What all lines cost, within the escrow.
pub(crate) fn charge(lease: &Lease, metered: &Metered) -> Amount {
    let sum = lines(lease, metered).iter().fold(Amount::ZERO, |sum, line| sum.saturating_add(line.charged));
    sum.min(lease.escrow)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Millis = Millis(3_600_000);
    const RATES: [(ResourceClass, Amount); 2] = [(ResourceClass::Cpu, Amount(3_600)), (ResourceClass::Gpu, Amount(36_000))];

    fn proven(ms: u64, epochs: u64, audited: u64) -> Proven {
        Proven { ms: Millis(ms), billed: Millis(0), epochs, audited }
    }

    #[test]
    fn each_class_pays_for_its_own_proof() {
        let mut metered = Metered { cpu: proven(20_000, 4, 4), ..Metered::default() };
        bill(&mut metered, Millis(0));
        let lines = lines_at(RATES, &metered, HOUR, Amount(1_000));
        assert_eq!(lines.iter().map(|l| l.charged).collect::<Vec<_>>(), [Amount(20), Amount(0)], "a CPU proof pays no GPU line");
        assert_eq!(lines.iter().map(|l| l.audited).collect::<Vec<_>>(), [true, false]);
        let mut metered = Metered { gpu: proven(20_000, 4, 0), ..Metered::default() };
        bill(&mut metered, Millis(5_000));
        let lines = lines_at(RATES, &metered, HOUR, Amount(1_000));
        assert_eq!(lines.iter().map(|l| l.charged).collect::<Vec<_>>(), [Amount(0), Amount(150)], "nor the other way round");
        let only_cpu = [RATES[0], (ResourceClass::Gpu, Amount::ZERO)];
        assert_eq!(lines_at(only_cpu, &metered, HOUR, Amount(1_000)).len(), 1);
    }

    #[test]
    fn billed_time_never_shrinks_and_never_passes_the_cap() {
        let mut metered = Metered { cpu: proven(60_000, 12, 0), ..Metered::default() };
        bill(&mut metered, Millis(10_000));
        assert_eq!(metered.cpu.billed, Millis(50_000));
        metered.cpu.ms = Millis(61_000);
        bill(&mut metered, Millis(40_000));
        assert_eq!(metered.cpu.billed, Millis(50_000), "what was paid for stays");
        assert_eq!(lines_at(RATES, &metered, Millis(30_000), Amount(1_000)).first().map(|l| l.charged), Some(Amount(30)));
    }
}
