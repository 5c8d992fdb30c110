//! GPUs as a user asks for them, and as a machine says what its driver can do. Spec: `docs/specs/gpu.md`.
//!
//! Guarantees: client and node give a model the same name; "at least this driver" and "at least this CUDA" become equality of
//! attributes, which is all that the ledger compares; both lists are bounded and leave room for the owner's own labels.
//! It does not look at devices: see `provider`.

use crate::GpuLine;
use crate::market::Constraint;
use crate::resources::{MAX_GPU_MODEL, parse_bytes};
use crate::spec::{Scalar, SpecError};
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// Most GPUs of one job: more than any machine has.
pub const MAX_GPU_COUNT: u16 = 64;
/// Attributes that begin like this are the node's own: an owner's label cannot claim a driver.
pub const RESERVED_LABELS: &str = "gpu.";
/// Says that the GPUs of an offer are simulated.
pub const SIMULATED: &str = "gpu.simulated";
/// The value of all these attributes.
pub const YES: &str = "yes";

/// CUDA versions that orders can ask for at least, oldest first; what lies between counts as the next one. Each is an attribute of an
/// offer, so there are not many.
const CUDA: [Version; 12] = [
    Version(11, 8),
    Version(12, 0),
    Version(12, 1),
    Version(12, 2),
    Version(12, 3),
    Version(12, 4),
    Version(12, 5),
    Version(12, 6),
    Version(12, 8),
    Version(12, 9),
    Version(13, 0),
    Version(13, 1),
];
/// The same for branches of the driver: those that data centres run.
const DRIVERS: [Version; 8] = [
    Version(470, 0),
    Version(525, 0),
    Version(535, 0),
    Version(550, 0),
    Version(560, 0),
    Version(570, 0),
    Version(580, 0),
    Version(590, 0),
];
/// Words in the names of products that say who made it or how it is built in, not what it is.
const NOT_THE_MODEL: [&str; 10] = ["NVIDIA", "TESLA", "GEFORCE", "QUADRO", "GENERATION", "GPU", "PCIE", "NVL", "GRAPHICS", "CORPORATION"];

/// A version as far as it counts: major and minor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version(pub u16, pub u16);

impl Version {
    /// Reads `12.2`, `535` or `535.104.05`; what follows the minor number does not count.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('.');
        let mut number = || match parts.next() {
            None => Some(0),
            Some(p) if !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()) => p.parse().ok(),
            Some(_) => None,
        };
        let version = Self(number()?, number()?);
        let rest = parts.all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
        rest.then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// GPUs as written: `H100:2`, `H100:2,vram=80GB,cuda=12.2`, or the same in fields.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum GpuSpec {
    /// In one word.
    Text(String),
    /// In fields.
    Fields(GpuFields),
}

/// GPUs in fields.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GpuFields {
    /// Model without its vendor, e.g. `H100`.
    pub model: String,
    /// How many.
    pub count: Option<u16>,
    /// Least memory of each, e.g. `80GB`.
    pub vram: Option<Scalar>,
    /// Oldest branch of the driver, e.g. `535`.
    pub driver: Option<Scalar>,
    /// Oldest CUDA version that the driver has to run, e.g. `12.2`.
    pub cuda: Option<Scalar>,
}

impl<'de> Deserialize<'de> for GpuSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = GpuSpec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("GPUs such as H100:2, or their model, count, vram, driver and cuda")
            }
            fn visit_str<E>(self, text: &str) -> Result<GpuSpec, E> {
                Ok(GpuSpec::Text(text.into()))
            }
            // A bare number is no model, and is told so when the spec is checked.
            fn visit_u64<E>(self, number: u64) -> Result<GpuSpec, E> {
                Ok(GpuSpec::Text(number.to_string()))
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<GpuSpec, A::Error> {
                GpuFields::deserialize(MapAccessDeserializer::new(map)).map(GpuSpec::Fields)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// GPUs that were asked for, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GpuWish {
    /// Model, count and least memory (zero: any).
    pub line: GpuLine,
    /// What the machine's driver has to be, as conditions that an offer meets or not.
    pub constraints: Vec<Constraint>,
}

impl GpuSpec {
    /// Checks what was asked.
    ///
    /// # Errors
    /// The field below `resources.gpu` and what to write instead.
    pub fn check(&self) -> Result<GpuWish, SpecError> {
        let fields = match self {
            Self::Text(text) => parse(text).map_err(|problem| bad("", problem))?,
            Self::Fields(fields) => fields.clone(),
        };
        let model = model(&fields.model).ok_or_else(|| {
            let problem = format!("`{}` is no model: write for example H100 or RTX-4090, at most {MAX_GPU_MODEL} characters", fields.model);
            bad(".model", problem)
        })?;
        let count = fields.count.unwrap_or(1);
        if count == 0 || count > MAX_GPU_COUNT {
            return Err(bad(".count", format!("{count} is out of range: 1 to {MAX_GPU_COUNT}")));
        }
        let vram_bytes = match &fields.vram {
            Some(size) => parse_bytes(&size.to_string()).map_err(|e| bad(".vram", e.to_string()))?,
            None => 0,
        };
        let least = |field: &'static str, what: &str, asked: &Option<Scalar>, known: &[Version]| {
            let Some(asked) = asked else { return Ok(None) };
            at_least(known, &asked.to_string()).map(|v| Some(attribute(what, v))).map_err(|problem| bad(field, problem))
        };
        let wanted = [least(".driver", "driver", &fields.driver, &DRIVERS)?, least(".cuda", "cuda", &fields.cuda, &CUDA)?];
        let constraints = wanted.into_iter().flatten().map(|name| Constraint::Attribute { name, value: YES.into() });
        Ok(GpuWish { line: GpuLine { model, count, vram_bytes }, constraints: constraints.collect() })
    }
}

