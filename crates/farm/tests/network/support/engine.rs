//! The container engine as a bystander sees it: plain requests on its socket, independent of what the product does.

use super::PATIENCE;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

const USUAL_SOCKETS: [&str; 2] = ["/run/pasture/docker.sock", "/var/run/docker.sock"];
/// Label on what a node makes: whose it is.
const OWNER: &str = "pasture.owner";
/// Label on what a node makes: for which lease.
const INSTANCE: &str = "pasture.instance";

/// The engine.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    pub(crate) socket: PathBuf,
}

/// A container of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    /// `<lease>.<generation>`.
    pub(crate) instance: String,
    pub(crate) running: bool,
}

impl Engine {
    /// The engine that tests use.
    pub(crate) fn find() -> Self {
        let named = std::env::var_os("FARM_TEST_ENGINE").map(PathBuf::from);
        let candidates = named.map_or_else(|| USUAL_SOCKETS.iter().map(PathBuf::from).collect(), |socket| vec![socket]);
        let found = candidates.iter().map(|socket| Self { socket: socket.clone() }).find(|e| e.request("GET", "/_ping").is_ok());
        let engine = found.unwrap_or_else(|| {
            panic!("no container engine answers at {candidates:?}: start one with `scripts/engine.sh base`, or name its socket in FARM_TEST_ENGINE")
        });
        let base = engine.request("GET", "/images/pasture/busybox:1/json");
        assert!(base.is_ok(), "the engine has no pasture/busybox:1: make it with `scripts/engine.sh base`");
        engine
    }

    /// Whether it answers at all.
    pub(crate) fn answers(&self) -> bool {
        self.request("GET", "/_ping").is_ok()
    }

