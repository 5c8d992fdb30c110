//! Carrying a ledger: its state into a file, and a file into a new directory, where the zone goes on.
//!
//! ```text
//!  DATA/ledger ──export──► FILE ──import──► NEW/zone/{genesis,validator.key,operator.key,network.toml,base}
//!                                           first start: the engine begins with FILE's entries, at FILE's height,
//!                                           with those who certify the block after it
//! ```
//! Guarantees: an export is of one height and carries that block's certificate and every change of validators since the genesis; files
//! appear whole or not at all. An import checks everything (checksum, zone, the changes one after another, certificate, that the books
//! balance, keys) before it writes anything, and takes effect with its last rename; a directory that holds a ledger is refused. The zone
//! keeps its identity, so signatures and receipts stay valid, and clients that trust earlier validators are led to today's. Terms of the
//! engine go on where they were, so that no vote of before contradicts one of after.
//! The engine's state root is *not* kept: it depends on the history of the store. What is kept is the digest of the entries.

use crate::zone::{BASE, GENESIS, LocalBase, LocalZone, MAX_GENESIS_BYTES, NETWORK, OPERATOR_KEY, VALIDATOR_KEY, read_genesis, trusted_by};
use crate::{NetworkFile, NodeError, checkpoint};
use pasture_chain::{Base, Certified, Entries, Header, Identity, Snapshot, Validator, stored_state};
use pasture_light::{Checkpoint, HEADER_SIZE, Handover, ValidatorSet};
use pasture_store::export::{ExportError, ExportHeader, ExportSeat, Reader, Summary, Writer};
use pasture_store::{DataDir, StoreError, keys, sync_dir, write_atomic};
use pasture_types::genesis::{Genesis, RULES_VERSION};
use pasture_types::state::MemoryState;
use pasture_types::{ZoneId, codec};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

/// Bytes between two reports of progress, and of the buffers.
const STEP: usize = 1 << 20;

/// Terms of the engine between the exported block's and the first one that goes on from it: votes of the block's own term and the next may be
/// on their way when the network is stopped, and of more if it was exported while it ran. A day and a half of an idle network; few enough to look
/// through at a start.
const TERMS_APART: u64 = 1_024;

/// What was exported, or is in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    /// The zone.
    pub zone: ZoneId,
    /// Height of the state.
    pub height: u64,
    /// The engine's root of it, where it came from.
    pub state_root: [u8; 32],
    /// Entries.
    pub entries: u64,
    /// Digest of the entries.
    pub digest: [u8; 32],
    /// How many of how many validators certified the height.
    pub votes: (usize, usize),
}

/// What an import did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Imported {
    /// What was in the file.
    pub moved: Moved,
    /// Names of the rules that the state was checked against.
    pub checked: Vec<String>,
    /// Whether there are other validators.
    pub several: bool,
}

/// Told how many bytes are done.
pub type Progress<'a> = &'a mut dyn FnMut(u64);

fn export_error(path: &Path) -> impl FnOnce(ExportError) -> NodeError + '_ {
    move |why| NodeError::Export { path: path.into(), why }
}

fn unfit(path: &Path, why: impl Into<String>) -> NodeError {
    NodeError::Unfit { path: path.into(), why: why.into() }
}

fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> NodeError + 'a {
    move |source| StoreError::Io { action, path: path.into(), source }.into()
}

/// How a zone's validators came to be those who certify the block after a state.
pub(crate) struct Line {
    /// From the genesis's to those that certified the state's block, oldest first.
    handovers: Vec<Handover>,
    /// Those of the block after it.
    next: Vec<Validator>,
}

impl Line {
    /// The line to a block. `before`: up to those whom the engine's run began with, who are `first`. `since`: from there on, maybe
    /// further than to the block. `None` if it does not lead there: the end of a term may not be dealt with yet.
    pub(crate) fn to(block: &Header, before: &[Handover], first: &[Validator], since: Vec<pasture_chain::Handover>) -> Option<Self> {
        let mut handovers = before.to_vec();
        let (mut next, mut hash) = (first.to_vec(), set(block.zone, first)?.hash().to_owned());
        for handover in since.into_iter().take_while(|handover| handover.header.height <= block.height) {
            hash = handover.header.next_validators;
            next.clone_from(&handover.validators);
            // The block's own is its header and certificate.
            if handover.header.height < block.height {
                handovers.push(checkpoint::handover(handover)?);
            }
        }
        (hash == block.next_validators).then_some(Self { handovers, next })
    }
}

