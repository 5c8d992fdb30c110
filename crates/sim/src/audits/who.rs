//! Who is audited: honest machines in all kinds of trouble, and what cheats do. A machine and a strategy are data.
//!
//! Guarantees: rates are stated here and nowhere else. What an audit makes of them is `zone`'s to find out.

/// Audited machines of one kind, and what their owners do.
#[derive(Clone, Debug)]
pub struct Habit {
    /// For people.
    pub name: &'static str,
    /// Plays by the rules.
    pub honest: bool,
    /// Does what it declares, but for the tolerance: nothing that an audit measures is lacking.
    pub keeps: bool,
    /// What it declares and sells, of what it has.
    pub claim: f64,
    /// When the machine is somewhere else.
    pub away: Away,
    /// How much of it is left then; with nothing left it is silent.
    pub left: f64,
    /// It is back for the repetition of an audit that it missed.
    pub returns: bool,
    /// Under a new name once it is caught.
    pub renames: bool,
    /// Uses every slack: delays its packets on other days, and goes on hashing if that looks better.
    pub cunning: bool,
    /// A machine elsewhere that answers in its place: so many times as fast, so many milliseconds later.
    pub helper: Option<(f64, f64)>,
    /// Witnesses whose messages it drops.
    pub drops: usize,
    /// Witnesses that lie: for it if it cheats, against it if it is honest.
    pub liars: usize,
    /// How fast the machine is from burst to burst.
    pub power: Power,
    /// The node's clock runs slower by this part: its bursts are longer.
    pub clock: f64,
    /// Chance that a burst ends with a restart, after which that audit is not answered.
    pub restarts: f64,
    /// Hours between outages on average, and their mean length in hours.
    pub outages: Option<(f64, f64)>,
    /// Chance that a witness gets no answer; half of them say so, of the others the word is lost.
    pub loss: f64,
    /// What a way takes longer on average than at its best, in milliseconds.
    pub jitter: f64,
    /// The shortest and the longest round trip to a witness, in milliseconds.
    pub trips: (f64, f64),
}

/// When a machine is not there.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Away {
    /// Never.
    Never,
    /// In so large a part of the epochs, each by lot.
    Part(f64),
    /// In so many epochs before each payout.
    BeforePayout(u64),
    /// In so many epochs after each payout, when little is left to be withheld.
    AfterPayout(u64),
    /// From this epoch on.
    From(u64),
    /// As soon as it passed an audit.
    OncePassed,
}

/// How fast a machine is, of what it declares.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Power {
    /// Always as fast.
    Steady(f64),
    /// From burst to burst between these, evenly.
    Between(f64, f64),
    /// Slower by this part for some hours on average, then cool for some on average.
    Throttled(f64, f64, f64),
    /// Does all the work, in up to so many times the burst.
    Late(f64),
}

/// A quiet machine of an honest owner.
const QUIET: Habit = Habit {
    name: "quiet machine",
    honest: true,
    keeps: true,
    claim: 1.0,
    away: Away::Never,
    left: 0.0,
    returns: false,
    renames: false,
    cunning: false,
    helper: None,
    drops: 0,
    liars: 0,
    power: Power::Between(0.99, 1.01),
    clock: 0.0,
    restarts: 0.0005,
    outages: None,
    loss: 0.002,
    jitter: 3.0,
    trips: (10.0, 150.0),
};

/// Epochs of a day.
pub const DAY: u64 = 1_440;

