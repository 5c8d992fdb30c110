//! `farm dev`: a whole network on this machine, with an account that has test credits and a context that points to it.
//!
//! Guarantees: once the ready line is shown, `farm run .` works in another terminal without a flag; the context goes away with
//! the network; without --data nothing else stays either. A second Ctrl-C does not wait.

use crate::args::{DevArgs, MachineArgs, VolumeSpaceArgs};
use crate::backend::{self, DevOptions, DevReady, LocalProvider, LocalValidator, PublicOptions, VolumeOptions};
use crate::config::{ConfigFile, absolute};
use crate::exit::{Exit, Failure, Outcome};
use crate::feeds::Signals;
use crate::gpus;
use crate::ingress;
use crate::machine;
use crate::session::{App, Session};
use pasture_light::Checkpoint;
use pasture_net::{Relay, Ticket};
use pasture_rt::Shutdown;
use pasture_types::Resources;
use pasture_types::resources::{parse_bytes, parse_cpu};
use pasture_types::spec::parse_duration;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::oneshot;

/// Runs the command.
pub(crate) async fn run(app: &App, args: &DevArgs) -> Outcome {
    let (_folder, options) = match &args.data {
        Some(data) => (None, options(args, &absolute(data)?, app).await?),
        None => {
            let folder = temporary(app)?;
            let options = options(args, folder.path(), app).await?;
            (Some(folder), options)
        }
    };
    let mut signals = Signals::listen()?;
    let stop = Shutdown::new();
    let (is_ready, ready) = oneshot::channel();
    let network = backend::dev(options, stop.token(), is_ready);
    tokio::pin!(network);
    if !args.listen.ip().is_loopback() {
        app.out.warn(&format!("! everybody who reaches {} can use this network's API and take test credits", args.listen));
    }
    app.out.note("starting a local network ...");
    let ready = tokio::select! {
        ended = &mut network => return ended.map(|()| Exit::Ok),
        _ = signals.next() => None,
        ready = ready => match ready {
            Ok(ready) => Some(ready),
            // It ended instead, and says why.
            Err(_) => return network.await.map(|()| Exit::Ok),
        },
    };
    if let Some(ready) = &ready {
        enter(app, ready)?;
        let machine = args.data.as_deref().filter(|_| !args.no_provider).map(absolute).transpose()?.map(|data| data.join("provider"));
        if let Some(machine) = &machine {
            machine::note(&app.paths, machine)?;
        }
        let welcome = welcome(app, args, ready);
        tokio::pin!(welcome);
        let ended = tokio::select! {
            ended = &mut network => Some(ended),
            shown = &mut welcome => match shown {
                Ok(()) => tokio::select! {
                    ended = &mut network => Some(ended),
                    _ = signals.next() => None,
                },
                Err(failure) => {
                    app.out.failure(&failure);
                    None
                }
            },
            _ = signals.next() => None,
        };
        leave(app, ready)?;
        if let Some(machine) = &machine {
            machine::forget(&app.paths, machine);
        }
        if let Some(ended) = ended {
            return ended.map(|()| Exit::Ok);
        }
    }
    app.out.note("stopping; Ctrl-C again to stop at once");
    stop.trigger();
    tokio::select! {
        ended = &mut network => ended.map(|()| Exit::Ok),
        _ = signals.next() => Ok(Exit::Job(130)),
    }
}

fn temporary(app: &App) -> Result<tempfile::TempDir, Failure> {
    app.paths.ensure_data_dir()?;
    tempfile::Builder::new()
        .prefix("dev-")
        .tempdir_in(&app.paths.data_dir)
        .map_err(|e| Failure::io("create a folder in", &app.paths.data_dir, &e))
}

