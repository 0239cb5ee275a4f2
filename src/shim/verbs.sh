# The verbs, one request after the other. Helper shell only.
#
# A request is a line "NONCE verb call uid run-attempt token words..."; the answer is lines
# that begin with the nonce, up to "NONCE end". Every verb acts on the entry it names and
# on no other, may be repeated, may be late, and never waits long.

rc_reply() { rc_out="$rc_out$rc_nonce $1$rc_nl"; }

# Points rc_dir at the entry of the request in the store $1; fails when it is not there.
# Earlier builds named it by the whole token.
rc_find_entry() {
    rc_halve
    for rc_l in "$rc_half" "$rc_token" "$rc_half"; do
        rc_dir=$1/$rc_uid_of/$rc_name-$rc_l
        [ ! -d "$rc_dir" ] || return 0
    done
    return 1
}

# Points rc_dir at the entry of the request; fails when it is not there (any more). Then
# rc_tomb tells whether it was swept.
rc_enter() {
    rc_dir= rc_tomb=
    for rc_at in "$rc_c1" "$rc_c2" "$rc_c3"; do
        [ "$rc_at" ] && rc_find_entry "$rc_at" && rc_is_trusted "$rc_at" || continue
        [ ! -e "$rc_dir/swept" ] || { rc_tomb=1; continue; }
        [ -e "$rc_dir/exit" ] || continue
        rc_store_id "$rc_at"
        if [ ! -e "$rc_dir/claim" ]; then
            # Taken once, or stopped, and no claim: somebody took files away. That proves
            # nothing either. (The claim may have come in between.)
            rc_read_exit
            [ "$rc_t" != "$rc_token" ] && [ ! -e "$rc_dir/stop" ] && rc_is_reserved ||
                [ -e "$rc_dir/claim" ] || break
        fi
        return 0
    done
    rc_dir=
    [ "$rc_sid" ] || rc_store_id "$rc_store"
    return 1
}

# Was what rc_read_exit has read reserved for this very token? Earlier builds had it in the
# directory's name alone.
rc_is_reserved() { [ "$rc_x4" = "$rc_token" ] || [ -z "$rc_x4" ]; }

# Creates the entry and reserves what must be writable later. Starts nothing.
rc_prepare() {
    rc_open_store "$rc_call$rc_call" || rc_unusable "$rc_flaw"
    rc_find_entry "$rc_store" || mkdir -p -- "$rc_dir" 2>/dev/null || rc_unusable "$rc_dir cannot be made"
    if [ ! -e "$rc_dir/swept" ]; then
        rc_uptime
        set -C
        for rc_f in "$rc_dir/spare" "$rc_dir/exit"; do
            [ -e "$rc_f" ] && continue
            { echo "prepared ${rc_boot:--} $rc_up $rc_token $rc_blank" >"$rc_f"; } 2>/dev/null && continue
            set +C
            [ -s "$rc_f" ] || { rm -f -- "$rc_f"; rc_unusable "the disk of $rc_store is full"; }
            set -C
        done
        set +C
    fi
    rc_report_at
}

rc_report_at() {
    rc_uptime
    rc_reply "at $rc_machine ${rc_boot:--} ${rc_sid:--} $rc_up $rc_can"
}

# The record as it is. $1 is look, where the tree is to be searched in any case.
rc_report() {
    rc_tree=unsearched
    if ! rc_enter; then
        rc_report_at
        rc_reply 'entry wiped'
    elif ! rc_read_claim; then
        rc_report_at
        if [ -s "$rc_dir/claim" ]; then rc_reply 'entry wiped'; else rc_reply 'entry unclaimed'; fi
        [ "$1" != look ] || rc_look_for_nobody
    elif [ "$rc_kind" = revoke ]; then
        rc_report_at
        [ "$1" != look ] || rc_look_for_nobody
        # Of another boot it proves nothing: a launch's claim may have been lost with the power.
        if [ "$rc_cboot" = "${rc_boot:--}" ]; then rc_reply 'entry revoked'; else rc_reply 'entry unclaimed'; fi
    else
        rc_report_claimed "$1"
    fi
}

# Of an entry that no process has taken only the marker could be found.
rc_look_for_nobody() {
    rc_here=0 rc_s=0 rc_sstart=0 rc_c=0 rc_cstart=0
    rc_look
}

