//! Where the report goes. What can be wrong with the place is told before anything starts.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the report goes.
#[derive(Debug)]
pub enum Place {
    /// A file that is there whole or not at all: whoever waits for it must not read half of it.
    File {
        part: Part,
        file: PathBuf,
    },
    /// What is no file of its own, such as a device or a named pipe, is written to as it is.
    Device(PathBuf),
    /// The same as stdout or stderr; opened again it would be written from its start.
    Stdout,
    Stderr,
}

/// An empty file beside the place, removed unless it takes that place.
#[derive(Debug)]
pub struct Part(PathBuf);

impl Place {
    /// Takes the place that `path` names.
    ///
    /// # Errors
    /// When no report can be written there.
    pub fn take(path: &Path) -> io::Result<Self> {
        let found = match fs::metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::file(path),
            Err(error) => return Err(error),
        };
        if is_same(&found, io::stdout()) {
            Ok(Self::Stdout)
        } else if is_same(&found, io::stderr()) {
            Ok(Self::Stderr)
        } else if found.is_file() {
            // A link goes on leading to it.
            Self::file(&path.canonicalize()?)
        } else if found.is_dir() {
            Err(io::ErrorKind::IsADirectory.into())
        } else {
            Ok(Self::Device(path.to_owned()))
        }
    }

    fn file(path: &Path) -> io::Result<Self> {
        let beside = path.with_added_extension("part");
        File::create(&beside)?;
        Ok(Self::File { part: Part(beside), file: path.to_owned() })
    }

    /// Writes the report.
    ///
    /// # Errors
    /// When it could not be written whole.
    pub fn write(self, report: &[u8]) -> io::Result<()> {
        match self {
            Self::File { part, file } => {
                fs::write(&part.0, report)?;
                fs::rename(&part.0, file)
            }
            Self::Device(path) => File::options().write(true).open(path)?.write_all(report),
            Self::Stdout => io::stdout().write_all(report),
            Self::Stderr => io::stderr().write_all(report),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It is gone when it has taken its place.
        let _ = fs::remove_file(&self.0);
    }
}

fn is_same(found: &Metadata, stream: impl AsFd) -> bool {
    let own = stream.as_fd().try_clone_to_owned().map(File::from);
    let own = own.and_then(|file| file.metadata());
    own.is_ok_and(|own| (own.dev(), own.ino()) == (found.dev(), found.ino()))
}
