//! An image as an archive that engines take in (`docker load`, `podman load`): configuration, layers and what they are called.
//!
//! Guarantees: it is made while it is read, from the cache, whose blobs stay until it is over; the engine compares each layer with the
//! configuration. Names in it are digests: nothing of a stranger's choosing becomes a path.

use crate::store::{Pinned, Store};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use pasture_rt::TaskKind;
use pasture_types::ContentDigest;
use serde_json::json;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Bytes of a chunk, and chunks that are made ahead of the reader.
const CHUNK: usize = 1 << 18;
const AHEAD: usize = 4;
/// What engines read first.
const MANIFEST: &str = "manifest.json";

/// An image that is whole in the cache.
#[derive(Debug)]
pub struct Archive {
    pub(crate) store: Arc<Store>,
    pub(crate) config: ContentDigest,
    pub(crate) layers: Vec<ContentDigest>,
    pub(crate) pinned: Pinned,
}

impl Archive {
    /// The id that the engine gives it.
    #[must_use]
    pub const fn id(&self) -> ContentDigest {
        self.config
    }
    /// Its bytes, with the names that it is to have.
    #[must_use]
    pub fn stream(self, names: Vec<String>) -> BoxStream<'static, io::Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        // Ends with its reader: nobody takes the next chunk.
        let writing = pasture_rt::spawn_blocking(TaskKind::Files, move || {
            let mut out = BufWriter::with_capacity(CHUNK, Chunks(sender.clone()));
            let written = self.write(&names, &mut out).and_then(|()| out.flush());
            if let Err(error) = written {
                let _ = sender.blocking_send(Err(error));
            }
        });
        drop(writing);
        ReceiverStream::new(receiver).boxed()
    }
    fn write(&self, names: &[String], out: &mut impl Write) -> io::Result<()> {
        let path = |digest: &ContentDigest| format!("blobs/sha256/{}", digest.digits());
        let mut tar = tar::Builder::new(out);
        let mut written = std::collections::BTreeSet::new();
        for digest in std::iter::once(&self.config).chain(&self.layers) {
            // The same layer may be in it twice.
            if written.insert(*digest) {
                let (file, bytes) = self.store.read(digest)?;
                tar.append_data(&mut header(bytes), path(digest), file)?;
            }
        }
        let layers: Vec<String> = self.layers.iter().map(path).collect();
        let manifest = json!([{ "Config": path(&self.config), "RepoTags": names, "Layers": layers }]).to_string();
        tar.append_data(&mut header(manifest.len() as u64), MANIFEST, manifest.as_bytes())?;
        tar.finish()?;
        // They stay until here.
        let _: &Pinned = &self.pinned;
        Ok(())
    }
}

fn header(bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes);
    header.set_mode(0o644);
    header
}

struct Chunks(mpsc::Sender<io::Result<Bytes>>);

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
