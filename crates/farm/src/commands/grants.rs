//! `farm invite` and the parts of `farm account` that lend rights: invites, grants, claiming, taking back.
//!
//! Guarantees: an invite's code is shown once, after the network knows the invite; its secret is kept nowhere. An account
//! is opened with a code only where it does not exist yet, so that no code is used up for nothing.

use crate::args::{GrantArgs, InviteArgs, InviteCommand};
use crate::exit::{Exit, Failure, Outcome};
use crate::render::Table;
use crate::render::number::{count, credits, duration};
use crate::session::{App, Door, Session, random};
use pasture_api::{AccountView, GrantView, invite};
use pasture_net::{Ticket, TicketError};
use pasture_types::grant::{ActionKind, Budget, GrantAction, GrantTerms, GrantUse, InviteCode, MAX_GRANT_LIFE, grant_id};
use pasture_types::spec::parse_duration;
use pasture_types::tx::Action;
use pasture_types::{AccountId, Amount, AssetId, GrantId, Millis, PublicKey, SigningKey, Timestamp, keys};

/// Shortest beginning of an id that is taken for the whole.
const SHORTEST_ID: usize = 4;
/// How often a watcher's grant is looked at anew when others changed it meanwhile: so many jobs begin at the same moment.
const GRANT_TRIES: u32 = 16;
/// What a grant may allow, by name: the stable numbers of the actions.
const KINDS: [(&str, ActionKind); 8] = [
    ("deposit", kind(3)),
    ("offer", kind(4)),
    ("withdraw-offer", kind(5)),
    ("order", kind(6)),
    ("cancel", kind(7)),
    ("close", kind(12)),
    ("extend", kind(14)),
    ("transfer", kind(15)),
];

/// The kind of an action that stands alone in the encoding.
const fn kind(number: u8) -> ActionKind {
    ActionKind((number as u16) << 8)
}

/// `farm invite`.
pub(crate) async fn invite(app: &App, args: &InviteArgs) -> Outcome {
    match &args.command {
        None => make(app, &args.credits, &args.expires).await,
        Some(InviteCommand::List) => list(app, Show::Invites).await,
        Some(InviteCommand::Revoke { id }) => revoke(app, id, Show::Invites).await,
    }
}

/// `farm account grants`.
pub(crate) async fn grants(app: &App) -> Outcome {
    list(app, Show::All).await
}

/// `farm account revoke`.
pub(crate) async fn take_back(app: &App, id: &str) -> Outcome {
    revoke(app, id, Show::All).await
}

/// Which grants are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Show {
    Invites,
    All,
}

impl Show {
    fn covers(self, grant: &GrantView) -> bool {
        self == Self::All || grant.may == GrantUse::Invite
    }
    const fn noun(self) -> &'static str {
        match self {
            Self::Invites => "invite",
            Self::All => "grant",
        }
    }
}

/// Credits and expiry of a grant, as they were written.
fn bounds(amount: &str, expires: &str, now: Timestamp) -> Result<(Budget, Timestamp), Failure> {
    let amount: Amount = match amount.parse() {
        Ok(Amount::ZERO) => return Err(Failure::usage("--credits: 0 credits are nothing to give; write how many")),
        Ok(amount) => amount,
        Err(e) => return Err(Failure::usage(format!("--credits: {e}"))),
    };
    let life = parse_duration(expires).map_err(|e| Failure::usage(format!("--expires: {e}")))?;
    if life > MAX_GRANT_LIFE {
        return Err(Failure::usage(format!("--expires: at most {}", duration(MAX_GRANT_LIFE))));
    }
    Ok((Budget { asset: AssetId::CREDIT, amount }, now.plus(life)))
}

/// Puts a grant on the ledger.
async fn create(session: &Session, terms: GrantTerms) -> Result<GrantId, Failure> {
    let tx = session.submit(vec![Action::Grant(GrantAction::Create { terms: Box::new(terms) })]).await?;
    Ok(grant_id(&tx, 0))
}

