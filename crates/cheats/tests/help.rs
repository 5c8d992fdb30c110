//! The dishonest programs say what they are. Having tests of their own also gets them built with all other tests, with
//! the same features, which the black-box suite needs.

#[test]
fn it_says_that_it_is_dishonest() {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_farm-cheat")).arg("--help").output().unwrap();
    assert!(out.status.success());
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("dishonest") && text.contains("--kill-after-ms"), "{text}");
}

#[test]
fn so_does_the_validator() {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_farm-cheat-votes")).arg("--help").output().unwrap();
    assert!(out.status.success());
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("dishonest") && text.contains("--data"), "{text}");
}
