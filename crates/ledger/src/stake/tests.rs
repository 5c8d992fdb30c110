//! What only the ledger's own modules do: forfeits and suspensions, alone and amid everything else.

use super::forfeit::{jail, slash};
use super::*;
use crate::common::{World, key};
use crate::query;
use pasture_ledger::{Applied, TxError, check};
use pasture_types::stake::{Fault, Forfeit};
use pasture_types::tx::Action;
use pasture_types::{Millis, SigningKey};
use proptest::prelude::*;

fn forfeit(w: &mut World, ppm: u32, reporter: Option<&AccountId>) -> Forfeit {
    let env = Env::load(&w.state).unwrap();
    let id = w.provider.account();
    let out = slash(&mut w.state, &env, &id, ppm, Fault::FailedAudit, reporter, &mut w.events);
    check(&w.state).unwrap();
    out
}

fn suspend(w: &mut World, node: Option<NodeId>, ms: u64) {
    let env = Env::load(&w.state).unwrap();
    let id = w.provider.account();
    jail(&mut w.state, &env, &id, node.as_ref(), Millis(ms), Fault::FailedAudit, &mut w.events);
    check(&w.state).unwrap();
}

fn deposit(w: &mut World, key: &SigningKey, action: DepositAction) -> Result<Vec<Event>, TxError> {
    w.act(key, vec![Action::Deposit(action)])
}

fn sponsored(w: &mut World, n: u8, millicredits: u64) -> SigningKey {
    let key = key(n);
    let (user, amount) = (w.user.clone(), Amount(u128::from(millicredits) * 1_000_000));
    let mint = Action::TestCredits { to: key.account(), amount: amount.saturating_add(Amount(1_000_000)) };
    w.act(&user, vec![mint]).unwrap();
    let register = Action::RegisterAccount { keys: vec![key.public()], threshold: 1 };
    let post = Action::Deposit(DepositAction::Sponsor { provider: w.provider.account(), amount });
    w.act(&key, vec![register, post]).unwrap();
    key
}

fn own(w: &World) -> Provider {
    query::provider(&w.state, &w.provider.account()).unwrap()
}

const HALF: u32 = 500_000;

#[test]
fn the_own_deposit_pays_first_then_what_leaves_then_the_sponsors() {
    let mut w = World::offered();
    let provider = w.provider.clone();
    let (a, b) = (sponsored(&mut w, 50, 900), sponsored(&mut w, 51, 100));
    deposit(&mut w, &provider, DepositAction::Unbond { amount: Amount(400_000_000) }).unwrap();
    // 2.0 in all: 0.6 stands, 0.4 leaves, 1.0 is sponsored.
    let f = forfeit(&mut w, HALF, None);
    assert_eq!((f.own, f.unbonding, f.sponsors), (Amount(600_000_000), Amount(400_000_000), Amount::ZERO));
    assert_eq!((f.to_treasury, f.to_reporter), (Amount::credits(1), Amount::ZERO));
    assert!(own(&w).bond.leaving.is_empty() && own(&w).bond.timer_shifted.is_none());
    let f = forfeit(&mut w, HALF, None);
    assert_eq!((f.own, f.unbonding, f.sponsors), (Amount::ZERO, Amount::ZERO, Amount(500_000_000)));
    // By their parts, not in their order.
    let left = |w: &World, k: &SigningKey| sponsorship(&w.state, &w.provider.account(), &k.account()).unwrap().amount;
    assert_eq!((left(&w, &a), left(&w, &b)), (Amount(450_000_000), Amount(50_000_000)));
    assert_eq!(forfeit(&mut w, u32::MAX, None).taken(), Amount(500_000_000), "at most everything");
    assert_eq!(own(&w).bond.sponsors, 0);
    assert_eq!(forfeit(&mut w, u32::MAX, None), Forfeit::default());
    assert_eq!(own(&w).bond.forfeited, Amount::credits(2));
}

#[test]
fn who_reports_gets_its_part_unless_it_pays_itself() {
    let mut w = World::offered();
    let sponsor = sponsored(&mut w, 50, 500);
    let (user, provider) = (w.user.account(), w.provider.account());
    let before = w.balance(&w.user);
    let f = forfeit(&mut w, 100_000, Some(&user));
    assert_eq!((f.taken(), f.to_reporter), (Amount(150_000_000), Amount(15_000_000)));
    assert_eq!(w.balance(&w.user), before.checked_add(f.to_reporter).unwrap());
    assert_eq!(forfeit(&mut w, 100_000, Some(&provider)).to_reporter, Amount::ZERO);
    assert_eq!(forfeit(&mut w, 100_000, Some(&sponsor.account())).to_reporter, Amount::ZERO);
}

