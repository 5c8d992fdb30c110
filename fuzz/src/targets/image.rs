//! What users name and registries answer: names of images, manifests, what is wanted before something is given. Read or refused, within bounds.

use pasture_blobs::{Challenge, Document, Reference, RegistryUrl, read};
use pasture_types::ContentDigest;

/// Takes one input: `0` and text, or a manifest; a broken promise panics.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    if *kind != b'0' {
        if let Ok(Document::Image { config, layers }) = read(rest, "amd64") {
            assert!(!layers.is_empty() && layers.len() <= 127);
            assert!(layers.iter().try_fold(config.size, |sum, layer| sum.checked_add(layer.size)).is_some());
        }
        return;
    }
    let Ok(text) = std::str::from_utf8(rest) else { return };
    if let Ok(name) = Reference::parse(text) {
        assert_eq!(Reference::parse(&name.to_string()), Ok(name.clone()));
        // Both become parts of a URL.
        for part in [name.repository(), &name.version()] {
            assert!(!part.contains("..") && !part.contains(['?', '#', '%', '\\', ' ']), "{part}");
        }
    }
    if let Ok(digest) = text.parse::<ContentDigest>() {
        assert_eq!(digest.to_string(), text);
    }
    let _ = text.parse::<RegistryUrl>();
    if let Some(challenge) = Challenge::parse(text) {
        assert!(!challenge.realm.is_empty());
    }
}
