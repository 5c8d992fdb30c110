//! A state proof: everything a client needs to believe one record, in one piece of bytes. Format: `docs/specs/light.md` §5.

use crate::certificate::Certificate;
use crate::codec::Cursor;
use crate::error::LightError;
use crate::header::{HEADER_SIZE, Header};
use crate::store;
use crate::validators::{MAX_VALIDATORS, ValidatorSet};

/// The format of [`StateProof::encode`].
pub const PROOF_VERSION: u8 = 1;
/// Most headers from the state's block to the certified one. The engine certifies nearly every block.
pub const MAX_HEADERS: usize = 64;
/// Longest key.
pub const MAX_KEY: usize = 1024;
/// Largest value: the store's own limit.
pub const MAX_VALUE: usize = 2 << 20;
/// Largest proof of the store. A proof of absence carries the record of a neighbour.
pub const MAX_STORE_PROOF: usize = MAX_VALUE + 8 * 1024;
/// Largest certificate.
pub const MAX_CERTIFICATE: usize = 3 * 10 + 32 + 8 + MAX_VALIDATORS / 8 + 2 + 64 * MAX_VALIDATORS;
/// Largest encoded proof.
pub const MAX_PROOF: usize = 32 + MAX_HEADERS * HEADER_SIZE + MAX_CERTIFICATE + MAX_KEY + MAX_VALUE + MAX_STORE_PROOF;
const PART: &str = "proof";

/// Evidence that a key has a value, or none, in a state that validators certified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateProof {
    /// The header whose state it is, then the headers after it up to the certified one.
    pub headers: Vec<[u8; HEADER_SIZE]>,
    /// The finality certificate of the last header.
    pub certificate: Vec<u8>,
    /// The key.
    pub key: Vec<u8>,
    /// Its value; `None` claims that it has none.
    pub value: Option<Vec<u8>>,
    /// The store's proof.
    pub store: Vec<u8>,
}

/// What a proof showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The key.
    pub key: Vec<u8>,
    /// Its value; `None` if it has none.
    pub value: Option<Vec<u8>>,
    /// The block whose state it is.
    pub header: Header,
    /// How many validators signed.
    pub votes: usize,
    /// Of how many trusted ones.
    pub validators: usize,
}

impl Verified {
    /// The same, if the state is of this height and time or later. Whoever knows the time, or saw a later block, asks this:
    /// a proof of last week is as sound as one of now.
    ///
    /// # Errors
    /// [`LightError::Older`].
    pub fn since(self, height: u64, time_ms: u64) -> Result<Self, LightError> {
        if self.header.height < height || self.header.timestamp_ms < time_ms {
            return Err(LightError::Older { height: self.header.height, time_ms: self.header.timestamp_ms });
        }
        Ok(self)
    }

    /// The same, if it is about this key.
    ///
    /// # Errors
    /// [`LightError::OtherKey`].
    pub fn about(self, key: &[u8]) -> Result<Self, LightError> {
        if self.key == key { Ok(self) } else { Err(LightError::OtherKey) }
    }

    /// The same, if the value is the one that was given beside the proof.
    ///
    /// # Errors
    /// [`LightError::ValueDiffers`].
    pub fn with_value(self, value: Option<&[u8]>) -> Result<Self, LightError> {
        if self.value.as_deref() == value { Ok(self) } else { Err(LightError::ValueDiffers) }
    }
}

/// Checks a proof against the validators that the caller trusts. The caller still asks whether it is about the right key
/// ([`Verified::about`]) and recent enough ([`Verified::since`]).
///
/// # Errors
/// [`LightError`]: the first thing that is wrong.
pub fn verify(trusted: &ValidatorSet, proof: &StateProof) -> Result<Verified, LightError> {
    for (part, got, limit) in [
        ("key", proof.key.len(), MAX_KEY),
        ("value", proof.value.as_ref().map_or(0, Vec::len), MAX_VALUE),
        ("store proof", proof.store.len(), MAX_STORE_PROOF),
    ] {
        if got > limit {
            return Err(LightError::TooLong { part, got, limit });
        }
    }
    let (header, votes) = verify_header(trusted, &proof.headers, &proof.certificate)?;
    let root = store::root(&proof.key, proof.value.as_deref(), &proof.store, MAX_STORE_PROOF)?;
    if root != header.state_root {
        return Err(LightError::RootMismatch);
    }
    let validators = trusted.len();
    Ok(Verified { key: proof.key.clone(), value: proof.value.clone(), header, votes, validators })
}

