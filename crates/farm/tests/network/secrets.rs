//! What a job knows and nobody else sees: not on the machine's disk, in the engine, in logs, on the ledger, or in what the client shows.

use crate::support::{Done, Net, Options, Running, SMALL, User, eventually, shared, until};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

const IMAGE: &str = "pasture/busybox:1";
const ENDED_WITHIN: Duration = Duration::from_secs(300);
/// Not to be found anywhere. The test's own sources do not count: nothing reads them.
const VALUE: &str = "xyzzy-7f3a-open-sesame-do-not-show";

fn keep(user: &User, name: &str, value: &[u8]) {
    let file = user.home().join(format!("value-{name}"));
    std::fs::write(&file, value).unwrap();
    let done = user.farm(&["secret", "set", name, "--from-file", file.to_str().unwrap()]).exits(0);
    assert!(!done.all().contains(VALUE));
    std::fs::remove_file(file).unwrap();
}

fn start(user: &User, name: &str, secrets: &[&str], script: &str, more: &[&str]) -> Running {
    let mut args = vec!["run", IMAGE, "--name", name];
    args.extend(SMALL);
    for secret in secrets {
        args.extend(["--secret", secret]);
    }
    args.extend(more);
    args.extend(["--", "sh", "-c", script]);
    user.start(&args)
}

#[track_caller]
fn run(user: &User, name: &str, secrets: &[&str], script: &str) -> Done {
    start(user, name, secrets, script, &[]).finish(ENDED_WITHIN)
}

/// Files below a folder that hold these bytes, on its own file system: what is mounted there is memory or a volume.
pub(crate) fn holding(dir: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let device = std::fs::metadata(dir).unwrap().dev();
    let (mut found, mut dirs, mut seen) = (vec![], vec![dir.to_owned()], 0);
    while let Some(dir) = dirs.pop() {
        // What goes while we look holds nothing.
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for path in entries.flatten().map(|e| e.path()) {
            let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
            if meta.is_dir() && meta.dev() == device {
                dirs.push(path);
            } else if meta.is_file() {
                seen += 1;
                let content = std::fs::read(&path).unwrap_or_default();
                if content.windows(bytes.len()).any(|w| w == bytes) {
                    found.push(path);
                }
            }
        }
    }
    assert!(seen > 5, "there is something to look at in {}", dir.display());
    found
}

#[test]
fn a_job_has_its_secrets_and_nobody_else_finds_them() {
    let mut net = Net::start(Options { fixed_port: true, ..Options::default() });
    let user = net.user();
    let _ = user.farm(&["account", "test-credits", "100"]).exits(0);
    keep(&user, "TOKEN", VALUE.as_bytes());
    keep(&user, "cert", format!("-----\n{VALUE}\n'\"$(id)\\-----\n").as_bytes());
    assert_eq!(user.farm(&["secret", "list", "--json"]).exits(0).json(), serde_json::json!(["TOKEN", "cert"]));
    // It has them: as a file and in the environment of its command. What it writes itself is a word about them.
    let script = format!(
        "test \"$API_TOKEN\" = {VALUE} && test \"$(cat /run/secrets/TOKEN)\" = {VALUE} && grep -q 'id' /run/secrets/tls.pem && \
         test \"$(wc -l < /run/secrets/tls.pem)\" = 3 && printf %s \"$PEM\" | cmp -s - /run/secrets/short && ! touch /run/secrets/x && \
         echo all-there && sleep 600"
    )
    .replace(VALUE, "\"$(echo yzzy-7f3a-open-sesame-do-not-show | sed s/^/x/)\"");
    keep(&user, "pem", b"one line's quote: ' \" $(id) \\ and\nanother");
    let secrets = ["TOKEN=API_TOKEN", "TOKEN", "cert=/run/secrets/tls.pem", "pem=PEM", "pem=/run/secrets/short"];
    let told = start(&user, "knower", &secrets, &script, &["-d"]).finish(ENDED_WITHIN).exits(0);
    assert!(!told.all().contains(VALUE));
    let log = eventually("it has said so", ENDED_WITHIN, || {
        let log = user.farm(&["logs", "knower"]);
        log.stdout.contains("all-there").then_some(log)
    });
    assert!(!log.all().contains(VALUE));

    let nowhere = |net: &Net, when: &str| {
        assert_eq!(holding(&net.data(), VALUE.as_bytes()), [] as [PathBuf; 0], "on the machine's disk {when}");
        for container in net.engine.containers(net.node()) {
            let seen = net.engine.inspect(&container.id).to_string();
            assert!(seen.contains("/run/secrets") && !seen.contains(VALUE), "{when}: {seen}");
        }
        assert!(!net.log().contains(VALUE), "in the machine's log {when}");
    };
    nowhere(&net, "while it runs");
    assert_eq!(holding(user.home(), VALUE.as_bytes()), [] as [PathBuf; 0], "on the user's disk in the clear");
    for args in [&["status", "knower", "--json"][..], &["ps", "--json"], &["receipt", "knower", "--json"]] {
        assert!(!user.farm(args).all().contains(VALUE), "{args:?}");
    }
    let ledger = user.home().join("ledger");
    let _ = user.farm(&["ledger", "export", ledger.to_str().unwrap()]).exits(0);
    assert!(!std::fs::read(&ledger).unwrap().windows(VALUE.len()).any(|w| w == VALUE.as_bytes()));

    // The machine's program dies; the job, which has them in memory, goes on, and after it nothing is left.
    net.kill();
    nowhere(&net, "after a crash");
    net.start_again();
    eventually("the job is taken up", ENDED_WITHIN, || (user.farm(&["stop", "knower", "--grace", "1s"]).code == 0).then_some(()));
    until("its container is gone", || net.engine.containers(net.node()).is_empty());
    until("nothing of them is mounted", || {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        !mounts.lines().any(|l| l.contains("ramfs") && l.contains(net.data().to_str().unwrap()))
    });
    let sealed = net.data().join("provider/provider/leases").join(user.lease().id.to_string()).join("secrets");
    until("also not sealed", || !sealed.exists());
    nowhere(&net, "after its end");
}