fn bad(field: &str, problem: String) -> SpecError {
    SpecError { field: format!("resources.gpu{field}"), problem }
}

/// The first known version that is at least the one asked for.
fn at_least(known: &[Version], asked: &str) -> Result<Version, String> {
    let newest = known.last().map_or_else(String::new, Version::to_string);
    let version = Version::parse(asked).ok_or_else(|| format!("`{asked}` is no version: write for example {newest}"))?;
    let found = known.iter().find(|v| **v >= version).copied();
    found.ok_or_else(|| format!("`{asked}` is newer than can be asked for in this version: at most {newest}"))
}

fn attribute(what: &str, version: Version) -> String {
    match what {
        // Branches have no minor number that would count.
        "driver" => format!("gpu.driver.{}", version.0),
        _ => format!("gpu.{what}.{version}"),
    }
}

/// What an offer says of its GPUs' driver, sorted by name.
#[must_use]
pub fn attributes(driver: Option<Version>, cuda: Option<Version>, simulated: bool) -> Vec<(String, String)> {
    let upto = |what: &'static str, known: &'static [Version], has: Option<Version>| {
        known.iter().filter(move |v| has.is_some_and(|has| **v <= has)).map(move |v| attribute(what, *v))
    };
    let names = upto("cuda", &CUDA, cuda).chain(upto("driver", &DRIVERS, driver)).chain(simulated.then(|| SIMULATED.to_owned()));
    let mut all: Vec<_> = names.map(|name| (name, YES.to_owned())).collect();
    all.sort();
    all
}

/// The name that a model goes by on the ledger: in capitals, without its vendor and without how it is built in: `H100` for
/// `NVIDIA H100 80GB HBM3`, `RTX-4090` for `NVIDIA GeForce RTX 4090`. `None` if nothing is left, or too much.
#[must_use]
pub fn model(product: &str) -> Option<String> {
    let capitals = product.to_ascii_uppercase();
    let words = capitals.split(|c: char| c.is_whitespace() || c == '-' || c == '_').filter(|w| !w.is_empty());
    let name = words.filter(|w| !is_trimming(w)).collect::<Vec<_>>().join("-");
    let plain = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-');
    let letters = name.bytes().any(|b| b.is_ascii_uppercase());
    (plain && letters && name.len() <= MAX_GPU_MODEL).then_some(name)
}

fn is_trimming(word: &str) -> bool {
    let sized =
        |prefix: &str| word.strip_prefix(prefix).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()));
    let gigabytes = word.strip_suffix("GB").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    NOT_THE_MODEL.contains(&word) || gigabytes || sized("SXM") || sized("HBM")
}

