//! Several jobs as one: deployed, changed, scaled, stopped; cut off and taken up again.

use crate::support::{Folder, Signal, User, eventually, shared, until};
use pasture_types::Amount;
use pasture_types::lease::{EndReason, LeaseState};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

const SMALL: &str = "resources: {cpu: 0.1, memory: 16Mi, disk: 16Mi}";
const FOREVER: &str = "command: [sh, -c], args: [\"trap 'exit 0' TERM; while true; do sleep 0.1; done\"]";
const PATIENCE: Duration = Duration::from_secs(240);
/// Longest that a machine may take to tell a state that it is in.
const SEEN_WITHIN: Duration = Duration::from_secs(90);

fn file(name: &str, text: &str) -> Folder {
    Folder::new(name, &[("farm.yaml", text)])
}
fn status(user: &User, name: &str) -> Value {
    user.farm(&["status", name, "--json"]).exits(0).json()
}
/// The state of each part, as `service/index state`.
fn states(status: &Value) -> Vec<String> {
    let part = |p: &Value| format!("{}/{} {}", p["service"].as_str().unwrap(), p["index"], p["state"].as_str().unwrap());
    status["parts"].as_array().unwrap().iter().map(part).collect()
}
/// Waits until the parts are in these states: a machine that is busy may not answer at once.
#[track_caller]
fn reaches(user: &User, name: &str, wanted: &[&str]) -> Value {
    eventually(&format!("{name} is {wanted:?}"), SEEN_WITHIN, || Some(status(user, name)).filter(|now| states(now) == wanted))
}
fn orders(status: &Value) -> BTreeSet<String> {
    status["parts"].as_array().unwrap().iter().map(|p| p["order"]["id"].as_str().unwrap().to_owned()).collect()
}
fn live(user: &User) -> usize {
    user.jobs().iter().filter(|j| j.lease.as_ref().is_some_and(|l| l.state < LeaseState::Closing)).count()
}

#[test]
fn services_start_in_their_order_and_the_same_again_changes_nothing() {
    let user = shared().stranger();
    let folder = file(
        "shop",
        &format!(
            "services:\n\
             \x20 db: {{image: 'pasture/busybox:1', type: service, {SMALL}, health: {{exec: [test, -f, /tmp/up], interval: 500ms}}, \
             command: [sh, -c], args: [\"sleep 1; touch /tmp/up; echo db is up; trap 'exit 0' TERM; while true; do sleep 0.1; done\"]}}\n\
             \x20 setup: {{image: 'pasture/busybox:1', {SMALL}, depends_on: {{db: healthy}}, command: [sh, -c], args: ['echo setting up; date +%s%N']}}\n\
             \x20 web: {{image: 'pasture/busybox:1', type: service, {SMALL}, replicas: 2, depends_on: {{setup: completed}}, {FOREVER}}}\n"
        ),
    );
    let dry = user.farm(&["deploy", folder.arg(), "--dry-run"]).exits(0).says(&["db", "start 1", "start 2", "at most", "nothing was done"]);
    assert!(user.jobs().is_empty(), "{}", dry.all());
    let done = user.farm(&["deploy", folder.arg()]).exits(0);
    assert_eq!(done.stdout.trim(), "shop", "{}", done.all());
    let first = reaches(&user, "shop", &["db/0 healthy", "setup/0 succeeded", "web/0 running", "web/1 running"]);
    // By the machine's own clock nothing began before what it waits for.
    let started = |s: &Value, n: usize| s["parts"][n]["lease"]["accepted"].as_u64().unwrap();
    assert!(started(&first, 0) < started(&first, 1) && started(&first, 1) < started(&first, 2).min(started(&first, 3)), "{first}");
    let _ = user.farm(&["ps"]).exits(0).says(&["shop", "shop-web-0-", "1 succeeded", "3 running"]);
    let _ = user.farm(&["status", "shop"]).exits(0).says(&["deployment", "web/1", "healthy"]);
    let _ = user.farm(&["logs", "shop"]).exits(0).says(&["db           | db is up", "setup        | setting up"]);
    let alone = user.farm(&["logs", "shop/db"]).exits(0);
    assert_eq!(alone.stdout, "db is up\n");

    let again = user.farm(&["deploy", folder.arg(), "--wait"]).exits(0);
    assert_eq!(orders(&status(&user, "shop")), orders(&first), "{}", again.all());
    assert_eq!(user.jobs().len(), 4);

    let _ = user.farm(&["stop", "shop"]).exits(0).says(&["3 jobs stopped"]);
    until("all have ended", || live(&user) == 0);
    let ends: Vec<_> = user.jobs().iter().filter_map(|j| j.lease.as_ref()?.reason.clone()).collect();
    assert_eq!(ends.iter().filter(|r| **r == EndReason::StoppedByUser).count(), 3, "{ends:?}");
    // What was stopped is started again by the same command, what is done stays done.
    let _ = user.farm(&["apply", folder.arg()]).exits(0);
    let _ = reaches(&user, "shop", &["db/0 healthy", "setup/0 succeeded", "web/0 running", "web/1 running"]);
    let _ = user.farm(&["stop", "shop"]).exits(0);
}

