//! Reaching into an instance through the `Runtime` trait, on a real engine: terminals, ports, files. Where and how: `behaviour.rs`.

#![cfg(test)]

#[allow(dead_code, reason = "each suite uses its part")]
#[macro_use]
mod support;

use std::io;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use pasture_runtime::{Attached, Connection, InnerName, InstanceId, LogStream, PathKind, RuntimeError, Terminal, TerminalSize};
use support::{Bench, seconds, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

on_an_engine!(
    a_terminal_has_a_size_and_gives_any_bytes_as_they_are,
    a_command_that_is_not_there_is_told_from_one_that_says_so,
    ports_are_reached_without_a_network_and_only_the_instances_own,
    names_inside_lead_to_us_also_at_ports_that_the_instance_listens_on,
    files_come_out_and_go_in,
);

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|word| (*word).to_owned()).collect()
}

/// What a command wrote, to its end, and its exit code.
async fn heard(attached: Attached) -> (Vec<u8>, Option<i32>) {
    let Attached { output, code, .. } = attached;
    let all = output.map_ok(|(_, bytes)| bytes).try_collect::<Vec<Bytes>>().await.unwrap();
    (all.concat(), code.await)
}

async fn a_terminal_has_a_size_and_gives_any_bytes_as_they_are(bench: Bench) {
    let id = bench.start(&bench.shell("sleep 1000")).await;
    let open = |script: &'static str| {
        let size = TerminalSize { columns: 91, rows: 37 };
        bench.rt.attach_terminal(&id, words(&["sh", "-c", script]), Default::default(), size)
    };
    // What a client library would take for the head of four gigabytes, if it looked for heads here.
    let Terminal { command, .. } = open(r"printf '\001\000\000\000\377\377\377\377and more'; exit 4").await.unwrap();
    assert_eq!(timeout(seconds(20), heard(command)).await.unwrap(), (b"\x01\0\0\0\xff\xff\xff\xffand more".to_vec(), Some(4)));

    let Terminal { command, resize } = open(
        "read x; while [ \"$(stty size)\" != '37 91' ]; do :; done; echo first; \
        while [ \"$(stty size)\" != '50 120' ]; do :; done; echo second; read y; echo \"$y\"",
    )
    .await
    .unwrap();
    let Attached { mut input, mut output, code, .. } = command;
    let mut said = String::new();
    input.write_all(b"go\n").await.unwrap();
    for (words, next) in [("first", Some(b"" as &[u8])), ("second", Some(b"bye\n")), ("bye\r\nbye", None)] {
        while !said.contains(words) {
            let (stream, bytes) = timeout(seconds(20), output.next()).await.unwrap().unwrap().unwrap();
            assert_eq!(stream, LogStream::Stdout);
            said.push_str(&String::from_utf8_lossy(&bytes));
        }
        resize(TerminalSize { columns: 120, rows: 50 }).await;
        input.write_all(next.unwrap_or_default()).await.unwrap();
    }
    while timeout(seconds(20), output.next()).await.unwrap().is_some() {}
    assert_eq!(code.await, Some(0));
    // A terminal that is gone has no size, and that is no error.
    resize(TerminalSize { columns: 1, rows: 1 }).await;
}

async fn a_command_that_is_not_there_is_told_from_one_that_says_so(bench: Bench) {
    let id = bench.start(&bench.shell("sleep 1000")).await;
    let attach = |command: Vec<String>| bench.rt.attach(&id, command, Default::default());
    for (command, expected) in [("no-such-command", 127), ("/etc", 126)] {
        let Attached { mut output, .. } = attach(words(&[command])).await.unwrap();
        let first = timeout(seconds(20), output.next()).await.unwrap();
        assert!(matches!(first, Some(Err(RuntimeError::StartFailed { code, .. })) if code == expected), "{command}: {first:?}");
    }
    let line = "OCI runtime exec failed: exec: \"x\": not found";
    let attached = attach(words(&["sh", "-c", &format!("echo '{line}'; exit 3")])).await.unwrap();
    assert_eq!(heard(attached).await, (format!("{line}\n").into_bytes(), Some(3)));
}

/// Says something to a port, and reads the answer to its end.
async fn ask(bench: &Bench, id: &InstanceId, port: u16, what: &[u8]) -> Result<Vec<u8>, RuntimeError> {
    let Connection { mut input, mut output } = bench.rt.connect(id, port).await?;
    input.write_all(what).await.unwrap();
    input.shutdown().await.unwrap();
    let mut answer = vec![];
    output.read_to_end(&mut answer).await.unwrap();
    Ok(answer)
}

/// What a shell in the instance says.
async fn says(bench: &Bench, id: &InstanceId, script: &str) -> String {
    let attached = bench.rt.attach(id, words(&["sh", "-c", script]), Default::default()).await.unwrap();
    String::from_utf8(timeout(seconds(30), heard(attached)).await.unwrap().0).unwrap().trim().to_owned()
}

