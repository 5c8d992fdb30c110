//! Files to and from the machine that runs a job: its description and folder there, its output back.
//!
//! Guarantees: both continue where they broke off; the output is compared with its announced size and hash, and opened to its end, before a
//! byte of it is unpacked. What is transferred lies in files without a name.

use crate::exit::Failure;
use crate::pack::Packed;
use crate::patience::{Patience, patiently};
use crate::render::Progress;
use crate::sealed::{closed, is_kept};
use crate::session::random;
use crate::unpack::{Unpacked, unpack};
use bytes::Bytes;
use futures::StreamExt as _;
use indicatif::ProgressBar;
use pasture_api::ApiError;
use pasture_api::client::LeaseClient;
use pasture_api::data::{HASH_HEADER, LENGTH_HEADER};
use pasture_api::publication::SignedPublication;
use pasture_api::secrets::Secrets;
use pasture_rt::{TaskKind, spawn_blocking};
use pasture_store::seal;
use pasture_store::sealed::{Binding, Content, OpenError, OpenReader, ReaderKey};
use pasture_types::BlobHash;
use pasture_types::resources::display_bytes;
use std::fs::File;
use std::io::{self, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use tokio_util::io::ReaderStream;

/// A tar is a little larger than what is in it: headers and padding of every entry.
const TAR_OVERHEAD: u64 = 256 << 20;
/// Bytes of it that are read at once.
const READ_BYTES: usize = 256 << 10;

/// Hands over the job's description and, if there is one, its folder; and before that what it must know, and which of its ports are public.
pub(crate) async fn send(
    client: LeaseClient,
    (secrets, public): (Secrets, &[SignedPublication]),
    manifest: Vec<u8>,
    packed: Option<&Packed>,
    bar: Option<ProgressBar>,
) -> Result<(), Failure> {
    if !secrets.0.is_empty() {
        hand_over(&client, &secrets).await?;
    }
    if !public.is_empty() {
        patiently(|| client.publish(public)).await?;
    }
    patiently(|| client.put_manifest(manifest.clone())).await?;
    let Some(packed) = packed else { return Ok(()) };
    let mut patience = Patience::new();
    let mut reached = 0;
    loop {
        let status = patiently(|| client.context()).await?;
        if status.complete {
            return Ok(());
        }
        if status.received > reached {
            reached = status.received;
            patience.renew();
        }
        match put(&client, packed, status.received, bar.clone()).await? {
            Ok(status) if status.complete => return Ok(()),
            Ok(status) => {
                let problem = format!("the machine has {} of {} bytes of the folder and wants no more", status.received, packed.bytes);
                return Err(Failure::new("unexpected-answer", problem));
            }
            Err(e) => patience.after(e).await?,
        }
    }
}

/// The secrets, sealed for the machine; the same bytes again after an answer that was lost.
async fn hand_over(client: &LeaseClient, secrets: &Secrets) -> Result<(), Failure> {
    let wrong = || Failure::new("bad-secret", "the secrets cannot be sealed for this machine; they were not sent");
    let reader = patiently(|| client.sealing_key()).await?;
    let plain = secrets.to_bytes().ok_or_else(wrong)?;
    let sealed = seal::seal(&reader, &client.secrets_context(), &plain, random()?).map_err(|_| wrong())?;
    patiently(|| client.put_secrets(sealed.clone())).await?;
    Ok(())
}

async fn put(
    client: &LeaseClient,
    packed: &Packed,
    offset: u64,
    bar: Option<ProgressBar>,
) -> Result<Result<pasture_api::data::ContextStatus, ApiError>, Failure> {
    let failed = |e: std::io::Error| Failure::new("io", format!("cannot read the packed folder: {e}"));
    let mut file = packed.file.try_clone().map_err(failed)?;
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let mut sent = offset;
    let body = ReaderStream::with_capacity(tokio::fs::File::from_std(file), 256 * 1024).inspect(move |chunk| {
        if let Ok(chunk) = chunk {
            sent += chunk.len() as u64;
            if let Some(bar) = &bar {
                bar.set_position(sent);
            }
        }
    });
    Ok(client.put_context(offset, body).await)
}

/// Fetches what a job left behind and unpacks it; at most `limit` bytes of content.
pub(crate) async fn fetch(
    client: &LeaseClient,
    reader: ReaderKey,
    folder: &Path,
    temp: &Path,
    limit: u64,
    progress: &mut Progress,
) -> Result<Unpacked, Failure> {
    let (archive, folder) = (fetch_archive(client, reader, temp, limit, progress).await?, folder.to_path_buf());
    spawn_blocking(TaskKind::ClientFollow, move || unpack(archive, &folder, limit))
        .join()
        .await
        .unwrap_or_else(|| Err(Failure::new("bad-output", "unpacking the job's output failed")))
}

/// What a job left behind, as it is read: opened from a file without a name.
pub(crate) type Archive = OpenReader<BufReader<File>>;

/// Fetches what a job left behind; all of it is here, whole and for us, and it is read from its beginning on.
pub(crate) async fn fetch_archive(
    client: &LeaseClient,
    reader: ReaderKey,
    temp: &Path,
    limit: u64,
    progress: &mut Progress,
) -> Result<Archive, Failure> {
    let file = tempfile::tempfile_in(temp).map_err(|e| Failure::io("write in", temp, &e))?;
    let mut sink = Sink { file, hasher: blake3::Hasher::new(), got: 0 };
    let mut patience = Patience::new();
    let announced = loop {
        let before = sink.got;
        let broken = match download(client, sink.got, limit.saturating_add(TAR_OVERHEAD), progress).await {
            Ok(mut part) => match sink.fill(&mut part, temp, progress).await? {
                None => break part.hash,
                Some(broken) => broken,
            },
            Err(Fetch::Ours(failure)) => return Err(failure),
            Err(Fetch::Theirs(broken)) => broken,
        };
        if sink.got > before {
            patience.renew();
        }
        patience.after(broken).await?;
    };
    let hash = BlobHash(*sink.hasher.finalize().as_bytes());
    if hash != announced {
        return Err(Failure::new("bad-output", "the job's output is not what was announced: its hash differs").next("nothing was unpacked"));
    }
    is_kept(client, &patiently(|| client.status()).await?, hash, sink.got)?;
    let (file, binding) = (sink.file, Binding { content: Content::Output, lease: client.lease() });
    let opening = spawn_blocking(TaskKind::ClientFollow, move || open_archive(file, &reader, binding));
    opening.join().await.unwrap_or_else(|| Err(Failure::new("bad-output", "opening the job's output failed")))
}

/// Opens it once to its end, then for whoever unpacks it.
fn open_archive(mut file: File, reader: &ReaderKey, binding: Binding) -> Result<Archive, Failure> {
    let unread = |e: io::Error| Failure::new("io", format!("cannot read the job's output: {e}"));
    let mut open = || -> io::Result<Archive> {
        file.rewind()?;
        Ok(OpenReader::new(BufReader::with_capacity(READ_BYTES, file.try_clone()?), reader.clone(), binding))
    };
    let checked = io::copy(&mut open().map_err(unread)?, &mut io::sink());
    checked.map_err(|e| match e.get_ref().and_then(|inner| inner.downcast_ref::<OpenError>()) {
        Some(why) => closed(*why, "the job's output", "bad-output"),
        None => unread(e),
    })?;
    open().map_err(unread)
}

/// What has arrived.
struct Sink {
    file: File,
    hasher: blake3::Hasher,
    got: u64,
}

impl Sink {
    /// Takes an answer to its end, or to where it breaks off.
    async fn fill(&mut self, part: &mut Part, temp: &Path, progress: &Progress) -> Result<Option<ApiError>, Failure> {
        while let Some(chunk) = part.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(broken) => return Ok(Some(broken)),
            };
            self.got += chunk.len() as u64;
            if self.got > part.bytes {
                return Err(Failure::new("bad-output", "the job's output is longer than announced"));
            }
            self.file.write_all(&chunk).map_err(|e| Failure::io("write in", temp, &e))?;
            self.hasher.update(&chunk);
            progress.position(self.got);
        }
        if self.got < part.bytes {
            return Err(Failure::new("bad-output", format!("{} of {} bytes of the job's output arrived", self.got, part.bytes)));
        }
        Ok(None)
    }
}

