//! How far each command's output has been written, so that it goes on from there after a
//! crash: one small file per object and stream.
//!
//! Replaced atomically, after the bytes were written: a crash between the two repeats what
//! was written last, and never leaves anything out.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::action::Entry;
use crate::host::Stream;

/// The directory of marks.
#[derive(Clone, Debug)]
pub struct Marks {
    directory: PathBuf,
}

/// The mark of one stream of one attempt.
#[derive(Clone, Debug)]
pub struct Mark {
    file: PathBuf,
    token: String,
}

/// What a mark's file holds.
#[derive(Serialize, Deserialize)]
struct Written {
    /// The entry's token: marks of another attempt say nothing about this one.
    token: String,
    /// Offset just after the last byte written.
    offset: u64,
    /// Bytes of log that it took to write them.
    #[serde(default)]
    logged: u64,
}

impl Marks {
    /// Keeps marks in `directory`, making it where it is missing.
    ///
    /// # Errors
    /// When the directory cannot be made; it is named.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", directory.display()))
        };
        fs::create_dir_all(directory).map_err(named)?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// The mark of one stream of `entry`.
    pub fn of(&self, entry: &Entry, stream: Stream) -> Mark {
        Mark { file: self.file(&entry.uid, stream), token: entry.token.clone() }
    }

    /// Removes the marks of an object that is gone.
    pub fn forget(&self, uid: &str) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            // A mark that cannot be removed takes a few bytes and misleads nobody.
            let _ = fs::remove_file(self.file(uid, stream));
        }
    }

    /// Removes the marks of all objects but these, by UID.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn keep(&self, uids: &HashSet<String>) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let file = entry?.path();
            let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
            let uid = name.split_once('.').map(|(uid, _)| uid);
            if uid.is_some_and(|uid| !uids.contains(uid)) {
                // As in `forget`.
                let _ = fs::remove_file(file);
            }
        }
        Ok(())
    }

    fn file(&self, uid: &str, stream: Stream) -> PathBuf {
        // A uid comes from the API server or from us; anything else must not leave the directory.
        let name: String = uid.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        self.directory.join(format!("{name}.{}", stream.name()))
    }
}

impl Mark {
    /// Offset just after the last byte written of this attempt's stream; 0 when none is known.
    pub fn read(&self) -> u64 {
        self.find().unwrap_or(0)
    }

    /// The same; `None` when nobody has begun to write this attempt's stream from here.
    pub fn find(&self) -> Option<u64> {
        self.written().map(|written| written.offset)
    }

    /// Bytes of log that were made of it, as far as is known.
    pub fn logged(&self) -> u64 {
        self.written().map_or(0, |written| written.logged)
    }

    fn written(&self) -> Option<Written> {
        let text = fs::read(&self.file).unwrap_or_default();
        let written: Option<Written> = serde_json::from_slice(&text).ok();
        written.filter(|written| written.token == self.token)
    }

    /// Notes that this attempt's stream is written from here, where that is not noted yet.
    ///
    /// # Errors
    /// As for [`Mark::write`].
    pub fn begin(&self) -> io::Result<()> {
        if self.find().is_none() { self.write(0, 0) } else { Ok(()) }
    }

    /// Notes that everything before `offset` has been written, in so many bytes of log.
    ///
    /// # Errors
    /// When the file cannot be replaced; the old mark is whole then.
    pub fn write(&self, offset: u64, logged: u64) -> io::Result<()> {
        let beside = self.file.with_extension("part").with_added_extension(self.extension());
        let written = Written { token: self.token.clone(), offset, logged };
        fs::write(&beside, serde_json::to_vec(&written)?)?;
        fs::rename(&beside, &self.file)
    }

    fn extension(&self) -> &OsStr {
        self.file.extension().unwrap_or_default()
    }
}
