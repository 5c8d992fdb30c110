//! Adapters as Vulkan lists them, and one of them opened: buffers, pipelines, and what went wrong with it.
//!
//! Guarantees: nothing links to a driver; the loader is looked for when an adapter is asked for. An error of the driver never panics: it is kept, and the
//! next wait returns it. What an adapter says of itself is text of a driver: bounded, without control characters.

use crate::error::{GpuError, plain};
use crate::product::Kernels;
use futures::executor::block_on;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use wgpu::util::DeviceExt as _;

/// Longest wait for one piece of work: a hundred times what a piece is meant to take, for adapters of software on a loaded machine.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// Least that a buffer must hold: Vulkan promises as much to everybody.
const LEAST_BINDING: u64 = 128 << 20;
/// Invocations that a workgroup of the product has.
const INVOCATIONS: u32 = 256;

/// What an adapter is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A card with memory of its own.
    Discrete,
    /// A part of the processor, which shares its memory.
    Integrated,
    /// A part of a card, given to a virtual machine.
    Virtual,
    /// A program on the processor that behaves like a card: for tests and development, never capacity.
    Software,
    /// Its driver does not say.
    Other,
}

impl Kind {
    /// As it is shown.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Software => "software",
            Self::Other => "other",
        }
    }
}

/// An adapter that could be opened.
#[derive(Clone, Debug)]
pub struct Adapter {
    inner: wgpu::Adapter,
    name: String,
    kind: Kind,
    bus: Option<String>,
    driver: String,
}

/// All adapters, as Vulkan orders them.
///
/// # Errors
/// Vulkan does not start, or knows no adapter.
pub fn adapters() -> Result<Vec<Adapter>, GpuError> {
    let wanted = wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN,
        flags: wgpu::InstanceFlags::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    };
    let instance = wgpu::Instance::new(wanted);
    let found: Vec<Adapter> = block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN)).into_iter().map(Adapter::new).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    // Only the error of a request tells whether Vulkan started.
    match block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default())) {
        Err(wgpu::RequestAdapterError::NotFound { active_backends, .. }) if active_backends.is_empty() => Err(GpuError::NoVulkan),
        _ => Err(GpuError::NoAdapter),
    }
}

impl Adapter {
    fn new(inner: wgpu::Adapter) -> Self {
        let info = inner.get_info();
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => Kind::Discrete,
            wgpu::DeviceType::IntegratedGpu => Kind::Integrated,
            wgpu::DeviceType::VirtualGpu => Kind::Virtual,
            wgpu::DeviceType::Cpu => Kind::Software,
            wgpu::DeviceType::Other => Kind::Other,
        };
        let driver = plain(&format!("{} {}", info.driver, info.driver_info));
        Self { name: plain(&info.name), kind, bus: bus(&info.device_pci_bus_id), driver, inner }
    }

    /// Its name, as its driver gives it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }
    /// Its driver and the driver's version.
    #[must_use]
    pub fn driver(&self) -> &str {
        &self.driver
    }
    /// Where it sits on the PCI bus (`domain:bus:device.function`, as in `0000:01:00.0`), if its driver says.
    #[must_use]
    pub fn bus(&self) -> Option<&str> {
        self.bus.as_deref()
    }
    /// Most bytes of one buffer that a shader can use.
    #[must_use]
    pub fn max_buffer_bytes(&self) -> u64 {
        let limits = self.inner.limits();
        limits.max_storage_buffer_binding_size.min(limits.max_buffer_size)
    }

    /// Whether it sits where another library says a device is (NVML writes `00000000:01:00.0`). `None`: one of the two does not say, and
    /// nothing else tells two cards of one model apart.
    #[must_use]
    pub fn is_at(&self, address: &str) -> Option<bool> {
        Some(*self.bus.as_ref()? == bus(address)?)
    }

    /// Opens it.
    ///
    /// # Errors
    /// The driver refuses, or it can do too little.
    pub fn open(&self) -> Result<Device, GpuError> {
        let too_small = |what| GpuError::TooSmall { adapter: self.name.clone(), what };
        let limits = self.inner.limits();
        if self.max_buffer_bytes() < LEAST_BINDING {
            return Err(too_small("buffers of less than 128 MiB"));
        }
        if limits.max_compute_invocations_per_workgroup < INVOCATIONS || limits.max_compute_workgroup_size_x < INVOCATIONS {
            return Err(too_small("workgroups of less than 256 invocations"));
        }
        let wanted = wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() };
        let failed = |e: wgpu::RequestDeviceError| GpuError::Open { adapter: self.name.clone(), why: plain(&e.to_string()) };
        let (inner, queue) = block_on(self.inner.request_device(&wanted)).map_err(failed)?;
        let trouble = Arc::new(Mutex::new(None));
        let first = Arc::clone(&trouble);
        inner.on_uncaptured_error(Arc::new(move |error| keep(&first, GpuError::of(&error), false)));
        let lost = Arc::clone(&trouble);
        inner.set_device_lost_callback(move |reason, why| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                keep(&lost, GpuError::Lost(plain(&why)), true);
            }
        });
        Ok(Device { adapter: self.clone(), inner, queue, trouble, product: Arc::default(), shares: Arc::default() })
    }
}

