//! `farm schema`: what can be in a job file, as a JSON Schema for editors and other programs.

use crate::exit::{Exit, Outcome};
use crate::session::App;
use pasture_jobfile::schema;

/// Runs the command.
pub(crate) fn run(app: &App) -> Outcome {
    app.out.data(schema::text().trim_end());
    Ok(Exit::Ok)
}
