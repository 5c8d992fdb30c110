//! The words on the screen: one table of the ledger's words and what we say instead, and the sentences made from them.
//!
//! Guarantees: whatever a lease, an order or a settlement can say has one plain sentence here. `cargo xtask tidy` reads the
//! table and holds every other text of this crate to it.

use pasture_api::data::Phase;
use pasture_api::{JobView, OrderState};
use pasture_types::event::ConfirmedBy;
use pasture_types::lease::{EndReason, LeaseState};

/// The ledger's word, and ours.
pub(crate) const PLAIN: [(&str, &str); 14] = [
    ("epoch", "period"),
    ("stake", "deposit"),
    ("bond", "deposit"),
    ("slash", "deposit forfeited"),
    ("jail", "suspended"),
    ("escrow", "on hold"),
    ("faucet", "test credits"),
    ("treasury", "network fee"),
    ("zone", "network"),
    ("credential", "certificate"),
    ("gang", "group"),
    ("heartbeat", "capacity check"),
    ("audit", "capacity check"),
    ("verdict", "capacity check"),
];

/// Words that have no place on the screen at all.
#[allow(dead_code)] // read by `cargo xtask tidy`
pub(crate) const NEVER: [&str; 4] = ["trustless", "passive income", "token", "mainnet"];

/// The plain word for a word of the ledger; the word itself where it is plain already.
pub(crate) fn plain(word: &str) -> &str {
    PLAIN.iter().find(|(ledger, _)| *ledger == word).map_or(word, |(_, ours)| ours)
}

/// Says what a server or the ledger wrote in our words, whole words only. What is said nowhere stays: it is not ours.
/// Paths and addresses are names, not words: a piece with a slash in it stays as it is.
pub(crate) fn plainly(text: &str) -> String {
    text.split_inclusive(char::is_whitespace).map(|piece| if piece.contains('/') { piece.into() } else { plain_piece(piece) }).collect()
}

fn plain_piece(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        let (stem, plural) = word.strip_suffix('s').map_or((word, ""), |stem| (stem, "s"));
        match (plain(word), plain(stem)) {
            (ours, _) if ours != word => out.push_str(ours),
            (_, ours) if ours != stem => {
                out.push_str(ours);
                out.push_str(plural);
            }
            _ => out.push_str(word),
        }
        let mut chars = tail.chars();
        out.extend(chars.next());
        rest = chars.as_str();
    }
    out
}

/// How a job ended, after its name: `finished (exit 0)` without the time, which goes between.
pub(crate) struct Ending {
    /// Whether the job itself ran to a good end.
    pub(crate) good: bool,
    /// e.g. `finished`, `failed`, `was stopped`.
    pub(crate) verb: &'static str,
    /// What stands in brackets: `exit 0`, or why.
    pub(crate) why: String,
}

/// Puts the end of a job into words.
pub(crate) fn ending(reason: &EndReason) -> Ending {
    let (good, verb, why) = match reason {
        EndReason::Exited { code: 0 } => (true, "finished", "exit 0".to_string()),
        EndReason::Exited { code } => (false, "failed", format!("exit {code}")),
        EndReason::OutOfMemory => (false, "was killed", "it used more memory than it asked for".into()),
        EndReason::BuildFailed => (false, "did not start", "its image could not be built or fetched".into()),
        EndReason::StartFailed => (false, "did not start", "its container could not be started".into()),
        EndReason::StoppedByUser => (true, "was stopped", "by you".into()),
        EndReason::CapReached => (false, "was stopped", "the time or money cap was reached".into()),
        EndReason::StoppedByProvider => (false, "was stopped", "by the provider".into()),
        EndReason::Lost => (false, "was lost", "its machine was not heard of any more".into()),
        EndReason::ServiceStopped => (false, "was closed", "it showed no sign of life any more".into()),
        EndReason::Rejected => (false, "did not start", "the machine refused it".into()),
        EndReason::NoSpec => (false, "did not start", "its description never reached the machine".into()),
        EndReason::Derated => (false, "was stopped", "its machine turned out to be smaller than it said".into()),
        EndReason::Preempted => (false, "was stopped", "the machine was needed back, as agreed".into()),
        EndReason::TookOver => (true, "went on", "its standby serves the job itself now".into()),
    };
    Ending { good, verb, why }
}

/// The one word for a job's state in lists and in JSON. `phase` is what its machine says, where it was asked: the ledger learns
/// of a start only with the first statement of service.
pub(crate) fn state(job: &JobView, phase: Option<Phase>) -> &'static str {
    match (&job.lease, job.order.state) {
        (None, OrderState::Open) => "matching",
        (None, OrderState::Matched) => "matching",
        (None, OrderState::Expired) => "expired",
        (None, OrderState::Cancelled) => "cancelled",
        (Some(lease), _) => match lease.state {
            LeaseState::Matched => "matching",
            LeaseState::Accepted if phase >= Some(Phase::Running) => "running",
            LeaseState::Accepted => "starting",
            LeaseState::Running => "running",
            LeaseState::Closing | LeaseState::Closed => lease.reason.as_ref().map_or("ended", ended),
        },
    }
}

const fn ended(reason: &EndReason) -> &'static str {
    match reason {
        EndReason::Exited { code: 0 } => "succeeded",
        EndReason::StoppedByUser
        | EndReason::CapReached
        | EndReason::StoppedByProvider
        | EndReason::ServiceStopped
        | EndReason::Preempted => "stopped",
        EndReason::Lost => "lost",
        _ => "failed",
    }
}

/// A machine by its provider and where it stands, as far as that is known.
pub(crate) fn machine(provider: &str, region: &str) -> String {
    if region.is_empty() { provider.into() } else { format!("{provider} · {region}") }
}

/// Who confirmed the service, for a receipt.
pub(crate) fn confirmed(by: &ConfirmedBy) -> String {
    match by {
        ConfirmedBy::User => "service confirmed by you".into(),
        ConfirmedBy::Watcher(account) => format!("service confirmed by your watcher {}", account.short()),
        ConfirmedBy::NoObjection => "service counted, nobody objected".into(),
        ConfirmedBy::Nothing => "no service was delivered".into(),
        ConfirmedBy::Objection => "you objected to a part of the service".into(),
        ConfirmedBy::Evidence(account) => format!("your watcher {} showed that a part of the service failed", account.short()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_ledger_says_is_said_plainly() {
        assert_eq!(plain("escrow"), "on hold");
        assert_eq!(plain("price"), "price");
        assert_eq!(plainly("2 epochs of escrow, zone 3f"), "2 periods of on hold, network 3f");
        assert_eq!(plainly("horizon, zones!"), "horizon, networks!");
        assert_eq!(plainly("/data/zone/genesis is damaged, like its zone"), "/data/zone/genesis is damaged, like its network");
        assert_eq!(plainly(""), "");
    }

    #[test]
    fn no_plain_word_is_itself_to_be_avoided() {
        for (_, ours) in PLAIN {
            assert_eq!(plainly(ours), ours);
            assert!(!NEVER.contains(&ours));
        }
    }
}