fn seat(validator: Validator) -> ExportSeat {
    let Validator { key, bls_key, bls_pop } = validator;
    ExportSeat { key, bls_key, bls_pop }
}

/// What a light client knows validators by; `None` if they are none.
pub(crate) fn set(zone: [u8; 32], validators: &[Validator]) -> Option<ValidatorSet> {
    let member = |v: &Validator| Some(pasture_light::Validator { key: v.key, bls_key: v.bls_key.as_slice().try_into().ok()? });
    ValidatorSet::new(zone, validators.iter().map(member).collect::<Option<_>>()?).ok()
}

/// Writes a state as a file; the caller makes it durable.
pub(crate) fn write_state<W: Write>(
    out: W,
    genesis: &Genesis,
    state: &Snapshot,
    finality: &Certified,
    line: &Line,
) -> Result<(Summary, W), ExportError> {
    let header = state.header();
    let mut writer = Writer::new(
        out,
        &ExportHeader {
            zone: header.zone,
            height: header.height,
            state_root: header.state_root,
            rules_version: pasture_ledger::query::zone(state).map_or(genesis.rules_version, |zone| zone.rules_version),
            genesis: codec::encode(genesis),
            block_headers: finality.headers.iter().map(Header::encode).collect(),
            certificate: finality.certificate.clone(),
            handovers: line.handovers.iter().map(Handover::encode).collect(),
            seats: line.next.iter().cloned().map(seat).collect(),
        },
    )?;
    let mut outcome = Ok(());
    state.each(&mut |key, value| {
        if outcome.is_ok() {
            outcome = writer.entry(key, value);
        }
    });
    outcome?;
    writer.finish()
}

/// Exports the ledger of a directory on which no node runs.
///
/// # Errors
/// No ledger there, a node that runs on it or did not stop in order, or a file that cannot be written.
pub fn export_stopped(data: &Path, file: &Path) -> Result<Moved, NodeError> {
    let zone = LocalZone::load(data)?.ok_or_else(|| NodeError::NoLedger(data.into()))?;
    let began = zone.chain_genesis();
    let stored = stored_state(&data.join("ledger"), &began)?;
    let line = Line::to(&stored.state.header().clone(), zone.lineage(), &began.validators, stored.handovers);
    let line = line.ok_or_else(|| unfit(data, "the validators of its last block do not follow from those that it began with"))?;
    let dir = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let temp = tempfile::NamedTempFile::new_in(dir).map_err(io("create a file in", dir))?;
    let out = BufWriter::with_capacity(STEP, temp);
    let (_, out) = write_state(out, &zone.genesis, &stored.state, &stored.finality, &line).map_err(export_error(file))?;
    let temp = out.into_inner().map_err(|e| io("write", file)(e.into_error()))?;
    temp.as_file().sync_all().map_err(io("sync", file))?;
    let moved = verify_export(temp.path(), &mut |_| {})?;
    temp.persist(file).map_err(|e| io("replace", file)(e.error))?;
    sync_dir(dir)?;
    Ok(moved)
}

/// A reader that reports how far it is.
struct Counted<'a, R> {
    from: R,
    done: u64,
    reported: u64,
    progress: Progress<'a>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.done += count as u64;
        if self.done - self.reported >= STEP as u64 {
            self.reported = self.done;
            (self.progress)(self.done);
        }
        Ok(count)
    }
}

fn open<'a>(file: &Path, progress: Progress<'a>) -> Result<Reader<BufReader<Counted<'a, File>>>, NodeError> {
    let from = File::open(file).map_err(io("read", file))?;
    let counted = Counted { from, done: 0, reported: 0, progress };
    Reader::new(BufReader::with_capacity(STEP, counted)).map_err(export_error(file))
}

/// Reads a whole file and checks all that can be known of it without believing it: checksum, zone, certificate.
///
/// # Errors
/// What is wrong with it.
pub fn verify_export(file: &Path, progress: Progress<'_>) -> Result<Moved, NodeError> {
    let mut reader = open(file, progress)?;
    while reader.entry().map_err(export_error(file))?.is_some() {}
    let summary = reader.summary().ok_or_else(|| unfit(file, "it has no end"))?;
    let read = Head::read(reader.header()).map_err(|why| unfit(file, why))?;
    Ok(read.moved(&summary))
}

