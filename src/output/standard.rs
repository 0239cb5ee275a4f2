//! This process's stdout and stderr, as sinks of output.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd};

use rustix::event::{PollFd, PollFlags, poll};

use crate::host::Stream;

/// stdout or stderr, unbuffered. Whoever shares the descriptor with us may have made it
/// non-blocking; then a write waits here until there is room.
#[derive(Debug)]
pub struct Standard(File);

/// This process's stdout and stderr.
///
/// # Errors
/// When the descriptors cannot be duplicated.
pub fn standard_streams() -> io::Result<(Standard, Standard)> {
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    Ok((Standard(stdout), Standard(stderr)))
}

impl From<File> for Standard {
    fn from(file: File) -> Self {
        Self(file)
    }
}

impl Write for Standard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait()?,
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Standard {
    /// Waits until it takes bytes again, or says why it never will.
    fn wait(&self) -> io::Result<()> {
        match poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends the last line where this is a file that ends within one: a program that is killed
    /// while writing leaves such a piece, and what follows must not be glued to it.
    ///
    /// # Errors
    /// When the newline cannot be written.
    pub fn end_torn_line(&mut self) -> io::Result<()> {
        let torn = self.last_byte().is_ok_and(|last| last.is_some_and(|byte| byte != b'\n'));
        if torn { self.write_all(b"\n") } else { Ok(()) }
    }

    /// The last byte of a regular file, opened anew because ours may be open for writing only.
    fn last_byte(&self) -> io::Result<Option<u8>> {
        if self.kept().is_none_or(|length| length == 0) {
            return Ok(None);
        }
        let mut file = File::open(format!("/proc/self/fd/{}", self.0.as_raw_fd()))?;
        file.seek(SeekFrom::End(-1))?;
        let mut byte = [0];
        file.read_exact(&mut byte)?;
        Ok(byte.first().copied())
    }

    /// Length of a regular file.
    fn kept(&self) -> Option<u64> {
        let metadata = self.0.metadata().ok()?;
        metadata.is_file().then_some(metadata.len())
    }
}

/// How much stdout and stderr held when this program began, where they are regular files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    stdout: Option<u64>,
    stderr: Option<u64>,
}

impl Kept {
    /// What they hold now.
    pub fn by(stdout: &Standard, stderr: &Standard) -> Self {
        Self { stdout: stdout.kept(), stderr: stderr.kept() }
    }

    /// Where to go on with a stream that was written up to `mark`. A file that holds less is
    /// not the one it was written to, or was emptied since: it is given everything.
    pub fn resume(self, stream: Stream, mark: u64) -> u64 {
        if self.lacks(stream, mark) { 0 } else { mark }
    }

    /// Whether it is a file that cannot hold all that was written of a stream up to `mark`.
    pub fn lacks(self, stream: Stream, mark: u64) -> bool {
        let kept = match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        };
        kept.is_some_and(|length| length < mark)
    }
}
