//! A gateway that lies: hands on what another answers, changed as it is told.
//!
//! Guarantees: each request has a connection of its own at the other side; streams are handed on as they come, unchanged. Threads end with
//! the connections they serve, the last one with the test program.

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _, copy};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What it makes of an answer: the path that was asked, and the body as JSON. Whether it was changed.
type Lie = Box<dyn Fn(&str, &mut Value) -> bool + Send>;

/// A gateway that lies, and tells the truth until it is told what to say.
pub(crate) struct Liar {
    pub(crate) url: String,
    lie: Arc<Mutex<Option<Lie>>>,
    told: Arc<Mutex<u32>>,
}

impl Liar {
    pub(crate) fn before(url: &str) -> Self {
        let target = url.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let this = Self { url: format!("http://{}", listener.local_addr().unwrap()), lie: Arc::default(), told: Arc::default() };
        let (lie, told) = (Arc::clone(&this.lie), Arc::clone(&this.told));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (target, lie, told) = (target.clone(), Arc::clone(&lie), Arc::clone(&told));
                // One that went away is not ours to report.
                std::thread::spawn(move || drop(pass(client, &target, &lie, &told)));
            }
        });
        this
    }
    /// What it says from now on.
    pub(crate) fn says(&self, lie: impl Fn(&str, &mut Value) -> bool + Send + 'static) {
        *self.told.lock().unwrap() = 0;
        *self.lie.lock().unwrap() = Some(Box::new(lie));
    }
    /// It tells the truth again.
    pub(crate) fn repents(&self) {
        *self.lie.lock().unwrap() = None;
    }
    /// How often it said what it was told last.
    pub(crate) fn lied(&self) -> u32 {
        *self.told.lock().unwrap()
    }
}

fn pass(mut client: TcpStream, target: &str, lie: &Mutex<Option<Lie>>, told: &Mutex<u32>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let (mut head, mut length, mut path) = (String::new(), 0, String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line.trim_end().is_empty() {
            break;
        }
        if path.is_empty() {
            path = line.split_whitespace().nth(1).unwrap_or("/").to_owned();
        }
        let lower = line.to_ascii_lowercase();
        if let Some(number) = lower.strip_prefix("content-length:") {
            length = number.trim().parse().unwrap_or(0);
        }
        if !lower.starts_with("connection:") && !lower.starts_with("accept-encoding:") {
            head.push_str(&line);
        }
    }
    let mut server = TcpStream::connect(target)?;
    write!(server, "{head}connection: close\r\n\r\n")?;
    if length > 0 {
        copy(&mut (&mut reader).take(length), &mut server)?;
    }
    let mut answer = BufReader::new(server.try_clone()?);
    let (mut head, mut is_json) = (String::new(), false);
    let mut length: Option<u64> = None;
    loop {
        let mut line = String::new();
        if answer.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line.trim_end().is_empty() {
            break;
        }
        let lower = line.to_ascii_lowercase();
        is_json |= lower.starts_with("content-type: application/json");
        match lower.strip_prefix("content-length:") {
            Some(number) => length = number.trim().parse().ok(),
            None => head.push_str(&line),
        }
    }
    let Some(length) = length else {
        // A stream, as it comes.
        write!(client, "{head}\r\n")?;
        let mut buffer = [0; 8192];
        while let n @ 1.. = answer.read(&mut buffer)? {
            client.write_all(&buffer[..n])?;
        }
        return Ok(());
    };
    let mut body = vec![];
    answer.take(length).read_to_end(&mut body)?;
    if let (true, Some(lie), Ok(mut value)) = (is_json, &*lie.lock().unwrap(), serde_json::from_slice(&body))
        && lie(&path, &mut value)
    {
        body = serde_json::to_vec(&value)?;
        *told.lock().unwrap() += 1;
    }
    write!(client, "{head}content-length: {}\r\n\r\n", body.len())?;
    client.write_all(&body)
}
