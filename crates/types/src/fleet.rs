//! How many of a job there are, and what they wait for: replicas, arrays, dependencies.
//!
//! Guarantees: [`check`] is the border for what a user wrote. It knows one job only: whether the names that it depends on exist
//! is for whoever reads the whole file.

use crate::spec::SpecError;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// Most replicas of a job: each is a lease of its own, and one client looks after all of them.
pub const MAX_REPLICAS: u32 = 100;
/// Most members of an array.
pub const MAX_ARRAY: u32 = 10_000;
/// Most members of an array that run at the same time.
pub const MAX_PARALLEL: u32 = 100;
/// How many do unless the spec says.
const DEFAULT_PARALLEL: u32 = 10;
/// Most jobs that one may depend on.
pub const MAX_DEPENDS: usize = 32;

/// What a job waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Until {
    /// The other one runs.
    #[default]
    Started,
    /// Its health check was passed.
    Healthy,
    /// It ended with exit code 0.
    Completed,
}

/// An array as written: a number, or more than that.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ArraySpec {
    /// How many members.
    pub count: u32,
    /// How many of them run at the same time.
    pub parallel: Option<u32>,
}

impl<'de> Deserialize<'de> for ArraySpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = ArraySpec;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number, or {count, parallel}")
            }
            fn visit_u64<E: serde::de::Error>(self, count: u64) -> Result<ArraySpec, E> {
                let count = u32::try_from(count).map_err(|_| E::custom("more members than anybody can run"))?;
                Ok(ArraySpec { count, parallel: None })
            }
            fn visit_i64<E: serde::de::Error>(self, count: i64) -> Result<ArraySpec, E> {
                u64::try_from(count).map_err(|_| E::custom("an array has no negative number of members")).and_then(|c| self.visit_u64(c))
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<ArraySpec, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Long {
                    count: u32,
                    parallel: Option<u32>,
                }
                let long = Long::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(ArraySpec { count: long.count, parallel: long.parallel })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Dependencies as written: a list of names, or a condition for each.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
#[serde(transparent)]
pub struct DependsSpec(pub BTreeMap<String, Until>);

impl<'de> Deserialize<'de> for DependsSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = DependsSpec;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of names, or names with one of started, healthy and completed")
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<DependsSpec, A::Error> {
                let mut names = BTreeMap::new();
                while let Some(name) = list.next_element::<String>()? {
                    names.insert(name, Until::Started);
                }
                Ok(DependsSpec(names))
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<DependsSpec, A::Error> {
                BTreeMap::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(DependsSpec)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// How many of a job there are, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fleet {
    /// One, several of the same, or numbered members.
    pub size: Size,
    /// What it waits for.
    pub depends_on: BTreeMap<String, Until>,
}

/// How many of a job there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// So many of the same.
    Replicas(u32),
    /// Numbered members, some of them at the same time.
    Array {
        /// How many.
        count: u32,
        /// At the same time.
        parallel: u32,
    },
}

impl Size {
    /// How many there are.
    #[must_use]
    pub const fn count(self) -> u32 {
        match self {
            Self::Replicas(count) | Self::Array { count, .. } => count,
        }
    }
}

impl Fleet {
    /// Whether this is a single job that waits for nobody: what `farm run` can run.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.size == Size::Replicas(1) && self.depends_on.is_empty()
    }
}

fn bad(field: &str, problem: impl Into<String>) -> SpecError {
    SpecError { field: field.into(), problem: problem.into() }
}

/// Checks replicas, array and dependencies of a spec.
///
/// # Errors
/// [`SpecError`] with the field.
pub fn check(replicas: Option<u32>, array: Option<ArraySpec>, depends_on: DependsSpec) -> Result<Fleet, SpecError> {
    let size = match (replicas, array) {
        (Some(_), Some(_)) => return Err(bad("array", "contradicts `replicas`: members of an array are numbered, replicas are the same")),
        (Some(n), None) if n > MAX_REPLICAS => return Err(bad("replicas", format!("{n} where at most {MAX_REPLICAS} are possible"))),
        (replicas, None) => Size::Replicas(replicas.unwrap_or(1)),
        (None, Some(a)) if a.count == 0 || a.count > MAX_ARRAY => {
            return Err(bad("array", format!("{} members: 1 to {MAX_ARRAY} are possible", a.count)));
        }
        (None, Some(a)) => match a.parallel.unwrap_or(DEFAULT_PARALLEL) {
            parallel @ 1..=MAX_PARALLEL => Size::Array { count: a.count, parallel },
            other => return Err(bad("array.parallel", format!("{other} at a time: 1 to {MAX_PARALLEL} are possible"))),
        },
    };
    if depends_on.0.len() > MAX_DEPENDS {
        return Err(bad("depends_on", format!("{} where at most {MAX_DEPENDS} are possible", depends_on.0.len())));
    }
    Ok(Fleet { size, depends_on: depends_on.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::JobSpec;

    fn fleet(yaml: &str) -> Result<Fleet, String> {
        let spec: JobSpec = serde_norway::from_str(yaml).map_err(|e| e.to_string())?;
        spec.check().map(|s| s.fleet).map_err(|e| e.to_string())
    }

    #[test]
    fn a_fleet_is_written_short_or_long() {
        assert!(fleet("{}").unwrap().is_single());
        assert_eq!(fleet("replicas: 3").unwrap().size, Size::Replicas(3));
        assert_eq!(fleet("array: 100").unwrap().size, Size::Array { count: 100, parallel: 10 });
        assert_eq!(fleet("array: {count: 5, parallel: 2}").unwrap().size, Size::Array { count: 5, parallel: 2 });
        let short = fleet("depends_on: [db]").unwrap();
        assert_eq!(short.depends_on, BTreeMap::from([("db".into(), Until::Started)]));
        let long = fleet("depends_on: {db: healthy, setup: completed}").unwrap();
        assert_eq!(long.depends_on.values().collect::<Vec<_>>(), [&Until::Healthy, &Until::Completed]);
        assert!(!long.is_single());
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, words) in [
            ("replicas: 101", "replicas: 101 where at most 100"),
            ("{replicas: 2, array: 3}", "contradicts `replicas`"),
            ("array: 0", "1 to 10000"),
            ("array: -1", "negative"),
            ("array: many", "a number, or {count, parallel}"),
            ("array: {count: 3, parallel: 0}", "array.parallel"),
            ("array: {count: 3, paralel: 1}", "unknown field `paralel`"),
            ("depends_on: {db: ready}", "unknown variant `ready`"),
            ("depends_on: db", "a list of names"),
        ] {
            let e = fleet(yaml).unwrap_err();
            assert!(e.contains(words), "{yaml}: {e}");
        }
    }
}
