//! Where a job file comes from: a path, a folder, an address.
//!
//! Guarantees: what is not there or not readable is said with what was looked for; a file has a size limit; what came from the
//! network has no folder that anything in it could be relative to.

use super::address;
use crate::exit::Failure;
use crate::spec_file;
use pasture_jobfile::yaml::line_of;
use pasture_jobfile::{Asked, FileError, Kind, name_of};
use std::path::{Path, PathBuf};

/// Names of docker compose's files, in the order in which it looks for them.
const COMPOSE_FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// A file's text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Text {
    /// How it is called in messages.
    pub(crate) shown: String,
    /// What it says.
    pub(crate) text: String,
    /// What folders in it are relative to.
    pub(crate) base: Option<PathBuf>,
    /// The name of what is in it, unless it says itself.
    pub(crate) name: String,
    /// What kind.
    pub(crate) kind: Kind,
}

/// Finds and reads what is meant. `compose`: whatever its name.
pub(crate) async fn find(target: Option<&str>, compose: bool) -> Result<Text, Failure> {
    let target = target.unwrap_or(".");
    let mut text = if address::is_url(target) {
        let fetched = address::open(target).await?;
        let file = fetched.shown.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        let last = file.rsplit('/').next().unwrap_or_default().to_owned();
        let kind = if COMPOSE_FILES.contains(&last.as_str()) { Kind::Compose } else { Kind::Job };
        let name = match &fetched.base {
            Some(folder) => folder_name(folder),
            None => name_of(last.split('.').next().unwrap_or_default()),
        };
        Text { kind, name, shown: fetched.shown, text: fetched.text, base: fetched.base }
    } else {
        on_disk(Path::new(target))?
    };
    if text.name.is_empty() {
        text.name = "job".into();
    }
    if compose {
        text.kind = Kind::Compose;
    }
    Ok(text)
}

impl Text {
    /// What the file asks for, with its folders absolute, so that it can be done again from anywhere.
    pub(crate) fn read(&self, name: Option<&str>) -> Result<Asked, Failure> {
        let text = pasture_jobfile::Text { text: &self.text, name: &self.name, kind: self.kind };
        let mut asked = pasture_jobfile::read(&text, name).map_err(|e| Failure::in_file(&self.shown, &e))?;
        let alone = asked.services.len() == 1;
        for (service, spec) in &mut asked.services {
            let Some(build) = &mut spec.build else { continue };
            let fail = |problem: String| {
                let path = format!("services.{service}.build");
                let line = line_of(&self.text, if alone { "build" } else { &path });
                Failure::in_file(&self.shown, &FileError::new(line, format!("{path}: {problem}")))
            };
            let Some(base) = &self.base else {
                return Err(fail("a file from the network cannot have folders of yours built: it may name images only".into()));
            };
            let folder = base.join(&build.context);
            let folder = folder.canonicalize().map_err(|_| fail(format!("there is no folder {}", folder.display())))?;
            let path = folder.to_str().ok_or_else(|| fail("the folder's path is not text that can be written down".into()))?;
            build.context = path.into();
        }
        Ok(asked)
    }
}

/// A folder's own name.
fn folder_name(folder: &Path) -> String {
    let name = folder.canonicalize().ok().and_then(|d| d.file_name().map(|n| n.to_string_lossy().into_owned()));
    name.map(|n| name_of(&n)).unwrap_or_default()
}

fn on_disk(path: &Path) -> Result<Text, Failure> {
    if !path.is_dir() {
        let base = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let named = |names: &[&str]| path.file_name().is_some_and(|n| names.iter().any(|name| n == *name));
        let kind = if named(&COMPOSE_FILES) { Kind::Compose } else { Kind::Job };
        return Ok(Text {
            shown: path.display().to_string(),
            text: spec_file::read(path)?,
            base: Some(base.into()),
            name: folder_name(base),
            kind,
        });
    }
    let files = std::iter::once((spec_file::DEFAULT_FILE, Kind::Job)).chain(COMPOSE_FILES.map(|name| (name, Kind::Compose)));
    for (name, kind) in files {
        let file = path.join(name);
        if file.is_file() {
            let text = spec_file::read(&file)?;
            return Ok(Text { shown: file.display().to_string(), text, base: Some(path.into()), name: folder_name(path), kind });
        }
    }
    if !path.join("Dockerfile").is_file() {
        let looked = format!("{}, {} and Dockerfile", spec_file::DEFAULT_FILE, COMPOSE_FILES.join(", "));
        return Err(Failure::new("no-job-file", format!("{} has nothing to deploy; looked for {looked}", path.display()))
            .next("write a job file:  farm schema  says what can be in it")
            .next("or name one:  farm deploy -f FILE"));
    }
    Ok(Text {
        shown: path.display().to_string(),
        text: String::new(),
        base: Some(path.into()),
        name: folder_name(path),
        kind: Kind::Folder,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_is_looked_through_in_a_fixed_order() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("My Shop");
        std::fs::create_dir(&folder).unwrap();
        let target = folder.to_str();
        let e = find(target, false).await.unwrap_err();
        assert!(e.message.contains("farm.yaml, compose.yaml") && e.code == "no-job-file", "{e:?}");
        for (file, kind) in [("Dockerfile", Kind::Folder), ("docker-compose.yml", Kind::Compose), ("farm.yaml", Kind::Job)] {
            std::fs::write(folder.join(file), "{}").unwrap();
            let text = find(target, false).await.unwrap();
            assert_eq!((text.kind, text.name.as_str(), text.base.as_deref()), (kind, "my-shop", Some(folder.as_path())));
        }
        let named = find(folder.join("farm.yaml").to_str(), true).await.unwrap();
        assert_eq!((named.kind, named.base.as_deref()), (Kind::Compose, Some(folder.as_path())));
        let url = find(Some(&format!("file://{}", folder.join("docker-compose.yml").display())), false).await.unwrap();
        assert_eq!((url.kind, url.name.as_str()), (Kind::Compose, "my-shop"));
        let built = named.read(None);
        assert!(built.is_err(), "it is no file of compose: {built:?}");
        std::fs::write(folder.join("farm.yaml"), "build: {context: .}\n").unwrap();
        let asked = find(target, false).await.unwrap().read(None).unwrap();
        let context = &asked.services["my-shop"].build.as_ref().unwrap().context;
        assert_eq!(Path::new(context), folder.canonicalize().unwrap());
        std::fs::write(folder.join("farm.yaml"), "\nbuild: {context: nowhere}\n").unwrap();
        let e = find(target, false).await.unwrap().read(None).unwrap_err();
        assert!(e.message.contains("farm.yaml:2: ") && e.message.contains("there is no folder"), "{e:?}");
        let distant = Text { base: None, ..find(target, false).await.unwrap() };
        assert!(distant.read(None).unwrap_err().message.contains("may name images only"));
        std::fs::rename(&folder, dir.path().join("shop")).unwrap();
        let text = find(Some(&format!("file://{}", dir.path().join("shop/docker-compose.yml").display())), false).await.unwrap();
        assert_eq!((text.kind, text.name.as_str()), (Kind::Compose, "shop"));
    }
}