#[test]
fn an_array_runs_so_many_at_a_time_and_says_how_it_went() {
    let user = shared().stranger();
    let folder = file(
        "fan",
        &format!(
            "image: 'pasture/busybox:1'\n{SMALL}\narray: {{count: 7, parallel: 3}}\ncommand: [sh, -c]\n\
             args: ['echo member $FARM_ARRAY_INDEX of $FARM_ARRAY_COUNT; sleep 1; [ $FARM_ARRAY_INDEX != 5 ]']\n"
        ),
    );
    let mut running = user.start(&["deploy", folder.arg()]);
    let mut most = 0;
    while running.ended().is_none() {
        most = most.max(live(&user));
        std::thread::sleep(Duration::from_millis(100));
    }
    let done = running.finish(PATIENCE).exits(1).says(&["6 succeeded", "1 failed", "fan/5"]);
    assert!((1..=3).contains(&most), "{most} at once\n{}", done.all());
    let said = status(&user, "fan");
    assert_eq!((said["services"]["fan"]["completed"].as_u64(), states(&said)), (Some(6), vec!["fan/5 failed".to_owned()]));
    let _ = user.farm(&["logs", "fan/fan/5"]).exits(0).says(&["member 5 of 7"]);
    // Only what failed is tried again.
    let _ = user.farm(&["deploy", folder.arg()]).exits(1);
    assert_eq!(user.jobs().len(), 8);
    let _ = user.farm(&["scale", "fan=9"]).exits(2).says(&["is an array"]);
}

#[test]
fn a_command_that_is_cut_off_is_taken_up_where_it_was() {
    let user = shared().stranger();
    let folder = file(
        "cut",
        &format!(
            "image: 'pasture/busybox:1'\n{SMALL}\narray: {{count: 6, parallel: 2}}\ncommand: [sh, -c]\nargs: ['sleep 1; echo $FARM_ARRAY_INDEX']\n"
        ),
    );
    for _ in 0..3 {
        let before = user.jobs().len();
        let command = user.start(&["deploy", folder.arg()]);
        until("something was ordered", || user.jobs().len() > before);
        command.signal(Signal::KILL);
        let _ = command.finish(PATIENCE);
    }
    let _ = user.farm(&["deploy", folder.arg()]).exits(0).says(&["6 succeeded"]);
    let ended: Vec<String> = user
        .jobs()
        .iter()
        .filter_map(|j| j.lease.as_ref())
        .filter(|l| l.reason == Some(EndReason::Exited { code: 0 }))
        .map(|l| l.id.to_string())
        .collect();
    assert_eq!(ended.len(), 6, "each member ran once to its end: {:?}", user.jobs());
    until("nothing is left running", || live(&user) == 0);
}