#[test]
fn unbonding_before_misbehaving_saves_nothing() {
    let mut w = World::offered();
    let provider = w.provider.clone();
    deposit(&mut w, &provider, DepositAction::Unbond { amount: Amount::credits(1) }).unwrap();
    let before = w.balance(&provider);
    w.wait(59_000);
    assert_eq!(forfeit(&mut w, 1_000_000, None).unbonding, Amount::credits(1));
    w.wait(10_000);
    assert_eq!(w.balance(&provider), before, "nothing was left to return");
}

#[test]
fn sponsors_who_run_pay_like_those_who_stay() {
    let mut w = World::offered();
    let id = w.provider.account();
    let (stays, runs) = (sponsored(&mut w, 50, 1_000), sponsored(&mut w, 51, 1_000));
    deposit(&mut w, &runs, DepositAction::WithdrawSponsorship { provider: id, amount: Amount::credits(1) }).unwrap();
    assert_eq!(own(&w).bond.sponsored, Amount::credits(1));
    // 3.0 in all, all of the own and half of the sponsors'.
    let f = forfeit(&mut w, 666_667, None);
    assert!(f.own == Amount::credits(1) && f.sponsors.0.abs_diff(1_000_000_000) < 2_000, "{f:?}");
    let all = |w: &World, k: &SigningKey| {
        let x = sponsorship(&w.state, &id, &k.account()).unwrap();
        x.amount.saturating_add(total(&x.leaving)).0
    };
    assert!(all(&w, &stays).abs_diff(all(&w, &runs)) <= 1);
    w.wait(61_000);
    assert!(sponsorship(&w.state, &id, &runs.account()).is_none() && sponsorship(&w.state, &id, &stays.account()).is_some());
}

#[test]
fn a_suspended_provider_serves_on_and_gets_nothing_new() {
    let mut w = World::offered();
    let terms = w.order_terms();
    let lease = w.accepted(terms.clone());
    let (started, provider, node) = (w.now, w.provider.clone(), w.node.node_id());
    suspend(&mut w, None, 30_000);
    let order = w.place(terms.clone());
    w.idle();
    assert!(query::lease_of_order(&w.state, &order).is_none(), "nothing new");
    let extend = Action::Extend { lease, duration: Millis(60_000) };
    assert_eq!(w.user_act(vec![extend.clone()]).unwrap_err().code(), 43, "nothing longer");
    assert_eq!(deposit(&mut w, &provider, DepositAction::Unjail { node: None }).unwrap_err().code(), 43, "not early");
    w.wait_beating(20_000);
    w.confirmed(&lease, started, 20_000).unwrap();
    // A second fault does not shorten it.
    suspend(&mut w, None, 1_000);
    assert!(deposit(&mut w, &provider, DepositAction::Unjail { node: None }).is_err());
    w.wait_beating(11_000);
    assert!(query::lease_of_order(&w.state, &order).is_none(), "time alone does not end it");
    deposit(&mut w, &provider, DepositAction::Unjail { node: None }).unwrap();
    assert_eq!(deposit(&mut w, &provider, DepositAction::Unjail { node: None }).unwrap_err().code(), 43);
    w.idle();
    assert!(query::lease_of_order(&w.state, &order).is_some(), "and orders that wait are drawn at once");
    w.user_act(vec![extend]).unwrap();
    w.close_by_node(&lease);
    w.wait_beating(12_000);
    assert!(w.lease(&lease).settlement.unwrap().billed_ms >= Millis(20_000), "what it served is paid");
    // One node alone.
    suspend(&mut w, Some(node), 1_000);
    assert!(query::deposits::is_suspended(&w.state, &node) && own(&w).bond.jail.is_none());
    w.wait_beating(2_000);
    let other = w.user.clone();
    assert_eq!(deposit(&mut w, &other, DepositAction::Unjail { node: Some(node) }).unwrap_err().code(), 42);
    deposit(&mut w, &provider, DepositAction::Unjail { node: Some(node) }).unwrap();
    assert!(!query::deposits::is_suspended(&w.state, &node));
}

#[test]
fn a_beginner_at_fault_needs_its_deposit() {
    let mut w = World::offered();
    let id = w.provider.account();
    let mut p = own(&w);
    // As one that began without and has earned a tenth.
    let moved = Amount(900_000_000);
    (p.stake, p.bond.start) = (Amount(100_000_000), Start::Newcomer);
    put_provider(&mut w.state, &id, &p);
    bank::credit(&mut w.state, &id, AssetId::CREDIT, moved);
    check(&w.state).unwrap();
    assert!(!query::deposits::is_suspended(&w.state, &w.node.node_id()));
    forfeit(&mut w, 0, None);
    assert_eq!(own(&w).bond.start, Start::Owing);
    assert!(query::deposits::is_suspended(&w.state, &w.node.node_id()));
    let env = Env::load(&w.state).unwrap();
    assert_eq!(value::keep_back(&mut w.state, &env, &id, AssetId::CREDIT, Amount(7)), Amount(7), "its earnings are still kept");
    assert_eq!(value::keep_back(&mut w.state, &env, &id, AssetId(1), Amount(7)), Amount::ZERO);
}

