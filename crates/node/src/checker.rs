//! Believing no gateway: records fetched with their proofs. Clients and machines do it alike.
//!
//! Guarantees: whatever comes from here was certified by a quorum of the trusted validators, or is an error. Where others took their seats,
//! that was certified too, step by step. A gateway can still show an older state than the newest: see [`Checker::new`]. It keeps nothing:
//! whom to trust from now on is [`Trust`]'s.

use crate::proven::{Proven, RecordKind};
use pasture_api::{ApiClient, ApiError, HandoversView, MAX_HANDOVERS, StateValue};
use pasture_light::{Checkpoint, Handover, Header, LightError, StateProof, Verified};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::future::Future;

/// Most records that one view is made from; more means that the rules and this program do not fit.
const MAX_RECORDS: usize = 16;
/// Most changes of validators that are followed for one answer. The ledger's seats change once a term, so these are years; and a chain
/// of them cannot be made up by anybody but the validators themselves.
pub const MAX_FOLLOWED: usize = 4_096;

/// Where a checker asks.
pub trait Source: Send + Sync {
    /// What is said of a key, in hex.
    fn state(&self, key: &str) -> impl Future<Output = Result<StateValue, ApiError>> + Send;
    /// How others took the seats of the validators with this hash, in hex.
    fn handovers(&self, from: &str) -> impl Future<Output = Result<HandoversView, ApiError>> + Send;
}

impl Source for &ApiClient {
    async fn state(&self, key: &str) -> Result<StateValue, ApiError> {
        ApiClient::state(self, key).await
    }
    async fn handovers(&self, from: &str) -> Result<HandoversView, ApiError> {
        ApiClient::handovers(self, from).await
    }
}

/// Whom a checker trusts, and who remembers that.
pub trait Trust: Send {
    /// Whom it trusts now.
    fn point(&self) -> Checkpoint;
    /// Moves on to the next validators.
    ///
    /// # Errors
    /// [`LightError`]: those that are trusted did not name them.
    fn follow(&mut self, handover: &Handover) -> Result<(), LightError>;
    /// Takes note of a proof that held.
    fn saw(&mut self, shown: &Verified);
}

