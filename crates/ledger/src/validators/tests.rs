//! Validators, terms and randomness, with the attacks on each. Spec: `docs/specs/stake.md` §7-§9.

use super::election::{Contender, LEAST_SEATS, MAX_SEATS, elect, operator_cap};
use super::*;
use crate::common::{World, key as secret};
use crate::query;
use pasture_ledger::{Ordering, begin_block, check, end_block};
use pasture_types::SigningKey;
use pasture_types::genesis::Params;
use pasture_types::validator::Seating;
use pasture_types::votes::{Contradiction, Vote, VoteKind};
use proptest::prelude::*;

const TERM_MS: u64 = 600_000;

fn params(seats: u32) -> Params {
    let mut params = Params::dev();
    params.validators.seats = seats;
    params.validators.min_bond = Amount::credits(10);
    params
}

fn registration(w: &World, operator: &SigningKey, n: u8, credits: u64) -> Action {
    let key = secret(n).node_id().0;
    let bls_key = vec![n; BLS_KEY_BYTES];
    let digest = validator_consent_digest(&w.genesis.zone(), &operator.account(), &key, &bls_key);
    let validator = GenesisValidator { key, bls_key, bls_pop: vec![0; BLS_PROOF_BYTES], operator: operator.account() };
    Action::RegisterValidator { validator, consent: secret(n).sign(&digest), bond: Amount::credits(credits) }
}

/// An operator with money and one validator, whose key is `n`.
fn operator(w: &mut World, n: u8, credits: u64) -> SigningKey {
    let operator = secret(n + 100);
    let user = w.user.clone();
    let mint = |a: u64| Action::TestCredits { to: operator.account(), amount: Amount::credits(a) };
    w.act(&user, vec![mint(credits + 100)]).unwrap();
    let register = Action::RegisterAccount { keys: vec![operator.public()], threshold: 1 };
    let validator = registration(w, &operator, n, credits);
    w.act(&operator, vec![register, validator]).unwrap();
    operator
}

fn code<T: std::fmt::Debug>(r: Result<T, TxError>) -> u16 {
    r.unwrap_err().code()
}

fn id(n: u8) -> NodeId {
    secret(n).node_id()
}

fn with<T>(w: &mut World, f: impl FnOnce(&mut World, &Env) -> T) -> T {
    let env = Env::load(&w.state).unwrap();
    let out = f(w, &env);
    check(&w.state).unwrap();
    out
}

/// A block of one proposer, empty but for what is due.
fn block_by(w: &mut World, ms: u64, proposer: [u8; 32]) -> Vec<Event> {
    let mut ctx = w.ctx(ms);
    ctx.proposer = proposer;
    let mut events = begin_block(&mut w.state, &ctx);
    events.extend(end_block(&mut w.state, &ctx));
    check(&w.state).unwrap();
    events
}

fn seats(w: &World) -> Vec<NodeId> {
    query::validators::term(&w.state).unwrap().seats.iter().map(|x| x.validator).collect()
}

#[test]
fn a_validator_registers_with_its_keys_consent_and_a_deposit() {
    let mut w = World::with(params(7), 1);
    let op = operator(&mut w, 10, 50);
    let v = query::validators::validator(&w.state, &id(10)).unwrap();
    assert_eq!((v.operator, v.bond), (op.account(), Amount::credits(50)));
    assert_eq!(query::validators::standing(&w.state).len(), 1);
    let again = registration(&w, &op, 10, 50);
    assert_eq!(code(w.act(&op, vec![again])), 41);
    let poor = registration(&w, &op, 11, 9);
    assert_eq!(code(w.act(&op, vec![poor])), 34);
    // Somebody else's operator, somebody else's consent, keys that are none.
    let thief = secret(1);
    let theirs = registration(&w, &op, 11, 10);
    assert_eq!(code(w.act(&thief, vec![theirs.clone()])), 42);
    let Action::RegisterValidator { validator, consent, bond } = theirs else { panic!() };
    let mine = GenesisValidator { operator: thief.account(), ..validator.clone() };
    assert_eq!(code(w.act(&thief, vec![Action::RegisterValidator { validator: mine, consent, bond }])), 20);
    let short = GenesisValidator { bls_key: vec![1; 95], ..validator };
    assert_eq!(code(w.act(&op, vec![Action::RegisterValidator { validator: short, consent, bond }])), 6);
    // The genesis's validators are known, without a deposit, and nobody can take their keys.
    assert!(query::validators::validator(&w.state, &NodeId([0; 32])).unwrap().bond.is_zero());
}