rc_report_claimed() {
    rc_here=0 rc_lives='gone gone gone'
    if [ "$rc_cboot" = "${rc_boot:--}" ]; then
        rc_here=1
        rc_life "$rc_s" "$rc_sstart"
        rc_lives=$rc_w
        rc_life "$rc_c" "$rc_cstart"
        rc_lives="$rc_lives $rc_w"
        rc_life "$rc_d" "$rc_dstart"
        rc_lives="$rc_lives $rc_w"
    fi
    [ "$rc_boot" ] || rc_lives='cannot cannot cannot'
    # The exit record is read after the processes: it may have come in between.
    rc_report_at
    rc_reply 'entry claimed'
    rc_reply "claim $rc_s $rc_sstart $rc_c $rc_cstart $rc_cup $rc_cboot $rc_lives"
    rc_mark=$rc_uid_of/${rc_name%%-*}/${rc_name#*-}
    rc_mark=${rc_mark%v}/$rc_token
    # Before the look: whoever held a stream that has ended is then not named as alive.
    rc_read_exit
    rc_report_output out "${rc_p%.*}" "${rc_pstart%.*}"
    rc_report_output err "${rc_p#*.}" "${rc_pstart#*.}"
    if [ "$rc_exit" ]; then
        rc_reply "exit $rc_exit"
        if [ "$rc_xwhy" = - ]; then rc_look_left; else rc_reply "stop $rc_xwhy"; rc_look; fi
    elif rc_read_stop; then
        rc_reply "stop $rc_why"
        rc_look
    elif [ "$1" = look ]; then
        rc_look
    fi
}

# Stream, and pid and start time of its drain. One that is gone without its end mark will store
# nothing more, and what it had not stored yet is lost.
rc_report_output() {
    rc_size "$rc_dir/$1"
    if [ "$rc_ended" = 0 ] && rc_drain_is_gone "$2" "$3"; then
        rc_size "$rc_dir/$1"
        [ "$rc_ended" = 1 ] || rc_ended=1 rc_cut=1
    fi
    [ ! -e "$rc_dir/$1.cut" ] || rc_cut=1
    rc_reply "output $1 $rc_n $rc_cut $rc_ended"
}

rc_drain_is_gone() {
    [ "$rc_boot" ] || return 1
    case $rc_p in *.*) ;; *) return 1 ;; esac
    [ "$rc_here" = 1 ] || return 0
    rc_alive "$1" "$2"
    [ $? = 1 ]
}

# Bytes in $1 that can be read, whether that is all there will be, and whether there was more.
rc_size() {
    rc_n= rc_ended=0 rc_cut=0
    if [ -e "$1.end" ]; then
        rc_ended=1
        { read -r rc_n rc_cut; } 2>/dev/null <"$1.end"
        [ "$rc_cut" = 1 ] || rc_cut=0
    fi
    case $rc_n in
    '' | *[!0-9]*) if [ -s "$1" ]; then rc_n=$(($(wc -c <"$1"))); else rc_n=0; fi ;;
    esac
}

# What a finished command left running. One look for the marker says no in most cases.
rc_look_left() {
    if [ "$rc_boot" ] && rc_group_is_gone; then
        if rc_find_carriers && [ "$rc_carriers" = ' ' ]; then
            rc_tree=empty
            return
        fi
    fi
    rc_look
}

# Those that have ended before they could be named are no answer: then it is looked again. Who
# hands the marker on each time it is looked is named by its last pid.
rc_look() {
    rc_looks=0 rc_named= rc_hops=0
    while [ -z "$rc_named" ] && [ "$rc_looks" -lt 3 ]; do
        rc_is_empty
        case $? in
        0) rc_tree=empty; return ;;
        2) rc_tree=cannot; return ;;
        esac
        rc_tree=alive
        rc_name_found
        [ -z "$rc_moved" ] || rc_hops=$((rc_hops + 1))
        rc_looks=$((rc_looks + 1))
    done
    [ "$rc_named" ] || [ "$rc_hops" -lt 3 ] || rc_name_moved
}

rc_name_found() {
    for rc_l in $rc_found; do
        rc_l=${rc_l%:*} rc_comm=
        rc_stat "$rc_l" || continue
        case $rc_state in Z | X) [ "$rc_threads" -gt 1 ] || continue ;; esac
        { IFS= read -r rc_comm; } 2>/dev/null <"$rc_proc/$rc_l/comm" || [ "$rc_comm" ] || continue
        rc_find_owner "$rc_l"
        rc_reply "left $rc_l $rc_owner $rc_comm"
        rc_named=1
    done
}

