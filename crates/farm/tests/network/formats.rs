//! What can be read, in every format: each verb that reads prints the same in all of them, and each can be parsed.

use crate::support::{Folder, Net, Options, User, until};
use serde_json::Value;

/// A list or one value in a format for programs.
fn parse(format: &str, text: &str, what: &str) -> Value {
    let failed = |e: &dyn std::fmt::Display| panic!("{what} as {format}: {e}\n{text}");
    match format {
        "json" => serde_json::from_str(text).unwrap_or_else(|e| failed(&e)),
        "yaml" => serde_norway::from_str(text.strip_prefix("---\n").unwrap_or(text)).unwrap_or_else(|e| failed(&e)),
        _ => Value::Array(text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| failed(&e))).collect()),
    }
}

/// The names of what is in a value, without what they are: amounts and times change between two looks.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect()),
        Value::Array(entries) => Value::Array(entries.iter().map(shape).collect()),
        Value::Null => Value::Null,
        _ => Value::Bool(true),
    }
}

#[track_caller]
fn in_every_format(user: &User, args: &[&str], fails: bool) {
    let what = args.join(" ");
    let read = |format: &str| {
        let done = user.farm(&[&["-o", format], args].concat());
        assert!(fails || done.code == 0, "{what} as {format}\n{}", done.all());
        done.stdout
    };
    let table = read("table");
    let line = read("json");
    assert!(line.trim() != table.trim(), "{what}: people do not read lines for programs\n{table}");
    let json = parse("json", &line, &what);
    // Of an empty list a note says so, which is no data.
    let nothing = json.as_array().is_some_and(Vec::is_empty);
    assert!(nothing || !table.trim().is_empty(), "{what}: a table for people");
    let yaml = parse("yaml", &read("yaml"), &what);
    assert_eq!(shape(&yaml), shape(&json), "{what}: YAML says what JSON says");
    let lines = parse("jsonl", &read("jsonl"), &what);
    let expected = if json.is_array() { json.clone() } else { Value::Array(vec![json.clone()]) };
    assert_eq!(shape(&lines), shape(&expected), "{what}: a line for each entry");
    let flag = user.farm(&[args, &["--json"]].concat());
    assert_eq!(shape(&parse("json", &flag.stdout, &what)), shape(&json), "{what}: --json is -o json");
}

#[test]
fn every_verb_that_reads_does_so_in_every_format() {
    let net = Net::start(Options::default());
    let user = net.user();
    let folder = Folder::script("shown", "echo begun; sleep 600");
    let _ = user.run(&folder, &["-d", "--timeout", "20m"]).exits(0);
    let _ = user.farm(&["invite", "--credits", "1"]).exits(0);
    let _ = user.farm(&["certificate", "issue", net.node(), "--tier", "3"]).exits(0);
    until("the job runs", || user.farm(&["ps", "--json"]).exits(0).stdout.contains("running"));
    let node = net.node().to_owned();
    let account = user.account().to_string();
    let data = net.data();
    let reading: [&[&str]; 21] = [
        &["ps"],
        &["ps", "--all"],
        &["status"],
        &["status", "shown"],
        &["receipt", "shown"],
        &["receipt", "shown", "--details"],
        &["offers"],
        &["offers", &node],
        &["explain", "pasture/busybox:1", "--cpu", "0.1", "--memory", "32Mi", "--disk", "64Mi"],
        &["account"],
        &["account", "grants"],
        &["invite", "list"],
        &["deposit", "show", &node],
        &["vote", "list"],
        &["ledger", "head"],
        &["ledger", "get", "account", &account],
        &["ledger", "check"],
        &["context", "list"],
        &["version"],
        &["error"],
        &["error", "usage"],
    ];
    for args in reading {
        in_every_format(&user, args, false);
    }
    // What it finds is this machine's; it may find something wrong.
    in_every_format(&user, &["doctor", "--engine", net.engine.socket.to_str().unwrap()], true);
    in_every_format(&user, &["pause", "--data", data.to_str().unwrap()], false);
    let _ = user.farm(&["stop", "shown"]).exits(0);
}

#[test]
fn a_failure_comes_in_the_format_too() {
    let net = crate::support::shared();
    let user = net.stranger();
    let done = user.farm(&["-o", "yaml", "status", "nothing-like-it"]).exits(125);
    let value = parse("yaml", &done.stderr, "a failure");
    assert_eq!(value["error"]["code"], "no-such-job", "{}", done.stderr);
    let done = user.farm(&["-o", "jsonl", "status", "nothing-like-it"]).exits(125);
    assert_eq!(parse("jsonl", &done.stderr, "a failure")[0]["error"]["code"], "no-such-job");
    let _ = user.farm(&["-o", "xml", "ps"]).exits(2);
    let _ = user.farm(&["-o", "yaml", "--json", "ps"]).exits(2);
}

#[test]
fn each_call_is_shown_to_who_asks_and_nothing_secret_in_it() {
    let net = crate::support::shared();
    let user = net.stranger().with_credits();
    let done = user.farm(&["offers", "--show-http"]).exits(0);
    let calls: Vec<&str> = done.stderr.lines().filter(|line| line.starts_with("> ")).collect();
    let offers = calls.iter().find(|line| line.contains("/v1/offers")).unwrap_or_else(|| panic!("{}", done.all()));
    assert!(offers.starts_with("> GET http://127.0.0.1:") && offers.contains(" 200 in ") && offers.ends_with(" ms"), "{offers}");
    assert!(!done.stdout.contains("> GET"), "data stays data");
    let quiet = user.farm(&["offers"]).exits(0);
    assert!(!quiet.stderr.contains("> GET"), "{}", quiet.stderr);
    // Calls that are signed, and one that fails.
    let run = user
        .farm(&["run", "--show-http", "--cpu", "0.1", "--memory", "32Mi", "--disk", "64Mi", "pasture/busybox:1", "--", "true"])
        .exits(0);
    for part in ["> POST ", "/v1/transactions 200", "/data/manifest", "/data/events"] {
        assert!(run.stderr.contains(part), "{part}\n{}", run.stderr);
    }
    for secret in ["signature=", "Farm key=", "ed25519:", "authorization"] {
        let shown: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with("> ")).collect();
        assert!(!shown.iter().any(|line| line.contains(secret)), "{secret}\n{}", run.stderr);
    }
    let failed = user.farm(&["status", "--show-http", "--api-url", "http://name:secret@127.0.0.1:9"]).exits(125);
    assert!(failed.stderr.contains("http://127.0.0.1:9/v1/status no answer in "), "{}", failed.stderr);
    let calls: Vec<&str> = failed.stderr.lines().filter(|line| line.starts_with("> ")).collect();
    assert!(!calls.iter().any(|line| line.contains("secret")), "{}", failed.stderr);
}

#[test]
fn every_shell_gets_its_completions_and_every_verb_is_in_them() {
    let user = crate::support::shared().stranger();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = user.farm(&["completions", shell]).exits(0).stdout;
        for verb in ["run", "pause", "drain", "down", "error"] {
            assert!(script.contains(verb), "{shell} lacks {verb}");
        }
    }
    // What bash is given, bash reads.
    let script = user.home().join("farm.bash");
    std::fs::write(&script, user.farm(&["completions", "bash"]).stdout).unwrap();
    let status = std::process::Command::new("bash").arg("-n").arg(&script).status().unwrap();
    assert!(status.success());
    let _ = user.farm(&["completions", "tcsh"]).exits(2);
}