#[test]
fn the_proofs_of_possession_of_a_transaction_are_handed_to_who_can_verify_them() {
    let mut w = World::with(params(7), 1);
    let op = secret(1);
    let actions = vec![registration(&w, &op, 10, 10), Action::Stake { amount: Amount(1) }, registration(&w, &op, 11, 10)];
    let envelope = w.body(op.account(), pasture_types::tx::Auth::Single, actions).sign(&op);
    let found = proofs_of_possession(&pasture_types::codec::encode(&envelope)).unwrap();
    assert_eq!(found.iter().map(|v| NodeId(v.key)).collect::<Vec<_>>(), vec![id(10), id(11)]);
    assert_eq!(code(proofs_of_possession(&[1, 2, 3])), 1);
}

#[test]
fn a_deposit_answers_until_it_is_back() {
    let mut w = World::with(params(7), 1);
    let op = operator(&mut w, 10, 50);
    let act = |w: &mut World, action| w.act(&op, vec![Action::Validator(action)]);
    let key = id(10).0;
    act(&mut w, ValidatorAction::Unbond { key, amount: Amount::credits(45) }).unwrap();
    assert!(query::validators::standing(&w.state).is_empty(), "five are not enough to stand");
    assert_eq!(code(act(&mut w, ValidatorAction::Unbond { key, amount: Amount::credits(6) })), 31);
    let f = with(&mut w, |w, env| slash(&mut w.state, env, &id(10), 500_000, Fault::Equivocation, None, &mut w.events));
    assert_eq!((f.own, f.unbonding, f.to_treasury), (Amount::credits(5), Amount::credits(20), Amount::credits(25)));
    let before = w.balance(&op);
    w.wait(1_190_000);
    assert_eq!(w.balance(&op), before);
    w.wait(20_000);
    assert_eq!(w.balance(&op), before.checked_add(Amount::credits(25)).unwrap());
    act(&mut w, ValidatorAction::Bond { key, amount: Amount::credits(10) }).unwrap();
    assert_eq!(query::validators::standing(&w.state).len(), 1);
    // Its own report earns it nothing; another's earns a tenth.
    let f = with(&mut w, |w, env| slash(&mut w.state, env, &id(10), 500_000, Fault::Equivocation, Some(&op.account()), &mut w.events));
    assert_eq!(f.to_reporter, Amount::ZERO);
    let user = w.user.account();
    let f = with(&mut w, |w, env| slash(&mut w.state, env, &id(10), 1_000_000, Fault::Equivocation, Some(&user), &mut w.events));
    assert_eq!((f.taken(), f.to_reporter), (Amount::credits(5), Amount(500_000_000)));
    let other = secret(1);
    let bond = Action::Validator(ValidatorAction::Bond { key, amount: Amount(1) });
    assert_eq!(code(w.act(&other, vec![bond])), 42);
}

/// Votes of the validator with key `n` for a block's finality and against the view that it is in.
fn contradiction(w: &World, n: u8, term: u64) -> Contradiction {
    let (zone, view) = (w.genesis.zone(), 7);
    let vote = |kind| {
        let Signature::Ed25519(signature) = secret(n).sign_message(&Vote { kind, signature: [0; 64] }.message(&zone, term, view)) else {
            panic!("an Ed25519 key")
        };
        Vote { kind, signature }
    };
    Contradiction { term, view, one: vote(VoteKind::Finalize { parent: 6, block: [1; 32] }), other: vote(VoteKind::Nullify) }
}

