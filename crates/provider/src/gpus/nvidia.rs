//! GPUs of NVIDIA: on the machine by the driver's library, inside containers by the vendor's tool.
//!
//! Guarantees: a device is known by its UUID, which stays what it is over restarts and is the same inside a container; devices that
//! are cut into parts (MIG) are left out, since a part is not what its model says. What library and tool say is checked, and by the
//! same rules, so that both mean the same device by the same words.

use super::nvml::Library;
use super::{GpuError, GpuSource, Inventory};
use async_trait::async_trait;
use pasture_api::data::HeldGpu;
use pasture_runtime::Workload;
use pasture_types::gpu::model;
use std::sync::Arc;

/// What a job's container is asked: the vendor's runtime puts this tool there.
const CHECK: [&str; 3] = ["nvidia-smi", "--query-gpu=uuid,name,memory.total,mig.mode.current", "--format=csv,noheader,nounits"];
/// Most devices that are believed in.
pub(crate) const MAX_DEVICES: usize = 64;
/// Most characters that are repeated of what was said of a device.
const MAX_SHOWN: usize = 120;

/// GPUs of this machine.
#[derive(Clone, Debug)]
pub struct NvidiaGpus {
    library: Arc<Library>,
}

impl NvidiaGpus {
    /// Those that this library knows.
    pub(super) fn of(library: Arc<Library>) -> Self {
        Self { library }
    }
}

impl Default for NvidiaGpus {
    fn default() -> Self {
        Self::of(Library::of_this_machine())
    }
}

#[async_trait]
impl GpuSource for NvidiaGpus {
    fn is_simulated(&self) -> bool {
        false
    }

    async fn look(&self) -> Result<Inventory, GpuError> {
        self.library.inventory().await
    }

    fn attach(&self, gpus: &[HeldGpu], workload: &mut Workload) {
        workload.gpus = gpus.iter().map(|g| g.uuid.clone()).collect();
    }

    fn check_command(&self) -> Vec<String> {
        CHECK.map(str::to_owned).to_vec()
    }

    fn seen(&self, output: &str) -> Result<Vec<HeldGpu>, String> {
        parse(output)
    }
}

/// The devices in what the tool prints.
fn parse(text: &str) -> Result<Vec<HeldGpu>, String> {
    let mut devices = vec![];
    for line in text.lines().filter(|l| !l.trim().is_empty()).take(MAX_DEVICES) {
        let wrong = || shown(line);
        let mut fields = line.split(',').map(str::trim);
        let mut field = || fields.next().ok_or_else(wrong);
        let (uuid, name, mib, mig) = (field()?, field()?, field()?, field()?);
        if !is_uuid(uuid) {
            return Err(wrong());
        }
        if mig != "Enabled" {
            devices.push(device(uuid, name, mib.parse().map_err(|_| wrong())?)?);
        }
    }
    Ok(devices)
}

/// A device, if it can be one; else what was said of it.
pub(super) fn device(uuid: &str, name: &str, mib: u64) -> Result<HeldGpu, String> {
    let wrong = || shown(&format!("{uuid}, {name}, {mib}"));
    if !is_uuid(uuid) || mib == 0 {
        return Err(wrong());
    }
    let model = model(name).ok_or_else(wrong)?;
    let vram_bytes = mib.checked_mul(1 << 20).ok_or_else(wrong)?;
    Ok(HeldGpu { uuid: uuid.to_owned(), model, vram_bytes, simulated: false })
}

fn shown(said: &str) -> String {
    let plain: String = said.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect();
    format!("`{plain}`")
}

/// `GPU-` and the usual five groups of hexadecimal digits.
pub(super) fn is_uuid(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("GPU-") else { return false };
    let groups: Vec<&str> = rest.split('-').collect();
    let hex = |g: &&str| g.bytes().all(|b| b.is_ascii_hexdigit());
    groups.iter().map(|g| g.len()).eq([8, 4, 4, 4, 12]) && groups.iter().all(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "GPU-3e7a9b1c-0d2f-4a5b-8c6d-7e8f9a0b1c2d";

    #[test]
    fn the_tools_lines_become_devices() {
        let text =
            format!("{UUID}, NVIDIA H100 80GB HBM3, 81559, Disabled\nGPU-00000000-0000-0000-0000-000000000001, Tesla T4, 15360, [N/A]\n");
        let devices = parse(&text).unwrap();
        let one = |d: &HeldGpu| (d.model.clone(), d.vram_bytes >> 20, d.simulated);
        assert_eq!(devices.iter().map(one).collect::<Vec<_>>(), [("H100".into(), 81_559, false), ("T4".into(), 15_360, false)]);
        assert_eq!(devices[0].uuid, UUID);
        let cut = format!("{UUID}, NVIDIA H100 80GB HBM3, 81559, Enabled\n");
        assert_eq!(parse(&cut).unwrap(), [], "a part of a GPU is not its model");
        assert_eq!(parse("").unwrap(), []);
        let of = |rest: &str| format!("{UUID}, {rest}");
        for bad in
            ["No devices were found", "GPU-1, H100, 1, x", &of("H100"), &of("H100, lots, x"), &of("H100, 0, x"), &of("H\u{1b}100, 1, x")]
        {
            let why = parse(bad).unwrap_err();
            assert!(!why.contains(char::is_control), "{why}");
        }
        let long = parse(&of(&"H".repeat(1000))).unwrap_err();
        assert_eq!(long.chars().count(), MAX_SHOWN + 2);
        let many = of("H100, 1, x\n").repeat(1000);
        assert_eq!(parse(&many).unwrap().len(), MAX_DEVICES, "a job may print what it likes");
    }
}