# Whose it was cannot be read any more: most likely ours.
rc_name_moved() {
    rc_find_owner self
    rc_reply "left $rc_moved $rc_owner (moves on)"
}

# The user who process $1 belongs to, in rc_owner.
rc_find_owner() {
    rc_owner=0
    while read -r rc_t rc_w rc_x; do
        case $rc_t in Uid:) rc_owner=$rc_w; break ;; esac
    done 2>/dev/null <"$rc_proc/$1/status"
}

# Words: boot, store, latest uptime, output limit, seconds to the deadline, seconds of grace,
# and helper or channel: whether this shell serves on, or becomes the supervisor itself.
# After anything but a start the inputs are still on the wire: the shell ends.
rc_launch() {
    rc_uptime
    rc_refusal=
    # Whoever took it may be another copy of this request.
    if rc_enter && [ -e "$rc_dir/claim" ]; then rc_report; rc_over; fi
    if [ "$1" != "${rc_boot:--}" ]; then
        rc_refusal='the host was started anew since it was prepared'
    elif [ -z "$rc_dir" ]; then
        :
    elif [ "$2" != "$rc_sid" ]; then
        rc_refusal='the store is not the one that was prepared'
    elif [ "$rc_up" -gt "$3" ]; then
        rc_refusal='the launch came too late'
    fi
    [ -z "$rc_refusal" ] || { rc_reply "refused changed $rc_refusal"; rc_over; }
    [ "$rc_dir" ] && [ ! -e "$rc_dir/claim" ] || { rc_report; rc_over; }
    rc_mark=$rc_uid_of/${rc_name%%-*}/${rc_name#*-}
    rc_mark=${rc_mark%v}/$rc_token
    rc_limit=$4 rc_deadline=$5 rc_grace=$6
    if [ "$7" = channel ]; then
        exec 7>&1 >/dev/null
        rc_boot=${rc_boot:--} rc_say="$rc_nonce "
        rc_supervise
        exit
    fi
    REMOTE_COMMAND_PROGRAM="rc_sh='$rc_sh' rc_proc='$rc_proc'$rc_nl$rc_run" \
        rc_dir=$rc_dir rc_mark=$rc_mark rc_call=$rc_call rc_limit=$rc_limit rc_deadline=$rc_deadline \
        rc_grace=$rc_grace rc_setsid=$rc_setsid rc_umask=$rc_umask rc_lc=$rc_lc \
        rc_boot=${rc_boot:--} rc_say= rc_cgroup=$rc_cgroup \
        "$rc_setsid" -f -- "$rc_sh" -c 'eval "$REMOTE_COMMAND_PROGRAM"; rc_supervise' \
        remote-command 7>&1 >/dev/null 2>&7 |
        (
            while read -r rc_w rc_l; do
                case $rc_w in
                claimed | lost) exit 0 ;;
                refused) printf '%s refused %s\n' "$rc_nonce" "$rc_l"; exit 3 ;;
                *) printf '%s said %s\n' "$rc_nonce" "$rc_w $rc_l" ;;
                esac
            done
            exit 4
        )
    rc_rc=$?
    [ "$rc_rc" = 3 ] || rc_report
    # Nobody is left who could have claimed, or could yet.
    [ "$rc_rc" != 4 ] || [ -e "$rc_dir/claim" ] || rc_reply unstarted
    [ "$rc_rc" = 0 ] || rc_over
}

rc_over() {
    rc_reply over
    printf '%s' "$rc_out"
    echo "$rc_nonce end"
    rc_busy=
    exit 0
}

