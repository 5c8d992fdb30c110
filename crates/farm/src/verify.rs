//! Believing no gateway: records fetched with their proofs, and what was answered held against them.
//!
//! Guarantees: whatever comes from here was certified by a quorum of the trusted validators, or is a [`Failure`] with the code
//! `unproven`. Where others took their seats, that was certified too, step by step. A gateway can still show an older state than the newest; the failure to do so is what `--since` is for. A
//! connection that breaks off is made anew, and that is said.

use crate::backend::{self, CheckError, MAX_FOLLOWED, RecordKind, Source};
use crate::exit::Failure;
use crate::patience::Calls;
use crate::render::number::{count, duration};
use crate::session::{App, Session, now_ms};
use crate::trust::Trusted;
use pasture_api::{AccountView, ApiClient, ApiError, HandoversView, StateValue};
use pasture_light::{Checkpoint, Handover, LightError, StateProof, ValidatorSet, Verified};
use pasture_types::{AccountId, LeaseId, Millis, NodeId, OrderId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The record may change between two questions: so often we ask again before we say that the gateway lies.
const TRIES: usize = 5;

/// What the gateway says of a record; `None` if it says that there is none.
pub(crate) async fn answered(calls: Calls, client: &ApiClient, kind: RecordKind, id: [u8; 32]) -> Result<Option<Value>, Failure> {
    let answer = calls
        .make(|| async {
            Ok(match kind {
                RecordKind::Account => serde_json::to_value(client.account(&AccountId(id)).await?),
                RecordKind::Lease => serde_json::to_value(client.lease(&LeaseId(id)).await?),
                RecordKind::Order => serde_json::to_value(client.order(&OrderId(id)).await?),
                RecordKind::Node => serde_json::to_value(client.node(&NodeId(id)).await?),
            })
        })
        .await;
    match answer {
        Ok(view) => view.map(Some).map_err(internal),
        Err(e) if e.problem().is_some_and(|p| p.status == 404) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// What the gateway says of a key.
pub(crate) async fn stated(calls: Calls, client: &ApiClient, key: &[u8]) -> Result<StateValue, ApiError> {
    let key = hex::encode(key);
    calls.make(|| client.state(&key)).await
}

/// An account as far as it is proven, where we know whom to trust, and what stands behind that.
pub(crate) async fn account(app: &App, session: &Session, view: AccountView) -> Result<(AccountView, Option<Evidence>), Failure> {
    let Some(mut checker) = checker(app, session)? else { return Ok((view, None)) };
    let id = view.id.0;
    let shown = checker.corrected(RecordKind::Account, &id, Some(&view)).await?;
    let (view, evidence) = shown.ok_or_else(|| unproven("there is no such account, as the validators certified"))?;
    Ok((view, Some(evidence)))
}

/// A value for scripts with what stands behind it.
pub(crate) fn with_evidence(mut value: Value, evidence: Option<&Evidence>) -> Value {
    if let (Some(fields), Some(evidence)) = (value.as_object_mut(), evidence) {
        fields.insert("verified".into(), evidence.json());
    }
    value
}

/// How a checker asks: again, where a connection broke off.
struct Asked {
    calls: Calls,
    api: ApiClient,
}

impl Source for Asked {
    async fn state(&self, key: &str) -> Result<StateValue, ApiError> {
        self.calls.make(|| self.api.state(key)).await
    }
    async fn handovers(&self, from: &str) -> Result<HandoversView, ApiError> {
        self.calls.make(|| self.api.handovers(from)).await
    }
}

impl From<CheckError> for Failure {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Asking(e) => e.into(),
            CheckError::Light(e) => refused(&e),
            CheckError::Unproven(why) => unproven(why),
            CheckError::Form(why) => Self::new("internal", why),
        }
    }
}

/// Who is trusted, and how old an answer may be.
pub(crate) struct Checker(backend::Checker<Asked, Trusted>);

/// What stands behind an answer.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    votes: usize,
    validators: usize,
    /// The oldest block that a part of the answer was taken from.
    height: u64,
    time_ms: u64,
    state_root: [u8; 32],
}

impl Evidence {
    /// What stands behind one record.
    pub(crate) const fn of(shown: &Verified) -> Self {
        let header = &shown.header;
        let (votes, validators) = (shown.votes, shown.validators);
        Self { votes, validators, height: header.height, time_ms: header.timestamp_ms, state_root: header.state_root }
    }
    /// Both together: as old as the older one.
    pub(crate) fn and(self, other: Self) -> Self {
        if other.height < self.height { other } else { self }
    }

    /// The oldest block that a part of the answer was taken from.
    pub(crate) const fn height(&self) -> u64 {
        self.height
    }
    /// In a line.
    pub(crate) fn short(&self) -> String {
        format!("verified against {}, at block {}", count(self.validators as u64, "validator"), self.height)
    }
    /// For people.
    pub(crate) fn text(&self, trusted: &ValidatorSet) -> String {
        let age = duration(Millis(now_ms().saturating_sub(self.time_ms)));
        let network: String = hex::encode(trusted.zone()).chars().take(8).collect();
        format!(
            "✓ verified: signed by {} of {} of network {network}, at block {}, {age} ago\n  state root {}",
            self.votes,
            count(self.validators as u64, "trusted validator"),
            self.height,
            hex::encode(self.state_root)
        )
    }
    /// For scripts.
    pub(crate) fn json(&self) -> Value {
        serde_json::json!({
            "votes": self.votes, "validators": self.validators, "height": self.height, "time": self.time_ms,
            "state_root": hex::encode(self.state_root),
        })
    }
}

