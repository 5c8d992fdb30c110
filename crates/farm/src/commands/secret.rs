//! `farm secret`: what jobs must know and nobody else.
//!
//! Guarantees: a value is read from a file or from standard input, never from the command line, and never shown again.

use crate::args::{SecretArgs, SecretCommand};
use crate::exit::{Exit, Failure, Outcome};
use crate::session::App;
use pasture_store::MAX_SECRET_BYTES;
use pasture_types::keep::check_kept_name;
use std::io::Read as _;
use std::path::Path;

/// Runs the command.
pub(crate) fn run(app: &App, args: &SecretArgs) -> Outcome {
    let vault = app.vault()?;
    match &args.command {
        SecretCommand::Set { name, from_file } => {
            named(name)?;
            let value = match from_file {
                Some(file) => read(std::fs::File::open(file).map_err(|e| Failure::io("read", file, &e))?, file)?,
                None => typed(app)?,
            };
            if value.is_empty() {
                return Err(Failure::usage("the value is empty"));
            }
            vault.set(name, &value)?;
            app.out.note(&format!("✓ {name} is kept; give it to a job:  farm run --secret {name} ..."));
        }
        SecretCommand::List => {
            let names = vault.names()?;
            if names.is_empty() && !app.out.json {
                app.out.note("you have no secrets; keep one:  farm secret set NAME --from-file FILE");
                return Ok(Exit::Ok);
            }
            app.out.either(&names, || names.join("\n"));
        }
        SecretCommand::Rm { name } => {
            named(name)?;
            if !vault.remove(name)? {
                return Err(Failure::new("no-secret", format!("you have no secret `{name}`")).next("see which you have:  farm secret list"));
            }
            app.out.note(&format!("✓ {name} is gone from this machine; jobs that have it keep it until they end"));
        }
    }
    Ok(Exit::Ok)
}

fn named(name: &str) -> Result<(), Failure> {
    check_kept_name(name).map_err(Failure::usage)
}

fn read(from: impl std::io::Read, what: &Path) -> Result<Vec<u8>, Failure> {
    let mut value = vec![];
    from.take(MAX_SECRET_BYTES as u64 + 2).read_to_end(&mut value).map_err(|e| Failure::io("read", what, &e))?;
    if value.len() > MAX_SECRET_BYTES + 1 {
        return Err(Failure::usage(format!("{} has more than the {MAX_SECRET_BYTES} bytes that a secret can have", what.display())));
    }
    Ok(value)
}

/// From standard input, without the line's end that `echo` and people add.
fn typed(app: &App) -> Result<Vec<u8>, Failure> {
    if app.out.interactive {
        app.out.note("type or paste the value (it is shown as you do), then Enter and Ctrl-D:");
    }
    let mut value = read(std::io::stdin().lock(), Path::new("standard input"))?;
    if value.last() == Some(&b'\n') {
        value.pop();
    }
    Ok(value)
}
