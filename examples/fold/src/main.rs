//! Looks for the best fold of a protein in the HP model and tells how it goes.
//!
//! ```text
//! fold [--sequence NAME or string of H and P] [--seed N] [--sweeps N] [--list]
//! ```
//! Prints a line at least every second. Writes `best.json` and `best.txt` into `$FARM_OUTPUT_DIR`, each time the best
//! fold is a new one and at the end, so that a stopped search leaves what it had. The answer depends on its arguments
//! only; how long it takes depends on the machine.

mod lattice;
mod random;
mod search;
mod sequences;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use crate::{search::Search, sequences::Sequence};

const USAGE: &str = "usage: fold [--sequence NAME or string of H and P] [--seed N] [--sweeps N] [--list]";
/// Where results go.
const OUTPUT_VARIABLE: &str = "FARM_OUTPUT_DIR";
/// The default sequence, seed and length of a search: about ten seconds on one core of 2024.
const SEQUENCE: &str = "S1-7";
const SEED: u64 = 1;
const SWEEPS: u64 = 12_000;
/// The longest silence.
const PROGRESS: Duration = Duration::from_secs(1);

struct Options {
    name: String,
    residues: String,
    known_best: Option<i32>,
    seed: u64,
    sweeps: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        for Sequence { name, residues, known_best } in &sequences::ALL {
            println!("{name}  {} residues, best known {known_best}  {residues}", residues.len());
        }
        return ExitCode::SUCCESS;
    }
    match parse(&arguments).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fold: {error}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut sequence = SEQUENCE;
    let (mut seed, mut sweeps) = (SEED, SWEEPS);
    let mut rest = arguments.iter();
    while let Some(flag) = rest.next() {
        let value = rest.next().ok_or(format!("{flag} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{flag} needs a number, not {value:?}"));
        match flag.as_str() {
            "--sequence" => sequence = value,
            "--seed" => seed = number()?,
            "--sweeps" => sweeps = number()?,
            _ => return Err(format!("unknown argument {flag}")),
        }
    }
    let (name, residues, known_best) = match sequences::find(sequence) {
        Some(known) => (known.name, known.residues, Some(known.known_best)),
        None => ("custom", sequence, None),
    };
    Ok(Options { name: name.to_owned(), residues: residues.to_owned(), known_best, seed, sweeps })
}

fn run(options: &Options) -> Result<(), String> {
    let mut search = Search::new(&options.residues, options.seed)?;
    let output = std::env::var_os(OUTPUT_VARIABLE).map(PathBuf::from);
    let target = options.known_best.map_or(String::new(), |known| format!(", best known energy {known}"));
    println!("folding {} ({} residues{target}), seed {}, {} sweeps", options.name, options.residues.len(), options.seed, options.sweeps);

    let started = Instant::now();
    let mut spoke = started;
    let mut unsaved = true;
    while search.sweeps() < options.sweeps {
        unsaved |= search.sweep();
        if spoke.elapsed() >= PROGRESS {
            spoke = Instant::now();
            progress(&search, options, started);
            if std::mem::take(&mut unsaved) {
                save(output.as_deref(), options, &search)?;
            }
        }
    }
    save(output.as_deref(), options, &search)?;

    let seconds = started.elapsed().as_secs_f64();
    println!("\n{}", search.best().drawing());
    let known = options.known_best.map_or(String::new(), |known| format!(" (best known {known})"));
    println!("best energy {}{known} after {} moves in {seconds:.1} s", search.best().energy(), search.tried());
    match output {
        Some(folder) => println!("wrote best.json and best.txt to {}", folder.display()),
        None => println!("wrote nothing: {OUTPUT_VARIABLE} is not set"),
    }
    Ok(())
}

fn progress(search: &Search, options: &Options, started: Instant) {
    let done = 100 * search.sweeps() / options.sweeps.max(1);
    let rate = search.tried() as f64 / started.elapsed().as_secs_f64() / 1e6;
    let kept = 100 * search.accepted() / search.tried().max(1);
    println!("{done:3} %  best {:4}  {rate:.1} M moves/s, {kept} % kept", search.best().energy());
}

fn save(folder: Option<&Path>, options: &Options, search: &Search) -> Result<(), String> {
    let Some(folder) = folder else { return Ok(()) };
    let best = search.best();
    write_whole(&folder.join("best.json"), &json(options, search))?;
    write_whole(&folder.join("best.txt"), &format!("{} energy {}\n\n{}", options.name, best.energy(), best.drawing()))
}

/// Nothing in here needs escaping: names and shapes are letters, digits and dashes.
fn json(options: &Options, search: &Search) -> String {
    let best = search.best();
    let known = options.known_best.map_or("null".to_owned(), |known| known.to_string());
    format!(
        "{{\n  \"sequence\": \"{}\",\n  \"residues\": \"{}\",\n  \"energy\": {},\n  \"best_known\": {known},\n  \"shape\": \"{}\",\n  \
         \"seed\": {},\n  \"sweeps\": {},\n  \"moves\": {}\n}}\n",
        options.name,
        options.residues,
        best.energy(),
        best.shape(),
        options.seed,
        search.sweeps(),
        search.tried()
    )
}

/// Whoever reads the file sees the old one or the new one, never half of it.
fn write_whole(path: &Path, text: &str) -> Result<(), String> {
    let half = path.with_extension("new");
    let written = std::fs::write(&half, text).and_then(|()| std::fs::rename(&half, path));
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn arguments_are_read() {
        let options = parse(&arguments("--seed 7 --sequence s1-1 --sweeps 3")).unwrap();
        assert_eq!((options.name.as_str(), options.seed, options.sweeps, options.known_best), ("S1-1", 7, 3, Some(-9)));
        assert_eq!(parse(&arguments("--sequence HPPH")).unwrap().known_best, None);
        for wrong in ["--seed", "--seed x", "--fast 1"] {
            assert!(parse(&arguments(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn results_are_written() {
        let options = parse(&arguments("--sequence HHHH --sweeps 2")).unwrap();
        let mut search = Search::new(&options.residues, options.seed).unwrap();
        search.sweep();
        let folder = std::env::temp_dir().join(format!("fold-test-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        save(Some(&folder), &options, &search).unwrap();
        let text = std::fs::read_to_string(folder.join("best.json")).unwrap();
        let names: Vec<String> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(text.contains("\"energy\": -1,") && text.contains("\"sequence\": \"custom\""), "{text}");
        assert_eq!(names.len(), 2, "{names:?}");
    }
}
