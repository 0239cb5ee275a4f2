# The supervisor: one for each launch. It outlives the connection, the helper shell and
# the operator.
#
#   first process ─ out drain
#                 └ ─ err drain
#                   └ supervisor ─ the command, in its foreground, in a session of its own
#                                └ the host's own deadline
#
# Nothing above the command is started with &: SIGINT would be ignored for good.

# Arguments: directory, marker, call, output limit in bytes, seconds to the deadline, seconds
# of grace, setsid's path or -, the account's umask, its LC_ALL as =value or -, boot identity,
# what the word to the launcher starts with, and the login's cgroup or -. The inputs are on
# stdin; the word goes to 7.
rc_supervise() {
    umask 077
    trap : HUP INT QUIT TERM
    unset REMOTE_COMMAND_PROGRAM
    rc_dir=$1 rc_mark=$2 rc_call=$3 rc_limit=$4 rc_deadline=$5 rc_grace=$6
    rc_setsid=$7 rc_umask=$8 rc_lc=$9 rc_boot=${10} rc_say=${11} rc_cgroup=${12}
    rc_token=${rc_mark##*/}
    rc_begin=ran rc_words=0
    rc_self
    rc_p=$rc_pid rc_pstart=$rc_start
    # A request that is sent twice is two launches: what they write must have two names.
    rc_asked=$rc_call rc_call=$rc_call.$rc_p
    read -r rc_nargs rc_nenv rc_script rc_stdin && rc_word || rc_refuse 'the inputs were cut short'
    rc_wd=$rc_w rc_path=$PATH
    set --
    while [ "$rc_nenv" -gt 0 ]; do
        rc_word || rc_refuse 'the inputs were cut short'
        set -- "$@" "$rc_w"
        rc_name=$rc_w
        rc_word || rc_refuse 'the inputs were cut short'
        set -- "$@" "$rc_w"
        rc_check_env
        rc_nenv=$((rc_nenv - 1))
    done
    set -- "$@" ''
    [ "$rc_setsid" = - ] || set -- "$@" "$rc_setsid" --
    while [ "$rc_nargs" -gt 0 ]; do
        rc_word || rc_refuse 'the inputs were cut short'
        set -- "$@" "$rc_w"
        [ "$rc_words" = 0 ] && rc_program=$rc_w
        rc_words=1
        rc_nargs=$((rc_nargs - 1))
    done
    if [ "$rc_script" != - ]; then
        rc_bytes "$rc_script" "$rc_dir/script.$rc_call" || rc_refuse 'the script could not be written'
        set -- "$@" "$rc_dir/script.$rc_call"
    fi
    rc_input=/dev/null
    if [ "$rc_stdin" != - ]; then
        rc_input=$rc_dir/stdin.$rc_call
        rc_bytes "$rc_stdin" "$rc_input" || rc_refuse 'stdin could not be written'
    fi
    read -r rc_l && [ "$rc_l" = "$rc_asked" ] || rc_refuse 'the inputs were cut short'
    exec 0</dev/null
    # exec, because a redirected function keeps copies of what it replaced.
    {
        { exec 2>&1 >&4 4>&-; rc_run "$@"; } | { exec 4>&- 7>&- >/dev/null; rc_drain err; }
    } 4>&1 | { exec 7>&-; rc_drain out; }
}

rc_refuse() {
    rm -f "$rc_dir/script.$rc_call" "$rc_dir/stdin.$rc_call"
    rc_turn_down "$1"
    exit 1
}

# The word that nothing starts. On a channel of its own it is a report, with its end.
rc_turn_down() {
    echo "${rc_say}refused $1" >&7
    [ -z "$rc_say" ] || echo "${rc_say}end" >&7
}

# A few names cannot be set in some shells. That is found out before anything starts.
rc_check_env() {
    case $rc_name in
    UID | EUID | GID | EGID | PPID | OPTIND | SHELLOPTS | BASHOPTS | BASH_* | GROUPS | FUNCNAME | PIPESTATUS | _) ;;
    PATH) rc_path=$rc_w; return ;;
    *) return ;;
    esac
    rc_l=$( { [ "$rc_name" = OPTIND ] || unset "$rc_name"; eval "$rc_name=\$rc_w"; eval "printf %s. \"\$$rc_name\""; } 2>/dev/null)
    [ "$rc_l" = "$rc_w." ] || rc_begin=denied rc_flaw="$rc_name cannot be set by this host's shell"
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
    trap : HUP INT QUIT TERM
    rc_self
    rc_s=$rc_pid rc_sstart=$rc_start
    rc_check_program
    { exec 8<"$rc_input"; } 2>/dev/null || exec 8</dev/null
    [ "$rc_input" = /dev/null ] || rm -f "$rc_input"
    rc_make_scope
    { exec </dev/null >/dev/null 2>&1 7>&- 8>&-; rc_watch; } &
    rc_d=$! rc_dstart=0
    rc_stat "$rc_d" && rc_dstart=$rc_start
    # Some shells say on stderr that a signal ended what they waited for. The command did not
    # write that, so it goes elsewhere.
    exec 9>&2 2>/dev/null
    (exec 2>&9 9>&-; rc_become "$@")
    rc_code=$?
    exec 7>&- 8>&- 9>&- >/dev/null
    rc_w=$rc_d
    if rc_read_claim && [ "$rc_by" = "$rc_call" ]; then
        rc_record
    else
        rm -f "$rc_dir/claim.$rc_call"
    fi
    rc_read_stop && [ "$rc_whose" = deadline ] || kill -s TERM "$rc_w" 2>/dev/null
    [ "$rc_script" = - ] || rm -f "$rc_dir/script.$rc_call"
    [ -z "$rc_scope" ] || rc_leave_scope
}

