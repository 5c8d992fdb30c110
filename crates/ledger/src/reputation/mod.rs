//! Who may be relied on: standing from network fees, harm and ratings. Spec: `docs/specs/reputation.md`.
//!
//! Guarantees: what one counterparty gives or takes is capped, whatever it pays and in how many leases; what an account that is
//! too young pays does not count; nothing is scanned: standings fade when they are read; a provider's pairs are bounded.
//! It sees only what settlements say and decides no payment.

mod check;
mod fade;
pub mod query;
pub(crate) mod records;
mod score;

pub(crate) use check::check;
pub use score::{NEUTRAL_PPM, Score};

use crate::apply::Tx;
use crate::env::Env;
use crate::error::TxError;
use crate::records::Lease;
use crate::seams;
use crate::tables::{self, get, key, keys_between, keys_with, mark, put};
use pasture_scheduler::price_for;
use pasture_types::event::{ConfirmedBy, Event, Settlement};
use pasture_types::lease::EndReason;
use pasture_types::reputation::{MAX_RATING_WINDOW, MAX_STARS, ReputationAction, ReputationEvent, ReputationParams};
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, Amount, AssetId, LeaseId, Millis, Timestamp};
use records::{Pair, Rating, Side, Standing, plus};

/// role, account -> [`Standing`]
pub(crate) const STANDING: u8 = 0x48;
/// provider, user -> [`Pair`]
pub(crate) const PAIR: u8 = 0x49;
/// provider, epoch of the last touch, user -> nothing
pub(crate) const PAIR_BY_AGE: u8 = 0x4a;
/// time of the lease's end, lease -> [`Rating`]
pub(crate) const RATING: u8 = 0x4b;

/// Most counterparties of a provider that are remembered. Beyond, the longest untouched is forgotten: what it gave stays and
/// fades, and it may give anew, which a new counterparty could as well.
pub(crate) const MAX_PAIRS: u32 = 1_024;
/// A pair untouched for so many half-lives has less than a thousandth left and is forgotten.
const PAIR_HALF_LIVES: u64 = 10;
/// Most forgotten pairs that one settlement deletes.
const MAX_FORGOTTEN: usize = 4;
/// Most ratings past their time that one block deletes.
pub(crate) const MAX_RATINGS_PRUNED_PER_BLOCK: usize = 64;
const PPM: u128 = 1_000_000;

/// The epoch that standings fade by: that of the time less halts, so that a halt costs nobody standing.
fn epoch_of(env: &Env) -> u64 {
    env.zone.epoch_of(env.shifted())
}

fn standing_key(role: Side, account: &AccountId) -> Vec<u8> {
    key(STANDING, &[&[role as u8], &account.0])
}

/// An account's standing as of now.
pub(crate) fn standing(s: &dyn StateRead, env: &Env, role: Side, account: &AccountId) -> Standing {
    let record: Standing = get(s, &standing_key(role, account)).unwrap_or_default();
    record.at(epoch_of(env), env.zone.params.reputation.half_life_epochs)
}

/// An account's score as of now.
pub(crate) fn score_of(s: &dyn StateRead, env: &Env, role: Side, account: &AccountId) -> Score {
    score::score(&env.zone.params.reputation, standing(s, env, role, account))
}

fn pair_key(provider: &AccountId, user: &AccountId) -> Vec<u8> {
    key(PAIR, &[&provider.0, &user.0])
}

fn age_key(provider: &AccountId, epoch: u64, user: &AccountId) -> Vec<u8> {
    key(PAIR_BY_AGE, &[&provider.0, &epoch.to_be_bytes(), &user.0])
}

/// What a provider and a user gave each other, as of now.
pub(crate) fn pair(s: &dyn StateRead, env: &Env, provider: &AccountId, user: &AccountId) -> Pair {
    let record: Pair = get(s, &pair_key(provider, user)).unwrap_or_default();
    record.at(epoch_of(env), env.zone.params.reputation.half_life_epochs)
}

