//! Building with the engine's classic builder: the one whose steps can be put into a cgroup of ours.
//!
//! Guarantees: every `RUN` is under the limits, without network unless asked; the whole has a deadline; however it ends,
//! its processes are gone within seconds and no container stays. Does not: use BuildKit features (`RUN --mount`,
//! here-documents), limit what fetching a base image costs, delete the cached layers of builds that succeeded (those of a
//! failed build go at once, so that nobody fills a disk with failures).
//!
//! A removed image takes the layers with it that nothing else is built upon, also while another build has just found them in
//! the engine's cache, or has just ended with the same image: that build is begun again, without the cache.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bollard::{
    Docker, body_try_stream,
    errors::Error,
    models::BuildInfo,
    query_parameters::{BuildImageOptions, BuildImageOptionsBuilder, InspectContainerOptionsBuilder, ListContainersOptionsBuilder},
};
use futures::StreamExt;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};

use super::{Inner, cgroup::BuildGroup, podman, prepare::pieces, root, workload::check_limits};
use crate::{
    BuildError, BuildEvent, BuildLimits, BuildRequest, Image, MAX_BUILD_OUTPUT_BYTES, MAX_OUTPUT_TAIL_BYTES, Network, RuntimeError, Step,
};

/// How often the size of what a step has written is looked at.
const SIZE_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Containers of others that are remembered so as not to be looked at again.
const MAX_STRANGERS: usize = 4096;
/// Tries to remove the layers of a build that failed; the last of them may still be in use for a moment.
const FORGET_TRIES: u32 = 10;
/// Pause between these tries.
const FORGET_PAUSE: Duration = Duration::from_millis(50);
/// Attempts at a build whose layers others remove meanwhile. From the second on they are new ones, which only a build of the same
/// steps at the same moment can share.
const BUILD_TRIES: u32 = 4;
/// Most layers remembered that could not be removed yet.
const MAX_LEFTOVER_LAYERS: usize = 256;

impl Inner {
    pub(super) async fn build(&self, req: BuildRequest, progress: mpsc::Sender<BuildEvent>) -> Result<Image, BuildError> {
        if self.facts.podman {
            return Err(RuntimeError::Conflict(podman::NO_BUILDS.into()).into());
        }
        let limits = &req.limits;
        check_limits(limits.cpu_millis, limits.memory_bytes, limits.pids, limits.cpuset.as_deref())?;
        let deadline = Instant::now() + req.timeout;
        let mut teller = Teller::new(progress, &self.leftover_layers);
        self.prepare(&req, deadline, &mut teller).await?;
        let network = match req.network {
            Network::None => "none".to_owned(),
            Network::Open => self.open_network(&req.owner, &req.instance_key).await?,
        };
        self.forget_layers(1).await;
        let group = self.build_groups.make(limits).await?;
        let mut result = self.built(&req, &network, group.as_ref(), deadline, &mut teller, false).await;
        for _ in 1..BUILD_TRIES {
            match &result {
                Err(error) if is_lost_layer(error) => {
                    tracing::debug!(%error, build = %req.instance_key, "a layer was removed under a build")
                }
                _ => break,
            }
            teller.begin_again();
            result = self.built(&req, &network, group.as_ref(), deadline, &mut teller, true).await;
        }
        if let Some(group) = &group
            && result.is_err()
            && !group.emptied().await
        {
            tracing::error!(group = group.engine_name(), "processes of a cancelled build cannot be killed");
        }
        drop(group);
        if req.network == Network::Open {
            self.drop_build_network(&req, &network).await;
        }
        let tail = teller.take_tail();
        let image = match result {
            Ok(image) => image,
            Err(error) => {
                drop(teller);
                self.forget_layers(FORGET_TRIES).await;
                return Err(error);
            }
        };
        teller.layers.ids.clear();
        if image.size_bytes > limits.image_bytes {
            self.remove_image(&req.tag).await?;
            let (limit_bytes, found_bytes) = (limits.image_bytes, image.size_bytes);
            return Err(BuildError::TooLarge { limit_bytes, found_bytes, step: None, output_tail: tail });
        }
        Ok(image)
    }

