//! Statements about machines, signed by somebody else, and jobs that ask for them.

use crate::support::{Net, Options, SMALL, User, until};

#[test]
fn a_certificate_is_issued_put_shown_asked_for_and_taken_back() {
    let net = Net::start(Options::default());
    let operator = User::at(net.data().join("provider"), net.url().to_string());
    let issuer = net.stranger().with_credits();
    let account = issuer.account().to_string();
    let user = net.stranger();
    let by = |what: &str| format!("{what}@{account}");
    let explain = |certificate: &str| {
        user.farm(&[&["explain", "pasture/busybox:1", "--certificate", certificate][..], &SMALL].concat()).exits(0).stdout
    };
    until("the machine can be drawn", || !user.farm(&[&["explain", "pasture/busybox:1"][..], &SMALL].concat()).stdout.contains("0 of"));
    let refused = explain(&by("tier:3"));
    assert!(refused.contains("0 of 1 offer") && refused.contains("would help: leave out the condition"), "{refused}");

    let issued = issuer.farm(&["certificate", "issue", net.node(), "--tier", "3", "--json"]).exits(0).json();
    let code = issued["certificate"].as_str().unwrap().to_string();
    // Only its subject's owner puts it: its issuer is not on this network's list.
    let _ = issuer.farm(&["certificate", "put", &code]).exits(125).says(&["only its subject"]);
    let put = |code: &str| operator.farm(&["--api-url", net.url(), "certificate", "put", code]);
    let _ = put("pasture-certificate-00").exits(2).says(&["mistyped or incomplete"]);
    let _ = put(&code).exits(0).says(&["data centre of tier 3"]);
    let shown = user.farm(&["offers", net.node()]).exits(0);
    let _ = shown.says(&["data centre of tier 3, about its provider", "an issuer that this network does not list"]);
    assert!(explain(&by("tier:3")).contains("1 of 1 offer"));
    assert!(explain(&by("tier:4")).contains("0 of 1 offer"), "tier 4 is better than what was certified");
    assert!(explain("tier:3").contains("0 of 1 offer"), "nobody on the network's own list said so");
    let folder = crate::support::Folder::script("certified", "echo certified");
    assert_eq!(user.run(&folder, &["--certificate", &by("tier:2")]).exits(0).stdout, "certified\n");

    let _ = issuer.farm(&["certificate", "revoke", net.node(), "tier"]).exits(0).says(&["counts no more"]);
    assert!(explain(&by("tier:3")).contains("0 of 1 offer"));
    let _ = put(&code).exits(125).says(&["taken it back"]);
    let _ = user.farm(&["ledger", "check"]).exits(0);
}
