//! A network and our account on it.
//!
//! Guarantees: the account's key is made on first use, never asked for unless it is locked (`keyring.rs`, `device.rs`), and never shown;
//! on a development network the account opens itself, with test credits. Transactions of one process share a lane chosen by chance, so that clients of one account
//! do not wait for each other; a lost race for a number is tried once more. A network that goes away is waited for, and that is
//! said; a transaction whose answer was lost is looked up by its id before it is sent again.

use crate::backend;
use crate::config::{ConfigFile, Env, Paths, Target, target};
use crate::device::Right;
use crate::exit::{Failure, LEDGER};
use crate::handles::{self, Names};
use crate::keyring::Keyring;
use crate::passphrase::Asker;
use crate::patience::{Patience, first_call, patiently_telling};
use crate::render::Output;
use crate::render::number::credits;
use crate::sealed::texts;
use crate::words::plainly;
use pasture_api::client::{HttpCall, LeaseClient};
use pasture_api::{AccountView, ApiClient, ApiError, JobView, LeaseView, NetworkStatus, OrderView, Problem, TxResult, newcomer};
use pasture_net::{Doorway, Path, Place, Ticket, Way};
use pasture_rt::{Clock as _, SystemClock};
use pasture_store::Vault;
use pasture_store::sealed::ReaderKey;
use pasture_types::tx::{Action, ENVELOPE_VERSION, Envelope, MAX_LANES, TxBody};
use pasture_types::{AccountId, Amount, AssetId, Millis, NodeId, OrderId, SigningKey, Timestamp, TxId};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What a new account gets on a development network.
pub(crate) const FIRST_CREDITS: Amount = Amount::credits(1_000);
/// How long a transaction of ours stays valid.
const VALID_FOR: Millis = Millis(600_000);
/// The ledger's numbers for a sequence number that was used, and for one that is ahead.
const SEQUENCE_CODES: [u16; 2] = [12, 13];
/// How long is waited for a direct path to be found before it is said that there is none, and between two looks.
const DIRECT_WITHIN: Duration = Duration::from_secs(2);
const DIRECT_LOOK: Duration = Duration::from_millis(50);
/// HTTP's word for "not now", which nothing was done after.
const TOO_MANY: u16 = 429;
/// HTTP's word for "there is none".
const NOT_FOUND: u16 = 404;
/// Attempts at a number of a lane where a device's grant is used.
const DEVICE_TRIES: u32 = 6;
/// Another client of the account was faster.
const LOST_RACE: &str = "lost-race";

/// What every command starts from.
#[derive(Clone, Debug)]
pub(crate) struct App {
    /// Where to write.
    pub(crate) out: Output,
    /// The environment.
    pub(crate) env: Env,
    /// Our files.
    pub(crate) paths: Paths,
    /// Questions are answered with yes.
    pub(crate) yes: bool,
    /// `--show-http`.
    pub(crate) show_http: bool,
    /// `--skip-verification`.
    pub(crate) skip_verification: bool,
    /// `--api-url`.
    pub(crate) api_url: Option<String>,
    /// `--context`.
    pub(crate) context: Option<String>,
    /// Our keys, once somebody needed one.
    pub(crate) keyring: Arc<OnceLock<Keyring>>,
    /// The network that is being joined.
    pub(crate) ticket: Option<Ticket>,
    /// The way to nodes, once somebody needed it.
    pub(crate) door: Arc<OnceLock<Doorway>>,
}

