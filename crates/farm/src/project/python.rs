//! Python projects: their version, how their dependencies are installed and what starts them.

use super::{Draft, Folder, IGNORE_HEAD, Language, json_word, version};
use crate::exit::Failure;

/// What runs where the project does not say.
const DEFAULT_VERSION: &str = "3.13";
/// Files that begin a program, by custom.
const ENTRIES: [&str; 5] = ["main.py", "app.py", "train.py", "run.py", "server.py"];
const MARKS: [&str; 5] = ["pyproject.toml", "requirements.txt", "uv.lock", "Pipfile", "setup.py"];

pub(super) fn is_here(folder: &Folder<'_>) -> bool {
    folder.first(&MARKS).is_some() || folder.first(&ENTRIES).is_some()
}

pub(super) fn draft(folder: &Folder<'_>) -> Result<Draft, Failure> {
    let project: Option<toml::Table> = folder.text("pyproject.toml").and_then(|text| text.parse().ok());
    let about = project.as_ref().and_then(|table| table.get("project")).and_then(toml::Value::as_table);
    let mut assumed = vec![];
    let asked = about.and_then(|table| table.get("requires-python")).and_then(toml::Value::as_str).and_then(|text| version(text, 2));
    let python = folder.first_line(".python-version").and_then(|line| version(&line, 2)).or(asked).unwrap_or_else(|| {
        assumed.push(format!("Python {DEFAULT_VERSION}, since the project names no version (write one into .python-version)"));
        DEFAULT_VERSION.to_owned()
    });
    let install = install(folder, about);
    let command = command(folder, about)?;
    if install.is_empty() {
        assumed.push("no dependencies, since there is neither requirements.txt nor pyproject.toml".to_owned());
    }
    let dockerfile = format!(
        "# Written by `farm init`; yours from now on.\nFROM python:{python}-slim\nENV PYTHONUNBUFFERED=1\nWORKDIR /app\n{install}COPY . .\n{}CMD [{command}]\n",
        late_install(folder, about)
    );
    let seen = MARKS.iter().chain(&ENTRIES).copied().filter(|name| folder.has(name)).map(str::to_owned).collect();
    let ignore = format!("{IGNORE_HEAD}__pycache__\n*.pyc\n.venv\nvenv\n.mypy_cache\n.pytest_cache\n.ruff_cache\n");
    Ok(Draft { language: Language::Python, seen, dockerfile, ignore, assumed })
}

/// The lines that install what is needed, before the sources are copied: a changed source then builds in seconds.
fn install(folder: &Folder<'_>, about: Option<&toml::Table>) -> String {
    if folder.has("uv.lock") && folder.has("pyproject.toml") {
        return "RUN pip install --no-cache-dir uv\nCOPY pyproject.toml uv.lock ./\nENV UV_LINK_MODE=copy PATH=/app/.venv/bin:$PATH\n\
                RUN uv sync --frozen --no-dev --no-install-project\n"
            .to_owned();
    }
    if folder.has("requirements.txt") {
        return "COPY requirements.txt ./\nRUN pip install --no-cache-dir -r requirements.txt\n".to_owned();
    }
    if folder.has("Pipfile") {
        let files = if folder.has("Pipfile.lock") { "Pipfile Pipfile.lock" } else { "Pipfile" };
        let how = if folder.has("Pipfile.lock") { "--deploy" } else { "--skip-lock" };
        return format!("RUN pip install --no-cache-dir pipenv\nCOPY {files} ./\nRUN pipenv install --system {how}\n");
    }
    let listed = about.and_then(|table| table.get("dependencies")).and_then(toml::Value::as_array);
    let words: Option<Vec<String>> =
        listed.filter(|_| !is_package(folder, about)).map(|list| list.iter().filter_map(toml::Value::as_str).map(json_word).collect());
    match words {
        Some(words) if !words.is_empty() => format!("RUN [\"pip\", \"install\", \"--no-cache-dir\", {}]\n", words.join(", ")),
        _ => String::new(),
    }
}

