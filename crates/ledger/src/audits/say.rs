//! What is said about audits: receipts, answers, contradictions, places, bundled heartbeats. Spec: `docs/specs/audits.md` §4.
//!
//! Guarantees: each statement counts once and only for the audit and signer it names; one that is late, known or foreign is
//! passed over, and a transaction that brings nothing new fails. Who carries a statement does not matter.

use super::records::{Answered, AuditRecord, NodeAudit, Said};
use super::{audit, gpu, judge, node_audit, put_audit, put_node_audit, roster};
use crate::apply::Tx;
use crate::error::TxError;
use crate::validate::at_most;
use crate::{proofs, seams, tables};
use pasture_types::audit::{
    Answer, AuditAction, HeartbeatBundle, MAX_ANSWERS, MAX_BUNDLED_EPOCHS, MAX_PATH, MAX_RECEIPTS, MAX_SUMS, MAX_WITNESSES, Placement,
    ReceiptBatch, SignedStatement, WrongProduct, audit_seed, gpu_devices, largest_share,
};
use pasture_types::keys::Signature;
use pasture_types::proof::{Heartbeat, ResourceClass, heartbeat_seed, share_hash};
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{NodeId, PublicKey};

const NOTHING_NEW: TxError = TxError::Audit("nothing in it is new: each statement is late, known already, or about another audit");

pub(crate) fn act(s: &mut dyn StateWrite, tx: &mut Tx<'_>, action: &AuditAction) -> Result<(), TxError> {
    match action {
        AuditAction::Receipts { batch, signature } => receipts(s, tx, batch, signature),
        AuditAction::Answers(answers) => take_answers(s, tx, answers),
        AuditAction::Contradiction { audit, one, other } => contradiction(s, tx, *audit, one, other),
        AuditAction::Place { placement, signatures } => place(s, tx, placement, signatures),
        AuditAction::Heartbeats(bundle) => heartbeats(s, tx, bundle),
        AuditAction::WrongProduct(wrong) => wrong_product(s, tx, wrong),
    }
}

fn signed(key: &NodeId, digest: &[u8; 32], signature: &Signature, whose: &'static str) -> Result<(), TxError> {
    PublicKey::from(*key).verify(digest, signature).map_err(|source| TxError::Signature { whose, source })
}

/// An audit that still takes statements.
fn open(s: &dyn StateRead, tx: &mut Tx<'_>, number: u64) -> Option<AuditRecord> {
    audit(s, number).filter(|record| record.verdict.is_none() && tx.env.shifted() <= record.until_shifted)
}

fn receipts(s: &mut dyn StateWrite, tx: &mut Tx<'_>, batch: &ReceiptBatch, signature: &Signature) -> Result<(), TxError> {
    at_most("receipts", batch.receipts.len() as u64, MAX_RECEIPTS as u64)?;
    signed(&batch.witness, &batch.digest(&tx.env.zone.id), signature, "the receipts")?;
    let mut taken = false;
    for receipt in &batch.receipts {
        let Some(mut record) = batch.base.checked_add(u64::from(receipt.offset)).and_then(|n| open(s, tx, n)) else { continue };
        let at = record.witnesses.iter().position(|w| *w == batch.witness);
        let Some(said) = at.and_then(|i| record.said.get_mut(i)) else { continue };
        // The same word may come in batches with different bases; what it says is compared, not how it is numbered.
        let plain = pasture_types::audit::Receipt { offset: 0, ..*receipt };
        let lied = match said {
            Said::Nothing => {
                *said = Said::Receipt(plain);
                false
            }
            Said::Receipt(before) if *before != plain => {
                *said = Said::Both;
                true
            }
            Said::Receipt(_) | Said::Both => continue,
        };
        taken = true;
        put_audit(s, &record);
        if lied {
            seams::validator_contradicted(s, tx.env, &batch.witness, &tx.account, &mut tx.events);
        }
    }
    if taken { Ok(()) } else { Err(NOTHING_NEW) }
}