impl App {
    /// The network that is meant.
    pub(crate) fn target(&self) -> Result<Target, Failure> {
        if let Some(ticket) = &self.ticket {
            let api_url = Doorway::api_url(&ticket.zone);
            return Ok(Target { api_url, context: None, validators: None, ticket: Some(ticket.to_text()) });
        }
        let file = ConfigFile::load(&self.paths.config_file())?;
        target(self.api_url.as_deref(), self.context.as_deref(), &self.env, &file)
    }
    /// The same, for another address.
    pub(crate) fn at(&self, api_url: &str) -> Self {
        Self { api_url: Some(api_url.into()), context: None, ..self.clone() }
    }
    /// The same with another account, whose key is this one.
    pub(crate) fn by(&self, key: SigningKey) -> Self {
        let ring = Keyring::of(key, self.out, Asker::new(self.out, &self.env));
        Self { keyring: Arc::new(OnceLock::from(ring)), ..self.clone() }
    }
    /// The same without notes.
    pub(crate) fn quietly(&self) -> Self {
        Self { out: self.out.quietly(), ..self.clone() }
    }
    /// Our keys; the account's is made if there is none.
    pub(crate) fn keyring(&self) -> Result<&Keyring, Failure> {
        match self.keyring.get() {
            Some(keyring) => Ok(keyring),
            None => {
                let keyring = Keyring::load(self.out, &self.paths, Asker::new(self.out, &self.env))?;
                Ok(self.keyring.get_or_init(|| keyring))
            }
        }
    }
    /// The user's secrets.
    pub(crate) fn vault(&self) -> Result<Vault, Failure> {
        self.keyring()?.vault(&self.paths)
    }
    /// The same for a network that is reached with this ticket.
    pub(crate) fn joining(&self, ticket: Ticket) -> Self {
        Self { ticket: Some(ticket), api_url: None, context: None, door: Arc::default(), ..self.clone() }
    }
    /// What the network is reached with, if that is peer to peer.
    pub(crate) fn network_ticket(&self) -> Result<Option<Ticket>, Failure> {
        let Some(text) = self.target()?.ticket else { return Ok(None) };
        let unreadable = |e| Failure::new("config", format!("the ticket of this context cannot be read: {e}"));
        Ticket::parse(&text).map(Some).map_err(|e| unreadable(e).next("join again:  farm join TICKET"))
    }
    /// The way to nodes, where the network is reached peer to peer. Its endpoint lives as long as this process, under a key of its own.
    fn door(&self) -> Result<Option<Doorway>, Failure> {
        let Some(ticket) = self.network_ticket()? else { return Ok(None) };
        if let Some(door) = self.door.get() {
            return Ok(Some(door.clone()));
        }
        let door = backend::door_to(&ticket, SigningKey::from_seed(random()?))?;
        // The gateway says where a machine is; who answers there has to be it.
        let api = ApiClient::by(&self.target()?.api_url, Some(door.url()))?;
        door.finding(move |node| {
            let api = api.clone();
            Box::pin(async move { Some(Place::parse(&api.place(&node).await.ok()?.address).ok()?.1) })
        });
        Ok(Some(self.door.get_or_init(|| door).clone()))
    }
    /// Ends what was opened to reach nodes.
    pub(crate) async fn close(&self) {
        if let Some(door) = self.door.get() {
            door.close().await;
        }
    }
    /// A client of the network's API, which may not answer.
    pub(crate) fn client(&self) -> Result<ApiClient, Failure> {
        let door = self.door()?;
        let client = ApiClient::by(&self.target()?.api_url, door.as_ref().map(Doorway::url))?;
        if !self.show_http {
            return Ok(client);
        }
        let out = self.out;
        Ok(client.observed(move |call| out.warn(&http_line(call))))
    }
}

/// A call for those who asked to see them. Bodies and headers, which hold signatures, are not in it.
fn http_line(call: &HttpCall<'_>) -> String {
    let status = call.status.map_or("no answer".into(), |status| status.to_string());
    format!("> {} {} {status} in {} ms", call.method, call.url, call.took.as_millis())
}

/// The time by our clock.
pub(crate) fn now_ms() -> u64 {
    SystemClock.now_ms()
}

/// Some random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| Failure::new("random", format!("the system gives no random numbers: {e}")))?;
    Ok(bytes)
}

/// A network that answers, and our account.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// Where to write.
    pub(crate) out: Output,
    /// The network.
    pub(crate) api: ApiClient,
    /// What it said of itself.
    pub(crate) status: NetworkStatus,
    /// Our files.
    pub(crate) paths: Paths,
    /// Who signs requests: the account's key, or while that is locked the device's.
    pub(crate) key: SigningKey,
    /// Our keys.
    pub(crate) keyring: Keyring,
    /// Which lane of the account, or of a grant, is ours.
    pub(crate) lane: u8,
    /// The way to nodes, where the network is reached peer to peer.
    pub(crate) door: Option<Doorway>,
}