fn accusation(key: [u8; 32], votes: &Contradiction) -> Action {
    Action::Validator(ValidatorAction::Accuse { key, votes: Box::new(*votes) })
}

#[test]
fn who_contradicts_itself_pays_and_is_suspended_once_a_term() {
    let mut w = World::with(params(7), 1);
    let op = operator(&mut w, 10, 50);
    let (user, key) = (w.user.clone(), id(10).0);
    let votes = contradiction(&w, 10, 3);
    let harmless = Contradiction { other: votes.one, ..votes };
    assert_eq!(code(w.act(&user, vec![accusation(key, &harmless)])), 6);
    let others = contradiction(&w, 11, 3);
    assert_eq!(code(w.act(&user, vec![accusation(key, &others)])), 20);
    assert_eq!(code(w.act(&user, vec![accusation(key, &Contradiction { view: 8, ..votes })])), 20);
    assert_eq!(code(w.act(&user, vec![accusation(id(12).0, &votes)])), 40);
    w.act(&user, vec![accusation(key, &votes)]).unwrap();
    let v = query::validators::validator(&w.state, &id(10)).unwrap();
    assert_eq!((v.bond, v.forfeited), (Amount::credits(45), Amount::credits(5)), "a tenth in development");
    assert_eq!(v.jail.unwrap().fault, Fault::Equivocation);
    assert!(query::validators::standing(&w.state).is_empty());
    // The other votes of that term, and of those before, cost no more; a later term's do.
    assert_eq!(code(w.act(&user, vec![accusation(key, &votes)])), 41);
    let earlier = contradiction(&w, 10, 2);
    assert_eq!(code(w.act(&user, vec![accusation(key, &earlier)])), 41);
    let later = contradiction(&w, 10, 4);
    w.act(&op, vec![accusation(key, &later)]).unwrap();
    assert_eq!(query::validators::validator(&w.state, &id(10)).unwrap().bond, Amount(40_500_000_000));
}

#[test]
fn replaced_keys_answer_for_what_they_signed() {
    let mut w = World::with(params(4), 1);
    let ops: Vec<_> = (10..14).map(|n| operator(&mut w, n, 100)).collect();
    w.wait(TERM_MS);
    let rotation = |w: &World, op: &SigningKey, old: u8, new: u8| {
        let Action::RegisterValidator { validator, consent, .. } = registration(w, op, new, 0) else { panic!() };
        Action::Validator(ValidatorAction::Rotate { key: id(old).0, new: Box::new(validator), consent })
    };
    let (to_known, to_new) = (rotation(&w, &ops[0], 10, 11), rotation(&w, &ops[0], 10, 20));
    assert_eq!(code(w.act(&ops[0], vec![to_known])), 41);
    assert_eq!(code(w.act(&ops[1], vec![to_new.clone()])), 42);
    w.act(&ops[0], vec![Action::Validator(ValidatorAction::Unbond { key: id(10).0, amount: Amount::credits(30) })]).unwrap();
    w.act(&ops[0], vec![to_new]).unwrap();
    let (old, new) = (query::validators::validator(&w.state, &id(10)).unwrap(), query::validators::validator(&w.state, &id(20)).unwrap());
    assert_eq!((old.bond, new.bond, new.leaving.len()), (Amount::ZERO, Amount::credits(70), 1));
    assert!(seats(&w).contains(&id(10)), "it sits to the end of the term");
    let soon = rotation(&w, &ops[0], 20, 21);
    assert_eq!(code(w.act(&ops[0], vec![soon])), 43);
    w.wait(TERM_MS);
    assert!(seats(&w).contains(&id(20)) && !seats(&w).contains(&id(10)));
    // What the old key signed is paid for by the new one, what is on its way back included.
    let user = w.user.clone();
    let votes = contradiction(&w, 10, 3);
    w.act(&user, vec![accusation(id(10).0, &votes)]).unwrap();
    let new = query::validators::validator(&w.state, &id(20)).unwrap();
    assert_eq!((new.bond, new.forfeited), (Amount::credits(60), Amount::credits(10)));
    assert!(new.jail.is_some());
    let jailed = rotation(&w, &ops[0], 20, 21);
    assert_eq!(code(w.act(&ops[0], vec![jailed])), 43);
    w.wait(2 * TERM_MS);
    assert_eq!(query::validators::validator(&w.state, &id(20)).unwrap().leaving.len(), 0, "its timer went with it");
}

