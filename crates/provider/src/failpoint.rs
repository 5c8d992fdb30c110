//! Named points between durable writes, where a test may kill the process.
//!
//! Guarantees: a point does nothing unless the caller of [`crate::Provider::start`] gave a hook; every name is in [`FAILPOINTS`].

use std::sync::Arc;

/// Called with the name of each point as it is passed.
pub type Failpoint = Arc<dyn Fn(&'static str) + Send + Sync>;

/// Every point, in the order in which a lease passes them.
pub const FAILPOINTS: &[&str] = &[
    "provider.lease.before_record",
    "provider.lease.after_record",
    "provider.accept.before_submit",
    "provider.accept.after_submit",
    "provider.manifest.after_store",
    "provider.context.after_append",
    "provider.context.after_store",
    "provider.image.after_fetch",
    "provider.container.after_create",
    "provider.container.after_start",
    "provider.state.before_save",
    "provider.state.after_save",
    "provider.log.after_append",
    "provider.log.after_mark",
    "provider.heartbeat.before_submit",
    "provider.heartbeat.after_submit",
    "provider.usage.before_submit",
    "provider.usage.after_submit",
    "provider.output.after_copy",
    "provider.close.before_submit",
    "provider.close.after_submit",
    "provider.container.after_remove",
];

/// The hook, if there is one.
#[derive(Clone, Default)]
pub(crate) struct Failpoints(pub(crate) Option<Failpoint>);

impl Failpoints {
    pub(crate) fn hit(&self, name: &'static str) {
        debug_assert!(FAILPOINTS.contains(&name), "{name} is not listed");
        if let Some(hook) = &self.0 {
            hook(name);
        }
    }
}
