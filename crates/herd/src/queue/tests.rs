//! The queue's promises, by example and by property.

use super::*;
use proptest::prelude::*;

fn queue(limits: Limits) -> Queue {
    Queue::new(limits, [7; 16])
}

fn small() -> Limits {
    Limits { tasks: 8, bytes: 64, results: 6, result_bytes: 1 << 10, timeout_ms: 50, attempts: 2, backoff_ms: 10, ..Limits::default() }
}

fn add(q: &mut Queue, task: NewTask) -> TaskId {
    let Ok(Answer::New { id }) = q.submit(task) else { panic!("not taken") };
    q.admit(id);
    id
}

fn done(text: &str) -> Said {
    Said::Done(Bytes::copy_from_slice(text.as_bytes()))
}

impl Queue {
    /// What must hold between any two calls.
    fn check(&self) {
        let bytes: u64 = self.tasks.values().map(|t| t.new.payload.len() as u64).sum();
        assert_eq!(bytes, self.payload_bytes);
        assert!(self.tasks.len() as u64 <= self.limits.tasks && bytes <= self.limits.bytes);
        let count = |s: fn(&State) -> bool| self.tasks.values().filter(|t| s(&t.state)).count();
        assert_eq!(count(|s| *s == State::Ready), self.ready.len());
        assert_eq!(count(|s| *s == State::Suspect), self.suspects.len());
        assert_eq!(count(|s| matches!(s, State::Delayed(_))), self.delayed.len());
        assert_eq!(count(|s| *s == State::Running) as u64, self.running);
        let mut at_workers: Vec<TaskId> = self.workers.in_hand().map(|(_, t)| t).filter(|t| self.tasks.contains_key(t)).collect();
        at_workers.sort_unstable();
        let running: Vec<TaskId> = self.tasks.iter().filter(|(_, t)| t.state == State::Running).map(|(id, _)| *id).collect();
        assert_eq!(at_workers, running, "what runs is in exactly one hand");
        assert_eq!(self.results.iter().map(|(f, _)| f.result.len() as u64).sum::<u64>(), self.result_bytes);
        for (n, (f, chain)) in self.results.iter().enumerate() {
            assert_eq!((f.seq, chain.seq), (self.acknowledged.seq + n as u64 + 1, f.seq));
            assert!(!self.tasks.contains_key(&f.id), "ended and not ended");
        }
        let ended: BTreeSet<TaskId> = self.results.iter().map(|(f, _)| f.id).collect();
        assert_eq!(ended.len(), self.results.len(), "a task ends once");
    }
}

#[test]
fn priority_then_turns_then_age() {
    let mut q = queue(Limits { tasks: 100, ..Limits::default() });
    let task = |group: &str, priority| NewTask { group: group.into(), priority, ..NewTask::of("x") };
    let low = add(&mut q, task("a", 1));
    let a: Vec<_> = (0..3).map(|_| add(&mut q, task("a", 5))).collect();
    let b = add(&mut q, task("b", 5));
    let high = add(&mut q, task("b", 9));
    let mut order = vec![];
    q.worker_up(1, 0);
    while let Some(d) = q.next(0) {
        order.push(d.id);
        assert!(q.answer(1, d.id, done("y"), 0));
        q.check();
    }
    assert_eq!(order.first(), Some(&high));
    assert_eq!(order.last(), Some(&low));
    assert!(order[1..3].contains(&b), "b does not wait for all of a: {order:?}");
    let of_a: Vec<_> = order.iter().filter(|id| a.contains(id)).copied().collect();
    assert_eq!(of_a, a, "oldest first");
}