/// A file's header, taken apart and found to be of one piece.
struct Head {
    genesis: Genesis,
    block: Header,
    /// Those who certified the block.
    signers: ValidatorSet,
    votes: usize,
    /// How the genesis's validators handed over to `next`, oldest first.
    lineage: Vec<Handover>,
    /// Those who certify the block after it.
    next: Vec<Validator>,
    /// The first term of the engine that goes on from here.
    first_term: u64,
}

impl Head {
    fn read(header: &ExportHeader) -> Result<Self, String> {
        let genesis: Genesis = codec::decode(&header.genesis, MAX_GENESIS_BYTES).map_err(|e| format!("its genesis: {e}"))?;
        if genesis.zone().0 != header.zone {
            return Err("its genesis is another zone's than it says".into());
        }
        if header.rules_version > RULES_VERSION {
            return Err(format!(
                "it follows rules {}, this program knows them up to {RULES_VERSION}: use a newer one",
                header.rules_version
            ));
        }
        let (signers, lineage) = follow(&genesis, &header.handovers)?;
        let headers = header.block_headers.iter().map(|bytes| <[u8; HEADER_SIZE]>::try_from(bytes.as_slice()).ok());
        let headers: Option<Vec<_>> = headers.collect();
        let headers = headers.ok_or("a block header in it has another size than it should")?;
        let set = signers.validators().clone();
        let (certified, votes) =
            pasture_light::verify_header(&set, &headers, &header.certificate).map_err(|e| format!("its block: {e}"))?;
        if certified.height <= signers.since() {
            return Err("its block is older than the last change of validators in it".into());
        }
        let block = headers.first().and_then(|bytes| Header::decode(bytes)).ok_or("its block header is none")?;
        if block.height != header.height || block.state_root != header.state_root {
            return Err("its block is another one than it says".into());
        }
        let mut head = Self { genesis, block, signers: set, votes, lineage, next: vec![], first_term: 0 };
        head.succeed(header)?;
        Ok(head)
    }

    /// Who goes on after the block.
    fn succeed(&mut self, header: &ExportHeader) -> Result<(), String> {
        let (block, mut next) = (&self.block, seats(header));
        if next.is_empty() {
            // Of the first format, which was not written after the first change. A zone goes on from such a file if it did before.
            next = self.genesis.validators.iter().map(|v| named(v.key, &v.bls_key, &v.bls_pop)).collect();
        } else {
            self.first_term = block.term.checked_add(TERMS_APART).ok_or("its block's term is the last that can be")?;
        }
        let hands_over = block.next_validators != block.validators;
        let set = set(block.zone, &next).filter(|set| *set.hash() == block.next_validators);
        let set = set.ok_or("those whom it names to go on are not those whom its block names")?;
        if !next.iter().all(Validator::verify) {
            return Err("a validator whom it names to go on has a bad proof of its key".into());
        }
        if hands_over {
            let encoded = block.encode().try_into().map_err(|_| "its block header is none")?;
            self.lineage.push(Handover { header: encoded, certificate: header.certificate.clone(), next: set });
        }
        self.next = next;
        Ok(())
    }

    fn moved(&self, summary: &Summary) -> Moved {
        Moved {
            zone: ZoneId(self.block.zone),
            height: self.block.height,
            state_root: self.block.state_root,
            entries: summary.entries,
            digest: summary.digest,
            votes: (self.votes, self.signers.len()),
        }
    }
}

fn named(key: [u8; 32], bls_key: &[u8], bls_pop: &[u8]) -> Validator {
    Validator { key, bls_key: bls_key.to_vec(), bls_pop: bls_pop.to_vec() }
}

fn seats(header: &ExportHeader) -> Vec<Validator> {
    header.seats.iter().map(|seat| named(seat.key, &seat.bls_key, &seat.bls_pop)).collect()
}

