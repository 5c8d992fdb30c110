//! Money, keys, grants, channels, certificates, ratings: what an account does besides leasing.

use super::Deed;
use crate::climate::{ASSETS, DOLLAR, ISSUER};
use crate::keys::Keys;
use crate::zone::{Machine, Zone};
use pasture_ledger::{Grant, query};
use pasture_types::account::KeyAction;
use pasture_types::channel::{ChannelAction, SignedVoucher, Voucher};
use pasture_types::credential::{Assertion, CredentialAction, CredentialKind, IssuerSignature, Statement, Subject};
use pasture_types::grant::{ActionKind, Budget, GrantAction, GrantTerms, GrantUse, claim_digest};
use pasture_types::keys::Signature;
use pasture_types::lease::LeaseState;
use pasture_types::reputation::ReputationAction;
use pasture_types::service::ServiceAction;
use pasture_types::tx::{Action, Auth, TxSignature};
use pasture_types::{AccountId, Amount, AssetId, BlobHash, Millis, SigningKey};

pub(super) fn transfer(zone: &mut Zone) -> Option<Deed> {
    let (from, to) = (zone.someone(), zone.someone());
    let amount = match zone.rng.below(6) {
        0 if zone.rng.once_in(3) => Amount::credits(1_000_000),
        1 if zone.rng.once_in(3) => Amount(u128::MAX),
        n => Amount(u128::from(n) * 10_000_000),
    };
    let asset = if zone.rng.once_in(12) { AssetId(9) } else { *zone.rng.pick(&ASSETS)? };
    let mut deed = zone.by(&from, vec![Action::Transfer { to: to.account(), asset, amount }]);
    if zone.rng.once_in(6) {
        deed.envelope.body.fee_asset = DOLLAR;
    }
    if zone.rng.once_in(6) {
        deed.envelope.body.tip = Amount(u128::from(zone.rng.below(9)) * 1_000);
    }
    Some(deed)
}

pub(super) fn test_money(zone: &mut Zone) -> Option<Deed> {
    let (from, to) = (zone.someone(), zone.someone().account());
    let amount = if zone.rng.once_in(6) { Amount::credits(20_000) } else { Amount::credits(2) };
    if zone.rng.once_in(2) {
        let asset = if zone.rng.once_in(8) { AssetId(9) } else { DOLLAR };
        return Some(zone.by(&from, vec![Action::Service(Box::new(ServiceAction::TestAsset { to, asset, amount }))]));
    }
    Some(zone.by(&from, vec![Action::TestCredits { to, amount }]))
}

fn fresh_key(zone: &mut Zone) -> SigningKey {
    let mut bytes = [0x55; 32];
    bytes[..8].copy_from_slice(&zone.rng.next().to_le_bytes());
    SigningKey::from_seed(bytes)
}

/// A new account, opened by itself with a fee payer, or one that exists already.
pub(super) fn open_account(zone: &mut Zone) -> Option<Deed> {
    let payer = zone.someone();
    if zone.rng.once_in(4) {
        return Some(zone.by(&payer, vec![Action::RegisterAccount { keys: vec![payer.public()], threshold: 1 }]));
    }
    let fresh = fresh_key(zone);
    let threshold = if zone.rng.once_in(4) { 2 } else { 1 };
    let mut body = zone.body(fresh.account(), Auth::Single, vec![Action::RegisterAccount { keys: vec![fresh.public()], threshold }]);
    body.fee_payer = Some(payer.account());
    let mut deed = Deed::checked(body, &fresh);
    let signature = Signature::Ed25519([0; 64]);
    let wanted = query::account(&zone.state, &payer.account()).map_or(1, |a| usize::from(a.threshold));
    let keys = zone.keys_of(&payer.account());
    deed.envelope.signatures.extend(keys.iter().take(wanted).map(|k| TxSignature { account: payer.account(), key: *k, signature }));
    zone.seen.fresh.push(fresh);
    Some(deed)
}

// ---- keys ------------------------------------------------------------------------------------------------------------

