//! Channels: what vouchers pay, to whom, until when, and what an old or foreign one is worth. Spec: `docs/specs/accounts.md` §4.

#![cfg(test)]

mod common;

use common::*;
use pasture_ledger::*;
use pasture_types::channel::*;
use pasture_types::event::Event;
use pasture_types::tx::*;
use pasture_types::*;
use proptest::prelude::*;

fn code<T: std::fmt::Debug>(r: Result<T, TxError>) -> u16 {
    r.unwrap_err().code()
}

/// The key whose signature makes a voucher; not one of the account's.
fn purse() -> SigningKey {
    key(70)
}

fn open_action(w: &World, amount: u128, secs: u64) -> Action {
    Action::Channel(ChannelAction::Open {
        provider: w.provider.account(),
        asset: AssetId::CREDIT,
        amount: Amount(amount),
        key: purse().public(),
        expires: w.now.plus(Millis::secs(secs)),
        model: None,
    })
}

fn open(w: &mut World, amount: u128) -> Channel {
    let action = open_action(w, amount, 600);
    w.user_act(vec![action]).unwrap();
    channel(w)
}

fn id(w: &World) -> ChannelId {
    channel_id(&w.user.account(), &w.provider.account(), AssetId::CREDIT)
}

fn channel(w: &World) -> Channel {
    query::channel(&w.state, &id(w)).unwrap()
}

fn voucher(w: &World, c: &Channel, amount: u128) -> SignedVoucher {
    Voucher { zone: w.genesis.zone(), channel: c.id, generation: c.generation, amount: Amount(amount) }.sign(&purse())
}

fn cash(w: &mut World, voucher: SignedVoucher) -> Result<Vec<Event>, TxError> {
    let provider = w.provider.clone();
    w.act(&provider, vec![Action::Channel(ChannelAction::Cash { voucher })])
}

fn close(w: &mut World, last: Option<SignedVoucher>) -> Result<Vec<Event>, TxError> {
    let (provider, channel) = (w.provider.clone(), id(w));
    w.act(&provider, vec![Action::Channel(ChannelAction::Close { channel, last })])
}

/// What an account has gained since, fees aside: those are at most a hundredth of a credit in these tests.
fn gained(w: &World, who: &SigningKey, before: Amount) -> i128 {
    let d = w.balance(who).0 as i128 - before.0 as i128;
    let step = 10_000_000;
    (d + step / 2).div_euclid(step) * step
}

#[test]
fn the_last_voucher_pays_and_each_cashing_pays_the_growth() {
    let mut w = World::offered();
    let c = open(&mut w, 10_000_000_000);
    let (before, treasury) = (w.balance(&w.provider), query::treasury(&w.state, AssetId::CREDIT));
    let (first, second) = (voucher(&w, &c, 1_000_000_000), voucher(&w, &c, 4_000_000_000));
    cash(&mut w, first).unwrap();
    assert_eq!(gained(&w, &w.provider, before), 850_000_000, "80 % and, without a model, the model's 5 %");
    assert_eq!(query::treasury(&w.state, AssetId::CREDIT).0 - treasury.0, 150_000_000);
    cash(&mut w, second).unwrap();
    assert_eq!(query::treasury(&w.state, AssetId::CREDIT).0 - treasury.0, 600_000_000);
    assert_eq!(code(cash(&mut w, second)), 75, "twice");
    assert_eq!(code(cash(&mut w, first)), 75, "an older one");
    assert_eq!((channel(&w).paid, channel(&w).held()), (Amount::credits(4), Amount::credits(6)));
    let user = w.balance(&w.user);
    let last = voucher(&w, &c, 5_000_000_000);
    let events = close(&mut w, Some(last)).unwrap();
    assert!(matches!(events[1], Event::Channel(ChannelEvent::Closed { paid: Amount(5_000_000_000), refunded: Amount(5_000_000_000), .. })));
    assert_eq!(w.balance(&w.user).0 - user.0, 5_000_000_000);
    assert_eq!(gained(&w, &w.provider, before), 4_250_000_000);
}

