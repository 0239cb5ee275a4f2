//! `remote-command run`: the same step as the operator's, without a cluster.
//!
//! Documents of files take the place of objects, and a file per command that of its status.

pub mod documents;
pub mod exit;
pub mod schema;
pub mod store;
pub mod yaml;
