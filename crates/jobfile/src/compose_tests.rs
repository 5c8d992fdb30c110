//! Files of docker compose: what is taken over, what is named.

use super::*;
use crate::file::{self, Kind, checked};
use pasture_types::keep::SecretSpec;
use pasture_types::market::Egress;
use pasture_types::spec::PortSpec;
use proptest::prelude::*;

fn compose(yaml: &str) -> Read<Asked> {
    file::read(&Text { text: yaml, name: "folder", kind: Kind::Compose }, None)
}

#[test]
fn a_usual_file_is_taken_over() {
    let asked = compose(
        r#"
name: shop
services:
  db:
    image: postgres:17
    restart: unless-stopped
    environment:
      POSTGRES_DB: shop
      PORT: 5432
      DEBUG: true
      PRICE: 5$$
    healthcheck:
      test: ["CMD-SHELL", "pg_isready -U $$USER"]
      interval: 1m30s
      timeout: 5s
      retries: 4
      start_period: 20s
    mem_limit: 1.5g
    cpus: 0.5
    pids_limit: 100
  migrate:
    build: .
    command: ["migrate", "--all"]
    depends_on:
      db: {condition: service_healthy}
    restart: "no"
  web:
    build: {context: ./web, dockerfile: Prod, args: [A=b]}
    entrypoint: /bin/serve --greeting "hello world" it\'s
    environment: [A=b=c, "D=${E:-f}"]
    depends_on:
      migrate: {condition: service_completed_successfully}
      db: {condition: service_started}
    deploy:
      replicas: 3
      resources: {limits: {cpus: '0.25', memory: 128M, pids: 20}}
      restart_policy: {condition: on-failure, max_attempts: 5}
    network_mode: none
    x-farm: {timeout: 2h, constraints: {region: eu}}
"#,
    )
    .unwrap();
    assert_eq!(asked.name, "shop");
    let (db, migrate, web) = (&asked.services["db"], &asked.services["migrate"], &asked.services["web"]);
    assert_eq!((db.image.as_deref(), db.restart, db.kind), (Some("postgres:17"), Some(Restart::Always), Some(JobType::Service)));
    let env: Vec<(&str, &str)> = db.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(env, [("DEBUG", "true"), ("PORT", "5432"), ("POSTGRES_DB", "shop"), ("PRICE", "5$")]);
    let health = db.health.as_ref().unwrap();
    assert_eq!(health.exec.as_ref().unwrap(), &["/bin/sh", "-c", "pg_isready -U $USER"]);
    assert_eq!((health.interval.as_deref(), health.start.as_deref(), health.retries), (Some("90000ms"), Some("20000ms"), Some(4)));
    assert_eq!((migrate.kind, migrate.restart), (Some(JobType::Job), Some(Restart::Never)), "others wait for its end");
    assert_eq!(migrate.args.as_ref().unwrap(), &["migrate", "--all"]);
    assert_eq!(web.command.as_ref().unwrap(), &["/bin/serve", "--greeting", "hello world", "it's"]);
    assert_eq!((web.env["A"].as_str(), web.env["D"].as_str()), ("b=c", "f"));
    assert_eq!((web.replicas, web.retry, web.restart), (Some(3), Some(5), Some(Restart::OnFailure)));
    assert_eq!((web.egress, web.timeout.as_deref()), (Some(Egress::None), Some("2h")));
    let build = web.build.as_ref().unwrap();
    assert_eq!((build.context.as_str(), build.dockerfile.as_str(), build.args["A"].as_str()), ("./web", "Prod", "b"));
    let specs = checked(&asked.services).unwrap();
    assert_eq!((specs["db"].resources.memory_bytes, specs["db"].resources.cpu_millis, specs["db"].pids), (1536 << 20, 500, 100));
    assert_eq!((specs["web"].resources.memory_bytes, specs["web"].resources.cpu_millis, specs["web"].pids), (128 << 20, 250, 20));
    assert_eq!(asked.notes.len(), 1, "{:?}", asked.notes);
    assert!(asked.notes[0].contains("services.web.environment takes the default of E"));
}

