//! The words of a herd: tasks, what became of them, what a shepherd is answered.
//!
//! Guarantees: each of them has one binary form (borsh) and one JSON form; bytes that are text are text in JSON, other bytes
//! are hexadecimal under a name of their own. Nothing here decides.

use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The number of a task in its herd, from 1 on.
pub type TaskId = u64;
/// The number of a result in its herd, from 1 on: the order in which results are given out.
pub type Seq = u64;

/// Priority of a task that names none.
pub const DEFAULT_PRIORITY: u8 = 4;
/// Highest priority; 0 is the lowest.
pub const MAX_PRIORITY: u8 = 9;

/// A task as a shepherd submits it.
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTask {
    /// Idempotency key: the same key with the same payload is the same task. Empty: always a new one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// Whose it is among those that share the herd: within a priority, groups take turns.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// 0 to 9, higher first.
    #[serde(default = "default_priority")]
    pub priority: u8,
    /// Most time for one attempt in milliseconds; 0 is the herd's default.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout_ms: u64,
    /// Most attempts; 0 is the herd's default.
    #[serde(default, skip_serializing_if = "is_none")]
    pub attempts: u8,
    /// What the worker is given.
    #[serde(default, with = "text_or_hex")]
    pub payload: Bytes,
}

const fn default_priority() -> u8 {
    DEFAULT_PRIORITY
}
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
const fn is_none(n: &u8) -> bool {
    *n == 0
}

impl NewTask {
    /// A task of this payload with everything else left to the herd.
    #[must_use]
    pub fn of(payload: impl Into<Bytes>) -> Self {
        Self { payload: payload.into(), priority: DEFAULT_PRIORITY, ..Self::default() }
    }
    /// The same with an idempotency key.
    #[must_use]
    pub fn keyed(mut self, key: impl Into<String>) -> Self {
        self.key = key.into();
        self
    }
}

/// How a task ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A worker answered.
    Done,
    /// No attempt is left, or a worker said that there is no use in another.
    Failed,
    /// A shepherd called it off.
    Cancelled,
}

/// A task that has ended.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Finished {
    /// Its place among the results.
    pub seq: Seq,
    /// Which task.
    pub id: TaskId,
    /// Its idempotency key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Attempts that were charged to it.
    pub attempts: u8,
    /// BLAKE3 of the payload: what was run.
    #[serde(with = "hex32")]
    pub payload_hash: [u8; 32],
    /// What the worker answered, or why it failed.
    #[serde(with = "text_or_hex")]
    pub result: Bytes,
}

/// What became of one submitted task.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Answer {
    /// It is a new task.
    New {
        /// Its number.
        id: TaskId,
    },
    /// It is here already, waiting, running or ended.
    Known {
        /// Its number.
        id: TaskId,
    },
    /// Another task has this key.
    Conflict {
        /// The number of that one.
        id: TaskId,
    },
    /// It can never be taken as it is.
    Refused {
        /// Why.
        why: String,
    },
}

/// What a shepherd is answered to a batch: one [`Answer`] for each task from the first on; those behind were not taken.
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Submitted {
    /// In the order of the batch.
    pub answers: Vec<Answer>,
    /// Why the rest was not taken; `None` if there is no rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy: Option<Busy>,
}

/// Why no more tasks are taken just now.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum Busy {
    /// As many tasks wait as may.
    Full {
        /// How many tasks fit.
        tasks: u64,
        /// How many bytes of payload fit.
        bytes: u64,
    },
    /// The journal's disk is full: what was acknowledged before is safe.
    DiskFull {
        /// In the machine's words.
        detail: String,
    },
    /// The journal failed: nothing is taken until the herd is opened again.
    Broken {
        /// In the machine's words.
        detail: String,
    },
    /// The herd is ending.
    Closing,
}

/// A herd in numbers.
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct HerdStatus {
    /// Which herd: a new one every time its tasks begin from nothing.
    pub herd: String,
    /// Whether acknowledged tasks survive the node's process.
    pub durable: bool,
    /// Tasks that wait, those that wait for their next attempt included.
    pub waiting: u64,
    /// Tasks at a worker.
    pub running: u64,
    /// Bytes of payload held.
    pub payload_bytes: u64,
    /// Results that are kept because no shepherd has acknowledged them.
    pub unacknowledged: u64,
    /// Bytes of those.
    pub result_bytes: u64,
    /// Number of the last result that may be read.
    pub last_seq: Seq,
    /// Up to where results were acknowledged.
    pub acknowledged: Seq,
    /// Tasks taken since the herd began.
    pub submitted: u64,
    /// Tasks that a worker answered.
    pub done: u64,
    /// Tasks that failed.
    pub failed: u64,
    /// Tasks that were called off.
    pub cancelled: u64,
    /// Attempts that did not end a task.
    pub retried: u64,
    /// Workers that are up.
    pub workers: u64,
    /// Workers that should be.
    pub workers_wanted: u64,
    /// Times that a worker ended by itself or was ended for being late.
    pub workers_lost: u64,
    /// What keeps the herd from taking tasks or running them, if anything.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub problem: String,
}

mod text_or_hex {
    //! Text as a string, other bytes as `{"hex": "…"}`; any other JSON value stands for its own compact text.

    use bytes::Bytes;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use serde_json::Value;

    const HEX: &str = "hex";

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serde_json::json!({ HEX: hex::encode(bytes) }).serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        Ok(match Value::deserialize(deserializer)? {
            Value::String(text) => text.into(),
            Value::Object(map) if map.len() == 1 && map.get(HEX).is_some_and(Value::is_string) => {
                let digits = map.get(HEX).and_then(Value::as_str).unwrap_or_default();
                hex::decode(digits).map_err(D::Error::custom)?.into()
            }
            other => other.to_string().into(),
        })
    }
}

mod hex32 {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let mut out = [0; 32];
        hex::decode_to_slice(String::deserialize(deserializer)?, &mut out).map_err(D::Error::custom)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_text_hex_or_any_json() {
        let read = |json: &str| serde_json::from_str::<NewTask>(json).unwrap().payload;
        assert_eq!(read(r#"{"payload":"a\nb"}"#), "a\nb");
        assert_eq!(read(r#"{"payload":{"hex":"00ff"}}"#), &[0u8, 255][..]);
        assert_eq!(read(r#"{"payload":{"n":[1, 2]}}"#), r#"{"n":[1,2]}"#);
        assert_eq!(read("{}"), "");
        assert!(serde_json::from_str::<NewTask>(r#"{"payload":{"hex":"xyz"}}"#).is_err());
        assert!(serde_json::from_str::<NewTask>(r#"{"paylod":"x"}"#).is_err());
        for payload in [&b"text"[..], &[0xff, 0xfe]] {
            let task = NewTask::of(payload.to_vec()).keyed("k");
            assert_eq!(serde_json::from_str::<NewTask>(&serde_json::to_string(&task).unwrap()).unwrap(), task);
        }
    }
}