enum Fetch {
    Ours(Failure),
    Theirs(ApiError),
}

/// An answer with the output from an offset on.
struct Part {
    hash: BlobHash,
    bytes: u64,
    body: std::pin::Pin<Box<dyn futures::Stream<Item = Result<Bytes, ApiError>> + Send>>,
}

impl Part {
    async fn next(&mut self) -> Option<Result<Bytes, ApiError>> {
        self.body.next().await
    }
}

async fn download(client: &LeaseClient, offset: u64, limit: u64, progress: &mut Progress) -> Result<Part, Fetch> {
    let response = client.output(offset).await.map_err(Fetch::Theirs)?;
    let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok());
    let (hash, bytes) = (header(HASH_HEADER).and_then(|v| v.parse().ok()), header(LENGTH_HEADER).and_then(|v| v.parse::<u64>().ok()));
    let (Some(hash), Some(bytes)) = (hash, bytes) else {
        return Err(Fetch::Ours(Failure::new("bad-output", "the machine does not say how long the job's output is")));
    };
    if bytes > limit {
        let (has, may) = (display_bytes(bytes), display_bytes(limit));
        return Err(Fetch::Ours(Failure::new("bad-output", format!("the job's output has {has}; at most {may} are taken"))));
    }
    progress.transfer("fetching the job's output", bytes);
    progress.position(offset);
    let body = response.bytes_stream().map(|chunk| chunk.map_err(|source| ApiError::Broken { url: "the machine".into(), source }));
    Ok(Part { hash, bytes, body: Box::pin(body) })
}
