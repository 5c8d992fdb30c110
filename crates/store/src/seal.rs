//! Sealing: bytes that only one node can read, and bytes that only the holder of a key can.
//!
//! Guarantees: what was changed, sealed for another key or bound to something else does not open; nothing is learned from a failure but
//! that it failed. A box has a fresh key of its own (X25519, BLAKE3, ChaCha20-Poly1305); its sender is not authenticated by it: whoever
//! carries it signs the request. The caller brings the random bytes. Form: `docs/specs/secrets.md` §3 and §4.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use pasture_types::SigningKey;
use pasture_types::ids::derive;
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};

const SECRET_DOMAIN: &str = "pasture 2026-11 sealing secret v1";
const BOX_DOMAIN: &str = "pasture 2026-11 sealed box v1";
const LOCK_DOMAIN: &str = "pasture 2026-11 locked file v1";
/// First byte of a box.
const VERSION: u8 = 1;
/// Bytes of a box before its content: version and the sender's passing key.
const HEAD: usize = 33;
/// Bytes before what is locked.
const CHANCE: usize = 32;

/// It does not open: changed, for somebody else, or bound to something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed bytes do not open")]
pub struct SealError;

fn secret(node: &SigningKey) -> [u8; 32] {
    node.derive_secret(SECRET_DOMAIN)
}

/// The X25519 key that others seal with for this node.
#[must_use]
pub fn sealing_key(node: &SigningKey) -> [u8; 32] {
    x25519(secret(node), X25519_BASEPOINT_BYTES)
}

/// A key that encrypts once, so that its number can always be the same.
fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, SealError> {
    UnboundKey::new(&CHACHA20_POLY1305, key).map(LessSafeKey::new).map_err(|_| SealError)
}

fn close(key: &[u8; 32], context: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut body = plain.to_vec();
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    cipher(key)?.seal_in_place_append_tag(nonce, Aad::from(context), &mut body).map_err(|_| SealError)?;
    Ok(body)
}

fn unclose(key: &[u8; 32], context: &[u8], body: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut body = body.to_vec();
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let plain = cipher(key)?.open_in_place(nonce, Aad::from(context), &mut body).map_err(|_| SealError)?;
    Ok(plain.to_vec())
}

fn box_key(passing: &[u8; 32], reader: &[u8; 32], shared: &[u8; 32]) -> Result<[u8; 32], SealError> {
    // A key of low order would make a secret that everybody knows.
    if *shared == [0; 32] { Err(SealError) } else { Ok(derive(BOX_DOMAIN, &[passing, reader, shared])) }
}

/// Seals bytes for a reader's [`sealing_key`], bound to `context`. `chance`: 32 random bytes that are used nowhere else.
///
/// # Errors
/// [`SealError`] if the reader's key is none.
pub fn seal(reader: &[u8; 32], context: &[u8], plain: &[u8], chance: [u8; 32]) -> Result<Vec<u8>, SealError> {
    let passing = x25519(chance, X25519_BASEPOINT_BYTES);
    let key = box_key(&passing, reader, &x25519(chance, *reader))?;
    Ok([&[VERSION][..], &passing, &close(&key, context, plain)?].concat())
}

/// Opens what was sealed for this node and bound to `context`.
///
/// # Errors
/// [`SealError`].
pub fn open(node: &SigningKey, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    open_with(&secret(node), context, sealed)
}

/// The key that others seal with for the holder of an X25519 secret.
#[must_use]
pub fn public_half(secret: &[u8; 32]) -> [u8; 32] {
    x25519(*secret, X25519_BASEPOINT_BYTES)
}

/// Whether something can be sealed for a key: one of low order would make a secret that everybody knows.
#[must_use]
pub fn is_key(reader: &[u8; 32]) -> bool {
    x25519([1; 32], *reader) != [0; 32]
}

/// Opens what was sealed for the holder of an X25519 secret and bound to `context`.
///
/// # Errors
/// [`SealError`].
pub fn open_with(secret: &[u8; 32], context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    let (head, body) = sealed.split_at_checked(HEAD).ok_or(SealError)?;
    let (version, passing) = head.split_first().ok_or(SealError)?;
    let passing: [u8; 32] = passing.try_into().map_err(|_| SealError)?;
    if *version != VERSION {
        return Err(SealError);
    }
    unclose(&box_key(&passing, &public_half(secret), &x25519(*secret, passing))?, context, body)
}

/// Locks bytes with a key that reads them again, bound to `context`. `chance`: random bytes that are used nowhere else.
///
/// # Errors
/// [`SealError`] if they are too long for the cipher.
pub fn lock(key: &[u8; 32], context: &[u8], plain: &[u8], chance: [u8; CHANCE]) -> Result<Vec<u8>, SealError> {
    let once = derive(LOCK_DOMAIN, &[key, &chance]);
    Ok([&chance[..], &close(&once, context, plain)?].concat())
}

/// Reads what was locked with the key and bound to `context`.
///
/// # Errors
/// [`SealError`].
pub fn unlock(key: &[u8; 32], context: &[u8], locked: &[u8]) -> Result<Vec<u8>, SealError> {
    let (chance, body) = locked.split_at_checked(CHANCE).ok_or(SealError)?;
    unclose(&derive(LOCK_DOMAIN, &[key, chance]), context, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_node_opens_it_and_only_as_it_was_bound() {
        let (node, other) = (SigningKey::from_seed([1; 32]), SigningKey::from_seed([2; 32]));
        let sealed = seal(&sealing_key(&node), b"lease 1", b"open sesame", [7; 32]).unwrap();
        assert!(!sealed.windows(4).any(|w| w == b"open"));
        assert_eq!(open(&node, b"lease 1", &sealed).unwrap(), b"open sesame");
        assert_eq!(open(&node, b"lease 2", &sealed), Err(SealError));
        assert_eq!(open(&other, b"lease 1", &sealed), Err(SealError));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            // The highest bit of an X25519 key does not count for the curve, but it does for the box's key.
            assert_eq!(open(&node, b"lease 1", &changed), Err(SealError), "byte {at}");
            assert_eq!(open(&node, b"lease 1", &sealed[..at]), Err(SealError), "cut at {at}");
        }
        assert_ne!(seal(&sealing_key(&node), b"lease 1", b"open sesame", [8; 32]).unwrap(), sealed);
        assert_eq!(seal(&[0; 32], b"", b"x", [7; 32]), Err(SealError), "a key that makes no secret");
    }

    #[test]
    fn the_form_of_a_box_is_frozen() {
        let sealed = seal(&sealing_key(&SigningKey::from_seed([1; 32])), b"context", b"plain", [7; 32]).unwrap();
        assert_eq!(hex::encode(sealed), include_str!("../tests/golden/sealed.txt").trim());
    }

    #[test]
    fn what_is_locked_needs_key_and_context() {
        let locked = lock(&[1; 32], b"name", b"value", [2; 32]).unwrap();
        assert_eq!(unlock(&[1; 32], b"name", &locked).unwrap(), b"value");
        assert_eq!(unlock(&[3; 32], b"name", &locked), Err(SealError));
        assert_eq!(unlock(&[1; 32], b"other", &locked), Err(SealError));
        assert_eq!(unlock(&[1; 32], b"name", &locked[..10]), Err(SealError));
    }
}
