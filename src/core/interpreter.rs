//! Which program runs a script: what its first line says, as Linux reads it (execve(2)).
//!
//! The file itself is never executed, so that a store that is mounted noexec does: what the
//! kernel would make of the line is run with the file as its last argument.

/// What runs a script that does not say.
pub const USUAL: &str = "/bin/sh";

/// The most bytes of a `#!` line without its line feed. Linux cuts longer ones silently
/// (`BINPRM_BUF_SIZE`).
pub const LINE_BYTES: usize = 255;

/// Why a first line cannot be carried out as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misread {
    #[error(
        "its first line holds a carriage return, which would be part of the interpreter's name: \
         save it with LF line ends, or set spec.interpreter"
    )]
    CarriageReturn,
    #[error(
        "it begins with a byte order mark, so that #! is not what it begins with: save it \
         without, or set spec.interpreter"
    )]
    ByteOrderMark,
    #[error(
        "its first line has {0} bytes, and Linux reads {LINE_BYTES} of a #! line: set \
         spec.interpreter instead"
    )]
    Long(usize),
    #[error("its first line is not UTF-8 text: set spec.interpreter instead")]
    NotText,
}

/// The interpreter's words, to be followed by the script's file. Everything behind the program
/// is one word, and a name without a slash is a file of the working directory, as for the kernel.
///
/// # Errors
/// [`Misread`].
pub fn interpreter(script: &[u8]) -> Result<Vec<String>, Misread> {
    if script.starts_with("\u{feff}#!".as_bytes()) {
        return Err(Misread::ByteOrderMark);
    }
    let Some(rest) = script.strip_prefix(b"#!") else { return Ok(vec![USUAL.to_owned()]) };
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.contains(&b'\r') {
        return Err(Misread::CarriageReturn);
    }
    let length = line.len().saturating_add(2);
    if length > LINE_BYTES {
        return Err(Misread::Long(length));
    }
    let blank = [' ', '\t'];
    let line = std::str::from_utf8(line).map_err(|_| Misread::NotText)?.trim_matches(blank);
    let (program, argument) = line.split_once(blank).unwrap_or((line, ""));
    // A shell runs by itself what the kernel finds no program's name in.
    let program = match program {
        "" => USUAL.to_owned(),
        path if path.contains('/') => path.to_owned(),
        name => format!("./{name}"),
    };
    let argument = argument.trim_start_matches(blank);
    let argument = (!argument.is_empty()).then(|| argument.to_owned());
    Ok([program].into_iter().chain(argument).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_read_as_the_kernel_reads_it() {
        let longest = format!("#!/{}", "x".repeat(LINE_BYTES - 3));
        let table: &[(&str, &[&str])] = &[
            ("", &["/bin/sh"]),
            ("echo hi\n#!/bin/bash\n", &["/bin/sh"]),
            (" #!/bin/bash\n", &["/bin/sh"]),
            ("\n#!/bin/bash\n", &["/bin/sh"]),
            ("# !/bin/bash\n", &["/bin/sh"]),
            ("#!/bin/bash", &["/bin/bash"]),
            ("#!/bin/bash\necho \r\n", &["/bin/bash"]),
            ("#! /bin/sh\n", &["/bin/sh"]),
            ("#!\t /bin/sh \t \n", &["/bin/sh"]),
            ("#!/bin/bash -eu\n", &["/bin/bash", "-eu"]),
            ("#!/bin/bash  -e -u \t\n", &["/bin/bash", "-e -u"]),
            ("#!/usr/bin/env python3\n", &["/usr/bin/env", "python3"]),
            ("#!/usr/bin/env -S python3 -u -X utf8\n", &["/usr/bin/env", "-S python3 -u -X utf8"]),
            ("#!/usr/bin/awk\t-f\n", &["/usr/bin/awk", "-f"]),
            ("#!/opt/\u{e4}/sh 'a  b'\n", &["/opt/\u{e4}/sh", "'a  b'"]),
            ("#!python3\n", &["./python3"]),
            ("#!bin/python3\n", &["bin/python3"]),
            ("#!-x\n", &["./-x"]),
            ("#!\n", &["/bin/sh"]),
            ("#!  \t\necho\n", &["/bin/sh"]),
            (&longest, &[&longest[2..]]),
        ];
        for (script, words) in table {
            assert_eq!(interpreter(script.as_bytes()).unwrap(), *words, "{script:?}");
        }
    }

    #[test]
    fn a_first_line_that_no_kernel_would_carry_out_is_refused_in_words() {
        let long = format!("#!/{}\n", "x".repeat(LINE_BYTES - 2));
        let table: &[(&[u8], Misread)] = &[
            (b"#!/bin/sh\r\necho\r\n", Misread::CarriageReturn),
            (b"#!/bin/sh -e \r\n", Misread::CarriageReturn),
            (b"#!/bin/sh\r", Misread::CarriageReturn),
            (b"#!/bin/sh\recho one\recho two\r", Misread::CarriageReturn),
            ("\u{feff}#!/bin/sh\n".as_bytes(), Misread::ByteOrderMark),
            (long.as_bytes(), Misread::Long(LINE_BYTES + 1)),
            (b"#!/bin/\xff\n", Misread::NotText),
        ];
        for (script, why) in table {
            assert_eq!(interpreter(script), Err(*why), "{script:?}");
        }
    }
}
