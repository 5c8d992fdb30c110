//! `farm keys`: the main key, locked or not; this device's key and its daily limit; copies; taking a lost device's right back.
//!
//! Guarantees: a key file is replaced as a whole, and only once the new one was read back and opened; no key is lost by a command here:
//! what `restore --force` replaces is kept. Without a network the main key can be locked and unlocked all the same.

use crate::args::{KeysArgs, KeysCommand};
use crate::device::Standing;
use crate::exit::{Exit, Failure, Outcome};
use crate::keyring::{DEFAULT_DAILY, Device, Keyring, open};
use crate::passphrase::Asker;
use crate::render::Table;
use crate::render::number::{credits, duration};
use crate::session::{App, Session};
use pasture_api::GrantView;
use pasture_store::locked::{self, KeyFile, LockError, LockedKey};
use pasture_types::grant::{GrantAction, GrantUse};
use pasture_types::tx::{Action, MAX_ACTIONS};
use pasture_types::{Amount, GrantId, SigningKey};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;

/// Shortest beginning of a key or an id that is taken for the whole.
const SHORTEST: usize = 4;
/// What a copy says of itself to whoever finds it.
const REMARKS: [&str; 3] = [
    "Pasture: an encrypted copy of the main key of an account. It opens with the passphrase that it was made with, and with nothing else.",
    "Use it:  farm keys restore FILE",
    "Keep it where a thief of your computer does not find it, and its passphrase elsewhere.",
];

/// Runs the command.
pub(crate) async fn run(app: &App, args: &KeysArgs) -> Outcome {
    match args.command.as_ref().unwrap_or(&KeysCommand::List) {
        KeysCommand::List => list(app).await,
        KeysCommand::Lock { daily } => lock(app, limit(daily.as_deref())?).await,
        KeysCommand::Unlock => unlock(app).await,
        KeysCommand::Passphrase { new_passphrase_file } => passphrase(app, new_passphrase_file.as_deref()),
        KeysCommand::Device { daily } => device(app, limit(daily.as_deref())?).await,
        KeysCommand::Backup { file } => backup(app, file),
        KeysCommand::Restore { file, force } => restore(app, file, *force),
        KeysCommand::Revoke { which } => revoke(app, which).await,
    }
}

fn limit(text: Option<&str>) -> Result<Option<Amount>, Failure> {
    match text.map(str::parse::<Amount>) {
        None => Ok(None),
        Some(Ok(Amount::ZERO)) => Err(Failure::usage("--daily: with 0 credits a device can do nothing; write how many")),
        Some(Ok(amount)) => Ok(Some(amount)),
        Some(Err(e)) => Err(Failure::usage(format!("--daily: {e}"))),
    }
}

fn asker(app: &App) -> Asker {
    Asker::new(app.out, &app.env)
}

/// The keys as they lie there now, after this command changed them.
fn again(app: &App) -> App {
    App { keyring: Arc::default(), ..app.clone() }
}

fn unable(error: &LockError) -> Failure {
    Failure::new("internal", error.to_string())
}

/// Locks a seed and makes sure that it opens again, before anything relies on that.
fn locked(seed: &[u8; 32], passphrase: &[u8]) -> Result<LockedKey, Failure> {
    let made = LockedKey::lock(seed, passphrase).map_err(|e| unable(&e))?;
    let read = LockedKey::parse(&made.to_text()).and_then(|k| k.open(passphrase)).map_err(|e| unable(&e))?;
    if *read == *seed { Ok(made) } else { Err(Failure::new("internal", "the locked key does not open to what was locked")) }
}

async fn lock(app: &App, daily: Option<Amount>) -> Outcome {
    let path = app.paths.account_key();
    let ring = app.keyring()?;
    if ring.is_locked() {
        app.out.note("your main key is locked already; change its passphrase:  farm keys passphrase");
        return Ok(Exit::Ok);
    }
    let Some(KeyFile::Plain(seed)) = locked::load(&path)? else { return Err(Failure::new("internal", "the key changed meanwhile")) };
    let main = SigningKey::from_seed(*seed);
    let passphrase = asker(app).choose("your main key")?;
    // The device's key first: if we end in between, the main key lies there as before.
    let device = Device::make(&main, daily.unwrap_or(DEFAULT_DAILY))?;
    device.save(&app.paths.device_key())?;
    locked::save(&path, &KeyFile::Locked(locked(&seed, &passphrase)?))?;
    drop((seed, passphrase));
    app.out.note("your main key is locked. There is no way to it without the passphrase: keep a copy:  farm keys backup FILE");
    grant(&again(app), &main, &device).await
}