/// Follows the changes of validators from the genesis on, as a light client does.
fn follow(genesis: &Genesis, handovers: &[Vec<u8>]) -> Result<(Checkpoint, Vec<Handover>), String> {
    // How long deposits are held is of no matter: the file's age is its reader's question.
    let mut now = Checkpoint::genesis(trusted_by(genesis).map_err(|e| e.to_string())?, genesis.time.0, 0);
    let mut lineage = Vec::with_capacity(handovers.len());
    for (index, bytes) in handovers.iter().enumerate() {
        let wrong = |why| format!("change {} of its validators: {why}", index + 1);
        let handover = Handover::decode(bytes).map_err(wrong)?;
        now = now.follow(&handover).map_err(wrong)?;
        lineage.push(handover);
    }
    Ok((now, lineage))
}

/// What is needed to know of a file that a zone goes on from. The entries are read and checked when they are needed.
pub(crate) fn base(file: &Path, genesis: &Genesis) -> Result<LocalBase, NodeError> {
    let mut silent = |_| {};
    let reader = open(file, &mut silent)?;
    let head = Head::read(reader.header()).map_err(|why| unfit(file, why))?;
    if head.genesis != *genesis {
        return Err(unfit(file, "it is of another zone than the genesis beside it"));
    }
    let block = &head.block;
    let chain = Base {
        height: block.height,
        timestamp_ms: block.timestamp_ms,
        digest: block.digest(),
        randomness: block.randomness,
        entries: pasture_store::export::digest_at_end(file)?,
        first_term: head.first_term,
    };
    Ok(LocalBase { path: file.into(), chain, validators: head.next, lineage: head.lineage })
}

/// The entries of a file whose digest is known.
pub(crate) fn entries(file: &Path, digest: &[u8; 32]) -> Result<Entries, String> {
    let mut silent = |_| {};
    let mut reader = open(file, &mut silent).map_err(|e| e.to_string())?;
    let mut entries = Vec::new();
    let named = |what: String| format!("{}: {what}", file.display());
    while let Some(entry) = reader.entry().map_err(|e| named(e.to_string()))? {
        entries.push(entry);
    }
    match reader.summary() {
        Some(summary) if summary.digest == *digest => Ok(entries),
        _ => Err(named("its entries are not those that the ledger began with".into())),
    }
}

/// Imports a file into a directory: a new one, or one whose ledger was moved away. The validator's keys are those of `keys`, another
/// data directory, or are there already; so are the addresses of the other validators, if there are several. `progress` is told of
/// bytes of the two times that the file is read.
///
/// # Errors
/// The file is damaged or does not fit; the directory holds a ledger, another zone, or no key. Nothing was changed then.
pub fn import(file: &Path, data: &Path, keys: Option<&Path>, progress: Progress<'_>) -> Result<Imported, NodeError> {
    let (moved, head, checked) = examine(file, progress)?;
    let genesis = &head.genesis;
    check_target(file, data, genesis)?;
    let addresses = addresses(data, keys)?;
    let seeds = secrets(data, keys, &head.next, addresses.is_some())?;
    if head.next.len() > 1 && addresses.is_none() {
        let hint = "name the folder of the validator that was exported with --keys, or copy its zone/network.toml there";
        return Err(NodeError::Options(format!("nothing says where the other validators are: {hint}")));
    }
    let dir = DataDir::open(data)?;
    // Again, now that nobody else can change it.
    check_target(file, data, genesis)?;
    let zone = dir.sub("zone")?;
    let base = data.join(BASE);
    copy(file, &zone, &base, &moved)?;
    for (name, seed) in [(VALIDATOR_KEY, seeds.0), (OPERATOR_KEY, seeds.1)] {
        let path = data.join(name);
        if keys::load_seed(&path)?.is_none() {
            keys::save_seed(&path, &seed)?;
        }
    }
    if let Some(addresses) = addresses.filter(|_| !data.join(NETWORK).exists()) {
        write_atomic(&data.join(NETWORK), addresses.text()?.as_bytes())?;
    }
    // What makes it a zone comes last.
    if read_genesis(&data.join(GENESIS))?.is_none() {
        LocalZone::write_genesis(data, genesis)?;
    }
    Ok(Imported { moved, checked, several: head.next.len() > 1 })
}

/// Where the zone's validators are, as the directory says, else the one whose keys are taken.
fn addresses(data: &Path, keys: Option<&Path>) -> Result<Option<NetworkFile>, NodeError> {
    match (NetworkFile::load(data)?, keys) {
        (None, Some(keys)) => NetworkFile::load(keys),
        (found, _) => Ok(found),
    }
}

