//! What the queue wants remembered: entries that, replayed in their order, make the same queue.
//!
//! Guarantees: one binary form (borsh), read back with a size limit. New kinds go at the end.

use crate::receipt::Chain;
use crate::task::{Finished, NewTask, Seq, TaskId};
use borsh::{BorshDeserialize, BorshSerialize};

/// One thing to remember.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum Entry {
    /// Where a snapshot begins; everything before is void.
    Began {
        /// Which herd.
        herd: [u8; 16],
        /// Number of the next task.
        next_id: TaskId,
        /// The chain up to the last acknowledged result.
        acknowledged: Chain,
        /// Tasks taken so far.
        submitted: u64,
        /// Attempts that did not end a task so far.
        retried: u64,
    },
    /// The key of an acknowledged task.
    Remembered {
        /// The key.
        key: String,
        /// Hash of its payload.
        payload_hash: [u8; 32],
        /// The task's number.
        id: TaskId,
    },
    /// A task was taken.
    Submitted {
        /// Its number.
        id: TaskId,
        /// The task.
        task: NewTask,
    },
    /// An attempt was charged to a task.
    Charged {
        /// The task.
        id: TaskId,
        /// Attempts so far.
        attempts: u8,
    },
    /// A task has ended.
    Finished(Finished),
    /// Results up to here were acknowledged.
    Acknowledged {
        /// The last of them.
        upto: Seq,
    },
}