#[test]
fn a_key_is_one_task() {
    let mut q = queue(small());
    let id = add(&mut q, NewTask::of("x").keyed("k"));
    assert_eq!(q.submit(NewTask::of("x").keyed("k")), Ok(Answer::Known { id }));
    assert_eq!(q.submit(NewTask::of("y").keyed("k")), Ok(Answer::Conflict { id }));
    q.worker_up(1, 0);
    let d = q.next(0).unwrap();
    assert!(q.answer(1, d.id, done("r"), 0));
    assert_eq!(q.submit(NewTask::of("x").keyed("k")), Ok(Answer::Known { id }), "also when it has ended");
    q.acknowledge(1);
    assert_eq!(q.submit(NewTask::of("x").keyed("k")), Ok(Answer::Known { id }), "also when it was acknowledged");
    // What could not be kept leaves no key behind.
    let Ok(Answer::New { id }) = q.submit(NewTask::of("z").keyed("gone")) else { panic!() };
    q.withdraw(id);
    assert!(matches!(q.submit(NewTask::of("other").keyed("gone")), Ok(Answer::New { .. })));
    q.check();
}

#[test]
fn what_does_not_fit_is_told_what_does() {
    let mut q = queue(small());
    for _ in 0..6 {
        add(&mut q, NewTask::of("12345678"));
    }
    assert_eq!(q.submit(NewTask::of("x".repeat(17))), Err(Busy::Full { tasks: 2, bytes: 16 }));
    add(&mut q, NewTask::of("x".repeat(16)));
    assert_eq!(q.submit(NewTask::of("x")), Err(Busy::Full { tasks: 1, bytes: 0 }));
    add(&mut q, NewTask::of(""));
    assert_eq!(q.submit(NewTask::of("")), Err(Busy::Full { tasks: 0, bytes: 0 }));
    assert!(matches!(q.submit(NewTask::of("x".repeat(65))), Ok(Answer::Refused { .. })), "what never fits is refused");
}

