//! Backups as their makers and readers see them.

use super::*;
use std::os::unix::fs::PermissionsExt as _;

const PASS: &[u8] = b"correct horse battery";

fn tree(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}

fn all(_: &str) -> bool {
    true
}

fn ok(_: &Path) -> Result<(), BackupError> {
    Ok(())
}

#[test]
fn what_is_unpacked_is_what_was_packed_and_its_owners_alone() {
    let large = vec![5; 700_000];
    let dir = tree(&[("zone/key", b"secret"), ("ledger/a/1", &large), ("ledger/a/2", b""), ("lock", b"1")]);
    let file = dir.path().join("b.pasture");
    let found = collect(dir.path(), &|p| p != "lock" && p != "b.pasture").unwrap();
    assert_eq!(found, ["ledger/a/1", "ledger/a/2", "zone/key"]);
    let mut seen = (0, 0);
    let made = write(dir.path(), &found, "mine".to_owned(), PASS, &file, &mut |done, of| seen = (done, of)).unwrap();
    assert_eq!((made.bytes(), seen), (700_006, (700_006, 700_006)));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let bytes = std::fs::read(&file).unwrap();
    assert!(!bytes.windows(6).any(|w| w == b"secret") && !bytes.windows(8).any(|w| w == b"zone/key") && bytes.len() < 10_000);
    assert!(matches!(write(dir.path(), &found, "x".to_owned(), PASS, &file, &mut |_, _| ()), Err(BackupError::There(_))));

    let backup = Backup::open(&file, PASS).unwrap();
    let read: Manifest<String> = backup.verify(&mut |_, _| ()).unwrap();
    assert_eq!(read, made);
    let to = dir.path().join("new/place");
    let unpacked: Manifest<String> =
        backup.unpack(&to, &mut |_, _| (), |draft| Ok::<_, BackupError>(std::fs::write(draft.join("marker"), "m")?)).unwrap();
    assert_eq!(unpacked, made);
    assert_eq!(std::fs::read(to.join("ledger/a/1")).unwrap(), large);
    assert_eq!(std::fs::read(to.join("zone/key")).unwrap(), b"secret");
    assert_eq!(std::fs::read(to.join("marker")).unwrap(), b"m");
    for path in ["zone", "zone/key"] {
        let mode = std::fs::metadata(to.join(path)).unwrap().permissions().mode() & 0o077;
        assert_eq!(mode, 0, "{path}");
    }
    // Once something is there, nothing is written.
    assert!(matches!(backup.unpack::<String, BackupError>(&to, &mut |_, _| (), ok), Err(BackupError::There(_))));
    assert_eq!(std::fs::read_dir(dir.path().join("new")).unwrap().count(), 1, "nothing half done stays");
    assert!(matches!(Backup::open(&file, b"another").unwrap().verify::<String>(&mut |_, _| ()), Err(BackupError::Passphrase)));
}

#[test]
fn nothing_appears_of_a_backup_that_is_not_whole_or_cannot_be_finished() {
    let dir = tree(&[("a", b"1234567890"), ("b", b"x")]);
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("b");
    write(dir.path(), &["a".into(), "b".into()], 7, PASS, &file, &mut |_, _| ()).unwrap();
    let to = out.path().join("to");
    let backup = Backup::open(&file, PASS).unwrap();
    let failed = backup.unpack::<i32, BackupError>(&to, &mut |_, _| (), |_| Err(BackupError::Unable("no".into())));
    assert!(matches!(failed, Err(BackupError::Unable(_))) && !to.exists());
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 3]).unwrap();
    assert!(matches!(backup.verify::<i32>(&mut |_, _| ()), Err(BackupError::Truncated)));
    assert!(backup.unpack::<i32, BackupError>(&to, &mut |_, _| (), ok).is_err() && !to.exists());
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1, "no draft stays");
    std::fs::write(&file, b"pasture locked key 1\n").unwrap();
    assert!(matches!(Backup::open(&file, PASS), Err(BackupError::Foreign)));
}

/// A backup whose maker lies: a manifest and entries of its own.
fn forged(path: &Path, manifest: &serde_json::Value, entries: &[(&str, &[u8])]) {
    let head = Head::make(PASS).unwrap();
    let closer = Closer::new(&head, File::create(path).unwrap()).unwrap();
    let mut archive = tar::Builder::new(zstd::Encoder::new(closer, LEVEL).unwrap());
    let text = serde_json::to_vec(manifest).unwrap();
    archive.append_data(&mut header(text.len() as u64), MANIFEST, text.as_slice()).unwrap();
    for (name, content) in entries {
        archive.append_data(&mut header(content.len() as u64), name, *content).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap().finish().unwrap();
}

#[test]
fn a_backup_whose_maker_lies_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("b");
    let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
    let file = |path: &str, bytes: &[u8]| serde_json::json!({"path": path, "bytes": bytes.len(), "blake3": hash(bytes)});
    let manifest = |files: Vec<serde_json::Value>| serde_json::json!({"form": 1, "about": 1, "files": files});
    let read = || Backup::open(&path, PASS).unwrap().verify::<i32>(&mut |_, _| ());
    forged(&path, &manifest(vec![file("a", b"1")]), &[("files/a", b"1")]);
    assert!(read().is_ok());
    for bad in ["../a", "/a", "a/../b", "a//b", "./a", "", "a/", "a\\b"] {
        forged(&path, &manifest(vec![file(bad, b"1")]), &[("files/a", b"1")]);
        assert!(matches!(read(), Err(BackupError::Damaged(_))), "{bad}");
    }
    forged(&path, &manifest(vec![file("b", b"1"), file("a", b"1")]), &[("files/b", b"1"), ("files/a", b"1")]);
    assert!(read().is_err(), "not in order");
    forged(&path, &manifest(vec![file("a", b"1")]), &[("files/a", b"2")]);
    assert!(read().is_err(), "another content");
    forged(&path, &manifest(vec![file("a", b"1")]), &[("files/c", b"1")]);
    assert!(read().is_err(), "another name");
    forged(&path, &manifest(vec![file("a", b"1")]), &[]);
    assert!(read().is_err(), "missing");
    forged(&path, &manifest(vec![file("a", b"1")]), &[("files/a", b"1"), ("files/b", b"1")]);
    assert!(read().is_err(), "one too many");
    forged(&path, &serde_json::json!({"form": 2, "about": 1, "files": []}), &[]);
    assert!(matches!(read(), Err(BackupError::Foreign)));
}

#[test]
fn links_are_refused_and_not_followed() {
    let dir = tree(&[("a/x", b"1")]);
    let out = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("a/link")).unwrap();
    assert!(matches!(collect(dir.path(), &all), Err(BackupError::Odd { what: "a link", .. })));
    // Also where it took a file's place after it was listed.
    let named = write(dir.path(), &["a/link".into()], 1, PASS, &out.path().join("b"), &mut |_, _| ());
    assert!(named.is_err() && std::fs::read_dir(out.path()).unwrap().count() == 0);
    assert_eq!(collect(dir.path(), &|p| p != "a/").unwrap(), Vec::<String>::new());
}