/// Writes a pair as of now; a new one takes the place of the longest untouched if there are too many.
fn put_pair(s: &mut dyn StateWrite, env: &Env, of: &mut Standing, provider: &AccountId, user: &AccountId, pair: Pair) {
    let now = epoch_of(env);
    match get::<Pair>(s, &pair_key(provider, user)) {
        Some(old) => s.delete(&age_key(provider, old.epoch, user)),
        None => of.pairs = of.pairs.saturating_add(1),
    }
    put(s, pair_key(provider, user), &Pair { epoch: now, ..pair });
    mark(s, age_key(provider, now, user));
    let kept = env.zone.params.reputation.half_life_epochs.saturating_mul(PAIR_HALF_LIVES);
    let stale = key(PAIR_BY_AGE, &[&provider.0, &now.saturating_sub(kept).to_be_bytes()]);
    let mut forgotten = keys_between(s, &key(PAIR_BY_AGE, &[&provider.0]), &stale, MAX_FORGOTTEN);
    if forgotten.is_empty() && of.pairs > MAX_PAIRS {
        forgotten = keys_with(s, &key(PAIR_BY_AGE, &[&provider.0]), 1);
    }
    for k in forgotten {
        if let Some(user) = tables::tail_id(&k) {
            s.delete(&pair_key(provider, &AccountId(user)));
            s.delete(&k);
            of.pairs = of.pairs.saturating_sub(1);
        }
    }
}

/// Whether an account has been there long enough for what it pays or earns to count.
fn aged(s: &dyn StateRead, env: &Env, account: &AccountId) -> bool {
    let since = tables::account(s, account).map(|a| a.registered_at);
    since.is_some_and(|at| env.shifted().since(env.shift(at)) >= env.zone.params.reputation.min_age)
}

/// What still fits under a cap.
fn room(cap: Amount, used: Amount, wanted: Amount) -> Amount {
    wanted.min(cap.saturating_sub(used))
}

/// The fee of service that was promised and not given: at most `penalty_epochs` of it, times `penalty`.
fn broken(env: &Env, p: &ReputationParams, lease: &Lease) -> Amount {
    let missing = Millis(lease.max_duration.0.saturating_sub(lease.last_claim().served.0)).min(env.epochs(p.penalty_epochs));
    weighed(env, p, seams::worth_in_credits(env, lease.asset, price_for(lease.rate_per_hour, missing)))
}

/// Whether an asset has a rate in credits.
fn known(env: &Env, asset: AssetId) -> bool {
    asset == AssetId::CREDIT || env.zone.params.service.fee_rates.iter().flatten().any(|r| r.asset == asset)
}

/// What a sum that went wrong takes away: its network fee, times `penalty`.
fn weighed(env: &Env, p: &ReputationParams, sum: Amount) -> Amount {
    let fee = sum.mul_div(u128::from(env.zone.params.treasury_ppm), PPM).unwrap_or(Amount::ZERO);
    fee.mul_div(u128::from(p.penalty), 1).unwrap_or(fee)
}

/// Told once for each lease that settles.
pub(crate) fn settled(s: &mut dyn StateWrite, env: &Env, lease: &Lease, settlement: &Settlement) {
    let p = env.zone.params.reputation;
    let (provider, user) = (&lease.provider, &lease.account);
    // Who serves itself shows nothing. Money that has no rate in credits is worth nothing here: anybody could make much of it.
    if provider == user || !known(env, settlement.asset) {
        return;
    }
    let mut between = Between::load(s, env, provider, user);
    between.pay(s, env, seams::worth_in_credits(env, settlement.asset, settlement.to_treasury));
    let Between { served, paid, both, .. } = &mut between;
    if settlement.confirmed_by == ConfirmedBy::Objection {
        // Nobody knows who is right: it lowers both, by what it cost the one who objected, and no more for one who repeats it.
        let harm = room(p.pair_cap, both.harm, weighed(env, &p, seams::worth_in_credits(env, settlement.asset, settlement.withheld)));
        both.harm = both.harm.saturating_add(harm);
        served.harm = plus(served.harm, harm);
        paid.harm = plus(paid.harm, harm);
    }
    // A watcher's evidence shows whose fault it was.
    let shown = matches!(settlement.confirmed_by, ConfirmedBy::Evidence(_));
    if shown || matches!(lease.end_reason(), Some(EndReason::Lost | EndReason::StoppedByProvider)) {
        // Only the node's own doing: no user can cause it, so it needs no cap.
        served.harm = plus(served.harm, broken(env, &p, lease));
    }
    between.save(s, env);
}

/// Told when a channel pays: its network fee counts like a lease's, under the same cap.
pub(crate) fn channel_paid(s: &mut dyn StateWrite, env: &Env, client: &AccountId, provider: &AccountId, asset: AssetId, fee: Amount) {
    let fee = seams::worth_in_credits(env, asset, fee);
    if client == provider || fee.is_zero() {
        return;
    }
    let mut between = Between::load(s, env, provider, client);
    between.pay(s, env, fee);
    between.save(s, env);
}

