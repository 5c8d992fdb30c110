//! GPUs of NVIDIA, by the vendor's own tool.
//!
//! Guarantees: a device is known by its UUID, which stays what it is over restarts and is the same inside a container; devices that
//! are cut into parts (MIG) are left out, since a part is not what its model says. What the tool prints is checked.

use super::{GpuError, GpuSource, Inventory};
use async_trait::async_trait;
use pasture_api::data::HeldGpu;
use pasture_runtime::Workload;
use pasture_types::gpu::{Version, model};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

/// Longest that the tool may take. It wakes devices that sleep.
const TOOL_DEADLINE: Duration = Duration::from_secs(15);
/// The tool.
const TOOL: &str = "nvidia-smi";
/// How it answers where it is asked for fields.
pub(crate) const FORM: &str = "--format=csv,noheader,nounits";
/// What it is asked, on the machine and in containers.
const QUERY: [&str; 2] = ["--query-gpu=uuid,name,memory.total,driver_version,mig.mode.current", FORM];
/// Most devices that are believed in.
pub(crate) const MAX_DEVICES: usize = 64;

/// GPUs of this machine.
#[derive(Clone, Copy, Default, Debug)]
pub struct NvidiaGpus;

#[async_trait]
impl GpuSource for NvidiaGpus {
    fn is_simulated(&self) -> bool {
        false
    }

    async fn look(&self) -> Result<Inventory, GpuError> {
        let (devices, driver) = parse(&ask(&QUERY).await?).map_err(GpuError::Output)?;
        // Only in the tool's picture for people; without it nothing is said of CUDA.
        let cuda = cuda_version(&ask(&[]).await?);
        Ok(Inventory { devices, driver, cuda })
    }

    fn attach(&self, gpus: &[HeldGpu], workload: &mut Workload) {
        workload.gpus = gpus.iter().map(|g| g.uuid.clone()).collect();
    }

    fn check_command(&self) -> Vec<String> {
        std::iter::once(TOOL).chain(QUERY).map(str::to_owned).collect()
    }

    fn seen(&self, output: &str) -> Result<Vec<HeldGpu>, String> {
        parse(output).map(|(devices, _)| devices)
    }
}

/// Whether the driver shows; without it the tool is not asked.
pub(crate) fn has_driver() -> bool {
    // In a sandbox often only the second is there.
    ["/proc/driver/nvidia/gpus", "/dev/nvidiactl"].iter().any(|path| Path::new(path).exists())
}

/// What the tool prints.
pub(crate) async fn ask(args: &[&str]) -> Result<String, GpuError> {
    let mut tool = tokio::process::Command::new(TOOL);
    tool.args(args).kill_on_drop(true);
    match tokio::time::timeout(TOOL_DEADLINE, tool.output()).await {
        Ok(Ok(Output { status, stdout, .. })) if status.success() => Ok(String::from_utf8_lossy(&stdout).into_owned()),
        Ok(Ok(Output { status, stderr, .. })) => {
            let said: String = String::from_utf8_lossy(&stderr).chars().filter(|c| !c.is_control()).take(200).collect();
            Err(GpuError::Tool(format!("ended with {status} {said}").trim().to_owned()))
        }
        Ok(Err(error)) => Err(GpuError::Tool(format!("cannot be run ({error})"))),
        Err(_) => Err(GpuError::Tool(format!("does not answer within {} s", TOOL_DEADLINE.as_secs()))),
    }
}

/// The devices in what the tool prints, and their driver's version.
fn parse(text: &str) -> Result<(Vec<HeldGpu>, Option<Version>), String> {
    let (mut devices, mut driver) = (vec![], None);
    for line in text.lines().filter(|l| !l.trim().is_empty()).take(MAX_DEVICES) {
        let shown: String = line.chars().filter(|c| !c.is_control()).take(120).collect();
        let wrong = || format!("`{shown}`");
        let mut fields = line.split(',').map(str::trim);
        let mut field = || fields.next().ok_or_else(wrong);
        let (uuid, name, mib, version, mig) = (field()?, field()?, field()?, field()?, field()?);
        if !is_uuid(uuid) {
            return Err(wrong());
        }
        driver = Version::parse(version).or(driver);
        if mig == "Enabled" {
            tracing::info!(uuid, "a GPU that is cut into parts (MIG) is not offered");
            continue;
        }
        let model = model(name).ok_or_else(wrong)?;
        let mib: u64 = mib.parse().map_err(|_| wrong())?;
        let vram_bytes = mib.checked_mul(1 << 20).ok_or_else(wrong)?;
        devices.push(HeldGpu { uuid: uuid.to_owned(), model, vram_bytes, simulated: false });
    }
    Ok((devices, driver))
}

/// `GPU-` and the usual five groups of hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("GPU-") else { return false };
    let groups: Vec<&str> = rest.split('-').collect();
    let hex = |g: &&str| g.bytes().all(|b| b.is_ascii_hexdigit());
    groups.iter().map(|g| g.len()).eq([8, 4, 4, 4, 12]) && groups.iter().all(hex)
}

fn cuda_version(picture: &str) -> Option<Version> {
    let (_, rest) = picture.split_once("CUDA Version:")?;
    Version::parse(rest.split_whitespace().next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "GPU-3e7a9b1c-0d2f-4a5b-8c6d-7e8f9a0b1c2d";

    #[test]
    fn the_tools_lines_become_devices() {
        let text = format!(
            "{UUID}, NVIDIA H100 80GB HBM3, 81559, 535.104.05, Disabled\nGPU-00000000-0000-0000-0000-000000000001, Tesla T4, 15360, 535.104.05, [N/A]\n"
        );
        let (devices, driver) = parse(&text).unwrap();
        let one = |d: &HeldGpu| (d.model.clone(), d.vram_bytes >> 20, d.simulated);
        assert_eq!(devices.iter().map(one).collect::<Vec<_>>(), [("H100".into(), 81_559, false), ("T4".into(), 15_360, false)]);
        assert_eq!((devices[0].uuid.as_str(), driver), (UUID, Version::parse("535.104")));
        let cut = format!("{UUID}, NVIDIA H100 80GB HBM3, 81559, 535.104.05, Enabled\n");
        assert_eq!(parse(&cut).unwrap().0, [], "a part of a GPU is not its model");
        assert_eq!(parse("").unwrap(), (vec![], None));
        for bad in ["No devices were found", "GPU-1, H100, 1, 1, x", &format!("{UUID}, H100"), &format!("{UUID}, H100, lots, 535, x")] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let many = format!("{UUID}, H100, 1, 535, x\n").repeat(1000);
        assert_eq!(parse(&many).unwrap().0.len(), MAX_DEVICES, "a job may print what it likes");
    }

    #[test]
    fn the_version_of_cuda_is_read_from_the_picture() {
        let picture = "| NVIDIA-SMI 535.104.05   Driver Version: 535.104.05   CUDA Version: 12.2     |\n";
        assert_eq!(cuda_version(picture), Version::parse("12.2"));
        assert_eq!(cuda_version("CUDA Version: N/A"), None);
        assert_eq!(cuda_version(""), None);
    }
}