#[test]
fn replicas_are_added_and_ended_and_the_others_stay() {
    let user = shared().stranger();
    let folder = file("herd", &format!("{{image: 'pasture/busybox:1', type: service, {SMALL}, {FOREVER}}}\n"));
    let _ = user.farm(&["deploy", folder.arg()]).exits(0);
    let one = orders(&status(&user, "herd"));
    let _ = user.farm(&["scale", "herd=3"]).exits(0);
    let three = orders(&status(&user, "herd"));
    assert!(three.len() == 3 && three.is_superset(&one));
    let _ = user.farm(&["scale", "herd/herd=1"]).exits(0);
    assert_eq!(orders(&status(&user, "herd")), one);
    until("the others have ended", || live(&user) == 1);
    let _ = user.farm(&["scale", "herd=0"]).exits(0);
    until("all have ended", || live(&user) == 0);
    let _ = user.farm(&["scale", "nobody=2"]).exits(125).says(&["there is no deployment `nobody`"]);
}

#[test]
fn an_update_replaces_one_after_the_other_and_stops_where_the_new_one_fails() {
    let user = shared().stranger();
    let folder = file(
        "roll",
        &format!(
            "image: 'pasture/busybox:1'\ntype: service\n{SMALL}\nreplicas: 2\nenv: {{VERSION: '1'}}\ncommand: [sh, -c]\n\
             args: [\"echo version $VERSION; [ $VERSION != 3 ] || exit 4; touch /tmp/up; trap 'exit 0' TERM; while true; do sleep 0.1; done\"]\n\
             health: {{exec: [test, -f, /tmp/up], interval: 500ms}}\nrestart: never\n"
        ),
    );
    let _ = user.farm(&["deploy", folder.arg(), "--wait"]).exits(0);
    let first = orders(&status(&user, "roll"));
    let mut update = user.start(&["update", "roll", "--new-lease", "--env", "VERSION=2"]);
    let mut least = usize::MAX;
    while update.ended().is_none() {
        least = least.min(live(&user));
        std::thread::sleep(Duration::from_millis(50));
    }
    let done = update.finish(PATIENCE).exits(0).says(&["a new lease", "took the place"]);
    assert!(least >= 2, "never fewer than were asked for: {least}\n{}", done.all());
    let second = reaches(&user, "roll", &["roll/0 healthy", "roll/1 healthy"]);
    assert!(orders(&second).is_disjoint(&first));
    until("the old ones have ended", || live(&user) == 2);
    let _ = user.farm(&["logs", "roll/roll/1"]).exits(0).says(&["version 2"]);
    // A version that fails takes nobody's place.
    let _ = user.farm(&["update", "roll", "--new-lease", "-e", "VERSION=3"]).exits(1).says(&["exit 4"]);
    until("the failed one is closed", || live(&user) == 2);
    let after = reaches(&user, "roll", &["roll/0 healthy", "roll/1 healthy"]);
    assert_eq!(orders(&after), orders(&second));
    // Asked for again, it is tried again, and again nothing is lost.
    let _ = user.farm(&["update", "roll", "--new-lease", "-e", "VERSION=3"]).exits(1);
    until("the failed one is closed", || live(&user) == 2);
    let _ = user.farm(&["update", "roll", "--new-lease", "-e", "VERSION=4"]).exits(0);
    until("the old ones have ended", || live(&user) == 2);
    assert!(orders(&reaches(&user, "roll", &["roll/0 healthy", "roll/1 healthy"])).is_disjoint(&orders(&second)));
    let _ = user.farm(&["stop", "roll"]).exits(0);
    until("all have ended", || live(&user) == 0);
    let _ = user.farm(&["update", "roll"]).exits(2).says(&["nothing to change"]);
}

