//! Resource vectors and the sizes people write (`512Mi`, `500m`, `H100:2`).
//!
//! Guarantees: milli-cores and bytes everywhere, checked sums. It does not measure machines: see `provider`.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most GPU lines in one vector.
pub const MAX_GPU_LINES: usize = 8;
/// Longest GPU model name in bytes.
pub const MAX_GPU_MODEL: usize = 32;
/// Most service lines in one vector.
pub const MAX_SERVICE_LINES: usize = 8;
/// Longest name of a service class in bytes.
pub const MAX_SERVICE_CLASS: usize = 32;

/// An amount of machine: what an offer has, an order asks, a lease holds.
#[derive(Clone, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Resources {
    /// CPU in milli-cores (1000 = one core).
    pub cpu_millis: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Disk in bytes.
    pub disk_bytes: u64,
    /// GPUs by model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuLine>,
    /// Units of named service classes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceLine>,
}

/// Units of one service class: something a node has so much of at any time, e.g. `storage.gib` or `inference.tokens` (an hour).
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ServiceLine {
    /// Name: lower-case letters, digits, dots and dashes.
    pub class: String,
    /// How many units.
    pub units: u64,
}

/// Some GPUs of one model.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct GpuLine {
    /// Model in upper case without vendor, e.g. `H100`.
    pub model: String,
    /// How many.
    pub count: u16,
    /// Memory of each in bytes.
    pub vram_bytes: u64,
}

impl Resources {
    /// Whether a machine with `self` free can hold `need`.
    #[must_use]
    pub fn covers(&self, need: &Self) -> bool {
        self.cpu_millis >= need.cpu_millis
            && self.memory_bytes >= need.memory_bytes
            && self.disk_bytes >= need.disk_bytes
            && self.place_gpus(&need.gpus).is_some()
            && self.has_services(&need.services)
    }

    /// What `need` takes of a machine with `self` free, its GPU lines being lines of the machine; `None` if it does not fit.
    #[must_use]
    pub fn place(&self, need: &Self) -> Option<Self> {
        if !self.covers(need) {
            return None;
        }
        Some(Self { gpus: self.place_gpus(&need.gpus)?, ..need.clone() })
    }

    /// The lines that serve wanted GPUs: for each, the one with the least memory that suffices and has enough left, the most
    /// demanding wish first.
    #[must_use]
    pub fn place_gpus(&self, need: &[GpuLine]) -> Option<Vec<GpuLine>> {
        let mut left = self.gpus.clone();
        let mut wishes: Vec<&GpuLine> = need.iter().collect();
        wishes.sort_by_key(|w| (std::cmp::Reverse(w.vram_bytes), std::cmp::Reverse(w.count)));
        let mut taken = Self::default();
        for wish in wishes {
            let fits = left.iter_mut().filter(|g| g.model == wish.model && g.vram_bytes >= wish.vram_bytes && g.count >= wish.count);
            let line = fits.min_by_key(|g| g.vram_bytes)?;
            line.count -= wish.count;
            let line = GpuLine { count: wish.count, ..line.clone() };
            taken = taken.checked_add(&Self { gpus: vec![line], ..Self::default() })?;
        }
        Some(taken.gpus)
    }

    /// Whether it has the wanted units of each class.
    #[must_use]
    pub fn has_services(&self, need: &[ServiceLine]) -> bool {
        need.iter().all(|n| n.units == 0 || self.units_of(&n.class) >= n.units)
    }

    /// How many units of a service class it has.
    #[must_use]
    pub fn units_of(&self, class: &str) -> u64 {
        self.services.iter().find(|s| s.class == class).map_or(0, |s| s.units)
    }

