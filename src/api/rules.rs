//! The rules of the contract that the API server itself enforces, in its language CEL.
//!
//! Three laws hold for all of them. A rule that reads `oldSelf` is true when nothing changed:
//! such rules run on every write, also on the one that takes a finalizer off. Whatever a rule
//! walks over is bounded by `maxLength` and `maxItems`, or the server refuses the definition
//! for its cost. And a message is a sentence that says what to write.

use kube::core::{Message, Rule};

use super::sentences as say;

/// Text that can be an argument, a variable or a path.
pub const NO_NUL: &str = r"^[^\x00]*$";
/// The name of an environment variable (POSIX, Base Definitions 8.1).
pub const ENV_NAME: &str = "^[A-Za-z_][A-Za-z0-9_]*$";
/// The name of a Kubernetes object (RFC 1123 subdomain).
pub const OBJECT_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// The name of a key in a Secret or ConfigMap.
pub const KEY_NAME: &str = "^[-._a-zA-Z0-9]+$";
/// A DNS name or IP address.
pub const ADDRESS: &str = concat!(
    r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
    // One colon is a port's; an IPv6 address has two at least.
    r"|^[0-9A-Fa-f:]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9_.-]+)?$",
);
/// A login: no control characters, and nothing a command line would take for an option.
pub const USER: &str = r"^[^\x00-\x20\x7f-][^\x00-\x1f\x7f]*$";
/// As `ssh-keygen -l` prints it.
pub const FINGERPRINT: &str = "^SHA256:[A-Za-z0-9+/]{43}$";

fn rule(text: impl Into<String>, field: &str, message: impl Into<String>) -> Rule {
    let rule = Rule::new(text).message(Message::Message(message.into()));
    if field.is_empty() { rule } else { rule.field_path(field) }
}

/// Names become labels and parts of other names.
pub fn short_name() -> Rule {
    rule("self.metadata.name.size() <= 63", "", "metadata.name has at most 63 characters")
}

// ---- RemoteHost -------------------------------------------------------------------------

pub fn no_jump_to_itself() -> Rule {
    rule(
        "!has(self.spec.viaRef) || self.spec.viaRef.name != self.metadata.name",
        ".spec.viaRef",
        "spec.viaRef names another RemoteHost: a host is not reached over itself",
    )
}

pub fn address() -> Rule {
    rule(format!("self.address.matches('{ADDRESS}')"), ".address", say::ADDRESS)
}

pub fn user() -> Rule {
    rule("!self.user.startsWith('-')", ".user", say::USER)
}

pub fn state_directory() -> Rule {
    rule(
        "!has(self.stateDirectory) || self.stateDirectory.startsWith('/')",
        ".stateDirectory",
        say::STATE_DIRECTORY,
    )
}

pub fn some_host_key() -> Rule {
    rule(
        "has(self.knownHosts) || has(self.configMapKeyRef) \
         || (has(self.fingerprints) && self.fingerprints.size() > 0)",
        "",
        say::SOME_HOST_KEY,
    )
}

pub fn fingerprints() -> Rule {
    rule(
        format!("!has(self.fingerprints) || self.fingerprints.all(f, f.matches('{FINGERPRINT}'))"),
        ".fingerprints",
        "a fingerprint is SHA256: and 43 characters, as ssh-keygen -l prints it",
    )
}

// ---- values -----------------------------------------------------------------------------

pub fn env_name() -> Rule {
    rule(
        format!("self.name.matches('{ENV_NAME}')"),
        ".name",
        "a variable's name has letters, digits and underscores, and does not begin with a digit",
    )
}

pub fn one_value(what: &str) -> Rule {
    rule("has(self.value) != has(self.valueFrom)", "", format!("{} in {what}", say::ONE_VALUE))
}

pub fn one_source() -> Rule {
    rule("has(self.secretKeyRef) != has(self.configMapKeyRef)", "", say::ONE_SOURCE)
}

pub fn backoff_order() -> Rule {
    rule("duration(self.initial) <= duration(self.max)", "", say::BACKOFF_ORDER)
}

// ---- RemoteCommand: what fits together --------------------------------------------------

pub fn one_host() -> Rule {
    rule("has(self.hostRef) != has(self.host)", "", say::ONE_HOST)
}

pub fn one_program() -> Rule {
    rule(
        "[has(self.command), has(self.script), has(self.scriptFrom)].exists_one(given, given)",
        "",
        say::ONE_PROGRAM,
    )
}

pub fn interpreter_needs_script() -> Rule {
    rule(
        "!has(self.interpreter) || has(self.script) || has(self.scriptFrom)",
        ".interpreter",
        say::INTERPRETER_NEEDS_SCRIPT,
    )
}

pub fn program_named() -> Rule {
    rule(
        "(!has(self.command) || self.command.size() == 0 || self.command[0] != '') \
         && (!has(self.verify) || self.verify.command.size() == 0 || self.verify.command[0] != '')",
        "",
        say::PROGRAM_NAMED,
    )
}