/// Gives the device its right where a network answers; otherwise the first command there asks.
async fn grant(app: &App, main: &SigningKey, device: &Device) -> Outcome {
    let given = match Session::open(app).await {
        Ok(session) => give(&session, main, device).await,
        Err(failure) => Err(failure),
    };
    if let Err(failure) = given {
        app.out.note(&format!("! this device has no right on the network yet: {}", failure.message));
        app.out.note("  the first command there asks for the passphrase and gives it one");
    }
    list(app).await
}

async fn give(session: &Session, main: &SigningKey, device: &Device) -> Result<(), Failure> {
    let ours = session.account();
    session.ask(|| session.api.account(&ours)).await?;
    let standing = session.standing(device).await?;
    session.renew(device, main, &standing).await
}

async fn unlock(app: &App) -> Outcome {
    let ring = app.keyring()?;
    let (Some(locked), Some(device)) = (ring.locked(), ring.device()) else {
        app.out.note("your main key is not locked; lock it:  farm keys lock");
        return Ok(Exit::Ok);
    };
    let (seed, _) = open(app.out, &asker(app), locked, "main key", "unlocking your main key")?;
    locked::save(&app.paths.account_key(), &KeyFile::Plain(seed))?;
    app.out.note("your main key lies open in its file again: whoever can read your files has it");
    // Its right ends by itself within a day; better now.
    let taken = match Session::open(&again(app)).await {
        Ok(session) => take(&session, device).await,
        Err(failure) => Err(failure),
    };
    match taken {
        Ok(()) => remove(&app.paths.device_key())?,
        Err(failure) => app.out.note(&format!("! this device's right stands until its day is over: {}", failure.message)),
    }
    list(&again(app)).await
}

async fn take(session: &Session, device: &Device) -> Result<(), Failure> {
    let standing = session.standing(device).await?;
    if !standing.all.is_empty() {
        session.submit(revoking(&standing.all)).await?;
    }
    Ok(())
}

fn revoking(grants: &[GrantId]) -> Vec<Action> {
    grants.iter().map(|grant| Action::Grant(GrantAction::Revoke { grant: *grant })).collect()
}

fn remove(path: &Path) -> Result<(), Failure> {
    std::fs::remove_file(path).map_err(|e| Failure::io("remove", path, &e))
}

fn passphrase(app: &App, new: Option<&Path>) -> Outcome {
    let Some(old) = app.keyring()?.locked() else {
        return Err(Failure::usage("your main key is not locked, so it has no passphrase").next("lock it:  farm keys lock"));
    };
    let asker = asker(app);
    let (seed, _) = open(app.out, &asker, old, "main key", "changing its passphrase: first the one that it has")?;
    if new.is_none() && !asker.is_person() {
        return Err(Failure::usage("name the file with the new passphrase:  --new-passphrase-file FILE"));
    }
    let chosen = asker.with_file(new).choose("your main key")?;
    locked::save(&app.paths.account_key(), &KeyFile::Locked(locked(&seed, &chosen)?))?;
    app.out.note("the passphrase is changed; copies that you made before still open with the old one");
    Ok(Exit::Ok)
}

async fn device(app: &App, daily: Option<Amount>) -> Outcome {
    let ring = app.keyring()?;
    let Some(known) = ring.device() else {
        return Err(
            Failure::usage("your main key is not locked, so this device signs with it and has no limit").next("lock it:  farm keys lock")
        );
    };
    let main = ring.main("a device's limit is set by the account itself")?;
    let changed = known.with_daily(daily.unwrap_or(known.daily));
    changed.save(&app.paths.device_key())?;
    let app = again(app);
    let session = Session::open(&app).await?;
    give(&session, &main, &changed).await?;
    list(&app).await
}

