//! The invariants of channels, over the whole state. Spec: `docs/specs/accounts.md` §6.
//!
//! Guarantees: reads only; reports every broken rule, what channels hold, and the index and timer keys they call for.

use super::records::{CHANNEL, Channel, of_client_key, of_provider_key};
use crate::tables::{self, TimerKind, timer_key};
use pasture_types::channel::channel_id;
use pasture_types::state::StateRead;
use pasture_types::{Amount, AssetId};
use std::collections::BTreeSet;

/// What all channels hold of an asset.
pub(crate) fn held(s: &dyn StateRead, asset: AssetId) -> Vec<Amount> {
    let mut out = Vec::new();
    s.scan(&[CHANNEL], &[CHANNEL + 1], &mut |_, v| {
        out.extend(borsh::from_slice::<Channel>(v).ok().filter(|c| c.asset == asset).map(|c| c.held()));
        true
    });
    out
}

/// Checks channels; the keys that must be in indexes and timers.
pub(crate) fn check(s: &dyn StateRead, broken: &mut dyn FnMut(&'static str, String)) -> BTreeSet<Vec<u8>> {
    let mut want = BTreeSet::new();
    let height = tables::clock(s).height;
    s.scan(&[CHANNEL], &[CHANNEL + 1], &mut |k, v| {
        let Ok(c) = borsh::from_slice::<Channel>(v) else {
            broken("every channel decodes", format!("{} bytes", v.len()));
            return true;
        };
        for (holds, rule) in [
            (c.paid <= c.escrow, "a channel pays no more than it holds"),
            (k.ends_with(&c.id.0) && c.id == channel_id(&c.client, &c.provider, c.asset), "a channel is where its parties say"),
            (c.generation <= height && c.expires_shifted <= c.closes_shifted, "a channel's times are in order"),
            (tables::provider(s, &c.provider).is_some(), "a channel's provider exists"),
        ] {
            if !holds {
                broken(rule, format!("channel {}", c.id));
            }
        }
        want.insert(of_client_key(&c.client, &c.id));
        want.insert(of_provider_key(&c.provider, &c.id));
        want.insert(timer_key(c.closes_shifted, TimerKind::Channel, &c.id.0));
        true
    });
    want
}