#[test]
fn what_has_no_effect_is_noted_each_by_its_name() {
    let asked = compose(
        "version: '3'\nnetworks: {back: {}}\nservices:\n  a:\n    image: a\n    ports: ['80:8080', {target: 9000}]\n    networks: [back]\n    \
         container_name: x\n    tty: true\n    deploy: {update_config: {parallelism: 2}, resources: {reservations: {cpus: '1'}}}\n  \
         debug: {image: b, profiles: [debug]}\n",
    )
    .unwrap();
    for words in [
        "version has no meaning",
        "networks has no effect",
        "services.a.ports 80:8080 is open to you alone",
        "services.a.ports 9000 is open to you alone",
        "services.a.networks has no effect",
        "services.a.container_name has no effect",
        "services.a.tty",
        "services.a.deploy.update_config",
        "services.a.deploy.resources.reservations",
        "services.debug has profiles",
    ] {
        assert!(asked.notes.iter().any(|n| n.starts_with(words)), "{words}: {:#?}", asked.notes);
    }
    assert_eq!((asked.notes.len(), asked.services.len()), (10, 1));
}

#[test]
fn volumes_secrets_and_ports_become_those_of_a_job() {
    let asked = compose(
        "volumes: {data: {x-farm: {size: 5Gi}}, cache: }\nsecrets: {key: {file: ./key.txt}}\nservices:\n  a:\n    image: b\n\
         \x20   ports: ['8080:80', '7000-7002', {target: 9000, published: 1}, 80/udp]\n\
         \x20   volumes: ['data:/var/lib', 'other:/look:ro', {type: volume, source: cache, target: /cache}]\n\
         \x20   secrets: [key, {source: cert, target: tls.pem, mode: 0400}]\n",
    )
    .unwrap();
    let spec = &asked.services["a"];
    let ports: Vec<u16> = spec.ports.iter().map(|p| if let PortSpec::Number(n) = p { *n } else { 0 }).collect();
    assert_eq!(ports, [80, 7000, 7001, 7002, 9000]);
    let volumes: Vec<_> =
        spec.volumes.iter().map(|v| (v.name.as_str(), v.path.as_str(), v.size.clone().map(|s| s.to_string()), v.read_only)).collect();
    let size = |text: &str| Some(text.to_owned());
    assert_eq!(
        volumes,
        [("data", "/var/lib", size("5Gi"), false), ("other", "/look", None, true), ("cache", "/cache", size("1Gi"), false)]
    );
    assert_eq!(spec.secrets[0], SecretSpec { name: "key".into(), env: None, file: None });
    assert_eq!(spec.secrets[1].file.as_deref(), Some("/run/secrets/tls.pem"));
    for words in ["services.a.volumes cache has 1Gi", "services.a.secrets key is your own secret", "services.a.ports 80/udp has no effect"]
    {
        assert!(asked.notes.iter().any(|n| n.starts_with(words)), "{words}: {:#?}", asked.notes);
    }
}

#[test]
fn what_would_be_something_else_is_refused_with_its_line() {
    for (field, words) in [
        ("volumes: ['./data:/var/lib']", "services.a.volumes: ./data is a folder of this machine"),
        ("volumes: [/var/lib]", "services.a.volumes: a volume needs a name"),
        ("volumes: [{type: bind, source: /x, target: /y}]", "services.a.volumes.type: only named volumes"),
        ("ports: [web]", "services.a.ports: web is no port"),
        ("ports: ['9000-9100']", "a range has at most"),
        ("privileged: true", "services.a.privileged: cannot be taken over"),
        ("env_file: .env", "write its variables under `environment`"),
        ("user: '1000'", "services.a.user"),
        ("working_dir: /app", "services.a.working_dir"),
        ("environment: [TOKEN]", "services.a.environment.TOKEN: has no value"),
        ("environment: {TOKEN: }", "services.a.environment.TOKEN: has no value"),
        ("command: echo $HOME", "takes HOME from your shell"),
        ("command: echo ${HOME:?no}", "takes HOME from your shell"),
        ("command: echo ${HOME", "is not closed"),
        ("command: echo 'x", "a quote is not closed"),
        ("command: a $ b", "a lone `$`"),
        ("mem_limit: lots", "is no size"),
        ("mem_limit: 99999999999999999999g", "is no size"),
        ("healthcheck: {test: [RUN, x]}", "begins with NONE, CMD or CMD-SHELL"),
        ("healthcheck: {interval: 5s}", "has no `test`"),
        ("healthcheck: {test: x, interval: 5 minutes}", "is no time"),
        ("restart: sometimes", "is not one of no, always"),
        ("depends_on: {b: {condition: service_ready}}", "is not one of compose's conditions"),
        ("depends_on: [nobody]", "there is no service `nobody`"),
        ("build: {context: 'https://example.org/x.git'}", "not a distant one"),
        ("build: {context: ., target: dev}", "services.a.build.target: cannot be taken over"),
        ("deploy: {placement: {constraints: [x]}}", "x-farm.constraints"),
        ("deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}", "compose names no model"),
        ("gpus: all", "compose names no model"),
        ("imgae: b", "services.a.imgae: is not known here"),
        ("x-farm: {replicas: 3}", "stands in the service itself"),
        ("x-farm: {egres: open}", "unknown field `egres`"),
    ] {
        let e = compose(&format!("services:\n  a:\n    image: a\n    {field}\n")).unwrap_err();
        assert!(e.problem.contains(words), "{field}: {e:?}");
        assert!((2..=4).contains(&e.line), "{field}: {e:?}");
    }
    for (file, words) in [
        ("include: [other.yaml]\nservices: {a: {image: a}}\n", "only this file is read"),
        ("name: x\n", "services: there are none"),
        ("services: {A: {image: a}}\n", "is not a name"),
        ("- a\n", "names with values"),
        ("services: {a: {image: a}}\nsevrices: {}\n", "is not known here"),
    ] {
        let e = compose(file).unwrap_err();
        assert!(e.problem.contains(words), "{file}: {e:?}");
    }
    // Where nothing uses them, that they are declared says nothing.
    assert!(compose("services: {a: {image: a}}\nvolumes: {data: {}}\n").is_ok());
}