/// Two accounts that deal with each other, as of now.
struct Between {
    provider: AccountId,
    user: AccountId,
    served: Standing,
    paid: Standing,
    both: Pair,
}

impl Between {
    fn load(s: &dyn StateRead, env: &Env, provider: &AccountId, user: &AccountId) -> Self {
        Self {
            provider: *provider,
            user: *user,
            served: standing(s, env, Side::Provider, provider),
            paid: standing(s, env, Side::User, user),
            both: pair(s, env, provider, user),
        }
    }
    /// A network fee lifts both, as far as the pair's cap goes and each has been there long enough.
    fn pay(&mut self, s: &dyn StateRead, env: &Env, fee: Amount) {
        let cap = env.zone.params.reputation.pair_cap;
        if aged(s, env, &self.user) {
            let counts = room(cap, self.both.provider_fees, fee);
            self.both.provider_fees = self.both.provider_fees.saturating_add(counts);
            self.served.fees = plus(self.served.fees, counts);
        }
        if aged(s, env, &self.provider) {
            let counts = room(cap, self.both.user_fees, fee);
            self.both.user_fees = self.both.user_fees.saturating_add(counts);
            self.paid.fees = plus(self.paid.fees, counts);
        }
    }
    fn save(mut self, s: &mut dyn StateWrite, env: &Env) {
        let nothing = Standing { epoch: epoch_of(env), ..Standing::default() };
        if self.both != (Pair { epoch: self.both.epoch, ..Pair::default() }) {
            put_pair(s, env, &mut self.served, &self.provider, &self.user, self.both);
        }
        if self.served != nothing {
            put(s, standing_key(Side::Provider, &self.provider), &self.served);
        }
        if self.paid != nothing {
            put(s, standing_key(Side::User, &self.user), &self.paid);
        }
    }
}

/// What an action costs.
pub(crate) const fn cost_us(action: &ReputationAction) -> u32 {
    match action {
        ReputationAction::Rate { .. } => 15,
    }
}

/// One action of reputation.
pub(crate) fn act(s: &mut dyn StateWrite, tx: &mut Tx<'_>, action: &ReputationAction) -> Result<(), TxError> {
    match action {
        ReputationAction::Rate { lease, stars } => rate(s, tx, lease, *stars),
    }
}

fn rating_key(ended: Timestamp, lease: &LeaseId) -> Vec<u8> {
    key(RATING, &[&ended.0.to_be_bytes(), &lease.0])
}

/// A lease's rating.
pub(crate) fn rating(s: &dyn StateRead, lease: &Lease) -> Option<Rating> {
    get(s, &rating_key(lease.closed_at?, &lease.id))
}

/// What of a settled lease a rating may be weighed by.
fn ratable(s: &dyn StateRead, tx: &Tx<'_>, lease: &Lease) -> Result<(Timestamp, Amount), TxError> {
    let env = tx.env;
    if tx.node.is_some() || lease.account != tx.account {
        return Err(TxError::NotYours("the lease"));
    }
    if lease.provider == lease.account {
        return Err(TxError::Rating("you cannot rate your own node"));
    }
    let (Some(ended), Some(settlement)) = (lease.closed_at, &lease.settlement) else {
        return Err(TxError::Rating("only a settled lease can be rated; wait until it is"));
    };
    let fee = seams::worth_in_credits(env, settlement.asset, settlement.to_treasury);
    if fee.is_zero() {
        return Err(TxError::Rating("nothing was paid for that lease, so there is nothing to weigh a rating by"));
    }
    if env.now().since(ended) > env.zone.params.reputation.rating_window {
        return Err(TxError::Rating("the time to rate that lease, or to change its rating, is over"));
    }
    if !aged(s, env, &tx.account) {
        return Err(TxError::Rating("your account is too young for its ratings to count; rate a little later"));
    }
    Ok((ended, fee))
}

