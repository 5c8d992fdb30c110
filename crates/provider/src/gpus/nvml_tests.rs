//! The driver's library, simulated: a small shared library, compiled by each test from `tests/simulated_nvml.c` and loaded as the real
//! one is. It shows what this side does with answers, errors and silence; what a real driver says it cannot show.

use super::nvml::Library;
use super::{GpuError, GpuSource as _, Gpus, NvidiaGpus};
use crate::monitor::{Used, gpus};
use futures::future::join_all;
use pasture_types::gpu::Version;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// The first device's.
const UUID: &str = "GPU-3e7a9b1c-0d2f-4a5b-8c6d-7e8f9a0b1c2d";
/// For libraries that answer: a machine at work may take its time.
const PATIENT: Duration = Duration::from_secs(60);

/// A simulated library with these macros of its source.
fn compiled(dir: &Path, macros: &[&str]) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/simulated_nvml.c");
    let library = dir.join("libsimulated-nvml.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&library).arg(source);
    let made = cc.args(macros.iter().map(|m| format!("-D{m}"))).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    library
}

fn library(macros: &[&str]) -> (TempDir, Library) {
    let dir = tempfile::tempdir().unwrap();
    let library = Library::new(Some(compiled(dir.path(), macros)), PATIENT);
    (dir, library)
}

async fn refused(macros: &[&str]) -> String {
    let (_dir, library) = library(macros);
    let why = library.inventory().await.unwrap_err().to_string();
    assert!(!why.contains(char::is_control) && why.len() < 500, "{why}");
    why
}

#[tokio::test]
async fn the_library_says_which_devices_there_are() {
    let (_dir, library) = library(&[]);
    let source = NvidiaGpus::of(Arc::new(library));
    let found = source.look().await.unwrap();
    // The second is cut into parts, and so not offered.
    assert_eq!(found.devices.len(), 1);
    let device = &found.devices[0];
    assert_eq!((device.uuid.as_str(), device.model.as_str(), device.vram_bytes, device.simulated), (UUID, "H100", 81_559 << 20, false));
    assert_eq!((found.driver, found.cuda), (Some(Version(535, 104)), Some(Version(12, 2))));
    // The same device by the tool inside a container: there the odd rest of its memory is not shown.
    let inside = source.seen(&format!("{UUID}, NVIDIA H100 80GB HBM3, 81559, Disabled\n")).unwrap();
    assert_eq!(inside, found.devices);
    let gpus = Gpus::look(Arc::new(source), &[]).await.unwrap();
    assert!(gpus.attributes().iter().any(|(name, _)| name == "gpu.cuda.12.2") && !gpus.are_simulated());
}

#[tokio::test]
async fn the_library_says_what_devices_are_doing() {
    let (_dir, library) = library(&[]);
    let load = gpus(&library).await;
    assert_eq!(load.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(), ["NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB"]);
    let (first, second) = (&load[0], &load[1]);
    assert_eq!((first.uuid.as_str(), first.busy_percent, first.celsius, first.watts), (UUID, Some(37), Some(54), Some(313)));
    assert_eq!(first.memory, Some(Used { used: 1 << 30, total: (81_559 << 20) + 786_432 }));
    assert_eq!((second.busy_percent, second.celsius, second.watts), (None, None, Some(61)), "what it does not tell is left out");
    assert_eq!(second.memory.unwrap().total, 40_960 << 20);
}

#[tokio::test]
async fn a_lost_device_hides_no_others_from_the_owner_and_is_not_offered_silently() {
    let (_dir, library) = library(&["LOST=0"]);
    assert_eq!(gpus(&library).await.len(), 1);
    let why = library.inventory().await.unwrap_err().to_string();
    assert!(why.contains("to open device 0") && why.contains("restart the machine"), "{why}");
}

