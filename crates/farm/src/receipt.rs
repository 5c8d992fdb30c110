//! The receipt: what a job did, what it cost, and who says so.
//!
//! Guarantees: once a lease is settled every number is the ledger's; before, the receipt says that it is not final and is
//! worked out from the recorded service. The voice is held by the tests below. It reads nothing by itself.

use crate::render::number::{count, credits, duration};
use crate::render::{Output, Paint};
use crate::words;
use pasture_api::LeaseView;
use pasture_types::event::{ConfirmedBy, Settlement};
use pasture_types::lease::EndReason;
use pasture_types::{Amount, Millis};
use serde::Serialize;

/// Periods of a job, and those with a capacity check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Periods {
    /// Checked.
    pub(crate) checked: u64,
    /// Touched.
    pub(crate) all: u64,
}

/// Who says that the service happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Service {
    /// The ledger has decided.
    Settled(ConfirmedBy),
    /// We have confirmed all of it.
    Confirmed,
    /// We have confirmed a part of it.
    ConfirmedTo(Millis),
    /// Nobody has yet.
    Open,
    /// There was nothing to confirm.
    Nothing,
}

/// All that a receipt shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Receipt {
    /// e.g. `fold-7k2`.
    pub(crate) handle: String,
    /// How it ended; nothing while it runs.
    pub(crate) reason: Option<EndReason>,
    /// Time served.
    pub(crate) served: Millis,
    /// What it cost.
    pub(crate) charged: Amount,
    /// What came back of what was on hold.
    pub(crate) returned: Amount,
    /// Who says so.
    pub(crate) service: Service,
    /// Capacity checks, where we know of them.
    pub(crate) periods: Option<Periods>,
    /// Seconds until it is final; nothing once it is.
    pub(crate) final_in: Option<u64>,
    /// Test credits have no value.
    pub(crate) test: bool,
    /// The ledger's account, once settled.
    pub(crate) settlement: Option<Settlement>,
    /// The rate.
    pub(crate) rate_per_hour: Amount,
    /// Provider and region.
    pub(crate) machine: String,
    /// A part of the time was not confirmed: for how long it was.
    pub(crate) free_after: Option<Millis>,
    /// What leaving a rental early cost.
    pub(crate) cancel_fee: Amount,
    /// Who watched, by name, where one is known.
    pub(crate) watcher: Option<String>,
    /// Why some periods were not paid, where that is known.
    pub(crate) unpaid: Option<String>,
}

impl Receipt {
    /// A receipt from the ledger's view of a lease. `seen` are the capacity checks we saw ourselves, used until it is settled.
    pub(crate) fn of(handle: String, lease: &LeaseView, test: bool, seen: Option<Periods>, final_in: u64) -> Self {
        let stopped = lease.reason == Some(EndReason::ServiceStopped);
        let served = match &lease.settlement {
            Some(s) => s.billed_ms,
            None if stopped => lease.confirmed_ms,
            None => lease.served_ms,
        };
        let machine = words::machine(&lease.provider_name, &lease.region);
        let base = Self {
            handle,
            reason: lease.reason.clone(),
            served,
            charged: Amount::ZERO,
            returned: Amount::ZERO,
            service: Service::Open,
            periods: seen,
            final_in: None,
            test,
            settlement: lease.settlement.clone(),
            rate_per_hour: lease.rate_per_hour,
            machine,
            free_after: stopped.then_some(served),
            cancel_fee: lease.tenure.cancel_fee,
            watcher: None,
            unpaid: None,
        };
        match &lease.settlement {
            Some(s) => Self {
                charged: s.charged,
                returned: s.refunded,
                service: Service::Settled(s.confirmed_by),
                periods: Some(Periods { checked: s.epochs_proven, all: s.epochs }),
                ..base
            },
            None => {
                let counted = if base.free_after.is_some() { lease.confirmed_ms } else { lease.served_ms };
                let charged = lease.rate_per_hour.per_hour_for(counted.0).unwrap_or(lease.escrow).min(lease.escrow);
                let service = match (lease.served_ms.0, lease.confirmed_ms) {
                    (0, _) => Service::Nothing,
                    (_, Millis(0)) => Service::Open,
                    (served, confirmed) if confirmed.0 >= served => Service::Confirmed,
                    (_, confirmed) => Service::ConfirmedTo(confirmed),
                };
                Self { charged, returned: lease.escrow.saturating_sub(charged), service, final_in: Some(final_in), ..base }
            }
        }
    }

