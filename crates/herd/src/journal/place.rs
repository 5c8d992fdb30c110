//! Where journals lie: a trait, so that tests own the disk, and the folder that is the real one.
//!
//! Durability: what [`LogFile::sync`] returned for survives; [`Place::publish`] returns once the name is durable.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;

/// A file that grows.
pub trait LogFile: Send {
    /// Writes at the end; after an error an unknown part of it is there.
    ///
    /// # Errors
    /// As the disk says.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns when everything written is on the disk.
    ///
    /// # Errors
    /// As the disk says; then nobody knows what is on it.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file off; writing goes on there.
    ///
    /// # Errors
    /// As the disk says.
    fn set_len(&mut self, length: u64) -> io::Result<()>;
}

/// A place for numbered files of one herd.
pub trait Place: Send {
    /// Numbers of the files that have their names.
    ///
    /// # Errors
    /// As the disk says, like all of these.
    fn list(&self) -> io::Result<Vec<u64>>;
    /// All of a file.
    ///
    /// # Errors
    /// As the disk says.
    fn read(&self, number: u64) -> io::Result<Vec<u8>>;
    /// A file that has its name, to write on at its end.
    ///
    /// # Errors
    /// As the disk says.
    fn reopen(&mut self, number: u64) -> io::Result<Box<dyn LogFile>>;
    /// A new file, not listed before it is published.
    ///
    /// # Errors
    /// As the disk says.
    fn create(&mut self, number: u64) -> io::Result<Box<dyn LogFile>>;
    /// Gives a created file its name, durably.
    ///
    /// # Errors
    /// As the disk says.
    fn publish(&mut self, number: u64) -> io::Result<()>;
    /// Forgets a created file that was not published.
    fn abandon(&mut self, number: u64);
    /// Removes a file.
    ///
    /// # Errors
    /// As the disk says.
    fn remove(&mut self, number: u64) -> io::Result<()>;
}

/// A folder with files `journal.N`.
#[derive(Debug)]
pub struct Directory(PathBuf);

const PREFIX: &str = "journal.";

impl Directory {
    /// The folder; it must exist and belong to one herd and one process.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }
    fn path(&self, number: u64) -> PathBuf {
        self.0.join(format!("{PREFIX}{number}"))
    }
    fn unfinished(&self, number: u64) -> PathBuf {
        self.0.join(format!("{PREFIX}{number}.new"))
    }
}

struct RealFile(File);

impl LogFile for RealFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn set_len(&mut self, length: u64) -> io::Result<()> {
        // Opened to append: the next write goes to the new end.
        self.0.set_len(length)
    }
}

impl Place for Directory {
    fn list(&self) -> io::Result<Vec<u64>> {
        let mut numbers = vec![];
        for entry in std::fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            numbers.extend(name.to_str().and_then(|n| n.strip_prefix(PREFIX)).and_then(|n| n.parse::<u64>().ok()));
        }
        Ok(numbers)
    }
    fn read(&self, number: u64) -> io::Result<Vec<u8>> {
        std::fs::read(self.path(number))
    }
    fn reopen(&mut self, number: u64) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(RealFile(OpenOptions::new().append(true).open(self.path(number))?)))
    }
    fn create(&mut self, number: u64) -> io::Result<Box<dyn LogFile>> {
        let path = self.unfinished(number);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Box::new(RealFile(OpenOptions::new().append(true).create_new(true).open(path)?)))
    }
    fn publish(&mut self, number: u64) -> io::Result<()> {
        std::fs::rename(self.unfinished(number), self.path(number))?;
        File::open(&self.0)?.sync_all()
    }
    fn abandon(&mut self, number: u64) {
        let _ = std::fs::remove_file(self.unfinished(number));
    }
    fn remove(&mut self, number: u64) -> io::Result<()> {
        std::fs::remove_file(self.path(number))
    }
}
