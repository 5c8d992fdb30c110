//! Believing no gateway: records fetched with their proofs, and what was answered held against them.
//!
//! Guarantees: whatever comes from here was certified by a quorum of the trusted validators, or is a [`Failure`] with the code
//! `unproven`. Where others took their seats, that was certified too, step by step. A gateway can still show an older state than the newest; the failure to do so is what `--since` is for. A
//! connection that breaks off is made anew, and that is said.

use crate::backend::{Proven, RecordKind};
use crate::exit::Failure;
use crate::patience::Calls;
use crate::render::number::{count, duration};
use crate::session::{App, Session, now_ms};
use crate::trust::Trusted;
use pasture_api::{AccountView, ApiClient, ApiError, MAX_HANDOVERS, StateValue};
use pasture_light::{Checkpoint, Handover, LightError, StateProof, ValidatorSet, Verified};
use pasture_types::{AccountId, LeaseId, Millis, NodeId, OrderId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The record may change between two questions: so often we ask again before we say that the gateway lies.
const TRIES: usize = 5;
/// Most records that one view is made from; more means that the rules and this program do not fit.
const MAX_RECORDS: usize = 16;
/// Most changes of validators that are followed for one answer. The ledger's seats change once a term, so these are years; and a chain
/// of them cannot be made up by anybody but the validators themselves.
const MAX_FOLLOWED: usize = 4_096;

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

/// Who is trusted, and how old an answer may be.
pub(crate) struct Checker {
    /// How to ask.
    calls: Calls,
    /// Where to ask.
    api: ApiClient,
    trusted: Trusted,
    /// Answers of earlier blocks are refused.
    since: u64,
    /// The changes of validators that were followed, in hex.
    followed: Vec<String>,
}

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
    /// A checker of one gateway's answers.
    pub(crate) const fn new(calls: Calls, api: ApiClient, trusted: Trusted, since: u64) -> Self {
        Self { calls, api, trusted, since, followed: Vec::new() }
    }
    /// Who is trusted.
    pub(crate) const fn trusted(&self) -> &ValidatorSet {
        self.trusted.validators()
    }

    /// The changes of validators that were followed since this checker was made, in hex: who keeps a proof for others keeps them with it.
    pub(crate) fn followed(&self) -> &[String] {
        &self.followed
    }

    /// A record, or that there is none, with its proof checked; and that proof, in hex.
    pub(crate) async fn record(&mut self, key: &[u8]) -> Result<(Verified, String), Failure> {
        let answer = stated(self.calls, &self.api, key).await?;
        let digits = answer.proof.ok_or_else(|| unproven("it gave no proof"))?;
        let proof = hex::decode(&digits).map_err(|_| unproven("its proof is not hex"))?;
        let proof = StateProof::decode(&proof).map_err(|e| refused(&e))?;
        let shown = self.certified(&proof).await?;
        let shown = shown.about(key).and_then(|shown| shown.since(self.since, 0)).map_err(|e| refused(&e))?;
        // What stands beside the proof is what a careless reader would take.
        let beside = answer.value.map(hex::decode).transpose().map_err(|_| unproven("its value is not hex"))?;
        if answer.height.0 != shown.header.height || answer.key != hex::encode(key) {
            return Err(unproven("what it says beside the proof is not what the proof shows"));
        }
        let shown = shown.with_value(beside.as_deref()).map_err(|e| refused(&e))?;
        self.trusted.saw(&shown);
        Ok((shown, digits))
    }

    /// What a proof shows, once the trusted validators, or those who lawfully followed them, are found to have signed it.
    async fn certified(&mut self, proof: &StateProof) -> Result<Verified, Failure> {
        let mut followed = 0;
        loop {
            match self.trusted.verify(proof) {
                Ok(shown) => return Ok(shown),
                Err(LightError::OtherValidators { found }) if followed < MAX_FOLLOWED => followed += self.follow(&found, proof).await?,
                Err(e) => return Err(refused(&e)),
            }
        }
    }

    /// Moves on towards the validators who signed a proof. Returns by how many changes: never by none.
    async fn follow(&mut self, found: &[u8; 32], proof: &StateProof) -> Result<usize, Failure> {
        // Of before what we saw already: by validators who left, or by nobody.
        let height = proof.headers.first().and_then(|header| pasture_light::Header::decode(header).ok()).map_or(0, |header| header.height);
        if height <= self.trusted.since() {
            return Err(refused(&LightError::BeforeCheckpoint { height, since: self.trusted.since() }));
        }
        let from = hex::encode(self.trusted.validators().hash());
        let view = self.calls.make(|| self.api.handovers(&from)).await?;
        let mut steps = 0;
        for digits in view.handovers.iter().take(MAX_HANDOVERS) {
            let bytes = hex::decode(digits).map_err(|_| unproven("what it says of a change of validators is not hex"))?;
            let handover = Handover::decode(&bytes).map_err(|e| refused(&e))?;
            self.trusted.follow(&handover).map_err(|e| refused(&e))?;
            steps += 1;
            self.followed.push(digits.clone());
            if self.trusted.validators().hash() == found {
                return Ok(steps);
            }
        }
        if steps == 0 {
            return Err(unproven("others signed than the validators you trust, and it shows no handover to them"));
        }
        Ok(steps)
    }

    /// The view that proven records make; `None` if it was proven that there is no such record.
    async fn proven(&mut self, kind: RecordKind, id: &[u8; 32]) -> Result<(Option<Value>, Evidence), Failure> {
        let mut proven = Proven::default();
        let mut evidence: Option<Evidence> = None;
        for _ in 0..MAX_RECORDS {
            let missing = proven.missing(kind, id);
            if let (true, Some(evidence)) = (missing.is_empty(), &evidence) {
                return Ok((proven.view(kind, id), evidence.clone()));
            }
            for key in missing {
                let (shown, _) = self.record(&key).await?;
                let this = Evidence::of(&shown);
                evidence = Some(match evidence {
                    Some(before) => before.and(this),
                    None => this,
                });
                proven.insert(key, shown.value);
            }
        }
        Err(Failure::new("internal", "a record needs more others than there can be"))
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
        let (proven, evidence) = self.proven(kind, id).await?;
        let Some(proven) = proven else { return Ok(None) };
        let mut whole = said.map(serde_json::to_value).transpose().map_err(internal)?.unwrap_or_default();
        match (&mut whole, proven) {
            (Value::Object(whole), Value::Object(proven)) => {
                // What is not proven to be there is not there.
                whole.retain(|name, _| kind.unproven().contains(&name.as_str()));
                whole.extend(proven);
            }
            (whole, proven) => *whole = proven,
        }
        Ok(Some((serde_json::from_value(whole).map_err(internal)?, evidence)))
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