# Words: reason, grace or - for Kill, then the saved boot and processes or -: boot S start C start.
rc_stop() {
    rc_mark=$rc_uid_of/${rc_name%%-*}/${rc_name#*-}
    rc_mark=${rc_mark%v}/$rc_token
    if ! rc_enter && [ "$rc_tomb" ]; then
        # What a finished command left running lives on, whoever asks late.
        rc_report
        return
    fi
    if [ -z "$rc_dir" ]; then
        rc_here=0 rc_s=0 rc_sstart=0 rc_c=0 rc_cstart=0
        [ "$3" = - ] || [ "$3" != "$rc_boot" ] || rc_here=1 rc_s=$4 rc_sstart=$5 rc_c=$6 rc_cstart=$7
        if [ "$2" = - ]; then rc_kill; else rc_term; fi
        rc_report
        rc_look
        return
    fi
    if rc_read_claim && [ "$rc_kind" = launch ]; then
        rc_here=0
        [ "$rc_cboot" != "${rc_boot:--}" ] || rc_here=1
        rc_stop_claimed "$1" "$2"
    fi
    rc_report look
}

rc_stop_claimed() {
    if rc_read_exit && [ "$rc_xwhy" = - ]; then return; fi
    rc_first=
    rc_mark_stop "$1" "$rc_call" && rc_first=1
    if ! rc_read_stop; then
        rc_reply 'fault the reason for stopping could not be written: nothing was signalled'
        return
    fi
    # The end may have come before the mark; and a command that is gone while its
    # supervisor lives has ended: its record is on the way.
    if rc_read_exit && [ "$rc_xwhy" = - ]; then return; fi
    if [ "$rc_here" = 1 ] && rc_alive "$rc_s" "$rc_sstart"; then
        kill -s CONT "$rc_s" 2>/dev/null
        if [ "$rc_first" ] && ! rc_alive "$rc_c" "$rc_cstart"; then return; fi
    fi
    if [ "$2" = - ]; then
        rc_kill
    else
        rc_term
        [ "$rc_first" ] || return
        { exec </dev/null >/dev/null 2>&1; rc_restless; rc_after_grace "$2"; } &
    fi
}

# Words: boot, store. Takes the claim, so that no launch of this entry can ever win.
rc_revoke() {
    if rc_enter && [ ! -e "$rc_dir/claim" ] && [ "$1" = "${rc_boot:--}" ] && [ "$2" = "$rc_sid" ]; then
        rc_uptime
        rc_take_back || [ -e "$rc_dir/claim" ] ||
            rc_reply 'fault the claim could not be taken back: nothing can be written to the store'
    fi
    rc_report
}

rc_take_back() {
    rc_l="$rc_token revoke $rc_call - - - - - - - - $rc_up ${rc_boot:--} $rc_token ."
    rc_private "$rc_dir/claim.$rc_call" "$rc_l" && ln "$rc_file" "$rc_dir/claim" 2>/dev/null
}

# Removes the files of every entry of the object that has ended, been stopped or never
# started, and leaves the claim: a tombstone. Ends no process of the command.
rc_sweep() {
    for rc_at in "$rc_c1" "$rc_c2" "$rc_c3"; do
        [ "$rc_at" ] && [ -d "$rc_at/$rc_uid_of" ] && rc_is_trusted "$rc_at" || continue
        for rc_dir in "$rc_at/$rc_uid_of"/*-*-*; do
            [ -d "$rc_dir" ] || continue
            rc_find_token
            rc_sweep_entry
        done
    done
    rc_report_at
    rc_reply swept
}

rc_sweep_entry() {
    rc_uptime
    [ -e "$rc_dir/claim" ] || [ -e "$rc_dir/swept" ] || rc_take_back
    if rc_read_claim && [ "$rc_kind" = launch ] && [ "$rc_cboot" = "${rc_boot:--}" ] &&
        ! rc_read_exit && ! rc_read_stop; then
        ! rc_alive "$rc_s" "$rc_sstart" && ! rc_alive "$rc_c" "$rc_cstart" || return
    fi
    rc_open_drains=
    [ "$rc_kind" = launch ] && { [ ! -e "$rc_dir/out.end" ] || [ ! -e "$rc_dir/err.end" ]; } && rc_open_drains=1
    { true >"$rc_dir/swept"; } 2>/dev/null || rm -f -- "$rc_dir/out" "$rc_dir/err"
    { true >"$rc_dir/swept"; } 2>/dev/null
    rc_scope=
    rc_leave_scope
    set --
    for rc_f in "$rc_dir"/*; do
        case $rc_f in
        */claim | */swept) continue ;;
        # What was left running is in there, and is looked for again when this one expires.
        */scope) rc_find_scope && continue ;;
        esac
        set -- "$@" "$rc_f"
    done
    [ $# = 0 ] || rm -f -- "$@"
    [ -z "$rc_open_drains" ] || rc_release_drains
}

