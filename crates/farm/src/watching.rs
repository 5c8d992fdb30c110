//! Showing something once, or again and again as it changes (`--watch`).
//!
//! Guarantees: on a terminal the newest state is all that is seen; elsewhere, and as data, each state is written once, when it differs
//! from the one before. Ctrl-C ends the showing. A call that fails is tried again for as long as a single one would be, by whoever looks.

use crate::exit::{Exit, Failure, Outcome};
use crate::feeds::Signals;
use crate::render::Output;
use serde_json::Value;
use std::time::Duration;

/// Between two looks: a person sees it as at once, and a network is not kept busy by screens that are left open.
const EVERY: Duration = Duration::from_secs(2);

/// What is seen at one look.
#[derive(Debug)]
pub(crate) struct View {
    /// For programs.
    pub(crate) value: Value,
    /// For people.
    pub(crate) text: String,
    /// Nothing more can change.
    pub(crate) over: bool,
}

/// Shows what `look` sees: once, or until it is over.
pub(crate) async fn show(out: Output, watch: bool, look: impl AsyncFn() -> Result<View, Failure>) -> Outcome {
    if !watch {
        let view = look().await?;
        write(out, &view);
        return Ok(Exit::Ok);
    }
    let mut signals = Signals::listen()?;
    tokio::select! {
        outcome = go_on(out, look) => outcome,
        // It ends the showing, and nothing else.
        _ = signals.next() => Ok(Exit::Ok),
    }
}

fn write(out: Output, view: &View) {
    if out.json || !view.text.is_empty() {
        out.either(&view.value, || view.text.clone());
    }
}

async fn go_on(out: Output, look: impl AsyncFn() -> Result<View, Failure>) -> Outcome {
    let mut before: Option<Value> = None;
    loop {
        let view = look().await?;
        if out.redraws() {
            // Also when nothing changed but how long ago things were.
            out.redraw(&view.text);
        } else if before.as_ref() != Some(&view.value) {
            write(out, &view);
        }
        if view.over {
            return Ok(Exit::Ok);
        }
        before = Some(view.value);
        tokio::time::sleep(EVERY).await;
    }
}
