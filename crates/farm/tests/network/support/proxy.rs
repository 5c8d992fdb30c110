//! A way to a network that breaks: everything is passed on but at some requests, whose connections are cut.
//!
//! Guarantees: breaks as often as said and no more; threads end with the connections they serve, the last one with the test program.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// When the connection breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Broken {
    /// The network never hears of the request. Often enough that the HTTP client's own second attempt does not hide it.
    BeforeTheRequest,
    /// It does what was asked, and nobody hears of that.
    BeforeTheAnswer,
}

impl Broken {
    const fn times(self) -> u32 {
        match self {
            Self::BeforeTheRequest => 3,
            Self::BeforeTheAnswer => 1,
        }
    }
}

/// The address of a way to `url` that breaks at the first requests with these words in their first line.
pub(crate) fn proxy(url: &str, words: &'static str, broken: Broken) -> String {
    let target = url.strip_prefix("http://").unwrap().to_string();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let left = Arc::new(AtomicU32::new(broken.times()));
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(&target) else { return };
            let left = Arc::clone(&left);
            std::thread::spawn(move || serve(client, server, words, broken, &left));
        }
    });
    address
}

fn serve(mut client: TcpStream, mut server: TcpStream, words: &str, broken: Broken, left: &AtomicU32) {
    let answers = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let mute = Arc::new(AtomicBool::new(false));
    let muted = Arc::clone(&mute);
    let back = std::thread::spawn(move || {
        let (mut from, mut to) = answers;
        let mut buffer = [0; 8192];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if muted.load(Ordering::SeqCst) || to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
    let mut buffer = [0; 65_536];
    while let Ok(n @ 1..) = client.read(&mut buffer) {
        // A client writes the head of a request at once.
        let head = String::from_utf8_lossy(&buffer[..n]);
        if head.lines().next().is_some_and(|line| line.contains(words)) && one_less(left) {
            if broken == Broken::BeforeTheRequest {
                break;
            }
            mute.store(true, Ordering::SeqCst);
        }
        if server.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    if !mute.load(Ordering::SeqCst) {
        let _ = server.shutdown(Shutdown::Both);
        let _ = client.shutdown(Shutdown::Both);
    }
    let _ = back.join();
}

fn one_less(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}
