//! Why a run failed: the first panic of any task, and what the chain last called an error.
//!
//! Guarantees: a run is one thread, and what happens on other threads is not mixed in. The runtime catches panics, so that one
//! dishonest validator that gives up does not end the run; nothing that panicked is forgotten.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::Once;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

/// How the engine's mailbox panics for who still waits when the part that executes blocks has ended. Never the cause: a dishonest twin whose
/// part ended because it saw its other self is meant to stop, and where a part of an honest validator ends, that is said by who waits for it.
const CONSEQUENCE: &str = "stateful actor dropped during";

thread_local! {
    static BROKEN: RefCell<Option<String>> = const { RefCell::new(None) };
    static ERROR: RefCell<Option<String>> = const { RefCell::new(None) };
    static ABOUT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Begins to listen on this thread; what was heard before is forgotten.
pub(super) fn listen() -> tracing::subscriber::DefaultGuard {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let said = panic.payload_as_str().unwrap_or("it panicked").to_owned();
            if said.starts_with(CONSEQUENCE) {
                return;
            }
            BROKEN.with_borrow_mut(|broken| {
                broken.get_or_insert(said);
            });
            before(panic);
        }));
    });
    BROKEN.take();
    ERROR.take();
    ABOUT.take();
    tracing::subscriber::set_default(Errors)
}

/// Notes what the run is made of, for whoever reads why it failed.
pub(super) fn about(what: String) {
    ABOUT.set(what);
}

/// What the run is made of.
pub(super) fn what() -> String {
    ABOUT.with_borrow(Clone::clone)
}

/// The first panic.
pub(super) fn broken() -> Option<String> {
    BROKEN.with_borrow(Clone::clone)
}

/// The last error that was logged: the chain says there why it stops.
pub(super) fn error() -> Option<String> {
    ERROR.with_borrow(Clone::clone)
}

/// Remembers errors.
struct Errors;

impl Subscriber for Errors {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::ERROR)
    }
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        ERROR.set(Some(text.0));
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing into a string cannot fail.
        let _ = write!(self.0, "{field}: {value:?} ");
    }
}
