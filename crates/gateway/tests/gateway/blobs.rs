//! Who has which blob of an image, and the way to its bytes.

use crate::world::{NOW, World, announcement, node_key, soon, user};
use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use futures::StreamExt as _;
use pasture_api::blobs::{self, MAX_TOLD};
use pasture_api::{ApiError, auth};
use pasture_rt::TaskKind;
use pasture_types::{ContentDigest, NodeId, SigningKey};
use tokio::net::TcpListener;

const LAYER: ContentDigest = ContentDigest([7; 32]);
const BYTES: &[u8] = b"bytes of a layer";

/// A machine that has one blob, for whoever signs with the user's key.
async fn serve(request: Request) -> Response {
    let path = request.uri().path_and_query().unwrap().to_string();
    let said = request.headers().get(header::AUTHORIZATION).map(|v| v.to_str().unwrap());
    if auth::verify(said, "GET", &path, &node_key().node_id(), NOW) != Ok(user().public()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if path == blobs::path(&LAYER, 6, Some(2)) { BYTES[6..8].into_response() } else { BYTES.into_response() }
}

async fn world() -> World {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let w = World::new().await;
    w.announce(listener.local_addr().unwrap()).await;
    let router = Router::new().fallback(any(serve));
    let _server = pasture_rt::spawn(TaskKind::Server, async move { axum::serve(listener, router).await.unwrap() });
    w
}

async fn tell(w: &World, blobs: Vec<ContentDigest>) {
    let mut said = announcement(&node_key(), "http://127.0.0.1:9");
    said.blobs = blobs;
    soon(w.api.announce(&node_key().node_id(), &said)).await.unwrap();
}

async fn holders(w: &World, digest: &ContentDigest) -> Vec<NodeId> {
    soon(w.api.holders(digest)).await.unwrap().nodes
}

#[tokio::test]
async fn who_has_a_blob_is_what_machines_said_last() {
    let w = world().await;
    let other = ContentDigest([8; 32]);
    assert!(holders(&w, &LAYER).await.is_empty());
    tell(&w, vec![LAYER, other]).await;
    assert_eq!((holders(&w, &LAYER).await, holders(&w, &other).await), (vec![node_key().node_id()], vec![node_key().node_id()]));
    tell(&w, vec![other]).await;
    assert_eq!((holders(&w, &LAYER).await, holders(&w, &other).await), (vec![], vec![node_key().node_id()]));
    // Who says more than there is room for is told so, or heard as far as that; what was there before is not lost by it.
    let many = (0..=MAX_TOLD).map(|n| ContentDigest(*pasture_types::blob::hash(&n.to_le_bytes()).as_bytes())).collect();
    tell(&w, many).await;
    assert!(holders(&w, &other).await.is_empty());
    // Nobody speaks for another.
    let mut forged = announcement(&user(), "http://127.0.0.1:9");
    forged.blobs = vec![LAYER];
    let refused = soon(w.api.announce(&node_key().node_id(), &forged)).await.unwrap_err();
    assert!(refused.problem().is_some_and(|p| [401, 403].contains(&p.status)), "{refused:?}");
    assert!(holders(&w, &LAYER).await.is_empty());
    for wrong in ["00", "zz", &"0".repeat(65), &"G".repeat(64), "..%2f.."] {
        assert_eq!(w.refused("GET", &format!("/v1/blobs/{wrong}"), "").await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn bytes_come_from_the_machine_as_they_were_asked_for_and_signed() {
    let w = world().await;
    let node = node_key().node_id();
    let read = async |key: SigningKey, range| -> Result<Vec<u8>, ApiError> {
        let mut chunks = soon(w.api.blob(&key, &node, &LAYER, range, NOW)).await?;
        let mut all = vec![];
        while let Some(chunk) = chunks.next().await {
            all.extend_from_slice(&chunk?);
        }
        Ok(all)
    };
    assert_eq!(read(user(), (0, None)).await.unwrap(), BYTES);
    assert_eq!(read(user(), (6, Some(2))).await.unwrap(), &BYTES[6..8]);
    // The machine decides who may have it.
    assert!(read(node_key(), (0, None)).await.is_err());
    for wrong in ["x", "../status", "%2e%2e"] {
        assert!([400, 404].contains(&w.refused("GET", &format!("/v1/nodes/{node}/blobs/{wrong}"), "").await.status), "{wrong}");
    }
    let stranger = NodeId([3; 32]);
    let refused = w.refused("GET", &format!("/v1/nodes/{stranger}{}", blobs::path(&LAYER, 0, None)), "").await;
    assert_eq!(refused.code, "node-unreachable");
}
