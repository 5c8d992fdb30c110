//! The words of `farm offers`: `gpu=H100:2 cpu=8 memory=32Gi region=eu price<1.2`.
//!
//! Guarantees: a word that is not understood is an error that names it, never a search for something else. Prices are those that a job of
//! the wanted size would pay each hour, without fees.

use crate::exit::Failure;
use pasture_api::OfferView;
use pasture_types::Amount;
use pasture_types::gpu::GpuSpec;
use pasture_types::market::{Constraint, region_within};
use pasture_types::resources::{Resources, parse_bytes, parse_cpu};
use serde::Serialize;

/// Most words of a search.
const MAX_WORDS: usize = 32;

/// What is priced when no size was asked for: a core with a GiB.
static SMALL: Resources = Resources { cpu_millis: 1000, memory_bytes: 1 << 30, disk_bytes: 0, gpus: vec![], services: vec![] };

/// What is looked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Search {
    need: Resources,
    region: Option<String>,
    provider: Option<String>,
    /// Labels that an offer must have.
    labels: Vec<(String, String)>,
    /// Highest price an hour, and whether it may be just that.
    price: Option<(Amount, bool)>,
}

/// An offer that fits, and what the wanted size costs there each hour.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    /// The offer.
    #[serde(flatten)]
    pub(crate) offer: OfferView,
    /// Credits an hour.
    #[serde(rename = "price_per_hour")]
    pub(crate) price: Amount,
}

/// Whether a word of the command line is a condition and not a machine's name.
pub(crate) fn is_condition(word: &str) -> bool {
    word.contains(['=', '<', '>'])
}

impl Search {
    /// Reads the words.
    ///
    /// # Errors
    /// Which word is wrong, and what to write.
    pub(crate) fn parse(words: &[String]) -> Result<Self, Failure> {
        if words.len() > MAX_WORDS {
            return Err(Failure::usage(format!("{} conditions are more than the {MAX_WORDS} that can be asked at once", words.len())));
        }
        let mut search = Self::default();
        for word in words {
            search.add(word).map_err(|why| Failure::usage(format!("`{word}`: {why}")))?;
        }
        Ok(search)
    }

    fn add(&mut self, word: &str) -> Result<(), String> {
        let at = word.find(['=', '<', '>']).ok_or("a condition is written like gpu=H100:2, memory=32Gi, region=eu or price<1.2")?;
        let (name, rest) = word.split_at(at);
        let sign = if rest.starts_with("<=") || rest.starts_with(">=") { 2 } else { 1 };
        let (sign, value) = rest.split_at(sign);
        if value.is_empty() {
            return Err("there is nothing after the sign".into());
        }
        // So much or more: a machine with more serves it as well.
        let size = || match sign {
            "=" | ">=" => Ok(()),
            _ => Err(format!("{name} is what you need at least: write {name}={value}")),
        };
        let exact = || if sign == "=" { Ok(()) } else { Err(format!("write {name}={value}")) };
        match name {
            "cpu" => size().and_then(|()| parse_cpu(value).map(|cpu| self.need.cpu_millis = cpu).map_err(|e| e.to_string())),
            "memory" => size().and_then(|()| parse_bytes(value).map(|bytes| self.need.memory_bytes = bytes).map_err(|e| e.to_string())),
            "disk" => size().and_then(|()| parse_bytes(value).map(|bytes| self.need.disk_bytes = bytes).map_err(|e| e.to_string())),
            "gpu" => size().and_then(|()| self.add_gpu(value)),
            "region" => exact().map(|()| self.region = Some(value.to_owned())),
            "provider" => exact().map(|()| self.provider = Some(value.to_owned())),
            "price" => {
                let most: Amount = value.parse().map_err(|_| format!("`{value}` is no price: write for example price<1.2"))?;
                match sign {
                    "<" => self.price = Some((most, false)),
                    "<=" => self.price = Some((most, true)),
                    _ => return Err(format!("a price is what you pay at most: write price<{value}")),
                }
                Ok(())
            }
            "" => Err("there is nothing before the sign".into()),
            label => exact().map(|()| self.labels.push((label.to_owned(), value.to_owned()))),
        }
    }

    fn add_gpu(&mut self, value: &str) -> Result<(), String> {
        let wish = GpuSpec::Text(value.to_owned()).check().map_err(|e| e.problem)?;
        self.need.gpus.push(wish.line);
        self.labels.extend(wish.constraints.into_iter().filter_map(|c| match c {
            Constraint::Attribute { name, value } => Some((name, value)),
            _ => None,
        }));
        Ok(())
    }

    /// The size whose price is shown.
    pub(crate) fn priced(&self) -> &Resources {
        if self.need == Resources::default() { &SMALL } else { &self.need }
    }

    /// The offers that fit now, the cheapest first.
    pub(crate) fn among(&self, offers: Vec<OfferView>) -> Vec<Found> {
        let mut found: Vec<Found> = offers.into_iter().filter_map(|offer| self.price(&offer).map(|price| Found { offer, price })).collect();
        found.sort_by_key(|f| (f.price, f.offer.id));
        found
    }

    /// What the wanted size costs there each hour; `None` if the offer does not fit.
    fn price(&self, offer: &OfferView) -> Option<Amount> {
        let terms = &offer.terms;
        let labelled = self.labels.iter().all(|label| terms.attributes.contains(label));
        let there = self.region.as_ref().is_none_or(|wanted| region_within(&terms.region, wanted));
        let theirs = self.provider.as_ref().is_none_or(|name| offer.provider_name == *name || offer.provider.to_string().starts_with(name));
        if !(labelled && there && theirs && offer.free.covers(&self.need)) {
            return None;
        }
        let taken = terms.resources.place(self.priced()).unwrap_or_else(|| self.priced().clone());
        let price = terms.rates.hourly_of(&terms.resources, &taken)?;
        self.price.is_none_or(|(most, equal)| price < most || (equal && price == most)).then_some(price)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Search, String> {
        Search::parse(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()).map_err(|f| f.message)
    }

    #[test]
    fn conditions_are_read() {
        let search = parse(&["gpu=H100:2,vram=80GB,cuda=12.2", "cpu>=8", "memory=32Gi", "region=eu", "price<=1.2", "tier=home"]).unwrap();
        assert_eq!((search.need.cpu_millis, search.need.memory_bytes), (8000, 32 << 30));
        assert_eq!(
            search.need.gpus.iter().map(|g| (g.model.as_str(), g.count, g.vram_bytes)).collect::<Vec<_>>(),
            [("H100", 2, 80_000_000_000)]
        );
        assert_eq!(search.price, Some(("1.2".parse().unwrap(), true)));
        assert_eq!(search.region.as_deref(), Some("eu"));
        assert!(search.labels.contains(&("tier".into(), "home".into())) && search.labels.len() == 2, "{:?}", search.labels);
        assert_eq!(parse(&[]).unwrap().priced().cpu_millis, 1000);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (word, said) in [
            ("cpu<4", "write cpu=4"),
            ("price>1", "at most: write price<1"),
            ("price<cheap", "is no price"),
            ("gpu=", "nothing after"),
            ("=4", "nothing before"),
            ("region<eu", "write region=eu"),
            ("memory=lots", "lots"),
            ("gpu=H100:0", "out of range"),
        ] {
            let problem = parse(&[word]).unwrap_err();
            assert!(problem.contains(said) && problem.contains(word), "{problem}");
        }
        assert!(Search::parse(&vec!["a=b".to_owned(); 33]).is_err());
        assert!(!is_condition("meadow") && is_condition("price<1"));
    }
}