#[tokio::test]
async fn what_a_device_cannot_be_is_refused() {
    for (said, shown) in [
        (r#"UUID="GPU-1""#, "`GPU-1, NVIDIA H100 80GB HBM3, 81559`"),
        (r#"UUID="../../etc""#, "`../../etc, "),
        (r#"NAME="H\x1b[2J100""#, "H[2J100"),
        (r#"NAME="""#, UUID),
        (r#"NAME="\xff\xfe""#, "the name of device 0"),
        ("MEMORY=0ULL", "80GB HBM3, 0`"),
    ] {
        let why = refused(&[said]).await;
        assert!(why.contains(shown), "{said}: {why}");
    }
    // The owner is shown what can be shown.
    let (_dir, nameless) = library(&[r#"NAME="H\x1b[2J100""#]);
    assert_eq!(gpus(&nameless).await[0].name, "H[2J100");
    let (_dir, wrong) = library(&[r#"UUID="GPU-1""#, "MEMORY=0ULL"]);
    assert_eq!(gpus(&wrong).await.len(), 1);
    let (_dir, many) = library(&["COUNT=1000"]);
    assert_eq!(gpus(&many).await.len(), 64);
    // Of the first 64 one is cut into parts.
    assert_eq!(many.inventory().await.unwrap().devices.len(), 63);
    let (_dir, none) = library(&["COUNT=0"]);
    assert_eq!(none.inventory().await.unwrap().devices, []);
}

#[tokio::test]
async fn errors_say_what_to_do() {
    for (macros, words) in [
        (&["INIT=9"][..], "no driver of NVIDIA answers"),
        (&["INIT=18"], "restart the machine"),
        (&["INIT=4"], "let this user open /dev/nvidia*"),
        (&["INIT=999"], "see whether nvidia-smi"),
        (&["OLD"], "update the driver: 510"),
    ] {
        let why = refused(macros).await;
        assert!(why.contains(words), "{macros:?}: {why}");
    }
    // Such a one panics in the wrapper, where nothing waits for it.
    assert!(refused(&["BROKEN"]).await.contains("fails to answer"));
    let (_dir, old) = library(&["OLD"]);
    assert_eq!(gpus(&old).await[0].memory, None, "the other figures are there");
}

#[tokio::test]
async fn without_the_library_there_are_no_gpus() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("libnvidia-ml.so.1");
    let none = Library::new(Some(absent.clone()), PATIENT);
    assert_eq!(gpus(&none).await, []);
    assert!(matches!(none.inventory().await, Err(GpuError::NoDriver(why)) if why.contains("libnvidia-ml.so.1")));
    std::fs::write(&absent, "not a library").unwrap();
    assert!(matches!(none.inventory().await, Err(GpuError::NoDriver(_))));
    assert_eq!(gpus(&none).await, []);
}

#[tokio::test]
async fn a_driver_that_hangs_has_one_thread_and_its_askers_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (calls, release) = (dir.path().join("calls"), dir.path().join("release"));
    let macros = [format!("CALLS=\"{}\"", calls.display()), format!("HANGS_UNTIL=\"{}\"", release.display())];
    let path = compiled(dir.path(), &[&macros[0], &macros[1]]);
    let library = Library::new(Some(path), Duration::from_millis(200));
    // Some that ask while it is not known yet, and some that ask when it is.
    let first = join_all((0..4).map(|_| library.inventory())).await;
    assert!(first.iter().all(|answer| matches!(answer, Err(GpuError::Silent(_)))), "{first:?}");
    for _ in 0..1000 {
        assert!(matches!(library.inventory().await, Err(GpuError::Silent(_))));
        assert_eq!(gpus(&library).await, []);
    }
    assert_eq!(std::fs::read_to_string(&calls).unwrap(), "i", "nobody else was let in");
    // When it returns at last, all is as before.
    std::fs::write(&release, "").unwrap();
    let again = async {
        while library.inventory().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENT, again).await.unwrap();
    assert!(!std::fs::read_to_string(&calls).unwrap().contains('X'));
}

#[tokio::test]
async fn those_who_ask_at_once_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let calls = dir.path().join("calls");
    let path = compiled(dir.path(), &[&format!("CALLS=\"{}\"", calls.display())]);
    let library = Library::new(Some(path), PATIENT);
    let answers = join_all((0..8).map(|_| library.load())).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|gpus| gpus.len() == 2)));
    assert_eq!(std::fs::read_to_string(&calls).unwrap(), "is".repeat(8), "each begins when the one before has ended");
}