    /// An instance of the same key may exist already (a rebuild); then the network is its own and stays.
    async fn drop_build_network(&self, req: &BuildRequest, network: &str) {
        let in_use = self.look(&crate::InstanceId(network.to_owned())).await.is_ok_and(|seen| seen.is_some());
        if !in_use && let Err(error) = self.remove_network(network, None).await {
            tracing::warn!(%error, build = %req.instance_key, "the network of a build stays until the next sweep");
        }
    }

    /// Removes what failed and cancelled builds have made. What other images are built upon stays: the engine refuses.
    pub(super) async fn forget_layers(&self, tries: u32) {
        for attempt in 0..tries {
            let layers = std::mem::take(&mut *self.leftover_layers.lock().unwrap_or_else(PoisonError::into_inner));
            for layer in layers {
                // A base image may be named by id; one that has a name is not ours to remove.
                let removable = matches!(self.image(&layer).await, Ok(Some(image)) if image.tags.is_empty());
                if removable && self.remove_image(&layer).await.is_err() {
                    let mut left = self.leftover_layers.lock().unwrap_or_else(PoisonError::into_inner);
                    // Others' images may be built upon it for ever; it is not worth remembering more than this.
                    if left.len() < MAX_LEFTOVER_LAYERS {
                        left.push(layer);
                    }
                }
            }
            if attempt + 1 == tries || self.leftover_layers.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                return;
            }
            // The container of the step that was cut off is still being removed.
            tokio::time::sleep(FORGET_PAUSE).await;
        }
    }

    /// One attempt, and what it made.
    async fn built(
        &self,
        req: &BuildRequest,
        network: &str,
        group: Option<&BuildGroup<'_>>,
        deadline: Instant,
        teller: &mut Teller<'_>,
        anew: bool,
    ) -> Result<Image, BuildError> {
        let id = self.run_build(req, network, group, deadline, teller, anew).await?;
        Ok(self.image(&id).await?.ok_or(RuntimeError::NotFound { what: "image", name: id })?)
    }

    /// Drives the engine's builder and gives the image id. `anew`: without the layers of other builds.
    async fn run_build(
        &self,
        req: &BuildRequest,
        network: &str,
        group: Option<&BuildGroup<'_>>,
        deadline: Instant,
        teller: &mut Teller<'_>,
        anew: bool,
    ) -> Result<String, BuildError> {
        let body = body_try_stream(pieces(&req.context_tar));
        // The builder says nothing before it has the whole context, so the usual patience is not enough.
        let patient = self.docker.clone().with_timeout(req.timeout.saturating_add(Duration::from_secs(1)));
        let docker = with_parameters(patient, limit_parameters(&req.limits, group));
        let mut told = docker.build_image(options(req, network, anew), None, Some(body));
        let mut looks = interval(SIZE_LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut written = Written::default();
        loop {
            let item = tokio::select! {
                item = timeout_at(deadline, told.next()) => item,
                _ = looks.tick() => {
                    self.facts.room_on_disk()?;
                    let found_bytes = self.written_by_step(group, &mut written).await;
                    if found_bytes > req.limits.image_bytes {
                        let (limit_bytes, step, output_tail) = (req.limits.image_bytes, teller.step.clone(), teller.take_tail());
                        return Err(BuildError::TooLarge { limit_bytes, found_bytes, step, output_tail });
                    }
                    continue;
                }
            };
            match item {
                Err(_) => {
                    return Err(BuildError::TimedOut { after: req.timeout, step: teller.step.clone(), output_tail: teller.take_tail() });
                }
                Ok(None) => return Ok(teller.image.take().unwrap_or_else(|| req.tag.clone())),
                Ok(Some(Ok(info))) => {
                    // A reader that has stopped reading must not outlast the deadline either.
                    if timeout_at(deadline, teller.tell(info)).await.is_err() {
                        return Err(BuildError::TimedOut {
                            after: req.timeout,
                            step: teller.step.clone(),
                            output_tail: teller.take_tail(),
                        });
                    }
                }
                Ok(Some(Err(error))) => return Err(self.build_error(error, teller)),
            }
        }
    }

    fn build_error(&self, error: Error, teller: &mut Teller<'_>) -> BuildError {
        let message = match error {
            Error::DockerStreamError { error } => error,
            // Refused before it began: no Dockerfile, an instruction that does not exist, a broken archive.
            Error::DockerResponseServerError { message, .. } => message,
            other => return BuildError::Runtime(self.engine_error(other)),
        };
        if message.contains("no space left on device") && !message.contains("non-zero code") {
            return BuildError::Runtime(RuntimeError::Engine { status: 0, message });
        }
        let code = message.rsplit_once("returned a non-zero code: ").and_then(|(_, code)| code.trim().parse().ok());
        BuildError::Failed { step: teller.step.clone(), code, message, output_tail: teller.take_tail() }
    }

    /// Bytes that the running step has written into its layer. Errors count as nothing: the next look is soon.
    async fn written_by_step(&self, group: Option<&BuildGroup<'_>>, written: &mut Written) -> u64 {
        let Some(group) = group else { return 0 };
        let options = ListContainersOptionsBuilder::default().build();
        let running = self.docker.list_containers(Some(options)).await.unwrap_or_default();
        for id in running.into_iter().filter_map(|one| one.id) {
            if written.strangers.contains(&id) {
                continue;
            }
            let sized = written.own.as_ref() == Some(&id);
            let look = InspectContainerOptionsBuilder::default().size(sized).build();
            let Ok(container) = self.docker.inspect_container(&id, Some(look)).await else { continue };
            let parent = container.host_config.as_ref().and_then(|host| host.cgroup_parent.clone()).unwrap_or_default();
            if parent != group.engine_name() {
                if written.strangers.len() < MAX_STRANGERS {
                    written.strangers.insert(id);
                }
            } else if sized {
                let layer = container.size_rw.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
                let beside = if self.facts.can_mount { root::beside_layer(&container) } else { 0 };
                return layer.saturating_add(beside);
            } else {
                // Measuring costs a walk over the layer: not for steps that are over by the next look.
                written.own = Some(id);
            }
        }
        0
    }
}

