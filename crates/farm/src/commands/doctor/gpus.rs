//! The part of `farm doctor` that is about GPUs: the device, its driver, what the container engine can attach.
//!
//! Guarantees: silent on machines without a device of NVIDIA. `--fix` shows line by line what it would do and asks, installs the
//! vendor's container toolkit and describes the devices; never a driver, which is the kernel's and needs a restart.

use super::{Finding, scratch};
use crate::backend::{self, GpuOffer, GpuSupport};
use crate::exit::Failure;
use crate::session::App;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The script that sets the engine up for GPUs; the same that a checkout has.
const SCRIPT: &str = include_str!("../../../../../scripts/gpus.sh");
/// The vendor's number among makers of devices.
const NVIDIA: &str = "0x10de";
/// Class of devices that show pictures or compute.
const DISPLAY: &str = "0x03";

/// How much of a GPU there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Here {
    /// No device of the vendor.
    Nothing,
    /// A device, and nobody who drives it.
    Device,
    /// The driver is loaded.
    Driver,
}

/// Looks below `root`.
fn here(root: &Path) -> Here {
    // The driver shows in one of these; in a sandbox often only the second is there.
    if ["proc/driver/nvidia/gpus", "dev/nvidiactl"].iter().any(|p| root.join(p).exists()) {
        return Here::Driver;
    }
    let Ok(devices) = std::fs::read_dir(root.join("sys/bus/pci/devices")) else { return Here::Nothing };
    let says = |device: &Path, file: &str, what: &str| std::fs::read_to_string(device.join(file)).is_ok_and(|t| t.starts_with(what));
    let is_gpu = |device: PathBuf| says(&device, "vendor", NVIDIA) && says(&device, "class", DISPLAY);
    if devices.flatten().any(|d| is_gpu(d.path())) { Here::Device } else { Here::Nothing }
}

/// What there is to say; nothing without a device.
pub(super) async fn look(app: &App, socket: Option<&Path>) -> Option<Finding> {
    match here(Path::new("/")) {
        Here::Nothing => return None,
        Here::Device => {
            let next = "install the NVIDIA driver of this system and restart; then:  farm doctor";
            return Some(Finding::bad("GPUs", "an NVIDIA device is here, and no driver for it", next));
        }
        Here::Driver => {}
    }
    let lines = match backend::gpu_lines(Some(&GpuOffer::Real(vec![])), &app.paths.data_dir).await {
        Ok(lines) => lines,
        Err(f) => return Some(Finding::bad("GPUs", f.message, "when that is done:  farm doctor")),
    };
    let found = lines.iter().map(|l| format!("{}x {}", l.count, l.model)).collect::<Vec<_>>().join(", ");
    let support = backend::engine(socket, &scratch(app)).await.map(|c| c.gpus);
    Some(attached(&found, support.as_ref().ok()))
}

/// Whether the engine attaches what was found.
fn attached(found: &str, support: Option<&GpuSupport>) -> Finding {
    let fix = "to have jobs get them:  farm doctor --fix";
    match support {
        Some(GpuSupport::Cdi(_)) => Finding::good("GPUs", format!("{found}; jobs get them by the container device interface")),
        Some(GpuSupport::Nvidia) => Finding::good("GPUs", format!("{found}; jobs get them by the NVIDIA runtime")),
        Some(GpuSupport::Missing(why)) => Finding::bad("GPUs", format!("{found}; {why}"), fix),
        None => Finding::bad("GPUs", format!("{found}; no container engine answers"), "start one:  farm doctor --fix"),
    }
}

/// Sets the engine up, if it has to be and its owner agrees.
pub(super) async fn fix(app: &App, socket: Option<&Path>) -> Result<(), Failure> {
    if here(Path::new("/")) != Here::Driver {
        return Ok(());
    }
    let attaches = backend::engine(socket, &scratch(app)).await.is_ok_and(|c| !matches!(c.gpus, GpuSupport::Missing(_)));
    if attaches {
        return Ok(());
    }
    app.paths.ensure_data_dir()?;
    // It is shown before it runs, and whoever wants to can read it.
    let script = app.paths.data_dir.join("gpus.sh");
    let write = || {
        std::fs::write(&script, SCRIPT)?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))
    };
    write().map_err(|e| Failure::io("write", &script, &e))?;
    let plan = run(&script, &["plan"], Stdio::piped()).await?;
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    if plan.trim().is_empty() {
        app.out.note("all that GPUs need is installed; restart the container engine, so that it reads its configuration");
        return Ok(());
    }
    app.out.note("for jobs to get this machine's GPUs:");
    plan.lines().for_each(|line| app.out.note(&format!("  {line}")));
    if !app.yes {
        match app.out.ask("Do that now? [y/N] ").as_deref() {
            Some("y" | "yes") => {}
            Some(_) => return Ok(()),
            None => return Err(Failure::usage("nobody is there to agree to installing anything").next("agree with --yes")),
        }
    }
    if run(&script, &[], Stdio::inherit()).await?.status.success() {
        return Ok(());
    }
    Err(Failure::new("engine", "the container engine could not be set up for GPUs; what was tried is above"))
}

