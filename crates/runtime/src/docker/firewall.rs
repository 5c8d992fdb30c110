//! What an open network may reach, as packet filter rules of the host.
//!
//! One set of chains serves all instances: their bridges share a name prefix, so starting an instance changes no rule.
//! Forwarded packets from such a bridge may go to DNS and HTTPS at public IPv4 addresses and to port 53 of the host's own
//! resolvers; packets for the host itself only to port 53 of those. Everything else is refused. Replies pass.
//!
//! The rules are there twice. In the engine's `DOCKER-USER` they refuse politely; but the engine takes the jump to that
//! chain out for a moment whenever it makes a network, and a connection made in that moment would stay. The `security`
//! table, which the engine leaves alone and the kernel asks afterwards, has them again and drops.
//!
//! Does not: filter by host name, limit rates, undo itself (the chains match only our bridges, so they are inert
//! without instances). Kept in step by [`ensure`], which is called before every use: it looks once, and where all is in
//! force (nearly always) that is all. So the rules are written as `iptables-save` prints them; where a version prints them
//! otherwise they are put in place each time.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::probe::Facts;
use super::tool::{Tool, run_tool};
use crate::{EgressFilter, RuntimeError};

/// Bridges of open networks begin with this.
pub(super) const BRIDGE_PREFIX: &str = "pst";

/// What is in force is told at once, or not at all.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
const FORWARD_CHAIN: &str = "PASTURE-FORWARD";
const INPUT_CHAIN: &str = "PASTURE-INPUT";
const REFUSE_CHAIN: &str = "PASTURE-REFUSE";
/// Every range that is not the public internet (IANA special-purpose registry, multicast, reserved).
const NOT_PUBLIC: [&str; 16] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "255.255.255.255/32",
];
/// systemd-resolved hides the real resolvers behind 127.0.0.53; the engine looks here too.
const RESOLV_CONF: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
/// As many as the C library reads.
const MAX_RESOLVERS: usize = 3;

/// Puts the rules in place, or says why not.
pub(super) async fn ensure(facts: &Facts) -> EgressFilter {
    if !facts.can_filter {
        return EgressFilter::NotEnforced("not root in the engine's network namespace".into());
    }
    match install(facts.podman).await {
        Ok(()) => EgressFilter::Enforced,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            EgressFilter::NotEnforced(format!("{error}: {cause}"))
        }
    }
}

async fn install(podman: bool) -> Result<(), RuntimeError> {
    let rules = rules(&host_resolvers());
    if Tool::new("iptables-save", &[]).within(ANSWER_DEADLINE).ask().await.is_ok_and(|saved| in_force(&saved, &rules, podman)) {
        return Ok(());
    }
    if !podman {
        // Docker sends every forwarded packet through this chain first; without it our rules would not be looked at.
        run_tool("iptables", &["-w", "-n", "-L", "DOCKER-USER"]).await?;
    }
    // Replaces the chains of a table in one transaction: there is no moment without rules.
    Tool::new("iptables-restore", &["-w", "--noflush"]).input(&rules).run().await?;
    jump("security", "FORWARD", FORWARD_CHAIN).await?;
    if podman {
        // Podman keeps no place for others and puts its own rules first, when the first network comes: we come before them again.
        // In between the other table holds alone, and drops instead of refusing.
        let rule = ["FORWARD", "-i", &format!("{BRIDGE_PREFIX}+"), "-j", FORWARD_CHAIN];
        // There is nothing to take away the first time.
        let _ = run_tool("iptables", &[&["-w", "-D"], &rule[..]].concat()).await;
        run_tool("iptables", &[&["-w", "-I"], &rule[..]].concat()).await?;
    } else {
        jump("filter", "DOCKER-USER", FORWARD_CHAIN).await?;
    }
    jump("filter", "INPUT", INPUT_CHAIN).await
}

async fn jump(table: &str, from: &str, to: &str) -> Result<(), RuntimeError> {
    let bridges = format!("{BRIDGE_PREFIX}+");
    let rule = [from, "-i", &bridges, "-j", to];
    if run_tool("iptables", &[&["-w", "-t", table, "-C"], &rule[..]].concat()).await.is_ok() {
        return Ok(());
    }
    run_tool("iptables", &[&["-w", "-t", table, "-I"], &rule[..]].concat()).await
}

