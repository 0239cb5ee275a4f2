# Ending a process tree: who belongs to it, the mark that says why, and the grace.
#
# It reaches what descends from the command, what shares its session or group, what carries
# the attempt's marker in its environment, and what is in its cgroup. The supervisor and its
# drains are in a session of their own and not reached: they record the end.

# The living members of the tree in rc_found, and in rc_moved who carried the marker and was
# gone before it could be told to whom it handed it on; 2 when this host offers no way to look.
# Needs rc_c, rc_cstart, rc_s, rc_sstart and rc_mark; rc_here is 1 when they are of this boot.
rc_scan() {
    rc_found= rc_moved=
    [ -r "$rc_proc/self/stat" ] || return 2
    rc_self
    rc_me=$rc_pid
    rc_find_carriers || return 2
    rc_table=$(cat "$rc_proc"/[0-9]*/stat 2>/dev/null)
    rc_set=$rc_carriers
    rc_read_table || return 2
    for rc_l in $rc_marked; do
        case $rc_nl$rc_rows in *"$rc_nl$rc_l "*) ;; *) rc_moved=$rc_l ;; esac
    done
    rc_ours=0
    if [ "$rc_here" = 1 ] && [ "$rc_c" -gt 1 ] 2>/dev/null; then
        if rc_alive "$rc_c" "$rc_cstart"; then
            rc_set="$rc_set$rc_c " rc_ours=1
        elif [ "$rc_start" = "$rc_cstart" ] && [ "$rc_pid" = "$rc_c" ] && [ -e "$rc_proc/$rc_c" ]; then
            rc_ours=1
        elif [ ! -e "$rc_proc/$rc_c" ]; then
            rc_session_is_ours && rc_ours=1
        fi
    fi
    rc_close_over
}

# Pids of who carries the marker or is in the attempt's cgroup, in rc_carriers; of the former
# alone in rc_marked. Not every grep looks behind a NUL: then the shell reads.
rc_find_carriers() {
    rc_marked=
    case ${rc_sees:-} in
    '') rc_sees=0; printf 'a\0b\n' | grep -q b && rc_sees=1 ;;
    esac
    rc_last_pid
    rc_next=$rc_w
    if [ "$rc_sees" = 1 ]; then
        rc_set=$(rc_print_carriers)
        [ $? -le 2 ] || return 1
        # Without a place for what grep reads nobody was asked.
        case $rc_set in +*) rc_set=${rc_set#+} ;; *) return 1 ;; esac
        for rc_f in $rc_set; do
            rc_f=${rc_f%/environ}
            rc_note_carrier "${rc_f##*/}"
        done
    else
        for rc_f in "$rc_proc"/[0-9]*; do rc_ask "${rc_f##*/}"; done
    fi
    rc_find_new_carriers
    rc_carriers=" $rc_marked"
    rc_find_scope || return 0
    for rc_f in $(find "$rc_scope" -name cgroup.procs 2>/dev/null); do
        while read -r rc_l; do
            # A process of another pid namespace is shown as 0.
            [ "$rc_l" = 0 ] || rc_carriers="$rc_carriers$rc_l "
        done 2>/dev/null <"$rc_f"
    done
    # The cgroup may go while it is looked at, with the last of its processes.
    return 0
}

# The marker is nobody else's business, and the arguments of a program are everybody's.
rc_print_carriers() {
    { echo +; exec grep -ls -f - "$rc_proc"/[0-9]*/environ; } <<EOF
REMOTE_COMMAND_RUN=$rc_mark
EOF
}

# Who came while the others were read: a process may hand the marker on and be gone before it
# is its turn. Without a fork, which would be one more that came. To strike, it waits for them.
# On a busy host there is always one more: then some of them have to do.
rc_find_new_carriers() {
    rc_tries=0 rc_most=200
    [ -z "${rc_strike:-}" ] || rc_most=2000
    while [ "$rc_tries" -lt "$rc_most" ] && rc_last_pid; do
        rc_tries=$((rc_tries + 1))
        # After the last pid there is they are given out from here again.
        [ "$rc_w" -ge "$rc_next" ] || rc_next=299
        if [ "$rc_w" -gt "$rc_next" ]; then
            rc_next=$((rc_next + 1))
            rc_ask "$rc_next"
        elif [ -z "${rc_strike:-}" ]; then
            return
        fi
    done
}

