//! A validator of four comes back from an old backup while the others go on.

use crate::elections::{key, kill, listed, stop};
use crate::operate::{arg, found, passphrase};
use crate::support::{PATIENCE, Running, Signal, User, ask, eventually, until};
use crate::validators::{head, run_validator};
use serde_json::Value;
use std::time::Duration;

/// The restored one waits a minute, then for the engine's next term of 64 blocks.
const NEXT_TERM: Duration = Duration::from_secs(480);

/// Proposer and ledger time of a block.
fn block(url: &str, height: u64) -> (String, u64) {
    let block = ask(url, async |api| api.block(height).await).unwrap();
    (block.proposer, block.time.0)
}

#[test]
fn a_restored_validator_follows_at_once_and_signs_from_the_next_term_on() {
    let nobody = User::new("http://127.0.0.1:1".into());
    let (dirs, _) = found(&nobody, 4, &["--dev"]);
    let mut running: Vec<(Running, String)> = dirs.iter().map(|dir| run_validator(&nobody, dir, 0)).collect();
    let url = running[0].1.clone();
    until("the first blocks", || head(&url).height.0 > 3);
    let own = key(&nobody, &dirs[3]);

    // A backup, after which it signs on.
    stop(vec![running.pop().unwrap()]);
    let secret = passphrase(&nobody, "secret", "correct horse battery\n");
    let (file, data) = (arg(&nobody.home().join("v3.backup")), arg(&dirs[3]));
    let _ = nobody.farm(&["--passphrase-file", &secret, "backup", &file, "--data", &data]).exits(0);
    let saved = head(&url).height.0;
    let (again, _) = run_validator(&nobody, &dirs[3], 0);
    let mut looked = saved;
    until("it proposed blocks that the backup does not know", || {
        let to = head(&url).height.0;
        let found = (looked + 1..=to).any(|height| block(&url, height).0 == own);
        looked = to;
        found
    });
    // The machine is lost.
    kill(again);
    std::fs::rename(&dirs[3], nobody.home().join("lost")).unwrap();

    let to = nobody.home().join("new");
    let restored = nobody.farm(&["--passphrase-file", &secret, "restore", &file, "--data", &arg(&to), "--json"]).exits(0).json();
    let votes_after = restored["votes_after"].as_u64().unwrap_or_else(|| panic!("{restored}"));
    let back = head(&url).height.0;
    let (restored, restored_url) = run_validator(&nobody, &to, 0);
    until("it follows", || head(&restored_url).height.0 > back);
    assert!(block(&url, head(&restored_url).height.0).1 < votes_after, "it took the whole wait to follow");
    assert_eq!(listed(&nobody, &restored_url)["this"]["certifies"], Value::Bool(true));

    // Its next own block, by a node that never was away.
    let mut looked = back;
    let first = eventually("it proposes again", NEXT_TERM, || {
        let to = head(&url).height.0;
        let found = (looked + 1..=to).find(|height| block(&url, *height).0 == own);
        looked = to;
        found
    });
    let time = block(&url, first).1;
    assert!(time > votes_after, "block {first} of {time} is before {votes_after}");
    // Nobody saw it contradict itself, and none of them fell over it.
    running.push((restored, restored_url));
    for (running, url) in &running {
        assert!(!running.stderr().contains("contradicted"), "{url}: {}", running.stderr());
        assert!(head(url).height.0 >= first);
    }
    let all = listed(&nobody, &url);
    assert!(all["validators"].as_array().unwrap().iter().all(|v| v["suspended"].is_null()), "{all}");
    for (running, _) in running {
        running.signal(Signal::TERM);
        let done = running.finish(PATIENCE);
        assert_eq!(done.code, 0, "{}", done.all());
    }
}