#[test]
fn an_update_within_its_lease_keeps_the_machine_and_one_that_fails_goes_back() {
    let user = shared().stranger();
    let text = format!(
        "image: 'pasture/busybox:1'\ntype: service\n{SMALL}\nreplicas: 2\nenv: {{VERSION: '1'}}\ncommand: [sh, -c]\n\
         args: [\"echo version $VERSION; [ $VERSION != 3 ] || exit 4; touch /tmp/up; trap 'exit 0' TERM; while true; do sleep 0.1; done\"]\n\
         health: {{exec: [test, -f, /tmp/up], interval: 500ms}}\n"
    );
    let folder = file("stay", &text);
    let _ = user.farm(&["deploy", folder.arg(), "--wait"]).exits(0);
    let first = orders(&status(&user, "stay"));
    let _ = user.farm(&["update", "stay", "-e", "VERSION=2"]).exits(0).says(&["runs what is new, within its lease"]);
    assert_eq!(orders(&reaches(&user, "stay", &["stay/0 healthy", "stay/1 healthy"])), first, "the same leases");
    for part in ["stay/stay/0", "stay/stay/1"] {
        let log = user.farm(&["logs", part]).exits(0).stdout;
        assert!(log.contains("version 1") && log.ends_with("version 2\n"), "{log}");
    }
    // The same again changes nothing.
    let again = user.farm(&["update", "stay", "-e", "VERSION=2"]).exits(0);
    assert!(!again.all().contains("within its lease"), "{}", again.all());
    // One that fails goes back, and the other was not touched.
    let words = ["did not get well with what is new", "exit code 4", "it runs what it ran before", "--new-lease"];
    let _ = user.farm(&["update", "stay", "-e", "VERSION=3"]).exits(125).says(&words);
    assert_eq!(orders(&reaches(&user, "stay", &["stay/0 healthy", "stay/1 healthy"])), first);
    let log = user.farm(&["logs", "stay/stay/0"]).exits(0).stdout;
    assert!(log.contains("version 3") && log.ends_with("version 2\n"), "{log}");
    let untouched = user.farm(&["logs", "stay/stay/1"]).exits(0).stdout;
    assert!(!untouched.contains("version 3"), "{untouched}");
    // An image that nobody has stops nothing.
    let _ = user.farm(&["update", "stay", "--image", "pasture/nowhere:1"]).exits(125).says(&["runs on as before", "nowhere"]);
    assert_eq!(user.farm(&["logs", "stay/stay/0"]).exits(0).stdout, log);
    // What the ledger was told cannot change within the lease.
    let other = file("stay", &text.replace("replicas: 2", "replicas: 2\ntimeout: 50m"));
    let _ = user.farm(&["update", "stay", "-f", other.arg()]).exits(0).says(&["a new lease", "took the place"]);
    assert!(orders(&reaches(&user, "stay", &["stay/0 healthy", "stay/1 healthy"])).is_disjoint(&first));
    let _ = user.farm(&["stop", "stay"]).exits(0);
    until("all have ended", || live(&user) == 0);
}

#[test]
fn a_budget_is_the_whole_deployments() {
    let user = shared().stranger();
    // A price is known before anything is ordered: what two cost at most is not enough for three.
    let yaml = |budget: &str| {
        format!(
            "name: few\nbudget: {budget}\nservices:\n  few: {{image: 'pasture/busybox:1', type: service, {SMALL}, replicas: 3, timeout: 1h, {FOREVER}}}\n"
        )
    };
    let probe = file("few", &yaml("100"));
    let dry = user.farm(&["deploy", probe.arg(), "--dry-run", "--json"]).exits(0).json();
    let each: Amount = serde_json::from_value(dry["prices"]["few"]["at_most_each"].clone()).unwrap();
    let folder = file("few", &yaml(&format!("{}", Amount(each.0 * 2))));
    let done = user.farm(&["deploy", folder.arg()]).exits(1).says(&["budget is used"]);
    let held: u128 = user.jobs().iter().filter_map(|j| j.lease.as_ref()).map(|l| l.escrow.0).sum();
    assert!(held <= each.0 * 2, "{held} are on hold\n{}", done.all());
    let _ = user.farm(&["stop", "few"]).exits(0);
}

