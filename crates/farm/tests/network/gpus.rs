//! GPUs, simulated: each job sees exactly its own, nobody gets one twice, a machine that lies is found out before anything is
//! billed, and outside of development nobody offers or gets any. What is seen from inside is really asked inside.

use crate::support::{Done, Net, Options, Running, SMALL, User, eventually, paid, shared, until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const IMAGE: &str = "pasture/busybox:1";
const MODEL: &str = "H100";
/// Longest that a job may take whose work takes moments.
const DONE_WITHIN: Duration = Duration::from_secs(300);

fn net_with(gpus: &[&str]) -> Net {
    let args = gpus.iter().flat_map(|g| ["--simulated-gpu".to_owned(), (*g).to_owned()]).collect();
    Net::start(Options { args, fixed_port: true, ..Options::default() })
}

/// A small job in the base image that runs a shell line.
fn start(user: &User, name: &str, gpu: &str, more: &[&str], line: &str) -> Running {
    let mut args = vec!["run", IMAGE, "--name", name, "--gpu", gpu];
    args.extend(SMALL);
    args.extend(more);
    args.extend(["--", "sh", "-c", line]);
    user.start(&args)
}

fn run(user: &User, name: &str, gpu: &str, line: &str) -> Done {
    start(user, name, gpu, &[], line).finish(DONE_WITHIN)
}

/// Starts a job that goes on until it is stopped.
#[track_caller]
fn keep_running(user: &User, name: &str, gpu: &str) {
    let line = "ls /farm/gpus; echo visible $NVIDIA_VISIBLE_DEVICES; trap 'exit 0' TERM; while true; do sleep 0.2; done";
    let _ = start(user, name, gpu, &["-d"], line).finish(DONE_WITHIN).exits(0);
}

/// The ids that a running job holds, as its machine says.
#[track_caller]
fn held(user: &User, job: &str) -> BTreeSet<String> {
    let jobs = user.farm(&["ps", "--json"]).exits(0).json();
    let job = jobs.as_array().unwrap().iter().find(|j| j["job"].as_str().unwrap().starts_with(job)).unwrap_or_else(|| panic!("{jobs}"));
    let gpus = job["gpus"].as_array().unwrap();
    assert!(gpus.iter().all(|g| g["simulated"] == true && g["model"] == MODEL), "simulated ones are called that: {job}");
    gpus.iter().map(|g| g["uuid"].as_str().unwrap().to_owned()).collect()
}

/// The ids that a job's first lines tell.
#[track_caller]
fn seen(user: &User, job: &str) -> BTreeSet<String> {
    eventually("the job tells what it sees", DONE_WITHIN, || {
        let log = user.farm(&["logs", job]).exits(0).stdout;
        let told = log.contains("visible ").then(|| log.lines().filter(|l| l.starts_with("SIM-")).map(str::to_owned).collect())?;
        let visible: BTreeSet<String> =
            log.lines().find_map(|l| l.strip_prefix("visible ")).unwrap().split(',').map(str::to_owned).collect();
        assert_eq!(visible, told, "the environment names what is there");
        Some(told)
    })
}

fn free_gpus(net: &Net) -> u16 {
    net.api(async |api| api.offers().await).iter().flat_map(|o| &o.free.gpus).map(|g| g.count).sum()
}

#[test]
fn each_job_sees_its_own_gpus_and_nobody_gets_one_twice() {
    let mut net = net_with(&["H100:2:80Gi"]);
    let user = net.user();
    let _ = user.farm(&["account", "test-credits", "1000"]).exits(0);
    let listed = user.farm(&["offers"]).exits(0).says(&["2x H100 (80 GiB)", "GPUs simulated"]);
    assert!(!listed.stdout.contains("SIM-"), "ids are the machine's own business: {}", listed.stdout);
    let _ = user.farm(&["offers", net.node()]).exits(0).says(&["H100 with 80 GiB each, 2", "gpu.simulated=yes", "gpu.cuda.12.4=yes"]);

    keep_running(&user, "first", "H100:1");
    keep_running(&user, "second", "h100,vram=80Gi,cuda=12.2,driver=535");
    let [first, second] = ["first", "second"].map(|job| (held(&user, job), seen(&user, job)));
    assert_eq!((first.0.len(), second.0.len()), (1, 1));
    assert_eq!((&first.0, &second.0), (&first.1, &second.1), "what the machine says is what is seen inside");
    assert!(first.0.is_disjoint(&second.0), "{first:?} {second:?}");
    let _ = user.farm(&["exec", "first", "--", "sh", "-c", "! echo x > /farm/gpus/$NVIDIA_VISIBLE_DEVICES"]).exits(0);
    let _ = user.farm(&["status"]).exits(0).says(&["2 of 2 GPUs in jobs"]);
    let _ = user.farm(&["status", "first"]).exits(0).says(&["H100 with 80 GiB, SIM-", "simulated"]);

    // There is no third: it is refused with the reason, and nothing is lost.
    let before = user.books();
    let refused = run(&user, "third", "H100:1", "true").exits(125).says(&["1x H100 free", "nothing charged"]);
    assert!(!refused.all().contains("SIM-"));
    assert_eq!(user.books().on_hold, before.on_hold);
    for (gpu, words) in [
        ("H100,vram=96Gi", "with 96 GiB memory free"),
        ("H200", "H200 free"),
        ("H100,cuda=13.0", "gpu.cuda.13.0 = yes"),
        ("H100,driver=580", "gpu.driver.580 = yes"),
    ] {
        let _ = user.farm(&["explain", IMAGE, "--gpu", gpu]).says(&[words]);
    }

    // After a crash of the machine both have what they had, and a third still gets none.
    net.kill();
    net.start_again();
    until("the machine answers for both jobs", || {
        [&first, &second].iter().zip(["first", "second"]).all(|(was, job)| held(&user, job) == was.0)
    });
    let _ = run(&user, "third", "H100:1", "true").exits(125).says(&["1x H100 free"]);

    // What the first had is the third's once the first is over, also for what it costs.
    let _ = user.farm(&["stop", "first"]).exits(0);
    until("the first GPU is free", || free_gpus(&net) == 1);
    keep_running(&user, "fourth", "H100");
    assert_eq!(held(&user, "fourth"), first.0);
    for job in ["second", "fourth"] {
        let _ = user.farm(&["stop", job]).exits(0);
    }
    until("all GPUs are free", || free_gpus(&net) == 2);
    let (lease, _) = user.settled();
    let gpu_hour: u128 = 2_000_000_000;
    assert!(paid(&lease).charged.0 > 0 && lease.rate_per_hour.0 > gpu_hour, "{lease:?}");

    // Two at once, and a job file says the same as the flag.
    let folder = crate::support::Folder::script("both", "ls /farm/gpus | wc -l");
    folder.write(
        "farm.yaml",
        "name: both\nresources:\n  cpu: 0.2\n  memory: 32Mi\n  disk: 64Mi\n  gpu: {model: H100, count: 2, vram: 80GB}\n",
    );
    let _ = user.farm(&["run", folder.arg()]).exits(0).says(&["2\n"]);
    until("all GPUs are free again", || free_gpus(&net) == 2);
    // A job too short to be looked at ends as it ends.
    let _ = run(&user, "short", "H100", "exit 7").exits(7);
    // Without one a job sees none.
    let plain = [&["run", IMAGE, "--name", "plain"][..], &SMALL, &["--", "sh", "-c", "ls /farm/gpus || echo none"]].concat();
    let _ = user.farm(&plain).exits(0).says(&["none"]);
}

#[test]
fn a_machine_that_lies_about_its_gpus_is_found_out_before_anything_is_billed() {
    let net = net_with(&["H100:1:80Gi,shows=40Gi"]);
    let user = net.user();
    let _ = user.farm(&["account", "test-credits", "1000"]).exits(0);
    let line = "trap 'exit 0' TERM; while true; do sleep 0.2; done";
    let _ = start(&user, "promised", "H100,vram=80Gi", &[], line).finish(DONE_WITHIN).exits(125).says(&[
        "has not the GPUs that were promised",
        "40 GiB of memory where 80 GiB was promised",
        "nothing was charged",
    ]);
    let (lease, settlement) = user.settled();
    assert_eq!((lease.served_ms.0, settlement.charged.0), (0, 0), "{lease:?} {settlement:?}");
    let status = user.farm(&["status", "promised"]).exits(0).says(&["container could not be started"]);
    assert!(!status.stdout.contains("SIM-"), "it holds none any more: {}", status.stdout);
    until("the GPU is free again", || free_gpus(&net) == 1);
    until("no container of it is left", || net.engine.containers(net.node()).is_empty());
}

#[test]
fn a_label_cannot_claim_a_driver_and_mistakes_are_named() {
    let user = shared().stranger().with_credits();
    let _ = user.farm(&["up", "--label", "gpu.cuda.13.0=yes"]).exits(2).says(&["--label", "set by the machine itself"]);
    for (gpu, words) in [("H100:0", "out of range"), ("H100,ram=1", "vram, driver and cuda"), ("7", "is no model")] {
        let _ = user.farm(&["run", IMAGE, "--gpu", gpu]).exits(2).says(&["--gpu", words]);
    }
    let _ = user.farm(&["dev", "--simulated-gpu", "H100"]).exits(2).says(&["--simulated-gpu", "H100:2:80Gi"]);
    let _ = user.farm(&["dev", "--gpus", "0"]).exits(2).says(&["--gpus", "nvidia-smi -L"]);
    // The machine of the shared network has none; that is said, and nothing is lost.
    let _ = run(&user, "none", "H100:1", "true").exits(125).says(&["1x H100 free", "nothing charged"]);
}

/// The address of a network that is like the one at `url` but not for development. It only says what it is.
fn not_for_development(url: &str, status: Value) -> String {
    let mut status = status;
    status["params"]["dev"] = false.into();
    status["params"]["market"]["gpu_leases"] = false.into();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    assert_ne!(address, url);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            answer(stream, &status.to_string());
        }
    });
    address
}

fn answer(mut stream: TcpStream, status: &str) {
    let mut head = [0; 4096];
    let n = stream.read(&mut head).unwrap_or(0);
    let asked = String::from_utf8_lossy(&head[..n]);
    let (code, body) = if asked.starts_with("GET /v1/status ") { ("200 OK", status) } else { ("404 Not Found", "{}") };
    let _ = write!(
        stream,
        "HTTP/1.1 {code}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
}

#[test]
fn outside_of_development_no_gpu_is_offered_or_asked_for() {
    let net = shared();
    let status = net.api(async |api| api.status().await);
    let elsewhere = User::new(not_for_development(net.url(), serde_json::to_value(status).unwrap()));
    let simulated = ["up", "--yes", "--simulated-gpu", "H100:1:80Gi"];
    let _ = elsewhere.farm(&simulated).exits(125).says(&["only a development network takes them", "farm error no-gpu"]);
    let _ = elsewhere.farm(&["up", "--yes", "--gpus", "all"]).exits(125).says(&["this network leases no GPUs", "nothing was offered"]);
    let _ = elsewhere.farm(&["explain", IMAGE, "--gpu", "H100"]).exits(125).says(&["this network leases no GPUs", "nothing was charged"]);
}
