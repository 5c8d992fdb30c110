//! What signs a transaction while the main key is locked: the device's key within its grant, or the main key after its passphrase.
//!
//! ```text
//!  daily action, fits what is left ──▶ device, by its grant
//!  daily action, does not fit ──▶ passphrase ──▶ grant renewed ──▶ device;  above a whole day's limit: main key
//!  anything else ──▶ passphrase ──▶ main key
//! ```
//! Guarantees: nobody is asked for anything that the device may do by itself; without an answer nothing is sent. The ledger knows no
//! limit for a day: it is a grant of the day's limit that ends after 24 hours. The device confirms service as the watcher of its user's
//! jobs, by a grant of its own. Spec: `docs/specs/keys.md` §3.

use crate::exit::Failure;
use crate::keyring::Device;
use crate::render::number::credits;
use crate::session::{Door, Session};
use pasture_api::{GrantView, LeaseView, delegate};
use pasture_types::event::ConfirmedBy;
use pasture_types::grant::{ActionKind, Budget, GrantAction, GrantTerms, GrantUse};
use pasture_types::lease::LeaseState;
use pasture_types::market_rules::MarketAction;
use pasture_types::service::ServiceAction;
use pasture_types::tx::{Action, Auth, MAX_LANES, TxBody};
use pasture_types::{AccountId, Amount, AssetId, GrantId, Millis, PublicKey, SigningKey, Timestamp};

/// How long a day's right lasts.
const DAY: Millis = Millis(24 * 3_600_000);
/// Days for which the device's confirmations count without a new grant: a job that was begun goes on.
const WATCH_DAYS: u64 = 7;
/// What a transaction's fee is taken to be at most, in units of the price of a microsecond: a dozen times what an order costs.
const FEE_ROOM: u128 = 2_000;
/// The ledger's word for what it does not know: also said of other things than grants.
const UNKNOWN: &str = "ledger-40";
/// Its words for a grant that may not, or that has less left.
const OUTDATED: [&str; 2] = ["ledger-70", "ledger-71"];
/// A right that ends within this is not begun with.
const ABOUT_TO_END: Millis = Millis(5_000);

/// By what a transaction is signed.
#[derive(Clone, Debug)]
pub(crate) struct Right {
    /// By what right.
    pub(crate) auth: Auth,
    /// With which key.
    pub(crate) key: SigningKey,
    /// On which lane.
    pub(crate) lane: u8,
    /// Its next number.
    pub(crate) seq: u64,
    /// Who confirms in the user's place, where an order names nobody.
    watcher: Option<AccountId>,
}

impl Right {
    /// Whether the ledger refused since the grant is not what it was when we looked: another of our programs was faster.
    pub(crate) fn is_outdated(&self, failure: &Failure) -> bool {
        let code = failure.code.as_str();
        let gone = code == UNKNOWN && failure.message.contains("grant");
        matches!(self.auth, Auth::Delegated(_)) && (gone || OUTDATED.contains(&code))
    }
    /// The actions as they are signed: an order that names no watcher names the device.
    pub(crate) fn fitted(&self, mut actions: Vec<Action>) -> Vec<Action> {
        for action in &mut actions {
            if let Action::PlaceOrder { terms } = action
                && terms.watcher.is_none()
            {
                terms.watcher = self.watcher;
            }
        }
        actions
    }
}

/// What a device has on a network.
#[derive(Clone, Default, Debug)]
pub(crate) struct Standing {
    /// Its right to act, while it stands.
    pub(crate) act: Option<GrantView>,
    /// Its right to confirm, while it stands.
    pub(crate) watch: Option<GrantView>,
    /// All of the account's grants to its key, void ones too.
    pub(crate) all: Vec<GrantId>,
}

impl Standing {
    /// What of an account's grants is a device's.
    pub(crate) fn of(device: &Device, grants: Vec<GrantView>, now: Timestamp) -> Self {
        let (key, watcher) = (device.key().public(), device.watcher());
        let text = key.to_string();
        let soon = now.plus(ABOUT_TO_END);
        let mut out = Self::default();
        for grant in grants.into_iter().filter(|g| g.key == text) {
            out.all.push(grant.id);
            if delegate::stands_in(&grant, &key, soon) {
                out.act = Some(grant);
            } else if grant.may == (GrantUse::Watch { watcher }) && !grant.void && soon < grant.expires {
                out.watch = Some(grant);
            }
        }
        out
    }
    /// Whether an amount fits what is left; nothing fits where no right stands.
    fn covers(&self, most: Amount) -> bool {
        self.act.as_ref().is_some_and(|g| most <= g.left)
    }
    /// Why that does not do, for people.
    fn why_not(&self, most: Amount, device: &Device) -> String {
        match &self.act {
            Some(grant) => format!(
                "this may cost up to {} cr, and {} of the day's {} cr are left for this device",
                credits(most),
                credits(grant.left),
                credits(device.daily)
            ),
            None => "this device's right to act for your account is over: it lasts a day, and was perhaps taken back".into(),
        }
    }
}

