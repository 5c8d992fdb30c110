//! `farm provider enroll`, `machines`, `dismiss`: many machines of one account, whose key is on none of them.
//!
//! Guarantees: a code is shown once, after the network knows it; its secret is kept nowhere. What a stranger could do with it is said.

use crate::args::EnrollArgs;
use crate::exit::{Exit, Failure, Outcome};
use crate::render::Table;
use crate::render::number::{count, credits, duration};
use crate::session::{App, Session, random};
use pasture_api::{AccountView, Beginning, DepositView, NodeView};
use pasture_types::grant::{Budget, EnrollCode, GrantAction, GrantTerms, GrantUse, MAX_GRANT_LIFE, grant_id};
use pasture_types::market_rules::MarketAction;
use pasture_types::spec::parse_duration;
use pasture_types::stake::{DepositAction, Stamp};
use pasture_types::tx::Action;
use pasture_types::{Amount, AssetId, SigningKey};
use std::collections::BTreeMap;

/// What adding one machine may cost unless said otherwise, in microseconds of the network's work: many times what it takes, since prices move.
const WORK_EACH_US: u128 = 100_000;
/// Shortest beginning of a machine's id that is taken for the whole.
const SHORTEST_ID: usize = 4;
const DAY_MS: u64 = 24 * 3_600_000;

/// `farm provider enroll`.
pub(crate) async fn enroll(app: &App, args: &EnrollArgs) -> Outcome {
    let life = parse_duration(&args.expires).map_err(|e| Failure::usage(format!("--expires: {e}")))?;
    if life > MAX_GRANT_LIFE {
        return Err(Failure::usage(format!("--expires: at most {}", duration(MAX_GRANT_LIFE))));
    }
    let session = Session::open(app).await?;
    let most = match &args.credits {
        None => session.status.params.base_price.mul_div(WORK_EACH_US.saturating_mul(args.nodes.into()), 1).unwrap_or(Amount(u128::MAX)),
        Some(text) => match text.parse() {
            Ok(Amount::ZERO) => return Err(Failure::usage("--credits: without any the network adds no machine; write how many")),
            Ok(amount) => amount,
            Err(e) => return Err(Failure::usage(format!("--credits: {e}"))),
        },
    };
    let view = session.ensure_account().await?;
    let mut actions = become_provider(&session, &view, args)?;
    let seed = random::<32>()?;
    let expires = session.time().plus(life);
    let budget = vec![Budget { asset: AssetId::CREDIT, amount: most }];
    let terms = GrantTerms { key: SigningKey::from_seed(seed).public(), may: GrantUse::Enroll { nodes: args.nodes }, budget, expires };
    actions.push(Action::Grant(GrantAction::Create { terms: Box::new(terms) }));
    let index = u32::try_from(actions.len()).unwrap_or(1).saturating_sub(1);
    let tx = session.submit(actions).await?;
    let grant = grant_id(&tx, index);
    let code = EnrollCode { zone: session.status.zone, grant, account: session.account(), seed }.to_text();
    let ticket = session.api.ticket().await.ok().map(|shown| shown.ticket);
    let value = serde_json::json!({
        "code": code, "id": grant, "account": session.account(), "nodes": args.nodes, "expires": expires, "credits": most, "ticket": ticket,
    });
    session.out.either(&value, || {
        let join = ticket.as_ref().map_or(String::new(), |ticket| format!("--join {ticket} "));
        format!(
            "{code}\n\ngood for {} and {}; they earn for account {}, and adding them costs it at most {} cr\n\
             on each machine:  farm up {join}--enroll CODE --yes\n\
             who has the code can add machines to your provider, whose faults its deposit answers for: keep it among your own\n\
             see them:  farm provider machines      take one out:  farm provider dismiss MACHINE      take the code back:  farm account revoke {}",
            count(args.nodes.into(), "machine"),
            duration(life),
            session.account().short(),
            credits(most),
            grant.short()
        )
    });
    Ok(Exit::Ok)
}