/// A package is installed with its sources.
fn late_install(folder: &Folder<'_>, about: Option<&toml::Table>) -> &'static str {
    if folder.has("uv.lock") && is_package(folder, about) {
        "RUN uv sync --frozen --no-dev\n"
    } else if !folder.has("requirements.txt") && is_package(folder, about) {
        "RUN pip install --no-cache-dir .\n"
    } else {
        ""
    }
}

fn is_package(folder: &Folder<'_>, about: Option<&toml::Table>) -> bool {
    folder.has("setup.py") || (about.is_some() && (scripts(about).is_some() || folder.has_folder("src")))
}

fn scripts(about: Option<&toml::Table>) -> Option<&toml::Table> {
    about?.get("scripts")?.as_table().filter(|table| !table.is_empty())
}

/// What starts it, as the words of a CMD.
fn command(folder: &Folder<'_>, about: Option<&toml::Table>) -> Result<String, Failure> {
    if let Some(name) = folder.first(&ENTRIES) {
        return Ok(format!("\"python\", {}", json_word(name)));
    }
    if let Some((name, _)) = scripts(about).and_then(|table| table.iter().next()) {
        return Ok(json_word(name));
    }
    let programs: Vec<&String> = folder.names.iter().filter(|name| name.ends_with(".py") && *name != "setup.py").collect();
    match programs.as_slice() {
        [only] => Ok(format!("\"python\", {}", json_word(only))),
        [] if folder.has("__main__.py") => Ok("\"python\", \".\"".to_owned()),
        _ => Err(Failure::new("no-entry", format!("{} is a Python project, but nothing says what starts it", folder.root.display()))
            .next(format!("name the file that starts it one of: {}", ENTRIES.join(", ")))
            .next("or write a Dockerfile; three lines are enough:  FROM python:3.13-slim,  COPY . .,  CMD [\"python\", \"your.py\"]")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{drafted, folder};
    use super::super::{Language, draft};

    #[test]
    fn requirements_and_a_main_file() {
        let made = drafted(&[("requirements.txt", "numpy\n"), ("train.py", "print(1)\n"), (".python-version", "3.11.9\n")]);
        assert_eq!(
            made.dockerfile,
            "# Written by `farm init`; yours from now on.\nFROM python:3.11-slim\nENV PYTHONUNBUFFERED=1\nWORKDIR /app\n\
             COPY requirements.txt ./\nRUN pip install --no-cache-dir -r requirements.txt\nCOPY . .\nCMD [\"python\", \"train.py\"]\n"
        );
        assert_eq!((made.seen.join(" "), made.assumed.len()), ("requirements.txt train.py".to_owned(), 0));
        assert!(made.ignore.contains(".venv\n") && made.ignore.contains(".env\n"));
    }

    #[test]
    fn a_lone_script_needs_nothing_and_says_what_was_assumed() {
        let made = drafted(&[("main.py", "")]);
        assert!(made.dockerfile.contains("FROM python:3.13-slim") && !made.dockerfile.contains("pip"), "{}", made.dockerfile);
        assert_eq!(made.assumed.len(), 2);
    }

    #[test]
    fn a_package_with_scripts_is_installed_and_started_by_name() {
        let toml =
            "[project]\nname = \"x\"\nrequires-python = \">=3.12\"\ndependencies = [\"numpy>=2\"]\n[project.scripts]\nserve = \"x:go\"\n";
        let made = drafted(&[("pyproject.toml", toml), ("src/x.py", "")]);
        assert!(made.dockerfile.ends_with("COPY . .\nRUN pip install --no-cache-dir .\nCMD [\"serve\"]\n"), "{}", made.dockerfile);
        assert!(made.dockerfile.contains("python:3.12-slim"));
    }

    #[test]
    fn listed_dependencies_cannot_add_a_line_of_their_own() {
        let toml = "[project]\nname = \"x\"\ndependencies = [\"a\\nRUN evil\"]\n";
        let made = drafted(&[("pyproject.toml", toml), ("main.py", "")]);
        assert!(made.dockerfile.contains(r#"RUN ["pip", "install", "--no-cache-dir", "a\nRUN evil"]"#), "{}", made.dockerfile);
        assert!(!made.dockerfile.lines().any(|line| line.starts_with("RUN evil")));
    }

    #[test]
    fn locked_projects_are_installed_from_the_lock() {
        let made = drafted(&[("pyproject.toml", "[project]\nname = \"x\"\n"), ("uv.lock", ""), ("app.py", "")]);
        assert!(made.dockerfile.contains("uv sync --frozen") && made.dockerfile.contains("COPY pyproject.toml uv.lock ./"));
    }

    #[test]
    fn without_a_start_the_error_says_what_to_do() {
        let failure = draft(folder(&[("a.py", ""), ("b.py", ""), ("requirements.txt", "")]).path(), Some(Language::Python)).unwrap_err();
        assert!(failure.code == "no-entry" && failure.next.len() == 2, "{failure:?}");
    }
}
