//! What one draw costs against 10,000 offers: the numbers of `docs/specs/market.md` §4.
//!
//! Guarantees: offers, orders and draws go through `apply` and `end_block` like anywhere; half of the nodes are half full. It
//! writes no disk: the state is in memory.

use pasture_ledger::{Applied, BlockCtx, Signatures, apply, begin_block, check, end_block, explain, genesis, query};
use pasture_types::genesis::{Genesis, GenesisAccount, GenesisValidator, Params, RULES_VERSION};
use pasture_types::market::{Constraint, OfferTerms, OrderTerms, Rates};
use pasture_types::state::MemoryState;
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, NodeDeclaration, TxBody, node_registration_digest};
use pasture_types::{Amount, GpuLine, Millis, NodeId, Resources, SigningKey, Timestamp};
use std::io::Write as _;
use std::time::{Duration, Instant};

const OFFERS: u32 = 10_000;
const ROUNDS: u32 = 50;
const START: Timestamp = Timestamp(1_800_000_000_000);

struct World {
    genesis: Genesis,
    state: MemoryState,
    height: u64,
}

impl World {
    fn block(&mut self, txs: &[Vec<u8>]) -> (usize, Duration) {
        self.height += 1;
        let at = |height: u64| START.plus(Millis(height * 10));
        let randomness = pasture_types::ids::derive("draw cost example", &[&self.height.to_be_bytes()]);
        let ctx = BlockCtx { height: self.height, now: at(self.height), parent_time: at(self.height - 1), randomness, proposer: [0; 32] };
        begin_block(&mut self.state, &ctx);
        let done = txs.iter().filter(|tx| matches!(apply(&mut self.state, &ctx, tx, Signatures::Verified), Applied::Done { .. })).count();
        let began = Instant::now();
        end_block(&mut self.state, &ctx);
        (done, began.elapsed())
    }

    fn tx(&self, key: &SigningKey, actions: Vec<Action>) -> Vec<u8> {
        let account = key.account();
        let body = TxBody {
            version: ENVELOPE_VERSION,
            zone: self.genesis.zone(),
            account,
            auth: Auth::Single,
            lane: 0,
            seq: query::next_seq(&self.state, &account.0, 0),
            valid_until: START.plus(Millis::secs(3_600)),
            max_fee: Amount::credits(10),
            tip: Amount::ZERO,
            fee_asset: pasture_types::AssetId::CREDIT,
            fee_payer: None,
            actions,
        };
        pasture_types::codec::encode(&body.sign(key))
    }
}

fn seed(n: u32) -> SigningKey {
    let mut bytes = [9; 32];
    bytes.iter_mut().zip(n.to_be_bytes()).for_each(|(b, v)| *b = v);
    SigningKey::from_seed(bytes)
}

/// 4 to 64 cores, four gibibytes each; a GPU on one in ten, an attribute on one in 200, ten regions.
fn terms(n: u32) -> OfferTerms {
    let cores = 4u32 << (n % 5);
    let gpus = if n.is_multiple_of(10) { vec![GpuLine { model: "H100".into(), count: 4, vram_bytes: 80 << 30 }] } else { vec![] };
    OfferTerms {
        rates: Rates {
            cpu_core: Amount(u128::from(200_000_000 + n % 977 * 100_000)),
            gpus: vec![Amount::credits(2); gpus.len()],
            ..Rates::default()
        },
        resources: Resources {
            cpu_millis: cores * 1_000,
            memory_bytes: u64::from(cores) << 32,
            disk_bytes: 1 << 40,
            gpus,
            services: vec![],
        },
        region: format!("eu-{}", n % 10),
        max_duration: Millis::secs(86_400),
        attributes: if n.is_multiple_of(200) { vec![("disk".into(), "nvme".into())] } else { vec![] },
        ..OfferTerms::default()
    }
}

fn offers(provider: &SigningKey, world: &mut World) {
    let txs = [world.tx(provider, vec![Action::RegisterProvider { name: "p".into() }, Action::Stake { amount: Amount::credits(1) }])];
    world.block(&txs);
    let all: Vec<u32> = (0..OFFERS).collect();
    for some in all.chunks(16) {
        let mut actions = vec![];
        for n in some {
            let (key, terms) = (seed(*n), terms(*n));
            let declaration = NodeDeclaration {
                resources: terms.resources.clone(),
                cpu_hashes_per_s: 20_000,
                cpu_model: "example".into(),
                arch: "x86_64".into(),
            };
            let digest = node_registration_digest(&world.genesis.zone(), &provider.account(), &key.node_id(), &declaration);
            actions.push(Action::RegisterNode { node: key.node_id(), declaration, node_signature: key.sign(&digest) });
            actions.push(Action::PutOffer { node: key.node_id(), number: 0, terms: Box::new(terms) });
        }
        let txs = [world.tx(provider, actions)];
        world.block(&txs);
    }
}

