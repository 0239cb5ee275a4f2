# Reads what has been started, one line each; when the input ends, stops and
# removes all of it. A process is known by pid and start time, so that a pid
# that was given out again is left alone.
trap '' HUP INT TERM
newline='
'
list=
while IFS= read -r line; do list=$list$line$newline; done

is_alive() { # pid, start time
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    pid=$1 start=$2
    # The name, in parentheses, may contain anything; the fields after it do not.
    set -- ${stat##*) }
    [ "$1" != Z ] && [ "${20}" = "$start" ] && kill -0 "$pid" 2>/dev/null
}

each() { # kind, function: calls it with the rest of each such line
    IFS=$newline
    for line in $list; do
        unset IFS
        case $line in "$1 "*) "$2" "${line#* }" ;; esac
    done
    unset IFS
}

ask() {
    set -- $1
    # A stopped process has to go on to hear the signal.
    if is_alive "$1" "$2"; then kill -TERM "$1"; kill -CONT "$1"; fi
}
insist() {
    set -- $1
    if is_alive "$1" "$2"; then kill -KILL "$1"; fi
}
insist_on_family() {
    set -- $1
    is_alive "$1" "$2" || return 0
    kill -STOP "$1"
    for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do kill -KILL "$child"; done
    kill -KILL "$1"
}
marks=
note_mark() { marks=$marks${marks:+$newline}$1; }
# One grep for all marks: a suite has hundreds of them, and a machine hundreds of processes.
insist_on_marked() {
    [ "$marks" ] || return 0
    printf '%s\n' "$marks" |
        LC_ALL=C grep --line-buffered -lzxF -f - /proc/[0-9]*/environ 2>/dev/null |
        while IFS= read -r environment; do
            pid=${environment#/proc/}
            kill -KILL "${pid%/environ}"
        done
}
count() {
    set -- $1
    if is_alive "$1" "$2"; then alive=1; fi
}
remove_directory() { rm -rf -- "$1"; }
remove_cgroup() {
    [ -d "$1" ] || return 0
    echo 1 >"$1/cgroup.kill"
    tries=0
    until find "$1" -depth -type d -exec rmdir {} + || [ $tries -ge 50 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
}
remove_namespace() { if ip netns pids "$1"; then ip netns delete "$1"; fi; }
remove_user() { if id "$1"; then userdel -f "$1"; fi; }

PATH=$PATH:/usr/sbin:/sbin
each marked note_mark
each family insist_on_family
insist_on_marked
each process ask
tries=0
alive=1
while [ $alive = 1 ] && [ $tries -lt 50 ]; do
    alive=0
    each process count
    [ $alive = 0 ] || sleep 0.1
    tries=$((tries + 1))
done
each process insist
# Again: one of them may have forked in the meantime.
insist_on_marked
each cgroup remove_cgroup
each namespace remove_namespace
each user remove_user
each directory remove_directory
