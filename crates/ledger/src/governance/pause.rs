//! The guardian's pause: what it may hold back, for how long, how often. Spec: `docs/specs/governance.md` §5.
//!
//! Guarantees: a pause moves no money and stops nothing that runs; it ends by itself; between two there is a gap that is at
//! least as long. Asking costs one read.

use super::records::{GuardianCall, GuardianWish, Pause};
use super::{META_CALL, META_PAUSE};
use crate::apply::Tx;
use crate::env::Env;
use crate::error::TxError;
use crate::market;
use crate::tables::{META, TimerKind, get, key, mark, meta, put, timer_key};
use pasture_types::channel::ChannelAction;
use pasture_types::event::Event;
use pasture_types::governance::{GovernanceEvent, PauseKind, PauseSet};
use pasture_types::stake::DepositAction;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::tx::Action;
use pasture_types::validator::ValidatorAction;
use pasture_types::{AccountId, Millis};

/// The id of the timer that ends a pause; no proposal has it.
pub(crate) const PAUSE_TIMER: [u8; 32] = [0; 32];
/// How long a member's wish waits for others.
const CALL_LASTS: Millis = Millis(24 * 3_600_000);

pub(crate) fn record(s: &dyn StateRead) -> Pause {
    get(s, &meta(META_PAUSE)).unwrap_or_default()
}

/// Which pause holds an action back. Never what runs (usage, heartbeats, closing, objections), what returns money to whom it
/// belongs (cancelling, rejecting), deposits and governance.
const fn kind(action: &Action) -> Option<PauseKind> {
    match action {
        Action::RegisterAccount { .. }
        | Action::RegisterProvider { .. }
        | Action::RegisterNode { .. }
        | Action::RegisterValidator { .. } => Some(PauseKind::Registrations),
        Action::PutOffer { .. } => Some(PauseKind::Offers),
        Action::PlaceOrder { .. } | Action::Extend { .. } => Some(PauseKind::Orders),
        Action::AcceptLease { .. } => Some(PauseKind::Matches),
        Action::Channel(ChannelAction::Open { .. } | ChannelAction::TopUp { .. }) => Some(PauseKind::Sessions),
        Action::Transfer { .. } | Action::TestCredits { .. } => Some(PauseKind::Transfers),
        Action::Deposit(DepositAction::Unbond { .. } | DepositAction::WithdrawSponsorship { .. })
        | Action::Validator(ValidatorAction::Unbond { .. }) => Some(PauseKind::Withdrawals),
        Action::Stake { .. }
        | Action::WithdrawOffer { .. }
        | Action::CancelOrder { .. }
        | Action::RejectLease { .. }
        | Action::SubmitUsage { .. }
        | Action::SubmitHeartbeat { .. }
        | Action::CloseLease { .. }
        | Action::Object { .. }
        | Action::Governance(_)
        | Action::Reputation(_)
        | Action::Audit(_)
        | Action::Market(_)
        | Action::Service(_)
        | Action::Grant(_)
        | Action::Keys(_)
        | Action::Credential(_)
        | Action::Channel(ChannelAction::Cash { .. } | ChannelAction::Close { .. })
        | Action::Deposit(_)
        | Action::Validator(_) => None,
    }
}

fn holds(s: &dyn StateRead, env: &Env, kind: PauseKind) -> bool {
    let pause = record(s);
    pause.kinds.has(kind) && env.shifted() < pause.until_shifted
}

/// Whether an action is held back.
pub(crate) fn paused(s: &dyn StateRead, env: &Env, action: &Action) -> bool {
    kind(action).is_some_and(|k| holds(s, env, k))
}

/// Whether orders are not drawn.
pub(crate) fn matching(s: &dyn StateRead, env: &Env) -> bool {
    holds(s, env, PauseKind::Matches)
}

fn call_key(member: &AccountId) -> Vec<u8> {
    key(META, &[&[META_CALL], &member.0])
}

/// A member's last wish.
pub(crate) fn call(s: &dyn StateRead, member: &AccountId) -> Option<GuardianCall> {
    get(s, &call_key(member))
}

/// A member of the guardian asks for something; enough of them, and it happens.
pub(crate) fn ask(s: &mut dyn StateWrite, tx: &mut Tx<'_>, wish: GuardianWish) -> Result<(), TxError> {
    let env = tx.env;
    let guardian = &env.zone.params.governance.guardian;
    if tx.node.is_some() || guardian.members.binary_search(&tx.account).is_err() {
        return Err(TxError::NotGuardian);
    }
    allowed(s, env, wish)?;
    put(s, call_key(&tx.account), &GuardianCall { wish, until_shifted: env.shifted().plus(CALL_LASTS) });
    let agree = |m: &&AccountId| call(s, m).is_some_and(|c| c.wish == wish && env.shifted() < c.until_shifted);
    if guardian.members.iter().filter(agree).count() < usize::from(guardian.threshold) {
        tx.events.push(Event::Governance(GovernanceEvent::GuardianCalled { member: tx.account }));
        return Ok(());
    }
    for member in &guardian.members {
        s.delete(&call_key(member));
    }
    match wish {
        GuardianWish::Pause { kinds, duration } => begin(s, tx, kinds, duration),
        GuardianWish::Unpause => end(s, env, &mut tx.events),
    }
    Ok(())
}

/// Whether a wish could come true now.
fn allowed(s: &dyn StateRead, env: &Env, wish: GuardianWish) -> Result<(), TxError> {
    let (pause, rules) = (record(s), &env.zone.params.governance.rules);
    let running = pause.kinds != PauseSet::default();
    match wish {
        GuardianWish::Unpause if running => Ok(()),
        GuardianWish::Unpause => Err(bad("running", "nothing is paused")),
        GuardianWish::Pause { .. } if running => Err(bad("paused", "one pause at a time; end it first")),
        GuardianWish::Pause { kinds, duration } => {
            crate::validate::at_most("milliseconds of pause", duration.0, rules.max_pause.0)?;
            if !kinds.is_valid() || duration.0 == 0 {
                return Err(TxError::Invalid("a pause names kinds of actions that exist, and a time".into()));
            }
            // The zone's first pause has none before it.
            if pause.until_shifted.0 > 0 && env.shifted() < pause.until_shifted.plus(rules.pause_gap) {
                return Err(bad("just back from a pause", "wait until the gap between pauses has passed"));
            }
            Ok(())
        }
    }
}

fn bad(state: &str, hint: &'static str) -> TxError {
    TxError::BadState { what: "the network", state: state.into(), hint }
}

fn begin(s: &mut dyn StateWrite, tx: &mut Tx<'_>, kinds: PauseSet, duration: Millis) {
    let until_shifted = tx.env.shifted().plus(duration);
    put(s, meta(META_PAUSE), &Pause { kinds, until_shifted });
    mark(s, timer_key(until_shifted, TimerKind::Governance, &PAUSE_TIMER));
    tx.events.push(Event::Governance(GovernanceEvent::Paused { kinds, until: tx.env.now().plus(duration) }));
}

/// Ends a pause, early or at its time; the gap to the next one counts from now.
pub(crate) fn end(s: &mut dyn StateWrite, env: &Env, events: &mut Vec<Event>) {
    let pause = record(s);
    if pause.kinds == PauseSet::default() {
        return;
    }
    s.delete(&timer_key(pause.until_shifted, TimerKind::Governance, &PAUSE_TIMER));
    put(s, meta(META_PAUSE), &Pause { kinds: PauseSet::default(), until_shifted: pause.until_shifted.min(env.shifted()) });
    market::wake(s);
    events.push(Event::Governance(GovernanceEvent::Unpaused));
}
