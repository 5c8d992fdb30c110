//! The library of NVIDIA's driver (NVML), asked what GPUs there are and what they are doing.
//!
//! Guarantees: nothing links to it, it is loaded for each question and closed after it, so that an updated driver is met by its own
//! library. Who asks has an answer within a deadline, and no thread of the async runtime waits for it. A driver that hangs costs one
//! thread however often it is asked, and those who ask meanwhile are told at once. What the library says is checked and bounded.
//! It changes nothing on a device and sees nothing inside containers.

use super::nvidia::{MAX_DEVICES, device, is_uuid};
use super::{GpuError, Inventory};
use crate::monitor::{GpuLoad, Used};
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use pasture_rt::{TaskKind, spawn_blocking};
use pasture_types::gpu::Version;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// Longest that an answer may take. Asking wakes devices that sleep.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);
/// Most characters that are repeated of what the library says.
const MAX_SAID: usize = 200;
/// What a device says of its parts (MIG) where it has them.
const CUT: u32 = 1;

/// The library, and whose turn it is with it.
#[derive(Debug)]
pub(crate) struct Library {
    /// Where it is; `None`: where the system has it.
    path: Option<PathBuf>,
    within: Duration,
    turn: Arc<Semaphore>,
    /// Since when a question is with it.
    asked: Arc<Mutex<Option<Instant>>>,
}

impl Library {
    pub(crate) fn new(path: Option<PathBuf>, within: Duration) -> Self {
        Self { path, within, turn: Arc::new(Semaphore::new(1)), asked: Arc::default() }
    }

    /// The system's. All of this process share it, and so its turns.
    pub(crate) fn of_this_machine() -> Arc<Self> {
        static HERE: LazyLock<Arc<Library>> = LazyLock::new(|| Arc::new(Library::new(None, ANSWERS_WITHIN)));
        Arc::clone(&HERE)
    }

    /// Which devices there are.
    pub(crate) async fn inventory(&self) -> Result<Inventory, GpuError> {
        self.ask(inventory).await
    }

    /// What they are doing.
    pub(crate) async fn load(&self) -> Result<Vec<GpuLoad>, GpuError> {
        self.ask(load).await
    }

    async fn ask<T: Send + 'static>(&self, question: fn(&Nvml) -> Result<T, GpuError>) -> Result<T, GpuError> {
        let hangs = self.asked.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|since| since.elapsed() >= self.within);
        if hangs {
            return Err(GpuError::Silent(self.within));
        }
        let answer = async {
            let turn = Arc::clone(&self.turn).acquire_owned().await.ok()?;
            let (path, asked) = (self.path.clone(), Arc::clone(&self.asked));
            // A call into the driver cannot be taken back: the thread keeps the turn until it returns.
            let work = move || {
                let _turn = Turn::begin(turn, asked);
                question(&open(path)?)
            };
            spawn_blocking(TaskKind::Files, work).join().await
        };
        match timeout(self.within, answer).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(failed("to answer", &NvmlError::Unknown)),
            Err(_) => Err(GpuError::Silent(self.within)),
        }
    }
}

/// A question that is with the library; over when dropped.
struct Turn {
    _permit: OwnedSemaphorePermit,
    asked: Arc<Mutex<Option<Instant>>>,
}

