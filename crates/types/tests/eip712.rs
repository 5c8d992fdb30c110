//! EIP-712 of a transaction against a hash that another program computed. Spec: `docs/specs/accounts.md` §3.
//!
//! The expected hash is the output of `python3 crates/types/tests/eip712_vector.py BODY_ID`: a Keccak and an EIP-712 encoder of its own,
//! which first check themselves against the standard's "Mail" example.

#![cfg(test)]

use k256::ecdsa::signature::hazmat::PrehashSigner as _;
use pasture_types::keys::{Signature, SignatureError};
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, Envelope, TxBody, TxSignature};
use pasture_types::*;

/// Printed by the script, which is given the same fields and this id.
const BODY_ID: &str = "ea0eeac25e6b5b42bb0e65c1624644b81bf5c815c1e6678fe88d92c355978544";
const HASH: &str = "605db7fe6e5b411b9e1a0f1f0ed37d3bd76a748a149e1c3e44e3369d576eda2a";

fn wallet() -> (k256::ecdsa::SigningKey, PublicKey) {
    let secret = k256::ecdsa::SigningKey::from_slice(&[9; 32]).unwrap();
    let mut key = [0u8; 33];
    key.copy_from_slice(secret.verifying_key().to_sec1_point(true).as_bytes());
    (secret, PublicKey::Secp256k1(key))
}

fn body() -> TxBody {
    TxBody {
        version: ENVELOPE_VERSION,
        zone: ZoneId([0x11; 32]),
        account: AccountId([0x22; 32]),
        auth: Auth::Single,
        lane: 3,
        seq: 1 << 40,
        valid_until: Timestamp(1_800_000_000_000),
        max_fee: Amount(u128::MAX),
        tip: Amount(7),
        fee_asset: AssetId::CREDIT,
        fee_payer: Some(AccountId([0x33; 32])),
        actions: vec![
            Action::Transfer { to: AccountId([0x44; 32]), asset: AssetId::CREDIT, amount: Amount(1_250_000_000) },
            Action::CloseLease { lease: LeaseId([0x55; 32]), reason: lease::EndReason::StoppedByUser },
        ],
    }
}

fn sign(body: &TxBody) -> Envelope {
    let (secret, key) = wallet();
    let signature: k256::ecdsa::Signature = secret.sign_prehash(&eip712::hash(body)).unwrap();
    let signature = Signature::Eip712(signature.normalize_s().to_bytes().into());
    Envelope { body: body.clone(), signatures: vec![TxSignature { account: body.account, key, signature }] }
}

#[test]
fn the_hash_is_what_another_program_computes() {
    let body = body();
    assert_eq!(hex::encode(body.id().0), BODY_ID);
    assert_eq!(hex::encode(eip712::hash(&body)), HASH);
    let shown = eip712::typed_data(&body);
    assert_eq!(shown.message.actions[0], format!("send 1.2500 credits to {}", "44".repeat(32)));
    assert_eq!(shown.message.max_fee, u128::MAX.to_string());
    assert_eq!(shown.message.body, format!("0x{BODY_ID}"));
    assert_eq!(shown.domain.salt, format!("0x{}", "11".repeat(32)));
}

#[test]
fn a_wallets_signature_covers_every_byte() {
    let good = sign(&body());
    assert_eq!(good.verify_signatures(), Ok(body().id()));
    let changes: [&dyn Fn(&mut TxBody); 8] = [
        &|b| b.zone = ZoneId([0x12; 32]),
        &|b| b.lane = 4,
        &|b| b.seq += 1,
        &|b| b.tip = Amount(8),
        &|b| b.fee_payer = None,
        &|b| b.auth = Auth::Multi,
        &|b| b.actions[0] = Action::Transfer { to: AccountId([0x44; 32]), asset: AssetId::CREDIT, amount: Amount(1_250_000_001) },
        // Nothing that a person would see, but bound all the same.
        &|b| b.actions[1] = Action::CloseLease { lease: LeaseId([0x55; 32]), reason: lease::EndReason::ServiceStopped },
    ];
    for (n, change) in changes.iter().enumerate() {
        let mut other = good.clone();
        change(&mut other.body);
        assert_eq!(other.verify_signatures(), Err(SignatureError::Invalid), "change {n}");
    }
}

#[test]
fn typed_data_is_for_transactions_and_for_wallets() {
    let (_, key) = wallet();
    let envelope = sign(&body());
    let Signature::Eip712(bytes) = envelope.signatures[0].signature else { unreachable!() };
    assert_eq!(key.verify(&body().id().0, &Signature::Eip712(bytes)), Err(SignatureError::TransactionsOnly));
    assert_eq!(key.verify(&body().id().0, &Signature::Eip191(bytes)), Err(SignatureError::Invalid), "another message");
    let mut forged = envelope.clone();
    forged.signatures[0].key = SigningKey::from_seed([1; 32]).public();
    assert_eq!(forged.verify_signatures(), Err(SignatureError::SchemeMismatch));
    let (r, s) = k256::ecdsa::Signature::from_slice(&bytes).unwrap().split_scalars();
    let high = k256::ecdsa::Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).unwrap();
    forged.signatures[0] = TxSignature { signature: Signature::Eip712(high.to_bytes().into()), ..envelope.signatures[0].clone() };
    assert_eq!(forged.verify_signatures(), Err(SignatureError::Invalid), "the other form of the same signature");
}
