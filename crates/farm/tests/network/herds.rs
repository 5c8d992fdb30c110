//! Many small tasks inside a job: workers die, the machine's program dies, and each task has one result all the same.

use crate::support::{Folder, Net, Options, PATIENCE, User, eventually, until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const TASKS: u64 = 2_000;
/// The task whose worker kills itself once.
const DEADLY: u64 = 777;
/// All tasks, on two small workers, on a machine that does other things too.
const ALL_WITHIN: Duration = Duration::from_secs(480);

/// A job that waits, and a worker that doubles.
fn folder() -> Folder {
    let wait = "trap 'exit 0' TERM; while true; do sleep 60 & wait $!; done";
    let worker = format!(
        "while read -r n; do\nif [ \"$n\" = {DEADLY} ] && [ ! -e /killed ]; then touch /killed; kill -9 $$; fi\nusleep 1000\necho $((n * 2))\ndone"
    );
    let dockerfile = "FROM pasture/busybox:1\nCOPY wait.sh worker.sh /\nCMD [\"sh\", \"/wait.sh\"]\n";
    Folder::new("herd", &[("Dockerfile", dockerfile), ("wait.sh", wait), ("worker.sh", &worker)])
}

fn begin(user: &User, more: &[&str]) {
    let folder = folder();
    let run = ["run", folder.arg(), "-d", "--name", "herd", "--cpu", "1", "--memory", "64Mi", "--disk", "64Mi"];
    let _ = user.farm(&run).exits(0);
    let up = [&["herd", "up", "herd"], more, &["--", "sh", "/worker.sh"]].concat();
    eventually("the job runs, and takes a herd", PATIENCE, || {
        let done = user.farm(&up);
        done.stderr.contains("has a herd").then_some(())
    });
}

fn status(user: &User) -> Value {
    user.farm(&["herd", "status", "herd", "--json"]).exits(0).json()
}

fn results(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn two_thousand_tasks_have_one_result_each_though_a_worker_and_the_machines_program_are_killed() {
    let mut net = Net::start(Options { fixed_port: true, ..Options::default() });
    let user = net.user();
    let _ = user.farm(&["account", "test-credits", "100"]).exits(0);
    begin(&user, &["--workers", "2", "--durable"]);
    let tasks = Folder::new("tasks", &[("tasks", &(0..TASKS).map(|n| format!("{n}\n")).collect::<String>())]);
    let file = tasks.path().join("tasks");
    let submit = ["herd", "submit", "herd", file.to_str().unwrap(), "--keys", "t", "--json"];
    assert_eq!(user.farm(&submit).exits(0).json()["submitted"], TASKS);

    until("some are done", || status(&user)["done"].as_u64().unwrap() > 100);
    let before = user.farm(&["herd", "results", "herd", "--count", "100"]).exits(0).says(&["signed by the machine's key"]);
    let before = results(&before.stdout);
    net.kill();
    net.start_again();
    eventually("the herd is there again", PATIENCE, || {
        let done = user.farm(&["herd", "status", "herd", "--json"]);
        done.stdout.contains("\"durable\"").then_some(())
    });
    // The shepherd does not know what arrived: it says it all again.
    let again = user.farm(&submit).exits(0).json();
    assert_eq!((again["submitted"].as_u64(), again["known"].as_u64()), (Some(0), Some(TASKS)), "nothing acknowledged is lost");

    let all = user.start(&["herd", "results", "herd", "--count", &TASKS.to_string()]).finish(ALL_WITHIN).exits(0);
    let _ = all.stderr.find("signed by the machine's key").unwrap_or_else(|| panic!("{}", all.all()));
    let all = results(&all.stdout);
    assert_eq!(all[..before.len()], before, "what was shown is never another");
    let by_key: BTreeMap<&str, &Value> = all.iter().map(|r| (r["key"].as_str().unwrap(), r)).collect();
    assert_eq!((all.len() as u64, by_key.len() as u64), (TASKS, TASKS), "each once");
    for n in 0..TASKS {
        let result = by_key[format!("t{}", n + 1).as_str()];
        assert_eq!((&result["outcome"], result["result"].as_str()), (&"done".into(), Some((n * 2).to_string().as_str())), "{result}");
    }
    let deadly = by_key[format!("t{}", DEADLY + 1).as_str()];
    assert!(deadly["attempts"].as_u64().unwrap() >= 2, "{deadly}");

    let _ = user.farm(&["herd", "results", "herd", "--count", &TASKS.to_string(), "--ack"]).exits(0);
    assert_eq!(status(&user)["unacknowledged"], 0);
    let _ = user.farm(&["herd", "down", "herd"]).exits(0);
    let _ = user.farm(&["herd", "status", "herd"]).exits(125).says(&["no herd"]);
    let _ = user.farm(&["stop", "herd"]).exits(0);
}

#[test]
fn a_program_of_the_users_submits_through_the_door() {
    let net = Net::start(Options::default());
    let user = net.user();
    let _ = user.farm(&["account", "test-credits", "100"]).exits(0);
    let _ = user.farm(&["herd", "door", "nothing", "--socket", "/nowhere"]).exits(125);
    begin(&user, &["--workers", "1"]);
    let socket = user.home().join("door");
    let mut door = user.start(&["herd", "door", "herd", "--socket", socket.to_str().unwrap(), "--listen", "127.0.0.1:0", "--json"]);
    door.shows("socket");
    let mut stream = UnixStream::connect(&socket).unwrap();
    writeln!(stream, r#"{{"do":"results"}}"#).unwrap();
    writeln!(stream, r#"{{"do":"submit","tag":5,"tasks":[{{"payload":"21","key":"a"}},{{"payload":"4"}}]}}"#).unwrap();
    let (mut told, mut seen) = (BufReader::new(stream.try_clone().unwrap()), vec![]);
    let mut tag = None;
    while seen.len() < 2 {
        let mut line = String::new();
        assert!(told.read_line(&mut line).unwrap() > 0, "the door closed");
        let word: Value = serde_json::from_str(&line).unwrap();
        match word["is"].as_str().unwrap() {
            "submitted" => tag = word["tag"].as_u64(),
            "results" => seen.extend(word["results"].as_array().unwrap().iter().map(|r| r["result"].clone())),
            "receipt" => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!((tag, seen), (Some(5), vec!["42".into(), "8".into()]));
    // The same over HTTP, as any program can.
    let url = serde_json::from_str::<Value>(&door.stdout()).unwrap()["url"].as_str().unwrap().to_owned();
    let curl = |args: &[&str]| {
        let output = std::process::Command::new("curl").args(["-sS", "--noproxy", "*"]).args(args).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let told = curl(&["-d", r#"[{"payload":"50"},{"payload":"21","key":"a"}]"#, &format!("{url}/tasks")]);
    assert!(told.contains(r#"{"is":"new","id":3},{"is":"known","id":1}"#), "{told}");
    let told = curl(&[&format!("{url}/results?after=2&wait_ms=30000")]);
    assert!(told.contains(r#""result":"100""#), "{told}");
    let told = curl(&["-H", "Origin: http://example.org", &format!("{url}/status")]);
    assert!(told.contains("forbidden"), "{told}");
    let _ = user.farm(&["stop", "herd"]).exits(0);
}
