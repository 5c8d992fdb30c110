//! A whole herd with real processes as workers: results once, poison found, late workers ended, journals that survive, receipts
//! that hold. Everything goes through the doors that a shepherd has.

#![cfg(test)]

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use pasture_herd::journal::Directory;
use pasture_herd::limits::MAX_BATCH;
use pasture_herd::protocol::{self, Ask, Form, Frames, HELLO, Tell};
use pasture_herd::{
    Answer, Busy, Chain, Finished, Format, Herd, Limits, LocalYard, NewTask, Options, Outcome, Receipt, Signer, Submitted, session,
};
use pasture_rt::{SystemClock, TaskKind};
use pasture_types::SigningKey;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

/// Longest that anything here may take; all of it takes moments on an idle machine.
const PATIENCE: Duration = Duration::from_secs(180);
const LEASE: [u8; 32] = [4; 32];

/// Doubles numbers; dies of `die`, hangs on `hang`.
const DOUBLE: &str =
    r#"while read -r n; do case $n in die) echo "it was too much" >&2; exit 3;; hang) sleep 600;; *) echo $((n * 2));; esac; done"#;

fn key() -> SigningKey {
    SigningKey::from_seed([8; 32])
}

fn limits() -> Limits {
    Limits { timeout_ms: 20_000, backoff_ms: 10, lines: true, ..Limits::default() }
}

async fn open_with(script: &str, workers: u32, limits: Limits, format: Format, journal: Option<&Path>) -> Herd {
    let yard = LocalYard::new(vec!["sh".into(), "-c".into(), script.into()]);
    let options = Options {
        limits,
        workers,
        format,
        place: journal.map(|path| Box::new(Directory::new(path.to_owned())) as Box<_>),
        herd: [1; 16],
        signer: Signer::new(key(), LEASE),
        clock: Arc::new(SystemClock),
    };
    Herd::open(options, Arc::new(yard)).await.unwrap()
}

async fn open(script: &str, workers: u32) -> Herd {
    open_with(script, workers, limits(), Format::Lines, None).await
}

async fn read(herd: &Herd, count: usize) -> Vec<Finished> {
    let mut out: Vec<Finished> = vec![];
    let all = async {
        while out.len() < count {
            let after = out.last().map_or(0, |f| f.seq);
            out.extend(herd.results(after, 1000, 1 << 20).await.unwrap().results);
        }
    };
    timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("not {count} results within {PATIENCE:?}"));
    out
}