fn backup(app: &App, file: &Path) -> Outcome {
    let ring = app.keyring()?;
    let copy = match ring.locked() {
        Some(locked) => locked.clone(),
        None => {
            let Some(KeyFile::Plain(seed)) = locked::load(&app.paths.account_key())? else {
                return Err(Failure::new("internal", "the key changed meanwhile"));
            };
            locked(&seed, &asker(app).choose("the copy")?)?
        }
    };
    let account = format!("Account {}.", ring.account());
    locked::write_copy(file, &copy, &[REMARKS[0], &account, REMARKS[1], REMARKS[2]])?;
    let opens = if ring.is_locked() { "the passphrase that your main key has now" } else { "the passphrase that you chose for it" };
    app.out.note(&format!("{} is an encrypted copy of your main key; it opens with {opens}", file.display()));
    Ok(Exit::Ok)
}

fn restore(app: &App, file: &Path, force: bool) -> Outcome {
    let copy = locked::read_copy(file)?;
    let path = app.paths.account_key();
    app.paths.ensure_data_dir()?;
    // Looked at without making one.
    let here = match locked::load(&path) {
        Ok(here) => here.map(|k| k.public()),
        Err(_) if force => None,
        Err(e) => return Err(Failure::from(e).next("put the copy in its place all the same:  farm keys restore FILE --force")),
    };
    let another = here.is_some_and(|public| public != copy.public());
    if another && !force {
        let account = here.map(|p| p.account().short()).unwrap_or_default();
        return Err(Failure::new(
            "other-key",
            format!("the key of account {account} is here, and the copy is another key; nothing was done"),
        )
        .next("keep a copy of the one that is here:  farm keys backup FILE")
        .next("then replace it:  farm keys restore FILE --force"));
    }
    let (seed, _) = open(app.out, &asker(app), &copy, "copy", "taking your main key from a copy")?;
    if path.exists() && (another || here.is_none()) {
        let kept = set_aside(&path)?;
        app.out.note(&format!("the key that was here lies in {} now", kept.display()));
    }
    locked::save(&path, &KeyFile::Locked(copy.clone()))?;
    let main = SigningKey::from_seed(*seed);
    let fits = Device::load(&app.paths.device_key()).ok().flatten().is_some_and(|d| d.account == main.account());
    if !fits {
        Device::make(&main, DEFAULT_DAILY)?.save(&app.paths.device_key())?;
    }
    app.out.note(&format!(
        "the key of account {} is here, locked; the next command that needs this device's right asks for the passphrase",
        main.account().short()
    ));
    Ok(Exit::Ok)
}

/// Renames a file to a name beside it that nothing has.
fn set_aside(path: &Path) -> Result<std::path::PathBuf, Failure> {
    /// More than anybody replaces.
    const MOST: u32 = 1000;
    let free = (1..MOST).map(|n| path.with_extension(format!("key.replaced-{n}"))).find(|p| !p.exists());
    let free = free.ok_or_else(|| Failure::new("files", format!("too many replaced keys lie beside {}", path.display())))?;
    std::fs::rename(path, &free).map_err(|e| Failure::io("rename", path, &e))?;
    Ok(free)
}

/// What grants let one key do, as a device or a watcher of the user's own.
fn meant<'a>(grants: &'a [GrantView], which: &str) -> Result<Vec<&'a GrantView>, Failure> {
    let which = which.to_ascii_lowercase();
    let digits = which.strip_prefix("ed25519:").unwrap_or(&which);
    if digits.len() < SHORTEST {
        return Err(Failure::usage(format!("`{which}` is too short: write at least {SHORTEST} digits of the device's key or grant")));
    }
    let of_device = |g: &&GrantView| !matches!(g.may, GrantUse::Invite);
    let key = |g: &GrantView| g.key.split_once(':').map_or(g.key.clone(), |(_, hex)| hex.to_owned());
    let fits = |g: &&GrantView| g.id.to_string().starts_with(digits) || key(g).starts_with(digits);
    let mut keys: Vec<&str> = grants.iter().filter(of_device).filter(fits).map(|g| g.key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    match keys.as_slice() {
        [one] => Ok(grants.iter().filter(of_device).filter(|g| g.key == *one).collect()),
        [] => {
            Err(Failure::new("no-such-key", format!("no right of yours is lent to a key or stands in a grant that begins with {digits}"))
                .next("see which are:  farm keys"))
        }
        _ => Err(Failure::usage(format!("several keys or grants begin with {digits}: write more of it"))),
    }
}

