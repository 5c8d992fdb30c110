//! Transactions that the ledger must refuse, sent as a client of the API would: each with its own number.

use crate::support::{Net, Options, User, paid, shared};
use pasture_api::ApiError;
use pasture_rt::{Clock as _, SystemClock};
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, Envelope, MAX_LANES, TxBody};
use pasture_types::{AccountId, Amount, AssetId, Millis, SigningKey, Timestamp, ZoneId};

const MALFORMED: u16 = 1;
const VERSION: u16 = 3;
const WRONG_ZONE: u16 = 4;
const LIMIT: u16 = 5;
const EXPIRED: u16 = 10;
const TOO_FAR: u16 = 11;
const SEQ_USED: u16 = 12;
const SEQ_AHEAD: u16 = 13;
const SIGNATURE: u16 = 20;
const KEY_NOT_ALLOWED: u16 = 21;
const SIGNATURE_COUNT: u16 = 22;
const UNKNOWN_ACCOUNT: u16 = 23;
const FEE_TOO_LOW: u16 = 30;
const BALANCE: u16 = 31;

/// A transfer that is fine, to be spoilt.
pub(crate) fn transfer(user: &User, seq: u64) -> TxBody {
    let status = user.api(async |api| api.status().await);
    TxBody {
        version: ENVELOPE_VERSION,
        zone: status.zone,
        account: user.account(),
        auth: Auth::Single,
        lane: 7,
        seq,
        valid_until: Timestamp(SystemClock.now_ms()).max(status.time).plus(Millis::secs(60)),
        max_fee: Amount(100_000_000),
        tip: Amount::ZERO,
        fee_asset: AssetId::CREDIT,
        fee_payer: None,
        actions: vec![Action::Transfer { to: AccountId([9; 32]), asset: AssetId::CREDIT, amount: Amount(1) }],
    }
}