    /// Gives another engine an image of this one.
    pub(crate) fn give_image(&self, name: &str, other: &Self) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.write_all(format!("GET /images/{name}/get HTTP/1.0\r\nHost: engine\r\n\r\n").as_bytes()).unwrap();
        let mut answer = vec![];
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("{name}: the answer has no head"));
        other.send("POST", "/images/load?quiet=1", &answer[end + 4..]).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(other.has_image(name), "{name} did not arrive");
    }

    /// One request; the body of a success, else status line and body.
    fn request(&self, method: &str, path: &str) -> Result<String, String> {
        self.send(method, path, &[])
    }

    fn send(&self, method: &str, path: &str, body: &[u8]) -> Result<String, String> {
        self.send_as("application/x-tar", method, path, body)
    }

    fn send_as(&self, what: &str, method: &str, path: &str, body: &[u8]) -> Result<String, String> {
        let mut stream = UnixStream::connect(&self.socket).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Version 1.0: the engine then neither sends chunks nor keeps the connection.
        let length = if body.is_empty() { String::new() } else { format!("Content-Type: {what}\r\nContent-Length: {}\r\n", body.len()) };
        let request = [format!("{method} {path} HTTP/1.0\r\nHost: engine\r\n{length}\r\n").as_bytes(), body].concat();
        let mut answer = vec![];
        stream.write_all(&request).and_then(|()| stream.read_to_end(&mut answer)).map_err(|e| e.to_string())?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.lines().next().unwrap_or_default();
        if status.split(' ').nth(1).is_some_and(|code| code.starts_with('2')) { Ok(body.into()) } else { Err(format!("{status}\n{body}")) }
    }

    fn json(&self, path: &str) -> Value {
        let body = self.request("GET", path).unwrap_or_else(|e| panic!("engine: {path}: {e}"));
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("engine: {path}: {e}\n{body}"))
    }

    fn labelled(path: &str, node: &str) -> String {
        let separator = if path.contains('?') { '&' } else { '?' };
        format!("{path}{separator}filters=%7B%22label%22%3A%5B%22{OWNER}%3D{node}%22%5D%7D")
    }

    /// Containers of a node, in any state.
    pub(crate) fn containers(&self, node: &str) -> Vec<Container> {
        let list = self.json(&Self::labelled("/containers/json?all=1", node));
        let one = |c: &Value| Container {
            id: c["Id"].as_str().unwrap().into(),
            instance: c["Labels"][INSTANCE].as_str().unwrap_or_default().into(),
            running: c["State"] == "running",
        };
        list.as_array().unwrap().iter().map(one).collect()
    }

    /// Everything of a node that the engine still has: containers, networks, volumes.
    pub(crate) fn leftovers(&self, node: &str) -> Vec<String> {
        let names = |list: Value, key: &str| -> Vec<String> {
            list.as_array().map_or_else(Vec::new, |l| l.iter().map(|x| x[key].as_str().unwrap_or_default().to_string()).collect())
        };
        let mut all: Vec<String> = self.containers(node).into_iter().map(|c| c.id).collect();
        all.extend(names(self.json(&Self::labelled("/networks", node)), "Name"));
        all.extend(names(self.json(&Self::labelled("/volumes", node))["Volumes"].take(), "Name"));
        all
    }

    /// Containers whose environment has this word: also those of a build, which bear no label.
    pub(crate) fn marked(&self, word: &str) -> Vec<Value> {
        let list = self.json("/containers/json?all=1");
        let ids = list.as_array().unwrap().iter().filter_map(|c| c["Id"].as_str().map(str::to_string));
        // One may be gone between the two requests.
        let inspected = ids.filter_map(|id| self.request("GET", &format!("/containers/{id}/json")).ok());
        let parsed = inspected.filter_map(|text| serde_json::from_str::<Value>(&text).ok());
        parsed
            .filter(|c| c["Config"]["Env"].as_array().is_some_and(|env| env.iter().any(|e| e.as_str().is_some_and(|e| e.contains(word)))))
            .collect()
    }

    /// Gives the engine an image of this name that says it is for this architecture; it holds one empty file.
    pub(crate) fn load_image(&self, name: &str, architecture: &str) {
        self.load_image_with(name, architecture, &json!({"Cmd": ["/true"]}));
    }
    /// The same with a configuration.
    pub(crate) fn load_image_with(&self, name: &str, architecture: &str, config: &Value) {
        let architecture = match architecture {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let archive = |files: &[(&str, &[u8])]| {
            let mut tar = tar::Builder::new(vec![]);
            for (path, bytes) in files {
                let mut header = tar::Header::new_gnu();
                header.set_size(bytes.len() as u64);
                header.set_mode(0o755);
                tar.append_data(&mut header, path, *bytes).unwrap();
            }
            tar.into_inner().unwrap()
        };
        let layer = archive(&[("true", b"")]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &layer).unwrap();
        let sum = Command::new("sha256sum").arg(file.path()).output().unwrap();
        let diff = format!("sha256:{}", String::from_utf8_lossy(&sum.stdout).split_whitespace().next().unwrap());
        let config =
            json!({"architecture": architecture, "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": [diff]}});
        let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
        let (config, manifest) = (config.to_string(), manifest.to_string());
        let image = archive(&[("layer.tar", &layer), ("config.json", config.as_bytes()), ("manifest.json", manifest.as_bytes())]);
        self.send("POST", "/images/load?quiet=1", &image).unwrap_or_else(|e| panic!("engine: {e}"));
        let known = self.json(&format!("/images/{name}/json"));
        assert_eq!(known["Architecture"], architecture, "{known}");
    }
    pub(crate) fn forget_image(&self, name: &str) {
        let _ = self.request("DELETE", &format!("/images/{name}?force=1"));
    }

    pub(crate) fn inspect(&self, container: &str) -> Value {
        self.json(&format!("/containers/{container}/json"))
    }

    /// Whether it has an image of this name.
    pub(crate) fn has_image(&self, name: &str) -> bool {
        self.request("GET", &format!("/images/{name}/json")).is_ok()
    }

    /// Runs a program in a container of this image, and returns what it wrote once it has ended well.
    pub(crate) fn run(&self, image: &str, program: &[&str]) -> String {
        // With a terminal its output comes as it is, without a head before each piece.
        let config = json!({"Image": image, "Cmd": program, "Tty": true}).to_string();
        let made =
            self.send_as("application/json", "POST", "/containers/create", config.as_bytes()).unwrap_or_else(|e| panic!("engine: {e}"));
        let made: Value = serde_json::from_str(&made).unwrap();
        let path = format!("/containers/{}", made["Id"].as_str().unwrap());
        let asks = |method: &str, rest: &str| {
            self.request(method, &format!("{path}{rest}")).unwrap_or_else(|e| panic!("engine: {method} {rest}: {e}"))
        };
        asks("POST", "/start");
        let ended: Value = serde_json::from_str(&asks("POST", "/wait")).unwrap();
        let wrote = asks("GET", "/logs?stdout=1&stderr=1");
        asks("DELETE", "?force=1&v=1");
        assert_eq!(ended["StatusCode"], 0, "{program:?}: {wrote}");
        wrote
    }

    /// Removes every container; of an engine of the test's own.
    pub(crate) fn clear_all(&self) {
        let list = serde_json::from_str::<Value>(&self.request("GET", "/containers/json?all=1").unwrap_or_default());
        for container in list.ok().iter().flat_map(|v| v.as_array().cloned().unwrap_or_default()) {
            let _ = self.request("DELETE", &format!("/containers/{}?force=1&v=1", container["Id"].as_str().unwrap_or_default()));
        }
    }

    /// Removes what a node has left.
    pub(crate) fn clear(&self, node: &str) {
        for container in self.containers(node) {
            let _ = self.request("DELETE", &format!("/containers/{}?force=1&v=1", container.id));
        }
        let list = |path: &str| serde_json::from_str::<Value>(&self.request("GET", &Self::labelled(path, node)).unwrap_or_default());
        for network in list("/networks").ok().iter().flat_map(|v| v.as_array().cloned().unwrap_or_default()) {
            let _ = self.request("DELETE", &format!("/networks/{}", network["Id"].as_str().unwrap_or_default()));
        }
        for volume in list("/volumes").ok().iter().flat_map(|v| v["Volumes"].as_array().cloned().unwrap_or_default()) {
            let _ = self.request("DELETE", &format!("/volumes/{}", volume["Name"].as_str().unwrap_or_default()));
        }
    }
}