#[test]
fn a_file_of_docker_compose_runs_and_what_it_cannot_say_is_told() {
    let user = shared().stranger();
    let folder = Folder::new(
        "stack",
        &[
            (
                "compose.yaml",
                "services:\n  app:\n    build: ./app\n    environment: [WHO=compose]\n    ports: ['8080:80']\n    depends_on: {first: {condition: service_completed_successfully}}\n    \
                 mem_limit: 16m\n    cpus: 0.1\n    pids_limit: 20\n  first:\n    image: pasture/busybox:1\n    command: sh -c 'echo first of all'\n    mem_limit: 16m\n    cpus: 0.1\n",
            ),
            (
                "app/Dockerfile",
                "FROM pasture/busybox:1\nCMD [\"sh\", \"-c\", \"echo hello $WHO; trap 'exit 0' TERM; while true; do sleep 0.1; done\"]\n",
            ),
        ],
    );
    let done = user.farm(&["deploy", folder.arg()]).exits(0).says(&["services.app.ports 8080:80 is open to you alone"]);
    let _ = (reaches(&user, "stack", &["first/0 succeeded", "app/0 running"]), done);
    eventually("its words", PATIENCE, || {
        let logs = user.farm(&["logs", "stack"]).exits(0);
        (logs.stdout.contains("app          | hello compose") && logs.stdout.contains("first        | first of all")).then_some(())
    });
    let _ = user.farm(&["stop", "stack"]).exits(0);
    folder.write("compose.yaml", "services:\n  app:\n    image: a\n    volumes: ['./data:/x']\n");
    let _ =
        user.farm(&["deploy", folder.arg()]).exits(125).says(&["compose.yaml:4: services.app.volumes: ./data is a folder of this machine"]);
}

#[test]
fn the_example_of_the_documentation_runs_and_its_schema_is_the_one_that_is_printed() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let printed = shared().stranger().farm(&["schema"]).exits(0);
    assert_eq!(printed.stdout.trim(), std::fs::read_to_string(root.join("docs/job.schema.json")).unwrap().trim());
    let page = std::fs::read_to_string(root.join("docs/job-file.md")).unwrap();
    let example = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let user = shared().stranger();
    let folder = file("example", example);
    let _ = user.farm(&["deploy", folder.arg(), "--wait"]).exits(0);
    let _ = user.farm(&["stop", "example"]).exits(0);
}

#[test]
fn mistakes_are_said_before_anything_is_ordered() {
    let user = shared().stranger();
    let bad = |text: &str, words: &[&str]| {
        let folder = file("bad", text);
        let _ = user.farm(&["deploy", folder.arg()]).exits(125).says(words);
    };
    bad("services:\n  a: {image: x, depends_on: [b]}\n", &["farm.yaml:2: services.a.depends_on: there is no service `b`"]);
    bad("services:\n  a: {imgae: x}\n", &["farm.yaml:2: unknown field `imgae`", "did you mean `image`?"]);
    bad("image: a\nhealth: {port: 0}\n", &["farm.yaml:2: health.port: nothing listens on port 0"]);
    let _ = user.farm(&["deploy", "https://localhost/job.yaml"]).exits(125).says(&["not public"]);
    let empty = Folder::new("empty", &[]);
    let _ = user.farm(&["deploy", empty.arg()]).exits(125).says(&["has nothing to deploy", "compose.yaml"]);
    assert!(user.try_api(async |api| api.jobs(&user.account()).await).map_or(true, |jobs| jobs.is_empty()));
}
