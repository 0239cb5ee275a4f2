# Where output goes: one drain for each stream, between the command and its file.

# Stores stream $1, which is 3, up to the limit and goes on reading ever after, so that the
# command is neither blocked nor ended by SIGPIPE. dd writes what it read at once and never reads
# more than asked for. It says so when its first dd stands.
rc_drain() {
    trap '' HUP INT QUIT TERM
    # A limit on the size of files is an error of dd's, and not the end of it.
    (trap '' XFSZ) 2>/dev/null && trap '' XFSZ
    rc_f=$rc_dir/$1 rc_got=0 rc_end= rc_standing=
    rc_cut=0
    trap rc_overflow EXIT
    while rc_n=$((rc_limit - rc_got)); [ "$rc_n" -gt 0 ]; do
        rc_bs=1
        [ "$rc_n" -lt 65536 ] || { rc_bs=65536 rc_n=$((rc_n / 65536)); }
        rc_copy "$rc_bs" "$rc_n" "$rc_f" || exit
        rc_was=$rc_got
        rc_count || exit
        # Ended by a signal it has written what it read; by ourselves only after a Sweep.
        [ "$rc_rc" -le 128 ] || [ -e "$rc_dir/swept" ] || continue
        [ "$rc_rc" = 0 ] || break
        case $rc_r in
        [0-9]*+[0-9]*) [ $(($rc_r)) -lt "$rc_n" ] && rc_end=1 ;;
        # Nothing was said: on a full disk that is the end, and of a wiped entry it tells nothing.
        *) [ -d "$rc_dir" ] && [ "$rc_got" = "$rc_was" ] && rc_end=1 ;;
        esac
        [ -z "$rc_end" ] || break
    done
    [ "$rc_end" ] || rc_discard
    trap - EXIT
    # A launch that lost has no say about the output of the one that won.
    rc_read_claim && [ "$rc_by" = "$rc_call" ] || return
    while [ -d "$rc_dir" ] && [ ! -e "$rc_dir/swept" ]; do
        { echo "$rc_got $rc_cut" >"$rc_f.end"; } 2>/dev/null
        [ ! -e "$rc_f.end" ] || break
        sleep 1
    done
}

# $2 reads of at most $1 bytes from 3, appended to the file $3: dd's status in rc_rc, and how many
# reads it says there were in rc_r.
rc_copy() {
    if [ "$rc_standing" ]; then
        rc_patiently "$rc_dd" "$@" || return
    else
        eval "$rc_dd"
    fi
    rc_stands
    wait "$!"
    rc_rc=$? rc_r=
    { read -r rc_r rc_l; } 2>/dev/null <"$rc_f.said"
    return 0
}

# One simple command: an error of a special builtin (exec) in what was forked would be caught where
# command catches it, in the copy of this shell, which would then fork for itself.
rc_dd='LC_ALL=C dd bs="$1" count="$2" <&3 3<&- 9>&- 2>"$rc_f.said" >>"$3" &'

# Bytes stored, in rc_got. Fails when it could not be found out.
rc_count() {
    [ -s "$rc_f" ] || return 0
    rc_patiently 'rc_got=$(($(wc -c <"$rc_f")))'
}

# Reads what is beyond the limit, or beyond an error of the last dd (rc_rc), and marks that there
# was something. What is said of the one byte may not need room on a full disk.
rc_discard() {
    rc_patiently 'rc_r=$(LC_ALL=C dd bs=1 count=1 2>&1 >/dev/null <&3)' || exit
    case $rc_r in 1+0*) rc_cut=1 ;; esac
    [ "${rc_rc:-0}" = 0 ] || [ -e "$rc_dir/swept" ] || rc_cut=1
    [ "$rc_cut" = 0 ] || { true >"$rc_f.cut"; } 2>/dev/null
    rc_patiently 'dd bs=65536 <&3 >/dev/null 2>&1' || exit
}

# Does $1, with what follows as its arguments, again for ten seconds while the host has no
# process for it.
# command keeps a shell that cannot fork from ending; some wait by themselves and end all the same.
rc_patiently() {
    rc_what=$1
    shift
    rc_uptime
    rc_latest=$((rc_up + 10000))
    until command eval "$rc_what" 2>/dev/null; do
        rc_uptime
        [ "$rc_up" != 0 ] && [ "$rc_up" -le "$rc_latest" ] || return 1
    done
}

# A drain that cannot go on: no more is stored, which is marked, and the command is not to hear
# of it. Before it stood nothing was claimed.
rc_overflow() {
    [ "$rc_standing" ] || return
    [ -e "$rc_dir/swept" ] || { true >"$rc_f.cut"; } 2>/dev/null
    exec dd bs=65536 <&3 >/dev/null 2>&1
}