impl Turn {
    fn begin(permit: OwnedSemaphorePermit, asked: Arc<Mutex<Option<Instant>>>) -> Self {
        *asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Self { _permit: permit, asked }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn open(path: Option<PathBuf>) -> Result<Nvml, GpuError> {
    let opened = match &path {
        Some(path) => Nvml::builder().lib_path(path.as_os_str()).init(),
        None => Nvml::init(),
    };
    opened.map_err(|error| match error {
        NvmlError::LibloadingError(why) => GpuError::NoDriver(plain(&why.to_string())),
        NvmlError::DriverNotLoaded => GpuError::NoDriver(plain(&error.to_string())),
        error => failed("to begin", &error),
    })
}

/// What it would not do, why, and what to do then.
fn failed(what: &str, error: &NvmlError) -> GpuError {
    let next = match error {
        NvmlError::LibRmVersionMismatch => "the driver was updated while the old one runs: restart the machine",
        NvmlError::NoPermission | NvmlError::OperatingSystem => "let this user open /dev/nvidia*",
        NvmlError::GpuLost | NvmlError::ResetRequired | NvmlError::IrqIssue => {
            "restart the machine; dmesg says what happened to the device"
        }
        NvmlError::InsufficientPower => "look at the power cables of the device",
        NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => "update the driver: 510 is the oldest that will do",
        _ => "see whether nvidia-smi and dmesg say more",
    };
    GpuError::Driver { what: what.to_owned(), why: plain(&error.to_string()), next }
}

fn plain(said: &str) -> String {
    said.chars().filter(|c| !c.is_control()).take(MAX_SAID).collect()
}

/// How many devices are looked at.
fn count(nvml: &Nvml) -> Result<u32, GpuError> {
    let count = nvml.device_count().map_err(|e| failed("to count devices", &e))?;
    Ok(count.min(u32::try_from(MAX_DEVICES).unwrap_or(u32::MAX)))
}

fn inventory(nvml: &Nvml) -> Result<Inventory, GpuError> {
    let mut devices = vec![];
    for index in 0..count(nvml)? {
        let says = |what: &'static str| move |e: NvmlError| failed(&format!("to say {what} of device {index}"), &e);
        let found = nvml.device_by_index(index).map_err(|e| failed(&format!("to open device {index}"), &e))?;
        let uuid = found.uuid().map_err(says("the id"))?;
        if is_cut(&found).map_err(says("the MIG mode"))? {
            tracing::info!(uuid = plain(&uuid), "a GPU that is cut into parts (MIG) is not offered");
            continue;
        }
        let name = found.name().map_err(says("the name"))?;
        let memory = found.memory_info().map_err(says("the memory"))?;
        // In whole MiB, as the tool counts that looks from inside a container: an odd rest would be missed there.
        devices.push(device(&uuid, &name, memory.total >> 20).map_err(GpuError::Output)?);
    }
    // Without versions nothing is said of them; the devices are there all the same.
    let driver = nvml.sys_driver_version().ok().and_then(|v| Version::parse(&v));
    let cuda = nvml.sys_cuda_driver_version().ok().and_then(cuda_version);
    Ok(Inventory { devices, driver, cuda })
}

/// Devices that cannot be cut say that they do not know the question, and old drivers do not know it either.
fn is_cut(device: &Device<'_>) -> Result<bool, NvmlError> {
    match device.mig_mode() {
        Ok(mode) => Ok(mode.current == CUT),
        Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// `12020` as 12.2.
fn cuda_version(number: i32) -> Option<Version> {
    let number = u32::try_from(number).ok().filter(|n| *n > 0)?;
    Some(Version(u16::try_from(number / 1000).ok()?, u16::try_from(number % 1000 / 10).ok()?))
}

fn load(nvml: &Nvml) -> Result<Vec<GpuLoad>, GpuError> {
    // A device that is lost does not hide the others.
    let devices = (0..count(nvml)?).filter_map(|index| nvml.device_by_index(index).ok());
    Ok(devices.filter_map(|device| figures(&device)).collect())
}

/// What one device tells; `None` if not even who it is.
fn figures(device: &Device<'_>) -> Option<GpuLoad> {
    let uuid = device.uuid().ok().filter(|id| is_uuid(id))?;
    let memory = device.memory_info().ok().filter(|m| m.total > 0);
    Some(GpuLoad {
        uuid,
        name: plain(&device.name().ok()?),
        busy_percent: device.utilization_rates().ok().map(|u| u.gpu).filter(|percent| *percent <= 100),
        memory: memory.map(|m| Used { used: m.used.min(m.total), total: m.total }),
        celsius: device.temperature(TemperatureSensor::Gpu).ok(),
        watts: device.power_usage().ok().map(|milliwatts| milliwatts.saturating_add(500) / 1000),
    })
}