fn code(user: &User, tx: &Envelope) -> (u16, String) {
    match user.try_api(async |api| api.submit(tx).await) {
        Ok(result) => (result.code, result.message),
        Err(ApiError::Problem(p)) => {
            assert_eq!((p.status, p.code.as_str()), (422, "refused-by-ledger"), "{p:?}");
            (p.ledger_code.unwrap_or_default(), p.detail)
        }
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn a_transaction_that_does_not_fit_is_refused_with_its_number_and_changes_nothing() {
    let user = shared().stranger().with_credits();
    let other = shared().stranger().with_credits();
    let receiver = other.account();
    let fine = || {
        let mut body = transfer(&user, 0);
        body.actions = vec![Action::Transfer { to: receiver, asset: AssetId::CREDIT, amount: Amount(1) }];
        body
    };
    let before = user.books();
    type Spoil<'a> = Box<dyn Fn(TxBody) -> Envelope + 'a>;
    let with = |change: fn(&mut TxBody)| -> Spoil<'_> {
        let key = user.key();
        Box::new(move |mut body| {
            change(&mut body);
            body.sign(&key)
        })
    };
    let cases: Vec<(u16, &str, Spoil<'_>)> = vec![
        (VERSION, "version", with(|b| b.version = 99)),
        (WRONG_ZONE, "network", with(|b| b.zone = ZoneId([5; 32]))),
        (LIMIT, "lane", with(|b| b.lane = MAX_LANES)),
        (EXPIRED, "expired", with(|b| b.valid_until = Timestamp(b.valid_until.0 - 3_600_000))),
        (TOO_FAR, "ahead", with(|b| b.valid_until = b.valid_until.plus(Millis::secs(48 * 3600)))),
        (SEQ_AHEAD, "ahead", with(|b| b.seq = 1_000_000)),
        (FEE_TOO_LOW, "fee", with(|b| b.max_fee = Amount(1))),
        (SIGNATURE_COUNT, "signatures", Box::new(|body| Envelope { body, signatures: vec![] })),
        (KEY_NOT_ALLOWED, "may not sign", Box::new(|body| body.sign(&other.key()))),
        (
            SIGNATURE,
            "does not verify",
            Box::new(|body| {
                let mut tx = body.sign(&user.key());
                // The body changes after it was signed.
                tx.body.tip = Amount(1);
                tx
            }),
        ),
    ];
    for (want, word, spoil) in &cases {
        let (got, message) = code(&user, &spoil(fine()));
        assert_eq!(got, *want, "{word}: {message}");
        assert!(message.contains(word), "`{word}` is missing: {message}");
    }
    assert_eq!(user.books(), before, "a refused transaction costs nothing");

    // The right one passes, once.
    let good = fine().sign(&user.key());
    assert_eq!(code(&user, &good).0, 0);
    let mut again = fine();
    again.tip = Amount(2);
    let (got, message) = code(&user, &again.sign(&user.key()));
    assert_eq!(got, SEQ_USED, "{message}");
    assert_eq!(user.books().free.0, before.free.0 - 1 - fee(&before, &user));

    // More than there is: the fee is taken, nothing else.
    let mut rich = fine();
    rich.seq = 1;
    rich.actions = vec![Action::Transfer { to: receiver, asset: AssetId::CREDIT, amount: Amount::credits(1_000_000) }];
    let (got, message) = code(&user, &rich.sign(&user.key()));
    assert_eq!(got, BALANCE, "{message}");
}

/// What one transfer of 1 cost beyond it: positive and small, or the test ends.
fn fee(before: &crate::support::Books, user: &User) -> u128 {
    let fee = before.free.0 - user.books().free.0 - 1;
    assert!((1..10_000_000).contains(&fee), "{fee}");
    fee
}

#[test]
fn strangers_and_garbage_are_refused_by_number() {
    let user = shared().stranger().with_credits();
    let nobody = SigningKey::from_seed([77; 32]);
    let mut body = transfer(&user, 0);
    body.account = nobody.account();
    let (got, message) = code(&user, &body.sign(&nobody));
    assert_eq!(got, UNKNOWN_ACCOUNT, "{message}");

    // Not a transaction at all. The typed client cannot send that.
    let mut good = pasture_types::codec::encode(&transfer(&user, 0).sign(&user.key()));
    good.truncate(good.len() / 2);
    let answer = post(shared(), "/v1/transactions", &good);
    assert!(answer.starts_with("HTTP/1.1 422") || answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains(&format!("\"ledger_code\":{MALFORMED}")) || answer.contains("bad-request"), "{answer}");
    let answer = post(shared(), "/v1/transactions", &vec![0; 1 << 20]);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

fn post(net: &Net, path: &str, body: &[u8]) -> String {
    use std::io::{Read as _, Write as _};
    let address = net.url().strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    // A server that refuses early stops reading; its answer is what counts.
    let _ = stream.write_all(body);
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn the_books_balance_and_a_stopped_ledger_replays_to_the_same_state() {
    let mut net = Net::start(Options::default());
    let user = net.user();
    let folder = crate::support::Folder::script("paying", "echo paid for; sleep 1");
    let _ = user.run(&folder, &[]).exits(0);
    let (lease, _) = user.settled();
    let _ = paid(&lease);
    let checked = user.farm(&["ledger", "check", "--json"]).exits(0).json();
    assert_eq!(checked["violations"].as_array().map(Vec::len), Some(0), "{checked}");
    assert!(checked["checked"].as_array().is_some_and(|c| c.len() >= 3), "{checked}");
    // A record can be read by kind and id, and a block by height.
    let _ = user.farm(&["ledger", "get", "lease", &lease.id.to_string()]).exits(0);
    let _ = user.farm(&["ledger", "get", "account", &user.account().to_string()]).exits(0);
    let head = user.farm(&["ledger", "head", "--json"]).exits(0).json();
    let height = head["height"].as_u64().unwrap();
    let block = user.farm(&["ledger", "head", "1", "--json"]).exits(0).json();
    assert_eq!(block["height"], 1);
    assert_ne!(block["state_root"], head["state_root"]);

    let data = net.data();
    let replay = ["ledger", "replay", "--data", data.to_str().unwrap()];
    // Not while it runs.
    let _ = user.farm(&replay).exits(125).says(&["in use"]);
    let ended = net.stop();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let replayed = user.farm(&[&replay[..], &["--json"]].concat()).exits(0).json();
    assert!(replayed.to_string().contains(&height.to_string()) || replayed["height"].as_u64() >= Some(height), "{replayed}");
    let empty = net.data().join("nothing-here");
    let _ = user.farm(&["ledger", "replay", "--data", empty.to_str().unwrap()]).exits(125).says(&["nothing-here"]);
}
