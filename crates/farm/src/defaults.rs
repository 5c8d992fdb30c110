//! `/etc/pasture/config.toml`: what `farm up` is to do on a machine where nobody types.
//!
//! ```text
//!  join = "pasture-join-..."          what the command line would say as  --join pasture-join-...
//!  enroll = "@/etc/pasture/enroll"
//!  cpu = 8
//!  hours = ["22:00-06:00"]            a flag that can be given several times
//!  usual-priority = true              a flag without a value
//! ```
//! Guarantees: every flag of `farm up`, by its own name, and nothing else; what the command line or the environment says goes first. A
//! mistake names the file and the line.

use crate::args::Cli;
use crate::exit::Failure;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where it is read from unless somebody says otherwise.
const USUAL: &str = "/etc/pasture/config.toml";
/// Largest such file.
const MAX_FILE: u64 = 1 << 16;
/// What a file cannot say: these are of the command line.
const OURS: [&str; 3] = ["config", "help", "version"];

/// The command line with what the file says about its flags, if it is one that offers a machine.
pub(crate) fn with_file(argv: Vec<OsString>, usual: Option<&Path>) -> Result<Vec<OsString>, Failure> {
    // What makes no sense is said where the command line is read.
    let Ok(found) = Cli::command().try_get_matches_from(&argv) else { return Ok(argv) };
    let Some((path, given)) = offering(&found) else { return Ok(argv) };
    let file = match (given.get_one::<PathBuf>("config"), usual) {
        (Some(named), _) => named.clone(),
        (None, Some(usual)) if usual.exists() => usual.to_path_buf(),
        (None, _) => return Ok(argv),
    };
    let more = flags(&file, path, given)?;
    Ok(argv.into_iter().chain(more).collect())
}

/// The usual file.
pub(crate) fn usual() -> &'static Path {
    Path::new(USUAL)
}

/// The part of a command line that offers a machine, and how it is called.
fn offering(found: &ArgMatches) -> Option<(&'static [&'static str], &ArgMatches)> {
    match found.subcommand()? {
        ("up", up) => Some((&["up"], up)),
        ("provider", provider) => provider.subcommand_matches("join").map(|join| (&["provider", "join"] as &[_], join)),
        _ => None,
    }
}

fn flags(file: &Path, path: &[&str], given: &ArgMatches) -> Result<Vec<OsString>, Failure> {
    let wrong = |why: String| Failure::new("config", format!("{}: {why}", file.display()));
    let about = std::fs::metadata(file).map_err(|e| Failure::io("read", file, &e))?;
    if about.len() > MAX_FILE {
        return Err(wrong("larger than a configuration can be".into()));
    }
    let text = std::fs::read_to_string(file).map_err(|e| Failure::io("read", file, &e))?;
    let table: toml::Table = toml::from_str(&text).map_err(|e| {
        let line = e.span().map_or(1, |s| text.get(..s.start).map_or(1, |t| t.matches('\n').count() + 1));
        Failure::new("config", format!("{}:{line}: {}", file.display(), e.message()))
    })?;
    let mut command = Cli::command();
    command.build();
    let command = path.iter().try_fold(&command, |at, name| at.find_subcommand(name)).ok_or_else(|| wrong("no such command".into()))?;
    let mut out = vec![];
    for (name, value) in &table {
        let known = command.get_arguments().find(|arg| arg.get_long() == Some(name) && !OURS.contains(&name.as_str()));
        let arg = known.ok_or_else(|| {
            wrong(format!("`{name}` is no flag of farm {}", path.join(" ")))
                .next("see what there is:  farm up --help")
                .next("write a flag by its name without the two dashes")
        })?;
        let id = arg.get_id().as_str();
        if matches!(given.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
            continue;
        }
        let takes = arg.get_action().takes_values();
        let values = match value {
            toml::Value::Array(all) => all.iter().collect(),
            one => vec![one],
        };
        for value in values {
            match (value, takes) {
                (toml::Value::Boolean(true), false) => out.push(format!("--{name}").into()),
                (toml::Value::Boolean(false), false) => {}
                (toml::Value::String(text), true) => out.push(format!("--{name}={text}").into()),
                (toml::Value::Integer(number), true) => out.push(format!("--{name}={number}").into()),
                (toml::Value::Float(number), true) => out.push(format!("--{name}={number}").into()),
                (_, true) => return Err(wrong(format!("`{name}` is a text or a number, or a list of them"))),
                (_, false) => return Err(wrong(format!("`{name}` is true or false"))),
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Command;
    use clap::Parser as _;

    fn read(file: &str, line: &[&str]) -> Result<Vec<String>, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, file).unwrap();
        let argv = line.iter().map(OsString::from).collect();
        Ok(with_file(argv, Some(&path))?.into_iter().map(|arg| arg.into_string().unwrap()).collect())
    }

    #[test]
    fn a_file_says_what_the_command_line_does_not() {
        let file = "join = \"pasture-join-x\"\ncpu = 8\nhours = [\"22:00-06:00\", \"sat/00:00-24:00\"]\nusual-priority = true\nno-deposit = false\nyes = true\n";
        let argv = read(file, &["farm", "up", "--cpu", "2"]).unwrap();
        let cli = Cli::try_parse_from(&argv).unwrap();
        let Command::Up(args) = &cli.command else { panic!("{argv:?}") };
        assert_eq!(args.machine.cpu.as_deref(), Some("2"), "the command line goes first");
        assert_eq!(args.join.as_deref(), Some("pasture-join-x"));
        assert_eq!(args.limits.hours, ["22:00-06:00", "sat/00:00-24:00"]);
        assert!(args.usual_priority && !args.no_deposit && cli.global.yes);
        let argv = read(file, &["farm", "provider", "join"]).unwrap();
        assert!(argv.contains(&"--cpu=8".to_owned()), "{argv:?}");
    }

    #[test]
    fn other_commands_read_no_file() {
        assert_eq!(read("nonsense", &["farm", "ps"]).unwrap(), ["farm", "ps"]);
        assert_eq!(read("nonsense", &["farm", "up", "--no-such-flag"]).unwrap(), ["farm", "up", "--no-such-flag"], "said elsewhere");
        assert_eq!(with_file(vec!["farm".into(), "up".into()], Some(Path::new("/nowhere"))).unwrap().len(), 2);
    }

    #[test]
    fn a_mistake_in_the_file_is_named() {
        for (file, said) in [
            ("cpus = 8", "`cpus` is no flag"),
            ("config = \"x\"", "`config` is no flag"),
            ("cpu = true", "`cpu` is a text or a number"),
            ("usual-priority = 3", "true or false"),
            ("a = 1\nb = = 2", ":2:"),
        ] {
            let failure = read(file, &["farm", "up"]).unwrap_err();
            assert!(failure.message.contains(said), "{file}: {}", failure.message);
        }
        let argv = vec!["farm".into(), "up".into(), "--config=/nowhere/config.toml".into()];
        assert_eq!(with_file(argv, None).unwrap_err().code, "io", "one that was named is there");
    }
}
