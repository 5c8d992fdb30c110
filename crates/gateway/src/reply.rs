//! Requests in, answers out: arguments of a path, bodies with a limit, problems as documents.
//!
//! Guarantees: whatever cannot be read is answered with a problem that says what is expected, and no body is taken
//! into memory beyond its limit.

use axum::body::Body;
use axum::extract::{FromRequestParts, Path};
use axum::http::{HeaderMap, header, request::Parts};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use pasture_api::Problem;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

/// Largest JSON body.
pub(crate) const MAX_JSON: usize = 256 * 1024;
/// How much of a body that is too large is read on and thrown away, so that its sender hears the answer and does not
/// just see the connection break.
const MAX_DRAIN: usize = 4 << 20;
/// How long a body of these sizes may take.
const BODY_DEADLINE: Duration = Duration::from_secs(20);
/// Longest raw key of the state.
const MAX_KEY: usize = 1024;

/// The one argument of a path.
pub(crate) struct Arg<T>(pub(crate) T);

impl<S, T> FromRequestParts<S> for Arg<T>
where
    S: Send + Sync,
    T: FromStr<Err: Display>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|e| Problem::bad_request(e.body_text()))?;
        Ok(Self(text.parse().map_err(|e: T::Err| Problem::bad_request(e.to_string()))?))
    }
}

/// A height or an epoch.
pub(crate) struct Number(pub(crate) u64);

impl FromStr for Number {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // `parse` alone would also take a sign.
        let number = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        number.map(Self).ok_or_else(|| format!("`{}` is not a number: decimal digits, at most {}, are expected", shown(text), u64::MAX))
    }
}

/// A raw key of the state.
pub(crate) struct StateKey(pub(crate) Vec<u8>);

impl FromStr for StateKey {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let key = hex::decode(text).ok().filter(|k| (1..=MAX_KEY).contains(&k.len()));
        key.map(Self).ok_or_else(|| format!("`{}` is not a key: 1 to {MAX_KEY} bytes in hex are expected", shown(text)))
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Reads a whole body of at most `limit` bytes.
pub(crate) async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Problem> {
    match tokio::time::timeout(BODY_DEADLINE, collect(headers, body, limit)).await {
        Ok(read) => read,
        Err(_) => Err(Problem::new(408, "timeout", format!("the request's body did not arrive within {} s", BODY_DEADLINE.as_secs()))),
    }
}

async fn collect(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Problem> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok()).unwrap_or(0);
    let mut stream = body.into_data_stream();
    let (mut read, mut kept) = (0usize, BytesMut::new());
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Problem::bad_request("the request's body broke off"))?;
        read = read.saturating_add(chunk.len());
        if announced.max(read) <= limit {
            kept.extend_from_slice(&chunk);
        } else if announced.max(read) > MAX_DRAIN {
            break;
        }
    }
    if announced.max(read) > limit {
        return Err(Problem::too_large(format!("the request's body is larger than {limit} bytes, which is the most that is taken here")));
    }
    Ok(kept.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_keys_are_strict() {
        assert_eq!("18446744073709551615".parse::<Number>().map(|n| n.0), Ok(u64::MAX));
        for bad in ["", "-1", "+1", "1.0", "0x1", "18446744073709551616", "one"] {
            assert!(bad.parse::<Number>().is_err(), "{bad}");
        }
        assert_eq!("00ff".parse::<StateKey>().map(|k| k.0), Ok(vec![0, 255]));
        for bad in ["", "0", "zz", &"00".repeat(MAX_KEY + 1)] {
            assert!(bad.parse::<StateKey>().is_err());
        }
    }
}