fn daily(actions: &[Action]) -> bool {
    let kinds = delegate::daily_kinds();
    actions.iter().all(|a| kinds.contains(&ActionKind::of(a)))
}

/// What locks a device out is said with a code of its own, since nothing is wrong with the key.
fn above(failure: Failure) -> Failure {
    if failure.code == "locked" { Failure { next: failure.next, ..Failure::new("daily-limit", failure.message) } } else { failure }
}

impl Session {
    /// What the device has here.
    pub(crate) async fn standing(&self, device: &Device) -> Result<Standing, Failure> {
        let ours = self.account();
        let grants = self.ask(|| self.api.grants(&ours)).await?;
        Ok(Standing::of(device, grants, self.time()))
    }

    /// Who signs these actions, and on which lane. Asks for the main key's passphrase where they need it.
    pub(crate) async fn right(&self, actions: &[Action]) -> Result<Right, Failure> {
        let Some(device) = self.keyring.device().cloned() else {
            return self.by_main(&self.key, None).await;
        };
        if !daily(actions) {
            return self.by_main(&self.owner("this is no daily command")?, None).await;
        }
        let most = self.most(actions).await?;
        let mut standing = self.standing(&device).await?;
        if !standing.covers(most) {
            let main = self.owner(&standing.why_not(most, &device)).map_err(above)?;
            if most <= device.daily || standing.watch.is_none() {
                self.renew(&device, &main, &standing).await?;
                standing = self.standing(&device).await?;
            }
            if most > device.daily {
                return self.by_main(&main, standing.watch.map(|_| device.watcher())).await;
            }
        }
        let grant = standing.act.ok_or_else(|| Failure::new("internal", "the device's new right does not stand"))?;
        let lane = self.lane % pasture_types::grant::MAX_GRANT_LANES;
        let watcher = standing.watch.map(|_| device.watcher());
        Ok(Right { auth: Auth::Delegated(grant.id), key: device.key(), lane, seq: grant.next_seq(lane), watcher })
    }

    async fn by_main(&self, key: &SigningKey, watcher: Option<AccountId>) -> Result<Right, Failure> {
        let ours = self.account();
        let account = self.ask(|| self.api.account(&ours)).await?;
        let seq = account.lanes.iter().find(|(lane, _)| *lane == self.lane).map_or(0, |(_, seq)| *seq);
        Ok(Right { auth: Auth::Single, key: key.clone(), lane: self.lane, seq, watcher })
    }

    /// The most that actions take of a grant, fee included.
    async fn most(&self, actions: &[Action]) -> Result<Amount, Failure> {
        let mut sum = Amount(self.status.params.base_price.0.saturating_mul(FEE_ROOM));
        for action in actions {
            sum = sum.saturating_add(match action {
                Action::PlaceOrder { terms } => {
                    let whole = terms.max_price_per_hour.per_hour_for(terms.max_duration.0).unwrap_or(terms.budget);
                    // Rounded down by at most one.
                    terms.budget.min(whole.saturating_add(Amount(1)))
                }
                Action::Extend { lease, duration } => {
                    let view = self.ask(|| self.api.lease(lease)).await?;
                    view.rate_per_hour.per_hour_for(duration.0).unwrap_or(Amount(u128::MAX)).saturating_add(Amount(1))
                }
                Action::Market(MarketAction::TopUp { amount, .. }) => *amount,
                _ => Amount::ZERO,
            });
        }
        Ok(sum)
    }

