//! A provider's machines, in pages.

use super::{ApiClient, ApiError};
use crate::views::{NodePage, NodeView};
use pasture_types::{AccountId, NodeId};

impl ApiClient {
    /// A provider's nodes by id, those after one: a page.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn nodes(&self, provider: &AccountId, after: Option<&NodeId>) -> Result<NodePage, ApiError> {
        let after = after.map_or(String::new(), |node| format!("?after={node}"));
        self.get(&format!("/v1/accounts/{provider}/nodes{after}")).await
    }
    /// All of a provider's nodes, by id.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn all_nodes(&self, provider: &AccountId) -> Result<Vec<NodeView>, ApiError> {
        let mut page = self.nodes(provider, None).await?;
        let mut all = std::mem::take(&mut page.nodes);
        while let Some(after) = page.next {
            page = self.nodes(provider, Some(&after)).await?;
            all.append(&mut page.nodes);
        }
        Ok(all)
    }
}