/// What lets a watcher's word count for jobs of this account: a grant for its key, none where one stands that is enough. An account has one
/// grant for each watcher, so that a larger one takes the place of the old and carries what that had left for earlier jobs.
/// `most`: how much it may confirm in all; `life`: for how long.
pub(crate) async fn let_watch(
    session: &Session,
    watcher: AccountId,
    asset: AssetId,
    most: Amount,
    life: Millis,
) -> Result<Vec<Action>, Failure> {
    let account = session.ask(|| session.api.account(&watcher)).await.map_err(|e| match Failure::from(e) {
        f if f.is_unreachable() => f,
        f => Failure::new("no-such-watcher", format!("the network does not know {watcher}: {}", f.message))
            .next("a watcher is an account; whoever watches shows it with:  farm account"),
    })?;
    let may = GrantUse::Watch { watcher };
    let mut standing = session.api.grants(&session.account()).await?;
    standing.retain(|g| g.may == may);
    let expires = session.time().plus(life.min(MAX_GRANT_LIFE));
    let enough = |g: &GrantView| {
        let covers = asset == AssetId::CREDIT && g.left >= most && g.expires >= expires;
        !g.void && account.keys.contains(&g.key) && covers
    };
    if standing.iter().any(enough) {
        return Ok(vec![]);
    }
    let text = account.keys.first().ok_or_else(|| Failure::new("no-such-watcher", format!("{watcher} has no key to confirm with")))?;
    let key = keys::parse_public_key(text).map_err(|e| Failure::new("unexpected-answer", e.to_string()))?;
    let left = standing.iter().filter(|g| !g.void).fold(Amount::ZERO, |sum, g| sum.saturating_add(g.left));
    let ends = standing.iter().filter(|g| !g.void).map(|g| g.expires).fold(expires, Timestamp::max);
    let budget = match asset {
        AssetId::CREDIT => vec![Budget { asset, amount: most.saturating_add(left) }],
        _ if left.is_zero() => vec![Budget { asset, amount: most }],
        _ => vec![Budget { asset: AssetId::CREDIT, amount: left }, Budget { asset, amount: most }],
    };
    let terms = GrantTerms { key, may, budget, expires: ends };
    let mut actions: Vec<Action> = standing.iter().map(|g| Action::Grant(GrantAction::Revoke { grant: g.id })).collect();
    actions.push(Action::Grant(GrantAction::Create { terms: Box::new(terms) }));
    Ok(actions)
}

/// Does what changes the grant of a watcher, again where another command of ours changed it meanwhile: jobs that begin at the same time
/// share the one grant, and all but one of them find another than they have looked at.
pub(crate) async fn unless_overtaken<T>(watched: bool, mut change: impl AsyncFnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let mut tries = if watched { GRANT_TRIES } else { 1 };
    loop {
        tries -= 1;
        match change().await {
            // The grant to be replaced is not there any more, or there is one already.
            Err(failure) if tries > 0 && matches!(failure.code.as_str(), "ledger-40" | "ledger-41") => {}
            other => return other,
        }
    }
}

async fn make(app: &App, amount: &str, expires: &str) -> Outcome {
    let session = Session::open(app).await?;
    let now = session.time();
    let (budget, expires) = bounds(amount, expires, now)?;
    let view = session.ensure_account().await?;
    if view.balance < budget.amount {
        return Err(Failure::new(
            "balance-too-small",
            format!("an invite of {} cr, but you have {} cr to give", credits(budget.amount), credits(view.balance)),
        )
        .next("invite with less:  farm invite --credits 1"));
    }
    let seed = random::<32>()?;
    let key = SigningKey::from_seed(seed).public();
    let grant = create(&session, GrantTerms { key, may: GrantUse::Invite, budget: vec![budget], expires }).await?;
    let code = code(&session, InviteCode { zone: session.status.zone, grant, account: session.account(), seed }).await?;
    let value = serde_json::json!({"code": code, "id": grant, "credits": budget.amount, "expires": expires});
    session.out.either(&value, || {
        format!(
            "{code}\n\ninvite {} of {} cr, good for {}; nothing is put on hold for it\n\
             whoever has the code can take them: send it to one person, who runs  {}\n\
             take it back:  farm invite revoke {}",
            grant.short(),
            credits(budget.amount),
            duration(expires.since(now)),
            if Ticket::parse(&code).is_ok() { "farm join CODE" } else { "farm account claim CODE" },
            grant.short()
        )
    });
    Ok(Exit::Ok)
}

/// What a grant is for, in a few words.
fn purpose(may: &GrantUse) -> String {
    match may {
        GrantUse::Invite => "invite".into(),
        GrantUse::Enroll { nodes } => format!("adding {}", count(u64::from(*nodes), "machine")),
        GrantUse::Watch { watcher } => format!("watcher {}", watcher.short()),
        GrantUse::Act { kinds, .. } => {
            let name =
                |k: &ActionKind| KINDS.iter().find(|(_, n)| n == k).map_or_else(|| format!("action {}", k.0), |(name, _)| (*name).into());
            kinds.iter().map(name).collect::<Vec<String>>().join(", ")
        }
    }
}

async fn list(app: &App, show: Show) -> Outcome {
    let session = Session::open(app).await?;
    let found: Vec<GrantView> = mine(&session, show).await?;
    session.out.either(&found, || {
        if found.is_empty() {
            return format!("no {} stands", show.noun());
        }
        let mut table = Table::new(&["ID", "FOR", "LEFT", "OF", "ENDS IN"]);
        for g in &found {
            let all = g.budget.iter().find(|b| b.asset == AssetId::CREDIT).map(|b| b.amount).unwrap_or_default();
            let ends = if g.void { "void: the account's keys changed".into() } else { duration(g.expires.since(session.time())) };
            table.row([g.id.short(), purpose(&g.may), format!("{} cr", credits(g.left)), format!("{} cr", credits(all)), ends]);
        }
        table.text()
    });
    Ok(Exit::Ok)
}

