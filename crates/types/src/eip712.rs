//! EIP-712 typed data of a transaction: what a secp256k1 wallet shows and signs. Spec: `docs/specs/accounts.md` §3.
//!
//! Guarantees: the hash binds the zone (as the domain's salt), the fields a person should see, the words of each action and,
//! as `body`, the transaction's id, which covers every byte; so nothing can be changed under the same signature. It does
//! not verify signatures: see `keys`.

use crate::describe;
use crate::tx::TxBody;
use serde::Serialize;

/// The type of the domain.
const DOMAIN_TYPE: &str = "EIP712Domain(string name,string version,bytes32 salt)";
/// The type of the message.
const MESSAGE_TYPE: &str = "Transaction(bytes32 account,string right,uint8 lane,uint64 seq,uint64 validUntil,\
uint256 maxFee,uint256 tip,bytes32 feePayer,string[] actions,bytes32 body)";
const NAME: &str = "Pasture";
const VERSION: &str = "1";

pub(crate) fn keccak(parts: &[&[u8]]) -> [u8; 32] {
    use sha3::Digest as _;
    let mut hasher = sha3::Keccak256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// A number as a 32-byte word.
fn word(n: u128) -> [u8; 32] {
    let mut out = [0; 32];
    for (slot, byte) in out.iter_mut().rev().zip(n.to_le_bytes()) {
        *slot = byte;
    }
    out
}

fn text(t: &str) -> [u8; 32] {
    keccak(&[t.as_bytes()])
}

/// The hash of a struct: its type's hash and its encoded members.
fn struct_hash(type_of: &str, members: &[[u8; 32]]) -> [u8; 32] {
    keccak(&[&text(type_of), &members.concat()])
}

/// What is signed for a domain and a struct.
fn signing_hash(domain: &[u8; 32], message: &[u8; 32]) -> [u8; 32] {
    keccak(&[b"\x19\x01", domain, message])
}

/// The fee payer's id; zero stands for the account itself.
fn payer(body: &TxBody) -> [u8; 32] {
    body.fee_payer.map_or([0; 32], |p| p.0)
}

/// The hash that a wallet signs for a transaction.
#[must_use]
pub fn hash(body: &TxBody) -> [u8; 32] {
    let domain = struct_hash(DOMAIN_TYPE, &[text(NAME), text(VERSION), body.zone.0]);
    let actions: Vec<[u8; 32]> = body.actions.iter().map(|a| text(&describe::action(a))).collect();
    let members = [
        body.account.0,
        text(&describe::right(&body.auth)),
        word(u128::from(body.lane)),
        word(u128::from(body.seq)),
        word(u128::from(body.valid_until.0)),
        word(body.max_fee.0),
        word(body.tip.0),
        payer(body),
        keccak(&[&actions.concat()]),
        body.id().0,
    ];
    signing_hash(&domain, &struct_hash(MESSAGE_TYPE, &members))
}

/// One member of a struct type.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Member {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: &'static str,
}

/// The types of the typed data.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Types {
    /// The domain's.
    #[serde(rename = "EIP712Domain")]
    pub domain: Vec<Member>,
    /// The message's.
    #[serde(rename = "Transaction")]
    pub transaction: Vec<Member>,
}

/// The domain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Domain {
    /// `Pasture`.
    pub name: &'static str,
    /// `1`.
    pub version: &'static str,
    /// The zone.
    pub salt: String,
}

/// The message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Who acts.
    pub account: String,
    /// By what right.
    pub right: String,
    /// Its lane.
    pub lane: u8,
    /// Its number in the lane.
    pub seq: String,
    /// Until when, in milliseconds.
    pub valid_until: String,
    /// Most to pay as fee, in nano-credits.
    pub max_fee: String,
    /// Paid on top, in nano-credits.
    pub tip: String,
    /// Who pays, or zero.
    pub fee_payer: String,
    /// What is done, in words.
    pub actions: Vec<String>,
    /// The transaction's id.
    pub body: String,
}

/// The argument of a wallet's `eth_signTypedData_v4`, once written as JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TypedData {
    /// All types.
    pub types: Types,
    /// `Transaction`.
    pub primary_type: &'static str,
    /// The domain.
    pub domain: Domain,
    /// The message.
    pub message: Message,
}

/// A type's members, read from its text, so that the text that is hashed is the only definition.
fn members(type_of: &'static str) -> Vec<Member> {
    let inner = type_of.split_once('(').map_or("", |(_, rest)| rest.trim_end_matches(')'));
    inner.split(',').filter_map(|m| m.split_once(' ')).map(|(kind, name)| Member { name, kind }).collect()
}

/// What a wallet is given to sign a transaction.
#[must_use]
pub fn typed_data(body: &TxBody) -> TypedData {
    let hex = |bytes: &[u8; 32]| format!("0x{}", hex::encode(bytes));
    TypedData {
        types: Types { domain: members(DOMAIN_TYPE), transaction: members(MESSAGE_TYPE) },
        primary_type: "Transaction",
        domain: Domain { name: NAME, version: VERSION, salt: hex(&body.zone.0) },
        message: Message {
            account: hex(&body.account.0),
            right: describe::right(&body.auth),
            lane: body.lane,
            seq: body.seq.to_string(),
            valid_until: body.valid_until.0.to_string(),
            max_fee: body.max_fee.0.to_string(),
            tip: body.tip.0.to_string(),
            fee_payer: hex(&payer(body)),
            actions: body.actions.iter().map(describe::action).collect(),
            body: hex(&body.id().0),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hexed(h: [u8; 32]) -> String {
        hex::encode(h)
    }

    /// The example of the standard itself ("Mail"), through the same functions.
    #[test]
    fn the_standards_own_example_has_its_hash() {
        let address = |s: &str| {
            let mut out = [0; 32];
            hex::decode_to_slice(s, &mut out[12..]).unwrap();
            out
        };
        let domain = struct_hash(
            "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)",
            &[text("Ether Mail"), text("1"), word(1), address("CcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC")],
        );
        assert_eq!(hexed(domain), "f2cee375fa42b42143804025fc449deafd50cc031ca257e0b194a650a912090f");
        let person = "Person(string name,address wallet)";
        let cow = struct_hash(person, &[text("Cow"), address("CD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826")]);
        let bob = struct_hash(person, &[text("Bob"), address("bBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB")]);
        let mail =
            struct_hash("Mail(Person from,Person to,string contents)Person(string name,address wallet)", &[cow, bob, text("Hello, Bob!")]);
        assert_eq!(hexed(mail), "c52c0ee5d84264471806290a3f2c4cecfc5490626bf912d01f240d7a274b371e");
        assert_eq!(hexed(signing_hash(&domain, &mail)), "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2");
    }

    #[test]
    fn the_types_that_are_shown_are_those_that_are_hashed() {
        for (type_of, name) in [(DOMAIN_TYPE, "EIP712Domain"), (MESSAGE_TYPE, "Transaction")] {
            let list: Vec<String> = members(type_of).iter().map(|m| format!("{} {}", m.kind, m.name)).collect();
            assert_eq!(type_of, format!("{name}({})", list.join(",")));
        }
    }
}