impl Session {
    /// Connects.
    pub(crate) async fn open(app: &App) -> Result<Self, Failure> {
        let api = app.client()?;
        let status = first_call(app.out, || api.status()).await?;
        let [chance] = random::<1>()?;
        let keyring = app.keyring()?.clone();
        let (out, paths, key, door) = (app.out, app.paths.clone(), keyring.signer()?, app.door()?);
        Ok(Self { out, api, status, paths, key, keyring, lane: chance % MAX_LANES, door })
    }
    /// The same on another lane, for work beside this one's.
    pub(crate) fn beside(&self, number: u8) -> Self {
        Self { lane: self.lane.wrapping_add(number) % MAX_LANES, ..self.clone() }
    }
    /// Our account.
    pub(crate) fn account(&self) -> AccountId {
        self.keyring.account()
    }
    /// The user's secrets.
    pub(crate) fn vault(&self) -> Result<Vault, Failure> {
        self.keyring.vault(&self.paths)
    }
    /// What opens the logs and the output of our jobs.
    pub(crate) fn reader(&self) -> Result<ReaderKey, Failure> {
        self.keyring.reader()
    }
    /// Whether credits here have no value.
    pub(crate) const fn is_test(&self) -> bool {
        self.status.params.dev
    }
    /// The time that the ledger will accept: its own is the least.
    pub(crate) fn time(&self) -> Timestamp {
        Timestamp(now_ms()).max(self.status.time)
    }
    /// The most that a transaction of ours may cost: what a whole block would.
    pub(crate) const fn max_fee(&self) -> Amount {
        let p = &self.status.params;
        match p.base_price.mul_div(p.block_cost_us as u128, 1) {
            Some(fee) => fee,
            None => p.base_price,
        }
    }

    /// Makes a call that may be repeated until it is answered.
    pub(crate) async fn ask<T, F>(&self, call: impl FnMut() -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        patiently_telling(self.out, call).await
    }

    /// Our account on the ledger; opens it where test credits pay for that.
    pub(crate) async fn ensure_account(&self) -> Result<AccountView, Failure> {
        let ours = self.account();
        match self.ask(|| self.api.account(&ours)).await {
            Ok(view) => return Ok(view),
            Err(e) if e.problem().is_some_and(|p| p.status == NOT_FOUND) => {}
            Err(e) => return Err(e.into()),
        }
        if self.status.funder.is_none() {
            return Err(Failure::new("no-account", format!("this network does not know your account {} yet", self.account()))
                .next("ask somebody on this network for an invite, or to send credits to it")
                .next("or try things out for free on a local network:  farm dev"));
        }
        self.take_test_credits(FIRST_CREDITS, None).await?;
        self.out.note(&format!("account  {}, with {} test credits, no value", self.account().short(), FIRST_CREDITS.display(0)));
        Ok(self.ask(|| self.api.account(&ours)).await?)
    }

    /// Takes test credits; `seq` is the next number of the account's first lane, or `None` if it is not registered yet.
    pub(crate) async fn take_test_credits(&self, amount: Amount, seq: Option<u64>) -> Result<(), Failure> {
        let mut status = self.ask(|| self.api.status()).await?;
        status.time = status.time.max(self.time());
        let Some(funder) = status.funder else { return Err(Failure::new("no-funder", "this network gives no test credits")) };
        let key = self.owner("test credits are taken by the account itself")?;
        let tx = newcomer::envelope(&status, funder, &key, amount, seq);
        self.deliver(&tx, Door::Funder).await
    }

