//! `farm error`: the page about an error's code.
//!
//! Guarantees: needs no network; a code of another version is said to be unknown here.

use crate::args::ErrorArgs;
use crate::errors;
use crate::exit::{Exit, Failure, Outcome};
use crate::session::App;

/// Runs the command.
pub(crate) fn run(app: &App, args: &ErrorArgs) -> Outcome {
    let Some(code) = &args.code else {
        let codes: Vec<&str> = errors::codes().collect();
        app.out.either(&codes, || codes.join("\n"));
        return Ok(Exit::Ok);
    };
    let Some(page) = errors::page(code) else {
        let near: Vec<&str> = errors::codes().filter(|known| known.contains(code.as_str())).collect();
        let failure = Failure::new("not-found", format!("this version knows no error `{code}`")).next("see which there are:  farm error");
        return Err(if near.is_empty() { failure } else { failure.next(format!("or did you mean  {}", near.join(", "))) });
    };
    app.out.either(&serde_json::json!({"code": code, "page": page, "charged": errors::charged(code)}), || page.into());
    Ok(Exit::Ok)
}
