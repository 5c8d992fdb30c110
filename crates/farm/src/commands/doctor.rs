//! `farm doctor`: what keeps farm from working here, each with a way out; `--fix` starts or installs a container engine, and sets it
//! up for GPUs where there are some.
//!
//! Guarantees: without --fix it changes nothing but our own key file; with it, it asks first unless told --yes. Needs nobody
//! to answer: what cannot be reached is a finding.

mod gpus;

use crate::args::DoctorArgs;
use crate::backend::{self, EgressFilter};
use crate::exit::{Exit, Failure, Outcome};
use crate::render::Paint;
use crate::render::number::credits;
use crate::session::{App, now_ms};
use pasture_api::NetworkStatus;
use pasture_types::resources::display_bytes;
use serde::Serialize;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The script that finds, installs or starts a container engine; the same that a checkout has.
const ENGINE_SCRIPT: &str = include_str!("../../../../scripts/engine.sh");
/// Less free disk than this is worth a word.
const LITTLE_DISK: u64 = 5 << 30;
/// This program was made after this moment: a clock before it is wrong (November 2026).
const MADE_MS: u64 = 1_793_491_200_000;
/// How far a clock may be behind the network's.
const MAX_BEHIND_MS: u64 = 10_000;

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    ok: bool,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl Finding {
    fn good(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, ok: true, detail: detail.into(), next: None }
    }
    fn bad(name: &'static str, detail: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, ok: false, detail: detail.into(), next: Some(next.into()) }
    }
}

/// Runs the command.
pub(crate) async fn run(app: &App, args: &DoctorArgs) -> Outcome {
    let mut socket = args.engine.clone();
    if args.fix && backend::engine(socket.as_deref(), &scratch(app)).await.is_err() {
        socket = fix_engine(app).await?.or(socket);
    }
    if args.fix {
        gpus::fix(app, socket.as_deref()).await?;
    }
    let mut findings = vec![engine(app, socket.as_deref()).await, machine(app).await];
    findings.extend(gpus::look(app, socket.as_deref()).await);
    let status = network(app, &mut findings).await;
    findings.push(clock(now_ms(), status.as_ref()));
    findings.push(account(app, status.as_ref()).await);
    if app.out.json {
        app.out.json(&findings);
    }
    for f in findings.iter().filter(|_| !app.out.json) {
        let mark = if f.ok { app.out.paint(Paint::Green, "✓") } else { app.out.paint(Paint::Red, "✗") };
        app.out.data(&format!("{mark} {:<8} {}", f.name, f.detail));
        if let Some(next) = &f.next {
            app.out.data(&format!("           → {next}"));
        }
    }
    Ok(if findings.iter().all(|f| f.ok) { Exit::Ok } else { Exit::Failed })
}

fn scratch(app: &App) -> PathBuf {
    app.paths.data_dir.join("doctor")
}

async fn engine(app: &App, socket: Option<&Path>) -> Finding {
    if let Err(f) = app.paths.ensure_data_dir() {
        return Finding::bad("engine", f.message, "make the folder writable, or set FARM_HOME to another one");
    }
    match backend::engine(socket, &scratch(app)).await {
        Ok(c) => {
            let mut detail = format!("{} {}, {} cores, {}", c.engine, c.version, c.cpus, display_bytes(c.memory_bytes));
            if let EgressFilter::NotEnforced(why) = &c.egress_filter {
                detail.push_str(&format!("; jobs with a network are not filtered: {why}"));
            }
            if !c.can_limit_disk {
                detail.push_str("; sizes of outputs are not limited");
            }
            if !c.can_limit_root {
                detail.push_str("; what jobs write elsewhere is not limited");
            }
            if !c.can_build {
                detail.push_str("; it runs images and builds none");
            }
            Finding::good("engine", detail)
        }
        Err(f) => Finding::bad("engine", f.message, "only machines that run jobs need one; to start or install one:  farm doctor --fix"),
    }
}

async fn machine(app: &App) -> Finding {
    let m = backend::detect(&app.paths.data_dir).await;
    let model = if m.cpu_model.is_empty() { m.arch.clone() } else { format!("{}, {}", m.cpu_model, m.arch) };
    let detail = format!("{}; {model}", m.resources);
    if m.resources.disk_bytes < LITTLE_DISK {
        return Finding::bad("machine", detail, format!("little disk is free where {} lies", app.paths.data_dir.display()));
    }
    Finding::good("machine", detail)
}

