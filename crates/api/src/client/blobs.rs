//! Blobs of images: who has one, and its bytes from a machine.

use super::straight::Straight;
use super::{ApiClient, ApiError};
use crate::auth;
use crate::blobs::{self, Holders};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use pasture_types::{ContentDigest, NodeId, SigningKey};
use std::pin::Pin;

/// Bytes of a blob as they come.
pub type BlobBytes = Pin<Box<dyn Stream<Item = Result<Bytes, ApiError>> + Send>>;

impl ApiClient {
    /// Machines that say that they have a blob.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn holders(&self, digest: &ContentDigest) -> Result<Holders, ApiError> {
        self.get(&format!("/v1/blobs/{}", digest.digits())).await
    }
    /// Bytes of a blob from a machine, signed with a node's key: straight from it where it can be called, else by the gateway. They are not
    /// checked, and there may be fewer.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn blob(
        &self,
        key: &SigningKey,
        node: &NodeId,
        digest: &ContentDigest,
        (from, length): (u64, Option<u64>),
        now_ms: u64,
    ) -> Result<BlobBytes, ApiError> {
        let path = blobs::path(digest, from, length);
        let header = auth::authorize(key, "GET", &path, node, now_ms);
        let asking = match &self.book {
            Some(book) => Self { straight: Some(Straight::of_blobs(book.clone(), &self.base, *node)), ..self.clone() },
            None => self.clone(),
        };
        let request = asking.http.get(asking.url(&format!("/v1/nodes/{node}{path}"))).header("authorization", header);
        let answer = asking.answer(request).await?;
        Ok(Box::pin(answer.bytes_stream().map(move |chunk| chunk.map_err(|error| asking.failed(error)))))
    }
}