#[test]
fn who_proposes_nothing_in_a_long_term_is_suspended() {
    let mut w = World::with(params(4), 1);
    let _ops: Vec<_> = (10..15).map(|n| operator(&mut w, n, 100 - u64::from(n))).collect();
    w.wait(TERM_MS);
    assert!(seats(&w).contains(&id(10)) && !seats(&w).contains(&id(14)));
    let blocks = |w: &mut World, n: u64| {
        for at in 0..n {
            block_by(w, 1, id(11 + u8::try_from(at % 3).unwrap()).0);
        }
    };
    // Too few blocks tell nothing.
    blocks(&mut w, 900);
    block_by(&mut w, TERM_MS, id(11).0);
    assert!(seats(&w).contains(&id(10)));
    blocks(&mut w, 1_100);
    block_by(&mut w, TERM_MS, id(11).0);
    let v = query::validators::validator(&w.state, &id(10)).unwrap();
    assert_eq!((v.jail.unwrap().fault, v.forfeited), (Fault::Absence, Amount::ZERO), "it costs its seat alone");
    assert!(!seats(&w).contains(&id(10)) && seats(&w).contains(&id(14)));
    for n in 11..14 {
        assert!(query::validators::validator(&w.state, &id(n)).unwrap().jail.is_none());
    }
}

#[test]
fn a_suspended_validator_is_not_elected_until_its_operator_ends_that() {
    let mut w = World::with(params(4), 1);
    let ops: Vec<_> = (10..15).map(|n| operator(&mut w, n, 100 - u64::from(n))).collect();
    with(&mut w, |w, env| jail(&mut w.state, env, &id(10), Millis(1_000_000), Fault::Equivocation, &mut w.events));
    w.wait(TERM_MS);
    assert!(!seats(&w).contains(&id(10)) && seats(&w).len() == 4);
    let unjail = Action::Validator(ValidatorAction::Unjail { key: id(10).0 });
    assert_eq!(code(w.act(&ops[0], vec![unjail.clone()])), 43);
    w.wait(TERM_MS);
    w.act(&ops[0], vec![unjail]).unwrap();
    w.wait(TERM_MS);
    assert!(seats(&w).contains(&id(10)) && !seats(&w).contains(&id(14)), "the largest deposit is back, the smallest out");
}

#[test]
fn few_newcomers_cannot_take_a_zone_over() {
    let mut w = World::with(params(7), 1);
    assert_eq!(query::validators::ordering(&w.state), Some(Ordering::TrustedSequencer));
    for n in 10..13 {
        operator(&mut w, n, 90);
    }
    w.wait(TERM_MS + 1_000);
    assert_eq!(seats(&w), vec![NodeId([0; 32])], "three would have a third each");
    assert_eq!(query::validators::ordering(&w.state), Some(Ordering::TrustedSequencer));
    operator(&mut w, 13, 10);
    w.wait(TERM_MS);
    let term = query::validators::term(&w.state).unwrap();
    assert_eq!((term.seats.len(), term.seating), (4, Seating::Elected));
    assert_eq!(query::zone(&w.state).unwrap().validators, 4);
    assert_eq!(query::validators::ordering(&w.state), Some(Ordering::ByStake));
    assert!(w.events.iter().any(|e| matches!(e, Event::Validator(ValidatorEvent::TermBegan { seats: 4, .. }))));
    // Who leaves below four leaves the seats as they are: a zone never falls back to fewer than it had.
    let op = secret(113);
    w.act(&op, vec![Action::Validator(ValidatorAction::Unbond { key: id(13).0, amount: Amount::credits(10) })]).unwrap();
    w.wait(TERM_MS);
    let kept = query::validators::term(&w.state).unwrap();
    assert_eq!((kept.seats.len(), kept.seating), (4, Seating::Kept));
    assert_eq!(query::validators::past_term(&w.state, term.number).map(|t| t.seats), Some(term.seats));
}

