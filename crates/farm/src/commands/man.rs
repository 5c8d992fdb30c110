//! `farm man`: the manual pages, one a command, made from the same descriptions as `--help`.
//!
//! Guarantees: pages land in `DIR/man1`, as `man -M DIR` expects them; each is complete or not there.

use crate::args::{Cli, ManArgs};
use crate::exit::{Exit, Failure, Outcome};
use crate::session::App;
use clap::CommandFactory as _;

/// Runs the command.
pub(crate) fn run(app: &App, args: &ManArgs) -> Outcome {
    let folder = args.folder.join("man1");
    std::fs::create_dir_all(&folder).map_err(|e| Failure::io("make", &folder, &e))?;
    clap_mangen::generate_to(Cli::command(), &folder).map_err(|e| Failure::io("write pages to", &folder, &e))?;
    let written = std::fs::read_dir(&folder).map_err(|e| Failure::io("read", &folder, &e))?.count();
    app.out.either(&serde_json::json!({"folder": folder, "pages": written}), || {
        format!("{written} pages in {}; read them:  man -M {} farm", folder.display(), args.folder.display())
    });
    Ok(Exit::Ok)
}