async fn options(args: &DevArgs, data: &Path, app: &App) -> Result<DevOptions, Failure> {
    let offered_gpus = gpus::offer(&args.machine.gpus)?;
    let images = ConfigFile::load(&app.paths.config_file())?.images;
    Ok(DevOptions {
        data: data.into(),
        listen: args.listen,
        public: match !args.listen.ip().is_loopback() || args.host.is_some() {
            true => Some(public(args.listen, args.host.clone(), args.relay.clone(), !args.no_lan)?),
            false => None,
        },
        ingress: ingress::options(&args.ingress, data, true)?,
        engine_socket: args.machine.engine.clone(),
        validators: args.validators,
        audits: args.audits,
        program: program()?,
        providers: if args.no_provider { 0 } else { args.providers },
        resources: offered(&args.machine, &app.paths.data_dir).await?,
        product_engine: gpus::engine(offered_gpus.as_ref()),
        gpus: offered_gpus,
        region: args.machine.region.clone(),
        volumes: volumes(&args.machine.volumes)?,
        image_bytes: images.limit_bytes()?,
        blobs: images.blobs()?,
        stop_jobs: args.data.is_none(),
        failpoint: backend::failpoint(app.env.failpoint.as_deref())?,
    })
}

/// How others reach a node at this address: its endpoint there, and a relay one port higher; `relay`: one that somebody else runs.
pub(crate) fn public(listen: SocketAddr, host: Option<String>, relay: Option<Relay>, tell_lan: bool) -> Result<PublicOptions, Failure> {
    let own = match listen.port() {
        0 => 0,
        port => port.checked_add(1).ok_or_else(|| Failure::usage(format!("{listen}: the relay takes the next port, and there is none")))?,
    };
    Ok(PublicOptions { listen, relay: Some(SocketAddr::new(listen.ip(), own)), host, also: relay.into_iter().collect(), tell_lan })
}

/// This program, which runs the other validators.
fn program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|e| Failure::new("internal", format!("cannot find this program: {e}")))
}

/// A network for one run: temporary, on a free port. The folder goes when it is dropped.
pub(crate) fn passing(app: &App) -> Result<(tempfile::TempDir, DevOptions), Failure> {
    let folder = temporary(app)?;
    let options = DevOptions {
        data: folder.path().into(),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        public: None,
        ingress: None,
        engine_socket: None,
        validators: 1,
        audits: false,
        program: program()?,
        providers: 1,
        resources: None,
        gpus: None,
        product_engine: None,
        region: "local".into(),
        volumes: VolumeOptions::default(),
        image_bytes: None,
        blobs: backend::BlobSettings::default(),
        stop_jobs: true,
        failpoint: None,
    };
    Ok((folder, options))
}

/// What a machine keeps of volumes.
pub(crate) fn volumes(args: &VolumeSpaceArgs) -> Result<VolumeOptions, Failure> {
    let size = |flag: &str, text: &str| parse_bytes(text).map_err(|e| Failure::usage(format!("{flag}: {e}")));
    let keep = parse_duration(&args.volume_keep).map_err(|e| Failure::usage(format!("--volume-keep: {e}")))?;
    Ok(VolumeOptions {
        keep: Duration::from_millis(keep.0),
        bytes: size("--volume-space", &args.volume_space)?,
        account_bytes: size("--volume-space-each", &args.volume_space_each)?,
    })
}

/// What a machine offers: what was asked, and of the rest a half.
pub(crate) async fn offered(args: &MachineArgs, disk: &Path) -> Result<Option<Resources>, Failure> {
    if args.cpu.is_none() && args.memory.is_none() && args.disk.is_none() {
        return Ok(None);
    }
    let has = backend::detect(disk).await.resources;
    let size = |flag: &str, asked: &Option<String>, half: u64| match asked {
        Some(text) => parse_bytes(text).map_err(|e| Failure::usage(format!("{flag}: {e}"))),
        None => Ok(half),
    };
    let cpu_millis = match &args.cpu {
        Some(text) => parse_cpu(text).map_err(|e| Failure::usage(format!("--cpu: {e}")))?,
        None => has.cpu_millis / 2,
    };
    Ok(Some(Resources {
        cpu_millis,
        memory_bytes: size("--memory", &args.memory, has.memory_bytes / 2)?,
        disk_bytes: size("--disk", &args.disk, has.disk_bytes / 2)?,
        ..Resources::default()
    }))
}

