# The supervisor: one for each launch. It outlives the connection, the helper shell and
# the operator.
#
#   supervisor ─ out drain
#              └ err drain
#              └ the host's own deadline
#              └ the command, in its foreground, in a session of its own
#
# Nothing above the command is started with &: SIGINT would be ignored for good.
#
# All that the command needs stands before its claim: each drain and the deadline's watch say on
# a pipe that they have what they work with, and a shell that cannot fork says nothing and ends.
# Then nothing is claimed. Whoever could claim holds the launcher's pipe, so that its end without
# a word proves that nothing of this launch ever will.

# Given as variables, which may be exported: those in the first loop. They are directory, marker,
# call, output limit in bytes, seconds to the deadline, seconds of grace, setsid or -, the
# account's umask, its LC_ALL as =value or -, boot identity, what the word to the launcher starts
# with, and the login's cgroup or -. Not as arguments, which every user of the host can read. The
# inputs are on stdin; the word goes to 7, and what the shell itself has to say before the claim to 2.
rc_supervise() {
    umask 077
    # Whoever asked may be gone by now, and 2 with it.
    trap : HUP INT QUIT TERM PIPE
    unset REMOTE_COMMAND_PROGRAM
    # What is exported would be the command's too.
    for rc_l in rc_dir rc_mark rc_call rc_limit rc_deadline rc_grace \
        rc_setsid rc_umask rc_lc rc_boot rc_say rc_cgroup; do
        eval "rc_w=\$$rc_l"
        unset "$rc_l"
        eval "$rc_l=\$rc_w"
    done
    rc_token=${rc_mark##*/}
    rc_halve
    rc_begin=ran rc_words=0 rc_d= rc_quiet=
    trap rc_leave EXIT
    rc_self
    rc_s=$rc_pid rc_sstart=$rc_start
    # A request that is sent twice is two launches: what they write must have two names.
    rc_asked=$rc_call rc_call=$rc_call.$rc_s
    read -r rc_nargs rc_nenv rc_script rc_stdin rc_large && rc_word || rc_cut_short
    rc_wd=$rc_w rc_path=$PATH
    set --
    while [ "$rc_nenv" -gt 0 ]; do
        rc_word || rc_cut_short
        set -- "$@" "$rc_w"
        rc_name=$rc_w
        rc_word || rc_cut_short
        set -- "$@" "$rc_w"
        rc_check_env || rc_refuse environment "the host's shell cannot set the variable $rc_name to this value"
        rc_nenv=$((rc_nenv - 1))
    done
    set -- "$@" ''
    [ "$rc_setsid" = - ] || set -- "$@" "$rc_setsid" --
    while [ "$rc_nargs" -gt 0 ]; do
        rc_word || rc_cut_short
        set -- "$@" "$rc_w"
        [ "$rc_words" = 0 ] && rc_program=$rc_w
        rc_words=1
        rc_nargs=$((rc_nargs - 1))
    done
    if [ "$rc_script" != - ]; then
        rc_bytes "$rc_script" "$rc_dir/script.$rc_call" || rc_refuse changed 'the script could not be written'
        set -- "$@" "$rc_dir/script.$rc_call"
    fi
    if [ "$rc_stdin" != - ]; then
        rc_bytes "$rc_stdin" "$rc_dir/stdin.$rc_call" || rc_refuse changed 'stdin could not be written'
    fi
    read -r rc_l && [ "$rc_l" = "$rc_asked" ] || rc_cut_short
    exec 0</dev/null
    rc_check_size "$@"
    rc_run "$@"
}

rc_cut_short() { rc_refuse changed 'the inputs were cut short'; }

# Kind and words of why nothing starts.
rc_refuse() {
    rc_quiet=1
    rc_turn_down "$1 $2"
    rm -f "$rc_dir/script.$rc_call" "$rc_dir/stdin.$rc_call"
    exit 1
}

# The word that nothing starts. On a channel of its own it is a report, with its end.
rc_turn_down() {
    echo "${rc_say}refused $1" >&7
    [ -z "$rc_say" ] || echo "${rc_say}end" >&7
}

# However the supervisor ends, the watch of what never began does not stay.
rc_leave() {
    [ -z "$rc_d" ] || kill -s TERM "$rc_d" 2>/dev/null
    [ "$rc_quiet" ] || rc_last_words
}

# A shell does not let every variable be set, nor to every value: its own, those that a start-up
# file made read-only, and numbers. That is found out before anything starts, by trying, in
# this shell, which then takes back what it had. command makes of what would end a shell a status.
rc_check_env() {
    case $rc_name in
    rc_*) return ;;
    PATH) rc_path=$rc_w ;;
    # To set these is to become that user in some shells.
    UID | EUID | GID | EGID | USERNAME)
        rc_l=$( { unset -v "$rc_name"; eval "$rc_name=\$rc_w"; eval "printf %s. \"\$$rc_name\""; } 2>/dev/null)
        [ "$rc_l" = "$rc_w." ]
        return
        ;;
    esac
    eval "rc_had=\${$rc_name+x} rc_old=\${$rc_name-}"
    rc_set=
    command eval 'rc_put_env "$rc_name" "$rc_w"' 2>/dev/null &&
        eval "[ \"\$$rc_name\" = \"\$rc_w\" ]" && rc_set=1
    if [ "$rc_had" ]; then
        command eval 'command export "$rc_name=$rc_old"' 2>/dev/null
    else
        command eval 'unset -v "$rc_name"' 2>/dev/null
    fi
    [ "$rc_set" ]
}