/// A PCI address with a domain of four digits, in small letters.
fn bus(address: &str) -> Option<String> {
    let address = address.trim().to_ascii_lowercase();
    let mut parts = address.split([':', '.']);
    let [domain, bus, device, function] =
        [parts.next()?, parts.next()?, parts.next()?, parts.next()?].map(|p| u32::from_str_radix(p, 16).ok());
    let sound = parts.next().is_none();
    sound.then_some(())?;
    Some(format!("{:04x}:{:02x}:{:02x}.{:x}", domain?, bus?, device?, function?))
}

/// The first trouble is the cause, later ones follow from it; but that a card is lost explains all others.
fn keep(trouble: &Mutex<Option<GpuError>>, error: GpuError, weighs_more: bool) {
    let mut kept = trouble.lock().unwrap_or_else(PoisonError::into_inner);
    if weighs_more || kept.is_none() {
        *kept = Some(error);
    }
}

/// An opened adapter. Clones are the same device.
#[derive(Clone, Debug)]
pub struct Device {
    adapter: Adapter,
    inner: wgpu::Device,
    queue: wgpu::Queue,
    trouble: Arc<Mutex<Option<GpuError>>>,
    /// Shaders that were compiled, since that takes longer than a small proof.
    product: Arc<OnceLock<Kernels>>,
    shares: Arc<OnceLock<Kernel>>,
}

/// A shader, ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Kernel(wgpu::ComputePipeline);

/// What one run of a shader is asked: a key and eight words.
pub(crate) type Ask = [u32; 8];