#[test]
fn without_elections_the_genesis_keeps_its_seats() {
    let mut w = World::with(params(3), 4);
    for n in 10..15 {
        operator(&mut w, n, 90);
    }
    block_by(&mut w, 2 * TERM_MS, [0; 32]);
    assert_eq!(seats(&w), (0..4).map(|v| NodeId([v; 32])).collect::<Vec<_>>());
    assert_eq!(query::validators::ordering(&w.state), Some(Ordering::Permissioned));
}

#[test]
fn the_pool_is_paid_by_blocks_at_the_end_of_the_term() {
    let mut w = World::with(params(1), 4);
    let operator = w.operator.clone();
    let user = w.user.clone();
    // In turns: validator 1 proposes first, so that 1 and 2 have three blocks and the others two.
    for _ in 0..10 {
        w.act(&user, vec![Action::Transfer { to: user.account(), asset: AssetId::CREDIT, amount: Amount(1) }]).unwrap();
    }
    let pool = bank::pool(&w.state, AssetId::CREDIT);
    assert!(!pool.is_zero());
    for _ in 0..5 {
        block_by(&mut w, 10, [1; 32]);
    }
    // Whoever proposed without a seat is not counted, and who is suspended is not paid.
    block_by(&mut w, 10, [77; 32]);
    with(&mut w, |w, env| jail(&mut w.state, env, &NodeId([1; 32]), Millis(1), Fault::Absence, &mut w.events));
    block_by(&mut w, 10, [2; 32]);
    let (before, treasury) = (w.balance(&operator), bank::treasury(&w.state, AssetId::CREDIT));
    let due = crate::next_due(&w.state);
    assert!(matches!(due, crate::Due::At(at) if at.0 == crate::common::START + TERM_MS), "{due:?}");
    let left = TERM_MS - w.now.since(Timestamp(crate::common::START)).0;
    let events = block_by(&mut w, left, [0; 32]);
    let paid: Vec<(NodeId, Amount)> = events
        .iter()
        .filter_map(|e| match e {
            Event::Validator(ValidatorEvent::FeesPaid { validator, amount, .. }) => Some((*validator, *amount)),
            _ => None,
        })
        .collect();
    let part = |n: u128| Amount(pool.0 * n / (3 + 4 + 2));
    assert_eq!(paid, vec![(NodeId([0; 32]), part(3)), (NodeId([2; 32]), part(4)), (NodeId([3; 32]), part(2))]);
    let sum = part(3).saturating_add(part(4)).saturating_add(part(2));
    assert_eq!(w.balance(&operator), before.saturating_add(sum));
    assert_eq!(bank::treasury(&w.state, AssetId::CREDIT), treasury.saturating_add(pool.saturating_sub(sum)));
    assert!(bank::pool(&w.state, AssetId::CREDIT).is_zero());
    assert_eq!(crate::next_due(&w.state), crate::Due::Never, "an idle zone asks for no term");
}