# A drain that a background child holds open has its dd ended, and goes on without storing.
rc_release_drains() {
    rc_set=' ' rc_ours=0
    case $rc_p in *.*) ;; *) return 0 ;; esac
    rc_alive "${rc_p%.*}" "${rc_pstart%.*}" && rc_set=" $rc_pid "
    rc_alive "${rc_p#*.}" "${rc_pstart#*.}" && rc_set="$rc_set$rc_pid "
    [ "$rc_set" != ' ' ] || return 0
    rc_roots=$rc_set
    rc_self
    rc_me=$rc_pid
    rc_table=$(cat "$rc_proc"/[0-9]*/stat 2>/dev/null)
    rc_read_table || return 0
    rc_close_over_children
    for rc_l in $rc_found; do
        # One that has become dd itself stores nothing any more.
        case $rc_roots in *" $rc_l "*) continue ;; esac
        { IFS= read -r rc_comm; } 2>/dev/null <"$rc_proc/$rc_l/comm" && [ "$rc_comm" = dd ] || continue
        kill -s KILL "$rc_l" 2>/dev/null
    done
}

rc_close_over_children() {
    rc_more=1
    while [ "$rc_more" ]; do
        rc_more= rc_found=
        while read -r rc_pid rc_ppid rc_pgrp rc_sess; do
            case $rc_set in
            *" $rc_pid "*) rc_found="$rc_found $rc_pid" ;;
            *" $rc_ppid "*)
                [ "$rc_pid" != "$rc_c" ] || continue
                rc_set="$rc_set$rc_pid " rc_more=1
                ;;
            esac
        done <<EOF
$rc_rows
EOF
    done
}

# Words: out or err, offset, most bytes. Answers with a count and that many bytes.
rc_read() {
    rc_n=0
    if rc_enter; then
        rc_f=$rc_dir/$1
        rc_size "$rc_f"
        rc_n=$((rc_n - $2))
        [ "$rc_n" -le "$3" ] || rc_n=$3
        [ "$rc_n" -ge 0 ] || rc_n=0
    fi
    rc_report_at
    rc_reply "bytes $rc_n"
    printf '%s' "$rc_out"
    [ "$rc_n" = 0 ] || rc_send "$2" <"$rc_f"
    rc_out=
}

# rc_n bytes of stdin, which is a file, from offset $1 on. The offset is reached by seeking,
# in blocks: dd counts in blocks and shares the file's position with the next dd.
rc_send() {
    if [ "$rc_n" -le 1024 ]; then
        dd bs=1 skip="$1" count="$rc_n" 2>/dev/null
        return
    fi
    rc_skip=$(($1 / 65536)) rc_odd=$(($1 % 65536))
    if [ "$rc_odd" != 0 ]; then
        [ "$rc_skip" = 0 ] || dd bs=65536 skip="$rc_skip" count=0 2>/dev/null
        dd bs="$rc_odd" skip=1 count=0 2>/dev/null
        rc_skip=0
    fi
    rc_blocks=$((rc_n / 65536)) rc_n=$((rc_n % 65536))
    if [ "$rc_blocks" != 0 ]; then
        dd bs=65536 skip="$rc_skip" count="$rc_blocks" 2>/dev/null
        rc_skip=0
    fi
    [ "$rc_n" != 0 ] || return
    [ "$rc_skip" = 0 ] || dd bs=65536 skip="$rc_skip" count=0 2>/dev/null
    dd bs="$rc_n" count=1 2>/dev/null
}

# First words of a helper shell: who it is, and where it keeps what.
# $1 is the user's name when the shell runs as another user, else -.
rc_hello() {
    rc_as=$1 rc_out= rc_sid= rc_busy=1
    trap '[ -z "$rc_busy" ] || rc_last_words' EXIT
    rc_word || exit 1
    rc_named=$rc_w
    [ "$rc_as" = - ] || cd 2>/dev/null || cd /
    rc_identify
    rc_capabilities
    rc_blank='                                                                '
    rc_blank=$rc_blank$rc_blank$rc_blank$rc_blank
    rc_choose || rc_unusable "$rc_flaw"
    rc_report_at
    rc_reply "hello $rc_forks"
    printf '%s' "$rc_out"
    echo "$rc_nonce end"
    rc_expire
    while rc_busy=; read -r rc_l rc_verb rc_call rc_uid_of rc_name rc_token rc_words; do
        [ "$rc_l" = "$rc_nonce" ] || exit 1
        rc_busy=1
        rc_out= rc_dir= rc_tree= rc_sid= rc_scope= rc_here=0 rc_beside=
        case $rc_verb in
        prepare | launch | stop | revoke | sweep | read) "rc_$rc_verb" $rc_words ;;
        probe) rc_report ;;
        *) exit 1 ;;
        esac
        [ -z "$rc_tree" ] || rc_reply "tree $rc_tree"
        [ -z "$rc_out" ] || printf '%s' "$rc_out"
        echo "$rc_nonce end"
    done
}
