//! Replica exchange Monte Carlo (Thachuk, Shmygelska and Hoos, BMC Bioinformatics 8:342, 2007): several copies of the
//! chain at different temperatures, which now and then trade places, so that a good shape cools down and a stuck one
//! warms up again.
//!
//! The same sequence, seed and number of sweeps give the same answer. Pull moves are proposed without correcting for
//! how many ways lead back: this looks for the lowest energy, it does not sample the ensemble.

use crate::{lattice::Chain, random::Random};

/// Copies of the chain.
const REPLICAS: usize = 8;
/// Temperatures of the coldest and the warmest copy, in units of one contact.
const COLDEST: f64 = 0.30;
const WARMEST: f64 = 0.60;
/// Moves that each copy tries between two trades.
const MOVES_PER_SWEEP: usize = 500;

/// A running search.
pub struct Search {
    replicas: Vec<Chain>,
    temperatures: Vec<f64>,
    best: Chain,
    random: Random,
    sweeps: u64,
    accepted: u64,
}

impl Search {
    /// Starts from the straight chain.
    pub fn new(sequence: &str, seed: u64) -> Result<Self, String> {
        let chain = Chain::straight(sequence)?;
        let span = (WARMEST - COLDEST) / (REPLICAS - 1) as f64;
        Ok(Self {
            replicas: vec![chain.clone(); REPLICAS],
            temperatures: (0..REPLICAS).map(|index| COLDEST + span * index as f64).collect(),
            best: chain,
            random: Random::new(seed),
            sweeps: 0,
            accepted: 0,
        })
    }

    /// The best shape so far.
    pub fn best(&self) -> &Chain {
        &self.best
    }

    /// Sweeps done.
    pub fn sweeps(&self) -> u64 {
        self.sweeps
    }

    /// Moves tried.
    pub fn tried(&self) -> u64 {
        self.sweeps * (REPLICAS * MOVES_PER_SWEEP) as u64
    }

    /// Moves kept.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Moves every copy and lets neighbours in temperature trade; gives whether the best shape is a new one.
    pub fn sweep(&mut self) -> bool {
        let before = self.best.energy();
        for (chain, temperature) in self.replicas.iter_mut().zip(&self.temperatures) {
            for _ in 0..MOVES_PER_SWEEP {
                let energy = chain.energy();
                if !chain.pull(&mut self.random) {
                    continue;
                }
                let rise = f64::from(chain.energy() - energy);
                if rise > 0.0 && self.random.fraction() >= (-rise / temperature).exp() {
                    chain.undo();
                    continue;
                }
                self.accepted += 1;
                if chain.energy() < self.best.energy() {
                    self.best = chain.clone();
                }
            }
        }
        self.trade();
        self.sweeps += 1;
        self.best.energy() < before
    }

    /// Even pairs in even sweeps, odd pairs in odd ones.
    fn trade(&mut self) {
        for cold in ((self.sweeps % 2) as usize..REPLICAS - 1).step_by(2) {
            let gain = f64::from(self.replicas[cold].energy() - self.replicas[cold + 1].energy());
            let pull = 1.0 / self.temperatures[cold] - 1.0 / self.temperatures[cold + 1];
            if self.random.fraction() < (gain * pull).exp() {
                self.replicas.swap(cold, cold + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequences;

    fn best_after(name: &str, seed: u64, sweeps: u64) -> Chain {
        let mut search = Search::new(sequences::find(name).unwrap().residues, seed).unwrap();
        for _ in 0..sweeps {
            search.sweep();
        }
        search.best().clone()
    }

    #[test]
    fn the_best_known_energies_of_short_chains_are_reached() {
        for name in ["S1-1", "S1-2", "S1-3"] {
            let known = sequences::find(name).unwrap().known_best;
            assert_eq!(best_after(name, 1, 300).energy(), known, "{name}");
        }
    }

    #[test]
    fn an_answer_is_a_shape_with_that_energy() {
        let best = best_after("S1-4", 3, 50);
        let again = Chain::shaped(sequences::find("S1-4").unwrap().residues, &best.shape()).unwrap();
        assert_eq!(again.energy(), best.energy());
        assert!(best.energy() < -8);
    }

    #[test]
    fn a_seed_decides_everything() {
        assert_eq!(best_after("S1-5", 11, 30).shape(), best_after("S1-5", 11, 30).shape());
        assert_ne!(best_after("S1-5", 11, 30).shape(), best_after("S1-5", 12, 30).shape());
    }
}
