//! Folders without a Dockerfile: recognised, drafted when asked, never silently; and the manual pages.

use crate::support::{Folder, User};

/// Nobody is at home there: nothing of this needs a network.
fn alone() -> User {
    User::new("http://127.0.0.1:1".into())
}

#[test]
fn a_project_without_a_dockerfile_is_recognised_but_nothing_is_written_unasked() {
    let user = alone();
    let folder = Folder::new("project", &[("main.py", "print('hello')\n"), ("requirements.txt", "")]);
    let _ = user.farm(&["run", folder.arg()]).exits(125).says(&["has no Dockerfile", "Python project", "farm init"]);
    let _ = user.farm(&["init", "--print", folder.arg()]).exits(0).says(&["CMD [\"python\", \"main.py\"]"]);
    assert!(!folder.path().join("Dockerfile").exists() && !folder.path().join(".dockerignore").exists());
    // On a terminal it is a question, and no is an answer.
    let mut asked = user.on_terminal(&["run", folder.arg()]);
    asked.shows("looks like a Python project");
    asked.shows("[y/N]");
    asked.type_in("n\n");
    let _ = asked.finish(std::time::Duration::from_secs(30)).exits(125);
    assert!(!folder.path().join("Dockerfile").exists());

    let done = user.farm(&["init", "--json", folder.arg()]).exits(0);
    assert_eq!(done.json()["language"], "Python");
    let dockerfile = std::fs::read_to_string(folder.path().join("Dockerfile")).unwrap();
    assert!(dockerfile.starts_with("# Written by `farm init`") && dockerfile.contains("FROM python:3.13-slim"), "{dockerfile}");
    let _ = user.farm(&["init", folder.arg()]).exits(125).says(&["already there", "--force"]);
    let _ = user.farm(&["init", "--force", folder.arg()]).exits(0).says(&["wrote"]);
}

#[test]
fn a_project_of_two_languages_is_a_question_and_an_unknown_one_an_error() {
    let user = alone();
    let both = Folder::new("both", &[("main.py", ""), ("package.json", "{\"main\": \"a.js\"}")]);
    let _ = user.farm(&["init", both.arg()]).exits(125).says(&["Python project and like a Node.js project", "--language python|node"]);
    let _ = user.farm(&["init", "--language", "node", both.arg()]).exits(0).says(&["Node.js"]);
    let none = Folder::new("none", &[("notes.txt", "")]);
    let _ = user.farm(&["init", none.arg()]).exits(125).says(&["what kind of project"]);
}

#[test]
fn every_command_has_a_manual_page() {
    let user = alone();
    let folder = Folder::new("pages", &[]);
    let pages = user.farm(&["man", folder.arg(), "--json"]).exits(0).json()["pages"].as_u64().unwrap();
    assert!(pages > 20, "{pages}");
    let page = std::fs::read_to_string(folder.path().join("man1/farm-run.1")).unwrap();
    assert!(page.contains("farm\\-run") && page.contains("Longest run"), "{page}");
}
