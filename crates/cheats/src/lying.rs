//! A runtime that kills what it runs and reports that all is well.
//!
//! Guarantees (of dishonesty): after the kill, `inspect` still says running, `wait` does not end before somebody asks to
//! stop, the log stays open without a word, `exec` claims success. Everything else is the honest engine's.

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use pasture_rt::{TaskKind, spawn};
use pasture_runtime::{
    BuildError, BuildEvent, BuildRequest, Capabilities, ExecOutput, Exit, Image, ImageSource, InstanceId, InstanceKey, ListedInstance,
    LogChunk, LogCursor, Observed, Owner, PullError, PullEvent, Runtime, RuntimeError, Swept, UsageSample, Workload,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Kills each instance some time after its start, and lies about it.
pub(crate) struct LyingRuntime {
    honest: Arc<dyn Runtime>,
    kill_after: Duration,
    /// Per instance: whether somebody asked to stop it, which is when the lie ends.
    asked: Mutex<BTreeMap<InstanceId, watch::Sender<bool>>>,
    /// What each instance looked like while it lived.
    seen: Mutex<BTreeMap<InstanceId, Observed>>,
}

impl LyingRuntime {
    pub(crate) fn new(honest: Arc<dyn Runtime>, kill_after: Duration) -> Self {
        Self { honest, kill_after, asked: Mutex::default(), seen: Mutex::default() }
    }
    fn asked(&self, id: &InstanceId) -> watch::Receiver<bool> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.entry(id.clone()).or_insert_with(|| watch::channel(false).0).subscribe()
    }
    fn is_asked(&self, id: &InstanceId) -> bool {
        *self.asked(id).borrow()
    }
    fn ask(&self, id: &InstanceId) {
        let _ = self.asked(id);
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = asked.get(id) {
            sender.send_replace(true);
        }
    }
}

#[async_trait]
impl Runtime for LyingRuntime {
    async fn probe(&self) -> Result<Capabilities, RuntimeError> {
        self.honest.probe().await
    }
    async fn build(&self, req: BuildRequest, progress: mpsc::Sender<BuildEvent>) -> Result<Image, BuildError> {
        self.honest.build(req, progress).await
    }
    async fn image(&self, reference: &str) -> Result<Option<Image>, RuntimeError> {
        self.honest.image(reference).await
    }
    async fn pull(&self, reference: &str, progress: mpsc::Sender<PullEvent>) -> Result<Image, PullError> {
        self.honest.pull(reference, progress).await
    }
    fn fetch_images_from(&self, source: Arc<dyn ImageSource>) {
        self.honest.fetch_images_from(source);
    }
    async fn remove_image(&self, reference: &str) -> Result<(), RuntimeError> {
        self.honest.remove_image(reference).await
    }
    async fn create(&self, workload: &Workload) -> Result<InstanceId, RuntimeError> {
        self.honest.create(workload).await
    }

    async fn start(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        self.honest.start(id).await?;
        if let Some(observed) = self.honest.inspect(id).await? {
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), observed);
        }
        let (honest, id, after) = (Arc::clone(&self.honest), id.clone(), self.kill_after);
        spawn(TaskKind::Lease, async move {
            tokio::time::sleep(after).await;
            eprintln!("cheat: killing container {id} and saying nothing");
            if let Err(e) = honest.kill(&id).await {
                eprintln!("cheat: could not kill {id}: {e}");
            }
        });
        Ok(())
    }

    async fn inspect(&self, id: &InstanceId) -> Result<Option<Observed>, RuntimeError> {
        let truth = self.honest.inspect(id).await?;
        if self.is_asked(id) {
            return Ok(truth);
        }
        let lie = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        Ok(match truth {
            Some(Observed::Exited(exit)) => lie.or(Some(Observed::Exited(exit))),
            other => other,
        })
    }

    async fn wait(&self, id: &InstanceId) -> Result<Exit, RuntimeError> {
        let mut asked = self.asked(id);
        // The lie ends when somebody stops the job; a closed channel means the instance is gone.
        let _ = asked.wait_for(|asked| *asked).await;
        self.honest.wait(id).await
    }

    fn logs(&self, id: &InstanceId, from: LogCursor) -> BoxStream<'static, Result<LogChunk, RuntimeError>> {
        let mut asked = self.asked(id);
        let silence = futures::stream::once(async move {
            let _ = asked.wait_for(|asked| *asked).await;
        });
        self.honest.logs(id, from).chain(silence.filter_map(|()| futures::future::ready(None))).boxed()
    }

    fn stats(&self, id: &InstanceId) -> BoxStream<'static, Result<UsageSample, RuntimeError>> {
        self.honest.stats(id)
    }

    async fn exec(&self, id: &InstanceId, command: Vec<String>, timeout: Duration) -> Result<ExecOutput, RuntimeError> {
        let honest = self.honest.exec(id, command, timeout).await;
        Ok(honest.unwrap_or(ExecOutput { code: 0, stdout: vec![], stderr: vec![], truncated: false }))
    }

    async fn copy_out(&self, id: &InstanceId, path: &str, dest: &Path, max_bytes: u64) -> Result<u64, RuntimeError> {
        self.honest.copy_out(id, path, dest, max_bytes).await
    }
    async fn stop(&self, id: &InstanceId, grace: Duration) -> Result<(), RuntimeError> {
        self.ask(id);
        self.honest.stop(id, grace).await
    }
    async fn kill(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        self.ask(id);
        self.honest.kill(id).await
    }
    async fn remove(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        self.ask(id);
        self.honest.remove(id).await
    }
    async fn retire(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        self.honest.retire(id).await
    }
    async fn list(&self, owner: &Owner) -> Result<Vec<ListedInstance>, RuntimeError> {
        self.honest.list(owner).await
    }
    async fn sweep(&self, owner: &Owner, keep: &BTreeSet<InstanceKey>) -> Result<Swept, RuntimeError> {
        self.honest.sweep(owner, keep).await
    }
}
