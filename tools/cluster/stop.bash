# shellcheck shell=bash
# Ends everything of a cluster, also of one that is half dead: by our own pids, containerd's own list, and our own
# mounts, links and rules. Sourced by up.sh and down.sh; says nothing where there is nothing.

stop_everything() {
    stop kubelet
    stop kube-proxy
    end_containers
    stop containerd
    local name
    for name in kube-scheduler kube-controller-manager kube-apiserver etcd; do stop "$name"; done
    unmount
    remove_network
    remove_cgroups
    # Containerd's images stay; what it knows of pods goes with the pods.
    rm -rf --one-file-system "$RUN" "$SOCKETS" "$CACHE/containerd/io.containerd.grpc.v1.cri"
}

# stop NAME: SIGTERM, and SIGKILL after ten seconds.
stop() {
    local pid
    pid=$(cat "$RUN/pid/$1" 2>/dev/null) && ours "$pid" || { rm -f "$RUN/pid/$1"; return 0; }
    kill "$pid" 2>/dev/null || true
    within 10 gone "$pid" || kill -9 "$pid" 2>/dev/null || true
    within 5 gone "$pid" || say "process $pid ($1) does not end"
    rm -f "$RUN/pid/$1"
}

# A process that ended and was not waited for yet is gone, too.
gone() { ! ours "$1"; }

end_containers() {
    if running containerd; then
        local tasks
        tasks=$(node_containers tasks ls -q 2>/dev/null || true)
        for task in $tasks; do node_containers tasks kill -s SIGKILL "$task" >/dev/null 2>&1 || true; done
        within 10 none_runs || true
        for task in $tasks; do node_containers tasks rm -f "$task" >/dev/null 2>&1 || true; done
        # shellcheck disable=SC2046
        node_containers containers rm $(node_containers containers ls -q) >/dev/null 2>&1 || true
    fi
    # Their keepers outlive containerd, and their containers with them.
    local folder pid
    for folder in /proc/[0-9]*; do
        pid=${folder#/proc/}
        tr '\0' ' ' 2>/dev/null <"$folder/cmdline" | grep -q "^/.*containerd-shim.*$CONTAINERD" || continue
        kill_children "$pid"
        kill -9 "$pid" 2>/dev/null || true
    done
}

none_runs() { ! node_containers tasks ls | grep -q RUNNING; }

kill_children() {
    local child
    for child in $(cat "/proc/$1/task/"*/children 2>/dev/null); do
        kill_children "$child"
        kill -9 "$child" 2>/dev/null || true
    done
}

unmount() {
    local place
    # Twice: a mount may hide another.
    for _ in 1 2; do
        awk -v ours="^($RUN|$SOCKETS|(/var)?/run/netns/cni-)" '$2 ~ ours {print $2}' /proc/mounts | sort -r |
            while read -r place; do umount -l "$place" 2>/dev/null || true; done
    done
    rm -f /run/netns/cni-*
}

remove_network() {
    ip link del "$PODS_BRIDGE" 2>/dev/null || true
    ip link del "$BRIDGE" 2>/dev/null || true
    remove_rules
    [ ! -s "$RUN/ip_forward" ] || sysctl -qw net.ipv4.ip_forward="$(cat "$RUN/ip_forward")"
}

# What kubelet, kube-proxy and the pods' network left: able.sh saw that no other kubelet is here.
remove_rules() {
    local program table rule chains chain
    for program in iptables ip6tables; do
        command -v "$program" >/dev/null || continue
        for table in mangle nat filter; do
            "$program" -t "$table" -S 2>/dev/null | sed -nE 's/^-A (.*-j (KUBE|CNI)-)/-D \1/p' |
                while read -r rule; do
                    eval "$program -t $table $rule" 2>/dev/null || true  # eval: comments in rules are quoted
                done || true  # a table that this kernel has not
            chains=$("$program" -t "$table" -S 2>/dev/null | awk '/^-N (KUBE|CNI)-/ {print $2}') || true
            for chain in $chains; do "$program" -t "$table" -F "$chain" 2>/dev/null || true; done
            for chain in $chains; do "$program" -t "$table" -X "$chain" 2>/dev/null || true; done
        done
    done
}

remove_cgroups() {
    find /sys/fs/cgroup -depth -type d -path '*/kubepods*' -exec rmdir {} + 2>/dev/null || true
}