#[test]
fn a_larger_deposit_takes_the_place_of_the_smallest() {
    let mut w = World::with(params(7), 1);
    let op = secret(1);
    let user = w.user.clone();
    w.act(&user, vec![Action::TestCredits { to: op.account(), amount: Amount::credits(9_000) }]).unwrap();
    // Stand-ins written past the rules: a registration each would take long.
    with(&mut w, |w, env| {
        for n in 0..MAX_STANDING as u16 {
            let mut key = [9; 32];
            key[..2].copy_from_slice(&n.to_be_bytes());
            let new = GenesisValidator { key, bls_key: vec![], bls_pop: vec![], operator: op.account() };
            let mut v = fresh(&new, env.now());
            v.bond = Amount::credits(10 + u64::from(n % 7));
            bank::debit(&mut w.state, &op.account(), AssetId::CREDIT, v.bond, "it").unwrap();
            stand(&mut w.state, env, &v).unwrap();
            save(&mut w.state, &mut v);
        }
    });
    let equal = registration(&w, &op, 20, 10);
    assert_eq!(code(w.act(&op, vec![equal])), 5);
    let larger = registration(&w, &op, 20, 11);
    w.act(&op, vec![larger]).unwrap();
    let all = query::validators::standing(&w.state);
    assert!(all.len() == MAX_STANDING && all.iter().any(|v| v.id == id(20)));
    assert_eq!(all.iter().filter(|v| v.bond == Amount::credits(10)).count(), 36, "one of the 37 smallest is out");
}

#[test]
fn a_mix_needs_different_proposers_and_never_changes() {
    let mut w = World::with(params(1), 4);
    let h = w.height;
    block_by(&mut w, 10, [0; 32]);
    block_by(&mut w, 10, [0; 32]);
    assert_eq!(query::validators::mix_after(&w.state, h), None, "one of four may be faulty, however often it proposes");
    block_by(&mut w, 10, [1; 32]);
    let mix = query::validators::mix_after(&w.state, h).unwrap();
    let next = query::validators::mix_after(&w.state, h + 1).unwrap();
    assert_ne!(mix, next, "each height has its own");
    assert_eq!(query::validators::mix_after(&w.state, h + 2), None, "what it decides comes first");
    for n in 0..100u8 {
        block_by(&mut w, 10, [n % 4; 32]);
    }
    assert_eq!(query::validators::mix_after(&w.state, h), Some(mix));
    assert_eq!(query::validators::mix_after(&w.state, u64::MAX), None);
    for n in 0..500u16 {
        block_by(&mut w, 10, [(n % 4) as u8; 32]);
    }
    assert_eq!(query::validators::mix_after(&w.state, h), None, "old ones are dropped, not replaced");
    assert!(query::validators::beacon_of(&w.state, h + 1).is_none() && query::validators::beacon_of(&w.state, w.height).is_some());
}

#[test]
fn with_one_validator_the_mix_is_the_next_blocks() {
    let mut w = World::new();
    let h = w.height;
    assert_eq!(query::validators::mix_after(&w.state, h), None);
    block_by(&mut w, 10, [0; 32]);
    assert!(query::validators::mix_after(&w.state, h).is_some());
}

fn contender(operator: u8, n: u8, bond: u128) -> Contender {
    Contender { validator: NodeId([operator, n].repeat(16).try_into().unwrap()), operator: AccountId([operator; 32]), bond: Amount(bond) }
}

fn by_operator(seats: &[Contender], operator: u8) -> usize {
    seats.iter().filter(|c| c.operator == AccountId([operator; 32])).count()
}

