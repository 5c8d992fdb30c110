//! Jobs that are kept going inside their lease: restarts and health checks, while the user is away.

use crate::support::{Folder, PATIENCE, User, eventually, shared, until};
use pasture_types::lease::EndReason;
use serde_json::Value;

fn status(user: &User, job: &str) -> Value {
    user.farm(&["status", job, "--json"]).exits(0).json()
}

#[test]
fn a_job_that_fails_is_tried_again_and_its_log_and_output_go_on() {
    let user = shared().stranger();
    let folder = Folder::script(
        "flaky",
        "cd $FARM_OUTPUT_DIR; echo x >>tries; echo try $(wc -l <tries); [ $(wc -l <tries) -ge 3 ] || exit 9; echo done",
    );
    folder.write("farm.yaml", "retry: 3\nresources: {cpu: 0.2, memory: 32Mi, disk: 64Mi}\n");
    let out = tempfile::tempdir().unwrap();
    let done = user.farm(&["run", folder.arg(), "--out", out.path().to_str().unwrap()]).exits(0);
    assert_eq!(done.stdout, "try 1\ntry 2\ntry 3\ndone\n", "{}", done.all());
    let _ = done.says(&["[farm] the job ended with exit code 9; restart 1 of 3 in 0.5 s", "restart 2 of 3 in 1.0 s"]);
    assert_eq!(std::fs::read_to_string(out.path().join("tries")).unwrap(), "x\nx\nx\n");
    let (lease, _) = user.settled();
    assert_eq!((lease.reason, user.jobs().len()), (Some(EndReason::Exited { code: 0 }), 1), "one lease");
}

#[test]
fn a_job_that_keeps_failing_ends_with_its_last_exit_code() {
    let user = shared().stranger();
    let folder = Folder::script("hopeless", "exit 5");
    folder.write("farm.yaml", "{retry: 1, resources: {cpu: 0.2, memory: 32Mi, disk: 64Mi}}\n");
    let _ = user.farm(&["run", folder.arg()]).exits(5).says(&["restart 1 of 1 in 0.5 s"]);
}

#[test]
fn a_service_whose_health_check_fails_is_replaced_while_nobody_is_looking() {
    let user = shared().stranger();
    let folder = Folder::script(
        "nurse",
        "cd $FARM_OUTPUT_DIR; echo x >>runs; touch /tmp/up; if [ $(wc -l <runs) -lt 2 ]; then sleep 3; rm /tmp/up; fi\n\
         trap 'exit 0' TERM; while true; do sleep 0.1; done",
    );
    folder.write(
        "farm.yaml",
        "type: service\nhealth: {exec: [test, -f, /tmp/up], interval: 500ms, retries: 2}\nresources: {cpu: 0.2, memory: 32Mi, disk: 64Mi}\n",
    );
    let _ = user.farm(&["run", folder.arg(), "-d"]).exits(0);
    let machine = |s: &Value| s["machine"].clone();
    eventually("replaced and well again", PATIENCE, || {
        let m = machine(&status(&user, "nurse"));
        (m["restarts"] == 1 && m["health"]["state"] == "healthy" && m["phase"] == "running").then_some(())
    });
    let _ = user.farm(&["status", "nurse"]).exits(0).says(&["health check failed", "restarts", "healthy"]);
    let _ = user.farm(&["logs", "nurse"]).exits(0).says(&["[farm] the job stopped, since its health check failed: exit code 1; restart 1"]);
    let _ = user.farm(&["stop", "nurse"]).exits(0);
    let (lease, _) = user.settled();
    assert_eq!(lease.reason, Some(EndReason::StoppedByUser));
}

#[test]
fn what_is_more_than_one_run_is_not_run_but_deployed() {
    let user = shared().stranger();
    let folder = Folder::script("many", "true");
    folder.write("farm.yaml", "array: 3\n");
    let _ = user.farm(&["run", folder.arg()]).exits(2).says(&["more than one run", "farm deploy"]);
    folder.write("farm.yaml", "services: {a: {image: b}}\n");
    let _ = user.farm(&["run", folder.arg()]).exits(125).says(&["unknown field `services`", "farm deploy -f"]);
    let _ = user.farm(&["run", "pasture/busybox:1", "-f", "http://example.org/a.yaml"]).exits(125).says(&["over https only"]);
    until("nothing was ordered", || user.try_api(async |api| api.jobs(&user.account()).await).map_or(true, |jobs| jobs.is_empty()));
}