    /// Sum, or `None` on overflow. Lines are kept in one order, so that it does not depend on that of the terms.
    #[must_use]
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        let (mut gpus, mut services) = (self.gpus.clone(), self.services.clone());
        for line in &other.gpus {
            match gpus.iter_mut().find(|g| g.model == line.model && g.vram_bytes == line.vram_bytes) {
                Some(g) => g.count = g.count.checked_add(line.count)?,
                None => gpus.push(line.clone()),
            }
        }
        for line in &other.services {
            match services.iter_mut().find(|s| s.class == line.class) {
                Some(s) => s.units = s.units.checked_add(line.units)?,
                None => services.push(line.clone()),
            }
        }
        gpus.sort_by(|a, b| (&a.model, a.vram_bytes).cmp(&(&b.model, b.vram_bytes)));
        services.sort_by(|a, b| a.class.cmp(&b.class));
        Some(Self {
            cpu_millis: self.cpu_millis.checked_add(other.cpu_millis)?,
            memory_bytes: self.memory_bytes.checked_add(other.memory_bytes)?,
            disk_bytes: self.disk_bytes.checked_add(other.disk_bytes)?,
            gpus,
            services,
        })
    }

    /// What is left after taking `other`, or `None` if it does not fit.
    #[must_use]
    pub fn checked_sub(&self, other: &Self) -> Option<Self> {
        let fits = self.cpu_millis >= other.cpu_millis
            && self.memory_bytes >= other.memory_bytes
            && self.disk_bytes >= other.disk_bytes
            && other.gpus.iter().all(|g| self.count_of(g) >= g.count)
            && self.has_services(&other.services);
        fits.then(|| self.saturating_sub(other))
    }

    /// What is left after taking `other`, line by line, at least nothing.
    #[must_use]
    pub fn saturating_sub(&self, other: &Self) -> Self {
        let (mut gpus, mut services) = (self.gpus.clone(), self.services.clone());
        for line in &mut gpus {
            line.count = line.count.saturating_sub(other.count_of(line));
        }
        for line in &mut services {
            line.units = line.units.saturating_sub(other.units_of(&line.class));
        }
        gpus.retain(|g| g.count > 0);
        services.retain(|s| s.units > 0);
        Self {
            cpu_millis: self.cpu_millis.saturating_sub(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
            disk_bytes: self.disk_bytes.saturating_sub(other.disk_bytes),
            gpus,
            services,
        }
    }

    /// How many GPUs of a line's kind it has.
    fn count_of(&self, line: &GpuLine) -> u16 {
        self.gpus.iter().find(|g| g.model == line.model && g.vram_bytes == line.vram_bytes).map_or(0, |g| g.count)
    }
}

/// A size or CPU amount that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct ParseSizeError {
    /// What was written.
    pub text: String,
    /// What is expected, with an example.
    pub expected: &'static str,
}

const UNITS: [(&str, u64); 9] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// Reads a size in bytes: `512Mi`, `1Gi`, `20GB`, `1.5Gi`, or plain bytes.
///
/// # Errors
/// [`ParseSizeError`] with an example of what is expected.
pub fn parse_bytes(text: &str) -> Result<u64, ParseSizeError> {
    let bad = || ParseSizeError { text: text.chars().take(40).collect(), expected: "a size: write for example 512Mi, 1.5Gi or 20GB" };
    let t = text.trim();
    let (number, unit) = UNITS.iter().find_map(|(u, m)| t.strip_suffix(u).map(|n| (n.trim(), *m))).unwrap_or((t, 1));
    scaled(number, unit).ok_or_else(bad)
}

/// Reads CPU as milli-cores: `0.5`, `2`, `500m`.
///
/// # Errors
/// [`ParseSizeError`] with an example of what is expected.
pub fn parse_cpu(text: &str) -> Result<u32, ParseSizeError> {
    let bad = || ParseSizeError { text: text.chars().take(40).collect(), expected: "an amount of CPU: write for example 0.5, 2 or 500m" };
    let t = text.trim();
    let millis = match t.strip_suffix('m') {
        // Digits only: `parse` alone would take a sign, which no other form takes.
        Some(n) if n.bytes().all(|b| b.is_ascii_digit()) => n.parse::<u64>().ok(),
        Some(_) => None,
        None => scaled(t, 1000),
    };
    millis.and_then(|m| u32::try_from(m).ok()).ok_or_else(bad)
}

