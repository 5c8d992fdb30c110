//! The program from outside: real `farm` processes, a real container engine, a real ledger on disk.
//!
//! Each test is a sentence about what a user or an operator sees. The engine's socket comes from `FARM_TEST_ENGINE`, else
//! from the usual places; `scripts/engine.sh base` starts one and makes the base image. `farm-cheat` and `farm-cheat-votes` must
//! lie beside `farm` (`scripts/test.sh` builds all). What single crates promise is tested beside them, not here.

#[cfg(test)]
mod audits;
#[cfg(test)]
mod away;
#[cfg(test)]
mod carried;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod cheats;
#[cfg(test)]
mod contradicting;
#[cfg(test)]
mod deployments;
#[cfg(test)]
mod disks;
#[cfg(test)]
mod doubts;
#[cfg(test)]
mod elections;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod files;
#[cfg(test)]
mod fleets;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod gates;
#[cfg(test)]
mod gpus;
#[cfg(test)]
mod guides;
#[cfg(test)]
mod herds;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod images;
#[cfg(test)]
mod ingress;
#[cfg(test)]
mod invites;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod lan;
#[cfg(test)]
mod leaving;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod machines;
mod memory;
#[cfg(test)]
mod nat;
#[cfg(test)]
mod newcomers;
#[cfg(test)]
mod operate;
#[cfg(test)]
mod operator;
#[cfg(test)]
mod private;
#[cfg(test)]
mod projects;
#[cfg(test)]
mod proven;
#[cfg(test)]
mod reach;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod restored;
#[cfg(test)]
mod runs;
#[cfg(test)]
mod sealing;
#[cfg(test)]
mod searching;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod services;
#[cfg(test)]
mod soaks;
#[cfg(test)]
mod soaks_of_jobs;
#[cfg(test)]
mod stopping;
#[cfg(test)]
mod storms;
#[cfg(test)]
mod support;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod terms;
#[cfg(test)]
mod v6;
#[cfg(test)]
mod validators;
#[cfg(test)]
mod volumes;
#[cfg(test)]
mod votes;
#[cfg(test)]
mod watchers;
