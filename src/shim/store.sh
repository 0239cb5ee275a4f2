# Who this host is, what it can do, and where records are kept. Helper shell only.

# Where nothing can be done this says so in one line and ends the shell.
rc_unusable() {
    echo "$rc_nonce unusable $1"
    rc_busy=
    exit 1
}

# rc_machine, rc_boot and rc_can of this host.
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
    # Half an identity would look like another boot later: what is there must be readable.
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
    rc_find_setsid
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

# What puts a command into a session of its own, in rc_setsid: a path, or the bare name where the
# shell runs its tools itself and there may be no file of that name, or -.
rc_find_setsid() {
    rc_setsid=$(command -v setsid) || rc_setsid=-
    case $rc_setsid in
    /*) ;;
    setsid)
        rc_f=$PATH:
        while [ "$rc_f" ]; do
            rc_l=${rc_f%%:*} rc_f=${rc_f#*:}
            case $rc_l in /*) [ -x "$rc_l/setsid" ] && rc_setsid=$rc_l/setsid && return ;; esac
        done
        (exec setsid -- true) </dev/null >/dev/null 2>&1 || rc_setsid=-
        ;;
    *) rc_setsid=- ;;
    esac
}

# The login's own cgroup in rc_cgroup, or -: where it may make cgroups and move processes
# into them. Not the root of all, where nobody looks after what is left.
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

# Is $1, or what will hold it, on a network file system? Leases and links there lie.
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

# Uses $1/$2/<machine> as the store, made when it is not there. rc_flaw says why not.
rc_use() {
    rc_store=
    rc_try_store=$1/$2/$rc_machine
    [ -d "$rc_try_store" ] || rc_make "$1/$2" || return 1
    rc_are_own "$(ls -ldn -- "$1/$2" "$rc_try_store")" || return 1
    rc_store=$rc_try_store
}

# Makes the store in $1, which is made too. In what somebody else put there nothing is made, also
# when it was put there in this moment: mkdir without -p follows no link. What is ours alone stays so.
rc_make() {
    rc_flaw="$rc_try_store cannot be made"
    rc_make_way "${1%/*}" || return 1
    [ -e "$1" ] || [ -L "$1" ] || mkdir -- "$1" 2>/dev/null
    [ -e "$1" ] || [ -L "$1" ] || return 1
    rc_is_own "$1" $(ls -ldn -- "$1") || return 1
    mkdir -- "$rc_try_store" 2>/dev/null || [ -d "$rc_try_store" ] && return 0
    rc_flaw="$rc_try_store cannot be made"
    return 1
}

# Makes the directory $1 and what is missing above it, and follows no link that was not there before.
rc_make_way() {
    [ ! -d "${1:-/}" ] || return 0
    rc_make_way "${1%/*}" || return 1
    mkdir -- "$1" 2>/dev/null || { [ -d "$1" ] && [ ! -L "$1" ]; }
}

# Two lines of ls: the directory above the store, and the store.
rc_are_own() {
    rc_owned=$1
    rc_is_own "${rc_try_store%/*}" ${rc_owned%%"$rc_nl"*} || return 1
    rc_is_own "$rc_try_store" ${rc_owned#*"$rc_nl"}
}

# The directory, and what ls says of it: mode, links, owner.
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

# Whether what is kept in $1 can be believed. Some of the places are where anybody may make a
# directory of that name; once it is ours alone it stays so.
rc_is_trusted() {
    [ "$1" != "$rc_store" ] || return 0
    case $rc_trusted in *":$1:"*) return 0 ;; esac
    rc_try_store=$1
    rc_owned=$(ls -ldn -- "${1%/*}" "$1") || return 1
    rc_are_own "$rc_owned" || return 1
    rc_trusted=$rc_trusted:$1:
}

# The places where records may be, first the one for new entries: rc_c1, rc_c2, rc_c3.
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

# The store's own id in rc_sid; empty when there is none (any more).
rc_store_id() {
    rc_sid=
    { read -r rc_sid; } 2>/dev/null <"$1/id"
    case $rc_sid in ????????????????????????????????) ;; *) rc_sid= ;; esac
}

# A store for new entries, with an id: $1 when one must be made. Records are claimed by
# hard links, so a place without them is no place.
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

# Once a day of uptime: tombstones of other boots go, and whatever is older than 30 days
# and, where it is of this boot, older than a day of its uptime: the wall clock alone may
# jump. Nothing goes that may still run, or that cannot be read.
rc_expire() {
    [ "$rc_boot" ] && command -v find >/dev/null || return
    rc_uptime
    rc_t=
    { read -r rc_t rc_l; } 2>/dev/null <"$rc_store/expired"
    [ "$rc_t" = "$rc_boot" ] && [ "$rc_up" -lt $((rc_l + 86400000)) ] && return
    { echo "$rc_boot $rc_up" >"$rc_store/expired"; } 2>/dev/null || return
    for rc_dir in "$rc_store"/*/*-*-*; do
        [ -e "$rc_dir/swept" ] || continue
        rc_find_token
        rc_read_claim && [ "$rc_cboot" != "$rc_boot" ] || continue
        rc_leave_scope
        rm -rf -- "$rc_dir"
    done
    [ "$rc_up" -ge 86400000 ] || return
    find "$rc_store" -name exit -mtime +30 -o -name swept -mtime +30 | while IFS= read -r rc_dir; do
        rc_dir=${rc_dir%/*}
        rc_find_token
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

# The token of the entry rc_dir, in rc_token: from its claim, else from its reserved record. Its
# name has half of it, or (earlier builds) all.
rc_find_token() {
    rc_token= rc_t=
    { read -r rc_token rc_l; } 2>/dev/null <"$rc_dir/claim"
    if [ -z "$rc_token" ]; then
        { read -r rc_t rc_l rc_l rc_token rc_l; } 2>/dev/null <"$rc_dir/exit"
        [ "$rc_t" = prepared ] || rc_token=$rc_t
    fi
    case $rc_token in "${rc_dir##*-}"*) ;; *) rc_token=${rc_dir##*-} ;; esac
}

# When an entry without a claim was prepared: rc_cboot and rc_cup, as a claim has them.
rc_read_reserved() {
    rc_t= rc_s=0 rc_sstart=0 rc_c=0 rc_cstart=0
    { read -r rc_t rc_cboot rc_cup rc_l; } 2>/dev/null <"$rc_dir/exit"
    [ "$rc_t" = prepared ] && [ ! -e "$rc_dir/claim" ] || return 1
    case $rc_cup in '' | *[!0-9]*) return 1 ;; esac
}
