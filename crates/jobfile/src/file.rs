//! From a job file to services: one job, several under `services:`, or a file of docker compose.
//!
//! Guarantees: what is wrong is named with line and field; every name that is depended on exists and nothing waits for itself.
//! Folders are as they were written.

use crate::compose;
use crate::error::FileError;
use crate::yaml::{line_of, nearest_name, says_nothing, syntax};
use pasture_types::Amount;
use pasture_types::fleet::Until;
use pasture_types::spec::{BuildSpec, CheckedSpec, JobSpec, MAX_NAME, Scalar, SpecError};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Most services of a file.
pub const MAX_SERVICES: usize = 64;

/// What kind of file it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A job file.
    Job,
    /// A file of docker compose.
    Compose,
    /// No file: a folder with a Dockerfile.
    Folder,
}

/// A file's text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Text<'a> {
    /// What it says.
    pub text: &'a str,
    /// The name of what is in it, unless it says itself.
    pub name: &'a str,
    /// What kind.
    pub kind: Kind,
}

/// What a file asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Its name.
    pub name: String,
    /// Most to spend on all of it.
    pub budget: Option<Amount>,
    /// What to run, by service.
    pub services: BTreeMap<String, JobSpec>,
    /// What could not be taken over, for the user to know.
    pub notes: Vec<String>,
}

/// The form with several services.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Many {
    name: Option<String>,
    budget: Option<Scalar>,
    services: BTreeMap<String, JobSpec>,
}

/// Reads a file. `name`: instead of the file's own.
///
/// # Errors
/// [`FileError`] with the line.
pub fn read(text: &Text<'_>, name: Option<&str>) -> Result<Asked, FileError> {
    let mut asked = match text.kind {
        Kind::Compose => compose::read(text)?,
        Kind::Folder => {
            Asked { name: String::new(), budget: None, services: BTreeMap::from([(String::new(), folder_spec())]), notes: vec![] }
        }
        Kind::Job if has_services(text.text) => several(text)?,
        Kind::Job => single(text)?,
    };
    if let Some(name) = name {
        asked.name = name.into();
    }
    if asked.name.is_empty() {
        asked.name = text.name.into();
    }
    if !is_name(&asked.name) {
        return Err(wrong(
            text,
            "name",
            &format!("`{}` is not a name: lower-case letters, digits and dashes, at most {MAX_NAME}", asked.name),
        ));
    }
    // A job that stands alone is its deployment's only service, under the same name.
    if let Some(mut alone) = asked.services.remove("") {
        alone.name = None;
        asked.services.insert(asked.name.clone(), alone);
    }
    for (service, spec) in &mut asked.services {
        settle(text, service, spec)?;
    }
    check(text, &asked)?;
    Ok(asked)
}

fn folder_spec() -> JobSpec {
    JobSpec { build: Some(BuildSpec::default()), ..JobSpec::default() }
}

/// Whether the file's top level has `services`.
fn has_services(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Top {
        services: Option<serde::de::IgnoredAny>,
    }
    serde_norway::from_str::<Top>(text).is_ok_and(|top| top.services.is_some())
}

fn single(text: &Text<'_>) -> Result<Asked, FileError> {
    let spec: JobSpec = if says_nothing(text.text) { JobSpec::default() } else { parse(text)? };
    let name = spec.name.clone().unwrap_or_default();
    Ok(Asked { name, budget: None, services: BTreeMap::from([(String::new(), spec)]), notes: vec![] })
}

fn several(text: &Text<'_>) -> Result<Asked, FileError> {
    let many: Many = parse(text)?;
    let money = |budget: Scalar| budget.to_string().parse::<Amount>().map_err(|e| wrong(text, "budget", &format!("budget: {e}")));
    let budget = many.budget.map(money).transpose()?;
    if budget == Some(Amount::ZERO) {
        return Err(wrong(text, "budget", "budget: a budget of 0 buys nothing"));
    }
    Ok(Asked { name: many.name.unwrap_or_default(), budget, services: many.services, notes: vec![] })
}

fn parse<T: serde::de::DeserializeOwned>(text: &Text<'_>) -> Result<T, FileError> {
    serde_norway::from_str(text.text).map_err(|e| {
        let error = syntax(text.text, &e);
        let of_compose = ["environment", "healthcheck", "networks", "expose", "deploy", "entrypoint", "container_name", "version", "x-"];
        let message = e.to_string();
        let is_compose = of_compose.iter().any(|field| message.contains(&format!("unknown field `{field}")));
        if is_compose { error.next("is it a file of docker compose? then:  farm deploy --compose") } else { error }
    })
}

