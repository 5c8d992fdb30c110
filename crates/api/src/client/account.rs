//! What an account has on one node, through a gateway, signed by the account. Paths: [`crate::volumes`].

use super::{ApiClient, ApiError};
use crate::auth;
use crate::data::ImageView;
use crate::volumes::VolumeView;
use pasture_types::{AccountId, NodeId, SigningKey};

/// A client of one account's things on one node.
#[derive(Clone, Debug)]
pub struct AccountClient {
    api: ApiClient,
    key: SigningKey,
    account: AccountId,
    node: NodeId,
    now_ms: fn() -> u64,
}

impl AccountClient {
    /// A client for one account on one node. `now_ms` tells the time that requests are signed with.
    #[must_use]
    pub const fn new(api: ApiClient, key: SigningKey, account: AccountId, node: NodeId, now_ms: fn() -> u64) -> Self {
        Self { api, key, account, node, now_ms }
    }

    fn request(&self, method: reqwest::Method, rest: &str) -> reqwest::RequestBuilder {
        let signed = format!("/accounts/{}/{rest}", self.account);
        let header = auth::authorize(&self.key, method.as_str(), &signed, &self.node, (self.now_ms)());
        let url = self.api.url(&format!("/v1/nodes/{}{signed}", self.node));
        self.api.http.request(method, url).header("authorization", header)
    }

    /// The images that the machine has of registries.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn images(&self) -> Result<Vec<ImageView>, ApiError> {
        self.api.json(self.request(reqwest::Method::GET, "images")).await
    }
    /// The account's volumes there.
    ///
    /// # Errors
    /// [`ApiError`], as for every method here; those without a deadline last as long as what they copy.
    pub async fn volumes(&self) -> Result<Vec<VolumeView>, ApiError> {
        self.api.json(self.request(reqwest::Method::GET, "volumes")).await
    }
    /// Removes a volume; `all`: with its snapshots.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn remove_volume(&self, name: &str, all: bool) -> Result<(), ApiError> {
        self.api.answer(self.request(reqwest::Method::DELETE, &format!("volumes/{name}?all={all}"))).await.map(drop)
    }
    /// Makes a snapshot; it has no deadline.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn snapshot(&self, name: &str, snapshot: &str) -> Result<(), ApiError> {
        self.api.answer(self.request(reqwest::Method::PUT, &format!("volumes/{name}/snapshots/{snapshot}"))).await.map(drop)
    }
    /// Removes a snapshot.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn remove_snapshot(&self, name: &str, snapshot: &str) -> Result<(), ApiError> {
        self.api.answer(self.request(reqwest::Method::DELETE, &format!("volumes/{name}/snapshots/{snapshot}"))).await.map(drop)
    }
    /// Gives a volume, or a new one, the content of a snapshot; it has no deadline.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn restore(&self, name: &str, from: &str, to: Option<&str>) -> Result<(), ApiError> {
        let to = to.map(|to| format!("&to={to}")).unwrap_or_default();
        self.api.answer(self.request(reqwest::Method::POST, &format!("volumes/{name}/restore?from={from}{to}"))).await.map(drop)
    }
}
