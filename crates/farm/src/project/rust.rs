//! Rust projects: their toolchain and the one program that runs.

use super::{Draft, Folder, IGNORE_HEAD, Language, json_word, version};
use crate::exit::Failure;
use toml::{Table, Value};

/// What builds where the project does not say: the newest stable one.
const DEFAULT_VERSION: &str = "1";
/// The system that both the builder and the result use.
const SYSTEM: &str = "trixie";

pub(super) fn is_here(folder: &Folder<'_>) -> bool {
    folder.has("Cargo.toml")
}

pub(super) fn draft(folder: &Folder<'_>) -> Result<Draft, Failure> {
    let path = folder.root.join("Cargo.toml");
    let text = folder.text("Cargo.toml").ok_or_else(|| Failure::new("no-entry", format!("there is no {}", path.display())))?;
    let manifest: Table = text.parse().map_err(|e: toml::de::Error| {
        Failure::new("cargo-toml", format!("{}: {}", path.display(), e.message())).next("mend it, then ask again")
    })?;
    let package = manifest.get("package").and_then(Value::as_table).ok_or_else(|| {
        Failure::new("no-entry", format!("{} is a workspace without a program of its own", path.display()))
            .next("run the folder of one member, or write a Dockerfile that builds it with  cargo build --release --package NAME")
    })?;
    let program = program(folder, &manifest, package)?;
    let mut assumed = vec![];
    let toolchain = toolchain(folder).or_else(|| package.get("rust-version").and_then(Value::as_str).and_then(|text| version(text, 3)));
    let rust = toolchain.unwrap_or_else(|| {
        assumed.push("the newest stable Rust, since the project names no version (rust-toolchain.toml)".to_owned());
        DEFAULT_VERSION.to_owned()
    });
    let locked = if folder.has("Cargo.lock") { " --locked" } else { "" };
    let dockerfile = format!(
        "# Written by `farm init`; yours from now on.\nFROM rust:{rust}-slim-{SYSTEM} AS build\nWORKDIR /src\nCOPY . .\n\
         RUN cargo build --release{locked} --bin {program} --target-dir /target\n\n\
         FROM debian:{SYSTEM}-slim\nCOPY --from=build /target/release/{program} /usr/local/bin/{program}\nCMD [{}]\n",
        json_word(&program)
    );
    let seen = ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml"].into_iter().filter(|name| folder.has(name)).map(str::to_owned).collect();
    Ok(Draft { language: Language::Rust, seen, dockerfile, ignore: format!("{IGNORE_HEAD}target\n"), assumed })
}

fn toolchain(folder: &Folder<'_>) -> Option<String> {
    let named = folder.text("rust-toolchain.toml").and_then(|text| text.parse::<Table>().ok());
    let channel = named.as_ref().and_then(|table| table.get("toolchain")?.get("channel")?.as_str().map(str::to_owned));
    channel.or_else(|| folder.first_line("rust-toolchain")).and_then(|text| version(&text, 3))
}

/// The one program: the package's default, its only `[[bin]]`, or the package itself.
fn program(folder: &Folder<'_>, manifest: &Table, package: &Table) -> Result<String, Failure> {
    let name = |value: &Value| value.get("name").and_then(Value::as_str).map(str::to_owned);
    let bins: Vec<String> =
        manifest.get("bin").and_then(Value::as_array).map(|list| list.iter().filter_map(name).collect()).unwrap_or_default();
    let own = package.get("name").and_then(Value::as_str).map(str::to_owned);
    let found = match (package.get("default-run").and_then(Value::as_str), bins.as_slice()) {
        (Some(default), _) => Some(default.to_owned()),
        (None, [only]) => Some(only.clone()),
        (None, []) if folder.root.join("src/main.rs").is_file() => own,
        (None, _) => None,
    };
    // A name that cargo accepts; anything else has no place in a command.
    let fits = |name: &String| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    found.filter(fits).ok_or_else(|| {
        let count = bins.len();
        let why = if count > 1 { format!("has {count} programs") } else { "has no program (src/main.rs)".to_owned() };
        Failure::new("no-entry", format!("{} {why}, so nothing says what to run", folder.root.join("Cargo.toml").display()))
            .next("name one in it:  [package] default-run = \"NAME\"")
    })
}

#[cfg(test)]
mod tests {
    use super::super::draft;
    use super::super::tests::{drafted, folder};

    #[test]
    fn a_program_is_built_in_one_stage_and_run_in_another() {
        let made = drafted(&[
            ("Cargo.toml", "[package]\nname = \"worker\"\nrust-version = \"1.90\"\n"),
            ("Cargo.lock", ""),
            ("src/main.rs", "fn main() {}"),
        ]);
        assert_eq!(
            made.dockerfile,
            "# Written by `farm init`; yours from now on.\nFROM rust:1.90-slim-trixie AS build\nWORKDIR /src\nCOPY . .\n\
             RUN cargo build --release --locked --bin worker --target-dir /target\n\nFROM debian:trixie-slim\n\
             COPY --from=build /target/release/worker /usr/local/bin/worker\nCMD [\"worker\"]\n"
        );
        assert_eq!(made.seen, ["Cargo.toml", "Cargo.lock"]);
    }

    #[test]
    fn which_program_is_asked_where_there_are_several() {
        let two = "[package]\nname = \"x\"\n[[bin]]\nname = \"a\"\n[[bin]]\nname = \"b\"\n";
        let failure = draft(folder(&[("Cargo.toml", two)]).path(), None).unwrap_err();
        assert!(failure.message.contains("2 programs") && failure.next[0].contains("default-run"), "{failure:?}");
        let made = drafted(&[("Cargo.toml", &two.replace("name = \"x\"", "name = \"x\"\ndefault-run = \"b\""))]);
        assert!(made.dockerfile.contains("--bin b "), "{}", made.dockerfile);
        let evil = "[package]\nname = \"x\\nRUN evil\"\n";
        assert!(draft(folder(&[("Cargo.toml", evil), ("src/main.rs", "")]).path(), None).is_err());
        let failure = draft(folder(&[("Cargo.toml", "[workspace]\nmembers = []\n")]).path(), None).unwrap_err();
        assert!(failure.message.contains("workspace"), "{failure:?}");
    }
}
