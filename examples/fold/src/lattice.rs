//! A chain of residues on the square lattice, and the pull moves that change its shape.
//!
//! In the HP model (Lau and Dill, 1989) a protein is a string of hydrophobic (H) and polar (P) residues on lattice
//! points, one point each. Every pair of H that are neighbours on the lattice but not in the string lowers the energy
//! by one. Pull moves (Lesh, Mitzenmacher and Whitesides, RECOMB 2003) shift a residue diagonally and drag its
//! neighbours along until the chain hangs together again; they reach every shape and change few residues.
//!
//! Guarantees: after every move the chain is connected and no point holds two residues. A shape is never copied to be
//! changed: a move can be undone exactly.

use crate::random::Random;

/// The four directions on the lattice, so that the opposite of `d` is `(d + 2) % 4`.
const STEPS: [(i32, i32); 4] = [(1, 0), (0, 1), (-1, 0), (0, -1)];
/// Their letters in an answer.
const LETTERS: [char; 4] = ['R', 'U', 'L', 'D'];
/// The longest chain that is accepted; it bounds memory and the time of one move.
pub const MAX_RESIDUES: usize = 1000;

/// A lattice point.
pub type Point = (i32, i32);

/// A chain in one shape.
#[derive(Clone)]
pub struct Chain {
    hydrophobic: Vec<bool>,
    points: Vec<Point>,
    board: Board,
    energy: i32,
    /// What the last move changed: index and where it was, and the energy then.
    undo: Vec<(usize, Point)>,
    energy_before: i32,
}

/// Which residue is where. Coordinates wrap around at a size larger than the chain is long, so that two residues never
/// meet by wrapping and the chain may wander for ever.
#[derive(Clone)]
struct Board {
    cells: Vec<u16>,
    mask: i32,
    shift: u32,
}

/// One residue's move: towards the corner `to`, with its neighbour going to `next`.
#[derive(Clone, Copy)]
struct Pull {
    to: Point,
    next: Point,
}

impl Board {
    const FREE: u16 = u16::MAX;

    fn new(residues: usize) -> Self {
        let size = (residues + 2).next_power_of_two();
        Self { cells: vec![Self::FREE; size * size], mask: size as i32 - 1, shift: size.trailing_zeros() }
    }

    fn cell(&self, (x, y): Point) -> usize {
        (((y & self.mask) << self.shift) | (x & self.mask)) as usize
    }

    fn at(&self, point: Point) -> Option<usize> {
        Some(self.cells[self.cell(point)]).filter(|found| *found != Self::FREE).map(usize::from)
    }

    fn set(&mut self, point: Point, residue: usize) {
        let cell = self.cell(point);
        self.cells[cell] = residue as u16;
    }

    fn clear(&mut self, point: Point) {
        let cell = self.cell(point);
        self.cells[cell] = Self::FREE;
    }
}

fn step((x, y): Point, direction: usize) -> Point {
    let (dx, dy) = STEPS[direction % 4];
    (x + dx, y + dy)
}

fn adjacent((ax, ay): Point, (bx, by): Point) -> bool {
    (ax - bx).abs() + (ay - by).abs() == 1
}

impl Chain {
    /// A straight chain of a string of `H` and `P`.
    pub fn straight(sequence: &str) -> Result<Self, String> {
        let shape: String = "R".repeat(sequence.len().saturating_sub(1));
        Self::shaped(sequence, &shape)
    }

    /// A chain in a given shape: one letter of `RULD` for each bond.
    pub fn shaped(sequence: &str, shape: &str) -> Result<Self, String> {
        let residues = sequence.chars().count();
        if !(3..=MAX_RESIDUES).contains(&residues) {
            return Err(format!("a sequence has 3 to {MAX_RESIDUES} residues, this one has {residues}"));
        }
        if let Some(other) = sequence.chars().find(|c| !matches!(c, 'H' | 'P')) {
            return Err(format!("a sequence is made of H and P, not {other:?}"));
        }
        let mut points = vec![(0, 0)];
        for letter in shape.chars() {
            let direction = LETTERS.iter().position(|known| *known == letter).ok_or(format!("{letter:?} is no direction"))?;
            points.push(step(points[points.len() - 1], direction));
        }
        if points.len() != residues {
            return Err(format!("{} bonds do not join {residues} residues", points.len() - 1));
        }
        let mut board = Board::new(residues);
        for (residue, point) in points.iter().enumerate() {
            if let Some(other) = board.at(*point) {
                return Err(format!("residues {other} and {residue} are at the same point"));
            }
            board.set(*point, residue);
        }
        let hydrophobic = sequence.chars().map(|c| c == 'H').collect();
        let mut chain = Self { hydrophobic, points, board, energy: 0, undo: Vec::new(), energy_before: 0 };
        chain.energy = chain.counted_energy();
        Ok(chain)
    }