fn unproven(what: &str) -> Failure {
    Failure::new("unproven", format!("do not believe this gateway: {what}"))
        .next("ask another one:  --api-url URL")
        .next("or take its word:  --skip-verification")
}

fn refused(error: &LightError) -> Failure {
    match error {
        LightError::Older { height, .. } => {
            Failure::new("too-old", format!("the gateway shows block {height}, which is older than asked for"))
                .next("ask again, or ask another gateway:  --api-url URL")
        }
        LightError::BeforeCheckpoint { height, since } => Failure::new(
            "too-old",
            format!("the gateway shows block {height}, which is older than what was verified before (block {since})"),
        )
        .next("ask again, or ask another gateway:  --api-url URL"),
        other => unproven(&other.to_string()),
    }
}

/// A checker of what a session's network answers; `None` where we know nobody to trust, or are not to check.
pub(crate) fn checker(app: &App, session: &Session) -> Result<Option<Checker>, Failure> {
    Ok(app.trusted()?.map(|trusted| Checker::new(Calls::Later(session.out), session.api.clone(), trusted, 0)))
}

impl Checker {
    /// A checker of one gateway's answers; those of blocks before `since` are refused.
    pub(crate) const fn new(calls: Calls, api: ApiClient, trusted: Trusted, since: u64) -> Self {
        Self(backend::Checker::new(Asked { calls, api }, trusted, since))
    }
    /// Who is trusted.
    pub(crate) const fn trusted(&self) -> &ValidatorSet {
        self.0.trust().validators()
    }
    /// The changes of validators that were followed since this checker was made, in hex: who keeps a proof for others keeps them with it.
    pub(crate) fn followed(&self) -> &[String] {
        self.0.followed()
    }
    /// A record, or that there is none, with its proof checked; and that proof, in hex.
    pub(crate) async fn record(&mut self, key: &[u8]) -> Result<(Verified, String), Failure> {
        Ok(self.0.record(key).await?)
    }

    /// The view that proven records make; `None` if it was proven that there is no such record.
    async fn proven(&mut self, kind: RecordKind, id: &[u8; 32]) -> Result<(Option<Value>, Evidence), Failure> {
        let (view, oldest) = self.0.proven(kind, id).await?;
        Ok((view, Evidence::of(&oldest)))
    }

    /// Holds what a gateway answered against the records. `ask` gets its answer, `None` for "there is none"; the last answer comes
    /// back.
    pub(crate) async fn view<F>(
        &mut self,
        kind: RecordKind,
        id: &[u8; 32],
        mut ask: impl FnMut() -> F,
    ) -> Result<(Option<Value>, Evidence), Failure>
    where
        F: Future<Output = Result<Option<Value>, Failure>>,
    {
        for _ in 0..TRIES {
            // Before and after: a record that changed in between was shown by one of both.
            let (before, evidence) = self.proven(kind, id).await?;
            let answer = ask().await?;
            let said = answer.clone().map(|view| kind.comparable(view));
            if said == before {
                return Ok((answer, evidence));
            }
            let (after, evidence) = self.proven(kind, id).await?;
            if said == after {
                return Ok((answer, evidence));
            }
        }
        Err(unproven("what it says is not what the validators signed"))
    }

    /// A view with what is proven of it in the place of what a gateway said, so that nothing that changes meanwhile looks like a lie.
    /// `said` is its answer, of which the fields that no proof determines are left; `None` if it was proven that there is no such record.
    pub(crate) async fn corrected<T>(&mut self, kind: RecordKind, id: &[u8; 32], said: Option<&T>) -> Result<Option<(T, Evidence)>, Failure>
    where
        T: Serialize + DeserializeOwned,
    {
        let shown = self.0.corrected(kind, id, said).await?;
        Ok(shown.map(|(view, oldest)| (view, Evidence::of(&oldest))))
    }
}

/// What a proof that was kept shows about a key, by those whom a checkpoint trusts and the changes of validators that were kept with
/// it, all in hex. Nobody is asked.
pub(crate) fn kept(mut point: Checkpoint, key: &[u8], proof: &str, handovers: &[String]) -> Result<Verified, Failure> {
    let wrong = |what: &str| Failure::new("unproven", format!("the file proves nothing: {what}"));
    let light = |e: LightError| wrong(&e.to_string());
    let proof = hex::decode(proof).map_err(|_| wrong("its proof is not hex"))?;
    let proof = StateProof::decode(&proof).map_err(light)?;
    for digits in handovers.iter().take(MAX_FOLLOWED) {
        let bytes = hex::decode(digits).map_err(|_| wrong("what it says of a change of validators is not hex"))?;
        let handover = Handover::decode(&bytes).map_err(light)?;
        // Those before the checkpoint are not needed: it stands behind them.
        if point.validators().hash() == &handover_by(&handover).map_err(light)? {
            point = point.follow(&handover).map_err(light)?;
        }
    }
    let shown = point
        .verify(&proof)
        .map_err(|e| light(e).next("name the network's founding file, or a checkpoint from before the check was judged:  --trust FILE"))?;
    shown.about(key).map_err(light)
}

fn handover_by(handover: &Handover) -> Result<[u8; 32], LightError> {
    Ok(pasture_light::Header::decode(&handover.header)?.validators)
}

fn internal(error: serde_json::Error) -> Failure {
    Failure::new("internal", error.to_string())
}
