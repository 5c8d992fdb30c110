//! Manifests and indexes of images, as far as is needed to fetch their parts: OCI image specification 1.1 and Docker's schema 2.
//!
//! Guarantees: what is read has a bounded number of parts, each with a digest and a size; an index leads to the image for one kind of machine.
//! It does not read configurations: the engine compares them with the layers when it takes them in.

use pasture_types::ContentDigest;
use serde::Deserialize;

/// Largest manifest or index, as registries take them.
pub const MAX_DOCUMENT: usize = 4 << 20;
/// Most layers: engines give up at 127.
const MAX_LAYERS: usize = 127;
/// Most images of one index.
const MAX_ENTRIES: usize = 1_000;
/// What registries may give of a name, best first.
pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// Why a document cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is none, or one of a form that nobody makes any more.
    #[error("this is no image's manifest: {0}")]
    Form(String),
    /// It is of something that this cannot fetch; an engine perhaps can.
    #[error("the image has {0}")]
    Unsupported(String),
    /// It is for other machines.
    #[error("the image is not for {wanted} processors, but for {found}")]
    Platform {
        /// This machine's, as images name it.
        wanted: String,
        /// Those that there are.
        found: String,
    },
}

/// A part of an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blob {
    /// Its name.
    pub digest: ContentDigest,
    /// In bytes.
    pub size: u64,
}

/// What a name led to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Document {
    /// An index leads to a manifest for the machine.
    Index(ContentDigest),
    /// An image.
    Image {
        /// Its configuration, whose digest is the image's id.
        config: Blob,
        /// What it consists of, lowest first.
        layers: Vec<Blob>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: ContentDigest,
    size: u64,
}

#[derive(Deserialize)]
struct Entry {
    digest: ContentDigest,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
    #[serde(default)]
    variant: String,
}

/// Reads a document. `architecture`: this machine's, as images name it (`amd64`, `arm64`).
///
/// # Errors
/// [`ManifestError`].
pub fn read(bytes: &[u8], architecture: &str) -> Result<Document, ManifestError> {
    let form = |why: String| ManifestError::Form(why);
    if bytes.len() > MAX_DOCUMENT {
        return Err(form(format!("it has more than {MAX_DOCUMENT} bytes")));
    }
    let raw: Raw = serde_json::from_slice(bytes).map_err(|e| form(e.to_string()))?;
    match raw {
        Raw { schema_version: 2, config: Some(config), layers: Some(layers), manifests: None } => image(&config, &layers),
        Raw { schema_version: 2, config: None, layers: None, manifests: Some(entries) } => {
            choose(&entries, architecture).map(Document::Index)
        }
        Raw { schema_version: 2, .. } => Err(form("it is neither an image's nor an index".into())),
        Raw { schema_version, .. } => Err(ManifestError::Unsupported(format!("a manifest of version {schema_version}"))),
    }
}

fn image(config: &Descriptor, layers: &[Descriptor]) -> Result<Document, ManifestError> {
    if layers.is_empty() || layers.len() > MAX_LAYERS {
        return Err(ManifestError::Unsupported(format!("{} layers", layers.len())));
    }
    // Others are not images to run, or are not to be passed on.
    let usual = ["application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"];
    if let Some(other) = layers.iter().find(|layer| !usual.iter().any(|usual| layer.media_type.starts_with(usual))) {
        let named: String = other.media_type.chars().take(100).collect();
        return Err(ManifestError::Unsupported(format!("a layer of another kind ({named})")));
    }
    let total = layers.iter().try_fold(config.size, |sum, layer| sum.checked_add(layer.size));
    if total.is_none() || config.size > MAX_DOCUMENT as u64 {
        return Err(ManifestError::Form("its parts are larger than anything".into()));
    }
    let blob = |d: &Descriptor| Blob { digest: d.digest, size: d.size };
    Ok(Document::Image { config: blob(config), layers: layers.iter().map(blob).collect() })
}