# A cgroup of the attempt's own, where one can be had: what the command starts may leave its
# session, its parents and its environment, but not this. On record before anybody is in it.
rc_make_scope() {
    rc_scope= rc_cgroups=
    [ "$rc_cgroup" != - ] || return
    rc_scope=$rc_cgroup/remote-command.$rc_token
    { [ -d "$rc_scope" ] || mkdir "$rc_scope"; } 2>/dev/null &&
        { echo "$rc_scope" >"$rc_dir/scope"; } 2>/dev/null || rc_scope=
}

# The process that becomes the command. It claims the entry with its own pid and start time,
# and from the claim on does nothing but exec.
rc_become() {
    rc_self
    rc_uptime
    rc_l="$rc_token launch $rc_call $rc_s $rc_sstart $rc_pid $rc_start"
    rc_l="$rc_l $rc_p $rc_pstart $rc_d $rc_dstart $rc_up $rc_boot $rc_token ."
    if ! { echo "$rc_l" >"$rc_dir/claim.$rc_call"; } 2>/dev/null; then
        rc_turn_down 'the claim could not be written'
        exit 0
    fi
    [ -z "$rc_scope" ] || { echo "$rc_pid" >"$rc_scope/cgroup.procs"; } 2>/dev/null
    ln "$rc_dir/claim.$rc_call" "$rc_dir/claim" 2>/dev/null
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
    exec 7>&- 0<&8 8>&-
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
        { [ "$1" = OPTIND ] || unset "$1"; eval "$1=\$2"; export "$1"; } 2>/dev/null
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
        rc_sig=$(kill -l "$rc_n" 2>/dev/null)
        rc_sig=${rc_sig#SIG}
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

# The deadline that needs no operator, and no record. It ends with the command.
rc_watch() {
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

# Stores stream $1 up to the limit and goes on reading ever after, so that the command is
# neither blocked nor ended by SIGPIPE. dd writes what it read at once and never reads more
# than asked for.
rc_drain() {
    trap '' HUP INT QUIT TERM
    # A limit on the size of files is an error of dd's, and not the end of it.
    (trap '' XFSZ) 2>/dev/null && trap '' XFSZ
    rc_f=$rc_dir/$1 rc_got=0 rc_end=
    rc_cut=0
    while rc_n=$((rc_limit - rc_got)); [ "$rc_n" -gt 0 ]; do
        rc_bs=1
        [ "$rc_n" -lt 65536 ] || { rc_bs=65536 rc_n=$((rc_n / 65536)); }
        rc_r=$(LC_ALL=C dd bs="$rc_bs" count="$rc_n" 2>&1 >>"$rc_f")
        rc_rc=$?
        rc_was=$rc_got
        [ ! -s "$rc_f" ] || rc_got=$(($(wc -c <"$rc_f")))
        # Ended by a signal it has written what it read; by ourselves only after a Sweep.
        [ "$rc_rc" -le 128 ] || [ -e "$rc_dir/swept" ] || continue
        [ "$rc_rc" = 0 ] || break
        rc_r=${rc_r%% *}
        case $rc_r in
        [0-9]*+[0-9]*) [ $(($rc_r)) -lt "$rc_n" ] && rc_end=1 ;;
        *) [ "$rc_got" = "$rc_was" ] && rc_end=1 ;;
        esac
        [ -z "$rc_end" ] || break
    done
    if [ -z "$rc_end" ]; then
        rc_r=$(LC_ALL=C dd bs=1 count=1 2>&1 >/dev/null)
        case $rc_r in 1+0*) rc_cut=1 ;; esac
        [ "${rc_rc:-0}" = 0 ] || [ -e "$rc_dir/swept" ] || rc_cut=1
        [ "$rc_cut" = 0 ] || { true >"$rc_f.cut"; } 2>/dev/null
        until dd bs=65536 >/dev/null 2>&1; do sleep 1; done
    fi
    # A launch that lost has no say about the output of the one that won.
    rc_read_claim && [ "$rc_by" = "$rc_call" ] || return
    while [ -d "$rc_dir" ] && [ ! -e "$rc_dir/swept" ]; do
        { echo "$rc_got $rc_cut" >"$rc_f.end"; } 2>/dev/null
        [ ! -e "$rc_f.end" ] || break
        sleep 1
    done
}