impl Device {
    /// Which adapter it is.
    #[must_use]
    pub const fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// What went wrong since it was opened.
    ///
    /// # Errors
    /// That.
    pub(crate) fn check(&self) -> Result<(), GpuError> {
        match &*self.trouble.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// The product's shaders.
    pub(crate) fn product_kernels(&self) -> &Kernels {
        self.product.get_or_init(|| Kernels::new(self))
    }

    /// The search's shader.
    pub(crate) fn shares_kernel(&self) -> &Kernel {
        self.shares.get_or_init(|| crate::shares::kernel(self))
    }

    pub(crate) fn kernel(&self, name: &str, source: &str) -> Kernel {
        let shader = wgpu::ShaderModuleDescriptor { label: Some(name), source: wgpu::ShaderSource::Wgsl(source.into()) };
        let module = self.inner.create_shader_module(shader);
        Kernel(self.inner.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(name),
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions { zero_initialize_workgroup_memory: false, ..Default::default() },
            cache: None,
        }))
    }

    /// A buffer of the card, which begins as zeros.
    pub(crate) fn buffer(&self, bytes: u64) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        self.inner.create_buffer(&wgpu::BufferDescriptor { label: None, size: bytes.max(16), usage, mapped_at_creation: false })
    }

    pub(crate) fn write(&self, buffer: &wgpu::Buffer, words: &[u32]) {
        self.queue.write_buffer(buffer, 0, &bytes(words));
    }

    pub(crate) fn write_at(&self, buffer: &wgpu::Buffer, offset: u64, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.queue.write_buffer(buffer, offset, &bytes);
    }

    /// Most storage buffers of one shader.
    pub(crate) fn most_bindings(&self) -> usize {
        let limits = self.inner.limits();
        limits.max_storage_buffers_per_shader_stage.min(limits.max_bindings_per_bind_group) as usize
    }

    pub(crate) fn encoder(&self) -> wgpu::CommandEncoder {
        self.inner.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    /// Adds a run of a shader: `key` and `ask` at binding 0, `buffers` behind.
    pub(crate) fn run(
        &self,
        to: &mut wgpu::CommandEncoder,
        kernel: &Kernel,
        key: &[u32; 8],
        ask: Ask,
        buffers: &[&wgpu::Buffer],
        groups: [u32; 2],
    ) {
        let words = [*key, ask].concat();
        let asked = wgpu::util::BufferInitDescriptor { label: None, contents: &bytes(&words), usage: wgpu::BufferUsages::UNIFORM };
        let asked = self.inner.create_buffer_init(&asked);
        let all = std::iter::once(&asked).chain(buffers.iter().copied());
        let entries: Vec<_> =
            (0..).zip(all).map(|(binding, b)| wgpu::BindGroupEntry { binding, resource: b.as_entire_binding() }).collect();
        let layout = kernel.0.get_bind_group_layout(0);
        let group = self.inner.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries });
        let mut pass = to.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&kernel.0);
        pass.set_bind_group(0, &group, &[]);
        let [x, y] = groups;
        pass.dispatch_workgroups(x, y, 1);
    }

    pub(crate) fn submit(&self, work: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        self.queue.submit([work.finish()])
    }

    /// Waits until work is done.
    pub(crate) fn wait(&self, work: wgpu::SubmissionIndex) -> Result<(), GpuError> {
        let waited = self.inner.poll(wgpu::PollType::Wait { submission_index: Some(work), timeout: Some(ANSWERS_WITHIN) });
        self.check()?;
        match waited {
            Err(wgpu::PollError::Timeout) => Err(GpuError::Silent(ANSWERS_WITHIN)),
            Err(other) => Err(GpuError::Refused(plain(&other.to_string()))),
            Ok(_) => Ok(()),
        }
    }

    /// The first bytes of a buffer, once all work submitted before is done.
    pub(crate) fn read(&self, buffer: &wgpu::Buffer, bytes: u64) -> Result<Vec<u8>, GpuError> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let back = self.inner.create_buffer(&wgpu::BufferDescriptor { label: None, size: bytes, usage, mapped_at_creation: false });
        let mut copy = self.encoder();
        copy.copy_buffer_to_buffer(buffer, 0, &back, 0, bytes);
        let copied = self.submit(copy);
        let slice = back.slice(..);
        // Waiting runs it; whether it worked is seen when the range is asked for.
        slice.map_async(wgpu::MapMode::Read, |_| {});
        self.wait(copied)?;
        let range = slice.get_mapped_range().map_err(|e| GpuError::Refused(plain(&e.to_string())))?;
        Ok(range.to_vec())
    }
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A key as the shaders take it.
pub(crate) fn words(key: &[u8; 32]) -> [u32; 8] {
    let mut out = [0; 8];
    out.iter_mut().zip(key.as_chunks().0).for_each(|(to, four)| *to = u32::from_le_bytes(*four));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_the_same_however_they_are_written() {
        assert_eq!(bus("00000000:0A:00.0").as_deref(), Some("0000:0a:00.0"));
        assert_eq!(bus("0000:0a:00.0"), bus("00000000:0A:00.0"));
        for none in ["", "0000:0a:00", "0000:0a:00.0.1", "x:0a:00.0"] {
            assert_eq!(bus(none), None, "{none}");
        }
    }

    #[test]
    fn the_first_trouble_is_kept_unless_the_card_is_lost() {
        let trouble = Mutex::new(None);
        keep(&trouble, GpuError::OutOfMemory, false);
        keep(&trouble, GpuError::Refused("what follows from it".into()), false);
        assert_eq!(*trouble.lock().unwrap(), Some(GpuError::OutOfMemory));
        keep(&trouble, GpuError::Lost("reset".into()), true);
        assert_eq!(*trouble.lock().unwrap(), Some(GpuError::Lost("reset".into())));
    }
}