#[test]
fn anchors_and_merges_are_resolved_and_bombs_are_not() {
    let asked =
        compose("x-base: &base {image: a, restart: always}\nservices:\n  a: {<<: *base}\n  b: {<<: *base, restart: 'no'}\n").unwrap();
    assert_eq!((asked.services["a"].restart, asked.services["b"].restart), (Some(Restart::Always), Some(Restart::Never)));
    let mut bomb = "x-0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        bomb += &format!("x-{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "));
    }
    let began = std::time::Instant::now();
    assert!(compose(&(bomb + "services: {a: {image: a}}\n")).is_err());
    assert!(began.elapsed().as_secs() < 20, "refused, and not laid out");
}

#[test]
fn words_are_split_as_a_shell_would() {
    for (line, words) in [
        ("a  b\tc", vec!["a", "b", "c"]),
        ("'a b' \"c d\" e\\ f", vec!["a b", "c d", "e f"]),
        ("x\"y\"'z'", vec!["xyz"]),
        ("\"a\\\"b\\n\" ''", vec!["a\"b\\n", ""]),
        ("", vec![]),
    ] {
        assert_eq!(split_words(line).unwrap(), words, "{line}");
    }
    assert_eq!(split_words("'a"), None);
    assert_eq!(split_words("a\\"), None);
}

proptest! {
    /// Words that were quoted come back as they were, whatever is in them.
    #[test]
    fn quoted_words_come_back(words in proptest::collection::vec("[ -~]{0,12}", 0..6)) {
        let quoted: Vec<String> = words.iter().map(|w| format!("'{}'", w.replace('\'', r"'\''"))).collect();
        prop_assert_eq!(split_words(&quoted.join(" ")).unwrap(), words);
    }

    /// A file of plain services is taken over whole: as many services, with the same images, variables and dependencies.
    #[test]
    fn nothing_is_lost(services in proptest::collection::btree_map("[a-z]{1,6}", ("[a-z]{1,8}", proptest::collection::btree_map("[A-EG-Z]{1,6}", "[ -#%-~]{0,10}", 0..4), 0u32..5), 1..6)) {
        let file: serde_json::Value = serde_json::json!({"services": services.iter().map(|(name, (image, env, replicas))| {
            (name.clone(), serde_json::json!({"image": image, "environment": env, "deploy": {"replicas": replicas}}))
        }).collect::<BTreeMap<_, _>>()});
        let asked = compose(&file.to_string()).unwrap();
        prop_assert_eq!(asked.services.len(), services.len());
        for (name, (image, env, replicas)) in &services {
            let spec = &asked.services[name];
            prop_assert_eq!((spec.image.as_ref(), &spec.env, spec.replicas), (Some(image), env, Some(*replicas)));
        }
        prop_assert!(asked.notes.is_empty());
    }

    /// Any text is read or refused.
    #[test]
    fn any_text_is_read_or_refused(text in "(services:\n)?[ -~\n]{0,200}") {
        let _ = compose(&text);
    }
}