/// What is to be done so that the account is a provider whose machines may offer something.
fn become_provider(session: &Session, view: &AccountView, args: &EnrollArgs) -> Result<Vec<Action>, Failure> {
    let params = &session.status.params;
    let mut actions = vec![];
    if view.provider.is_none() {
        let name = args.name.clone().unwrap_or_else(|| format!("provider-{}", session.account().short()));
        actions.push(Action::RegisterProvider { name });
    } else if args.name.is_some() {
        return Err(Failure::usage("--name: your provider has one already"));
    }
    let standing = view.standing.as_deref();
    let missing = standing.map_or(params.min_stake, DepositView::missing);
    if missing.is_zero() || standing.is_some_and(|s| s.beginning == Beginning::Newcomer) {
        return Ok(actions);
    }
    if args.no_deposit {
        let bits = params.stake.stamp_bits;
        let (zone, account, day) = (session.status.zone, session.account(), session.time().0 / DAY_MS);
        session.out.note("searching the proof of work of a provider without a deposit ...");
        let stamp = Stamp::search(&zone, &account, day, bits, 0, u64::MAX);
        let stamp = stamp.ok_or_else(|| Failure::new("internal", "no proof of work was found"))?;
        actions.push(Action::Deposit(DepositAction::Newcomer { stamp }));
        return Ok(actions);
    }
    if view.balance < missing.saturating_add(session.max_fee()) {
        let failure = format!("the deposit needs {} cr more, and your account has {} cr", credits(missing), credits(view.balance));
        return Err(Failure::new("balance-too-small", failure).next("begin without:  farm provider enroll --no-deposit --nodes NUMBER"));
    }
    session.out.note(&format!("deposit  {} cr are posted, for all your machines", credits(missing)));
    actions.push(Action::Stake { amount: missing });
    Ok(actions)
}

/// `farm provider machines`.
pub(crate) async fn machines(app: &App) -> Outcome {
    let session = Session::open(app).await?;
    let ours = session.account();
    let (nodes, offers) = futures::join!(session.ask(|| session.api.all_nodes(&ours)), session.ask(|| session.api.offers()));
    let (nodes, offers) = (nodes?, offers?);
    let mut offered: BTreeMap<_, usize> = BTreeMap::new();
    for offer in offers.iter().filter(|o| o.provider == ours) {
        *offered.entry(offer.node).or_default() += 1;
    }
    session.out.either(&nodes, || {
        if nodes.is_empty() {
            return "your account has no machines; add this one:  farm up      or others:  farm provider enroll --nodes NUMBER".into();
        }
        let mut table = Table::new(&["MACHINE", "HAS", "IN JOBS", "STATE"]);
        for node in &nodes {
            let state = state(node, offered.get(&node.id).copied().unwrap_or(0));
            table.row([node.id.short(), node.resources.to_string(), node.leased.to_string(), state.into()]);
        }
        table.text()
    });
    Ok(Exit::Ok)
}

fn state(node: &NodeView, offers: usize) -> &'static str {
    match (node.dismissed, offers, node.reachable) {
        (true, ..) => "dismissed",
        (false, 0, _) => "offers nothing",
        (false, _, true) => "offered",
        (false, _, false) => "offered, not seen by this gateway",
    }
}

/// `farm provider dismiss`.
pub(crate) async fn dismiss(app: &App, id: &str) -> Outcome {
    let session = Session::open(app).await?;
    let ours = session.account();
    let nodes = session.ask(|| session.api.all_nodes(&ours)).await?;
    let node = pick(&nodes, id)?;
    let question = format!("Let machine {} offer nothing more? Its jobs go on to their end. [y/N] ", node.id.short());
    if !app.yes && session.out.ask(&question).is_some_and(|answer| !matches!(answer.as_str(), "y" | "yes")) {
        return Err(Failure::new("declined", "nothing was changed"));
    }
    let tx = session.submit(vec![Action::Market(MarketAction::DismissNode { node: node.id })]).await?;
    session.out.either(&serde_json::json!({"transaction": tx, "node": node.id}), || {
        format!(
            "machine {} offers nothing more\ntake it back, on the machine itself and with your key:  farm up\n\
             whoever has a fleet's code can still add others; take it back:  farm account grants",
            node.id.short()
        )
    });
    Ok(Exit::Ok)
}

fn pick<'a>(nodes: &'a [NodeView], id: &str) -> Result<&'a NodeView, Failure> {
    let id = id.to_ascii_lowercase();
    if id.len() < SHORTEST_ID {
        return Err(Failure::usage(format!("`{id}` is too short: write at least {SHORTEST_ID} digits of the machine's id")));
    }
    let fits: Vec<&NodeView> = nodes.iter().filter(|n| n.id.to_string().starts_with(&id)).collect();
    match fits.as_slice() {
        [one] => Ok(one),
        [] => Err(Failure::new("no-such-machine", format!("no machine of your account begins with {id}"))
            .next("see them:  farm provider machines")),
        several => Err(Failure::usage(format!("{} begin with {id}: write more of it", count(several.len() as u64, "machine")))),
    }
}