# The pid that was given out last, in rc_w. Fails where procfs does not tell (proc(5), loadavg).
rc_last_pid() {
    rc_w=0
    { read -r rc_t rc_t rc_t rc_t rc_w; } 2>/dev/null <"$rc_proc/loadavg"
    case $rc_w in '' | *[!0-9]*) rc_w=0; return 1 ;; esac
}

# Does process $1 carry the marker? A read drops NULs.
rc_ask() {
    while IFS= read -r rc_l || [ "$rc_l" ]; do
        case $rc_l in *"REMOTE_COMMAND_RUN=$rc_mark"*) rc_note_carrier "$1" ;; esac
    done 2>/dev/null <"$rc_proc/$1/environ"
}

# With rc_strike it is ended in the moment in which it is found.
rc_note_carrier() {
    rc_marked="$rc_marked$1 "
    [ -z "${rc_strike:-}" ] || kill -s KILL "$1" 2>/dev/null
}

# Removes the attempt's cgroup unless somebody is in it.
rc_leave_scope() {
    rc_find_scope || return 0
    rmdir "$rc_scope" 2>/dev/null || find "$rc_scope" -depth -type d -exec rmdir {} \; 2>/dev/null
}

# The table's lines as "pid parent group session", dead ones left out. A name may hold
# newlines: lines are joined until one ends like a line of the table, with more numbers than
# the 15 bytes of a name can pretend.
rc_read_table() {
    rc_rows= rc_acc= rc_sane=
    IFS=$rc_nl
    set -f
    for rc_l in $rc_table; do
        rc_acc=$rc_acc$rc_l
        case $rc_acc in *") "[A-Za-z]" "*" "*" "*" "*" "*" "*" "*" "*[0-9]) ;; *) continue ;; esac
        rc_pid=${rc_acc%% *}
        rc_acc=${rc_acc##*"$rc_paren"}
        rc_state=${rc_acc%% *} rc_acc=${rc_acc#* }
        rc_ppid=${rc_acc%% *} rc_acc=${rc_acc#* }
        rc_pgrp=${rc_acc%% *} rc_acc=${rc_acc#* }
        rc_sess=${rc_acc%% *} rc_later=$rc_acc rc_acc=
        [ "$rc_pid" = "$rc_me" ] && rc_sane=1
        case $rc_state in Z | X) rc_has_threads || continue ;; esac
        rc_rows="$rc_rows$rc_pid $rc_ppid $rc_pgrp $rc_sess$rc_nl"
    done
    set +f
    IFS=' 	
'
    [ "$rc_sane" ]
}

# Whether a process of the table whose first thread is over has others that live. rc_later is
# its line from its session on.
rc_has_threads() {
    IFS=' '
    set -- $rc_later
    IFS=$rc_nl
    [ "${15}" -gt 1 ]
}

# The command is gone. Its session's number is still its own when its supervisor waits for it, when
# somebody in the session carries the marker, or when somebody in it is older than the
# command's recorded end (start times are hundredths of a second): a number is not given
# anew while it is in use. Else it may have been.
rc_session_is_ours() {
    rc_read_exit || {
        rc_x5=0
        rc_alive "$rc_s" "$rc_sstart" && return 0
    }
    while read -r rc_pid rc_ppid rc_pgrp rc_sess; do
        [ "$rc_sess" = "$rc_c" ] || continue
        case $rc_carriers in *" $rc_pid "*) return 0 ;; esac
        rc_stat "$rc_pid" && [ "$rc_sess" = "$rc_c" ] && [ $((rc_start * 10)) -le "$rc_x5" ] && return 0
    done <<EOF
$rc_rows
EOF
    return 1
}

# Adds whoever has a member as parent, group leader or session leader, until nobody is left.
rc_close_over() {
    rc_more=1
    while [ "$rc_more" ]; do
        rc_more= rc_found=
        IFS=$rc_nl
        for rc_l in $rc_rows; do
            rc_pid=${rc_l%% *} rc_l=${rc_l#* }
            rc_ppid=${rc_l%% *} rc_l=${rc_l#* }
            rc_pgrp=${rc_l%% *} rc_sess=${rc_l#* }
            case $rc_pid in 1 | $$ | "$rc_me") continue ;; esac
            case $rc_set in
            *" $rc_pid "*) ;;
            *" $rc_ppid "* | *" $rc_pgrp "* | *" $rc_sess "*) rc_more=1 ;;
            *)
                [ "$rc_ours" = 1 ] || continue
                [ "$rc_sess" = "$rc_c" ] || [ "$rc_pgrp" = "$rc_c" ] || continue
                rc_more=1
                ;;
            esac
            rc_found="$rc_found $rc_pid:$rc_sess"
            case $rc_set in *" $rc_pid "*) ;; *) rc_set="$rc_set$rc_pid " ;; esac
        done
        IFS=' 	