async fn mine(session: &Session, show: Show) -> Result<Vec<GrantView>, Failure> {
    let mut found = session.api.grants(&session.account()).await?;
    found.retain(|g| show.covers(g));
    found.sort_by_key(|g| (g.expires, g.id));
    Ok(found)
}

/// The one grant whose id begins like this.
fn pick<'a>(found: &'a [GrantView], id: &str, noun: &str) -> Result<&'a GrantView, Failure> {
    let id = id.to_ascii_lowercase();
    if id.len() < SHORTEST_ID {
        return Err(Failure::usage(format!("`{id}` is too short: write at least {SHORTEST_ID} digits of the {noun}'s id")));
    }
    let fits: Vec<&GrantView> = found.iter().filter(|g| g.id.to_string().starts_with(&id)).collect();
    match fits.as_slice() {
        [one] => Ok(one),
        [] => Err(Failure::new("no-such-grant", format!("no {noun} of yours begins with {id}: it was used, has expired, or never was"))),
        several => Err(Failure::usage(format!("{} begin with {id}: write more of it", count(several.len() as u64, noun)))),
    }
}

async fn revoke(app: &App, id: &str, show: Show) -> Outcome {
    let session = Session::open(app).await?;
    let found = mine(&session, show).await?;
    let grant = pick(&found, id, show.noun())?;
    let tx = session.submit(vec![Action::Grant(GrantAction::Revoke { grant: grant.id })]).await?;
    let value = serde_json::json!({"transaction": tx, "id": grant.id});
    session.out.either(&value, || format!("{} {} is taken back", show.noun(), grant.id.short()));
    Ok(Exit::Ok)
}

/// What the invited one needs: where the network lets in whoever has a ticket, a ticket with the invite in it.
async fn code(session: &Session, invite: InviteCode) -> Result<String, Failure> {
    let unreadable = |e: TicketError| Failure::new("unexpected-answer", format!("the gateway's ticket cannot be read: {e}"));
    match session.api.ticket().await {
        Ok(shown) => {
            let ticket = Ticket::parse(&shown.ticket).map_err(unreadable)?;
            Ok(Ticket { invite: Some(invite), ..ticket }.to_text())
        }
        Err(e) if e.problem().is_some_and(|p| p.status == 404) => Ok(invite.to_text()),
        Err(e) => Err(e.into()),
    }
}

/// `farm account claim`.
pub(crate) async fn claim(app: &App, code: &str) -> Outcome {
    let code = InviteCode::parse(code).map_err(|e| Failure::usage(e.to_string()))?;
    let view = open_with(app, &code).await?;
    app.out.either(&view, || is_open(&view));
    Ok(Exit::Ok)
}

/// That an account is open, and what it has.
pub(crate) fn is_open(view: &AccountView) -> String {
    format!("account {} is open with {} cr", view.id, credits(view.balance))
}

/// Opens our account with an invite.
pub(crate) async fn open_with(app: &App, code: &InviteCode) -> Result<AccountView, Failure> {
    let session = Session::open(app).await?;
    if code.zone != session.status.zone {
        return Err(Failure::new(
            "other-network",
            format!("this invite is for network {}, not {}", code.zone.short(), session.status.zone.short()),
        )
        .next("choose the network it is for:  farm context use NAME"));
    }
    if session.api.account(&session.account()).await.is_ok() {
        return Err(Failure::new("account-exists", "your account is open already, and an invite is for opening one")
            .next("ask for the credits themselves; your account is shown by  farm account"));
    }
    let grant = session.api.grant(&code.grant).await.map_err(|e| match e.problem() {
        Some(p) if p.status == 404 => {
            Failure::new("no-such-invite", "this invite was used, taken back, or has expired").next("ask for a new one")
        }
        _ => e.into(),
    })?;
    let key = session.owner("an account is opened with its own key")?;
    session.deliver(&invite::claim(code, &grant, &key, session.max_fee(), session.time()), Door::Everybody).await?;
    Ok(session.api.account(&session.account()).await?)
}

