//! Channels: opened, topped up, cashed, closed. Spec: `docs/specs/accounts.md` §4.
//!
//! ```text
//!  Open -> open --Cash (growth)--> open --Close by the provider, or end + cash window--> gone, the rest returned
//!                 TopUp by the client
//! ```
//! Guarantees: a channel pays what its vouchers promise, once, and never more than it holds; the client gets the rest back
//! without asking; nobody can shorten what the provider relied on. What a voucher is worth is decided in `types`.

mod check;
mod records;

use crate::apply::Tx;
use crate::env::Env;
use crate::error::TxError;
use crate::service::assets::must_be_known;
use crate::tables::{self, TimerKind, key, keys_with, mark, tail_id, timer_key};
use crate::validate::at_most;
use crate::{bank, cost, seams};
use pasture_types::channel::{ChannelAction, ChannelEvent, SignedVoucher, channel_id};
use pasture_types::event::Event;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, Amount, AssetId, BlobHash, ChannelId, Millis, PublicKey, Timestamp};

pub(crate) use check::{check, held};
pub use records::Channel;
pub(crate) use records::{CHANNEL_OF_CLIENT, CHANNEL_OF_PROVIDER, channel};

/// Most open channels of one client.
pub(crate) const MAX_CHANNELS: usize = 128;
/// Longest life of a channel.
const MAX_CHANNEL_LIFE: Millis = Millis(366 * 24 * 3_600_000);
const PPM: u128 = 1_000_000;

/// The measured cost of an action on channels, in microseconds.
pub(crate) const fn cost_us(action: &ChannelAction) -> u32 {
    match action {
        ChannelAction::Open { .. } => 20,
        ChannelAction::TopUp { .. } | ChannelAction::Close { last: None, .. } => 10,
        ChannelAction::Cash { voucher } | ChannelAction::Close { last: Some(voucher), .. } => 10 + cost::signature_us(&voucher.signature),
    }
}

/// What is opened.
struct Opening {
    provider: AccountId,
    asset: AssetId,
    amount: Amount,
    key: PublicKey,
    expires: Timestamp,
    model: Option<BlobHash>,
}

/// Applies an action on channels.
pub(crate) fn apply(s: &mut dyn StateWrite, tx: &mut Tx<'_>, action: &ChannelAction) -> Result<(), TxError> {
    match action {
        ChannelAction::Open { provider, asset, amount, key, expires, model } => {
            let opening = Opening { provider: *provider, asset: *asset, amount: *amount, key: *key, expires: *expires, model: *model };
            open(s, tx, &opening)
        }
        ChannelAction::TopUp { channel, amount, expires } => top_up(s, tx, channel, *amount, *expires),
        ChannelAction::Cash { voucher } => {
            let mut channel = for_provider(s, tx, &voucher.voucher.channel)?;
            cash(s, tx, &mut channel, voucher)?;
            records::put_channel(s, &channel);
            Ok(())
        }
        ChannelAction::Close { channel, last } => {
            let mut channel = for_provider(s, tx, channel)?;
            if channel.generation >= tx.env.clock.height {
                // A generation is the height of the opening: two openings at one height would share their vouchers.
                return Err(TxError::BadState { what: "the channel", state: "new".into(), hint: "close it from the next block on" });
            }
            if let Some(voucher) = last {
                cash(s, tx, &mut channel, voucher)?;
            }
            close(s, &channel, &mut tx.events);
            Ok(())
        }
    }
}

fn load(s: &dyn StateRead, id: &ChannelId) -> Result<Channel, TxError> {
    channel(s, id).ok_or_else(|| TxError::unknown("open channel", id))
}

/// The channel, if the signer may act for its provider.
fn for_provider(s: &dyn StateRead, tx: &Tx<'_>, id: &ChannelId) -> Result<Channel, TxError> {
    let channel = load(s, id)?;
    if channel.provider == tx.account { Ok(channel) } else { Err(TxError::NotYours("the channel")) }
}

/// When a channel ends and when it closes, less halts.
fn times(env: &Env, expires: Timestamp) -> Result<(Timestamp, Timestamp), TxError> {
    let window = env.zone.params.accounts.cash_window;
    at_most("milliseconds until the channel ends", expires.since(env.now()).0, MAX_CHANNEL_LIFE.0)?;
    if expires <= env.now().plus(window) {
        return Err(TxError::Invalid(format!(
            "a channel ends later than the cash window of {} s from now; set a later end",
            window.0 / 1000
        )));
    }
    let expires = env.shift(expires);
    Ok((expires, expires.plus(window)))
}

fn open(s: &mut dyn StateWrite, tx: &mut Tx<'_>, o: &Opening) -> Result<(), TxError> {
    must_be_known(s, o.asset)?;
    let (expires_shifted, closes_shifted) = times(tx.env, o.expires)?;
    if o.amount.is_zero() {
        return Err(TxError::Invalid("a channel with nothing on hold; give an amount".into()));
    }
    if o.provider == tx.account {
        return Err(TxError::Invalid("a channel to oneself; name another provider".into()));
    }
    if tables::provider(s, &o.provider).is_none() {
        return Err(TxError::unknown("provider", &o.provider));
    }
    let id = channel_id(&tx.account, &o.provider, o.asset);
    if channel(s, &id).is_some() {
        return Err(TxError::Exists("a channel to this provider (add to it instead)"));
    }
    let standing = keys_with(s, &key(CHANNEL_OF_CLIENT, &[&tx.account.0]), MAX_CHANNELS).len() as u64;
    at_most("open channels", standing + 1, MAX_CHANNELS as u64)?;
    bank::debit(s, &tx.account, o.asset, o.amount, "the channel")?;
    let opened = Channel {
        id,
        generation: tx.env.clock.height,
        client: tx.account,
        provider: o.provider,
        asset: o.asset,
        key: o.key,
        model: o.model,
        escrow: o.amount,
        paid: Amount::ZERO,
        expires_shifted,
        closes_shifted,
        opened_at: tx.env.now(),
    };
    mark(s, records::of_client_key(&tx.account, &id));
    mark(s, records::of_provider_key(&o.provider, &id));
    mark(s, timer_key(closes_shifted, TimerKind::Channel, &id.0));
    records::put_channel(s, &opened);
    let (generation, client, provider, escrow) = (opened.generation, opened.client, opened.provider, opened.escrow);
    tx.events.push(Event::Channel(ChannelEvent::Opened { channel: id, generation, client, provider, escrow }));
    Ok(())
}