/// Which containers are the build's, as far as known.
#[derive(Default)]
struct Written {
    own: Option<String>,
    strangers: BTreeSet<String>,
}

fn options(req: &BuildRequest, network: &str, anew: bool) -> BuildImageOptions {
    let args = req.build_args.clone().into_iter().collect();
    BuildImageOptionsBuilder::default()
        .dockerfile(&req.dockerfile)
        .t(&req.tag)
        .target(req.target.as_deref().unwrap_or_default())
        .rm(true)
        .forcerm(true)
        .nocache(anew)
        .networkmode(network)
        .buildargs(&args)
        .build()
}

/// Parameters that the client library does not know or holds too narrow.
fn limit_parameters(limits: &BuildLimits, group: Option<&BuildGroup<'_>>) -> String {
    let mut text = format!("memory={0}&memswap={0}", limits.memory_bytes);
    text += &format!("&cpuperiod=100000&cpuquota={}", u64::from(limits.cpu_millis) * 100);
    if let Some(set) = &limits.cpuset {
        text += &format!("&cpusetcpus={set}");
    }
    if let Some(group) = group {
        text += &format!("&cgroupparent={}", group.engine_name().replace('/', "%2F"));
    }
    text
}

fn with_parameters(docker: Docker, parameters: String) -> Docker {
    docker.with_request_modifier(move |mut request| {
        let uri = request.uri().to_string();
        let joint = if uri.contains('?') { '&' } else { '?' };
        match format!("{uri}{joint}{parameters}").parse() {
            Ok(uri) => *request.uri_mut() = uri,
            // Every character of the parameters is checked or ours. A build without its limits must not run, though.
            Err(_) => *request.method_mut() = Default::default(),
        }
        request
    })
}

/// Passes on what the builder says and keeps what an error will need.
pub(super) struct Teller<'a> {
    progress: mpsc::Sender<BuildEvent>,
    step: Option<Step>,
    image: Option<String>,
    /// The newest layer of each stage so far, base images not counted. Layers below go with them.
    layers: Layers<'a>,
    /// The step that gave the last of them.
    layer_step: Option<u32>,
    tail: String,
    told_bytes: usize,
}