pub(super) fn set_keys(zone: &mut Zone) -> Option<Deed> {
    let who = zone.someone();
    let n = zone.index_of(&who.account())?;
    let spare = zone.rng.below(3);
    let mut keys = vec![who.public(), Keys::all().spare(n, spare).public(), Keys::all().spare(n, spare + 1).public()];
    keys.truncate(1 + zone.rng.below(3) as usize);
    keys.sort_unstable();
    let mut threshold = 1 + zone.rng.below(keys.len() as u64) as u8;
    if zone.rng.once_in(8) {
        threshold = 9;
    }
    let timelock = Millis::secs([0, 0, 3, 12][zone.rng.below(4) as usize]);
    if query::key_policy(&zone.state, &who.account()).timelock.0 > 0 && zone.rng.once_in(2) {
        zone.next.push_back(cancel_pending);
    }
    Some(zone.by(&who, vec![Action::Keys(KeyAction::Set { keys, threshold, timelock })]))
}

pub(super) fn cancel_keys(zone: &mut Zone) -> Option<Deed> {
    let who = zone.someone();
    Some(zone.by(&who, vec![Action::Keys(KeyAction::Cancel)]))
}

/// Takes back a change that waits.
fn cancel_pending(zone: &mut Zone) -> Option<Deed> {
    let who = zone.accounts.iter().find(|k| query::key_policy(&zone.state, &k.account()).pending.is_some()).cloned()?;
    Some(zone.by(&who, vec![Action::Keys(KeyAction::Cancel)]))
}

// ---- grants ----------------------------------------------------------------------------------------------------------

fn kinds(zone: &mut Zone) -> Vec<ActionKind> {
    let (to, asset, amount) = (AccountId([0; 32]), AssetId::CREDIT, Amount(1));
    let open = ChannelAction::TopUp { channel: pasture_types::ChannelId([0; 32]), amount, expires: zone.now };
    let mut kinds = vec![
        ActionKind::of(&Action::Transfer { to, asset, amount }),
        ActionKind::of(&Action::PlaceOrder { terms: Box::default() }),
        ActionKind::of(&Action::Channel(open)),
    ];
    if zone.rng.once_in(12) {
        kinds.push(ActionKind::of(&Action::Keys(KeyAction::Cancel)));
    }
    kinds.sort_unstable();
    kinds
}

pub(super) fn grant(zone: &mut Zone) -> Option<Deed> {
    let who = zone.someone();
    let key = Keys::all().spare(zone.rng.below(8) as usize, 0).public();
    let credits = Amount(u128::from(1 + zone.rng.below(6)) * 20_000_000);
    let mut budget = vec![Budget { asset: AssetId::CREDIT, amount: credits }];
    let fleet = zone.rng.once_in(5);
    let who = if fleet { zone.accounts[zone.rng.below(3) as usize].clone() } else { who };
    let may = match zone.rng.below(5) {
        _ if fleet => GrantUse::Enroll { nodes: 1 + zone.rng.below(2) as u32 },
        0 | 1 => GrantUse::Invite,
        2 if zone.rng.once_in(3) => GrantUse::Watch { watcher: zone.someone().account() },
        _ => {
            budget.push(Budget { asset: DOLLAR, amount: Amount(100_000_000) });
            let mut recipients: Vec<_> = (0..zone.rng.below(3)).map(|_| zone.someone().account()).collect();
            recipients.sort_unstable();
            recipients.dedup();
            let max_rate_per_hour = zone.rng.once_in(2).then(|| Amount::credits(5));
            GrantUse::Act { kinds: kinds(zone), recipients, max_rate_per_hour }
        }
    };
    let expires = zone.now.plus(Millis::secs(5 + zone.rng.below(50)));
    let key = if may == GrantUse::Invite { Keys::all().spare(0, 0).public() } else { key };
    let terms = Box::new(GrantTerms { key, may, budget, expires });
    Some(zone.by(&who, vec![Action::Grant(GrantAction::Create { terms })]))
}

