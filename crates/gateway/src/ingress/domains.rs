//! Domains of owners' own: whether they say that they lead where a publication says.
//!
//! A TXT record at `_pasture.<domain>` holds the tag of the account: only who has the domain can write it, and it names nobody else's ports.
//! Guarantees: a domain leads nowhere without it; one whose nameservers do not answer stays as it was; few are asked at once.

use super::request::is_within;
use super::table::Table;
use futures::StreamExt as _;
use pasture_api::publication::PROOF_LABEL;
use pasture_net::Names;
use pasture_rt::ShutdownToken;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long what was seen holds.
const AGAIN_AFTER: Duration = Duration::from_secs(600);
/// How soon a domain is asked again that said nothing yet, at first; each time it says nothing the pause grows by a half.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// How often it is looked which are due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Domains asked in one round, and at once.
const IN_A_ROUND: usize = 64;
const AT_ONCE: usize = 8;

/// What is known of one claim.
#[derive(Clone, Copy, Debug)]
struct Known {
    holds: bool,
    again: Instant,
    pause: Duration,
}

impl Known {
    /// `said`: whether the domain says so; `None` if nobody answered.
    fn after(before: Option<Self>, said: Option<bool>, now: Instant) -> Self {
        let holds = said.unwrap_or(before.is_some_and(|known| known.holds));
        let pause = before.map_or(FIRST_PAUSE, |known| known.pause.saturating_mul(3) / 2).min(AGAIN_AFTER);
        match said {
            Some(true) => Self { holds, again: now + AGAIN_AFTER, pause: FIRST_PAUSE },
            _ => Self { holds, again: now + pause, pause },
        }
    }
}

/// Asks for the domains of the table until it is asked to stop. `own`: the gateway's domain, below which nothing is anybody's.
pub(super) async fn watch(table: Arc<Table>, names: Names, own: String, stop: ShutdownToken) {
    let mut known: BTreeMap<(String, String), Known> = BTreeMap::new();
    while stop.guard(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        let claims: BTreeSet<_> = table.claims().into_iter().filter(|(domain, _)| !is_within(domain, &own)).collect();
        known.retain(|claim, _| claims.contains(claim));
        let now = Instant::now();
        let mut due: Vec<_> = claims.iter().filter(|claim| known.get(*claim).is_none_or(|known| known.again <= now)).cloned().collect();
        due.sort_by_key(|claim| known.get(claim).map(|known| known.again));
        due.truncate(IN_A_ROUND);
        let asked = futures::stream::iter(due).map(|claim| async {
            let said = says(&names, &claim).await;
            (claim, said)
        });
        let Some(answers) = stop.guard(asked.buffer_unordered(AT_ONCE).collect::<Vec<_>>()).await else { return };
        for (claim, said) in answers {
            let after = Known::after(known.get(&claim).copied(), said, Instant::now());
            known.insert(claim, after);
        }
        let mut proven = BTreeMap::<String, BTreeSet<String>>::new();
        for ((domain, label), _) in known.iter().filter(|(_, known)| known.holds) {
            proven.entry(domain.clone()).or_default().insert(label.clone());
        }
        table.prove(proven);
    }
}

/// Whether a domain says that it leads to names of this label's account; `None` if nobody answers.
async fn says(names: &Names, (domain, label): &(String, String)) -> Option<bool> {
    let tag = label.rsplit('-').next()?;
    match names.texts(&format!("{PROOF_LABEL}.{domain}")).await {
        Ok(texts) => Some(texts.iter().any(|text| text.trim() == tag)),
        Err(error) => {
            tracing::debug!(%error, "a domain could not be asked where it leads");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_holds_for_a_while_and_longer_if_nobody_answers() {
        let now = Instant::now();
        let seen = Known::after(None, Some(true), now);
        assert!(seen.holds && seen.again == now + AGAIN_AFTER);
        let silent = Known::after(Some(seen), None, now);
        assert!(silent.holds && silent.again < now + AGAIN_AFTER, "asked again sooner");
        assert!(!Known::after(Some(silent), Some(false), now).holds, "taken back");
        let mut pause = Known::after(None, Some(false), now);
        for _ in 0..50 {
            pause = Known::after(Some(pause), Some(false), now);
        }
        assert_eq!(pause.pause, AGAIN_AFTER);
    }
}