async fn network(app: &App, findings: &mut Vec<Finding>) -> Option<NetworkStatus> {
    let target = match app.target() {
        Ok(target) => target,
        Err(f) => {
            findings.push(Finding::bad("network", f.message, "choose another context:  farm context list"));
            return None;
        }
    };
    let from = target.context.as_ref().map_or(String::new(), |c| format!(" (context {c})"));
    let status = match app.client() {
        Ok(client) => client.status().await.map_err(Failure::from),
        Err(f) => Err(f),
    };
    match status {
        Ok(s) => {
            let detail = format!("{} {} at {}{from}, height {}, {}", s.name, s.zone.short(), target.api_url, s.height, s.mode);
            findings.push(Finding::good("network", detail));
            Some(s)
        }
        Err(f) => {
            let next = f.next.first().cloned().unwrap_or_else(|| "start a local one:  farm dev".into());
            findings.push(Finding::bad("network", format!("{}{from}", f.message), next));
            None
        }
    }
}

fn clock(now: u64, status: Option<&NetworkStatus>) -> Finding {
    let behind = status.map_or(0, |s| s.time.0.saturating_sub(now));
    if now < MADE_MS {
        return Finding::bad("clock", "this machine's clock is years behind", "set it, or turn time synchronisation on");
    }
    if behind > MAX_BEHIND_MS {
        let detail = format!("this machine's clock is at least {} s behind the network's", behind / 1000);
        return Finding::bad("clock", detail, "set it, or turn time synchronisation on");
    }
    Finding::good("clock", if status.is_some() { "not behind the network's" } else { "plausible" })
}

async fn account(app: &App, status: Option<&NetworkStatus>) -> Finding {
    let keys = match app.keyring() {
        Ok(keys) => keys,
        Err(f) => return Finding::bad("account", f.message, format!("chmod 600 {}", app.paths.account_key().display())),
    };
    let id = keys.account();
    let (Some(status), Ok(client)) = (status, app.client()) else { return Finding::good("account", id.short()) };
    match client.account(&id).await {
        Ok(view) => Finding::good("account", format!("{}, {} cr", id.short(), credits(view.balance))),
        Err(e) if e.problem().is_some_and(|p| p.status == 404) && status.funder.is_some() => {
            Finding::good("account", format!("{}; it opens itself with the first job", id.short()))
        }
        Err(e) if e.problem().is_some_and(|p| p.status == 404) => {
            Finding::bad("account", format!("{id} is not known on this network"), "ask somebody on it to send credits to it")
        }
        Err(e) => Finding::bad("account", e.to_string(), "try again"),
    }
}

/// Runs the script and returns the socket it prints.
async fn fix_engine(app: &App) -> Result<Option<PathBuf>, Failure> {
    if !app.yes {
        match app.out.ask("No container engine answers. Find, install or start one now? [y/N] ").as_deref() {
            Some("y" | "yes") => {}
            Some(_) => return Ok(None),
            None if app.env.ci => {}
            None => return Err(Failure::usage("nobody is there to agree to installing anything").next("agree with --yes")),
        }
    }
    app.paths.ensure_data_dir()?;
    let dir = &app.paths.data_dir;
    // It may have to call itself through sudo, so it has to be a file that can be executed.
    let script = dir.join("engine.sh");
    let write = || {
        let mut temp = tempfile::NamedTempFile::new_in(dir)?;
        temp.write_all(ENGINE_SCRIPT.as_bytes())?;
        temp.as_file().set_permissions(std::fs::Permissions::from_mode(0o755))?;
        temp.persist(&script).map(|_| ()).map_err(|e| e.error)
    };
    write().map_err(|e| Failure::io("write", &script, &e))?;
    let mut run = tokio::process::Command::new(&script);
    run.stdin(Stdio::inherit()).stderr(Stdio::inherit()).stdout(Stdio::piped());
    let output = run.output().await.map_err(|e| Failure::io("run", &script, &e))?;
    if !output.status.success() {
        return Err(Failure::new("no-engine", "no container engine could be started; what was tried is above"));
    }
    let socket = String::from_utf8_lossy(&output.stdout).lines().last().map(|l| PathBuf::from(l.trim()));
    Ok(socket.filter(|p| p.is_absolute()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_of_the_past_is_found_without_a_network() {
        assert!(!clock(1_000_000, None).ok);
        assert!(clock(MADE_MS + 1, None).ok);
    }

    #[test]
    fn the_script_is_the_one_that_prints_a_socket() {
        assert!(ENGINE_SCRIPT.starts_with("#!/usr/bin/env bash"));
    }
}