/// Reads all of a file, and whether its books balance.
fn examine(file: &Path, progress: Progress<'_>) -> Result<(Moved, Head, Vec<String>), NodeError> {
    let mut reader = open(file, progress)?;
    let mut state = MemoryState::default();
    while let Some((key, value)) = reader.entry().map_err(export_error(file))? {
        state.0.insert(key, value);
    }
    let summary = reader.summary().ok_or_else(|| unfit(file, "it has no end"))?;
    let head = Head::read(reader.header()).map_err(|why| unfit(file, why))?;
    if reader.header().seats.is_empty() {
        // Its run would count terms of the engine from 0 again, and votes of before would contradict those of after.
        return Err(unfit(file, "it is of format 1, which does not say who goes on: export the ledger again with this program"));
    }
    let record = pasture_ledger::query::zone(&state).ok_or_else(|| unfit(file, "its state has no zone record"))?;
    if record.id.0 != head.block.zone {
        return Err(unfit(file, "its state is another zone's than its block"));
    }
    let report = pasture_ledger::check(&state).map_err(|violations| {
        let all: Vec<String> = violations.iter().map(ToString::to_string).collect();
        unfit(file, format!("its books do not balance: {}", all.join("; ")))
    })?;
    Ok((head.moved(&summary), head, crate::views::checked(&report)))
}

fn check_target(file: &Path, data: &Path, genesis: &Genesis) -> Result<(), NodeError> {
    if let Some(there) = read_genesis(&data.join(GENESIS))?
        && there != *genesis
    {
        return Err(unfit(file, format!("it is of zone {}, and {} belongs to zone {}", genesis.zone(), data.display(), there.zone())));
    }
    let ledger = data.join("ledger");
    let used = std::fs::read_dir(&ledger).is_ok_and(|mut entries| entries.next().is_some());
    if used {
        let ledger = ledger.display();
        return Err(unfit(file, format!("{} holds a ledger already: move it away first (mv {ledger} {ledger}.old)", data.display())));
    }
    Ok(())
}

/// Seeds of the validator's and the operator's keys. Who does not go on as a validator may follow those who do, if it is said where
/// they are.
fn secrets(data: &Path, from: Option<&Path>, next: &[Validator], may_follow: bool) -> Result<([u8; 32], [u8; 32]), NodeError> {
    let place = from.unwrap_or(data);
    let load = |name: &str| -> Result<[u8; 32], NodeError> {
        let path = place.join(name);
        keys::load_seed(&path)?.ok_or_else(|| {
            let hint = "name the folder of the network that was exported with --keys, or copy its zone/*.key there";
            NodeError::Options(format!("there is no {}: {hint}", path.display()))
        })
    };
    let (validator, operator) = (load(VALIDATOR_KEY)?, load(OPERATOR_KEY)?);
    for (name, seed) in [(VALIDATOR_KEY, &validator), (OPERATOR_KEY, &operator)] {
        let path = data.join(name);
        if keys::load_seed(&path)?.is_some_and(|there| there != *seed) {
            return Err(NodeError::Options(format!(
                "{} is another key than the one that was exported: move it away first",
                path.display()
            )));
        }
    }
    let ours = Identity::from_secret(&validator).map(|identity| identity.public_key());
    if !may_follow && !ours.is_some_and(|key| next.iter().any(|v| v.key == key)) {
        return Err(NodeError::Options(format!(
            "{} is not the key of a validator of this zone at the block of the file",
            place.join(VALIDATOR_KEY).display()
        )));
    }
    Ok((validator, operator))
}

/// Copies the file beside the genesis; it must still be what was examined.
fn copy(file: &Path, zone: &Path, base: &Path, moved: &Moved) -> Result<(), NodeError> {
    let mut temp = tempfile::NamedTempFile::new_in(zone).map_err(io("create a file in", zone))?;
    let mut from = File::open(file).map_err(io("read", file))?;
    std::io::copy(&mut from, &mut temp).map_err(io("write", base))?;
    temp.as_file().sync_all().map_err(io("sync", base))?;
    if verify_export(temp.path(), &mut |_| {})? != *moved {
        return Err(unfit(file, "it changed while it was read"));
    }
    temp.persist(base).map_err(|e| io("replace", base)(e.error))?;
    Ok(sync_dir(zone)?)
}
