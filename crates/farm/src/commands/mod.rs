//! One file a command; this one chooses among them.

mod account;
mod backup;
mod cards;
mod certificate;
mod context;
mod cp;
mod deploy;
mod deposit;
mod dev;
mod doctor;
mod duties;
mod error;
mod exec;
pub(crate) mod explain;
mod expose;
mod fleet;
mod forward;
mod genesis;
pub(crate) mod grants;
mod groups;
mod herd;
mod init;
pub(crate) mod jobs;
mod join;
mod keys;
mod leaving;
mod ledger;
mod limits;
mod man;
mod moving;
mod offers;
mod overview;
mod plan;
mod provider;
mod relay;
pub(crate) mod run;
mod scale;
mod schema;
mod seats;
mod secret;
mod stats;
mod tenants;
mod tenure;
mod up;
mod update;
mod validator;
mod verify;
mod volume;
mod vote;
pub(crate) mod watch;

use crate::args::{Cli, Command};
use crate::exit::{Exit, Outcome};
use crate::session::App;
use clap::CommandFactory as _;

/// Does what was asked.
pub(crate) async fn dispatch(app: &App, command: &Command) -> Outcome {
    match command {
        Command::Run(args) => Box::pin(run::run(app, args)).await,
        Command::Deploy(args) => Box::pin(deploy::run(app, args)).await,
        Command::Scale(args) => Box::pin(scale::run(app, args)).await,
        Command::Update(args) => Box::pin(update::run(app, args)).await,
        Command::Schema => schema::run(app),
        Command::Ps(args) => jobs::ps(app, args).await,
        Command::Status(args) => match &args.job {
            Some(job) => jobs::status(app, job, args.watch).await,
            None => overview::run(app, args.watch).await,
        },
        Command::Logs(args) => jobs::logs(app, args).await,
        Command::Stats(args) => stats::run(app, args).await,
        Command::Exec(args) => exec::run(app, args).await,
        Command::Cp(args) => cp::run(app, args).await,
        Command::PortForward(args) => forward::run(app, args).await,
        Command::Expose(args) => expose::run(app, args).await,
        Command::Stop(args) => jobs::stop(app, args).await,
        Command::Watch(args) => Box::pin(watch::run(app, args)).await,
        Command::Watcher(args) => watch::name(app, args).await,
        Command::Receipt(args) => jobs::receipt(app, args).await,
        Command::Extend(args) => jobs::extend(app, args).await,
        Command::TopUp(args) => tenure::top_up(app, args).await,
        Command::Secret(args) => secret::run(app, args),
        Command::Volume(args) => volume::run(app, args).await,
        Command::Herd(args) => herd::run(app, args).await,
        Command::Account(args) => account::run(app, args).await,
        Command::Keys(args) => keys::run(app, args).await,
        Command::Invite(args) => grants::invite(app, args).await,
        Command::Offers(args) => offers::run(app, args).await,
        Command::Explain(args) => explain::run(app, args).await,
        Command::Dev(args) => Box::pin(dev::run(app, args)).await,
        Command::Backup(args) => backup::backup(app, args).await,
        Command::Restore(args) => backup::restore(app, args).await,
        Command::Genesis(args) => genesis::run(app, args),
        Command::Validator(args) => validator::run(app, args).await,
        Command::Relay(args) => relay::run(app, args).await,
        Command::Provider(args) => provider::run(app, args).await,
        Command::Join(args) => join::run(app, args).await,
        Command::Ticket => join::ticket(app).await,
        Command::Up(args) => Box::pin(up::run(app, args)).await,
        Command::Pause(args) => leaving::pause(app, args).await,
        Command::Resume(args) => leaving::resume(app, args).await,
        Command::Drain(args) => leaving::drain(app, args).await,
        Command::Down(args) => Box::pin(leaving::down(app, args)).await,
        Command::Deposit(args) => deposit::run(app, args).await,
        Command::Certificate(args) => certificate::run(app, args).await,
        Command::Vote(args) => vote::run(app, args).await,
        Command::Doctor(args) => doctor::run(app, args).await,
        Command::Ledger(args) => ledger::run(app, args).await,
        Command::Verify(args) => verify::run(app, args).await,
        Command::Error(args) => error::run(app, args),
        Command::Context(args) => context::run(app, args),
        Command::Completions(args) => {
            let mut script = vec![];
            clap_complete::generate(args.shell, &mut Cli::command(), "farm", &mut script);
            app.out.bytes(&script);
            Ok(Exit::Ok)
        }
        Command::Init(args) => init::run(app, args),
        Command::Man(args) => man::run(app, args),
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            app.out.either(&serde_json::json!({"version": version}), || format!("farm {version}"));
            Ok(Exit::Ok)
        }
    }
}
