//! What the engine takes for its runtime: the deterministic one, with a disk of this validator's.
//!
//! Guarantees: tasks, time and randomness are the simulated runtime's own; only files are [`Disk`]'s, and metrics nobody's. Timers are not skewed
//! (clocks differ in what they show, hardly in how fast they go); [`SkewedClock`] is what a validator takes for the time.

use super::disk::{Disk, SimBlob};
use commonware_runtime::{
    BlobVersion, Clock, Error, Handle, Metrics, Name, Spawner, Storage, Supervisor,
    deterministic::Context,
    signal::Signal,
    telemetry::metrics::{Metric, Registered},
};
use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A validator's runtime.
pub(super) struct NodeContext {
    inner: Context,
    disk: Disk,
    /// For files, which may outlive the context that opened them.
    files: Arc<Context>,
}

impl NodeContext {
    pub(super) fn new(inner: Context, disk: Disk) -> Self {
        let files = Arc::new(inner.child("disk"));
        Self { inner, disk, files }
    }
}

impl Supervisor for NodeContext {
    fn name(&self) -> Name {
        self.inner.name()
    }
    fn child(&self, label: &'static str) -> Self {
        Self { inner: self.inner.child(label), disk: self.disk.clone(), files: Arc::clone(&self.files) }
    }
    fn with_attribute(self, key: &'static str, value: impl std::fmt::Display) -> Self {
        Self { inner: self.inner.with_attribute(key, value), ..self }
    }
}

impl Spawner for NodeContext {
    fn shared(self, blocking: bool) -> Self {
        Self { inner: self.inner.shared(blocking), ..self }
    }
    fn dedicated(self) -> Self {
        Self { inner: self.inner.dedicated(), ..self }
    }
    fn spawn<F, Fut, T>(self, f: F) -> Handle<T>
    where
        F: FnOnce(Self) -> Fut + Send + 'static,
        Fut: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let Self { inner, disk, files } = self;
        inner.spawn(move |inner| f(Self { inner, disk, files }))
    }
    async fn stop(self, value: i32, timeout: Option<Duration>) -> Result<(), Error> {
        self.inner.stop(value, timeout).await
    }
    fn stopped(&self) -> Signal {
        self.inner.stopped()
    }
}

impl Metrics for NodeContext {
    fn register<N: Into<String>, H: Into<String>, M: Metric>(&self, name: N, help: H, metric: M) -> Registered<M> {
        // Nobody reads them, and each term makes hundreds.
        let _ = (name, help);
        Registered::detached(metric)
    }
    fn encode(&self) -> String {
        self.inner.encode()
    }
}

impl Clock for NodeContext {
    fn current(&self) -> SystemTime {
        self.inner.current()
    }
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.inner.sleep(duration)
    }
    fn sleep_until(&self, deadline: SystemTime) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.inner.sleep_until(deadline)
    }
}

impl governor::clock::Clock for NodeContext {
    type Instant = SystemTime;
    fn now(&self) -> SystemTime {
        self.inner.current()
    }
}

impl governor::clock::ReasonablyRealtime for NodeContext {}

impl rand_core::TryRng for NodeContext {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.inner.try_next_u32()
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.inner.try_next_u64()
    }
    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        self.inner.try_fill_bytes(into)
    }
}

impl rand_core::TryCryptoRng for NodeContext {}

impl Storage for NodeContext {
    type Blob = SimBlob;
    async fn open_versioned(
        &self,
        partition: &str,
        name: &[u8],
        versions: RangeInclusive<BlobVersion>,
    ) -> Result<(SimBlob, u64, BlobVersion), Error> {
        self.disk.open(&self.files, partition, name, &versions)
    }
    async fn remove(&self, partition: &str, name: Option<&[u8]>) -> Result<(), Error> {
        self.disk.remove(partition, name)
    }
    async fn scan(&self, partition: &str) -> Result<Vec<Vec<u8>>, Error> {
        self.disk.scan(partition)
    }
}

/// Milliseconds of simulated time since the Unix epoch.
pub(super) fn now_ms(context: &Context) -> u64 {
    let since = context.current().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A wall clock that is wrong by a fixed amount.
pub(super) struct SkewedClock {
    pub(super) context: Context,
    pub(super) skew_ms: i64,
}

impl pasture_rt::Clock for SkewedClock {
    fn now_ms(&self) -> u64 {
        now_ms(&self.context).saturating_add_signed(self.skew_ms)
    }
    fn elapsed_ms(&self) -> u64 {
        now_ms(&self.context)
    }
}