impl<'a> Teller<'a> {
    fn new(progress: mpsc::Sender<BuildEvent>, leftover: &'a Mutex<Vec<String>>) -> Self {
        let layers = Layers { ids: Vec::new(), leftover };
        Self { progress, step: None, image: None, layers, layer_step: None, tail: String::new(), told_bytes: 0 }
    }

    /// The same build from its first step. The layers so far stay noted.
    fn begin_again(&mut self) {
        (self.step, self.image, self.layer_step) = (None, None, None);
        self.tail.clear();
    }

    fn take_tail(&mut self) -> String {
        std::mem::take(&mut self.tail)
    }

    pub(super) async fn tell(&mut self, info: BuildInfo) {
        if let Some(id) = info.aux.and_then(|aux| aux.id) {
            self.image = Some(id);
        }
        // A step's own output comes as a stream: it cannot say this.
        if let Some(reference) = info.status.as_deref().and_then(fetched) {
            self.send(BuildEvent::Fetched { reference: reference.to_owned() }).await;
        }
        let text = match (info.stream, info.status) {
            (Some(text), _) => text,
            // Fetching a base image.
            (None, Some(status)) => info.id.map_or(format!("{status}\n"), |layer| format!("{layer}: {status}\n")),
            (None, None) => return,
        };
        self.note_layer(&text);
        if let Some(step) = parse_step(&text) {
            self.step = Some(step.clone());
            self.send(BuildEvent::Step(step)).await;
            return;
        }
        self.tail.push_str(&text);
        if self.tail.len() > MAX_OUTPUT_TAIL_BYTES {
            let surplus = self.tail.len() - MAX_OUTPUT_TAIL_BYTES;
            let cut = (surplus..self.tail.len()).find(|at| self.tail.is_char_boundary(*at)).unwrap_or(self.tail.len());
            self.tail.drain(..cut);
        }
        let before = self.told_bytes;
        self.told_bytes = before.saturating_add(text.len());
        if self.told_bytes <= MAX_BUILD_OUTPUT_BYTES {
            self.send(BuildEvent::Output { text }).await;
        } else if before <= MAX_BUILD_OUTPUT_BYTES {
            self.send(BuildEvent::OutputTruncated).await;
        }
    }

    fn note_layer(&mut self, text: &str) {
        let Some(layer) = text.trim().strip_prefix("---> ").filter(|id| id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit())) else {
            return;
        };
        // The first step of a stage tells the base image, which is not ours to remove; a later one replaces its
        // predecessor of the same stage.
        let is_base = self.step.as_ref().is_none_or(|step| step.text.get(..4).is_some_and(|word| word.eq_ignore_ascii_case("FROM")));
        if !is_base {
            if self
                .layer_step
                .is_some_and(|number| self.step.as_ref().is_some_and(|step| step.number == number + 1 || step.number == number))
            {
                self.layers.ids.pop();
            }
            self.layers.ids.push(layer.to_owned());
            self.layer_step = self.step.as_ref().map(|step| step.number);
        }
    }

    async fn send(&self, event: BuildEvent) {
        // Nobody listening is no reason to stop.
        let _ = self.progress.send(event).await;
    }
}

/// Layers that are in nobody's way only if the build succeeds; otherwise, also when it is dropped, they are left to be
/// removed.
struct Layers<'a> {
    ids: Vec<String>,
    leftover: &'a Mutex<Vec<String>>,
}

impl Drop for Layers<'_> {
    fn drop(&mut self) {
        self.leftover.lock().unwrap_or_else(PoisonError::into_inner).append(&mut self.ids);
    }
}

/// Whether the engine misses a layer, or the image, that it had a moment ago. It has many words for that, and all of them name a
/// digest; what a step prints is not in the message. A base image that the Dockerfile names by digest and that is not there
/// is looked for once more in vain.
fn is_lost_layer(error: &BuildError) -> bool {
    match error {
        BuildError::Failed { code: None, message, .. } => message.contains("sha256:"),
        BuildError::Runtime(RuntimeError::NotFound { what, .. }) => *what == "image",
        _ => false,
    }
}

/// The base image in the engine's word that it has fetched one.
fn fetched(status: &str) -> Option<&str> {
    status.trim().strip_prefix("Status: Downloaded newer image for ")
}

