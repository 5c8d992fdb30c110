//! GPUs and single files of the host in an instance: what an engine can attach, and how it is asked.
//!
//! Guarantees: devices are asked for by the vendor's id, never by number or "all", so that an instance gets these and no others;
//! an engine that would ignore the request is never asked. Whether the devices are really there is for the caller to check from
//! inside: an engine's word is not enough.

use bollard::models::{ContainerCreateBody, DeviceRequest, Mount, MountType, SystemInfo};

use crate::{GpuSupport, RuntimeError, Workload};

/// Most devices of one instance.
const MAX_DEVICES: usize = 64;
/// Longest id.
const MAX_ID: usize = 64;
/// Kind of the vendor's devices in the container device interface.
const CDI_KIND: &str = "nvidia.com/gpu=";
/// The vendor's runtime, as it registers itself.
const RUNTIME: &str = "nvidia";
/// What is mounted of the driver: what computes, and the tool that the check from inside runs.
const CAPABILITIES: [&str; 3] = ["gpu", "compute", "utility"];

/// Refuses what is no vendor's id of one device: words such as `all` mean more than one.
pub(super) fn check(ids: &[String]) -> Result<(), RuntimeError> {
    let invalid = |why: String| Err(RuntimeError::Invalid { field: "gpus", why });
    if ids.len() > MAX_DEVICES {
        return invalid(format!("{} where at most {MAX_DEVICES} are possible", ids.len()));
    }
    for (at, id) in ids.iter().enumerate() {
        let plain = id.len() <= MAX_ID && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !plain || !id.starts_with("GPU-") || ids.iter().take(at).any(|other| other == id) {
            return invalid(format!("{id:?} is not the id of one more GPU"));
        }
    }
    Ok(())
}

/// How an engine attaches GPUs, by what it says of itself.
pub(super) fn support(info: &SystemInfo, podman: bool) -> GpuSupport {
    if podman {
        return GpuSupport::Missing("Podman ignores requests for GPUs on this socket without a word; use Docker Engine".into());
    }
    let devices = info.discovered_devices.iter().flatten().filter_map(|d| d.id.as_deref()?.strip_prefix(CDI_KIND));
    let devices: Vec<String> = devices.filter(|id| id.starts_with("GPU-")).map(str::to_owned).collect();
    if !devices.is_empty() {
        return GpuSupport::Cdi(devices);
    }
    if info.runtimes.as_ref().is_some_and(|all| all.contains_key(RUNTIME)) {
        return GpuSupport::Nvidia;
    }
    GpuSupport::Missing("the engine knows neither GPUs by the container device interface nor the NVIDIA runtime".into())
}

/// Adds devices and files to an instance's description.
pub(super) fn add(body: &mut ContainerCreateBody, workload: &Workload, support: &GpuSupport) -> Result<(), RuntimeError> {
    let host = body.host_config.get_or_insert_default();
    for file in &workload.files {
        host.mounts.get_or_insert_default().push(Mount {
            target: Some(file.path.clone()),
            source: Some(file.source.to_string_lossy().into_owned()),
            typ: Some(MountType::BIND),
            read_only: Some(true),
            ..Default::default()
        });
    }
    if workload.gpus.is_empty() {
        return Ok(());
    }
    host.device_requests = Some(vec![match support {
        GpuSupport::Cdi(_) => DeviceRequest {
            driver: Some("cdi".into()),
            device_ids: Some(workload.gpus.iter().map(|id| format!("{CDI_KIND}{id}")).collect()),
            ..Default::default()
        },
        GpuSupport::Nvidia => DeviceRequest {
            driver: Some(RUNTIME.into()),
            device_ids: Some(workload.gpus.clone()),
            capabilities: Some(vec![CAPABILITIES.map(str::to_owned).to_vec()]),
            ..Default::default()
        },
        GpuSupport::Missing(why) => return Err(RuntimeError::Invalid { field: "gpus", why: why.clone() }),
    }]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(json: serde_json::Value) -> SystemInfo {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn an_engine_is_asked_in_the_way_that_it_knows() {
        let device = serde_json::json!([
            {"Source": "cdi", "ID": "nvidia.com/gpu=all"}, {"Source": "cdi", "ID": "nvidia.com/gpu=GPU-1"},
        ]);
        let both = info(serde_json::json!({"DiscoveredDevices": device, "Runtimes": {"nvidia": {}}}));
        assert_eq!(support(&both, false), GpuSupport::Cdi(vec!["GPU-1".into()]));
        assert_eq!(support(&info(serde_json::json!({"Runtimes": {"nvidia": {}, "runc": {}}})), false), GpuSupport::Nvidia);
        for (info, podman) in [(info(serde_json::json!({"Runtimes": {"runc": {}}})), false), (both, true)] {
            assert!(matches!(support(&info, podman), GpuSupport::Missing(_)));
        }
    }

    #[test]
    fn devices_are_asked_for_by_their_ids_or_not_at_all() {
        let workload = |gpus: Vec<String>| Workload { gpus, ..super::super::workload::tests::workload() };
        let asked = |support: &GpuSupport| {
            let mut body = ContainerCreateBody::default();
            add(&mut body, &workload(vec!["GPU-1".into()]), support).map(|()| body.host_config.unwrap().device_requests.unwrap().remove(0))
        };
        let cdi = asked(&GpuSupport::Cdi(vec![])).unwrap();
        assert_eq!((cdi.driver.as_deref(), cdi.device_ids.unwrap()), (Some("cdi"), vec!["nvidia.com/gpu=GPU-1".to_owned()]));
        let nvidia = asked(&GpuSupport::Nvidia).unwrap();
        assert_eq!((nvidia.count, nvidia.device_ids.unwrap()), (None, vec!["GPU-1".to_owned()]), "never a number of any");
        assert!(asked(&GpuSupport::Missing("none".into())).is_err(), "rather nothing than a job without its GPU");
        let mut body = ContainerCreateBody::default();
        add(&mut body, &workload(vec![]), &GpuSupport::Missing("none".into())).unwrap();
        assert_eq!(body.host_config.unwrap().device_requests, None);
        for bad in [&["all"][..], &["0"], &["GPU-1", "GPU-1"], &["GPU-1,GPU-2"], &["none"]] {
            assert!(check(&bad.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>()).is_err(), "{bad:?}");
        }
        assert_eq!(check(&["GPU-8f2c-1".into(), "GPU-2".into()]).ok(), Some(()));
    }
}