/// A user lets the watcher of one of its leases confirm, with one of the watcher's own keys.
pub(super) fn watch_grant(zone: &mut Zone) -> Option<Deed> {
    let ids: Vec<_> = zone.seen.leases.iter().rev().take(12).copied().collect();
    let leases = ids.iter().filter_map(|id| query::lease(&zone.state, id)).filter(|l| l.state != LeaseState::Closed);
    let watched: Vec<_> = leases.filter_map(|l| Some((l.account, l.watch?.account))).collect();
    let granted = |user: &AccountId, watcher: &AccountId| {
        let all = query::grants_of_account(&zone.state, user);
        user == watcher || all.iter().any(|g| g.terms.may == GrantUse::Watch { watcher: *watcher })
    };
    let (user, watcher) = watched.into_iter().find(|(user, watcher)| !granted(user, watcher))?;
    let key = zone.signer(&watcher)?.public();
    let budget = ASSETS.iter().map(|asset| Budget { asset: *asset, amount: Amount(200_000_000) }).collect();
    let expires = zone.now.plus(Millis::secs(90));
    let terms = Box::new(GrantTerms { key, may: GrantUse::Watch { watcher }, budget, expires });
    let who = zone.key_of(&user).cloned()?;
    Some(zone.by(&who, vec![Action::Grant(GrantAction::Create { terms })]))
}

fn standing(zone: &mut Zone, fits: impl Fn(&Grant) -> bool) -> Option<Grant> {
    let all: Vec<Grant> = zone.seen.grants.iter().rev().take(24).filter_map(|id| query::grant(&zone.state, id)).collect();
    let fitting: Vec<Grant> = all.into_iter().filter(|g| fits(g)).collect();
    zone.rng.pick(&fitting).cloned()
}

pub(super) fn revoke(zone: &mut Zone) -> Option<Deed> {
    let id = zone.recent(|s| &s.grants, 12)?;
    let owner = query::grant(&zone.state, &id).and_then(|g| zone.key_of(&g.account).cloned());
    let who = owner.filter(|_| !zone.rng.once_in(8)).unwrap_or_else(|| zone.someone());
    Some(zone.by(&who, vec![Action::Grant(GrantAction::Revoke { grant: id })]))
}

fn by_key_of(zone: &Zone, grant: &Grant, actions: Vec<Action>) -> Option<Deed> {
    let key = Keys::all().private(&grant.terms.key)?;
    Some(Deed::checked(zone.body(grant.account, Auth::Delegated(grant.id), actions), key))
}

/// A delegate does something, within the grant or not.
pub(super) fn by_grant(zone: &mut Zone) -> Option<Deed> {
    let grant = standing(zone, |_| true)?;
    let to = match &grant.terms.may {
        GrantUse::Act { recipients, .. } if !recipients.is_empty() && !zone.rng.once_in(5) => recipients[0],
        _ => zone.someone().account(),
    };
    let asset = if zone.rng.once_in(3) { DOLLAR } else { AssetId::CREDIT };
    let action = match zone.rng.below(8) {
        0 | 1 => {
            let mut terms = super::market::terms(zone);
            terms.budget = Amount(60_000_000);
            Action::PlaceOrder { terms: Box::new(terms) }
        }
        2 => Action::Stake { amount: Amount(1) },
        3 => {
            let channel = query::channels_of_client(&zone.state, &grant.account).first()?.id;
            Action::Channel(ChannelAction::TopUp { channel, amount: Amount(10_000_000), expires: zone.now })
        }
        n => Action::Transfer { to, asset, amount: Amount(u128::from(n * n) * 3_000_000) },
    };
    let mut deed = by_key_of(zone, &grant, vec![action])?;
    if zone.rng.once_in(5) {
        deed.envelope.body.fee_asset = DOLLAR;
    }
    if zone.rng.once_in(16) {
        // Somebody else's key.
        let thief = zone.someone();
        deed.envelope.signatures[0].key = thief.public();
        let forged = thief.public() != grant.terms.key;
        return Some(Deed { forged, ..deed });
    }
    Some(deed)
}

pub(super) fn claim(zone: &mut Zone) -> Option<Deed> {
    let odd = zone.rng.once_in(12);
    let grant = standing(zone, |g| (g.terms.may == GrantUse::Invite) != odd)?;
    let fresh = if zone.rng.once_in(8) { zone.someone() } else { fresh_key(zone) };
    let keys = vec![fresh.public()];
    let proof = if zone.rng.once_in(10) {
        Signature::Ed25519([3; 64])
    } else {
        fresh.sign(&claim_digest(&zone.genesis.zone(), &grant.id, &keys, 1))
    };
    if zone.key_of(&fresh.account()).is_none() {
        zone.seen.fresh.push(fresh);
    }
    by_key_of(zone, &grant, vec![Action::Grant(GrantAction::Claim { keys, threshold: 1, proof })])
}