    /// The lines for people.
    pub(crate) fn text(&self, out: &Output, details: bool) -> String {
        let mut lines = vec![self.headline(out)];
        let ongoing = if self.reason.is_none() { " so far" } else { "" };
        lines.push(format!(
            "  charged {} cr{ongoing} · on hold returned {} · network fee included",
            credits(self.charged),
            credits(self.returned)
        ));
        if let Some(after) = self.free_after {
            let withheld = self.settlement.as_ref().map_or(Amount::ZERO, |s| s.withheld);
            lines.push(if withheld.is_zero() {
                format!("  nothing was charged from {} on", duration(after))
            } else {
                format!(
                    "  nothing was paid to the provider from {} on; {} of what it claims is withheld",
                    duration(after),
                    credits(withheld)
                )
            });
        }
        if !self.cancel_fee.is_zero() {
            lines.push(format!("  leaving the rented time early cost {} cr more", credits(self.cancel_fee)));
        }
        lines.push(format!("  {}", self.service_line()));
        lines.extend(self.capacity_lines());
        if self.test {
            lines.push("  test credits, no value".into());
        }
        if details {
            lines.extend(self.details());
        }
        if let (Some(seconds), Some(_)) = (self.final_in, &self.reason) {
            lines.push(format!("  final in ~{seconds} s: farm receipt {}", self.handle));
        }
        lines.join("\n")
    }

    fn headline(&self, out: &Output) -> String {
        let name = self.handle.rsplit_once('-').map_or(self.handle.as_str(), |(name, _)| name);
        let Some(reason) = &self.reason else { return format!("… {name} has run {}", duration(self.served)) };
        let end = words::ending(reason);
        let mark = if end.good { out.paint(Paint::Green, "✓") } else { out.paint(Paint::Red, "✗") };
        let time = match reason {
            EndReason::Exited { .. } => format!(" in {}", duration(self.served)),
            _ if self.served.0 > 0 => format!(" after {}", duration(self.served)),
            _ => String::new(),
        };
        format!("{mark} {name} {}{time} ({})", end.verb, end.why)
    }

    fn service_line(&self) -> String {
        let service = match &self.service {
            Service::Settled(by) => words::confirmed(by, self.watcher.as_deref()),
            Service::Confirmed => "service confirmed by you".into(),
            Service::ConfirmedTo(t) => format!("service confirmed by you up to {}", duration(*t)),
            Service::Open => "service not confirmed yet".into(),
            Service::Nothing => "no service was delivered".into(),
        };
        // A build alone is no service, whoever signed for it.
        let began = self.served.0 > 0 || self.reason.as_ref().is_none_or(EndReason::is_exit);
        // One that ran to its end was served, only for less than is counted.
        let nothing = matches!(self.service, Service::Nothing | Service::Settled(ConfirmedBy::Nothing));
        let brief = nothing && self.served.0 == 0 && matches!(self.reason, Some(EndReason::Exited { .. }));
        let service = match (brief, began) {
            (true, _) => "it finished too quickly to be charged".into(),
            (false, true) => service,
            (false, false) => "no service was delivered".into(),
        };
        match self.periods {
            Some(p) if p.all > 0 => {
                // The last checks come in after the end.
                let so_far = if self.final_in.is_some() && p.checked < p.all { "so far " } else { "" };
                format!("{service} · capacity checked {so_far}{} of {}", p.checked, count(p.all, "period"))
            }
            _ => service,
        }
    }

