//! What a name such as `shop`, `shop/web` or `shop/web/2` means: parts of a deployment.
//!
//! Guarantees: a name means a deployment only where one of exactly this name is recorded for this network; otherwise it is a job's.

use super::drive::label;
use super::record::{Deployment, Key, Unit, folder};
use crate::exit::Failure;
use crate::session::Session;
use pasture_jobfile::{checked, order};
use pasture_types::spec::CheckedSpec;
use std::collections::BTreeMap;

/// Parts of a deployment.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// All of it.
    pub(crate) deployment: Deployment,
    /// What was asked.
    pub(crate) specs: BTreeMap<String, CheckedSpec>,
    /// Only this service of it.
    pub(crate) service: Option<String>,
    /// Only this part.
    pub(crate) index: Option<u32>,
}

/// A name with what stands behind its slashes.
pub(crate) fn split(text: &str) -> (&str, Option<&str>, Option<&str>) {
    let mut parts = text.splitn(3, '/');
    (parts.next().unwrap_or_default(), parts.next(), parts.next())
}

/// The parts that a name means; `None` if no deployment has it.
pub(crate) fn find(session: &Session, text: &str) -> Result<Option<Group>, Failure> {
    let (name, service, index) = split(text);
    let Some(deployment) = Deployment::load(&folder(&session.paths.jobs()), &session.status.zone, name)? else { return Ok(None) };
    let specs = checked(&deployment.services).map_err(|(service, e)| Failure::new("spec", format!("{name}/{service}: {e}")))?;
    if let Some(missing) = service.filter(|s| !specs.contains_key(*s)) {
        let known: Vec<&str> = specs.keys().map(String::as_str).collect();
        return Err(Failure::new("no-such-job", format!("{name} has no service `{missing}`")).next(format!("it has: {}", known.join(", "))));
    }
    let number = |text: &str| text.parse::<u32>().map_err(|_| Failure::usage(format!("`{text}` is not the number of a part")));
    let index = index.map(number).transpose()?;
    Ok(Some(Group { deployment, specs, service: service.map(str::to_owned), index }))
}

impl Group {
    /// The parts that have or had an order, each behind what it depends on.
    pub(crate) fn units(&self) -> Vec<&Unit> {
        let fits = |key: &Key| self.service.as_ref().is_none_or(|s| *s == key.service) && self.index.is_none_or(|i| i == key.index);
        let rank = order(&self.specs).unwrap_or_default();
        let place = |key: &Key| rank.iter().position(|s| *s == key.service).unwrap_or(usize::MAX);
        let mut units: Vec<&Unit> = self.deployment.units.iter().filter(|u| fits(&u.key)).collect();
        units.sort_by_key(|u| (place(&u.key), u.key.clone()));
        units
    }
    /// A part for people.
    pub(crate) fn label(&self, key: &Key) -> String {
        label(&self.specs, key)
    }
    /// Whether all of the deployment is meant.
    pub(crate) const fn is_whole(&self) -> bool {
        self.service.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_up_to_three_parts() {
        assert_eq!(split("shop"), ("shop", None, None));
        assert_eq!(split("shop/web"), ("shop", Some("web"), None));
        assert_eq!(split("shop/web/2"), ("shop", Some("web"), Some("2")));
        assert_eq!(split("a/b/c/d"), ("a", Some("b"), Some("c/d")));
    }
}
