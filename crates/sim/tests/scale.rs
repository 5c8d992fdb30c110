//! Many nodes and leases on the ledger, in small: all leases are open at once, all are settled, a seed repeats a run.
#![cfg(test)]

use pasture_sim::scale::{Fair, Scale, Size};

fn run(seed: u64) -> Scale {
    Fair::new(Size { nodes: 120, leases: 600, seed }).run(&mut |_| {}).unwrap()
}

#[test]
fn all_leases_are_open_at_once_and_all_are_settled() {
    let scale = run(1);
    assert_eq!((scale.leases, scale.open_at_once), (600, 600), "{scale:#?}");
    assert!(scale.paid > 500 && scale.paid < 600, "most nodes prove and some do not: {scale:#?}");
    assert!(scale.checks >= 8 && scale.ordering.contains("oracle"), "{scale:#?}");
    assert_eq!(scale, run(1));
    assert_ne!(scale, run(2));
}