/// The image for a machine: of several the one for the newest of its processors that all have, which is the one without a variant.
fn choose(entries: &[Entry], architecture: &str) -> Result<ContentDigest, ManifestError> {
    if entries.len() > MAX_ENTRIES {
        return Err(ManifestError::Form(format!("an index of {} images", entries.len())));
    }
    let fitting = entries.iter().filter_map(|entry| {
        let platform = entry.platform.as_ref()?;
        (platform.os == "linux" && platform.architecture == architecture).then_some((platform.variant.as_str(), entry.digest))
    });
    // All arm64 has v8; what asks for more of amd64 (v2 and on) is for some machines only.
    let best = fitting.min_by_key(|(variant, _)| match (architecture, *variant) {
        (_, "") | ("arm64", "v8") | ("amd64", "v1") => 0,
        _ => 1,
    });
    best.map(|(_, digest)| digest).ok_or_else(|| {
        let mut found: Vec<&str> = entries.iter().filter_map(|e| Some(e.platform.as_ref()?.architecture.as_str())).collect();
        found.sort_unstable();
        found.dedup();
        ManifestError::Platform { wanted: architecture.into(), found: found.join(", ").chars().take(200).collect() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> ContentDigest {
        ContentDigest([n; 32])
    }

    fn layer(kind: &str, n: u8) -> String {
        format!(r#"{{"mediaType":"{kind}","digest":"{}","size":7,"annotations":{{}}}}"#, digest(n))
    }

    fn manifest(layers: &str) -> String {
        let config = layer("application/vnd.oci.image.config.v1+json", 1);
        format!(r#"{{"schemaVersion":2,"mediaType":"x","config":{config},"layers":[{layers}]}}"#)
    }

    #[test]
    fn manifests_of_both_kinds_are_read() {
        for kind in ["application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip"] {
            let text = manifest(&[layer(kind, 2), layer(kind, 3)].join(","));
            let blob = |n| Blob { digest: digest(n), size: 7 };
            assert_eq!(read(text.as_bytes(), "amd64"), Ok(Document::Image { config: blob(1), layers: vec![blob(2), blob(3)] }));
        }
    }

    #[test]
    fn what_cannot_be_fetched_is_said() {
        let foreign = manifest(&layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", 2));
        assert!(matches!(read(foreign.as_bytes(), "amd64"), Err(ManifestError::Unsupported(_))));
        assert!(matches!(read(manifest("").as_bytes(), "amd64"), Err(ManifestError::Unsupported(_))));
        assert!(matches!(read(br#"{"schemaVersion":1}"#, "amd64"), Err(ManifestError::Unsupported(_))));
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"schemaVersion":2}"#,
            &manifest(&layer("application/vnd.oci.image.layer.v1.tar", 2)).replace(":7,", ":-7,"),
        ] {
            assert!(matches!(read(bad.as_bytes(), "amd64"), Err(ManifestError::Form(_))), "{bad}");
        }
        let huge = manifest(&layer("application/vnd.oci.image.layer.v1.tar", 2)).replace(":7,", &format!(":{},", u64::MAX));
        assert!(matches!(read(huge.as_bytes(), "amd64"), Err(ManifestError::Form(_))));
    }

    #[test]
    fn an_index_leads_to_the_image_for_the_machine() {
        let entry = |n, arch: &str, variant: &str| {
            format!(r#"{{"digest":"{}","size":1,"platform":{{"os":"linux","architecture":"{arch}","variant":"{variant}"}}}}"#, digest(n))
        };
        let of = |entries: &[String]| format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        let text = of(&[entry(1, "amd64", "v3"), entry(2, "arm64", "v8"), entry(3, "amd64", ""), entry(4, "unknown", "")]);
        assert_eq!(read(text.as_bytes(), "amd64"), Ok(Document::Index(digest(3))));
        assert_eq!(read(text.as_bytes(), "arm64"), Ok(Document::Index(digest(2))));
        let error = read(text.as_bytes(), "riscv64").unwrap_err().to_string();
        assert_eq!(error, "the image is not for riscv64 processors, but for amd64, arm64, unknown");
    }
}
