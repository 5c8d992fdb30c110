//! `farm init`: writes a Dockerfile and a `.dockerignore` for a project that has none; `farm run` offers the same.
//!
//! Guarantees: nothing is written that was not asked for, and no file is replaced without `--force`; what was assumed is said.

use crate::args::InitArgs;
use crate::exit::{Exit, Failure, Outcome};
use crate::project::{self, Draft};
use crate::render::Output;
use crate::session::App;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

const DOCKERFILE: &str = "Dockerfile";
const IGNORE: &str = ".dockerignore";

/// Runs the command.
pub(crate) fn run(app: &App, args: &InitArgs) -> Outcome {
    let root = args.folder.as_deref().unwrap_or(Path::new("."));
    if !root.is_dir() {
        return Err(Failure::usage(format!("there is no folder {}", root.display())));
    }
    let draft = project::draft(root, args.language)?.ok_or_else(|| unknown(root))?;
    if args.print {
        let value = serde_json::json!({"language": draft.language.name(), "dockerfile": draft.dockerfile, "dockerignore": draft.ignore});
        app.out.either(&value, || draft.dockerfile.trim_end().to_owned());
        return Ok(Exit::Ok);
    }
    if !args.force && root.join(DOCKERFILE).exists() {
        return Err(Failure::new("exists", format!("{} is already there", root.join(DOCKERFILE).display()))
            .next("run it:  farm run .")
            .next("or see what would be written:  farm init --print")
            .next("or replace it:  farm init --force"));
    }
    let written = write(root, &draft, args.force)?;
    explain(app.out, &draft);
    app.out.either(&serde_json::json!({"language": draft.language.name(), "written": written, "assumed": draft.assumed}), || {
        format!("wrote {}; look at what is in there, then:  farm run {}", written.join(" and "), shown(root))
    });
    Ok(Exit::Ok)
}

/// A folder without a Dockerfile was to be run: on a terminal offers to write one. Whether there is one now.
pub(crate) fn offer(app: &App, root: &Path, failure: &Failure) -> Result<bool, Failure> {
    let Some(draft) = project::draft(root, None).ok().flatten() else { return Ok(false) };
    let asked =
        failure.clone().next(format!("or let farm write one for this {} project:  farm init {}", draft.language.name(), shown(root)));
    if !app.yes {
        if app.out.json || !app.out.interactive {
            return Err(asked);
        }
        app.out.note(&format!(
            "{} has no Dockerfile, but looks like a {} project ({}).",
            root.display(),
            draft.language.name(),
            draft.seen.join(", ")
        ));
        app.out.note("This one would run it:\n");
        app.out.note(&draft.dockerfile);
        let answer = app.out.ask("Write it, and a .dockerignore, and run the folder? [y/N] ");
        if !matches!(answer.as_deref(), Some("y" | "yes")) {
            return Err(asked);
        }
    }
    let written = write(root, &draft, false)?;
    explain(app.out, &draft);
    app.out.note(&format!("wrote {}", written.join(" and ")));
    Ok(true)
}

fn explain(out: Output, draft: &Draft) {
    out.note(&format!("a {} project: {}", draft.language.name(), draft.seen.join(", ")));
    for sentence in &draft.assumed {
        out.note(&format!("  assumed: {sentence}"));
    }
}

/// Writes both files; an ignore file that is there stays as it is.
fn write(root: &Path, draft: &Draft, force: bool) -> Result<Vec<String>, Failure> {
    let mut written = vec![];
    for (name, text, must) in [(DOCKERFILE, &draft.dockerfile, true), (IGNORE, &draft.ignore, false)] {
        let path = root.join(name);
        let mut options = std::fs::OpenOptions::new();
        if force {
            options.write(true).create(true).truncate(true)
        } else {
            options.write(true).create_new(true)
        };
        match options.open(&path).and_then(|mut file| file.write_all(text.as_bytes())) {
            Ok(()) => written.push(path.display().to_string()),
            Err(e) if e.kind() == ErrorKind::AlreadyExists && !must => {}
            Err(e) => return Err(Failure::io("write", &path, &e)),
        }
    }
    Ok(written)
}

fn shown(root: &Path) -> String {
    if root.as_os_str().is_empty() { ".".to_owned() } else { root.display().to_string() }
}

fn unknown(root: &Path) -> Failure {
    Failure::new("unknown-project", format!("nothing in {} says what kind of project it is", root.display()))
        .next("Python is recognised by requirements.txt, pyproject.toml or main.py; Node.js by package.json; Rust by Cargo.toml")
        .next("or write a Dockerfile; two lines are enough:  FROM an image,  CMD what to run")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_there_are_kept_unless_forced() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("main.py"), "print(1)").unwrap();
        std::fs::write(dir.path().join(IGNORE), "mine\n").unwrap();
        let draft = project::draft(dir.path(), None).unwrap().unwrap();
        assert_eq!(write(dir.path(), &draft, false).unwrap().len(), 1);
        assert_eq!(std::fs::read_to_string(dir.path().join(IGNORE)).unwrap(), "mine\n");
        assert!(write(dir.path(), &draft, false).is_err());
        assert_eq!(write(dir.path(), &draft, true).unwrap().len(), 2);
        assert_eq!(std::fs::read_to_string(dir.path().join(IGNORE)).unwrap(), draft.ignore);
    }
}