#[test]
fn a_model_gets_its_share_and_the_network_the_remainder() {
    let mut w = World::offered();
    let mut action = open_action(&w, 1_000, 600);
    let Action::Channel(ChannelAction::Open { model, .. }) = &mut action else { unreachable!() };
    *model = Some(BlobHash([7; 32]));
    w.user_act(vec![action]).unwrap();
    let c = channel(&w);
    let treasury = query::treasury(&w.state, AssetId::CREDIT);
    let v = voucher(&w, &c, 33);
    cash(&mut w, v).unwrap();
    // 26.4 and 1.65 are rounded down; the supply still adds up, which `check` sees after every block.
    assert_eq!(query::treasury(&w.state, AssetId::CREDIT).0 - treasury.0, 33 - 26 - 1);
}

#[test]
fn a_voucher_counts_for_its_channel_opening_zone_and_key_only() {
    let mut w = World::offered();
    let c = open(&mut w, 1_000_000_000);
    let good = voucher(&w, &c, 500).voucher;
    let forged = |v: Voucher, k: &SigningKey| v.sign(k);
    for bad in [
        forged(Voucher { zone: ZoneId([1; 32]), ..good }, &purse()),
        forged(Voucher { generation: c.generation + 1, ..good }, &purse()),
        forged(Voucher { generation: c.generation - 1, ..good }, &purse()),
        forged(good, &w.user.clone()),
        forged(good, &w.provider.clone()),
        SignedVoucher { voucher: Voucher { amount: Amount(501), ..good }, ..good.sign(&purse()) },
    ] {
        assert_eq!(code(cash(&mut w, bad)), 75);
    }
    let other = Voucher { channel: ChannelId([1; 32]), ..good }.sign(&purse());
    assert_eq!(code(cash(&mut w, other)), 40);
    assert_eq!(code(w.user_act(vec![Action::Channel(ChannelAction::Cash { voucher: good.sign(&purse()) })])), 42, "only the provider");
    // The same client and key with another provider: a voucher of the one channel is nothing in the other.
    let second = key(71);
    w.user_act(vec![Action::Transfer { to: second.account(), asset: AssetId::CREDIT, amount: Amount::credits(1) }]).unwrap();
    let register =
        vec![Action::RegisterAccount { keys: vec![second.public()], threshold: 1 }, Action::RegisterProvider { name: "second".into() }];
    w.act(&second, register).unwrap();
    let mut action = open_action(&w, 1_000, 600);
    let Action::Channel(ChannelAction::Open { provider, .. }) = &mut action else { unreachable!() };
    *provider = second.account();
    w.user_act(vec![action]).unwrap();
    let theirs = channel_id(&w.user.account(), &second.account(), AssetId::CREDIT);
    let relabelled = SignedVoucher { voucher: Voucher { channel: theirs, ..good }, ..good.sign(&purse()) };
    assert_eq!(code(w.act(&second, vec![Action::Channel(ChannelAction::Cash { voucher: relabelled })])), 75);
    assert_eq!(query::channels_of_client(&w.state, &w.user.account()).len(), 2);
    assert_eq!(query::channels_of_provider(&w.state, &second.account()).len(), 1);
}

#[test]
fn an_old_voucher_after_a_top_up_pays_nothing_twice() {
    let mut w = World::offered();
    let c = open(&mut w, 1_000);
    let over = voucher(&w, &c, 1_500);
    cash(&mut w, over).unwrap();
    assert_eq!(channel(&w).paid, Amount(1_000), "at most what is on hold");
    assert_eq!(code(cash(&mut w, over)), 75);
    let more = |amount, expires| vec![Action::Channel(ChannelAction::TopUp { channel: c.id, amount: Amount(amount), expires })];
    w.user_act(more(2_000, Timestamp(0))).unwrap();
    assert_eq!((channel(&w).escrow, channel(&w).generation), (Amount(3_000), c.generation));
    cash(&mut w, over).unwrap();
    assert_eq!(channel(&w).paid, Amount(1_500), "the rest of the same promise, and no more");
    assert_eq!(code(cash(&mut w, over)), 75);
    assert_eq!(code(w.user_act(more(0, Timestamp(0)))), 6);
    assert_eq!(code(w.user_act(more(Amount::credits(200).0, Timestamp(0)))), 31);
    let provider = w.provider.clone();
    assert_eq!(code(w.act(&provider, more(5, Timestamp(0)))), 42);
    // An earlier end changes nothing: what the provider relied on stays.
    let ends = channel(&w).expires_shifted;
    w.user_act(more(5, w.now)).unwrap();
    assert_eq!(channel(&w).expires_shifted, ends);
    let later = w.now.plus(Millis::secs(3_000));
    w.user_act(more(0, later)).unwrap();
    assert_eq!(channel(&w).expires_shifted, later);
}