/// Why an answer is not believed, or there is none.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It could not be asked.
    #[error(transparent)]
    Asking(#[from] ApiError),
    /// Its proof does not hold.
    #[error(transparent)]
    Light(#[from] LightError),
    /// What it says is none, or contradicts itself.
    #[error("{0}")]
    Unproven(&'static str),
    /// What is proven has a form that this program does not know.
    #[error("what is proven cannot be read: {0}")]
    Form(String),
}

impl CheckError {
    /// It was answered, and that cannot be true. An answer that is merely old is none.
    #[must_use]
    pub const fn is_lie(&self) -> bool {
        match self {
            Self::Unproven(_) => true,
            Self::Light(error) => !matches!(error, LightError::Older { .. } | LightError::BeforeCheckpoint { .. }),
            Self::Asking(_) | Self::Form(_) => false,
        }
    }
}

/// Who is trusted, and how old an answer may be.
pub struct Checker<S, T> {
    source: S,
    trust: T,
    since: u64,
    /// The changes of validators that were followed, in hex.
    followed: Vec<String>,
}

impl<S: Source, T: Trust> Checker<S, T> {
    /// A checker of one gateway's answers; those of blocks before `since` are refused.
    pub const fn new(source: S, trust: T, since: u64) -> Self {
        Self { source, trust, since, followed: Vec::new() }
    }

    /// Who is trusted.
    pub const fn trust(&self) -> &T {
        &self.trust
    }

    /// The changes of validators that were followed since this checker was made, in hex: who keeps a proof for others keeps them with it.
    pub fn followed(&self) -> &[String] {
        &self.followed
    }

    /// A record, or that there is none, with its proof checked; and that proof, in hex.
    ///
    /// # Errors
    /// [`CheckError`]: the first thing that is wrong.
    pub async fn record(&mut self, key: &[u8]) -> Result<(Verified, String), CheckError> {
        let name = hex::encode(key);
        let answer = self.source.state(&name).await?;
        let digits = answer.proof.ok_or(CheckError::Unproven("it gave no proof"))?;
        let proof = hex::decode(&digits).map_err(|_| CheckError::Unproven("its proof is not hex"))?;
        let proof = StateProof::decode(&proof)?;
        let shown = self.certified(&proof).await?.about(key)?.since(self.since, 0)?;
        // What stands beside the proof is what a careless reader would take.
        let beside = answer.value.map(hex::decode).transpose().map_err(|_| CheckError::Unproven("its value is not hex"))?;
        if answer.height.0 != shown.header.height || answer.key != name {
            return Err(CheckError::Unproven("what it says beside the proof is not what the proof shows"));
        }
        let shown = shown.with_value(beside.as_deref())?;
        self.trust.saw(&shown);
        Ok((shown, digits))
    }

    /// What a proof shows, once the trusted validators, or those who lawfully followed them, are found to have signed it.
    async fn certified(&mut self, proof: &StateProof) -> Result<Verified, CheckError> {
        let mut followed = 0;
        loop {
            match self.trust.point().verify(proof) {
                Ok(shown) => return Ok(shown),
                Err(LightError::OtherValidators { found }) if followed < MAX_FOLLOWED => followed += self.follow(&found, proof).await?,
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Moves on towards the validators who signed a proof. Returns by how many changes: never by none.
    async fn follow(&mut self, found: &[u8; 32], proof: &StateProof) -> Result<usize, CheckError> {
        let point = self.trust.point();
        // Of before what we saw already: by validators who left, or by nobody.
        let height = proof.headers.first().and_then(|header| Header::decode(header).ok()).map_or(0, |header| header.height);
        if height <= point.since() {
            return Err(LightError::BeforeCheckpoint { height, since: point.since() }.into());
        }
        let view = self.source.handovers(&hex::encode(point.validators().hash())).await?;
        let mut steps = 0;
        for digits in view.handovers.iter().take(MAX_HANDOVERS) {
            let bytes = hex::decode(digits).map_err(|_| CheckError::Unproven("what it says of a change of validators is not hex"))?;
            let handover = Handover::decode(&bytes)?;
            self.trust.follow(&handover)?;
            steps += 1;
            self.followed.push(digits.clone());
            if self.trust.point().validators().hash() == found {
                return Ok(steps);
            }
        }
        if steps == 0 {
            return Err(CheckError::Unproven("others signed than the validators you trust, and it shows no handover to them"));
        }
        Ok(steps)
    }

    /// The view that proven records make, `None` if it was proven that there is no such record; and the oldest block that a part of it
    /// was taken from.
    ///
    /// # Errors
    /// [`CheckError`].
    pub async fn proven(&mut self, kind: RecordKind, id: &[u8; 32]) -> Result<(Option<Value>, Verified), CheckError> {
        let mut proven = Proven::default();
        let mut oldest: Option<Verified> = None;
        for _ in 0..MAX_RECORDS {
            let missing = proven.missing(kind, id);
            if let (true, Some(oldest)) = (missing.is_empty(), &oldest) {
                return Ok((proven.view(kind, id), oldest.clone()));
            }
            for key in missing {
                let (shown, _) = self.record(&key).await?;
                proven.insert(key, shown.value.clone());
                oldest = oldest.filter(|o| o.header.height <= shown.header.height).or(Some(shown));
            }
        }
        Err(CheckError::Form("a record needs more others than there can be".into()))
    }

    /// A view with what is proven of it in the place of what a gateway said, so that nothing that changes meanwhile looks like a lie.
    /// `said` is its answer, of which the fields that no proof determines are left; `None` if it was proven that there is no such record.
    ///
    /// # Errors
    /// [`CheckError`].
    pub async fn corrected<V>(&mut self, kind: RecordKind, id: &[u8; 32], said: Option<&V>) -> Result<Option<(V, Verified)>, CheckError>
    where
        V: Serialize + DeserializeOwned,
    {
        let (proven, oldest) = self.proven(kind, id).await?;
        let Some(proven) = proven else { return Ok(None) };
        let form = |e: serde_json::Error| CheckError::Form(e.to_string());
        let mut whole = said.map(serde_json::to_value).transpose().map_err(form)?.unwrap_or_default();
        match (&mut whole, proven) {
            (Value::Object(whole), Value::Object(proven)) => {
                // What is not proven to be there is not there.
                whole.retain(|name, _| kind.unproven().contains(&name.as_str()));
                whole.extend(proven);
            }
            (whole, proven) => *whole = proven,
        }
        Ok(Some((serde_json::from_value(whole).map_err(form)?, oldest)))
    }
}
