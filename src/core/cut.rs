//! Output that is not all there: the host keeps no more of it, or its end did not come.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::record::{OutputSeen, StreamSeen};

/// Where each stream was cut: how many bytes of it there are. At least one of them was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cut {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stdout: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stderr: Option<u64>,
    /// `output.sizeLimit` in bytes, as it was.
    limit: u64,
}

impl Cut {
    /// What was cut of an attempt's output, by what was seen of it last.
    pub fn of(seen: &OutputSeen, limit: u64) -> Option<Self> {
        let cut = |stream: &StreamSeen| stream.truncated.then_some(stream.bytes);
        let (stdout, stderr) = (cut(&seen.stdout), cut(&seen.stderr));
        (stdout.is_some() || stderr.is_some()).then_some(Self { stdout, stderr, limit })
    }

    /// Whether `output.sizeLimit` is why, so that raising it helps.
    pub fn is_by_limit(&self) -> bool {
        self.stdout.max(self.stderr).is_some_and(|end| end >= self.limit)
    }
}

impl std::error::Error for Cut {}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its output is not all there:")?;
        let ends = [("stdout", self.stdout), ("stderr", self.stderr)];
        let cut = ends.iter().filter_map(|(name, end)| Some((name, (*end)?)));
        let each: Vec<String> = cut
            .map(|(name, end)| {
                if end >= self.limit {
                    format!(" {name} was cut after {end} bytes, at output.sizeLimit")
                } else {
                    format!(" {name} may lack what came after {end} bytes")
                }
            })
            .collect();
        write!(f, "{}", each.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(bytes: u64, truncated: bool) -> StreamSeen {
        StreamSeen { bytes, truncated, ended: true }
    }

    #[test]
    fn what_was_cut_is_named_and_a_lost_end_is_not_put_down_to_the_limit() {
        let cut = |stdout, stderr| Cut::of(&OutputSeen { stdout, stderr }, 10);
        assert_eq!(cut(seen(10, false), seen(0, false)), None);
        let told = cut(seen(10, true), seen(3, true)).map(|cut| cut.to_string());
        assert_eq!(
            told.unwrap_or_default(),
            "its output is not all there: stdout was cut after 10 bytes, at output.sizeLimit, \
             stderr may lack what came after 3 bytes"
        );
    }
}
