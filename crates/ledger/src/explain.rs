//! Why an order is or is not served, from the ledger's own tables. Spec: `docs/specs/market.md` §7.
//!
//! Guarantees: the offers looked at and the verdicts are those of a draw. It reserves nothing.

use crate::env::Env;
use crate::error::TxError;
use crate::market::{self, index};
use crate::offers::{Asker, Standing};
use crate::validate;
use pasture_scheduler::{Explanation, Need, explain as explain_offers};
use pasture_types::ids::derive;
use pasture_types::market::OrderTerms;
use pasture_types::market_rules::MarketParams;
use pasture_types::state::StateRead;
use pasture_types::{Millis, Timestamp};

const EXPLAIN_DOMAIN: &str = "pasture 2026-11 explain v1";

/// Explains an order as if it were drawn now. It need not be placed, and nothing is changed.
#[must_use]
pub fn explain(state: &dyn StateRead, terms: &OrderTerms, now: Timestamp) -> Explanation {
    let Some(env) = Env::load(state) else {
        return Explanation { problem: Some(TxError::NoGenesis.to_string()), ..explain_nothing(terms) };
    };
    // Any point of entry will do, but the same one every time, so that two looks at one state agree.
    let seed = derive(EXPLAIN_DOMAIN, &[]);
    // A draw looks into one bucket; an explanation also counts what the bucket leaves out.
    let asker = Asker { account: None, terms, refused: &[] };
    let standing: Vec<Standing> = index::anywhere(state, &seed).iter().filter_map(|id| Standing::load(state, &env, id, &asker)).collect();
    let mut explanation = explain_offers(&market::need(&env, terms, None, &seed), standing.iter().map(|o| o.view(&env)));
    explanation.truncated = standing.len() >= index::MAX_OFFERS_EXPLAINED;
    explanation.problem = validate::order(terms, &env, now).err().map(|e| e.to_string());
    explanation
}

fn explain_nothing(terms: &OrderTerms) -> Explanation {
    let (market, seed) = (MarketParams::dev(), [0; 32]);
    let none = Need { terms, epoch: Millis(0), now: Timestamp(0), max_lease: Millis(0), balance: None, market: &market, seed: &seed };
    explain_offers(&none, [])
}