'
    done
    return 0
}

# Sends signal $1 to what the last scan found, each looked at once more before.
rc_signal() {
    for rc_l in $rc_found; do
        rc_stat "${rc_l%:*}" && [ "$rc_sess" = "${rc_l#*:}" ] || continue
        kill -s "$1" "$rc_pid" 2>/dev/null
    done
    return 0
}

# Two scans in a row without a find. 2 when nobody can tell.
rc_is_empty() {
    rc_scan || return 2
    [ "$rc_found$rc_moved" ] && return 1
    rc_scan || return 2
    [ "$rc_found$rc_moved" ] && return 1
    # Where other users' processes are hidden (hidepid), one of them may be of the tree.
    rc_stat 1 || rc_group_is_gone || return 2
    return 0
}

# Whether the command's group is shown to have no member: kill fails for one that may not be
# signalled, too.
rc_group_is_gone() {
    [ "$rc_c" -gt 1 ] 2>/dev/null || return 1
    ! kill -s 0 -- "-$rc_c" 2>/dev/null || return 1
    case $(LC_ALL=C; kill -s 0 -- "-$rc_c" 2>&1) in *'o such process'*) return 0 ;; esac
    return 1
}

# Writes why it is stopped, for call $2. The first mark stays; 0 when this one is it.
rc_mark_stop() {
    [ -e "$rc_dir/stop" ] && return 1
    rc_uptime
    rc_private "$rc_dir/stop.$2" "$rc_token $1 $2 $rc_up $rc_token ." || return 1
    ln "$rc_file" "$rc_dir/stop" 2>/dev/null
}

rc_term() {
    rc_scan || {
        rc_group TERM
        return 2
    }
    rc_signal TERM
    rc_signal CONT
    return 0
}

# Where nobody can look, the deadline beside the command still ends its group: a pid whose
# parent has not recorded its end cannot have been given to another process.
rc_group() {
    [ "$rc_beside" ] && ! rc_read_exit || return 0
    kill -s "$1" -- "-$rc_c" 2>/dev/null || kill -s "$1" "$rc_c" 2>/dev/null
}

# KILL until two scans are empty, for about two seconds, and on a busy host five: whoever asked
# waits for the report.
rc_kill() {
    rc_i=0
    rc_uptime
    rc_latest=$((rc_up + 5000))
    while [ "$rc_i" -lt 20 ] && [ "$rc_up" -le "$rc_latest" ]; do
        rc_is_empty
        case $? in
        0) return 0 ;;
        2) rc_group KILL; return 2 ;;
        esac
        rc_signal KILL
        # What forks faster than it is found.
        [ -z "$rc_moved" ] || { rc_strike=1; rc_find_carriers; rc_strike=; }
        [ -z "$rc_scope" ] || { echo 1 >"$rc_scope/cgroup.kill"; } 2>/dev/null
        rc_tenth
        rc_i=$((rc_i + 1))
        rc_uptime
    done
    return 0
}

# The grace after TERM, timed here in case nobody comes back: seconds, then KILL.
rc_after_grace() {
    rc_left=$1
    while [ "$rc_left" -gt 0 ]; do
        rc_is_empty && return 0
        rc_rest 1
        rc_left=$((rc_left - 1))
    done
    rc_kill
}

# Sleeps $1 seconds so that a TERM ends the sleep as well: none is left behind.
rc_rest() {
    sleep "$1" 9>&- 2>/dev/null &
    rc_stands
    wait "$!"
    rc_slept=$? rc_rested=$!
}

# To be said once, on 9, by whoever has what it works with. From here on there is nobody who
# would hear it complain.
rc_stands() {
    [ -z "$rc_standing" ] || return 0
    rc_standing=1
    echo up >&9
    exec 9>&- 2>/dev/null
}

rc_restless() {
    rc_rested=$!
    trap '[ "$!" = "$rc_rested" ] || kill -s KILL "$!" 2>/dev/null; exit 0' TERM
    trap '' HUP INT QUIT
}
