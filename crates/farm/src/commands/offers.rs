//! `farm offers`: what machines are offered at which price.

use crate::exit::{Exit, Outcome};
use crate::patience::first_call;
use crate::render::Table;
use crate::render::number::credits;
use crate::session::App;

/// Runs the command.
pub(crate) async fn run(app: &App) -> Outcome {
    let client = app.client()?;
    let offers = first_call(app.out, || client.offers()).await?;
    if app.out.json {
        app.out.json(&offers);
        return Ok(Exit::Ok);
    }
    if offers.is_empty() {
        app.out.note("nobody offers a machine now; offer this one:  farm up");
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["PROVIDER", "REGION", "FREE", "CORE/H", "GIB/H", "DISK GIB/H", "CPU", "REACHABLE"]);
    for o in &offers {
        let rates = &o.terms.rates;
        table.row([
            o.provider_name.clone(),
            o.terms.region.clone(),
            o.free.to_string(),
            credits(rates.cpu_core),
            credits(rates.memory_gib),
            credits(rates.disk_gib),
            o.cpu_model.clone(),
            if o.reachable { "yes".into() } else { "no".into() },
        ]);
    }
    app.out.data(table.text().trim_end());
    Ok(Exit::Ok)
}
