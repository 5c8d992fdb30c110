//! The JSON Schema of job files: `docs/job.schema.json`, kept by hand.
//!
//! Guarantees: tests hold it against the parser. Every field that the parser knows is in it and no other, what it forbids the
//! parser refuses, and what it allows has the form that the parser reads.

/// The schema.
#[must_use]
pub const fn text() -> &'static str {
    include_str!("../../../docs/job.schema.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::FileError;
    use crate::file::{self, Kind, Text};
    use pasture_types::fleet::ArraySpec;
    use pasture_types::gpu::GpuFields;
    use pasture_types::life::{HealthSpec, HttpSpec};
    use pasture_types::public::{PortEntry, PublicSpec, PublicTerms};
    use pasture_types::spec::{AliveSpec, BuildSpec, ConstraintSpec, JobSpec, PriceSpec, ResourceSpec, TermSpec, VerifySpec};
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};
    use std::collections::BTreeSet;

    fn schema() -> Value {
        serde_json::from_str(text()).unwrap()
    }

    /// As much of JSON Schema as ours uses; anything else is a mistake in ours.
    fn fits(root: &Value, schema: &Value, value: &Value) -> bool {
        let known = [
            "$ref",
            "$defs",
            "$schema",
            "title",
            "description",
            "type",
            "enum",
            "anyOf",
            "properties",
            "required",
            "additionalProperties",
            "items",
            "minimum",
            "maximum",
            "minProperties",
            "maxProperties",
            "maxLength",
            "pattern",
        ];
        let schema = schema.as_object().unwrap();
        assert!(schema.keys().all(|k| known.contains(&k.as_str())), "{schema:?}");
        schema.iter().all(|(word, rule)| match word.as_str() {
            "$ref" => fits(root, root.pointer(rule.as_str().unwrap().trim_start_matches('#')).unwrap(), value),
            "type" => {
                let is = |t: &Value| match t.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    other => panic!("{other}"),
                };
                rule.as_array().map_or_else(|| is(rule), |any| any.iter().any(is))
            }
            "enum" => rule.as_array().unwrap().contains(value),
            "anyOf" => rule.as_array().unwrap().iter().any(|s| fits(root, s, value)),
            "minimum" => value.as_f64().is_none_or(|v| v >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|v| v <= rule.as_f64().unwrap()),
            "minProperties" => value.as_object().is_none_or(|o| o.len() as u64 >= rule.as_u64().unwrap()),
            "maxProperties" => value.as_object().is_none_or(|o| o.len() as u64 <= rule.as_u64().unwrap()),
            "maxLength" => value.as_str().is_none_or(|s| s.chars().count() as u64 <= rule.as_u64().unwrap()),
            "required" => value.as_object().is_none_or(|o| rule.as_array().unwrap().iter().all(|k| o.contains_key(k.as_str().unwrap()))),
            "items" => value.as_array().is_none_or(|a| a.iter().all(|v| fits(root, rule, v))),
            "properties" => {
                value.as_object().is_none_or(|o| rule.as_object().unwrap().iter().all(|(k, s)| o.get(k).is_none_or(|v| fits(root, s, v))))
            }
            "additionalProperties" => value.as_object().is_none_or(|o| {
                let named = schema.get("properties").and_then(Value::as_object);
                let others = o.iter().filter(|(k, _)| named.is_none_or(|n| !n.contains_key(*k)));
                others.into_iter().all(|(_, v)| rule != &json!(false) && fits(root, rule, v))
            }),
            // The patterns that ours has, by hand.
            "pattern" => value.as_str().is_none_or(|s| match rule.as_str().unwrap() {
                "^[0-9]+(ms|s|m|h|d)$" => {
                    let rest = s.trim_start_matches(|c: char| c.is_ascii_digit());
                    rest.len() < s.len() && ["ms", "s", "m", "h", "d"].contains(&rest)
                }
                "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$" => {
                    let plain = s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
                    !s.is_empty() && plain && !s.starts_with('-') && !s.ends_with('-')
                }
                other => panic!("{other}"),
            }),
            _ => true,
        })
    }

    fn names(schema: &Value, path: &str) -> BTreeSet<String> {
        let properties = schema.pointer(&format!("{path}/properties")).unwrap_or_else(|| panic!("{path} has no properties"));
        properties.as_object().unwrap().keys().cloned().collect()
    }
    fn fields(value: impl serde::Serialize) -> BTreeSet<String> {
        serde_json::to_value(value).unwrap().as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn every_field_of_the_parser_is_in_the_schema_and_no_other() {
        let schema = schema();
        let job = "/$defs/job";
        assert_eq!(names(&schema, job), fields(JobSpec::default()));
        let of = |field: &str| names(&schema, &format!("{job}/properties/{field}"));
        assert_eq!(of("build"), fields(BuildSpec::default()));
        assert_eq!(of("resources"), fields(ResourceSpec::default()));
        assert_eq!(of("resources/properties/gpu/anyOf/1"), fields(GpuFields::default()));
        assert_eq!(of("price"), fields(PriceSpec::default()));
        assert_eq!(of("term"), fields(TermSpec::default()));
        assert_eq!(of("constraints"), fields(ConstraintSpec::default()));
        assert_eq!(of("alive"), fields(AliveSpec::default()));
        assert_eq!(of("verify"), fields(VerifySpec::default()));
        assert_eq!(of("health"), fields(HealthSpec::default()));
        assert_eq!(of("health/properties/http"), fields(HttpSpec { port: 1, path: String::new() }));
        assert_eq!(of("ports/items/anyOf/1"), fields(PortEntry { port: 1, name: Some("a".into()), public: Some(PublicSpec::Plain(true)) }));
        assert_eq!(of("ports/items/anyOf/1/properties/public/anyOf/1"), fields(PublicTerms::default()));
        assert_eq!(of("array/anyOf/1"), fields(ArraySpec { count: 1, parallel: None }));
    }

    /// Values that fit a schema, by chance; without those that contradict each other.
    fn made(root: &Value, schema: &Value) -> BoxedStrategy<Value> {
        if let Some(target) = schema.get("$ref") {
            return made(root, root.pointer(target.as_str().unwrap().trim_start_matches('#')).unwrap());
        }
        if let Some(any) = schema.get("enum").and_then(Value::as_array) {
            return proptest::sample::select(any.clone()).boxed();
        }
        if let Some(any) = schema.get("anyOf").and_then(Value::as_array) {
            return proptest::strategy::Union::new(any.iter().map(|s| made(root, s))).boxed();
        }
        let kinds: Vec<&str> = match schema.get("type").unwrap() {
            Value::Array(kinds) => kinds.iter().map(|k| k.as_str().unwrap()).collect(),
            kind => vec![kind.as_str().unwrap()],
        };
        let one = |kind: &str| match kind {
            "null" => Just(Value::Null).boxed(),
            "boolean" => any::<bool>().prop_map(Value::Bool).boxed(),
            "integer" | "number" => {
                let least = schema.get("minimum").and_then(Value::as_u64).unwrap_or(0);
                let most = schema.get("maximum").and_then(Value::as_u64).unwrap_or(1 << 31);
                (least..=most).prop_map(|n| json!(n)).boxed()
            }
            "string" if schema.get("pattern").is_some_and(|p| p.as_str().unwrap().contains("ms")) => {
                "[1-9][0-9]{0,3}(ms|s|m|h)".prop_map(Value::String).boxed()
            }
            "string" => "[a-z][a-z0-9]{0,7}".prop_map(Value::String).boxed(),
            "array" => proptest::collection::vec(made(root, schema.get("items").unwrap()), 0..3).prop_map(Value::Array).boxed(),
            "object" => {
                let mut all: Vec<BoxedStrategy<Option<(String, Value)>>> = vec![];
                let empty = Map::new();
                let required: Vec<&str> =
                    schema.get("required").and_then(Value::as_array).map_or(vec![], |r| r.iter().map(|k| k.as_str().unwrap()).collect());
                for (name, s) in schema.get("properties").and_then(Value::as_object).unwrap_or(&empty) {
                    let (name, must) = (name.clone(), required.contains(&name.as_str()));
                    let value = made(root, s).prop_map(move |v| (name.clone(), v));
                    all.push(if must { value.prop_map(Some).boxed() } else { proptest::option::weighted(0.2, value).boxed() });
                }
                let more = schema.get("additionalProperties").filter(|s| s.is_object());
                let more = match more {
                    Some(s) => proptest::collection::btree_map("[a-z]{1,4}", made(root, s), 1..3).boxed(),
                    None => Just(Default::default()).boxed(),
                };
                (all, more).prop_map(|(own, more)| Value::Object(own.into_iter().flatten().chain(more).collect())).boxed()
            }
            other => panic!("{other}"),
        };
        proptest::strategy::Union::new(kinds.into_iter().map(one)).boxed()
    }

    fn read(value: &Value) -> Result<file::Asked, FileError> {
        file::read(&Text { text: &value.to_string(), name: "folder", kind: Kind::Job }, None)
    }

    #[test]
    fn what_the_schema_forbids_is_refused() {
        let schema = schema();
        for (good, bad) in [
            (json!({"image": "a"}), json!({"imgae": "a"})),
            (json!({"image": "a", "replicas": 100}), json!({"image": "a", "replicas": 101})),
            (json!({"image": "a", "array": {"count": 3}}), json!({"image": "a", "array": {"cuont": 3}})),
            (json!({"image": "a", "array": 3}), json!({"image": "a", "array": 0})),
            (json!({"image": "a", "restart": "always"}), json!({"image": "a", "restart": "sometimes"})),
            (json!({"image": "a", "timeout": "5m"}), json!({"image": "a", "timeout": "soon"})),
            (json!({"image": "a", "resources": {"gpu": "H100:2"}}), json!({"image": "a", "resources": {"gpu": 2}})),
            (
                json!({"image": "a", "resources": {"gpu": {"model": "H100", "cuda": 12.2}}}),
                json!({"image": "a", "resources": {"gpu": {"model": "H100", "cude": 12.2}}}),
            ),
            (json!({"image": "a", "health": {"port": 80}}), json!({"image": "a", "health": {"port": 0}})),
            (json!({"image": "a", "health": {"http": {"port": 80}}}), json!({"image": "a", "health": {"http": {"path": "/"}}})),
            (
                json!({"image": "a", "ports": [80, {"port": 81, "public": {"tcp": true}}]}),
                json!({"image": "a", "ports": [80, {"port": 81, "public": {"tpc": true}}]}),
            ),
            (json!({"image": "a", "priority": 100}), json!({"image": "a", "priority": 101})),
            (json!({"image": "a", "env": {"A": "b"}}), json!({"image": "a", "env": {"A": ["b"]}})),
            (json!({"name": "a-1", "image": "a"}), json!({"name": "-a", "image": "a"})),
            (json!({"services": {"a": {"image": "a"}}}), json!({"services": {}})),
            (json!({"services": {"a": {"image": "a"}}, "budget": 2}), json!({"services": {"a": {"image": "a"}}, "budgte": 2})),
            (
                json!({"services": {"a": {"image": "a"}, "b": {"image": "b", "depends_on": {"a": "started"}}}}),
                json!({"services": {"a": {"image": "a"}, "b": {"image": "b", "depends_on": {"a": "soon"}}}}),
            ),
        ] {
            assert!(fits(&schema, &schema, &good) && read(&good).is_ok(), "{good}: {:?}", read(&good).err());
            assert!(!fits(&schema, &schema, &bad) && read(&bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        /// Whatever fits the schema has the form that the parser reads: if it is refused, then for what it says, not for its form.
        #[test]
        fn what_the_schema_allows_has_the_parsers_form(value in made(&schema(), &schema())) {
            prop_assert!(fits(&schema(), &schema(), &value), "{value}");
            if let Err(e) = read(&value) {
                for form in ["unknown field", "invalid type", "missing field", "unknown variant", "invalid value", "did not match"] {
                    prop_assert!(!e.problem.contains(form), "{value}: {e:?}");
                }
            }
        }

        /// A field that the schema does not know is refused by both.
        #[test]
        fn what_the_schema_does_not_know_is_refused(value in made(&schema(), &schema()), name in "z[a-z]{3,6}") {
            let mut value = value;
            value.as_object_mut().unwrap().insert(name, Value::Null);
            prop_assert!(!fits(&schema(), &schema(), &value));
            prop_assert!(read(&value).is_err());
        }
    }
}
