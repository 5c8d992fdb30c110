//! `farm`: run a folder or an image on somebody's machine, offer your own, or run a whole network on this one.
//!
//! Guarantees: the process ends in one place, with a code of [`exit::Exit`]; stdout is data, stderr is everything else; the
//! environment is read once. Decisions about jobs are in [`job`], the words in [`words`].

mod args;
mod avoid;
mod backend;
mod commands;
mod config;
mod defaults;
mod deploy;
mod device;
mod dockerignore;
mod enrolled;
mod errors;
mod exit;
mod feeds;
mod follow;
mod gpus;
mod handles;
mod herd_args;
mod ingress;
mod job;
mod keyring;
mod machine;
mod pack;
mod passphrase;
mod patience;
mod products;
mod project;
mod public;
mod reach;
mod receipt;
mod render;
mod sealed;
mod search;
mod secrets;
mod session;
mod spec_file;
mod transfer;
mod tree;
mod trust;
mod unpack;
mod verify;
mod volumes;
mod watching;
mod words;

use args::{Cli, Command, Format, LogFormat};
use clap::{Parser as _, ValueEnum as _};
use config::{Env, Paths};
use exit::{Exit, Failure, Outcome};
use render::Output;
use session::App;
use std::process::ExitCode;
use std::sync::Arc;
use tracing_subscriber::EnvFilter;

/// What a node logs unless FARM_LOG says otherwise: the storage engine warns when a store is new.
const NODE_LOG: &str = "warn,commonware=error,iroh=off,iroh_relay=off,noq=off,noq_proto=off,noq_udp=off";

/// The same of what does not run for long: whatever the library beneath has to say while it ends means nothing.
const CLIENT_LOG: &str = "error,iroh=off,iroh_relay=off,noq=off,noq_proto=off,noq_udp=off";

fn main() -> ExitCode {
    let mut env = Env::read();
    let argv = match defaults::with_file(std::env::args_os().collect(), Some(defaults::usual())) {
        Ok(argv) => argv,
        Err(failure) => {
            Output::new(Format::Table, false, env.no_color, !env.ci).failure(&failure);
            return ExitCode::from(failure.exit.code());
        }
    };
    let cli = match Cli::try_parse_from(argv) {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are no failures.
            let exit = if e.use_stderr() { Exit::Usage } else { Exit::Ok };
            let _ = e.print();
            return ExitCode::from(exit.code());
        }
    };
    let g = &cli.global;
    env.passphrase_file = g.passphrase_file.clone().or(env.passphrase_file);
    let format = if g.json { Format::Json } else { g.output };
    let out = Output::new(format, g.quiet, g.no_color || env.no_color, !env.ci);
    let exit = work(&cli, env, out).unwrap_or_else(|failure| {
        out.failure(&failure);
        failure.exit
    });
    ExitCode::from(exit.code())
}

fn work(cli: &Cli, env: Env, out: Output) -> Outcome {
    let g = &cli.global;
    log_to_stderr(&cli.command, &env)?;
    let app = App {
        out,
        paths: Paths::of(&env)?,
        env,
        yes: g.yes,
        show_http: g.show_http,
        skip_verification: g.skip_verification,
        api_url: g.api_url.clone(),
        context: g.context.clone(),
        keyring: Arc::default(),
        ticket: None,
        door: Arc::default(),
    };
    if g.skip_verification {
        out.warn("! --skip-verification: nothing is checked that the network's gateway says");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new("runtime", format!("cannot start threads: {e}")))?;
    let outcome = runtime.block_on(async {
        let outcome = commands::dispatch(&app, &cli.command).await;
        app.close().await;
        outcome
    });
    // A question that nobody answered still waits for a line; it must not keep the process.
    runtime.shutdown_background();
    outcome
}

/// How a node's log is written: flag, then environment, then text.
fn log_format(asked: Option<LogFormat>, env: &Env) -> Result<LogFormat, Failure> {
    let from_env = || match &env.log_format {
        Some(text) => LogFormat::from_str(text, true)
            .map_err(|_| Failure::usage(format!("FARM_LOG_FORMAT: `{text}` is no format")).next("write FARM_LOG_FORMAT=text, or json")),
        None => Ok(LogFormat::default()),
    };
    asked.map_or_else(from_env, Ok)
}

/// Our own log, for those who look for a fault: warnings, unless FARM_LOG says otherwise.
fn log_to_stderr(command: &Command, env: &Env) -> Result<(), Failure> {
    let long_running = match command {
        Command::Dev(args) => Some(args.log),
        Command::Up(args) => Some(args.log),
        Command::Validator(args) => args.log(),
        Command::Relay(args) => Some(args.log()),
        _ => None,
    };
    let (default, json) = match long_running {
        Some(log) => (NODE_LOG, log_format(log.log_format, env)? == LogFormat::Json),
        None => (CLIENT_LOG, false),
    };
    let filter = EnvFilter::try_new(env.log.as_deref().unwrap_or(default))
        .map_err(|e| Failure::usage(format!("FARM_LOG: {e}")).next("write for example FARM_LOG=info"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = if json { log.json().try_init() } else { log.try_init() };
    set.map_err(|e| Failure::new("log", e.to_string()))
}
