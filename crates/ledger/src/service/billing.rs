//! What proven service costs, class by class. Spec: `docs/specs/settlement.md` §4.
//!
//! Guarantees: each class pays its own rate for the time that it was proven, rounded down; together never more than the escrow.
//! Billed time only grows, whatever is reported of time that checks took. What is proven is `settle`'s to count.

use crate::records::{Lease, Metered, Proven};
use pasture_types::event::SettledLine;
use pasture_types::proof::ResourceClass;
use pasture_types::{Amount, Millis};

/// What a lease pays per hour for its GPUs; the rest of its rate is for the CPU and what follows it.
pub(crate) const fn gpu_rate(_lease: &Lease) -> Amount {
    Amount::ZERO
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
    let mut out = Vec::with_capacity(1);
    for (class, rate) in class_rates(lease) {
        if class != ResourceClass::Cpu && rate.is_zero() {
            continue;
        }
        let proven = of_class(metered, class);
        let billed_ms = proven.billed.min(lease.max_duration);
        out.push(SettledLine {
            class,
            rate_per_hour: rate,
            billed_ms,
            charged: rate.per_hour_for(billed_ms.0).unwrap_or(lease.escrow),
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
