//! The sentences that refuse a spec and say what to write. The API server says them
//! ([`rules`](super::rules)), and where there is none the plan does.

pub const ADDRESS: &str = "address is a DNS name or an IP address, without user, port and brackets";
pub const USER: &str = "user is a login on the machine: it does not begin with '-'";
pub const STATE_DIRECTORY: &str =
    "stateDirectory is an absolute path, like /var/lib/remote-command";
pub const SOME_HOST_KEY: &str = "\
    at least one of knownHosts, configMapKeyRef and fingerprints is required: \
    ssh-keyscan HOST prints known_hosts lines";
pub const ONE_SOURCE: &str =
    "exactly one of secretKeyRef and configMapKeyRef is required in valueFrom and scriptFrom";
pub const BACKOFF_ORDER: &str = "spec.retry.backoff.initial is at most spec.retry.backoff.max";
pub const ONE_HOST: &str = "exactly one of spec.hostRef and spec.host is required";
pub const ONE_PROGRAM: &str =
    "exactly one of spec.command, spec.script and spec.scriptFrom is required";
pub const INTERPRETER_NEEDS_SCRIPT: &str =
    "spec.interpreter goes with spec.script and spec.scriptFrom only";
pub const PROGRAM_NAMED: &str =
    "the first word of spec.command and of spec.verify.command is a program: it is not empty";
pub const VERIFY_WITH_VERIFIABLE: &str =
    "spec.verify is required with spec.idempotency Verifiable, and refused with any other";
pub const DIRECT_WITH_DIRECT: &str = "spec.direct goes with spec.execution Direct only";
pub const NO_SHELL: &str = "\
    with spec.direct.shell None there is only spec.command: without a shell, script, \
    scriptFrom, env, stdin, workingDirectory and runAs cannot be carried out";
pub const FORCED_COMMAND: &str = "\
    with spec.direct.forcedCommand there are only spec.command and spec.stdin: what the account \
    runs is fixed, so script, scriptFrom, env, workingDirectory and runAs cannot be carried out";
pub const FORCED_CHECK: &str = "\
    spec.direct.forcedCommand does not go with spec.idempotency Verifiable: a check would run the \
    account's command; choose Idempotent or NonIdempotent";
pub const DIRECT_PROGRAM: &str = "\
    with spec.execution Direct the program of spec.command, spec.interpreter and \
    spec.verify.command does not begin with '-': write its path";
pub const RESERVED_NAME: &str = "\
    with spec.execution Direct, names in spec.env that begin with rcmd_ are taken: \
    choose another one";
pub const WORKING_DIRECTORY: &str = "spec.workingDirectory is an absolute path, like /srv";
pub const RUN_AS: &str = "spec.runAs is the name of a user of the host, like postgres";
pub const OVERLAP: &str = "\
    spec.retry.mayOverlap goes with spec.execution Direct only, and not with \
    spec.idempotency NonIdempotent";
pub const NO_REPEAT: &str = "\
    spec.retry.exitCodes would repeat a NonIdempotent command: leave it out, or set \
    spec.idempotency to Idempotent or Verifiable";
pub const EXIT_CODES_DISJOINT: &str =
    "a code is either in spec.retry.exitCodes or in spec.successExitCodes, not in both";
pub const ONE_VALUE: &str = "exactly one of value and valueFrom is required";