/// `Step 2/5 : RUN make`
fn parse_step(text: &str) -> Option<Step> {
    let (counts, instruction) = text.strip_prefix("Step ")?.split_once(" : ")?;
    let (number, total) = counts.split_once('/').unwrap_or((counts, "0"));
    Some(Step { number: number.trim().parse().ok()?, total: total.trim().parse().ok()?, text: instruction.trim_end().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_and_other_text_is_not() {
        let step = parse_step("Step 2/5 : RUN a : b\n").unwrap();
        assert_eq!(step, Step { number: 2, total: 5, text: "RUN a : b".into() });
        assert_eq!(parse_step("Step 3 : FROM x").unwrap().total, 0);
        for other in ["", "Step", "Step x/y : z", " ---> abc", "Step 1/2"] {
            assert_eq!(parse_step(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_fetched_base_image_is_known_by_name() {
        assert_eq!(fetched("Status: Downloaded newer image for busybox:1.37\n"), Some("busybox:1.37"));
        assert_eq!(fetched("Status: Image is up to date for busybox:1.37"), None, "that one was here");
    }

    #[tokio::test]
    async fn the_last_layer_of_each_stage_is_noted_and_no_base_image() {
        let (sender, _receiver) = mpsc::channel(64);
        let leftover = Mutex::new(Vec::new());
        let mut teller = Teller::new(sender, &leftover);
        for text in [
            "Step 1/5 : FROM a",
            " ---> aaaaaaaaaaaa\n",
            "Step 2/5 : RUN x",
            " ---> Running in bbbbbbbbbbbb\n",
            " ---> 111111111111\n",
            "Step 3/5 : RUN y",
            " ---> Using cache\n",
            " ---> 222222222222\n",
            "Step 4/5 : from b",
            " ---> cccccccccccc\n",
            "Step 5/5 : RUN z",
            " ---> 333333333333\n",
        ] {
            teller.tell(BuildInfo { stream: Some(text.into()), ..Default::default() }).await;
        }
        drop(teller);
        assert_eq!(*leftover.lock().unwrap(), ["222222222222", "333333333333"]);
    }

    #[test]
    fn a_layer_that_went_away_is_told_from_other_failures() {
        let failed = |code, message: &str| BuildError::Failed { step: None, code, message: message.into(), output_tail: String::new() };
        for lost in ["unable to find image \"sha256:f3f6\"", "failed to get digest sha256:023e: open /x/sha256/023e: no such file"] {
            assert!(is_lost_layer(&failed(None, lost)), "{lost}");
        }
        assert!(is_lost_layer(&RuntimeError::NotFound { what: "image", name: "x".into() }.into()));
        assert!(!is_lost_layer(&failed(None, "pull access denied for pasture/none")));
        assert!(!is_lost_layer(&failed(Some(1), "The command 'test sha256:' returned a non-zero code: 1")));
    }

    #[tokio::test]
    async fn output_is_bounded_and_its_end_is_kept() {
        let (sender, mut receiver) = mpsc::channel(16_384);
        let leftover = Mutex::new(Vec::new());
        let mut teller = Teller::new(sender, &leftover);
        let piece = "é".repeat(8 << 10);
        for _ in 0..(MAX_BUILD_OUTPUT_BYTES / piece.len() + 10) {
            teller.tell(BuildInfo { stream: Some(piece.clone()), ..Default::default() }).await;
        }
        teller.tell(BuildInfo { stream: Some("the end".into()), ..Default::default() }).await;
        let tail = teller.take_tail();
        drop(teller);
        assert!(tail.ends_with("the end") && tail.len() <= MAX_OUTPUT_TAIL_BYTES);
        let (mut bytes, mut truncations) = (0, 0);
        while let Some(event) = receiver.recv().await {
            match event {
                BuildEvent::Output { text } => bytes += text.len(),
                BuildEvent::Fetched { .. } => panic!("nothing was fetched"),
                BuildEvent::OutputTruncated => truncations += 1,
                BuildEvent::Step(step) => panic!("{step:?}"),
            }
        }
        assert_eq!((bytes, truncations), (MAX_BUILD_OUTPUT_BYTES, 1));
    }
}