#[test]
fn ties_and_caps_are_decided_alike_everywhere() {
    assert!(elect(&[], 10).is_empty());
    // Four equal operators with many keys: four seats, one each; six take no more either, for 2/6 is a third.
    let four: Vec<_> = (1..5).flat_map(|o| (0..5).map(move |n| contender(o, n, 10))).collect();
    assert_eq!(elect(&four, 4).len(), 4);
    assert!((1..5).all(|o| by_operator(&elect(&four, 6), o) == 1));
    assert_eq!(elect(&four, 7).iter().filter(|c| c.operator == AccountId([1; 32])).count(), 2, "a tie goes to the lower id");
    assert_eq!((1..5).map(|o| by_operator(&elect(&four, 7), o)).collect::<Vec<_>>(), vec![2, 2, 2, 1]);
    assert_eq!(elect(&four, 3).len(), 0);
    // A giant is held below a third; without four operators there is nothing to elect.
    let giant: Vec<_> = (0..30).map(|n| contender(1, n, 1_000_000)).chain((2..6).map(|o| contender(o, 0, 1))).collect();
    let seats = elect(&giant, 60);
    assert_eq!((seats.len(), by_operator(&seats, 1)), (5, 1));
    assert!(elect(&giant[..32], 60).is_empty());
    // Fewer contenders than seats.
    let few: Vec<_> = (1..10).map(|o| contender(o, 0, u128::from(o))).collect();
    assert_eq!(elect(&few, 64).len(), 9);
    assert_eq!(elect(&few, 5).iter().map(|c| c.bond.0).min(), Some(5), "the largest deposits sit");
    assert_eq!([4, 6, 7, 9, 10, 64].map(operator_cap), [1, 1, 2, 2, 3, 21]);
}

proptest! {
    #[test]
    fn an_election_is_dhondts_under_the_cap(
        list in proptest::collection::btree_map((1u8..12, 0u8..6), prop_oneof![1u128..20, 1u128..u128::MAX / 128], 0..40),
        most in 0usize..70,
        turn in any::<usize>(),
    ) {
        let contenders: Vec<_> = list.iter().map(|((o, n), bond)| contender(*o, *n, *bond)).collect();
        let seats = elect(&contenders, most);
        let n = seats.len();
        prop_assert!(n == 0 || (n >= LEAST_SEATS && n <= most.min(MAX_SEATS) && n <= contenders.len()));
        // No order, no doubling, nobody from outside.
        let mut turned = contenders.clone();
        if !turned.is_empty() {
            let by = turn % turned.len();
            turned.rotate_left(by);
            let first = turned[0];
            turned.push(first);
        }
        prop_assert_eq!(&elect(&turned, most), &seats);
        prop_assert!(seats.iter().all(|c| contenders.contains(c)));
        prop_assert!(seats.windows(2).all(|w| w[0].validator < w[1].validator));
        let cap = operator_cap(n);
        let own = |o: u8| contenders.iter().filter(|c| c.operator == AccountId([o; 32])).collect::<Vec<_>>();
        let votes = |o: u8| own(o).iter().map(|c| c.bond.0).sum::<u128>();
        for o in 1..12u8 {
            let s = by_operator(&seats, o);
            prop_assert!(3 * s < n || s == 0, "less than a third");
            // Its largest validators sit.
            let least_in = seats.iter().filter(|c| c.operator == AccountId([o; 32])).map(|c| c.bond).min();
            let out = own(o).into_iter().filter(|c| !seats.contains(c)).map(|c| c.bond).max();
            prop_assert!(least_in.is_none() || out.is_none_or(|b| b <= least_in.unwrap()));
            // D'Hondt: no seat would have gone to somebody who could still take one, at a higher quotient.
            for other in 1..12u8 {
                let t = by_operator(&seats, other);
                if s > 0 && t < own(other).len().min(cap) {
                    prop_assert!(votes(o) / s as u128 >= votes(other) / (t as u128 + 1), "{o} against {other}");
                }
            }
        }
        // As many seats as can be filled: one more could not, or was not asked for.
        if most.min(MAX_SEATS).min(contenders.len()) > n {
            for more in n.max(LEAST_SEATS - 1) + 1..=most.min(MAX_SEATS).min(contenders.len()) {
                let fill: usize = (1..12u8).map(|o| own(o).len().min(operator_cap(more))).sum();
                prop_assert!(fill < more);
            }
        }
    }
}