    /// Minus the number of contacts between hydrophobic residues.
    pub fn energy(&self) -> i32 {
        self.energy
    }

    /// The shape, one letter for each bond.
    pub fn shape(&self) -> String {
        let letter = |pair: &[Point]| (0..4).find(|direction| step(pair[0], *direction) == pair[1]).map_or('?', |found| LETTERS[found]);
        self.points.windows(2).map(letter).collect()
    }

    /// The chain drawn with `#` for hydrophobic and `o` for polar residues; `*` is the first one.
    pub fn drawing(&self) -> String {
        let left = self.points.iter().map(|point| point.0).min().unwrap_or(0);
        let right = self.points.iter().map(|point| point.0).max().unwrap_or(0);
        let bottom = self.points.iter().map(|point| point.1).min().unwrap_or(0);
        let top = self.points.iter().map(|point| point.1).max().unwrap_or(0);
        // Two columns and two rows a point leave room for the bonds between them.
        let place = |(x, y): Point| (((top - y) * 2) as usize, ((x - left) * 2) as usize);
        let mut rows = vec![vec![' '; ((right - left) * 2 + 1) as usize]; ((top - bottom) * 2 + 1) as usize];
        for (residue, point) in self.points.iter().enumerate() {
            let (row, column) = place(*point);
            rows[row][column] = match (residue, self.hydrophobic[residue]) {
                (0, _) => '*',
                (_, true) => '#',
                (_, false) => 'o',
            };
            if let Some(next) = self.points.get(residue + 1) {
                let (next_row, next_column) = place(*next);
                rows[(row + next_row) / 2][(column + next_column) / 2] = if row == next_row { '-' } else { '|' };
            }
        }
        rows.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned() + "\n").collect()
    }

    fn counted_energy(&self) -> i32 {
        let mut contacts = 0;
        for (residue, point) in self.points.iter().enumerate().filter(|(residue, _)| self.hydrophobic[*residue]) {
            // Right and up only, so that each pair is counted once.
            for direction in 0..2 {
                if let Some(other) = self.board.at(step(*point, direction)) {
                    contacts += i32::from(self.hydrophobic[other] && other.abs_diff(residue) > 1);
                }
            }
        }
        -contacts
    }

    /// Tries one random pull move; gives whether the shape changed. [`Chain::undo`] takes it back.
    pub fn pull(&mut self, random: &mut Random) -> bool {
        self.undo.clear();
        self.energy_before = self.energy;
        let residue = random.below(self.points.len());
        // Towards the start or towards the end of the chain: the same move, seen from the other side.
        let forward = random.below(2) == 0;
        let Some(pull) = self.random_pull(residue, forward, random) else { return false };
        self.drag(residue, forward, pull);
        self.energy = self.counted_energy();
        true
    }

    /// Takes the last move back.
    pub fn undo(&mut self) {
        for (residue, _) in &self.undo {
            self.board.clear(self.points[*residue]);
        }
        for (residue, point) in &self.undo {
            self.points[*residue] = *point;
            self.board.set(*point, *residue);
        }
        self.undo.clear();
        self.energy = self.energy_before;
    }

    /// The index `count` residues away from one, in the direction that is pulled along.
    fn along(&self, residue: usize, forward: bool, count: usize) -> Option<usize> {
        let index = if forward { residue.checked_add(count) } else { residue.checked_sub(count) };
        index.filter(|index| *index < self.points.len())
    }

    /// One of the moves that a residue has, if it has any: the anchor is the neighbour that stays where it is.
    fn random_pull(&self, residue: usize, forward: bool, random: &mut Random) -> Option<Pull> {
        let from = self.points[residue];
        let free = |point: Point| self.board.at(point).is_none();
        let mut moves = [Pull { to: from, next: from }; 12];
        let mut count = 0;
        match self.along(residue, !forward, 1) {
            // An end is pulled to a free point two steps away; its neighbour comes to the point between.
            None => {
                for (first, second) in (0..4).flat_map(|first| (0..4).map(move |second| (first, second))) {
                    let next = step(from, first);
                    let to = step(next, second);
                    if free(next) && to != from && free(to) {
                        moves[count] = Pull { to, next };
                        count += 1;
                    }
                }
            }
            Some(anchor) => {
                let anchor = self.points[anchor];
                let behind = self.along(residue, forward, 1).map(|index| self.points[index]);
                for direction in 0..4 {
                    let to = step(anchor, direction);
                    // The fourth corner of the square of the residue, its anchor and where it goes.
                    let next = step(from, direction);
                    let diagonal = (to.0 - from.0).abs() == 1 && (to.1 - from.1).abs() == 1;
                    if diagonal && free(to) && (behind.is_none() || behind == Some(next) || free(next)) {
                        moves[count] = Pull { to, next };
                        count += 1;
                    }
                }
            }
        }
        (count > 0).then(|| moves[random.below(count)])
    }

    /// Moves a residue and drags what follows, two places up the old chain each, until the chain hangs together.
    fn drag(&mut self, residue: usize, forward: bool, pull: Pull) {
        let mut target = pull.to;
        let mut following = Some(pull.next);
        let mut current = residue;
        // Where the two residues ahead of the current one were before the move.
        let mut ahead = (None, None);
        loop {
            let old = self.points[current];
            self.undo.push((current, old));
            self.points[current] = target;
            ahead = (ahead.1, Some(old));
            let Some(next) = self.along(current, forward, 1) else { break };
            if adjacent(self.points[next], target) {
                break;
            }
            let Some(point) = following.take().or(ahead.0) else { break };
            target = point;
            current = next;
        }
        for (_, old) in &self.undo {
            self.board.clear(*old);
        }
        for (index, _) in &self.undo {
            self.board.set(self.points[*index], *index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWENTY: &str = "HPHPPHHPHPPHPHHPPHPH";

    fn check(chain: &Chain) {
        for pair in chain.points.windows(2) {
            assert!(adjacent(pair[0], pair[1]), "the chain is torn: {}", chain.shape());
        }
        for (residue, point) in chain.points.iter().enumerate() {
            assert_eq!(chain.board.at(*point), Some(residue), "the board is wrong, or a point holds two: {}", chain.shape());
        }
        let occupied = chain.board.cells.iter().filter(|cell| **cell != Board::FREE).count();
        assert_eq!(occupied, chain.points.len(), "the board remembers residues that moved");
        let mut contacts = 0;
        for (first, a) in chain.points.iter().enumerate() {
            for (second, b) in chain.points.iter().enumerate().skip(first + 2) {
                contacts += i32::from(adjacent(*a, *b) && chain.hydrophobic[first] && chain.hydrophobic[second]);
            }
        }
        assert_eq!(chain.energy(), -contacts);
    }

    #[test]
    fn energies_of_known_shapes() {
        assert_eq!(Chain::straight("HHHH").unwrap().energy(), 0);
        assert_eq!(Chain::shaped("HHHH", "RUL").unwrap().energy(), -1);
        assert_eq!(Chain::shaped("HHPH", "RUL").unwrap().energy(), -1);
        assert_eq!(Chain::shaped("PHHH", "RUL").unwrap().energy(), 0);
        assert_eq!(Chain::shaped("HHHHHHHHH", "RRULLURR").unwrap().energy(), -4);
    }

    #[test]
    fn impossible_chains_are_refused() {
        for (sequence, shape) in [("HHHH", "RLR"), ("HHHH", "RR"), ("HXH", "RR"), ("HH", "R"), ("HHH", "RX")] {
            assert!(Chain::shaped(sequence, shape).is_err(), "{sequence} {shape}");
        }
        assert!(Chain::straight(&"H".repeat(MAX_RESIDUES + 1)).is_err());
    }

    #[test]
    fn moves_keep_the_chain_whole_and_can_be_undone() {
        for (sequence, seed) in [(TWENTY, 1), ("HHH", 2), ("PHPH", 3), (&"HPPH".repeat(16), 4)] {
            let mut chain = Chain::straight(sequence).unwrap();
            let mut random = Random::new(seed);
            let mut changed = 0;
            for _ in 0..20_000 {
                let (shape, energy, points) = (chain.shape(), chain.energy(), chain.points.clone());
                if !chain.pull(&mut random) {
                    continue;
                }
                check(&chain);
                assert_ne!(chain.points, points);
                if random.below(3) == 0 {
                    chain.undo();
                    check(&chain);
                    assert_eq!((chain.shape(), chain.energy()), (shape, energy));
                } else {
                    changed += 1;
                }
            }
            assert!(changed > 1000, "{sequence} moved {changed} times only");
        }
    }

    #[test]
    fn moves_reach_every_shape_of_a_short_chain() {
        // 5 bonds: 284 self-avoiding walks on the square lattice.
        let mut chain = Chain::straight("HPHPHP").unwrap();
        let mut random = Random::new(5);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..50_000 {
            chain.pull(&mut random);
            seen.insert(chain.shape());
        }
        assert_eq!(seen.len(), 284);
    }

    #[test]
    fn a_drawing_shows_residues_and_bonds() {
        assert_eq!(Chain::shaped("HPHH", "RUL").unwrap().drawing(), "#-#\n  |\n*-o\n");
    }
}
