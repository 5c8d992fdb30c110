//! Simulated GPUs, for `farm dev` and tests: a small file for each, that says what a real one would say.
//!
//! Guarantees: what a container gets can be seen from inside it and is read from there by the check, as with real devices; ids
//! begin with `SIM-`, are the same after a restart, and every listing calls them simulated. They compute nothing.

use super::{GpuError, GpuSource, Inventory};
use async_trait::async_trait;
use pasture_api::data::HeldGpu;
use pasture_runtime::{HostFile, Workload};
use pasture_types::gpu::{MAX_GPU_COUNT, Version, model};
use pasture_types::resources::parse_bytes;
use std::path::PathBuf;

/// Where a job finds them.
const PLACE: &str = "/farm/gpus";
/// What real containers are told by the vendor's runtime.
const VISIBLE: &str = "NVIDIA_VISIBLE_DEVICES";
/// The driver that they claim to have.
const DRIVER: Version = Version(550, 0);
/// The CUDA version that it claims to run.
const CUDA: Version = Version(12, 4);

/// Some simulated GPUs of one kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SimulatedGpu {
    /// Model as in an offer.
    pub model: String,
    /// How many.
    pub count: u16,
    /// Memory of each in bytes.
    pub vram_bytes: u64,
    /// The memory that containers see instead, to try out what becomes of a machine that lies.
    pub shows_bytes: u64,
}

impl std::str::FromStr for SimulatedGpu {
    type Err = String;
    /// Reads `MODEL:COUNT:MEMORY`, with `,shows=MEMORY` after it.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no simulated GPU: write for example H100:2:80Gi");
        let (device, shows) = match text.split_once(",shows=") {
            Some((device, shows)) => (device, Some(shows)),
            None => (text, None),
        };
        let [name, count, vram] = device.split(':').collect::<Vec<_>>().try_into().map_err(|_| wrong())?;
        let count: u16 = count.parse().map_err(|_| wrong())?;
        if count == 0 || count > MAX_GPU_COUNT {
            return Err(format!("{count} is out of range: 1 to {MAX_GPU_COUNT}"));
        }
        let size = |text: &str| parse_bytes(text).map_err(|e| e.to_string());
        let vram_bytes = size(vram)?;
        let shows_bytes = shows.map_or(Ok(vram_bytes), size)?;
        Ok(Self { model: model(name).ok_or_else(wrong)?, count, vram_bytes, shows_bytes })
    }
}

/// Simulated GPUs of one machine.
#[derive(Clone, Debug)]
pub struct SimulatedGpus {
    dir: PathBuf,
    kinds: Vec<SimulatedGpu>,
}

impl SimulatedGpus {
    /// Those of a machine whose files are in `dir`, an absolute path: containers get them from there.
    #[must_use]
    pub const fn new(dir: PathBuf, kinds: Vec<SimulatedGpu>) -> Self {
        Self { dir, kinds }
    }

    /// The same id at every start, another one on another machine.
    fn uuid(&self, kind: &SimulatedGpu, number: usize) -> String {
        let seed = format!("{}/{}/{}/{number}", self.dir.display(), kind.model, kind.vram_bytes);
        let hex = blake3::hash(seed.as_bytes()).to_hex();
        let hex = hex.as_str();
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        format!("SIM-{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
    }
}

#[async_trait]
impl GpuSource for SimulatedGpus {
    fn is_simulated(&self) -> bool {
        true
    }

    async fn look(&self) -> Result<Inventory, GpuError> {
        let io = |path: &PathBuf| {
            let path = path.clone();
            move |source| GpuError::Io { path, source }
        };
        tokio::fs::create_dir_all(&self.dir).await.map_err(io(&self.dir))?;
        let mut devices = vec![];
        for kind in &self.kinds {
            for _ in 0..kind.count {
                let device = HeldGpu {
                    uuid: self.uuid(kind, devices.len()),
                    model: kind.model.clone(),
                    vram_bytes: kind.vram_bytes,
                    simulated: true,
                };
                let path = self.dir.join(&device.uuid);
                let says = text(&HeldGpu { vram_bytes: kind.shows_bytes, ..device.clone() });
                tokio::fs::write(&path, says).await.map_err(io(&path))?;
                devices.push(device);
            }
        }
        Ok(Inventory { devices, driver: Some(DRIVER), cuda: Some(CUDA) })
    }

