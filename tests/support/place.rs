//! A temporary directory that goes with its owner, or with the process.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Result, keeper};

pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new(what: &str) -> Result<Place> {
        let dir = tempfile::Builder::new().prefix(&format!("remote-command-{what}-")).tempdir()?;
        keeper::directory(dir.path())?;
        // Other users log in to the test servers and have to get to their files.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        Ok(Place(dir))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}
