//! Ports of jobs that everybody reaches by a name: through a gateway, to real containers without an address of their own.

use crate::support::{Folder, Net, Options, PATIENCE, User, eventually, free_port, until};
use serde_json::Value;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

/// Pages and a large file on 8000; on 7000 an answer that is the question's head, or another protocol if that is asked for.
const SITE: &str = r#"
mkdir -p /tmp/www
echo "the page" >/tmp/www/index.html
head -c 3000000 /dev/zero >/tmp/www/large
cat >/tmp/answer <<'END'
head=; upgrade=
while read -r line; do
  [ "$line" = "$(printf '\r')" ] && break
  case "$line" in [Uu]pgrade:*) upgrade=1;; esac
  head="$head$line
"
done
if [ -n "$upgrade" ]; then
  printf 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n'
  exec cat
fi
printf 'HTTP/1.1 200 OK\r\nConnection: close\r\nX-Forwarded-Host: mine\r\n\r\n%s' "$head"
END
chmod +x /tmp/answer
httpd -p 8000 -h /tmp/www
echo up
while true; do nc -l -p 7000 -e sh /tmp/answer; done
"#;
const TINY: [&str; 6] = ["--cpu", "0.1", "--memory", "32Mi", "--disk", "64Mi"];

/// Where a name leads, as it was printed: the authority of its URL.
fn exposed(user: &User, job: &str, port: u16, name: &str) -> String {
    let shown = user.farm(&["expose", job, &port.to_string(), "--name", name, "--json"]).exits(0).json();
    let entry = shown.as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("{shown}"));
    let url = entry["url"].as_str().unwrap();
    let host = url.strip_prefix("http://").unwrap_or_else(|| panic!("{url}")).to_owned();
    assert!(host.starts_with(&format!("{name}-")) && host.contains(".localhost:"), "{host}");
    host
}

fn door(host: &str) -> TcpStream {
    let port: u16 = host.rsplit_once(':').unwrap().1.parse().unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What comes back for exactly these bytes, until the other side ends.
fn raw(host: &str, sent: &str) -> io::Result<Vec<u8>> {
    let mut stream = door(host);
    stream.write_all(sent.as_bytes())?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    Ok(all)
}

/// Status and body.
fn get(host: &str, path: &str) -> io::Result<(u16, Vec<u8>)> {
    let all = raw(host, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))?;
    let end = all.windows(4).position(|part| part == b"\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let status =
        String::from_utf8_lossy(&all[..end]).split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, all[end + 4..].to_vec()))
}

fn status_of(host: &str, sent: &str) -> u16 {
    let all = raw(host, sent).unwrap();
    let text = String::from_utf8_lossy(&all);
    text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{sent:?} was answered {text:?}"))
}

fn net() -> Net {
    net_with(&[])
}

fn net_with(more: &[&str]) -> Net {
    let args = [&["--ingress", "127.0.0.1:0"], more].concat().into_iter().map(str::to_owned).collect();
    Net::start(Options { args, fixed_port: true, ..Options::default() })
}

fn begin(user: &User, folder: &Folder, name: &str) {
    let _ = user.farm(&[&["run", folder.arg(), "--name", name, "--detach", "--timeout", "1h"], &TINY[..]].concat()).exits(0);
}

/// Names that nobody opened, and tricks.
fn refuses(shop: &str, heads: &str) {
    let other = shop.replacen("shop", "shap", 1);
    assert_eq!(get(&other, "/").unwrap().0, 404);
    let ask = |head: &str| status_of(shop, &format!("{head}\r\n\r\n"));
    assert_eq!(ask("GET / HTTP/1.1\r\nConnection: close\r\nHost: 127.0.0.1"), 404);
    assert_eq!(ask("GET / HTTP/1.1\r\nConnection: close"), 400);
    assert_eq!(ask(&format!("GET / HTTP/1.1\r\nConnection: close\r\nHost: {shop}\r\nHost: {other}")), 400);
    assert_eq!(ask(&format!("GET http://{other}/ HTTP/1.1\r\nConnection: close\r\nHost: {shop}")), 400);
    let head = |host: &str, rest: &str| format!("POST / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 4\r\n{rest}");
    assert_eq!(status_of(shop, &head(shop, "Content-Length: 5\r\n\r\n12345")), 400, "two lengths");
    // Of a length and pieces the pieces count (RFC 9112, §6.3), and the container is told of one of them only.
    let both = head(heads, "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    let told = eventually("the head is told", PATIENCE, || {
        let told = String::from_utf8(raw(heads, &both).ok()?).ok()?.to_lowercase();
        told.starts_with("http/1.1 200").then_some(told)
    });
    assert!(told.contains("transfer-encoding: chunked") && !told.contains("content-length"), "{told}");
    let mut slow = door(shop);
    slow.write_all(b"GET / HTTP/1.1\r\nHost:").unwrap();
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "a head that does not end is not waited for");
}

