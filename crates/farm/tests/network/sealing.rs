//! What a job said and left is its user's alone: not on the machine's disk once it has ended, not for another key, and nobody changes it unseen.

use crate::secrets::holding;
use crate::support::{Folder, Net, Options, SMALL, User, eventually, shared, until};
use futures::StreamExt as _;
use pasture_api::client::LeaseClient;
use pasture_rt::{Clock as _, SystemClock};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

const IMAGE: &str = "pasture/busybox:1";
const ENDED_WITHIN: Duration = Duration::from_secs(300);
/// The job makes the word itself, so that its description does not hold it.
const WORD: &str = "xylem-4c1d-only-for-the-reader";
const SCRIPT: &str = "w=$(echo ylem-4c1d-only-for-the-reader | sed s/^/x/); echo $w; echo oh $w >&2; echo $w > $FARM_OUTPUT_DIR/word";

fn run(user: &User, name: &str) {
    let args = [&["run", IMAGE, "--name", name][..], &SMALL, &["--", "sh", "-c", SCRIPT]].concat();
    let done = user.start(&args).finish(ENDED_WITHIN).exits(0);
    assert!(done.stdout.contains(WORD) && done.stderr.contains(&format!("oh {WORD}")), "{}", done.all());
}

#[test]
fn what_an_ended_job_said_and_left_opens_for_its_user_and_is_nowhere_in_the_clear() {
    let net = Net::start(Options::default());
    let user = net.user();
    run(&user, "teller");
    until("its container is gone", || net.engine.leftovers(net.node()).is_empty());
    assert_eq!(holding(&net.data(), WORD.as_bytes()), [] as [PathBuf; 0], "on the machine's disk");
    assert!(!net.log().contains(WORD), "in the machine's own log");
    let kept = net.data().join("provider/provider/leases").join(user.lease().id.to_string());
    for name in ["log", "output.sealed"] {
        assert!(kept.join(name).metadata().unwrap().len() > 100, "it is kept: {name}");
    }

    let log = user.farm(&["logs", "teller"]).exits(0);
    assert_eq!((log.stdout.as_str(), log.stderr.as_str()), (format!("{WORD}\n").as_str(), format!("oh {WORD}\n").as_str()));
    let lines: Vec<serde_json::Value> =
        user.farm(&["logs", "teller", "--json"]).exits(0).stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let out = user.home().join("out");
    let _ = user.farm(&["cp", "teller:word", out.to_str().unwrap()]).exits(0);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), format!("{WORD}\n"));

    // Whoever changes what is kept is found out, wherever it is.
    for (name, args, code) in [("log", &["logs", "teller"][..], "bad-log"), ("output.sealed", &["cp", "teller:.", "again"], "bad-output")] {
        let path = kept.join(name);
        let good = std::fs::read(&path).unwrap();
        for at in [40, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, bad).unwrap();
            let told = user.farm(args).exits(125);
            // What says whose a segment is may be what was hit.
            assert!(told.all().contains(code) || told.all().contains("sealed-for-another"), "byte {at}: {}", told.all());
        }
        std::fs::write(&path, good).unwrap();
    }
    let _ = user.farm(&["logs", "teller"]).exits(0);
}

#[test]
fn another_key_does_not_open_it_and_says_so() {
    let user = shared().stranger().with_credits();
    let secret = user.home().join("passphrase");
    std::fs::write(&secret, "several words are best\n").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let _ = user.farm(&["--passphrase-file", secret.to_str().unwrap(), "keys", "lock", "--daily", "20"]).exits(0);
    run(&user, "closed");
    // The machine lets this device in; its key for reading is another one.
    let device = user.home().join("device.key");
    let own = std::fs::read_to_string(&device).unwrap();
    let vault = serde_json::from_str::<serde_json::Value>(&own).unwrap()["vault"].as_str().unwrap().to_owned();
    std::fs::write(&device, own.replace(&vault, &"5a".repeat(32))).unwrap();
    for args in [&["logs", "closed"][..], &["cp", "closed:.", "out"]] {
        let done = user.farm(args).exits(125).says(&["sealed for another key", "sealed-for-another", "FARM_HOME"]);
        assert!(!done.all().contains(WORD));
    }
    std::fs::write(&device, own).unwrap();
    let _ = user.farm(&["logs", "closed"]).exits(0).says(&[WORD]);
}

