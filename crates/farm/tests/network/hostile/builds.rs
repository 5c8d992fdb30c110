//! Build contexts and Dockerfiles that reach for the host, and for what was built for others.
//!
//! The engine carries out `ADD` and `FROM` itself, from the host's own network and without the limits of a step.

use super::contained::Host;
use crate::support::{Folder, SMALL, User, shared};
use pasture_types::lease::EndReason;

fn dockerfile(name: &str, text: &str) -> Folder {
    Folder::new(name, &[("Dockerfile", text), ("job.sh", "true"), ("link", "")])
}

/// It does not start, says why, and costs nothing.
#[track_caller]
fn refused(user: &User, folder: &Folder, words: &[&str]) {
    let _ = user.run(folder, &["--egress", "open"]).exits(125).says(words);
    let (lease, s) = user.settled();
    assert_eq!(lease.reason, Some(EndReason::BuildFailed));
    assert_eq!((s.charged.0, s.billed_ms.0), (0, 0), "{s:?}");
}

#[test]
fn a_build_makes_the_engine_fetch_nothing_from_the_host() {
    let (net, host) = (shared(), Host::at("127.0.0.1"));
    let user = net.stranger();
    let address = host.address();
    let base = "FROM pasture/busybox:1\n";
    for (name, text) in [
        ("plain", format!("{base}ADD http://{address}/ /x\n")),
        ("variable", format!("{base}ARG WHERE=http://{address}/\nADD $WHERE /x\n")),
        (
            "split",
            format!(
                "{base}RUN true \\\n\n && true\nADD --chown=0:0 \\\n  # a comment\n  [\"http:\", \"http:\\u002f/{address}\", \"/x\"]\n"
            ),
        ),
        ("metadata", format!("{base}ADD https://169.254.169.254/latest /x\n")),
    ] {
        refused(&user, &dockerfile(name, &text), &["did not start", "ADD", "not possible here", "RUN step"]);
    }
    refused(&user, &dockerfile("base", &format!("FROM {address}/x:1\n")), &["did not start", "not a public one"]);
    refused(&user, &dockerfile("copied", &format!("{base}COPY --from={address}/x:1 / /\n")), &["did not start", "not a public one"]);
    let done = user.start(&[&["run", &format!("{address}/x:1")], &SMALL[..], &["--", "true"]].concat()).finish(crate::support::PATIENCE);
    let _ = done.exits(125).says(&["did not start", "not a public one"]);
    assert_eq!(host.visitors(), 0, "the engine came and asked");
}

#[test]
fn what_a_base_image_makes_its_children_fetch_is_judged_as_well() {
    let (net, host) = (shared(), Host::at("127.0.0.1"));
    let name = format!("pasture-test/parent-{}:1", std::process::id());
    net.engine.load_image_with(
        &name,
        std::env::consts::ARCH,
        &serde_json::json!({"OnBuild": [format!("ADD http://{}/ /x", host.address())]}),
    );
    refused(&net.stranger(), &dockerfile("child", &format!("FROM {name}\n")), &["did not start", "ONBUILD of the base image"]);
    net.engine.forget_image(&name);
    assert_eq!(host.visitors(), 0, "the engine came and asked");
}

#[test]
fn what_was_built_for_one_user_is_nobody_elses() {
    let net = shared();
    let (owner, thief) = (net.stranger(), net.stranger());
    let secret = format!("secret-of-{}", std::process::id());
    let folder = dockerfile("mine", "FROM pasture/busybox:1\nCOPY secret /secret\nCMD [\"sleep\", \"60\"]\n");
    folder.write("secret", &secret);
    let _ = owner.run(&folder, &["-d"]).exits(0);
    let lease = owner.lease();
    let mine = |c: &crate::support::Container| c.instance.starts_with(&lease.id.to_string());
    let container =
        crate::support::eventually("its container", crate::support::PATIENCE, || net.engine.containers(net.node()).into_iter().find(mine));
    let image = net.engine.inspect(&container.id)["Image"].as_str().unwrap().to_owned();
    // By the name that follows from the lease's id, which is public, by the image's own id, and by the beginning of that.
    let short = &image.trim_start_matches("sha256:")[..12];
    for name in [format!("pasture-lease/{}:1", lease.id), image.clone(), short.to_owned()] {
        let done = thief.start(&[&["run", &name], &SMALL[..], &["--", "cat", "/secret"]].concat()).finish(crate::support::PATIENCE);
        assert!(!done.all().contains(&secret) && done.code == 125, "{name}: {}", done.all());
        for steal in [
            format!("FROM {name}\nCMD [\"cat\", \"/secret\"]\n"),
            format!("FROM pasture/busybox:1\nCOPY --from={name} /secret /s\nCMD [\"cat\", \"/s\"]\n"),
        ] {
            let done = thief.run(&dockerfile("theft", &steal), &[]);
            assert!(!done.all().contains(&secret) && done.code == 125, "{name}: {}", done.all());
        }
    }
    let _ = owner.farm(&["stop", "mine"]).exits(0);
}

#[test]
fn links_in_a_folder_show_nothing_of_the_host() {
    let user = shared().stranger();
    let folder = Folder::new(
        "links",
        &[(
            "Dockerfile",
            "FROM pasture/busybox:1\nCOPY . /sent/\nADD up /up\nCMD [\"sh\", \"-c\", \"cat /sent/passwd /up /sent/up/etc/hostname; ls /sent\"]\n",
        )],
    );
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("passwd")).unwrap();
    std::os::unix::fs::symlink("../../../../../..", folder.path().join("up")).unwrap();
    let done = user.run(&folder, &[]);
    // The links are sent as links; where they lead they lead inside the image.
    let host = std::fs::read_to_string("/etc/passwd").unwrap();
    let own = host.lines().find(|line| !line.starts_with("root:") && !line.starts_with("nobody:")).unwrap();
    assert!(!done.all().contains(own), "{}", done.all());
}