async fn names_inside_lead_to_us_also_at_ports_that_the_instance_listens_on(bench: Bench) {
    let mut workload = bench.shell("nc -ll -p 7000 -e echo its own & sleep 1000");
    workload.network = pasture_runtime::Network::None;
    let id = bench.start(&workload).await;
    let name = |name: &str, last: u8, ports: &[u16]| InnerName { name: name.into(), ip: [127, 64, 0, last].into(), ports: ports.into() };
    let answered = |listener: TcpListener, answer: &'static [u8]| {
        pasture_rt::spawn(pasture_rt::TaskKind::Connection, async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(answer).await;
            }
        })
    };
    let outside = name("out", 1, &[7000]);
    let strange = InnerName { ip: [10, 0, 0, 1].into(), ..outside.clone() };
    assert!(matches!(bench.rt.open_names(&id, &[strange]).await, Err(RuntimeError::Conflict(_))), "not an address of the instance alone");

    let listeners = bench.rt.open_names(&id, &[name("db", 1, &[7000, 7001]), name("web", 2, &[7000])]).await.unwrap();
    let answers: [&[u8]; 3] = [b"db", b"db at another port", b"web"];
    let _serving: Vec<_> = listeners.into_iter().zip(answers).map(|(listener, answer)| answered(listener, answer)).collect();
    until("its own port answers", || async { says(&bench, &id, "nc 127.0.0.1 7000 </dev/null").await == "its own" }).await;
    assert_eq!(says(&bench, &id, "nc db 7000 </dev/null").await, "db");
    assert_eq!(says(&bench, &id, "nc db 7001 </dev/null").await, "db at another port");
    assert_eq!(says(&bench, &id, "nc web 7000 </dev/null").await, "web");
    assert_eq!(says(&bench, &id, "nc -w 2 web 7001 </dev/null 2>/dev/null || echo nobody").await, "nobody");
    let table = says(&bench, &id, "cat /etc/hosts").await;
    assert!(table.contains("localhost") && table.contains("127.64.0.1\tdb"), "{table}");

    // Others in their place, twice over: nothing piles up.
    for _ in 0..2 {
        let listeners = bench.rt.open_names(&id, &[name("cache", 3, &[7000])]).await.unwrap();
        let _serving: Vec<_> = listeners.into_iter().map(|listener| answered(listener, b"cache")).collect();
        assert_eq!(says(&bench, &id, "nc cache 7000 </dev/null").await, "cache");
        assert_eq!(says(&bench, &id, "grep -c -e db -e web -e cache /etc/hosts").await, "1");
    }
    // An address without a name is the instance's own loopback, as it was before.
    assert_eq!(says(&bench, &id, "nc 127.64.0.9 7000 </dev/null").await, "its own");
    bench.rt.kill(&id).await.unwrap();
    assert!(bench.rt.open_names(&id, &[outside]).await.is_err());
}

async fn ports_are_reached_without_a_network_and_only_the_instances_own(bench: Bench) {
    let mut workload = bench.shell("nc -ll -p 7000 -e wc -c & sleep 1000");
    workload.network = pasture_runtime::Network::None;
    let id = bench.start(&workload).await;
    until("the port answers", || async { ask(&bench, &id, 7000, b"12345").await.is_ok_and(|answer| answer == b"5\n") }).await;
    // Connections are made by threads that stay in there; none of ours does.
    let ours = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = ours.local_addr().unwrap().port();
    let refused = ask(&bench, &id, port, b"").await;
    assert!(matches!(&refused, Err(RuntimeError::Io { source, .. }) if source.kind() == io::ErrorKind::ConnectionRefused), "{refused:?}");
    assert!(timeout(seconds(1), ours.accept()).await.is_err(), "our own port was touched");
    bench.rt.kill(&id).await.unwrap();
    assert!(matches!(ask(&bench, &id, 7000, b"").await, Err(RuntimeError::Conflict(_))));
    bench.rt.remove(&id).await.unwrap();
    assert!(matches!(ask(&bench, &id, 7000, b"").await, Err(RuntimeError::NotFound { .. })));
}

async fn files_come_out_and_go_in(bench: Bench) {
    let script = "mkdir -p /d/sub; echo a > /d/a; ln -s /d/sub /d/way; ln -s a /d/short; echo ready; sleep 1000";
    let id = bench.start(&bench.shell(script)).await;
    bench.wait_for_log(&id, "ready").await;
    for (path, kind) in [
        ("/d", Some(PathKind::Folder)),
        ("/", Some(PathKind::Folder)),
        ("/d/way", Some(PathKind::Folder)),
        ("/d/a", Some(PathKind::Other)),
        ("/d/short", Some(PathKind::Other)),
        ("/d/none", None),
        ("/d/a/b", None),
    ] {
        assert_eq!(bench.rt.look_at(&id, path).await.unwrap(), kind, "{path}");
    }
    let missing = bench.rt.read_files(&id, "/d/none").try_collect::<Vec<Bytes>>().await;
    assert!(matches!(missing, Err(RuntimeError::NotFound { what: "path", .. })), "{missing:?}");
    let archive = bench.rt.read_files(&id, "/d").try_collect::<Vec<Bytes>>().await.unwrap().concat();
    let mut names: Vec<String> =
        tar::Archive::new(archive.as_slice()).entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
    assert_eq!(names.remove(0), "d/", "what was asked for comes first");
    names.sort();
    assert_eq!(names, ["d/a", "d/short", "d/sub/", "d/way"]);
    // The same goes in elsewhere.
    let pieces: Vec<io::Result<Bytes>> = archive.chunks(100).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    bench.rt.write_files(&id, "/d/sub", futures::stream::iter(pieces).boxed()).await.unwrap();
    let seen = bench.rt.exec(&id, words(&["cat", "/d/sub/d/a"]), seconds(20)).await.unwrap();
    assert_eq!(seen.stdout, b"a\n");
    let broken = futures::stream::iter([Ok(Bytes::from_static(&[0; 100])), Err(io::Error::other("cut off"))]).boxed();
    assert!(bench.rt.write_files(&id, "/d", broken).await.is_err());
    let nowhere = bench.rt.write_files(&id, "/none", futures::stream::empty().boxed()).await;
    assert!(nowhere.is_err());
}