/// A mistake, at the line of a field.
fn wrong(text: &Text<'_>, field: &str, problem: &str) -> FileError {
    FileError::new(line_of(text.text, field), problem)
}

fn located(text: &Text<'_>, service: &str, error: &SpecError) -> FileError {
    let alone = text.kind != Kind::Compose && !has_services(text.text);
    let path = if alone { error.field.clone() } else { format!("services.{service}.{}", error.field) };
    wrong(text, &path, &format!("{path}: {}", error.problem))
}

/// What a service is without saying so.
fn settle(text: &Text<'_>, service: &str, spec: &mut JobSpec) -> Result<(), FileError> {
    if spec.name.is_some() {
        let problem = "a service is called as it stands under `services`: remove the name".into();
        return Err(located(text, service, &SpecError { field: "name".into(), problem }));
    }
    if spec.image.is_none() && spec.build.is_none() {
        spec.build = Some(BuildSpec::default());
    }
    Ok(())
}

/// Whether a text may be a deployment's or a service's name.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('-') && !text.ends_with('-')
}

/// The checked form of each service.
///
/// # Errors
/// The first service with a mistake, and what that is.
pub fn checked(services: &BTreeMap<String, JobSpec>) -> Result<BTreeMap<String, CheckedSpec>, (String, SpecError)> {
    services.iter().map(|(name, spec)| spec.clone().check().map(|c| (name.clone(), c)).map_err(|e| (name.clone(), e))).collect()
}

fn check(text: &Text<'_>, asked: &Asked) -> Result<(), FileError> {
    if asked.services.is_empty() || asked.services.len() > MAX_SERVICES {
        return Err(wrong(text, "services", &format!("services: {} where 1 to {MAX_SERVICES} are possible", asked.services.len())));
    }
    for name in asked.services.keys() {
        if !is_name(name) {
            let problem =
                format!("services: `{}` is not a name: lower-case letters, digits and dashes, at most {MAX_NAME}", name.escape_default());
            return Err(wrong(text, &format!("services.{name}"), &problem));
        }
    }
    let checked = checked(&asked.services).map_err(|(service, error)| located(text, &service, &error))?;
    for (name, spec) in &checked {
        for (other, until) in &spec.fleet.depends_on {
            let problem = match checked.get(other) {
                None => {
                    let meant = nearest_name(other, checked.keys().map(String::as_str)).map(|n| format!(": did you mean `{n}`?"));
                    Some(format!("there is no service `{}`{}", other.escape_default(), meant.unwrap_or_default()))
                }
                Some(it) if *until == Until::Healthy && it.life.health.is_none() => {
                    Some(format!("`{other}` has no health check that could be passed: give it one, or wait until it is started"))
                }
                Some(_) => None,
            };
            if let Some(problem) = problem {
                return Err(located(text, name, &SpecError { field: "depends_on".into(), problem }));
            }
        }
    }
    match order(&checked) {
        Ok(_) => Ok(()),
        Err(circle) => {
            let problem = format!("nothing could ever start: {} wait for each other", circle.join(", "));
            Err(located(text, circle.first().map_or("", String::as_str), &SpecError { field: "depends_on".into(), problem }))
        }
    }
}

/// The services with each behind what it depends on.
///
/// # Errors
/// Those that wait for each other.
pub fn order(services: &BTreeMap<String, CheckedSpec>) -> Result<Vec<String>, Vec<String>> {
    let mut left: BTreeSet<&String> = services.keys().collect();
    let mut done: Vec<String> = vec![];
    while !left.is_empty() {
        let waits = |name: &String| services.get(name).is_some_and(|s| s.fleet.depends_on.keys().any(|d| left.contains(d)));
        let ready: Vec<&String> = left.iter().copied().filter(|n| !waits(n)).collect();
        if ready.is_empty() {
            return Err(left.into_iter().cloned().collect());
        }
        for name in ready {
            left.remove(name);
            done.push(name.clone());
        }
    }
    Ok(done)
}

