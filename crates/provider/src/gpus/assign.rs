//! Which devices a lease gets. Pure.
//!
//! Guarantees: never a device that somebody holds, never one twice, all that were asked for or nothing; the same choice for the
//! same question.

use pasture_api::data::HeldGpu;
use pasture_types::GpuLine;
use std::collections::BTreeSet;

/// Picks devices for the lines of a lease, which are lines of the offer: exactly this model and memory.
pub(super) fn assign(devices: &[HeldGpu], held: &BTreeSet<String>, lines: &[GpuLine]) -> Option<Vec<HeldGpu>> {
    let mut out: Vec<HeldGpu> = vec![];
    for line in lines {
        let fits = |d: &&HeldGpu| d.model == line.model && d.vram_bytes == line.vram_bytes && !held.contains(&d.uuid);
        let free: Vec<HeldGpu> = devices.iter().filter(fits).filter(|d| !out.iter().any(|o| o.uuid == d.uuid)).cloned().collect();
        let count = usize::from(line.count);
        if free.len() < count {
            return None;
        }
        out.extend(free.into_iter().take(count));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn device(n: usize, model: usize, gib: u64) -> HeldGpu {
        HeldGpu { uuid: format!("GPU-{n}"), model: format!("M{model}"), vram_bytes: gib << 30, simulated: false }
    }

    fn line(model: usize, gib: u64, count: u16) -> GpuLine {
        GpuLine { model: format!("M{model}"), count, vram_bytes: gib << 30 }
    }

    /// What happens on a machine: a lease comes with these lines, or the n-th of those that are there ends.
    #[derive(Clone, Debug)]
    enum Deed {
        Comes(Vec<GpuLine>),
        Ends(usize),
    }

    fn deeds() -> impl Strategy<Value = Vec<Deed>> {
        let lines = proptest::collection::vec((0..2usize, prop_oneof![Just(40u64), Just(80)], 1..4u16), 1..3);
        let comes = lines.prop_map(|l| Deed::Comes(l.into_iter().map(|(m, g, c)| line(m, g, c)).collect()));
        proptest::collection::vec(prop_oneof![3 => comes, 2 => (0..8usize).prop_map(Deed::Ends)], 1..60)
    }

    proptest! {
        /// Two leases never hold the same device, whatever comes and goes; each has what it asked for; what is over is free.
        #[test]
        fn no_device_is_held_twice(machine in proptest::collection::vec((0..2usize, prop_oneof![Just(40u64), Just(80)]), 0..10), deeds in deeds()) {
            let devices: Vec<HeldGpu> = machine.iter().enumerate().map(|(n, (m, g))| device(n, *m, *g)).collect();
            let mut leases: Vec<Vec<HeldGpu>> = vec![];
            for deed in deeds {
                match deed {
                    Deed::Ends(n) => drop((n < leases.len()).then(|| leases.remove(n))),
                    Deed::Comes(lines) => {
                        let held: BTreeSet<String> = leases.iter().flatten().map(|d| d.uuid.clone()).collect();
                        let wanted = |d: &HeldGpu| -> u16 { lines.iter().filter(|l| l.model == d.model && l.vram_bytes == d.vram_bytes).map(|l| l.count).sum() };
                        let free = |l: &GpuLine| devices.iter().filter(|d| d.model == l.model && d.vram_bytes == l.vram_bytes && !held.contains(&d.uuid)).count();
                        let enough = lines.iter().all(|l| {
                            let asked: u16 = lines.iter().filter(|o| o.model == l.model && o.vram_bytes == l.vram_bytes).map(|o| o.count).sum();
                            free(l) >= usize::from(asked)
                        });
                        let got = assign(&devices, &held, &lines);
                        prop_assert_eq!(got.is_some(), enough, "{:?}", lines);
                        let Some(got) = got else { continue };
                        for d in &got {
                            prop_assert!(!held.contains(&d.uuid));
                            let same = got.iter().filter(|o| o.model == d.model && o.vram_bytes == d.vram_bytes).count();
                            prop_assert_eq!(same, usize::from(wanted(d)));
                        }
                        leases.push(got);
                    }
                }
                let all: Vec<&str> = leases.iter().flatten().map(|d| d.uuid.as_str()).collect();
                prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
            }
        }
    }
}