fn enter(app: &App, ready: &DevReady) -> Result<(), Failure> {
    let path = app.paths.config_file();
    let mut file = ConfigFile::load(&path)?;
    file.enter_dev(&ready.api_url, Some(hex::encode(Checkpoint::genesis(ready.trusted.clone(), 0, 0).encode())));
    file.save(&path)
}

fn leave(app: &App, ready: &DevReady) -> Result<(), Failure> {
    let path = app.paths.config_file();
    let mut file = ConfigFile::load(&path)?;
    file.leave_dev(&ready.api_url);
    file.save(&path)
}

fn other(validator: &LocalValidator) -> serde_json::Value {
    serde_json::json!({ "validator": validator.key, "process": validator.pid, "api_url": validator.api_url, "data": validator.data })
}

fn machine_of(provider: &LocalProvider) -> serde_json::Value {
    serde_json::json!({ "node": provider.node, "process": provider.pid, "data": provider.data })
}

/// Opens the local account and says what there is.
async fn welcome(app: &App, args: &DevArgs, ready: &DevReady) -> Result<(), Failure> {
    let session = Session::open(&app.at(&ready.api_url).quietly()).await?;
    let account = session.ensure_account().await?;
    let ingress = session.api.ingress().await.ok();
    if app.out.json {
        app.out.json(&serde_json::json!({
            "event": "ready", "api_url": ready.api_url, "ticket": ready.ticket.as_ref().map(Ticket::to_text), "network": ready.zone, "ingress": ingress, "data": args.data, "account": account.id,
            "balance": account.balance, "validators": ready.others.iter().map(other).collect::<Vec<_>>(), "machines": ready.providers.iter().map(machine_of).collect::<Vec<_>>(), "machine": ready.provider.as_ref().map(|p| serde_json::json!({
                "node": p.node, "resources": p.resources, "rates": p.rates, "gpus": p.gpus,
            })),
        }));
        return Ok(());
    }
    let out = app.out;
    // Data: scripts wait for this line.
    out.data(&format!("✓ a local network is ready at {}", ready.api_url));
    let kept = args.data.as_ref().map_or("nothing is kept when it ends".into(), |d| format!("kept in {}", d.display()));
    out.note(&format!("  network  {} · {kept}", ready.zone.short()));
    for other in &ready.others {
        out.note(&format!("  validator {} · process {} · API {}", other.key.short(), other.pid, other.api_url));
    }
    if !ready.others.is_empty() {
        out.note(&format!("  blocks are made while {} of {} validators are up", ready.trusted.quorum(), ready.trusted.len()));
    }
    match &ready.provider {
        Some(machine) => {
            let simulated = if machine.gpus.iter().any(|g| g.simulated) { " (GPUs simulated)" } else { "" };
            out.note(&format!("  machine  this one: {}{simulated}", machine.resources));
            for limit in &machine.unheld {
                out.warn(&format!("! not held on this machine: {limit}"));
            }
        }
        None => out.note("  machine  none; offer one with farm up"),
    }
    for other in &ready.providers {
        out.note(&format!("  machine  {} · process {}", other.node.short(), other.pid));
    }
    if let Some(ticket) = &ready.ticket {
        out.note("  others   join with this ticket, from anywhere that reaches this machine:");
        out.note(&format!("           farm join {0}\n           farm up --join {0}", ticket.to_text()));
    }
    if let Some(ingress) = &ingress {
        out.note(&format!("  visitors reach what farm expose opens at {}", ingress.url("...")));
        if ingress.scheme == "https" && args.ingress.ingress_cert.is_none() && args.ingress.ingress_acme.is_none() {
            let folder = args.data.as_deref().map_or("ingress of its folder".into(), |data| data.join("ingress").display().to_string());
            out.note(&format!("           with certificates that who trusts authority.pem in {folder} believes"));
        }
    }
    out.note(&format!("  account  {}, {} test credits, no value", account.id.short(), account.balance.display(0)));
    out.note("  next     in another terminal:  farm run .");
    out.note("  Ctrl-C ends it");
    Ok(())
}
