//! A main key behind a passphrase, and a device's key within a daily limit.

use crate::support::{Done, Folder, User, paid, shared, until};
use pasture_api::client::LeaseClient;
use pasture_api::{ApiError, GrantView};
use pasture_rt::{Clock as _, SystemClock};
use pasture_types::event::ConfirmedBy;
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, TxBody};
use pasture_types::{AccountId, Amount, AssetId, OrderId, SigningKey, Timestamp};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const LASTING: &str = "trap 'exit 0' TERM; n=0; while true; do n=$((n+1)); echo line $n; sleep 0.1; done";

/// Somebody with a passphrase that lies in a file outside of their folder.
struct Careful {
    user: User,
    secret: TempDir,
}

impl Careful {
    fn new() -> Self {
        let careful = Self { user: shared().stranger().with_credits(), secret: tempfile::tempdir().unwrap() };
        let _ = careful.write("right", "several words are best\n");
        let _ = careful.write("wrong", "several words are worst\n");
        careful
    }
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.secret.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
    /// A command with one of the passphrase files.
    #[track_caller]
    fn with(&self, name: &str, args: &[&str]) -> Done {
        let file = self.secret.path().join(name);
        self.user.farm(&[&["--passphrase-file", file.to_str().unwrap()], args].concat())
    }
    #[track_caller]
    fn lock(&self, daily: &str) -> Done {
        self.with("right", &["keys", "lock", "--daily", daily]).exits(0)
    }
    fn device(&self) -> SigningKey {
        let text = std::fs::read_to_string(self.user.home().join("device.key")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut seed = [0; 32];
        hex::decode_to_slice(json["seed"].as_str().unwrap(), &mut seed).unwrap();
        SigningKey::from_seed(seed)
    }
    /// What `farm keys` says of this device.
    #[track_caller]
    fn shown(&self) -> serde_json::Value {
        let keys = self.user.farm(&["keys", "--json"]).exits(0).json();
        assert_eq!(keys["main"]["locked"], true, "{keys}");
        assert_eq!(keys["devices"][0]["this"], true, "{keys}");
        keys["devices"][0].clone()
    }
    fn grants(&self) -> Vec<GrantView> {
        let id = self.user.account();
        self.user.api(async |api| api.grants(&id).await)
    }
    /// What a thief of the device's key is answered where a job runs.
    fn stolen(&self, device: &SigningKey) -> Result<(), ApiError> {
        let lease = self.user.lease();
        let now = || SystemClock.now_ms();
        self.user.try_api(async |api| {
            let client = LeaseClient::new(api.clone(), device.clone(), lease.id, lease.node, now);
            client.sealing_key().await.map(|_| ())
        })
    }
}

fn text(amount: Amount) -> String {
    format!("{}.{:09}", amount.0 / 1_000_000_000, amount.0 % 1_000_000_000)
}

/// Every file below a folder.
fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap()) {
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), out);
        } else {
            out.push(entry.path());
        }
    }
}

/// Whether a key lies in the clear in any file of a folder, as bytes or as text.
fn lies_open(dir: &Path, seed: &[u8; 32]) -> bool {
    let mut all = vec![];
    files(dir, &mut all);
    assert!(!all.is_empty(), "{all:?}");
    let (bytes, digits) = (seed.as_slice(), hex::encode(seed));
    all.iter().map(|path| std::fs::read(path).unwrap()).any(|content| {
        let text = String::from_utf8_lossy(&content).to_lowercase();
        content.windows(bytes.len()).any(|w| w == bytes) || text.contains(&digits)
    })
}

fn seed(user: &User) -> [u8; 32] {
    let mut seed = [0; 32];
    let text = std::fs::read_to_string(user.home().join("account.key")).unwrap();
    hex::decode_to_slice(text.trim(), &mut seed).unwrap();
    seed
}

