# Processes, time and values. Read by the helper shell and by every supervisor.
#
# Everything is called rc_something, so that nothing of the account's environment is met.
# Builtins wherever they do: a fork costs more than all the rest. Files are made by true, not
# by a colon: a redirection that fails on a special builtin ends the shell.
# Set before this is read: rc_sh (the shell's path) and rc_proc (where procfs is mounted).

unset CDPATH
IFS=' 	
'
rc_nl='
'
rc_paren=') '
rc_standing=1

# A shell that ends because it cannot fork does not say so where the errors of what it was to
# start are thrown away. So whoever ends unasked tries once more, and is heard.
rc_last_words() { ( (exit 0); : ); }

# One value from stdin into rc_w. Lines start with + (more follow) or . (the last one), so
# that newlines need no quoting and nothing is ever parsed.
rc_word() {
    rc_w=
    while IFS= read -r rc_l; do
        case $rc_l in
        +*) rc_w=$rc_w${rc_l#?}$rc_nl ;;
        .*) rc_w=$rc_w${rc_l#?}; return 0 ;;
        *) return 1 ;;
        esac
    done
    return 1
}

# $1 bytes from stdin into the file $2. A read takes no more than is missing.
rc_bytes() {
    rc_left=$1
    true >"$2" || return 1
    while [ "$rc_left" -gt 0 ]; do
        rc_bs=$rc_left
        [ "$rc_bs" -le 65536 ] || rc_bs=65536
        dd bs="$rc_bs" count=1 2>/dev/null >>"$2" || return 1
        rc_n=$(wc -c <"$2") || return 1
        rc_n=$(($1 - rc_n))
        [ "$rc_n" -lt "$rc_left" ] || return 1
        rc_left=$rc_n
    done
}

# What procfs says of process $1 (or self, which is the shell that calls). Fails when it is gone.
rc_stat() {
    rc_line=
    {
        while IFS= read -r rc_piece; do rc_line=$rc_line$rc_piece; done
    } 2>/dev/null <"$rc_proc/$1/stat" || return 1
    [ "$rc_line" ] || return 1
    rc_pid=${rc_line%% *}
    set -- ${rc_line##*"$rc_paren"}
    rc_state=$1 rc_ppid=$2 rc_pgrp=$3 rc_sess=$4 rc_threads=${18} rc_start=${20}
}

# This very shell, subshells included: rc_pid and rc_start.
rc_self() {
    rc_stat self && return 0
    rc_pid=$(exec "$rc_sh" -c 'echo $PPID') rc_start=0
}

# Is the process with pid $1 and start time $2 alive? 2 when nobody can tell.
rc_alive() {
    [ "$2" != 0 ] && [ -r "$rc_proc/self/stat" ] || return 2
    rc_stat "$1" && [ "$rc_start" = "$2" ] || return 1
    # A first thread that is over may leave others of its process behind.
    case $rc_state in Z | X) [ "$rc_threads" -gt 1 ] ;; esac
}

rc_life() {
    rc_alive "$1" "$2"
    case $? in 0) rc_w=alive ;; 1) rc_w=gone ;; *) rc_w=cannot ;; esac
}

# Milliseconds since boot in rc_up; 0 when nobody can tell.
rc_uptime() {
    rc_up=
    { read -r rc_up rc_piece; } 2>/dev/null <"$rc_proc/uptime"
    case $rc_up in
    *[!0-9.]* | '') rc_up=0 ;;
    0.*) rc_up=1 ;;
    *.*) rc_up=${rc_up%.*}${rc_up#*.}0 ;;
    *) rc_up=${rc_up}000 ;;
    esac
}

# A whole second is what every sleep can do; a tenth where it can.
rc_tenth() { sleep 0.1 2>/dev/null || sleep 1; }

# A finished private file $1 with the line $2. On a full disk the line goes in place into
# the entry's spare record, which has its blocks since Prepare. rc_file is what was written.
rc_private() {
    rc_file=$1
    { echo "$2" >"$1"; } 2>/dev/null && return 0
    rc_file=$rc_dir/spare
    [ -e "$rc_file" ] && { echo "$2" 1<>"$rc_file"; } 2>/dev/null
}

# What of the token rc_token may be seen: names of files and of cgroups are in the arguments of
# programs, which every user of the host can read. Whole it is in records and environments only.
# (Earlier builds named both by the whole token.)
rc_halve() { rc_half=${rc_token%????????????????}; }

# The claim: who took this entry. Fails while nobody has, or when it is damaged.
# rc_kind is launch or revoke; rc_c, rc_s, rc_d are command, supervisor and the deadline's watch,
# and rc_p the two drains, with a dot between them, as their start times have. (Of an older
# launch it is one process, which says nothing about them.)
rc_read_claim() {
    rc_kind= rc_by= rc_t=
    {
        read -r rc_t rc_kind rc_by rc_s rc_sstart rc_c rc_cstart rc_p rc_pstart rc_d rc_dstart \
            rc_cup rc_cboot rc_t2 rc_l
    } 2>/dev/null <"$rc_dir/claim"
    [ "$rc_t" = "$rc_token" ] && [ "$rc_t2" = "$rc_token" ] && [ "$rc_l" = . ] && return 0
    rc_kind= rc_by= rc_t=
    return 1
}

# The stop mark: rc_why and by which call. A line that is not whole is none.
rc_read_stop() {
    rc_why= rc_t=
    { read -r rc_t rc_why rc_whose rc_wup rc_t2 rc_l; } 2>/dev/null <"$rc_dir/stop"
    [ "$rc_t" = "$rc_token" ] && [ "$rc_t2" = "$rc_token" ] && [ "$rc_l" = . ] && return 0
    rc_why= rc_t=
    return 1
}

# The exit record: rc_exit, and in rc_xwhy the stop mark that stood before it, or -. Until it
# is written its place says when it was reserved, and after the claim that it was taken.
rc_read_exit() {
    rc_exit= rc_t=
    {
        read -r rc_t rc_x2 rc_x3 rc_x4 rc_x5 rc_xwhy rc_t2 rc_x8 rc_l
    } 2>/dev/null <"$rc_dir/exit"
    [ "$rc_t" = "$rc_token" ] && [ "$rc_t2" = "$rc_token" ] || return 1
    [ "$rc_x2" = "$rc_x8" ] && [ "$rc_l" = . ] || return 1
    rc_exit="$rc_t $rc_x2 $rc_x3 $rc_x4 $rc_x5 $rc_xwhy $rc_t2 $rc_x8 $rc_l"
}

# The attempt's cgroup, in rc_scope: the one that was made for it, else the one on record,
# else, where there is no record any more, the one of its name. Fails when it has none.
rc_find_scope() {
    rc_halve
    rc_is_scope && return 0
    rc_scope=
    if [ "$rc_dir" ]; then
        { IFS= read -r rc_scope; } 2>/dev/null <"$rc_dir/scope"
    elif [ "$rc_cgroups" ]; then
        rc_scope=$(find "$rc_cgroups" -type d -name "remote-command.$rc_half*" 2>/dev/null)
    fi
    rc_is_scope && return 0
    rc_scope=
    return 1
}

rc_is_scope() {
    case $rc_scope in
    */"remote-command.$rc_half" | */"remote-command.$rc_token") [ -d "$rc_scope" ] ;;
    *) return 1 ;;
    esac
}