fn rate(s: &mut dyn StateWrite, tx: &mut Tx<'_>, id: &LeaseId, stars: u8) -> Result<(), TxError> {
    let env = tx.env;
    if stars == 0 || stars > MAX_STARS {
        return Err(TxError::Rating("one to five stars"));
    }
    let lease = tables::lease(s, id).ok_or_else(|| TxError::unknown("lease", id))?;
    let (ended, fee) = ratable(s, tx, &lease)?;
    let p = env.zone.params.reputation;
    let mut of = standing(s, env, Side::Provider, &lease.provider);
    let times = |weight: Amount, stars: u8| Amount(weight.0.saturating_mul(u128::from(stars)));
    let rating = match rating(s, &lease) {
        Some(old) => {
            // Only the stars change; what is left of its weight moves from the old ones to the new ones.
            let left = Amount(fade::fade(old.weight.0, epoch_of(env).saturating_sub(old.epoch), p.half_life_epochs));
            of.stars = plus(of.stars.saturating_sub(times(left, old.stars)), times(left, stars));
            Rating { stars, at: env.now(), ..old }
        }
        None => {
            let mut both = pair(s, env, &lease.provider, &lease.account);
            let weight = room(p.pair_cap, both.rated, fee);
            both.rated = both.rated.saturating_add(weight);
            of.rated = plus(of.rated, weight);
            of.stars = plus(of.stars, times(weight, stars));
            put_pair(s, env, &mut of, &lease.provider, &lease.account, both);
            let (provider, account) = (lease.provider, lease.account);
            Rating { lease: *id, provider, account, stars, weight, epoch: epoch_of(env), at: env.now() }
        }
    };
    // Rounding must not make a mean of more than five stars or less than one.
    of.stars = of.stars.min(times(of.rated, MAX_STARS)).max(of.rated);
    put(s, standing_key(Side::Provider, &lease.provider), &of);
    put(s, rating_key(ended, id), &rating);
    let (provider, account) = (lease.provider, lease.account);
    tx.events.push(Event::Reputation(ReputationEvent::Rated { lease: *id, provider, account, stars }));
    Ok(())
}

/// Deletes ratings that nobody can change any more, a few in each block that comes anyway; what they gave stays and fades.
pub(crate) fn prune(s: &mut dyn StateWrite, env: &Env) {
    let before = env.now().0.saturating_sub(MAX_RATING_WINDOW.0);
    for k in keys_between(s, &[RATING], &key(RATING, &[&before.to_be_bytes()]), MAX_RATINGS_PRUNED_PER_BLOCK) {
        s.delete(&k);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::genesis::{Genesis, Params, RULES_VERSION};

    #[test]
    fn a_provider_remembers_so_many_pairs_and_forgets_the_longest_untouched() {
        let (validators, accounts) = (vec![], vec![]);
        let (name, time) = ("pairs".into(), Timestamp(0));
        let genesis = Genesis { name, time, rules_version: RULES_VERSION, params: Params::dev(), validators, accounts, assets: vec![] };
        let mut s = crate::genesis(&genesis);
        let mut env = Env::load(&s).unwrap();
        let provider = AccountId([1; 32]);
        let user = |n: u32| AccountId(pasture_types::ids::derive("user", &[&n.to_le_bytes()]));
        let mut of = Standing::default();
        let meet = |s: &mut pasture_types::state::MemoryState, env: &Env, of: &mut Standing, n: u32| {
            let now = Pair { provider_fees: Amount(1_000_000), ..pair(s, env, &provider, &user(n)) };
            put_pair(s, env, of, &provider, &user(n), now);
            put(s, standing_key(Side::Provider, &provider), of);
        };
        for n in 0..MAX_PAIRS + 50 {
            env.clock.time = Timestamp(u64::from(n) * 5_000);
            meet(&mut s, &env, &mut of, n);
            // The first one is met again and again, so it is never the longest untouched.
            meet(&mut s, &env, &mut of, 0);
        }
        let mut broken = Vec::new();
        check(&s, &mut |rule, detail| broken.push((rule, detail)));
        assert_eq!((of.pairs, broken), (MAX_PAIRS, vec![]));
        let kept = |n: u32| s.get(&pair_key(&provider, &user(n))).is_some();
        assert!(kept(0) && !kept(1) && !kept(50) && kept(51) && kept(MAX_PAIRS + 49));
        // After ten half-lives of silence old pairs go, a few at a time.
        env.clock.time = env.clock.time.plus(env.epochs(11 * env.zone.params.reputation.half_life_epochs));
        meet(&mut s, &env, &mut of, 0);
        assert_eq!(of.pairs as usize, MAX_PAIRS as usize - MAX_FORGOTTEN);
    }
}