fn verified(receipt: &Receipt, results: &[Finished]) -> Chain {
    let mut chain = Chain::default();
    for result in results.iter().filter(|f| f.seq <= receipt.seq) {
        assert!(chain.push(result));
    }
    receipt.verify(&key().node_id(), &LEASE, &chain).unwrap();
    chain
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_tasks_end_once_though_workers_die_and_hang() {
    let herd = open_with(DOUBLE, 2, Limits { timeout_ms: 700, ..limits() }, Format::Lines, None).await;
    let mut tasks: Vec<NewTask> = (0..2000).map(|n| NewTask::of(n.to_string()).keyed(format!("k{n}"))).collect();
    tasks.insert(700, NewTask::of("die"));
    tasks.insert(1200, NewTask { attempts: 1, ..NewTask::of("hang") });
    for batch in tasks.chunks(500) {
        let Submitted { answers, busy } = herd.submit(batch.to_vec()).await.unwrap();
        assert_eq!((answers.len(), busy), (batch.len(), None));
    }
    // A shepherd that did not hear the answer says it all again.
    let again = herd.submit(tasks[..400].to_vec()).await.unwrap();
    assert!(again.answers.iter().all(|a| matches!(a, Answer::Known { .. })), "{again:?}");
    let results = read(&herd, tasks.len()).await;
    assert_eq!(results.len(), tasks.len());
    let by_key: BTreeMap<&str, &Finished> = results.iter().filter(|f| !f.key.is_empty()).map(|f| (f.key.as_str(), f)).collect();
    for n in 0..2000 {
        let f = by_key[format!("k{n}").as_str()];
        assert_eq!((f.outcome, &f.result[..]), (Outcome::Done, (n * 2).to_string().as_bytes()), "{f:?}");
    }
    let failed: Vec<&Finished> = results.iter().filter(|f| f.outcome == Outcome::Failed).collect();
    assert_eq!(failed.len(), 2, "{failed:?}");
    let of = |payload: &str| failed.iter().find(|f| f.payload_hash == *blake3::hash(payload.as_bytes()).as_bytes()).unwrap();
    assert_eq!(of("die").attempts, 3);
    assert!(String::from_utf8_lossy(&of("die").result).contains("it was too much"), "{:?}", of("die"));
    assert_eq!(of("hang").attempts, 1);
    let chain = verified(&herd.receipt().await.unwrap(), &results);
    assert_eq!((chain.done, chain.failed), (2000, 2));
    herd.close().await;
    assert!(herd.status().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_herd_goes_on_where_it_was_and_no_result_changes() {
    let dir = tempfile::tempdir().unwrap();
    let durable = |script| open_with(script, 2, limits(), Format::Lines, Some(dir.path()));
    let herd = durable(DOUBLE).await;
    herd.submit((0..50).map(|n| NewTask::of(n.to_string()).keyed(format!("k{n}"))).collect()).await.unwrap();
    let first = read(&herd, 50).await;
    herd.acknowledge(20).await.unwrap();
    herd.close().await;
    // Workers that never answer: what is submitted now stays.
    let herd = durable("sleep 600").await;
    let page = herd.results(20, 1000, 1 << 20).await.unwrap();
    assert_eq!(page.results, first[20..]);
    let more = herd.submit((0..60).map(|n| NewTask::of(n.to_string()).keyed(format!("k{n}"))).collect()).await.unwrap();
    let new = more.answers.iter().filter(|a| matches!(a, Answer::New { .. })).count();
    assert_eq!(new, 10, "what was acknowledged is not forgotten");
    drop(herd);
    // Without a word of parting: its files are as they are.
    let herd = durable(DOUBLE).await;
    let mut all = first[..20].to_vec();
    let rest = async {
        while all.len() < 60 {
            all.extend(herd.results(all.len() as u64, 1000, 1 << 20).await.unwrap().results);
        }
    };
    timeout(PATIENCE, rest).await.unwrap();
    assert_eq!(verified(&herd.receipt().await.unwrap(), &all).done, 60);
    assert_eq!(herd.results(0, 1000, 1 << 20).await.unwrap().results[0].seq, 21, "what was let go is gone");
    herd.close().await;
}

/// Whoever dies leaves the files as they are at that moment: so each copy taken while work goes on is a death.
#[tokio::test(flavor = "multi_thread")]
async fn a_death_at_any_moment_keeps_what_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let herd = open_with(DOUBLE, 2, limits(), Format::Lines, Some(dir.path())).await;
    let (mut taken, mut shown): (Vec<u64>, Vec<Finished>) = (vec![], vec![]);
    for round in 0..25u64 {
        let submitting = herd.clone();
        let batch = (0..40).map(|n| NewTask::of(n.to_string()).keyed(format!("{round}.{n}"))).collect();
        let submitted = pasture_rt::spawn(TaskKind::Herd, async move { submitting.submit(batch).await.unwrap() });
        // What was said before this copy is in it.
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let entry = entry.unwrap();
            if entry.path().extension().is_none_or(|e| e != "new") {
                std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
            }
        }
        let after = open_with("sleep 600", 1, limits(), Format::Lines, Some(copy.path())).await;
        let status = after.status().await.unwrap();
        assert!(status.submitted >= taken.len() as u64, "{status:?}");
        if !shown.is_empty() {
            let page = after.results(0, shown.len(), 1 << 20).await.unwrap();
            assert_eq!(page.results, shown, "what was shown is never another");
        }
        after.close().await;
        for answer in submitted.join().await.unwrap().answers {
            let Answer::New { id } = answer else { panic!("{answer:?}") };
            taken.push(id);
        }
        let last = shown.last().map_or(0, |f| f.seq);
        shown.extend(timeout(PATIENCE, herd.results(last, 1000, 1 << 20)).await.unwrap().unwrap().results);
    }
    assert_eq!(read(&herd, taken.len()).await.len(), taken.len());
    herd.close().await;
}

/// A shepherd on a connection in memory.
struct Shepherd {
    form: Form,
    say: mpsc::Sender<Result<Bytes, std::io::Error>>,
    told: mpsc::Receiver<Bytes>,
    frames: Frames<Tell>,
}

impl Shepherd {
    async fn new(herd: &Herd, form: Form) -> Self {
        let (say, input) = mpsc::channel(1);
        let (out, told) = mpsc::channel(session::OUTBOX);
        pasture_rt::spawn(TaskKind::Connection, session::serve(herd.clone(), ReceiverStream::new(input), out));
        if form == Form::Binary {
            say.send(Ok(Bytes::from_static(&HELLO))).await.unwrap();
        }
        Self { form, say, told, frames: Frames::of(form) }
    }
    async fn say(&self, ask: &Ask) {
        self.say.send(Ok(protocol::encoded(self.form, ask))).await.unwrap();
    }
    async fn hear(&mut self) -> Option<Tell> {
        loop {
            if let Some(tell) = self.frames.next_frame().unwrap() {
                return Some(tell);
            }
            let piece = timeout(PATIENCE, self.told.recv()).await.expect("a word within the time")?;
            self.frames.buffer().extend_from_slice(&piece);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shepherd_is_told_results_and_receipts_as_they_come_in_both_forms() {
    for form in [Form::Binary, Form::JsonLines] {
        let herd = open(DOUBLE, 2).await;
        let mut shepherd = Shepherd::new(&herd, form).await;
        shepherd.say(&Ask::Results { after: 0 }).await;
        for tag in 0..10 {
            let tasks = (0..30).map(|n| NewTask::of(n.to_string())).collect();
            shepherd.say(&Ask::Submit { tag, tasks }).await;
        }
        let (mut results, mut tags, mut receipt) = (vec![], vec![], None);
        while receipt.as_ref().is_none_or(|r: &Receipt| r.seq < 300) {
            match shepherd.hear().await.unwrap() {
                Tell::Submitted { tag, submitted } => {
                    assert_eq!(submitted.answers.len(), 30);
                    tags.push(tag);
                }
                Tell::Results { results: more } => results.extend(more),
                Tell::Receipt { receipt: new } => receipt = Some(new),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(tags, (0..10).collect::<Vec<_>>(), "in the order asked");
        assert_eq!(verified(&receipt.unwrap(), &results).done, 300);
        shepherd.say(&Ask::Acknowledge { upto: 300 }).await;
        assert_eq!(shepherd.hear().await, Some(Tell::Acknowledged { upto: 300 }));
        shepherd.say(&Ask::Status).await;
        let Some(Tell::Status { status }) = shepherd.hear().await else { panic!("no status") };
        assert_eq!((status.unacknowledged, status.acknowledged, status.workers), (0, 300, 2));
        herd.close().await;
        let end = shepherd.hear().await;
        assert!(matches!(end, Some(Tell::Receipt { .. } | Tell::Ended)), "{end:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_ends_the_connection_with_a_reason_and_the_herd_goes_on() {
    let herd = open(DOUBLE, 1).await;
    for nonsense in ["what\n", "{\"do\":\"dance\"}\n", "{}\n"] {
        let mut shepherd = Shepherd::new(&herd, Form::JsonLines).await;
        shepherd.say.send(Ok(Bytes::from_static(nonsense.as_bytes()))).await.unwrap();
        assert!(matches!(shepherd.hear().await, Some(Tell::Problem { .. })));
        assert_eq!(shepherd.hear().await, None);
    }
    let mut shepherd = Shepherd::new(&herd, Form::Binary).await;
    let mut bytes = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
    bytes.extend_from_slice(b"....");
    shepherd.say.send(Ok(bytes.freeze())).await.unwrap();
    assert!(matches!(shepherd.hear().await, Some(Tell::Problem { .. })));
    let mut shepherd = Shepherd::new(&herd, Form::JsonLines).await;
    shepherd.say(&Ask::Submit { tag: 1, tasks: vec![NewTask::of("1"); MAX_BATCH + 1] }).await;
    assert!(matches!(shepherd.hear().await, Some(Tell::Problem { .. })));
    assert!(herd.status().await.is_ok());
    herd.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_too_fast_is_told_what_fits_and_gets_everything_done() {
    let herd = open_with(DOUBLE, 2, Limits { tasks: 50, results: 40, ..limits() }, Format::Lines, None).await;
    let (mut next, mut done, mut busy) = (0, 0u64, 0);
    let work = async {
        while done < 1000 {
            let batch: Vec<NewTask> = (next..1000.min(next + 100)).map(|n| NewTask::of(n.to_string())).collect();
            let told = herd.submit(batch).await.unwrap();
            next += told.answers.len();
            busy += u32::from(matches!(told.busy, Some(Busy::Full { .. })));
            let results = herd.results(done, 1000, 1 << 20).await.unwrap().results;
            done += results.len() as u64;
            herd.acknowledge(done).await.unwrap();
        }
    };
    timeout(PATIENCE, work).await.unwrap();
    assert!(busy > 5);
    herd.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_cannot_start_are_told_of_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("now");
    let script = format!("test -e {} || {{ echo 'not yet' >&2; exit 1; }}; {DOUBLE}", flag.display());
    let herd = open(&script, 1).await;
    herd.submit(vec![NewTask::of("4")]).await.unwrap();
    let told = async {
        while !herd.status().await.unwrap().problem.contains("not yet") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, told).await.unwrap();
    std::fs::write(&flag, "").unwrap();
    // Its attempts may have been charged to the dead before it.
    herd.submit(vec![NewTask { attempts: 200, ..NewTask::of("21") }]).await.unwrap();
    assert_eq!(read(&herd, 2).await[1].result, "42");
    herd.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_worker_answers_in_any_order_and_says_what_is_hopeless() {
    // Answers pairs in reverse.
    let script = r#"while read -r a; do
        case $a in *never*) i=${a#*\"id\":}; echo "{\"id\":${i%%,*},\"error\":\"no\",\"retry\":false}"; continue;; esac
        i=${a#*\"id\":}; echo "{\"id\":${i%%,*},\"ok\":{\"n\":1}}"; done"#;
    let herd = open_with(script, 1, Limits { lines: false, ..limits() }, Format::Json, None).await;
    herd.submit(vec![NewTask::of("a\nb"), NewTask::of("never"), NewTask::of(vec![0xff, 0])]).await.unwrap();
    let results = read(&herd, 3).await;
    let told: Vec<_> = results.iter().map(|f| (f.id, f.outcome, f.attempts, f.result.clone())).collect();
    let ok = Bytes::from_static(b"{\"n\":1}");
    assert_eq!(told, [(1, Outcome::Done, 1, ok.clone()), (2, Outcome::Failed, 1, "no".into()), (3, Outcome::Done, 1, ok)]);
    herd.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_does_it_all() {
    use axum::body::{Body, to_bytes};
    use axum::http::{Request, StatusCode};
    let herd = open(DOUBLE, 1).await;
    let call = |method: &'static str, path: &'static str, body: &'static str| {
        let herd = herd.clone();
        async move {
            let (name, _) = path.split_once('?').unwrap_or((path, ""));
            let request = Request::builder().method(method).uri(format!("/v1/herd/{path}")).body(Body::from(body)).unwrap();
            let answer = pasture_herd::http::handle(herd, name, request).await;
            let status = answer.status();
            (status, to_bytes(answer.into_body(), 1 << 20).await.unwrap())
        }
    };
    let (status, body) = call("POST", "tasks", r#"[{"payload":"2","key":"a"},{"payload":"3"}]"#).await;
    assert_eq!((status, &body[..]), (StatusCode::OK, &br#"{"answers":[{"is":"new","id":1},{"is":"new","id":2}]}"#[..]));
    let (_, body) = call("POST", "tasks", r#"{"tasks":[{"payload":"9","key":"a"},{"payload":"two\nlines"}]}"#).await;
    assert!(String::from_utf8_lossy(&body).contains(r#"{"is":"conflict","id":1},{"is":"refused""#), "{body:?}");
    read(&herd, 2).await;
    let (_, body) = call("GET", "results?after=1&wait_ms=1000", "").await;
    assert!(String::from_utf8_lossy(&body).contains(r#""result":"6""#), "{body:?}");
    let (status, body) = call("GET", "results?after=2", "").await;
    assert_eq!((status, &body[..]), (StatusCode::OK, &br#"{"results":[]}"#[..]));
    assert_eq!(call("POST", "acknowledge?upto=2", "").await.0, StatusCode::NO_CONTENT);
    let (_, body) = call("GET", "status", "").await;
    assert!(String::from_utf8_lossy(&body).contains(r#""acknowledged":2"#), "{body:?}");
    let (_, body) = call("GET", "receipt", "").await;
    assert_eq!(serde_json::from_slice::<Receipt>(&body).unwrap().done, 2);
    for (method, path, body, status) in [
        ("POST", "tasks", "{", StatusCode::BAD_REQUEST),
        ("GET", "tasks", "", StatusCode::METHOD_NOT_ALLOWED),
        ("GET", "nothing", "", StatusCode::NOT_FOUND),
        ("GET", "results?after=x", "", StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(call(method, path, body).await.0, status, "{method} {path}");
    }
    // The same conversation as over a socket.
    let request = Request::builder()
        .method("POST")
        .uri("/v1/herd/stream")
        .body(Body::from("{\"do\":\"submit\",\"tag\":7,\"tasks\":[{\"payload\":\"5\"}]}\n{\"do\":\"results\",\"after\":2}\n"))
        .unwrap();
    let mut told = pasture_herd::http::handle(herd.clone(), "stream", request).await.into_body().into_data_stream();
    let mut text = String::new();
    while !text.contains(r#""result":"10""#) {
        text.push_str(std::str::from_utf8(&timeout(PATIENCE, told.next()).await.unwrap().unwrap().unwrap()).unwrap());
    }
    assert!(text.contains(r#"{"is":"submitted","tag":7,"answers":[{"is":"new","id":3}]}"#), "{text}");
    herd.close().await;
}
