//! The POSIX sh program that keeps the record on the host, and how it is called.