async fn revoke(app: &App, which: &str) -> Outcome {
    let ring = app.keyring()?.clone();
    let session = Session::open(app).await?;
    let grants = session.api.grants(&session.account()).await?;
    let this = ring.device().map(|d| d.key().public().to_string());
    let wanted = match (which, &this) {
        ("this", Some(key)) => key.as_str(),
        ("this", None) => return Err(Failure::usage("this device signs with your main key; there is no right to take back")),
        (other, _) => other,
    };
    let found = meant(&grants, wanted)?;
    let key = found.first().map(|g| g.key.clone()).unwrap_or_default();
    let ids: Vec<GrantId> = found.iter().map(|g| g.id).collect();
    let main = session.owner("rights are taken back by the account itself")?;
    // The right itself first, whatever becomes of the rest.
    let tx = session.submit(revoking(&ids)).await?;
    if let Ok(public) = pasture_types::keys::parse_public_key(&key) {
        for some in session.dismissing(&public).await?.chunks(MAX_ACTIONS) {
            session.submit_by_owner(some.to_vec(), &main).await?;
        }
    }
    // Whoever has this device's key shall not have it renewed with the next passphrase.
    if this.as_ref() == Some(&key)
        && let Some(device) = ring.device()
    {
        Device::make(&main, device.daily)?.save(&app.paths.device_key())?;
    }
    let value = serde_json::json!({"transaction": tx, "key": key, "grants": ids});
    session.out.either(&value, || {
        let this = if this.as_ref() == Some(&key) { "\nthis device has a new key; the next command asks for the passphrase" } else { "" };
        format!("{key} has no right of your account any more; machines learn it within seconds{this}")
    });
    Ok(Exit::Ok)
}

// ---- showing ---------------------------------------------------------------------------------------------------------

/// The main key, for programs.
#[derive(Serialize)]
struct MainView {
    key: String,
    account: pasture_types::AccountId,
    file: String,
    locked: bool,
}

/// A key that has a right of the account.
#[derive(Serialize)]
struct DeviceView {
    key: String,
    this: bool,
    grant: Option<GrantId>,
    daily: Option<Amount>,
    left: Option<Amount>,
    expires: Option<pasture_types::Timestamp>,
    confirms: Option<GrantId>,
}

#[derive(Serialize)]
struct KeysView {
    main: MainView,
    devices: Vec<DeviceView>,
    /// Why nothing is known of rights.
    unknown: Option<String>,
}

/// Who has a device's right, and this device.
fn devices(grants: &[GrantView], ring: &Keyring, now: pasture_types::Timestamp) -> Vec<DeviceView> {
    let this = ring.device().map(|d| (d.key().public().to_string(), d));
    let mut out: Vec<DeviceView> = vec![];
    let is_device =
        |g: &&GrantView| pasture_types::keys::parse_public_key(&g.key).is_ok_and(|key| pasture_api::delegate::stands_in(g, &key, now));
    for grant in grants.iter().filter(is_device) {
        let confirms = grants.iter().find(|g| g.key == grant.key && matches!(g.may, GrantUse::Watch { .. })).map(|g| g.id);
        out.push(DeviceView {
            key: grant.key.clone(),
            this: this.as_ref().is_some_and(|(key, _)| *key == grant.key),
            grant: Some(grant.id),
            daily: grant.budget.first().map(|b| b.amount),
            left: Some(grant.left),
            expires: Some(grant.expires),
            confirms,
        });
    }
    if let Some((key, device)) = this
        && !out.iter().any(|d| d.this)
    {
        let confirms = Standing::of(device, grants.to_vec(), now).watch.map(|g| g.id);
        out.push(DeviceView { key, this: true, grant: None, daily: Some(device.daily), left: None, expires: None, confirms });
    }
    out.sort_by_key(|d| !d.this);
    out
}

