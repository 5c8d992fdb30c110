//! Benchmark sequences for the two-dimensional HP model with the lowest energies that anyone has found.
//!
//! From Unger and Moult, "Genetic algorithms for protein folding simulations", Journal of Molecular Biology 231 (1993),
//! with names and energies as listed by Thachuk, Shmygelska and Hoos, BMC Bioinformatics 8:342 (2007), table 1.

/// A sequence and what is known about it.
pub struct Sequence {
    /// Its name in the literature.
    pub name: &'static str,
    /// Its residues.
    pub residues: &'static str,
    /// The lowest energy that was ever reported.
    pub known_best: i32,
}

/// All of them, short ones first.
pub const ALL: [Sequence; 8] = [
    Sequence { name: "S1-1", residues: "HPHPPHHPHPPHPHHPPHPH", known_best: -9 },
    Sequence { name: "S1-2", residues: "HHPPHPPHPPHPPHPPHPPHPPHH", known_best: -9 },
    Sequence { name: "S1-3", residues: "PPHPPHHPPPPHHPPPPHHPPPPHH", known_best: -8 },
    Sequence { name: "S1-4", residues: "PPPHHPPHHPPPPPHHHHHHHPPHHPPPPHHPPHPP", known_best: -14 },
    Sequence { name: "S1-5", residues: "PPHPPHHPPHHPPPPPHHHHHHHHHHPPPPPPHHPPHHPPHPPHHHHH", known_best: -23 },
    Sequence { name: "S1-6", residues: "HHPHPHPHPHHHHPHPPPHPPPHPPPPHPPPHPPPHPHHHHPHPHPHPHH", known_best: -21 },
    Sequence { name: "S1-7", residues: "PPHHHPHHHHHHHHPPPHHHHHHHHHHPHPPPHHHHHHHHHHHHPPPPHHHHHHPHHPHP", known_best: -36 },
    Sequence { name: "S1-8", residues: "HHHHHHHHHHHHPHPHPPHHPPHHPPHPPHHPPHHPPHPPHHPPHHPPHPHPHHHHHHHHHHHH", known_best: -42 },
];

/// The sequence of a name.
pub fn find(name: &str) -> Option<&'static Sequence> {
    ALL.iter().find(|sequence| sequence.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_literature() {
        let lengths: Vec<usize> = ALL.iter().map(|sequence| sequence.residues.len()).collect();
        assert_eq!(lengths, [20, 24, 25, 36, 48, 50, 60, 64]);
    }
}