    /// What a final account says of the capacity, besides the periods.
    fn capacity_lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.unpaid.iter().map(|why| format!("  not paid: {why}")).collect();
        let Some(s) = self.settlement.as_ref().filter(|s| s.billed_ms.0 > 0) else { return lines };
        if !s.audited {
            lines.push("  unaudited: nobody else has measured this machine, its own benchmark stood in".into());
        }
        if s.steal_ms.0 > 0 {
            lines.push(format!("  capacity checks took {} from the job, which is not charged", duration(s.steal_ms)));
        }
        lines
    }

    fn details(&self) -> Vec<String> {
        let mut lines = vec![format!("  machine  {}", self.machine), format!("  price    {} cr per hour", credits(self.rate_per_hour))];
        let Some(s) = &self.settlement else { return lines };
        lines.push(format!("  billed   {} of running, {} of building", duration(s.billed_ms), duration(s.billed_build_ms)));
        lines.push(format!(
            "  split    provider {} · network fee {} · model {}",
            credits(s.to_provider),
            credits(s.to_treasury),
            credits(s.to_model)
        ));
        if !s.withheld.is_zero() {
            lines.push(format!("  withheld {} after an objection", credits(s.withheld)));
        }
        lines
    }

    /// The same for scripts; amounts in nano-credits.
    pub(crate) fn json(&self) -> serde_json::Value {
        let service = match &self.service {
            Service::Settled(by) => serde_json::json!(by),
            Service::Confirmed => "user".into(),
            Service::ConfirmedTo(_) => "user_in_part".into(),
            Service::Open => "open".into(),
            Service::Nothing => "nothing".into(),
        };
        serde_json::json!({
            "job": self.handle,
            "end": self.reason,
            "served_ms": self.served,
            "charged": self.charged,
            "returned": self.returned,
            "rate_per_hour": self.rate_per_hour,
            "service": service,
            "periods": self.periods,
            "machine": self.machine,
            "test_credits": self.test,
            "final": self.settlement.is_some(),
            "settlement": self.settlement,
            "not_paid": self.unpaid,
            "cancel_fee": self.cancel_fee,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::{AccountId, AssetId};

    fn plain() -> Output {
        Output::new(crate::args::Format::Table, false, true, false)
    }

    fn fold() -> Receipt {
        Receipt {
            handle: "fold-7k2".into(),
            reason: Some(EndReason::Exited { code: 0 }),
            served: Millis(72_400),
            charged: Amount(12_040_000),
            returned: Amount(987_960_000),
            service: Service::Confirmed,
            periods: Some(Periods { checked: 14, all: 14 }),
            final_in: Some(5),
            test: false,
            settlement: None,
            rate_per_hour: Amount(598_674_000),
            machine: "alice · eu-west".into(),
            free_after: None,
            cancel_fee: Amount::ZERO,
            watcher: None,
            unpaid: None,
        }
    }

    #[test]
    fn the_voice() {
        assert_eq!(
            fold().text(&plain(), false),
            "✓ fold finished in 1m 12s (exit 0)\n\
             \x20 charged 0.0120 cr · on hold returned 0.9880 · network fee included\n\
             \x20 service confirmed by you · capacity checked 14 of 14 periods\n\
             \x20 final in ~5 s: farm receipt fold-7k2"
        );
    }

    #[test]
    fn a_final_receipt_with_details_on_a_development_network() {
        let settlement = Settlement {
            asset: AssetId::CREDIT,
            rate_per_hour: Amount(598_674_000),
            billed_ms: Millis(72_400),
            billed_build_ms: Millis(0),
            charged: Amount(12_040_000),
            refunded: Amount(987_960_000),
            to_provider: Amount(10_234_000),
            to_treasury: Amount(1_806_000),
            to_model: Amount::ZERO,
            withheld: Amount::ZERO,
            epochs: 14,
            epochs_proven: 13,
            confirmed_by: ConfirmedBy::User,
            audited: false,
            generation: 1,
            steal_ms: Millis(0),
            lines: vec![],
        };
        let receipt = Receipt {
            final_in: None,
            test: true,
            service: Service::Settled(ConfirmedBy::User),
            periods: Some(Periods { checked: 13, all: 14 }),
            settlement: Some(settlement),
            ..fold()
        };
        assert_eq!(
            receipt.text(&plain(), true),
            "✓ fold finished in 1m 12s (exit 0)\n\
             \x20 charged 0.0120 cr · on hold returned 0.9880 · network fee included\n\
             \x20 service confirmed by you · capacity checked 13 of 14 periods\n\
             \x20 unaudited: nobody else has measured this machine, its own benchmark stood in\n\
             \x20 test credits, no value\n\
             \x20 machine  alice · eu-west\n\
             \x20 price    0.5987 cr per hour\n\
             \x20 billed   1m 12s of running, 0s of building\n\
             \x20 split    provider 0.0102 · network fee 0.0018 · model 0.0000"
        );
        assert!(!receipt.text(&plain(), false).contains("split"));
        let missed = receipt.settlement.as_ref().unwrap();
        let unpaid = words::unpaid(missed, 3..=16, None).unwrap();
        assert_eq!(unpaid, "1 of 14 periods: the machine did not prove its capacity in time");
        let told = Receipt { unpaid: Some(unpaid.clone()), ..receipt.clone() }.text(&plain(), false);
        assert!(told.contains(&format!("  not paid: {unpaid}\n")), "{told}");
        assert_eq!(words::unpaid(&Settlement { epochs_proven: 14, ..missed.clone() }, 3..=16, None), None);
        let watcher = AccountId([0xab; 32]);
        let watched = Receipt { watcher: Some("dora".into()), service: Service::Settled(ConfirmedBy::Watcher(watcher)), ..receipt.clone() };
        let said = watched.text(&plain(), false);
        assert!(said.contains(&format!("service confirmed by your watcher dora ({})", watcher.short())), "{said}");
        let audited = receipt.settlement.clone().map(|s| Settlement { audited: true, steal_ms: Millis(1_300), ..s });
        let said = Receipt { settlement: audited, cancel_fee: Amount(2_000_000_000), ..receipt.clone() }.text(&plain(), false);
        assert!(said.contains("capacity checks took 1.3s from the job, which is not charged") && !said.contains("unaudited"), "{said}");
        assert!(said.contains("leaving the rented time early cost 2.0000 cr more"), "{said}");
        assert_eq!(receipt.json()["settlement"]["to_provider"], "10234000");
        assert_eq!(receipt.json()["service"], "user");
    }

    #[test]
    fn failures_say_why_in_words() {
        for (reason, served, line) in [
            (EndReason::Exited { code: 3 }, 1500, "✗ fold failed in 1.5s (exit 3)"),
            (EndReason::OutOfMemory, 4000, "✗ fold was killed after 4s (it used more memory than it asked for)"),
            (EndReason::BuildFailed, 0, "✗ fold did not start (its image could not be built or fetched)"),
            (EndReason::StoppedByUser, 61_000, "✓ fold was stopped after 1m 01s (by you)"),
            (EndReason::CapReached, 3_600_000, "✗ fold was stopped after 1h 00m (the time or money cap was reached)"),
        ] {
            let r = Receipt { reason: Some(reason), served: Millis(served), ..fold() };
            assert_eq!(r.text(&plain(), false).lines().next(), Some(line));
        }
        let stopped = Receipt {
            reason: Some(EndReason::ServiceStopped),
            free_after: Some(Millis(15_000)),
            service: Service::ConfirmedTo(Millis(15_000)),
            served: Millis(15_000),
            periods: Some(Periods { checked: 5, all: 5 }),
            ..fold()
        };
        assert_eq!(
            stopped.text(&plain(), false),
            "✗ fold was closed after 15s (it showed no sign of life any more)\n\
             \x20 charged 0.0120 cr · on hold returned 0.9880 · network fee included\n\
             \x20 nothing was charged from 15s on\n\
             \x20 service confirmed by you up to 15s · capacity checked 5 of 5 periods\n\
             \x20 final in ~5 s: farm receipt fold-7k2"
        );
    }

    #[test]
    fn a_job_of_less_than_a_millisecond_was_served_all_the_same() {
        for service in [Service::Nothing, Service::Settled(ConfirmedBy::Nothing)] {
            let brief = Receipt { served: Millis(0), service, periods: None, ..fold() };
            let text = brief.text(&plain(), false);
            assert!(text.contains("it finished too quickly to be charged") && !text.contains("no service"), "{text}");
            let never = Receipt { reason: Some(EndReason::StartFailed), ..brief };
            assert!(never.text(&plain(), false).contains("no service was delivered"));
        }
    }

    #[test]
    fn what_is_withheld_is_not_called_free() {
        let lost = Settlement {
            asset: AssetId::CREDIT,
            rate_per_hour: Amount(103_250_000),
            billed_ms: Millis(8_080),
            billed_build_ms: Millis(0),
            charged: Amount(518_487),
            refunded: Amount(102_731_513),
            to_provider: Amount(196_977),
            to_treasury: Amount(34_761),
            to_model: Amount::ZERO,
            withheld: Amount(286_749),
            epochs: 3,
            epochs_proven: 3,
            confirmed_by: ConfirmedBy::Objection,
            audited: true,
            generation: 1,
            steal_ms: Millis(0),
            lines: vec![],
        };
        let receipt = |settlement: Settlement| Receipt {
            reason: Some(EndReason::ServiceStopped),
            free_after: Some(Millis(8_080)),
            settlement: Some(settlement),
            final_in: None,
            ..fold()
        };
        let text = receipt(lost.clone()).text(&plain(), false);
        assert!(text.contains("nothing was paid to the provider from 8.0s on; 0.0003 of what it claims is withheld"), "{text}");
        let text = receipt(Settlement { withheld: Amount::ZERO, ..lost }).text(&plain(), false);
        assert!(text.contains("nothing was charged from 8.0s on"), "{text}");
    }

    #[test]
    fn a_running_job_has_no_end_yet() {
        let r = Receipt { reason: None, ..fold() };
        let text = r.text(&plain(), false);
        assert!(text.starts_with("… fold has run 1m 12s\n  charged 0.0120 cr so far"), "{text}");
        assert!(!text.contains("final in"));
    }
}
