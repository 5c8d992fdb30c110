//! What a client follows from one set of validators to the next, and what it keeps of that. Nothing made from a sound handover by
//! changing it may lead anywhere else.

use crate::light::handover;
use pasture_light::{Checkpoint, Handover, ValidatorSet};
use std::sync::LazyLock;

static FIRST: LazyLock<Checkpoint> =
    LazyLock::new(|| Checkpoint::genesis(ValidatorSet::decode(&handover("validators")).expect("a frozen set"), 1_000, 1_814_400_000));

/// Takes one input; a broken promise panics.
pub fn run(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    match which % 2 {
        0 => {
            let Ok(shown) = Handover::decode(data) else { return };
            assert_eq!(shown.encode(), data, "a second encoding of the same handover");
            if let Ok(next) = FIRST.follow(&shown) {
                assert_eq!(data, handover("handover"), "another handover than the one that was signed");
                assert_eq!((next.since(), next.validators()), (7, &shown.next));
            }
        }
        _ => {
            let Ok(kept) = Checkpoint::decode(data) else { return };
            assert_eq!(kept.encode(), data, "a second encoding of the same checkpoint");
            assert_eq!(kept.outlived(kept.seen_ms()), None);
            assert!(kept.clone().seen(kept.seen_ms().saturating_sub(1)).seen_ms() == kept.seen_ms());
            // The holder of such a checkpoint believes nobody whom it does not name.
            if let Ok(next) = kept.follow(&Handover::decode(&handover("handover")).expect("the frozen one")) {
                assert_eq!(kept.validators(), FIRST.validators());
                assert!(next.since() > kept.since());
            }
        }
    }
}