#[test]
fn daily_commands_go_on_with_the_devices_key_and_nothing_else_does() {
    let careful = Careful::new();
    let (user, main) = (&careful.user, seed(&careful.user));
    // Before there is a passphrase nothing is different.
    assert!(lies_open(user.home(), &main));
    assert_eq!(user.farm(&["keys", "--json"]).exits(0).json()["devices"], serde_json::json!([]));
    assert!(!user.home().join("device.key").exists());
    let account = user.account();
    let _ = user.farm(&["keys", "lock"]).exits(125).says(&["locked", "nobody can be asked"]);
    let _ = careful.lock("5").says(&["locked", "5.0000 cr"]);
    assert_eq!(user.account(), account);
    assert!(!lies_open(user.home(), &main), "the main key is nowhere in the clear");
    let _ = careful.lock("7").says(&["locked already"]);

    let before = user.books();
    let name = Folder::script("by-device", LASTING);
    let mut running = user.start_run(&name, &[]);
    running.shows("line 5");
    let device = careful.device();
    let lease = user.lease();
    assert_eq!((lease.account, lease.tenure.watcher), (account, Some(device.account())));
    let _ = user.farm(&["ps"]).exits(0).says(&["by-device"]);
    let _ = user.farm(&["logs", "by-device"]).exits(0).says(&["line 3"]);
    let _ = user.farm(&["exec", "by-device", "--", "echo", "seen from inside"]).exits(0).says(&["seen from inside"]);
    until("the service is confirmed while it runs", || user.lease().confirmed_ms.0 > 0);
    let _ = user.farm(&["stop", "by-device"]).exits(0);
    let _ = running.finish(crate::support::PATIENCE).exits(143).says(&["confirmed by your watcher this device"]);
    let (lease, settlement) = user.settled();
    let _ = paid(&lease);
    assert_eq!(settlement.confirmed_by, ConfirmedBy::Watcher(device.account()), "{settlement:?}");
    let _ = user.farm(&["receipt", "by-device"]).exits(0).says(&["confirmed by your watcher this device"]);

    // The limit counts what was put on hold, and the fees.
    let shown = careful.shown();
    let left = Amount(shown["left"].as_str().unwrap().parse().unwrap());
    assert!(left <= Amount::credits(5).saturating_sub(lease.escrow), "{shown}");
    assert!(user.books().free < before.free);

    // Whatever moves money away or lends rights asks for the main key.
    let friend = shared().stranger().with_credits().account().to_string();
    let books = user.books();
    for refused in [&["account", "transfer", &friend, "1", "-y"][..], &["invite", "--credits", "1"], &["account", "revoke", "abcd"]] {
        let _ = user.farm(refused).exits(125);
    }
    let _ = user.farm(&["account", "transfer", &friend, "1", "-y"]).exits(125).says(&["farm error locked", "--passphrase-file"]);
    let _ = careful.with("wrong", &["account", "transfer", &friend, "1", "-y"]).exits(125).says(&["wrong-passphrase"]);
    assert_eq!(user.books(), books);
    let _ = careful.with("right", &["account", "transfer", &friend, "1", "-y"]).exits(0).says(&["paid 1"]);

    let _ = careful.with("wrong", &["keys", "unlock"]).exits(125).says(&["wrong-passphrase"]);
    let _ = careful.with("right", &["keys", "unlock"]).exits(0);
    assert_eq!((seed(user), careful.grants().len()), (main, 0));
    assert!(!user.home().join("device.key").exists());
}

#[test]
fn secrets_volumes_and_what_was_deployed_before_are_reached_while_it_is_locked() {
    let careful = Careful::new();
    let user = &careful.user;
    let value = careful.write("value", "known to the job");
    let _ = user.farm(&["secret", "set", "token", "--from-file", value.to_str().unwrap()]).exits(0);
    let service = "image: 'pasture/busybox:1', resources: {cpu: 0.1, memory: 16Mi, disk: 16Mi}, \
                   command: [sh, -c], args: [\"trap 'exit 0' TERM; while true; do sleep 0.1; done\"]";
    let folder = Folder::new("older", &[("farm.yaml", &format!("services:\n  web: {{{service}}}\n"))]);
    let _ = user.farm(&["deploy", folder.arg()]).exits(0);
    let before = user.lease();
    assert_eq!(before.tenure.watcher, None);
    let _ = careful.lock("5");
    // A job that was begun before gets this device as its watcher, and is confirmed by it.
    let mut deploying = user.start(&["deploy", folder.arg(), "--wait"]);
    until("the device watches and confirms", || {
        assert!(deploying.ended().is_none(), "{}", deploying.stderr());
        let lease = user.lease();
        lease.tenure.watcher == Some(careful.device().account()) && lease.confirmed_ms > before.confirmed_ms
    });
    assert_eq!(user.lease().id, before.id);
    let _ = user.farm(&["stop", "older"]).exits(0);
    drop(deploying);
    let job = ["run", "pasture/busybox:1", "--name", "knowing", "--secret", "token", "--volume", "data:/data:16Mi"];
    let script = ["--", "sh", "-c", "grep -q 'known to the job' /run/secrets/token && echo it knows; echo kept > /data/a"];
    let _ = user.farm(&[&job[..], &crate::support::SMALL[..], &script[..]].concat()).exits(0).says(&["it knows"]);
    let _ = user.settled();
    let _ = user.farm(&["volume", "ls"]).exits(0).says(&["data"]);
    let _ = user.farm(&["volume", "rm", "data"]).exits(0);
}