    fn attach(&self, gpus: &[HeldGpu], workload: &mut Workload) {
        let file = |g: &HeldGpu| HostFile { source: self.dir.join(&g.uuid), path: format!("{PLACE}/{}", g.uuid) };
        workload.files.extend(gpus.iter().map(file));
        let ids: Vec<&str> = gpus.iter().map(|g| g.uuid.as_str()).collect();
        workload.env.insert(VISIBLE.into(), ids.join(","));
    }

    fn check_command(&self) -> Vec<String> {
        ["sh", "-c", &format!("cat {PLACE}/*")].map(str::to_owned).to_vec()
    }

    fn seen(&self, output: &str) -> Result<Vec<HeldGpu>, String> {
        let mut devices: Vec<HeldGpu> = vec![];
        for line in output.lines().take(usize::from(MAX_GPU_COUNT) * 4) {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            match (name, devices.last_mut()) {
                ("uuid", _) => devices.push(HeldGpu { uuid: value.into(), model: String::new(), vram_bytes: 0, simulated: true }),
                ("model", Some(device)) => device.model = value.into(),
                ("vram_bytes", Some(device)) => device.vram_bytes = value.parse().map_err(|_| "its memory is no number".to_owned())?,
                ("simulated", Some(_)) => {}
                _ => return Err("no device says that".into()),
            }
        }
        Ok(devices)
    }
}

/// What a device says of itself.
fn text(gpu: &HeldGpu) -> String {
    format!("uuid={}\nmodel={}\nvram_bytes={}\nsimulated=yes\n", gpu.uuid, gpu.model, gpu.vram_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn kinds_are_read_as_written() {
        let kind = |text: &str| text.parse::<SimulatedGpu>();
        let two = SimulatedGpu { model: "H100".into(), count: 2, vram_bytes: 80 << 30, shows_bytes: 80 << 30 };
        assert_eq!(kind("h100:2:80Gi"), Ok(two.clone()));
        assert_eq!(kind("H100:2:80Gi,shows=40Gi"), Ok(SimulatedGpu { shows_bytes: 40 << 30, ..two }));
        for bad in ["", "H100", "H100:2", "H100:0:80Gi", "H100:65:80Gi", "H100:2:much", "1:1:1Gi", "H100:1:1Gi,shows=x", "H100:1:1Gi:2"] {
            assert!(kind(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn devices_stay_the_same_and_say_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let of = |path: &Path| SimulatedGpus::new(path.into(), vec!["H100:2:80Gi".parse().unwrap(), "T4:1:16Gi".parse().unwrap()]);
        let source = of(dir.path());
        let first = source.look().await.unwrap();
        assert_eq!(first, of(dir.path()).look().await.unwrap());
        let elsewhere = tempfile::tempdir().unwrap();
        assert_ne!(first.devices, of(elsewhere.path()).look().await.unwrap().devices);
        assert!(first.devices.iter().all(|d| d.uuid.starts_with("SIM-") && d.uuid.len() == 40 && d.simulated));
        let texts = first.devices.iter().map(|d| std::fs::read_to_string(dir.path().join(&d.uuid)).unwrap());
        assert_eq!(source.seen(&texts.collect::<String>()).unwrap(), first.devices);
        for bad in ["rubbish", "model=H100\n", "uuid=SIM-1\nvram_bytes=lots\n"] {
            assert!(source.seen(bad).is_err(), "{bad}");
        }
    }
}
