//! A lock on a file: held by one process at a time, and given up with the value that stands for
//! it, or by the kernel when its process ends, however it ends (flock(2)).

use std::fs::{File, TryLockError};
use std::ops::{Deref, DerefMut};

/// A file that is locked while this value lives.
#[derive(Debug)]
pub struct Locked(File);

impl Locked {
    /// Locks the file.
    ///
    /// # Errors
    /// When somebody else has it locked, or it cannot be locked at all.
    pub fn take(file: File) -> Result<Self, TryLockError> {
        file.try_lock()?;
        Ok(Self(file))
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing alone does not unlock while a process that was just forked has the file, too.
        let _ = self.0.unlock();
    }
}

impl Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut File {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards against a lock that outlives its value in a child until that has begun its program.
    #[test]
    fn a_lock_is_let_go_of_with_its_value_whoever_else_has_the_file_open() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let open = || File::options().create(true).append(true).open(&path).unwrap();
        let lock = Locked::take(open()).unwrap();
        let inherited = lock.try_clone().unwrap();
        assert!(matches!(Locked::take(open()), Err(TryLockError::WouldBlock)));
        drop(lock);
        assert!(Locked::take(open()).is_ok());
        drop(inherited);
    }
}
