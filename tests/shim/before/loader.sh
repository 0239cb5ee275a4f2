rc_sh=/the/shell; rc_proc=/proc; rc_load() { rc_w=; while [ ${#rc_w} -lt $1 ]; do rc_l=$(dd bs=$(($1 - ${#rc_w})) count=1 2>/dev/null; echo .); rc_l=${rc_l%.}; [ "$rc_l" ] || { ( (exit 0); : ); exit 1; }; rc_w=$rc_w$rc_l; done; }; rc_load 19566; rc_run=$rc_w; rc_load 17956; eval "$rc_run$rc_w"; rc_hello -
unset CDPATH
IFS=' 	
'
rc_nl='
'
rc_paren=') '
rc_standing=1
rc_last_words() { ( (exit 0); : ); }
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
rc_self() {
rc_stat self && return 0
rc_pid=$(exec "$rc_sh" -c 'echo $PPID') rc_start=0
}
rc_alive() {
[ "$2" != 0 ] && [ -r "$rc_proc/self/stat" ] || return 2
rc_stat "$1" && [ "$rc_start" = "$2" ] || return 1
case $rc_state in Z | X) [ "$rc_threads" -gt 1 ] ;; esac
}
rc_life() {
rc_alive "$1" "$2"
case $? in 0) rc_w=alive ;; 1) rc_w=gone ;; *) rc_w=cannot ;; esac
}
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
rc_tenth() { sleep 0.1 2>/dev/null || sleep 1; }
rc_private() {
rc_file=$1
{ echo "$2" >"$1"; } 2>/dev/null && return 0
rc_file=$rc_dir/spare
[ -e "$rc_file" ] && { echo "$2" 1<>"$rc_file"; } 2>/dev/null
}
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
rc_read_stop() {
rc_why= rc_t=
{ read -r rc_t rc_why rc_whose rc_wup rc_t2 rc_l; } 2>/dev/null <"$rc_dir/stop"
[ "$rc_t" = "$rc_token" ] && [ "$rc_t2" = "$rc_token" ] && [ "$rc_l" = . ] && return 0
rc_why= rc_t=
return 1
}
rc_read_exit() {
rc_exit= rc_t=
{
read -r rc_t rc_x2 rc_x3 rc_x4 rc_x5 rc_xwhy rc_t2 rc_x8 rc_l
} 2>/dev/null <"$rc_dir/exit"
[ "$rc_t" = "$rc_token" ] && [ "$rc_t2" = "$rc_token" ] || return 1
[ "$rc_x2" = "$rc_x8" ] && [ "$rc_l" = . ] || return 1
rc_exit="$rc_t $rc_x2 $rc_x3 $rc_x4 $rc_x5 $rc_xwhy $rc_t2 $rc_x8 $rc_l"
}
rc_find_scope() {
case $rc_scope in */"remote-command.$rc_token") [ -d "$rc_scope" ] && return 0 ;; esac
rc_scope=
if [ "$rc_dir" ]; then
{ IFS= read -r rc_scope; } 2>/dev/null <"$rc_dir/scope"
elif [ "$rc_cgroups" ]; then
rc_scope=$(find "$rc_cgroups" -type d -name "remote-command.$rc_token" 2>/dev/null)
fi
case $rc_scope in */"remote-command.$rc_token") [ -d "$rc_scope" ] && return 0 ;; esac
rc_scope=
return 1
}
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
rc_find_carriers() {
rc_marked=
case ${rc_sees:-} in
'') rc_sees=0; printf 'a\0b\n' | grep -q b && rc_sees=1 ;;
esac
rc_last_pid
rc_next=$rc_w
if [ "$rc_sees" = 1 ]; then
rc_set=$(grep -ls -e "REMOTE_COMMAND_RUN=$rc_mark" "$rc_proc"/[0-9]*/environ)
[ $? -le 2 ] || return 1
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
[ "$rc_l" = 0 ] || rc_carriers="$rc_carriers$rc_l "
done 2>/dev/null <"$rc_f"
done
return 0
}
rc_find_new_carriers() {
rc_tries=0 rc_most=200
[ -z "${rc_strike:-}" ] || rc_most=2000
while [ "$rc_tries" -lt "$rc_most" ] && rc_last_pid; do
rc_tries=$((rc_tries + 1))
[ "$rc_w" -ge "$rc_next" ] || rc_next=299
if [ "$rc_w" -gt "$rc_next" ]; then
rc_next=$((rc_next + 1))
rc_ask "$rc_next"
elif [ -z "${rc_strike:-}" ]; then
return
fi
done
}
rc_last_pid() {
rc_w=0
{ read -r rc_t rc_t rc_t rc_t rc_w; } 2>/dev/null <"$rc_proc/loadavg"
case $rc_w in '' | *[!0-9]*) rc_w=0; return 1 ;; esac
}
rc_ask() {
while IFS= read -r rc_l || [ "$rc_l" ]; do
case $rc_l in *"REMOTE_COMMAND_RUN=$rc_mark"*) rc_note_carrier "$1" ;; esac
done 2>/dev/null <"$rc_proc/$1/environ"
}
rc_note_carrier() {
rc_marked="$rc_marked$1 "
[ -z "${rc_strike:-}" ] || kill -s KILL "$1" 2>/dev/null
}
rc_leave_scope() {
rc_find_scope || return 0
rmdir "$rc_scope" 2>/dev/null || find "$rc_scope" -depth -type d -exec rmdir {} \; 2>/dev/null
}
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
rc_has_threads() {
IFS=' '
set -- $rc_later
IFS=$rc_nl
[ "${15}" -gt 1 ]
}
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
rc_signal() {
for rc_l in $rc_found; do
rc_stat "${rc_l%:*}" && [ "$rc_sess" = "${rc_l#*:}" ] || continue
kill -s "$1" "$rc_pid" 2>/dev/null
done
return 0
}
rc_is_empty() {
rc_scan || return 2
[ "$rc_found$rc_moved" ] && return 1
rc_scan || return 2
[ "$rc_found$rc_moved" ] && return 1
rc_stat 1 || rc_group_is_gone || return 2
return 0
}
rc_group_is_gone() {
[ "$rc_c" -gt 1 ] 2>/dev/null || return 1
! kill -s 0 -- "-$rc_c" 2>/dev/null || return 1
case $(LC_ALL=C; kill -s 0 -- "-$rc_c" 2>&1) in *'o such process'*) return 0 ;; esac
return 1
}
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
rc_group() {
[ "$rc_beside" ] && ! rc_read_exit || return 0
kill -s "$1" -- "-$rc_c" 2>/dev/null || kill -s "$1" "$rc_c" 2>/dev/null
}
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
[ -z "$rc_moved" ] || { rc_strike=1; rc_find_carriers; rc_strike=; }
[ -z "$rc_scope" ] || { echo 1 >"$rc_scope/cgroup.kill"; } 2>/dev/null
rc_tenth
rc_i=$((rc_i + 1))
rc_uptime
done
return 0
}
rc_after_grace() {
rc_left=$1
while [ "$rc_left" -gt 0 ]; do
rc_is_empty && return 0
rc_rest 1
rc_left=$((rc_left - 1))
done
rc_kill
}
rc_rest() {
sleep "$1" 9>&- 2>/dev/null &
rc_stands
wait "$!"
rc_slept=$? rc_rested=$!
}
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
rc_drain() {
trap '' HUP INT QUIT TERM
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
[ "$rc_rc" -le 128 ] || [ -e "$rc_dir/swept" ] || continue
[ "$rc_rc" = 0 ] || break
case $rc_r in
[0-9]*+[0-9]*) [ $(($rc_r)) -lt "$rc_n" ] && rc_end=1 ;;
*) [ -d "$rc_dir" ] && [ "$rc_got" = "$rc_was" ] && rc_end=1 ;;
esac
[ -z "$rc_end" ] || break
done
[ "$rc_end" ] || rc_discard
trap - EXIT
rc_read_claim && [ "$rc_by" = "$rc_call" ] || return
while [ -d "$rc_dir" ] && [ ! -e "$rc_dir/swept" ]; do
{ echo "$rc_got $rc_cut" >"$rc_f.end"; } 2>/dev/null
[ ! -e "$rc_f.end" ] || break
sleep 1
done
}
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
rc_dd='LC_ALL=C dd bs="$1" count="$2" <&3 3<&- 9>&- 2>"$rc_f.said" >>"$3" &'
rc_count() {
[ -s "$rc_f" ] || return 0
rc_patiently 'rc_got=$(($(wc -c <"$rc_f")))'
}
rc_discard() {
rc_patiently 'rc_r=$(LC_ALL=C dd bs=1 count=1 2>&1 >/dev/null <&3)' || exit
case $rc_r in 1+0*) rc_cut=1 ;; esac
[ "${rc_rc:-0}" = 0 ] || [ -e "$rc_dir/swept" ] || rc_cut=1
[ "$rc_cut" = 0 ] || { true >"$rc_f.cut"; } 2>/dev/null
rc_patiently 'dd bs=65536 <&3 >/dev/null 2>&1' || exit
}
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
rc_overflow() {
[ "$rc_standing" ] || return
[ -e "$rc_dir/swept" ] || { true >"$rc_f.cut"; } 2>/dev/null
exec dd bs=65536 <&3 >/dev/null 2>&1
}
rc_supervise() {
umask 077
trap : HUP INT QUIT TERM PIPE
unset REMOTE_COMMAND_PROGRAM
rc_dir=$1 rc_mark=$2 rc_call=$3 rc_limit=$4 rc_deadline=$5 rc_grace=$6
rc_setsid=$7 rc_umask=$8 rc_lc=$9 rc_boot=${10} rc_say=${11} rc_cgroup=${12}
rc_token=${rc_mark##*/}
rc_begin=ran rc_words=0 rc_d= rc_quiet=
trap rc_leave EXIT
rc_self
rc_s=$rc_pid rc_sstart=$rc_start
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
rc_input=/dev/null
if [ "$rc_stdin" != - ]; then
rc_input=$rc_dir/stdin.$rc_call
rc_bytes "$rc_stdin" "$rc_input" || rc_refuse changed 'stdin could not be written'
fi
read -r rc_l && [ "$rc_l" = "$rc_asked" ] || rc_cut_short
exec 0</dev/null
rc_check_size "$@"
rc_run "$@"
}
rc_cut_short() { rc_refuse changed 'the inputs were cut short'; }
rc_refuse() {
rc_quiet=1
rc_turn_down "$1 $2"
rm -f "$rc_dir/script.$rc_call" "$rc_dir/stdin.$rc_call"
exit 1
}
rc_turn_down() {
echo "${rc_say}refused $1" >&7
[ -z "$rc_say" ] || echo "${rc_say}end" >&7
}
rc_leave() {
[ -z "$rc_d" ] || kill -s TERM "$rc_d" 2>/dev/null
[ "$rc_quiet" ] || rc_last_words
}
rc_check_env() {
case $rc_name in
rc_*) return ;;
PATH) rc_path=$rc_w ;;
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
rc_put_env() {
[ "$1" = OPTIND ] || unset -v "$1"
command export "$1=$2"
}
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
rc_run() {
rc_check_program
{ exec 8<"$rc_input"; } 2>/dev/null || exec 8</dev/null
[ "$rc_input" = /dev/null ] || rm -f "$rc_input"
rc_make_scope
rc_stand || rc_refuse processes 'what its output and its time limit need could not be started'
(trap - EXIT; exec >&5 5>&-; rc_become "$@")
rc_code=$? rc_quiet=1
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
rc_make_scope() {
rc_scope= rc_cgroups=
[ "$rc_cgroup" != - ] || return
rc_scope=$rc_cgroup/remote-command.$rc_token
{ [ -d "$rc_scope" ] || mkdir "$rc_scope"; } 2>/dev/null &&
{ echo "$rc_scope" >"$rc_dir/scope"; } 2>/dev/null || rc_scope=
}
rc_become() {
rc_self
rc_uptime
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
{ echo "$rc_token begun" 1<>"$rc_dir/exit"; } 2>/dev/null
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
while [ "$1" ]; do
{ [ "$1" = OPTIND ] || unset -v "$1"; command export "$1=$2"; } 2>/dev/null
shift 2
done
shift
exec "$@"
}
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
rc_watch() {
trap - EXIT
rc_standing=
rc_restless
rc_read_exit && return
rc_left=$rc_deadline rc_of=
while [ "$rc_left" -gt 0 ]; do
rc_slice=$rc_left
[ "$rc_slice" -le 30 ] || rc_slice=30
rc_uptime
rc_before=$rc_up
rc_rest "$rc_slice"
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
rc_unusable() {
echo "$rc_nonce unusable $1"
rc_busy=
exit 1
}
rc_identify() {
rc_machine=
for rc_f in /etc/machine-id /var/lib/dbus/machine-id; do
{ read -r rc_machine; } 2>/dev/null <"$rc_f"
case $rc_machine in '' | *[!0-9a-f]*) rc_machine= ;; *) break ;; esac
done
[ "$rc_machine" ] || rc_machine=host-$(uname -n)
case $rc_machine in *[!A-Za-z0-9._-]*) rc_unusable "its name $rc_machine cannot stand for a machine id" ;; esac
rc_can=1 rc_boot= rc_ns=
{ read -r rc_boot; } 2>/dev/null <"$rc_proc/sys/kernel/random/boot_id" || rc_can=0
rc_stat self || rc_can=0
if [ "$rc_can" = 0 ]; then rc_boot=; return; fi
if [ -L "$rc_proc/self/ns/pid" ]; then
rc_ns=$(ls -ld "$rc_proc/self/ns/pid") || rc_unusable 'its pid namespace cannot be read'
rc_ns=${rc_ns##*'['} rc_ns=${rc_ns%%']'*}
fi
if rc_stat 1; then rc_boot=$rc_boot:$rc_ns:$rc_start; else rc_boot=$rc_boot:$rc_ns:-; fi
case $rc_boot in *' '* | '') rc_unusable 'its boot identity cannot be read' ;; esac
}
rc_capabilities() {
for rc_l in cat dd grep ln ls mkdir mkfifo printf rm sleep wc; do
command -v "$rc_l" >/dev/null 2>&1 || rc_unusable "$rc_l is missing"
done
rc_setsid=$(command -v setsid) || rc_setsid=-
case $rc_setsid in /*) ;; *) rc_setsid=- ;; esac
rc_forks=0
[ "$rc_setsid" = - ] || { "$rc_setsid" -f -- true </dev/null >/dev/null 2>&1 && rc_forks=1; }
rc_find_cgroup
rc_uid=$(id -u)
rc_umask=$(umask)
umask 077
rc_lc=-
[ "${LC_ALL+x}" ] && rc_lc="=$LC_ALL"
LC_ALL=C
}
rc_find_cgroup() {
rc_cgroup=- rc_cgroups= rc_w=
while IFS= read -r rc_l; do
case $rc_l in 0::/*) rc_w=${rc_l#0::} ;; esac
done 2>/dev/null <"$rc_proc/self/cgroup"
[ "$rc_w" ] || return
while read -r rc_dev rc_mount rc_type rc_l; do
[ "$rc_type" = cgroup2 ] || continue
rc_cgroups=$rc_mount
rc_f=$rc_mount${rc_w%/}
[ -e "$rc_f/cgroup.type" ] && [ -w "$rc_f" ] && [ -w "$rc_f/cgroup.procs" ] || continue
rc_cgroup=$rc_f
return
done 2>/dev/null <"$rc_proc/self/mounts"
}
rc_is_network() {
rc_l=$1
while [ ! -d "$rc_l" ] && [ "$rc_l" ]; do rc_l=${rc_l%/*}; done
rc_real=$(cd -P -- "${rc_l:-/}" && pwd -P)/ || return 1
rc_fs= rc_best=-1
while read -r rc_dev rc_mount rc_type rc_l; do
[ "$rc_mount" = / ] || rc_mount=$rc_mount/
case $rc_real in "$rc_mount"*) ;; *) continue ;; esac
[ ${#rc_mount} -ge "$rc_best" ] && rc_best=${#rc_mount} rc_fs=$rc_type
done 2>/dev/null <"$rc_proc/self/mounts"
case $rc_fs in
nfs* | cifs | smb* | 9p | afs | ceph | lustre | gpfs | beegfs | ocfs2 | gfs2 | glusterfs | coda) return 0 ;;
fuse.sshfs | fuse.gluster* | fuse.ceph* | fuse.s3fs | fuse.rclone | fuse.nfs*) return 0 ;;
esac
return 1
}
rc_use() {
rc_store=
rc_try_store=$1/$2/$rc_machine
[ -d "$rc_try_store" ] || rc_make "$1/$2" || return 1
rc_are_own "$(ls -ldn -- "$1/$2" "$rc_try_store")" || return 1
rc_store=$rc_try_store
}
rc_make() {
if [ -e "$1" ] || [ -L "$1" ]; then
rc_is_own "$1" $(ls -ldn -- "$1") || return 1
fi
mkdir -p -- "$rc_try_store" 2>/dev/null && return 0
rc_flaw="$rc_try_store cannot be made"
return 1
}
rc_are_own() {
rc_owned=$1
rc_is_own "${rc_try_store%/*}" ${rc_owned%%"$rc_nl"*} || return 1
rc_is_own "$rc_try_store" ${rc_owned#*"$rc_nl"}
}
rc_is_own() {
case $2 in
l*) rc_flaw="$1 is a symbolic link"; return 1 ;;
d*) ;;
*) rc_flaw="$1 is not a directory"; return 1 ;;
esac
if [ "$4" != "$rc_uid" ]; then
rc_flaw="$1 belongs to user $4 and not to $rc_uid"
return 1
fi
case $2 in drwx------*) return 0 ;; esac
rc_flaw="$1 must have mode 0700"
return 1
}
rc_is_trusted() {
[ "$1" != "$rc_store" ] || return 0
case $rc_trusted in *":$1:"*) return 0 ;; esac
rc_try_store=$1
rc_owned=$(ls -ldn -- "${1%/*}" "$1") || return 1
rc_are_own "$rc_owned" || return 1
rc_trusted=$rc_trusted:$1:
}
rc_choose() {
rc_store= rc_flaw='no directory to keep records in' rc_leaf=remote-command
rc_c1= rc_c2= rc_c3= rc_trusted=
case $rc_named in *"$rc_nl"*) rc_unusable 'its state directory has a newline in its name' ;; esac
if [ "$rc_named" ]; then
[ "$rc_as" = - ] || rc_leaf=remote-command-$rc_uid
rc_c1=$rc_named/$rc_leaf/$rc_machine
case $rc_named in /*) rc_use "$rc_named" "$rc_leaf" ;; *) rc_flaw="$rc_named is not an absolute path" ;; esac
else
rc_c3=/var/tmp/remote-command-$rc_uid/$rc_machine
case ${XDG_STATE_HOME:-} in /*) rc_c1=$XDG_STATE_HOME/remote-command/$rc_machine ;; esac
case ${HOME:-} in /?*) rc_c2=$HOME/.local/state/remote-command/$rc_machine ;; esac
for rc_base in "${XDG_STATE_HOME:-}" "${HOME:+$HOME/.local/state}"; do
case $rc_base in /*) ;; *) continue ;; esac
case $rc_base in /.local/state) continue ;; esac
rc_is_network "$rc_base" && rc_flaw="$rc_base is on a network file system" && continue
rc_use "$rc_base" remote-command && break
done
if [ -z "$rc_store" ]; then
if rc_is_network /var/tmp; then
rc_flaw='/var/tmp is on a network file system'
else
rc_use /var/tmp "remote-command-$rc_uid"
fi
fi
fi
[ "$rc_store" ]
}
rc_store_id() {
rc_sid=
{ read -r rc_sid; } 2>/dev/null <"$1/id"
case $rc_sid in ????????????????????????????????) ;; *) rc_sid= ;; esac
}
rc_open_store() {
[ -d "$rc_store" ] || rc_choose || return 1
rc_store_id "$rc_store"
[ "$rc_sid" ] && return 0
if ! { echo "$1" >"$rc_store/id.$1"; } 2>/dev/null; then
rm -f -- "$rc_store/id.$1"
rc_flaw="nothing can be written to $rc_store"
return 1
fi
ln -- "$rc_store/id.$1" "$rc_store/id" 2>/dev/null
rm -f -- "$rc_store/id.$1"
rc_store_id "$rc_store"
[ "$rc_sid" ] || rc_flaw="$rc_store offers no hard links, or its id is damaged"
[ "$rc_sid" ]
}
rc_expire() {
[ "$rc_boot" ] && command -v find >/dev/null || return
rc_uptime
rc_t=
{ read -r rc_t rc_l; } 2>/dev/null <"$rc_store/expired"
[ "$rc_t" = "$rc_boot" ] && [ "$rc_up" -lt $((rc_l + 86400000)) ] && return
{ echo "$rc_boot $rc_up" >"$rc_store/expired"; } 2>/dev/null || return
for rc_dir in "$rc_store"/*/*-*-*; do
[ -e "$rc_dir/swept" ] || continue
rc_token=${rc_dir##*-}
rc_read_claim && [ "$rc_cboot" != "$rc_boot" ] || continue
rc_leave_scope
rm -rf -- "$rc_dir"
done
[ "$rc_up" -ge 86400000 ] || return
find "$rc_store" -name exit -mtime +30 -o -name swept -mtime +30 | while IFS= read -r rc_dir; do
rc_dir=${rc_dir%/*} rc_token=${rc_dir##*-}
rc_read_claim || rc_read_reserved || continue
if [ "$rc_cboot" = "$rc_boot" ]; then
[ $((rc_cup + 86400000)) -lt "$rc_up" ] || continue
rc_alive "$rc_s" "$rc_sstart" && continue
rc_alive "$rc_c" "$rc_cstart" && continue
fi
rc_leave_scope
rm -rf -- "$rc_dir"
done
rmdir -- "$rc_store"/*/ 2>/dev/null
}
rc_read_reserved() {
rc_t= rc_s=0 rc_sstart=0 rc_c=0 rc_cstart=0
{ read -r rc_t rc_cboot rc_cup rc_l; } 2>/dev/null <"$rc_dir/exit"
[ "$rc_t" = prepared ] && [ ! -e "$rc_dir/claim" ] || return 1
case $rc_cup in '' | *[!0-9]*) return 1 ;; esac
}
rc_reply() { rc_out="$rc_out$rc_nonce $1$rc_nl"; }
rc_enter() {
rc_dir= rc_tomb=
for rc_at in "$rc_c1" "$rc_c2" "$rc_c3"; do
rc_dir=$rc_at/$rc_uid_of/$rc_name-$rc_token
[ "$rc_at" ] && [ -d "$rc_dir" ] && rc_is_trusted "$rc_at" || continue
[ ! -e "$rc_dir/swept" ] || { rc_tomb=1; continue; }
[ -e "$rc_dir/exit" ] || continue
rc_store_id "$rc_at"
if [ ! -e "$rc_dir/claim" ]; then
rc_read_exit
[ "$rc_t" != "$rc_token" ] && [ ! -e "$rc_dir/stop" ] || [ -e "$rc_dir/claim" ] || break
fi
return 0
done
rc_dir=
[ "$rc_sid" ] || rc_store_id "$rc_store"
return 1
}
rc_prepare() {
rc_open_store "$rc_call$rc_call" || rc_unusable "$rc_flaw"
rc_dir=$rc_store/$rc_uid_of/$rc_name-$rc_token
[ -d "$rc_dir" ] || mkdir -p -- "$rc_dir" 2>/dev/null || rc_unusable "$rc_dir cannot be made"
if [ ! -e "$rc_dir/swept" ]; then
rc_uptime
set -C
for rc_f in "$rc_dir/spare" "$rc_dir/exit"; do
[ -e "$rc_f" ] && continue
{ echo "prepared ${rc_boot:--} $rc_up $rc_blank" >"$rc_f"; } 2>/dev/null && continue
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
if [ "$rc_cboot" = "${rc_boot:--}" ]; then rc_reply 'entry revoked'; else rc_reply 'entry unclaimed'; fi
else
rc_report_claimed "$1"
fi
}
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
rc_report_at
rc_reply 'entry claimed'
rc_reply "claim $rc_s $rc_sstart $rc_c $rc_cstart $rc_cup $rc_cboot $rc_lives"
rc_mark=$rc_uid_of/${rc_name%%-*}/${rc_name#*-}
rc_mark=${rc_mark%v}/$rc_token
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
rc_look_left() {
if [ "$rc_boot" ] && rc_group_is_gone; then
if rc_find_carriers && [ "$rc_carriers" = ' ' ]; then
rc_tree=empty
return
fi
fi
rc_look
}
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
rc_name_moved() {
rc_find_owner self
rc_reply "left $rc_moved $rc_owner (moves on)"
}
rc_find_owner() {
rc_owner=0
while read -r rc_t rc_w rc_x; do
case $rc_t in Uid:) rc_owner=$rc_w; break ;; esac
done 2>/dev/null <"$rc_proc/$1/status"
}
rc_launch() {
rc_uptime
rc_refusal=
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
rc_supervise "$rc_dir" "$rc_mark" "$rc_call" "$rc_limit" "$rc_deadline" "$rc_grace" \
"$rc_setsid" "$rc_umask" "$rc_lc" "${rc_boot:--}" "$rc_nonce " "$rc_cgroup"
exit
fi
REMOTE_COMMAND_PROGRAM="rc_sh='$rc_sh' rc_proc='$rc_proc'$rc_nl$rc_run" \
"$rc_setsid" -f -- "$rc_sh" -c 'eval "$REMOTE_COMMAND_PROGRAM"; rc_supervise "$@"' \
remote-command "$rc_dir" "$rc_mark" "$rc_call" "$rc_limit" "$rc_deadline" "$rc_grace" \
"$rc_setsid" "$rc_umask" "$rc_lc" "${rc_boot:--}" '' "$rc_cgroup" 7>&1 >/dev/null 2>&7 |
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
rc_stop() {
rc_mark=$rc_uid_of/${rc_name%%-*}/${rc_name#*-}
rc_mark=${rc_mark%v}/$rc_token
if ! rc_enter && [ "$rc_tomb" ]; then
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
rc_sweep() {
for rc_at in "$rc_c1" "$rc_c2" "$rc_c3"; do
[ "$rc_at" ] && [ -d "$rc_at/$rc_uid_of" ] && rc_is_trusted "$rc_at" || continue
for rc_dir in "$rc_at/$rc_uid_of"/*-*-*; do
[ -d "$rc_dir" ] || continue
rc_token=${rc_dir##*-}
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
*/scope) rc_find_scope && continue ;;
esac
set -- "$@" "$rc_f"
done
[ $# = 0 ] || rm -f -- "$@"
[ -z "$rc_open_drains" ] || rc_release_drains
}
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
./the/state
