//! Images that machines fetch in pieces: from their registry, and from each other when it is gone.

use crate::nat::{Gate, Resident, offer_with};
use crate::support::{Host, Lab, Nat, Running, SMALL, until};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

const PORT: u16 = 5_000;
/// Bytes of the image's larger layer: several pieces.
const NOISE: usize = 5 << 20;

/// A registry on the lab's internet.
struct Registry<'a> {
    host: &'a Host,
    dir: TempDir,
    _running: Running,
}

impl<'a> Registry<'a> {
    fn start(host: &'a Host) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.yml");
        let (root, address) = (dir.path().join("data"), host.address());
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}:{PORT}}}\n",
            root.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = host.command("docker-registry");
        command.arg("serve").arg(&config).env("OTEL_TRACES_EXPORTER", "none");
        let this = Self { host, dir, _running: Running::start(command) };
        until("the registry answers", || this.curl(&["-o", "/dev/null", &this.url("")]).is_some());
        this
    }
    fn url(&self, path: &str) -> String {
        format!("http://{}:{PORT}/v2/{path}", self.host.address())
    }
    /// What curl prints on this host, if it succeeds.
    fn curl(&self, args: &[&str]) -> Option<String> {
        let done = self.host.command("curl").args(["-fsS", "--max-time", "20"]).args(args).stderr(Stdio::null()).output().unwrap();
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
    }
    fn put_blob(&self, file: &Path) -> String {
        let head = self.curl(&["-X", "POST", "-D", "-", "-o", "/dev/null", &self.url("tool/blobs/uploads/")]).unwrap();
        let place =
            head.lines().find_map(|line| line.to_ascii_lowercase().starts_with("location:").then(|| line[9..].trim().to_owned())).unwrap();
        let digest = digest_of(file);
        let joint = if place.contains('?') { '&' } else { '?' };
        let (file, url) = (format!("@{}", file.display()), format!("{place}{joint}digest={digest}"));
        let _ = self.curl(&["-X", "PUT", "-H", "Content-Type: application/octet-stream", "--data-binary", &file, &url]).unwrap();
        digest
    }
    /// An image with the base image's tools and some noise, under `tool:1`; its digest.
    fn put_image(&self) -> String {
        let file = |name: &str, bytes: &[u8]| {
            let path = self.dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let layers = [file("tools.tar", &tools()), file("noise.tar", &noise())];
        let parts: Vec<(String, u64)> =
            layers.iter().map(|layer| (self.put_blob(layer), std::fs::metadata(layer).unwrap().len())).collect();
        let diffs: Vec<String> = parts.iter().map(|(digest, _)| format!("{digest:?}")).collect();
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = format!(
            r#"{{"architecture":"{arch}","os":"linux","config":{{"Cmd":["/bin/sh"]}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            diffs.join(",")
        );
        let config = file("config.json", config.as_bytes());
        let size = std::fs::metadata(&config).unwrap().len();
        let part = |kind: &str, digest: &str, size: u64| {
            format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{size}}}"#)
        };
        let all: Vec<String> = parts.iter().map(|(digest, size)| part("layer.v1.tar", digest, *size)).collect();
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{},"layers":[{}]}}"#,
            part("config.v1+json", &self.put_blob(&config), size),
            all.join(",")
        );
        let manifest = file("manifest.json", manifest.as_bytes());
        let (said, body) = (format!("Content-Type: {kind}"), format!("@{}", manifest.display()));
        let _ = self.curl(&["-X", "PUT", "-H", &said, "--data-binary", &body, &self.url("tool/manifests/1")]).unwrap();
        digest_of(&manifest)
    }
}

fn digest_of(file: &Path) -> String {
    let told = Command::new("sha256sum").arg(file).output().unwrap();
    format!("sha256:{}", String::from_utf8(told.stdout).unwrap().split_whitespace().next().unwrap())
}

fn archive(write: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut tar = tar::Builder::new(vec![]);
    write(&mut tar);
    tar.into_inner().unwrap()
}

fn header(size: usize, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size as u64);
    header.set_mode(mode);
    header
}

fn tools() -> Vec<u8> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| std::fs::read(path).ok()).unwrap();
    archive(|tar| {
        tar.append_data(&mut header(busybox.len(), 0o755), "bin/busybox", busybox.as_slice()).unwrap();
        for name in ["sh", "wc", "echo"] {
            let mut link = header(0, 0o777);
            link.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut link, format!("bin/{name}"), "busybox").unwrap();
        }
    })
}

fn noise() -> Vec<u8> {
    let mut noise = vec![0; NOISE];
    getrandom::fill(&mut noise).unwrap();
    archive(|tar| tar.append_data(&mut header(NOISE, 0o644), "noise", noise.as_slice()).unwrap())
}

/// Offers a machine that knows the registry as its owner's own and says what its name is.
fn machine(resident: &Resident<'_>, ticket: &str, engine: &str, registry: Ipv4Addr, name: &str) -> Running {
    let mut config = std::fs::File::options().create(true).append(true).open(resident.user.home().join("config.toml")).unwrap();
    writeln!(config, "[images]\nregistries = [\"http://{registry}:{PORT}\"]").unwrap();
    offer_with(resident, ticket, engine, &["--label", &format!("box={name}")])
}

#[test]
fn an_image_comes_from_its_registry_and_from_another_machine_once_that_is_gone() {
    let lab = Lab::new("images");
    let gate = Gate::open(&lab);
    let hub = lab.public("hub");
    let (first, second) = (lab.behind_nat("first", Nat::KeepsPorts), lab.behind_nat("second", Nat::KeepsPorts));
    let cafe = lab.behind_nat("cafe", Nat::KeepsPorts);
    let registry = Registry::start(&hub);
    let digest = registry.put_image();
    let ann = Resident::of(&cafe);
    let _ = ann.farm(&["join", &gate.ticket]).exits(0);
    let count = ["--", "sh", "-c", "wc -c </noise"];

    let (one, engine) = (Resident::of(&first), first.engine());
    let _first = machine(&one, &gate.ticket, engine.socket(), hub.address(), "first");
    let named = format!("{}:{PORT}/tool:1", hub.address());
    let done = ann.farm(&[&["run", &named], &SMALL[..], &count[..]].concat()).exits(0);
    assert_eq!(done.stdout.trim(), NOISE.to_string());
    let _ = done.says(&["from its registry"]);

    // Nobody but the first machine has it now.
    drop(registry);
    let (two, engine) = (Resident::of(&second), second.engine());
    let _second = machine(&two, &gate.ticket, engine.socket(), hub.address(), "second");
    let exactly = format!("{}:{PORT}/tool@{digest}", hub.address());
    let mut said = String::new();
    until("the first machine has said what it has", || {
        let done = ann.farm(&[&["run", &exactly, "--label", "box=second"], &SMALL[..], &count[..]].concat());
        said = done.all();
        done.code == 0
    });
    assert!(said.contains("from other machines"), "{said}");
}
