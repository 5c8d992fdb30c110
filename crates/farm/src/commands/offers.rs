//! `farm offers`: what machines are offered at which price, which of them fit what is looked for, and what is known of one.

use crate::args::OffersArgs;
use crate::commands::deposit::{one_machine, standing_rows};
use crate::exit::{Exit, Outcome};
use crate::gpus;
use crate::patience::first_call;
use crate::render::Table;
use crate::render::number::{credits, duration};
use crate::search::{Found, Search, is_condition};
use crate::session::{App, Session, now_ms};
use crate::words::{hours, plainly};
use pasture_api::client::AccountClient;
use pasture_api::data::ImageView;
use pasture_types::NodeId;
use pasture_types::resources::display_bytes;
use std::time::Duration;

/// Longest that a machine is waited for to name its images.
const IMAGES_WITHIN: Duration = Duration::from_secs(5);
/// Images that are shown to people.
const SHOWN_IMAGES: usize = 10;

/// Runs the command.
pub(crate) async fn run(app: &App, args: &OffersArgs) -> Outcome {
    if let [machine] = args.what.as_slice()
        && !is_condition(machine)
    {
        return one(app, machine).await;
    }
    let search = Search::parse(&args.what)?;
    let client = app.client()?;
    let offers = first_call(app.out, || client.offers()).await?;
    let none = offers.is_empty();
    let found = search.among(offers);
    if app.out.json {
        app.out.json(&found);
        return Ok(Exit::Ok);
    }
    if found.is_empty() {
        app.out.note(if none {
            "nobody offers a machine now; offer this one:  farm up"
        } else {
            "no machine fits all of that now; all there are:  farm offers; what would help a job:  farm explain"
        });
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["PROVIDER", "REGION", "FREE", "CORE/H", "GIB/H", "DISK GIB/H", "TOTAL/H", "CPU", "REACHABLE"]);
    for Found { offer: o, price } in &found {
        let rates = &o.terms.rates;
        table.row([
            o.provider_name.clone(),
            o.terms.region.clone(),
            format!("{}{}", o.free, if o.free.gpus.is_empty() { "" } else { gpus::remark(&o.terms.attributes) }),
            credits(rates.cpu_core),
            credits(rates.memory_gib),
            credits(rates.disk_gib),
            credits(*price),
            o.cpu_model.clone(),
            if o.reachable { "yes".into() } else { "no".into() },
        ]);
    }
    app.out.data(table.text().trim_end());
    app.out.note(&format!("total: an hour of {}", search.priced()));
    Ok(Exit::Ok)
}

/// What images a machine says that it has; `None` if it does not answer now, which is no reason to show nothing else.
async fn images(session: &Session, node: NodeId) -> Option<Vec<ImageView>> {
    let client = AccountClient::new(session.api.clone(), session.key.clone(), session.account(), node, now_ms);
    tokio::time::timeout(IMAGES_WITHIN, client.images()).await.ok()?.ok()
}

/// One machine: what it has and offers, and what stands behind it.
async fn one(app: &App, machine: &str) -> Outcome {
    let session = Session::open(app).await?;
    let id = one_machine(&session, machine).await?;
    let node = session.ask(|| session.api.node(&id)).await?;
    let offers = session.ask(|| session.api.offers()).await?;
    let offers: Vec<_> = offers.into_iter().filter(|o| o.node == id).collect();
    let images = if node.reachable { images(&session, id).await } else { None };
    let value = serde_json::json!({"machine": node, "offers": offers, "images": images});
    session.out.either(&value, || {
        let mut table = Table::pairs();
        let mut row = |name: &str, text: String| table.row([name.into(), text]);
        row("machine", node.id.to_string());
        row("provider", format!("{} {}", node.provider_name, node.provider));
        row("has", format!("{}, {}", node.resources, node.cpu_model));
        row("in jobs", node.leased.to_string());
        for o in &offers {
            let t = &o.terms;
            let lasting = format!("jobs of {} to {}", duration(t.min_duration), duration(t.max_duration));
            let most = if t.max_leases == 0 { String::new() } else { format!(", {} at once", t.max_leases) };
            row("offers", format!("{}{} in {}: {lasting}{most}", t.resources, gpus::remark(&t.attributes), t.region));
            for (line, rate) in t.resources.gpus.iter().zip(&t.rates.gpus) {
                row("GPU", format!("{} with {} each, {} cr an hour", line.model, display_bytes(line.vram_bytes), credits(*rate)));
            }
            row("hours", hours(&t.windows));
            row("price", format!("kept for {}", duration(t.price_lock)));
            for (name, value) in &t.attributes {
                row("label", format!("{name}={value}"));
            }
        }
        row("reachable", if node.reachable { "yes" } else { "no" }.into());
        for image in images.iter().flatten().take(SHOWN_IMAGES) {
            row("has image", format!("{}, {}", plainly(&image.name), display_bytes(image.bytes)));
        }
        for (name, text) in node.standing.iter().flat_map(|s| standing_rows(s, session.time())) {
            row(name, text);
        }
        table.text()
    });
    Ok(Exit::Ok)
}