/// The rules of each chain of each table.
fn chains(saved: &str) -> BTreeMap<(&str, &str), Vec<&str>> {
    let (mut chains, mut table) = (BTreeMap::<_, Vec<&str>>::new(), "");
    for line in saved.lines() {
        match (line.strip_prefix('*'), line.strip_prefix("-A ").and_then(|rule| rule.split_once(' '))) {
            (Some(name), _) => table = name,
            (None, Some((chain, rule))) => chains.entry((table, chain)).or_default().push(rule),
            (None, None) => {}
        }
    }
    chains
}

/// Whether the host has exactly these rules, and leads packets to them. `saved`: all that it has.
fn in_force(saved: &str, rules: &str, podman: bool) -> bool {
    let (has, wanted) = (chains(saved), chains(rules));
    let jump = |to: &str| format!("-i {BRIDGE_PREFIX}+ -j {to}");
    let leads = |table, from, to| has.get(&(table, from)).is_some_and(|rules| rules.contains(&jump(to).as_str()));
    let first = |table, from, to| has.get(&(table, from)).and_then(|rules| rules.first()).is_some_and(|rule| *rule == jump(to));
    let forwarded = if podman { first("filter", "FORWARD", FORWARD_CHAIN) } else { leads("filter", "DOCKER-USER", FORWARD_CHAIN) };
    wanted.iter().all(|(chain, rules)| has.get(chain) == Some(rules))
        && forwarded
        && leads("security", "FORWARD", FORWARD_CHAIN)
        && leads("filter", "INPUT", INPUT_CHAIN)
}

fn rules(resolvers: &[Ipv4Addr]) -> String {
    let resets = format!(
        "-A {REFUSE_CHAIN} -p tcp -j REJECT --reject-with tcp-reset\n-A {REFUSE_CHAIN} -j REJECT --reject-with icmp-port-unreachable\n"
    );
    let polite = table("filter", &[FORWARD_CHAIN, INPUT_CHAIN], &resets, resolvers);
    // Only the filter table can answer; this one drops.
    let firm = table("security", &[FORWARD_CHAIN], &format!("-A {REFUSE_CHAIN} -j DROP\n"), resolvers);
    polite + &firm
}

fn table(name: &str, chains: &[&str], refuse: &str, resolvers: &[Ipv4Addr]) -> String {
    let mut text = format!("*{name}\n:{REFUSE_CHAIN} - [0:0]\n");
    for chain in chains {
        text += &format!(":{chain} - [0:0]\n");
    }
    text += refuse;
    for chain in chains {
        text += &format!("-A {chain} -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN\n");
        for resolver in resolvers {
            for protocol in ["udp", "tcp"] {
                text += &format!("-A {chain} -d {resolver}/32 -p {protocol} -m {protocol} --dport 53 -j RETURN\n");
            }
        }
        if *chain == FORWARD_CHAIN {
            for range in NOT_PUBLIC {
                text += &format!("-A {chain} -d {range} -j {REFUSE_CHAIN}\n");
            }
            for (protocol, port) in [("udp", 53), ("tcp", 53), ("tcp", 443)] {
                text += &format!("-A {chain} -p {protocol} -m {protocol} --dport {port} -j RETURN\n");
            }
        }
        text += &format!("-A {chain} -j {REFUSE_CHAIN}\n");
    }
    text + "COMMIT\n"
}

/// Whether an address is one of the public internet.
pub(crate) fn is_public(address: IpAddr) -> bool {
    let v4 = match address {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4,
            // Global unicast, without the ranges for documentation and for tunnels that end at an IPv4 address.
            None => {
                return matches!(v6.segments(), [0x2000..=0x3fff, ..]) && !matches!(v6.segments(), [0x2002, ..] | [0x2001, 0 | 0xdb8, ..]);
            }
        },
    };
    let inside = |range: &str| {
        let (network, length) = range.split_once('/')?;
        let (network, length) = (network.parse::<Ipv4Addr>().ok()?, length.parse::<u32>().ok()?);
        let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
        Some(network.to_bits() & mask == v4.to_bits() & mask)
    };
    !NOT_PUBLIC.iter().any(|range| inside(range).unwrap_or(true))
}

/// The resolvers of this host that others can ask as well.
pub(super) fn host_resolvers() -> Vec<Ipv4Addr> {
    resolvers(&RESOLV_CONF.map(|path| std::fs::read_to_string(path).unwrap_or_default()))
}