/// A machine joins with its fleet's code: a new one, or one that is there already.
pub(super) fn enroll(zone: &mut Zone) -> Option<Deed> {
    let grant = standing(zone, |g| matches!(g.terms.may, GrantUse::Enroll { .. }))?;
    let owner = zone.key_of(&grant.account).cloned()?;
    let machine = if zone.rng.once_in(8) { zone.machine() } else { Machine { key: fresh_key(zone), owner: 0, boasts: false } };
    let action = super::market::register(zone, &machine, &owner);
    by_key_of(zone, &grant, vec![action])
}

// ---- channels --------------------------------------------------------------------------------------------------------

pub(super) fn open_channel(zone: &mut Zone) -> Option<Deed> {
    let who = zone.someone();
    let provider = if zone.rng.once_in(8) { zone.someone() } else { zone.accounts[zone.rng.below(3) as usize].clone() };
    let n = zone.index_of(&who.account())?;
    let open = ChannelAction::Open {
        provider: provider.account(),
        asset: if zone.rng.once_in(3) { DOLLAR } else { AssetId::CREDIT },
        amount: Amount(u128::from(zone.rng.below(6)) * 40_000_000),
        key: Keys::all().spare(n, 1).public(),
        expires: zone.now.plus(Millis::secs(6 + zone.rng.below(40))),
        model: zone.rng.once_in(3).then(|| super::service::model(zone)),
    };
    Some(zone.by(&who, vec![Action::Channel(open)]))
}

fn some_channel(zone: &mut Zone) -> Option<pasture_ledger::Channel> {
    let all: Vec<_> = zone.seen.channels.iter().filter_map(|id| query::channel(&zone.state, id)).collect();
    zone.rng.pick(&all).cloned()
}

pub(super) fn top_up_channel(zone: &mut Zone) -> Option<Deed> {
    let channel = some_channel(zone)?;
    let who = if zone.rng.once_in(8) { zone.someone() } else { zone.key_of(&channel.client).cloned()? };
    let amount = Amount(u128::from(zone.rng.below(3)) * 20_000_000);
    let expires = zone.now.plus(Millis::secs(zone.rng.below(30)));
    Some(zone.by(&who, vec![Action::Channel(ChannelAction::TopUp { channel: channel.id, amount, expires })]))
}

/// A voucher of a channel: mostly more than before, at times an old one, one of another opening, or a forged one.
fn voucher(zone: &mut Zone, channel: &pasture_ledger::Channel) -> Option<SignedVoucher> {
    let step = u128::from(zone.rng.below(5)) * 12_000_001;
    let mut voucher = Voucher {
        zone: zone.genesis.zone(),
        channel: channel.id,
        generation: channel.generation,
        amount: channel.paid.saturating_add(Amount(step)),
    };
    match zone.rng.below(14) {
        0 => voucher.generation -= 1,
        1 => voucher.amount = channel.paid,
        2 => voucher.amount = Amount(channel.paid.0 / 2),
        _ => {}
    }
    let key = Keys::all().private(&channel.key)?;
    let mut signed = voucher.sign(key);
    if zone.rng.once_in(14) {
        signed.voucher.amount = signed.voucher.amount.saturating_add(Amount(1));
    }
    Some(signed)
}

pub(super) fn cash(zone: &mut Zone) -> Option<Deed> {
    let channel = some_channel(zone)?;
    let voucher = voucher(zone, &channel)?;
    if zone.rng.once_in(8) {
        let m = zone.machine();
        return Some(zone.by_node(&m, vec![Action::Channel(ChannelAction::Cash { voucher })]));
    }
    let who = if zone.rng.once_in(10) { zone.someone() } else { zone.key_of(&channel.provider).cloned()? };
    Some(zone.by(&who, vec![Action::Channel(ChannelAction::Cash { voucher })]))
}

pub(super) fn close_channel(zone: &mut Zone) -> Option<Deed> {
    let channel = some_channel(zone)?;
    let last = if zone.rng.once_in(2) { voucher(zone, &channel) } else { None };
    let who = if zone.rng.once_in(10) { zone.someone() } else { zone.key_of(&channel.provider).cloned()? };
    Some(zone.by(&who, vec![Action::Channel(ChannelAction::Close { channel: channel.id, last })]))
}