    /// Signs actions and waits until they are final. `before` learns the id before anything is sent.
    ///
    /// A network that goes away in between is waited for: the transaction is looked up by its id, and the same signed one is sent
    /// again only if no block has it. If the network has been restarted since, what it did is for the caller to look up.
    pub(crate) async fn submit_with(
        &self,
        actions: Vec<Action>,
        mut before: impl FnMut(TxId) -> Result<(), Failure>,
    ) -> Result<TxId, Failure> {
        // A grant has fewer lanes than an account, so that a race is lost more often.
        let mut tries = if self.keyring.is_locked() { DEVICE_TRIES } else { 2 };
        let mut outdated = false;
        loop {
            tries -= 1;
            let right = self.right(&actions).await?;
            let body = self.body(&right, right.fitted(actions.clone()));
            let id = body.id();
            before(id)?;
            match self.deliver(&body.sign(&right.key), Door::Everybody).await {
                Err(failure) if failure.code == LOST_RACE && tries > 0 => {}
                Err(failure) if tries > 0 && right.is_outdated(&failure) && !outdated => outdated = true,
                other => return other.map(|()| id),
            }
        }
    }

    /// What is signed.
    pub(crate) fn body(&self, right: &Right, actions: Vec<Action>) -> TxBody {
        TxBody {
            version: ENVELOPE_VERSION,
            zone: self.status.zone,
            account: self.account(),
            auth: right.auth,
            lane: right.lane,
            seq: right.seq,
            valid_until: self.time().plus(VALID_FOR),
            max_fee: self.max_fee(),
            tip: Amount::ZERO,
            fee_asset: AssetId::CREDIT,
            fee_payer: None,
            actions,
        }
    }

    /// Sends a signed transaction and waits until it is final; the same one again, if the network goes away in between.
    pub(crate) async fn deliver(&self, tx: &Envelope, door: Door) -> Result<(), Failure> {
        let mut patience = Patience::telling(self.out);
        let id = tx.body.id();
        // Whether an earlier attempt may have arrived although its answer did not.
        let mut uncertain = false;
        loop {
            if uncertain && let Some(taken) = self.look_up(&id).await? {
                return taken;
            }
            let sent = match door {
                Door::Everybody => self.api.submit(tx).await,
                Door::Funder => self.api.test_credits(tx).await,
            };
            match sent {
                Ok(result) => return outcome(&result),
                Err(ApiError::Problem(p)) if p.ledger_code.is_some_and(|c| SEQUENCE_CODES.contains(&c)) => {
                    if !uncertain {
                        return Err(Failure::new(LOST_RACE, plainly(&p.detail)));
                    }
                    // It may have become final since we looked. If not, nobody knows: signing it anew could do it twice.
                    return self.look_up(&id).await?.unwrap_or_else(|| Err(unknown()));
                }
                Err(ApiError::Problem(Problem { ledger_code: Some(code), detail, .. })) => return Err(refused(code, &detail)),
                Err(e) => {
                    uncertain |= e.problem().is_none_or(|p| p.status != TOO_MANY);
                    patience.after(e).await?;
                }
            }
        }
    }

