//! What is looked for among offers, and what is shown for as long as it changes.

use crate::support::{Folder, Net, Options, PATIENCE, Signal, until};
use serde_json::Value;

#[test]
fn offers_are_found_by_what_a_job_needs() {
    // One that nobody else uses: what is free there does not change meanwhile.
    let net = Net::start(Options::default());
    let user = net.stranger();
    let all = user.farm(&["offers", "--json"]).exits(0).json();
    let region = all[0]["terms"]["region"].as_str().unwrap().to_owned();
    let found = |words: &[&str]| user.farm(&[&["offers", "--json"], words].concat()).exits(0).json().as_array().unwrap().len();
    assert_eq!(found(&["cpu=0.1", "memory=32Mi", &format!("region={region}"), "price<1000"]), found(&[]), "{all}");
    for nothing in [&["cpu=4000"][..], &["memory=900Ti"], &["gpu=H100:2"], &["region=mars"], &["price<0.000000001"], &["tier=none"]] {
        assert_eq!(found(nothing), 0, "{nothing:?}");
        let _ = user.farm(&[&["offers"], nothing].concat()).exits(0).says(&["no machine fits all of that"]);
    }
    let small = user.farm(&["offers", "--json", "cpu=0.1", "memory=32Mi"]).exits(0).json();
    let price = |offers: &Value| offers[0]["price_per_hour"].as_str().unwrap().parse::<u128>().unwrap();
    assert!(price(&small) < price(&all), "a tenth of a core costs less than one: {small}");
    let _ = user.farm(&["offers", "cpu=0.1"]).exits(0).says(&["TOTAL/H", "total: an hour of 0.1 CPU"]);
    let _ = user.farm(&["offers", "cpu<4"]).exits(2).says(&["cpu<4", "write cpu=4"]);
}

#[test]
fn a_job_is_watched_until_it_is_over_and_a_machine_says_how_it_is_doing() {
    let net = Net::start(Options::default());
    let user = net.user();
    let folder = Folder::script("watched-job", "trap 'exit 0' TERM; while true; do sleep 0.1; done");
    let _ = user.run(&folder, &["-d"]).exits(0);
    let watching = user.start(&["status", "watched-job", "--watch", "-o", "jsonl"]);
    until("it runs", || watching.stdout().contains("\"state\":\"running\""));
    let list = user.start(&["ps", "--watch", "--json"]);
    until("the list shows it", || list.stdout().contains("watched-job"));
    let machine = user.farm(&["provider", "status", "--json"]).exits(0).json();
    assert_eq!(machine[0]["jobs"].as_array().unwrap().len(), 1, "{machine}");
    let _ = user.farm(&["provider", "status"]).exits(0).says(&["takes jobs", "offers", "processor", "running"]);
    let _ = user.farm(&["status"]).exits(0).says(&[": running on", "1 open"]);
    let _ = user.farm(&["stop", "watched-job"]).exits(0);
    let done = watching.finish(PATIENCE).exits(0);
    let states: Vec<Value> = done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(states.last().unwrap()["lease"]["state"], "closed", "{}", done.all());
    assert!(states.windows(2).all(|pair| pair[0] != pair[1]), "what has not changed is not written again: {}", done.all());
    until("the list shows that it has ended", || list.stdout().contains("\"state\":\"stopped\""));
    list.signal(Signal::INT);
    let _ = list.finish(PATIENCE).exits(0);
}