/// The IPv4 resolvers that the engine hands on to instances. Those on a loopback address it asks itself.
fn resolvers(files: &[String]) -> Vec<Ipv4Addr> {
    let mut found: Vec<Ipv4Addr> = files
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().parse().ok())
        .filter(|address: &Ipv4Addr| !address.is_loopback() && !address.is_unspecified())
        .collect();
    found.dedup();
    found.truncate(MAX_RESOLVERS);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_host_and_its_networks_are_not_public() {
        let public = |text: &str| is_public(text.parse().unwrap());
        for text in
            ["127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.0.9", "::1", "fe80::1", "fd00::1", "::ffff:10.0.0.1", "2002:7f00:1::"]
        {
            assert!(!public(text), "{text}");
        }
        for text in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1", "::ffff:8.8.8.8"] {
            assert!(public(text), "{text}");
        }
    }

    #[test]
    fn resolvers_of_the_host_are_read() {
        let file = "# x\nnameserver 127.0.0.53\nsearch lan\nnameserver 192.168.1.1\nnameserver fe80::1\nnameserver junk\n".to_owned();
        assert_eq!(resolvers(&[file, String::new()]), [Ipv4Addr::new(192, 168, 1, 1)]);
    }

    #[test]
    fn rules_are_in_force_only_if_all_of_them_are() {
        let wanted = rules(&[Ipv4Addr::new(192, 168, 1, 1)]);
        // As the host tells it: with counters, other chains, and the jumps.
        let saved = |user: &str| {
            let own = wanted.replace("*filter\n", "*filter\n:FORWARD DROP [7:9]\n-A INPUT -i pst+ -j PASTURE-INPUT\nUSER\n");
            let own = own.replace("*security\n", "*security\n-A FORWARD -i pst+ -j PASTURE-FORWARD\n-A FORWARD -j ACCEPT\n");
            format!("# Generated\n*nat\n-A PASTURE-FORWARD -j ACCEPT\nCOMMIT\n{}", own.replace("USER", user))
        };
        let ours = "-A DOCKER-USER -i pst+ -j PASTURE-FORWARD";
        let docker = saved(ours);
        assert!(in_force(&docker, &wanted, false), "{docker}");
        assert!(!in_force(&docker, &wanted, true), "Podman has no such chain");
        assert!(!in_force(&docker, &rules(&[Ipv4Addr::new(192, 168, 1, 2)]), false), "another resolver");
        assert!(!in_force(&docker, &rules(&[]), false), "one resolver too many");
        assert!(!in_force(&saved(""), &wanted, false), "nothing leads there");
        for line in wanted.lines().filter(|line| line.starts_with("-A")) {
            // The first of them: those of the first table.
            assert!(!in_force(&docker.replacen(&format!("{line}\n"), "", 1), &wanted, false), "without {line}");
        }
        for jump in ["-A INPUT -i pst+ -j PASTURE-INPUT\n", "-A FORWARD -i pst+ -j PASTURE-FORWARD\n"] {
            assert!(!in_force(&docker.replace(jump, ""), &wanted, false), "without {jump}");
        }
        assert!(!in_force("", &wanted, false));
    }

    #[test]
    fn private_ranges_are_refused_before_anything_but_resolvers_is_let_through() {
        let text = rules(&[Ipv4Addr::new(192, 168, 1, 1)]);
        let (filter, security) = text.split_once("COMMIT\n").unwrap();
        for table in [filter, security] {
            let at = |needle: &str| table.find(needle).unwrap_or_else(|| panic!("{needle} missing in\n{table}"));
            let resolver = at("-A PASTURE-FORWARD -d 192.168.1.1/32 -p udp -m udp --dport 53 -j RETURN");
            let private = at("-A PASTURE-FORWARD -d 192.168.0.0/16 -j PASTURE-REFUSE");
            let https = at("-A PASTURE-FORWARD -p tcp -m tcp --dport 443 -j RETURN");
            let rest = at("-A PASTURE-FORWARD -j PASTURE-REFUSE");
            assert!(resolver < private && private < https && https < rest);
        }
        assert!(filter.ends_with("-A PASTURE-INPUT -j PASTURE-REFUSE\n"));
        assert!(security.starts_with("*security\n") && security.contains("-A PASTURE-REFUSE -j DROP\n"));
    }
}