#[test]
fn above_the_limit_the_passphrase_renews_it_and_without_one_nothing_happens() {
    let careful = Careful::new();
    let user = &careful.user;
    let _ = careful.lock("5");
    let _ = user.run(&Folder::script("first", "echo done"), &[]).exits(0);
    let (lease, _) = user.settled();
    // Room for one such job a day, and not for two.
    let daily = text(Amount(lease.escrow.0 * 3 / 2 + 1_000_000));
    let _ = user.farm(&["keys", "device", "--daily", &daily]).exits(125).says(&["farm error locked"]);
    let _ = careful.with("right", &["keys", "device", "--daily", &daily]).exits(0);
    let _ = user.run(&Folder::script("second", "echo done"), &[]).exits(0);
    let _ = user.settled();
    let (books, jobs) = (user.books(), user.jobs().len());
    let folder = Folder::script("third", "echo done");
    let _ = user.run(&folder, &[]).exits(125).says(&["farm error daily-limit", "left for this device", "--passphrase-file"]);
    assert_eq!((user.books(), user.jobs().len()), (books, jobs), "nothing was ordered and nothing charged");
    let old = careful.shown()["grant"].clone();
    let _ = careful.with("right", &[&["run", folder.arg()], &crate::support::SMALL[..]].concat()).exits(0).says(&["done"]);
    let _ = user.settled();
    assert_ne!(careful.shown()["grant"], old, "the right was renewed");
    // More than a whole day's limit is for the main key alone, and confirmed all the same.
    let big = Folder::script("big", "echo big done");
    let _ = careful.with("right", &["keys", "device", "--daily", "0.0001"]).exits(0);
    let _ = user.run(&big, &[]).exits(125).says(&["farm error daily-limit"]);
    let _ = careful.with("right", &[&["run", big.arg()], &crate::support::SMALL[..]].concat()).exits(0).says(&["big done"]);
    let (_, settlement) = user.settled();
    assert_eq!(settlement.confirmed_by, ConfirmedBy::User, "{settlement:?}");
}

#[test]
fn a_lost_devices_right_is_taken_back_on_the_ledger_and_where_jobs_run() {
    let careful = Careful::new();
    let user = &careful.user;
    let _ = careful.lock("5");
    let _ = user.run(&Folder::script("left", LASTING), &["-d"]).exits(0);
    let stolen = careful.device();
    let shown = careful.shown();
    let (grant, key) = (careful.grants()[0].id, shown["key"].as_str().unwrap().to_owned());
    until("the machine takes the device's word", || careful.stolen(&stolen).is_ok());
    assert!(careful.stolen(&SigningKey::from_seed([1; 32])).is_err(), "and not anybody's");
    let _ = user.farm(&["keys", "revoke", &key]).exits(125).says(&["farm error locked"]);
    let _ = careful.with("right", &["keys", "revoke", "ffffffff"]).exits(125).says(&["no-such-key"]);
    let _ = careful.with("right", &["keys", "revoke", &key]).exits(0).says(&["has no right", "new key"]);
    assert!(careful.grants().is_empty());
    // On the ledger at once.
    let status = user.api(async |api| api.status().await);
    let body = TxBody {
        version: ENVELOPE_VERSION,
        zone: status.zone,
        account: user.account(),
        auth: Auth::Delegated(grant),
        lane: 0,
        seq: 0,
        valid_until: Timestamp(status.time.0 + 60_000),
        max_fee: Amount::credits(1),
        tip: Amount::ZERO,
        fee_asset: AssetId::CREDIT,
        fee_payer: None,
        actions: vec![Action::CancelOrder { order: OrderId([1; 32]) }],
    };
    let refused = user.try_api(async |api| api.submit(&body.sign(&stolen)).await).unwrap_err();
    assert_eq!(refused.problem().and_then(|p| p.ledger_code), Some(40), "{refused}");
    // Where the job runs, once its machine has looked again.
    until("the machine refuses", || careful.stolen(&stolen).is_err_and(|e| e.problem().is_some_and(|p| p.status == 403)));
    assert_eq!(user.lease().tenure.watcher, None, "it watches nothing any more");
    // The device that is here goes on with a new key after the passphrase.
    assert_ne!(careful.device().public(), stolen.public());
    let _ = user.farm(&["stop", "left"]).exits(125).says(&["farm error daily-limit", "right to act"]);
    let _ = careful.with("right", &["keys", "device"]).exits(0);
    until("the machine takes the new key's word", || careful.stolen(&careful.device()).is_ok());
    let _ = user.farm(&["stop", "left"]).exits(0);
    let _ = user.farm(&["logs", "left"]).exits(0).says(&["line 1"]);
    let _ = user.settled();
}

