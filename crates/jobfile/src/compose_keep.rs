//! What a service of a compose file keeps and must know: its volumes, secrets and ports.
//!
//! Guarantees: a named volume becomes one of the account's, a secret one of the user's, a port one that `farm port-forward` reaches. Folders
//! of the user's machine are refused: the job runs elsewhere. Each size that the file does not name is told. It reads no file.

use super::compose::{Read, Reader};
use pasture_types::keep::{SecretSpec, VolumeSpec};
use pasture_types::spec::{PortSpec, Scalar};
use serde_norway::Value;

/// Size of a volume of which the file names none: compose knows no sizes.
const USUAL_SIZE: &str = "1Gi";
/// Most ports of one range.
const MAX_RANGE: u16 = 16;

impl Reader<'_> {
    /// `NAME:/path[:ro]`, or the long form.
    pub(crate) fn volumes(&mut self, path: &str, value: &Value) -> Read<Vec<VolumeSpec>> {
        let Value::Sequence(list) = value else { return Err(self.wrong(path, "a list is expected here")) };
        list.iter().map(|item| self.volume(path, item)).collect()
    }

    fn volume(&mut self, path: &str, item: &Value) -> Read<VolumeSpec> {
        let (mut source, mut target, mut read_only) = (String::new(), String::new(), false);
        if item.is_mapping() {
            for (key, value) in self.entries(path, item)? {
                let at = format!("{path}.{key}");
                match key.as_str() {
                    "type" if value.as_str() == Some("volume") => {}
                    "type" => return Err(self.wrong(&at, "only named volumes can be had: put files into the image")),
                    "source" => source = self.text(&at, value)?,
                    "target" => target = self.text(&at, value)?,
                    "read_only" => read_only = self.flag(&at, value)?,
                    "volume" | "consistency" => self.note(&at, "has no effect")?,
                    _ => return Err(self.wrong(&at, "is not known here")),
                }
            }
        } else {
            let text = self.text(path, item)?;
            let mut parts = text.splitn(3, ':');
            (source, target) = (parts.next().unwrap_or_default().to_owned(), parts.next().unwrap_or_default().to_owned());
            for option in parts.next().unwrap_or_default().split(',').filter(|o| !o.is_empty()) {
                match option {
                    "ro" => read_only = true,
                    "rw" => {}
                    _ => self.note(path, &format!("{option} has no effect"))?,
                }
            }
        }
        if source.starts_with(['.', '/', '~']) && !target.is_empty() {
            let why =
                format!("{source} is a folder of this machine, and the job runs elsewhere: put it into the image, or use a named volume");
            return Err(self.wrong(path, &why));
        }
        if target.is_empty() {
            return Err(self.wrong(path, "a volume needs a name, NAME:/path: without one what is written ends with the job anyway"));
        }
        let size = match self.sizes.get(&source) {
            Some(size) => size.clone(),
            None => {
                self.note(path, &format!("{source} has {USUAL_SIZE}; volumes.{source}.x-farm.size says otherwise"))?;
                USUAL_SIZE.to_owned()
            }
        };
        Ok(VolumeSpec { name: source, path: target, size: (!read_only).then_some(Scalar::Text(size)), read_only })
    }

    /// `volumes` of the whole file: of each only its size.
    pub(crate) fn sizes(&mut self, value: &Value) -> Read<()> {
        for (name, volume) in self.entries("volumes", value)? {
            if volume.is_null() {
                continue;
            }
            let base = format!("volumes.{name}");
            for (key, value) in self.entries(&base, volume)? {
                let at = format!("{base}.{key}");
                match key.as_str() {
                    "x-farm" => {
                        for (key, value) in self.entries(&at, value)? {
                            let "size" = key.as_str() else { return Err(self.wrong(&format!("{at}.{key}"), "only `size` is known")) };
                            let size = self.scalar(&at, value)?;
                            self.sizes.insert(name.clone(), size);
                        }
                    }
                    key if key.starts_with("x-") => {}
                    "external" | "name" | "labels" => self.note(&at, "has no effect: a volume is yours by its name here")?,
                    _ => return Err(self.wrong(&at, "cannot be taken over: volumes lie on the job's machine")),
                }
            }
        }
        Ok(())
    }

    /// Names of secrets, or the long form: files in `/run/secrets`, as compose has them.
    pub(crate) fn secrets(&mut self, path: &str, value: &Value) -> Read<Vec<SecretSpec>> {
        let Value::Sequence(list) = value else { return Err(self.wrong(path, "a list is expected here")) };
        let mut out = vec![];
        for item in list {
            let mut spec = SecretSpec::default();
            if item.is_mapping() {
                for (key, value) in self.entries(path, item)? {
                    let at = format!("{path}.{key}");
                    match key.as_str() {
                        "source" => spec.name = self.text(&at, value)?,
                        "target" => {
                            let target = self.text(&at, value)?;
                            spec.file = Some(if target.starts_with('/') { target } else { format!("/run/secrets/{target}") });
                        }
                        "uid" | "gid" | "mode" => self.note(&at, "has no effect: every user in the job can read it")?,
                        _ => return Err(self.wrong(&at, "is not known here")),
                    }
                }
            } else {
                spec.name = self.text(path, item)?;
            }
            self.note(path, &format!("{0} is your own secret of that name:  farm secret set {0}", spec.name))?;
            out.push(spec);
        }
        Ok(out)
    }

    /// Ports: the user's way in is `farm port-forward`; none is open to others.
    pub(crate) fn ports(&mut self, path: &str, value: &Value) -> Read<Vec<PortSpec>> {
        let Value::Sequence(list) = value else { return Err(self.wrong(path, "a list is expected here")) };
        let mut out = vec![];
        for item in list {
            let shown = match item {
                Value::Mapping(map) => map.get("target").map(|t| self.scalar(path, t)).transpose()?.unwrap_or_default(),
                other => self.scalar(path, other)?,
            };
            let inside = shown.rsplit(':').next().unwrap_or_default();
            let (inside, protocol) = inside.split_once('/').unwrap_or((inside, "tcp"));
            if protocol != "tcp" {
                self.note(path, &format!("{shown} has no effect: only TCP is reached"))?;
                continue;
            }
            let (first, last) = inside.split_once('-').unwrap_or((inside, inside));
            let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
            let (Some(first), Some(last)) = (number(first), number(last)) else {
                return Err(self.wrong(path, &format!("{} is no port", shown.escape_debug())));
            };
            if last < first || last - first >= MAX_RANGE {
                return Err(self.wrong(path, &format!("a range has at most {MAX_RANGE} ports")));
            }
            self.note(path, &format!("{shown} is open to you alone:  farm port-forward"))?;
            out.extend((first..=last).map(PortSpec::Number));
        }
        out.dedup();
        Ok(out)
    }
}
