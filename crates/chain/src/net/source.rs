//! Where a joining node would fetch the state.
//!
//! Guarantees: it is never asked, as no state synchronisation is requested. The engine's own resolver takes fixed-size records
//! only (its operations must decode without configuration), so joining by state needs a resolver of ours.

use crate::app::{Db, Encoding, Rt};
use crate::block::Digest;
use commonware_glue::stateful::db::{AttachableResolver, Shared};
use commonware_storage::{
    mmr,
    qmdb::{
        any::ordered,
        sync::{Request, Source, source},
    },
};
use std::convert::Infallible;

/// Where a joining node would fetch the state: nowhere yet. Only asked when state sync was requested.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoSource;

impl Source for NoSource {
    type Family = mmr::Family;
    type Digest = Digest;
    type Op = ordered::Operation<mmr::Family, Digest, Encoding>;
    type Error = Infallible;
    async fn serve(&self, _: Request<mmr::Family>) -> source::Result<Self> {
        std::future::pending().await
    }
}

impl<E: Rt> AttachableResolver<Db<E>> for NoSource {
    async fn attach_database(&self, _: Shared<Db<E>>) {}
}
