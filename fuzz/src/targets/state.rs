//! Records of the ledger's state with anything in them, as an imported file or a damaged store would bring them. What decodes
//! has one encoding; a record replaced in a zone that runs makes `check` complain or not, and every question is still answered.

use crate::{World, key, who};
use borsh::{BorshDeserialize, BorshSerialize};
use pasture_ledger as ledger;
use pasture_ledger::query::{self, deposits, governance, reputation, validators};
use pasture_ledger::service::{query as service, records as served};
use pasture_types::state::MemoryState;
use pasture_types::{AssetId, codec};

/// Longest record that is read alone.
const MAX_RECORD: usize = 1 << 16;

thread_local! { static WORLD: World = World::lived(); }

type Reader = fn(&[u8]);

fn one_encoding<T: BorshDeserialize + BorshSerialize>(data: &[u8]) {
    if let Ok(value) = codec::decode::<T>(data, MAX_RECORD) {
        assert_eq!(codec::encode(&value), data, "a second encoding of the same record");
    }
}

/// Every kind of record that a state holds.
const RECORDS: &[Reader] = &[
    one_encoding::<ledger::Zone>,
    one_encoding::<ledger::Clock>,
    one_encoding::<ledger::Counts>,
    one_encoding::<ledger::Account>,
    one_encoding::<ledger::Provider>,
    one_encoding::<ledger::Node>,
    one_encoding::<ledger::Offer>,
    one_encoding::<ledger::Order>,
    one_encoding::<ledger::Lease>,
    one_encoding::<ledger::Epoch>,
    one_encoding::<ledger::History>,
    one_encoding::<ledger::Tenure>,
    one_encoding::<ledger::Grant>,
    one_encoding::<ledger::KeyPolicy>,
    one_encoding::<ledger::Channel>,
    one_encoding::<ledger::Credential>,
    one_encoding::<ledger::Cutoff>,
    one_encoding::<ledger::Bond>,
    one_encoding::<ledger::Sponsorship>,
    one_encoding::<ledger::NodeBond>,
    one_encoding::<ledger::LeaseNeed>,
    one_encoding::<ledger::FeeGrant>,
    one_encoding::<ledger::NewcomerCount>,
    one_encoding::<ledger::Validator>,
    one_encoding::<ledger::SeatTerm>,
    one_encoding::<ledger::Beacon>,
    one_encoding::<ledger::Standing>,
    one_encoding::<ledger::Pair>,
    one_encoding::<ledger::Rating>,
    one_encoding::<ledger::Proposal>,
    one_encoding::<ledger::Vote>,
    one_encoding::<ledger::GovernanceCounts>,
    one_encoding::<ledger::Pause>,
    one_encoding::<ledger::GuardianCall>,
    one_encoding::<ledger::PendingRules>,
    one_encoding::<ledger::Load>,
    one_encoding::<ledger::AuditRecord>,
    one_encoding::<ledger::AuditState>,
    one_encoding::<ledger::NodeAudit>,
    one_encoding::<pasture_types::asset::Asset>,
    one_encoding::<served::Model>,
    one_encoding::<served::Failover>,
];

/// What a gateway asks of a state; none of it may panic, whatever is in it.
fn ask(s: &MemoryState) {
    let (user, provider, node) = (key(who::USER).account(), key(who::PROVIDER).account(), key(who::NODE).node_id());
    let _ = (query::zone(s), query::clock(s), query::counts(s), ledger::next_due(s));
    let _ = (query::account(s, &user), query::balance(s, &user, AssetId::CREDIT), query::provider(s, &provider));
    let _ = (query::node(s, &node), query::free_resources(s, &node), query::offers(s, None, 8), query::offers_of_node(s, &node));
    let _ = (query::orders_of_account(s, &user, None, 8), query::open_leases_of_node(s, &node), query::open_epochs(s));
    for lease in query::leases_of_account(s, &user, None, 8) {
        let _ = (service::generations(s, &lease), deposits::lease_need(s, &lease.id), reputation::rating(s, &lease.id));
    }
    let _ = (query::grants_of_account(s, &user), query::channels_of_client(s, &user), query::channels_of_provider(s, &provider));
    let _ = (deposits::deposit(s, &provider), deposits::sponsors(s, &provider), deposits::rate_room(s, &node), deposits::is_suspended(s, &node));
    let _ = (validators::standing(s), validators::term(s), validators::ordering(s), query::node_audit(s, &node), query::open_audits(s));
    let _ = (governance::proposals(s, 0, 8), governance::proposal_counts(s), governance::params(s), governance::pause(s), governance::block_load(s));
    let _ = (service::assets(s), service::halt_grace(s, &node), governance::accepted_issuers(s), governance::total_voting_power(s));
}

/// Puts bytes in the place of one record of the zone.
fn replaced(which: usize, value: &[u8]) {
    WORLD.with(|world| {
        let mut state = world.state.clone();
        let Some(slot) = state.0.values_mut().nth(which % world.state.0.len().max(1)) else { return };
        value.clone_into(slot);
        // A broken state is found out or harmless; it never stops the program that asks.
        let _ = ledger::check(&state);
        ask(&state);
    });
}

/// Takes one input; a broken promise panics.
pub fn run(data: &[u8]) {
    let [how, low, high, value @ ..] = data else { return };
    let which = usize::from(u16::from_le_bytes([*low, *high]));
    match how % 2 {
        0 => RECORDS.iter().cycle().nth(which % RECORDS.len()).into_iter().for_each(|read| read(value)),
        _ => replaced(which, value),
    }
}

/// A seed for each record of the zone, in its place.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    WORLD.with(|world| {
        let all = world.state.0.values().enumerate();
        all.filter_map(|(n, value)| {
            let [low, high] = u16::try_from(n).ok()?.to_le_bytes();
            (!value.is_empty()).then(|| [&[1, low, high], value.as_slice()].concat())
        })
        .collect()
    })
}