// ---- certificates and ratings ----------------------------------------------------------------------------------------

fn subject(zone: &mut Zone) -> Subject {
    if zone.rng.once_in(2) {
        Subject::Node(zone.machine().key.node_id())
    } else {
        Subject::Provider(zone.accounts[zone.rng.below(4) as usize].account())
    }
}

fn owner(zone: &Zone, subject: &Subject) -> Option<AccountId> {
    match subject {
        Subject::Provider(p) => Some(*p),
        Subject::Node(n) => query::node(&zone.state, n).map(|n| n.provider),
    }
}

pub(super) fn certify(zone: &mut Zone) -> Option<Deed> {
    let issuer = if zone.rng.once_in(3) { zone.someone() } else { zone.accounts[ISSUER].clone() };
    let subject = subject(zone);
    let level = zone.rng.below(5) as u8;
    let claim = match zone.rng.below(4) {
        0 => Assertion::DataCentreTier { tier: level },
        1 => Assertion::Carbon { grams_per_kwh: u32::from(level) * 100 },
        2 => Assertion::Region { region: "eu-west".into(), level },
        _ => Assertion::Audit { report: BlobHash([8; 32]), level },
    };
    let (issued, expires) = (zone.now, zone.now.plus(Millis::secs(5 + zone.rng.below(60))));
    let mut statement = Statement { subject, claim, issuer: issuer.account(), issued, expires };
    if zone.rng.once_in(12) {
        statement.issued = zone.now.plus(Millis::secs(100));
    }
    let digest = statement.digest(&zone.genesis.zone());
    let record = query::account(&zone.state, &issuer.account())?;
    let keys: Vec<&SigningKey> = record.keys.iter().filter_map(|k| Keys::all().private(k)).take(usize::from(record.threshold)).collect();
    let mut signatures: Vec<_> = keys.iter().map(|k| IssuerSignature { key: k.public(), signature: k.sign(&digest) }).collect();
    if zone.rng.once_in(12) {
        signatures.truncate(0);
    }
    let owner = owner(zone, &subject)?;
    let who = match zone.rng.below(4) {
        0 => issuer,
        1 if zone.rng.once_in(4) => zone.someone(),
        _ => zone.key_of(&owner).cloned()?,
    };
    let put = CredentialAction::Put { statement: Box::new(statement), signatures };
    Some(zone.by(&who, vec![Action::Credential(put)]))
}

pub(super) fn revoke_certificate(zone: &mut Zone) -> Option<Deed> {
    let found = zone.recent(|s| &s.credentials, 8).and_then(|id| query::credential(&zone.state, &id));
    let (who, subject, kind) = match found {
        Some(c) => (zone.key_of(&c.statement.issuer).cloned()?, c.statement.subject, c.statement.claim.kind()),
        None => (zone.someone(), subject(zone), CredentialKind::Carbon),
    };
    Some(zone.by(&who, vec![Action::Credential(CredentialAction::Revoke { subject, kind })]))
}

pub(super) fn withdraw_certificate(zone: &mut Zone) -> Option<Deed> {
    let id = zone.recent(|s| &s.credentials, 8)?;
    let found = query::credential(&zone.state, &id).and_then(|c| owner(zone, &c.statement.subject));
    let who = found.and_then(|a| zone.key_of(&a).cloned()).filter(|_| !zone.rng.once_in(8)).unwrap_or_else(|| zone.someone());
    Some(zone.by(&who, vec![Action::Credential(CredentialAction::Withdraw { credential: id })]))
}

pub(super) fn rate(zone: &mut Zone) -> Option<Deed> {
    let lease = super::leases::some_lease(zone, |l| {
        l.state == LeaseState::Closed && l.settlement.as_ref().is_some_and(|s| !s.to_treasury.is_zero() && s.asset == AssetId::CREDIT)
    })?;
    let who = if zone.rng.once_in(12) { zone.someone() } else { zone.key_of(&lease.account).cloned()? };
    let stars = if zone.rng.once_in(12) { 6 } else { 1 + zone.rng.below(5) as u8 };
    Some(zone.by(&who, vec![Action::Reputation(ReputationAction::Rate { lease: lease.id, stars })]))
}
