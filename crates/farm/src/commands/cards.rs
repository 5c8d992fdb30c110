//! `farm provider self-test --gpu`: what Vulkan finds to compute on, and how fast each is at the work that proofs are made of.
//!
//! Guarantees: nothing is offered or left behind; one adapter after another, a few seconds each; one that fails does not hide the others. An adapter in
//! software is called that, in the text and in JSON: it is the processor once more, and no card.

use crate::exit::{Exit, Failure, Outcome};
use crate::render::number::each_second;
use crate::render::{Progress, Table};
use crate::session::App;
use pasture_gpu::{Adapter, Gauge, GpuError, Kind, adapters, gauge};
use pasture_rt::{TaskKind, spawn_blocking};
use pasture_types::resources::display_bytes;
use serde::Serialize;
use std::time::Duration;

/// How long products and hashes are measured, each.
const LENGTH: Duration = Duration::from_secs(1);

/// One adapter, and what it does or why not.
#[derive(Serialize)]
struct Card {
    name: String,
    kind: &'static str,
    software: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    bus: Option<String>,
    driver: String,
    max_buffer_bytes: u64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    rates: Option<Rates>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

#[derive(Serialize)]
struct Rates {
    macs_per_s: u64,
    product_width: u32,
    hashes_per_s: u64,
}

impl Card {
    fn new(adapter: &Adapter, measured: Result<Gauge, GpuError>) -> Self {
        let rates = |g: &Gauge| Rates { macs_per_s: g.macs_per_s, product_width: g.width, hashes_per_s: g.hashes_per_s };
        Self {
            name: adapter.name().into(),
            kind: adapter.kind().word(),
            software: adapter.kind() == Kind::Software,
            bus: adapter.bus().map(str::to_owned),
            driver: adapter.driver().into(),
            max_buffer_bytes: adapter.max_buffer_bytes(),
            rates: measured.as_ref().ok().map(rates),
            problem: measured.err().map(|e| e.to_string()),
        }
    }
}

/// Runs the command.
pub(super) async fn run(app: &App) -> Outcome {
    let mut progress = Progress::new(app.out);
    progress.step("asking Vulkan ...");
    let found = blocking(adapters).await?.map_err(|e| {
        let failure = Failure::new("no-adapter", e.to_string());
        failure.next("GPUs of NVIDIA are found without Vulkan too; what jobs need:  farm doctor")
    })?;
    let mut cards = Vec::with_capacity(found.len());
    for adapter in found {
        progress.step(&format!("measuring {} ...", adapter.name()));
        let (adapter, measured) = blocking(move || {
            let measured = adapter.open().and_then(|device| gauge(&device, LENGTH));
            (adapter, measured)
        })
        .await?;
        cards.push(Card::new(&adapter, measured));
    }
    progress.clear();
    app.out.either(&cards, || text(&cards));
    if cards.iter().all(|card| card.software) {
        app.out.note("! no graphics card: what was measured is this machine's processor, by a driver that stands in for one");
    }
    Ok(if cards.iter().all(|card| card.problem.is_some()) { Exit::Failed } else { Exit::Ok })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let done = spawn_blocking(TaskKind::ClientFollow, work).join().await;
    done.ok_or_else(|| Failure::new("no-adapter", "the measurement was broken off"))
}

fn text(cards: &[Card]) -> String {
    let mut table = Table::pairs();
    for card in cards {
        let mut row = |name: &str, text: String| table.row([name.into(), text]);
        let place = card.bus.as_ref().map_or_else(String::new, |bus| format!(", PCI {bus}"));
        row("adapter", format!("{} ({}{place})", card.name, if card.software { "software, no card" } else { card.kind }));
        row("driver", format!("{}; buffers of up to {}", card.driver, display_bytes(card.max_buffer_bytes)));
        if let Some(rates) = &card.rates {
            let products = each_second(rates.macs_per_s);
            row("products", format!("{products} multiply-adds of int8, {} wide, hashes of rows in it", rates.product_width));
            row("hashes", format!("{} of capacity checks", each_second(rates.hashes_per_s)));
        }
        if let Some(problem) = &card.problem {
            row("problem", problem.clone());
        }
    }
    table.text().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_in_software_is_called_that_and_a_failure_is_told() {
        let rates = Some(Rates { macs_per_s: 2_345_000_000, product_width: 1_024, hashes_per_s: 4_000_000 });
        let card = |software, rates, problem: Option<&str>| Card {
            name: "X".into(),
            kind: "discrete",
            software,
            bus: Some("0000:01:00.0".into()),
            driver: "D 1".into(),
            max_buffer_bytes: 128 << 20,
            rates,
            problem: problem.map(str::to_owned),
        };
        let text = text(&[card(true, rates, None), card(false, None, Some("the card was lost"))]);
        for part in ["X (software, no card, PCI 0000:01:00.0)", "X (discrete", "2345.0M/s", "1024 wide", "4000k/s", "the card was lost"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
