//! What is wrong with a file.

/// Something in a file makes no sense, or cannot be taken over.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{line}: {problem}")]
pub struct FileError {
    /// Line, from 1 on.
    pub line: usize,
    /// What is wrong, with the field's path.
    pub problem: String,
    /// What to do, one way each.
    pub next: Vec<String>,
}

impl FileError {
    /// A problem at a line.
    #[must_use]
    pub fn new(line: usize, problem: impl Into<String>) -> Self {
        Self { line, problem: problem.into(), next: vec![] }
    }
    /// Adds a way out.
    #[must_use]
    pub fn next(mut self, step: impl Into<String>) -> Self {
        self.next.push(step.into());
        self
    }
}