fn take_answers(s: &mut dyn StateWrite, tx: &mut Tx<'_>, answers: &[Answer]) -> Result<(), TxError> {
    at_most("answers", answers.len() as u64, MAX_ANSWERS as u64)?;
    let mut taken = false;
    for answer in answers {
        taken |= take_answer(s, tx, answer)?;
    }
    if taken { Ok(()) } else { Err(NOTHING_NEW) }
}

/// Whether the answer was new. One that cannot be its node's is an error: whoever carries it could have seen that.
fn take_answer(s: &mut dyn StateWrite, tx: &mut Tx<'_>, answer: &Answer) -> Result<bool, TxError> {
    let Some(mut record) = open(s, tx, answer.audit) else { return Ok(false) };
    let statement = answer.statement();
    if record.answer.as_ref().is_some_and(|known| known.answer.statement() == statement) {
        return Ok(false);
    }
    if !answer.roots.is_empty() && answer.roots.len() != gpu_devices(&record.gpus).len() {
        return Err(TxError::Audit("it does not have one product for each GPU that was asked"));
    }
    if answer.walk.is_some() && record.memory.is_none() {
        return Err(TxError::Audit("it has a walk over memory that was not asked"));
    }
    if !answer.set.is_sound(record.witnesses.len()) {
        return Err(TxError::Audit("its set does not hold one nonce each of more than two thirds of the witnesses"));
    }
    signed(&record.node, &statement.digest(&tx.env.zone.id, record.number, &record.node), &answer.signature, "the answer")?;
    match record.answer {
        None => {
            let seed = audit_seed(&record.randomness.0, record.number, &record.node, record.epoch, ResourceClass::Cpu, 0, &answer.set);
            let largest = answer.shares.unpack().and_then(|nonces| largest_share(&seed, &nonces));
            let largest = largest.ok_or(TxError::Audit("its shares are not the packed nonces of 32 different hashes"))?;
            record.answer = Some(Answered { answer: answer.clone(), largest });
        }
        // Both are signed and they differ: fraud, whichever came first.
        Some(_) => caught(s, tx, &mut record),
    }
    put_audit(s, &record);
    Ok(true)
}

fn caught(s: &mut dyn StateWrite, tx: &mut Tx<'_>, record: &mut AuditRecord) {
    if record.contradicted && !cfg!(mutant_7) {
        return;
    }
    record.contradicted = true;
    if record.verdict.is_some() {
        judge::convict(s, record);
    }
    if let Some(node) = tables::node(s, &record.node) {
        seams::node_contradicted(s, tx.env, &node.provider, &node.id, &tx.account, &mut tx.events);
    }
}

fn contradiction(
    s: &mut dyn StateWrite,
    tx: &mut Tx<'_>,
    number: u64,
    one: &SignedStatement,
    other: &SignedStatement,
) -> Result<(), TxError> {
    let mut record = audit(s, number).ok_or_else(|| TxError::unknown("audit", &number))?;
    if !one.statement.contradicts(&other.statement) {
        return Err(TxError::Audit("an honest node may sign both"));
    }
    if record.contradicted {
        return Err(NOTHING_NEW);
    }
    for said in [one, other] {
        signed(&record.node, &said.statement.digest(&tx.env.zone.id, number, &record.node), &said.signature, "the node's statement")?;
    }
    caught(s, tx, &mut record);
    put_audit(s, &record);
    Ok(())
}

/// Convicts a node of a product that it signed the root of.
fn wrong_product(s: &mut dyn StateWrite, tx: &mut Tx<'_>, wrong: &WrongProduct) -> Result<(), TxError> {
    at_most("bytes of sums", wrong.sums.len() as u64, MAX_SUMS as u64)?;
    at_most("hashes of a path", wrong.path.len() as u64, MAX_PATH as u64)?;
    let mut record = audit(s, wrong.audit).ok_or_else(|| TxError::unknown("audit", &wrong.audit))?;
    if record.contradicted {
        return Err(NOTHING_NEW);
    }
    if !gpu::is_wrong(&record, wrong) {
        return Err(TxError::Audit("this entry is not in the product that the node signed, or it is what it must be"));
    }
    caught(s, tx, &mut record);
    put_audit(s, &record);
    Ok(())
}

