//! Offering a machine with nothing: the deposit is earned, or somebody else posts it.

use crate::support::{Folder, PATIENCE, Running, Signal, User, eventually, paid, shared, until};
use pasture_api::{Beginning, DepositView, OfferView};
use pasture_types::Amount;

/// What an operator of a machine has, as the network sees it.
fn standing(operator: &User) -> DepositView {
    let id = operator.account();
    *operator.api(async |api| api.account(&id).await).standing.expect("it is a provider")
}

#[test]
fn a_machine_without_credits_begins_earns_its_deposit_and_can_be_sponsored() {
    let net = shared();
    // The network's own funds pay a newcomer's first fees; priority is paid to them.
    let payer = net.stranger();
    let _ = payer.run(&Folder::script("payer", "true"), &["--priority", "50"]).exits(0);
    let operator = net.stranger();
    let data = operator.home().join("machine");
    let mut command = operator.command(&["up", "--no-deposit", "--region", "meadow", "--name", "from-nothing"]);
    command.args(["--cpu", "0.5", "--memory", "128Mi", "--disk", "1Gi", "--price-cpu", "3", "--price-memory", "0", "--price-disk", "0"]);
    command.arg("--data").arg(&data).arg("--engine").arg(&net.engine.socket);
    let mut up = Running::start(command);
    until("it says that it begins without a deposit", || {
        assert!(up.ended().is_none(), "{}", up.stderr());
        up.stderr().contains("deposit  0.0000 of 1.0000 cr: what the machine earns is kept for it until then")
    });
    let offer = eventually("the machine is on offer", PATIENCE, || {
        let offers: Vec<OfferView> = operator.api(async |api| api.offers().await);
        offers.into_iter().find(|o| o.provider_name == "from-nothing" && o.reachable)
    });
    let d = standing(&operator);
    assert_eq!((d.beginning, d.own, operator.books().free), (Beginning::Newcomer, Amount::ZERO, Amount::ZERO), "{d:?}");
    assert!(!d.first_fees.is_zero(), "{d:?}");

    // Its first job is paid into its deposit, to the last nano-credit.
    let user = net.stranger();
    let folder = Folder::script("first", "sleep 3; echo from the meadow");
    let done = user.run(&folder, &["--region", "meadow"]).exits(0).says(&["from-nothing"]);
    assert_eq!(done.stdout, "from the meadow\n");
    let (lease, _) = user.settled();
    let earned = paid(&lease).to_provider;
    let d = standing(&operator);
    assert!(!earned.is_zero());
    assert_eq!((d.own, d.withheld, operator.books().free), (earned, earned, Amount::ZERO), "{d:?}");
    until("it says what became of the pay", || up.stderr().matches("what the machine earns is kept").count() >= 2);
    let _ = operator.farm(&["status"]).exits(0).says(&["from-nothing", "of 1.0000 cr"]);
    let _ = operator.farm(&["deposit"]).exits(0).says(&["without a deposit", "first fees"]);

    // Somebody else posts the rest; from then on it is paid like any other.
    let friend = net.stranger().with_credits();
    let _ = friend.farm(&["deposit", "sponsor", "from-nothing", "0.00001"]).exits(125);
    let _ = friend.farm(&["deposit", "sponsor", "nobody-here", "1"]).exits(125).says(&["no machine or provider"]);
    let _ = friend.farm(&["deposit", "sponsor", &offer.node.to_string()[..10], "1"]).exits(0).says(&[&friend.account().to_string()]);
    assert!(!standing(&operator).keeps_earnings());
    let _ = user.run(&Folder::script("second", "sleep 3"), &["--region", "meadow"]).exits(0);
    let (lease, _) = user.settled();
    // Its own fees come out of that from now on.
    let (free, earned) = (operator.books().free, paid(&lease).to_provider);
    assert!(free <= earned && earned.saturating_sub(free) < Amount(100_000), "{free} of {earned}");
    let shown = friend.farm(&["offers", "from-nothing"]).exits(0);
    let _ = shown.says(&["1.0000 cr from sponsors", "not checked by others yet", "always"]);
    let _ = friend.farm(&["deposit", "withdraw", "from-nothing", "1"]).exits(0).says(&["free in"]);
    let _ = net.user().farm(&["ledger", "check"]).exits(0);
    up.signal(Signal::TERM);
    let _ = up.finish(PATIENCE).exits(0);
    net.engine.clear(&offer.node.to_string());
}
