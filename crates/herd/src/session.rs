//! One shepherd's connection: bytes in, bytes out, whatever carries them.
//!
//! Guarantees: batches are pipelined up to [`PIPELINE`]; a shepherd that reads nothing stops being read from and holds nobody
//! else up; answers to what it asked come in the order in which it asked. When results were given out it soon gets a
//! receipt for exactly those.

use crate::herd::{Herd, HerdError, Page};
use crate::limits::MAX_BATCH;
use crate::protocol::{Ask, Form, Frames, Tell, encode};
use crate::task::Seq;
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, Stream, StreamExt as _};
use std::time::Duration;
use tokio::sync::mpsc;

/// Asks of one shepherd that are under way; further ones wait unread.
const PIPELINE: usize = 64;
/// Results in one frame.
const PAGE: usize = 1024;
/// Bytes of results in one frame, roughly.
const PAGE_BYTES: usize = 1 << 20;
/// How long after results were given out a receipt follows: one signature for many of them.
const RECEIPT_AFTER: Duration = Duration::from_millis(100);
/// Frames that wait for a slow shepherd before nothing more is asked of the herd for it.
pub const OUTBOX: usize = 16;

type Pending<T> = Option<BoxFuture<'static, T>>;

async fn next_page(herd: Herd, after: Seq) -> Result<Page, HerdError> {
    herd.results(after, PAGE, PAGE_BYTES).await
}

async fn answer(herd: Herd, ask: Ask) -> Result<Tell, HerdError> {
    Ok(match ask {
        Ask::Submit { tag, tasks } if tasks.len() > MAX_BATCH => {
            Tell::Problem { detail: format!("batch {tag} has {} tasks; at most {MAX_BATCH} fit", tasks.len()) }
        }
        Ask::Submit { tag, tasks } => Tell::Submitted { tag, submitted: herd.submit(tasks).await? },
        Ask::Acknowledge { upto } => {
            herd.acknowledge(upto).await?;
            Tell::Acknowledged { upto }
        }
        Ask::Cancel { ids } => Tell::Cancelled { count: herd.cancel(ids).await? },
        Ask::Status => Tell::Status { status: herd.status().await? },
        // `Results` is the connection's own.
        Ask::Receipt | Ask::Results { .. } => Tell::Receipt { receipt: herd.receipt().await? },
    })
}

async fn wait<T>(pending: &mut Pending<T>) -> T {
    match pending {
        Some(future) => {
            let out = future.await;
            *pending = None;
            out
        }
        None => std::future::pending().await,
    }
}

/// Serves a shepherd until it or the herd ends. `out` should hold [`OUTBOX`] frames; it is closed at the end.
pub async fn serve<S, E>(herd: Herd, input: S, out: mpsc::Sender<Bytes>)
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
    E: Send,
{
    let mut session = Session { herd, out, frames: Frames::new(), asked: FuturesOrdered::new(), page: None, shown: 0, receipt: None };
    // The shepherd is gone: there is nobody to tell.
    let _ = session.run(input).await;
}

struct Session {
    herd: Herd,
    out: mpsc::Sender<Bytes>,
    frames: Frames<Ask>,
    asked: FuturesOrdered<BoxFuture<'static, Result<Tell, HerdError>>>,
    page: Pending<Result<Page, HerdError>>,
    /// Results were given out up to here.
    shown: Seq,
    receipt: Pending<()>,
}

/// There is nothing more to say, or nobody to say it to.
struct Left;

impl Session {
    async fn tell(&mut self, tell: &Tell) -> Result<(), Left> {
        let mut out = BytesMut::new();
        encode(self.frames.form().unwrap_or(Form::JsonLines), tell, &mut out);
        self.out.send(out.freeze()).await.map_err(|_| Left)
    }

    async fn run<S, E>(&mut self, mut input: S) -> Result<(), Left>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: Send,
    {
        let mut reading = true;
        while reading || !self.asked.is_empty() || self.page.is_some() {
            tokio::select! {
                piece = input.next(), if reading && self.asked.len() < PIPELINE => match piece {
                    Some(Ok(bytes)) => {
                        self.frames.buffer().extend_from_slice(&bytes);
                        self.read().await?;
                    }
                    // One that only listens may close its side.
                    Some(Err(_)) => return Ok(()),
                    None => reading = false,
                },
                Some(told) = self.asked.next(), if !self.asked.is_empty() => {
                    match told {
                        Ok(problem @ Tell::Problem { .. }) => { self.tell(&problem).await?; return Ok(()) }
                        Ok(tell) => self.tell(&tell).await?,
                        Err(_) => return self.tell(&Tell::Ended).await,
                    }
                    self.read().await?;
                }
                page = wait(&mut self.page) => match page {
                    Ok(page) => self.show(page).await?,
                    Err(_) => return self.tell(&Tell::Ended).await,
                },
                () = wait(&mut self.receipt) => match self.herd.receipt_at(self.shown).await {
                    Ok(receipt) => self.tell(&Tell::Receipt { receipt }).await?,
                    Err(_) => return self.tell(&Tell::Ended).await,
                },
                () = self.out.closed() => return Ok(()),
            }
        }
        Ok(())
    }

    /// Begins what the frames that are here ask for, up to the pipeline's length.
    async fn read(&mut self) -> Result<(), Left> {
        while self.asked.len() < PIPELINE {
            match self.frames.next_frame() {
                Ok(None) => break,
                Ok(Some(Ask::Results { after })) => {
                    self.shown = after;
                    self.page = Some(Box::pin(next_page(self.herd.clone(), after)));
                }
                Ok(Some(ask)) => self.asked.push_back(Box::pin(answer(self.herd.clone(), ask))),
                Err(error) => {
                    let problem = Tell::Problem { detail: error.to_string() };
                    self.asked.push_back(Box::pin(std::future::ready(Ok(problem))));
                    self.frames = Frames::of(self.frames.form().unwrap_or(Form::JsonLines));
                    break;
                }
            }
        }
        Ok(())
    }

    async fn show(&mut self, page: Page) -> Result<(), Left> {
        if let Some(last) = page.results.last().map(|f| f.seq) {
            self.shown = last;
            self.tell(&Tell::Results { results: page.results }).await?;
            self.receipt.get_or_insert_with(|| Box::pin(tokio::time::sleep(RECEIPT_AFTER)));
        }
        if page.closing && self.shown >= page.released {
            if let Ok(receipt) = self.herd.receipt_at(self.shown).await {
                self.tell(&Tell::Receipt { receipt }).await?;
            }
            self.tell(&Tell::Ended).await?;
            return Err(Left);
        }
        self.page = Some(Box::pin(next_page(self.herd.clone(), self.shown)));
        Ok(())
    }
}