fn top_up(s: &mut dyn StateWrite, tx: &mut Tx<'_>, id: &ChannelId, amount: Amount, expires: Timestamp) -> Result<(), TxError> {
    let mut channel = load(s, id)?;
    if channel.client != tx.account {
        return Err(TxError::NotYours("the channel"));
    }
    let env = tx.env;
    at_most("milliseconds until the channel ends", expires.since(env.now()).0, MAX_CHANNEL_LIFE.0)?;
    let later = env.shift(expires);
    if amount.is_zero() && later <= channel.expires_shifted {
        return Err(TxError::Invalid("it adds neither money nor time; give an amount or a later end".into()));
    }
    bank::debit(s, &tx.account, channel.asset, amount, "the channel")?;
    channel.escrow = channel.escrow.checked_add(amount).ok_or(TxError::AmountTooLarge)?;
    if later > channel.expires_shifted {
        s.delete(&timer_key(channel.closes_shifted, TimerKind::Channel, &id.0));
        channel.expires_shifted = later;
        // The window of today: a parameter that shrank takes nothing from what was promised before.
        channel.closes_shifted = channel.closes_shifted.max(later.plus(env.zone.params.accounts.cash_window));
        mark(s, timer_key(channel.closes_shifted, TimerKind::Channel, &id.0));
    }
    records::put_channel(s, &channel);
    let expires = channel.expires_shifted.plus(env.clock.halted);
    let (client, provider, escrow) = (channel.client, channel.provider, channel.escrow);
    tx.events.push(Event::Channel(ChannelEvent::ToppedUp { channel: *id, client, provider, escrow, expires }));
    Ok(())
}

/// Pays the growth of a voucher: provider and model shares rounded down, the rest to the treasury.
fn cash(s: &mut dyn StateWrite, tx: &mut Tx<'_>, channel: &mut Channel, signed: &SignedVoucher) -> Result<(), TxError> {
    let env = tx.env;
    if env.shifted() >= channel.closes_shifted {
        return Err(TxError::BadState { what: "the channel", state: "over".into(), hint: "its cash window has passed" });
    }
    let before = if cfg!(mutant_9) && channel.model.is_some() { Amount::ZERO } else { channel.paid };
    let amount = channel.terms(env.zone.id).payable(before, signed).map_err(TxError::Voucher)?;
    channel.paid = channel.paid.saturating_add(amount);
    let params = &env.zone.params;
    let part = |ppm: u32| amount.mul_div(u128::from(ppm), PPM).ok_or(TxError::AmountTooLarge);
    let (to_provider, to_model) = match &channel.model {
        Some(_) => (part(params.provider_ppm)?, part(params.model_ppm)?),
        None => (part(params.provider_ppm.saturating_add(params.model_ppm))?, Amount::ZERO),
    };
    let fee = amount.saturating_sub(to_provider).saturating_sub(to_model);
    let kept = seams::keep_for_deposit(s, env, &channel.provider, channel.asset, to_provider).min(to_provider);
    bank::credit(s, &channel.provider, channel.asset, to_provider.saturating_sub(kept));
    bank::to_treasury(s, channel.asset, fee);
    if let Some(creator) = &channel.model {
        bank::to_model(s, creator, channel.asset, to_model);
    }
    seams::channel_paid(s, env, &channel.client, &channel.provider, channel.asset, fee);
    let (id, client, provider, paid) = (channel.id, channel.client, channel.provider, channel.paid);
    tx.events.push(Event::Channel(ChannelEvent::Cashed { channel: id, client, provider, amount, paid }));
    Ok(())
}

/// Returns the rest and forgets the channel.
fn close(s: &mut dyn StateWrite, channel: &Channel, events: &mut Vec<Event>) {
    let refunded = channel.held();
    bank::credit(s, &channel.client, channel.asset, refunded);
    s.delete(&records::channel_key(&channel.id));
    s.delete(&records::of_client_key(&channel.client, &channel.id));
    s.delete(&records::of_provider_key(&channel.provider, &channel.id));
    s.delete(&timer_key(channel.closes_shifted, TimerKind::Channel, &channel.id.0));
    let (client, provider, paid) = (channel.client, channel.provider, channel.paid);
    events.push(Event::Channel(ChannelEvent::Closed { channel: channel.id, client, provider, paid, refunded }));
}

/// The cash window is over: the rest returns by itself.
pub(crate) fn timer(s: &mut dyn StateWrite, env: &Env, id: &ChannelId, events: &mut Vec<Event>) {
    if let Some(channel) = channel(s, id)
        && channel.closes_shifted <= env.shifted()
    {
        close(s, &channel, events);
    }
}

/// Channels of a client or a provider.
pub(crate) fn of(s: &dyn StateRead, table: u8, owner: &AccountId, limit: usize) -> Vec<Channel> {
    let found = keys_with(s, &key(table, &[&owner.0]), limit);
    found.iter().filter_map(|k| channel(s, &ChannelId(tail_id(k)?))).collect()
}