    /// Makes sure that machines take this device's word: its right stands, or is renewed after the passphrase.
    pub(crate) async fn ready(&self) -> Result<(), Failure> {
        let Some(device) = self.keyring.device().cloned() else { return Ok(()) };
        let standing = self.standing(&device).await?;
        if standing.act.is_some() {
            return Ok(());
        }
        let ours = self.account();
        match self.ask(|| self.api.account(&ours)).await {
            Ok(_) => {}
            // An account that nobody knows here has nothing here, either.
            Err(e) if e.problem().is_some_and(|p| p.status == 404) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        let main = self.owner(&standing.why_not(Amount::ZERO, &device)).map_err(above)?;
        self.renew(&device, &main, &standing).await
    }

    /// Gives the device a day's right, in the place of what it has; and the right to confirm.
    pub(crate) async fn renew(&self, device: &Device, main: &SigningKey, standing: &Standing) -> Result<(), Failure> {
        self.ensure_watcher(device, main).await?;
        let (key, now) = (device.key().public(), self.time());
        let budget = |times: u128| {
            let amount = Amount(device.daily.0.saturating_mul(times));
            vec![Budget { asset: AssetId::CREDIT, amount }]
        };
        let act = GrantUse::Act { kinds: delegate::daily_kinds(), recipients: vec![], max_rate_per_hour: None };
        let watch = GrantUse::Watch { watcher: device.watcher() };
        let week = Millis(DAY.0.saturating_mul(WATCH_DAYS));
        let grants = [
            GrantTerms { key, may: act, budget: budget(1), expires: now.plus(DAY) },
            GrantTerms { key, may: watch, budget: budget(u128::from(WATCH_DAYS)), expires: now.plus(week) },
        ];
        let mut actions: Vec<Action> = standing.all.iter().map(|grant| Action::Grant(GrantAction::Revoke { grant: *grant })).collect();
        actions.extend(grants.map(|terms| Action::Grant(GrantAction::Create { terms: Box::new(terms) })));
        match self.submit_by_owner(actions, main).await {
            Ok(()) => {
                self.out.note(&format!("this device may spend {} cr within 24 hours without being asked", credits(device.daily)));
                Ok(())
            }
            // Another of our programs may have done it in the same moment.
            Err(_) if self.standing(device).await?.act.is_some_and(|g| !standing.all.contains(&g.id)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Signs with the main key, and waits until it is final.
    pub(crate) async fn submit_by_owner(&self, actions: Vec<Action>, main: &SigningKey) -> Result<(), Failure> {
        let right = self.by_main(main, None).await?;
        self.deliver(&self.body(&right, actions).sign(main), Door::Everybody).await
    }

    /// Opens the account by whose name the device confirms. The main one pays the fee, so that it needs no credits.
    async fn ensure_watcher(&self, device: &Device, main: &SigningKey) -> Result<(), Failure> {
        let watcher = device.watcher();
        match self.ask(|| self.api.account(&watcher)).await {
            Ok(_) => return Ok(()),
            Err(e) if e.problem().is_some_and(|p| p.status == 404) => {}
            Err(e) => return Err(e.into()),
        }
        let key = device.key();
        let right = Right { auth: Auth::Single, key: key.clone(), lane: self.lane % MAX_LANES, seq: 0, watcher: None };
        let body = TxBody {
            account: watcher,
            fee_payer: Some(self.account()),
            ..self.body(&right, vec![Action::RegisterAccount { keys: vec![key.public()], threshold: 1 }])
        };
        let sent = self.deliver(&body.sign(&key).and_sign(self.account(), main), Door::Everybody).await;
        // Another of our programs may have done it in the same moment.
        if sent.is_err() && self.ask(|| self.api.account(&watcher)).await.is_ok() { Ok(()) } else { sent }
    }

    /// Whose signature confirms service now: the account's if its key is open, else the device's, which the job names its watcher.
    pub(crate) fn confirming_key(&self) -> SigningKey {
        self.keyring.open_already().unwrap_or(&self.key).clone()
    }

    /// Names the device the watcher of a job that has none, so that its confirmations count. What cannot be done is said, no more.
    pub(crate) async fn watch_over(&self, lease: &LeaseView) {
        let Some(device) = self.keyring.device().filter(|_| self.keyring.open_already().is_none()) else { return };
        let live = matches!(lease.state, LeaseState::Matched | LeaseState::Accepted | LeaseState::Running);
        if !live || lease.tenure.watcher.is_some() {
            return;
        }
        let watcher = Some(device.watcher());
        if let Err(failure) = self.submit(vec![Action::Service(Box::new(ServiceAction::Watch { lease: lease.id, watcher }))]).await {
            self.out.note(&format!("! this device cannot confirm the service of {}: {}", lease.id.short(), failure.message));
        }
    }

    /// What dismisses a device whose right is taken back from the jobs that it watches: it would see their status and events.
    pub(crate) async fn dismissing(&self, key: &PublicKey) -> Result<Vec<Action>, Failure> {
        let watcher = Some(key.account());
        let (jobs, _) = self.jobs().await?;
        let leases = jobs.into_iter().filter_map(|j| j.lease);
        let watched = leases.filter(|l| l.state != LeaseState::Closed && l.tenure.watcher == watcher);
        Ok(watched.map(|l| Action::Service(Box::new(ServiceAction::Watch { lease: l.id, watcher: None }))).collect())
    }

    /// What a receipt calls this device, where it had the last word as the user's own watcher.
    pub(crate) fn watched_here(&self, lease: &LeaseView) -> Option<String> {
        match lease.settlement.as_ref()?.confirmed_by {
            ConfirmedBy::Watcher(account) if self.is_this_device(&account) => Some("this device".into()),
            _ => None,
        }
    }

    /// Whether an account is this device's own.
    pub(crate) fn is_this_device(&self, account: &AccountId) -> bool {
        self.keyring.device().is_some_and(|d| d.watcher() == *account)
    }

    /// The main key; `why` is said to whoever is asked for its passphrase.
    pub(crate) fn owner(&self, why: &str) -> Result<SigningKey, Failure> {
        self.keyring.main(why)
    }

    /// The same session with the main key wherever a key signs, for what no device may do.
    pub(crate) fn by_owner(self, why: &str) -> Result<Self, Failure> {
        Ok(Self { key: self.owner(why)?, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::{LeaseId, OrderId};

    fn device() -> Device {
        Device::make(&SigningKey::from_seed([1; 32]), Amount::credits(5)).unwrap()
    }

    fn grant(device: &Device, id: u8, may: GrantUse, left: Amount) -> GrantView {
        GrantView {
            id: GrantId([id; 32]),
            account: device.account,
            key: device.key().public().to_string(),
            may,
            budget: vec![],
            spent: vec![],
            left,
            expires: Timestamp(100_000),
            void: false,
            lanes: vec![],
        }
    }

    #[test]
    fn a_device_has_what_stands_and_was_made_for_it() {
        let device = device();
        let act =
            |left| grant(&device, 1, GrantUse::Act { kinds: delegate::daily_kinds(), recipients: vec![], max_rate_per_hour: None }, left);
        let watch = grant(&device, 2, GrantUse::Watch { watcher: device.watcher() }, Amount::ZERO);
        let foreign = GrantView { key: SigningKey::from_seed([9; 32]).public().to_string(), ..act(Amount::credits(3)) };
        let of = |grants: Vec<GrantView>, now| Standing::of(&device, grants, Timestamp(now));
        let standing = of(vec![foreign.clone(), act(Amount::credits(3)), watch], 0);
        assert_eq!((standing.all.len(), standing.act.is_some(), standing.watch.is_some()), (2, true, true));
        assert!(standing.covers(Amount::credits(3)) && !standing.covers(Amount::credits(4)));
        assert!(standing.why_not(Amount::credits(4), &device).contains("3.0000 of the day's 5.0000 cr"));
        assert!(of(vec![act(Amount::credits(3))], 96_000).act.is_none(), "about to end");
        assert!(of(vec![foreign], 0).act.is_none());
        // What stands no more is taken back with the next right all the same.
        let void = of(vec![GrantView { void: true, ..act(Amount::credits(3)) }], 0);
        assert_eq!((void.act.is_none(), void.all.len()), (true, 1));
        assert!(!Standing::default().covers(Amount::ZERO) && Standing::default().why_not(Amount::ZERO, &device).contains("is over"));
    }

    #[test]
    fn nothing_that_pays_or_lends_is_a_daily_action() {
        let cancel = Action::CancelOrder { order: OrderId::default() };
        let watch = Action::Service(Box::new(ServiceAction::Watch { lease: LeaseId::default(), watcher: None }));
        let transfer = Action::Transfer { to: AccountId::default(), asset: AssetId::CREDIT, amount: Amount::ZERO };
        let revoke = Action::Grant(GrantAction::Revoke { grant: GrantId::default() });
        assert!(daily(&[cancel.clone(), watch]));
        for not in [transfer, revoke, Action::Stake { amount: Amount::ZERO }, Action::Keys(pasture_types::account::KeyAction::Cancel)] {
            assert!(!daily(&[cancel.clone(), not]));
        }
    }

    #[test]
    fn only_what_may_be_another_programs_doing_is_tried_again() {
        let key = device().key();
        let right = |auth| Right { auth, key: key.clone(), lane: 0, seq: 0, watcher: None };
        let failure = |code: &str, message: &str| Failure::new(code, message);
        let delegated = right(Auth::Delegated(GrantId::default()));
        assert!(delegated.is_outdated(&failure("ledger-40", "no grant (revoked, expired or used up) 01020304; check the id")));
        assert!(delegated.is_outdated(&failure("ledger-71", "")));
        assert!(!delegated.is_outdated(&failure("ledger-40", "no order 01020304; check the id")));
        assert!(!right(Auth::Single).is_outdated(&failure("ledger-71", "")));
    }
}