# Some are no more than variables once they were unset. Only positional parameters: the user's
# names may be any.
rc_put_env() {
    [ "$1" = OPTIND ] || unset -v "$1"
    command export "$1=$2"
}

# Whether the kernel takes so much (execve(2), E2BIG) is its to say: it is asked with a program
# that does nothing. Small ones always fit.
rc_check_size() {
    [ "$rc_large" = 1 ] || return 0
    (trap - EXIT; exec 2>/dev/null 7>&-; rc_exec_nothing "$@")
    case $? in
    126) rc_refuse toolong "arguments and variables are together too long for this host" ;;
    esac
}

rc_exec_nothing() {
    while [ "$1" ]; do
        { [ "$1" = OPTIND ] || unset -v "$1"; command export "$1=$2"; } 2>/dev/null
        shift 2
    done
    shift
    exec /bin/sh -c : "$@"
}

# Is there a program to start, and a directory to start it in? Told apart before the exec.
rc_check_program() {
    [ "$rc_begin" = ran ] || return
    case $rc_wd in
    '') rc_at=. ;;
    /*) rc_at=$rc_wd ;;
    *) rc_at=./$rc_wd rc_wd=./$rc_wd ;;
    esac
    if [ -d "$rc_at" ]; then
        [ -x "$rc_at" ] || rc_begin=denied rc_flaw="working directory $rc_wd may not be entered"
    elif [ -e "$rc_at" ]; then
        rc_begin=notfound rc_flaw="working directory $rc_wd is not a directory"
    else
        rc_begin=notfound rc_flaw="working directory $rc_wd cannot be found"
    fi
    [ "$rc_begin" = ran ] || return
    rc_begin=notfound rc_flaw="$rc_program: no such program"
    case $rc_program in
    '') ;;
    /*) rc_try "$rc_program" ;;
    */*) rc_try "$rc_at/$rc_program" ;;
    *)
        rc_rest=$rc_path:
        while [ "$rc_rest" ] && [ "$rc_begin" != ran ]; do
            rc_l=${rc_rest%%:*} rc_rest=${rc_rest#*:}
            case $rc_l in /*) rc_try "$rc_l/$rc_program" ;; *) rc_try "$rc_at/${rc_l:-.}/$rc_program" ;; esac
        done
        ;;
    esac
}

rc_try() {
    [ -e "$1" ] || [ -L "$1" ] || return
    if [ -f "$1" ] && [ -x "$1" ]; then
        rc_begin=ran
    elif [ -e "$1" ]; then
        rc_begin=denied rc_flaw="$rc_program may not be executed"
    fi
}

# The supervisor proper.
rc_run() {
    rc_check_program
    rc_open_input
    rc_make_scope
    rc_stand || rc_refuse processes 'what its output and its time limit need could not be started'
    (trap - EXIT; exec >&5 5>&-; rc_become "$@")
    rc_code=$? rc_quiet=1
    # Some shells say on stderr that a signal ended what they waited for.
    exec 2>/dev/null 5>&- 6>&- 7>&- 8>&-
    rc_w=$rc_d rc_d=
    set -- "$rc_dir/out.$rc_call" "$rc_dir/err.$rc_call" "$rc_dir/go.$rc_call"
    if rc_read_claim && [ "$rc_by" = "$rc_call" ]; then
        rc_record
    else
        set -- "$@" "$rc_dir/claim.$rc_call"
    fi
    rc_read_stop && [ "$rc_whose" = deadline ] || kill -s TERM "$rc_w" 2>/dev/null
    [ "$rc_script" = - ] || set -- "$@" "$rc_dir/script.$rc_call"
    rm -f "$@"
    [ -z "$rc_scope" ] || rc_leave_scope
}

# The command's stdin, as 8. What was written may have been taken away since: an empty one in its
# place would be another input than was sent.
rc_open_input() {
    if [ "$rc_stdin" = - ]; then
        exec 8</dev/null
        return
    fi
    { rc_has "$rc_stdin" "$rc_dir/stdin.$rc_call" && command exec 8<"$rc_dir/stdin.$rc_call"; } 2>/dev/null ||
        rc_refuse changed 'stdin was taken away before the command could read it'
    rm -f "$rc_dir/stdin.$rc_call"
}

# The script is opened by its interpreter, after the claim: the last look at it is before.
rc_has_script() { [ "$rc_script" = - ] || rc_has "$rc_script" "$rc_dir/script.$rc_call"; }

# Is $2 still there, and not emptied, where $1 bytes were written to it?
rc_has() { [ -s "$2" ] || { [ "$1" = 0 ] && [ -e "$2" ]; }; }

# Drains and watch, each of which says on 9 that it stands. Whoever cannot is gone, and its end
# of that pipe with it. Then 5 and 6 are the ends that the command writes to, and nobody but the
# drains has the others.
rc_stand() {
    mkfifo "$rc_dir/out.$rc_call" "$rc_dir/err.$rc_call" "$rc_dir/go.$rc_call" &&
        command exec 5<>"$rc_dir/out.$rc_call" 6<>"$rc_dir/err.$rc_call" 9<>"$rc_dir/go.$rc_call" ||
        rc_refuse changed 'the pipes for its output could not be made'
    exec 4<"$rc_dir/go.$rc_call"
    { exec >/dev/null 4<&- 5>&- 6>&- 7>&- 8>&-; rc_drain out; } 3<"$rc_dir/out.$rc_call" &
    rc_o=$!
    { exec >/dev/null 4<&- 5>&- 6>&- 7>&- 8>&-; rc_drain err; } 3<"$rc_dir/err.$rc_call" &
    rc_e=$!
    { exec </dev/null >/dev/null 4<&- 5>&- 6>&- 7>&- 8>&-; rc_watch; } &
    rc_d=$!
    exec 9>&-
    rc_up=0
    while read -r rc_l <&4; do
        rc_up=$((rc_up + 1))
        [ "$rc_up" -lt 3 ] || break
    done
    exec 4<&-
    [ "$rc_up" = 3 ] || return 1
    exec 3>"$rc_dir/out.$rc_call"
    exec 5>&3
    exec 3>"$rc_dir/err.$rc_call"
    exec 6>&3 3>&-
    rc_ostart=0 rc_estart=0 rc_dstart=0
    rc_stat "$rc_o" && rc_ostart=$rc_start
    rc_stat "$rc_e" && rc_estart=$rc_start
    rc_stat "$rc_d" && rc_dstart=$rc_start
    return 0
}

# A cgroup of the attempt's own, where one can be had: what the command starts may leave its
# session, its parents and its environment, but not this. On record before anybody is in it.
rc_make_scope() {
    rc_scope= rc_cgroups=
    [ "$rc_cgroup" != - ] || return
    rc_scope=$rc_cgroup/remote-command.$rc_half
    { [ -d "$rc_scope" ] || mkdir "$rc_scope"; } 2>/dev/null &&
        { echo "$rc_scope" >"$rc_dir/scope"; } 2>/dev/null || rc_scope=
}

# The process that becomes the command. It claims the entry with its own pid and start time,
# and from the claim on does nothing but exec.
rc_become() {
    rc_self
    rc_uptime
    if ! rc_has_script; then
        rc_turn_down 'changed the script was taken away before the command could read it'
        exit 0
    fi
    rc_l="$rc_token launch $rc_call $rc_s $rc_sstart $rc_pid $rc_start"
    rc_l="$rc_l $rc_o.$rc_e $rc_ostart.$rc_estart $rc_d $rc_dstart $rc_up $rc_boot $rc_token ."
    if ! { echo "$rc_l" >"$rc_dir/claim.$rc_call"; } 2>/dev/null; then
        rc_turn_down 'changed the claim could not be written'
        exit 0
    fi
    [ -z "$rc_scope" ] || { echo "$rc_pid" >"$rc_scope/cgroup.procs"; } 2>/dev/null
    ln "$rc_dir/claim.$rc_call" "$rc_dir/claim"
    if ! rc_read_claim || [ "$rc_by" != "$rc_call" ]; then
        echo "${rc_say}lost" >&7
        exit 0
    fi
    # In place, where it needs no room: a claim that is missing later was taken away.
    { echo "$rc_token begun" 1<>"$rc_dir/exit"; } 2>/dev/null
    # Whoever asked may be gone by now. The command is not to hear of it.
    trap '' PIPE
    { echo "${rc_say}claimed" >&7; } 2>/dev/null
    trap - PIPE
    exec 7>&- 0<&8 8>&- 2>&6 6>&-
    case $rc_begin in
    notfound) echo "remote-command: $rc_flaw" >&2; exit 127 ;;
    denied) echo "remote-command: $rc_flaw" >&2; exit 126 ;;
    esac
    [ -z "$rc_wd" ] || cd -P -- "$rc_wd" || exit 126
    umask "$rc_umask"
    REMOTE_COMMAND_RUN=$rc_mark
    export REMOTE_COMMAND_RUN
    case $rc_lc in =*) LC_ALL=${rc_lc#=}; export LC_ALL ;; *) unset LC_ALL ;; esac
    trap - HUP INT QUIT TERM
    # From here on only positional parameters: the user's names may be any.
    while [ "$1" ]; do
        { [ "$1" = OPTIND ] || unset -v "$1"; command export "$1=$2"; } 2>/dev/null
        shift 2
    done
    shift
    exec "$@"
}

# Writes the end, in place, once. On a full disk the code is held until it can be written.
rc_record() {
    rc_sig=-
    if [ "$rc_code" -ge 256 ] || { [ "$rc_code" -gt 128 ] && [ "$rc_code" -le 192 ]; }; then
        if [ "$rc_code" -ge 256 ]; then rc_n=$((rc_code % 128)); else rc_n=$((rc_code - 128)); fi
        rc_code=$((128 + rc_n))
        rc_signal_name
        case $rc_sig in '' | *[!A-Z0-9+-]*) rc_sig=- ;; esac
    fi
    rc_read_stop || rc_why=-
    rc_uptime
    rc_l="$rc_token $rc_code $rc_sig $rc_begin $rc_up $rc_why $rc_token $rc_code ."
    until { echo "$rc_l" 1<>"$rc_dir/exit"; } 2>/dev/null; do
        [ -d "$rc_dir" ] && [ ! -e "$rc_dir/swept" ] || return
        sleep 1
    done
}

# The name of signal rc_n. The common ones need no fork, which may not be had any more.
rc_signal_name() {
    rc_sig=
    case $rc_n in
    1) rc_sig=HUP ;; 2) rc_sig=INT ;; 3) rc_sig=QUIT ;; 4) rc_sig=ILL ;; 6) rc_sig=ABRT ;;
    8) rc_sig=FPE ;; 9) rc_sig=KILL ;; 11) rc_sig=SEGV ;; 13) rc_sig=PIPE ;; 14) rc_sig=ALRM ;;
    15) rc_sig=TERM ;;
    *) command eval 'rc_sig=$(kill -l "$rc_n" 2>/dev/null)' ;;
    esac
    rc_sig=${rc_sig#SIG}
}

# The deadline that needs no operator, and no record. It ends with the command.
rc_watch() {
    trap - EXIT
    rc_standing=
    rc_restless
    # A TERM that came before the trap was set is lost; the record that it followed is not.
    rc_read_exit && return
    rc_left=$rc_deadline rc_of=
    while [ "$rc_left" -gt 0 ]; do
        rc_slice=$rc_left
        [ "$rc_slice" -le 30 ] || rc_slice=30
        rc_uptime
        rc_before=$rc_up
        rc_rest "$rc_slice"
        # Somebody ended the sleep: no more has passed than the clock says.
        if [ "$rc_slept" -gt 128 ]; then
            rc_uptime
            rc_passed=$(((rc_up - rc_before) / 1000))
            [ "$rc_passed" -ge "$rc_slice" ] || rc_slice=$rc_passed
        fi
        rc_left=$((rc_left - rc_slice))
        rc_is_watched || return
    done
    rc_read_exit && return
    rc_here=1 rc_beside=1
    rc_mark_deadline || return
    trap '' TERM
    rc_term
    rc_after_grace "$rc_grace"
}

# Is there still something to watch? An entry that is gone takes nothing from the deadline.
rc_is_watched() {
    if rc_read_claim; then
        [ "$rc_by" = "$rc_call" ] || return
        rc_of="$rc_c $rc_cstart"
    elif [ -d "$rc_dir" ] && [ -z "$rc_of" ]; then
        return 1
    fi
    rc_c=${rc_of%% *} rc_cstart=${rc_of##* }
    if [ "$rc_of" ]; then
        rc_alive "$rc_c" "$rc_cstart"
    else
        rc_c=0 rc_cstart=0
        rc_alive "$rc_s" "$rc_sstart"
    fi
    case $? in
    1) return 1 ;;
    2) [ ! -e "$rc_dir/stop" ] || rc_left=0 ;;
    esac
    return 0
}

# The deadline's reason for stopping, written before anything is signalled. Fails when the end
# came first. Where the entry is gone there is nothing to write to, and what is damaged stays so.
rc_mark_deadline() {
    rc_tries=0
    while [ -d "$rc_dir" ] && [ "$rc_tries" -lt 60 ]; do
        rc_tries=$((rc_tries + 1))
        rc_mark_stop ExecutionTimeout deadline
        rc_read_exit && [ "$rc_xwhy" = - ] && return 1
        ! rc_read_stop || return 0
        rc_rest 1
    done
    return 0
}
