//! Digests by which registries and engines of containers name what they keep: `sha256:` and 64 hex digits (OCI image specification,
//! "Digests"). Of the algorithms that it knows this is the one that registries use.
//!
//! It does not compute any.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// How its text begins.
const ALGORITHM: &str = "sha256:";

/// A string is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest: `sha256:` and 64 hex digits in small letters are expected")]
pub struct ParseDigestError(pub String);

/// The SHA-256 digest of a blob as registries have it: a layer, a configuration, a manifest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentDigest(pub [u8; 32]);

impl ContentDigest {
    /// Its 64 hex digits alone: a file's name.
    #[must_use]
    pub fn digits(&self) -> String {
        hex::encode(self.0)
    }
    /// The first twelve of them, as engines show it to people.
    #[must_use]
    pub fn short(&self) -> String {
        self.digits().chars().take(12).collect()
    }
    /// The reverse of [`ContentDigest::digits`].
    ///
    /// # Errors
    /// [`ParseDigestError`]; capital letters are no other spelling of the same, as one file's name is.
    pub fn of_digits(digits: &str) -> Result<Self, ParseDigestError> {
        let wrong = || ParseDigestError(digits.chars().take(80).collect());
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| wrong())?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}{}", self.digits())
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentDigest({})", self.short())
    }
}

impl FromStr for ContentDigest {
    type Err = ParseDigestError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let digits = s.strip_prefix(ALGORITHM).ok_or_else(|| ParseDigestError(s.chars().take(80).collect()))?;
        Self::of_digits(digits)
    }
}

impl Serialize for ContentDigest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.to_string())
    }
}

impl<'de> Deserialize<'de> for ContentDigest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        <String as Deserialize>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_digest_has_one_text() {
        let digest = ContentDigest([0xab; 32]);
        let text = digest.to_string();
        assert_eq!(text, format!("sha256:{}", "ab".repeat(32)));
        assert_eq!(text.parse(), Ok(digest));
        let read = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(&text);
        assert_eq!(ContentDigest::deserialize(read), Ok(digest));
        for bad in ["", "sha256:", "ab", &text.to_uppercase(), &text.replace("ab", "AB"), &format!("{text}0"), &text.replace("256", "512")]
        {
            assert!(bad.parse::<ContentDigest>().is_err(), "{bad}");
        }
    }
}
