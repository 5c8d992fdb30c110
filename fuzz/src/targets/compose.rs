//! A file with several services, ours or docker compose's: it is read or refused, and what was read can be run in an order.

use pasture_jobfile::{Kind, MAX_SERVICES, Text, checked, is_name, order, read};

/// Takes one input; a broken promise panics. The first byte says as which kind of file it is read.
pub fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let kind = if first % 2 == 0 { Kind::Compose } else { Kind::Job };
    match read(&Text { text, name: "folder", kind }, None) {
        Ok(asked) => {
            assert!(is_name(&asked.name) && (1..=MAX_SERVICES).contains(&asked.services.len()));
            let specs = checked(&asked.services).expect("what was read is checked");
            let order = order(&specs).expect("what was read has an order");
            for (place, name) in order.iter().enumerate() {
                assert!(specs[name].fleet.depends_on.keys().all(|d| order[..place].contains(d)));
            }
            assert!(asked.notes.iter().all(|n| !n.is_empty() && !n.contains('\u{1b}')));
        }
        Err(e) => assert!(!e.problem.is_empty() && e.line >= 1 && e.line <= text.lines().count().max(1)),
    }
}