#[test]
fn a_copy_brings_the_key_back_and_replaces_no_other() {
    let careful = Careful::new();
    let (user, main) = (&careful.user, seed(&careful.user));
    let copy = careful.secret.path().join("copy.key");
    let copy = copy.to_str().unwrap();
    // Of an open key, with a passphrase of its own.
    let _ = careful.with("right", &["keys", "backup", copy]).exits(0).says(&["encrypted copy", "you chose"]);
    let text = std::fs::read_to_string(copy).unwrap();
    assert!(text.starts_with("# Pasture: an encrypted copy") && !text.contains(&hex::encode(main)));
    let _ = careful.with("right", &["keys", "backup", copy]).exits(125).says(&["exists"]);
    assert_eq!(seed(user), main, "a copy changes nothing");
    let other = Careful::new();
    let theirs = seed(&other.user);
    let refused = other.with("right", &["keys", "restore", copy]).exits(125).says(&["other-key", "--force"]);
    assert!(!refused.all().contains("passphrase:"));
    let _ = other.with("wrong", &["keys", "restore", copy, "--force"]).exits(125).says(&["wrong-passphrase"]);
    assert_eq!(seed(&other.user), theirs);
    let _ = other.with("right", &["keys", "restore", copy, "--force"]).exits(0).says(&["lies in"]);
    assert_eq!(other.user.account(), user.account());
    let kept = std::fs::read_to_string(other.user.home().join("account.key.replaced-1")).unwrap();
    assert_eq!(kept.trim(), hex::encode(theirs));
    // A newcomer's machine: nothing is there yet.
    let fresh = shared().stranger();
    std::fs::remove_file(fresh.home().join("account.key")).unwrap_or_default();
    let file = careful.secret.path().join("right");
    let _ = fresh.farm(&["keys", "restore", copy, "--passphrase-file", file.to_str().unwrap()]).exits(0);
    let _ = fresh.farm(&["keys", "unlock", "--passphrase-file", file.to_str().unwrap()]).exits(0);
    assert_eq!(seed(&fresh), main);
    // A copy that was cut is said to be, whatever the passphrase.
    std::fs::write(copy, &text[..text.len() - 30]).unwrap();
    let _ = careful.with("right", &["keys", "restore", copy]).exits(125).says(&["damaged"]);
}

#[test]
fn a_passphrase_is_changed_and_typed_at_a_terminal() {
    let careful = Careful::new();
    let (user, main) = (&careful.user, seed(&careful.user));
    let mut asked = user.on_terminal(&["keys", "lock", "--daily", "3"]);
    asked.shows("New passphrase for your main key: ");
    asked.type_in("open sesame\n");
    asked.shows("The same once more: ");
    asked.type_in("open sesame\n");
    let _ = asked.finish(crate::support::PATIENCE).exits(0).says(&["is locked", "of 3.0000 cr left"]);
    let _ = careful.with("right", &["keys", "unlock"]).exits(125).says(&["wrong-passphrase"]);
    let old = careful.write("old", "open sesame\n");
    let new = careful.secret.path().join("right");
    let change = ["keys", "passphrase", "--new-passphrase-file", new.to_str().unwrap()];
    let _ = careful.with("wrong", &change).exits(125);
    let _ = careful.with("old", &change).exits(0).says(&["changed"]);
    let _ = careful.with("old", &["keys", "unlock"]).exits(125).says(&["wrong-passphrase"]);
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o644)).unwrap();
    let _ = careful.with("old", &["keys", "unlock"]).exits(125).says(&["can be read by others"]);
    let mut asked = user.on_terminal(&["keys", "unlock"]);
    asked.shows("Passphrase of your main key: ");
    asked.type_in("a slip\n");
    asked.shows("that is not it");
    asked.type_in("several words are best\n");
    let _ = asked.finish(crate::support::PATIENCE).exits(0);
    assert_eq!(seed(user), main);
    let _: AccountId = user.account();
}