#[derive(Clone, Debug)]
enum Op {
    Stake(u64),
    Unbond(u64),
    Sponsor(usize, u64),
    Withdraw(usize, u64),
    Dismiss(usize),
    Slash(u32, bool),
    Jail(bool, u64),
    Unjail(bool),
    Order(u32),
    Answer(bool),
    Extend,
    Close,
    Wait(u64),
    Halt(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let nanos = 1u64..1_500_000_000;
    prop_oneof![
        2 => nanos.clone().prop_map(Op::Stake),
        3 => nanos.clone().prop_map(Op::Unbond),
        3 => (0usize..3, nanos.clone()).prop_map(|(n, a)| Op::Sponsor(n, a)),
        3 => (0usize..3, nanos).prop_map(|(n, a)| Op::Withdraw(n, a)),
        1 => (0usize..3).prop_map(Op::Dismiss),
        2 => (0u32..1_100_000, any::<bool>()).prop_map(|(p, r)| Op::Slash(p, r)),
        1 => (any::<bool>(), 0u64..20_000).prop_map(|(n, t)| Op::Jail(n, t)),
        3 => any::<bool>().prop_map(Op::Unjail),
        5 => (100u32..3_000).prop_map(Op::Order),
        5 => any::<bool>().prop_map(Op::Answer),
        1 => Just(Op::Extend),
        2 => Just(Op::Close),
        4 => (0u64..40_000).prop_map(Op::Wait),
        1 => (20_000u64..400_000).prop_map(Op::Halt),
    ]
}

/// The world of a history, and what it expects of the money.
struct Run {
    w: World,
    sponsors: Vec<SigningKey>,
}

impl Run {
    fn new() -> Self {
        let mut params = pasture_types::genesis::Params::dev();
        params.stake.audit_chance_ppm = 100_000;
        let mut w = World::with(params, 1);
        w.offer();
        let sponsors = (50..53).map(|n| sponsored(&mut w, n, 100)).collect();
        Self { w, sponsors }
    }