#[test]
fn mistakes_are_named_before_anything_is_sent() {
    let user = shared().stranger();
    let _ = run(&user, "none", &["missing"], "true").exits(125).says(&["no secret `missing`", "farm secret set missing"]);
    assert!(user.try_api(async |api| api.account(&user.account()).await).is_err(), "nothing was sent, not even an account opened");
    for bad in ["../x", "A=/etc/passwd", "A=/run/secrets/../x", "A=FARM_X", "A=1B", "A="] {
        let _ = user.farm(&["run", IMAGE, "--secret", bad]).exits(2).says(&["--secret"]);
    }
    for bad in ["..", "a/b", ""] {
        let _ = user.farm(&["secret", "set", bad, "--from-file", "/dev/null"]).exits(2);
    }
    keep(&user, "zero", b"a\0b");
    let _ = run(&user, "zero", &["zero=A"], "true").exits(125).says(&["zero byte"]);
    let _ = run(&user, "zero", &["zero"], "test $(wc -c < /run/secrets/zero) = 3").exits(0);
    let _ = user.farm(&["secret", "rm", "zero"]).exits(0);
    let _ = user.farm(&["secret", "rm", "zero"]).exits(125).says(&["no secret `zero`"]);
}

#[test]
fn an_images_own_command_runs_with_variables() {
    let user = shared().stranger();
    keep(&user, "token", b"value");
    // The image has entry point and arguments of its own, and the job replaces neither, one, or both.
    let folder = crate::support::Folder::new(
        "own",
        &[("Dockerfile", "FROM pasture/busybox:1\nENTRYPOINT [\"/bin/sh\", \"-c\", \"echo $0-$1-${#TOKEN}\"]\nCMD [\"a\", \"b\"]\n")],
    );
    let _ = user.run(&folder, &["--secret", "token=TOKEN"]).exits(0).says(&["a-b-5"]);
    let _ = user.run(&folder, &["--secret", "token=TOKEN", "--", "c", "d"]).exits(0).says(&["c-d-5"]);
}

#[test]
fn a_manifest_without_its_secrets_is_refused_and_anothers_are_too() {
    let net = shared();
    let (user, stranger) = (net.stranger(), net.stranger().with_credits());
    let holder = start(&user, "holder", &[], "sleep 600", &["-d"]).finish(ENDED_WITHIN);
    let _ = holder.exits(0);
    let lease = user.lease();
    let put = |key: pasture_types::SigningKey, body: &'static [u8]| {
        let now = || u64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
        let path = format!("/leases/{}/secrets?hash={}", lease.id, pasture_types::blob::hash(body));
        let header = pasture_api::auth::authorize(&key, "PUT", &path, &lease.node, now());
        let url = format!("{}/v1/leases/{}/data/secrets?hash={}", net.url(), lease.id, pasture_types::blob::hash(body));
        let output = std::process::Command::new("curl")
            .args(["-sS", "--noproxy", "*", "-X", "PUT", "--data-binary", std::str::from_utf8(body).unwrap(), &url])
            .args(["-H", &format!("Authorization: {header}")])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(put(stranger.key(), b"x").contains("forbidden"));
    assert!(put(user.key(), b"not sealed for anybody").contains("bad-secrets"));
    let _ = user.farm(&["stop", "holder", "--grace", "1s"]).exits(0);
}