/// A name from a path or an image, made to fit; may be empty.
#[must_use]
pub fn name_of(raw: &str) -> String {
    let plain: String = raw.to_lowercase().chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect();
    let short: String = plain.trim_matches('-').chars().take(MAX_NAME).collect();
    short.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(yaml: &str) -> Text<'_> {
        Text { text: yaml, name: "folder", kind: Kind::Job }
    }

    #[test]
    fn one_job_is_a_deployment_of_its_name() {
        let asked = read(&text("name: fold\nimage: a\nreplicas: 2\n"), None).unwrap();
        assert!(asked.name == "fold" && asked.services.keys().eq(["fold"]));
        let asked = read(&text("image: a\n"), None).unwrap();
        assert_eq!(asked.name, "folder");
        let asked = read(&text("name: a\nimage: a\n"), Some("mine")).unwrap();
        assert!(asked.name == "mine" && asked.services.contains_key("mine"));
        let built = read(&text("# nothing\n"), None).unwrap();
        assert_eq!(built.services["folder"].build.as_ref().unwrap().context, ".");
    }

    #[test]
    fn several_services_have_an_order() {
        let yaml = "name: shop\nbudget: 2\nservices:\n  web: {image: a, depends_on: {db: healthy, setup: completed}}\n  setup: {image: b, depends_on: [db]}\n  db: {image: c, type: service, health: {port: 1}}\n";
        let asked = read(&text(yaml), None).unwrap();
        assert_eq!((asked.name.as_str(), asked.budget), ("shop", Some(Amount::credits(2))));
        assert_eq!(order(&checked(&asked.services).unwrap()).unwrap(), ["db", "setup", "web"]);
    }

    #[test]
    fn mistakes_name_file_line_and_a_way_out() {
        for (yaml, line, words) in [
            ("services:\n  web:\n    image: a\n    depends_on: [bd]\n  db: {image: b}\n", 4, "did you mean `db`?"),
            ("services:\n  a: {image: a, depends_on: [b]}\n  b: {image: a, depends_on: [a]}\n", 2, "a, b wait for each other"),
            ("services:\n  a: {image: a, depends_on: [a]}\n", 2, "wait for each other"),
            ("services:\n  web:\n    image: a\n    depends_on: {db: healthy}\n  db: {image: b}\n", 4, "has no health check"),
            ("services:\n  Web: {image: a}\n", 2, "is not a name"),
            ("services:\n  web: {image: a, name: b}\n", 2, "remove the name"),
            ("services: {}\n", 1, "0 where 1 to 64"),
            ("services:\n  web:\n    image: a\n    resources: {cpu: 1m}\n", 4, "services.web.resources.cpu: at least 10m"),
            ("budget: 0\nservices:\n  web: {image: a}\n", 1, "buys nothing"),
            ("name: a/b\nimage: a\n", 1, "is not a name"),
            ("image: a\nbuild: {context: nowhere/at/all}\n", 2, "contradicts `image`"),
        ] {
            let e = read(&text(yaml), None).unwrap_err();
            assert!(e.problem.contains(words) && e.line == line, "{yaml}: {e:?}");
        }
        let e = read(&text("services:\n  web:\n    image: a\n    environment: {A: b}\n"), None).unwrap_err();
        assert!(e.problem.contains("unknown field `environment`") && e.next.iter().any(|n| n.contains("--compose")), "{e:?}");
    }

    proptest! {
        /// Whatever stands in a file: it is read or refused, and what was read can be ordered, and reads the same again.
        #[test]
        fn any_text_is_read_or_refused(yaml in "[ -~\n]{0,200}") {
            if let Ok(asked) = read(&text(&yaml), None) {
                prop_assert!(is_name(&asked.name) && order(&checked(&asked.services).unwrap()).is_ok());
            }
        }

        /// Dependencies made by chance: an order is found if and only if there is no circle, and it respects them all.
        #[test]
        fn an_order_respects_every_dependency(edges in proptest::collection::vec((0u8..8, 0u8..8), 0..20)) {
            let mut services: BTreeMap<String, JobSpec> =
                (0..8).map(|n| (format!("s{n}"), JobSpec { image: Some("a".into()), ..JobSpec::default() })).collect();
            for (from, to) in &edges {
                services.get_mut(&format!("s{from}")).unwrap().depends_on.0.insert(format!("s{to}"), Until::Started);
            }
            let checked = checked(&services).unwrap();
            let reaches = |from: u8, to: u8| {
                let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
                while let Some(n) = next.pop() {
                    for (_, b) in edges.iter().filter(|(a, _)| *a == n) {
                        if seen.insert(*b) {
                            next.push(*b);
                        }
                    }
                }
                seen.contains(&to)
            };
            match order(&checked) {
                Ok(order) => {
                    let place = |n: u8| order.iter().position(|s| *s == format!("s{n}")).unwrap();
                    prop_assert!(edges.iter().all(|(from, to)| place(*to) < place(*from)));
                }
                Err(_) => prop_assert!((0..8).any(|n| reaches(n, n))),
            }
        }
    }
}