    fn step(&mut self, op: &Op) {
        let id = self.w.provider.account();
        let w = &mut self.w;
        let (provider, node) = (w.provider.clone(), w.node.node_id());
        let open = query::open_leases_of_node(&w.state, &node);
        let pick = |live: bool| open.iter().find(|l| l.is_live() == live && l.holds_resources()).map(|l| l.id);
        // What is refused changes nothing but the fee; the invariants hold after every block either way.
        match op {
            Op::Stake(a) => drop(w.act(&provider, vec![Action::Stake { amount: Amount(u128::from(*a)) }])),
            Op::Unbond(a) => {
                let (locked, amount) = (own(w).bond.locked, Amount(u128::from(*a)));
                if deposit(w, &provider, DepositAction::Unbond { amount }).is_ok() {
                    assert!(value::deposit(&own(w)) >= locked, "taken from under open leases");
                }
            }
            Op::Sponsor(n, a) => {
                let amount = Amount(u128::from(*a));
                let mint = Action::TestCredits { to: self.sponsors[*n].account(), amount: amount.saturating_add(Amount(1_000_000)) };
                w.user_act(vec![mint]).unwrap();
                drop(deposit(w, &self.sponsors[*n], DepositAction::Sponsor { provider: id, amount }));
            }
            Op::Withdraw(n, a) => {
                let action = DepositAction::WithdrawSponsorship { provider: id, amount: Amount(u128::from(*a)) };
                drop(deposit(w, &self.sponsors[*n], action));
            }
            Op::Dismiss(n) => drop(deposit(w, &provider, DepositAction::DismissSponsor { sponsor: self.sponsors[*n].account() })),
            Op::Slash(ppm, reported) => {
                let reporter = w.user.account();
                let f = forfeit(w, *ppm, reported.then_some(&reporter));
                assert_eq!(f.taken(), f.to_treasury.saturating_add(f.to_reporter));
            }
            Op::Jail(one, ms) => suspend(w, one.then_some(node), *ms),
            Op::Unjail(one) => drop(deposit(w, &provider, DepositAction::Unjail { node: one.then_some(node) })),
            Op::Order(thousandths) => {
                let mut terms = w.order_terms();
                terms.resources.cpu_millis = *thousandths;
                terms.resources.disk_bytes = 1 << 20;
                terms.max_duration = Millis(60_000);
                let seen = w.events.len();
                drop(w.user_act(vec![Action::PlaceOrder { terms: Box::new(terms) }]));
                w.idle();
                // Whatever was matched was matched under the deposit and by one in good standing.
                let matched = w.events.iter().skip(seen).any(|e| matches!(e, Event::LeaseMatched { .. }));
                if matched {
                    let p = own(w);
                    assert!(p.bond.locked <= value::deposit(&p) && p.bond.jail.is_none(), "{p:?}");
                }
            }
            Op::Answer(yes) => {
                if let Some(lease) = pick(false) {
                    let answer = if *yes { Action::AcceptLease { lease } } else { Action::RejectLease { lease } };
                    drop(w.node_act(vec![answer]));
                }
            }
            Op::Extend => {
                if let Some(lease) = pick(true)
                    && w.user_act(vec![Action::Extend { lease, duration: Millis(30_000) }]).is_ok()
                {
                    let p = own(w);
                    assert!(p.bond.locked <= value::deposit(&p), "extended beyond the deposit");
                }
            }
            Op::Close => {
                if let Some(lease) = pick(true) {
                    w.close_by_node(&lease);
                }
            }
            Op::Wait(ms) => w.wait(*ms),
            Op::Halt(ms) => drop(w.block(*ms, &[])),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn deposits_are_conserved_through_any_history(ops in proptest::collection::vec(op(), 1..60)) {
        let mut run = Run::new();
        for op in &ops {
            run.step(op);
        }
        // In the end everybody leaves, and everything that was not forfeited returns.
        let (provider, id) = (run.w.provider.clone(), run.w.provider.account());
        for k in run.sponsors.clone() {
            if let Some(x) = sponsorship(&run.w.state, &id, &k.account()) && !x.amount.is_zero() {
                run.w.wait(61_000);
                deposit(&mut run.w, &k, DepositAction::WithdrawSponsorship { provider: id, amount: x.amount }).unwrap();
            }
        }
        run.w.wait(2_000_000);
        let p = own(&run.w);
        prop_assert_eq!((p.bond.locked, p.bond.rate_per_hour), (Amount::ZERO, Amount::ZERO));
        if !p.stake.is_zero() {
            deposit(&mut run.w, &provider, DepositAction::Unbond { amount: p.stake }).unwrap();
        }
        run.w.wait(61_000);
        let p = own(&run.w);
        prop_assert!(p.stake.is_zero() && p.bond.leaving.is_empty() && p.bond.sponsors == 0);
        prop_assert_eq!(p.bond.timer_shifted, None);
    }

    #[test]
    fn sponsors_pay_what_is_due_and_no_more(amounts in proptest::collection::vec(1u128..u128::MAX / 64, 1..16), ppm in 0u128..1_100_000) {
        let mut all: Vec<Sponsorship> = amounts.iter().enumerate().map(|(i, a)| Sponsorship {
            provider: AccountId([0; 32]),
            sponsor: AccountId([i as u8 + 1; 32]),
            amount: Amount(a / 2),
            leaving: vec![Tranche { amount: Amount(a - a / 2), release_shifted: Timestamp(1) }],
        }).collect();
        let sum = Amount(amounts.iter().sum());
        let mut rest = Amount(sum.0 / 1_000_000 * ppm);
        let due = rest.min(sum);
        let cut = super::forfeit::take_from_sponsors(&mut all, &mut rest);
        let left: u128 = all.iter().map(|x| x.amount.0 + total(&x.leaving).0).sum();
        prop_assert_eq!(cut, due);
        prop_assert_eq!(left + cut.0, sum.0);
    }

    #[test]
    fn what_fits_the_room_fits_the_deposit(deposit in 0u128..1_000_000_000_000_000_000_000, chance in 0u32..1_000_001) {
        let w = World::new();
        let env = Env::load(&w.state).unwrap();
        let room = value::rate_under(&env, chance, Amount(deposit));
        prop_assert!(value::needs(&env, chance, room).is_some_and(|n| n.0 <= deposit));
        // And not much more would: the room is not needlessly small.
        if chance > 0 && deposit > 0 {
            let more = Amount(room.0 + 1 + room.0 / 1_000 + 3_600_000 * 2_000_000 / u128::from(chance));
            prop_assert!(value::needs(&env, chance, more).is_none_or(|n| n.0 > deposit));
        }
    }
}

#[test]
fn a_transaction_that_fails_leaves_deposits_alone() {
    let mut w = World::offered();
    let provider = w.provider.clone();
    let before = own(&w);
    let unbond = Action::Deposit(DepositAction::Unbond { amount: Amount(5) });
    let too_much = Action::Deposit(DepositAction::Unbond { amount: Amount::credits(9) });
    let body = w.body(provider.account(), pasture_types::tx::Auth::Single, vec![unbond, too_much]).sign(&provider);
    let done = w.block(10, &[pasture_types::codec::encode(&body)]);
    assert!(matches!(&done[0], Applied::Failed { error, .. } if error.code() == 31));
    assert_eq!(own(&w), before);
}
