//! What is fuzzed, each target a function from bytes to a panic or none: under libFuzzer (`fuzz_targets/`), and over the seeds
//! and their mutations in a plain test (`tests/short.rs`).

macro_rules! targets {
    ($($name:ident: $what:literal;)*) => {
        $(mod $name;)*
        $(#[doc = $what]
        pub use $name::run as $name;)*

        /// A target.
        pub type Target = fn(&[u8]);
        /// Every target by its name.
        pub const ALL: &[(&str, Target)] = &[$((stringify!($name), $name),)*];
    };
}

targets! {
    amounts: "Sizes, durations and money as people write them.";
    auth: "A data-plane header, keys, signatures and ids as text.";
    burst: "What nodes and witnesses say in an audit.";
    capacity: "Matrix products and memory walks.";
    channel: "What clients and nodes say in a channel.";
    compose: "A file with several services, ours or docker compose's.";
    envelope: "One transaction's bytes.";
    explain: "An order that was never placed.";
    export: "An exported ledger.";
    formats: "Manifests, geneses, events and what peers answer.";
    handover: "Changes of validators, and checkpoints.";
    herd: "What shepherds and workers write.";
    image: "Names of images, manifests, and what registries want.";
    ledger: "Transactions one after another by holders of real keys.";
    proof: "State proofs, certificates and validator sets.";
    records: "Files of a data directory.";
    spec: "A job file.";
    state: "Records of the ledger's state.";
    streams: "Log frames, server-sent events and sealed streams.";
    ticket: "Tickets, and addresses of nodes.";
}

pub(crate) use burst::seeds as burst_seeds;
pub(crate) use capacity::seeds as capacity_seeds;
pub(crate) use state::seeds as state_seeds;
