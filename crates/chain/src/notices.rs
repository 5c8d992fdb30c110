//! What validators tell each other beside the ledger: of each the last word, a few kilobytes that mean nothing to the engine.
//!
//! Guarantees: a word is its sender's, since only who holds a validator's key has a connection to send it through. How long one is, and of how
//! many they are kept, is bounded. None survives a restart: each says its own again every [`AGAIN`].

use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Longest notice in bytes.
pub const MAX_NOTICE: usize = 4 << 10;
/// How often a validator says its own again: whoever was away hears it then.
pub(crate) const AGAIN: Duration = Duration::from_secs(20);
/// Of how many validators notices are kept.
const MAX_SENDERS: usize = 1_024;
/// How a notice begins where transactions go by; none of them begins so.
const MARK: &[u8] = b"pasture notice 1\n";

/// This validator's notice and the others'.
#[derive(Debug)]
pub(crate) struct Notices {
    own: watch::Sender<Option<Bytes>>,
    /// By the senders' keys. A lock and no owner task: it is held for one look-up.
    heard: Mutex<BTreeMap<[u8; 32], Bytes>>,
    news: watch::Sender<u64>,
}

impl Notices {
    pub(crate) fn new() -> Self {
        Self { own: watch::Sender::new(None), heard: Mutex::default(), news: watch::Sender::new(0) }
    }

    /// From now on says this. Longer than [`MAX_NOTICE`] it is not said.
    pub(crate) fn say(&self, notice: &[u8]) {
        if notice.len() <= MAX_NOTICE {
            let sent = Bytes::from([MARK, notice].concat());
            self.own.send_if_modified(|own| own.replace(sent.clone()) != Some(sent));
        }
    }

    /// What is said, as it goes out.
    pub(crate) fn own(&self) -> watch::Receiver<Option<Bytes>> {
        self.own.subscribe()
    }

    /// The notice in what came in a transaction's place; `None` if it is none.
    pub(crate) fn read(message: &Bytes) -> Option<Bytes> {
        message.starts_with(MARK).then(|| message.slice(MARK.len()..))
    }

    /// Takes another's notice in; whether it may be one.
    pub(crate) fn hear(&self, from: [u8; 32], notice: Bytes) -> bool {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if notice.len() > MAX_NOTICE || (!heard.contains_key(&from) && heard.len() >= MAX_SENDERS) {
            return false;
        }
        if heard.insert(from, notice.clone()) != Some(notice) {
            drop(heard);
            self.news.send_modify(|count| *count = count.wrapping_add(1));
        }
        true
    }

    /// The last notice of each of the others, by their keys.
    pub(crate) fn heard(&self) -> Vec<([u8; 32], Bytes)> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().map(|(from, notice)| (*from, notice.clone())).collect()
    }

    /// Changes whenever somebody says something new.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_each_is_kept_and_what_is_too_long_is_not() {
        let (ann, ben) = (Notices::new(), Notices::new());
        let mut news = ben.news();
        ann.say(&[1; MAX_NOTICE + 1]);
        assert!(ann.own().borrow().is_none());
        for word in [&b"here"[..], b"there", b"there"] {
            ann.say(word);
            let sent = ann.own().borrow().clone().unwrap();
            assert!(ben.hear([7; 32], Notices::read(&sent).unwrap()));
        }
        assert_eq!(ben.heard(), [([7; 32], Bytes::from_static(b"there"))]);
        assert_eq!(*news.borrow_and_update(), 2, "the same again is no news");
        assert!(!ben.hear([7; 32], Bytes::from(vec![1; MAX_NOTICE + 1])));
        assert_eq!(Notices::read(&Bytes::from_static(b"pasture notice 2\nx")), None);
        for n in 0..MAX_SENDERS as u64 {
            let key: [u8; 32] = std::array::from_fn(|at| n.to_le_bytes().get(at).copied().unwrap_or(1));
            ben.hear(key, Bytes::new());
        }
        assert_eq!(ben.heard().len(), MAX_SENDERS);
        assert!(ben.hear([7; 32], Bytes::from_static(b"known")) && !ben.hear([9; 32], Bytes::new()));
    }
}