fn place(s: &mut dyn StateWrite, tx: &mut Tx<'_>, placement: &Placement, signatures: &[(NodeId, Signature)]) -> Result<(), TxError> {
    if !tx.env.zone.params.audits.places {
        return Err(TxError::NotActive("grouping by address is"));
    }
    at_most("signatures", signatures.len() as u64, MAX_WITNESSES as u64)?;
    tables::node(s, &placement.node).ok_or_else(|| TxError::unknown("node", &placement.node))?;
    let mut record = node_audit(s, &placement.node).unwrap_or_else(|| NodeAudit::new(placement.node));
    if placement.epoch > tx.env.epoch() || placement.epoch <= record.place_epoch {
        return Err(NOTHING_NEW);
    }
    let seated = seams::seated(s);
    let digest = placement.digest(&tx.env.zone.id);
    if !signatures.iter().zip(signatures.iter().skip(1)).all(|((a, _), (b, _))| a < b) {
        return Err(TxError::Invalid("signatures must be sorted by key, each key once".into()));
    }
    for (key, signature) in signatures {
        if !seated.iter().any(|(validator, _)| validator == key) {
            return Err(TxError::KeyNotAllowed { key: key.to_string(), whose: "the seated validators" });
        }
        signed(key, &digest, signature, "the group")?;
    }
    // More than half may be more than one statement holds: then a third of them is not enough to fake it either.
    let want = (seated.len() / 2 + 1).min(MAX_WITNESSES);
    if signatures.len() < want {
        return Err(TxError::SignatureCount { whose: "the group", got: signatures.len(), want });
    }
    roster::place(s, &mut record, placement.place);
    record.place_epoch = placement.epoch;
    put_node_audit(s, &record);
    Ok(())
}

fn heartbeats(s: &mut dyn StateWrite, tx: &mut Tx<'_>, bundle: &HeartbeatBundle) -> Result<(), TxError> {
    at_most("epochs in a bundle", bundle.shares.len() as u64, MAX_BUNDLED_EPOCHS as u64)?;
    let mut first: Option<TxError> = None;
    let mut taken = false;
    for (shares, n) in bundle.shares.iter().zip(0u64..).filter(|(shares, _)| !shares.0.is_empty()) {
        let epoch = bundle.first.saturating_add(n);
        match heartbeat(s, bundle, epoch, &shares.unpack().unwrap_or_default()).and_then(|h| proofs::submit_heartbeat(s, tx, &h)) {
            Ok(()) => taken = true,
            Err(error) => first = first.or(Some(error)),
        }
    }
    // An epoch that came too late must not take the others with it.
    if taken { Ok(()) } else { Err(first.unwrap_or(NOTHING_NEW)) }
}

/// An epoch's shares in the order that a heartbeat has: ascending by their hashes.
fn heartbeat(s: &dyn StateRead, bundle: &HeartbeatBundle, epoch: u64, nonces: &[u64]) -> Result<Heartbeat, TxError> {
    let record = tables::epoch(s, epoch)
        .ok_or(TxError::Heartbeat("the ledger has no such period; wait until it has started, or compute the current one"))?;
    let seed = heartbeat_seed(&record.randomness.0, &bundle.node, bundle.class, bundle.device, epoch);
    let mut sorted: Vec<(u64, u64)> = nonces.iter().map(|n| (share_hash(&seed, *n), *n)).collect();
    sorted.sort_unstable();
    let nonces = sorted.into_iter().map(|(_, nonce)| nonce).collect();
    Ok(Heartbeat { node: bundle.node, class: bundle.class, device: bundle.device, epoch, nonces })
}