async fn list(app: &App) -> Outcome {
    let ring = app.keyring()?;
    let looked = async {
        let session = Session::open(app).await?;
        let grants = session.api.grants(&session.account()).await.map_err(Failure::from)?;
        Ok::<_, Failure>((grants, session.time()))
    };
    let (grants, now, unknown) = match looked.await {
        Ok((grants, now)) => (grants, now, None),
        Err(failure) => (vec![], pasture_types::Timestamp(0), Some(failure.message)),
    };
    let view = KeysView {
        main: MainView {
            key: ring.public().to_string(),
            account: ring.account(),
            file: app.paths.account_key().display().to_string(),
            locked: ring.is_locked(),
        },
        devices: devices(&grants, ring, now),
        unknown,
    };
    app.out.either(&view, || text(&view, now));
    Ok(Exit::Ok)
}

fn text(view: &KeysView, now: pasture_types::Timestamp) -> String {
    let mut table = Table::pairs();
    table.row(["account".into(), view.main.account.to_string()]);
    table.row(["main key".into(), view.main.key.clone()]);
    let state = if view.main.locked { "locked: opens with its passphrase" } else { "not locked: whoever can read the file has it" };
    table.row(["  file".into(), format!("{}, {state}", view.main.file)]);
    for device in &view.devices {
        table.row([if device.this { "this device" } else { "a device" }.into(), device.key.clone()]);
        let daily = device.daily.map(credits).unwrap_or_default();
        let may = match (&device.left, &device.expires) {
            (Some(left), Some(expires)) => format!("{} of {daily} cr left for {}", credits(*left), duration(expires.since(now))),
            _ => format!("none now; the next command asks for the passphrase and gives it {daily} cr for a day"),
        };
        table.row(["  right".into(), may]);
        if let Some(grant) = &device.grant {
            table.row(["  grant".into(), grant.short()]);
        }
    }
    let said = match &view.unknown {
        Some(why) => format!("\n\nwhat is left, and which other devices there are, is not known now: {why}"),
        None if !view.main.locked => "\n\nlock it:  farm keys lock".into(),
        None => String::new(),
    };
    table.text() + &said
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::{AccountId, Timestamp};

    fn grant(id: u8, key: &str, may: GrantUse) -> GrantView {
        GrantView {
            id: GrantId([id; 32]),
            account: AccountId([9; 32]),
            key: key.into(),
            may,
            budget: vec![],
            spent: vec![],
            left: Amount::ZERO,
            expires: Timestamp(10),
            void: false,
            lanes: vec![],
        }
    }

    #[test]
    fn a_device_is_meant_by_its_key_or_any_of_its_grants() {
        let watch = GrantUse::Watch { watcher: AccountId([1; 32]) };
        let act = GrantUse::Act { kinds: vec![], recipients: vec![], max_rate_per_hour: None };
        let all = [
            grant(0xaa, "ed25519:1234aa", act.clone()),
            grant(0xbb, "ed25519:1234aa", watch),
            grant(0xcc, "ed25519:1235bb", act),
            grant(0xdd, "ed25519:77777777", GrantUse::Invite),
        ];
        let ids = |which: &str| meant(&all, which).map(|g| g.iter().map(|g| g.id.0[0]).collect::<Vec<u8>>());
        assert_eq!(ids("ed25519:1234").unwrap(), [0xaa, 0xbb]);
        assert_eq!(ids("BBBB").unwrap(), [0xaa, 0xbb]);
        assert_eq!(ids("cccc").unwrap(), [0xcc]);
        assert_eq!(ids("123").unwrap_err().exit, Exit::Usage);
        assert_eq!(ids("7777").unwrap_err().code, "no-such-key");
    }

    #[test]
    fn a_limit_is_more_than_nothing() {
        assert_eq!(limit(Some("2.5")).unwrap(), Some(Amount(2_500_000_000)));
        assert_eq!(limit(None).unwrap(), None);
        assert!(limit(Some("0")).is_err() && limit(Some("much")).is_err());
    }
}
