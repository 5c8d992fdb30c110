//! What every engine must do with images that somebody else brings, on a real engine: see `behaviour.rs` for how it is run.

#![cfg(test)]

#[macro_use]
mod support;

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use pasture_runtime::{Image, ImageArchive, ImageSource, Observed, PullError, PullEvent, RuntimeError, SourceError};
use sha2::{Digest as _, Sha256};
use support::{Bench, until};
use tokio::sync::mpsc;

on_an_engine!(a_brought_image_runs_under_its_name_and_by_its_digest, what_is_refused_is_not_pulled, an_archive_that_is_none_harms_nothing,);

/// An address for documentation: nothing answers there.
const NOBODY: &str = "192.0.2.1:5000";

/// Brings one image, or says why not.
struct Bringer {
    id: String,
    archive: fn(&[String]) -> Vec<u8>,
    answer: Option<SourceError>,
    asked: AtomicU32,
}

#[async_trait]
impl ImageSource for Bringer {
    async fn image(&self, _: &str, _: &str, names: Vec<String>, told: mpsc::Sender<PullEvent>) -> Result<ImageArchive, SourceError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(error) = &self.answer {
            return Err(error.clone());
        }
        let _ = told.try_send(PullEvent { layer: "one".into(), status: "brought".into(), progress: None });
        let bytes = (self.archive)(&names);
        let chunks: Vec<_> = bytes.chunks(100_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        Ok(ImageArchive { id: self.id.clone(), bytes: stream::iter(chunks).boxed() })
    }
    fn is_own(&self, reference: &str) -> bool {
        reference.starts_with(NOBODY) || reference.starts_with("127.0.0.1:1/")
    }
}

fn tar(files: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes, mode) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        header.set_cksum();
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

fn digits(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As registries keep layers.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut checksum = u32::MAX;
    for byte in bytes {
        checksum ^= u32::from(*byte);
        for _ in 0..8 {
            checksum = (checksum >> 1) ^ (0xEDB8_8320 & (checksum & 1).wrapping_neg());
        }
    }
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    out.extend(miniz_oxide::deflate::compress_to_vec(bytes, 6));
    out.extend((!checksum).to_le_bytes());
    out.extend((bytes.len() as u32).to_le_bytes());
    out
}

fn layer() -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").unwrap();
    tar(&[("bin/busybox", &busybox, 0o755), ("word", b"brought\n", 0o644)])
}

fn configuration() -> String {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let diff = digits(&layer());
    format!(
        r#"{{"architecture":"{arch}","os":"linux","config":{{"Cmd":["/bin/busybox","cat","/word"]}},"rootfs":{{"type":"layers","diff_ids":["sha256:{diff}"]}}}}"#
    )
}

/// What `docker save` makes, with its layer compressed.
fn archive(names: &[String]) -> Vec<u8> {
    let (config, layer) = (configuration(), gzip(&layer()));
    let (config_path, layer_path) = (format!("blobs/sha256/{}", digits(config.as_bytes())), format!("blobs/sha256/{}", digits(&layer)));
    let manifest = serde_json::json!([{"Config": config_path, "RepoTags": names, "Layers": [layer_path]}]).to_string();
    let files = [(&*config_path, config.as_bytes(), 0o644), (&layer_path, &layer, 0o644), ("manifest.json", manifest.as_bytes(), 0o644)];
    tar(&files)
}

fn bring(bench: &Bench, archive: fn(&[String]) -> Vec<u8>, answer: Option<SourceError>) -> Arc<Bringer> {
    let id = format!("sha256:{}", digits(configuration().as_bytes()));
    let bringer = Arc::new(Bringer { id, archive, answer, asked: AtomicU32::new(0) });
    bench.rt.fetch_images_from(bringer.clone());
    bringer
}

