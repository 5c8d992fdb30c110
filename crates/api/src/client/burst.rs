//! Audits: the ledger's record of one, and a witness's words with a node.

use super::{ApiClient, ApiError, EventStream, parse};
use crate::burst::{self, AuditDetail, BeaconWord, NonceOffer, SET_EVENT, SHARES_EVENT, SignedSet, SignedShares, WALK_EVENT, WalkRoot};
use futures::StreamExt as _;
use std::time::{Duration, Instant};

/// How long a node may take to answer to a measuring call.
const PING_DEADLINE: Duration = Duration::from_secs(2);

/// What a node sends a witness.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BurstWord {
    /// What it computes from.
    Set(SignedSet),
    /// Where its walk over memory led.
    Walk(WalkRoot),
    /// What it found.
    Shares(SignedShares),
}

impl ApiClient {
    /// An audit as the ledger keeps it.
    ///
    /// # Errors
    /// [`ApiError::Problem`] with status 404 if there is none, or none any more.
    pub async fn audit(&self, number: u64) -> Result<AuditDetail, ApiError> {
        self.get(&format!("/v1/audits/{number}")).await
    }
    /// How long one short call to a node takes (this client being one of the node's own door).
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn round_trip(&self) -> Result<Duration, ApiError> {
        let begun = Instant::now();
        self.answer(self.http.get(self.url(burst::PING)).timeout(PING_DEADLINE)).await?;
        Ok(begun.elapsed())
    }
    /// Has a node open what its answer commits to: no more than `most` bytes, within a time.
    ///
    /// # Errors
    /// [`ApiError`]; what comes is not checked but for its size.
    pub async fn open_products(&self, audit: u64, word: &BeaconWord, within: Duration, most: u64) -> Result<Vec<u8>, ApiError> {
        let request = self.http.post(self.url(&burst::open_path(audit))).json(word).timeout(within);
        let mut answer = self.answer(request).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| self.failed(e))? {
            if (bytes.len() + chunk.len()) as u64 > most {
                let detail = format!("more than the {most} bytes that were opened");
                return Err(ApiError::Malformed { url: self.base.clone(), detail });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
    /// Hands a node a nonce, and hears what it has to say about its burst. The stream ends when it has said all.
    ///
    /// # Errors
    /// [`ApiError`]; what comes is not checked but for its form.
    pub async fn offer_nonce(&self, audit: u64, offer: &NonceOffer) -> Result<EventStream<BurstWord>, ApiError> {
        let events = self.sse(self.http.post(self.url(&burst::nonce_path(audit))).json(offer)).await?;
        let url = self.base.clone();
        Ok(Box::pin(events.filter_map(move |event| {
            let read = event.and_then(|event| match event.name.as_str() {
                SET_EVENT => parse(&url, &event.data).map(|set| Some(BurstWord::Set(set))),
                WALK_EVENT => parse(&url, &event.data).map(|walk| Some(BurstWord::Walk(walk))),
                SHARES_EVENT => parse(&url, &event.data).map(|shares| Some(BurstWord::Shares(shares))),
                // Comments keep the connection; later versions may say more.
                _ => Ok(None),
            });
            futures::future::ready(read.transpose())
        })))
    }
}