async fn run(script: &Path, args: &[&str], stdout: Stdio) -> Result<std::process::Output, Failure> {
    let mut run = tokio::process::Command::new(script);
    run.args(args).stdin(Stdio::inherit()).stderr(Stdio::inherit()).stdout(stdout);
    run.output().await.map_err(|e| Failure::io("run", script, &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn only_a_device_of_the_vendor_is_worth_a_word() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(here(root), Here::Nothing);
        for (device, vendor, class) in [("a", "0x8086\n", "0x030000\n"), ("b", "0x10de\n", "0x040300\n")] {
            write(root, &format!("sys/bus/pci/devices/{device}/vendor"), vendor);
            write(root, &format!("sys/bus/pci/devices/{device}/class"), class);
        }
        assert_eq!(here(root), Here::Nothing, "another maker's, and a sound card");
        write(root, "sys/bus/pci/devices/c/vendor", "0x10de\n");
        write(root, "sys/bus/pci/devices/c/class", "0x030200\n");
        assert_eq!(here(root), Here::Device);
        write(root, "dev/nvidiactl", "");
        assert_eq!(here(root), Here::Driver);
    }

    #[test]
    fn what_is_missing_has_a_way_out() {
        let missing = attached("2x H100", Some(&GpuSupport::Missing("no runtime".into())));
        assert!(!missing.ok && missing.detail.contains("no runtime") && missing.next.is_some_and(|n| n.contains("--fix")));
        assert!(attached("2x H100", Some(&GpuSupport::Nvidia)).ok && attached("2x H100", Some(&GpuSupport::Cdi(vec![]))).ok);
        assert!(!attached("2x H100", None).ok);
    }

    /// Runs the script with these programs only, and gives what it prints and what they were called with.
    fn script(args: &[&str], programs: &[&str]) -> (String, String, bool) {
        let dir = tempfile::tempdir().unwrap();
        let (bin, calls) = (dir.path().join("bin"), dir.path().join("calls"));
        std::fs::create_dir(&bin).unwrap();
        write(dir.path(), "gpus.sh", SCRIPT);
        for program in programs {
            let log = format!("#!/bin/sh\necho {program} \"$@\" >> {}\n", calls.display());
            write(&bin, program, &log);
            std::fs::set_permissions(bin.join(program), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        for tool in ["id", "grep"] {
            let real = ["/usr/bin", "/bin"].map(|d| Path::new(d).join(tool)).into_iter().find(|p| p.exists()).unwrap();
            std::os::unix::fs::symlink(real, bin.join(tool)).unwrap();
        }
        let mut command = Command::new("/bin/bash");
        command.arg(dir.path().join("gpus.sh")).args(args).env_clear().env("PATH", &bin);
        command.env("PASTURE_CDI_SPEC", dir.path().join("cdi.yaml")).env("PASTURE_DOCKER_CONFIG", dir.path().join("daemon.json"));
        let done = command.output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        (said, std::fs::read_to_string(calls).unwrap_or_default(), done.status.success())
    }

    #[test]
    fn the_script_says_first_what_it_would_do() {
        let (said, calls, fine) = script(&["plan"], &["apt-get", "nvidia-smi"]);
        assert!(fine && calls.is_empty(), "a plan changes nothing: {calls}");
        for words in ["install nvidia-container-toolkit with apt-get", "by their ids", "restart Docker"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(!script(&["plan"], &["nvidia-ctk"]).0.contains("install"));
        // As root it calls the tools itself, else through sudo.
        let (said, calls, fine) = script(&[], &["nvidia-smi", "nvidia-ctk", "sudo"]);
        assert!(fine, "{said}");
        assert!(calls.contains("nvidia-ctk cdi generate --device-name-strategy=uuid"), "{calls}");
        assert!(calls.contains("nvidia-ctk runtime configure --runtime=docker"), "{calls}");
        let (said, _, fine) = script(&[], &["nvidia-ctk", "sudo"]);
        assert!(!fine && said.contains("install the NVIDIA driver"), "never a driver: {said}");
        let (said, _, fine) = script(&["all"], &[]);
        assert!(!fine && said.contains("unknown argument"), "{said}");
    }
}