async fn pull(bench: &Bench, name: &str) -> (Result<Image, PullError>, Vec<PullEvent>) {
    let (progress, mut told) = mpsc::channel(8);
    let listen = async {
        let mut events = Vec::new();
        while let Some(event) = told.recv().await {
            events.push(event);
        }
        events
    };
    tokio::join!(bench.rt.pull(name, progress), listen)
}

async fn a_brought_image_runs_under_its_name_and_by_its_digest(bench: Bench) {
    let bringer = bring(&bench, archive, None);
    let tagged = format!("{NOBODY}/brought/tool:1");
    let by_digest = format!("{NOBODY}/brought/tool@sha256:{}", digits(b"a manifest"));
    for name in [&tagged, &by_digest] {
        let (image, told) = pull(&bench, name).await;
        assert_eq!(image.unwrap().id, bringer.id, "{name}");
        assert!(told.iter().any(|event| event.status == "brought"), "{told:?}");
        assert_eq!(bench.rt.image(name).await.unwrap().map(|image| image.id), Some(bringer.id.clone()), "{name}: it is here by this name");
        let mut workload = bench.shell("");
        (workload.image, workload.command, workload.args) = (bringer.id.clone(), vec![], vec![]);
        let instance = bench.start(&workload).await;
        assert_eq!(bench.log_text(&instance).await, "brought\n");
        until("it has ended", || async { matches!(bench.rt.inspect(&instance).await.unwrap(), Some(Observed::Exited { .. })) }).await;
        bench.rt.remove(&instance).await.unwrap();
    }
    for name in [&tagged, &by_digest] {
        bench.rt.remove_image(name).await.unwrap();
        assert!(bench.rt.image(name).await.unwrap().is_none(), "{name}");
        bench.rt.remove_image(name).await.unwrap();
    }
    assert_eq!(bringer.asked.load(Ordering::Relaxed), 2);
}

async fn what_is_refused_is_not_pulled(bench: Bench) {
    let name = &format!("{NOBODY}/brought/none:1");
    let refused = bring(&bench, archive, Some(SourceError::Refused("not here".into())));
    match pull(&bench, name).await.0 {
        Err(PullError::Runtime(RuntimeError::Invalid { why, .. })) => assert_eq!(why, "not here"),
        other => panic!("{other:?}"),
    }
    assert_eq!(refused.asked.load(Ordering::Relaxed), 1);
    // Only the first one that is given counts.
    let second = bring(&bench, archive, None);
    assert!(pull(&bench, name).await.0.is_err());
    assert_eq!((refused.asked.load(Ordering::Relaxed), second.asked.load(Ordering::Relaxed)), (2, 0));
    // A registry that is nobody's own has no such address, whoever would bring its images.
    match pull(&bench, "10.0.0.1:5000/a:1").await.0 {
        Err(PullError::Runtime(RuntimeError::Invalid { why, .. })) => assert!(why.contains("not a public one"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(refused.asked.load(Ordering::Relaxed), 2);
}

async fn an_archive_that_is_none_harms_nothing(bench: Bench) {
    /// The layer is another than the configuration says.
    fn forged(names: &[String]) -> Vec<u8> {
        let (config, layer) = (configuration(), gzip(&tar(&[("word", b"forged\n", 0o644)])));
        let config_path = format!("blobs/sha256/{}", digits(config.as_bytes()));
        let manifest = serde_json::json!([{"Config": config_path, "RepoTags": names, "Layers": ["layer.tar"]}]).to_string();
        tar(&[(&*config_path, config.as_bytes(), 0o644), ("layer.tar", &layer, 0o644), ("manifest.json", manifest.as_bytes(), 0o644)])
    }
    let bringer = bring(&bench, forged, None);
    // A port on which nobody listens: the engine, which then tries itself, is told so at once.
    let name = "127.0.0.1:1/brought/forged:1";
    assert!(pull(&bench, name).await.0.is_err());
    assert!(bench.rt.image(name).await.unwrap().is_none() && bench.rt.image(&bringer.id).await.unwrap().is_none());
}
