//! What `farm up` says before its first yes: what is offered, what strangers' jobs may do, what it costs and what it may bring.
//!
//! Guarantees: every figure is this machine's, this network's or the owner's own; what is an estimate is called one. It promises no
//! earnings.

use crate::args::PowerArgs;
use crate::exit::Failure;
use crate::render::Table;
use crate::render::number::{credits, duration, per_hour};
use pasture_types::genesis::Params;
use pasture_types::market::Rates;
use pasture_types::market_rules::PPM;
use pasture_types::{Amount, Resources};
use std::path::Path;

/// What a busy core draws more than an idle one, roughly: from 5 W (laptops) to 20 W (old servers).
const WATTS_PER_CORE: u32 = 10;
/// Milliwatt-hours of a kilowatt-hour.
const MILLIWATTS: u128 = 1_000_000;

/// What the power costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Power {
    price_kwh: Option<Amount>,
    watts: Option<u32>,
}

impl Power {
    /// As the owner said it.
    pub(crate) fn of(args: &PowerArgs) -> Result<Self, Failure> {
        let price_kwh = args.power_price.as_deref().map(str::parse::<Amount>).transpose();
        Ok(Self { price_kwh: price_kwh.map_err(|e| Failure::usage(format!("--power-price: {e}")))?, watts: args.watts })
    }
}

/// What is to be offered, and where.
pub(crate) struct Plan<'a> {
    /// The network's name.
    pub(crate) network: &'a str,
    /// Its rules.
    pub(crate) params: &'a Params,
    /// What is offered.
    pub(crate) offered: &'a Resources,
    /// What the machine has.
    pub(crate) has: &'a Resources,
    /// At which prices.
    pub(crate) rates: &'a Rates,
    /// What power costs.
    pub(crate) power: Power,
    /// Begin without a deposit.
    pub(crate) no_deposit: bool,
    /// Jobs give way to the owner's own programs.
    pub(crate) gives_way: bool,
    /// The current folder can be run.
    pub(crate) folder: Option<&'a Path>,
}

/// Whether a folder can be run, which is perhaps what was meant.
pub(crate) fn is_runnable(folder: &Path) -> bool {
    ["Dockerfile", "Containerfile"].iter().any(|name| folder.join(name).is_file())
}

impl Plan<'_> {
    /// What an hour of everything brings the owner, where no model is named.
    fn net(&self) -> Option<(Amount, Amount)> {
        let full = self.rates.hourly(self.offered)?;
        let share = u128::from(self.params.provider_ppm.saturating_add(self.params.model_ppm));
        Some((full, full.mul_div(share, u128::from(PPM))?))
    }

    fn price(&self) -> String {
        let r = self.rates;
        let unit = format!(
            "{} cr a core, {} cr a GiB of memory, {} cr a GiB of disk, each an hour",
            credits(r.cpu_core),
            credits(r.memory_gib),
            credits(r.disk_gib)
        );
        match self.net() {
            Some((full, net)) => {
                format!("{unit}; all of it {}, of which you get {} cr after the network's share", per_hour(full), credits(net))
            }
            None => unit,
        }
    }

    fn power(&self) -> String {
        let cores = self.offered.cpu_millis.div_ceil(1000);
        let (watts, how) = match self.power.watts {
            Some(watts) => (watts, "as you say"),
            None => (cores.saturating_mul(WATTS_PER_CORE), "an estimate, --watts says better"),
        };
        let draws = format!("some {watts} W more when all of it is busy ({how})");
        let Some(price) = self.power.price_kwh else {
            return format!("{draws}; with --power-price, what a kWh costs you, the rest of the price is shown");
        };
        let Some((_, net)) = self.net() else { return draws };
        let cost = price.mul_div(u128::from(watts) * 1000, MILLIWATTS).unwrap_or(Amount(u128::MAX));
        let left = match net.checked_sub(cost) {
            Some(left) => format!("{} cr an hour are left of the price", credits(left)),
            None => format!("{} cr an hour MORE than the price brings: ask for a higher one", credits(cost.saturating_sub(net))),
        };
        format!("{draws}, {} cr an hour; {left}", credits(cost))
    }

    fn checks(&self) -> String {
        let p = self.params;
        let beat = share(p.heartbeat_work.0, p.epoch.0);
        let first = format!("while a job runs, {beat} of one core");
        if !p.audits.active {
            return format!("{first}; nothing when idle");
        }
        let a = &p.audits;
        format!(
            "{first}, and bursts of {} on all cores, {} of the time; nothing when idle",
            duration(a.burst),
            share(a.burst.0, a.interval.0)
        )
    }

    fn deposit(&self) -> String {
        let p = self.params;
        let posted = if self.no_deposit {
            format!("none to begin with: what it earns is kept until {} cr are together", credits(p.min_stake))
        } else {
            format!("{} cr, or what is missing to it", credits(p.min_stake))
        };
        format!(
            "{posted}. Forfeited in parts for contradicting itself in a capacity check ({}) or showing too little work twice (what open \
             jobs need of it); never for being off, late or slow alone. Back in your account {} after you leave",
            share(u64::from(p.stake.equivocation_ppm), u64::from(PPM)),
            duration(p.stake.unbond_delay)
        )
    }

    /// The text.
    pub(crate) fn text(&self) -> String {
        let mut table = Table::pairs();
        let mut row = |name: &str, text: String| table.row([format!("  {name}"), text]);
        let way = if self.gives_way { ", at low priority: your own programs go first" } else { "" };
        row("offered", format!("{} of {}{way}; the rest stays yours", self.offered, self.has));
        row("jobs reach", "DNS and HTTPS on the internet, from your address; never your own network, this machine or its files".into());
        row("checks", self.checks());
        row("deposit", self.deposit());
        row("price", self.price());
        row("power", self.power());
        row("earnings", "no jobs yet".into());
        row("ending it", "Ctrl-C (jobs go on and are taken up again), farm pause, farm drain; farm down leaves for good".into());
        let mut text = format!("this machine would be offered to {}:\n{}", self.network, table.text());
        if let Some(folder) = self.folder {
            text.push_str(&format!("  ! {} has a Dockerfile. To run that folder on the network instead:  farm run .\n", folder.display()));
        }
        text
    }
}