#[test]
fn a_voucher_is_worth_nothing_after_the_close_also_when_the_channel_opens_again() {
    let mut w = World::offered();
    let c = open(&mut w, 1_000);
    let old = voucher(&w, &c, 900);
    close(&mut w, None).unwrap();
    assert_eq!(query::channel(&w.state, &c.id), None);
    assert_eq!(code(cash(&mut w, old)), 40);
    let again = open(&mut w, 1_000);
    assert_eq!(again.id, c.id);
    assert!(again.generation > c.generation);
    assert_eq!(code(cash(&mut w, old)), 75);
    // Nor can one block hold two openings: the second would share the first one's vouchers.
    let mut w = World::offered();
    let (user, provider) = (w.user.clone(), w.provider.clone());
    let action = open_action(&w, 1_000, 600);
    let opening = codec::encode(&w.body(user.account(), Auth::Single, vec![action]).sign(&user));
    let shut = Action::Channel(ChannelAction::Close { channel: c.id, last: None });
    let closing = codec::encode(&w.body(provider.account(), Auth::Single, vec![shut]).sign(&provider));
    let applied = w.block(10, &[opening, closing]);
    assert!(matches!(&applied[1], Applied::Failed { error, .. } if error.code() == 43), "{applied:?}");
    close(&mut w, None).unwrap();
}

#[test]
fn the_client_cannot_leave_early_and_gets_the_rest_by_itself_in_the_end() {
    let mut w = World::offered();
    let before = w.balance(&w.user);
    let c = open(&mut w, 5_000_000_000);
    let early = w.user_act(vec![Action::Channel(ChannelAction::Close { channel: c.id, last: None })]);
    assert_eq!(code(early), 42);
    // The provider sleeps past the end and still cashes within the window.
    w.wait(600_000 + 59_000);
    let v = voucher(&w, &c, 1_000_000_000);
    cash(&mut w, v).unwrap();
    w.wait(10_000);
    assert_eq!(query::channel(&w.state, &c.id), None, "closed by the ledger");
    assert_eq!(gained(&w, &w.user, before), -1_000_000_000);
    let late = voucher(&w, &c, 2_000_000_000);
    assert_eq!(code(cash(&mut w, late)), 40);
}

#[test]
fn a_channel_ends_at_its_time_in_the_very_block_and_a_halt_lengthens_it() {
    let mut w = World::offered();
    let c = open(&mut w, 1_000_000);
    let provider = w.provider.clone();
    let v = voucher(&w, &c, 500);
    let late =
        codec::encode(&w.body(provider.account(), Auth::Single, vec![Action::Channel(ChannelAction::Cash { voucher: v })]).sign(&provider));
    let mut late_body = pasture_types::codec::decode::<Envelope>(&late, MAX_TX_BYTES).unwrap().body;
    late_body.valid_until = c.closes_shifted.plus(Millis::secs(60));
    let late = codec::encode(&late_body.sign(&provider));
    let wait = c.closes_shifted.since(w.now).0;
    let applied = w.block(wait, &[late]).remove(0);
    assert!(matches!(&applied, Applied::Failed { error, .. } if error.code() == 43), "{applied:?}");
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let c = open(&mut w, 1_000_000);
    w.block(7_200_000, &[]);
    let v = voucher(&w, &c, 500);
    cash(&mut w, v).expect("the network stood still for two hours, the window did too");
    w.close_by_node(&lease);
}