/// `farm account grant`.
pub(crate) async fn grant(app: &App, args: &GrantArgs) -> Outcome {
    let may = GrantUse::Act {
        kinds: kinds(&args.allow)?,
        recipients: recipients(&args.to)?,
        max_rate_per_hour: rate(args.max_price.as_deref())?,
    };
    let key: PublicKey = keys::parse_public_key(&args.key).map_err(|_| {
        Failure::usage(format!("--key: `{}` is not a public key: write ed25519: or secp256k1: and its hex digits", args.key))
    })?;
    let session = Session::open(app).await?;
    let now = session.time();
    let (budget, expires) = bounds(&args.credits, &args.expires, now)?;
    session.ensure_account().await?;
    let id = create(&session, GrantTerms { key, may: may.clone(), budget: vec![budget], expires }).await?;
    let value = serde_json::json!({"id": id, "account": session.account(), "may": may, "credits": budget.amount, "expires": expires});
    session.out.either(&value, || {
        format!(
            "grant {id}\nthe key may {} for you, spending at most {} cr, fees included, for {}\ntake it back:  farm account revoke {}",
            purpose(&may),
            credits(budget.amount),
            duration(expires.since(now)),
            id.short()
        )
    });
    Ok(Exit::Ok)
}

fn kinds(names: &[String]) -> Result<Vec<ActionKind>, Failure> {
    let known = || KINDS.map(|(name, _)| name).join(", ");
    let mut out = names
        .iter()
        .map(|name| {
            let found = KINDS.iter().find(|(known, _)| known == name).map(|(_, kind)| *kind);
            found.ok_or_else(|| Failure::usage(format!("--allow: `{name}` cannot be granted by name; one of {}", known())))
        })
        .collect::<Result<Vec<_>, _>>()?;
    out.sort_unstable();
    out.dedup();
    Ok(out)
}

fn recipients(ids: &[String]) -> Result<Vec<AccountId>, Failure> {
    let parse = |id: &String| id.parse::<AccountId>().map_err(|e| Failure::usage(format!("--to: {e}")));
    let mut out = ids.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    out.sort_unstable();
    out.dedup();
    Ok(out)
}

fn rate(text: Option<&str>) -> Result<Option<Amount>, Failure> {
    text.map(|t| t.parse().map_err(|e| Failure::usage(format!("--max-price: {e}")))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::tx::Action;
    use pasture_types::{LeaseId, Millis, OfferId, OrderId};

    fn view(id: u8, may: GrantUse) -> GrantView {
        GrantView {
            id: GrantId([id; 32]),
            account: AccountId([1; 32]),
            key: String::new(),
            may,
            budget: vec![],
            spent: vec![],
            left: Amount::ZERO,
            expires: Timestamp(0),
            void: false,
            lanes: vec![],
        }
    }

    #[test]
    fn names_are_the_kinds_of_the_ledger() {
        let of = |name: &str| kinds(&[name.to_string()]).unwrap()[0];
        let (order, lease, offer) = (OrderId::default(), LeaseId::default(), OfferId::default());
        let (amount, duration) = (Amount::ZERO, Millis(1));
        assert_eq!(of("deposit"), ActionKind::of(&Action::Stake { amount }));
        assert_eq!(of("withdraw-offer"), ActionKind::of(&Action::WithdrawOffer { offer }));
        assert_eq!(of("cancel"), ActionKind::of(&Action::CancelOrder { order }));
        assert_eq!(of("extend"), ActionKind::of(&Action::Extend { lease, duration }));
        let reason = pasture_types::lease::EndReason::StoppedByUser;
        assert_eq!(of("close"), ActionKind::of(&Action::CloseLease { lease, reason }));
        assert_eq!(of("transfer"), ActionKind::of(&Action::Transfer { to: AccountId([0; 32]), asset: AssetId::CREDIT, amount }));
        assert_eq!(kinds(&["keys".into()]).unwrap_err().exit, Exit::Usage);
        assert_eq!(kinds(&["transfer".into(), "order".into(), "transfer".into()]).unwrap().len(), 2);
    }

    #[test]
    fn an_id_is_found_by_its_beginning() {
        let found = [view(0xab, GrantUse::Invite), view(0xac, GrantUse::Invite)];
        assert_eq!(pick(&found, "ABAB", "invite").unwrap().id, found[0].id);
        assert_eq!(pick(&found, "aba", "invite").unwrap_err().exit, Exit::Usage);
        assert_eq!(pick(&found, "ffff", "invite").unwrap_err().code, "no-such-grant");
        let act = view(1, GrantUse::Act { kinds: vec![kind(15)], recipients: vec![], max_rate_per_hour: None });
        assert!(!Show::Invites.covers(&act) && Show::All.covers(&act));
        assert_eq!(purpose(&act.may), "transfer");
    }

    #[test]
    fn bounds_make_sense() {
        let now = Timestamp(1_000);
        assert_eq!(bounds("5", "7d", now).unwrap().1, now.plus(Millis(7 * 86_400_000)));
        for (amount, expires) in [("0", "7d"), ("much", "7d"), ("5", "soon"), ("5", "400d")] {
            assert_eq!(bounds(amount, expires, now).unwrap_err().exit, Exit::Usage, "{amount} {expires}");
        }
    }
}