/// A part as a percentage with one decimal, rounded up: nothing looks like less than it is.
fn share(part: u64, whole: u64) -> String {
    let tenths = u128::from(part).saturating_mul(1000).div_ceil(u128::from(whole.max(1)));
    format!("{}.{} %", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(power: Power, folder: Option<&Path>) -> String {
        let has = Resources { cpu_millis: 4000, memory_bytes: 8 << 30, disk_bytes: 100 << 30, ..Resources::default() };
        let offered = Resources { cpu_millis: 2000, memory_bytes: 4 << 30, disk_bytes: 20 << 30, ..Resources::default() };
        let rates =
            Rates { cpu_core: Amount(500_000_000), memory_gib: Amount(100_000_000), disk_gib: Amount(2_000_000), ..Rates::default() };
        let params = Params::production();
        Plan {
            network: "test",
            params: &params,
            offered: &offered,
            has: &has,
            rates: &rates,
            power,
            no_deposit: false,
            gives_way: true,
            folder,
        }
        .text()
    }

    #[test]
    fn all_that_matters_is_said_before_the_first_yes() {
        let shown = text(Power { price_kwh: None, watts: None }, None);
        for part in [
            "the rest stays yours",
            "at low priority",
            "never your own network, this machine or its files",
            "0.5 % of one core",
            "100.0000 cr",
            "9d 00h after you leave",
            "all of it 1.4400 cr per hour, of which you get 1.2240 cr",
            "20 W more",
            "no jobs yet",
            "farm down",
        ] {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
        assert!(!shown.contains("farm run"), "{shown}");
        assert!(text(Power { price_kwh: None, watts: None }, Some(Path::new("/x"))).contains("farm run ."));
    }

    #[test]
    fn power_is_set_against_the_price() {
        let one = Amount::credits(1);
        let shown = text(Power { price_kwh: Some(one), watts: Some(500) }, None);
        assert!(shown.contains("0.5000 cr an hour; 0.7240 cr an hour are left"), "{shown}");
        let shown = text(Power { price_kwh: Some(one), watts: Some(2_000) }, None);
        assert!(shown.contains("0.7760 cr an hour MORE than the price brings"), "{shown}");
    }

    #[test]
    fn shares_are_rounded_up() {
        assert_eq!(share(300, 60_000), "0.5 %");
        assert_eq!(share(1, 60_000), "0.1 %");
        assert_eq!(share(4_000, 450_000), "0.9 %");
    }
}
