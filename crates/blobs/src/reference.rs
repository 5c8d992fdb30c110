//! Names of images: `[host[:port]/]path[:tag][@digest]`, by the grammar of the distribution project.
//!
//! It asks nobody whether there is such an image.

use pasture_types::ContentDigest;
use std::fmt;

/// The registry of names without a host, what it is called in full names, and where it answers.
const USUAL: &str = "docker.io";
const USUAL_HOSTS: [&str; 3] = [USUAL, "index.docker.io", "registry-1.docker.io"];
const USUAL_ENDPOINT: &str = "registry-1.docker.io";
/// What names without an owner belong to there.
const USUAL_OWNER: &str = "library";
const USUAL_TAG: &str = "latest";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A text is no image's name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{text}` is no image's name: {why}")]
pub struct ReferenceError {
    text: String,
    why: &'static str,
}

/// An image's name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<ContentDigest>,
}

impl Reference {
    /// Reads a name as people write it.
    ///
    /// # Errors
    /// [`ReferenceError`].
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |why| ReferenceError { text: text.chars().take(120).collect(), why };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| wrong("what follows @ is no sha256 digest"))?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            // What follows a slash is part of a path: the colon is a port's.
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("a tag has up to 128 letters, digits, '.', '_' and '-', and begins with none of the last two but '_'"));
        }
        let (host, path) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host.eq_ignore_ascii_case("localhost") => (host.to_ascii_lowercase(), path),
            _ => (USUAL.to_owned(), name),
        };
        if !is_host(&host) {
            return Err(wrong("its registry is no host's name with a port"));
        }
        if path.len() > MAX_NAME || !path.split('/').all(is_component) {
            return Err(wrong("a path consists of small letters and digits, with single '.', '_' or '-' between"));
        }
        let usual = USUAL_HOSTS.contains(&host.as_str());
        let repository = if usual && !path.contains('/') { format!("{USUAL_OWNER}/{path}") } else { path.to_owned() };
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| USUAL_TAG.to_owned()));
        Ok(Self { host: if usual { USUAL.to_owned() } else { host }, repository, tag, digest })
    }
    /// Host, and port where one is said, that its registry answers at.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        if self.host == USUAL { USUAL_ENDPOINT } else { &self.host }
    }
    /// Its path within the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }
    /// Exactly which image it is, where the name says that.
    #[must_use]
    pub const fn digest(&self) -> Option<ContentDigest> {
        self.digest
    }
    /// What a registry calls it: its digest, else its tag.
    #[must_use]
    pub fn version(&self) -> String {
        self.digest.map_or_else(|| self.tag.clone().unwrap_or_else(|| USUAL_TAG.to_owned()), |digest| digest.to_string())
    }
    /// The same repository's document of a digest.
    #[must_use]
    pub(crate) fn at(&self, digest: ContentDigest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }
    /// The full name with a tag, by which an engine may keep it; nothing if it has a digest, which only a registry can give it.
    #[must_use]
    pub fn tagged(&self) -> Option<String> {
        let tag = self.tag.as_ref().filter(|_| self.digest.is_none())?;
        Some(format!("{}/{}:{tag}", self.host, self.repository))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= MAX_TAG && tag.bytes().next().is_some_and(word) && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

/// A name or an address, with a port perhaps; of IPv6 in brackets.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let named = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        }),
    };
    named && host.len() <= MAX_NAME && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
}

/// Letters and digits, with `.`, `_`, `__` or any number of `-` between.
fn is_component(component: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = component.bytes().next().is_some_and(plain) && component.bytes().next_back().is_some_and(plain);
    let between = |run: &str| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|b| b == b'-');
    ends && component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(between)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_mean_what_engines_take_them_for() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, endpoint, repository, version, tagged) in [
            ("busybox", "registry-1.docker.io", "library/busybox", "latest", Some("docker.io/library/busybox:latest")),
            ("docker.io/busybox:1", "registry-1.docker.io", "library/busybox", "1", Some("docker.io/library/busybox:1")),
            ("a/b_c--d", "registry-1.docker.io", "a/b_c--d", "latest", Some("docker.io/a/b_c--d:latest")),
            ("Ghcr.example/a/b:V1.2-x", "ghcr.example", "a/b", "V1.2-x", Some("ghcr.example/a/b:V1.2-x")),
            ("127.0.0.1:5000/a", "127.0.0.1:5000", "a", "latest", Some("127.0.0.1:5000/a:latest")),
            ("[2001:db8::1]:5000/a:2", "[2001:db8::1]:5000", "a", "2", Some("[2001:db8::1]:5000/a:2")),
            (&format!("localhost/a:1@{digest}"), "localhost", "a", &digest, None),
        ] {
            let read = Reference::parse(text).unwrap();
            assert_eq!((read.endpoint(), read.repository(), read.version().as_str()), (endpoint, repository, version), "{text}");
            assert_eq!(read.tagged().as_deref(), tagged, "{text}");
            assert_eq!(Reference::parse(&read.to_string()), Ok(read), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(256);
        for text in [
            "",
            "/a",
            "a/",
            "a//b",
            "A/b",
            "a..b",
            "a/../b",
            "a:",
            "a:-x",
            "a b",
            "a?x",
            "é",
            "a@sha256:00",
            "a@",
            "host.:1/a",
            "h.x:0/a",
            "h.x:99999/a",
            "-h.x/a",
            "a/.b",
            "a___b",
            "[::1/a",
            "user@host.x/a",
            &long,
        ] {
            assert!(Reference::parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_read_the_same_again(text in "[a-zA-Z0-9./:@_\\[\\]-]{0,80}") {
            if let Ok(read) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&read.to_string()).unwrap(), read);
            }
        }
    }
}