#[test]
fn a_channel_is_well_formed_and_one_for_each_pair() {
    let mut w = World::offered();
    let change = |w: &World, f: &dyn Fn(&mut ChannelAction)| {
        let Action::Channel(mut a) = open_action(w, 1_000, 600) else { unreachable!() };
        f(&mut a);
        vec![Action::Channel(a)]
    };
    macro_rules! with {
        ($field:ident, $value:expr) => {{
            let value = $value;
            change(&w, &|a| {
                if let ChannelAction::Open { $field, .. } = a {
                    *$field = value
                }
            })
        }};
    }
    let (user, now) = (w.user.account(), w.now);
    for (actions, want) in [
        (with!(amount, Amount::ZERO), 6),
        (with!(provider, user), 6),
        (with!(provider, key(9).account()), 40),
        (with!(expires, now.plus(w.genesis.params.accounts.cash_window)), 6),
        (with!(expires, now.plus(Millis(400 * 24 * 3_600_000))), 5),
        (with!(amount, Amount::credits(200)), 31),
    ] {
        assert_eq!(code(w.user_act(actions)), want);
    }
    open(&mut w, 1_000);
    let again = open_action(&w, 1_000, 600);
    assert_eq!(code(w.user_act(vec![again])), 41);
}

#[test]
fn the_node_may_cash_for_its_provider_and_not_close() {
    let mut w = World::offered();
    let c = open(&mut w, 1_000_000);
    w.idle();
    let v = voucher(&w, &c, 1_000);
    w.node_act(vec![Action::Channel(ChannelAction::Cash { voucher: v })]).unwrap();
    assert_eq!(code(w.node_act(vec![Action::Channel(ChannelAction::Close { channel: c.id, last: None })])), 24);
    assert_eq!(channel(&w).paid, Amount(1_000));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    /// In whatever order vouchers come, a channel pays the largest within its hold, once; `check` counts the money after every block.
    #[test]
    fn a_channel_pays_its_largest_voucher_once(
        escrow in 1u128..5_000,
        moves in proptest::collection::vec((0u8..6, 0u128..6_000), 1..24),
    ) {
        let mut w = World::offered();
        let c = open(&mut w, escrow);
        let (mut hold, mut largest) = (escrow, 0u128);
        let mut promised = vec![];
        for (what, amount) in moves {
            match what {
                0 => {
                    let top = ChannelAction::TopUp { channel: c.id, amount: Amount(amount), expires: Timestamp(0) };
                    if w.user_act(vec![Action::Channel(top)]).is_ok() { hold += amount; }
                }
                1 => { w.wait(1_000); }
                _ => {
                    let v = if what == 2 { promised.last().copied().unwrap_or(amount) } else { amount };
                    promised.push(v);
                    let pays = v.min(hold) > largest;
                    let signed = voucher(&w, &c, v);
                    prop_assert_eq!(cash(&mut w, signed).is_ok(), pays);
                    largest = largest.max(v.min(hold));
                }
            }
            prop_assert_eq!(channel(&w).paid, Amount(largest));
            prop_assert_eq!(channel(&w).held(), Amount(hold - largest));
        }
        let before = w.balance(&w.user);
        close(&mut w, None).unwrap();
        prop_assert_eq!(w.balance(&w.user).0 - before.0, hold - largest);
    }
}

#[test]
fn a_channels_network_fee_lifts_both_sides_once_and_capped() {
    use pasture_ledger::query::reputation as rep;
    let mut w = World::offered();
    w.wait(11_000);
    let c = open(&mut w, 10_000_000_000);
    let fees = |w: &World, side, who: AccountId| rep::reputation(&w.state, side, &who).unwrap().standing.fees;
    let (provider, user) = (w.provider.account(), w.user.account());
    let v = voucher(&w, &c, 1_000_000);
    cash(&mut w, v).unwrap();
    assert_eq!(fees(&w, Side::Provider, provider), Amount(150_000), "15 % of a thousandth of a credit");
    assert_eq!(fees(&w, Side::User, user), Amount(150_000));
    // Attack: one pair moves money to and fro. It gives what a pair may give, and no more.
    let v = voucher(&w, &c, 9_000_000_000);
    cash(&mut w, v).unwrap();
    assert_eq!(fees(&w, Side::Provider, provider), w.genesis.params.reputation.pair_cap);
}