#[test]
fn everybody_reaches_what_an_owner_opened_by_its_name_and_nothing_else() {
    let net = net();
    let user = net.user();
    let folder = Folder::script("site", SITE);
    begin(&user, &folder, "one");
    begin(&user, &folder, "two");
    until("one is up", || user.farm(&["logs", "one"]).stdout.contains("up"));
    until("two is up", || user.farm(&["logs", "two"]).stdout.contains("up"));
    let _ = user.farm(&["expose", "one", "--json"]).exits(0);
    for bad in [&["expose", "one", "0"][..], &["expose", "one", "80", "--name", "Shop"], &["expose", "one", "80", "--name", "a.b"]] {
        let _ = user.farm(bad).exits(2);
    }
    let shop = exposed(&user, "one", 8000, "shop");
    until("the page is there", || get(&shop, "/").is_ok_and(|(status, body)| status == 200 && body == b"the page\n"));
    let (status, large) = get(&shop, "/large").unwrap();
    assert_eq!((status, large.len()), (200, 3_000_000));
    assert_eq!(get(&shop, "/nothing").unwrap().0, 404, "the job's own answer");

    // What the container is told, and what the client cannot say.
    let heads = exposed(&user, "one", 7000, "heads");
    let question = format!(
        "POST /x?y=1 HTTP/1.1\r\nHost: {heads}\r\nX-Forwarded-For: 10.9.8.7\r\nConnection: close, x-hop\r\nX-Hop: 1\r\nContent-Length: 0\r\n\r\n"
    );
    let told = eventually("the head is told", PATIENCE, || {
        let told = String::from_utf8(raw(&heads, &question).ok()?).ok()?.to_lowercase();
        told.starts_with("http/1.1 200").then_some(told)
    });
    assert!(told.contains("post /x?y=1 http/1.1") && told.contains("x-forwarded-for: 127.0.0.1"), "{told}");
    assert!(!told.contains("10.9.8.7") && !told.contains("x-hop: 1"), "{told}");

    // Another protocol, both ways.
    let mut stream = eventually("another protocol", PATIENCE, || {
        let mut stream = door(&heads);
        let ask = format!("GET /ws HTTP/1.1\r\nHost: {heads}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
        stream.write_all(ask.as_bytes()).ok()?;
        let mut first = [0; 12];
        stream.read_exact(&mut first).ok()?;
        (&first == b"HTTP/1.1 101").then_some(stream)
    });
    stream.write_all(b"over and out").unwrap();
    let mut heard = Vec::new();
    let mut byte = [0];
    while !heard.ends_with(b"over and out") {
        stream.read_exact(&mut byte).unwrap();
        heard.extend(byte);
    }
    drop(stream);

    refuses(&shop, &heads);

    // Two with one name share its visitors, and one is enough.
    assert_eq!(exposed(&user, "two", 8000, "shop"), shop);
    until("both are known", || get(&shop, "/").is_ok_and(|(status, _)| status == 200));
    let _ = user.farm(&["stop", "one", "--grace", "1s"]).exits(0);
    for _ in 0..5 {
        until("the other one answers", || get(&shop, "/").is_ok_and(|(status, _)| status == 200));
    }
    let _ = user.farm(&["expose", "two", "--off"]).exits(0);
    until("it is taken back", || get(&shop, "/").is_ok_and(|(status, _)| status == 404));
}

#[test]
fn what_is_open_stays_open_when_the_machine_starts_again() {
    let mut net = net();
    let user = net.user();
    begin(&user, &Folder::script("site", SITE), "site");
    until("it is up", || user.farm(&["logs", "site"]).stdout.contains("up"));
    let before = exposed(&user, "site", 8000, "site");
    until("the page is there", || get(&before, "/").is_ok_and(|(status, _)| status == 200));
    net.kill();
    net.start_again();
    let shown: Value = user.farm(&["expose", "site", "--json"]).exits(0).json();
    let url = shown[0]["url"].as_str().unwrap_or_else(|| panic!("{shown}"));
    let after = url.strip_prefix("http://").unwrap();
    assert_eq!(before.split(':').next(), after.split(':').next(), "the name is the same");
    until("the page is there again", || get(after, "/").is_ok_and(|(status, body)| status == 200 && body == b"the page\n"));
}

const KEY: &str = "sesame-of-some-length";

/// Status and page, over TLS that believes this certificate alone.
fn secure(url: &str, roots: &Path, more: &[&str]) -> Option<(String, String)> {
    let mut curl = Command::new("curl");
    let done = curl.args(["-sS", "--max-time", "20", "-w", "%{http_code}", "--cacert"]).arg(roots).args(more).arg(url).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let (page, code) = text.split_at_checked(text.len().checked_sub(3)?)?;
    Some((code.to_owned(), page.to_owned()))
}

#[test]
fn a_job_file_says_what_everybody_reaches() {
    let first = free_port();
    let range = format!("{first}-{}", first.saturating_add(3));
    let net = net_with(&["--ingress-tls", "127.0.0.1:0", "--ingress-tcp", &range]);
    let user = net.user();
    let site =
        "mkdir -p /tmp/www; echo \"the page\" >/tmp/www/index.html; httpd -p 8000 -h /tmp/www; while true; do nc -l -p 7000 -e cat; done";
    let folder = Folder::script("site", site);
    let resources = "type: service\nresources: {cpu: 0.1, memory: 32Mi, disk: 64Mi}\n";
    let publish = |ports: &str| folder.write("farm.yaml", &format!("{resources}{ports}\n"));
    publish("ports: [{port: 8000, public: {name: Shop}}]");
    let _ = user.farm(&["run", folder.arg(), "-d"]).exits(125).says(&["port 8000 cannot be opened", "`Shop` is no name"]);
    publish("ports: [{port: 8000, public: {name: shop, access_key: door}}, {port: 7000, public: {name: echo, tcp: true}}]");
    let _ = user.farm(&["run", folder.arg(), "-d"]).exits(125).says(&["no secret `door`", "farm secret set door"]);
    let key = folder.path().join("key");
    std::fs::write(&key, format!("{KEY}\n")).unwrap();
    let _ = user.farm(&["secret", "set", "door", "--from-file", key.to_str().unwrap()]).exits(0);
    let _ = user.farm(&["run", folder.arg(), "-d"]).exits(0).says(&[
        "https://shop-",
        "leads to port 8000, with an access key",
        "leads to port 7000",
    ]);

    let of = |name: &str| {
        let shown = user.farm(&["expose", "site", "--json"]).exits(0).json();
        shown.as_array().unwrap().iter().find(|entry| entry["name"] == name).and_then(|entry| Some(entry["url"].as_str()?.to_owned()))
    };
    let url = of("shop").unwrap();
    let roots = net.data().join("ingress/authority.pem");
    let refused = eventually("it is known", PATIENCE, || secure(&url, &roots, &[]).filter(|(code, _)| code != "404"));
    assert_eq!(refused.0, "401", "{refused:?}");
    let with = format!("me:{KEY}");
    until("the page is there", || secure(&url, &roots, &["-u", &with]).is_some_and(|(code, page)| code == "200" && page == "the page\n"));
    let echo = eventually("a port", PATIENCE, || of("echo"));
    let port: u16 = echo.rsplit_once(':').unwrap().1.parse().unwrap();
    assert!((first..=first.saturating_add(3)).contains(&port), "{echo}");
    let heard = eventually("an echo", PATIENCE, || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(b"hello").ok()?;
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).ok().map(|()| heard)
    });
    assert_eq!(&heard, b"hello");
    let leads = format!("{url} leads to port 8000");
    until("the status says where they lead", || {
        let said = user.farm(&["status", "site"]).exits(0).all();
        said.contains(&leads) && said.contains("leads to port 7000")
    });

    // Replicas of a deployment are one name.
    let several = Folder::script("many", site);
    several.write("farm.yaml", &format!("{resources}replicas: 2\nports: [{{port: 8000, public: true}}]\n"));
    let _ = user.farm(&["deploy", several.arg()]).exits(0);
    let replicas = || {
        let shown = user.farm(&["expose", "many-0", "--json"]).exits(0).json();
        (shown[0]["name"].clone(), shown[0]["gateway"]["replicas"].clone())
    };
    until("both are one name", || replicas() == ("many".into(), 2.into()));
}