/// Honest machines.
#[must_use]
pub fn honest() -> Vec<Habit> {
    let quiet = || QUIET.clone();
    vec![
        quiet(),
        Habit { name: "loaded host: 0.8 to 1.0 of its power", power: Power::Between(0.8, 1.0), keeps: false, ..quiet() },
        Habit { name: "throttled: a tenth slower for 3 h, every 6 h", power: Power::Throttled(0.1, 3.0, 3.0), keeps: false, ..quiet() },
        Habit { name: "clock slower by 0.2 %", clock: 0.002, ..quiet() },
        Habit { name: "clock faster by 0.2 %", clock: -0.002, ..quiet() },
        Habit { name: "restarts in 2 % of the bursts", restarts: 0.02, ..quiet() },
        Habit { name: "cut off for an hour, every 5 days", outages: Some((120.0, 1.0)), ..quiet() },
        Habit { name: "lossy network: 5 % lost, ways 15 ms longer", loss: 0.05, jitter: 15.0, ..quiet() },
        Habit { name: "choked line: 5 % lost, ways 40 ms longer", loss: 0.05, jitter: 40.0, ..quiet() },
        Habit { name: "far away: round trips of 100 to 300 ms, ways 20 ms longer", trips: (100.0, 300.0), jitter: 20.0, ..quiet() },
        Habit { name: "at the edge: does 95 % of what it declares", power: Power::Steady(0.95), ..quiet() },
    ]
}

/// Honest machines that work as no machine of ours does; what becomes of them is shown, and asked of nothing.
#[must_use]
pub fn unlike_ours() -> Vec<Habit> {
    vec![Habit { name: "loaded host whose bursts take 1.0 to 1.25 of T", power: Power::Late(1.25), keeps: false, ..QUIET }]
}

/// Cheats.
#[must_use]
pub fn cheats() -> Vec<Habit> {
    let cheat = |name| Habit { name, honest: false, keeps: false, power: Power::Steady(1.0), ..QUIET };
    let away = |name, part| Habit { away: Away::Part(part), ..cheat(name) };
    let claims = |name, claim| Habit { claim, ..cheat(name) };
    vec![
        away("away always, silent", 1.0),
        away("away in 0.1 of the epochs, silent", 0.1),
        away("away in 0.01 of the epochs, silent", 0.01),
        Habit { left: 0.3, ..away("30 % left always, answers", 1.0) },
        Habit { left: 0.3, ..away("30 % left in 0.1 of the epochs, answers", 0.1) },
        Habit { left: 0.3, ..away("30 % left in 0.01 of the epochs, answers", 0.01) },
        Habit { returns: true, ..away("away always, back for repetitions", 1.0) },
        Habit { returns: true, ..away("away in half of the epochs, back for repetitions", 0.5) },
        Habit { returns: true, ..away("away in 0.1 of the epochs, back for repetitions", 0.1) },
        Habit { returns: true, ..away("away in 0.01 of the epochs, back for repetitions", 0.01) },
        Habit { away: Away::BeforePayout(3), returns: true, ..cheat("away 3 epochs before each payout, back for repetitions") },
        Habit { away: Away::AfterPayout(4), returns: true, ..cheat("away 4 epochs after each payout, back for repetitions") },
        Habit { away: Away::AfterPayout(4), returns: true, renames: true, ..cheat("the same; new name when caught") },
        Habit { returns: true, renames: true, ..away("away in 0.1 of the epochs, back for repetitions; new name when caught", 0.1) },
        Habit { power: Power::Steady(0.5), ..cheat("half the power") },
        claims("claims 1.1 of what it has", 1.1),
        claims("claims 1.2", 1.2),
        claims("claims 1.5", 1.5),
        claims("claims 2", 2.0),
        Habit { cunning: true, ..claims("claims 1.2, uses every slack", 1.2) },
        Habit { cunning: true, liars: 5, drops: 5, ..claims("claims 1.5, every slack, 5 of 16 lie for it, 5 dropped", 1.5) },
        Habit { away: Away::From(10 * DAY), ..cheat("honest for 10 days, then away, silent") },
        Habit { away: Away::From(10 * DAY), left: 0.3, ..cheat("honest for 10 days, then 30 % left, answers") },
        Habit { away: Away::OncePassed, renames: true, ..cheat("away once it passed; new name when caught") },
        Habit { away: Away::OncePassed, left: 0.3, renames: true, ..cheat("30 % left once it passed; new name when caught") },
        Habit { away: Away::Part(1.0), helper: Some((2.0, 4_000.0)), ..cheat("a helper twice as fast answers, 4 s late") },
        Habit { away: Away::Part(1.0), liars: 5, ..cheat("away always, 5 of 16 witnesses lie for it") },
        Habit { drops: 5, ..claims("claims 1.5, drops 5 of 16 witnesses", 1.5) },
    ]
}