    /// What became of a transaction, if a block has it.
    async fn look_up(&self, id: &TxId) -> Result<Option<Result<(), Failure>>, Failure> {
        match self.ask(|| self.api.transaction(id)).await {
            Ok(view) => Ok(Some(match &view.result {
                Some(result) => outcome(result),
                None => {
                    self.out.note("! the network was restarted meanwhile; it has the transaction, but does not say what it did");
                    Ok(())
                }
            })),
            Err(e) if e.problem().is_some_and(|p| p.status == NOT_FOUND) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Signs actions and waits until they are final.
    pub(crate) async fn submit(&self, actions: Vec<Action>) -> Result<TxId, Failure> {
        self.submit_with(actions, |_| Ok(())).await
    }

    /// The data plane of a lease of ours.
    pub(crate) fn lease_client(&self, lease: &LeaseView) -> LeaseClient {
        LeaseClient::new(self.api.clone(), self.key.clone(), lease.id, lease.node, now_ms).opening(texts(self.reader().ok()))
    }

    /// How a machine that was just called is reached, where that is peer to peer; a direct path has a moment to be found.
    pub(crate) async fn path(&self, node: &NodeId) -> Option<Path> {
        let door = self.door.as_ref()?;
        let until = tokio::time::Instant::now() + DIRECT_WITHIN;
        loop {
            let path = door.path(node);
            if path.is_some_and(|path| matches!(path.way, Way::Direct(_))) || tokio::time::Instant::now() >= until {
                return path;
            }
            tokio::time::sleep(DIRECT_LOOK).await;
        }
    }

    /// The names of jobs that we have records of.
    pub(crate) fn recorded_names(&self) -> Names {
        Names::new([], &self.records(), &self.status.zone)
    }
    fn records(&self) -> Vec<handles::JobRecord> {
        let (records, damaged) = handles::recall(&self.paths.jobs());
        if damaged > 0 {
            self.out.note(&format!("{damaged} job records in {} are damaged; those jobs show as job-...", self.paths.jobs().display()));
        }
        records
    }
    /// Our jobs on the ledger, newest first, and the names of them.
    pub(crate) async fn jobs(&self) -> Result<(Vec<JobView>, Names), Failure> {
        let ours = self.account();
        let jobs = match self.ask(|| self.api.jobs(&ours)).await {
            Ok(jobs) => jobs,
            // An account that nobody knows has no jobs.
            Err(e) if e.problem().is_some_and(|p| p.status == 404) => vec![],
            Err(e) => return Err(e.into()),
        };
        let names = Names::new(jobs.iter().map(|j| j.order.id), &self.records(), &self.status.zone);
        Ok((jobs, names))
    }
    /// One of our jobs by the beginning of its name.
    pub(crate) async fn job(&self, text: &str) -> Result<Job, Failure> {
        let (jobs, names) = self.jobs().await?;
        let id = names.find(text)?;
        let handle = names.handle(&id);
        let found = jobs.into_iter().find(|j| j.order.id == id);
        let (order, lease) = match found {
            Some(job) => (job.order, job.lease),
            None => self.forgotten(&id, &handle).await?,
        };
        Ok(Job { handle, order, lease })
    }
    /// A job that we remember and that is not in the ledger's list any more, or never was.
    async fn forgotten(&self, id: &OrderId, handle: &str) -> Result<(OrderView, Option<LeaseView>), Failure> {
        let order = self.ask(|| self.api.order(id)).await.map_err(|e| match e.problem() {
            Some(p) if p.status == 404 => {
                Failure::new("no-such-job", format!("{handle} is not on this network's ledger: it was never placed"))
            }
            _ => e.into(),
        })?;
        let lease = match &order.lease {
            Some(lease) => Some(self.ask(|| self.api.lease(lease)).await?),
            None => None,
        };
        Ok((order, lease))
    }
}

/// One of our jobs.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// e.g. `fold-7k2`.
    pub(crate) handle: String,
    /// Its order.
    pub(crate) order: OrderView,
    /// Its newest lease.
    pub(crate) lease: Option<LeaseView>,
}

impl Job {
    /// Its lease, or a failure that says that it has none.
    pub(crate) fn lease(&self) -> Result<&LeaseView, Failure> {
        self.lease
            .as_ref()
            .ok_or_else(|| Failure::new("no-machine", format!("{} has no machine (yet), so there is nothing to show", self.handle)))
    }
}

/// Where a transaction is handed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Door {
    /// As it is.
    Everybody,
    /// To be signed by the funder of a development network as well.
    Funder,
}

fn outcome(result: &TxResult) -> Result<(), Failure> {
    if result.ok { Ok(()) } else { Err(refused(result.code, &result.message)) }
}

fn unknown() -> Failure {
    Failure::new("unknown", "the connection broke off, and another of your programs acted meanwhile: whether this was done cannot be told")
        .next("look before you try again:  farm ps, farm account")
}

fn refused(code: u16, message: &str) -> Failure {
    Failure::new(&format!("{LEDGER}{code}"), plainly(message))
}

/// What an account that is short of credits is told.
pub(crate) fn too_poor(needed: Amount, balance: Amount, test: bool) -> Failure {
    let failure = Failure::new(
        "balance-too-small",
        format!("this needs {} cr, of which most is only put on hold; you have {} cr", credits(needed), credits(balance)),
    );
    let failure = if test { failure.next("get more test credits:  farm account test-credits") } else { failure };
    failure.next("or put less on hold: a shorter --timeout, or a --budget")
}
