//! Who stands in for an account: the one rule that clients, nodes and people's programs share. Spec: `docs/specs/keys.md` §3.
//!
//! Guarantees: a grant that was not made for a device of the account's own user is never taken for one: it has to list every kind of
//! action that daily commands need, naming the watcher of a lease among them, and that cannot be granted by name. It looks nothing up.

use crate::views::GrantView;
use pasture_types::grant::{ActionKind, GrantUse};
use pasture_types::market_rules::MarketAction;
use pasture_types::reputation::ReputationAction;
use pasture_types::service::ServiceAction;
use pasture_types::tx::Action;
use pasture_types::{Amount, LeaseId, PublicKey, Timestamp};

/// Actions that stand alone in the encoding: placing and cancelling an order, closing, objecting to and extending a lease.
const PLAIN: [u16; 5] = [6, 7, 12, 13, 14];

/// The kinds of actions that daily commands need, ascending. None of them moves money to somebody who has not served for it, and none
/// changes keys, grants, deposits or votes.
#[must_use]
pub fn daily_kinds() -> Vec<ActionKind> {
    let lease = LeaseId::default();
    let wrapped = [
        Action::Reputation(ReputationAction::Rate { lease, stars: 1 }),
        Action::Market(MarketAction::TopUp { lease, amount: Amount::ZERO }),
        Action::Market(MarketAction::StopRenewal { lease }),
        Action::Service(Box::new(ServiceAction::Watch { lease, watcher: None })),
    ];
    let mut kinds: Vec<ActionKind> = PLAIN.iter().map(|n| ActionKind(n << 8)).chain(wrapped.iter().map(ActionKind::of)).collect();
    kinds.sort_unstable();
    kinds
}

/// Whether a grant lets a key stand in for its account where its leases are served: it stands, is for this key and was made for a
/// device, that is, lists all of [`daily_kinds`].
#[must_use]
pub fn stands_in(grant: &GrantView, key: &PublicKey, now: Timestamp) -> bool {
    let GrantUse::Act { kinds, .. } = &grant.may else { return false };
    !grant.void && now < grant.expires && grant.key == key.to_string() && daily_kinds().iter().all(|k| kinds.contains(k))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::{AccountId, GrantId, OrderId, SigningKey};

    fn grant(kinds: Vec<ActionKind>) -> GrantView {
        GrantView {
            id: GrantId([1; 32]),
            account: AccountId([2; 32]),
            key: SigningKey::from_seed([3; 32]).public().to_string(),
            may: GrantUse::Act { kinds, recipients: vec![], max_rate_per_hour: None },
            budget: vec![],
            spent: vec![],
            left: Amount::ZERO,
            expires: Timestamp(1_000),
            void: false,
            lanes: vec![],
        }
    }

    #[test]
    fn the_kinds_are_those_of_the_encoding() {
        let (lease, order) = (LeaseId::default(), OrderId::default());
        let reason = pasture_types::lease::EndReason::StoppedByUser;
        let plain = [
            Action::CancelOrder { order },
            Action::CloseLease { lease, reason },
            Action::Object { lease },
            Action::Extend { lease, duration: pasture_types::Millis(1) },
        ];
        let kinds = daily_kinds();
        assert!(plain.iter().all(|a| kinds.contains(&ActionKind::of(a))));
        let never = Action::Transfer { to: AccountId::default(), asset: pasture_types::AssetId::CREDIT, amount: Amount::ZERO };
        assert!(!kinds.contains(&ActionKind::of(&never)));
        assert_eq!((kinds.len(), kinds.is_sorted()), (9, true));
    }

    #[test]
    fn only_a_devices_grant_that_stands_counts() {
        let key = SigningKey::from_seed([3; 32]).public();
        let good = grant(daily_kinds());
        assert!(stands_in(&good, &key, Timestamp(999)));
        assert!(!stands_in(&good, &key, Timestamp(1_000)), "expired");
        assert!(!stands_in(&good, &SigningKey::from_seed([4; 32]).public(), Timestamp(1)), "another key");
        assert!(!stands_in(&GrantView { void: true, ..good.clone() }, &key, Timestamp(1)), "void");
        assert!(!stands_in(&grant(daily_kinds()[1..].to_vec()), &key, Timestamp(1)), "a grant for something else");
        assert!(!stands_in(&GrantView { may: GrantUse::Invite, ..good }, &key, Timestamp(1)));
    }
}
