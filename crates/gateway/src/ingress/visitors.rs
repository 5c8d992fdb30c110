//! Who comes, and how often: what one range of addresses takes of what is published by one name.
//!
//! Guarantees: whoever has many addresses of a range has its part of the places and no more; a limit a second is kept by the generic cell rate
//! algorithm (ITU-T I.371) with a burst of one second's worth. What is not limited any more is forgotten.

use crate::listener::Range;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How much may come at once before the limit holds.
const BURST: Duration = Duration::from_secs(1);
/// When so many are remembered, those that need not be are forgotten.
const SWEEP_AT: usize = 1_024;

/// One range of addresses, or one address where ranges say nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Who {
    Range(Range),
    Alone(IpAddr),
}

#[derive(Clone, Copy, Debug)]
struct Visitor {
    open: usize,
    /// When what it has used up has come back.
    due: Instant,
}

/// Those of one name. A lock and no owner task: it is held for one look-up.
#[derive(Default, Debug)]
pub(super) struct Visitors(Mutex<HashMap<Who, Visitor>>);

/// A visit, until it is dropped.
#[derive(Debug)]
pub(super) struct Visit {
    visitors: Arc<Visitors>,
    who: Who,
}

impl Visitors {
    fn lock(&self) -> MutexGuard<'_, HashMap<Who, Visitor>> {
        // Nothing that can panic runs while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets one in, unless its range has `most` visits or came more often than `per_second`.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr, per_second: Option<u32>, most: usize, now: Instant) -> Option<Visit> {
        // Behind a private address there may be many: a proxy.
        let (who, most) = Range::of(address).map_or((Who::Alone(address), usize::MAX), |range| (Who::Range(range), most));
        let mut all = self.lock();
        if all.len() >= SWEEP_AT && !all.contains_key(&who) {
            all.retain(|_, visitor| visitor.open > 0 || visitor.due > now);
        }
        let visitor = all.entry(who).or_insert(Visitor { open: 0, due: now });
        if visitor.open >= most {
            return None;
        }
        if let Some(per_second) = per_second {
            let due = visitor.due.max(now);
            let cost = Duration::from_secs(1) / per_second.max(1);
            if due.duration_since(now) + cost > BURST {
                return None;
            }
            visitor.due = due + cost;
        }
        visitor.open += 1;
        Some(Visit { visitors: Arc::clone(self), who })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut all = self.visitors.lock();
        if let Some(visitor) = all.get_mut(&self.who) {
            visitor.open = visitor.open.saturating_sub(1);
            if visitor.open == 0 && visitor.due <= Instant::now() {
                all.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_its_places_and_its_pace() {
        let (visitors, now) = (Arc::<Visitors>::default(), Instant::now());
        let [one, neighbour, other] = ["203.0.113.7", "203.0.113.9", "198.51.100.7"].map(|text| text.parse::<IpAddr>().unwrap());
        let held: Vec<Visit> = [one, neighbour].iter().map(|who| visitors.enter(*who, None, 2, now).unwrap()).collect();
        assert!(visitors.enter(one, None, 2, now).is_none() && visitors.enter(other, None, 2, now).is_some());
        drop(held);
        assert!(visitors.lock().is_empty(), "who has left is forgotten");
        // Four a second: four at once, then one each quarter.
        let enter = |at: Instant| visitors.enter(one, Some(4), 9, at).is_some();
        assert!((0..4).all(|_| enter(now)) && !enter(now));
        let later = now + Duration::from_millis(250);
        assert!(enter(later) && !enter(later));
        assert!(visitors.enter(other, Some(4), 9, now).is_some(), "each range has its own");
        let much_later = now + Duration::from_secs(60);
        assert!((0..4).all(|_| enter(much_later)) && !enter(much_later), "what was not used is not kept");
    }

    #[test]
    fn behind_a_private_address_there_may_be_many() {
        let (visitors, now) = (Arc::<Visitors>::default(), Instant::now());
        let proxy: IpAddr = "10.0.0.1".parse().unwrap();
        let held: Vec<Visit> = (0..5).map(|_| visitors.enter(proxy, None, 1, now).unwrap()).collect();
        assert_eq!(held.len(), 5);
    }

    #[test]
    fn many_strangers_are_forgotten() {
        let (visitors, now) = (Arc::<Visitors>::default(), Instant::now());
        for n in 0..SWEEP_AT {
            let address = IpAddr::from([100, u8::try_from(n / 256).unwrap(), u8::try_from(n % 256).unwrap(), 1]);
            drop(visitors.enter(address, Some(1), 1, now + Duration::from_secs(3_600)).unwrap());
        }
        let stranger = IpAddr::from([101, 0, 0, 1]);
        let _visit = visitors.enter(stranger, None, 1, now + Duration::from_secs(7_200)).unwrap();
        assert!(visitors.lock().len() < SWEEP_AT / 2, "{}", visitors.lock().len());
    }
}