pub fn verify_with_verifiable() -> Rule {
    rule("has(self.verify) == (self.idempotency == 'Verifiable')", "", say::VERIFY_WITH_VERIFIABLE)
}

pub fn direct_with_direct() -> Rule {
    rule("self.execution == 'Direct' || !has(self.direct)", ".direct", say::DIRECT_WITH_DIRECT)
}

pub fn no_shell_no_environment() -> Rule {
    rule(
        "!has(self.direct) || self.direct.shell != 'None' || (!has(self.script) \
         && !has(self.scriptFrom) && !has(self.env) && !has(self.stdin) && !has(self.workingDirectory) && !has(self.runAs))",
        ".direct.shell",
        say::NO_SHELL,
    )
}

pub fn forced_command_alone() -> Rule {
    rule(
        "!has(self.direct) || !self.direct.forcedCommand || (!has(self.script) \
         && !has(self.scriptFrom) && !has(self.env) && !has(self.workingDirectory) && !has(self.runAs))",
        ".direct.forcedCommand",
        say::FORCED_COMMAND,
    )
}

pub fn forced_command_unchecked() -> Rule {
    rule(
        "!has(self.direct) || !self.direct.forcedCommand || self.idempotency != 'Verifiable'",
        ".direct.forcedCommand",
        say::FORCED_CHECK,
    )
}

pub fn direct_program() -> Rule {
    let named = |words: &str| format!("{words}.size() == 0 || !{words}[0].startsWith('-')");
    let of = |field: &str| named(&format!("self.{field}"));
    rule(
        format!(
            "self.execution != 'Direct' || ((!has(self.command) || {}) \
             && (!has(self.interpreter) || {}) && (!has(self.verify) || {}))",
            of("command"),
            of("interpreter"),
            of("verify.command")
        ),
        "",
        say::DIRECT_PROGRAM,
    )
}

pub fn working_directory() -> Rule {
    rule(
        "!has(self.workingDirectory) || self.workingDirectory.startsWith('/')",
        ".workingDirectory",
        say::WORKING_DIRECTORY,
    )
}

pub fn run_as() -> Rule {
    rule(
        "!has(self.runAs) || self.runAs.matches('^[^-#:/[:space:]][^:/[:space:]]*$')",
        ".runAs",
        say::RUN_AS,
    )
}

pub fn overlap() -> Rule {
    rule(
        "!self.retry.mayOverlap \
         || (self.execution == 'Direct' && self.idempotency != 'NonIdempotent')",
        ".retry.mayOverlap",
        say::OVERLAP,
    )
}

pub fn no_repeat_of_non_idempotent() -> Rule {
    rule(
        "self.idempotency != 'NonIdempotent' || !has(self.retry.exitCodes) \
         || self.retry.exitCodes.size() == 0",
        ".retry.exitCodes",
        say::NO_REPEAT,
    )
}

pub fn exit_codes_disjoint() -> Rule {
    rule(
        "!has(self.retry.exitCodes) \
         || self.retry.exitCodes.all(c, !(c in self.successExitCodes))",
        ".retry.exitCodes",
        say::EXIT_CODES_DISJOINT,
    )
}

// ---- RemoteCommand: what may change -----------------------------------------------------

pub fn immutable(field: &str) -> Rule {
    rule(
        format!("self.{field} == oldSelf.{field}"),
        &format!(".{field}"),
        format!("spec.{field} cannot change; create a new object"),
    )
}

/// Sits on the parent, so that adding and removing the field count as changes too.
pub fn frozen(field: &str) -> Rule {
    rule(
        format!("self.runPolicy == 'OnChange' || ({})", same(field)),
        &format!(".{field}"),
        format!(
            "spec.{field} cannot change under runPolicy Once; set spec.rerunToken to run the same \
             again, or create a new object"
        ),
    )
}

fn same(field: &str) -> String {
    format!(
        "has(self.{field}) == has(oldSelf.{field}) \
         && (!has(self.{field}) || self.{field} == oldSelf.{field})"
    )
}

/// The second clause lets the resolution stay where it is: the very status write that uses it
/// up would be refused otherwise.
pub fn resolution_of_unknown() -> Rule {
    rule(
        "!has(self.spec.resolution) \
         || (oldSelf.hasValue() && has(oldSelf.value().spec.resolution) \
             && self.spec.resolution == oldSelf.value().spec.resolution) \
         || (oldSelf.hasValue() && has(self.status) && self.status.phase == 'Unknown' \
             && has(self.status.run) && self.spec.resolution.run == self.status.run \
             && self.spec.resolution.attempt \
                == (has(self.status.attempt) ? self.status.attempt : 0))",
        ".spec.resolution",
        "spec.resolution is accepted only on an update, while status.phase is Unknown, and with \
         the run and attempt that status shows (0 when it shows no attempt); leave it out of a new \
         or restored object",
    )
    .optional_old_self(true)
}

// ---- status -----------------------------------------------------------------------------
//
// What these fences compare with is the operator's own record, where there is one: somebody who
// writes a status by hand and leaves `stage` alone can be put right, and does not lock the
// operator out.

