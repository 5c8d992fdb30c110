//! How failures are printed: each kind as people see it, word by word, in `golden/errors.txt`.
//!
//! What differs from run to run (folders, addresses, ids, amounts) is replaced by a word. `FARM_GOLDEN=write` writes the file anew,
//! to be read before it is committed.

use crate::support::{Done, Folder, Net, Options, User};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A machine, lease or account that nobody has.
const NOBODY: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/network/golden/errors.txt")
}

/// A text without what differs from run to run.
fn steady(text: &str, user: &User, folders: &[&Folder]) -> String {
    let mut text = text.replace(user.home().to_str().unwrap(), "HOME");
    for folder in folders {
        text = text.replace(folder.arg(), &format!("/tmp/{}", folder.path().file_name().unwrap().to_str().unwrap()));
    }
    let mut out = String::new();
    for line in text.lines() {
        let words = line.split(' ').map(|word| {
            let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
            let hex = bare.len() >= 8 && bare.bytes().all(|b| b.is_ascii_hexdigit()) && bare.bytes().any(|b| b.is_ascii_digit());
            let amount = bare.contains('.') && bare.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            match (hex && bare != NOBODY, amount) {
                (true, _) => word.replace(bare, "ID"),
                (_, true) => word.replace(bare, "N"),
                _ if bare.starts_with("http://127.0.0.1:") => word.replace(bare, "URL"),
                _ => word.to_string(),
            }
        });
        out.push_str(words.collect::<Vec<_>>().join(" ").trim_end());
        out.push('\n');
    }
    out
}

struct Shown {
    text: String,
    codes: BTreeSet<String>,
}

impl Shown {
    /// Notes what a command that fails printed.
    #[track_caller]
    fn note(&mut self, args: &[&str], done: &Done, user: &User, folders: &[&Folder]) {
        assert!(done.code != 0, "{args:?} was to fail\n{}", done.all());
        assert_eq!(done.stdout, "", "{args:?}: data of a failure");
        let said = steady(&done.stderr, user, folders);
        assert!(!said.contains('\u{1b}'), "colour in a pipe: {said}");
        let code = said.lines().find_map(|line| line.split_once("farm error ").map(|(_, code)| code.trim().to_string()));
        if let Some(code) = &code {
            assert!(said.contains("  charged: "), "{args:?}: what was charged is said\n{said}");
            assert!(said.contains('✗'), "{said}");
            self.codes.insert(code.clone());
        } else {
            // The parser of the command line speaks for itself.
            assert_eq!(done.code, 2, "{args:?}: no code is named\n{said}");
        }
        let line = steady(&args.join(" "), user, folders);
        self.text.push_str(&format!("$ farm {}\n{said}exit code {}\n\n", line.trim_end(), done.code));
    }
}

#[test]
fn each_failure_says_what_is_wrong_what_to_do_what_was_charged_and_its_code() {
    let net = Net::start(Options { cpu: "1".into(), memory: "256Mi".into(), ..Options::default() });
    let user = net.stranger().with_credits();
    let bare = Folder::new("bare", &[("notes.txt", "x")]);
    let bad = Folder::new("bad-spec", &[("Dockerfile", "FROM pasture/busybox:1\n"), ("farm.yaml", "name: x\nresources:\n  cpu: many\n")]);
    let good = Folder::script("good", "true");
    let node = Folder::new("node", &[("package.json", "{ \"name\": ")]);
    let folders = [&bare, &bad, &good, &node];
    let mut shown = Shown { text: String::new(), codes: BTreeSet::new() };
    let commands: Vec<Vec<&str>> = vec![
        vec!["status", "nothing-like-it"],
        vec!["receipt", "nothing-like-it"],
        vec!["run", "/no/such/folder"],
        vec!["run", bare.arg()],
        vec!["run", bad.arg()],
        vec!["run", good.arg(), "--memory", "64Mi", "--gpu", "H100:1"],
        vec!["secret", "rm", "nothing-like-it"],
        vec!["run", good.arg(), "--timeout", "soon"],
        vec!["run", good.arg(), "--cpu", "64"],
        vec!["run", good.arg(), "--memory", "64Mi", "--region", "the-moon"],
        vec!["run", good.arg(), "--memory", "64Mi", "--budget", "0.0000001"],
        vec!["run", good.arg(), "--memory", "64Mi", "--timeout", "100h"],
        vec!["account", "transfer", NOBODY, "100000"],
        vec!["account", "transfer", "nobody", "1"],
        vec!["account", "claim", "pasture-invite-nonsense"],
        vec!["account", "revoke", "abcdef01"],
        vec!["invite", "--credits", "100000"],
        vec!["invite", "revoke", "abcdef01"],
        vec!["offers", "no-such-machine"],
        vec!["deposit"],
        vec!["deposit", "back", "1"],
        vec!["deposit", "add", "1"],
        vec!["vote", "cast", "4711", "yes"],
        vec!["watch", NOBODY],
        vec!["ledger", "get", "node", NOBODY],
        vec!["ledger", "get", "zzz"],
        vec!["context", "use", "nowhere"],
        vec!["pause"],
        vec!["down"],
        vec!["drain", "--data", "/no/such/folder"],
        vec!["init", bare.arg()],
        vec!["init", node.arg()],
        vec!["error", "no-such"],
        vec!["herd", "status", "nothing-like-it"],
        vec!["validator", "deposit", NOBODY, "1"],
        vec!["validator", "register", "--data", "/no/such/folder", "--deposit", "10"],
        vec!["validator", "status", "0123456789abcdef"],
        vec!["backup", "/no/such/file", "--data", "/no/such/folder"],
        vec!["run", "--no-such-flag"],
        vec!["ledger", "replay", "--data", "/no/such/folder"],
    ];
    for args in &commands {
        let done = user.farm(args);
        shown.note(args, &done, &user, &folders);
    }
    let mut command = user.command(&["offers", "--api-url", "http://127.0.0.1:9"]);
    command.env_remove("FARM_API_URL");
    let done = crate::support::Running::start(command).finish(crate::support::PATIENCE);
    shown.note(&["offers", "--api-url", "http://127.0.0.1:9"], &done, &user, &folders);

    let path = golden();
    #[allow(clippy::disallowed_methods, reason = "whoever changes what is shown says so from outside")]
    if std::env::var("FARM_GOLDEN").as_deref() == Ok("write") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &shown.text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    let differs = expected.lines().zip(shown.text.lines()).find(|(a, b)| a != b);
    assert_eq!(shown.text, expected, "the first line that differs: {differs:?}; if that is meant: FARM_GOLDEN=write");
    assert!(shown.codes.len() >= 20, "{:?}", shown.codes);
    // Each code that was named has its page, which the program prints.
    for code in &shown.codes {
        let _ = user.farm(&["error", code]).exits(0).says(&[&format!("# {code}"), "## What was charged", "## What to do"]);
    }
}

#[test]
fn programs_get_the_same_in_their_format() {
    let net = crate::support::shared();
    let user = net.stranger();
    let done = user.farm(&["--json", "status", "nothing-like-it"]).exits(125);
    let value: serde_json::Value = serde_json::from_str(&done.stderr).unwrap_or_else(|e| panic!("{e}\n{}", done.all()));
    assert_eq!(value["error"]["code"], "no-such-job");
    assert_eq!(value["error"]["charged"], "nothing");
    assert!(value["error"]["next"][0].as_str().unwrap().contains("farm ps"), "{value}");
}
