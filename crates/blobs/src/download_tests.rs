//! Origins in memory that are slow, stop, fail and lie.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering};

enum Manner {
    Honest,
    /// Changes a byte of every answer.
    Lies,
    /// Answers no request.
    Fails,
    /// Sends a few bytes of each answer, and then nothing.
    Stalls,
    /// Breaks off after so many bytes in all, for ever.
    Dies(u64),
}

struct Memory {
    blob: Vec<u8>,
    manner: Manner,
    sent: AtomicU64,
}

impl Memory {
    fn origin(blob: &[u8], manner: Manner) -> Arc<dyn Origin> {
        Arc::new(Self { blob: blob.to_vec(), manner, sent: AtomicU64::new(0) })
    }
}

#[async_trait]
impl Origin for Memory {
    fn name(&self) -> String {
        "memory".into()
    }
    async fn read(&self, _: &ContentDigest, from: u64, length: Option<u64>) -> Result<Pieces, OriginError> {
        let from = usize::try_from(from).unwrap();
        let end = length.map_or(self.blob.len(), |length| from + usize::try_from(length).unwrap());
        let mut bytes = self.blob[from..end].to_vec();
        match self.manner {
            Manner::Honest => {}
            Manner::Lies => bytes[0] ^= 1,
            Manner::Fails => return Err(OriginError("it does not".into())),
            Manner::Stalls => {
                let begun = futures::stream::iter([Ok(Bytes::from(bytes.split_off(bytes.len() - 3)))]);
                return Ok(begun.chain(futures::stream::pending()).boxed());
            }
            Manner::Dies(after) => {
                if self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed) + bytes.len() as u64 > after {
                    return Ok(futures::stream::iter([Err(io::Error::other("gone"))]).boxed());
                }
            }
        }
        let chunks: Vec<_> = bytes.chunks(100_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        Ok(futures::stream::iter(chunks).boxed())
    }
}

/// Bytes that repeat nowhere.
fn unlike(size: u64) -> Vec<u8> {
    let mut out = vec![0; usize::try_from(size).unwrap()];
    blake3::Hasher::new().finalize_xof().fill(&mut out);
    out
}

struct World {
    _dir: tempfile::TempDir,
    store: Arc<Store>,
    bytes: Vec<u8>,
    blob: Blob,
}

impl World {
    fn new(size: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path(), 1 << 30).unwrap());
        let bytes = unlike(size);
        let blob = Blob { digest: digest(&bytes), size };
        Self { _dir: dir, store, bytes, blob }
    }
    async fn fetch(&self, manners: impl IntoIterator<Item = Manner>) -> Result<Came, DownloadError> {
        let origins: Vec<_> = manners.into_iter().map(|manner| Memory::origin(&self.bytes, manner)).collect();
        let told = AtomicU64::new(0);
        let tell = |bytes| {
            told.fetch_add(bytes, Ordering::Relaxed);
        };
        let came = download(&self.store, self.blob, &origins, &tell).await;
        if came.is_ok() {
            assert!(told.load(Ordering::Relaxed) <= self.blob.size * 5);
            assert_eq!(self.store.read_small(&self.blob.digest, u64::MAX).unwrap(), self.bytes);
            assert!(!self.store.coming(&self.blob.digest).exists());
        }
        came
    }
}

const LARGE: u64 = 9 * PIECE + 17;

#[tokio::test(start_paused = true)]
async fn several_bring_it_together() {
    let world = World::new(LARGE);
    let came = world.fetch([Manner::Honest, Manner::Honest, Manner::Honest]).await.unwrap();
    assert_eq!(came.bytes.iter().sum::<u64>(), LARGE);
    assert!(came.liars.is_empty());
}

#[tokio::test(start_paused = true)]
async fn those_that_fail_stall_and_die_cost_time_only() {
    for size in [LARGE, PIECE / 2] {
        let world = World::new(size);
        let came = world.fetch([Manner::Fails, Manner::Stalls, Manner::Dies(2 * PIECE), Manner::Honest]).await.unwrap();
        assert!(came.liars.is_empty());
        assert!(came.bytes[2] + came.bytes[3] >= size, "{:?}", came.bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn who_lies_is_named_and_nobody_else() {
    for (size, honest) in [(LARGE, 3), (LARGE, 0), (PIECE / 2, 3)] {
        let world = World::new(size);
        let mut manners: Vec<Manner> = (0..4).map(|_| Manner::Honest).collect();
        manners[1] = Manner::Lies;
        manners[2] = Manner::Lies;
        manners.swap(3, honest);
        let came = world.fetch(manners).await.unwrap();
        assert!(came.liars.is_subset(&BTreeSet::from([1, 2])), "{:?}", came.liars);
        if size == LARGE {
            assert!(!came.liars.is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn liars_alone_bring_nothing() {
    for size in [LARGE, PIECE / 2] {
        let world = World::new(size);
        let error = world.fetch([Manner::Lies, Manner::Lies]).await.unwrap_err().to_string();
        assert!(error.contains("memory sends something else"), "{error}");
        assert_eq!(world.store.has(&world.blob.digest), None);
        // What they left is in nobody's way.
        world.fetch([Manner::Honest]).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_before_an_end_comes_no_second_time() {
    let world = World::new(LARGE);
    let error = world.fetch([Manner::Dies(6 * PIECE)]).await.unwrap_err().to_string();
    assert!(error.contains("memory broke off: gone"), "{error}");
    let came = world.fetch([Manner::Honest]).await.unwrap();
    assert!((1..LARGE).contains(&came.bytes[0]), "{:?}", came.bytes);
}