/// Checks that the first of some headers is final: each follows from the one before, and the certificate covers the last. Returns
/// the first and how many validators signed.
///
/// # Errors
/// [`LightError`]: the first thing that is wrong.
pub fn verify_header(trusted: &ValidatorSet, headers: &[[u8; HEADER_SIZE]], certificate: &[u8]) -> Result<(Header, usize), LightError> {
    if headers.len() > MAX_HEADERS {
        return Err(LightError::TooLong { part: "headers", got: headers.len(), limit: MAX_HEADERS });
    }
    if certificate.len() > MAX_CERTIFICATE {
        return Err(LightError::TooLong { part: "certificate", got: certificate.len(), limit: MAX_CERTIFICATE });
    }
    let mut chain: Vec<Header> = Vec::with_capacity(headers.len());
    for (index, bytes) in headers.iter().enumerate() {
        let header = Header::decode(bytes)?;
        if header.zone != *trusted.zone() {
            return Err(LightError::WrongZone { found: header.zone });
        }
        if chain.last().is_some_and(Header::hands_over) {
            return Err(LightError::CrossesHandover { index });
        }
        if header.validators != *trusted.hash() {
            return Err(LightError::OtherValidators { found: header.validators });
        }
        if chain.last().is_some_and(|parent| header.parent != parent.digest || parent.height.checked_add(1) != Some(header.height)) {
            return Err(LightError::BrokenChain { index });
        }
        chain.push(header);
    }
    let none = LightError::Malformed { part: "headers", what: "there is none" };
    let last = chain.last().ok_or(none.clone())?;
    let certificate = Certificate::decode(certificate)?;
    if certificate.digest != last.digest {
        return Err(LightError::HeaderNotCertified);
    }
    certificate.verify(trusted)?;
    let votes = certificate.signatures.len();
    Ok((chain.into_iter().next().ok_or(none)?, votes))
}

impl StateProof {
    /// The proof as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![PROOF_VERSION, u8::try_from(self.headers.len()).unwrap_or(u8::MAX)];
        for header in &self.headers {
            out.extend_from_slice(header);
        }
        put(&mut out, &self.certificate);
        put(&mut out, &self.key);
        out.push(u8::from(self.value.is_some()));
        if let Some(value) = &self.value {
            put(&mut out, value);
        }
        put(&mut out, &self.store);
        out
    }

    /// Reads a proof from exactly its bytes. It is not verified yet.
    ///
    /// # Errors
    /// [`LightError`] if they are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, LightError> {
        let mut cursor = Cursor::new(PART, bytes);
        cursor.limited(bytes.len(), MAX_PROOF)?;
        let version = cursor.u8()?;
        if version != PROOF_VERSION {
            return Err(LightError::UnknownVersion { part: "the proof", found: version.into(), known: PROOF_VERSION.into() });
        }
        let count = usize::from(cursor.u8()?);
        cursor.limited(count, MAX_HEADERS)?;
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            headers.push(cursor.array()?);
        }
        let certificate = get(&mut cursor, MAX_CERTIFICATE)?;
        let key = get(&mut cursor, MAX_KEY)?;
        let value = if cursor.flag()? { Some(get(&mut cursor, MAX_VALUE)?) } else { None };
        let store = get(&mut cursor, MAX_STORE_PROOF)?;
        cursor.end()?;
        Ok(Self { headers, certificate, key, value, store })
    }
}

pub(crate) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

pub(crate) fn get(cursor: &mut Cursor<'_>, limit: usize) -> Result<Vec<u8>, LightError> {
    let length = usize::try_from(cursor.u32()?).unwrap_or(usize::MAX);
    cursor.limited(length, limit)?;
    Ok(cursor.take(length)?.to_vec())
}