/// Reads `MODEL`, `MODEL:COUNT`, each with `,vram=`, `,driver=` and `,cuda=` after it.
fn parse(text: &str) -> Result<GpuFields, String> {
    let wrong = || format!("`{text}` names no GPUs: write for example H100, H100:2 or H100:2,vram=80GB,cuda=12.2");
    let mut parts = text.split(',');
    let head = parts.next().unwrap_or_default();
    let (model, count) = match head.split_once(':') {
        Some((model, count)) if count.bytes().all(|b| b.is_ascii_digit()) => (model, Some(count.parse().map_err(|_| wrong())?)),
        Some(_) => return Err(wrong()),
        None => (head, None),
    };
    let mut fields = GpuFields { model: model.trim().to_owned(), count, ..GpuFields::default() };
    for part in parts {
        let (name, value) = part.split_once('=').ok_or_else(wrong)?;
        let slot = match name.trim() {
            "vram" => &mut fields.vram,
            "driver" => &mut fields.driver,
            "cuda" => &mut fields.cuda,
            other => return Err(format!("`{other}` is not known here: vram, driver and cuda are")),
        };
        if slot.replace(Scalar::Text(value.trim().to_owned())).is_some() {
            return Err(format!("`{}` is there twice", name.trim()));
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::{MAX_ATTRIBUTE, MAX_ATTRIBUTES};

    fn check(yaml: &str) -> Result<GpuWish, String> {
        let spec: GpuSpec = serde_norway::from_str(yaml).map_err(|e| e.to_string())?;
        spec.check().map_err(|e| e.to_string())
    }

    fn names(wish: &GpuWish) -> Vec<&str> {
        fn name(c: &Constraint) -> Option<&str> {
            if let Constraint::Attribute { name, .. } = c { Some(name) } else { None }
        }
        wish.constraints.iter().filter_map(name).collect()
    }

    #[test]
    fn gpus_are_read_as_words_and_as_fields() {
        let line = |model: &str, count, vram_bytes| GpuLine { model: model.into(), count, vram_bytes };
        assert_eq!(check("H100").unwrap().line, line("H100", 1, 0));
        assert_eq!(check("nvidia h100:2").unwrap().line, line("H100", 2, 0));
        let words = check("H100:2,vram=80GB,driver=535.104.05,cuda=12.2").unwrap();
        let fields = check("{model: H100, count: 2, vram: 80GB, driver: 535.104.05, cuda: 12.2}").unwrap();
        assert_eq!(words, fields);
        assert_eq!(words.line, line("H100", 2, 80_000_000_000));
        assert_eq!(names(&words), ["gpu.driver.550", "gpu.cuda.12.2"], "a later release of a branch is only sure in the next one");
        assert_eq!(names(&check("H100,driver=535,cuda=12.7").unwrap()), ["gpu.driver.535", "gpu.cuda.12.8"]);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (yaml, words) in [
            ("1", "is no model"),
            ("''", "is no model"),
            ("'H100:0'", "resources.gpu.count: 0 is out of range"),
            ("'H100:65'", "out of range"),
            ("'H100:x'", "names no GPUs"),
            ("'H100:-1'", "names no GPUs"),
            ("'H100,ram=3'", "`ram` is not known here"),
            ("'H100,cuda=12,cuda=13'", "there twice"),
            ("'H100,cuda=new'", "is no version"),
            ("'H100,cuda=99'", "newer than can be asked for"),
            ("'H100,driver=9999'", "newer than"),
            ("'H100,vram=much'", "resources.gpu.vram"),
            ("'a/b'", "is no model"),
            ("{model: H100, memory: 3}", "unknown field `memory`"),
            ("{count: 2}", "is no model"),
            ("[H100]", "GPUs such as"),
        ] {
            let e = check(yaml).unwrap_err();
            assert!(e.contains(words), "{yaml}: {e}");
        }
    }

    #[test]
    fn models_have_one_name() {
        for (product, name) in [
            ("NVIDIA H100 80GB HBM3", "H100"),
            ("NVIDIA H100 PCIe", "H100"),
            ("NVIDIA A100-SXM4-80GB", "A100"),
            ("NVIDIA H200", "H200"),
            ("Tesla T4", "T4"),
            ("NVIDIA GeForce RTX 4090", "RTX-4090"),
            ("NVIDIA RTX 6000 Ada Generation", "RTX-6000-ADA"),
            ("rtx-4090", "RTX-4090"),
            ("NVIDIA GH200 480GB", "GH200"),
        ] {
            assert_eq!(model(product).as_deref(), Some(name), "{product}");
            assert_eq!(model(name).as_deref(), Some(name), "a name stays what it is");
        }
        for none in ["", "NVIDIA", "80GB", "4090", "H100\n/", "é", &"X".repeat(MAX_GPU_MODEL + 1)] {
            assert_eq!(model(none), None, "{none}");
        }
    }

    #[test]
    fn an_offer_says_all_that_an_order_can_ask_of_its_driver() {
        let all = attributes(Version::parse("9999"), Version::parse("9999"), true);
        assert_eq!(all.len(), CUDA.len() + DRIVERS.len() + 1);
        assert!(all.len() + 8 <= MAX_ATTRIBUTES, "room for the owner's own");
        assert!(all.is_sorted() && all.iter().all(|(n, v)| n.len() <= MAX_ATTRIBUTE && n.starts_with(RESERVED_LABELS) && v == YES));
        let has = attributes(Version::parse("535.104.05"), Version::parse("12.2"), false);
        let meets = |wish: &str| {
            let wish = check(wish).unwrap();
            names(&wish).iter().all(|n| has.iter().any(|(name, _)| name == n))
        };
        for yes in ["H100", "H100,cuda=12.2", "H100,cuda=11.8,driver=535", "H100,driver=470", "H100,cuda=9"] {
            assert!(meets(yes), "{yes}");
        }
        for no in ["H100,cuda=12.3", "H100,driver=550", "H100,cuda=12.2,driver=580", "H100,cuda=12.7"] {
            assert!(!meets(no), "{no}");
        }
        assert_eq!(attributes(None, None, false), []);
        assert_eq!([Version::parse("12."), Version::parse("x"), Version::parse("-1")], [None, None, None]);
    }
}