#[test]
fn unacknowledged_results_hold_work_back_and_nothing_is_dropped() {
    let mut q = queue(small());
    q.worker_up(1, 0);
    for n in 0..8 {
        add(&mut q, NewTask::of(format!("{n}")));
    }
    let mut begun = 0;
    while let Some(d) = q.next(0) {
        begun += 1;
        assert!(q.answer(1, d.id, done("r"), 0));
    }
    assert_eq!(begun, 6);
    q.acknowledge(1);
    assert!(q.next(0).is_some());
    assert_eq!(q.results(0, 100, 100, 1 << 20).iter().map(|f| f.seq).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
    assert_eq!(q.results(3, 5, 100, 1 << 20).iter().map(|f| f.seq).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(q.results(2, 100, 100, 1).len(), 1, "at least one");
}

#[test]
fn a_poisoned_task_is_found_among_its_neighbours_and_no_other_fails() {
    let mut q = queue(Limits { tasks: 1000, attempts: 3, ..Limits::default() });
    let (mut now, mut worker) = (0, 1);
    q.worker_up(worker, now);
    let ids: Vec<TaskId> = (0..300).map(|n| add(&mut q, NewTask::of(format!("{n}")))).collect();
    let poison = ids[150];
    // The worker works on everything in its hand at once: the poison need not be the oldest.
    while q.status().last_seq < 300 {
        now += 1;
        let mut hand = vec![];
        while let Some(d) = q.next(now) {
            hand.push(d.id);
        }
        if hand.contains(&poison) {
            q.worker_down(worker, &Gone::Lost("it died".into()), now);
            worker += 1;
            q.worker_up(worker, now);
        } else {
            for id in hand {
                assert!(q.answer(worker, id, done("ok"), now));
            }
        }
        q.check();
        assert!(now < 100_000, "{:?}", q.status());
    }
    let failed: Vec<_> = q.results(0, 1000, 1000, 1 << 20).into_iter().filter(|f| f.outcome == Outcome::Failed).collect();
    assert_eq!(failed.iter().map(|f| (f.id, f.attempts)).collect::<Vec<_>>(), [(poison, 3)]);
    assert_eq!(failed[0].result, "it died");
    assert!(q.status().workers_lost <= 4, "{:?}", q.status());
}

#[test]
fn an_attempt_has_its_own_time() {
    let mut q = queue(small());
    q.worker_up(1, 0);
    let (a, b) = (add(&mut q, NewTask::of("a")), add(&mut q, NewTask { timeout_ms: 500, ..NewTask::of("b") }));
    assert_eq!(q.next(0).unwrap().id, a);
    assert_eq!((q.late(49), q.late(50)), (vec![], vec![1]));
    q.worker_down(1, &Gone::Lost("late".into()), 50);
    q.worker_up(2, 50);
    assert_eq!(q.next(50).unwrap().id, b, "the other one does not wait for the pause");
    assert_eq!((q.late(549), q.late(550)), (vec![], vec![2]));
    q.answer(2, b, done("b"), 550);
    let again = q.next(550).unwrap();
    assert_eq!((again.id, again.attempt), (a, 2));
    q.answer(2, a, Said::Failed("no".into()), 551);
    assert_eq!(q.results(0, 9, 9, 1 << 20).last().map(|f| (f.outcome, f.attempts)), Some((Outcome::Failed, 2)));
}

#[test]
fn a_task_that_was_called_off_ends_once() {
    let mut q = queue(small());
    q.worker_up(1, 0);
    let a = add(&mut q, NewTask::of("a"));
    let b = add(&mut q, NewTask::of("b"));
    q.next(0);
    assert_eq!(q.cancel(&[a, b, 99, a]), 2);
    assert!(q.answer(1, a, done("late"), 1), "it was in hand");
    assert_eq!(q.results(0, 9, 9, 1 << 20).iter().map(|f| f.outcome).collect::<Vec<_>>(), [Outcome::Cancelled; 2]);
    q.check();
}

#[derive(Clone, Debug)]
enum Step {
    Submit { key: u8, payload: u8, group: u8, priority: u8, keep: bool },
    Up(u64),
    Next,
    Answer { worker: u64, nth: usize, how: u8 },
    Down { worker: u64, lost: bool },
    Cancel(u64),
    Acknowledge(u64),
    Wait(u64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12u8, 0..3u8, 0..3u8, 0..10u8, prop::bool::weighted(0.9))
            .prop_map(|(key, payload, group, priority, keep)| Step::Submit { key, payload, group, priority, keep }),
        1 => (0..3u64).prop_map(Step::Up),
        6 => Just(Step::Next),
        6 => (0..3u64, 0..4usize, 0..6u8).prop_map(|(worker, nth, how)| Step::Answer { worker, nth, how }),
        1 => (0..3u64, any::<bool>()).prop_map(|(worker, lost)| Step::Down { worker, lost }),
        1 => (1..30u64).prop_map(Step::Cancel),
        1 => (0..30u64).prop_map(Step::Acknowledge),
        1 => (1..60u64).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ]
}

/// What a shepherd may rely on, kept beside the queue.
#[derive(Default)]
struct Shepherd {
    /// Payload and number of every task it was told is taken.
    taken: BTreeMap<TaskId, String>,
    by_key: BTreeMap<String, (TaskId, String)>,
    seen: Chain,
    ended: BTreeMap<TaskId, Outcome>,
}

impl Shepherd {
    fn submit(&mut self, q: &mut Queue, key: u8, payload: u8, task: NewTask, keep: bool) {
        let (key, text) = (if key == 0 { String::new() } else { format!("k{key}") }, format!("p{payload}"));
        match q.submit(NewTask { key: key.clone(), payload: text.clone().into(), ..task }) {
            Ok(Answer::New { id }) if keep => {
                q.admit(id);
                assert!(self.taken.insert(id, text.clone()).is_none(), "a number is given once");
                if !key.is_empty() {
                    assert!(self.by_key.insert(key, (id, text)).is_none(), "a key is one task");
                }
            }
            Ok(Answer::New { id }) => {
                q.withdraw(id);
                // Its entry was never written.
                let mut log = q.take_log();
                log.retain(|e| !matches!(e, Entry::Submitted { id: other, .. } if *other == id));
                q.log = log;
            }
            Ok(Answer::Known { id }) => assert_eq!(self.by_key.get(&key), Some(&(id, text))),
            Ok(Answer::Conflict { id }) => assert!(self.by_key.get(&key).is_some_and(|(i, t)| *i == id && *t != text)),
            Ok(Answer::Refused { why }) => panic!("{why}"),
            Err(Busy::Full { tasks, bytes }) => assert!(tasks == 0 || bytes < 2),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn read(&mut self, q: &Queue) {
        for f in q.results(self.seen.seq, Seq::MAX, usize::MAX, usize::MAX) {
            assert!(self.seen.push(&f), "no gap, no repetition");
            let payload = self.taken.get(&f.id).expect("only what was taken ends");
            assert_eq!(f.payload_hash, *blake3::hash(payload.as_bytes()).as_bytes());
            assert!(self.ended.insert(f.id, f.outcome).is_none(), "once");
        }
        assert_eq!(q.chain(), self.seen);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever happens in whatever order, also with a restart from the entries at any moment.
    #[test]
    fn nothing_taken_is_lost_or_ends_twice(steps in prop::collection::vec(step(), 1..120)) {
        let limits = small();
        let (mut q, mut now, mut journal, mut shepherd) = (queue(limits.clone()), 0u64, vec![], Shepherd::default());
        journal.extend(q.snapshot());
        for step in steps {
            match step {
                Step::Submit { key, payload, group, priority, keep } => {
                    let task = NewTask { group: format!("g{group}"), priority, ..NewTask::default() };
                    shepherd.submit(&mut q, key, payload, task, keep);
                }
                Step::Up(worker) => if !q.workers.in_hand().any(|(w, _)| w == worker) { q.worker_up(worker, now) },
                Step::Next => drop(q.next(now)),
                Step::Answer { worker, nth, how } => {
                    let hand: Vec<TaskId> = q.workers.in_hand().filter(|(w, _)| *w == worker).map(|(_, t)| t).collect();
                    if let Some(id) = hand.get(nth) {
                        let said = match how { 0 => Said::Failed("f".into()), 1 => Said::Hopeless("h".into()), _ => done("d") };
                        prop_assert!(q.answer(worker, *id, said, now));
                        prop_assert!(!q.answer(worker, *id, done("again"), now));
                    }
                }
                Step::Down { worker, lost } => {
                    let gone = if lost { Gone::Lost("died".into()) } else { Gone::Dismissed };
                    q.worker_down(worker, &gone, now);
                }
                Step::Cancel(id) => drop(q.cancel(&[id])),
                Step::Acknowledge(upto) => { shepherd.read(&q); q.acknowledge(upto) }
                Step::Wait(ms) => now += ms,
                Step::Restart => {
                    let status = q.status();
                    journal.extend(q.take_log());
                    let again = Queue::restore(limits.clone(), journal.clone()).unwrap();
                    let short = Queue::restore(limits.clone(), q.snapshot()).unwrap();
                    for other in [&again, &short] {
                        let mut seen = other.status();
                        prop_assert_eq!(seen.waiting, status.waiting + status.running);
                        (seen.waiting, seen.running, seen.workers, seen.workers_lost) =
                            (status.waiting, status.running, status.workers, status.workers_lost);
                        prop_assert_eq!(&seen, &status);
                        prop_assert_eq!(other.chain(), q.chain());
                        // The number of a task that was never kept may be given again.
                        prop_assert!(other.next_id <= q.next_id);
                        prop_assert_eq!(other.keys.len(), q.keys.len());
                    }
                    q = again;
                }
            }
            q.check();
        }
        // Everything that was taken ends when a worker does its work.
        now += 100_000;
        q.worker_up(9, now);
        for _ in 0..1000 {
            shepherd.read(&q);
            q.acknowledge(Seq::MAX);
            for worker in 0..3 { q.worker_down(worker, &Gone::Dismissed, now); }
            now += 20_000;
            while let Some(d) = q.next(now) { prop_assert!(q.answer(d.worker, d.id, done("end"), now)); }
            if q.tasks.is_empty() { break; }
        }
        shepherd.read(&q);
        prop_assert_eq!(shepherd.ended.keys().collect::<Vec<_>>(), shepherd.taken.keys().collect::<Vec<_>>());
    }
}