/// What the operator's record has had in `field`; `otherwise` where it has none.
fn recorded(field: &str, otherwise: &str) -> String {
    format!(
        "(has(oldSelf.stage) && has(oldSelf.stage.{field}) ? oldSelf.stage.{field} : {otherwise})"
    )
}

/// The first record of an operator stands above whatever was written before it.
const FIRST_RECORD: &str = "(!has(oldSelf.stage) && has(self.stage) && has(self.stage.run))";

/// The status speaks of another run than the record: somebody else wrote it.
const ANOTHER_RUN: &str = "(has(oldSelf.stage) && has(oldSelf.stage.run) && has(oldSelf.run) \
                           && oldSelf.run != oldSelf.stage.run)";

/// The last run that counts; 0 before the first.
fn last_run() -> String {
    recorded("run", "(has(oldSelf.run) ? oldSelf.run : 0)")
}

/// The last attempt that counts of the run that is written; 0 before its first.
fn last_attempt() -> String {
    format!(
        "(has(self.run) && self.run == {} ? {} : 0)",
        last_run(),
        recorded("attempt", "(has(oldSelf.attempt) ? oldSelf.attempt : 0)")
    )
}

/// Of a RemoteHost, and of a RemoteCommand that no operator has a record of yet.
pub fn generation_grows() -> Rule {
    rule(
        "self.observedGeneration >= oldSelf.observedGeneration",
        ".observedGeneration",
        "status.observedGeneration never goes back",
    )
}

/// A record guards itself by its revision, and a number that somebody raised can be put right.
pub fn generation_grows_without_record() -> Rule {
    rule(
        "self.observedGeneration >= oldSelf.observedGeneration \
         || (has(self.stage) && has(self.stage.run))",
        ".observedGeneration",
        "status.observedGeneration never goes back",
    )
}

pub fn run_stays() -> Rule {
    rule(
        format!(
            "{FIRST_RECORD} || {last} == 0 || (has(self.run) && self.run >= {last}) || ({})",
            same("run"),
            last = last_run()
        ),
        ".run",
        "status.run never goes back, and stays once it is set",
    )
}

pub fn attempt_stays() -> Rule {
    rule(
        format!(
            "{FIRST_RECORD} || {last} == 0 || (has(self.attempt) && self.attempt >= {last}) \
             || ({} && {})",
            same("run"),
            same("attempt"),
            last = last_attempt()
        ),
        ".attempt",
        "status.attempt never goes back within a run",
    )
}

pub fn run_grows_by_one() -> Rule {
    rule(
        format!(
            "!has(self.run) || self.run <= {} + 1 || (has(oldSelf.run) && self.run == oldSelf.run)",
            last_run()
        ),
        ".run",
        "status.run grows by one",
    )
}

pub fn attempt_grows_by_one() -> Rule {
    rule(
        format!(
            "!has(self.attempt) || (has(self.run) && (self.attempt <= {} + 1 \
              || (has(oldSelf.attempt) && self.attempt == oldSelf.attempt \
                  && has(oldSelf.run) && self.run == oldSelf.run)))",
            last_attempt()
        ),
        ".attempt",
        "status.attempt belongs to a run, begins with 1 and grows by one",
    )
}

pub fn phase_needs_run() -> Rule {
    rule(
        "self.phase == 'Pending' || has(self.run)",
        ".run",
        "status.run is required in every phase but Pending",
    )
}

pub fn stage_grows() -> Rule {
    rule(
        "!has(oldSelf.stage) || (has(self.stage) \
         && (self.stage == oldSelf.stage || self.stage.revision > oldSelf.stage.revision))",
        ".stage",
        "status.stage changes only with a higher revision, and stays once it is set",
    )
}

/// Each save raises the revision by one. One that was raised to the last number there is would
/// let nobody save anything more.
pub fn revision_grows_slowly() -> Rule {
    rule(
        "!has(self.stage) || self.stage.revision - 1000000 <= \
         (has(oldSelf.stage) ? oldSelf.stage.revision : 0)",
        ".stage.revision",
        "status.stage.revision grows by at most 1000000 at once",
    )
}

/// Final is what the operator has put on record as the end, and nothing that was written beside
/// the record. Out of Unknown there is a way: evidence found later, or a person's word.
pub fn outcome_is_final() -> Rule {
    let same: Vec<String> =
        ["attempt", "reason", "exitCode", "signal", "evidence"].map(same).into();
    rule(
        format!(
            "!{} || !(oldSelf.phase in ['Succeeded', 'Failed']) || {ANOTHER_RUN} \
             || (has(self.run) && has(oldSelf.run) && self.run > oldSelf.run) \
             || (self.phase == oldSelf.phase && {})",
            recorded("over", "false"),
            same.join(" && ")
        ),
        ".phase",
        "the outcome of a run (phase, attempt, reason, exitCode, signal, evidence) is final once \
         status.stage.over is true",
    )
}