/// What the machine says of a user's lease, as whoever passes it on sees it: the status, and what is said first to who follows.
fn as_it_travels(user: &User) -> [String; 2] {
    let lease = user.lease();
    user.api(async |api| {
        let client = LeaseClient::new(api.clone(), user.key(), lease.id, lease.node, || SystemClock.now_ms());
        let status = client.status().await?;
        let first = client.events().await?.next().await.expect("it says how it is")?;
        Ok([serde_json::to_string(&status).unwrap(), serde_json::to_string(&first).unwrap()])
    })
}

#[test]
fn what_happened_to_a_job_is_its_users_to_read() {
    let net = Net::start(Options::default());
    let user = net.user();
    let folder = Folder::script("patient", "trap 'exit 0' TERM; echo a first line; while true; do sleep 0.1; done");
    folder.write(
        "farm.yaml",
        "type: service\nresources: {cpu: 0.2, memory: 32Mi, disk: 64Mi}\nhealth:\n  interval: 500ms\n  retries: 2\n  exec: \
         [sh, -c, 'echo ylem-4c1d-only-for-the-reader | sed s/^/x/ >&2; exit 3']\n",
    );
    let _ = user.farm(&["run", folder.arg(), "-d"]).exits(0);
    let said = format!("its health check failed: exit code 3: {WORD}; restart 1 in");
    let machine = eventually("it was unwell and is started again", ENDED_WITHIN, || {
        let machine = user.farm(&["status", "patient", "--json"]).exits(0).json()["machine"].clone();
        (machine["restarts"].as_u64() >= Some(1) && machine["phase"] == "running").then_some(machine)
    });
    let told = machine["history"].as_array().unwrap().iter().any(|event| event["text"].as_str().unwrap().contains(&said));
    assert!(told, "{machine}");
    let _ = user.farm(&["status", "patient"]).exits(0).says(&[&said]);
    // The machine and who stands between it and the user: kinds, codes and times, and no word of what happened.
    for travelling in as_it_travels(&user) {
        assert!(travelling.contains("\"sealed\":") && travelling.contains("\"restarts\":"), "{travelling}");
        for word in [WORD, "health check", "started again", "restart 1"] {
            assert!(!travelling.contains(word), "{word}: {travelling}");
        }
    }
    assert_eq!(holding(&net.data(), WORD.as_bytes()), [] as [PathBuf; 0], "on the machine's disk while it runs");

    let _ = user.farm(&["stop", "patient"]).exits(0);
    until("its container is gone", || net.engine.leftovers(net.node()).is_empty());
    let _ = user.farm(&["logs", "patient"]).exits(0).says(&["a first line", &format!("[farm] the job stopped, since {said}")]);
    for word in [WORD, "health check failed"] {
        assert_eq!(holding(&net.data(), word.as_bytes()), [] as [PathBuf; 0], "on the machine's disk");
    }
    assert!(!net.log().contains(WORD), "in the machine's own log");
    // Its user reads it also after the end, when all is paid.
    let _ = user.settled();
    let _ = user.farm(&["status", "patient"]).exits(0).says(&[&said]);
    let kept = net.data().join("provider/provider/leases").join(user.lease().id.to_string());
    let (state, mark) = (std::fs::read_to_string(kept.join("state")).unwrap(), std::fs::read_to_string(kept.join("log.mark")).unwrap());
    assert!(state.contains("\"history\":[{\"at\":") && mark.contains("\"first_sum\":0"), "{state}\n{mark}");
}