fn order(world: &World) -> OrderTerms {
    OrderTerms {
        resources: Resources { cpu_millis: 2_000, memory_bytes: 4 << 30, disk_bytes: 1 << 30, ..Resources::default() },
        max_price_per_hour: Amount::credits(100),
        max_duration: Millis::secs(3_600),
        budget: Amount::credits(100),
        expires: START.plus(Millis(world.height * 10)).plus(Millis::secs(3_600)),
        ..OrderTerms::default()
    }
}

type Change = fn(&mut OrderTerms);

const CASES: [(&str, Change); 8] = [
    ("any machine", |_| {}),
    ("one region of ten", |t| t.constraints.push(Constraint::Region("eu-3".into()))),
    ("an attribute of 1 in 200", |t| t.constraints.push(Constraint::Attribute { name: "disk".into(), value: "nvme".into() })),
    ("one node", |t| t.constraints.push(Constraint::Node(seed(7).node_id()))),
    ("a GPU of 1 in 10", |t| t.resources.gpus = vec![GpuLine { model: "H100".into(), count: 1, vram_bytes: 1 }]),
    ("larger than all but 1 in 5", |t| t.resources.cpu_millis = 33_000),
    ("larger than any (nobody)", |t| t.resources.cpu_millis = 256_000),
    ("cheaper than any (nobody)", |t| t.max_price_per_hour = Amount(1_000)),
];

fn main() -> std::io::Result<()> {
    let (user, provider) = (SigningKey::from_seed([1; 32]), SigningKey::from_seed([2; 32]));
    let account = |k: &SigningKey| GenesisAccount { key: k.public(), balance: Amount::credits(10_000_000) };
    let validators = vec![GenesisValidator { key: [0; 32], bls_key: vec![0; 96], bls_pop: vec![0; 48], operator: provider.account() }];
    let accounts = vec![account(&user), account(&provider)];
    let genesis_of = Genesis {
        name: "draws".into(),
        time: START,
        rules_version: RULES_VERSION,
        params: Params::dev(),
        validators,
        accounts,
        assets: vec![],
    };
    let mut world = World { state: genesis(&genesis_of), genesis: genesis_of, height: 0 };
    let mut out = std::io::stdout().lock();
    offers(&provider, &mut world);
    world.block(&[]);
    world.block(&[]);
    let standing = query::offer(&world.state, &pasture_types::tx::offer_id(&seed(0).node_id(), 0)).is_some();
    writeln!(out, "{OFFERS} offers stand: {standing}")?;
    for (name, change) in CASES {
        let (mut times, mut matched) = (vec![], 0);
        for _ in 0..ROUNDS {
            let mut terms = order(&world);
            change(&mut terms);
            let placed = [world.tx(&user, vec![Action::PlaceOrder { terms: Box::new(terms) }])];
            // Drawn in the block after the one that took it.
            let (done, _) = world.block(&placed);
            let (_, took) = world.block(&[]);
            times.push(took.as_micros());
            let last = query::orders_of_account(&world.state, &user.account(), None, 500);
            let last = last.iter().max_by_key(|o| (o.placed_at, o.id));
            let lease = last.and_then(|o| query::lease_of_order(&world.state, &o.id));
            matched += usize::from(done == 1 && lease.is_some());
            let close = last.filter(|_| lease.is_none()).map(|o| Action::CancelOrder { order: o.id });
            let close =
                close.or_else(|| lease.map(|l| Action::CloseLease { lease: l.id, reason: pasture_types::lease::EndReason::StoppedByUser }));
            let close = [world.tx(&user, close.into_iter().collect())];
            world.block(&close);
        }
        times.sort_unstable();
        let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or(0);
        writeln!(out, "{name}: {} us a draw (median; least {}, 90 % {}), {matched} of {ROUNDS} matched", at(50), at(0), at(90))?;
    }
    let mut terms = order(&world);
    terms.constraints = vec![Constraint::Node(NodeId([0; 32]))];
    let began = Instant::now();
    let e = explain(&world.state, &terms, START.plus(Millis(world.height * 10)));
    writeln!(out, "an explanation of {} offers: {} us", e.offers, began.elapsed().as_micros())?;
    writeln!(out, "invariants hold: {}", check(&world.state).is_ok())
}