/// `number * unit` for a plain decimal number with at most three decimals, rounded down.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || fraction.len() > 3 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let thousandths: u64 = if fraction.is_empty() { 0 } else { format!("{fraction:0<3}").parse().ok()? };
    let whole: u64 = whole.parse().ok()?;
    let rest = u128::from(thousandths) * u128::from(unit) / 1000;
    whole.checked_mul(unit)?.checked_add(u64::try_from(rest).ok()?)
}

/// Bytes for people: `512 MiB`, `1.5 GiB`.
#[must_use]
pub fn display_bytes(bytes: u64) -> String {
    const STEPS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (name, size) in STEPS {
        if bytes >= size {
            let tenths = u128::from(bytes) * 10 / u128::from(size);
            return if tenths.is_multiple_of(10) {
                format!("{} {name}", tenths / 10)
            } else {
                format!("{}.{} {name}", tenths / 10, tenths % 10)
            };
        }
    }
    format!("{bytes} B")
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cores, rest) = (self.cpu_millis / 1000, self.cpu_millis % 1000);
        let fraction = format!("{rest:03}");
        let fraction = fraction.trim_end_matches('0');
        let dot = if fraction.is_empty() { "" } else { "." };
        write!(f, "{cores}{dot}{fraction} CPU, {} memory, {} disk", display_bytes(self.memory_bytes), display_bytes(self.disk_bytes))?;
        for g in &self.gpus {
            write!(f, ", {}x {}", g.count, g.model)?;
            if g.vram_bytes > 0 {
                write!(f, " ({})", display_bytes(g.vram_bytes))?;
            }
        }
        for s in &self.services {
            write!(f, ", {} {}", s.units, s.class)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        assert_eq!(parse_bytes("512Mi"), Ok(512 << 20));
        assert_eq!(parse_bytes("1.5Gi"), Ok(3 << 29));
        assert_eq!(parse_bytes("20GB"), Ok(20_000_000_000));
        assert_eq!(parse_bytes("7"), Ok(7));
        for bad in ["", "Mi", "-1", "1e3", "1.2345Gi", "99999999999Ti", "ten"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_cpu("0.5"), Ok(500));
        assert_eq!(parse_cpu("250m"), Ok(250));
        for bad in ["5000000", "+0m", "+1", "-1m", "m", "1.5m"] {
            assert!(parse_cpu(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_taken_can_be_put_back() {
        let gpu = |vram_bytes, count| GpuLine { model: "H100".into(), count, vram_bytes };
        let units = |units| vec![ServiceLine { class: "storage.gib".into(), units }];
        let all = Resources { cpu_millis: 2000, memory_bytes: 10, disk_bytes: 5, gpus: vec![gpu(40, 1), gpu(80, 2)], services: units(9) };
        let need = Resources { cpu_millis: 1500, memory_bytes: 10, disk_bytes: 0, gpus: vec![gpu(40, 1)], services: units(4) };
        assert!(all.covers(&need));
        let rest = all.checked_sub(&need).unwrap();
        assert!(!rest.covers(&need));
        assert_eq!(rest.checked_add(&need), Some(all));
    }
    #[test]
    fn gpus_are_taken_from_the_smallest_line_that_suffices() {
        let gpu = |vram_bytes, count| GpuLine { model: "H100".into(), count, vram_bytes };
        let of = |gpus| Resources { gpus, ..Resources::default() };
        let all = of(vec![gpu(80, 2), gpu(40, 2)]);
        let took = |gpus| all.place(&of(gpus)).map(|r| r.gpus);
        assert_eq!(took(vec![gpu(1, 1)]), Some(vec![gpu(40, 1)]));
        assert_eq!(took(vec![gpu(40, 2), gpu(60, 1)]), Some(vec![gpu(40, 2), gpu(80, 1)]));
        assert_eq!(took(vec![gpu(1, 3)]), None, "one wish is served by one line");
        assert_eq!(took(vec![gpu(81, 1)]), None);
        let other = of(vec![GpuLine { model: "A100".into(), count: 1, vram_bytes: 1 }]);
        assert_eq!(all.place(&other), None);
        assert_eq!(all.saturating_sub(&of(vec![gpu(80, 5)])).gpus, vec![gpu(40, 2)]);
        assert_eq!(all.checked_sub(&of(vec![gpu(80, 3)])), None);
    }
}
